//! NETIO PDUs over their JSON API (`/netio.json`), which answers with the outlets' new states.

use super::*;
use crate::driver::{Driver, Outlets, States, outlet_number};
use crate::request::Outlet;
use crate::transport::http::Method;
use serde_json::Value;
use std::num::NonZeroU32;

pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &["netiojson"],
    models: "NETIO 4, 4All, PowerPDU, PowerBOX, PowerCable with the JSON API",
    outlets: Has::Told("1 to number_of_outputs"),
    verified_by: "simulator; each answer shows the outlet's state",
    build: &By(build),
    ..super::SPEC
};

struct Netio {
    client: Client,
}

keys! {
    struct Keys {
        ..host: Host;
        ..port: WebPort;
        ..way: Way;
        ..login: Admin;
        number_of_outputs: NonZeroU32 = 4, "how many outlets it has";
    }
}

fn build(keys: Keys, settings: &Settings) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    let login = basic(keys.login.username, &keys.login.password);
    let driver = Netio {
        client: client(settings, &keys.host, keys.way, keys.port.port, login)?,
    };
    let outlets = Outlets::Range(1..=keys.number_of_outputs.get());
    Ok((Box::new(driver), outlets))
}

/// The outlet's `State` in `{"Outputs": [{"ID": 1, "State": 1, ...}, ...]}`.
fn parse(json: &Value, outlet: u32) -> Option<State> {
    let mut outputs = json.get("Outputs")?.as_array()?.iter();
    let own =
        outputs.find(|output| output.get("ID").and_then(Value::as_u64) == Some(outlet.into()));
    Some(match own?.get("State")? {
        Value::String(word) => state_of(word),
        other => state_of(&other.to_string()),
    })
}

fn read(answer: &Answer, outlet: u32) -> Result<State, DriverError> {
    parse(&json(answer)?, outlet)
        .ok_or_else(|| unexpected(format!("an output with ID {outlet} and its State"), answer))
}

impl Driver for Netio {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let number = outlet_number(outlet)?;
        let action = match to {
            Switch::On => 1,
            Switch::Off => 0,
        };
        let body = format!("{{\"Outputs\": [{{\"ID\": {number}, \"Action\": {action}}}]}}");
        let request = Request::with_body(Method::Post, "/netio.json", "application/json", &body);
        let answer = ask(&mut self.client, &request, attempt)?;
        Ok(proof_of(&read(&answer, number)?, to))
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let answer = ask(&mut self.client, &Request::get("/netio.json"), deadline)?;
        read(&answer, outlet_number(outlet)?)
    }

    fn states(
        &mut self,
        outlet: &Outlet,
        others: &[Outlet],
        deadline: Deadline,
    ) -> Result<States, DriverError> {
        let answer = ask(&mut self.client, &Request::get("/netio.json"), deadline)?;
        States::each(outlet, others, |outlet| {
            read(&answer, outlet_number(outlet)?)
        })
    }

    fn rest(&mut self, deadline: Deadline) {
        self.client.rest(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_output_is_found() {
        let text = r#"{"Agent": {"Model": "4All"}, "Outputs": [{"ID": 1, "State": 1}, {"ID": 2, "State": 0}, {"ID": 3, "State": 7}]}"#;
        let json: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(parse(&json, 1), Some(State::On));
        assert_eq!(parse(&json, 2), Some(State::Off));
        assert_eq!(parse(&json, 3), Some(State::Unknown("7".into())));
        assert_eq!(parse(&json, 4), None);
        assert_eq!(parse(&Value::Null, 1), None);
    }
}
