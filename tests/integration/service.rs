//! The packaged service under systemd, as installed, switches every PDU that is attached to the
//! machine: only in the virtual machine of `make test-usb`, where the packages are installed and
//! the unit was started at boot. The test plays the devices; the service is reached over its port.

use crate::daemon;
use crate::sim::serial_boards::{Rly, conrad, numato};
use crate::sim::stream::{Bench, Line, Pdu};
use crate::sim::usb::{Gadget, Identity, hub_bus, plug_into_hub, until, ykush};
use crate::sim::usb_devices::{Cleware4, Cleware8, Relays, SisPm, UsbRelay, Ykush};
use pdudaemon::driver::registry;
use pdudaemon::request::{Outlet, State};
use pdudaemon::transport::Deadline;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const UNIT: &str = "pdudaemon.service";

/// Success, and all that was printed.
fn run(program: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim_end().to_owned();
    (output.status.success(), text)
}

/// What a program prints that must succeed.
fn said(program: &str, args: &[&str]) -> String {
    let (done, text) = run(program, args);
    assert!(done, "{program} {args:?}: {text}");
    text
}

fn property(name: &str) -> String {
    said("systemctl", &["show", "--property", name, "--value", UNIT])
}

/// A line of the status of the service's process.
fn status(key: &str) -> String {
    let file = format!("/proc/{}/status", property("MainPID"));
    let text = std::fs::read_to_string(file).expect("the service runs");
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.expect("a line").trim_start_matches(':').trim().into()
}

/// One request by the packaged client.
fn switch(pdu: &str, outlet: &str, command: &str) -> (bool, String) {
    let place = ["--http", "--daemon", "localhost", "--hostname", pdu];
    run(
        "pduclient",
        &[&place[..], &["--port", outlet, "--command", command]].concat(),
    )
}

fn state(pdu: &str, outlet: &str) -> String {
    let address = ([127, 0, 0, 1], 16421).into();
    daemon::get(address, &format!("get-status?hostname={pdu}&port={outlet}")).1
}

/// The PDUs behind one device, and how its outlets are looked at without the service.
struct Row {
    names: &'static [&'static str],
    settings: Value,
    /// The first and the last; for each name, or one for all.
    outlets: &'static [[&'static str; 2]],
    is_on: Box<dyn Fn(&str) -> bool>,
}

fn row(
    names: &'static [&'static str],
    settings: Value,
    outlets: &'static [[&'static str; 2]],
    is_on: impl Fn(&str) -> bool + 'static,
) -> Row {
    Row {
        names,
        settings,
        outlets,
        is_on: Box::new(is_on),
    }
}

fn number(outlet: &str) -> usize {
    outlet.parse().expect("a number")
}

fn watch(relays: &Relays) -> impl Fn(&str) -> bool + 'static {
    let relays = relays.clone();
    move |outlet| relays.get(number(outlet))
}

/// A serial board behind a USB serial port; what is in its place must stay until the end.
struct Serial {
    gadget: Gadget,
    _bench: Bench,
}

fn serial(
    identity: &Identity,
    board: impl Pdu + 'static,
) -> (Serial, impl Fn(&str) -> bool + 'static) {
    let board = Arc::new(Mutex::new(board));
    let mut bench = None;
    let connect =
        |tty: &str| bench = Some(Bench::start(Line::Tty(tty.to_owned()), Arc::clone(&board)));
    let gadget = Gadget::plug_serial(identity, connect);
    let board = Arc::clone(&board);
    let plugged = Serial {
        gadget,
        _bench: bench.expect("the device's end"),
    };
    (plugged, move |outlet| {
        let board = board.lock().expect("lock");
        board.is_on(outlet).expect("one of its outlets")
    })
}

fn uhubctl_port(bus: &str, outlet: &str) -> bool {
    let text = said("uhubctl", &["-f", "-l", bus, "-p", outlet]);
    text.contains("power")
}

fn usbhub_port(bus: &str, outlet: &str) -> bool {
    let settings = json!({ "location": bus });
    let state = crate::faults_tcp::build("usbhub", settings).state(
        &Outlet::new(outlet),
        Deadline::after(Duration::from_secs(20)),
    );
    state == Ok(State::On)
}

/// A file that the service's own user writes.
fn home(name: &str) -> String {
    let text = std::fs::read_to_string(format!("/var/lib/pdudaemon/{name}"));
    text.unwrap_or_default().trim().to_owned()
}

fn configure(rows: &[Row]) {
    let mut pdus = serde_json::Map::new();
    for row in rows {
        for name in row.names {
            let mut pdu = row.settings.clone();
            pdu["driver"] = json!(name);
            pdu["retries"] = json!(1);
            if row.names.len() > 1 {
                // One device under several names: they share its wire.
                pdu["bus"] = json!(row.names[0]);
            }
            pdus.insert(name.to_string(), pdu);
        }
    }
    pdus.insert(
        "foreign".into(),
        json!({"driver": "localcmdline", "cmd_on": ": < %s", "retries": 1}),
    );
    let config = json!({
        "daemon": {
            "hostname": "localhost",
            "port": 16421,
            "state_directory": "/var/lib/pdudaemon",
        },
        "pdus": pdus,
    });
    // An administrator's edit: owner and mode stay as the package made them.
    std::fs::write("/etc/pdudaemon/pdudaemon.conf", config.to_string()).expect("a config");
    said("pdudaemon", &["--check", "--strict"]);
    said("systemctl", &["restart", UNIT]);
}

/// Nothing was done to the service but the configuration, and it is confined.
fn assert_as_packaged() {
    assert_eq!(property("ActiveState"), "active");
    assert_eq!(property("DropInPaths"), "");
    let changed = run("dpkg", &["--verify", "pdudaemon"]).1;
    let changed: Vec<&str> = changed
        .lines()
        .filter(|line| !line.ends_with("/pdudaemon.conf"))
        .collect();
    assert!(changed.is_empty(), "changed: {changed:?}");
    let user = said("id", &["-u", "pdudaemon"]);
    let ids: Vec<String> = status("Uid")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(ids, vec![user; 4]);
    assert_ne!(ids[0], "0");
    for (key, value) in [
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        assert_eq!(status(key), value, "{key}");
    }
}

/// A device that everybody may open is none for the service.
fn assert_other_devices_are_out_of_reach() {
    let tty = "/dev/ttyGS0";
    std::fs::set_permissions(tty, Permissions::from_mode(0o666)).expect("permissions");
    let open = format!(": < {tty}");
    said("runuser", &["-u", "pdudaemon", "--", "sh", "-c", &open]);
    let (done, words) = switch("foreign", tty, "on");
    assert!(!done && words.contains("not permitted"), "{words}");
}

/// Every device of the machine, plugged in, with the drivers that stand for it.
fn plug_everything() -> (Vec<Row>, Vec<Gadget>, Vec<Serial>) {
    let (mut rows, mut gadgets, mut boards) = (Vec::new(), Vec::new(), Vec::new());
    let ykushs: [(&[&str], &[[&str; 2]]); 3] = [
        (&["YKUSH"], &[["1", "3"]]),
        (&["YKUSH3"], &[["1", "3"]]),
        (&["YKUSHXS"], &[["1", "1"]]),
    ];
    for (names, outlets) in ykushs {
        let emulation = Ykush::default();
        let is_on = watch(&emulation.relays);
        let identity = ykush(names[0]).expect("one of them");
        let settings = json!({ "serial": identity.serial });
        gadgets.push(Gadget::plug(&identity, emulation));
        rows.push(row(names, settings, outlets, is_on));
    }

    let relays = Relays::default();
    let is_on = watch(&relays);
    gadgets.push(Gadget::plug(
        &Cleware4::identity(),
        Cleware4 {
            relays,
            ..Cleware4::default()
        },
    ));
    let settings = json!({ "serial": 560_031 });
    rows.push(row(&["ClewareUsbSwitch4"], settings, &[["1", "4"]], is_on));

    let relays = Relays::default();
    let is_on = watch(&relays);
    gadgets.push(Gadget::plug(&Cleware8::identity(), Cleware8 { relays }));
    let settings = json!({ "serial": 560_032 });
    rows.push(row(&["ClewareUsbSwitch8"], settings, &[["1", "8"]], is_on));

    let relays = Relays::default();
    let is_on = watch(&relays);
    gadgets.push(Gadget::plug(&UsbRelay::identity(), UsbRelay { relays }));
    let settings = json!({ "serial": "BITFT" });
    rows.push(row(&["vusbhid"], settings, &[["1", "8"]], is_on));

    let relays = Relays::default();
    let is_on = watch(&relays);
    gadgets.push(Gadget::plug(
        &SisPm::identity(),
        SisPm {
            relays,
            ..SisPm::default()
        },
    ));
    let settings = json!({ "device": SisPm::ID });
    rows.push(row(&["EG-PMS", "EG-PM2"], settings, &[["1", "4"]], is_on));

    // Two boards that the rules know by their numbers, and one behind a common adapter, which the
    // service may open as a member of dialout; each by another form of the key `device`.
    let identity = Identity::new(
        0x2a19,
        0x0c02,
        "NL32",
        "Numato Lab 32 Channel USB Relay Module",
    );
    let (board, is_on) = serial(&identity, numato(32));
    boards.push(board);
    rows.push(row(
        &[
            "NumatoUSB1",
            "NumatoUSB2",
            "NumatoUSB4",
            "NumatoUSB8",
            "NumatoUSB16",
            "NumatoUSB32",
        ],
        json!({ "device": "usb:NL32" }),
        &[
            ["1", "1"],
            ["1", "2"],
            ["1", "4"],
            ["1", "8"],
            ["1", "16"],
            ["1", "32"],
        ],
        is_on,
    ));
    let identity = Identity::new(
        0x2a19,
        0x0c03,
        "NL64",
        "Numato Lab 64 Channel USB Relay Module",
    );
    let (board, is_on) = serial(&identity, numato(64));
    boards.push(board);
    let settings = json!({ "device": "usb:NL64" });
    rows.push(row(&["NumatoUSB64"], settings, &[["1", "64"]], is_on));

    let identity = Identity::new(0x04d8, 0xffee, "00001234", "USB-RLY16");
    let (board, is_on) = serial(&identity, Rly::default());
    boards.push(board);
    rows.push(row(
        &[
            "devantech_USB-RLY02",
            "devantech_USB-RLY82",
            "devantech_USB-RLY04",
            "devantech_USB-RLY06",
            "devantech_USB-RLY08B",
            "devantech_USB-RLY16",
            "devantech_USB-RLY16L",
            "devantech_USB-OPTO-RLY88",
            "devantech_USB-OPTO-RLY816",
        ],
        json!({ "device": "/dev/serial/by-id/usb-emulated_USB-RLY16_00001234-if00" }),
        &[
            ["1", "2"],
            ["1", "2"],
            ["1", "4"],
            ["1", "6"],
            ["1", "8"],
            ["1", "8"],
            ["1", "8"],
            ["1", "8"],
            ["1", "8"],
        ],
        is_on,
    ));

    let identity = Identity::new(0x0403, 0x6001, "A6008isP", "FT232R USB UART");
    let (board, is_on) = serial(&identity, conrad(2));
    let settings = json!({ "device": board.gadget.tty() });
    boards.push(board);
    rows.push(row(&["conrad197720"], settings, &[["0", "15"]], is_on));

    // A hub's port with a device on it, for both drivers of hubs; looked at by the other.
    let identity = Identity::new(
        0x04d8,
        0x0042,
        "X1",
        "a board that gets its power from the hub",
    );
    gadgets.push(plug_into_hub(&identity, Ykush::default()));
    let bus = hub_bus();
    let settings = json!({ "location": bus });
    let other = bus.clone();
    let is_on = move |outlet: &str| uhubctl_port(&other, outlet);
    rows.push(row(&["usbhub"], settings.clone(), &[["1", "1"]], is_on));
    let is_on = move |outlet: &str| usbhub_port(&bus, outlet);
    rows.push(row(&["uhubctl"], settings, &[["1", "1"]], is_on));
    (rows, gadgets, boards)
}

/// The drivers that run commands.
fn commands() -> [Row; 2] {
    let bcu = include_str!("sim/bcu.sh");
    std::fs::write("/usr/local/bin/bcu", bcu).expect("bcu");
    let executable = Permissions::from_mode(0o755);
    std::fs::set_permissions("/usr/local/bin/bcu", executable).expect("permissions");
    let settings = json!({
        "cmd_on": "echo on > $HOME/relay-%s",
        "cmd_off": "echo off > $HOME/relay-%s",
        "cmd_status": "cat $HOME/relay-%s",
    });
    [
        row(&["bcu"], json!({}), &[["1", "1"]], |_| {
            home("bcu-reset") == "1"
        }),
        row(&["localcmdline"], settings, &[["1", "left"]], |outlet| {
            home(&format!("relay-{outlet}")) == "on"
        }),
    ]
}

/// Both outlets of every driver, on and off again; what is wrong with it.
fn exercise(row: &Row) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, name) in row.names.iter().enumerate() {
        let ends = row.outlets.get(index).unwrap_or(&row.outlets[0]);
        for outlet in BTreeSet::from(*ends) {
            for to in ["on", "off"] {
                let (done, words) = switch(name, outlet, to);
                // Some devices take a report and answer nothing: a moment later they have switched.
                let patience = Deadline::after(Duration::from_secs(10));
                while done && (row.is_on)(outlet) != (to == "on") && patience.left("").is_ok() {
                    std::thread::sleep(Duration::from_millis(10));
                }
                let (is_on, state) = ((row.is_on)(outlet), state(name, outlet));
                if !done || is_on != (to == "on") || state.trim() != to {
                    wrong.push(format!(
                        "{name} {outlet} {to}: {words}; is on: {is_on}; read back: {state}"
                    ));
                }
            }
        }
        println!("{name}: switched and read back");
    }
    wrong
}

#[test]
#[ignore = "needs the virtual machine of make test-usb"]
fn the_packaged_unit_switches_every_pdu_of_the_machine() {
    until("the service to be up", || {
        property("ActiveState") == "active"
    });
    assert_as_packaged();
    let (mut rows, gadgets, boards) = plug_everything();
    rows.extend(commands());
    let names: BTreeSet<&str> = rows.iter().flat_map(|row| row.names).copied().collect();
    let known: BTreeSet<&str> = registry::specs()
        .filter(|spec| ["usb", "serial", "command"].contains(&spec.transport))
        .flat_map(|spec| spec.names)
        .copied()
        // They play other people's programs: the install test tries them below the packaged unit.
        .filter(|name| !["exec", "fence", "python"].contains(name))
        .collect();
    assert_eq!(names, known, "every driver of local hardware is tried");

    said("udevadm", &["settle", "--timeout=120"]);
    configure(&rows);
    assert_as_packaged();
    let wrong: Vec<String> = rows.iter().flat_map(exercise).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // Put back, a device is the group's again.
    gadgets[0].unplug();
    let (done, words) = switch("YKUSH", "1", "on");
    assert!(!done && words.contains("YKUSH"), "{words}");
    gadgets[0].replug();
    said("udevadm", &["settle", "--timeout=120"]);
    let (done, words) = switch("YKUSH", "1", "on");
    assert!(done, "{words}");
    assert!((rows[0].is_on)("1"));

    // Their ttys are free then.
    drop(boards);
    assert_other_devices_are_out_of_reach();
    // Nobody had to start it again.
    assert_eq!(property("NRestarts"), "0");
    assert_as_packaged();
    let limit = ["security", "--no-pager", "--threshold=30", UNIT];
    let exposure = said("systemd-analyze", &limit);
    println!("{}", exposure.lines().last().unwrap_or_default());
}
