//! A driver over telnet finds its way through the menus, logs in once for a whole queue, and checks
//! what came of each command. What goes wrong on every line alike is in the fault matrix.

use crate::sim::apc::{ApcPdu, Behaviour, Layout};
use crate::sim::port::Served;
use crate::transcript::{Confirmed, Failed};
use pdudaemon::config::Config;
use pdudaemon::dispatch::{Dispatcher, Stop};
use pdudaemon::driver::{Driver, DriverError, registry};
use pdudaemon::request::{Action, Outlet, PduName, Request, State, Switch, Target};
use pdudaemon::settings::{Position, Settings};
use pdudaemon::transport::{Deadline, TransportErrorKind};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// For calls that must succeed, on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// For calls that must time out.
const SHORT: Duration = Duration::from_millis(500);

fn build(name: &str, port: u16, settings: serde_json::Value) -> Box<dyn Driver> {
    let mut settings = settings;
    settings["ip"] = format!("127.0.0.1:{port}").into();
    let settings = Settings::new(
        PduName::new("pdu"),
        name,
        settings.to_string(),
        Position { line: 1, column: 1 },
    );
    let spec = registry::find(name).expect("a driver");
    spec.make(&settings).expect("settings that work").0
}

fn apc(pdu: &ApcPdu) -> Box<dyn Driver> {
    build(
        "apc7932",
        pdu.port,
        serde_json::json!({"password": "secret"}),
    )
}

fn switch(driver: &mut dyn Driver, outlet: &str, to: Switch) -> Result<(), Failed> {
    driver.confirmed(&Outlet::new(outlet), to, Deadline::after(LONG))
}

fn state(driver: &mut dyn Driver, outlet: &str) -> Result<State, DriverError> {
    driver.state(&Outlet::new(outlet), Deadline::after(LONG))
}

fn kind(error: &DriverError) -> TransportErrorKind {
    match error {
        DriverError::Transport(error) => error.kind,
        other => panic!("expected a transport error, got {other:?}"),
    }
}

#[test]
fn the_menu_walker_finds_its_way_in_every_layout() {
    for layout in [
        Layout::Firmware2,
        Layout::Firmware3,
        Layout::Ap9606,
        Layout::Restricted,
    ] {
        for (eager, echoes) in [(false, true), (true, true), (true, false)] {
            let pdu = ApcPdu::start(Behaviour {
                eager,
                echoes,
                ..Behaviour::new(layout)
            });
            let mut driver = apc(&pdu);
            let at = format!("{layout:?}, eager {eager}, echoes {echoes}");
            for outlet in ["1", "8", "2"] {
                switch(&mut *driver, outlet, Switch::On)
                    .unwrap_or_else(|error| panic!("{at}: {error}"));
            }
            switch(&mut *driver, "2", Switch::Off).unwrap_or_else(|error| panic!("{at}: {error}"));
            assert_eq!(pdu.on(), [1, 8], "{at}");
            assert_eq!(state(&mut *driver, "8"), Ok(State::On), "{at}");
            assert_eq!(state(&mut *driver, "7"), Ok(State::Off), "{at}");
            let error = switch(&mut *driver, "9", Switch::On).expect_err("no outlet 9");
            assert!(
                matches!(*error, DriverError::NoSuchOutlet { .. }),
                "{at}: {error}"
            );
            assert_eq!(state(&mut *driver, "1"), Ok(State::On), "{at}");
            driver.rest(Deadline::after(LONG));
            assert_eq!((pdu.logins(), pdu.logouts()), (2, 2), "{at}");
        }
    }
}

#[test]
fn twenty_four_outlets_cost_one_login() {
    for eager in [false, true] {
        let pdu = ApcPdu::start(Behaviour {
            outlets: 24,
            eager,
            ..Behaviour::new(Layout::Firmware3)
        });
        let mut driver = apc(&pdu);
        for number in 1..=24 {
            switch(&mut *driver, &number.to_string(), Switch::On).expect("switched");
        }
        assert_eq!(pdu.on(), Vec::from_iter(1..=24));
        assert_eq!(state(&mut *driver, "24"), Ok(State::On));
        driver.rest(Deadline::after(LONG));
        assert_eq!((pdu.logins(), pdu.logouts()), (1, 1), "eager {eager}");
    }
}

#[test]
fn twenty_four_queued_outlets_cost_one_login() {
    let pdu = ApcPdu::start(Behaviour {
        outlets: 24,
        ..Behaviour::new(Layout::Firmware3)
    });
    let config = format!(
        r#"{{"daemon": {{"hostname": "127.0.0.1"}}, "pdus": {{"rack": {{"driver": "apc7952", "ip": "127.0.0.1:{}",
           "password": "secret"}}}}}}"#,
        pdu.port
    );
    let config = Config::parse(&config, "test").expect("a config");
    let dispatcher = Dispatcher::start(&config).expect("started");
    let (sender, receiver) = crossbeam_channel::unbounded();
    for number in 1..=24 {
        let sender = sender.clone();
        let request = Request {
            client: "test".into(),
            target: Target::Outlet {
                pdu: "rack".into(),
                outlet: Outlet::new(number.to_string()),
            },
            action: Action::Switch(Switch::On),
            delay: None,
            is_background: false,
            may_know_names: false,
        };
        let reply = move |outcome| sender.send(outcome).expect("the test waits");
        dispatcher.submit(request, Box::new(reply));
    }
    for _ in 1..=24 {
        let outcome = receiver.recv_timeout(LONG * 3).expect("an outcome");
        outcome.expect("switched");
    }
    dispatcher.stop(Stop::Now);
    dispatcher.join();
    assert_eq!(pdu.on(), Vec::from_iter(1..=24));
    assert_eq!((pdu.logins(), pdu.logouts()), (1, 1));
}

#[test]
fn a_session_that_was_lost_while_idle_is_opened_again() {
    let pdu = ApcPdu::start(Behaviour::new(Layout::Firmware2));
    let mut driver = apc(&pdu);
    switch(&mut *driver, "1", Switch::On).expect("switched");
    pdu.cut();
    switch(&mut *driver, "2", Switch::On).expect("switched in a new session");
    assert_eq!((pdu.on(), pdu.logins()), (vec![1, 2], 2));
}

#[test]
fn somebody_else_logged_in_is_busy_until_he_rests() {
    let pdu = ApcPdu::start(Behaviour::new(Layout::Firmware3));
    let mut first = apc(&pdu);
    switch(&mut *first, "1", Switch::On).expect("switched");
    let mut second = apc(&pdu);
    let error = switch(&mut *second, "2", Switch::On).expect_err("busy");
    assert!(error.is_transient() && !error.may_have_acted(), "{error:?}");
    assert_eq!(kind(&error), TransportErrorKind::Busy);
    first.rest(Deadline::after(LONG));
    // The PDU notices the end of the session in its own time.
    let deadline = Instant::now() + LONG;
    while switch(&mut *second, "2", Switch::On).is_err() {
        assert!(Instant::now() < deadline, "still busy");
    }
    assert_eq!(pdu.on(), [1, 2]);
}

#[test]
fn a_wrong_password_is_refused_at_once_and_not_shown() {
    let pdu = ApcPdu::start(Behaviour::new(Layout::Firmware3));
    let mut driver = build("AP7920".replace("AP", "apc").as_str(), pdu.port, {
        serde_json::json!({"password": "letmein"})
    });
    let error = switch(&mut *driver, "1", Switch::On).expect_err("refused");
    assert!(matches!(*error, DriverError::LoginRefused(_)), "{error:?}");
    assert!(!error.to_string().contains("letmein"), "{error}");
    assert_eq!(pdu.logins(), 0);
}

#[test]
fn the_answer_to_yes_is_checked() {
    let pdu = |words, obeys| {
        ApcPdu::start(Behaviour {
            words,
            obeys,
            ..Behaviour::new(Layout::Firmware2)
        })
    };
    // Without a word the state is read back.
    let silent = pdu(None, true);
    switch(&mut *apc(&silent), "3", Switch::On).expect("switched, by its state");
    let lazy = pdu(None, false);
    let error = switch(&mut *apc(&lazy), "3", Switch::On).expect_err("not switched");
    assert!(
        matches!(*error, DriverError::StillShows { .. }),
        "{error:?}"
    );
    let unwilling = pdu(Some("Command failed: outlet is locked."), false);
    let mut driver = apc(&unwilling);
    match switch(&mut *driver, "3", Switch::On).map_err(|failed| failed.error) {
        Err(DriverError::Refused(words)) => assert!(words.contains("outlet is locked"), "{words}"),
        other => panic!("expected a refusal, got {other:?}"),
    }
    // Left politely: the PDU has its only session free again.
    assert_eq!(unwilling.logouts(), 1);
}

#[test]
fn the_screen_of_another_outlet_switches_nothing() {
    for layout in [Layout::Firmware2, Layout::Firmware3, Layout::Ap9606] {
        let pdu = ApcPdu::start(Behaviour {
            mixes: true,
            ..Behaviour::new(layout)
        });
        let error = switch(&mut *apc(&pdu), "3", Switch::On).expect_err("another outlet");
        assert!(
            matches!(*error, DriverError::Unexpected { .. }),
            "{error:?}"
        );
        assert!(pdu.on().is_empty());
    }
}

#[test]
fn an_echoed_password_is_not_shown() {
    let pdu = Served::connections(|mut stream, _| {
        let _ = stream.write_all(b"100 HELLO\r\n");
        let (mut line, mut rest) = ([0; 64], Vec::new());
        let more = stream.read(&mut line).unwrap_or_default();
        let _ = stream.write_all(&line[..more]);
        // To the end of the driver's patience.
        let _ = stream.read_to_end(&mut rest);
    });
    let port = pdu.address.port();
    let mut driver = build("netio4", port, serde_json::json!({"password": "s3cret"}));
    let error = driver
        .confirmed(&Outlet::new("1"), Switch::On, Deadline::after(SHORT))
        .expect_err("no answer");
    drop(driver);
    let text = error.to_string();
    assert!(
        text.contains("login admin ***") && !text.contains("s3cret"),
        "{text}"
    );
}

#[test]
fn settings_that_cannot_be_typed_are_refused() {
    let build = |name: &str, text: &str| {
        let settings = Settings::new(
            PduName::new("pdu"),
            name,
            text,
            Position { line: 1, column: 1 },
        );
        registry::find(name)
            .expect("a driver")
            .make(&settings)
            .map(drop)
    };
    for (name, text, key) in [
        ("apc7900", r#"{"username": "a\rb"}"#, "username"),
        ("apc7900", r#"{"password": "a\nb"}"#, "password"),
        ("netio4", r#"{"password": "a b"}"#, "password"),
        ("gude1202", r#"{"telnetport": 0}"#, "telnetport"),
        ("gude1202", r#"{"telnetport": "x"}"#, "telnetport"),
        ("ubntmfi3port", r#"{"sshport": 70000}"#, "sshport"),
        ("acme", r#"{"username": "-oProxyCommand=x"}"#, "username"),
    ] {
        let error = build(name, text).expect_err(text);
        assert_eq!(error.key.as_deref(), Some(key), "{text}: {error}");
    }
    assert!(build("APC7900", r#"{"telnetport": "23", "password": 1234}"#).is_ok());
}
