//! `pdudaemon --try`: one action with a profile over the real way to the PDU, and what was said as a
//! test of the profile to paste.

use super::confirm::Confirm;
use super::profile::proof::word;
use super::{Driver, DriverError, Scribe, Tape};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Settings, SettingsError};
use crate::transport::{Attempt, Deadline};
use std::time::Duration;

/// What is tried: one action, once.
#[derive(Clone, Copy)]
pub struct Trial<'a> {
    /// The profile.
    pub scribe: &'a dyn Scribe,
    /// The PDU.
    pub settings: &'a Settings,
    /// The outlet.
    pub outlet: &'a Outlet,
    /// What to switch it to; none to read its state.
    pub to: Option<Switch>,
    /// What the success of a switch needs.
    pub confirm: Confirm,
    /// How long all of it may take.
    pub timeout: Duration,
}

impl std::fmt::Debug for Trial<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trial")
            .field("outlet", &self.outlet)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Tried {
    /// `ok`, or the state's word; or why it failed.
    pub outcome: Result<&'static str, DriverError>,
    /// The dialogue as a test, and why that does not pass; nothing when nothing was said.
    pub test: Option<(String, Option<String>)>,
}

impl Trial<'_> {
    /// Does it.
    pub fn run(self) -> Result<Tried, SettingsError> {
        let tape = Tape::default();
        let driver = self.scribe.taped(self.settings, &tape)?.driver;
        let mut driver = Watched {
            driver,
            tape: tape.clone(),
        };
        let deadline = Deadline::after(self.timeout);
        let outcome = match self.to {
            None => driver
                .state(self.outlet, deadline)
                .map(|state| word(&state)),
            Some(to) => {
                let attempt = Attempt::new(deadline);
                let confirm = self.confirm;
                let told = confirm.switch(&mut driver, self.outlet, to, &attempt);
                told.map(|_| "ok")
            }
        };
        driver.rest(Deadline::after(self.timeout));
        let test = match tape.is_empty() {
            true => None,
            false => Some(self.test(&tape, &outcome)),
        };
        Ok(Tried { outcome, test })
    }

    fn test(self, tape: &Tape, outcome: &Result<&str, DriverError>) -> (String, Option<String>) {
        let test = self.scribe.test(self.settings, tape, self.outlet, self.to);
        let (test, fails) = test.unwrap_or_else(|why| (String::new(), Some(why)));
        let word = outcome.as_ref().map_or("error", |word| word);
        let is_alike = test.contains(&format!("\n-- {word}"));
        let differs = || "the same answers give another outcome".to_owned();
        let fails = fails.or_else(|| (!is_alike).then(differs));
        (test, fails)
    }
}

/// A driver whose tape knows where a reading begins.
struct Watched {
    driver: Box<dyn Driver>,
    tape: Tape,
}

impl Driver for Watched {
    fn proofs(&self) -> &'static [Proof] {
        self.driver.proofs()
    }

    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        self.driver.switch(outlet, to, attempt)
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        self.tape.reads();
        self.driver.state(outlet, deadline)
    }

    fn rest(&mut self, deadline: Deadline) {
        self.driver.rest(deadline);
    }
}
