//! One thread, one driver: the only place from which a PDU is spoken to.
//!
//! The thread waits for one thing, its inbox, until the next job is due. What to do is decided by
//! [`Plan`]; here is the doing: the deadline, the bus, the lock, the panic guard, the session.
//!
//! During a driver call the worker lies on its desk, without the driver. A driver that does not
//! come back in time loses it: another thread takes the worker from the desk and goes on with a
//! fresh driver, and what the late one says is thrown away.

use super::STUCK;
use super::bus::{Bus, Turn};
use super::lock::PduLock;
use super::message::{Change, Message, Stop};
use super::plan::{Call, Gained, Ledger, Next, Patience, Plan, Trouble, Why};
use super::status::{Source, Status};
use crate::config::PduConfig;
use crate::driver::{Driver, DriverError};
use crate::request::{Outlet, Proof};
use crate::transport::{Attempt, Deadline, TransportError, TransportErrorKind};
use crossbeam_channel::{Receiver, Sender};
use log::{debug, error};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a session is kept after the last job: clients that ask for one outlet after the other
/// log in once.
const REST_AFTER: Duration = Duration::from_millis(100);
/// A session is not kept over a pause longer than this.
const KEEP_OVER: Duration = Duration::from_secs(10);
/// How long a driver may take to leave its session.
const REST_PATIENCE: Duration = Duration::from_secs(5);
/// Address space for one worker; TLS and the expect engine need some, thousands of workers not
/// much.
const STACK: usize = 512 * 1024;

/// The dispatcher's end of a worker.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) inbox: Sender<Message>,
    thread: Option<JoinHandle<()>>,
    desk: Arc<Desk>,
    /// Threads whose driver never came back.
    lost: Vec<JoinHandle<()>>,
    /// Has the worker decided to end?
    gone: Arc<Mutex<bool>>,
}

/// Most threads one PDU may lose; with more its driver is beyond help, and its worker waits.
const MOST_LOST: usize = 3;

/// Where a worker lies while its driver is being called.
#[derive(Default)]
struct Desk(Mutex<Option<Laid>>);

struct Laid {
    worker: Box<Worker>,
    /// The number of the call: a thread takes back only what it laid down.
    number: u64,
    outlet: Outlet,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Option<Laid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// What a worker shares with others.
pub(super) struct Shared {
    pub(super) bus: Option<Arc<Bus>>,
    pub(super) lock: Option<PduLock>,
    pub(super) ledger: Box<dyn Ledger>,
    pub(super) status: Arc<Status>,
    /// The retired worker of an earlier PDU of this name, which must have ended first.
    pub(super) predecessor: Option<Handle>,
}

impl Handle {
    /// Starts the worker of `pdu`. Fails when the system gives no thread.
    pub(super) fn start(
        pdu: PduConfig,
        driver: Box<dyn Driver>,
        shared: Shared,
    ) -> std::io::Result<Self> {
        let (sender, inbox) = crossbeam_channel::unbounded();
        let Shared {
            bus,
            lock,
            ledger,
            status,
            mut predecessor,
        } = shared;
        let patience = patience(&pdu);
        let plan = Plan::new(pdu.name.clone(), patience, ledger, sender.clone());
        let name = pdu.name.to_string();
        let (desk, gone) = (Arc::new(Desk::default()), Arc::default());
        let worker = Box::new(Worker {
            pdu,
            plan,
            bus,
            lock,
            session: Session::None,
            turn: None,
            status,
            inbox,
            desk: Arc::clone(&desk),
            gone: Arc::clone(&gone),
            calls: 0,
        });
        let thread = spawn(&name, move || {
            if let Some(predecessor) = &mut predecessor {
                predecessor.join();
            }
            run(worker, driver);
        })?;
        Ok(Self {
            inbox: sender,
            thread: Some(thread),
            desk,
            lost: Vec::new(),
            gone,
        })
    }

    /// If the driver call under way is past its deadline by more than `grace`, goes on without
    /// it; true when that was so.
    pub(super) fn replace_if_stuck(&mut self, grace: Duration) -> bool {
        self.lost.retain(|thread| !thread.is_finished());
        if self.lost.len() >= MOST_LOST {
            return false;
        }
        let mut desk = self.desk.lock();
        let late = desk.as_ref().is_some_and(|laid| {
            let call = laid.worker.status.call();
            call.is_some_and(|(_, deadline)| Instant::now() > deadline + grace)
        });
        let Some(laid) = desk.take_if(|_| late) else {
            return false;
        };
        let driver = match laid.worker.pdu.build() {
            Ok(driver) => driver,
            Err(error) => {
                error!("PDU {}: {error}", laid.worker.pdu.name);
                *desk = Some(laid);
                return false;
            }
        };
        drop(desk);
        let Laid {
            mut worker, outlet, ..
        } = laid;
        error!(
            "PDU {}, outlet {outlet}: the driver did not return in time, this is a bug: going on with a fresh one",
            worker.pdu.name
        );
        let name = worker.pdu.name.to_string();
        let error = DriverError::Transport(TransportError::new(
            TransportErrorKind::Timeout,
            "the driver did not return by its deadline",
        ));
        worker.status.call_ended(&outlet, Err(&error), true);
        let trouble = Trouble {
            why: Why::Driver(error),
            may_have_acted: true,
        };
        let (give, take) = crossbeam_channel::bounded(1);
        let spawned = spawn(&name, move || {
            if let Ok((worker, driver)) = take.recv() {
                run(worker, driver);
            }
        });
        match spawned {
            Ok(thread) => {
                worker.plan.result(Err(trouble), Instant::now());
                let _ = give.send((worker, driver));
                self.lost.extend(self.thread.replace(thread));
                true
            }
            Err(error) => {
                // Jobs are answered by being dropped; there is nobody to carry them out.
                error!("PDU {name}: no thread for a fresh worker: {error}");
                false
            }
        }
    }

    /// Takes a retired worker back into service with other settings; false when it has ended.
    pub(super) fn revive(&self, change: Box<Change>) -> bool {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        if !*gone {
            let _ = self.inbox.send(Message::Change(change));
        }
        !*gone
    }

    /// Tells the worker to stop; [`Handle::join`] waits for it.
    pub(super) fn stop(&self, how: Stop) {
        // A worker that is gone has stopped.
        let _ = self.inbox.send(Message::Stop(how));
    }

    /// Waits until the worker has nothing left to do.
    pub(super) fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("a worker ended in a panic: this is a bug");
        }
    }

    /// Is the worker's thread over?
    pub(super) fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop(Stop::Soon);
    }
}

/// Does the driver (perhaps) hold a session on the PDU?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    None,
    /// Since this moment nothing was asked of it.
    Kept(Instant),
}

/// What a driver call gave.
type CallResult = Result<Gained, Trouble>;

struct Worker {
    pdu: PduConfig,
    plan: Plan,
    bus: Option<Arc<Bus>>,
    lock: Option<PduLock>,
    session: Session,
    /// The bus, while there is a session.
    turn: Option<Turn>,
    status: Arc<Status>,
    inbox: Receiver<Message>,
    desk: Arc<Desk>,
    gone: Arc<Mutex<bool>>,
    calls: u64,
}

fn spawn(name: &str, then: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        // A thread's name ends at the first NUL byte.
        .name(name.replace('\0', ""))
        .stack_size(STACK)
        .spawn(then)
}

fn patience(pdu: &PduConfig) -> Patience {
    Patience {
        retries: pdu.retries,
        retrydelay: pdu.retrydelay,
    }
}

/// A worker's life, or what is left of it.
fn run(mut worker: Box<Worker>, mut driver: Box<dyn Driver>) {
    // After a stuck call, too.
    worker.let_others(&mut driver);
    loop {
        while let Ok(message) = worker.inbox.try_recv() {
            worker.take(message, &mut driver);
        }
        let left_off = worker.plan.left_off().cloned().collect();
        worker.status.leaves_off(left_off);
        match worker.plan.next(Instant::now()) {
            Next::Call(outlet, call) => {
                let result;
                (worker, result) = match worker.call(&mut driver, &outlet, call) {
                    Some(back) => back,
                    // Somebody else goes on with the worker; nobody waits for this thread.
                    None => return,
                };
                worker.plan.result(result, Instant::now());
                worker.let_others(&mut driver);
            }
            Next::Wait(due) => {
                let rest = worker.rest_due(due);
                if rest.is_some_and(|rest| rest <= Instant::now()) {
                    worker.rest(&mut driver);
                    continue;
                }
                let message = match (due, rest) {
                    (None, None) => worker.inbox.recv().ok(),
                    (Some(until), None) | (None, Some(until)) => {
                        worker.inbox.recv_deadline(until).ok()
                    }
                    (Some(due), Some(rest)) => worker.inbox.recv_deadline(due.min(rest)).ok(),
                };
                if let Some(message) = message {
                    worker.take(message, &mut driver);
                }
            }
            Next::Finished if worker.may_end() => break,
            Next::Finished => {}
        }
    }
    worker.rest(&mut driver);
    // Jobs that came too late are answered by being dropped here.
    while let Ok(message) = worker.inbox.try_recv() {
        worker.take(message, &mut driver);
    }
}

impl Worker {
    /// Decides to end, unless there is something new: after that nobody revives it.
    fn may_end(&self) -> bool {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        *gone = self.inbox.is_empty();
        *gone
    }

    fn take(&mut self, message: Message, driver: &mut Box<dyn Driver>) {
        let now = Instant::now();
        match message {
            Message::Job(job, wait) => self.plan.accept(job, now + wait, now),
            Message::Cancelled => self.plan.cancelled(now),
            Message::Resume { outlet, due } => self.plan.resume(&outlet, due, now),
            Message::Owed(outlet) => self.plan.owe_from_before(outlet, now),
            Message::Change(change) => self.change(*change, driver),
            Message::Retire => self.plan.retire(),
            Message::Stop(how) => self.plan.stop(how, now),
        }
    }

    /// Goes on with other settings; the queue stays.
    fn change(&mut self, change: Change, driver: &mut Box<dyn Driver>) {
        self.rest(driver);
        let Change {
            pdu,
            driver: new,
            bus,
            lock,
        } = change;
        self.plan.serve_on(patience(&pdu));
        if !self.pdu.speaks_like(&pdu) {
            self.status.forget();
        }
        *driver = new;
        (self.pdu, self.bus, self.lock) = (pdu, bus, lock);
    }

    /// When the session is to be left, if there is one: at once on a shared bus, a little after
    /// the last job otherwise.
    fn rest_due(&self, due: Option<Instant>) -> Option<Instant> {
        let Session::Kept(since) = self.session else {
            return None;
        };
        if self.bus.is_some() {
            return Some(since);
        }
        let soon = due.is_some_and(|due| due < since + KEEP_OVER);
        (!soon).then_some(since + REST_AFTER)
    }

    /// Leaves the bus if somebody else wants it.
    fn let_others(&mut self, driver: &mut Box<dyn Driver>) {
        if self.bus.as_ref().is_some_and(|bus| bus.others_wait()) {
            self.rest(driver);
        }
    }

    /// Leaves the session, the lock and the bus.
    fn rest(&mut self, driver: &mut Box<dyn Driver>) {
        if self.session == Session::None {
            return;
        }
        self.session = Session::None;
        let deadline = Deadline::after(REST_PATIENCE);
        if catch_unwind(AssertUnwindSafe(|| driver.rest(deadline))).is_err() {
            self.rebuild(driver);
        }
        if let Some(lock) = &mut self.lock {
            lock.release();
        }
        self.turn = None;
    }

    /// One driver call, with everything around it. Gives the worker back, or nothing when it was
    /// taken from the desk meanwhile.
    fn call(
        mut self: Box<Self>,
        driver: &mut Box<dyn Driver>,
        outlet: &Outlet,
        call: Call,
    ) -> Option<(Box<Self>, CallResult)> {
        if self.session == Session::None {
            if let Some(bus) = &self.bus {
                match bus.enter() {
                    Ok(turn) => self.turn = Some(turn),
                    Err(waited) => return Some((self, Err(busy(bus_is_held(waited))))),
                }
            }
            if let Some(lock) = &mut self.lock
                && let Err(error) = lock.acquire(Deadline::after(self.pdu.timeout))
            {
                self.turn = None;
                return Some((self, Err(busy(error))));
            }
        }
        let deadline = Deadline::after(self.pdu.timeout);
        self.status.call_begins(deadline.moment());
        // Whoever goes on has the bus and the lock.
        self.session = Session::Kept(Instant::now());
        self.calls += 1;
        let (number, desk) = (self.calls, Arc::clone(&self.desk));
        let noting = self.lock.as_ref().and_then(PduLock::note_programs);
        let confirm = self.pdu.confirm;
        // One that is owed its on may be of other settings: no key keeps its PDU from it.
        let known = self.pdu.outlets.own().parse(outlet);
        *desk.lock() = Some(Laid {
            worker: self,
            number,
            outlet: outlet.clone(),
        });
        let attempt = Attempt::new(deadline);
        let result = catch_unwind(AssertUnwindSafe(|| match call {
            Call::Switch(to) => confirm
                .switch(driver.as_mut(), &known?, to, &attempt)
                .map(|proof| Gained::Switched(to, proof)),
            Call::State => driver.state(&known?, deadline).map(Gained::Read),
        }));
        drop(noting);
        let laid = desk.lock().take_if(|laid| laid.number == number);
        let mut worker = laid?.worker;
        let result = worker.ended(driver, outlet, call, result, attempt.may_have_acted());
        Some((worker, result))
    }

    /// What a driver call means for what is known, and for the driver.
    fn ended(
        &mut self,
        driver: &mut Box<dyn Driver>,
        outlet: &Outlet,
        call: Call,
        result: std::thread::Result<Result<Gained, DriverError>>,
        may_have_acted: bool,
    ) -> CallResult {
        self.session = Session::Kept(Instant::now());
        let result = match result {
            Ok(result) => {
                let known = match &result {
                    Ok(Gained::Read(state)) => Ok((state.clone(), Source::Read)),
                    Ok(Gained::Switched(to, Proof::State)) => Ok(((*to).into(), Source::Switched)),
                    Ok(Gained::Switched(to, Proof::Reply | Proof::None)) => {
                        Ok(((*to).into(), Source::Unconfirmed))
                    }
                    Err(error) => Err(error),
                };
                self.status.call_ended(outlet, known, may_have_acted);
                result.map_err(|error| Trouble {
                    why: Why::Driver(error),
                    may_have_acted,
                })
            }
            Err(panic) => {
                let text = panic_text(panic.as_ref());
                error!(
                    "PDU {}, outlet {outlet}: the driver panicked: {text}",
                    self.pdu.name
                );
                let bug = DriverError::Unexpected {
                    expected: "no panic".into(),
                    got: text.clone(),
                };
                self.status.call_ended(outlet, Err(&bug), true);
                self.rebuild(driver);
                Err(Trouble {
                    why: Why::Panic(text),
                    may_have_acted: true,
                })
            }
        };
        debug!(
            "PDU {}, outlet {outlet}: {call:?}: {result:?}",
            self.pdu.name
        );
        result
    }

    /// A driver that panicked is in no state to go on with.
    fn rebuild(&self, driver: &mut Box<dyn Driver>) {
        match self.pdu.build() {
            Ok(fresh) => *driver = fresh,
            Err(error) => error!("PDU {}: {error}", self.pdu.name),
        }
    }
}

fn busy(error: TransportError) -> Trouble {
    Trouble {
        why: Why::Driver(error.into()),
        may_have_acted: false,
    }
}

/// How long a turn of this PDU on its bus may last at the very most: it waits for its lock, calls a
/// driver that is stuck until it is given up, and leaves the session.
pub(super) fn longest_turn(pdu: &PduConfig) -> Duration {
    2 * pdu.timeout + 2 * STUCK + REST_PATIENCE
}

fn bus_is_held(waited: Duration) -> TransportError {
    let detail = format!(
        "another PDU has held their bus for {} s: its driver is stuck, this is a bug; restart the daemon",
        waited.as_secs()
    );
    TransportError::new(TransportErrorKind::Busy, detail)
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::dispatch::job::{Answer, Job, Step};
    use crate::dispatch::place::Place;
    use crate::dispatch::ticket::{Progress, asked};
    use crate::request::{State, Switch};

    /// Ignores its deadline until somebody lets it go.
    struct Deaf(Receiver<()>);

    impl Driver for Deaf {
        fn switch(&mut self, _: &Outlet, _: Switch, _: &Attempt) -> Result<Proof, DriverError> {
            let _ = self.0.recv();
            Err(DriverError::Refused("this is too late to be heard".into()))
        }
    }

    #[test]
    fn a_driver_that_does_not_come_back_is_replaced() {
        let text = r#"{"daemon": {"hostname": "127.0.0.1", "port": 0}, "pdus": {"p": {"driver": "simulated", "timeout": 1, "retries": 2, "retrydelay": 0}}}"#;
        let config = Config::parse(text, "test").expect("a good config");
        let pdu = config
            .pdus
            .values()
            .flatten()
            .next()
            .expect("a PDU")
            .clone();
        let status = Arc::new(Status::default());
        let shared = Shared {
            bus: None,
            lock: None,
            ledger: Box::new(()),
            status: Arc::clone(&status),
            predecessor: None,
        };
        let (let_go, held) = crossbeam_channel::bounded::<()>(0);
        let mut handle = Handle::start(pdu, Box::new(Deaf(held)), shared).expect("a thread");
        assert!(!handle.replace_if_stuck(Duration::ZERO), "nothing runs");
        let outlet = Outlet::new("3");
        let (ticket, _answered) = asked();
        let answer = Answer::to_client(Arc::clone(&ticket), Place::uncounted());
        let job = Job::new(outlet.clone(), Step::Switch(Switch::On), answer);
        handle
            .inbox
            .send(Message::Job(job, Duration::ZERO))
            .expect("it lives");
        let until = Instant::now() + Duration::from_secs(30);
        while !handle.replace_if_stuck(Duration::from_millis(1)) {
            assert!(Instant::now() < until, "it is not found to be stuck");
            std::thread::sleep(Duration::from_millis(5));
        }
        // The fresh driver carries out the second attempt.
        let Progress::Ended { outcome, .. } = ticket.wait(until) else {
            panic!("the request never ended")
        };
        assert_eq!(outcome.map(|done| done.attempts), Ok(2));
        let known = || {
            status
                .report()
                .outlets
                .get(&outlet)
                .map(|known| known.state.clone())
        };
        assert_eq!(known(), Some(State::On));
        drop(let_go);
        while !handle.lost.iter().all(JoinHandle::is_finished) {
            assert!(Instant::now() < until, "the late thread does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(
            known(),
            Some(State::On),
            "what the late one says is thrown away"
        );
        handle.stop(Stop::Now);
        handle.join();
    }
}
