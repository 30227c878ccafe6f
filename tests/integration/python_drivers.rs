//! The Python program's drivers as second clients of the transcripts: the same bytes, but for the
//! differences that are named here.

use crate::peer_modbus::python_with;
use crate::sim;
use crate::transcript::cases;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Drivers (by the beginning of their names) that send something else in Python 1.1.1, what of, and
/// why. The first that fits counts.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("devantech_ds", "GR ", "it does not read back"),
    ("devantech_ds2824", "SR 24", "it refuses outlets above 8"),
    ("devantech_USB", "5b", "it does not read back"),
    ("NumatoUSB16", "relay on F", "it writes ids in lower case"),
    ("NumatoUSB16", "relay off F", "it writes ids in lower case"),
    ("Numato", "relay read", "it does not read back"),
    (
        "conrad",
        r"\x06\x01\x01\x06",
        "it reads the port before telling a card again",
    ),
];

#[test]
#[ignore = "needs the Python program: `pip install --no-deps pdudaemon` with pymodbus, pyserial, \
            pexpect, requests, aiohttp, paramiko"]
fn python_drivers_send_the_same_bytes() {
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/peers/python_driver.py");
    let mut python = Command::new(python_with("pdudaemon"))
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let mut to = python.stdin.take().expect("its input");
    let mut from = BufReader::new(python.stdout.take().expect("its output")).lines();
    let mut wrong = Vec::new();
    let (mut same, mut different) = (0, 0);
    for case in cases() {
        let is_ours = ["tcp", "serial"].contains(&case.transport.as_str());
        // Python's modbustcp cannot send with a current pymodbus, and its tplink connects to port
        // 9999 when it is built.
        let is_left_out = case
            .drivers
            .iter()
            .any(|name| name == "modbustcp" || name == "tplink");
        if !is_ours || is_left_out || case.action == "state" || case.outcome.starts_with("error") {
            continue;
        }
        for name in &case.drivers {
            let simulator = sim::start(&case);
            let mut settings = case.settings.clone();
            let overrides = simulator.overrides();
            settings.extend(overrides.as_object().expect("an object").clone());
            let request = json!({
                "driver": name, "settings": settings, "outlet": case.outlet, "action": case.action,
            });
            writeln!(to, "{request}").expect("Python listens");
            let answer = from.next().expect("an answer").expect("a line");
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            match simulator.finish() {
                Ok(()) if answer == "ok" => same += 1,
                Ok(()) => wrong.push(format!("{} ({name}): {answer}", case.at)),
                Err(difference) => {
                    different += 1;
                    let is_known = DIFFERENCES.iter().any(|(driver, what, _)| {
                        name.starts_with(driver) && difference.contains(what)
                    });
                    if !is_known {
                        wrong.push(format!("{} ({name}): {difference}; {answer}", case.at));
                    }
                }
            }
        }
    }
    drop(to);
    python.wait().expect("Python ends");
    assert!(
        wrong.is_empty(),
        "{} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        same > 30 && different > 30,
        "{same} same, {different} different"
    );
}
