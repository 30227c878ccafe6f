//! The config file as written: names and raw JSON values in the order of the file, so that the
//! reader sees duplicates, and every complaint has its line and column.

use crate::request::hint::nearest;
use crate::settings::{self, Position, Settings};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The entries of a JSON object, duplicates included.
pub(super) struct Entries<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The text of the file, with marks on the way to count a place from: a config of thousands of PDUs
/// may well be one long line.
#[derive(Debug)]
pub(super) struct Text<'a> {
    pub(super) whole: &'a str,
    marks: Vec<(usize, Position)>,
}

/// The distance between marks, about.
const MARK_EVERY: usize = 1024;

impl<'a> Text<'a> {
    pub(super) fn new(whole: &'a str) -> Self {
        let mut marks = vec![(0, Position { line: 1, column: 1 })];
        let (mut offset, mut at) = (0, Position { line: 1, column: 1 });
        while let Some(end) =
            (offset + MARK_EVERY..whole.len()).find(|end| whole.is_char_boundary(*end))
        {
            let passed = whole.get(offset..end).unwrap_or_default();
            at = at.plus(Position::of(passed, passed.len()));
            marks.push((end, at));
            offset = end;
        }
        Self { whole, marks }
    }

    /// The place of a value that is part of this text.
    pub(super) fn position(&self, value: &RawValue) -> Position {
        let offset = value
            .get()
            .as_ptr()
            .addr()
            .saturating_sub(self.whole.as_ptr().addr());
        let next = self.marks.partition_point(|(mark, _)| *mark <= offset);
        let Some((mark, at)) = next.checked_sub(1).and_then(|last| self.marks.get(last)) else {
            return Position::of(self.whole, offset);
        };
        let rest = self.whole.get(*mark..).unwrap_or_default();
        at.plus(Position::of(rest, offset - mark))
    }
}

/// The `daemon` section as written.
#[derive(Debug, serde::Deserialize)]
pub(super) struct DaemonSection {
    /// Empty when it is missing.
    #[serde(default, deserialize_with = "hosts")]
    pub(super) hostname: Vec<String>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) port: Option<u16>,
    #[serde(default)]
    pub(super) listener: Option<String>,
    #[serde(default)]
    pub(super) logging_level: Option<String>,
    #[serde(default)]
    pub(super) state_directory: Option<String>,
    #[serde(default)]
    pub(super) profiles: Option<Vec<String>>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) max_connections: Option<usize>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) max_connections_per_client: Option<usize>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) max_head_bytes: Option<usize>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) max_headers: Option<usize>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) max_body_bytes: Option<usize>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) max_line_bytes: Option<usize>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) max_buffered_bytes: Option<usize>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) max_wrong_tokens: Option<usize>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) idle_timeout: Option<f64>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) request_timeout: Option<f64>,
}

/// The keys of [`DaemonSection`], for warnings about others.
pub(super) const DAEMON_KEYS: &[&str] = &[
    "hostname",
    "port",
    "listener",
    "logging_level",
    "state_directory",
    "profiles",
    "access",
    "tls",
    "max_connections",
    "max_connections_per_client",
    "max_head_bytes",
    "max_headers",
    "max_body_bytes",
    "max_line_bytes",
    "max_buffered_bytes",
    "max_wrong_tokens",
    "idle_timeout",
    "request_timeout",
];

/// A host, a list of hosts, or null for all interfaces.
fn hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Hosts {
        One(Option<String>),
        List(Vec<String>),
    }
    match Hosts::deserialize(deserializer) {
        Ok(Hosts::One(host)) => Ok(vec![host.unwrap_or_default()]),
        Ok(Hosts::List(hosts)) if !hosts.is_empty() => Ok(hosts),
        Ok(Hosts::List(_)) | Err(_) => Err(serde::de::Error::custom(
            "expected an address, a list of addresses, or null for all interfaces",
        )),
    }
}

/// The keys every PDU may have, as written.
#[derive(Debug, serde::Deserialize)]
pub(super) struct PduSection {
    #[serde(default)]
    pub(super) driver: Option<String>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) retries: Option<i64>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) retrydelay: Option<f64>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) timeout: Option<f64>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) queue_limit: Option<usize>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) client_limit: Option<usize>,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    pub(super) delayed_limit: Option<usize>,
    #[serde(default, deserialize_with = "settings::maybe_text")]
    pub(super) refresh: Option<String>,
    #[serde(default)]
    pub(super) bus: Option<String>,
    #[serde(default)]
    pub(super) confirm: Option<String>,
    #[serde(default)]
    pub(super) about: Option<String>,
    #[serde(default)]
    pub(super) outlets: Option<super::outlets::Written>,
    #[serde(default)]
    pub(super) outlet_names: std::collections::BTreeMap<String, String>,
}

/// An alias as written: one outlet, or a list of them.
#[derive(Debug, serde::Deserialize)]
pub(super) struct AliasSection {
    #[serde(default)]
    pub(super) hostname: Option<String>,
    #[serde(default, alias = "outlet", deserialize_with = "settings::maybe_text")]
    pub(super) port: Option<String>,
    #[serde(default)]
    pub(super) outlets: Option<Vec<OutletSection>>,
}

/// One outlet of a group alias.
#[derive(Debug, serde::Deserialize)]
pub(super) struct OutletSection {
    pub(super) hostname: String,
    #[serde(alias = "outlet", deserialize_with = "settings::text")]
    pub(super) port: String,
}

/// The keys of [`AliasSection`]; `outlet` is another word for `port`.
pub(super) const ALIAS_KEYS: &[&str] = &["hostname", "port", "outlet", "outlets"];

/// The top-level keys.
pub(super) const SECTIONS: &[&str] = &["daemon", "pdus", "aliases"];

/// A section as settings, so that its errors carry key and place.
pub(super) fn section(text: &Text<'_>, name: &str, driver: &str, value: &RawValue) -> Settings {
    Settings::new(
        crate::request::PduName::new(name),
        driver,
        value.get(),
        text.position(value),
    )
}

/// The key path of the section about rights.
pub(super) const ACCESS: &str = "daemon.access";
/// Where TLS is set up.
pub(super) const TLS: &str = "daemon.tls";

/// Is this key path about rights? A mistake there is an error, and we guess nothing: others would
/// find a door that a slip leaves open first.
pub(super) fn decides_rights(path: &str) -> bool {
    matches!(path, ACCESS | TLS)
        || path.starts_with("daemon.access.")
        || path.starts_with("daemon.access[")
}

/// Is this unknown key probably about rights: `access` or `tokens` misspelt, or a key of that
/// section in another place?
pub(super) fn is_meant_for_rights(path: &str, key: &str) -> bool {
    matches!(path, "" | "daemon")
        && (key == "trusted_networks"
            || nearest(
                key,
                ["access", "tokens"]
                    .into_iter()
                    .chain(DAEMON_KEYS.iter().copied()),
            )
            .is_some_and(|word| matches!(word, "access" | "tokens" | "tls")))
}
