//! USB devices over usbfs, by `nusb`: no C library, no hot-plug events.
//!
//! Devices are found by scanning sysfs when one is needed. An interface is taken from the kernel's
//! driver only while it is used, and given back after. Every transfer has its deadline: nusb takes
//! a transfer that is late back from the kernel. The kernel lets nobody near a device that it is
//! asking something itself, however long it asks in vain: so whatever may wait for that is done aside.

mod device;

pub use device::{Device, FEATURE_REPORT, GET_REPORT, OUTPUT_REPORT, SET_REPORT, Setup, Turn};

use super::TransportErrorKind::Busy;
use super::aside::aside;
#[cfg(fuzzing)]
use super::fuzzing::nusb;
use super::{Deadline, TransportError, TransportErrorKind};
use nusb::DeviceInfo;
#[cfg(not(fuzzing))]
use nusb::MaybeFuture;
use std::fmt;
use std::path::Path;

/// The file of udev rules that gives [`GROUP`] the devices.
pub const RULES: &str = "60-pdudaemon.rules";

/// The group whose members may use the devices.
pub const GROUP: &str = "pdudaemon";

/// An attached device, not yet opened.
#[derive(Clone, Debug)]
pub struct Attached(DeviceInfo);

/// Every attached device, root hubs included, in the order of their paths.
pub fn list(deadline: Deadline) -> Result<Vec<Attached>, TransportError> {
    let no_usb = |error: nusb::Error| {
        TransportError::new(
            TransportErrorKind::NotFound,
            format!("this machine has no USB: {error}"),
        )
    };
    let (roots, devices) = aside("listing the USB devices", Busy, deadline, || {
        let roots = nusb::list_buses().wait()?.collect::<Vec<_>>();
        let devices = nusb::list_devices().wait()?.collect::<Vec<_>>();
        Ok((roots, devices))
    })?
    .map_err(no_usb)?;
    let mut all: Vec<Attached> = roots
        .iter()
        .map(|bus| bus.root_hub().clone())
        .chain(devices)
        .map(Attached)
        .collect();
    all.sort_by_key(|attached| (attached.0.busnum(), attached.0.port_chain().to_vec()));
    Ok(all)
}

impl Attached {
    /// Vendor and product number.
    pub fn ids(&self) -> (u16, u16) {
        (self.0.vendor_id(), self.0.product_id())
    }

    /// The serial number that the device tells of itself.
    pub fn serial(&self) -> Option<&str> {
        self.0.serial_number()
    }

    /// The product's name that the device tells of itself.
    pub fn product(&self) -> Option<&str> {
        self.0.product_string()
    }

    /// The release number of the device (`bcdDevice`).
    pub fn release(&self) -> u16 {
        self.0.device_version()
    }

    /// Is it a hub?
    pub fn is_hub(&self) -> bool {
        self.0.class() == 9
    }

    /// Is it a hub whose ports run at 5 Gbit/s or more? Such a hub has its own form of some
    /// requests.
    pub fn is_super_speed(&self) -> bool {
        matches!(
            self.0.speed(),
            Some(nusb::Speed::Super | nusb::Speed::SuperPlus)
        )
    }

    /// Where it is plugged in, as the kernel and uhubctl write it: `1-2.4` is port 4 of the hub on
    /// port 2 of bus 1; `1` alone is the root hub of bus 1.
    pub fn path(&self) -> String {
        let name = self.0.sysfs_path().file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        name.strip_prefix("usb").unwrap_or(&name).to_owned()
    }

    /// Its folder in sysfs.
    pub fn sysfs(&self) -> &Path {
        self.0.sysfs_path()
    }

    /// Is this very device still plugged in? One that was replugged has another address.
    pub fn is_present(&self) -> bool {
        std::fs::read_to_string(self.0.sysfs_path().join("devnum"))
            .is_ok_and(|number| number.trim() == self.0.device_address().to_string())
    }

    /// Opens it, without taking an interface.
    pub fn open(&self, deadline: Deadline) -> Result<Device, TransportError> {
        let info = self.0.clone();
        let device = aside(&format!("opening {self}"), Busy, deadline, move || {
            info.open().wait()
        })?
        .map_err(|error| self.failed("open", &error))?;
        Ok(Device::new(self.clone(), device, deadline))
    }

    /// Opens it and takes interface `number` from whatever driver of the kernel has it.
    pub fn claim(&self, number: u8, deadline: Deadline) -> Result<Device, TransportError> {
        let mut device = self.open(deadline)?;
        device.take(number, deadline)?;
        Ok(device)
    }

    /// The driver that has interface `number`: `usbhid`, or `usbfs` for a program.
    fn interface_driver(&self, number: u8) -> Option<String> {
        let end = format!(".{number}");
        let interface = std::fs::read_dir(self.sysfs())
            .ok()?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.contains(':') && name.ends_with(&end)
            })?;
        let driver = std::fs::read_link(interface.join("driver")).ok()?;
        Some(driver.file_name()?.to_string_lossy().into_owned())
    }

    fn failed(&self, doing: &str, error: &nusb::Error) -> TransportError {
        use nusb::ErrorKind as E;
        match error.kind() {
            E::PermissionDenied => TransportError::new(
                TransportErrorKind::NoPermission,
                format!(
                    "no permission to {doing} {self}: install the udev rules {RULES} and be a \
                     member of the group {GROUP}"
                ),
            ),
            E::Busy => TransportError::new(
                Busy,
                format!("cannot {doing} {self}: another program has it"),
            ),
            E::Disconnected => TransportError::new(
                TransportErrorKind::NotFound,
                format!("cannot {doing} {self}: it is gone ({error})"),
            ),
            _ => TransportError::new(Busy, format!("cannot {doing} {self}: {error}")),
        }
    }
}

impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vendor, product) = self.ids();
        write!(
            f,
            "USB device {vendor:04x}:{product:04x} at {}",
            self.path()
        )
    }
}

/// One kind of device, and which one of its kind is meant.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// What it is called in messages.
    pub what: &'a str,
    /// The vendor number.
    pub vendor: u16,
    /// The product numbers.
    pub products: &'a [u16],
    /// Where it is plugged in; empty for anywhere.
    pub path: &'a str,
    /// Its serial number (or what serves as one); empty for any.
    pub serial: &'a str,
    /// Is any of several good when neither path nor serial is given?
    pub any: bool,
}

impl Wanted<'_> {
    /// Finds the device. `identify` tells the serial number of one of the kind, `None` when it is
    /// of another kind after all; it may have to open it. `matches` compares the serial wanted
    /// with one found.
    pub fn find(
        &self,
        deadline: Deadline,
        mut identify: impl FnMut(&Attached) -> Result<Option<String>, TransportError>,
        matches: impl Fn(&str, &str) -> bool,
    ) -> Result<Attached, TransportError> {
        let (mut found, mut others, mut failure) = (Vec::new(), Vec::new(), None);
        for attached in list(deadline)? {
            let (vendor, product) = attached.ids();
            if vendor != self.vendor || !self.products.contains(&product) {
                continue;
            }
            if !self.path.is_empty() && attached.path() != self.path {
                others.push(format!("one at {}", attached.path()));
                continue;
            }
            match identify(&attached) {
                Ok(None) => {}
                Ok(Some(serial)) if self.serial.is_empty() || matches(self.serial, &serial) => {
                    found.push((serial, attached));
                }
                Ok(Some(serial)) => others.push(serial),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        self.pick(found, &others, failure, Attached::path)
    }

    /// Takes the only one of those that were `found`, with their serial numbers; `failure` is that
    /// of one that could not be asked for it.
    fn pick<T>(
        &self,
        found: Vec<(String, T)>,
        others: &[String],
        failure: Option<TransportError>,
        path: impl FnOnce(&T) -> String,
    ) -> Result<T, TransportError> {
        let needs_only = !self.any && self.serial.is_empty() && self.path.is_empty();
        let several = found.len() > 1 && !self.any;
        match (found.into_iter().next(), failure) {
            (Some((serial, first)), _) if several => Err(TransportError::new(
                TransportErrorKind::NotFound,
                format!(
                    "more than one {} is attached ({serial} at {} and others): the config must \
                     say which",
                    self.what,
                    path(&first)
                ),
            )),
            // The one that could not be asked may be the one that is meant.
            (Some(_), Some(failure)) if needs_only => Err(failure),
            (Some((_, only)), _) => Ok(only),
            (None, failure) => Err(failure.unwrap_or_else(|| self.missing(others))),
        }
    }

    fn missing(&self, others: &[String]) -> TransportError {
        let Self {
            what, serial, path, ..
        } = self;
        let mut which = format!("no {what}");
        if !serial.is_empty() {
            which.push_str(&format!(" with serial {serial:?}"));
        }
        if !path.is_empty() {
            which.push_str(&format!(" at {path}"));
        }
        let others = if others.is_empty() {
            let ids: Vec<String> = self
                .products
                .iter()
                .map(|product| format!("{:04x}:{product:04x}", self.vendor))
                .collect();
            format!("none at all, looked for {}", ids.join(", "))
        } else {
            others.join(", ")
        };
        TransportError::new(
            TransportErrorKind::NotFound,
            format!("{which} is attached (attached: {others})"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_one_is_taken_only_when_every_one_could_be_asked() {
        let busy = || TransportError::new(Busy, "another program has it");
        let pick = |serial, any, found: &[&str], failure| {
            let wanted = Wanted {
                what: "relay",
                vendor: 1,
                products: &[2],
                path: "",
                serial,
                any,
            };
            let found = found
                .iter()
                .map(|name| ((*name).to_owned(), (*name).to_owned()));
            wanted
                .pick(found.collect(), &[], failure, String::clone)
                .map_err(|error| error.kind)
        };
        let (gone, taken) = (Err(TransportErrorKind::NotFound), Err(Busy));
        assert_eq!(pick("", false, &["a"], None), Ok("a".into()));
        assert_eq!(pick("", false, &["a"], Some(busy())), taken);
        assert_eq!(pick("", false, &[], Some(busy())), taken);
        assert_eq!(pick("", false, &["a", "b"], None), gone);
        assert_eq!(pick("", false, &[], None), gone);
        // The serial number tells them apart; and where any is good, the others do not matter.
        assert_eq!(pick("a", false, &["a"], Some(busy())), Ok("a".into()));
        assert_eq!(pick("", true, &["a", "b"], Some(busy())), Ok("a".into()));
    }
}
