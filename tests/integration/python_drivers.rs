//! Our drivers send what the Python program's drivers send to the same simulators, but for the
//! differences that are named here.

use crate::compat::python;
use crate::daemon::wait_for;
use crate::sim;
use crate::sim::apc::{ApcPdu, Behaviour, Layout};
use crate::sim::sshd::{PASSWORD, Sshd, is_root};
use crate::transcript::{Case, cases};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Drivers (by the beginning of their names) of Python 1.1.1 that send something else or say so,
/// what of the difference or of Python's answer tells, and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    (
        "snmpv2c",
        "no such driver",
        "snmpv1 there speaks v2c, and nothing v1",
    ),
    ("cyberpower41001", "no such driver", "new here"),
    ("APC8959", "no such driver", "it knows small letters only"),
    (
        "cyberpower81001",
        "04 06 73 65 63 72 65 74",
        "its community is always private",
    ),
    ("devantech_ds2824", "SR 24", "it refuses outlets above 8"),
    ("NumatoUSB16", "relay on F", "it writes ids in lower case"),
    ("NumatoUSB16", "relay off F", "it writes ids in lower case"),
    (
        "conrad",
        r"\x02\x01\x00\x03",
        "it tells a card again that does not obey",
    ),
    (
        "modbustcp",
        r#"got "\x00\x01\x00\x00\x00\x06"#,
        "framing is new here",
    ),
    (
        "modbustcp",
        "TypeError",
        "a unit that is written as text stops it",
    ),
    (
        "tplink",
        r"\xb5\xcc\xbf",
        "two digits of a child's id stand for no child of the strip's",
    ),
    (
        "tplink",
        "not yet initialised",
        "a plug without children is none for it",
    ),
    ("anel", "w%231 HTTP", "it cuts a password at #"),
    ("esphome", "relay%20a", "switch_ids is new here"),
    ("esphome", "Desk%20Lamp", "switch_ids is new here"),
    ("esphome", "K%C3%BCche", "switch_ids is new here"),
    (
        "esphome",
        "401 Client Error",
        "it logs in with a user name and a password only",
    ),
    (
        "netiojson",
        "InvalidURL",
        "a password with / # or ? stops it",
    ),
    ("shelly", "401 Client Error", "it cannot log in"),
    (
        "tasmota",
        "{'POWER': '",
        "it knows no answer without the outlet's number",
    ),
    (
        "sonoff",
        "{'POWER': '",
        "it knows no answer without the outlet's number",
    ),
    (
        "snmpv1",
        "02 01 00 04 07 70 72 69 76",
        "version 1 is new here",
    ),
    (
        "snmpv3",
        "a3 0b",
        "it asks for the engine's id with an empty set, here with an empty get",
    ),
    (
        "ap",
        r#"got "\r"#,
        "it sends a Return before it is asked for a name",
    ),
    (
        "APC9606",
        r#"got "\r"#,
        "it sends a Return before it is asked for a name",
    ),
    (
        "netio4",
        r#"got "\r"#,
        "it sends a Return although it was greeted",
    ),
    (
        "synnetbooter",
        r#"got "\r"#,
        "it sends a Return before and behind the command",
    ),
    (
        "gude1202",
        r"\xff\xfd",
        "telnet answers the negotiation before the command is typed",
    ),
    (
        "gude1202",
        "quit",
        "it hangs up before telnet has sent the quit",
    ),
];

/// The drivers of the Python program, one after the other in one process.
struct Python {
    child: Child,
    to: Option<ChildStdin>,
    from: Lines<BufReader<ChildStdout>>,
}

impl Python {
    /// `None` where the Python program is not installed and need not be.
    fn start() -> Option<Self> {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/peers/python_driver.py");
        let mut child = Command::new(python()?.with_file_name("python"))
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().expect("its output")).lines();
        Some(Self { child, to, from })
    }

    /// Has one driver switch one outlet; `ok`, or what it says.
    fn switch(&mut self, request: &Value) -> String {
        let to = self.to.as_mut().expect("its input");
        writeln!(to, "{request}").expect("Python listens");
        let answer = self.from.next().expect("an answer").expect("a line");
        serde_json::from_str(&answer).expect("a JSON text")
    }

    /// Plays a transcript; where Python left it, and what it says.
    fn play(&mut self, case: &Case, driver: &str) -> Result<(), String> {
        let simulator = sim::start(case);
        let mut settings = case.settings.clone();
        let overrides = simulator.overrides();
        settings.extend(overrides.as_object().expect("an object").clone());
        let answer = self.switch(&json!({
            "driver": driver, "transport": case.transport, "settings": settings,
            "outlet": case.outlet, "action": case.action,
        }));
        match simulator.finish() {
            Ok(()) if answer == "ok" => Ok(()),
            Ok(()) => Err(answer),
            Err(difference) => Err(format!("{difference}; {answer}")),
        }
    }
}

fn row_of(name: &str, difference: &str) -> Option<usize> {
    DIFFERENCES
        .iter()
        .position(|(driver, what, _)| name.starts_with(driver) && difference.contains(what))
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.to.take());
        let _ = self.child.wait();
    }
}

/// Is there something to compare? Python's drivers only switch; and `mib` has them fetch files from
/// the internet. Over ssh there is a test of its own; hardware is not here.
fn is_compared(case: &Case) -> bool {
    ["tcp", "serial", "http", "snmp", "telnet"].contains(&case.transport.as_str())
        && case.action != "state"
        && !case.outcome.starts_with("error")
        && !case.settings.contains_key("mib")
}

#[test]
fn python_drivers_send_the_same_bytes() {
    let Some(mut python) = Python::start() else {
        return;
    };
    let mut wrong = Vec::new();
    let mut same = 0;
    let mut used = vec![0; DIFFERENCES.len()];
    for case in cases().into_iter().filter(is_compared) {
        // Its serial drivers wait no longer than 0.1 s, those of SNMP 1 s: too short, now and then,
        // on a busy machine.
        let tries = match case.transport.as_str() {
            "serial" | "snmp" => 5,
            _ => 1,
        };
        for name in &case.drivers {
            let mut unknown = None;
            for _ in 0..tries {
                unknown = match python.play(&case, name) {
                    Ok(()) => {
                        same += 1;
                        None
                    }
                    Err(difference) => match row_of(name, &difference) {
                        Some(row) => {
                            used[row] += 1;
                            None
                        }
                        None => Some(difference),
                    },
                };
                if unknown.is_none() {
                    break;
                }
            }
            if let Some(difference) = unknown {
                wrong.push(format!("{} ({name}): {difference}", case.at));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // What depends on who is quicker: the driver, telnet, or the machine.
    let is_sure = |what: &str| !["quit", r"\xff\xfd", r"\x02\x01\x00\x03"].contains(&what);
    let stale: Vec<_> = DIFFERENCES
        .iter()
        .zip(&used)
        .filter(|((_, what, _), used)| **used == 0 && is_sure(what))
        .collect();
    assert!(stale.is_empty(), "no difference any more: {stale:?}");
    let different: usize = used.iter().sum();
    println!("{same} cases with the same bytes, {different} with a difference that is named");
    assert!(same > 80, "{same} same, {different} different");
}

#[test]
fn python_walks_the_same_apc_menus() {
    let Some(mut python) = Python::start() else {
        return;
    };
    // The screens that apc7932 and apc9210 expect are no layout of this simulator's.
    for (driver, layout) in [
        ("apc7900", Layout::Firmware2),
        ("apc7920", Layout::Firmware2),
        ("apc7921", Layout::Firmware3),
        ("apc7952", Layout::Firmware3),
        ("apc9218", Layout::Ap9606),
    ] {
        let pdu = ApcPdu::start(Behaviour::new(layout));
        for (action, on) in [("on", &[3][..]), ("off", &[])] {
            let answer = python.switch(&json!({
                "driver": driver, "transport": "telnet", "outlet": "3", "action": action,
                "settings": {"ip": format!("127.0.0.1:{}", pdu.port), "password": "secret"},
            }));
            assert_eq!(
                (answer.as_str(), pdu.on().as_slice()),
                ("ok", on),
                "{driver} {action}"
            );
        }
    }
}

#[test]
fn python_runs_the_same_command_over_ssh() {
    let Some(mut python) = Python::start() else {
        return;
    };
    if !is_root() {
        eprintln!("not root: sshd reads no passwords, and Python's driver knows no keys");
        return;
    }
    // It does not read back. acme knows no port but 22, and types into a shell what is a command of
    // its own here.
    for (driver, outlet, action, command) in [
        (
            "ubntmfi3port",
            "3",
            "on",
            "sh -c 'echo 1 > /proc/power/relay3'",
        ),
        (
            "ubntmfi8port",
            "8",
            "off",
            "sh -c 'echo 0 > /proc/power/relay8'",
        ),
    ] {
        let host = Sshd::with_password(&["true"]);
        let answer = python.switch(&json!({
            "driver": driver, "transport": "ssh", "outlet": outlet, "action": action,
            "settings": {"ip": "127.0.0.1", "sshport": host.port, "username": "ubnt",
                         "password": PASSWORD, "verify_hostkey": false},
        }));
        assert_eq!(answer, "ok", "{driver}");
        // It does not wait for the command's end either.
        wait_for("the command", || {
            (!host.commands().is_empty()).then_some(())
        });
        assert_eq!(host.commands(), [command]);
    }
}
