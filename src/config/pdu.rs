//! The keys that every PDU may have, read and checked.

use super::file::PduSection;
use super::{PduConfig, seconds};
use crate::driver::confirm::Confirm;
use crate::driver::{DriverError, DriverSpec, Outlets, registry};
use crate::hint::did_you_mean;
use crate::request::{Outlet, PduName, Proof};
use crate::settings::{Settings, SettingsError};
use std::time::Duration;

/// What is common to all PDUs, checked.
#[derive(Debug)]
pub(super) struct Common {
    written: PduSection,
    spec: &'static DriverSpec,
    /// As written: less than 1 counts as 1.
    pub(super) retries: i64,
    retrydelay: Duration,
    timeout: Duration,
    queue_limit: usize,
    client_limit: usize,
    delayed_limit: usize,
    /// The proof of a switch that is asked for.
    confirm: Option<Proof>,
}

impl Common {
    pub(super) fn read(settings: &Settings) -> Result<Self, SettingsError> {
        let written: PduSection = settings.read()?;
        let retrydelay = seconds(written.retrydelay.unwrap_or(5.0))
            .ok_or_else(|| settings.error("retrydelay", "expected 0 to 86400 seconds"))?;
        let timeout = match written.timeout.map(seconds) {
            None => None,
            Some(Some(timeout)) if timeout >= Duration::from_millis(1) => Some(timeout),
            Some(_) => return Err(settings.error("timeout", "expected 0.001 to 86400 seconds")),
        };
        let limit = |key, written: Option<usize>, default| match written.unwrap_or(default) {
            0 => Err(settings.error(key, "expected 1 or more, got 0")),
            most => Ok(most),
        };
        let queue_limit = limit("queue_limit", written.queue_limit, 1024)?;
        // A quarter, and at least one; three quarters, and at least one.
        let (quarter, most) = (queue_limit.div_ceil(4), queue_limit - queue_limit / 4);
        let client_limit = limit("client_limit", written.client_limit, most)?;
        let delayed_limit = limit("delayed_limit", written.delayed_limit, quarter)?;
        let confirm = written.confirm.as_deref().map(str::parse).transpose();
        let confirm = confirm.map_err(|message: String| settings.error("confirm", message))?;
        let driver = written.driver.as_deref().ok_or_else(|| {
            settings.error("driver", "missing (`pdudaemon --list-drivers` shows all)")
        })?;
        let spec = registry::find(driver)
            .ok_or_else(|| settings.error("driver", unknown_driver(driver)))?;
        Ok(Self {
            spec,
            retries: written.retries.unwrap_or(5),
            retrydelay,
            timeout: timeout.unwrap_or(Duration::from_secs(spec.timeout)),
            queue_limit,
            client_limit,
            delayed_limit,
            confirm,
            written,
        })
    }

    /// What the success of a switch needs, when the driver has these proofs.
    pub(super) fn confirm(
        &self,
        proofs: &[Proof],
        settings: &Settings,
    ) -> Result<Confirm, SettingsError> {
        Confirm::new(
            self.confirm,
            proofs,
            Duration::from_secs(self.spec.shows_within),
        )
        .map_err(|message| settings.error("confirm", message))
    }

    /// What the key `outlets` leaves of those that the driver has.
    pub(super) fn outlets(
        &self,
        outlets: &Outlets,
        settings: &Settings,
    ) -> Result<Outlets, SettingsError> {
        let narrowed = self.written.outlets.as_ref().map(|key| key.narrow(outlets));
        narrowed
            .unwrap_or_else(|| Ok(outlets.clone()))
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
    ) -> PduConfig {
        let named = self.written.outlet_names.into_iter();
        let outlet_names = named
            .filter_map(|(id, name)| Some((outlets.parse(&Outlet::new(id)).ok()?, name)))
            .collect();
        PduConfig {
            name,
            spec: self.spec,
            settings,
            retries: u32::try_from(self.retries.max(1)).unwrap_or(u32::MAX),
            retrydelay: self.retrydelay,
            timeout: self.timeout,
            queue_limit: self.queue_limit,
            client_limit: self.client_limit,
            delayed_limit: self.delayed_limit,
            confirm,
            bus: self.written.bus.filter(|bus| !bus.is_empty()),
            about: self.written.about,
            outlet_names,
            outlets,
        }
    }
}

/// The driver that the settings name, whatever else is wrong with them; none is an empty text.
pub(super) fn driver_of(settings: &Settings) -> String {
    let keys: serde_json::Value = serde_json::from_str(settings.text()).unwrap_or_default();
    let driver = keys.get("driver").and_then(serde_json::Value::as_str);
    driver.unwrap_or_default().to_owned()
}

/// Most drivers that are proposed for a maker.
const MOST_PROPOSED: usize = 6;

/// What people write for what has no driver of that name, and what switches it.
const OTHER_WAYS: &[(&[&str], &str)] = &[
    (
        &[
            "raritan",
            "dominion",
            "px",
            "px2",
            "px3",
            "eaton",
            "epdu",
            "pulizzi",
            "apc",
            "aten",
            "tripplite",
            "tripp",
            "vertiv",
            "geist",
            "emerson",
            "liebert",
            "baytech",
            "ibm",
            "hp",
            "hpe",
            "servertech",
            "sentry",
            "sentry3",
            "cyberpower",
            "gude",
            "netio",
            "aviosys",
            "digipower",
            "lindy",
            "teltronix",
            "cisco",
            "juniper",
            "aruba",
            "netgear",
            "mikrotik",
            "poe",
            "snmp",
        ],
        "snmpv1, snmpv2c or snmpv3 with its mib and controlpoint, or an oid",
    ),
    (
        &["ipmi", "ipmitool", "bmc", "redfish", "idrac", "ilo"],
        "localcmdline with a program such as ipmitool",
    ),
    (
        &[
            "tapo",
            "kasa",
            "wemo",
            "meross",
            "tuya",
            "hue",
            "zigbee",
            "zwave",
            "matter",
            "hass",
            "homeassistant",
        ],
        "home-assistant-http for what Home Assistant switches, or localcmdline with a program",
    ),
    (
        &[
            "gpio", "relay", "script", "shell", "exec", "command", "cmd", "usb",
        ],
        "localcmdline with a program of this machine",
    ),
];

/// What to say of a driver name that there is none of: the name it is near to, or the drivers for
/// what may be a maker's name.
fn unknown_driver(driver: &str) -> String {
    let names = || registry::specs().flat_map(|spec| spec.names).copied();
    let near = did_you_mean(driver, "", names());
    let hint = if near.is_empty() {
        for_maker(&driver.to_ascii_lowercase())
    } else {
        near
    };
    format!("unknown driver {driver:?}{hint} (`pdudaemon --list-drivers` shows all)")
}

fn for_maker(maker: &str) -> String {
    // A maker's name may stand for itself, or before a model: `raritan_px3`.
    let words: Vec<&str> = maker
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.len() > 1)
        .collect();
    let speaks_of = |spec: &&DriverSpec| {
        let models = spec.models.to_ascii_lowercase();
        let mut known = models.split(|c: char| !c.is_alphanumeric());
        known.any(|known| words.contains(&known))
    };
    let proposed: Vec<&str> = registry::specs()
        .filter(speaks_of)
        .filter_map(|spec| spec.names.first())
        .take(MOST_PROPOSED)
        .copied()
        .collect();
    let proposed = match proposed.as_slice() {
        [] => None,
        [one] => Some((*one).to_owned()),
        several => Some(format!("one of {}", several.join(", "))),
    };
    let mut other = OTHER_WAYS.iter();
    let other = other.find(|(known, _)| known.iter().any(|known| words.contains(known)));
    let ways: Vec<String> = proposed
        .into_iter()
        .chain(other.map(|(_, way)| (*way).to_owned()))
        .collect();
    match ways.as_slice() {
        [] => String::new(),
        ways => format!(", perhaps {}", ways.join("; or ")),
    }
}
