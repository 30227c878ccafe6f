//! Settings: a JSON object of the config with its place in the file, read into a typed struct by a
//! table of keys. Room for what drivers and the config both need of it.
//!
//! | file | job |
//! | --- | --- |
//! | `error` | what is wrong in a file, with its place |
//! | `position` | a place in the file, and the keys of an object with theirs |
//! | `keys` | a table of keys: the struct, its reading and its documentation from one text |
//! | `value` | what the value of a key can be, as old files write it |
//! | `pdu` | the table of the keys that every PDU may have |
//! | `address` | where a PDU answers |
//! | `secret` | values that we never print |
//!
//! Invariant: knows `request` alone; not the config file, not any driver.

mod address;
mod error;
mod keys;
mod pdu;
mod position;
mod secret;
mod value;

pub use address::Address;
pub use error::FileError;
pub use keys::{Absent, Key, Keys, Value, Values};
pub(crate) use keys::{expected, keys, words};
pub use pdu::{OutletList, Pace, PduKeys};
pub use position::{Position, keys_of};
pub use secret::Secret;
pub use value::{Ignored, Seconds, TextOrList, TextOrNumber, Truth, Within};

use crate::request::PduName;
use position::find_key;
use std::fmt;

/// A setting that cannot work: where, which key, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// Where in the file.
    pub at: Position,
    /// The key, when one is to blame.
    pub key: Option<String>,
    /// The expected value and the one that stands there; lower case, no full stop.
    pub message: String,
}

impl SettingsError {
    /// Is it about the same key as `earlier`, or does it name that key?
    fn may_follow_from(&self, earlier: &Self) -> bool {
        let is_of_word = |c: char| c.is_alphanumeric() || c == '_';
        earlier.key.as_deref().is_some_and(|key| {
            self.key.as_deref() == Some(key)
                || self
                    .message
                    .split(|c| !is_of_word(c))
                    .any(|word| word == key)
        })
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{key}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for SettingsError {}

/// One PDU's settings: its JSON object with its place in the file.
#[derive(Clone)]
pub struct Settings {
    pdu: PduName,
    driver: String,
    text: Box<str>,
    start: Position,
}

impl fmt::Debug for Settings {
    /// Without the text: it has the secrets in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("pdu", &self.pdu)
            .field("driver", &self.driver)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Settings of `pdu`, whose JSON object `text` begins at `start` in the file.
    pub fn new(
        pdu: PduName,
        driver: impl Into<String>,
        text: impl Into<Box<str>>,
        start: Position,
    ) -> Self {
        Self {
            pdu,
            driver: driver.into(),
            text: text.into(),
            start,
        }
    }

    /// The PDU's name: the address of most PDUs that have no `ip` key.
    pub fn pdu(&self) -> &PduName {
        &self.pdu
    }

    /// The driver name as the config gives it, for specs that serve several.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// The JSON object as written, with the secrets in the place of references to them.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where the JSON object begins.
    pub(crate) fn start(&self) -> Position {
        self.start
    }

    /// The same settings with the driver that they name.
    pub(crate) fn of_driver(&self, driver: &str) -> Self {
        Self {
            driver: driver.to_owned(),
            ..self.clone()
        }
    }

    /// The same PDU and place with another text.
    pub(crate) fn with_text(&self, text: impl Into<Box<str>>) -> Self {
        Self {
            text: text.into(),
            ..self.clone()
        }
    }

    /// The same settings without `key`, everything else in its place; `None` when they have no such
    /// key.
    pub(crate) fn without(&self, key: &str) -> Option<Self> {
        let name = find_key(&self.text, key)? + 1;
        let rest = self.text.get(name..)?;
        let mut is_escaped = false;
        let end = rest.bytes().position(|byte| {
            let is_end = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            is_end
        })?;
        let mut text = self.text.to_string();
        // A key of blanks, which nobody reads.
        let blanks: String = rest.get(..end)?.chars().map(|_| ' ').collect();
        text.replace_range(name..name + end, &blanks);
        Some(self.with_text(text))
    }

    /// Reads as much as it can: puts an error of `read` about a key into `wrong`, and reads again
    /// without that key. An error that only follows from such a key's absence does not count.
    pub(crate) fn read_all<T>(
        &self,
        wrong: &mut Vec<SettingsError>,
        read: impl Fn(&Self) -> Result<T, SettingsError>,
    ) -> Option<T> {
        let mut settings = self.clone();
        loop {
            let error = match read(&settings) {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            let rest = error.key.as_deref().and_then(|key| settings.without(key));
            if !wrong.iter().any(|earlier| error.may_follow_from(earlier)) {
                wrong.push(error);
            }
            settings = rest?;
        }
    }

    /// Does this key stand there, whatever its value?
    pub(crate) fn has_key(&self, key: &str) -> bool {
        find_key(&self.text, key).is_some()
    }

    /// A complaint of the driver itself about one key (an unknown name, two keys that exclude
    /// each other).
    pub fn error(&self, key: &str, message: impl Into<String>) -> SettingsError {
        let offset = find_key(&self.text, key).unwrap_or(0);
        SettingsError {
            at: self.start.plus(Position::of(&self.text, offset)),
            key: Some(key.to_owned()),
            message: message.into(),
        }
    }

    /// Reads the keys of `K`. Unknown keys are no errors here; the config warns about them.
    pub fn keys<K: Keys>(&self) -> Result<K, SettingsError> {
        K::read(&Values::new(self)?)
    }
}

/// serde_json's sentence without the position, which we print in our own form.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        Settings::new(
            PduName::new("pdu1"),
            "test",
            text,
            Position {
                line: 10,
                column: 5,
            },
        )
    }

    keys! {
        #[derive(Debug)]
        struct Login {
            password: Option<Secret>, "password";
        }
    }

    keys! {
        #[derive(Debug)]
        struct Console {
            ..login: Login;
            port: std::num::NonZeroU16 = 23, "TCP port";
            insecure: bool = false, "accept any certificate";
            serial: TextOrNumber, "serial number";
            oid: Option<String> => "the maker's", "object";
        }
    }

    fn read(text: &str) -> Result<Console, SettingsError> {
        settings(text).keys()
    }

    #[test]
    fn one_table_makes_struct_defaults_and_rows() {
        let read = read(r#"{"serial": 7}"#).expect("reads");
        assert_eq!(
            (read.port.get(), read.insecure, read.oid),
            (23, false, None)
        );
        let rows = Console::rows();
        let rows = rows.iter().map(|key| {
            let secret = if key.is_secret { "!" } else { "" };
            format!(
                "{}{secret}: {} [{}] {}",
                key.name,
                key.kind_and_range(),
                key.absent,
                key.about
            )
        });
        let expected = [
            "password!: text or number [none] password",
            "port: number, 1 to 65535 [23] TCP port",
            "insecure: flag [false] accept any certificate",
            "serial: text or number [required] serial number",
            "oid: text [the maker's] object",
        ];
        assert_eq!(rows.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn numbers_may_be_texts_and_texts_numbers() {
        let keys = read(r#"{"port": "23", "password": 1234, "insecure": "True", "serial": 7.0}"#);
        let keys = keys.expect("reads");
        assert!(!format!("{keys:?}").contains("1234"));
        let password = keys.login.password.as_ref().map(Secret::reveal);
        let got = (keys.port.get(), password, keys.insecure, &*keys.serial);
        assert_eq!(got, (23, Some("1234"), true, "7"));
        let keys = read(r#"{"port": 24.0, "password": null, "serial": "007"}"#).expect("reads");
        assert_eq!((keys.port.get(), &*keys.serial), (24, "007"));
        assert!(keys.login.password.is_none());
    }

    #[test]
    fn what_cannot_be_a_value_is_told_with_its_key() {
        for (text, told) in [
            (
                r#"{"port": "abc"}"#,
                r#"port: expected a number (1 to 65535), got "abc""#,
            ),
            (
                r#"{"port": 0}"#,
                r#"port: expected a number (1 to 65535), got "0""#,
            ),
            (
                r#"{"port": true}"#,
                r#"port: expected a number (1 to 65535), got "true""#,
            ),
            (r#"{"port": 1e400}"#, "port: number out of range"),
            (
                r#"{"insecure": "maybe"}"#,
                r#"insecure: expected true or false, got "maybe""#,
            ),
            (
                r#"{"oid": 1.10, "serial": 1}"#,
                "oid: expected a text, got 1.1",
            ),
            (
                r#"{"password": {"a": 1}}"#,
                "password: expected a text or a number, got an object",
            ),
            ("{}", "serial: required: serial number"),
            (r#"{"serial": ""}"#, "serial: required: serial number"),
            (r#"{"serial": null}"#, "serial: required: serial number"),
        ] {
            let error = read(text).expect_err("refused");
            assert_eq!(error.to_string(), told, "{text}");
        }
    }

    #[test]
    fn an_error_tells_key_line_and_column() {
        let error = read("{\"driver\": \"x\",\n  \"port\": \"abc\"}").expect_err("refused");
        let at = Position {
            line: 11,
            column: 3,
        };
        assert_eq!((error.key.as_deref(), error.at), (Some("port"), at));
        let error = settings(r#"{"a": {"port": 1}, "port": 2}"#).error("port", "too low");
        assert_eq!(
            error.at,
            Position {
                line: 10,
                column: 5 + 19
            }
        );
    }
}
