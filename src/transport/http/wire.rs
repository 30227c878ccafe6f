//! Connections for `ureq`: `transport::tcp` below, TLS or a proxy where wanted, each answer's head
//! made anew; and `ureq`'s errors in our words.

use super::super::tls::{Stream, Tls, TlsStream, Trust};
use super::super::{Deadline, TransportError, TransportErrorKind, blotted, printable, tcp};
use super::head::{self, Unfit};
use super::proxy::Proxy;
use super::{MOST_HEAD, Origin};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// `ureq` has a moment only as time left; a day stands for none at all.
fn deadline(timeout: &NextTimeout) -> Deadline {
    const DAY: Duration = Duration::from_secs(86_400);
    Deadline::after((*timeout.after).min(DAY))
}

/// Wraps our error, so that it comes out of `ureq` as it went in.
fn wrap(error: TransportError) -> ureq::Error {
    ureq::Error::Other(Box::new(error))
}

/// The same of waiting for an answer, which may have begun already.
fn late(error: TransportError) -> ureq::Error {
    wrap(match error.kind {
        TransportErrorKind::Timeout => TransportError {
            detail: "no complete answer in time".into(),
            ..error
        },
        _ => error,
    })
}

/// What went wrong, in our words.
pub(super) fn explain(error: ureq::Error) -> TransportError {
    use TransportErrorKind as K;
    use ureq::Error as E;
    match error {
        E::Other(inner) => match inner.downcast::<TransportError>() {
            Ok(own) => *own,
            Err(other) => TransportError::new(K::Io, other.to_string()),
        },
        E::Timeout(_) => TransportError::new(K::Timeout, "no complete answer in time"),
        E::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => TransportError::new(
            K::Closed,
            "the connection was closed before the answer was complete",
        ),
        E::Io(error) => TransportError::broken("waiting for an answer", &error),
        E::Protocol(error) => TransportError::new(K::Garbled, format!("not HTTP: {error}")),
        // The URL may hold a secret: these variants would print it.
        E::BadUri(_) | E::RequireHttpsOnly(_) => TransportError::new(K::Io, "not a URL"),
        other => TransportError::new(K::Garbled, other.to_string()),
    }
}

impl Unfit<'_> {
    /// What is wrong with the head, for a message.
    pub(super) fn words(&self, hidden: &[String]) -> String {
        match self {
            Unfit::NoStatus(line) => format!(
                "not HTTP: expected \"HTTP/1.1\" and a status, got {}",
                printable(&blotted(line, hidden))
            ),
            Unfit::TwoLengths(one, other) => {
                format!("the answer is said to have two lengths, {one} and {other} bytes")
            }
            Unfit::TooLong => format!("the answer's headers are longer than {MOST_HEAD} bytes"),
        }
    }
}

/// Looks up nothing: `transport::tcp` does when it connects.
#[derive(Debug)]
pub(super) struct NoLookUp;

impl Resolver for NoLookUp {
    fn resolve(
        &self,
        _: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

/// Makes connections.
pub(super) struct Wires {
    pub(super) tls: Tls,
    /// What no message may show.
    pub(super) hidden: Arc<[String]>,
    /// Set when a request, or part of one, has gone out.
    pub(super) has_sent: Arc<AtomicBool>,
}

impl Wires {
    fn open(&self, target: Origin, deadline: Deadline) -> Result<Wire, TransportError> {
        let proxy = Proxy::of(&target)?;
        let first = proxy.as_ref().map_or(&target, |proxy| &proxy.origin);
        let connection = tcp::Connection::open(&first.host, first.port, deadline);
        let mut stream: Box<dyn Stream> = match (connection, &proxy) {
            (Ok(connection), _) => Box::new(connection),
            (Err(error), None) => return Err(error),
            (Err(error), Some(_)) => {
                return Err(TransportError {
                    detail: format!("the proxy of the environment: {}", error.detail),
                    ..error
                });
            }
        };
        let mut forward = None;
        if let Some(proxy) = proxy {
            if proxy.origin.tls {
                let config = Tls::new(Trust::System).config()?;
                let proxy = &proxy.origin;
                stream = Box::new(TlsStream::open(stream, &proxy.host, config, deadline)?);
            }
            if target.tls {
                proxy.open_tunnel(&mut *stream, &target, deadline)?;
            } else {
                forward = Some((proxy, target.clone()));
            }
        }
        if target.tls {
            let config = self.tls.clone().config()?;
            stream = Box::new(TlsStream::open(stream, &target.host, config, deadline)?);
        }
        Ok(Wire {
            stream,
            is_tls: target.tls,
            buffers: LazyBuffers::new(2 * MOST_HEAD, MOST_HEAD),
            turn: Turn::Free,
            raw: Vec::new(),
            forward,
            hidden: Arc::clone(&self.hidden),
            has_sent: Arc::clone(&self.has_sent),
        })
    }
}

impl fmt::Debug for Wires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wires")
    }
}

impl Connector for Wires {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let host = details.uri.host().unwrap_or_default();
        let tls = details.needs_tls();
        let target = Origin {
            tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: details.uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        };
        match self.open(target, deadline(&details.timeout)) {
            Ok(wire) => Ok(Some(Box::new(wire))),
            Err(error) => Err(wrap(error)),
        }
    }
}

/// What is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// A request, or the rest of a body.
    Free,
    /// The head of an answer.
    Head,
}

/// An open connection, with what `ureq` keeps of it.
struct Wire {
    stream: Box<dyn Stream>,
    is_tls: bool,
    buffers: LazyBuffers,
    turn: Turn,
    /// What has come of the head.
    raw: Vec<u8>,
    /// A proxy that hands the requests on, and to whom.
    forward: Option<(Proxy, Origin)>,
    hidden: Arc<[String]>,
    has_sent: Arc<AtomicBool>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    /// Gives `ureq` the next head, if it has come, with what has come behind it.
    fn hand_over(&mut self) -> Result<bool, TransportError> {
        let garbled = |unfit: Unfit<'_>| {
            TransportError::new(TransportErrorKind::Garbled, unfit.words(&self.hidden))
        };
        let Some(head) = head::read(&self.raw).map_err(garbled)? else {
            return Ok(false);
        };
        let rest = self.raw.split_off(head.length.min(self.raw.len()));
        self.raw = rest;
        push(&mut self.buffers, &head.text);
        if !head.is_provisional() {
            push(&mut self.buffers, &self.raw);
            self.raw.clear();
            self.turn = Turn::Free;
        }
        Ok(true)
    }
}

/// There is room for the longest head, and for what one read may bring behind it.
fn push(buffers: &mut LazyBuffers, bytes: &[u8]) {
    let room = buffers.input_append_buf();
    let length = bytes.len().min(room.len());
    for (place, byte) in room.iter_mut().zip(bytes) {
        *place = *byte;
    }
    buffers.input_appended(length);
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let begins = self.turn == Turn::Free;
        self.turn = Turn::Head;
        let bytes = self.buffers.output().get(..amount).unwrap_or_default();
        match &self.forward {
            Some((proxy, target)) if begins => self
                .stream
                .send(&proxy.whole_address(target, bytes), deadline(&timeout)),
            _ => self.stream.send(bytes, deadline(&timeout)),
        }
        .map_err(wrap)?;
        self.has_sent.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let deadline = deadline(&timeout);
        while self.turn == Turn::Head {
            if self.hand_over().map_err(wrap)? {
                return Ok(true);
            }
            let mut chunk = [0; 4096];
            let more = self.stream.receive(&mut chunk, deadline).map_err(late)?;
            if more == 0 {
                return Ok(false);
            }
            self.raw.extend(chunk.get(..more).unwrap_or_default());
        }
        let room = self.buffers.input_append_buf();
        let more = self.stream.receive(room, deadline).map_err(late)?;
        self.buffers.input_appended(more);
        Ok(more > 0)
    }

    fn is_tls(&self) -> bool {
        self.is_tls
    }

    fn is_open(&mut self) -> bool {
        self.turn == Turn::Free && self.buffers.input().is_empty() && self.stream.is_quiet()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_never_show_a_url() {
        let error = explain(ureq::Error::BadUri("http://pdu/?pass=secret".into()));
        assert!(!error.detail.contains("secret"));
    }
}
