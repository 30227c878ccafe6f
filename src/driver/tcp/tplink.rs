//! TP-Link's Kasa strips and plugs: JSON under an autokey XOR, on port 9999.
//!
//! A message is a big-endian length of 4 bytes and as many bytes of JSON, each XORed with the
//! encrypted byte before it (the first with ABh). The HS105 insists on the right length.
//!
//! The bytes are those of the Python driver (a connection for each message, the same JSON with the
//! same spaces). Beyond it: single plugs, which have no children, get the message without a
//! context; the children are asked for when they are needed (once while the queue has work) and
//! not when the daemon starts; err_code counts.

use crate::driver::{Driver, DriverError, Has, Host, Outlets, Sought, States};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Address, Settings, SettingsError};
use crate::transport::tcp::Connection;
use crate::transport::{Attempt, Deadline, Timed, TransportError, TransportErrorKind, printable};
use serde_json::Value;

/// More than the sysinfo of any strip.
const MOST: usize = 64 * 1024;

const GET_SYSINFO: &str = r#"{"system": {"get_sysinfo": {}}}"#;

/// What newer firmware does to port 9999.
const REFUSED: &str = " (newer firmware of Kasa devices, and all Tapo ones, speak only KLAP, which \
                       needs the owner's TP-Link account and is not spoken here: switch on \"third-party \
                       compatibility\" in the app where it has that, or reach the device through Home \
                       Assistant with the driver home-assistant-http)";

struct Tplink {
    address: Address,
    /// What the device said it has; kept while the queue has work.
    sysinfo: Option<Sysinfo>,
    /// The aliases of its outlets, by place, as the device gave them last.
    aliases: Vec<String>,
}

/// Its outlets, in words.
pub(super) const OUTLETS: Has = Has::Told(
    "a strip's outlet by its alias in the Kasa app or its place from 1; a single plug is 1 or its \
     alias",
);

pub(super) fn build(
    host: Host,
    settings: &Settings,
) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    let driver = Tplink {
        address: host.address(settings, 9999)?,
        sysinfo: None,
        aliases: Vec::new(),
    };
    let outlets = OUTLETS.outlets().seeking(Sought::One("1"));
    Ok((Box::new(driver), outlets))
}

fn encrypt(text: &[u8]) -> Vec<u8> {
    let mut key = 0xab;
    text.iter()
        .map(|byte| {
            key ^= byte;
            key
        })
        .collect()
}

fn decrypt(cipher: &[u8]) -> Vec<u8> {
    let mut key = 0xab;
    cipher
        .iter()
        .map(|byte| byte ^ std::mem::replace(&mut key, *byte))
        .collect()
}

fn frame(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(encrypt(text.as_bytes()));
    frame
}

/// Which relay of the device: the child with this id, or the only one.
#[derive(Debug, PartialEq)]
struct Relay {
    child: Option<String>,
    state: State,
}

fn set_relay(child: Option<&str>, to: Switch) -> String {
    let state = match to {
        Switch::On => 1,
        Switch::Off => 0,
    };
    match child {
        Some(id) => format!(
            r#"{{"context": {{"child_ids": [{}]}}, "system": {{"set_relay_state": {{"state": {state}}}}}}}"#,
            Value::from(id)
        ),
        None => format!(r#"{{"system":{{"set_relay_state":{{"state":{state}}}}}}}"#),
    }
}

/// The answer to `get_sysinfo`.
#[derive(Clone)]
struct Sysinfo(Value);

/// The place from 1 that `outlet` names: by alias, else by place.
fn place(aliases: &[String], outlet: &Outlet) -> Option<usize> {
    let by_alias = aliases.iter().position(|alias| alias == outlet.as_str());
    let by_place = || usize::try_from(outlet.number()?.checked_sub(1)?).ok();
    let index = by_alias.or_else(by_place)?;
    (index < aliases.len()).then_some(index + 1)
}

impl Sysinfo {
    fn children(&self) -> Option<&Vec<Value>> {
        self.0.get("children").and_then(Value::as_array)
    }

    /// Its outlets. A single plug is one.
    fn outlets(&self) -> &[Value] {
        let only = std::slice::from_ref(&self.0);
        self.children().map_or(only, Vec::as_slice)
    }

    /// The states of its outlets, each under its place, which is the key of all its names.
    fn by_place(&self) -> impl Iterator<Item = (Outlet, State)> {
        let key = self.children().map_or("relay_state", |_| "state");
        let states = self
            .outlets()
            .iter()
            .map(move |own| read_state(own.get(key)));
        let places = (1_u32..).map(|place| Outlet::new(place.to_string()));
        places.zip(states)
    }

    /// The aliases of its outlets, by place.
    fn aliases(&self) -> Vec<String> {
        let alias = |outlet: &Value| {
            outlet
                .get("alias")
                .and_then(Value::as_str)
                .map(String::from)
        };
        self.outlets()
            .iter()
            .map(|outlet| alias(outlet).unwrap_or_default())
            .collect()
    }

    /// The relay that `outlet` names: by alias, else by place from 1.
    fn relay(&self, outlet: &Outlet) -> Result<Relay, DriverError> {
        let place = place(&self.aliases(), outlet);
        let no_such = |expected| DriverError::NoSuchOutlet { expected };
        let Some(children) = self.children() else {
            let relay = Relay {
                child: None,
                state: read_state(self.0.get("relay_state")),
            };
            return place
                .map(|_| relay)
                .ok_or_else(|| no_such("outlet 1 or the plug's alias".into()));
        };
        let child = place.and_then(|place| children.get(place - 1));
        let count = children.len();
        let child =
            child.ok_or_else(|| no_such(format!("outlets 1 to {count} or an outlet's alias")))?;
        let id = child.get("id").and_then(Value::as_str).unwrap_or_default();
        let device = self.0.get("deviceId").and_then(Value::as_str);
        let child_id = match id.len() {
            0 => {
                return Err(DriverError::Unexpected {
                    expected: "a child with an id".into(),
                    got: printable(child.to_string().as_bytes()),
                });
            }
            // The KP400 gives only the two digits that follow the device's id.
            2 => format!("{}{id}", device.unwrap_or_default()),
            _ => id.to_owned(),
        };
        Ok(Relay {
            child: Some(child_id),
            state: read_state(child.get("state")),
        })
    }
}

fn read_state(value: Option<&Value>) -> State {
    match value.and_then(Value::as_i64) {
        Some(1) => State::On,
        Some(0) => State::Off,
        _ => State::Unknown(value.map_or("no state".into(), Value::to_string)),
    }
}

/// Do these words say that the message was not understood, or that there is no such child? With
/// others, or none, the relay may have moved: the numbers alone are documented nowhere.
fn is_refusal(words: &str) -> bool {
    [
        "module not support",
        "member not support",
        "invalid argument",
        "entry not exist",
    ]
    .iter()
    .any(|refusal| words.starts_with(refusal))
}

/// The answer's `system.<command>` object, if its err_code is 0.
fn result(answer: &[u8], command: &str) -> Result<Value, DriverError> {
    let unexpected = || DriverError::Unexpected {
        expected: format!("the result of {command}"),
        got: printable(answer),
    };
    let mut answer: Value = serde_json::from_slice(answer).map_err(|_| unexpected())?;
    let result = answer
        .pointer_mut(&format!("/system/{command}"))
        .map(Value::take)
        .ok_or_else(unexpected)?;
    match result.get("err_code").and_then(Value::as_i64) {
        Some(0) => Ok(result),
        Some(code) => {
            let words = result.get("err_msg").and_then(Value::as_str);
            let words = words.unwrap_or_default();
            let told = format!("err_code {code}, {}", printable(words.as_bytes()));
            Err(match is_refusal(words) {
                true => DriverError::Refused(told),
                false => DriverError::Unexpected {
                    expected: "err_code 0".into(),
                    got: told,
                },
            })
        }
        None => Err(unexpected()),
    }
}

impl Tplink {
    /// What the device answers to one message.
    fn ask(&self, text: &str, command: &str, timed: impl Timed) -> Result<Value, DriverError> {
        timed.judge(|| result(&self.exchange(text, timed)?, command))
    }

    /// One message, one connection, one answer.
    fn exchange(&self, text: &str, timed: impl Timed) -> Result<Vec<u8>, TransportError> {
        let deadline = timed.deadline();
        let Address { host, port } = &self.address;
        let mut connection = Connection::open_or_hint(host, *port, deadline, REFUSED)?;
        connection.send(&frame(text), timed)?;
        let header = connection.receive_exact::<4>(deadline)?;
        let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
        if !(2..=MOST).contains(&length) {
            return Err(TransportError::new(
                TransportErrorKind::Garbled,
                format!("expected a length of at most {MOST}, got {length}"),
            ));
        }
        let (mut cipher, mut buffer) = (Vec::new(), [0; 2048]);
        while cipher.len() < length {
            let room = buffer.len().min(length - cipher.len());
            let room = buffer.get_mut(..room).unwrap_or_default();
            let of = cipher.len();
            let count = connection
                .receive(room, deadline)
                .map_err(|error| TransportError {
                    detail: format!("{} (got {of} of {length} bytes)", error.detail),
                    ..error
                })?;
            if count == 0 {
                return Err(TransportError::new(
                    TransportErrorKind::Closed,
                    format!("connection closed after {of} of {length} bytes"),
                ));
            }
            cipher.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
        Ok(decrypt(&cipher))
    }

    fn ask_sysinfo(&mut self, deadline: Deadline) -> Result<Sysinfo, DriverError> {
        let sysinfo = Sysinfo(self.ask(GET_SYSINFO, "get_sysinfo", deadline)?);
        self.aliases = sysinfo.aliases();
        Ok(sysinfo)
    }
}

impl Driver for Tplink {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        // Taken, not lent: after any error the device is asked again.
        let sysinfo = match self.sysinfo.take() {
            Some(sysinfo) => sysinfo,
            None => self.ask_sysinfo(attempt.deadline())?,
        };
        let relay = sysinfo.relay(outlet)?;
        let command = set_relay(relay.child.as_deref(), to);
        self.ask(&command, "set_relay_state", attempt)?;
        self.sysinfo = Some(sysinfo);
        Ok(Proof::Reply)
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        self.sysinfo = None;
        let fresh = self.ask_sysinfo(deadline)?;
        let relay = fresh.relay(outlet)?;
        self.sysinfo = Some(fresh);
        Ok(relay.state)
    }

    fn states(
        &mut self,
        outlet: &Outlet,
        _: &[Outlet],
        deadline: Deadline,
    ) -> Result<States, DriverError> {
        self.sysinfo = None;
        let fresh = self.ask_sysinfo(deadline)?;
        let own = fresh.relay(outlet)?.state;
        let place = self.known(outlet);
        let outlet = place.as_ref().unwrap_or(outlet);
        let others = fresh.by_place().filter(|(place, _)| place != outlet);
        let states = States::listed(own, others);
        self.sysinfo = Some(fresh);
        Ok(states)
    }

    fn known(&self, outlet: &Outlet) -> Option<Outlet> {
        let place = place(&self.aliases, outlet)?;
        Some(Outlet::new(outlet.as_str()).known_as(place.to_string()))
    }

    fn find(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<Outlet, DriverError> {
        let fresh = self.ask_sysinfo(deadline)?;
        fresh.relay(outlet)?;
        self.sysinfo = Some(fresh);
        Ok(self.known(outlet).unwrap_or_else(|| outlet.clone()))
    }

    fn rest(&mut self, _deadline: Deadline) {
        self.sysinfo = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn frames_are_those_of_the_python_driver() {
        assert_eq!(
            hex(&frame(GET_SYSINFO)),
            "0000001fd0f281f88bff9af7d5efcfb496f194e0bfccb5c6afc1a7c8ead0f08bf68bf6"
        );
        let child = frame(&set_relay(Some("8006AA00"), Switch::On));
        assert_eq!(child.len(), 4 + 85);
        assert!(hex(&child).starts_with("00000055d0f291fe90e481f9"));
        assert_eq!(
            hex(&frame(&set_relay(None, Switch::On))),
            "0000002ad0f281f88bff9af7d5ef94b6c5a0d48bf99cf091e8b7c4b0d1a5c0e2d8a381f286e793f6d4eedf\
             a2dfa2"
        );
        assert!(hex(&frame(&set_relay(None, Switch::Off))).ends_with("d4eedea3dea3"));
        assert_eq!(
            hex(&frame(r#"{"system":{"get_sysinfo":{}}}"#)),
            "0000001dd0f281f88bff9af7d5ef94b6d1b4c09fec95e68fe187e8caf08bf68bf6"
        );
        assert_eq!(decrypt(&encrypt(b"any text")), b"any text");
    }

    #[test]
    fn outlets_are_found_by_alias_then_by_place() {
        let strip = Sysinfo(serde_json::json!({
            "deviceId": "8006AA",
            "children": [
                {"id": "8006AA00", "alias": "lamp", "state": 1},
                {"id": "01", "alias": "1", "state": 0},
                {"id": "8006AA02", "alias": "x", "state": "?"},
            ],
        }));
        let relay = |outlet: &str| strip.relay(&Outlet::new(outlet)).map(|relay| relay.child);
        assert_eq!(relay("lamp"), Ok(Some("8006AA00".into())));
        assert_eq!(relay("1"), Ok(Some("8006AA01".into())));
        assert_eq!(relay("3"), Ok(Some("8006AA02".into())));
        for outlet in ["0", "4", "Lamp", "4294967296"] {
            assert!(matches!(
                relay(outlet),
                Err(DriverError::NoSuchOutlet { .. })
            ));
        }
        let plug = Sysinfo(serde_json::json!({"alias": "kettle", "relay_state": 0}));
        for outlet in ["1", "kettle"] {
            let relay = plug.relay(&Outlet::new(outlet)).expect("the plug");
            assert_eq!((relay.child, relay.state), (None, State::Off));
        }
        assert!(plug.relay(&Outlet::new("2")).is_err());
    }

    #[test]
    fn an_error_code_is_a_refusal_when_its_words_are_one() {
        let answer =
            br#"{"system":{"set_relay_state":{"err_code":-3,"err_msg":"invalid argument"}}}"#;
        assert_eq!(
            result(answer, "set_relay_state"),
            Err(DriverError::Refused(
                "err_code -3, \"invalid argument\"".into()
            ))
        );
        for answer in [
            "{}",
            "[]",
            "x",
            r#"{"system":{"set_relay_state":{}}}"#,
            r#"{"system":{"set_relay_state":{"err_code":-1}}}"#,
            r#"{"system":{"set_relay_state":{"err_code":-7,"err_msg":"relay timeout"}}}"#,
        ] {
            assert!(matches!(
                result(answer.as_bytes(), "set_relay_state"),
                Err(DriverError::Unexpected { .. })
            ));
        }
    }
}
