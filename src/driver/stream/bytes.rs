//! The engine of byte protocols: writes bytes, and reads an answer of a known length or end.

use super::line::Played;
use super::taped::Taped;
use super::{Desk, Way};
use crate::driver::profile::engine::{self, Engine, filled};
use crate::driver::profile::holes::{Fillings, quoted};
use crate::driver::profile::script::{Stage, bytes};
use crate::driver::profile::{Bound, Over, Profile, Raw, Swap, Tape, Test, Until, proof};
use crate::driver::{Built, DriverError};
use crate::request::Switch;
use crate::settings::{Settings, SettingsError};
use crate::transport::expect::ByteStream;
use crate::transport::kept::{Kept, Opener};
use crate::transport::{Attempt, Deadline, Timed, TransportError, TransportErrorKind};
use std::sync::Arc;
use std::time::Duration;

/// The longest answer.
const MOST_BYTES: usize = 64 * 1024;

/// A board, as its profile knows it.
struct Board<D> {
    desk: D,
    raw: Arc<Raw>,
    bound: Bound,
}

/// The driver of a PDU with this profile; what it says to the PDU is written on the `tape`.
pub(crate) fn build(
    profile: &Arc<Profile>,
    raw: &Arc<Raw>,
    settings: &Settings,
    tape: Option<&Tape>,
) -> Result<Built, SettingsError> {
    let bound = Bound::read(profile, settings)?;
    let desk = Way::read(&raw.site, settings, &bound)?;
    Ok(match tape.cloned() {
        None => built(desk, raw, bound),
        Some(tape) => {
            let plain = hex;
            built(Taped { desk, tape, plain }, raw, bound)
        }
    })
}

/// The same with a board that plays a dialogue.
pub(crate) fn played(raw: &Arc<Raw>, bound: Bound, stage: Stage) -> Built {
    let (over, plain) = (Over::Tcp, hex as fn(&[u8]) -> String);
    built(Played { stage, over, plain }, raw, bound)
}

fn built<D: Desk + 'static>(desk: D, raw: &Arc<Raw>, bound: Bound) -> Built {
    let raw = Arc::clone(raw);
    engine::built(Kept::new(Board { desk, raw, bound }))
}

impl<D: Desk> Board<D> {
    /// One after the other; the last answer.
    fn swap_all<T: Timed>(
        &self,
        stream: &mut D::Stream,
        swaps: &[Swap],
        fillings: &Fillings,
        timed: T,
    ) -> Result<String, DriverError> {
        let mut last = String::new();
        for swap in swaps {
            last = self.swap(stream, swap, fillings, timed)?;
        }
        Ok(last)
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
                    expected: quoted(&expected, fillings),
                    got: quoted(&answer, fillings),
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
        Until::Pattern(pattern) => Some(engine::pattern(&filled(pattern, fillings)?)?),
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
        let got = quoted(&answer, fillings);
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
        self.swap_all(&mut stream, &self.raw.login, self.bound.keys(), deadline)?;
        Ok(stream)
    }

    fn is_alive(&self, stream: &mut D::Stream, deadline: Deadline) -> bool {
        self.desk.is_alive(stream, deadline)
    }
}

impl<D: Desk> Engine for Kept<Board<D>> {
    fn bound(&self) -> &Bound {
        &self.opener.bound
    }

    fn switch(
        &mut self,
        to: Switch,
        fillings: &Fillings,
        attempt: &Attempt,
    ) -> Result<(), DriverError> {
        self.call(attempt, |board, stream| {
            let swaps = match to {
                Switch::On => &board.raw.on,
                Switch::Off => &board.raw.off,
            };
            board.swap_all(stream, swaps, fillings, attempt)
        })
        .map(drop)
    }

    fn answer(&mut self, fillings: &Fillings, deadline: Deadline) -> Result<String, DriverError> {
        self.call(deadline, |board, stream| {
            board.swap_all(stream, &board.raw.state, fillings, deadline)
        })
    }

    fn rest(&mut self, deadline: Deadline) {
        Kept::rest(self, deadline);
    }
}

fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(" ")
}

/// Runs one of the profile's tests; says what went another way.
pub(crate) fn prove(profile: &Arc<Profile>, raw: &Arc<Raw>, test: &Test) -> Result<(), String> {
    // Hexadecimal pairs and quoted texts mean the same bytes.
    let same = |line: &str| bytes(line).map_or_else(|| line.to_owned(), |bytes| hex(&bytes));
    proof::play(profile, test, same, |bound, stage| {
        played(raw, bound, stage)
    })
}
