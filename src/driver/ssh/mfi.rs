//! Ubiquiti mFi mPower: a file per relay, `/proc/power/relayN`, that holds 1 or 0.

use super::{Files, Login, client};
use crate::driver::{Driver, DriverError, Host, outlet_number};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Secret, Settings, SettingsError, TextOrNumber, keys};
use crate::transport::ssh::{Client, HostKey};
use crate::transport::{Attempt, Deadline, Timed, printable};
use std::num::NonZeroU16;

/// What old firmware (dropbear) needs and a current ssh client offers no more; `+` puts them last.
const LEGACY: &[&str] = &[
    "HostKeyAlgorithms=+ssh-rsa",
    "PubkeyAcceptedAlgorithms=+ssh-rsa",
    "KexAlgorithms=+diffie-hellman-group14-sha1,diffie-hellman-group1-sha1",
    "Ciphers=+aes128-cbc",
];

keys! {
    pub(super) struct Keys {
        ..host: Host;
        sshport: NonZeroU16 = 22, "TCP port of the ssh server";
        username: TextOrNumber = "ubnt", super::USERNAME;
        password: Secret = "ubnt", super::PASSWORD;
        verify_hostkey: bool = true,
            "refuse a host whose key is not known; false accepts a new key, but no changed one";
        legacy_algorithms: bool = true,
            "offer, last of all, the algorithms that old firmware needs";
        ..files: Files;
    }
}

struct Mfi {
    client: Client,
}

pub(super) fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let login = Login {
        username: keys.username,
        password: keys.password,
        host_key: if keys.verify_hostkey {
            HostKey::Known
        } else {
            HostKey::AcceptNew
        },
        options: if keys.legacy_algorithms { LEGACY } else { &[] },
    };
    let address = keys.host.address(settings, keys.sshport.get())?;
    Ok(Box::new(Mfi {
        client: client(settings, address, login, keys.files)?,
    }))
}

fn write(number: u32, to: Switch) -> String {
    let value = u8::from(to == Switch::On);
    format!("sh -c 'echo {value} > /proc/power/relay{number}'")
}

fn read(number: u32) -> String {
    format!("cat /proc/power/relay{number}")
}

fn state_from(output: &str) -> State {
    match output.trim() {
        "1" => State::On,
        "0" => State::Off,
        _ => State::Unknown(printable(output.trim().as_bytes())),
    }
}

impl Mfi {
    /// Runs a command that must succeed, and gives its output.
    fn ask(&mut self, command: &str, timed: impl Timed) -> Result<String, DriverError> {
        let answer = self.client.run(command, timed)?;
        match answer.status {
            0 => Ok(answer.output),
            // It may have switched before it failed.
            _ => Err(DriverError::Unexpected {
                expected: "exit status 0".into(),
                got: answer.complaint,
            }),
        }
    }
}

impl Driver for Mfi {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let number = outlet_number(outlet)?;
        self.ask(&write(number, to), attempt)?;
        Ok(Proof::Reply)
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let number = outlet_number(outlet)?;
        Ok(state_from(&self.ask(&read(number), deadline)?))
    }

    fn rest(&mut self, deadline: Deadline) {
        self.client.close(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_states_are_those_of_the_device() {
        assert_eq!(write(1, Switch::On), "sh -c 'echo 1 > /proc/power/relay1'");
        assert_eq!(write(8, Switch::Off), "sh -c 'echo 0 > /proc/power/relay8'");
        assert_eq!(read(3), "cat /proc/power/relay3");
        assert_eq!(state_from("1\n"), State::On);
        assert_eq!(state_from("0"), State::Off);
        assert_eq!(state_from("x\n"), State::Unknown("\"x\"".into()));
    }
}
