//! What lies in `share/` fits the program: the udev rules name every device that a driver knows.

use pdudaemon::driver::usb::MODELS;
use pdudaemon::transport::usb::{GROUP, RULES};
use std::collections::BTreeSet;

/// The value that a rule gives to or demands of `key`.
fn value<'a>(rule: &'a str, key: &str) -> Option<&'a str> {
    rule.split(", ")
        .find_map(|part| part.trim().strip_prefix(key))
        .map(|rest| rest.trim_start_matches('=').trim_matches('"'))
}

#[test]
fn the_udev_rules_name_every_device_the_drivers_know() {
    let file = format!("{}/share/{RULES}", env!("CARGO_MANIFEST_DIR"));
    let rules = std::fs::read_to_string(file).expect("the rules");
    let rules: Vec<&str> = rules
        .lines()
        .filter(|line| line.contains("GROUP="))
        .collect();
    for rule in &rules {
        assert_eq!(value(rule, "GROUP"), Some(GROUP), "{rule}");
        assert_eq!(value(rule, "MODE"), Some("0660"), "{rule}");
    }
    let ruled: BTreeSet<String> = rules
        .iter()
        .filter_map(|rule| {
            let vendor = value(rule, "ATTR{idVendor}")?;
            Some(format!("{vendor}:{}", value(rule, "ATTR{idProduct}")?))
        })
        .collect();
    let known: BTreeSet<String> = MODELS
        .iter()
        .flat_map(|model| {
            let id = |product: &u16| format!("{:04x}:{product:04x}", model.vendor);
            model.products.iter().map(id)
        })
        .collect();
    assert_eq!(ruled, known);
    assert!(
        rules
            .iter()
            .any(|rule| value(rule, "ATTR{bDeviceClass}") == Some("09"))
    );
    for (vendor, product) in pdudaemon::driver::discover::serial_boards() {
        let (vendor, product) = (
            format!("{vendor:04x}"),
            product.map(|id| format!("{id:04x}")),
        );
        assert!(
            rules.iter().any(|rule| {
                value(rule, "ATTRS{idVendor}") == Some(&vendor)
                    && value(rule, "ATTRS{idProduct}") == product.as_deref()
            }),
            "no rule for the serial boards {vendor}:{product:?}"
        );
    }
}

/// Every driver of this kind of edge has its example, and every example loads without a warning.
#[test]
fn usb_and_command_drivers_have_their_examples() {
    use pdudaemon::config::Findings;
    use pdudaemon::driver::registry;
    let mut missing: BTreeSet<&str> = registry::specs()
        .filter(|spec| ["usb", "command"].contains(&spec.transport))
        .flat_map(|spec| spec.names)
        .copied()
        .collect();
    for name in ["usb.conf", "command.conf"] {
        let file = format!("{}/share/examples/{name}", env!("CARGO_MANIFEST_DIR"));
        let config = pdudaemon::config::Config::load(file.as_ref()).expect("loads");
        assert!(
            config.findings == Findings::default(),
            "{:?}",
            config.findings
        );
        for pdu in config.pdus.values().flatten() {
            assert!(
                pdu.about.is_some(),
                "{file}: {} says nothing about itself",
                pdu.name
            );
            missing.remove(pdu.settings.driver());
        }
    }
    assert!(missing.is_empty(), "no example for {missing:?}");
}
