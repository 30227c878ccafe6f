//! Yepkit YKUSH, YKUSH XS and YKUSH3: USB hubs whose ports are switched over a HID interface.
//!
//! One command byte: `1N` on, `0N` off, `2N` state, N being the port; it is sent twice, as the
//! Python program does. The answer is one report: byte 0 is 01 when the command was taken; the
//! answer to a state has `1N` or `0N` in byte 1 (ykushcmd, the vendor's tool, which looks at its upper
//! half alone: so one that does not name the port is believed). What byte 1 of the other answers says
//! is not known, so they show no state.

use super::{Choice, Finder, KeptDevice, Model, Place, own_serial, unexpected};
use crate::driver::{Driver, DriverError};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Settings, SettingsError, TextOrNumber, keys};
use crate::transport::usb::Device;
use crate::transport::{Attempt, Deadline, Timed, TransportError};

const YEPKIT: u16 = 0x04d8;

pub(super) const YKUSH: Model = Model {
    names: &["YKUSH"],
    what: "YKUSH",
    vendor: YEPKIT,
    products: &[0xf2f7],
    outlets: 3,
    key: "serial",
    identify: own_serial,
    any: true,
};

pub(super) const YKUSHXS: Model = Model {
    names: &["YKUSHXS"],
    what: "YKUSH XS",
    products: &[0xf0cd],
    outlets: 1,
    ..YKUSH
};

pub(super) const YKUSH3: Model = Model {
    names: &["YKUSH3"],
    what: "YKUSH3",
    products: &[0xf11b],
    ..YKUSH
};

/// The length of its reports.
const REPORT: usize = 64;

struct Ykush {
    device: KeptDevice,
}

keys! {
    pub(super) struct Keys {
        serial: Option<TextOrNumber> => "\"\"",
            "the device's serial number (see pdudaemon --discover); empty for the first one found";
        ..place: Place;
    }
}

pub(super) fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    Ok(Box::new(Ykush {
        device: Finder::kept(Choice::new(keys.serial, keys.place, settings)?, open),
    }))
}

fn open(choice: &Choice, deadline: Deadline) -> Result<Device, TransportError> {
    let mut device = choice.find(deadline)?.claim(0, deadline)?;
    device.drop_stale_reports(REPORT, deadline)?;
    Ok(device)
}

/// The command that switches a port.
fn switch_command(port: u8, to: Switch) -> u8 {
    match to {
        Switch::On => 0x10 | port,
        Switch::Off => port,
    }
}

/// The command that asks for a port's state.
fn state_command(port: u8) -> u8 {
    0x20 | port
}

/// Checks that a command was taken; gives byte 1 of the answer.
fn accepted(answer: &[u8]) -> Result<u8, DriverError> {
    match answer {
        [0x01, value, ..] => Ok(*value),
        other => Err(unexpected(
            "an answer that begins with 01 (accepted)",
            other,
        )),
    }
}

fn state_of(port: u8, answer: &[u8]) -> Result<State, DriverError> {
    let value = accepted(answer)?;
    if ![0, port].contains(&(value & 0x0f)) {
        return Err(unexpected(format!("the state of port {port}"), answer));
    }
    Ok(match value >> 4 {
        0 => State::Off,
        1 => State::On,
        _ => State::Unknown(format!("{value:02x}")),
    })
}

/// Sends a command; gives the answer.
fn exchange(
    device: &mut Device,
    command: u8,
    timed: impl Timed,
) -> Result<Vec<u8>, TransportError> {
    device.write_report(&[command, command], timed)?;
    device.read_report(REPORT, timed.deadline())
}

fn read(device: &mut Device, port: u8, deadline: Deadline) -> Result<State, DriverError> {
    state_of(port, &exchange(device, state_command(port), deadline)?)
}

impl Driver for Ykush {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let port = self.device.opener.outlet(outlet)?;
        self.device.call(attempt, |_, device| {
            accepted(&exchange(device, switch_command(port, to), attempt)?)?;
            Ok(Proof::Reply)
        })
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let port = self.device.opener.outlet(outlet)?;
        self.device
            .call(deadline, |_, device| read(device, port, deadline))
    }

    fn rest(&mut self, deadline: Deadline) {
        self.device.rest(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_answers_are_the_vendors() {
        assert_eq!(switch_command(1, Switch::On), 0x11);
        assert_eq!(switch_command(3, Switch::Off), 0x03);
        assert_eq!(state_command(2), 0x22);
        assert_eq!(accepted(&[0x01, 0x11]), Ok(0x11));
        assert!(accepted(&[0xff, 0x11]).is_err());
        assert!(accepted(&[]).is_err());
        assert_eq!(state_of(1, &[0x01, 0x11]), Ok(State::On));
        assert_eq!(state_of(1, &[0x01, 0x01]), Ok(State::Off));
        assert_eq!(state_of(1, &[0x01, 0x71]), Ok(State::Unknown("71".into())));
        assert_eq!(state_of(1, &[0x01, 0x00]), Ok(State::Off));
        // The answer to another request.
        assert!(state_of(1, &[0x01, 0x12]).is_err());
    }
}
