//! A PDU that answers what the fuzzer says, to a real driver over its real transport; only the
//! system below it is played (see `pdudaemon::transport::fuzzing`), so that nothing waits.
//!
//! Of the input, the first byte chooses the driver, the second what is asked of it; the rest are
//! the answers: each a length byte and its bytes. Of the lengths, 0 is silence, 253 a connection
//! broken off, 254 its end, 255 all that is left. A USB device's first answer is what it tells of
//! itself: a byte of flags, its serial number and, after a newline, its name.

use pdudaemon::driver::usb::MODELS;
use pdudaemon::driver::{Driver, DriverError, registry, Outlets};
use pdudaemon::request::{Outlet, PduName, Switch};
use pdudaemon::settings::{Position, Settings};
use pdudaemon::transport::{Attempt, Deadline};
use pdudaemon::transport::fuzzing::nusb::{DeviceInfo, Speed};
use pdudaemon::transport::fuzzing::{self, Answer, Manner};
use serde_json::{Value, json};
use std::sync::OnceLock;
use std::time::Duration;

/// What one driver call is given.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What it may take beyond that: steps that end a session have some time of their own.
const SLACK: Duration = Duration::from_secs(5);

type Drivers = Vec<(&'static str, Value)>;

fn settings(transport: &str) -> Vec<Value> {
    let ip = "127.0.0.1";
    match transport {
        "serial" => vec![json!({"device": "socket://127.0.0.1:2000"})],
        "usb" => vec![
            json!({"location": "1-2", "companion": "2-2", "force": true}),
            json!({"location": "1-2", "serial": "560031", "device": "01:01:51:a4:c3"}),
        ],
        "command" => vec![json!({
            "cmd_on": "on %s", "cmd_off": "off %d", "cmd_status": ["status", "%s"],
            "location": "1-2", "uhubctl_exe": "/bin/true",
            "board": "imx8mpevk", "bcu_exe": "/bin/true", "bootmode": "emmc",
            "command": ["/bin/true"], "class": "lab:Relays", "agent": "/bin/true"
        })],
        "ssh" => vec![json!({"ip": ip, "password": "secret"})],
        "ipmi" => vec![
            json!({"ip": ip, "username": "user", "password": "secret"}),
            json!({"ip": ip, "username": "user", "password": "secret", "suite": 17, "kg": "0x01"}),
        ],
        "snmp" => vec![json!({
            "ip": ip, "community": "private", "username": "operator", "onsetting": 1, "offsetting": 2,
            "oid": "1.3.6.1.4.1.318.1.1.4.4.2.1.3.*"
        })],
        _ => vec![
            json!({
                "ip": ip, "username": "user", "password": "secret", "port_count": 4,
                "switch_ids": ["a", "b"]
            }),
            json!({"ip": ip}),
            json!({"ip": ip, "port": 8, "username": "user", "password": "secret"}),
        ],
    }
}

fn drivers(transports: &[&str]) -> Drivers {
    let mut drivers = Vec::new();
    for transport in transports {
        for spec in registry::specs().filter(|spec| spec.transport == *transport) {
            for name in spec.names.iter().copied() {
                let mut works = settings(transport);
                works.retain(|settings| build(name, settings).is_some());
                assert!(!works.is_empty(), "no settings for {name}");
                drivers.extend(works.into_iter().map(|settings| (name, settings)));
            }
        }
    }
    assert!(!drivers.is_empty() && drivers.len() <= 256);
    drivers
}

fn build(name: &str, settings: &Value) -> Option<(Box<dyn Driver>, Outlets)> {
    let at = Position { line: 1, column: 1 };
    let settings = Settings::new(PduName::new("pdu"), name, settings.to_string(), at);
    registry::find(name)?.make(&settings).ok()
}

pub fn answers(mut input: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let [length, rest @ ..] = input {
        let (answer, length) = match *length {
            0 => (Answer::Silence, 0),
            253 => (Answer::Reset, 0),
            254 => (Answer::End, 0),
            length => {
                let length = match length {
                    255 => rest.len(),
                    length => usize::from(length).min(rest.len()),
                };
                (Answer::Bytes(rest[..length].to_vec()), length)
            }
        };
        answers.push(answer);
        input = &rest[length..];
    }
    answers
}

/// One of each kind of device (or two, as the flags say), and both halves of a hub.
fn attached(told: &[u8]) -> Vec<DeviceInfo> {
    let (flags, told) = told.split_first().unwrap_or((&0, &[]));
    let told = String::from_utf8_lossy(told);
    let mut told = told.split('\n').map(str::to_owned);
    let device = DeviceInfo {
        vendor: 0x05e3,
        product: 0x0610,
        release: u16::from(flags >> 3),
        class: 0,
        speed: Speed::High,
        serial: told.next(),
        name: told.next(),
        // No folder that could be there: the hub's driver would write into it.
        sysfs: "/nonexistent/1-3",
        endpoints: [0x81, 0x02][usize::from(flags & 1)..][..1 + usize::from(flags & 3 == 2)]
            .to_vec(),
    };
    let hub = |sysfs, speed| DeviceInfo {
        class: 9,
        sysfs,
        speed,
        ..device.clone()
    };
    let mut all = vec![
        hub("/nonexistent/1-2", Speed::High),
        hub("/nonexistent/2-2", Speed::Super),
    ];
    for model in MODELS {
        for product in model.products {
            let one = DeviceInfo {
                vendor: model.vendor,
                product: *product,
                ..device.clone()
            };
            all.extend((flags & 4 != 0).then(|| one.clone()));
            all.push(one);
        }
    }
    all
}

/// What is asked of a driver of these transports, answered by `input`.
pub fn replies(transports: &[&str], input: &[u8]) {
    static DRIVERS: OnceLock<Drivers> = OnceLock::new();
    let [which, what, rest @ ..] = input else {
        return;
    };
    let drivers = DRIVERS.get_or_init(|| drivers(transports));
    let (name, settings) = &drivers[usize::from(*which) % drivers.len()];
    let manner = match transports {
        ["http"] => Manner::Http,
        _ => Manner::Plain,
    };
    let mut answers = answers(rest);
    if transports == ["usb"] {
        let told = match answers.first() {
            Some(Answer::Bytes(_)) => answers.remove(0),
            _ => Answer::Silence,
        };
        fuzzing::attach(attached(match &told {
            Answer::Bytes(told) => told,
            _ => &[],
        }));
    }
    fuzzing::play(manner, answers);
    let (mut driver, outlets) = build(name, settings).expect("built before");
    let ids = ["1", "2", "4", "a", "1/2", "relay-x", "1:2", "8"].map(Outlet::new);
    let fit: Vec<Outlet> = ids
        .iter()
        .filter_map(|outlet| outlets.parse(outlet).ok())
        .collect();
    let Some(outlet) = fit.get(usize::from(what >> 2) % fit.len().max(1)) else {
        return;
    };
    for call in calls(*what) {
        let deadline = Deadline::after(PATIENCE);
        let error = match call {
            0 => driver.switch(outlet, Switch::On, &Attempt::new(deadline)).err(),
            1 => driver.switch(outlet, Switch::Off, &Attempt::new(deadline)).err(),
            _ => driver.state(outlet, deadline).err(),
        };
        judge(name, settings, error, deadline);
    }
    let deadline = Deadline::after(PATIENCE);
    driver.rest(deadline);
    judge(name, settings, None, deadline);
}

/// What the driver is called for: 0 is on, 1 off, 2 the state. 3 uses a session three times.
pub fn calls(what: u8) -> &'static [u8] {
    match what & 3 {
        0 => &[0],
        1 => &[1],
        2 => &[2],
        _ => &[0, 2, 1],
    }
}

fn judge(name: &str, settings: &Value, error: Option<DriverError>, deadline: Deadline) {
    if let Some(error) = error {
        let text = error.to_string();
        // A driver without a password cannot know that its PDU has just said one.
        let has_secret = registry::find(name)
            .is_some_and(|spec| spec.build.keys().iter().any(|key| key.name == "password"))
            && settings.get("password").is_some();
        assert!(!has_secret || !text.contains("secret"), "{name}: {text}");
        assert!(text.len() < 4096, "an endless error: {} bytes", text.len());
    }
    in_time(name, deadline);
}

/// Is it no later than it may be?
pub fn in_time(name: &str, deadline: Deadline) {
    let late = fuzzing::now().saturating_duration_since(deadline.moment());
    assert!(late < SLACK, "{name}: {late:?} over the deadline");
}
