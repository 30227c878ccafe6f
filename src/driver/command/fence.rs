//! `fence`: the agents that clusters switch machines off with, one program for each kind of PDU.
//!
//! An agent reads its options from standard input, one `key=value` a line, so that no secret is in a
//! list of arguments. Which options it has, and of what type, its own `metadata` says: we read that at
//! the first use and in `--check`, and never while the config is loaded.

use super::{exec, run};
use crate::driver::{Build, Built, Driver, DriverError, Outlets, named};
use crate::request::hint::did_you_mean;
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Key, Keys as _, PduKeys, Settings, SettingsError, keys};
use crate::transport::command::{End, Output, Program, find};
use crate::transport::{
    Attempt, Deadline, Timed, TransportError, TransportErrorKind, blotted, printable,
};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// What the outlets of such a PDU are.
pub(super) const OUTLETS: &str = "the agent's plugs: any text without a comma; 1 where it has none";

/// Where else agents are looked for.
const SBIN: &[&str] = &["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// How long an agent may take to tell its options, in `--check`.
const PATIENCE: Duration = Duration::from_secs(30);

keys! {
    struct Keys {
        agent: String, "the program, as fence_apc_snmp: by name (also looked for in the sbin folders) or path";
    }
}

/// Builds drivers of the key above; all other keys are the agent's options.
#[derive(Debug)]
pub(super) struct Fence;

impl Build for Fence {
    fn keys(&self) -> Vec<Key> {
        Keys::rows()
    }

    fn takes_any_key(&self) -> bool {
        true
    }

    fn build(&self, settings: &Settings) -> Result<Built, SettingsError> {
        let driver: Box<dyn Driver> = Box::new(Agent::new(settings)?);
        let outlets = Outlets::rule(|outlet| match outlet.as_str().contains(',') {
            // An agent would take it for several plugs.
            true => Err(OUTLETS.to_owned()),
            false => named(outlet, OUTLETS),
        });
        Ok((driver, outlets).into())
    }

    fn try_out(&self, settings: &Settings) -> Result<(), String> {
        let agent = Agent::new(settings).map_err(|error| error.to_string())?;
        let tried = agent.options(Deadline::after(PATIENCE));
        tried.map(drop).map_err(|error| error.to_string())
    }
}

struct Agent {
    name: String,
    /// What the config says, as written.
    written: serde_json::Map<String, Value>,
    secrets: Vec<String>,
}

/// An agent's description of itself.
#[derive(Debug)]
struct Description {
    /// Each parameter with its type, and its values if it has only some.
    parameters: HashMap<String, (String, Vec<String>)>,
}

impl Description {
    /// Reads what the agent prints for `metadata`.
    fn parse(text: &str) -> Result<Self, String> {
        let start = text.find('<').unwrap_or_default();
        let document = roxmltree::Document::parse(text.get(start..).unwrap_or_default());
        let document = document.map_err(|error| format!("no XML: {error}"))?;
        let parameter = |node: roxmltree::Node<'_, '_>| {
            let content = node
                .children()
                .find(|child| child.has_tag_name("content"))?;
            let options = content
                .children()
                .filter_map(|option| option.attribute("value"));
            let kind = content.attribute("type").unwrap_or("string").to_owned();
            let options = options.map(str::to_owned).collect();
            Some((node.attribute("name")?.to_owned(), (kind, options)))
        };
        let nodes = document.descendants();
        let parameters: HashMap<_, _> = nodes
            .filter(|node| node.has_tag_name("parameter"))
            .filter_map(parameter)
            .collect();
        match parameters.is_empty() {
            true => Err("no parameters".to_owned()),
            false => Ok(Self { parameters }),
        }
    }

    /// The option that names the outlet, if the agent has several.
    fn plug(&self) -> Option<&'static str> {
        ["plug", "port"]
            .into_iter()
            .find(|name| self.parameters.contains_key(*name))
    }

    /// The value of an option, as the agent reads it.
    fn value(&self, key: &str, value: &Value) -> Result<String, String> {
        let Some((kind, options)) = self.parameters.get(key) else {
            let hint = did_you_mean(key, "", self.parameters.keys().map(String::as_str));
            return Err(format!("{key}: the agent has no such option{hint}"));
        };
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(true) => "1".to_owned(),
            Value::Bool(false) => "0".to_owned(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(format!("{key}: expected a text, a number or a flag"));
            }
        };
        let wrong = |expected: &str| Err(format!("{key}: expected {expected}"));
        if text.contains(['\n', '\r', '\0']) {
            return wrong("a text of one line");
        }
        match kind.as_str() {
            "boolean" => match text.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" | "on" => Ok("1".to_owned()),
                "0" | "false" | "no" | "off" => Ok("0".to_owned()),
                _ => wrong("true or false"),
            },
            "integer" if text.trim().parse::<i64>().is_err() => wrong("an integer"),
            "second" if text.trim().trim_end_matches('s').parse::<f64>().is_err() => {
                wrong("seconds")
            }
            "select" if !options.is_empty() && !options.contains(&text) => {
                wrong(&format!("one of {}", options.join(", ")))
            }
            _ => Ok(text),
        }
    }
}

/// What was read so far, by the program and the time of its last change.
type Known = HashMap<(PathBuf, Option<SystemTime>), Arc<Description>>;
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

impl Agent {
    fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let keys: Keys = settings.keys()?;
        if keys.agent.starts_with('-') || keys.agent.contains('\0') {
            return Err(settings.error("agent", "expected the name of a program"));
        }
        let whole: Value = serde_json::from_str(settings.text()).unwrap_or_default();
        let secrets = exec::secrets(&whole);
        let mut written = match whole {
            Value::Object(map) => map,
            _ => serde_json::Map::new(),
        };
        written.retain(|key, value| key != "agent" && !value.is_null() && !PduKeys::has(key));
        Ok(Self {
            name: keys.agent,
            written,
            secrets,
        })
    }

    fn program(&self) -> Result<PathBuf, DriverError> {
        find(&self.name, SBIN).map_err(|error| match error.kind {
            TransportErrorKind::NotFound => DriverError::Setup(format!(
                "{} (Debian's packages of agents begin with fence-agents)",
                error.detail
            )),
            _ => error.into(),
        })
    }

    /// What the agent says of itself; it is asked once.
    fn description(
        &self,
        program: &Path,
        deadline: Deadline,
    ) -> Result<Arc<Description>, DriverError> {
        let changed = std::fs::metadata(program).and_then(|metadata| metadata.modified());
        let key = (program.to_owned(), changed.ok());
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(description) = known().get(&key) {
            return Ok(Arc::clone(description));
        }
        let command = Program::new(&program.to_string_lossy()).args(["-o", "metadata"]);
        let output = run(command, deadline)?;
        let parsed = match output.is_success() {
            true => Description::parse(&output.text()),
            false => Err(output.complaint()),
        };
        let description = parsed.map_err(|why| DriverError::Unexpected {
            expected: format!("the metadata of {}", self.name),
            got: why,
        })?;
        let description = Arc::new(description);
        known().insert(key, Arc::clone(&description));
        Ok(description)
    }

    /// The agent, what it says of itself, and its options as it reads them.
    fn options(
        &self,
        deadline: Deadline,
    ) -> Result<(PathBuf, Arc<Description>, String), DriverError> {
        let program = self.program()?;
        let description = self.description(&program, deadline)?;
        let mut lines = String::new();
        for (key, value) in &self.written {
            if key == "action" || Some(key.as_str()) == description.plug() {
                let what = format!("{}: {key} is the daemon's to say", self.name);
                return Err(DriverError::Setup(what));
            }
            let value = description.value(key, value);
            let value = value.map_err(|why| DriverError::Setup(format!("{}: {why}", self.name)))?;
            lines.push_str(&format!("{key}={value}\n"));
        }
        Ok((program, description, lines))
    }

    /// Has the agent do something with the outlet.
    fn act(
        &self,
        action: &str,
        outlet: Option<&Outlet>,
        timed: impl Timed,
    ) -> Result<Output, DriverError> {
        let (program, description, mut lines) = self.options(timed.deadline())?;
        match (outlet, description.plug()) {
            (Some(outlet), Some(plug)) => {
                lines.push_str(&format!("{plug}={}\n", outlet.as_str()));
            }
            (Some(outlet), None) if outlet.number() != Some(1) => {
                return Err(DriverError::NoSuchOutlet {
                    expected: format!("outlet 1, all that {} has", self.name),
                });
            }
            (Some(_), None) | (None, _) => {}
        }
        lines.push_str(&format!("action={action}\n"));
        run(Program::new(&program.to_string_lossy()).input(lines), timed)
    }

    /// Why the agent failed, by its exit status and its own words; agents since 4.0 have one status
    /// for nearly everything.
    fn failure(&self, output: &Output) -> DriverError {
        let said = [output.stderr.as_slice(), output.stdout.as_slice()].concat();
        let said = blotted(&said, &self.secrets);
        let words = String::from_utf8_lossy(&said).into_owned();
        let has = |what: &str| words.contains(what);
        let told = format!(
            "{}: {}",
            output.end,
            printable(last(words.trim()).as_bytes())
        );
        let transport = |kind| TransportError::new(kind, told.clone()).into();
        let code = match output.end {
            End::Exit(code) => code,
            End::Signal(_) => 0,
        };
        if code == 3 || has("Unable to connect/login") {
            // It does not tell a PDU that is away from a wrong password.
            return transport(TransportErrorKind::NoConnection);
        }
        if code == 4 || has("Connection lost") {
            return transport(TransportErrorKind::Closed);
        }
        if code == 5 || has("Connection timed out") {
            return transport(TransportErrorKind::Timeout);
        }
        if code == 11 || has("does not have the correct privileges") {
            return DriverError::Refused(told);
        }
        // Its advice to read its help says nothing: it gives that after a lost answer, too.
        if code == 10 || has("You have to set") || has("ModuleNotFoundError") {
            return DriverError::Setup(format!("{}: {told}", self.name));
        }
        DriverError::Unexpected {
            expected: format!("success of {}", self.name),
            got: told,
        }
    }

    /// The same of an action with an outlet: an agent has no words of its own for one that is not
    /// there, so its list is looked at.
    fn failure_at(&self, output: &Output, outlet: &Outlet, deadline: Deadline) -> DriverError {
        let failure = self.failure(output);
        let said = [output.stderr.as_slice(), output.stdout.as_slice()].concat();
        if !String::from_utf8_lossy(&said).contains("plug is not available")
            && output.end != End::Exit(8)
        {
            return failure;
        }
        let Some(plugs) = self.plugs(deadline).filter(|plugs| !plugs.contains(outlet)) else {
            return failure;
        };
        let all: Vec<&str> = plugs.iter().map(Outlet::as_str).take(MOST_NAMED).collect();
        DriverError::NoSuchOutlet {
            expected: format!("one of {}", all.join(", ")),
        }
    }

    /// The plugs that the agent lists, if it lists any.
    fn plugs(&self, deadline: Deadline) -> Option<Vec<Outlet>> {
        let output = self.act("list", None, deadline).ok()?;
        let text = output.is_success().then(|| output.text())?;
        let plugs: Vec<Outlet> = text
            .lines()
            .filter_map(|line| line.split(',').next())
            .map(str::trim)
            .filter(|plug| !plug.is_empty())
            .map(Outlet::new)
            .collect();
        (!plugs.is_empty() && plugs.first()?.as_str() != "N/A").then_some(plugs)
    }
}

/// How many outlets a message names.
const MOST_NAMED: usize = 32;

/// The end of a text, as much as a message shows.
fn last(text: &str) -> &str {
    let from = text.len().saturating_sub(200);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at));
    from.and_then(|at| text.get(at..)).unwrap_or(text)
}

impl Driver for Agent {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        attempt.judge(|| {
            let output = self.act(&to.to_string(), Some(outlet), attempt)?;
            match output.is_success() {
                true => Ok(Proof::Reply),
                false => Err(self.failure_at(&output, outlet, attempt.deadline())),
            }
        })
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let output = self.act("status", Some(outlet), deadline)?;
        let said = output.text();
        // Status 2 alone may be anything: it is the one for wrong options, too.
        let says = |word: &str| said.lines().any(|line| line.trim() == word);
        match output.end {
            End::Exit(0) if says("Status: ON") => Ok(State::On),
            End::Exit(2) if says("Status: OFF") => Ok(State::Off),
            End::Exit(0) => Ok(State::Unknown(printable(last(said.trim()).as_bytes()))),
            _ => Err(self.failure_at(&output, outlet, deadline)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const METADATA: &str = r#"<?xml version="1.0" ?>
<resource-agent name="fence_x"><parameters>
    <parameter name="ip"><content type="string" /></parameter>
    <parameter name="ipport"><content type="integer" default="161" /></parameter>
    <parameter name="ssl"><content type="boolean" /></parameter>
    <parameter name="power_wait"><content type="second" default="0" /></parameter>
    <parameter name="snmp_version"><content type="select"><option value="1" /><option value="2c" /></content></parameter>
    <parameter name="port"><content type="string" /></parameter>
</parameters></resource-agent>"#;

    #[test]
    fn options_are_what_the_agent_says() {
        let known = Description::parse(METADATA).expect("reads");
        assert_eq!(known.plug(), Some("port"));
        for (key, value, told) in [
            ("ip", json!("10.0.0.1"), Ok("10.0.0.1")),
            ("ipport", json!(161), Ok("161")),
            ("ipport", json!("x"), Err("ipport: expected an integer")),
            ("ssl", json!(true), Ok("1")),
            ("ssl", json!("off"), Ok("0")),
            ("ssl", json!("perhaps"), Err("ssl: expected true or false")),
            ("power_wait", json!("1.5s"), Ok("1.5s")),
            (
                "power_wait",
                json!("soon"),
                Err("power_wait: expected seconds"),
            ),
            ("snmp_version", json!("2c"), Ok("2c")),
            (
                "snmp_version",
                json!("3"),
                Err("snmp_version: expected one of 1, 2c"),
            ),
            (
                "ip",
                json!("a\naction=off"),
                Err("ip: expected a text of one line"),
            ),
            (
                "ip",
                json!(["a"]),
                Err("ip: expected a text, a number or a flag"),
            ),
            (
                "ipporT",
                json!(1),
                Err("ipporT: the agent has no such option, did you mean ipport?"),
            ),
        ] {
            let read = known.value(key, &value);
            assert_eq!(read.as_deref().map_err(String::as_str), told, "{key}");
        }
        for no_metadata in ["", "usage: fence_x", "<a>", "<resource-agent/>"] {
            Description::parse(no_metadata).expect_err(no_metadata);
        }
    }
}
