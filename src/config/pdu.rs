//! The `pdus` section: one entry a PDU, with the keys that every PDU may have.

use super::file;
use super::outlets;
use super::reader::{Reader, join, last_of_each};
use crate::driver::confirm::Confirm;
use crate::driver::registry::{self, Registry};
use crate::driver::{Driver, DriverError, DriverSpec, Outlets, ways};
use crate::request::{Outlet, PduName, Proof};
use crate::settings::{FileError, Keys, PduKeys, Settings, SettingsError};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One PDU: what its worker needs.
#[derive(Clone, Debug)]
pub struct PduConfig {
    /// Its key under `pdus`.
    pub name: PduName,
    /// Its driver's table row.
    pub spec: &'static DriverSpec,
    /// Its own settings.
    pub settings: Settings,
    /// Its outlets, as far as we know them: nobody may name another.
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
    /// Its states are read in the background at most so often, or never.
    pub refresh: Option<Duration>,
    /// The wire it shares with other PDUs.
    pub bus: Option<String>,
    /// The proof that a switch needs to be a success.
    pub confirm: Confirm,
    /// The comment for people.
    pub about: Option<String>,
    /// Names that a person gave its outlets.
    pub outlet_names: BTreeMap<Outlet, String>,
    /// The config file, for errors that show later.
    file: String,
}

impl PduConfig {
    /// Would a worker do the same with both? Keys that only people see do not count.
    pub fn works_like(&self, other: &Self) -> bool {
        std::ptr::eq(self.spec, other.spec)
            && self.settings.text() == other.settings.text()
            && self.bus == other.bus
            && (self.retries, self.retrydelay, self.timeout)
                == (other.retries, other.retrydelay, other.timeout)
    }

    /// Would their drivers be the same, so that a state that one has read is true of the other?
    pub fn speaks_like(&self, other: &Self) -> bool {
        let of_every_pdu = PduKeys::names();
        let of_driver = |pdu: &Self| {
            let text = pdu.settings.text();
            let mut keys = serde_json::from_str::<HashMap<String, serde_json::Value>>(text).ok()?;
            keys.retain(|key, _| key == "driver" || !of_every_pdu.contains(&key.as_str()));
            Some(keys)
        };
        std::ptr::eq(self.spec, other.spec)
            && of_driver(self).is_some_and(|keys| of_driver(other) == Some(keys))
    }

    /// A new driver for it: at the start, and again after a panic.
    pub fn build(&self) -> Result<Box<dyn Driver>, BrokenPdu> {
        let made = self.spec.make(&self.settings);
        made.map(|(driver, _)| driver).map_err(|error| BrokenPdu {
            name: self.name.clone(),
            driver: self.settings.driver().to_owned(),
            error: FileError::of_settings(&self.file, &join("pdus", self.name.as_str()), &error),
        })
    }
}

/// A PDU whose settings cannot work: we know it, and refuse every request for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenPdu {
    /// Its key under `pdus`.
    pub name: PduName,
    /// The `driver` that the config gives, as far as we can read it.
    pub driver: String,
    /// The first error.
    pub error: FileError,
}

impl fmt::Display for BrokenPdu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its settings cannot work: {}", self.error)
    }
}
/// The keys that all PDUs share, checked.
#[derive(Debug)]
pub(super) struct Common {
    written: PduKeys,
    spec: &'static DriverSpec,
    client_limit: usize,
    delayed_limit: usize,
}

impl Common {
    pub(super) fn read(settings: &Settings, registry: &Registry) -> Result<Self, SettingsError> {
        let written: PduKeys = settings.keys()?;
        let driver = written.driver.as_deref().ok_or_else(|| {
            settings.error("driver", "missing (`pdudaemon --list-drivers` shows all)")
        })?;
        let spec = spec(settings, driver, registry)?;
        // A quarter, and at least one; three quarters, and at least one.
        let queue = written.queue_limit.0;
        let (quarter, most) = (queue.div_ceil(4), queue - queue / 4);
        Ok(Self {
            spec,
            client_limit: written.client_limit.map_or(most, |most| most.0),
            delayed_limit: written.delayed_limit.map_or(quarter, |most| most.0),
            written,
        })
    }

    /// The proof that a switch needs to be a success, when the driver has these.
    pub(super) fn confirm(
        &self,
        proofs: &[Proof],
        settings: &Settings,
    ) -> Result<Confirm, SettingsError> {
        Confirm::new(
            self.written.confirm,
            proofs,
            Duration::from_secs(self.spec.shows_within),
        )
        .map_err(|message| settings.error("confirm", message))
    }

    /// Those of the driver's outlets that the key `outlets` leaves.
    pub(super) fn outlets(
        &self,
        outlets: &Outlets,
        settings: &Settings,
    ) -> Result<Outlets, SettingsError> {
        match &self.written.outlets {
            Some(key) => outlets::narrow(key, outlets),
            None => Ok(outlets.clone()),
        }
        .map_err(|message| settings.error("outlets", message))
    }

    /// The ids under `outlet_names` that are no outlets, and why.
    pub(super) fn strange_names(&self, outlets: &Outlets) -> Vec<(String, DriverError)> {
        let ids = self.written.outlet_names.keys();
        ids.filter_map(|id| {
            let error = outlets.parse(&Outlet::new(id.as_str())).err()?;
            Some((id.clone(), error))
        })
        .collect()
    }

    /// The PDU that has these and its driver's own `settings`.
    pub(super) fn pdu(
        self,
        name: PduName,
        settings: Settings,
        outlets: Outlets,
        confirm: Confirm,
        file: &str,
    ) -> PduConfig {
        let named = self.written.outlet_names.into_iter();
        let outlet_names = named
            .filter_map(|(id, name)| Some((outlets.parse(&Outlet::new(id)).ok()?, name)))
            .collect();
        PduConfig {
            name,
            spec: self.spec,
            settings,
            retries: u32::try_from(self.written.retries.max(1)).unwrap_or(u32::MAX),
            retrydelay: self.written.retrydelay.0,
            timeout: match self.written.timeout {
                Some(timeout) => timeout.0,
                None => Duration::from_secs(self.spec.timeout),
            },
            queue_limit: self.written.queue_limit.0,
            client_limit: self.client_limit,
            delayed_limit: self.delayed_limit,
            refresh: match self.written.refresh {
                Some(pace) => pace.0,
                None => Some(self.spec.refresh()),
            },
            confirm,
            bus: self.written.bus.filter(|bus| !bus.is_empty()),
            about: self.written.about,
            outlet_names,
            outlets,
            file: file.to_owned(),
        }
    }
}

/// The row of the `driver`, which may be a profile that stands beside it.
fn spec(
    settings: &Settings,
    driver: &str,
    registry: &Registry,
) -> Result<&'static DriverSpec, SettingsError> {
    if driver != registry::INLINE {
        let found = registry.find(driver);
        let found = found.map_err(|faults| settings.error("driver", faults.to_string()))?;
        let Some(found) = found else {
            let unknown = |why: &str| format!("{}{why}", ways::unknown(driver));
            let found = registry.of_python(settings, driver);
            return found.map_err(|why| settings.error("driver", unknown(&why)));
        };
        return Ok(found);
    }
    #[derive(serde::Deserialize)]
    struct Inline<'a> {
        #[serde(borrow)]
        profile: &'a RawValue,
    }
    let inline: Result<Inline<'_>, _> = serde_json::from_str(settings.text());
    let inline = inline.map_err(|_| settings.error("driver", "a profile must stand beside it"))?;
    let found = registry::inline(inline.profile.get());
    found.map_err(|faults| settings.error(registry::INLINE, faults.to_string()))
}

/// The driver that the settings name, whatever else is wrong with them; none is an empty text.
pub(super) fn driver_of(settings: &Settings) -> String {
    let keys: serde_json::Value = serde_json::from_str(settings.text()).unwrap_or_default();
    let driver = keys.get("driver").and_then(serde_json::Value::as_str);
    driver.unwrap_or_default().to_owned()
}

impl<'a> Reader<'a> {
    pub(super) fn pdus(
        &mut self,
        value: &'a RawValue,
    ) -> Option<BTreeMap<PduName, Result<Arc<PduConfig>, BrokenPdu>>> {
        let read = self.object("pdus", value);
        let entries = self.told(read)?;
        let pdus = entries.into_iter().map(|(name, value)| {
            let name = PduName::new(name);
            let pdu = self.pdu(&name, value);
            (name, pdu.map(Arc::new))
        });
        Some(pdus.collect())
    }

    fn pdu(&mut self, name: &PduName, value: &'a RawValue) -> Result<PduConfig, BrokenPdu> {
        let path = join("pdus", name.as_str());
        let broken = |driver: &str, error: &FileError| BrokenPdu {
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
        let registry = self.registry.clone();
        if let Err(faults) = registry.find(&driver_of(&settings)) {
            self.told_faults(&faults);
        }
        let common = settings.read_all(&mut wrong, |settings| Common::read(settings, &registry));
        let driver = driver_of(&settings);
        let settings = settings.of_driver(&driver);
        let spec = match &common {
            Some(common) => Some(common.spec),
            None => spec(&settings, &driver, &registry).ok(),
        };
        let built = spec.and_then(|spec| {
            if !spec.build.takes_any_key() {
                let own = spec.build.keys();
                let mut known = PduKeys::names();
                known.extend(own.iter().map(|key| &*key.name));
                self.unknown_keys(value, &path, &known);
            }
            settings.read_all(&mut wrong, |settings| spec.make(settings))
        });
        if let Some((key, what)) = built.as_ref().and_then(|(driver, _)| driver.warning()) {
            let at = settings.error(key, "").at;
            self.warn(at, format!("{path}.{key}: {what}"));
        }
        if let Some(few) = common
            .as_ref()
            .map(|common| common.written.retries)
            .filter(|few| *few < 1)
        {
            let at = settings.error("retries", "").at;
            let what = format!("{few} attempts would never switch anything, counts as 1");
            self.warn(at, format!("{path}.retries: {what}"));
        }
        // These checks need the driver.
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
            return Ok(common.pdu(name.clone(), settings, outlets, confirm, self.name));
        }
        let first = self.findings.errors.len();
        self.told_all(&path, &wrong);
        let error = self.findings.errors.get(first).cloned();
        let error = error.unwrap_or_else(|| self.error(settings.start(), "cannot be read"));
        Err(broken(&driver, &error))
    }

    /// The settings with the secret in the place of every reference to one. Lines stay where they are;
    /// columns behind a reference may not.
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
            if !registry::is_secret(key) {
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
}
