//! The keys that the config may have for PDUs of this kind.

use super::Checker;
use crate::driver::profile::holes::Filling;
use crate::driver::profile::ids;
use crate::driver::profile::written::{self, File, Scalar};
use crate::driver::profile::{INLINE, KeyRule};
use crate::settings::{Keys as _, PduKeys};

impl Checker {
    pub(super) fn keys(&mut self, written: &File) -> Vec<KeyRule> {
        let of_transport = (self.rows.of)(written.transport);
        let secrets = (self.rows.secrets)();
        let mut rules = Vec::new();
        for (name, key) in &written.keys {
            let path = format!("keys.{name}");
            if PduKeys::has(name) || name == INLINE {
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
            if key.secret && !secrets.contains(name) {
                let names = secrets.join(", ");
                self.fault(&path, format!("a secret must be called one of {names}"));
            }
            let is_of_transport = of_transport.iter().any(|key| key.name == *name);
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
}

fn filling(scalar: &Scalar) -> Filling {
    match scalar {
        Scalar::Integer(number) => Filling::Number(*number),
        Scalar::Text(text) => Filling::Text(text.clone()),
    }
}
