//! The PDUs that are served: one route each, and what they share. Made from the config, and made
//! to follow it.

use super::bus::Bus;
use super::journal::{Journal, Left};
use super::lock::PduLock;
use super::status::Status;
use super::worker::{Change, Handle, Message, Shared, Stop};
use super::{Recover, panic_failure};
use crate::config::{Alias, Config, PduConfig};
use crate::driver::Driver;
use crate::request::{Failure, FailureKind, Outlet, PduName};
use log::{info, warn};
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The way to one PDU.
pub(super) struct Route {
    pub(super) pdu: PduConfig,
    pub(super) worker: Handle,
    /// A second driver that is only ever asked which outlets there can be.
    checker: Mutex<Box<dyn Driver>>,
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) status: Arc<Status>,
    countable: OnceLock<Vec<Outlet>>,
}

/// Outlets are counted up to here, for lists.
const COUNTED: u32 = 256;
/// A PDU that takes this outlet takes any number: there is nothing to count.
const UNCOUNTABLE: &str = "100000";

impl Route {
    /// Could this PDU have such an outlet?
    pub(super) fn check(&self, outlet: &Outlet) -> Result<(), Failure> {
        let checker = self.checker.lock().unwrap_or_else(PoisonError::into_inner);
        let pdu = &self.pdu.name;
        match catch_unwind(AssertUnwindSafe(|| checker.check(outlet))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let reason = format!("PDU {pdu}, outlet {outlet}: {error}");
                Err(Failure::new(FailureKind::NoSuchOutlet, reason))
            }
            Err(panic) => Err(panic_failure(pdu, outlet, panic.as_ref())),
        }
    }

    /// The outlets it has, where the driver knows a last one; found by asking it for each number.
    pub(super) fn countable(&self) -> &[Outlet] {
        self.countable.get_or_init(|| {
            if self.check(&Outlet::new(UNCOUNTABLE)).is_ok() {
                return Vec::new();
            }
            let numbers = (0..=COUNTED).map(|number| Outlet::new(number.to_string()));
            numbers
                .filter(|outlet| self.check(outlet).is_ok())
                .collect()
        })
    }
}

/// All routes and aliases.
pub(super) struct Table {
    pub(super) routes: HashMap<PduName, Route>,
    pub(super) aliases: HashMap<String, Alias>,
    place: Option<StatePlace>,
    buses: HashMap<String, Arc<Bus>>,
    /// Workers of PDUs that have left the config and finish what they have.
    retired: Vec<(PduName, Handle)>,
}

impl Table {
    /// Starts one worker per PDU.
    pub(super) fn start(config: &Config, recover: Recover) -> io::Result<Self> {
        let mut table = Self {
            routes: HashMap::with_capacity(config.pdus.len()),
            aliases: config.aliases.clone(),
            place: config
                .daemon
                .state_directory
                .as_deref()
                .and_then(StatePlace::open),
            buses: HashMap::new(),
            retired: Vec::new(),
        };
        let mut left: HashMap<PduName, Vec<Left>> = HashMap::new();
        if let (Some(place), Recover::Yes) = (&table.place, recover) {
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
        for pdu in config.pdus.values() {
            let owed = left.remove(&pdu.name).unwrap_or_default();
            let outlets: Vec<Outlet> = owed.iter().map(|left| left.outlet.clone()).collect();
            let route = table.route(pdu, owed)?;
            for outlet in outlets {
                warn!(
                    "PDU {}, outlet {outlet}: left off by an unfinished reboot of an earlier run; switching it on",
                    pdu.name
                );
                let _ = route.worker.inbox.send(Message::Owed(outlet));
            }
            table.routes.insert(pdu.name.clone(), route);
        }
        Ok(table)
    }

    /// Follows a new config: PDUs that work as before keep everything, changed ones keep their
    /// queue, removed ones finish theirs. On an error nothing has changed.
    pub(super) fn follow(&mut self, config: &Config) -> io::Result<()> {
        self.retired.retain(|(_, worker)| !worker.is_finished());
        let mut changes = Vec::new();
        let mut added = Vec::new();
        for pdu in config.pdus.values() {
            match self.routes.get(&pdu.name) {
                Some(route) if route.pdu.works_like(pdu) => {}
                Some(_) => changes.push((pdu, build(pdu)?, build(pdu)?)),
                None => added.push(self.route(pdu, Vec::new())?),
            }
        }
        let (changed, new) = (changes.len(), added.len());
        for (pdu, driver, checker) in changes {
            let (bus, lock) = (self.bus(pdu), self.lock(pdu));
            if let Some(route) = self.routes.get_mut(&pdu.name) {
                let change = Change {
                    pdu: pdu.clone(),
                    driver,
                    bus,
                    lock,
                };
                let _ = route.worker.inbox.send(Message::Change(Box::new(change)));
                route.checker = Mutex::new(checker);
                route.countable = OnceLock::new();
            }
        }
        for route in added {
            self.routes.insert(route.pdu.name.clone(), route);
        }
        let gone: Vec<PduName> = self
            .routes
            .keys()
            .filter(|name| !config.pdus.contains_key(*name))
            .cloned()
            .collect();
        let removed = gone.len();
        for name in gone {
            if let Some(route) = self.routes.remove(&name) {
                let _ = route.worker.inbox.send(Message::Retire);
                self.retired.push((name, route.worker));
            }
        }
        for (name, route) in &mut self.routes {
            if let Some(pdu) = config.pdus.get(name) {
                route.pdu = pdu.clone();
            }
        }
        self.aliases.clone_from(&config.aliases);
        info!(target: "pdud", "the config is loaded again: {changed} PDUs changed, {new} new, {removed} gone");
        Ok(())
    }

    /// Every worker, the retired ones included.
    pub(super) fn workers(&self) -> impl Iterator<Item = &Handle> {
        self.routes
            .values()
            .map(|route| &route.worker)
            .chain(self.retired.iter().map(|(_, worker)| worker))
    }

    /// The same, to join them.
    pub(super) fn workers_mut(&mut self) -> impl Iterator<Item = &mut Handle> {
        let routes = self.routes.values_mut().map(|route| &mut route.worker);
        routes.chain(self.retired.iter_mut().map(|(_, worker)| worker))
    }

    fn route(&mut self, pdu: &PduConfig, owed: Vec<Left>) -> io::Result<Route> {
        let retired = self.retired.iter().position(|(name, _)| *name == pdu.name);
        let predecessor = retired.map(|index| self.retired.swap_remove(index).1);
        if let Some(predecessor) = &predecessor {
            predecessor.stop(Stop::Soon);
        }
        let status = Arc::new(Status::default());
        let shared = Shared {
            bus: self.bus(pdu),
            lock: self.lock(pdu),
            ledger: match &self.place {
                Some(place) => Box::new(place.journal.ledger(pdu.name.clone(), owed)),
                None => Box::new(()),
            },
            status: Arc::clone(&status),
            predecessor,
        };
        Ok(Route {
            checker: Mutex::new(build(pdu)?),
            worker: Handle::start(pdu.clone(), build(pdu)?, shared)?,
            pdu: pdu.clone(),
            waiting: Arc::new(AtomicUsize::new(0)),
            status,
            countable: OnceLock::new(),
        })
    }

    fn bus(&mut self, pdu: &PduConfig) -> Option<Arc<Bus>> {
        let name = pdu.bus.as_ref()?;
        Some(Arc::clone(self.buses.entry(name.clone()).or_default()))
    }

    fn lock(&self, pdu: &PduConfig) -> Option<PduLock> {
        self.place.as_ref().map(|place| match &pdu.bus {
            Some(bus) => PduLock::new(&place.directory, "bus", bus),
            None => PduLock::new(&place.directory, "pdu", pdu.name.as_str()),
        })
    }
}

fn build(pdu: &PduConfig) -> io::Result<Box<dyn Driver>> {
    pdu.build()
        .map_err(|error| io::Error::other(format!("PDU {}: {error}", pdu.name)))
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
}
