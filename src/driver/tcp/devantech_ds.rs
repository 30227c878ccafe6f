//! Devantech's dS modules: dScript's ASCII commands over TCP.
//!
//! Facts from the dS2824 manual: `SR N on`, `SR N off` set a relay, `GR N` is answered with
//! `Active` or `Inactive`; commands have no terminator. How lines end is not told there.
//!
//! The Python driver (1.1.1, compared on the transcripts) sends only `SR N on` and closes without
//! reading; here the answer is awaited for a moment, and proves little. It also refuses the dS2824's outlets 9 to 24.

use super::{IDLE, connect};
use crate::driver::{ADDRESS, Build, Built, Driver, DriverError, Host, SAME_AS_IP, outlet_number};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Address, Key, Keys as _, Settings, SettingsError, keys};
use crate::transport::kept::{Kept, Opener};
use crate::transport::tcp::Connection;
use crate::transport::{Attempt, Deadline, TransportError, TransportErrorKind, printable};
use std::num::NonZeroU16;
use std::time::Duration;

/// What one model has.
pub(super) struct Model {
    pub(super) relays: u32,
}

pub(super) static DS2824: Model = Model { relays: 24 };
pub(super) static DS378: Model = Model { relays: 8 };

/// How long the answer to `SR`, of unknown form, is awaited.
const SET_PATIENCE: Duration = Duration::from_secs(1);

/// More than any answer has.
const MOST: usize = 256;

keys! {
    struct Keys {
        ip: Option<String> => "\"dS2824\"", ADDRESS;
        hostname: Option<String>, SAME_AS_IP;
        port: NonZeroU16 = 17123, super::PORT;
    }
}

impl Build for Model {
    fn keys(&self) -> Vec<Key> {
        Keys::rows()
    }

    fn build(&self, settings: &Settings) -> Result<Built, SettingsError> {
        let keys: Keys = settings.keys()?;
        let host = Host {
            ip: keys.ip,
            hostname: keys.hostname,
        };
        let host = host.or("dS2824");
        let address = host.address(settings, keys.port.get())?;
        let driver: Box<dyn Driver> = Box::new(Kept::new(Ds(address)));
        Ok(driver.into())
    }
}

struct Ds(Address);

impl Opener for Ds {
    type Session = Connection;
    type Error = DriverError;
    const IDLE: Duration = IDLE;

    fn open(&mut self, deadline: Deadline) -> Result<Connection, DriverError> {
        connect(&self.0, deadline)
    }
}

/// The relay's state, as soon as an answer tells it. `Inactive` has no capital A.
fn parse_state(answer: &[u8]) -> Option<Switch> {
    let has = |word: &[u8]| answer.windows(word.len()).any(|part| part == word);
    if has(b"Inactive") {
        Some(Switch::Off)
    } else if has(b"Active") {
        Some(Switch::On)
    } else {
        None
    }
}

fn tells_failure(answer: &[u8]) -> bool {
    let text = answer.to_ascii_lowercase();
    [&b"fail"[..], b"error", b"invalid"]
        .iter()
        .any(|word| text.windows(word.len()).any(|part| part == *word))
}

/// Sends a switching command; its answer may be anything that does not tell of a failure.
fn set(
    connection: &mut Connection,
    number: u32,
    to: Switch,
    attempt: &Attempt,
) -> Result<Proof, DriverError> {
    connection.discard_input()?;
    connection.send(format!("SR {number} {to}").as_bytes(), attempt)?;
    let mut buffer = [0; MOST];
    match connection.receive(&mut buffer, attempt.deadline().within(SET_PATIENCE)) {
        Ok(0) => Err(closed("connection closed after the switching").into()),
        Ok(count) => match buffer.get(..count) {
            Some(answer) if tells_failure(answer) => Err(DriverError::Refused(printable(answer))),
            _ => Ok(Proof::Reply),
        },
        Err(error) if error.kind == TransportErrorKind::Timeout => Ok(Proof::None),
        Err(error) => Err(error.into()),
    }
}

fn get(
    connection: &mut Connection,
    number: u32,
    deadline: Deadline,
) -> Result<Switch, DriverError> {
    connection.discard_input()?;
    connection.send(format!("GR {number}").as_bytes(), deadline)?;
    let (mut answer, mut buffer) = (Vec::new(), [0; MOST]);
    loop {
        let count = connection
            .receive(&mut buffer, deadline)
            .map_err(|error| TransportError {
                detail: format!("{} (got {})", error.detail, printable(&answer)),
                ..error
            })?;
        if count == 0 {
            let got = printable(&answer);
            return Err(closed(&format!("connection closed after {got}")).into());
        }
        answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if let Some(state) = parse_state(&answer) {
            return Ok(state);
        }
        if tells_failure(&answer) {
            return Err(DriverError::Refused(printable(&answer)));
        }
        if answer.len() > MOST {
            return Err(DriverError::Unexpected {
                expected: "Active or Inactive".into(),
                got: printable(&answer),
            });
        }
    }
}

fn closed(detail: &str) -> TransportError {
    TransportError::new(TransportErrorKind::Closed, detail)
}

impl Driver for Kept<Ds> {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let number = outlet_number(outlet)?;
        self.call(attempt, |_, connection| {
            set(connection, number, to, attempt)
        })
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let number = outlet_number(outlet)?;
        self.call(deadline, |_, connection| get(connection, number, deadline))
            .map(State::from)
    }

    fn rest(&mut self, deadline: Deadline) {
        Kept::rest(self, deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_told_apart_in_any_framing() {
        assert_eq!(parse_state(b"Active"), Some(Switch::On));
        assert_eq!(parse_state(b"Inactive\r\n"), Some(Switch::Off));
        assert_eq!(parse_state(b"Ok\r\nActive\r\n"), Some(Switch::On));
        assert_eq!(parse_state(b"Inact"), None);
        assert_eq!(parse_state(b""), None);
        assert!(tells_failure(b"Command FAILED") && !tells_failure(b"Ok"));
    }
}
