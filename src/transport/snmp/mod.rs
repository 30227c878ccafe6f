//! SNMP v1, v2c and v3 over UDP: GET and SET of one object or of many, without a runtime.
//!
//! An [`Agent`] keeps its sockets (and for v3 the discovered engine) between calls. A request that
//! is not answered is sent again with the same request id, so that a late answer to an earlier copy
//! still counts; answers with other ids are dropped. Small agents work through their datagrams one
//! by one, so copies are sent with growing pauses, and not before the agent has had the time that it
//! usually takes ([`Pace`]). The agent may answer from another address or port of its own: what
//! makes an answer ours is its request id, and in v3 the engine and its signature.

mod ber;
mod community;
mod v3;

pub use community::{Community, Version};
pub use csnmp::ObjectIdentifier as Oid;
pub use snmp2::v3::{AuthProtocol, Cipher, KeyExtension};
pub use v3::User;

use super::exchange::{self, Link, Silence};
use super::pace::Pace;
use super::resolve::resolve;
use super::{Attempt, Deadline, Timed, TransportError, TransportErrorKind, printable};
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::SocketAddr;

/// The UDP port of SNMP agents.
pub const PORT: u16 = 161;

/// A secret on its way to the wire, never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Hidden(pub(super) Vec<u8>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Whom the agent answers.
#[derive(Clone, Debug)]
pub enum Access {
    /// v1 and v2c.
    Community(Community),
    /// v3 with the User-based Security Model.
    User(User),
}

/// An object's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// INTEGER, and the unsigned types of SMIv2 where they are read.
    Integer(i64),
    /// Gauge32 or Unsigned32, where it is written.
    Unsigned(u32),
    /// OCTET STRING.
    Text(Vec<u8>),
    /// `noSuchObject`, `noSuchInstance` or `endOfMibView`, as named.
    Missing(&'static str),
    /// Another type, as text.
    Other(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Unsigned(number) => number.fmt(f),
            Self::Text(text) => f.write_str(&printable(text)),
            Self::Missing(what) => f.write_str(what),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// What is asked of the agent.
#[derive(Clone, Debug)]
enum Command<'a> {
    Get(&'a [Oid]),
    /// The object behind this one: its name is the value of the answer.
    Next(&'a Oid),
    Set(&'a [(Oid, Value)]),
}

impl Command<'_> {
    /// The objects that it is about.
    fn oids(&self) -> Vec<&Oid> {
        match self {
            Self::Get(oids) => oids.iter().collect(),
            Self::Next(oid) => vec![oid],
            Self::Set(bindings) => bindings.iter().map(|(oid, _)| oid).collect(),
        }
    }
}

/// What the agent answered: the error-status, and the value of each object asked for, in their
/// order; `None` where the answer leaves it out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    status: u32,
    values: Vec<Option<Value>>,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnmpError {
    /// The way to the agent.
    Transport(TransportError),
    /// The agent does not take this user, passphrase or security level.
    Login(String),
    /// The agent answered with this error-status.
    Status(u32),
    /// The agent answered about another object, or says that there is none: what it said.
    Strange(String),
}

impl From<TransportError> for SnmpError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

/// The error-status codes of RFC 3416 (0 to 5 are RFC 1157's), with what they mean for a person.
static STATUS: &[(&str, &str)] = &[
    ("noError", "no error"),
    ("tooBig", "the answer does not fit a message"),
    (
        "noSuchName",
        "SNMPv1: no such object, or it may not be written",
    ),
    ("badValue", "SNMPv1: the object does not take this value"),
    ("readOnly", "SNMPv1: the object is read-only"),
    ("genErr", "the agent failed"),
    ("noAccess", "this community or user may not use the object"),
    ("wrongType", "the object is not an INTEGER"),
    ("wrongLength", "the object takes values of another length"),
    ("wrongEncoding", "the agent does not understand the value"),
    ("wrongValue", "the object does not take this value"),
    ("noCreation", "there is no such outlet in the table"),
    ("inconsistentValue", "not possible in the present state"),
    ("resourceUnavailable", "the agent lacks a resource"),
    ("commitFailed", "the agent could not carry it out"),
    (
        "undoFailed",
        "the agent could not carry it out, nor undo it",
    ),
    (
        "authorizationError",
        "the agent does not accept this community or user",
    ),
    (
        "notWritable",
        "the object is read-only, or is for this community or user",
    ),
    ("inconsistentName", "no such outlet in the present state"),
];

/// An error-status as `notWritable (17): the object is read-only ...`.
pub fn status_text(status: u32) -> String {
    match usize::try_from(status).ok().and_then(|at| STATUS.get(at)) {
        Some((name, meaning)) => format!("{name} ({status}): {meaning}"),
        None => format!("error-status {status}"),
    }
}

/// Does this error-status refuse a SET? With any other the agent may have carried it out, at least
/// in part, and may do better next time.
pub fn is_refusal(status: u32) -> bool {
    !matches!(status, 0 | 1 | 5 | 13..=15 | 19..)
}

/// What a datagram turned out to be.
type Heard<T> = exchange::Heard<T, Stop>;

/// Why a request is given up.
enum Stop {
    /// An answer that ends it.
    Error(SnmpError),
    /// The agent is another engine than at discovery.
    OtherEngine,
}

/// Agents read in milliseconds what takes them seconds to write.
#[derive(Clone, Copy, Debug, Default)]
struct Paces {
    reading: Pace,
    writing: Pace,
}

impl Paces {
    fn of(&mut self, command: &Command<'_>) -> &mut Pace {
        match command {
            Command::Get(_) | Command::Next(_) => &mut self.reading,
            Command::Set(..) => &mut self.writing,
        }
    }
}

/// What the agent was silent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// A request with a community.
    Plainly,
    /// An engine discovery: of that the PDU cannot have acted.
    ForEngine,
    /// A user's request, after the engine was told.
    Signed,
    /// A user's request that is encrypted.
    Encrypted,
}

/// What an agent's silence means.
fn silence(silence: Silence, peer: SocketAddr, asked: Asked) -> SnmpError {
    use TransportErrorKind::{Garbled, NoConnection, Timeout};
    let (tried, waited) = (silence.tried, silence.waited.as_secs_f64());
    let (kind, detail) = match (silence.garbled, asked) {
        (Some(what), _) => (
            Garbled,
            format!("no SNMP answer from {peer} to {tried} requests in {waited:.1} s, but {what}"),
        ),
        (None, Asked::Plainly) => (
            Timeout,
            format!(
                "no answer from {peer} to {tried} requests in {waited:.1} s \
                 (an agent is also silent when it does not accept the community or version)"
            ),
        ),
        (None, Asked::ForEngine) => (
            NoConnection,
            format!("no answer from {peer} to {tried} SNMPv3 engine discoveries in {waited:.1} s"),
        ),
        (None, Asked::Signed | Asked::Encrypted) => {
            let hint = match asked {
                // net-snmp's agent drops what it cannot decrypt.
                Asked::Encrypted => {
                    "; an agent may be silent when the privacy passphrase or protocol is wrong"
                }
                _ => "",
            };
            let detail = format!(
                "{peer} told its SNMPv3 engine, but did not answer {tried} requests in \
                 {waited:.1} s{hint}"
            );
            (Timeout, detail)
        }
    };
    SnmpError::Transport(TransportError::new(kind, detail))
}

/// How a request without an answer ended.
enum Unanswered {
    /// What the agent was silent to.
    Silent(Silence, Asked),
    /// Nobody is there: the system's words.
    Gone(io::Error),
    /// See [`Stop`].
    Stopped(Stop),
}

impl Unanswered {
    fn of(unanswered: exchange::Unanswered<Stop>, asked: Asked) -> Self {
        use exchange::Unanswered as U;
        match unanswered {
            U::Silent(silence) => Self::Silent(silence, asked),
            U::Gone(error) => Self::Gone(error),
            U::Unsaid(error) => Self::from(error),
            U::Failed(stop) => Self::Stopped(stop),
        }
    }
}

impl From<TransportError> for Unanswered {
    fn from(error: TransportError) -> Self {
        Self::Stopped(Stop::Error(error.into()))
    }
}

/// Sends what `encode` makes for each copy until `decode` finds the answer, or the deadline comes.
fn exchange<S, T>(
    link: &mut Link,
    pace: &mut Pace,
    timed: impl Timed,
    asked: Asked,
    state: &mut S,
    encode: impl Fn(&mut S, u32) -> Result<Vec<u8>, TransportError>,
    decode: impl Fn(&mut S, &[u8]) -> Heard<T>,
) -> Result<T, Unanswered> {
    let told = exchange::exchange(link, pace, timed, state, encode, decode);
    told.map_err(|unanswered| Unanswered::of(unanswered, asked))
}

/// The messages around a request: with a community, or signed by a user.
enum Dialect {
    Community(Community),
    User(Box<v3::Usm>),
}

impl Dialect {
    fn new(access: Access) -> Self {
        match access {
            Access::Community(community) => Self::Community(community),
            Access::User(user) => Self::User(Box::new(v3::Usm::new(user))),
        }
    }

    fn rest(&mut self) {
        if let Self::User(usm) = self {
            usm.rest();
        }
    }

    fn converse(
        &mut self,
        link: &mut Link,
        paces: &mut Paces,
        id: i32,
        command: &Command<'_>,
        timed: impl Timed,
    ) -> Result<Answer, Unanswered> {
        match self {
            Self::Community(community) => exchange(
                link,
                paces.of(command),
                timed,
                Asked::Plainly,
                community,
                |community, attempt| community.encode(community.version(attempt), id, command),
                |community, datagram| community.decode(datagram, id, command),
            ),
            Self::User(usm) => usm.converse(link, paces, id, command, timed),
        }
    }
}

/// The dialogue with one agent.
pub struct Agent {
    host: String,
    port: u16,
    dialect: Dialect,
    addresses: Vec<SocketAddr>,
    /// Which of the addresses to try first: one that was silent goes to the end.
    first: usize,
    link: Option<Link>,
    /// How fast the agent answers: known as long as the session, whatever else is forgotten.
    paces: Paces,
    next_id: i32,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// The agent at `host`; nothing is sent yet.
    pub fn new(host: impl Into<String>, port: u16, access: Access) -> Self {
        // Not for secrecy: so that an answer to an earlier program on the same port cannot match.
        let seed = if cfg!(fuzzing) {
            1
        } else {
            RandomState::new().build_hasher().finish()
        };
        Self {
            host: host.into(),
            port,
            dialect: Dialect::new(access),
            addresses: Vec::new(),
            first: 0,
            link: None,
            paces: Paces::default(),
            next_id: i32::try_from(seed & 0x3fff_ffff).unwrap_or(1),
        }
    }

    /// Reads one object.
    pub fn get(&mut self, oid: &Oid, deadline: Deadline) -> Result<Value, SnmpError> {
        let values = self.ask(&Command::Get(&[*oid]), deadline)?;
        values.into_iter().flatten().next().ok_or_else(strange)
    }

    /// Reads many objects by one request, in their order; `None` for those that the answer leaves
    /// out.
    pub fn get_all(
        &mut self,
        oids: &[Oid],
        deadline: Deadline,
    ) -> Result<Vec<Option<Value>>, SnmpError> {
        self.ask(&Command::Get(oids), deadline)
    }

    /// The name of the object behind `oid`; nothing at the end of all objects.
    pub fn next(&mut self, oid: &Oid, deadline: Deadline) -> Result<Option<Oid>, SnmpError> {
        let values = self.ask(&Command::Next(oid), deadline)?;
        match values.into_iter().flatten().next() {
            None => Err(strange()),
            Some(Value::Missing(_)) => Ok(None),
            Some(Value::Other(name)) => match name.parse() {
                Ok(name) => Ok(Some(name)),
                Err(_) => Err(SnmpError::Strange(format!("no OID: {name:?}"))),
            },
            Some(value) => Err(SnmpError::Strange(format!("expected a name, got {value}"))),
        }
    }

    /// Writes one object; success is the agent's word for it.
    pub fn set(&mut self, oid: &Oid, value: &Value, attempt: &Attempt) -> Result<(), SnmpError> {
        self.set_all(&[(*oid, value.clone())], attempt)
    }

    /// Writes many objects by one request; success is the agent's word for every one.
    pub fn set_all(
        &mut self,
        bindings: &[(Oid, Value)],
        attempt: &Attempt,
    ) -> Result<(), SnmpError> {
        for value in self.ask(&Command::Set(bindings), attempt)? {
            match value {
                None => return Err(strange()),
                Some(Value::Missing(what)) => {
                    let what = format!("the agent answered the SET with {what}");
                    return Err(SnmpError::Strange(what));
                }
                Some(Value::Integer(_) | Value::Unsigned(_) | Value::Text(_) | Value::Other(_)) => {
                }
            }
        }
        Ok(())
    }

    /// Leaves the session: the next call looks the name up and discovers the engine anew.
    pub fn rest(&mut self) {
        self.link = None;
        self.addresses.clear();
        self.dialect.rest();
    }

    fn ask(
        &mut self,
        command: &Command<'_>,
        timed: impl Timed,
    ) -> Result<Vec<Option<Value>>, SnmpError> {
        let result = self.converse(command, timed);
        if matches!(result, Err(SnmpError::Transport(_) | SnmpError::Login(_))) {
            self.link = None;
            self.dialect.rest();
        }
        match result? {
            Answer { status: 0, values } => Ok(values),
            Answer { status, .. } => {
                if is_refusal(status) {
                    timed.turned_away();
                }
                Err(SnmpError::Status(status))
            }
        }
    }

    fn converse(&mut self, command: &Command<'_>, timed: impl Timed) -> Result<Answer, SnmpError> {
        let deadline = timed.deadline();
        // A socket that an idle time made useless (an address of ours went) is opened again once.
        let mut reused = self.link.is_some();
        if self.addresses.is_empty() {
            self.addresses = resolve(&self.host, self.port, deadline)?;
        }
        let count = self.addresses.len();
        // Addresses where nobody answered.
        let mut dead = 0;
        // The engine may turn out to be another one once; then the second try is its own.
        let mut engines = 0;
        loop {
            let at = self.first.checked_rem(count).unwrap_or(0);
            let Some(peer) = self.addresses.get(at).copied() else {
                return Err(no_connection(format!("{} has no address", self.host)));
            };
            let link = match self.link.take() {
                Some(link) => Ok(link),
                None => Link::open(peer),
            };
            let unanswered = match link {
                Ok(link) => {
                    let link = self.link.insert(link);
                    let id = self.next_id;
                    // 0 to 2^31-1, as every agent takes them.
                    self.next_id = self.next_id.checked_add(2).unwrap_or(1);
                    // The addresses that are left share the time that is left.
                    let shares = u32::try_from(count - dead).unwrap_or(u32::MAX).max(1);
                    let share = deadline.left("an answer")? / shares;
                    let timed = timed.until(deadline.within(share));
                    let paces = &mut self.paces;
                    match self.dialect.converse(link, paces, id, command, timed) {
                        Ok(answer) => return Ok(answer),
                        Err(unanswered) => unanswered,
                    }
                }
                Err(error) => Unanswered::Gone(error),
            };
            match unanswered {
                Unanswered::Stopped(Stop::Error(error)) => return Err(error),
                Unanswered::Stopped(Stop::OtherEngine) if engines == 0 => {
                    engines += 1;
                    self.dialect.rest();
                }
                Unanswered::Stopped(Stop::OtherEngine) => {
                    return Err(SnmpError::Transport(TransportError::new(
                        TransportErrorKind::Garbled,
                        "the agent does not know the engine id that it told at discovery",
                    )));
                }
                Unanswered::Silent(silent, asked) => {
                    self.first = at + 1;
                    dead += 1;
                    if dead >= count {
                        return Err(silence(silent, peer, asked));
                    }
                    self.link = None;
                    self.dialect.rest();
                }
                Unanswered::Gone(error) => {
                    self.link = None;
                    self.dialect.rest();
                    let is_awaited = timed.copies() > 0;
                    if std::mem::take(&mut reused) && !is_awaited {
                        continue;
                    }
                    self.first = at + 1;
                    dead += 1;
                    if is_awaited {
                        return Err(SnmpError::Transport(TransportError::new(
                            TransportErrorKind::Closed,
                            format!("{peer} went away while an answer was awaited: {error}"),
                        )));
                    }
                    if dead >= count {
                        return Err(no_connection(format!(
                            "no SNMP agent at {peer} (UDP): {error}"
                        )));
                    }
                }
            }
        }
    }
}

fn strange() -> SnmpError {
    SnmpError::Strange("the agent answered about another object".into())
}

fn no_connection(detail: String) -> SnmpError {
    SnmpError::Transport(TransportError::new(
        TransportErrorKind::NoConnection,
        detail,
    ))
}

/// For the fuzzer: what an agent sends, read in every way we can read it.
#[cfg(fuzzing)]
#[allow(missing_docs, clippy::missing_panics_doc)]
pub mod fuzzing {
    pub fn datagram(bytes: &[u8]) {
        super::community::fuzz(bytes);
        super::v3::fuzz(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::time::Duration;

    #[test]
    fn a_name_with_a_silent_address_costs_half_the_attempt() {
        let [silent, agent] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a port"));
        let addresses = [&silent, &agent].map(|socket| socket.local_addr().expect("an address"));
        let agent = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            let (length, from) = agent.recv_from(&mut buffer).expect("a request");
            // The PDU's tag, behind the version and the community: a SET becomes a response.
            let tag = buffer.get_mut(7 + 7).expect("a long request");
            assert_eq!(std::mem::replace(tag, 0xa2), 0xa3);
            let answer = buffer.get(..length).expect("so many came");
            agent.send_to(answer, from).expect("sent");
        });
        let access = Access::Community(Community::new("private", &[Version::V2c]));
        let mut session = Agent::new("two addresses", PORT, access);
        session.addresses = addresses.to_vec();
        let oid: Oid = "1.3.6.1.4.1.318.1.1.4.4.2.1.3.1".parse().expect("an OID");
        let deadline = Deadline::after(Duration::from_secs(2));
        let set = session.set(&oid, &Value::Integer(1), &Attempt::new(deadline));
        assert_eq!(set, Ok(()));
        assert!(deadline.left("the rest").is_ok());
        agent.join().expect("answered once");
    }
}
