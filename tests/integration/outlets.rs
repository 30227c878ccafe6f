//! The outlets of a PDU that tells them itself, and many of them in one request: an SNMP agent counts
//! what it is asked.

use crate::daemon::{Daemon, Lab, stdout, wait_for};
use crate::sim::agent::{GET, Mood, SET, Table, TableAgent};
use serde_json::{Value, json};

/// A PDU that tells how many outlets it has, what they are called, and their states.
const PROFILE: &str = r#"id = "many"
vendor = "Nobody"
models = "any"
transport = "snmp"
[evidence]
maturity = "unverified"
sources = ["this test"]
[outlets]
range = "1-48"
count = "99.2.0"
names = "99.3.{outlet}"
[on]
set = [{ oid = "99.1.{outlet}", i = 1 }]
[off]
set = [{ oid = "99.1.{outlet}", i = 2 }]
[state]
get = "99.1.{outlet}"
map = { 1 = "on", 2 = "off" }
[limits]
varbinds = 16
"#;

/// An agent with so many outlets, all off but every third.
fn agent(outlets: u8, mood: Mood) -> TableAgent {
    let mut table = Table {
        mood,
        ..Table::default()
    };
    table.integer("99.2.0", outlets);
    for outlet in 1..=outlets {
        table.integer(&format!("99.1.{outlet}"), first_state(outlet));
        table.text(&format!("99.3.{outlet}"), &format!("Outlet {outlet}"));
    }
    TableAgent::start(table)
}

/// What the agent has for an outlet that nobody has switched.
fn first_state(outlet: u8) -> u8 {
    if outlet.is_multiple_of(3) { 1 } else { 2 }
}

/// The same in a word.
fn first_word(outlet: u8) -> &'static str {
    ["off", "on"][usize::from(first_state(outlet) == 1)]
}

/// The outlets of a PDU as the API lists it, by their numbers.
fn outlets_of(pdu: &Value) -> impl Iterator<Item = (u8, &Value)> {
    let outlets = pdu["outlets"].as_array().expect("outlets").iter();
    outlets.map(|outlet| {
        let id = outlet["outlet"].as_str().expect("an id");
        (id.parse().expect("a number"), outlet)
    })
}

/// A lab, and a daemon with these agents as PDUs `p`; `keys` are for each.
fn served(agent: &TableAgent, keys: Value) -> (Lab, Daemon) {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("profiles")).expect("a folder");
    lab.write("profiles/many.toml", PROFILE);
    let mut pdu = json!({"driver": "many", "ip": agent.address.to_string(), "community": "private", "retries": 2, "retrydelay": 0});
    let (pdu_keys, keys) = (pdu.as_object_mut(), keys.as_object().cloned());
    pdu_keys.expect("keys").extend(keys.expect("keys"));
    let more = json!({"daemon": {"profiles": [lab.path("profiles")]}});
    let daemon = lab.start_with(json!({ "p": pdu }), more, &[]);
    (lab, daemon)
}

/// The PDU as a list shows it, once `is_good`.
fn listed(daemon: &Daemon, is_good: impl Fn(&Value) -> bool) -> Value {
    wait_for("the list", || {
        let (_, pdu) = daemon.api("GET", "/api/v1/pdus/p?refresh=3600", Value::Null);
        is_good(&pdu).then_some(pdu)
    })
}

/// Are the states of so many outlets known?
fn has_states(count: usize) -> impl Fn(&Value) -> bool {
    move |pdu| {
        let outlets = pdu["outlets"].as_array().expect("outlets");
        let known = outlets.iter().filter(|outlet| !outlet["state"].is_null());
        known.count() == count
    }
}

#[test]
fn a_look_learns_count_and_names_once_and_reads_24_outlets_in_two_requests() {
    let agent = agent(24, Mood::Well);
    for (outlet, name) in [("2", "a\u{7}b\u{1b}[1m"), ("3", "  "), ("4", "\u{1}")] {
        agent.table().text(&format!("99.3.{outlet}"), name);
    }
    let keys = json!({"outlet_names": {"5": "mine"}});
    let (lab, daemon) = served(&agent, keys);
    assert_eq!(agent.table().requests, [], "nobody has looked yet");
    let pdu = listed(&daemon, has_states(24));
    assert_eq!(pdu["outlet_count"], 24);
    for (id, outlet) in outlets_of(&pdu) {
        assert_eq!(outlet["state"], first_word(id), "{outlet}");
        let name = match id {
            2 => json!("ab[1m"),
            3 | 4 => Value::Null,
            5 => json!("mine"),
            other => json!(format!("Outlet {other}")),
        };
        assert_eq!(outlet["name"], name, "{outlet}");
    }
    // The count, the names and the states of 24 outlets.
    assert_eq!(agent.table().sizes(GET), [1, 16, 8, 16, 16]);
    let shown = stdout(&lab.client(&["list", "p", "--daemon", &daemon.address.to_string()]));
    assert!(
        shown.contains("Outlet 24") && shown.contains("mine"),
        "{shown}"
    );
    daemon.stop();
}

#[test]
fn whoever_asks_for_all_states_has_them_in_two_requests() {
    let agent = agent(24, Mood::Well);
    let (lab, daemon) = served(&agent, json!({}));
    let shown = stdout(&lab.client(&["state", "p:1-24", "--daemon", &daemon.address.to_string()]));
    for outlet in 1..=24 {
        let state = first_word(outlet);
        let line = |line: &&str| {
            line.split_whitespace().collect::<Vec<_>>() == [&format!("p:{outlet}"), state]
        };
        assert!(shown.lines().any(|one| line(&one)), "{outlet}: {shown}");
    }
    let sizes = agent.table().sizes(GET);
    assert_eq!(sizes, [16, 16], "{shown}");
    daemon.stop();
}

#[test]
fn an_agent_that_cannot_bear_so_many_is_asked_for_fewer() {
    for (mood, keys, most) in [
        (Mood::TooBigAbove(5), json!({}), 40),
        (Mood::FailsAbove(1), json!({}), 60),
        (Mood::SilentAbove(1), json!({"timeout": 2}), 60),
        (Mood::TellsOnly(3), json!({}), 60),
        (Mood::Well, json!({"varbinds": 1}), 49),
    ] {
        let agent = agent(24, mood);
        let (_lab, daemon) = served(&agent, keys);
        let pdu = listed(&daemon, has_states(24));
        for (id, outlet) in outlets_of(&pdu) {
            assert_eq!(outlet["state"], first_word(id), "{mood:?}: {outlet}");
        }
        let requests = agent.table().requests.len();
        assert!(requests <= most, "{mood:?}: {requests}");
        assert_eq!(agent.table().sizes(SET), [] as [usize; 0]);
        daemon.stop();
    }
}

/// Switches outlets of `p` by one request, as `pduclient` does; gives the answer.
fn switched(daemon: &Daemon, targets: &Value, command: &str) -> Value {
    let body = json!({"targets": targets, "command": command});
    daemon.api("POST", "/api/v1/requests", body).1
}

/// The outlets of the agent that are on.
fn on(agent: &TableAgent) -> Vec<u8> {
    let table = agent.table();
    let is_on = |outlet: &u8| table.read(&format!("99.1.{outlet}")) == Some(1);
    (1..=24).filter(is_on).collect()
}

#[test]
fn a_range_is_switched_and_confirmed_by_few_requests() {
    for (varbinds, gets, sets) in [(16, vec![16, 8], vec![16, 8]), (24, vec![24], vec![24])] {
        let agent = agent(24, Mood::Well);
        let (_lab, daemon) = served(&agent, json!({"varbinds": varbinds}));
        for (command, expected) in [("on", (1..=24).collect()), ("off", Vec::new())] {
            agent.table().requests.clear();
            let answer = switched(&daemon, &json!(["p:1-24"]), command);
            assert_eq!(answer["ok"], true, "{answer}");
            assert_eq!(on(&agent), expected);
            let table = agent.table();
            let sizes = (table.sizes(SET), table.sizes(GET));
            drop(table);
            assert_eq!(sizes, (sets.clone(), gets.clone()), "{varbinds}");
        }
        // Not one request: nothing is put together.
        agent.table().requests.clear();
        for outlet in [3, 5] {
            let (status, _) = daemon.get(&format!("on?hostname=p&port={outlet}"));
            assert_eq!(status, 200);
        }
        assert_eq!(agent.table().sizes(SET), [1, 1]);
        daemon.stop();
    }
}

#[test]
fn a_command_for_many_that_fails_is_sent_for_each() {
    for (mood, keys) in [
        (Mood::TooBigAbove(1), json!({})),
        (Mood::FailsAbove(1), json!({})),
        (Mood::SilentAbove(1), json!({"timeout": 2})),
        (Mood::LosesAnswersAbove(1), json!({"timeout": 2})),
        (Mood::SetsOnlyFirst, json!({"timeout": 30})),
    ] {
        let agent = agent(24, mood);
        let (_lab, daemon) = served(&agent, keys);
        let answer = switched(&daemon, &json!(["p:1-8"]), "on");
        assert_eq!(answer["ok"], true, "{mood:?}: {answer}");
        assert!(
            on(&agent).starts_with(&[1, 2, 3, 4, 5, 6, 7, 8]),
            "{mood:?}"
        );
        daemon.stop();
    }
}

#[test]
fn a_lost_answer_leaves_every_outlet_in_doubt() {
    let agent = agent(24, Mood::Well);
    let (_lab, daemon) = served(&agent, json!({"timeout": 1, "retries": 1}));
    listed(&daemon, has_states(24));
    agent.table().mood = Mood::LosesAnswersAbove(1);
    let answer = switched(&daemon, &json!(["p:1-4"]), "off");
    let results = answer["results"].as_array().expect("results");
    assert!(
        results.iter().all(|result| result["ok"] == false),
        "{answer}"
    );
    let (_, pdu) = daemon.api("GET", "/api/v1/pdus/p", Value::Null);
    for outlet in pdu["outlets"].as_array().expect("outlets") {
        let id: u8 = outlet["outlet"]
            .as_str()
            .expect("an id")
            .parse()
            .expect("a number");
        assert_eq!(outlet["state"].is_null(), id <= 4, "{outlet}");
    }
    daemon.stop();
}
