//! Hostile clients, many at once: idle ones, slow writers, slow readers, and more connection
//! attempts than the daemon takes. Honest clients are measured before and meanwhile.
//!
//! The hostile clients are a process of their own, so that each side has its own descriptors; they
//! come from several loopback addresses, as one has not enough ports for all of them.

use crate::floods;
use crate::load::{self, Found, Until};
use crate::process::{Program, Running, config_with};
use crate::{At, failures, median, null_path, null_pdus, verdict};
use rustls::ClientConfig;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const IDLE: usize = 10_000;
const SLOW_WRITERS: usize = 1_000;
const SLOW_READERS: usize = 100;
const ATTEMPTS: usize = 20_000;
const MOST_CONNECTIONS: usize = 12_000;
/// TLS handshakes that are begun and left, and how many of them wait for their end at a time.
const HANDSHAKES: usize = 10_000;
const HANDSHAKES_A_SECOND: usize = 1_200;
const HANDSHAKES_HELD: usize = 500;
/// Each slow writer sends a byte, and each slow reader reads some, so often.
const DRIP: Duration = Duration::from_millis(200);
/// One look at the honest clients.
const RUN: Duration = Duration::from_millis(1500);
const ROUNDS: usize = 3;
/// Honest clients that ask as fast as they are answered: one alone, and as many as keep it busy.
pub const HONEST: [usize; 2] = [1, 16];
pub const PDUS: usize = 100;
/// Connections a process may open from one loopback address to one port.
const PER_ADDRESS: usize = 5_000;
/// No crowd lives longer, whatever becomes of the bench.
const LIFE: Duration = Duration::from_secs(120);

/// The bound that pdudaemon.conf(5) documents, in KiB.
pub fn documented_bound(connections: usize, buffered_bytes: usize, pdus: usize) -> f64 {
    (32 * 1024 + 8 * connections + 64 * pdus + 2 * buffered_bytes / 1024) as f64
}

pub fn run(folder: &Path) {
    println!(
        "## Hostile clients: {IDLE} idle, {SLOW_WRITERS} slow writers, {SLOW_READERS} slow readers, \
         {ATTEMPTS} attempts at once"
    );
    let limits = json!({
        "max_connections": MOST_CONNECTIONS, "idle_timeout": 600, "request_timeout": 600,
    });
    let (path, address) = config_with(folder, "hostile.conf", &null_pdus(PDUS), limits);
    let running = Running::daemon(&Program::ours(), &path, address);
    look(&running, "warm-up");
    let quiet = look(&running, "quiet");
    {
        let _crowd = Crowd::start(address, "siege");
        let besieged = look(&running, "besieged");
        let open = open_connections(address);
        println!("{open} connections are open");
        assert!(
            open > IDLE + SLOW_WRITERS,
            "hostile clients are missing: the figures say nothing"
        );
        for ((honest, quiet), besieged) in HONEST.iter().zip(quiet).zip(besieged) {
            let what = format!("p99 besieged / quiet, {honest} honest");
            verdict(&what, besieged / quiet, 3.0, At::Most);
        }
        remembers(&running);
    }
    let crowd = Crowd::start(address, "rush");
    let rushed = look(&running, "rushed");
    let open = open_connections(address);
    println!("{open} connections are open of {ATTEMPTS} attempts");
    assert!(open <= MOST_CONNECTIONS, "the bound is not held");
    drop(crowd);
    for ((honest, quiet), rushed) in HONEST.iter().zip(quiet).zip(rushed) {
        println!(
            "  p99 rushed / quiet, {honest} honest: {:.4}",
            rushed / quiet
        );
    }
    remembers(&running);
    drop(running);
    handshakes(folder);
}

/// Handshakes that are begun and left, while honest clients speak TLS.
fn handshakes(folder: &Path) {
    println!("## {HANDSHAKES} TLS handshakes begun and left, {HANDSHAKES_A_SECOND} a second");
    let few = json!({"max_connections": 1000, "max_buffered_bytes": 1 << 20});
    let (limits, tls) = crate::tls::daemon(folder, few);
    let (path, address) = config_with(folder, "handshakes.conf", &null_pdus(PDUS), limits);
    let running = Running::daemon(&Program::ours(), &path, address);
    look_over(&running, Some(&tls), "warm-up");
    let quiet = look_over(&running, Some(&tls), "quiet");
    let before = counted(address, "pdudaemon_connections_total");
    let began = Instant::now();
    let crowd = Crowd::start(address, "handshakes");
    let besieged = look_over(&running, Some(&tls), "besieged");
    let most = running.memory() as f64;
    let all = |before: usize| counted(address, "pdudaemon_connections_total") - before;
    while all(before) < HANDSHAKES {
        assert!(began.elapsed() < LIFE, "the handshakes do not come");
        std::thread::sleep(Duration::from_millis(100));
    }
    println!(
        "{} were begun in {:.1} s",
        all(before),
        began.elapsed().as_secs_f64()
    );
    drop(crowd);
    for ((honest, quiet), besieged) in HONEST.iter().zip(quiet).zip(besieged) {
        let what = format!("p99 besieged by handshakes / quiet, {honest} honest");
        verdict(&what, besieged / quiet, 3.0, At::Most);
    }
    let bound = (32 * 1024 + 16 * 1000 + 16 * 1024 + 64 * PDUS + 2 * 1024) as f64;
    verdict(
        "resident memory / documented bound",
        most / bound,
        1.0,
        At::Most,
    );
}

/// The path of a client's next request.
pub type Ask = fn(usize, usize) -> String;

/// Honest requests, on connections opened now; the median p99 of each number of them, in seconds.
pub fn look(running: &Running, what: &str) -> [f64; 2] {
    look_at(running, null_path, what)
}

/// The same of requests for something else.
pub fn look_at(running: &Running, ask: Ask, what: &str) -> [f64; 2] {
    HONEST.map(|honest| median((0..ROUNDS).map(|_| look_once(running, None, honest, ask, what))))
}

fn look_over(running: &Running, tls: Option<&Arc<ClientConfig>>, what: &str) -> [f64; 2] {
    HONEST
        .map(|honest| median((0..ROUNDS).map(|_| look_once(running, tls, honest, null_path, what))))
}

fn look_once(
    running: &Running,
    tls: Option<&Arc<ClientConfig>>,
    honest: usize,
    ask: Ask,
    what: &str,
) -> f64 {
    let found: Found = load::run_over(tls, running.address, honest, Until::Over(RUN), ask);
    let p99 = found.percentile(99).as_secs_f64();
    println!(
        "{what:<10} {honest:>2} honest {:>9.0}/s  p50 {:>9.1} us  p99 {:>9.1} us  {:>6.1} MiB{}",
        found.per_second(),
        found.percentile(50).as_secs_f64() * 1e6,
        p99 * 1e6,
        running.memory() as f64 / 1024.0,
        failures(&found)
    );
    assert!(
        !found.latencies.is_empty(),
        "honest clients were not served"
    );
    p99
}

fn remembers(running: &Running) {
    let bound = documented_bound(MOST_CONNECTIONS, 64 << 20, PDUS);
    let ratio = running.memory() as f64 / bound;
    verdict("resident memory / documented bound", ratio, 1.0, At::Most);
}

fn open_connections(address: SocketAddr) -> usize {
    counted(address, "pdudaemon_connections_open")
}

fn counted(address: SocketAddr, name: &str) -> usize {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("read");
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .expect("a count")
}

/// The hostile clients' process; killed when dropped.
pub struct Crowd(Child);

impl Crowd {
    /// Returns when all have connected, or tried to.
    pub fn start(address: SocketAddr, kind: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["--crowd", kind, &address.to_string()])
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let mut line = String::new();
        let said = BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line);
        let crowd = Self(child);
        assert!(said.is_ok() && line == "ready\n", "the crowd did not come");
        crowd
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The crowd, for a child process.
pub fn crowd(kind: &str, address: SocketAddr) -> ! {
    let end = Instant::now() + LIFE;
    match kind {
        "rush" => rush(address, end),
        "handshakes" => begin_handshakes(address, end),
        "siege" => siege(address, end),
        other => floods::flood(other, address, end).expect("a crowd of this kind"),
    }
    std::process::exit(0)
}

fn client(number: usize, address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let source = [127, 9, 0, (number / PER_ADDRESS + 1) as u8];
    let source = SocketAddr::from((source, 0));
    socket.bind(&source.into()).expect("an address");
    socket.set_nonblocking(true).expect("non-blocking");
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(115) => {}
        Err(error) => panic!("connection {number}: {error}"),
    }
    socket
}

/// All at once, and none says a word.
fn rush(address: SocketAddr, end: Instant) {
    // Each side's descriptor limit has to do; a few are this process's own.
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let most = most.map_or(ATTEMPTS, |most| most as usize - 32);
    let mut held = Vec::new();
    for number in 0..ATTEMPTS {
        held.push(client(number, address));
        if held.len() >= most {
            // One that gives up.
            held.swap_remove(number % most);
        }
    }
    println!("ready");
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Many a second, each with all that a client says first, and none goes on.
fn begin_handshakes(address: SocketAddr, end: Instant) {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, tls) = crate::tls::daemon(folder.path(), json!({}));
    let mut hello = Vec::new();
    crate::tls::client(&tls)
        .write_tls(&mut hello)
        .expect("written");
    let mut held = VecDeque::new();
    let pause = Duration::from_secs(1) / HANDSHAKES_A_SECOND as u32;
    let (began, mut number) = (Instant::now(), 0);
    println!("ready");
    while Instant::now() < end {
        let mut socket = client(number % (3 * PER_ADDRESS), address);
        socket.set_nonblocking(false).expect("blocking");
        // One that has been let go already does not matter.
        let _ = socket.write_all(&hello);
        held.push_back(socket);
        if held.len() > HANDSHAKES_HELD {
            held.pop_front();
        }
        number += 1;
        let due = began + pause * number as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn siege(address: SocketAddr, end: Instant) {
    let starts: [&[u8]; 4] = [
        b"",
        b"GET /power/control/on?host",
        b"GE",
        b"POST / HTTP/1.1\r\n",
    ];
    let mut number = 0;
    let mut come = |count: usize| -> Vec<Socket> {
        let came = (0..count).map(|_| {
            number += 1;
            // No more at once than wait to be accepted.
            if number % 1000 == 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
            client(number, address)
        });
        came.collect()
    };
    let idle = come(IDLE);
    let writers = come(SLOW_WRITERS);
    let readers = come(SLOW_READERS);
    std::thread::sleep(Duration::from_millis(500));
    for (mut socket, start) in idle.iter().zip(starts.iter().cycle()) {
        socket.write_all(start).expect("sent");
    }
    for mut socket in &writers {
        socket.write_all(b"POST / HTTP/1.1\r\nX: ").expect("sent");
    }
    for mut socket in &readers {
        socket.set_recv_buffer_size(2048).expect("set");
        // More than is answered before the first answers are taken.
        let request = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
        socket.write_all(&request.repeat(100)).expect("sent");
    }
    println!("ready");
    // Spread over the time, as different clients are.
    let steps = 200;
    while Instant::now() < end {
        for step in 0..steps {
            let began = Instant::now();
            for mut writer in writers.iter().skip(step).step_by(steps) {
                writer.write_all(b"x").expect("the daemon still waits");
            }
            for mut reader in readers.iter().skip(step).step_by(steps) {
                match reader.read(&mut [0; 512]) {
                    Ok(0) => panic!("the daemon let a slow reader go early"),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => panic!("a slow reader: {error}"),
                }
            }
            let pause = DRIP / steps as u32;
            std::thread::sleep(pause.saturating_sub(began.elapsed()));
        }
    }
}
