//! A driver over SSH logs in as the config says, trusts no other host key, shows no password, and
//! keeps its one connection while there is work. The tests meet OpenSSH's own server.

use crate::sim::sshd::{PASSWORD, Sshd, is_root};
use crate::transcript::{Confirmed, Failed};
use pdudaemon::driver::{Driver, DriverError, registry};
use pdudaemon::request::{Outlet, PduName, State, Switch};
use pdudaemon::settings::{Position, Settings};
use pdudaemon::transport::{Deadline, TransportErrorKind};
use std::time::{Duration, Instant};

/// For calls that must succeed, on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// For calls that must time out.
const SHORT: Duration = Duration::from_millis(800);

/// By how much a call may come back late, on a busy machine.
const LATE: Duration = Duration::from_secs(6);

fn build(name: &str, settings: serde_json::Value) -> Box<dyn Driver> {
    let spec = registry::find(name).expect("a driver");
    let settings = Settings::new(
        PduName::new("pdu"),
        name,
        settings.to_string(),
        Position { line: 1, column: 1 },
    );
    spec.make(&settings).expect("settings that work").0
}

fn with(mut settings: serde_json::Value, more: serde_json::Value) -> serde_json::Value {
    let more = more.as_object().expect("an object").clone();
    settings.as_object_mut().expect("an object").extend(more);
    settings
}

fn on(driver: &mut dyn Driver, wait: Duration) -> Result<(), Failed> {
    driver.confirmed(&Outlet::new("1"), Switch::On, Deadline::after(wait))
}

fn kind(result: Result<(), Failed>) -> TransportErrorKind {
    match result.as_ref().map_err(|failed| &failed.error) {
        Err(DriverError::Transport(error)) => error.kind,
        other => panic!("expected a transport error, got {other:?}"),
    }
}

/// Does `work`, which must fail in the short deadline and not much later.
fn in_time<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    assert!(start.elapsed() < SHORT + LATE, "took {:?}", start.elapsed());
    result
}

#[test]
fn commands_share_one_connection_until_rest() {
    let sshd = Sshd::start(&["", "echo 1", "echo 1", "echo 0", "", "echo 1"]);
    let mut driver = build("ubntmfi3port", sshd.settings());
    on(&mut *driver, LONG).expect("switched");
    let mut state = || driver.state(&Outlet::new("2"), Deadline::after(LONG));
    assert_eq!(state(), Ok(State::On));
    assert_eq!(state(), Ok(State::Off));
    assert_eq!(sshd.connections(), 1);
    driver.rest(Deadline::after(LONG));
    sshd.wait_for_end();
    on(&mut *driver, LONG).expect("switched again");
    assert_eq!(sshd.connections(), 2);
}

#[test]
fn a_connection_lost_while_idle_is_made_anew() {
    let sshd = Sshd::start(&["", ""]);
    let mut driver = build("acme", sshd.settings());
    on(&mut *driver, LONG).expect("switched");
    sshd.cut();
    on(&mut *driver, LONG).expect("switched over a new connection");
    assert_eq!(sshd.connections(), 2);
}

#[test]
fn a_password_logs_in_and_is_nowhere_to_be_seen() {
    if !is_root() {
        eprintln!("not tried: sshd reads passwords as root only");
        return;
    }
    // Looked for while the client runs; the brackets keep the search itself from being found.
    let spy = "grep -alE 'open [s]esame' /proc/[0-9]*/cmdline /proc/[0-9]*/environ; true";
    let sshd = Sshd::with_password(&[spy, "echo 1"]);
    let settings = with(
        sshd.settings(),
        serde_json::json!({"username": "ubnt", "password": PASSWORD}),
    );
    let mut driver = build("ubntmfi3port", settings.clone());
    on(&mut *driver, LONG).expect("switched");
    let sshd = Sshd::with_password(&[spy]);
    let read = with(
        settings,
        serde_json::json!({
            "ip": format!("127.0.0.1:{}", sshd.port), "known_hosts": sshd.file("known_hosts"),
        }),
    );
    let state = build("ubntmfi3port", read.clone()).state(&Outlet::new("1"), Deadline::after(LONG));
    assert_eq!(
        state,
        Ok(State::Unknown("\"\"".into())),
        "the password was seen"
    );
    // And a wrong one is refused, in the words of the server, without the password.
    let wrong = with(read, serde_json::json!({"password": "close sesame"}));
    let error = on(&mut *build("ubntmfi3port", wrong), LONG).expect_err("refused");
    assert!(matches!(*error, DriverError::LoginRefused(_)), "{error:?}");
    assert!(!error.to_string().contains("sesame"), "{error}");
}

#[test]
fn a_key_that_is_not_listed_is_refused() {
    let sshd = Sshd::start(&["echo never"]);
    let stranger = serde_json::json!({"key_file": Sshd::strangers_key()});
    let mut driver = build("acme", with(sshd.settings(), stranger));
    let error = on(&mut *driver, LONG).expect_err("refused");
    assert!(matches!(*error, DriverError::LoginRefused(_)), "{error:?}");
    assert!(!error.is_transient() && !error.may_have_acted());
    assert!(sshd.commands().is_empty());
}

#[test]
fn host_keys_are_checked() {
    let sshd = Sshd::start(&["", "", "echo 1"]);
    let known_hosts = |file: &str| with(sshd.settings(), serde_json::json!({"known_hosts": file}));
    // Somebody else's key at this address: refused by every driver.
    for driver in ["acme", "ubntmfi3port"] {
        let mut driver = build(driver, known_hosts(&sshd.known_stranger()));
        assert_eq!(kind(on(&mut *driver, LONG)), TransportErrorKind::Untrusted);
    }
    let unverified = serde_json::json!({"verify_hostkey": "false"});
    let mut driver = build(
        "ubntmfi3port",
        with(known_hosts(&sshd.known_stranger()), unverified.clone()),
    );
    assert_eq!(kind(on(&mut *driver, LONG)), TransportErrorKind::Untrusted);
    // An unknown one: refused by mFi, unless told otherwise; remembered by ACME.
    let empty = sshd.file("empty");
    let mut driver = build("ubntmfi3port", known_hosts(&empty));
    assert_eq!(kind(on(&mut *driver, LONG)), TransportErrorKind::Untrusted);
    assert!(sshd.commands().is_empty());
    on(&mut *build("acme", known_hosts(&empty)), LONG).expect("accepted");
    assert_eq!(sshd.commands().len(), 1);
    assert!(
        std::fs::read_to_string(&empty)
            .expect("written")
            .contains("ssh-ed25519")
    );
    let fresh = with(known_hosts(&sshd.file("fresh")), unverified);
    on(&mut *build("ubntmfi3port", fresh), LONG).expect("accepted");
}

#[test]
fn a_failing_command_is_told_from_a_failing_client() {
    let sshd = Sshd::start(&["echo no relay >&2; exit 3", "exit 255", ""]);
    let mut driver = build("acme", sshd.settings());
    for status in ["exit status 3: \"no relay\"", "exit status 255"] {
        match on(&mut *driver, LONG).map_err(|failed| failed.error) {
            // It may have switched before it failed.
            Err(DriverError::Unexpected { got, .. }) => assert!(got.contains(status), "{got}"),
            other => panic!("expected the exit status, got {other:?}"),
        }
    }
    on(&mut *driver, LONG).expect("switched");
    assert_eq!(sshd.connections(), 1);
}

#[test]
fn a_command_with_the_words_of_a_refused_login_may_have_acted() {
    let script = |words: &str| format!("echo '{words}' >&2; exit 255");
    let words = [
        "root@h: Permission denied (publickey).",
        "ssh: connect to host h port 22: Connection refused",
        "Host key verification failed.",
        "Unable to negotiate with h port 22: no matching cipher found.",
    ];
    let scripts = words.map(script);
    let sshd = Sshd::start(&scripts.each_ref().map(String::as_str));
    let mut driver = build("acme", sshd.settings());
    for words in words {
        let error = on(&mut *driver, LONG).expect_err("failed");
        assert!(error.may_have_acted(), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!((sshd.commands().len(), sshd.connections()), (4, 1));
}

#[test]
fn a_command_that_hangs_ends_with_the_deadline() {
    // Silence, an endless answer, and one that drips.
    for script in ["sleep 30", "yes", "while :; do printf x; sleep 1; done"] {
        let sshd = Sshd::start(&["", script, ""]);
        let mut driver = build("acme", sshd.settings());
        on(&mut *driver, LONG).expect("switched");
        let result = in_time(|| on(&mut *driver, SHORT));
        assert_eq!(kind(result), TransportErrorKind::Timeout, "{script}");
        on(&mut *driver, LONG).unwrap_or_else(|error| panic!("after {script}: {error}"));
    }
}

#[test]
fn a_connection_cut_in_the_middle_is_closed_and_the_next_one_works() {
    let sshd = Sshd::start(&["sleep 30", ""]);
    let mut driver = build("acme", sshd.settings());
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while sshd.commands().is_empty() {
                std::thread::sleep(Duration::from_millis(10));
            }
            sshd.cut();
        });
        on(&mut *driver, LONG)
    });
    assert_eq!(kind(result), TransportErrorKind::Closed);
    on(&mut *driver, LONG).expect("switched");
}

#[test]
fn old_firmware_is_spoken_to_when_wanted() {
    let sshd = Sshd::old(&["echo 1"]);
    let state = |more| {
        let mut driver = build("ubntmfi3port", with(sshd.settings(), more));
        driver.state(&Outlet::new("1"), Deadline::after(LONG))
    };
    assert_eq!(state(serde_json::json!({})), Ok(State::On));
    let modern = state(serde_json::json!({"legacy_algorithms": false}));
    assert!(
        matches!(&modern, Err(DriverError::Setup(words)) if words.contains("Unable to negotiate")),
        "{modern:?}"
    );
}
