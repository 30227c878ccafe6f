//! The front: one thread that faces the network. It accepts on every address, bounds connections,
//! heads, lines, time and memory, looks at the first bytes, serves the legacy line itself, and hands
//! whole HTTP requests on to tiny_http over one private Unix socket, one at a time per client.
//! Whoever has an answer writes it to the client.
//!
//! The thread waits on one thing, its epoll: listening sockets, clients, the private socket, and a
//! wake-up for the daemon's commands and for answers that leave it something to do. tiny_http never
//! sees a byte of a request that is not complete and within bounds.
//!
//! Here are the loop and its timers; `accept` lets clients in, `connection` is what is known of one,
//! `handshake` begins TLS where it is spoken, `serve` takes what a client sends and sends what is
//! left, `forward` is the way to tiny_http.

mod accept;
mod connection;
mod forward;
mod handshake;
mod serve;

use super::bell::{Bell, News};
use super::guard::Guard;
use super::head::refusal;
use super::link::{self, HttpLink};
use crate::config::{DaemonConfig, Limits, Protocols, Tls};
use crate::dispatch::Dispatcher;
use accept::Acceptor;
use connection::{ClientConnection, ClientPhase};
use handshake::Handshakes;
use log::{info, warn};
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use socket2::Socket;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long waiting and accepting pause when the system refuses them.
const BREATH: Duration = Duration::from_millis(50);
/// How many connections get their turn before all are looked at anew.
const EVENTS: usize = 64;
/// What is read at a time.
const CHUNK: usize = 16 * 1024;

/// The front and all its connections.
pub(super) struct Front {
    epoll: OwnedFd,
    bell: Arc<Bell>,
    /// Another thread waits for its next sign of life.
    is_awaited: Arc<AtomicBool>,
    acceptor: Acceptor,
    protocols: Protocols,
    limits: Limits,
    tls: Option<Tls>,
    handshakes: Handshakes,
    dispatcher: Arc<Dispatcher>,
    guard: Arc<Guard>,
    link: HttpLink,
    clients: HashMap<u64, ClientConnection>,
    /// When to look at which connection.
    timers: BTreeSet<(Instant, u64)>,
    next_id: u64,
    /// Bytes kept for all clients together, see [`Limits::buffered`].
    buffered: usize,
    /// What was just read.
    chunk: Vec<u8>,
    draining: bool,
}

/// The most connections of one client address where the config does not say.
const MOST_OF_ONE_CLIENT: usize = 1024;

/// Tokens: the wake-up, then the listening sockets, the private socket, then the clients.
const WAKE: u64 = 0;
const FIRST_LISTENING: u64 = 1;
const FIRST_CLIENT: u64 = 1024;
/// A timer of its own: accept again.
const ACCEPT_AGAIN: u64 = WAKE;

impl Front {
    pub(super) fn new(
        listening: Vec<Socket>,
        config: &DaemonConfig,
        dispatcher: Arc<Dispatcher>,
        guard: Arc<Guard>,
        link: HttpLink,
        bell: Arc<Bell>,
        is_awaited: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(WAKE);
        epoll::add(&epoll, &*bell, data, epoll::EventFlags::IN)?;
        let mut front = Self {
            epoll,
            bell,
            is_awaited,
            acceptor: Acceptor::new(listening),
            protocols: config.protocols,
            limits: config.limits,
            tls: config.served_tls(),
            handshakes: Handshakes::new(),
            dispatcher,
            guard,
            link,
            clients: HashMap::new(),
            timers: BTreeSet::new(),
            next_id: FIRST_CLIENT,
            buffered: 0,
            chunk: vec![0; CHUNK],
            draining: false,
        };
        front.acceptor.open(&front.epoll)?;
        Ok(front)
    }

    /// Runs until told to end, or until a drain has nothing left.
    pub(super) fn run(mut self) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        loop {
            let timer = self.timers.first().map(|(due, _)| *due);
            let due = timer.into_iter().chain(self.handshakes.due()).min();
            let wait = due.map(|due| {
                let wait = due.saturating_duration_since(Instant::now());
                rustix::time::Timespec {
                    tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                    // A wait is rounded up, or the loop would spin until the timer is due.
                    tv_nsec: i64::from(wait.subsec_nanos().max(1)),
                }
            });
            events.clear();
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, room, wait.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    warn!(target: "pdud.listener", "waiting for clients: {error}");
                    std::thread::sleep(BREATH);
                }
            }
            // Requests before answers that are long: whoever takes a list lets others ask.
            events.sort_unstable_by_key(|event| !{ event.flags }.contains(epoll::EventFlags::IN));
            for event in &events {
                let (token, flags) = (event.data.u64(), event.flags);
                match token {
                    WAKE => self.bell.hush(),
                    link::TOKEN => self.link_ready(flags),
                    token if token < FIRST_CLIENT => self.accept(token),
                    token => self.client_ready(token, flags),
                }
            }
            for news in self.bell.news() {
                if news == News::End {
                    return;
                }
                self.hear(news);
            }
            self.expire(Instant::now());
            self.shake_hands();
            if let Err(error) = self.link.flush(&self.epoll) {
                self.link_lost(&error);
            }
            if self.draining && self.clients.is_empty() {
                return;
            }
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Look(id) => self.answered(id),
            News::Drain => self.drain(),
            News::Live => {
                self.is_awaited.store(false, Ordering::Release);
                if let Err(error) = self.link.probe(&self.epoll) {
                    self.link_lost(&error);
                }
            }
            News::Limits(limits) => {
                self.limits = limits;
                self.timers.insert((Instant::now(), ACCEPT_AGAIN));
            }
            News::Tls(tls) => self.tls = tls,
            News::End => {}
        }
    }

    fn most_connections(&self) -> usize {
        self.limits.connections.unwrap_or(self.acceptor.most)
    }

    /// As many connections as one client address may have: never all of them, unless the config
    /// says so.
    fn most_of_one_client(&self) -> usize {
        let derived = (self.most_connections() * 3 / 4).clamp(1, MOST_OF_ONE_CLIENT);
        self.limits.connections_per_client.unwrap_or(derived)
    }

    fn close(&mut self, id: u64) {
        let Some(client) = self.clients.remove(&id) else {
            return;
        };
        self.dispatcher.metrics().disconnected();
        self.handshakes.forget(id);
        self.buffered -= client.buffered;
        // A worker may be writing an answer; the stream is no business of the epoll any more.
        let _ = epoll::delete(&self.epoll, &client.wire.stream);
        if let Some(due) = client.due {
            self.timers.remove(&(due, id));
        }
        if let Some(ip) = client.ip {
            self.acceptor.forget(ip);
        }
        if self.clients.len() < self.most_connections() && !self.acceptor.is_open {
            self.timers.insert((Instant::now(), ACCEPT_AGAIN));
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        self.acceptor.close(&self.epoll);
        let all: Vec<u64> = self.clients.keys().copied().collect();
        for id in all {
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            // Whoever waits still gets the answer, and the rest of it.
            if client.settle(true) {
                match client.output.is_empty() {
                    true => self.close(id),
                    false => self.close_when_sent(id),
                }
            }
        }
        info!(target: "pdud.listener", "no further requests are taken");
    }

    fn expire(&mut self, now: Instant) {
        while let Some((due, id)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, id));
            if id == ACCEPT_AGAIN {
                if let Err(error) = self.acceptor.open(&self.epoll) {
                    warn!(target: "pdud.listener", "cannot accept connections: {error}");
                    self.timers.insert((now + BREATH, ACCEPT_AGAIN));
                }
                continue;
            }
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            client.due = None;
            if matches!(client.phase, ClientPhase::Sniffing | ClientPhase::Http) {
                if let Some(answer) = client.wire.late(now) {
                    answer();
                }
                let is_answered = client.settle(false);
                let due = client.next_look(is_answered, now, &self.limits);
                if due > now {
                    client.set_due(&mut self.timers, Some(due));
                    continue;
                }
            }
            let (asks, takes) = (!client.input.is_empty(), client.output.is_empty());
            let rest_since = client.rest_since.unwrap_or(now);
            match client.phase {
                ClientPhase::Line if asks => {
                    let in_time = now < rest_since + self.limits.request;
                    self.ask_line(id, in_time);
                    continue;
                }
                ClientPhase::Http if asks && takes => {
                    self.refuse(id, &refusal(408, "the request did not come in time"));
                    continue;
                }
                ClientPhase::Sniffing | ClientPhase::Line | ClientPhase::Http => {
                    let reason = match (takes, asks) {
                        (false, _) => "slow-reader",
                        (true, true) => "timeout",
                        (true, false) => "idle",
                    };
                    self.dispatcher.metrics().refused(reason);
                }
                ClientPhase::Handshake => self.dispatcher.metrics().refused("handshake"),
                ClientPhase::Lingering if !takes => {
                    self.dispatcher.metrics().refused("slow-reader")
                }
                ClientPhase::Lingering | ClientPhase::LineAsked => {}
            }
            self.close(id);
        }
    }
}
