//! How long to wait before the next copy of a request. A small agent carries out every copy, one after
//! the other: copies that come faster than it works pile up, and all later answers come later still.

use std::time::Duration;

/// The wait for an agent that we do not know yet, and the shortest one for any.
const SHORTEST: Duration = Duration::from_secs(1);

/// A short attempt still has room for this many such first waits, so for three further copies.
const ROOM: u32 = 8;

/// An agent's usual time for an answer, learned from those it gave (RFC 6298 does so for TCP).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    usual: Duration,
    /// How far answers were from that.
    spread: Duration,
    /// Only the answer to a single copy gives the time for sure. After others this is the longest
    /// that it can be: good enough for the next request, which then gives it for sure.
    is_sure: bool,
}

impl Pace {
    /// The answer came `after` the first copy was sent, and that was the `only` one.
    pub(super) fn learn(&mut self, after: Duration, only: bool) {
        *self = match (only, self.is_sure) {
            (true, true) => Self {
                usual: (self.usual * 7 + after) / 8,
                spread: (self.spread * 3 + self.usual.abs_diff(after)) / 4,
                is_sure: true,
            },
            (true, false) => Self {
                usual: after,
                spread: after / 2,
                is_sure: true,
            },
            (false, _) => Self {
                usual: self.usual.max(after),
                spread: Duration::ZERO,
                is_sure: false,
            },
        };
    }

    /// The waits after each copy, in an attempt of this length.
    pub(super) fn pauses(&self, time: Duration) -> Pauses {
        let late = self.usual + self.usual / 4;
        let wanted = if self.is_sure {
            self.usual + 4 * self.spread.max(self.usual / 4)
        } else {
            late
        };
        let wanted = wanted.max(SHORTEST).min(time / ROOM);
        // A copy before the usual time is waste, even in a short attempt; but we always send one.
        let first = wanted.max(late.min(time / 4 * 3));
        Pauses {
            next: first,
            least: first / 2,
        }
    }
}

/// See [`Pace::pauses`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Pauses {
    next: Duration,
    least: Duration,
}

impl Pauses {
    /// How long to wait now, with this much time left.
    pub(super) fn next(&mut self, left: Duration) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2);
        // The agent carries out a copy with hardly any time left, but its answer comes too late.
        if left < pause.saturating_add(self.least) {
            left
        } else {
            pause
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(30);

    /// When copies are sent, in milliseconds, if no answer comes.
    fn copies(pace: Pace, time: Duration) -> Vec<u128> {
        let mut pauses = pace.pauses(time);
        let (mut at, mut sent) = (Duration::ZERO, Vec::new());
        while at < time {
            sent.push(at.as_millis());
            at += pauses.next(time - at);
        }
        sent
    }

    #[test]
    fn pauses_grow_and_use_the_whole_attempt() {
        assert_eq!(copies(Pace::default(), TIME), [0, 1000, 3000, 7000, 15_000]);
        assert_eq!(
            copies(Pace::default(), Duration::from_secs(1)),
            [0, 125, 375, 875]
        );
        assert_eq!(copies(Pace::default(), Duration::from_secs(33)).len(), 6);
        // No copy for the last second.
        assert_eq!(
            copies(Pace::default(), Duration::from_millis(31_300)).len(),
            5
        );
    }

    /// Attempts of `time` each at an agent that takes `work` for each copy of each, one after the
    /// other: how many copies each sent, and whether it was answered.
    fn attempts(work: Duration, time: Duration) -> Vec<(usize, bool)> {
        let mut pace = Pace::default();
        // When the agent is through with each copy.
        let (mut now, mut answers) = (Duration::ZERO, vec![Duration::ZERO]);
        let mut attempts = Vec::new();
        for _ in 0..20 {
            let (end, start) = (now + time, now);
            let (mut pauses, before, mut until) = (pace.pauses(time), answers.len(), now);
            while now < end {
                let free = answers.last().copied().unwrap_or_default();
                answers.push(free.max(now) + work);
                let pause = pauses.next(end - now);
                until = (now + pause).min(end);
                // As in an exchange, answers to older requests put off the next copy.
                for answer in answers.iter().take(before) {
                    if (now..until).contains(answer) {
                        until = (*answer + pause).min(end);
                    }
                }
                now = until.min(answers[before]);
                if now < until {
                    break;
                }
            }
            let count = answers.len() - before;
            if now < until {
                pace.learn(now - start, count == 1);
            }
            attempts.push((count, now < until));
        }
        attempts
    }

    #[test]
    fn a_slow_agent_is_not_swamped() {
        let seconds = Duration::from_secs;
        for millis in [200, 900, 1200, 1500, 2000, 2700, 5000] {
            let work = Duration::from_millis(millis);
            for time in [work * 3, seconds(10), seconds(30), seconds(300)] {
                let attempts = attempts(work, time);
                let (first, then) = attempts.split_at(4);
                let copies: usize = first.iter().map(|(count, _)| count).sum();
                assert!(copies <= 8, "{millis} in {time:?}: {attempts:?}");
                assert!(
                    then.iter().all(|attempt| *attempt == (1, true)),
                    "{millis} in {time:?}: {attempts:?}"
                );
            }
        }
    }

    #[test]
    fn what_a_lost_datagram_taught_is_forgotten_with_the_next_answer() {
        let quick = Duration::from_millis(10);
        let mut pace = Pace::default();
        pace.learn(quick, true);
        assert_eq!(copies(pace, TIME)[1], 1000);
        pace.learn(Duration::from_secs(3) + quick, false);
        assert!(copies(pace, TIME)[1] > 3000);
        pace.learn(quick, true);
        assert_eq!(copies(pace, TIME)[1], 1000);
    }
}
