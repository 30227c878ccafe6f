//! The on that an outlet is owed: a reboot switched it off, or perhaps did, and it is not confirmed
//! on again.

use std::time::{Duration, Instant};

/// First pause before an on that is owed is tried again; doubled up to [`OWED_PAUSE_MAX`].
pub(super) const OWED_PAUSE: Duration = Duration::from_secs(5);
const OWED_PAUSE_MAX: Duration = Duration::from_secs(60);

/// A slot of the outlet's lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owed {
    /// When to try, unless a job of the lane switches the outlet by then; `None` when the daemon
    /// stops and has given up.
    pub(super) due: Option<Instant>,
    pause: Duration,
    tries: u32,
    /// An on for it has failed.
    pub(super) has_failed: bool,
    /// When to try again to record it, if that could not be done.
    pub(super) record_due: Option<Instant>,
}

impl Owed {
    pub(super) fn new(due: Instant) -> Self {
        Self {
            due: Some(due),
            pause: OWED_PAUSE,
            tries: 0,
            has_failed: false,
            record_due: None,
        }
    }

    /// The daemon stops: the outlet is tried at once, and so often as that allows.
    pub(super) fn hasten(&mut self, now: Instant) {
        self.due = Some(now);
        self.tries = 0;
    }

    /// The on of a client's job failed; was that the first on that failed?
    pub(super) fn job_failed(&mut self, now: Instant) -> bool {
        self.due = Some(now + OWED_PAUSE);
        !std::mem::replace(&mut self.has_failed, true)
    }

    /// The on failed. While stopping it is tried so often, with this pause; otherwise until it is on.
    pub(super) fn failed(&mut self, now: Instant, stopping: Option<(u32, Duration)>) {
        self.has_failed = true;
        self.tries += 1;
        self.due = match stopping {
            Some((most, _)) if self.tries >= most => None,
            Some((_, pause)) => Some(now + pause),
            None => Some(now + self.pause),
        };
        self.pause = (self.pause * 2).min(OWED_PAUSE_MAX);
    }
}
