//! EnerGenie EG-PMS and EG-PM2, Gembird SIS-PM: power strips with HID feature reports (sispmctl).
//!
//! Feature report 1 is the device's id; report 3N belongs to outlet N: byte 1 of what is written
//! is 03 for on and 00 for off, bit 0 of byte 1 of what is read is the relay.

use super::{Choice, Finder, KeptDevice, Model, Place, small_outlet, unexpected};
use crate::driver::{Driver, DriverError};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Settings, SettingsError, TextOrNumber, keys};
use crate::transport::usb::{Attached, Device, FEATURE_REPORT, GET_REPORT, SET_REPORT, Setup};
use crate::transport::{Attempt, Deadline, TransportError};
use nusb::transfer::{ControlType, Recipient};

/// The product with a single outlet, which it counts as outlet 0.
const SINGLE: u16 = 0xfd10;

pub(super) const SISPM: Model = Model {
    names: &["EG-PMS", "EG-PM2"],
    what: "EnerGenie USB power strip",
    vendor: 0x04b4,
    products: &[SINGLE, 0xfd11, 0xfd12, 0xfd13, 0xfd15],
    outlets: 4,
    key: "device",
    identify,
    any: false,
};

/// The length of every feature report.
const REPORT: u16 = 5;

fn get(report: u8) -> Setup {
    Setup {
        kind: ControlType::Class,
        recipient: Recipient::Interface,
        request: GET_REPORT,
        value: FEATURE_REPORT | u16::from(report),
        index: 0,
    }
}

fn set(report: u8) -> Setup {
    Setup {
        request: SET_REPORT,
        ..get(report)
    }
}

struct SisPm {
    device: KeptDevice,
}

keys! {
    pub(super) struct Keys {
        device: Option<TextOrNumber> => "\"\"",
            "the device's id, five bytes as 01:01:51:a4:c3 (see pdudaemon --discover); empty for the \
             only one";
        ..place: Place;
    }
}

pub(super) fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let choice = Choice::new(keys.device, keys.place, settings)?;
    let is_id = |id: &str| {
        let bytes: Vec<&str> = id.split(':').collect();
        bytes.len() == 5
            && bytes
                .iter()
                .all(|byte| byte.len() == 2 && u8::from_str_radix(byte, 16).is_ok())
    };
    if !choice.serial.is_empty() && !is_id(&choice.serial) {
        return Err(settings.error(
            "device",
            format!(
                "expected five hexadecimal bytes as 01:01:51:a4:c3, got {:?}",
                choice.serial
            ),
        ));
    }
    Ok(Box::new(SisPm {
        device: Finder::kept(choice, |choice, deadline| {
            choice.find(deadline)?.claim(0, deadline)
        }),
    }))
}

fn identify(attached: &Attached, deadline: Deadline) -> Result<Option<String>, TransportError> {
    let id = attached
        .claim(0, deadline)?
        .control_in(get(1), REPORT, deadline)?;
    Ok(Some(id_text(&id)))
}

fn id_text(id: &[u8]) -> String {
    let bytes: Vec<String> = id.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

/// The number of the report that belongs to an outlet of this product.
fn report_of(product: u16, outlet: &Outlet) -> Result<u8, DriverError> {
    if product == SINGLE {
        return small_outlet(outlet, 1).map(|_| 0);
    }
    Ok(3 * small_outlet(outlet, SISPM.outlets)?)
}

fn switch_data(report: u8, to: Switch) -> [u8; 5] {
    let value = match to {
        Switch::On => 3,
        Switch::Off => 0,
    };
    [report, value, 0, 0, 0]
}

fn switch_of(data: &[u8]) -> Result<Switch, DriverError> {
    match data {
        [_, value, ..] if value & 1 == 1 => Ok(Switch::On),
        [_, _, ..] => Ok(Switch::Off),
        other => Err(unexpected("a report of 5 bytes", other)),
    }
}

/// What the device says of an outlet.
fn read(device: &Device, report: u8, deadline: Deadline) -> Result<State, DriverError> {
    let data = device.control_in(get(report), REPORT, deadline)?;
    Ok(switch_of(&data)?.into())
}

impl Driver for SisPm {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        self.device.opener.outlet(outlet)?;
        self.device.call(attempt, |_, device| {
            let report = report_of(device.attached().ids().1, outlet)?;
            device.control_out(set(report), &switch_data(report, to), attempt)?;
            Ok(Proof::Reply)
        })
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        self.device.opener.outlet(outlet)?;
        self.device.call(deadline, |_, device| {
            let report = report_of(device.attached().ids().1, outlet)?;
            read(device, report, deadline)
        })
    }

    fn rest(&mut self, deadline: Deadline) {
        self.device.rest(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::By;
    use crate::request::PduName;
    use crate::settings::Position;

    #[test]
    fn requests_are_the_python_programs() {
        let of = |outlet: &str| report_of(0xfd13, &Outlet::new(outlet));
        assert_eq!(of("1"), Ok(3));
        assert_eq!(of("4"), Ok(12));
        assert_eq!(report_of(SINGLE, &Outlet::new("1")), Ok(0));
        assert!(report_of(SINGLE, &Outlet::new("2")).is_err());
        assert_eq!(
            (get(1).value, set(3).value, set(12).value),
            (0x0301, 0x0303, 0x030c)
        );
        assert_eq!((get(1).request, set(1).request), (1, 9));
        assert_eq!(switch_data(3, Switch::On), [3, 3, 0, 0, 0]);
        assert_eq!(switch_data(12, Switch::Off), [12, 0, 0, 0, 0]);
        assert_eq!(switch_of(&[3, 1, 0, 0, 0]), Ok(Switch::On));
        assert_eq!(switch_of(&[3, 2, 0, 0, 0]), Ok(Switch::Off));
        assert!(switch_of(&[3]).is_err());
        assert_eq!(id_text(&[1, 1, 0x51, 0xa4, 0xc3]), "01:01:51:a4:c3");
    }

    #[test]
    fn an_id_that_cannot_be_one_is_refused() {
        let build = |json: &str| {
            By(build).of(&Settings::new(
                PduName::new("pdu"),
                "EG-PMS",
                json,
                Position { line: 1, column: 1 },
            ))
        };
        assert!(build(r#"{"device": "01:01:51:A4:c3"}"#).is_ok());
        assert!(build("{}").is_ok());
        assert!(build(r#"{"device": "0101"}"#).is_err());
    }
}
