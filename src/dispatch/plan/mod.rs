//! What a worker does next, and what a result means: retries, pauses, reboots, the outlets that
//! are owed their on. Pure but for the answers it sends: time is passed in, and the driver is
//! called by the worker.

use super::job::{Job, Step};
use super::message::{Message, Stop};
use super::queue::{Class, Queue, Taken};
use crate::driver::DriverError;
use crate::request::{Done, Failure, FailureKind, Outlet, PduName, Proof, State, Switch};
use crossbeam_channel::Sender;
use log::{error, info, warn};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// First pause before an on that is owed is tried again; doubled up to [`OWED_PAUSE_MAX`].
const OWED_PAUSE: Duration = Duration::from_secs(5);
const OWED_PAUSE_MAX: Duration = Duration::from_secs(60);
/// The rest of a reboot's pause once the daemon is told to stop.
const STOP_PAUSE: Duration = Duration::from_secs(10);
/// Attempts of an on, and the pause between them, while stopping.
const STOP_ATTEMPTS: u32 = 3;
const STOP_RETRY_DELAY: Duration = Duration::from_secs(1);
/// A record that could not be made is tried again so soon.
pub(super) const RECORD_AGAIN: Duration = Duration::from_millis(500);

/// How a PDU's commands are retried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Attempts per command.
    pub(super) retries: u32,
    /// Pause between them.
    pub(super) retrydelay: Duration,
}

/// What the worker shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Call the driver, then tell [`Plan::result`].
    Call(Outlet, Call),
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
}

/// What a driver call gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gained {
    /// The outlet is switched so; what proves it.
    Switched(Switch, Proof),
    /// The outlet's state.
    Read(State),
}

/// A driver call that gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) why: Why,
    /// The PDU may have switched the outlet all the same: the attempt says so.
    pub(super) may_have_acted: bool,
}

/// Why a driver call gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Driver(DriverError),
    /// A bug in the driver.
    Panic(String),
}

impl Trouble {
    pub(super) fn is_transient(&self) -> bool {
        match &self.why {
            Why::Driver(error) => error.is_transient(),
            Why::Panic(_) => false,
        }
    }

    pub(super) fn is_pdu_away(&self) -> bool {
        match &self.why {
            Why::Driver(error) => error.is_pdu_away(),
            Why::Panic(_) => false,
        }
    }

    fn kind(&self) -> FailureKind {
        match &self.why {
            Why::Panic(_) => FailureKind::Internal,
            Why::Driver(error) if error.is_pdu_away() => FailureKind::Unreachable,
            Why::Driver(DriverError::NoSuchOutlet { .. }) => FailureKind::NoSuchOutlet,
            Why::Driver(DriverError::CannotRead(_)) => FailureKind::CannotRead,
            Why::Driver(_) => FailureKind::Refused,
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.why {
            Why::Driver(error) => error.fmt(f),
            Why::Panic(text) => write!(f, "the driver failed, this is a bug: {text}"),
        }
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

/// A bug put in on purpose, to see that the model finds it.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A request overtakes another of its outlet.
    Overtakes,
    /// The on of an off in doubt is not sent.
    LosesOn,
    /// A request is answered at a failed attempt already, and again at its end.
    AnswersTwice,
    /// Ons that are owed, and fail, keep the queue waiting.
    Starves,
    /// A request whose delay is not over stands in the way of others.
    DelaysHold,
    /// A record that could not be made is not tried again.
    ForgetsRecord,
}

/// The state of one worker.
pub(super) struct Plan {
    pdu: PduName,
    patience: Patience,
    queue: Queue<Job>,
    running: Option<Running>,
    /// Outlets that a reboot switched off, or perhaps did, and that are not confirmed on again.
    owed: HashMap<Outlet, Owed>,
    ledger: Box<dyn Ledger>,
    /// The last call was for an owed on, and failed: what waits in the queue has its turn first.
    owed_failed: bool,
    /// Attempts in a row that found the PDU away.
    away: u32,
    /// While a PDU that is away is given time, nothing is tried.
    held_until: Option<Instant>,
    stopping: Option<Stop>,
    retiring: bool,
    me: Sender<Message>,
    #[cfg(test)]
    pub(super) fault: Option<Fault>,
}

enum Running {
    Job(Taken<Job>),
    Owed(Outlet),
}

#[derive(Clone, Copy, Debug)]
struct Owed {
    /// When to try; `None` while a job of the outlet's lane sees to it.
    due: Option<Instant>,
    pause: Duration,
    tries: u32,
    /// An on for it has failed.
    has_failed: bool,
    /// When to try again to record it, if that could not be done.
    record_due: Option<Instant>,
}

impl Owed {
    const BY_JOB: Self = Self {
        due: None,
        pause: OWED_PAUSE,
        tries: 0,
        has_failed: false,
        record_due: None,
    };
}

impl Plan {
    pub(super) fn new(
        pdu: PduName,
        patience: Patience,
        ledger: Box<dyn Ledger>,
        me: Sender<Message>,
    ) -> Self {
        Self {
            pdu,
            patience,
            queue: Queue::default(),
            running: None,
            owed: HashMap::new(),
            ledger,
            owed_failed: false,
            away: 0,
            held_until: None,
            stopping: None,
            retiring: false,
            me,
            #[cfg(test)]
            fault: None,
        }
    }

    /// Takes a job: into its lane or, if it has a delay, for later.
    pub(super) fn accept(&mut self, job: Job, due: Instant, now: Instant) {
        if self.stopping.is_some() {
            return self.refuse(job, now);
        }
        #[cfg(test)]
        if self.fault == Some(Fault::DelaysHold) {
            let outlet = job.outlet.clone();
            return self.queue.push(outlet, Class::Foreground, due, job);
        }
        if due > now {
            return self.queue.delay(job.outlet.clone(), due, job);
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
    fn enter(&mut self, mut job: Job, now: Instant) {
        job.answer.enter();
        let background = job.is_background;
        if let Some(last) = self.queue.last(&job.outlet, now)
            && (background || !last.is_background)
        {
            match last.join(job) {
                None => return,
                Some(other) => job = other,
            }
        }
        #[cfg(test)]
        if self.fault == Some(Fault::Overtakes)
            && let Some(last) = self.queue.last(&job.outlet, now)
            && last.attempts == 0
            && last.step != Step::RebootOn
        {
            std::mem::swap(last, &mut job);
        }
        let class = if background {
            Class::Background
        } else {
            Class::Foreground
        };
        self.queue.push(job.outlet.clone(), class, now, job);
    }

    /// No further job will come: the plan is finished once all it has is done.
    pub(super) fn retire(&mut self) {
        self.retiring = true;
    }

    /// The config has changed; a PDU that had left it is back.
    pub(super) fn serve_on(&mut self, patience: Patience) {
        self.patience = patience;
        self.retiring = false;
        self.held_until = None;
        self.away = 0;
    }

    /// An outlet that an earlier run may have left dark: if so, its on comes before anything that
    /// comes later.
    pub(super) fn owe_from_before(&mut self, outlet: Outlet, now: Instant) {
        if !self.ledger.adopt(&outlet) {
            return;
        }
        warn!(
            "PDU {}, outlet {outlet}: left off by an unfinished reboot of an earlier run; switching it on",
            self.pdu
        );
        self.owed.insert(
            outlet,
            Owed {
                due: Some(now),
                ..Owed::BY_JOB
            },
        );
    }

    /// A group says when its parked member goes on.
    pub(super) fn resume(&mut self, outlet: &Outlet, due: Instant, now: Instant) {
        let due = match self.stopping {
            None => due,
            Some(Stop::Soon) => due.min(now + STOP_PAUSE),
            Some(Stop::Now) => now,
        };
        self.queue.unpark(outlet, due);
    }

    /// A request has been cancelled: it gives its place back, and what is behind it goes on, even if
    /// it was put off until later.
    pub(super) fn cancelled(&mut self, now: Instant) {
        // A member that waits for the others of its group goes when the group says so.
        let is_wanted = |job: &mut Job| !job.forget_cancelled() || job.has_arrived;
        for (outlet, job) in self.queue.remove_unless(is_wanted) {
            dismiss(job, now);
            self.see_to_owed(&outlet, now, OWED_PAUSE);
        }
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
        for (outlet, mut job) in self.queue.remove_unless(|job| job.step == Step::RebootOn) {
            match job.step {
                Step::RebootOff(_) if job.maybe_dark => {
                    let failure = job.last.clone().unwrap_or_else(stopping);
                    if let Some(group) = job.group() {
                        group.off_failed(now);
                    }
                    job.step = Step::RebootOn;
                    job.attempts = 0;
                    job.trouble = Some(failure);
                    self.queue.push(outlet, Class::Foreground, now, job);
                }
                Step::Switch(_) | Step::State | Step::RebootOff(_) | Step::RebootOn => {
                    self.refuse(job, now)
                }
            }
        }
        self.queue.hasten(match how {
            Stop::Soon => now + STOP_PAUSE,
            Stop::Now => now,
        });
        let waiting: Vec<Outlet> = self.owed.keys().cloned().collect();
        for outlet in waiting {
            self.see_to_owed(&outlet, now, Duration::ZERO);
        }
    }

    /// What to do at `now`.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        self.let_in(now);
        self.record_again(now);
        if let Some(until) = self.held_until {
            if now < until {
                return Next::Wait(self.record_due().into_iter().chain([until]).min());
            }
            self.held_until = None;
        }
        // Those that are owed come first; but where it fails, it may take long each time, and must not
        // keep everything else waiting, other outlets' ons among it.
        #[cfg(test)]
        if self.fault == Some(Fault::Starves) {
            self.owed_failed = false;
        }
        if !self.owed_failed
            && let Some(call) = self.owed_next(now)
        {
            return call;
        }
        while let Some(mut taken) = self.queue.take(now) {
            // The lane has the name its first job gave it; this one may write the same outlet in
            // another way, and a driver is given what its own client wrote.
            taken.outlet = taken.job.outlet.clone();
            let Some(mut taken) = self.gather(taken, now) else {
                continue;
            };
            let outlet = taken.outlet.clone();
            let is_new = taken.job.attempts == 0 && taken.job.step != Step::RebootOn;
            if is_new && !taken.job.begin() {
                // Cancelled, and answered by that.
                self.leave(taken, now);
                continue;
            }
            let call = match taken.job.step {
                Step::Switch(to) => {
                    if to == Switch::Off {
                        // A later off takes the place of an owed on.
                        self.settle(&outlet);
                    }
                    Call::Switch(to)
                }
                Step::State => Call::State,
                Step::RebootOn => Call::Switch(Switch::On),
                Step::RebootOff(_) if taken.job.group().is_some_and(|group| group.has_failed()) => {
                    if taken.job.maybe_dark {
                        taken.job.trouble = taken.job.last.clone();
                        self.go_dark(taken, Duration::ZERO, now);
                        continue;
                    }
                    if taken.job.is_begun() && !taken.job.was_owed {
                        self.withdraw(&outlet);
                    }
                    // Another member's failure is the answer; this one has nothing to add.
                    self.leave(taken, now);
                    continue;
                }
                Step::RebootOff(_) => {
                    if taken.job.attempts == 0 {
                        taken.job.was_owed =
                            self.owed.insert(outlet.clone(), Owed::BY_JOB).is_some();
                        self.record(&outlet, now);
                    }
                    Call::Switch(Switch::Off)
                }
            };
            self.running = Some(Running::Job(taken));
            return Next::Call(outlet, call);
        }
        if let Some(call) = self.owed_next(now) {
            return call;
        }
        let owed = self
            .owed
            .iter()
            .filter(|(outlet, _)| !self.switch_waits(outlet, now))
            .filter_map(|(_, owed)| owed.due);
        let due = owed.chain(self.queue.next_due()).min();
        let is_over =
            (self.stopping.is_some() && due.is_none()) || (self.retiring && self.owed.is_empty());
        if is_over && self.queue.is_empty() {
            return Next::Finished;
        }
        Next::Wait(due.into_iter().chain(self.record_due()).min())
    }

    /// Records that the outlet is owed its on; if that cannot be done, later.
    fn record(&mut self, outlet: &Outlet, now: Instant) {
        let is_recorded = self.ledger.owe(outlet);
        #[cfg(test)]
        let is_recorded = is_recorded || self.fault == Some(Fault::ForgetsRecord);
        if let Some(owed) = self.owed.get_mut(outlet) {
            owed.record_due = (!is_recorded).then(|| now + RECORD_AGAIN);
        }
    }

    fn record_again(&mut self, now: Instant) {
        let is_due = |owed: &Owed| owed.record_due.is_some_and(|due| due <= now);
        let due = self.owed.iter().filter(|(_, owed)| is_due(owed));
        let due: Vec<Outlet> = due.map(|(outlet, _)| outlet.clone()).collect();
        for outlet in due {
            self.record(&outlet, now);
        }
    }

    fn record_due(&self) -> Option<Instant> {
        self.owed.values().filter_map(|owed| owed.record_due).min()
    }

    /// Outlets that stay off although their on was sent.
    pub(super) fn left_off(&self) -> impl Iterator<Item = &Outlet> {
        let left = self.owed.iter().filter(|(_, owed)| owed.has_failed);
        left.map(|(outlet, _)| outlet)
    }

    /// The end of the driver call that [`Plan::next`] asked for.
    pub(super) fn result(&mut self, result: Result<Gained, Trouble>, now: Instant) {
        let away = matches!(&result, Err(trouble) if trouble.is_pdu_away());
        self.away = if away { self.away.saturating_add(1) } else { 0 };
        let running = self.running.take();
        self.owed_failed = matches!(running, Some(Running::Owed(_))) && result.is_err();
        match running {
            Some(Running::Job(taken)) => match result {
                Ok(gained) => self.succeeded(taken, gained, now),
                Err(trouble) => self.failed(taken, &trouble, now),
            },
            Some(Running::Owed(outlet)) => self.owed_tried(&outlet, result.err(), now),
            None => {}
        }
    }

    fn succeeded(&mut self, mut taken: Taken<Job>, gained: Gained, now: Instant) {
        let job = &mut taken.job;
        job.attempts += 1;
        job.total += 1;
        let state = match gained {
            Gained::Read(state) => Some(state),
            Gained::Switched(_, proof) => {
                job.proof = job.proof.min(proof);
                None
            }
        };
        match job.step {
            Step::RebootOff(pause) => return self.go_dark(taken, pause, now),
            Step::RebootOn | Step::Switch(Switch::On) => self.settle(&taken.outlet),
            Step::Switch(Switch::Off) | Step::State => {}
        }
        let done = Done {
            state,
            attempts: taken.job.total,
            proof: taken.job.proof,
        };
        let outcome = taken.job.trouble.take().map_or(Ok(done), Err);
        self.end(taken, outcome, now);
    }

    fn failed(&mut self, mut taken: Taken<Job>, trouble: &Trouble, now: Instant) {
        let job = &mut taken.job;
        job.attempts += 1;
        job.total += 1;
        let failure = self.failure(&taken, trouble);
        let job = &mut taken.job;
        job.maybe_dark |= matches!(job.step, Step::RebootOff(_)) && trouble.may_have_acted;
        job.last = Some(failure.clone());
        let (attempts, pause) = match self.stopping {
            // Nobody waits for it: the next list asks again.
            None if job.is_background => (1, Duration::ZERO),
            None => (self.patience.retries, self.patience.retrydelay),
            Some(Stop::Soon) if job.step == Step::RebootOn => (
                self.patience.retries.min(STOP_ATTEMPTS),
                self.patience.retrydelay.min(STOP_RETRY_DELAY),
            ),
            Some(Stop::Soon | Stop::Now) => (1, Duration::ZERO),
        };
        let given_up = trouble.is_pdu_away() && self.away >= self.patience.retries;
        if trouble.is_transient() && job.attempts < attempts && !given_up {
            warn!(
                "{}; attempts left {}",
                failure.reason,
                attempts - job.attempts
            );
            if trouble.is_pdu_away() && !pause.is_zero() {
                self.held_until = Some(now + pause);
            }
            #[cfg(test)]
            if self.fault == Some(Fault::AnswersTwice) {
                taken.job.answer.repeat(&Err(failure));
            }
            self.queue.put_back(taken, now + pause);
            return;
        }
        #[cfg(test)]
        if self.fault == Some(Fault::LosesOn) {
            job.maybe_dark = false;
        }
        match job.step {
            Step::RebootOff(_) if job.maybe_dark => {
                job.trouble = Some(failure);
                // No use in a pause after a failed off: the sooner the outlet is on, the better.
                return self.go_dark(taken, Duration::ZERO, now);
            }
            Step::RebootOff(_) => {
                if !job.was_owed {
                    self.withdraw(&taken.outlet);
                }
                if let Some(group) = taken.job.group() {
                    group.off_failed(now);
                }
            }
            Step::RebootOn | Step::Switch(_) | Step::State => {}
        }
        let outcome = Err(taken.job.trouble.take().unwrap_or(failure));
        self.end(taken, outcome, now);
    }

    /// A member of a group's reboot waits until the others have come to their turn, too; any other
    /// job is given back.
    fn gather(&mut self, mut taken: Taken<Job>, now: Instant) -> Option<Taken<Job>> {
        let has_arrived = std::mem::replace(&mut taken.job.has_arrived, true);
        match taken.job.group().cloned() {
            Some(group) if matches!(taken.job.step, Step::RebootOff(_)) && !has_arrived => {
                let resume = self.resumption(taken.outlet.clone());
                let outlet = taken.outlet.clone();
                self.queue.park(taken);
                group.arrive(resume, now);
                // It may have been dark before, and is not to stay so while it waits.
                self.see_to_owed(&outlet, now, Duration::ZERO);
                None
            }
            _ => Some(taken),
        }
    }

    /// Tells this worker that a parked member of a group goes on.
    fn resumption(&self, outlet: Outlet) -> impl FnOnce(Instant) + Send + 'static {
        // A worker outlives the members it has parked.
        let me = self.me.clone();
        move |due| drop(me.send(Message::Resume { outlet, due }))
    }

    /// The outlet is off, or perhaps off: its on comes after the pause, whatever happens.
    fn go_dark(&mut self, mut taken: Taken<Job>, pause: Duration, now: Instant) {
        let outlet = taken.outlet.clone();
        taken.job.step = Step::RebootOn;
        taken.job.attempts = 0;
        let failed = taken.job.trouble.is_some();
        match taken.job.group().cloned() {
            Some(group) => {
                self.queue.park(taken);
                group.went_dark(self.resumption(outlet), failed, now);
            }
            None => {
                let pause = match self.stopping {
                    None => pause,
                    Some(Stop::Soon) => pause.min(STOP_PAUSE),
                    Some(Stop::Now) => Duration::ZERO,
                };
                self.queue.put_back(taken, now + pause);
            }
        }
    }

    /// Answers the job and lets its lane move on.
    fn end(&mut self, taken: Taken<Job>, outcome: Result<Done, Failure>, now: Instant) {
        taken.job.answer.send(outcome);
        self.move_on(&taken.outlet, now);
    }

    /// The lane's first job is over.
    fn move_on(&mut self, outlet: &Outlet, now: Instant) {
        self.queue.finish(outlet);
        self.see_to_owed(outlet, now, OWED_PAUSE);
    }

    /// A job that is not to begin any more, and has nothing to say.
    fn leave(&mut self, taken: Taken<Job>, now: Instant) {
        dismiss(taken.job, now);
        self.move_on(&taken.outlet, now);
    }

    /// Answers a job that is not begun because the daemon stops.
    fn refuse(&mut self, job: Job, now: Instant) {
        if let (Step::RebootOff(_), Some(group)) = (job.step, job.group()) {
            group.off_failed(now);
        }
        if matches!(job.step, Step::RebootOff(_)) && job.attempts > 0 && !job.was_owed {
            self.withdraw(&job.outlet);
        }
        let failure = job.last.clone().unwrap_or_else(stopping);
        job.answer.send(Err(failure));
    }

    fn withdraw(&mut self, outlet: &Outlet) {
        if self.owed.remove(outlet).is_some() {
            self.ledger.withdraw(outlet);
        }
    }

    fn settle(&mut self, outlet: &Outlet) {
        self.owed.remove(outlet);
        // Another process may have owed it, and died.
        self.ledger.settle(outlet);
    }

    /// Is a job in the outlet's lane that will put it into a state of its own, as soon as it is
    /// its turn? A member that waits for the others of its group, and all behind it, are no reason
    /// to leave an outlet dark.
    fn switch_waits(&self, outlet: &Outlet, now: Instant) -> bool {
        self.queue
            .lane(outlet)
            .take_while(|(job, due)| job.is_begun() || *due <= now)
            .any(|(job, _)| job.step.switches())
    }

    /// If the outlet is owed its on and no job of its lane will see to that, tries again later.
    fn see_to_owed(&mut self, outlet: &Outlet, now: Instant, wait: Duration) {
        if self.switch_waits(outlet, now) {
            return;
        }
        if let Some(owed) = self.owed.get_mut(outlet)
            && owed.due.is_none_or(|due| due > now + wait)
        {
            owed.due = Some(now + wait);
            owed.tries = 0;
            if !wait.is_zero() {
                owed.has_failed = true;
                warn!(
                    "PDU {}, outlet {outlet}: off by a reboot whose on failed; trying again until it is on",
                    self.pdu
                );
            }
        }
    }

    /// The call for the outlet that has been owed its on longest, if one is due.
    fn owed_next(&mut self, now: Instant) -> Option<Next> {
        let outlet = self
            .owed
            .iter()
            .filter(|(outlet, owed)| {
                owed.due.is_some_and(|due| due <= now) && !self.switch_waits(outlet, now)
            })
            .min_by_key(|(_, owed)| owed.due)
            .map(|(outlet, _)| outlet.clone())?;
        self.running = Some(Running::Owed(outlet.clone()));
        Some(Next::Call(outlet, Call::Switch(Switch::On)))
    }

    fn owed_tried(&mut self, outlet: &Outlet, trouble: Option<Trouble>, now: Instant) {
        let Some(trouble) = trouble else {
            info!(
                "PDU {}, outlet {outlet}: on again after an unfinished reboot",
                self.pdu
            );
            return self.settle(outlet);
        };
        let stop_after = self.stopping.map(|how| match how {
            Stop::Soon => STOP_ATTEMPTS,
            Stop::Now => 1,
        });
        let Some(owed) = self.owed.get_mut(outlet) else {
            return;
        };
        owed.tries += 1;
        owed.has_failed = true;
        if stop_after.is_some_and(|most| owed.tries >= most) {
            owed.due = None;
            error!(
                "PDU {}, outlet {outlet}: LEFT OFF by a reboot whose on failed: {trouble}",
                self.pdu
            );
            return;
        }
        let pause = if stop_after.is_some() {
            STOP_RETRY_DELAY
        } else {
            owed.pause
        };
        owed.due = Some(now + pause);
        owed.pause = (owed.pause * 2).min(OWED_PAUSE_MAX);
        warn!(
            "PDU {}, outlet {outlet}: still off after an unfinished reboot: {trouble}",
            self.pdu
        );
    }

    fn failure(&self, taken: &Taken<Job>, trouble: &Trouble) -> Failure {
        let attempts = match taken.job.attempts {
            1 => String::new(),
            many => format!(" (attempt {many})"),
        };
        let Taken { outlet, job, .. } = taken;
        Failure::new(
            trouble.kind(),
            format!(
                "PDU {}, outlet {outlet}: {}: {trouble}{attempts}",
                self.pdu, job.step
            ),
        )
    }
}

/// Ends a job that has nothing to say: its request is over, or another member speaks for it.
fn dismiss(job: Job, now: Instant) {
    if let (Step::RebootOff(_), Some(group)) = (job.step, job.group()) {
        group.off_failed(now);
    }
    let nothing = Done {
        state: None,
        attempts: job.total,
        proof: job.proof,
    };
    job.answer.send(Ok(nothing));
}

/// The answer to what is not begun because the daemon stops.
pub(super) fn stopping() -> Failure {
    Failure::new(FailureKind::Stopping, "the daemon is stopping")
}

#[cfg(test)]
mod tests;
