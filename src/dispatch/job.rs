//! One outlet's part of a request, in a worker's queue.

use super::group::Group;
use super::held::held;
use super::place::Place;
use super::ticket::Ticket;
use crate::request::{Failure, FailureKind, Outcome, Outlet, PduName, Proof, Switch};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The key of the lane in which jobs stand whose outlet only the PDU knows, one behind the other:
/// they may all be for the same outlet.
pub(super) const LOBBY: &str = "\0lobby";

/// One job. Only the worker that has it ends it. Dropping it before it is ended answers with an
/// internal failure, so that no client ever waits for nothing.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) outlet: Outlet,
    pub(super) step: Step,
    /// Usually one; several who asked for the same side by side; nobody for an on that is owed.
    pub(super) askers: Vec<Claim>,
    /// The reboot of several outlets that this is a part of.
    pub(super) group: Option<Arc<Mutex<Group>>>,
    /// Nobody waits for it: it gives way to jobs that somebody waits for.
    pub(super) is_background: bool,
    /// Only the PDU knows which outlet this is for. Until it has said so, the job waits in the lobby.
    pub(super) is_in_lobby: bool,
    /// The order in which the queue took its jobs.
    pub(super) number: u64,
    /// Not before this moment; `None` while it is parked, until somebody says when it goes on.
    pub(super) due: Option<Instant>,
    /// Jobs that one client asks for at once have the same: the order among them is of no matter.
    pub(super) errand: u64,
    /// Not to be done by one command with others: that has failed.
    pub(super) is_alone: bool,
    /// Driver calls of this step so far.
    pub(super) attempts: u32,
    /// Driver calls of all steps.
    pub(super) total: u32,
    /// The proof of the weakest of its steps so far.
    pub(super) proof: Proof,
    /// The last failed attempt.
    pub(super) last: Option<Failure>,
    /// As a member of a group it has come to its turn, and waits or has waited for the others.
    pub(super) has_arrived: bool,
    /// The reboot's off failed, and some attempt of it may have reached the outlet: its on is sent all
    /// the same.
    pub(super) trouble: Option<Failure>,
    /// An earlier reboot already owes this outlet its on.
    pub(super) was_owed: bool,
}

/// A request that a job is for, and its place in the queue.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) ticket: Arc<Ticket>,
    pdu: PduName,
    place: Place,
}

impl Claim {
    pub(super) fn new(ticket: &Arc<Ticket>, pdu: &PduName, place: Place) -> Self {
        ticket.has_job(pdu);
        Self {
            ticket: Arc::clone(ticket),
            pdu: pdu.clone(),
            place,
        }
    }
}

/// The purpose of a job's next driver call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// On or off.
    Switch(Switch),
    /// Read the state.
    State,
    /// A reboot's first half; the pause follows.
    RebootOff(Duration),
    /// A reboot's second half.
    RebootOn,
    /// The on that an unfinished reboot owes its outlet.
    OwedOn,
}

impl Step {
    /// Will this job put the outlet into a state of its own?
    pub(super) fn switches(self) -> bool {
        self != Self::State
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(to) => to.fmt(f),
            Self::State => f.write_str("reading the state"),
            Self::RebootOff(_) => f.write_str("reboot, off"),
            Self::RebootOn => f.write_str("reboot, on"),
            Self::OwedOn => f.write_str("unfinished reboot, on"),
        }
    }
}

impl Job {
    /// A job that is due at once; the queue numbers it.
    pub(super) fn new(outlet: Outlet, step: Step, askers: Vec<Claim>) -> Box<Self> {
        Box::new(Self {
            outlet,
            step,
            askers,
            group: None,
            is_background: false,
            is_in_lobby: false,
            number: 0,
            due: Some(Instant::now()),
            errand: 0,
            is_alone: false,
            attempts: 0,
            total: 0,
            proof: Proof::State,
            last: None,
            has_arrived: false,
            trouble: None,
            was_owed: false,
        })
    }

    /// It waits for its PDU to say which outlet it is for.
    pub(super) fn enter_lobby(&mut self) {
        self.outlet = self.outlet.clone().known_as(LOBBY);
        self.is_in_lobby = true;
    }

    /// The PDU has said which outlet it is for: it begins anew.
    pub(super) fn leave_lobby(&mut self, outlet: Outlet) {
        self.outlet = outlet;
        self.is_in_lobby = false;
        (self.attempts, self.total) = (0, 0);
    }

    /// Its first driver call is due; false when everybody who asked has cancelled.
    pub(super) fn begin(&mut self) -> bool {
        self.askers.retain(|asker| asker.ticket.begin());
        !self.askers.is_empty()
    }

    /// Drops those who have cancelled, and their places; false when nobody is left.
    pub(super) fn is_wanted(&mut self) -> bool {
        self.askers.retain(|asker| !asker.ticket.has_ended());
        !self.askers.is_empty()
    }

    /// The request with this number is cancelled; false when nobody else asked.
    pub(super) fn is_wanted_without(&mut self, cancelled: u64) -> bool {
        self.askers.retain(|asker| asker.ticket.id != cancelled);
        !self.askers.is_empty()
    }

    /// Is it a client's question for the state of the outlet whose lane it stands in?
    pub(super) fn is_read(&self) -> bool {
        self.step == Step::State && !self.is_in_lobby
    }

    /// Is it neither parked nor to wait any longer?
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Has a driver been called for it?
    pub(super) fn is_begun(&self) -> bool {
        self.attempts > 0 || self.step == Step::RebootOn
    }

    /// May one command of the driver do this job and the other?
    pub(super) fn may_go_with(&self, other: &Self) -> bool {
        let is_fit = |job: &Self| {
            let is_switch = matches!(job.step, Step::Switch(_));
            is_switch && job.attempts == 0 && !job.is_alone && !job.is_in_lobby
        };
        self.step == other.step && self.errand == other.errand && is_fit(self) && is_fit(other)
    }

    /// Takes over those who ask for the same as this job, which has not begun; gives the job back
    /// when it is not the same.
    pub(super) fn join(&mut self, mut other: Box<Self>) -> Option<Box<Self>> {
        let may_share = |job: &Self| {
            let is_simple = matches!(job.step, Step::Switch(_) | Step::State);
            job.attempts == 0 && is_simple
        };
        let is_same = self.step == other.step
            && may_share(self)
            && may_share(&other)
            && self.outlet.as_str() == other.outlet.as_str();
        if !is_same {
            return Some(other);
        }
        self.askers.append(&mut other.askers);
        self.is_background &= other.is_background;
        None
    }

    /// The delay has passed.
    pub(super) fn enter(&mut self) {
        let places = self.askers.iter_mut().map(|asker| &mut asker.place);
        places.for_each(Place::enter);
    }

    /// Answers everybody who asked. Each gets its answer when its place is free again.
    pub(super) fn end(mut self, outcome: &Outcome) {
        self.answer(outcome);
    }

    fn answer(&mut self, outcome: &Outcome) {
        for Claim { ticket, pdu, place } in self.askers.drain(..) {
            drop(place);
            ticket.job_ended(pdu, &self.outlet, outcome.clone());
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.askers.is_empty() {
            return;
        }
        if let Some(group) = &self.group {
            held(group).lost(Instant::now());
        }
        self.answer(&Err(Failure::new(
            FailureKind::Internal,
            "the daemon lost this request: this is a bug",
        )));
    }
}
