//! Server Technology PRO2 over JAWS, its JSON API. Outlets have names such as `AA1`, `BA35`.

use super::*;
use crate::driver::{Driver, Outlets, named};
use crate::request::Outlet;
use crate::transport::http::{Method, encode};
use serde_json::Value;

pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &["servertechpro2"],
    models: "Server Technology PRO2, PRO3X with JAWS",
    outlets: Has::Told("outlet ids as AA1"),
    verified_by: "simulator; UNVERIFIED on hardware: the letter case of states",
    build: &By(build),
    ..super::SPEC
};

struct Servertech {
    client: Client,
}

keys! {
    struct Keys {
        ..host: Host;
        ..way: Way;
        ..login: Admin;
    }
}

fn build(keys: Keys, settings: &Settings) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    let login = basic(keys.login.username, &keys.login.password);
    let driver = Servertech {
        client: client(settings, &keys.host, keys.way, None, login)?,
    };
    let outlets = Outlets::rule(|outlet| {
        let outlet = named(outlet, "an outlet id as AA1")?;
        let key = outlet.as_str().to_ascii_uppercase();
        Ok(outlet.known_as(key))
    });
    Ok((Box::new(driver), outlets))
}

/// The outlet's `state`, from its object or from a list with it.
fn parse(json: &Value, outlet: &str) -> Option<State> {
    let own = match json.as_array() {
        Some(list) => list.iter().find(|entry| {
            let id = entry.get("id").and_then(Value::as_str);
            id.is_some_and(|id| id.eq_ignore_ascii_case(outlet))
        })?,
        None => json,
    };
    Some(state_of(own.get("state")?.as_str()?))
}

impl Driver for Servertech {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let target = format!("/jaws/control/outlets/{}", encode(outlet.as_str()));
        let body = format!("{{\"control_action\": \"{to}\"}}");
        let request = Request::with_body(Method::Patch, &target, "application/json", &body);
        ask(&mut self.client, &request, attempt)?;
        Ok(Proof::Reply)
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let id = outlet.as_str();
        let target = format!("/jaws/monitor/outlets/{}", encode(id));
        let answer = ask(&mut self.client, &Request::get(&target), deadline)?;
        parse(&json(&answer)?, id).ok_or_else(|| unexpected("the outlet's state", &answer))
    }

    fn rest(&mut self, deadline: Deadline) {
        self.client.rest(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_lists_are_read() {
        let check = |text: &str| parse(&serde_json::from_str(text).expect("JSON"), "AA2");
        assert_eq!(check(r#"{"id": "AA2", "state": "On"}"#), Some(State::On));
        assert_eq!(
            check(r#"[{"id": "AA1", "state": "On"}, {"id": "AA2", "state": "off"}]"#),
            Some(State::Off)
        );
        assert_eq!(check(r#"[{"id": "AA1", "state": "On"}]"#), None);
    }
}
