//! Telnet: option negotiation and line ends (RFC 854, 855, 857, 858, 1143).
//!
//! [`Codec`] is the pure half: a state machine from wire bytes to text and replies. It behaves as
//! the inetutils telnet client that the Python program ran: the peer may ECHO and suppress
//! go-ahead, every other option is refused, and nothing is offered unasked.

use super::expect::{ByteStream, Dialogue};
use super::tcp::Connection;
use super::{Deadline, Timed, TransportError};

const IAC: u8 = 255;
const DONT: u8 = 254;
const DO: u8 = 253;
const WONT: u8 = 252;
const WILL: u8 = 251;
const SUBNEGOTIATION: u8 = 250;
const SUBNEGOTIATION_END: u8 = 240;
const ECHO: u8 = 1;
const SUPPRESS_GO_AHEAD: u8 = 3;

/// Where in a telnet command the input is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Command,
    /// After WILL, WONT, DO or DONT: the option is next.
    Option(u8),
    Subnegotiation,
    /// IAC within a subnegotiation.
    SubnegotiationCommand,
}

/// The set of the 256 options.
#[derive(Clone, Copy, Debug, Default)]
struct Options([u64; 4]);

impl Options {
    fn contains(&self, option: u8) -> bool {
        self.0
            .get(usize::from(option >> 6))
            .is_some_and(|bits| bits & (1 << (option & 63)) != 0)
    }

    /// Puts the option in or out; `false` when it was so already.
    fn set(&mut self, option: u8, on: bool) -> bool {
        let changes = self.contains(option) != on;
        if let Some(bits) = self.0.get_mut(usize::from(option >> 6)) {
            *bits ^= u64::from(changes) << (option & 63);
        }
        changes
    }
}

/// The pure half: options, doubled IACs, line ends.
#[derive(Clone, Debug, Default)]
pub struct Codec {
    state: State,
    /// Options that the peer performs with our consent.
    theirs: Options,
    /// Options that we perform at the peer's wish.
    ours: Options,
    /// Refused already, theirs and ours: a peer that insists is not answered again, so that two
    /// stubborn ends do not talk for ever.
    refused: [Options; 2],
}

impl Codec {
    /// Decodes what came: text is appended to `text`, answers to negotiation to `reply`.
    pub fn receive(&mut self, bytes: &[u8], text: &mut Vec<u8>, reply: &mut Vec<u8>) {
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (State::Text, IAC) => State::Command,
                (State::Text, _) => {
                    text.push(byte);
                    State::Text
                }
                (State::Command, IAC) => {
                    text.push(IAC);
                    State::Text
                }
                (State::Command, WILL | WONT | DO | DONT) => State::Option(byte),
                (State::Command, SUBNEGOTIATION) => State::Subnegotiation,
                // NOP, go-ahead, are-you-there and the like.
                (State::Command, _) => State::Text,
                (State::Option(verb), option) => {
                    if let Some(answer) = self.negotiate(verb, option) {
                        reply.extend_from_slice(&[IAC, answer, option]);
                    }
                    State::Text
                }
                (State::Subnegotiation, IAC) => State::SubnegotiationCommand,
                (State::SubnegotiationCommand, SUBNEGOTIATION_END) => State::Text,
                (State::Subnegotiation | State::SubnegotiationCommand, _) => State::Subnegotiation,
            };
        }
    }

    /// The answer to one request, if it needs one: only changes are answered (RFC 1143).
    fn negotiate(&mut self, verb: u8, option: u8) -> Option<u8> {
        let [refused_theirs, refused_ours] = &mut self.refused;
        match verb {
            WILL if option == ECHO || option == SUPPRESS_GO_AHEAD => {
                self.theirs.set(option, true).then_some(DO)
            }
            WILL => refused_theirs.set(option, true).then_some(DONT),
            WONT => self.theirs.set(option, false).then_some(DONT),
            DO if option == SUPPRESS_GO_AHEAD => self.ours.set(option, true).then_some(WILL),
            DO => refused_ours.set(option, true).then_some(WONT),
            _ => self.ours.set(option, false).then_some(WONT),
        }
    }

    /// Did the peer negotiate to echo what we type?
    pub fn echoes(&self) -> bool {
        self.theirs.contains(ECHO)
    }

    /// The wire form of `text`, in which CR stands for the Return key and LF for a bare newline:
    /// CR goes out as CR NUL to a peer that echoes and as CR LF otherwise, LF as it is to a peer
    /// that echoes and as CR LF otherwise (observed from the client of the Python program).
    pub fn encode(&self, text: &[u8]) -> Vec<u8> {
        let mut wire = Vec::with_capacity(text.len() + 4);
        for &byte in text {
            match byte {
                IAC => wire.extend_from_slice(&[IAC, IAC]),
                b'\r' if self.echoes() => wire.extend_from_slice(b"\r\0"),
                b'\n' if self.echoes() => wire.push(b'\n'),
                b'\r' | b'\n' => wire.extend_from_slice(b"\r\n"),
                _ => wire.push(byte),
            }
        }
        wire
    }
}

/// The bytes' way: a connection with its codec.
#[derive(Debug)]
pub struct Telnet {
    connection: Connection,
    codec: Codec,
}

impl Telnet {
    /// Is the peer, after a while of idleness, still there? What came meanwhile is forgotten.
    pub fn is_alive(&mut self, deadline: Deadline) -> bool {
        let mut buffer = [0; 4096];
        // No PDU has this much to say to nobody.
        for _ in 0..64 {
            match self.connection.receive_now(&mut buffer) {
                Ok(None) => return true,
                Ok(Some(more)) if more > 0 => {
                    let bytes = buffer.get(..more).unwrap_or_default();
                    if self.decode(bytes, &mut Vec::new(), deadline).is_err() {
                        return false;
                    }
                }
                Ok(Some(_)) | Err(_) => return false,
            }
        }
        false
    }

    /// Decodes `bytes` into `text` and answers negotiation.
    fn decode(
        &mut self,
        bytes: &[u8],
        text: &mut Vec<u8>,
        deadline: Deadline,
    ) -> Result<(), TransportError> {
        let mut reply = Vec::new();
        self.codec.receive(bytes, text, &mut reply);
        if reply.is_empty() {
            return Ok(());
        }
        self.connection.send(&reply, deadline)
    }
}

impl ByteStream for Telnet {
    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), TransportError> {
        let wire = self.codec.encode(bytes);
        self.connection.send(&wire, deadline)
    }

    fn receive(&mut self, into: &mut Vec<u8>, deadline: Deadline) -> Result<bool, TransportError> {
        let mut buffer = [0; 4096];
        let more = self.connection.receive(&mut buffer, deadline)?;
        self.decode(buffer.get(..more).unwrap_or_default(), into, deadline)?;
        Ok(more > 0)
    }
}

/// A dialogue over telnet, as a person has it at a terminal.
pub type Terminal = Dialogue<Telnet>;

impl Terminal {
    /// Connects.
    pub fn open(host: &str, port: u16, deadline: Deadline) -> Result<Self, TransportError> {
        Ok(Self::new(Telnet {
            connection: Connection::open(host, port, deadline)?,
            codec: Codec::default(),
        }))
    }

    /// Types `text` and the Return key.
    pub fn line(&mut self, text: &str, timed: impl Timed) -> Result<(), TransportError> {
        self.send(format!("{text}\r").as_bytes(), timed)
    }

    /// Ends the session after a logout: says that nothing more will be typed, and waits until the
    /// PDU has read that and closed.
    pub fn hang_up(mut self, deadline: Deadline) {
        self.stream.connection.finish();
        let _ = self.expect("the end", &[], deadline);
    }

    /// Is the session, after a while of idleness, still there? What came meanwhile is forgotten.
    pub fn is_alive(&mut self, deadline: Deadline) -> bool {
        self.screen.clear();
        self.stream.is_alive(deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(codec: &mut Codec, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut text, mut reply) = (Vec::new(), Vec::new());
        codec.receive(bytes, &mut text, &mut reply);
        (text, reply)
    }

    #[test]
    fn echo_and_go_ahead_are_accepted_and_the_rest_refused() {
        let mut codec = Codec::default();
        // The exchange seen between an APC PDU and the Python program's telnet client.
        let (text, reply) = receive(&mut codec, b"\xff\xfb\x01\xff\xfb\x03\r\nUser Name : ");
        assert_eq!(text, b"\r\nUser Name : ");
        assert_eq!(reply, b"\xff\xfd\x01\xff\xfd\x03");
        // Terminal type, window size, and an echo of ours are refused, once.
        let asks = b"\xff\xfd\x18\xff\xfd\x1f\xff\xfb\x05\xff\xfd\x01";
        let (text, reply) = receive(&mut codec, asks);
        assert!(text.is_empty());
        assert_eq!(reply, b"\xff\xfc\x18\xff\xfc\x1f\xff\xfe\x05\xff\xfc\x01");
        assert_eq!(receive(&mut codec, asks).1, b"");
        // What is so already is not answered again, what changes is.
        assert_eq!(receive(&mut codec, b"\xff\xfb\x01\xff\xfe\x18").1, b"");
        assert_eq!(receive(&mut codec, b"\xff\xfc\x01").1, b"\xff\xfe\x01");
        assert!(!codec.echoes());
        assert_eq!(
            receive(&mut codec, b"\xff\xfd\x03\xff\xfe\x03").1,
            b"\xff\xfb\x03\xff\xfc\x03"
        );
    }

    #[test]
    fn subnegotiations_are_swallowed_and_doubled_iacs_are_text() {
        let mut codec = Codec::default();
        let bytes = b"a\xff\xfa\x18\x01\xff\xff\xf0x\xff\xf0b\xff\xffc\xff\xf9d\xff\xf1";
        assert_eq!(receive(&mut codec, bytes), (b"ab\xffcd".to_vec(), vec![]));
        for cut in 0..bytes.len() {
            let mut codec = Codec::default();
            let (mut text, mut reply) = (Vec::new(), Vec::new());
            codec.receive(&bytes[..cut], &mut text, &mut reply);
            codec.receive(&bytes[cut..], &mut text, &mut reply);
            assert_eq!(text, b"ab\xffcd", "cut at {cut}");
        }
        // One that never ends grows nothing.
        let (text, reply) = receive(
            &mut codec,
            &[&[IAC, SUBNEGOTIATION][..], &[7; 9999]].concat(),
        );
        assert!(text.is_empty() && reply.is_empty());
    }

    #[test]
    fn line_ends_follow_the_negotiation() {
        let mut codec = Codec::default();
        assert_eq!(codec.encode(b"apc\r"), b"apc\r\n");
        assert_eq!(codec.encode(b"olOn 1\n"), b"olOn 1\r\n");
        assert_eq!(codec.encode(b"\x1b\r\xff"), b"\x1b\r\n\xff\xff");
        receive(&mut codec, b"\xff\xfb\x01");
        assert_eq!(codec.encode(b"apc\r"), b"apc\r\0");
        assert_eq!(codec.encode(b"olOn 1\n"), b"olOn 1\n");
    }
}
