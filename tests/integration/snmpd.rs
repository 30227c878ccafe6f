//! The SNMP drivers switch and read net-snmp's agent: v1, v2c and v3 with every pair of protocols.
//!
//! One agent serves all tests here; its outlets are `pass` scripts that keep a value in a file.

use crate::daemon::{Daemon, Lab, PATIENCE, wait_for};
use crate::exec_drivers;
use crate::sim::ber::message_id;
use crate::sim::port::{self, Served};
use crate::transcript::{Confirmed, Failed};
use pdudaemon::driver::{Driver, DriverError, registry};
use pdudaemon::request::{Outlet, PduName, State, Switch};
use pdudaemon::settings::{Position, Settings};
use pdudaemon::transport::{Deadline, TransportErrorKind};
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The authentication protocols: pysnmp's name, net-snmp's.
const AUTH: [(&str, &str); 6] = [
    ("USM_AUTH_HMAC96_MD5", "MD5"),
    ("USM_AUTH_HMAC96_SHA", "SHA"),
    ("USM_AUTH_HMAC128_SHA224", "SHA-224"),
    ("USM_AUTH_HMAC192_SHA256", "SHA-256"),
    ("USM_AUTH_HMAC256_SHA384", "SHA-384"),
    ("USM_AUTH_HMAC384_SHA512", "SHA-512"),
];

/// The privacy protocols, likewise.
const PRIVACY: [(&str, &str); 4] = [
    ("USM_PRIV_CBC56_DES", "DES"),
    ("USM_PRIV_CFB128_AES", "AES"),
    ("USM_PRIV_CFB192_AES_BLUMENTHAL", "AES-192"),
    ("USM_PRIV_CFB256_AES_BLUMENTHAL", "AES-256"),
];

/// Cisco's key extension, where a key is extended.
const CISCO: [(&str, &str); 2] = [
    ("USM_PRIV_CFB192_AES", "AES-192-C"),
    ("USM_PRIV_CFB256_AES", "AES-256-C"),
];

const AUTH_PASSPHRASE: &str = "the auth passphrase";
const PRIV_PASSPHRASE: &str = "the priv passphrase";

/// An object that net-snmp's agent lets be written: snmpEnableAuthenTraps, enabled(1), disabled(2).
const WRITABLE: &str = "1.3.6.1.2.1.11.30.0";

/// Keeps the CyberPower outlet column in files of its folder: `-g OID`, `-s OID type value`.
const PASS: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
case $1 in
-n) exit 0 ;;
-s) case $2 in *.[1-8]) echo "$4" >"outlet-${2##*.}" ;; *) echo not-writable ;; esac ;;
-g) case $2 in *.[1-8]) echo "$2"; echo integer; cat "outlet-${2##*.}" 2>/dev/null || echo 2 ;; esac ;;
esac
exit 0
"#;

/// A running agent; killed when the last test that uses it ends.
struct Agent {
    child: Child,
    port: u16,
    folder: Option<tempfile::TempDir>,
}

impl Agent {
    /// Ends it; its folder, with its engine id and boot counter, stays.
    fn stop(mut self) -> tempfile::TempDir {
        // Asked politely, it saves both.
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told to end");
        self.child.wait().expect("ended");
        self.folder.take().expect("a folder")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An agent of its own: what one test sets, another must not read.
fn agent() -> Agent {
    start()
}

fn user_name(auth: &str, privacy: &str) -> String {
    format!("user-{auth}-{privacy}")
}

fn start() -> Agent {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("outlets.sh");
    std::fs::write(&script, PASS).expect("written");
    let mut config = String::new();
    let mut line = |text: String| writeln!(config, "{text}").expect("a text grows");
    line("rwcommunity private".into());
    line("rocommunity public".into());
    for column in [
        "1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4",
        "1.3.6.1.4.1.92.58.2",
        // sPDUOutletCtl.
        "1.3.6.1.4.1.318.1.1.4.4.2.1.3",
    ] {
        line(format!("pass .{column} /bin/sh {}", script.display()));
    }
    line(format!("createUser plain MD5 \"{AUTH_PASSPHRASE}\""));
    line("rwuser plain noauth".into());
    for (_, auth) in AUTH {
        line(format!(
            "createUser signed-{auth} {auth} \"{AUTH_PASSPHRASE}\""
        ));
        line(format!("rwuser signed-{auth} auth"));
        for (_, privacy) in PRIVACY.iter().chain(&CISCO) {
            let name = user_name(auth, privacy);
            line(format!(
                "createUser {name} {auth} \"{AUTH_PASSPHRASE}\" {privacy} \"{PRIV_PASSPHRASE}\""
            ));
            line(format!("rwuser {name} priv"));
        }
    }
    line(format!("createUser reader SHA \"{AUTH_PASSPHRASE}\""));
    line("rouser reader auth".into());
    std::fs::write(folder.path().join("agent.conf"), config).expect("written");
    launch(folder)
}

/// Starts the agent of `folder` on a port of its own, and waits until it serves.
fn launch(folder: tempfile::TempDir) -> Agent {
    let log = folder.path().join("log");
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    for _ in 0..5 {
        let _ = std::fs::remove_file(&log);
        let port = port::free();
        let mut child = spawn(folder.path(), port);
        let begin = Instant::now();
        loop {
            let ended = child.try_wait().expect("a child");
            // It says so when it has its port.
            if ended.is_none() && said().contains("NET-SNMP version") {
                return Agent {
                    child,
                    port,
                    folder: Some(folder),
                };
            }
            if ended.is_some() {
                // Perhaps another program has taken the port.
                break;
            }
            if begin.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                panic!("snmpd does not serve; it says:\n{}", said());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    panic!("snmpd ends as soon as it has begun; it says:\n{}", said());
}

fn spawn(folder: &Path, port: u16) -> Child {
    Command::new("snmpd")
        .env(
            "PATH",
            format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()),
        )
        .env("SNMP_PERSISTENT_DIR", folder.join("state"))
        .env("SNMPCONFPATH", folder)
        // It needs none, and says much about each that it does not find.
        .env("MIBS", "")
        .args(["-f", "-C", "-LF", "i"])
        .arg(folder.join("log"))
        .args(["-I", "-smux,agentx", "-c"])
        // The second file is the agent's own memory, there once it has run.
        .arg(format!(
            "{0}/agent.conf,{0}/state/snmpd.conf",
            folder.display()
        ))
        .arg(format!("udp:127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("net-snmp's snmpd is needed (Debian package snmpd): {error}")
        })
}

/// Enough for any answer, also on a loaded machine.
fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn driver(name: &str, settings: &serde_json::Value) -> Box<dyn Driver> {
    let settings = Settings::new(
        PduName::new("pdu"),
        name,
        settings.to_string(),
        Position { line: 1, column: 1 },
    );
    let spec = registry::find(name).expect("a driver");
    spec.make(&settings)
        .unwrap_or_else(|error| panic!("{name}: {error}"))
        .0
}

fn community(name: &str, port: u16, community: &str, oid: &str) -> Box<dyn Driver> {
    driver(
        name,
        &serde_json::json!({
            "ip": format!("127.0.0.1:{port}"), "community": community, "oid": oid,
            "onsetting": 1, "offsetting": 2,
        }),
    )
}

fn user(port: u16, keys: &serde_json::Value) -> Box<dyn Driver> {
    let mut settings = serde_json::json!({
        "ip": format!("127.0.0.1:{port}"), "oid": WRITABLE, "onsetting": 1, "offsetting": 2,
    });
    let own = settings.as_object_mut().expect("an object");
    own.extend(keys.as_object().expect("an object").clone());
    driver("snmpv3", &settings)
}

/// Switches on, off and on, reading back each time.
fn works(driver: &mut dyn Driver, outlet: &str) -> Result<(), Failed> {
    let outlet = Outlet::new(outlet);
    for to in [Switch::On, Switch::Off, Switch::On] {
        driver.confirmed(&outlet, to, soon())?;
        assert_eq!(driver.state(&outlet, soon())?, State::from(to));
    }
    Ok(())
}

#[test]
fn v1_and_v2c_switch_and_read_back() {
    let agent = agent();
    let column = "1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4.*";
    let ip = format!("127.0.0.1:{}", agent.port);
    for (name, outlet, mut driver) in [
        (
            "snmpv1",
            "1",
            community("snmpv1", agent.port, "private", column),
        ),
        (
            "snmpv2c",
            "2",
            community("snmpv2c", agent.port, "private", column),
        ),
        (
            "cyberpower81001",
            "3",
            driver("cyberpower81001", &serde_json::json!({ "ip": ip })),
        ),
        (
            "by name",
            "4",
            driver(
                "snmpv1",
                &serde_json::json!({
                    "ip": ip, "community": "private", "version": "1", "mib": "CPS-MIB",
                    "controlpoint": "ePDUOutletControlOutletCommand",
                    "onsetting": "1", "offsetting": "2",
                }),
            ),
        ),
    ] {
        if let Err(error) = works(driver.as_mut(), outlet) {
            panic!("{name}: {error}");
        }
    }
}

/// Takes an agent that it does not know for an old PDU of APC.
#[test]
fn a_fence_agent_switches_and_reads_over_snmp() {
    let Some(agents) = exec_drivers::agents() else {
        return;
    };
    let (lab, agent) = (Lab::new(), agent());
    let pdu = |community: &str| {
        json!({
            "driver": "fence", "agent": agents.join("sbin/fence_apc_snmp"), "retries": 1,
            "ip": "127.0.0.1", "ipport": agent.port, "community": community, "timeout": 60,
        })
    };
    let config = lab.config(
        json!({"pdu": pdu("private"), "wrong": pdu("nobodys-word")}),
        json!({}),
    );
    let mut command = exec_drivers::with_agents(&lab, &agents);
    command.arg("--conf").arg(config);
    let daemon = Daemon::spawn(command);
    for to in ["on", "off"] {
        let (status, body) = daemon.get(&format!("{to}?hostname=pdu&port=3"));
        assert_eq!(status, 200, "{body}");
        let state = daemon.get("get-status?hostname=pdu&port=3");
        assert_eq!(state, (200, format!("{to}\n")));
    }
    let (status, body) = daemon.get("on?hostname=wrong&port=3");
    assert!(status == 503 && !body.contains("nobodys-word"), "{body}");
    daemon.stop();
}

#[test]
fn refusals_are_named() {
    let agent = agent();
    let outlet = Outlet::new("1");
    let refusal = |name: &str, community_name: &str, oid: &str| {
        community(name, agent.port, community_name, oid)
            .confirmed(&outlet, Switch::On, soon())
            .expect_err("refused")
            .to_string()
    };
    let names = |oid: &str| {
        (
            refusal("snmpv2c", "private", oid),
            refusal("snmpv2c", "public", oid),
        )
    };
    // sysContact is a text, sysDescr is read-only, the last has no such object.
    let (write, read) = names("1.3.6.1.2.1.1.4.0");
    assert!(write.contains("wrongType (7)"), "{write}");
    assert!(read.contains("noAccess (6)"), "{read}");
    let (write, _) = names("1.3.6.1.2.1.1.1.0");
    assert!(write.contains("notWritable (17)"), "{write}");
    let (write, _) = names("1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4.77");
    assert!(write.contains("(17)") || write.contains("(11)"), "{write}");
    let v1 = driver(
        "cyberpower41001",
        &serde_json::json!({"ip": format!("127.0.0.1:{}", agent.port), "community": "public"}),
    )
    .confirmed(&outlet, Switch::On, soon())
    .expect_err("refused");
    assert!(
        matches!(&*v1, DriverError::Refused(words) if words.contains("noSuchName (2)")),
        "{v1}"
    );
    let missing = community("snmpv1", agent.port, "private", "1.3.6.1.2.1.1.99.0")
        .state(&outlet, soon())
        .expect_err("refused");
    assert!(
        !missing.is_transient() && missing.to_string().contains("noSuch"),
        "{missing}"
    );
}

#[test]
fn a_wrong_community_is_a_silence_that_says_so() {
    let agent = agent();
    for name in ["snmpv1", "snmpv2c"] {
        let mut driver = community(name, agent.port, "wrong", WRITABLE);
        let error = driver
            .confirmed(
                &Outlet::new("1"),
                Switch::On,
                Deadline::after(Duration::from_millis(300)),
            )
            .expect_err("no answer");
        let DriverError::Transport(error) = error.error else {
            panic!("{error}");
        };
        assert_eq!(error.kind, TransportErrorKind::Timeout);
        assert!(error.detail.contains("community"), "{error}");
        assert!(!error.detail.contains("wrong"), "{error}");
    }
}

/// Every pair of `privacy` with every authentication protocol that `is_asked` for.
fn pairs_work(privacy: &[(&str, &str)], is_asked: fn(&str, &str) -> bool) {
    let agent = agent();
    let mut wrong = Vec::new();
    for (auth_key, auth) in AUTH {
        for (priv_key, privacy) in privacy {
            if !is_asked(auth, privacy) {
                continue;
            }
            let mut driver = user(
                agent.port,
                &serde_json::json!({
                    "username": user_name(auth, privacy),
                    "authpassphrase": AUTH_PASSPHRASE, "auth_protocol": auth_key,
                    "privpassphrase": PRIV_PASSPHRASE, "priv_protocol": priv_key,
                }),
            );
            // Several tests write the one object: only that it can be written and read.
            let outlet = Outlet::new("1");
            if let Err(error) = driver
                .confirmed(&outlet, Switch::Off, soon())
                .and_then(|()| Ok(driver.state(&outlet, soon())?))
            {
                wrong.push(format!("{auth} {privacy}: {error}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn v3_works_with_all_24_pairs_of_protocols() {
    pairs_work(&PRIVACY, |_, _| true);
}

#[test]
fn v3_works_with_ciscos_key_extension() {
    // The pairs whose key is longer than the digest; the others are the same as without it.
    pairs_work(&CISCO, |auth, privacy| {
        matches!(
            (auth, privacy),
            ("MD5" | "SHA", _) | ("SHA-224", "AES-256-C")
        )
    });
}

#[test]
fn v3_works_without_privacy_and_without_authentication() {
    let agent = agent();
    let outlet = Outlet::new("1");
    for (auth_key, auth) in AUTH {
        let mut driver = user(
            agent.port,
            &serde_json::json!({
                "username": format!("signed-{auth}"),
                "authpassphrase": AUTH_PASSPHRASE, "auth_protocol": auth_key,
            }),
        );
        if let Err(error) = driver.confirmed(&outlet, Switch::On, soon()) {
            panic!("{auth}: {error}");
        }
    }
    let mut driver = user(agent.port, &serde_json::json!({"username": "plain"}));
    assert_eq!(driver.confirmed(&outlet, Switch::On, soon()), Ok(()));
}

#[test]
fn v3_tells_what_is_wrong_with_the_user() {
    let agent = agent();
    let outlet = Outlet::new("1");
    let signed = |name: &str, passphrase: &str, protocol: &str| {
        serde_json::json!({
            "username": name, "authpassphrase": passphrase, "auth_protocol": protocol,
        })
    };
    let encrypted = |passphrase: &str, protocol: &str| {
        let mut keys = signed("user-SHA-AES", AUTH_PASSPHRASE, "SHA");
        keys["privpassphrase"] = passphrase.into();
        keys["priv_protocol"] = protocol.into();
        keys
    };
    for (keys, words) in [
        (
            signed("nobody", AUTH_PASSPHRASE, "SHA"),
            "does not know this user",
        ),
        (
            signed("signed-SHA", "another passphrase", "SHA"),
            "wrong authentication",
        ),
        (
            signed("signed-SHA", AUTH_PASSPHRASE, "MD5"),
            "wrong authentication",
        ),
    ] {
        let mut driver = user(agent.port, &keys);
        let error = driver
            .confirmed(&outlet, Switch::On, Deadline::after(Duration::from_secs(5)))
            .expect_err("refused");
        assert!(
            matches!(&*error, DriverError::LoginRefused(said) if said.contains(words)),
            "{keys}: {error}"
        );
        assert!(!error.to_string().contains("another"), "{error}");
    }
    // net-snmp's agent is silent about what it cannot decrypt.
    for keys in [
        encrypted("another passphrase", "AES"),
        encrypted(PRIV_PASSPHRASE, "DES"),
    ] {
        let mut driver = user(agent.port, &keys);
        let deadline = Deadline::after(Duration::from_millis(1500));
        let error = driver
            .confirmed(&outlet, Switch::On, deadline)
            .expect_err("no answer");
        let text = error.to_string();
        assert!(text.contains("privacy passphrase or protocol"), "{text}");
        assert!(!text.contains("another"), "{text}");
    }
    // A user who must sign and encrypt is not let in with less.
    let mut driver = user(agent.port, &signed("user-SHA-AES", AUTH_PASSPHRASE, "SHA"));
    let error = driver
        .confirmed(&outlet, Switch::On, soon())
        .expect_err("refused");
    assert!(
        error.to_string().contains("authorizationError (16)"),
        "{error}"
    );
    let mut driver = user(agent.port, &signed("reader", AUTH_PASSPHRASE, "SHA"));
    let error = driver
        .confirmed(&outlet, Switch::On, soon())
        .expect_err("refused");
    assert!(error.to_string().contains("noAccess (6)"), "{error}");
    assert!(driver.state(&outlet, soon()).is_ok());
}

/// Passes datagrams on to the agent and back, and counts the messages, and the engine discoveries
/// among them: those without an engine id. Copies of one count once.
struct Counter {
    port: u16,
    discoveries: Arc<AtomicUsize>,
    messages: Arc<AtomicUsize>,
    /// The agent's port.
    agent: Arc<AtomicU16>,
    _served: Served,
}

impl Counter {
    fn start(agent: u16) -> Self {
        let agent = Arc::new(AtomicU16::new(agent));
        let discoveries = Arc::<AtomicUsize>::default();
        let messages = Arc::<AtomicUsize>::default();
        let (discovered, counted) = (Arc::clone(&discoveries), Arc::clone(&messages));
        let behind = Arc::clone(&agent);
        let front = port::datagrams(Ipv4Addr::LOCALHOST.into());
        let served = Served::on(front, move |front, ending| {
            let back = UdpSocket::bind(("127.0.0.1", 0)).expect("a loopback port");
            back.set_read_timeout(Some(Duration::from_secs(5)))
                .expect("a timeout can be set");
            let (mut buffer, mut seen) = ([0; 4096], BTreeSet::new());
            while let Ok((length, from)) = front.recv_from(&mut buffer) {
                if ending.is_near() {
                    return;
                }
                // The USM parameters begin with the engine id; an empty one with clocks of zero.
                let is_discovery = buffer[..length]
                    .windows(8)
                    .any(|bytes| bytes == [0x04, 0x00, 0x02, 0x01, 0x00, 0x02, 0x01, 0x00]);
                if seen.insert(message_id(&buffer[..length])) {
                    counted.fetch_add(1, Ordering::SeqCst);
                    discovered.fetch_add(usize::from(is_discovery), Ordering::SeqCst);
                }
                let to = ("127.0.0.1", behind.load(Ordering::SeqCst));
                let _ = back.send_to(&buffer[..length], to);
                if let Ok(length) = back.recv(&mut buffer) {
                    let _ = front.send_to(&buffer[..length], from);
                }
            }
        });
        Self {
            port: served.address.port(),
            discoveries,
            messages,
            agent,
            _served: served,
        }
    }
}

#[test]
fn twenty_four_switches_cost_one_engine_discovery() {
    let agent = agent();
    let counter = Counter::start(agent.port);
    let mut driver = encrypted_user(counter.port);
    for number in 1..=24 {
        let to = if number % 2 == 0 {
            Switch::On
        } else {
            Switch::Off
        };
        assert_eq!(
            driver.confirmed(&Outlet::new(number.to_string()), to, soon()),
            Ok(())
        );
    }
    assert_eq!(counter.discoveries.load(Ordering::SeqCst), 1);
    // One to discover, and for each a SET and the GET that confirms it.
    assert_eq!(counter.messages.load(Ordering::SeqCst), 49);
    driver.rest(soon());
    assert_eq!(
        driver.confirmed(&Outlet::new("1"), Switch::On, soon()),
        Ok(())
    );
    assert_eq!(counter.discoveries.load(Ordering::SeqCst), 2);
}

/// The user of most tests here.
fn encrypted_user(port: u16) -> Box<dyn Driver> {
    user(
        port,
        &serde_json::json!({
            "username": user_name("SHA", "AES"),
            "authpassphrase": AUTH_PASSPHRASE, "auth_protocol": "SHA",
            "privpassphrase": PRIV_PASSPHRASE, "priv_protocol": "AES",
        }),
    )
}

#[test]
fn an_agent_that_restarts_or_is_replaced_costs_no_request() {
    let outlet = Outlet::new("1");
    let first = start();
    let counter = Counter::start(first.port);
    let mut driver = encrypted_user(counter.port);
    assert_eq!(driver.state(&outlet, soon()).map(drop), Ok(()));
    // The same engine, booted once more: its clock is told in a report.
    let folder = first.stop();
    let again = launch(folder);
    counter.agent.store(again.port, Ordering::SeqCst);
    assert_eq!(driver.state(&outlet, soon()).map(drop), Ok(()));
    assert_eq!(counter.discoveries.load(Ordering::SeqCst), 1);
    // Another engine: discovered within the call.
    let other = start();
    counter.agent.store(other.port, Ordering::SeqCst);
    assert_eq!(driver.state(&outlet, soon()).map(drop), Ok(()));
    assert_eq!(counter.discoveries.load(Ordering::SeqCst), 2);
}

#[test]
fn what_outlets_an_agent_has_is_learned_from_it() {
    let agent = agent();
    let column = "1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4.*";
    let keys = |oid: &str| {
        serde_json::json!({"driver": "snmpv2c", "ip": format!("127.0.0.1:{}", agent.port),
            "community": "private", "oid": oid, "onsetting": 1, "offsetting": 2})
    };
    let mut v1 = keys(column);
    v1["driver"] = "snmpv1".into();
    v1["version"] = "1".into();
    let lab = Lab::new();
    let daemon = lab.start(serde_json::json!({
        "v1": v1, "v2c": keys(column), "one": keys("1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4.1"),
        // It has none with the number 1: how many there are stays unknown, and an alias is listed.
        "elsewhere": keys("1.3.6.1.2.1.105.1.1.1.3.*"),
    }));
    let counted = |pdu: &str| {
        let (_, pdu) = daemon.api(
            "GET",
            &format!("/api/v1/pdus/{pdu}?refresh=3600"),
            serde_json::Value::Null,
        );
        pdu["outlet_count"].as_u64()
    };
    for pdu in ["v1", "v2c"] {
        wait_for("all outlets", || (counted(pdu) == Some(8)).then_some(()));
    }
    assert_eq!((counted("one"), counted("elsewhere")), (None, None));
    daemon.stop();
}
