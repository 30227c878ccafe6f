//! Nobody is trusted for where a proxy stands. The tests go through the table line by line, with
//! nginx as the proxy: one server for each way to put a proxy in front of the daemon.

use crate::access::{ask_at, from, sha256};
use crate::daemon::{Daemon, Lab, PATIENCE, read_all, read_response, wait_for};
use crate::sim::port;
use serde_json::{Value, json};
use std::io::{BufReader, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

const ADMIN: &str = "Authorization: Bearer admin-token-of-sixteen-and-more";
const WRONG: &str = "Authorization: Bearer wrong";
/// Linux answers on all of 127.0.0.0/8. Clients:
const TRUSTED: &str = "127.0.0.1";
const STRANGER: &str = "127.0.0.2";
/// Where proxies connect from: one is in `proxies`, the other among the trusted addresses.
const NAMED: &str = "127.0.0.3";
const UNNAMED: &str = "127.0.0.4";

const XFF: &str = "X-Forwarded-For $proxy_add_x_forwarded_for";
/// nginx's servers: the address it listens on, that it connects from, where to, and its headers.
const SERVERS: &[(Way, &str, To, &[&str])] = &[
    (Way::Named, NAMED, To::Daemon, &[XFF]),
    (
        Way::Forwarded,
        NAMED,
        To::Daemon,
        &["Forwarded \"for=$remote_addr;proto=http\""],
    ),
    (Way::RealIp, NAMED, To::Daemon, &["X-Real-IP $remote_addr"]),
    (Way::Two, NAMED, To::Server(Way::Named), &[XFF]),
    (Way::Mute, NAMED, To::Daemon, &[]),
    (Way::Unnamed, UNNAMED, To::Daemon, &[XFF]),
    (Way::Via, UNNAMED, To::Daemon, &["Via \"1.1 nginx\""]),
    (Way::Bare, UNNAMED, To::Daemon, &[]),
    (Way::Socket, NAMED, To::Socket, &[XFF]),
    (Way::BareSocket, NAMED, To::Socket, &[]),
];

/// How a request gets to the daemon.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Direct,
    Named,
    Forwarded,
    RealIp,
    /// Through two that are named.
    Two,
    /// From the named address, without a header.
    Mute,
    Unnamed,
    Via,
    /// From the trusted address, without a header.
    Bare,
    Socket,
    BareSocket,
}

enum To {
    Daemon,
    Server(Way),
    Socket,
}

impl Way {
    /// The address nginx listens on for it.
    fn address(self) -> IpAddr {
        IpAddr::from([127, 0, 1, 1 + self as u8])
    }
}

/// A running nginx, as the user of the test; killed when dropped.
struct Nginx {
    child: Child,
    port: u16,
}

impl Nginx {
    fn start(lab: &Lab, daemon: SocketAddr) -> Self {
        // Another program may have taken the port that was free.
        wait_for("nginx to start", || Self::try_start(lab, daemon))
    }

    fn try_start(lab: &Lab, daemon: SocketAddr) -> Option<Self> {
        let (port, folder) = (port::free(), lab.path(""));
        let folder = folder.display();
        let mut servers = String::new();
        for (way, source, to, headers) in SERVERS {
            let (bind, to) = match to {
                To::Daemon => (format!("proxy_bind {source};"), daemon.to_string()),
                To::Server(way) => (
                    format!("proxy_bind {source};"),
                    SocketAddr::new(way.address(), port).to_string(),
                ),
                To::Socket => (String::new(), format!("unix:{folder}/socket:")),
            };
            let headers: String = ["Host $http_host"]
                .iter()
                .chain(*headers)
                .map(|header| format!("proxy_set_header {header};\n"))
                .collect();
            let address = way.address();
            servers += &format!(
                "server {{ listen {address}:{port}; location / {{ {bind}\n{headers}proxy_pass http://{to}; }} }}\n"
            );
        }
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {folder}/nginx-{kind};\n"))
            .concat();
        let config = format!(
            "daemon off; master_process off; pid {folder}/nginx.pid;\nevents {{}}\n\
             http {{ access_log off;\n{temporary}{servers}}}\n"
        );
        let config = lab.write("nginx.conf", &config);
        let log = lab.path("nginx.log");
        let child = Command::new("nginx")
            .env(
                "PATH",
                format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()),
            )
            .arg("-e")
            .arg(&log)
            .arg("-c")
            .arg(config)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx (Debian: nginx-light)");
        let mut nginx = Self { child, port };
        wait_for("nginx to listen", || {
            let last = SocketAddr::new(Way::BareSocket.address(), port);
            if TcpStream::connect_timeout(&last, PATIENCE).is_ok() {
                return Some(true);
            }
            nginx.child.try_wait().expect("a child").map(|_| {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                assert!(log.contains("in use"), "nginx ended: {log}");
                false
            })
        })
        .then_some(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(lab: &Lab, proxies: &[&str], with_tokens: bool) -> Daemon {
    let mut access = json!({"proxies": proxies});
    if with_tokens {
        let token = ADMIN.rsplit(' ').next().expect("a token");
        access["tokens"] = json!([{"name": "admin", "sha256": sha256(token)}]);
        access["trusted_networks"] = json!([TRUSTED, UNNAMED]);
    }
    let hostname = [
        "127.0.0.1".to_owned(),
        lab.path("socket").display().to_string(),
    ];
    let more = json!({"daemon": {"hostname": hostname, "access": access}});
    lab.start_with(pdus(lab), more, &[])
}

fn pdus(lab: &Lab) -> Value {
    json!({"desk": lab.recorder("desk")})
}

const LEGACY: &str = "/power/control/on?hostname=desk&port=1";
const API: &str = "/api/v1/pdus/desk";

#[test]
fn who_is_trusted_through_nginx() {
    let lab = Lab::new();
    let daemon = start(&lab, &[NAMED], true);
    let nginx = Nginx::start(&lab, daemon.address);
    let forged = "X-Forwarded-For: 127.0.0.1";
    // way, client, its header, without a token: legacy path, API
    let table: &[(Way, &str, &str, u16, u16)] = &[
        (Way::Direct, TRUSTED, "X: y", 200, 401),
        (Way::Direct, STRANGER, "X: y", 401, 401),
        (Way::Direct, TRUSTED, forged, 401, 401),
        (Way::Direct, STRANGER, forged, 401, 401),
        (Way::Named, TRUSTED, "X: y", 200, 401),
        (Way::Named, STRANGER, "X: y", 401, 401),
        (Way::Named, STRANGER, forged, 401, 401),
        (Way::Named, STRANGER, "Forwarded: for=127.0.0.1", 401, 401),
        (Way::Named, STRANGER, "X-Real-IP: 127.0.0.1", 401, 401),
        (Way::Forwarded, TRUSTED, "X: y", 200, 401),
        (Way::Forwarded, STRANGER, "X: y", 401, 401),
        (Way::Forwarded, STRANGER, forged, 401, 401),
        (Way::RealIp, TRUSTED, "X: y", 200, 401),
        (Way::RealIp, STRANGER, "X: y", 401, 401),
        (Way::RealIp, STRANGER, forged, 401, 401),
        (Way::Two, TRUSTED, "X: y", 200, 401),
        (Way::Two, STRANGER, "X: y", 401, 401),
        (Way::Two, STRANGER, forged, 401, 401),
        (Way::Mute, TRUSTED, "X: y", 401, 401),
        (Way::Mute, STRANGER, "X: y", 401, 401),
        (Way::Unnamed, TRUSTED, "X: y", 401, 401),
        (Way::Unnamed, STRANGER, "X: y", 401, 401),
        (Way::Via, TRUSTED, "X: y", 401, 401),
        // Nothing tells it from a program on its machine: what the manual warns of.
        (Way::Bare, STRANGER, "X: y", 200, 401),
        (Way::Socket, TRUSTED, "X: y", 401, 401),
        (Way::Socket, STRANGER, "X: y", 401, 401),
        (Way::BareSocket, STRANGER, "X: y", 200, 200),
    ];
    for (way, client, header, legacy, api) in table {
        let ask =
            |path, headers: &[&str]| ask_through(&daemon, &nginx, *way, client, path, headers).0;
        lab.forget();
        assert_eq!(ask(LEGACY, &[header]), *legacy, "{way:?} {client} {header}");
        assert_eq!(lab.record().len(), usize::from(*legacy == 200));
        assert_eq!(ask(API, &[header]), *api, "{way:?} {client} {header}");
        // With a token, whatever the way; a wrong one is never better than none.
        assert_eq!(ask(LEGACY, &[header, ADMIN]), 200, "{way:?} {client}");
        assert_eq!(ask(API, &[header, ADMIN]), 200, "{way:?} {client}");
        let wrong = ask(API, &[header, WRONG]);
        assert!([401, 429].contains(&wrong), "{way:?} {client}: {wrong}");
    }
    // The log names the client, or the proxy beyond which nothing is known.
    for (way, name) in [
        (Way::Named, STRANGER),
        (Way::Two, STRANGER),
        (Way::Unnamed, UNNAMED),
        (Way::Mute, NAMED),
        (Way::Socket, "unix"),
    ] {
        let outlet = 10 + way as u8;
        let path = format!("/power/control/on?hostname=desk&port={outlet}");
        ask_through(&daemon, &nginx, way, STRANGER, &path, &[ADMIN]);
        daemon.wait_for_print(&format!("admin@{name}: desk {outlet} on: ok"));
    }
    // The line protocol has no headers.
    for (client, answer) in [(NAMED, "nack\n"), (UNNAMED, "ack\n"), (STRANGER, "nack\n")] {
        let mut stream = from(client, daemon.address);
        stream.write_all(b"desk 1 on").expect("sent");
        stream.shutdown(Shutdown::Write).expect("shut down");
        assert_eq!(read_all(&mut stream), answer.as_bytes(), "{client}");
    }
}

#[test]
fn who_is_trusted_through_a_proxy_on_the_unix_socket() {
    let lab = Lab::new();
    let daemon = start(&lab, &[NAMED, "unix"], true);
    let nginx = Nginx::start(&lab, daemon.address);
    for (way, client, legacy, api) in [
        (Way::Socket, TRUSTED, 200, 401),
        (Way::Socket, STRANGER, 401, 401),
        (Way::BareSocket, TRUSTED, 401, 401),
    ] {
        let ask =
            |path, headers: &[&str]| ask_through(&daemon, &nginx, way, client, path, headers).0;
        assert_eq!(ask(LEGACY, &[]), legacy, "{way:?} {client}");
        assert_eq!(ask(API, &[]), api, "{way:?} {client}");
        assert_eq!(ask(API, &[ADMIN]), 200, "{way:?} {client}");
    }
    // Whoever comes by it without a header is a stranger, too.
    let mut stream = UnixStream::connect(lab.path("socket")).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let request = format!("GET {LEGACY} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    assert_eq!(read_response(&mut BufReader::new(stream)).0, 401);
}

#[test]
fn wrong_tokens_behind_a_proxy_are_counted_by_client() {
    let lab = Lab::new();
    let daemon = start(&lab, &[NAMED], true);
    let nginx = Nginx::start(&lab, daemon.address);
    let guess = |client| ask_through(&daemon, &nginx, Way::Named, client, API, &[WRONG]).0;
    wait_for("it to be enough", || (guess(STRANGER) == 429).then_some(()));
    assert_eq!(guess(TRUSTED), 401);
    let admin = |client| ask_through(&daemon, &nginx, Way::Named, client, API, &[ADMIN]).0;
    assert_eq!(admin(STRANGER), 200);
}

/// Without tokens everybody may; a named proxy answers for the name it was called by, and a page of
/// another site is none of ours through any proxy.
#[test]
fn without_tokens_a_named_proxy_is_called_what_it_likes() {
    let lab = Lab::new();
    let daemon = start(&lab, &[NAMED], false);
    let nginx = Nginx::start(&lab, daemon.address);
    let host = "Host: power.example";
    for (way, headers, expected) in [
        (Way::Named, &[host][..], 200),
        (Way::Mute, &[host], 200),
        (Way::Named, &[host, "Origin: https://power.example"], 200),
        (Way::Named, &[host, "Origin: https://evil.example"], 403),
        (Way::Named, &[host, "Sec-Fetch-Site: cross-site"], 403),
        (Way::Unnamed, &[host], 403),
        (Way::Bare, &[host], 403),
        (Way::Direct, &[host], 403),
        (Way::Unnamed, &["Host: localhost"], 200),
        (Way::Bare, &["Host: localhost"], 200),
    ] {
        for path in [LEGACY, "/metrics"] {
            let (status, text) = ask_through(&daemon, &nginx, way, STRANGER, path, headers);
            assert_eq!(status, expected, "{way:?} {headers:?}\n{text}");
        }
    }
}

/// One request of this client by this way.
fn ask_through(
    daemon: &Daemon,
    nginx: &Nginx,
    way: Way,
    client: &str,
    path: &str,
    headers: &[&str],
) -> (u16, String) {
    let to = match way {
        Way::Direct => daemon.address,
        way => SocketAddr::new(way.address(), nginx.port),
    };
    ask_at(to, client, "GET", path, headers)
}
