//! DCTTECH "USBRelay" boards and their kin: V-USB devices with a HID feature report.
//!
//! The report is eight bytes: five characters of serial number, and in byte 7 a bit for each
//! relay. Setting it with `ff N` closes relay N, with `fd N` opens it. The requests go to the
//! device and not to its interface, so nothing has to be taken from the kernel's driver.

use super::{Choice, Finder, KeptDevice, Model, Place, small_outlet, unexpected};
use crate::driver::{Driver, DriverError};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Settings, SettingsError, TextOrNumber, keys};
use crate::transport::usb::{Attached, Device, FEATURE_REPORT, GET_REPORT, SET_REPORT, Setup};
use crate::transport::{Attempt, Deadline, TransportError};
use nusb::transfer::{ControlType, Recipient};

pub(super) const USBRELAY: Model = Model {
    names: &["vusbhid"],
    what: "USBRelay",
    vendor: 0x16c0,
    // The number is shared by many makers' V-USB projects: the product's name decides.
    products: &[0x05df],
    outlets: 8,
    key: "serial",
    identify,
    any: false,
};

const GET: Setup = Setup {
    kind: ControlType::Class,
    recipient: Recipient::Device,
    request: GET_REPORT,
    value: FEATURE_REPORT,
    index: 0,
};

const SET: Setup = Setup {
    request: SET_REPORT,
    ..GET
};

/// The length of the feature report.
const REPORT: u16 = 8;

struct VusbHid {
    device: KeptDevice,
    invert: bool,
}

keys! {
    pub(super) struct Keys {
        serial: Option<TextOrNumber> => "\"\"",
            "the device's serial number (see pdudaemon --discover); empty for the only one";
        invert: bool = false,
            "the load is wired to the normally closed contact: on is a released relay";
        ..place: Place;
    }
}

pub(super) fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    Ok(Box::new(VusbHid {
        device: Finder::kept(
            Choice::new(keys.serial, keys.place, settings)?,
            |choice, deadline| choice.find(deadline)?.open(deadline),
        ),
        invert: keys.invert,
    }))
}

/// The number of relays from the product's name.
fn relays(product: &str) -> Option<u32> {
    let count = product.strip_prefix("USBRelay")?.trim().parse().ok()?;
    (1..=USBRELAY.outlets).contains(&count).then_some(count)
}

fn identify(attached: &Attached, deadline: Deadline) -> Result<Option<String>, TransportError> {
    if attached.product().and_then(relays).is_none() {
        return Ok(None);
    }
    let report = attached.open(deadline)?.control_in(GET, REPORT, deadline)?;
    Ok(Some(serial_of(&report)))
}

fn serial_of(report: &[u8]) -> String {
    let serial = report.get(..5).unwrap_or(report);
    String::from_utf8_lossy(serial)
        .trim_end_matches('\0')
        .to_owned()
}

/// The report that puts a relay into a state.
fn switch_report(relay: u8, closed: bool) -> [u8; 2] {
    [if closed { 0xff } else { 0xfd }, relay]
}

/// Is the relay closed?
fn is_closed(relay: u8, report: &[u8]) -> Result<bool, DriverError> {
    match report {
        [_, _, _, _, _, _, _, relays] => Ok(relays & (1 << (relay - 1)) != 0),
        other => Err(unexpected("a report of 8 bytes", other)),
    }
}

fn switch_of(is_on: bool) -> Switch {
    if is_on { Switch::On } else { Switch::Off }
}

/// The relay's number, if this very device has it.
fn relay(outlet: &Outlet, device: &Device) -> Result<u8, DriverError> {
    let count = device.attached().product().and_then(relays).unwrap_or(0);
    small_outlet(outlet, count)
}

fn read(
    device: &Device,
    relay: u8,
    invert: bool,
    deadline: Deadline,
) -> Result<State, DriverError> {
    let report = device.control_in(GET, REPORT, deadline)?;
    Ok(switch_of(is_closed(relay, &report)? != invert).into())
}

impl Driver for VusbHid {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        self.device.opener.outlet(outlet)?;
        let closed = (to == Switch::On) != self.invert;
        self.device.call(attempt, |_, device| {
            let relay = relay(outlet, device)?;
            device.control_out(SET, &switch_report(relay, closed), attempt)?;
            Ok(Proof::Reply)
        })
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        self.device.opener.outlet(outlet)?;
        let invert = self.invert;
        self.device.call(deadline, |_, device| {
            let relay = relay(outlet, device)?;
            read(device, relay, invert, deadline)
        })
    }

    fn rest(&mut self, deadline: Deadline) {
        self.device.rest(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_the_boards() {
        assert_eq!(switch_report(1, true), [0xff, 0x01]);
        assert_eq!(switch_report(8, false), [0xfd, 0x08]);
        let report = b"BITFT\0\0\x81";
        assert_eq!(serial_of(report), "BITFT");
        assert_eq!(is_closed(1, report), Ok(true));
        assert_eq!(is_closed(2, report), Ok(false));
        assert_eq!(is_closed(8, report), Ok(true));
        assert!(is_closed(1, &report[..7]).is_err());
    }

    #[test]
    fn the_name_tells_the_number_of_relays() {
        assert_eq!(relays("USBRelay2"), Some(2));
        assert_eq!(relays("USBRelay8"), Some(8));
        for other in ["USBRelay", "USBRelay0", "USBRelay9", "USBasp", "", "Relay2"] {
            assert_eq!(relays(other), None, "{other:?}");
        }
    }
}
