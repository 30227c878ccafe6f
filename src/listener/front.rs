//! The front: one thread that faces the network. It accepts on every address, bounds connections,
//! heads, lines, time and memory, looks at the first bytes, serves the legacy line itself, and hands
//! whole HTTP requests on to tiny_http over one private Unix socket, one at a time per client.
//! Whoever has an answer writes it to the client.
//!
//! The thread waits on one thing, its epoll: listening sockets, clients, the private socket, and a
//! wake-up for the daemon's commands and for answers that leave it something to do. tiny_http never
//! sees a byte of a request that is not complete and within bounds.

use super::guard::Guard;
use super::head::{self, CLIENT_HEADER, Refusal, Sniffed, refusal};
use super::link::{Asker, Link, Underway};
use super::socket::Listening;
use super::tcp;
use super::wire::{Found, Output, Stream, Waker, Wire};
use crate::config::{Limits, Protocols};
use crate::dispatch::Dispatcher;
use crossbeam_channel::{Receiver, Sender};
use log::{debug, error, info, warn};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fd::OwnedFd;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Shutdown};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tiny_http::HTTPVersion;

/// A legacy line without a newline ends after this much quiet.
const QUIET: Duration = Duration::from_millis(50);
/// How long a refused client may go on sending before the connection is closed on it.
const LINGER: Duration = Duration::from_secs(1);
/// How long accepting pauses when the system has no descriptors left.
const BREATH: Duration = Duration::from_millis(50);
/// How many clients are let in before those that are in already get a look.
const ACCEPTED_AT_ONCE: usize = 32;
/// How many connections get their turn before all are looked at anew.
const EVENTS: usize = 64;
/// What one client is sent before others get their turn.
const TURN: usize = 64 * 1024;
/// How long a connection may be without a request before it makes room for another one.
const GRACE: Duration = Duration::from_secs(1);
/// So many of the connections that are due first are looked at for one that makes room.
const LOOKED_AT: usize = 64;
/// What is read at a time.
const CHUNK: usize = 16 * 1024;
/// What a connection may keep of a request without it being counted.
const SMALL: usize = 4 * 1024;

/// The bounds the front keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bounds {
    /// Most connections, for this machine.
    pub(super) connections: usize,
    pub(super) limits: Limits,
}

/// What the daemon tells the front.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Command {
    /// Accept nothing more; finish what is under way, then end.
    Drain,
    /// Give this sign of life.
    Beat(u64),
    /// Keep these bounds from now on.
    Bounds(Bounds),
    /// End.
    End,
}

/// The daemon's end of the front.
#[derive(Debug)]
pub(super) struct Remote {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
    beat: Arc<AtomicU64>,
}

impl Remote {
    /// The last sign of life asked for that came.
    pub(super) fn beat(&self) -> u64 {
        self.beat.load(Ordering::Acquire)
    }

    pub(super) fn tell(&self, command: Command) {
        // A front that is gone has ended.
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
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

struct Client {
    wire: Arc<Wire>,
    name: Arc<str>,
    ip: Option<IpAddr>,
    phase: Phase,
    input: Vec<u8>,
    /// Bytes the client has not taken yet.
    output: Output,
    /// The client sends nothing more.
    ended: bool,
    /// Close once `output` is out.
    closing: bool,
    /// The client was told to go on with its body.
    invited: bool,
    /// A request is with the server, or its answer was not looked at yet.
    asked: bool,
    /// Further requests may follow the last one.
    keeps_alive: bool,
    /// Its idle time runs from here: the begin, or the last bytes.
    idle_since: Instant,
    /// Since when the rest of a request is missing, or of an answer not taken.
    rest_since: Option<Instant>,
    /// What it has sent is not looked at before there is so much of it.
    wanted: usize,
    /// What it keeps of `Front::buffered`.
    buffered: usize,
    /// When to look at it. Of an HTTP client, that may be before its time is over.
    due: Option<Instant>,
    interest: epoll::EventFlags,
}

/// The front and all its connections.
pub(super) struct Front {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    commands: Receiver<Command>,
    beat: Arc<AtomicU64>,
    listening: Vec<Listening>,
    accepting: bool,
    protocols: Protocols,
    bounds: Bounds,
    dispatcher: Arc<Dispatcher>,
    guard: Arc<Guard>,
    link: Link,
    waker: Arc<Waker>,
    clients: HashMap<u64, Client>,
    per_ip: HashMap<IpAddr, usize>,
    timers: BTreeSet<(Instant, u64)>,
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
        listening: Vec<Listening>,
        protocols: Protocols,
        bounds: Bounds,
        dispatcher: Arc<Dispatcher>,
        guard: Arc<Guard>,
        http_socket: PathBuf,
        underway: Arc<Underway>,
    ) -> io::Result<(Self, Remote)> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        epoll::add(
            &epoll,
            &*wake,
            epoll::EventData::new_u64(WAKE),
            epoll::EventFlags::IN,
        )?;
        let (sender, commands) = crossbeam_channel::unbounded();
        let remote = Remote {
            commands: sender,
            wake: Arc::clone(&wake),
            beat: Arc::new(AtomicU64::new(0)),
        };
        let beat = Arc::clone(&remote.beat);
        let waker = Arc::new(Waker::new(&wake));
        let mut front = Self {
            epoll,
            wake,
            commands,
            beat,
            listening,
            accepting: false,
            protocols,
            bounds,
            dispatcher,
            guard,
            link: Link::new(http_socket, underway, LINK),
            waker,
            clients: HashMap::new(),
            per_ip: HashMap::new(),
            timers: BTreeSet::new(),
            next_id: FIRST_CLIENT,
            buffered: 0,
            chunk: vec![0; CHUNK],
            draining: false,
        };
        front.accept_again()?;
        Ok((front, remote))
    }

    /// Runs until told to end, or until a drain has nothing left.
    pub(super) fn run(mut self) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        loop {
            let now = Instant::now();
            let wait = self
                .timers
                .first()
                .map(|(due, _)| due.saturating_duration_since(now));
            let wait = wait.map(|wait| rustix::time::Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                // A wait is rounded up, or the loop would spin until the timer is due.
                tv_nsec: i64::from(wait.subsec_nanos().max(1)),
            });
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                wait.as_ref(),
            ) {
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
                    token if token < FIRST_CLIENT => self.accept(token - FIRST_LISTENING),
                    token => self.client_ready(token, flags),
                }
            }
            for id in self.waker.woken() {
                self.answered(id);
            }
            while let Ok(command) = self.commands.try_recv() {
                match command {
                    Command::Drain => self.drain(),
                    Command::Beat(beat) => self.beat.store(beat, Ordering::Release),
                    Command::Bounds(bounds) => {
                        self.bounds = bounds;
                        self.timers.insert((Instant::now(), ACCEPT_AGAIN));
                    }
                    Command::End => return,
                }
            }
            self.expire(Instant::now());
            if let Err(error) = self.link.flush(&self.epoll) {
                self.link_lost(&error);
            }
            if self.draining && self.clients.is_empty() {
                return;
            }
        }
    }

    // ---- accepting -------------------------------------------------------------------------

    fn accept_again(&mut self) -> io::Result<()> {
        if !self.accepting && !self.draining {
            for (socket, index) in self.listening.iter().zip(FIRST_LISTENING..) {
                let data = epoll::EventData::new_u64(index);
                match epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN) {
                    // Added by a try that came no further than this.
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            self.accepting = true;
        }
        Ok(())
    }

    fn accept_no_more(&mut self) {
        if self.accepting {
            for socket in &self.listening {
                // Fails only for a socket that is not there.
                let _ = epoll::delete(&self.epoll, socket);
            }
            self.accepting = false;
        }
    }

    /// Lets in some of those who wait; the epoll tells of the others again.
    fn accept(&mut self, index: u64) {
        for turn in 0..ACCEPTED_AT_ONCE {
            if self.draining || !self.accepting {
                return;
            }
            if self.clients.len() >= self.bounds.connections {
                if turn > 0 {
                    // Whether anybody waits is not known before the epoll tells so again.
                    return;
                }
                self.dispatcher.metrics().refused("connections");
                if !self.make_room() {
                    // The next client waits in the backlog until one has left.
                    debug!(target: "pdud.listener", "{} connections: no more are accepted for now", self.clients.len());
                    self.accept_no_more();
                    self.timers.insert((Instant::now() + GRACE, ACCEPT_AGAIN));
                    return;
                }
            }
            let index = usize::try_from(index).ok();
            let Some(socket) = index.and_then(|index| self.listening.get(index)) else {
                return;
            };
            match socket.accept() {
                Ok((stream, ip)) => self.welcome(stream, ip),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Out of descriptors or memory: nothing gets better by trying at once.
                    warn!(target: "pdud.listener", "cannot accept a connection: {error}");
                    self.dispatcher.metrics().refused("descriptors");
                    self.accept_no_more();
                    self.timers.insert((Instant::now() + BREATH, ACCEPT_AGAIN));
                    return;
                }
            }
        }
    }

    /// Lets a client go that has been without a request, or with half of one, for a while: nobody
    /// keeps others out by doing nothing. False when none is found among those due first.
    fn make_room(&mut self) -> bool {
        let now = Instant::now();
        let due = self.timers.iter().take(LOOKED_AT).map(|(_, id)| *id);
        // One that is taking its answer, if slowly, goes only where there is no other.
        let mut reader = None;
        for id in due.collect::<Vec<u64>>() {
            let is_answered = self.settle(id, false);
            let Some(client) = self.clients.get(&id) else {
                continue;
            };
            let says_nothing = client.phase == Phase::Line && client.input.is_empty();
            if !says_nothing && !matches!(client.phase, Phase::Sniffing | Phase::Http) {
                continue;
            }
            let since = client.rest_since.unwrap_or(client.idle_since);
            let is_long = is_answered && now.saturating_duration_since(since) >= GRACE;
            if is_long && !client.output.is_empty() {
                reader.get_or_insert(id);
                continue;
            }
            if is_long {
                debug!(target: "pdud.listener", "{} makes room for another client", client.name);
                self.close(id);
                return true;
            }
            // It goes where it belongs, and is not looked at first the next time.
            let due = match is_answered {
                true => self.time_end(id),
                false => now + self.bounds.limits.idle,
            };
            self.set_due(id, Some(due));
        }
        if let Some(id) = reader {
            debug!(target: "pdud.listener", "a slow reader makes room for another client");
            self.close(id);
        }
        reader.is_some()
    }

    fn welcome(&mut self, stream: Stream, ip: Option<IpAddr>) {
        let counted = ip.filter(|ip| !ip.is_loopback() && !self.guard.trusts(*ip));
        if let Some(ip) = counted {
            let count = self.per_ip.entry(ip).or_default();
            if *count >= self.bounds.limits.connections_per_client {
                debug!(target: "pdud.listener", "{ip} has {count} connections: another one is refused");
                self.dispatcher.metrics().refused("connections-per-client");
                return;
            }
            *count += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        let interest = epoll::EventFlags::IN;
        let added = stream.set_nonblocking().and_then(|()| {
            Ok(epoll::add(
                &self.epoll,
                &stream,
                epoll::EventData::new_u64(id),
                interest,
            )?)
        });
        let phase = match self.protocols {
            Protocols::Http => Phase::Http,
            Protocols::Tcp => Phase::Line,
            Protocols::Both => Phase::Sniffing,
        };
        let client = Client {
            wire: Arc::new(Wire::new(id, stream, &self.waker)),
            name: ip.map_or_else(|| "unix".into(), |ip| ip.to_string().into()),
            ip: counted,
            phase,
            input: Vec::new(),
            output: Output::default(),
            ended: false,
            closing: false,
            invited: false,
            asked: false,
            keeps_alive: true,
            idle_since: Instant::now(),
            rest_since: None,
            wanted: 0,
            buffered: 0,
            due: None,
            interest,
        };
        self.clients.insert(id, client);
        self.dispatcher.metrics().connected();
        if let Err(error) = added {
            warn!(target: "pdud.listener", "cannot watch a connection: {error}");
            return self.close(id);
        }
        self.set_due(id, Some(Instant::now() + self.bounds.limits.idle));
        // The request is usually there already.
        self.client_ready(id, epoll::EventFlags::IN);
    }

    fn close(&mut self, id: u64) {
        let Some(client) = self.clients.remove(&id) else {
            return;
        };
        self.dispatcher.metrics().disconnected();
        self.buffered -= client.buffered;
        // A worker may be writing an answer; the stream is no business of the epoll any more.
        let _ = epoll::delete(&self.epoll, &client.wire.stream);
        if let Some(due) = client.due {
            self.timers.remove(&(due, id));
        }
        if let Some(ip) = client.ip
            && let Some(count) = self.per_ip.get_mut(&ip)
        {
            *count -= 1;
            if *count == 0 {
                self.per_ip.remove(&ip);
            }
        }
        if self.clients.len() < self.bounds.connections && !self.accepting {
            self.timers.insert((Instant::now(), ACCEPT_AGAIN));
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        self.accept_no_more();
        // Closing the sockets refuses those who wait in the backlog at once.
        self.listening.clear();
        let all: Vec<u64> = self.clients.keys().copied().collect();
        for id in all {
            // Whoever waits still gets the answer, and the rest of it.
            if self.settle(id, true) {
                match self.clients.get(&id) {
                    Some(client) if client.output.is_empty() => self.close(id),
                    _ => self.close_when_sent(id),
                }
            }
        }
        info!(target: "pdud.listener", "no further requests are taken");
    }

    // ---- timers ----------------------------------------------------------------------------

    fn set_due(&mut self, id: u64, due: Option<Instant>) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if client.due == due {
            return;
        }
        if let Some(old) = client.due.take() {
            self.timers.remove(&(old, id));
        }
        client.due = due;
        if let Some(due) = due {
            self.timers.insert((due, id));
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((due, id)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, id));
            if id == ACCEPT_AGAIN {
                if let Err(error) = self.accept_again() {
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
                let due = match self.settle(id, false) {
                    true => self.time_end(id),
                    false => now + self.bounds.limits.idle,
                };
                if due > now {
                    self.set_due(id, Some(due));
                    continue;
                }
            }
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            let (asks, takes) = (!client.input.is_empty(), client.output.is_empty());
            let rest_since = client.rest_since.unwrap_or(now);
            match client.phase {
                Phase::Line if asks => {
                    let in_time = now < rest_since + self.bounds.limits.request;
                    self.ask_line(id, in_time);
                    continue;
                }
                Phase::Http if asks && takes => {
                    self.refuse(id, refusal(408, "the request did not come in time"));
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
                Phase::Lingering if !takes => self.dispatcher.metrics().refused("slow-reader"),
                Phase::Lingering | Phase::LineAsked => {}
            }
            self.close(id);
        }
    }

    // ---- clients ---------------------------------------------------------------------------

    fn client_ready(&mut self, id: u64, flags: epoll::EventFlags) {
        use epoll::EventFlags as E;
        if flags.contains(E::OUT) {
            if !self.flush(id) {
                return;
            }
            // What was to be sent is out: the next request may be here already.
            if self
                .clients
                .get(&id)
                .is_some_and(|client| client.phase == Phase::Http)
            {
                self.advance_http(id);
            }
        }
        if flags.intersects(E::ERR | E::HUP) && !flags.contains(E::IN) {
            return self.close(id);
        }
        if !flags.intersects(E::IN | E::HUP) {
            return;
        }
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if !client.interest.contains(E::IN) {
            return;
        }
        match client.wire.stream.read(&mut self.chunk) {
            Ok(0) => client.ended = true,
            Ok(_) if matches!(client.phase, Phase::Lingering | Phase::LineAsked) => return,
            Ok(more) => {
                let more = self.chunk.get(..more).unwrap_or_default();
                client.input.extend_from_slice(more);
                client.idle_since = Instant::now();
                // A head ends with a line, a body where its head said: reading a head anew at
                // every byte of a drip would cost the square of its length.
                let may_be_whole = match client.wanted {
                    0 => more.contains(&b'\n') || client.input.len() >= self.bounds.limits.head,
                    wanted => client.input.len() >= wanted,
                };
                if client.phase == Phase::Http && client.rest_since.is_some() && !may_be_whole {
                    return self.watch(id);
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return;
            }
            Err(_) => return self.close(id),
        }
        self.advance(id);
        self.watch(id);
    }

    /// Looks at what has come, and does what can be done with it.
    fn advance(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let was_line = client.phase == Phase::Line;
        if client.phase == Phase::Sniffing || (was_line && self.protocols == Protocols::Both) {
            client.phase = match head::sniff(&client.input) {
                Sniffed::Http => Phase::Http,
                Sniffed::Line => Phase::Line,
                Sniffed::Undecided if client.ended => Phase::Line,
                Sniffed::Undecided => return self.rest_is_missing(id),
            };
            if was_line && client.phase == Phase::Http {
                // It came in pieces; the quiet that ends a line is none that ends a head.
                let end = self.time_end(id);
                self.set_due(id, Some(end));
            }
        }
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        match client.phase {
            Phase::Line => {
                let whole = client.ended || client.input.contains(&b'\n');
                if client.input.is_empty() && client.ended {
                    self.close(id);
                } else if whole || client.input.len() > self.bounds.limits.line {
                    self.ask_line(id, true);
                } else {
                    self.rest_is_missing(id);
                    let end = self.time_end(id);
                    self.set_due(id, Some(end.min(Instant::now() + QUIET)));
                }
            }
            Phase::Http => self.advance_http(id),
            Phase::Lingering if client.ended && client.output.is_empty() => self.close(id),
            Phase::Lingering | Phase::LineAsked | Phase::Sniffing => {}
        }
    }

    /// Takes what has come as the line, unless that took too long.
    fn ask_line(&mut self, id: u64, in_time: bool) {
        let longest = self.bounds.limits.line;
        self.set_due(id, None);
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.phase = Phase::LineAsked;
        let input = std::mem::take(&mut client.input);
        let line = input
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        let parsed = if line.len() > longest {
            let why = format!("the line is longer than {longest} bytes");
            Err(("line-too-long", Some(why)))
        } else if !in_time {
            Err(("timeout", Some("the line did not come in time".to_owned())))
        } else {
            // One that is turned away has its line in the log.
            self.guard
                .admit_line(&client.name)
                .map_err(|_| ("denied", None))
                .and_then(|caller| {
                    tcp::parse(line, caller.client()).map_err(|why| ("line", Some(why)))
                })
        };
        match parsed {
            Ok(request) => {
                let wire = Arc::downgrade(&client.wire);
                self.dispatcher.submit(
                    request,
                    Box::new(move |outcome| {
                        let Some(wire) = wire.upgrade() else { return };
                        // A few bytes into an empty socket buffer: taken whole or the client is gone.
                        let _ = wire.stream.write(tcp::answer(&outcome));
                        wire.stream.shutdown(Shutdown::Both);
                    }),
                );
            }
            Err((reason, why)) => {
                if let Some(why) = why {
                    info!(target: "pdud.tcp", "{}: {why}", client.name);
                }
                self.dispatcher.metrics().refused(reason);
                client.output.push(tcp::NACK);
                self.say_goodbye(id);
            }
        }
    }

    /// Sends what is in `output`, then waits a little for the client to close.
    fn say_goodbye(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.phase = Phase::Lingering;
        client.closing = true;
        client.input = Vec::new();
        self.set_due(id, Some(Instant::now() + LINGER));
        self.flush(id);
    }

    /// Writes `output`; false when the connection is closed by that.
    fn flush(&mut self, id: u64) -> bool {
        let Some(client) = self.clients.get_mut(&id) else {
            return false;
        };
        let taken = client.output.write_to(&client.wire.stream, TURN);
        let (empty, phase, closing, ended, due) = (
            client.output.is_empty(),
            client.phase,
            client.closing,
            client.ended,
            client.due,
        );
        let Ok(sent) = taken else {
            self.close(id);
            return false;
        };
        if empty && closing {
            if phase == Phase::Lingering && !ended {
                client.wire.stream.shutdown(Shutdown::Write);
            } else {
                self.close(id);
                return false;
            }
        } else if !empty {
            let now = Instant::now();
            client.rest_since.get_or_insert(now);
            if sent > 0 || due.is_none() {
                // It reads, if slowly.
                client.idle_since = now;
            }
            let end = self.time_end(id);
            if sent > 0 || due.is_none_or(|due| due > end) {
                self.set_due(id, Some(end));
            }
        } else {
            client.rest_since = None;
        }
        self.watch(id);
        true
    }

    /// Tells the epoll what this connection waits for.
    fn watch(&mut self, id: u64) {
        use epoll::EventFlags as E;
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let limits = &self.bounds.limits;
        let most = (limits.head + limits.body).max(limits.line + 1);
        let mut interest = E::empty();
        interest.set(E::IN, !client.ended && client.input.len() < most);
        interest.set(E::OUT, !client.output.is_empty());
        if interest != client.interest {
            client.interest = interest;
            if epoll::modify(
                &self.epoll,
                &client.wire.stream,
                epoll::EventData::new_u64(id),
                interest,
            )
            .is_err()
            {
                return self.close(id);
            }
        }
        let input = Some(client.input.capacity()).filter(|size| *size > SMALL);
        let size = input.unwrap_or(0) + client.output.size();
        if size != client.buffered {
            self.count_bytes(id, size);
        }
    }

    /// Keeps account of the bytes kept for this client. One with which they become too many is let
    /// go: requests that come whole, and answers that are taken, are not kept and go on as ever.
    fn count_bytes(&mut self, id: u64, size: usize) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut client.buffered, size);
        self.buffered = self.buffered - before + size;
        if size <= before || self.buffered <= self.bounds.limits.buffered {
            return;
        }
        if client.phase == Phase::Http && client.output.is_empty() && !client.asked {
            return self.refuse(id, refusal(503, "too many requests are here in part"));
        }
        info!(target: "pdud.listener", "{}: let go, too many bytes are kept for clients", client.name);
        self.dispatcher.metrics().refused("buffer");
        self.close(id);
    }

    // ---- HTTP ------------------------------------------------------------------------------

    /// Looks whether the answer has come, and takes what the client has not had of it; false while
    /// it is waited for.
    fn settle(&mut self, id: u64, shall_wake: bool) -> bool {
        let Some(client) = self.clients.get_mut(&id) else {
            return true;
        };
        if client.asked {
            match client.wire.look(shall_wake) {
                Found::Waiting => return false,
                Found::Nothing => {}
                Found::Answered(at, rest) => {
                    client.idle_since = client.idle_since.max(at);
                    client.rest_since = Some(at).filter(|_| !rest.is_empty());
                    client.output = rest;
                }
            }
            client.asked = false;
        }
        client.phase != Phase::LineAsked
    }

    /// When the time of a client that waits for no answer is over.
    fn time_end(&self, id: u64) -> Instant {
        let limits = &self.bounds.limits;
        let Some(client) = self.clients.get(&id) else {
            return Instant::now();
        };
        let idle_end = client.idle_since + limits.idle;
        match client.rest_since {
            Some(since) => idle_end.min(since + limits.request),
            None => idle_end,
        }
    }

    /// The time in which the rest of a request must come begins, if it has not.
    fn rest_is_missing(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.rest_since.get_or_insert(client.idle_since);
        // A timer that is due earlier finds out by itself.
        let end = self.time_end(id);
        let due = self.clients.get(&id).and_then(|client| client.due);
        if due.is_none_or(|due| due > end) {
            self.set_due(id, Some(end));
        }
    }

    /// An answer has left something to do.
    fn answered(&mut self, id: u64) {
        if !self.settle(id, true) || !self.flush(id) {
            return;
        }
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        if client.phase != Phase::Http || client.closing {
            return;
        }
        if self.draining || !client.keeps_alive {
            return self.close_when_sent(id);
        }
        // The client may have sent its next request already.
        self.advance_http(id);
    }

    /// Hands the next whole request on, when none is under way.
    fn advance_http(&mut self, id: u64) {
        // What has come while a request is under way is looked at when that is answered.
        if !self.settle(id, true) {
            return;
        }
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        // A client that does not take its answers gets no further ones, and is let go after a while.
        if client.closing || !client.output.is_empty() || !client.keeps_alive || self.draining {
            return;
        }
        if client.input.is_empty() {
            if client.ended {
                self.close(id);
            }
            return;
        }
        let head = match head::request(&client.input, &self.bounds.limits) {
            Err(refusal) => return self.refuse(id, refusal),
            Ok(None) if client.ended => return self.close(id),
            Ok(None) => return self.rest_is_missing(id),
            Ok(Some(head)) => head,
        };
        let Some(body) = client.input.get(head.length..head.length + head.body) else {
            if client.ended {
                return self.close(id);
            }
            if head.expects_continue && client.input.len() == head.length && !client.invited {
                client.invited = true;
                client.output.push(b"HTTP/1.1 100 Continue\r\n\r\n");
                if !self.flush(id) {
                    return;
                }
            }
            if let Some(client) = self.clients.get_mut(&id) {
                client.wanted = head.length + head.body;
            }
            return self.rest_is_missing(id);
        };
        if self.link.waiting() > self.bounds.limits.buffered {
            return self.refuse(id, refusal(503, "too many requests are under way"));
        }
        let version = HTTPVersion(1, u8::from(!head.is_old));
        let asker = Asker {
            wire: Arc::downgrade(&client.wire),
            client: Arc::clone(&client.name),
            version,
        };
        let more = client.input.len() > head.length + head.body;
        client.asked = true;
        client.invited = false;
        client.rest_since = None;
        client.wanted = 0;
        client.keeps_alive = head.keeps_alive;
        client
            .wire
            .ask(more || client.ended || !client.keeps_alive || self.draining);
        let number = format!("{CLIENT_HEADER}: {id}\r\n\r\n");
        let request = [head.lines.as_slice(), number.as_bytes(), body];
        let sent = self.link.send(&self.epoll, id, asker, request);
        client.input.drain(..head.length + head.body);
        if client.input.capacity() > SMALL.max(2 * client.input.len()) {
            client.input.shrink_to_fit();
        }
        self.watch(id);
        if let Err(error) = sent {
            self.link_lost(&error);
        }
    }

    fn link_ready(&mut self, flags: epoll::EventFlags) {
        use epoll::EventFlags as E;
        if flags.intersects(E::IN | E::HUP | E::ERR) {
            // tiny_http is never asked to answer, nor to end.
            self.link_lost(&io::ErrorKind::UnexpectedEof.into());
        } else if let Err(error) = self.link.flush(&self.epoll) {
            self.link_lost(&error);
        }
    }

    /// The private socket failed: whose request was on it gets told so.
    fn link_lost(&mut self, error: &io::Error) {
        error!(target: "pdud.http", "the connection to the HTTP server is lost: {error}");
        for id in self.link.cut() {
            self.refuse(id, refusal(502, "the HTTP server gave no answer"));
        }
    }

    fn close_when_sent(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.closing = true;
        if client.output.is_empty() {
            self.say_goodbye(id);
        } else {
            client.phase = Phase::Lingering;
            let end = self.time_end(id);
            self.set_due(id, Some(end));
            self.watch(id);
        }
    }

    /// An answer of the front itself, which ends the connection.
    fn refuse(&mut self, id: u64, refusal: Refusal) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.asked = false;
        client.wire.give_up();
        info!(target: "pdud.http", "{}: {refusal}", client.name);
        self.dispatcher.metrics().refused(refusal.word());
        client.output.push(refusal.response().as_bytes());
        self.say_goodbye(id);
    }
}
