//! SNMP v1, v2c and v3 over UDP: GET and SET of one object, without a runtime.
//!
//! A [`Session`] keeps one connected socket (and for v3 the discovered engine) between calls. A
//! request that is not answered is sent again with the same request id, so that a late answer to an
//! earlier copy still counts; answers with other ids are dropped. The connected socket makes the
//! kernel drop other senders' datagrams, and tells when the PDU has nobody on that port.

mod ber;
mod community;
mod v3;

pub use community::{Community, Version};
pub use csnmp::ObjectIdentifier as Oid;
pub use snmp2::v3::{AuthProtocol, Cipher, KeyExtension};
pub use v3::User;

#[cfg(fuzzing)]
use super::fuzzing::UdpSocket;
use super::resolve::resolve;
use super::{Deadline, TransportError, TransportErrorKind, now, printable};
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::io;
#[cfg(not(fuzzing))]
use std::net::UdpSocket;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// The UDP port of SNMP agents.
pub const PORT: u16 = 161;

/// How often a request is sent before the agent counts as silent.
const TRIES: u32 = 6;

/// How long one copy of a request waits for its answer, when the deadline is far.
const PATIENCE: Duration = Duration::from_secs(1);

/// The most bytes an answer about one object may have.
const MOST: usize = 8192;

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
    /// INTEGER, and the unsigned types of SMIv2.
    Integer(i64),
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
            Self::Text(text) => f.write_str(&printable(text)),
            Self::Missing(what) => f.write_str(what),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// What is asked of the agent.
#[derive(Clone, Debug)]
enum Command<'a> {
    Get(&'a Oid),
    Set(&'a Oid, &'a Value),
}

impl Command<'_> {
    fn oid(&self) -> &Oid {
        match self {
            Self::Get(oid) | Self::Set(oid, _) => oid,
        }
    }
}

/// What the agent answered: the error-status, and the value of the object asked for; `None` when
/// the answer is about another object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    status: u32,
    value: Option<Value>,
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
    /// The agent refused a copy of a SET, after one that was not answered: that one may have been
    /// carried out. What it said.
    Doubtful(String),
}

impl SnmpError {
    /// The same, where an earlier copy of the request may have been carried out.
    fn in_doubt(self) -> Self {
        match self {
            Self::Transport(error) if error.may_have_acted() => Self::Transport(error),
            Self::Transport(error) => Self::Doubtful(error.detail),
            Self::Login(words) => Self::Doubtful(format!("login refused: {words}")),
            Self::Status(status) => Self::Doubtful(status_text(status)),
            Self::Strange(_) | Self::Doubtful(_) => self,
        }
    }
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

/// What a datagram turned out to be.
enum Heard<T> {
    /// The answer waited for.
    Answer(T),
    /// Of an older request: nothing to us.
    NotOurs,
    /// No message of this protocol; the right one may still come.
    Garbled(String),
    /// The agent told something that the request must be sent again with: did it refuse this copy?
    /// If not, it may have carried it out.
    Again { is_refused: bool },
    /// An answer that ends the request.
    Failed(SnmpError),
    /// The agent is another engine than at discovery.
    OtherEngine,
}

/// A socket connected to one agent.
#[derive(Debug)]
struct Link {
    socket: UdpSocket,
    peer: SocketAddr,
    buffer: Box<[u8]>,
    /// The receive time-out the socket has now: setting the same again costs a system call.
    patience: Duration,
    /// A copy of the request was sent and neither answered nor refused, and may have been carried
    /// out.
    is_in_doubt: bool,
}

impl Link {
    fn open(peer: SocketAddr) -> io::Result<Self> {
        let socket = match peer {
            SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
        }?;
        socket.connect(peer)?;
        Ok(Self {
            socket,
            peer,
            buffer: vec![0; MOST].into_boxed_slice(),
            patience: Duration::ZERO,
            is_in_doubt: false,
        })
    }

    /// The next datagram before `until`; `None` when there is none.
    fn receive(&mut self, until: Instant) -> io::Result<Option<&[u8]>> {
        let length = loop {
            let Some(left) = until
                .checked_duration_since(now())
                .filter(|left| !left.is_zero())
            else {
                return Ok(None);
            };
            // A copy's first wait is nearly always the whole patience: keep the socket's setting.
            let wait = if PATIENCE.saturating_sub(left) < Duration::from_millis(1) {
                PATIENCE
            } else {
                left
            };
            if wait != self.patience {
                self.socket.set_read_timeout(Some(wait))?;
                self.patience = wait;
            }
            match self.socket.recv(&mut self.buffer) {
                Ok(length) => break length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => return Err(error),
            }
        };
        Ok(self.buffer.get(..length))
    }
}

/// How an exchange without an answer ended.
enum Unanswered {
    /// Sent so many times in so long; the last strange thing heard.
    Silent(u32, Duration, Option<String>),
    /// Nobody is there: the system's words.
    Gone(io::Error),
    /// An answer that ends the request.
    Failed(SnmpError),
    /// See [`Heard::OtherEngine`].
    OtherEngine,
}

/// Sends what `encode` makes for each try until `decode` finds the answer.
fn exchange<S, T>(
    link: &mut Link,
    deadline: Deadline,
    state: &mut S,
    encode: impl Fn(&mut S, u32) -> Result<Vec<u8>, TransportError>,
    decode: impl Fn(&mut S, &[u8]) -> Heard<T>,
) -> Result<T, Unanswered> {
    let start = now();
    let mut garbled = None;
    let mut tried = 0;
    for attempt in 0..TRIES {
        let Ok(left) = deadline.left("an answer") else {
            break;
        };
        let until = now() + PATIENCE.min(left / (TRIES - attempt));
        let request = encode(state, attempt).map_err(|error| Unanswered::Failed(error.into()))?;
        match link.socket.send(&request) {
            Ok(_) => {}
            Err(error) => return Err(Unanswered::Gone(error)),
        }
        tried += 1;
        loop {
            match link.receive(until) {
                Ok(Some(datagram)) => match decode(state, datagram) {
                    Heard::Answer(answer) => return Ok(answer),
                    Heard::NotOurs => {}
                    Heard::Garbled(what) => garbled = Some(what),
                    Heard::Again { is_refused } => {
                        link.is_in_doubt |= !is_refused;
                        break;
                    }
                    Heard::Failed(error) => return Err(Unanswered::Failed(error)),
                    Heard::OtherEngine => return Err(Unanswered::OtherEngine),
                },
                Ok(None) => {
                    link.is_in_doubt = true;
                    break;
                }
                Err(error) => return Err(Unanswered::Gone(error)),
            }
        }
    }
    Err(Unanswered::Silent(
        tried,
        now().duration_since(start),
        garbled,
    ))
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
        id: i32,
        command: &Command<'_>,
        deadline: Deadline,
    ) -> Result<Answer, Unanswered> {
        match self {
            Self::Community(community) => exchange(
                link,
                deadline,
                community,
                |community, attempt| community.encode(community.version(attempt), id, command),
                |community, datagram| community.decode(datagram, id, command),
            ),
            Self::User(usm) => usm.converse(link, id, command, deadline),
        }
    }
}

/// The dialogue with one agent.
pub struct Session {
    host: String,
    port: u16,
    dialect: Dialect,
    addresses: Vec<SocketAddr>,
    /// Which of the addresses to try first: one that was silent goes to the end.
    first: usize,
    link: Option<Link>,
    next_id: i32,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session with the agent at `host`; nothing is sent yet.
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
            next_id: i32::try_from(seed & 0x3fff_ffff).unwrap_or(1),
        }
    }

    /// Reads one object.
    pub fn get(&mut self, oid: &Oid, deadline: Deadline) -> Result<Value, SnmpError> {
        self.ask(&Command::Get(oid), deadline)
    }

    /// Writes one object; success is the agent's word for it.
    pub fn set(&mut self, oid: &Oid, value: &Value, deadline: Deadline) -> Result<(), SnmpError> {
        match self.ask(&Command::Set(oid, value), deadline)? {
            Value::Missing(what) => Err(SnmpError::Strange(format!(
                "the agent answered the SET with {what}"
            ))),
            Value::Integer(_) | Value::Text(_) | Value::Other(_) => Ok(()),
        }
    }

    /// Leaves the session: the next call looks the name up and discovers the engine anew.
    pub fn rest(&mut self) {
        self.link = None;
        self.addresses.clear();
        self.dialect.rest();
    }

    fn ask(&mut self, command: &Command<'_>, deadline: Deadline) -> Result<Value, SnmpError> {
        if let Some(link) = &mut self.link {
            link.is_in_doubt = false;
        }
        let result = self.converse(command, deadline);
        let is_in_doubt = matches!(command, Command::Set(..))
            && self.link.as_ref().is_some_and(|link| link.is_in_doubt);
        let doubt = |error: SnmpError| match is_in_doubt {
            true => error.in_doubt(),
            false => error,
        };
        if matches!(result, Err(SnmpError::Transport(_) | SnmpError::Login(_))) {
            self.link = None;
            self.dialect.rest();
        }
        let answer = result.map_err(doubt)?;
        match answer.value {
            _ if answer.status != 0 => Err(doubt(SnmpError::Status(answer.status))),
            Some(value) => Ok(value),
            None => Err(SnmpError::Strange(
                "the agent answered about another object".into(),
            )),
        }
    }

    fn converse(&mut self, command: &Command<'_>, deadline: Deadline) -> Result<Answer, SnmpError> {
        // A socket that an idle time made useless (an address of ours went) is opened again once.
        let mut reused = self.link.is_some();
        if self.addresses.is_empty() {
            self.addresses = resolve(&self.host, self.port, deadline)?;
        }
        let count = self.addresses.len();
        let mut refusals = 0;
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
                    match self.dialect.converse(link, id, command, deadline) {
                        Ok(answer) => return Ok(answer),
                        Err(unanswered) => unanswered,
                    }
                }
                Err(error) => Unanswered::Gone(error),
            };
            match unanswered {
                Unanswered::Failed(error) => return Err(error),
                Unanswered::OtherEngine if engines == 0 => {
                    engines += 1;
                    self.dialect.rest();
                }
                Unanswered::OtherEngine => {
                    return Err(SnmpError::Transport(TransportError::new(
                        TransportErrorKind::Garbled,
                        "the agent does not know the engine id that it told at discovery",
                    )));
                }
                Unanswered::Silent(tried, waited, garbled) => {
                    self.first = at + 1;
                    return Err(silent(peer, tried, waited, garbled));
                }
                Unanswered::Gone(error) => {
                    // In this or in an earlier exchange: the agent's engine may have been
                    // discovered anew between them.
                    let is_in_doubt = self.link.take().is_some_and(|link| link.is_in_doubt);
                    self.dialect.rest();
                    if std::mem::take(&mut reused) && !is_in_doubt {
                        continue;
                    }
                    self.first = at + 1;
                    refusals += 1;
                    if is_in_doubt {
                        return Err(SnmpError::Transport(TransportError::new(
                            TransportErrorKind::Closed,
                            format!("{peer} went away while an answer was awaited: {error}"),
                        )));
                    }
                    if refusals >= count {
                        return Err(no_connection(format!(
                            "no SNMP agent at {peer} (UDP): {error}"
                        )));
                    }
                }
            }
        }
    }
}

fn no_connection(detail: String) -> SnmpError {
    SnmpError::Transport(TransportError::new(
        TransportErrorKind::NoConnection,
        detail,
    ))
}

fn silent(peer: SocketAddr, tried: u32, waited: Duration, garbled: Option<String>) -> SnmpError {
    let waited = waited.as_secs_f64();
    SnmpError::Transport(match garbled {
        Some(what) => TransportError::new(
            TransportErrorKind::Garbled,
            format!("no SNMP answer from {peer} to {tried} requests in {waited:.1} s, but {what}"),
        ),
        None => TransportError::new(
            TransportErrorKind::Timeout,
            format!(
                "no answer from {peer} to {tried} requests in {waited:.1} s \
                 (an agent is also silent when it does not accept the community or version)"
            ),
        ),
    })
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
