//! A program that stays running, and is asked one thing at a time: a line goes in, a line comes out.
//!
//! The program runs in a process group of its own. Whatever it prints to its error output goes into
//! the log. One that is late, that says something unasked, or that writes a line without an end is of
//! no more use: who has it drops it, and the drop ends the whole group.
//!
//! While it works on a question it is noted as every other program is, see [`super::leftover`]; when
//! it has answered it has nothing left to do. It learns of our end by the end of its input.

use super::command::{self, FAREWELL, GRACE, Program, Stream, cannot_start, last_words, ready};
use super::leftover::Running;
use super::{Deadline, Timed, TransportError, TransportErrorKind, blotted, children};
use log::{info, warn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::Duration;

/// The longest line that a program may answer.
const MOST_LINE: usize = 64 * 1024;

/// How many lines of its error output the log takes for one question, and how much of each.
const MOST_LOGGED: usize = 50;
const MOST_OF_EACH: usize = 500;

/// A running program.
#[derive(Debug)]
pub struct Companion {
    /// For the log: whose program it is.
    label: String,
    /// Words of its own that nobody may see.
    secrets: Vec<String>,
    child: Option<Child>,
    process: OwnedFd,
    input: Option<OwnedFd>,
    /// Its output and its error output.
    streams: [Stream; 2],
    running: Option<Running>,
    /// It cannot be asked any more.
    is_spoilt: bool,
}

impl Companion {
    /// Starts `program`; `label` says in the log whose it is. Where it repeats one of `secrets`, nobody
    /// sees it.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn start(
        mut program: Program,
        label: &str,
        secrets: Vec<String>,
        deadline: Deadline,
    ) -> Result<Self, TransportError> {
        deadline.left("starting a program")?;
        let mut running = Running::begin();
        if let Some((name, mark)) = running.as_ref().map(Running::variable) {
            program.command.env(name, mark);
        }
        program
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = children::start(&mut program.command)
            .map_err(|error| cannot_start(&program.name, &error))?;
        if let Some(running) = &mut running {
            running.started(child.id());
        }
        let mut streams = [
            Stream::new(child.stdout.take()),
            Stream::new(child.stderr.take()),
        ];
        let input = child.stdin.take().map(OwnedFd::from);
        let watched = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
            .and_then(|process| input.as_ref().map_or(Ok(()), never_block).map(|()| process));
        match watched {
            Ok(process) => Ok(Self {
                label: label.to_owned(),
                secrets,
                child: Some(child),
                process,
                input,
                streams,
                running,
                is_spoilt: false,
            }),
            Err(error) => {
                command::end(child, &mut streams, running.as_ref());
                Err(TransportError::io("watching the program", &error.into()))
            }
        }
    }

    /// Sends `question`, one or more lines, waits for the line that answers it, and has `read` read that.
    ///
    /// # Errors
    ///
    /// Any error makes the program useless: it cannot be asked again.
    pub fn ask<T>(
        &mut self,
        question: &str,
        timed: impl Timed,
        read: impl FnOnce(&str) -> Result<T, TransportError>,
    ) -> Result<T, TransportError> {
        if let Some(running) = &mut self.running {
            running.resume();
        }
        let answer = self.exchange(question, timed);
        let mut result = answer.and_then(|line| read(line.trim_end()));
        if let Err(error) = &mut result {
            self.is_spoilt = true;
            let [output, errors] = &self.streams;
            let [output, errors] = [output, errors].map(|of| blotted(&of.kept, &self.secrets));
            error.detail.push_str(&last_words(&output, &errors));
        } else if let Some(running) = &mut self.running {
            running.pause();
        }
        self.log_errors();
        result
    }

    /// Can it not be asked any more? Takes what it has said to its error output meanwhile.
    pub fn has_ended(&mut self) -> bool {
        let now = Duration::ZERO;
        let has_ended = ready(Some(&self.process), &mut self.streams, now).unwrap_or(true);
        self.log_errors();
        has_ended || self.is_spoilt
    }

    fn exchange(&mut self, question: &str, timed: impl Timed) -> Result<String, TransportError> {
        let mut line = question.as_bytes().to_vec();
        line.push(b'\n');
        // What it had to say to the last question is too late for this one.
        self.turn(false, Duration::ZERO)?;
        if !self.output().kept.is_empty() {
            return Err(TransportError::new(
                TransportErrorKind::Garbled,
                "the program said something that it was not asked",
            ));
        }
        let mut rest = line.as_slice();
        loop {
            let late = |error| TransportError {
                detail: "the program did not answer in time and was ended".to_owned(),
                ..error
            };
            let left = timed.deadline().left("an answer").map_err(late)?;
            let (may_write, has_ended) = self.turn(!rest.is_empty(), left)?;
            if let Some(answer) = self.line()? {
                return match rest {
                    [] => Ok(answer),
                    _ => Err(TransportError::new(
                        TransportErrorKind::Garbled,
                        "the program answered before it was asked",
                    )),
                };
            }
            if has_ended {
                return Err(self.ended());
            }
            if may_write && !rest.is_empty() {
                rest = self.write(rest)?;
                if rest.is_empty() {
                    timed.sent();
                }
            }
        }
    }

    /// Writes as much as the program takes now; gives the rest.
    fn write<'a>(&mut self, line: &'a [u8]) -> Result<&'a [u8], TransportError> {
        let Some(input) = &self.input else {
            return Err(self.ended());
        };
        match rustix::io::write(input, line) {
            Ok(written) => Ok(line.get(written..).unwrap_or_default()),
            Err(Errno::AGAIN | Errno::INTR) => Ok(line),
            Err(error) => Err(TransportError::broken("asking the program", &error.into())),
        }
    }

    /// The next whole line of its output.
    fn line(&mut self) -> Result<Option<String>, TransportError> {
        let [output, _] = &mut self.streams;
        let garbled = |what| TransportError::new(TransportErrorKind::Garbled, what);
        let Some(end) = output.kept.iter().position(|byte| *byte == b'\n') else {
            return match output.kept.len() > MOST_LINE {
                true => Err(garbled("the program's line has no end")),
                false => Ok(None),
            };
        };
        let line: Vec<u8> = output.kept.drain(..=end).collect();
        match String::from_utf8(line) {
            Ok(line) if line.len() <= MOST_LINE => Ok(Some(line)),
            _ => Err(garbled("the program's line is too long or no UTF-8")),
        }
    }

    /// Waits until the program takes more, has said something, or has ended. Tells whether it takes
    /// more, and whether it can say no more.
    fn turn(&mut self, is_writing: bool, wait: Duration) -> Result<(bool, bool), TransportError> {
        let input = self.input.as_ref().filter(|_| is_writing);
        let mut watched = vec![PollFd::new(&self.process, PollFlags::IN)];
        for stream in &self.streams {
            let pipe = stream.pipe.iter();
            watched.extend(pipe.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        }
        watched.extend(input.map(|input| PollFd::new(input, PollFlags::OUT)));
        match poll(&mut watched, Timespec::try_from(wait).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(TransportError::io("waiting for the program", &error.into())),
        }
        let has_event = |of: Option<&PollFd<'_>>| of.is_some_and(|of| !of.revents().is_empty());
        let may_write = input.is_some() && has_event(watched.last());
        let has_ended = has_event(watched.first());
        drop(watched);
        loop {
            let before = self.output().kept.len();
            ready(None, &mut self.streams, Duration::ZERO)?;
            let output = self.output();
            let is_closed = output.pipe.is_none();
            // What a program printed last is still in its pipe.
            if !has_ended || is_closed || output.kept.len() == before || before > MOST_LINE {
                return Ok((may_write, has_ended || is_closed));
            }
        }
    }

    fn output(&self) -> &Stream {
        let [output, _] = &self.streams;
        output
    }

    /// The error of one that can say no more.
    fn ended(&mut self) -> TransportError {
        // One that ends closes its output first.
        let grace = Deadline::after(GRACE);
        while let Ok(left) = grace.left("the program's end")
            && ready(Some(&self.process), &mut self.streams, left) == Ok(false)
        {}
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let pid = self.child.as_ref().map(Pid::from_child);
        // It is not buried yet: the number of its group stays its own.
        let status = pid.and_then(|pid| waitid(WaitId::Pid(pid), options).ok().flatten());
        let how = match status.map(|status| (status.exit_status(), status.terminating_signal())) {
            Some((Some(code), _)) => format!("the program has ended with exit status {code}"),
            Some((None, signal)) => {
                let signal = signal.unwrap_or_default();
                format!("the program was ended by signal {signal}")
            }
            None => "the program has closed its output".to_owned(),
        };
        TransportError::new(TransportErrorKind::Closed, how)
    }

    /// Puts its error output into the log.
    fn log_errors(&mut self) {
        let [_, errors] = &mut self.streams;
        // A line that has no end yet is waited for, but not for ever.
        let is_over = errors.pipe.is_none() || self.is_spoilt || errors.kept.len() > MOST_LINE;
        let end = match is_over {
            true => errors.kept.len(),
            false => errors
                .kept
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1),
        };
        let said: Vec<u8> = errors.kept.drain(..end).collect();
        let said = blotted(&said, &self.secrets);
        let lines = said.split(|byte| *byte == b'\n');
        let mut lines = lines.filter(|line| !line.is_empty());
        for line in lines.by_ref().take(MOST_LOGGED) {
            let shown = line.get(..MOST_OF_EACH).unwrap_or(line);
            info!("{}: {}", self.label, String::from_utf8_lossy(shown));
        }
        match lines.count() {
            0 => {}
            more => warn!("{}: and {more} lines more, which are left out", self.label),
        }
    }
}

/// A program that does not take what it is asked must not make us wait for it.
fn never_block(input: &OwnedFd) -> rustix::io::Result<()> {
    fcntl_setfl(input, fcntl_getfl(input)? | OFlags::NONBLOCK)
}

impl Drop for Companion {
    /// The end of its input asks a program to end; one that is spoilt is ended with all that it has
    /// started, and so is one that does not obey.
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        drop(self.input.take());
        let farewell = Deadline::after(FAREWELL);
        while !self.is_spoilt
            && let Ok(left) = farewell.left("the program's end")
        {
            match ready(Some(&self.process), &mut self.streams, left) {
                Ok(false) => {}
                Ok(true) => {
                    self.log_errors();
                    let _ = children::wait(&mut child);
                    return;
                }
                Err(_) => break,
            }
        }
        command::end(child, &mut self.streams, self.running.as_ref());
    }
}
