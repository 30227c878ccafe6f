//! `modbustcp` switches and reads what pymodbus's server serves, started here on a loopback port.

use crate::faults_tcp::{build, long};
use crate::transcript::Confirmed;
use pdudaemon::driver::DriverError;
use pdudaemon::request::{Outlet, State, Switch};
use pdudaemon::transport::TransportErrorKind;
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The server; it ends when its standard input is closed.
struct Server {
    child: Child,
    port: u16,
}

/// A Python that has `module`: `PDUD_PYTHON`, the tests' own environment, or the system's.
pub(crate) fn python_with(module: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let candidates = [
        std::env::var_os("PDUD_PYTHON").map(PathBuf::from),
        Some(root.join("target/test-venv/bin/python")),
        Some("python3".into()),
    ];
    candidates
        .into_iter()
        .flatten()
        .find(|python| {
            Command::new(python)
                .args([
                    "-c",
                    &format!("import importlib.metadata as m; m.version({module:?})"),
                ])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        })
        .unwrap_or_else(|| {
            panic!(
                "this test needs the Python package {module}: make an environment with \
                 `python3 -m venv target/test-venv` (Debian: python3-venv) and \
                 `target/test-venv/bin/python -m pip install {module}`, or name a Python that has it in \
                 PDUD_PYTHON"
            )
        })
}

impl Server {
    fn start(framing: &str) -> Self {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/peers/modbus.py");
        let mut child = Command::new(python_with("pymodbus"))
            .arg(script)
            .arg(framing)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the Modbus server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("its port");
        let port = line.trim().parse().expect("its port");
        Self { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn pymodbus_switches_reads_back_and_refuses() {
    switches_reads_back_and_refuses("tcp");
}

#[test]
fn pymodbus_does_so_with_rtu_framing() {
    switches_reads_back_and_refuses("rtu");
}

fn switches_reads_back_and_refuses(framing: &str) {
    let server = Server::start(framing);
    let address = format!("127.0.0.1:{}", server.port);
    let build = |mut settings: serde_json::Value| {
        settings["framing"] = framing.into();
        build("modbustcp", settings)
    };
    let mut driver = build(json!({"hostname": address, "unit": "1"}));
    for coil in ["0", "1", "40", "63"] {
        let outlet = Outlet::new(coil);
        for to in [Switch::On, Switch::Off, Switch::On] {
            driver
                .confirmed(&outlet, to, long())
                .unwrap_or_else(|error| panic!("coil {coil}: {error}"));
            assert_eq!(driver.state(&outlet, long()), Ok(State::from(to)));
        }
        driver.rest(long());
    }
    assert_eq!(driver.state(&Outlet::new("2"), long()), Ok(State::Off));

    let no_coil = driver
        .confirmed(&Outlet::new("64"), Switch::On, long())
        .expect_err("there are 64 coils");
    assert!(matches!(&*no_coil, DriverError::Refused(words) if words.starts_with("exception 2")));
    assert!(driver.state(&Outlet::new("65535"), long()).is_err());

    let failed = driver
        .confirmed(&Outlet::new("50"), Switch::On, long())
        .expect_err("this one fails");
    // Some versions answer with function code 0 instead of 5.
    let words = failed.to_string();
    assert!(
        words.contains("exception 4") || words.contains(r"\x80\x04"),
        "{failed}"
    );
    assert!(failed.may_have_acted() && failed.is_transient());

    let mut other = build(json!({"ip": address, "slave": 9}));
    let nobody = other
        .confirmed(&Outlet::new("1"), Switch::On, long())
        .expect_err("there is no unit 9");
    assert!(
        matches!(&*nobody, DriverError::Transport(error) if error.kind == TransportErrorKind::Timeout)
            || matches!(
                &*nobody,
                DriverError::Refused(_) | DriverError::Unexpected { .. }
            ),
        "{nobody:?}"
    );

    // After all that the connection still works.
    driver
        .confirmed(&Outlet::new("1"), Switch::Off, long())
        .expect("off");
}
