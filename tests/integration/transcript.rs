//! Each driver sends the bytes that its transcript has, and makes of the answers what the
//! transcript says. A transcript is a recorded dialogue with a PDU; a simulator replays it.
//!
//! A file in `tests/data/transcripts/<transport>/` serves one dialect:
//!
//! ```text
//! # comment: where the bytes are from
//! drivers: devantech_eth008 devantech_eth002
//! settings: {"password": "password"}
//!
//! == outlet 8 on
//! > 79 "password"
//! < 01
//! > 20 08 00
//! < 00
//! > 7b
//! < 00
//! -- ok
//! ```
//!
//! `>` is what the driver must send, `<` what the PDU answers: hex bytes and quoted texts (with
//! `\r`, `\n`, `\xNN` escapes) in any mixture; a transport whose dialogue is not a byte stream
//! (HTTP, SNMP, USB, commands) reads the lines in its own way, see its simulator. A case's first
//! line names the outlet and `on`, `off` or `state`; further words on it are a note. Its last line
//! is the outcome: `-- on`, `-- off` or `-- unknown` of a reading; of a switch `-- ok` where the
//! answer shows the new state, `-- replied` where it proves less, `-- sent` where there is none; or
//! `-- error <part of the message>`. What confirms a switch is read by the worker, not the driver.
//! A `settings:` line between two cases replaces the settings from there on, a `drivers:` line the
//! drivers.

use crate::sim;
use pdudaemon::driver::confirm::Confirm;
use pdudaemon::driver::{Driver, DriverError, DriverSpec, Outlets, registry};
use pdudaemon::request::{Outlet, PduName, Proof, State, Switch};
use pdudaemon::settings::{Position, Settings};
use pdudaemon::transport::{Attempt, Deadline};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One line of a dialogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// `>`: the driver sends.
    Sent(String),
    /// `<`: the PDU answers.
    Answer(String),
}

/// One case of a transcript.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// File and line, for messages.
    pub(crate) at: String,
    /// The transport: the file's folder.
    pub(crate) transport: String,
    pub(crate) drivers: Vec<String>,
    pub(crate) settings: serde_json::Map<String, serde_json::Value>,
    pub(crate) outlet: String,
    pub(crate) action: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) outcome: String,
}

/// Every case of every transcript.
pub(crate) fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/transcripts");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    files.iter().flat_map(|file| parse(file)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the transcripts folder is there") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn parse(file: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(file).expect("a readable transcript");
    let transport = file
        .parent()
        .and_then(Path::file_name)
        .expect("a folder")
        .to_string_lossy()
        .into_owned();
    let (mut drivers, mut settings) = (Vec::new(), serde_json::Map::new());
    let mut cases: Vec<Case> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        let at = format!("{}:{}", file.display(), index + 1);
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(names) = line.strip_prefix("drivers:") {
            drivers = names.split_whitespace().map(str::to_owned).collect();
        } else if let Some(json) = line.strip_prefix("settings:") {
            settings = serde_json::from_str(json).unwrap_or_else(|error| panic!("{at}: {error}"));
        } else if let Some(head) = line.strip_prefix("== outlet ") {
            assert!(!open, "{at}: the case before has no outcome");
            let mut words = head.split_whitespace();
            let (outlet, action) = (
                words.next().expect("an outlet"),
                words.next().expect("an action"),
            );
            assert!(
                ["on", "off", "state"].contains(&action),
                "{at}: unknown action {action}"
            );
            cases.push(Case {
                at,
                transport: transport.clone(),
                drivers: drivers.clone(),
                settings: settings.clone(),
                outlet: outlet.into(),
                action: action.into(),
                lines: Vec::new(),
                outcome: String::new(),
            });
            open = true;
        } else {
            let case = cases
                .last_mut()
                .filter(|_| open)
                .unwrap_or_else(|| panic!("{at}: outside a case"));
            match line.split_at_checked(2) {
                Some(("> ", rest)) => case.lines.push(Line::Sent(rest.into())),
                Some(("< ", rest)) => case.lines.push(Line::Answer(rest.into())),
                Some(("--", rest)) => {
                    case.outcome = rest.trim().into();
                    open = false;
                }
                _ => panic!("{at}: expected `> `, `< ` or `-- `, got {line:?}"),
            }
        }
    }
    assert!(!open, "{}: the last case has no outcome", file.display());
    cases
}

/// The bytes of a `>` or `<` line: hex pairs and quoted texts.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut escaped = false;
            let end = quoted
                .char_indices()
                .find(|(_, c)| {
                    let ends = *c == '"' && !escaped;
                    escaped = *c == '\\' && !escaped;
                    ends
                })
                .unwrap_or_else(|| panic!("unterminated text in {text:?}"))
                .0;
            unescape(&quoted[..end], &mut bytes);
            rest = quoted[end + 1..].trim_start();
        } else {
            let word = rest.split_whitespace().next().expect("a word");
            assert!(word.len().is_multiple_of(2), "odd hex {word:?} in {text:?}");
            for pair in word.as_bytes().chunks(2) {
                let pair = std::str::from_utf8(pair).expect("ascii");
                bytes.push(
                    u8::from_str_radix(pair, 16)
                        .unwrap_or_else(|_| panic!("not hex: {pair:?} in {text:?}")),
                );
            }
            rest = rest[word.len()..].trim_start();
        }
    }
    bytes
}

fn unescape(text: &str, bytes: &mut Vec<u8>) {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match chars.next() {
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('0') => 0,
            Some('e') => 0x1b,
            Some('x') => {
                let hex: String = chars.by_ref().take(2).collect();
                u8::from_str_radix(&hex, 16).expect("two hex digits after \\x")
            }
            Some(other) => other as u8,
            None => panic!("a text ends in a backslash"),
        });
    }
}

/// What one case must leave room for: a simulator answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// The driver of a case, with the simulator's address merged into its settings.
pub(crate) fn driver(case: &Case, name: &str, overrides: serde_json::Value) -> Box<dyn Driver> {
    made(case, name, overrides).0
}

/// Has the driver find out what it learns only once, and not at the call that a test is about.
pub(crate) fn prepare(case: &Case, name: &str, overrides: serde_json::Value) {
    let settings = settings(case, name, overrides);
    let spec = spec(case, name);
    let tried = spec.build.try_out(&settings);
    tried.unwrap_or_else(|why| panic!("{}: {why}", case.at));
}

fn made(case: &Case, name: &str, overrides: serde_json::Value) -> (Box<dyn Driver>, Outlets) {
    let settings = settings(case, name, overrides);
    spec(case, name)
        .make(&settings)
        .unwrap_or_else(|error| panic!("{}: {error}", case.at))
}

fn spec(case: &Case, name: &str) -> &'static DriverSpec {
    let spec = registry::Registry::default().find(name).expect("right");
    spec.unwrap_or_else(|| panic!("{}: no driver {name}", case.at))
}

fn settings(case: &Case, name: &str, overrides: serde_json::Value) -> Settings {
    let mut settings = case.settings.clone();
    settings.insert("driver".into(), name.into());
    if let serde_json::Value::Object(overrides) = overrides {
        settings.extend(overrides);
    }
    let text = serde_json::Value::Object(settings).to_string();
    Settings::new(
        PduName::new("pdu"),
        name,
        text,
        Position { line: 1, column: 1 },
    )
}

/// A call that failed, and whether its command may have been carried out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failed {
    pub(crate) error: DriverError,
    may_have_acted: bool,
}

impl Failed {
    pub(crate) fn new(error: DriverError, attempt: &Attempt) -> Self {
        Self {
            error,
            may_have_acted: attempt.may_have_acted(),
        }
    }

    pub(crate) fn may_have_acted(&self) -> bool {
        self.may_have_acted
    }
}

/// The failure of a question: it switches nothing.
impl From<DriverError> for Failed {
    fn from(error: DriverError) -> Self {
        Self {
            error,
            may_have_acted: false,
        }
    }
}

impl std::ops::Deref for Failed {
    type Target = DriverError;

    fn deref(&self) -> &DriverError {
        &self.error
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

/// A switch as a worker does it: sent by the driver, and confirmed by what the driver has. What a
/// simulator shows it shows at once, so nothing is waited for.
pub(crate) trait Confirmed {
    fn confirmed(&mut self, outlet: &Outlet, to: Switch, deadline: Deadline) -> Result<(), Failed>;
}

impl Confirmed for dyn Driver + '_ {
    fn confirmed(&mut self, outlet: &Outlet, to: Switch, deadline: Deadline) -> Result<(), Failed> {
        let confirm = Confirm::new(None, self.proofs(), Duration::ZERO).expect("a rule");
        let attempt = Attempt::new(deadline);
        let told = confirm.switch(self, outlet, to, &attempt);
        told.map(drop).map_err(|error| Failed::new(error, &attempt))
    }
}

/// Does what the case is about; the outcome in a transcript's words.
pub(crate) fn call(driver: &mut dyn Driver, case: &Case, wait: Duration) -> Result<String, Failed> {
    let (outlet, deadline) = (Outlet::new(case.outlet.as_str()), Deadline::after(wait));
    let attempt = Attempt::new(deadline);
    let failed = |error| Failed::new(error, &attempt);
    let to = match case.action.as_str() {
        "on" => Switch::On,
        "off" => Switch::Off,
        _ => {
            return driver.state(&outlet, deadline).map(word).map_err(failed);
        }
    };
    let proof = driver.switch(&outlet, to, &attempt).map_err(failed)?;
    // Were this forgotten, an off that is not confirmed would be taken for one that never was.
    let has_sent = case.lines.iter().any(|line| matches!(line, Line::Sent(_)));
    assert_eq!(attempt.may_have_acted(), has_sent, "{}", case.at);
    Ok(match proof {
        Proof::State => "ok",
        Proof::Reply => "replied",
        Proof::None => "sent",
    }
    .to_owned())
}

fn word(state: State) -> String {
    match state {
        State::On => "on",
        State::Off => "off",
        State::Unknown(_) => "unknown",
    }
    .to_owned()
}

/// Runs one case for one of its drivers: the right bytes, and the right outcome. A driver that tells
/// the states of other outlets with the one that was asked for exchanges the same bytes.
pub(crate) fn check(case: &Case, name: &str) -> Result<(), String> {
    played(case, name, false)?;
    match case.action.as_str() {
        "on" | "off" => Ok(()),
        _ => played(case, name, true),
    }
}

fn played(case: &Case, name: &str, reads_others: bool) -> Result<(), String> {
    let simulator = sim::start(case);
    let (mut driver, outlets) = made(case, name, simulator.overrides());
    let outlet = Outlet::new(case.outlet.as_str());
    let result = outlets.parse(&outlet).and_then(|_| match reads_others {
        false => call(driver.as_mut(), case, PATIENCE).map_err(|failed| failed.error),
        true => {
            let others = outlets.all().unwrap_or_else(|| outlets.sought());
            let states = driver.states(&outlet, &others, Deadline::after(PATIENCE))?;
            Ok(word(states.own))
        }
    });
    driver.rest(Deadline::after(PATIENCE));
    drop(driver);
    let dialogue = simulator.finish();
    let outcome = match &result {
        Ok(outcome) => outcome.clone(),
        Err(error) => format!("error {error}"),
    };
    let expected = &case.outcome;
    let as_expected = if expected.starts_with("error ") {
        outcome.contains(expected.trim_start_matches("error ")) && result.is_err()
    } else {
        outcome == *expected
    };
    match dialogue {
        Err(wrong) => Err(format!("{} ({name}): {wrong}; outcome {outcome}", case.at)),
        Ok(()) if !as_expected => Err(format!(
            "{} ({name}): expected {expected}, got {outcome}",
            case.at
        )),
        Ok(()) => Ok(()),
    }
}

#[test]
fn every_transcript_holds() {
    let cases = cases();
    let wrong: Vec<String> = cases
        .iter()
        .filter(|case| sim::runs_here(case))
        .flat_map(|case| {
            case.drivers
                .iter()
                .filter_map(|name| check(case, name).err())
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_driver_has_its_transcript() {
    let cases = cases();
    let covered: HashSet<(&str, &str)> = cases
        .iter()
        .flat_map(|case| {
            case.drivers
                .iter()
                .map(|name| (name.as_str(), case.action.as_str()))
        })
        .collect();
    let missing: Vec<String> = registry::specs()
        .filter(|spec| spec.transport != "simulated")
        .flat_map(|spec| spec.names)
        .flat_map(|name| ["on", "off", "state"].map(|action| (*name, action)))
        .filter(|pair| !covered.contains(pair))
        .map(|(name, action)| format!("{name} {action}"))
        .collect();
    assert!(
        missing.is_empty(),
        "no transcript for: {}",
        missing.join(", ")
    );
}

#[test]
fn transcript_bytes_are_read_as_written() {
    assert_eq!(bytes(r#"79 "pa\"s\r" 0d0a"#), b"\x79pa\"s\r\x0d\x0a");
}
