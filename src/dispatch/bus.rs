//! A wire that several PDUs share: one of them at a time, in the order they asked.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Turns on one wire. Who holds the turn gives it up after a bounded time: every driver call has a
/// deadline.
#[derive(Debug, Default)]
pub(super) struct Bus {
    turns: Mutex<Turns>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Turns {
    /// The number the next comer draws.
    next: u64,
    /// The number that is served.
    served: u64,
}

/// The turn of one worker; with it the wire is given to the next, however that comes about.
#[derive(Debug)]
pub(super) struct Turn(Arc<Bus>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().served += 1;
        self.0.changed.notify_all();
    }
}

impl Bus {
    /// Waits for this worker's turn.
    pub(super) fn enter(self: &Arc<Self>) -> Turn {
        let mut turns = self.lock();
        let mine = turns.next;
        turns.next += 1;
        while turns.served != mine {
            turns = self
                .changed
                .wait(turns)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Turn(Arc::clone(self))
    }

    /// Does anybody wait behind the one that holds the turn?
    pub(super) fn others_wait(&self) -> bool {
        let turns = self.lock();
        turns.next > turns.served + 1
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
