//! One PDU's own settings: the JSON object from the config, read into a driver's typed struct.
//!
//! The helpers here are for `#[serde(deserialize_with = "...")]`: old config files write numbers
//! as strings, serials as numbers and flags as either, and all of that must load.
//!
//! Invariant: knows `request` alone; not the config file, not any driver.

use crate::request::PduName;
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer};
use std::fmt;
use std::str::FromStr;

/// A place in the config file, counted from 1 as editors do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

impl Position {
    /// The place `offset` bytes into `text`.
    pub fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let start_of_line = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before
                .get(start_of_line..)
                .map_or(0, |line| line.chars().count())
                + 1,
        }
    }

    /// The place `inner` of a text that itself begins at `self`.
    pub fn plus(self, inner: Self) -> Self {
        if inner.line <= 1 {
            Self {
                line: self.line,
                column: self.column + inner.column.saturating_sub(1),
            }
        } else {
            Self {
                line: self.line + inner.line - 1,
                column: inner.column,
            }
        }
    }
}

/// A setting that cannot work: where, which key, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// Where in the file.
    pub at: Position,
    /// The key, when one is to blame.
    pub key: Option<String>,
    /// What was expected and what was found; lower case, no full stop.
    pub message: String,
}

impl SettingsError {
    /// Is it about the key that `earlier` is about, or does it speak of it?
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

    /// The JSON object as written, secrets that were references in their place.
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

    /// The same settings as if `key` were not there, everything else in its place; `None` when it
    /// is not.
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

    /// Reads all of it that can be read: what `read` says of a key is told in `wrong`, and it
    /// reads again as if that key were not there. What only follows from such a key's absence is
    /// not told.
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

    /// Reads the settings into a driver's own struct. Unknown keys are not errors here; the
    /// config warns about them.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, SettingsError> {
        serde_json::from_str(&self.text).map_err(|error| {
            let inner = Position {
                line: error.line().max(1),
                column: error.column().max(1),
            };
            let (key, at) = match self.key_before(inner) {
                Some((key, _)) if !error.to_string().starts_with("missing field") => {
                    (Some(key), inner)
                }
                // A missing key has no place of its own: point at the PDU.
                _ => (None, Position { line: 1, column: 1 }),
            };
            SettingsError {
                at: self.start.plus(at),
                key,
                message: explain(&error),
            }
        })
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

    /// Where the PDU answers: the `ip` key, else the `hostname` key, else the PDU's name; each may
    /// carry `:port`, which wins over `default_port`.
    pub fn address(&self, default_port: u16) -> Result<Address, SettingsError> {
        #[derive(serde::Deserialize)]
        struct Keys {
            #[serde(default)]
            ip: Option<String>,
            #[serde(default)]
            hostname: Option<String>,
        }
        let keys: Keys = self.read()?;
        let (key, text) = match (keys.ip, keys.hostname) {
            (Some(ip), _) if !ip.is_empty() => ("ip", ip),
            (_, Some(hostname)) if !hostname.is_empty() => ("hostname", hostname),
            _ => ("driver", self.pdu.as_str().to_owned()),
        };
        Address::parse(&text, default_port).map_err(|message| self.error(key, message))
    }

    /// The last key that begins before `at`.
    fn key_before(&self, at: Position) -> Option<(String, usize)> {
        keys_of(&self.text)
            .into_iter()
            .rfind(|(_, offset)| Position::of(&self.text, *offset) < at)
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

/// The keys of the outermost object of `text`, each with its offset, in the order written.
pub fn keys_of(text: &str) -> Vec<(String, usize)> {
    let mut keys = Vec::new();
    let (mut depth, mut string_start, mut escaped) = (0usize, None::<usize>, false);
    let mut last_string: Option<(usize, usize)> = None;
    for (offset, byte) in text.bytes().enumerate() {
        if let Some(start) = string_start {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    last_string = Some((start, offset + 1));
                    string_start = None;
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => string_start = Some(offset),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b':' if depth == 1 => {
                if let Some((start, end)) = last_string.take()
                    && let Some(Ok(key)) = text.get(start..end).map(serde_json::from_str)
                {
                    keys.push((key, start));
                }
            }
            _ => {}
        }
    }
    keys
}

fn find_key(text: &str, key: &str) -> Option<usize> {
    keys_of(text)
        .into_iter()
        .rfind(|(name, _)| name == key)
        .map(|(_, offset)| offset)
}

/// Where a PDU answers: a host name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Name or IP literal, IPv6 without brackets.
    pub host: String,
    /// TCP or UDP port.
    pub port: u16,
}

impl Address {
    /// Reads `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 literal.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        let wrong = || format!("expected a host name or address, maybe with :port, got {text:?}");
        let port = |digits: &str| {
            digits
                .parse::<u16>()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(wrong)
        };
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, tail) = rest.split_once(']').ok_or_else(wrong)?;
            match tail.strip_prefix(':') {
                Some(digits) => (host, port(digits)?),
                None if tail.is_empty() => (host, default_port),
                None => return Err(wrong()),
            }
        } else {
            match text.split_once(':') {
                Some((host, rest)) if !rest.contains(':') => (host, port(rest)?),
                _ => (text, default_port),
            }
        };
        if host.is_empty()
            || host
                .chars()
                .any(|c| c.is_whitespace() || c.is_control() || "/?#@".contains(c))
        {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The keys whose values are read as [`Secret`]s. In their place a config may have
/// `{"file": "name"}` or `{"env": "NAME"}`, which the config resolves before a driver sees it.
pub const SECRET_KEYS: &[&str] = &[
    "password",
    "community",
    "authpassphrase",
    "privpassphrase",
    "api_key",
];

/// A password, community or token: read from the config, never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret, for defaults.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, on its way to the wire.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer).map(Self)
    }
}

/// A JSON scalar as people write it in old config files.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Scalar {
    Flag(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Int(int) => int.fmt(f),
            // A float with a zero fraction is printed as the integer it is.
            Self::Float(float) => float.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

fn scalar<'de, D: Deserializer<'de>>(deserializer: D, expected: &str) -> Result<Scalar, D::Error> {
    Scalar::deserialize(deserializer).map_err(|_| de::Error::custom(format!("expected {expected}")))
}

/// A number: JSON number, numeric string, or float with zero fraction, within the range of `T`.
pub fn number<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
{
    let value = scalar(deserializer, "a number")?;
    let text = value.to_string();
    match value {
        Scalar::Flag(_) => None,
        _ => text.trim().parse().ok(),
    }
    .ok_or_else(|| {
        de::Error::custom(format!(
            "expected a number ({}), got {text:?}",
            type_name::<T>()
        ))
    })
}

fn type_name<T>() -> &'static str {
    match std::any::type_name::<T>() {
        "u8" => "0 to 255",
        "u16" => "0 to 65535",
        "u32" | "u64" | "usize" => "0 or more",
        "f64" => "decimal",
        _ => "integer",
    }
}

/// Like [`number`], for a key that may be absent or null.
pub fn maybe_number<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
{
    struct Number<T>(T);
    impl<'de, T: FromStr> Deserialize<'de> for Number<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            number(deserializer).map(Self)
        }
    }
    Ok(Option::<Number<T>>::deserialize(deserializer)?.map(|number| number.0))
}

/// A text: JSON string, or a number as its digits (serials, passwords).
pub fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    scalar(deserializer, "a string").map(|value| value.to_string())
}

/// Like [`text`], for a key that may be absent or null.
pub fn maybe_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Scalar>::deserialize(deserializer)
        .map_err(|_| de::Error::custom("expected a string"))?
        .map(|value| value.to_string()))
}

/// A flag: JSON bool, 0 or 1, or a string of these.
pub fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let text = scalar(deserializer, "true or false")?.to_string();
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" | "" => Ok(false),
        _ => Err(de::Error::custom(format!(
            "expected true or false, got {text:?}"
        ))),
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

    #[derive(Debug, serde::Deserialize)]
    struct Keys {
        #[serde(default, deserialize_with = "maybe_number")]
        port: Option<u16>,
        #[serde(default)]
        password: Secret,
        #[serde(default, deserialize_with = "flag")]
        insecure: bool,
    }

    #[test]
    fn numbers_may_be_strings_and_texts_numbers() {
        let keys: Keys = settings(r#"{"port": "23", "password": 1234, "insecure": "True"}"#)
            .read()
            .expect("reads");
        assert_eq!(
            (keys.port, keys.password.reveal(), keys.insecure),
            (Some(23), "1234", true)
        );
        let keys: Keys = settings(r#"{"port": 23.0}"#).read().expect("reads");
        assert_eq!(keys.port, Some(23));
        assert!(!format!("{keys:?}").contains("1234"));
    }

    #[test]
    fn an_error_tells_key_line_and_column() {
        let error = settings("{\"driver\": \"x\",\n  \"port\": \"abc\"}")
            .read::<Keys>()
            .expect_err("refused");
        assert_eq!((error.key.as_deref(), error.at.line), (Some("port"), 11));
        assert!(error.message.contains("abc"), "{error}");
        let error = settings(r#"{"a": {"port": 1}, "port": 2}"#).error("port", "too low");
        assert_eq!(
            error.at,
            Position {
                line: 10,
                column: 5 + 19
            }
        );
    }

    #[test]
    fn addresses_come_from_ip_hostname_or_name() {
        let address = |text: &str| {
            settings(text)
                .address(23)
                .map(|address| address.to_string())
        };
        assert_eq!(address("{}"), Ok("pdu1:23".into()));
        assert_eq!(
            address(r#"{"hostname": "h", "ip": "10.0.0.1:99"}"#),
            Ok("10.0.0.1:99".into())
        );
        assert_eq!(address(r#"{"hostname": "::1"}"#), Ok("[::1]:23".into()));
        assert_eq!(address(r#"{"ip": "[::1]:24"}"#), Ok("[::1]:24".into()));
        assert!(address(r#"{"ip": "a b"}"#).is_err());
        assert!(address(r#"{"ip": "h:99999"}"#).is_err());
    }
}
