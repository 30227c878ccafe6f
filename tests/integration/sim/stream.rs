//! Stateful byte-stream PDUs with faults on demand, on a loopback TCP port or a pty.

use serialport::{SerialPort, TTYPort};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
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

/// A stateful PDU on a loopback TCP port, which stays the same when it is unplugged and plugged
/// again.
pub(crate) struct TcpBench {
    pub(crate) control: Arc<Control>,
    pub(crate) pdu: Arc<Mutex<PduBox>>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl TcpBench {
    pub(crate) fn start(pdu: impl Pdu + 'static) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, pdu)
    }

    pub(crate) fn start_at(ip: Ipv4Addr, pdu: impl Pdu + 'static) -> Self {
        let mut bench = Self {
            control: Control::new(),
            pdu: Arc::new(Mutex::new(Box::new(pdu))),
            address: (ip, 0).into(),
            thread: None,
        };
        bench.plug();
        bench
    }

    /// Where it listens, as an `ip` key takes it.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Ends what is under way, and listens on the same port of another address.
    pub(crate) fn move_to(&mut self, ip: Ipv4Addr) {
        self.unplug();
        self.address.set_ip(ip.into());
        self.plug();
    }

    pub(crate) fn plug(&mut self) {
        self.unplug();
        let listener = TcpListener::bind(self.address).expect("a loopback port");
        self.address = listener.local_addr().expect("an address");
        self.control.stop.store(false, Ordering::SeqCst);
        let (pdu, shared) = (Arc::clone(&self.pdu), Arc::clone(&self.control));
        // One connection at a time, as little processors do it: the next is served once the
        // driver has closed the one before.
        self.thread = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.is_stopped() {
                    break;
                }
                let mut stream = stream.expect("a connection");
                shared.connections.fetch_add(1, Ordering::SeqCst);
                stream.set_read_timeout(Some(TICK)).expect("a timeout");
                if serve(&mut stream, &pdu, &shared) {
                    let linger = Some(Duration::ZERO);
                    socket2::SockRef::from(&stream)
                        .set_linger(linger)
                        .expect("linger can be set");
                }
                if shared.is_stopped() {
                    break;
                }
            }
        }));
    }

    /// Ends the connections; further ones are refused.
    pub(crate) fn unplug(&mut self) {
        self.control.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = TcpStream::connect(self.address);
            let _ = thread.join();
        }
    }
}

impl Drop for TcpBench {
    fn drop(&mut self) {
        self.unplug();
    }
}

/// A stateful PDU on a loopback UDP port, which stays the same when it is unplugged and plugged
/// again.
pub(crate) struct UdpBench {
    pub(crate) control: Arc<Control>,
    pub(crate) pdu: Arc<Mutex<PduBox>>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl UdpBench {
    pub(crate) fn start_at(ip: Ipv4Addr, pdu: impl Pdu + 'static) -> Self {
        let mut bench = Self {
            control: Control::new(),
            pdu: Arc::new(Mutex::new(Box::new(pdu))),
            address: (ip, 0).into(),
            thread: None,
        };
        bench.plug();
        bench
    }

    /// Where it listens, as an `ip` key takes it.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Ends what is under way, and listens on the same port of another address.
    pub(crate) fn move_to(&mut self, ip: Ipv4Addr) {
        self.unplug();
        self.address.set_ip(ip.into());
        self.plug();
    }

    pub(crate) fn plug(&mut self) {
        self.unplug();
        let socket = UdpSocket::bind(self.address).expect("a loopback port");
        self.address = socket.local_addr().expect("an address");
        self.control.stop.store(false, Ordering::SeqCst);
        let (pdu, control) = (Arc::clone(&self.pdu), Arc::clone(&self.control));
        self.thread = Some(std::thread::spawn(move || {
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
        }));
    }

    /// Nobody is on its port any more.
    pub(crate) fn unplug(&mut self) {
        self.control.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let wake = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
            let _ = wake.send_to(b"stop", self.address);
            let _ = thread.join();
        }
    }
}

impl Drop for UdpBench {
    fn drop(&mut self) {
        self.unplug();
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

/// A stateful PDU on a pty, at a path that stays the same when it is unplugged and plugged again.
pub(crate) struct PtyBench {
    pub(crate) control: Arc<Control>,
    pub(crate) pdu: Arc<Mutex<PduBox>>,
    folder: tempfile::TempDir,
    thread: Option<JoinHandle<()>>,
}

impl PtyBench {
    pub(crate) fn start(pdu: impl Pdu + 'static) -> Self {
        let mut bench = Self {
            control: Control::new(),
            pdu: Arc::new(Mutex::new(Box::new(pdu))),
            folder: tempfile::tempdir().expect("a folder"),
            thread: None,
        };
        bench.plug();
        bench
    }

    /// The device's path.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("ttyACM0")
    }

    pub(crate) fn plug(&mut self) {
        self.unplug();
        let pty = Pty::open();
        std::os::unix::fs::symlink(pty.name(), self.path()).expect("a link");
        self.control.stop.store(false, Ordering::SeqCst);
        let (pdu, control) = (Arc::clone(&self.pdu), Arc::clone(&self.control));
        let path = self.path();
        self.thread = Some(std::thread::spawn(move || {
            // All of it: a closure would take the one end that it uses.
            let mut pty: Pty = pty;
            serve(&mut pty.master, &pdu, &control);
            // Before the pty ends: the next one to be opened may get its number.
            let _ = std::fs::remove_file(path);
        }));
    }

    /// Ends the line under the driver's hands and takes its path away.
    pub(crate) fn unplug(&mut self) {
        self.control.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a simulator without a bug");
        }
    }
}

impl Drop for PtyBench {
    fn drop(&mut self) {
        self.unplug();
    }
}

/// A stateful PDU on a tty that is there already, such as the device's end of a USB serial line.
pub(crate) struct TtyBench {
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

impl TtyBench {
    pub(crate) fn start(path: &str, pdu: impl Pdu + 'static) -> Self {
        let mut tty = serialport::new(path, 9600)
            .timeout(TICK)
            .open_native()
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        let control = Control::new();
        let shared = Arc::clone(&control);
        let pdu: Mutex<Box<dyn Pdu>> = Mutex::new(Box::new(pdu));
        let thread = std::thread::spawn(move || {
            serve(&mut tty, &pdu, &shared);
        });
        Self {
            control,
            thread: Some(thread),
        }
    }
}

impl Drop for TtyBench {
    fn drop(&mut self) {
        self.control.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
