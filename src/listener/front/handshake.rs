//! TLS handshakes: how many there may be, how long one may take, and how much of the front's time
//! all of them get.
//!
//! A handshake costs a signature and a key exchange, which are a few hundred microseconds, and the
//! client need not even be honest to make us do that. So handshakes wait in a line of their own. One
//! is carried on at a time, and then others get as much time as that took. Clients that have
//! answered us go first, since the costly part is over. Then come those of the address with the
//! fewest, and of these the newest: in a flood the clients of old ones have mostly given up.

use super::Front;
use super::connection::{ClientConnection, ClientPhase};
use crate::access::{Buckets, Origin, counted_as};
use crate::config::{Plain, Protocols, Tls};
use log::debug;
use rustix::event::epoll::EventFlags;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

/// What TLS begins with: a record of a handshake. No method and no PDU's name does.
const HANDSHAKE_RECORD: u8 = 0x16;
/// Handshakes under way at a time. With one more, the oldest is let go.
pub(super) const MOST: usize = 256;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Handshakes that one address may begin at once, and then per second. Loopback and trusted
/// networks may begin any number, as with connections.
const PER_ADDRESS: (u32, f64) = (200, 50.0);
/// Addresses that are remembered.
const ADDRESSES: usize = 4096;

/// The handshakes under way.
pub(super) struct Handshakes {
    /// All of them, with the address that counts; a higher id is younger.
    all: BTreeMap<u64, IpAddr>,
    /// Those whose client goes on after our answer.
    half: Vec<u64>,
    /// Those whose client begins.
    begun: Vec<u64>,
    /// Not before this does the next turn begin.
    next_turn: Instant,
    per_address: Buckets,
}

impl Handshakes {
    pub(super) fn new() -> Self {
        let (burst, per_second) = PER_ADDRESS;
        Self {
            all: BTreeMap::new(),
            half: Vec::new(),
            begun: Vec::new(),
            next_turn: Instant::now(),
            per_address: Buckets::new(burst, per_second, ADDRESSES),
        }
    }

    /// When the next turn is due, if anything waits for one.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.next_turn).filter(|_| !self.half.is_empty() || !self.begun.is_empty())
    }

    /// How many each address has under way.
    fn shares(&self) -> HashMap<IpAddr, usize> {
        let mut shares = HashMap::new();
        for ip in self.all.values() {
            *shares.entry(*ip).or_default() += 1;
        }
        shares
    }

    /// The oldest of the address that has the most.
    fn last_in_line(&self) -> Option<u64> {
        let shares = self.shares();
        let share = |ip: &IpAddr| shares.get(ip).copied();
        let mut all = self.all.iter().rev();
        let first = all.next()?;
        let last = all.fold(first, |last, one| match share(one.1) >= share(last.1) {
            true => one,
            false => last,
        });
        Some(*last.0)
    }

    /// The one to carry on.
    fn first_in_line(&mut self) -> Option<u64> {
        if let Some(id) = self.half.pop() {
            return Some(id);
        }
        let (all, shares) = (&self.all, self.shares());
        self.begun.retain(|id| all.contains_key(id));
        let share = |id: &u64| all.get(id).and_then(|ip| shares.get(ip)).copied();
        let line = self.begun.iter().enumerate();
        let (at, _) = line.min_by_key(|(at, id)| (share(id), Reverse(*at)))?;
        Some(self.begun.remove(at))
    }

    /// It is over, or its client has left.
    pub(super) fn forget(&mut self, id: u64) {
        self.all.remove(&id);
    }
}

/// Do these first bytes of a client ask for TLS?
pub(super) fn begins(bytes: &[u8]) -> bool {
    bytes.first() == Some(&HANDSHAKE_RECORD)
}

/// Must this client speak TLS, and does not?
pub(super) fn is_missing(tls: Option<&Tls>, client: &ClientConnection) -> bool {
    let (Some(tls), Origin::Ip(ip)) = (tls, client.peer.origin) else {
        return false;
    };
    !client.wire.stream.is_secure()
        && match tls.plain {
            Plain::Allow => false,
            Plain::Loopback => !ip.is_loopback(),
            Plain::Refuse => true,
        }
}

impl Front {
    /// A client has begun a handshake: it gets its place in the line.
    pub(super) fn begin_handshake(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let now = Instant::now();
        if let Some(ip) = client.ip
            && !self.handshakes.per_address.take(ip, now)
        {
            self.dispatcher.metrics().refused("handshakes-per-client");
            return self.close(id);
        }
        let address = match client.peer.origin {
            Origin::Ip(ip) => counted_as(ip),
            Origin::Unix => Ipv4Addr::UNSPECIFIED.into(),
        };
        client.phase = ClientPhase::Handshake;
        client.set_due(&mut self.timers, Some(now + PATIENCE));
        if self.handshakes.all.len() >= MOST
            && let Some(last) = self.handshakes.last_in_line()
        {
            self.dispatcher.metrics().refused("handshakes");
            self.close(last);
        }
        self.handshakes.all.insert(id, address);
        self.handshake_waits(id);
    }

    /// The epoll tells of a client that shakes hands.
    pub(super) fn handshake_ready(&mut self, id: u64, flags: EventFlags) {
        if flags.intersects(EventFlags::IN | EventFlags::OUT) {
            self.handshake_waits(id);
        } else if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            self.close(id);
        }
    }

    fn handshake_waits(&mut self, id: u64) {
        if let Some(client) = self.clients.get_mut(&id)
            && !std::mem::replace(&mut client.is_in_line, true)
        {
            match client.is_half_shaken {
                true => self.handshakes.half.push(id),
                false => self.handshakes.begun.push(id),
            }
        }
        self.watch(id);
    }

    /// Carries one handshake on, when it is time for that.
    pub(super) fn shake_hands(&mut self) {
        let begin = Instant::now();
        if self.handshakes.due().is_none_or(|due| due > begin) {
            return;
        }
        if let Some(id) = self.handshakes.first_in_line() {
            self.shake(id);
        }
        self.handshakes.next_turn = Instant::now() + begin.elapsed();
    }

    /// Carries one on, as far as what has come allows.
    fn shake(&mut self, id: u64) {
        let (Some(client), Some(tls)) = (self.clients.get_mut(&id), &self.tls) else {
            return;
        };
        client.is_in_line = false;
        let read = std::mem::take(&mut client.input);
        let (is_resumed, name) = match client.wire.stream.shake(&tls.server, &read) {
            Ok(None) => {
                client.is_half_shaken = client.wire.stream.has_answered();
                return self.watch(id);
            }
            Ok(Some(done)) => done,
            Err(error) => {
                debug!(target: "pdud.listener", "{}: no TLS: {error}", client.peer.origin);
                self.dispatcher.metrics().shook_hands("failed");
                return self.close(id);
            }
        };
        self.handshakes.forget(id);
        let result = if is_resumed { "resumed" } else { "full" };
        self.dispatcher.metrics().shook_hands(result);
        client.peer.certified = name;
        client.phase = ClientPhase::first(self.protocols);
        client.idle_since = Instant::now();
        let end = client.time_end(&self.limits);
        client.set_due(&mut self.timers, Some(end));
        self.watch(id);
        // The request may have come with the end of the handshake.
        self.client_ready(id, EventFlags::IN);
    }
}

impl ClientPhase {
    /// What a client does first, where these protocols are spoken.
    pub(super) fn first(protocols: Protocols) -> Self {
        match protocols {
            Protocols::Http => Self::Http,
            Protocols::Tcp => Self::Line,
            Protocols::Both => Self::Sniffing,
        }
    }
}
