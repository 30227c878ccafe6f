//! One request over several outlets: all off, pause, all on; success only if all succeed.
//!
//! The members stand in their workers' queues like any other job. What they have in common is
//! here: whether all have come to their turn, when the pause begins, whether an off failed, and
//! the one answer. A member of a reboot waits for the others before its off, so that no outlet is
//! dark while another is still behind other requests. That no two groups wait for each other is the
//! dispatcher's doing: a group enters all its lanes in one step.

use super::ticket::Ticket;
use crate::request::{Done, Failure, Outcome, Proof, State};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the members of one request share.
pub(super) struct Group {
    pause: Duration,
    ticket: Arc<Ticket>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Members whose turn has not come yet.
    absent: usize,
    /// Members whose off has not ended yet.
    offs_left: usize,
    /// Members that have not ended yet.
    left: usize,
    /// An off failed: no member starts any more, and those that are off go on at once.
    failed: bool,
    /// Members that wait for the others, before their off or after it.
    parked: Vec<Resume>,
    attempts: u32,
    proof: Proof,
    states: Vec<State>,
    failures: Vec<Failure>,
}

/// Tells a parked member's worker when its off or its on is due.
type Resume = Box<dyn FnOnce(Instant) + Send>;

impl Group {
    /// A group of `members`, answered once through its ticket.
    pub(super) fn new(
        members: usize,
        pause: Duration,
        ticket: Arc<Ticket>,
        now: Instant,
    ) -> Arc<Self> {
        let inner = Inner {
            absent: members,
            offs_left: members,
            left: members,
            failed: false,
            parked: Vec::new(),
            attempts: 0,
            proof: Proof::State,
            states: Vec::new(),
            failures: Vec::new(),
        };
        let group = Arc::new(Self {
            pause,
            ticket,
            inner: Mutex::new(inner),
        });
        // Once it is cancelled nobody waits for the others.
        let ended = Arc::downgrade(&group);
        let release = move |_: &Ticket| {
            if let Some(group) = ended.upgrade() {
                group.lost(now);
            }
        };
        group.ticket.follow(Box::new(release));
        group
    }

    /// A member of a reboot has come to its turn, and waits for the others: `resume` says when it
    /// goes on. A member calls this once, before its off; one that is refused or lost does not.
    pub(super) fn arrive(&self, resume: impl FnOnce(Instant) + Send + 'static, now: Instant) {
        let mut inner = self.lock();
        inner.absent = inner.absent.saturating_sub(1);
        inner.parked.push(Box::new(resume));
        if inner.failed || inner.absent == 0 {
            inner.resume_parked(now);
        }
    }

    /// A member's first driver call is due; false when the request was cancelled.
    pub(super) fn begin(&self) -> bool {
        self.ticket.begin()
    }

    /// Was the request cancelled?
    pub(super) fn is_cancelled(&self) -> bool {
        self.ticket.is_cancelled()
    }

    /// Has an off failed, so that nobody else should be switched off?
    pub(super) fn has_failed(&self) -> bool {
        self.lock().failed
    }

    /// A member was switched off, or perhaps was: `resume` says when it is switched on again. Every
    /// member calls this or [`Group::off_failed`] once before [`Group::end`], unless the group is
    /// not a reboot.
    pub(super) fn went_dark(
        &self,
        resume: impl FnOnce(Instant) + Send + 'static,
        failed: bool,
        now: Instant,
    ) {
        self.off_ended(Some(Box::new(resume)), failed, now);
    }

    /// A member was not switched off.
    pub(super) fn off_failed(&self, now: Instant) {
        self.off_ended(None, true, now);
    }

    fn off_ended(&self, dark: Option<Resume>, failed: bool, now: Instant) {
        let mut inner = self.lock();
        inner.offs_left = inner.offs_left.saturating_sub(1);
        inner.failed |= failed;
        inner.parked.extend(dark);
        if inner.failed || inner.offs_left == 0 {
            let due = if inner.failed { now } else { now + self.pause };
            inner.resume_parked(due);
        }
    }

    /// A member was lost with its worker, by a bug or a stop, or the request is over: nobody else
    /// starts, and those that are off are switched on.
    pub(super) fn lost(&self, now: Instant) {
        let mut inner = self.lock();
        inner.failed = true;
        inner.resume_parked(now);
    }

    /// A member has ended. The last one answers the client.
    pub(super) fn end(&self, outcome: Outcome) {
        let mut inner = self.lock();
        match outcome {
            Ok(done) => {
                inner.attempts += done.attempts;
                inner.proof = inner.proof.min(done.proof);
                inner.states.extend(done.state);
            }
            Err(failure) => inner.failures.push(failure),
        }
        inner.left = inner.left.saturating_sub(1);
        if inner.left > 0 {
            return;
        }
        let outcome = inner.outcome();
        drop(inner);
        self.ticket.end(outcome);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inner {
    /// The members that wait go on at `due`.
    fn resume_parked(&mut self, due: Instant) {
        self.parked.drain(..).for_each(|resume| resume(due));
    }

    /// The one answer of all members.
    fn outcome(&mut self) -> Outcome {
        if let Some(first) = self.failures.first() {
            let reasons: Vec<&str> = self
                .failures
                .iter()
                .map(|failure| failure.reason.as_str())
                .collect();
            return Err(Failure::new(first.kind, reasons.join("; ")));
        }
        let state = match self.states.split_first() {
            None => None,
            Some((first, rest)) if rest.iter().all(|state| state == first) => Some(first.clone()),
            Some(_) => {
                let all: Vec<String> = self.states.iter().map(ToString::to_string).collect();
                Some(State::Unknown(format!(
                    "the outlets differ: {}",
                    all.join(", ")
                )))
            }
        };
        Ok(Done {
            state,
            attempts: self.attempts,
            proof: self.proof,
        })
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("pause", &self.pause)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::job::Answer;
    use crate::dispatch::place::Place;
    use crate::dispatch::ticket::asked;
    use crate::request::FailureKind;

    #[test]
    fn a_member_that_is_lost_frees_those_that_wait() {
        for is_dark in [false, true] {
            let (ticket, replied) = asked();
            let now = Instant::now();
            let group = Group::new(2, Duration::from_secs(3600), ticket, now);
            let (resume, resumed) = crossbeam_channel::bounded(1);
            let resume = move |due| resume.send(due).expect("parked");
            if is_dark {
                group.went_dark(resume, false, now);
            } else {
                group.arrive(resume, now);
            }
            assert!(resumed.is_empty(), "it waits for the other member");
            drop(Answer::to_group(Arc::clone(&group), Place::uncounted()));
            assert!(resumed.try_recv().is_ok_and(|due| due <= Instant::now()));
            assert!(group.has_failed());
            group.end(Ok(Done {
                state: None,
                attempts: 2,
                proof: Proof::State,
            }));
            let outcome = replied.try_recv().expect("answered");
            assert!(outcome.is_err_and(|failure| failure.kind == FailureKind::Internal));
        }
    }
}
