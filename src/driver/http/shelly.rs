//! Shelly devices of the second generation and later: JSON-RPC over HTTP.
//!
//! Source: the RPC protocol and Switch component pages of Shelly's API documentation. With
//! authentication on, the device wants digest with SHA-256, user `admin`.

use super::*;
use crate::driver::{Driver, outlet_number};
use crate::request::Outlet;
use crate::transport::http::Method;
use serde_json::Value;

pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &["shelly_gen2"],
    models: "Shelly Plus, Pro, Gen3 and Gen4 devices with switches",
    outlets: Has::Numbers(0, 3),
    verified_by: "simulator",
    build: &By(build),
    ..super::SPEC
};

struct Shelly {
    client: Client,
}

keys! {
    struct Keys {
        ..host: Host;
        ..way: Way;
        username: TextOrNumber = "admin", USERNAME;
        password: Option<Secret>, PASSWORD;
        basic_login: Basic = "never", BASIC_LOGIN;
    }
}

fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let login = match keys
        .password
        .filter(|password| !password.reveal().is_empty())
    {
        Some(password) => Login::Asked {
            user: keys.username.0,
            password: password.reveal().to_owned(),
            basic: keys.basic_login,
        },
        None => Login::Open,
    };
    Ok(Box::new(Shelly {
        client: client(settings, &keys.host, keys.way, None, login)?,
    }))
}

/// Does the error with this code come before anything is done? The request is wrong (-103), there is
/// no such switch (-105), the device's state does not allow it (-109), no login, no such method.
/// Any other, as a deadline exceeded (-104), may come after.
fn is_certain(code: i64) -> bool {
    matches!(code, -103 | -105 | -109 | 401 | 404)
}

/// The answer's `result`, or the device's error; `None` when it is not the answer to our call.
fn parse(json: &Value) -> Option<Result<&Value, DriverError>> {
    if json.get("id").is_some_and(|id| *id != 1) {
        return None;
    }
    if let Some(error) = json.get("error") {
        let words = crate::transport::printable(error.to_string().as_bytes());
        let code = error.get("code").and_then(Value::as_i64);
        return Some(Err(match code.is_some_and(is_certain) {
            true => DriverError::Refused(words),
            false => DriverError::Unexpected {
                expected: "a result".into(),
                got: words,
            },
        }));
    }
    json.get("result").map(Ok)
}

impl Shelly {
    fn call(
        &mut self,
        method: &str,
        parameters: &str,
        timed: impl Timed,
    ) -> Result<(Value, Answer), DriverError> {
        let body = format!(
            "{{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"{method}\", \"params\": {{{parameters}}}}}"
        );
        let request = Request::with_body(Method::Post, "/rpc", "application/json", &body);
        ask_and(&mut self.client, &request, timed, |answer| {
            match parse(&json(&answer)?) {
                Some(result) => Ok((result?.clone(), answer)),
                None => Err(unexpected("a result with id 1", &answer)),
            }
        })
    }
}

impl Driver for Shelly {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let number: u32 = outlet_number(outlet)?;
        let on = to == Switch::On;
        let parameters = format!("\"id\": {number}, \"on\": {on}");
        self.call("Switch.Set", &parameters, attempt)?;
        Ok(Proof::Reply)
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let number: u32 = outlet_number(outlet)?;
        let (result, answer) =
            self.call("Switch.GetStatus", &format!("\"id\": {number}"), deadline)?;
        match result.get("output") {
            Some(Value::Bool(true)) => Ok(State::On),
            Some(Value::Bool(false)) => Ok(State::Off),
            // After a fault of its own the switch reports null.
            Some(other) => Ok(State::Unknown(other.to_string())),
            None => Err(unexpected("the switch's output", &answer)),
        }
    }

    fn rest(&mut self, deadline: Deadline) {
        self.client.rest(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Verdict;

    #[test]
    fn results_errors_and_other_answers_are_told_apart() {
        let check = |text: &str| {
            let json: Value = serde_json::from_str(text).expect("JSON");
            parse(&json).map(|result| result.is_ok())
        };
        assert_eq!(
            check(r#"{"id":1,"src":"x","result":{"was_on":true}}"#),
            Some(true)
        );
        assert_eq!(
            check(
                r#"{"id":1,"error":{"code":-105,"message":"Argument 'id', value 3 not found!"}}"#
            ),
            Some(false)
        );
        assert_eq!(check(r#"{"id":2,"result":{"was_on":true}}"#), None);
        assert_eq!(check(r#"{"id":1}"#), None);
        assert_eq!(check("[]"), None);
    }

    #[test]
    fn only_some_errors_come_before_the_switching() {
        for (error, is_refusal) in [
            (r#"{"code":-103,"message":"Missing required 'id'"}"#, true),
            (r#"{"code":-105,"message":"value 3 not found!"}"#, true),
            (r#"{"code":-104,"message":"timed out"}"#, false),
            (r#"{"code":-114,"message":"unavailable"}"#, false),
            (r#"{"message":"no code"}"#, false),
        ] {
            let json = format!(r#"{{"id":1,"error":{error}}}"#);
            let json: Value = serde_json::from_str(&json).expect("JSON");
            let told = parse(&json).map(|result| result.map_err(|error| error.is_refusal()));
            assert_eq!(told, Some(Err(is_refusal)), "{error}");
        }
    }
}
