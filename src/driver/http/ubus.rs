//! OpenWrt switches with PoE (`poe` object of ubus): JSON-RPC without a login.
//!
//! Outlet `N` is the interface `lanN`. The call's own status comes inside `result`: 0 is success,
//! 6 is "permission denied", see ubus's list of status codes.

use super::*;
use crate::driver::{Driver, Outlets, Sought, States};
use crate::request::Outlet;
use crate::transport::http::Method;
use serde_json::Value;

pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &["ubus"],
    models: "OpenWrt PoE switches (realtek-poe) with uhttpd-mod-ubus",
    outlets: Has::Told("N of the interface lanN"),
    verified_by: "simulator; UNVERIFIED: the status object that newer realtek-poe gives for each \
                  port",
    build: &By(build),
    ..super::SPEC
};

/// The session of whoever has not logged in.
const NO_SESSION: &str = "00000000000000000000000000000000";

struct Ubus {
    client: Client,
}

keys! {
    struct Keys {
        ..host: Host;
        ..way: Way;
    }
}

fn build(keys: Keys, settings: &Settings) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    let driver = Ubus {
        client: client(settings, &keys.host, keys.way, None, Login::Open)?,
    };
    let outlets = Outlets::rule(port).seeking(Sought::One("1"));
    Ok((Box::new(driver), outlets))
}

/// The outlet of an interface: a number, or the rest of a name.
fn port(outlet: &Outlet) -> Result<Outlet, String> {
    let id = outlet.key();
    let fits = !id.is_empty()
        && id.len() <= 12
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !fits {
        return Err("N of an interface lanN".into());
    }
    Ok(outlet.clone())
}

fn interface(outlet: &Outlet) -> String {
    format!("lan{}", outlet.key())
}

/// ubus's names for its status codes.
fn status_words(status: u64) -> &'static str {
    match status {
        1 => "invalid command",
        2 => "invalid argument",
        3 => "method not found",
        4 => "not found",
        5 => "no data",
        6 => "permission denied",
        7 => "timeout",
        8 => "not supported",
        9 => "unknown error",
        10 => "connection failed",
        _ => "unknown status",
    }
}

/// With any other, the one who asks has stopped waiting for the poe daemon, which may have obeyed.
fn is_refusal(status: u64) -> bool {
    !matches!(status, 7 | 9 | 10)
}

/// The data of `{"result": [0, {..}]}` (null where there is none), or the failure.
fn parse(json: &Value) -> Option<Result<Value, DriverError>> {
    let refused =
        |words: String| DriverError::Refused(crate::transport::printable(words.as_bytes()));
    if json.get("id").is_some_and(|id| *id != 1) {
        return None;
    }
    if let Some(error) = json.get("error") {
        return Some(Err(refused(error.to_string())));
    }
    let result = json.get("result")?.as_array()?;
    match result.first()?.as_u64()? {
        0 => Some(Ok(result.get(1).cloned().unwrap_or(Value::Null))),
        status => {
            let words = format!("ubus status {status}, {}", status_words(status));
            Some(Err(match is_refusal(status) {
                true => refused(words),
                false => DriverError::Unexpected {
                    expected: "ubus status 0".into(),
                    got: words,
                },
            }))
        }
    }
}

/// The state that `info` shows for a port.
fn port_state(data: &Value, interface: &str) -> Option<State> {
    let port = data.get("ports")?.get(interface)?;
    let word = match port {
        Value::Object(fields) => fields.get("status")?.as_str()?,
        other => other.as_str()?,
    };
    Some(match word {
        "Disabled" => State::Off,
        "Searching" | "Requesting power" | "Delivering power" => State::On,
        other => State::Unknown(other.to_owned()),
    })
}

impl Ubus {
    fn call(
        &mut self,
        method: &str,
        arguments: &str,
        timed: impl Timed,
    ) -> Result<(Value, Answer), DriverError> {
        let body = format!(
            "{{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"call\", \"params\": [\"{NO_SESSION}\", \
             \"poe\", \"{method}\", {{{arguments}}}]}}"
        );
        let request = Request::with_body(Method::Post, "/ubus", "application/json", &body);
        ask_and(&mut self.client, &request, timed, |answer| {
            match parse(&json(&answer)?) {
                Some(data) => Ok((data?, answer)),
                None => Err(unexpected("a result with id 1", &answer)),
            }
        })
    }
}

fn read(data: &Value, answer: &Answer, outlet: &Outlet) -> Result<State, DriverError> {
    let interface = interface(outlet);
    port_state(data, &interface)
        .ok_or_else(|| unexpected(format!("port {interface} in poe info"), answer))
}

impl Driver for Ubus {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let enable = to == Switch::On;
        let arguments = format!("\"port\": \"{}\", \"enable\": {enable}", interface(outlet));
        self.call("manage", &arguments, attempt)?;
        Ok(Proof::Reply)
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let (data, answer) = self.call("info", "", deadline)?;
        read(&data, &answer, outlet)
    }

    fn states(
        &mut self,
        outlet: &Outlet,
        _: &[Outlet],
        deadline: Deadline,
    ) -> Result<States, DriverError> {
        let (data, answer) = self.call("info", "", deadline)?;
        let own = read(&data, &answer, outlet)?;
        let ports = data.get("ports").and_then(Value::as_object);
        let names = ports.into_iter().flat_map(|ports| ports.keys());
        let list = names.filter_map(|name| {
            let id = Outlet::new(name.strip_prefix("lan")?);
            Some((id, port_state(&data, name)?))
        });
        Ok(States::listed(own, list))
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
    fn the_inner_status_decides() {
        let check = |text: &str| parse(&serde_json::from_str(text).expect("JSON"));
        assert_eq!(
            check(r#"{"jsonrpc":"2.0","id":1,"result":[0]}"#),
            Some(Ok(Value::Null))
        );
        assert_eq!(
            check(r#"{"jsonrpc":"2.0","id":1,"result":[6]}"#),
            Some(Err(DriverError::Refused(
                "\"ubus status 6, permission denied\"".into()
            )))
        );
        let late = check(r#"{"id":1,"result":[7]}"#);
        assert!(matches!(late, Some(Err(error)) if !error.is_refusal()));
        let refused = check(r#"{"id":1,"error":{"code":-32002,"message":"Access denied"}}"#);
        assert!(matches!(refused, Some(Err(error)) if error.to_string().contains("Access denied")));
        assert_eq!(check(r#"{"id":2,"result":[0]}"#), None);
        assert_eq!(check(r#"{"id":1,"result":[]}"#), None);
    }

    #[test]
    fn old_and_new_port_lists_are_read() {
        let old = serde_json::json!({"ports": {"lan1": "Disabled", "lan2": "Searching"}});
        assert_eq!(port_state(&old, "lan1"), Some(State::Off));
        assert_eq!(port_state(&old, "lan2"), Some(State::On));
        assert_eq!(port_state(&old, "lan3"), None);
        let fault = serde_json::json!({"ports": {"lan1": {"status": "Other fault"}}});
        let unknown = State::Unknown("Other fault".into());
        assert_eq!(port_state(&fault, "lan1"), Some(unknown));
        let new = serde_json::json!({"ports": {"lan1": {"status": "Disabled"}}});
        assert_eq!(port_state(&new, "lan1"), Some(State::Off));
    }

    #[test]
    fn outlets_are_numbers_or_names() {
        for (id, wanted) in [("04", "lan4"), ("-office", "lan-office")] {
            let outlet = port(&Outlet::new(id)).expect("an outlet");
            assert_eq!(interface(&outlet), wanted);
        }
        assert!(port(&Outlet::new("1\", \"x")).is_err());
    }
}
