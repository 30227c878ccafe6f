//! Letting clients in: as many as there may be, and as many of one address.

use super::connection::{ClientConnection, ClientPhase};
use super::{ACCEPT_AGAIN, BREATH, FIRST_LISTENING, Front};
use crate::access::{Origin, Peer, counted_as};
use crate::listener::stream::ClientStream;
use crate::listener::wire::ClientWire;
use log::{debug, warn};
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use socket2::Socket;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How many clients are let in before those that are in already get a look.
const ACCEPTED_AT_ONCE: usize = 32;
/// How long a connection may be without a request before it makes room for another one.
const GRACE: Duration = Duration::from_secs(1);
/// Descriptors that are not for connections: PDUs' sessions, logs, locks.
const RESERVED_DESCRIPTORS: u64 = 256;
/// So many of the connections that are due first are looked at for one that makes room.
const LOOKED_AT: usize = 64;

/// The listening sockets, and the clients they have let in.
pub(super) struct Acceptor {
    /// Each with whether its address is a loopback one.
    listening: Vec<(Socket, bool)>,
    /// Does the epoll tell of them?
    pub(super) is_open: bool,
    /// As many connections as the descriptor limit allows.
    pub(super) most: usize,
    per_ip: HashMap<IpAddr, usize>,
}

impl Acceptor {
    pub(super) fn new(listening: Vec<Socket>) -> Self {
        let is_loopback = |socket: &Socket| {
            let address = socket.local_addr().ok();
            let ip = address.and_then(|address| Some(address.as_socket()?.ip()));
            ip.is_some_and(|ip| ip.to_canonical().is_loopback())
        };
        let listening = listening.into_iter().map(|socket| {
            let is_loopback = is_loopback(&socket);
            (socket, is_loopback)
        });
        Self {
            listening: listening.collect(),
            is_open: false,
            most: most_connections(),
            per_ip: HashMap::new(),
        }
    }

    pub(super) fn open(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        if !self.is_open {
            for ((socket, _), token) in self.listening.iter().zip(FIRST_LISTENING..) {
                let data = epoll::EventData::new_u64(token);
                match epoll::add(epoll, socket, data, epoll::EventFlags::IN) {
                    // Added by a try that came no further than this.
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            self.is_open = true;
        }
        Ok(())
    }

    /// Clients wait in the backlog until it is open again.
    pub(super) fn pause(&mut self, epoll: &OwnedFd) {
        if self.is_open {
            for (socket, _) in &self.listening {
                // Fails only for a socket that is not there.
                let _ = epoll::delete(epoll, socket);
            }
            self.is_open = false;
        }
    }

    /// For good: whoever waits in the backlog is refused at once.
    pub(super) fn close(&mut self, epoll: &OwnedFd) {
        self.pause(epoll);
        self.listening.clear();
    }

    fn socket(&self, token: u64) -> Option<&(Socket, bool)> {
        let index = usize::try_from(token - FIRST_LISTENING).ok()?;
        self.listening.get(index)
    }

    /// Counts a client of this address, unless there are `most` already: fails with how many.
    fn count(&mut self, ip: IpAddr, most: usize) -> Result<(), usize> {
        let count = self.per_ip.entry(ip).or_default();
        if *count >= most {
            return Err(*count);
        }
        *count += 1;
        Ok(())
    }

    /// A client that was counted has left.
    pub(super) fn forget(&mut self, ip: IpAddr) {
        if let Some(count) = self.per_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.per_ip.remove(&ip);
            }
        }
    }
}

impl Front {
    /// Lets in some of those who wait; the epoll tells of the others again.
    pub(super) fn accept(&mut self, token: u64) {
        for turn in 0..ACCEPTED_AT_ONCE {
            if !self.acceptor.is_open {
                return;
            }
            if self.clients.len() >= self.most_connections() {
                if turn > 0 {
                    // Whether anybody waits is not known before the epoll tells so again.
                    return;
                }
                self.dispatcher.metrics().refused("connections");
                if !self.make_room() {
                    // The next client waits in the backlog until one has left.
                    debug!(target: "pdud.listener", "{} connections: no more are accepted for now", self.clients.len());
                    return self.accept_later(GRACE);
                }
            }
            let Some((socket, to_loopback)) = self.acceptor.socket(token) else {
                return;
            };
            match accept_one(socket) {
                Ok((stream, origin)) => {
                    let to_loopback = *to_loopback;
                    let peer = Peer {
                        origin,
                        to_loopback,
                        certified: None,
                    };
                    self.welcome(stream, peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Out of descriptors or memory: nothing gets better by trying at once.
                    warn!(target: "pdud.listener", "cannot accept a connection: {error}");
                    self.dispatcher.metrics().refused("descriptors");
                    return self.accept_later(BREATH);
                }
            }
        }
    }

    /// Accepts nothing for a while.
    fn accept_later(&mut self, pause: Duration) {
        self.acceptor.pause(&self.epoll);
        self.timers.insert((Instant::now() + pause, ACCEPT_AGAIN));
    }

    /// Lets a client go that has been without a request, or with half of one, for a while: nobody
    /// keeps others out by doing nothing. Where there is none, one goes that has closed its side: it
    /// has most likely left, and what it asked for is done all the same. False when none is found
    /// among those due first.
    fn make_room(&mut self) -> bool {
        let now = Instant::now();
        let due = self.timers.iter().take(LOOKED_AT).map(|(_, id)| *id);
        // One that is taking its answer, if slowly, goes only where there is no other.
        let (mut left, mut reader) = (None, None);
        for id in due.collect::<Vec<u64>>() {
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            let is_answered = client.settle(false);
            let says_nothing = client.phase == ClientPhase::Line && client.input.is_empty();
            let may_go = matches!(
                client.phase,
                ClientPhase::Handshake | ClientPhase::Sniffing | ClientPhase::Http
            );
            if !says_nothing && !may_go {
                continue;
            }
            let since = client.rest_since.unwrap_or(client.idle_since);
            let is_long = is_answered && now.saturating_duration_since(since) >= GRACE;
            if is_long && !client.output.is_empty() {
                reader.get_or_insert(id);
                continue;
            }
            if is_long {
                debug!(target: "pdud.listener", "{} makes room for another client", client.peer.origin);
                self.close(id);
                return true;
            }
            if client.ended && !is_answered {
                left.get_or_insert(id);
            }
            // It goes where it belongs, and is not looked at first the next time.
            let due = client.next_look(is_answered, now, &self.limits);
            client.set_due(&mut self.timers, Some(due));
        }
        let goes = left.or(reader);
        if let Some(id) = goes {
            debug!(target: "pdud.listener", "a slow reader, or one that has closed its side, makes room for another client");
            self.close(id);
        }
        goes.is_some()
    }

    fn welcome(&mut self, stream: Socket, peer: Peer) {
        let ip = match peer.origin {
            Origin::Unix => None,
            Origin::Ip(ip) => Some(ip),
        };
        let counted = ip.filter(|ip| !ip.is_loopback() && !self.guard.may_crowd(*ip));
        let counted = counted.map(counted_as);
        if let Some(ip) = counted {
            let most = self.most_of_one_client();
            if let Err(count) = self.acceptor.count(ip, most) {
                debug!(target: "pdud.listener", "{ip} has {count} connections: another one is refused");
                self.dispatcher.metrics().refused("connections-per-client");
                return;
            }
        }
        let id = self.next_id;
        self.next_id += 1;
        let data = epoll::EventData::new_u64(id);
        let added = epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN);
        let phase = ClientPhase::first(self.protocols);
        let wire = ClientWire::new(id, ClientStream::new(stream), &self.bell);
        let mut client = ClientConnection::new(id, wire, peer, counted, phase);
        let end = client.time_end(&self.limits);
        client.set_due(&mut self.timers, Some(end));
        self.clients.insert(id, client);
        self.dispatcher.metrics().connected();
        if let Err(error) = added {
            warn!(target: "pdud.listener", "cannot watch a connection: {error}");
            return self.close(id);
        }
        // The request is usually there already.
        self.client_ready(id, epoll::EventFlags::IN);
    }
}

/// As many connections as the descriptor limit allows.
fn most_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(1 << 20);
    let most = limit.saturating_sub(RESERVED_DESCRIPTORS);
    usize::try_from(most)
        .unwrap_or(usize::MAX)
        .clamp(16, 20_000)
}

/// A client that waits, which never blocks, and where it comes from.
fn accept_one(socket: &Socket) -> io::Result<(Socket, Origin)> {
    use rustix::net::SocketFlags;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (stream, address) = rustix::net::acceptfrom_with(socket, flags)?;
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    let origin = address.map_or(Origin::Unix, |address| {
        Origin::Ip(address.ip().to_canonical())
    });
    Ok((stream.into(), origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_connections() {
        let mut acceptor = Acceptor::new(Vec::new());
        let ip = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(acceptor.count(ip, 2), Ok(()));
        assert_eq!(acceptor.count(ip, 2), Ok(()));
        assert_eq!(acceptor.count(ip, 2), Err(2));
        assert_eq!(acceptor.count([192, 0, 2, 2].into(), 2), Ok(()));
        acceptor.forget(ip);
        assert_eq!(acceptor.count(ip, 2), Ok(()));
        acceptor.forget(ip);
        acceptor.forget(ip);
        assert_eq!(acceptor.per_ip.len(), 1, "who has left is forgotten");
    }
}
