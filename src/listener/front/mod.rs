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

use super::guard::Guard;
use super::head::refusal;
use super::link::{Link, Underway};
use super::pulse::Pulse;
use super::wire::Waker;
use crate::config::{Limits, Protocols, Tls};
use crate::dispatch::Dispatcher;
use accept::Acceptor;
use connection::{Connection, Phase, Timers};
use crossbeam_channel::{Receiver, Sender};
use handshake::Handshakes;
use log::{info, warn};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fd::OwnedFd;
use socket2::Socket;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long waiting and accepting pause when the system refuses them.
const BREATH: Duration = Duration::from_millis(50);
/// How many connections get their turn before all are looked at anew.
const EVENTS: usize = 64;
/// What is read at a time.
const CHUNK: usize = 16 * 1024;

/// The bounds the front keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bounds {
    /// Most connections, for this machine.
    pub(super) connections: usize,
    pub(super) limits: Limits,
}

/// What the daemon tells the front.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    /// Accept nothing more; finish what is under way, then end.
    Drain,
    /// Give a sign of life, and have HTTP give one.
    Live,
    /// Keep these bounds from now on.
    Bounds(Bounds),
    /// Speak TLS so from now on; connections that are open go on as they are.
    Tls(Option<Tls>),
    /// End.
    End,
}

/// The daemon's end of the front.
#[derive(Debug)]
pub(super) struct Remote {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
    pub(super) pulse: Pulse,
}

impl Remote {
    pub(super) fn tell(&self, command: Command) {
        // A front that is gone has ended.
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

/// The front and all its connections.
pub(super) struct Front {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    commands: Receiver<Command>,
    pulse: Pulse,
    acceptor: Acceptor,
    protocols: Protocols,
    bounds: Bounds,
    tls: Option<Tls>,
    handshakes: Handshakes,
    dispatcher: Arc<Dispatcher>,
    guard: Arc<Guard>,
    link: Link,
    waker: Arc<Waker>,
    clients: HashMap<u64, Connection>,
    timers: Timers,
    next_id: u64,
    /// Bytes kept for all clients together, see [`Limits::buffered`].
    buffered: usize,
    /// What was just read.
    chunk: Vec<u8>,
    draining: bool,
}

/// Tokens: the wake-up, then the listening sockets, the private socket, then the clients.
const WAKE: u64 = 0;
const FIRST_LISTENING: u64 = 1;
const LINK: u64 = 1023;
const FIRST_CLIENT: u64 = 1024;
/// A timer of its own: accept again.
const ACCEPT_AGAIN: u64 = WAKE;

impl Front {
    pub(super) fn new(
        listening: Vec<Socket>,
        protocols: Protocols,
        bounds: Bounds,
        tls: Option<Tls>,
        dispatcher: Arc<Dispatcher>,
        guard: Arc<Guard>,
        http_socket: PathBuf,
        underway: Arc<Underway>,
    ) -> io::Result<(Self, Remote)> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let data = epoll::EventData::new_u64(WAKE);
        epoll::add(&epoll, &*wake, data, epoll::EventFlags::IN)?;
        let (sender, commands) = crossbeam_channel::unbounded();
        let remote = Remote {
            commands: sender,
            wake: Arc::clone(&wake),
            pulse: Pulse::of("the listeners"),
        };
        let pulse = remote.pulse.clone();
        let waker = Arc::new(Waker::new(&wake));
        let mut front = Self {
            epoll,
            wake,
            commands,
            pulse,
            acceptor: Acceptor::new(listening),
            protocols,
            bounds,
            tls,
            handshakes: Handshakes::new(),
            dispatcher,
            guard,
            link: Link::new(http_socket, underway, LINK),
            waker,
            clients: HashMap::new(),
            timers: Timers::new(),
            next_id: FIRST_CLIENT,
            buffered: 0,
            chunk: vec![0; CHUNK],
            draining: false,
        };
        front.acceptor.open(&front.epoll)?;
        Ok((front, remote))
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
                    WAKE => {
                        let mut count = [0; 8];
                        let _ = rustix::io::read(&*self.wake, &mut count);
                    }
                    LINK => self.link_ready(flags),
                    token if token < FIRST_CLIENT => self.accept(token),
                    token => self.client_ready(token, flags),
                }
            }
            for id in self.waker.woken() {
                self.answered(id);
            }
            while let Ok(command) = self.commands.try_recv() {
                match command {
                    Command::Drain => self.drain(),
                    Command::Live => {
                        self.pulse.give();
                        if let Err(error) = self.link.probe(&self.epoll) {
                            self.link_lost(&error);
                        }
                    }
                    Command::Bounds(bounds) => {
                        self.bounds = bounds;
                        self.timers.insert((Instant::now(), ACCEPT_AGAIN));
                    }
                    Command::Tls(tls) => self.tls = tls,
                    Command::End => return,
                }
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
        if self.clients.len() < self.bounds.connections && !self.acceptor.is_open {
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
            if matches!(client.phase, Phase::Sniffing | Phase::Http) {
                if let Some(answer) = client.wire.late(now) {
                    answer();
                }
                let is_answered = client.settle(false);
                let due = client.next_look(is_answered, now, &self.bounds.limits);
                if due > now {
                    client.set_due(&mut self.timers, Some(due));
                    continue;
                }
            }
            let (asks, takes) = (!client.input.is_empty(), client.output.is_empty());
            let rest_since = client.rest_since.unwrap_or(now);
            match client.phase {
                Phase::Line if asks => {
                    let in_time = now < rest_since + self.bounds.limits.request;
                    self.ask_line(id, in_time);
                    continue;
                }
                Phase::Http if asks && takes => {
                    self.refuse(id, &refusal(408, "the request did not come in time"));
                    continue;
                }
                Phase::Sniffing | Phase::Line | Phase::Http => {
                    let reason = match (takes, asks) {
                        (false, _) => "slow-reader",
                        (true, true) => "timeout",
                        (true, false) => "idle",
                    };
                    self.dispatcher.metrics().refused(reason);
                }
                Phase::Handshake => self.dispatcher.metrics().refused("handshake"),
                Phase::Lingering if !takes => self.dispatcher.metrics().refused("slow-reader"),
                Phase::Lingering | Phase::LineAsked => {}
            }
            self.close(id);
        }
    }
}
