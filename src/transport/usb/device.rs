//! A device that is open, and what is said to it.

use super::Attached;
use crate::transport::TransportErrorKind::Busy;
use crate::transport::aside::{aside, finish_aside};
#[cfg(fuzzing)]
use crate::transport::fuzzing::nusb;
use crate::transport::lock::lock;
use crate::transport::{Deadline, Timed, TransportError, TransportErrorKind};
#[cfg(not(fuzzing))]
use nusb::MaybeFuture;
use nusb::transfer::{
    Buffer, ControlIn, ControlOut, ControlType, EndpointDirection, In, Interrupt, Out, Recipient,
    TransferError,
};
use nusb::{Endpoint, Interface};
use std::cell::Cell;
use std::fmt;
use std::fs::{File, TryLockError};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one transfer may take when the deadline is longer (libusb's usual patience).
const PATIENCE: Duration = Duration::from_secs(5);

/// How long an input report that nobody asked for is waited for at least, and at most, before a
/// request: twice the time between two of the host's polls, which may miss one by a hair.
const STALE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(100);

/// How long a transfer taken back may need to return.
const RETURNING: Duration = Duration::from_secs(1);
/// How long before the deadline one is taken back, so that it can be told what came of it.
const TAKING_BACK: Duration = Duration::from_millis(20);

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

/// The turn to change something of a device, to be held until the kernel has done it or given up.
/// That may be after the deadline, or after this process has ended, and what comes next must not
/// overtake it: so it is a lock on the device's folder in sysfs.
#[derive(Debug)]
pub struct Turn {
    /// None where the device is gone, as the request itself will tell.
    _folder: Option<File>,
}

impl Turn {
    fn wait(
        folder: &Path,
        device: &dyn fmt::Display,
        deadline: Deadline,
    ) -> Result<Self, TransportError> {
        let folder = File::open(folder).ok();
        if let Some(Err(TryLockError::WouldBlock)) =
            folder.as_ref().map(|folder| lock(folder, deadline))
        {
            return Err(TransportError::new(
                Busy,
                format!("an earlier request to {device} is still under way in the kernel"),
            ));
        }
        Ok(Self { _folder: folder })
    }
}

/// What is asked of a device, in an error.
const REQUEST: &str = "a request";
/// What it answers on an endpoint.
const ANSWER: &str = "the answering report";

/// How long closing a device may take after its last deadline, in vain or not.
const CLOSING: Duration = Duration::from_millis(20);

/// An opened device.
#[derive(Debug)]
pub struct Device {
    attached: Attached,
    /// Until it is dropped.
    device: Option<nusb::Device>,
    reports: Option<Reports>,
    /// The interface that was taken from the kernel's driver.
    taken: Option<u8>,
    /// Did it leave a request without an answer?
    is_silent: Cell<bool>,
    /// By when it may be closed: that of the last request.
    deadline: Cell<Deadline>,
}

impl Drop for Device {
    /// Gives the interface back to the kernel's driver, unless the device is silent: the kernel asks
    /// it questions first, would wait half a minute for its answers, and let nobody else near it.
    fn drop(&mut self) {
        let (device, reports) = (self.device.take(), self.reports.take());
        let taken = self.taken.filter(|_| !self.is_silent.get());
        let close = move || {
            drop(reports);
            if let (Some(device), Some(number)) = (device, taken) {
                // It may have been unplugged, or be one that no driver wants.
                let _ = device.attach_kernel_driver(number);
            }
        };
        finish_aside(self.deadline.get().max(Deadline::after(CLOSING)), close);
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
    pub(super) fn new(attached: Attached, device: nusb::Device, deadline: Deadline) -> Self {
        Self {
            attached,
            device: Some(device),
            reports: None,
            taken: None,
            is_silent: Cell::new(false),
            deadline: Cell::new(deadline),
        }
    }

    /// Takes interface `number` from whatever driver of the kernel has it.
    pub(super) fn take(&mut self, number: u8, deadline: Deadline) -> Result<(), TransportError> {
        // Another program's claim shows as a driver too, and could be taken from it. So it could by
        // two who look for their devices side by side, but for the turn; and whoever has a device that
        // is silent may keep that for long.
        self.is_kernels(number)?;
        let turn = self.turn(deadline)?;
        let is_kernels = self.is_kernels(number)?;
        self.taken = is_kernels.then_some(number);
        let (opened, attached) = (self.opened()?, self.attached.clone());
        let claim = move || {
            if is_kernels {
                // Where this fails, so does the claim, and tells why.
                let _ = opened.detach_kernel_driver(number);
            }
            let claimed = opened
                .claim_interface(number)
                .wait()
                .map_err(|error| attached.failed("take", &error))
                .and_then(|interface| Reports::new(interface, &attached));
            drop(turn);
            if is_kernels && deadline.left("using it").is_err() {
                // Nobody waits for it any more.
                drop(claimed);
                let _ = opened.attach_kernel_driver(number);
                return None;
            }
            Some(claimed)
        };
        let taking = format!("taking {}", self.attached);
        let reports = aside(&taking, Busy, deadline, claim)?
            .ok_or_else(|| TransportError::new(Busy, format!("{taking} did not end in time")))??;
        self.taken = Some(number);
        self.reports = Some(reports);
        Ok(())
    }

    /// Has a driver of the kernel the interface, or else nobody?
    fn is_kernels(&self, number: u8) -> Result<bool, TransportError> {
        match self.attached.interface_driver(number).as_deref() {
            Some("usbfs") => {
                let words = format!("{} is busy: another program has it", self.attached);
                Err(TransportError::new(Busy, words))
            }
            driver => Ok(driver.is_some()),
        }
    }

    /// Closes it and gives it back to the kernel, by the deadline if that can be.
    pub fn close(self, deadline: Deadline) {
        self.deadline.set(deadline);
    }

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
        let device = self.opened()?;
        self.request(REQUEST, deadline, move || {
            device.control_in(request, wait).wait()
        })
    }

    /// Sends `data` over the control endpoint.
    pub fn control_out(
        &self,
        setup: Setup,
        data: &[u8],
        timed: impl Timed,
    ) -> Result<(), TransportError> {
        let deadline = timed.deadline();
        let turn = self.turn(deadline)?;
        let wait = deadline.within(PATIENCE).left("a USB request")?;
        let (device, data) = (self.opened()?, data.to_vec());
        let send = move || {
            let request = ControlOut {
                control_type: setup.kind,
                recipient: setup.recipient,
                request: setup.request,
                value: setup.value,
                index: setup.index,
                data: &data,
            };
            let sent = device.control_out(request, wait).wait();
            drop(turn);
            sent
        };
        timed.judge(|| {
            // Where the kernel is late, nobody knows whether it has sent it.
            timed.sent();
            self.request(REQUEST, deadline, send)
        })
    }

    fn opened(&self) -> Result<nusb::Device, TransportError> {
        let closed = || {
            TransportError::new(
                TransportErrorKind::NotFound,
                format!("{} is closed", self.attached),
            )
        };
        self.device.clone().ok_or_else(closed)
    }

    /// A request, or a report: `what`. It goes to the kernel aside, which takes it only when it is
    /// not busy with the device itself.
    fn request<T: Send + 'static>(
        &self,
        what: &str,
        deadline: Deadline,
        work: impl FnOnce() -> Result<T, TransferError> + Send + 'static,
    ) -> Result<T, TransportError> {
        self.deadline.set(deadline);
        let doing = format!("{what} to {}", self.attached);
        deadline.left(&doing)?;
        aside(&doing, TransportErrorKind::Timeout, deadline, work)
            .inspect_err(|error| {
                let is_late = error.kind == TransportErrorKind::Timeout;
                self.is_silent.set(self.is_silent.get() || is_late);
            })?
            .map_err(|error| self.lost(what, error))
    }

    /// A transfer of a report, `what`: what came of it within `most`, which `work` is told, or less.
    /// After one that is late the device is of no use any more: the thread that waits has its
    /// endpoints.
    fn transfer<T: Send + 'static>(
        &mut self,
        what: &str,
        most: Duration,
        deadline: Deadline,
        work: impl FnOnce(&mut Reports, Duration) -> Result<T, TransferError> + Send + 'static,
    ) -> Result<Result<T, TransferError>, TransportError> {
        let wait = deadline.left(what)?.saturating_sub(TAKING_BACK).min(most);
        let mut reports = self.reports.take().ok_or_else(|| self.not_taken())?;
        let (reports, done) = self.request(what, deadline, move || {
            let done = work(&mut reports, wait);
            Ok((reports, done))
        })?;
        self.reports = Some(reports);
        Ok(done)
    }

    /// The turn to change something of this device.
    ///
    /// # Errors
    ///
    /// It is busy when what was late before is still under way at the deadline.
    pub fn turn(&self, deadline: Deadline) -> Result<Turn, TransportError> {
        Turn::wait(self.attached.sysfs(), &self.attached, deadline)
    }

    /// Sends an output report without a report id: on the interrupt endpoint, or by SET_REPORT
    /// when the taken interface has none for output (as the kernel's HID driver chooses).
    pub fn write_report(&mut self, report: &[u8], timed: impl Timed) -> Result<(), TransportError> {
        let reports = self.reports.as_ref().ok_or_else(|| self.not_taken())?;
        if reports.output.is_none() {
            let setup = Setup {
                kind: ControlType::Class,
                recipient: Recipient::Interface,
                request: SET_REPORT,
                value: OUTPUT_REPORT,
                index: u16::from(reports.interface.interface_number()),
            };
            return self.control_out(setup, report, timed);
        }
        let deadline = timed.deadline();
        let turn = self.turn(deadline)?;
        let report = Buffer::from(report);
        let send = move |reports: &mut Reports, wait| {
            let sent = transfer(reports.output.as_mut(), |_| report, wait);
            drop(turn);
            sent.map(drop)
        };
        timed.judge(|| {
            timed.sent();
            self.transfer("a report", PATIENCE, deadline, send)?
                .map_err(|error| self.lost("a report", error))
        })
    }

    /// Waits for an input report of `length` bytes; it may be shorter.
    pub fn read_report(
        &mut self,
        length: usize,
        deadline: Deadline,
    ) -> Result<Vec<u8>, TransportError> {
        let read = self.read(length, PATIENCE, deadline);
        read.and_then(|read| read.map_err(|error| self.lost(ANSWER, error)))
            .map_err(|error| match error.kind {
                // What it answers was sent, whatever keeps it from being read.
                Busy => TransportError::new(TransportErrorKind::Io, error.detail),
                _ => error,
            })
    }

    /// Takes away the reports that an earlier, broken off exchange left behind, so that none of
    /// them is taken for the answer to the next request.
    pub fn drop_stale_reports(
        &mut self,
        length: usize,
        deadline: Deadline,
    ) -> Result<(), TransportError> {
        let wait = match &self.reports {
            Some(reports) => reports.stale,
            None => *STALE.start(),
        };
        for _ in 0..4 {
            if self.read(length, wait, deadline)?.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        length: usize,
        most: Duration,
        deadline: Deadline,
    ) -> Result<Result<Vec<u8>, TransferError>, TransportError> {
        self.transfer(ANSWER, most, deadline, move |reports, wait| {
            let buffer = |input: &Endpoint<_, _>| {
                // The kernel wants whole packets; a shorter one ends the transfer.
                let packet = input.max_packet_size().max(1);
                Buffer::new(length.max(1).div_ceil(packet) * packet)
            };
            input_report(reports.input.as_mut(), buffer, wait)
        })
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

/// The next input report. An empty packet is none: some devices send one behind each report that
/// fills its packets, and Linux's own HID driver passes over it, too.
fn input_report(
    mut endpoint: Option<&mut Endpoint<Interrupt, In>>,
    buffer: impl Fn(&Endpoint<Interrupt, In>) -> Buffer,
    wait: Duration,
) -> Result<Vec<u8>, TransferError> {
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let report = transfer(endpoint.as_deref_mut(), &buffer, left)?;
        if !report.is_empty() {
            return Ok(report);
        }
        if left.is_zero() {
            return Err(TransferError::Cancelled);
        }
    }
}

/// One transfer, taken back after `wait`, with a buffer made for its endpoint.
fn transfer<D: EndpointDirection>(
    endpoint: Option<&mut Endpoint<Interrupt, D>>,
    buffer: impl FnOnce(&Endpoint<Interrupt, D>) -> Buffer,
    wait: Duration,
) -> Result<Vec<u8>, TransferError> {
    let endpoint = endpoint.ok_or(TransferError::InvalidArgument)?;
    let buffer = buffer(endpoint);
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
    fn what_comes_next_waits_for_what_is_late() {
        let folder = tempfile::tempdir().expect("a folder");
        let wait = |time| Turn::wait(folder.path(), &"the hub", Deadline::after(time));
        let (short, long) = (Duration::from_millis(50), Duration::from_secs(30));
        let late = wait(long).expect("the turn");
        let error = wait(short).expect_err("busy");
        assert_eq!(error.kind, Busy, "{error}");
        std::thread::scope(|scope| {
            let next = scope.spawn(|| wait(long));
            drop(late);
            assert!(next.join().expect("joined").is_ok());
        });
        // A device that is gone holds up nobody.
        assert!(
            Turn::wait(
                &folder.path().join("gone"),
                &"the hub",
                Deadline::after(short)
            )
            .is_ok()
        );
    }
}
