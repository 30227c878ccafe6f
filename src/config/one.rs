//! A config of one PDU, whose keys stand on the command line.

use super::vault::Vault;
use super::{Config, Findings};
use crate::driver::{DriverSpec, registry};
use crate::request::hint::did_you_mean;
use crate::settings::{FileError, Key, Keys as _, PduKeys};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The PDU's name.
const NAME: &str = "pdu";

impl Config {
    /// The config of one PDU of the driver `name`, which may be a profile's file, at `host` and with
    /// the keys `set`. Whatever is wrong is an error of the whole.
    pub fn of_one(
        name: &str,
        host: Option<&str>,
        set: &[(String, String)],
    ) -> Result<Self, Findings> {
        let file = Path::new(name);
        let is_file = name.contains('/') || name.ends_with(".toml");
        let mut daemon = Map::new();
        daemon.insert("hostname".to_owned(), "localhost".into());
        let mut pdu = Map::new();
        let id = match (is_file, file.file_stem()) {
            (true, Some(stem)) => {
                let folder = file
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty());
                let folders = json!([folder.unwrap_or(Path::new("."))]);
                daemon.insert("profiles".to_owned(), folders);
                stem.to_string_lossy().into_owned()
            }
            _ => name.to_owned(),
        };
        if is_file && !file.is_file() {
            return Err(FileError::new(name, None, "there is no such file").into());
        }
        pdu.insert("driver".to_owned(), id.into());
        pdu.extend(given(host, set)?);
        let whole = json!({ "daemon": daemon, "pdus": { NAME: pdu } }).to_string();
        let mut config = Self::parse(&whole, "").map_err(of_options)?;
        config.findings = of_options(config.findings);
        let is_known = |key: &str| {
            let mut specs = config.pdus.values().flatten().map(|pdu| pdu.spec);
            let is_own = |spec: &DriverSpec| spec.build.keys().iter().any(|own| own.name == key);
            PduKeys::has(key) || specs.any(is_own)
        };
        // What a file may say in vain could switch another outlet here.
        if !set.iter().all(|(key, _)| is_known(key)) {
            let warnings = std::mem::take(&mut config.findings.warnings);
            config.findings.errors.extend(warnings);
        }
        match config.findings.errors.is_empty() {
            true => Ok(config),
            false => Err(config.findings),
        }
    }
}

/// The keys that are given, with secrets in the place of references to them.
fn given(host: Option<&str>, set: &[(String, String)]) -> Result<Map<String, Value>, FileError> {
    let mut keys = Map::new();
    if let Some(host) = host {
        keys.insert("ip".to_owned(), host.into());
    }
    let vault = Vault::of_config(Path::new(""));
    for (key, value) in set {
        let is_reference = registry::is_secret(key) && value.starts_with('{');
        let value = match is_reference {
            false => Ok(value.clone()),
            true => vault.resolve(value).map(|found| found.text),
        };
        let wrong = |why| FileError::new("--set", None, format!("{key}: {why}"));
        keys.insert(key.clone(), value.map_err(wrong)?.into());
    }
    Ok(keys)
}

/// The JSON object of a PDU at `host` that has these `keys` and no others, as `set` says.
pub fn settings_of_one(
    host: &str,
    set: &[(String, String)],
    keys: &[Key],
) -> Result<String, FileError> {
    let known = || keys.iter().map(|key| &*key.name);
    if let Some((key, _)) = set
        .iter()
        .find(|(key, _)| !known().any(|known| known == key))
    {
        let hint = did_you_mean(key, "", known());
        return Err(FileError::new(
            "--set",
            None,
            format!("{key}: unknown key{hint}"),
        ));
    }
    let given = given(Some(host), set)?;
    Ok(Value::Object(given).to_string())
}

/// The findings in the words of the command line, which has no lines. Those about a profile's own
/// file stay as they are.
fn of_options(mut findings: Findings) -> Findings {
    // The PDU's own error repeats the first fault of its profile.
    let has_faults = findings.errors.iter().any(|error| !error.file.is_empty());
    if has_faults {
        findings.errors.retain(|error| !error.file.is_empty());
    }
    for found in findings.errors.iter_mut().chain(&mut findings.warnings) {
        if found.file.is_empty() {
            let key = found.message.strip_prefix("pdus.pdu.").map(str::to_owned);
            found.file = if key.is_some() { "--set" } else { "--try" }.to_owned();
            found.at = None;
            found.message = key.unwrap_or_else(|| std::mem::take(&mut found.message));
        }
    }
    findings
}
