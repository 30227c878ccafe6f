//! A lock file per PDU (or bus) in the state directory: keeps `--drive` and a running daemon from
//! speaking to one PDU at the same time. Beside it lies the note of the program that a driver runs:
//! when the daemon is killed, the next one waits for what that program still does to the PDU.

use super::file_name::short;
use crate::transport::leftover::{self, Noting};
use crate::transport::lock::lock;
use crate::transport::{Deadline, TransportError, TransportErrorKind};
use log::warn;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// The lock of one PDU or bus.
#[derive(Debug)]
pub(super) struct PduLock {
    path: PathBuf,
    /// While it is held.
    file: Option<File>,
    /// The log says that there is no lock.
    complained: bool,
}

impl PduLock {
    /// The lock for `name` (of a PDU or a bus) under the state directory.
    pub(super) fn new(state_directory: &Path, kind: &str, name: &str) -> Self {
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        let name = short(&name.to_string()).into_owned();
        Self {
            path: state_directory.join("locks").join(format!("{kind}-{name}")),
            file: None,
            complained: false,
        }
    }

    /// Takes the lock; waits for another process until the deadline. Where there can be none (a
    /// read-only folder, a full disk) the daemon serves the PDU without it.
    pub(super) fn acquire(&mut self, deadline: Deadline) -> Result<(), TransportError> {
        let file = match self.file.take().map_or_else(|| self.open(), Ok) {
            Ok(file) => file,
            Err(error) => {
                self.complain(&error);
                return Ok(());
            }
        };
        match lock(&file, deadline) {
            Ok(()) => {
                // The process that had it is gone, but for a program of its own perhaps.
                leftover::wait_for(&self.note(), deadline)?;
                self.file = Some(file);
            }
            Err(TryLockError::Error(error)) => self.complain(&error),
            Err(TryLockError::WouldBlock) => {
                let path = self.path.display();
                return Err(TransportError::new(
                    TransportErrorKind::Busy,
                    format!("another pdudaemon process is using this PDU (lock {path})"),
                ));
            }
        }
        Ok(())
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.path)
            // We can hold another user's lock without writing to it.
            .or_else(|error| File::open(&self.path).map_err(|_| error))
    }

    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            warn!(
                "lock {}: {error}; going on without it: another pdudaemon process could speak to this PDU at the same time",
                self.path.display()
            );
        }
    }

    /// Notes the programs that this thread runs, while it holds the lock.
    pub(super) fn note_programs(&self) -> Option<Noting> {
        self.file.as_ref()?;
        Some(leftover::note_at(self.note()))
    }

    fn note(&self) -> PathBuf {
        self.path.with_extension("command")
    }

    /// Gives the lock back.
    pub(super) fn release(&mut self) {
        // A program that another thread is about to start has it open for a moment: closing it is
        // not enough.
        if let Some(file) = self.file.take() {
            let _ = file.unlock();
        }
    }
}
