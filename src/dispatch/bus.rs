//! A wire that several PDUs share: one of them at a time, in the order they asked.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Turns on one wire.
#[derive(Debug, Default)]
pub(super) struct Bus {
    turns: Mutex<Turns>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Turns {
    /// Who stands in line; the first has the wire.
    line: VecDeque<u64>,
    /// The number the next comer draws.
    next: u64,
    /// The longest turn.
    longest: Duration,
}

/// The turn of one worker; with it the wire is given to the next, however that comes about.
#[derive(Debug)]
pub(super) struct BusTurn(Arc<Bus>);

impl Drop for BusTurn {
    fn drop(&mut self) {
        self.0.lock().line.pop_front();
        self.0.changed.notify_all();
    }
}

impl Bus {
    /// Turns of somebody on this wire may last so long.
    pub(super) fn admit(&self, longest: Duration) {
        let mut turns = self.lock();
        turns.longest = turns.longest.max(longest);
    }

    /// Waits for this worker's turn, for each one before it as long as a turn may last. Who has the
    /// turn gives it up in time, as every driver call has a deadline, unless its driver is beyond
    /// help: then there is no turn, after the time that is given back.
    pub(super) fn enter(self: &Arc<Self>) -> Result<BusTurn, Duration> {
        let mut turns = self.lock();
        let mine = turns.next;
        turns.next += 1;
        let ahead = u32::try_from(turns.line.len()).unwrap_or(u32::MAX);
        turns.line.push_back(mine);
        let patience = turns.longest.saturating_mul(ahead);
        let began = Instant::now();
        let is_mine = |turns: &Turns| turns.line.front() == Some(&mine);
        let (mut turns, _) = self
            .changed
            .wait_timeout_while(turns, patience, |turns| !is_mine(turns))
            .unwrap_or_else(PoisonError::into_inner);
        if is_mine(&turns) {
            return Ok(BusTurn(Arc::clone(self)));
        }
        turns.line.retain(|number| *number != mine);
        Err(began.elapsed())
    }

    /// Does anybody wait behind the one that has the turn?
    pub(super) fn others_wait(&self) -> bool {
        self.lock().line.len() > 1
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_is_never_given_up_is_waited_for_in_vain_but_not_for_ever() {
        let bus = Arc::new(Bus::default());
        bus.admit(Duration::from_secs(60));
        let held = bus.enter().expect("a free wire");
        let second = {
            let bus = Arc::clone(&bus);
            std::thread::spawn(move || bus.enter())
        };
        while !bus.others_wait() {
            std::thread::yield_now();
        }
        // It stands third, and two turns may last so long each.
        let brief = Duration::from_millis(10);
        bus.lock().longest = brief;
        assert!(bus.enter().expect_err("no turn") >= 2 * brief);
        drop(held);
        let second = second.join().expect("no panic").expect("its turn");
        assert!(!bus.others_wait(), "the third has left the line");
        drop(second);
        assert!(bus.enter().is_ok());
    }
}
