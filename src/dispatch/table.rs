//! The PDUs that are served: one route each, and what they share. Made from the config, and made
//! to follow it.

use super::bus::Bus;
use super::held::held;
use super::journal::{Journal, LeftRecord, OLD};
use super::lock::PduLock;
use super::message::{Kit, Message, Stop};
use super::place::Places;
use super::plan::Ledger;
use super::status::{LeftOff, Report};
use super::worker::{self, OVERDUE, longest_turn};
use crate::config::{Alias, BrokenPdu, Config, PduConfig};
use crate::request::{Failure, FailureKind, Outlet, PduName, count};
use crossbeam_channel::Sender;
use log::{error, info, warn};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The way to one PDU.
pub(super) struct Route {
    pub(super) pdu: Arc<PduConfig>,
    /// Its entry in the config now, when that cannot work: it goes on with the settings that it had.
    pub(super) unfollowed: Option<BrokenPdu>,
    /// Its worker takes messages here.
    pub(super) inbox: Sender<Message>,
    worker: Option<JoinHandle<()>>,
    pub(super) places: Arc<Mutex<Places>>,
    pub(super) report: Arc<Mutex<Report>>,
}

impl Route {
    /// Is any request under way, or any outlet owed its on?
    fn has_work(&self) -> bool {
        held(&self.places).taken > 0 || held(&self.report).owed > 0
    }

    /// For how long the driver call under way has been running, if its deadline has long passed.
    pub(super) fn stuck_for(&self) -> Option<Duration> {
        let now = Instant::now();
        let (since, deadline) = held(&self.report).call?;
        (now > deadline + OVERDUE).then(|| now.saturating_duration_since(since))
    }

    /// Tells the worker to stop; [`Route::join`] waits for it.
    pub(super) fn stop(&self, how: Stop) {
        // A worker that has ended needs no message.
        let _ = self.inbox.send(Message::Stop(how));
    }

    /// Waits until the worker has nothing left to do.
    pub(super) fn join(&mut self) {
        if let Some(worker) = self.worker.take()
            && worker.join().is_err()
        {
            error!("a worker ended in a panic: this is a bug");
        }
    }

    /// Is the worker's thread over?
    pub(super) fn is_finished(&self) -> bool {
        self.worker.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The outlet that a client means, if this PDU can have it.
    pub(super) fn outlet(&self, written: &Outlet) -> Result<Outlet, Failure> {
        self.pdu.outlets.parse(written).map_err(|error| {
            let reason = format!("PDU {}, outlet {written}: {error}", self.pdu.name);
            Failure::new(FailureKind::NoSuchOutlet, reason)
        })
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        self.stop(Stop::Soon);
    }
}

/// A record younger than this may not have its lock yet.
pub(super) const YOUNG: Duration = Duration::from_secs(1);

/// All routes and aliases.
pub(super) struct Table {
    /// To a PDU whose settings cannot work there is no way.
    pub(super) routes: HashMap<PduName, Result<Route, BrokenPdu>>,
    pub(super) aliases: HashMap<String, Alias>,
    /// The state directory, with the journal in it.
    state: Option<(PathBuf, Arc<Journal>)>,
    buses: HashMap<String, Arc<Bus>>,
    /// PDUs that have left the config. Their workers finish what they have, and live until a reload
    /// that finds them without work.
    retired: HashMap<PduName, Route>,
    /// Outlets that an earlier run has left off and that nobody switches on.
    abandoned: Mutex<Vec<LeftOff>>,
    /// No further request is taken.
    pub(super) is_stopping: bool,
}

impl Table {
    /// Starts one worker per PDU.
    pub(super) fn start(config: &Config) -> io::Result<Self> {
        let mut table = Self {
            routes: HashMap::with_capacity(config.pdus.len()),
            aliases: config.aliases.clone().unwrap_or_default(),
            state: config
                .daemon
                .state_directory
                .as_deref()
                .and_then(open_state),
            buses: HashMap::new(),
            retired: HashMap::new(),
            abandoned: Mutex::default(),
            is_stopping: false,
        };
        for (name, pdu) in &config.pdus {
            let route = match pdu {
                Ok(pdu) => match table.kit(pdu) {
                    Ok(kit) => Ok(table.route(kit)?),
                    Err(broken) => Err(told(&broken)),
                },
                Err(broken) => Err(told(broken)),
            };
            table.routes.insert(name.clone(), route);
        }
        Ok(table)
    }

    /// Tells every worker of the outlets that other processes have recorded, and not within the
    /// last `age`: it takes over those whose process is gone. Those that have no worker are told.
    pub(super) fn take_over(&self, age: Duration) {
        let Some((_, journal)) = self.state.as_ref().filter(|_| !self.is_stopping) else {
            return;
        };
        let mut abandoned = Vec::new();
        for found in journal.found(age) {
            match self.why_abandoned(&found) {
                None => {
                    if let Some(Ok(route)) = self.routes.get(&found.pdu) {
                        // By all that the driver can have: what the settings leave out since must
                        // not stay dark. One that even the driver cannot have is for the log to tell.
                        let parsed = route.pdu.outlets.own().parse(&found.outlet);
                        // Where only the PDU knows the key, the record has it.
                        let has_key = |outlet: &Outlet| outlet.other_key().is_some();
                        let parsed = parsed
                            .ok()
                            .filter(|outlet| has_key(outlet) || !has_key(&found.outlet));
                        let outlet = parsed.unwrap_or(found.outlet);
                        let _ = route.inbox.send(Message::Owed(Box::new(outlet)));
                    }
                }
                Some(why) if journal.is_left(&found) => abandoned.push(LeftOff {
                    why: format!("{why}; its record is {}", found.path.display()),
                    pdu: found.pdu,
                    outlet: found.outlet,
                }),
                Some(_) => {}
            }
        }
        let mut known = held(&self.abandoned);
        for left in abandoned.iter().filter(|left| !known.contains(left)) {
            error!("PDU {}, {left}", left.pdu);
        }
        *known = abandoned;
    }

    /// Why nobody switches this outlet on, and what to do, if that is so.
    fn why_abandoned(&self, found: &LeftRecord) -> Option<String> {
        match self.routes.get(&found.pdu) {
            Some(Ok(_)) => {}
            Some(Err(broken)) => return Some(broken.to_string()),
            None => {
                let why = "this PDU is not in the config any more; put it back, or switch the outlet on by hand and remove the record";
                return Some(why.into());
            }
        }
        found.is_old().then(|| {
            let days = OLD.as_secs() / 86_400;
            format!("that was more than {days} days ago, and somebody may have switched it off on purpose since; switch it on or off")
        })
    }

    /// Outlets that a reboot has switched off and that are not on again.
    pub(super) fn left_off(&self) -> Vec<LeftOff> {
        let mut left_off = held(&self.abandoned).clone();
        for route in self.all_routes() {
            let outlets = &held(&route.report).left_off;
            left_off.extend(outlets.iter().map(|outlet| LeftOff {
                pdu: route.pdu.name.clone(),
                outlet: outlet.clone(),
                why: "its on fails; it is tried again until it is on".into(),
            }));
        }
        left_off.sort();
        left_off
    }

    /// Follows a new config: PDUs that work as before keep everything, changed ones keep their
    /// queue, removed ones finish theirs, those whose new settings cannot work go on with what
    /// they had. On an error nothing has changed.
    pub(super) fn follow(&mut self, config: &Config) -> io::Result<()> {
        let (mut changes, mut added, mut unbuilt) = (Vec::new(), Vec::new(), HashMap::new());
        for pdu in config.pdus.values().flatten() {
            let is_retired = self.retired.contains_key(&pdu.name);
            let route = self.routes.get(&pdu.name);
            if matches!(route, Some(Ok(route)) if route.pdu.works_like(pdu)) {
                continue;
            }
            let is_new = !is_retired && !matches!(route, Some(Ok(_)));
            match self.kit(pdu) {
                Ok(kit) if is_new => added.push(self.route(kit)?),
                Ok(kit) => changes.push(kit),
                Err(broken) => drop(unbuilt.insert(&pdu.name, broken)),
            }
        }
        let is_new = |kit: &&Kit| self.retired.contains_key(&kit.pdu.name);
        let back = changes.iter().filter(is_new).count();
        let new = added.len() + back;
        let changed = count(changes.len() - back, "PDU changed", "PDUs changed");
        // Only a worker without any work may end: a PDU that comes back goes on with its queue, and
        // with what it owes.
        let is_back = |name: &PduName| matches!(config.pdus.get(name), Some(Ok(_)));
        self.retired
            .retain(|name, route| is_back(name) || route.has_work());
        for kit in changes {
            let name = kit.pdu.name.clone();
            if let Some(route) = self.retired.remove(&name) {
                self.routes.insert(name.clone(), Ok(route));
            }
            if let Some(Ok(route)) = self.routes.get(&name) {
                let _ = route.inbox.send(Message::Change(Box::new(kit)));
            }
        }
        for route in added {
            self.routes.insert(route.pdu.name.clone(), Ok(route));
        }
        let is_gone = |name: &PduName| !config.pdus.contains_key(name);
        let mut gone = 0;
        for (name, route) in self.routes.extract_if(|name, _| is_gone(name)) {
            gone += 1;
            if let Ok(route) = route {
                self.retired.insert(name, route);
            }
        }
        for (name, pdu) in &config.pdus {
            let pdu = pdu
                .as_ref()
                .and_then(|pdu| unbuilt.get(name).map_or(Ok(pdu), Err));
            match (pdu, self.routes.get_mut(name)) {
                (Ok(pdu), Some(Ok(route))) => {
                    (route.pdu, route.unfollowed) = (Arc::clone(pdu), None)
                }
                // Every good one has a route by now.
                (Ok(_), _) => {}
                (Err(broken), Some(Ok(route))) => {
                    error!("PDU {name} goes on with the settings that it had: {broken}");
                    route.unfollowed = Some(broken.clone());
                }
                (Err(broken), _) => {
                    self.routes.insert(name.clone(), Err(told(broken)));
                }
            }
        }
        match &config.aliases {
            Some(aliases) => self.aliases.clone_from(aliases),
            None => error!("the aliases stay as they were: the file's cannot be read"),
        }
        self.take_over(YOUNG);
        info!(target: "pdud", "the config is loaded again: {changed}, {new} new, {gone} gone");
        Ok(())
    }

    /// The outlets that aliases name.
    pub(super) fn aliased_outlets(&self) -> impl Iterator<Item = (&PduName, &Outlet)> {
        let outlets = self.aliases.values().flat_map(|alias| match alias {
            Alias::Outlets(outlets) => outlets.as_slice(),
            Alias::Dead(_) => &[],
        });
        outlets.map(|(pdu, outlet)| (pdu, outlet))
    }

    /// The worker of this PDU, and the one it had before it left the config.
    pub(super) fn ways_to(&self, pdu: &PduName) -> impl Iterator<Item = &Route> {
        let route = self.routes.get(pdu).and_then(|route| route.as_ref().ok());
        route.into_iter().chain(self.retired.get(pdu))
    }

    /// Every route, the retired ones included.
    pub(super) fn all_routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.values().flatten().chain(self.retired.values())
    }

    /// The same, to join their workers.
    pub(super) fn all_routes_mut(&mut self) -> impl Iterator<Item = &mut Route> {
        let routes = self.routes.values_mut().flatten();
        routes.chain(self.retired.values_mut())
    }

    /// Fails where what the config has found is not there any more, as a MIB file.
    fn kit(&mut self, pdu: &Arc<PduConfig>) -> Result<Kit, BrokenPdu> {
        Ok(Kit {
            pdu: Arc::clone(pdu),
            driver: pdu.build()?,
            bus: self.bus(pdu),
            lock: self.lock(pdu),
        })
    }

    /// A way to this PDU, with a new worker.
    fn route(&mut self, kit: Kit) -> io::Result<Route> {
        let pdu = Arc::clone(&kit.pdu);
        let report = Arc::default();
        let ledger: Box<dyn Ledger> = match &self.state {
            Some((_, journal)) => Box::new(journal.ledger(pdu.name.clone())),
            None => Box::new(()),
        };
        let (inbox, worker) = worker::start(kit, ledger, Arc::clone(&report))?;
        Ok(Route {
            pdu,
            unfollowed: None,
            inbox,
            worker: Some(worker),
            places: Arc::default(),
            report,
        })
    }

    fn bus(&mut self, pdu: &PduConfig) -> Option<Arc<Bus>> {
        let name = pdu.bus.as_ref()?;
        let bus = self.buses.entry(name.clone()).or_default();
        bus.admit(longest_turn(pdu));
        Some(Arc::clone(bus))
    }

    fn lock(&self, pdu: &PduConfig) -> Option<PduLock> {
        let (directory, _) = self.state.as_ref()?;
        Some(match &pdu.bus {
            Some(bus) => PduLock::new(directory, "bus", bus),
            None => PduLock::new(directory, "pdu", pdu.name.as_str()),
        })
    }
}

/// Says that a PDU is not served.
fn told(broken: &BrokenPdu) -> BrokenPdu {
    error!("PDU {} is not served: {broken}", broken.name);
    broken.clone()
}

/// Opens the state directory, with the journal in it. Without a usable one the daemon serves all the
/// same, and warns.
fn open_state(directory: &Path) -> Option<(PathBuf, Arc<Journal>)> {
    let opened =
        fs::create_dir_all(directory.join("locks")).and_then(|()| Journal::open(directory));
    match opened {
        Ok(journal) => Some((directory.to_owned(), Arc::new(journal))),
        Err(error) => {
            warn!(
                "state directory {}: {error}; going on without locks, and without a journal of reboots",
                directory.display()
            );
            None
        }
    }
}
