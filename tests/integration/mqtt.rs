//! PDUs behind an MQTT broker: Debian's mosquitto with devices that are its own clients, and a broker
//! of ours where something goes wrong on the line.

use crate::daemon::{Lab, exists, run, stderr, stdout, wait_for};
use crate::faults_tcp::{long, under_fault};
use crate::pki::Authority;
use crate::sim::fault::Fault;
use crate::sim::port;
use crate::sim::stream::{Bench, Pdu};
use crate::transcript::Confirmed;
use pdudaemon::driver::{Driver, registry};
use pdudaemon::request::{Outlet, PduName, State, Switch};
use pdudaemon::settings::{Position, Settings};
use pdudaemon::transport::Deadline;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A mosquitto that lets the user `lab` in, with the password `secret`.
struct Mosquitto {
    child: Child,
    port: u16,
    tls_port: u16,
}

impl Mosquitto {
    fn start(lab: &Lab, authority: &Authority) -> Self {
        let (port, tls_port) = (port::free(), port::free());
        let passwords = lab.path("passwords");
        let made = run(Command::new("mosquitto_passwd")
            .args(["-b", "-c"])
            .arg(&passwords)
            .args(["lab", "secret"]));
        assert!(
            made.status.success() && exists(&passwords),
            "{}",
            stdout(&made)
        );
        let pair = authority.server("broker");
        // As root it would become another user, who cannot read our files.
        let config = format!(
            "user root\nallow_anonymous false\npassword_file {}\nlistener {port} 127.0.0.1\n\
             listener {tls_port} 127.0.0.1\ncertfile {}\nkeyfile {}\n",
            passwords.display(),
            pair.certificate.display(),
            pair.key.display(),
        );
        lab.write("mosquitto.conf", &config);
        Self {
            child: Self::spawn(lab, port),
            port,
            tls_port,
        }
    }

    fn spawn(lab: &Lab, port: u16) -> Child {
        let log = std::fs::File::create(lab.path("mosquitto.log")).expect("a file");
        // Debian has it where only root looks for programs.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut child = Command::new("mosquitto")
            .arg("-c")
            .arg(lab.path("mosquitto.conf"))
            .env("PATH", path)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mosquitto is installed");
        wait_for("mosquitto", || {
            if let Some(status) = child.try_wait().expect("a child") {
                let log = std::fs::read_to_string(lab.path("mosquitto.log"));
                panic!("mosquitto: {status}: {}", log.unwrap_or_default());
            }
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        });
        child
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn again(&mut self, lab: &Lab) {
        self.end();
        self.child = Self::spawn(lab, self.port);
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.end();
    }
}

/// A client of mosquitto's own.
fn client(program: &str, port: u16, topic: &str) -> Command {
    let mut command = Command::new(program);
    let port = port.to_string();
    let login = ["-h", "127.0.0.1", "-p", &port, "-u", "lab", "-P", "secret"];
    command.args(login).args(["-t", topic]);
    command
}

fn publish(port: u16, topic: &str, text: &str, is_retained: bool) {
    let mut command = client("mosquitto_pub", port, topic);
    command.args(["-q", "1", "-m", text]);
    if is_retained {
        command.arg("-r");
    }
    assert!(run(&mut command).status.success(), "{topic} {text}");
}

/// A device: what it hears, and what it says then: topic and text.
type Hears = fn(topic: &str, text: &str, is_on: &mut bool) -> Option<(String, String)>;

/// A device of ours, with mosquitto's client as its radio.
struct Device {
    radio: Child,
    thread: Option<JoinHandle<()>>,
    is_on: Arc<Mutex<bool>>,
}

impl Device {
    /// Its radio listens to `topics`; when it dies, the broker says `Offline` for it.
    fn start(port: u16, topics: &str, status: &'static str, hears: Hears) -> Self {
        let mut radio = client("mosquitto_sub", port, topics)
            .args(["-q", "1", "-F", "%t|%p", "-t", "probe"])
            .args([
                "--will-topic",
                status,
                "--will-payload",
                "Offline",
                "--will-retain",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto's clients are installed");
        let lines = BufReader::new(radio.stdout.take().expect("piped")).lines();
        let (is_on, is_up) = (Arc::<Mutex<bool>>::default(), Arc::<Mutex<bool>>::default());
        let (own, up) = (Arc::clone(&is_on), Arc::clone(&is_up));
        let thread = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let (topic, text) = line.split_once('|').expect("a topic");
                if topic == "probe" {
                    *up.lock().expect("lock") = true;
                    continue;
                }
                let answer = hears(topic, text, &mut own.lock().expect("lock"));
                if let Some((topic, text)) = answer {
                    publish(port, &topic, &text, false);
                }
            }
        });
        wait_for("the device", || {
            publish(port, "probe", "", false);
            is_up.lock().expect("lock").then_some(())
        });
        publish(port, status, "Online", true);
        Self {
            radio,
            thread: Some(thread),
            is_on,
        }
    }

    fn is_on(&self) -> bool {
        *self.is_on.lock().expect("lock")
    }

    fn end(&mut self) {
        let _ = self.radio.kill();
        let _ = self.radio.wait();
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || std::thread::panicking());
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.end();
    }
}

fn tasmota(topic: &str, text: &str, is_on: &mut bool) -> Option<(String, String)> {
    assert_eq!(topic, "cmnd/board7/POWER");
    match text {
        "ON" => *is_on = true,
        "OFF" => *is_on = false,
        _ => assert_eq!(text, ""),
    }
    let said = if *is_on { "ON" } else { "OFF" };
    Some(("stat/board7/POWER".into(), said.into()))
}

fn zigbee(topic: &str, text: &str, is_on: &mut bool) -> Option<(String, String)> {
    let json: Value = serde_json::from_str(text).expect("JSON");
    match (topic, json["state"].as_str()) {
        ("zigbee2mqtt/plug 1/set", Some("ON")) => *is_on = true,
        ("zigbee2mqtt/plug 1/set", Some("OFF")) => *is_on = false,
        ("zigbee2mqtt/plug 1/get", Some("")) => {}
        _ => panic!("{topic} {text}"),
    }
    let state = if *is_on { "ON" } else { "OFF" };
    let said = json!({"state": state, "linkquality": 120, "power": 3.5});
    Some(("zigbee2mqtt/plug 1".into(), said.to_string()))
}

#[test]
fn a_tasmota_behind_mosquitto_is_switched_and_missed_when_it_has_gone() {
    let lab = Lab::new();
    let authority = Authority::new(&lab, "ca");
    let mut broker = Mosquitto::start(&lab, &authority);
    let start = |port| Device::start(port, "cmnd/board7/#", "tele/board7/LWT", tasmota);
    let mut device = start(broker.port);
    let pdu = |password: &str| {
        json!({"driver": "tasmota-mqtt", "ip": format!("127.0.0.1:{}", broker.port), "topic": "board7",
               "username": "lab", "password": password, "retries": 1})
    };
    let pdus = json!({"p": pdu("secret"), "q": pdu("mistaken")});
    let daemon = lab.start_with(pdus, json!({}), &[]);
    for to in ["on", "off", "on"] {
        let (status, body) = daemon.get(&format!("{to}?hostname=p&port=1"));
        assert_eq!((status, device.is_on()), (200, to == "on"), "{body}");
        let (status, body) = daemon.get("get-status?hostname=p&port=1");
        assert!(status == 200 && body.contains(to), "{body}");
    }
    let (status, body) = daemon.get("off?hostname=q&port=1");
    assert!(
        status == 503 && body.contains("the broker refuses"),
        "{body}"
    );
    assert!(device.is_on() && !daemon.printed().contains("mistaken"));
    device.end();
    let (status, body) = daemon.get("off?hostname=p&port=1");
    assert!(
        status == 503 && body.contains("the PDU is offline"),
        "{body}"
    );
    // Another broker, and the device is back.
    broker.again(&lab);
    let device = start(broker.port);
    let (status, body) = daemon.get("on?hostname=p&port=1");
    assert_eq!((status, device.is_on()), (200, true), "{body}");
    daemon.stop();
}

#[test]
fn a_zigbee_plug_behind_mosquitto_is_switched_over_tls() {
    let lab = Lab::new();
    let authority = Authority::new(&lab, "ca");
    let broker = Mosquitto::start(&lab, &authority);
    let status = "zigbee2mqtt/plug 1/availability";
    let device = Device::start(
        broker.port,
        "zigbee2mqtt/plug 1/+",
        status,
        |topic, text, on| match topic {
            "zigbee2mqtt/plug 1/availability" => None,
            _ => zigbee(topic, text, on),
        },
    );
    let pdu = |more: Value| {
        let mut pdu = json!({"driver": "zigbee2mqtt", "ip": "127.0.0.1", "port": broker.tls_port,
            "protocol": "mqtts", "name": "plug 1", "username": "lab", "password": "secret", "retries": 1});
        let more = more.as_object().expect("keys").clone();
        pdu.as_object_mut().expect("keys").extend(more);
        pdu
    };
    let pdus = json!({"p": pdu(json!({"ca_file": authority.file})), "q": pdu(json!({})), "r": pdu(json!({"insecure": true}))});
    let daemon = lab.start_with(pdus, json!({}), &[]);
    for (pdu, to) in [("p", "on"), ("r", "off"), ("p", "on")] {
        let (status, body) = daemon.get(&format!("{to}?hostname={pdu}&port=1"));
        assert_eq!((status, device.is_on()), (200, to == "on"), "{body}");
    }
    let (status, body) = daemon.get("off?hostname=q&port=1");
    assert!(
        status == 503 && body.contains("certificate is not trusted"),
        "{body}"
    );
    assert!(device.is_on());
    daemon.stop();
}

#[test]
fn the_dialogue_of_a_trial_is_a_test_to_paste() {
    let lab = Lab::new();
    let authority = Authority::new(&lab, "ca");
    let broker = Mosquitto::start(&lab, &authority);
    let device = Device::start(broker.port, "cmnd/board7/#", "tele/board7/LWT", tasmota);
    let host = format!("127.0.0.1:{}", broker.port);
    let profile = include_str!("../../share/profiles/tasmota-mqtt.toml");
    for (act, ends) in [("on", "-- ok"), ("state", "-- on"), ("off", "-- ok")] {
        let mut args = vec![
            "--try",
            "tasmota-mqtt",
            "--hostname",
            &host,
            "--outlet",
            "1",
            act,
        ];
        for set in ["topic=board7", "username=lab", "password=secret"] {
            args.extend(["--set", set]);
        }
        let output = lab.run(&args);
        let (printed, told) = (stdout(&output), stderr(&output));
        assert!(
            output.status.success() && told.is_empty(),
            "{told}{printed}"
        );
        assert!(
            printed.contains("keys = { topic = \"board7\" }\n"),
            "{printed}"
        );
        assert!(printed.contains(&format!("\n{ends}\n")), "{printed}");
        assert!(!printed.contains("secret"), "{printed}");
        let pasted = toml::from_str(&format!("{profile}\n{printed}")).expect("TOML");
        assert_eq!(
            crate::profiles::faults(&pasted),
            Vec::<String>::new(),
            "{printed}"
        );
    }
    assert!(!device.is_on());
}

/// A broker with a Tasmota behind it, as far as our packets go.
#[derive(Default)]
struct Broker {
    is_on: bool,
}

impl Pdu for Broker {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        let length = usize::from(*input.get(1)?);
        assert!(length < 128, "a short packet");
        let packet: Vec<u8> = input.get(..2 + length)?.to_vec();
        input.drain(..2 + length);
        let body = &packet[2..];
        Some(match packet[0] {
            0x10 => vec![0x20, 2, 0, 0],
            0x82 => {
                let (mut rest, mut codes) = (&body[2..], Vec::new());
                while let [high, low, more @ ..] = rest {
                    rest = &more[usize::from(u16::from_be_bytes([*high, *low])) + 1..];
                    codes.push(0);
                }
                [&[0x90, 2 + codes.len() as u8], &body[..2], &codes].concat()
            }
            0xc0 => vec![0xd0, 0],
            0x32 => {
                let topic = usize::from(body[1]);
                let (id, text) = body[2 + topic..].split_at(2);
                if !is_stuck && !text.is_empty() {
                    self.is_on = text == b"ON";
                }
                let said = [
                    &b"\0\x11stat/board7/POWER"[..],
                    if self.is_on { b"ON" } else { b"OFF" },
                ]
                .concat();
                [&[0x40, 2], id, &[0x30, said.len() as u8], &said].concat()
            }
            0xe0 => Vec::new(),
            other => panic!("packet {other:#x}"),
        })
    }

    fn is_on(&self, _: &str) -> Option<bool> {
        Some(self.is_on)
    }
}

fn driver(bench: &Bench) -> Box<dyn Driver> {
    let at = Position { line: 1, column: 1 };
    let text = json!({"ip": bench.address(), "topic": "board7"}).to_string();
    let settings = Settings::new(PduName::new("pdu"), "tasmota-mqtt", text, at);
    let spec = registry::Registry::default().find("tasmota-mqtt");
    let spec = spec.expect("right").expect("shipped");
    spec.make(&settings).expect("good settings").0
}

#[test]
fn whatever_is_wrong_with_a_broker_is_told_in_time_and_the_next_call_works() {
    use Fault::{Endless, Garbage, Half, Reset, Silence, Stuck};
    let outlet = Outlet::new("1");
    // The answers to CONNECT, SUBSCRIBE, PINGREQ, the command, PINGREQ and the question.
    let spoil = &|fault, sound| {
        let bench = Bench::tcp(Ipv4Addr::LOCALHOST, Broker::default());
        let mut driver = driver(&bench);
        bench.control.set(fault, sound);
        let is_acted = sound >= 3;
        under_fault(
            driver.as_mut(),
            &outlet,
            fault,
            Duration::from_secs(4),
            || {
                let is_on = bench.pdu.lock().expect("lock").is_on("1");
                assert_eq!(is_on, Some(is_acted), "{fault:?} after {sound}");
                bench.control.set(Fault::None, 0);
            },
        );
    };
    // They all wait.
    std::thread::scope(|scope| {
        for sound in 0..6 {
            for fault in [Silence, Half, Garbage, Endless, Reset] {
                scope.spawn(move || spoil(fault, sound));
            }
        }
    });
    let bench = Bench::tcp(Ipv4Addr::LOCALHOST, Broker::default());
    let mut driver = driver(&bench);
    bench.control.set(Stuck, 0);
    let told = driver.confirmed(
        &outlet,
        Switch::On,
        Deadline::after(Duration::from_secs(20)),
    );
    let failed = told.expect_err("stuck");
    assert!(failed.may_have_acted(), "{failed}");
    assert_eq!(failed.to_string(), "asked for on, still shows off");
    bench.control.set(Fault::None, 0);
    driver
        .confirmed(&outlet, Switch::On, long())
        .expect("works");
    assert_eq!(driver.state(&outlet, long()), Ok(State::On));
    driver.rest(long());
}

#[test]
fn a_key_with_a_wildcard_is_refused_before_anything_is_opened() {
    let at = Position { line: 1, column: 1 };
    for topic in ["board/#", "+", "a\u{0}b"] {
        let text = json!({"ip": "127.0.0.1", "topic": topic}).to_string();
        let settings = Settings::new(PduName::new("pdu"), "tasmota-mqtt", text, at);
        let spec = registry::Registry::default().find("tasmota-mqtt");
        let made = spec.expect("right").expect("shipped").make(&settings);
        assert!(made.is_err(), "{topic:?}");
    }
}
