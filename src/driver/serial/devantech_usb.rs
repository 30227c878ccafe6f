//! Devantech's USB relay modules: one byte switches a relay, one byte reads them all.
//!
//! Facts from Devantech's manuals of USB-RLY02, USB-RLY08B, USB-RLY16 and USB-RLY16L: 64h + N
//! powers relay N, 6Eh + N releases it, without an answer; 5Bh is answered with the relays as
//! bits. The line is a USB CDC port, so its speed does not matter.
//!
//! The Python driver (1.1.1, compared on the transcripts) sends only the switching byte; the 5Bh
//! after it is ours.

use super::{IDLE, LinePort, Modem};
use crate::driver::{Build, Built, Driver, DriverError, outlet_number};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Key, Keys, Settings, SettingsError};
use crate::transport::kept::{Kept, Opener};
use crate::transport::serial::Line;
use crate::transport::{Attempt, Deadline};
use std::time::Duration;

/// How many relays a model has.
pub(super) struct Model(pub(super) u8);

const READ: u8 = 0x5b;

impl Build for Model {
    fn keys(&self) -> Vec<Key> {
        Modem::rows()
    }

    fn build(&self, settings: &Settings) -> Result<Built, SettingsError> {
        let port = LinePort::new(settings, &settings.keys::<Modem>()?.device, 9600)?;
        let driver: Box<dyn Driver> = Box::new(Kept::new(Rly(port)));
        Ok(driver.into())
    }
}

struct Rly(LinePort);

impl Opener for Rly {
    type Session = Line;
    type Error = DriverError;
    const IDLE: Duration = IDLE;

    fn open(&mut self, deadline: Deadline) -> Result<Line, DriverError> {
        self.0.open(deadline)
    }

    fn leave(&self, line: Line, deadline: Deadline) {
        line.close(deadline);
    }
}

fn switch_command(number: u8, to: Switch) -> u8 {
    let base: u8 = match to {
        Switch::On => 0x64,
        Switch::Off => 0x6e,
    };
    base.wrapping_add(number)
}

fn state_of(relays: u8, number: u8) -> Switch {
    let bit = relays
        .checked_shr(u32::from(number).wrapping_sub(1))
        .unwrap_or(0)
        & 1;
    if bit == 1 { Switch::On } else { Switch::Off }
}

fn read(line: &mut Line, number: u8, deadline: Deadline) -> Result<Switch, DriverError> {
    line.discard_input()?;
    line.send(&[READ], deadline)?;
    let [relays] = line.receive_exact(deadline)?;
    Ok(state_of(relays, number))
}

impl Driver for Kept<Rly> {
    fn proofs(&self) -> &'static [Proof] {
        &[Proof::State]
    }

    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let number = outlet_number(outlet)?;
        self.call(attempt, |_, line| {
            line.send(&[switch_command(number, to)], attempt)?;
            Ok(Proof::None)
        })
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let number = outlet_number(outlet)?;
        self.call(deadline, |_, line| read(line, number, deadline))
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
    fn bytes_are_those_of_the_manual() {
        assert_eq!(switch_command(1, Switch::On), 0x65);
        assert_eq!(switch_command(1, Switch::Off), 0x6f);
        assert_eq!(switch_command(8, Switch::On), 0x6c);
        assert_eq!(switch_command(8, Switch::Off), 0x76);
        assert_eq!(state_of(0x80, 8), Switch::On);
        assert_eq!(state_of(0x7f, 8), Switch::Off);
        assert_eq!(state_of(0x01, 1), Switch::On);
    }
}
