//! What the values of keys can be, as old config files write them.

use super::{Secret, Value};
use std::borrow::Cow;
use std::num::{NonZeroU16, NonZeroU32};
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

/// A scalar as a text: flags, numbers (one with a zero fraction as the integer it is) and texts.
fn scalar(json: &serde_json::Value) -> Option<String> {
    use serde_json::Value as Json;
    match json {
        Json::Bool(flag) => Some(flag.to_string()),
        Json::Number(number) if number.is_f64() => number.as_f64().map(|float| float.to_string()),
        Json::Number(number) => Some(number.to_string()),
        Json::String(text) => Some(text.clone()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// What was found where something else was expected, as far as it fits a sentence.
pub(super) fn shown(json: &serde_json::Value) -> String {
    match json {
        serde_json::Value::Array(_) => "a list".to_owned(),
        serde_json::Value::Object(_) => "an object".to_owned(),
        scalar => scalar.to_string(),
    }
}

macro_rules! numbers {
    ($($type:ty: $range:literal,)+) => {
        $(
            /// A JSON number, or a text of one.
            impl Value for $type {
                const KIND: &'static str = "number";

                fn range() -> Cow<'static, str> {
                    $range.into()
                }

                fn read(json: &serde_json::Value) -> Result<Self, String> {
                    let text = scalar(json).ok_or("expected a number")?;
                    let number = text.trim().parse().ok().filter(|_| !json.is_boolean());
                    number.ok_or_else(|| format!("expected a number ({}), got {text:?}", $range))
                }
            }
        )+
    };
}

numbers! {
    u8: "0 to 255",
    u16: "0 to 65535",
    u32: "0 or more",
    u64: "0 or more",
    usize: "0 or more",
    i32: "integer",
    i64: "integer",
    f64: "decimal",
    NonZeroU16: "1 to 65535",
    NonZeroU32: "1 or more",
}

/// A number of at least `LEAST` and at most `MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within<const LEAST: usize, const MOST: usize = { usize::MAX }>(pub usize);

impl<const LEAST: usize, const MOST: usize> Value for Within<LEAST, MOST> {
    const KIND: &'static str = "number";

    fn range() -> Cow<'static, str> {
        match MOST {
            usize::MAX => format!("{LEAST} or more").into(),
            _ => format!("{LEAST} to {MOST}").into(),
        }
    }

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        let number = usize::read(json)?;
        match (LEAST..=MOST).contains(&number) {
            true => Ok(Self(number)),
            false => Err(format!("expected {}, got {number}", Self::range())),
        }
    }
}

/// Seconds from `LEAST` thousandths to a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds<const LEAST: u64>(pub Duration);

impl<const LEAST: u64> Value for Seconds<LEAST> {
    const KIND: &'static str = "number";

    fn range() -> Cow<'static, str> {
        let least = Duration::from_millis(LEAST).as_secs_f64();
        format!("{least} to 86400 seconds").into()
    }

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        let (least, day) = (Duration::from_millis(LEAST), Duration::from_secs(86_400));
        let wait = Duration::try_from_secs_f64(f64::read(json)?).ok();
        let wait = wait.filter(|wait| (least..=day).contains(wait)).map(Self);
        wait.ok_or_else(|| format!("expected {}", Self::range()))
    }
}

/// True or false: a JSON flag, 0 or 1, or a text of these.
impl Value for bool {
    const KIND: &'static str = "flag";

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        let text = scalar(json).ok_or("expected true or false")?;
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" | "" => Ok(false),
            _ => Err(format!("expected true or false, got {text:?}")),
        }
    }
}

/// A JSON text and nothing else: what 1.10 means as a number is not what it means as a text.
impl Value for String {
    const KIND: &'static str = "text";

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        let text = json.as_str().map(str::to_owned);
        text.ok_or_else(|| format!("expected a text, got {}", shown(json)))
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "text";

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        String::read(json).map(Self::from)
    }
}

/// A text, or a number as its digits: serial numbers, names of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextOrNumber(pub String);

impl Deref for TextOrNumber {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Value for TextOrNumber {
    const KIND: &'static str = "text or number";

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        let text = scalar(json).map(Self);
        text.ok_or_else(|| format!("expected a text or a number, got {}", shown(json)))
    }
}

impl Value for Secret {
    const KIND: &'static str = TextOrNumber::KIND;
    const IS_SECRET: bool = true;

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        TextOrNumber::read(json).map(|text| Self::new(text.0))
    }
}

/// A value that the config need not have.
impl<T: Value> Value for Option<T> {
    const KIND: &'static str = T::KIND;
    const IS_SECRET: bool = T::IS_SECRET;

    fn range() -> Cow<'static, str> {
        T::range()
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        T::read(json).map(Some)
    }
}

impl<T: Value> Value for Vec<T> {
    const KIND: &'static str = "list";

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        let items = json.as_array();
        let items = items.ok_or_else(|| format!("expected a list, got {}", shown(json)))?;
        items.iter().map(T::read).collect()
    }
}

/// One text, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextOrList {
    /// One text.
    Text(String),
    /// Several.
    List(Vec<String>),
}

impl Value for TextOrList {
    const KIND: &'static str = "text or list";

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        let read = match json {
            serde_json::Value::String(text) => Ok(Self::Text(text.clone())),
            json => Vec::read(json).map(Self::List),
        };
        read.map_err(|_| "expected a text, or a list of texts".to_owned())
    }
}

/// A flag as Python counts it: any value but false, null, zero and what is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth(pub bool);

impl Value for Truth {
    const KIND: &'static str = "flag";

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        use serde_json::Value as Json;
        Ok(Self(match json {
            Json::Null => false,
            Json::Bool(flag) => *flag,
            Json::Number(number) => number.as_f64() != Some(0.0),
            Json::String(text) => !text.is_empty(),
            Json::Array(list) => !list.is_empty(),
            Json::Object(map) => !map.is_empty(),
        }))
    }
}

/// Whatever old config files have under a key that nobody needs any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ignored;

impl Value for Ignored {
    const KIND: &'static str = "anything";

    fn absent() -> Option<Self> {
        Some(Self)
    }

    fn read(_: &serde_json::Value) -> Result<Self, String> {
        Ok(Self)
    }
}
