//! While the daemon follows a new config it loses nothing and does nothing twice, and a file that
//! cannot be used changes nothing.

use crate::daemon::{Daemon, Lab, get, http, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};

const LOADED: &str = "the config is loaded again";

/// Loads the file again, and waits until that is done.
fn reload(daemon: &Daemon) {
    let before = daemon.printed().matches(LOADED).count();
    daemon.signal(Signal::HUP);
    wait_for("the config to be loaded again", || {
        (daemon.printed().matches(LOADED).count() > before).then_some(())
    });
}

#[test]
fn requests_under_way_are_neither_lost_nor_done_twice() {
    const CLIENTS: usize = 20;
    const REQUESTS: usize = 50;
    let lab = Lab::new();
    let pdus = |round: usize| -> Value {
        // One stays as it is, one changes each time, one comes and goes.
        let mut changing = lab.recorder("changing");
        changing["retrydelay"] = json!(round);
        let mut pdus = json!({"same": lab.recorder("same"), "changing": changing});
        if round.is_multiple_of(2) {
            pdus["fleeting"] = lab.recorder("fleeting");
        }
        pdus
    };
    let daemon = lab.start(pdus(0));
    let done = AtomicUsize::new(0);
    let answers: Vec<(String, u16, String)> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (address, done) = (daemon.address, &done);
                scope.spawn(move || {
                    let ask = |number: usize| {
                        let pdu = ["same", "changing", "fleeting"][number % 3];
                        let outlet = format!("c{client}n{number}");
                        let (status, body) =
                            get(address, &format!("on?hostname={pdu}&port={outlet}"));
                        done.fetch_add(1, Ordering::SeqCst);
                        (format!("{pdu} {outlet} on"), status, body)
                    };
                    (0..REQUESTS).map(ask).collect::<Vec<_>>()
                })
            })
            .collect();
        for round in 1..=10 {
            // Spread over the run: a tenth of the answers between two reloads.
            wait_for("the requests to go on", || {
                (done.load(Ordering::SeqCst) >= round * CLIENTS * REQUESTS / 12).then_some(())
            });
            lab.config(pdus(round), json!({}));
            reload(&daemon);
        }
        clients
            .into_iter()
            .flat_map(|client| client.join().expect("a client"))
            .collect()
    });
    let record = lab.record();
    for (line, status, body) in &answers {
        let times = record.iter().filter(|done| *done == line).count();
        match status {
            200 => assert_eq!(times, 1, "{line} was answered with success"),
            503 if line.starts_with("fleeting") && body.contains("there is no PDU") => {
                assert_eq!(times, 0, "{line}")
            }
            other => panic!("{line}: {other} {body}"),
        }
    }
    assert_eq!(answers.len(), CLIENTS * REQUESTS);
    assert_eq!(
        record.len(),
        answers
            .iter()
            .filter(|(_, status, _)| *status == 200)
            .count()
    );
}

#[test]
fn a_reboot_goes_through_a_reload_that_removes_its_pdu() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": lab.recorder("p"), "q": lab.recorder("q")}));
    let reboot = daemon.get_later("reboot?hostname=p&port=1&delay=8");
    lab.wait_for_record(&["p 1 off"]);
    lab.config(json!({"q": lab.recorder("q")}), json!({}));
    reload(&daemon);
    assert_eq!(daemon.get("on?hostname=p&port=2").0, 503);
    assert_eq!(daemon.get("on?hostname=q&port=1").0, 200);
    let (status, body) = reboot.join().expect("a client");
    assert_eq!(status, 200, "{body}");
    lab.wait_for_record(&["p 1 off", "q 1 on", "p 1 on"]);
}

#[test]
fn a_pdu_that_is_back_by_reload_goes_on_with_what_it_owes_and_with_its_queue() {
    let lab = Lab::new();
    // The on fails until there is a file `mended`; outlet 2 hangs until then.
    let on = "[ $1 = 1 ] || { touch began; until [ -e mended ]; do sleep 0.05; done; }; \
              [ -e mended ] || exit 1; record p $1 on";
    let pdu = || lab.scripted(on, "record p $1 off");
    let keep = || lab.recorder("q");
    let daemon = lab.start(json!({"p": pdu(), "q": keep()}));
    let (status, body) = daemon.get("reboot?hostname=p&port=1&delay=0");
    assert_eq!(status, 503, "{body}");
    daemon.wait_for_print("trying again until it is on");
    let waiting = daemon.get_later("on?hostname=p&port=2");
    wait_for("the second request to begin", || {
        lab.path("began").exists().then_some(())
    });
    lab.config(json!({"q": keep()}), json!({}));
    reload(&daemon);
    let mut back = pdu();
    back["retrydelay"] = json!(1);
    lab.config(json!({"p": back, "q": keep()}), json!({}));
    reload(&daemon);
    lab.write("mended", "");
    let (status, body) = waiting.join().expect("a client");
    assert_eq!(status, 200, "{body}");
    wait_for("the owed on", || {
        lab.record().contains(&"p 1 on".to_owned()).then_some(())
    });
    assert_eq!(daemon.get("on?hostname=p&port=3").0, 200, "it serves on");
    daemon.stop();
}

#[test]
fn what_was_read_by_another_driver_is_not_known_any_more() {
    let lab = Lab::new();
    let pdu = |outlets: u32, more: Value| {
        let mut pdu = json!({"driver": "simulated", "outlets": outlets});
        let keys = pdu.as_object_mut().expect("an object");
        keys.extend(more.as_object().expect("an object").clone());
        json!({"p": pdu})
    };
    let daemon = lab.start(pdu(4, json!({})));
    let known = || {
        let (status, text) = http(daemon.address, "GET", "/api/v1/pdus/p");
        assert_eq!(status, 200, "{text}");
        let pdu: Value = serde_json::from_str(&text).expect("JSON");
        (pdu["reachable"].clone(), pdu["outlets"][0]["state"].clone())
    };
    assert_eq!(daemon.get("on?hostname=p&port=1").0, 200);
    assert_eq!(known(), (json!(true), json!("on")));

    // A request shows that the worker has the change: it comes after it.
    let other = json!({"retries": 2, "timeout": 9, "bus": "wire", "about": "x"});
    lab.config(pdu(4, other), json!({}));
    reload(&daemon);
    assert_eq!(daemon.get("on?hostname=p&port=2").0, 200);
    assert_eq!(known(), (json!(true), json!("on")), "the same driver");

    lab.config(pdu(5, json!({"start": "on"})), json!({}));
    reload(&daemon);
    wait_for("the states to be unknown", || {
        (known() == (Value::Null, Value::Null)).then_some(())
    });
    assert_eq!(daemon.get("on?hostname=p&port=2").0, 200);
    assert_eq!(known(), (json!(true), Value::Null));
    daemon.stop();
}

#[test]
fn a_config_that_cannot_be_used_changes_nothing_and_says_why() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": lab.recorder("p")}));
    let config = lab.path("pdudaemon.conf");
    std::fs::write(config, "{").expect("written");
    daemon.signal(Signal::HUP);
    daemon.wait_for_print("broken JSON");
    daemon.wait_for_print("nothing has changed");
    assert_eq!(daemon.get("on?hostname=p&port=2").0, 200);
    lab.config(
        json!({"r": lab.recorder("r")}),
        json!({"aliases": {"board": {"hostname": "r", "port": 7}}}),
    );
    reload(&daemon);
    assert_eq!(daemon.get("on?alias=board").0, 200);
}
