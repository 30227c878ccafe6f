//! ESPHome's web server (`web_server:` component): REST paths per switch, digest or Basic login.
//!
//! A switch is known by its name as in the node's YAML, `Desk Lamp`; one of a sub-device by that
//! device's name before it, `Kitchen/Desk Lamp`. Firmware before 2026.1 knows object ids only
//! (`desk_lamp`), and firmware from 2026.7 on names only. No name has a slash in it.
//!
//! The answer comes before the relay moves, and proves nothing of it.

use super::*;
use crate::driver::{Driver, Outlets, Sought, named};
use crate::request::Outlet;
use crate::transport::http::encode;
use std::sync::Arc;

pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &["esphome-http"],
    models: "any ESPHome node with web_server",
    outlets: Has::Told(
        "a switch's name as in the node's YAML, Desk Lamp, after the name of its sub-device \
         where it is on one, Kitchen/Desk Lamp (firmware before 2026.1: its object id, \
         desk_lamp); or 1 to the number of switch_ids",
    ),
    verified_by: "simulator, its digest login by hand with CherryPy; names and sub-devices as in \
                  ESPHome's source of 2026; UNVERIFIED on hardware",
    build: &By(build),
    ..super::SPEC
};

struct Esphome {
    client: Client,
    switch_ids: Arc<[String]>,
}

keys! {
    struct Keys {
        ..host: Host;
        ..port: WebPort;
        ..way: Way;
        ..login: Credentials;
        basic_login: Basic = "until-digest", BASIC_LOGIN;
        switch_ids: Vec<String> = [],
            "switches that outlets 1, 2, ... stand for, each as an outlet is written";
    }
}

fn build(keys: Keys, settings: &Settings) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    let login = match keys.login.both() {
        Some((user, password)) => Login::Asked {
            user,
            password,
            basic: keys.basic_login,
        },
        None => Login::Open,
    };
    let switch_ids: Arc<[String]> = keys.switch_ids.into();
    let driver = Esphome {
        client: client(settings, &keys.host, keys.way, keys.port.port, login)?,
        switch_ids: Arc::clone(&switch_ids),
    };
    let count = u32::try_from(switch_ids.len()).unwrap_or(u32::MAX);
    let outlets = Outlets::rule(move |outlet| find(&switch_ids, outlet));
    // The node tells no list; these are known.
    let outlets = outlets.seeking(Sought::Numbers(1..=count));
    Ok((Box::new(driver), outlets))
}

/// The switch that an outlet's number in `switch_ids` stands for, or that the outlet names.
fn switch_of<'a>(switch_ids: &'a [String], outlet: &'a Outlet) -> &'a str {
    let index = outlet
        .number()
        .and_then(|number| usize::try_from(number.checked_sub(1)?).ok());
    let listed = index.and_then(|index| switch_ids.get(index));
    listed.map_or(outlet.as_str(), String::as_str)
}

/// A switch is one outlet under its number, its name and its object id.
fn find(switch_ids: &[String], outlet: &Outlet) -> Result<Outlet, String> {
    let switch = switch_of(switch_ids, outlet);
    let expected = "a switch's name, or a number from 1 that switch_ids has";
    let mut parts = switch.splitn(2, '/');
    parts.try_for_each(|part| named(&Outlet::new(part), expected).map(drop))?;
    Ok(outlet.clone().known_as(object_id(switch)))
}

/// A switch's object id, made of its name as the firmware makes it.
fn object_id(name: &str) -> String {
    name.chars()
        .map(|c| match c {
            'A'..='Z' => c.to_ascii_lowercase(),
            'a'..='z' | '0'..='9' | '-' | '_' | '/' => c,
            _ => '_',
        })
        .collect()
}

impl Esphome {
    fn path(&self, outlet: &Outlet) -> String {
        let mut path = String::from("/switch");
        for part in switch_of(&self.switch_ids, outlet).splitn(2, '/') {
            path.push('/');
            path.push_str(&encode(part));
        }
        path
    }

    fn ask(&mut self, request: &Request<'_>, timed: impl Timed) -> Result<Answer, DriverError> {
        ask(&mut self.client, request, timed).map_err(|error| match error {
            DriverError::Refused(words) if words.contains("HTTP 404: ") => {
                DriverError::Refused(format!(
                    "{words} (the outlet is the switch's name as in the node's YAML; firmware \
                     before 2026.1 knows it by its object id)"
                ))
            }
            other => other,
        })
    }
}

impl Driver for Esphome {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let target = format!("{}/turn_{to}", self.path(outlet));
        self.ask(&Request::post_empty(&target), attempt)?;
        Ok(Proof::Reply)
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let target = self.path(outlet);
        let answer = self.ask(&Request::get(&target), deadline)?;
        parse(&json(&answer)?).ok_or_else(|| unexpected("a switch's value or state", &answer))
    }

    fn rest(&mut self, deadline: Deadline) {
        self.client.rest(deadline);
    }
}

/// `{"id": "switch-relay", "value": true, "state": "ON"}`.
fn parse(json: &serde_json::Value) -> Option<State> {
    if let Some(value) = json.get("value").and_then(serde_json::Value::as_bool) {
        return Some(if value { State::On } else { State::Off });
    }
    Some(state_of(json.get("state")?.as_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_wins_over_state() {
        let check = |text: &str| parse(&serde_json::from_str(text).expect("JSON"));
        assert_eq!(
            check(r#"{"value": false, "state": "ON"}"#),
            Some(State::Off)
        );
        assert_eq!(check(r#"{"state": "ON"}"#), Some(State::On));
        assert_eq!(
            check(r#"{"state": "NAN"}"#),
            Some(State::Unknown("NAN".into()))
        );
        assert_eq!(check("[]"), None);
    }
}
