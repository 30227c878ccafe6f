//! One HTTP request and its one answer, whichever thread gives it.
//!
//! A small answer fits into the private socket whole, so any thread may write it. A large one may
//! have to wait for a client that reads slowly, and is left to a few threads of their own: neither
//! `http` nor a worker ever waits for a client.

use crossbeam_channel::{Receiver, Sender};
use log::{debug, error};
use serde::Serialize;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tiny_http::{Header, Response, StatusCode};

/// What certainly fits into an empty private socket.
const SMALL: usize = 48 * 1024;
/// Most threads that write large answers.
const WRITERS: usize = 32;
/// How long such a thread waits for a further one.
const WRITER_IDLE: Duration = Duration::from_secs(10);
const WRITER_STACK: usize = 128 * 1024;

/// An answer, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Arc<[u8]>,
}

impl Answer {
    /// An answer with a body of this type.
    pub(super) fn new(status: u16, content_type: &str, body: impl Into<Arc<[u8]>>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type", content_type.to_owned())],
            body: body.into(),
        }
    }

    /// Plain text.
    pub(super) fn text(status: u16, body: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.as_bytes())
    }

    /// JSON; never kept by anybody on the way.
    pub(super) fn json(status: u16, body: &impl Serialize) -> Self {
        Self::serialized(status, "application/json", body)
    }

    /// JSON of a more particular type.
    pub(super) fn serialized(status: u16, content_type: &str, body: &impl Serialize) -> Self {
        let (status, body) = match serde_json::to_vec(body) {
            Ok(body) => (status, body),
            // Only maps whose keys are no texts cannot be written; there is none.
            Err(error) => (500, error.to_string().into_bytes()),
        };
        Self::new(status, content_type, body).with("Cache-Control", "no-store")
    }

    /// The same with a further header.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn response(self) -> Response<io::Cursor<Arc<[u8]>>> {
        let length = self.body.len();
        let headers = self.headers.iter().filter_map(|(name, value)| {
            // Only text that is not ASCII is refused; ours is.
            Header::from_bytes(*name, value.as_str()).ok()
        });
        Response::new(
            StatusCode(self.status),
            headers.collect(),
            io::Cursor::new(self.body),
            Some(length),
            None,
        )
        // Always a Content-Length: the front measures responses by it.
        .with_chunked_threshold(usize::MAX)
    }
}

/// One request, until it is answered.
pub(super) struct Exchange {
    request: tiny_http::Request,
    writers: Arc<Writers>,
}

impl Exchange {
    pub(super) fn new(request: tiny_http::Request, writers: &Arc<Writers>) -> Self {
        Self {
            request,
            writers: Arc::clone(writers),
        }
    }

    pub(super) fn header(&self, name: &'static str) -> Option<&str> {
        let headers = self.request.headers();
        let header = headers.iter().find(|header| header.field.equiv(name));
        header.map(|header| header.value.as_str())
    }

    /// The body, which the front has seen whole and within bounds.
    pub(super) fn body(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        let most = super::head::MAX_BODY as u64;
        self.request.as_reader().take(most).read_to_end(&mut body)?;
        Ok(body)
    }

    /// Sends the answer; never waits for the client.
    pub(super) fn send(self, answer: Answer) {
        if answer.body.len() <= SMALL {
            send(self.request, answer);
        } else {
            let writers = self.writers;
            writers.send(self.request, answer);
        }
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

/// Sends an answer from this thread.
pub(super) fn send(request: tiny_http::Request, answer: Answer) {
    if let Err(error) = request.respond(answer.response()) {
        // The client is gone; its job was done all the same.
        debug!(target: "pdud.http", "an answer found no client: {error}");
    }
}

/// The threads that write large answers: started as they are needed, gone when they are not.
pub(super) struct Writers {
    queue: Sender<(tiny_http::Request, Answer)>,
    answers: Receiver<(tiny_http::Request, Answer)>,
    running: Arc<AtomicUsize>,
    idle: Arc<AtomicUsize>,
}

impl Default for Writers {
    fn default() -> Self {
        let (queue, answers) = crossbeam_channel::unbounded();
        Self {
            queue,
            answers,
            running: Arc::default(),
            idle: Arc::default(),
        }
    }
}

impl Writers {
    fn send(&self, request: tiny_http::Request, answer: Answer) {
        // At most one answer per connection: the connections' bound is the queue's.
        let _ = self.queue.send((request, answer));
        let wanted = self.queue.len() > self.idle.load(Ordering::Acquire);
        let taken = |count: usize| (wanted && count < WRITERS).then_some(count + 1);
        if self
            .running
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, taken)
            .is_err()
        {
            return;
        }
        let answers = self.answers.clone();
        let (running, idle) = (Arc::clone(&self.running), Arc::clone(&self.idle));
        let started = std::thread::Builder::new()
            .name("answers".into())
            .stack_size(WRITER_STACK)
            .spawn(move || {
                loop {
                    idle.fetch_add(1, Ordering::AcqRel);
                    let next = answers.recv_timeout(WRITER_IDLE);
                    idle.fetch_sub(1, Ordering::AcqRel);
                    match next {
                        Ok((request, answer)) => send(request, answer),
                        Err(_) => break,
                    }
                }
                running.fetch_sub(1, Ordering::AcqRel);
                // One that came in the last moment.
                while let Ok((request, answer)) = answers.try_recv() {
                    send(request, answer);
                }
            });
        if let Err(error) = started {
            self.running.fetch_sub(1, Ordering::AcqRel);
            error!("no thread for a large answer: {error}");
            if self.running.load(Ordering::Acquire) == 0 {
                // Dropped requests are answered by tiny_http, with 500.
                while self.answers.try_recv().is_ok() {}
            }
        }
    }
}

impl std::fmt::Debug for Writers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writers").finish_non_exhaustive()
    }
}
