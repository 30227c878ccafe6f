//! The config, resolved and checked: what the rest of the program sees.
//!
//! Invariant: everything is checked before any thread starts; nothing here does I/O but reading
//! the one file and the secrets it refers to.

mod access;
mod error;
mod file;
mod foreign;
mod outlets;
mod pdu;

pub use error::{ConfigError, Findings};

use crate::access::Access;
use crate::driver::confirm::Confirm;
use crate::driver::{Driver, DriverSpec, Outlets, registry};
use crate::hint::did_you_mean;
use crate::request::{Outlet, PduName};
use crate::settings::{Position, SECRET_KEYS, Settings, SettingsError, keys_of};
use crate::vault::{Found, Vault};
use file::{
    ALIAS_KEYS, AliasSection, DAEMON_KEYS, DaemonSection, Entries, OutletSection, PDU_KEYS,
    SECTIONS, Text,
};
use pdu::{Common, driver_of};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
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
    /// The outlets that it has, as far as that is known: nobody may name another.
    pub outlets: Outlets,
    /// Attempts per command, at least 1.
    pub retries: u32,
    /// Pause between attempts.
    pub retrydelay: Duration,
    /// Deadline of one attempt.
    pub timeout: Duration,
    /// Most requests waiting.
    pub queue_limit: usize,
    /// Most of them that one client may have.
    pub client_limit: usize,
    /// Most of them that may wait for their delay.
    pub delayed_limit: usize,
    /// The wire it shares with other PDUs.
    pub bus: Option<String>,
    /// What the success of a switch needs.
    pub confirm: Confirm,
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
        self.spec.make(&self.settings).map(|(driver, _)| driver)
    }
}

/// A PDU whose settings cannot work: it is known, and every request for it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenPdu {
    /// Its name.
    pub name: PduName,
    /// The `driver` that the config gives, as far as it can be read.
    pub driver: String,
    /// The first that is wrong.
    pub error: ConfigError,
}

impl fmt::Display for BrokenPdu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its settings cannot work: {}", self.error)
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
    /// The PDUs by name; one whose settings cannot work costs the others nothing.
    pub pdus: BTreeMap<PduName, Result<PduConfig, BrokenPdu>>,
    /// The aliases by name.
    pub aliases: HashMap<String, Alias>,
    /// What is to be said of the file. Its errors cost only those whom they concern.
    pub findings: Findings,
}

/// No config file is larger; a mistaken path to a disk image must not eat the memory.
const MAX_FILE: u64 = 64 * 1024 * 1024;

impl Config {
    /// Reads and checks the file at `path`; `-` is standard input.
    /// Fails when nothing can be served by it.
    pub fn load(path: &Path) -> Result<Self, Findings> {
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
            return Err(fail("the configuration file is larger than 64 MiB".into()).into());
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
    pub fn parse(text: &str, name: &str) -> Result<Self, Findings> {
        Reader::new(text, name).config()
    }
}

/// Reads one file, gathering errors and warnings on the way.
struct Reader<'a> {
    text: Text<'a>,
    name: &'a str,
    findings: Findings,
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
            findings: Findings::default(),
            vault: Vault::of_config(Path::new(name)),
            is_for_everybody: false,
            secrets: Vec::new(),
        }
    }

    fn error(&self, at: Position, message: impl Into<String>) -> ConfigError {
        ConfigError::new(self.name, Some(at), message)
    }

    fn warn(&mut self, at: Position, message: impl Into<String>) {
        let warning = self.error(at, message);
        self.findings.warnings.push(warning);
    }

    /// Tells an error; what comes with it is read on.
    fn fail(&mut self, at: Position, message: impl Into<String>) {
        let error = self.error(at, message);
        self.findings.errors.push(error);
    }

    /// A file with a secret that every user of the machine can read.
    fn warn_of_readers(&mut self, at: Position, path: &str, found: &Found) {
        if let Some(file) = &found.open_file {
            let what = format!(
                "{path}: every user of this machine can read {}; take its read permission from \
                 others",
                file.display()
            );
            self.warn(at, what);
        }
    }

    /// What was read, or nothing and the error told.
    fn told<T>(&mut self, read: Result<T, ConfigError>) -> Option<T> {
        read.map_err(|error| self.findings.errors.push(error)).ok()
    }

    /// Tells what is wrong with the keys of the section at `path`.
    fn told_all(&mut self, path: &str, wrong: &[SettingsError]) {
        let name = self.name;
        let errors = wrong
            .iter()
            .map(|error| ConfigError::of_settings(name, path, error));
        self.findings.errors.extend(errors);
    }

    fn config(mut self) -> Result<Config, Findings> {
        let top: Entries<'a> = serde_json::from_str(self.text.whole)
            .map_err(|error| foreign::not_json(self.name, self.text.whole, &error))?;
        let start = Position { line: 1, column: 1 };
        let mut sections = self.unique("", top);
        let mut section = |name: &str| {
            sections
                .iter()
                .position(|(key, _)| key == name)
                .map(|index| sections.swap_remove(index).1)
        };
        let (daemon, pdus, aliases) = (section("daemon"), section("pdus"), section("aliases"));
        if daemon.is_none()
            && pdus.is_none()
            && let Some(what) = foreign::flat(sections.iter().map(|(key, _)| key.as_str()))
        {
            return Err(self.error(start, what).into());
        }
        for (key, value) in sections {
            let at = self.text.position(value);
            self.unknown_key(at, "", &key, SECTIONS);
        }
        for (key, _) in [("daemon", daemon), ("pdus", pdus)]
            .iter()
            .filter(|(_, section)| section.is_none())
        {
            self.fail(start, format!("{key}: missing section, expected an object"));
        }
        let daemon = daemon.and_then(|value| self.daemon(value));
        let pdus = pdus.and_then(|value| self.pdus(value));
        let aliases = match (aliases, &pdus) {
            (Some(value), Some(pdus)) if value.get() != "null" => self.aliases(value, pdus),
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
        let findings = self.findings.sorted();
        match (daemon, pdus) {
            (Some(daemon), Some(pdus)) => Ok(Config {
                daemon,
                pdus,
                aliases,
                findings,
            }),
            _ => Err(findings),
        }
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

    /// Drops all but the last of entries with one name, with a warning; of what tells who may do
    /// what, none is as good as another.
    fn unique(&mut self, path: &str, entries: Entries<'a>) -> Vec<(String, &'a RawValue)> {
        let mut last: HashMap<&str, usize> = HashMap::new();
        let mut doubled = Vec::new();
        for (index, (key, value)) in entries.0.iter().enumerate() {
            if let Some(earlier) = last.insert(key, index) {
                doubled.push((earlier, self.text.position(value)));
            }
        }
        for (earlier, later_at) in &doubled {
            if let Some((key, _)) = entries.0.get(*earlier) {
                let path = join(path, key);
                if path == "daemon" || access::decides(&path) {
                    let what = format!("{path}: is there more than once: expected all in one");
                    self.fail(*later_at, what);
                } else {
                    let what = format!("{path}: is there more than once, the last one counts");
                    self.warn(*later_at, what);
                }
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

    fn unknown_key(&mut self, at: Position, path: &str, key: &str, known: &[&str]) {
        let hint = did_you_mean(key, "", known.iter().copied());
        let what = format!("{}: unknown key{hint}", join(path, key));
        if access::decides(path) || access::is_meant(path, key) {
            self.fail(
                at,
                format!("{what} (what tells who may do what is never guessed at)"),
            );
        } else {
            self.warn(at, what);
        }
    }

    /// Complains of the keys of the object at `value` that are not in `known`.
    fn unknown_keys(&mut self, value: &'a RawValue, path: &str, known: &[&str]) {
        let start = self.text.position(value);
        for (key, offset) in keys_of(value.get()) {
            if !known.contains(&key.as_str()) {
                let at = start.plus(Position::of(value.get(), offset));
                self.unknown_key(at, path, &key, known);
            }
        }
    }

    /// Nothing, when not all of it can be followed.
    fn daemon(&mut self, value: &'a RawValue) -> Option<DaemonConfig> {
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
                // As the Python program does with any other word.
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
        // It is read first: these are of this section, or of its place in the file.
        if !self.findings.errors.is_empty() {
            return None;
        }
        let (written, listen, protocols, limits) = read?;
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
        Some(DaemonConfig {
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

    fn pdus(
        &mut self,
        value: &'a RawValue,
    ) -> Option<BTreeMap<PduName, Result<PduConfig, BrokenPdu>>> {
        let read = self.object("pdus", value);
        let entries = self.told(read)?;
        let pdus = entries.into_iter().map(|(name, value)| {
            let name = PduName::new(name);
            let pdu = self.pdu(&name, value);
            (name, pdu)
        });
        Some(pdus.collect())
    }

    fn pdu(&mut self, name: &PduName, value: &'a RawValue) -> Result<PduConfig, BrokenPdu> {
        let path = join("pdus", name.as_str());
        let broken = |driver: &str, error: &ConfigError| BrokenPdu {
            name: name.clone(),
            driver: driver.to_owned(),
            error: error.clone(),
        };
        let read = self
            .object(&path, value)
            .map_err(|error| broken("", &error));
        if let Err(broken) = &read {
            self.findings.errors.push(broken.error.clone());
        }
        let entries = read?;
        let mut wrong = Vec::new();
        let written = file::section(&self.text, name.as_str(), "", value);
        let settings = self.with_secrets(&written, &path, value, &entries, &mut wrong);
        let settings = last_of_each(&settings);
        let common = settings.read_all(&mut wrong, Common::read);
        let driver = driver_of(&settings);
        let settings = settings.of_driver(&driver);
        let spec = registry::find(&driver);
        let built = spec.and_then(|spec| {
            let known = PDU_KEYS.iter().copied();
            let known: Vec<&str> = known.chain(spec.keys.iter().map(|key| key.name)).collect();
            self.unknown_keys(value, &path, &known);
            settings.read_all(&mut wrong, |settings| spec.make(settings))
        });
        if let Some((key, what)) = built.as_ref().and_then(|(driver, _)| driver.doubt()) {
            let at = settings.error(key, "").at;
            self.warn(at, format!("{path}.{key}: {what}"));
        }
        if let Some(few) = common
            .as_ref()
            .map(|common| common.retries)
            .filter(|few| *few < 1)
        {
            let at = settings.error("retries", "").at;
            let what = format!("{few} attempts would never switch anything, counts as 1");
            self.warn(at, format!("{path}.retries: {what}"));
        }
        // What can only be checked against the driver.
        let checked = common
            .as_ref()
            .zip(built.as_ref())
            .map(|(common, (driver, outlets))| {
                let confirm = common.confirm(driver.proofs(), &settings);
                (confirm, common.outlets(outlets, &settings))
            });
        let (confirm, outlets) = checked.unzip();
        let mut good = |error| wrong.push(error);
        let confirm = confirm.and_then(|confirm| confirm.map_err(&mut good).ok());
        let outlets = outlets.and_then(|outlets| outlets.map_err(&mut good).ok());
        if let (Some(common), Some(outlets), Some(confirm), []) =
            (common, outlets, confirm, wrong.as_slice())
        {
            for (id, error) in common.strange_names(&outlets) {
                let at = settings.error("outlet_names", "").at;
                self.warn(at, format!("{path}.outlet_names.{id}: {error}"));
            }
            return Ok(common.pdu(name.clone(), settings, outlets, confirm));
        }
        let first = self.findings.errors.len();
        self.told_all(&path, &wrong);
        let error = self.findings.errors.get(first).cloned();
        let error = error.unwrap_or_else(|| self.error(settings.start(), "cannot be read"));
        Err(broken(&driver, &error))
    }

    /// The settings with every secret that is a reference put in its place. Lines stay where they
    /// are; columns behind a reference may not.
    fn with_secrets(
        &mut self,
        settings: &Settings,
        path: &str,
        object: &'a RawValue,
        entries: &[(String, &'a RawValue)],
        wrong: &mut Vec<SettingsError>,
    ) -> Settings {
        let mut text = String::new();
        let mut rest_at = 0;
        for (key, value) in entries {
            if !SECRET_KEYS.contains(&key.as_str()) {
                continue;
            }
            let at = self.text.position(value);
            if !value.get().starts_with('{') {
                if !matches!(value.get(), "null" | "\"\"") {
                    self.secrets.push((at, join(path, key)));
                }
                continue;
            }
            let secret = match self.vault.resolve(value.get()) {
                Ok(found) => {
                    self.warn_of_readers(at, &join(path, key), &found);
                    found.text
                }
                Err(message) => {
                    wrong.push(SettingsError {
                        at,
                        key: Some(key.clone()),
                        message,
                    });
                    continue;
                }
            };
            let start = value.get().as_ptr().addr() - object.get().as_ptr().addr();
            text.push_str(object.get().get(rest_at..start).unwrap_or_default());
            text.push_str(&serde_json::Value::String(secret).to_string());
            text.extend(value.get().chars().filter(|c| *c == '\n'));
            rest_at = start + value.get().len();
        }
        if rest_at == 0 {
            return settings.clone();
        }
        text.push_str(object.get().get(rest_at..).unwrap_or_default());
        settings.with_text(text)
    }

    fn aliases(
        &mut self,
        value: &'a RawValue,
        pdus: &BTreeMap<PduName, Result<PduConfig, BrokenPdu>>,
    ) -> HashMap<String, Alias> {
        let mut aliases = HashMap::new();
        let read = self.object("aliases", value);
        for (name, value) in self.told(read).unwrap_or_default() {
            let path = join("aliases", &name);
            let at = self.text.position(value);
            if let Ok(entries) = serde_json::from_str(value.get()) {
                self.unique(&path, entries);
                self.unknown_keys(value, &path, ALIAS_KEYS);
            }
            let alias = last_of_each(&file::section(&self.text, &name, "", value))
                .read::<AliasSection>()
                .map_err(|error| error.to_string())
                .and_then(|written| resolve_alias(written, pdus))
                .map_or_else(Alias::Dead, Alias::Outlets);
            if let Alias::Dead(why) = &alias {
                self.warn(at, format!("{path}: this alias leads nowhere: {why}"));
            }
            aliases.insert(name, alias);
        }
        aliases
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

/// The outlets an alias means, or why it means none.
fn resolve_alias(
    written: AliasSection,
    pdus: &BTreeMap<PduName, Result<PduConfig, BrokenPdu>>,
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
        let written = Outlet::new(port);
        // Which outlets a broken one could have is not known: a request tells what is wrong.
        let outlet = match pdu {
            Ok(pdu) => pdu
                .outlets
                .parse(&written)
                .map_err(|error| format!("PDU {hostname}, outlet {written}: {error}"))?,
            Err(_) => written,
        };
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
