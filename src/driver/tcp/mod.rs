//! Drivers over tcp: the table of their specs.

mod devantech_ds;
mod devantech_eth;
mod egpms;
mod modbus;
mod tplink;

use super::{
    ADDRESS, By, DEVICE_TIMEOUT, DriverError, DriverSpec, Has, Host, SAME_AS_IP, SHOWS_WITHIN,
};
use crate::settings::{Address, Settings, SettingsError, keys};
use crate::transport::Deadline;
use crate::transport::tcp::Connection;
use std::time::Duration;

/// Every driver name of this transport.
pub(super) static SPECS: &[DriverSpec] = &[
    devantech_eth(
        &["devantech_eth002"],
        "Devantech ETH002",
        &devantech_eth::ETH002,
    ),
    devantech_eth(
        &["devantech_eth0621"],
        "Devantech ETH0621",
        &devantech_eth::ETH0621,
    ),
    devantech_eth(
        &["devantech_eth484"],
        "Devantech ETH484",
        &devantech_eth::ETH484,
    ),
    devantech_eth(
        &["devantech_eth008"],
        "Devantech ETH008",
        &devantech_eth::ETH008,
    ),
    devantech_eth(
        &["devantech_eth8020"],
        "Devantech ETH8020",
        &devantech_eth::ETH8020,
    ),
    devantech_ds(
        &["devantech_ds2824"],
        "Devantech dS2824",
        &devantech_ds::DS2824,
    ),
    devantech_ds(
        &["devantech_ds378"],
        "Devantech dS378",
        &devantech_ds::DS378,
    ),
    DriverSpec {
        names: &["egpms"],
        any_case: false,
        models: "EnerGenie (Gembird) EG-PM-LAN, EG-PMS-LAN, EG-PMS2-LAN, EG-PMS2-WLAN",
        transport: "tcp",
        outlets: Has::Numbers(1, 4),
        reads_back: true,
        verified_by: "simulator, and frames of the Python driver; its answer to a switch shows \
                      the state. UNVERIFIED on hardware: the state codes of \
                      protocol 2.1 and WLAN (from egctl)",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(egpms::build),
    },
    DriverSpec {
        names: &["modbustcp"],
        any_case: false,
        models: "any relay with Modbus coils, over Modbus TCP or RTU over TCP; an outlet is a \
                 coil's address as on the wire",
        transport: "tcp",
        outlets: Has::Within(0, 65_535),
        reads_back: true,
        verified_by: "pymodbus as server, exception replies included; written with FC 05, read with \
                      FC 01 (a relay that has no FC 01 is believed its echo of the write)",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(modbus::build),
    },
    DriverSpec {
        names: &["tplink"],
        any_case: false,
        models: "TP-Link Kasa strips (HS107, HS300, KP303, KP400 ...) and single plugs (HS100, \
                 HS103, HS105, HS110, KP105 ...) with the local protocol on port 9999",
        transport: "tcp",
        outlets: tplink::OUTLETS,
        reads_back: true,
        verified_by: "simulator, and frames of the Python driver. UNVERIFIED on hardware: two-digit child ids (KP400), which are \
                      sent with the device's id before them; firmware that has given up the \
                      unauthenticated protocol cannot be switched",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(tplink::build),
    },
];

/// What the key `port` is for.
const PORT: &str = "TCP port, when the address names none";

const fn devantech_eth(
    names: &'static [&'static str],
    models: &'static str,
    model: &'static devantech_eth::Model,
) -> DriverSpec {
    DriverSpec {
        names,
        any_case: false,
        models,
        transport: "tcp",
        outlets: Has::Numbers(1, model.relays as u32),
        reads_back: true,
        verified_by: "simulator, frames of the Python driver and Devantech's manual. \
                      UNVERIFIED: the length of ETH484's \
                      and ETH0621's state answer (the first byte counts)",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: model,
    }
}

const fn devantech_ds(
    names: &'static [&'static str],
    models: &'static str,
    model: &'static devantech_ds::Model,
) -> DriverSpec {
    DriverSpec {
        names,
        any_case: false,
        models,
        transport: "tcp",
        outlets: Has::Numbers(1, model.relays),
        reads_back: true,
        verified_by: "simulator and Devantech's manual. UNVERIFIED: line ends and the words of the answer to SR, which \
                      therefore count for nothing unless they say that it failed",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: model,
    }
}

/// A session that was idle for longer is opened anew: the modules log out (Devantech: 30 s) and
/// routers forget.
const IDLE: Duration = Duration::from_secs(10);

keys! {
    /// Where a PDU is whose name is no address.
    struct RequiredHost {
        ip: Option<String> => "required, unless hostname is there", ADDRESS;
        hostname: Option<String>, SAME_AS_IP;
    }
}

impl RequiredHost {
    fn address(self, settings: &Settings, port: u16) -> Result<Address, SettingsError> {
        let host = Host {
            ip: self.ip,
            hostname: self.hostname,
        };
        match host.given() {
            Some(_) => host.address(settings, port),
            None => Err(settings.error("ip", "required: the PDU's address or host name")),
        }
    }
}

fn connect(address: &Address, deadline: Deadline) -> Result<Connection, DriverError> {
    Ok(Connection::open(&address.host, address.port, deadline)?)
}

#[cfg(test)]
mod tests {
    use super::SPECS;
    use crate::driver::Outlets;
    use crate::request::{Outlet, PduName};
    use crate::settings::{Position, Settings, SettingsError};

    /// Builds a driver, to ask what it says about settings and outlets.
    fn build(name: &str, text: &str) -> Result<Outlets, SettingsError> {
        let at = Position { line: 1, column: 1 };
        SPECS
            .iter()
            .find(|spec| spec.names.contains(&name))
            .expect("a driver")
            .make(&Settings::new(PduName::new("pdu1"), name, text, at))
            .map(|(_, outlets)| outlets)
    }

    #[test]
    fn outlets_out_of_range_are_refused_without_a_connection() {
        let ip = r#"{"ip": "192.0.2.1", "password": "x"}"#;
        for (name, good, bad) in [
            ("devantech_eth002", "1 2", "0 3 x"),
            ("devantech_eth0621", "2", "0 3 9 10"),
            ("devantech_eth484", "4", "5"),
            ("devantech_eth008", "08 8", "9 -1"),
            ("devantech_eth8020", "20", "21"),
            ("devantech_ds2824", "1 24", "0 25"),
            ("devantech_ds378", "1 8", "0 9"),
            ("egpms", "1 4", "0 5 a"),
            ("modbustcp", "0 1 65535", "65536 -1 x"),
        ] {
            let outlets = build(name, ip).expect("builds");
            for outlet in good.split(' ') {
                assert!(
                    outlets.parse(&Outlet::new(outlet)).is_ok(),
                    "{name} {outlet}"
                );
            }
            for outlet in bad.split(' ') {
                assert!(
                    outlets.parse(&Outlet::new(outlet)).is_err(),
                    "{name} {outlet}"
                );
            }
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        for (name, text, key) in [
            ("devantech_eth008", r#"{}"#, "ip"),
            ("devantech_eth008", r#"{"ip": "h", "logic": "no"}"#, "logic"),
            ("devantech_eth008", r#"{"ip": "h", "port": 0}"#, "port"),
            ("devantech_eth008", r#"{"ip": "h", "port": "x"}"#, "port"),
            ("devantech_ds378", r#"{"port": 70000}"#, "port"),
            ("egpms", r#"{"password": "1"}"#, "ip"),
            ("egpms", r#"{"ip": "h"}"#, "password"),
            ("modbustcp", r#"{"unit": 256}"#, "unit"),
            ("modbustcp", r#"{"slave": "x"}"#, "slave"),
            ("modbustcp", r#"{"framing": "ascii"}"#, "framing"),
            ("modbustcp", r#"{"framing": "rtu", "unit": 0}"#, "unit"),
            ("modbustcp", r#"{"framing": "rtu", "slave": 248}"#, "slave"),
        ] {
            let error = build(name, text).expect_err("refused");
            assert_eq!(error.key.as_deref(), Some(key), "{name} {text}: {error}");
        }
        for (name, text) in [
            (
                "devantech_eth008",
                r#"{"ip": "h", "port": "17494", "password": 1234}"#,
            ),
            ("devantech_ds2824", "{}"),
            ("egpms", r#"{"ip": "h", "password": 1}"#),
            ("modbustcp", r#"{"unit": "7", "port": "1502"}"#),
            ("tplink", "{}"),
        ] {
            assert!(build(name, text).is_ok(), "{name} {text}");
        }
    }
}
