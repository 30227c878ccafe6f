//! Profiles: PDUs as data. A profile says what to send to a PDU and what its answers mean; an engine
//! per transport does the rest (`driver/snmp/engine.rs` and its like).
//!
//! `written` is the file as it stands, `check` makes a [`Profile`] of it or tells every fault with its
//! place, `shelf` finds profiles by name, and `proof` runs a profile's own tests against a scripted
//! PDU. The format itself is told in `share/doc/profiles.md`.
//!
//! Invariant: nothing here knows an engine, and a profile cannot name a program, a file or another
//! host.

#![allow(dead_code, reason = "the engines for HTTP, lines and bytes follow")]

pub(crate) mod answer;
mod check;
pub(crate) mod holes;
mod ids;
mod place;
pub(crate) mod proof;
pub(crate) mod script;
pub(crate) mod shelf;
mod sums;
mod written;

pub(crate) use check::FaultAt;
pub(crate) use ids::none;
pub(crate) use written::Maturity;

use super::DriverError;
use crate::request::{Outlet, Proof};
use crate::settings::{Absent, Key, Settings, SettingsError};
use answer::Judge;
use holes::{Filling, Fillings, Template};
use ids::Ids;
use std::collections::BTreeMap;
use std::sync::Arc;
use sums::{Lists, Sum};

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
    pub(crate) how: How,
    pub(crate) meters: Vec<Meter>,
    pub(crate) timeout: Option<u64>,
    pub(crate) shows_within: Option<u64>,
    pub(crate) tests: Vec<Test>,
}

/// What the transport sends.
#[derive(Clone, Debug)]
pub(crate) enum How {
    Snmp(Snmp),
}

impl How {
    /// The transport's word.
    pub(crate) fn transport(&self) -> &'static str {
        match self {
            Self::Snmp(_) => "snmp",
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
}

/// One SET.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Integer {
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
                Filling::Text(_) => None,
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
        Ok(Filling::Text(text))
    }

    /// A value for the checks: the default, or one that the rule allows.
    fn sample(&self) -> Filling {
        if let Some(default) = &self.default {
            return default.clone();
        }
        match (self.is_integer, self.range, self.choices.first()) {
            (true, range, _) => Filling::Number(range.map_or(1, |(first, _)| first)),
            (false, _, Some(choice)) => Filling::Text(choice.clone()),
            (false, _, None) => Filling::Text("text".to_owned()),
        }
    }
}
