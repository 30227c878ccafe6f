//! `uhubctl`: the external program that switches the ports of USB hubs.
//!
//! It prints a block for each half of the hub (USB 2 and USB 3) with a line for each port:
//! `  Port 3: 0100 power`, or `... off`; when it switches, first the `Current status`, then the
//! `New status`.

use crate::driver::{Driver, DriverError, outlet_number};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Settings, SettingsError, TextOrNumber, keys};
use crate::transport::command::{Output, Program, find};
use crate::transport::{Attempt, Deadline, Timed, TransportErrorKind};

/// Where else the program is looked for: a service's `PATH` often lacks these.
const SBIN: &[&str] = &["/sbin", "/usr/sbin", "/usr/local/sbin"];

keys! {
    pub(super) struct Uhubctl {
        location: TextOrNumber, "where the hub is plugged in, as uhubctl lists it: 1-2.4.4";
        uhubctl_exe: TextOrNumber = "uhubctl",
            "the program, by name (also looked for in the sbin folders) or path";
    }
}

pub(super) fn build(keys: Uhubctl, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    if keys.location.starts_with('-') {
        return Err(settings.error("location", "expected a hub's location as 1-2.4.4"));
    }
    Ok(Box::new(keys))
}

impl Uhubctl {
    fn run(&self, port: u32, words: &[&str], timed: impl Timed) -> Result<Output, DriverError> {
        let program = find(&self.uhubctl_exe, SBIN).map_err(|error| match error.kind {
            TransportErrorKind::NotFound => DriverError::Setup(error.detail),
            _ => error.into(),
        })?;
        let program = Program::new(&program.to_string_lossy())
            .args(["--location", &self.location, "--ports", &port.to_string()])
            .args(words.iter().copied());
        let output = super::run(program, timed)?;
        if output.is_success() {
            return Ok(output);
        }
        let complaint = output.complaint();
        Err(match is_lasting(&complaint) {
            true => DriverError::Setup(format!("uhubctl: {complaint}")),
            false => DriverError::Unexpected {
                expected: "exit status 0 of uhubctl".into(),
                got: complaint,
            },
        })
    }
}

/// Do these words tell what no further attempt mends? Nothing was switched then: no such hub or
/// none that switches its ports, no right to, an option that this version does not know.
fn is_lasting(complaint: &str) -> bool {
    let complaint = complaint.to_lowercase();
    ["no compatible", "permission", "invalid", "option"]
        .iter()
        .any(|word| complaint.contains(word))
}

/// How many ports the hubs have that the output is about: `..., 4 ports, ppps]`.
fn most_ports(output: &str) -> Option<u32> {
    output
        .lines()
        .filter(|line| line.contains(" status for hub "))
        .filter_map(|line| {
            line.rsplit_once(" ports")?
                .0
                .rsplit_once(' ')?
                .1
                .parse()
                .ok()
        })
        .max()
}

/// The hub says that it has no such port: switching it changes nothing, and uhubctl calls that a
/// success.
fn no_such_port(output: &str, port: u32) -> Option<DriverError> {
    let most = most_ports(output).filter(|most| port > *most)?;
    Some(DriverError::NoSuchOutlet {
        expected: format!("outlets 1 to {most}, the hub's ports"),
    })
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
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let port = outlet_number(outlet)?;
        attempt.judge(|| {
            let output = self.run(port, &["--action", &to.to_string()], attempt)?;
            match new_state(&output.text(), port) {
                Some(got) if got == to => Ok(Proof::State),
                Some(_) => Ok(Proof::Reply),
                // Its exit status is 0 also when it could not switch the port.
                None => Err(no_such_port(&output.text(), port).unwrap_or_else(|| {
                    DriverError::Unexpected {
                        expected: format!("port {port} in uhubctl's new status"),
                        got: output.complaint(),
                    }
                })),
            }
        })
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let port = outlet_number(outlet)?;
        let output = self.run(port, &[], deadline)?;
        match state_of(&output.text(), port) {
            Some(state) => Ok(state.into()),
            None => match no_such_port(&output.text(), port) {
                Some(error) => Err(error),
                None => Ok(State::Unknown(output.complaint())),
            },
        }
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
        assert_eq!(most_ports(SWITCHED_OFF), Some(4));
        assert_eq!(most_ports("  Port 3: 0000 off"), None);
        assert_eq!(most_ports("New status for hub 1-2 [ ports"), None);
    }

    #[test]
    fn what_no_attempt_mends_is_told_apart() {
        for lasting in [
            "exited with status 1: \"No compatible devices detected at location 1-2!\"",
            "There were permission problems while accessing USB.",
            "uhubctl: unrecognized option '--ports'",
            "Invalid port spec specified, must be positive integers or ranges!",
        ] {
            assert!(is_lasting(lasting), "{lasting}");
        }
        for passing in ["killed by signal 9", "Failed to control port power!"] {
            assert!(!is_lasting(passing), "{passing}");
        }
    }
}
