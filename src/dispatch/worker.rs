//! One thread, one driver: the only place from which a PDU is spoken to.
//!
//! The thread waits for one thing, its inbox, until the next job is due. What to do is decided by
//! [`Plan`]; here is the doing: the deadline, the bus, the lock, the panic guard, the session.
//!
//! Every driver keeps the deadline of its call. One that does not is a bug: its worker waits for it,
//! and [`super::Dispatcher::troubles`] tells so.

use super::bus::BusTurn;
use super::held::held;
use super::lock::PduLock;
use super::message::{Kit, Message};
use super::plan::{Call, Gained, Ledger, Next, Plan, Trouble};
use super::status::Report;
use crate::config::PduConfig;
use crate::driver::DriverError;
use crate::request::{Outlet, State};
use crate::transport::{Attempt, Deadline, TransportError, TransportErrorKind};
use crossbeam_channel::{Receiver, Sender};
use log::{debug, error};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A worker keeps its session so long after the last job: clients that ask for one outlet after the other
/// log in once.
const REST_AFTER: Duration = Duration::from_millis(100);
/// A session is not kept over a pause longer than this.
const KEEP_OVER: Duration = Duration::from_secs(10);
/// A driver may take so long to leave its session.
const REST_PATIENCE: Duration = Duration::from_secs(5);
/// A driver call that is so long past its deadline is stuck.
pub(super) const OVERDUE: Duration = Duration::from_secs(2);
/// Address space for one worker; TLS and the expect engine need some, thousands of workers not
/// much.
const STACK: usize = 512 * 1024;

/// Starts a worker; gives its inbox and its thread. Fails when the system gives no thread.
pub(super) fn start(
    kit: Kit,
    ledger: Box<dyn Ledger>,
    report: Arc<Mutex<Report>>,
) -> std::io::Result<(Sender<Message>, JoinHandle<()>)> {
    let (sender, inbox) = crossbeam_channel::unbounded();
    let PduConfig {
        name,
        retries,
        retrydelay,
        ..
    } = &*kit.pdu;
    let plan = Plan::new(name.clone(), *retries, *retrydelay, ledger, sender.clone());
    // A thread's name ends at the first NUL byte.
    let name = name.as_str().replace('\0', "");
    // On the heap: it is handed to its thread by several moves, and each would take a place on the stack.
    let worker = Box::new(Worker {
        kit,
        plan,
        session_since: None,
        turn: None,
        is_acquainted: false,
        report,
        inbox,
    });
    let thread = std::thread::Builder::new()
        .name(name)
        .stack_size(STACK)
        .spawn(|| worker.run())?;
    Ok((sender, thread))
}

struct Worker {
    kit: Kit,
    plan: Plan,
    /// When the driver was called last, while it may hold a session on the PDU.
    session_since: Option<Instant>,
    /// The bus, while there is a session.
    turn: Option<BusTurn>,
    /// The PDU has been asked which outlets it has.
    is_acquainted: bool,
    report: Arc<Mutex<Report>>,
    inbox: Receiver<Message>,
}

impl Worker {
    fn run(mut self: Box<Self>) {
        loop {
            while let Ok(message) = self.inbox.try_recv() {
                self.take(message);
            }
            held(&self.report).owes(self.plan.owed(), self.plan.left_off());
            let at_once = self.kit.driver.at_once();
            match self.plan.next(Instant::now(), at_once) {
                Next::Call(outlets, call) => {
                    let (results, others) = self.call(&outlets, call);
                    self.plan.results(results, Instant::now());
                    self.plan.also_read(others, Instant::now());
                    self.let_others();
                }
                Next::Wait(due) => self.wait(due),
                Next::Finished if self.inbox.is_empty() => break,
                Next::Finished => {}
            }
        }
        self.rest();
        // Dropping a job that came too late answers it.
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message);
        }
    }

    /// Waits for a message until a job is due. Leaves the session when its time has come.
    fn wait(&mut self, due: Option<Instant>) {
        let rest = self.rest_due(due);
        if rest.is_some_and(|rest| rest <= Instant::now()) {
            return self.rest();
        }
        let message = match due.into_iter().chain(rest).min() {
            None => self.inbox.recv().ok(),
            Some(until) => self.inbox.recv_deadline(until).ok(),
        };
        if let Some(message) = message {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        let now = Instant::now();
        match message {
            Message::Jobs(jobs, wait) => {
                for mut job in jobs {
                    // Behind a job in the lobby nothing is known of the order but that of coming.
                    let known = self.kit.driver.known(&job.outlet);
                    match known.filter(|_| !self.plan.has_lobby()) {
                        Some(outlet) => job.outlet = outlet,
                        None => job.enter_lobby(),
                    }
                    self.plan.accept(job, now + wait, now);
                }
            }
            Message::Cancelled(request) => self.plan.cancel(request),
            Message::Resume(job) => {
                let (outlet, number, due) = *job;
                self.plan.resume(&outlet, number, due, now);
            }
            Message::Owed(outlet) => self.plan.owe_from_before(&outlet, now),
            Message::Change(kit) => self.change(*kit),
            Message::Stop(how) => self.plan.stop(how, now),
        }
    }

    /// Goes on with other settings; the queue stays.
    fn change(&mut self, kit: Kit) {
        self.rest();
        self.plan.change(kit.pdu.retries, kit.pdu.retrydelay);
        if !self.kit.pdu.speaks_like(&kit.pdu) {
            held(&self.report).forget();
        }
        self.is_acquainted = false;
        self.kit = kit;
    }

    /// When the worker leaves the session, if there is one: at once on a shared bus, a little after
    /// the last job otherwise.
    fn rest_due(&self, due: Option<Instant>) -> Option<Instant> {
        let since = self.session_since?;
        if self.kit.bus.is_some() {
            return Some(since);
        }
        let soon = due.is_some_and(|due| due < since + KEEP_OVER);
        (!soon).then_some(since + REST_AFTER)
    }

    /// Leaves the bus if another worker waits for it.
    fn let_others(&mut self) {
        if self.kit.bus.as_ref().is_some_and(|bus| bus.others_wait()) {
            self.rest();
        }
    }

    /// Leaves the session, the lock and the bus.
    fn rest(&mut self) {
        if self.session_since.take().is_none() {
            return;
        }
        let deadline = Deadline::after(REST_PATIENCE);
        let driver = &mut self.kit.driver;
        if catch_unwind(AssertUnwindSafe(|| driver.rest(deadline))).is_err() {
            self.rebuild();
        }
        if let Some(lock) = &mut self.kit.lock {
            lock.release();
        }
        self.turn = None;
    }

    /// One driver call, with everything around it: how it ended for each of the outlets, and the states
    /// of others that came along.
    fn call(&mut self, outlets: &[Outlet], call: Call) -> (Vec<Ended>, Vec<(Outlet, State)>) {
        if let Err(trouble) = self.enter() {
            return (vec![Err(trouble); outlets.len()], Vec::new());
        }
        let deadline = Deadline::after(self.kit.pdu.timeout);
        held(&self.report).call_begins(deadline.moment());
        let noting = self.kit.lock.as_ref().and_then(PduLock::note_programs);
        let (ended, told) = self.call_driver(outlets, call, deadline);
        drop(noting);
        self.session_since = Some(Instant::now());
        for (outlet, ended) in outlets.iter().zip(&ended) {
            // The status has an outlet by the name that the settings give it.
            let named = self.kit.pdu.outlets.own().parse(outlet);
            let named = named.unwrap_or_else(|_| Outlet::new(outlet.as_str()));
            held(&self.report).call_ended(&named, ended);
            debug!(
                "PDU {}, outlet {outlet}: {call:?}: {ended:?}",
                self.kit.pdu.name
            );
        }
        (ended, told)
    }

    /// Waits for the bus and the lock, unless there is a session: then the worker has them.
    fn enter(&mut self) -> Result<(), Trouble> {
        if self.session_since.is_some() {
            return Ok(());
        }
        let Kit { pdu, bus, lock, .. } = &mut self.kit;
        if let Some(bus) = bus {
            let turn = bus.enter().map_err(|waited| busy(bus_is_held(waited)))?;
            self.turn = Some(turn);
        }
        if let Some(lock) = lock {
            let locked = lock.acquire(Deadline::after(pdu.timeout));
            locked.inspect_err(|_| self.turn = None).map_err(busy)?;
        }
        Ok(())
    }

    /// The driver call alone. A driver that panics costs this call, and is built again.
    fn call_driver(
        &mut self,
        outlets: &[Outlet],
        call: Call,
        deadline: Deadline,
    ) -> (Vec<Ended>, Vec<(Outlet, State)>) {
        let attempt = Attempt::new(deadline);
        let (mut told, mut are_all) = (Vec::new(), false);
        let result = catch_unwind(AssertUnwindSafe(|| {
            if call == Call::State && self.plan.is_look() && !self.is_acquainted {
                self.get_acquainted(deadline)?;
            }
            let others = match call {
                Call::State => self.worth_reading(outlets),
                Call::Switch(_) | Call::Find => Vec::new(),
            };
            let Kit { pdu, driver, .. } = &mut self.kit;
            // An outlet that is owed its on may be of other settings: no key keeps its PDU from it.
            let parsed = outlets.iter().map(|outlet| pdu.outlets.own().parse(outlet));
            let outlets: Vec<Outlet> = parsed.collect::<Result<_, _>>()?;
            match (call, outlets.as_slice()) {
                (Call::Switch(to), outlets) => {
                    let driver = driver.as_mut();
                    let proofs = pdu.confirm.switch_all(driver, outlets, to, &attempt)?;
                    let gained = |proof| Gained::Switched(to, proof);
                    Ok(proofs.into_iter().map(|proof| proof.map(gained)).collect())
                }
                (Call::State, [outlet, ..]) => {
                    let states = driver.states(outlet, &others, deadline)?;
                    let own = states.own.clone();
                    are_all = states.are_all;
                    told = states.others_of(outlet, &pdu.outlets);
                    Ok(vec![Ok(Gained::Read(own))])
                }
                (Call::Find, [outlet, ..]) => {
                    Ok(vec![driver.find(outlet, deadline).map(Gained::Found)])
                }
                (Call::State | Call::Find, []) => Ok(Vec::new()),
            }
        }));
        let trouble = |error: DriverError| Trouble::new(error, attempt.may_have_acted());
        let ended = match result {
            Ok(Ok(results)) => {
                let results: Vec<Result<Gained, DriverError>> = results;
                results
                    .into_iter()
                    .map(|one| one.map_err(trouble))
                    .collect()
            }
            Ok(Err(error)) => vec![Err(trouble(error)); outlets.len()],
            Err(panic) => {
                let text = panic_text(panic.as_ref());
                let (name, outlets_of) = (&self.kit.pdu.name, in_words(outlets));
                error!("PDU {name}, {outlets_of}: the driver panicked: {text}");
                self.rebuild();
                vec![Err(Trouble::panic(text)); outlets.len()]
            }
        };
        held(&self.report).also_read(&told, are_all);
        (ended, told)
    }

    /// Other outlets whose states are worth knowing if one call tells many: those first that somebody
    /// asks for.
    fn worth_reading(&self, called: &[Outlet]) -> Vec<Outlet> {
        let mut outlets = self.plan.awaited_states(Instant::now());
        // While somebody waits, no time for outlets that there may not be.
        let seeks = outlets.is_empty();
        let known = held(&self.report).by_age(&self.kit.pdu.outlets, seeks);
        let asked: HashSet<Outlet> = outlets.iter().chain(called).cloned().collect();
        outlets.extend(known.into_iter().filter(|one| !asked.contains(one)));
        outlets
    }

    /// Asks the PDU once which outlets it has and what it calls them. Only a PDU that is away fails:
    /// one that tells nothing of this kind is asked no more.
    fn get_acquainted(&mut self, deadline: Deadline) -> Result<(), DriverError> {
        let Kit { pdu, driver, .. } = &mut self.kit;
        let unless_away = |error: DriverError| {
            debug!("PDU {}: asked for its outlets: {error}", pdu.name);
            match error.is_pdu_away() {
                true => Err(error),
                false => Ok(()),
            }
        };
        let count = driver.count(deadline);
        let count = count.or_else(|error| unless_away(error).map(|()| None))?;
        // A PDU that says none is asked for one after the other.
        if let Some(count) = count.filter(|count| *count > 0) {
            held(&self.report).counted(&pdu.outlets.sought(), count);
        }
        let known = held(&self.report).by_age(&pdu.outlets, true);
        let names = driver.names(&known, deadline);
        let names = names.or_else(|error| unless_away(error).map(|()| Vec::new()))?;
        held(&self.report).named(names);
        self.is_acquainted = true;
        Ok(())
    }

    /// A driver that panicked is in no state to go on with.
    fn rebuild(&mut self) {
        match self.kit.pdu.build() {
            Ok(fresh) => self.kit.driver = fresh,
            Err(error) => error!("PDU {}: {error}", self.kit.pdu.name),
        }
    }
}

/// How a driver call ended for one of its outlets.
type Ended = Result<Gained, Trouble>;

/// The outlets of a call, for people: `outlet 4`, or `outlets 4, 5`.
fn in_words(outlets: &[Outlet]) -> String {
    let ids: Vec<&str> = outlets.iter().map(Outlet::as_str).collect();
    let plural = if ids.len() == 1 { "" } else { "s" };
    format!("outlet{plural} {}", ids.join(", "))
}

fn busy(error: TransportError) -> Trouble {
    // The driver was not called.
    Trouble::new(DriverError::Transport(error), false)
}

/// The longest turn of this PDU on its bus: its worker waits for the lock,
/// calls the driver, and leaves the session.
pub(super) fn longest_turn(pdu: &PduConfig) -> Duration {
    2 * (pdu.timeout + OVERDUE) + REST_PATIENCE
}

fn bus_is_held(waited: Duration) -> TransportError {
    let detail = format!(
        "another PDU has held their bus for {} s: its driver is stuck, this is a bug; restart the daemon",
        waited.as_secs()
    );
    TransportError::new(TransportErrorKind::Busy, detail)
}

/// The words of a panic.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
