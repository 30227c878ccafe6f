//! Profiles of PDUs that speak over a stream of bytes: telnet, TCP or a serial line.
//!
//! Here is how such a stream is opened; [`line`] has the engine for dialogues, [`bytes`] the one for
//! byte protocols, [`taped`] writes down what either says.

pub(super) mod bytes;
pub(super) mod line;
mod taped;

use super::profile::engine::Pace;
use super::profile::{Bound, Over, Site};
use super::{DriverError, Host};
use crate::settings::{Address, Key, Keys, Settings, SettingsError, Value, keys, words};
use crate::transport::expect::ByteStream;
use crate::transport::serial::{self, Line};
use crate::transport::ssh::{HostKey, Shell, Target};
use crate::transport::tcp::Connection;
use crate::transport::telnet::{Telnet, Terminal};
use crate::transport::{Deadline, TransportError};
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

keys! {
    /// Where a PDU on a network is.
    struct Net {
        ..host: Host;
        port: Option<NonZeroU16> => "the profile's", "TCP port, when the address names none";
    }
}

keys! {
    /// Which serial line a PDU is on.
    struct Serial {
        device: PortName = "/dev/ttyUSB0",
            "the serial line: a path (also below /dev/serial/by-id), usb:<serial number of the \
             adapter> or socket://<host>:<port> for a serial server's raw port";
        baud: Option<NonZeroU32> => "the profile's", "the serial line's speed";
    }
}

keys! {
    /// What the ssh client may be told.
    struct Files {
        known_hosts: Option<String>,
            "over ssh: file with the trusted host keys; the ssh client's own when absent. A new host's key is trusted and remembered";
        key_file: Option<String>, "over ssh: private key to log in with; the ssh client's own when absent";
    }
}

keys! {
    struct Choice {
        over: Option<Over> => "the first", "what the PDU is reached over";
    }
}

words! {
    Over: "telnet" = Over::Telnet, "ssh" = Over::Ssh, "tcp" = Over::Tcp, "serial" = Over::Serial
}

/// A serial line as the config names it.
struct PortName(serial::Port);

impl Value for PortName {
    const KIND: &'static str = "text";

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        serial::Port::parse(&String::read(json)?).map(Self)
    }
}

/// The keys of a PDU that is reached over one of these, whatever its profile adds.
pub(super) fn keys(over: &[Over]) -> Vec<Key> {
    let is_over = |some: &[Over]| over.iter().any(|one| some.contains(one));
    let mut keys = Vec::new();
    if is_over(&[Over::Telnet, Over::Ssh, Over::Tcp]) {
        keys.extend(Net::rows());
    }
    if is_over(&[Over::Ssh]) {
        keys.extend(Files::rows());
    }
    if is_over(&[Over::Serial]) {
        keys.extend(Serial::rows());
    }
    if over.len() > 1 {
        keys.extend(Choice::rows());
    }
    keys
}

/// Where a PDU is.
#[derive(Debug)]
struct Way {
    reach: Reach,
    gap: Duration,
}

/// How a PDU is reached.
#[derive(Debug)]
enum Reach {
    Telnet(Address),
    Ssh(Box<Target>),
    Tcp(Address),
    Serial(serial::Port, u32),
}

impl Way {
    fn read(site: &Site, settings: &Settings, bound: &Bound) -> Result<Self, SettingsError> {
        Ok(Self {
            reach: Reach::read(site, settings, bound)?,
            gap: bound.profile.gap,
        })
    }
}

impl Reach {
    fn read(site: &Site, settings: &Settings, bound: &Bound) -> Result<Self, SettingsError> {
        let choice: Choice = settings.keys()?;
        let over = choice.over.or_else(|| site.over.first().copied());
        let Some(over) = over.filter(|over| site.over.contains(over)) else {
            let known: Vec<String> = site.over.iter().map(ToString::to_string).collect();
            return Err(settings.error("over", format!("expected {}", known.join(" or "))));
        };
        if over == Over::Serial {
            let serial: Serial = settings.keys()?;
            let baud = serial.baud.map_or(site.baud, NonZeroU32::get);
            return Ok(Self::Serial(serial.device.0, baud));
        }
        let net: Net = settings.keys()?;
        let usual = match over {
            Over::Ssh => 22,
            Over::Telnet | Over::Tcp | Over::Serial => site.port,
        };
        let address = net
            .host
            .address(settings, net.port.map_or(usual, NonZeroU16::get))?;
        Ok(match over {
            Over::Telnet => Self::Telnet(address),
            Over::Ssh => Self::Ssh(Box::new(target(address, settings, bound)?)),
            Over::Tcp | Over::Serial => Self::Tcp(address),
        })
    }
}

/// Who logs in over ssh, and where.
fn target(address: Address, settings: &Settings, bound: &Bound) -> Result<Target, SettingsError> {
    let files: Files = settings.keys()?;
    let key = |name: &str| {
        bound
            .keys()
            .get(name)
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    let named = [
        ("known_hosts", &files.known_hosts),
        ("key_file", &files.key_file),
    ];
    let is_odd = |file: &String| file.is_empty() || file.contains(['"', '\n']);
    if let Some((name, _)) = named
        .iter()
        .find(|(_, file)| file.as_ref().is_some_and(is_odd))
    {
        return Err(settings.error(name, "expected the path of a file"));
    }
    let target = Target {
        host: address.host,
        port: Some(address.port),
        user: key("username"),
        password: key("password"),
        host_key: HostKey::AcceptNew,
        known_hosts: files.known_hosts,
        key_file: files.key_file,
        options: &[],
    };
    match target.is_valid() {
        true => Ok(target),
        false => {
            let what = "expected a user name and a host, neither with a dash in front";
            Err(settings.error("username", what))
        }
    }
}

/// Opens streams to a PDU, or to a test in its place.
trait Desk: Send {
    type Stream: ByteStream + Send;

    /// What it is reached over.
    fn over(&self) -> Over;

    fn open(&mut self, deadline: Deadline) -> Result<Self::Stream, DriverError>;

    /// Is a stream that was idle still there? What came meanwhile is forgotten.
    fn is_alive(&self, stream: &mut Self::Stream, deadline: Deadline) -> bool;
}

/// An open stream, of whom a PDU may need a pause between two commands.
struct Open {
    stream: Stream,
    pace: Pace,
}

enum Stream {
    Telnet(Telnet),
    Ssh(Shell),
    Tcp(Connection),
    Serial(Line),
}

impl Desk for Way {
    type Stream = Open;

    fn over(&self) -> Over {
        match self.reach {
            Reach::Telnet(_) => Over::Telnet,
            Reach::Ssh(_) => Over::Ssh,
            Reach::Tcp(_) => Over::Tcp,
            Reach::Serial(..) => Over::Serial,
        }
    }

    fn open(&mut self, deadline: Deadline) -> Result<Open, DriverError> {
        let stream = match &self.reach {
            Reach::Telnet(address) => {
                let terminal = Terminal::open(&address.host, address.port, deadline)?;
                Stream::Telnet(terminal.stream)
            }
            Reach::Ssh(target) => Stream::Ssh(Shell::open(target, deadline)?),
            Reach::Tcp(address) => {
                Stream::Tcp(Connection::open(&address.host, address.port, deadline)?)
            }
            Reach::Serial(port, baud) => Stream::Serial(Line::open(port, *baud, deadline)?),
        };
        let pace = Pace::new(self.gap);
        Ok(Open { stream, pace })
    }

    fn is_alive(&self, open: &mut Open, deadline: Deadline) -> bool {
        match &mut open.stream {
            Stream::Telnet(telnet) => telnet.is_alive(deadline),
            Stream::Ssh(shell) => shell.is_alive(),
            Stream::Tcp(connection) => connection.discard_input().is_ok(),
            Stream::Serial(line) => line.discard_input().is_ok(),
        }
    }
}

impl ByteStream for Open {
    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), TransportError> {
        self.pace.wait(deadline)?;
        // The Return key of a terminal, as the two ends have negotiated it.
        let key = |bytes: &[u8]| match bytes.strip_suffix(b"\r\n") {
            Some(line) => [line, b"\r"].concat(),
            None => bytes.to_vec(),
        };
        let sent = match &mut self.stream {
            Stream::Telnet(telnet) => telnet.send(&key(bytes), deadline),
            Stream::Ssh(shell) => shell.send(&key(bytes), deadline),
            Stream::Tcp(connection) => connection.send(bytes, deadline),
            Stream::Serial(line) => line.send(bytes, deadline),
        };
        self.pace.begin();
        sent
    }

    fn receive(&mut self, into: &mut Vec<u8>, deadline: Deadline) -> Result<bool, TransportError> {
        let mut buffer = [0; 4096];
        let more = match &mut self.stream {
            Stream::Telnet(telnet) => telnet.receive(into, deadline),
            Stream::Ssh(shell) => shell.receive(into, deadline),
            Stream::Tcp(connection) => {
                let more = connection.receive(&mut buffer, deadline);
                more.map(|more| take(&buffer, more, into))
            }
            Stream::Serial(line) => {
                let more = line.receive(&mut buffer, deadline);
                more.map(|more| take(&buffer, more, into))
            }
        };
        // A PDU that answers is not done before.
        self.pace.begin();
        more
    }
}

fn take(buffer: &[u8], more: usize, into: &mut Vec<u8>) -> bool {
    into.extend_from_slice(buffer.get(..more).unwrap_or_default());
    more > 0
}
