//! The plan decides what its worker does next, and what a result means: retries, pauses, reboots, the
//! outlets that are owed their on. Pure but for the answers it sends: time is passed in, and the driver is
//! called by the worker.

use super::held::held;
use super::job::{Job, Step};
use super::message::{Message, Stop};
use super::owed::Owed;
use super::queue::Queue;
use crate::driver::DriverError;
use crate::request::{Done, Failure, FailureKind, Outcome, Outlet, PduName, Proof, State, Switch};
use crossbeam_channel::Sender;
use log::{error, info, warn};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The rest of a reboot's pause once the daemon stops.
const STOP_PAUSE: Duration = Duration::from_secs(10);
/// Attempts of an on, and the pause between them, while stopping.
const STOP_ATTEMPTS: u32 = 3;
const STOP_RETRY_DELAY: Duration = Duration::from_secs(1);
/// A record that could not be made is tried again so soon.
pub(super) const RECORD_AGAIN: Duration = Duration::from_millis(500);

/// The worker's next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Call the driver for these outlets, by one command, then tell [`Plan::results`].
    Call(Vec<Outlet>, Call),
    /// Nothing until then, or until a message comes.
    Wait(Option<Instant>),
    /// Stopped, and nothing is left to do.
    Finished,
}

/// A driver call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Switch(Switch),
    State,
    /// Ask which outlet a name means.
    Find,
}

/// The result of a driver call that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gained {
    /// The outlet is switched so; what proves it.
    Switched(Switch, Proof),
    /// The outlet's state.
    Read(State),
    /// The outlet under the key that all its names share.
    Found(Outlet),
}

/// Why a driver call gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) error: DriverError,
    /// The command may have reached the outlet.
    pub(super) may_have_acted: bool,
    /// The driver panicked.
    is_bug: bool,
}

impl Trouble {
    pub(super) fn new(error: DriverError, may_have_acted: bool) -> Self {
        Self {
            error,
            may_have_acted,
            is_bug: false,
        }
    }

    /// The driver panicked with these words, at any point of the call.
    pub(super) fn panic(words: String) -> Self {
        let error = DriverError::Unexpected {
            expected: "no panic".into(),
            got: words,
        };
        Self {
            error,
            may_have_acted: true,
            is_bug: true,
        }
    }

    /// Does a further attempt make sense? After a command that may have been carried out it does,
    /// whatever the error says: the next answer may be about that.
    pub(super) fn is_transient(&self) -> bool {
        !self.is_bug && (self.error.is_transient() || self.may_have_acted)
    }

    /// Of a command about several outlets: has the PDU certainly not carried it out, and may it carry
    /// out others?
    fn is_for_the_many(&self) -> bool {
        !self.is_bug && !self.may_have_acted && !self.error.is_pdu_away()
    }

    fn kind(&self) -> FailureKind {
        match &self.error {
            _ if self.is_bug => FailureKind::Internal,
            error if error.is_pdu_away() => FailureKind::Unreachable,
            DriverError::NoSuchOutlet { .. } => FailureKind::NoSuchOutlet,
            DriverError::CannotRead(_) => FailureKind::CannotRead,
            _ => FailureKind::Refused,
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_bug {
            f.write_str("the driver failed, this is a bug: ")?;
        }
        self.error.fmt(f)
    }
}

/// Keeps record of outlets that are owed their on where a crash does not reach it.
pub(super) trait Ledger: Send {
    /// `outlet` is about to be switched off by a reboot, or has been. Returns once that is safely
    /// recorded, or cannot be (false); nothing is done if it is already.
    fn owe(&mut self, outlet: &Outlet) -> bool;
    /// Takes over what a dead process recorded of `outlet`; false when there is nothing new.
    fn adopt(&mut self, outlet: &Outlet) -> bool;
    /// `outlet` was not switched off after all.
    fn withdraw(&mut self, outlet: &Outlet);
    /// `outlet` is on, or is being switched off on purpose: nobody owes it anything any more.
    fn settle(&mut self, outlet: &Outlet);
}

/// No record at all.
impl Ledger for () {
    fn owe(&mut self, _: &Outlet) -> bool {
        true
    }
    fn adopt(&mut self, _: &Outlet) -> bool {
        false
    }
    fn withdraw(&mut self, _: &Outlet) {}
    fn settle(&mut self, _: &Outlet) {}
}

/// The state of one worker.
pub(super) struct Plan {
    pdu: PduName,
    /// Attempts per command, by the config.
    retries: u32,
    /// The pause between them.
    retrydelay: Duration,
    queue: Queue,
    /// What the driver is called for: several jobs that one command does, or one.
    running: VecDeque<Box<Job>>,
    ledger: Box<dyn Ledger>,
    /// The last call was for an on that is owed, and failed: what waits in the queue has its turn
    /// first.
    owed_failed: bool,
    /// Attempts in a row that found the PDU away.
    away: u32,
    /// While a PDU that is away is given time, nothing is tried.
    held_until: Option<Instant>,
    stopping: Option<Stop>,
    me: Sender<Message>,
}

impl Plan {
    pub(super) fn new(
        pdu: PduName,
        retries: u32,
        retrydelay: Duration,
        ledger: Box<dyn Ledger>,
        me: Sender<Message>,
    ) -> Self {
        Self {
            pdu,
            retries,
            retrydelay,
            queue: Queue::default(),
            running: VecDeque::new(),
            ledger,
            owed_failed: false,
            away: 0,
            held_until: None,
            stopping: None,
            me,
        }
    }

    /// Takes a job: into its lane or, if it has a delay, for later.
    pub(super) fn accept(&mut self, mut job: Box<Job>, due: Instant, now: Instant) {
        if self.stopping.is_some() {
            return self.refuse(*job, now);
        }
        // One that is cancelled from now on is cancelled by its number.
        if !job.is_wanted() {
            return;
        }
        if due > now {
            return self.queue.delay(job, due);
        }
        self.let_in(now);
        self.enter(job, now);
    }

    /// Jobs whose delay is over enter their lanes.
    fn let_in(&mut self, now: Instant) {
        while let Some(job) = self.queue.ripe(now) {
            self.enter(job, now);
        }
    }

    /// A job enters its lane; one that asks for the same as the job before it joins that job.
    fn enter(&mut self, mut job: Box<Job>, now: Instant) {
        job.enter();
        job.due = Some(now);
        if let Some(last) = self.queue.last(&job.outlet, now)
            && (job.is_background || !last.is_background)
        {
            match last.join(job) {
                None => return,
                Some(other) => job = other,
            }
        }
        self.queue.push(job);
    }

    /// The config has changed.
    pub(super) fn change(&mut self, retries: u32, retrydelay: Duration) {
        (self.retries, self.retrydelay) = (retries, retrydelay);
        self.held_until = None;
        self.away = 0;
    }

    /// Does any job wait for the PDU to say which outlet it is for?
    pub(super) fn has_lobby(&self) -> bool {
        self.queue.has_lobby()
    }

    /// An outlet that an earlier run may have left dark: if so, its on comes before anything that
    /// comes later.
    pub(super) fn owe_from_before(&mut self, outlet: &Outlet, now: Instant) {
        if self.ledger.adopt(outlet) {
            warn!(
                "PDU {}, outlet {outlet}: left off by an unfinished reboot of an earlier run; switching it on",
                self.pdu
            );
            self.queue.owe(outlet, now);
        }
    }

    /// A group says when its parked member goes on.
    pub(super) fn resume(&mut self, outlet: &Outlet, number: u64, due: Instant, now: Instant) {
        let due = match self.stopping {
            None => due,
            Some(Stop::Soon) => due.min(now + STOP_PAUSE),
            Some(Stop::Now) => now,
        };
        self.queue.unpark(outlet, number, due);
    }

    /// The request with this number has been cancelled: its job gives its place back, and what is
    /// behind it goes on.
    pub(super) fn cancel(&mut self, request: u64) {
        let is_wanted = |job: &mut Job| job.is_wanted_without(request);
        // Nobody waits for their answer any more.
        drop(self.queue.remove_unless(is_wanted));
    }

    /// Begins no further job; what a reboot switched off is switched on, sooner.
    pub(super) fn stop(&mut self, how: Stop, now: Instant) {
        // Nobody who was told to hurry slows down again.
        let how = match self.stopping {
            Some(Stop::Now) => Stop::Now,
            Some(Stop::Soon) | None => how,
        };
        self.stopping = Some(how);
        self.held_until = None;
        for mut job in self.queue.remove_unless(|job| job.step == Step::RebootOn) {
            if job.trouble.is_none() {
                self.refuse(*job, now);
                continue;
            }
            if let Some(group) = &job.group {
                held(group).off_failed(now);
            }
            job.step = Step::RebootOn;
            job.attempts = 0;
            job.due = Some(now);
            self.queue.push(job);
        }
        let limit = match how {
            Stop::Soon => now + STOP_PAUSE,
            Stop::Now => now,
        };
        self.queue.hasten(limit, now);
    }

    /// The next step at `now`, by commands that are about at most so many outlets each.
    pub(super) fn next(&mut self, now: Instant, at_once: usize) -> Next {
        self.let_in(now);
        self.record_again(now);
        if let Some(until) = self.held_until {
            if now < until {
                return Next::Wait(self.record_due().into_iter().chain([until]).min());
            }
            self.held_until = None;
        }
        // Where an on that is owed fails, it may take long each time, and must not keep everything
        // else waiting, other outlets' ons among it.
        while let Some(job) = self.queue.take(now, !self.owed_failed) {
            if let Some((job, call)) = self.begin(job, now) {
                self.running = VecDeque::from([job]);
                self.run_others(now, at_once);
                let outlets = self.running.iter().map(|job| job.outlet.clone());
                return Next::Call(outlets.collect(), call);
            }
        }
        let due = self.queue.next_due(now);
        if self.stopping.is_some() && due.is_none() && self.queue.is_empty() {
            return Next::Finished;
        }
        Next::Wait(due.into_iter().chain(self.record_due()).min())
    }

    /// The jobs whose turn is next run with the one that runs, as far as one command may do them all:
    /// nothing overtakes.
    fn run_others(&mut self, now: Instant, at_once: usize) {
        while let Some(first) = self.running.front()
            && self.running.len() < at_once
        {
            let Some(job) = self.queue.take_if(now, |job| first.may_go_with(job)) else {
                return;
            };
            if let Some((job, _)) = self.begin(job, now) {
                self.running.push_back(job);
            }
        }
    }

    /// A job has its turn: it goes to the driver with this call, unless it waits for its group or is
    /// over.
    fn begin(&mut self, mut job: Box<Job>, now: Instant) -> Option<(Box<Job>, Call)> {
        if job.is_in_lobby {
            return Some((job, Call::Find));
        }
        if let (Step::RebootOff(_), Some(group), false) = (job.step, &job.group, job.has_arrived) {
            let group = Arc::clone(group);
            job.has_arrived = true;
            let resume = self.resumption(&job);
            self.queue.park(job);
            held(&group).arrive(resume, now);
            return None;
        }
        if !job.is_begun() && job.step != Step::OwedOn && !job.begin() {
            // Everybody who asked has cancelled.
            self.leave(*job, now);
            return None;
        }
        let call = match job.step {
            Step::State => Call::State,
            Step::RebootOn | Step::OwedOn | Step::Switch(Switch::On) => Call::Switch(Switch::On),
            Step::Switch(Switch::Off) => {
                // A later off takes the place of an on that is owed.
                self.settle(&job.outlet);
                Call::Switch(Switch::Off)
            }
            Step::RebootOff(_)
                if job
                    .group
                    .as_ref()
                    .is_some_and(|group| held(group).has_failed) =>
            {
                self.give_up(job, now);
                return None;
            }
            Step::RebootOff(_) => {
                if job.attempts == 0 {
                    job.was_owed = self.queue.owe(&job.outlet, now);
                    self.record(&job.outlet, now);
                }
                Call::Switch(Switch::Off)
            }
        };
        Some((job, call))
    }

    /// Another member's off failed: this one is not switched off any more.
    fn give_up(&mut self, job: Box<Job>, now: Instant) {
        if job.trouble.is_some() {
            return self.go_dark(job, Duration::ZERO, now);
        }
        if job.is_begun() && !job.was_owed {
            self.withdraw(&job.outlet);
        }
        // The other member's failure is the answer; this one has nothing to add.
        self.leave(*job, now);
    }

    /// Records that the outlet is owed its on; if that cannot be done, later.
    fn record(&mut self, outlet: &Outlet, now: Instant) {
        let is_recorded = self.ledger.owe(outlet);
        if let Some(owed) = self.queue.owed_mut(outlet) {
            owed.record_due = (!is_recorded).then(|| now + RECORD_AGAIN);
        }
    }

    fn record_again(&mut self, now: Instant) {
        let is_due = |owed: &Owed| owed.record_due.is_some_and(|due| due <= now);
        let due = self.queue.owed().filter(|(_, owed)| is_due(owed));
        let due: Vec<Outlet> = due.map(|(outlet, _)| outlet.clone()).collect();
        for outlet in due {
            self.record(&outlet, now);
        }
    }

    fn record_due(&self) -> Option<Instant> {
        let owed = self.queue.owed();
        owed.filter_map(|(_, owed)| owed.record_due).min()
    }

    /// The number of outlets that are owed their on.
    pub(super) fn owed(&self) -> usize {
        self.queue.owed().count()
    }

    /// Outlets that stay off although their on was sent.
    pub(super) fn left_off(&self) -> impl Iterator<Item = &Outlet> {
        let left = self.queue.owed().filter(|(_, owed)| owed.has_failed);
        left.map(|(outlet, _)| outlet)
    }

    /// The end of the driver call that [`Plan::next`] asked for: the result for each of its outlets,
    /// in their order.
    pub(super) fn results(&mut self, results: Vec<Result<Gained, Trouble>>, now: Instant) {
        let is_away = |result: &Result<Gained, Trouble>| matches!(result, Err(trouble) if trouble.error.is_pdu_away());
        let is_away = results.iter().any(is_away);
        self.away = if is_away {
            self.away.saturating_add(1)
        } else {
            0
        };
        let jobs = std::mem::take(&mut self.running);
        let are_many = jobs.len() > 1;
        for (mut job, result) in jobs.into_iter().zip(results) {
            match &result {
                // Nothing is switched, and each by itself may do better.
                Err(trouble) if are_many && trouble.is_for_the_many() => {
                    job.is_alone = true;
                    self.queue.put_back(job, now);
                }
                _ => self.result(job, result, now),
            }
        }
    }

    fn result(&mut self, mut job: Box<Job>, result: Result<Gained, Trouble>, now: Instant) {
        job.attempts += 1;
        job.total += 1;
        self.owed_failed = job.step == Step::OwedOn && result.is_err();
        match result {
            Ok(Gained::Found(outlet)) => {
                self.queue.finish(&job.outlet);
                job.leave_lobby(outlet);
                self.enter(job, now);
            }
            Ok(gained) => self.succeeded(job, gained, now),
            Err(trouble) if job.step == Step::OwedOn => {
                self.owed_on_failed(&job.outlet, &trouble, now);
            }
            Err(trouble) => self.failed(job, &trouble, now),
        }
    }

    /// A call for another outlet has told the states of these: whoever waits for one has it.
    pub(super) fn also_read(&mut self, states: Vec<(Outlet, State)>, now: Instant) {
        for (outlet, state) in states {
            let Some(mut job) = self.queue.take_read(&outlet, now) else {
                continue;
            };
            match job.begin() {
                true => {
                    job.total += 1;
                    self.succeeded(job, Gained::Read(state), now);
                }
                false => self.leave(*job, now),
            }
        }
    }

    /// The outlets whose states are asked for now, oldest first.
    pub(super) fn awaited_states(&self, now: Instant) -> Vec<Outlet> {
        self.queue.reads(now)
    }

    /// Does nobody wait for the call that runs, but somebody look at the PDU?
    pub(super) fn is_look(&self) -> bool {
        self.running.iter().any(|job| job.is_background)
    }

    fn succeeded(&mut self, mut job: Box<Job>, gained: Gained, now: Instant) {
        let state = match gained {
            Gained::Read(state) => Some(state),
            Gained::Found(_) => None,
            Gained::Switched(_, proof) => {
                job.proof = job.proof.min(proof);
                None
            }
        };
        match job.step {
            Step::RebootOff(pause) => {
                job.trouble = None;
                return self.go_dark(job, pause, now);
            }
            Step::OwedOn => {
                info!(
                    "PDU {}, outlet {}: on again after an unfinished reboot",
                    self.pdu, job.outlet
                );
                return self.settle(&job.outlet);
            }
            Step::RebootOn | Step::Switch(Switch::On) => self.settle(&job.outlet),
            Step::Switch(Switch::Off) | Step::State => {}
        }
        let done = Done {
            state,
            attempts: job.total,
            proof: job.proof,
        };
        let outcome = job.trouble.take().map_or(Ok(done), Err);
        self.end(*job, &outcome);
    }

    fn failed(&mut self, mut job: Box<Job>, trouble: &Trouble, now: Instant) {
        let failure = self.failure(&job, trouble);
        let is_off = matches!(job.step, Step::RebootOff(_)) && !job.is_in_lobby;
        if is_off && (trouble.may_have_acted || job.trouble.is_some()) {
            job.trouble = Some(failure.clone());
        }
        job.last = Some(failure.clone());
        let (attempts, pause) = self.attempts(&job);
        let given_up = trouble.error.is_pdu_away() && self.away >= self.retries;
        if trouble.is_transient() && job.attempts < attempts && !given_up {
            warn!(
                "{}; attempts left {}",
                failure.reason,
                attempts - job.attempts
            );
            if trouble.error.is_pdu_away() && !pause.is_zero() {
                self.held_until = Some(now + pause);
            }
            return self.queue.put_back(job, now + pause);
        }
        match job.step {
            Step::RebootOff(_) if job.trouble.is_some() => {
                // No use in a pause after a failed off: the sooner the outlet is on, the better.
                return self.go_dark(job, Duration::ZERO, now);
            }
            Step::RebootOff(_) => {
                if !job.was_owed {
                    self.withdraw(&job.outlet);
                }
                if let Some(group) = &job.group {
                    held(group).off_failed(now);
                }
            }
            Step::RebootOn | Step::Switch(Switch::On) => {
                let owed = self.queue.owed_mut(&job.outlet);
                if owed.is_some_and(|owed| owed.job_failed(now)) {
                    warn!(
                        "PDU {}, outlet {}: off by a reboot whose on failed; trying again until it is on",
                        self.pdu, job.outlet
                    );
                }
            }
            Step::Switch(Switch::Off) | Step::State | Step::OwedOn => {}
        }
        let outcome = Err(job.trouble.take().unwrap_or(failure));
        self.end(*job, &outcome);
    }

    /// The attempts that a job's step has, and the pause between them.
    fn attempts(&self, job: &Job) -> (u32, Duration) {
        let (retries, retrydelay) = (self.retries, self.retrydelay);
        match self.stopping {
            // Nobody waits for it: the next list asks again.
            None if job.is_background => (1, Duration::ZERO),
            None => (retries, retrydelay),
            Some(Stop::Soon) if job.step == Step::RebootOn => {
                (retries.min(STOP_ATTEMPTS), retrydelay.min(STOP_RETRY_DELAY))
            }
            Some(Stop::Soon | Stop::Now) => (1, Duration::ZERO),
        }
    }

    /// Tells this worker that a parked member of a group goes on.
    fn resumption(&self, job: &Job) -> impl FnOnce(Instant) + Send + use<> {
        // A worker outlives the members it has parked.
        let (me, outlet, number) = (self.me.clone(), job.outlet.clone(), job.number);
        move |due| drop(me.send(Message::Resume(Box::new((outlet, number, due)))))
    }

    /// The outlet is off, or perhaps off: its on comes after the pause, whatever happens.
    fn go_dark(&mut self, mut job: Box<Job>, pause: Duration, now: Instant) {
        job.step = Step::RebootOn;
        job.attempts = 0;
        if let Some(group) = job.group.clone() {
            let (resume, failed) = (self.resumption(&job), job.trouble.is_some());
            self.queue.park(job);
            return held(&group).went_dark(resume, failed, now);
        }
        let pause = match self.stopping {
            None => pause,
            Some(Stop::Soon) => pause.min(STOP_PAUSE),
            Some(Stop::Now) => Duration::ZERO,
        };
        self.queue.put_back(job, now + pause);
    }

    /// Answers the job and lets its lane move on.
    fn end(&mut self, job: Job, outcome: &Outcome) {
        let outlet = job.outlet.clone();
        job.end(outcome);
        self.queue.finish(&outlet);
    }

    /// A job that is not to begin any more, and has nothing to say: its request is over, or another
    /// member speaks for it.
    fn leave(&mut self, job: Job, now: Instant) {
        if let (Step::RebootOff(_), Some(group)) = (job.step, &job.group) {
            held(group).off_failed(now);
        }
        let nothing = Done {
            state: None,
            attempts: job.total,
            proof: job.proof,
        };
        self.end(job, &Ok(nothing));
    }

    /// Answers a job that is not begun because the daemon stops.
    fn refuse(&mut self, mut job: Job, now: Instant) {
        if let Step::RebootOff(_) = job.step {
            if let Some(group) = &job.group {
                held(group).off_failed(now);
            }
            if job.is_begun() && !job.was_owed {
                self.withdraw(&job.outlet);
            }
        }
        let failure = job.last.take().unwrap_or_else(stopping);
        job.end(&Err(failure));
    }

    fn withdraw(&mut self, outlet: &Outlet) {
        if self.queue.settle(outlet) {
            self.ledger.withdraw(outlet);
        }
    }

    fn settle(&mut self, outlet: &Outlet) {
        self.queue.settle(outlet);
        // Another process may have owed it, and died.
        self.ledger.settle(outlet);
    }

    fn owed_on_failed(&mut self, outlet: &Outlet, trouble: &Trouble, now: Instant) {
        let Some(owed) = self.queue.owed_mut(outlet) else {
            return;
        };
        let stopping = self.stopping.map(|how| match how {
            Stop::Soon => (STOP_ATTEMPTS, STOP_RETRY_DELAY),
            Stop::Now => (1, STOP_RETRY_DELAY),
        });
        owed.failed(now, stopping);
        if owed.due.is_some() {
            warn!(
                "PDU {}, outlet {outlet}: still off after an unfinished reboot: {trouble}",
                self.pdu
            );
        } else {
            error!(
                "PDU {}, outlet {outlet}: LEFT OFF by a reboot whose on failed: {trouble}",
                self.pdu
            );
        }
    }

    fn failure(&self, job: &Job, trouble: &Trouble) -> Failure {
        let attempts = match job.attempts {
            1 => String::new(),
            many => format!(" (attempt {many})"),
        };
        let (pdu, outlet, step) = (&self.pdu, &job.outlet, job.step);
        let reason = format!("PDU {pdu}, outlet {outlet}: {step}: {trouble}{attempts}");
        Failure::new(trouble.kind(), reason)
    }
}

/// The answer to what is not begun because the daemon stops.
pub(super) fn stopping() -> Failure {
    Failure::new(FailureKind::Stopping, "the daemon is stopping")
}

#[cfg(test)]
mod tests;
