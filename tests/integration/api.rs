//! The API keeps to its document. The daemon serves that document, and the tests hold every answer
//! over real sockets against it.

use crate::daemon::wait_for;
use crate::faults_http::Server;
use crate::peer_modbus::python_with;
use crate::sim::apc::{ApcPdu, Behaviour, Layout};
use crate::sim::http::answer;
use crate::sim::rack::ROWS;
use pdudaemon::access::Token;
use pdudaemon::config::Config;
use pdudaemon::dispatch::{Dispatcher, Stop};
use pdudaemon::listener::{self, Listeners};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A daemon's dispatcher and listeners on a loopback port.
struct Daemon {
    dispatcher: Arc<Dispatcher>,
    listeners: Option<Listeners>,
    address: String,
    document: Value,
}

impl Daemon {
    fn start(pdus: &Value, aliases: &Value) -> Self {
        Self::start_for(&json!({}), pdus, aliases)
    }

    fn start_for(access: &Value, pdus: &Value, aliases: &Value) -> Self {
        let config = json!({
            "daemon": {"hostname": "127.0.0.1", "port": 0, "access": access},
            "pdus": pdus,
            "aliases": aliases,
        });
        let config = Config::parse(&config.to_string(), "test").expect("a good config");
        let dispatcher = Arc::new(Dispatcher::start(&config).expect("threads"));
        let listeners = Listeners::start(&config.daemon, &dispatcher).expect("a port");
        let address = listeners.addresses()[0].clone();
        Self {
            dispatcher,
            listeners: Some(listeners),
            address,
            document: serde_json::from_str(listener::OPENAPI).expect("JSON"),
        }
    }

    fn raw(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).expect("the daemon listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}",
            self.address
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).unwrap().parse().expect("a status");
        (status, head.to_owned(), body.to_owned())
    }

    /// One call; its status must be one that the document knows for it.
    fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let (headers, body) = match &body {
            Some(body) => ("Content-Type: application/json\r\n", body.to_string()),
            None => ("", String::new()),
        };
        let (status, _, body) = self.raw(method, path, headers, &body);
        let bare = path.split('?').next().unwrap();
        let operation = self.document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .find(|(template, _)| matches(template, bare))
            .map(|(_, operations)| &operations[method.to_lowercase()])
            .filter(|operation| operation.is_object());
        if let Some(operation) = operation {
            assert!(
                operation["responses"][status.to_string()].is_object(),
                "{method} {path}: {status} is not in the document"
            );
        }
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, None)
    }

    fn state_of(&self, pdu: &str, outlet: &str) -> Value {
        let (_, body) = self.get(&format!("/api/v1/pdus/{pdu}/outlets/{outlet}/state"));
        body["state"].clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let listeners = self.listeners.take().unwrap();
        listeners.drain();
        self.dispatcher.stop(Stop::Now);
        self.dispatcher.join();
        listeners.end(Duration::from_secs(5));
    }
}

fn matches(template: &str, path: &str) -> bool {
    let (mut a, mut b) = (template.split('/'), path.split('/'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b || a.starts_with('{') => {}
            _ => return false,
        }
    }
}

fn daemon() -> Daemon {
    let pdus = json!({
        "rack 1/a": {"driver": "simulated", "outlets": 12, "about": "left", "outlet_names": {"3": "board"}},
        "rack2": {"driver": "simulated", "outlets": 2, "refuse_outlets": [2]},
        "slow": {"driver": "simulated", "latency": 2},
        "away": {"driver": "simulated", "hang_outlets": [1], "timeout": 0.3, "retries": 1},
        "blind": {"driver": "localcmdline", "cmd_on": "true", "cmd_off": "true"},
        "full": {"driver": "simulated", "latency": 3, "queue_limit": 1},
    });
    let aliases = json!({
        "board": {"hostname": "rack 1/a", "port": 3},
        "pair": {"outlets": [{"hostname": "rack 1/a", "port": 1}, {"hostname": "rack2", "port": 1}]},
        "gone": {"hostname": "nowhere", "port": 1},
    });
    Daemon::start(&pdus, &aliases)
}

const RACK1: &str = "/api/v1/pdus/rack%201%2Fa";

fn kind(body: &Value) -> &str {
    let kind = body["type"].as_str().unwrap_or_default();
    kind.strip_prefix("urn:pdudaemon:problem:").unwrap_or(kind)
}

#[test]
fn the_document_has_every_operation_and_no_other() {
    let document: Value = serde_json::from_str(listener::OPENAPI).expect("JSON");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut documented: Vec<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, operations)| {
            let methods = operations.as_object().unwrap().keys();
            methods.map(move |method| (path.clone(), method.to_uppercase()))
        })
        .collect();
    let mut served: Vec<(String, String)> = listener::operations()
        .map(|(path, method)| (path.to_owned(), method.to_owned()))
        .collect();
    documented.sort();
    served.sort();
    assert_eq!(documented, served);
}

#[test]
fn one_outlet_is_shown_or_told_why_it_is_not_there() {
    let daemon = daemon();
    let (status, outlet) = daemon.get(&format!("{RACK1}/outlets/3"));
    assert_eq!(
        (status, &outlet["name"], &outlet["state"]),
        (200, &json!("board"), &Value::Null)
    );
    let (status, problem) = daemon.get(&format!("{RACK1}/outlets/99"));
    assert_eq!((status, kind(&problem)), (404, "no-such-outlet"));
    assert_eq!(
        problem["detail"],
        "PDU rack 1/a, outlet 99: no such outlet: expected outlets 1 to 12"
    );
    let (status, problem) = daemon.get("/api/v1/pdus/rack3/outlets/1");
    assert_eq!((status, kind(&problem)), (404, "unknown-pdu"));

    // One outlet that hangs: its failure says that it is that one.
    let (status, _) = daemon.get("/api/v1/pdus/away/outlets/1/state");
    assert_eq!(status, 504);
    let (_, away) = daemon.get("/api/v1/pdus/away");
    assert_eq!(away["reachable"], false, "{away}");
    assert_eq!(away["last_error"]["outlet"], "1", "{away}");
}

#[test]
fn how_many_outlets_there_are_is_told_where_it_is_known() {
    let daemon = daemon();
    let count = |name: &str| {
        let (_, pdu) = daemon.get(&format!("/api/v1/pdus/{name}"));
        let listed = pdu["outlets"].as_array().expect("a list").len();
        (pdu["outlet_count"].clone(), listed)
    };
    assert_eq!(count("rack2"), (json!(2), 2));
    assert_eq!(count("blind"), (Value::Null, 0));
    let on = Some(json!({"state": "on"}));
    let (status, done) = daemon.call("PUT", "/api/v1/pdus/blind/outlets/left/state", on);
    assert_eq!(status, 200, "{done}");
    assert_eq!(
        count("blind"),
        (Value::Null, 1),
        "one in use says nothing of others"
    );
}

#[test]
fn a_strip_tells_all_its_outlets_at_once() {
    let row = ROWS.iter().find(|row| row.driver == "tplink");
    let (_bench, settings) = row.expect("a strip").start(Ipv4Addr::LOCALHOST);
    let daemon = Daemon::start(&json!({"strip": settings}), &json!({}));
    let strip = wait_for("all outlets", || {
        let (_, strip) = daemon.get("/api/v1/pdus/strip?refresh=3600");
        (strip["outlet_count"] == 2).then_some(strip)
    });
    let ids: Vec<&Value> = strip["outlets"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|outlet| &outlet["outlet"])
        .collect();
    assert_eq!(ids, ["1", "2"]);
    // Under its alias it is the same outlet.
    let (status, done) = daemon.call(
        "PUT",
        "/api/v1/pdus/strip/outlets/b/state",
        Some(json!({"state": "on"})),
    );
    assert_eq!(status, 200, "{done}");
    let (_, strip) = daemon.get("/api/v1/pdus/strip");
    assert_eq!(strip["outlet_count"], 2, "{strip}");
}

#[test]
fn lists_show_the_outlets_that_the_pdu_says_it_has() {
    let apc = ApcPdu::start(Behaviour::new(Layout::Firmware3));
    let pdu = |more: Value| {
        let mut pdu = json!({"driver": "apc7921", "ip": format!("127.0.0.1:{}", apc.port),
            "password": "secret", "retries": 1, "bus": "one login at a time"});
        for (key, value) in more.as_object().expect("an object") {
            pdu[key] = value.clone();
        }
        pdu
    };
    let pdus = json!({
        "rack": pdu(json!({})),
        "told": pdu(json!({"outlets": [1, 2, 30]})),
        "named": pdu(json!({"outlet_names": {"3": "board", "40": "not there"}})),
    });
    let daemon = Daemon::start(&pdus, &json!({"b": {"hostname": "rack", "port": 20}}));
    let (_, rack) = daemon.get("/api/v1/pdus/rack");
    assert_eq!(
        rack["outlet_count"],
        Value::Null,
        "nobody has asked it: {rack}"
    );
    for (name, count, listed, unread) in [
        ("rack", 8, "1 2 3 4 5 6 7 8", ""),
        // What the settings say is shown; an outlet that is not there costs the others nothing.
        ("told", 3, "1 2 30", "30"),
        ("named", 8, "1 2 3 4 5 6 7 8", ""),
    ] {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let (_, pdu) = daemon.get(&format!("/api/v1/pdus/{name}?refresh=3600"));
            let outlets = pdu["outlets"].as_array().expect("a list");
            let ids = |which: &dyn Fn(&Value) -> bool| {
                let outlets = outlets.iter().filter(|outlet| which(outlet));
                let ids = outlets.filter_map(|outlet| outlet["outlet"].as_str());
                ids.collect::<Vec<_>>().join(" ")
            };
            if pdu["outlet_count"] == count
                && ids(&|_| true) == listed
                && ids(&|outlet| outlet["state"].is_null()) == unread
            {
                assert_eq!(pdu["last_error"], Value::Null, "nothing is wrong with it");
                break;
            }
            assert!(Instant::now() < until, "never so: {pdu}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn outlets_are_listed_switched_read_and_rebooted() {
    let daemon = daemon();
    let (status, list) = daemon.get("/api/v1/pdus");
    assert_eq!(status, 200);
    let names: Vec<&str> = list["pdus"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pdu| pdu["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["away", "blind", "full", "rack 1/a", "rack2", "slow"]
    );

    let (_, pdu) = daemon.get(RACK1);
    assert_eq!(pdu["about"], "left");
    assert_eq!(pdu["reachable"], Value::Null);
    let outlets: Vec<&Value> = pdu["outlets"].as_array().unwrap().iter().collect();
    assert_eq!(outlets.len(), 12);
    assert_eq!(outlets[1]["outlet"], "2");
    assert_eq!(outlets[9]["outlet"], "10", "as people count");
    assert_eq!(outlets[2]["name"], "board");

    let state = format!("{RACK1}/outlets/3/state");
    let (status, known) = daemon.get(&format!("{state}?last=true"));
    assert_eq!((status, &known["state"]), (200, &Value::Null));
    let (status, request) = daemon.call("PUT", &state, Some(json!({"state": "on"})));
    assert_eq!((status, &request["ok"]), (200, &json!(true)), "{request}");
    let (_, known) = daemon.get(&format!("{state}?last=true"));
    assert_eq!(
        (&known["state"], &known["source"]),
        (&json!("on"), &json!("switched"))
    );
    let (_, read) = daemon.get(&state);
    assert_eq!(
        (&read["state"], &read["source"]),
        (&json!("on"), &json!("read"))
    );
    let reboot = format!("{RACK1}/outlets/3/reboot");
    let (status, request) = daemon.call("POST", &reboot, Some(json!({"delay": 0.05})));
    assert_eq!(
        (status, &request["attempts"]),
        (200, &json!(2)),
        "{request}"
    );

    let (_, one) = daemon.get("/api/v1/aliases/board/state");
    assert_eq!(one, json!({"alias": "board", "state": "on"}));
    let (status, _) = daemon.call(
        "PUT",
        "/api/v1/aliases/pair/state",
        Some(json!({"state": "on"})),
    );
    assert_eq!(status, 200);
    assert_eq!(daemon.state_of("rack2", "1"), "on");
    let (_, aliases) = daemon.get("/api/v1/aliases");
    assert_eq!(
        aliases["aliases"][0]["outlets"],
        json!([{"pdu": "rack 1/a", "outlet": "3"}])
    );
    assert!(aliases["aliases"][1]["broken"].is_string());
}

#[test]
fn what_goes_wrong_has_its_stable_type() {
    let daemon = daemon();
    let on = || Some(json!({"state": "on"}));
    let put = |path: &str, body| daemon.call("PUT", path, body);
    let cases = [
        (
            put("/api/v1/pdus/x/outlets/1/state", on()),
            404,
            "unknown-pdu",
        ),
        (
            put("/api/v1/pdus/rack2/outlets/9/state", on()),
            404,
            "no-such-outlet",
        ),
        (
            put("/api/v1/pdus/rack2/outlets/9/state?wait=false", on()),
            404,
            "no-such-outlet",
        ),
        (
            put("/api/v1/pdus/rack2/outlets/2/state", on()),
            502,
            "pdu-refused",
        ),
        (
            put("/api/v1/pdus/away/outlets/1/state", on()),
            504,
            "pdu-unreachable",
        ),
        (
            put("/api/v1/aliases/gone/state", on()),
            404,
            "unknown-alias",
        ),
        (
            put("/api/v1/aliases/none/state", on()),
            404,
            "unknown-alias",
        ),
        (
            put(
                "/api/v1/pdus/rack2/outlets/1/state",
                Some(json!({"state": "up"})),
            ),
            400,
            "bad-value",
        ),
        (
            put("/api/v1/pdus/rack2/outlets/1/state", Some(json!(["on"]))),
            400,
            "bad-value",
        ),
        (
            put(
                "/api/v1/pdus/rack2/outlets/1/state",
                Some(json!({"state": "on", "x": 1})),
            ),
            400,
            "bad-value",
        ),
        (
            put("/api/v1/pdus/rack2/outlets/1/state", None),
            415,
            "unsupported-media-type",
        ),
        (
            put("/api/v1/pdus/rack2/outlets/1/state?wiat=false", on()),
            400,
            "bad-value",
        ),
        (
            put("/api/v1/pdus/rack2/outlets/1/state?wait=no", on()),
            400,
            "bad-value",
        ),
        (
            put("/api/v1/pdus/rack2/outlets/%ff/state", on()),
            400,
            "bad-value",
        ),
        (
            daemon.get("/api/v1/pdus/blind/outlets/1/state"),
            501,
            "cannot-read",
        ),
        (daemon.get("/api/v1/requests/999"), 404, "unknown-request"),
        (daemon.get("/api/v1/requests/1?wait=61"), 400, "bad-value"),
        (daemon.get("/api/v1/nothing"), 404, "not-found"),
        (
            daemon.call("POST", "/api/v1/pdus", None),
            405,
            "method-not-allowed",
        ),
        (
            daemon.call(
                "POST",
                "/api/v1/pdus/rack2/outlets/1/reboot",
                Some(json!({"delay": -1})),
            ),
            400,
            "bad-value",
        ),
        (
            daemon.call(
                "POST",
                "/api/v1/pdus/rack2/outlets/1/reboot",
                Some(json!({"delay": 1e9})),
            ),
            400,
            "bad-value",
        ),
    ];
    for (index, ((status, body), expected, problem)) in cases.into_iter().enumerate() {
        assert_eq!(
            (status, kind(&body)),
            (expected, problem),
            "case {index}: {body}"
        );
        assert_eq!(body["status"], expected);
        assert!(body["detail"].is_string());
    }
    let (_, head, _) = daemon.raw("DELETE", "/api/v1/requests", "", "");
    assert!(head.contains("\r\nAllow: GET, POST, HEAD"), "{head}");
    assert_eq!(daemon.state_of("rack2", "1"), "off", "nothing was switched");

    // Nothing under /api switches by GET, and the legacy paths are what they were.
    let (status, _) = daemon.get("/api/v1/pdus/rack2/outlets/1/reboot");
    assert_eq!(status, 405);
    let (status, _, body) = daemon.raw("GET", "/power/control/on?hostname=rack2&port=1", "", "");
    assert_eq!((status, body.as_str()), (200, "OK - accepted request\n"));
    let (status, _, body) = daemon.raw("GET", "/nothing", "", "");
    assert_eq!((status, body.as_str()), (404, "Not Found\n"));
}

#[test]
fn requests_can_be_followed_and_cancelled() {
    let daemon = daemon();
    let state = "/api/v1/pdus/slow/outlets/1/state?wait=false";
    let body = json!({"state": "on"}).to_string();
    let (status, head, first) =
        daemon.raw("PUT", state, "Content-Type: application/json\r\n", &body);
    assert_eq!(status, 202);
    let first: Value = serde_json::from_str(&first).unwrap();
    let location = format!("/api/v1/requests/{}", first["id"]);
    assert!(head.contains(&format!("Location: {location}")), "{head}");
    let (_, second) = daemon.call(
        "POST",
        "/api/v1/pdus/slow/outlets/1/reboot?wait=false",
        None,
    );
    let second = format!("/api/v1/requests/{}", second["id"]);
    let (status, cancelled) = daemon.call("DELETE", &second, None);
    assert_eq!(
        (status, kind(&cancelled["problem"])),
        (200, "cancelled"),
        "{cancelled}"
    );
    let (status, again) = daemon.call("DELETE", &second, None);
    assert_eq!((status, kind(&again)), (409, "under-way"));

    let (_, ended) = daemon.get(&format!("{location}?wait=30"));
    assert_eq!(
        (&ended["progress"], &ended["ok"]),
        (&json!("ended"), &json!(true))
    );
    let (_, list) = daemon.get("/api/v1/requests?limit=1");
    assert_eq!(list["requests"].as_array().unwrap().len(), 1);
    assert_eq!(list["requests"][0]["command"], "reboot", "newest first");

    // A long poll ends when its time is over.
    let (_, long) = daemon.call(
        "POST",
        "/api/v1/pdus/slow/outlets/2/reboot?wait=false",
        Some(json!({"delay": 30})),
    );
    let began = Instant::now();
    let (_, still) = daemon.get(&format!("/api/v1/requests/{}?wait=1", long["id"]));
    assert_ne!(still["progress"], "ended");
    assert!(began.elapsed() >= Duration::from_millis(900));
}

/// A request that is put off, and cancelled, holds nobody up.
#[test]
fn what_was_put_off_and_cancelled_is_gone() {
    let daemon = daemon();
    let off = json!({"targets": ["rack 1/a:4"], "command": "off", "delay": 3600});
    std::thread::scope(|scope| {
        let later = scope.spawn(|| daemon.call("POST", "/api/v1/requests", Some(off)));
        let id = wait_for("the request", || {
            let (_, list) = daemon.get("/api/v1/requests?limit=1");
            list["requests"][0]["id"].as_u64()
        });
        assert_eq!(daemon.get(RACK1).1["waiting"], 1);
        let (status, _) = daemon.call("DELETE", &format!("/api/v1/requests/{id}"), None);
        assert_eq!(status, 200);
        let (_, later) = later.join().expect("answered");
        assert_eq!(
            kind(&later["results"][0]["problem"]),
            "cancelled",
            "{later}"
        );
    });
    let state = format!("{RACK1}/outlets/4/state");
    let (status, on) = daemon.call("PUT", &state, Some(json!({"state": "on"})));
    assert_eq!(status, 200, "{on}");
    assert_eq!(daemon.get(RACK1).1["waiting"], 0);
}

#[test]
fn a_switch_that_no_state_confirms_is_told_as_unconfirmed() {
    let relay = |status: Value| {
        let mut pdu = json!({"driver": "localcmdline", "cmd_on": "true", "cmd_off": "true"});
        pdu["cmd_status"] = status;
        pdu
    };
    let mut weak = relay(json!("echo off"));
    weak["confirm"] = json!("reply");
    let pdus = json!({"weak": weak, "blind": relay(json!("")), "sure": relay(json!("echo on"))});
    let daemon = Daemon::start(&pdus, &json!({}));
    for (pdu, unconfirmed, source) in [
        ("weak", json!(true), "unconfirmed"),
        ("blind", json!(true), "unconfirmed"),
        ("sure", Value::Null, "switched"),
    ] {
        let state = format!("/api/v1/pdus/{pdu}/outlets/1/state");
        let (status, request) = daemon.call("PUT", &state, Some(json!({"state": "on"})));
        assert_eq!((status, &request["ok"]), (200, &json!(true)), "{request}");
        assert_eq!(request["unconfirmed"], unconfirmed, "{pdu}: {request}");
        let (_, report) = daemon.get(&format!("/api/v1/pdus/{pdu}"));
        assert_eq!(report["outlets"][0]["source"], source, "{report}");
    }
    let many = json!({"targets": ["weak:1", "sure:1"], "command": "on"});
    let (_, told) = daemon.call("POST", "/api/v1/requests", Some(many));
    assert_eq!(told["results"][0]["unconfirmed"], true, "{told}");
    assert_eq!(told["results"][1]["unconfirmed"], Value::Null, "{told}");
}

#[test]
fn a_state_is_read_in_its_place_and_from_the_device_and_equal_reads_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (outlet, reads, gate) = (file("outlet"), file("reads"), file("gate"));
    let (outlet, reads_path) = (outlet.display(), reads.display());
    let switch = |to: &str| {
        let gate = gate.display();
        format!("until [ -e {gate} ]; do sleep 0.02; done; echo {to} > {outlet}; : %s")
    };
    let pdu = json!({
        // Only what is asked for is read.
        "driver": "localcmdline", "retries": 1, "confirm": "reply",
        "cmd_on": switch("on"), "cmd_off": switch("off"),
        "cmd_status": format!("echo read >> {reads_path}; cat {outlet}; : %s"),
    });
    let daemon = Daemon::start(&json!({"pdu": pdu}), &json!({}));
    let state = "/api/v1/pdus/pdu/outlets/1/state";
    let put = |to: &str| {
        let (status, _) = daemon.call(
            "PUT",
            &format!("{state}?wait=false"),
            Some(json!({ "state": to })),
        );
        assert_eq!(status, 202);
    };
    for to in ["on", "off", "on"] {
        put(to);
    }
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..5)
            .map(|_| scope.spawn(|| daemon.state_of("pdu", "1")))
            .collect();
        wait_for("three switches and five reads to wait", || {
            let (_, pdu) = daemon.get("/api/v1/pdus/pdu");
            (pdu["waiting"] == 8).then_some(())
        });
        put("off");
        std::fs::write(&gate, "").unwrap();
        for reader in readers {
            let state = reader.join().unwrap();
            assert_eq!(state, "on", "behind three switches, before the fourth");
        }
    });
    let count = || std::fs::read_to_string(&reads).unwrap().lines().count();
    assert_eq!(
        count(),
        1,
        "five that wait side by side are answered by one"
    );
    assert_eq!(daemon.state_of("pdu", "1"), "off");
    std::fs::write(file("outlet"), "on\n").unwrap();
    assert_eq!(daemon.state_of("pdu", "1"), "on", "switched by hand");
    assert_eq!(count(), 3);
}

#[test]
fn a_full_queue_says_so() {
    let daemon = daemon();
    let path = "/api/v1/pdus/full/outlets/1/state?wait=false";
    daemon.call("PUT", path, Some(json!({"state": "on"})));
    let (status, body) = daemon.call("PUT", path, Some(json!({"state": "off"})));
    assert_eq!((status, kind(&body)), (429, "queue-full"));
}

#[test]
fn ranges_act_in_parallel_and_tell_partial_failure() {
    let daemon = daemon();
    let post = |targets: Value, command: &str| {
        let body = json!({"targets": targets, "command": command});
        daemon.call("POST", "/api/v1/requests", Some(body))
    };
    let (status, all) = post(json!(["rack 1/a:1-3,12", "@board"]), "on");
    assert_eq!((status, &all["ok"]), (200, &json!(true)), "{all}");
    assert_eq!(all["results"].as_array().unwrap().len(), 5);
    assert_eq!(all["results"][3]["target"], "rack 1/a:12");
    let (status, some) = post(json!(["rack2:1-2"]), "on");
    assert_eq!((status, &some["ok"]), (207, &json!(false)));
    assert_eq!(kind(&some["results"][1]["problem"]), "pdu-refused");
    let (status, none) = post(json!(["rack2:2", "rack[2]:2"]), "off");
    assert_eq!(status, 502);
    assert_eq!(
        none["results"].as_array().unwrap().len(),
        1,
        "named twice, done once"
    );
    let (_, states) = post(json!(["rack[2-2]:1"]), "get-status");
    assert_eq!(states["results"][0]["state"], "on");

    // One wrong name, and nothing is touched.
    let (status, body) = post(json!(["rack2:1", "rack2:77"]), "off");
    assert_eq!((status, kind(&body)), (404, "no-such-outlet"));
    assert_eq!(daemon.state_of("rack2", "1"), "on");
    for bad in [
        json!([]),
        json!(["rack2"]),
        json!(["rack2:1-99999"]),
        json!("rack2:1"),
    ] {
        assert_eq!(post(bad.clone(), "on").0, 400, "{bad}");
    }
    assert_eq!(post(json!(["rack2:1"]), "toggle").0, 400);
}

#[test]
fn a_list_reads_old_states_in_the_background() {
    let daemon = daemon();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let (_, pdu) = daemon.get("/api/v1/pdus/rack2?refresh=60");
        if pdu["outlets"][0]["state"] == "off" && pdu["outlets"][1]["state"] == "off" {
            assert_eq!(pdu["outlets"][0]["source"], "read");
            break;
        }
        assert!(Instant::now() < until, "the states were not read: {pdu}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (_, requests) = daemon.get("/api/v1/requests");
    assert_eq!(
        requests["requests"],
        json!([]),
        "reads of lists are no requests"
    );
}

#[test]
fn background_reads_come_as_often_as_the_key_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let reads = |name: &str| {
        let reads = std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        reads.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let pdu = |name: &str, refresh: Value| {
        let file = folder.path().join(name);
        let script = format!("echo $1 >> {}; echo on", file.display());
        let mut pdu = json!({
            "driver": "localcmdline", "cmd_on": "true", "cmd_off": "true", "outlets": [1, 2],
            "cmd_status": ["/bin/sh", "-c", script, "script", "%s"],
        });
        if !refresh.is_null() {
            pdu["refresh"] = refresh;
        }
        pdu
    };
    let pdus = json!({
        "often": pdu("often", json!(1)),
        "default": pdu("default", Value::Null),
        "never": pdu("never", json!("never")),
    });
    let daemon = Daemon::start(&pdus, &json!({}));
    let until = Instant::now() + Duration::from_secs(60);
    while reads("often").len() < 4 || reads("default").len() < 2 {
        assert!(Instant::now() < until, "{:?}", reads("often"));
        let (status, _) = daemon.get("/api/v1/pdus?refresh=1");
        assert_eq!(status, 200);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(reads("often")[..4], ["1", "2", "1", "2"]);
    assert_eq!(reads("default"), ["1", "2"], "once a minute");
    assert_eq!(reads("never"), [""; 0]);
}

#[test]
fn a_pdu_that_tells_all_its_states_at_once_is_asked_once() {
    let page: String = (0..8)
        .map(|outlet| {
            let state = ["on", "off"][outlet % 2];
            format!("<outletStat{outlet}>{state}</outletStat{outlet}>")
        })
        .collect();
    let pdu = Server::replying(move |_, _| answer(200, &[], page.as_bytes()));
    let address = format!("127.0.0.1:{}", pdu.port);
    let pdus = json!({"rack": {"driver": "intellinet", "ip": address}});
    let daemon = Daemon::start(&pdus, &json!({}));
    let until = Instant::now() + Duration::from_secs(60);
    let states = loop {
        let (_, rack) = daemon.get("/api/v1/pdus/rack?refresh=3600");
        let outlets = rack["outlets"].as_array().expect("a list");
        let states: Vec<Value> = outlets.iter().map(|one| one["state"].clone()).collect();
        if !states.contains(&Value::Null) {
            break states;
        }
        assert!(Instant::now() < until, "{rack}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(json!(states), json!(["on", "off"].repeat(4)));
    assert_eq!(pdu.requests(), 1);
}

#[test]
fn a_large_list_reaches_a_slow_reader_and_nobody_waits_for_it() {
    let pdus: serde_json::Map<String, Value> = (0..150)
        .map(|number| {
            (
                format!("pdu{number}"),
                json!({"driver": "simulated", "outlets": 60}),
            )
        })
        .collect();
    let daemon = Daemon::start(&Value::Object(pdus), &json!({}));
    let mut slow: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(&daemon.address).unwrap();
            stream
                .write_all(
                    b"GET /api/v1/pdus HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                )
                .unwrap();
            stream
        })
        .collect();
    // They do not read; others are served.
    let (status, _) = daemon.get("/healthz");
    assert_eq!(status, 200);
    assert_eq!(daemon.state_of("pdu1", "1"), "off");
    for stream in &mut slow {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("the whole list");
        assert!(
            text.len() > 400_000 && text.ends_with("}]}"),
            "{} bytes",
            text.len()
        );
    }
}

#[test]
fn health_metrics_and_page_are_there() {
    let mut daemon = daemon();
    let (status, health) = daemon.get("/healthz");
    assert_eq!((status, &health["status"]), (200, &json!("ok")));
    daemon.call(
        "PUT",
        "/api/v1/pdus/rack2/outlets/1/state",
        Some(json!({"state": "on"})),
    );
    let (status, head, text) = daemon.raw("GET", "/metrics", "", "");
    assert_eq!(status, 200);
    assert!(head.contains("application/openmetrics-text"));
    for line in [
        r#"pdudaemon_requests_total{action="on",result="ok"} 1"#,
        r#"pdudaemon_outlet_on{pdu="rack2",outlet="1"} 1"#,
        r#"pdudaemon_pdu_reachable{pdu="rack2"} 1"#,
    ] {
        assert!(
            text.lines().any(|got| got == line),
            "{line} is not in\n{text}"
        );
    }
    for (path, kind) in [
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/page.css", "text/css"),
    ] {
        let (status, head, _) = daemon.raw("GET", path, "", "");
        assert_eq!(status, 200);
        assert!(
            head.contains(kind) && head.contains("Content-Security-Policy: default-src 'none'")
        );
    }
    let (status, head, body) = daemon.raw("HEAD", "/api/v1/pdus", "", "");
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(head.contains("Content-Length: "));

    // Every thread gives its sign of life.
    let listeners = daemon.listeners.as_mut().unwrap();
    assert_eq!(listeners.stuck(), Vec::<&str>::new());
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let stuck = listeners.stuck();
        if stuck.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "no sign of life from {stuck:?}");
    }
}

/// What schemathesis makes of the daemon, and how often each status was answered.
fn schemathesis(daemon: &Daemon, tokens: &[&str]) -> BTreeMap<u16, u64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/peers/openapi.py");
    let output = Command::new(python_with("schemathesis"))
        .arg(script)
        .arg(format!("http://{}", daemon.address))
        .args(tokens)
        .output()
        .expect("Python starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    let counts = printed.lines().last().expect("the counts");
    serde_json::from_str(counts).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

fn lab(access: &Value) -> Daemon {
    let pdus = json!({
        "rack1": {"driver": "simulated", "outlets": 4, "queue_limit": 100_000},
        "rack2": {"driver": "simulated", "outlets": 4, "refuse_outlets": [1, 2, 3]},
        "blind": {"driver": "localcmdline", "cmd_on": "true", "cmd_off": "true"},
    });
    let aliases = json!({"board": {"hostname": "rack1", "port": 3}});
    Daemon::start_for(access, &pdus, &aliases)
}

#[test]
fn schemathesis_finds_nothing() {
    let statuses = schemathesis(&lab(&json!({})), &[]);
    for status in [200, 202, 400, 404, 501, 502] {
        assert!(statuses.contains_key(&status), "{statuses:?}");
    }
    assert!(!statuses.contains_key(&401) && !statuses.contains_key(&403));
}

const ALL: &str = "token-for-everything-there-is";
const SOME: &str = "token-for-reading-and-two-outlets";

fn with_tokens() -> Daemon {
    let hash = |token: &str| -> String {
        let hash = Token::hash_of(token);
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    lab(&json!({"tokens": [
        {"name": "all", "sha256": hash(ALL)},
        {"name": "some", "sha256": hash(SOME), "allow": [
            {"pdus": ["rack1", "blind"], "commands": ["get-status"]},
            {"pdus": ["rack1"], "outlets": ["1-2"], "commands": ["on"]},
        ]},
    ]}))
}

/// The outlets that are on.
fn on(daemon: &Daemon) -> Vec<String> {
    let header = format!("Authorization: Bearer {ALL}\r\n");
    let (_, _, body) = daemon.raw("GET", "/api/v1/pdus", &header, "");
    let list: Value = serde_json::from_str(&body).expect("JSON");
    let pdus = list["pdus"].as_array().expect("a list").iter();
    pdus.flat_map(|pdu| {
        let outlets = pdu["outlets"].as_array().expect("a list").iter();
        outlets
            .filter(|outlet| outlet["state"] == "on")
            .map(|outlet| format!("{}:{}", pdu["name"], outlet["outlet"]).replace('"', ""))
            .collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn schemathesis_finds_nothing_with_a_token() {
    let statuses = schemathesis(&with_tokens(), &[ALL, ALL]);
    for status in [200, 202, 400, 404, 501, 502] {
        assert!(statuses.contains_key(&status), "{statuses:?}");
    }
    assert!(!statuses.contains_key(&403), "{statuses:?}");
}

#[test]
fn schemathesis_finds_nothing_with_a_token_for_little() {
    let daemon = with_tokens();
    let statuses = schemathesis(&daemon, &[ALL, SOME]);
    for status in [200, 400, 403, 404, 501] {
        assert!(statuses.contains_key(&status), "{statuses:?}");
    }
    let on = on(&daemon);
    assert!(!on.is_empty(), "it may switch on rack1:1-2");
    assert!(
        on.iter().all(|on| on == "rack1:1" || on == "rack1:2"),
        "{on:?}"
    );
}

#[test]
fn schemathesis_finds_nothing_without_the_token_that_is_needed() {
    let daemon = with_tokens();
    let statuses = schemathesis(&daemon, &[ALL]);
    // The page and the health are for everybody.
    assert!(statuses.contains_key(&200), "{statuses:?}");
    assert!(statuses.get(&401) > statuses.get(&200), "{statuses:?}");
    assert!(
        statuses.keys().all(|status| [200, 401].contains(status)),
        "{statuses:?}"
    );
    assert_eq!(on(&daemon), Vec::<String>::new());
}
