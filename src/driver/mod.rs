//! Drivers: one protocol dialect each.
//!
//! # Writing a driver
//!
//! Most devices need no driver: a profile says what to send (`share/doc/profiles.md`). A driver file
//! has two halves: the [`Driver`] trait (over telnet the smaller `Console`, which is given a terminal
//! that is logged in), and the bytes as pure functions with their unit tests. Models of one dialect are rows of data in the transport's table (`SPECS` in the
//! folder's `mod.rs`), not files. A driver says what went wrong in a [`DriverError`]; which PDU
//! and which outlet it was, retries, pauses, reboots and queueing are the worker's. It keeps a
//! session (a login, an open port) between calls and leaves it in [`Driver::rest`]. Its `switch`
//! sends the command and says what the PDU's answer proves; whether that is enough, and the reading
//! of the state where it is not, is [`confirm`]'s. Its `state` changes nothing. A driver is never asked
//! for an outlet that it cannot have: its row says which there can be ([`Has`]), or building it gives
//! them ([`Outlets`]).
//!
//! Invariant: a driver knows `request`, `settings`, this file and `transport`; no other driver, no
//! thread, no retry, and not its PDU's name in messages.

pub mod command;
pub mod confirm;
pub mod detect;
pub mod discover;
pub mod docs;
pub mod http;
mod ipmi;
mod mqtt;
mod outlets;
pub(crate) mod profile;
pub mod registry;
pub mod serial;
pub mod simulated;
pub mod snmp;
pub mod ssh;
mod states;
mod stream;
pub mod tcp;
pub mod telnet;
pub mod trial;
pub mod usb;
pub mod ways;

pub use outlets::{Has, Outlets, Sought, named, outlet_number};
pub use profile::Tape;
pub use states::States;

use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Address, Key, Keys, Settings, SettingsError, keys};
use crate::transport::{Attempt, Deadline, TransportError, TransportErrorKind, Verdict};
use std::fmt;
use std::time::Duration;

/// One PDU's driver. It is built by its [`DriverSpec`], owned by one worker thread, and asked one
/// thing at a time.
pub trait Driver: Send {
    /// What this PDU can prove a switch with, the strongest first: a state by [`Driver::state`], a
    /// reply by [`Driver::switch`].
    fn proofs(&self) -> &'static [Proof] {
        &[Proof::State, Proof::Reply]
    }

    /// Tells the PDU once to put `outlet`, one of its [`Outlets`], into the state `to`, and takes its answer, where it has
    /// one; returns what that proves. A state only where the answer itself shows it: [`confirm`]
    /// reads what is missing.
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError>;

    /// So many outlets one [`Driver::switch_all`] may be about.
    fn at_once(&self) -> usize {
        1
    }

    /// Does the same with all of these outlets by one command; a failure is the failure of every one.
    fn switch_all(
        &mut self,
        outlets: &[Outlet],
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let mut weakest = Proof::State;
        for outlet in outlets {
            weakest = weakest.min(self.switch(outlet, to, attempt)?);
        }
        Ok(weakest)
    }

    /// Reads the outlet's state from the PDU itself, never from memory, and changes nothing by it.
    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let _ = (outlet, deadline);
        Err(DriverError::CannotRead(
            "this kind of PDU does not tell it".into(),
        ))
    }

    /// The same, and the states of as many `others` as the same exchange tells, the first of them
    /// first: it costs the PDU nothing more.
    fn states(
        &mut self,
        outlet: &Outlet,
        others: &[Outlet],
        deadline: Deadline,
    ) -> Result<States, DriverError> {
        let _ = others;
        self.state(outlet, deadline).map(States::only)
    }

    /// Asks the PDU how many outlets it has; `None` where it does not tell that.
    fn count(&mut self, deadline: Deadline) -> Result<Option<usize>, DriverError> {
        let _ = deadline;
        Ok(None)
    }

    /// Asks the PDU what it calls its outlets, of these those that have a name there. Ends at the
    /// first that it does not know.
    fn names(
        &mut self,
        outlets: &[Outlet],
        deadline: Deadline,
    ) -> Result<Vec<(Outlet, String)>, DriverError> {
        let _ = (outlets, deadline);
        Ok(Vec::new())
    }

    /// The outlet under the key that all its names share, as far as the driver knows that without
    /// asking the PDU; `None` where only the PDU knows it. Then [`Driver::find`] asks.
    fn known(&self, outlet: &Outlet) -> Option<Outlet> {
        Some(outlet.clone())
    }

    /// Asks the PDU which outlet this name means.
    fn find(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<Outlet, DriverError> {
        let _ = deadline;
        Ok(outlet.clone())
    }

    /// The queue has run dry, or another call failed: leave the session, so that others can log
    /// in. Errors are of no use to anybody and are swallowed.
    fn rest(&mut self, deadline: Deadline) {
        let _ = deadline;
    }

    /// What is foolish in its settings but can be lived with: the key, and a sentence.
    fn warning(&self) -> Option<(&'static str, String)> {
        None
    }
}

/// Why a driver call failed. Lower case, no full stop, expected and got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverError {
    /// This PDU cannot have such an outlet.
    NoSuchOutlet {
        /// Which outlets it has, as `outlets 1 to 8`.
        expected: String,
    },
    /// This PDU has nothing that tells the state; why.
    CannotRead(String),
    /// The PDU did not accept the user or password.
    LoginRefused(String),
    /// The PDU understood and refused, or reported a failure of its own: its words.
    Refused(String),
    /// The PDU took the command, and its state is not the one asked for when the wait for it is over.
    StillShows {
        /// What was asked for.
        to: Switch,
        /// What was read last.
        shows: State,
    },
    /// The PDU answered something else.
    Unexpected {
        /// What should have come.
        expected: String,
        /// What came, see [`crate::transport::printable`].
        got: String,
    },
    /// Something is missing on this machine: a program, an option of the config that only shows at
    /// run time.
    Setup(String),
    /// The way to the PDU failed.
    Transport(TransportError),
}

impl DriverError {
    /// One word for its kind, for counting.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoSuchOutlet { .. } => "no-such-outlet",
            Self::CannotRead(_) => "cannot-read",
            Self::LoginRefused(_) => "login-refused",
            Self::Refused(_) => "refused",
            Self::StillShows { .. } => "not-shown",
            Self::Unexpected { .. } => "unexpected",
            Self::Setup(_) => "setup",
            Self::Transport(error) => match error.kind {
                TransportErrorKind::NoName => "no-name",
                TransportErrorKind::NoConnection => "no-connection",
                TransportErrorKind::NotFound => "not-found",
                TransportErrorKind::NoPermission => "no-permission",
                TransportErrorKind::Busy => "busy",
                TransportErrorKind::Untrusted => "untrusted",
                TransportErrorKind::Incompatible => "incompatible",
                TransportErrorKind::Timeout => "timeout",
                TransportErrorKind::Closed => "closed",
                TransportErrorKind::Garbled => "garbled",
                TransportErrorKind::Io => "io",
            },
        }
    }

    /// Does a further attempt make sense? A timeout: yes. A wrong outlet: never.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoSuchOutlet { .. }
            | Self::CannotRead(_)
            | Self::LoginRefused(_)
            | Self::Refused(_)
            | Self::Setup(_) => false,
            Self::StillShows { .. } | Self::Unexpected { .. } => true,
            Self::Transport(error) => error.is_transient(),
        }
    }

    /// Did the PDU as a whole fail to answer, so that its other outlets would fail as well?
    pub fn is_pdu_away(&self) -> bool {
        match self {
            Self::Transport(error) => error.kind != TransportErrorKind::Garbled,
            Self::NoSuchOutlet { .. }
            | Self::CannotRead(_)
            | Self::LoginRefused(_)
            | Self::Refused(_)
            | Self::StillShows { .. }
            | Self::Unexpected { .. }
            | Self::Setup(_) => false,
        }
    }
}

impl Verdict for DriverError {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Transport(error) if error.is_lost())
    }

    fn may_stand(&self) -> bool {
        !matches!(
            self,
            Self::Transport(_) | Self::LoginRefused(_) | Self::Setup(_)
        )
    }

    fn is_refusal(&self) -> bool {
        match self {
            Self::NoSuchOutlet { .. }
            | Self::LoginRefused(_)
            | Self::Refused(_)
            | Self::Setup(_) => true,
            Self::CannotRead(_) | Self::StillShows { .. } | Self::Unexpected { .. } => false,
            Self::Transport(error) => error.is_refusal(),
        }
    }
}

impl From<TransportError> for DriverError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchOutlet { expected } => write!(f, "no such outlet: expected {expected}"),
            Self::CannotRead(why) => write!(f, "the state cannot be read: {why}"),
            Self::LoginRefused(words) => write!(f, "login refused: {words}"),
            Self::Refused(words) => write!(f, "the PDU refused: {words}"),
            Self::StillShows { to, shows } => write!(f, "asked for {to}, still shows {shows}"),
            Self::Unexpected { expected, got } => write!(f, "expected {expected}, got {got}"),
            Self::Setup(what) => f.write_str(what),
            Self::Transport(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DriverError {}

/// Makes a driver of a PDU's settings. Checks them whole and does no I/O, so that `--check` works
/// on a machine without PDUs and a dead PDU never stops the daemon from starting.
pub trait Build: Sync {
    /// The keys that it reads, beside those that every PDU has.
    fn keys(&self) -> Vec<Key>;

    /// Does it hand on keys that it does not know, so that none is unknown?
    fn takes_any_key(&self) -> bool {
        false
    }

    /// Builds the driver, or says which key is wrong.
    fn build(&self, settings: &Settings) -> Result<Built, SettingsError>;

    /// What is wrong with the settings that only a program of this machine can tell; `--check` asks.
    fn try_out(&self, settings: &Settings) -> Result<(), String> {
        let _ = settings;
        Ok(())
    }

    /// Runs the tests that it brings along; tells those that fail.
    fn prove(&self) -> Vec<String> {
        Vec::new()
    }

    /// Who can write down what such a driver says to its PDU: a profile alone.
    fn scribe(&self) -> Option<&dyn Scribe> {
        None
    }
}

/// Writes down what a driver says to its PDU, as a test of the driver's profile.
pub trait Scribe {
    /// Builds the driver; what it says to the PDU is written on the `tape`.
    fn taped(&self, settings: &Settings, tape: &Tape) -> Result<Built, SettingsError>;

    /// The dialogue on the `tape` as a test of the profile, with nothing of its secrets; and why it
    /// does not pass, where it does not.
    fn test(
        &self,
        settings: &Settings,
        tape: &Tape,
        outlet: &Outlet,
        to: Option<Switch>,
    ) -> Result<(String, Option<String>), String>;
}

/// Builds a driver of its keys by a function.
#[derive(Debug)]
pub struct By<K, B>(pub fn(K, &Settings) -> Result<B, SettingsError>);

impl<K: Keys, B> By<K, B> {
    /// What it builds, as its function gives it.
    fn of(&self, settings: &Settings) -> Result<B, SettingsError> {
        (self.0)(settings.keys()?, settings)
    }
}

impl<K: Keys, B: Into<Built>> Build for By<K, B> {
    fn keys(&self) -> Vec<Key> {
        K::rows()
    }

    fn build(&self, settings: &Settings) -> Result<Built, SettingsError> {
        self.of(settings).map(B::into)
    }
}

/// What a [`Build`] makes.
pub struct Built {
    /// The driver.
    pub driver: Box<dyn Driver>,
    /// The PDU's outlets, where its settings say more than its row of the table.
    pub outlets: Option<Outlets>,
}

impl fmt::Debug for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Built")
            .field("outlets", &self.outlets)
            .finish_non_exhaustive()
    }
}

impl From<Box<dyn Driver>> for Built {
    fn from(driver: Box<dyn Driver>) -> Self {
        Self {
            driver,
            outlets: None,
        }
    }
}

impl From<(Box<dyn Driver>, Outlets)> for Built {
    fn from((driver, outlets): (Box<dyn Driver>, Outlets)) -> Self {
        Self {
            driver,
            outlets: Some(outlets),
        }
    }
}

/// What the key `ip` is for.
const ADDRESS: &str = "address or host name, maybe with :port";

/// What the key `hostname` is for.
const SAME_AS_IP: &str = "the same as ip, which wins";

keys! {
    /// Where a PDU on a network is.
    struct Host {
        ip: Option<String> => "the PDU's name", ADDRESS;
        hostname: Option<String>, SAME_AS_IP;
    }
}

impl Host {
    /// The `ip` key, else the `hostname` key, else the PDU's name; each may carry `:port`, which
    /// wins over `port`.
    fn address(&self, settings: &Settings, port: u16) -> Result<Address, SettingsError> {
        let (key, host) = self.given().unwrap_or(("driver", settings.pdu().as_str()));
        Address::parse(host, port).map_err(|message| settings.error(key, message))
    }

    /// The same, or `host` where neither key says it.
    fn or(self, host: &str) -> Self {
        match self.given() {
            Some(_) => self,
            None => Self {
                ip: Some(host.to_owned()),
                hostname: None,
            },
        }
    }

    /// The key that says it, and what it says.
    fn given(&self) -> Option<(&'static str, &str)> {
        let keys = [("ip", &self.ip), ("hostname", &self.hostname)];
        let mut given = keys
            .into_iter()
            .filter_map(|(key, host)| Some((key, host.as_deref()?)));
        given.find(|(_, host)| !host.is_empty())
    }
}

/// Everything anybody needs to know about a driver name. `--list-drivers`, the man page, the tables
/// of `devices.md`, `--check` and the workers all read it.
#[derive(Clone, Copy)]
pub struct DriverSpec {
    /// The values of `driver` that select it.
    pub names: &'static [&'static str],
    /// Are the names accepted in any letter case?
    pub any_case: bool,
    /// Maker and models. Only a row that names no maker begins in lower case.
    pub models: &'static str,
    /// How the bytes travel: the folder's name.
    pub transport: &'static str,
    /// Which outlets its PDUs have, unless the settings say more.
    pub outlets: Has,
    /// Can it read states?
    pub reads_back: bool,
    /// How it was verified: real peer, simulator, captured frames; and every remaining doubt.
    pub verified_by: &'static str,
    /// Seconds one attempt may take when the config does not say.
    pub timeout: u64,
    /// Seconds that a new state may take to show.
    pub shows_within: u64,
    /// Makes the driver, and knows its keys.
    pub build: &'static dyn Build,
}

impl DriverSpec {
    /// Do its names or models have this text in them, in any letter case?
    pub fn speaks_of(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let has = |own: &str| own.to_lowercase().contains(&text);
        has(self.models) || self.names.iter().any(|name| has(name))
    }

    /// A driver for a PDU with these settings, and the PDU's outlets.
    pub fn make(&self, settings: &Settings) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
        let built = self.build.build(settings)?;
        let outlets = built.outlets.unwrap_or_else(|| self.outlets.outlets());
        Ok((built.driver, outlets))
    }
}

impl DriverSpec {
    /// How often the states of such a PDU are read in the background when the config does not say:
    /// seldom where it costs a login, of which many PDUs have one to give.
    pub fn refresh(&self) -> Duration {
        Duration::from_secs(match self.transport {
            "telnet" | "ssh" => 900,
            "serial" | "command" | "ipmi" => 60,
            _ => 5,
        })
    }
}

impl fmt::Debug for DriverSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DriverSpec")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// Seconds one attempt over a network, serial line or USB may take.
pub const DEVICE_TIMEOUT: u64 = 30;

/// Seconds that a new state may take to show, but for PDUs that are known to take longer.
pub const SHOWS_WITHIN: u64 = 10;

/// Seconds one attempt of a local command may take.
pub const COMMAND_TIMEOUT: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::PduName;
    use crate::settings::Position;

    #[test]
    fn addresses_come_from_ip_hostname_or_name() {
        let at = Position { line: 1, column: 1 };
        let address = |text: &str| {
            let settings = Settings::new(PduName::new("pdu1"), "x", text, at);
            let host: Host = settings.keys()?;
            let address = host.address(&settings, 23)?;
            Ok::<_, SettingsError>(address.to_string())
        };
        assert_eq!(address("{}"), Ok("pdu1:23".into()));
        assert_eq!(
            address(r#"{"hostname": "h", "ip": "10.0.0.1:99"}"#),
            Ok("10.0.0.1:99".into())
        );
        assert_eq!(
            address(r#"{"hostname": "::1", "ip": ""}"#),
            Ok("[::1]:23".into())
        );
        assert_eq!(address(r#"{"ip": "[::1]:24"}"#), Ok("[::1]:24".into()));
        for (text, key) in [
            (r#"{"ip": "a b"}"#, "ip"),
            (r#"{"hostname": "h:99999"}"#, "hostname"),
            (r#"{"ip": 10.5}"#, "ip"),
        ] {
            let error = address(text).expect_err("refused");
            assert_eq!(error.key.as_deref(), Some(key), "{error}");
        }
    }
}
