//! Chromium's servod over XML-RPC: one "outlet", switched by setting controls.
//!
//! `power_state` takes on and off as they are; the reset lines are active low, so a machine runs
//! while its reset is off.

use super::*;
use crate::driver::{Driver, SAME_AS_IP};
use crate::request::Outlet;
use crate::settings::TextOrList;
use crate::transport::http::Method;
use roxmltree::{Document, Node};

pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &["SERVO"],
    models: "machines on a Chromium servo board (servod)",
    outlets: Has::One,
    verified_by: "simulator and Python's XML-RPC server; UNVERIFIED: reading a reset line back (power_state \
                  cannot be read: servod's answer without a fault counts)",
    build: &By(build),
    ..super::SPEC
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    PowerState,
    WarmReset,
    ColdReset,
}

impl Control {
    fn named(name: &str) -> Option<Self> {
        [Self::PowerState, Self::WarmReset, Self::ColdReset]
            .into_iter()
            .find(|control| control.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::PowerState => "power_state",
            Self::WarmReset => "warm_reset",
            Self::ColdReset => "cold_reset",
        }
    }

    /// The control's value that puts the machine into the state `to`.
    fn value(self, to: Switch) -> &'static str {
        match (self, to) {
            (Self::PowerState, Switch::On) | (Self::WarmReset | Self::ColdReset, Switch::Off) => {
                "on"
            }
            _ => "off",
        }
    }
}

struct Servo {
    client: Client,
    controls: Vec<Control>,
}

keys! {
    struct Keys {
        ip: Option<String> => "\"localhost\"", "where servod runs, maybe with :port";
        hostname: Option<String>, SAME_AS_IP;
        port: NonZeroU16 = 9999, "TCP port";
        ctrls: TextOrList = ["cold_reset"],
            "controls to set, in order: power_state, warm_reset, cold_reset; or one of them";
        ..way: Way;
    }
}

fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let names = match keys.ctrls {
        TextOrList::Text(name) => vec![name],
        TextOrList::List(names) => names,
    };
    let controls: Vec<Control> = names
        .iter()
        .map(|name| {
            Control::named(name).ok_or_else(|| {
                let expected = "expected power_state, warm_reset or cold_reset";
                settings.error("ctrls", format!("{expected}, got {name:?}"))
            })
        })
        .collect::<Result<_, _>>()?;
    if controls.is_empty() {
        return Err(settings.error("ctrls", "expected at least one control"));
    }
    let host = Host {
        ip: keys.ip,
        hostname: keys.hostname,
    };
    let host = host.or("localhost");
    Ok(Box::new(Servo {
        client: client(settings, &host, keys.way, Some(keys.port), Login::Open)?,
        controls,
    }))
}

/// A method call whose arguments are words that need no escaping.
fn call(method: &str, arguments: &[&str]) -> String {
    let parameters: String = arguments
        .iter()
        .map(|word| format!("<param>\n<value><string>{word}</string></value>\n</param>\n"))
        .collect();
    format!(
        "<?xml version='1.0'?>\n<methodCall>\n<methodName>{method}</methodName>\n\
         <params>\n{parameters}</params>\n</methodCall>\n"
    )
}

/// The text of the answer's value, or servod's fault; `None` when it is not an answer.
fn parse(body: &str) -> Option<Result<String, String>> {
    let document = Document::parse(body.trim_start()).ok()?;
    let response = document.root_element();
    if !response.has_tag_name("methodResponse") {
        return None;
    }
    let element = response.first_element_child()?;
    match element.tag_name().name() {
        "params" => {
            let value = element
                .descendants()
                .find(|node| node.has_tag_name("value"))?;
            Some(Ok(text(value)))
        }
        "fault" => {
            let mut members = element.descendants().filter(|n| n.has_tag_name("member"));
            let words = members.find_map(|member| {
                let mut parts = member.children().filter(Node::is_element);
                let (name, value) = (parts.next()?, parts.next()?);
                (text(name) == "faultString").then(|| text(value))
            });
            Some(Err(words.unwrap_or_else(|| "a fault without words".into())))
        }
        _ => None,
    }
}

fn text(node: Node<'_, '_>) -> String {
    let texts = node.descendants().filter(Node::is_text);
    let text: String = texts.filter_map(|node| node.text()).collect();
    text.trim().to_owned()
}

/// The failure that a fault tells. It may be any Python exception, also one raised when the control
/// was set already (and servod read it back, or went on to another); only about the control itself
/// servod asks first. One that it does not have but sets on the way is another matter.
fn failure(fault: &str, control: Control) -> DriverError {
    let mut words = crate::transport::printable(fault.as_bytes());
    words.insert_str(0, "servod says ");
    let is_missing = fault
        .split_once("No control named ")
        .and_then(|(_, rest)| rest.strip_prefix(control.name()))
        .is_some_and(|rest| !rest.starts_with(|c: char| c == '_' || c.is_alphanumeric()));
    match is_missing {
        true => DriverError::Refused(words),
        false => DriverError::Unexpected {
            expected: "an answer without a fault".into(),
            got: words,
        },
    }
}

impl Servo {
    /// The controls that can be read.
    fn lines(&self) -> Vec<Control> {
        let mut lines = self.controls.clone();
        lines.retain(|control| *control != Control::PowerState);
        lines
    }

    /// `set`s `control` to a value, or `get`s it (without one).
    fn call(
        &mut self,
        method: &str,
        control: Control,
        value: Option<&str>,
        timed: impl Timed,
    ) -> Result<String, DriverError> {
        let arguments: Vec<&str> = std::iter::once(control.name()).chain(value).collect();
        let body = call(method, &arguments);
        let request = Request::with_body(Method::Post, "/RPC2", "text/xml", &body);
        ask_and(&mut self.client, &request, timed, |answer| {
            match parse(&answer.text()) {
                Some(Ok(value)) => Ok(value),
                Some(Err(fault)) => Err(failure(&fault, control)),
                None => Err(unexpected("an XML-RPC answer", &answer)),
            }
        })
    }
}

impl Driver for Servo {
    fn proofs(&self) -> &'static [Proof] {
        match self.lines().is_empty() {
            true => &[Proof::Reply],
            false => &[Proof::State, Proof::Reply],
        }
    }

    fn switch(&mut self, _: &Outlet, to: Switch, attempt: &Attempt) -> Result<Proof, DriverError> {
        for control in self.controls.clone() {
            self.call("set", control, Some(control.value(to)), attempt)?;
        }
        Ok(Proof::Reply)
    }

    fn state(&mut self, _: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let lines = self.lines();
        if lines.is_empty() {
            return Err(DriverError::CannotRead(
                "servod does not tell power_state".into(),
            ));
        }
        // Held in reset by any of the lines, the machine is off.
        let mut state = State::On;
        for line in lines {
            let value = self.call("get", line, None, deadline)?;
            match state_of(&value) {
                State::Off => {}
                State::On => state = State::Off,
                State::Unknown(_) => {
                    return Ok(State::Unknown(format!("{} {value}", line.name())));
                }
            }
        }
        Ok(state)
    }

    fn rest(&mut self, deadline: Deadline) {
        self.client.rest(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::settings;
    use super::*;
    use crate::transport::Verdict;

    #[test]
    fn a_call_is_what_pythons_client_sends() {
        let body = call("set", &["cold_reset", "off"]);
        assert_eq!(
            body,
            "<?xml version='1.0'?>\n<methodCall>\n<methodName>set</methodName>\n<params>\n<param>\n\
             <value><string>cold_reset</string></value>\n</param>\n<param>\n\
             <value><string>off</string></value>\n</param>\n</params>\n</methodCall>\n"
        );
        assert_eq!(body.len(), 210);
    }

    #[test]
    fn answers_and_faults_are_told_apart() {
        let answer = |value: &str| {
            format!(
                "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value>{value}</value>\
                 \n</param>\n</params>\n</methodResponse>\n"
            )
        };
        assert_eq!(parse(&answer("<boolean>1</boolean>")), Some(Ok("1".into())));
        assert_eq!(parse(&answer("off")), Some(Ok("off".into())));
        let fault = "<methodResponse><fault><value><struct><member><name>faultCode</name>\
                     <value><int>1</int></value></member><member><name>faultString</name>\
                     <value><string>No control named x</string></value></member></struct></value>\
                     </fault></methodResponse>";
        assert_eq!(parse(fault), Some(Err("No control named x".into())));
        for garbage in [
            "",
            "<html/>",
            "<methodResponse/>",
            "<methodResponse><params/>",
        ] {
            assert_eq!(parse(garbage), None, "{garbage}");
        }
        // As deep as an answer can be.
        assert_eq!(parse(&"<a>".repeat(87_000)), None);
    }

    #[test]
    fn only_a_control_that_is_not_there_was_certainly_not_set() {
        let named = |name| format!("<class 'NameError'>:No control named {name}. All controls:\nx");
        for (fault, is_refusal) in [
            (named("cold_reset"), true),
            // One that servod sets on the way.
            (named("cold_reset_hold"), false),
            (named("pwr_button"), false),
            (
                "<class 'servo.HwDriverError'>:value read back is 1".into(),
                false,
            ),
            ("a fault without words".into(), false),
        ] {
            let error = failure(&fault, Control::ColdReset);
            assert_eq!(error.is_refusal(), is_refusal, "{error}");
        }
    }

    #[test]
    fn controls_are_checked_when_it_is_built() {
        for (text, works) in [
            (r#"{"ctrls": "warm_reset"}"#, true),
            (
                r#"{"ctrls": ["power_state", "cold_reset"], "port": "9998"}"#,
                true,
            ),
            (r#"{"ctrls": ["lid_open"]}"#, false),
            (r#"{"ctrls": []}"#, false),
            (r#"{"ctrls": 1}"#, false),
        ] {
            assert_eq!(
                By(build).of(&settings("SERVO", text)).is_ok(),
                works,
                "{text}"
            );
        }
    }
}
