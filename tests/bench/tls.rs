//! TLS: what it costs on connections that are kept, and what a handshake costs.

use crate::load::{self, Until};
use crate::process::{Program, Running, config_with};
use crate::{At, Rate, WARM_UP, null_path, null_pdus, verdict};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const CONNECTIONS: [usize; 2] = [1, 16];
const RUN: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;
const HANDSHAKES: usize = 1000;

/// `daemon.tls` with a certificate made now, with more keys; and a client that trusts it.
pub fn daemon(folder: &Path, more: Value) -> (Value, Arc<ClientConfig>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    std::fs::write(&certificate, cert.pem()).expect("written");
    std::fs::write(&key, signing_key.serialize_pem()).expect("written");
    let mut daemon = more;
    daemon["tls"] = json!({"certificate": certificate, "key": key});
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a root");
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (daemon, Arc::new(client))
}

/// A client that will shake hands as soon as it is used.
pub fn client(tls: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::clone(tls), name).expect("a client")
}

pub fn run(folder: &Path) {
    println!("## TLS: requests on kept connections, and handshakes");
    let (limits, tls) = daemon(folder, json!({}));
    let pdus = null_pdus(CONNECTIONS[1]);
    let (path, address) = config_with(folder, "tls.conf", &pdus, limits);
    let running = Running::daemon(&Program::ours(), &path, address);
    for connections in CONNECTIONS {
        // Taking turns, so that both meet the same machine.
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let plain = kept(&running, None, connections);
            println!("plain {connections:>3} connections {plain}");
            let secure = kept(&running, Some(&tls), connections);
            println!("TLS   {connections:>3} connections {secure}");
            ratios.push(secure.per_second / plain.per_second);
        }
        let ratio = crate::median(ratios.into_iter());
        let what = format!("requests/s TLS / plain, {connections} connections");
        verdict(&what, ratio, 0.6, At::Least);
    }
    let mut fresh = ClientConfig::clone(&tls);
    fresh.resumption = Resumption::disabled();
    for (what, config, expected) in [
        ("fresh", Arc::new(fresh), HandshakeKind::Full),
        ("resumed", tls, HandshakeKind::Resumed),
    ] {
        shake(address, &config);
        let before = running.cpu();
        let kinds = (0..HANDSHAKES).filter(|_| shake(address, &config) == Some(expected));
        assert_eq!(kinds.count(), HANDSHAKES, "{what} handshakes are others");
        let each = running.cpu().saturating_sub(before).as_secs_f64() / HANDSHAKES as f64;
        println!(
            "a connection with a {what} handshake and one request: CPU {:>7.1} us",
            each * 1e6
        );
    }
}

fn kept(running: &Running, tls: Option<&Arc<ClientConfig>>, connections: usize) -> Rate {
    load::run_over(
        tls,
        running.address,
        connections,
        Until::Over(WARM_UP),
        null_path,
    );
    let before = running.cpu();
    let found = load::run_over(
        tls,
        running.address,
        connections,
        Until::Over(RUN),
        null_path,
    );
    Rate::of(&found, running.cpu().saturating_sub(before))
}

/// A connection of its own for one request; how the hands were shaken.
fn shake(address: SocketAddr, config: &Arc<ClientConfig>) -> Option<HandshakeKind> {
    let stream = TcpStream::connect(address).expect("connected");
    let mut stream = StreamOwned::new(client(config), stream);
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("a whole answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stream.conn.handshake_kind()
}
