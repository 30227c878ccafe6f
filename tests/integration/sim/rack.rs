//! The stateful PDUs by driver, each on the kind of line it has.

use super::pdus::{Agent, Dialect, Ds, Egpms, Eth, Kasa, Kshell, Modbus, Web};
use super::serial_boards::{Rly, numato};
use super::stream::{Bench, Line};
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// One driver, the keys it needs, some outlets, and its simulator.
pub(crate) struct Row {
    pub(crate) driver: &'static str,
    keys: fn() -> Value,
    pub(crate) outlets: &'static [&'static str],
    start: fn(Ipv4Addr) -> Bench,
}

const FOUR: &[&str] = &["1", "2", "3", "4"];

pub(crate) static ROWS: &[Row] = &[
    Row {
        driver: "snmpv2c",
        keys: || json!({"community": "private", "oid": "1.3.6.1.4.1.318.1.1.4.4.2.1.3.*", "onsetting": 1, "offsetting": 2}),
        outlets: FOUR,
        start: |ip| Bench::udp(ip, Agent::default()),
    },
    Row {
        driver: "cyberpower81001",
        keys: || json!({}),
        outlets: FOUR,
        start: |ip| Bench::udp(ip, Agent::default()),
    },
    Row {
        driver: "snmpv3",
        keys: || json!({"username": "soak", "oid": "1.3.6.1.4.1.318.1.1.4.4.2.1.3.*", "onsetting": 1, "offsetting": 2}),
        outlets: FOUR,
        start: |ip| Bench::udp(ip, Agent::default()),
    },
    Row {
        driver: "tasmota",
        keys: || json!({"port_count": 4}),
        outlets: FOUR,
        start: |ip| Bench::tcp(ip, Web::new(Dialect::Tasmota)),
    },
    Row {
        driver: "netiojson",
        keys: || json!({}),
        outlets: FOUR,
        start: |ip| Bench::tcp(ip, Web::new(Dialect::Netio)),
    },
    Row {
        driver: "shelly_gen2",
        keys: || json!({}),
        outlets: &["0", "1", "2", "3"],
        start: |ip| Bench::tcp(ip, Web::new(Dialect::Shelly)),
    },
    Row {
        driver: "devantech_eth008",
        keys: || json!({"password": "secret"}),
        outlets: &["1", "2", "7", "8"],
        start: |ip| Bench::tcp(ip, Eth::default()),
    },
    Row {
        driver: "devantech_ds2824",
        keys: || json!({}),
        outlets: &["1", "2", "23", "24"],
        start: |ip| Bench::tcp(ip, Ds::default()),
    },
    Row {
        driver: "modbustcp",
        keys: || json!({}),
        outlets: &["0", "1", "14", "15"],
        start: |ip| Bench::tcp(ip, Modbus::default()),
    },
    Row {
        driver: "egpms",
        keys: || json!({"password": "secret"}),
        outlets: FOUR,
        start: |ip| Bench::tcp(ip, Egpms::default()),
    },
    Row {
        driver: "tplink",
        keys: || json!({}),
        outlets: &["a", "b"],
        start: |ip| Bench::tcp(ip, Kasa::default()),
    },
    Row {
        driver: "netio4",
        keys: || json!({"password": "secret"}),
        outlets: FOUR,
        start: |ip| Bench::tcp(ip, Kshell::default()),
    },
    Row {
        driver: "NumatoUSB8",
        keys: || json!({}),
        outlets: FOUR,
        start: |_| Bench::pty(numato(8)),
    },
    Row {
        driver: "devantech_USB-RLY16",
        keys: || json!({}),
        outlets: FOUR,
        start: |_| Bench::pty(Rly::default()),
    },
];

impl Row {
    /// Starts the simulator, and gives the PDU's config, which leads to it.
    pub(crate) fn start(&self, ip: Ipv4Addr) -> (Bench, Value) {
        let bench = (self.start)(ip);
        let mut settings = (self.keys)();
        settings["driver"] = json!(self.driver);
        let key = match bench.line {
            Line::Tcp(_) | Line::Udp(_) => "ip",
            Line::Pty(_) | Line::Tty(_) => "device",
        };
        settings[key] = json!(bench.address());
        (bench, settings)
    }
}
