//! One client's connection: what it is doing, what it keeps, and how long it may.

use crate::access::Peer;
use crate::config::Limits;
use crate::listener::wire::{ClientWire, Outgoing};
use rustix::event::epoll::EventFlags;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// What a connection may keep of a request without it being counted.
pub(super) const SMALL: usize = 4 * 1024;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientPhase {
    /// TLS begins.
    Handshake,
    /// The first bytes do not tell the protocol yet.
    Sniffing,
    /// A legacy line is coming.
    Line,
    /// The line is with a worker, which answers on the socket and shuts it down.
    LineAsked,
    /// HTTP: a request is coming, or its response.
    Http,
    /// Answered for good; what still comes is thrown away.
    Lingering,
}

pub(super) struct ClientConnection {
    id: u64,
    pub(super) wire: Arc<ClientWire>,
    pub(super) peer: Peer,
    /// The address that is counted.
    pub(super) ip: Option<IpAddr>,
    pub(super) phase: ClientPhase,
    /// What it has sent and nobody has taken.
    pub(super) input: Vec<u8>,
    /// Nothing has come yet: the first byte tells whether TLS is spoken.
    pub(super) is_fresh: bool,
    /// Its handshake waits for its turn.
    pub(super) is_in_line: bool,
    /// Its handshake has come as far as our answer.
    pub(super) is_half_shaken: bool,
    /// Bytes the client has not taken yet.
    pub(super) output: Outgoing,
    /// The client sends nothing more.
    pub(super) ended: bool,
    /// Close once `output` is out.
    pub(super) closing: bool,
    /// The client was told to go on with its body.
    pub(super) invited: bool,
    /// A request is with the server, or its answer was not looked at yet.
    pub(super) asked: bool,
    /// When the answer that is waited for is to be given at the latest.
    pub(super) late: Option<Instant>,
    /// Further requests may follow the last one.
    pub(super) keeps_alive: bool,
    /// Its idle time runs from here: the begin, or the last bytes.
    pub(super) idle_since: Instant,
    /// Since when the rest of a request is missing, or of an answer not taken.
    pub(super) rest_since: Option<Instant>,
    /// What it has sent is not looked at before there is so much of it.
    pub(super) wanted: usize,
    /// What it keeps of `Front::buffered`.
    pub(super) buffered: usize,
    /// When to look at it. Of an HTTP client, that may be before its time is over.
    pub(super) due: Option<Instant>,
    /// What the epoll tells of it.
    pub(super) interest: EventFlags,
}

impl ClientConnection {
    /// A client that has said nothing; the epoll tells when it does.
    pub(super) fn new(
        id: u64,
        wire: ClientWire,
        peer: Peer,
        ip: Option<IpAddr>,
        phase: ClientPhase,
    ) -> Self {
        Self {
            id,
            wire: Arc::new(wire),
            peer,
            ip,
            phase,
            input: Vec::new(),
            is_fresh: true,
            is_in_line: false,
            is_half_shaken: false,
            output: Outgoing::default(),
            ended: false,
            closing: false,
            invited: false,
            asked: false,
            late: None,
            keeps_alive: true,
            idle_since: Instant::now(),
            rest_since: None,
            wanted: 0,
            buffered: 0,
            due: None,
            interest: EventFlags::IN,
        }
    }

    /// Looks whether the answer has come, and takes what the client has not had of it; false while
    /// it is waited for.
    pub(super) fn settle(&mut self, shall_wake: bool) -> bool {
        if self.asked {
            match self.wire.look(shall_wake) {
                Err(late) => {
                    self.late = late;
                    return false;
                }
                Ok(None) => {}
                Ok(Some((at, rest))) => {
                    self.idle_since = self.idle_since.max(at);
                    self.rest_since = Some(at).filter(|_| !rest.is_empty());
                    self.output = rest;
                }
            }
            self.asked = false;
        }
        self.phase != ClientPhase::LineAsked
    }

    /// When its time is over, while it waits for no answer.
    pub(super) fn time_end(&self, limits: &Limits) -> Instant {
        let idle_end = self.idle_since + limits.idle;
        match self.rest_since {
            Some(since) => idle_end.min(since + limits.request),
            None => idle_end,
        }
    }

    /// When to look at it again; while it waits for an answer, its time does not run.
    pub(super) fn next_look(&self, is_answered: bool, now: Instant, limits: &Limits) -> Instant {
        match is_answered {
            true => self.time_end(limits),
            false => {
                let look = now + limits.idle;
                self.late.map_or(look, |late| look.min(late))
            }
        }
    }

    /// Keeps among the `timers` when to look at it.
    pub(super) fn set_due(&mut self, timers: &mut BTreeSet<(Instant, u64)>, due: Option<Instant>) {
        if self.due == due {
            return;
        }
        if let Some(old) = self.due.take() {
            timers.remove(&(old, self.id));
        }
        self.due = due;
        timers.extend(due.map(|due| (due, self.id)));
    }

    /// The time in which the rest of a request must come begins, if it has not.
    pub(super) fn rest_is_missing(
        &mut self,
        timers: &mut BTreeSet<(Instant, u64)>,
        limits: &Limits,
    ) {
        self.rest_since.get_or_insert(self.idle_since);
        // A timer that is due earlier finds out by itself.
        let end = self.time_end(limits);
        if self.due.is_none_or(|due| due > end) {
            self.set_due(timers, Some(end));
        }
    }

    /// What the epoll shall tell of it.
    pub(super) fn waits_for(&self, limits: &Limits) -> EventFlags {
        let mut events = EventFlags::empty();
        if self.phase == ClientPhase::Handshake {
            events.set(EventFlags::IN, !self.is_in_line);
            let owes = !self.is_in_line && self.wire.stream.owes_handshake();
            events.set(EventFlags::OUT, owes);
            return events;
        }
        let most = (limits.head + limits.body).max(limits.line + 1);
        events.set(EventFlags::IN, !self.ended && self.input.len() < most);
        events.set(EventFlags::OUT, !self.output.is_empty());
        events
    }

    /// The bytes that count as kept for it.
    pub(super) fn size(&self) -> usize {
        let input = Some(self.input.capacity()).filter(|size| *size > SMALL);
        input.unwrap_or(0) + self.output.size() + self.wire.stream.owed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Origin;
    use crate::listener::bell::Bell;
    use crate::listener::stream::ClientStream;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn connection() -> ClientConnection {
        let (ours, _) = UnixStream::pair().expect("a pair");
        let bell = Arc::new(Bell::new().expect("an eventfd"));
        let wire = ClientWire::new(7, ClientStream::new(ours.into()), &bell);
        let peer = Peer {
            origin: Origin::Unix,
            to_loopback: false,
            certified: None,
        };
        ClientConnection::new(7, wire, peer, None, ClientPhase::Http)
    }

    #[test]
    fn drips_do_not_put_off_the_end() {
        let (mut client, mut timers) = (connection(), BTreeSet::new());
        let (begin, limits) = (client.idle_since, Limits::default());
        assert_eq!(client.time_end(&limits), begin + limits.idle);
        client.rest_is_missing(&mut timers, &limits);
        client.idle_since = begin + limits.request;
        client.rest_is_missing(&mut timers, &limits);
        assert_eq!(client.time_end(&limits), begin + limits.request);
        assert_eq!(
            timers,
            [(begin + limits.idle, 7)].into(),
            "the first look stays"
        );
        client.set_due(&mut timers, Some(begin + limits.request));
        assert_eq!(timers, [(begin + limits.request, 7)].into());
        client.set_due(&mut timers, None);
        assert!(timers.is_empty());
    }

    #[test]
    fn an_answer_that_is_waited_for_takes_no_time() {
        let (mut client, limits) = (connection(), Limits::default());
        client.asked = true;
        client.wire.ask(false);
        assert!(!client.settle(false));
        let now = client.idle_since + Duration::from_secs(1000);
        assert_eq!(client.next_look(false, now, &limits), now + limits.idle);
        assert!(client.wire.answer(Outgoing::default()));
        assert!(client.settle(false) && !client.asked);
        assert!(client.rest_since.is_none(), "it was taken whole");
    }

    #[test]
    fn what_is_kept_is_bounded_and_counted() {
        let (mut client, limits) = (connection(), Limits::default());
        client.input.extend_from_slice(&[0; SMALL]);
        assert_eq!(
            (client.size(), client.waits_for(&limits)),
            (0, EventFlags::IN)
        );
        client.input.resize(limits.head + limits.body, 0);
        client.output.push(b"rest");
        assert_eq!(client.waits_for(&limits), EventFlags::OUT);
        assert!(client.size() >= limits.head + limits.body + 4);
    }
}
