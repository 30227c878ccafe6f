//! For `#[serde(deserialize_with = "...")]`: old config files write numbers as strings, serials as
//! numbers and flags as either, and all of that must load.

use serde::de::{self, Deserialize, Deserializer};
use std::fmt;
use std::str::FromStr;

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
            // A float with a zero fraction is the integer that it equals.
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
