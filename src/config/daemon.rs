//! The `daemon` section: where to listen, and the bounds on clients.

use super::file::{self, DAEMON_KEYS, DaemonSection};
use super::reader::{Reader, find, last_of_each, seconds};
use super::tls::Tls;
use crate::access::Access;
use crate::settings::{FileError, Settings, SettingsError, keys_of};
use serde_json::value::RawValue;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The port of every release of the program.
pub const DEFAULT_PORT: u16 = 16421;

/// Which protocols the port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP only.
    Http,
    /// The legacy line protocol only.
    Tcp,
    /// Both on the one port, told apart by the first bytes.
    Both,
}

impl std::str::FromStr for Protocols {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "http" => Ok(Self::Http),
            "tcp" => Ok(Self::Tcp),
            "both" => Ok(Self::Both),
            _ => Err(format!(
                "expected \"http\", \"tcp\" or \"both\", got {text:?}"
            )),
        }
    }
}

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
    /// Most connections of one client address, loopback and trusted networks excepted.
    pub connections_per_client: usize,
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

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: None,
            connections_per_client: 1024,
            head: 16 * 1024,
            headers: 100,
            body: 64 * 1024,
            line: 1024,
            buffered: 64 * 1024 * 1024,
            wrong_tokens: 10,
            idle: Duration::from_secs(30),
            request: Duration::from_secs(60),
        }
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
        self.unknown_keys(value, "daemon", DAEMON_KEYS);
        let settings = last_of_each(&file::section(&self.text, "daemon", "", value));
        let mut wrong = Vec::new();
        let read = settings.read_all(&mut wrong, |settings| {
            let written: DaemonSection = settings.read()?;
            let protocols = match written.listener.as_deref() {
                None => Protocols::Both,
                Some(text) => text
                    .parse()
                    .map_err(|message: String| settings.error("listener", message))?,
            };
            let limits = limits(&written, settings)?;
            let listen = listen(&written, settings)?;
            Ok((written, listen, protocols, limits))
        });
        self.told_all("daemon", &wrong);
        let logging_level = read.as_ref().and_then(|(written, ..)| {
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
        let listens = read.as_ref().map_or(&[][..], |(_, listen, ..)| listen);
        let access = self.access(access.map(|(_, value)| *value), listens);
        // The reader comes here first: these errors are of this section, or of its place in the
        // file.
        if !self.findings.errors.is_empty() {
            return None;
        }
        let (written, listen, protocols, limits) = read?;
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
                None if keys_of(value.get()).iter().any(|(key, _)| key == "port") => 0,
                None => DEFAULT_PORT,
            },
            protocols,
            logging_level: logging_level.map(|(level, _)| level),
            state_directory: written
                .state_directory
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            limits,
        })
    }
}

/// Where to listen.
fn listen(written: &DaemonSection, settings: &Settings) -> Result<Vec<Listen>, SettingsError> {
    if written.hostname.is_empty() {
        let expected = "missing, expected an address, a list of addresses, or null for all \
                        interfaces";
        return Err(settings.error("hostname", expected));
    }
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
    written.hostname.iter().map(one).collect()
}

/// The bounds on clients, each within what can work.
fn limits(written: &DaemonSection, settings: &Settings) -> Result<Limits, SettingsError> {
    let default = Limits::default();
    let number = |key, value: Option<usize>, default, least, most| match value {
        None => Ok(default),
        Some(value) if (least..=most).contains(&value) => Ok(value),
        Some(value) if most == usize::MAX => {
            Err(settings.error(key, format!("expected {least} or more, got {value}")))
        }
        Some(value) => Err(settings.error(key, format!("expected {least} to {most}, got {value}"))),
    };
    let time = |key, value: Option<f64>, default| match value.map(seconds) {
        None => Ok(default),
        Some(Some(time)) if time >= Duration::from_millis(100) => Ok(time),
        Some(_) => Err(settings.error(key, "expected 0.1 to 86400 seconds")),
    };
    let (mega, all) = (1 << 20, usize::MAX);
    let connections = number("max_connections", written.max_connections, 0, 1, all)?;
    Ok(Limits {
        connections: Some(connections).filter(|most| *most > 0),
        connections_per_client: number(
            "max_connections_per_client",
            written.max_connections_per_client,
            default.connections_per_client,
            1,
            all,
        )?,
        head: number(
            "max_head_bytes",
            written.max_head_bytes,
            default.head,
            256,
            mega,
        )?,
        headers: number(
            "max_headers",
            written.max_headers,
            default.headers,
            8,
            10_000,
        )?,
        body: number(
            "max_body_bytes",
            written.max_body_bytes,
            default.body,
            256,
            16 * mega,
        )?,
        line: number(
            "max_line_bytes",
            written.max_line_bytes,
            default.line,
            64,
            64 << 10,
        )?,
        buffered: number(
            "max_buffered_bytes",
            written.max_buffered_bytes,
            default.buffered,
            64 << 10,
            all,
        )?,
        wrong_tokens: number(
            "max_wrong_tokens",
            written.max_wrong_tokens,
            10,
            1,
            1_000_000,
        )?
        .try_into()
        .unwrap_or(u32::MAX),
        idle: time("idle_timeout", written.idle_timeout, default.idle)?,
        request: time("request_timeout", written.request_timeout, default.request)?,
    })
}
