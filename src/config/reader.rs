//! Reads one config file, section by section, and gathers its errors and warnings.

use super::error::Findings;
use super::file::{self, Entries, Text};
use super::vault::{Found, Vault};
use crate::driver::registry::{Faults, Registry};
use crate::request::hint::did_you_mean;
use crate::settings::{FileError, Position, Settings, SettingsError, keys_of};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::path::Path;

/// Where the admin's own profiles are unless the config says otherwise.
pub const DEFAULT_PROFILES: &str = "/etc/pdudaemon/profiles";

/// Reads one file, and gathers errors and warnings on the way.
pub(super) struct Reader<'a> {
    pub(super) text: Text<'a>,
    pub(super) name: &'a str,
    pub(super) findings: Findings,
    pub(super) vault: Vault,
    pub(super) registry: Registry,
    /// Every user of the machine can read the file.
    pub(super) is_for_everybody: bool,
    /// Where secrets stand in the file itself, by key path.
    pub(super) secrets: Vec<(Position, String)>,
}

/// One entry of an object.
pub(super) type Entry<'a> = (String, &'a RawValue);

/// The value of the key, unless it is null.
pub(super) fn find<'a>(entries: &[Entry<'a>], key: &str) -> Option<&'a RawValue> {
    let found = entries.iter().find(|(name, _)| name == key);
    found
        .map(|(_, value)| *value)
        .filter(|value| value.get() != "null")
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, name: &'a str) -> Self {
        Self {
            text: Text::new(text),
            name,
            findings: Findings::default(),
            vault: Vault::of_config(Path::new(name)),
            registry: Registry::new(vec![DEFAULT_PROFILES.into()]),
            is_for_everybody: false,
            secrets: Vec::new(),
        }
    }

    pub(super) fn error(&self, at: Position, message: impl Into<String>) -> FileError {
        FileError::new(self.name, Some(at), message)
    }

    pub(super) fn warn(&mut self, at: Position, message: impl Into<String>) {
        let warning = self.error(at, message);
        self.findings.warnings.push(warning);
    }

    /// Records an error; the reader goes on.
    pub(super) fn fail(&mut self, at: Position, message: impl Into<String>) {
        let error = self.error(at, message);
        self.findings.errors.push(error);
    }

    /// A file with a secret that every user of the machine can read.
    pub(super) fn warn_of_readers(&mut self, at: Position, path: &str, found: &Found) {
        if let Some(file) = &found.open_file {
            let what = format!(
                "{path}: every user of this machine can read {}; take its read permission from \
                 others",
                file.display()
            );
            self.warn(at, what);
        }
    }

    /// The value, or nothing with the error recorded.
    pub(super) fn told<T>(&mut self, read: Result<T, FileError>) -> Option<T> {
        read.map_err(|error| self.findings.errors.push(error)).ok()
    }

    /// Tells the faults of a profile, each once however many PDUs name it.
    pub(super) fn told_faults(&mut self, faults: &Faults) {
        for error in faults.each() {
            if !self.findings.errors.contains(error) {
                self.findings.errors.push(error.clone());
            }
        }
    }

    /// Records the errors in the keys of the section at `path`.
    pub(super) fn told_all(&mut self, path: &str, wrong: &[SettingsError]) {
        let name = self.name;
        let errors = wrong
            .iter()
            .map(|error| FileError::of_settings(name, path, error));
        self.findings.errors.extend(errors);
    }

    /// The entries of the object at `value`, without duplicates; an error when it is none.
    pub(super) fn object(
        &mut self,
        path: &str,
        value: &'a RawValue,
    ) -> Result<Vec<(String, &'a RawValue)>, FileError> {
        let at = self.text.position(value);
        let entries: Entries<'a> = serde_json::from_str(value.get()).map_err(|_| {
            self.error(
                at,
                format!("{path}: expected an object, got {}", kind_of(value)),
            )
        })?;
        Ok(self.unique(path, entries))
    }

    /// Drops all but the last of entries with one name, with a warning. In keys about rights that is
    /// an error: there no entry is as good as another.
    pub(super) fn unique(
        &mut self,
        path: &str,
        entries: Entries<'a>,
    ) -> Vec<(String, &'a RawValue)> {
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
                if path == "daemon" || file::decides_rights(&path) {
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

    pub(super) fn unknown_key(&mut self, at: Position, path: &str, key: &str, known: &[&str]) {
        let hint = did_you_mean(key, "", known.iter().copied());
        let what = format!("{}: unknown key{hint}", join(path, key));
        if file::decides_rights(path) || file::is_meant_for_rights(path, key) {
            self.fail(
                at,
                format!("{what} (in keys about rights the daemon guesses nothing)"),
            );
        } else {
            self.warn(at, what);
        }
    }

    /// Complains of the keys of the object at `value` that are not in `known`.
    pub(super) fn unknown_keys(&mut self, value: &'a RawValue, path: &str, known: &[&str]) {
        let start = self.text.position(value);
        for (key, offset) in keys_of(value.get()) {
            if !known.contains(&key.as_str()) {
                let at = start.plus(Position::of(value.get(), offset));
                self.unknown_key(at, path, &key, known);
            }
        }
    }
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

pub(super) fn kind_of(value: &RawValue) -> &'static str {
    match value.get().bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The same settings, with the last of each key that stands there twice, as in the Python program;
/// serde refuses duplicates.
pub(super) fn last_of_each(settings: &Settings) -> Settings {
    let keys = keys_of(settings.text());
    let doubled = keys
        .iter()
        .enumerate()
        .any(|(index, (key, _))| keys.iter().skip(index + 1).any(|(k, _)| k == key));
    if !doubled {
        return settings.clone();
    }
    match serde_json::from_str::<serde_json::Value>(settings.text()) {
        // A JSON map keeps the last of each. Only such a section loses its places.
        Ok(value) => settings.with_text(value.to_string()),
        Err(_) => settings.clone(),
    }
}
