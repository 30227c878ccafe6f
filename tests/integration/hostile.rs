//! Hostile and broken clients: each gets its bounded answer, each bound is counted, honest clients
//! are served meanwhile, and nothing is left behind. What odd bytes get is in `listeners`; how fast
//! honest clients are served meanwhile is measured by `make bench`.

use crate::daemon::{
    Daemon, Lab, PATIENCE, connect, http, raise_descriptor_limit, read_all, read_response, show,
    talk, wait_for,
};
use crate::pki::{Authority, client_config, hello};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const OK: &str = "OK - accepted request\n";
const NEVER: u32 = 3600;

fn sim() -> Value {
    json!({"p": {"driver": "simulated"}})
}

fn assert_serves(daemon: &Daemon, during: &str) {
    let answer = daemon.get("on?hostname=p&port=1");
    assert_eq!(answer, (200, OK.into()), "HTTP during {during}");
    assert_eq!(daemon.line("p 1 on"), "ack\n", "a line during {during}");
}

/// What the daemon has refused or let go, by reason.
fn refusals(address: SocketAddr) -> BTreeMap<String, u64> {
    let (status, text) = http(address, "GET", "/metrics");
    assert_eq!(status, 200, "{text}");
    let counters = text
        .lines()
        .filter_map(|line| line.strip_prefix("pdudaemon_refusals_total{reason=\""))
        .filter_map(|rest| rest.split_once("\"} "));
    counters
        .map(|(reason, count)| (reason.to_owned(), count.parse().expect("a number")))
        .collect()
}

fn refused(daemon: &Daemon, reason: &str) -> u64 {
    refusals(daemon.address).get(reason).copied().unwrap_or(0)
}

fn wait_for_refusals(daemon: &Daemon, reason: &str, count: u64) {
    wait_for(&format!("{count} times {reason}"), || {
        (refused(daemon, reason) >= count).then_some(())
    });
}

/// Descriptors and threads of a daemon that has served both protocols.
fn at_rest(daemon: &Daemon) -> [usize; 2] {
    assert_serves(daemon, "the begin");
    // One of the connections of that may not be closed yet.
    wait_for("it to be at rest", || {
        let [descriptors, threads] = held(daemon);
        let is_alone = open(daemon) == 1 && held(daemon)[0] == descriptors;
        is_alone.then_some([descriptors, threads])
    })
}

/// Connections, the one that asks included.
fn open(daemon: &Daemon) -> u64 {
    let (_, text) = http(daemon.address, "GET", "/metrics");
    text.lines()
        .find_map(|line| line.strip_prefix("pdudaemon_connections_open "))
        .and_then(|count| count.parse().ok())
        .expect("a count")
}

fn wait_for_rest(daemon: &Daemon, before: [usize; 2]) {
    wait_for("all to be given back", || {
        let ([descriptors, threads], [descriptors_before, threads_before]) = (held(daemon), before);
        let is_back = descriptors <= descriptors_before && threads <= threads_before;
        (is_back && open(daemon) == 1).then_some(())
    });
}

/// Descriptors and threads of the daemon.
fn held(daemon: &Daemon) -> [usize; 2] {
    ["fd", "task"].map(|what| {
        let folder = std::fs::read_dir(format!("/proc/{}/{what}", daemon.id()));
        folder.expect("its folder").count()
    })
}

/// Sends a byte at a time until the daemon has had enough; what it answered.
fn drip(mut client: TcpStream, begin: &str, forever: u8) -> Vec<u8> {
    client.write_all(begin.as_bytes()).expect("sent");
    let mut writer = client.try_clone().expect("a copy");
    let dripping = std::thread::spawn(move || {
        // Ends with the connection; at the latest when a test has lost its patience.
        let most = PATIENCE.as_millis() / 5;
        for _ in 0..most {
            if writer.write_all(&[forever]).is_err() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    });
    let answer = read_all(&mut client);
    drop(client);
    assert!(dripping.join().expect("dripped"), "it was never cut off");
    answer
}

#[test]
fn every_bound_has_its_key_its_answer_and_its_counter() {
    let lab = Lab::new();
    let daemon = lab.start_with(
        json!({"p": lab.recorder("p")}),
        json!({"daemon": {
            "max_head_bytes": 300, "max_headers": 10, "max_body_bytes": 1000, "max_line_bytes": 70,
        }}),
        &[],
    );
    assert_eq!(refusals(daemon.address), BTreeMap::new());
    let get =
        |more: &str| format!("GET /power/control/on?hostname=p&port=1 HTTP/1.1\r\n{more}\r\n");
    let long = |length: usize| format!("X: {}\r\n", "x".repeat(length));
    let body = |length: usize| get(&format!("Content-Length: {length}\r\n"));
    let close = "Connection: close\r\n";
    for (sent, answer, reason) in [
        (get(&format!("{}{close}", long(150))), "HTTP/1.1 200", None),
        (get(&long(300)), "HTTP/1.1 431", Some("head-too-large")),
        (
            get(&"a:b\r\n".repeat(11)),
            "HTTP/1.1 431",
            Some("head-too-large"),
        ),
        (body(1001), "HTTP/1.1 413", Some("body-too-large")),
        (get("Expect: more\r\n"), "HTTP/1.1 417", Some("expectation")),
        (
            get("Transfer-Encoding: chunked\r\n"),
            "HTTP/1.1 501",
            Some("chunked"),
        ),
        (get("nonsense\r\n"), "HTTP/1.1 400", Some("bad-request")),
        (format!("p 1 on{}\n", " ".repeat(60)), "ack\n", None),
        (
            format!("p 1 on{}\n", " ".repeat(70)),
            "nack\n",
            Some("line-too-long"),
        ),
        ("p".repeat(71), "nack\n", Some("line-too-long")),
        ("p 1 nonsense\n".to_owned(), "nack\n", Some("line")),
    ] {
        let before = refusals(daemon.address);
        let answered = talk(daemon.address, sent.as_bytes(), false);
        assert!(
            answered.starts_with(answer.as_bytes()),
            "{sent}: {}",
            show(&answered)
        );
        let mut expected = before.clone();
        if let Some(reason) = reason {
            *expected.entry(reason.to_owned()).or_default() += 1;
        }
        assert_eq!(refusals(daemon.address), expected, "{sent}");
    }
    assert_eq!(lab.record(), ["p 1 on", "p 1 on"]);
}

#[test]
fn slow_writers_are_cut_off_however_busily_they_drip() {
    let lab = Lab::new();
    let daemon = lab.start_with(
        sim(),
        json!({"daemon": {"idle_timeout": NEVER, "request_timeout": 0.5}}),
        &[],
    );
    let before = at_rest(&daemon);
    std::thread::scope(|scope| {
        // Kept for as long as it likes: it owes nothing.
        let mut idle = daemon.connect();
        let cases = [
            ("GET / HTTP/1.1\r\nX: ", b'x', "HTTP/1.1 408 "),
            ("GET / HTTP/1.1\r\n", b'\n', "HTTP/1.1 "),
            (
                "POST / HTTP/1.1\r\nContent-Length: 60000\r\n\r\n",
                b'x',
                "HTTP/1.1 408 ",
            ),
            ("p 1 o", b'x', "nack\n"),
        ];
        let drips = cases.map(|(begin, forever, expected)| {
            let client = daemon.connect();
            (
                begin,
                expected,
                scope.spawn(move || drip(client, begin, forever)),
            )
        });
        assert_serves(&daemon, "the drips");
        for (begin, expected, drip) in drips {
            let answer = drip.join().expect("dripped");
            // The bytes that still come may cost the client its answer.
            let fine = answer.is_empty() || answer.starts_with(expected.as_bytes());
            assert!(fine, "{begin:?}: {}", show(&answer));
        }
        // The second is a whole request, and then one that never begins.
        wait_for_refusals(&daemon, "timeout", 4);
        assert_eq!(refused(&daemon, "timeout"), 4);
        // A second request that drips, on a connection that was good for one.
        let request = "GET /power/control/on?hostname=p&port=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        idle.write_all(request.as_bytes()).expect("sent");
        let mut answers = BufReader::new(idle.try_clone().expect("a copy"));
        assert_eq!(read_response(&mut answers), (200, OK.into()));
        drip(idle, "GET / HT", b'x');
        wait_for_refusals(&daemon, "timeout", 5);
    });
    assert_eq!(refused(&daemon, "idle"), 0);
    wait_for_rest(&daemon, before);
}

#[test]
fn whoever_says_nothing_is_let_go_and_counted() {
    let lab = Lab::new();
    let daemon = lab.start_with(
        sim(),
        json!({"daemon": {"idle_timeout": 0.3, "request_timeout": NEVER}}),
        &[],
    );
    assert_eq!(read_all(&mut daemon.connect()), b"");
    assert_eq!(refused(&daemon, "idle"), 1);
    let half = "GET / HTTP/1.1\r\nHost:";
    let answer = talk(daemon.address, half.as_bytes(), false);
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", show(&answer));
    // Not yet enough to tell the protocol.
    assert_eq!(talk(daemon.address, b"GE", false), b"");
    assert_eq!(refused(&daemon, "timeout"), 2);
}

/// A PDU about which there is more to say than the kernel takes from one who does not read.
fn talkative() -> Value {
    json!({"p": {"driver": "simulated", "about": "x".repeat(8 << 20)}})
}

const LIST: &[u8] = b"GET /api/v1/pdus HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Has asked for much, with little room for it.
fn slow_reader(daemon: &Daemon) -> TcpStream {
    let mut client = daemon.connect();
    let socket = socket2::SockRef::from(&client);
    socket.set_recv_buffer_size(4096).expect("set");
    client.write_all(LIST).expect("sent");
    client
}

#[test]
fn slow_readers_are_cut_off_by_idle_time_and_by_total_time() {
    for (idle, request) in [(json!(0.5), json!(NEVER)), (json!(NEVER), json!(3))] {
        let reads_on = request != json!(NEVER);
        let lab = Lab::new();
        let limits = json!({"daemon": {"idle_timeout": idle, "request_timeout": request}});
        let daemon = lab.start_with(talkative(), limits, &[]);
        let before = at_rest(&daemon);
        let mut reader = slow_reader(&daemon);
        // The answer has begun, so time runs.
        let mut some = [0; 1024];
        reader.read_exact(&mut some).expect("a begin");
        wait_for("it to be let go", || {
            if reads_on {
                reader.read_exact(&mut some).expect("a little more");
            }
            (refused(&daemon, "slow-reader") == 1).then_some(())
        });
        assert_serves(&daemon, "a slow reader");
        // Who reads gets the whole.
        let mut honest = daemon.connect();
        honest.write_all(LIST).expect("sent");
        let (status, body) = read_response(&mut BufReader::new(honest));
        assert!(status == 200 && body.len() > 8 << 20);
        assert_eq!(refused(&daemon, "slow-reader"), 1);
        wait_for_rest(&daemon, before);
    }
}

#[test]
fn what_is_kept_for_all_clients_together_is_bounded() {
    let lab = Lab::new();
    let limits = json!({"daemon": {
        "max_buffered_bytes": 1 << 20, "idle_timeout": NEVER, "request_timeout": NEVER,
    }});
    let daemon = lab.start_with(talkative(), limits, &[]);
    let half = [
        b"POST /x HTTP/1.1\r\nContent-Length: 60000\r\n\r\n".as_slice(),
        &[b'x'; 50_000],
    ]
    .concat();
    // Each takes up more than 50,000 bytes, so twenty are too many.
    let mut writers: Vec<TcpStream> = Vec::new();
    wait_for("the bound", || {
        let mut client = daemon.connect();
        let _ = client.write_all(&half);
        writers.push(client);
        assert!(
            writers.len() <= 40,
            "40 times 50,000 bytes are kept in one MiB"
        );
        (refused(&daemon, "buffer") > 0).then_some(())
    });
    assert!(writers.len() > 8, "{} of them were too many", writers.len());
    assert_serves(&daemon, "full buffers");
    // A reader that leaves too much of its answer is let go as well.
    let before = refused(&daemon, "buffer");
    let _reader = slow_reader(&daemon);
    wait_for_refusals(&daemon, "buffer", before + 1);
    // All is given back: as many find room again.
    writers.clear();
    wait_for("room", || {
        let mut client = daemon.connect();
        let _ = client.write_all(&half);
        let _ = client.write_all(&[b'x'; 10_000]);
        (read_response(&mut BufReader::new(client)).0 == 404).then_some(())
    });
}

#[test]
fn a_full_house_makes_room_for_those_who_have_something_to_say() {
    raise_descriptor_limit();
    let lab = Lab::new();
    let limits = json!({"daemon": {
        "max_connections": 100, "idle_timeout": NEVER, "request_timeout": NEVER,
    }});
    let daemon = lab.start_with(sim(), limits, &[]);
    let before = at_rest(&daemon);
    let starts: [&[u8]; 3] = [
        b"",
        b"GET /power",
        b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
    ];
    let crowd: Vec<TcpStream> = (0..300)
        .map(|number| {
            let mut client = daemon.connect();
            client.write_all(starts[number % 3]).expect("sent");
            client
        })
        .collect();
    for _ in 0..5 {
        assert_serves(&daemon, "a crowd of three times the bound");
        let [descriptors, _] = held(&daemon);
        assert!(descriptors <= before[0] + 100, "{descriptors}");
    }
    assert!(refused(&daemon, "connections") >= 200);
    drop(crowd);
    wait_for_rest(&daemon, before);
}

#[test]
fn who_waits_for_an_answer_makes_no_room() {
    let lab = Lab::new();
    let wait = "record on; while [ ! -e go ]; do sleep 0.02; done";
    let daemon = lab.start_with(
        json!({"slow": lab.scripted(wait, ""), "p": {"driver": "simulated"}}),
        json!({"daemon": {"max_connections": 2, "idle_timeout": NEVER, "request_timeout": NEVER}}),
        &["--loglevel", "DEBUG"],
    );
    // Both are there before the third comes.
    let waiting = [1, 2].map(|outlet| {
        let mut client = daemon.connect();
        let path = format!("/power/control/on?hostname=slow&port={outlet}");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.write_all(request.as_bytes()).expect("sent");
        client
    });
    lab.wait_for_record(&["on"]);
    let third = daemon.get_later("on?hostname=p&port=1");
    // It has looked for room three times; a connection without a request would have made some.
    wait_for("looks for room", || {
        let looks = daemon
            .printed()
            .matches("no more are accepted for now")
            .count();
        (looks >= 3).then_some(())
    });
    assert!(!third.is_finished(), "served as the third of two");
    lab.write("go", "");
    for client in waiting {
        let (status, _) = read_response(&mut BufReader::new(client));
        assert_eq!(status, 200);
    }
    assert_eq!(third.join().expect("answered"), (200, OK.into()));
}

#[test]
fn who_has_closed_its_side_makes_room_and_its_request_is_carried_out() {
    let lab = Lab::new();
    let wait = "record begun $1; while [ ! -e go ]; do sleep 0.02; done; record on $1";
    let daemon = lab.start_with(
        json!({"slow": lab.scripted(wait, ""), "p": {"driver": "simulated"}}),
        json!({"daemon": {"max_connections": 2, "idle_timeout": NEVER, "request_timeout": NEVER}}),
        &[],
    );
    let left = [1, 2].map(|outlet| {
        let mut client = daemon.connect();
        let path = format!("/power/control/on?hostname=slow&port={outlet}");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.write_all(request.as_bytes()).expect("sent");
        client
    });
    lab.wait_for_record(&["begun 1"]);
    for client in &left {
        client
            .shutdown(std::net::Shutdown::Write)
            .expect("shut down");
    }
    assert_eq!(daemon.get("on?hostname=p&port=1"), (200, OK.into()));
    lab.write("go", "");
    lab.wait_for_record(&["begun 1", "on 1", "begun 2", "on 2"]);
    daemon.stop();
}

#[test]
fn the_longest_request_finds_room_in_the_least_buffer_and_small_ones_beside_others() {
    let lab = Lab::new();
    let limits = json!({"daemon": {"max_buffered_bytes": 65536, "idle_timeout": NEVER}});
    let daemon = lab.start_with(sim(), limits, &[]);
    let padding = format!("X-Padding: {}\r\n", "a".repeat(15_000));
    let long = format!(
        "PUT /api/v1/pdus/nobody/outlets/1/state HTTP/1.1\r\nHost: localhost\r\n{padding}\
         Content-Type: application/json\r\nContent-Length: 65536\r\n\r\n{}",
        " ".repeat(65_536)
    );
    let ask = |request: &str| {
        let mut client = daemon.connect();
        // The daemon may refuse it before it has all.
        let _ = client.write_all(request.as_bytes());
        client
    };
    let status = |client: TcpStream| read_response(&mut BufReader::new(client)).0;
    assert_eq!(status(ask(&long)), 400, "an empty body is no JSON");
    let small = "GET /power/control/on?hostname=p&port=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for _ in 0..20 {
        let (large, honest): (Vec<_>, Vec<_>) = (0..8).map(|_| (ask(&long), ask(small))).unzip();
        for client in honest {
            assert_eq!(status(client), 200, "beside large requests");
        }
        drop(large);
    }
    daemon.stop();
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let lab = Lab::new();
    let daemon = lab.start_with(
        json!({"p": {"driver": "simulated", "latency": 0.01}}),
        json!({"daemon": {"idle_timeout": NEVER, "request_timeout": NEVER}}),
        &[],
    );
    let before = at_rest(&daemon);
    let get = "GET /power/control/on?hostname=p&port=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let starts = [
        String::new(),
        "GET /pow".to_owned(),
        "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf".to_owned(),
        get.to_owned(),
        get.repeat(20),
        "p 1 on\n".to_owned(),
        "p 1 o".to_owned(),
    ];
    for number in 0..210 {
        let mut client = daemon.connect();
        client
            .write_all(starts[number % starts.len()].as_bytes())
            .expect("sent");
        if number.is_multiple_of(2) {
            // A reset instead of an end.
            let socket = socket2::SockRef::from(&client);
            socket.set_linger(Some(Duration::ZERO)).expect("set");
        }
    }
    assert_serves(&daemon, "clients that vanish");
    wait_for_rest(&daemon, before);
    let printed = daemon.stop();
    assert!(!printed.contains("panicked"), "{printed}");
}

/// The bound that pdudaemon.conf(5) documents, in KiB.
fn documented_bound(connections: u64, pdus: u64, waiting: u64, buffered: u64) -> u64 {
    32 * 1024 + 8 * connections + 64 * pdus + 2 * waiting + 2 * buffered
}

/// Resident memory in KiB.
fn memory(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).expect("read");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words = line.expect("VmRSS").split_whitespace().nth(1);
    words.expect("a number").parse().expect("a number")
}

/// Clients that ask with all that a request may carry, and reset their connections before they have
/// an answer; the most memory that was seen meanwhile.
fn flood(daemon: &Daemon, requests: usize, target: impl Fn(usize) -> String) -> u64 {
    // More would be refused: together they may be here in part.
    const AT_ONCE: usize = 10;
    let headers: String = (0..7)
        .map(|number| format!("X-{number}: {}\r\n", "a".repeat(1900)))
        .collect();
    let body = "b".repeat(60_000);
    let mut most = 0;
    for begin in (0..requests).step_by(AT_ONCE) {
        let clients: Vec<TcpStream> = (begin..begin + AT_ONCE)
            .map(|number| {
                let mut client = daemon.connect();
                let request = format!(
                    "GET {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{headers}\r\n{body}",
                    target(number),
                    body.len()
                );
                // One that is refused may be closed early.
                let _ = client.write_all(request.as_bytes());
                client
            })
            .collect();
        // As long as others are served a few times, all that was sent is read.
        for _ in 0..4 {
            assert_eq!(daemon.line("p 1 on"), "ack\n");
        }
        most = most.max(memory(daemon));
        // What waits for an answer is let go without one.
        for client in &clients {
            let socket = socket2::SockRef::from(client);
            socket.set_linger(Some(Duration::ZERO)).expect("set");
        }
    }
    // What is still on its way to being understood counts as kept: until there is room, HTTP gets 503.
    wait_for("HTTP to be served", || {
        (daemon.get("on?hostname=p&port=1").0 == 200).then_some(())
    });
    most.max(memory(daemon))
}

#[test]
fn memory_stays_below_the_documented_bound_whatever_is_asked_for_and_left() {
    const FLOOD: usize = 800;
    let lab = Lab::new();
    let mut pdus: serde_json::Map<String, Value> = (0..60)
        .map(|number| {
            (
                format!("pdu{number}"),
                json!({"driver": "simulated", "outlets": 64}),
            )
        })
        .collect();
    let room = json!({
        "driver": "simulated", "queue_limit": 2 * FLOOD, "client_limit": 2 * FLOOD,
        "delayed_limit": 2 * FLOOD,
    });
    pdus.extend([("p".to_owned(), sim()["p"].clone()), ("q".to_owned(), room)]);
    let count = pdus.len() as u64;
    let limits = json!({"daemon": {"max_connections": 64, "max_buffered_bytes": 1 << 20}});
    let daemon = lab.start_with(pdus.into(), limits, &[]);
    let before = at_rest(&daemon);
    let bound = documented_bound(64, count, 2 * FLOOD as u64, 1024);
    // A request that stays under way, to be followed by clients that do not stay.
    let path = "/power/control/on?hostname=q&port=1&delay=86400";
    let mut waits = daemon.connect();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    waits.write_all(request.as_bytes()).expect("sent");
    let id = wait_for("its number", || {
        let (_, list) = http(daemon.address, "GET", "/api/v1/requests");
        let list: Value = serde_json::from_str(&list).expect("JSON");
        let requests = list["requests"].as_array().expect("a list").iter();
        let mut of_q = requests.filter(|request| request["target"]["pdu"] == "q");
        of_q.next().and_then(|request| request["id"].as_u64())
    });
    for (what, most) in [
        (
            "long polls",
            flood(&daemon, FLOOD, |_| format!("/api/v1/requests/{id}?wait=60")),
        ),
        ("lists", flood(&daemon, FLOOD, |_| "/metrics".into())),
        (
            "lists by name",
            flood(&daemon, FLOOD, |_| "/api/v1/pdus/pdu1".into()),
        ),
        (
            "delayed switches",
            flood(&daemon, FLOOD, |number| {
                format!(
                    "/power/control/on?hostname=q&port={}&delay=86400",
                    number % 8 + 1
                )
            }),
        ),
    ] {
        assert!(most < bound, "{what}: {most} of {bound} KiB");
    }
    let socket = socket2::SockRef::from(&waits);
    socket.set_linger(Some(Duration::ZERO)).expect("set");
    drop(waits);
    wait_for_rest(&daemon, before);
}

/// A network of its own, in which 192.0.2.1 and 192.0.2.2 lead to itself but are no loopback
/// addresses. It ends with this.
struct Network(Child);

impl Network {
    /// `None` where only root may make one.
    fn new() -> Option<Self> {
        let script = "ip link set lo up && ip addr add 192.0.2.1/32 dev lo \
                      && ip addr add 192.0.2.2/32 dev lo && ip addr add 2001:db8:1::1/128 dev lo \
                      && ip addr add 2001:db8:1::2/128 dev lo && ip addr add 2001:db8:2::1/128 dev lo \
                      && echo ready && exec cat";
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("read");
        let network = Self(child);
        (line == "ready\n").then_some(network)
    }

    /// This thread and what it starts are in it from now on.
    fn enter(&self) {
        let file = std::fs::File::open(format!("/proc/{}/ns/net", self.0.id())).expect("there");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("in it");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a test in a network of its own, which only root may make.
fn in_a_network(test: impl FnOnce() + Send + 'static) {
    let Some(network) = Network::new() else {
        return eprintln!("left out: making a network namespace takes root");
    };
    let alone = std::thread::spawn(move || {
        network.enter();
        test();
    });
    alone.join().expect("fine");
}

fn connect_from(source: impl Into<IpAddr>, address: SocketAddr) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    let source = SocketAddr::new(source.into(), 0);
    socket.bind(&source.into()).expect("bound");
    socket.connect(&address.into()).expect("connected");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    socket.into()
}

#[test]
fn each_client_address_has_its_bound_unless_it_is_trusted() {
    in_a_network(|| {
        let (stranger, friend) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        let lab = Lab::new();
        let limits = json!({"daemon": {
            "hostname": "0.0.0.0", "max_connections_per_client": 3, "idle_timeout": NEVER,
            "access": {
                "tokens": [{"name": "nobody", "sha256": "0".repeat(64)}],
                "trusted_networks": ["192.0.2.2", "127.0.0.1"],
            },
        }});
        let daemon = lab.start_with(sim(), limits, &[]);
        let address = SocketAddr::from(([192, 0, 2, 1], daemon.address.port()));
        let local = SocketAddr::from(([127, 0, 0, 1], daemon.address.port()));
        let mut strangers: Vec<TcpStream> =
            (0..3).map(|_| connect_from(stranger, address)).collect();
        for count in 1..=5 {
            assert_eq!(
                read_all(&mut connect_from(stranger, address)),
                b"",
                "a fourth"
            );
            assert_eq!(refusals(local)["connections-per-client"], count);
        }
        let ask = |client: &mut TcpStream| {
            client.write_all(b"p 1 on\n").expect("sent");
            show(&read_all(client))
        };
        // The bound is no concern of others, nor of those it holds for within it.
        let mut friends: Vec<TcpStream> = (0..20).map(|_| connect_from(friend, address)).collect();
        let mut locals: Vec<TcpStream> = (0..20).map(|_| connect(local)).collect();
        for client in friends.iter_mut().chain(&mut locals) {
            assert_eq!(ask(client), show(b"ack\n"));
        }
        // A stranger is answered, but may not switch.
        let (mut one, held) = (strangers.pop().expect("three"), strangers);
        assert_eq!(ask(&mut one), show(b"nack\n"));
        // It is gone, so there is room for one.
        let again = wait_for("room for a third", || {
            let mut client = connect_from(stranger, address);
            client.write_all(b"p 1 on\n").ok()?;
            Some(show(&read_all(&mut client))).filter(|answer| !answer.is_empty())
        });
        assert_eq!(again, show(b"nack\n"));
        drop(held);
        daemon.stop();
    });
}

#[test]
fn one_client_address_never_takes_all_connections() {
    in_a_network(|| {
        let (stranger, other) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        let lab = Lab::new();
        let limits = json!({"daemon": {"hostname": "0.0.0.0", "max_connections": 8}});
        let daemon = lab.start_with(sim(), limits, &[]);
        let address = SocketAddr::from((stranger, daemon.address.port()));
        // What is put off makes no room.
        let request = "GET /power/control/on?hostname=p&port=1&delay=3600 HTTP/1.1\r\n\r\n";
        let held = [0; 6].map(|_| {
            let mut client = connect_from(stranger, address);
            client.write_all(request.as_bytes()).expect("sent");
            client
        });
        assert_eq!(read_all(&mut connect_from(stranger, address)), b"");
        let mut client = connect_from(other, address);
        client.write_all(b"p 2 on\n").expect("sent");
        assert_eq!(show(&read_all(&mut client)), show(b"ack\n"));
        drop(held);
        daemon.stop();
    });
}

#[test]
fn from_elsewhere_plain_is_refused_and_each_address_has_its_handshakes() {
    in_a_network(|| {
        let (stranger, other) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        let lab = Lab::new();
        let authority = Authority::new(&lab, "ca");
        let mut more = authority.server("pdud").config(json!({}));
        more["daemon"]["hostname"] = json!("0.0.0.0");
        let daemon = lab.start_with(sim(), more, &[]);
        let address = SocketAddr::from((stranger, daemon.address.port()));
        let local = SocketAddr::from(([127, 0, 0, 1], daemon.address.port()));
        let path = "/power/control/on?hostname=p&port=1";
        assert_eq!(http(address, "GET", path).0, 403);
        assert_eq!(talk(address, b"p 1 on\n", false), b"nack\n");
        assert_eq!(refusals(local)["plain"], 2);
        assert_eq!(http(local, "GET", path), (200, OK.into()));
        let config = Arc::new(client_config(&authority, None));
        let ask = |source: [u8; 4]| {
            let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
            let client = rustls::ClientConnection::new(Arc::clone(&config), name);
            let stream = connect_from(source, address);
            let mut stream = rustls::StreamOwned::new(client.expect("a client"), stream);
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("sent");
            read_response(&mut BufReader::new(stream))
        };
        assert_eq!(ask(stranger), (200, OK.into()));
        // One address begins more than it may, and another one is served all the same.
        let hello = hello(&config);
        let mut begun = Vec::new();
        wait_for("the bound", || {
            let mut client = connect_from(stranger, address);
            let _ = client.write_all(&hello);
            begun.push(client);
            let is_reached =
                begun.len() % 50 == 0 && refusals(local).contains_key("handshakes-per-client");
            is_reached.then_some(())
        });
        assert!(begun.len() > 200, "{} are no flood", begun.len());
        assert_eq!(ask(other), (200, OK.into()));
        daemon.stop();
    });
}

#[test]
fn clients_with_ipv6_share_the_bounds_of_their_64() {
    in_a_network(|| {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let [one, neighbour, other] = ["2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::1"].map(ip);
        let lab = Lab::new();
        let limits = json!({"daemon": {
            "hostname": null, "max_connections_per_client": 3, "max_wrong_tokens": 2, "idle_timeout": NEVER,
            "access": {"tokens": [{"name": "nobody", "sha256": "0".repeat(64)}]},
        }});
        let daemon = lab.start_with(sim(), limits, &[]);
        let address = SocketAddr::new(one, daemon.address.port());
        let guess = |from: IpAddr| {
            let request =
                "GET /metrics HTTP/1.1\r\nAuthorization: Bearer wrong\r\nConnection: close\r\n\r\n";
            let mut client = connect_from(from, address);
            client.write_all(request.as_bytes()).expect("sent");
            show(&read_all(&mut client)[..12])
        };
        wait_for("it to be enough", || {
            (guess(one) == "HTTP/1.1 429").then_some(())
        });
        assert_eq!(guess(other), "HTTP/1.1 401");
        assert_eq!(guess(neighbour), "HTTP/1.1 429");
        // Those that are closed may not be gone yet.
        let held = wait_for("three connections", || {
            let held = [one, neighbour, one].map(|from| connect_from(from, address));
            held.iter().all(is_let_in).then_some(held)
        });
        assert!(!is_let_in(&connect_from(neighbour, address)));
        assert!(is_let_in(&connect_from(other, address)));
        drop(held);
        daemon.stop();
    });
}

/// Is the client served? It stays connected.
fn is_let_in(client: &TcpStream) -> bool {
    let mut stream = client;
    let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n");
    let mut answer = [0; 1024];
    asked.is_ok() && stream.read(&mut answer).is_ok_and(|more| more > 0)
}

#[test]
fn wrong_tokens_are_bounded_and_counted() {
    let lab = Lab::new();
    let sha256 = "0".repeat(64);
    let daemon = lab.start_with(
        sim(),
        json!({"daemon": {
            "max_wrong_tokens": 2,
            "access": {"tokens": [{"name": "nobody", "sha256": sha256}], "trusted_networks": ["127.0.0.1"]},
        }}),
        &[],
    );
    let guess = || {
        let request = "GET /api/v1/pdus HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n\
                       Connection: close\r\n\r\n";
        show(&talk(daemon.address, request.as_bytes(), false)[..12])
    };
    assert_eq!(guess(), "HTTP/1.1 401");
    assert_eq!(guess(), "HTTP/1.1 401");
    // One more may be shown after a while; nobody is that slow ten times.
    wait_for("it to be enough", || {
        (guess() == "HTTP/1.1 429").then_some(())
    });
    assert!(refused(&daemon, "wrong-tokens") >= 1);
    assert!(refused(&daemon, "denied") >= 2);
}

#[test]
fn no_client_and_no_delay_keeps_others_from_a_pdu() {
    let lab = Lab::new();
    let token = |name: &str| {
        let hash = pdudaemon::access::Token::hash_of(name);
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({"name": name, "sha256": hash})
    };
    let mut p = lab.scripted(
        "record $1; while [ -e held ]; do sleep 0.02; done",
        "record off $1",
    );
    for (key, limit) in [
        ("queue_limit", 8),
        ("client_limit", 5),
        ("delayed_limit", 3),
    ] {
        p[key] = json!(limit);
    }
    let tokens = ["bob", "carol", "admin"].map(token);
    let group = json!({"outlets": [
        {"hostname": "p", "port": "1"}, {"hostname": "p", "port": "2"}
    ]});
    let daemon = lab.start_with(
        json!({ "p": p }),
        json!({"daemon": {"access": {"tokens": tokens}}, "aliases": {"group": group}}),
        &[],
    );
    let ask = |token: &str, what: &str| {
        let mut client = connect(daemon.address);
        let head = format!(
            "GET /power/control/{what} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        client.write_all(head.as_bytes()).expect("sent");
        client
    };
    let hear = |mut client: TcpStream| String::from_utf8_lossy(&read_all(&mut client)).into_owned();
    let late = "on?hostname=p&port=1&delay=3600";
    let mut kept = vec![ask("bob", late), ask("bob", late), ask("carol", late)];
    let depth = |wanted: u32| {
        wait_for(&format!("{wanted} requests"), || {
            let head = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                        Authorization: Bearer admin\r\n\r\n";
            let text = talk(daemon.address, head.as_bytes(), false);
            let line = format!("pdudaemon_queue_depth{{pdu=\"p\"}} {wanted}\n");
            String::from_utf8_lossy(&text).contains(&line).then_some(())
        });
    };
    depth(3);
    let told = hear(ask("admin", late));
    assert!(
        told.starts_with("HTTP/1.1 503") && told.contains("delayed_limit"),
        "{told}"
    );
    // The same outlet, another, and a group with the one that the delayed ones are for.
    for what in [
        "off?hostname=p&port=1",
        "off?hostname=p&port=2",
        "off?alias=group",
        "reboot?alias=group&delay=0",
    ] {
        let told = hear(ask("admin", what));
        assert!(told.starts_with("HTTP/1.1 200"), "{what}: {told}");
    }

    lab.write("held", "");
    lab.forget();
    kept.push(ask("bob", "on?hostname=p&port=3"));
    lab.wait_for_record(&["3"]);
    for port in 4..6 {
        kept.push(ask("bob", &format!("off?hostname=p&port={port}")));
    }
    depth(6);
    let told = hear(ask("bob", "off?hostname=p&port=6"));
    assert!(
        told.starts_with("HTTP/1.1 503") && told.contains("client_limit"),
        "{told}"
    );
    let others = ["admin", "carol"].map(|token| ask(token, "off?hostname=p&port=7"));
    depth(8);
    let told = hear(ask("admin", "off?hostname=p&port=8"));
    assert!(
        told.starts_with("HTTP/1.1 503") && told.contains("queue is full"),
        "{told}"
    );
    std::fs::remove_file(lab.path("held")).expect("removed");
    for client in others {
        let told = hear(client);
        assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    }
    drop(kept);
}
