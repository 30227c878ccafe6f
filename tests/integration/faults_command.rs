//! A program that fails tells how it ended, and whether it may have switched. What goes wrong for
//! every program alike is in the fault matrix.

use crate::transcript::{Confirmed, Failed};
use pdudaemon::driver::{Driver, DriverError, registry};
use pdudaemon::request::{Outlet, PduName, State, Switch};
use pdudaemon::settings::{Position, Settings};
use pdudaemon::transport::{Deadline, TransportErrorKind};
use std::time::{Duration, Instant};

fn driver(name: &str, settings: serde_json::Value) -> Box<dyn Driver> {
    let at = Position { line: 1, column: 1 };
    let settings = Settings::new(PduName::new("pdu"), name, settings.to_string(), at);
    let spec = registry::find(name).expect("a driver");
    spec.make(&settings).expect("builds").0
}

const AMPLE: Duration = Duration::from_secs(20);

/// Switches on; an end long after the deadline is a failure of its own.
fn on(driver: &mut dyn Driver, patience: Duration) -> Result<(), Failed> {
    let begin = Instant::now();
    let deadline = Deadline::after(patience);
    let result = driver.confirmed(&Outlet::new("1"), Switch::On, deadline);
    assert!(begin.elapsed() < patience + AMPLE, "{result:?}");
    result
}

fn kind(result: &Result<(), Failed>) -> Option<TransportErrorKind> {
    match result.as_ref().map_err(|failed| &failed.error) {
        Err(DriverError::Transport(error)) => Some(error.kind),
        _ => None,
    }
}

/// A command that does `fault` the first time and succeeds from then on.
fn once(fault: &str) -> (tempfile::TempDir, Box<dyn Driver>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mark = folder.path().join("mark");
    let mark = mark.display();
    let line = format!("if [ -e {mark} ]; then exit 0; fi; touch {mark}; {fault}");
    let driver = driver("localcmdline", serde_json::json!({ "cmd_on": line }));
    (folder, driver)
}

#[test]
fn a_failing_command_tells_how_it_ended() {
    for (fault, part) in [
        ("exit 3", "exit status 3"),
        ("echo stuck >&2; exit 1", "exit status 1: \"stuck\""),
        ("kill -SEGV $$", "end by signal 11"),
        ("no-such-program-at-all", "exit status 127"),
        ("head -c 300000 /dev/urandom; exit 1", "exit status 1"),
    ] {
        let (_folder, mut driver) = once(fault);
        let error = on(&mut *driver, AMPLE).expect_err("failed");
        assert!(error.to_string().contains(part), "{fault}: {error}");
        assert!(error.to_string().len() < 1500, "{fault}: {error}");
        assert!(error.is_transient() && error.may_have_acted(), "{error}");
        assert_eq!(on(&mut *driver, AMPLE), Ok(()), "{fault}");
    }
}

#[test]
fn what_cannot_be_started_has_switched_nothing() {
    let mut missing = driver(
        "localcmdline",
        serde_json::json!({ "cmd_on": ["/nonexistent/relay", "%s"] }),
    );
    let error = on(&mut *missing, AMPLE).expect_err("failed");
    assert!(matches!(*error, DriverError::Setup(_)), "{error:?}");
    assert!(!error.may_have_acted() && !error.is_transient());
    let mut forbidden = driver(
        "localcmdline",
        serde_json::json!({ "cmd_on": ["/etc/passwd", "%s"] }),
    );
    let result = on(&mut *forbidden, AMPLE);
    assert_eq!(
        kind(&result),
        Some(TransportErrorKind::NoPermission),
        "{result:?}"
    );
    let mut tool = driver(
        "uhubctl",
        serde_json::json!({ "location": "1-1", "uhubctl_exe": "no-such-uhubctl" }),
    );
    let error = on(&mut *tool, AMPLE).expect_err("failed");
    assert!(
        error
            .to_string()
            .contains("no-such-uhubctl is not installed"),
        "{error}"
    );
    // A hub that is not there, and one that cannot switch, look alike to it.
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("uhubctl");
    // Written by a program of its own: no other test's child may hold it open for writing.
    let script = r#"printf '#!/bin/sh\necho "No compatible devices detected at location 1-1!" >&2\nexit 1\n' >"$0" && chmod +x "$0""#;
    let mut writer = std::process::Command::new("sh");
    let written = writer.arg("-c").arg(script).arg(&program).status();
    assert!(written.is_ok_and(|status| status.success()));
    let mut tool = driver(
        "uhubctl",
        serde_json::json!({ "location": "1-1", "uhubctl_exe": program }),
    );
    let error = on(&mut *tool, AMPLE).expect_err("failed");
    assert!(!error.is_transient() && !error.may_have_acted(), "{error}");
    assert!(error.to_string().contains("at location 1-1"), "{error}");
}

#[test]
fn a_state_that_is_none_is_unknown() {
    for command in [
        "echo perhaps",
        "exit 0",
        "echo on; exit 1",
        "printf '\\377\\0'",
    ] {
        let mut driver = driver("localcmdline", serde_json::json!({ "cmd_status": command }));
        let deadline = Deadline::after(Duration::from_secs(20));
        let state = driver.state(&Outlet::new("1"), deadline);
        assert!(
            matches!(state, Ok(State::Unknown(_))),
            "{command}: {state:?}"
        );
    }
}
