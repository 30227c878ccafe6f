//! ESPHome's web server (`web_server:` component): REST paths per switch, digest or Basic login.
//!
//! A switch is known by its name as in the node's YAML, `Desk Lamp`; one of a sub-device by that
//! device's name before it, `Kitchen/Desk Lamp`. Firmware before 2026.1 knows object ids only
//! (`desk_lamp`), and firmware from 2026.7 on names only. No name has a slash in it.
//!
//! The answer comes before the relay moves, and proves nothing of it.

use super::*;
use crate::driver::Driver;
use crate::request::Outlet;
use crate::transport::http::encode;

pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &["esphome-http"],
    models: "any ESPHome node with web_server",
    keys: &[
        IP,
        HOSTNAME,
        port("80"),
        PROTOCOL,
        INSECURE,
        CA_FILE,
        username("none"),
        password("none"),
        basic_login("\"until-digest\""),
        key(
            "switch_ids",
            "list",
            "none",
            "switches that outlets 1, 2, ... stand for, each as an outlet is written",
        ),
    ],
    outlets: "a switch's name as in the node's YAML, Desk Lamp, after the name of its sub-device \
              where it is on one, Kitchen/Desk Lamp (firmware before 2026.1: its object id, \
              desk_lamp); or 1 to the number of switch_ids",
    verified_by: "simulator, its digest login by hand with CherryPy; names and sub-devices as in \
                  ESPHome's source of 2026; UNVERIFIED on hardware",
    build: &build,
    ..super::SPEC
};

struct Esphome {
    client: Client,
    switch_ids: Vec<String>,
}

fn build(settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    #[derive(Deserialize)]
    struct Keys {
        #[serde(default)]
        switch_ids: Vec<String>,
    }
    let keys: Keys = settings.read()?;
    let login = match settings.read::<Credentials>()?.both() {
        Some(pair) => asked(settings, pair, Basic::UntilDigest)?,
        None => Login::Open,
    };
    Ok(Box::new(Esphome {
        client: client(settings, PortKey::Or(80), login)?,
        switch_ids: keys.switch_ids,
    }))
}

impl Esphome {
    fn path(&self, outlet: &Outlet) -> Result<String, DriverError> {
        let listed = outlet
            .number()
            .and_then(|number| usize::try_from(number.checked_sub(1)?).ok())
            .and_then(|index| self.switch_ids.get(index))
            .map(|id| Outlet::new(id.as_str()));
        let outlet = listed.as_ref().unwrap_or(outlet);
        let name = outlet.as_str();
        let (device, switch) = match name.split_once('/') {
            Some((device, switch)) => (Some(device), switch),
            None => (None, name),
        };
        let mut path = String::from("/switch");
        for part in device.into_iter().chain([switch]) {
            path.push('/');
            path.push_str(&encode(named_outlet(&Outlet::new(part))?));
        }
        Ok(path)
    }

    fn ask(&mut self, request: &Request<'_>, deadline: Deadline) -> Result<Answer, DriverError> {
        ask(&mut self.client, request, deadline).map_err(|error| match error {
            DriverError::Refused(words) if words.starts_with("HTTP 404") => {
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
    fn check(&self, outlet: &Outlet) -> Result<(), DriverError> {
        self.path(outlet).map(drop)
    }

    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        deadline: Deadline,
    ) -> Result<Proof, DriverError> {
        let target = format!("{}/turn_{to}", self.path(outlet)?);
        self.ask(&Request::post_empty(&target), deadline)?;
        Ok(Proof::Reply)
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let target = self.path(outlet)?;
        let answer = self.ask(&Request::get(&target), deadline)?;
        parse(&json(&answer)?).ok_or_else(|| unexpected("a switch's value or state", &answer))
    }

    fn rest(&mut self, _: Deadline) {
        self.client.rest();
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
