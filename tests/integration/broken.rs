//! One PDU's settings never cost another PDU its service: whatever is wrong with them, the PDU is
//! there, says why it is not served, and everybody else is.

use crate::daemon::{Daemon, Lab, http, stderr, stdout, wait_for};
use pdudaemon::driver::registry;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;

/// Stands in broken values: of a secret's key, nobody may read it in an error.
const HIDDEN: &str = "geheim";

/// The keys that every PDU may have, each with a value that cannot work.
fn common_keys() -> Vec<(&'static str, Value)> {
    vec![
        ("driver", json!("nonsense")),
        ("retries", json!("many")),
        ("retrydelay", json!(-1)),
        ("timeout", json!(0)),
        ("queue_limit", json!(0)),
        ("bus", json!(["x"])),
        ("about", json!(["x"])),
        ("outlets", json!({"x": 1})),
        ("outlet_names", json!("x")),
    ]
}

/// A value that a key of this kind cannot have.
fn wrong_value(kind: &str) -> Value {
    match kind {
        "number" => json!("many"),
        "flag" => json!("perhaps"),
        "text" | "text or number" | "list" | "text or list" => json!({ HIDDEN: 1 }),
        other => panic!("what is no {other}?"),
    }
}

/// Keys that take whatever they are given, as the Python program does: by Python's truth, and one
/// that is not used.
const ANYTHING_GOES: &[(&str, &str)] = &[
    ("snmpv1", "inside_number"),
    ("snmpv2c", "inside_number"),
    ("snmpv3", "inside_number"),
    ("LindyIPowerClassic8", "port"),
];

/// Good settings for every driver, as the examples have them.
fn good_settings() -> HashMap<String, Value> {
    let folder = format!("{}/share/examples", env!("CARGO_MANIFEST_DIR"));
    let mut all = HashMap::new();
    for entry in fs::read_dir(folder).expect("the examples") {
        let text = fs::read_to_string(entry.expect("an entry").path()).expect("a text");
        let Ok(config) = serde_json::from_str::<Value>(&text) else {
            continue;
        };
        for (_, pdu) in config["pdus"].as_object().into_iter().flatten() {
            let mut pdu = pdu.clone();
            for (key, value) in pdu.as_object_mut().expect("an object") {
                if registry::is_secret(key) && value.is_object() {
                    *value = json!("12345678");
                }
            }
            let driver = pdu["driver"].as_str().expect("a driver").to_owned();
            all.entry(driver).or_insert(pdu);
        }
    }
    all
}

/// Every key of every driver broken in turn: the PDU's name, the key, its settings.
fn broken_pdus() -> Vec<(String, String, Value)> {
    let good = good_settings();
    let mut all = Vec::new();
    for spec in registry::specs() {
        let name = spec.names[0];
        let base = &good
            .get(name)
            .unwrap_or_else(|| panic!("no example of {name}"));
        let own = spec.build.keys();
        let own = own
            .iter()
            .filter(|key| !ANYTHING_GOES.contains(&(name, &*key.name)))
            .map(|key| (key.name.to_string(), wrong_value(&key.kind)));
        let common = common_keys().into_iter();
        for (key, value) in own.chain(common.map(|(key, value)| (key.to_owned(), value))) {
            let mut pdu = (*base).clone();
            pdu[&key] = value;
            all.push((format!("{name}.{key}"), key, pdu));
        }
    }
    all
}

#[test]
fn every_key_of_every_driver_costs_its_own_pdu_alone() {
    let lab = Lab::new();
    let broken = broken_pdus();
    let mut lines = vec![
        r#"{"daemon": {"hostname": "127.0.0.1", "port": 0}, "pdus": {"#.to_owned(),
        format!("\"healthy\": {}", lab.recorder("healthy")),
    ];
    lines.extend(
        broken
            .iter()
            .map(|(name, _, pdu)| format!(",\"{name}\": {pdu}")),
    );
    lines.push("}}".into());
    let config = lab.write("pdudaemon.conf", &lines.join("\n"));
    let config = config.display().to_string();

    let checked = lab.run(&["--check", "--conf", &config]);
    assert_eq!(checked.status.code(), Some(1));
    let errors: Vec<String> = stderr(&checked)
        .lines()
        .filter_map(|line| line.strip_prefix("ERROR: ").map(str::to_owned))
        .collect();
    let names_of = |error: &String| {
        let said = error.split(": ").nth(1)?.strip_prefix("pdus.")?;
        Some(said.to_owned())
    };
    let told: Vec<String> = errors.iter().filter_map(names_of).collect();
    let expected = broken.iter().map(|(name, key, _)| format!("{name}.{key}"));
    let missing: Vec<String> = expected.filter(|one| !told.contains(one)).collect();
    assert_eq!(
        (told.len(), missing),
        (broken.len(), Vec::new()),
        "one error each"
    );
    let daemon = lab.start_by(&config);
    for (index, (name, key, pdu)) in broken.iter().enumerate() {
        // The error is within the key and its value, in the line of its PDU.
        let (error, line) = (&errors[index], &lines[index + 2]);
        let place = error
            .strip_prefix(&format!("{config}:{}:", index + 3))
            .unwrap_or_else(|| panic!("{name}: another line: {error}"));
        let (column, said) = place.split_once(": ").expect("a column");
        let column: usize = column.parse().expect("a number");
        let from = line.rfind(&format!("\"{key}\":")).expect("the key");
        let to = from + key.len() + 4 + pdu[key].to_string().len();
        assert!((from + 1..=to + 1).contains(&column), "{error}\n{line}");
        assert!(said.starts_with(&format!("pdus.{name}.{key}: ")), "{error}");

        assert!(
            !registry::is_secret(key) || !error.contains(HIDDEN),
            "{error}"
        );

        let (status, body) = daemon.get(&format!("on?hostname={name}&port=1"));
        assert_eq!(
            (status, body.as_str()),
            (
                503,
                format!("Invalid request: PDU {name}: its settings cannot work: {error}\n")
                    .as_str()
            )
        );
    }
    assert_eq!(daemon.get("on?hostname=healthy&port=1").0, 200);
    assert_eq!(lab.record(), ["healthy 1 on"]);
    daemon.stop();
}

/// The placeholder of upstream's own sample.
fn placeholder() -> Value {
    json!({"driver": "EG-PMS", "device": "aa:bb:cc:xx:yy"})
}

const REASON: &str = "pdus.broken.device: expected five hexadecimal bytes";

#[test]
fn a_broken_pdu_has_its_place_everywhere_and_refuses_with_the_reason() {
    let lab = Lab::new();
    let daemon = lab.start_with(
        json!({"broken": placeholder(), "good": lab.recorder("good")}),
        json!({"aliases": {
            "alone": {"hostname": "broken", "port": 1},
            "both": {"outlets": [{"hostname": "good", "port": 1}, {"hostname": "broken", "port": 1}]},
        }}),
        &[],
    );
    daemon.wait_for_print("PDU broken is not served: its settings cannot work: ");
    daemon.wait_for_print("2 PDUs, 1 of them with settings that cannot work, ready");
    for query in [
        "on?hostname=broken&port=1",
        "reboot?hostname=broken&port=1",
        "get-status?hostname=broken&port=1",
        "off?alias=alone",
        // The good member is not touched.
        "reboot?alias=both",
    ] {
        let (status, body) = daemon.get(query);
        assert!(
            status == 503
                && body.starts_with("Invalid request: PDU broken: ")
                && body.contains(REASON),
            "{query}: {status} {body}"
        );
    }
    assert_eq!(daemon.line("broken 1 on\n"), "nack\n");
    let (status, problem) = daemon.api(
        "PUT",
        "/api/v1/pdus/broken/outlets/1/state",
        json!({"state": "on"}),
    );
    assert_eq!(status, 503, "{problem}");
    assert_eq!(problem["type"], "urn:pdudaemon:problem:broken-settings");
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|text| text.contains(REASON)),
        "{problem}"
    );
    // A range, validated whole.
    let body = json!({"targets": ["good:1", "broken:1"], "command": "on"});
    let (_, results) = daemon.api("POST", "/api/v1/requests", body);
    assert_ne!(results["ok"], json!(true), "{results}");
    assert_eq!(lab.record(), [""; 0], "nothing was switched");

    let (_, list) = daemon.api("GET", "/api/v1/pdus", Value::Null);
    let pdu = &list["pdus"][0];
    assert_eq!(
        (
            &pdu["name"],
            &pdu["driver"],
            &pdu["served"],
            &pdu["waiting"]
        ),
        (&json!("broken"), &json!("EG-PMS"), &json!(false), &json!(0))
    );
    assert!(
        pdu["broken"]
            .as_str()
            .is_some_and(|text| text.contains(REASON)),
        "{pdu}"
    );
    assert_eq!(list["pdus"][1]["served"], json!(true));
    assert_eq!(list["pdus"][1]["broken"], Value::Null);
    let (status, health) = daemon.api("GET", "/healthz", Value::Null);
    assert_eq!((status, &health["status"]), (200, &json!("degraded")));
    assert!(health.to_string().contains(REASON), "{health}");
    let (_, metrics) = http(daemon.address, "GET", "/metrics");
    for line in [
        r#"pdudaemon_pdu_served{pdu="broken"} 0"#,
        r#"pdudaemon_pdu_served{pdu="good"} 1"#,
        r#"pdudaemon_pdu_settings_broken{pdu="broken"} 1"#,
        r#"pdudaemon_queue_depth{pdu="broken"} 0"#,
    ] {
        assert!(
            metrics.lines().any(|got| got == line),
            "{line} is not in\n{metrics}"
        );
    }
    let address = daemon.address.to_string();
    let listed = stdout(&lab.client(&["list", "--daemon", &address]));
    assert!(
        listed
            .lines()
            .any(|line| line.starts_with("broken ") && line.contains("broken settings")),
        "{listed}"
    );
    let shown = stdout(&lab.client(&["list", "broken", "--daemon", &address]));
    assert!(shown.contains(REASON), "{shown}");

    assert_eq!(daemon.get("on?hostname=good&port=1").0, 200);
    daemon.stop();
}

#[test]
fn a_pdu_is_driven_beside_one_that_cannot_work() {
    let lab = Lab::new();
    let pdus = json!({"broken": placeholder(), "good": lab.recorder("good")});
    let config = lab.config(pdus, json!({})).display().to_string();
    let drive = |pdu: &str| {
        let args = [
            "--conf",
            &config,
            "--drive",
            "--hostname",
            pdu,
            "--port",
            "1",
            "--request",
            "on",
        ];
        lab.run(&args)
    };
    let driven = drive("good");
    assert_eq!(driven.status.code(), Some(0), "{}", stderr(&driven));
    assert_eq!(lab.record(), ["good 1 on"]);
    let refused = drive("broken");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains(&format!(
            "ERROR: PDU broken: its settings cannot work: {config}:1:"
        )),
        "{}",
        stderr(&refused)
    );
}

/// Loads the file again, and waits until that is done.
fn reload(daemon: &Daemon) {
    let loaded = || {
        daemon
            .printed()
            .matches("the config is loaded again")
            .count()
    };
    let before = loaded();
    daemon.signal(Signal::HUP);
    wait_for("the config to be loaded again", || {
        (loaded() > before).then_some(())
    });
}

#[test]
fn a_pdu_that_a_reload_breaks_goes_on_with_what_it_had() {
    let lab = Lab::new();
    let pdus = |pdu: Value| json!({"pdu": pdu, "good": lab.recorder("good")});
    let mut wrong = lab.recorder("other");
    wrong["timeout"] = json!("soon");
    let daemon = lab.start(pdus(lab.recorder("pdu")));
    let reboot = daemon.get_later("reboot?hostname=pdu&port=1&delay=8");
    lab.wait_for_record(&["pdu 1 off"]);
    lab.config(pdus(wrong), json!({}));
    reload(&daemon);
    daemon.wait_for_print(
        "PDU pdu goes on with the settings that it had: its settings cannot work: ",
    );
    assert_eq!(daemon.get("on?hostname=pdu&port=2").0, 200);
    let (status, body) = reboot.join().expect("a client");
    assert_eq!(status, 200, "{body}");
    assert_eq!(lab.record(), ["pdu 1 off", "pdu 2 on", "pdu 1 on"]);
    let pdu = || daemon.api("GET", "/api/v1/pdus/pdu", Value::Null).1;
    assert_eq!(pdu()["served"], json!(true));
    assert!(
        pdu()["broken"]
            .as_str()
            .is_some_and(|text| text.contains("pdus.pdu.timeout"))
    );
    let health = || daemon.api("GET", "/healthz", Value::Null).1.to_string();
    assert!(
        health().contains("it goes on with the settings that it had"),
        "{}",
        health()
    );

    // Mended, with one that is new and broken, which is mended in its turn.
    lab.forget();
    let mut all = pdus(lab.recorder("mended"));
    all["new"] = placeholder();
    lab.config(all.clone(), json!({}));
    reload(&daemon);
    daemon.wait_for_print("PDU new is not served");
    assert_eq!(pdu()["broken"], Value::Null);
    assert_eq!(daemon.get("on?hostname=pdu&port=1").0, 200);
    assert_eq!(daemon.get("on?hostname=new&port=1").0, 503);
    all["new"] = lab.recorder("new");
    lab.config(all, json!({}));
    reload(&daemon);
    assert_eq!(daemon.get("on?hostname=new&port=1").0, 200);
    assert_eq!(lab.record(), ["mended 1 on", "new 1 on"]);
    assert!(health().contains(r#""status":"ok""#), "{}", health());
    daemon.stop();
}

#[test]
fn what_a_broken_pdu_owes_is_told_and_kept_until_it_is_mended() {
    let lab = Lab::new();
    let state = json!({"daemon": {"state_directory": lab.path("state")}});
    fs::create_dir_all(lab.path("state/journal")).expect("a folder");
    let record = lab.path("state/journal/pdu.3.0");
    fs::write(&record, "").expect("a record");
    let daemon = lab.start_with(json!({"pdu": placeholder()}), state.clone(), &[]);
    daemon.wait_for_print("PDU pdu, outlet 3: LEFT OFF");
    let (_, health) = daemon.api("GET", "/healthz", Value::Null);
    assert!(
        health.to_string().contains("outlet 3: LEFT OFF"),
        "{health}"
    );
    let (_, metrics) = http(daemon.address, "GET", "/metrics");
    let line = r#"pdudaemon_outlet_left_off{pdu="pdu",outlet="3"} 1"#;
    assert!(metrics.lines().any(|got| got == line), "{metrics}");
    assert!(record.exists());

    lab.config(json!({"pdu": lab.recorder("pdu")}), state);
    reload(&daemon);
    lab.wait_for_record(&["pdu 3 on"]);
    wait_for("the record's end", || (!record.exists()).then_some(()));
    wait_for("good health", || {
        let (_, health) = daemon.api("GET", "/healthz", Value::Null);
        (health["status"] == "ok").then_some(())
    });
    daemon.stop();
}

#[test]
fn an_outlet_that_the_settings_leave_out_is_owed_its_on_and_nothing_else() {
    let lab = Lab::new();
    let state = json!({"daemon": {"state_directory": lab.path("state")}});
    fs::create_dir_all(lab.path("state/journal")).expect("a folder");
    let record = lab.path("state/journal/pdu.7.0");
    fs::write(&record, "").expect("a record");
    let pdu = |outlets: Value| {
        let mut pdu = lab.recorder("pdu");
        pdu["outlets"] = outlets;
        json!({ "pdu": pdu })
    };
    let daemon = lab.start_with(pdu(json!("1-2,5")), state.clone(), &[]);
    lab.wait_for_record(&["pdu 7 on"]);
    wait_for("the record's end", || (!record.exists()).then_some(()));
    let listed = || {
        let (_, pdu) = daemon.api("GET", "/api/v1/pdus/pdu", Value::Null);
        let outlets = pdu["outlets"].as_array().expect("outlets").clone();
        let ids = outlets
            .iter()
            .filter_map(|outlet| outlet["outlet"].as_str());
        ids.map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(listed(), "1 2 5");
    let (status, answer) = daemon.get("on?hostname=pdu&port=7");
    assert_eq!(status, 503, "{answer}");
    assert!(answer.contains("expected outlets 1, 2, 5"), "{answer}");
    assert_eq!(daemon.get("on?hostname=pdu&port=5").0, 200);

    // In the pause of a reboot its outlet is taken out of the settings.
    let (status, ticket) = daemon.api(
        "POST",
        "/api/v1/pdus/pdu/outlets/2/reboot?wait=false",
        json!({"delay": 8}),
    );
    assert_eq!(status, 202, "{ticket}");
    lab.wait_for_record(&["pdu 7 on", "pdu 5 on", "pdu 2 off"]);
    lab.config(pdu(json!(["left"])), state);
    reload(&daemon);
    lab.wait_for_record(&["pdu 7 on", "pdu 5 on", "pdu 2 off", "pdu 2 on"]);
    assert_eq!(listed(), "left");
    daemon.stop();
}

#[test]
fn a_file_that_would_open_the_door_is_refused_and_the_old_rules_stay() {
    let lab = Lab::new();
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let tokens = json!([{"name": "a", "sha256": hash}]);
    let pdus = || json!({"p": lab.recorder("p")});
    let with = |daemon: Value| json!({ "daemon": daemon });
    let daemon = lab.start_with(pdus(), with(json!({"access": {"tokens": tokens}})), &[]);
    assert_eq!(daemon.get("on?hostname=p&port=1").0, 401);
    for (section, said) in [
        (
            json!({"access": {"tokens": []}}),
            "daemon.access.tokens: expected at least one",
        ),
        (
            json!({"access": {"tokens": null}}),
            "daemon.access.tokens: expected a list, got null",
        ),
        (
            json!({"access": {"token": tokens}}),
            "daemon.access.token: unknown key",
        ),
        (
            json!({"acces": {"tokens": tokens}}),
            "daemon.acces: unknown key",
        ),
        (
            json!({"access": {"trusted_networks": ["10.0.0.0/8"]}}),
            "daemon.access.trusted_networks: trusts",
        ),
        (
            json!({"access": {"tokens": tokens}, "idle_timeout": 0}),
            "daemon.idle_timeout: expected",
        ),
    ] {
        let config = lab
            .config(pdus(), with(section.clone()))
            .display()
            .to_string();
        let refusals = || daemon.printed().matches("nothing has changed").count();
        let before = refusals();
        daemon.signal(Signal::HUP);
        daemon.wait_for_print(said);
        wait_for("the refusal", || (refusals() > before).then_some(()));
        assert_eq!(daemon.get("on?hostname=p&port=1").0, 401, "{section}");
        let started = lab.run(&["--conf", &config]);
        assert_eq!(started.status.code(), Some(1), "{section}");
        assert!(
            stderr(&started).contains(said),
            "{section}: {}",
            stderr(&started)
        );
    }
    assert_eq!(lab.record(), [""; 0]);
    daemon.stop();
}

#[test]
fn aliases_that_cannot_be_read_stay_as_they_were() {
    let lab = Lab::new();
    let pdus = || json!({"b": {"driver": "simulated"}, "a": {"driver": "simulated"}});
    let aliases = json!({"aliases": {"both": {"outlets": [
        {"hostname": "b", "port": 2}, {"hostname": "a", "port": 10}, {"hostname": "a", "port": 9},
    ]}}});
    let mut pdus = pdus();
    pdus["a"]["outlets"] = json!(10);
    let daemon = lab.start_with(pdus.clone(), aliases, &[]);
    assert_eq!(daemon.get("on?hostname=a&port=9").0, 200);
    // The outlets of a group that differ are named, in their order.
    let differ =
        "the outlets differ: PDU a, outlet 9 on; PDU a, outlet 10 off; PDU b, outlet 2 off";
    let (_, told) = daemon.get("get-status?alias=both");
    assert!(told.contains(differ), "{told}");
    lab.config(pdus, json!({"aliases": ["both"]}));
    reload(&daemon);
    daemon.wait_for_print("aliases: expected an object, got a list");
    daemon.wait_for_print("the aliases stay as they were");
    assert_eq!(daemon.get("off?alias=both").0, 200);
    daemon.stop();
}
