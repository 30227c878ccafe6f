//! A PDU's name that moves to another address is followed, and one that is gone is told.

use crate::daemon::{Daemon, Lab, PDUDAEMON};
use crate::sim::rack::ROWS;
use crate::sim::stream::Line;
use serde_json::{Map, Value, json};
use std::net::Ipv4Addr;

const BEFORE: Ipv4Addr = Ipv4Addr::new(127, 7, 0, 1);
const AFTER: Ipv4Addr = Ipv4Addr::new(127, 7, 0, 2);
/// Nobody answers there: a name that the file does not have is not found at once.
const NO_NAME_SERVER: &str = "nameserver 127.7.0.254\noptions timeout:1 attempts:1\n";

/// Starts the daemon where this folder's `hosts` is the machine's.
fn start_among_own_names(lab: &Lab, pdus: Value) -> Daemon {
    let (hosts, resolver) = (lab.path("hosts"), lab.write("resolv.conf", NO_NAME_SERVER));
    let script = "mount --bind \"$1\" /etc/hosts && mount --bind \"$2\" /etc/resolv.conf \
                  && exec \"$3\" --conf \"$4\"";
    let mut command = lab.command("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([&hosts, &resolver])
        .arg(PDUDAEMON)
        .arg(lab.config(pdus, json!({})));
    Daemon::spawn(command)
}

#[test]
fn a_name_that_moves_is_followed_and_one_that_is_gone_is_told() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("left out: giving a program other host names takes root");
    }
    let mut pdus = Map::new();
    let mut benches = Vec::new();
    for row in ROWS {
        let (bench, mut settings) = row.start(BEFORE);
        if matches!(bench.line, Line::Pty(_)) {
            continue;
        }
        let ip = settings["ip"].as_str().expect("an address");
        let (_, port) = ip.split_once(':').expect("with a port");
        settings["ip"] = json!(format!("pdu.test:{port}"));
        settings["retries"] = json!(1);
        pdus.insert(row.driver.to_owned(), settings);
        benches.push((row.driver, row.outlets[0], bench));
    }
    assert!(benches.len() > 10, "most drivers are on a network");
    let lab = Lab::new();
    // Written over in place: the mount stays on this very file.
    let name_is = |ip: Option<Ipv4Addr>| {
        let name = ip.map_or(String::new(), |ip| format!("{ip} pdu.test\n"));
        lab.write("hosts", &format!("127.0.0.1 localhost\n{name}"));
    };
    name_is(Some(BEFORE));
    let daemon = start_among_own_names(&lab, pdus.into());
    let switch = |driver: &str, outlet: &str, to: &str| {
        daemon.get(&format!("{to}?hostname={driver}&port={outlet}"))
    };
    let done = (200, "OK - accepted request\n".to_owned());
    for (driver, outlet, bench) in &mut benches {
        assert_eq!(switch(driver, outlet, "on"), done, "{driver}");
        assert_eq!(bench.pdu.lock().expect("lock").is_on(outlet), Some(true));
        bench.move_to(AFTER);
    }
    name_is(None);
    for (driver, outlet, _) in &benches {
        let (status, body) = switch(driver, outlet, "off");
        assert!(
            status == 503 && body.contains("cannot look up pdu.test"),
            "{driver}: {status} {body}"
        );
    }
    name_is(Some(AFTER));
    for (driver, outlet, bench) in &benches {
        assert_eq!(switch(driver, outlet, "off"), done, "{driver}");
        assert_eq!(bench.pdu.lock().expect("lock").is_on(outlet), Some(false));
    }
    daemon.stop();
}
