//! `exec`: any program that speaks the protocol of `share/doc/exec-drivers.md`.
//!
//! One program stays running for each PDU. It gets a JSON object a line, and answers each with one.
//! A program that fails costs the request that it failed at; the next request starts it again, at
//! once after the first failure, and after a pause that grows when it fails again and again.

use super::found;
use crate::driver::{Build, Built, Driver, DriverError};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Key, Keys as _, Settings, SettingsError, TextOrList, keys};
use crate::transport::command::Program;
use crate::transport::{
    Attempt, Companion, Deadline, Timed, TransportError, TransportErrorKind, blotted, pause,
    printable,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What the outlets of such a PDU are.
pub(super) const OUTLETS: &str = "those that the program names, or any that it takes";

/// The version of the protocol.
const VERSION: u32 = 1;

/// The longest pause before a program that fails again and again is started once more.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

keys! {
    struct Keys {
        command: TextOrList,
            "the program, or a list of the program and its arguments; no shell is involved";
    }
}

/// Builds drivers of the keys above; all other keys are the program's.
#[derive(Debug)]
pub(super) struct Exec;

impl Build for Exec {
    fn keys(&self) -> Vec<Key> {
        Keys::rows()
    }

    fn takes_any_key(&self) -> bool {
        true
    }

    fn build(&self, settings: &Settings) -> Result<Built, SettingsError> {
        let keys: Keys = settings.keys()?;
        let words = match keys.command {
            TextOrList::Text(program) => vec![program],
            TextOrList::List(words) => words,
        };
        if words.first().is_none_or(String::is_empty) {
            return Err(settings.error("command", "expected the program's name"));
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err(settings.error("command", "a command cannot contain a NUL character"));
        }
        let driver: Box<dyn Driver> = Box::new(Spoken::new(words, "", settings));
        Ok(driver.into())
    }
}

/// A driver that a program plays.
pub(super) struct Spoken {
    /// The program and its arguments.
    words: Vec<String>,
    /// Sent as soon as it runs, with the first question.
    hello: String,
    /// For the log.
    label: String,
    secrets: Vec<String>,
    running: Option<(Companion, Told)>,
    /// How many times in a row it failed, and when it may be started again.
    failures: u32,
    not_before: Option<Instant>,
}

/// What a program has told of itself.
#[derive(Debug)]
struct Told {
    /// Nothing: it takes any outlet.
    outlets: Option<BTreeSet<Outlet>>,
    reads: bool,
}

/// An answer, as written.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Answer {
    outlets: Option<Vec<Value>>,
    reads: bool,
    done: bool,
    state: Option<String>,
    why: Option<String>,
    error: Option<String>,
    kind: Option<String>,
}

impl Spoken {
    /// The driver that `words` runs; `first` are lines that go to the program before everything else.
    pub(super) fn new(words: Vec<String>, first: &str, settings: &Settings) -> Self {
        let own: Value = serde_json::from_str(settings.text()).unwrap_or_default();
        let secrets = secrets(&own);
        let hello = json!({
            "do": "hello", "version": VERSION, "pdu": settings.pdu().as_str(), "settings": own,
        });
        let program = words.first().map_or("", String::as_str);
        Self {
            label: format!("PDU {}, {program}", settings.pdu()),
            words,
            hello: format!("{first}{hello}"),
            secrets,
            running: None,
            failures: 0,
            not_before: None,
        }
    }

    /// The program, running, and what it has told of itself.
    fn enter(&mut self, deadline: Deadline) -> Result<(), DriverError> {
        if let Some((companion, _)) = &mut self.running
            && companion.has_ended()
        {
            self.running = None;
            log::warn!(
                "{}: the program has ended, and is started again",
                self.label
            );
        }
        if self.running.is_some() {
            return Ok(());
        }
        self.hold_back(deadline)?;
        let started = self.start(deadline);
        self.running = Some(started.inspect_err(|_| self.failed())?);
        Ok(())
    }

    /// Waits until the program may be started.
    fn hold_back(&self, deadline: Deadline) -> Result<(), DriverError> {
        let Some(until) = self.not_before else {
            return Ok(());
        };
        let wait = until.saturating_duration_since(Instant::now());
        if deadline.moment() <= until {
            let detail = format!(
                "the program has failed {} times in a row, and is started again in {} s",
                self.failures,
                wait.as_secs() + 1
            );
            return Err(TransportError::new(TransportErrorKind::Busy, detail).into());
        }
        pause(wait);
        Ok(())
    }

    fn start(&self, deadline: Deadline) -> Result<(Companion, Told), DriverError> {
        let (program, args) = self
            .words
            .split_first()
            .map_or(("", &[][..]), |(program, args)| (program.as_str(), args));
        let program = Program::new(program).args(args.iter().map(String::as_str));
        let secrets = self.secrets.clone();
        let mut companion = found(Companion::start(program, &self.label, secrets, deadline))?;
        let answer = self.judge(companion.ask(&self.hello, deadline, parse)?)?;
        let outlets = answer
            .outlets
            .map(|outlets| outlets.iter().map(outlet_of).collect());
        let outlets = outlets.map(|outlets: Option<BTreeSet<Outlet>>| {
            outlets.ok_or_else(|| unexpected("a list of texts or numbers as \"outlets\""))
        });
        let told = Told {
            outlets: outlets.transpose()?,
            reads: answer.reads,
        };
        Ok((companion, told))
    }

    /// It has failed: the next request starts it again, when its time has come.
    fn failed(&mut self) {
        self.running = None;
        self.failures = self.failures.saturating_add(1);
        let doublings = self.failures.checked_sub(2);
        self.not_before = doublings.map(|doublings| {
            let wait = Duration::from_secs(1).saturating_mul(1 << doublings.min(6));
            Instant::now() + wait.min(LONGEST_PAUSE)
        });
    }

    /// Asks the program that runs. After a failure it does not run any more.
    fn ask(&mut self, question: &Value, timed: impl Timed) -> Result<Answer, DriverError> {
        let Some((companion, _)) = &mut self.running else {
            return Err(unexpected("a program that runs"));
        };
        match companion.ask(&question.to_string(), timed, parse) {
            Ok(answer) => {
                (self.failures, self.not_before) = (0, None);
                self.judge(answer)
            }
            Err(error) => {
                self.failed();
                Err(error.into())
            }
        }
    }

    /// The answer, unless it tells of an error.
    fn judge(&self, answer: Answer) -> Result<Answer, DriverError> {
        let Some(words) = &answer.error else {
            return Ok(answer);
        };
        let words = printable(&blotted(words.as_bytes(), &self.secrets));
        Err(match answer.kind.as_deref() {
            Some("outlet") => DriverError::NoSuchOutlet { expected: words },
            Some("login") => DriverError::LoginRefused(words),
            Some("refused") => DriverError::Refused(words),
            Some("setup") => DriverError::Setup(format!("the program says {words}")),
            Some("busy") => TransportError::new(TransportErrorKind::Busy, words).into(),
            _ => DriverError::Unexpected {
                expected: "success of the program".into(),
                got: words,
            },
        })
    }

    /// The outlet's id as the program knows it.
    fn id(&self, outlet: &Outlet) -> Result<String, DriverError> {
        let told = self.running.as_ref().map(|(_, told)| told);
        let Some(outlets) = told.and_then(|told| told.outlets.as_ref()) else {
            return Ok(outlet.as_str().to_owned());
        };
        let found = outlets.get(outlet);
        found.map(|own| own.as_str().to_owned()).ok_or_else(|| {
            let all: Vec<&str> = outlets
                .iter()
                .map(Outlet::as_str)
                .take(MOST_NAMED)
                .collect();
            let more = match outlets.len() > MOST_NAMED {
                true => " and others",
                false => "",
            };
            DriverError::NoSuchOutlet {
                expected: format!("one of {}{more}", all.join(", ")),
            }
        })
    }
}

/// How many outlets a message names.
const MOST_NAMED: usize = 32;

impl Driver for Spoken {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        self.enter(attempt.deadline())?;
        let id = self.id(outlet)?;
        let question = json!({"do": "switch", "outlet": id, "to": to.to_string()});
        let answer = attempt.judge(|| self.ask(&question, attempt))?;
        match (answer.state.as_deref(), answer.done) {
            (Some(state), _) if state == to.to_string() => Ok(Proof::State),
            (Some("on" | "off" | "unknown"), _) | (None, true) => Ok(Proof::Reply),
            _ => {
                self.failed();
                Err(unexpected("\"done\": true or a \"state\""))
            }
        }
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        self.enter(deadline)?;
        let id = self.id(outlet)?;
        if self.running.as_ref().is_some_and(|(_, told)| !told.reads) {
            return Err(DriverError::CannotRead(
                "the program says that it does not read states".into(),
            ));
        }
        let answer = self.ask(&json!({"do": "state", "outlet": id}), deadline)?;
        match answer.state.as_deref() {
            Some("on") => Ok(State::On),
            Some("off") => Ok(State::Off),
            Some("unknown") => {
                let why = answer.why.unwrap_or_default();
                let why = blotted(why.as_bytes(), &self.secrets);
                Ok(State::Unknown(printable(&why)))
            }
            _ => {
                self.failed();
                Err(unexpected(
                    "a \"state\" that is \"on\", \"off\" or \"unknown\"",
                ))
            }
        }
    }

    fn rest(&mut self, deadline: Deadline) {
        if let Some((companion, _)) = &mut self.running
            && !companion.has_ended()
            && let Err(error) = self.ask(&json!({"do": "rest"}), deadline)
        {
            log::debug!("{}: {error}", self.label);
        }
    }
}

fn parse(line: &str) -> Result<Answer, TransportError> {
    serde_json::from_str(line).map_err(|_| {
        let got = printable(line.as_bytes());
        let detail = format!("expected a JSON object of the protocol from the program, got {got}");
        TransportError::new(TransportErrorKind::Garbled, detail)
    })
}

fn unexpected(expected: &str) -> DriverError {
    DriverError::Unexpected {
        expected: expected.to_owned(),
        got: "another answer of the program".into(),
    }
}

fn outlet_of(value: &Value) -> Option<Outlet> {
    match value {
        Value::String(text) if !text.is_empty() => Some(Outlet::new(text.as_str())),
        Value::Number(number) => Some(Outlet::new(number.to_string())),
        _ => None,
    }
}

/// The values that nobody may see, by the names of their keys.
pub(super) fn secrets(settings: &Value) -> Vec<String> {
    const PARTS: [&str; 4] = ["pass", "secret", "token", "community"];
    let keys = settings.as_object().into_iter().flatten();
    let secrets = keys.filter(|(key, _)| {
        let key = key.to_ascii_lowercase();
        PARTS.iter().any(|part| key.contains(part))
    });
    let texts = secrets.filter_map(|(_, value)| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    texts.collect()
}
