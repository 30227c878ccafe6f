//! The thread that shows things: the page, lists, metrics. However many ask for them, and however
//! long it takes to write one down, no switch waits for it.
//!
//! What several ask for at once is written down once, and for whoever has left meanwhile not at
//! all.

use super::call::{Call, Query};
use super::problem::{self, Problem};
use crate::access::Caller;
use crate::listener::exchange::Answer;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Calls that may wait here, those whose clients are gone included; further ones are refused.
const WAITING: usize = 1000;
/// Answers that are kept to be shared.
const KEPT: usize = 4;
/// No answer is kept longer once nobody waits.
const KEPT_FOR: Duration = Duration::from_millis(100);

/// Makes an answer that only shows something.
#[derive(Clone, Copy)]
pub(super) struct Show {
    pub(super) make: fn(&Call) -> Result<Answer, Problem>,
    /// An answer that was made so long before it was asked for is good enough.
    pub(super) age: Duration,
}

struct Asked {
    call: Call,
    show: Show,
    at: Instant,
}

/// A call, or nothing: are you there?
type Message = Option<Box<Asked>>;

/// The thread's other end.
pub(in crate::listener) struct Lists {
    inbox: Sender<Message>,
    wanted: Arc<AtomicU64>,
    beat: Arc<AtomicU64>,
}

impl Lists {
    /// Starts the thread, which ends with its last sender.
    pub(super) fn start() -> io::Result<Self> {
        let (inbox, messages) = crossbeam_channel::bounded::<Message>(WAITING);
        let (beat, wanted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (beaten, asked) = (Arc::clone(&beat), Arc::clone(&wanted));
        std::thread::Builder::new()
            .name("lists".into())
            .spawn(move || {
                let mut kept = Kept::default();
                for message in &messages {
                    // There may be many lists before the question for a sign of life: each is one.
                    beaten.store(asked.load(Ordering::Acquire), Ordering::Release);
                    if let Some(asked) = message {
                        kept.answer(*asked);
                    }
                    kept.forget(&messages);
                }
            })?;
        Ok(Self {
            inbox,
            wanted,
            beat,
        })
    }

    /// Answers the call when it is its turn, or refuses it at once.
    pub(super) fn show(&self, call: Call, show: Show) {
        let at = Instant::now();
        let asked = Box::new(Asked { call, show, at });
        // Without the thread the call answers itself when it is dropped.
        if let Err(TrySendError::Full(Some(asked))) = self.inbox.try_send(Some(asked)) {
            asked.call.dispatcher().metrics().refused("lists");
            let why = "too many ask for lists at once; try again in a moment";
            asked.call.problem(Problem::new(problem::BUSY, why));
        }
    }

    /// Asks the thread for a sign of life.
    pub(in crate::listener) fn ask(&self, beat: u64) {
        self.wanted.store(beat, Ordering::Release);
        // Where there is no room, every message that waits is such a question.
        let _ = self.inbox.try_send(None);
    }

    /// The last sign of life asked for that came.
    pub(in crate::listener) fn beat(&self) -> u64 {
        self.beat.load(Ordering::Acquire)
    }
}

/// An answer, and for whom it is good.
struct Made {
    began: Instant,
    route: &'static str,
    path: Vec<String>,
    query: Query,
    caller: Caller,
    answer: Answer,
}

/// The answers made last.
#[derive(Default)]
struct Kept(Vec<Made>);

impl Kept {
    fn answer(&mut self, Asked { call, show, at }: Asked) {
        if call.asker.is_gone() {
            return;
        }
        let is_good = |made: &&Made| {
            made.began + show.age >= at
                && made.route == call.route
                && made.path == call.path
                && made.query == call.query
                && made.caller.sees_as(&call.caller)
        };
        if let Some(made) = self.0.iter().find(is_good) {
            return call.asker.send(made.answer.clone());
        }
        let began = Instant::now();
        let answer = match (show.make)(&call) {
            Ok(answer) => answer,
            Err(problem) => return call.problem(problem),
        };
        if self.0.len() >= KEPT {
            self.0.remove(0);
        }
        self.0.push(Made {
            began,
            route: call.route,
            path: call.path,
            query: call.query,
            caller: call.caller,
            answer: answer.clone(),
        });
        call.asker.send(answer);
    }

    /// Whoever waits may still share what was made.
    fn forget(&mut self, waiting: &Receiver<Message>) {
        if waiting.is_empty() {
            self.0.retain(|made| made.began.elapsed() < KEPT_FOR);
        }
    }
}

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lists").finish_non_exhaustive()
    }
}
