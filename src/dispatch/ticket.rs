//! What is remembered of a request: who asked, how far it is, how it ended. The book keeps those
//! under way, and the last ones that ended.

use crate::dispatch::metrics::Metrics;
use crate::request::{Failure, FailureKind, Outcome, Proof, Reply, Request, Target};
use log::{Level, log};
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

/// How many requests the book holds before it forgets the oldest that ended.
const REMEMBERED: usize = 1000;
/// How many of them it looks at for each new one.
const LOOKS: usize = 2;

/// Fewer followers of a request than this are not looked through for those that are gone.
const MANY: usize = 16;

/// How far a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Queued; it can still be cancelled.
    Waiting,
    /// Its PDU has been spoken to.
    Running,
    /// Over.
    Ended {
        /// What the client was told.
        outcome: Outcome,
        /// From submission to the end.
        took: Duration,
    },
}

/// One request, from its submission on.
pub struct Ticket {
    /// Its number, from 1 since the start of the daemon.
    pub id: u64,
    /// What was asked, and by whom.
    pub request: Request,
    /// When, by the wall clock.
    pub submitted: SystemTime,
    began: Instant,
    inner: Mutex<Inner>,
    changed: Condvar,
    metrics: Arc<Metrics>,
}

/// What is done when a request has ended: from a worker's thread, so it must not block.
pub type Follower = Box<dyn FnOnce(&Ticket) + Send>;

/// Exists as long as somebody is there.
pub type Presence = Weak<dyn Any + Send + Sync>;

struct Inner {
    progress: Progress,
    reply: Option<Reply>,
    followers: Vec<(Option<Presence>, Follower)>,
    /// With so many followers those whose client is gone are looked for.
    many: usize,
}

/// What is to be done outside the lock.
struct End {
    reply: Option<Reply>,
    followers: Vec<(Option<Presence>, Follower)>,
    outcome: Outcome,
    took: Duration,
}

impl Ticket {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.lock().progress.clone()
    }

    /// Waits until it has ended, at most until `until`.
    pub fn wait(&self, until: Instant) -> Progress {
        let mut inner = self.lock();
        while !matches!(inner.progress, Progress::Ended { .. }) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            inner = self
                .changed
                .wait_timeout(inner, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        inner.progress.clone()
    }

    /// Calls `then` once it has ended, or at once when that is so already.
    pub fn follow(&self, then: Follower) {
        self.add_follower(None, then);
    }

    /// The same for a client, and only as long as it is there: however many come and go, little
    /// more is kept than of those that wait.
    pub fn follow_for(&self, client: Presence, then: Follower) {
        self.add_follower(Some(client), then);
    }

    fn add_follower(&self, client: Option<Presence>, then: Follower) {
        let mut inner = self.lock();
        if matches!(inner.progress, Progress::Ended { .. }) {
            drop(inner);
            return then(self);
        }
        inner.followers.push((client, then));
        if inner.followers.len() < inner.many {
            return;
        }
        let is_there = |client: &Option<Presence>| match client {
            None => true,
            Some(client) => client.strong_count() > 0,
        };
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut inner.followers)
            .into_iter()
            .partition(|(client, _)| is_there(client));
        inner.many = MANY.max(2 * kept.len());
        inner.followers = kept;
        drop(inner);
        // Not under the lock: whoever is dropped may ask for it.
        drop(gone);
    }

    /// Its first driver call is due; false when it was cancelled.
    pub(super) fn begin(&self) -> bool {
        let mut inner = self.lock();
        match inner.progress {
            Progress::Waiting => {
                inner.progress = Progress::Running;
                true
            }
            Progress::Running => true,
            Progress::Ended { .. } => false,
        }
    }

    /// Has it been cancelled?
    pub(super) fn is_cancelled(&self) -> bool {
        matches!(
            &self.lock().progress,
            Progress::Ended { outcome: Err(failure), .. } if failure.kind == FailureKind::Cancelled
        )
    }

    /// Ends it unless it has begun; true when it is cancelled now.
    pub fn cancel(&self) -> bool {
        let mut inner = self.lock();
        if inner.progress != Progress::Waiting {
            return false;
        }
        let failure = Failure::new(FailureKind::Cancelled, "cancelled before it began");
        let ended = inner_end(&mut inner, Err(failure), self.began);
        drop(inner);
        self.finish(ended);
        true
    }

    /// Ends it, answers the client, and writes the request's one log line. Only the first end
    /// counts.
    pub(super) fn end(&self, outcome: Outcome) {
        let mut inner = self.lock();
        if matches!(inner.progress, Progress::Ended { .. }) {
            return;
        }
        let ended = inner_end(&mut inner, outcome, self.began);
        drop(inner);
        self.finish(ended);
    }

    /// The client first: the log can wait.
    fn finish(&self, end: End) {
        let End {
            reply,
            followers,
            outcome,
            took,
        } = end;
        self.changed.notify_all();
        // Reads that nobody waits for would drown what matters.
        let level = if self.request.is_background {
            Level::Debug
        } else {
            self.metrics
                .request_ended(self.request.action, &outcome, took);
            Level::Info
        };
        let line = log::log_enabled!(target: "pdud", level).then(|| outcome.clone());
        if let Some(reply) = reply {
            reply(outcome);
        }
        for (_, follower) in followers {
            follower(self);
        }
        if let Some(outcome) = line {
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
                let doubt = match done.proof {
                    Proof::State => "",
                    Proof::Reply => ", unconfirmed: the PDU's answer is all there is",
                    Proof::None => ", unconfirmed: the command was sent",
                };
                format!(
                    "ok{state}{doubt} ({} driver call{plural}, {took:.3} s)",
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

fn inner_end(inner: &mut Inner, outcome: Outcome, began: Instant) -> End {
    let took = began.elapsed();
    inner.progress = Progress::Ended {
        outcome: outcome.clone(),
        took,
    };
    End {
        reply: inner.reply.take(),
        followers: std::mem::take(&mut inner.followers),
        outcome,
        took,
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("id", &self.id)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Pages {
    tickets: BTreeMap<u64, Arc<Ticket>>,
    /// The numbers of all, in the order in which they are looked at to be forgotten.
    next: VecDeque<u64>,
}

impl Pages {
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
            let has_ended = self
                .tickets
                .get(&id)
                .is_none_or(|ticket| matches!(ticket.lock().progress, Progress::Ended { .. }));
            if has_ended {
                self.tickets.remove(&id);
            } else {
                self.next.push_back(id);
            }
        }
    }
}

/// Every request under way, and the last ones that ended.
#[derive(Debug, Default)]
pub(super) struct Book {
    last: AtomicU64,
    pages: Mutex<Pages>,
    pub(super) metrics: Arc<Metrics>,
}

impl Book {
    /// Notes a request; one that nobody waits for is not worth remembering.
    pub(super) fn open(&self, request: Request, reply: Reply) -> Arc<Ticket> {
        let ticket = Arc::new(Ticket {
            id: self.last.fetch_add(1, Ordering::Relaxed) + 1,
            request,
            submitted: SystemTime::now(),
            began: Instant::now(),
            inner: Mutex::new(Inner {
                progress: Progress::Waiting,
                reply: Some(reply),
                followers: Vec::new(),
                many: MANY,
            }),
            changed: Condvar::new(),
            metrics: Arc::clone(&self.metrics),
        });
        if ticket.request.is_background {
            return ticket;
        }
        let mut pages = self.lock();
        pages.tickets.insert(ticket.id, Arc::clone(&ticket));
        pages.next.push_back(ticket.id);
        pages.forget();
        drop(pages);
        ticket
    }

    /// The request with this number, if it is not forgotten.
    pub(super) fn find(&self, id: u64) -> Option<Arc<Ticket>> {
        self.lock().tickets.get(&id).cloned()
    }

    /// All that are remembered, oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Ticket>> {
        self.lock().tickets.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request of a test, and where its outcome arrives; what it asks for is said by its jobs.
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
    (Book::default().open(request, reply), receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Action, Outlet, Switch};

    #[test]
    fn followers_whose_client_is_gone_are_not_kept() {
        let (ticket, _outcomes) = asked();
        let (called, calls) = crossbeam_channel::unbounded();
        let follow = |client: Presence, name: &'static str| {
            let called = called.clone();
            let then = Box::new(move |_: &Ticket| called.send(name).expect("sent"));
            ticket.follow_for(client, then);
        };
        let waits: Arc<dyn Any + Send + Sync> = Arc::new(());
        follow(Arc::downgrade(&waits), "waits");
        for _ in 0..1000 {
            let left: Arc<dyn Any + Send + Sync> = Arc::new(());
            follow(Arc::downgrade(&left), "left");
        }
        assert!(ticket.lock().followers.len() <= MANY);
        assert!(ticket.cancel());
        assert_eq!(calls.iter().next(), Some("waits"), "the first, and kept");
    }

    #[test]
    fn the_book_forgets_what_ended_and_nothing_else() {
        let book = Book::default();
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
