//! Both protocols are served on the one port, and nothing that the network brings stops the
//! listener.

use crate::daemon::{
    Daemon, Lab, connect, get, http, raise_descriptor_limit, read_all, read_response, show, talk,
    wait_for,
};
use serde_json::{Value, json};
use std::io::{BufReader, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const OK: &str = "OK - accepted request\n";
const GET_ON: &str = "GET /power/control/on?hostname=p&port=1 HTTP/1.1\r\nHost: localhost\r\n";

fn sim() -> Value {
    json!({"p": {"driver": "simulated"}})
}

fn assert_serves(daemon: &Daemon, after: &str) {
    assert_eq!(
        daemon.get("on?hostname=p&port=1"),
        (200, OK.into()),
        "HTTP after {after}"
    );
    assert_eq!(daemon.line("p 1 on"), "ack\n", "a line after {after}");
}

#[test]
fn both_protocols_work_at_once_on_one_port() {
    let lab = Lab::new();
    let daemon = lab.start(sim());
    let address = daemon.address;
    let http = std::thread::spawn(move || {
        for _ in 0..50 {
            assert_eq!(get(address, "on?hostname=p&port=1").0, 200);
        }
    });
    for _ in 0..50 {
        assert_eq!(daemon.line("p 1 off"), "ack\n");
    }
    http.join().expect("answered");
}

#[test]
fn a_real_nc_and_a_real_curl_are_served() {
    let lab = Lab::new();
    let daemon = lab.start(sim());
    let port = daemon.address.port();
    let sh = |line: String| {
        let output = crate::daemon::run(Command::new("/bin/sh").args(["-c", &line]));
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let is_there = |program: &str| sh(format!("command -v {program}")).0 == Some(0);
    if is_there("nc") {
        assert_eq!(
            sh(format!("printf 'p 1 on' | nc 127.0.0.1 {port}")).1,
            "ack\n"
        );
        assert_eq!(
            sh(format!("printf 'q 1 on\\n' | nc 127.0.0.1 {port}")).1,
            "nack\n"
        );
    }
    if is_there("curl") {
        let url = format!("http://127.0.0.1:{port}/power/control/reboot?hostname=p");
        assert_eq!(
            sh(format!("curl --noproxy '*' -fsS '{url}&port=1&delay=0'")),
            (Some(0), OK.into())
        );
        assert_eq!(
            sh(format!("curl --noproxy '*' -fsS '{url}&port=99' 2>&1")).0,
            Some(22)
        );
        // The method and the body of a form do nothing.
        assert_eq!(
            sh(format!(
                "curl --noproxy '*' -s -o /dev/null -w '%{{http_code}}' -d x=y '{url}&port=1'"
            ))
            .1,
            "405"
        );
        let big = format!(
            "head -c 200000 /dev/zero | curl --noproxy '*' -s -o /dev/null -w '%{{http_code}}' --data-binary @- '{url}&port=1'"
        );
        assert_eq!(sh(big).1, "413");
        let expect = format!(
            "curl --noproxy '*' -s -o /dev/null -w '%{{http_code}}' -H 'Expect: 100-continue' -d x=y '{url}&port=1'"
        );
        assert_eq!(sh(expect).1, "405");
    }
}

#[test]
fn the_line_ends_by_newline_by_half_close_or_by_quiet() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": lab.recorder("p"), "GET": lab.recorder("GET")}));
    for (sent, half_close) in [
        (&b"p 1 on\n"[..], false),
        (b"p 1 on\r\n", false),
        (b"p 1 on", true),
        (b"p 1 on", false),
        (b"  p 1 on  \n", false),
        (b"p 01 on\nand more that nobody reads\n", false),
    ] {
        assert_eq!(
            talk(daemon.address, sent, half_close),
            b"ack\n",
            "{}",
            show(sent)
        );
    }
    // In two segments; the first is enough to see that it is a line.
    let mut client = daemon.connect();
    client.set_nodelay(true).expect("set");
    for part in ["p ", "1 on\n"] {
        client.write_all(part.as_bytes()).expect("sent");
    }
    assert_eq!(read_all(&mut client), b"ack\n");
    // What has begun as a part goes on in parts, and is ended by quiet.
    let mut client = daemon.connect();
    client.set_nodelay(true).expect("set");
    for part in ["p 1 o", "n"] {
        client.write_all(part.as_bytes()).expect("sent");
    }
    assert_eq!(read_all(&mut client), b"ack\n");
    assert_eq!(daemon.line("GET 1 on"), "ack\n");
    assert_eq!(lab.record().len(), 9);
    assert!(
        lab.record()
            .iter()
            .all(|line| line == "p 1 on" || line == "GET 1 on"),
        "{:?}",
        lab.record()
    );
}

#[test]
fn a_line_that_is_a_request_as_it_stands_is_waited_for_no_longer() {
    const LINES: usize = 100;
    let lab = Lab::new();
    let daemon = lab.start(sim());
    let mut quickest = Duration::MAX;
    for line in ["p 1 on", "p 1 reboot 0", "p 1 get-status"]
        .iter()
        .cycle()
        .take(LINES)
    {
        let began = Instant::now();
        let answer = talk(daemon.address, line.as_bytes(), false);
        quickest = quickest.min(began.elapsed());
        assert!(
            matches!(&answer[..], b"ack\n" | b"on\n"),
            "{line}: {}",
            show(&answer)
        );
    }
    // A line that is waited for takes longer than this, and a busy machine is not busy all the time.
    let quiet = Duration::from_millis(50);
    assert!(quickest < quiet, "{quickest:?} for the quickest line");
    // One that is none yet is waited for.
    assert_eq!(talk(daemon.address, b"p 1 o", false), b"nack\n");
}

#[test]
fn either_protocol_alone() {
    let lab = Lab::new();
    // The config says one thing, the command line wins.
    let daemon = lab.start_with(
        sim(),
        json!({"daemon": {"listener": "tcp"}}),
        &["--listener", "http"],
    );
    assert_eq!(daemon.get("on?hostname=p&port=1").0, 200);
    let answer = talk(daemon.address, b"p 1 on\n", true);
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", show(&answer));
    daemon.stop();

    let lab = Lab::new();
    let daemon = lab.start_with(sim(), json!({"daemon": {"listener": "tcp"}}), &[]);
    assert_eq!(daemon.line("p 1 on"), "ack\n");
    let answer = talk(daemon.address, format!("{GET_ON}\r\n").as_bytes(), false);
    assert_eq!(answer, b"nack\n");
}

#[test]
fn a_list_of_addresses_ipv6_and_a_unix_socket() {
    let lab = Lab::new();
    let socket = lab.path("p.sock");
    let mut hostnames = vec![
        "127.0.0.1".to_owned(),
        format!("unix:{}", socket.display()),
        lab.path("q.sock").display().to_string(),
    ];
    let with_v6 = TcpListener::bind("[::1]:0").is_ok();
    if with_v6 {
        hostnames.push("::1".into());
    }
    let daemon = lab.start_with(sim(), json!({"daemon": {"hostname": hostnames}}), &[]);
    assert_serves(&daemon, "the start");
    if with_v6 {
        let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], daemon.address.port()));
        assert_eq!(get(v6, "on?hostname=p&port=1").0, 200);
        assert_eq!(talk(v6, b"p 1 on\n", false), b"ack\n");
        let client = lab.client(&[
            "--daemon",
            &v6.to_string(),
            "--hostname",
            "p",
            "--port",
            "1",
            "--command",
            "on",
        ]);
        assert_eq!(client.status.code(), Some(0));
    } else {
        eprintln!("no IPv6 loopback here: ::1 is left out");
    }
    for path in [&socket, &lab.path("q.sock")] {
        let mut client = UnixStream::connect(path).expect("connected");
        client
            .set_read_timeout(Some(crate::daemon::PATIENCE))
            .expect("set");
        client.write_all(b"p 1 on\n").expect("sent");
        assert_eq!(read_all(&mut client), b"ack\n");
        let mut client = UnixStream::connect(path).expect("connected");
        client
            .set_read_timeout(Some(crate::daemon::PATIENCE))
            .expect("set");
        client
            .write_all(format!("{GET_ON}Connection: close\r\n\r\n").as_bytes())
            .expect("sent");
        assert!(read_all(&mut client).starts_with(b"HTTP/1.1 200 "));
    }
    // A second daemon does not take a socket that is served; one that nobody serves is replaced.
    let other = Lab::new();
    let config = other
        .config(sim(), json!({"daemon": {"hostname": socket}}))
        .display()
        .to_string();
    let refused = other.run(&["--conf", &config]);
    assert_eq!(refused.status.code(), Some(1));
    let said = crate::daemon::stderr(&refused);
    assert!(
        said.contains("p.sock") && said.lines().count() == 1,
        "{said}"
    );
    let id = daemon.id();
    drop(daemon);
    assert!(socket.exists(), "killed, {id} could not clean up");
    let again = lab.start_with(
        sim(),
        json!({"daemon": {"hostname": ["127.0.0.1", socket]}}),
        &[],
    );
    assert_serves(&again, "a restart over a dead socket");
}

#[test]
fn a_port_in_use_is_a_clear_error() {
    let lab = Lab::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let config = lab
        .config(sim(), json!({"daemon": {"port": port}}))
        .display()
        .to_string();
    let refused = lab.run(&["--conf", &config, "--logfile", "log"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = crate::daemon::stderr(&refused);
    assert!(
        said.contains(&format!("127.0.0.1:{port}")) && said.contains("in use"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn two_thousand_idle_and_half_open_connections_stop_nobody() {
    let most = raise_descriptor_limit();
    let many = usize::try_from((most / 2).saturating_sub(200).min(2000)).expect("fits");
    assert!(
        many >= 400,
        "this machine lets a process have {most} open files only: too few for this test"
    );
    let lab = Lab::new();
    let daemon = lab.start_with(
        sim(),
        json!({"daemon": {"max_connections": many + 100, "idle_timeout": 600}}),
        &[],
    );
    let starts: [&[u8]; 6] = [
        b"",
        b"G",
        b"GET /power/control/on?hostname=p",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf",
        b"HEAD ",
    ];
    let held: Vec<TcpStream> = (0..many)
        .map(|number| {
            let mut client = connect(daemon.address);
            client
                .write_all(starts[number % starts.len()])
                .expect("sent");
            client
        })
        .collect();
    let begin = Instant::now();
    for _ in 0..20 {
        assert_serves(&daemon, "2,000 connections");
    }
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
    drop(held);
    assert_serves(&daemon, "they all left");
    daemon.stop();
}

#[test]
fn who_says_nothing_is_let_go() {
    let lab = Lab::new();
    let daemon = lab.start_with(sim(), json!({"daemon": {"idle_timeout": 0.3}}), &[]);
    let begin = Instant::now();
    assert_eq!(read_all(&mut daemon.connect()), b"");
    // Half a head is told why.
    let answer = talk(
        daemon.address,
        b"GET /power/control/on?hostname=p&port=1 HTTP/1.1\r\nHost:",
        false,
    );
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", show(&answer));
    let answer = talk(
        daemon.address,
        b"GET /x HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf",
        false,
    );
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", show(&answer));
    // A kept connection that idles after its answer.
    let mut client = daemon.connect();
    client
        .write_all(format!("{GET_ON}\r\n").as_bytes())
        .expect("sent");
    let answer = read_all(&mut client);
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", show(&answer));
    assert!(begin.elapsed() >= Duration::from_millis(1200));
}

#[test]
fn a_slow_reader_is_let_go() {
    let lab = Lab::new();
    let daemon = lab.start_with(sim(), json!({"daemon": {"idle_timeout": 0.5}}), &[]);
    let client = daemon.connect();
    client
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("set");
    socket2::SockRef::from(&client)
        .set_recv_buffer_size(4096)
        .expect("set");
    // Asks and asks for long answers, and never reads one: the sending stops, and then it is cut.
    let request = "GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let begin = Instant::now();
    let mut sent = 0;
    let gone = wait_for("the connection to be cut", || {
        assert!(sent < 512 << 20, "unread answers are kept without a bound");
        match (&client).write(request.as_bytes()) {
            Ok(more) => {
                sent += more;
                None
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                None
            }
            Err(error) => Some(error.kind()),
        }
    });
    assert!(
        matches!(gone, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        "{gone}"
    );
    assert!(begin.elapsed() < Duration::from_secs(30));
    assert_serves(&daemon, "a slow reader");
}

#[test]
fn hostile_bytes_are_refused_and_forgotten() {
    let lab = Lab::new();
    let daemon = lab.start_with(
        json!({"p": lab.recorder("p")}),
        json!({"daemon": {"idle_timeout": 0.5}}),
        &[],
    );
    // Bytes that look random and are the same in every run.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let random: Vec<u8> = std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()[0]
    })
    .take(100_000)
    .collect();
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(30);
    let long_line = [b"p 1 ".to_vec(), vec![b'o'; 5000], b"\n".to_vec()].concat();
    let endless_line = vec![b'a'; 1 << 20];
    let giant_target = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    let giant_header = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5000));
    let no_end = "GET / HTTP/1.1\r\n".to_owned() + &"a: b\r\n".repeat(50_000);
    let cases: [(&str, &[u8], &str); 22] = [
        ("a TLS hello", &tls, "nack\n"),
        ("NULs", &[0; 500], "nack\n"),
        ("a NUL in a line", b"p\0 1 on\n", "nack\n"),
        ("random bytes", &random, "nack\n"),
        ("a long line", &long_line, "nack\n"),
        ("an endless line", &endless_line, "nack\n"),
        ("an empty line", b"\n", "nack\n"),
        ("a giant target", giant_target.as_bytes(), "HTTP/1.1 431 "),
        ("a giant header", giant_header.as_bytes(), "HTTP/1.1 431 "),
        ("many headers", many_headers.as_bytes(), "HTTP/1.1 431 "),
        ("headers without end", no_end.as_bytes(), "HTTP/1.1 431 "),
        ("no version", b"GET /power/control/on?hostname=p&port=1\r\n\r\n", "HTTP/1.1 400 "),
        ("HTTP/3.7", b"GET / HTTP/3.7\r\n\r\n", "HTTP/1.1 400 "),
        ("a NUL in a header", b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n", "HTTP/1.1 400 "),
        ("a bare header", b"GET / HTTP/1.1\r\nnonsense\r\n\r\n", "HTTP/1.1 400 "),
        ("bytes that are not ASCII", b"GET /power/control/on?hostname=\xff&port=1 HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
        ("chunks", b"POST /power/control/on?hostname=p&port=1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "HTTP/1.1 501 "),
        ("chunks and a length", b"GET /power/control/on?hostname=p&port=1 HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 501 "),
        ("two lengths", b"GET /power/control/on?hostname=p&port=1 HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n", "HTTP/1.1 400 "),
        ("a negative length", b"GET /power/control/on?hostname=p&port=1 HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400 "),
        ("a giant length", b"GET /power/control/on?hostname=p&port=1 HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", "HTTP/1.1 400 "),
        ("our own header", b"GET /power/control/on?hostname=p&port=1 HTTP/1.1\r\nX-Pdudaemon-Client: root\r\n\r\n", "HTTP/1.1 400 "),
    ];
    for (what, bytes, expected) in cases {
        for half_close in [false, true] {
            let answer = talk(daemon.address, bytes, half_close);
            // Closing on a client that is still sending may cost it the answer.
            let answered = answer.starts_with(expected.as_bytes())
                || (answer.is_empty() && bytes.len() > 60_000);
            assert!(answered, "{what}: {}", show(&answer));
        }
        assert_eq!(daemon.line("q 1 on"), "nack\n", "after {what}");
    }
    assert_eq!(lab.record(), [""; 0]);
    assert_eq!(daemon.get("on?hostname=p&port=1").0, 200);
    let printed = daemon.stop();
    assert!(!printed.contains("panicked"), "{printed}");
}

#[test]
fn a_client_cannot_forge_log_lines() {
    let lab = Lab::new();
    let daemon = lab.start_with(sim(), json!({}), &["--loglevel", "DEBUG"]);
    daemon.get("on?hostname=p%0A2026-01-01+00:00:00,000+-+forged&port=1%0D%0Aforged");
    daemon.line("p\u{1b}[2Jforged 1 on");
    let printed = daemon.stop();
    assert!(printed.contains("forged"), "{printed}");
    assert!(
        !printed
            .lines()
            .any(|line| line.starts_with("forged") || line.starts_with("2026-01-01 00:00:00")),
        "{printed}"
    );
    assert!(!printed.contains('\u{1b}'), "{printed}");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let lab = Lab::new();
    let daemon = lab.start(sim());
    let mut client = daemon.connect();
    let mut requests = String::new();
    for number in 0..30 {
        requests.push_str(&match number % 3 {
            0 => format!("{GET_ON}\r\n"),
            1 => "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            _ => "POST /power/control/on HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
                .to_owned(),
        });
    }
    client.write_all(requests.as_bytes()).expect("sent");
    client.shutdown(Shutdown::Write).expect("half closed");
    let mut answers = BufReader::new(client);
    for number in 0..30 {
        let (status, _) = read_response(&mut answers);
        assert_eq!(status, [200, 404, 405][number % 3], "answer {number}");
    }
    assert_eq!(read_all(&mut answers), b"");
}

/// All requests share one way to tiny_http: none may end it, or become a part of the next one.
#[test]
fn what_one_client_sends_does_not_touch_the_others() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": lab.recorder("p")}));
    let mut other = daemon.connect();
    for odd in [
        "GET /x HTTP/1.1\nA: b\n\n",
        "GET /x HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /x HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "GET /x HTTP/1.0\r\n\r\n",
        "GET /x HTTP/1.1\r\nTE: chunked\r\n\r\n",
        "HEAD /x HTTP/1.1\r\nEmpty:\r\n\r\n",
        "GET /x HTTP/1.1\r\nExpect: more\r\n\r\n",
        &format!(
            "POST /x HTTP/1.1\r\nContent-Length: 5000\r\n\r\n{}",
            "GET / HTTP/1.1\r\n\r\n"
                .repeat(300)
                .get(..5000)
                .expect("long")
        ),
    ] {
        let mut client = daemon.connect();
        client.write_all(odd.as_bytes()).expect("sent");
        client.shutdown(Shutdown::Write).expect("half closed");
        // Several under way at once.
        other
            .write_all(format!("{GET_ON}\r\n").as_bytes())
            .expect("sent");
        let answer = read_all(&mut client);
        let expected = if odd.contains("Expect") { "417" } else { "404" };
        let status = answer.get(9..12).unwrap_or_default();
        assert_eq!(show(status), show(expected.as_bytes()), "{odd:?}");
        let once = answer
            .windows(7)
            .filter(|bytes| *bytes == b"HTTP/1.")
            .count();
        assert_eq!(once, 1, "{odd:?}: {}", show(&answer));
        let mut answers = BufReader::new(other.try_clone().expect("a copy"));
        assert_eq!(read_response(&mut answers), (200, OK.into()), "{odd:?}");
    }
    let printed = daemon.stop();
    assert!(!printed.contains("is lost"), "{printed}");
}

#[test]
fn http_as_old_and_odd_clients_speak_it() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": lab.recorder("p")}));
    // HTTP/1.0: the connection closes behind the answer, unless asked to be kept.
    let answer = talk(
        daemon.address,
        b"GET /power/control/on?hostname=p&port=1 HTTP/1.0\r\n\r\n",
        false,
    );
    assert!(
        answer.starts_with(b"HTTP/1.") && answer.ends_with(OK.as_bytes()),
        "{}",
        show(&answer)
    );
    let mut client = daemon.connect();
    for _ in 0..2 {
        client.write_all(b"GET /power/control/on?hostname=p&port=2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").expect("sent");
        let mut answer = BufReader::new(client.try_clone().expect("a copy"));
        assert_eq!(read_response(&mut answer), (200, OK.into()));
    }
    // The whole URL, as proxies write it.
    let url = format!(
        "http://{}/power/control/on?hostname=p&port=3",
        daemon.address
    );
    assert_eq!(http(daemon.address, "GET", &url), (200, OK.into()));
    // Empty lines before a request; another host's name; a body with GET.
    let answer = talk(
        daemon.address,
        format!("{GET_ON}Content-Length: 3\r\nConnection: close\r\n\r\nabc").as_bytes(),
        false,
    );
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", show(&answer));
    // Expect: 100-continue, with the body only after the invitation.
    let mut client = daemon.connect();
    client.write_all(b"POST /power/control/on HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answers = BufReader::new(client.try_clone().expect("a copy"));
    assert_eq!(read_response(&mut answers).0, 100);
    client.write_all(b"body").expect("sent");
    assert_eq!(read_response(&mut answers).0, 405);
    // A method that we do not know, as the first words of a connection.
    let answer = talk(
        daemon.address,
        b"QUERY /api/v1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        false,
    );
    assert!(answer.starts_with(b"HTTP/1.1 405 "), "{}", show(&answer));
    // Names are read as Python's parse_qs reads them.
    lab.forget();
    for (query, outlet) in [
        ("hostname=p&port=%34", "4"),
        ("&&hostname=p&port=&port=5&port=6&Port=7&x=y", "5"),
        ("port=a%2Fb&hostname=p", "a/b"),
        ("hostname=p&port=04", "04"),
    ] {
        assert_eq!(
            daemon.get(&format!("on?{query}")),
            (200, OK.into()),
            "{query}"
        );
        assert_eq!(
            lab.record().pop(),
            Some(format!("p {outlet} on")),
            "{query}"
        );
    }
}

#[test]
fn a_client_that_talks_while_it_waits_is_no_trouble() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": lab.recorder("p")}));
    let mut client = daemon.connect();
    client
        .write_all(
            format!("{GET_ON}\r\n")
                .replace("/on?", "/reboot?delay=0.5&")
                .as_bytes(),
        )
        .expect("sent");
    wait_for("the off", || (!lab.record().is_empty()).then_some(()));
    client
        .set_write_timeout(Some(Duration::from_millis(200)))
        .expect("set");
    // Much more than is ever kept of what a client sends early.
    let mut sent = 0;
    while sent < 4 << 20 {
        match client.write(&[b'x'; 65536]) {
            Ok(more) => sent += more,
            Err(_) => break,
        }
    }
    let mut answers = BufReader::new(client);
    assert_eq!(read_response(&mut answers), (200, OK.into()));
    assert_eq!(lab.record(), ["p 1 off", "p 1 on"]);
}

#[test]
fn a_flood_of_short_connections_leaves_nothing_behind() {
    let lab = Lab::new();
    let daemon = lab.start(sim());
    assert_serves(&daemon, "the start");
    let count = |what: &str| {
        std::fs::read_dir(format!("/proc/{}/{what}", daemon.id()))
            .expect("its folder")
            .count()
    };
    let (descriptors, threads) = (count("fd"), count("task"));
    for number in 0..300 {
        match number % 3 {
            0 => drop(daemon.connect()),
            1 => assert_eq!(daemon.get("on?hostname=p&port=1").0, 200),
            _ => assert_eq!(daemon.line("p 1 on"), "ack\n"),
        }
    }
    wait_for("descriptors to be given back", || {
        (count("fd") <= descriptors + 2).then_some(())
    });
    // tiny_http keeps a few threads for the next connections.
    wait_for("threads to end", || {
        (count("task") <= threads + 12).then_some(())
    });
}

#[test]
fn no_descriptors_left_is_survived() {
    let lab = Lab::new();
    // The shell lowers the limit for the daemon alone.
    let config = lab.config(
        sim(),
        json!({"daemon": {"max_connections": 1000, "idle_timeout": 1}}),
    );
    let mut command = lab.command("/bin/sh");
    command
        .args([
            "-c",
            "ulimit -n 64; exec \"$0\" --conf \"$1\"",
            crate::daemon::PDUDAEMON,
        ])
        .arg(config)
        .stdin(Stdio::null());
    let daemon = Daemon::spawn(command);
    let held: Vec<TcpStream> = (0..100).map(|_| daemon.connect()).collect();
    daemon.wait_for_print("cannot accept a connection");
    drop(held);
    assert_serves(&daemon, "descriptors ran out");
    let warned = daemon
        .printed()
        .matches("cannot accept a connection")
        .count();
    assert!(warned < 200, "{warned} warnings in about a second");
}
