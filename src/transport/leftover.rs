//! Programs that outlive the process that ran them: the next process waits for their end. With the
//! same marks the daemon ends what a command that is late has left running.
//!
//! A program has a mark in its environment, which it hands on to all that it starts, whatever these
//! do to their session, their group and their descriptors. While it runs the mark stands in a note,
//! a file, together with the number and the start time of its first process, for one that sheds
//! its environment or belongs to another user (`env -i`, sudo).
//!
//! Invariant: no program ever gets a descriptor of the note, or of anything else that counts.

use super::command::{DYING, FAREWELL};
use super::{Deadline, TransportError, TransportErrorKind};
use log::warn;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpgid, pidfd_open, pidfd_send_signal};
use std::cell::{Cell, RefCell};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long we look again at processes without an environment, and how often: a process has none for
/// a moment while it turns into another program, and some have none at all.
const UNSEEN: Duration = Duration::from_millis(200);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The variable that holds the mark.
const MARK: &str = "PDUDAEMON_COMMAND";

thread_local! {
    static NOTE: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
    /// The log says that there can be no note.
    static COMPLAINED: Cell<bool> = const { Cell::new(false) };
}

/// Notes the programs that this thread runs at `path`, one at a time, until the caller drops the
/// returned value. Only one process at a time may do so: a lock that dies with its process protects
/// the path.
pub fn note_at(path: PathBuf) -> Noting {
    NOTE.set(Some(path));
    Noting(())
}

/// See [`note_at`].
#[derive(Debug)]
#[must_use]
pub struct Noting(());

impl Drop for Noting {
    fn drop(&mut self) {
        NOTE.set(None);
    }
}

/// One program that runs: its mark, and the note of it, which goes when it has ended.
#[cfg_attr(fuzzing, allow(dead_code))]
#[derive(Debug)]
pub(super) struct Running {
    mark: String,
    /// Its first process.
    process: Option<u32>,
    note: Option<(PathBuf, File)>,
}

#[cfg_attr(fuzzing, allow(dead_code))]
impl Running {
    /// Marks a program before it starts, and notes it where this thread has a path for notes; nothing where
    /// the system says too little of processes to know them again.
    pub(super) fn begin() -> Option<Self> {
        let mut running = Self {
            mark: kernel("uuid").ok()?,
            process: None,
            note: None,
        };
        running.resume();
        Some(running)
    }

    /// The program has something to do from now on: notes it.
    pub(super) fn resume(&mut self) {
        if let Some(path) = NOTE.with_borrow(Clone::clone)
            && let Err(error) = self.note_at(&path)
            && !COMPLAINED.replace(true)
        {
            warn!(
                "{}: {error}; going on without it: should pdudaemon be killed while a command runs, the next start would not wait for that command's end",
                path.display()
            );
        }
        self.note_process();
    }

    /// The program has done what it was told, and waits for more: nobody need wait for its end.
    pub(super) fn pause(&mut self) {
        if let Some((path, _)) = self.note.take() {
            let _ = fs::remove_file(path);
        }
    }

    fn note_at(&mut self, path: &Path) -> io::Result<()> {
        let create = || OpenOptions::new().write(true).create_new(true).open(path);
        let file = create().or_else(|error| {
            // The note of a program that nobody waits for any more.
            fs::remove_file(path).map_err(|_| error)?;
            create()
        })?;
        let (_, file) = self.note.insert((path.to_owned(), file));
        file.write_all(format!("{} {}\n", kernel("boot_id")?, self.mark).as_bytes())
    }

    /// The variable that the program gets.
    pub(super) fn variable(&self) -> (&'static str, &str) {
        (MARK, &self.mark)
    }

    /// Adds that the program runs as this process.
    pub(super) fn started(&mut self, process: u32) {
        self.process = Some(process);
        self.note_process();
    }

    fn note_process(&mut self) {
        if let Some((_, file)) = &mut self.note
            && let Some(process) = self.process
            && let Some(start) = start_of(process)
        {
            // At the least the mark is there.
            let _ = file.write_all(format!("{process} {start}\n").as_bytes());
        }
    }

    /// Asks the processes that have left the program's process group to end.
    pub(super) fn ask_detached(&self, group: Pid) {
        for (process, handle) in Left::new(&self.mark, None).find().0 {
            let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
            if getpgid(pid) != Ok(group) {
                let _ = pidfd_send_signal(handle, Signal::TERM);
            }
        }
    }

    /// Ends the rest of it, in whatever group.
    pub(super) fn end(&self) {
        Left::new(&self.mark, None).end();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.pause();
    }
}

/// The kernel's random text under this name.
fn kernel(name: &str) -> io::Result<String> {
    let text = fs::read_to_string(Path::new("/proc/sys/kernel/random").join(name))?;
    Ok(text.trim().to_owned())
}

/// When a process that has not ended began, in ticks since the machine's start; nothing for the
/// kernel's own.
fn start_of(process: u32) -> Option<u64> {
    const OF_THE_KERNEL: u32 = 0x0020_0000;
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    // The second field, the name, may hold anything, brackets and blanks among it.
    let behind = stat.rsplit(|byte| *byte == b')').next()?;
    let mut fields = str::from_utf8(behind).ok()?.split_ascii_whitespace();
    let has_ended = matches!(fields.next()?, "Z" | "X");
    // The 9th and the 22nd of all.
    let flags: u32 = fields.nth(5)?.parse().ok()?;
    let start = fields.nth(12)?.parse().ok()?;
    (!has_ended && flags & OF_THE_KERNEL == 0).then_some(start)
}

/// The content of a note.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    /// As it stands in an environment.
    mark: Vec<u8>,
    first: Option<(u32, u64)>,
}

impl Left {
    fn new(mark: &str, first: Option<(u32, u64)>) -> Self {
        Self {
            mark: format!("{MARK}={mark}").into_bytes(),
            first,
        }
    }

    /// Nothing when no program can be left: there is no note, or it is from before the machine's
    /// start.
    fn read(note: &Path) -> Option<Self> {
        let boot = kernel("boot_id").ok()?;
        Self::parse(&fs::read_to_string(note).ok()?, &boot)
    }

    fn parse(note: &str, boot: &str) -> Option<Self> {
        let (line, rest) = note.split_once('\n')?;
        let mark = line.strip_prefix(boot)?.trim();
        if mark.is_empty() {
            return None;
        }
        let first = rest.trim_end().split_once(' ');
        let first = first.and_then(|(id, start)| Some((id.parse().ok()?, start.parse().ok()?)));
        Some(Self::new(mark, first))
    }

    /// Nothing when the system does not say it now.
    fn is(&self, process: u32) -> Option<bool> {
        let Some(start) = start_of(process) else {
            return Some(false);
        };
        if self.first == Some((process, start)) {
            return Some(true);
        }
        match fs::read(format!("/proc/{process}/environ")) {
            // A process has none while it turns into another program.
            Ok(all) if all.is_empty() => None,
            Ok(all) => Some(all.split(|byte| *byte == 0).any(|one| *one == self.mark)),
            Err(_) => Some(false),
        }
    }

    /// The processes that are left of it; and are these certainly all?
    fn find(&self) -> (Vec<(u32, OwnedFd)>, bool) {
        let (mut found, mut are_all) = (Vec::new(), true);
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let Some(process) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match self.is(process) {
                Some(true) => {}
                Some(false) => continue,
                None => {
                    are_all = false;
                    continue;
                }
            }
            let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
            let handle = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
            // Another process may have the number by now.
            match (handle, self.is(process)) {
                (Some(handle), Some(true)) => found.push((process, handle)),
                (_, Some(_)) => {}
                (_, None) => are_all = false,
            }
        }
        (found, are_all)
    }

    /// Waits for its end until the deadline; sends all of it a signal, if there is one. True when it
    /// has ended.
    fn has_ended(&self, deadline: Deadline, signal: Option<Signal>) -> bool {
        let mut unseen = Deadline::after(UNSEEN);
        loop {
            // A process that has ended may have started others.
            let (left, are_all) = self.find();
            if left.is_empty() && (are_all || unseen.left("a look at the processes").is_err()) {
                return true;
            }
            let Ok(wait) = deadline.left("the end of a program") else {
                return left.is_empty();
            };
            let wait = if left.is_empty() { LOOK_AGAIN } else { wait };
            let mut watched = Vec::with_capacity(left.len());
            for (_, process) in &left {
                let _ = signal.map(|signal| pidfd_send_signal(process, signal));
                watched.push(PollFd::new(process, PollFlags::IN));
            }
            let _ = poll(&mut watched, Timespec::try_from(wait).ok().as_ref());
            if !left.is_empty() {
                unseen = Deadline::after(UNSEEN);
            }
        }
    }

    /// Ends it: asks first, then kills. False when it cannot be ended.
    fn end(&self) -> bool {
        self.has_ended(Deadline::after(FAREWELL), Some(Signal::TERM))
            || self.has_ended(Deadline::after(DYING), Some(Signal::KILL))
    }

    /// Its processes, for messages.
    fn numbers(&self) -> String {
        let (left, _) = self.find();
        let numbers: Vec<String> = left.iter().map(|(number, _)| number.to_string()).collect();
        numbers.join(", ")
    }
}

/// Waits for the end of the program that an earlier process has left, if `note` names one. Ends one
/// that still runs at the deadline: its own deadline is past, too.
///
/// # Errors
///
/// When the program cannot be ended.
pub fn wait_for(note: &Path, deadline: Deadline) -> Result<(), TransportError> {
    let Some(left) = Left::read(note) else {
        return Ok(());
    };
    let numbers = left.numbers();
    if !numbers.is_empty() {
        warn!(
            "a command of a killed pdudaemon still runs (process {numbers}): waiting for its end"
        );
    }
    if !left.has_ended(deadline, None) {
        let numbers = left.numbers();
        warn!("a command of a killed pdudaemon is past its time (process {numbers}): ending it");
        if !left.end() {
            let numbers = left.numbers();
            return Err(TransportError::new(
                TransportErrorKind::Busy,
                format!("a command of a killed pdudaemon cannot be ended (process {numbers})"),
            ));
        }
    }
    let _ = fs::remove_file(note);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    /// A note, and a program that it is of, both left by a process that is gone.
    fn left(folder: &Path, line: &str) -> (PathBuf, Child) {
        let path = folder.join("note");
        let noting = note_at(path.clone());
        let mut note = Running::begin().expect("a mark");
        drop(noting);
        let (name, mark) = note.variable();
        let child = Command::new("/bin/sh")
            .args(["-c", line])
            .env(name, mark)
            .stdout(Stdio::null())
            .spawn()
            .expect("a program");
        note.started(child.id());
        std::mem::forget(note);
        (path, child)
    }

    #[test]
    fn what_sheds_everything_but_its_mark_or_its_number_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        for line in [
            "exec <&- >&- 2>&-; sleep 0.3; touch DONE",
            "setsid sh -c 'sleep 0.3; touch DONE' </dev/null & exit",
            "exec env -i sh -c '/bin/sleep 0.3; /bin/touch DONE'",
        ] {
            let done = folder.path().join("done");
            let line = line.replace("DONE", &done.display().to_string());
            let (note, mut child) = left(folder.path(), &line);
            wait_for(&note, Deadline::after(Duration::from_secs(20))).expect("its end");
            assert!(done.exists(), "{line}");
            assert!(!note.exists(), "{line}");
            fs::remove_file(done).expect("removed");
            child.wait().expect("buried");
        }
    }

    #[test]
    fn one_past_its_time_is_ended_with_all_that_it_has_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let line = "trap '' TERM; setsid sleep 60 & sleep 60; sleep 60";
        let (note, mut child) = left(folder.path(), line);
        let begin = Instant::now();
        wait_for(&note, Deadline::after(Duration::from_millis(50))).expect("its end");
        assert!(begin.elapsed() < Duration::from_secs(20));
        child.wait().expect("buried");
        assert!(!note.exists());
    }

    #[test]
    fn a_note_from_before_the_machine_was_started_names_nobody() {
        let mine = std::process::id();
        let start = start_of(mine).expect("it lives");
        let note = |boot: &str| format!("{boot} some-mark\n{mine} {start}\n");
        let left = Left::parse(&note("now"), "now").expect("of this time");
        assert_eq!(left.is(mine), Some(true));
        assert_eq!(Left::parse(&note("then"), "now"), None);
        // A kill has torn it, so before the program began.
        for torn in ["", "now", "now some-ma", "now \n"] {
            assert_eq!(Left::parse(torn, "now"), None, "{torn:?}");
        }
        let left = Left::parse("now some-mark\n12", "now").expect("a mark");
        assert_eq!(left.first, None);
    }
}
