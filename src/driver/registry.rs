//! The list of the transports' tables, and look-up by name.

use super::{DriverSpec, command, http, serial, simulated, snmp, ssh, tcp, telnet, usb};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

static TABLES: &[&[DriverSpec]] = &[
    simulated::SPECS,
    command::SPECS,
    snmp::SPECS,
    http::SPECS,
    telnet::SPECS,
    ssh::SPECS,
    tcp::SPECS,
    serial::SPECS,
    usb::SPECS,
];

/// Every spec, in the order of the documentation.
pub fn specs() -> impl Iterator<Item = &'static DriverSpec> {
    TABLES.iter().copied().flatten()
}

/// The spec that a config's `driver` value selects.
pub fn find(name: &str) -> Option<&'static DriverSpec> {
    specs().find(|spec| {
        spec.names
            .iter()
            .any(|own| *own == name || (spec.any_case && own.eq_ignore_ascii_case(name)))
    })
}

/// Is the value of this key a secret, to any driver? In its place a config may have
/// `{"file": "name"}` or `{"env": "NAME"}`, which the config resolves before a driver sees it.
pub fn is_secret(key: &str) -> bool {
    static SECRETS: LazyLock<BTreeSet<Cow<'static, str>>> = LazyLock::new(|| {
        let keys = specs().flat_map(|spec| spec.build.keys());
        keys.filter(|key| key.is_secret)
            .map(|key| key.name)
            .collect()
    });
    SECRETS.contains(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_name_selects_one_spec_and_every_spec_is_documented() {
        let mut seen = HashSet::new();
        for spec in specs() {
            assert!(!spec.names.is_empty());
            for name in spec.names {
                let folded = if spec.any_case {
                    name.to_ascii_lowercase()
                } else {
                    (*name).to_owned()
                };
                assert!(seen.insert(folded), "{name} is there twice");
            }
            let outlets = spec.outlets.to_string();
            for text in [spec.models, spec.transport, &outlets, spec.verified_by] {
                assert!(!text.is_empty(), "{:?} lacks documentation", spec.names);
            }
            assert!(spec.timeout > 0);
            let mut keys = HashSet::new();
            for key in spec.build.keys() {
                assert!(!key.about.is_empty() && !key.kind.is_empty(), "{key:?}");
                let name = key.name.clone();
                assert!(
                    keys.insert(name),
                    "{:?}: {key:?} is there twice",
                    spec.names
                );
            }
        }
    }
}
