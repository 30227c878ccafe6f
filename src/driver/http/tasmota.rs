//! Tasmota firmware over its web commands: `GET /cm?cmnd=Power1+on`.
//!
//! The answer is the relay's new state. A device with one relay says `POWER` instead of `POWER1`
//! unless told otherwise (SetOption26). States are read with `Status 11`: to firmware of 2018 to 2022 even
//! a bare `Power1` is a command, which stops a running PulseTime and leaves the relay on for good. On
//! and off are words that the user may replace (StateText): `Status` has them as bits.

use super::*;
use crate::driver::{Driver, Outlets, States, outlet_number};
use crate::request::Outlet;
use form_urlencoded::byte_serialize;
use serde_json::Value;
use std::num::NonZeroU32;

pub(super) const ANY: DriverSpec = DriverSpec {
    names: &["tasmota"],
    models: "any Tasmota device",
    outlets: Has::Told("1 to port_count"),
    build: &By(build_counted),
    ..SONOFF_S20
};

pub(super) const BRENNENSTUHL: DriverSpec = DriverSpec {
    names: &["brennenstuhl_wspl01_tasmota"],
    models: "Brennenstuhl WSPL01 with Tasmota",
    outlets: Has::Numbers(1, 2),
    ..SONOFF_S20
};

pub(super) const SONOFF_S20: DriverSpec = DriverSpec {
    names: &["sonoff_s20_tasmota"],
    models: "Sonoff S20 with Tasmota",
    outlets: Has::Numbers(1, 1),
    verified_by: "simulator; the firmware's source. A reading (Status 11) leaves a running PulseTime \
                  alone; with MQTT on, the device publishes it",
    build: &By(build),
    ..super::SPEC
};

struct Tasmota {
    client: Client,
    /// `&user=..&password=..`, where both are given.
    login: String,
}

keys! {
    struct Keys {
        ..host: Host;
        ..way: Way;
        ..login: Credentials;
    }
}

keys! {
    /// What a device with any number of relays reads.
    struct Counted {
        ..own: Keys;
        port_count: NonZeroU32 = 1, "how many relays it has";
    }
}

fn build_counted(
    keys: Counted,
    settings: &Settings,
) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    let outlets = Outlets::Range(1..=keys.port_count.get());
    Ok((build(keys.own, settings)?, outlets))
}

fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let mut client = client(settings, &keys.host, keys.way, None, Login::Open)?;
    let login = match keys.login.both() {
        Some((user, password)) => {
            let form = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            client.hide(&password);
            format!("&user={}&password={}", form(&user), form(&password))
        }
        None => String::new(),
    };
    Ok(Box::new(Tasmota { client, login }))
}

/// The relay's word in `{"POWER1": "ON"}`.
fn word_of(json: &Value, outlet: u32) -> Option<String> {
    let own = json.get(format!("POWER{outlet}"));
    let only = || json.get("POWER").filter(|_| outlet == 1);
    Some(match own.or_else(only)? {
        Value::String(word) => word.clone(),
        other => other.to_string(),
    })
}

/// The relay's bit in `{"Status": {"Power": 1, ..}}`, which has no words of the user's: a number,
/// from firmware 14 on its binary digits.
fn bit_of(json: &Value, outlet: u32) -> Option<State> {
    let relays = match json.get("Status")?.get("Power")? {
        Value::String(digits) => u64::from_str_radix(digits, 2).ok()?,
        number => number.as_u64()?,
    };
    Some(match relays.checked_shr(outlet.checked_sub(1)?)? & 1 {
        1 => State::On,
        _ => State::Off,
    })
}

impl Tasmota {
    /// Sends a command; gives the answer, as JSON and as it came.
    fn command(
        &mut self,
        command: &str,
        timed: impl Timed,
    ) -> Result<(Value, Answer), DriverError> {
        let target = format!("/cm?cmnd={command}{}", self.login);
        ask_and(&mut self.client, &Request::get(&target), timed, |answer| {
            let json = json(&answer)?;
            if json.get("WARNING").is_some() {
                return Err(DriverError::LoginRefused(answer.quote()));
            }
            if json.get("Command").is_some() {
                return Err(DriverError::Refused(answer.quote()));
            }
            Ok((json, answer))
        })
    }

    /// The state of an outlet of which the device only told a word of its StateText.
    fn state_by_bit(
        &mut self,
        outlet: &Outlet,
        word: &str,
        deadline: Deadline,
    ) -> Result<State, DriverError> {
        let number: u32 = outlet_number(outlet)?;
        let bit = match self.command("Status", deadline) {
            Ok((json, _)) => bit_of(&json, number),
            Err(DriverError::Refused(_)) => None,
            Err(error) => return Err(error),
        };
        bit.ok_or_else(|| {
            let word = crate::transport::printable(word.as_bytes());
            DriverError::CannotRead(format!(
                "the device says {word}, a word of its StateText, and not which of on and off it is"
            ))
        })
    }
}

impl Driver for Tasmota {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let number: u32 = outlet_number(outlet)?;
        let (json, answer) = self.command(&format!("Power{number}+{to}"), attempt)?;
        match word_of(&json, number) {
            Some(word) => Ok(proof_of(&state_of(&word), to)),
            None => Err(unexpected(format!("POWER{number}"), &answer)),
        }
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        self.states(outlet, &[], deadline).map(|states| states.own)
    }

    fn states(
        &mut self,
        outlet: &Outlet,
        others: &[Outlet],
        deadline: Deadline,
    ) -> Result<States, DriverError> {
        let (json, answer) = self.command("Status+11", deadline)?;
        let mut states = States::each(outlet, others, |outlet| {
            let number: u32 = outlet_number(outlet)?;
            let word = json.get("StatusSTS").and_then(|json| word_of(json, number));
            let word = word.ok_or_else(|| unexpected(format!("POWER{number}"), &answer))?;
            Ok(state_of(&word))
        })?;
        if let State::Unknown(word) = &states.own {
            states.own = self.state_by_bit(outlet, word, deadline)?;
        }
        Ok(states)
    }

    fn rest(&mut self, deadline: Deadline) {
        self.client.rest(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn the_only_relay_may_have_no_number() {
        let check = |text: &str, outlet| word_of(&value(text), outlet);
        assert_eq!(check(r#"{"POWER":"ON"}"#, 1), Some("ON".into()));
        assert_eq!(check(r#"{"POWER1":"OFF"}"#, 1), Some("OFF".into()));
        assert_eq!(check(r#"{"POWER":"ON"}"#, 2), None);
        assert_eq!(check(r#"{"POWER1":"ON"}"#, 2), None);
        assert_eq!(check(r#"{"POWER2":"ON"}"#, 2), Some("ON".into()));
    }

    #[test]
    fn relays_are_bits_of_a_number_or_its_binary_digits() {
        let check = |power: &str, outlet| {
            bit_of(
                &value(&format!(r#"{{"Status":{{"Power":{power}}}}}"#)),
                outlet,
            )
        };
        for power in ["3", r#""011""#] {
            assert_eq!(check(power, 1), Some(State::On), "{power}");
            assert_eq!(check(power, 2), Some(State::On), "{power}");
            assert_eq!(check(power, 3), Some(State::Off), "{power}");
        }
        assert_eq!(check(r#""ON""#, 1), None);
        assert_eq!(check("1", 65), None);
        assert_eq!(bit_of(&value("{}"), 1), None);
    }
}
