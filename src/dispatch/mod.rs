//! From a request to the right workers.
//!
//! Invariant: knows no driver by name, no HTTP, no wire.

mod admission;
mod bus;
mod file_name;
mod gauges;
mod group;
mod health;
mod held;
mod info;
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
mod status;
mod table;
mod ticket;
mod worker;

pub use admission::unknown_pdu;
pub use info::PduInfo;
pub use message::Stop;
pub use status::{LastError, LastState, LeftOff, Report};
pub use ticket::{Progress, Ticket};

use crate::config::{Alias, Config};
use crate::request::{Action, Delay, Failure, LONGEST_NAME, Outlet, PduName, Reply, Request};
use admission::{admit, route_of, too_long, unknown_alias};
use group::Group;
use held::held;
use job::{Claim, Job, Step};
use log::{error, warn};
use message::Message;
use metrics::Metrics;
use place::Place;
use refresh::Round;
use std::collections::{BTreeMap, HashMap, VecDeque};
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

/// Routes requests to one worker per PDU.
pub struct Dispatcher {
    table: RwLock<Table>,
    /// Groups enter all their queues in one step, so that two of them never wait for each other.
    grouping: Mutex<()>,
    book: Mutex<Book>,
    metrics: Arc<Metrics>,
    /// The background reads of each PDU.
    rounds: Mutex<HashMap<PduName, Round>>,
    /// Since when a new config is being followed.
    reloading: Mutex<Option<Instant>>,
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").finish_non_exhaustive()
    }
}

impl Dispatcher {
    /// Starts one worker per PDU of the config.
    pub fn start(config: &Config) -> io::Result<Self> {
        let metrics = Arc::<Metrics>::default();
        Ok(Self {
            table: RwLock::new(Table::start(config)?),
            grouping: Mutex::new(()),
            book: Mutex::new(Book::new(&metrics)),
            metrics,
            rounds: Mutex::default(),
            reloading: Mutex::new(None),
        })
    }

    /// Follows a new config: PDUs that work as before keep their queue and session, changed ones
    /// their queue; removed ones finish what they have. On an error nothing has changed.
    pub fn reload(&self, config: &Config) -> io::Result<()> {
        *held(&self.reloading) = Some(Instant::now());
        let followed = self
            .table
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .follow(config);
        *held(&self.reloading) = None;
        followed
    }

    /// Hands a request to its PDU's queue, or refuses it; never blocks. `reply` is called exactly
    /// once: from a worker, or from here on a refusal.
    pub fn submit(&self, request: Request, reply: Reply) -> Arc<Ticket> {
        let ticket = self.open(request, reply);
        self.queue(std::slice::from_ref(&ticket));
        ticket
    }

    /// The same with many requests that one client makes at once, all with one action and one
    /// delay: each PDU's worker hears of all that are for it at the same moment.
    pub fn submit_all(&self, requests: impl IntoIterator<Item = Request>) -> Vec<Arc<Ticket>> {
        let open = |request| self.open(request, Box::new(drop));
        let tickets: Vec<Arc<Ticket>> = requests.into_iter().map(open).collect();
        self.queue(&tickets);
        tickets
    }

    /// Notes a request in the book, or refuses it.
    fn open(&self, mut request: Request, reply: Reply) -> Arc<Ticket> {
        if request.delay.is_some() && matches!(request.action, Action::Switch(_)) {
            warn!("delay parameter is deprecated for on/off commands");
        }
        let is_too_long = request.target.cut();
        if request.delay.is_some_and(Delay::was_negative) {
            let Request { client, target, .. } = &request;
            warn!("{client}: {target}: a delay below 0 counts as 0");
        }
        let ticket = held(&self.book).open(request, reply);
        if is_too_long {
            ticket.refuse(too_long());
        }
        ticket
    }

    /// Hands the jobs of these requests to their workers; refuses those for which there is no room.
    fn queue(&self, tickets: &[Arc<Ticket>]) {
        let Some(first) = tickets.first() else {
            return;
        };
        let table = self.table();
        let mut sendings: HashMap<&PduName, (&Route, VecDeque<Box<Job>>)> = HashMap::new();
        for ticket in tickets.iter().filter(|ticket| !ticket.has_ended()) {
            match admit(&table, &ticket.request) {
                Err(failure) => ticket.refuse(failure),
                Ok(places) => {
                    for (route, job) in jobs(ticket, places, first.id) {
                        let sending = sendings.entry(&route.pdu.name);
                        sending.or_insert((route, VecDeque::new())).1.push_back(job);
                    }
                }
            }
        }
        let wait = first.request.waits();
        let _one_step = (sendings.len() > 1).then(|| held(&self.grouping));
        for (route, jobs) in sendings.into_values() {
            // Nobody to receive them: the jobs answer themselves when they are dropped.
            let _ = route.inbox.send(Message::Jobs(jobs, wait));
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
                    let _ = route.inbox.send(Message::Cancelled(ticket.id));
                }
            }
        }
        is_cancelled
    }

    /// The request with this number, if it is not forgotten.
    pub fn request(&self, id: u64) -> Option<Arc<Ticket>> {
        held(&self.book).find(id)
    }

    /// The requests under way and the last that ended, oldest first.
    pub fn requests(&self) -> Vec<Arc<Ticket>> {
        held(&self.book).all()
    }

    /// Every PDU by name.
    pub fn pdus(&self) -> Vec<PduInfo> {
        let table = self.table();
        let mut aliased: HashMap<&PduName, Vec<&Outlet>> = HashMap::new();
        for (pdu, outlet) in table.aliased_outlets() {
            aliased.entry(pdu).or_default().push(outlet);
        }
        let info =
            |(name, route)| PduInfo::of(name, route, aliased.remove(name).unwrap_or_default());
        let mut pdus: Vec<PduInfo> = table.routes.iter().map(info).collect();
        pdus.sort_by(|a, b| a.name.cmp(&b.name));
        pdus
    }

    /// One PDU.
    pub fn pdu(&self, name: &str) -> Option<PduInfo> {
        let table = self.table();
        let (name, route) = table.routes.get_key_value(name)?;
        let aliased = table.aliased_outlets().filter(|(pdu, _)| *pdu == name);
        let aliased = aliased.map(|(_, outlet)| outlet).collect();
        Some(PduInfo::of(name, route, aliased))
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

    /// The program's counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Everything counted, and what is known of the PDUs that the client `may_see`, in the
    /// OpenMetrics text form.
    pub fn metrics_text(&self, may_see: impl Fn(&str) -> bool) -> String {
        let (mut pdus, mut left_off) = (self.pdus(), self.left_off());
        pdus.retain(|info| may_see(info.name.as_str()));
        left_off.retain(|left| may_see(left.pdu.as_str()));
        self.metrics.text(&gauges::registry_of(&pdus, &left_off))
    }

    /// The PDUs in trouble, each with the reason; `None` when no request is taken or handed to a
    /// worker. Never blocks.
    pub fn troubles(&self) -> Option<Vec<(PduName, String)>> {
        let Ok(table) = self.table.try_read() else {
            // A reload: short, unless something is wrong.
            let since = *held(&self.reloading);
            let is_short = since.is_none_or(|since| since.elapsed() < RELOAD_PATIENCE);
            return is_short.then(Vec::new);
        };
        Some(health::troubles(&table))
    }

    /// Outlets that a reboot has switched off and that are not on again.
    pub fn left_off(&self) -> Vec<LeftOff> {
        self.table().left_off()
    }

    /// Finishes the reboots of an earlier run, before anything that comes later.
    pub fn recover(&self) {
        self.table().take_over(Duration::ZERO);
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
        // A submission holds the table: by now each request is in all its queues, or in none.
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.is_stopping = true;
        table.all_routes().for_each(|route| route.stop(how));
    }

    /// Have all workers stopped, but for those whose driver does not come back?
    pub fn is_finished(&self) -> bool {
        let is_finished = |route: &Route| route.is_finished() || route.stuck_for().is_some();
        self.table().all_routes().all(is_finished)
    }

    /// Waits until every worker has nothing left to do, after [`Dispatcher::stop`]. Nobody waits for
    /// a driver that does not come back.
    pub fn join(&self) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for route in table.all_routes_mut() {
            match route.stuck_for() {
                None => route.join(),
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

/// The jobs of a request, one for each of its outlets, on this errand.
fn jobs<'t>(
    ticket: &Arc<Ticket>,
    places: Vec<(&'t Route, Outlet, Place)>,
    errand: u64,
) -> Vec<(&'t Route, Box<Job>)> {
    let request = &ticket.request;
    let pause = request.delay.map_or(REBOOT_PAUSE, |delay| delay.duration());
    let step = match request.action {
        Action::Switch(to) => Step::Switch(to),
        Action::State => Step::State,
        Action::Reboot => Step::RebootOff(pause),
    };
    let is_group = places.len() > 1 && request.action == Action::Reboot;
    let group = is_group.then(|| Group::new(places.len(), pause));
    let job = |(route, outlet, place): (&'t Route, Outlet, Place)| {
        let asker = Claim::new(ticket, &route.pdu.name, place);
        let mut job = Job::new(outlet, step, vec![asker]);
        job.group.clone_from(&group);
        job.is_background = request.is_background;
        job.errand = errand;
        (route, job)
    };
    places.into_iter().map(job).collect()
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
    use crate::request::{Proof, Switch, Target};
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
        Arc::make_mut(pdu.as_mut().expect("a good one")).spec = &GONE;
        let asked = |dispatcher: &Dispatcher, pdu: &str| {
            let (sender, answered) = crossbeam_channel::bounded(1);
            dispatcher.submit(on(pdu), Box::new(move |outcome| drop(sender.send(outcome))));
            let outcome = answered.recv_timeout(Duration::from_secs(30));
            outcome
                .expect("an answer")
                .map_err(|failure| failure.to_string())
        };
        let dispatcher = Dispatcher::start(&gone).expect("started");
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
        let dispatcher = Dispatcher::start(&config).expect("started");
        dispatcher.submit(on("dies"), Box::new(|_| panic!("on purpose")));
        wait_for("the worker's end", || {
            dispatcher.troubles().is_some_and(|them| !them.is_empty())
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
            Arc::make_mut(pdu.as_mut().expect("a good one")).spec = &DEAF;
        }
        let dispatcher = Dispatcher::start(&config).expect("started");
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
            let troubles = dispatcher.troubles().unwrap_or_default();
            troubles.iter().any(|(name, _)| name.as_str() == "deaf")
        });
        dispatcher.stop(Stop::Now);
        wait_for("the workers' ends", || dispatcher.is_finished());
        dispatcher.join();
    }
}
