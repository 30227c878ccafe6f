//! TLS on the listener: the same port serves everybody who speaks it, whatever the files are like
//! nobody is served by guesswork, a client's certificate gives it the rights of its token, and a
//! renewed certificate costs no request.

use crate::daemon::{
    Daemon, Lab, PDUCLIENT, connect, http, read_all, read_response, run, stderr, stdout, talk,
    wait_for,
};
use crate::pki::{Authority, Pair, client_config, hello};
use rustix::process::Signal;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const OK: &str = "OK - accepted request\n";
const ON: &str = "/power/control/on?hostname=p&port=1";

fn sim() -> Value {
    json!({"p": {"driver": "simulated"}, "q": {"driver": "simulated"}})
}

fn merged(mut one: Value, other: Value) -> Value {
    if let (Some(into), Value::Object(more)) = (one["daemon"].as_object_mut(), other) {
        into.extend(more);
    }
    one
}

/// A daemon that speaks TLS, and the settings of a client that trusts its authority.
fn encrypted(lab: &Lab, pdus: Value) -> (Daemon, Arc<ClientConfig>) {
    let authority = Authority::new(lab, "ca");
    let tls = authority.server("pdud").config(json!({}));
    let daemon = lab.start_with(pdus, tls, &[]);
    (daemon, Arc::new(client_config(&authority, None)))
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

/// An encrypted connection, before or after the handshake: that is made when it is needed.
fn secure(address: SocketAddr, config: &Arc<ClientConfig>) -> Secure {
    let name = ServerName::try_from("localhost").expect("a name");
    let client = ClientConnection::new(Arc::clone(config), name).expect("a client");
    StreamOwned::new(client, connect(address))
}

/// One request and its answer on a connection of its own.
fn get(address: SocketAddr, config: &Arc<ClientConfig>, target: &str, more: &str) -> (u16, String) {
    let mut stream = secure(address, config);
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    read_response(&mut BufReader::new(stream))
}

fn line(address: SocketAddr, config: &Arc<ClientConfig>, line: &str) -> String {
    let mut stream = secure(address, config);
    stream.write_all(line.as_bytes()).expect("sent");
    String::from_utf8_lossy(&read_all(&mut stream)).into_owned()
}

fn counted(daemon: &Daemon, name: &str) -> f64 {
    let (_, text) = http(daemon.address, "GET", "/metrics");
    let lines = text.lines();
    let mut found = lines.filter_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    found.next().unwrap_or(0.0)
}

fn refused(daemon: &Daemon, reason: &str) -> f64 {
    counted(
        daemon,
        &format!("pdudaemon_refusals_total{{reason=\"{reason}\"}}"),
    )
}

#[test]
fn both_protocols_are_served_on_the_one_port_plain_and_with_tls() {
    let lab = Lab::new();
    let (daemon, config) = encrypted(&lab, sim());
    let address = daemon.address;
    assert_eq!(get(address, &config, ON, ""), (200, OK.into()));
    assert_eq!(line(address, &config, "p 1 on"), "ack\n");
    assert_eq!(line(address, &config, "p 1 get-status\n"), "on\n");
    assert_eq!(line(address, &config, "p 1 nonsense\n"), "nack\n");
    // Plain is for this machine, unless the config says otherwise.
    assert_eq!(daemon.get("off?hostname=p&port=1"), (200, OK.into()));
    assert_eq!(daemon.line("p 1 get-status"), "off\n");
    // Several requests on one connection, and one whose body comes late.
    let mut stream = secure(address, &config);
    let request = format!("GET {ON} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream
        .write_all(request.repeat(3).as_bytes())
        .expect("sent");
    let mut stream = BufReader::new(stream);
    for _ in 0..3 {
        assert_eq!(read_response(&mut stream), (200, OK.into()));
    }
    let body = r#"{"targets": ["p:1"], "command": "off"}"#;
    let head = format!(
        "POST /api/v1/requests HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all(head.as_bytes()).expect("sent");
    let mut first = String::new();
    std::io::BufRead::read_line(&mut stream, &mut first).expect("read");
    assert_eq!(first, "HTTP/1.1 100 Continue\r\n");
    stream.get_mut().write_all(body.as_bytes()).expect("sent");
    std::io::BufRead::read_line(&mut stream, &mut first).expect("read");
    assert_eq!(read_response(&mut stream).0, 200);
    // A client that comes again is spared the half of a handshake.
    let kinds: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = secure(address, &config);
            stream.write_all(request.as_bytes()).expect("sent");
            let mut stream = BufReader::new(stream);
            assert_eq!(read_response(&mut stream).0, 200);
            stream.get_ref().conn.handshake_kind()
        })
        .collect();
    assert_eq!(kinds[1], Some(HandshakeKind::Resumed), "{kinds:?}");
    assert!(counted(&daemon, r#"pdudaemon_tls_handshakes_total{result="full"}"#) >= 1.0);
    assert!(
        counted(
            &daemon,
            r#"pdudaemon_tls_handshakes_total{result="resumed"}"#
        ) >= 1.0
    );
    let days = counted(&daemon, "pdudaemon_tls_certificate_days_left ");
    assert!((363.0..366.0).contains(&days), "{days}");
    assert_eq!(http(address, "GET", "/healthz").0, 200);
}

#[test]
fn long_answers_come_whole_however_slowly_they_are_read() {
    let lab = Lab::new();
    let talkative = json!({"p": {"driver": "simulated", "about": "x".repeat(4 << 20)}});
    let (daemon, config) = encrypted(&lab, talkative);
    let mut stream = secure(daemon.address, &config);
    let socket = socket2::SockRef::from(&stream.sock);
    // Less than an answer, and not so little that the network waits for more room.
    socket.set_recv_buffer_size(256 * 1024).expect("set");
    let request = b"GET /api/v1/pdus HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(&request.repeat(2)).expect("sent");
    let mut stream = BufReader::with_capacity(777, stream);
    for _ in 0..2 {
        let (status, body) = read_response(&mut stream);
        assert_eq!(status, 200);
        let list: Value = serde_json::from_str(&body).expect("JSON");
        let about = list["pdus"][0]["about"].as_str().expect("a text");
        assert_eq!(about.len(), 4 << 20);
    }
}

#[test]
fn who_may_go_without_is_what_the_config_says() {
    for (plain, is_served) in [("refuse", false), ("loopback", true), ("allow", true)] {
        let lab = Lab::new();
        let authority = Authority::new(&lab, "ca");
        let tls = authority.server("pdud").config(json!({"plain": plain}));
        let daemon = lab.start_with(sim(), tls, &[]);
        let (status, text) = daemon.get("on?hostname=p&port=1");
        if is_served {
            assert_eq!((status, text.as_str()), (200, OK), "{plain}");
            assert_eq!(daemon.line("p 1 on"), "ack\n", "{plain}");
            continue;
        }
        assert_eq!(status, 403, "{text}");
        assert!(text.contains("https://"), "{text}");
        assert_eq!(daemon.line("p 1 on"), "nack\n");
        let config = Arc::new(client_config(&authority, None));
        assert_eq!(get(daemon.address, &config, ON, ""), (200, OK.into()));
        let (_, metrics) = get(daemon.address, &config, "/metrics", "");
        let count = "pdudaemon_refusals_total{reason=\"plain\"} 2";
        assert!(metrics.contains(count), "{metrics}");
    }
}

#[test]
fn a_pair_that_cannot_be_used_ends_the_start_with_file_and_reason() {
    let lab = Lab::new();
    let authority = Authority::new(&lab, "ca");
    let good = authority.server("good");
    let other = authority.server("other");
    let over = authority.vouch("over", "pdud.lab", (-20, -2));
    let early = authority.vouch("early", "pdud.lab", (2, 20));
    let soon = authority.vouch("soon", "pdud.lab", (-2, 5));
    let none = lab.write("none.pem", "no certificate\n");
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let locked = lab.write("locked.pem", locked);
    let tls = |certificate: &Path, key: &Path, more: Value| {
        let pair = Pair {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        pair.config(more)
    };
    let (crt, key) = (&good.certificate, &good.key);
    let missing = lab.path("missing.pem");
    for (tls, reason) in [
        (
            tls(&missing, key, json!({})),
            "missing.pem: cannot be read: No such file",
        ),
        (
            tls(crt, &missing, json!({})),
            "missing.pem: cannot be read: No such file",
        ),
        (
            tls(&lab.path("."), key, json!({})),
            "it is not a regular file",
        ),
        (
            tls(&none, key, json!({})),
            "none.pem: has no certificate in PEM form",
        ),
        (
            tls(crt, &none, json!({})),
            "none.pem: has no private key in PEM form",
        ),
        (
            tls(crt, &locked, json!({})),
            "locked.pem: the key is encrypted",
        ),
        (
            tls(crt, &other.key, json!({})),
            "other.key: is not the key of the certificate",
        ),
        (
            tls(&over.certificate, &over.key, json!({})),
            "the certificate has expired at",
        ),
        (
            tls(&early.certificate, &early.key, json!({})),
            "the certificate is not valid before",
        ),
        (
            tls(crt, key, json!({"client_ca": missing})),
            "names nobody without daemon.access.tokens",
        ),
        (
            tls(crt, key, json!({"plain": "yes"})),
            "expected \"refuse\", \"loopback\" or \"allow\"",
        ),
        (
            tls(crt, key, json!({"plian": "refuse"})),
            "daemon.tls.plian: unknown key, did you mean plain",
        ),
        (
            json!({"daemon": {"tls": {"key": key}}}),
            "daemon.tls.certificate: missing",
        ),
        (
            json!({"daemon": {"tls": true}}),
            "daemon.tls: expected an object",
        ),
    ] {
        let config = lab.config(sim(), tls.clone());
        let config = config.to_str().expect("UTF-8");
        let checked = lab.run(&["--conf", config, "--check"]);
        assert_eq!(checked.status.code(), Some(1), "{tls}");
        let text = stderr(&checked);
        assert!(text.contains(reason), "{reason} is not in {text}");
        let started = lab.run(&["--conf", config]);
        assert_eq!(started.status.code(), Some(1), "{tls}");
        let text = stderr(&started);
        assert!(text.contains(reason), "{reason} is not in {text}");
        // Who drives needs no certificate.
        let driven = [
            "--drive",
            "--hostname",
            "p",
            "--port",
            "1",
            "--request",
            "on",
        ];
        let driven = lab.run(&[&["--conf", config][..], &driven].concat());
        assert!(driven.status.success(), "{}", stderr(&driven));
    }
    let tokens = json!({"access": {"tokens": [{"name": "lava", "sha256": "0".repeat(64)}]}});
    let with_ca = merged(tls(crt, key, json!({"client_ca": none})), tokens);
    let config = lab.config(sim(), with_ca);
    let checked = lab.run(&["--conf", config.to_str().expect("UTF-8"), "--check"]);
    let text = stderr(&checked);
    assert!(
        text.contains("client_ca: file") && text.contains("no certificate"),
        "{text}"
    );
    // What works, and still is to be told.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&soon.key, mode).expect("set");
    let config = lab.config(sim(), soon.config(json!({})));
    let checked = lab.run(&["--conf", config.to_str().expect("UTF-8"), "--check"]);
    let text = stderr(&checked);
    assert!(checked.status.success(), "{text}");
    assert!(text.contains("the certificate expires at"), "{text}");
    assert!(
        text.contains("every user of this machine can read"),
        "{text}"
    );
}

#[test]
fn a_renewed_certificate_costs_no_request() {
    const REQUESTS: usize = 1000;
    let lab = Lab::new();
    let authority = Authority::new(&lab, "ca");
    let tls = authority.server("pdud").config(json!({}));
    let daemon = lab.start_with(sim(), tls, &[]);
    let config = Arc::new(client_config(&authority, None));
    let (asked, served) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let shown = |config: &Arc<ClientConfig>| {
        let mut stream = secure(daemon.address, config);
        stream.conn.complete_io(&mut stream.sock).expect("shaken");
        stream.conn.peer_certificates().expect("one")[0].to_vec()
    };
    let mut seen = vec![shown(&config)];
    std::thread::scope(|scope| {
        // Half of them stay connected, half come anew each time.
        for number in 0..4 {
            let (config, asked, served, daemon) = (&config, &asked, &served, &daemon);
            scope.spawn(move || {
                let mut kept = BufReader::new(secure(daemon.address, config));
                while asked.fetch_add(1, Ordering::Relaxed) < REQUESTS {
                    if number % 2 == 1 {
                        kept = BufReader::new(secure(daemon.address, config));
                    }
                    let request = format!("GET {ON} HTTP/1.1\r\nHost: localhost\r\n\r\n");
                    kept.get_mut().write_all(request.as_bytes()).expect("sent");
                    assert_eq!(read_response(&mut kept), (200, OK.into()));
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for renewal in 1..=3 {
            let due = REQUESTS * renewal / 4;
            wait_for("some requests", || {
                (served.load(Ordering::Relaxed) >= due).then_some(())
            });
            authority.server("pdud");
            daemon.signal(Signal::HUP);
            // Whoever shakes hands anew is shown another one.
            let fresh = wait_for("the new certificate", || {
                let fresh = shown(&Arc::new(client_config(&authority, None)));
                (!seen.contains(&fresh)).then_some(fresh)
            });
            seen.push(fresh);
        }
    });
    assert_eq!(served.load(Ordering::Relaxed), REQUESTS);
    assert_eq!(seen.len(), 4);
}

#[test]
fn a_reload_that_brings_no_pair_keeps_the_old_one_and_says_so() {
    let lab = Lab::new();
    let authority = Authority::new(&lab, "ca");
    let pair = authority.server("pdud");
    let daemon = lab.start_with(sim(), pair.config(json!({})), &[]);
    let config = || Arc::new(client_config(&authority, None));
    let health = |daemon: &Daemon| {
        let (status, text) = http(daemon.address, "GET", "/healthz");
        assert_eq!(status, 200);
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    assert_eq!(health(&daemon)["status"], "ok");
    let other = authority.server("other");
    std::fs::copy(&other.key, &pair.key).expect("copied");
    // The rest of the config is followed all the same.
    let more = json!({"new": {"driver": "simulated"}});
    lab.config(more, pair.config(json!({})));
    daemon.signal(Signal::HUP);
    let told = wait_for("it to be told", || {
        let health = health(&daemon);
        (health["status"] == "degraded").then_some(health)
    });
    let told = told["degraded"][0]["detail"].as_str().expect("a text");
    assert!(told.contains("is not the key of the certificate"), "{told}");
    assert!(told.contains("served on"), "{told}");
    assert_eq!(get(daemon.address, &config(), ON, "").0, 503, "it is gone");
    let on = "/power/control/on?hostname=new&port=1";
    assert_eq!(get(daemon.address, &config(), on, "").0, 200);
    assert!(counted(&daemon, "pdudaemon_tls_certificate_days_left ") > 300.0);
    authority.vouch("pdud", "pdud.lab", (-1, 30));
    daemon.signal(Signal::HUP);
    wait_for("it to be well", || {
        (health(&daemon)["status"] == "ok").then_some(())
    });
    let days = counted(&daemon, "pdudaemon_tls_certificate_days_left ");
    assert!((28.0..31.0).contains(&days), "{days}");
    // Without the section, TLS is over.
    lab.config(sim(), json!({}));
    daemon.signal(Signal::HUP);
    wait_for("TLS to be over", || {
        let gone = talk(daemon.address, &hello(&config()), true);
        (!gone.starts_with(b"\x16")).then_some(())
    });
}

#[test]
fn bad_beginnings_end_soon_and_are_counted() {
    let lab = Lab::new();
    let (daemon, config) = encrypted(&lab, sim());
    let whole = hello(&config);
    let mut old = whole.clone();
    // The version that every release of TLS until 1.2 goes by, and no list of newer ones.
    let at = old
        .windows(2)
        .position(|two| two == [0x00, 0x2b])
        .expect("the list");
    old[at + 1] = 0xff;
    old[9..11].copy_from_slice(&[0x03, 0x01]);
    let endless = [
        b"\x16\x03\x01\x40\x00\x01\xff\xff\xff".as_slice(),
        &[0; 16 * 1024],
    ]
    .concat();
    let is_alert = |answer: &[u8]| answer.is_empty() || answer[0] == 0x15;
    for (what, sent) in [
        (
            "garbage",
            b"\x16garbage that goes on and on and on".to_vec(),
        ),
        (
            "a record of nothing",
            b"\x16\x03\x01\x00\x00\x16\x03\x01\x00\x00".repeat(9),
        ),
        ("an old version", old),
        ("an endless hello", endless.repeat(8)),
        (
            "a hello that is another message",
            b"\x16\x03\x01\x00\x04\x02\x00\x00\x00".to_vec(),
        ),
        ("half of it, and the end", whole[..whole.len() / 2].to_vec()),
    ] {
        let answer = talk(daemon.address, &sent, true);
        assert!(is_alert(&answer), "{what}: {answer:?}");
        assert_eq!(
            get(daemon.address, &config, ON, ""),
            (200, OK.into()),
            "{what}"
        );
    }
    let failed = r#"pdudaemon_tls_handshakes_total{result="failed"}"#;
    assert_eq!(counted(&daemon, failed), 6.0);
    // Half a handshake, and no end: it is let go in its time, with bytes or without.
    let mut halves: Vec<TcpStream> = [whole.len() / 2, whole.len()]
        .iter()
        .map(|length| {
            let mut half = connect(daemon.address);
            half.write_all(&whole[..*length]).expect("sent");
            half
        })
        .collect();
    for half in &mut halves {
        read_all(half);
    }
    assert_eq!(refused(&daemon, "handshake"), 2.0);
    // Application data that is none, on a good connection.
    let mut stream = secure(daemon.address, &config);
    stream.conn.complete_io(&mut stream.sock).expect("shaken");
    stream
        .sock
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .expect("sent");
    read_all(&mut stream.sock);
    // Renegotiation is not spoken: a hello on a connection that is open ends it.
    let mut stream = secure(daemon.address, &config);
    stream.conn.complete_io(&mut stream.sock).expect("shaken");
    stream.sock.write_all(&whole).expect("sent");
    read_all(&mut stream.sock);
    assert_eq!(get(daemon.address, &config, ON, ""), (200, OK.into()));
}

#[test]
fn handshakes_that_are_begun_and_left_keep_nobody_out() {
    const MOST: usize = 256;
    const HONEST: usize = 20;
    let lab = Lab::new();
    let (daemon, config) = encrypted(&lab, sim());
    let whole = hello(&config);
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut begun = std::collections::VecDeque::new();
            // It ends with the honest clients, or when they have had their time.
            for number in 0..2000 {
                if served.load(Ordering::Relaxed) == HONEST {
                    return;
                }
                let mut client = connect(daemon.address);
                // One that has been let go already is no news.
                let _ = client.write_all(&whole);
                begun.push_back(client);
                if begun.len() > MOST + 50 {
                    begun.pop_front();
                }
                // Many at once, and then as many as the slowest build of the daemon has time for.
                if number > MOST + 50 {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        });
        wait_for("the bound", || {
            (refused(&daemon, "handshakes") >= 20.0).then_some(())
        });
        for _ in 0..HONEST {
            assert_eq!(get(daemon.address, &config, ON, ""), (200, OK.into()));
            assert_eq!(daemon.line("p 1 on"), "ack\n");
            served.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// A config with tokens of a few rights, and certificates in their names.
fn rights() -> Value {
    let hash = |token: &str| -> String {
        let bytes = Sha256::digest(token);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    json!({"access": {"tokens": [
        {"name": "admin", "sha256": hash("admin-token")},
        {"name": "reader", "sha256": hash("reader-token"), "allow": [{"commands": ["get-status"]}]},
        {"name": "lava", "sha256": hash("lava-token"),
         "allow": [{"pdus": ["p"], "outlets": ["1-2"]}]},
    ]}})
}

#[test]
fn a_clients_certificate_gives_the_rights_of_its_token() {
    let lab = Lab::new();
    let (authority, other) = (Authority::new(&lab, "ca"), Authority::new(&lab, "other"));
    let more = json!({"client_ca": authority.file, "plain": "refuse"});
    let tls = merged(authority.server("pdud").config(more), rights());
    let daemon = lab.start_with(sim(), tls, &[]);
    let address = daemon.address;
    let own = |name: &str| {
        let pair = authority.vouch(name, name, (-1, 9));
        Arc::new(client_config(&authority, Some(&pair)))
    };
    let nobody = Arc::new(client_config(&authority, None));
    let (admin, reader, lava, stranger) =
        (own("admin"), own("reader"), own("lava"), own("stranger"));
    // Who, what, by HTTP, by the line, by the API.
    for (who, config, what, may) in [
        ("admin", &admin, ("p", 1, "on"), true),
        ("admin", &admin, ("q", 8, "off"), true),
        ("reader", &reader, ("p", 1, "get-status"), true),
        ("reader", &reader, ("q", 7, "get-status"), true),
        ("reader", &reader, ("p", 1, "on"), false),
        ("reader", &reader, ("p", 1, "off"), false),
        ("lava", &lava, ("p", 1, "on"), true),
        ("lava", &lava, ("p", 2, "get-status"), true),
        ("lava", &lava, ("p", 3, "on"), false),
        ("lava", &lava, ("q", 1, "on"), false),
        ("lava", &lava, ("nothing", 1, "on"), false),
        ("stranger", &stranger, ("p", 1, "get-status"), false),
        ("nobody", &nobody, ("p", 1, "get-status"), false),
    ] {
        let (pdu, outlet, command) = what;
        let is_known = !matches!(who, "stranger" | "nobody");
        let denied = if is_known { 403 } else { 401 };
        let path = format!("/power/control/{command}?hostname={pdu}&port={outlet}");
        let (status, text) = get(address, config, &path, "");
        assert_eq!(
            status,
            if may { 200 } else { denied },
            "{who} {what:?}: {text}"
        );
        let answer = line(address, config, &format!("{pdu} {outlet} {command}\n"));
        assert_eq!(answer != "nack\n", may, "{who} {what:?}: {answer}");
        let (status, text) = get(address, config, &format!("/api/v1/pdus/{pdu}"), "");
        let sees = is_known && pdu != "nothing" && !(who == "lava" && pdu == "q");
        assert_eq!(status == 200, sees, "{who} {pdu}: {status} {text}");
    }
    let (_, text) = get(address, &stranger, ON, "");
    assert!(
        text.contains("\"stranger\"'s, and no token has that name"),
        "{text}"
    );
    // A token that is shown counts before the certificate.
    let shown = "Authorization: Bearer admin-token\r\n";
    assert_eq!(get(address, &reader, ON, shown).0, 200);
    // The client's log name is the token's.
    assert!(daemon.printed().contains("lava@127.0.0.1"));
    // A browser shows its certificate to whoever asks: another site's page gets nothing by that.
    let from = |site: &str| format!("User-Agent: Mozilla/5.0\r\nSec-Fetch-Site: {site}\r\n");
    assert_eq!(get(address, &admin, ON, &from("cross-site")).0, 403);
    assert_eq!(get(address, &admin, ON, &from("same-origin")).0, 200);
    // One that another authority vouches for does not even shake hands.
    let forged = other.vouch("forged", "admin", (-1, 9));
    let forged = Arc::new(client_config(&authority, Some(&forged)));
    let mut stream = secure(address, &forged);
    let _ = stream.write_all(b"p 1 on\n");
    assert!(std::io::Read::read(&mut stream, &mut [0; 9]).is_err());
    // And pduclient has one, too.
    authority.vouch("mine", "lava", (-1, 9));
    let ca = authority.file.to_str().expect("UTF-8");
    let (crt, key) = (lab.path("mine.crt"), lab.path("mine.key"));
    let files = [crt.to_str().expect("UTF-8"), key.to_str().expect("UTF-8")];
    let port = address.port();
    let daemon_name = format!("localhost:{port}");
    let tls = [
        "--daemon",
        &daemon_name,
        "--ca",
        ca,
        "--cert",
        files[0],
        "--key",
        files[1],
    ];
    for (args, code) in [
        (&["on", "p:1"][..], 0),
        (&["on", "p:3"], 127),
        (&["--hostname", "p", "--port", "2", "--command", "on"], 0),
        (&["--hostname", "q", "--port", "2", "--command", "on"], 127),
        (
            &["-H", "--hostname", "p", "--port", "2", "--command", "off"],
            0,
        ),
    ] {
        let ended = lab.client(&[args, &tls].concat());
        let text = stdout(&ended) + &stderr(&ended);
        assert_eq!(ended.status.code(), Some(code), "{args:?}: {text}");
    }
}

#[test]
fn pduclient_speaks_tls_when_it_is_asked_to() {
    let lab = Lab::new();
    let authority = Authority::new(&lab, "ca");
    let pair = authority.server("pdud");
    let daemon = lab.start_with(sim(), pair.config(json!({"plain": "refuse"})), &[]);
    let name = format!("localhost:{}", daemon.address.port());
    let ca = authority.file.to_str().expect("UTF-8");
    let own = pair.certificate.to_str().expect("UTF-8");
    let old = ["--hostname", "p", "--port", "1", "--command"];
    let asked = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = lab.command(PDUCLIENT);
        command.args(["--daemon", &name]).args(args);
        command.envs(variables.iter().copied());
        let ended = run(&mut command);
        (ended.status.code(), stdout(&ended) + &stderr(&ended))
    };
    for (args, variables, code, expected) in [
        (&["on", "p:1", "--ca", ca][..], &[][..], 0, ""),
        (&["state", "p:1", "--tls"], &[("PDUDAEMON_CA", ca)], 0, "on"),
        (
            &["list"],
            &[("PDUDAEMON_TLS", "1"), ("PDUDAEMON_CA", ca)],
            0,
            "p ",
        ),
        // The daemon's own certificate will do.
        (&["off", "p:1", "--ca", own], &[], 0, ""),
        (
            &[&old[..], &["on", "--ca", ca]].concat(),
            &[],
            0,
            "Command sent",
        ),
        (
            &[&old[..], &["get-status", "-H", "--ca", ca]].concat(),
            &[],
            0,
            "on",
        ),
        (
            &[&old[..], &["get-status", "--ca", ca]].concat(),
            &[],
            0,
            "on",
        ),
        (
            &["on", "p:1", "--tls"],
            &[],
            1,
            "name the certificate, or its authority, with --ca",
        ),
        (&[&old[..], &["on", "--tls"]].concat(), &[], 1, "with --ca"),
        (
            &["on", "p:1", "--ca", "/nonexistent"],
            &[],
            2,
            "/nonexistent",
        ),
        (&["on", "p:1", "--key", own], &[], 2, "expected --cert"),
        // Whoever does not ask for TLS is told by the daemon.
        (&["on", "p:1"], &[], 127, "over TLS"),
        (&[&old[..], &["on"]].concat(), &[], 127, "nack"),
        (&[&old[..], &["on", "-H"]].concat(), &[], 127, "over TLS"),
        // What abbreviated old options still does.
        (
            &["--hostname", "p", "--port", "1", "--c", "on", "--tls"],
            &[("PDUDAEMON_CA", ca)],
            0,
            "sent",
        ),
    ] {
        let (ended, text) = asked(args, variables);
        assert_eq!(ended, Some(code), "{args:?}: {text}");
        assert!(text.contains(expected), "{args:?}: {text}");
    }
    // A port where nobody speaks TLS.
    let plain = lab.start(sim());
    let name = format!("localhost:{}", plain.address.port());
    let ended = lab.client(&["on", "p:1", "--daemon", &name, "--ca", ca]);
    let text = stderr(&ended);
    assert!(
        text.contains("does not speak TLS") || text.contains("closed"),
        "{text}"
    );
}

/// Programs of others that speak to the daemon as they do in labs.
#[test]
fn other_peoples_clients_are_served_over_tls() {
    let lab = Lab::new();
    let authority = Authority::new(&lab, "ca");
    let more = json!({"client_ca": authority.file, "plain": "refuse"});
    let tls = merged(authority.server("pdud").config(more), rights());
    let daemon = lab.start_with(sim(), tls, &[]);
    let mine = authority.vouch("mine", "admin", (-1, 9));
    let url = |path: &str| format!("https://localhost:{}{path}", daemon.address.port());
    let ca = authority.file.as_path();
    let done = |command: &mut Command| {
        let ended = run(command);
        let text = stdout(&ended) + &stderr(&ended);
        assert!(ended.status.success(), "{command:?}: {text}");
        text
    };
    let token = "Authorization: Bearer admin-token";
    let mut curl = lab.command("curl");
    curl.args(["-sS", "--fail", "-H", token, "--cacert"])
        .arg(ca);
    assert_eq!(done(curl.arg(url(ON))), OK);
    for version in ["1.2", "1.3"] {
        let mut curl = lab.command("curl");
        curl.args([
            "-sS",
            "--fail",
            &format!("--tlsv{version}"),
            "--tls-max",
            version,
            "--cacert",
        ]);
        curl.arg(ca)
            .arg("--cert")
            .arg(&mine.certificate)
            .arg("--key")
            .arg(&mine.key);
        // Twice on one connection.
        curl.args([url(ON), url("/power/control/off?hostname=q&port=1")]);
        assert_eq!(done(&mut curl), OK.repeat(2), "TLS {version}");
    }
    let mut curl = lab.command("curl");
    let untrusting = run(curl.args(["-sS", &url(ON)]));
    assert!(
        !untrusting.status.success(),
        "curl trusts nobody it does not know"
    );
    let script = "import requests, sys\n\
        url, ca, crt, key = sys.argv[1:]\n\
        with requests.Session() as s:\n    \
            for _ in range(3):\n        \
                r = s.get(url, verify=ca, cert=(crt, key)); r.raise_for_status()\n\
        print(r.text, end='')\n\
        try:\n    requests.get(url)\n\
        except requests.exceptions.SSLError: print('untrusted')\n";
    let mut python = lab.command("/usr/bin/python3");
    python
        .args(["-c", script, &url(ON)])
        .arg(ca)
        .arg(&mine.certificate)
        .arg(&mine.key);
    assert_eq!(done(&mut python), format!("{OK}untrusted\n"));
    // The line, by openssl.
    let mut openssl = lab.command("sh");
    openssl.args([
        "-c",
        "(printf 'p 1 get-status\\n'; sleep 1) | openssl s_client -quiet -verify_return_error \
        -connect localhost:$0 -CAfile $1 -cert $2 -key $3 2>/dev/null",
    ]);
    openssl
        .arg(daemon.address.port().to_string())
        .arg(ca)
        .arg(&mine.certificate)
        .arg(&mine.key);
    assert_eq!(stdout(&run(&mut openssl)), "on\n");
    // Prometheus itself: it is told whom to trust, and finds its target up.
    let listens = SocketAddr::from((Ipv4Addr::LOCALHOST, crate::sim::port::free()));
    let config = json!({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{
            "job_name": "pdudaemon", "scheme": "https",
            "static_configs": [{"targets": [format!("localhost:{}", daemon.address.port())]}],
            "tls_config": {"ca_file": ca, "cert_file": mine.certificate, "key_file": mine.key},
        }],
    });
    let config = lab.write("prometheus.json", &config.to_string());
    let program = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/target/prometheus/usr/bin/prometheus"
    );
    let mut prometheus = lab.command(program);
    prometheus
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            lab.path("tsdb").display()
        ))
        .arg(format!("--web.listen-address={listens}"));
    let _prometheus = Daemon::spawn_anywhere(prometheus);
    wait_for("Prometheus to find the daemon up", || {
        let query = "/api/v1/query?query=up*on(job)pdudaemon_tls_certificate_days_left";
        TcpStream::connect(listens).ok()?;
        let (status, text) = http(listens, "GET", query);
        (status == 200 && text.contains("\"job\":\"pdudaemon\"")).then_some(())
    });
}

/// nginx as `share/examples/nginx.conf` has it, but for ports and places of files.
#[test]
fn the_recipe_for_nginx_serves_with_tls_and_tells_where_clients_are() {
    let lab = Lab::new();
    let authority = Authority::new(&lab, "ca");
    let pair = authority.server("nginx");
    let (proxy, client) = ("127.0.0.1", "127.0.0.2");
    let mut access = rights();
    access["access"]["proxies"] = json!([proxy]);
    access["access"]["hosts"] = json!(["pdud.lab"]);
    access["access"]["trusted_networks"] = json!([client]);
    let daemon = lab.start_with(sim(), json!({"daemon": access}), &[]);
    let port = crate::sim::port::free();
    let mut recipe = include_str!("../../share/examples/nginx.conf").to_owned();
    for (there, here) in [
        ("listen 443 ssl", format!("listen {proxy}:{port} ssl")),
        ("    listen [::]:443 ssl;\n", String::new()),
        (
            "/etc/ssl/private/pdud.crt",
            pair.certificate.display().to_string(),
        ),
        ("/etc/ssl/private/pdud.key", pair.key.display().to_string()),
        ("127.0.0.1:16421", daemon.address.to_string()),
    ] {
        assert!(recipe.contains(there), "{there} is not in the recipe");
        recipe = recipe.replace(there, &here);
    }
    let folder = lab.path("");
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/nginx-{kind};\n"))
        .concat();
    let config = format!(
        "daemon off; master_process off; pid {folder}/nginx.pid;\nevents {{}}\n\
         http {{ access_log off;\n{temporary}{recipe}}}\n"
    );
    let config = lab.write("nginx.conf", &config);
    let mut nginx = lab.command("nginx");
    let path = std::env::var("PATH").unwrap_or_default();
    nginx.env("PATH", format!("{path}:/usr/sbin"));
    nginx
        .arg("-e")
        .arg(lab.path("nginx.log"))
        .arg("-c")
        .arg(config);
    let _nginx = Daemon::spawn_anywhere(nginx);
    wait_for("nginx to listen", || TcpStream::connect((proxy, port)).ok());
    let curl = |from: &str, target: &str, headers: &[&str]| {
        let mut curl = lab.command("curl");
        curl.args(["-sS", "-w", "%{http_code}", "--interface", from, "--cacert"]);
        curl.arg(&authority.file);
        curl.args(["--resolve", &format!("pdud.lab:{port}:{proxy}")]);
        for header in headers {
            curl.args(["-H", header]);
        }
        stdout(&run(curl.arg(format!("https://pdud.lab:{port}{target}"))))
    };
    let token = "Authorization: Bearer lava-token";
    let served = format!("{OK}200");
    assert_eq!(curl("127.0.0.3", ON, &[token]), served);
    assert!(curl("127.0.0.3", ON, &[]).ends_with("401"));
    // A trusted client is one through the proxy, too, and nobody can pretend to be it.
    assert_eq!(curl(client, ON, &[]), served);
    for forged in ["X-Forwarded-For", "X-Real-IP"] {
        let header = format!("{forged}: {client}");
        assert!(
            curl("127.0.0.3", ON, &[&header]).ends_with("401"),
            "{forged}"
        );
    }
    let header = format!("Forwarded: for={client}");
    assert!(curl("127.0.0.3", ON, &[&header]).ends_with("401"));
    assert!(
        daemon.printed().contains("lava@127.0.0.3"),
        "{}",
        daemon.printed()
    );
    assert!(curl("127.0.0.3", "/", &[]).contains("<html"));
}
