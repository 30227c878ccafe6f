//! An IPMI call believes an answer only when its session's keys say whose it is, tells what is wrong
//! with a login, and gives every session back. What goes wrong on every line alike is in the fault
//! matrix; `peer_ipmi` has the peers that nobody here wrote.

use crate::daemon::{Lab, wait_for};
use crate::faults_tcp::{build, long};
use crate::sim::ipmi::{MD5, NONE, PASSWORD, Running, STRAIGHT, Setup, Step, USER};
use crate::transcript::{Confirmed, Failed};
use pdudaemon::driver::{Driver, DriverError};
use pdudaemon::request::{Outlet, State, Switch};
use pdudaemon::transport::{Deadline, TransportErrorKind};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

/// What the tests give a call that must fail for want of an answer.
const SHORT: Duration = Duration::from_millis(1500);

fn outlet() -> Outlet {
    Outlet::new("1")
}

/// The driver of the running BMC, with these keys beside the usual ones.
fn driver(running: &Running, keys: Value) -> Box<dyn Driver> {
    let mut settings = json!({
        "ip": running.address().to_string(), "username": USER, "password": PASSWORD,
    });
    let own = settings.as_object_mut().expect("an object");
    own.extend(keys.as_object().expect("an object").clone());
    build("ipmi", settings)
}

fn logins(running: &Running) -> Vec<String> {
    running.bmc.lock().expect("lock").logins.clone()
}

/// Switches on, off and on, reading back each time, and gives the session back.
fn works(running: &Running, keys: Value) -> Result<(), Failed> {
    let mut driver = driver(running, keys);
    for to in [Switch::On, Switch::Off, Switch::On] {
        driver.confirmed(&outlet(), to, long())?;
        assert_eq!(driver.state(&outlet(), long())?, State::from(to));
    }
    driver.rest(long());
    assert_eq!(running.sessions(), 0, "the session is closed");
    Ok(())
}

fn kind(error: &DriverError) -> Option<TransportErrorKind> {
    match error {
        DriverError::Transport(error) => Some(error.kind),
        _ => None,
    }
}

#[test]
fn the_best_that_both_speak_is_spoken() {
    let auto = json!({});
    for (suites, tells_suites, keys, expected) in [
        (vec![3, 17], true, auto.clone(), "17 ADMIN"),
        (vec![3, 17], false, auto.clone(), "17 ADMIN"),
        (vec![3], true, auto.clone(), "3 ADMIN"),
        (vec![3], false, auto.clone(), "3 ADMIN"),
        (vec![3, 17], true, json!({ "suite": 3 }), "3 ADMIN"),
        (vec![17], true, json!({ "suite": "17" }), "17 ADMIN"),
        (vec![], true, auto, "md5 ADMIN"),
    ] {
        let running = Running::start(Setup {
            suites,
            tells_suites,
            ..Setup::default()
        });
        works(&running, keys).unwrap_or_else(|error| panic!("{expected}: {error}"));
        assert_eq!(logins(&running), [expected], "one login for six calls");
        assert_eq!(running.controls(), [1, 0, 1]);
    }
}

#[test]
fn silence_to_what_an_old_bmc_does_not_know_is_no_end() {
    let running = Running::start(Setup {
        suites: vec![3, 17],
        ..Setup::default()
    });
    // Neither the list, nor the newer suite's algorithms.
    let mut opens = 0;
    running.spoil(move |step, datagram| match step {
        Step::Suites => Vec::new(),
        Step::Open if datagram[16 + 16] == 3 => {
            opens += 1;
            assert!(opens < 20);
            Vec::new()
        }
        _ => vec![datagram],
    });
    let mut driver = driver(&running, json!({}));
    let patient = Deadline::after(Duration::from_secs(40));
    assert_eq!(driver.state(&outlet(), patient), Ok(State::Off));
    assert_eq!(logins(&running), ["3 ADMIN"]);
}

#[test]
fn an_old_bmc_has_three_ways() {
    for (ways, signs_each, expected) in [
        (vec![NONE, MD5, STRAIGHT], true, "md5 ADMIN"),
        (vec![MD5], false, "md5 ADMIN"),
        (vec![NONE, STRAIGHT], true, "password ADMIN"),
        (vec![NONE], true, "none ADMIN"),
    ] {
        let running = Running::start(Setup {
            suites: Vec::new(),
            ways,
            signs_each,
            ..Setup::default()
        });
        works(&running, json!({})).unwrap_or_else(|error| panic!("{expected}: {error}"));
        assert_eq!(logins(&running), [expected]);
    }
}

#[test]
fn a_password_that_comes_back_is_in_no_error() {
    let running = Running::start(Setup {
        suites: Vec::new(),
        ways: vec![STRAIGHT],
        ..Setup::default()
    });
    // Its header has the password in clear; a checksum is wrong.
    running.spoil(|step, mut datagram| {
        if step == Step::Status {
            *datagram.last_mut().expect("a checksum") ^= 1;
        }
        vec![datagram]
    });
    let mut driver = driver(&running, json!({}));
    let error = driver.state(&outlet(), Deadline::after(SHORT));
    let error = error.expect_err("garbled").to_string();
    assert!(!error.contains(PASSWORD), "{error}");
}

/// What a login that cannot succeed comes to.
fn refused(setup: Setup, keys: Value) -> DriverError {
    let running = Running::start(setup);
    let mut driver = driver(&running, keys);
    let failed = driver.confirmed(&outlet(), Switch::On, long());
    let failed = failed.expect_err("refused");
    assert!(!failed.may_have_acted(), "certain: {failed}");
    assert!(running.controls().is_empty());
    failed.error
}

#[test]
fn what_is_wrong_with_a_login_is_told_apart() {
    let wrong = json!({ "password": "not it" });
    let old = || Setup {
        suites: Vec::new(),
        ..Setup::default()
    };
    let only = |suites: &[u8]| Setup {
        suites: suites.to_vec(),
        ..Setup::default()
    };
    for (setup, keys, expected) in [
        (
            Setup::default(),
            wrong.clone(),
            "wrong password of user \"ADMIN\"",
        ),
        (old(), wrong, "silent to what the password signs"),
        (
            Setup::default(),
            json!({ "username": "nobody" }),
            "the BMC does not know user \"nobody\" (RAKP 1: unauthorized name (status 0d))",
        ),
        (
            old(),
            json!({ "username": "nobody" }),
            "the BMC does not know user \"nobody\"",
        ),
        (
            Setup {
                privilege: 2,
                ..Setup::default()
            },
            json!({}),
            "does not give user \"ADMIN\" the privilege operator",
        ),
        (
            Setup {
                privilege: 3,
                ..old()
            },
            json!({ "privilege": "administrator" }),
            "does not give user \"ADMIN\" the privilege administrator",
        ),
        (
            Setup {
                kg: Some(b"another key".to_vec()),
                ..Setup::default()
            },
            json!({}),
            "the BMC has a key kg of its own",
        ),
        (
            Setup {
                kg: Some(b"another key".to_vec()),
                ..Setup::default()
            },
            json!({ "kg": "not this" }),
            "not the key kg",
        ),
    ] {
        let error = refused(setup, keys);
        let is_login = matches!(error, DriverError::LoginRefused(_));
        assert!(is_login, "expected {expected:?}, got {error:?}");
        let text = error.to_string();
        assert!(text.contains(expected), "expected {expected:?} in {text:?}");
        for secret in [PASSWORD, "not it", "not this"] {
            assert!(!text.contains(secret), "a secret in {text:?}");
        }
    }
    for (setup, keys, expected) in [
        (
            only(&[3]),
            json!({ "suite": 17 }),
            "does not offer the cipher suite 17 (no matching cipher suite (status 11))",
        ),
        (
            only(&[8]),
            json!({}),
            "offers the cipher suites 8, and neither 17 nor 3",
        ),
        (old(), json!({ "suite": 3 }), "speaks only IPMI 1.5"),
    ] {
        let error = refused(setup, keys);
        assert_eq!(kind(&error), Some(TransportErrorKind::Incompatible));
        let text = error.to_string();
        assert!(text.contains(expected), "expected {expected:?} in {text:?}");
    }
}

#[test]
fn a_key_of_the_bmc_is_taken_as_text_and_as_hex() {
    let running = Running::start(Setup {
        kg: Some(b"key".to_vec()),
        ..Setup::default()
    });
    for kg in ["key", "0x6b6579"] {
        works(&running, json!({ "kg": kg })).unwrap_or_else(|error| panic!("{kg}: {error}"));
    }
}

#[test]
fn a_bmc_without_a_free_session_is_busy_and_gets_back_what_it_gave() {
    for (slots, suites) in [(1, vec![3, 17]), (1, vec![])] {
        let running = Running::start(Setup {
            slots,
            suites,
            ..Setup::default()
        });
        let mut first = driver(&running, json!({}));
        first.confirmed(&outlet(), Switch::On, long()).expect("on");
        assert_eq!(running.sessions(), 1);
        let mut second = driver(&running, json!({}));
        let short = Deadline::after(SHORT);
        let failed = second.confirmed(&outlet(), Switch::Off, short);
        let failed = failed.expect_err("no session left");
        assert!(!failed.may_have_acted());
        if !running.bmc.lock().expect("lock").setup.suites.is_empty() {
            assert_eq!(kind(&failed.error), Some(TransportErrorKind::Busy));
            assert!(failed.to_string().contains("no session left to give"));
        }
        first.rest(long());
        second
            .confirmed(&outlet(), Switch::Off, long())
            .expect("off");
        // One that is given up in the middle is closed as well.
        drop(second);
        wait_for("the session is closed", || {
            (running.sessions() == 0).then_some(())
        });
    }
}

#[test]
fn an_answer_that_the_session_did_not_sign_is_none() {
    type Spoil = fn(Vec<u8>) -> Vec<u8>;
    let flip: Spoil = |mut datagram| {
        let at = datagram.len() - 1;
        datagram[at] ^= 1;
        datagram
    };
    let encrypted: Spoil = |mut datagram| {
        datagram[40] ^= 1;
        datagram
    };
    let elsewhere: Spoil = |mut datagram| {
        datagram[6] ^= 1;
        datagram
    };
    let half: Spoil = |datagram| datagram[..datagram.len() / 2].to_vec();
    // On, in the open, as anybody may send it.
    let open: Spoil = |_| {
        let message = [0x81, 0x04, 0x7b, 0x20, 0, 0x01, 0, 0x21, 0x10, 0x40, 0x6e];
        let mut datagram = vec![6, 0, 0xff, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        datagram.push(message.len() as u8);
        datagram.extend(message);
        datagram
    };
    let silent: Spoil = |_| b"nonsense".to_vec();
    for suites in [vec![17], vec![3]] {
        let spoils = [flip, encrypted, elsewhere, half, open, silent];
        for (number, spoil) in spoils.into_iter().enumerate() {
            let running = Running::start(Setup {
                suites: suites.clone(),
                ..Setup::default()
            });
            running.bmc.lock().expect("lock").is_on = true;
            running.spoil(move |step, datagram| match step {
                Step::Status => vec![spoil(datagram)],
                _ => vec![datagram],
            });
            let mut driver = driver(&running, json!({}));
            let error = driver.state(&outlet(), Deadline::after(SHORT));
            let error = error.expect_err("nothing to believe");
            let kind = kind(&error);
            let allowed = [TransportErrorKind::Garbled, TransportErrorKind::Timeout];
            assert!(
                kind.is_some_and(|kind| allowed.contains(&kind)),
                "spoil {number}: {error:?}"
            );
            running.spoil(|_, datagram| vec![datagram]);
            assert_eq!(driver.state(&outlet(), long()), Ok(State::On));
        }
    }
}

#[test]
fn an_old_answer_without_its_signature_is_none() {
    let running = Running::start(Setup {
        suites: Vec::new(),
        ..Setup::default()
    });
    running.spoil(|step, mut datagram| {
        if step == Step::Status {
            datagram[13] ^= 1;
        }
        vec![datagram]
    });
    let mut driver = driver(&running, json!({}));
    let error = driver.state(&outlet(), Deadline::after(SHORT));
    let error = error.expect_err("nothing to believe");
    assert_eq!(kind(&error), Some(TransportErrorKind::Garbled), "{error}");
}

#[test]
fn a_command_that_is_sent_again_is_carried_out_once() {
    for suites in [vec![17], vec![]] {
        let running = Running::start(Setup {
            suites,
            ..Setup::default()
        });
        // Each first answer is lost, and each second one comes twice.
        let mut lost = Vec::new();
        running.spoil(move |step, datagram| {
            if lost.contains(&step) {
                return vec![datagram.clone(), datagram];
            }
            lost.push(step);
            Vec::new()
        });
        let mut driver = driver(&running, json!({}));
        let patient = Deadline::after(Duration::from_secs(60));
        driver
            .confirmed(&outlet(), Switch::On, patient)
            .expect("on");
        assert_eq!(running.controls(), [1]);
        assert_eq!(logins(&running).len(), 1);
    }
}

#[test]
fn silence_after_the_command_leaves_it_in_doubt() {
    let running = Running::start(Setup::default());
    running.spoil(|step, datagram| match step {
        Step::Control => Vec::new(),
        _ => vec![datagram],
    });
    let mut driver = driver(&running, json!({}));
    let failed = driver.confirmed(&outlet(), Switch::On, Deadline::after(SHORT));
    let failed = failed.expect_err("no answer");
    assert_eq!(kind(&failed.error), Some(TransportErrorKind::Timeout));
    assert!(failed.may_have_acted());
    assert!(failed.to_string().contains("to Chassis Control in"));
    assert_eq!(running.controls(), [1], "its copies are the same request");
}

#[test]
fn a_late_answer_to_an_older_request_is_not_taken_for_the_new_one() {
    let running = Running::start(Setup::default());
    let mut driver = driver(&running, json!({}));
    running.bmc.lock().expect("lock").is_on = true;
    let mut before: Option<Vec<u8>> = None;
    running.spoil(move |step, datagram| match (step, &before) {
        (Step::Status, None) => {
            before = Some(datagram.clone());
            vec![datagram]
        }
        (Step::Status, Some(old)) => vec![old.clone(), old.clone(), datagram],
        _ => vec![datagram],
    });
    assert_eq!(driver.state(&outlet(), long()), Ok(State::On));
    running.bmc.lock().expect("lock").is_on = false;
    assert_eq!(driver.state(&outlet(), long()), Ok(State::Off));
}

#[test]
fn no_number_of_a_request_comes_twice_in_a_session() {
    let running = Running::start(Setup::default());
    let mut driver = driver(&running, json!({}));
    for _ in 0..130 {
        assert_eq!(driver.state(&outlet(), long()), Ok(State::Off));
    }
    driver.rest(long());
    // 64 numbers, some of them for the login.
    assert_eq!(logins(&running).len(), 3);
    assert_eq!(running.sessions(), 0);
}

#[test]
fn a_bmc_that_forgot_the_session_costs_one_attempt() {
    let running = Running::start(Setup::default());
    let mut driver = driver(&running, json!({}));
    driver.confirmed(&outlet(), Switch::On, long()).expect("on");
    running.bmc.lock().expect("lock").forget();
    let error = driver.state(&outlet(), Deadline::after(SHORT));
    let error = error.expect_err("silence");
    assert!(error.is_transient(), "{error}");
    assert_eq!(driver.state(&outlet(), long()), Ok(State::On));
}

#[test]
fn a_reboot_outlives_the_death_of_its_daemon() {
    let running = Running::start(Setup::default());
    let lab = Lab::new();
    let pdu = json!({
        "driver": "ipmi", "ip": running.address().to_string(), "username": USER,
        "password": PASSWORD,
    });
    let more = json!({ "daemon": { "state_directory": lab.path("state") } });
    let start = || lab.start_with(json!({ "server7": pdu.clone() }), more.clone(), &[]);
    let daemon = start();
    // Nobody waits for the answer.
    let request = b"GET /power/control/reboot?hostname=server7&port=1&delay=3600 HTTP/1.0\r\n\r\n";
    let mut client = daemon.connect();
    client.write_all(request).expect("asked");
    wait_for("the off", || (running.controls() == [0]).then_some(()));
    daemon.signal(rustix::process::Signal::KILL);
    daemon.wait();
    let daemon = start();
    wait_for("the on", || (running.controls() == [0, 1]).then_some(()));
    daemon.stop();
}
