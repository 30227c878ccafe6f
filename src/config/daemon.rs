//! The `daemon` section: where to listen, and the bounds on clients.

use super::file::{self, DaemonKeys, HOSTS_EXPECTED, Protocols};
use super::reader::{Reader, find, last_of_each};
use super::tls::Tls;
use crate::access::Access;
use crate::settings::{FileError, Keys, Settings, SettingsError};
use serde_json::value::RawValue;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The port of every release of the program.
pub const DEFAULT_PORT: u16 = 16421;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Every interface, IPv4 and IPv6.
    All,
    /// One host name or address.
    Host(String),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Listen {
    /// Can only this machine connect to it?
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::All => false,
            Self::Unix(_) => true,
            Self::Host(host) => {
                let bare = host.trim_matches(['[', ']']);
                match bare.parse::<IpAddr>() {
                    Ok(ip) => ip.to_canonical().is_loopback(),
                    Err(_) => bare.eq_ignore_ascii_case("localhost"),
                }
            }
        }
    }
}

/// The bounds on clients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Most connections at a time; `None` derives it from the descriptor limit.
    pub connections: Option<usize>,
    /// Most connections of one client address, loopback and trusted networks excepted; `None`
    /// derives it from the most of all.
    pub connections_per_client: Option<usize>,
    /// The longest request head (request line and headers), in bytes.
    pub head: usize,
    /// Most headers of a request.
    pub headers: usize,
    /// The longest request body, in bytes.
    pub body: usize,
    /// The longest legacy line, in bytes.
    pub line: usize,
    /// Most bytes that we keep for all clients together: large parts of requests that have not
    /// arrived whole, and answers that clients have not taken.
    pub buffered: usize,
    /// Wrong tokens that a client address may show at once.
    pub wrong_tokens: u32,
    /// How long a connection may go without a byte.
    pub idle: Duration,
    /// How long a request may take from its first byte to its last, and the client to take the
    /// answer.
    pub request: Duration,
}

impl Limits {
    /// The bounds that the section sets.
    fn of(keys: &DaemonKeys) -> Self {
        // One client with the longest request finds room; what has arrived in part may take up
        // twice its bytes.
        let longest = keys.max_head_bytes.0 + keys.max_body_bytes.0;
        Self {
            connections: keys.max_connections.map(|most| most.0),
            connections_per_client: keys.max_connections_per_client.map(|most| most.0),
            head: keys.max_head_bytes.0,
            headers: keys.max_headers.0,
            body: keys.max_body_bytes.0,
            line: keys.max_line_bytes.0,
            buffered: keys.max_buffered_bytes.0.max(2 * longest),
            wrong_tokens: keys.max_wrong_tokens.0.try_into().unwrap_or(u32::MAX),
            idle: keys.idle_timeout.0,
            request: keys.request_timeout.0,
        }
    }
}

#[cfg(any(test, fuzzing))]
#[expect(
    clippy::expect_used,
    reason = "a test stops at the first thing that is wrong"
)]
impl Default for Limits {
    fn default() -> Self {
        let start = crate::settings::Position { line: 1, column: 1 };
        let nothing = Settings::new(crate::request::PduName::new("daemon"), "", "{}", start);
        Self::of(&nothing.keys().expect("no key is required"))
    }
}

/// The `daemon` section.
#[derive(Clone, Debug)]
pub struct DaemonConfig {
    /// Addresses to listen on.
    pub listen: Vec<Listen>,
    /// TCP port; 0 lets the system choose.
    pub port: u16,
    /// Which protocols.
    pub protocols: Protocols,
    /// The log level, when the config gives one.
    pub logging_level: Option<log::LevelFilter>,
    /// Where locks and the journal live, when there is such a place.
    pub state_directory: Option<PathBuf>,
    /// The bounds on clients.
    pub limits: Limits,
    /// The rights of clients.
    pub access: Access,
    /// TLS, or why it cannot be spoken.
    pub tls: Option<Result<Tls, FileError>>,
}

impl DaemonConfig {
    /// The TLS that can be spoken.
    pub fn served_tls(&self) -> Option<Tls> {
        self.tls.clone()?.ok()
    }
}

impl<'a> Reader<'a> {
    /// Nothing, when a key of it cannot work.
    pub(super) fn daemon(&mut self, value: &'a RawValue) -> Option<DaemonConfig> {
        let read = self.object("daemon", value);
        let entries = self.told(read)?;
        self.unknown_keys(value, "daemon", &DaemonKeys::names());
        let settings = last_of_each(&file::section(&self.text, "daemon", "", value));
        let mut wrong = Vec::new();
        let read = settings.read_all(&mut wrong, |settings| {
            let written: DaemonKeys = settings.keys()?;
            let listen = listen(&written, settings)?;
            Ok((written, listen))
        });
        self.told_all("daemon", &wrong);
        let logging_level = read.as_ref().and_then(|(written, _)| {
            let level = written.logging_level.as_deref()?;
            Some(match level.to_ascii_uppercase().as_str() {
                "DEBUG" => (log::LevelFilter::Debug, true),
                "INFO" => (log::LevelFilter::Info, true),
                "WARN" | "WARNING" => (log::LevelFilter::Warn, true),
                "ERROR" | "CRITICAL" => (log::LevelFilter::Error, true),
                // The Python program takes any other word so.
                _ => (log::LevelFilter::Error, false),
            })
        });
        if matches!(logging_level, Some((_, false))) {
            let what = "expected DEBUG, INFO, WARNING or ERROR; taken as ERROR";
            let warning = settings.error("logging_level", what);
            self.warn(warning.at, format!("daemon.{warning}"));
        }
        let access = entries.iter().find(|(key, _)| key == "access");
        let listens = read.as_ref().map_or(&[][..], |(_, listen)| listen);
        let access = self.access(access.map(|(_, value)| *value), listens);
        // The reader comes here first: these errors are of this section, or of its place in the
        // file.
        if !self.findings.errors.is_empty() {
            return None;
        }
        let (written, listen) = read?;
        let tls = find(&entries, "tls").map(|value| self.tls(value, access.is_on()));
        if let Some(folders) = &written.profiles {
            self.registry.folders = folders.iter().map(PathBuf::from).collect();
        }
        if !access.is_on()
            && let Some(open) = listen.iter().find(|listen| !listen.is_local())
        {
            let open = match open {
                Listen::Host(host) => host.as_str(),
                Listen::All | Listen::Unix(_) => "all interfaces",
            };
            let at = settings.error("hostname", "").at;
            self.warn(
                at,
                format!(
                    "daemon.hostname: whoever can reach {open} may switch every outlet: \
                     daemon.access.tokens would tell who may"
                ),
            );
        }
        Some(DaemonConfig {
            listen,
            access,
            tls,
            port: match written.port {
                Some(port) => port,
                None if settings.has_key("port") => 0,
                None => DEFAULT_PORT,
            },
            limits: Limits::of(&written),
            protocols: written.listener,
            logging_level: logging_level.map(|(level, _)| level),
            state_directory: written
                .state_directory
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
        })
    }
}

/// Where to listen.
fn listen(written: &DaemonKeys, settings: &Settings) -> Result<Vec<Listen>, SettingsError> {
    let hosts = match &written.hostname {
        Some(hosts) => &hosts.0,
        None if settings.has_key("hostname") => return Ok(vec![Listen::All]),
        None => return Err(settings.error("hostname", format!("missing, {HOSTS_EXPECTED}"))),
    };
    let one = |host: &String| match host.as_str() {
        "" => Ok(Listen::All),
        path if path.starts_with('/') => Ok(Listen::Unix(path.into())),
        path if path.starts_with("unix:") => {
            Ok(Listen::Unix(path.trim_start_matches("unix:").into()))
        }
        host if host.chars().any(char::is_whitespace) => Err(settings.error(
            "hostname",
            format!("expected a host name, an address or a socket path, got {host:?}"),
        )),
        host => Ok(Listen::Host(host.to_owned())),
    };
    hosts.iter().map(one).collect()
}
