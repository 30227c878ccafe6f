//! PDUs that keep their outlets' states, each with its side of the protocol: bytes in, bytes out.
//! Where they listen and what goes wrong there is in `stream`.

use super::ber;
use super::stream::Pdu;
use serde_json::{Value, json};
use std::collections::HashMap;

fn take<const N: usize>(input: &mut Vec<u8>) -> Option<[u8; N]> {
    let taken = input.get(..N)?.try_into().ok()?;
    input.drain(..N);
    Some(taken)
}

/// A Devantech ETH008 with the password `secret`.
#[derive(Default)]
pub(crate) struct Eth {
    relays: u8,
    is_unlocked: bool,
}

impl Pdu for Eth {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        match input.first()? {
            0x79 => {
                let given: [u8; 7] = take(input)?;
                self.is_unlocked = &given[1..] == b"secret";
                Some(vec![if self.is_unlocked { 1 } else { 2 }])
            }
            0x7b => {
                input.remove(0);
                self.is_unlocked = false;
                Some(vec![0])
            }
            0x24 => {
                input.remove(0);
                Some(vec![self.relays])
            }
            _ => {
                let [command, relay, _] = take(input)?;
                if !self.is_unlocked {
                    return Some(vec![1]);
                }
                let bit = 1 << (relay - 1);
                if !is_stuck {
                    self.relays &= !bit;
                    if command == 0x20 {
                        self.relays |= bit;
                    }
                }
                Some(vec![0])
            }
        }
    }

    fn connected(&mut self) {
        self.is_unlocked = false;
    }

    fn is_on(&self, outlet: &str) -> Option<bool> {
        let number: u32 = outlet.parse().ok()?;
        Some(self.relays >> number.checked_sub(1)? & 1 == 1)
    }
}

/// A dScript module.
#[derive(Default)]
pub(crate) struct Ds([bool; 25]);

impl Pdu for Ds {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        let text = String::from_utf8(std::mem::take(input)).ok()?;
        let words: Vec<&str> = text.split(' ').collect();
        match words[..] {
            ["SR", relay, to] => {
                if !is_stuck {
                    self.0[relay.parse::<usize>().ok()?] = to == "on";
                }
                Some(b"Ok\r\n".to_vec())
            }
            ["GR", relay] => Some(match self.0[relay.parse::<usize>().ok()?] {
                true => b"Active\r\n".to_vec(),
                false => b"Inactive\r\n".to_vec(),
            }),
            _ => None,
        }
    }

    fn is_on(&self, outlet: &str) -> Option<bool> {
        self.0.get(outlet.parse::<usize>().ok()?).copied()
    }
}

/// An EG-PMS-LAN with the password `secret`.
pub(crate) struct Egpms {
    step: u8,
    states: [u8; 4],
}

impl Egpms {
    const KEY: [u8; 8] = *b"secret  ";
    const CHALLENGE: [u8; 4] = [0x9a, 0xbc, 0xde, 0xf1];

    fn mask(plain: u8) -> u8 {
        let [_, _, t2, t3] = Self::CHALLENGE;
        ((plain ^ t2).wrapping_add(t3) ^ Self::KEY[0]).wrapping_add(Self::KEY[1])
    }
}

impl Pdu for Egpms {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        let [k0, k1, k2, k3, k4, k5, k6, k7] = Self::KEY.map(u32::from);
        let [t0, t1, t2, t3] = Self::CHALLENGE.map(u32::from);
        if input.first() == Some(&0x11) && self.step != 1 {
            input.remove(0);
            let begins = self.step == 0;
            self.step = if begins { 1 } else { 9 };
            return Some(if begins {
                Self::CHALLENGE.into()
            } else {
                vec![]
            });
        }
        let given: [u8; 4] = take(input)?;
        if self.step == 9 {
            return Some(vec![]);
        }
        if self.step == 1 {
            let first = ((t0 ^ k2) * k0) ^ (k4 << 8) ^ k6 ^ t2;
            let second = ((t1 ^ k3) * k1) ^ (k5 << 8) ^ k7 ^ t3;
            let right = ((first & 0xffff) | (second << 16)).to_le_bytes();
            self.step = if given == right { 2 } else { 9 };
            if given != right {
                return Some(vec![]);
            }
        } else if !is_stuck {
            for (state, control) in self.states.iter_mut().zip(given) {
                match control {
                    on if on == Self::mask(1) => *state = 0x41,
                    off if off == Self::mask(2) => *state = 0x82,
                    _ => assert_eq!(control, Self::mask(4)),
                }
            }
        }
        Some(self.states.map(Self::mask).to_vec())
    }

    fn connected(&mut self) {
        self.step = 0;
    }

    fn is_on(&self, outlet: &str) -> Option<bool> {
        // The last outlet comes first on the wire.
        let number: usize = outlet.parse().ok()?;
        Some(*self.states.get(4_usize.checked_sub(number)?)? == 0x41)
    }
}

impl Default for Egpms {
    fn default() -> Self {
        Self {
            step: 0,
            states: [0x82; 4],
        }
    }
}

/// A Modbus server with 16 coils.
#[derive(Default)]
pub(crate) struct Modbus([bool; 16]);

impl Pdu for Modbus {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        let request: [u8; 12] = take(input)?;
        let coil = usize::from(request[9]);
        if request[7] == 5 {
            if !is_stuck {
                self.0[coil] = request[10] == 0xff;
            }
            return Some(request.to_vec());
        }
        let mut answer = request[..7].to_vec();
        answer[5] = 4;
        answer.extend([1, 1, u8::from(self.0[coil])]);
        Some(answer)
    }

    fn is_on(&self, outlet: &str) -> Option<bool> {
        self.0.get(outlet.parse::<usize>().ok()?).copied()
    }
}

/// A Kasa strip with two outlets.
#[derive(Default)]
pub(crate) struct Kasa([bool; 2]);

impl Pdu for Kasa {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        let length = u32::from_be_bytes(input.get(..4)?.try_into().ok()?) as usize;
        let cipher = input.get(4..4 + length)?;
        let mut key = 0xab;
        let plain: Vec<u8> = cipher
            .iter()
            .map(|byte| {
                let plain = byte ^ key;
                key = *byte;
                plain
            })
            .collect();
        input.clear();
        let request: Value = serde_json::from_slice(&plain).expect("JSON");
        let answer = match request.pointer("/system/set_relay_state/state") {
            Some(state) => {
                let child = request.pointer("/context/child_ids/0").expect("a child");
                let index = usize::from(child == "DD01");
                if !is_stuck {
                    self.0[index] = state == 1;
                }
                json!({"system": {"set_relay_state": {"err_code": 0}}})
            }
            None => {
                json!({"system": {"get_sysinfo": {"err_code": 0, "deviceId": "DD", "children": [
                {"id": "DD00", "alias": "a", "state": u8::from(self.0[0])},
                {"id": "DD01", "alias": "b", "state": u8::from(self.0[1])},
            ], "padding": "x".repeat(3000)}}})
            }
        };
        let text = answer.to_string();
        let mut frame = (text.len() as u32).to_be_bytes().to_vec();
        let mut key = 0xab;
        frame.extend(text.bytes().map(|byte| {
            key ^= byte;
            key
        }));
        Some(frame)
    }

    fn is_on(&self, outlet: &str) -> Option<bool> {
        let [a, b] = self.0;
        match outlet {
            "a" => Some(a),
            "b" => Some(b),
            _ => None,
        }
    }
}

/// A NETIO 4 with KSHELL.
#[derive(Default)]
pub(crate) struct Kshell([bool; 4]);

impl Pdu for Kshell {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        let end = input.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = input.drain(..=end).collect();
        let line = String::from_utf8_lossy(&line).into_owned();
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["login", _, "secret"] => "250 OK".to_owned(),
            ["login", ..] => "501 INVALID LOGIN".to_owned(),
            ["quit"] => "110 BYE".to_owned(),
            ["port", number] => match self.is_on(number) {
                Some(is_on) => format!("250 {}", u8::from(is_on)),
                None => "500 INVALID VALUE".to_owned(),
            },
            ["port", number, to @ ("0" | "1")] => {
                let index = number.parse::<usize>().ok()?.checked_sub(1)?;
                if !is_stuck {
                    *self.0.get_mut(index)? = to == "1";
                }
                "250 OK".to_owned()
            }
            _ => "502 UNKNOWN COMMAND".to_owned(),
        };
        Some(format!("{answer}\r\n").into_bytes())
    }

    fn greeting(&mut self) -> Vec<u8> {
        b"100 HELLO 1B2C3D4E - KSHELL V1.3\r\n".to_vec()
    }

    fn is_on(&self, outlet: &str) -> Option<bool> {
        let number: usize = outlet.parse().ok()?;
        self.0.get(number.checked_sub(1)?).copied()
    }
}

/// A PDU that speaks HTTP/1.1 with keep-alive and answers in JSON.
pub(crate) struct Web {
    dialect: Dialect,
    on: [bool; 4],
}

/// How it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dialect {
    Tasmota,
    Netio,
    Shelly,
}

impl Web {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            on: [false; 4],
        }
    }

    /// What to answer to `target` and `body`; `None` when it makes no sense.
    fn says(&mut self, target: &str, body: &[u8], is_stuck: bool) -> Option<Value> {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        match self.dialect {
            Dialect::Tasmota => {
                let command = target.strip_prefix("/cm?cmnd=Power")?;
                let (number, to) = match command.split_once('+') {
                    Some((number, to)) => (number, Some(to == "on")),
                    None => (command, None),
                };
                let is_on = self.outlet(number.parse().ok()?, 1, to, is_stuck)?;
                Some(json!({format!("POWER{number}"): if is_on { "ON" } else { "OFF" }}))
            }
            Dialect::Netio => {
                if let Some(output) = body.pointer("/Outputs/0") {
                    let to = Some(output.get("Action")? == 1);
                    self.outlet(output.get("ID")?.as_u64()?, 1, to, is_stuck)?;
                }
                let output = |(index, is_on): (usize, &bool)| json!({"ID": index + 1, "State": u8::from(*is_on)});
                let outputs: Vec<Value> = self.on.iter().enumerate().map(output).collect();
                Some(json!({"Outputs": outputs}))
            }
            Dialect::Shelly => {
                let number = body.pointer("/params/id")?.as_u64()?;
                let result = match body.get("method")?.as_str()? {
                    "Switch.Set" => {
                        let was_on = self.outlet(number, 0, None, true)?;
                        let to = body.pointer("/params/on")?.as_bool();
                        self.outlet(number, 0, to, is_stuck)?;
                        json!({"was_on": was_on})
                    }
                    _ => json!({"id": number, "output": self.outlet(number, 0, None, true)?}),
                };
                Some(json!({"id": body.get("id")?, "src": "shelly", "result": result}))
            }
        }
    }

    /// Switches an outlet, counted from `first`, and tells its state.
    fn outlet(
        &mut self,
        number: u64,
        first: u64,
        to: Option<bool>,
        is_stuck: bool,
    ) -> Option<bool> {
        let index = usize::try_from(number.checked_sub(first)?).ok()?;
        let outlet = self.on.get_mut(index)?;
        if let Some(to) = to.filter(|_| !is_stuck) {
            *outlet = to;
        }
        Some(*outlet)
    }
}

/// A request of HTTP.
struct Asked {
    /// `GET /path`.
    line: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Asked {
    fn take(input: &mut Vec<u8>) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(head) = request.parse(input).ok()? else {
            return None;
        };
        let line = format!("{} {}", request.method?, request.path?);
        let headers = request.headers.iter().map(|header| {
            let text = String::from_utf8_lossy(header.value).into_owned();
            (header.name.to_ascii_lowercase(), text)
        });
        let headers: HashMap<String, String> = headers.collect();
        let length = headers.get("content-length");
        let length = length.map_or(0, |length| length.parse().expect("a length"));
        let body = input.get(head..head + length)?.to_vec();
        input.drain(..head + length);
        Some(Self {
            line,
            headers,
            body,
        })
    }
}

/// An answer of HTTP; `more` are further headers, each with its end.
fn answered(status: &str, more: &str, text: &str) -> Vec<u8> {
    let length = text.len();
    format!("HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\n\r\n{text}").into_bytes()
}

impl Pdu for Web {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        let Asked { line, body, .. } = Asked::take(input)?;
        let (_, target) = line.split_once(' ')?;
        let kind = "Content-Type: application/json\r\n";
        Some(match self.says(target, &body, is_stuck) {
            Some(json) => answered("200 OK", kind, &json.to_string()),
            None => answered("404 Not Found", "", "no"),
        })
    }

    fn is_on(&self, outlet: &str) -> Option<bool> {
        let number: usize = outlet.parse().ok()?;
        let first = usize::from(!matches!(self.dialect, Dialect::Shelly));
        self.on.get(number.checked_sub(first)?).copied()
    }
}

/// A PDU with a REST interface and a login whose cookie is good for a few requests. What it refuses
/// it repeats.
#[derive(Default)]
pub(crate) struct Rest {
    on: [bool; 4],
    session: u32,
    /// How often the cookie is still good.
    left: u32,
}

impl Pdu for Rest {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        let Asked {
            line,
            headers,
            body,
        } = Asked::take(input)?;
        let has = |name: &str, text: &str| headers.get(name).is_some_and(|own| own == text);
        let said = String::from_utf8_lossy(&body).into_owned();
        if line == "POST /login" {
            if said != r#"{"data":["lab","secret"]}"# || !has("content-type", "application/json") {
                return Some(answered("403 Forbidden", "", &format!("not you: {said}")));
            }
            self.session += 1;
            self.left = 3;
            let cookies = format!(
                "Set-Cookie: old=; Max-Age=0\r\nSet-Cookie: SID={}; HttpOnly\r\n",
                self.session
            );
            return Some(answered("200 OK", &cookies, ""));
        }
        if !has("cookie", &format!("SID={}", self.session)) || self.left == 0 {
            return Some(answered("401 Unauthorized", "", "log in first"));
        }
        self.left -= 1;
        let (method, target) = line.split_once(' ')?;
        let number: usize = target.strip_prefix("/outlets/")?.parse().ok()?;
        let outlet = self.on.get_mut(number.checked_sub(1)?)?;
        if method == "PUT" {
            if !has("x-csrf", "x") || !has("accept", "application/json") {
                return Some(answered("400 Bad Request", "", "no X-CSRF"));
            }
            if !is_stuck {
                *outlet = said == "value=true";
            }
            return Some(answered("204 No Content", "", ""));
        }
        Some(answered("200 OK", "", &format!("[{outlet}]")))
    }

    fn is_on(&self, outlet: &str) -> Option<bool> {
        let number: usize = outlet.parse().ok()?;
        self.on.get(number.checked_sub(1)?).copied()
    }
}

/// An SNMP agent (v1, v2c, v3 without authentication) whose objects are integers, told apart by
/// the last arc of their OID: 1 is on, 2 is off. A request is a whole datagram.
#[derive(Default)]
pub(crate) struct Agent(HashMap<u8, u8>);

impl Pdu for Agent {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        let request = std::mem::take(input);
        let Some((oid, value)) = ber::binding(&request) else {
            // A discovery.
            return Some(ber::answer(&request, 0, 0));
        };
        let outlet = *oid.last()?;
        if let Some(value) = value.filter(|_| !is_stuck) {
            self.0.insert(outlet, value);
        }
        let read = self.0.get(&outlet).copied().unwrap_or(2);
        Some(ber::answer(&request, 0, read))
    }

    fn is_on(&self, outlet: &str) -> Option<bool> {
        Some(self.0.get(&outlet.parse().ok()?) == Some(&1))
    }
}
