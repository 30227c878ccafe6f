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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_every_copy_makes_sure() {
        let attempt = &Attempt::new(Deadline::after(Duration::from_secs(1)));
        attempt.turned_away();
        assert!(!attempt.may_have_acted());
        attempt.sent();
        assert!(attempt.may_have_acted());
        attempt.turned_away();
        assert!(!attempt.may_have_acted());
        // The first copy is lost, the second is refused.
        attempt.sent();
        attempt.sent();
        attempt.turned_away();
        assert!(attempt.may_have_acted());
    }
}
