//! USB devices over usbfs, by `nusb`: no C library, no hot-plug events.
//!
//! Devices are found by scanning sysfs when one is needed. An interface is taken from the kernel's
//! driver only while it is used, and given back after. Every transfer has its deadline: nusb takes
//! a transfer that is late back from the kernel.

#[cfg(fuzzing)]
use super::fuzzing::nusb;
use super::{Deadline, TransportError, TransportErrorKind};
#[cfg(not(fuzzing))]
use nusb::MaybeFuture;
use nusb::transfer::{
    Buffer, ControlIn, ControlOut, ControlType, In, Interrupt, Out, Recipient, TransferError,
};
use nusb::{DeviceInfo, Endpoint, Interface};
use std::cell::Cell;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The file of udev rules that gives [`GROUP`] the devices.
pub const RULES: &str = "60-pdudaemon.rules";

/// The group whose members may use the devices.
pub const GROUP: &str = "pdudaemon";

/// How long one transfer may take when the deadline is longer (libusb's usual patience).
const PATIENCE: Duration = Duration::from_secs(5);

/// How long an input report that nobody asked for is waited for at least, and at most, before a
/// request: twice the time between two of the host's polls, which may miss one by a hair.
const STALE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(100);

/// How long a transfer taken back may need to return.
const RETURNING: Duration = Duration::from_secs(1);

/// An attached device, not yet opened.
#[derive(Clone, Debug)]
pub struct Attached(DeviceInfo);

/// Every attached device, root hubs included, in the order of their paths.
pub fn list() -> Result<Vec<Attached>, TransportError> {
    let no_usb = |error: nusb::Error| {
        TransportError::new(
            TransportErrorKind::NotFound,
            format!("this machine has no USB: {error}"),
        )
    };
    let roots = nusb::list_buses().wait().map_err(no_usb)?;
    let devices = nusb::list_devices().wait().map_err(no_usb)?;
    let mut all: Vec<Attached> = roots
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
    pub fn sysfs(&self) -> &std::path::Path {
        self.0.sysfs_path()
    }

    /// Is this very device still plugged in? One that was replugged has another address.
    pub fn is_present(&self) -> bool {
        std::fs::read_to_string(self.0.sysfs_path().join("devnum"))
            .is_ok_and(|number| number.trim() == self.0.device_address().to_string())
    }

    /// Opens it, without taking an interface.
    pub fn open(&self) -> Result<Device, TransportError> {
        let device = self
            .0
            .open()
            .wait()
            .map_err(|error| self.failed("open", &error))?;
        Ok(Device {
            attached: self.clone(),
            device,
            reports: None,
            taken: None,
            is_silent: Cell::new(false),
        })
    }

    /// Opens it and takes interface `number` from whatever driver of the kernel has it.
    pub fn claim(&self, number: u8) -> Result<Device, TransportError> {
        let mut device = self.open()?;
        // Another program's claim shows as a driver too, and could be taken from it.
        if self
            .interface_driver(number)
            .is_some_and(|name| name != "usbfs")
        {
            device.taken = Some(number);
            // Where this fails, so does the claim, and tells why.
            let _ = device.device.detach_kernel_driver(number);
        }
        let interface = device
            .device
            .claim_interface(number)
            .wait()
            .map_err(|error| self.failed("take", &error))?;
        device.taken = Some(number);
        device.reports = Some(Reports::new(interface, self)?);
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
                TransportErrorKind::Busy,
                format!("cannot {doing} {self}: another program has it"),
            ),
            E::Disconnected => TransportError::new(
                TransportErrorKind::NotFound,
                format!("cannot {doing} {self}: it is gone ({error})"),
            ),
            _ => TransportError::new(
                TransportErrorKind::Busy,
                format!("cannot {doing} {self}: {error}"),
            ),
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
        mut identify: impl FnMut(&Attached) -> Result<Option<String>, TransportError>,
        matches: impl Fn(&str, &str) -> bool,
    ) -> Result<Attached, TransportError> {
        let (mut found, mut others, mut failure) = (Vec::new(), Vec::new(), None);
        for attached in list()? {
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

/// A request on the default control endpoint, without its direction and data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Standard, class or vendor (`bmRequestType`).
    pub kind: ControlType,
    /// Device, interface, endpoint or other (`bmRequestType`).
    pub recipient: Recipient,
    /// `bRequest`.
    pub request: u8,
    /// `wValue`.
    pub value: u16,
    /// `wIndex`.
    pub index: u16,
}

/// An opened device.
#[derive(Debug)]
pub struct Device {
    attached: Attached,
    device: nusb::Device,
    reports: Option<Reports>,
    /// The interface that was taken from the kernel's driver.
    taken: Option<u8>,
    /// Did it leave a request without an answer?
    is_silent: Cell<bool>,
}

impl Drop for Device {
    /// Gives the interface back to the kernel's driver, unless the device is silent: the kernel asks
    /// it questions first, and would wait half a minute for its answers, and we with it.
    fn drop(&mut self) {
        self.reports = None;
        if let Some(number) = self.taken
            && !self.is_silent.get()
        {
            // It may have been unplugged, or be one that no driver wants.
            let _ = self.device.attach_kernel_driver(number);
        }
    }
}

/// A taken interface and its endpoints for reports.
#[derive(Debug)]
struct Reports {
    input: Option<Endpoint<Interrupt, In>>,
    output: Option<Endpoint<Interrupt, Out>>,
    interface: Interface,
    /// See [`STALE`].
    stale: Duration,
}

impl Reports {
    fn new(interface: Interface, attached: &Attached) -> Result<Self, TransportError> {
        let endpoints: Vec<(u8, u8)> = interface
            .descriptor()
            .map(|descriptor| {
                descriptor
                    .endpoints()
                    .filter(|endpoint| {
                        endpoint.transfer_type() == nusb::descriptors::TransferType::Interrupt
                    })
                    .map(|endpoint| (endpoint.address(), endpoint.interval()))
                    .collect()
            })
            .unwrap_or_default();
        let is_input = |(address, _): &&(u8, u8)| address & 0x80 != 0;
        let failed = |error: nusb::Error| attached.failed("use an endpoint of", &error);
        let input = endpoints.iter().find(is_input);
        let in_milliseconds = matches!(
            attached.0.speed(),
            None | Some(nusb::Speed::Low | nusb::Speed::Full)
        );
        let stale = stale(input.map_or(0, |(_, interval)| *interval), in_milliseconds);
        let input = match input {
            Some((address, _)) => Some(interface.endpoint(*address).map_err(failed)?),
            None => None,
        };
        let output = match endpoints.iter().find(|endpoint| !is_input(endpoint)) {
            Some((address, _)) => Some(interface.endpoint(*address).map_err(failed)?),
            None => None,
        };
        Ok(Self {
            input,
            output,
            interface,
            stale,
        })
    }
}

/// The wait for a stale report from an endpoint with this `bInterval` (USB 2.0, 9.6.6): milliseconds,
/// or from high speed on the power of two, from 0, of 125 microseconds.
fn stale(interval: u8, in_milliseconds: bool) -> Duration {
    let poll = match in_milliseconds {
        true => Duration::from_millis(interval.into()),
        false => Duration::from_micros(125 << interval.clamp(1, 16).saturating_sub(1)),
    };
    (poll * 2).clamp(*STALE.start(), *STALE.end())
}

impl Device {
    /// What it was opened from.
    pub fn attached(&self) -> &Attached {
        &self.attached
    }

    /// Asks for at most `length` bytes over the control endpoint.
    pub fn control_in(
        &self,
        setup: Setup,
        length: u16,
        deadline: Deadline,
    ) -> Result<Vec<u8>, TransportError> {
        let wait = deadline.within(PATIENCE).left("a USB request")?;
        let request = ControlIn {
            control_type: setup.kind,
            recipient: setup.recipient,
            request: setup.request,
            value: setup.value,
            index: setup.index,
            length,
        };
        self.device
            .control_in(request, wait)
            .wait()
            .map_err(|error| self.lost("a request", error))
    }

    /// Sends `data` over the control endpoint.
    pub fn control_out(
        &self,
        setup: Setup,
        data: &[u8],
        deadline: Deadline,
    ) -> Result<(), TransportError> {
        let wait = deadline.within(PATIENCE).left("a USB request")?;
        let request = ControlOut {
            control_type: setup.kind,
            recipient: setup.recipient,
            request: setup.request,
            value: setup.value,
            index: setup.index,
            data,
        };
        self.device
            .control_out(request, wait)
            .wait()
            .map_err(|error| self.lost("a request", error))
    }

    /// Sends an output report without a report id: on the interrupt endpoint, or by SET_REPORT
    /// when the taken interface has none for output (as the kernel's HID driver chooses).
    pub fn write_report(
        &mut self,
        report: &[u8],
        deadline: Deadline,
    ) -> Result<(), TransportError> {
        self.write(0, report, deadline)
    }

    /// Sends an output report whose first byte is its report id.
    pub fn write_numbered_report(
        &mut self,
        report: &[u8],
        deadline: Deadline,
    ) -> Result<(), TransportError> {
        let id = report.first().copied().unwrap_or(0);
        self.write(id, report, deadline)
    }

    fn write(&mut self, id: u8, report: &[u8], deadline: Deadline) -> Result<(), TransportError> {
        let wait = deadline.within(PATIENCE).left("a USB report")?;
        let Some(reports) = &mut self.reports else {
            return Err(self.not_taken());
        };
        let Some(output) = &mut reports.output else {
            let setup = Setup {
                kind: ControlType::Class,
                recipient: Recipient::Interface,
                request: SET_REPORT,
                value: OUTPUT_REPORT | u16::from(id),
                index: u16::from(reports.interface.interface_number()),
            };
            return self.control_out(setup, report, deadline);
        };
        let sent = transfer(output, Buffer::from(report), wait).map(drop);
        sent.map_err(|error| self.lost("a report", error))
    }

    /// Waits for an input report of `length` bytes; it may be shorter.
    pub fn read_report(
        &mut self,
        length: usize,
        deadline: Deadline,
    ) -> Result<Vec<u8>, TransportError> {
        let wait = deadline.within(PATIENCE).left("a USB report")?;
        self.read(length, wait)
            .map_err(|error| self.lost("the answering report", error))
    }

    /// Takes away the reports that an earlier, broken off exchange left behind, so that none of
    /// them is taken for the answer to the next request.
    pub fn drop_stale_reports(&mut self, length: usize) {
        let wait = match &self.reports {
            Some(reports) => reports.stale,
            None => *STALE.start(),
        };
        for _ in 0..4 {
            if self.read(length, wait).is_err() {
                return;
            }
        }
    }

    fn read(&mut self, length: usize, wait: Duration) -> Result<Vec<u8>, TransferError> {
        let Some(input) = self
            .reports
            .as_mut()
            .and_then(|reports| reports.input.as_mut())
        else {
            return Err(TransferError::InvalidArgument);
        };
        // The kernel wants whole packets; a shorter one ends the transfer.
        let packet = input.max_packet_size().max(1);
        let room = length.max(1).div_ceil(packet) * packet;
        transfer(input, Buffer::new(room), wait)
    }

    fn not_taken(&self) -> TransportError {
        TransportError::new(
            TransportErrorKind::Io,
            format!("no interface of {} was taken", self.attached),
        )
    }

    fn lost(&self, what: &str, error: TransferError) -> TransportError {
        use TransportErrorKind as K;
        self.is_silent
            .set(self.is_silent.get() || error == TransferError::Cancelled);
        let (kind, why) = match error {
            TransferError::Cancelled => (K::Timeout, "no answer in time".to_owned()),
            TransferError::Disconnected => (K::Closed, "it was unplugged".to_owned()),
            TransferError::Stall => (K::Garbled, "it refused (stall)".to_owned()),
            // Also what the host controller says of a device that is just being pulled out.
            TransferError::Fault => (K::Io, "it broke off (fault on the bus)".to_owned()),
            // EBUSY: a driver of the kernel or another program has the interface.
            TransferError::Unknown(16) => (K::Busy, "another program has it".to_owned()),
            other => (K::Io, other.to_string()),
        };
        TransportError::new(kind, format!("{what} to {} failed: {why}", self.attached))
    }
}

/// SET_REPORT and GET_REPORT of the HID class (HID 1.11, 7.2).
pub const SET_REPORT: u8 = 0x09;
/// See [`SET_REPORT`].
pub const GET_REPORT: u8 = 0x01;
/// The report type in the high byte of `wValue`: output.
pub const OUTPUT_REPORT: u16 = 0x0200;
/// The report type in the high byte of `wValue`: feature.
pub const FEATURE_REPORT: u16 = 0x0300;

/// One transfer; taken back when it is late.
fn transfer<D: nusb::transfer::EndpointDirection>(
    endpoint: &mut Endpoint<Interrupt, D>,
    buffer: Buffer,
    wait: Duration,
) -> Result<Vec<u8>, TransferError> {
    endpoint.submit(buffer);
    let completion = match endpoint.wait_next_complete(wait) {
        Some(completion) => completion,
        None => {
            endpoint.cancel_all();
            // It may have come through in the meantime: then it counts.
            endpoint
                .wait_next_complete(RETURNING)
                .ok_or(TransferError::Cancelled)?
        }
    };
    completion.into_result().map(Buffer::into_vec)
}

/// A device that is kept open between calls and found again when it was replugged.
#[derive(Debug, Default)]
pub struct Session(Option<Device>);

impl Session {
    /// Does `work` with the device, which `find` finds and opens when it is not open or no longer
    /// there. After a failure the device is closed, so that the next call starts clean.
    pub fn with<T, E>(
        &mut self,
        find: impl FnOnce() -> Result<Device, E>,
        work: impl FnOnce(&mut Device) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut device = match self.0.take().filter(|device| device.attached.is_present()) {
            Some(device) => device,
            None => find()?,
        };
        let done = work(&mut device)?;
        self.0 = Some(device);
        Ok(done)
    }

    /// Closes the device and gives it back to the kernel.
    pub fn close(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_reports_are_waited_for_longer_than_the_host_polls() {
        let milliseconds = |interval, low| stale(interval, low).as_millis();
        assert_eq!(milliseconds(10, true), 20);
        assert_eq!(milliseconds(32, true), 64);
        assert_eq!((milliseconds(0, true), milliseconds(255, true)), (10, 100));
        // 2^7 times 125 microseconds.
        assert_eq!(milliseconds(8, false), 32);
        assert_eq!((milliseconds(1, false), milliseconds(16, false)), (10, 100));
        assert_eq!(
            (milliseconds(0, false), milliseconds(255, false)),
            (10, 100)
        );
    }

    #[test]
    fn the_only_one_is_taken_only_when_every_one_could_be_asked() {
        let busy = || TransportError::new(TransportErrorKind::Busy, "another program has it");
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
        let (gone, taken) = (
            Err(TransportErrorKind::NotFound),
            Err(TransportErrorKind::Busy),
        );
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
