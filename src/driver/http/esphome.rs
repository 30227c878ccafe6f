//! ESPHome's web server (`web_server:` component): REST paths per switch, digest or Basic login.
//!
//! The answer comes before the relay moves, so success is read back.

use super::*;
use crate::driver::Driver;
use crate::request::Outlet;
use crate::transport::http::encode;

pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &["esphome-http"],
    models: "any ESPHome node with web_server, switches by object id",
    keys: &[
        IP,
        HOSTNAME,
        port("80"),
        PROTOCOL,
        INSECURE,
        CA_FILE,
        username("none"),
        password("none"),
        key(
            "switch_ids",
            "list",
            "none",
            "switch ids that outlets 1, 2, ... stand for",
        ),
    ],
    outlets: "switch ids, or 1 to the number of switch_ids",
    verified_by: "simulator, its digest login by hand with CherryPy; UNVERIFIED on hardware",
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
        Some((user, password)) => Login::Asked { user, password },
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
            .and_then(|index| self.switch_ids.get(index));
        let id = match listed {
            Some(id) => id.as_str(),
            None => named_outlet(outlet)?,
        };
        Ok(format!("/switch/{}", encode(id)))
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
    ) -> Result<(), DriverError> {
        let target = format!("{}/turn_{to}", self.path(outlet)?);
        ask(&mut self.client, &Request::post_empty(&target), deadline)?;
        confirm(to, LAG, deadline, || self.state(outlet, deadline))
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let target = self.path(outlet)?;
        let answer = ask(&mut self.client, &Request::get(&target), deadline)?;
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
