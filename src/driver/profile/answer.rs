//! From an answer to the outlet's state: where the value is, and what it means.

use super::holes::{Filling, Fillings, Template, quoted};
use super::written::{Failure, Meaning, Number};
use crate::driver::DriverError;
use crate::request::State;
use crate::transport::{TransportError, TransportErrorKind};
use regex_lite::{Regex, RegexBuilder};
use std::collections::BTreeMap;

/// The bounds of a pattern: its bytes, its compiled size, how deep its groups are.
const MOST_PATTERN: usize = 512;
const MOST_SIZE: usize = 64 * 1024;
const DEEPEST: u32 = 16;

/// Compiles a pattern within its bounds.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > MOST_PATTERN {
        return Err(format!(
            "expected a pattern of at most {MOST_PATTERN} bytes"
        ));
    }
    let mut builder = RegexBuilder::new(pattern);
    let compiled = builder.size_limit(MOST_SIZE).nest_limit(DEEPEST).build();
    compiled.map_err(|error| format!("no pattern: {error}"))
}

/// Where the value is in an answer, or in what was found of it so far.
#[derive(Clone, Debug)]
pub(crate) enum Take {
    /// The group `value`, or else the first one.
    Regex(Template),
    /// Of many matches, the group `state` of the one whose group `outlet` is the outlet.
    All(Template),
    /// A JSON pointer.
    Json(Template),
    /// Names of elements joined by slashes.
    Xml(Template),
    /// A field, counted from 0, of those between the separators.
    Split(String, Template),
    /// A byte, counted from 0.
    Byte(Template),
    /// The number that digits stand for.
    Number(Number),
}

/// What an answer says of an outlet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judge {
    pub(crate) takes: Vec<Take>,
    /// The hole whose bits are looked at.
    pub(crate) test: Option<String>,
    pub(crate) map: BTreeMap<String, Meaning>,
}

/// The key of a map for every value that it does not name.
pub(crate) const OTHER: &str = "other";

impl Judge {
    /// The state of the outlet that `fillings` are of.
    pub(crate) fn state(&self, answer: &str, fillings: &Fillings) -> Result<State, DriverError> {
        let value = self.value(answer, fillings)?;
        Ok(match self.meaning(&value) {
            Some(Meaning::On) => State::On,
            Some(Meaning::Off) => State::Off,
            Some(meaning @ (Meaning::Switching | Meaning::Locked | Meaning::Fault)) => {
                State::Unknown(format!("{meaning}, {value}"))
            }
            Some(Meaning::Absent) => {
                return Err(DriverError::NoSuchOutlet {
                    expected: format!(
                        "one that the PDU has; it says that this one is absent ({value})"
                    ),
                });
            }
            None => State::Unknown(quoted(value.as_bytes(), fillings)),
        })
    }

    /// What the value means.
    pub(crate) fn meaning(&self, value: &str) -> Option<Meaning> {
        let meaning = self.map.get(value).or_else(|| self.map.get(OTHER));
        meaning.copied()
    }

    /// The value itself, before it is looked up.
    pub(crate) fn value(&self, answer: &str, fillings: &Fillings) -> Result<String, DriverError> {
        let mut value = answer.to_owned();
        for take in &self.takes {
            let found = take.find(&value, fillings).map_err(DriverError::Setup)?;
            value = found.ok_or_else(|| DriverError::Unexpected {
                expected: take.expected().to_owned(),
                got: quoted(value.as_bytes(), fillings),
            })?;
        }
        let Some(bit) = &self.test else {
            return Ok(value);
        };
        let bits = value.trim().parse::<i64>().ok();
        let (Some(bits), Some(Filling::Number(bit))) = (bits, fillings.get(bit)) else {
            return Err(DriverError::Unexpected {
                expected: "a number".to_owned(),
                got: quoted(value.as_bytes(), fillings),
            });
        };
        Ok(if bits & bit == 0 { "0" } else { "1" }.to_owned())
    }
}

impl Take {
    fn expected(&self) -> &'static str {
        match self {
            Self::Regex(_) => "an answer that the pattern finds its value in",
            Self::All(_) => "an answer with this outlet in it",
            Self::Json(_) => "JSON with this value in it",
            Self::Xml(_) => "XML with this element in it",
            Self::Split(..) => "a list that is long enough",
            Self::Byte(_) => "more bytes",
            Self::Number(Number::Hex) => "hexadecimal digits",
            Self::Number(Number::Decimal) => "a number",
            Self::Number(Number::Binary) => "binary digits",
        }
    }

    fn find(&self, text: &str, fillings: &Fillings) -> Result<Option<String>, String> {
        let place = |template: &Template| {
            let filled = template.fill(fillings)?;
            let place = filled.trim().parse::<usize>();
            place.map_err(|_| format!("expected a place counted from 0, got {filled:?}"))
        };
        Ok(match self {
            Self::Regex(pattern) => {
                let regex = compile(&pattern.fill(fillings)?)?;
                let found = regex.captures(text);
                found.and_then(|groups| {
                    let group = groups.name("value").or_else(|| groups.get(1));
                    Some(group.or_else(|| groups.get(0))?.as_str().to_owned())
                })
            }
            Self::All(pattern) => {
                let regex = compile(&pattern.fill(fillings)?)?;
                let mut rows = regex.captures_iter(text);
                let row = rows.find(|row| {
                    let id = row.name("outlet").map(|id| id.as_str());
                    id.is_some_and(|id| is_outlet(id, fillings))
                });
                row.and_then(|row| Some(row.name("state")?.as_str().to_owned()))
            }
            Self::Json(pointer) => {
                let pointer = pointer.fill(fillings)?;
                let json: Option<serde_json::Value> = serde_json::from_str(text).ok();
                json.as_ref()
                    .and_then(|json| match json.pointer(&pointer)? {
                        serde_json::Value::String(text) => Some(text.clone()),
                        value if value.is_array() || value.is_object() => None,
                        value => Some(value.to_string()),
                    })
            }
            Self::Xml(path) => {
                let path = path.fill(fillings)?;
                roxmltree::Document::parse(text).ok().and_then(|document| {
                    let mut node = document.root();
                    for name in path.split('/').filter(|name| !name.is_empty()) {
                        node = node.children().find(|child| child.has_tag_name(name))?;
                    }
                    Some(node.text().unwrap_or_default().trim().to_owned())
                })
            }
            Self::Split(separator, field) => {
                let mut fields = text.split(separator.as_str());
                fields
                    .nth(place(field)?)
                    .map(|field| field.trim().to_owned())
            }
            Self::Byte(at) => {
                let byte = text.chars().nth(place(at)?);
                byte.map(|byte| u32::from(byte).to_string())
            }
            Self::Number(number) => {
                let base = match number {
                    Number::Hex => 16,
                    Number::Decimal => 10,
                    Number::Binary => 2,
                };
                let value = i64::from_str_radix(text.trim(), base).ok();
                value.map(|value| value.to_string())
            }
        })
    }
}

/// Does `id`, as the PDU writes it, mean the outlet?
fn is_outlet(id: &str, fillings: &Fillings) -> bool {
    match fillings.get("outlet") {
        Some(Filling::Number(number)) => id.trim().parse() == Ok(*number),
        Some(Filling::Text(text) | Filling::Secret(text)) => id.trim() == text,
        None => false,
    }
}

impl Failure {
    /// The error that an answer with these `words` is.
    pub(crate) fn error(self, words: &str) -> DriverError {
        let words = words.to_owned();
        match self {
            Self::Refused => DriverError::Refused(words),
            Self::Login => DriverError::LoginRefused(words),
            Self::Busy => {
                let detail = format!("another user is logged in: {words}");
                TransportError::new(TransportErrorKind::Busy, detail).into()
            }
            Self::Absent => DriverError::NoSuchOutlet {
                expected: format!("one that the PDU has; it says {words}"),
            },
        }
    }
}
