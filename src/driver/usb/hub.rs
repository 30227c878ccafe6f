//! `usbhub`: the ports of a hub with per-port power switching, by the hub class requests of the
//! USB specification (2.0, 11.24; 3.2, 10.16), without uhubctl.
//!
//! A USB 3 hub is two hubs in one box, a USB 2 and a USB 3 one; the current flows while either
//! half of a port is powered, so both are switched. The kernel's hub driver knows nothing of
//! what goes past it over usbfs, and powers a port again when a device disappears from it: so the
//! port's `disable` file in sysfs is preferred where it may be written, and an off is looked at
//! again after a while and repeated.

use super::unexpected;
use crate::driver::{
    By, DEVICE_TIMEOUT, Driver, DriverError, DriverSpec, Has, Outlets, SHOWS_WITHIN, outlet_number,
};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Settings, SettingsError, TextOrNumber, keys};
use crate::transport::aside::aside;
use crate::transport::usb::{Attached, Device, Setup, list};
use crate::transport::{Attempt, Deadline, Timed, TransportError, TransportErrorKind, pause};
use nusb::transfer::{ControlType, Recipient};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &["usbhub"],
    any_case: false,
    models: "USB hubs with per-port power switching (see uhubctl's list), USB 2 and USB 3",
    transport: "usb",
    outlets: Has::Within(1, 127),
    reads_back: true,
    verified_by: "emulated USB 2 and USB 3 root hubs of a real Linux kernel; no hardware. Many hubs claim to switch and leave the power on: try with a lamp",
    timeout: DEVICE_TIMEOUT,
    shows_within: SHOWS_WITHIN,
    build: &By(build),
};

/// How long the kernel may take to power a port again.
const SETTLE: Duration = Duration::from_millis(300);

/// How often an off is sent at most when the kernel takes it back.
const TRIES: u32 = 3;

keys! {
    struct Keys {
        location: TextOrNumber,
            "where the hub is plugged in, as uhubctl writes it: 1-2.4, or 1 for the root hub of bus 1";
        companion: Option<TextOrNumber>,
            "the location of the hub's other half (USB 2 or USB 3), where the kernel does not know it";
        force: bool = false,
            "switch although the hub says that it cannot switch its ports one by one";
    }
}

struct UsbHub(Keys);

fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let is_location = |text: &str| {
        !text.is_empty()
            && text
                .split(['-', '.'])
                .all(|part| part.parse::<u8>().is_ok_and(|number| number > 0))
    };
    for (key, value) in [
        ("location", Some(&*keys.location)),
        ("companion", keys.companion.as_deref()),
    ] {
        if value.is_some_and(|value| !is_location(value)) {
            return Err(settings.error(key, "expected a hub's location as 1-2.4, or 1"));
        }
    }
    Ok(Box::new(UsbHub(keys)))
}

/// A hub class request to a port (recipient other).
fn to_port(request: u8, value: u16, port: u8) -> Setup {
    Setup {
        kind: ControlType::Class,
        recipient: Recipient::Other,
        request,
        value,
        index: u16::from(port),
    }
}

/// SetPortFeature and ClearPortFeature with PORT_POWER.
fn switch_request(port: u8, to: Switch) -> Setup {
    const CLEAR_FEATURE: u8 = 1;
    const SET_FEATURE: u8 = 3;
    const PORT_POWER: u16 = 8;
    let request = match to {
        Switch::On => SET_FEATURE,
        Switch::Off => CLEAR_FEATURE,
    };
    to_port(request, PORT_POWER, port)
}

/// GetPortStatus; four bytes.
fn status_request(port: u8) -> Setup {
    to_port(0, 0, port)
}

/// The power bit of a port's status; it has another place on a USB 3 hub.
fn is_powered(is_super_speed: bool, status: &[u8]) -> Result<bool, DriverError> {
    let [low, high, _, _] = *status else {
        return Err(unexpected("a port's status of 4 bytes", status));
    };
    let mask = if is_super_speed { 0x0200 } else { 0x0100 };
    Ok(u16::from_le_bytes([low, high]) & mask != 0)
}

/// GetDescriptor of the hub descriptor.
fn descriptor_request(is_super_speed: bool) -> Setup {
    Setup {
        kind: ControlType::Class,
        recipient: Recipient::Device,
        request: 6,
        value: if is_super_speed { 0x2a00 } else { 0x2900 },
        index: 0,
    }
}

/// What a hub descriptor tells.
#[derive(Debug, PartialEq, Eq)]
struct Abilities {
    ports: u8,
    /// Are the ports powered one by one?
    individual: bool,
}

fn abilities(descriptor: &[u8]) -> Result<Abilities, DriverError> {
    match descriptor {
        [_, 0x29 | 0x2a, ports, characteristics, ..] => Ok(Abilities {
            ports: *ports,
            individual: characteristics & 0b11 == 0b01,
        }),
        other => Err(unexpected("a hub descriptor", other)),
    }
}

/// The number of ports of a hub that says it can switch them one by one; `None` from anything
/// else, and from a hub that may not be opened.
pub fn switchable_ports(attached: &Attached, deadline: Deadline) -> Option<u8> {
    if !attached.is_hub() {
        return None;
    }
    let setup = descriptor_request(attached.is_super_speed());
    let descriptor = attached
        .open(deadline)
        .ok()?
        .control_in(setup, 16, deadline)
        .ok()?;
    let abilities = abilities(&descriptor).ok()?;
    abilities.individual.then_some(abilities.ports)
}

/// One half of a port: its hub, opened, and its number there.
struct Half {
    device: Device,
    port: u8,
}

impl Half {
    fn open(location: &str, port: u8, deadline: Deadline) -> Result<Self, TransportError> {
        let hubs: Vec<Attached> = list(deadline)?
            .into_iter()
            .filter(Attached::is_hub)
            .collect();
        let is_it = |hub: &&Attached| hub.path() == location;
        let hub = hubs.iter().find(is_it).ok_or_else(|| {
            let paths: Vec<String> = hubs.iter().map(Attached::path).collect();
            TransportError::new(
                TransportErrorKind::NotFound,
                format!("no hub at {location} (hubs: {})", paths.join(", ")),
            )
        })?;
        Ok(Self {
            device: hub.open(deadline)?,
            port,
        })
    }

    fn is_super_speed(&self) -> bool {
        self.device.attached().is_super_speed()
    }

    /// The port's folder in sysfs: `<hub>/<hub>:1.0/<hub>-port<N>`.
    fn folder(&self) -> Option<PathBuf> {
        let hub = self.device.attached().sysfs();
        let port = format!("{}-port{}", hub.file_name()?.to_string_lossy(), self.port);
        std::fs::read_dir(hub)
            .ok()?
            .filter_map(Result::ok)
            .map(|entry| entry.path().join(&port))
            .find(|folder| folder.is_dir())
    }

    /// The location and port of the other half, as far as the kernel knows it.
    fn peer(&self) -> Option<(String, u8)> {
        let link = std::fs::read_link(self.folder()?.join("peer")).ok()?;
        peer_of(&link.file_name()?.to_string_lossy())
    }

    fn abilities(&self, deadline: Deadline) -> Result<Abilities, DriverError> {
        let setup = descriptor_request(self.is_super_speed());
        abilities(&self.device.control_in(setup, 16, deadline)?)
    }

    fn is_powered(&self, deadline: Deadline) -> Result<bool, DriverError> {
        let setup = status_request(self.port);
        is_powered(
            self.is_super_speed(),
            &self.device.control_in(setup, 4, deadline)?,
        )
    }

    fn switch(&self, to: Switch, attempt: &Attempt) -> Result<(), DriverError> {
        let deadline = attempt.deadline();
        let value = match to {
            Switch::On => "0",
            Switch::Off => "1",
        };
        let path = self.folder().map(|folder| folder.join("disable"));
        let file = path.and_then(|path| OpenOptions::new().write(true).open(path).ok());
        if let Some(mut file) = file {
            let turn = self.device.turn(deadline)?;
            let write = move || {
                let written = file.write_all(value.as_bytes());
                drop(turn);
                written
            };
            attempt.sent();
            let doing = "switching the port by the kernel";
            if aside(doing, TransportErrorKind::Timeout, deadline, write)?.is_ok() {
                return Ok(());
            }
        }
        // Where the kernel has no such file for the port, or has failed, the hub is asked over its
        // head.
        let setup = switch_request(self.port, to);
        Ok(self.device.control_out(setup, &[], attempt)?)
    }
}

/// Reads the name of a port's folder: `usb2-port1`, `2-1.4-port3`.
fn peer_of(name: &str) -> Option<(String, u8)> {
    let (hub, port) = name.rsplit_once("-port")?;
    let hub = hub.strip_prefix("usb").unwrap_or(hub);
    Some((hub.to_owned(), port.parse().ok()?))
}

impl UsbHub {
    /// Both halves of a port (one, on a USB 2 hub), after checking that the hub can switch it.
    fn halves(&self, outlet: &Outlet, deadline: Deadline) -> Result<Vec<Half>, DriverError> {
        let first = Half::open(&self.0.location, outlet_number(outlet)?, deadline)?;
        let ports = first.abilities(deadline)?.ports;
        Outlets::Range(1..=u32::from(ports)).parse(outlet)?;
        let peer = match &self.0.companion {
            Some(location) => Some((location.to_string(), first.port)),
            None => first.peer(),
        };
        let mut halves = vec![first];
        if let Some((location, port)) = peer {
            halves.push(Half::open(&location, port, deadline)?);
        }
        Ok(halves)
    }

    fn refuse_ganged(&self, halves: &[Half], deadline: Deadline) -> Result<(), DriverError> {
        for half in halves {
            if !self.0.force && !half.abilities(deadline)?.individual {
                return Err(DriverError::Refused(format!(
                    "the hub at {} cannot switch its ports one by one (force: true tries all the \
                     same)",
                    half.device.attached().path()
                )));
            }
        }
        Ok(())
    }
}

/// Does either half of the port have power?
fn any_powered(halves: &[Half], deadline: Deadline) -> Result<bool, DriverError> {
    for half in halves {
        if half.is_powered(deadline)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Switches both halves.
fn switch_all(halves: &[Half], to: Switch, attempt: &Attempt) -> Result<(), DriverError> {
    halves.iter().try_for_each(|half| half.switch(to, attempt))
}

/// Looks whether the port stays off; repeats an off that the kernel has taken back.
fn hold_off(halves: &[Half], attempt: &Attempt) -> Result<Proof, DriverError> {
    let deadline = attempt.deadline();
    for repeats_left in (0..TRIES).rev() {
        pause(deadline.within(SETTLE).left("the port to settle")?);
        if !any_powered(halves, deadline)? {
            return Ok(Proof::State);
        }
        if repeats_left > 0 {
            switch_all(halves, Switch::Off, attempt)?;
        }
    }
    Ok(Proof::Reply)
}

impl Driver for UsbHub {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let deadline = attempt.deadline();
        let halves = self.halves(outlet, deadline)?;
        self.refuse_ganged(&halves, deadline)?;
        switch_all(&halves, to, attempt)?;
        match to {
            Switch::On => Ok(Proof::Reply),
            Switch::Off => hold_off(&halves, attempt),
        }
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let halves = self.halves(outlet, deadline)?;
        Ok(if any_powered(&halves, deadline)? {
            State::On
        } else {
            State::Off
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::PduName;
    use crate::settings::Position;

    #[test]
    fn requests_are_the_specifications() {
        let fields = |setup: Setup| (setup.request, setup.value, setup.index);
        assert_eq!(fields(switch_request(2, Switch::On)), (3, 8, 2));
        assert_eq!(fields(switch_request(2, Switch::Off)), (1, 8, 2));
        assert_eq!(fields(status_request(4)), (0, 0, 4));
        assert_eq!(descriptor_request(false).value, 0x2900);
        assert_eq!(descriptor_request(true).value, 0x2a00);
    }

    #[test]
    fn statuses_and_descriptors_are_read() {
        assert_eq!(is_powered(false, &[0x03, 0x05, 0, 0]), Ok(true));
        assert_eq!(is_powered(false, &[0x00, 0x02, 0, 0]), Ok(false));
        assert_eq!(is_powered(true, &[0xa0, 0x02, 0, 0]), Ok(true));
        assert_eq!(is_powered(true, &[0x00, 0x01, 0, 0]), Ok(false));
        assert!(is_powered(true, &[0]).is_err());
        let four = Abilities {
            ports: 4,
            individual: true,
        };
        assert_eq!(
            abilities(&[9, 0x29, 4, 0x09, 0, 50, 100, 0, 0xff]),
            Ok(four)
        );
        let ganged = Abilities {
            ports: 2,
            individual: false,
        };
        assert_eq!(
            abilities(&[9, 0x29, 2, 0x08, 0, 50, 100, 0, 0xff]),
            Ok(ganged)
        );
        assert!(abilities(&[9, 0x02, 4, 9]).is_err());
        assert!(abilities(&[]).is_err());
    }

    #[test]
    fn locations_are_read_as_uhubctl_and_the_kernel_write_them() {
        assert_eq!(peer_of("usb2-port1"), Some(("2".into(), 1)));
        assert_eq!(peer_of("2-1.4-port3"), Some(("2-1.4".into(), 3)));
        assert_eq!(peer_of("power"), None);
        let build = |json: &str| {
            By(build).of(&Settings::new(
                PduName::new("pdu"),
                "usbhub",
                json,
                Position { line: 1, column: 1 },
            ))
        };
        for good in ["1", "1-2", "10-2.4.4"] {
            assert!(
                build(&format!(r#"{{"location": "{good}"}}"#)).is_ok(),
                "{good}"
            );
        }
        for bad in ["", "1-", "usb1", "1-2/../3", "1-0"] {
            assert!(
                build(&format!(r#"{{"location": "{bad}"}}"#)).is_err(),
                "{bad}"
            );
        }
        assert!(build("{}").is_err());
    }
}
