//! From a profile as written to one that can be used: every fault is told, each with its place, and
//! whatever is computed from an outlet is computed here for every outlet.

use super::answer::{self, Judge, OTHER, Take};
use super::holes::{Filling, Fillings, Place, Template};
use super::ids::{self, Ids};
use super::octets::Octets;
use super::script::{Act, Script, Walk};
use super::sums::Sum;
use super::written::{self, Do, File, Meaning, Scalar, Transport};
use super::{
    Asking, Does, How, INLINE, KeyRule, Meter, Over, Profile, Raw, Scope, Site, Snmp, Step, Swap,
    Talk, Test, Until, Verb, Web, Write,
};
use crate::request::hint::did_you_mean;
use crate::request::{Outlet, Proof, Switch};
use crate::settings::{FileError, PDU_KEYS, Position};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A profile is no longer than this.
pub(super) const MOST_BYTES: usize = 64 * 1024;

/// Below this a profile's OIDs are written, unless they begin with `1.3.6.1.` or a dot.
const ENTERPRISES: &str = "1.3.6.1.4.1.";

/// The keys whose values may be secrets: those that the config resolves and logs never show.
const SECRET_KEYS: &[&str] = &["password", "api_key"];

/// Keys that the transport reads: a profile may only give them another default.
fn of_transport(transport: Transport) -> &'static [&'static str] {
    match transport {
        Transport::Snmp => &[
            "ip",
            "hostname",
            "community",
            "version",
            "username",
            "authpassphrase",
            "privpassphrase",
            "auth_protocol",
            "priv_protocol",
        ],
        Transport::Http => &[
            "ip",
            "hostname",
            "port",
            "protocol",
            "insecure",
            "ca_file",
            "basic_login",
        ],
        Transport::Line | Transport::Bytes => &["ip", "hostname", "port", "device", "baud", "over"],
    }
}

/// A fault at a path of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) path: String,
    pub(super) message: String,
}

/// Reads the TOML `text` of a profile; `file` is its name for messages.
pub(crate) fn read(text: &str, file: &str) -> Result<Profile, Vec<FileError>> {
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
    check(written).map_err(|faults| {
        let faults = faults.into_iter().map(|found| {
            let at = super::place::place(text, &found.path);
            fault(Some(at), format!("{}: {}", found.path, found.message))
        });
        let mut faults: Vec<FileError> = faults.collect();
        faults.sort_by_key(|fault| fault.at);
        faults
    })
}

/// Reads a profile that stands in the config as the JSON `text`.
pub(super) fn read_json(text: &str, file: &str) -> Result<Profile, Vec<FileError>> {
    let fault = |message| FileError {
        file: file.to_owned(),
        at: None,
        message,
    };
    let written: File =
        serde_json::from_str(text).map_err(|error| vec![fault(explain(&error.to_string()))])?;
    check(written).map_err(|faults| {
        let faults = faults
            .iter()
            .map(|found| fault(format!("{}: {}", found.path, found.message)));
        faults.collect()
    })
}

/// serde's words, with the likely key where there is one.
pub(super) fn explain(message: &str) -> String {
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
    faults: Vec<Fault>,
    /// What an outlet, and what the keys define.
    of_outlet: BTreeSet<String>,
    of_keys: BTreeSet<String>,
    texts: Vec<(String, Of, Template, Place)>,
}

/// Checks what is written, or tells every fault.
pub(super) fn check(written: File) -> Result<Profile, Vec<Fault>> {
    let mut checker = Checker {
        faults: Vec::new(),
        of_outlet: BTreeSet::new(),
        of_keys: BTreeSet::new(),
        texts: Vec::new(),
    };
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
        };
        let tells_all = written.state.is_some() && !self.asks_of_outlet();
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

    fn keys(&mut self, written: &File) -> Vec<KeyRule> {
        let of_transport = of_transport(written.transport);
        let mut rules = Vec::new();
        for (name, key) in &written.keys {
            let path = format!("keys.{name}");
            if PDU_KEYS.contains(&name.as_str()) || name == INLINE {
                self.fault(&path, "every PDU has a key of this name");
                continue;
            }
            let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if !is_name {
                self.fault(&path, "expected small letters, digits and _");
            }
            if key.secret && !SECRET_KEYS.contains(&name.as_str()) {
                let names = SECRET_KEYS.join(", ");
                self.fault(&path, format!("a secret must be called one of {names}"));
            }
            let is_of_transport = of_transport.contains(&name.as_str());
            if let Some(rule) = self.key(&path, name, key, is_of_transport) {
                if !is_of_transport {
                    self.of_keys.insert(name.clone());
                }
                rules.push(rule);
            }
        }
        rules
    }

    fn key(
        &mut self,
        path: &str,
        name: &str,
        key: &written::Key,
        is_of_transport: bool,
    ) -> Option<KeyRule> {
        let default = key.default.as_ref().map(filling);
        let is_integer = match (key.kind, &default) {
            (Some(kind), _) => kind == written::Kind::Integer,
            (None, default) => matches!(default, Some(Filling::Number(_))) || key.range.is_some(),
        };
        let range = match &key.range {
            None => None,
            Some(text) => {
                let ranges = ids::ranges(text).and_then(|ranges| match ranges.as_slice() {
                    [one] => Ok((i64::from(*one.start()), i64::from(*one.end()))),
                    _ => Err("expected one range, as 1-8".to_owned()),
                });
                Some(self.told(&format!("{path}.range"), ranges)?)
            }
        };
        let rule = KeyRule {
            name: name.to_owned(),
            is_integer,
            is_secret: key.secret,
            is_of_transport,
            default: None,
            range,
            choices: key.choices.clone(),
            help: key.help.clone().unwrap_or_default(),
        };
        // The default must be a value that the config may have.
        let default = match &key.default {
            None => None,
            Some(default) => {
                let json = match default {
                    Scalar::Integer(number) => serde_json::Value::from(*number),
                    Scalar::Text(text) => serde_json::Value::from(text.as_str()),
                };
                Some(self.told(&format!("{path}.default"), rule.read(Some(&json)))?)
            }
        };
        if default.is_none() && rule.help.is_empty() {
            self.fault(
                path,
                "a key without a default needs help: what the config must say",
            );
        }
        Some(KeyRule { default, ..rule })
    }

    /// The computed holes, each of which may use those whose names come before its own.
    fn vars(&mut self, written: &written::Outlets) -> Vec<(String, Sum)> {
        let mut vars = Vec::new();
        for (name, text) in &written.vars {
            let path = format!("outlets.vars.{name}");
            if self.of_outlet.contains(name) || self.of_keys.contains(name) {
                self.fault(&path, "this name has a meaning already");
            }
            if let Some(sum) = self.told(&path, Sum::parse(text)) {
                vars.push((name.clone(), sum));
            }
        }
        self.of_outlet.extend(written.vars.keys().cloned());
        vars
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
        if written.transport == Transport::Snmp {
            let there = [
                ("login", written.login.is_some()),
                ("logout", written.logout.is_some()),
            ];
            for (key, _) in there.iter().filter(|(_, is_there)| *is_there) {
                self.fault(*key, "SNMP has no login: expected no such table");
            }
        }
    }

    /// Has what is sent to read the state a hole of the outlet?
    fn asks_of_outlet(&self) -> bool {
        let texts = self
            .texts
            .iter()
            .filter(|(path, ..)| path.starts_with("state.") && !path.starts_with("state.take"));
        let mut names = texts.flat_map(|(.., text, _)| text.names());
        names.any(|name| self.of_outlet.contains(name))
    }

    fn proofs(&mut self, written: &File) -> &'static [Proof] {
        match (&written.state, written.proof) {
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
        let whole = match text.strip_prefix('.') {
            Some(whole) => whole.to_owned(),
            None if text.starts_with("1.3.6.1.") => text.to_owned(),
            None => format!("{ENTERPRISES}{text}"),
        };
        self.text(path, &whole, Place::Oid, of)
    }

    fn judge(&mut self, path: &str, written: &written::Action, of: Of) -> Judge {
        let takes = written
            .take
            .clone()
            .map(written::OneOrMore::list)
            .unwrap_or_default();
        let takes = self.takes(path, &takes, of);
        if let Some(test) = &written.test
            && !self.of_outlet.contains(test)
            && !self.of_keys.contains(test)
        {
            self.fault(format!("{path}.test"), format!("nothing defines {test:?}"));
        }
        if path == "state" && !written.keys().is_empty() {
            let meanings: Vec<Meaning> = written.map.values().copied().collect();
            let missing = [(Meaning::On, "on"), (Meaning::Off, "off")];
            for (_, word) in missing
                .iter()
                .filter(|(meaning, _)| !meanings.contains(meaning))
            {
                self.fault("state.map", format!("no value means {word:?}"));
            }
            if written.test.is_some()
                && let Some(other) = written
                    .map
                    .keys()
                    .find(|key| !["0", "1", OTHER].contains(&key.as_str()))
            {
                self.fault(
                    format!("state.map.{other}"),
                    "a test gives 0 or 1, never this",
                );
            }
        }
        Judge {
            takes,
            test: written.test.clone(),
            map: written.map.clone(),
        }
    }

    fn takes(&mut self, path: &str, written: &[written::Take], of: Of) -> Vec<Take> {
        let mut takes = Vec::new();
        for (at, take) in written.iter().enumerate() {
            // A single one may stand without a list.
            let path = match written.len() {
                1 => format!("{path}.take"),
                _ => format!("{path}.take.{at}"),
            };
            let before = takes.len();
            let regex: fn(Template) -> Take = Take::Regex;
            let texts = [
                ("regex", &take.regex, Place::Pattern, regex),
                ("all", &take.all, Place::Pattern, Take::All),
                ("json", &take.json, Place::Plain, Take::Json),
                ("xml", &take.xml, Place::Plain, Take::Xml),
                ("byte", &take.byte, Place::Plain, Take::Byte),
            ];
            for (key, text, place, make) in texts {
                let Some(text) = text else { continue };
                if key == "all"
                    && !["(?<outlet>", "(?<state>"]
                        .iter()
                        .all(|group| text.contains(group))
                {
                    self.fault(
                        format!("{path}.all"),
                        "expected the groups (?<outlet>…) and (?<state>…)",
                    );
                }
                if key == "json" && !text.is_empty() && !text.starts_with('/') {
                    self.fault(
                        format!("{path}.json"),
                        "expected a JSON pointer, as /outputs/0/state",
                    );
                }
                let template = self.text(&format!("{path}.{key}"), text, place, of);
                takes.extend(template.map(make));
            }
            match (&take.split, &take.field) {
                (Some(separator), Some(field)) if !separator.is_empty() => {
                    let field = self.text(&format!("{path}.field"), field, Place::Plain, of);
                    takes.extend(field.map(|field| Take::Split(separator.clone(), field)));
                }
                (None, None) => {}
                _ => self.fault(&path, "expected split and field together"),
            }
            if takes.len() > before + 1 {
                self.fault(
                    &path,
                    "expected one of regex, all, json, xml, byte and split; several go into a list",
                );
            }
            takes.extend(take.number.map(Take::Number));
            if takes.len() == before {
                self.fault(
                    &path,
                    "expected one of regex, all, json, xml, byte, split or as",
                );
            }
        }
        takes
    }

    fn snmp(&mut self, written: &File) -> Option<Snmp> {
        let on = self.writes("on", &written.on);
        let off = self.writes("off", &written.off);
        let gets = written.state.as_ref().and_then(|state| state.get.clone());
        let is_one = matches!(gets, Some(written::OneOrMore::One(_)));
        let gets = gets.map(written::OneOrMore::list).unwrap_or_default();
        if written.state.is_some() && gets.is_empty() {
            self.fault("state", "expected get: the object that tells the state");
        }
        let mut state = Vec::new();
        for (at, oid) in gets.iter().enumerate() {
            let path = match is_one {
                true => "state.get".to_owned(),
                false => format!("state.get.{at}"),
            };
            state.extend(self.oid(&path, oid, Of::Outlet));
        }
        let mut read = |key: &str, oid: &Option<String>, of| {
            let oid = oid.as_ref()?;
            self.oid(&format!("outlets.{key}"), oid, of)
        };
        let count = read("count", &written.outlets.count, Of::Pdu);
        let names = read("names", &written.outlets.names, Of::Outlet);
        self.detect(written);
        Some(Snmp {
            on,
            off,
            state,
            count,
            names,
        })
    }

    fn writes(&mut self, path: &str, action: &written::Action) -> Vec<Write> {
        let mut writes = Vec::new();
        for (at, set) in action.set.iter().flatten().enumerate() {
            let path = format!("{path}.set.{at}");
            let oid = self.oid(&format!("{path}.oid"), &set.oid, Of::Outlet);
            let integer = |value: &Scalar| (value.to_string(), Place::Number, "i");
            let unsigned = |value: &Scalar| (value.to_string(), Place::Unsigned, "u");
            let text = |value: &String| (value.clone(), Place::Plain, "s");
            let values = [
                set.i.as_ref().map(integer),
                set.u.as_ref().map(unsigned),
                set.s.as_ref().map(text),
            ];
            let mut values = values.into_iter().flatten();
            let (Some((value, place, key)), None) = (values.next(), values.next()) else {
                let expected = "expected one value: i = INTEGER, u = Gauge32 or s = OCTET STRING";
                self.fault(&path, expected);
                continue;
            };
            let value = self.text(&format!("{path}.{key}"), &value, place, Of::Outlet);
            let write = oid.zip(value).map(|(oid, value)| match place {
                Place::Number => Write::Integer { oid, value },
                Place::Unsigned => Write::Unsigned { oid, value },
                _ => Write::Text { oid, value },
            });
            writes.extend(write);
        }
        if let Some(edit) = &action.edit {
            let path = format!("{path}.edit");
            let oid = self.oid(&format!("{path}.oid"), &edit.oid, Of::Outlet);
            let field = self.text(
                &format!("{path}.field"),
                &edit.field,
                Place::Plain,
                Of::Outlet,
            );
            let value = self.text(
                &format!("{path}.value"),
                &edit.value,
                Place::Plain,
                Of::Outlet,
            );
            if edit.split.is_empty() {
                self.fault(format!("{path}.split"), "expected a separator");
            }
            if let (Some(oid), Some(field), Some(value)) = (oid, field, value) {
                writes.push(Write::Edit {
                    oid,
                    split: edit.split.clone(),
                    field,
                    value,
                });
            }
        }
        if writes.len() > 32 {
            self.fault(path, "expected at most 32 steps");
        }
        if action.set.as_ref().is_some_and(Vec::is_empty) {
            self.fault(format!("{path}.set"), "expected at least one");
        }
        writes
    }

    fn web(&mut self, written: &File) -> Web {
        let of_auth: &[&str] = match written.http.auth {
            written::Auth::None => &[],
            written::Auth::Basic | written::Auth::Digest | written::Auth::Asked => {
                &["username", "password"]
            }
            written::Auth::Bearer => &["api_key"],
        };
        for key in of_auth {
            if !self.of_keys.contains(*key) {
                self.fault("http.auth", format!("it needs [keys.{key}]"));
            }
        }
        let mut errors = Vec::new();
        for (pattern, failure) in &written.errors {
            if self.told("errors", answer::compile(pattern)).is_some() {
                errors.push((pattern.clone(), *failure));
            }
        }
        let login = written.login.as_ref().map(|login| {
            if login.take.is_none() {
                self.fault("login", "expected take: where the token is in the answer");
            }
            let requests = self.askings("login", login, Of::Pdu);
            (requests, self.judge("login", login, Of::Pdu))
        });
        if login.is_some() && !self.of_keys.insert("token".to_owned()) {
            self.fault("keys.token", "what the login gives has this name");
        }
        let mut of = |path: &str, action: Option<&written::Action>, of| {
            action
                .map(|action| self.askings(path, action, of))
                .unwrap_or_default()
        };
        Web {
            auth: written.http.auth,
            port: written.http.port,
            login,
            logout: of("logout", written.logout.as_ref(), Of::Pdu),
            on: of("on", Some(&written.on), Of::Outlet),
            off: of("off", Some(&written.off), Of::Outlet),
            state: of("state", written.state.as_ref(), Of::Outlet),
            errors,
        }
    }

    fn askings(&mut self, path: &str, action: &written::Action, of: Of) -> Vec<Asking> {
        let requests = match (&action.request, action.requests.as_slice()) {
            (Some(one), []) => vec![(format!("{path}.request"), one)],
            (None, several @ [_, ..]) => {
                let numbered = several.iter().enumerate();
                numbered
                    .map(|(at, one)| (format!("{path}.requests.{at}"), one))
                    .collect()
            }
            _ => {
                self.fault(path, "expected request, or requests");
                Vec::new()
            }
        };
        if requests.len() > 32 {
            self.fault(path, "expected at most 32 requests");
        }
        let askings = requests
            .into_iter()
            .filter_map(|(path, one)| self.asking(&path, one, of));
        askings.collect()
    }

    fn asking(&mut self, path: &str, request: &written::Request, of: Of) -> Option<Asking> {
        let targets = [
            (Verb::Get, "get", &request.get),
            (Verb::Post, "post", &request.post),
            (Verb::Patch, "patch", &request.patch),
        ];
        let mut targets = targets
            .iter()
            .filter_map(|(verb, key, target)| Some((verb, key, target.as_ref()?)));
        let (Some((verb, key, target)), None) = (targets.next(), targets.next()) else {
            self.fault(path, "expected one of get, post and patch: the path");
            return None;
        };
        if !target.starts_with('/') || target.starts_with("//") || target.contains([' ', '#']) {
            self.fault(
                format!("{path}.{key}"),
                "expected a path that begins with one slash, without blanks",
            );
        }
        let target = self.text(&format!("{path}.{key}"), target, Place::Target, of);
        let bodies = [
            (
                "form",
                "application/x-www-form-urlencoded",
                &request.form,
                Place::Target,
            ),
            ("json", "application/json", &request.json, Place::Json),
            ("body", "text/plain", &request.body, Place::Plain),
        ];
        let mut body = None;
        for (key, kind, text, place) in bodies {
            let Some(text) = text else { continue };
            if *verb == Verb::Get || body.is_some() {
                self.fault(
                    format!("{path}.{key}"),
                    "expected one body, and none with get",
                );
            }
            let text = self.text(&format!("{path}.{key}"), text, place, of);
            body = text.map(|text| (kind, text));
        }
        if let Some(status) = request
            .status
            .iter()
            .find(|status| !(200..=599).contains(*status))
        {
            self.fault(
                format!("{path}.status"),
                format!("expected 200 to 599, got {status}"),
            );
        }
        let expect = match &request.expect {
            None => None,
            Some(pattern) => self.text(&format!("{path}.expect"), pattern, Place::Pattern, of),
        };
        Some(Asking {
            verb: *verb,
            target: target?,
            body,
            status: request.status.clone(),
            expect,
        })
    }

    fn talk(&mut self, written: &File) -> Talk {
        let line = &written.line;
        let over = match line.over.is_empty() {
            true => vec![Over::Telnet],
            false => line.over.clone(),
        };
        let mut failures = Vec::new();
        for (pattern, failure) in &written.errors {
            if self.told("errors", answer::compile(pattern)).is_some() {
                failures.push((pattern.clone(), *failure));
            }
        }
        let eol = line.eol.clone().unwrap_or_else(|| "\r\n".to_owned());
        if eol.len() > 4 {
            self.fault("line.eol", "expected at most 4 characters");
        }
        let mut of = |path: &str, action: Option<&written::Action>, of| {
            let steps = action.and_then(|action| action.steps.as_ref());
            let steps = steps.map(Vec::as_slice).unwrap_or_default();
            if steps.len() > 32 {
                self.fault(path, "expected at most 32 steps");
            }
            let numbered = steps.iter().enumerate();
            let read = numbered.map(|(at, step)| {
                let path = format!("{path}.steps.{at}");
                self.step(&path, step, of, line.prompt.as_deref(), &failures)
            });
            read.collect()
        };
        Talk {
            login: of("login", written.login.as_ref(), Of::Pdu),
            logout: of("logout", written.logout.as_ref(), Of::Pdu),
            on: of("on", Some(&written.on), Of::Outlet),
            off: of("off", Some(&written.off), Of::Outlet),
            state: of("state", written.state.as_ref(), Of::Outlet),
            site: Site {
                port: line.port.unwrap_or(23),
                baud: line.baud.unwrap_or(9600),
                over,
            },
            eol,
        }
    }

    fn step(
        &mut self,
        path: &str,
        step: &written::Step,
        of: Of,
        prompt: Option<&str>,
        failures: &[(String, written::Failure)],
    ) -> Step {
        let (typed, is_line) = match (&step.send, &step.key) {
            (Some(line), None) => (Some(("send", line)), true),
            (None, Some(key)) => (Some(("key", key)), false),
            (None, None) => (None, false),
            (Some(_), Some(_)) => {
                self.fault(path, "expected send or key, not both");
                (None, false)
            }
        };
        if typed.is_none() && step.expect.is_none() {
            self.fault(path, "expected send, key or expect");
        }
        let send = typed
            .and_then(|(key, text)| self.text(&format!("{path}.{key}"), text, Place::Line, of));
        let expect = match (step.expect.as_deref(), prompt) {
            (None, _) => None,
            (Some("prompt"), Some(prompt)) => self.text("line.prompt", prompt, Place::Pattern, of),
            (Some("prompt"), None) => {
                self.fault(format!("{path}.expect"), "expected [line] with a prompt");
                None
            }
            (Some(pattern), _) => self.text(&format!("{path}.expect"), pattern, Place::Pattern, of),
        };
        let mut answers = Vec::new();
        for (pattern, text) in &step.answer {
            self.told(&format!("{path}.answer"), answer::compile(pattern));
            let text = self.text(&format!("{path}.answer"), text, Place::Line, of);
            answers.extend(text.map(|text| (pattern.clone(), text)));
        }
        let mut all = failures.to_vec();
        for (pattern, failure) in &step.other {
            self.told(&format!("{path}.else"), answer::compile(pattern));
            all.push((pattern.clone(), *failure));
        }
        Step {
            send,
            is_line,
            expect,
            answers,
            failures: all,
        }
    }

    fn raw(&mut self, written: &File) -> Raw {
        let bytes = &written.bytes;
        if bytes.over.is_empty() || bytes.over.contains(&Over::Telnet) {
            self.fault("bytes.over", "expected tcp, serial or both");
        }
        if bytes.over.contains(&Over::Tcp) && bytes.port.is_none() {
            self.fault("bytes.port", "expected the port that the PDU listens on");
        }
        let mut of = |path: &str, action: Option<&written::Action>, of| {
            let swap = action.and_then(|action| self.swap(path, action, of));
            swap.into_iter().collect()
        };
        Raw {
            login: of("login", written.login.as_ref(), Of::Pdu),
            on: of("on", Some(&written.on), Of::Outlet),
            off: of("off", Some(&written.off), Of::Outlet),
            state: of("state", written.state.as_ref(), Of::Outlet),
            site: Site {
                over: bytes.over.clone(),
                port: bytes.port.unwrap_or(0),
                baud: bytes.baud.unwrap_or(9600),
            },
        }
    }

    fn swap(&mut self, path: &str, action: &written::Action, of: Of) -> Option<Swap> {
        let Some(write) = &action.write else {
            self.fault(path, "expected write: the bytes that are sent");
            return None;
        };
        let write = self.octets(&format!("{path}.write"), write, of);
        let read = action.read.as_ref();
        let until = match read.map(|read| (read.bytes, &read.until)) {
            None => None,
            Some((Some(count), None)) if (1..=4096).contains(&count) => Some(Until::Count(count)),
            Some((None, Some(pattern))) => {
                let pattern = self.text(&format!("{path}.read.until"), pattern, Place::Pattern, of);
                pattern.map(Until::Pattern)
            }
            Some(_) => {
                self.fault(
                    format!("{path}.read"),
                    "expected bytes = 1 to 4096, or until = 'PATTERN'",
                );
                None
            }
        };
        if path == "state" && read.is_none() {
            self.fault(path, "expected read: how the answer ends");
        }
        let is = match read.and_then(|read| read.is.as_ref()) {
            None => None,
            Some(is) => Some(self.octets(&format!("{path}.read.is"), is, of)?),
        };
        Some(Swap {
            write: write?,
            until,
            is,
        })
    }

    fn octets(&mut self, path: &str, text: &str, of: Of) -> Option<Octets> {
        let mut templates = Vec::new();
        let octets = Octets::parse(text, |template, place| {
            templates.push((template.clone(), place));
            Ok(())
        });
        let octets = self.told(path, octets)?;
        for (template, place) in templates {
            self.known(path, template, place, of)?;
        }
        Some(octets)
    }

    fn detect(&mut self, written: &File) {
        let Some(detect) = &written.detect else {
            return;
        };
        let lists = [
            ("sysobjectid", &detect.sysobjectid),
            ("except", &detect.except),
        ];
        for (key, oids) in lists {
            for (at, oid) in oids.iter().enumerate() {
                self.oid(&format!("detect.{key}.{at}"), oid, Of::Pdu);
            }
        }
        if let Some(oid) = &detect.has {
            self.oid("detect.has", oid, Of::Pdu);
        }
    }

    fn meters(&mut self, written: &File) -> Vec<Meter> {
        let mut meters = Vec::new();
        let scopes = [
            (Scope::Outlet, "outlet", &written.meter.outlet, Of::Outlet),
            (Scope::Bank, "bank", &written.meter.bank, Of::Bank),
            (Scope::Pdu, "pdu", &written.meter.pdu, Of::Pdu),
        ];
        for (scope, name, quantities, of) in scopes {
            let all = [
                ("watts", &quantities.watts),
                ("amps", &quantities.amps),
                ("volts", &quantities.volts),
                ("va", &quantities.va),
                ("wh", &quantities.wh),
                ("hertz", &quantities.hertz),
                ("factor", &quantities.factor),
            ];
            for (quantity, written) in all {
                let Some(written) = written else { continue };
                let path = format!("meter.{name}.{quantity}");
                meters.extend(self.meter(&path, scope, quantity, written, of));
            }
            if let Some(range) = &quantities.range {
                let path = format!("meter.{name}.range");
                self.told(&path, ids::ranges(range));
                if scope != Scope::Bank {
                    self.fault(path, "only banks have numbers of their own");
                }
            }
        }
        meters
    }

    fn meter(
        &mut self,
        path: &str,
        scope: Scope,
        quantity: &'static str,
        written: &written::Quantity,
        of: Of,
    ) -> Option<Meter> {
        let Some(get) = &written.get else {
            self.fault(path, "expected get: the object that holds the value");
            return None;
        };
        let scale = written.scale.unwrap_or(1.0);
        if !(scale.is_finite() && scale > 0.0) {
            self.fault(format!("{path}.scale"), "expected a number above 0");
        }
        let source = self.oid(&format!("{path}.get"), get, of);
        let decimals = match &written.decimals {
            None => None,
            Some(decimals) => Some(self.oid(&format!("{path}.decimals"), decimals, of)?),
        };
        let takes = written
            .take
            .clone()
            .map(written::OneOrMore::list)
            .unwrap_or_default();
        let takes = self.takes(path, &takes, of);
        Some(Meter {
            scope,
            quantity,
            source: source?,
            judge: Judge {
                takes,
                ..Judge::default()
            },
            scale,
            decimals,
        })
    }

    fn tests(&mut self, written: &File, ids: &Ids) -> Vec<Test> {
        let mut tests = Vec::new();
        for (at, test) in written.test.iter().enumerate() {
            let path = format!("test.{at}");
            let does = match (&test.wire, &test.walk) {
                (Some(wire), None) => self.wire(&path, test, wire, ids),
                (None, Some(walk)) => self.walk(&path, test, walk, ids),
                _ => {
                    self.fault(&path, "expected one of wire and walk");
                    None
                }
            };
            let keys = test.keys.iter().map(|(key, value)| {
                let value = match value {
                    Scalar::Integer(number) => serde_json::Value::from(*number),
                    Scalar::Text(text) => serde_json::Value::from(text.as_str()),
                };
                (key.clone(), value)
            });
            let keys: BTreeMap<_, _> = keys.collect();
            tests.extend(does.map(|does| Test { path, keys, does }));
        }
        tests
    }

    fn wire(&mut self, path: &str, test: &written::Test, wire: &str, ids: &Ids) -> Option<Does> {
        let outlet = test.outlet.as_ref().map(|id| Outlet::new(id.to_string()));
        let (Some(outlet), Some(action)) = (outlet, test.action) else {
            self.fault(
                path,
                "expected outlet and do = \"on\", \"off\" or \"state\" beside wire",
            );
            return None;
        };
        let script = self.told(&format!("{path}.wire"), Script::parse(wire))?;
        if ids.fillings(&outlet).is_none() {
            self.fault(
                format!("{path}.outlet"),
                format!("expected {}", ids.about()),
            );
        }
        let action = match action {
            Do::On => Act::Switch(Switch::On),
            Do::Off => Act::Switch(Switch::Off),
            Do::State => Act::State,
        };
        Some(Does::Wire {
            outlet,
            action,
            script,
        })
    }

    fn walk(&mut self, path: &str, test: &written::Test, walk: &str, ids: &Ids) -> Option<Does> {
        let walk = self.told(&format!("{path}.walk"), Walk::parse(walk))?;
        let of_outlets = test.states.keys().chain(test.names.keys());
        let strange = of_outlets.filter(|id| ids.fillings(&Outlet::new(id.as_str())).is_none());
        for id in strange.collect::<BTreeSet<_>>() {
            self.fault(path, format!("outlet {id}: expected {}", ids.about()));
        }
        let outlet = |id: &String| Outlet::new(id.as_str());
        let proves = test.states.len() + test.names.len() + test.meters.len();
        if proves == 0 && test.count.is_none() {
            self.fault(path, "expected states, names, count or meters beside walk");
        }
        Some(Does::Walk {
            walk,
            states: test
                .states
                .iter()
                .map(|(id, state)| (outlet(id), *state))
                .collect(),
            names: test
                .names
                .iter()
                .map(|(id, name)| (outlet(id), name.clone()))
                .collect(),
            count: test.count,
            meters: test
                .meters
                .iter()
                .map(|(what, value)| (what.clone(), *value))
                .collect(),
        })
    }

    /// Fills every text for every outlet.
    fn every_outlet(&mut self, profile: &Profile) {
        let mut keys: Fillings = profile
            .keys
            .iter()
            .map(|key| (key.name.clone(), key.sample()))
            .collect();
        if self.of_keys.contains("token") {
            // What a login gives.
            let sample = || Filling::Text("token".to_owned());
            keys.entry("token".to_owned()).or_insert_with(sample);
        }
        let mut bank = keys.clone();
        bank.insert("bank".to_owned(), Filling::Number(1));
        let texts = std::mem::take(&mut self.texts);
        for (path, of, text, place) in &texts {
            let fillings = match of {
                Of::Bank => &bank,
                Of::Pdu => &keys,
                Of::Outlet => continue,
            };
            let filled = text.fill(fillings).and_then(|text| fits(&text, *place));
            self.told(path, filled);
        }
        // What switches each outlet on, so that no two share it.
        let mut known: BTreeMap<String, Outlet> = BTreeMap::new();
        for outlet in profile.ids.all() {
            let Some(of_outlet) = profile.ids.fillings(&outlet) else {
                continue;
            };
            let fillings = match profile.with_vars(of_outlet, &keys) {
                Ok(fillings) => fillings,
                Err(why) => return self.fault("outlets.vars", format!("outlet {outlet}: {why}")),
            };
            let mut switches = String::new();
            for (path, of, text, place) in &texts {
                if *of != Of::Outlet {
                    continue;
                }
                let filled = text
                    .fill(&fillings)
                    .and_then(|text| fits(&text, *place).map(|()| text));
                match filled {
                    Ok(filled) if path.starts_with("on.") => switches.extend([&filled, "\n"]),
                    Ok(_) => {}
                    Err(why) => {
                        return self.fault(path.as_str(), format!("outlet {outlet}: {why}"));
                    }
                }
            }
            if let Some(other) = known.insert(switches, outlet.clone()) {
                let message = format!(
                    "outlets {other} and {outlet} are switched alike: where is {{outlet}}?"
                );
                return self.fault("on", message);
            }
        }
    }
}

/// Is the filled text one that its place can take?
fn fits(text: &str, place: Place) -> Result<(), String> {
    match place {
        Place::Oid => {
            let arcs: Option<Vec<u32>> = text.split('.').map(|arc| arc.parse().ok()).collect();
            let is_oid = arcs.is_some_and(|arcs| (2..=128).contains(&arcs.len()));
            is_oid
                .then_some(())
                .ok_or_else(|| format!("expected an OID, got {text:?}"))
        }
        Place::Number => {
            let number = text.parse::<i32>().map(drop);
            number.map_err(|_| format!("expected an INTEGER, got {text:?}"))
        }
        Place::Unsigned => {
            let number = text.parse::<u32>().map(drop);
            number.map_err(|_| format!("expected 0 to 4294967295, got {text:?}"))
        }
        Place::Pattern => answer::compile(text).map(drop),
        Place::Hex => {
            let bytes = super::script::hex(text).map(drop);
            bytes.ok_or_else(|| format!("expected hexadecimal pairs, got {text:?}"))
        }
        Place::Plain | Place::Target | Place::Line | Place::Json => Ok(()),
    }
}

fn filling(scalar: &Scalar) -> Filling {
    match scalar {
        Scalar::Integer(number) => Filling::Number(*number),
        Scalar::Text(text) => Filling::Text(text.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let faults = read(text, "x.toml").expect_err("refused");
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_profile_that_is_right_is_read() {
        let profile = read(GOOD, "x.toml").expect("right");
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
                "a secret must be called one of password",
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
        let profile = read(&replied, "x.toml").expect("right");
        assert_eq!(profile.proofs, [Proof::Reply]);
        let long = format!("{GOOD}#{}", "x".repeat(MOST_BYTES));
        assert!(faults(&long).join("").contains("at most 65536 bytes"));
    }

    #[test]
    fn json_in_the_config_is_the_same_profile() {
        let table: toml::Table = toml::from_str(GOOD).expect("TOML");
        let json = serde_json::to_string(&table).expect("JSON");
        assert!(read_json(&json, "profile").is_ok());
        let faults =
            read_json(&json.replace("\"get\"", "\"gte\""), "profile").expect_err("refused");
        assert!(
            faults[0].to_string().contains("gte: unknown key"),
            "{}",
            faults[0]
        );
    }
}
