//! The world outside as the fuzzer plays it, built for the fuzzer alone: sockets, USB devices and
//! programs that answer from a script, on the caller's own thread, and a clock that every wait
//! moves on instead of waiting. All above the system calls is the code that the daemon runs.
#![allow(clippy::expect_used)]

use super::{Deadline, TransportError, TransportErrorKind};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The other end's next act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Sends this, in one piece.
    Bytes(Vec<u8>),
    /// Nothing, for longer than anybody waits.
    Silence,
    /// Ends the connection in good order; a USB device is pulled out.
    End,
    /// Breaks the connection off; a USB device refuses.
    Reset,
}

/// How the other end begins and frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Its bytes are the script's.
    Plain,
    /// Before each answer whose first byte is at most 7 it puts the head of an HTTP answer.
    Http,
}

struct Script {
    answers: VecDeque<Answer>,
    manner: Manner,
    /// How far the clock was moved.
    skipped: Duration,
    devices: Vec<nusb::DeviceInfo>,
}

static SCRIPT: Mutex<Script> = Mutex::new(Script {
    answers: VecDeque::new(),
    manner: Manner::Plain,
    skipped: Duration::ZERO,
    devices: Vec::new(),
});

fn script() -> MutexGuard<'static, Script> {
    SCRIPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The script of the calls that follow.
pub fn play(manner: Manner, answers: impl IntoIterator<Item = Answer>) {
    let mut script = script();
    script.answers.clear();
    script.answers.extend(answers);
    script.manner = manner;
}

/// The USB devices that are plugged in.
pub fn attach(devices: Vec<nusb::DeviceInfo>) {
    script().devices = devices;
}

/// The moment it is for all that waits.
pub fn now() -> Instant {
    Instant::now() + script().skipped
}

/// Lets time pass.
pub fn pass(time: Duration) {
    script().skipped += time;
}

fn next() -> Option<Answer> {
    script().answers.pop_front()
}

/// A socket's `TcpStream`.
#[derive(Debug)]
pub(super) struct TcpStream(Mutex<Stream>);

#[derive(Debug)]
struct Stream {
    pending: VecDeque<u8>,
    has_ended: bool,
    patience: Duration,
    blocks: bool,
}

impl TcpStream {
    fn state(&self) -> MutexGuard<'_, Stream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody accepts when the script is at its end, so that a driver that connects again and again
    /// comes to an end too.
    pub(super) fn connect_timeout(_: &SocketAddr, _: Duration) -> io::Result<Self> {
        if script().answers.is_empty() {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        Ok(Self(Mutex::new(Stream {
            pending: VecDeque::new(),
            has_ended: false,
            patience: Duration::ZERO,
            blocks: true,
        })))
    }

    pub(super) fn set_nodelay(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        self.state().blocks = !on;
        Ok(())
    }

    pub(super) fn set_read_timeout(&self, wait: Option<Duration>) -> io::Result<()> {
        self.state().patience = bounded(wait);
        Ok(())
    }

    pub(super) fn set_write_timeout(&self, wait: Option<Duration>) -> io::Result<()> {
        bounded(wait);
        Ok(())
    }

    pub(super) fn shutdown(&self, _: Shutdown) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn peek(&self, _: &mut [u8]) -> io::Result<usize> {
        let state = self.state();
        assert!(!state.blocks, "a look ahead that waits");
        match (state.pending.is_empty(), state.has_ended) {
            (false, _) => Ok(1),
            (true, true) => Ok(0),
            (true, false) => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        if state.pending.is_empty() && !state.has_ended {
            if !state.blocks {
                return Err(ErrorKind::WouldBlock.into());
            }
            match next() {
                Some(Answer::Bytes(bytes)) => state.pending = framed(bytes).into(),
                Some(Answer::Silence) => {
                    pass(state.patience);
                    return Err(ErrorKind::WouldBlock.into());
                }
                Some(Answer::Reset) => {
                    state.has_ended = true;
                    return Err(ErrorKind::ConnectionReset.into());
                }
                Some(Answer::End) | None => state.has_ended = true,
            }
        }
        state.pending.read(buffer)
    }
}

impl Write for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.state().has_ended {
            return Err(ErrorKind::BrokenPipe.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket takes no time-out, and the zero that it would take for none, for ever.
fn bounded(wait: Option<Duration>) -> Duration {
    wait.filter(|wait| !wait.is_zero())
        .expect("a wait that has an end")
}

fn framed(bytes: Vec<u8>) -> Vec<u8> {
    const STATUS: [u16; 8] = [200, 401, 403, 404, 500, 301, 204, 100];
    let chosen = bytes.split_first().and_then(|(first, body)| {
        let status = STATUS.get(usize::from(*first))?;
        Some((status, body))
    });
    match chosen {
        Some((status, body)) if script().manner == Manner::Http => {
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n");
            [head.as_bytes(), body].concat()
        }
        _ => bytes,
    }
}

/// [`super::udp`]'s: an answer is a datagram, and one in two from another address.
#[derive(Debug)]
pub(super) struct Datagrams(bool);

impl Datagrams {
    pub(super) fn open(_: SocketAddr) -> io::Result<Self> {
        Ok(Self(false))
    }

    pub(super) fn send(&self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// A port that nobody listens on any more when the script is at its end.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        until: Instant,
    ) -> io::Result<Option<(usize, bool)>> {
        match next() {
            Some(Answer::Bytes(bytes)) => {
                self.0 = !self.0;
                Ok(Some((bytes.as_slice().read(buffer)?, self.0)))
            }
            Some(Answer::Silence) => {
                pass(until.saturating_duration_since(now()));
                Ok(None)
            }
            Some(Answer::End | Answer::Reset) | None => Err(ErrorKind::ConnectionRefused.into()),
        }
    }
}

/// A program's end and its two streams. An answer's first byte is the exit status (254: killed by
/// a signal); a NUL parts the output from the error output.
pub(super) fn program(
    deadline: Deadline,
) -> Result<(Result<ExitStatus, TransportError>, [Vec<u8>; 2]), TransportError> {
    let left = deadline.left("running a program")?;
    let late = || TransportError::new(TransportErrorKind::Timeout, "the program was killed");
    let (status, said) = match next() {
        Some(Answer::Bytes(bytes)) => match bytes.split_first() {
            Some((254, said)) => (Ok(ExitStatus::from_raw(9)), said.to_vec()),
            Some((status, said)) => (
                Ok(ExitStatus::from_raw(i32::from(*status) << 8)),
                said.to_vec(),
            ),
            None => (Ok(ExitStatus::default()), Vec::new()),
        },
        Some(Answer::Silence) => {
            pass(left);
            (Err(late()), Vec::new())
        }
        Some(Answer::End | Answer::Reset) | None => {
            (Ok(ExitStatus::from_raw(127 << 8)), Vec::new())
        }
    };
    let mut streams = said.splitn(2, |byte| *byte == 0).map(<[u8]>::to_vec);
    Ok((status, [(); 2].map(|()| streams.next().unwrap_or_default())))
}

/// A program that stays running: an answer is what it prints.
#[derive(Debug)]
pub struct Companion {
    said: VecDeque<u8>,
}

#[allow(missing_docs)]
impl Companion {
    pub fn start<P>(_: P, _: &str, _: Vec<String>, _: Deadline) -> Result<Self, TransportError> {
        match script().answers.is_empty() {
            true => Err(TransportError::new(
                TransportErrorKind::NotFound,
                "cannot run it",
            )),
            false => Ok(Self {
                said: VecDeque::new(),
            }),
        }
    }

    pub fn has_ended(&mut self) -> bool {
        false
    }

    pub fn ask<T>(
        &mut self,
        _: &str,
        timed: impl super::Timed,
        read: impl FnOnce(&str) -> Result<T, TransportError>,
    ) -> Result<T, TransportError> {
        let left = timed.deadline().left("an answer")?;
        timed.sent();
        loop {
            if let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.said.drain(..=end).collect();
                return read(&String::from_utf8_lossy(&line));
            }
            match next() {
                Some(Answer::Bytes(bytes)) => {
                    self.said.extend(bytes);
                    self.said.push_back(b'\n');
                }
                Some(Answer::Silence) => {
                    pass(left);
                    return Err(TransportError::new(
                        TransportErrorKind::Timeout,
                        "no answer in time",
                    ));
                }
                Some(Answer::End | Answer::Reset) | None => {
                    return Err(TransportError::new(
                        TransportErrorKind::Closed,
                        "the program has ended",
                    ));
                }
            }
        }
    }
}

/// As much of the crate `nusb` as `transport::usb` uses. The device takes every byte; a reading
/// gets the script's next answer.
#[allow(missing_docs)]
pub mod nusb {
    use super::{Answer, Duration, next, pass, script};
    use std::marker::PhantomData;
    use std::path::Path;

    pub use ::nusb::{ErrorKind, Speed};

    pub mod descriptors {
        pub use ::nusb::descriptors::TransferType;
    }

    pub mod transfer {
        pub use ::nusb::transfer::{
            Buffer, Completion, ControlIn, ControlOut, ControlType, EndpointDirection, In,
            Interrupt, Out, Recipient, TransferError,
        };
    }

    use transfer::{Buffer, Completion, ControlIn, ControlOut, TransferError};

    /// What nusb's futures come to.
    #[derive(Debug)]
    pub struct Ready<T>(T);

    impl<T> Ready<T> {
        pub fn wait(self) -> T {
            self.0
        }
    }

    #[derive(Debug)]
    pub struct Error(ErrorKind);

    impl Error {
        pub fn kind(&self) -> ErrorKind {
            self.0
        }
    }

    impl std::fmt::Display for Error {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{:?}", self.0)
        }
    }

    #[derive(Clone, Debug)]
    pub struct DeviceInfo {
        pub vendor: u16,
        pub product: u16,
        pub release: u16,
        pub class: u8,
        pub speed: Speed,
        pub serial: Option<String>,
        pub name: Option<String>,
        /// As `/sys/bus/usb/devices/1-2`.
        pub sysfs: &'static str,
        /// Addresses of its interrupt endpoints.
        pub endpoints: Vec<u8>,
    }

    impl DeviceInfo {
        pub fn busnum(&self) -> u8 {
            1
        }
        pub fn port_chain(&self) -> &[u8] {
            &[]
        }
        pub fn vendor_id(&self) -> u16 {
            self.vendor
        }
        pub fn product_id(&self) -> u16 {
            self.product
        }
        pub fn serial_number(&self) -> Option<&str> {
            self.serial.as_deref()
        }
        pub fn product_string(&self) -> Option<&str> {
            self.name.as_deref()
        }
        pub fn device_version(&self) -> u16 {
            self.release
        }
        pub fn class(&self) -> u8 {
            self.class
        }
        pub fn speed(&self) -> Option<Speed> {
            Some(self.speed)
        }
        pub fn sysfs_path(&self) -> &Path {
            Path::new(self.sysfs)
        }
        pub fn device_address(&self) -> u8 {
            1
        }
        pub fn open(&self) -> Ready<Result<Device, Error>> {
            Ready(Ok(Device(self.clone())))
        }
    }

    #[derive(Debug)]
    pub struct BusInfo(DeviceInfo);

    impl BusInfo {
        pub fn root_hub(&self) -> &DeviceInfo {
            &self.0
        }
    }

    pub fn list_buses() -> Ready<Result<impl Iterator<Item = BusInfo>, Error>> {
        Ready(Ok(std::iter::empty()))
    }

    pub fn list_devices() -> Ready<Result<impl Iterator<Item = DeviceInfo>, Error>> {
        Ready(Ok(script().devices.clone().into_iter()))
    }

    /// The bytes of the device within `wait`.
    fn come(wait: Duration) -> Result<Vec<u8>, TransferError> {
        match next() {
            Some(Answer::Bytes(bytes)) => Ok(bytes),
            Some(Answer::Silence) => {
                pass(wait);
                Err(TransferError::Cancelled)
            }
            Some(Answer::Reset) => Err(TransferError::Stall),
            Some(Answer::End) | None => Err(TransferError::Disconnected),
        }
    }

    /// The device takes the bytes, unless the script says otherwise.
    fn go() -> Result<(), TransferError> {
        let refused = script().answers.front() == Some(&Answer::Reset);
        if refused {
            come(Duration::ZERO).map(drop)
        } else {
            Ok(())
        }
    }

    #[derive(Clone, Debug)]
    pub struct Device(DeviceInfo);

    impl Device {
        pub fn control_in(
            &self,
            request: ControlIn,
            wait: Duration,
        ) -> Ready<Result<Vec<u8>, TransferError>> {
            let most = usize::from(request.length);
            Ready(come(wait).map(|mut bytes| {
                bytes.truncate(most);
                bytes
            }))
        }

        pub fn control_out(
            &self,
            _: ControlOut<'_>,
            _: Duration,
        ) -> Ready<Result<(), TransferError>> {
            Ready(go())
        }

        pub fn detach_kernel_driver(&self, _: u8) -> Result<(), Error> {
            Ok(())
        }

        pub fn attach_kernel_driver(&self, _: u8) -> Result<(), Error> {
            Ok(())
        }

        pub fn claim_interface(&self, number: u8) -> Ready<Result<Interface, Error>> {
            Ready(Ok(Interface(number, self.0.endpoints.clone())))
        }
    }

    #[derive(Debug)]
    pub struct Interface(u8, Vec<u8>);

    impl Interface {
        pub fn interface_number(&self) -> u8 {
            self.0
        }
        pub fn descriptor(&self) -> Option<&Self> {
            Some(self)
        }
        pub fn endpoints(&self) -> impl Iterator<Item = EndpointAddress> {
            self.1.iter().map(|address| EndpointAddress(*address))
        }
        pub fn endpoint<T, D>(&self, _: u8) -> Result<Endpoint<T, D>, Error> {
            Ok(Endpoint {
                room: None,
                late: false,
                kind: PhantomData,
            })
        }
    }

    #[derive(Clone, Copy, Debug)]
    pub struct EndpointAddress(u8);

    impl EndpointAddress {
        pub fn address(&self) -> u8 {
            self.0
        }
        pub fn transfer_type(&self) -> descriptors::TransferType {
            descriptors::TransferType::Interrupt
        }

        pub fn interval(&self) -> u8 {
            1
        }
    }

    pub struct Endpoint<T, D> {
        room: Option<Buffer>,
        late: bool,
        kind: PhantomData<(T, D)>,
    }

    impl<T, D> std::fmt::Debug for Endpoint<T, D> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Endpoint")
        }
    }

    impl<T, D: transfer::EndpointDirection> Endpoint<T, D> {
        pub fn max_packet_size(&self) -> usize {
            8
        }

        pub fn submit(&mut self, buffer: Buffer) {
            assert!(self.room.is_none(), "two transfers at a time");
            self.room = Some(buffer);
        }

        pub fn wait_next_complete(&mut self, wait: Duration) -> Option<Completion> {
            let is_in = D::DIR == ::nusb::transfer::Direction::In;
            let result = if std::mem::take(&mut self.late) {
                Err(TransferError::Cancelled)
            } else {
                let result = if is_in {
                    come(wait)
                } else {
                    go().map(|()| Vec::new())
                };
                if result == Err(TransferError::Cancelled) {
                    return None;
                }
                result
            };
            let room = self.room.take()?;
            let (mut bytes, status) = match result {
                Ok(bytes) => (bytes, Ok(())),
                Err(error) => (Vec::new(), Err(error)),
            };
            if is_in {
                bytes.truncate(room.requested_len());
            }
            Some(Completion {
                actual_len: bytes.len(),
                buffer: Buffer::from(bytes),
                status,
            })
        }

        pub fn cancel_all(&mut self) {
            self.late = true;
        }
    }
}
