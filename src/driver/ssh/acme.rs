//! BayLibre ACME: `dut-switch-on N` and `dut-switch-off N` in a shell on the device.

use super::{Files, Login, client};
use crate::driver::{Driver, DriverError, Host, outlet_number};
use crate::request::{Outlet, Proof, Switch};
use crate::settings::{Secret, Settings, SettingsError, TextOrNumber, keys};
use crate::transport::ssh::{Client, HostKey};
use crate::transport::{Attempt, Deadline};

struct Acme(Client);

keys! {
    pub(super) struct Keys {
        ..host: Host;
        username: TextOrNumber = "root", super::USERNAME;
        // The Python program answers a password prompt by Return.
        password: Secret = "", super::PASSWORD;
        ..files: Files;
    }
}

pub(super) fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let login = Login {
        username: keys.username,
        password: keys.password,
        host_key: HostKey::AcceptNew,
        options: &[],
    };
    let address = keys.host.address(settings, 0)?;
    Ok(Box::new(Acme(client(
        settings, address, login, keys.files,
    )?)))
}

fn command(number: u32, to: Switch) -> String {
    format!("dut-switch-{to} {number}")
}

impl Driver for Acme {
    fn proofs(&self) -> &'static [Proof] {
        &[Proof::Reply]
    }

    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let number = outlet_number(outlet)?;
        let answer = self.0.run(&command(number, to), attempt)?;
        match answer.status {
            0 => Ok(Proof::Reply),
            // It may have switched before it failed.
            _ => Err(DriverError::Unexpected {
                expected: "exit status 0".into(),
                got: answer.complaint,
            }),
        }
    }

    fn rest(&mut self, deadline: Deadline) {
        self.0.close(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_those_of_the_device() {
        assert_eq!(command(1, Switch::On), "dut-switch-on 1");
        assert_eq!(command(8, Switch::Off), "dut-switch-off 8");
    }
}
