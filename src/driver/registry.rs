//! The drivers by name: the transports' tables, and the profiles.
//!
//! A name is looked for among the code drivers, then among the admin's own profiles, then among the
//! ids of the shipped ones, then among their aliases. A profile is read when somebody asks for it by
//! name, and what was read of it stays: workers refer to it.

pub use super::profile::INLINE;
use super::profile::script::{Act, Script, Stage};
use super::profile::shelf::{self, Source};
use super::profile::{Auth, Bound, Does, How, Over, Profile, Rows, Tape, Test, Transport, proof};
use super::{
    Build, Built, DEVICE_TIMEOUT, DriverSpec, Key, SHOWS_WITHIN, Scribe, command, http, ipmi, mqtt,
    serial, simulated, snmp, ssh, stream, tcp, telnet, usb,
};
use crate::request::{Outlet, Switch};
use crate::settings::{Absent, FileError, Settings, SettingsError};
use command::python::Names;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

static TABLES: &[&[DriverSpec]] = &[
    simulated::SPECS,
    command::SPECS,
    snmp::SPECS,
    http::SPECS,
    telnet::SPECS,
    ssh::SPECS,
    tcp::SPECS,
    serial::SPECS,
    usb::SPECS,
    ipmi::SPECS,
];

/// Every spec of the tables, in the order of the documentation.
pub fn specs() -> impl Iterator<Item = &'static DriverSpec> {
    TABLES.iter().copied().flatten()
}

/// The spec of the tables that a config's `driver` value selects.
pub fn find(name: &str) -> Option<&'static DriverSpec> {
    specs().find(|spec| {
        spec.names
            .iter()
            .any(|own| *own == name || (spec.any_case && own.eq_ignore_ascii_case(name)))
    })
}

/// Is the value of this key a secret, to any driver? In its place a config may have
/// `{"file": "name"}` or `{"env": "NAME"}`, which the config resolves before a driver sees it.
pub fn is_secret(key: &str) -> bool {
    SECRETS.contains(key)
}

static SECRETS: LazyLock<BTreeSet<Cow<'static, str>>> = LazyLock::new(|| {
    let keys = specs().flat_map(|spec| spec.build.keys());
    keys.filter(|key| key.is_secret)
        .map(|key| key.name)
        .collect()
});

/// What a profile may say of keys that are not its own.
pub(super) const ROWS: Rows = Rows {
    of: |transport| match transport {
        Transport::Snmp => snmp::engine::keys(),
        Transport::Http => http::engine::keys(Auth::Asked),
        Transport::Line | Transport::Bytes => {
            stream::keys(&[Over::Telnet, Over::Ssh, Over::Tcp, Over::Serial])
        }
        Transport::Mqtt => mqtt::keys(),
    },
    secrets: || SECRETS.iter().map(ToString::to_string).collect(),
};

/// Every shipped profile's spec, or the faults of a profile that should not have been shipped.
pub fn shipped() -> impl Iterator<Item = Result<&'static DriverSpec, Faults>> {
    shelf::shipped().map(spec_of)
}

/// Every row: the tables', and those of the shipped profiles, of which a test holds that each is right.
pub fn all() -> impl Iterator<Item = &'static DriverSpec> {
    specs().chain(shipped().filter_map(Result::ok))
}

/// Every name that is known without looking into folders.
pub fn names() -> impl Iterator<Item = &'static str> {
    let of_tables = specs().flat_map(|spec| spec.names).copied();
    of_tables.chain(shelf::shipped_names())
}

/// What is wrong with a profile, each fault a line with its file, line and column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<FileError>);

impl Faults {
    /// Each of them.
    pub fn each(&self) -> &[FileError] {
        &self.0
    }
}

impl fmt::Display for Faults {
    /// The first, and how many more there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("no fault"),
            [one] => one.fmt(f),
            [first, more @ ..] => write!(f, "{first} (and {} more)", more.len()),
        }
    }
}

impl std::error::Error for Faults {}

/// Where drivers are looked for: here, in the admin's folders, and in Python's packages.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// Folders with profiles, the first that has one counts.
    pub folders: Vec<PathBuf>,
    python: Rc<RefCell<Names>>,
}

impl Registry {
    /// Looks in these folders.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self {
            folders,
            python: Rc::default(),
        }
    }

    /// The driver called `name` of a Python package, when nothing else has one. Starts an interpreter,
    /// once for all names. The error is empty, or says why nobody knows.
    pub fn of_python(
        &self,
        settings: &Settings,
        name: &str,
    ) -> Result<&'static DriverSpec, String> {
        self.python.borrow_mut().find(settings, name)
    }

    /// The driver called `name`; nothing where there is none, faults where its profile cannot work.
    pub fn find(&self, name: &str) -> Result<Option<&'static DriverSpec>, Faults> {
        if let Some(spec) = find(name) {
            return Ok(Some(spec));
        }
        let own = shelf::find_own(name, &self.folders).transpose();
        let own = own.map_err(|fault| Faults(vec![fault]))?;
        let source = own.or_else(|| shelf::find_shipped(name));
        source.map(spec_of).transpose()
    }
}

/// The spec of a profile that stands in the config as the JSON text `profile`.
pub fn inline(profile: &str) -> Result<&'static DriverSpec, Faults> {
    spec_of(Source::inline(profile))
}

/// What was read so far: a profile that changes is another one.
static READ: LazyLock<Mutex<HashMap<Source, &'static DriverSpec>>> = LazyLock::new(Mutex::default);

fn spec_of(source: Source) -> Result<&'static DriverSpec, Faults> {
    let read = || READ.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(spec) = read().get(&source) {
        return Ok(spec);
    }
    let profile = source.read(ROWS).map_err(Faults)?;
    let spec: &'static DriverSpec = Box::leak(Box::new(row(
        profile,
        source.file.clone(),
        source.id.is_none(),
    )));
    read().insert(source, spec);
    Ok(spec)
}

/// A profile as the builder of its PDUs' drivers.
struct Profiled {
    profile: Arc<Profile>,
    file: String,
    is_inline: bool,
}

impl Build for Profiled {
    fn keys(&self) -> Vec<Key> {
        let mut keys = match &self.profile.how {
            How::Snmp(_) => snmp::engine::keys(),
            How::Http(web) => http::engine::keys(web.auth),
            How::Line(talk) => stream::keys(&talk.site.over),
            How::Bytes(raw) => stream::keys(&raw.site.over),
            How::Mqtt(_) => mqtt::keys(),
        };
        for rule in &self.profile.keys {
            let row = rule.row();
            match keys.iter_mut().find(|key| key.name == row.name) {
                Some(key) => key.absent = row.absent,
                None => keys.push(row),
            }
        }
        if self.is_inline {
            keys.push(Key {
                name: INLINE.into(),
                kind: "object".into(),
                range: Cow::Borrowed(""),
                absent: Absent::Refused,
                is_secret: false,
                about: "the profile".into(),
            });
        }
        keys
    }

    fn build(&self, settings: &Settings) -> Result<Built, SettingsError> {
        self.make(settings, None)
    }

    fn prove(&self) -> Vec<String> {
        let tests = self.profile.tests.iter();
        let failed = tests.filter_map(|test| {
            let why = self.proves(test).err()?;
            Some(format!("{}: {}: {why}", self.file, test.path))
        });
        failed.collect()
    }

    fn scribe(&self) -> Option<&dyn Scribe> {
        Some(self)
    }
}

impl Profiled {
    fn make(&self, settings: &Settings, tape: Option<&Tape>) -> Result<Built, SettingsError> {
        let settings = &self.profile.with_defaults(settings);
        match &self.profile.how {
            How::Snmp(snmp) => snmp::engine::build(&self.profile, snmp, settings, tape),
            How::Http(web) => http::engine::build(&self.profile, web, settings, tape),
            How::Line(talk) => stream::line::build(&self.profile, talk, settings, tape),
            How::Bytes(raw) => stream::bytes::build(&self.profile, raw, settings, tape),
            How::Mqtt(topics) => mqtt::build(&self.profile, topics, settings, tape),
        }
    }

    /// The driver of a PDU that plays a dialogue.
    fn played(&self, test: &Test, bound: Bound, stage: Stage) -> Built {
        match &self.profile.how {
            How::Snmp(snmp) => snmp::engine::played(snmp, bound, stage),
            How::Http(web) => http::engine::played(web, bound, stage),
            How::Line(talk) => stream::line::played(talk, test, bound, stage),
            How::Bytes(raw) => stream::bytes::played(raw, bound, stage),
            How::Mqtt(topics) => mqtt::played(topics, bound, stage),
        }
    }

    /// Does the profile hold this test?
    fn proves(&self, test: &Test) -> Result<(), String> {
        match &self.profile.how {
            How::Snmp(snmp) => snmp::engine::prove(&self.profile, snmp, test),
            How::Http(web) => http::engine::prove(&self.profile, web, test),
            How::Line(talk) => stream::line::prove(&self.profile, talk, test),
            How::Bytes(raw) => stream::bytes::prove(&self.profile, raw, test),
            How::Mqtt(topics) => mqtt::prove(&self.profile, topics, test),
        }
    }
}

impl Scribe for Profiled {
    fn taped(&self, settings: &Settings, tape: &Tape) -> Result<Built, SettingsError> {
        let bound = Bound::read(&self.profile, &self.profile.with_defaults(settings))?;
        for (secret, stand_in) in bound.stand_ins() {
            tape.hide(&secret, &stand_in);
        }
        self.make(settings, Some(tape))
    }

    fn test(
        &self,
        settings: &Settings,
        tape: &Tape,
        outlet: &Outlet,
        to: Option<Switch>,
    ) -> Result<(String, Option<String>), String> {
        let with = |script: Script| Test {
            path: "the test".to_owned(),
            keys: self.profile.keys_for_a_test(settings),
            does: Does::Wire {
                outlet: outlet.clone(),
                action: to.map_or(Act::State, Act::Switch),
                script,
            },
        };
        // With the keys of a test the profile sends the same, but for the secrets.
        let heard = with(Script {
            lines: tape.lines(),
            outcome: String::new(),
        });
        let play = |bound, stage| self.played(&heard, bound, stage);
        let (lines, outcome) = proof::rewritten(&self.profile, &heard, play)?;
        let script = Script { lines, outcome };
        let wire = match self.profile.how {
            How::Snmp(_) => snmp::engine::short(&script.to_string()),
            _ => script.to_string(),
        };
        let test = with(script);
        let fails = Script::parse(&wire).and_then(|script| self.proves(&with(script)));
        Ok((test.toml(&wire), fails.err()))
    }
}

/// For the fuzzer: profiles that are read, used and forgotten.
#[cfg(fuzzing)]
#[allow(missing_docs)]
pub mod fuzzing {
    use super::{Arc, Build, Outlet, Profiled, ROWS, Settings, Source};
    use crate::driver::Driver;
    use crate::request::PduName;
    use crate::settings::Position;

    /// The driver of a PDU with this profile, its outlets, and the word of its transport.
    pub fn driver(text: &str) -> Option<(Box<dyn Driver>, Vec<Outlet>, &'static str)> {
        let profile = Arc::new(Source::read_text(text, ROWS)?);
        let mut keys = serde_json::json!({
            "ip": "127.0.0.1", "community": "private", "version": "2c", "protocol": "http",
            "device": "socket://127.0.0.1:2000"
        });
        for (name, sample) in profile.samples() {
            if keys.get(&name).is_none() {
                keys[name] = sample.json();
            }
        }
        let at = Position { line: 1, column: 1 };
        let settings = Settings::new(PduName::new("pdu"), "profile", keys.to_string(), at);
        let (outlets, transport) = (profile.ids.all(), profile.how.transport());
        let build = Profiled {
            profile,
            file: String::new(),
            is_inline: false,
        };
        let driver = build.build(&settings).ok()?.driver;
        Some((driver, outlets, transport))
    }
}

/// The table row of a profile.
fn row(profile: Profile, file: String, is_inline: bool) -> DriverSpec {
    fn kept(text: impl Into<String>) -> &'static str {
        Box::leak(text.into().into_boxed_str())
    }
    let names = std::iter::once(&profile.id).chain(&profile.aliases);
    let names: Vec<&'static str> = names.map(|name| kept(name.as_str())).collect();
    let about = profile
        .outlets_about
        .clone()
        .unwrap_or_else(|| profile.ids.about());
    DriverSpec {
        names: Box::leak(names.into_boxed_slice()),
        any_case: false,
        models: kept(format!("{}: {}", profile.vendor, profile.models)),
        transport: profile.how.transport(),
        outlets: profile.ids.has(profile.has_all, kept(about)),
        reads_back: profile.proofs.contains(&crate::request::Proof::State),
        verified_by: kept(profile.evidence()),
        timeout: profile.timeout.unwrap_or(DEVICE_TIMEOUT),
        shows_within: profile.shows_within.unwrap_or(SHOWS_WITHIN),
        build: Box::leak(Box::new(Profiled {
            profile: Arc::new(profile),
            file,
            is_inline,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_name_selects_one_spec_and_every_spec_is_documented() {
        let mut seen = HashSet::new();
        for spec in specs() {
            assert!(!spec.names.is_empty());
            for name in spec.names {
                let folded = if spec.any_case {
                    name.to_ascii_lowercase()
                } else {
                    (*name).to_owned()
                };
                assert!(seen.insert(folded), "{name} is there twice");
            }
            let outlets = spec.outlets.to_string();
            for text in [spec.models, spec.transport, &outlets, spec.verified_by] {
                assert!(!text.is_empty(), "{:?} lacks documentation", spec.names);
            }
            assert!(spec.timeout > 0);
            let mut keys = HashSet::new();
            for key in spec.build.keys() {
                assert!(!key.about.is_empty() && !key.kind.is_empty(), "{key:?}");
                let name = key.name.clone();
                assert!(
                    keys.insert(name),
                    "{:?}: {key:?} is there twice",
                    spec.names
                );
            }
        }
    }
}
