//! `pdudaemon --health` says by its exit status alone whether the daemon of a config serves, as it is
//! configured: on every address, with TLS, with tokens, and in time.

use crate::daemon::{Daemon, Lab, PDUDAEMON, connect, run, stderr, stdout, wait_for};
use crate::pki::Authority;
use crate::sim::port::{self, Served};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// A config on a port that nobody has yet.
fn config(lab: &Lab, pdus: Value, daemon: Value) -> Value {
    let mut all = json!({"daemon": {"hostname": "127.0.0.1", "port": port::free()}, "pdus": pdus});
    if let (Some(into), Value::Object(more)) = (all["daemon"].as_object_mut(), daemon) {
        into.extend(more);
    }
    lab.write("pdudaemon.conf", &all.to_string());
    all
}

fn start(lab: &Lab) -> Daemon {
    let path = lab.path("pdudaemon.conf").display().to_string();
    lab.start_by(&path)
}

/// Exit status, standard output, standard error.
fn health(lab: &Lab, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = lab.command(PDUDAEMON);
    command.args(["--health", "--conf", "pdudaemon.conf"]);
    // A proxy of the environment is for PDUs.
    command.args(args).env("http_proxy", "http://127.0.0.1:9");
    let output = run(&mut command);
    (output.status.code(), stdout(&output), stderr(&output))
}

fn assert_well(lab: &Lab) {
    let told = health(lab, &[]);
    assert_eq!(told, (Some(0), "ok\n".into(), String::new()));
}

#[test]
fn a_daemon_is_well_while_it_serves_and_not_before_or_after() {
    let lab = Lab::new();
    config(&lab, json!({"p": {"driver": "simulated"}}), json!({}));
    let gone = |why: &str| {
        let (code, out, err) = health(&lab, &[]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{why}: {err}");
        assert!(
            err.starts_with("ERROR: the daemon at 127.0.0.1, port ") && err.contains("refused"),
            "{why}: {err}"
        );
    };
    gone("before the start");
    let daemon = start(&lab);
    assert_well(&lab);
    daemon.stop();
    gone("after the stop");
}

#[test]
fn a_pdu_that_is_away_is_told_and_no_reason_to_start_the_daemon_again() {
    let lab = Lab::new();
    let away = json!({"driver": "localcmdline", "cmd_on": "false", "retries": 1, "foolish": 1});
    let broken = json!({"driver": "apc7952", "telnetport": "x"});
    config(&lab, json!({"p": away, "broken": broken}), json!({}));
    let _daemon = start(&lab);
    let (code, out, err) = health(&lab, &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.starts_with("degraded: PDU broken: "), "{out}");
}

#[test]
fn every_address_is_asked_with_tls_and_tokens_as_configured() {
    let lab = Lab::new();
    let authority = Authority::new(&lab, "ca");
    let tls = authority.server("pdud").config(json!({"plain": "refuse"}));
    let socket = lab.path("p.sock").display().to_string();
    config(
        &lab,
        json!({"p": {"driver": "simulated"}}),
        json!({
            "hostname": ["localhost", socket],
            "tls": tls["daemon"]["tls"],
            "access": {"tokens": [{"name": "ci", "sha256": "0".repeat(64)}]},
        }),
    );
    let daemon = start(&lab);
    assert_well(&lab);
    // The certificate on the disk is newer than the daemon's, which still serves.
    authority.server("pdud");
    assert_well(&lab);
    // One address that is gone is enough.
    std::fs::remove_file(&socket).expect("removed");
    let (code, _, err) = health(&lab, &[]);
    assert!(code == Some(1) && err.contains(&socket), "{err}");
    drop(daemon);
}

#[test]
fn all_interfaces_are_asked_over_loopback() {
    let lab = Lab::new();
    let all = config(
        &lab,
        json!({"p": {"driver": "simulated"}}),
        json!({"hostname": null}),
    );
    let mut command = lab.command(PDUDAEMON);
    command.args(["--conf", "pdudaemon.conf"]);
    let daemon = Daemon::spawn_anywhere(command);
    daemon.wait_for_print("ready");
    assert_well(&lab);
    // Full of clients or not.
    let port = all["daemon"]["port"].as_u64().expect("a port");
    let _idle = connect(([127, 0, 0, 1], port as u16).into());
    assert_well(&lab);
}

#[test]
fn whoever_does_not_answer_in_time_or_is_no_daemon_is_not_well() {
    let lab = Lab::new();
    let all = config(&lab, json!({"p": {"driver": "simulated"}}), json!({}));
    // A daemon that has been stopped still has the kernel accept for it.
    let daemon = start(&lab);
    daemon.signal(Signal::STOP);
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", daemon.id()));
    wait_for("the daemon to stand still", || {
        state().expect("there").contains(") T ").then_some(())
    });
    let began = Instant::now();
    let (code, _, err) = health(&lab, &[]);
    assert!(
        code == Some(1) && err.contains("no answer in time"),
        "{err}"
    );
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(3) && took < Duration::from_secs(20),
        "{took:?}"
    );
    drop(daemon);
    // Somebody else has the port.
    let port = all["daemon"]["port"].as_u64().expect("a port") as u16;
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    let _other = Served::connections_on(listener, |mut stream, _| {
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    });
    let (code, _, err) = health(&lab, &[]);
    assert!(
        code == Some(1)
            && err.contains("expected the answer of a pdudaemon, got \"HTTP/1.1 200 OK"),
        "{err}"
    );
}

#[test]
fn what_cannot_be_asked_is_told_with_what_to_change() {
    let lab = Lab::new();
    let one = json!({"p": {"driver": "simulated"}});
    for (daemon, args, said) in [
        (json!({"port": 0}), &[][..], "daemon.port is 0"),
        (
            json!({"listener": "tcp"}),
            &[],
            "daemon.listener is \"tcp\"",
        ),
        (
            json!({}),
            &["--listener", "tcp"],
            "daemon.listener is \"tcp\"",
        ),
        (json!({"port": 70_000}), &[], "daemon.port"),
    ] {
        config(&lab, one.clone(), daemon);
        let (code, out, err) = health(&lab, args);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{said}: {err}");
        assert!(err.contains(said), "{err}");
    }
}
