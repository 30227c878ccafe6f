//! Ways to switch devices that no driver is named after: the hint for a name that we do not know.

use super::{DriverSpec, registry};
use crate::request::hint::did_you_mean;

/// The most drivers that a message proposes for a maker.
const MOST_PROPOSED: usize = 6;

/// Names that people write for devices without a driver of that name, and the drivers for them.
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
        &["ipmitool", "ipmilan", "ipmipower", "drac"],
        "ipmi, which speaks IPMI over LAN itself",
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
        "exec or localcmdline with a program of this machine",
    ),
];

/// The hint for an unknown driver name: the name that it is near to, or the drivers for it where it
/// may be a maker's name.
pub fn unknown(driver: &str) -> String {
    let near = did_you_mean(driver, "", registry::names());
    let maker = for_maker(driver);
    // A single word that is a maker's says more than the one name that is like it.
    let is_word = driver.chars().all(char::is_alphanumeric);
    let hint = match near.is_empty() || (is_word && !maker.is_empty()) {
        true => maker,
        false => near,
    };
    format!("unknown driver {driver:?}{hint} (`pdudaemon --list-drivers` shows all)")
}

/// What serves a maker's devices, as the end of a sentence: `, perhaps ...`; empty where we know none.
pub fn for_maker(maker: &str) -> String {
    let maker = maker.to_ascii_lowercase();
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
    let proposed: Vec<&str> = registry::all()
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
