//! The config, resolved and checked: what the rest of the program sees.
//!
//! | file | job |
//! | --- | --- |
//! | `file` | the sections as they are written, with the place of every value |
//! | `reader` | reads one file and gathers its errors and warnings |
//! | `daemon`, `access`, `pdu`, `outlets`, `alias` | a section or key each |
//! | `one` | a config of one PDU, from the command line |
//! | `vault` | the secrets that the file only refers to |
//! | `foreign` | a file that is no config of ours, and what it probably is |
//!
//! Invariant: this room checks everything before any thread starts. Its only I/O is reading the one
//! file and the secrets that it refers to; and where a driver's name is known to nothing here, a
//! Python interpreter is asked for it.

mod access;
mod alias;
mod certificate;
mod daemon;
mod error;
mod file;
mod foreign;
mod one;
mod outlets;
mod pdu;
mod reader;
mod tls;
mod vault;

pub use alias::Alias;
pub use certificate::name_of as certificate_name;
pub use daemon::{DEFAULT_PORT, DaemonConfig, Limits, Listen};
pub use error::Findings;
pub use file::Protocols;
pub use one::settings_of_one;
pub use pdu::{BrokenPdu, PduConfig};
pub use reader::DEFAULT_PROFILES;
pub use tls::{Plain, Tls};

use crate::driver::DriverSpec;
use crate::request::PduName;
use crate::settings::{FileError, Key, Keys, Position};
use file::{Entries, SECTIONS};
use reader::Reader;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// The whole config.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `daemon` section.
    pub daemon: DaemonConfig,
    /// The PDUs by name; one whose settings cannot work costs the others nothing.
    pub pdus: BTreeMap<PduName, Result<Arc<PduConfig>, BrokenPdu>>,
    /// The aliases by name; `None` where the section cannot be read, so that a reload keeps those
    /// that it had.
    pub aliases: Option<HashMap<String, Alias>>,
    /// The errors and warnings about the file. An error costs only the PDU that it is about.
    pub findings: Findings,
}

/// The keys of the `daemon` section, for its documentation.
pub fn daemon_keys() -> Vec<Key> {
    file::DaemonKeys::rows()
}

/// The largest config file: a mistaken path to a disk image must not eat the memory.
const MAX_FILE: u64 = 64 * 1024 * 1024;

impl Config {
    /// Reads and checks the file at `path`; `-` is standard input.
    /// Fails when the daemon could serve nothing by it.
    pub fn load(path: &Path) -> Result<Self, Findings> {
        let name = path.display().to_string();
        let fail = |what: String| FileError::new(&name, None, what);
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
            FileError::new(&name, Some(at), "expected UTF-8 text, got other bytes")
        })?;
        let mut reader = Reader::new(&text, &name);
        reader.is_for_everybody = is_for_everybody;
        reader.config()
    }

    /// Runs the tests of every profile that a PDU names, and whatever else a driver can only find out
    /// by running a program; tells what fails.
    pub fn prove(&self) -> Vec<String> {
        let mut specs: Vec<&'static DriverSpec> = Vec::new();
        for pdu in self.pdus.values().flatten() {
            if !specs.iter().any(|spec| std::ptr::eq(*spec, pdu.spec)) {
                specs.push(pdu.spec);
            }
        }
        let proved = specs.iter().flat_map(|spec| spec.build.prove());
        let tried = self.pdus.values().flatten().filter_map(|pdu| {
            let why = pdu.spec.build.try_out(&pdu.settings).err()?;
            Some(format!("pdus.{}: {why}", pdu.name))
        });
        proved.chain(tried).collect()
    }

    /// Checks the text of a config file; `name` is the file's name for messages, and secrets that
    /// it refers to lie beside it.
    pub fn parse(text: &str, name: &str) -> Result<Self, Findings> {
        Reader::new(text, name).config()
    }
}

impl<'a> Reader<'a> {
    /// Reads the whole file.
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
            _ => Some(HashMap::new()),
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
}

#[cfg(test)]
mod tests;
