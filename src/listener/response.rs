//! A response, and the one way back to the client: neither `http` nor a worker ever waits for a
//! client.

use super::head::RequestHead;
use super::wire::{ClientWire, Outgoing};
use crate::access::Peer;
use log::debug;
use serde::Serialize;
use std::any::Any;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Instant;
use tiny_http::{HTTPVersion, Header, StatusCode};

/// A body up to this size goes out together with its head.
const SMALL: usize = 16 * 1024;

/// A response, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Response {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Arc<[u8]>,
}

impl Response {
    /// A response with a body of this type.
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

    /// JSON; nobody on the way keeps it.
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

    /// The bytes that the client gets.
    fn print(self, version: HTTPVersion, to_head: bool) -> io::Result<Outgoing> {
        let length = self.body.len();
        let headers = self.headers.iter().filter_map(|(name, value)| {
            // It refuses only text that is not ASCII; ours is.
            Header::from_bytes(*name, value.as_str()).ok()
        });
        let (status, headers) = (StatusCode(self.status), headers.collect());
        let mut bytes = Vec::with_capacity(256 + if length <= SMALL { length } else { 0 });
        // Always a Content-Length, never chunks.
        tiny_http::Response::new(status, headers, io::empty(), Some(length), None)
            .with_chunked_threshold(usize::MAX)
            .raw_print(&mut bytes, version, &[], true, None)?;
        if to_head || matches!(self.status, 204 | 304) {
            return Ok(Outgoing::new(bytes, Arc::default()));
        }
        if length <= SMALL {
            bytes.extend_from_slice(&self.body);
            return Ok(Outgoing::new(bytes, Arc::default()));
        }
        Ok(Outgoing::new(bytes, self.body))
    }
}

/// The client that asked, and the way back to it: any thread that has the response sends it, once.
/// It keeps neither the request nor the connection.
pub(super) struct HttpAsker {
    wire: Weak<ClientWire>,
    /// The other end of the connection.
    pub(super) peer: Peer,
    version: HTTPVersion,
    wants_head: bool,
    is_answered: bool,
}

impl HttpAsker {
    pub(super) fn new(wire: &Arc<ClientWire>, peer: Peer, head: &RequestHead) -> Self {
        Self {
            wire: Arc::downgrade(wire),
            peer,
            version: HTTPVersion(1, u8::from(!head.is_old)),
            wants_head: head.wants_head,
            is_answered: false,
        }
    }

    /// Has the client left?
    pub(super) fn is_gone(&self) -> bool {
        self.wire.strong_count() == 0
    }

    /// Exists as long as the client is connected.
    pub(super) fn presence(&self) -> Weak<dyn Any + Send + Sync> {
        self.wire.clone()
    }

    /// The client has a response by `until`: `late` gives it then at the latest.
    pub(super) fn answer_by(&self, until: Instant, late: impl FnOnce() + Send + 'static) {
        if let Some(wire) = self.wire.upgrade() {
            wire.answer_by(until, Box::new(late));
        }
    }

    /// Sends the response; never waits for the client.
    pub(super) fn send(mut self, response: Response) {
        self.answer(response);
    }

    fn answer(&mut self, response: Response) {
        self.is_answered = true;
        let sent = self.wire.upgrade().is_some_and(|wire| {
            match response.print(self.version.clone(), self.wants_head) {
                Ok(output) => wire.answer(output),
                // Nothing that is written into memory fails.
                Err(_) => false,
            }
        });
        if !sent {
            // The client is gone; the daemon has done its job all the same.
            debug!(target: "pdud.http", "an answer found no client: {}", self.peer.origin);
        }
    }
}

impl Drop for HttpAsker {
    /// Nobody waits for ever.
    fn drop(&mut self) {
        if !self.is_answered {
            self.answer(Response::text(500, "Internal Server Error\n"));
        }
    }
}

impl std::fmt::Debug for HttpAsker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker").finish_non_exhaustive()
    }
}
