//! Nobody does more than the config allows: over HTTP, the line protocol and the Unix socket, with
//! and without a token. A page that tricks a browser into a request switches nothing.

use crate::daemon::{Daemon, Lab, PATIENCE, read_all, read_response, show, stderr, talk};
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use socket2::{Domain, Socket, Type};
use std::io::{BufReader, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

const LAVA: &str = "lava-token-of-sixteen-and-more";
const READER: &str = "reader-token-of-sixteen-and-more";
const ADMIN: &str = "admin-token-of-sixteen-and-more";
/// Linux answers on all of 127.0.0.0/8, so one machine can be several clients.
const TRUSTED: &str = "127.0.0.1";
const STRANGER: &str = "127.0.0.2";

pub(crate) fn sha256(token: &str) -> String {
    Sha256::digest(token.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn pdus(lab: &Lab) -> Value {
    json!({"rack1": lab.recorder("rack1"), "rack2": lab.recorder("rack2"), "desk": lab.recorder("desk"), "desk[1-2]": lab.recorder("desk[1-2]")})
}

fn guarded(lab: &Lab) -> Daemon {
    lab.write("admin", &format!("{ADMIN}\n"));
    let more = json!({
        "daemon": {
            "hostname": ["127.0.0.1", lab.path("socket").display().to_string()],
            "access": {
                "tokens": [
                    {"name": "lava", "sha256": sha256(LAVA), "allow": [
                        {"pdus": ["rack*"], "outlets": ["1-4"], "commands": ["on", "reboot"]}]},
                    {"name": "reader", "sha256": sha256(READER), "allow": [{"commands": ["get-status"]}]},
                    {"name": "admin", "file": "admin"},
                ],
                "trusted_networks": ["127.0.0.1/32"],
                "hosts": ["pdud.lab"],
            },
        },
        "aliases": {
            "board": {"hostname": "rack1", "port": 2},
            "pair": {"outlets": [{"hostname": "rack1", "port": 1}, {"hostname": "rack2", "port": 4}]},
            "mixed": {"outlets": [{"hostname": "rack1", "port": 1}, {"hostname": "desk", "port": 1}]},
        },
    });
    lab.start_with(pdus(lab), more, &[])
}

/// A connection from one of this machine's addresses.
pub(crate) fn from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let from: IpAddr = address.parse().expect("an address");
    socket
        .bind(&SocketAddr::new(from, 0).into())
        .expect("bound");
    socket
        .connect_timeout(&to.into(), PATIENCE)
        .expect("connected");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    socket.into()
}

/// One request with these header lines: status, head and body.
fn ask(
    daemon: &Daemon,
    client: &str,
    method: &str,
    target: &str,
    headers: &[&str],
) -> (u16, String) {
    ask_at(daemon.address, client, method, target, headers)
}

/// The same of whoever listens there.
pub(crate) fn ask_at(
    address: SocketAddr,
    client: &str,
    method: &str,
    target: &str,
    headers: &[&str],
) -> (u16, String) {
    let mut stream = from(client, address);
    let host = if headers.iter().any(|header| header.starts_with("Host:")) {
        String::new()
    } else {
        format!("Host: {address}\r\n")
    };
    let mut request = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n{host}");
    for header in headers {
        request += &format!("{header}\r\n");
    }
    stream
        .write_all(format!("{request}\r\n").as_bytes())
        .expect("sent");
    let text = String::from_utf8_lossy(&read_all(&mut stream)).into_owned();
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    (
        status.unwrap_or_else(|| panic!("no answer: {text:?}")),
        text,
    )
}

fn line(daemon: &Daemon, client: &str, line: &str) -> String {
    let mut stream = from(client, daemon.address);
    stream.write_all(line.as_bytes()).expect("sent");
    stream.shutdown(Shutdown::Write).expect("shut down");
    String::from_utf8_lossy(&read_all(&mut stream)).into_owned()
}

#[test]
fn who_may_do_what_over_http() {
    let lab = Lab::new();
    let daemon = guarded(&lab);
    // client, token, what, status, what is then switched
    let table: &[(&str, &str, &str, u16, &[&str])] = &[
        (TRUSTED, "", "on?hostname=desk&port=1", 200, &["desk 1 on"]),
        (TRUSTED, LAVA, "on?hostname=desk&port=1", 403, &[]),
        (TRUSTED, "wrong", "on?hostname=desk&port=1", 401, &[]),
        (STRANGER, "", "on?hostname=rack1&port=1", 401, &[]),
        (STRANGER, "wrong", "on?hostname=rack1&port=1", 401, &[]),
        (
            STRANGER,
            LAVA,
            "on?hostname=rack1&port=1",
            200,
            &["rack1 1 on"],
        ),
        (
            STRANGER,
            LAVA,
            "on?hostname=rack2&port=04",
            200,
            &["rack2 04 on"],
        ),
        (STRANGER, LAVA, "on?hostname=rack1&port=5", 403, &[]),
        (STRANGER, LAVA, "on?hostname=rack1&port=-1", 403, &[]),
        (STRANGER, LAVA, "off?hostname=rack1&port=1", 403, &[]),
        (STRANGER, LAVA, "get-status?hostname=rack1&port=1", 403, &[]),
        (STRANGER, LAVA, "on?hostname=desk&port=1", 403, &[]),
        (STRANGER, LAVA, "on?hostname=nowhere&port=1", 403, &[]),
        (STRANGER, LAVA, "on?alias=board", 200, &["rack1 2 on"]),
        (STRANGER, LAVA, "off?alias=board", 403, &[]),
        (STRANGER, LAVA, "on?alias=mixed", 403, &[]),
        (STRANGER, LAVA, "on?alias=nowhere", 403, &[]),
        (
            STRANGER,
            LAVA,
            "reboot?hostname=rack1&port=3&delay=0",
            200,
            &["rack1 3 off", "rack1 3 on"],
        ),
        (STRANGER, READER, "on?hostname=rack1&port=1", 403, &[]),
        // It may read; that this driver was given nothing to read with is another matter.
        (
            STRANGER,
            READER,
            "get-status?hostname=rack1&port=1",
            503,
            &[],
        ),
        (
            STRANGER,
            ADMIN,
            "off?hostname=desk&port=8",
            200,
            &["desk 8 off"],
        ),
        (STRANGER, ADMIN, "off?hostname=nowhere&port=8", 503, &[]),
        (STRANGER, ADMIN, "off?alias=nowhere", 503, &[]),
    ];
    for (client, token, what, expected, switched) in table {
        lab.forget();
        let authorization = format!("Authorization: Bearer {token}");
        let headers: &[&str] = if token.is_empty() {
            &[]
        } else {
            &[&authorization]
        };
        let (status, text) = ask(
            &daemon,
            client,
            "GET",
            &format!("/power/control/{what}"),
            headers,
        );
        assert_eq!(status, *expected, "{client} {token} {what}\n{text}");
        lab.wait_for_record(switched);
        let challenged = text.contains("WWW-Authenticate: Bearer");
        assert_eq!(challenged, status == 401, "{text}");
        match status {
            401 => assert!(text.contains("\r\n\r\nUnauthorized: "), "{text}"),
            403 => assert!(text.contains("\r\n\r\nForbidden: "), "{text}"),
            _ => {}
        }
    }
    lab.forget();
    let bearer = format!("Authorization: Bearer {LAVA}");
    let (status, _) = ask(
        &daemon,
        STRANGER,
        "GET",
        "/power/control/on?alias=pair",
        &[&bearer],
    );
    assert_eq!(status, 200);
    assert_eq!(lab.record().len(), 2);
    // Everything by who it was, and no token in the log.
    daemon.wait_for_print("lava@127.0.0.2: rack1 1 on: ok");
    daemon.wait_for_print("admin@127.0.0.2: desk 8 off: ok");
    daemon.wait_for_print("lava@127.0.0.2: rack1 1 off: denied, Forbidden");
    daemon.wait_for_print("127.0.0.2: GET /power/control/on: denied, Unauthorized");
    let printed = daemon.stop();
    for token in [LAVA, READER, ADMIN, "wrong"] {
        assert!(!printed.contains(&format!("Bearer {token}")), "{printed}");
        assert!(token == "wrong" || !printed.contains(token), "{printed}");
    }
}

#[test]
fn a_mistyped_name_is_mended_for_those_who_may_know_names() {
    let lab = Lab::new();
    let daemon = guarded(&lab);
    let asked = |token: &str, method: &str, target: &str| {
        let bearer = format!("Authorization: Bearer {token}");
        ask(&daemon, STRANGER, method, target, &[&bearer])
    };
    for (token, target, status, hint) in [
        (
            ADMIN,
            "/power/control/on?hostname=rak1&port=1",
            503,
            "did you mean rack1?",
        ),
        (
            ADMIN,
            "/power/control/on?alias=bord",
            503,
            "did you mean board?",
        ),
        (ADMIN, "/power/control/on?hostname=nowhere&port=1", 503, ""),
        (ADMIN, "/api/v1/pdus/rak1", 404, "did you mean rack1?"),
        (
            ADMIN,
            "/api/v1/pdus/rak1/outlets/1/state",
            404,
            "did you mean rack1?",
        ),
        (
            ADMIN,
            "/api/v1/pdus/rak1/outlets/1/state?last=true",
            404,
            "did you mean rack1?",
        ),
        (
            ADMIN,
            "/api/v1/aliases/bord/state",
            404,
            "did you mean board?",
        ),
        // It sees rack1 and rack2.
        (LAVA, "/api/v1/pdus/rak1", 404, "did you mean rack1?"),
        (LAVA, "/api/v1/pdus/dsk", 404, ""),
        (LAVA, "/api/v1/pdus/desk", 404, ""),
        (LAVA, "/power/control/on?hostname=rack11&port=1", 503, ""),
        (LAVA, "/power/control/on?hostname=dsk&port=1", 403, ""),
    ] {
        let (got, text) = asked(token, "GET", target);
        assert_eq!(got, status, "{target}: {text}");
        match hint {
            "" => assert!(!text.contains("did you mean"), "{target}: {text}"),
            hint => assert!(text.contains(hint), "{target}: {text}"),
        }
    }
    for (token, target, hint) in [
        (ADMIN, "rak1:1", Some("did you mean rack1?")),
        (ADMIN, "@bord", Some("did you mean board?")),
        (LAVA, "rack11:1", Some("did you mean rack1?")),
        (LAVA, "@bord", None),
    ] {
        let body = json!({"targets": [target], "command": "on"}).to_string();
        let mut stream = from(STRANGER, daemon.address);
        let head = format!(
            "POST /api/v1/requests HTTP/1.1\r\nConnection: close\r\nHost: {}\r\nAuthorization: \
             Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            daemon.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let text = String::from_utf8_lossy(&read_all(&mut stream)).into_owned();
        match hint {
            Some(hint) => assert!(text.contains(hint), "{target}: {text}"),
            None => assert!(!text.contains("did you mean"), "{target}: {text}"),
        }
    }
    assert_eq!(lab.record(), [""; 0]);
}

#[test]
fn who_may_do_what_by_line_and_socket() {
    let lab = Lab::new();
    let daemon = guarded(&lab);
    assert_eq!(line(&daemon, TRUSTED, "desk 1 on"), "ack\n");
    assert_eq!(line(&daemon, STRANGER, "desk 2 on"), "nack\n");
    assert_eq!(line(&daemon, STRANGER, "nonsense"), "nack\n");
    lab.wait_for_record(&["desk 1 on"]);
    daemon.wait_for_print("127.0.0.2: a line: denied, Forbidden");
    // Whoever may open the socket file is trusted.
    lab.forget();
    let unix = |text: &str| {
        let mut stream = UnixStream::connect(lab.path("socket")).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.write_all(text.as_bytes()).expect("sent");
        stream
    };
    let get = "GET /power/control/off?hostname=desk&port=3 HTTP/1.1\r\nHost: localhost\r\n";
    let (status, _) = read_response(&mut BufReader::new(unix(&format!("{get}\r\n"))));
    assert_eq!(status, 200);
    let wrong = format!("{get}Authorization: Bearer wrong\r\n\r\n");
    let (status, _) = read_response(&mut BufReader::new(unix(&wrong)));
    assert_eq!(status, 401);
    assert_eq!(read_all(&mut unix("desk 4 on\n")), b"ack\n");
    lab.wait_for_record(&["desk 3 off", "desk 4 on"]);
}

#[test]
fn api_paths_need_a_token_wherever_from() {
    let lab = Lab::new();
    let daemon = guarded(&lab);
    let api = "/api/v1/pdus/rack1/outlets/1/state";
    for (client, header, expected) in [
        (TRUSTED, "X: y", 401),
        (STRANGER, "X: y", 401),
        (TRUSTED, "Authorization: Bearer wrong", 401),
        (TRUSTED, "Authorization: Basic bGF2YTo=", 401),
        (TRUSTED, "Host: evil.example", 403),
    ] {
        for method in ["GET", "PUT", "POST", "DELETE", "OPTIONS"] {
            let (status, text) = ask(&daemon, client, method, api, &[header, "Content-Length: 0"]);
            assert!(
                [expected, 429].contains(&status),
                "{client} {method} {header}\n{text}"
            );
            assert!(text.contains("application/problem+json"), "{text}");
            assert!(text.contains("urn:pdudaemon:problem:"), "{text}");
            if status == 401 {
                assert!(text.contains("WWW-Authenticate: Bearer"), "{text}");
            }
        }
    }
    assert!(lab.record().is_empty());
}

#[test]
fn who_may_do_what_over_the_api() {
    let lab = Lab::new();
    let daemon = guarded(&lab);
    let outlet = |pdu: &str, outlet: &str| format!("/api/v1/pdus/{pdu}/outlets/{outlet}/state");
    let (on, off) = (r#"{"state": "on"}"#, r#"{"state": "off"}"#);
    let many = |targets: &str, command: &str| {
        format!(r#"{{"targets": [{targets}], "command": "{command}"}}"#)
    };
    let requests = "/api/v1/requests".to_owned();
    // method, token, path, body, status, what is then switched
    type Row<'a> = (&'a str, &'a str, String, String, u16, &'a [&'a str]);
    let table: Vec<Row<'_>> = vec![
        (
            "PUT",
            LAVA,
            outlet("rack1", "1"),
            on.into(),
            200,
            &["rack1 1 on"],
        ),
        ("PUT", LAVA, outlet("rack1", "1"), off.into(), 403, &[]),
        ("PUT", LAVA, outlet("rack1", "5"), on.into(), 403, &[]),
        ("PUT", LAVA, outlet("desk", "1"), on.into(), 403, &[]),
        ("PUT", LAVA, outlet("nowhere", "1"), on.into(), 403, &[]),
        ("PUT", READER, outlet("rack1", "1"), on.into(), 403, &[]),
        (
            "PUT",
            ADMIN,
            outlet("desk", "7"),
            off.into(),
            200,
            &["desk 7 off"],
        ),
        ("PUT", ADMIN, outlet("nowhere", "7"), off.into(), 404, &[]),
        ("PUT", "wrong", outlet("desk", "7"), off.into(), 401, &[]),
        ("PUT", "", outlet("desk", "7"), off.into(), 401, &[]),
        ("GET", LAVA, outlet("rack1", "1"), String::new(), 403, &[]),
        (
            "GET",
            LAVA,
            outlet("rack1", "1") + "?last=true",
            String::new(),
            200,
            &[],
        ),
        (
            "GET",
            LAVA,
            outlet("desk", "1") + "?last=true",
            String::new(),
            404,
            &[],
        ),
        ("GET", READER, outlet("rack1", "1"), String::new(), 501, &[]),
        (
            "GET",
            LAVA,
            "/api/v1/pdus/rack1".into(),
            String::new(),
            200,
            &[],
        ),
        (
            "GET",
            LAVA,
            "/api/v1/pdus/desk".into(),
            String::new(),
            404,
            &[],
        ),
        (
            "POST",
            LAVA,
            "/api/v1/pdus/rack2/outlets/4/reboot".into(),
            r#"{"delay": 0}"#.into(),
            200,
            &["rack2 4 off", "rack2 4 on"],
        ),
        (
            "POST",
            LAVA,
            "/api/v1/pdus/desk/outlets/4/reboot".into(),
            String::new(),
            403,
            &[],
        ),
        (
            "PUT",
            LAVA,
            "/api/v1/aliases/board/state".into(),
            on.into(),
            200,
            &["rack1 2 on"],
        ),
        (
            "PUT",
            LAVA,
            "/api/v1/aliases/mixed/state".into(),
            on.into(),
            403,
            &[],
        ),
        (
            "PUT",
            LAVA,
            "/api/v1/aliases/nowhere/state".into(),
            on.into(),
            403,
            &[],
        ),
        (
            "POST",
            LAVA,
            requests.clone(),
            many(r#""rack1:3""#, "on"),
            200,
            &["rack1 3 on"],
        ),
        (
            "POST",
            LAVA,
            requests.clone(),
            many(r#""rack1:3-5""#, "on"),
            403,
            &[],
        ),
        (
            "POST",
            LAVA,
            requests.clone(),
            many(r#""rack1:3", "desk:1""#, "on"),
            403,
            &[],
        ),
        (
            "POST",
            LAVA,
            requests.clone(),
            many(r#""rack1:3", "@mixed""#, "on"),
            403,
            &[],
        ),
        // The first request was lava's; the one of the admin at the desk is not for lava to see.
        (
            "GET",
            LAVA,
            "/api/v1/requests/1".into(),
            String::new(),
            200,
            &[],
        ),
        (
            "GET",
            LAVA,
            "/api/v1/requests/2".into(),
            String::new(),
            404,
            &[],
        ),
        (
            "DELETE",
            READER,
            "/api/v1/requests/1".into(),
            String::new(),
            403,
            &[],
        ),
        (
            "DELETE",
            LAVA,
            "/api/v1/requests/1".into(),
            String::new(),
            409,
            &[],
        ),
    ];
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    for (method, token, path, body, expected, switched) in &table {
        lab.forget();
        let host = format!("Host: {}", daemon.address);
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{host}\r\n");
        if !token.is_empty() {
            request += &format!("{}\r\n", bearer(token));
        }
        if !body.is_empty() {
            request += "Content-Type: application/json\r\n";
        }
        request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let mut stream = from(STRANGER, daemon.address);
        stream.write_all(request.as_bytes()).expect("sent");
        let text = String::from_utf8_lossy(&read_all(&mut stream)).into_owned();
        let status: u16 = text[9..12].parse().expect("a status");
        assert_eq!(status, *expected, "{method} {token} {path} {body}\n{text}");
        assert_eq!(
            status >= 400,
            text.contains("urn:pdudaemon:problem:"),
            "{text}"
        );
        lab.wait_for_record(switched);
    }
    // A PDU whose name has brackets is answered like one that is not there.
    let refusal = |name: &str| {
        let body = many(&format!(r#""{name}:1""#), "on");
        let request = format!(
            "POST {requests} HTTP/1.1\r\nConnection: close\r\n{}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            bearer(LAVA),
            body.len()
        );
        let answer = String::from_utf8_lossy(&talk(daemon.address, request.as_bytes(), false))
            .replace(name.split('[').next().expect("a name"), "NAME");
        answer
            .lines()
            .filter(|line| !line.starts_with("Date: "))
            .collect::<String>()
    };
    let (known, unknown) = (refusal("desk[1-2]"), refusal("disk[1-2]"));
    assert!(known.contains("403 Forbidden"), "{known}");
    assert_eq!(known, unknown);
    // Lists are of what one may see.
    let list = |token: &str, path: &str| ask(&daemon, STRANGER, "GET", path, &[&bearer(token)]).1;
    for path in [
        "/api/v1/pdus",
        "/api/v1/pdus?refresh=5",
        "/api/v1/aliases",
        "/api/v1/requests",
        "/metrics",
    ] {
        let (lava, admin) = (list(LAVA, path), list(ADMIN, path));
        assert!(
            lava.contains("rack1") && !lava.contains("desk"),
            "{path}\n{lava}"
        );
        assert!(
            admin.contains("rack1") && admin.contains("desk"),
            "{path}\n{admin}"
        );
    }
    // The page and the health need no token; the health names nobody then.
    assert_eq!(ask(&daemon, STRANGER, "GET", "/", &[]).0, 200);
    assert_eq!(
        ask(
            &daemon,
            STRANGER,
            "GET",
            "/healthz",
            &["Host: evil.example"]
        )
        .0,
        200
    );
    assert_eq!(ask(&daemon, STRANGER, "GET", "/metrics", &[]).0, 401);
    assert_eq!(ask(&daemon, TRUSTED, "GET", "/metrics", &[]).0, 200);
    daemon.wait_for_print("lava@127.0.0.2: rack1 1 on: ok");
}

#[test]
fn a_browser_that_was_tricked_switches_nothing() {
    let lab = Lab::new();
    let daemon = guarded(&lab);
    let off = "/power/control/off?hostname=desk&port=1";
    let mozilla = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/130";
    let admin = format!("Authorization: Bearer {ADMIN}");
    let refused: &[(&str, &[&str])] = &[
        // <img src="http://127.0.0.1:16421/..."> as Chromium sends it, and over plain HTTP in a lab.
        (
            "GET",
            &[
                mozilla,
                "Sec-Fetch-Site: cross-site",
                "Sec-Fetch-Mode: no-cors",
                "Sec-Fetch-Dest: image",
            ],
        ),
        (
            "GET",
            &[
                mozilla,
                "Referer: http://wiki.lab/",
                "Accept: image/avif,*/*",
            ],
        ),
        ("GET", &[mozilla, "Accept: image/avif,*/*"]),
        // A link that was clicked, a form that was posted, a name that leads here.
        (
            "GET",
            &[
                mozilla,
                "Sec-Fetch-Site: same-site",
                "Sec-Fetch-Mode: navigate",
            ],
        ),
        (
            "POST",
            &[mozilla, "Origin: http://wiki.lab", "Content-Length: 0"],
        ),
        ("POST", &[mozilla, "Origin: null", "Content-Length: 0"]),
        ("GET", &["Host: evil.example:16421"]),
        ("GET", &["Origin: http://evil.example", &admin]),
        ("GET", &["Host: localhost", "Host: evil.example"]),
    ];
    for (method, headers) in refused {
        let (status, text) = ask(&daemon, TRUSTED, method, off, headers);
        assert_eq!(status, 403, "{method} {headers:?}\n{text}");
    }
    assert!(lab.record().is_empty(), "{:?}", lab.record());
    // Programs, forwarded ports and the names that were given.
    for headers in [
        &["User-Agent: curl/8.5.0"][..],
        &["User-Agent: python-requests/2.31"],
        &["Host: localhost:45123"],
        &["Host: pdud.lab:16421"],
        &["Host: [::1]:16421"],
        &[mozilla, &admin],
        &[mozilla, "Sec-Fetch-Site: none"],
    ] {
        let (status, text) = ask(&daemon, TRUSTED, "GET", off, headers);
        assert_eq!(status, 200, "{headers:?}\n{text}");
    }
    assert_eq!(lab.record().len(), 7);
}

#[test]
fn without_tokens_programs_are_as_ever_and_browsers_are_looked_at() {
    let lab = Lab::new();
    let access = json!({"daemon": {"access": {"hosts": ["pdud.lab"], "sites": ["wiki.lab"]}}});
    let daemon = lab.start_with(pdus(&lab), access, &[]);
    let off = "/power/control/off?hostname=desk&port=1";
    // Over plain HTTP nothing tells an <img> of another site from a program.
    let passing: &[&[&str]] = &[
        &[],
        &["Host: pdud.lab:16421"],
        &["User-Agent: Mozilla/5.0", "Referer: http://evil.example/"],
        &["Authorization: Bearer wrong"],
        &["Sec-Fetch-Site: none"],
        &["Origin: http://wiki.lab:8080", "Sec-Fetch-Site: cross-site"],
        &["Referer: http://wiki.lab/x", "Sec-Fetch-Site: cross-site"],
    ];
    for headers in passing {
        let (status, text) = ask(&daemon, STRANGER, "GET", off, headers);
        assert_eq!(status, 200, "{headers:?}\n{text}");
    }
    let no_host = format!("GET {off} HTTP/1.0\r\n\r\n");
    let answer = talk(daemon.address, no_host.as_bytes(), false);
    assert!(show(&answer).contains(" 200 OK"), "{}", show(&answer));
    assert_eq!(line(&daemon, STRANGER, "desk 2 on"), "ack\n");
    assert_eq!(lab.record().len(), passing.len() + 2);
    lab.forget();
    for headers in [
        &["Host: evil.example"][..],
        &["Origin: http://evil.example"],
        &["Origin: null"],
        &["Sec-Fetch-Site: cross-site"],
        &["Sec-Fetch-Site: same-site"],
        &[
            "Referer: http://evil.example/",
            "Sec-Fetch-Site: cross-site",
        ],
        &["Origin: http://evil.example", "Referer: http://wiki.lab/"],
    ] {
        for path in [off, "/metrics"] {
            let (status, text) = ask(&daemon, TRUSTED, "GET", path, headers);
            assert_eq!(status, 403, "{headers:?}\n{text}");
        }
    }
    // The API is never for other sites' pages.
    for header in [
        "Host: evil.example",
        "Origin: http://wiki.lab",
        "Sec-Fetch-Site: cross-site",
    ] {
        let (status, text) = ask(
            &daemon,
            TRUSTED,
            "PUT",
            "/api/v1/pdus/desk/outlets/1/state",
            &[header, "Content-Length: 0"],
        );
        assert_eq!(status, 403, "{header}\n{text}");
    }
    assert!(lab.record().is_empty(), "{:?}", lab.record());
}

#[test]
fn without_tokens_the_name_counts_on_loopback_only() {
    let lab = Lab::new();
    let everywhere =
        json!({"daemon": {"hostname": ["0.0.0.0", lab.path("socket").display().to_string()]}});
    let mut daemon = lab.start_with(pdus(&lab), everywhere, &[]);
    daemon.address.set_ip(TRUSTED.parse().expect("an address"));
    let off = "/power/control/off?hostname=desk&port=1";
    let (status, text) = ask(&daemon, TRUSTED, "GET", off, &["Host: pdud.example"]);
    assert_eq!(status, 200, "{text}");
    let mut unix = UnixStream::connect(lab.path("socket")).expect("connected");
    unix.set_read_timeout(Some(PATIENCE)).expect("set");
    unix.write_all(format!("GET {off} HTTP/1.1\r\nHost: pdud.example\r\n\r\n").as_bytes())
        .expect("sent");
    assert_eq!(read_response(&mut BufReader::new(unix)).0, 200);
}

#[test]
fn wrong_tokens_cost_wrong_ones_only_and_others_are_served_meanwhile() {
    let lab = Lab::new();
    let daemon = guarded(&lab);
    let off = "/power/control/off?hostname=desk&port=1";
    let mut statuses = Vec::new();
    for number in 0..60 {
        let wrong = format!("Authorization: Bearer guess-{number}");
        let (status, text) = ask(&daemon, STRANGER, "GET", off, &[&wrong]);
        assert_eq!(text.contains("Retry-After: "), status == 429, "{text}");
        statuses.push(status);
    }
    assert!(
        statuses[..10].iter().all(|status| *status == 401),
        "{statuses:?}"
    );
    assert!(statuses[10..].contains(&429), "{statuses:?}");
    assert!(lab.record().is_empty());
    // A token that is right passes, from there as from anywhere.
    let admin = format!("Authorization: Bearer {ADMIN}");
    for client in [STRANGER, TRUSTED, STRANGER] {
        let wrong = ask(&daemon, STRANGER, "GET", off, &["Authorization: Bearer x"]).0;
        assert!([401, 429].contains(&wrong), "{wrong}");
        assert_eq!(ask(&daemon, client, "GET", off, &[&admin]).0, 200);
    }
    // The log was not flooded.
    let printed = daemon.stop();
    let lines = printed
        .lines()
        .filter(|line| line.contains("denied"))
        .count();
    assert!((10..60).contains(&lines), "{lines} lines\n{printed}");
}

#[test]
fn a_reload_changes_who_may() {
    let lab = Lab::new();
    let daemon = guarded(&lab);
    let off = "/power/control/off?hostname=desk&port=1";
    let (old, new) = (
        "the-new-token-of-the-admins",
        format!("Authorization: Bearer {ADMIN}"),
    );
    let (old, new) = (new, format!("Authorization: Bearer {old}"));
    assert_eq!(ask(&daemon, STRANGER, "GET", off, &[&old]).0, 200);
    lab.write("admin", "the-new-token-of-the-admins\n");
    daemon.signal(Signal::HUP);
    crate::daemon::wait_for("the new token to be taken", || {
        (ask(&daemon, TRUSTED, "GET", off, &[&new]).0 == 200).then_some(())
    });
    assert_eq!(ask(&daemon, STRANGER, "GET", off, &[&old]).0, 401);
}

#[test]
fn an_open_door_is_told() {
    let lab = Lab::new();
    let config = lab.config(pdus(&lab), json!({"daemon": {"hostname": "0.0.0.0"}}));
    let check = lab.run(&["--check", "--conf", &config.display().to_string()]);
    assert!(check.status.success());
    let told = stderr(&check);
    assert!(
        told.contains("daemon.hostname: whoever can reach 0.0.0.0"),
        "{told}"
    );
}
