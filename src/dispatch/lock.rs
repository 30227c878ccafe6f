//! A lock file per PDU (or bus) in the state directory: keeps `--drive` and a running daemon from
//! speaking to one PDU at the same time.

use crate::transport::{Deadline, TransportError, TransportErrorKind};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a lock held by another process is tried again.
const POLL: Duration = Duration::from_millis(20);

/// The lock of one PDU or bus.
#[derive(Debug)]
pub(super) struct PduLock {
    path: PathBuf,
    /// Kept open between calls; the lock itself is given back in `release`.
    file: Option<File>,
}

impl PduLock {
    /// The lock for `name` (of a PDU or a bus) under the state directory.
    pub(super) fn new(state_directory: &Path, kind: &str, name: &str) -> Self {
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        Self {
            path: state_directory.join("locks").join(format!("{kind}-{name}")),
            file: None,
        }
    }

    /// Takes the lock; waits for another process until the deadline.
    pub(super) fn acquire(&mut self, deadline: Deadline) -> Result<(), TransportError> {
        let doing = format!("opening the lock {}", self.path.display());
        let file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&self.path)
                // Another user's lock can be held without writing to it.
                .or_else(|error| File::open(&self.path).map_err(|_| error))
                .map_err(|error| TransportError::io(&doing, &error))?,
        };
        loop {
            match file.try_lock() {
                Ok(()) => {
                    self.file = Some(file);
                    return Ok(());
                }
                Err(TryLockError::Error(error)) => return Err(TransportError::io(&doing, &error)),
                Err(TryLockError::WouldBlock) => {
                    let left = deadline.left("the lock").map_err(|_| {
                        let path = self.path.display();
                        TransportError::new(
                            TransportErrorKind::Busy,
                            format!("another pdudaemon process is using this PDU (lock {path})"),
                        )
                    })?;
                    std::thread::sleep(left.min(POLL));
                }
            }
        }
    }

    /// Gives the lock back.
    pub(super) fn release(&mut self) {
        // Closing the file would do it as well.
        if let Some(file) = &self.file
            && file.unlock().is_err()
        {
            self.file = None;
        }
    }
}
