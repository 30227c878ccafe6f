//! The load generator, the same for every server: keep-alive connections, one request under way on
//! each, one thread that waits on an epoll.

use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a load run found.
pub struct Found {
    /// From the first request's sending to the last answer.
    pub took: Duration,
    /// From request to answer, sorted.
    pub latencies: Vec<Duration>,
    /// Answers that were not 200, and connections that broke.
    pub failed: usize,
}

impl Found {
    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    pub fn percentile(&self, percent: usize) -> Duration {
        let at = (self.latencies.len() * percent / 100).min(self.latencies.len().max(1) - 1);
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

/// When a run ends.
#[derive(Clone, Copy)]
pub enum Until {
    /// So long after its begin.
    Over(Duration),
    /// When every connection has had so many answers, and in any case at the time limit.
    Each(usize, Duration),
}

/// Connections opened before the next look at those that are there: clients that come together
/// are still each other's strangers, and none waits with its request for the last of them.
const OPENED_AT_ONCE: usize = 32;

struct Connection {
    stream: TcpStream,
    tls: Option<ClientConnection>,
    sent: Instant,
    asked: usize,
    answered: usize,
    input: Vec<u8>,
}

/// Asks `server` on so many connections, all opened at once; `path(connection, number)` is what.
pub fn run(
    server: SocketAddr,
    connections: usize,
    until: Until,
    path: impl Fn(usize, usize) -> String,
) -> Found {
    run_over(None, server, connections, until, path)
}

/// The same over TLS, where the clients are told whom to trust.
pub fn run_over(
    tls: Option<&Arc<ClientConfig>>,
    server: SocketAddr,
    connections: usize,
    until: Until,
    path: impl Fn(usize, usize) -> String,
) -> Found {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
    let began = Instant::now();
    let (end, each) = match until {
        Until::Over(time) => (began + time, usize::MAX),
        Until::Each(count, limit) => (began + limit, count),
    };
    let open_one = |number: usize| {
        let socket =
            Socket::new(Domain::for_address(server), Type::STREAM, None).expect("a socket");
        socket.set_tcp_nodelay(true).expect("no delay");
        let tls = tls.map(|config| {
            // Handshakes are measured elsewhere: this one is over before the first request.
            socket.connect(&server.into()).expect("connected");
            let mut tls = crate::tls::client(config);
            tls.complete_io(&mut &socket).expect("a handshake");
            tls
        });
        socket.set_nonblocking(true).expect("non-blocking");
        if tls.is_none() {
            // In progress.
            let _ = socket.connect(&server.into());
        }
        let stream = TcpStream::from(OwnedFd::from(socket));
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&epoll, &stream, data, epoll::EventFlags::OUT).expect("watched");
        Connection {
            stream,
            tls,
            sent: began,
            asked: 0,
            answered: 0,
            input: Vec::new(),
        }
    };
    let mut clients: Vec<Connection> = Vec::with_capacity(connections);
    let mut latencies = Vec::with_capacity(1 << 16);
    let (mut failed, mut open) = (0, connections);
    let mut events: Vec<epoll::Event> = Vec::with_capacity(1024);
    let mut last = began;
    while open > 0 {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let opened = clients.len();
        clients.extend((opened..connections).take(OPENED_AT_ONCE).map(open_one));
        let left = match clients.len() < connections {
            true => Duration::ZERO,
            false => left,
        };
        let wait = rustix::time::Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        events.clear();
        let room = rustix::buffer::spare_capacity(&mut events);
        if epoll::wait(&epoll, room, Some(&wait)).is_err() {
            continue;
        }
        for event in &events {
            let (number, flags) = (event.data.u64() as usize, event.flags);
            let client = &mut clients[number];
            let ask = if flags.contains(epoll::EventFlags::OUT) {
                let data = epoll::EventData::new_u64(number as u64);
                epoll::modify(&epoll, &client.stream, data, epoll::EventFlags::IN)
                    .expect("watched");
                Some(true)
            } else {
                client.read_answer()
            };
            match ask {
                None => continue,
                Some(fine) if client.asked > 0 => {
                    last = Instant::now();
                    latencies.push(last - client.sent);
                    client.answered += 1;
                    failed += usize::from(!fine);
                }
                Some(_) => {}
            }
            if client.answered >= each {
                open -= 1;
                let _ = epoll::delete(&epoll, &client.stream);
                continue;
            }
            let request = format!(
                "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n",
                path(number, client.asked)
            );
            client.asked += 1;
            client.sent = Instant::now();
            if client.send(request.as_bytes()).is_err() {
                failed += 1;
                open -= 1;
                let _ = epoll::delete(&epoll, &client.stream);
            }
        }
    }
    // Whoever has not got all its answers in time has failed.
    if each < usize::MAX {
        failed += open;
    }
    latencies.sort_unstable();
    Found {
        took: last - began,
        latencies,
        failed,
    }
}

impl Connection {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return (&self.stream).write_all(bytes);
        };
        tls.writer().write_all(bytes)?;
        while tls.wants_write() {
            tls.write_tls(&mut &self.stream)?;
        }
        Ok(())
    }

    fn receive(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return (&self.stream).read(chunk);
        };
        tls.read_tls(&mut &self.stream)?;
        tls.process_new_packets().map_err(io::Error::other)?;
        tls.reader().read(chunk)
    }

    /// `None` while the answer is not complete; true when it is 200.
    fn read_answer(&mut self) -> Option<bool> {
        let mut chunk = [0; 4096];
        match self.receive(&mut chunk) {
            Ok(0) => panic!(
                "the server closed a connection: {}",
                String::from_utf8_lossy(&self.input)
            ),
            Ok(more) => self.input.extend_from_slice(&chunk[..more]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => panic!("a connection broke: {error}"),
        }
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = answer.parse(&self.input).expect("an HTTP answer")
        else {
            return None;
        };
        let length: usize = answer
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("Content-Length"))
            .and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok())
            .expect("a Content-Length");
        if self.input.len() < head + length {
            return None;
        }
        let fine = answer.code == Some(200);
        self.input.clear();
        Some(fine)
    }
}

/// Asks on a new connection each time, so many at once; each is kept open until its answer has
/// come, which ends like this.
pub fn run_anew(
    server: SocketAddr,
    clients: usize,
    time: Duration,
    request: impl Fn(usize, usize) -> String,
    answer: &[u8],
) -> Found {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
    let (began, mut latencies, mut failed) = (Instant::now(), Vec::new(), 0);
    let ask = |number: usize, asked: usize| {
        let sent = Instant::now();
        let mut stream = TcpStream::connect(server).expect("connected");
        stream
            .write_all(request(number, asked).as_bytes())
            .expect("sent");
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&epoll, &stream, data, epoll::EventFlags::IN).expect("watched");
        Connection {
            stream,
            tls: None,
            sent,
            asked: asked + 1,
            answered: 0,
            input: Vec::new(),
        }
    };
    let mut open: Vec<Connection> = (0..clients).map(|number| ask(number, 0)).collect();
    let mut events: Vec<epoll::Event> = Vec::with_capacity(clients);
    let mut last = began;
    while began.elapsed() < time {
        events.clear();
        let room = rustix::buffer::spare_capacity(&mut events);
        let wait = rustix::time::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        if epoll::wait(&epoll, room, Some(&wait)).is_err() {
            continue;
        }
        for event in &events {
            let number = event.data.u64() as usize;
            let client = &mut open[number];
            let mut chunk = [0; 4096];
            let more = (&client.stream).read(&mut chunk).unwrap_or(0);
            client.input.extend_from_slice(&chunk[..more]);
            let is_whole = client.input.ends_with(answer);
            if more > 0 && !is_whole {
                continue;
            }
            last = Instant::now();
            failed += usize::from(!is_whole);
            latencies.push(last - client.sent);
            let asked = client.asked;
            // The old one goes only when the new one is there; the server closes it first.
            *client = ask(number, asked);
        }
    }
    latencies.sort_unstable();
    Found {
        took: last - began,
        latencies,
        failed,
    }
}
