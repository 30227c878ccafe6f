//! A PDU that lives in the daemon: for trying the program, and a lab's scripts, without hardware.

use super::{
    By, DEVICE_TIMEOUT, Driver, DriverError, DriverSpec, Has, Outlets, SHOWS_WITHIN, outlet_number,
};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Settings, SettingsError, keys, words};
use crate::transport::{Attempt, Deadline, Timed, TransportError, TransportErrorKind};
use std::collections::HashMap;
use std::time::Duration;

/// The one row.
pub(super) static SPECS: &[DriverSpec] = &[DriverSpec {
    names: &["simulated"],
    any_case: false,
    models: "a PDU inside the daemon, for trials and tests",
    transport: "simulated",
    outlets: Has::Told("1 to 8, or what the key `outlets` says"),
    reads_back: true,
    verified_by: "the test suite",
    timeout: DEVICE_TIMEOUT,
    shows_within: SHOWS_WITHIN,
    build: &By(build),
}];

/// So many it can have; it has 8 where the key `outlets` does not say otherwise.
const MOST_OUTLETS: u32 = 1024;

keys! {
    struct Keys {
        start: Switch = "off", "the outlets' state when the daemon starts";
        latency: f64 = 0, "seconds each command takes";
        refuse_outlets: Vec<u32> = [], "outlets whose switching it refuses";
        hang_outlets: Vec<u32> = [], "outlets whose commands are never answered";
        fail_every: u64 = 0, "every n-th command is lost: nothing switched, no answer";
        lose_every: u64 = 0, "every n-th answer is lost: switched, but not confirmed";
    }
}

words! { Switch: "on" = Switch::On, "off" = Switch::Off }

struct Simulated {
    keys: Keys,
    latency: Duration,
    states: HashMap<u32, Switch>,
    commands: u64,
}

fn build(keys: Keys, settings: &Settings) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    let latency = Duration::try_from_secs_f64(keys.latency)
        .map_err(|_| settings.error("latency", "expected seconds, 0 or more"))?;
    let usual = (1..=8_u32).map(|number| Outlet::new(number.to_string()));
    let outlets = Outlets::Range(1..=MOST_OUTLETS)
        .narrowed(usual)
        .map_err(|message| settings.error("outlets", message))?;
    let driver = Simulated {
        keys,
        latency,
        states: HashMap::new(),
        commands: 0,
    };
    Ok((Box::new(driver), outlets))
}

impl Simulated {
    /// Takes the command's time; fails when that is more than the deadline leaves.
    fn work(&mut self, outlet: u32, deadline: Deadline) -> Result<(), TransportError> {
        self.commands += 1;
        let left = deadline.left("the command")?;
        if self.keys.hang_outlets.contains(&outlet) || self.latency > left {
            std::thread::sleep(left);
            return Err(lost());
        }
        std::thread::sleep(self.latency);
        Ok(())
    }

    fn is_each(&self, every: u64) -> bool {
        every > 0 && self.commands.is_multiple_of(every)
    }
}

fn lost() -> TransportError {
    TransportError::new(TransportErrorKind::Timeout, "no answer in time (simulated)")
}

impl Driver for Simulated {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let number = outlet_number(outlet)?;
        attempt.sent();
        self.work(number, attempt.deadline())?;
        if self.keys.refuse_outlets.contains(&number) {
            attempt.turned_away();
            return Err(DriverError::Refused("outlet is locked (simulated)".into()));
        }
        if self.is_each(self.keys.fail_every) {
            return Err(lost().into());
        }
        self.states.insert(number, to);
        if self.is_each(self.keys.lose_every) {
            return Err(lost().into());
        }
        Ok(Proof::State)
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let number = outlet_number(outlet)?;
        self.work(number, deadline)?;
        Ok(self
            .states
            .get(&number)
            .copied()
            .unwrap_or(self.keys.start)
            .into())
    }
}
