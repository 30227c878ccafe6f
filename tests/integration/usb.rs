//! The USB drivers and the shipped program switch emulated devices behind a real Linux USB stack:
//! only in the virtual machine of `make test-usb`, which runs these with `--include-ignored`.

use crate::sim::usb::{Gadget, Identity, hub_bus, plug_into_hub, unplug_all, until};
use crate::sim::usb_devices::{Adapter, Cleware4, Relays, SisPm, UsbRelay, Ykush};
use crate::transcript;
use crate::transcript::{Confirmed, Failed};
use pdudaemon::driver::{Driver, DriverError, registry};
use pdudaemon::request::{Outlet, PduName, State, Switch};
use pdudaemon::settings::{Position, Settings};
use pdudaemon::transport::{Deadline, TransportErrorKind};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const AMPLE: Duration = Duration::from_secs(20);

/// A user without any right to the devices.
const NOBODY: u32 = 65534;

fn driver(name: &str, json: &str) -> Box<dyn Driver> {
    let at = Position { line: 1, column: 1 };
    let settings = Settings::new(PduName::new("pdu"), name, json, at);
    let spec = registry::find(name).expect("a driver");
    spec.make(&settings).expect("builds").0
}

fn switch(driver: &mut dyn Driver, outlet: &str, to: Switch) -> Result<(), Failed> {
    driver.confirmed(&Outlet::new(outlet), to, Deadline::after(AMPLE))
}

fn kind(result: Result<(), Failed>) -> Option<TransportErrorKind> {
    match result.as_ref().map_err(|failed| &failed.error) {
        Err(DriverError::Transport(error)) => Some(error.kind),
        _ => None,
    }
}

/// One request by the shipped program; its success, and all it printed.
fn drive(conf: &Path, pdu: &str, outlet: &str, request: &str, user: u32) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pdudaemon"))
        .arg("--conf")
        .arg(conf)
        .args([
            "--drive",
            "--hostname",
            pdu,
            "--port",
            outlet,
            "--request",
            request,
        ])
        .args(["--retries", "1"])
        .uid(user)
        .gid(user)
        .output()
        .expect("the program runs");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn config(text: &str) -> PathBuf {
    let path = std::env::temp_dir().join("pdudaemon.conf");
    std::fs::write(&path, text).expect("a config");
    path
}

/// A tool of Debian as second opinion.
fn tool(name: &str, args: &[&str]) -> String {
    let tools = PathBuf::from(std::env::var_os("PDUD_USB_TOOLS").expect("the tools"));
    let program = ["usr/bin", "usr/sbin", "sbin", "bin"]
        .iter()
        .map(|folder| tools.join(folder).join(name))
        .find(|program| program.exists())
        .unwrap_or_else(|| panic!("no {name} in {}", tools.display()));
    let libraries = [
        "usr/lib/x86_64-linux-gnu",
        "lib/x86_64-linux-gnu",
        "usr/lib",
    ]
    .map(|folder| tools.join(folder).display().to_string())
    .join(":");
    let output = Command::new(program)
        .args(args)
        .env("LD_LIBRARY_PATH", libraries)
        .output()
        .expect("the tool runs");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
#[ignore = "needs the virtual machine of make test-usb"]
fn every_usb_transcript_holds() {
    let cases = transcript::cases();
    let wrong: Vec<String> = cases
        .iter()
        .filter(|case| case.transport == "usb")
        .flat_map(|case| {
            case.drivers
                .iter()
                .filter_map(|name| transcript::check(case, name).err())
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// A device made by somebody else: the kernel's own HID function, which ends each report with an
/// empty packet. That packet is nobody's answer.
#[test]
#[ignore = "needs the virtual machine of make test-usb"]
fn an_empty_packet_behind_a_report_is_no_report() {
    unplug_all();
    let names = [
        ("YKUSH", 0xf2f7, 3),
        ("YKUSHXS", 0xf0cd, 1),
        ("YKUSH3", 0xf11b, 3),
    ];
    for (name, product, outlets) in names {
        let hub = Ykush::default();
        let relays = hub.relays.clone();
        let identity = Identity::new(0x04d8, product, "YK1", name);
        let _gadget = Gadget::plug_hidg(&identity, hub, (64, true));
        switches_and_reads(name, "{}", &relays, outlets);
    }
    let strip = Cleware4::default();
    let relays = strip.relays.clone();
    let _gadget = Gadget::plug_hidg(&Cleware4::identity(), strip, (8, false));
    switches_and_reads("ClewareUsbSwitch4", r#"{"serial": "560031"}"#, &relays, 4);
}

/// Switches every outlet on and off, twice, and looks at it from both ends.
fn switches_and_reads(name: &str, settings: &str, relays: &Relays, outlets: usize) {
    let mut driver = driver(name, settings);
    for to in [Switch::On, Switch::Off, Switch::On, Switch::Off] {
        for outlet in 1..=outlets {
            let id = outlet.to_string();
            let at = format!("{name} {id} {to}");
            switch(driver.as_mut(), &id, to).unwrap_or_else(|error| panic!("{at}: {error}"));
            // The kernel takes a report over before the device does.
            until(&at, || relays.get(outlet) == (to == Switch::On));
            let state = driver.state(&Outlet::new(id), Deadline::after(AMPLE));
            let wanted = match to {
                Switch::On => State::On,
                Switch::Off => State::Off,
            };
            assert_eq!(state, Ok(wanted), "{at}");
        }
        // Between two of a client's requests the session is left.
        driver.rest(Deadline::after(AMPLE));
    }
}

/// All devices at once: discovered, the config pasted, driven by the shipped program, and looked at
/// by Debian's own tools.
#[test]
#[ignore = "needs the virtual machine of make test-usb"]
fn what_discovery_finds_the_program_drives() {
    unplug_all();
    let all: [Relays; 4] = Default::default();
    let [ykush, cleware, board, strip] = all.clone();
    let gadgets = [
        Gadget::plug(
            &Ykush::identity("YK1"),
            Ykush {
                relays: ykush,
                ..Ykush::default()
            },
        ),
        Gadget::plug(
            &Cleware4::identity(),
            Cleware4 {
                relays: cleware,
                ..Cleware4::default()
            },
        ),
        Gadget::plug(&UsbRelay::identity(), UsbRelay { relays: board }),
        Gadget::plug(
            &SisPm::identity(),
            SisPm {
                relays: strip,
                ..SisPm::default()
            },
        ),
    ];
    let text = tool(env!("CARGO_BIN_EXE_pdudaemon"), &["--discover"]);
    let conf = config(&text);
    let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let pdus = found["pdus"].as_object().expect("PDUs");
    for (name, serial, outlets, relays) in [
        ("YKUSH", "YK1", [1, 3], &all[0]),
        ("ClewareUsbSwitch4", "560031", [1, 4], &all[1]),
        ("vusbhid", "BITFT", [1, 8], &all[2]),
        ("EG-PMS", SisPm::ID, [1, 4], &all[3]),
    ] {
        let (pdu, settings) = pdus
            .iter()
            .find(|(_, pdu)| pdu["driver"] == name)
            .unwrap_or_else(|| panic!("{name} was not discovered: {text}"));
        let key = if name == "EG-PMS" { "device" } else { "serial" };
        assert_eq!(settings[key], serial, "{text}");
        for outlet in outlets {
            let id = outlet.to_string();
            for (request, on) in [("off", false), ("on", true)] {
                let (done, words) = drive(&conf, pdu, &id, request, 0);
                assert!(done, "{name} {outlet} {request}: {words}");
                assert_eq!(relays.get(outlet), on, "{name} {outlet} {request}");
            }
            let (done, words) = drive(&conf, pdu, &id, "get-status", 0);
            assert!(done && words.contains("on"), "{name} {outlet}: {words}");
        }
        let (done, words) = drive(&conf, pdu, "9", "on", 0);
        assert!(!done && words.contains("no such outlet"), "{words}");
    }
    let words = tool("usbrelay", &[]);
    assert!(
        words.contains("BITFT_1=1") && words.contains("BITFT_2=0") && words.contains("BITFT_8=1"),
        "{words}"
    );
    // sispmctl sets the configuration, which no driver of the kernel may hold meanwhile.
    let interface = format!("{}:1.0", gadgets[3].path());
    std::fs::write("/sys/bus/usb/drivers/usbhid/unbind", interface).expect("unbinds");
    let words = tool("sispmctl", &["-D", SisPm::ID, "-g", "all"]);
    let states: Vec<bool> = words
        .lines()
        .filter(|line| line.contains("Status of outlet"))
        .map(|line| line.ends_with("on"))
        .collect();
    assert_eq!(states, [true, false, false, true], "{words}");
    // And what they switch, the program reads.
    tool("usbrelay", &["BITFT_1=0"]);
    tool("sispmctl", &["-D", SisPm::ID, "-f", "1"]);
    for (name, json) in [("vusbhid", "{}"), ("EG-PM2", "{}")] {
        let state = driver(name, json).state(&Outlet::new("1"), Deadline::after(AMPLE));
        assert_eq!(state, Ok(State::Off), "{name}");
    }
}

#[test]
#[ignore = "needs the virtual machine of make test-usb"]
fn a_device_pulled_out_is_an_error_and_put_back_works_again() {
    unplug_all();
    let relays = Relays::default();
    let emulation = Ykush {
        relays: relays.clone(),
        ..Ykush::default()
    };
    let cord = std::sync::Arc::clone(&emulation.cord);
    let gadget = Gadget::plug(&Ykush::identity("YK1"), emulation);
    let mut driver = driver("YKUSH", r#"{"serial": "YK1"}"#);
    // During a command.
    *cord.lock().expect("lock") = Some(gadget.cord());
    let result = switch(&mut *driver, "1", Switch::On);
    // A host controller may see the broken transfer before the empty port.
    let kind_of_it = kind(result.clone());
    assert!(
        [
            Some(TransportErrorKind::Closed),
            Some(TransportErrorKind::Io)
        ]
        .contains(&kind_of_it),
        "{result:?}"
    );
    gadget.unplug();
    let result = switch(&mut *driver, "1", Switch::On);
    assert_eq!(
        kind(result.clone()),
        Some(TransportErrorKind::NotFound),
        "{result:?}"
    );
    gadget.replug();
    assert_eq!(switch(&mut *driver, "1", Switch::On), Ok(()));
    assert!(relays.get(1));
    // Between two commands of one session.
    gadget.unplug();
    gadget.replug();
    assert_eq!(switch(&mut *driver, "1", Switch::Off), Ok(()));
    assert!(!relays.get(1));
}

#[test]
#[ignore = "needs the virtual machine of make test-usb"]
fn a_silent_device_is_given_up_at_the_deadline_and_asked_afresh() {
    unplug_all();
    let emulation = Ykush {
        silent: 1,
        ..Ykush::default()
    };
    let _gadget = Gadget::plug(&Ykush::identity("YK1"), emulation);
    let mut driver = driver("YKUSH", "{}");
    let begin = Instant::now();
    let patience = Deadline::after(Duration::from_secs(2));
    let result = driver.confirmed(&Outlet::new("1"), Switch::On, patience);
    assert_eq!(
        kind(result.clone()),
        Some(TransportErrorKind::Timeout),
        "{result:?}"
    );
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!(switch(&mut *driver, "1", Switch::On), Ok(()));
}

/// Whoever looks for its own device opens the other's, too.
#[test]
#[ignore = "needs the virtual machine of make test-usb"]
fn two_of_a_kind_do_not_disturb_each_other() {
    unplug_all();
    let strip = |last| {
        let emulation = SisPm {
            last,
            ..SisPm::default()
        };
        Gadget::plug(&SisPm::identity(), emulation)
    };
    let _strips = [strip(0x01), strip(0x02)];
    std::thread::scope(|scope| {
        for id in ["01:01:51:a4:01", "01:01:51:a4:02"] {
            scope.spawn(move || {
                let settings = serde_json::json!({ "device": id }).to_string();
                let mut driver = driver("EG-PMS", &settings);
                for round in 0..20 {
                    let to = [Switch::Off, Switch::On][round % 2];
                    assert_eq!(switch(&mut *driver, "1", to), Ok(()), "{id}");
                    driver.rest(Deadline::after(AMPLE));
                }
            });
        }
    });
}

/// While the kernel itself speaks to a device, it takes nobody else's request.
#[test]
#[ignore = "needs the virtual machine of make test-usb"]
fn a_report_that_the_kernel_does_not_take_costs_the_deadline_and_no_more() {
    unplug_all();
    let emulation = Cleware4::default();
    let hangs = Arc::clone(&emulation.hangs);
    let gadget = Gadget::plug(&Cleware4::identity(), emulation);
    let mut driver = driver("ClewareUsbSwitch4", r#"{"serial": 560031}"#);
    assert_eq!(switch(&mut *driver, "1", Switch::On), Ok(()));
    hangs.is_on.store(true, Ordering::SeqCst);
    let folder = gadget.sysfs().expect("plugged in");
    let kernel = std::thread::spawn(move || {
        // The interface is made anew, and the kernel's HID driver begins with SET_IDLE.
        std::fs::write(folder.join("bConfigurationValue"), "1")
    });
    until("the kernel speaks", || {
        hangs.told.load(Ordering::SeqCst) > 0
    });
    let (begin, patience) = (Instant::now(), Duration::from_secs(1));
    let result = driver.confirmed(&Outlet::new("1"), Switch::Off, Deadline::after(patience));
    let late = begin.elapsed().saturating_sub(patience);
    assert!(!kernel.is_finished(), "the kernel gave up: {result:?}");
    assert!(late < Duration::from_millis(500), "{late:?}: {result:?}");
    assert_eq!(kind(result), Some(TransportErrorKind::Timeout));
    hangs.is_on.store(false, Ordering::SeqCst);
    kernel.join().expect("joined").expect("configured");
    assert_eq!(switch(&mut *driver, "1", Switch::Off), Ok(()));
}

/// The kernel asks an adapter that hangs for seconds, when it is closed and when it is opened.
#[test]
#[ignore = "needs the virtual machine of make test-usb"]
fn a_serial_adapter_that_hangs_costs_the_deadline_and_no_more() {
    let adapter = Adapter::default();
    let gadget = Gadget::plug_adapter(&Adapter::identity(), adapter.clone());
    let settings = serde_json::json!({ "device": gadget.tty() }).to_string();
    let mut relay = driver("NumatoUSB8", &settings);
    let mut call = || {
        let (begin, patience) = (Instant::now(), Duration::from_secs(1));
        let result = relay.confirmed(&Outlet::new("1"), Switch::On, Deadline::after(patience));
        let late = begin.elapsed().saturating_sub(patience);
        assert!(late < Duration::from_millis(500), "{late:?}: {result:?}");
        kind(result)
    };
    assert_eq!(call(), Some(TransportErrorKind::Timeout));
    // It is still being closed.
    assert_eq!(call(), Some(TransportErrorKind::Busy));
    adapter.mend();
    until("the adapter can be opened again", || {
        call() == Some(TransportErrorKind::Timeout)
    });
}

#[test]
#[ignore = "needs the virtual machine of make test-usb"]
fn permission_and_use_by_others_are_told_apart() {
    unplug_all();
    let gadget = Gadget::plug(&Ykush::identity("YK1"), Ykush::default());
    let conf = config(
        r#"{"daemon": {"hostname": "127.0.0.1", "port": 16421}, "pdus": {"y": {"driver": "YKUSH", "serial": "YK1"}}}"#,
    );
    let (done, words) = drive(&conf, "y", "1", "on", NOBODY);
    assert!(
        !done && words.contains("60-pdudaemon.rules") && words.contains("group pdudaemon"),
        "{words}"
    );
    // What the udev rule does, here for everybody.
    let device = gadget.sysfs().expect("plugged in");
    let number = |name: &str| -> u32 {
        let text = std::fs::read_to_string(device.join(name)).expect("a number");
        text.trim().parse().expect("a number")
    };
    let node = format!(
        "/dev/bus/usb/{:03}/{:03}",
        number("busnum"),
        number("devnum")
    );
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(node, everybody).expect("permissions");
    let (done, words) = drive(&conf, "y", "1", "on", NOBODY);
    assert!(done, "{words}");
    // Somebody else has it.
    let mut first = driver("YKUSH", "{}");
    assert_eq!(switch(&mut *first, "1", Switch::On), Ok(()));
    let result = switch(&mut *driver("YKUSH", "{}"), "1", Switch::On);
    assert_eq!(
        kind(result.clone()),
        Some(TransportErrorKind::Busy),
        "{result:?}"
    );
    first.rest(Deadline::after(AMPLE));
    assert_eq!(switch(&mut *driver("YKUSH", "{}"), "1", Switch::On), Ok(()));
}

#[test]
#[ignore = "needs the virtual machine of make test-usb"]
fn the_kernel_gets_its_device_back() {
    unplug_all();
    let gadget = Gadget::plug(&Cleware4::identity(), Cleware4::default());
    let path = gadget.path();
    let bound = || Path::new(&format!("/sys/bus/usb/drivers/usbhid/{path}:1.0")).exists();
    until("the kernel's driver to take it", bound);
    let mut driver = driver("ClewareUsbSwitch4", r#"{"serial": 560031}"#);
    assert_eq!(switch(&mut *driver, "1", Switch::On), Ok(()));
    assert!(!bound(), "the driver has not taken the device");
    driver.rest(Deadline::after(AMPLE));
    until("the kernel's driver to have it back", bound);
}

/// A port with a device on it goes off and stays off, although the kernel's hub driver powers a
/// port again from which a device vanishes; by sysfs (as root) and by usbfs alone.
#[test]
#[ignore = "needs the virtual machine of make test-usb"]
fn a_hubs_port_goes_off_with_the_device_on_it() {
    unplug_all();
    let gadget = plug_into_hub(&Ykush::identity("YK1"), Ykush::default());
    let bus = hub_bus();
    let conf = config(&format!(
        r#"{{"daemon": {{"hostname": "127.0.0.1", "port": 16421}}, "pdus": {{"hub": {{"driver": "usbhub", "location": "{bus}"}}}}}}"#
    ));
    let nodes = [bus.clone(), crate::sim::usb::hub_bus_of(5000)];
    for user in [0, NOBODY] {
        if user == NOBODY {
            for bus in &nodes {
                let node = format!("/dev/bus/usb/{:03}/001", bus.parse::<u32>().expect("a bus"));
                let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
                std::fs::set_permissions(node, everybody).expect("permissions");
            }
        }
        let (done, words) = drive(&conf, "hub", "1", "off", user);
        assert!(done, "off by user {user}: {words}");
        // Over usbfs alone, the kernel learns nothing from dummy_hcd: the port is off, and stays
        // off, but the device is still listed.
        if user == 0 {
            until("the device to disappear", || gadget.sysfs().is_none());
        }
        let (done, words) = drive(&conf, "hub", "1", "get-status", user);
        assert!(done && words.contains("off"), "{words}");
        let words = tool("uhubctl", &["-f", "-l", &bus, "-p", "1"]);
        assert!(words.contains("off"), "uhubctl says: {words}");
        let (done, words) = drive(&conf, "hub", "1", "on", user);
        assert!(done, "on by user {user}: {words}");
        until("the device to come back and work", || {
            let mut ykush = driver("YKUSH", "{}");
            switch(&mut *ykush, "1", Switch::On).is_ok()
        });
    }
}

/// What is late is not overtaken; and a port of which one half has been switched is in doubt.
#[test]
#[ignore = "needs the virtual machine of make test-usb"]
fn a_hub_that_an_earlier_request_holds_is_waited_for() {
    unplug_all();
    let (bus, fast) = (hub_bus(), crate::sim::usb::hub_bus_of(5000));
    let settings = serde_json::json!({ "location": bus }).to_string();
    let mut hub = driver("usbhub", &settings);
    for (held, in_doubt) in [(&bus, false), (&fast, true)] {
        let folder = File::open(format!("/sys/bus/usb/devices/usb{held}")).expect("a hub");
        folder.try_lock().expect("nobody else's turn");
        let patience = Deadline::after(Duration::from_secs(1));
        let error = hub
            .confirmed(&Outlet::new("1"), Switch::Off, patience)
            .expect_err("held up");
        assert!(error.to_string().contains("still under way"), "{error}");
        assert_eq!(error.may_have_acted(), in_doubt, "{error}");
    }
    assert_eq!(switch(&mut *hub, "1", Switch::Off), Ok(()));
    assert_eq!(switch(&mut *hub, "1", Switch::On), Ok(()));
}
