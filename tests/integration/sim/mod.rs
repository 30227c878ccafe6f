//! Simulators: the PDU's side of a transcript, on a real socket, pty or process. One file per
//! kind of edge.

pub(crate) mod agent;
pub(crate) mod apc;
pub(crate) mod ber;
pub(crate) mod command;
pub(crate) mod fault;
pub(crate) mod http;
pub(crate) mod ipmi;
pub(crate) mod pdus;
pub(crate) mod port;
pub(crate) mod rack;
mod script;
mod serial;
pub(crate) mod serial_boards;
pub(crate) mod snmp;
pub(crate) mod sshd;
pub(crate) mod stream;
mod tcp;
pub(crate) mod usb;
pub(crate) mod usb_devices;
pub(crate) mod walk;

use crate::transcript::Case;

/// A running simulator of one case.
pub(crate) trait Simulator {
    /// Settings that lead the driver to the simulator: `{"ip": "127.0.0.1:4711"}`.
    fn overrides(&self) -> serde_json::Value;

    /// Ends the simulator; says where the driver left the transcript.
    fn finish(self: Box<Self>) -> Result<(), String>;
}

/// The simulator that plays `case`.
pub(crate) fn start(case: &Case) -> Box<dyn Simulator> {
    match case.transport.as_str() {
        "command" | "exec" => Box::new(command::start(case)),
        "http" => Box::new(http::start(case)),
        "ssh" => Box::new(sshd::start(case)),
        "snmp" => Box::new(snmp::start(case)),
        "ipmi" => Box::new(ipmi::start(case)),
        "usb" => usb::start(case),
        "tcp" | "telnet" => Box::new(tcp::start(case)),
        "serial" => Box::new(serial::start(case)),
        other => panic!("{}: no simulator for transport {other}", case.at),
    }
}

/// Can this case be replayed on this machine? USB needs the virtual machine's emulated devices.
pub(crate) fn runs_here(case: &Case) -> bool {
    case.transport != "usb" || usb::is_here()
}
