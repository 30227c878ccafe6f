//! The front: one thread that faces the network. It accepts on every address, bounds connections,
//! heads, lines and idle time, looks at the first bytes, serves the legacy line itself, and hands
//! whole HTTP requests on to tiny_http over a private Unix socket, one at a time per connection.
//!
//! The thread waits on one thing, its epoll: listening sockets, clients, their tiny_http ends, and
//! a wake-up for the daemon's commands. tiny_http never sees a byte of a request that is not
//! complete and within bounds.

use super::guard::Guard;
use super::head::{self, CLIENT_HEADER, Refusal, Sniffed};
use super::tcp;
use super::untaken::{self, Untaken};
use crate::config::Protocols;
use crate::dispatch::Dispatcher;
use crossbeam_channel::{Receiver, Sender};
use log::{debug, info, warn};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fd::OwnedFd;
use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A legacy line without a newline ends after this much quiet.
const QUIET: Duration = Duration::from_millis(50);
/// How long a refused client may go on sending before the connection is closed on it.
const LINGER: Duration = Duration::from_secs(1);
/// How long accepting pauses when the system has no descriptors left.
const BREATH: Duration = Duration::from_millis(50);
/// How long tiny_http may take to accept its end of a connection.
const HAND_OVER: Duration = Duration::from_secs(5);
/// What is read at a time.
const CHUNK: usize = 16 * 1024;
/// Bytes of a response kept for a client that reads slowly; more waits in tiny_http.
const MAX_OUTPUT: usize = 64 * 1024;

/// A socket to accept on.
#[derive(Debug)]
pub(super) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The bounds the front keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) connections: usize,
    pub(super) connections_per_client: usize,
    pub(super) idle: Duration,
}

/// What the daemon tells the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A client's end.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).read(buffer),
            Self::Unix(stream) => (&*stream).read(buffer),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).write(bytes),
            Self::Unix(stream) => (&*stream).write(bytes),
        }
    }

    fn shutdown(&self, how: Shutdown) {
        // Fails only when the peer is gone already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
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
    stream: Arc<Stream>,
    name: Arc<str>,
    ip: Option<IpAddr>,
    phase: Phase,
    input: Vec<u8>,
    /// Bytes the client has not taken yet.
    output: Vec<u8>,
    /// The client sends nothing more.
    ended: bool,
    /// Close once `output` is out.
    closing: bool,
    /// The client was told to go on with its body.
    invited: bool,
    http: Option<HttpEnd>,
    due: Option<Instant>,
    interest: epoll::EventFlags,
}

/// The tiny_http end of a client's connection.
struct HttpEnd {
    stream: UnixStream,
    /// Bytes of a request that the socket did not take yet.
    output: Vec<u8>,
    response: Option<Response>,
    /// No response has come yet: perhaps tiny_http has no thread for this connection.
    is_first: bool,
    interest: epoll::EventFlags,
}

/// A response on its way back.
struct Response {
    to_head: bool,
    /// The first bytes, until they tell the length.
    start: Vec<u8>,
    /// Bytes still to come, once known.
    left: Option<usize>,
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
    http_socket: PathBuf,
    untaken: Arc<Untaken>,
    clients: HashMap<u64, Client>,
    per_ip: HashMap<IpAddr, usize>,
    timers: BTreeSet<(Instant, u64)>,
    next_id: u64,
    /// Is the timer [`LOOK_AFTER`] set?
    looking_after: bool,
    draining: bool,
}

/// Tokens: the wake-up, then the listening sockets, then two per client.
const WAKE: u64 = 0;
const FIRST_LISTENING: u64 = 1;
const FIRST_CLIENT: u64 = 1024;
/// A timer of its own: accept again.
const ACCEPT_AGAIN: u64 = WAKE;
/// Another: see whether tiny_http has taken its connections.
const LOOK_AFTER: u64 = FIRST_LISTENING;

impl Front {
    pub(super) fn new(
        listening: Vec<Listening>,
        protocols: Protocols,
        bounds: Bounds,
        dispatcher: Arc<Dispatcher>,
        guard: Arc<Guard>,
        http_socket: PathBuf,
        untaken: Arc<Untaken>,
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
            http_socket,
            untaken,
            clients: HashMap::new(),
            per_ip: HashMap::new(),
            timers: BTreeSet::new(),
            next_id: FIRST_CLIENT,
            looking_after: false,
            draining: false,
        };
        front.accept_again()?;
        Ok((front, remote))
    }

    /// Runs until told to end, or until a drain has nothing left.
    pub(super) fn run(mut self) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
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
            for event in &events {
                let (token, flags) = (event.data.u64(), event.flags);
                match token {
                    WAKE => {
                        let mut count = [0; 8];
                        let _ = rustix::io::read(&*self.wake, &mut count);
                    }
                    token if token < FIRST_CLIENT => self.accept(token - FIRST_LISTENING),
                    token if token % 2 == 0 => self.client_ready(token, flags),
                    token => self.http_ready(token - 1, flags),
                }
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
                match socket {
                    Listening::Tcp(socket) => {
                        epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN)?
                    }
                    Listening::Unix(socket) => {
                        epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN)?
                    }
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
                let _ = match socket {
                    Listening::Tcp(socket) => epoll::delete(&self.epoll, socket),
                    Listening::Unix(socket) => epoll::delete(&self.epoll, socket),
                };
            }
            self.accepting = false;
        }
    }

    fn accept(&mut self, index: u64) {
        loop {
            if self.draining || !self.accepting {
                return;
            }
            if self.clients.len() >= self.bounds.connections {
                // The next client waits in the backlog until one has left.
                self.dispatcher.metrics().refused("connections");
                debug!(target: "pdud.listener", "{} connections: no more are accepted for now", self.clients.len());
                return self.accept_no_more();
            }
            let accepted = match usize::try_from(index)
                .ok()
                .and_then(|index| self.listening.get(index))
            {
                Some(Listening::Tcp(socket)) => socket.accept().map(|(stream, address)| {
                    let ip = address.ip().to_canonical();
                    let _ = stream.set_nodelay(true);
                    (Stream::Tcp(stream), Some(ip))
                }),
                Some(Listening::Unix(socket)) => socket
                    .accept()
                    .map(|(stream, _)| (Stream::Unix(stream), None)),
                None => return,
            };
            match accepted {
                Ok((stream, ip)) => self.welcome(stream, ip),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Out of descriptors or memory: nothing gets better by trying at once.
                    warn!(target: "pdud.listener", "cannot accept a connection: {error}");
                    self.accept_no_more();
                    self.timers.insert((Instant::now() + BREATH, ACCEPT_AGAIN));
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, stream: Stream, ip: Option<IpAddr>) {
        let counted = ip.filter(|ip| !ip.is_loopback() && !self.guard.trusts(*ip));
        if let Some(ip) = counted {
            let count = self.per_ip.entry(ip).or_default();
            if *count >= self.bounds.connections_per_client {
                debug!(target: "pdud.listener", "{ip} has {count} connections: another one is refused");
                self.dispatcher.metrics().refused("connections-per-client");
                return;
            }
            *count += 1;
        }
        let id = self.next_id;
        self.next_id += 2;
        let made_ready = match &stream {
            Stream::Tcp(stream) => stream.set_nonblocking(true),
            Stream::Unix(stream) => stream.set_nonblocking(true),
        };
        let interest = epoll::EventFlags::IN;
        let added = made_ready.and_then(|()| {
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
            stream: Arc::new(stream),
            name: ip.map_or_else(|| "unix".into(), |ip| ip.to_string().into()),
            ip: counted,
            phase,
            input: Vec::new(),
            output: Vec::new(),
            ended: false,
            closing: false,
            invited: false,
            http: None,
            due: None,
            interest,
        };
        self.clients.insert(id, client);
        self.dispatcher.metrics().connected();
        if let Err(error) = added {
            warn!(target: "pdud.listener", "cannot watch a connection: {error}");
            return self.close(id);
        }
        self.set_due(id, Some(Instant::now() + self.bounds.idle));
        // The request is usually there already.
        self.client_ready(id, epoll::EventFlags::IN);
    }

    fn close(&mut self, id: u64) {
        let Some(client) = self.clients.remove(&id) else {
            return;
        };
        self.dispatcher.metrics().disconnected();
        // A worker may hold the stream a little longer; it is no business of the epoll any more.
        let _ = epoll::delete(&self.epoll, &*client.stream);
        if let Some(due) = client.due {
            self.timers.remove(&(due, id));
        }
        if client.http.is_some_and(|http| http.is_first) {
            self.untaken.remove(id);
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
        let idle: Vec<u64> = self
            .clients
            .iter()
            .filter(|(_, client)| !client.is_waiting())
            .map(|(id, _)| *id)
            .collect();
        for id in idle {
            self.close(id);
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
            if id == LOOK_AFTER {
                self.look_after(now);
                continue;
            }
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            client.due = None;
            match client.phase {
                Phase::Line if !client.input.is_empty() => self.ask_line(id),
                Phase::Http
                    if !client.input.is_empty()
                        && client.output.is_empty()
                        && !client.is_waiting() =>
                {
                    self.refuse(id, Refusal(408, "the request did not come in time"));
                }
                _ => self.close(id),
            }
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
        let mut chunk = [0; CHUNK];
        match client.stream.read(&mut chunk) {
            Ok(0) => client.ended = true,
            Ok(_) if matches!(client.phase, Phase::Lingering | Phase::LineAsked) => return,
            Ok(more) => client
                .input
                .extend_from_slice(chunk.get(..more).unwrap_or_default()),
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
        if client.phase == Phase::Sniffing {
            client.phase = match head::sniff(&client.input) {
                Sniffed::Http => Phase::Http,
                Sniffed::Line => Phase::Line,
                Sniffed::Undecided if client.ended => Phase::Line,
                Sniffed::Undecided => return,
            };
        }
        match client.phase {
            Phase::Line => {
                let whole = client.ended || client.input.contains(&b'\n');
                if client.input.is_empty() && client.ended {
                    self.close(id);
                } else if whole || client.input.len() > tcp::MAX_LINE {
                    self.ask_line(id);
                } else {
                    self.set_due(id, Some(Instant::now() + QUIET));
                }
            }
            Phase::Http => self.advance_http(id),
            Phase::Lingering if client.ended => self.close(id),
            Phase::Lingering | Phase::LineAsked | Phase::Sniffing => {}
        }
    }

    fn ask_line(&mut self, id: u64) {
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
        let parsed = if line.len() > tcp::MAX_LINE {
            Err(Some("the line is longer than 1024 bytes".to_owned()))
        } else {
            // One that is turned away has its line in the log.
            self.guard
                .admit_line(&client.name)
                .map_err(|_| None)
                .and_then(|caller| tcp::parse(line, caller.client()).map_err(Some))
        };
        match parsed {
            Ok(request) => {
                let stream = Arc::clone(&client.stream);
                self.dispatcher.submit(
                    request,
                    Box::new(move |outcome| {
                        // A few bytes into an empty socket buffer: taken whole or the client is gone.
                        let _ = stream.write(tcp::answer(&outcome));
                        stream.shutdown(Shutdown::Both);
                    }),
                );
            }
            Err(why) => {
                if let Some(why) = why {
                    info!(target: "pdud.tcp", "{}: {why}", client.name);
                    self.dispatcher.metrics().refused("line");
                } else {
                    self.dispatcher.metrics().refused("denied");
                }
                client.output.extend_from_slice(tcp::NACK);
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
        client.http = None;
        self.set_due(id, Some(Instant::now() + LINGER));
        self.flush(id);
    }

    /// Writes `output`; false when the connection is closed by that.
    fn flush(&mut self, id: u64) -> bool {
        let idle = self.bounds.idle;
        let Some(client) = self.clients.get_mut(&id) else {
            return false;
        };
        let mut sent = 0;
        let mut broken = false;
        while let Some(rest) = client.output.get(sent..).filter(|rest| !rest.is_empty()) {
            match client.stream.write(rest) {
                Ok(0) => broken = true,
                Ok(more) => sent += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => broken = true,
            }
            if broken {
                break;
            }
        }
        client.output.drain(..sent);
        let (empty, phase, closing, ended, due) = (
            client.output.is_empty(),
            client.phase,
            client.closing,
            client.ended,
            client.due,
        );
        if broken {
            self.close(id);
            return false;
        }
        if empty && closing {
            if phase == Phase::Lingering && !ended {
                client.stream.shutdown(Shutdown::Write);
            } else {
                self.close(id);
                return false;
            }
        } else if !empty && phase == Phase::Http && (sent > 0 || due.is_none()) {
            self.set_due(id, Some(Instant::now() + idle));
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
        let mut interest = E::empty();
        interest.set(
            E::IN,
            !client.ended && client.input.len() < head::MAX_HEAD + head::MAX_BODY,
        );
        interest.set(E::OUT, !client.output.is_empty());
        if interest != client.interest {
            client.interest = interest;
            if epoll::modify(
                &self.epoll,
                &*client.stream,
                epoll::EventData::new_u64(id),
                interest,
            )
            .is_err()
            {
                return self.close(id);
            }
        }
        let room = client.output.len() < MAX_OUTPUT;
        if let Some(http) = &mut client.http {
            let mut interest = E::empty();
            interest.set(E::IN, room);
            interest.set(E::OUT, !http.output.is_empty());
            if interest != http.interest {
                http.interest = interest;
                if epoll::modify(
                    &self.epoll,
                    &http.stream,
                    epoll::EventData::new_u64(id + 1),
                    interest,
                )
                .is_err()
                {
                    self.close(id);
                }
            }
        }
    }

    // ---- HTTP ------------------------------------------------------------------------------

    /// Hands the next whole request on, when none is under way.
    fn advance_http(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        // A client that does not take its answers gets no further ones, and is let go after a while.
        if client.is_waiting() || client.closing || !client.output.is_empty() {
            return;
        }
        if client.input.is_empty() {
            if client.ended {
                if client.output.is_empty() {
                    self.close(id);
                } else {
                    client.closing = true;
                }
            }
            return;
        }
        let head = match head::request(&client.input) {
            Err(refusal) => return self.refuse(id, refusal),
            Ok(None) if client.ended => return self.close(id),
            Ok(None) => return,
            Ok(Some(head)) => head,
        };
        let Some(whole) = client.input.get(..head.length + head.body) else {
            if client.ended {
                return self.close(id);
            }
            if head.expects_continue && client.input.len() == head.length && !client.invited {
                client.invited = true;
                client
                    .output
                    .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                self.flush(id);
            }
            return;
        };
        let first = client.http.is_none().then_some(id);
        let request = handed_on(whole, head, &client.name, first);
        client.input.drain(..head.length + head.body);
        client.invited = false;
        self.set_due(id, None);
        if let Err(error) = self.hand_on(id, &request, head.is_head) {
            warn!(target: "pdud.http", "cannot hand a request to the HTTP server: {error}");
            self.refuse(id, Refusal(503, "the HTTP server does not take requests"));
        }
    }

    fn hand_on(&mut self, id: u64, request: &[u8], to_head: bool) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        let http = match &mut client.http {
            Some(http) => http,
            none => {
                let stream = connect(&self.http_socket)?;
                let interest = epoll::EventFlags::IN;
                epoll::add(
                    &self.epoll,
                    &stream,
                    epoll::EventData::new_u64(id + 1),
                    interest,
                )?;
                let now = Instant::now();
                self.untaken.add(id, now);
                if !self.looking_after {
                    self.looking_after = true;
                    self.timers.insert((now + untaken::PATIENCE, LOOK_AFTER));
                }
                none.insert(HttpEnd {
                    stream,
                    output: Vec::new(),
                    response: None,
                    is_first: true,
                    interest,
                })
            }
        };
        http.response = Some(Response {
            to_head,
            start: Vec::new(),
            left: None,
        });
        http.output.extend_from_slice(request);
        http.flush()?;
        self.watch(id);
        Ok(())
    }

    /// Frees a thread of tiny_http for each connection that waits for one too long.
    fn look_after(&mut self, now: Instant) {
        let Some(late) = self.untaken.late(now) else {
            self.looking_after = false;
            return;
        };
        for _ in 0..late {
            if let Err(error) = connect(&self.http_socket) {
                warn!(target: "pdud.http", "the HTTP server does not take connections: {error}");
                break;
            }
        }
        self.timers.insert((now + untaken::PATIENCE, LOOK_AFTER));
    }

    fn http_ready(&mut self, id: u64, flags: epoll::EventFlags) {
        use epoll::EventFlags as E;
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let Some(http) = &mut client.http else { return };
        if flags.contains(E::OUT) && http.flush().is_err() {
            return self.http_ended(id);
        }
        if !flags.intersects(E::IN | E::HUP | E::ERR) {
            return self.watch(id);
        }
        let mut chunk = [0; CHUNK];
        match (&http.stream).read(&mut chunk) {
            Ok(0) => return self.http_ended(id),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return;
            }
            Err(_) => return self.http_ended(id),
            Ok(more) => {
                let bytes = chunk.get(..more).unwrap_or_default();
                client.output.extend_from_slice(bytes);
                match http
                    .response
                    .as_mut()
                    .map(|response| response.passed(bytes))
                {
                    Some(Ok(false)) => {}
                    Some(Ok(true)) => {
                        http.response = None;
                        if std::mem::take(&mut http.is_first) {
                            self.untaken.remove(id);
                        }
                        let due = Instant::now() + self.bounds.idle;
                        self.set_due(id, Some(due));
                    }
                    None | Some(Err(())) => return self.http_ended(id),
                }
            }
        }
        if self.flush(id) {
            if self.draining
                && self
                    .clients
                    .get(&id)
                    .is_some_and(|client| !client.is_waiting())
            {
                return self.close_when_sent(id);
            }
            // The client may have sent its next request already.
            self.advance_http(id);
        }
    }

    /// tiny_http closed its end: after `Connection: close`, or because something is wrong.
    fn http_ended(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let cut = client.http.as_ref().and_then(|http| http.response.as_ref());
        match cut {
            Some(response) if response.start.is_empty() && response.left.is_none() => {
                client.http = None;
                self.refuse(id, Refusal(502, "the HTTP server gave no answer"));
            }
            Some(_) => self.close(id),
            None => {
                client.http = None;
                self.close_when_sent(id);
            }
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
            self.set_due(id, Some(Instant::now() + self.bounds.idle));
        }
    }

    /// An answer of the front itself, which ends the connection.
    fn refuse(&mut self, id: u64, refusal: Refusal) {
        let Refusal(status, why) = refusal;
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        info!(target: "pdud.http", "{}: {status}: {why}", client.name);
        self.dispatcher.metrics().refused(match status {
            400 => "bad-request",
            408 => "timeout",
            413 => "body-too-large",
            431 => "head-too-large",
            501 => "chunked",
            _ => "no-server",
        });
        let body = format!("Invalid request: {why}\n");
        let reason = match status {
            400 => "Bad Request",
            408 => "Request Timeout",
            413 => "Content Too Large",
            431 => "Request Header Fields Too Large",
            501 => "Not Implemented",
            502 => "Bad Gateway",
            _ => "Service Unavailable",
        };
        client.output.extend_from_slice(
            format!(
                "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
        self.say_goodbye(id);
    }
}

impl Client {
    /// Is a request of this client under way?
    fn is_waiting(&self) -> bool {
        self.phase == Phase::LineAsked
            || self
                .http
                .as_ref()
                .is_some_and(|http| http.response.is_some())
    }
}

impl HttpEnd {
    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match (&self.stream).write(&self.output) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Response {
    /// Counts bytes on their way to the client; true when they were the last.
    fn passed(&mut self, bytes: &[u8]) -> Result<bool, ()> {
        let left = match self.left {
            Some(left) => left.checked_sub(bytes.len()).ok_or(())?,
            None => {
                self.start.extend_from_slice(bytes);
                match head::response(&self.start, self.to_head)? {
                    None if self.start.len() > head::MAX_HEAD => return Err(()),
                    None => return Ok(false),
                    Some(total) => total.checked_sub(self.start.len()).ok_or(())?,
                }
            }
        };
        self.left = Some(left);
        Ok(left == 0)
    }
}

/// The request as tiny_http gets it: with the client's name, on a new connection its number, and
/// without `Expect`, which was answered here.
fn handed_on(whole: &[u8], head: head::Head, client: &str, first: Option<u64>) -> Vec<u8> {
    let mut request = Vec::with_capacity(whole.len() + 64);
    let (line, rest) = whole
        .split_at_checked(head.headers_at)
        .unwrap_or((whole, &[]));
    request.extend_from_slice(line);
    for part in [CLIENT_HEADER, ": ", client] {
        request.extend_from_slice(part.as_bytes());
    }
    if let Some(number) = first {
        request.extend_from_slice(format!(" {number}").as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    if !head.expects_continue {
        request.extend_from_slice(rest);
        return request;
    }
    let (headers, body) = rest
        .split_at_checked(head.length - head.headers_at)
        .unwrap_or((rest, &[]));
    for header in headers.split_inclusive(|byte| *byte == b'\n') {
        let is_expect = header
            .get(..7)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"expect:"));
        if !is_expect {
            request.extend_from_slice(header);
        }
    }
    request.extend_from_slice(body);
    request
}

/// A connection to tiny_http. Its accept loop hands each one to a thread, so it is seldom full.
fn connect(path: &std::path::Path) -> io::Result<UnixStream> {
    let until = Instant::now() + HAND_OVER;
    let address = socket2::SockAddr::unix(path)?;
    loop {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address) {
            Ok(()) => return Ok(UnixStream::from(OwnedFd::from(socket))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
}
