//! `pduclient` asks what it is told to ask, shows what came of it, and ends with a status that says
//! so. It meets a stub of `/api/v1`, a stub of the Python program's daemon, and the daemon itself.

use crate::daemon::Lab;
use crate::sim::port;
use serde_json::{Value, json};
use serialport::{SerialPort, TTYPort};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tiny_http::{Header, Response, Server};

/// One request that reached a stub.
#[derive(Clone, Debug)]
struct Seen {
    method: String,
    url: String,
    authorization: Option<String>,
    body: String,
}

impl Seen {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a JSON body")
    }
}

/// What a stub answers: status and body; a problem document when the status is an error.
type Answer = Box<dyn Fn(&Seen) -> (u16, String) + Send + Sync>;

/// A small HTTP server on a loopback port of its own.
struct Stub {
    server: Arc<Server>,
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    thread: Option<JoinHandle<()>>,
}

fn serve(mut request: tiny_http::Request, answer: &Answer, log: &Mutex<Vec<Seen>>) {
    let mut body = String::new();
    let _ = request.as_reader().read_to_string(&mut body);
    let one = Seen {
        method: request.method().to_string(),
        url: request.url().to_owned(),
        authorization: request
            .headers()
            .iter()
            .find(|header| header.field.equiv("Authorization"))
            .map(|header| header.value.to_string()),
        body,
    };
    let (status, text) = answer(&one);
    log.lock().expect("log").push(one);
    let kind = if text.starts_with('{') && status >= 400 {
        "application/problem+json"
    } else {
        "application/json"
    };
    let mut response = Response::from_string(text)
        .with_status_code(status)
        .with_header(Header::from_bytes("Content-Type", kind).expect("a header"));
    if (300..400).contains(&status) {
        response
            .add_header(Header::from_bytes("Location", "http://127.0.0.1:1/").expect("a header"));
    }
    let _ = request.respond(response);
}

impl Stub {
    fn new(answer: Answer) -> Self {
        let server = Arc::new(Server::http("127.0.0.1:0").expect("a port"));
        let address = server.server_addr().to_ip().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (theirs, log) = (Arc::clone(&server), Arc::clone(&seen));
        let answer = Arc::new(answer);
        let thread = std::thread::spawn(move || {
            while let Ok(request) = theirs.recv() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                std::thread::spawn(move || serve(request, &answer, &log));
            }
        });
        Self {
            server,
            address,
            seen,
            thread: Some(thread),
        }
    }

    /// Answers everything alike.
    fn always(status: u16, body: impl Into<String>) -> Self {
        let body = body.into();
        Self::new(Box::new(move |_| (status, body.clone())))
    }

    fn client(&self, args: &[&str]) -> Output {
        client(&self.address.to_string(), args, &[])
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("log").clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs the client to its end, knowing nothing of this machine's environment.
fn client(daemon: &str, args: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pduclient"))
        .args(args)
        .env_clear()
        .env("PDUDAEMON", daemon)
        .env("http_proxy", "http://127.0.0.1:1")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the client starts")
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (
        output.status.code().expect("an exit status"),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn problem(status: u16, kind: &str, detail: &str) -> String {
    json!({
        "type": format!("urn:pdudaemon:problem:{kind}"),
        "title": kind,
        "status": status,
        "detail": detail,
    })
    .to_string()
}

fn result(pdu: &str, outlet: &str, ok: bool, more: Value) -> Value {
    let mut result =
        json!({"target": format!("{pdu}:{outlet}"), "pdu": pdu, "outlet": outlet, "ok": ok});
    for (key, value) in more.as_object().expect("an object") {
        result[key] = value.clone();
    }
    result
}

#[test]
fn all_done_is_0_and_a_line_each() {
    let stub = Stub::always(
        200,
        json!({"ok": true, "results": [
            result("rack1", "1", true, json!({})),
            result("rack10", "2", true, json!({})),
        ]})
        .to_string(),
    );
    let output = stub.client(&["on", "rack1:1", "rack10:2"]);
    assert_eq!(
        told(&output),
        (0, "rack1:1   on\nrack10:2  on".into(), String::new())
    );
    let seen = stub.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].method.as_str(), seen[0].url.as_str()),
        ("POST", "/api/v1/requests")
    );
    assert_eq!(
        seen[0].json(),
        json!({"targets": ["rack1:1", "rack10:2"], "command": "on"})
    );
    assert_eq!(seen[0].authorization, None);
}

#[test]
fn some_failed_is_127_and_tells_which() {
    let stub = Stub::always(
        207,
        json!({"ok": false, "results": [
            result("rack1", "1", true, json!({})),
            result("rack2", "1", false, json!({"problem": {
                "type": "urn:pdudaemon:problem:pdu-unreachable", "title": "x", "status": 504,
                "detail": "rack2: no answer\u{1b}[2J within 30 s"}})),
        ]})
        .to_string(),
    );
    let (code, out, err) = told(&stub.client(&["reboot", "rack[1-2]:1", "--delay", "0.5"]));
    assert_eq!(code, 127);
    assert_eq!(
        out,
        "rack1:1  rebooted\nrack2:1  failed: rack2: no answer\u{fffd}[2J within 30 s"
    );
    assert_eq!(err, "pduclient: 1 of 2 failed");
    assert_eq!(
        stub.seen()[0].json(),
        json!({"targets": ["rack[1-2]:1"], "command": "reboot", "delay": 0.5})
    );
}

#[test]
fn all_failed_is_127_even_as_a_502() {
    let stub = Stub::always(
        502,
        json!({"ok": false, "results": [
            result("rack1", "1", false, json!({"problem": {"title": "refused"}})),
        ]})
        .to_string(),
    );
    assert_eq!(
        told(&stub.client(&["off", "rack1:1"])),
        (127, String::new(), "pduclient: rack1:1: refused".into())
    );
}

#[test]
fn one_state_is_bare_and_several_are_lines() {
    let one = Stub::always(
        200,
        json!({"ok": true, "results": [result("p", "1", true, json!({"state": "off"}))]})
            .to_string(),
    );
    assert_eq!(
        told(&one.client(&["state", "p:1"])),
        (0, "off".into(), String::new())
    );
    assert_eq!(one.seen()[0].json()["command"], "get-status");
    let two = Stub::always(
        200,
        json!({"ok": true, "results": [
            result("p", "1", true, json!({"state": "on"})),
            {"target": "@dut", "pdu": "p", "outlet": "2", "ok": true, "state": "unknown"},
        ]})
        .to_string(),
    );
    assert_eq!(
        told(&two.client(&["state", "p:1", "@dut"])),
        (0, "p:1   on\n@dut  unknown".into(), String::new())
    );
    let (code, out, _) = told(&two.client(&["state", "p:1", "@dut", "--json"]));
    assert_eq!(code, 0);
    let answer: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(answer["results"][0]["state"], "on");
}

#[test]
fn a_state_that_is_neither_is_told_with_what_was_read() {
    let differing = json!({
        "target": "@dut", "alias": "dut", "ok": false, "state": "unknown",
        "detail": "the outlets differ: PDU p, outlet 1 on; PDU p, outlet 2 off",
    });
    let one = Stub::always(
        502,
        json!({"ok": false, "results": [differing]}).to_string(),
    );
    assert_eq!(
        told(&one.client(&["state", "@dut"])),
        (
            127,
            "unknown".into(),
            "pduclient: @dut: the outlets differ: PDU p, outlet 1 on; PDU p, outlet 2 off".into()
        )
    );
    let two = json!({"ok": false, "results": [
        differing, result("p", "1", true, json!({"state": "on"})),
    ]});
    let two = Stub::always(207, two.to_string());
    assert_eq!(
        told(&two.client(&["state", "@dut", "p:1"])),
        (
            127,
            "@dut  unknown (the outlets differ: PDU p, outlet 1 on; PDU p, outlet 2 off)\np:1   on"
                .into(),
            "pduclient: 1 of 2 are neither on nor off".into()
        )
    );
}

#[test]
fn nothing_is_asked_when_a_range_makes_no_sense() {
    let stub = Stub::always(500, "");
    for (target, reason) in [
        ("rack1", "expected PDU:OUTLETS or @ALIAS"),
        ("rack1:8-1", "expected the smaller number first"),
        ("rack[1-4:1", "expected a ] for every ["),
        ("rack1:1-2000", "expected at most 1024 in all"),
    ] {
        let (code, out, err) = told(&stub.client(&["off", "rack1:1", target]));
        assert_eq!((code, out.as_str()), (2, ""), "{target}");
        assert!(err.contains(reason), "{target}: {err}");
    }
    assert!(stub.seen().is_empty());
}

#[test]
fn a_problem_is_told_in_the_daemons_words() {
    let stub = Stub::always(404, problem(404, "unknown-pdu", "no PDU \"rack9\""));
    let (code, out, err) = told(&stub.client(&["on", "rack9:1"]));
    assert_eq!((code, out.as_str()), (127, ""));
    assert!(err.ends_with(": no PDU \"rack9\""), "{err}");
    let (code, out, _) = told(&stub.client(&["on", "rack9:1", "--json"]));
    assert_eq!(code, 127);
    let document: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(document["type"], "urn:pdudaemon:problem:unknown-pdu");
}

#[test]
fn no_daemon_is_1_and_silence_is_127() {
    let address = format!("127.0.0.1:{}", port::free());
    for args in [&["list"][..], &["on", "p:1"], &["requests"]] {
        let (code, out, err) = told(&client(&address, args, &[]));
        assert_eq!((code, out.as_str()), (1, ""), "{args:?}: {err}");
        assert!(err.contains("no daemon at"), "{err}");
    }
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    let started = Instant::now();
    for args in [
        &["list", "--timeout", "0.3"][..],
        &["on", "p:1", "--timeout", "0.3"],
    ] {
        let (code, _, err) = told(&client(&address, args, &[]));
        assert_eq!(code, 127, "{args:?}: {err}");
        assert!(err.contains("did not answer in time"), "{err}");
    }
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn what_is_no_daemon_is_told_and_not_followed() {
    for (status, body) in [(302, ""), (200, "<html>hello</html>"), (500, "oops")] {
        let stub = Stub::always(status, body);
        let (code, out, err) = told(&stub.client(&["list"]));
        assert_eq!((code, out.as_str()), (127, ""), "{status}: {err}");
        assert!(err.contains("is no pdudaemon, it seems"), "{err}");
        assert_eq!(stub.seen().len(), 1);
    }
}

/// Answers as the Python program's daemon does: it knows one path, and only GET.
fn python(status: u16, body: &'static str) -> Stub {
    Stub::new(Box::new(move |seen| {
        if seen.method != "GET" {
            (405, "405: Method Not Allowed".into())
        } else if seen.url.starts_with("/power/control/") {
            (status, body.into())
        } else {
            (404, "404: Not Found".into())
        }
    }))
}

#[test]
fn the_python_daemon_is_asked_the_old_way() {
    let stub = python(200, "OK - accepted request\n");
    let (code, out, err) = told(&stub.client(&["off", "rack 1:3"]));
    assert_eq!((code, out.as_str()), (0, "rack 1:3  off"), "{err}");
    assert!(
        err.contains("has no /api/v1, asked on /power/control instead"),
        "{err}"
    );
    assert_eq!(
        stub.seen().last().expect("two requests").url,
        "/power/control/off?hostname=rack+1&port=3"
    );
    let (code, ..) = told(&stub.client(&["reboot", "@dut", "--delay", "7"]));
    assert_eq!(code, 0);
    assert_eq!(
        stub.seen().last().expect("requests").url,
        "/power/control/reboot?alias=dut&delay=7"
    );
    let before = stub.seen().len();
    for args in [
        &["state", "rack1:3"][..],
        &["on", "rack1:1-2"],
        &["list"],
        &["requests"],
    ] {
        let (code, out, err) = told(&stub.client(args));
        assert_eq!((code, out.as_str()), (127, ""), "{args:?}");
        assert!(err.contains("has no /api/v1"), "{args:?}: {err}");
    }
    assert!(
        stub.seen()[before..]
            .iter()
            .all(|seen| !seen.url.starts_with("/power")),
        "nothing was switched by halves"
    );
    let refusing = python(500, "Invalid request\n");
    let (code, out, err) = told(&refusing.client(&["on", "rack1:3"]));
    assert_eq!((code, out.as_str()), (127, ""));
    assert!(
        err.ends_with("pduclient: rack1:3: Invalid request"),
        "{err}"
    );
}

#[test]
fn the_token_comes_from_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    let mut file = std::fs::File::create(&path).expect("a file");
    writeln!(file, "s3cret-t0ken").expect("written");
    let path = path.to_str().expect("UTF-8");
    let stub = Stub::new(Box::new(|seen| match &seen.authorization {
        Some(token) if token == "Bearer s3cret-t0ken" => (200, r#"{"pdus": []}"#.into()),
        _ => (401, problem(401, "unauthorized", "a token is needed")),
    }));
    assert_eq!(told(&stub.client(&["list", "--token-file", path])).0, 0);
    let address = stub.address.to_string();
    let variable = [("PDUDAEMON_TOKEN_FILE", path)];
    assert_eq!(told(&client(&address, &["list"], &variable)).0, 0);
    let (code, _, err) = told(&stub.client(&["list"]));
    assert_eq!(code, 127);
    assert!(
        err.contains("a token is needed (give a token with --token-file)"),
        "{err}"
    );
    // The old options over HTTP take it too.
    let old = [
        "-H",
        "--daemon",
        &address,
        "--hostname",
        "p",
        "--port",
        "1",
        "--command",
        "on",
    ];
    assert_eq!(told(&client("", &old, &variable)).0, 0);
    assert_eq!(told(&client("", &old, &[])).0, 127);

    let bad = folder.path().join("bad");
    std::fs::write(&bad, "two words\n").expect("written");
    let bad = bad.to_str().expect("UTF-8");
    let before = stub.seen().len();
    let (code, _, err) = told(&stub.client(&["list", "--token-file", bad]));
    assert_eq!(code, 2, "{err}");
    assert!(!err.contains("two words"), "{err}");
    assert_eq!(stub.seen().len(), before);
}

#[test]
fn lists_align_and_tell_what_is_known() {
    let stub = Stub::new(Box::new(|seen| {
        let rack1 = json!({
            "name": "rack1", "about": "left of the door", "driver": "apc7952", "reads_back": true,
            "reachable": true, "waiting": 0, "outlet_count": 3, "outlets": [
                {"outlet": "1", "name": "board7", "state": "on", "source": "read", "age": 3.2},
                {"outlet": "2", "state": "unknown", "detail": "cycling", "source": "read", "age": 300},
                {"outlet": "3", "state": null, "source": null}]});
        let far = json!({
            "name": "a/b c", "driver": "ubiquity", "reads_back": false, "reachable": false,
            "waiting": 12, "last_error": {"outlet": "4", "text": "no route"},
            "outlet_count": null, "outlets": []});
        match seen.url.as_str() {
            "/api/v1/pdus" => (200, json!({"pdus": [rack1, far]}).to_string()),
            "/api/v1/pdus/rack1" => (200, rack1.to_string()),
            "/api/v1/pdus/a%2Fb%20c" => (200, far.to_string()),
            "/api/v1/aliases" => (
                200,
                json!({"aliases": [
                    {"alias": "dut", "outlets": [{"pdu": "rack1", "outlet": "1"}, {"pdu": "x", "outlet": "2"}]},
                    {"alias": "lost", "outlets": [], "broken": "no PDU \"y\""}]})
                .to_string(),
            ),
            _ => (404, problem(404, "unknown-pdu", "no such PDU")),
        }
    }));
    assert_eq!(
        told(&stub.client(&["list"])).1,
        "PDU    DRIVER    REACHABLE      WAITING  OUTLETS        ABOUT\n\
         rack1  apc7952   yes            0        3              left of the door\n\
         a/b c  ubiquity  no (outlet 4)  12       not known yet  -"
    );
    let (code, out, err) = told(&stub.client(&["list", "rack[1-2]", "a/b c"]));
    assert_eq!(code, 127, "rack2 is not there");
    assert!(err.ends_with(": no such PDU"), "{err}");
    assert_eq!(
        out,
        "PDU        rack1\n\
         about      left of the door\n\
         driver     apc7952\n\
         reachable  yes\n\
         waiting    0\n\
         \n\
         OUTLET  NAME    STATE              KNOWN\n\
         1       board7  on                 read 3s ago\n\
         2       -       unknown (cycling)  read 5m ago\n\
         3       -       -                  -\n\
         \n\
         PDU         a/b c\n\
         driver      ubiquity\n\
         reachable   no (outlet 4)\n\
         waiting     12\n\
         states      cannot be read from this PDU\n\
         last error  no route\n\
         outlets     not known yet"
    );
    assert_eq!(
        told(&stub.client(&["list", "--aliases"])).1,
        "ALIAS  OUTLETS\n@dut   rack1:1 x:2\n@lost  no PDU \"y\""
    );
    let json: Value =
        serde_json::from_str(&told(&stub.client(&["list", "rack1", "--json"])).1).expect("JSON");
    assert_eq!(json["outlets"][0]["name"], "board7");

    // What the shells ask for.
    for (args, names) in [
        (&["complete", "pdus"][..], "rack1\na/b c"),
        (&["complete", "aliases"], "dut\nlost"),
        (&["complete", "outlets", "rack1"], "1\n2\n3"),
        (&["complete", "targets"], "rack1:\na/b c:\n@dut\n@lost"),
        (&["complete", "targets", "ra"], "rack1:\na/b c:"),
        (&["complete", "targets", "@"], "@dut\n@lost"),
        (
            &["complete", "targets", "rack1:"],
            "rack1:1\nrack1:2\nrack1:3",
        ),
    ] {
        assert_eq!(
            told(&stub.client(args)),
            (0, names.into(), String::new()),
            "{args:?}"
        );
    }
    assert_eq!(
        told(&stub.client(&["complete", "outlets", "nowhere"])),
        (1, String::new(), String::new())
    );
}

#[test]
fn requests_are_listed_followed_and_cancelled() {
    let turns = Mutex::new(0);
    let stub = Stub::new(Box::new(move |seen| {
        let request = |progress: &str, more: Value| {
            let mut request = json!({
                "id": 17, "client": "10.0.0.1", "target": {"pdu": "rack1", "outlet": "3"},
                "command": "reboot", "progress": progress, "submitted": "2020-01-01T00:00:00Z"});
            for (key, value) in more.as_object().expect("an object") {
                request[key] = value.clone();
            }
            request
        };
        match (seen.method.as_str(), seen.url.as_str()) {
            ("GET", "/api/v1/requests?limit=50") => (
                200,
                json!({"requests": [
                    request("running", json!({})),
                    request("ended", json!({"id": "16", "ok": false, "problem": {"title": "t", "detail": "no answer"}})),
                    request("ended", json!({"id": 15, "ok": true, "took": 6.25, "target": {"alias": "dut"}})),
                ]})
                .to_string(),
            ),
            ("GET", url) if url.starts_with("/api/v1/requests/17?wait=") => {
                let mut turns = turns.lock().expect("turns");
                *turns += 1;
                let more = json!({"ok": true, "took": 1.0});
                (200, match *turns { 1 => request("waiting", json!({})), 2 => request("running", json!({})), _ => request("ended", more) }.to_string())
            }
            ("GET", url) if url.starts_with("/api/v1/requests/16?") => {
                (200, request("ended", json!({"id": 16, "ok": false, "problem": {"detail": "refused"}})).to_string())
            }
            ("DELETE", "/api/v1/requests/17") => (200, request("ended", json!({"ok": false})).to_string()),
            ("DELETE", _) => (409, problem(409, "cancelled", "16 has ended already")),
            _ => (404, problem(404, "not-found", "no such request")),
        }
    }));
    let (code, out, _) = told(&stub.client(&["requests"]));
    assert_eq!(code, 0);
    let lines: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["ID", "ASKED", "BY", "COMMAND", "TARGET", "RESULT"]
    );
    assert_eq!(lines[1][3..], ["10.0.0.1", "reboot", "rack1:3", "running"]);
    assert_eq!(
        lines[2][3..],
        ["10.0.0.1", "reboot", "rack1:3", "failed:", "no", "answer"]
    );
    assert_eq!(
        lines[3][3..],
        ["10.0.0.1", "reboot", "@dut", "done", "in", "6.2s"]
    );
    let (code, out, _) = told(&stub.client(&["requests", "--follow", "17"]));
    assert_eq!(code, 0);
    assert!(out.ends_with("done in 1.0s"), "{out}");
    assert_eq!(told(&stub.client(&["requests", "--follow", "16"])).0, 127);
    assert_eq!(
        told(&stub.client(&["requests", "--follow", "../pdus"])).0,
        127
    );
    assert_eq!(
        told(&stub.client(&["requests", "--cancel", "17"])),
        (0, "cancelled 17".into(), String::new())
    );
    let (code, _, err) = told(&stub.client(&["requests", "--cancel", "16"]));
    assert_eq!(code, 127);
    assert!(err.ends_with("16 has ended already"), "{err}");
    assert!(
        stub.seen().iter().any(|seen| seen.url.contains("wait=30")),
        "a long poll"
    );
    assert!(
        stub.seen()
            .iter()
            .any(|seen| seen.url == "/api/v1/requests/..%2Fpdus?wait=0")
    );
}

#[test]
fn help_teaches_and_old_command_lines_stay() {
    let (code, out, err) = told(&client("", &["--help"], &[]));
    assert_eq!((code, err.as_str()), (0, ""));
    for word in ["list", "state", "on", "off", "reboot", "requests"] {
        assert!(out.contains(&format!("pduclient {word} ")), "{word}: {out}");
        let (code, help, _) = told(&client("", &[word, "--help"], &[]));
        assert_eq!(code, 0);
        assert!(help.contains("Examples:\n  pduclient "), "{help}");
    }
    assert!(!out.contains("complete"));
    let args = "on --daemon h --hostname p --port 1 --command toggle";
    let args: Vec<&str> = args.split(' ').collect();
    let unknown = "Unknown pdu command: toggle".into();
    assert_eq!(told(&client("", &args, &[])), (1, unknown, String::new()));
    for (args, why, instead) in [
        (
            &[][..],
            "no --daemon, no --hostname, no --port, no --command",
            "on PDU:OUTLET",
        ),
        (
            &["--hostname", "p", "--port", "1", "--command", "off"],
            "no --daemon (PDUDAEMON counts only with a word)",
            "off p:1",
        ),
        (
            &[
                "--alias",
                "board7",
                "--command",
                "status",
                "--daemon",
                "h",
                "--port",
                "1",
                "-H",
            ],
            "--alias stands for --hostname and --port",
            "state @board7",
        ),
        (
            &["reboot", "--alias", "board7"],
            "no --daemon, no --command",
            "reboot @board7",
        ),
    ] {
        let (code, out, err) = told(&client("", args, &[("PDUDAEMON", "h")]));
        assert_eq!((code, out.as_str()), (1, "Missing option, try -h for help"));
        assert!(err.contains(why), "{args:?}: {err}");
        let instead = format!("did you mean pduclient {instead}?");
        assert!(err.ends_with(&instead), "{args:?}: {err}");
    }
    let (code, out, err) = told(&client("", &["lst"], &[]));
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.ends_with("did you mean list?"), "{err}");
    let (code, out, err) = told(&client("", &["--nonsense"], &[]));
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(
        err.starts_with("Usage: pduclient [options]\n\npduclient: error: "),
        "{err}"
    );
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let stub = Stub::always(200, r#"{"pdus": []}"#);
    let mut child = Command::new(env!("CARGO_BIN_EXE_pduclient"))
        .args(["list", "--daemon", &stub.address.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the client starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

/// Runs the client with a terminal for its output; gives the exit status and what was shown.
fn on_a_terminal(daemon: &str, args: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let (mut terminal, line) = TTYPort::pair().expect("a pty");
    let side = || {
        std::fs::OpenOptions::new()
            .write(true)
            .custom_flags(rustix::fs::OFlags::NOCTTY.bits() as i32)
            .open(line.name().expect("the pty's name"))
            .expect("the pty opens")
    };
    let status = Command::new(env!("CARGO_BIN_EXE_pduclient"))
        .args(args)
        .env_clear()
        .envs([("PDUDAEMON", daemon), ("TERM", "xterm")])
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(side())
        .stderr(side())
        .status()
        .expect("the client starts");
    terminal
        .set_timeout(Duration::from_millis(100))
        .expect("a timeout");
    let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = terminal.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..count]);
    }
    let shown = String::from_utf8(shown).expect("UTF-8");
    (status.code().expect("an exit status"), shown)
}

#[test]
fn a_terminal_has_colours_and_a_progress_line() {
    // The slow request ends when its line has been asked for twice, so was shown once.
    let (asked, line_wanted) = crossbeam_channel::unbounded();
    let stub = Stub::new(Box::new(move |seen| {
        if seen.method == "GET" {
            let _ = asked.send(());
            let open = |outlet: &str, progress: &str| {
                json!({
                "id": 1, "target": {"pdu": "p", "outlet": outlet}, "command": "on", "progress": progress})
            };
            return (
                200,
                json!({"requests": [open("1", "ended"), open("2", "running"), open("9", "waiting")]})
                    .to_string(),
            );
        }
        if seen.body.contains("slow") {
            for _ in 0..2 {
                let _ = line_wanted.recv_timeout(Duration::from_secs(30));
            }
        }
        let ok = |outlet: &str| result("p", outlet, true, json!({"state": "on"}));
        (
            200,
            json!({"ok": true, "results": [ok("1"), ok("2")]}).to_string(),
        )
    }));
    let daemon = stub.address.to_string();
    let (code, shown) = on_a_terminal(&daemon, &["on", "p:1-2"], &[]);
    assert_eq!(
        (code, shown.as_str()),
        (
            0,
            "p:1  \u{1b}[32mon\u{1b}[0m\np:2  \u{1b}[32mon\u{1b}[0m\n"
        )
    );
    let (_, shown) = on_a_terminal(&daemon, &["on", "p:1-2"], &[("NO_COLOR", "1")]);
    assert_eq!(shown, "p:1  on\np:2  on\n");
    let (_, shown) = on_a_terminal(&daemon, &["on", "p:1-2"], &[("TERM", "dumb")]);
    assert_eq!(shown, "p:1  on\np:2  on\n");
    let (_, shown) = on_a_terminal(&daemon, &["on", "slow:1", "p:2"], &[("NO_COLOR", "1")]);
    assert!(
        shown.starts_with("\r\u{1b}[Kon: 1 of 2 outlets, "),
        "{shown:?}"
    );
    assert!(shown.ends_with("\r\u{1b}[Kp:1  on\np:2  on\n"), "{shown:?}");
}

/// What bash would offer behind `line`.
fn completed(daemon: &str, line: &str) -> Vec<String> {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/share/completions/pduclient.bash"
    );
    let line = format!("{} {line}", env!("CARGO_BIN_EXE_pduclient"));
    let output = Command::new("bash")
        .args(["--norc", "-c"])
        .arg(format!(
            ". '{script}'; COMP_LINE=$1 COMP_POINT=${{#1}} COMP_WORDBREAKS=$' \\t\\n\"\\'><=;|&(:'; \
             _pduclient; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        ))
        .args(["bash", &line])
        .env("PDUDAEMON", daemon)
        .output()
        .expect("bash (Debian package bash) runs");
    let (_, out, err) = told(&output);
    assert_eq!(err, "", "{line}");
    out.lines().map(str::to_owned).collect()
}

#[test]
fn the_shell_completes_what_the_daemon_knows() {
    let stub = Stub::new(Box::new(|seen| {
        let pdu =
            |name: &str| json!({"name": name, "outlets": [{"outlet": "1"}, {"outlet": "12"}]});
        match seen.url.as_str() {
            "/api/v1/pdus" => (
                200,
                json!({"pdus": [pdu("rack1"), pdu("rack two")]}).to_string(),
            ),
            "/api/v1/pdus/rack1" => (200, pdu("rack1").to_string()),
            "/api/v1/aliases" => (200, json!({"aliases": [{"alias": "dut"}]}).to_string()),
            _ => (404, problem(404, "unknown-pdu", "none")),
        }
    }));
    let daemon = stub.address.to_string();
    for (line, offered) in [
        ("re", &["reboot", "requests"][..]),
        ("on ", &["rack1:", "rack\\ two:", "@dut"]),
        ("on rack1", &["rack1:"]),
        ("on rack1:", &["1", "12"]),
        ("off rack1:12", &["12"]),
        ("state rack1:1 @", &["@dut"]),
        ("list rack1", &["rack1"]),
        ("list --al", &["--aliases"]),
        ("reboot rack1:1 --de", &["--delay"]),
        ("--hostname rack1 --port ", &["1", "12"]),
        ("--hostname=rack1 --port=1", &["1", "12"]),
        ("-H --alias ", &["dut"]),
        ("--command r", &["reboot"]),
        ("requests --c", &["--ca", "--cert", "--cancel"]),
        ("--daemon 127.0.0.1:1 on ", &[]),
    ] {
        let got = completed(&daemon, line);
        let got: Vec<&str> = got
            .iter()
            .map(String::as_str)
            .filter(|name| !name.is_empty())
            .collect();
        assert_eq!(got, offered, "{line}");
    }
    // The daemon that the line names is the one that is asked.
    let named = format!("--daemon={daemon} list ");
    assert_eq!(completed("127.0.0.1:1", &named), ["rack1", "rack\\ two"]);
}

#[test]
fn the_daemon_itself_is_listed_read_and_switched() {
    let lab = Lab::new();
    let daemon = lab.start_with(
        json!({
            "rack1": {"driver": "simulated", "about": "by the door"},
            "rack2": {"driver": "simulated", "refuse_outlets": [3], "retries": 1},
            "odd[1-2]": {"driver": "simulated"},
        }),
        json!({"aliases": {
            "dut": {"hostname": "rack1", "port": 4},
            "both": {"outlets": [{"hostname": "rack1", "port": 5}, {"hostname": "rack2", "port": 5}]},
        }}),
        &[],
    );
    let address = daemon.address.to_string();
    let ask = |args: &[&str]| told(&client(&address, args, &[]));
    let ok = |out: &str| (0, out.to_owned(), String::new());

    let (code, out, _) = ask(&["list"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("\nrack1     simulated  not asked yet  0        8        by the door\n"),
        "{out}"
    );
    assert_eq!(ask(&["state", "rack1:1"]), ok("off"));
    assert_eq!(
        ask(&["on", "rack[1-2]:1,02", "@dut"]),
        ok("rack1:1   on\nrack1:02  on\nrack2:1   on\nrack2:02  on\n@dut      on")
    );
    assert_eq!(
        ask(&["state", "rack1:1-4"]),
        ok("rack1:1  on\nrack1:2  on\nrack1:3  off\nrack1:4  on")
    );
    assert_eq!(
        ask(&["reboot", "@both", "--delay", "0.1"]),
        ok("@both  rebooted")
    );
    // A name that looks like a range is a name when there is such a PDU.
    assert_eq!(ask(&["on", "odd[1-2]:1"]), ok("odd[1-2]:1  on"));

    let (code, out, err) = ask(&["off", "rack2:2-3"]);
    assert_eq!((code, err.as_str()), (127, "pduclient: 1 of 2 failed"));
    assert!(out.starts_with("rack2:2  off\nrack2:3  failed: "), "{out}");
    // All or nothing: one outlet that is not there, and none is touched.
    for wrong in ["rack1:99", "rack9:1", "@nobody"] {
        let (code, out, err) = ask(&["off", "rack1:1", wrong]);
        assert_eq!((code, out.as_str()), (127, ""), "{wrong}");
        assert!(err.starts_with(&format!("pduclient: {address}: ")), "{err}");
    }
    assert_eq!(ask(&["state", "rack1:1"]), ok("on"));

    let (code, out, _) = ask(&["list", "rack1", "--json"]);
    let pdu: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &pdu["outlets"][0]["state"]), (0, &json!("on")));
    let (_, out, _) = ask(&["list", "rack1"]);
    assert!(out.contains("\n1       -     on     read "), "{out}");
    assert!(
        ask(&["list", "--aliases"])
            .1
            .contains("@both  rack1:5 rack2:5")
    );
    assert_eq!(
        ask(&["complete", "targets", "r"])
            .1
            .lines()
            .collect::<Vec<_>>(),
        ["odd[1-2]:", "rack1:", "rack2:"]
    );

    let (_, out, _) = ask(&["requests", "--json"]);
    let list: Value = serde_json::from_str(&out).expect("JSON");
    let latest = list["requests"][0]["id"].to_string();
    assert_eq!(ask(&["requests", "--follow", &latest]).0, 0);
    assert!(ask(&["requests"]).1.contains(" failed: "));
    let (code, _, err) = ask(&["requests", "--cancel", &latest]);
    assert_eq!(code, 127, "{err}");
}

#[test]
fn a_waiting_request_is_followed_and_cancelled() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"slow": {"driver": "simulated", "latency": 1.5}}));
    let address = daemon.address.to_string();
    let ask = |args: &[&str]| told(&client(&address, args, &[]));
    std::thread::scope(|scope| {
        let all = scope.spawn(|| ask(&["on", "slow:1-4"]));
        let known = |id: &str| {
            let (_, out, _) = ask(&["requests", "--json"]);
            let list: Value = serde_json::from_str(&out).ok()?;
            let mut all = list["requests"].as_array()?.iter();
            all.find(|known| known["target"]["outlet"] == id)
                .map(|known| known["id"].to_string())
        };
        let (first, last) = crate::daemon::wait_for("the requests", || known("1").zip(known("4")));
        assert_eq!(
            ask(&["requests", "--cancel", &last]),
            (0, format!("cancelled {last}"), String::new())
        );
        assert_eq!(ask(&["requests", "--follow", &first]).0, 0);
        assert_eq!(ask(&["requests", "--follow", &last]).0, 127);
        let (code, out, err) = all.join().expect("the client");
        assert_eq!((code, err.as_str()), (127, "pduclient: 1 of 4 failed"));
        assert!(
            out.starts_with("slow:1  on\nslow:2  on\nslow:3  on\nslow:4  failed: "),
            "{out}"
        );
    });
}
