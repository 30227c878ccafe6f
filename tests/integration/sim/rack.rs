//! The stateful PDUs by driver, each on the kind of line it has.

use super::pdus::{Agent, Dialect, Ds, Egpms, Eth, Kasa, Kshell, Modbus, Web};
use super::serial_boards::{Rly, numato};
use super::stream::{Control, Pdu, PduBox, PtyBench, TcpBench, UdpBench};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

/// One driver, the keys it needs, some outlets, and its simulator.
pub(crate) struct Row {
    pub(crate) driver: &'static str,
    keys: fn() -> Value,
    pub(crate) outlets: &'static [&'static str],
    start: fn(Ipv4Addr) -> Line,
}

const FOUR: &[&str] = &["1", "2", "3", "4"];

pub(crate) static ROWS: &[Row] = &[
    Row {
        driver: "snmpv2c",
        keys: || json!({"community": "private", "oid": "1.3.6.1.4.1.318.1.1.4.4.2.1.3.*", "onsetting": 1, "offsetting": 2}),
        outlets: FOUR,
        start: udp,
    },
    Row {
        driver: "cyberpower81001",
        keys: || json!({}),
        outlets: FOUR,
        start: udp,
    },
    Row {
        driver: "snmpv3",
        keys: || json!({"username": "soak", "oid": "1.3.6.1.4.1.318.1.1.4.4.2.1.3.*", "onsetting": 1, "offsetting": 2}),
        outlets: FOUR,
        start: udp,
    },
    Row {
        driver: "tasmota",
        keys: || json!({"port_count": 4}),
        outlets: FOUR,
        start: |ip| tcp(ip, Web::new(Dialect::Tasmota)),
    },
    Row {
        driver: "netiojson",
        keys: || json!({}),
        outlets: FOUR,
        start: |ip| tcp(ip, Web::new(Dialect::Netio)),
    },
    Row {
        driver: "shelly_gen2",
        keys: || json!({}),
        outlets: &["0", "1", "2", "3"],
        start: |ip| tcp(ip, Web::new(Dialect::Shelly)),
    },
    Row {
        driver: "devantech_eth008",
        keys: || json!({"password": "secret"}),
        outlets: &["1", "2", "7", "8"],
        start: |ip| tcp(ip, Eth::default()),
    },
    Row {
        driver: "devantech_ds2824",
        keys: || json!({}),
        outlets: &["1", "2", "23", "24"],
        start: |ip| tcp(ip, Ds::default()),
    },
    Row {
        driver: "modbustcp",
        keys: || json!({}),
        outlets: &["0", "1", "14", "15"],
        start: |ip| tcp(ip, Modbus::default()),
    },
    Row {
        driver: "egpms",
        keys: || json!({"password": "secret"}),
        outlets: FOUR,
        start: |ip| tcp(ip, Egpms::default()),
    },
    Row {
        driver: "tplink",
        keys: || json!({}),
        outlets: &["a", "b"],
        start: |ip| tcp(ip, Kasa::default()),
    },
    Row {
        driver: "netio4",
        keys: || json!({"password": "secret"}),
        outlets: FOUR,
        start: |ip| tcp(ip, Kshell::default()),
    },
    Row {
        driver: "NumatoUSB8",
        keys: || json!({}),
        outlets: FOUR,
        start: |_| Line::Pty(PtyBench::start(numato(8))),
    },
    Row {
        driver: "devantech_USB-RLY16",
        keys: || json!({}),
        outlets: FOUR,
        start: |_| Line::Pty(PtyBench::start(Rly::default())),
    },
];

fn udp(ip: Ipv4Addr) -> Line {
    Line::Udp(UdpBench::start_at(ip, Agent::default()))
}

fn tcp(ip: Ipv4Addr, pdu: impl Pdu + 'static) -> Line {
    Line::Tcp(TcpBench::start_at(ip, pdu))
}

impl Row {
    /// Starts the simulator, and gives the PDU's config, which leads to it.
    pub(crate) fn start(&self, ip: Ipv4Addr) -> (Line, Value) {
        let line = (self.start)(ip);
        let mut settings = (self.keys)();
        settings["driver"] = json!(self.driver);
        match &line {
            Line::Tcp(bench) => settings["ip"] = json!(bench.address()),
            Line::Udp(bench) => settings["ip"] = json!(bench.address()),
            Line::Pty(bench) => settings["device"] = json!(bench.path()),
        }
        (line, settings)
    }
}

/// How a PDU is reached.
pub(crate) enum Line {
    Tcp(TcpBench),
    Udp(UdpBench),
    Pty(PtyBench),
}

impl Line {
    pub(crate) fn control(&self) -> &Control {
        match self {
            Self::Tcp(bench) => &bench.control,
            Self::Udp(bench) => &bench.control,
            Self::Pty(bench) => &bench.control,
        }
    }

    /// The PDU behind it, for looking at its outlets.
    pub(crate) fn pdu(&self) -> Arc<Mutex<PduBox>> {
        Arc::clone(match self {
            Self::Tcp(bench) => &bench.pdu,
            Self::Udp(bench) => &bench.pdu,
            Self::Pty(bench) => &bench.pdu,
        })
    }

    pub(crate) fn plug(&mut self) {
        match self {
            Self::Tcp(bench) => bench.plug(),
            Self::Udp(bench) => bench.plug(),
            Self::Pty(bench) => bench.plug(),
        }
    }

    /// Ends what is under way; nobody is there any more.
    pub(crate) fn unplug(&mut self) {
        match self {
            Self::Tcp(bench) => bench.unplug(),
            Self::Udp(bench) => bench.unplug(),
            Self::Pty(bench) => bench.unplug(),
        }
    }

    /// The same PDU at another address, on the same port.
    pub(crate) fn move_to(&mut self, ip: Ipv4Addr) {
        match self {
            Self::Tcp(bench) => bench.move_to(ip),
            Self::Udp(bench) => bench.move_to(ip),
            Self::Pty(_) => panic!("a pty has no address"),
        }
    }
}
