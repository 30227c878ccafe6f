//! From a request to the right workers: aliases, unknown PDUs, full queues.
//!
//! Invariant: knows no driver by name, no HTTP, no wire.

mod bus;
mod group;
mod job;
mod journal;
mod lock;
mod message;
pub mod metrics;
#[cfg(test)]
mod model;
mod owed;
mod place;
mod plan;
mod queue;
mod refresh;
mod shown;
mod status;
mod table;
mod ticket;
mod worker;

pub use message::Stop;
use shown::Shown;
pub use status::{Known, LastError, Report, Source};
pub use ticket::{Progress, Ticket};

use crate::config::{Alias, BrokenPdu, Config};
use crate::dispatch::metrics::Metrics;
use crate::request::hint::did_you_mean;
use crate::request::{
    Action, Delay, Failure, FailureKind, LONGEST_NAME, Outlet, PduName, Reply, Request, Target,
};
use group::Group;
use job::{Asker, Job, Step};
use log::{error, warn};
use message::Message;
use place::{Full, Limits, Place};
use refresh::Refresher;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};
use table::{Route, Table};
use ticket::Book;

/// The pause of a reboot when the client does not say.
pub const REBOOT_PAUSE: Duration = Duration::from_secs(5);

/// Following a new config takes no longer than this.
const RELOAD_PATIENCE: Duration = Duration::from_secs(30);

/// How the dispatcher is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Requests are taken and handed to workers.
    pub moves: bool,
    /// What is wrong with single workers.
    pub troubles: Vec<(PduName, String)>,
}

/// An outlet that a reboot has switched off and that is not on again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOff {
    /// Its PDU, which may not be in the config any more.
    pub pdu: PduName,
    /// Which.
    pub outlet: Outlet,
    /// Why, and what to do.
    pub why: String,
}

impl fmt::Display for LeftOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "outlet {}: LEFT OFF by an unfinished reboot: {}",
            self.outlet, self.why
        )
    }
}

/// Are unfinished reboots of an earlier run finished at the start?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recover {
    /// The daemon.
    Yes,
    /// One driven request, beside a daemon perhaps.
    No,
}

/// Routes requests to one worker per PDU.
pub struct Dispatcher {
    table: RwLock<Table>,
    /// Groups enter all their queues in one step, so that two of them never wait for each other.
    grouping: Mutex<()>,
    book: Book,
    refresher: Refresher,
    /// Since when a new config is being followed.
    reloading: Mutex<Option<Instant>>,
}

/// One PDU, for lists.
#[derive(Clone, Debug)]
pub struct PduInfo {
    /// Its name.
    pub name: PduName,
    /// Its driver's name, as the config has it.
    pub driver: String,
    /// What a person wrote about it.
    pub about: Option<String>,
    /// Can its outlets' states be read?
    pub reads_back: bool,
    /// They are read in the background at most so often, or never.
    pub refresh: Option<Duration>,
    /// Can its settings be worked with, or those that it had before?
    pub is_served: bool,
    /// What is wrong with its settings in the config.
    pub broken: Option<String>,
    /// Requests that wait or run.
    pub waiting: usize,
    /// What is known of it.
    pub report: Report,
    /// How many outlets it has, where that is known; all of them are in `outlets` then.
    pub outlet_count: Option<usize>,
    /// Where it alone knows how many it has: the outlets to ask it for, one after the other, until
    /// it says that there is none.
    pub sought: Vec<Outlet>,
    /// Its outlets as far as they are known (from the driver, names in the config, aliases and
    /// use), each with its name.
    pub outlets: BTreeMap<Outlet, Option<String>>,
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
        Ok(Self {
            table: RwLock::new(Table::start(config, recover)?),
            grouping: Mutex::new(()),
            book: Book::default(),
            refresher: Refresher::default(),
            reloading: Mutex::new(None),
        })
    }

    /// Follows a new config: PDUs that work as before keep their queue and session, changed ones
    /// their queue; removed ones finish what they have. On an error nothing has changed.
    pub fn reload(&self, config: &Config) -> io::Result<()> {
        let note = |since| {
            *self
                .reloading
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = since;
        };
        note(Some(Instant::now()));
        let followed = self
            .table
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .follow(config);
        note(None);
        followed
    }

    /// Hands a request to its PDU's queue, or refuses it; never blocks. `reply` is called exactly
    /// once: from a worker, or from here on a refusal.
    pub fn submit(&self, mut request: Request, reply: Reply) -> Arc<Ticket> {
        if request.delay.is_some() && matches!(request.action, Action::Switch(_)) {
            warn!("delay parameter is deprecated for on/off commands");
        }
        let is_too_long = request.target.cut();
        if request.delay.is_some_and(Delay::was_negative) {
            let Request { client, target, .. } = &request;
            warn!("{client}: {target}: a delay below 0 counts as 0");
        }
        let ticket = self.book.open(request, reply);
        if is_too_long {
            ticket.refuse(too_long());
            return ticket;
        }
        let table = self.table();
        match place(&table, &ticket.request) {
            Err(failure) => ticket.refuse(failure),
            Ok(places) => self.queue(&ticket, places),
        }
        ticket
    }

    fn queue(&self, ticket: &Arc<Ticket>, places: Vec<(&Route, Outlet, Place)>) {
        let request = &ticket.request;
        let pause = request.delay.map_or(REBOOT_PAUSE, |delay| delay.duration());
        let step = match request.action {
            Action::Switch(to) => Step::Switch(to),
            Action::State => Step::State,
            Action::Reboot => Step::RebootOff(pause),
        };
        let are_many = places.len() > 1;
        let group =
            (are_many && request.action == Action::Reboot).then(|| Group::new(places.len(), pause));
        let job = |(route, outlet, place): (_, Outlet, Place)| {
            let route: &Route = route;
            let asker = Asker::new(ticket, &route.pdu.name, place);
            let mut job = Job::new(outlet, step, vec![asker]);
            job.group.clone_from(&group);
            job.is_background = request.is_background;
            (route, job)
        };
        let jobs: Vec<(&Route, Job)> = places.into_iter().map(job).collect();
        let lock = || self.grouping.lock().unwrap_or_else(PoisonError::into_inner);
        let _one_step = are_many.then(lock);
        for (route, job) in jobs {
            // Nobody to receive it: the job answers itself when it is dropped.
            let _ = route.worker.inbox.send(Message::Job(job, request.waits()));
        }
    }

    /// Cancels a request that has not begun; false when it has, or is over.
    pub fn cancel(&self, ticket: &Ticket) -> bool {
        // The ticket decides, as a worker may be busy for long; the jobs are the workers' to drop.
        let is_cancelled = ticket.cancel();
        if is_cancelled {
            let table = self.table();
            for pdu in ticket.pdus() {
                for route in table.ways_to(&pdu) {
                    let _ = route.worker.inbox.send(Message::Cancelled(ticket.id));
                }
            }
        }
        is_cancelled
    }

    /// The request with this number, if it is not forgotten.
    pub fn request(&self, id: u64) -> Option<Arc<Ticket>> {
        self.book.find(id)
    }

    /// The requests under way and the last that ended, oldest first.
    pub fn requests(&self) -> Vec<Arc<Ticket>> {
        self.book.all()
    }

    /// Every PDU by name.
    pub fn pdus(&self) -> Vec<PduInfo> {
        let table = self.table();
        let mut aliased: HashMap<&PduName, Vec<&Outlet>> = HashMap::new();
        for (pdu, outlet) in aliased_outlets(&table) {
            aliased.entry(pdu).or_default().push(outlet);
        }
        let info = |(name, route)| info_of(name, route, aliased.remove(name).unwrap_or_default());
        let mut pdus: Vec<PduInfo> = table.routes.iter().map(info).collect();
        pdus.sort_by(|a, b| a.name.cmp(&b.name));
        pdus
    }

    /// One PDU.
    pub fn pdu(&self, name: &str) -> Option<PduInfo> {
        let table = self.table();
        let (name, route) = table.routes.get_key_value(name)?;
        let aliased = aliased_outlets(&table).filter(|(pdu, _)| *pdu == name);
        let aliased = aliased.map(|(_, outlet)| outlet).collect();
        Some(info_of(name, route, aliased))
    }

    /// One alias.
    pub fn alias(&self, name: &str) -> Option<Alias> {
        self.table().aliases.get(name).cloned()
    }

    /// Every alias by name.
    pub fn aliases(&self) -> BTreeMap<String, Alias> {
        self.table()
            .aliases
            .iter()
            .map(|(name, alias)| (name.clone(), alias.clone()))
            .collect()
    }

    /// Is there a PDU of this name?
    pub fn has(&self, pdu: &str) -> bool {
        self.table().routes.contains_key(pdu)
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.book.metrics
    }

    /// How dispatching and the workers are. Never blocks.
    pub fn health(&self) -> Health {
        let Ok(table) = self.table.try_read() else {
            // A reload: short, unless something is wrong.
            let since = *self
                .reloading
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            return Health {
                moves: since.is_none_or(|since| since.elapsed() < RELOAD_PATIENCE),
                troubles: Vec::new(),
            };
        };
        let trouble = |route: &Result<Route, BrokenPdu>| {
            let route = match route {
                Ok(route) => route,
                Err(broken) => return Some(format!("it is not served: {broken}")),
            };
            if route.worker.is_finished() {
                return Some("its worker has ended: this is a bug".to_owned());
            }
            if let Some(time) = route.stuck_for() {
                return Some(format!(
                    "a driver call has been running for {} s, past its deadline: this is a bug",
                    time.as_secs()
                ));
            }
            let broken = route.unfollowed.as_ref()?;
            Some(format!(
                "it goes on with the settings that it had: {broken}"
            ))
        };
        let mut troubles: Vec<(PduName, String)> = table
            .routes
            .iter()
            .filter_map(|(name, route)| Some((name.clone(), trouble(route)?)))
            .collect();
        let left_off = table.left_off().into_iter();
        troubles.extend(left_off.map(|left| (left.pdu.clone(), left.to_string())));
        troubles.sort();
        Health {
            moves: true,
            troubles,
        }
    }

    /// Outlets that a reboot has switched off and that are not on again.
    pub fn left_off(&self) -> Vec<LeftOff> {
        self.table().left_off()
    }

    /// Finishes the reboots of processes that have died beside this one.
    pub fn take_over(&self) {
        self.table().take_over(table::YOUNG);
    }

    /// The outlet that a client means, if this PDU can have it. `may_see` says which names the
    /// client may be told.
    pub fn outlet(
        &self,
        pdu: &str,
        outlet: &Outlet,
        may_see: impl Fn(&str) -> bool,
    ) -> Result<Outlet, Failure> {
        if pdu.len().max(outlet.as_str().len()) > LONGEST_NAME {
            return Err(too_long());
        }
        route_of(&self.table(), pdu, may_see)?.outlet(outlet)
    }

    /// The failure of a request for a PDU that the client knows nothing of, be it in the config or
    /// not.
    pub fn unknown_pdu(&self, pdu: &str, may_see: impl Fn(&str) -> bool) -> Failure {
        let table = self.table();
        let known = table.routes.keys();
        unknown_pdu(pdu, known.filter(|name| may_see(name.as_str())))
    }

    /// The same for an alias.
    pub fn unknown_alias(&self, alias: &str, may_see: impl Fn(&str) -> bool) -> Failure {
        unknown_alias(&self.table(), alias, may_see)
    }

    /// Takes no further requests, and tells every worker to stop.
    pub fn stop(&self, how: Stop) {
        // Whoever submits holds the table: what is in a queue by now is there whole.
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.is_stopping = true;
        table.all_routes().for_each(|route| route.worker.stop(how));
    }

    /// Have all workers stopped, but for those whose driver does not come back?
    pub fn is_finished(&self) -> bool {
        let is_finished = |route: &Route| route.worker.is_finished() || route.stuck_for().is_some();
        self.table().all_routes().all(is_finished)
    }

    /// Waits until every worker has nothing left to do, after [`Dispatcher::stop`]. Nobody waits for
    /// a driver that does not come back.
    pub fn join(&self) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for route in table.all_routes_mut() {
            match route.stuck_for() {
                None => route.worker.join(),
                Some(time) => error!(
                    "PDU {}: its driver has not returned for {} s, past its deadline, this is a bug: stopping without it",
                    route.pdu.name,
                    time.as_secs()
                ),
            }
        }
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks the request whole: every outlet, and room in every queue.
fn place<'t>(
    table: &'t Table,
    request: &Request,
) -> Result<Vec<(&'t Route, Outlet, Place)>, Failure> {
    if table.is_stopping {
        return Err(plan::stopping());
    }
    let may_see = |_: &str| request.may_know_names;
    if let Target::Outlet { pdu, outlet } = &request.target {
        let route = route_of(table, pdu, may_see)?;
        let outlet = route.outlet(outlet)?;
        let place = if request.is_background {
            // Not counted: whoever submits such has few of them, and clients need the room.
            Place::uncounted()
        } else {
            room(route, request, &request.owner())?
        };
        return Ok(vec![(route, outlet, place)]);
    }
    let outlets = outlets_of(table, &request.target, may_see)?;
    let owner = request.owner();
    let mut routes = Vec::with_capacity(outlets.len());
    for (pdu, outlet) in outlets {
        let route = route_of(table, pdu.as_str(), may_see)?;
        routes.push((route, route.outlet(outlet)?));
    }
    routes
        .into_iter()
        .map(|(route, outlet)| Ok((route, outlet, room(route, request, &owner)?)))
        .collect()
}

fn outlets_of<'t>(
    table: &'t Table,
    target: &Target,
    may_see: impl Fn(&str) -> bool,
) -> Result<&'t [(PduName, Outlet)], Failure> {
    let name = match target {
        Target::Alias(name) => name,
        Target::Outlet { .. } => return Ok(&[]),
    };
    match table.aliases.get(name) {
        Some(Alias::Outlets(outlets)) => Ok(outlets),
        Some(Alias::Dead(why)) => {
            let reason = format!("the alias {name:?} leads nowhere: {why}");
            Err(Failure::new(FailureKind::UnknownAlias, reason))
        }
        None => Err(unknown_alias(table, name, may_see)),
    }
}

fn route_of<'t>(
    table: &'t Table,
    pdu: &str,
    may_see: impl Fn(&str) -> bool,
) -> Result<&'t Route, Failure> {
    match table.routes.get(pdu) {
        Some(Ok(route)) => Ok(route),
        Some(Err(broken)) => {
            let reason = format!("PDU {pdu}: {broken}");
            Err(Failure::new(FailureKind::BrokenSettings, reason))
        }
        None => {
            let known = table.routes.keys();
            Err(unknown_pdu(
                pdu,
                known.filter(|name| may_see(name.as_str())),
            ))
        }
    }
}

/// The failure of a request for a PDU that is not among those `known`.
pub fn unknown_pdu<'n>(pdu: &str, known: impl Iterator<Item = &'n PduName>) -> Failure {
    let hint = did_you_mean(pdu, "", known.map(PduName::as_str));
    let reason = format!("there is no PDU {pdu:?} in the config{hint}");
    Failure::new(FailureKind::UnknownPdu, reason)
}

fn unknown_alias(table: &Table, alias: &str, may_see: impl Fn(&str) -> bool) -> Failure {
    let known = table.aliases.keys().map(String::as_str);
    let hint = did_you_mean(alias, "", known.filter(|name| may_see(name)));
    let reason = format!("there is no alias {alias:?} in the config{hint}");
    Failure::new(FailureKind::UnknownAlias, reason)
}

/// Nothing can have such a name, and nobody shall make the daemon remember it.
fn too_long() -> Failure {
    let reason = format!("a name is longer than {LONGEST_NAME} bytes");
    Failure::new(FailureKind::BadRequest, reason)
}

fn room(route: &Route, request: &Request, owner: &Arc<str>) -> Result<Place, Failure> {
    let pdu = &route.pdu;
    let limits = Limits {
        all: pdu.queue_limit,
        owner: pdu.client_limit,
        delayed: pdu.delayed_limit,
    };
    let is_delayed = request.waits() > Duration::ZERO;
    Place::take(&route.places, owner, is_delayed, limits).map_err(|full| {
        let why = match full {
            Full::All => format!("the queue is full ({} requests are waiting)", limits.all),
            Full::Owner => format!(
                "the queue has {} requests of one client, as many as its client_limit lets it have",
                limits.owner
            ),
            Full::Delayed => format!(
                "the queue has {} requests that wait for their delay, as many as its delayed_limit lets it have",
                limits.delayed
            ),
        };
        Failure::new(FailureKind::QueueFull, format!("PDU {}: {why}", pdu.name))
    })
}

/// What the aliases name.
fn aliased_outlets(table: &Table) -> impl Iterator<Item = (&PduName, &Outlet)> {
    let outlets = table.aliases.values().flat_map(|alias| match alias {
        Alias::Outlets(outlets) => outlets.as_slice(),
        Alias::Dead(_) => &[],
    });
    outlets.map(|(pdu, outlet)| (pdu, outlet))
}

fn info_of(name: &PduName, route: &Result<Route, BrokenPdu>, aliased: Vec<&Outlet>) -> PduInfo {
    let route = match route {
        Ok(route) => route,
        Err(broken) => {
            return PduInfo {
                name: name.clone(),
                driver: broken.driver.clone(),
                about: None,
                reads_back: false,
                refresh: None,
                is_served: false,
                broken: Some(broken.error.to_string()),
                waiting: 0,
                outlet_count: None,
                sought: Vec::new(),
                outlets: aliased.into_iter().map(|id| (id.clone(), None)).collect(),
                report: Report::default(),
            };
        }
    };
    let report = route.status.report();
    let pdu = &route.pdu;
    let shown = Shown::of(pdu, &aliased, &report);
    PduInfo {
        name: pdu.name.clone(),
        driver: pdu.settings.driver().to_owned(),
        about: pdu.about.clone(),
        reads_back: pdu.spec.reads_back,
        refresh: pdu.refresh,
        is_served: true,
        broken: route
            .unfollowed
            .as_ref()
            .map(|broken| broken.error.to_string()),
        waiting: route.places.taken(),
        outlet_count: shown.count,
        sought: shown.sought,
        outlets: shown.outlets,
        report,
    }
}

/// How the hash of a name begins; no other name of a file of ours has a hyphen.
const HASHED: &str = "sha256-";

/// A name that may be too long for a file: then its hash.
fn short(name: &str) -> Cow<'_, str> {
    // 255 bytes is the limit, and something comes before and behind it.
    const MOST: usize = 200;
    if name.len() <= MOST {
        return name.into();
    }
    let hash = Sha256::digest(name.as_bytes());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{HASHED}{hash}").into()
}

/// For the fuzzer.
#[cfg(fuzzing)]
#[allow(missing_docs)]
pub mod fuzzing {
    use crate::request::{Outlet, PduName};

    pub fn journal_name(pdu: &PduName, outlet: &Outlet) -> String {
        format!("{}.0", super::journal::encoded(pdu, outlet))
    }

    pub fn read_journal_name(name: &str) -> Option<(PduName, Outlet)> {
        super::journal::read_name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{By, Driver, DriverError, DriverSpec, Has};
    use crate::request::{Proof, Switch};
    use crate::transport::Attempt;

    /// Never comes back from a switch.
    struct Deaf;

    impl Driver for Deaf {
        fn switch(&mut self, _: &Outlet, _: Switch, _: &Attempt) -> Result<Proof, DriverError> {
            loop {
                std::thread::park();
            }
        }
    }

    static DEAF: DriverSpec = DriverSpec {
        names: &["deaf"],
        any_case: false,
        models: "",
        transport: "",
        outlets: Has::Numbers(1, 1),
        reads_back: false,
        verified_by: "",
        timeout: 1,
        shows_within: 1,
        build: &By(|(): (), _| Ok(Box::new(Deaf) as Box<dyn Driver>)),
    };

    /// What the config found is gone by now.
    static GONE: DriverSpec = DriverSpec {
        build: &By(|(): (), settings| {
            Err::<Box<dyn Driver>, _>(settings.error("mib", "there is no such file"))
        }),
        ..DEAF
    };

    fn on(pdu: &str) -> Request {
        Request {
            client: "test".into(),
            target: Target::Outlet {
                pdu: pdu.into(),
                outlet: Outlet::new("1"),
            },
            action: Action::Switch(Switch::On),
            delay: None,
            is_background: false,
            may_know_names: true,
        }
    }

    fn wait_for(what: &str, is_so: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        while !is_so() {
            assert!(Instant::now() < until, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_driver_that_cannot_be_built_any_more_costs_its_own_pdu_alone() {
        let text = r#"{"daemon": {"hostname": "127.0.0.1", "port": 0}, "pdus": {
            "gone": {"driver": "simulated"}, "good": {"driver": "simulated"}}}"#;
        let good = Config::parse(text, "x.conf").expect("a good config");
        let mut gone = good.clone();
        let pdu = gone.pdus.get_mut("gone").expect("a PDU");
        pdu.as_mut().expect("a good one").spec = &GONE;
        let asked = |dispatcher: &Dispatcher, pdu: &str| {
            let (sender, answered) = crossbeam_channel::bounded(1);
            dispatcher.submit(on(pdu), Box::new(move |outcome| drop(sender.send(outcome))));
            let outcome = answered.recv_timeout(Duration::from_secs(30));
            outcome
                .expect("an answer")
                .map_err(|failure| failure.to_string())
        };
        let dispatcher = Dispatcher::start(&gone, Recover::No).expect("started");
        let refused = asked(&dispatcher, "gone").expect_err("not served");
        let why = "x.conf:2:21: pdus.gone.mib: there is no such file";
        assert!(refused.contains(why), "{refused}");
        assert!(asked(&dispatcher, "good").is_ok());
        // It is mended by a reload; and one that breaks it again leaves it what it had.
        dispatcher.reload(&good).expect("loaded");
        assert!(asked(&dispatcher, "gone").is_ok());
        dispatcher.reload(&gone).expect("loaded");
        assert!(asked(&dispatcher, "gone").is_ok());
        let told = dispatcher.pdu("gone").and_then(|pdu| pdu.broken);
        assert!(told.is_some_and(|told| told.to_string().contains(why)));
        dispatcher.stop(Stop::Now);
        dispatcher.join();
    }

    #[test]
    fn a_worker_that_ends_in_a_panic_leaves_its_bus() {
        let text = r#"{"daemon": {"hostname": "127.0.0.1", "port": 0}, "pdus": {
            "dies": {"driver": "simulated", "bus": "wire"},
            "lives": {"driver": "simulated", "bus": "wire"}}}"#;
        let config = Config::parse(text, "test").expect("a good config");
        let dispatcher = Dispatcher::start(&config, Recover::No).expect("started");
        dispatcher.submit(on("dies"), Box::new(|_| panic!("on purpose")));
        wait_for("the worker's end", || {
            !dispatcher.health().troubles.is_empty()
        });
        let (sender, answered) = crossbeam_channel::bounded(1);
        let reply = move |outcome| drop(sender.send(outcome));
        dispatcher.submit(on("lives"), Box::new(reply));
        let outcome = answered.recv_timeout(Duration::from_secs(30));
        assert!(outcome.expect("an answer").is_ok());
        dispatcher.stop(Stop::Now);
        dispatcher.join();
    }

    #[test]
    fn a_driver_that_does_not_come_back_is_told_and_keeps_nobody_from_stopping() {
        let text = r#"{"daemon": {"hostname": "127.0.0.1", "port": 0}, "pdus": {
            "deaf": {"driver": "simulated", "timeout": 0.1, "retries": 1},
            "gone": {"driver": "simulated", "timeout": 0.1, "retries": 1},
            "stays": {"driver": "simulated"}}}"#;
        let mut config = Config::parse(text, "test").expect("a good config");
        for name in ["deaf", "gone"] {
            let pdu = config.pdus.get_mut(name).expect("a PDU");
            pdu.as_mut().expect("a good one").spec = &DEAF;
        }
        let dispatcher = Dispatcher::start(&config, Recover::No).expect("started");
        for name in ["deaf", "gone"] {
            dispatcher.submit(on(name), Box::new(drop));
        }
        wait_for("the call", || {
            let pdu = dispatcher.pdu("gone").expect("it is there");
            pdu.report.call.is_some()
        });
        config.pdus.retain(|name, _| name.as_str() != "gone");
        dispatcher.reload(&config).expect("loaded");
        wait_for("a sign", || {
            let troubles = dispatcher.health().troubles;
            troubles.iter().any(|(name, _)| name.as_str() == "deaf")
        });
        dispatcher.stop(Stop::Now);
        wait_for("the workers' ends", || dispatcher.is_finished());
        dispatcher.join();
    }
}
