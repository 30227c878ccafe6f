//! The programs under test as processes: a daemon on a port of its own in a folder of its own,
//! clients of all kinds, and waiting for conditions instead of sleeping.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The daemon as built for this test run.
pub(crate) const PDUDAEMON: &str = env!("CARGO_BIN_EXE_pdudaemon");
/// The client as built for this test run.
pub(crate) const PDUCLIENT: &str = env!("CARGO_BIN_EXE_pduclient");
/// No wait of a test is longer; a machine that is busy with other things still makes it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `found` finds something; fails with `what` it was waiting for.
pub(crate) fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A folder with a config and a record: commands of `localcmdline` PDUs append lines to it.
pub(crate) struct Lab {
    folder: TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A PDU whose commands append `<name> <outlet> on` or `off` to the record.
    pub(crate) fn recorder(&self, name: &str) -> Value {
        json!({
            "driver": "localcmdline",
            "cmd_on": format!("echo {name} %s on >> {}", self.path("record").display()),
            "cmd_off": format!("echo {name} %s off >> {}", self.path("record").display()),
            "retries": 1,
            "retrydelay": 0,
        })
    }

    /// A PDU whose commands are `sh` scripts: `$1` is the outlet, `record TEXT` appends a line.
    pub(crate) fn scripted(&self, on: &str, off: &str) -> Value {
        let script = |body: &str| {
            let folder = self.folder.path().display();
            json!([
                "/bin/sh",
                "-c",
                format!(
                    "cd {folder}; record() {{ echo \"$@\" >> record; }}\n{}",
                    body.replace('%', "%%")
                ),
                "script",
                "%s"
            ])
        };
        json!({"driver": "localcmdline", "cmd_on": script(on), "cmd_off": script(off), "retries": 1, "retrydelay": 0})
    }

    /// The lines that commands have appended.
    pub(crate) fn record(&self) -> Vec<String> {
        fs::read_to_string(self.path("record"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Waits until the record has exactly `lines`; more or other lines are the failure.
    pub(crate) fn wait_for_record(&self, lines: &[&str]) {
        wait_for(&format!("the record {lines:?}"), || {
            let record = self.record();
            assert!(
                record.len() <= lines.len(),
                "expected {lines:?}, got {record:?}"
            );
            (record == lines).then_some(())
        });
    }

    pub(crate) fn forget(&self) {
        let _ = fs::remove_file(self.path("record"));
    }

    /// Writes a config that listens on a free loopback port, and gives its path.
    pub(crate) fn config(&self, pdus: Value, more: Value) -> PathBuf {
        let mut config = json!({
            "daemon": {"hostname": "127.0.0.1", "port": 0},
            "pdus": pdus,
        });
        merge(&mut config, more);
        self.write("pdudaemon.conf", &config.to_string())
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a file");
        path
    }

    /// Runs the daemon's program to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        run(self.command(PDUDAEMON).args(args))
    }

    /// Runs the client to its end.
    pub(crate) fn client(&self, args: &[&str]) -> Output {
        run(self.command(PDUCLIENT).args(args))
    }

    /// A program that finds nothing of this machine's own services in its environment.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        for name in [
            "RUNTIME_DIRECTORY",
            "STATE_DIRECTORY",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "RUST_LOG",
            "http_proxy",
            "HTTP_PROXY",
        ] {
            command.env_remove(name);
        }
        command
            .env("TMPDIR", self.folder.path())
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Starts the daemon with `pdus` and waits until it listens.
    pub(crate) fn start(&self, pdus: Value) -> Daemon {
        self.start_with(pdus, json!({}), &[])
    }

    /// Starts the daemon with more of a config and more arguments.
    pub(crate) fn start_with(&self, pdus: Value, more: Value, args: &[&str]) -> Daemon {
        let config = self.config(pdus, more);
        let mut command = self.command(PDUDAEMON);
        command.arg("--conf").arg(config).args(args);
        Daemon::spawn(command)
    }

    /// Starts the daemon with the config at `path`.
    pub(crate) fn start_by(&self, path: &str) -> Daemon {
        let mut command = self.command(PDUDAEMON);
        command.args(["--conf", path]);
        Daemon::spawn(command)
    }
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// Runs a program to its end, within [`PATIENCE`].
pub(crate) fn run(command: &mut Command) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let id = pid(&child);
    let watch = Watch::new(id);
    let output = child.wait_with_output().expect("the program ends");
    assert!(!watch.stop(), "the program did not end: {command:?}");
    output
}

/// Kills a process that outlives [`PATIENCE`].
struct Watch {
    over: Arc<Mutex<bool>>,
    thread: JoinHandle<bool>,
}

impl Watch {
    fn new(id: Pid) -> Self {
        let over = Arc::new(Mutex::new(false));
        let seen = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let until = Instant::now() + PATIENCE;
            while Instant::now() < until {
                std::thread::park_timeout(Duration::from_millis(200));
                if *seen.lock().expect("flag") {
                    return false;
                }
            }
            let over = seen.lock().expect("flag");
            if !*over {
                let _ = kill_process(id, Signal::KILL);
            }
            !*over
        });
        Self { over, thread }
    }

    /// Was the process killed?
    fn stop(self) -> bool {
        *self.over.lock().expect("flag") = true;
        self.thread.thread().unpark();
        self.thread.join().expect("the watch")
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid")
}

/// Standard output of an ended program.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error of an ended program.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    /// What it printed so far, on both streams.
    printed: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    pub(crate) address: SocketAddr,
}

impl Daemon {
    /// Starts the program and waits for the line that tells its port.
    pub(crate) fn spawn(command: Command) -> Self {
        let mut daemon = Self::spawn_anywhere(command);
        daemon.address = wait_for("the daemon to listen", || {
            let printed = daemon.printed();
            let ended = daemon.child.try_wait().expect("a child");
            assert!(ended.is_none(), "the daemon ended: {ended:?}\n{printed}");
            printed
                .lines()
                .filter_map(|line| line.split_once("listening on "))
                .find_map(|(_, address)| address.parse().ok())
        });
        daemon.wait_for_print("ready");
        daemon
    }

    /// Starts the program, wherever it may listen.
    pub(crate) fn spawn_anywhere(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let printed = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            keep(child.stdout.take().expect("a pipe"), &printed),
            keep(child.stderr.take().expect("a pipe"), &printed),
        ];
        Self {
            child,
            printed,
            readers,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }

    pub(crate) fn printed(&self) -> String {
        self.printed.lock().expect("text").clone()
    }

    pub(crate) fn wait_for_print(&self, text: &str) {
        wait_for(&format!("{text:?} to be printed"), || {
            self.printed().contains(text).then_some(())
        });
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(&self.child), signal).expect("the daemon is there");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Waits for its end; gives the exit status and all it printed.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = wait_for("the daemon to end", || {
            self.child.try_wait().expect("a child")
        });
        for reader in self.readers.drain(..) {
            reader.join().expect("read");
        }
        (status, self.printed())
    }

    /// Stops it as systemd does; it must end well.
    pub(crate) fn stop(self) -> String {
        self.signal(Signal::TERM);
        let (status, printed) = self.wait();
        assert!(status.success(), "{status}\n{printed}");
        printed
    }

    /// `GET /power/control/...`: status and body.
    pub(crate) fn get(&self, what: &str) -> (u16, String) {
        get(self.address, what)
    }

    /// The same from a thread of its own.
    pub(crate) fn get_later(&self, what: &str) -> JoinHandle<(u16, String)> {
        let (address, what) = (self.address, what.to_owned());
        std::thread::spawn(move || get(address, &what))
    }

    /// The answer to a legacy line that ends as `printf | nc -N` ends it: no newline, half closed.
    pub(crate) fn line(&self, line: &str) -> String {
        String::from_utf8_lossy(&talk(self.address, line.as_bytes(), true)).into_owned()
    }

    /// A request with a JSON body (null for none): status and JSON.
    pub(crate) fn api(&self, method: &str, target: &str, body: Value) -> (u16, Value) {
        let (text, kind) = match body {
            Value::Null => (String::new(), String::new()),
            body => (
                body.to_string(),
                "Content-Type: application/json\r\n".into(),
            ),
        };
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n{text}",
            self.address,
            text.len()
        );
        let answer = talk(self.address, request.as_bytes(), false);
        let (status, body) = read_response(&mut answer.as_slice());
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    /// A connection with time-outs, for anything else.
    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon printed:\n{}", self.printed());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keep(from: impl Read + Send + 'static, into: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|more| more > 0) {
            into.lock()
                .expect("text")
                .push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// A connection that never blocks a test for ever.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.set_write_timeout(Some(PATIENCE)).expect("set");
    stream
}

/// Sends bytes, closes the sending half if asked to, and reads to the end.
pub(crate) fn talk(address: SocketAddr, bytes: &[u8], half_close: bool) -> Vec<u8> {
    let mut stream = connect(address);
    // A daemon that refuses early may close before all is sent; its answer counts.
    let _ = stream.write_all(bytes);
    if half_close {
        let _ = stream.shutdown(Shutdown::Write);
    }
    read_all(&mut stream)
}

/// All that comes until the end; a reset after it is an end, too.
pub(crate) fn read_all(stream: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return all,
            Ok(more) => all.extend_from_slice(&chunk[..more]),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                ) =>
            {
                return all;
            }
            Err(error) => panic!("no answer in time: {error}; so far {:?}", show(&all)),
        }
    }
}

/// Reads one response: head up to the empty line, then as many bytes as `Content-Length` says.
pub(crate) fn read_response(stream: &mut impl BufRead) -> (u16, String) {
    let mut status = None;
    let mut length = 0;
    loop {
        let mut line = String::new();
        let more = stream.read_line(&mut line).expect("a response in time");
        assert!(more > 0, "the connection ended within a response");
        let line = line.trim_end();
        if let Some(code) = line.strip_prefix("HTTP/1.") {
            status = code.get(2..5).and_then(|code| code.parse().ok());
        } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        } else if line.is_empty() && status.is_some() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("the body");
    (
        status.expect("a status"),
        String::from_utf8_lossy(&body).into_owned(),
    )
}

/// `GET /power/control/<what>`: status and body.
pub(crate) fn get(address: SocketAddr, what: &str) -> (u16, String) {
    http(address, "GET", &format!("/power/control/{what}"))
}

/// Any HTTP request without a body.
pub(crate) fn http(address: SocketAddr, method: &str, target: &str) -> (u16, String) {
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = talk(address, request.as_bytes(), false);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .get(9..12)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("not an HTTP answer: {text:?}"));
    (status, body.to_owned())
}

/// Bytes for a message.
pub(crate) fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// As many descriptors as the system lets this process have.
pub(crate) fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("the hard limit may be had");
    limit.maximum.unwrap_or(u64::MAX)
}

/// Does a path exist?
pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
