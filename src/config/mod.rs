//! The config, resolved and checked: what the rest of the program sees.
//!
//! Invariant: everything is checked before any thread starts; nothing here does I/O but reading
//! the one file and the secrets it refers to.

mod access;
mod error;
mod file;

pub use error::ConfigError;

use crate::access::Access;
use crate::driver::registry;
use crate::driver::{Driver, DriverSpec};
use crate::hint::did_you_mean;
use crate::request::{Outlet, PduName};
use crate::settings::{Position, SECRET_KEYS, Settings, SettingsError, keys_of};
use crate::vault::Vault;
use file::{
    ALIAS_KEYS, AliasSection, DAEMON_KEYS, DaemonSection, Entries, OutletSection, PDU_KEYS,
    PduSection, SECTIONS, Text,
};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
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
    /// Most bytes kept for all clients together: large parts of requests that are not here whole,
    /// and answers that were not taken.
    pub buffered: usize,
    /// Wrong tokens that a client address may show at once.
    pub wrong_tokens: u32,
    /// How long a connection may go without a byte.
    pub idle: Duration,
    /// How long a request may take to come whole, from its first byte, and its answer to be taken.
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
    /// Who may do what.
    pub access: Access,
}

/// One PDU: what its worker needs.
#[derive(Clone, Debug)]
pub struct PduConfig {
    /// Its name.
    pub name: PduName,
    /// Its driver's table row.
    pub spec: &'static DriverSpec,
    /// Its own settings.
    pub settings: Settings,
    /// Attempts per command, at least 1.
    pub retries: u32,
    /// Pause between attempts.
    pub retrydelay: Duration,
    /// Deadline of one attempt.
    pub timeout: Duration,
    /// Most requests waiting.
    pub queue_limit: usize,
    /// The wire it shares with other PDUs.
    pub bus: Option<String>,
    /// What a person wrote about it.
    pub about: Option<String>,
    /// Names that a person gave its outlets.
    pub outlet_names: BTreeMap<Outlet, String>,
}

impl PduConfig {
    /// Would a worker do the same with both? What is only shown to people does not count.
    pub fn works_like(&self, other: &Self) -> bool {
        std::ptr::eq(self.spec, other.spec)
            && self.settings.text() == other.settings.text()
            && self.bus == other.bus
            && (self.retries, self.retrydelay, self.timeout)
                == (other.retries, other.retrydelay, other.timeout)
    }

    /// Would their drivers be the same, so that what one has read is true of the other?
    pub fn speaks_like(&self, other: &Self) -> bool {
        let of_driver = |pdu: &Self| {
            let text = pdu.settings.text();
            let mut keys = serde_json::from_str::<HashMap<String, serde_json::Value>>(text).ok()?;
            keys.retain(|key, _| key == "driver" || !PDU_KEYS.contains(&key.as_str()));
            Some(keys)
        };
        std::ptr::eq(self.spec, other.spec)
            && of_driver(self).is_some_and(|keys| of_driver(other) == Some(keys))
    }

    /// A new driver for it: at the start, and again after a panic.
    pub fn build(&self) -> Result<Box<dyn Driver>, SettingsError> {
        self.spec.build.build(&self.settings)
    }
}

/// What an alias means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alias {
    /// These outlets, at least one.
    Outlets(Vec<(PduName, Outlet)>),
    /// Nowhere; the text says why. Only requests for it are refused.
    Dead(String),
}

/// The whole config.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `daemon` section.
    pub daemon: DaemonConfig,
    /// The PDUs by name.
    pub pdus: BTreeMap<PduName, PduConfig>,
    /// The aliases by name.
    pub aliases: HashMap<String, Alias>,
    /// What is foolish but can be lived with.
    pub warnings: Vec<ConfigError>,
}

/// No config file is larger; a mistaken path to a disk image must not eat the memory.
const MAX_FILE: u64 = 64 * 1024 * 1024;

impl Config {
    /// Reads and checks the file at `path`; `-` is standard input.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let fail = |what: String| ConfigError::new(&name, None, what);
        let mut bytes = Vec::new();
        let mut is_for_everybody = false;
        let read = if path == Path::new("-") {
            std::io::stdin()
                .lock()
                .take(MAX_FILE + 1)
                .read_to_end(&mut bytes)
        } else {
            std::fs::File::open(path).and_then(|file| {
                is_for_everybody = file.metadata()?.permissions().mode() & 0o004 != 0;
                file.take(MAX_FILE + 1).read_to_end(&mut bytes)
            })
        };
        read.map_err(|error| fail(format!("cannot read the configuration file: {error}")))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(fail("the configuration file is larger than 64 MiB".into()));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default())
                .into_owned();
            let at = Position::of(&before, before.len());
            ConfigError::new(&name, Some(at), "expected UTF-8 text, got other bytes")
        })?;
        let mut reader = Reader::new(&text, &name);
        reader.is_for_everybody = is_for_everybody;
        reader.config()
    }

    /// Checks the text of a config file; `name` is the file's name for messages, and secrets that
    /// it refers to lie beside it.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        Reader::new(text, name).config()
    }
}

/// Reads one file, gathering warnings on the way.
struct Reader<'a> {
    text: Text<'a>,
    name: &'a str,
    warnings: Vec<ConfigError>,
    vault: Vault,
    /// Every user of the machine can read the file.
    is_for_everybody: bool,
    /// Where secrets stand in the file itself, by key path.
    secrets: Vec<(Position, String)>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, name: &'a str) -> Self {
        Self {
            text: Text::new(text),
            name,
            warnings: Vec::new(),
            vault: Vault::of_config(Path::new(name)),
            is_for_everybody: false,
            secrets: Vec::new(),
        }
    }

    fn error(&self, at: Position, message: impl Into<String>) -> ConfigError {
        ConfigError::new(self.name, Some(at), message)
    }

    fn warn(&mut self, at: Position, message: impl Into<String>) {
        self.warnings
            .push(ConfigError::new(self.name, Some(at), message));
    }

    fn config(mut self) -> Result<Config, ConfigError> {
        let top: Entries<'a> = serde_json::from_str(self.text.whole).map_err(|error| {
            let text = error.to_string();
            let what = text
                .rfind(" at line ")
                .and_then(|end| text.get(..end))
                .unwrap_or(&text);
            let at = Position {
                line: error.line().max(1),
                column: error.column().max(1),
            };
            self.error(at, format!("broken JSON: {what}"))
        })?;
        let start = Position { line: 1, column: 1 };
        let mut sections = self.unique("", top);
        let mut section = |name: &str| {
            sections
                .iter()
                .position(|(key, _)| key == name)
                .map(|index| sections.swap_remove(index).1)
        };
        let (daemon, pdus, aliases) = (section("daemon"), section("pdus"), section("aliases"));
        for (key, value) in sections {
            let at = self.text.position(value);
            self.unknown_key(at, "", &key, SECTIONS.iter().copied());
        }
        let missing = |reader: &Self, key: &str| {
            reader.error(start, format!("{key}: missing section, expected an object"))
        };
        let daemon = self.daemon(daemon.ok_or_else(|| missing(&self, "daemon"))?)?;
        let pdus = self.pdus(pdus.ok_or_else(|| missing(&self, "pdus"))?)?;
        let aliases = match aliases {
            Some(value) if value.get() != "null" => self.aliases(value, &pdus)?,
            _ => HashMap::new(),
        };
        if let Some((at, key)) = self.secrets.first().cloned()
            && self.is_for_everybody
        {
            let more = match self.secrets.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more secrets)"),
            };
            self.warn(
                at,
                format!(
                    "{key}: every user of this machine can read this{more}; take the file's read \
                     permission from others, or write {{\"file\": \"name\"}} in its place"
                ),
            );
        }
        Ok(Config {
            daemon,
            pdus,
            aliases,
            warnings: self.warnings,
        })
    }

    /// The entries of the object at `value`, checked to be one, without duplicates.
    fn object(
        &mut self,
        path: &str,
        value: &'a RawValue,
    ) -> Result<Vec<(String, &'a RawValue)>, ConfigError> {
        let at = self.text.position(value);
        let entries: Entries<'a> = serde_json::from_str(value.get()).map_err(|_| {
            self.error(
                at,
                format!("{path}: expected an object, got {}", kind_of(value)),
            )
        })?;
        Ok(self.unique(path, entries))
    }

    /// Drops all but the last of entries with one name, with a warning.
    fn unique(&mut self, path: &str, entries: Entries<'a>) -> Vec<(String, &'a RawValue)> {
        let mut last: HashMap<&str, usize> = HashMap::new();
        let mut doubled = Vec::new();
        for (index, (key, value)) in entries.0.iter().enumerate() {
            if let Some(earlier) = last.insert(key, index) {
                doubled.push((earlier, self.text.position(value)));
            }
        }
        if doubled.is_empty() {
            return entries.0;
        }
        for (earlier, later_at) in &doubled {
            if let Some((key, _)) = entries.0.get(*earlier) {
                self.warn(
                    *later_at,
                    format!(
                        "{}: is there more than once, the last one counts",
                        join(path, key)
                    ),
                );
            }
        }
        let dropped: Vec<usize> = doubled.into_iter().map(|(earlier, _)| earlier).collect();
        entries
            .0
            .into_iter()
            .enumerate()
            .filter(|(index, _)| !dropped.contains(index))
            .map(|(_, entry)| entry)
            .collect()
    }

    fn unknown_key<'k>(
        &mut self,
        at: Position,
        path: &str,
        key: &str,
        known: impl Iterator<Item = &'k str>,
    ) {
        let hint = did_you_mean(key, "", known);
        self.warn(at, format!("{}: unknown key{hint}", join(path, key)));
    }

    /// Warns about the keys of `settings` that are not in `known`.
    fn unknown_keys(&mut self, value: &'a RawValue, path: &str, known: &[&str]) {
        let start = self.text.position(value);
        let keys = keys_of(value.get());
        for (index, (key, offset)) in keys.iter().enumerate() {
            let at = start.plus(Position::of(value.get(), *offset));
            if keys.iter().skip(index + 1).any(|(other, _)| other == key) {
                self.warn(
                    at,
                    format!(
                        "{}: is there more than once, the last one counts",
                        join(path, key)
                    ),
                );
            } else if !known.contains(&key.as_str()) {
                self.unknown_key(at, path, key, known.iter().copied());
            }
        }
    }

    fn daemon(&mut self, value: &'a RawValue) -> Result<DaemonConfig, ConfigError> {
        let entries = self.object("daemon", value)?;
        self.unknown_keys(value, "daemon", DAEMON_KEYS);
        let settings = file::section(&self.text, "daemon", "", value);
        let fail = |error: &SettingsError| ConfigError::of_settings(self.name, "daemon", error);
        let written: DaemonSection = last_of_each(&settings)
            .read()
            .map_err(|error| fail(&error))?;
        let listen: Vec<Listen> = written
            .hostname
            .iter()
            .map(|host| match host.as_str() {
                "" => Ok(Listen::All),
                path if path.starts_with('/') => Ok(Listen::Unix(path.into())),
                path if path.starts_with("unix:") => {
                    Ok(Listen::Unix(path.trim_start_matches("unix:").into()))
                }
                host if host.chars().any(char::is_whitespace) => Err(fail(&settings.error(
                    "hostname",
                    format!("expected a host name, an address or a socket path, got {host:?}"),
                ))),
                host => Ok(Listen::Host(host.to_owned())),
            })
            .collect::<Result<_, _>>()?;
        let protocols = match written.listener.as_deref() {
            None => Protocols::Both,
            Some(text) => text
                .parse()
                .map_err(|message: String| fail(&settings.error("listener", message)))?,
        };
        let limits = limits(&written, &settings).map_err(|error| fail(&error))?;
        let logging_level = written.logging_level.as_deref().map(|level| {
            match level.to_ascii_uppercase().as_str() {
                "DEBUG" => (log::LevelFilter::Debug, true),
                "INFO" => (log::LevelFilter::Info, true),
                "WARN" | "WARNING" => (log::LevelFilter::Warn, true),
                "ERROR" | "CRITICAL" => (log::LevelFilter::Error, true),
                // As the Python program does with any other word.
                _ => (log::LevelFilter::Error, false),
            }
        });
        let unknown_level = matches!(logging_level, Some((_, false))).then(|| {
            settings.error(
                "logging_level",
                "expected DEBUG, INFO, WARNING or ERROR; taken as ERROR",
            )
        });
        if let Some(error) = unknown_level {
            self.warn(error.at, format!("daemon.{error}"));
        }
        let access = entries.iter().find(|(key, _)| key == "access");
        let access = self.access(access.map(|(_, value)| *value), &listen)?;
        if !access.is_on()
            && let Some(open) = listen.iter().find(|listen| !access::is_local(listen))
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
        Ok(DaemonConfig {
            listen,
            access,
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

    fn pdus(&mut self, value: &'a RawValue) -> Result<BTreeMap<PduName, PduConfig>, ConfigError> {
        let mut pdus = BTreeMap::new();
        for (name, value) in self.object("pdus", value)? {
            let pdu = self.pdu(&name, value)?;
            pdus.insert(pdu.name.clone(), pdu);
        }
        Ok(pdus)
    }

    fn pdu(&mut self, name: &str, value: &'a RawValue) -> Result<PduConfig, ConfigError> {
        let path = join("pdus", name);
        let entries = self.object(&path, value)?;
        let settings = file::section(&self.text, name, "", value);
        let settings = last_of_each(&self.with_secrets(&settings, &path, value, &entries)?);
        let fail = |error: &SettingsError| ConfigError::of_settings(self.name, &path, error);
        let written: PduSection = settings.read().map_err(|error| fail(&error))?;
        let Some(spec) = registry::find(&written.driver) else {
            let driver = &written.driver;
            let names = registry::specs().flat_map(|spec| spec.names).copied();
            let hint = did_you_mean(driver, "", names);
            let message =
                format!("unknown driver {driver:?}{hint} (`pdudaemon --list-drivers` shows all)");
            return Err(fail(&settings.error("driver", message)));
        };
        let retrydelay = seconds(written.retrydelay.unwrap_or(5.0))
            .ok_or_else(|| fail(&settings.error("retrydelay", "expected 0 to 86400 seconds")))?;
        #[expect(clippy::cast_precision_loss, reason = "a number of seconds")]
        let timeout = seconds(written.timeout.unwrap_or(spec.timeout as f64))
            .filter(|timeout| *timeout >= Duration::from_millis(1))
            .ok_or_else(|| fail(&settings.error("timeout", "expected 0.001 to 86400 seconds")))?;
        let queue_limit = written.queue_limit.unwrap_or(1024);
        if queue_limit == 0 {
            return Err(fail(
                &settings.error("queue_limit", "expected 1 or more, got 0"),
            ));
        }
        let settings = Settings::new(
            PduName::new(name),
            &*written.driver,
            settings.text(),
            self.text.position(value),
        );
        spec.build.build(&settings).map_err(|error| fail(&error))?;
        let retries = match written.retries.unwrap_or(5) {
            few if few < 1 => {
                let at = settings.error("retries", "").at;
                self.warn(
                    at,
                    format!(
                        "{path}.retries: {few} attempts would never switch anything, counts as 1"
                    ),
                );
                1
            }
            many => u32::try_from(many).unwrap_or(u32::MAX),
        };
        let known: Vec<&str> = PDU_KEYS
            .iter()
            .copied()
            .chain(spec.keys.iter().map(|key| key.name))
            .collect();
        self.unknown_keys(value, &path, &known);
        Ok(PduConfig {
            name: PduName::new(name),
            spec,
            settings,
            retries,
            retrydelay,
            timeout,
            queue_limit,
            bus: written.bus.filter(|bus| !bus.is_empty()),
            about: written.about,
            outlet_names: written
                .outlet_names
                .into_iter()
                .map(|(id, name)| (Outlet::new(id), name))
                .collect(),
        })
    }

    /// The settings with every secret that is a reference put in its place. Lines stay where they
    /// are; columns behind a reference may not.
    fn with_secrets(
        &mut self,
        settings: &Settings,
        path: &str,
        object: &'a RawValue,
        entries: &[(String, &'a RawValue)],
    ) -> Result<Settings, ConfigError> {
        let mut text = String::new();
        let mut rest_at = 0;
        for (key, value) in entries {
            if !SECRET_KEYS.contains(&key.as_str()) {
                continue;
            }
            let (at, key) = (self.text.position(value), join(path, key));
            if !value.get().starts_with('{') {
                if !matches!(value.get(), "null" | "\"\"") {
                    self.secrets.push((at, key));
                }
                continue;
            }
            let secret = self
                .vault
                .resolve(value.get())
                .map_err(|message| self.error(at, format!("{key}: {message}")))?;
            let start = value.get().as_ptr().addr() - object.get().as_ptr().addr();
            text.push_str(object.get().get(rest_at..start).unwrap_or_default());
            text.push_str(&serde_json::Value::String(secret).to_string());
            text.extend(value.get().chars().filter(|c| *c == '\n'));
            rest_at = start + value.get().len();
        }
        if rest_at == 0 {
            return Ok(settings.clone());
        }
        text.push_str(object.get().get(rest_at..).unwrap_or_default());
        Ok(settings.with_text(text))
    }

    fn aliases(
        &mut self,
        value: &'a RawValue,
        pdus: &BTreeMap<PduName, PduConfig>,
    ) -> Result<HashMap<String, Alias>, ConfigError> {
        let mut aliases = HashMap::new();
        for (name, value) in self.object("aliases", value)? {
            let path = join("aliases", &name);
            let at = self.text.position(value);
            let alias = match last_of_each(&file::section(&self.text, &name, "", value))
                .read::<AliasSection>()
            {
                Ok(written) => {
                    self.unknown_keys(value, &path, ALIAS_KEYS);
                    resolve_alias(written, pdus).map_or_else(Alias::Dead, Alias::Outlets)
                }
                Err(error) => Alias::Dead(error.to_string()),
            };
            if let Alias::Dead(why) = &alias {
                self.warn(at, format!("{path}: this alias leads nowhere: {why}"));
            }
            aliases.insert(name, alias);
        }
        Ok(aliases)
    }
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

/// The outlets an alias means, or why it means none.
fn resolve_alias(
    written: AliasSection,
    pdus: &BTreeMap<PduName, PduConfig>,
) -> Result<Vec<(PduName, Outlet)>, String> {
    let outlets = match (written.outlets, written.hostname, written.port) {
        (Some(outlets), None, None) if !outlets.is_empty() => outlets,
        (Some(_), None, None) => return Err("outlets: expected at least one".into()),
        (Some(_), ..) => return Err("expected either outlets, or hostname and port".into()),
        (None, Some(hostname), Some(port)) => vec![OutletSection { hostname, port }],
        (None, ..) => return Err("expected hostname and port, or outlets".into()),
    };
    let mut found: Vec<(PduName, Outlet)> = Vec::new();
    for OutletSection { hostname, port } in outlets {
        let (name, pdu) = pdus
            .get_key_value(hostname.as_str())
            .ok_or_else(|| format!("there is no PDU {hostname:?}"))?;
        let outlet = Outlet::new(port);
        pdu.build()
            .map_err(|error| error.to_string())?
            .check(&outlet)
            .map_err(|error| format!("PDU {hostname}, outlet {outlet}: {error}"))?;
        if found
            .iter()
            .any(|known| known.0 == *name && known.1 == outlet)
        {
            return Err(format!("PDU {hostname}, outlet {outlet} is there twice"));
        }
        found.push((name.clone(), outlet));
    }
    Ok(found)
}

/// Seconds from 0 to a day.
fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number)
        .ok()
        .filter(|wait| *wait <= Duration::from_secs(86_400))
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn kind_of(value: &RawValue) -> &'static str {
    match value.get().bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The same settings, with a key that stands there twice kept once (serde refuses duplicates, the
/// Python program took the last).
fn last_of_each(settings: &Settings) -> Settings {
    let keys = keys_of(settings.text());
    let doubled = keys
        .iter()
        .enumerate()
        .any(|(index, (key, _))| keys.iter().skip(index + 1).any(|(k, _)| k == key));
    if !doubled {
        return settings.clone();
    }
    match serde_json::from_str::<serde_json::Value>(settings.text()) {
        // A JSON map keeps the last of each; the places are lost, but only for a doubled section.
        Ok(value) => settings.with_text(value.to_string()),
        Err(_) => settings.clone(),
    }
}

#[cfg(test)]
mod tests;
