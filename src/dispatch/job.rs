//! One request, or one member of a group, in a worker's queue.

use super::group::Group;
use super::place::Place;
use super::ticket::Ticket;
use crate::request::{Failure, FailureKind, Outcome, Outlet, Proof, Switch};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One job. Dropping it unanswered answers it with an internal failure, so that no client ever
/// waits for nothing.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) outlet: Outlet,
    pub(super) step: Step,
    /// Nobody waits for it: it gives way to jobs that somebody waits for.
    pub(super) is_background: bool,
    /// Driver calls of this step so far.
    pub(super) attempts: u32,
    /// Driver calls of all steps.
    pub(super) total: u32,
    /// What proves the weakest of its steps so far.
    pub(super) proof: Proof,
    /// The last failed attempt.
    pub(super) last: Option<Failure>,
    /// Some attempt of a reboot's off may have reached the outlet.
    pub(super) maybe_dark: bool,
    /// As a member of a group it has come to its turn, and waits or has waited for the others.
    pub(super) has_arrived: bool,
    /// The reboot's off failed; its on is sent all the same.
    pub(super) trouble: Option<Failure>,
    /// An earlier reboot already owes this outlet its on.
    pub(super) was_owed: bool,
    pub(super) answer: Answer,
}

/// What the next driver call of a job is for.
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
        }
    }
}

impl Job {
    pub(super) fn new(outlet: Outlet, step: Step, answer: Answer) -> Self {
        Self {
            outlet,
            step,
            is_background: false,
            attempts: 0,
            total: 0,
            proof: Proof::State,
            last: None,
            maybe_dark: false,
            has_arrived: false,
            trouble: None,
            was_owed: false,
            answer,
        }
    }

    /// The group this job is a member of.
    pub(super) fn group(&self) -> Option<&Arc<Group>> {
        match &self.answer.to {
            To::Group(group) => Some(group),
            To::Clients(_) => None,
        }
    }

    /// Its first driver call is due; false when everybody who asked has cancelled.
    pub(super) fn begin(&self) -> bool {
        match &self.answer.to {
            // Each one is told, so no short cut.
            To::Clients(tickets) => tickets.iter().filter(|ticket| ticket.begin()).count() > 0,
            To::Group(group) => group.begin(),
        }
    }

    /// Has everybody who asked cancelled before it began? If only some have, their places are free.
    pub(super) fn forget_cancelled(&mut self) -> bool {
        if self.is_begun() {
            return false;
        }
        let tickets = match &mut self.answer.to {
            To::Clients(tickets) => tickets,
            To::Group(group) => return group.is_cancelled(),
        };
        let kept: Vec<bool> = tickets.iter().map(|t| !t.is_cancelled()).collect();
        if !kept.contains(&true) {
            return true;
        }
        // Each has its place.
        let (mut of_tickets, mut of_places) = (kept.iter(), kept.iter());
        tickets.retain(|_| of_tickets.next() == Some(&true));
        let places = &mut self.answer.places;
        places.retain(|_| of_places.next() == Some(&true));
        false
    }

    /// Has a driver been called for it?
    pub(super) fn is_begun(&self) -> bool {
        self.attempts > 0 || self.step == Step::RebootOn
    }

    /// Has it been neither tried nor put off?
    fn is_fresh(&self) -> bool {
        self.attempts == 0 && matches!(self.step, Step::Switch(_) | Step::State)
    }

    /// Takes over those who ask for the same as this job, which has not begun; gives the job back
    /// when it is not the same.
    pub(super) fn join(&mut self, mut other: Self) -> Option<Self> {
        let same = self.step == other.step
            && self.is_fresh()
            && other.is_fresh()
            && self.outlet.as_str() == other.outlet.as_str();
        match (&mut self.answer.to, &mut other.answer.to) {
            (To::Clients(mine), To::Clients(more)) if same => {
                mine.append(more);
                self.answer.places.append(&mut other.answer.places);
                self.is_background &= other.is_background;
                None
            }
            _ => Some(other),
        }
    }
}

/// Where a job's outcome goes, and its places in the queue, given back before the answer is sent.
pub(super) struct Answer {
    to: To,
    places: Vec<Place>,
}

enum To {
    /// Usually one; several who asked for the same side by side.
    Clients(Vec<Arc<Ticket>>),
    Group(Arc<Group>),
}

impl Answer {
    pub(super) fn to_client(ticket: Arc<Ticket>, place: Place) -> Self {
        Self {
            to: To::Clients(vec![ticket]),
            places: vec![place],
        }
    }

    pub(super) fn to_group(group: Arc<Group>, place: Place) -> Self {
        Self {
            to: To::Group(group),
            places: vec![place],
        }
    }

    /// The delay has passed.
    pub(super) fn enter(&mut self) {
        self.places.iter_mut().for_each(Place::enter);
    }

    pub(super) fn send(mut self, outcome: Outcome) {
        self.deliver(&outcome);
    }

    /// Answers, and is still to be answered: a bug put in on purpose.
    #[cfg(test)]
    pub(super) fn repeat(&self, outcome: &Outcome) {
        match &self.to {
            To::Clients(tickets) => tickets
                .iter()
                .for_each(|ticket| ticket.end(outcome.clone())),
            To::Group(group) => group.end(outcome.clone()),
        }
    }

    fn deliver(&mut self, outcome: &Outcome) {
        self.places.clear();
        match std::mem::replace(&mut self.to, To::Clients(Vec::new())) {
            To::Clients(tickets) => tickets
                .iter()
                .for_each(|ticket| ticket.end(outcome.clone())),
            To::Group(group) => group.end(outcome.clone()),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let is_sent = matches!(&self.to, To::Clients(tickets) if tickets.is_empty());
        if !is_sent {
            if let To::Group(group) = &self.to {
                group.lost(Instant::now());
            }
            self.deliver(&Err(Failure::new(
                FailureKind::Internal,
                "the daemon lost this request: this is a bug",
            )));
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}
