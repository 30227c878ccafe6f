//! From a request to the right workers: aliases, unknown PDUs, full queues.
//!
//! Invariant: knows no driver by name, no HTTP, no wire.

mod bus;
mod group;
mod job;
mod journal;
mod lock;
mod plan;
mod queue;
mod worker;

pub use worker::Stop;

use crate::config::{Alias, Config, PduConfig};
use crate::driver::Driver;
use crate::request::{
    Action, Failure, FailureKind, Outcome, Outlet, PduName, Reply, Request, Target,
};
use bus::Bus;
use group::Group;
use job::{Answer, Job, Place, Step};
use journal::{Journal, Left};
use lock::PduLock;
use log::{info, warn};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use worker::{Handle, Message, Shared};

/// The pause of a reboot when the client does not say.
pub const REBOOT_PAUSE: Duration = Duration::from_secs(5);

/// Are unfinished reboots of an earlier run finished at the start?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recover {
    /// The daemon.
    Yes,
    /// One driven request, beside a daemon perhaps.
    No,
}

/// What lives in the state directory.
struct StatePlace {
    directory: PathBuf,
    journal: Journal,
}

impl StatePlace {
    /// Without a usable directory the daemon serves all the same, and says what it lacks.
    fn open(directory: &Path) -> Option<Self> {
        let opened = std::fs::create_dir_all(directory.join("locks"))
            .and_then(|()| Journal::open(directory));
        match opened {
            Ok(journal) => Some(Self {
                directory: directory.to_owned(),
                journal,
            }),
            Err(error) => {
                warn!(
                    "state directory {}: {error}; going on without locks, and without a journal of reboots",
                    directory.display()
                );
                None
            }
        }
    }

    fn lock(&self, pdu: &PduConfig) -> PduLock {
        match &pdu.bus {
            Some(bus) => PduLock::new(&self.directory, "bus", bus),
            None => PduLock::new(&self.directory, "pdu", pdu.name.as_str()),
        }
    }
}

/// Routes requests to one worker per PDU.
pub struct Dispatcher {
    table: RwLock<Table>,
    /// Groups enter all their queues in one step, so that two of them never wait for each other.
    grouping: Mutex<()>,
}

struct Table {
    routes: HashMap<PduName, Route>,
    aliases: HashMap<String, Alias>,
}

/// The way to one PDU.
struct Route {
    worker: Handle,
    /// A second driver that is only ever asked which outlets there can be.
    checker: Mutex<Box<dyn Driver>>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

impl Route {
    fn check(&self, pdu: &PduName, outlet: &Outlet) -> Result<(), Failure> {
        let checker = self.checker.lock().unwrap_or_else(PoisonError::into_inner);
        match catch_unwind(AssertUnwindSafe(|| checker.check(outlet))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::new(
                FailureKind::NoSuchOutlet,
                format!("PDU {pdu}, outlet {outlet}: {error}"),
            )),
            Err(panic) => Err(Failure::new(
                FailureKind::Internal,
                format!(
                    "PDU {pdu}, outlet {outlet}: {}",
                    worker::panic_text(panic.as_ref())
                ),
            )),
        }
    }

    fn place(&self, pdu: &PduName) -> Result<Place, Failure> {
        Place::take(&self.waiting, self.limit).ok_or_else(|| {
            let reason = format!(
                "PDU {pdu}: the queue is full ({} requests are waiting)",
                self.limit
            );
            Failure::new(FailureKind::QueueFull, reason)
        })
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").finish_non_exhaustive()
    }
}

impl Dispatcher {
    /// Starts one worker per PDU of the config. With `Recover::Yes`, outlets that an earlier run
    /// left off are switched on before anything else.
    pub fn start(config: &Config, recover: Recover) -> io::Result<Self> {
        let place = config
            .daemon
            .state_directory
            .as_deref()
            .and_then(StatePlace::open);
        let mut left: HashMap<PduName, Vec<Left>> = HashMap::new();
        if let (Some(place), Recover::Yes) = (&place, recover) {
            for one in place.journal.left() {
                if config.pdus.contains_key(&one.pdu) {
                    left.entry(one.pdu.clone()).or_default().push(one);
                } else {
                    let (pdu, outlet) = (&one.pdu, &one.outlet);
                    warn!(
                        "PDU {pdu}, outlet {outlet}: left off by an unfinished reboot, but this PDU is not in the config any more"
                    );
                }
            }
        }
        let mut buses: HashMap<&str, Arc<Bus>> = HashMap::new();
        let mut routes = HashMap::with_capacity(config.pdus.len());
        for pdu in config.pdus.values() {
            let bus = pdu
                .bus
                .as_deref()
                .map(|name| Arc::clone(buses.entry(name).or_default()));
            let owed = left.remove(&pdu.name).unwrap_or_default();
            let outlets: Vec<Outlet> = owed.iter().map(|left| left.outlet.clone()).collect();
            let shared = Shared {
                bus,
                lock: place.as_ref().map(|place| place.lock(pdu)),
                ledger: match &place {
                    Some(place) => Box::new(place.journal.ledger(pdu.name.clone(), owed)),
                    None => Box::new(()),
                },
            };
            let route = route(pdu, shared)?;
            for outlet in outlets {
                warn!(
                    "PDU {}, outlet {outlet}: left off by an unfinished reboot of an earlier run; switching it on",
                    pdu.name
                );
                let _ = route.worker.inbox.send(Message::Owed(outlet));
            }
            routes.insert(pdu.name.clone(), route);
        }
        let table = Table {
            routes,
            aliases: config.aliases.clone(),
        };
        Ok(Self {
            table: RwLock::new(table),
            grouping: Mutex::new(()),
        })
    }

    /// Hands a request to its PDU's queue, or refuses it; never blocks. `reply` is called exactly
    /// once: from a worker, or from here on a refusal.
    pub fn submit(&self, request: Request, reply: Reply) {
        let began = Instant::now();
        if request.delay.is_some() && matches!(request.action, Action::Switch(_)) {
            warn!("delay parameter is deprecated for on/off commands");
        }
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        match self.place(&table, &request) {
            Err(failure) => {
                let outcome = Err(failure);
                let line = LogLine::of(&request, &outcome, began);
                reply(outcome);
                line.iter().for_each(LogLine::write);
            }
            Ok(places) => self.queue(request, places, reply, began),
        }
    }

    /// Checks the request whole: every outlet, and room in every queue.
    fn place<'t>(
        &self,
        table: &'t Table,
        request: &Request,
    ) -> Result<Vec<(&'t Route, Outlet, Place)>, Failure> {
        let one;
        let outlets: &[(PduName, Outlet)] = match &request.target {
            Target::Outlet { pdu, outlet } => {
                one = [(PduName::new(pdu.as_str()), outlet.clone())];
                &one
            }
            Target::Alias(name) => match table.aliases.get(name) {
                Some(Alias::Outlets(outlets)) => outlets,
                Some(Alias::Dead(why)) => {
                    let reason = format!("the alias {name:?} leads nowhere: {why}");
                    return Err(Failure::new(FailureKind::UnknownAlias, reason));
                }
                None => {
                    let reason = format!("there is no alias {name:?} in the config");
                    return Err(Failure::new(FailureKind::UnknownAlias, reason));
                }
            },
        };
        let routes: Vec<&Route> = outlets
            .iter()
            .map(|(pdu, outlet)| {
                let route = table.routes.get(pdu).ok_or_else(|| {
                    let reason = format!("there is no PDU {:?} in the config", pdu.as_str());
                    Failure::new(FailureKind::UnknownPdu, reason)
                })?;
                route.check(pdu, outlet).map(|()| route)
            })
            .collect::<Result<_, _>>()?;
        routes
            .into_iter()
            .zip(outlets)
            .map(|(route, (pdu, outlet))| Ok((route, outlet.clone(), route.place(pdu)?)))
            .collect()
    }

    fn queue(
        &self,
        request: Request,
        mut places: Vec<(&Route, Outlet, Place)>,
        reply: Reply,
        began: Instant,
    ) {
        let pause = request.delay.map_or(REBOOT_PAUSE, |delay| delay.duration());
        let wait = request
            .delay
            .map_or(Duration::ZERO, |delay| delay.duration());
        let (step, wait) = match request.action {
            Action::Switch(to) => (Step::Switch(to), wait),
            Action::State => (Step::State, Duration::ZERO),
            Action::Reboot => (Step::RebootOff(pause), Duration::ZERO),
        };
        let told: Reply = Box::new(move |outcome| {
            // The client first: the log can wait.
            let line = LogLine::of(&request, &outcome, began);
            reply(outcome);
            line.iter().for_each(LogLine::write);
        });
        if places.len() == 1 {
            if let Some((route, outlet, place)) = places.pop() {
                // Nobody to receive it: the job answers itself when it is dropped.
                let job = Job::new(outlet, step, Answer::to_client(told, place));
                let _ = route.worker.inbox.send(Message::Job(job, wait));
            }
            return;
        }
        let group = Arc::new(Group::new(places.len(), pause, told));
        let _one_step = self.grouping.lock().unwrap_or_else(PoisonError::into_inner);
        for (route, outlet, place) in places {
            let job = Job::new(outlet, step, Answer::to_group(Arc::clone(&group), place));
            let _ = route.worker.inbox.send(Message::Job(job, wait));
        }
    }

    /// Tells every worker to stop.
    pub fn stop(&self, how: Stop) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        for route in table.routes.values() {
            route.worker.stop(how);
        }
    }

    /// Have all workers stopped?
    pub fn is_finished(&self) -> bool {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table
            .routes
            .values()
            .all(|route| route.worker.is_finished())
    }

    /// Waits until every worker has nothing left to do, after [`Dispatcher::stop`].
    pub fn join(&self) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for route in table.routes.values_mut() {
            route.worker.join();
        }
    }

    /// How many requests wait or run, for the page and for tests.
    pub fn waiting(&self) -> usize {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table
            .routes
            .values()
            .map(|route| route.waiting.load(Ordering::Acquire))
            .sum()
    }
}

fn route(pdu: &PduConfig, shared: Shared) -> io::Result<Route> {
    let build = || {
        pdu.build()
            .map_err(|error| io::Error::other(format!("PDU {}: {error}", pdu.name)))
    };
    Ok(Route {
        checker: Mutex::new(build()?),
        worker: Handle::start(pdu.clone(), build()?, shared)?,
        waiting: Arc::new(AtomicUsize::new(0)),
        limit: pdu.queue_limit,
    })
}

/// The one INFO line of a request.
struct LogLine {
    client: Arc<str>,
    pdu: String,
    outlet: String,
    text: String,
}

impl LogLine {
    fn of(request: &Request, outcome: &Outcome, began: Instant) -> Option<Self> {
        if !log::log_enabled!(target: "pdud", log::Level::Info) {
            return None;
        }
        let (pdu, outlet) = match &request.target {
            Target::Outlet { pdu, outlet } => (pdu.as_str(), outlet.as_str()),
            Target::Alias(alias) => (alias.as_str(), ""),
        };
        let took = began.elapsed().as_secs_f64();
        let result = match outcome {
            Ok(done) => {
                let state = done
                    .state
                    .as_ref()
                    .map(|state| format!(" {state}"))
                    .unwrap_or_default();
                let plural = if done.attempts == 1 { "" } else { "s" };
                format!(
                    "ok{state} ({} driver call{plural}, {took:.3} s)",
                    done.attempts
                )
            }
            Err(failure) => format!("failed: {failure} ({took:.3} s)"),
        };
        Some(Self {
            client: Arc::clone(&request.client),
            pdu: pdu.to_owned(),
            outlet: outlet.to_owned(),
            text: format!(
                "{}: {} {}: {result}",
                request.client, request.target, request.action
            ),
        })
    }

    fn write(&self) {
        info!(
            target: "pdud", PDU = self.pdu, OUTLET = self.outlet, CLIENT = self.client.as_ref();
            "{}", printable(&self.text)
        );
    }
}

/// What a client sends must not forge log lines.
fn printable(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains(char::is_control) {
        text.escape_debug().to_string().into()
    } else {
        text.into()
    }
}
