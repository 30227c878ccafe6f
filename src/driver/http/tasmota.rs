//! Tasmota firmware over its web commands: `GET /cm?cmnd=Power1+on`.
//!
//! The answer is the relay's new state. A device with one relay says `POWER` instead of `POWER1`
//! unless told otherwise (SetOption26).

use super::*;
use crate::driver::{Driver, outlet_number};
use crate::request::Outlet;
use form_urlencoded::byte_serialize;
use serde_json::Value;

pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &[
        "tasmota",
        "sonoff_s20_tasmota",
        "brennenstuhl_wspl01_tasmota",
    ],
    models: "any Tasmota device; Sonoff S20 (1 outlet), Brennenstuhl WSPL01 (2)",
    keys: &[
        IP,
        HOSTNAME,
        PROTOCOL,
        INSECURE,
        CA_FILE,
        username("none"),
        password("none"),
        key(
            "port_count",
            "number",
            "1",
            "how many relays it has (driver tasmota)",
        ),
    ],
    outlets: "1 to port_count; 1; 1 to 2",
    verified_by: "simulator; each answer shows the relay's state",
    build: &build,
    ..super::SPEC
};

struct Tasmota {
    client: Client,
    outlets: u32,
    /// `&user=..&password=..`, where both are given.
    login: String,
}

fn build(settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    #[derive(Deserialize)]
    struct Keys {
        #[serde(default, deserialize_with = "settings::maybe_number")]
        port_count: Option<u32>,
    }
    let outlets = match settings.driver() {
        "sonoff_s20_tasmota" => 1,
        "brennenstuhl_wspl01_tasmota" => 2,
        _ => match settings.read::<Keys>()?.port_count {
            Some(0) => return Err(settings.error("port_count", "expected 1 or more, got 0")),
            count => count.unwrap_or(1),
        },
    };
    let mut client = client(settings, PortKey::Unread, Login::Open)?;
    let login = match settings.read::<Credentials>()?.both() {
        Some((user, password)) => {
            let form = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            client.hide(&password);
            format!("&user={}&password={}", form(&user), form(&password))
        }
        None => String::new(),
    };
    Ok(Box::new(Tasmota {
        client,
        outlets,
        login,
    }))
}

/// The relay's state in `{"POWER1": "ON"}`.
fn parse(json: &Value, outlet: u32) -> Option<State> {
    let own = json.get(format!("POWER{outlet}"));
    let only = || json.get("POWER").filter(|_| outlet == 1);
    Some(match own.or_else(only)? {
        Value::String(word) => state_of(word),
        other => state_of(&other.to_string()),
    })
}

impl Tasmota {
    fn command(
        &mut self,
        outlet: u32,
        argument: &str,
        deadline: Deadline,
    ) -> Result<(State, Answer), DriverError> {
        let target = format!("/cm?cmnd=Power{outlet}{argument}{}", self.login);
        let answer = ask(&mut self.client, &Request::get(&target), deadline)?;
        let json = json(&answer)?;
        if json.get("WARNING").is_some() {
            return told(&answer, DriverError::LoginRefused(answer.quote()));
        }
        if json.get("Command").is_some() {
            return told(&answer, DriverError::Refused(answer.quote()));
        }
        match parse(&json, outlet) {
            Some(state) => Ok((state, answer)),
            None => Err(unexpected(format!("POWER{outlet}"), &answer)),
        }
    }
}

impl Driver for Tasmota {
    fn check(&self, outlet: &Outlet) -> Result<(), DriverError> {
        outlet_number(outlet, 1..=self.outlets).map(drop)
    }

    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        deadline: Deadline,
    ) -> Result<(), DriverError> {
        let number = outlet_number(outlet, 1..=self.outlets)?;
        let (state, answer) = self.command(number, &format!("+{to}"), deadline)?;
        if state == State::from(to) {
            return Ok(());
        }
        Err(unexpected(format!("POWER{number} {to}"), &answer))
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let number = outlet_number(outlet, 1..=self.outlets)?;
        self.command(number, "", deadline).map(|(state, _)| state)
    }

    fn rest(&mut self, _: Deadline) {
        self.client.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_relay_may_have_no_number() {
        let check = |text: &str, outlet| parse(&serde_json::from_str(text).expect("JSON"), outlet);
        assert_eq!(check(r#"{"POWER":"ON"}"#, 1), Some(State::On));
        assert_eq!(check(r#"{"POWER1":"OFF"}"#, 1), Some(State::Off));
        assert_eq!(check(r#"{"POWER":"ON"}"#, 2), None);
        assert_eq!(check(r#"{"POWER1":"ON"}"#, 2), None);
        assert_eq!(check(r#"{"POWER2":"ON"}"#, 2), Some(State::On));
    }
}
