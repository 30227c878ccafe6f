//! A PDU that answers what the fuzzer says, on a real loopback socket, to a real driver.
//!
//! Of the input, the first byte chooses the driver, the second what is asked of it; the rest are
//! the answers: each a length byte (255: all that is left) and its bytes.

use pdudaemon::driver::{Driver, registry};
use pdudaemon::request::{Outlet, PduName, Switch};
use pdudaemon::settings::{Position, Settings};
use pdudaemon::transport::Deadline;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// One driver call must be over by then; what takes longer is a finding.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long the PDU waits for a request.
const QUIET: Duration = Duration::from_millis(2);

#[allow(dead_code, reason = "each target has its own")]
#[derive(Clone, Copy, PartialEq)]
pub enum Manner {
    /// Answers requests.
    Answers,
    /// Speaks first, then answers.
    Greets,
    /// Answers requests with a head that fits, unless told otherwise.
    Http,
}

struct Bench {
    port: u16,
    scripts: Sender<Vec<Vec<u8>>>,
    drivers: Vec<(&'static str, serde_json::Value)>,
}

static BENCH: OnceLock<Mutex<Bench>> = OnceLock::new();

fn bench(transport: &str, manner: Manner) -> Bench {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (scripts, queue) = channel::<Vec<Vec<u8>>>();
    std::thread::spawn(move || {
        let mut script: Vec<Vec<u8>> = Vec::new();
        for client in listener.incoming().flatten() {
            // The script of the newest call; a driver that connects again goes on in it.
            while let Ok(newer) = queue.try_recv() {
                script = newer;
                script.reverse();
            }
            play(client, &mut script, manner);
        }
    });
    let address = format!("127.0.0.1:{port}");
    let usual = serde_json::json!({
        "ip": address, "username": "user", "password": "secret", "port_count": 4,
        "switch_ids": ["a", "b"]
    });
    let bare = serde_json::json!({"ip": address});
    let lindy =
        serde_json::json!({"ip": address, "port": 8, "username": "user", "password": "secret"});
    let mut drivers = Vec::new();
    for spec in registry::specs().filter(|spec| spec.transport == transport) {
        for name in spec.names.iter().copied() {
            let works: Vec<_> = [&usual, &bare, &lindy]
                .into_iter()
                .filter(|settings| build(name, settings).is_some())
                .collect();
            assert!(!works.is_empty(), "no settings for {name}");
            drivers.extend(works.into_iter().map(|settings| (name, settings.clone())));
        }
    }
    Bench {
        port,
        scripts,
        drivers,
    }
}

fn build(name: &str, settings: &serde_json::Value) -> Option<Box<dyn Driver>> {
    let at = Position { line: 1, column: 1 };
    let settings = Settings::new(PduName::new("pdu"), name, settings.to_string(), at);
    registry::find(name)?.build.build(&settings).ok()
}

fn play(mut client: TcpStream, script: &mut Vec<Vec<u8>>, manner: Manner) {
    let _ = client.set_nodelay(true);
    let _ = client.set_read_timeout(Some(QUIET));
    let mut buffer = [0; 4096];
    let mut heard = Vec::new();
    if manner == Manner::Greets
        && let Some(greeting) = script.pop()
    {
        let _ = client.write_all(&greeting);
    }
    while !script.is_empty() {
        match client.read(&mut buffer) {
            Ok(length) if length > 0 => heard.extend_from_slice(&buffer[..length]),
            Ok(_) => return,
            // Nobody asks, perhaps because the last answer was not whole: on with the next.
            Err(error) if error.kind() == ErrorKind::WouldBlock => heard.extend(b"\r\n\r\n"),
            Err(_) => return,
        }
        if manner == Manner::Http && !heard.windows(4).any(|end| end == b"\r\n\r\n") {
            continue;
        }
        heard.clear();
        let Some(answer) = script.pop() else { break };
        let written = match (manner, answer.split_first()) {
            (Manner::Http, Some((status @ 0..=7, body))) => {
                let status = [200, 401, 403, 404, 500, 301, 204, 100][usize::from(*status)];
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                client
                    .write_all(head.as_bytes())
                    .and_then(|()| client.write_all(body))
            }
            _ => client.write_all(&answer),
        };
        if written.is_err() {
            return;
        }
    }
    let _ = client.shutdown(Shutdown::Write);
    let _ = client.read(&mut buffer);
}

/// One driver call, answered by `input`.
pub fn replies(transport: &str, manner: Manner, input: &[u8]) {
    let [which, what, rest @ ..] = input else {
        return;
    };
    let bench = BENCH.get_or_init(|| Mutex::new(bench(transport, manner)));
    let bench = bench.lock().expect("one at a time");
    assert!(bench.port > 0);
    let (name, settings) = &bench.drivers[usize::from(*which) % bench.drivers.len()];
    let mut script = Vec::new();
    let mut rest = rest;
    while let [length, bytes @ ..] = rest {
        let length = match *length {
            255 => bytes.len(),
            length => usize::from(length).min(bytes.len()),
        };
        script.push(bytes[..length].to_vec());
        rest = &bytes[length..];
    }
    bench.scripts.send(script).expect("the PDU is there");
    let mut driver = build(name, settings).expect("built before");
    let outlets = ["1", "2", "4", "a", "1/2", "relay-x", "1:2", "8"].map(Outlet::new);
    let fit: Vec<&Outlet> = outlets
        .iter()
        .filter(|outlet| driver.check(outlet).is_ok())
        .collect();
    let Some(outlet) = fit.get(usize::from(what >> 2) % fit.len().max(1)) else {
        return;
    };
    let deadline = Deadline::after(PATIENCE);
    let began = std::time::Instant::now();
    let error = match what & 3 {
        0 => driver.switch(outlet, Switch::On, deadline).err(),
        1 => driver.switch(outlet, Switch::Off, deadline).err(),
        _ => driver.state(outlet, deadline).err(),
    };
    if let Some(error) = error {
        let text = error.to_string();
        // A driver without a password cannot know that its PDU has just said one.
        let has_password = registry::find(name)
            .is_some_and(|spec| spec.keys.iter().any(|key| key.name == "password"));
        assert!(!has_password || !text.contains("secret"), "{text}");
        assert!(text.len() < 4096, "an endless error: {} bytes", text.len());
    }
    driver.rest(Deadline::after(PATIENCE));
    // A busy machine is slow, but not that slow.
    assert!(
        began.elapsed() < PATIENCE * 40,
        "{name}: {:?}",
        began.elapsed()
    );
}
