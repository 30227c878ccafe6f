//! An HTTP driver follows, trusts and believes no server further than it should, and reads what
//! small web servers write. What goes wrong on every line alike is in the fault matrix.

use crate::sim::http::{Incoming, answer};
use crate::sim::port::{self, Served};
use crate::transcript::{Confirmed, Failed};
use pdudaemon::driver::{Driver, DriverError, registry};
use pdudaemon::request::{Outlet, PduName, State, Switch};
use pdudaemon::settings::{Position, Settings};
use pdudaemon::transport::{Attempt, Deadline, TransportErrorKind};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a call may take in these tests.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What a loaded machine may add to it.
const GRACE: Duration = Duration::from_secs(20);

/// A web server on a loopback port, one connection after the other.
pub(crate) struct Server {
    pub(crate) port: u16,
    seen: Arc<Seen>,
    _served: Served,
}

#[derive(Default)]
struct Seen {
    connections: Mutex<usize>,
    requests: Mutex<Vec<Incoming>>,
}

impl Server {
    /// `serve` gets each connection and its number, from 0.
    fn start(mut serve: impl FnMut(TcpStream, usize, &Seen) + Send + 'static) -> Self {
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let served = Served::connections(move |stream, ending| {
            if ending.is_near() {
                return;
            }
            let patience = Some(Duration::from_secs(20));
            stream.set_read_timeout(patience).unwrap();
            let number = {
                let mut connections = shared.connections.lock().unwrap();
                *connections += 1;
                *connections - 1
            };
            serve(stream, number, &shared);
        });
        Self {
            port: served.address.port(),
            seen,
            _served: served,
        }
    }

    /// Each request gets what `reply` makes of it and of its number.
    pub(crate) fn replying(
        mut reply: impl FnMut(&Incoming, usize) -> Vec<u8> + Send + 'static,
    ) -> Self {
        Self::start(move |stream, _, seen| converse(stream, seen, &mut reply))
    }

    fn connections(&self) -> usize {
        *self.seen.connections.lock().unwrap()
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.lock().unwrap().len()
    }

    /// All the values of one header, in the order the requests came; "" where one lacked it.
    fn headers(&self, name: &str) -> Vec<String> {
        let requests = self.seen.requests.lock().unwrap();
        let values = requests.iter().map(|request| request.header(name));
        values.map(|value| value.unwrap_or("").to_owned()).collect()
    }
}

fn converse(
    mut stream: TcpStream,
    seen: &Seen,
    reply: &mut impl FnMut(&Incoming, usize) -> Vec<u8>,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = Incoming::read(&mut reader) {
        let number = {
            let requests = seen.requests.lock().unwrap();
            requests.len()
        };
        let bytes = reply(&request, number);
        seen.requests.lock().unwrap().push(request);
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn build(name: &str, address: impl ToString, more: Value) -> Box<dyn Driver> {
    let mut settings = json!({ "ip": address.to_string() });
    let object = settings.as_object_mut().unwrap();
    object.extend(more.as_object().unwrap().clone());
    let start = Position { line: 1, column: 1 };
    let settings = Settings::new(PduName::new("pdu"), name, settings.to_string(), start);
    let spec = registry::Registry::default().find(name).unwrap().unwrap();
    spec.make(&settings).unwrap().0
}

fn driver(name: &str, server: &Server) -> Box<dyn Driver> {
    build(name, format_args!("127.0.0.1:{}", server.port), json!({}))
}

/// A call that ends by itself: its server may take its time on a busy machine.
fn on(driver: &mut dyn Driver) -> Result<(), Failed> {
    switch(driver, "1", GRACE)
}

/// The command alone, for servers that know no other.
fn command(driver: &mut dyn Driver, outlet: &str) -> Result<(), Failed> {
    let attempt = Attempt::new(Deadline::after(GRACE));
    let sent = driver.switch(&Outlet::new(outlet), Switch::On, &attempt);
    sent.map(drop).map_err(|error| Failed::new(error, &attempt))
}

fn switch(driver: &mut dyn Driver, outlet: &str, patience: Duration) -> Result<(), Failed> {
    let start = Instant::now();
    let result = driver.confirmed(&Outlet::new(outlet), Switch::On, Deadline::after(patience));
    let took = start.elapsed();
    assert!(took < patience + GRACE, "took {took:?}: {result:?}");
    result
}

fn kind(result: &Result<(), Failed>) -> TransportErrorKind {
    match result.as_ref().map_err(|failed| &failed.error) {
        Err(DriverError::Transport(error)) => error.kind,
        other => panic!("expected a transport error, got {other:?}"),
    }
}

/// What Tasmota says to `Power1 on`.
fn tasmota_on() -> Vec<u8> {
    answer(200, &[], br#"{"POWER":"ON"}"#)
}

/// A Tasmota whose first connection does `fault`, and whose others work.
fn faulty(mut fault: impl FnMut(&mut TcpStream) + Send + 'static) -> Server {
    Server::start(move |mut stream, number, seen| {
        if number > 0 {
            return converse(stream, seen, &mut |_, _| tasmota_on());
        }
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        if Incoming::read(&mut reader).is_some() {
            fault(&mut stream);
        }
    })
}

/// Runs `fault` against a Tasmota, and then a call that must work.
fn expect(
    fault: impl FnMut(&mut TcpStream) + Send + 'static,
    expected: TransportErrorKind,
    words: &str,
) {
    let server = faulty(fault);
    let mut driver = driver("tasmota", &server);
    let patience = match expected {
        TransportErrorKind::Timeout => PATIENCE,
        _ => GRACE,
    };
    let result = switch(&mut *driver, "1", patience);
    assert_eq!(kind(&result), expected, "{result:?}");
    let text = result.unwrap_err().to_string();
    assert!(text.contains(words), "expected {words:?} in {text:?}");
    assert_eq!(switch(&mut *driver, "1", GRACE), Ok(()));
}

fn wait_for_close(stream: &mut TcpStream) {
    let _ = std::io::copy(stream, &mut std::io::sink());
}

/// Sends `bytes` again and again until the driver has had enough.
fn flood(stream: &mut TcpStream, bytes: &[u8]) {
    while stream.write_all(bytes).is_ok() {}
}

/// Sends one byte of `bytes` at a time, again and again, slowly.
fn drip(stream: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes.iter().cycle() {
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn half_an_answer_is_closed() {
    let half = |stream: &mut TcpStream| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"POWER\"";
        stream.write_all(head.as_bytes()).unwrap();
    };
    expect(half, TransportErrorKind::Closed, "got \"{\\\"POWER\\\"\"");
}

#[test]
fn half_an_answer_and_silence_is_a_timeout_that_tells_the_half() {
    let half = |stream: &mut TcpStream| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"POWER\"";
        stream.write_all(head.as_bytes()).unwrap();
        wait_for_close(stream);
    };
    expect(half, TransportErrorKind::Timeout, "got \"{\\\"POWER\\\"\"");
}

#[test]
fn garbage_is_garbled() {
    for garbage in [
        &b"SSH-2.0-dropbear\r\n\r\n"[..],
        b"\xff\xfd\x18\xff\xfd\x20\r\n\r\n",
        b"HTTP/1.1 2OO OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        let send = move |stream: &mut TcpStream| stream.write_all(garbage).unwrap();
        expect(send, TransportErrorKind::Garbled, "");
    }
}

#[test]
fn a_drip_ends_at_the_deadline() {
    for (head, bytes) in [
        ("", "HTTP/1.1 200 OK\r\nX: "),
        ("HTTP/1.1 200 OK\r\n\r\n", "{\"POWER\""),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "1\r\nx\r\n",
        ),
    ] {
        let drip = move |stream: &mut TcpStream| {
            stream.write_all(head.as_bytes()).unwrap();
            drip(stream, bytes.as_bytes());
        };
        expect(drip, TransportErrorKind::Timeout, "in time");
    }
}

#[test]
fn an_endless_answer_is_cut_off() {
    for (head, more, words) in [
        ("HTTP/1.1 200 OK\r\n\r\n", "x".repeat(1000), "longer than"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n",
            "x".repeat(1000),
            "longer than",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            format!("3e8\r\n{}\r\n", "x".repeat(1000)),
            "longer than",
        ),
        ("HTTP/1.1 200 OK\r\nX: ", "x".repeat(1000), "headers"),
        ("HTTP/1.1 200 OK\r\n", "X: y\r\n".repeat(20), ""),
    ] {
        let server = faulty(move |stream| {
            stream.write_all(head.as_bytes()).unwrap();
            flood(stream, more.as_bytes());
        });
        let mut driver = driver("tasmota", &server);
        let result = switch(&mut *driver, "1", GRACE);
        assert_eq!(kind(&result), TransportErrorKind::Garbled, "{result:?}");
        let text = result.unwrap_err().to_string();
        assert!(text.contains(words) && text.len() < 600, "{text}");
        assert_eq!(switch(&mut *driver, "1", GRACE), Ok(()));
    }
}

#[test]
fn a_name_without_an_address_is_told() {
    let mut driver = build("tasmota", "nosuch.invalid", json!({}));
    assert_eq!(
        kind(&switch(&mut *driver, "1", Duration::from_secs(3))),
        TransportErrorKind::NoName
    );
}

#[test]
fn a_login_is_refused_without_further_tries() {
    let server = Server::replying(|_, _| answer(401, &[], b"no entry"));
    let mut netio = driver("netiojson", &server);
    let error = on(&mut *netio).unwrap_err();
    assert!(matches!(*error, DriverError::LoginRefused(_)), "{error:?}");
    assert!(error.to_string().ends_with("HTTP 401: \"no entry\""));
    assert!(!error.is_transient() && !error.may_have_acted());
    assert_eq!(server.requests(), 1);
}

#[test]
fn a_refused_digest_login_costs_two_requests_and_no_more() {
    let server = Server::replying(|_, number| {
        let offer =
            format!("WWW-Authenticate: Digest realm=\"r\", qop=\"auth\", nonce=\"{number}\"");
        answer(401, &[&offer], b"")
    });
    let login = json!({"username": "u", "password": "wrong"});
    let mut esphome = build("esphome-http", format!("127.0.0.1:{}", server.port), login);
    for total in [2, 4] {
        let error = on(&mut *esphome).unwrap_err();
        assert!(matches!(*error, DriverError::LoginRefused(_)), "{error:?}");
        assert!(!error.may_have_acted());
        assert!(!error.to_string().contains("wrong"), "{error}");
        assert_eq!(server.requests(), total);
    }
}

#[test]
fn a_nonce_serves_the_whole_session_and_may_run_out() {
    let server = Server::replying(|request, number| {
        let nonce = if number < 4 { "first" } else { "second" };
        let authorization = request.header("Authorization").unwrap_or_default();
        if !authorization.contains(&format!("nonce=\"{nonce}\"")) {
            let offer = format!(
                "WWW-Authenticate: Digest realm=\"r\", qop=\"auth\", algorithm=SHA-256, \
                 nonce=\"{nonce}\", stale=true"
            );
            return answer(401, &[&offer], b"");
        }
        answer(200, &[], br#"{"id":1,"result":{"was_on":false}}"#)
    });
    let password = json!({"password": "secret"});
    let mut shelly = build(
        "shelly_gen2",
        format!("127.0.0.1:{}", server.port),
        password,
    );
    for _ in 0..4 {
        assert_eq!(command(&mut *shelly, "0"), Ok(()));
    }
    let counts: Vec<String> = server
        .headers("Authorization")
        .iter()
        .map(|value| {
            let at = value.find("nc=").map(|at| &value[at + 3..at + 11]);
            at.unwrap_or("none").to_owned()
        })
        .collect();
    assert_eq!(
        counts,
        [
            "none", "00000001", "00000002", "00000003", "00000004", "00000001"
        ]
    );
    assert_eq!(server.connections(), 1);
}

/// A server that asks for digest first, and for Basic from the `from`th request on.
fn downgrading(from: usize) -> Server {
    Server::replying(move |request, number| {
        let login = request.header("Authorization").unwrap_or("");
        if number >= from {
            return match login.starts_with("Basic ") {
                true => answer(200, &[], b"{}"),
                false => answer(401, &["WWW-Authenticate: Basic realm=\"x\""], b""),
            };
        }
        match login.starts_with("Digest ") {
            true => answer(200, &[], br#"{"state": "ON"}"#),
            false => answer(
                401,
                &["WWW-Authenticate: Digest realm=\"x\", nonce=\"n\""],
                b"",
            ),
        }
    })
}

#[test]
fn whoever_asked_for_digest_does_not_get_the_password_in_clear() {
    let sent = |server: &Server| {
        let sent = server.headers("Authorization");
        sent.iter().any(|login| login.starts_with("Basic "))
    };
    let login = |more: Value| {
        let mut login = json!({"username": "u", "password": "p"});
        login
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        login
    };
    for (name, outlet, more, from, is_sent) in [
        // Never: such a device has digest.
        ("shelly_gen2", "1", json!({}), 0, false),
        (
            "shelly_gen2",
            "1",
            json!({"basic_login": "always"}),
            0,
            true,
        ),
        ("esphome-http", "a", json!({}), 0, true),
        ("esphome-http", "a", json!({}), 4, false),
        (
            "esphome-http",
            "a",
            json!({"basic_login": "always"}),
            4,
            true,
        ),
        (
            "esphome-http",
            "a",
            json!({"basic_login": "never"}),
            0,
            false,
        ),
    ] {
        let server = downgrading(from);
        let port = json!({"port": server.port, "ip": "127.0.0.1"});
        let mut settings = login(more.clone());
        if name == "esphome-http" {
            settings
                .as_object_mut()
                .unwrap()
                .extend(port.as_object().unwrap().clone());
        }
        let address = match name {
            "esphome-http" => "127.0.0.1".to_owned(),
            _ => format!("127.0.0.1:{}", server.port),
        };
        let mut driver = build(name, address, settings);
        let mut last = Ok(());
        for _ in 0..4 {
            last = switch(&mut *driver, outlet, GRACE);
            // Nor is it forgotten with the session.
            driver.rest(Deadline::after(GRACE));
        }
        assert_eq!(sent(&server), is_sent, "{name} {more} {from}: {last:?}");
        if !is_sent {
            assert_eq!(kind(&last), TransportErrorKind::Untrusted, "{last:?}");
            let text = last.unwrap_err().to_string();
            assert!(text.contains("`basic_login`"), "{text}");
        }
    }
}

/// PDUs that repeat what they were sent.
#[test]
fn logins_that_a_pdu_repeats_are_not_told() {
    for (challenge, what) in [
        ("Basic realm=\"x\"", "YWRtaW46aHVudGVyMnNlY3JldA"),
        (
            "Digest realm=\"x\", nonce=\"n\", qop=\"auth\"",
            "response=\\\"***",
        ),
    ] {
        let server = Server::replying(move |request, _| match request.header("Authorization") {
            None => answer(401, &[&format!("WWW-Authenticate: {challenge}")], b""),
            Some(login) => answer(500, &[], format!("you said {login}").as_bytes()),
        });
        let settings =
            json!({"username": "admin", "password": "hunter2secret", "port": server.port});
        let error = switch(
            &mut *build("esphome-http", "127.0.0.1", settings),
            "a",
            GRACE,
        );
        let text = error.unwrap_err().to_string();
        assert!(text.contains("you said"), "{text}");
        assert_eq!(
            text.contains(what),
            challenge.starts_with("Digest"),
            "{text}"
        );
        assert!(!text.contains("hunter2secret"), "{text}");
    }
}

#[test]
fn other_statuses_are_told_apart() {
    for (status, expected) in [
        (400, "refused"),
        (404, "refused"),
        (403, "login"),
        (500, "unexpected"),
        (502, "unexpected"),
        (503, "busy"),
        (304, "unexpected"),
    ] {
        let server = Server::replying(move |_, _| answer(status, &[], b"words"));
        let error = on(&mut *driver("sainsmart", &server)).unwrap_err();
        let got = match &*error {
            DriverError::Refused(_) => "refused",
            DriverError::LoginRefused(_) => "login",
            DriverError::Unexpected { .. } => "unexpected",
            DriverError::Transport(error) if error.kind == TransportErrorKind::Busy => "busy",
            _ => "other",
        };
        assert_eq!(got, expected, "{error}");
        assert_eq!(error.may_have_acted(), expected == "unexpected", "{error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
}

#[test]
fn a_redirect_to_another_server_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let other = Server::replying(|_, _| answer(200, &[], b"{}"));
        let location = format!("Location: http://127.0.0.1:{}/?secret=1", other.port);
        let server = Server::replying(move |_, _| answer(status, &[&location], b""));
        let mut netio = driver("netiojson", &server);
        let state = netio.state(&Outlet::new("1"), Deadline::after(GRACE));
        let error = state.unwrap_err();
        assert!(matches!(error, DriverError::Unexpected { .. }), "{error:?}");
        let words = format!("to another server, http://127.0.0.1:{}", other.port);
        assert!(error.to_string().ends_with(&words), "{error}");
        assert_eq!((server.requests(), other.connections()), (1, 0));
    }
}

#[test]
fn a_redirect_within_the_host_is_followed_but_a_command_is_never_lost() {
    let server = Server::replying(|request, _| match request.line.as_str() {
        "GET /netio.json HTTP/1.1" => answer(302, &["Location: /new"], b""),
        "GET /new HTTP/1.1" => answer(200, &[], br#"{"Outputs": [{"ID": 1, "State": 1}]}"#),
        "POST /netio.json HTTP/1.1" => answer(302, &["Location: /new"], b""),
        other => answer(404, &[], other.as_bytes()),
    });
    let mut netio = driver("netiojson", &server);
    let state = netio.state(&Outlet::new("1"), Deadline::after(GRACE));
    assert_eq!(state, Ok(State::On));
    assert!(
        server
            .headers("Authorization")
            .iter()
            .all(|own| !own.is_empty())
    );
    let error = on(&mut *netio).unwrap_err();
    assert!(error.to_string().contains("lose the command"), "{error}");
    assert!(
        matches!(*error, DriverError::Unexpected { .. }),
        "{error:?}"
    );
}

#[test]
fn a_redirect_from_a_page_that_older_firmware_has_not_leads_to_the_other_page() {
    for location in ["/nowhere", "//other/"] {
        let location = format!("Location: {location}");
        let server = Server::replying(move |request, _| match request.line.as_str() {
            "GET /30000/99 HTTP/1.1" => answer(302, &[&location], b""),
            "GET /30000/42 HTTP/1.1" => answer(200, &[], b"Relay-01: <b>ON</b>"),
            _ => answer(404, &[], b""),
        });
        let mut sainsmart = driver("sainsmart", &server);
        let state = sainsmart.state(&Outlet::new("1"), Deadline::after(GRACE));
        assert_eq!(state, Ok(State::On));
    }
}

/// An on that fails and may have been carried out, in words that tell of all the steps.
fn in_doubt(driver: &mut dyn Driver, outlet: &str, words: &[&str]) {
    let error = switch(driver, outlet, GRACE).unwrap_err();
    assert!(error.may_have_acted(), "{error:?}");
    let text = error.to_string();
    for words in words {
        assert!(text.contains(words), "expected {words:?} in {text:?}");
    }
}

#[test]
fn what_follows_a_redirect_leaves_the_command_in_doubt() {
    for status in [301, 302, 303, 307, 308] {
        for (end, words) in [
            (400, "the PDU refused: "),
            (401, "login refused: "),
            (403, "login refused: "),
            (404, "the PDU refused: "),
            (503, ""),
        ] {
            // The second one is followed as well, and the last one is told.
            let server = Server::replying(move |request, _| {
                let path = request.line.split([' ', '?']).nth(1).unwrap();
                match path {
                    "/cm" => answer(status, &["Location: /next"], b""),
                    "/next" => answer(status, &["Location: new?password=p"], b""),
                    _ => answer(end, &[], b"words"),
                }
            });
            let told = format!(
                "{words}GET /next: HTTP {status}, a redirect to \"http://127.0.0.1:{}/new\"; then: \
                 HTTP {end}: \"words\"",
                server.port
            );
            in_doubt(&mut *driver("tasmota", &server), "1", &[&told]);
            assert_eq!(server.requests(), 3);
        }
    }
}

#[test]
fn a_redirect_to_where_nobody_can_be_trusted_or_reached_leaves_the_command_in_doubt() {
    let unknown = tls_server(&self_signed());
    for (port, words) in [
        (unknown.port, "is not trusted"),
        (port::free(), "cannot connect to"),
    ] {
        let location = format!("Location: https://127.0.0.1:{port}/new");
        let server = Server::replying(move |_, _| answer(308, &[&location], b""));
        let told = format!("HTTP 308, a redirect to \"https://127.0.0.1:{port}/new\"; then: ");
        in_doubt(
            &mut *driver("servertechpro2", &server),
            "AA1",
            &[&told, words],
        );
    }
    assert_eq!(unknown.requests(), 0);
}

#[test]
fn a_redirect_to_the_encrypted_server_switches() {
    let encrypted = tls_server(&self_signed());
    let location = format!("Location: https://127.0.0.1:{}/new", encrypted.port);
    let server = Server::replying(move |_, _| answer(308, &[&location], b""));
    let address = format!("127.0.0.1:{}", server.port);
    let mut jaws = build("servertechpro2", address, json!({"insecure": true}));
    assert_eq!(command(&mut *jaws, "AA1"), Ok(()));
    assert_eq!((server.requests(), encrypted.requests()), (1, 1));
}

/// What each driver takes for a refusal under HTTP 200, and an outlet of it.
const REFUSALS: &[(&str, &str, &str)] = &[
    ("anel_netpwrctrlpro", "1", "User or password error"),
    ("intellinet", "1", "401 Unauthorized"),
    ("ip9850", "1", "401 Unauthorized"),
    ("tasmota", "1", r#"{"WARNING":"Need user=<username>"}"#),
    ("tasmota", "1", r#"{"Command":"Unknown"}"#),
    ("shelly_gen2", "1", r#"{"id":1,"error":{"code":-103}}"#),
    ("ubus", "1", r#"{"id":1,"result":[6]}"#),
    ("ubus", "1", r#"{"id":1,"error":{"code":-32002}}"#),
    (
        "SERVO",
        "1",
        "<methodResponse><fault><value><struct><member><name>faultString</name><value>No control \
         named cold_reset.</value></member></struct></value></fault></methodResponse>",
    ),
];

#[test]
fn a_refusal_in_words_is_certain_only_when_it_answers_the_first_copy() {
    for (name, outlet, page) in REFUSALS {
        let server = Server::replying(|_, _| answer(200, &[], page.as_bytes()));
        let error = switch(&mut *driver(name, &server), outlet, GRACE).unwrap_err();
        assert!(!error.may_have_acted(), "{name}: {error:?}");

        let server = Server::replying(|request, _| match request.line.contains(" /new ") {
            true => answer(200, &[], page.as_bytes()),
            false => answer(307, &["Location: /new"], b""),
        });
        in_doubt(&mut *driver(name, &server), outlet, &[]);

        // A kept connection takes the command, and closes without an answer.
        let server = Server::start(|mut stream, number, _| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut last = false;
            while let Some(_) = Incoming::read(&mut reader)
                && !last
            {
                stream
                    .write_all(&answer(200, &[], page.as_bytes()))
                    .unwrap();
                last = number == 0;
            }
        });
        let mut driver = driver(name, &server);
        // Its state as it may be: the connection is kept.
        let _ = driver.state(&Outlet::new(*outlet), Deadline::after(GRACE));
        in_doubt(&mut *driver, outlet, &[]);
        assert_eq!(server.connections(), 2, "{name}");
    }
}

#[test]
fn redirects_in_a_circle_end() {
    let server = Server::replying(|_, _| answer(302, &["Location: /cm"], b""));
    let result = switch(&mut *driver("tasmota", &server), "1", GRACE);
    assert_eq!(kind(&result), TransportErrorKind::Garbled, "{result:?}");
    assert_eq!(server.requests(), 6);
}

#[test]
fn the_answer_to_another_request_is_no_success() {
    let server = Server::replying(|_, _| answer(200, &[], br#"{"POWER2":"ON"}"#));
    let error = on(&mut *driver("tasmota", &server)).unwrap_err();
    assert!(
        matches!(*error, DriverError::Unexpected { .. }),
        "{error:?}"
    );
    let server = Server::replying(|_, _| answer(200, &[], br#"{"id":7,"result":{}}"#));
    let error = on(&mut *driver("shelly_gen2", &server)).unwrap_err();
    assert!(
        matches!(*error, DriverError::Unexpected { .. }),
        "{error:?}"
    );
}

#[test]
fn an_answer_nobody_asked_for_is_not_taken_for_the_next_one() {
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let (told, tell) = std::sync::mpsc::channel();
    let server = Server::start(move |mut stream, number, seen| {
        if number == 0 {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            Incoming::read(&mut reader).unwrap();
            stream.write_all(&tasmota_on()).unwrap();
            asked.recv().unwrap();
            stream
                .write_all(&answer(200, &[], br#"{"POWER":"OFF"}"#))
                .unwrap();
            told.send(()).unwrap();
        }
        converse(stream, seen, &mut |_, _| tasmota_on());
    });
    let mut tasmota = driver("tasmota", &server);
    assert_eq!(switch(&mut *tasmota, "1", GRACE), Ok(()));
    ask.send(()).unwrap();
    tell.recv().unwrap();
    assert_eq!(switch(&mut *tasmota, "1", GRACE), Ok(()));
    assert_eq!(server.connections(), 2);
}

#[test]
fn two_answers_to_one_request_are_one_too_many() {
    let server = Server::replying(|_, number| match number {
        0 => [tasmota_on(), answer(200, &[], br#"{"POWER":"OFF"}"#)].concat(),
        _ => tasmota_on(),
    });
    let mut tasmota = driver("tasmota", &server);
    for _ in 0..2 {
        assert_eq!(switch(&mut *tasmota, "1", GRACE), Ok(()));
    }
    assert_eq!(server.connections(), 2);
}

#[test]
fn servers_of_an_older_kind_are_understood() {
    for head in [
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.0 200\nContent-type:text/html\n\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nServer:\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let server = Server::start(move |mut stream, _, _| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            if Incoming::read(&mut reader).is_some() {
                let reply = format!("{head}{{\"POWER\":\"ON\"}}");
                stream.write_all(reply.as_bytes()).unwrap();
            }
        });
        let mut tasmota = driver("tasmota", &server);
        for _ in 0..2 {
            assert_eq!(switch(&mut *tasmota, "1", GRACE), Ok(()), "{head:?}");
        }
    }
}

#[test]
fn the_wrong_state_read_back_is_no_success() {
    let mut tokens = vec!["0"; 58];
    tokens.push("end");
    let page = tokens.join(";");
    let server = Server::replying(move |_, _| answer(200, &[], page.as_bytes()));
    let mut anel = driver("anel_netpwrctrlpro", &server);
    let error = on(&mut *anel).unwrap_err();
    assert!(error.may_have_acted(), "{error:?}");
    assert_eq!(error.to_string(), "asked for on, still shows off");
    // The password stands in the query of what was asked.
    let server = Server::start(|_, _, _| {});
    let error = on(&mut *driver("anel_netpwrctrlpro", &server)).unwrap_err();
    assert!(!error.to_string().contains("anel"), "{error}");
}

#[test]
fn a_queue_of_switches_costs_one_connection() {
    let server = Server::replying(|_, _| answer(200, &[], b"ok"));
    let mut sainsmart = driver("sainsmart", &server);
    for outlet in 1..=16 {
        assert_eq!(command(&mut *sainsmart, &outlet.to_string()), Ok(()));
    }
    assert_eq!((server.connections(), server.requests()), (1, 16));
    sainsmart.rest(Deadline::after(GRACE));
    assert_eq!(command(&mut *sainsmart, "1"), Ok(()));
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_connection_closed_while_idle_does_no_harm() {
    // Closes after each answer without having said so.
    let server = Server::start(|mut stream, _, seen| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        if let Some(request) = Incoming::read(&mut reader) {
            seen.requests.lock().unwrap().push(request);
            stream.write_all(&tasmota_on()).unwrap();
        }
    });
    let mut tasmota = driver("tasmota", &server);
    for _ in 0..20 {
        assert_eq!(switch(&mut *tasmota, "1", GRACE), Ok(()));
    }
    assert_eq!(server.requests(), 20);
}

#[test]
fn a_connection_that_dies_under_the_next_request_is_opened_again_once() {
    // Takes the second request of each connection and hangs up.
    let server = Server::start(|mut stream, _, seen| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        if let Some(request) = Incoming::read(&mut reader) {
            seen.requests.lock().unwrap().push(request);
            stream.write_all(&tasmota_on()).unwrap();
            let _ = Incoming::read(&mut reader);
        }
    });
    let mut tasmota = driver("tasmota", &server);
    for _ in 0..5 {
        assert_eq!(switch(&mut *tasmota, "1", GRACE), Ok(()));
    }
    assert_eq!(server.connections(), 5);
}

#[test]
fn header_names_are_written_the_usual_way() {
    let server = Server::replying(|_, _| answer(204, &[], b""));
    assert_eq!(
        command(&mut *driver("servertechpro2", &server), "1"),
        Ok(())
    );
    let requests = server.seen.requests.lock().unwrap();
    let names: Vec<&str> = requests[0]
        .headers
        .iter()
        .map(|header| header.split(':').next().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "Host",
            "User-Agent",
            "Accept",
            "Connection",
            "Content-Type",
            "Content-Length",
            "Authorization"
        ]
    );
}

/// What small web servers write, and curl and browsers understand.
const ODD_HEADS: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Type : a/b\r\nContent-Length: 14\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length : 14\r\n\r\n",
    "HTTP/1.1 200 OK\r\nRelay board\r\nContent-Length: 14\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent Type: a/b\r\nContent-Length: 14\r\n\r\n",
    "HTTP/1.1 200 OK\r\nServer: a\r\n b\r\nContent-Length: 14\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: \r\nConnection: close\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX-A: a\x0cb\0\r\nContent-Length: 14\r\n\r\n",
    "HTTP/1.2 200 OK\r\nContent-Length: 14\r\n\r\n",
    "http/1.1 200 OK\r\nContent-Length: 14\r\n\r\n",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ne\r\n",
    "HTTP/1.1 102 Wait\r\nodd\r\n\r\nHTTP/1.1 200 OK\r\nodd\r\nContent-Length: 14\r\n\r\n",
];

#[test]
fn a_pdu_that_lists_its_outlets_tells_all_of_them() {
    let ubus =
        br#"{"id":1,"result":[0,{"ports":{"lan1":"Disabled","lan2":"Searching","wan":"x"}}]}"#;
    let server = Server::replying(move |_, _| answer(200, &[], ubus));
    let start = Position { line: 1, column: 1 };
    let settings = json!({"ip": format!("127.0.0.1:{}", server.port)}).to_string();
    let settings = Settings::new(PduName::new("pdu"), "ubus", settings, start);
    let (mut driver, outlets) = registry::find("ubus").unwrap().make(&settings).unwrap();
    let sought = outlets.sought();
    assert_eq!(sought.len(), 1, "it is asked for one: {sought:?}");
    let states = driver.states(&sought[0], &[], Deadline::after(GRACE));
    let states = states.expect("told");
    assert_eq!((&states.own, states.are_all), (&State::Off, true));
    let others = states.others_of(&sought[0], &outlets);
    assert_eq!(others, [(Outlet::new("2"), State::On)]);
    // A node without a list has the switches of the config.
    let settings = json!({"switch_ids": ["a", "b c"]}).to_string();
    let start = Position { line: 1, column: 1 };
    let settings = Settings::new(PduName::new("pdu"), "esphome-http", settings, start);
    let (_, outlets) = registry::find("esphome-http")
        .unwrap()
        .make(&settings)
        .unwrap();
    let sought = outlets.sought();
    let ids: Vec<&str> = sought.iter().map(Outlet::as_str).collect();
    assert_eq!(ids, ["1", "2"]);
}

#[test]
fn an_odd_head_does_not_make_a_failure_of_a_command_that_was_carried_out() {
    for head in ODD_HEADS {
        for piece in [1, usize::MAX] {
            let server = Server::start(move |mut stream, _, seen| {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let Some(request) = Incoming::read(&mut reader) else {
                    return;
                };
                seen.requests.lock().unwrap().push(request);
                let end = if head.contains("chunked") {
                    "\r\n0\r\n\r\n"
                } else {
                    ""
                };
                let reply = format!("{head}{{\"POWER\":\"ON\"}}{end}");
                for part in reply.as_bytes().chunks(piece.min(reply.len())) {
                    if stream.write_all(part).is_err() {
                        return;
                    }
                }
                // Kept open, unless its end is the body's.
                if !head.contains("Length: \r\n") {
                    wait_for_close(&mut stream);
                }
            });
            let mut tasmota = driver("tasmota", &server);
            assert_eq!(on(&mut *tasmota), Ok(()), "{head:?}");
            assert_eq!(on(&mut *tasmota), Ok(()), "{head:?}");
            // Neither was one of them sent again, nor is such a connection used again.
            assert_eq!(
                (server.requests(), server.connections()),
                (2, 2),
                "{head:?}"
            );
        }
    }
}

#[test]
fn nobody_hides_an_answer_behind_an_odd_head() {
    // Whoever reads the second length finds another answer in the rest.
    let hidden = answer(200, &[], br#"{"POWER":"OFF"}"#);
    let server = Server::replying(move |_, number| match number {
        0 => [
            b"HTTP/1.1 200 OK\r\nodd\r\nContent-Length: 14\r\n\r\n{\"POWER\":\"ON\"}",
            &hidden[..],
        ]
        .concat(),
        _ => tasmota_on(),
    });
    let mut tasmota = driver("tasmota", &server);
    assert_eq!(on(&mut *tasmota), Ok(()));
    assert_eq!(on(&mut *tasmota), Ok(()));
    assert_eq!(server.connections(), 2);
    let two =
        b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\nContent-Length : 9\r\n\r\n{\"POWER\":\"ON\"}";
    let send = move |stream: &mut TcpStream| stream.write_all(two).unwrap();
    expect(send, TransportErrorKind::Garbled, "two lengths, 14 and 9");
}

/// Proxies are a matter of the environment, so such a test runs itself again with one: `inside` is
/// what it does there. `None` when that has been done.
fn with_proxy(name: &str, variables: &[(&str, &str)], inside: impl FnOnce()) -> Option<()> {
    const MARK: &str = "PDUDAEMON_TEST_BEHIND_A_PROXY";
    if std::env::var_os(MARK).is_some() {
        inside();
        return None;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        child.env_remove(name).env_remove(name.to_ascii_uppercase());
    }
    let output = child
        .args(["--exact", &format!("faults_http::{name}")])
        .env(MARK, "yes")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(())
}

impl Server {
    fn lines(&self) -> Vec<String> {
        let requests = self.seen.requests.lock().unwrap();
        requests
            .iter()
            .map(|request| request.line.clone())
            .collect()
    }
}

#[test]
fn a_proxy_is_asked_for_the_whole_address() {
    let proxy = Server::replying(|request, _| match request.header("Proxy-Authorization") {
        Some("Basic dXNlcjp3b3Jk") => tasmota_on(),
        _ => answer(407, &[], b"who are you?"),
    });
    let url = format!("http://user:word@127.0.0.1:{}", proxy.port);
    let inside = || {
        let mut tasmota = build("tasmota", "pdu.invalid", json!({}));
        assert_eq!(on(&mut *tasmota), Ok(()));
        assert_eq!(on(&mut *tasmota), Ok(()));
        drop(tasmota);
        let mut posting = build("shelly_gen2", "192.0.2.5:81", json!({}));
        let result = on(&mut *posting);
        assert!(
            matches!(&result, Err(failed) if matches!(**failed, DriverError::Unexpected { .. })),
            "{result:?}"
        );
        // Names that no_proxy has are looked up here.
        let mut direct = build("tasmota", "direct.invalid", json!({}));
        assert_eq!(kind(&on(&mut *direct)), TransportErrorKind::NoName);
    };
    let name = "a_proxy_is_asked_for_the_whole_address";
    let variables = [
        ("http_proxy", url.as_str()),
        ("no_proxy", "192.0.2.0/25:80, direct.invalid"),
    ];
    if with_proxy(name, &variables, inside).is_none() {
        return;
    }
    assert_eq!(
        proxy.lines(),
        [
            "GET http://pdu.invalid/cm?cmnd=Power1+on HTTP/1.1",
            "GET http://pdu.invalid/cm?cmnd=Power1+on HTTP/1.1",
            "POST http://192.0.2.5:81/rpc HTTP/1.1",
        ]
    );
    assert_eq!(proxy.headers("Host")[..2], ["pdu.invalid", "pdu.invalid"]);
    assert_eq!(proxy.connections(), 2);
}

#[test]
fn a_network_in_no_proxy_is_reached_directly() {
    let proxy = Server::replying(|_, _| tasmota_on());
    let url = format!("127.0.0.1:{}", proxy.port);
    let inside = || {
        // Nobody answers there, in whatever way the machine's network says so.
        let mut tasmota = build("tasmota", "192.0.2.5", json!({}));
        assert!(switch(&mut *tasmota, "1", PATIENCE).is_err());
    };
    let name = "a_network_in_no_proxy_is_reached_directly";
    let variables = [
        ("ALL_PROXY", url.as_str()),
        ("no_proxy", "localhost,192.0.2.0/24"),
    ];
    if with_proxy(name, &variables, inside).is_some() {
        assert_eq!(proxy.connections(), 0);
    }
}

#[test]
fn a_proxy_is_asked_for_a_tunnel_only_where_tls_goes_through_it() {
    let identity = self_signed();
    let end = tls_server(&identity);
    let to = end.port;
    let proxy = Server::start(move |mut stream, number, seen| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let Some(request) = Incoming::read(&mut reader) else {
            return;
        };
        seen.requests.lock().unwrap().push(request);
        if number == 0 {
            stream.write_all(&answer(403, &[], b"no")).unwrap();
            return;
        }
        stream
            .write_all(b"HTTP/1.0 200 Here you are\r\nodd\r\n\r\n")
            .unwrap();
        let mut other = TcpStream::connect(("127.0.0.1", to)).unwrap();
        let (mut there, mut back) = (other.try_clone().unwrap(), stream.try_clone().unwrap());
        let thread = std::thread::spawn(move || {
            let _ = std::io::copy(&mut other, &mut back);
            let _ = back.shutdown(std::net::Shutdown::Both);
        });
        let _ = std::io::copy(&mut stream, &mut there);
        let _ = there.shutdown(std::net::Shutdown::Both);
        thread.join().unwrap();
    });
    let inside = || {
        let settings = json!({"protocol": "https", "insecure": true});
        let mut driver = build("servertechpro2", "pdu.invalid", settings);
        let refused = command(&mut *driver, "AA1");
        assert_eq!(
            kind(&refused),
            TransportErrorKind::NoConnection,
            "{refused:?}"
        );
        let text = refused.unwrap_err().to_string();
        assert!(
            text.contains("no tunnel to https://pdu.invalid: HTTP 403"),
            "{text}"
        );
        assert_eq!(command(&mut *driver, "AA1"), Ok(()));
    };
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let name = "a_proxy_is_asked_for_a_tunnel_only_where_tls_goes_through_it";
    if with_proxy(name, &[("https_proxy", &url)], inside).is_some() {
        let line = "CONNECT pdu.invalid:443 HTTP/1.1";
        assert_eq!(proxy.lines(), [line, line]);
    }
}

/// A certificate, its key, and both as PEM.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    key_pem: String,
    pem: String,
}

/// As PDUs make them: for itself, without a name, and an authority at that.
fn self_signed() -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    Identity {
        chain: vec![certificate.der().clone()],
        key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        key_pem: key.serialize_pem(),
        pem: certificate.pem(),
    }
}

/// For 127.0.0.1, by an authority whose certificate is the PEM.
fn by_authority() -> Identity {
    let authority = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&authority).unwrap().pem();
    let issuer = Issuer::new(params, authority);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Identity {
        chain: vec![certificate.der().clone()],
        key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        key_pem: key.serialize_pem(),
        pem,
    }
}

/// A JAWS server over TLS.
fn tls_server(identity: &Identity) -> Server {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .unwrap();
    let config = Arc::new(config);
    Server::start(move |stream, _, seen| {
        let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut reader = BufReader::new(rustls::StreamOwned::new(session, stream));
        while let Some(request) = Incoming::read(&mut reader) {
            seen.requests.lock().unwrap().push(request);
            let reply = answer(204, &[], b"");
            if reader.get_mut().write_all(&reply).is_err() {
                return;
            }
        }
    })
}

fn over_tls(server: &Server, more: Value) -> Box<dyn Driver> {
    let mut settings = json!({"protocol": "https"});
    let object = settings.as_object_mut().unwrap();
    object.extend(more.as_object().unwrap().clone());
    build(
        "servertechpro2",
        format_args!("127.0.0.1:{}", server.port),
        settings,
    )
}

#[test]
fn a_self_signed_certificate_needs_insecure_or_the_ca_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        json!({ "ca_file": path })
    };
    let identity = self_signed();
    let server = tls_server(&identity);
    for refused in [json!({}), file("other.pem", &self_signed().pem)] {
        let result = command(&mut *over_tls(&server, refused), "AA1");
        assert_eq!(kind(&result), TransportErrorKind::Untrusted, "{result:?}");
        let error = result.unwrap_err();
        assert!(!error.is_transient() && !error.may_have_acted());
        assert!(error.to_string().contains("is not trusted"), "{error}");
    }
    assert_eq!(server.requests(), 0);
    for accepted in [json!({"insecure": "true"}), file("own.pem", &identity.pem)] {
        let mut driver = over_tls(&server, accepted);
        for outlet in ["AA1", "AA2"] {
            assert_eq!(command(&mut *driver, outlet), Ok(()));
        }
    }
    // Two refused ones, and one each for the two that were accepted.
    assert_eq!((server.requests(), server.connections()), (4, 4));
}

#[test]
fn an_authority_of_the_ca_file_vouches_for_the_name_in_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authority.pem");
    let identity = by_authority();
    std::fs::write(&path, &identity.pem).unwrap();
    let server = tls_server(&identity);
    let mut driver = over_tls(&server, json!({ "ca_file": path }));
    assert_eq!(command(&mut *driver, "AA1"), Ok(()));
    drop(driver);
    let mut driver = build(
        "servertechpro2",
        format_args!("localhost:{}", server.port),
        json!({"protocol": "https", "ca_file": path}),
    );
    let result = command(&mut *driver, "AA1");
    assert_eq!(kind(&result), TransportErrorKind::Untrusted, "{result:?}");
}

#[test]
fn a_ca_file_that_is_missing_or_empty_is_told_at_run_time() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _, _| {});
    let path = folder.path().join("ca.pem");
    let mut driver = over_tls(&server, json!({ "ca_file": path }));
    let result = switch(&mut *driver, "AA1", GRACE);
    assert_eq!(kind(&result), TransportErrorKind::NotFound, "{result:?}");
    std::fs::write(&path, "no certificate").unwrap();
    let result = switch(&mut *driver, "AA1", GRACE);
    assert_eq!(kind(&result), TransportErrorKind::NotFound, "{result:?}");
    assert!(result.unwrap_err().to_string().contains("ca.pem"));
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_ca_file_that_is_a_pipe_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _, _| {});
    let path = folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap();
    let mut driver = over_tls(&server, json!({ "ca_file": path }));
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(switch(&mut *driver, "AA1", GRACE)));
    let result = ended.recv_timeout(2 * GRACE).expect("an end");
    let error = result.unwrap_err();
    assert!(
        error.to_string().contains("not a regular file") && !error.may_have_acted(),
        "{error}"
    );
}

#[test]
fn tls_with_a_peer_that_has_none_ends_in_time() {
    let plain = Server::start(|mut stream, _, _| {
        let mut hello = [0; 64];
        let _ = stream.read(&mut hello);
        let _ = stream.write_all(&answer(400, &[], b"plain HTTP only"));
        wait_for_close(&mut stream);
    });
    let result = switch(&mut *over_tls(&plain, json!({})), "AA1", GRACE);
    assert_eq!(kind(&result), TransportErrorKind::NoConnection);
    assert!(result.unwrap_err().to_string().contains("TLS"));
    let silent = Server::start(|mut stream, _, _| wait_for_close(&mut stream));
    let result = switch(&mut *over_tls(&silent, json!({})), "AA1", PATIENCE);
    assert_eq!(kind(&result), TransportErrorKind::NoConnection);
    assert!(!result.unwrap_err().may_have_acted());
}

/// A server of the Python standard library: other people's XML-RPC and TLS (OpenSSL).
struct Python {
    child: std::process::Child,
    port: u16,
}

impl Python {
    /// Runs `script`, which prints its port and serves until its input ends.
    fn start(script: &str, arguments: &[&str]) -> Self {
        let mut child = std::process::Command::new("python3")
            .args(["-c", script])
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("python3 can be run: install the Debian package python3");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        let port = line.trim().parse().expect("the server prints its port");
        Self { child, port }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn servo_speaks_with_pythons_xml_rpc_server() {
    let program = r#"
import os, sys, threading
from xmlrpc.server import SimpleXMLRPCServer
controls = {"cold_reset": "off"}
def put(name, value):
    if name not in controls:
        raise NameError("No control named %s. All controls: cold_reset" % name)
    controls[name] = value
    if sys.argv[1] == "fails":
        raise IOError("cannot read it back")
    return True
server = SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False)
server.register_function(put, "set")
server.register_function(lambda name: controls[name], "get")
print(server.server_address[1], flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server.serve_forever()
"#;
    let python = Python::start(program, &["works"]);
    let address = format!("127.0.0.1:{}", python.port);
    let mut servo = build("SERVO", &address, json!({}));
    let outlet = Outlet::new("1");
    for (to, state) in [(Switch::Off, State::Off), (Switch::On, State::On)] {
        assert_eq!(servo.confirmed(&outlet, to, Deadline::after(GRACE)), Ok(()));
        assert_eq!(servo.state(&outlet, Deadline::after(GRACE)), Ok(state));
    }
    let mut other = build("SERVO", &address, json!({"ctrls": "warm_reset"}));
    let error = switch(&mut *other, "1", GRACE).unwrap_err();
    assert!(matches!(*error, DriverError::Refused(_)), "{error:?}");
    assert!(error.to_string().contains("NameError"), "{error}");

    // An exception after the control was set.
    let python = Python::start(program, &["fails"]);
    let mut servo = build("SERVO", format!("127.0.0.1:{}", python.port), json!({}));
    let off = servo.confirmed(&outlet, Switch::Off, Deadline::after(GRACE));
    assert!(off.as_ref().is_err_and(Failed::may_have_acted), "{off:?}");
    let on = Ok(State::On);
    assert_ne!(servo.state(&outlet, Deadline::after(GRACE)), on);
}

#[test]
fn tls_is_spoken_with_openssl_in_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let identity = self_signed();
    let certificate = folder.path().join("certificate.pem");
    let both = folder.path().join("both.pem");
    std::fs::write(&certificate, &identity.pem).unwrap();
    std::fs::write(&both, format!("{}{}", identity.key_pem, identity.pem)).unwrap();
    for version in ["TLSv1_2", "TLSv1_3"] {
        let python = Python::start(
            r#"
import http.server, os, ssl, sys, threading
class Jaws(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_PATCH(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", 0), Jaws)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
context.minimum_version = context.maximum_version = ssl.TLSVersion[sys.argv[2]]
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server.serve_forever()
"#,
            &[&both.to_string_lossy(), version],
        );
        let address = format!("127.0.0.1:{}", python.port);
        let settings = json!({"protocol": "https", "ca_file": certificate});
        let mut driver = build("servertechpro2", address, settings);
        for outlet in ["AA1", "AA2"] {
            assert_eq!(command(&mut *driver, outlet), Ok(()), "{version}");
        }
    }
}

/// The manual's way out for a PDU whose TLS is older than what is spoken here.
#[test]
fn old_tls_is_told_and_the_manuals_local_proxy_leads_past_it() {
    let folder = tempfile::tempdir().unwrap();
    let identity = self_signed();
    let both = folder.path().join("both.pem");
    std::fs::write(&both, format!("{}{}", identity.key_pem, identity.pem)).unwrap();
    let old = [("TLSv1", "ALL"), ("TLSv1_2", "ECDHE-ECDSA-AES128-SHA")];
    for (version, ciphers) in old {
        let python = Python::start(
            r#"
import http.server, os, ssl, sys, threading
class Jaws(http.server.BaseHTTPRequestHandler):
    def do_PATCH(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", 0), Jaws)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
context.set_ciphers(sys.argv[3] + ":@SECLEVEL=0")
context.minimum_version = context.maximum_version = ssl.TLSVersion[sys.argv[2]]
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server.serve_forever()
"#,
            &[&both.to_string_lossy(), version, ciphers],
        );
        let address = format!("127.0.0.1:{}", python.port);
        let settings = json!({"protocol": "https", "insecure": true});
        let result = switch(
            &mut *build("servertechpro2", &address, settings),
            "AA1",
            GRACE,
        );
        assert_eq!(
            kind(&result),
            TransportErrorKind::Incompatible,
            "{result:?}"
        );
        let error = result.unwrap_err();
        assert!(error.to_string().contains("OLD TLS"), "{error}");
        assert!(!error.is_transient() && !error.may_have_acted());

        let local = LocalProxy::start(&address);
        let mut driver = build(
            "servertechpro2",
            format!("127.0.0.1:{}", local.port),
            json!({}),
        );
        assert_eq!(command(&mut *driver, "AA1"), Ok(()), "{version}");
    }
}

/// The line of the manual, with another port and another PDU.
struct LocalProxy {
    child: std::process::Child,
    port: u16,
}

impl LocalProxy {
    fn start(pdu: &str) -> Self {
        let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/share/man/pdudaemon.conf.5");
        let manual = std::fs::read_to_string(manual).unwrap();
        let start = manual.find("\nsocat ").expect("the line is in the manual") + 1;
        let end = start + manual[start..].find("\n.Ed").unwrap();
        let line = manual[start..end].replace("\\e\n", "");
        let port = port::free();
        let line = line
            .replace("TCP-LISTEN:8443", &format!("TCP-LISTEN:{port}"))
            .replace("OPENSSL:pdu05:443", &format!("OPENSSL:{pdu}"));
        assert!(
            line.contains(pdu) && line.contains(&port.to_string()),
            "{line}"
        );
        let mut words = line.split_whitespace();
        let child = std::process::Command::new(words.next().unwrap())
            .args(words)
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("socat can be run: install the Debian package socat");
        let local = Self { child, port };
        let until = Instant::now() + GRACE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "socat does not listen");
            std::thread::yield_now();
        }
        local
    }
}

impl Drop for LocalProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
