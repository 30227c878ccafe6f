//! Devantech's ETH relay modules: one byte asks, one byte answers.
//!
//! Facts from Devantech's manuals of ETH002, ETH008 and ETH8020: 79h and the password log in,
//! 20h/21h N T make relay N active or inactive (T: a pulse in 100 ms, 0 for good), 24h asks for
//! the relays as bits, 7Bh logs out. Reading needs no login.
//!
//! The bytes are those of the Python driver (compared with release 1.1.1 on the transcripts), but
//! the login is kept while the queue has work, where Python opens a connection for each job.

use super::{IDLE, RequiredHost, connect};
use crate::driver::{Build, Built, Driver, DriverError, States, outlet_number};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Address, Key, Keys as _, Secret, Settings, SettingsError, keys, words};
use crate::transport::kept::{Kept, Opener};
use crate::transport::tcp::Connection;
use crate::transport::{Attempt, Deadline, Timed, printable};
use std::num::NonZeroU16;
use std::time::Duration;

/// What one model has.
pub(super) struct Model {
    pub(super) relays: u8,
    /// How many bytes answer 24h, where that is documented.
    state_bytes: Option<usize>,
}

pub(super) static ETH002: Model = model(2, Some(1));
pub(super) static ETH0621: Model = model(2, None);
pub(super) static ETH484: Model = model(4, None);
pub(super) static ETH008: Model = model(8, Some(1));
pub(super) static ETH8020: Model = model(20, Some(3));

const fn model(relays: u8, state_bytes: Option<usize>) -> Model {
    Model {
        relays,
        state_bytes,
    }
}

keys! {
    struct Keys {
        ..host: RequiredHost;
        port: NonZeroU16 = 17494, super::PORT;
        password: Option<Secret>, "the module's TCP/IP password, when one is set";
        logic: Logic = "NO", "which contact feeds the outlet: NO (on is relay active) or NC";
    }
}

/// Which contact of the relay feeds the outlet.
#[derive(Clone, Copy)]
enum Logic {
    /// Normally open: on is relay active.
    Open,
    /// Normally closed: on is relay inactive.
    Closed,
}

words! { Logic: "NO" = Logic::Open, "NC" = Logic::Closed }

impl Logic {
    fn is_active(self, switch: Switch) -> bool {
        matches!(
            (self, switch),
            (Self::Open, Switch::On) | (Self::Closed, Switch::Off)
        )
    }

    fn switch(self, active: bool) -> Switch {
        if self.is_active(Switch::On) == active {
            Switch::On
        } else {
            Switch::Off
        }
    }
}

impl Build for Model {
    fn keys(&self) -> Vec<Key> {
        Keys::rows()
    }

    fn build(&self, settings: &Settings) -> Result<Built, SettingsError> {
        let keys: Keys = settings.keys()?;
        let driver: Box<dyn Driver> = Box::new(Kept::new(Eth {
            address: keys.host.address(settings, keys.port.get())?,
            password: keys.password.filter(|given| !given.reveal().is_empty()),
            logic: keys.logic,
            state_bytes: self.state_bytes,
        }));
        Ok(driver.into())
    }
}

struct Eth {
    address: Address,
    password: Option<Secret>,
    logic: Logic,
    state_bytes: Option<usize>,
}

impl Opener for Eth {
    type Session = Module;
    type Error = DriverError;
    const IDLE: Duration = IDLE;

    fn open(&mut self, deadline: Deadline) -> Result<Module, DriverError> {
        Ok(Module {
            connection: connect(&self.address, deadline)?,
            is_logged_in: false,
        })
    }

    fn leave(&self, mut module: Module, deadline: Deadline) {
        if module.is_logged_in {
            let _ = module.ask(&[LOGOUT], deadline);
        }
    }
}

/// A module that is connected.
struct Module {
    connection: Connection,
    is_logged_in: bool,
}

impl Module {
    /// Sends one command and takes its answer of one byte.
    fn ask(&mut self, command: &[u8], timed: impl Timed) -> Result<u8, DriverError> {
        self.connection.discard_input()?;
        self.connection.send(command, timed)?;
        let [answer] = self.connection.receive_exact(timed.deadline())?;
        Ok(answer)
    }

    fn login(&mut self, password: &Secret, deadline: Deadline) -> Result<(), DriverError> {
        if self.is_logged_in {
            return Ok(());
        }
        let command = [&[LOGIN], password.reveal().as_bytes()].concat();
        match self.ask(&command, deadline)? {
            1 => self.is_logged_in = true,
            2 => return Err(DriverError::LoginRefused("wrong password".into())),
            other => return Err(unexpected("01 or 02 as answer to the password", &[other])),
        }
        Ok(())
    }
}

const LOGIN: u8 = 0x79;
const READ: u8 = 0x24;
const LOGOUT: u8 = 0x7b;

/// Makes relay `number` active or inactive for good.
fn switch_command(number: u8, active: bool) -> [u8; 3] {
    [if active { 0x20 } else { 0x21 }, number, 0]
}

/// Is the bit of relay `number` set in an answer to 24h?
fn is_active(answer: &[u8], number: u8) -> Option<bool> {
    let index = number.checked_sub(1)?;
    let byte = answer.get(usize::from(index / 8))?;
    Some(byte >> (index % 8) & 1 == 1)
}

fn unexpected(expected: &str, got: &[u8]) -> DriverError {
    DriverError::Unexpected {
        expected: expected.into(),
        got: printable(got),
    }
}

impl Kept<Eth> {
    /// The bytes in which the board tells the states of all relays.
    fn read(&mut self, deadline: Deadline) -> Result<Vec<u8>, DriverError> {
        let answer = self.call(deadline, |eth, module| {
            let connection = &mut module.connection;
            connection.discard_input()?;
            connection.send(&[READ], deadline)?;
            Ok(match eth.state_bytes {
                Some(3) => connection.receive_exact::<3>(deadline)?.to_vec(),
                _ => connection.receive_exact::<1>(deadline)?.to_vec(),
            })
        })?;
        if self.opener.state_bytes.is_none() {
            // More bytes may be on their way: what comes next must not be taken for an answer.
            Kept::rest(self, deadline);
        }
        Ok(answer)
    }
}

impl Eth {
    fn state_in(&self, answer: &[u8], outlet: &Outlet) -> Result<State, DriverError> {
        let active = is_active(answer, outlet_number(outlet)?)
            .ok_or_else(|| unexpected("the states of all relays", answer))?;
        Ok(self.logic.switch(active).into())
    }
}

impl Driver for Kept<Eth> {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let active = self.opener.logic.is_active(to);
        let command = switch_command(outlet_number(outlet)?, active);
        self.call(attempt, |eth, module| {
            if let Some(password) = &eth.password {
                module.login(password, attempt.deadline())?;
            }
            match module.ask(&command, attempt)? {
                0 => Ok(Proof::Reply),
                1 => Err(DriverError::Refused("answer 01, command failed".into())),
                other => Err(unexpected("00 or 01 as answer to the switching", &[other])),
            }
        })
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let answer = self.read(deadline)?;
        self.opener.state_in(&answer, outlet)
    }

    fn states(
        &mut self,
        outlet: &Outlet,
        others: &[Outlet],
        deadline: Deadline,
    ) -> Result<States, DriverError> {
        let answer = self.read(deadline)?;
        States::each(outlet, others, |outlet| {
            self.opener.state_in(&answer, outlet)
        })
    }

    fn rest(&mut self, deadline: Deadline) {
        Kept::rest(self, deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_the_manual() {
        assert_eq!(switch_command(1, true), [0x20, 1, 0]);
        assert_eq!(switch_command(8, false), [0x21, 8, 0]);
        assert_eq!(is_active(&[0x80], 8), Some(true));
        assert_eq!(is_active(&[0, 0, 0x08], 20), Some(true));
        assert_eq!(is_active(&[0xff, 0xff, 0x07], 20), Some(false));
        assert_eq!(is_active(&[0xff], 9), None);
    }

    #[test]
    fn normally_closed_turns_the_relay_round() {
        assert!(Logic::Open.is_active(Switch::On) && !Logic::Open.is_active(Switch::Off));
        assert!(Logic::Closed.is_active(Switch::Off) && !Logic::Closed.is_active(Switch::On));
        assert_eq!(Logic::Closed.switch(true), Switch::Off);
        assert_eq!(Logic::Open.switch(true), Switch::On);
    }
}
