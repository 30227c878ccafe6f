//! Home Assistant's REST API: its `switch` entities as outlets.
//!
//! Source: the REST API page of Home Assistant's developer documentation. A service call answers
//! with the entities whose state it changed; for an entity that does not exist, or was already
//! so, that list is empty. So what the list does not show is read.

use super::*;
use crate::driver::{Driver, Outlets, named};
use crate::request::Outlet;
use crate::transport::http::{Method, encode};
use serde_json::Value;

pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &["home-assistant-http"],
    models: "any switch entity of Home Assistant",
    outlets: Has::Told("entity ids without the switch. before them"),
    verified_by: "simulator; UNVERIFIED: the empty list for an unknown entity",
    // Integrations that poll ask their devices each 30 s.
    shows_within: 30,
    build: &By(build),
    ..super::SPEC
};

struct HomeAssistant {
    client: Client,
}

keys! {
    struct Keys {
        ..host: Host;
        ..port: WebPort;
        ..way: Way;
        api_key: Option<Secret>, "long-lived access token";
    }
}

fn build(keys: Keys, settings: &Settings) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    // Without a token there is nothing to send; the answer will be 401.
    let login = match keys.api_key {
        Some(token) if !token.reveal().bytes().all(|byte| byte.is_ascii_graphic()) => {
            return Err(settings.error("api_key", "expected letters, digits and signs only"));
        }
        Some(token) => Login::Bearer(token.reveal().to_owned()),
        None => Login::Open,
    };
    let driver = HomeAssistant {
        client: client(settings, &keys.host, keys.way, keys.port.port, login)?,
    };
    // Home Assistant takes them in any letter case.
    let outlets = Outlets::rule(|outlet| {
        let entity = named(outlet, "an entity id without the switch. before it")?;
        let key = entity.as_str().to_ascii_lowercase();
        Ok(entity.known_as(key))
    });
    Ok((Box::new(driver), outlets))
}

/// What the answered list says about `entity`.
fn changed(json: &Value, entity: &str) -> Option<State> {
    let mut entries = json.as_array()?.iter();
    let own = entries.find(|entry| entry.get("entity_id").and_then(Value::as_str) == Some(entity));
    Some(state_of(own?.get("state")?.as_str()?))
}

impl Driver for HomeAssistant {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let entity = format!("switch.{}", outlet);
        let target = format!("/api/services/switch/turn_{to}");
        let body = format!("{{\"entity_id\": {}}}", Value::from(entity.as_str()));
        let request = Request::with_body(Method::Post, &target, "application/json", &body);
        let answer = ask(&mut self.client, &request, attempt)?;
        let changed = changed(&json(&answer)?, &entity);
        Ok(changed.map_or(Proof::Reply, |state| proof_of(&state, to)))
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let target = format!("/api/states/switch.{}", encode(outlet.as_str()));
        let answer = ask(&mut self.client, &Request::get(&target), deadline)?;
        let json = json(&answer)?;
        let word = json.get("state").and_then(Value::as_str);
        word.map(state_of)
            .ok_or_else(|| unexpected("an entity's state", &answer))
    }

    fn rest(&mut self, deadline: Deadline) {
        self.client.rest(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_no_header_can_hold_is_refused() {
        for text in [r#"{"api_key": "a b"}"#, r#"{"api_key": "a\r\nX: y"}"#] {
            let error = By(build)
                .of(&super::super::tests::settings("x", text))
                .err();
            let error = error.expect("refused");
            assert_eq!(error.key.as_deref(), Some("api_key"));
            assert!(!error.message.contains('X'));
        }
    }

    #[test]
    fn only_the_own_entity_counts() {
        let list = r#"[{"entity_id": "light.a", "state": "on"}, {"entity_id": "switch.a", "state": "off"}]"#;
        let list: Value = serde_json::from_str(list).expect("JSON");
        assert_eq!(changed(&list, "switch.a"), Some(State::Off));
        assert_eq!(changed(&list, "switch.b"), None);
        assert_eq!(changed(&Value::Null, "switch.b"), None);
    }
}
