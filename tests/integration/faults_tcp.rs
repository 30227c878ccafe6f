//! A driver over raw TCP keeps its connection while there is work, and believes an answer only when
//! it is that to its own question. What goes wrong on every line alike is in the fault matrix.

use crate::daemon::wait_for;
use crate::sim::fault::Fault;
use crate::sim::pdus::{Ds, Egpms, Eth, Modbus};
use crate::sim::stream::{Bench, Pdu, PduBox};
use crate::transcript::{Confirmed, Failed};
use pdudaemon::driver::{Driver, DriverError, registry};
use pdudaemon::request::{Outlet, PduName, State, Switch};
use pdudaemon::settings::{Position, Settings};
use pdudaemon::transport::{Deadline, TransportErrorKind};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// How much later than its deadline a call may come back on a busy machine.
const SLACK: Duration = Duration::from_secs(4);

pub(crate) fn build(name: &str, settings: Value) -> Box<dyn Driver> {
    let at = Position { line: 1, column: 1 };
    let settings = Settings::new(PduName::new("pdu"), name, settings.to_string(), at);
    registry::find(name)
        .expect("a driver")
        .make(&settings)
        .expect("good settings")
        .0
}

pub(crate) fn long() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// Is `error` what `fault` has to lead to?
pub(crate) fn is_right_class(fault: Fault, error: &DriverError) -> bool {
    use TransportErrorKind as K;
    let kind = match error {
        DriverError::Transport(error) => Some(error.kind),
        _ => None,
    };
    match fault {
        Fault::Silence | Fault::Half | Fault::Drip => kind == Some(K::Timeout),
        // A tty that ended is not there any more for a second try, or its number is another test's.
        Fault::Reset => matches!(kind, Some(K::Closed | K::NotFound | K::Busy)),
        Fault::Garbage | Fault::Endless => {
            // Some bytes are a state, whatever they are.
            matches!(
                *error,
                DriverError::Unexpected { .. } | DriverError::StillShows { .. }
            ) || matches!(kind, Some(K::Garbled | K::Timeout))
        }
        Fault::Stuck => matches!(error, DriverError::StillShows { .. }),
        other => panic!("{other:?} is none of a board"),
    }
}

/// Switches under a fault that begins after `honest` answers, then without it.
pub(crate) fn under_fault(
    driver: &mut dyn Driver,
    outlet: &Outlet,
    fault: Fault,
    patience: Duration,
    heal: impl FnOnce(),
) {
    // A reset comes at once; the answers before it may take their time on a busy machine.
    let patience = match fault {
        Fault::Reset => patience.max(Duration::from_secs(10)),
        _ => patience,
    };
    let start = Instant::now();
    let error = driver
        .confirmed(outlet, Switch::On, Deadline::after(patience))
        .expect_err("a fault");
    let took = start.elapsed();
    assert!(
        is_right_class(fault, &error),
        "{fault:?}: wrong class: {error:?}"
    );
    assert!(took < patience + SLACK, "{fault:?} took {took:?}");
    assert!(error.is_transient(), "{fault:?}: {error}");
    heal();
    // A tty may still be under way to be closed.
    let is_closing = |done: &Result<(), Failed>| {
        let error = done.as_ref().err().map(|failed| &failed.error);
        matches!(error, Some(DriverError::Transport(error)) if error.kind == TransportErrorKind::Busy)
    };
    wait_for("a device that is not busy", || {
        let done = driver.confirmed(outlet, Switch::On, long());
        (!is_closing(&done)).then_some(done)
    })
    .unwrap_or_else(|error| panic!("after {fault:?}: {error}"));
    assert_eq!(driver.state(outlet, long()), Ok(State::On));
    driver
        .confirmed(outlet, Switch::Off, long())
        .unwrap_or_else(|error| panic!("after {fault:?}: {error}"));
    assert_eq!(driver.state(outlet, long()), Ok(State::Off));
    driver.rest(long());
}

pub(crate) const FAULTS: [Fault; 6] = [
    Fault::Silence,
    Fault::Reset,
    Fault::Garbage,
    Fault::Half,
    Fault::Drip,
    Fault::Endless,
];

#[test]
fn silence_hints_at_the_other_framing() {
    for framing in ["tcp", "rtu"] {
        let bench = Bench::tcp(Ipv4Addr::LOCALHOST, Modbus::default());
        bench.control.set(Fault::Silence, 0);
        let settings = json!({"ip": bench.address(), "framing": framing});
        let error = build("modbustcp", settings)
            .state(
                &Outlet::new("1"),
                Deadline::after(Duration::from_millis(200)),
            )
            .expect_err("silent");
        assert!(is_right_class(Fault::Silence, &error), "{error:?}");
        let words = error.to_string();
        assert!(words.contains(r#""framing": "rtu""#), "{words}");
        let is_of_tcp = words.contains("a server of Modbus TCP is silent to");
        assert_eq!(is_of_tcp, framing == "rtu", "{words}");
    }
}

#[test]
fn a_state_that_stays_wrong_is_no_success() {
    let cases: [(&str, Value, PduBox); 2] = [
        ("devantech_ds378", json!({}), Box::new(Ds::default())),
        (
            "egpms",
            json!({"password": "secret"}),
            Box::new(Egpms::default()),
        ),
    ];
    for (name, mut settings, pdu) in cases {
        let bench = Bench::tcp(Ipv4Addr::LOCALHOST, pdu);
        settings["ip"] = json!(bench.address());
        let mut driver = build(name, settings);
        bench.control.set(Fault::Stuck, 0);
        let heal = || bench.control.set(Fault::None, 0);
        under_fault(
            driver.as_mut(),
            &Outlet::new("3"),
            Fault::Stuck,
            Duration::from_secs(20),
            heal,
        );
    }
}

#[test]
fn wrong_passwords_are_told_apart() {
    let cases: [(&str, PduBox); 2] = [
        ("devantech_eth008", Box::new(Eth::default())),
        // Its silence lasts 4 s.
        ("egpms", Box::new(Egpms::default())),
    ];
    for (name, pdu) in cases {
        let bench = Bench::tcp(Ipv4Addr::LOCALHOST, pdu);
        let mut driver = build(name, json!({"ip": bench.address(), "password": "secrex"}));
        let error = driver
            .confirmed(&Outlet::new("1"), Switch::On, long())
            .expect_err("refused");
        assert!(
            matches!(*error, DriverError::LoginRefused(_)),
            "{name}: {error:?}"
        );
        assert!(!error.is_transient() && !error.may_have_acted());
        assert!(!error.to_string().contains("secrex"), "{error}");
    }
}

#[test]
fn a_queue_of_jobs_costs_one_connection_and_a_lost_one_is_opened_again() {
    let cases: [(&str, PduBox); 3] = [
        ("devantech_eth008", Box::new(Eth::default())),
        ("devantech_ds2824", Box::new(Ds::default())),
        ("modbustcp", Box::new(Modbus::default())),
    ];
    for (name, pdu) in cases {
        let bench = Bench::tcp(Ipv4Addr::LOCALHOST, pdu);
        let mut driver = build(name, json!({"ip": bench.address(), "password": "secret"}));
        let outlet = Outlet::new("5");
        for _ in 0..3 {
            driver.confirmed(&outlet, Switch::On, long()).expect("on");
            driver.confirmed(&outlet, Switch::Off, long()).expect("off");
        }
        assert_eq!(bench.control.connections(), 1, "{name}");
        driver.rest(long());
        driver.confirmed(&outlet, Switch::On, long()).expect("on");
        assert_eq!(bench.control.connections(), 2, "{name}");
        // The connection is reset at the next answer: within the call a new one is opened.
        bench.control.set(Fault::ResetOnce, 0);
        driver.confirmed(&outlet, Switch::Off, long()).expect("off");
        assert_eq!(driver.state(&outlet, long()), Ok(State::Off), "{name}");
        assert_eq!(bench.control.connections(), 3, "{name}");
    }
}

#[test]
fn an_answer_to_another_transaction_is_not_taken() {
    /// Answers with the transaction id of the request before.
    struct Late(Modbus);
    impl Pdu for Late {
        fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
            let mut answer = self.0.answer(input, is_stuck)?;
            answer[1] = answer[1].wrapping_sub(1);
            Some(answer)
        }
    }
    let bench = Bench::tcp(Ipv4Addr::LOCALHOST, Late(Modbus::default()));
    let mut driver = build("modbustcp", json!({"ip": bench.address()}));
    let error = driver
        .confirmed(
            &Outlet::new("1"),
            Switch::On,
            Deadline::after(Duration::from_secs(1)),
        )
        .expect_err("refused");
    assert!(is_right_class(Fault::Silence, &error), "{error:?}");
    assert!(
        error.to_string().contains("transaction 0, not 1"),
        "{error}"
    );
}
