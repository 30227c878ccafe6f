//! Cleware USB-Switch 4 and USB-Switch 8.
//!
//! Switching is one output report without an answer. The state comes after a feature report that
//! asks for it (clewarecontrol); whether every firmware answers that way is not verified, so one that
//! is silent is taken for a device that cannot be read.

use super::{Choice, Finder, KeptDevice, Model, Place, unexpected};
use crate::driver::{Driver, DriverError};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Settings, SettingsError, TextOrNumber, keys};
use crate::transport::usb::{Attached, Device, FEATURE_REPORT, SET_REPORT, Setup};
use crate::transport::{Attempt, Deadline, TransportError, TransportErrorKind};
use nusb::transfer::{ControlType, Recipient};
use std::time::Duration;

pub(super) const SWITCH4: Model = Model {
    names: &["ClewareUsbSwitch4"],
    what: "Cleware USB-Switch 4",
    vendor: 0x0d50,
    products: &[0x0008],
    outlets: 4,
    key: "serial",
    identify,
    any: false,
};

pub(super) const SWITCH8: Model = Model {
    names: &["ClewareUsbSwitch8"],
    what: "Cleware USB-Switch 8",
    products: &[0x0030],
    outlets: 8,
    ..SWITCH4
};

/// What newer controllers tell as serial number; theirs is in the EEPROM.
const NEW_CONTROLLER: &str = "63813";

/// Where in the EEPROM the seven hexadecimal digits of the serial number are.
const EEPROM_SERIAL: std::ops::RangeInclusive<u8> = 8..=14;

struct Cleware {
    device: KeptDevice,
    sequence: u8,
}

keys! {
    pub(super) struct Keys {
        serial: Option<TextOrNumber> => "required, unless path is there",
            "the serial number printed on the device, decimal";
        ..place: Place;
    }
}

pub(super) fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let choice = Choice::new(keys.serial, keys.place, settings)?;
    let is_serial = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_serial(&choice.serial) && (choice.path.is_empty() || !choice.serial.is_empty()) {
        return Err(settings.error(
            "serial",
            "expected the serial number printed on the device, decimal",
        ));
    }
    Ok(Box::new(Cleware {
        device: Finder::kept(choice, open),
        sequence: 0,
    }))
}

/// The serial number as printed: decimal.
fn identify(attached: &Attached, deadline: Deadline) -> Result<Option<String>, TransportError> {
    let told = attached.serial().unwrap_or_default().trim();
    let hex = if told == NEW_CONTROLLER {
        eeprom_serial(attached, deadline)?
    } else {
        told.to_owned()
    };
    // One that tells no number has nothing to be matched by.
    Ok(Some(
        u32::from_str_radix(&hex, 16).map_or_else(|_| hex.clone(), |number| number.to_string()),
    ))
}

fn eeprom_serial(attached: &Attached, deadline: Deadline) -> Result<String, TransportError> {
    let mut device = attached.claim(0, deadline)?;
    let mut digits = String::new();
    for address in EEPROM_SERIAL {
        device.write_report(&[0x02, address], deadline)?;
        // State reports come in between; the device's own patience bounds the wait.
        let mut reports = 0;
        let digit = loop {
            let report = device.read_report(16, deadline)?;
            if let Some(digit) = eeprom_digit(address, &report) {
                break digit;
            }
            reports += 1;
            if reports > 100 {
                return Err(TransportError::new(
                    TransportErrorKind::Garbled,
                    format!("{attached} does not tell byte {address} of its EEPROM"),
                ));
            }
        };
        digits.push(digit);
    }
    Ok(digits)
}

/// The EEPROM's byte at `address`, when `report` tells that one and it is a hexadecimal digit.
fn eeprom_digit(address: u8, report: &[u8]) -> Option<char> {
    let digit = char::from(*report.get(5)?);
    (*report.get(4)? == address && digit.is_ascii_hexdigit()).then_some(digit)
}

/// The output report that switches an outlet (without the report id 00).
fn switch_report(model: &Model, outlet: u8, to: Switch) -> Vec<u8> {
    let is_on = to == Switch::On;
    if model.outlets == 4 {
        return vec![0x10 + outlet - 1, u8::from(is_on)];
    }
    let [mask_high, mask_low] = (1u16 << (outlet - 1)).to_be_bytes();
    if is_on {
        vec![0x03, mask_high, mask_low, mask_high, mask_low]
    } else {
        vec![0x03, 0, 0, mask_high, mask_low]
    }
}

/// The state of an outlet in an input report; firmware before 10 has it in byte 2 of a Switch 4.
fn state_of(model: &Model, firmware: u16, outlet: u8, report: &[u8]) -> Result<State, DriverError> {
    let wrong = || unexpected("a state report", report);
    let [first, _, third, _, fifth, sixth, ..] = *report else {
        return Err(wrong());
    };
    if first & 0x80 == 0 {
        return Err(wrong());
    }
    let is_on = if model.outlets == 4 {
        let byte = if firmware >= 10 { first } else { third };
        byte & (1 << (2 * (outlet - 1))) != 0
    } else {
        u16::from_be_bytes([fifth, sixth]) & (1 << (outlet - 1)) != 0
    };
    Ok(if is_on { State::On } else { State::Off })
}

/// Finds the device by its decimal serial number, or by the hexadecimal text that it tells.
fn open(choice: &Choice, deadline: Deadline) -> Result<Device, TransportError> {
    choice.find_by(deadline, is_meant)?.claim(0, deadline)
}

/// Is `found`, what [`identify`] gives, the serial number `wanted`? That is decimal, as printed; or
/// hexadecimal, as a fork of the Python program had it in its configs. One without a letter is never
/// taken for hexadecimal: it could be the decimal number of a device that is unplugged just now, and
/// another's be switched instead.
fn is_meant(wanted: &str, found: &str) -> bool {
    let radix = match wanted.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        true => 16,
        false => 10,
    };
    let number = u32::from_str_radix(wanted, radix);
    wanted == found || number.is_ok_and(|number| found.parse() == Ok(number))
}

impl Driver for Cleware {
    fn proofs(&self) -> &'static [Proof] {
        &[Proof::State]
    }

    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let report = switch_report(
            self.device.opener.choice.model,
            self.device.opener.outlet(outlet)?,
            to,
        );
        self.device.call(attempt, |_, device| {
            device.write_report(&report, attempt)?;
            Ok(Proof::None)
        })
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let (model, number) = (
            self.device.opener.choice.model,
            self.device.opener.outlet(outlet)?,
        );
        self.sequence = self.sequence.wrapping_add(1);
        let request = [self.sequence, 0x81];
        self.device.call(deadline, |_, device| {
            device.drop_stale_reports(REPORT, deadline)?;
            device.control_out(ASK, &request, deadline)?;
            let report = device
                .read_report(REPORT, deadline.within(REPORT_PATIENCE))
                .map_err(|error| match error.kind {
                    TransportErrorKind::Timeout if deadline.left("a state report").is_ok() => {
                        DriverError::CannotRead("the device does not answer with a report".into())
                    }
                    _ => error.into(),
                })?;
            state_of(model, device.attached().release(), number, &report)
        })
    }

    fn rest(&mut self, deadline: Deadline) {
        self.device.rest(deadline);
    }
}

/// The length of its state reports, and how long one is waited for: it is sent at once.
const REPORT: usize = 6;
const REPORT_PATIENCE: Duration = Duration::from_secs(2);

/// The feature report that asks for a state report.
const ASK: Setup = Setup {
    kind: ControlType::Class,
    recipient: Recipient::Interface,
    request: SET_REPORT,
    value: FEATURE_REPORT,
    index: 0,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::By;
    use crate::request::PduName;
    use crate::settings::Position;

    #[test]
    fn switch_reports_are_the_python_programs() {
        use Switch::{Off, On};
        assert_eq!(switch_report(&SWITCH4, 1, On), [0x10, 0x01]);
        assert_eq!(switch_report(&SWITCH4, 1, Off), [0x10, 0x00]);
        assert_eq!(switch_report(&SWITCH4, 4, On), [0x13, 0x01]);
        assert_eq!(switch_report(&SWITCH8, 1, On), [3, 0, 1, 0, 1]);
        assert_eq!(switch_report(&SWITCH8, 1, Off), [3, 0, 0, 0, 1]);
        assert_eq!(switch_report(&SWITCH8, 8, On), [3, 0, 0x80, 0, 0x80]);
    }

    #[test]
    fn states_and_eeprom_digits_are_read() {
        assert_eq!(
            state_of(&SWITCH4, 10, 4, &[0xc0, 0, 0, 0, 0, 0]),
            Ok(State::On)
        );
        assert_eq!(
            state_of(&SWITCH4, 10, 1, &[0xc0, 0, 1, 0, 0, 0]),
            Ok(State::Off)
        );
        assert_eq!(
            state_of(&SWITCH4, 9, 1, &[0x80, 0, 1, 0, 0, 0]),
            Ok(State::On)
        );
        assert_eq!(
            state_of(&SWITCH8, 10, 8, &[0x80, 0, 0, 0, 0, 0x80]),
            Ok(State::On)
        );
        assert!(state_of(&SWITCH8, 10, 8, &[0, 0, 0, 0, 0, 0x80]).is_err());
        assert!(state_of(&SWITCH8, 10, 8, &[0x80, 0]).is_err());
        assert_eq!(eeprom_digit(8, &[0, 0, 0, 0, 8, b'4', 0]), Some('4'));
        assert_eq!(eeprom_digit(8, &[0, 0, 0, 0, 9, b'4', 0]), None);
        assert_eq!(eeprom_digit(8, &[0, 0, 0, 0, 8, 0xff]), None);
        assert_eq!(eeprom_digit(8, &[]), None);
    }

    #[test]
    fn a_serial_number_means_one_device() {
        for (wanted, found, is_it) in [
            ("560031", "560031", true),
            ("0560031", "560031", true),
            ("88b9f", "560031", true),
            ("88B9F", "560031", true),
            // 560031 is hexadecimal for 5636145, which is another device.
            ("560031", "5636145", false),
            // Too long for a number, and a device that tells none.
            ("99999999999", "", false),
            ("fffffffffff", "", false),
            ("99999999999", "x", false),
            ("560031", "", false),
        ] {
            assert_eq!(is_meant(wanted, found), is_it, "{wanted} and {found:?}");
        }
    }

    #[test]
    fn a_serial_number_is_required() {
        let build = |json: &str| {
            By(build).of(&Settings::new(
                PduName::new("pdu"),
                "clewareusbswitch4",
                json,
                Position { line: 1, column: 1 },
            ))
        };
        for good in [
            r#"{"serial": 560031}"#,
            r#"{"serial": "560031"}"#,
            r#"{"path": "1-2"}"#,
        ] {
            assert!(build(good).is_ok(), "{good}");
        }
        for bad in ["{}", r#"{"serial": ""}"#, r#"{"serial": "left one"}"#] {
            assert!(build(bad).is_err(), "{bad}");
        }
    }
}
