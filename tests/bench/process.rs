//! The programs under measurement, as child processes.

use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Whose program.
#[derive(Clone, Debug)]
pub struct Program {
    pub name: &'static str,
    pub path: PathBuf,
}

impl Program {
    pub const PYTHON: &str = "pdudaemon (Python)";

    pub fn ours() -> Self {
        Self {
            name: "pdudaemon (Rust)",
            path: env!("CARGO_BIN_EXE_pdudaemon").into(),
        }
    }

    /// The Python program, when it is there and runs.
    pub fn python() -> Option<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-venv/bin/pdudaemon");
        let runs = Command::new(&path)
            .arg("--help")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        runs.then_some(Self {
            name: Self::PYTHON,
            path,
        })
    }

    /// The time of one `--drive`, which must succeed.
    pub fn drive(&self, config: &Path, pdu: &str, outlet: &str) -> Duration {
        let mut command = Command::new(&self.path);
        command.arg("--conf").arg(config);
        command.args([
            "--drive",
            "--hostname",
            pdu,
            "--port",
            outlet,
            "--request",
            "on",
        ]);
        timed(&mut command)
    }
}

/// The time of a program's whole life, which must succeed.
pub fn timed(command: &mut Command) -> Duration {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let status = command.status().expect("runs");
    let took = began.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    took
}

/// A config in a file; `daemon.port` is one that was free.
pub fn config(folder: &Path, name: &str, pdus: &Value, aliases: &Value) -> (PathBuf, SocketAddr) {
    written(
        folder,
        name,
        json!({"pdus": pdus, "aliases": aliases, "daemon": {"listener": "http"}}),
    )
}

/// The same for both protocols, with more keys of `daemon`.
pub fn config_with(
    folder: &Path,
    name: &str,
    pdus: &Value,
    daemon: Value,
) -> (PathBuf, SocketAddr) {
    written(folder, name, json!({"pdus": pdus, "daemon": daemon}))
}

fn written(folder: &Path, name: &str, mut config: Value) -> (PathBuf, SocketAddr) {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("its number");
    config["daemon"]["hostname"] = json!("127.0.0.1");
    config["daemon"]["port"] = json!(address.port());
    config["daemon"]["logging_level"] = json!("INFO");
    let path = folder.join(name);
    fs::write(&path, serde_json::to_string_pretty(&config).expect("JSON")).expect("written");
    (path, address)
}

/// No program may take longer to start; Python needs a minute for 5,000 PDUs.
const START_LIMIT: Duration = Duration::from_secs(180);

/// A running server; killed when dropped.
pub struct Running {
    child: Child,
    pub address: SocketAddr,
    /// From the start to the first answer over HTTP.
    pub ready_after: Duration,
}

impl Running {
    /// Starts a daemon on a config; its log, one or more lines a request, goes to a file.
    pub fn daemon(program: &Program, config: &Path, address: SocketAddr) -> Self {
        let log = fs::File::create(config.with_extension("log")).expect("a log");
        let errors = log.try_clone().expect("the log again");
        let mut command = Command::new(&program.path);
        command.arg("--conf").arg(config).stdout(log).stderr(errors);
        Self::start(command, address)
    }

    pub fn start(mut command: Command, address: SocketAddr) -> Self {
        let began = Instant::now();
        let child = command.stdin(Stdio::null()).spawn().expect("starts");
        let mut running = Self {
            child,
            address,
            ready_after: Duration::ZERO,
        };
        while began.elapsed() < START_LIMIT {
            if answers(address) {
                running.ready_after = began.elapsed();
                return running;
            }
            if let Ok(Some(status)) = running.child.try_wait() {
                panic!("{command:?} has ended: {status}");
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        panic!("{command:?} does not answer on {address}");
    }

    /// CPU time so far.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("running");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .expect("fields")
            .split_whitespace()
            .collect();
        let ticks: u64 = [11, 12]
            .map(|at| fields[at].parse::<u64>().expect("a number"))
            .iter()
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory in KiB.
    pub fn memory(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("running");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("VmRSS");
        line.split_whitespace()
            .nth(1)
            .expect("a number")
            .parse()
            .expect("a number")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut byte = [0];
    stream
        .write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .is_ok()
        && matches!(stream.read(&mut byte), Ok(1))
}
