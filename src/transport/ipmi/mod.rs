//! IPMI over LAN: the power of a machine by its BMC (IPMI 2.0 specification, chapters 13, 22, 28).
//!
//! | file | job |
//! | --- | --- |
//! | `wire` | the bytes of datagrams and messages, both ways |
//! | `cipher` | cipher suites 3 and 17: hashes, signatures, encryption |
//! | `words` | what the numbers of a BMC mean for a person |
//! | `line` | a question and its answer, before a session and in it |
//! | `old` | the login of IPMI 1.5, for a BMC that has nothing else |
//! | `new` | the login of IPMI 2.0 (RMCP+) |
//!
//! A [`Bmc`] keeps its session between calls. BMCs have few of them to give, so each is closed: when
//! it is left, and by one datagram that nobody waits for when it is given up. Each request has a
//! number of its own within its session, so no answer can be played again for another; all copies of
//! a request have the same one, and the BMC carries it out once.

mod cipher;
mod line;
mod new;
mod old;
mod wire;
mod words;

pub use cipher::Suite;
pub use words::completion;

use super::exchange::{Link, Unanswered};
use super::kept::{Kept, Opener};
use super::resolve::resolve;
use super::{Attempt, Deadline, Timed, TransportError, TransportErrorKind, Verdict, printable};
use crate::settings::Secret;
use line::{Line, Talk};
use new::Opened;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use wire::{APP, CHASSIS, Request, Response};

/// What a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the list of cipher suites may take: without it each is tried.
const SUITES: Duration = Duration::from_secs(4);

/// The most bytes of a name, of a password of IPMI 2.0, and of a key kg.
const NAME: usize = 16;
const LONGEST: usize = 20;

/// How many bytes of a strange answer an error shows.
const MOST_SHOWN: usize = 48;

/// What the session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Switch, and read.
    Operator,
    /// Everything.
    Administrator,
}

impl Privilege {
    fn number(self) -> u8 {
        match self {
            Self::Operator => 3,
            Self::Administrator => 4,
        }
    }
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "operator",
            Self::Administrator => "administrator",
        })
    }
}

/// A BMC's own key, from which session keys are made in the place of the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Kg(Vec<u8>);

impl Kg {
    /// Reads it: a text, or `0x` and hex digits; nothing when it is empty.
    pub fn parse(text: &Secret) -> Result<Option<Self>, String> {
        let text = text.reveal();
        let bytes = match text.strip_prefix("0x") {
            None => Some(text.as_bytes().to_vec()),
            Some(digits) => hex(digits),
        };
        match bytes {
            Some(bytes) if bytes.is_empty() => Ok(None),
            Some(bytes) if bytes.len() <= LONGEST => Ok(Some(Self(bytes))),
            _ => Err(format!(
                "expected at most {LONGEST} bytes, or 0x and at most {} hex digits",
                2 * LONGEST
            )),
        }
    }
}

impl fmt::Debug for Kg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kg(***)")
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| match pair {
        [_, _] => u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok(),
        _ => None,
    });
    bytes.collect()
}

/// Who logs in, and how.
#[derive(Clone, Debug)]
pub struct Account {
    username: String,
    password: Secret,
    kg: Option<Kg>,
    privilege: Privilege,
    /// None: the best that the BMC offers, IPMI 1.5 too.
    suite: Option<Suite>,
}

impl Account {
    /// Without a `suite` the BMC's best is taken. An error tells the key, and a sentence.
    pub fn new(
        username: String,
        password: Secret,
        kg: Option<Kg>,
        privilege: Privilege,
        suite: Option<Suite>,
    ) -> Result<Self, (&'static str, String)> {
        let too_long = |key, most| Err((key, format!("expected at most {most} bytes")));
        if username.len() > NAME {
            return too_long("username", NAME);
        }
        if password.reveal().len() > LONGEST {
            return too_long("password", LONGEST);
        }
        Ok(Self {
            username,
            password,
            kg,
            privilege,
            suite,
        })
    }

    fn name_16(&self) -> Option<[u8; 16]> {
        filled(self.username.as_bytes())
    }

    fn password_16(&self) -> Option<[u8; 16]> {
        filled(self.password.reveal().as_bytes())
    }

    /// The user, in words.
    fn user(&self) -> String {
        match self.username.as_str() {
            "" => "the user without a name".to_owned(),
            name => format!("user {}", printable(name.as_bytes())),
        }
    }

    fn unknown(&self) -> String {
        format!("the BMC does not know {}", self.user())
    }

    fn no_privilege(&self) -> String {
        format!(
            "the BMC does not give {} the privilege {}",
            self.user(),
            self.privilege
        )
    }
}

/// Filled up with zeros; none where it is too long.
fn filled(bytes: &[u8]) -> Option<[u8; 16]> {
    let mut filled = [0; 16];
    filled.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(filled)
}

/// Bytes that nobody can foresee.
fn random() -> Result<[u8; 16], TransportError> {
    let mut bytes = [1; 16];
    if cfg!(fuzzing) {
        return Ok(bytes);
    }
    let provider = rustls::crypto::ring::default_provider();
    let filled = provider.secure_random.fill(&mut bytes);
    filled.map(|()| bytes).map_err(|_| {
        TransportError::new(TransportErrorKind::Io, "the system gives no random numbers")
    })
}

/// What the power is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// On.
    On,
    /// Off at once.
    Off,
    /// Off by the operating system, as after the power button.
    SoftOff,
}

impl Power {
    fn number(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::On => 1,
            Self::SoftOff => 5,
        }
    }
}

/// What a power command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The BMC has taken it.
    Taken,
    /// The BMC refused it, as the power is that way already.
    WasSo,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpmiError {
    /// The way to the BMC.
    Transport(TransportError),
    /// The BMC does not let us in; why.
    Login(String),
    /// The BMC refused the command for good, with this completion code.
    Refused(u8),
    /// The BMC could not do it now, with this completion code; it may have done it all the same.
    Unable(u8),
    /// The BMC answered something else.
    Strange {
        /// What should have come.
        expected: String,
        /// What came.
        got: String,
    },
}

impl From<TransportError> for IpmiError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

impl fmt::Display for IpmiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => error.fmt(f),
            Self::Login(words) => f.write_str(words),
            Self::Refused(code) | Self::Unable(code) => f.write_str(&completion(*code)),
            Self::Strange { expected, got } => write!(f, "expected {expected}, got {got}"),
        }
    }
}

impl Verdict for IpmiError {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Transport(error) if error.is_lost())
    }

    fn may_stand(&self) -> bool {
        !matches!(self, Self::Transport(_) | Self::Login(_))
    }

    fn is_refusal(&self) -> bool {
        match self {
            Self::Transport(error) => error.is_refusal(),
            Self::Login(_) | Self::Refused(_) => true,
            Self::Unable(_) | Self::Strange { .. } => false,
        }
    }
}

fn strange(asked: &str, expected: &str, got: &[u8]) -> IpmiError {
    let shown = got
        .iter()
        .take(MOST_SHOWN)
        .map(|byte| format!("{byte:02x}"));
    let shown = shown.collect::<Vec<_>>().join(" ");
    IpmiError::Strange {
        expected: format!("{expected} as the answer to {asked}"),
        got: format!("{} bytes ({shown})", got.len()),
    }
}

fn busy(why: &str) -> IpmiError {
    IpmiError::Transport(TransportError::new(TransportErrorKind::Busy, why))
}

fn incompatible(why: String) -> IpmiError {
    IpmiError::Transport(TransportError::new(TransportErrorKind::Incompatible, why))
}

/// What a BMC says of itself before a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Capabilities {
    has_new: bool,
    has_kg: bool,
    /// IPMI 1.5's ways of authentication, each a bit.
    ways: u8,
}

impl Capabilities {
    /// The answer to Get Channel Authentication Capabilities.
    fn read(data: &[u8]) -> Option<Self> {
        let [_channel, ways, status, rest @ ..] = data else {
            return None;
        };
        let has_more = ways & 0x80 != 0;
        Some(Self {
            has_new: has_more && rest.first().is_some_and(|more| more & 0x02 != 0),
            has_kg: has_more && status & 0x20 != 0,
            ways: ways & 0x3f,
        })
    }
}

/// The suites in the answers to Get Channel Cipher Suites: of each record its number alone.
fn read_suites(records: &[u8]) -> Vec<u8> {
    let (mut suites, mut rest) = (Vec::new(), records);
    loop {
        rest = match rest {
            [0xc0, number, rest @ ..] => {
                suites.push(*number);
                rest
            }
            // A maker's own, with its number and the maker's.
            [0xc1, _, _, _, _, rest @ ..] => rest,
            // An algorithm of the record.
            [_, rest @ ..] => rest,
            [] => return suites,
        };
    }
}

/// Logs in and out.
struct Door {
    host: String,
    port: u16,
    account: Account,
}

/// An open session. It is closed when it is given up.
struct Session {
    line: Line,
    talk: Talk,
    is_open: bool,
}

impl Session {
    fn ask(
        &mut self,
        function: u8,
        command: u8,
        data: &[u8],
        timed: impl Timed,
    ) -> Result<Response, IpmiError> {
        let request = Request {
            function,
            command,
            data: data.to_vec(),
        };
        let answer = self.line.ask(&mut self.talk, &request, timed);
        let asked = match (function, command) {
            (CHASSIS, 1) => "Get Chassis Status",
            (CHASSIS, _) => "Chassis Control",
            _ => "a request of the session",
        };
        answer.map_err(|silence| self.line.error(silence, TransportErrorKind::Timeout, asked))
    }

    /// The answer's data, or what its completion code means.
    fn data(response: Response) -> Result<Vec<u8>, IpmiError> {
        match response.completion {
            0 => Ok(response.data),
            code if words::is_refusal(code) => Err(IpmiError::Refused(code)),
            0xc0 => Err(busy(&completion(0xc0))),
            code => Err(IpmiError::Unable(code)),
        }
    }

    /// Raises the privilege that a session begins with.
    fn raise(&mut self, account: &Account, deadline: Deadline) -> Result<(), IpmiError> {
        let privilege = account.privilege.number();
        let response = self.ask(APP, 0x3b, &[privilege], deadline)?;
        match response.completion {
            0x80..=0x82 | 0xd4 => Err(IpmiError::Login(format!(
                "{} (Set Session Privilege Level: {})",
                account.no_privilege(),
                completion(response.completion)
            ))),
            _ => Self::data(response).map(drop),
        }
    }

    fn is_on(&mut self, timed: impl Timed) -> Result<bool, IpmiError> {
        let response = self.ask(CHASSIS, 1, &[], timed)?;
        let data = Self::data(response)?;
        match data.first() {
            Some(state) => Ok(state & 1 != 0),
            None => Err(strange("Get Chassis Status", "the power's state", &data)),
        }
    }

    fn power(&mut self, power: Power, timed: impl Timed) -> Result<Done, IpmiError> {
        let response = self.ask(CHASSIS, 2, &[power.number()], timed)?;
        match Self::data(response) {
            Ok(_) => Ok(Done::Taken),
            // Some BMCs take no command to do what is done.
            Err(IpmiError::Refused(0xd5))
                if self.is_on(timed.deadline())? == (power == Power::On) =>
            {
                Ok(Done::WasSo)
            }
            Err(error) => Err(error),
        }
    }

    fn farewell(&mut self) -> Request {
        self.is_open = false;
        Request {
            function: APP,
            command: 0x3c,
            data: self.talk.session.to_le_bytes().to_vec(),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.is_open {
            let request = self.farewell();
            self.line.tell(&mut self.talk, &request);
        }
    }
}

impl Door {
    /// What the BMC at one of the host's addresses says of itself: of several that are silent each
    /// has its share of the time.
    fn greet(&self, deadline: Deadline) -> Result<(Line, Capabilities), IpmiError> {
        let addresses = resolve(&self.host, self.port, deadline)?;
        let mut failed = None;
        for (at, peer) in addresses.iter().enumerate() {
            let shares = u32::try_from(addresses.len() - at).unwrap_or(1).max(1);
            let share = deadline.left("a greeting")? / shares;
            match self.greet_at(*peer, deadline.within(share)) {
                Err(IpmiError::Transport(error)) => failed = Some(error),
                told => return told,
            }
        }
        Err(IpmiError::Transport(failed.unwrap_or_else(|| {
            let none = format!("{} has no address", self.host);
            TransportError::new(TransportErrorKind::NoConnection, none)
        })))
    }

    fn greet_at(
        &self,
        peer: SocketAddr,
        deadline: Deadline,
    ) -> Result<(Line, Capabilities), IpmiError> {
        let none = |error| {
            let none = format!("no BMC at {peer} (UDP): {error}");
            TransportError::new(TransportErrorKind::NoConnection, none)
        };
        let mut line = Line::new(peer, Link::open(peer).map_err(none)?);
        let asked = "Get Channel Authentication Capabilities";
        // This channel; the highest bit asks for those of IPMI 2.0, which old BMCs do not know.
        let mut data = Vec::new();
        for channel in [0x8e, 0x0e] {
            let request = Request {
                function: APP,
                command: 0x38,
                data: vec![channel, self.account.privilege.number()],
            };
            let answer = line.ask(&mut Talk::plain(), &request, deadline);
            let answer = answer
                .map_err(|silence| line.error(silence, TransportErrorKind::NoConnection, asked))?;
            data = answer.data;
            if answer.completion == 0
                && let Some(capabilities) = Capabilities::read(&data)
            {
                return Ok((line, capabilities));
            }
        }
        Err(strange(asked, "what the BMC has", &data))
    }

    /// The suites to try: those that the BMC tells and we speak, or all where it tells none.
    fn suites(&self, line: &mut Line, deadline: Deadline) -> Result<Vec<Suite>, IpmiError> {
        if let Some(suite) = self.account.suite {
            return Ok(vec![suite]);
        }
        let mut records = Vec::new();
        // An old BMC may be silent to this.
        let patience = SUITES.min(deadline.left("a login")? / 4);
        let patience = deadline.within(patience);
        // Each answer has 16 bytes of the list, the last one less.
        for part in 0..16 {
            let request = Request {
                function: APP,
                command: 0x54,
                data: vec![0x0e, 0, 0x80 | part],
            };
            let answer = match line.ask(&mut Talk::plain(), &request, patience) {
                Err(Unanswered::Silent(_)) => break,
                answer => answer.map_err(|gone| {
                    let asked = "Get Channel Cipher Suites";
                    line.error(gone, TransportErrorKind::Timeout, asked)
                })?,
            };
            let (0, [_channel, list @ ..]) = (answer.completion, answer.data.as_slice()) else {
                break;
            };
            records.extend(list);
            if list.len() < 16 {
                break;
            }
        }
        let told = read_suites(&records);
        if told.is_empty() {
            return Ok(Suite::ALL.to_vec());
        }
        let both = Suite::ALL.into_iter();
        let suites: Vec<Suite> = both
            .filter(|suite| told.contains(&suite.number()))
            .collect();
        match suites.is_empty() {
            false => Ok(suites),
            true => {
                let told: Vec<String> = told.iter().map(u8::to_string).collect();
                let told = told.join(", ");
                Err(incompatible(format!(
                    "the BMC offers the cipher suites {told}, and neither 17 nor 3"
                )))
            }
        }
    }

    fn login(
        &self,
        line: &mut Line,
        told: Capabilities,
        deadline: Deadline,
    ) -> Result<Talk, IpmiError> {
        if !told.has_new {
            return match self.account.suite {
                None => old::login(line, &self.account, told.ways, deadline),
                Some(suite) => Err(incompatible(format!(
                    "the BMC speaks only IPMI 1.5, which has no cipher suite {suite}; leave out \
                     the key suite to take that"
                ))),
            };
        }
        let mut words = Vec::new();
        let mut suites = self.suites(line, deadline)?.into_iter();
        while let Some(suite) = suites.next() {
            // An old BMC may be silent to algorithms that it does not know.
            let shares = if suites.len() > 0 { 2 } else { 1 };
            let share = deadline.within(deadline.left("a login")? / shares);
            let words_of = match new::login(line, &self.account, suite, told.has_kg, share) {
                Ok(Opened::Session(talk)) => return Ok(talk),
                Ok(Opened::NotOffered(why)) => why,
                Err(IpmiError::Transport(error))
                    if error.kind == TransportErrorKind::Timeout && shares > 1 =>
                {
                    error.detail
                }
                Err(error) => return Err(error),
            };
            words.push(format!("{suite} ({words_of})"));
        }
        Err(incompatible(format!(
            "the BMC does not offer the cipher suite {}",
            words.join(", nor ")
        )))
    }
}

impl Opener for Door {
    type Session = Session;
    type Error = IpmiError;

    /// A BMC ends a session that was idle for a minute.
    const IDLE: Duration = Duration::from_secs(30);

    fn open(&mut self, deadline: Deadline) -> Result<Session, IpmiError> {
        let (mut line, told) = self.greet(deadline)?;
        let talk = self.login(&mut line, told, deadline)?;
        let mut session = Session {
            line,
            talk,
            is_open: true,
        };
        session.raise(&self.account, deadline)?;
        Ok(session)
    }

    fn is_alive(&self, session: &mut Session, _: Deadline) -> bool {
        session.line.has_numbers()
    }

    fn leave(&self, mut session: Session, deadline: Deadline) {
        let request = session.farewell();
        let timed = deadline.within(FAREWELL);
        let told: Result<Response, Unanswered<Infallible>> =
            session.line.ask(&mut session.talk, &request, timed);
        drop(told);
    }
}

/// A machine's BMC.
#[derive(Debug)]
pub struct Bmc {
    kept: Kept<Door>,
}

impl Bmc {
    /// The BMC at `host`; nothing is sent yet.
    pub fn new(host: impl Into<String>, port: u16, account: Account) -> Self {
        Self {
            kept: Kept::new(Door {
                host: host.into(),
                port,
                account,
            }),
        }
    }

    /// Is the machine's power on?
    pub fn is_on(&mut self, deadline: Deadline) -> Result<bool, IpmiError> {
        let read = |_: &Door, session: &mut Session| session.is_on(deadline);
        self.kept.call(deadline, read)
    }

    /// Switches the machine's power.
    pub fn power(&mut self, power: Power, attempt: &Attempt) -> Result<Done, IpmiError> {
        let switch = |_: &Door, session: &mut Session| session.power(power, attempt);
        self.kept.call(attempt, switch)
    }

    /// Leaves the session.
    pub fn rest(&mut self, deadline: Deadline) {
        self.kept.rest(deadline);
    }
}

/// For the fuzzer: what a BMC sends, read in every way we can read it.
#[cfg(fuzzing)]
#[allow(missing_docs, clippy::missing_panics_doc)]
pub mod fuzzing {
    use super::cipher::{Keys, Suite};
    use super::line::{MD5, Seal, Talk};
    use super::wire::{self, APP, CHASSIS, Packet, Request};

    pub fn datagram(bytes: &[u8]) {
        super::new::fuzz(bytes);
        let _ = super::Capabilities::read(bytes);
        let _ = super::read_suites(bytes);
        let request = |function, command| Request {
            function,
            command,
            data: Vec::new(),
        };
        let _ = wire::answer(bytes, &request(APP, 0x38), 0);
        let keys = || Keys::new(Suite::Three, b"secret");
        let _ = keys().decrypt(bytes);
        if let Ok(Packet::New { payload, .. }) = wire::packet(bytes) {
            super::new::fuzz(payload);
        }
        let password = *b"secret\0\0\0\0\0\0\0\0\0\0";
        let seals = [
            Seal::Old {
                kind: MD5,
                password,
            },
            Seal::New {
                keys: keys(),
                console: 1,
            },
        ];
        for seal in seals {
            let talk = Talk {
                seal,
                session: 1,
                sequence: 1,
            };
            drop(talk.decode(bytes, &request(CHASSIS, 1), 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bmc_has_is_read_from_its_capabilities() {
        let read = |data: &[u8]| Capabilities::read(data);
        let both = Capabilities {
            has_new: true,
            has_kg: true,
            ways: 0x14,
        };
        assert_eq!(read(&[1, 0x94, 0x24, 3, 0, 0, 0, 0]), Some(both));
        let old = Capabilities {
            has_new: false,
            has_kg: false,
            ways: 0x14,
        };
        // Without the bit of IPMI 2.0 the further bytes are reserved.
        assert_eq!(read(&[1, 0x14, 0x24, 3, 0, 0, 0, 0]), Some(old));
        assert_eq!(read(&[1, 0x94, 0x04, 1]), Some(old));
        assert_eq!(read(&[1, 0x94]), None);
    }

    #[test]
    fn suites_are_read_from_records_of_every_kind() {
        let records = [
            0xc0, 3, 1, 0x41, 0x81, 0xc1, 0x80, 0x57, 1, 0, 1, 0x41, 0xc0, 17, 3, 0x44, 0x81,
        ];
        assert_eq!(read_suites(&records), [3, 17]);
        assert!(read_suites(&[0xc0]).is_empty());
        assert!(read_suites(&[0xc1, 1]).is_empty());
    }

    #[test]
    fn a_kg_is_a_text_or_hex() {
        let parse = |text: &str| Kg::parse(&Secret::new(text));
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("key"), Ok(Some(Kg(b"key".to_vec()))));
        assert_eq!(parse("0x00ff"), Ok(Some(Kg(vec![0, 0xff]))));
        for wrong in ["0x0", "0xgg", "0xé", "123456789012345678901"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
