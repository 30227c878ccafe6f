//! A PDU that dies in the middle of a queue leaves no board dark: clients are told, and a reboot
//! under way gets its on when the PDU is back. A network that says everything twice costs nothing.

use crate::daemon::{PATIENCE, wait_for};
use crate::sim::fault::Fault;
use crate::sim::rack::{ROWS, Row};
use crate::sim::stream::{Bench, Line, Pdu};
use crossbeam_channel::Receiver;
use pdudaemon::config::Config;
use pdudaemon::dispatch::{Dispatcher, Stop};
use pdudaemon::request::{Action, FailureKind, Outcome, Outlet, Request, Switch, Target};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ON: Action = Action::Switch(Switch::On);
const OFF: Action = Action::Switch(Switch::Off);

/// Seconds that one attempt may take.
const TIMEOUT: u64 = 5;
const ATTEMPTS: u64 = 2;
/// What a loaded machine may add.
const SLACK: Duration = Duration::from_secs(10);

/// How long a PDU that dies in the middle of a queue is away.
const OUTAGE: Duration = Duration::from_secs(60);

/// A dispatcher with one PDU.
struct Lane(Dispatcher);

impl Lane {
    fn start(mut settings: Value) -> Self {
        settings["timeout"] = json!(TIMEOUT);
        settings["retries"] = json!(ATTEMPTS);
        settings["retrydelay"] = json!(0);
        let config = json!({"daemon": {"hostname": "127.0.0.1"}, "pdus": {"pdu": settings}});
        let config = Config::parse(&config.to_string(), "test").expect("a config");
        Self(Dispatcher::start(&config).expect("started"))
    }

    fn submit(&self, outlet: &str, action: Action) -> Receiver<Outcome> {
        self.submit_then(outlet, action, || {})
    }

    /// Does `then` at its end, before anything else is done with the PDU.
    fn submit_then(
        &self,
        outlet: &str,
        action: Action,
        then: impl FnOnce() + Send + 'static,
    ) -> Receiver<Outcome> {
        let (sender, receiver) = crossbeam_channel::bounded(2);
        let request = Request {
            client: "test".into(),
            target: Target::Outlet {
                pdu: "pdu".into(),
                outlet: Outlet::new(outlet),
            },
            action,
            delay: (action == Action::Reboot).then(|| "0.5".parse().expect("a delay")),
            is_background: false,
            may_know_names: false,
        };
        let reply = move |outcome| {
            then();
            sender.send(outcome).expect("the test waits");
        };
        self.0.submit(request, Box::new(reply));
        receiver
    }

    fn ask(&self, outlet: &str, action: Action) -> Outcome {
        answer(&self.submit(outlet, action))
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.stop(Stop::Now);
        self.0.join();
    }
}

/// The one answer.
fn answer(from: &Receiver<Outcome>) -> Outcome {
    let outcome = from.recv_timeout(PATIENCE).expect("an answer");
    assert!(from.try_recv().is_err(), "answered twice");
    outcome
}

fn dies_in_the_middle(row: &Row) {
    let name = row.driver;
    let (mut bench, settings) = row.start(Ipv4Addr::LOCALHOST);
    let pdu = Arc::clone(&bench.pdu);
    let is_on = |outlet: &str| pdu.lock().expect("lock").is_on(outlet) == Some(true);
    let lane = Lane::start(settings);
    let (first, second) = (row.outlets[0], row.outlets[1]);
    lane.ask(first, ON)
        .unwrap_or_else(|f| panic!("{name}: {f}"));
    assert!(is_on(first) && !is_on(second), "{name}: one is on");

    let reboot = lane.submit(first, Action::Reboot);
    wait_for("the reboot's off", || (!is_on(first)).then_some(()));
    bench.unplug();
    let began = Instant::now();
    let queued: Vec<_> = [ON, OFF, Action::State, ON]
        .map(|action| lane.submit(second, action))
        .into();
    for failed in queued.iter().chain([&reboot]) {
        let failure = answer(failed).expect_err("nobody is there");
        assert_eq!(failure.kind, FailureKind::Unreachable, "{name}: {failure}");
    }
    let attempts = u32::try_from((queued.len() as u64 + 1) * ATTEMPTS).expect("few");
    let most = Duration::from_secs(TIMEOUT) * attempts + SLACK;
    assert!(began.elapsed() < most, "{name}: {:?}", began.elapsed());
    // Whoever asks meanwhile is told, one after the other.
    while began.elapsed() < OUTAGE {
        let asked = Instant::now();
        let failure = lane.ask(second, ON).expect_err("nobody is there");
        assert_eq!(failure.kind, FailureKind::Unreachable, "{name}: {failure}");
        wait_for("the next second", || {
            (asked.elapsed() > Duration::from_secs(1)).then_some(())
        });
    }
    assert!(!is_on(second), "{name}: switched while nobody was there");

    bench.plug();
    wait_for("the on that the reboot owes", || is_on(first).then_some(()));
    for (action, on) in [(ON, true), (OFF, false), (ON, true)] {
        lane.ask(second, action)
            .unwrap_or_else(|failure| panic!("{name}, afterwards: {failure}"));
        assert_eq!(is_on(second), on, "{name}, afterwards");
    }
    lane.ask(first, Action::Reboot)
        .unwrap_or_else(|failure| panic!("{name}, afterwards: {failure}"));
    assert!(is_on(first) && is_on(second), "{name}: both are on");
}

#[test]
fn a_pdu_that_dies_for_a_minute_in_a_queue_is_told_and_gets_its_on_later() {
    std::thread::scope(|scope| {
        for row in ROWS {
            scope.spawn(|| dies_in_the_middle(row));
        }
    });
}

/// The off of a reboot goes through a kept session and is carried out; then the PDU is gone, and
/// nobody takes the second try.
fn dies_with_the_off(row: &Row, honest: usize) {
    let name = format!("{}, {honest} answers before", row.driver);
    let (mut bench, settings) = row.start(Ipv4Addr::LOCALHOST);
    if matches!(bench.line, Line::Pty(_)) {
        // Its line does not end with it.
        return;
    }
    let (lane, pdu) = (Lane::start(settings), Arc::clone(&bench.pdu));
    let outlet = row.outlets[0];
    lane.ask(outlet, ON)
        .unwrap_or_else(|failure| panic!("{name}, before: {failure}"));
    bench.control.set(Fault::Dies, honest);
    let control = Arc::clone(&bench.control);
    // Before the driver logs out, which would be one more answer.
    let heal = move || control.set(Fault::None, 0);
    let outcome = answer(&lane.submit_then(outlet, Action::Reboot, heal));
    bench.plug();
    if bench.control.spoiled() > 0 {
        let failure = outcome.expect_err(&name);
        assert_eq!(failure.kind, FailureKind::Unreachable, "{name}: {failure}");
    }
    wait_for(&format!("{name}: the on"), || {
        (pdu.lock().expect("lock").is_on(outlet) == Some(true)).then_some(())
    });
}

#[test]
fn a_pdu_that_dies_with_the_off_is_not_left_dark() {
    std::thread::scope(|scope| {
        for row in ROWS {
            for honest in 0..3 {
                scope.spawn(move || dies_with_the_off(row, honest));
            }
        }
    });
}

/// A web page of one outlet: after an off it sends the browser to a page that it has not.
struct Page {
    is_on: bool,
}

impl Pdu for Page {
    fn answer(&mut self, input: &mut Vec<u8>, _: bool) -> Option<Vec<u8>> {
        let request = String::from_utf8_lossy(input);
        let end = request.find("\r\n\r\n")? + 4;
        let (head, body) = if request.starts_with("GET /cm?cmnd=Power1+on ") {
            self.is_on = true;
            ("200 OK", r#"{"POWER":"ON"}"#)
        } else if request.starts_with("GET /cm?cmnd=Power1+off ") {
            self.is_on = false;
            ("302 Found\r\nLocation: /done", "")
        } else {
            ("404 Not Found", "")
        };
        input.drain(..end);
        let length = body.len();
        Some(format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes())
    }

    fn is_on(&self, _: &str) -> Option<bool> {
        Some(self.is_on)
    }
}

#[test]
fn a_pdu_that_redirects_its_off_to_nowhere_is_not_left_dark() {
    let bench = Bench::tcp(Ipv4Addr::LOCALHOST, Page { is_on: true });
    let lane = Lane::start(json!({"driver": "tasmota", "ip": bench.address()}));
    let failure = lane.ask("1", Action::Reboot).expect_err("no page");
    wait_for("the on that the reboot owes", || {
        (bench.pdu.lock().expect("lock").is_on("1") == Some(true)).then_some(())
    });
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    for words in ["HTTP 302, a redirect to", "/done", "HTTP 404"] {
        let text = failure.to_string();
        assert!(text.contains(words), "expected {words:?} in {text:?}");
    }
}

#[test]
fn a_network_that_says_everything_twice_costs_nothing() {
    for row in ROWS {
        let (bench, settings) = row.start(Ipv4Addr::LOCALHOST);
        if !matches!(bench.line, Line::Udp(_)) {
            continue;
        }
        bench.control.set(Fault::Twice, 0);
        let (lane, pdu) = (Lane::start(settings), Arc::clone(&bench.pdu));
        for outlet in row.outlets {
            for (action, on) in [(ON, true), (OFF, false), (Action::Reboot, true)] {
                let done = lane.ask(outlet, action);
                done.unwrap_or_else(|failure| panic!("{}: {failure}", row.driver));
                let is_on = pdu.lock().expect("lock").is_on(outlet);
                assert_eq!(is_on, Some(on), "{}", row.driver);
            }
        }
        assert!(bench.control.spoiled() >= 4 * row.outlets.len());
    }
}
