//! A serial board on a pty that goes wrong costs one call: the call ends within its deadline, in
//! its own class, and the next one works. Boards behind a socket are in the fault matrix.

use crate::faults_tcp::{FAULTS, build, long, under_fault};
use crate::sim::fault::Fault;
use crate::sim::serial_boards::{Conrad, Rly, conrad, numato};
use crate::sim::stream::{Bench, Pdu, PduBox};
use crate::transcript::Confirmed;
use pdudaemon::driver::{Driver, DriverError};
use pdudaemon::request::{Outlet, State, Switch};
use pdudaemon::transport::{Deadline, TransportErrorKind};
use serde_json::json;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// What a faulty call is given.
const PATIENCE: Duration = Duration::from_millis(300);

/// The three dialects, each with its last outlet and the answers that a first switching takes.
fn dialects() -> [(&'static str, &'static str, usize, PduBox); 4] {
    [
        ("NumatoUSB32", "32", 5, Box::new(numato(32))),
        ("NumatoUSB64", "64", 4, Box::new(numato(64))),
        ("devantech_USB-RLY16", "8", 1, Box::new(Rly::default())),
        ("conrad197720", "15", 2, Box::new(conrad(2))),
    ]
}

fn driver(name: &str, bench: &Bench) -> Box<dyn Driver> {
    build(name, json!({ "device": bench.address() }))
}

fn every_fault(index: usize) {
    let (name, outlet, answers, pdu) = dialects().into_iter().nth(index).expect("a dialect");
    let mut bench = Bench::pty(pdu);
    let outlet = Outlet::new(outlet);
    let mut driver = driver(name, &bench);
    // At the first answer, and at the one to the switching.
    for honest in [0, answers - 1] {
        for fault in FAULTS {
            bench.control.set(fault, honest);
            let control = std::sync::Arc::clone(&bench.control);
            let heal = || {
                control.set(Fault::None, 0);
                if fault == Fault::Reset {
                    bench.plug();
                }
            };
            under_fault(driver.as_mut(), &outlet, fault, PATIENCE, heal);
        }
    }
    bench.control.set(Fault::Stuck, 0);
    let control = std::sync::Arc::clone(&bench.control);
    let heal = || control.set(Fault::None, 0);
    let patience = Duration::from_secs(20);
    under_fault(driver.as_mut(), &outlet, Fault::Stuck, patience, heal);
}

#[test]
fn numato_survives_every_fault() {
    every_fault(0);
}

#[test]
fn numato64_survives_every_fault() {
    every_fault(1);
}

#[test]
fn devantech_usb_survives_every_fault() {
    every_fault(2);
}

#[test]
fn conrad_survives_every_fault() {
    every_fault(3);
}

#[test]
fn an_unplugged_device_is_found_again_at_the_same_path() {
    for (name, outlet, _, pdu) in dialects() {
        let mut bench = Bench::pty(pdu);
        let outlet = Outlet::new(outlet);
        let mut driver = driver(name, &bench);
        driver.confirmed(&outlet, Switch::On, long()).expect("on");
        // Away and back between two calls, with the line still open: the same call finds it.
        bench.plug();
        assert_eq!(driver.state(&outlet, long()), Ok(State::On), "{name}");
        // Away: a clear error. Back: the next call works.
        bench.unplug();
        let error = driver.state(&outlet, long()).expect_err("unplugged");
        assert!(error.is_transient(), "{name}: {error:?}");
        driver.rest(long());
        let error = driver
            .confirmed(&outlet, Switch::Off, long())
            .expect_err("unplugged");
        assert!(
            matches!(&*error, DriverError::Transport(error) if error.kind == TransportErrorKind::NotFound),
            "{name}: {error:?}"
        );
        assert!(error.to_string().contains("ttyACM0") && !error.may_have_acted());
        bench.plug();
        driver.confirmed(&outlet, Switch::Off, long()).expect("off");
        assert_eq!(driver.state(&outlet, long()), Ok(State::Off), "{name}");
    }
}

#[test]
fn a_prompt_that_never_comes_is_a_timeout_with_what_came() {
    let mut module = numato(8);
    module.has_prompt = false;
    let bench = Bench::pty(module);
    let mut driver = driver("NumatoUSB8", &bench);
    let patience = Duration::from_secs(1);
    let start = Instant::now();
    let error = driver
        .confirmed(&Outlet::new("8"), Switch::On, Deadline::after(patience))
        .expect_err("no prompt");
    assert!(start.elapsed() < patience + Duration::from_secs(4));
    assert!(
        matches!(&*error, DriverError::Transport(error) if error.kind == TransportErrorKind::Timeout),
        "{error:?}"
    );
    assert!(error.to_string().contains(r#"(got "\n\r")"#), "{error}");
}

#[test]
fn conrad_cards_are_brought_into_step() {
    // A wrong checksum once: the frame is sent again.
    let mut chain = conrad(2);
    chain.wrong_checksums = 1;
    let bench = Bench::pty(chain);
    let mut cards = driver("conrad197720", &bench);
    let outlet = Outlet::new("9");
    cards.confirmed(&outlet, Switch::On, long()).expect("on");
    assert_eq!(cards.state(&outlet, long()), Ok(State::On));

    // For ever: an error that says so.
    let mut chain = conrad(1);
    chain.wrong_checksums = u32::MAX;
    let bench = Bench::pty(chain);
    let error = driver("conrad197720", &bench)
        .confirmed(&Outlet::new("0"), Switch::On, long())
        .expect_err("garbled");
    assert!(error.to_string().contains("right checksum"), "{error}");
    assert!(error.is_transient());

    // Half a frame of somebody else stands in the card.
    for stray in 1..=3 {
        struct OutOfStep(Conrad, usize);
        impl Pdu for OutOfStep {
            fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
                for _ in 0..std::mem::take(&mut self.1) {
                    input.insert(0, 0x13);
                }
                self.0.answer(input, is_stuck)
            }
        }
        let bench = Bench::pty(OutOfStep(conrad(1), stray));
        let mut cards = driver("conrad197720", &bench);
        let outlet = Outlet::new("7");
        cards
            .confirmed(&outlet, Switch::On, long())
            .unwrap_or_else(|error| panic!("{stray} stray bytes: {error}"));
        assert_eq!(cards.state(&outlet, long()), Ok(State::On));
    }
}

#[test]
fn a_line_that_echoes_is_no_device() {
    struct Echo;
    impl Pdu for Echo {
        fn answer(&mut self, input: &mut Vec<u8>, _is_stuck: bool) -> Option<Vec<u8>> {
            (!input.is_empty()).then(|| std::mem::take(input))
        }
    }
    let bench = Bench::pty(Echo);
    for name in ["NumatoUSB8", "conrad197720"] {
        let error = driver(name, &bench)
            .confirmed(&Outlet::new("1"), Switch::On, Deadline::after(PATIENCE))
            .expect_err("an echo");
        assert!(error.is_transient(), "{name}: {error:?}");
    }
    // Neither byte echoed is a bit pattern in which relay 8 is on.
    let error = driver("devantech_USB-RLY08B", &bench)
        .confirmed(&Outlet::new("8"), Switch::On, Deadline::after(PATIENCE))
        .expect_err("an echo");
    assert!(error.is_transient(), "{error:?}");
}

#[test]
fn a_line_in_use_is_busy_and_let_go_at_rest() {
    let bench = Bench::pty(Rly::default());
    let (mut first, mut second) = (
        driver("devantech_USB-RLY02", &bench),
        driver("devantech_USB-RLY02", &bench),
    );
    let outlet = Outlet::new("1");
    first.confirmed(&outlet, Switch::On, long()).expect("on");
    let error = second.state(&outlet, long()).expect_err("in use");
    assert!(
        matches!(&error, DriverError::Transport(error) if error.kind == TransportErrorKind::Busy),
        "{error:?}"
    );
    assert!(error.is_transient());
    first.state(&outlet, long()).expect("still ours");
    first.rest(long());
    assert_eq!(second.state(&outlet, long()), Ok(State::On));
}

#[test]
fn a_serial_server_is_reached_over_tcp() {
    for (name, outlet, _, pdu) in dialects() {
        let bench = Bench::tcp(Ipv4Addr::LOCALHOST, pdu);
        let device = format!("socket://{}", bench.address());
        let mut driver = build(name, json!({ "device": device }));
        let outlet = Outlet::new(outlet);
        driver.confirmed(&outlet, Switch::On, long()).expect("on");
        assert_eq!(driver.state(&outlet, long()), Ok(State::On), "{name}");
        driver.confirmed(&outlet, Switch::Off, long()).expect("off");
        assert_eq!(bench.control.connections(), 1, "{name}");
    }
}

#[test]
fn what_is_no_tty_is_refused_in_words() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut driver = build("NumatoUSB1", json!({ "device": file.path() }));
    let error = driver
        .confirmed(&Outlet::new("1"), Switch::On, long())
        .expect_err("no tty");
    assert!(
        matches!(&*error, DriverError::Transport(error) if error.kind == TransportErrorKind::NotFound),
        "{error:?}"
    );
    assert!(!error.may_have_acted());
    assert!(
        !error.may_have_acted() || error.to_string().contains("cannot"),
        "{error}"
    );
}
