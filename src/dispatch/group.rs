//! The reboot of several outlets: all off, pause, all on.
//!
//! The members stand in their workers' queues like any other job. What they have in common is
//! here: whether all have come to their turn, when the pause begins, whether an off failed. A member
//! waits for the others before its off, so that no outlet is dark while another is still behind
//! other requests. The dispatcher sees to it that no two groups wait for each other: a group enters
//! all its lanes in one step.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The state that the members of one reboot share.
pub(super) struct Group {
    pause: Duration,
    muster: Mutex<Muster>,
}

/// The members' progress.
struct Muster {
    /// Members whose turn has not come yet.
    absent: usize,
    /// Members whose off has not ended yet.
    offs_left: usize,
    /// An off failed: no member starts any more, and those that are off go on at once.
    failed: bool,
    /// Members that wait for the others, before their off or after it. The call tells a member when it
    /// goes on.
    parked: Vec<Box<dyn FnOnce(Instant) + Send>>,
}

impl Group {
    pub(super) fn new(members: usize, pause: Duration) -> Arc<Self> {
        let muster = Muster {
            absent: members,
            offs_left: members,
            failed: false,
            parked: Vec::new(),
        };
        Arc::new(Self {
            pause,
            muster: Mutex::new(muster),
        })
    }

    /// A member has come to its turn, and waits for the others: `resume` says when it goes on. A
    /// member calls this once, before its off; one that is refused or lost does not.
    pub(super) fn arrive(&self, resume: impl FnOnce(Instant) + Send + 'static, now: Instant) {
        let mut muster = self.muster();
        muster.absent = muster.absent.saturating_sub(1);
        muster.parked.push(Box::new(resume));
        if muster.failed || muster.absent == 0 {
            muster.resume_parked(now);
        }
    }

    /// Has an off failed, so that nobody else should be switched off?
    pub(super) fn has_failed(&self) -> bool {
        self.muster().failed
    }

    /// A member was switched off, or perhaps was: `resume` says when it is switched on again. Every
    /// member calls this or [`Group::off_failed`] once.
    pub(super) fn went_dark(
        &self,
        resume: impl FnOnce(Instant) + Send + 'static,
        failed: bool,
        now: Instant,
    ) {
        let mut muster = self.muster();
        muster.parked.push(Box::new(resume));
        self.off_ended(muster, failed, now);
    }

    /// A member was not switched off.
    pub(super) fn off_failed(&self, now: Instant) {
        self.off_ended(self.muster(), true, now);
    }

    fn off_ended(&self, mut muster: MutexGuard<'_, Muster>, failed: bool, now: Instant) {
        muster.offs_left = muster.offs_left.saturating_sub(1);
        muster.failed |= failed;
        if muster.failed {
            muster.resume_parked(now);
        } else if muster.offs_left == 0 {
            muster.resume_parked(now + self.pause);
        }
    }

    /// A member was lost with its worker, by a bug or a stop: nobody else starts, and those that are
    /// off are switched on.
    pub(super) fn lost(&self, now: Instant) {
        let mut muster = self.muster();
        muster.failed = true;
        muster.resume_parked(now);
    }

    fn muster(&self) -> MutexGuard<'_, Muster> {
        self.muster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Muster {
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
                group.went_dark(resume, false, now);
            } else {
                group.arrive(resume, now);
            }
            assert!(resumed.is_empty(), "it waits for the other member");
            drop(lost);
            assert!(resumed.try_recv().is_ok_and(|due| due <= Instant::now()));
            assert!(group.has_failed());
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
