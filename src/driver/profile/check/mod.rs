//! From a profile as written to one that can be used: every fault is told, each with its place, and
//! whatever is computed from an outlet is computed here for every outlet.
//!
//! | file | job |
//! | --- | --- |
//! | `keys` | what the config may say of a PDU |
//! | `outlets` | what is computed from an outlet, and every text filled for every outlet |
//! | `answers` | what an answer means |
//! | `snmp`, `http`, `stream`, `mqtt` | what each engine sends |
//! | `detect` | how a PDU of this kind shows itself |
//! | `own_tests` | the `[[test]]`s |

mod answers;
mod detect;
mod http;
mod keys;
mod mqtt;
mod outlets;
mod own_tests;
mod snmp;
mod stream;

use super::holes::{Place, Template};
use super::ids::Ids;
use super::written::{self, File, Transport};
use super::{How, Profile, Signs};
use crate::request::Proof;
use crate::request::hint::did_you_mean;
use crate::settings::{FileError, Key, Position};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A profile is no longer than this.
pub(super) const MOST_BYTES: usize = 64 * 1024;

/// What the transports' own rows say of keys: a profile may only give such a key another default, and
/// its secrets have names that the config resolves and logs never show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub(crate) of: fn(Transport) -> Vec<Key>,
    pub(crate) secrets: fn() -> Vec<String>,
}

/// A fault at a path of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    path: String,
    message: String,
}

/// Reads the TOML `text` of a profile; `file` is its name for messages.
pub(crate) fn read(text: &str, file: &str, rows: Rows) -> Result<Profile, Vec<FileError>> {
    let fault = |at, message| FileError {
        file: file.to_owned(),
        at,
        message,
    };
    if text.len() > MOST_BYTES {
        let what = format!(
            "a profile has at most {MOST_BYTES} bytes, this one {}",
            text.len()
        );
        return Err(vec![fault(None, what)]);
    }
    let written: File = toml::from_str(text).map_err(|error| {
        let at = error.span().map(|span| Position::of(text, span.start));
        vec![fault(at, explain(error.message()))]
    })?;
    check(written, rows).map_err(|faults| {
        let faults = faults.into_iter().map(|found| {
            let at = super::place::place(text, &found.path);
            fault(Some(at), format!("{}: {}", found.path, found.message))
        });
        let mut faults: Vec<FileError> = faults.collect();
        faults.sort_by_key(|fault| fault.at);
        faults
    })
}

/// The signs in the TOML `text` of a profile that is right: all of it is read when they are seen.
pub(super) fn signs(text: &str, rows: Rows) -> Option<Signs> {
    let written: File = toml::from_str(text).ok()?;
    let mut checker = Checker::new(rows);
    checker.keys(&written);
    let ids = Ids::new(&written.outlets).ok()?;
    checker.of_outlet.extend(ids.holes());
    checker.vars(&written.outlets);
    checker.detect(&written)
}

/// Reads a profile that stands in the config as the JSON `text`.
pub(super) fn read_json(text: &str, file: &str, rows: Rows) -> Result<Profile, Vec<FileError>> {
    let fault = |message| FileError {
        file: file.to_owned(),
        at: None,
        message,
    };
    let written: File =
        serde_json::from_str(text).map_err(|error| vec![fault(explain(&error.to_string()))])?;
    check(written, rows).map_err(|faults| {
        let faults = faults
            .iter()
            .map(|found| fault(format!("{}: {}", found.path, found.message)));
        faults.collect()
    })
}

/// serde's words, with the likely key where there is one.
fn explain(message: &str) -> String {
    let message = message.lines().collect::<Vec<_>>().join(", ");
    let mut quoted = message.split('`').skip(1).step_by(2);
    let Some(unknown) = quoted.next().filter(|_| message.starts_with("unknown ")) else {
        return message;
    };
    let known: Vec<&str> = quoted.collect();
    let what = match message.starts_with("unknown variant") {
        true => "value",
        false => "key",
    };
    let hint = did_you_mean(unknown, "", known.iter().copied());
    let others = match hint.is_empty() {
        true => format!(", expected one of {}", known.join(", ")),
        false => hint,
    };
    format!("{unknown}: unknown {what}{others}")
}

/// Whose holes a text may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// An outlet's and the keys'.
    Outlet,
    /// A bank's and the keys'.
    Bank,
    /// The keys' alone.
    Pdu,
}

/// Gathers faults, and the texts that are filled for every outlet.
struct Checker {
    rows: Rows,
    faults: Vec<Fault>,
    /// What an outlet, and what the keys define.
    of_outlet: BTreeSet<String>,
    of_keys: BTreeSet<String>,
    texts: Vec<(String, Of, Template, Place)>,
}

/// Checks what is written, or tells every fault.
fn check(written: File, rows: Rows) -> Result<Profile, Vec<Fault>> {
    let mut checker = Checker::new(rows);
    let profile = checker.profile(&written);
    if let (Some(profile), true) = (&profile, checker.faults.is_empty()) {
        checker.every_outlet(profile);
    }
    match profile {
        Some(profile) if checker.faults.is_empty() => Ok(profile),
        _ => Err(checker.faults),
    }
}

impl Checker {
    fn new(rows: Rows) -> Self {
        Self {
            rows,
            faults: Vec::new(),
            of_outlet: BTreeSet::new(),
            of_keys: BTreeSet::new(),
            texts: Vec::new(),
        }
    }

    fn fault(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let (path, message) = (path.into(), message.into());
        self.faults.push(Fault { path, message });
    }

    /// What was read, or nothing and the fault told.
    fn told<T>(&mut self, path: &str, read: Result<T, String>) -> Option<T> {
        read.map_err(|message| self.fault(path, message)).ok()
    }

    fn profile(&mut self, written: &File) -> Option<Profile> {
        self.names(written);
        let keys = self.keys(written);
        let ids = Ids::new(&written.outlets).map_err(|(key, message)| {
            self.fault(format!("outlets.{key}").trim_end_matches('.'), message);
        });
        let ids = ids.ok()?;
        self.of_outlet.extend(ids.holes());
        let vars = self.vars(&written.outlets);
        self.strangers(written);
        let judge = self.judge(
            "state",
            written
                .state
                .as_ref()
                .unwrap_or(&written::Action::default()),
            Of::Outlet,
        );
        let proofs = self.proofs(written);
        let how = match written.transport {
            Transport::Snmp => How::Snmp(Arc::new(self.snmp(written)?)),
            Transport::Http => How::Http(Arc::new(self.web(written))),
            Transport::Line => How::Line(Arc::new(self.talk(written))),
            Transport::Bytes => How::Bytes(Arc::new(self.raw(written))),
            Transport::Mqtt => How::Mqtt(Arc::new(self.topics(written)?)),
        };
        self.speech(written);
        let tells_all = written.state.is_some() && !self.asks_of_outlet();
        self.detect(written);
        let meters = self.meters(written);
        let tests = self.tests(written, &ids);
        Some(Profile {
            id: written.id.clone(),
            aliases: written.aliases.clone(),
            vendor: written.vendor.clone(),
            models: written.models.clone(),
            maturity: written.evidence.maturity,
            sources: written.evidence.sources.clone(),
            doubts: written.evidence.doubts.clone(),
            keys,
            ids,
            has_all: written.outlets.all,
            outlets_about: written.outlets.about.clone(),
            vars,
            lists: written.outlets.lists.clone(),
            proofs,
            judge,
            tells_all,
            how,
            meters,
            timeout: written.limits.timeout,
            shows_within: written.limits.shows_within,
            gap: self.gap(written),
            tests,
        })
    }

    /// Ids, words for people and limits.
    fn names(&mut self, written: &File) {
        let is_name = |name: &str| {
            !name.is_empty()
                && name.len() <= 64
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        if !is_name(&written.id) {
            self.fault("id", "expected letters, digits and hyphens");
        }
        for (at, alias) in written.aliases.iter().enumerate() {
            if !is_name(alias) || *alias == written.id {
                self.fault(
                    format!("aliases.{at}"),
                    "expected another name, of letters, digits and hyphens",
                );
            }
        }
        for (key, text) in [("vendor", &written.vendor), ("models", &written.models)] {
            if text.trim().is_empty() || text.chars().any(char::is_control) {
                self.fault(key, "expected some words on one line");
            }
        }
        let is_empty = written
            .evidence
            .sources
            .iter()
            .all(|source| source.trim().is_empty());
        if is_empty {
            self.fault(
                "evidence.sources",
                "expected at least one: where the facts are from",
            );
        }
        let limits = &written.limits;
        for (key, value, most) in [
            ("varbinds", limits.varbinds.map(u64::from), 128),
            ("timeout", limits.timeout, 86_400),
            ("shows_within", limits.shows_within, 600),
        ] {
            if value.is_some_and(|value| !(1..=most).contains(&value)) {
                self.fault(format!("limits.{key}"), format!("expected 1 to {most}"));
            }
        }
    }

    fn gap(&mut self, written: &File) -> Duration {
        let gap = written.limits.gap.unwrap_or_default();
        let is_right = (0.0..=10.0).contains(&gap);
        let has_one = !matches!(written.transport, Transport::Snmp | Transport::Mqtt);
        if !is_right || (gap > 0.0 && !has_one) {
            let what = "expected 0 to 10 seconds, over http, line and bytes";
            self.fault("limits.gap", what);
        }
        Duration::try_from_secs_f64(gap).unwrap_or_default()
    }

    /// Tables and keys that this transport has no use for.
    fn strangers(&mut self, written: &File) {
        let (acts, reads): (&[&str], &[&str]) = match written.transport {
            Transport::Snmp => (&["set", "edit"], &["get", "take", "test", "map"]),
            Transport::Http => (
                &["request", "requests", "take"],
                &["request", "requests", "take", "test", "map"],
            ),
            Transport::Line => (&["steps"], &["steps", "take", "test", "map"]),
            Transport::Bytes => (
                &["write", "read"],
                &["write", "read", "take", "test", "map"],
            ),
            Transport::Mqtt => (&["publish"], &["publish", "await", "take", "test", "map"]),
        };
        let actions = [
            ("on", Some(&written.on), acts),
            ("off", Some(&written.off), acts),
            ("state", written.state.as_ref(), reads),
            ("login", written.login.as_ref(), acts),
            ("logout", written.logout.as_ref(), acts),
        ];
        for (path, action, known) in actions {
            let keys = action.map(written::Action::keys);
            if keys.as_ref().is_some_and(Vec::is_empty) {
                self.fault(path, format!("expected {} in it", known.join(", ")));
            }
            for key in keys
                .into_iter()
                .flatten()
                .filter(|key| !known.contains(key))
            {
                let message = format!("not a key for transport {}", written.transport);
                self.fault(format!("{path}.{key}"), message);
            }
        }
        if let Transport::Snmp | Transport::Mqtt = written.transport {
            let there = [
                ("login", written.login.is_some()),
                ("logout", written.logout.is_some()),
            ];
            for (key, _) in there.iter().filter(|(_, is_there)| *is_there) {
                self.fault(*key, "the transport has no login: expected no such table");
            }
        }
    }

    fn proofs(&mut self, written: &File) -> &'static [Proof] {
        match (&written.state, written.proof) {
            // What the broker answers is no reply of the PDU's.
            (Some(_), None) if written.transport == Transport::Mqtt => &[Proof::State],
            (None, Some(written::Proof::Reply)) if written.transport == Transport::Mqtt => {
                self.fault(
                    "proof",
                    "a message has no reply: expected [state], or \"none\"",
                );
                &[]
            }
            (Some(_), None) => &[Proof::State, Proof::Reply],
            (Some(_), Some(_)) => {
                self.fault(
                    "proof",
                    "the state proves a switch: expected no other proof beside it",
                );
                &[]
            }
            (None, Some(written::Proof::Reply)) => &[Proof::Reply],
            (None, Some(written::Proof::None)) => &[],
            (None, None) => {
                let expected =
                    "expected [state], or proof = \"reply\" or \"none\": what proves a switch?";
                self.fault("", expected);
                &[]
            }
        }
    }

    /// Does each action say something, and wait for an answer where that is to prove something?
    fn speech(&mut self, written: &File) {
        let replied = written.state.is_none() && written.proof == Some(written::Proof::Reply);
        let actions = [
            ("on", Some(&written.on), replied),
            ("off", Some(&written.off), replied),
            ("state", written.state.as_ref(), true),
        ];
        for (path, action, must_hear) in actions {
            let Some(action) = action else { continue };
            if must_hear && path != "state" && action.write.is_some() && action.read.is_none() {
                self.fault(path, "expected read: what is the answer that proves it?");
            }
            let Some(steps) = &action.steps else { continue };
            let says = |step: &written::Step| step.send.is_some() || step.key.is_some();
            if path != "state" && !steps.iter().any(says) {
                self.fault(path, "expected a step with send: nothing is sent");
            }
            if must_hear && !steps.iter().any(|step| step.expect.is_some()) {
                self.fault(path, "expected a step with expect: what is the answer?");
            }
        }
    }

    /// Reads a text with holes.
    fn text(&mut self, path: &str, text: &str, place: Place, of: Of) -> Option<Template> {
        let template = Template::parse(text, place);
        let template = self.told(path, template)?;
        self.known(path, template, place, of)
    }

    /// A text of whose holes each is defined.
    fn known(&mut self, path: &str, template: Template, place: Place, of: Of) -> Option<Template> {
        for name in template.names() {
            let is_of_outlet = match of {
                Of::Outlet => self.of_outlet.contains(name),
                Of::Bank => name == "bank",
                Of::Pdu => false,
            };
            if !is_of_outlet && !self.of_keys.contains(name) {
                let known = self.of_outlet.iter().chain(&self.of_keys);
                let hint = did_you_mean(name, "", known.map(String::as_str));
                self.faults.push(Fault {
                    path: path.to_owned(),
                    message: format!("nothing defines {{{name}}} here{hint}"),
                });
                return None;
            }
        }
        self.texts
            .push((path.to_owned(), of, template.clone(), place));
        Some(template)
    }

    /// Reads an OID, which may be one below the enterprises.
    fn oid(&mut self, path: &str, text: &str, of: Of) -> Option<Template> {
        self.text(path, &written::whole_oid(text), Place::Oid, of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::registry::ROWS;

    const GOOD: &str = r#"id = "x-1"
vendor = "Maker"
models = "One, Two"
transport = "snmp"
[evidence]
maturity = "mib"
sources = ["MAKER-MIB"]
[keys.unit]
default = 1
range = "1-4"
[keys.password]
secret = true
help = "the password"
[outlets]
range = "1-8"
vars = { port = "ports[outlet - 1] + 48" }
lists = { ports = [1, 2, 3, 4, 5, 6, 7, 8] }
[on]
set = [{ oid = "9.1.{unit}.{outlet}", i = 1 }]
[off]
set = [{ oid = "9.1.{unit}.{outlet}", i = 2 }]
[state]
get = "9.2.{unit}.{port}"
map = { 1 = "on", 2 = "off" }
[[test]]
outlet = 1
do = "state"
wire = "> get 9.2.1.49\n< i 1\n-- on"
"#;

    fn faults(text: &str) -> Vec<String> {
        let faults = read(text, "x.toml", ROWS).expect_err("refused");
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_profile_that_is_right_is_read() {
        let profile = read(GOOD, "x.toml", ROWS).expect("right");
        assert_eq!((profile.ids.all().len(), profile.tests.len()), (8, 1));
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        let mut wrong = Vec::new();
        for (from, to, expected) in [
            (
                "vendor",
                "vendro",
                "2:1: vendro: unknown key, did you mean vendor?",
            ),
            (
                "[state]",
                "[stat]",
                "22:2: stat: unknown key, did you mean state?",
            ),
            ("get = ", "gte = ", "23:1: gte: unknown key"),
            (
                "\"off\" }",
                "\"of\" }",
                "of: unknown value, did you mean off?",
            ),
            (
                "\"snmp\"",
                "\"snpm\"",
                "4:13: snpm: unknown value, did you mean snmp?",
            ),
            ("\"mib\"", "\"good\"", "6:12: good: unknown value"),
            (
                "[\"MAKER-MIB\"]",
                "[]",
                "7:1: evidence.sources: expected at least one",
            ),
            (
                "range = \"1-8\"",
                "range = \"8-1\"",
                "15:1: outlets.range: expected numbers",
            ),
            (
                "range = \"1-8\"",
                "range = \"1-9\"",
                "16:1: outlets.vars: outlet 9: outlets.vars.port: ports[8]",
            ),
            (
                "range = \"1-8\"",
                "range = \"1-5000\"",
                "expected at most 4096 outlets",
            ),
            ("outlet - 1", "outlt - 1", "nothing defines \"outlt\""),
            (
                "{port}",
                "{prot}",
                "23:1: state.get: nothing defines {prot} here, did you mean port?",
            ),
            (
                "{port}",
                "{password}",
                "23:1: state.get: outlet 1: {password}: expected a number",
            ),
            ("9.2.", "9.x.", "23:1: state.get: outlet 1: expected an OID"),
            ("9.2.", "9..", "23:1: state.get: outlet 1: expected an OID"),
            (
                "{outlet}\", i = 1",
                "1\", i = 1",
                "18:2: on: outlets 1 and 2 are switched alike",
            ),
            (
                "i = 1 ",
                "i = \"a\" ",
                "19:39: on.set.0.i: outlet 1: expected an INTEGER",
            ),
            (", i = 2", "", "21:8: off.set.0: expected one value"),
            (
                "2 = \"off\"",
                "2 = \"on\"",
                "24:1: state.map: no value means \"off\"",
            ),
            (
                "[keys.unit]",
                "[keys.timeout]",
                "every PDU has a key of this name",
            ),
            (
                "[keys.password]",
                "[keys.passwort]",
                "a secret must be called one of api_key,",
            ),
            (
                "default = 1",
                "default = 9",
                "9:1: keys.unit.default: expected 1 to 4, got 9",
            ),
            (
                "do = \"state\"",
                "do = \"stat\"",
                "stat: unknown value, did you mean state?",
            ),
            ("-- on\"", "-- fine\"", "test.0.wire: expected ok, on, off"),
            (
                "outlet = 1",
                "outlet = 9",
                "26:1: test.0.outlet: expected 1 to 8",
            ),
            (
                "[state]",
                "[login]\nsteps = []\n[state]",
                "not a key for transport snmp",
            ),
            ("[state]", "proof = \"none\"\n[state]", "unknown key"),
            ("id = \"x-1\"", "id = \"x/1\"", "1:1: id: expected letters"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let told = faults(&GOOD.replacen(from, to, 1)).join("\n");
            if !told.starts_with("x.toml:") || !told.contains(expected) {
                wrong.push(format!("{to}: expected {expected}, got {told}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn a_switch_needs_a_proof_and_a_file_has_a_bound() {
        let (before, behind) = GOOD.split_once("[state]").expect("there");
        let (_, test) = behind.split_once("[[test]]").expect("there");
        let without = format!("{before}[[test]]{test}");
        assert!(faults(&without).join("").contains("what proves a switch?"));
        let replied = without.replacen("[evidence]", "proof = \"reply\"\n[evidence]", 1);
        let profile = read(&replied, "x.toml", ROWS).expect("right");
        assert_eq!(profile.proofs, [Proof::Reply]);
        let long = format!("{GOOD}#{}", "x".repeat(MOST_BYTES));
        assert!(faults(&long).join("").contains("at most 65536 bytes"));
    }

    #[test]
    fn a_dialogue_says_something_and_waits_for_what_proves_it() {
        let line = |on: &str, state: &str| {
            let (before, behind) = GOOD.split_once("[keys.unit]").expect("there");
            let (_, test) = behind.split_once("[outlets]").expect("there");
            let (outlets, _) = test.split_once("[on]").expect("there");
            let before = before.replace("snmp", "line");
            let states = "map = { 1 = \"on\", other = \"off\" }";
            format!(
                "{before}[outlets]{outlets}[on]\nsteps = [{on}]\n[off]\n\
                 steps = [{{ send = \"off {{outlet}}\" }}]\n[state]\nsteps = [{state}]\n{states}\n"
            )
        };
        let (on, state) = (
            "{ send = 'on {outlet}' }",
            "{ send = 'state {outlet}', expect = '[01]' }",
        );
        assert!(read(&line(on, state), "x.toml", ROWS).is_ok());
        for (on, state, expected) in [
            ("{ expect = '>' }", state, "on: expected a step with send"),
            (
                on,
                "{ send = 'state' }",
                "state: expected a step with expect",
            ),
            (
                on,
                "{ send = 'state', expect = '[01]*' }",
                "state.steps.0.expect: outlet 1: expected a pattern that something",
            ),
        ] {
            let told = faults(&line(on, state)).join("\n");
            assert!(told.contains(expected), "{expected}: {told}");
        }
        let replied = line(on, state).replace("[evidence]", "proof = \"reply\"\n[evidence]");
        let (replied, _) = replied.split_once("[state]").expect("there");
        let told = faults(replied).join("\n");
        assert!(told.contains("on: expected a step with expect"), "{told}");
    }

    #[test]
    fn json_in_the_config_is_the_same_profile() {
        let table: toml::Table = toml::from_str(GOOD).expect("TOML");
        let json = serde_json::to_string(&table).expect("JSON");
        assert!(read_json(&json, "profile", ROWS).is_ok());
        let faults =
            read_json(&json.replace("\"get\"", "\"gte\""), "profile", ROWS).expect_err("refused");
        assert!(
            faults[0].to_string().contains("gte: unknown key"),
            "{}",
            faults[0]
        );
    }
}
