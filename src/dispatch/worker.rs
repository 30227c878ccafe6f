//! One thread, one driver: the only place from which a PDU is spoken to.
//!
//! The thread waits for one thing, its inbox, until the next job is due. What to do is decided by
//! [`Plan`]; here is the doing: the deadline, the bus, the lock, the panic guard, the session.

use super::bus::Bus;
use super::job::Job;
use super::lock::PduLock;
use super::plan::{Call, Ledger, Next, Patience, Plan, Trouble};
use super::status::{Source, Status};
use crate::config::PduConfig;
use crate::driver::{Driver, DriverError};
use crate::request::{Outlet, State};
use crate::transport::{Deadline, TransportError};
use crossbeam_channel::{Receiver, Sender};
use log::{debug, error};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
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

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Do this, not before the wait is over.
    Job(Job, Duration),
    /// A group's member goes on.
    Resume { outlet: Outlet, due: Instant },
    /// An outlet that an earlier run left off.
    Owed(Outlet),
    /// The config has changed: go on with this.
    Change(Box<Change>),
    /// The PDU has left the config: finish what there is, then end.
    Retire,
    /// Begin nothing more.
    Stop(Stop),
}

/// A changed PDU, as its worker needs it.
pub(super) struct Change {
    pub(super) pdu: PduConfig,
    pub(super) driver: Box<dyn Driver>,
    pub(super) bus: Option<Arc<Bus>>,
    pub(super) lock: Option<PduLock>,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change")
            .field("pdu", &self.pdu.name)
            .finish_non_exhaustive()
    }
}

/// How a worker stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// What runs is finished, and every reboot already begun.
    Soon,
    /// The same without pauses and retries.
    Now,
}

/// The dispatcher's end of a worker.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) inbox: Sender<Message>,
    thread: Option<JoinHandle<()>>,
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
        let worker = Worker {
            pdu,
            driver,
            plan,
            bus,
            lock,
            session: Session::None,
            status,
        };
        let thread = std::thread::Builder::new()
            // A thread's name ends at the first NUL byte.
            .name(name.replace('\0', ""))
            .stack_size(STACK)
            .spawn(move || {
                if let Some(predecessor) = &mut predecessor {
                    predecessor.join();
                }
                worker.run(&inbox);
            })?;
        Ok(Self {
            inbox: sender,
            thread: Some(thread),
        })
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

struct Worker {
    pdu: PduConfig,
    driver: Box<dyn Driver>,
    plan: Plan,
    bus: Option<Arc<Bus>>,
    lock: Option<PduLock>,
    session: Session,
    status: Arc<Status>,
}

fn patience(pdu: &PduConfig) -> Patience {
    Patience {
        retries: pdu.retries,
        retrydelay: pdu.retrydelay,
    }
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            while let Ok(message) = inbox.try_recv() {
                self.take(message);
            }
            match self.plan.next(Instant::now()) {
                Next::Call(outlet, call) => {
                    let result = self.call(&outlet, call);
                    self.plan.result(result, Instant::now());
                    if self.bus.as_ref().is_some_and(|bus| bus.others_wait()) {
                        self.rest();
                    }
                }
                Next::Wait(due) => {
                    let rest = self.rest_due(due);
                    if rest.is_some_and(|rest| rest <= Instant::now()) {
                        self.rest();
                        continue;
                    }
                    let message = match (due, rest) {
                        (None, None) => inbox.recv().ok(),
                        (Some(until), None) | (None, Some(until)) => {
                            inbox.recv_deadline(until).ok()
                        }
                        (Some(due), Some(rest)) => inbox.recv_deadline(due.min(rest)).ok(),
                    };
                    if let Some(message) = message {
                        self.take(message);
                    }
                }
                Next::Finished => break,
            }
        }
        self.rest();
        // Jobs that came too late are answered by being dropped here.
        while let Ok(message) = inbox.try_recv() {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        let now = Instant::now();
        match message {
            Message::Job(job, wait) => self.plan.accept(job, now + wait, now),
            Message::Resume { outlet, due } => self.plan.resume(&outlet, due, now),
            Message::Owed(outlet) => self.plan.owe_from_before(outlet, now),
            Message::Change(change) => self.change(*change),
            Message::Retire => self.plan.retire(),
            Message::Stop(how) => self.plan.stop(how, now),
        }
    }

    /// Goes on with other settings; the queue stays.
    fn change(&mut self, change: Change) {
        self.rest();
        let Change {
            pdu,
            driver,
            bus,
            lock,
        } = change;
        self.plan.set_patience(patience(&pdu));
        (self.pdu, self.driver, self.bus, self.lock) = (pdu, driver, bus, lock);
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

    /// Leaves the session, the lock and the bus.
    fn rest(&mut self) {
        if self.session == Session::None {
            return;
        }
        self.session = Session::None;
        let deadline = Deadline::after(REST_PATIENCE);
        if catch_unwind(AssertUnwindSafe(|| self.driver.rest(deadline))).is_err() {
            self.rebuild();
        }
        if let Some(lock) = &mut self.lock {
            lock.release();
        }
        if let Some(bus) = &self.bus {
            bus.leave();
        }
    }

    /// One driver call, with everything around it.
    fn call(&mut self, outlet: &Outlet, call: Call) -> Result<Option<State>, Trouble> {
        if self.session == Session::None {
            if let Some(bus) = &self.bus {
                bus.enter();
            }
            if let Some(lock) = &mut self.lock
                && let Err(error) = lock.acquire(Deadline::after(self.pdu.timeout))
            {
                if let Some(bus) = &self.bus {
                    bus.leave();
                }
                return Err(busy(error));
            }
        }
        let deadline = Deadline::after(self.pdu.timeout);
        self.status.call_begins(deadline.moment());
        let driver = &mut self.driver;
        let result = catch_unwind(AssertUnwindSafe(|| match call {
            Call::Switch(to) => driver.switch(outlet, to, deadline).map(|()| None),
            Call::State => driver.state(outlet, deadline).map(Some),
        }));
        self.session = Session::Kept(Instant::now());
        let result = match result {
            Ok(result) => {
                let known = match (&result, call) {
                    (Ok(Some(state)), _) => Ok((state.clone(), Source::Read)),
                    (Ok(None), Call::Switch(to)) => Ok((to.into(), Source::Switched)),
                    (Ok(None), Call::State) => Err(&DriverError::CannotRead),
                    (Err(error), _) => Err(error),
                };
                self.status.call_ended(outlet, known);
                result.map_err(Trouble::Driver)
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
                self.status.call_ended(outlet, Err(&bug));
                self.rebuild();
                Err(Trouble::Panic(text))
            }
        };
        debug!(
            "PDU {}, outlet {outlet}: {call:?}: {result:?}",
            self.pdu.name
        );
        result
    }

    /// A driver that panicked is in no state to go on with.
    fn rebuild(&mut self) {
        match self.pdu.build() {
            Ok(driver) => self.driver = driver,
            Err(error) => error!("PDU {}: {error}", self.pdu.name),
        }
    }
}

fn busy(error: TransportError) -> Trouble {
    Trouble::Driver(DriverError::Transport(error))
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
