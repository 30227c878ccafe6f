//! What must happen to power, and what must not: nothing runs that a client smuggled in, nothing
//! is switched by a request that is wrong, and what a reboot switched off comes on again.

use crate::daemon::{Daemon, Lab, exists, http, read_all, read_response, talk, wait_for};
use crate::sim::rack::ROWS;
use rustix::process::Signal;
use serde_json::json;
use std::io::Write;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const OK: &str = "OK - accepted request\n";

#[test]
fn no_outlet_runs_anything() {
    let lab = Lab::new();
    let touched = lab.path("touched");
    let mut list = lab.scripted("record \"$1\" on", "record \"$1\" off");
    list["retries"] = json!(1);
    let daemon = lab.start(json!({
        "bare": lab.recorder("bare"),
        "quoted": {"driver": "localcmdline", "cmd_on": format!("echo \"%s\" '%s' >> {}", lab.path("record").display()), "retries": 1},
        "list": list,
    }));
    let touch = format!("touch {}", touched.display());
    for smuggled in [
        format!("1;{touch}"),
        format!("1; {touch}; echo "),
        format!("1'; {touch}; '"),
        format!("1\"; {touch}; \""),
        format!("1\n{touch}"),
        format!("1\r\n{touch}"),
        format!("$({touch})"),
        format!("`{touch}`"),
        format!("1|{touch}"),
        format!("1&{touch}&"),
        format!("1 & {touch}"),
        format!("1>{}", touched.display()),
        format!("1>>{}", touched.display()),
        format!("${{IFS}}{touch}"),
        format!("-e {touch}"),
        "../../bin/sh".to_owned(),
        "--help".to_owned(),
        "*".to_owned(),
        "~".to_owned(),
        "%s".to_owned(),
        "%n%n".to_owned(),
    ] {
        let escaped: String = form_urlencoded::byte_serialize(smuggled.as_bytes()).collect();
        for pdu in ["bare", "quoted"] {
            let (status, body) = daemon.get(&format!("on?hostname={pdu}&port={escaped}"));
            assert_eq!(status, 503, "{pdu} {smuggled:?}: {body}");
            let line = format!("{pdu} {smuggled} on");
            assert_eq!(daemon.line(&line), "nack\n", "{line:?}");
        }
        // In the list form the outlet is one argument of the program, whatever it holds.
        daemon.get(&format!("on?hostname=list&port={escaped}"));
        assert!(!exists(&touched), "{smuggled:?} was run");
    }
    let record = lab.record();
    assert!(
        record
            .iter()
            .all(|line| line.ends_with(" on") && !line.starts_with("bare")),
        "{record:?}"
    );
}

#[test]
fn a_failing_command_is_a_failure_with_its_words() {
    let lab = Lab::new();
    let daemon = lab.start(json!({
        "p": {"driver": "localcmdline", "cmd_on": "echo no relay %s >&2; exit 3", "cmd_off": "kill -9 $$ #%s", "retries": 1},
        "lenient": {"driver": "localcmdline", "cmd_on": "false %s", "ignore_exit_status": true, "retries": 1},
    }));
    let (status, body) = daemon.get("on?hostname=p&port=4");
    assert_eq!(status, 503);
    assert!(
        body.starts_with("Invalid request: ")
            && body.contains("exit status 3")
            && body.contains("no relay 4"),
        "{body}"
    );
    assert_eq!(daemon.get("off?hostname=p&port=4").0, 503);
    assert_eq!(daemon.line("p 4 on"), "nack\n");
    assert_eq!(daemon.get("on?hostname=lenient&port=4"), (200, OK.into()));
}

#[test]
fn a_request_that_is_wrong_leaves_power_alone() {
    let lab = Lab::new();
    let daemon = lab.start_with(
        json!({"p": lab.recorder("p"), "sim": {"driver": "simulated", "outlets": 4, "start": "on"}}),
        json!({"aliases": {"dead": {"hostname": "gone", "port": 1}}}),
        &[],
    );
    for what in [
        "reboot?hostname=p&port=1&delay=abc",
        "reboot?hostname=p&port=1&delay=1e9",
        "reboot?hostname=p&port=1&delay=86401",
        "reboot?hostname=p&port=1&delay=nan",
        "reboot?hostname=p&port=1&delay=inf",
        "reboot?hostname=p&port=1&delay=0x5",
        "reboot?hostname=p&port=1&delay=1;2",
        "off?hostname=p&port=1&delay=abc",
        "reboot?hostname=sim&port=5",
        "off?hostname=sim&port=0",
        "reboot?hostname=sim&port=one",
        "off?hostname=sim&port=-1",
        "off?hostname=sim&port=99999999999999999999",
        "reboot?hostname=p",
        "reboot?port=1",
        "reboot?hostname=p&port=",
        "reboot?alias=dead",
        "reboot?alias=nobody",
        "off?alias=dead&hostname=p&port=1",
        "off?hostname=q&port=1",
        "off",
    ] {
        let (status, body) = daemon.get(what);
        assert!(
            status == 503 && body.starts_with("Invalid request: ") && body.ends_with('\n'),
            "{what}: {status} {body}"
        );
    }
    for line in [
        "p 1 reboot abc",
        "p 1 reboot 1e9",
        "p 1 REBOOT",
        "p 1 off 5 5",
        "p  1 off",
        "p\t1\toff",
        "p 1",
        "sim 0 off",
        "sim 5 reboot",
        "sim -1 off",
        "q 1 off",
        "off",
    ] {
        assert_eq!(daemon.line(line), "nack\n", "{line}");
    }
    for method in ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
        let (status, _) = http(
            daemon.address,
            method,
            "/power/control/off?hostname=p&port=1",
        );
        assert_eq!(status, 405, "{method}");
    }
    for path in [
        "/nonsense",
        "/power/control/",
        "/power/control/off/?hostname=p&port=1",
        "//power/control/off?hostname=p&port=1",
        "/power/control/OFF?hostname=p&port=1",
        "/power/control/toggle?hostname=p&port=1",
        "/power/control/../control/off?hostname=p&port=1",
    ] {
        assert_eq!(http(daemon.address, "GET", path).0, 404, "{path}");
    }
    assert_eq!(lab.record(), [""; 0]);
    for outlet in 1..=4 {
        assert_eq!(
            daemon.get(&format!("get-status?hostname=sim&port={outlet}")),
            (200, "on\n".into())
        );
    }
}

#[test]
fn head_is_answered_without_a_body_and_without_a_deed() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": lab.recorder("p")}));
    let answer = talk(
        daemon.address,
        b"HEAD /power/control/off?hostname=p&port=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        false,
    );
    let text = String::from_utf8(answer).expect("text");
    assert!(text.starts_with("HTTP/1.1 405 "), "{text}");
    assert!(text.contains("\r\nAllow: GET\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n"), "{text}");
    assert_eq!(lab.record(), [""; 0]);
}

#[test]
fn half_a_second_is_half_a_second() {
    let lab = Lab::new();
    let stamp = "record $(date +%s%N)";
    let daemon = lab.start(json!({"p": lab.scripted(stamp, stamp)}));
    for what in ["http", "line"] {
        lab.forget();
        match what {
            "http" => assert_eq!(
                daemon.get("reboot?hostname=p&port=1&delay=0.5"),
                (200, OK.into())
            ),
            _ => assert_eq!(daemon.line("p 1 reboot 0.5"), "ack\n"),
        }
        let times: Vec<u64> = lab
            .record()
            .iter()
            .map(|line| line.parse().expect("a time"))
            .collect();
        let [off, on] = times[..] else {
            panic!("{times:?}")
        };
        let pause = Duration::from_nanos(on - off);
        assert!(
            pause >= Duration::from_millis(490) && pause < Duration::from_secs(4),
            "{what}: {pause:?}"
        );
    }
}

#[test]
fn a_delay_before_on_and_off_is_honoured() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": lab.recorder("p")}));
    let begin = Instant::now();
    assert_eq!(
        daemon.get("on?hostname=p&port=1&delay=0.4"),
        (200, OK.into())
    );
    assert!(begin.elapsed() >= Duration::from_millis(400));
    assert_eq!(
        daemon.get("off?hostname=p&port=1&delay=-3"),
        (200, OK.into())
    );
    assert!(
        daemon
            .printed()
            .contains("WARNING delay parameter is deprecated for on/off commands")
    );
}

#[test]
fn a_command_that_hangs_delays_nobody_else() {
    let lab = Lab::new();
    let mut hanging = lab.scripted(
        "record hangs; while [ ! -e free ]; do sleep 0.05; done",
        "record off",
    );
    hanging["timeout"] = json!(3);
    let daemon = lab.start(json!({"hanging": hanging, "p": lab.recorder("p")}));
    let given_up = daemon.get_later("on?hostname=hanging&port=1");
    lab.wait_for_record(&["hangs"]);
    assert_eq!(daemon.get("on?hostname=p&port=1"), (200, OK.into()));
    assert_eq!(daemon.line("p 2 on"), "ack\n");
    assert!(
        !given_up.is_finished(),
        "the other PDU waited for the one that hangs"
    );
    let (status, body) = given_up.join().expect("answered");
    assert!(
        status == 503 && body.contains("did not end in time"),
        "{status} {body}"
    );
    // Its PDU goes on with the next request.
    assert_eq!(daemon.get("off?hostname=hanging&port=1"), (200, OK.into()));
}

#[test]
fn a_hanging_device_is_given_up_at_its_deadline() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"sim": {"driver": "simulated", "hang_outlets": [2], "timeout": 0.5, "retries": 2, "retrydelay": 0}}));
    let begin = Instant::now();
    assert_eq!(daemon.get("on?hostname=sim&port=2").0, 503);
    assert!(
        begin.elapsed() >= Duration::from_secs(1),
        "two attempts of half a second each"
    );
    assert_eq!(daemon.get("on?hostname=sim&port=1").0, 200);
    let begin = Instant::now();
    daemon.stop();
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_client_that_leaves_early_changes_nothing() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": lab.recorder("p"), "q": lab.recorder("q")}));
    for request in [
        "GET /power/control/reboot?hostname=p&port=1&delay=0.5 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "q 2 reboot 0.5\n",
    ] {
        lab.forget();
        let mut client = daemon.connect();
        client.write_all(request.as_bytes()).expect("sent");
        wait_for("the off", || (!lab.record().is_empty()).then_some(()));
        drop(client);
        let (pdu, outlet) = if request.starts_with('q') {
            ("q", 2)
        } else {
            ("p", 1)
        };
        lab.wait_for_record(&[
            &format!("{pdu} {outlet} off"),
            &format!("{pdu} {outlet} on"),
        ]);
    }
    // With a reset instead of a polite end, and before the job began.
    lab.forget();
    let client = daemon.connect();
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .expect("set");
    (&client).write_all(b"p 1 reboot 0\n").expect("sent");
    wait_for("the off", || (!lab.record().is_empty()).then_some(()));
    drop(client);
    lab.wait_for_record(&["p 1 off", "p 1 on"]);
    assert_eq!(daemon.get("on?hostname=p&port=3").0, 200);
}

/// A reboot that is in its pause.
fn paused(lab: &Lab, daemon: &Daemon, delay: &str) -> std::thread::JoinHandle<(u16, String)> {
    let client = daemon.get_later(&format!("reboot?hostname=p&port=1&delay={delay}"));
    lab.wait_for_record(&["p 1 off"]);
    // The off's command has written; give its worker the time to see its end.
    wait_for("the pause", || {
        daemon.printed().contains("Switch(Off): Ok").then_some(())
    });
    client
}

#[test]
fn sigterm_in_the_pause_ends_with_the_outlet_on_and_the_client_answered() {
    for signal in [Signal::TERM, Signal::INT] {
        let lab = Lab::new();
        let daemon = lab.start_with(
            json!({"p": lab.recorder("p")}),
            json!({}),
            &["--loglevel", "DEBUG"],
        );
        let client = paused(&lab, &daemon, "8");
        // Queued behind the reboot; or, if the signal is faster, not even read.
        let mut queued = daemon.connect();
        queued.write_all(b"p 1 off\n").expect("sent");
        daemon.signal(signal);
        daemon.wait_for_print("Signal received, shutting down...");
        assert_eq!(client.join().expect("answered"), (200, OK.into()));
        // What was not begun is refused, or was never taken.
        let answer = read_all(&mut queued);
        assert!(answer.is_empty() || answer == b"nack\n", "{answer:?}");
        let (status, printed) = daemon.wait();
        assert!(status.success(), "{printed}");
        assert_eq!(lab.record(), ["p 1 off", "p 1 on"]);
    }
}

#[test]
fn a_long_pause_is_cut_on_sigterm() {
    let lab = Lab::new();
    let daemon = lab.start_with(
        json!({"p": lab.recorder("p")}),
        json!({}),
        &["--loglevel", "DEBUG"],
    );
    let client = paused(&lab, &daemon, "3600");
    let begin = Instant::now();
    daemon.stop();
    assert!(
        begin.elapsed() < Duration::from_secs(25),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(client.join().expect("answered").0, 200);
    assert_eq!(lab.record(), ["p 1 off", "p 1 on"]);
}

#[test]
fn a_second_sigterm_hurries() {
    let lab = Lab::new();
    let daemon = lab.start_with(
        json!({"p": lab.recorder("p")}),
        json!({}),
        &["--loglevel", "DEBUG"],
    );
    let client = paused(&lab, &daemon, "3600");
    daemon.signal(Signal::TERM);
    daemon.wait_for_print("Signal received, shutting down...");
    let begin = Instant::now();
    daemon.signal(Signal::TERM);
    let (status, printed) = daemon.wait();
    assert!(
        status.success() && printed.contains("a second signal"),
        "{printed}"
    );
    assert!(
        begin.elapsed() < Duration::from_secs(8),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(client.join().expect("answered").0, 200);
    assert_eq!(lab.record(), ["p 1 off", "p 1 on"]);
}

#[test]
fn nobody_gets_between_off_and_on() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": lab.recorder("p")}));
    let address = daemon.address;
    let hammer = |line: &'static str| {
        std::thread::spawn(move || {
            for _ in 0..25 {
                assert_eq!(talk(address, line.as_bytes(), true), b"ack\n");
            }
        })
    };
    let hammers = [hammer("p 1 on"), hammer("p 01 off")];
    for delay in ["0", "0.05", "0.1", "0"] {
        assert_eq!(
            daemon
                .get(&format!("reboot?hostname=p&port=1&delay={delay}"))
                .0,
            200
        );
        // One more way to write the same outlet.
        assert_eq!(
            daemon
                .get(&format!("reboot?hostname=p&port=001&delay={delay}"))
                .0,
            200
        );
    }
    for hammer in hammers {
        hammer.join().expect("all answered");
    }
    daemon.stop();
    let record = lab.record();
    assert_eq!(record.len(), 25 + 25 + 8 * 2);
    // A client's own off cannot be told from a reboot's off in the record, so the reboots are
    // told by the second way to write the outlet.
    let mut rest = record.iter();
    let mut reboots = 0;
    while let Some(line) = rest.next() {
        if line == "p 001 off" {
            assert_eq!(
                rest.next().map(String::as_str),
                Some("p 001 on"),
                "{record:?}"
            );
            reboots += 1;
        }
    }
    assert_eq!(reboots, 4);
}

#[test]
fn a_pause_delays_no_other_outlet() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": lab.recorder("p")}));
    let reboot = daemon.get_later("reboot?hostname=p&port=1");
    lab.wait_for_record(&["p 1 off"]);
    // Five seconds is the pause when nobody says another.
    assert_eq!(daemon.get("on?hostname=p&port=2").0, 200);
    assert_eq!(daemon.line("p 3 off"), "ack\n");
    assert!(
        !reboot.is_finished(),
        "the other outlets waited for the pause"
    );
    assert_eq!(reboot.join().expect("answered").0, 200);
    assert_eq!(lab.record(), ["p 1 off", "p 2 on", "p 3 off", "p 1 on"]);
}

#[test]
fn an_off_that_is_not_confirmed_is_followed_by_the_on() {
    let lab = Lab::new();
    let daemon = lab.start(json!({
        "p": lab.scripted("record on $1", "record off $1; exit 1"),
        // Its first command is carried out, but its answer is lost.
        "sim": {"driver": "simulated", "start": "on", "lose_every": 1, "retries": 1, "timeout": 1},
        "refuses": {"driver": "simulated", "start": "on", "refuse_outlets": [1], "retries": 1},
        "away": {"driver": "localcmdline", "cmd_off": ["/nonexistent/relay", "%s"], "cmd_on": format!("echo away %s on >> {}", lab.path("record").display()), "retries": 1},
    }));
    let (status, body) = daemon.get("reboot?hostname=p&port=1&delay=3600");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("exit status 1"), "{body}");
    lab.wait_for_record(&["off 1", "on 1"]);
    assert_eq!(daemon.get("reboot?hostname=sim&port=1&delay=3600").0, 503);
    assert_eq!(
        daemon.get("get-status?hostname=sim&port=1"),
        (200, "on\n".into())
    );
    // What certainly was not switched off needs no on.
    assert_eq!(
        daemon.get("reboot?hostname=refuses&port=1&delay=3600").0,
        503
    );
    assert_eq!(daemon.get("reboot?hostname=away&port=1&delay=3600").0, 503);
    assert_eq!(lab.record(), ["off 1", "on 1"]);
    daemon.stop();
    assert_eq!(lab.record(), ["off 1", "on 1"]);
}

const STUBBORN: &str = "record on $1; [ -e mended ]";

#[test]
fn an_on_that_fails_is_tried_until_it_is_confirmed() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": lab.scripted(STUBBORN, "record off $1")}));
    let (status, body) = daemon.get("reboot?hostname=p&port=1&delay=0");
    assert_eq!(status, 503, "{body}");
    lab.wait_for_record(&["off 1", "on 1"]);
    // The client has its answer; the daemon goes on, and says so.
    let is_told = |wanted: bool| {
        let words = [
            ("/healthz", "outlet 1: LEFT OFF by an unfinished reboot"),
            (
                "/metrics",
                r#"pdudaemon_outlet_left_off{pdu="p",outlet="1"} 1"#,
            ),
        ];
        wait_for("what is told of the outlet", || {
            let told = words.map(|(path, words)| (http(daemon.address, "GET", path).1, words));
            let is_so = told
                .iter()
                .all(|(text, words)| text.contains(*words) == wanted);
            is_so.then_some(())
        });
    };
    is_told(true);
    wait_for("another try", || (lab.record().len() == 3).then_some(()));
    lab.write("mended", "");
    daemon.wait_for_print("on again after an unfinished reboot");
    is_told(false);
    let tries = lab.record().len();
    daemon.stop();
    assert_eq!(
        lab.record().len(),
        tries,
        "tried again after it was confirmed"
    );
}

#[test]
fn a_later_request_takes_the_place_of_an_on_that_failed() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": lab.scripted(STUBBORN, "record off $1")}));
    assert_eq!(daemon.get("reboot?hostname=p&port=1&delay=0").0, 503);
    assert_eq!(daemon.line("p 01 off"), "ack\n");
    // A stop tries at once what is still owed.
    daemon.stop();
    assert_eq!(
        lab.record(),
        ["off 1", "on 1", "off 01"].map(|line| line.replace("01", "1"))
    );
}

#[test]
fn an_on_that_is_owed_is_tried_before_the_end() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": lab.scripted(STUBBORN, "record off $1")}));
    assert_eq!(daemon.get("reboot?hostname=p&port=1&delay=0").0, 503);
    lab.write("mended", "");
    daemon.stop();
    assert_eq!(lab.record(), ["off 1", "on 1", "on 1"]);
}

#[test]
fn an_outlet_that_stays_off_at_the_end_is_told() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": lab.scripted(STUBBORN, "record off $1")}));
    assert_eq!(daemon.get("reboot?hostname=p&port=1&delay=0").0, 503);
    let printed = daemon.stop();
    assert!(printed.contains("LEFT OFF"), "{printed}");
}

#[test]
fn a_full_queue_is_an_answer() {
    let lab = Lab::new();
    let mut slow = lab.scripted(
        "record on $1; while [ ! -e free ]; do sleep 0.02; done",
        "record off $1",
    );
    slow["queue_limit"] = json!(3);
    let daemon = lab.start(json!({"p": slow}));
    let mut waiting = vec![daemon.get_later("on?hostname=p&port=1")];
    lab.wait_for_record(&["on 1"]);
    // Two more have room; of these four, two are refused at once.
    waiting.extend((2..6).map(|outlet| daemon.get_later(&format!("off?hostname=p&port={outlet}"))));
    wait_for("two refusals", || {
        (waiting.iter().filter(|client| client.is_finished()).count() == 2).then_some(())
    });
    lab.write("free", "");
    let answers: Vec<(u16, String)> = waiting
        .into_iter()
        .map(|client| client.join().expect("answered"))
        .collect();
    let full = answers
        .iter()
        .filter(|(status, body)| *status == 503 && body.contains("queue is full"));
    assert_eq!(full.count(), 2, "{answers:?}");
    assert_eq!(
        answers.iter().filter(|(status, _)| *status == 200).count(),
        3
    );
    assert_eq!(lab.record().len(), 3);
}

#[test]
fn requests_for_one_outlet_never_overtake_each_other() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": lab.recorder("p")}));
    // One connection, one request after the other without waiting for the answers in between.
    let mut client = daemon.connect();
    let mut requests = String::new();
    for number in 0..20 {
        let command = if number % 2 == 0 { "on" } else { "off" };
        requests.push_str(&format!(
            "GET /power/control/{command}?hostname=p&port=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ));
    }
    client.write_all(requests.as_bytes()).expect("sent");
    let mut answers = std::io::BufReader::new(client);
    for _ in 0..20 {
        assert_eq!(read_response(&mut answers), (200, OK.into()));
    }
    let record = lab.record();
    assert_eq!(record.len(), 20);
    for (number, line) in record.iter().enumerate() {
        assert_eq!(line.ends_with(" on"), number % 2 == 0, "{record:?}");
    }
}

#[test]
fn an_outlet_that_only_its_pdu_can_name_is_one_lane_under_all_its_names() {
    let row = ROWS.iter().find(|row| row.driver == "tplink");
    let (bench, settings) = row.expect("a strip").start(Ipv4Addr::LOCALHOST);
    let lab = Lab::new();
    let daemon = lab.start(json!({"strip": settings}));
    let is_on = |alias| bench.pdu.lock().expect("lock").is_on(alias);
    // The first comes before the PDU has said which outlet is which, the second when it has.
    for (by, other) in [("a", "1"), ("2", "b")] {
        let reboot = format!("/api/v1/pdus/strip/outlets/{by}/reboot?wait=false");
        let (status, request) = daemon.api("POST", &reboot, json!({"delay": 1}));
        assert_eq!(status, 202, "{request}");
        let off = daemon.get(&format!("off?hostname=strip&port={other}"));
        assert_eq!(off, (200, OK.to_owned()));
        let ended = format!("/api/v1/requests/{}?wait=30", request["id"]);
        let (_, ended) = daemon.api("GET", &ended, json!(null));
        assert_eq!(
            (&ended["progress"], &ended["problem"]),
            (&json!("ended"), &json!(null)),
            "{ended}"
        );
        let alias = if by == "a" { "a" } else { "b" };
        assert_eq!(is_on(alias), Some(false), "the off got between off and on");
    }
    // A name that the PDU does not have is its to refuse.
    let (status, body) = daemon.get("on?hostname=strip&port=kettle");
    assert!(
        status == 503 && body.contains("no such outlet"),
        "{status} {body}"
    );
    daemon.stop();
}
