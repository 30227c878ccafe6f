//! `uhubctl`: the external program that switches the ports of USB hubs.
//!
//! It prints a block for each half of the hub (USB 2 and USB 3) with a line for each port:
//! `  Port 3: 0100 power`, or `... off`; when it switches, first the `Current status`, then the
//! `New status`.

use crate::driver::{Driver, DriverError, outlet_number};
use crate::request::{Outlet, State, Switch};
use crate::settings::{Settings, SettingsError, text};
use crate::transport::command::{Output, Program, find};
use crate::transport::{Deadline, TransportErrorKind};
use serde::Deserialize;

/// Where else the program is looked for: a service's `PATH` often lacks these.
const SBIN: &[&str] = &["/sbin", "/usr/sbin", "/usr/local/sbin"];

/// Ports a hub could have at most.
const MOST_PORTS: u32 = 127;

#[derive(Deserialize)]
struct Uhubctl {
    #[serde(deserialize_with = "text")]
    location: String,
    #[serde(default = "default_exe", deserialize_with = "text")]
    uhubctl_exe: String,
}

fn default_exe() -> String {
    "uhubctl".into()
}

pub(super) fn build(settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let keys: Uhubctl = settings.read()?;
    if keys.location.is_empty() || keys.location.starts_with('-') {
        return Err(settings.error("location", "expected a hub's location as 1-2.4.4"));
    }
    Ok(Box::new(keys))
}

impl Uhubctl {
    fn run(&self, port: u32, words: &[&str], deadline: Deadline) -> Result<Output, DriverError> {
        let program = find(&self.uhubctl_exe, SBIN).map_err(|error| match error.kind {
            TransportErrorKind::NotFound => DriverError::Setup(error.detail),
            _ => error.into(),
        })?;
        let program = Program::new(&program.to_string_lossy())
            .args(["--location", &self.location, "--ports", &port.to_string()])
            .args(words.iter().copied());
        let output = super::run(program, deadline)?;
        if output.is_success() {
            return Ok(output);
        }
        Err(DriverError::Unexpected {
            expected: "exit status 0 of uhubctl".into(),
            got: output.complaint(),
        })
    }
}

/// The port's state in uhubctl's output: on if either half of the hub powers it.
fn state_of(output: &str, port: u32) -> Option<Switch> {
    let head = format!("Port {port}:");
    output
        .lines()
        .filter_map(|line| {
            let mut words = line.trim().strip_prefix(&head)?.split_whitespace();
            words.next()?;
            match words.next()? {
                "power" => Some(Switch::On),
                "off" => Some(Switch::Off),
                _ => None,
            }
        })
        .reduce(|one, other| if one == Switch::On { one } else { other })
}

/// What the output says of the port after switching: the blocks `New status`.
fn new_state(output: &str, port: u32) -> Option<Switch> {
    let mut is_new = false;
    let new: Vec<&str> = output
        .lines()
        .filter(|line| {
            if line.contains(" status for hub ") {
                is_new = line.starts_with("New ");
            }
            is_new
        })
        .collect();
    state_of(&new.join("\n"), port)
}

impl Driver for Uhubctl {
    fn check(&self, outlet: &Outlet) -> Result<(), DriverError> {
        outlet_number(outlet, 1..=MOST_PORTS).map(drop)
    }

    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        deadline: Deadline,
    ) -> Result<(), DriverError> {
        let port = outlet_number(outlet, 1..=MOST_PORTS)?;
        let output = self.run(port, &["--action", &to.to_string()], deadline)?;
        match new_state(&output.text(), port) {
            Some(got) if got == to => Ok(()),
            Some(got) => Err(DriverError::Unexpected {
                expected: format!("port {port} {to} after switching"),
                got: got.to_string(),
            }),
            // Its exit status is 0 also for a port that the hub does not have, and for one that
            // could not be switched.
            None => Err(DriverError::Unexpected {
                expected: format!("port {port} in uhubctl's new status"),
                got: output.complaint(),
            }),
        }
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let port = outlet_number(outlet, 1..=MOST_PORTS)?;
        let output = self.run(port, &[], deadline)?;
        Ok(match state_of(&output.text(), port) {
            Some(state) => state.into(),
            None => State::Unknown(output.complaint()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWITCHED_OFF: &str = "\
Current status for hub 1-2 [05e3:0610 USB2.1 Hub, USB 2.10, 4 ports, ppps]
  Port 3: 0503 power highspeed enable connect [0951:1666]
Sent power off request
New status for hub 1-2 [05e3:0610 USB2.1 Hub, USB 2.10, 4 ports, ppps]
  Port 3: 0000 off
";

    #[test]
    fn states_are_read_from_uhubctls_words() {
        assert_eq!(state_of("  Port 3: 0000 off\n", 3), Some(Switch::Off));
        assert_eq!(state_of("  Port 13: 0100 power\n", 3), None);
        assert_eq!(
            state_of(
                "  Port 3: 0000 off\n  Port 3: 02a0 power 5gbps Rx.Detect\n",
                3
            ),
            Some(Switch::On)
        );
        assert_eq!(new_state(SWITCHED_OFF, 3), Some(Switch::Off));
        assert_eq!(state_of(SWITCHED_OFF, 3), Some(Switch::On));
        assert_eq!(new_state("", 3), None);
    }
}
