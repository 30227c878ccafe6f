//! The reboot of several outlets: all off, pause, all on.
//!
//! The members stand in their workers' queues like any other job. What they have in common is
//! here: whether all have come to their turn, when the pause begins, whether an off failed. A member
//! waits for the others before its off, so that no outlet is dark while another is still behind
//! other requests. The dispatcher sees to it that no two groups wait for each other: a group enters
//! all its lanes in one step.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The state that the members of one reboot share.
pub(super) struct Group {
    pause: Duration,
    /// Members whose turn has not come yet.
    absent: usize,
    /// Members whose off has not ended yet.
    offs_left: usize,
    /// An off failed: no member starts any more, and those that are off go on at once.
    pub(super) has_failed: bool,
    /// Members that wait for the others, before their off or after it. The call tells a member when it
    /// goes on.
    parked: Vec<Box<dyn FnOnce(Instant) + Send>>,
}

impl Group {
    pub(super) fn new(members: usize, pause: Duration) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            pause,
            absent: members,
            offs_left: members,
            has_failed: false,
            parked: Vec::new(),
        }))
    }

    /// A member has come to its turn, and waits for the others: `resume` says when it goes on. A
    /// member calls this once, before its off; one that is refused or lost does not.
    pub(super) fn arrive(&mut self, resume: impl FnOnce(Instant) + Send + 'static, now: Instant) {
        self.absent = self.absent.saturating_sub(1);
        self.parked.push(Box::new(resume));
        if self.has_failed || self.absent == 0 {
            self.resume_parked(now);
        }
    }

    /// A member was switched off, or perhaps was: `resume` says when it is switched on again. Every
    /// member calls this or [`Group::off_failed`] once.
    pub(super) fn went_dark(
        &mut self,
        resume: impl FnOnce(Instant) + Send + 'static,
        failed: bool,
        now: Instant,
    ) {
        self.parked.push(Box::new(resume));
        self.off_ended(failed, now);
    }

    /// A member was not switched off.
    pub(super) fn off_failed(&mut self, now: Instant) {
        self.off_ended(true, now);
    }

    fn off_ended(&mut self, failed: bool, now: Instant) {
        self.offs_left = self.offs_left.saturating_sub(1);
        self.has_failed |= failed;
        if self.has_failed {
            self.resume_parked(now);
        } else if self.offs_left == 0 {
            self.resume_parked(now + self.pause);
        }
    }

    /// A member was lost with its worker, by a bug or a stop: nobody else starts, and those that are
    /// off are switched on.
    pub(super) fn lost(&mut self, now: Instant) {
        self.has_failed = true;
        self.resume_parked(now);
    }

    /// The members that wait go on at `due`.
    fn resume_parked(&mut self, due: Instant) {
        self.parked.drain(..).for_each(|resume| resume(due));
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
    use crate::dispatch::held::held;
    use crate::dispatch::job::{Claim, Job, Step};
    use crate::dispatch::place::Place;
    use crate::dispatch::ticket::asked;
    use crate::request::{Done, FailureKind, Outlet, PduName, Proof};

    #[test]
    fn a_member_that_is_lost_frees_those_that_wait() {
        for is_dark in [false, true] {
            let (ticket, replied) = asked();
            let now = Instant::now();
            let pause = Duration::from_secs(3600);
            let group = Group::new(2, pause);
            let [waits, lost] = ["1", "2"].map(|id| {
                let asker = Claim::new(&ticket, &PduName::new("pdu"), Place::uncounted());
                let mut job = Job::new(Outlet::new(id), Step::RebootOff(pause), vec![asker]);
                job.group = Some(Arc::clone(&group));
                job
            });
            let (resume, resumed) = crossbeam_channel::bounded(1);
            let resume = move |due| resume.send(due).expect("parked");
            if is_dark {
                held(&group).went_dark(resume, false, now);
            } else {
                held(&group).arrive(resume, now);
            }
            assert!(resumed.is_empty(), "it waits for the other member");
            drop(lost);
            assert!(resumed.try_recv().is_ok_and(|due| due <= Instant::now()));
            assert!(held(&group).has_failed);
            waits.end(&Ok(Done {
                state: None,
                attempts: 2,
                proof: Proof::State,
            }));
            let outcome = replied.try_recv().expect("answered");
            assert!(outcome.is_err_and(|failure| failure.kind == FailureKind::Internal));
        }
    }
}
