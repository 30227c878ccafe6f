//! Stateful byte-stream PDUs with faults on demand, on a loopback TCP port or a pty.

use super::fault::{Datagrams, Fault, Spoiler, TICK, Then, is_idle, reset};
use super::port::{self, Ending, Served};
use serialport::{SerialPort, TTYPort};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

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

/// What a simulator shares with the test: what is wrong, counted in answers, and how often the
/// driver has connected.
#[derive(Debug, Default)]
pub(crate) struct Control {
    spoiler: Spoiler,
    connections: AtomicUsize,
}

impl Control {
    /// From the answer after `sound` further ones on, `fault` it is.
    pub(crate) fn set(&self, fault: Fault, sound: usize) {
        self.spoiler.set(fault, sound);
    }

    /// How often the driver has connected.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many answers were not as they should be.
    pub(crate) fn spoiled(&self) -> usize {
        self.spoiler.spoiled()
    }

    fn is_stuck(&self) -> bool {
        self.spoiler.fault() == Fault::Stuck
    }
}

/// Serves one stream; says how it is to be closed.
fn serve(
    stream: &mut (impl Read + Write),
    pdu: &Mutex<PduBox>,
    control: &Control,
    ending: &Ending,
) -> Then {
    let greeting = {
        let mut pdu = pdu.lock().expect("lock");
        pdu.connected();
        pdu.greeting()
    };
    if stream.write_all(&greeting).is_err() {
        return Then::End;
    }
    let (mut input, mut buffer) = (Vec::new(), [0; 512]);
    while !ending.is_near() {
        match stream.read(&mut buffer) {
            Ok(0) => return Then::End,
            Ok(count) => input.extend_from_slice(&buffer[..count]),
            Err(error) if is_idle(&error) => continue,
            Err(_) => return Then::End,
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
            let (_, fault) = control.spoiler.take(1);
            if fault == Fault::Dies {
                ending.begin();
            }
            match control.spoiler.say(stream, &answer, fault, ending) {
                Ok(Then::GoOn) => {}
                Ok(then) => return then,
                Err(_) => return Then::End,
            }
        }
    }
    Then::End
}

/// Serves one connection, as little processors do it: the next is served once the driver has closed
/// the one before.
fn serve_connection(
    mut stream: TcpStream,
    pdu: &Mutex<PduBox>,
    control: &Control,
    ending: &Ending,
) {
    if ending.is_near() {
        return;
    }
    control.connections.fetch_add(1, Ordering::SeqCst);
    stream.set_read_timeout(Some(TICK)).expect("a timeout");
    stream.set_write_timeout(Some(TICK)).expect("a timeout");
    if serve(&mut stream, pdu, control, ending) == Then::Reset {
        reset(&stream);
    }
}

fn serve_datagrams(socket: &UdpSocket, pdu: &Mutex<PduBox>, control: &Control, ending: &Ending) {
    let (mut buffer, mut way) = ([0; 2048], Datagrams::default());
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if ending.is_near() {
            return;
        }
        let question = &buffer[..length];
        let stuck = control.is_stuck();
        let answer = pdu
            .lock()
            .expect("lock")
            .answer(&mut question.to_vec(), stuck);
        let Some(answer) = answer else { continue };
        let (_, fault) = control.spoiler.take(1);
        if fault == Fault::Dies {
            return;
        }
        for datagram in way.back(fault, question, &answer) {
            let _ = socket.send_to(&datagram, from);
        }
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

/// Where a PDU is served.
enum Plugged {
    Socket(Served),
    Line(Ending, JoinHandle<()>),
}

/// A stateful PDU on a line, which stays the same when it is unplugged and plugged again.
pub(crate) struct Bench {
    pub(crate) control: Arc<Control>,
    pub(crate) pdu: Arc<Mutex<PduBox>>,
    pub(crate) line: Line,
    plugged: Option<Plugged>,
    /// Keeps the port of an unplugged PDU from other tests.
    kept: Option<OwnedFd>,
}

impl Bench {
    pub(crate) fn start(line: Line, pdu: impl Pdu + 'static) -> Self {
        let mut bench = Self {
            control: Arc::default(),
            pdu: Arc::new(Mutex::new(Box::new(pdu))),
            line,
            plugged: None,
            kept: None,
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
        self.kept = None;
        let (pdu, control) = (Arc::clone(&self.pdu), Arc::clone(&self.control));
        self.plugged = Some(match &mut self.line {
            Line::Tcp(address) => {
                let listener = match address.port() {
                    0 => port::listener(address.ip()),
                    _ => TcpListener::bind(*address).expect("its port"),
                };
                let served = Served::connections_on(listener, move |stream, ending| {
                    serve_connection(stream, &pdu, &control, ending);
                });
                *address = served.address;
                Plugged::Socket(served)
            }
            Line::Udp(address) => {
                let socket = match address.port() {
                    0 => port::datagrams(address.ip()),
                    _ => UdpSocket::bind(*address).expect("its port"),
                };
                let served = Served::on(socket, move |socket, ending| {
                    serve_datagrams(socket, &pdu, &control, ending);
                });
                *address = served.address;
                Plugged::Socket(served)
            }
            Line::Pty(folder) => {
                let (mut pty, path) = (Pty::open(), tty_in(folder));
                std::os::unix::fs::symlink(pty.name(), &path).expect("a link");
                on_line(move |ending| {
                    // All of it: a closure would take the one end that it uses.
                    let pty: &mut Pty = &mut pty;
                    serve(&mut pty.master, &pdu, &control, ending);
                    // Before the pty ends: the next one to be opened may get its number.
                    let _ = std::fs::remove_file(path);
                })
            }
            Line::Tty(path) => {
                let mut tty = serialport::new(&*path, 9600)
                    .timeout(TICK)
                    .open_native()
                    .unwrap_or_else(|error| panic!("{path}: {error}"));
                on_line(move |ending| {
                    serve(&mut tty, &pdu, &control, ending);
                })
            }
        });
    }

    /// Ends what is under way under the driver's hands; nobody is there any more.
    pub(crate) fn unplug(&mut self) {
        match self.plugged.take() {
            Some(Plugged::Socket(served)) => drop(served),
            Some(Plugged::Line(ending, thread)) => {
                ending.begin();
                // A test that has failed already is told of first.
                let ended = thread.join();
                assert!(
                    ended.is_ok() || std::thread::panicking(),
                    "the simulator has a bug"
                );
            }
            None => {}
        }
        if let (Line::Tcp(address), None) = (&self.line, &self.kept)
            && address.port() != 0
        {
            self.kept = port::kept(*address);
        }
    }
}

fn on_line(serve: impl FnOnce(&Ending) + Send + 'static) -> Plugged {
    let ending = Ending::default();
    let told = ending.clone();
    Plugged::Line(ending, std::thread::spawn(move || serve(&told)))
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.unplug();
    }
}

fn tty_in(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("ttyACM0")
}
