//! Profiles of PDUs that speak over a stream of bytes: telnet, TCP or a serial line.
//!
//! Here is how such a stream is opened; [`line`] has the engine for dialogues, [`bytes`] the one for
//! byte protocols.

pub(super) mod bytes;
pub(super) mod line;

use super::Host;
use super::profile::{Over, Site};
use crate::settings::{Address, Key, Keys, Settings, SettingsError, Value, keys, words};
use crate::transport::expect::ByteStream;
use crate::transport::serial::{self, Line};
use crate::transport::tcp::Connection;
use crate::transport::telnet::{Telnet, Terminal};
use crate::transport::{Deadline, TransportError};
use std::num::{NonZeroU16, NonZeroU32};

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
    struct Choice {
        over: Option<Over> => "the first", "what the PDU is reached over";
    }
}

words! { Over: "telnet" = Over::Telnet, "tcp" = Over::Tcp, "serial" = Over::Serial }

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
    if is_over(&[Over::Telnet, Over::Tcp]) {
        keys.extend(Net::rows());
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
#[derive(Clone, Debug)]
enum Way {
    Telnet(Address),
    Tcp(Address),
    Serial(serial::Port, u32),
}

impl Way {
    fn read(site: &Site, settings: &Settings) -> Result<Self, SettingsError> {
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
        let address = net
            .host
            .address(settings, net.port.map_or(site.port, NonZeroU16::get))?;
        Ok(match over {
            Over::Telnet => Self::Telnet(address),
            Over::Tcp | Over::Serial => Self::Tcp(address),
        })
    }
}

/// Opens streams to a PDU, or to a test in its place.
trait Desk: Send {
    type Stream: ByteStream + Send;

    fn open(&mut self, deadline: Deadline) -> Result<Self::Stream, TransportError>;

    /// Is a stream that was idle still there? What came meanwhile is forgotten.
    fn is_alive(&self, stream: &mut Self::Stream, deadline: Deadline) -> bool;
}

/// An open stream.
enum Open {
    Telnet(Telnet),
    Tcp(Connection),
    Serial(Line),
}

impl Desk for Way {
    type Stream = Open;

    fn open(&mut self, deadline: Deadline) -> Result<Open, TransportError> {
        Ok(match self {
            Self::Telnet(address) => {
                let terminal = Terminal::open(&address.host, address.port, deadline)?;
                Open::Telnet(terminal.stream)
            }
            Self::Tcp(address) => {
                Open::Tcp(Connection::open(&address.host, address.port, deadline)?)
            }
            Self::Serial(port, baud) => Open::Serial(Line::open(port, *baud, deadline)?),
        })
    }

    fn is_alive(&self, stream: &mut Open, deadline: Deadline) -> bool {
        match stream {
            Open::Telnet(telnet) => telnet.is_alive(deadline),
            Open::Tcp(connection) => connection.discard_input().is_ok(),
            Open::Serial(line) => line.discard_input().is_ok(),
        }
    }
}

impl ByteStream for Open {
    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), TransportError> {
        match self {
            // The Return key, as the two ends have negotiated it.
            Self::Telnet(telnet) => match bytes.strip_suffix(b"\r\n") {
                Some(line) => telnet.send(&[line, b"\r"].concat(), deadline),
                None => telnet.send(bytes, deadline),
            },
            Self::Tcp(connection) => connection.send(bytes, deadline),
            Self::Serial(line) => line.send(bytes, deadline),
        }
    }

    fn receive(&mut self, into: &mut Vec<u8>, deadline: Deadline) -> Result<bool, TransportError> {
        let mut buffer = [0; 4096];
        let more = match self {
            Self::Telnet(telnet) => return telnet.receive(into, deadline),
            Self::Tcp(connection) => connection.receive(&mut buffer, deadline)?,
            Self::Serial(line) => line.receive(&mut buffer, deadline)?,
        };
        into.extend_from_slice(buffer.get(..more).unwrap_or_default());
        Ok(more > 0)
    }
}
