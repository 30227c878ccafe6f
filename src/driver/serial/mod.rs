//! Drivers over serial: the table of their specs.

mod conrad;
mod devantech_usb;
mod numato;

use super::{By, DEVICE_TIMEOUT, DriverError, DriverSpec, Has, SHOWS_WITHIN};
use crate::settings::{Settings, SettingsError, keys};
use crate::transport::Deadline;
use crate::transport::serial::{Line, Port};
use std::time::Duration;

/// Every driver name of this transport.
pub(super) static SPECS: &[DriverSpec] = &[
    DriverSpec {
        names: &["conrad197720"],
        any_case: false,
        models: "Conrad 197720 and 197730 relay cards, up to 255 in a chain; the first has the \
                 outlets 0 to 7, the next 8 to 15",
        transport: "serial",
        outlets: Has::Within(0, 2039),
        reads_back: true,
        verified_by: "simulator on a pty, Conrad's manual and frames of the Python driver; a card's \
                      answer to a switch shows its relays. UNVERIFIED on hardware: that \
                      initialising anew leaves the relays as they are (the first reading or switch \
                      does it, and the first one after an error)",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(conrad::build),
    },
    devantech(
        &["devantech_USB-RLY02", "devantech_USB-RLY82"],
        "Devantech USB-RLY02, USB-RLY82",
        &devantech_usb::Model(2),
    ),
    devantech(
        &["devantech_USB-RLY04"],
        "Devantech USB-RLY04",
        &devantech_usb::Model(4),
    ),
    devantech(
        &["devantech_USB-RLY06"],
        "Devantech USB-RLY06",
        &devantech_usb::Model(6),
    ),
    devantech(
        &[
            "devantech_USB-RLY08B",
            "devantech_USB-RLY16",
            "devantech_USB-RLY16L",
            "devantech_USB-OPTO-RLY88",
            "devantech_USB-OPTO-RLY816",
        ],
        "Devantech USB-RLY08B, USB-RLY16, USB-RLY16L, USB-OPTO-RLY88, USB-OPTO-RLY816",
        &devantech_usb::Model(8),
    ),
    numato(
        &["NumatoUSB1"],
        "Numato Lab 1 channel USB relay module",
        &numato::Model(1),
    ),
    numato(
        &["NumatoUSB2"],
        "Numato Lab 2 channel USB relay module",
        &numato::Model(2),
    ),
    numato(
        &["NumatoUSB4"],
        "Numato Lab 4 channel USB relay module",
        &numato::Model(4),
    ),
    numato(
        &["NumatoUSB8"],
        "Numato Lab 8 channel USB relay module",
        &numato::Model(8),
    ),
    numato(
        &["NumatoUSB16"],
        "Numato Lab 16 channel USB relay module",
        &numato::Model(16),
    ),
    numato(
        &["NumatoUSB32"],
        "Numato Lab 32 channel USB relay module",
        &numato::Model(32),
    ),
    numato(
        &["NumatoUSB64"],
        "Numato Lab 64 channel USB relay module",
        &numato::Model(64),
    ),
];

/// What the key `device` is for.
const DEVICE: &str = "the line: a path (also below /dev/serial/by-id), usb:<serial number of the \
    adapter> or socket://<host>:<port> for a serial server's raw port";

keys! {
    /// What modules read that are a CDC ACM device of their own.
    struct Modem {
        device: String = "/dev/ttyACM0", DEVICE;
    }
}

const fn devantech(
    names: &'static [&'static str],
    models: &'static str,
    model: &'static devantech_usb::Model,
) -> DriverSpec {
    DriverSpec {
        names,
        any_case: false,
        models,
        transport: "serial",
        outlets: Has::Numbers(1, model.0 as u32),
        reads_back: true,
        verified_by: "simulator on a pty and Devantech's manuals of USB-RLY02, RLY08B, RLY16, \
                      RLY16L and OPTO-RLY88. UNVERIFIED: that RLY82, RLY04, RLY06 and OPTO-RLY816 \
                      answer 5B, which reads the relays",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: model,
    }
}

const fn numato(
    names: &'static [&'static str],
    models: &'static str,
    model: &'static numato::Model,
) -> DriverSpec {
    DriverSpec {
        names,
        any_case: false,
        models,
        transport: "serial",
        outlets: Has::Numbers(1, model.0),
        reads_back: true,
        verified_by: "simulator on a pty and Numato's documents. UNVERIFIED: whether 16 channel modules take lower case \
                      ids as well (the documented upper case is sent)",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: model,
    }
}

/// A line that was idle for longer is opened anew.
const IDLE: Duration = Duration::from_secs(60);

/// Which line a PDU is on, and how fast it is.
#[derive(Debug)]
struct LinePort {
    port: Port,
    baud: u32,
}

impl LinePort {
    fn new(settings: &Settings, device: &str, baud: u32) -> Result<Self, SettingsError> {
        let port = Port::parse(device).map_err(|message| settings.error("device", message))?;
        Ok(Self { port, baud })
    }

    fn open(&self, deadline: Deadline) -> Result<Line, DriverError> {
        Ok(Line::open(&self.port, self.baud, deadline)?)
    }
}

#[cfg(test)]
mod tests {
    use super::SPECS;
    use crate::driver::Outlets;
    use crate::request::{Outlet, PduName};
    use crate::settings::{Position, Settings, SettingsError};

    fn build(name: &str, text: &str) -> Result<Outlets, SettingsError> {
        let at = Position { line: 1, column: 1 };
        SPECS
            .iter()
            .find(|spec| spec.names.contains(&name))
            .unwrap_or_else(|| panic!("no driver {name}"))
            .make(&Settings::new(PduName::new("pdu1"), name, text, at))
            .map(|(_, outlets)| outlets)
    }

    #[test]
    fn outlets_out_of_range_are_refused_without_a_device() {
        for (name, good, bad) in [
            ("conrad197720", "0 2039", "2040 x -1"),
            ("devantech_USB-RLY02", "1 2", "0 3"),
            ("devantech_USB-RLY82", "2", "3"),
            ("devantech_USB-RLY04", "4", "5"),
            ("devantech_USB-RLY06", "6", "7"),
            ("devantech_USB-RLY08B", "8", "9"),
            ("devantech_USB-RLY16", "8", "9"),
            ("devantech_USB-RLY16L", "8", "9"),
            ("devantech_USB-OPTO-RLY88", "8", "9"),
            ("devantech_USB-OPTO-RLY816", "8", "9"),
            ("NumatoUSB1", "1", "0 2"),
            ("NumatoUSB2", "2", "3"),
            ("NumatoUSB4", "4", "5"),
            ("NumatoUSB8", "08", "9"),
            ("NumatoUSB16", "16", "17 f"),
            ("NumatoUSB32", "32", "33"),
            ("NumatoUSB64", "64", "65"),
        ] {
            let outlets = build(name, "{}").expect("builds");
            for outlet in good.split(' ') {
                assert!(
                    outlets.parse(&Outlet::new(outlet)).is_ok(),
                    "{name} {outlet}"
                );
            }
            for outlet in bad.split(' ') {
                assert!(
                    outlets.parse(&Outlet::new(outlet)).is_err(),
                    "{name} {outlet}"
                );
            }
        }
    }

    #[test]
    fn a_device_that_cannot_be_is_refused() {
        for text in [
            r#"{"device": "rfc2217://h:1"}"#,
            r#"{"device": ""}"#,
            r#"{"device": 7}"#,
        ] {
            let error = build("NumatoUSB8", text).expect_err("refused");
            assert_eq!(error.key.as_deref(), Some("device"), "{text}: {error}");
        }
    }
}
