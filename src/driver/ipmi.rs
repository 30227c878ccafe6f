//! The power of a machine by its BMC, over IPMI.
//!
//! A reboot is off, pause, on, as for every PDU: a BMC's own power cycle is refused by most when the
//! machine is off, and tells nothing of its middle.

use super::{By, Driver, DriverError, DriverSpec, Has, Host};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{
    Secret, Settings, SettingsError, TextOrNumber, Value, expected, keys, words,
};
use crate::transport::ipmi::{
    Account, Bmc, Done, IpmiError, Kg, Power, Privilege, Suite, completion,
};
use crate::transport::{Attempt, Deadline};
use std::borrow::Cow;
use std::num::NonZeroU16;

/// The one row.
pub(super) static SPECS: &[DriverSpec] = &[DriverSpec {
    names: &["ipmi"],
    any_case: false,
    models: "any server with a BMC that speaks IPMI over LAN, 2.0 or 1.5: Supermicro, Dell iDRAC, \
             HPE iLO, Lenovo XCC and IMM, OpenBMC and others; outlet 1 is the machine's power",
    transport: "ipmi",
    outlets: Has::Numbers(1, 1),
    reads_back: true,
    verified_by: "OpenIPMI's ipmi_sim with IPMI 1.5 and cipher suite 3; a simulator that ipmitool \
                  drives with cipher suites 3 and 17. UNVERIFIED on hardware",
    // A BMC may take seconds to log in, and the machine its time to go down.
    timeout: 60,
    shows_within: 30,
    build: &By(build),
}];

keys! {
    struct Keys {
        ..host: Host;
        port: NonZeroU16 = 623, "UDP port, when the address names none";
        username: TextOrNumber = "", "the BMC's user, at most 16 bytes";
        password: Option<Secret>, "the user's password, at most 20 bytes";
        privilege: Privilege = "operator", "what the session asks for: operator is enough to switch";
        suite: Suites = "auto", "the cipher suite; auto is 17 or else 3, or IPMI 1.5 where the BMC has nothing else";
        kg: Option<Secret>, "the BMC's own key K_g, where it has one: a text, or 0x and hex digits";
        soft_off: bool = false, "switch off by asking the operating system, as the power button does";
    }
}

words! { Privilege: "operator" = Privilege::Operator, "administrator" = Privilege::Administrator }

/// The value of the key `suite`: a suite, or the best that the BMC offers.
struct Suites(Option<Suite>);

impl Value for Suites {
    const KIND: &'static str = TextOrNumber::KIND;

    fn range() -> Cow<'static, str> {
        "auto or 3 or 17".into()
    }

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        let text = TextOrNumber::read(json)?;
        match &*text.0 {
            "auto" => Ok(Self(None)),
            "3" => Ok(Self(Some(Suite::Three))),
            "17" => Ok(Self(Some(Suite::Seventeen))),
            _ => Err(expected(&["auto", "3", "17"], json)),
        }
    }
}

struct Machine {
    bmc: Bmc,
    off: Power,
}

fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let address = keys.host.address(settings, keys.port.get())?;
    let kg = keys.kg.as_ref().map(Kg::parse).transpose();
    let kg = kg.map_err(|message| settings.error("kg", message))?;
    let account = Account::new(
        keys.username.0,
        keys.password.unwrap_or_default(),
        kg.flatten(),
        keys.privilege,
        keys.suite.0,
    );
    let account = account.map_err(|(key, message)| settings.error(key, message))?;
    Ok(Box::new(Machine {
        bmc: Bmc::new(address.host, address.port, account),
        off: match keys.soft_off {
            true => Power::SoftOff,
            false => Power::Off,
        },
    }))
}

impl Driver for Machine {
    fn switch(
        &mut self,
        _outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let power = match to {
            Switch::On => Power::On,
            Switch::Off => self.off,
        };
        Ok(match self.bmc.power(power, attempt)? {
            Done::Taken => Proof::Reply,
            Done::WasSo => Proof::State,
        })
    }

    fn state(&mut self, _outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        Ok(match self.bmc.is_on(deadline)? {
            true => State::On,
            false => State::Off,
        })
    }

    fn rest(&mut self, deadline: Deadline) {
        self.bmc.rest(deadline);
    }
}

impl From<IpmiError> for DriverError {
    fn from(error: IpmiError) -> Self {
        match error {
            IpmiError::Transport(error) => Self::Transport(error),
            IpmiError::Login(words) => Self::LoginRefused(words),
            IpmiError::Refused(0xd4) => Self::Refused(format!(
                "{}: the key privilege may ask for administrator",
                completion(0xd4)
            )),
            IpmiError::Refused(code) => Self::Refused(completion(code)),
            IpmiError::Unable(code) => Self::Unexpected {
                expected: "completion code 00".into(),
                got: completion(code),
            },
            IpmiError::Strange { expected, got } => Self::Unexpected { expected, got },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::PduName;
    use crate::settings::Position;

    fn built(text: &str) -> Result<(), SettingsError> {
        let at = Position { line: 1, column: 1 };
        let settings = Settings::new(PduName::new("pdu1"), "ipmi", text, at);
        let spec = SPECS.first().expect("a row");
        spec.make(&settings).map(drop)
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        for (text, key) in [
            (r#"{"username": "seventeen letters"}"#, "username"),
            (r#"{"password": "123456789012345678901"}"#, "password"),
            (r#"{"kg": "0x12345"}"#, "kg"),
            (r#"{"suite": 8}"#, "suite"),
            (r#"{"privilege": "user"}"#, "privilege"),
            (r#"{"port": 0}"#, "port"),
        ] {
            let error = built(text).expect_err("refused");
            assert_eq!(error.key.as_deref(), Some(key), "{text}: {error}");
            assert!(!error.message.contains("12345"), "{error}");
        }
        for text in [
            "{}",
            r#"{"username": "ADMIN", "password": 1234, "suite": 17, "privilege": "administrator"}"#,
            r#"{"hostname": "bmc7", "suite": "3", "kg": "0x0102", "soft_off": "yes"}"#,
        ] {
            assert_eq!(built(text), Ok(()), "{text}");
        }
    }
}
