//! `pdudaemon --discover`: the attached devices that a driver knows, as a config to paste from.
//!
//! We know USB devices by the numbers in their drivers' tables, hubs by their class, serial relay
//! boards by the USB identity of their port.

use crate::driver::usb::{MODELS, Model, switchable_ports};
use crate::transport::usb::{Attached, list};
use crate::transport::{Deadline, TransportError};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one device may take to give its serial number.
const PATIENCE: Duration = Duration::from_secs(2);

/// Serial relay boards by vendor and product (none: any product of the vendor), the driver to
/// write down, and how to choose the right one.
struct SerialBoard {
    vendor: u16,
    product: Option<u16>,
    driver: &'static str,
    about: &'static str,
}

static SERIAL_BOARDS: &[SerialBoard] = &[
    SerialBoard {
        vendor: 0x2a19,
        product: None,
        driver: "NumatoUSB8",
        about: "Numato relay board; the number in the driver's name is that of its relays: 1, 2, 4, 8, 16, 32 or 64",
    },
    SerialBoard {
        vendor: 0x04d8,
        product: Some(0xffee),
        driver: "devantech_USB-RLY08B",
        about: "Devantech relay board; write the driver of your model (see pdudaemon --list-drivers)",
    },
];

/// Vendor and product (none: any) of the serial relay boards, for the udev rules.
pub fn serial_boards() -> impl Iterator<Item = (u16, Option<u16>)> {
    SERIAL_BOARDS
        .iter()
        .map(|board| (board.vendor, board.product))
}

/// A device that a driver knows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    driver: String,
    /// The key that chooses it, and the value; none when there is nothing to choose by.
    key: Option<(String, Value)>,
    /// What a person should know.
    about: String,
}

/// Looks at everything attached; gives a config with an entry for each device. The entry of a device
/// that we may not open says so.
pub fn discover() -> Result<String, TransportError> {
    let mut found: Vec<Found> = list(Deadline::after(PATIENCE))?
        .iter()
        .flat_map(look_at)
        .collect();
    found.extend(serial_ports(Path::new("/sys/class/tty")));
    Ok(config(&found))
}

/// The USB device, if a driver knows it.
fn look_at(attached: &Attached) -> Option<Found> {
    let (vendor, product) = attached.ids();
    let is_ours = |model: &&Model| model.vendor == vendor && model.products.contains(&product);
    let deadline = Deadline::after(PATIENCE);
    if let Some(model) = MODELS.iter().find(is_ours) {
        let path = ("path".to_owned(), Value::from(attached.path()));
        let at = format!(
            "{} at {}, {} outlets",
            model.what,
            attached.path(),
            model.outlets
        );
        let (key, about) = match (model.identify)(attached, deadline) {
            // Another product with the same numbers.
            Ok(None) => return None,
            Ok(Some(serial)) if serial.is_empty() => (path, at),
            Ok(Some(serial)) => ((model.key.to_owned(), Value::from(serial)), at),
            Err(error) => (path, format!("{at}; {error}")),
        };
        return Some(Found {
            driver: model.names.first()?.to_string(),
            key: Some(key),
            about,
        });
    }
    let ports = switchable_ports(attached, deadline)?;
    Some(Found {
        driver: "usbhub".into(),
        key: Some(("location".into(), attached.path().into())),
        about: format!(
            "{} with {ports} ports that it says it can switch one by one; try with a lamp",
            attached.product().unwrap_or("USB hub")
        ),
    })
}

/// The serial ports that belong to a relay board. `ttys` is sysfs's folder of them.
fn serial_ports(ttys: &Path) -> Vec<Found> {
    let mut folders: Vec<PathBuf> = fs::read_dir(ttys)
        .map(|entries| {
            entries
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .collect()
        })
        .unwrap_or_default();
    folders.sort();
    folders
        .iter()
        .filter_map(|folder| serial_port(folder))
        .collect()
}

fn serial_port(tty: &Path) -> Option<Found> {
    let interface = fs::canonicalize(tty.join("device")).ok()?;
    let device = interface
        .ancestors()
        .find(|folder| folder.join("idVendor").exists())?;
    let attribute = |name: &str| {
        let text = fs::read_to_string(device.join(name)).ok()?;
        let text = text.trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    let number = |name: &str| u16::from_str_radix(&attribute(name)?, 16).ok();
    let (vendor, product) = (number("idVendor")?, number("idProduct")?);
    let board = SERIAL_BOARDS.iter().find(|board| {
        board.vendor == vendor && board.product.is_none_or(|wanted| wanted == product)
    })?;
    let node = format!("/dev/{}", tty.file_name()?.to_string_lossy());
    let value = attribute("serial").map_or_else(|| node.clone(), |serial| format!("usb:{serial}"));
    let name = attribute("product").unwrap_or_default();
    Some(Found {
        driver: board.driver.into(),
        key: Some(("device".into(), value.into())),
        about: format!("{} ({name} at {node})", board.about),
    })
}

/// The config for these devices.
fn config(found: &[Found]) -> String {
    let mut pdus = Map::new();
    for (number, found) in found.iter().enumerate() {
        let mut pdu = Map::new();
        pdu.insert("driver".into(), found.driver.clone().into());
        if let Some((key, value)) = &found.key {
            pdu.insert(key.clone(), value.clone());
        }
        pdu.insert("about".into(), found.about.clone().into());
        let name = format!("{}-{}", found.driver.to_ascii_lowercase(), number + 1);
        pdus.insert(name, pdu.into());
    }
    let config = json!({
        "daemon": { "hostname": "127.0.0.1", "port": 16421 },
        "pdus": pdus,
    });
    // A map of texts and numbers is always JSON.
    let mut text = serde_json::to_string_pretty(&config).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_found_becomes_a_config() {
        let found = Found {
            driver: "YKUSH".into(),
            key: Some(("serial".into(), "YK12345".into())),
            about: "YKUSH at 1-2".into(),
        };
        let text = config(&[found]);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            value["pdus"]["ykush-1"],
            json!({"driver": "YKUSH", "serial": "YK12345", "about": "YKUSH at 1-2"})
        );
        assert!(serde_json::from_str::<Value>(&config(&[])).is_ok());
    }

    #[test]
    fn serial_boards_are_known_by_the_identity_of_their_port() {
        let sys = tempfile::tempdir().expect("a folder");
        let ttys = sys.path().join("tty");
        fs::create_dir(&ttys).expect("a folder");
        for (tty, vendor, product, serial) in [
            ("ttyACM0", "2a19", "0c02", "NL1"),
            ("ttyACM1", "04d8", "ffee", ""),
            ("ttyUSB0", "0403", "6001", "FT1"),
        ] {
            let device = sys.path().join(format!("usb-{tty}"));
            let interface = device.join("1-1:1.0");
            fs::create_dir_all(&interface).expect("a folder");
            for (name, value) in [
                ("idVendor", vendor),
                ("idProduct", product),
                ("serial", serial),
            ] {
                fs::write(device.join(name), format!("{value}\n")).expect("an attribute");
            }
            fs::create_dir(ttys.join(tty)).expect("a folder");
            symlink(&interface, ttys.join(tty).join("device")).expect("a link");
        }
        fs::create_dir(ttys.join("tty0")).expect("a folder");
        let found: Vec<(String, Option<(String, Value)>)> = serial_ports(&ttys)
            .into_iter()
            .map(|found| (found.driver, found.key))
            .collect();
        let device = |value: &str| Some(("device".to_owned(), Value::from(value)));
        assert_eq!(
            found,
            [
                ("NumatoUSB8".to_owned(), device("usb:NL1")),
                ("devantech_USB-RLY08B".to_owned(), device("/dev/ttyACM1")),
            ]
        );
    }
}
