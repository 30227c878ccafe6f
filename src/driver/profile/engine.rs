//! What the engines of HTTP, dialogues and bytes have in common: the driver that each of them makes.

use super::Bound;
use super::answer;
use super::holes::{Fillings, Template};
use crate::driver::{Built, Driver, DriverError, States};
use crate::request::{Outlet, Proof, State, Switch};
use crate::transport::{self, Attempt, Deadline, TransportError};
use regex_lite::Regex;
use std::time::{Duration, Instant};

/// Sends what a profile says. What an answer means does not depend on the engine.
pub(crate) trait Engine: Send {
    /// The profile, with what the config says of the PDU.
    fn bound(&self) -> &Bound;

    /// Switches the outlet that fills the holes.
    fn switch(
        &mut self,
        to: Switch,
        fillings: &Fillings,
        attempt: &Attempt,
    ) -> Result<(), DriverError>;

    /// What the PDU answers about the outlet that fills the holes.
    fn answer(&mut self, fillings: &Fillings, deadline: Deadline) -> Result<String, DriverError>;

    /// Gives back what can be opened again.
    fn rest(&mut self, deadline: Deadline);
}

/// The driver of a PDU with a profile.
struct Profiled<E>(E);

/// The driver that `engine` makes.
pub(crate) fn built(engine: impl Engine + 'static) -> Built {
    let profile = &engine.bound().profile;
    let outlets = profile.ids.outlets(profile.has_all);
    Built {
        driver: Box::new(Profiled(engine)),
        outlets,
    }
}

impl<E: Engine> Driver for Profiled<E> {
    fn proofs(&self) -> &'static [Proof] {
        self.0.bound().profile.proofs
    }

    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let fillings = self.0.bound().fillings(outlet)?;
        self.0.switch(to, &fillings, attempt)?;
        // Of some PDUs no answer to a command is known.
        Ok(
            match self.0.bound().profile.proofs.contains(&Proof::Reply) {
                true => Proof::Reply,
                false => Proof::None,
            },
        )
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let fillings = self.0.bound().fillings(outlet)?;
        let answer = self.0.answer(&fillings, deadline)?;
        self.0.bound().profile.judge.state(&answer, &fillings)
    }

    fn states(
        &mut self,
        outlet: &Outlet,
        others: &[Outlet],
        deadline: Deadline,
    ) -> Result<States, DriverError> {
        let fillings = self.0.bound().fillings(outlet)?;
        let answer = self.0.answer(&fillings, deadline)?;
        self.0.bound().states(&answer, outlet, others)
    }

    fn rest(&mut self, deadline: Deadline) {
        self.0.rest(deadline);
    }
}

/// Keeps the least pause that a PDU needs between two commands.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    gap: Duration,
    last: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(gap: Duration) -> Self {
        Self { gap, last: None }
    }

    /// Waits until it may be sent; an error if that is too late.
    pub(crate) fn wait(&mut self, deadline: Deadline) -> Result<(), TransportError> {
        let since = self.last.map(|last| last.elapsed());
        let wait = since.map(|since| self.gap.saturating_sub(since));
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            transport::pause(wait.min(deadline.left("the next command")?));
        }
        Ok(())
    }

    /// It is sent, or answered: the pause begins anew.
    pub(crate) fn begin(&mut self) {
        self.last = Some(Instant::now());
    }
}

/// The text with its holes filled.
pub(crate) fn filled(text: &Template, fillings: &Fillings) -> Result<String, DriverError> {
    text.fill(fillings).map_err(DriverError::Setup)
}

/// The pattern that a profile writes.
pub(crate) fn pattern(text: &str) -> Result<Regex, DriverError> {
    answer::compile(text).map_err(DriverError::Setup)
}
