//! The engine of byte protocols: writes bytes, and reads an answer of a known length or end.

use super::line::Played;
use super::{Desk, Way, not_for};
use crate::driver::profile::answer;
use crate::driver::profile::holes::Fillings;
use crate::driver::profile::script::{Stage, bytes};
use crate::driver::profile::{Bound, Does, How, Profile, Raw, Swap, Test, Until, proof};
use crate::driver::{Built, Driver, DriverError, Outlets, States};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Settings, SettingsError};
use crate::transport::expect::ByteStream;
use crate::transport::kept::{Kept, Opener};
use crate::transport::{Attempt, Deadline, Timed, TransportError, TransportErrorKind, printable};
use std::sync::Arc;
use std::time::Duration;

/// The longest answer.
const MOST_BYTES: usize = 64 * 1024;

/// A board, as its profile knows it.
struct Board<D> {
    desk: D,
    bound: Bound,
}

/// The driver of a PDU with this profile.
pub(crate) fn build(profile: &Arc<Profile>, settings: &Settings) -> Result<Built, SettingsError> {
    let How::Bytes(raw) = &profile.how else {
        return Err(settings.error("driver", not_for(profile).to_string()));
    };
    let way = Way::read(&raw.site, settings)?;
    Ok(built(way, Bound::read(profile, settings)?))
}

fn built<D: Desk + 'static>(desk: D, bound: Bound) -> Built {
    let outlets = bound.profile.ids.outlets(bound.profile.has_all);
    Built {
        driver: Box::new(Kept::new(Board { desk, bound })),
        outlets,
    }
}

impl<D: Desk> Board<D> {
    fn raw(&self) -> Result<&Raw, DriverError> {
        match &self.bound.profile.how {
            How::Bytes(raw) => Ok(raw),
            _ => Err(not_for(&self.bound.profile)),
        }
    }

    /// Writes, and reads the answer where there is one: a character for each byte.
    fn swap<T: Timed>(
        &self,
        stream: &mut D::Stream,
        swap: &Swap,
        fillings: &Fillings,
        timed: T,
    ) -> Result<String, DriverError> {
        let written = swap.write.bytes(fillings).map_err(DriverError::Setup)?;
        stream.send(&written, timed.deadline())?;
        timed.sent();
        let Some(until) = &swap.until else {
            return Ok(String::new());
        };
        let answer = read(stream, until, fillings, timed.deadline())?;
        if let Some(is) = &swap.is {
            let expected = is.bytes(fillings).map_err(DriverError::Setup)?;
            if expected != answer {
                return Err(DriverError::Unexpected {
                    expected: printable(&expected),
                    got: printable(&answer),
                });
            }
        }
        Ok(answer.iter().copied().map(char::from).collect())
    }
}

fn read<S: ByteStream>(
    stream: &mut S,
    until: &Until,
    fillings: &Fillings,
    deadline: Deadline,
) -> Result<Vec<u8>, DriverError> {
    let pattern = match until {
        Until::Count(_) => None,
        Until::Pattern(pattern) => {
            let pattern = pattern
                .fill(fillings)
                .and_then(|text| answer::compile(&text));
            Some(pattern.map_err(DriverError::Setup)?)
        }
    };
    let mut answer = Vec::new();
    loop {
        let is_whole = match (until, &pattern) {
            (Until::Count(count), _) => answer.len() >= *count,
            (Until::Pattern(_), pattern) => {
                let text: String = answer.iter().copied().map(char::from).collect();
                pattern
                    .as_ref()
                    .is_some_and(|pattern| pattern.is_match(&text))
            }
        };
        if is_whole {
            return Ok(answer);
        }
        let got = printable(&answer);
        if answer.len() > MOST_BYTES {
            let what = format!("no end after {MOST_BYTES} bytes: {got}");
            return Err(TransportError::new(TransportErrorKind::Garbled, what).into());
        }
        let more = stream.receive(&mut answer, deadline);
        let more = more.map_err(|error| TransportError {
            detail: format!("{}, got {got}", error.detail),
            ..error
        })?;
        if !more {
            let what = format!("the PDU closed the connection, got {got}");
            return Err(TransportError::new(TransportErrorKind::Closed, what).into());
        }
    }
}

impl<D: Desk> Opener for Board<D> {
    type Session = D::Stream;
    type Error = DriverError;

    const IDLE: Duration = Duration::from_secs(10);

    fn open(&mut self, deadline: Deadline) -> Result<D::Stream, DriverError> {
        let mut stream = self.desk.open(deadline)?;
        for swap in &self.raw()?.login {
            self.swap(&mut stream, swap, self.bound.keys(), deadline)?;
        }
        Ok(stream)
    }

    fn is_alive(&self, stream: &mut D::Stream, deadline: Deadline) -> bool {
        self.desk.is_alive(stream, deadline)
    }
}

impl<D: Desk> Driver for Kept<Board<D>> {
    fn proofs(&self) -> &'static [Proof] {
        self.opener.bound.profile.proofs
    }

    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let fillings = self.opener.bound.fillings(outlet)?;
        self.call(attempt, |board, stream| {
            let raw = board.raw()?;
            let swaps = match to {
                Switch::On => &raw.on,
                Switch::Off => &raw.off,
            };
            for swap in swaps {
                board.swap(stream, swap, &fillings, attempt)?;
            }
            Ok(())
        })?;
        Ok(Proof::Reply)
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let (answer, fillings) = reading(self, outlet, deadline)?;
        self.opener.bound.profile.judge.state(&answer, &fillings)
    }

    fn states(
        &mut self,
        outlet: &Outlet,
        others: &Outlets,
        deadline: Deadline,
    ) -> Result<States, DriverError> {
        let (answer, _) = reading(self, outlet, deadline)?;
        self.opener.bound.states(&answer, outlet, others)
    }

    fn rest(&mut self, deadline: Deadline) {
        Kept::rest(self, deadline);
    }
}

/// What the PDU answers about the outlet, and what fills the outlet's holes.
fn reading<D: Desk>(
    kept: &mut Kept<Board<D>>,
    outlet: &Outlet,
    deadline: Deadline,
) -> Result<(String, Fillings), DriverError> {
    let fillings = kept.opener.bound.fillings(outlet)?;
    let answer = kept.call(deadline, |board, stream| {
        let mut last = String::new();
        for swap in &board.raw()?.state {
            last = board.swap(stream, swap, &fillings, deadline)?;
        }
        Ok(last)
    })?;
    Ok((answer, fillings))
}

fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(" ")
}

/// Runs one of the profile's tests; says what went another way.
pub(crate) fn prove(profile: &Arc<Profile>, test: &Test) -> Result<(), String> {
    let settings = proof::settings(profile, test);
    let Does::Wire {
        outlet,
        action,
        script,
    } = &test.does
    else {
        return Err("a walk is for SNMP: expected wire".to_owned());
    };
    // Hexadecimal pairs and quoted texts mean the same bytes.
    let plain = |line: &str| bytes(line).map_or_else(|| line.to_owned(), |bytes| hex(&bytes));
    let stage = Stage::new(script, plain);
    let bound = Bound::read(profile, &settings).map_err(|error| error.to_string())?;
    let desk = Played {
        stage: stage.clone(),
        plain: hex,
    };
    let mut driver = built(desk, bound).driver;
    proof::act(driver.as_mut(), outlet, *action, &script.outcome, &stage)
}
