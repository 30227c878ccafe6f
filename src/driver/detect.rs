//! `pdudaemon --detect`: which profile is that of the PDU at an address, which outlets it has, and a
//! config entry to paste. It only reads.

use super::docs;
use super::http::engine as http;
use super::profile::shelf::{self, Source};
use super::profile::{Bound, How, Maturity, Profile, Signs};
use super::registry::ROWS;
use super::snmp::look::{self, Look};
use super::{DriverError, SettingsError};
use crate::request::{Outlet, PduName};
use crate::settings::{Key, Position, Settings};
use crate::transport::{Deadline, printable};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long all questions together may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the first answer may take: then somebody is there.
const FIRST: Duration = Duration::from_secs(8);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The SNMP agent.
    Snmp,
    /// The web server.
    Http,
}

impl Ask {
    /// The keys that say how it is reached.
    pub fn keys(self) -> Vec<Key> {
        match self {
            Self::Snmp => super::snmp::engine::keys(),
            Self::Http => http::keys(super::profile::Auth::None),
        }
    }
}

/// Why nothing was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DetectError {
    /// A setting cannot work.
    Settings(SettingsError),
    /// Nobody answered.
    Driver(DriverError),
}

impl fmt::Display for DetectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(error) => error.fmt(f),
            Self::Driver(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DetectError {}

impl From<SettingsError> for DetectError {
    fn from(error: SettingsError) -> Self {
        Self::Settings(error)
    }
}

impl From<DriverError> for DetectError {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    host: String,
    ask: Ask,
    /// What the PDU says of itself.
    says: Vec<(&'static str, String)>,
    /// The profiles whose signs it shows, the best first.
    found: Vec<Found>,
    /// Profiles of its kind that it lacks something for, and what.
    near: Vec<(String, String)>,
}

/// A profile whose signs the PDU shows.
#[derive(Debug)]
struct Found {
    profile: Arc<Profile>,
    keys: BTreeMap<String, serde_json::Value>,
    outlets: Vec<(Outlet, String)>,
    /// How sure it is: an object or page was seen, and how long the sysObjectID is that fits.
    rank: (bool, usize, std::cmp::Reverse<Maturity>),
}

/// Every profile with signs: the admin's own in `folders`, and those that come with the program and
/// have another id.
fn profiles(folders: &[PathBuf]) -> Vec<(Source, Signs)> {
    let own = shelf::own_names(folders).into_iter();
    let own = own.filter_map(|name| shelf::find_own(&name, folders)?.ok());
    let mut ids = BTreeSet::new();
    own.chain(shelf::shipped())
        .filter(|source| ids.insert(source.id.clone()))
        .filter_map(|source| source.signs(ROWS).map(|signs| (source, signs)))
        .collect()
}

/// Looks at the PDU at `host`, which `settings` say how to reach.
pub fn detect(
    host: &str,
    ask: Ask,
    settings: &str,
    folders: &[PathBuf],
) -> Result<Seen, DetectError> {
    let at = Position { line: 1, column: 1 };
    let settings = Settings::new(PduName::new(host), "detect", settings, at);
    let mut seen = Seen {
        host: host.to_owned(),
        ask,
        says: Vec::new(),
        found: Vec::new(),
        near: Vec::new(),
    };
    match ask {
        Ask::Snmp => seen.look_at_agent(&settings, folders)?,
        Ask::Http => seen.look_at_pages(&settings, folders)?,
    }
    seen.found
        .sort_by_key(|found| std::cmp::Reverse(found.rank));
    Ok(seen)
}

impl Seen {
    fn look_at_agent(
        &mut self,
        settings: &Settings,
        folders: &[PathBuf],
    ) -> Result<(), DetectError> {
        let (id, about) = Look::at(settings, Deadline::after(FIRST))?.identity()?;
        self.says = vec![("sysObjectID", id.clone()), ("sysDescr", about)];
        let mut look = Look::at(settings, Deadline::after(PATIENCE))?;
        for (source, signs) in profiles(folders) {
            let found = match look.shows(&signs, &id)? {
                Ok(found) => found,
                Err(None) => continue,
                Err(Some(missing)) => {
                    self.near.extend(source.id.map(|name| (name, missing)));
                    continue;
                }
            };
            let Ok(profile) = source.read(ROWS) else {
                continue;
            };
            let How::Snmp(snmp) = profile.how.clone() else {
                continue;
            };
            let Some(keys) = look::keys_of(&profile, &found) else {
                continue;
            };
            let lengths = signs
                .ids
                .iter()
                .filter(|begin| begin.found_in(&id).is_some());
            let length = lengths.filter_map(|begin| begin.fill(&found).ok());
            let length = length.map(|begin| begin.len()).max().unwrap_or(0);
            let rank = (
                signs.has.is_some(),
                length,
                std::cmp::Reverse(profile.maturity),
            );
            let profile = Arc::new(profile);
            let text = serde_json::to_string(&keys).unwrap_or_default();
            let bound = Bound::read(&profile, &settings.with_text(text));
            // A key that only the admin knows is none that the outlets can be read without.
            let outlets = bound.ok().map(|bound| look.outlets(&bound, &snmp));
            let outlets = outlets.transpose()?.unwrap_or_default();
            self.found.push(Found {
                profile,
                keys,
                outlets,
                rank,
            });
        }
        look.rest();
        Ok(())
    }

    fn look_at_pages(
        &mut self,
        settings: &Settings,
        folders: &[PathBuf],
    ) -> Result<(), DetectError> {
        let deadline = Deadline::after(PATIENCE);
        let mut pages = BTreeMap::new();
        let mut server = http::Visitor::at(settings)?;
        // The front page first: it says whether anybody is there.
        let front = server.page("/", deadline.within(FIRST))?;
        self.says.push(("/", front.clone()));
        pages.insert("/".to_owned(), front);
        for (source, signs) in profiles(folders) {
            let Some((page, shows)) = signs.page else {
                continue;
            };
            let Ok(profile) = source.read(ROWS) else {
                continue;
            };
            let of_keys = profile.samples();
            let (Ok(page), Ok(shows)) = (page.fill(&of_keys), shows.fill(&of_keys)) else {
                continue;
            };
            let text = match pages.get(&page) {
                Some(text) => text.clone(),
                None => {
                    // One page that is not to be had says nothing of the others.
                    let text = server
                        .page(&page, deadline.within(FIRST))
                        .unwrap_or_default();
                    pages.insert(page.clone(), text.clone());
                    text
                }
            };
            if http::found(&shows, &text)? {
                self.found.push(Found {
                    rank: (true, page.len(), std::cmp::Reverse(profile.maturity)),
                    profile: Arc::new(profile),
                    keys: BTreeMap::new(),
                    outlets: Vec::new(),
                });
            }
        }
        Ok(())
    }

    /// Was a profile found?
    pub fn is_known(&self) -> bool {
        !self.found.is_empty()
    }
}

/// The most outlets that are told by name.
const MOST_NAMED: usize = 64;

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, said) in &self.says {
            writeln!(f, "{}: {what} {}", self.host, printable(said.as_bytes()))?;
        }
        for found in &self.found {
            writeln!(f, "\n{found}\n    {}", found.entry(&self.host, self.ask))?;
        }
        for (name, missing) in &self.near {
            writeln!(
                f,
                "\n{name}: for PDUs of this kind, but this one shows no object {missing}: its \
                 outlets cannot be switched, or this community or user may not read it"
            )?;
        }
        if !self.found.is_empty() {
            return Ok(());
        }
        let other = match self.ask {
            Ask::Snmp => {
                "What has an object to write works with snmpv1, snmpv2c or snmpv3 and its oid, or \
                 its mib and controlpoint"
            }
            Ask::Http => "pdudaemon --detect without --http asks its SNMP agent",
        };
        writeln!(
            f,
            "\nNo profile is for this PDU. `pdudaemon --list-drivers WORD` looks for its maker's \
             name. {other}. A profile of your own is a text file: see pdudaemon-profile(5)"
        )
    }
}

impl Found {
    /// A config entry to paste.
    fn entry(&self, host: &str, ask: Ask) -> String {
        let mut keys = vec![("ip".to_owned(), serde_json::Value::from(host))];
        if ask == Ask::Snmp {
            keys.push(("community".to_owned(), "private".into()));
        }
        let known = |name: &str| self.keys.contains_key(name);
        let needed = self
            .profile
            .keys
            .iter()
            .filter(|rule| rule.default.is_none());
        let needed = needed.filter(|rule| !known(&rule.name));
        keys.extend(self.keys.clone());
        keys.extend(needed.map(|rule| (rule.name.clone(), docs::example(&rule.row()))));
        docs::entry(host, &self.profile.id, &keys)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let profile = &self.profile;
        write!(
            f,
            "{}: {}: {}\n    verified: {}\n    outlets: ",
            profile.id,
            profile.vendor,
            profile.models,
            profile.evidence()
        )?;
        if self.outlets.is_empty() {
            let about = profile.outlets_about.clone();
            return write!(f, "{}", about.unwrap_or_else(|| profile.ids.about()));
        }
        let named =
            self.outlets
                .iter()
                .take(MOST_NAMED)
                .map(|(outlet, name)| match name.is_empty() {
                    true => outlet.to_string(),
                    false => format!("{outlet} {}", printable(name.as_bytes())),
                });
        let named: Vec<String> = named.collect();
        let mut told = format!("{}: {}", self.outlets.len(), named.join(", "));
        if self.outlets.len() > MOST_NAMED {
            let _ = write!(told, " and {} more", self.outlets.len() - MOST_NAMED);
        }
        f.write_str(&told)
    }
}
