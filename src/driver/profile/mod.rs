//! Profiles: PDUs as data. A profile says what to send to a PDU and what its answers mean; an engine
//! per transport does the rest (`driver/snmp/engine.rs` and its like).
//!
//! `written` is the file as it stands, `check` makes a [`Profile`] of it or tells every fault with its
//! place, `shelf` finds profiles by name, `proof` runs a profile's own tests against a scripted PDU,
//! and `engine` is what engines have in common. The format itself is told in `share/doc/profiles.md`.
//!
//! Invariant: nothing here knows any one engine, and a profile cannot name a program, a file or another
//! host.

pub(crate) mod answer;
mod check;
pub(crate) mod engine;
pub(crate) mod holes;
mod ids;
pub(crate) mod octets;
mod place;
pub(crate) mod proof;
pub(crate) mod script;
pub(crate) mod shelf;
mod sums;
mod tape;
mod written;

pub(crate) use check::Rows;
pub(crate) use ids::none;
pub use tape::Tape;
pub(crate) use written::{Auth, Failure, Maturity, Meaning, Over, Transport, whole_oid};

use super::{DriverError, States};
use crate::request::{Outlet, Proof, Switch};
use crate::settings::{Absent, Key, Settings, SettingsError};
use crate::transport::http::Method;
use answer::Judge;
use holes::{Filling, Fillings, Template};
use ids::Ids;
use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;
use sums::{Lists, Sum};

/// The `driver` of a PDU whose profile stands in the config beside it, under the key of this name.
pub const INLINE: &str = "profile";

/// A profile that has passed every check.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) id: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) vendor: String,
    pub(crate) models: String,
    pub(crate) maturity: Maturity,
    pub(crate) sources: Vec<String>,
    pub(crate) doubts: Vec<String>,
    pub(crate) keys: Vec<KeyRule>,
    pub(crate) ids: Ids,
    /// Has every PDU of this kind all of the outlets?
    pub(crate) has_all: bool,
    pub(crate) outlets_about: Option<String>,
    vars: Vec<(String, Sum)>,
    lists: Lists,
    /// What a switch is proved with, the strongest first.
    pub(crate) proofs: &'static [Proof],
    pub(crate) judge: Judge,
    /// Is what reads the state the same for every outlet?
    pub(crate) tells_all: bool,
    pub(crate) how: How,
    pub(crate) meters: Vec<Meter>,
    pub(crate) timeout: Option<u64>,
    pub(crate) shows_within: Option<u64>,
    /// The least pause between two commands.
    pub(crate) gap: Duration,
    pub(crate) tests: Vec<Test>,
}

/// How a PDU of some kind shows itself.
#[derive(Clone, Debug)]
pub(crate) struct Signs {
    /// What its sysObjectID begins with, and what it does not begin with.
    pub(crate) ids: Vec<Template>,
    pub(crate) except: Vec<Template>,
    /// An object that only one with outlets to switch has.
    pub(crate) has: Option<Template>,
    /// A page that everybody may read, and the pattern that only this kind shows there.
    pub(crate) page: Option<(Template, Template)>,
}

impl Signs {
    /// What the sysObjectID `id` says of the keys, where it may be one of this kind.
    pub(crate) fn of_kind(&self, id: &str) -> Option<Fillings> {
        let is_other = self.except.iter().any(|begin| begin.found_in(id).is_some());
        let mut known = self.ids.iter().filter_map(|begin| begin.found_in(id));
        match (is_other, self.ids.is_empty()) {
            (true, _) => None,
            (false, true) => self.has.as_ref().map(|_| Fillings::new()),
            (false, false) => known.next(),
        }
    }
}

/// What the transport sends.
#[derive(Clone, Debug)]
pub(crate) enum How {
    Snmp(Arc<Snmp>),
    Http(Arc<Web>),
    Line(Arc<Talk>),
    Bytes(Arc<Raw>),
    Mqtt(Arc<Topics>),
}

impl How {
    /// The transport's word.
    pub(crate) fn transport(&self) -> &'static str {
        match self {
            Self::Snmp(_) => "snmp",
            Self::Http(_) => "http",
            Self::Line(talk) => talk.site.transport(),
            Self::Bytes(raw) => raw.site.transport(),
            Self::Mqtt(_) => "mqtt",
        }
    }
}

/// The objects of an SNMP agent.
#[derive(Clone, Debug)]
pub(crate) struct Snmp {
    pub(crate) on: Vec<Write>,
    pub(crate) off: Vec<Write>,
    /// The objects that tell the state; a further one is for PDUs that lack the one before it.
    pub(crate) state: Vec<Template>,
    pub(crate) count: Option<Template>,
    pub(crate) names: Option<Template>,
    /// So many objects in one request.
    pub(crate) varbinds: Option<usize>,
}

impl Snmp {
    /// What switches so.
    pub(crate) fn writes(&self, to: Switch) -> &[Write] {
        match to {
            Switch::On => &self.on,
            Switch::Off => &self.off,
        }
    }
}

/// One SET.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Integer {
        oid: Template,
        value: Template,
    },
    Unsigned {
        oid: Template,
        value: Template,
    },
    Text {
        oid: Template,
        value: Template,
    },
    /// Of a list of all outlets one field is changed.
    Edit {
        oid: Template,
        split: String,
        field: Template,
        value: Template,
    },
}

/// The requests of a web server.
#[derive(Clone, Debug)]
pub(crate) struct Web {
    pub(crate) auth: Auth,
    pub(crate) port: Option<NonZeroU16>,
    pub(crate) login: Option<SignIn>,
    pub(crate) logout: Vec<Asking>,
    pub(crate) on: Vec<Asking>,
    pub(crate) off: Vec<Asking>,
    pub(crate) state: Vec<Asking>,
}

impl Web {
    fn askings(&self) -> impl Iterator<Item = &Asking> {
        let askings = [&self.on, &self.off, &self.state, &self.logout];
        let of_login = self.login.iter().flat_map(|login| &login.askings);
        askings.into_iter().flatten().chain(of_login)
    }
}

/// One request of HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub(crate) method: Method,
    pub(crate) target: Template,
    /// Names and texts.
    pub(crate) headers: Vec<(String, Template)>,
    /// Its type and text.
    pub(crate) body: Option<(&'static str, Template)>,
    /// Statuses that are as good as 200.
    pub(crate) status: Vec<u16>,
    pub(crate) expect: Option<Template>,
    /// Patterns that tell a failure under a status of success.
    pub(crate) failures: Vec<(String, Failure)>,
}

/// What logs in, and where the token is in what is answered.
#[derive(Clone, Debug)]
pub(crate) struct SignIn {
    pub(crate) askings: Vec<Asking>,
    pub(crate) from: Source,
    pub(crate) judge: Judge,
}

/// Which part of an answer is looked at.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Body,
    Header(String),
    /// The cookie of this name, or with `*` all of them, as a request sends them.
    Cookie(String),
}

/// How a stream is opened.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// What it can travel over, the usual first.
    pub(crate) over: Vec<Over>,
    pub(crate) port: u16,
    pub(crate) baud: u32,
}

impl Site {
    fn transport(&self) -> &'static str {
        match self.over.first() {
            Some(Over::Telnet) => "telnet",
            Some(Over::Ssh) => "ssh",
            Some(Over::Serial) => "serial",
            Some(Over::Tcp) | None => "tcp",
        }
    }
}

/// The dialogue with a console.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub(crate) site: Site,
    /// What ends a line that is typed.
    pub(crate) eol: String,
    pub(crate) login: Vec<Step>,
    pub(crate) logout: Vec<Step>,
    pub(crate) on: Vec<Step>,
    pub(crate) off: Vec<Step>,
    pub(crate) state: Vec<Step>,
}

/// One step of a dialogue.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) send: Option<Typed>,
    pub(crate) expect: Option<Template>,
    /// What is typed when the PDU asks this.
    pub(crate) answers: Vec<(String, Typed)>,
    /// Only over these; over all where none is named.
    pub(crate) over: Vec<Over>,
    pub(crate) failures: Vec<(String, Failure)>,
}

/// What is typed.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    pub(crate) text: Template,
    /// Is the end of a line typed behind it?
    pub(crate) is_line: bool,
}

/// The bytes for a board.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) site: Site,
    pub(crate) login: Vec<Swap>,
    pub(crate) on: Vec<Swap>,
    pub(crate) off: Vec<Swap>,
    pub(crate) state: Vec<Swap>,
}

/// What is written, and what comes back.
#[derive(Clone, Debug)]
pub(crate) struct Swap {
    pub(crate) write: octets::Octets,
    pub(crate) until: Option<Until>,
    /// What the answer must be.
    pub(crate) is: Option<octets::Octets>,
}

/// How an answer in bytes ends.
#[derive(Clone, Debug)]
pub(crate) enum Until {
    Count(usize),
    Pattern(Template),
}

/// The topics of a PDU behind a broker.
#[derive(Clone, Debug)]
pub(crate) struct Topics {
    /// Topics, each with the pattern of what tells there that the PDU is not there.
    pub(crate) offline: Vec<(Template, String)>,
    pub(crate) on: Publish,
    pub(crate) off: Publish,
    /// What asks for the state. Without it, the last message counts.
    pub(crate) asks: Option<Publish>,
    /// Where the state is told.
    pub(crate) state: Option<Template>,
}

/// A message for the PDU.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) topic: Template,
    pub(crate) text: Template,
}

/// A key of the config.
#[derive(Clone, Debug)]
pub(crate) struct KeyRule {
    pub(crate) name: String,
    pub(crate) is_integer: bool,
    pub(crate) is_secret: bool,
    /// Is it a key of the transport's, of which the profile only says the default?
    pub(crate) is_of_transport: bool,
    pub(crate) default: Option<Filling>,
    pub(crate) range: Option<(i64, i64)>,
    pub(crate) choices: Vec<String>,
    pub(crate) help: String,
}

/// Whose power a meter measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Outlet,
    Bank,
    Pdu,
}

/// One measured value.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    pub(crate) scope: Scope,
    /// `watts`, `amps` and so on.
    pub(crate) quantity: &'static str,
    pub(crate) source: Template,
    pub(crate) judge: Judge,
    pub(crate) scale: f64,
    pub(crate) decimals: Option<Template>,
}

/// One of a profile's own tests.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    /// Where it stands, as a path in the file.
    pub(crate) path: String,
    /// The PDU's settings.
    pub(crate) keys: BTreeMap<String, serde_json::Value>,
    pub(crate) does: Does,
}

/// What a test does.
#[derive(Clone, Debug)]
pub(crate) enum Does {
    /// A dialogue about one outlet.
    Wire {
        outlet: Outlet,
        action: script::Act,
        script: script::Script,
    },
    /// What is read of a recorded walk.
    Walk {
        walk: script::Walk,
        states: Vec<(Outlet, written::Meaning)>,
        names: Vec<(Outlet, String)>,
        count: Option<u32>,
        /// `outlet 2 watts`, `bank 1 amps`, `pdu watts`.
        meters: Vec<(String, f64)>,
    },
}

/// A profile with what the config says of one PDU.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) profile: Arc<Profile>,
    keys: Fillings,
}

impl Bound {
    /// Reads the profile's keys of `settings`.
    pub(crate) fn read(profile: &Arc<Profile>, settings: &Settings) -> Result<Self, SettingsError> {
        let written = serde_json::from_str(settings.text());
        let written: BTreeMap<String, serde_json::Value> = written.unwrap_or_default();
        let mut keys = Fillings::new();
        for rule in profile.keys.iter().filter(|rule| !rule.is_of_transport) {
            let filling = rule.read(written.get(&rule.name));
            let filling = filling.map_err(|message| settings.error(&rule.name, message))?;
            keys.insert(rule.name.clone(), filling);
        }
        Ok(Self {
            profile: Arc::clone(profile),
            keys,
        })
    }

    /// What fills the holes for `outlet`.
    pub(crate) fn fillings(&self, outlet: &Outlet) -> Result<Fillings, DriverError> {
        let of_outlet = self.profile.ids.fillings(outlet);
        let of_outlet = of_outlet.ok_or_else(|| none(&self.profile.ids))?;
        let fillings = self.profile.with_vars(of_outlet, &self.keys);
        fillings.map_err(DriverError::Setup)
    }

    /// What an answer says of the outlet, and of the `others` if it is about all outlets.
    pub(crate) fn states(
        &self,
        answer: &str,
        outlet: &Outlet,
        others: &[Outlet],
    ) -> Result<States, DriverError> {
        let state = |outlet: &Outlet| {
            let fillings = self.fillings(outlet)?;
            self.profile.judge.state(answer, &fillings)
        };
        match self.profile.tells_all {
            true => States::each(outlet, others, state),
            false => state(outlet).map(States::only),
        }
    }

    /// The values of the keys that are secret.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let rules = self.profile.keys.iter().filter(|rule| rule.is_secret);
        let values = rules.filter_map(|rule| self.keys.get(&rule.name));
        values
            .map(ToString::to_string)
            .filter(|secret| !secret.is_empty())
            .collect()
    }

    /// The secrets, each with what stands for it in a test.
    pub(crate) fn stand_ins(&self) -> Vec<(String, String)> {
        let rules = self.profile.keys.iter().filter(|rule| rule.is_secret);
        let pairs = rules.filter_map(|rule| {
            let secret = self.keys.get(&rule.name)?.to_string();
            Some((secret, rule.sample().to_string()))
        });
        pairs.filter(|(secret, sample)| secret != sample).collect()
    }

    /// What fills the holes where no outlet is meant.
    pub(crate) fn keys(&self) -> &Fillings {
        &self.keys
    }
}

impl Profile {
    /// How well it is known to be right, for people.
    pub(crate) fn evidence(&self) -> String {
        let mut text = format!("{} ({})", self.maturity.words(), self.sources.join("; "));
        for doubt in &self.doubts {
            text.push_str(". UNVERIFIED: ");
            text.push_str(doubt);
        }
        text
    }

    /// The fillings of an outlet and of the keys, and what is computed from them.
    fn with_vars(&self, of_outlet: Fillings, keys: &Fillings) -> Result<Fillings, String> {
        let mut fillings = of_outlet;
        fillings.extend(
            keys.iter()
                .map(|(name, filling)| (name.clone(), filling.clone())),
        );
        for (name, sum) in &self.vars {
            let known = |name: &str| match fillings.get(name)? {
                Filling::Number(number) => Some(*number),
                Filling::Text(_) | Filling::Secret(_) => None,
            };
            let value = sum.value(&known, &self.lists);
            let value = value.map_err(|why| format!("outlets.vars.{name}: {why}"))?;
            fillings.insert(name.clone(), Filling::Number(value));
        }
        Ok(fillings)
    }
}

impl Profile {
    /// The settings with what the profile says of keys that its transport reads.
    pub(crate) fn with_defaults(&self, settings: &Settings) -> Settings {
        let rules = || self.keys.iter().filter(|rule| rule.is_of_transport);
        let keys = serde_json::from_str::<BTreeMap<String, serde_json::Value>>(settings.text());
        let (Ok(mut keys), Some(_)) = (keys, rules().next()) else {
            return settings.clone();
        };
        for rule in rules() {
            if let Some(default) = &rule.default
                && keys.get(&rule.name).is_none_or(serde_json::Value::is_null)
            {
                keys.insert(rule.name.clone(), default.json());
            }
        }
        let text = serde_json::to_string(&keys);
        text.map_or_else(|_| settings.clone(), |text| settings.with_text(text))
    }
}

impl Profile {
    /// A value for each of its keys, where nobody says one.
    pub(crate) fn samples(&self) -> Fillings {
        let own = self.keys.iter();
        own.map(|rule| (rule.name.clone(), rule.sample())).collect()
    }

    /// What a test must say of a PDU with these settings: the keys that are neither secret nor
    /// the same as without.
    pub(crate) fn keys_for_a_test(
        &self,
        settings: &Settings,
    ) -> BTreeMap<String, serde_json::Value> {
        let written = serde_json::from_str(settings.text());
        let written: BTreeMap<String, serde_json::Value> = written.unwrap_or_default();
        let own = self.keys.iter();
        let own = own.filter(|rule| !rule.is_of_transport && !rule.is_secret);
        let said = own.filter_map(|rule| {
            let filling = rule.read(written.get(&rule.name)).ok()?;
            let is_default = rule.default.as_ref() == Some(&filling);
            (!is_default).then(|| (rule.name.clone(), filling.json()))
        });
        // What is sent may depend on what it travels over.
        let over = written
            .get("over")
            .map(|over| ("over".to_owned(), over.clone()));
        said.chain(over).collect()
    }
}

impl Test {
    /// The test as a profile has it, with the dialogue `wire`; nothing for a walk.
    pub(crate) fn toml(&self, wire: &str) -> String {
        let Does::Wire { outlet, action, .. } = &self.does else {
            return String::new();
        };
        let mut text = String::from("[[test]]\n");
        if !self.keys.is_empty() {
            // A JSON number or text is one of TOML too.
            let keys = self
                .keys
                .iter()
                .map(|(key, value)| format!("{key} = {value}"));
            let keys: Vec<String> = keys.collect();
            text.push_str(&format!("keys = {{ {} }}\n", keys.join(", ")));
        }
        let id = outlet.as_str();
        match outlet.number() {
            Some(number) if number.to_string() == id => text.push_str(&format!("outlet = {id}\n")),
            _ => text.push_str(&format!("outlet = {:?}\n", id)),
        }
        let action = match action {
            script::Act::Switch(to) => to.to_string(),
            script::Act::State => "state".to_owned(),
        };
        text.push_str(&format!("do = \"{action}\"\n"));
        // Within three single quotes everything stands as it is, but for these.
        let is_plain = |c: char| c == '\n' || c == '\t' || !c.is_control();
        match wire.contains("'''") || !wire.chars().all(is_plain) {
            false => text.push_str(&format!("wire = '''\n{wire}'''\n")),
            true => {
                let escaped: String = wire
                    .chars()
                    .map(|c| match c {
                        '"' | '\\' => format!("\\{c}"),
                        c if is_plain(c) => c.to_string(),
                        c => format!("\\u{:04x}", u32::from(c)),
                    })
                    .collect();
                text.push_str(&format!("wire = \"\"\"\n{escaped}\"\"\"\n"));
            }
        }
        text
    }
}

impl KeyRule {
    /// Its row in the documentation.
    pub(crate) fn row(&self) -> Key {
        let range = match self.range {
            Some((first, last)) => format!("{first} to {last}"),
            None => self.choices.join(", "),
        };
        let absent = match &self.default {
            None => Absent::Refused,
            Some(default) => Absent::Json(default.json().to_string().into()),
        };
        Key {
            name: self.name.clone().into(),
            kind: if self.is_integer { "number" } else { "text" }.into(),
            range: range.into(),
            absent,
            is_secret: self.is_secret,
            about: self.help.clone().into(),
        }
    }

    /// The value that the config gives, or the default.
    fn read(&self, written: Option<&serde_json::Value>) -> Result<Filling, String> {
        use serde_json::Value as V;
        let text = match written {
            None | Some(V::Null) => {
                return self
                    .default
                    .clone()
                    .ok_or_else(|| format!("required: {}", self.help));
            }
            Some(V::String(text)) => text.clone(),
            Some(V::Number(number)) => number.to_string(),
            Some(V::Bool(_) | V::Array(_) | V::Object(_)) => {
                return Err("expected a number or a text".to_owned());
            }
        };
        if self.is_integer {
            let number = text.trim().parse::<i64>();
            let number = number.map_err(|_| format!("expected a number, got {text:?}"))?;
            if let Some((first, last)) = self.range
                && !(first..=last).contains(&number)
            {
                return Err(format!("expected {first} to {last}, got {number}"));
            }
            return Ok(Filling::Number(number));
        }
        if !self.choices.is_empty() && !self.choices.contains(&text) {
            let choices = self.choices.join(", ");
            return Err(format!("expected one of {choices}, got {text:?}"));
        }
        if text.chars().any(char::is_control) {
            return Err("expected no control characters".to_owned());
        }
        Ok(match self.is_secret {
            true => Filling::Secret(text),
            false => Filling::Text(text),
        })
    }

    /// May the config say this?
    pub(crate) fn allows(&self, value: &serde_json::Value) -> bool {
        self.read(Some(value)).is_ok()
    }

    /// A value for the checks: the default, or one that the rule allows.
    pub(crate) fn sample(&self) -> Filling {
        if let Some(default) = &self.default {
            return default.clone();
        }
        match (self.is_integer, self.range, self.choices.first()) {
            (true, range, _) => Filling::Number(range.map_or(1, |(first, _)| first)),
            (false, _, Some(choice)) => Filling::Text(choice.clone()),
            (false, _, None) if self.is_secret => Filling::Secret("text".to_owned()),
            (false, _, None) => Filling::Text("text".to_owned()),
        }
    }
}
