//! The pulse of a thread: another thread asks for it, and the thread gives it when it comes past.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The question for one thread's next sign of life; the thread and those who ask share it.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    /// The thread's name for people.
    pub(super) name: &'static str,
    is_awaited: Arc<AtomicBool>,
}

impl Pulse {
    pub(super) fn of(name: &'static str) -> Self {
        Self {
            name,
            is_awaited: Arc::default(),
        }
    }

    /// Asks the thread for a sign of life.
    pub(super) fn ask(&self) {
        self.is_awaited.store(true, Ordering::Release);
    }

    /// The thread lives.
    pub(super) fn give(&self) {
        self.is_awaited.store(false, Ordering::Release);
    }

    /// Has the thread given no sign since the last question?
    pub(super) fn is_awaited(&self) -> bool {
        self.is_awaited.load(Ordering::Acquire)
    }
}
