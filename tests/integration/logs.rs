//! The log never makes the daemon wait: with a reader that has stopped, a stalled journal or a full
//! disk, boards are switched, health tells, and the stop works.

use crate::daemon::{Lab, PATIENCE, PDUDAEMON, read_response, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Characters of a PDU's name that fill the log fast.
const LONG: usize = 900;

/// A daemon on a Unix socket, whose standard output the test may leave unread.
struct Quiet {
    child: Child,
    socket: PathBuf,
}

impl Quiet {
    fn start(lab: &Lab, mut command: Command) -> (Self, ChildStdout) {
        let socket = lab.path("socket");
        let pdus = json!({"p": {"driver": "simulated"}});
        let more = json!({"daemon": {"hostname": socket.to_str().expect("text")}});
        command.arg("--conf").arg(lab.config(pdus, more));
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the daemon starts (as root by util-linux's unshare and prlimit)");
        let stdout = child.stdout.take().expect("a pipe");
        let daemon = Self { child, socket };
        wait_for("the daemon to listen", || {
            UnixStream::connect(&daemon.socket).ok()
        });
        (daemon, stdout)
    }

    fn get(&self, target: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(&self.socket).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        read_response(&mut BufReader::new(stream))
    }

    fn reboot(&self) {
        let (code, body) = self.get("/power/control/reboot?hostname=p&port=1&delay=0.001");
        assert_eq!(code, 200, "{body}");
    }

    fn health(&self) -> Value {
        let (code, body) = self.get("/healthz");
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    fn lost(&self) -> u64 {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find_map(|line| {
            line.strip_prefix(r#"pdudaemon_log_lines_lost_total{kind="request"} "#)
        });
        line.expect("the counter").parse().expect("a number")
    }

    /// Makes request lines until some are lost.
    fn fill(&self) {
        let before = self.lost();
        let target = format!("/power/control/on?port=1&hostname={}", "x".repeat(LONG));
        wait_for("lines to be lost", || {
            for _ in 0..100 {
                assert_eq!(self.get(&target).0, 503);
            }
            (self.lost() > before).then_some(())
        });
    }

    fn wait_for_trouble(&self, words: &str) {
        wait_for(&format!("health to say {words:?}"), || {
            let health = self.health();
            let degraded = health["degraded"].to_string();
            (health["status"] == "degraded" && degraded.contains(words)).then_some(())
        });
    }

    fn stop(mut self) {
        let id = i32::try_from(self.child.id()).expect("a pid");
        kill_process(Pid::from_raw(id).expect("a pid"), Signal::TERM).expect("it runs");
        let status = wait_for("the daemon to end", || {
            self.child.try_wait().expect("a child")
        });
        assert!(status.success(), "{status}");
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_reader_that_stops_stops_nothing() {
    let lab = Lab::new();
    let (daemon, stdout) = Quiet::start(&lab, lab.command(PDUDAEMON));
    daemon.fill();
    for _ in 0..100 {
        daemon.reboot();
    }
    daemon.wait_for_trouble("nobody has taken the log");

    // The reader goes on: so does the log, and it tells what it lacks.
    let mut lines = BufReader::new(stdout);
    let mut line = String::new();
    while !line.contains("the log goes on") {
        line.clear();
        let more = lines.read_line(&mut line).expect("a line");
        assert!(more > 0, "the log ended");
    }
    let told: Vec<&str> = line.split_whitespace().collect();
    assert!(told.contains(&"WARNING"), "{line}");
    assert!(!line.contains(" 0 lines"), "{line}");
    wait_for("health to be well", || {
        (daemon.health()["status"] == "ok").then_some(())
    });

    // And nobody has to read for the daemon to end.
    daemon.fill();
    daemon.stop();
    drop(lines);
}

/// A command that runs in a name space whose journal takes datagrams and never reads them.
fn with_stalled_journal(lab: &Lab) -> Command {
    let script = "
import os, socket, sys
os.makedirs('/run/systemd/journal')
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind('/run/systemd/journal/socket')
journal.set_inheritable(True)
os.execv(sys.argv[1], sys.argv[1:])";
    let mut command = lab.command("unshare");
    let mount = "mount -t tmpfs none /run && exec python3 -c \"$0\" \"$@\"";
    command
        .args(["--mount", "sh", "-c", mount, script, PDUDAEMON])
        .arg("--journal");
    command
}

#[test]
fn a_stalled_journal_stops_nothing() {
    let lab = Lab::new();
    if !rustix::process::getuid().is_root() {
        println!("not done: a mount name space takes root");
        return;
    }
    let (daemon, _stdout) = Quiet::start(&lab, with_stalled_journal(&lab));
    daemon.fill();
    daemon.reboot();
    daemon.wait_for_trouble("nobody has taken the log");
    daemon.stop();
}

fn fsize(pid: u32, limit: &str) {
    let done = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--fsize={limit}")])
        .status()
        .expect("prlimit (Debian: util-linux)");
    assert!(done.success());
}

#[test]
fn a_log_file_that_may_not_grow_stops_nothing() {
    let lab = Lab::new();
    let log = lab.path("log");
    let mut command = lab.command(PDUDAEMON);
    command.args(["--logfile", "log"]);
    let (daemon, mut stdout) = Quiet::start(&lab, command);
    fsize(daemon.child.id(), "16384:unlimited");
    daemon.fill();
    daemon.reboot();
    daemon.wait_for_trouble("the log cannot be written");

    // Room again: the line that was torn has an end, and the next ones are whole.
    fsize(daemon.child.id(), "unlimited:unlimited");
    wait_for("the log to go on", || {
        daemon.reboot();
        let text = read(&log);
        text.contains("the log goes on").then_some(())
    });
    let text = read(&log);
    let goes_on = text.lines().find(|line| line.contains("the log goes on"));
    let starts_whole = |line: &str| {
        line.split(" - ")
            .nth(1)
            .is_some_and(|name| name.starts_with("pdud"))
    };
    assert!(starts_whole(goes_on.expect("the line")), "{goes_on:?}");
    daemon.stop();
    let mut printed = String::new();
    stdout.read_to_string(&mut printed).expect("read");
    assert_eq!(printed, "");
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
