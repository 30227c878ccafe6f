//! Drivers over USB: the tables of their specs and of the devices they know.

mod cleware;
mod hub;
mod sispm;
mod vusbhid;
mod ykush;

pub use hub::switchable_ports;

use super::{
    By, DEVICE_TIMEOUT, DriverError, DriverSpec, Has, Outlets, SHOWS_WITHIN, outlet_number,
};
use crate::request::Outlet;
use crate::settings::{Settings, SettingsError, TextOrNumber, keys};
use crate::transport::kept::{Kept, Opener};
use crate::transport::usb::{Attached, Device, Wanted};
use crate::transport::{Deadline, TransportError, TransportErrorKind, pause};
use std::fmt;
use std::time::Duration;

/// One kind of USB device: for its driver, for discovery and for the udev rules.
#[derive(Clone, Copy)]
pub struct Model {
    /// The driver names that switch it; the first is the one to write into a config.
    pub names: &'static [&'static str],
    /// Maker and model.
    pub what: &'static str,
    /// USB vendor number.
    pub vendor: u16,
    /// USB product numbers.
    pub products: &'static [u16],
    /// How many outlets it has, at most.
    pub outlets: u32,
    /// The config's key for what tells two of them apart.
    pub key: &'static str,
    /// Reads what stands under that key; `None` from another product with the same numbers. It
    /// may open the device.
    pub identify: fn(&Attached, Deadline) -> Result<Option<String>, TransportError>,
    /// Does a config without key and path mean the first that is found, as in the Python program?
    any: bool,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// Every kind of USB device but hubs, which are known by their class.
pub static MODELS: &[Model] = &[
    ykush::YKUSH,
    ykush::YKUSHXS,
    ykush::YKUSH3,
    cleware::SWITCH4,
    cleware::SWITCH8,
    vusbhid::USBRELAY,
    sispm::SISPM,
];

/// Which device of which kind a config means.
struct Choice {
    model: &'static Model,
    serial: String,
    path: String,
}

impl Choice {
    /// The device with this id, at this place, of the kind that the driver's name means.
    fn new(
        id: Option<TextOrNumber>,
        at: Place,
        settings: &Settings,
    ) -> Result<Self, SettingsError> {
        let is_own = |name: &&str| name.eq_ignore_ascii_case(settings.driver());
        let model = MODELS
            .iter()
            .find(|model| model.names.iter().any(is_own))
            .ok_or_else(|| settings.error("driver", "no such USB device"))?;
        Ok(Self {
            model,
            serial: id.map(|id| id.0).unwrap_or_default(),
            path: at.path.map(|path| path.0).unwrap_or_default(),
        })
    }

    fn find(&self, deadline: Deadline) -> Result<Attached, TransportError> {
        self.find_by(deadline, |wanted, found| wanted.eq_ignore_ascii_case(found))
    }

    fn find_by(
        &self,
        deadline: Deadline,
        matches: impl Fn(&str, &str) -> bool,
    ) -> Result<Attached, TransportError> {
        Wanted {
            what: self.model.what,
            vendor: self.model.vendor,
            products: self.model.products,
            path: &self.path,
            serial: &self.serial,
            any: self.model.any,
        }
        .find(
            deadline,
            |attached| (self.model.identify)(attached, deadline),
            matches,
        )
    }
}

/// How long a PDU waits while another of its kind looks for a device, and how often it looks again:
/// only an open device says which one it is.
const OTHERS: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);

/// Finds the device that a config means, and opens it.
struct Finder {
    choice: Choice,
    open: fn(&Choice, Deadline) -> Result<Device, TransportError>,
}

/// The device that a config means, kept open while there is work.
type KeptDevice = Kept<Finder>;

impl Finder {
    fn kept(
        choice: Choice,
        open: fn(&Choice, Deadline) -> Result<Device, TransportError>,
    ) -> KeptDevice {
        Kept::new(Self { choice, open })
    }

    fn outlet(&self, outlet: &Outlet) -> Result<u8, DriverError> {
        small_outlet(outlet, self.choice.model.outlets)
    }
}

impl Opener for Finder {
    type Session = Device;
    type Error = DriverError;

    fn open(&mut self, deadline: Deadline) -> Result<Device, DriverError> {
        let patience = deadline.within(OTHERS);
        let kind = |opened: &Result<_, TransportError>| opened.as_ref().err().map(|e| e.kind);
        let mut opened = (self.open)(&self.choice, deadline);
        while kind(&opened) == Some(TransportErrorKind::Busy)
            && patience.left("it").is_ok_and(|left| left > LOOK)
        {
            pause(LOOK);
            let again = (self.open)(&self.choice, deadline);
            if kind(&again) == Some(TransportErrorKind::Timeout) {
                break;
            }
            opened = again;
        }
        Ok(opened?)
    }

    /// One that was replugged is another device.
    fn is_alive(&self, device: &mut Device, _: Deadline) -> bool {
        device.attached().is_present()
    }

    fn leave(&self, device: Device, deadline: Deadline) {
        device.close(deadline);
    }
}

/// The outlet as a number from 1 to `most`.
fn small_outlet(outlet: &Outlet, most: u32) -> Result<u8, DriverError> {
    outlet_number(&Outlets::Range(1..=most).parse(outlet)?)
}

/// The error of an answer that should have been something else.
fn unexpected(expected: impl Into<String>, got: &[u8]) -> DriverError {
    let hex: Vec<String> = got
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let got = if hex.is_empty() {
        "nothing".to_owned()
    } else {
        hex.join(" ")
    };
    DriverError::Unexpected {
        expected: expected.into(),
        got,
    }
}

/// The serial number as the device tells it to anybody.
fn own_serial(attached: &Attached, _: Deadline) -> Result<Option<String>, TransportError> {
    Ok(Some(attached.serial().unwrap_or_default().to_owned()))
}

keys! {
    /// Where a device is.
    struct Place {
        path: Option<TextOrNumber>,
            "where the device is plugged in, as 1-2.4 (see pdudaemon --discover), for devices that \
             cannot be told apart otherwise";
    }
}

/// Every driver name of this transport.
pub(super) static SPECS: &[DriverSpec] = &[
    DriverSpec {
        names: &["YKUSH", "YKUSH3"],
        any_case: false,
        models: "Yepkit YKUSH and YKUSH3 switchable USB hubs",
        transport: "usb",
        outlets: Has::Numbers(1, 3),
        reads_back: true,
        verified_by: "an emulated device behind a real Linux USB stack (frames of ykushcmd); no hardware",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(ykush::build),
    },
    DriverSpec {
        names: &["YKUSHXS"],
        any_case: false,
        models: "Yepkit YKUSH XS switchable USB port",
        transport: "usb",
        outlets: Has::Numbers(1, 1),
        reads_back: true,
        verified_by: "an emulated device behind a real Linux USB stack (frames of ykushcmd); no hardware",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(ykush::build),
    },
    DriverSpec {
        names: &["ClewareUsbSwitch4"],
        any_case: true,
        models: "Cleware USB-Switch 4",
        transport: "usb",
        outlets: Has::Numbers(1, 4),
        reads_back: true,
        verified_by: "an emulated device behind a real Linux USB stack; no hardware. UNVERIFIED: the state report (from clewarecontrol)",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(cleware::build),
    },
    DriverSpec {
        names: &["ClewareUsbSwitch8"],
        any_case: true,
        models: "Cleware USB-Switch 8 (Contact00)",
        transport: "usb",
        outlets: Has::Numbers(1, 8),
        reads_back: true,
        verified_by: "an emulated device behind a real Linux USB stack; no hardware. UNVERIFIED: the state report (from clewarecontrol), and command 03 on hardware with serial 63813 (the vendor's library sends 0b there)",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(cleware::build),
    },
    DriverSpec {
        names: &["vusbhid"],
        any_case: false,
        models: "DCTTECH USBRelay1 to USBRelay8 and other V-USB relays of that kind",
        transport: "usb",
        outlets: Has::Within(1, 8),
        reads_back: true,
        verified_by: "an emulated device behind a real Linux USB stack, with usbrelay as second opinion; no hardware",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(vusbhid::build),
    },
    DriverSpec {
        names: &["EG-PMS", "EG-PM2"],
        any_case: false,
        models: "EnerGenie EG-PMS, EG-PMS2, EG-PM2 and Gembird SIS-PM USB power strips",
        transport: "usb",
        outlets: Has::Numbers(1, 4),
        reads_back: true,
        verified_by: "an emulated device behind a real Linux USB stack, with sispmctl as second opinion; no hardware. UNVERIFIED: the one-outlet 04b4:fd10, whose outlet 1 is sent as report 0",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(sispm::build),
    },
    hub::SPEC,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_driver_name_has_its_device_and_the_other_way_round() {
        let models: Vec<&str> = MODELS
            .iter()
            .flat_map(|model| model.names)
            .copied()
            .collect();
        let mut specs: Vec<&str> = SPECS.iter().flat_map(|spec| spec.names).copied().collect();
        specs.retain(|name| *name != "usbhub");
        let sorted = |mut names: Vec<&str>| {
            names.sort_unstable();
            names.join(" ")
        };
        assert_eq!(sorted(models), sorted(specs));
        for model in MODELS {
            for name in model.names {
                let spec = SPECS.iter().find(|spec| spec.names.contains(name));
                let keys = spec.map(|spec| spec.build.keys()).unwrap_or_default();
                assert!(keys.iter().any(|key| key.name == model.key), "{name}");
            }
        }
    }
}
