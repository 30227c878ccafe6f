//! A shell on the host: bytes to and from it, for dialogues.
//!
//! It has a terminal, as a person's would, because the consoles of PDUs want one. Nothing is shared
//! with other connections: a console serves one dialogue.

use super::{ASKPASS_SOCKET, Private, SshError, Target, asker, failure, without_program};
use crate::transport::expect::ByteStream;
use crate::transport::{Deadline, TransportError, TransportErrorKind, children, printable};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How much of what the client says of itself is kept: its end.
const MOST_SAID: usize = 4096;

/// How long the host may take to end a shell that has read its last line.
const END_PATIENCE: Duration = Duration::from_millis(500);

/// What the client says once the host has let us in.
const WELCOME: &str = "Authenticated to ";

/// An open shell; it ends when this is dropped.
#[derive(Debug)]
pub struct Shell {
    child: Child,
    /// None at the end.
    input: Option<OwnedFd>,
    output: OwnedFd,
    errors: OwnedFd,
    said: Vec<u8>,
}

/// What a look at the client's two outputs has found.
struct Seen {
    has_output: bool,
    has_ended: bool,
}

impl Shell {
    /// Logs in.
    pub fn open(target: &Target, deadline: Deadline) -> Result<Self, SshError> {
        let left = deadline.left("logging in")?;
        let private = Private::new()?;
        let arguments = target.arguments(None, left.as_secs().clamp(1, 10));
        let mut command = Command::new("ssh");
        command
            .args(arguments)
            .env("SSH_ASKPASS", asker()?)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env(ASKPASS_SOCKET, private.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = children::start(&mut command)
            .map_err(|error| without_program(TransportError::io("running ssh", &error)))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            end(&mut child);
            let what = "ssh has no pipes";
            return Err(TransportError::new(TransportErrorKind::Io, what).into());
        };
        let mut shell = Self {
            child,
            input: Some(input.into()),
            output: output.into(),
            errors: errors.into(),
            said: Vec::new(),
        };
        for pipe in [&shell.output, &shell.errors]
            .into_iter()
            .chain(&shell.input)
        {
            let set = fcntl_setfl(pipe, OFlags::NONBLOCK);
            set.map_err(|error| TransportError::io("opening a shell", &error.into()))?;
        }
        private.asked(&target.password, || shell.log_in(deadline))??;
        Ok(shell)
    }

    /// Waits until the host has let us in.
    fn log_in(&mut self, deadline: Deadline) -> Result<(), SshError> {
        loop {
            let seen = self.look(deadline)?;
            let said = String::from_utf8_lossy(&self.said);
            if seen.has_output || said.contains(WELCOME) {
                return Ok(());
            }
            if seen.has_ended {
                let closed = || {
                    let what = format!("ssh ended: {}", printable(self.said.trim_ascii()));
                    TransportError::new(TransportErrorKind::NoConnection, what).into()
                };
                return Err(failure(&said).unwrap_or_else(closed));
            }
        }
    }

    /// Waits for something to come, and takes in what the client says of itself.
    fn look(&mut self, deadline: Deadline) -> Result<Seen, TransportError> {
        let left = deadline.left("an answer")?;
        let mut pipes = [
            PollFd::new(&self.output, PollFlags::IN),
            PollFd::new(&self.errors, PollFlags::IN),
        ];
        wait(&mut pipes, Timespec::try_from(left).ok())?;
        let [output, errors] = pipes.map(|pipe| pipe.revents());
        let mut chunk = [0; 1024];
        let more = match errors.is_empty() {
            true => None,
            false => read(&self.errors, &mut chunk)?,
        };
        self.said
            .extend(chunk.iter().take(more.unwrap_or_default()));
        let surplus = self.said.len().saturating_sub(MOST_SAID);
        self.said.drain(..surplus);
        Ok(Seen {
            has_output: output.contains(PollFlags::IN),
            has_ended: output.contains(PollFlags::HUP) && matches!(more, None | Some(0)),
        })
    }

    /// Is it still there? What has come unasked is forgotten.
    pub fn is_alive(&mut self) -> bool {
        let mut chunk = [0; 4096];
        for _ in 0..64 {
            match read(&self.output, &mut chunk) {
                Ok(Some(0)) | Err(_) => return false,
                Ok(Some(_)) => {}
                Ok(None) => return true,
            }
        }
        false
    }
}

impl ByteStream for Shell {
    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), TransportError> {
        let mut rest = bytes;
        while let (false, Some(input)) = (rest.is_empty(), &self.input) {
            let left = deadline.left("sending")?;
            wait(
                &mut [PollFd::new(input, PollFlags::OUT)],
                Timespec::try_from(left).ok(),
            )?;
            match rustix::io::write(input, rest) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(TransportError::broken("sending", &error.into())),
            }
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut Vec<u8>, deadline: Deadline) -> Result<bool, TransportError> {
        loop {
            let seen = self.look(deadline)?;
            let mut chunk = [0; 4096];
            if seen.has_output
                && let Some(more) = read(&self.output, &mut chunk)?
            {
                into.extend(chunk.iter().take(more));
                return Ok(more > 0);
            }
            if seen.has_ended {
                return Ok(false);
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // What was typed last, perhaps a logout, is still on its way.
        self.input = None;
        let patience = Deadline::after(END_PATIENCE);
        let mut chunk = [0; 4096];
        while let Ok(seen) = self.look(patience)
            && !seen.has_ended
            && !matches!(read(&self.output, &mut chunk), Ok(Some(0)) | Err(_))
        {}
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // One that has ended by itself is as good.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = children::wait(child);
}

fn wait(pipes: &mut [PollFd<'_>], left: Option<Timespec>) -> Result<(), TransportError> {
    match poll(pipes, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(TransportError::io("waiting for ssh", &error.into())),
    }
}

/// What is there now; `None` when nothing is, 0 at the end.
fn read(pipe: &OwnedFd, chunk: &mut [u8]) -> Result<Option<usize>, TransportError> {
    match rustix::io::read(pipe, chunk) {
        Ok(more) => Ok(Some(more)),
        Err(Errno::INTR | Errno::AGAIN) => Ok(None),
        Err(error) => Err(TransportError::broken(
            "waiting for an answer",
            &io::Error::from(error),
        )),
    }
}
