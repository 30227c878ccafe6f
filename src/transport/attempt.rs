//! By when a call must come back, and what has become of the command meanwhile.
//!
//! A call that only asks is given a [`Deadline`]. A call that may switch something is given an
//! [`Attempt`]: the transport counts in it each copy of the command whose last byte it has sent,
//! and takes a copy back when the PDU has certainly not carried it out. So nobody but the transport
//! decides whether a command that failed may have been carried out.

use super::{TransportError, TransportErrorKind, now};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// The moment by which a call must have come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline at `moment`.
    pub fn at(moment: Instant) -> Self {
        Self(moment)
    }

    /// A deadline `wait` from now.
    pub fn after(wait: Duration) -> Self {
        Self(now() + wait)
    }

    /// The moment itself.
    pub fn moment(self) -> Instant {
        self.0
    }

    /// This deadline, or `wait` from now if that is earlier: for a step with its own patience.
    pub fn within(self, wait: Duration) -> Self {
        self.min(Self::after(wait))
    }

    /// The time left; a timeout error (naming `doing`) when there is none. Never zero, so it may
    /// be handed to calls that take zero as "for ever".
    pub fn left(self, doing: &str) -> Result<Duration, TransportError> {
        match self.0.checked_duration_since(now()) {
            Some(left) if !left.is_zero() => Ok(left),
            _ => Err(TransportError::new(
                TransportErrorKind::Timeout,
                format!("no time left for {doing}"),
            )),
        }
    }
}

/// One try of a command, and how many copies of it may have been carried out.
#[derive(Debug)]
pub struct Attempt {
    deadline: Deadline,
    copies: Cell<u32>,
}

impl Attempt {
    /// An attempt that must end by `deadline`. Nothing has been sent yet.
    pub fn new(deadline: Deadline) -> Self {
        Self {
            deadline,
            copies: Cell::new(0),
        }
    }

    /// By when it must have come back.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// May the PDU have carried out the command? If not, it has certainly not.
    pub fn may_have_acted(&self) -> bool {
        self.copies.get() > 0
    }
}

/// What a call is given that asks or switches: a [`Deadline`] or an [`Attempt`].
pub trait Timed: Copy {
    /// By when the call must have come back.
    fn deadline(self) -> Deadline;

    /// How many copies of the command may have been carried out.
    fn copies(self) -> u32;

    /// The last byte of a copy of the command is sent.
    fn sent(self);

    /// The PDU has certainly not carried out the copy sent last: it has refused it, or the copy
    /// cannot have reached it.
    fn turned_away(self);

    /// The same, with an earlier deadline.
    fn until(self, deadline: Deadline) -> Sooner<Self> {
        let deadline = deadline.min(self.deadline());
        Sooner {
            timed: self,
            deadline,
        }
    }

    /// Does `work`, which takes the answer to a copy of the command that it has sent. An answer that
    /// refuses the command takes this copy back, but no other.
    fn judge<T, E: Verdict>(self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let before = self.copies();
        work().inspect_err(|error| {
            if error.is_refusal() && self.copies() == before + 1 {
                self.turned_away();
            }
        })
    }
}

/// What an error says of the session in which it came, and of the command.
pub trait Verdict {
    /// The session has ended, perhaps while it was idle: a new one may do.
    fn is_lost(&self) -> bool;

    /// The session may still stand, and is left as the peer wants it left.
    fn may_stand(&self) -> bool;

    /// The peer has refused the command that was sent last.
    fn is_refusal(&self) -> bool;
}

impl Verdict for TransportError {
    fn is_lost(&self) -> bool {
        self.kind == TransportErrorKind::Closed
    }

    fn may_stand(&self) -> bool {
        false
    }

    fn is_refusal(&self) -> bool {
        self.kind == TransportErrorKind::Busy
    }
}

impl Timed for Deadline {
    fn deadline(self) -> Deadline {
        self
    }

    fn copies(self) -> u32 {
        0
    }

    fn sent(self) {}

    fn turned_away(self) {}
}

impl Timed for &Attempt {
    fn deadline(self) -> Deadline {
        self.deadline
    }

    fn copies(self) -> u32 {
        self.copies.get()
    }

    fn sent(self) {
        self.copies.set(self.copies.get().saturating_add(1));
    }

    fn turned_away(self) {
        self.copies.set(self.copies.get().saturating_sub(1));
    }
}

/// What [`Timed::until`] gives.
#[derive(Clone, Copy, Debug)]
pub struct Sooner<T> {
    timed: T,
    deadline: Deadline,
}

impl<T: Timed> Timed for Sooner<T> {
    fn deadline(self) -> Deadline {
        self.deadline
    }

    fn copies(self) -> u32 {
        self.timed.copies()
    }

    fn sent(self) {
        self.timed.sent();
    }

    fn turned_away(self) {
        self.timed.turned_away();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_takes_its_own_copy_back() {
        let attempt = &Attempt::new(Deadline::after(Duration::from_secs(1)));
        attempt.turned_away();
        assert!(!attempt.may_have_acted());
        attempt.sent();
        assert!(attempt.may_have_acted());
        attempt.turned_away();
        assert!(!attempt.may_have_acted());
        let busy = || {
            attempt.sent();
            Err::<(), _>(TransportError::new(TransportErrorKind::Busy, "in use"))
        };
        attempt.judge(busy).expect_err("busy");
        assert!(!attempt.may_have_acted());
        // The first copy is lost, the second is refused.
        attempt.sent();
        attempt.judge(busy).expect_err("busy");
        assert!(attempt.may_have_acted());
    }

    #[test]
    fn a_failure_before_the_command_or_after_two_copies_takes_none_back() {
        let attempt = &Attempt::new(Deadline::after(Duration::from_secs(1)));
        attempt.sent();
        for copies in [0, 2] {
            let work = || {
                (0..copies).for_each(|_| attempt.sent());
                Err::<(), _>(TransportError::new(TransportErrorKind::Busy, "in use"))
            };
            attempt.judge(work).expect_err("busy");
            assert_eq!(attempt.copies(), 1 + copies);
        }
    }
}
