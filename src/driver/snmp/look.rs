//! What an SNMP agent shows of itself to whoever looks for its profile. Nothing is ever written.

use super::named;
use crate::driver::DriverError;
use crate::driver::profile::holes::{Filling, Fillings, Template};
use crate::driver::profile::{Bound, Meaning, Profile, Signs, Snmp};
use crate::request::Outlet;
use crate::settings::{Settings, SettingsError};
use crate::transport::Deadline;
use crate::transport::snmp::{Agent, Oid, SnmpError, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The system group's objects: what kind of device it is, and in words.
const SYS_OBJECT_ID: &str = "1.3.6.1.2.1.1.2.0";
const SYS_DESCR: &str = "1.3.6.1.2.1.1.1.0";

/// The most outlets that are looked at one by one.
const MOST_OUTLETS: usize = 128;

/// So many ids without an outlet, or banks that have come to their end, and there are no more.
const MOST_GAPS: usize = 16;

/// An agent that is looked at.
pub(crate) struct Look {
    agent: Agent,
    deadline: Deadline,
}

impl Look {
    /// The agent that these settings are of; all must be over by `deadline`.
    pub(crate) fn at(settings: &Settings, deadline: Deadline) -> Result<Self, SettingsError> {
        let reach: named::Reach = settings.keys()?;
        let agent = reach.session(settings)?;
        Ok(Self { agent, deadline })
    }

    /// Its sysObjectID and its sysDescr.
    pub(crate) fn identity(&mut self) -> Result<(String, String), DriverError> {
        let id = self.get(SYS_OBJECT_ID)?;
        let about = self.get(SYS_DESCR)?;
        Ok((id.unwrap_or_default(), about.unwrap_or_default()))
    }

    /// Reads one object; nothing where there is none.
    fn get(&mut self, oid: &str) -> Result<Option<String>, DriverError> {
        match self.agent.get(&number(oid)?, self.deadline) {
            Ok(Value::Missing(_)) | Err(SnmpError::Status(2)) => Ok(None),
            Ok(Value::Text(text)) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
            Ok(value) => Ok(Some(value.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// The number behind `begin` in the next object that begins so.
    fn next(&mut self, begin: &str) -> Result<Option<i64>, DriverError> {
        let begin = begin.trim_end_matches('.');
        let next = match self.agent.next(&number(begin)?, self.deadline) {
            Ok(next) => next,
            Err(SnmpError::Status(2)) => None,
            Err(error) => return Err(error.into()),
        };
        let below = next.and_then(|next| {
            let next = next.to_string();
            let below = next.strip_prefix(begin)?.strip_prefix('.')?;
            below.split('.').next()?.parse().ok()
        });
        Ok(below)
    }

    /// Has the agent the object, or one below it? What fills its holes there; those that are `known`
    /// stay.
    fn has(&mut self, object: &Template, known: Fillings) -> Result<Option<Fillings>, DriverError> {
        let mut found = known;
        loop {
            let begun = object.filled_up_to(&found).map_err(DriverError::Setup)?;
            match begun {
                (begin, Some(hole)) => match self.next(&begin)? {
                    Some(arc) => found.insert(hole.to_owned(), Filling::Number(arc)),
                    None => return Ok(None),
                },
                (whole, None) => {
                    let is_there = self.get(&whole)?.is_some() || self.next(&whole)?.is_some();
                    return Ok(is_there.then_some(found));
                }
            };
        }
    }

    /// Does the agent show these signs? Then what they tell of the profile's keys. An error of the
    /// object is told as what is missing.
    pub(crate) fn shows(
        &mut self,
        signs: &Signs,
        id: &str,
    ) -> Result<Result<Fillings, Option<String>>, DriverError> {
        let Some(known) = signs.of_kind(id) else {
            return Ok(Err(None));
        };
        let Some(object) = &signs.has else {
            return Ok(Ok(known));
        };
        let missing = || {
            object
                .filled_up_to(&known)
                .map_or_else(|why| why, |(begin, _)| begin)
        };
        let missing = missing();
        Ok(match self.has(object, known)? {
            Some(found) => Ok(found),
            None if signs.ids.is_empty() => Err(None),
            None => Err(Some(missing.trim_end_matches('.').to_owned())),
        })
    }

    /// The outlets that the PDU shows, each with its name where it tells one.
    pub(crate) fn outlets(
        &mut self,
        bound: &Bound,
        snmp: &Snmp,
    ) -> Result<Vec<(Outlet, String)>, DriverError> {
        let profile = &bound.profile;
        let count = match &snmp.count {
            None => None,
            Some(count) => self.get(&filled(count, bound.keys())?)?,
        };
        let count: Option<usize> = count.and_then(|count| count.trim().parse().ok());
        let (mut shown, mut gaps) = (Vec::new(), BTreeSet::new());
        for outlet in profile.ids.all() {
            let is_enough = count.is_some_and(|count| shown.len() >= count);
            if is_enough || gaps.len() >= MOST_GAPS || shown.len() >= MOST_OUTLETS {
                break;
            }
            // Behind the last outlet of a bank the next bank begins.
            let id = outlet.as_str();
            let bank = id.rsplit_once('.').map_or(id, |(bank, _)| bank).to_owned();
            if gaps.contains(&bank) {
                continue;
            }
            let fillings = bound.fillings(&outlet)?;
            if !self.shows_outlet(bound, snmp, &fillings)? {
                gaps.insert(bank);
                continue;
            }
            let name = match &snmp.names {
                None => None,
                Some(name) => self.get(&filled(name, &fillings)?)?,
            };
            let name = name.unwrap_or_default();
            let name = name.trim_matches(|c: char| c.is_whitespace() || c == '\0');
            shown.push((outlet, name.to_owned()));
        }
        Ok(shown)
    }

    /// Does the PDU show a state of the outlet, and not that it is absent; or at least its name?
    fn shows_outlet(
        &mut self,
        bound: &Bound,
        snmp: &Snmp,
        fillings: &Fillings,
    ) -> Result<bool, DriverError> {
        for object in &snmp.state {
            if let Some(value) = self.get(&filled(object, fillings)?)? {
                let judge = &bound.profile.judge;
                let meaning = judge.value(&value, fillings);
                let meaning = meaning.ok().and_then(|value| judge.meaning(&value));
                return Ok(meaning != Some(Meaning::Absent));
            }
        }
        match &snmp.names {
            Some(name) => Ok(self.get(&filled(name, fillings)?)?.is_some()),
            None => Ok(false),
        }
    }

    /// Leaves the agent.
    pub(crate) fn rest(&mut self) {
        self.agent.rest();
    }
}

fn filled(text: &Template, fillings: &Fillings) -> Result<String, DriverError> {
    text.fill(fillings).map_err(DriverError::Setup)
}

fn number(oid: &str) -> Result<Oid, DriverError> {
    oid.parse()
        .map_err(|_| DriverError::Setup(format!("no OID: {oid:?}")))
}

/// What was found of the profile's own keys, where it is another value than without, as the config
/// would have it; none where a value is not allowed.
pub(crate) fn keys_of(
    profile: &Profile,
    found: &Fillings,
) -> Option<BTreeMap<String, serde_json::Value>> {
    let mut keys = BTreeMap::new();
    for rule in &profile.keys {
        let Some(value) = found.get(&rule.name) else {
            continue;
        };
        let value = value.json();
        if !rule.allows(&value) {
            return None;
        }
        if rule.default.as_ref().map(Filling::json).as_ref() != Some(&value) {
            keys.insert(rule.name.clone(), value);
        }
    }
    Some(keys)
}
