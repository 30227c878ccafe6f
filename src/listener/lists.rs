//! The thread that shows things: the page, lists, metrics. However many ask for them, and however
//! long it takes to write one down, no switch waits for it.
//!
//! When several ask for the same at once, it makes one response for all of them, and none for a client
//! that has left meanwhile.

use super::exchange::{Effect, Exchange, Operation, Query, Shared};
use super::problem::{self, Problem};
use super::response::Response;
use crate::access::Caller;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Exchanges that may wait here, those whose clients are gone included; further ones are refused.
const WAITING: usize = 1000;
/// The most responses that it keeps for others to share.
const SHARED: usize = 4;
/// The longest that it keeps a response once nobody waits.
const SHARED_FOR: Duration = Duration::from_millis(100);

/// The thread's other end. Nothing in its inbox asks for a sign of life.
pub(super) struct Lists {
    inbox: Sender<Option<Box<Exchange>>>,
    /// Another thread waits for the thread's next sign of life.
    pub(super) is_awaited: Arc<AtomicBool>,
}

impl Lists {
    /// Starts the thread, which ends with its last sender.
    pub(super) fn start() -> io::Result<Self> {
        let (inbox, exchanges) = crossbeam_channel::bounded(WAITING);
        let is_awaited = Arc::<AtomicBool>::default();
        let given = Arc::clone(&is_awaited);
        std::thread::Builder::new()
            .name("lists".into())
            .spawn(move || show_all(&exchanges, &given))?;
        Ok(Self { inbox, is_awaited })
    }

    /// Answers when it is the exchange's turn, or refuses at once.
    pub(super) fn show(&self, exchange: Exchange) {
        // Without the thread the asker answers itself when it is dropped.
        if let Err(TrySendError::Full(Some(exchange))) =
            self.inbox.try_send(Some(Box::new(exchange)))
        {
            exchange.dispatcher.metrics().refused("lists");
            let why = "too many ask for lists at once; try again in a moment";
            exchange.problem(Problem::new(problem::BUSY, why));
        }
    }

    /// Asks the thread for a sign of life.
    pub(super) fn ask(&self) {
        self.is_awaited.store(true, Ordering::Release);
        // Where there is no room, the requests that wait make the thread give the sign.
        let _ = self.inbox.try_send(None);
    }
}

/// The life of the thread.
fn show_all(exchanges: &Receiver<Option<Box<Exchange>>>, is_awaited: &AtomicBool) {
    let mut shared = Vec::new();
    for exchange in exchanges {
        // Many lists may wait before the question: each is a sign of life.
        is_awaited.store(false, Ordering::Release);
        if let Some(exchange) = exchange {
            show(*exchange, &mut shared, !exchanges.is_empty());
        }
        // Those who wait may still share the responses.
        if exchanges.is_empty() {
            shared.retain(|made: &Made| made.began.elapsed() < SHARED_FOR);
        }
    }
}

/// A response, and for whom it is good.
struct Made {
    began: Instant,
    operation: &'static Operation,
    path: Vec<String>,
    query: Query,
    caller: Caller,
    response: Response,
}

impl Made {
    fn is_good_for(&self, exchange: &Exchange, age: Duration) -> bool {
        self.began + age >= exchange.at
            && std::ptr::eq(self.operation, exchange.operation)
            && self.path == exchange.path
            && self.query == exchange.query
            && self.caller.sees_as(&exchange.caller)
    }
}

/// Answers with one of the responses made last, or makes another.
fn show(exchange: Exchange, made: &mut Vec<Made>, is_crowd: bool) {
    let Effect::Shows(shared, make) = exchange.operation.does else {
        return;
    };
    let age = match shared {
        Shared::For(age) => age,
        Shared::InACrowd(age) if is_crowd => age,
        Shared::Never | Shared::InACrowd(_) => Duration::ZERO,
    };
    if exchange.asker.is_gone() {
        return;
    }
    if let Some(good) = made.iter().find(|made| made.is_good_for(&exchange, age)) {
        return exchange.asker.send(good.response.clone());
    }
    let began = Instant::now();
    let response = match make(&exchange) {
        Ok(response) => response,
        Err(problem) => return exchange.problem(problem),
    };
    if made.len() >= SHARED {
        made.remove(0);
    }
    made.push(Made {
        began,
        operation: exchange.operation,
        path: exchange.path,
        query: exchange.query,
        caller: exchange.caller,
        response: response.clone(),
    });
    exchange.asker.send(response);
}

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lists").finish_non_exhaustive()
    }
}
