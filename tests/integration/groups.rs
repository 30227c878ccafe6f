//! The outlets of an alias go off together, and on together after the pause, whatever else clients
//! ask of them meanwhile.

use crate::daemon::{Lab, get, http, talk, wait_for};
use serde_json::{Value, json};

const OK: &str = "OK - accepted request\n";

fn group(outlets: &[(&str, u32)]) -> Value {
    let outlets: Vec<Value> = outlets
        .iter()
        .map(|(pdu, outlet)| json!({"hostname": pdu, "port": outlet}))
        .collect();
    json!({ "outlets": outlets })
}

#[test]
fn a_group_is_all_off_then_all_on() {
    let lab = Lab::new();
    let daemon = lab.start_with(
        json!({"p": lab.recorder("p"), "q": lab.recorder("q")}),
        json!({"aliases": {"board": group(&[("p", 1), ("q", 2)])}}),
        &[],
    );
    assert_eq!(daemon.get("reboot?alias=board&delay=0.3"), (200, OK.into()));
    let mut record = lab.record();
    assert_eq!(record.len(), 4);
    record[..2].sort();
    record[2..].sort();
    assert_eq!(record, ["p 1 off", "q 2 off", "p 1 on", "q 2 on"]);
    lab.forget();
    assert_eq!(daemon.get("off?alias=board").0, 200);
    let mut record = lab.record();
    record.sort();
    assert_eq!(record, ["p 1 off", "q 2 off"]);
}

#[test]
fn a_group_is_checked_whole_before_power_is_touched() {
    let lab = Lab::new();
    let daemon = lab.start_with(
        json!({"p": lab.recorder("p"), "sim": {"driver": "simulated", "outlets": 4}}),
        json!({"aliases": {"board": group(&[("p", 1), ("sim", 5)]), "gone": group(&[("p", 1), ("q", 1)])}}),
        &[],
    );
    assert_eq!(daemon.get("reboot?alias=board&delay=0").0, 503);
    assert_eq!(daemon.get("off?alias=gone").0, 503);
    assert_eq!(lab.record(), [""; 0]);
}

#[test]
fn one_failed_off_switches_the_others_on_again() {
    let lab = Lab::new();
    let mut refusing = lab.scripted("record q on $1", "");
    // It never starts, so it certainly switched nothing.
    refusing["cmd_off"] = json!(["/nonexistent/relay", "%s"]);
    let daemon = lab.start_with(
        json!({"p": lab.recorder("p"), "q": refusing}),
        json!({"aliases": {"board": group(&[("p", 1), ("q", 2)])}}),
        &[],
    );
    for _ in 0..5 {
        lab.forget();
        let (status, body) = daemon.get("reboot?alias=board&delay=3600");
        assert_eq!(status, 503);
        assert!(body.contains("/nonexistent/relay"), "{body}");
        let record = lab.record();
        // p was off and is on again, or was never switched off.
        assert!(
            record.is_empty() || record == ["p 1 off", "p 1 on"],
            "{record:?}"
        );
    }
}

#[test]
fn a_group_in_its_pause_comes_on_again_on_sigterm() {
    let lab = Lab::new();
    let daemon = lab.start_with(
        json!({"p": lab.recorder("p"), "q": lab.recorder("q")}),
        json!({"aliases": {"board": group(&[("p", 1), ("q", 2)])}}),
        &["--loglevel", "DEBUG"],
    );
    let client = daemon.get_later("reboot?alias=board&delay=3600");
    wait_for("both offs", || {
        (daemon.printed().matches("Switch(Off): Ok").count() == 2).then_some(())
    });
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait_for_print("Signal received");
    daemon.signal(rustix::process::Signal::TERM);
    let (status, printed) = daemon.wait();
    assert!(status.success(), "{printed}");
    assert_eq!(client.join().expect("answered").0, 200);
    let record = lab.record();
    assert_eq!(record.len(), 4, "{record:?}");
    assert!(
        record[2..].iter().all(|line| line.ends_with(" on")),
        "{record:?}"
    );
}

#[test]
fn a_group_that_waits_for_a_member_darkens_nobody_and_can_be_stopped() {
    let lab = Lab::new();
    // One member stands behind a slow request of its PDU.
    let slow = lab.scripted(
        "record q on $1; if [ $1 = 9 ]; then while [ ! -e free ]; do sleep 0.02; done; fi",
        "record q off $1",
    );
    let daemon = lab.start_with(
        json!({"p": lab.recorder("p"), "q": slow}),
        json!({"aliases": {"board": group(&[("p", 1), ("q", 2)])}}),
        &["--loglevel", "DEBUG"],
    );
    let slow = daemon.get_later("on?hostname=q&port=9");
    wait_for("the slow one", || {
        lab.record().contains(&"q on 9".to_owned()).then_some(())
    });
    let client = daemon.get_later("reboot?alias=board&delay=3600");
    wait_for("the group's member in its queue", || {
        let (_, metrics) = http(daemon.address, "GET", "/metrics");
        metrics.contains("queue_depth{pdu=\"p\"} 1").then_some(())
    });
    // The other outlets of the PDU whose member is ready are served meanwhile.
    assert_eq!(daemon.get("on?hostname=p&port=3").0, 200);
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait_for_print("Signal received");
    // By the second one the workers know of the first.
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait_for_print("a second signal");
    lab.write("free", "");
    let (status, printed) = daemon.wait();
    assert!(status.success(), "{printed}");
    assert_eq!(slow.join().expect("answered").0, 200);
    assert_eq!(client.join().expect("answered").0, 503);
    assert_eq!(lab.record(), ["q on 9", "p 3 on"]);
}

#[test]
fn overlapping_groups_and_single_requests_neither_deadlock_nor_leave_anything_off() {
    for trouble in [
        json!({}),
        json!({"fail_every": 7}),
        json!({"lose_every": 5}),
    ] {
        let lab = Lab::new();
        let sim = || {
            let mut sim = json!({"driver": "simulated", "start": "on", "outlets": 4, "latency": 0.002, "retries": 3, "retrydelay": 0});
            for (key, value) in trouble.as_object().expect("keys") {
                sim[key] = value.clone();
            }
            sim
        };
        let daemon = lab.start_with(
            json!({"p": sim(), "q": sim(), "r": sim()}),
            json!({"aliases": {
                "a": group(&[("p", 1), ("q", 1)]),
                "b": group(&[("q", 1), ("p", 1)]),
                "c": group(&[("r", 1), ("p", 1), ("q", 2)]),
                "d": group(&[("p", 2), ("p", 1), ("r", 1)]),
            }}),
            &[],
        );
        let address = daemon.address;
        let mut hammers = Vec::new();
        for alias in ["a", "b", "c", "d"] {
            hammers.push(std::thread::spawn(move || {
                for _ in 0..12 {
                    get(address, &format!("reboot?alias={alias}&delay=0.01"));
                }
            }));
        }
        for line in [
            "p 1 on",
            "q 1 reboot 0",
            "p 2 reboot 0.01",
            "r 1 on",
            "q 2 reboot 0",
        ] {
            hammers.push(std::thread::spawn(move || {
                for _ in 0..12 {
                    let answer = talk(address, line.as_bytes(), true);
                    assert!(answer == b"ack\n" || answer == b"nack\n", "{answer:?}");
                }
            }));
        }
        for hammer in hammers {
            hammer.join().expect("every request was answered");
        }
        // Nobody asked for an off, so everything must be on: at once, or, where an on failed for
        // good, when the daemon has tried again.
        for (pdu, outlet) in [("p", 1), ("p", 2), ("q", 1), ("q", 2), ("r", 1)] {
            wait_for(&format!("{pdu} {outlet} to be on ({trouble})"), || {
                let (_, state) = daemon.get(&format!("get-status?hostname={pdu}&port={outlet}"));
                if state != "on\n" {
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
                (state == "on\n").then_some(())
            });
        }
        daemon.stop();
    }
}
