//! Stateful byte-stream PDUs with faults on demand, on a loopback TCP port or a pty.

use super::port::{self, Waits, Waker};
use serialport::{SerialPort, TTYPort};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The PDU's side of a protocol.
pub(crate) trait Pdu: Send {
    /// Takes one whole request off the front of `input` and answers it; `None` while it is not
    /// whole. A stuck PDU answers, but switches nothing.
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>>;

    /// A new connection begins.
    fn connected(&mut self) {}

    /// What it says first.
    fn greeting(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// An outlet's state, where the simulator keeps it.
    fn is_on(&self, _outlet: &str) -> Option<bool> {
        None
    }
}

/// A boxed PDU is one, so that a table can hold several kinds.
pub(crate) type PduBox = Box<dyn Pdu>;

impl Pdu for PduBox {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        self.as_mut().answer(input, is_stuck)
    }

    fn connected(&mut self) {
        self.as_mut().connected();
    }

    fn greeting(&mut self) -> Vec<u8> {
        self.as_mut().greeting()
    }

    fn is_on(&self, outlet: &str) -> Option<bool> {
        self.as_ref().is_on(outlet)
    }
}

/// One that a test looks at meanwhile.
impl<P: Pdu> Pdu for Arc<Mutex<P>> {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        self.lock().expect("lock").answer(input, is_stuck)
    }

    fn connected(&mut self) {
        self.lock().expect("lock").connected();
    }
}

/// What goes wrong with the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Says nothing.
    Silent,
    /// Resets the connection; unplugs the line.
    Reset,
    /// The same, once.
    ResetOnce,
    /// Says something that is no answer.
    Garbage,
    /// Says half of the answer.
    Half,
    /// Says a byte a second.
    Drip,
    /// Does not stop talking.
    Endless,
    /// Answers, but switches nothing.
    Stuck,
    /// Says everything twice, as a network may; only in datagrams.
    Twice,
    /// Does what it is told, and is gone before it says so.
    Dies,
}

/// What the threads of a simulator share with the test.
#[derive(Debug)]
pub(crate) struct Control {
    /// The fault, and how many answers are right before it.
    fault: Mutex<(Fault, usize)>,
    stop: AtomicBool,
    connections: AtomicUsize,
    spoiled: AtomicUsize,
}

impl Control {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            fault: Mutex::new((Fault::None, 0)),
            stop: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            spoiled: AtomicUsize::new(0),
        })
    }

    /// From the answer after `honest` further ones on, `fault` it is.
    pub(crate) fn set(&self, fault: Fault, honest: usize) {
        *self.fault.lock().expect("lock") = (fault, honest);
    }

    /// How often the driver has connected.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many answers were not as they should be.
    pub(crate) fn spoiled(&self) -> usize {
        self.spoiled.load(Ordering::SeqCst)
    }

    /// The next answer is a reset, and those after it are right.
    pub(crate) fn reset_once(&self) {
        self.set(Fault::ResetOnce, 0);
    }

    fn next(&self) -> Fault {
        let next = self.due();
        if next != Fault::None {
            self.spoiled.fetch_add(1, Ordering::SeqCst);
        }
        next
    }

    fn due(&self) -> Fault {
        let mut fault = self.fault.lock().expect("lock");
        if fault.0 == Fault::ResetOnce {
            *fault = (Fault::None, 0);
            return Fault::Reset;
        }
        if fault.0 == Fault::Stuck {
            return Fault::Stuck;
        }
        if fault.1 > 0 {
            fault.1 -= 1;
            return Fault::None;
        }
        fault.0
    }

    fn is_stuck(&self) -> bool {
        self.fault.lock().expect("lock").0 == Fault::Stuck
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// How often a simulator looks whether it is to end.
const TICK: Duration = Duration::from_millis(10);

/// More than any driver takes, less than a pty's buffers hold.
const ENDLESS: usize = 20_000;

const GARBAGE: &[u8] = b"\x5a\xa5\x00\xfe\x13\x37\xa5\xa5garbage\x80";

/// Serves one stream; `true` when it is to be cut off hard.
fn serve(stream: &mut (impl Read + Write), pdu: &Mutex<PduBox>, control: &Control) -> bool {
    let greeting = {
        let mut pdu = pdu.lock().expect("lock");
        pdu.connected();
        pdu.greeting()
    };
    if stream.write_all(&greeting).is_err() {
        return false;
    }
    let (mut input, mut buffer) = (Vec::new(), [0; 512]);
    while !control.is_stopped() {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => input.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                continue;
            }
            Err(_) => return false,
        }
        loop {
            let stuck = control.is_stuck();
            let Some(answer) = pdu.lock().expect("lock").answer(&mut input, stuck) else {
                break;
            };
            // A command without an answer is none that a fault could spoil.
            if answer.is_empty() {
                continue;
            }
            let result = match control.next() {
                Fault::None | Fault::Stuck | Fault::Twice => stream.write_all(&answer),
                Fault::Silent => Ok(()),
                Fault::Reset | Fault::ResetOnce => return true,
                Fault::Dies => {
                    control.stop.store(true, Ordering::SeqCst);
                    return true;
                }
                Fault::Garbage => stream.write_all(GARBAGE),
                Fault::Half => stream.write_all(&answer[..answer.len() / 2]),
                Fault::Drip => drip(stream, &answer, control),
                Fault::Endless => babble(stream, control),
            };
            if result.is_err() {
                return false;
            }
        }
    }
    false
}

/// Ends with the fault: nothing is said any more once it is healed.
fn babble(stream: &mut impl Write, control: &Control) -> std::io::Result<()> {
    for _ in 0..ENDLESS / 16 {
        let fault = control.fault.lock().expect("lock");
        if fault.0 != Fault::Endless {
            break;
        }
        match stream.write(&[0x55; 16]) {
            Err(error) if error.kind() != ErrorKind::TimedOut => return Err(error),
            // A full pty: the driver does not read any more.
            _ => {}
        }
    }
    Ok(())
}

fn drip(stream: &mut impl Write, answer: &[u8], control: &Control) -> std::io::Result<()> {
    for byte in answer {
        let due = Instant::now() + Duration::from_secs(1);
        while Instant::now() < due {
            if control.is_stopped() || control.due() != Fault::Drip {
                return Ok(());
            }
            std::thread::sleep(TICK);
        }
        stream.write_all(&[*byte])?;
    }
    Ok(())
}

/// Serves one connection at a time, as little processors do it: the next is served once the driver
/// has closed the one before.
fn serve_connections(listener: &TcpListener, pdu: &Mutex<PduBox>, control: &Control) {
    for stream in listener.incoming() {
        if control.is_stopped() {
            break;
        }
        let mut stream = stream.expect("a connection");
        control.connections.fetch_add(1, Ordering::SeqCst);
        stream.set_read_timeout(Some(TICK)).expect("a timeout");
        if serve(&mut stream, pdu, control) {
            let linger = Some(Duration::ZERO);
            socket2::SockRef::from(&stream)
                .set_linger(linger)
                .expect("linger can be set");
        }
        if control.is_stopped() {
            break;
        }
    }
}

fn serve_datagrams(socket: &UdpSocket, pdu: &Mutex<PduBox>, control: &Control) {
    let mut buffer = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if control.is_stopped() {
            break;
        }
        let mut input = buffer[..length].to_vec();
        let stuck = control.is_stuck();
        let answer = pdu.lock().expect("lock").answer(&mut input, stuck);
        let Some(answer) = answer else { continue };
        let answer = match control.next() {
            Fault::None | Fault::Stuck => &answer[..],
            Fault::Dies => break,
            Fault::Silent | Fault::Reset | Fault::ResetOnce | Fault::Drip => {
                continue;
            }
            Fault::Garbage | Fault::Endless => GARBAGE,
            Fault::Half => &answer[..answer.len() / 2],
            Fault::Twice => {
                let _ = socket.send_to(&answer, from);
                &answer
            }
        };
        let _ = socket.send_to(answer, from);
    }
}

/// A pty. The simulator holds both ends: a line that nobody has open is not a lost one.
pub(crate) struct Pty {
    pub(crate) master: TTYPort,
    slave: TTYPort,
}

impl Pty {
    pub(crate) fn open() -> Self {
        let (mut master, slave) = TTYPort::pair().expect("a pty");
        master.set_timeout(TICK).expect("a timeout");
        Self { master, slave }
    }

    /// The tty's path.
    pub(crate) fn name(&self) -> String {
        self.slave.name().expect("the pty's name")
    }
}

/// How a PDU is reached.
pub(crate) enum Line {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    /// A pty, linked to from a path in this folder.
    Pty(tempfile::TempDir),
    /// One that is there already, such as the device's end of a USB serial line.
    Tty(String),
}

/// A stateful PDU on a line, which stays the same when it is unplugged and plugged again.
pub(crate) struct Bench {
    pub(crate) control: Arc<Control>,
    pub(crate) pdu: Arc<Mutex<PduBox>>,
    pub(crate) line: Line,
    waker: Option<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Bench {
    pub(crate) fn start(line: Line, pdu: impl Pdu + 'static) -> Self {
        let mut bench = Self {
            control: Control::new(),
            pdu: Arc::new(Mutex::new(Box::new(pdu))),
            line,
            waker: None,
            thread: None,
        };
        bench.plug();
        bench
    }

    /// On any port of this address.
    pub(crate) fn tcp(ip: Ipv4Addr, pdu: impl Pdu + 'static) -> Self {
        Self::start(Line::Tcp((ip, 0).into()), pdu)
    }

    /// The same with datagrams.
    pub(crate) fn udp(ip: Ipv4Addr, pdu: impl Pdu + 'static) -> Self {
        Self::start(Line::Udp((ip, 0).into()), pdu)
    }

    pub(crate) fn pty(pdu: impl Pdu + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::start(Line::Pty(folder), pdu)
    }

    /// Where it is, as a key `ip` or `device` takes it.
    pub(crate) fn address(&self) -> String {
        match &self.line {
            Line::Tcp(address) | Line::Udp(address) => address.to_string(),
            Line::Pty(folder) => tty_in(folder).display().to_string(),
            Line::Tty(path) => path.clone(),
        }
    }

    /// Ends what is under way; it goes on on the same port of another address.
    pub(crate) fn move_to(&mut self, ip: Ipv4Addr) {
        self.unplug();
        match &mut self.line {
            Line::Tcp(address) | Line::Udp(address) => address.set_ip(ip.into()),
            Line::Pty(_) | Line::Tty(_) => panic!("a tty has no address"),
        }
        self.plug();
    }

    pub(crate) fn plug(&mut self) {
        self.unplug();
        self.control.stop.store(false, Ordering::SeqCst);
        let (pdu, control) = (Arc::clone(&self.pdu), Arc::clone(&self.control));
        self.thread = Some(match &mut self.line {
            Line::Tcp(address) => {
                let listener = match address.port() {
                    0 => port::listener(address.ip()),
                    _ => TcpListener::bind(*address).expect("its port"),
                };
                *address = listener.local_addr().expect("an address");
                let listener = self.waited_on(listener);
                std::thread::spawn(move || serve_connections(&listener, &pdu, &control))
            }
            Line::Udp(address) => {
                let socket = match address.port() {
                    0 => port::datagrams(address.ip()),
                    _ => UdpSocket::bind(*address).expect("its port"),
                };
                *address = socket.local_addr().expect("an address");
                let socket = self.waited_on(socket);
                std::thread::spawn(move || serve_datagrams(&socket, &pdu, &control))
            }
            Line::Pty(folder) => {
                let (pty, path) = (Pty::open(), tty_in(folder));
                std::os::unix::fs::symlink(pty.name(), &path).expect("a link");
                std::thread::spawn(move || {
                    // All of it: a closure would take the one end that it uses.
                    let mut pty: Pty = pty;
                    serve(&mut pty.master, &pdu, &control);
                    // Before the pty ends: the next one to be opened may get its number.
                    let _ = std::fs::remove_file(path);
                })
            }
            Line::Tty(path) => {
                let mut tty = serialport::new(&*path, 9600)
                    .timeout(TICK)
                    .open_native()
                    .unwrap_or_else(|error| panic!("{path}: {error}"));
                std::thread::spawn(move || {
                    serve(&mut tty, &pdu, &control);
                })
            }
        });
    }

    /// What the thread is to wait on.
    fn waited_on<S: Waits + 'static>(&mut self, socket: S) -> Arc<S> {
        let (socket, waker) = Waker::of(socket);
        self.waker = Some(waker);
        socket
    }

    /// Ends what is under way under the driver's hands; nobody is there any more.
    pub(crate) fn unplug(&mut self) {
        self.control.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
            // A test that has failed already is told of first.
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the simulator has a bug"
            );
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.unplug();
    }
}

fn tty_in(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("ttyACM0")
}
