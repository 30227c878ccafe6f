//! Lines to devices that can be spoilt: a TCP and a UDP proxy. They keep what the driver sent.

use super::{DRIP, Fault, GARBAGE};
use crate::sim::port::Waker;
use crate::transcript::Case;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A line to a device: the address stays, what is behind it changes.
pub(super) struct Proxy {
    address: SocketAddr,
    is_udp: bool,
    shared: Arc<Shared>,
    waker: Waker,
    thread: JoinHandle<()>,
}

impl Proxy {
    /// The line to a case's device.
    pub(super) fn start(case: &Case) -> Self {
        let is_udp = case.transport == "snmp";
        let (address, shared, waker, thread) = if is_udp { start_udp() } else { start_tcp() };
        Self {
            address,
            is_udp,
            shared,
            waker,
            thread,
        }
    }

    pub(super) fn overrides(&self, case: &Case) -> serde_json::Value {
        if case.transport == "serial" {
            serde_json::json!({ "device": format!("socket://{}", self.address) })
        } else {
            serde_json::json!({ "ip": self.address.to_string() })
        }
    }

    pub(super) fn set(&self, fault: Fault, device: SocketAddr) {
        self.shared.set(fault, device);
    }

    /// What the driver has sent since the fault was set: by connection, or by datagram.
    pub(super) fn heard(&self) -> Vec<Vec<u8>> {
        self.shared.heard()
    }

    /// From now on the device gets no datagram more: its port may soon be another's.
    pub(super) fn cut(&self) {
        if self.is_udp {
            self.set(Fault::Silence, self.address);
        }
    }

    pub(super) fn end(self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
        self.thread.join().expect("a proxy that does not panic");
    }
}

struct Shared {
    fault: Mutex<(Fault, SocketAddr)>,
    /// Bytes that have come back since the fault was set.
    back: AtomicUsize,
    heard: Mutex<Vec<Vec<u8>>>,
    stop: AtomicBool,
}

impl Shared {
    fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            fault: Mutex::new((Fault::None, address)),
            back: AtomicUsize::new(0),
            heard: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
        })
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn set(&self, fault: Fault, device: SocketAddr) {
        *self.fault.lock().expect("lock") = (fault, device);
        self.back.store(0, Ordering::SeqCst);
        self.heard.lock().expect("lock").clear();
    }

    /// A place for what one more connection or datagram brings.
    fn hear(&self, bytes: &[u8]) -> usize {
        let mut heard = self.heard.lock().expect("lock");
        heard.push(bytes.to_vec());
        heard.len() - 1
    }

    fn hear_more(&self, place: usize, bytes: &[u8]) {
        // The fault may have been set anew since the connection came.
        if let Some(heard) = self.heard.lock().expect("lock").get_mut(place) {
            heard.extend(bytes);
        }
    }

    fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().expect("lock").clone()
    }
}

// ---- TCP ---------------------------------------------------------------------------------------

fn start_tcp() -> (SocketAddr, Arc<Shared>, Waker, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
    let address = listener.local_addr().expect("an address");
    let (listener, waker) = Waker::of(listener);
    let shared = Shared::new(address);
    let accepting = Arc::clone(&shared);
    let thread = std::thread::spawn(move || {
        let mut pumps = Vec::new();
        for stream in listener.incoming() {
            if accepting.stop.load(Ordering::SeqCst) {
                break;
            }
            let Ok(stream) = stream else { break };
            let shared = Arc::clone(&accepting);
            pumps.push(std::thread::spawn(move || serve(&stream, &shared)));
        }
        for pump in pumps {
            pump.join().expect("a pump that does not panic");
        }
    });
    (address, shared, waker, thread)
}

/// Did nothing come, or go, within the time-out?
fn is_idle(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as E;
    matches!(error.kind(), E::WouldBlock | E::TimedOut)
}

/// Closes with a reset instead of a farewell.
fn reset(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_linger(Some(Duration::ZERO));
    // A shutdown would say farewell; the reset comes when the last handle is dropped, and both
    // pumps drop theirs at once.
}

fn serve(client: &TcpStream, shared: &Arc<Shared>) {
    let (fault, device) = *shared.fault.lock().expect("lock");
    let tick = Some(Duration::from_millis(20));
    client.set_read_timeout(tick).expect("a timeout can be set");
    let place = shared.hear(&[]);
    let gone = |client: &TcpStream| {
        let mut rest = [0; 256];
        match (&*client).read(&mut rest) {
            Ok(0) => true,
            Ok(count) => {
                shared.hear_more(place, &rest[..count]);
                false
            }
            Err(error) => !is_idle(&error),
        }
    };
    match fault {
        // Nothing is behind a refused line; a connection that slips in is reset.
        Fault::Refuse => return reset(client),
        Fault::Silence => {
            while !gone(client) && !shared.is_over() {}
            return;
        }
        Fault::Garbage => {
            let _ = (&*client).write_all(GARBAGE);
            while !gone(client) && !shared.is_over() {}
            return;
        }
        Fault::Endless => {
            client
                .set_write_timeout(tick)
                .expect("a timeout can be set");
            let flood = [b'A'; 4096];
            while !shared.stop.load(Ordering::SeqCst) {
                match (&*client).write(&flood) {
                    Ok(_) => {}
                    Err(error) if is_idle(&error) => {}
                    Err(_) => return,
                }
            }
            return;
        }
        _ => {}
    }
    let Ok(device) = TcpStream::connect(device) else {
        return reset(client);
    };
    device.set_read_timeout(tick).expect("a timeout can be set");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let all = |_| usize::MAX;
            pump(client, &device, &over, shared, Some(place), all);
            let _ = device.shutdown(Shutdown::Write);
        });
        pump(
            &device,
            client,
            &over,
            shared,
            None,
            |byte_count| match fault {
                Fault::Drip => 1,
                // Byte by byte, or in pieces as they come.
                Fault::ResetAt(most) if most % 3 == 0 => 1.min(most.saturating_sub(byte_count)),
                Fault::ResetAt(most) | Fault::EndAt(most) | Fault::StopAt(most) => {
                    most.saturating_sub(byte_count)
                }
                _ => usize::MAX,
            },
        );
        let cut = match fault {
            Fault::ResetAt(most) | Fault::EndAt(most) | Fault::StopAt(most) => {
                shared.back.load(Ordering::SeqCst) >= most
            }
            _ => false,
        };
        match fault {
            Fault::ResetAt(_) if cut => {
                over.store(true, Ordering::SeqCst);
                reset(client);
            }
            Fault::StopAt(_) if cut => {
                while !over.load(Ordering::SeqCst) && !shared.stop.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            _ => {
                let _ = client.shutdown(Shutdown::Write);
                if cut {
                    over.store(true, Ordering::SeqCst);
                }
            }
        }
    });
}

/// Carries bytes while `room` says how many may go on in one piece; ends when either side has.
fn pump(
    mut from: &TcpStream,
    mut to: &TcpStream,
    over: &AtomicBool,
    shared: &Shared,
    heard: Option<usize>,
    room: impl Fn(usize) -> usize,
) {
    let is_back = heard.is_none();
    let drips = is_back && shared.fault.lock().expect("lock").0 == Fault::Drip;
    let mut chunk = [0; 4096];
    while !over.load(Ordering::SeqCst) && !shared.stop.load(Ordering::SeqCst) {
        let room = room(shared.back.load(Ordering::SeqCst)).min(chunk.len());
        if room == 0 {
            return;
        }
        match from.read(&mut chunk[..room]) {
            Ok(0) => break,
            Ok(count) => {
                if let Some(place) = heard {
                    shared.hear_more(place, &chunk[..count]);
                }
                let due = Instant::now() + DRIP;
                while drips && Instant::now() < due && !over.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                if to.write_all(&chunk[..count]).is_err() {
                    break;
                }
                if is_back {
                    shared.back.fetch_add(count, Ordering::SeqCst);
                }
            }
            Err(error) if is_idle(&error) => {}
            Err(_) => break,
        }
    }
    if !is_back {
        // The client has left; the device has nothing more to say.
        return;
    }
    over.store(true, Ordering::SeqCst);
}

// ---- UDP ---------------------------------------------------------------------------------------

fn start_udp() -> (SocketAddr, Arc<Shared>, Waker, JoinHandle<()>) {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a loopback port");
    let address = socket.local_addr().expect("an address");
    let shared = Shared::new(address);
    let serving = Arc::clone(&shared);
    let tick = Some(Duration::from_millis(10));
    socket.set_read_timeout(tick).expect("a timeout can be set");
    let (socket, waker) = Waker::of(socket);
    let thread = std::thread::spawn(move || {
        let device_end = UdpSocket::bind(("127.0.0.1", 0)).expect("a loopback port");
        device_end
            .set_read_timeout(tick)
            .expect("a timeout can be set");
        let (mut buffer, mut client) = ([0; 4096], address);
        // The answers that the network holds back, and the last one that came.
        let (mut there, mut back) = (Weather::default(), Weather::default());
        let mut before: Option<(Vec<u8>, Vec<u8>)> = None;
        let mut asked_last = Vec::new();
        while !serving.is_over() {
            let asked = socket.recv_from(&mut buffer);
            let (fault, device) = *serving.fault.lock().expect("lock");
            if let Ok((length, from)) = asked {
                client = from;
                serving.hear(&buffer[..length]);
                let asked = &buffer[..length];
                asked_last = asked.to_vec();
                match fault {
                    Fault::Garbage => drop(socket.send_to(GARBAGE, from)),
                    Fault::Endless => drop(socket.send_to(&[0x30; 4000], from)),
                    Fault::Echo => drop(socket.send_to(asked, from)),
                    Fault::None | Fault::Stale => drop(device_end.send_to(asked, device)),
                    Fault::Lossy(seed) => {
                        for datagram in there.pass(seed, asked) {
                            let _ = device_end.send_to(&datagram, device);
                        }
                    }
                    _ => {}
                }
            }
            let Ok((length, _)) = device_end.recv_from(&mut buffer) else {
                continue;
            };
            let answer = buffer[..length].to_vec();
            let sent = match fault {
                Fault::None => vec![answer],
                // Each question gets the answer to the one before; a copy of it none.
                Fault::Stale => before
                    .replace((asked_last.clone(), answer))
                    .filter(|(question, _)| *question != asked_last)
                    .map(|(_, answer)| answer)
                    .into_iter()
                    .collect(),
                Fault::Lossy(seed) => back.pass(!seed, &answer),
                _ => Vec::new(),
            };
            for datagram in sent {
                let _ = socket.send_to(&datagram, client);
            }
        }
    });
    (address, shared, waker, thread)
}

/// A network that loses, doubles and holds back three datagrams in ten each.
#[derive(Default)]
struct Weather {
    count: u64,
    held: Option<Vec<u8>>,
}

impl Weather {
    /// What goes on when `datagram` comes: one that is held back comes after the next.
    fn pass(&mut self, seed: u64, datagram: &[u8]) -> Vec<Vec<u8>> {
        self.count += 1;
        let mut dice = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003) ^ self.count);
        let mut strikes = || dice.u8(..10) < 3;
        let (lost, doubled, late) = (strikes(), strikes(), strikes());
        let mut on: Vec<Vec<u8>> = Vec::new();
        if !lost {
            on.push(datagram.to_vec());
            if doubled {
                on.push(datagram.to_vec());
            }
        }
        if late && let Some(last) = on.pop() {
            on.extend(self.held.replace(last));
        } else {
            on.extend(self.held.take());
        }
        on
    }
}
