//! A profile's own tests: the engine talks to a scripted PDU in place of the real one, and what it
//! sends and makes of the answers is held against the test.

use super::script::{Act, Line, Script, Stage};
use super::{Bound, Does, Profile, Test};
use crate::driver::confirm::Confirm;
use crate::driver::{Built, Driver, DriverError};
use crate::request::{Outlet, PduName, State};
use crate::settings::{Position, Settings};
use crate::transport::{Attempt, Deadline};
use std::sync::Arc;
use std::time::Duration;

/// So long a test may take: the scripted PDU answers at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// The profile with what a test says of its PDU.
pub(crate) fn bound(profile: &Arc<Profile>, test: &Test) -> Result<Bound, String> {
    Bound::read(profile, &settings(profile, test)).map_err(|error| error.to_string())
}

/// Plays the dialogue of a test with the driver that `build` makes; says what went another way.
/// `plain` writes what is sent in the one form that it is compared in.
pub(crate) fn play(
    profile: &Arc<Profile>,
    test: &Test,
    plain: impl Fn(&str) -> String,
    build: impl FnOnce(Bound, Stage) -> Built,
) -> Result<(), String> {
    let Does::Wire {
        outlet,
        action,
        script,
    } = &test.does
    else {
        return Err("a walk is for SNMP: expected wire".to_owned());
    };
    let stage = Stage::new(script, plain);
    let mut driver = build(bound(profile, test)?, stage.clone()).driver;
    act(driver.as_mut(), outlet, *action, script, &stage)
}

/// The dialogue of a test as it is with the test's own keys: whatever is sent, the PDU gives the
/// answers of the test. Also what comes of it.
pub(crate) fn rewritten(
    profile: &Arc<Profile>,
    test: &Test,
    build: impl FnOnce(Bound, Stage) -> Built,
) -> Result<(Vec<Line>, String), String> {
    let Does::Wire {
        outlet,
        action,
        script,
    } = &test.does
    else {
        return Err("a walk has no dialogue".to_owned());
    };
    let stage = Stage::rewriting(script.lines.clone());
    let mut driver = build(bound(profile, test)?, stage.clone()).driver;
    let result = done(driver.as_mut(), outlet, *action, &stage)?;
    let outcome = outcome(result);
    let first_line = outcome.lines().next().unwrap_or_default();
    Ok((stage.rewritten(), first_line.to_owned()))
}

/// The settings that a test gives its PDU.
fn settings(profile: &Profile, test: &Test) -> Settings {
    let mut keys = serde_json::Map::from_iter(test.keys.clone());
    // Whatever a real PDU must have, the scripted one has not to say.
    let needed = profile.keys.iter().filter(|key| key.default.is_none());
    for key in needed {
        keys.entry(&key.name).or_insert(key.sample().json());
    }
    let text = serde_json::Value::Object(keys).to_string();
    let start = Position { line: 1, column: 1 };
    Settings::new(PduName::new("pdu"), profile.id.as_str(), text, start)
}

/// The deadline of a test.
pub(crate) fn deadline() -> Deadline {
    Deadline::after(PATIENCE)
}

/// Lets `driver` do what a dialogue is about; says where it went another way.
fn act(
    driver: &mut dyn Driver,
    outlet: &Outlet,
    act: Act,
    script: &Script,
    stage: &Stage,
) -> Result<(), String> {
    let expected = script.outcome.as_str();
    let result = done(driver, outlet, act, stage)?;
    stage.finish()?;
    let is_expected = match (&result, expected.split_once(' ')) {
        (Ok(word), None) => *word == expected,
        (Err(error), Some(("error", words))) => error.to_string().contains(words),
        (Err(_), None) => expected == "error",
        (Ok(_), Some(_)) | (Err(_), Some(_)) => false,
    };
    match is_expected {
        true => Ok(()),
        false => Err(format!(
            "expected -- {expected}, got -- {}",
            outcome(result)
        )),
    }
}

/// Lets `driver` do it; gives the outcome's word, or the error.
fn done(
    driver: &mut dyn Driver,
    outlet: &Outlet,
    act: Act,
    stage: &Stage,
) -> Result<Result<&'static str, DriverError>, String> {
    let deadline = deadline();
    let result = match act {
        Act::State => driver.state(outlet, deadline).map(|state| word(&state)),
        Act::Switch(to) => {
            let confirm = Confirm::new(None, driver.proofs(), PATIENCE)?;
            let attempt = Attempt::new(deadline);
            confirm.switch(driver, outlet, to, &attempt).map(|_| "ok")
        }
    };
    // A test may go on to the logout.
    if !stage.is_over() {
        driver.rest(deadline);
    }
    Ok(result)
}

fn outcome(result: Result<&str, DriverError>) -> String {
    result.map_or_else(|error| format!("error {error}"), str::to_owned)
}

/// A state as tests write it.
pub(crate) fn word(state: &State) -> &'static str {
    match state {
        State::On => "on",
        State::Off => "off",
        State::Unknown(_) => "unknown",
    }
}
