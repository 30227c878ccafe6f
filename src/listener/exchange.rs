//! One HTTP request and its one answer, whichever thread gives it: neither `http` nor a worker ever
//! waits for a client.

use super::head::{CLIENT_HEADER, Head};
use super::link::Underway;
use super::wire::{Output, Wire};
use crate::access::Peer;
use log::debug;
use serde::Serialize;
use std::any::Any;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Instant;
use tiny_http::{HTTPVersion, Header, Method, Response, StatusCode};

/// A body up to this size goes out together with its head.
const SMALL: usize = 16 * 1024;

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

    /// As it goes over the wire.
    fn print(self, version: HTTPVersion, to_head: bool) -> io::Result<Output> {
        let length = self.body.len();
        let headers = self.headers.iter().filter_map(|(name, value)| {
            // Only text that is not ASCII is refused; ours is.
            Header::from_bytes(*name, value.as_str()).ok()
        });
        let (status, headers) = (StatusCode(self.status), headers.collect());
        let mut bytes = Vec::with_capacity(256 + if length <= SMALL { length } else { 0 });
        // Always a Content-Length, never chunks.
        Response::new(status, headers, io::empty(), Some(length), None)
            .with_chunked_threshold(usize::MAX)
            .raw_print(&mut bytes, version, &[], true, None)?;
        if to_head || matches!(self.status, 204 | 304) {
            return Ok(Output::new(bytes, Arc::default()));
        }
        if length <= SMALL {
            bytes.extend_from_slice(&self.body);
            return Ok(Output::new(bytes, Arc::default()));
        }
        Ok(Output::new(bytes, self.body))
    }
}

/// The path and query of a request target: proxies send the whole URL, which every server must
/// take (RFC 9112, 3.2.2).
fn origin_form(target: &str) -> &str {
    match target.strip_prefix("http://") {
        Some(rest) => rest
            .find('/')
            .and_then(|slash| rest.get(slash..))
            .unwrap_or("/"),
        None => target,
    }
}

/// One request, until it is understood: then only its asker is kept, so that what waits for an
/// answer is small however much was sent.
#[derive(Debug)]
pub(super) struct Exchange {
    method: Method,
    url: String,
    headers: Vec<Header>,
    body: io::Result<Vec<u8>>,
    asker: Asker,
}

impl Exchange {
    /// What tiny_http has read; `None` when nobody waits for it. tiny_http itself is to answer
    /// nothing, and can read the next request at once.
    pub(super) fn take(mut request: tiny_http::Request, underway: &Underway) -> Option<Self> {
        let mut body = Vec::new();
        // The front has seen it whole and within bounds: it ends where its length says.
        let read = request.as_reader().read_to_end(&mut body);
        let body = read.map(|_| body);
        let method = request.method().clone();
        let url = origin_form(request.url()).to_owned();
        let mut headers = request.headers().to_vec();
        drop(request.into_writer());
        // The last header is the front's; from clients it is refused.
        let number = headers
            .pop()
            .filter(|header| header.field.equiv(CLIENT_HEADER))
            .and_then(|header| header.value.as_str().parse().ok());
        let asker = underway.take(number?)?;
        Some(Self {
            method,
            url,
            headers,
            body,
            asker,
        })
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// The path and query of the request target, as the client wrote them.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn headers(&self) -> &[Header] {
        &self.headers
    }

    pub(super) fn header(&self, name: &'static str) -> Option<&str> {
        let header = self
            .headers()
            .iter()
            .find(|header| header.field.equiv(name));
        header.map(|header| header.value.as_str())
    }

    /// The other end of the connection it came over.
    pub(super) fn peer(&self) -> Peer {
        self.asker.peer
    }

    /// The body.
    pub(super) fn body(&mut self) -> io::Result<Vec<u8>> {
        std::mem::replace(&mut self.body, Ok(Vec::new()))
    }

    /// All that is needed once the request is understood.
    pub(super) fn into_asker(self) -> Asker {
        self.asker
    }

    /// Answers at once.
    pub(super) fn send(self, answer: Answer) {
        self.asker.send(answer);
    }
}

/// Who asks, and the way back: answered once, by whichever thread has the answer. It keeps neither
/// the request nor the connection.
pub(super) struct Asker {
    wire: Weak<Wire>,
    /// Where it comes from.
    peer: Peer,
    version: HTTPVersion,
    wants_head: bool,
    is_answered: bool,
}

impl Asker {
    pub(super) fn new(wire: &Arc<Wire>, peer: Peer, head: &Head) -> Self {
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

    /// At the latest at `until` the client gets an answer: `late` gives it then.
    pub(super) fn answer_by(&self, until: Instant, late: impl FnOnce() + Send + 'static) {
        if let Some(wire) = self.wire.upgrade() {
            wire.answer_by(until, Box::new(late));
        }
    }

    /// Sends the answer; never waits for the client.
    pub(super) fn send(mut self, answer: Answer) {
        self.answer(answer);
    }

    fn answer(&mut self, answer: Answer) {
        self.is_answered = true;
        let sent = self.wire.upgrade().is_some_and(|wire| {
            match answer.print(self.version.clone(), self.wants_head) {
                Ok(output) => wire.answer(output),
                // Nothing that is written into memory fails.
                Err(_) => false,
            }
        });
        if !sent {
            // The client is gone; its job was done all the same.
            debug!(target: "pdud.http", "an answer found no client: {}", self.peer.origin);
        }
    }
}

impl Drop for Asker {
    /// Nobody waits for ever.
    fn drop(&mut self) {
        if !self.is_answered {
            self.answer(Answer::text(500, "Internal Server Error\n"));
        }
    }
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_url_is_a_target_too() {
        for (target, path) in [
            ("/power?x=http://y/", "/power?x=http://y/"),
            ("http://h:16421/power?x=1", "/power?x=1"),
            ("http://[::1]/", "/"),
            ("http://h", "/"),
            ("*", "*"),
        ] {
            assert_eq!(origin_form(target), path, "{target}");
        }
    }
}
