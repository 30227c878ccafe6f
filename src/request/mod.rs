//! The nouns that every station shares: a client's request, and the answer to it.
//!
//! Invariant: imports nothing of ours.

pub(crate) mod hint;
pub mod ranges;

use serde::Deserialize;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The name of a PDU: its key under `pdus` in the config.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PduName(Arc<str>);

impl PduName {
    /// Wraps a name; any text is one.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name as written in the config.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for PduName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PduName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An outlet id as the client wrote it: often a number, sometimes a name.
///
/// Two ids are the same outlet when their keys are equal. A key is the id itself without the
/// leading zeros of an all-digit one, so `4`, `04` and the JSON number 4 compare (and hash) equal;
/// a PDU whose outlets have several names gives them one key ([`Outlet::known_as`]).
#[derive(Clone, Debug)]
pub struct Outlet {
    text: Arc<str>,
    key: Option<Arc<str>>,
}

impl Outlet {
    /// Wraps an outlet id; the driver's outlets say whether the PDU can have it.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self {
            text: id.into(),
            key: None,
        }
    }

    /// The same id, for the outlet that others know as `key`.
    #[must_use]
    pub fn known_as(mut self, key: impl Into<Arc<str>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The id as the client wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The key that the PDU gave it, where it gave one.
    pub fn other_key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The id for comparisons: digits without leading zeros, other ids as the client wrote them,
    /// unless the PDU gave this outlet a key.
    pub fn key(&self) -> &str {
        match &self.key {
            Some(key) => key,
            None => self.digits().unwrap_or(&self.text),
        }
    }

    /// An id of digits alone, without leading zeros.
    fn digits(&self) -> Option<&str> {
        if self.text.is_empty() || !self.text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digits = self.text.trim_start_matches('0');
        // "000" is outlet 0.
        Some(if digits.is_empty() { "0" } else { digits })
    }

    /// The id as a number, when it is all digits and fits.
    pub fn number(&self) -> Option<u32> {
        self.digits()?.parse().ok()
    }
}

impl PartialEq for Outlet {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Outlet {}

impl PartialOrd for Outlet {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Outlet {
    /// As people count: numbers by value wherever they stand, so outlet 10 comes after outlet 9
    /// and `AA10` after `AA9`.
    fn cmp(&self, other: &Self) -> Ordering {
        natural(self.key(), other.key())
    }
}

fn natural(left: &str, right: &str) -> Ordering {
    /// The digits in front without leading zeros, and the rest behind them.
    fn number(text: &str) -> Option<(&str, &str)> {
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, rest) = text.split_at(end);
        (!digits.is_empty()).then(|| (digits.trim_start_matches('0'), rest))
    }
    let (mut one, mut other) = (left, right);
    loop {
        if let (Some((a, a_rest)), Some((b, b_rest))) = (number(one), number(other)) {
            match a.len().cmp(&b.len()).then(a.cmp(b)) {
                Ordering::Equal => (one, other) = (a_rest, b_rest),
                order => return order,
            }
            continue;
        }
        let (mut a, mut b) = (one.chars(), other.chars());
        match (a.next(), b.next()) {
            (Some(left), Some(right)) if left == right => (one, other) = (a.as_str(), b.as_str()),
            // Equal but for leading zeros.
            (None, None) => return left.cmp(right),
            (left, right) => return left.cmp(&right),
        }
    }
}

impl Hash for Outlet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The state an outlet can be put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// Power flows.
    On,
    /// Power does not flow.
    Off,
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

/// An outlet's state as read back from its PDU. Unknown is not off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The PDU says that power flows.
    On,
    /// The PDU says that power does not flow.
    Off,
    /// The PDU said something else: its words.
    Unknown(String),
}

impl From<Switch> for State {
    fn from(switch: Switch) -> Self {
        match switch {
            Switch::On => Self::On,
            Switch::Off => Self::Off,
        }
    }
}

/// The proof that an outlet has switched, from the weakest to the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// None: we have sent the command.
    None,
    /// The PDU has answered that it took the command.
    Reply,
    /// The PDU shows the new state.
    State,
}

impl FromStr for Proof {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "reply" => Ok(Self::Reply),
            "state" => Ok(Self::State),
            _ => Err(format!(
                "expected \"state\", \"reply\" or \"none\", got {text:?}"
            )),
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Reply => "reply",
            Self::State => "state",
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On => f.write_str("on"),
            Self::Off => f.write_str("off"),
            Self::Unknown(read) => write!(f, "unknown ({read})"),
        }
    }
}

/// What a client can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Put the outlet on or off.
    Switch(Switch),
    /// Off, pause, on; nothing for that outlet in between.
    Reboot,
    /// Read the outlet's state from the PDU.
    State,
}

impl Action {
    /// The commands as clients write them, for messages.
    pub const COMMANDS: &str = "on, off, reboot or get-status";
}

impl FromStr for Action {
    type Err = ();

    /// Commands are lower case only, as in every release of the Python program.
    fn from_str(command: &str) -> Result<Self, ()> {
        match command {
            "on" => Ok(Self::Switch(Switch::On)),
            "off" => Ok(Self::Switch(Switch::Off)),
            "reboot" => Ok(Self::Reboot),
            "get-status" => Ok(Self::State),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(to) => to.fmt(f),
            Self::Reboot => f.write_str("reboot"),
            Self::State => f.write_str("get-status"),
        }
    }
}

/// A checked `delay`: 0 to 86,400 seconds, decimals allowed, negative counts as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct Delay {
    pause: Duration,
    was_negative: bool,
}

impl Delay {
    /// The longest pause a client may ask for: one day.
    pub const MAX: Duration = Duration::from_secs(86_400);

    /// The pause.
    pub fn duration(self) -> Duration {
        self.pause
    }

    /// Was it written as less than 0? The Python program took that for no pause.
    pub fn was_negative(self) -> bool {
        self.was_negative
    }

    /// Checks a number of seconds. Fails with a sentence on NaN, infinity and more than a day.
    pub fn from_secs(seconds: f64) -> Result<Self, String> {
        let was_negative = seconds < 0.0;
        match Duration::try_from_secs_f64(if was_negative { 0.0 } else { seconds }) {
            Ok(pause) if pause <= Self::MAX => Ok(Self {
                pause,
                was_negative,
            }),
            _ => Err(format!("delay: expected 0 to 86400 seconds, got {seconds}")),
        }
    }
}

impl FromStr for Delay {
    type Err = String;

    /// Accepts an integer or a plain decimal; not `inf`, `nan` or an empty text.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("delay: expected a number of seconds, got {text:?}");
        if !text
            .bytes()
            .all(|b| b.is_ascii_digit() || b"+-._eE".contains(&b))
        {
            return Err(wrong());
        }
        Self::from_secs(text.parse().map_err(|_| wrong())?)
    }
}

/// The target of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One outlet of one PDU.
    Outlet {
        /// The PDU's name as the client gave it.
        pdu: String,
        /// The outlet id as the client gave it.
        outlet: Outlet,
    },
    /// An alias of the config: one outlet or a group of them.
    Alias(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outlet { pdu, outlet } => write!(f, "{pdu} {outlet}"),
            Self::Alias(alias) => write!(f, "alias {alias}"),
        }
    }
}

/// The most bytes a name of a PDU, an outlet or an alias may have in a request.
pub const LONGEST_NAME: usize = 1024;

impl Target {
    /// Cuts names that are longer than any can be, so that we keep no more of them; was there
    /// one?
    pub fn cut(&mut self) -> bool {
        let cut = |name: &str| {
            let end = name.floor_char_boundary(LONGEST_NAME);
            name.get(..end).unwrap_or_default().to_owned()
        };
        let is_long = |name: &str| name.len() > LONGEST_NAME;
        match self {
            Self::Outlet { pdu, outlet } if is_long(pdu) || is_long(outlet.as_str()) => {
                *pdu = cut(pdu);
                *outlet = Outlet::new(cut(outlet.as_str()));
            }
            Self::Alias(alias) if is_long(alias) => *alias = cut(alias),
            Self::Outlet { .. } | Self::Alias(_) => return false,
        }
        true
    }
}

/// One request, as a listener hands it to the dispatcher.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks, for the log and for [`Request::owner`]: an address, `unix` or `drive`, behind
    /// `<token's name>@` when the request has a token.
    pub client: Arc<str>,
    /// Which outlet or alias.
    pub target: Target,
    /// The command.
    pub action: Action,
    /// The pause of a reboot, or the (deprecated) wait before on and off.
    pub delay: Option<Delay>,
    /// Nobody waits for it (a list, a page): it gives way to requests that somebody waits for.
    pub is_background: bool,
    /// May the answer say which names the config has, when it has no such name?
    pub may_know_names: bool,
}

impl Request {
    /// How long it waits before it takes its place in line: the delay of an on or off.
    pub fn waits(&self) -> Duration {
        match (self.action, self.delay) {
            (Action::Switch(_), Some(delay)) => delay.duration(),
            (Action::Switch(_) | Action::Reboot | Action::State, _) => Duration::ZERO,
        }
    }

    /// The client to whom its places in queues count: a token, wherever it comes from; else an
    /// address, or the /64 that an IPv6 client can choose from.
    pub fn owner(&self) -> Arc<str> {
        let client = &self.client;
        if let Some((token, _)) = client.rsplit_once('@') {
            // Its last character shows that it is no address.
            return format!("{token}@").into();
        }
        match client.parse().map(|ip: IpAddr| ip.to_canonical()) {
            Ok(IpAddr::V6(ip)) => {
                let network = ip.to_bits() & !u128::from(u64::MAX);
                format!("{}/64", Ipv6Addr::from_bits(network)).into()
            }
            Ok(IpAddr::V4(ip)) => ip.to_string().into(),
            Err(_) => Arc::clone(client),
        }
    }
}

/// The work for a successful request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The state, when the client asked for it.
    pub state: Option<State>,
    /// The number of driver calls.
    pub attempts: u32,
    /// The proof of its weakest step.
    pub proof: Proof,
}

/// Why a request failed: the classes that a client can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The request itself is wrong: a missing parameter, a bad delay.
    BadRequest,
    /// No such PDU in the config.
    UnknownPdu,
    /// No such alias in the config, or an alias that leads nowhere.
    UnknownAlias,
    /// The PDU's settings in the config cannot work.
    BrokenSettings,
    /// The PDU cannot have such an outlet.
    NoSuchOutlet,
    /// The PDU's queue is full.
    QueueFull,
    /// The PDU did not answer, or not in time.
    Unreachable,
    /// The PDU answered, but refused or answered something else.
    Refused,
    /// This driver cannot read states.
    CannotRead,
    /// The daemon is stopping.
    Stopping,
    /// Somebody cancelled it while it was in the queue.
    Cancelled,
    /// The driver itself failed: a bug.
    Internal,
}

/// `1 PDU`, `2 PDUs`.
pub fn count(number: usize, one: &str, several: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {several}"),
    }
}

/// A failed request: its class and a sentence for the person reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class.
    pub kind: FailureKind,
    /// The sentence: PDU, outlet, the expected answer, the real one.
    pub reason: String,
}

impl Failure {
    /// A failure of this class.
    pub fn new(kind: FailureKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// The answer to the client.
pub type Outcome = Result<Done, Failure>;

/// Where the outcome goes. The worker's thread calls it exactly once, so it must not block.
pub type Reply = Box<dyn FnOnce(Outcome) + Send>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlets_are_the_same_without_leading_zeros() {
        assert_eq!(Outlet::new("4"), Outlet::new("004"));
        assert_eq!(Outlet::new("0"), Outlet::new("000"));
        assert_ne!(Outlet::new("4"), Outlet::new("40"));
        assert_ne!(Outlet::new("a4"), Outlet::new("a04"));
        assert_eq!(Outlet::new("0012").number(), Some(12));
        assert_eq!(Outlet::new("99999999999").number(), None);
        assert_eq!(Outlet::new("").number(), None);
    }

    #[test]
    fn a_token_is_one_owner_wherever_it_is_used_and_so_is_a_network_of_ipv6() {
        let owner = |client: &str| {
            let request = Request {
                client: client.into(),
                target: Target::Alias(String::new()),
                action: Action::State,
                delay: None,
                is_background: false,
                may_know_names: false,
            };
            request.owner().to_string()
        };
        assert_eq!(owner("bob@10.0.0.1"), owner("bob@2001:db8::1"));
        assert_ne!(owner("10.0.0.1@unix"), owner("10.0.0.1"));
        assert_eq!(owner("::ffff:10.0.0.1"), owner("10.0.0.1"));
        assert_ne!(owner("10.0.0.1"), owner("10.0.0.2"));
        assert_eq!(owner("2001:db8::1"), owner("2001:db8::ffff:1:2"));
        assert_ne!(owner("2001:db8::1"), owner("2001:db8:0:1::1"));
        assert_eq!(owner("unix"), "unix");
    }

    #[test]
    fn delays_are_checked_whole() {
        let secs = |text: &str| text.parse::<Delay>().map(|d| d.duration().as_secs_f64());
        assert_eq!(secs("5"), Ok(5.0));
        assert_eq!(secs("0.5"), Ok(0.5));
        assert_eq!(secs("-3"), Ok(0.0));
        assert_eq!(secs("86400"), Ok(86_400.0));
        for bad in ["abc", "", "nan", "inf", "1e9", "86400.1", "1;2", "0x10"] {
            assert!(secs(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
