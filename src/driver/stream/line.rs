//! The engine of dialogues: logs in, types what the profile says, and reads what comes back.

use super::taped::Taped;
use super::{Desk, Way};
use crate::driver::profile::engine::{self, Engine, filled, pattern};
use crate::driver::profile::holes::Fillings;
use crate::driver::profile::script::{Stage, bytes};
use crate::driver::profile::{Bound, Failure, Over, Profile, Step, Talk, Tape, Test, Typed, proof};
use crate::driver::{Built, DriverError};
use crate::request::Switch;
use crate::settings::{Settings, SettingsError, Value};
use crate::transport::expect::{ByteStream, Dialogue};
use crate::transport::kept::{Kept, Opener};
use crate::transport::{Attempt, Deadline, Timed, TransportError, TransportErrorKind, Verdict};
use regex_lite::Regex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How often one step may be asked something before what it waits for.
const MOST_ANSWERS: usize = 16;

/// How long a logout may take, whatever the deadline.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// A PDU's console, as its profile knows it.
struct Console<D> {
    desk: D,
    talk: Arc<Talk>,
    bound: Bound,
}

/// The driver of a PDU with this profile; what it says to the PDU is written on the `tape`.
pub(crate) fn build(
    profile: &Arc<Profile>,
    talk: &Arc<Talk>,
    settings: &Settings,
    tape: Option<&Tape>,
) -> Result<Built, SettingsError> {
    let bound = Bound::read(profile, settings)?;
    let desk = Way::read(&talk.site, settings, &bound)?;
    Ok(match tape.cloned() {
        None => built(desk, talk, bound),
        Some(tape) => {
            let plain = typed;
            built(Taped { desk, tape, plain }, talk, bound)
        }
    })
}

/// The same with a console that plays the dialogue of `test`, which may be about another way than the
/// usual one.
pub(crate) fn played(talk: &Arc<Talk>, test: &Test, bound: Bound, stage: Stage) -> Built {
    let asked = test.keys.get("over").and_then(|over| Over::read(over).ok());
    let over = asked.or_else(|| talk.site.over.first().copied());
    let (over, plain) = (over.unwrap_or(Over::Tcp), typed as fn(&[u8]) -> String);
    built(Played { stage, over, plain }, talk, bound)
}

fn built<D: Desk + 'static>(desk: D, talk: &Arc<Talk>, bound: Bound) -> Built {
    let talk = Arc::clone(talk);
    engine::built(Kept::new(Console { desk, talk, bound }))
}

impl<D: Desk> Console<D> {
    /// Goes through `steps`; everything that the PDU has printed meanwhile.
    fn go<T: Timed>(
        &self,
        dialogue: &mut Dialogue<D::Stream>,
        steps: &[Step],
        fillings: &Fillings,
        timed: T,
    ) -> Result<String, DriverError> {
        let mut printed = String::new();
        let over = self.desk.over();
        let is_meant = |step: &&Step| step.over.is_empty() || step.over.contains(&over);
        for step in steps.iter().filter(is_meant) {
            if let Some(typed) = &step.send {
                self.type_in(dialogue, typed, fillings, timed)?;
            }
            let Some(expected) = &step.expect else {
                continue;
            };
            let expected = pattern(&filled(expected, fillings)?)?;
            let wait = Wait {
                expected,
                answers: patterns(&step.answers)?,
                failures: patterns(&step.failures)?,
            };
            self.wait(dialogue, &wait, fillings, timed, &mut printed)?;
        }
        Ok(printed)
    }

    fn type_in<T: Timed>(
        &self,
        dialogue: &mut Dialogue<D::Stream>,
        typed: &Typed,
        fillings: &Fillings,
        timed: T,
    ) -> Result<(), DriverError> {
        let mut text = filled(&typed.text, fillings)?;
        if typed.is_line {
            text.push_str(&self.talk.eol);
        }
        Ok(dialogue.send(text.as_bytes(), timed)?)
    }

    fn wait<T: Timed>(
        &self,
        dialogue: &mut Dialogue<D::Stream>,
        wait: &Wait<'_>,
        fillings: &Fillings,
        timed: T,
        printed: &mut String,
    ) -> Result<(), DriverError> {
        for _ in 0..MOST_ANSWERS {
            let found =
                dialogue.expect_if("what the profile expects", timed.deadline(), |text| {
                    wait.find(text)
                })?;
            printed.push_str(&found.0);
            match found.1 {
                Found::Expected => return Ok(()),
                Found::Failure(failure) => {
                    return Err(failure.error(&dialogue.screen.words(&found.0)));
                }
                Found::Question(answer) => self.type_in(dialogue, answer, fillings, timed)?,
            }
        }
        Err(DriverError::Unexpected {
            expected: format!("at most {MOST_ANSWERS} questions"),
            got: "more".to_owned(),
        })
    }
}

/// What a step waits for.
struct Wait<'a> {
    expected: Regex,
    answers: Vec<(Regex, &'a Typed)>,
    failures: Vec<(Regex, &'a Failure)>,
}

/// What has come.
enum Found<'a> {
    Expected,
    Question(&'a Typed),
    Failure(Failure),
}

impl<'a> Wait<'a> {
    /// The first of all in `text`: where it ends, and what it is. A failure counts before what ends
    /// at the same place.
    fn find(&self, text: &str) -> Option<(usize, Found<'a>)> {
        let failures = self
            .failures
            .iter()
            .map(|(pattern, failure)| (pattern, Found::Failure(**failure)));
        let questions = self
            .answers
            .iter()
            .map(|(pattern, answer)| (pattern, Found::Question(answer)));
        let expected = [(&self.expected, Found::Expected)];
        let all = failures.chain(questions).chain(expected);
        let found = all.filter_map(|(pattern, found)| Some((pattern.find(text)?, found)));
        let first = found.min_by_key(|(place, _)| place.start());
        first.map(|(place, found)| (place.end(), found))
    }
}

fn patterns<T>(written: &[(String, T)]) -> Result<Vec<(Regex, &T)>, DriverError> {
    let compiled = written
        .iter()
        .map(|(text, meaning)| Ok((pattern(text)?, meaning)));
    compiled.collect()
}

impl<D: Desk> Opener for Console<D> {
    type Session = Dialogue<D::Stream>;
    type Error = DriverError;

    fn open(&mut self, deadline: Deadline) -> Result<Self::Session, DriverError> {
        let mut dialogue = Dialogue::new(self.desk.open(deadline)?);
        for secret in self.bound.secrets() {
            dialogue.screen.hide(&secret);
        }
        match self.go(&mut dialogue, &self.talk.login, self.bound.keys(), deadline) {
            Ok(_) => Ok(dialogue),
            Err(error) => {
                if error.may_stand() {
                    self.leave(dialogue, deadline);
                }
                Err(error)
            }
        }
    }

    fn is_alive(&self, dialogue: &mut Self::Session, deadline: Deadline) -> bool {
        dialogue.screen.clear();
        self.desk.is_alive(&mut dialogue.stream, deadline)
    }

    fn leave(&self, mut dialogue: Self::Session, deadline: Deadline) {
        let patience = deadline.within(LEAVE_PATIENCE);
        // Nobody is told how a logout went.
        let _ = self.go(
            &mut dialogue,
            &self.talk.logout,
            self.bound.keys(),
            patience,
        );
    }
}

impl<D: Desk> Engine for Kept<Console<D>> {
    fn bound(&self) -> &Bound {
        &self.opener.bound
    }

    fn switch(
        &mut self,
        to: Switch,
        fillings: &Fillings,
        attempt: &Attempt,
    ) -> Result<(), DriverError> {
        self.call(attempt, |console, dialogue| {
            let steps = match to {
                Switch::On => &console.talk.on,
                Switch::Off => &console.talk.off,
            };
            console.go(dialogue, steps, fillings, attempt)
        })
        .map(drop)
    }

    fn answer(&mut self, fillings: &Fillings, deadline: Deadline) -> Result<String, DriverError> {
        self.call(deadline, |console, dialogue| {
            console.go(dialogue, &console.talk.state, fillings, deadline)
        })
    }

    fn rest(&mut self, deadline: Deadline) {
        Kept::rest(self, deadline);
    }
}

/// A console that plays a dialogue: `> on 2` is a line as typed, `< "\r\nRPC-3>"` what is printed,
/// `< closed` the end of the connection.
pub(super) struct Played {
    pub(super) stage: Stage,
    pub(super) over: Over,
    /// What is typed, as the dialogue writes it.
    pub(super) plain: fn(&[u8]) -> String,
}

/// What a console has yet to print.
pub(super) struct Printing {
    stage: Stage,
    plain: fn(&[u8]) -> String,
    rest: VecDeque<String>,
}

impl Desk for Played {
    type Stream = Printing;

    fn over(&self) -> Over {
        self.over
    }

    fn open(&mut self, _: Deadline) -> Result<Printing, DriverError> {
        Ok(Printing {
            stage: self.stage.clone(),
            plain: self.plain,
            rest: self.stage.greeting().into(),
        })
    }

    fn is_alive(&self, _: &mut Printing, _: Deadline) -> bool {
        true
    }
}

impl ByteStream for Printing {
    fn send(&mut self, typed: &[u8], _: Deadline) -> Result<(), TransportError> {
        let answers = self.stage.answers(&(self.plain)(typed));
        let answers =
            answers.map_err(|wrong| TransportError::new(TransportErrorKind::Garbled, wrong))?;
        self.rest.extend(answers);
        Ok(())
    }

    fn receive(&mut self, into: &mut Vec<u8>, _: Deadline) -> Result<bool, TransportError> {
        let error = |kind, what: &str| Err(TransportError::new(kind, what));
        match self.rest.pop_front() {
            None => error(TransportErrorKind::Timeout, "the test prints no more"),
            Some(end) if end == "closed" => Ok(false),
            Some(text) => match bytes(&text) {
                Some(printed) => {
                    into.extend(printed);
                    Ok(true)
                }
                None => error(
                    TransportErrorKind::Garbled,
                    "expected < \"TEXT\" or hexadecimal bytes",
                ),
            },
        }
    }
}

/// A line as typed, without its end.
fn typed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Runs one of the profile's tests; says what went another way.
pub(crate) fn prove(profile: &Arc<Profile>, talk: &Arc<Talk>, test: &Test) -> Result<(), String> {
    test.keys.get("over").map(Over::read).transpose()?;
    proof::play(profile, test, str::to_owned, |bound, stage| {
        played(talk, test, bound, stage)
    })
}
