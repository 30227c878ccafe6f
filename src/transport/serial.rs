//! Serial lines: a tty by its path or by the serial number of its USB adapter, or a TCP port that
//! leads to one. Every step has a deadline.

use super::aside::{aside, finish_aside};
use super::tcp::Connection;
use super::{Deadline, Timed, TransportError, TransportErrorKind, printable};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use serialport::{ClearBuffer, SerialPort, TTYPort};
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a serial line is found, as a config names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// `/dev/ttyACM0`, `/dev/serial/by-id/...`: a tty.
    Path(PathBuf),
    /// `usb:A6008isP`: the tty of the USB device with this serial number.
    Usb(String),
    /// `socket://host:port`: a serial server's raw TCP port.
    Socket {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
}

impl Port {
    /// Reads the value of a `device` key. Fails with a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = "expected a path, usb:<serial number> or socket://<host>:<port>";
        let wrong = || format!("{expected}, got {text:?}");
        if let Some(serial) = text.strip_prefix("usb:") {
            let serial = serial.trim();
            if serial.is_empty() {
                return Err(wrong());
            }
            return Ok(Self::Usb(serial.to_owned()));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            if scheme != "socket" {
                return Err(format!("{scheme}:// is not spoken here; {expected}"));
            }
            // pyserial takes options (?logging=...) that mean nothing here.
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (host, port) = rest
                .get(..end)
                .and_then(|rest| rest.rsplit_once(':'))
                .ok_or_else(wrong)?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let port = port.parse().ok().filter(|port| *port > 0);
            return match port {
                Some(port) if !host.is_empty() => Ok(Self::Socket {
                    host: host.to_owned(),
                    port,
                }),
                _ => Err(wrong()),
            };
        }
        if text.is_empty() || text.contains('\0') {
            return Err(wrong());
        }
        Ok(Self::Path(PathBuf::from(text)))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Usb(serial) => write!(f, "usb:{serial}"),
            Self::Socket { host, port } => write!(f, "socket://{host}:{port}"),
        }
    }
}

/// How long closing a tty may take after its last deadline, in vain or not; and how much of that the
/// last bytes have to leave it.
const CLOSING: Duration = Duration::from_millis(50);
const DRAINING: Duration = Duration::from_millis(30);

const CLOSED: &str = "the serial line is closed";

/// An open serial line, held by nobody else.
#[derive(Debug)]
pub struct Line {
    end: End,
    /// By when it may be closed: that of the last call.
    deadline: Deadline,
}

#[derive(Debug)]
enum End {
    Tty(Tty),
    Socket(Connection),
    /// Only while it is dropped.
    Closed,
}

impl Line {
    fn new(end: End, deadline: Deadline) -> Self {
        Self { end, deadline }
    }

    /// Opens a line with 8 data bits, no parity and 1 stop bit at `baud`.
    pub fn open(port: &Port, baud: u32, deadline: Deadline) -> Result<Self, TransportError> {
        let open: Box<dyn FnOnce() -> Result<Tty, TransportError> + Send> = match port.clone() {
            Port::Path(path) => Box::new(move || Tty::open(&path, baud)),
            Port::Usb(serial) => Box::new(move || Tty::open(&find_usb(&serial)?, baud)),
            Port::Socket { host, port } => {
                let connection = Connection::open(&host, port, deadline)?;
                return Ok(Self::new(End::Socket(connection), deadline));
            }
        };
        // The kernel asks an adapter that hangs for seconds before it gives up.
        let doing = format!("opening {port}");
        let tty = aside(&doing, TransportErrorKind::Busy, deadline, open)??;
        Ok(Self::new(End::Tty(tty), deadline))
    }

    /// Sends all of `bytes`.
    pub fn send(&mut self, bytes: &[u8], timed: impl Timed) -> Result<(), TransportError> {
        self.deadline = timed.deadline();
        match &mut self.end {
            End::Closed => return Err(gone(CLOSED)),
            End::Tty(tty) => tty.send(bytes, self.deadline)?,
            End::Socket(connection) => connection.send(bytes, self.deadline)?,
        }
        timed.sent();
        Ok(())
    }

    /// What has come, at most `buffer` of it and at least a byte.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        deadline: Deadline,
    ) -> Result<usize, TransportError> {
        self.deadline = deadline;
        match &mut self.end {
            End::Closed => Err(gone(CLOSED)),
            End::Tty(tty) => tty.receive(buffer, deadline),
            End::Socket(connection) => match connection.receive(buffer, deadline)? {
                0 => Err(gone("the serial server closed the connection")),
                count => Ok(count),
            },
        }
    }

    /// Exactly `N` bytes; the error says which of them came.
    pub fn receive_exact<const N: usize>(
        &mut self,
        deadline: Deadline,
    ) -> Result<[u8; N], TransportError> {
        let mut answer = [0; N];
        let mut have = 0;
        while have < N {
            let room = answer.get_mut(have..).unwrap_or_default();
            match self.receive(room, deadline) {
                Ok(more) => have += more,
                Err(error) => return Err(with_got(error, answer.get(..have).unwrap_or_default())),
            }
        }
        Ok(answer)
    }

    /// Everything up to and with the byte `end`, at most `most` bytes.
    pub fn receive_until(
        &mut self,
        end: u8,
        most: usize,
        deadline: Deadline,
    ) -> Result<Vec<u8>, TransportError> {
        let mut answer = Vec::new();
        loop {
            let mut byte = [0];
            if let Err(error) = self.receive(&mut byte, deadline) {
                return Err(with_got(error, &answer));
            }
            answer.extend_from_slice(&byte);
            if byte == [end] {
                return Ok(answer);
            }
            if answer.len() >= most {
                return Err(TransportError::new(
                    TransportErrorKind::Garbled,
                    format!("no end after {most} bytes: {}", printable(&answer)),
                ));
            }
        }
    }

    /// Closes it, by the deadline if that can be.
    pub fn close(mut self, deadline: Deadline) {
        self.deadline = deadline;
    }

    /// Throws away what came unasked. Fails when the line is lost.
    pub fn discard_input(&mut self) -> Result<(), TransportError> {
        match &mut self.end {
            End::Closed => Err(gone(CLOSED)),
            End::Tty(tty) => tty.discard_input(),
            End::Socket(connection) => connection.discard_input(),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let End::Tty(tty) = std::mem::replace(&mut self.end, End::Closed) {
            // As with opening it.
            let deadline = self.deadline.max(Deadline::after(CLOSING));
            finish_aside(deadline, move || drop(tty));
        }
    }
}

/// Adds what had come to an error.
fn with_got(error: TransportError, got: &[u8]) -> TransportError {
    TransportError {
        detail: format!("{} (got {})", error.detail, printable(got)),
        ..error
    }
}

fn gone(detail: &str) -> TransportError {
    TransportError::new(TransportErrorKind::Closed, detail)
}

/// A tty. `serialport` sets it up and holds it; bytes go through a descriptor of our own that
/// never blocks, since `serialport`'s writes may wait without a bound once a byte fits.
#[derive(Debug)]
struct Tty {
    io: OwnedFd,
    port: TTYPort,
}

impl Tty {
    fn open(path: &Path, baud: u32) -> Result<Self, TransportError> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let failed = |errno| open_error(path, errno);
        let io = open(path, flags, Mode::empty()).map_err(failed)?;
        // Asked first: `serialport` takes the kernel's exclusive mode away from the holder when
        // it fails to get the lock.
        flock(&io, FlockOperation::NonBlockingLockExclusive).map_err(failed)?;
        flock(&io, FlockOperation::Unlock).map_err(failed)?;
        let port = serialport::new(path.to_string_lossy(), baud)
            .exclusive(true)
            .open_native()
            .map_err(|error| match error.kind {
                serialport::ErrorKind::NoDevice => failed(Errno::BUSY),
                serialport::ErrorKind::Io(std::io::ErrorKind::NotFound) => failed(Errno::NOENT),
                serialport::ErrorKind::Io(std::io::ErrorKind::PermissionDenied) => {
                    failed(Errno::ACCESS)
                }
                serialport::ErrorKind::Io(_)
                | serialport::ErrorKind::InvalidInput
                // Nothing was sent, so not a kind that may have reached the PDU.
                | serialport::ErrorKind::Unknown => TransportError::new(
                    TransportErrorKind::NotFound,
                    format!("cannot set up {} as a serial line: {error}", path.display()),
                ),
            })?;
        Ok(Self { io, port })
    }

    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), TransportError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.wait(PollFlags::OUT, "sending", deadline)?;
            match rustix::io::write(&self.io, rest) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(io_error("sending", errno)),
            }
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8], deadline: Deadline) -> Result<usize, TransportError> {
        loop {
            self.wait(PollFlags::IN, "waiting for an answer", deadline)?;
            match rustix::io::read(&self.io, &mut *buffer) {
                Ok(0) => return Err(gone("the serial device is gone")),
                Ok(count) => return Ok(count),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(io_error("waiting for an answer", errno)),
            }
        }
    }

    /// By reading, since the kernel's flush leaves what it has not yet handed on.
    fn discard_input(&mut self) -> Result<(), TransportError> {
        let mut stray = [0; 1024];
        for _ in 0..64 {
            match rustix::io::read(&self.io, &mut stray) {
                Ok(0) => return Err(gone("the serial device is gone")),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(io_error("looking for stray input", errno)),
            }
        }
        Err(TransportError::new(
            TransportErrorKind::Garbled,
            "the PDU sends without being asked and does not stop",
        ))
    }

    fn wait(&self, what: PollFlags, doing: &str, deadline: Deadline) -> Result<(), TransportError> {
        loop {
            let left = deadline
                .left(doing)
                .map_err(|error| TransportError {
                    detail: format!("no answer in time while {doing}"),
                    ..error
                })?
                .try_into()
                .map_err(|_| gone("the deadline is too far away"))?;
            let mut fds = [PollFd::new(&self.io, what)];
            match poll(&mut fds, Some(&left)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(io_error(doing, errno)),
            }
        }
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // A command that has no answer may still be on its way.
        let patience = Deadline::after(DRAINING);
        while self.port.bytes_to_write().is_ok_and(|bytes| bytes > 0) {
            if patience.left("the last bytes").is_err() {
                // Closing would wait (up to 30 s) for bytes that a dead device does not take.
                let _ = self.port.clear(ClearBuffer::Output);
                return;
            }
            super::pause(Duration::from_millis(1));
        }
    }
}

fn io_error(doing: &str, errno: Errno) -> TransportError {
    match errno {
        // What a tty says when its device was unplugged.
        Errno::IO | Errno::NODEV | Errno::NXIO => {
            gone(&format!("{doing}: the serial device is gone ({errno})"))
        }
        _ => TransportError::broken(doing, &errno.into()),
    }
}

/// Why a tty could not be opened, with what can be done about it.
fn open_error(path: &Path, errno: Errno) -> TransportError {
    use TransportErrorKind as K;
    let path = path.display();
    let (kind, detail) = match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::NOTDIR => (
            K::NotFound,
            format!("there is no {path}: is it plugged in?"),
        ),
        Errno::ACCESS => (
            K::NoPermission,
            format!("no permission to open {path}: the user must be in the group dialout"),
        ),
        // What systemd's DevicePolicy says, whatever the file's permissions are.
        Errno::PERM => (
            K::NoPermission,
            format!(
                "no permission to open {path}: the service's unit does not let it (a drop-in \
                 with DeviceAllow={path} does)"
            ),
        ),
        Errno::BUSY | Errno::WOULDBLOCK => {
            (K::Busy, format!("{path} is in use by another program"))
        }
        _ => (K::NotFound, format!("cannot open {path}: {errno}")),
    };
    TransportError::new(kind, detail)
}

/// A tty of a USB adapter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsbTty {
    /// As `/dev/ttyACM0`.
    pub path: PathBuf,
    /// USB vendor id.
    pub vendor: u16,
    /// USB product id.
    pub product: u16,
    /// The adapter's serial number, where it has one.
    pub serial: Option<String>,
    /// What the adapter calls itself, where it does.
    pub product_name: Option<String>,
}

/// Every tty of a USB adapter, in the order of their names.
pub fn usb_ttys() -> Vec<UsbTty> {
    usb_ttys_in(Path::new("/sys/class/tty"))
}

/// `/sys/class/tty` is read here and not through `serialport`, whose listing panics where there is
/// none.
fn usb_ttys_in(class: &Path) -> Vec<UsbTty> {
    let Ok(entries) = std::fs::read_dir(class) else {
        return Vec::new();
    };
    let mut ttys: Vec<UsbTty> = entries
        .flatten()
        .filter_map(|entry| usb_tty(&entry.file_name(), &entry.path().join("device")))
        .collect();
    ttys.sort();
    ttys
}

/// Looks for the USB device above a tty's device.
fn usb_tty(name: &OsStr, device: &Path) -> Option<UsbTty> {
    let device = device.canonicalize().ok()?;
    let usb = device
        .ancestors()
        .find(|folder| folder.join("idVendor").is_file())?;
    let text = |file: &str| {
        let text = std::fs::read_to_string(usb.join(file)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let id = |file| u16::from_str_radix(&text(file)?, 16).ok();
    Some(UsbTty {
        path: Path::new("/dev").join(name),
        vendor: id("idVendor")?,
        product: id("idProduct")?,
        serial: text("serial"),
        product_name: text("product"),
    })
}

fn find_usb(serial: &str) -> Result<PathBuf, TransportError> {
    pick_usb(usb_ttys(), serial)
}

/// The first tty of the adapter with this serial number, or the error that names those there are.
fn pick_usb(ttys: Vec<UsbTty>, serial: &str) -> Result<PathBuf, TransportError> {
    let there: Vec<&str> = ttys
        .iter()
        .filter_map(|tty| tty.serial.as_deref())
        .collect();
    let there = match there.as_slice() {
        [] => "none with a serial number is plugged in".to_owned(),
        serials => format!("there are {}", serials.join(", ")),
    };
    ttys.into_iter()
        .find(|tty| tty.serial.as_deref() == Some(serial))
        .map(|tty| tty.path)
        .ok_or_else(|| {
            TransportError::new(
                TransportErrorKind::NotFound,
                format!("no USB serial adapter has the serial number {serial}: {there}"),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_paths_usb_serials_and_sockets() {
        let path = |text: &str| Ok(Port::Path(text.into()));
        assert_eq!(Port::parse("/dev/ttyACM0"), path("/dev/ttyACM0"));
        let by_id = "/dev/serial/by-id/usb-Numato_Systems-if00";
        assert_eq!(Port::parse(by_id), path(by_id));
        assert_eq!(Port::parse("usb:A600"), Ok(Port::Usb("A600".into())));
        let socket = |host: &str| {
            Ok(Port::Socket {
                host: host.into(),
                port: 4000,
            })
        };
        assert_eq!(Port::parse("socket://ts1:4000"), socket("ts1"));
        assert_eq!(
            Port::parse("socket://ts1:4000/?logging=debug"),
            socket("ts1")
        );
        assert_eq!(Port::parse("socket://[::1]:4000"), socket("::1"));
        for text in ["", "usb:", "socket://ts1", "socket://:1", "socket://h:0"] {
            assert!(Port::parse(text).is_err(), "{text}");
        }
        let error = Port::parse("rfc2217://ts1:4000").expect_err("refused");
        assert!(error.starts_with("rfc2217:// is not spoken"), "{error}");
    }

    #[test]
    fn errors_of_opening_are_told_apart() {
        let error = |errno| open_error(Path::new("/dev/ttyACM0"), errno);
        assert_eq!(error(Errno::NOENT).kind, TransportErrorKind::NotFound);
        assert_eq!(error(Errno::BUSY).kind, TransportErrorKind::Busy);
        let denied = error(Errno::ACCESS);
        assert_eq!(denied.kind, TransportErrorKind::NoPermission);
        assert!(denied.detail.contains("dialout") && denied.detail.contains("/dev/ttyACM0"));
        let denied = error(Errno::PERM);
        assert_eq!(denied.kind, TransportErrorKind::NoPermission);
        assert!(denied.detail.contains("DeviceAllow=/dev/ttyACM0"));
    }

    #[test]
    fn usb_adapters_are_found_in_sysfs() {
        let root = tempfile::tempdir().expect("a folder");
        let class = root.path().join("class/tty");
        std::fs::create_dir_all(&class).expect("a folder");
        for (name, serial) in [("ttyACM1", "B2"), ("ttyACM0", "A1"), ("ttyUSB0", "")] {
            let usb = root.path().join("devices/usb1").join(name);
            let device = usb.join("interface");
            std::fs::create_dir_all(&device).expect("a folder");
            std::fs::create_dir_all(class.join(name)).expect("a folder");
            std::os::unix::fs::symlink(&device, class.join(name).join("device")).expect("a link");
            for (file, text) in [
                ("idVendor", "2a19"),
                ("idProduct", "0c01"),
                ("serial", serial),
            ] {
                std::fs::write(usb.join(file), format!("{text}\n")).expect("a file");
            }
        }
        // A tty without a device, as the consoles are.
        std::fs::create_dir_all(class.join("tty0")).expect("a folder");
        let ttys = usb_ttys_in(&class);
        let names: Vec<_> = ttys.iter().map(|tty| tty.path.to_str().unwrap()).collect();
        assert_eq!(names, ["/dev/ttyACM0", "/dev/ttyACM1", "/dev/ttyUSB0"]);
        assert_eq!((ttys[0].vendor, ttys[0].product), (0x2a19, 0x0c01));
        assert_eq!(pick_usb(ttys.clone(), "B2"), Ok("/dev/ttyACM1".into()));
        let error = pick_usb(ttys, "C3").expect_err("not there");
        assert_eq!(error.kind, TransportErrorKind::NotFound);
        assert!(error.detail.contains("A1, B2"), "{error}");
        assert_eq!(usb_ttys_in(Path::new("/nonexistent")), []);
    }
}
