//! Floods: requests that wait, that take work for later, or that ask for long lists, from clients
//! that are gone at once. Honest clients are measured before and meanwhile, and the memory at the
//! end.

use crate::hostile::{Ask, Crowd, HONEST, PDUS, documented_bound, look, look_at};
use crate::process::{Program, Running, config_with};
use crate::{At, null_path, null_pdus, verdict};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

const KINDS: [&str; 3] = ["polls", "delays", "lists"];
/// The daemon takes so many connections, and keeps so many bytes for them.
const MOST_CONNECTIONS: usize = 64;
const BUFFERED: usize = 8 << 20;
/// Clients of the flood at a time, and how long they stay.
const AT_ONCE: usize = 40;
const STAY: Duration = Duration::from_millis(20);
/// So many come a second.
const A_SECOND: usize = 700;
/// What each sends beside its request line: more than a request needs.
const HEADER_BYTES: usize = 13_000;
const BODY_BYTES: usize = 65_000;

pub fn run(folder: &Path) {
    for kind in KINDS {
        println!(
            "## A flood of {kind}: {A_SECOND} clients a second, {AT_ONCE} at a time, gone after {STAY:?}"
        );
        let limits = json!({
            "max_connections": MOST_CONNECTIONS, "max_buffered_bytes": BUFFERED,
        });
        let name = format!("flood-{kind}.conf");
        let (path, address) = config_with(folder, &name, &null_pdus(PDUS), limits);
        let running = Running::daemon(&Program::ours(), &path, address);
        look(&running, "warm-up");
        let quiet = look(&running, "quiet");
        // What a flood of lists is most in the way of.
        let list: Ask = |_, _| "/api/v1/pdus/pdu1".to_owned();
        let quiet_list = look_at(&running, list, "quiet, a list");
        let crowd = Crowd::start(address, kind);
        let flooded = look(&running, kind);
        let flooded_list = look_at(&running, list, "flooded, a list");
        let most = running.memory() as f64;
        drop(crowd);
        for ((honest, quiet), flooded) in HONEST.iter().zip(quiet).zip(flooded) {
            let what = format!("p99 under {kind} / quiet, {honest} honest");
            verdict(&what, flooded / quiet, 3.0, At::Most);
        }
        for ((honest, quiet), flooded) in HONEST.iter().zip(quiet_list).zip(flooded_list) {
            let what = format!("p99 of a list under {kind} / quiet, {honest} honest");
            verdict(&what, flooded / quiet, 3.0, At::Most);
        }
        let bound = documented_bound(MOST_CONNECTIONS, BUFFERED, PDUS);
        let what = format!("resident memory under {kind} / documented bound");
        verdict(&what, most / bound, 1.0, At::Most);
    }
}

/// The flood of this kind, for a child process; `None` when it is none.
pub fn flood(kind: &str, address: SocketAddr, end: Instant) -> Option<()> {
    let path = match kind {
        "polls" => format!("/api/v1/requests/{}?wait=60", endless(address)),
        "delays" => format!("{}&delay=86400", null_path(PDUS - 2, 0)),
        "lists" => "/metrics".to_owned(),
        _ => return None,
    };
    let padding = "a".repeat(HEADER_BYTES);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Padding: {padding}\r\nContent-Length: \
         {BODY_BYTES}\r\n\r\n{}",
        "b".repeat(BODY_BYTES)
    );
    println!("ready");
    let mut next = Instant::now();
    while next < end {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next += Duration::from_secs(AT_ONCE as u64) / A_SECOND as u32;
        let come = |_| {
            let mut client = TcpStream::connect(address).ok()?;
            client.set_write_timeout(Some(STAY)).ok()?;
            // Whoever is refused meanwhile goes with the others.
            let _ = client.write_all(request.as_bytes());
            Some(client)
        };
        let clients: Vec<TcpStream> = (0..AT_ONCE).filter_map(come).collect();
        std::thread::sleep(STAY);
        for client in &clients {
            let _ = socket2::SockRef::from(client).set_linger(Some(Duration::ZERO));
        }
        // One that cannot keep up sends no more at once later.
        next = next.max(Instant::now());
    }
    Some(())
}

/// The number of a request that does not end: a reboot with a pause of a day, of a PDU that no honest
/// client asks.
fn endless(address: SocketAddr) -> String {
    let mut client = TcpStream::connect(address).expect("connected");
    client
        .write_all(
            b"POST /api/v1/pdus/pdu99/outlets/1/reboot?wait=false HTTP/1.1\r\nHost: localhost\r\n\
              Connection: close\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n\
              {\"delay\": 86400}",
        )
        .expect("sent");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("read");
    let (_, id) = answer.split_once("\"id\":").expect("a request");
    id.trim().chars().take_while(char::is_ascii_digit).collect()
}
