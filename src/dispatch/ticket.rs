//! A ticket remembers a request: the client, the progress, the outcome. The book keeps the tickets of
//! requests under way, and of the last ones that ended.
//!
//! A request has one job per outlet. A worker tells the ticket how each job ended; the last one ends
//! the request, and everybody who watches the ticket is called, the client that asked first.

use super::held::held;
use super::metrics::Metrics;
use crate::request::{
    Done, Failure, FailureKind, Outcome, Outlet, PduName, Proof, Reply, Request, State, Target,
};
use log::{Level, log};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant, SystemTime};

/// With more requests than this the book forgets the oldest that ended.
const REMEMBERED: usize = 1000;
/// The book looks at so many of them for each new one.
const LOOKS: usize = 2;

/// Among fewer watchers than this the ticket does not look for those whose client is gone.
const MANY: usize = 16;

/// The progress of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Queued; it can still be cancelled.
    Waiting,
    /// Its PDU has been spoken to.
    Running,
    /// Over.
    Ended {
        /// The answer to the client.
        outcome: Outcome,
        /// From submission to the end.
        took: Duration,
    },
}

/// One request, from its submission on. Its jobs belong to workers; the ticket watches how they end.
pub struct Ticket {
    /// Its number, from 1 since the start of the daemon.
    pub id: u64,
    /// The request, with its client.
    pub request: Request,
    /// When, by the wall clock.
    pub submitted: SystemTime,
    began: Instant,
    course: Mutex<Course>,
    metrics: Arc<Metrics>,
}

/// The part of a ticket that changes.
struct Course {
    progress: Progress,
    /// The PDU of each of its jobs.
    pdus: Vec<PduName>,
    /// The outcomes of those of its jobs that are over.
    outcomes: Vec<(PduName, Outlet, Outcome)>,
    watchers: Vec<Watcher>,
    /// With so many watchers the ticket looks for those whose client is gone.
    many: usize,
}

/// Somebody who waits for a request's end.
struct Watcher {
    /// Exists as long as the client is there.
    client: Option<Weak<dyn Any + Send + Sync>>,
    /// Called from a worker's thread, so it must not block.
    then: Box<dyn FnOnce(&Ticket) + Send>,
}

impl Watcher {
    fn is_there(&self) -> bool {
        let client = self.client.as_ref();
        client.is_none_or(|client| client.strong_count() > 0)
    }
}

impl Ticket {
    fn course(&self) -> MutexGuard<'_, Course> {
        held(&self.course)
    }

    /// Its progress.
    pub fn progress(&self) -> Progress {
        self.course().progress.clone()
    }

    /// Calls `then` once it has ended, or at once when that is so already.
    pub fn follow(&self, then: impl FnOnce(&Ticket) + Send + 'static) {
        self.watch(Watcher {
            client: None,
            then: Box::new(then),
        });
    }

    /// The same for a client, and only as long as it is there: however many come and go, little
    /// more is kept than of those that wait.
    pub fn follow_for(
        &self,
        client: Weak<dyn Any + Send + Sync>,
        then: impl FnOnce(&Ticket) + Send + 'static,
    ) {
        self.watch(Watcher {
            client: Some(client),
            then: Box::new(then),
        });
    }

    fn watch(&self, watcher: Watcher) {
        let mut course = self.course();
        if matches!(course.progress, Progress::Ended { .. }) {
            drop(course);
            return (watcher.then)(self);
        }
        course.watchers.push(watcher);
        if course.watchers.len() < course.many {
            return;
        }
        let gone: Vec<Watcher> = course
            .watchers
            .extract_if(.., |watcher| !watcher.is_there())
            .collect();
        course.many = MANY.max(2 * course.watchers.len());
        drop(course);
        // Not under the lock: a watcher that is dropped may ask for it.
        drop(gone);
    }

    /// It has one more job, on this PDU. All its jobs are there before the first one can end.
    pub(super) fn has_job(&self, pdu: &PduName) {
        self.course().pdus.push(pdu.clone());
    }

    /// The PDUs of its jobs.
    pub(super) fn pdus(&self) -> BTreeSet<PduName> {
        self.course().pdus.iter().cloned().collect()
    }

    /// The first driver call for it is due; false when it has been cancelled.
    pub(super) fn begin(&self) -> bool {
        let mut course = self.course();
        if course.progress == Progress::Waiting {
            course.progress = Progress::Running;
        }
        course.progress == Progress::Running
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.course().progress, Progress::Ended { .. })
    }

    /// Ends it unless it has begun; true when it is cancelled now. Whoever cancels tells the workers
    /// of its jobs.
    pub(super) fn cancel(&self) -> bool {
        let course = self.course();
        if course.progress != Progress::Waiting {
            return false;
        }
        let failure = Failure::new(FailureKind::Cancelled, "cancelled before it began");
        self.finish(course, Err(failure));
        true
    }

    /// One of its jobs is over. The last one ends it.
    pub(super) fn job_ended(&self, pdu: PduName, outlet: &Outlet, outcome: Outcome) {
        let mut course = self.course();
        if course.pdus.len() == 1 {
            return self.finish(course, outcome);
        }
        course.outcomes.push((pdu, outlet.clone(), outcome));
        if course.outcomes.len() >= course.pdus.len() {
            let outcomes = std::mem::take(&mut course.outcomes);
            self.finish(course, joint(outcomes));
        }
    }

    /// Ends it before it has any job.
    pub(super) fn refuse(&self, failure: Failure) {
        self.finish(self.course(), Err(failure));
    }

    /// Ends it, answers the client, and writes the request's one log line. Only the first end
    /// counts.
    fn finish(&self, mut course: MutexGuard<'_, Course>, outcome: Outcome) {
        if matches!(course.progress, Progress::Ended { .. }) {
            return;
        }
        let took = self.began.elapsed();
        course.progress = Progress::Ended {
            outcome: outcome.clone(),
            took,
        };
        let watchers = std::mem::take(&mut course.watchers);
        drop(course);
        // Reads that nobody waits for would drown what matters.
        let level = if self.request.is_background {
            Level::Debug
        } else {
            self.metrics
                .request_ended(self.request.action, &outcome, took);
            Level::Info
        };
        // The clients first: the log can wait.
        for watcher in watchers {
            (watcher.then)(self);
        }
        if log::log_enabled!(target: "pdud", level) {
            self.write(level, &outcome, took);
        }
    }

    /// The one INFO line of a request.
    fn write(&self, level: Level, outcome: &Outcome, took: Duration) {
        let (pdu, outlet) = match &self.request.target {
            Target::Outlet { pdu, outlet } => (pdu.as_str(), outlet.as_str()),
            Target::Alias(alias) => (alias.as_str(), ""),
        };
        let took = took.as_secs_f64();
        let result = match outcome {
            Ok(done) => {
                let state = done
                    .state
                    .as_ref()
                    .map(|state| format!(" {state}"))
                    .unwrap_or_default();
                let plural = if done.attempts == 1 { "" } else { "s" };
                let proof = match done.proof {
                    Proof::State => "",
                    Proof::Reply => ", unconfirmed: the PDU's answer is all there is",
                    Proof::None => ", unconfirmed: the command was sent",
                };
                format!(
                    "ok{state}{proof} ({} driver call{plural}, {took:.3} s)",
                    done.attempts
                )
            }
            Err(failure) => format!("failed: {failure} ({took:.3} s)"),
        };
        let Request {
            client,
            target,
            action,
            ..
        } = &self.request;
        let text = format!("{client}: {target} {action}: {result}");
        log!(target: "pdud", level, PDU = pdu, OUTLET = outlet, CLIENT = client.as_ref(); "{text}");
    }
}

/// The one outcome of all jobs of a request: success only if all succeed.
fn joint(mut outcomes: Vec<(PduName, Outlet, Outcome)>) -> Outcome {
    outcomes.sort_by(|(a, b, _), (c, d, _)| (a, b).cmp(&(c, d)));
    let failed = outcomes
        .iter()
        .filter_map(|(.., outcome)| outcome.as_ref().err());
    let failures: Vec<&Failure> = failed.collect();
    if let Some(first) = failures.first() {
        let reasons: Vec<&str> = failures.iter().map(|f| f.reason.as_str()).collect();
        return Err(Failure::new(first.kind, reasons.join("; ")));
    }
    let done = || {
        outcomes
            .iter()
            .filter_map(|(.., outcome)| outcome.as_ref().ok())
    };
    let states: Vec<&State> = done().filter_map(|done| done.state.as_ref()).collect();
    let state = match states.split_first() {
        None => None,
        Some((first, rest)) if rest.iter().all(|state| state == first) => Some((*first).clone()),
        Some(_) => {
            let told = outcomes.iter().filter_map(|(pdu, outlet, outcome)| {
                let state = outcome.as_ref().ok()?.state.as_ref()?;
                Some(format!("PDU {pdu}, outlet {outlet} {state}"))
            });
            let text = format!(
                "the outlets differ: {}",
                told.collect::<Vec<_>>().join("; ")
            );
            Some(State::Unknown(text))
        }
    };
    Ok(Done {
        state,
        attempts: done().map(|done| done.attempts).sum(),
        proof: done().map(|done| done.proof).min().unwrap_or(Proof::State),
    })
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("id", &self.id)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// Every request under way, and the last ones that ended.
#[derive(Debug)]
pub(super) struct Book {
    last: u64,
    tickets: BTreeMap<u64, Arc<Ticket>>,
    /// The numbers of all, in the order in which they are looked at to be forgotten.
    next: VecDeque<u64>,
    metrics: Arc<Metrics>,
}

impl Book {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            last: 0,
            tickets: BTreeMap::new(),
            next: VecDeque::new(),
            metrics: Arc::clone(metrics),
        }
    }

    /// Forgets requests that ended while there are too many. A few looks for each new one are
    /// enough in the long run, however many are under way.
    fn forget(&mut self) {
        for _ in 0..LOOKS {
            if self.tickets.len() <= REMEMBERED {
                return;
            }
            let Some(id) = self.next.pop_front() else {
                return;
            };
            let ticket = self.tickets.get(&id);
            if ticket.is_none_or(|ticket| ticket.has_ended()) {
                self.tickets.remove(&id);
            } else {
                self.next.push_back(id);
            }
        }
    }

    /// Notes a request; one that nobody waits for is not worth remembering.
    pub(super) fn open(&mut self, request: Request, reply: Reply) -> Arc<Ticket> {
        let then = |ticket: &Ticket| {
            if let Progress::Ended { outcome, .. } = ticket.progress() {
                reply(outcome);
            }
        };
        let first = Watcher {
            client: None,
            then: Box::new(then),
        };
        self.last += 1;
        let ticket = Arc::new(Ticket {
            id: self.last,
            request,
            submitted: SystemTime::now(),
            began: Instant::now(),
            course: Mutex::new(Course {
                progress: Progress::Waiting,
                pdus: Vec::new(),
                outcomes: Vec::new(),
                watchers: vec![first],
                many: MANY,
            }),
            metrics: Arc::clone(&self.metrics),
        });
        if ticket.request.is_background {
            return ticket;
        }
        self.tickets.insert(ticket.id, Arc::clone(&ticket));
        self.next.push_back(ticket.id);
        self.forget();
        ticket
    }

    /// The request with this number, if it is not forgotten.
    pub(super) fn find(&self, id: u64) -> Option<Arc<Ticket>> {
        self.tickets.get(&id).cloned()
    }

    /// All that are remembered, oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Ticket>> {
        self.tickets.values().cloned().collect()
    }
}

/// A request of a test, and the channel of its outcome; its jobs say what it asks for.
#[cfg(test)]
pub(super) fn asked() -> (Arc<Ticket>, crossbeam_channel::Receiver<Outcome>) {
    let (sender, receiver) = crossbeam_channel::bounded(2);
    let request = Request {
        client: "test".into(),
        target: Target::Alias("test".into()),
        action: crate::request::Action::State,
        delay: None,
        is_background: false,
        may_know_names: false,
    };
    let reply = Box::new(move |outcome| drop(sender.send(outcome)));
    // One book: the numbers of requests are told apart.
    static BOOK: std::sync::LazyLock<Mutex<Book>> =
        std::sync::LazyLock::new(|| Mutex::new(Book::new(&Arc::default())));
    (held(&BOOK).open(request, reply), receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Action, Outlet, Switch};

    #[test]
    fn watchers_whose_client_is_gone_are_not_kept() {
        let (ticket, _outcomes) = asked();
        let (called, calls) = crossbeam_channel::unbounded();
        let follow = |client: Weak<dyn Any + Send + Sync>, name: &'static str| {
            let called = called.clone();
            ticket.follow_for(client, move |_: &Ticket| called.send(name).expect("sent"));
        };
        let waits: Arc<dyn Any + Send + Sync> = Arc::new(());
        follow(Arc::downgrade(&waits), "waits");
        for _ in 0..1000 {
            let left: Arc<dyn Any + Send + Sync> = Arc::new(());
            follow(Arc::downgrade(&left), "left");
        }
        assert!(ticket.course().watchers.len() <= MANY);
        assert!(ticket.cancel());
        assert_eq!(calls.iter().next(), Some("waits"), "the first, and kept");
    }

    #[test]
    fn the_book_forgets_what_ended_and_nothing_else() {
        let mut book = Book::new(&Arc::default());
        let request = || Request {
            client: "test".into(),
            target: Target::Outlet {
                pdu: "pdu".into(),
                outlet: Outlet::new("1"),
            },
            action: Action::Switch(Switch::On),
            delay: None,
            is_background: false,
            may_know_names: false,
        };
        let open: Vec<_> = (0..3 * REMEMBERED)
            .map(|_| book.open(request(), Box::new(drop)))
            .collect();
        assert_eq!(book.all().len(), 3 * REMEMBERED, "all are under way");
        let (last, others) = open.split_last().expect("some");
        for ticket in others {
            assert!(ticket.cancel());
        }
        for _ in 0..4 * REMEMBERED {
            book.open(request(), Box::new(drop)).cancel();
        }
        assert_eq!(book.all().len(), REMEMBERED);
        assert!(book.find(last.id).is_some(), "it is under way");
        assert!(book.find(1).is_none());
    }
}
