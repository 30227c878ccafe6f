//! Locks between processes: on a file, or a folder.

use super::{Deadline, pause};
use std::fs::{File, TryLockError};
use std::time::Duration;

/// How often we try again to take a lock that somebody else has.
const POLL: Duration = Duration::from_millis(20);

/// Takes the lock of a file; waits until the deadline while somebody else has it. The lock ends with
/// the file's last handle, or when the holder gives it back.
///
/// # Errors
///
/// [`TryLockError::WouldBlock`] when somebody still has it at the deadline.
pub fn lock(file: &File, deadline: Deadline) -> Result<(), TryLockError> {
    loop {
        match (file.try_lock(), deadline.within(POLL).left("a lock")) {
            (Err(TryLockError::WouldBlock), Ok(wait)) => pause(wait),
            (taken, _) => return taken,
        }
    }
}
