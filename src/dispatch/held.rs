//! The one way in which this room takes a mutex.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the mutex. A thread that panicked while it held it has left nothing half written: each
/// change is made in one step, or can be seen in any state.
pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
