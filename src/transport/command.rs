//! Local programs, run in their own process group and ended at the deadline.
//!
//! A program gets what little input it is given, at once; what it prints is read while it runs, so that it never blocks, and the
//! last [`MOST_KEPT`] bytes of each stream are kept. It has
//! ended when its own process has ended: a child that it leaves behind in the background with the
//! pipes still open is not waited for and is left alone, but nobody reads its output any more: the
//! first that it prints ends it by SIGPIPE, unless it was redirected.
//!
//! At the deadline the whole process group gets SIGTERM, so that what works for it elsewhere (sudo,
//! ssh) can be ended by whoever started it, and so does what has cut itself loose from the group;
//! [`FAREWELL`] later SIGKILL. What belongs to another user, or runs on another machine, is
//! out of reach, and may switch after the deadline.

use super::leftover::Running;
use super::{Deadline, Timed, TransportError, TransportErrorKind, printable};
use crate::transport::children;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How much of each output stream is kept: its end, where the complaint stands.
pub const MOST_KEPT: usize = 64 * 1024;

/// How much input a program can be given: a pipe takes it without waiting for the program.
const MOST_GIVEN: usize = 4096 * 8;

/// How long the output of an ended program is still read when something holds its pipes open.
pub(super) const GRACE: Duration = Duration::from_millis(200);

/// How long a program has between SIGTERM and SIGKILL, past the deadline.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// How long a killed program may take to disappear before another thread waits for it.
pub(super) const DYING: Duration = Duration::from_secs(1);

/// A program with its arguments, ready to run.
#[derive(Debug)]
pub struct Program {
    pub(super) name: String,
    pub(super) command: Command,
    input: Option<String>,
}

impl Program {
    /// The program `name`: a path, or a name looked up in `PATH`. No shell is involved.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            command: Command::new(name),
            input: None,
        }
    }

    /// `/bin/sh -c line`. The caller answers for every byte of `line`.
    pub fn shell(line: &str) -> Self {
        Self::new("/bin/sh").args(["-c", line])
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: &str) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(args);
        self
    }

    /// Gives it this on its standard input, where nobody else sees it.
    pub fn input(mut self, text: String) -> Self {
        self.input = Some(text);
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    /// Runs it to its end. Only a program that did not start or did not end in time is an error;
    /// a failing exit status is the caller's to judge.
    pub fn run(self, timed: impl Timed) -> Result<Output, TransportError> {
        #[cfg(not(fuzzing))]
        let (status, [stdout, stderr]) = self.carry_out(timed)?;
        #[cfg(fuzzing)]
        let (status, [stdout, stderr]) = super::fuzzing::program(timed.deadline())?;
        match status {
            Ok(status) => Ok(Output {
                end: End::from(status),
                stdout,
                stderr,
            }),
            Err(error) => {
                let words = last_words(&stdout, &stderr);
                Err(TransportError {
                    detail: format!("{}{words}", error.detail),
                    ..error
                })
            }
        }
    }

    /// How it ended, and what it printed up to then.
    #[cfg_attr(fuzzing, allow(dead_code))]
    fn carry_out(mut self, timed: impl Timed) -> Result<Ended, TransportError> {
        let deadline = timed.deadline();
        deadline.left("running a program")?;
        if self
            .input
            .as_ref()
            .is_some_and(|text| text.len() > MOST_GIVEN)
        {
            let what = format!("{}: its input is longer than {MOST_GIVEN} bytes", self.name);
            return Err(TransportError::new(TransportErrorKind::Io, what));
        }
        let mut running = Running::begin();
        if let Some((name, mark)) = running.as_ref().map(Running::variable) {
            self.command.env(name, mark);
        }
        self.command
            .stdin(match &self.input {
                Some(_) => Stdio::piped(),
                None => Stdio::null(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child =
            children::start(&mut self.command).map_err(|error| cannot_start(&self.name, &error))?;
        timed.sent();
        if let Some(running) = &mut running {
            running.started(child.id());
        }
        if let (Some(text), Some(mut pipe)) = (&self.input, child.stdin.take()) {
            // One that does not read it says so by its end.
            let _ = pipe.write_all(text.as_bytes());
        }
        let mut streams = [
            Stream::new(child.stdout.take()),
            Stream::new(child.stderr.take()),
        ];
        let status = wait(&mut child, &mut streams, deadline);
        if status.is_err() {
            end(child, &mut streams, running.as_ref());
        }
        let printed = streams.map(|mut stream| {
            stream.cut();
            stream.kept
        });
        Ok((status, printed))
    }
}

/// A program's end, or why it has none, and its two streams.
type Ended = (Result<ExitStatus, TransportError>, [Vec<u8>; 2]);

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this exit status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exit(code),
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "end by signal {signal}"),
        }
    }
}

/// What an ended program leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub end: End,
    /// The last [`MOST_KEPT`] bytes of its output.
    pub stdout: Vec<u8>,
    /// The last [`MOST_KEPT`] bytes of its error output.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Did it end with exit status 0?
    pub fn is_success(&self) -> bool {
        self.end == End::Exit(0)
    }

    /// Its output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// How it ended and what it said last, for an error: `exit status 1: "no relay"`.
    pub fn complaint(&self) -> String {
        format!("{}{}", self.end, last_words(&self.stdout, &self.stderr))
    }
}

/// The last lines of the error output, else of the output, after a colon; empty when it said
/// nothing.
pub(super) fn last_words(stdout: &[u8], stderr: &[u8]) -> String {
    [stderr, stdout]
        .into_iter()
        .map(<[u8]>::trim_ascii)
        .find(|bytes| !bytes.is_empty())
        .map(|bytes| format!(": {}", printable(last_lines(bytes))))
        .unwrap_or_default()
}

/// The last lines of `bytes`, as many as fit a message (at least part of the last one).
fn last_lines(bytes: &[u8]) -> &[u8] {
    const MOST: usize = 200;
    let from = bytes.len().saturating_sub(MOST);
    let tail = bytes.get(from..).unwrap_or(bytes);
    if from == 0 {
        return tail;
    }
    match tail.iter().position(|byte| *byte == b'\n') {
        Some(newline) => tail.get(newline + 1..).unwrap_or(tail),
        None => tail,
    }
}

/// The full path of a program: as given when it has a slash, else the first of `PATH` and `more`
/// that has it. Services often run without the `sbin` folders in `PATH`.
pub fn find(name: &str, more: &[&str]) -> Result<PathBuf, TransportError> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(more.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| is_program(file))
        .ok_or_else(|| {
            TransportError::new(
                TransportErrorKind::NotFound,
                format!(
                    "the program {name} is not installed (looked in PATH, {})",
                    more.join(", ")
                ),
            )
        })
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Nothing was started, so nothing can have been switched: every kind here says so.
pub(super) fn cannot_start(name: &str, error: &io::Error) -> TransportError {
    let (kind, why) = match error.kind() {
        io::ErrorKind::NotFound => (TransportErrorKind::NotFound, "not found".to_owned()),
        io::ErrorKind::PermissionDenied => (
            TransportErrorKind::NoPermission,
            "permission denied".to_owned(),
        ),
        // No process to be had, the file is being written, no memory.
        _ => (TransportErrorKind::Busy, error.to_string()),
    };
    TransportError::new(kind, format!("cannot run {name}: {why}"))
}

/// One output stream of the program: its pipe until it ends, and the end of what came.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) pipe: Option<OwnedFd>,
    pub(super) kept: Vec<u8>,
}

impl Stream {
    pub(super) fn new(pipe: Option<impl Into<OwnedFd>>) -> Self {
        Self {
            pipe: pipe.map(Into::into),
            kept: Vec::new(),
        }
    }

    /// Takes what is there now.
    pub(super) fn take(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let mut buffer = [0; 8192];
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(more) => {
                self.kept.extend(buffer.iter().take(more));
                // Cut in large steps, so that an endless talker costs little.
                if self.kept.len() > 2 * MOST_KEPT {
                    self.cut();
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => self.pipe = None,
        }
    }

    fn cut(&mut self) {
        let surplus = self.kept.len().saturating_sub(MOST_KEPT);
        self.kept.drain(..surplus);
    }
}

/// Waits for the program's end while reading what it prints. Waits on: the process, both pipes.
fn wait(
    child: &mut Child,
    streams: &mut [Stream; 2],
    deadline: Deadline,
) -> Result<ExitStatus, TransportError> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())
        .map_err(|error| TransportError::io("watching the program", &error.into()))?;
    loop {
        let left = deadline
            .left("running a program")
            .map_err(|error| TransportError {
                detail: "the program did not end in time and was killed".into(),
                ..error
            })?;
        if ready(Some(&process), streams, left)? {
            break;
        }
    }
    let status = children::wait(child)
        .map_err(|error| TransportError::io("waiting for the program", &error))?;
    // What it printed last is still in the pipes; whoever else holds them is not waited for.
    let grace = deadline.within(GRACE);
    while streams.iter().any(|stream| stream.pipe.is_some())
        && let Ok(left) = grace.left("its output")
    {
        ready(None, streams, left)?;
    }
    Ok(status)
}

/// Waits for any output and takes it; tells whether `process` has ended.
pub(super) fn ready(
    process: Option<&OwnedFd>,
    streams: &mut [Stream; 2],
    wait: Duration,
) -> Result<bool, TransportError> {
    let pipes: Vec<&OwnedFd> = streams
        .iter()
        .filter_map(|stream| stream.pipe.as_ref())
        .collect();
    let mut watched: Vec<PollFd<'_>> = pipes
        .into_iter()
        .chain(process)
        .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN))
        .collect();
    let wait = Timespec::try_from(wait).ok();
    match poll(&mut watched, wait.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(TransportError::io("waiting for the program", &error.into())),
    }
    let mut flags = watched.iter().map(|fd| !fd.revents().is_empty());
    let pending: Vec<bool> = streams
        .iter()
        .map(|stream| stream.pipe.is_some() && flags.next() == Some(true))
        .collect();
    let ended = process.is_some() && flags.next() == Some(true);
    for (stream, pending) in streams.iter_mut().zip(pending) {
        if pending {
            stream.take();
        }
    }
    Ok(ended)
}

/// Ends the whole process group, and what has left it: asks first, then kills. A process that even SIGKILL does not end at
/// once (it hangs in the kernel) is left to a thread that waits for it, so that this call comes back.
pub(super) fn end(mut child: Child, streams: &mut [Stream; 2], running: Option<&Running>) {
    let pid = Pid::from_child(&child);
    let _ = kill_process_group(pid, Signal::TERM);
    if let Some(running) = running {
        running.ask_detached(pid);
    }
    let process = pidfd_open(pid, PidfdFlags::empty()).ok();
    // The first process may be gone at once while another of the group still passes the signal on:
    // whoever holds the pipes has not ended. The first is not buried yet, so the group's number
    // stays its own.
    let farewell = Deadline::after(FAREWELL);
    let mut has_ended = false;
    while let Ok(left) = farewell.left("the program's end")
        && (!has_ended || streams.iter().any(|stream| stream.pipe.is_some()))
    {
        match ready(process.as_ref().filter(|_| !has_ended), streams, left) {
            Ok(now) => has_ended |= now,
            Err(_) => break,
        }
    }
    let _ = kill_process_group(pid, Signal::KILL);
    if let Some(running) = running {
        running.end();
    }
    let nothing = &mut [Stream::new(None::<OwnedFd>), Stream::new(None::<OwnedFd>)];
    let gone = has_ended
        || process.is_some_and(|process| ready(Some(&process), nothing, DYING) == Ok(true));
    if gone {
        let _ = children::wait(&mut child);
    } else {
        let _ = std::thread::Builder::new()
            .name("reaper".into())
            .spawn(move || children::wait(&mut child));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn sh(line: &str, wait: Duration) -> Result<Output, TransportError> {
        Program::shell(line).run(Deadline::after(wait))
    }

    const AMPLE: Duration = Duration::from_secs(20);

    #[test]
    fn output_and_end_are_told() {
        let output = sh("echo out; echo err >&2; exit 3", AMPLE).expect("runs");
        assert_eq!(output.end, End::Exit(3));
        assert_eq!(
            (output.text().as_str(), &*output.stderr),
            ("out\n", &b"err\n"[..])
        );
        assert_eq!(output.complaint(), "exit status 3: \"err\"");
        let output = sh("kill -TERM $$", AMPLE).expect("runs");
        assert_eq!(
            (output.end, output.complaint().as_str()),
            (End::Signal(15), "end by signal 15")
        );
        // No input, and none that it could wait for.
        assert!(sh("cat; exit 0", AMPLE).expect("runs").is_success());
    }

    #[test]
    fn what_is_not_there_and_what_may_not_run_are_told_apart() {
        let run = |name: &str| {
            Program::new(name)
                .run(Deadline::after(AMPLE))
                .map_err(|error| error.kind)
        };
        assert_eq!(run("/nonexistent/relay"), Err(TransportErrorKind::NotFound));
        assert_eq!(run("/etc/passwd"), Err(TransportErrorKind::NoPermission));
        assert!(find("no-such-program-at-all", &["/sbin"]).is_err());
        assert_eq!(
            find("/any/path", &[]).expect("as given"),
            Path::new("/any/path")
        );
    }

    #[test]
    fn the_deadline_kills_the_whole_group() {
        let begin = Instant::now();
        let error =
            sh("sleep 60 & echo $!; sleep 60", Duration::from_secs(2)).expect_err("too slow");
        assert_eq!(error.kind, TransportErrorKind::Timeout);
        assert!(begin.elapsed() < Duration::from_secs(20));
        until_dead(&error, begin);
    }

    /// Waits for the end of the process whose number the program has printed.
    fn until_dead(error: &TransportError, begin: Instant) {
        let pid: String = error.detail.chars().filter(char::is_ascii_digit).collect();
        assert!(!pid.is_empty(), "{error}");
        until_gone(&pid, begin);
    }

    fn until_gone(pid: &str, begin: Instant) {
        // Gone, or dead and not yet buried by init.
        let is_dead = || {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .map_or(true, |stat| stat.contains(") Z "))
        };
        while !is_dead() {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "a grandchild outlived the deadline"
            );
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_worker_in_a_session_of_its_own_is_ended_by_the_one_who_started_it() {
        let wrapper = "setsid sleep 60 & trap \"kill $!; exit 1\" TERM; echo $!; wait";
        for line in [
            wrapper.to_owned(),
            // The first process ends at once, the one behind it passes the signal on.
            format!("sh -c '{wrapper}' & wait"),
        ] {
            let begin = Instant::now();
            let error = sh(&line, Duration::from_secs(3)).expect_err("too slow");
            assert_eq!(error.kind, TransportErrorKind::Timeout);
            until_dead(&error, begin);
        }
    }

    #[test]
    fn a_worker_that_nobody_ends_is_ended_wherever_it_is() {
        let begin = Instant::now();
        let line = "setsid sh -c 'sleep 60' </dev/null >/dev/null 2>&1 & echo $!; sleep 60";
        let error = sh(line, Duration::from_secs(2)).expect_err("too slow");
        assert_eq!(error.kind, TransportErrorKind::Timeout);
        until_dead(&error, begin);
    }

    #[test]
    fn one_that_ignores_the_signal_is_killed() {
        let begin = Instant::now();
        let line = "trap '' TERM; sleep 60 & echo $!; wait; sleep 60";
        let error = sh(line, Duration::from_secs(2)).expect_err("too slow");
        assert!(begin.elapsed() >= FAREWELL);
        until_dead(&error, begin);
    }

    #[test]
    fn a_background_child_is_not_waited_for() {
        let begin = Instant::now();
        let output = sh("sleep 30 & echo done", AMPLE).expect("runs");
        assert_eq!(output.text(), "done\n");
        assert!(begin.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn a_background_child_ends_with_what_it_prints_unless_redirected() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name);
        // Both wait until the program has ended and nobody reads its pipes.
        let child = |name: &str, to: &str| {
            let (go, name) = (file("go"), file(name));
            format!(
                "(while [ -d {} ] && ! [ -e {} ]; do sleep 0.01; done; /bin/echo x {to} && touch {}) & echo $!;",
                folder.path().display(),
                go.display(),
                name.display()
            )
        };
        let line = child("redirected", ">/dev/null") + &child("talks", "");
        let output = sh(&line, AMPLE).expect("runs");
        let pids: Vec<String> = output.text().lines().map(str::to_owned).collect();
        assert_eq!(pids.len(), 2, "{output:?}");
        std::fs::write(file("go"), "").expect("told");
        let begin = Instant::now();
        for pid in pids {
            until_gone(&pid, begin);
        }
        assert!(file("redirected").exists() && !file("talks").exists());
    }

    #[test]
    fn an_endless_talker_is_bounded_and_its_end_is_kept() {
        let output = sh("head -c 5000000 /dev/zero; echo; echo last", AMPLE).expect("runs");
        assert_eq!(output.stdout.len(), MOST_KEPT);
        assert!(output.stdout.ends_with(b"last\n"));
        assert!(
            output.complaint().ends_with(": \"last\""),
            "{}",
            output.complaint()
        );
        let error = sh("yes", Duration::from_millis(300)).expect_err("never ends");
        assert_eq!(error.kind, TransportErrorKind::Timeout);
        assert!(error.detail.len() < 1000);
    }
}
