//! MQTT 3.1.1: a client of a broker that waits for each answer, with as much of the protocol as a
//! switch needs.
//!
//! It publishes with QoS 1, so that the broker says when it has a message, and never asks the broker
//! to retain one: a command that is retained would switch again whenever the PDU comes back. It
//! subscribes to single topics with QoS 0, and keeps the last message of each.

use super::tls::{Stream, Tls, TlsStream, Trust};
use super::{Deadline, Timed, TransportError, TransportErrorKind, Verdict, printable, tcp};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The longest packet, in bytes, and the most that is kept of all topics together.
const MOST_PACKET: usize = 64 * 1024;
const MOST_KEPT: usize = 1024 * 1024;

/// A broker that hears nothing for one and a half times so long ends the connection, in seconds.
const KEEP_ALIVE: u16 = 60;

/// Who waits for a message shows himself so often.
const PING_AFTER: Duration = Duration::from_secs(20);

/// How long a good-bye may take, whatever the deadline.
const LEAVE_PATIENCE: Duration = Duration::from_millis(500);

/// The first bytes of packets; the low four bits of PUBLISH say more.
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const PINGREQ: u8 = 0xc0;
const PINGRESP: u8 = 0xd0;
const DISCONNECT: u8 = 0xe0;

/// Where a broker is, and how it is reached.
#[derive(Clone)]
pub struct Broker {
    host: String,
    port: u16,
    tls: Option<Tls>,
    user: Option<String>,
    password: Option<String>,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broker({}:{})", self.host, self.port)
    }
}

/// Why the broker did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MqttError {
    /// It does not accept the user or password.
    LoginRefused(String),
    /// It refuses something else.
    Refused(String),
    /// The way to it failed.
    Transport(TransportError),
}

impl From<TransportError> for MqttError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

/// The last message of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it says, at most as long as a packet.
    pub text: Vec<u8>,
    /// Was it there before we subscribed?
    pub is_retained: bool,
}

impl Broker {
    /// A broker; nothing is opened yet.
    pub fn new(
        (host, port): (String, u16),
        trust: Option<Trust>,
        (user, password): (Option<String>, Option<String>),
    ) -> Self {
        Self {
            host,
            port,
            tls: trust.map(Tls::new),
            user,
            password,
        }
    }

    /// Connects and logs in.
    pub fn open(&mut self, deadline: Deadline) -> Result<Session, MqttError> {
        let config = self.tls.as_mut().map(Tls::config).transpose()?;
        let hint = "; is a broker there?";
        let connection = tcp::Connection::open_or_hint(&self.host, self.port, deadline, hint)?;
        let mut stream: Box<dyn Stream> = Box::new(connection);
        if let Some(config) = config {
            stream = Box::new(TlsStream::open(stream, &self.host, config, deadline)?);
        }
        let mut session = Session {
            stream,
            input: Vec::new(),
            last_id: 0,
            is_pinging: false,
            topics: BTreeMap::new(),
        };
        session.send(&self.connect()?, deadline)?;
        match session.packet(deadline)? {
            Packet::Welcome(0) => Ok(session),
            Packet::Welcome(code) => Err(refusal(code)),
            other => Err(garbled(&format!("expected a CONNACK, got {other:?}")).into()),
        }
    }

    fn connect(&self) -> Result<Vec<u8>, TransportError> {
        // A clean session; user and password where they are given.
        let flags = 0x02
            | u8::from(self.user.is_some()) << 7
            | u8::from(self.user.is_some() && self.password.is_some()) << 6;
        let mut body = text("MQTT")?;
        body.extend([4, flags]);
        body.extend(KEEP_ALIVE.to_be_bytes());
        // Two clients of one name throw each other out.
        let dice = RandomState::new().build_hasher().finish();
        body.extend(text(&format!("pdud{dice:016x}"))?);
        if let Some(user) = &self.user {
            body.extend(text(user)?);
            if let Some(password) = &self.password {
                body.extend(text(password)?);
            }
        }
        packet(CONNECT, &body)
    }
}

/// What the code of a CONNACK says.
fn refusal(code: u8) -> MqttError {
    let said = |what: &str| format!("the broker refuses the connection: {what} (code {code})");
    match code {
        1 => MqttError::Refused(said("it does not speak MQTT 3.1.1")),
        2 => MqttError::Refused(said("it does not like our client id")),
        3 => TransportError::new(TransportErrorKind::Busy, said("it is not available")).into(),
        4 => MqttError::LoginRefused(said("wrong user or password")),
        5 => MqttError::LoginRefused(said("not authorized")),
        _ => MqttError::Refused(said("it does not say why")),
    }
}

/// An open connection to a broker.
pub struct Session {
    stream: Box<dyn Stream>,
    /// What has come of the next packet.
    input: Vec<u8>,
    last_id: u16,
    /// Is a ping out that the broker has not answered?
    is_pinging: bool,
    topics: BTreeMap<String, Option<Message>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// A packet of the broker's, with what counts of it.
#[derive(Debug, PartialEq, Eq)]
enum Packet {
    Welcome(u8),
    Message {
        topic: String,
        /// What wants a PUBACK has one.
        id: Option<u16>,
        message: Message,
    },
    /// It has the message of this number.
    Received(u16),
    /// What has become of each topic of the subscription of this number.
    Subscribed(u16, Vec<u8>),
    Pong,
}

impl Session {
    /// Subscribes to those of `topics` that it has not subscribed to.
    pub fn subscribe(&mut self, topics: &[String], deadline: Deadline) -> Result<(), MqttError> {
        let is_new = |topic: &&String| !self.topics.contains_key(*topic);
        let new: Vec<String> = topics.iter().filter(is_new).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        let id = self.next_id();
        let mut body = id.to_be_bytes().to_vec();
        for topic in &new {
            body.extend(text(topic)?);
            body.push(0);
        }
        self.topics
            .extend(new.iter().map(|topic| (topic.clone(), None)));
        self.send(&packet(SUBSCRIBE, &body)?, deadline)?;
        let codes = self.until(deadline, |packet| match packet {
            Packet::Subscribed(own, codes) if *own == id => Some(codes.clone()),
            _ => None,
        })?;
        if let Some((topic, _)) = new.iter().zip(&codes).find(|(_, code)| **code > 2) {
            let what = format!("the broker refuses the subscription to {topic}");
            return Err(MqttError::Refused(what));
        }
        if codes.len() != new.len() {
            return Err(garbled("the SUBACK is about other topics").into());
        }
        Ok(())
    }

    /// Publishes `said`, and waits until the broker has it.
    pub fn publish(&mut self, topic: &str, said: &str, timed: impl Timed) -> Result<(), MqttError> {
        let id = self.next_id();
        let mut body = text(topic)?;
        body.extend(id.to_be_bytes());
        body.extend(said.as_bytes());
        // QoS 1.
        self.send(&packet(PUBLISH | 0x02, &body)?, timed.deadline())?;
        timed.sent();
        let is_received = |packet: &Packet| (*packet == Packet::Received(id)).then_some(());
        self.until(timed.deadline(), is_received)
    }

    /// The last message of a topic, since it was forgotten.
    pub fn latest(&self, topic: &str) -> Option<&Message> {
        self.topics.get(topic)?.as_ref()
    }

    /// What comes from now on counts.
    pub fn forget(&mut self, topic: &str) {
        if let Some(kept) = self.topics.get_mut(topic) {
            *kept = None;
        }
    }

    /// Waits for one packet of the broker's.
    pub fn wait(&mut self, deadline: Deadline) -> Result<(), MqttError> {
        self.take(deadline).map(drop)
    }

    /// Takes everything that the broker has sent up to now. A broker sends what is retained right
    /// behind its answer to a subscription, and answers a ping after it.
    pub fn settle(&mut self, deadline: Deadline) -> Result<(), MqttError> {
        self.send(&[PINGREQ, 0], deadline)?;
        self.until(deadline, |packet| (*packet == Packet::Pong).then_some(()))
    }

    /// Says good-bye.
    pub fn leave(mut self, deadline: Deadline) {
        // Nobody is told how it went.
        let _ = self
            .stream
            .send(&[DISCONNECT, 0], deadline.within(LEAVE_PATIENCE));
    }

    fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), TransportError> {
        self.stream.send(bytes, deadline)
    }

    /// Takes packets until `judge` has found what it looks for.
    fn until<T>(
        &mut self,
        deadline: Deadline,
        judge: impl Fn(&Packet) -> Option<T>,
    ) -> Result<T, MqttError> {
        loop {
            if let Some(found) = judge(&self.take(deadline)?) {
                return Ok(found);
            }
        }
    }

    /// Takes one packet; a message is acknowledged, and kept if its topic is one of ours.
    fn take(&mut self, deadline: Deadline) -> Result<Packet, MqttError> {
        let mut packet = self.packet(deadline)?;
        if let Packet::Message { topic, id, message } = &mut packet {
            if let Some(id) = id {
                let [high, low] = id.to_be_bytes();
                self.send(&[PUBACK, 2, high, low], deadline)?;
            }
            if let Some(kept) = self.topics.get_mut(topic) {
                *kept = Some(message.clone());
            }
            let lengths = self.topics.values().flatten().map(|kept| kept.text.len());
            if lengths.sum::<usize>() > MOST_KEPT {
                let what = format!("more than {MOST_KEPT} bytes in the topics of one PDU");
                return Err(garbled(&what).into());
            }
        }
        Ok(packet)
    }

    /// The next packet. While there is none, the broker is pinged now and then.
    fn packet(&mut self, deadline: Deadline) -> Result<Packet, TransportError> {
        loop {
            let slice = deadline.within(PING_AFTER);
            match self.receive(slice) {
                Ok(packet) => {
                    self.is_pinging &= packet != Packet::Pong;
                    return Ok(packet);
                }
                Err(error)
                    if error.kind == TransportErrorKind::Timeout
                        && slice < deadline
                        && !self.is_pinging =>
                {
                    self.send(&[PINGREQ, 0], deadline)?;
                    self.is_pinging = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn receive(&mut self, deadline: Deadline) -> Result<Packet, TransportError> {
        loop {
            if let Some((first, length, start)) = header(&self.input)? {
                let end = start + length;
                if self.input.len() >= end {
                    let rest = self.input.split_off(end);
                    let whole = std::mem::replace(&mut self.input, rest);
                    return read(first, whole.get(start..).unwrap_or_default());
                }
            }
            let mut chunk = [0; 4096];
            let more = self.stream.receive(&mut chunk, deadline)?;
            if more == 0 {
                let what = "the broker closed the connection";
                return Err(TransportError::new(TransportErrorKind::Closed, what));
            }
            self.input.extend(chunk.get(..more).unwrap_or_default());
        }
    }
}

fn garbled(what: &str) -> TransportError {
    TransportError::new(TransportErrorKind::Garbled, format!("not MQTT: {what}"))
}

/// First byte, length and start of the body of the packet that `input` begins with; `None` while it
/// is not known.
fn header(input: &[u8]) -> Result<Option<(u8, usize, usize)>, TransportError> {
    let Some((first, rest)) = input.split_first() else {
        return Ok(None);
    };
    let mut length = 0_usize;
    for (at, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return match length {
                0..=MOST_PACKET => Ok(Some((*first, length, at + 2))),
                _ => Err(garbled(&format!(
                    "a packet of {length} bytes, expected at most {MOST_PACKET}"
                ))),
            };
        }
    }
    match rest.len() {
        0..4 => Ok(None),
        _ => {
            let got = printable(input.get(..5).unwrap_or_default());
            Err(garbled(&format!(
                "expected the length of a packet, got {got}"
            )))
        }
    }
}

/// The packet with this first byte and body.
fn read(first: u8, body: &[u8]) -> Result<Packet, TransportError> {
    let wrong = || {
        let got = printable(&[&[first], body].concat());
        garbled(&format!("expected a packet of a broker, got {got}"))
    };
    let number = |bytes: &[u8]| match bytes {
        [high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    };
    if first & 0xf0 == PUBLISH {
        return message(first, body, number).ok_or_else(wrong);
    }
    match (first, body) {
        (CONNACK, [_, code]) => Ok(Packet::Welcome(*code)),
        (PUBACK, [_, _]) => Ok(Packet::Received(number(body).ok_or_else(wrong)?)),
        (SUBACK, [_, _, codes @ ..]) => Ok(Packet::Subscribed(
            number(body).ok_or_else(wrong)?,
            codes.to_vec(),
        )),
        (PINGRESP, []) => Ok(Packet::Pong),
        _ => Err(wrong()),
    }
}

fn message(first: u8, body: &[u8], number: impl Fn(&[u8]) -> Option<u16>) -> Option<Packet> {
    let (topic, mut rest) = body.get(2..)?.split_at_checked(number(body)?.into())?;
    // QoS 2 is more than was subscribed to.
    let id = match first >> 1 & 3 {
        0 => None,
        1 => {
            let id = number(rest)?;
            rest = rest.get(2..)?;
            Some(id)
        }
        _ => return None,
    };
    Some(Packet::Message {
        topic: String::from_utf8(topic.to_vec()).ok()?,
        id,
        message: Message {
            text: rest.to_vec(),
            is_retained: first & 1 == 1,
        },
    })
}

/// A text with its length before it.
fn text(text: &str) -> Result<Vec<u8>, TransportError> {
    let length = u16::try_from(text.len());
    let length = length.map_err(|_| garbled("a text of more than 65535 bytes"))?;
    Ok([&length.to_be_bytes(), text.as_bytes()].concat())
}

/// A packet with its length before it.
fn packet(first: u8, body: &[u8]) -> Result<Vec<u8>, TransportError> {
    if body.len() > MOST_PACKET {
        return Err(garbled(&format!("a packet of {} bytes", body.len())));
    }
    let (mut bytes, mut rest) = (vec![first], body.len());
    loop {
        let low = u8::try_from(rest & 0x7f).unwrap_or_default();
        rest >>= 7;
        bytes.push(low | if rest > 0 { 0x80 } else { 0 });
        if rest == 0 {
            break;
        }
    }
    bytes.extend(body);
    Ok(bytes)
}

impl Verdict for MqttError {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Transport(error) if error.is_lost())
    }

    fn may_stand(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    fn is_refusal(&self) -> bool {
        match self {
            Self::LoginRefused(_) | Self::Refused(_) => true,
            Self::Transport(error) => error.is_refusal(),
        }
    }
}

impl fmt::Display for MqttError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoginRefused(words) | Self::Refused(words) => f.write_str(words),
            Self::Transport(error) => error.fmt(f),
        }
    }
}

/// Packets of any kind: what is read of them is no longer than they are.
#[cfg(fuzzing)]
pub fn check(mut input: &[u8]) {
    while let Ok(Some((first, length, start))) = header(input) {
        let Some(body) = input.get(start..start + length) else {
            return;
        };
        if let Ok(Packet::Message { message, .. }) = read(first, body) {
            assert!(message.text.len() < length);
        }
        input = input.get(start + length..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_written_as_the_standard_has_them() {
        assert_eq!(packet(PINGREQ, &[]), Ok(vec![0xc0, 0]));
        // 321 is the length that the standard takes apart.
        let long = packet(PUBLISH, &[0; 321]).expect("fits");
        assert_eq!(long.get(..3), Some(&[0x30, 0xc1, 0x02][..]));
        assert_eq!(header(&long), Ok(Some((PUBLISH, 321, 3))));
        assert!(packet(PUBLISH, &[0; MOST_PACKET + 1]).is_err());
        let broker = Broker::new(("h".into(), 1), None, (Some("u".into()), Some("p".into())));
        let connect = broker.connect().expect("fits");
        assert_eq!(
            connect.get(..14),
            Some(&b"\x10\x26\0\x04MQTT\x04\xc2\0\x3c\0\x14"[..])
        );
        assert_eq!(connect.get(34..), Some(&b"\0\x01u\0\x01p"[..]));
    }

    #[test]
    fn packets_of_a_broker_are_read() {
        let message = |text: &str, is_retained, id| Packet::Message {
            topic: "a/b".into(),
            id,
            message: Message {
                text: text.into(),
                is_retained,
            },
        };
        for (first, body, expected) in [
            (0x20, &b"\x01\x05"[..], Packet::Welcome(5)),
            (0x40, b"\x01\x02", Packet::Received(258)),
            (0x90, b"\0\x07\0\x80", Packet::Subscribed(7, vec![0, 0x80])),
            (0xd0, b"", Packet::Pong),
            (0x30, b"\0\x03a/bON", message("ON", false, None)),
            (0x31, b"\0\x03a/b", message("", true, None)),
            (0x32, b"\0\x03a/b\0\x09ON", message("ON", false, Some(9))),
        ] {
            assert_eq!(read(first, body), Ok(expected), "{first:#x}");
        }
        for (first, body) in [
            (0x00, &b""[..]),
            (0x10, b""),
            (0x20, b"\0"),
            (0x30, b""),
            (0x30, b"\0\x04a/b"),
            (0x30, b"\0\x03\xff\xff\xff"),
            (0x32, b"\0\x03a/b\0"),
            (0x34, b"\0\x03a/b\0\x01"),
            (0x90, b"\0"),
            (0xd0, b"\0"),
        ] {
            assert!(read(first, body).is_err(), "{first:#x} {body:?}");
        }
    }

    #[test]
    fn a_length_has_a_bound_and_an_end() {
        for short in [&b""[..], b"\x30", b"\x30\x80", b"\x30\x80\x80\x80"] {
            assert_eq!(header(short), Ok(None), "{short:?}");
        }
        assert_eq!(
            header(b"\x30\x80\x80\x04"),
            Ok(Some((0x30, MOST_PACKET, 4)))
        );
        assert!(header(b"\x30\x81\x80\x04").is_err());
        assert!(header(b"\x30\x80\x80\x80\x80").is_err());
    }
}
