//! A lock file per PDU (or bus) in the state directory: keeps `--drive` and a running daemon from
//! speaking to one PDU at the same time. The programs that a driver runs hold on to it: when the
//! daemon is killed, the next one waits for what they still do to the PDU.

use crate::transport::command::{self, Lent};
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
    /// It has been said that there is no lock to be had.
    complained: bool,
}

impl PduLock {
    /// The lock for `name` (of a PDU or a bus) under the state directory.
    pub(super) fn new(state_directory: &Path, kind: &str, name: &str) -> Self {
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        Self {
            path: state_directory.join("locks").join(format!("{kind}-{name}")),
            file: None,
            complained: false,
        }
    }

    /// Takes the lock; waits for another process until the deadline. Where none can be had (a
    /// folder that cannot be written, a full disk) the PDU is served without it.
    pub(super) fn acquire(&mut self, deadline: Deadline) -> Result<(), TransportError> {
        let file = match self.file.take().map_or_else(|| self.open(), Ok) {
            Ok(file) => file,
            Err(error) => {
                self.complain(&error);
                return Ok(());
            }
        };
        match lock(&file, deadline) {
            Ok(()) => self.file = Some(file),
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
            // Programs that get it as their input must find its end.
            .read(true)
            .write(true)
            .open(&self.path)
            // Another user's lock can be held without writing to it.
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

    /// Lets the programs that this thread runs hold on to the lock.
    pub(super) fn lend(&self) -> Option<Lent> {
        let file = self.file.as_ref()?.try_clone().ok()?;
        Some(command::lend(file))
    }

    /// Gives the lock back.
    pub(super) fn release(&mut self) {
        if let Some(file) = self.file.take() {
            // Closing it is not enough while a program left in the background has it open. And it is
            // not kept: such a program would come to hold the next lock too.
            let _ = file.unlock();
        }
    }
}
