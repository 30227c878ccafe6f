//! The IPMI driver switches OpenIPMI's `ipmi_sim`, and `ipmitool` the simulator of the tests: so the
//! one is proved by a BMC, and the other by a client, that nobody here wrote.

use crate::daemon::wait_for;
use crate::faults_tcp::{build, long};
use crate::sim::ipmi::{PASSWORD, Running, Setup, USER};
use crate::sim::port::{self, Served};
use crate::transcript::{Confirmed, Failed};
use pdudaemon::driver::{Driver, DriverError};
use pdudaemon::request::{Outlet, State, Switch};
use pdudaemon::transport::{Deadline, TransportErrorKind};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Keeps the machine's power in a file: `ADDRESS get power`, `ADDRESS set power 1`.
const CHASSIS: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
case $2 in
get) shift 2; for what; do echo "$what:$(cat "$what" 2>/dev/null || echo 0)"; done ;;
set) shift 2; while [ $# -gt 1 ]; do echo "$2" >"$1.new"; mv "$1.new" "$1"; shift 2; done ;;
esac
exit 0
"#;

const MANAGEMENT: &str = "\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
mc_enable 0x20
";

/// OpenIPMI's BMC; killed when the test ends.
struct IpmiSim {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Drop for IpmiSim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("written");
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, all).expect("a program");
}

impl IpmiSim {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, port) = (folder.path(), port::free());
        script(&path.join("chassis"), CHASSIS);
        std::fs::write(path.join("bmc.emu"), MANAGEMENT).expect("written");
        std::fs::create_dir(path.join("state")).expect("made");
        let ways = "none md5 straight";
        let config = format!(
            "name \"bmc\"\n\
             set_working_mc 0x20\n\
             startlan 1\n\
             addr 127.0.0.1 {port}\n\
             priv_limit admin\n\
             allowed_auths_user {ways}\n\
             allowed_auths_operator {ways}\n\
             allowed_auths_admin {ways}\n\
             guid a123456789abcdefa123456789abcdef\n\
             endlan\n\
             chassis_control \"{}/chassis 0x20\"\n\
             user 1 false \"\" \"\" user 10 {ways}\n\
             user 2 true \"ADMIN\" \"secret\" admin 10 {ways}\n\
             user 3 true \"watcher\" \"secret\" user 10 {ways}\n\
             user 4 true \"worker\" \"secret\" operator 1 {ways}\n",
            path.display()
        );
        std::fs::write(path.join("lan.conf"), config).expect("written");
        let child = Command::new("ipmi_sim")
            .args(["-n", "-c", "lan.conf", "-f", "bmc.emu", "-s", "state"])
            .current_dir(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("OpenIPMI's ipmi_sim is needed (Debian package openipmi): {error}")
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let sim = Self {
            child,
            address,
            folder,
        };
        // Refused at once until it listens.
        wait_for("ipmi_sim answers", || {
            let mut driver = sim.driver(json!({}));
            let read = driver.state(&outlet(), Deadline::after(Duration::from_secs(5)));
            driver.rest(long());
            read.ok()
        });
        sim
    }

    fn driver(&self, keys: Value) -> Box<dyn Driver> {
        driver(self.address, keys)
    }

    /// What the machine itself shows.
    fn power(&self) -> String {
        let power = std::fs::read_to_string(self.folder.path().join("power"));
        power.unwrap_or_default().trim().to_owned()
    }
}

fn outlet() -> Outlet {
    Outlet::new("1")
}

fn driver(address: SocketAddr, keys: Value) -> Box<dyn Driver> {
    let mut settings = json!({
        "ip": address.to_string(), "username": "ADMIN", "password": "secret",
    });
    let own = settings.as_object_mut().expect("an object");
    own.extend(keys.as_object().expect("an object").clone());
    build("ipmi", settings)
}

fn works(sim: &IpmiSim, address: SocketAddr, keys: Value) -> Result<(), Failed> {
    let mut driver = driver(address, keys);
    for (to, power) in [(Switch::On, "1"), (Switch::Off, "0"), (Switch::On, "1")] {
        driver.confirmed(&outlet(), to, long())?;
        assert_eq!(driver.state(&outlet(), long())?, State::from(to));
        assert_eq!(sim.power(), power);
    }
    driver.rest(long());
    Ok(())
}

#[test]
fn ipmi_sim_is_switched_and_read() {
    let sim = IpmiSim::start();
    for keys in [
        json!({}),
        json!({ "suite": 3, "privilege": "administrator" }),
        // It has one session: each that was before is closed.
        json!({ "username": "worker" }),
        json!({ "username": "worker" }),
        json!({ "username": "worker" }),
    ] {
        let told = works(&sim, sim.address, keys.clone());
        told.unwrap_or_else(|error| panic!("{keys}: {error}"));
    }
}

/// A line on which the BMC seems to be an old one that has these ways to log in, each a bit.
fn as_old(bmc: SocketAddr, ways: u8) -> Served {
    let socket = port::datagrams(Ipv4Addr::LOCALHOST.into());
    Served::on(socket, move |socket, ending| {
        let (mut client, mut buffer) = (bmc, [0; 1024]);
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if ending.is_near() {
                return;
            }
            let datagram = &mut buffer[..length];
            if from != bmc {
                client = from;
                let _ = socket.send_to(datagram, bmc);
                continue;
            }
            // The answer to Get Channel Authentication Capabilities, behind 14 bytes of headers.
            if let Some([0x81, _, _, _, _, 0x38, 0, _, offered, ..]) = datagram.get_mut(14..) {
                let (before, after) = (*offered, *offered & ways);
                *offered = after;
                let sum = datagram.last_mut().expect("a checksum");
                *sum = sum.wrapping_add(before).wrapping_sub(after);
            }
            let _ = socket.send_to(datagram, client);
        }
    })
}

#[test]
fn ipmi_sim_is_switched_and_read_over_ipmi_1_5() {
    let sim = IpmiSim::start();
    // MD5, the password in clear, none.
    for ways in [0x3f, 0x11, 0x01] {
        let line = as_old(sim.address, ways);
        works(&sim, line.address, json!({}))
            .unwrap_or_else(|error| panic!("ways {ways:02x}: {error}"));
    }
}

#[test]
fn ipmi_sim_tells_what_is_wrong_with_a_login() {
    let sim = IpmiSim::start();
    // In IPMI 2.0 it gives every user every privilege.
    let line = as_old(sim.address, 0x3f);
    let (new, old) = (sim.address, line.address);
    for (address, keys, expected) in [
        (new, json!({ "password": "wrong" }), "wrong password"),
        (new, json!({ "username": "nobody" }), "does not know user"),
        (new, json!({ "kg": "not it" }), "not the key kg"),
        (
            old,
            json!({ "password": "wrong" }),
            "silent to what the password signs",
        ),
        (old, json!({ "username": "nobody" }), "does not know user"),
        (
            old,
            json!({ "username": "watcher" }),
            "does not give user \"watcher\" the privilege operator",
        ),
        (
            old,
            json!({ "username": "worker", "privilege": "administrator" }),
            "does not give user \"worker\" the privilege administrator",
        ),
    ] {
        let mut driver = driver(address, keys.clone());
        let told = driver.confirmed(&outlet(), Switch::On, long());
        let Err(failed) = told else {
            panic!("{keys} is let in");
        };
        let is_login = matches!(failed.error, DriverError::LoginRefused(_));
        assert!(is_login, "expected {expected:?}, got {failed:?}");
        assert!(failed.to_string().contains(expected), "{failed}");
        assert!(!failed.may_have_acted());
    }
    let mut driver = sim.driver(json!({ "suite": 17 }));
    match driver.state(&outlet(), long()) {
        Err(DriverError::Transport(error)) => {
            assert_eq!(error.kind, TransportErrorKind::Incompatible);
            assert!(error.detail.contains("cipher suite 17"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(sim.power(), "", "nothing was switched");
}

/// What ipmitool says of the simulator's power.
fn ipmitool(running: &Running, way: &[&str], command: &str) -> String {
    let address = running.address();
    let output = Command::new("ipmitool")
        .args(way)
        .args(["-H", &address.ip().to_string()])
        .args(["-p", &address.port().to_string()])
        .args(["-U", USER, "-P", PASSWORD, "-N", "5", "-R", "4"])
        .args(["chassis", "power", command])
        .stdin(Stdio::null())
        .output();
    let output = output
        .unwrap_or_else(|error| panic!("ipmitool is needed (Debian package ipmitool): {error}"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{way:?} {command}: {said}");
    said
}

#[test]
fn ipmitool_proves_the_simulator() {
    for (way, suites, login) in [
        (["-I", "lanplus", "-C", "17"], vec![3, 17], "17 ADMIN"),
        (["-I", "lanplus", "-C", "3"], vec![3, 17], "3 ADMIN"),
        (["-I", "lan", "-A", "MD5"], vec![], "md5 ADMIN"),
        (["-I", "lan", "-A", "PASSWORD"], vec![], "password ADMIN"),
    ] {
        let running = Running::start(Setup {
            suites,
            ..Setup::default()
        });
        let said = ipmitool(&running, &way, "status");
        assert!(said.contains("Power is off"), "{way:?}: {said}");
        ipmitool(&running, &way, "on");
        assert_eq!(running.controls(), [1], "{way:?}");
        let said = ipmitool(&running, &way, "status");
        assert!(said.contains("Power is on"), "{way:?}: {said}");
        // And what ipmitool has switched, the driver reads.
        let mut driver = driver(running.address(), json!({}));
        assert_eq!(driver.state(&outlet(), long()), Ok(State::On));
        ipmitool(&running, &way, "soft");
        assert_eq!(running.controls(), [1, 5], "{way:?}");
        let bmc = running.bmc.lock().expect("lock");
        assert!(bmc.logins.iter().any(|one| one == login), "{way:?}");
    }
}
