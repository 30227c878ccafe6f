//! A wire that several PDUs share: one of them at a time, in the order they asked.

use super::held::held;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// Turns on one wire.
#[derive(Debug, Default)]
pub(super) struct Bus {
    /// The workers that stand in line; the first has the wire.
    line: Mutex<VecDeque<ThreadId>>,
    changed: Condvar,
    /// The longest turn.
    longest: Mutex<Duration>,
}

/// The turn of one worker; with it the wire is given to the next, however that comes about.
#[derive(Debug)]
pub(super) struct BusTurn(Arc<Bus>);

impl Drop for BusTurn {
    fn drop(&mut self) {
        held(&self.0.line).pop_front();
        self.0.changed.notify_all();
    }
}

impl Bus {
    /// Turns of somebody on this wire may last so long.
    pub(super) fn admit(&self, longest: Duration) {
        let mut known = held(&self.longest);
        *known = known.max(longest);
    }

    /// Waits for this worker's turn, for each one before it as long as a turn may last. Who has the
    /// turn gives it up in time, as every driver call has a deadline, unless its driver is beyond
    /// help: then there is no turn, after the time that is given back.
    pub(super) fn enter(self: &Arc<Self>) -> Result<BusTurn, Duration> {
        let longest = *held(&self.longest);
        let mut line = held(&self.line);
        let me = thread::current().id();
        let ahead = u32::try_from(line.len()).unwrap_or(u32::MAX);
        line.push_back(me);
        let patience = longest.saturating_mul(ahead);
        let began = Instant::now();
        let is_mine = |line: &VecDeque<ThreadId>| line.front() == Some(&me);
        let (mut line, _) = self
            .changed
            .wait_timeout_while(line, patience, |line| !is_mine(line))
            .unwrap_or_else(PoisonError::into_inner);
        if is_mine(&line) {
            return Ok(BusTurn(Arc::clone(self)));
        }
        line.retain(|worker| *worker != me);
        Err(began.elapsed())
    }

    /// Does anybody wait behind the one that has the turn?
    pub(super) fn others_wait(&self) -> bool {
        held(&self.line).len() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_is_never_given_up_is_waited_for_in_vain_but_not_for_ever() {
        let bus = Arc::new(Bus::default());
        bus.admit(Duration::from_secs(60));
        let first = bus.enter().expect("a free wire");
        let second = {
            let bus = Arc::clone(&bus);
            thread::spawn(move || bus.enter())
        };
        while !bus.others_wait() {
            thread::yield_now();
        }
        // It stands third, and two turns may last so long each.
        let brief = Duration::from_millis(10);
        *held(&bus.longest) = brief;
        let third = thread::scope(|scope| scope.spawn(|| bus.enter()).join().expect("no panic"));
        assert!(third.expect_err("no turn") >= 2 * brief);
        drop(first);
        let second = second.join().expect("no panic").expect("its turn");
        assert!(!bus.others_wait(), "the third has left the line");
        drop(second);
        assert!(bus.enter().is_ok());
    }
}
