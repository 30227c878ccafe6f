//! Texts with holes, as `/outlet?{outlet}=ON`.
//!
//! A hole is a name in braces; any other brace is itself, so JSON stands as it is. A value is
//! written as the place needs it, and one that does not fit the place is an error: nothing that a
//! client or a config says can become a second line, header or parameter.

use crate::transport::{blotted, printable};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::BTreeMap;
use std::fmt;

/// The most holes that a text may have, and the most bytes.
const MOST_HOLES: usize = 256;
const MOST_BYTES: usize = 4096;

/// What is not written as `%XX` in a path or a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What a hole is filled with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Filling {
    Number(i64),
    Text(String),
    /// A text that nobody may read in a message.
    Secret(String),
}

impl Filling {
    /// As the config writes it.
    pub(crate) fn json(&self) -> serde_json::Value {
        match self {
            Self::Number(number) => (*number).into(),
            Self::Text(text) | Self::Secret(text) => text.as_str().into(),
        }
    }
}

impl fmt::Debug for Filling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::Secret(_) => f.write_str("***"),
        }
    }
}

impl fmt::Display for Filling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) | Self::Secret(text) => f.write_str(text),
        }
    }
}

/// What a PDU said, for a message: the secrets that its requests had are blotted out.
pub(crate) fn quoted(said: &[u8], fillings: &Fillings) -> String {
    let secrets = fillings.values().filter_map(|filling| match filling {
        Filling::Secret(secret) => Some(secret),
        Filling::Number(_) | Filling::Text(_) => None,
    });
    let secrets: Vec<&String> = secrets.collect();
    printable(&blotted(said, &secrets))
}

/// What the holes of one outlet are filled with, by name.
pub(crate) type Fillings = BTreeMap<String, Filling>;

/// Where a text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The numbers of an OID.
    Oid,
    /// A number or text that is compared or written as it is.
    Plain,
    /// An integer.
    Number,
    /// An integer that is not negative.
    Unsigned,
    /// Path and query of a request.
    Target,
    /// A line of a dialogue.
    Line,
    /// A header of a request.
    Header,
    /// A JSON document.
    Json,
    /// The topic of a message: one, never many.
    Topic,
    /// A regular expression.
    Pattern,
    /// Bytes in hexadecimal digits.
    Hex,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Hole { name: String, form: Form },
}

/// How a value is written: `{x}`, `{x:02}`, `{x:02x}`, `{x:codes}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Form {
    width: usize,
    is_hex: bool,
    /// The codes of a text's characters, as numbers of an OID.
    is_codes: bool,
}

/// A text with holes, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
    place: Place,
}

impl Template {
    /// Reads `text` for `place`.
    pub(crate) fn parse(text: &str, place: Place) -> Result<Self, String> {
        if text.len() > MOST_BYTES {
            return Err(format!(
                "expected at most {MOST_BYTES} bytes, got {}",
                text.len()
            ));
        }
        if matches!(place, Place::Line | Place::Target) && text.contains(['\r', '\n']) {
            return Err("expected one line: CR and LF may not stand in it".to_owned());
        }
        if place == Place::Header && text.chars().any(char::is_control) {
            return Err("expected a header without control characters".to_owned());
        }
        if place == Place::Topic {
            is_topic(text)?;
        }
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(start) = rest.find('{') {
            let (before, from) = rest.split_at(start);
            plain.push_str(before);
            match hole(from)? {
                Some((part, behind)) => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(part);
                    rest = behind;
                }
                None => {
                    plain.push('{');
                    rest = from.get(1..).unwrap_or_default();
                }
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        if parts.len() > 2 * MOST_HOLES {
            return Err(format!("expected at most {MOST_HOLES} holes"));
        }
        Ok(Self { parts, place })
    }

    /// The names of its holes.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Hole { name, .. } => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// What the numbers of `oid` fill the holes with; none where it does not begin with this text.
    pub(crate) fn found_in(&self, oid: &str) -> Option<Fillings> {
        let (mut found, mut rest) = (Fillings::new(), oid);
        for part in &self.parts {
            match part {
                Part::Text(text) => rest = rest.strip_prefix(text.as_str())?,
                Part::Hole { name, .. } => {
                    let end = rest.find(|c: char| !c.is_ascii_digit());
                    let (number, behind) = rest.split_at(end.unwrap_or(rest.len()));
                    let number = Filling::Number(number.parse().ok()?);
                    rest = behind;
                    if found
                        .insert(name.clone(), number.clone())
                        .is_some_and(|old| old != number)
                    {
                        return None;
                    }
                }
            }
        }
        (rest.is_empty() || rest.starts_with('.')).then_some(found)
    }

    /// The text up to the first hole that `fillings` lacks, and the name of that hole.
    pub(crate) fn filled_up_to(
        &self,
        fillings: &Fillings,
    ) -> Result<(String, Option<&str>), String> {
        let known = |part: &&Part| match part {
            Part::Text(_) => true,
            Part::Hole { name, .. } => fillings.contains_key(name),
        };
        let begin: Vec<Part> = self.parts.iter().take_while(known).cloned().collect();
        let next = self.parts.get(begin.len());
        let next = next.and_then(|part| match part {
            Part::Text(_) => None,
            Part::Hole { name, .. } => Some(name.as_str()),
        });
        let begin = Self {
            parts: begin,
            place: self.place,
        };
        Ok((begin.fill(fillings)?, next))
    }

    /// The text with its holes filled.
    pub(crate) fn fill(&self, fillings: &Fillings) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Hole { name, form } => {
                    let filling = fillings.get(name);
                    let filling = filling.ok_or_else(|| format!("nothing defines {{{name}}}"))?;
                    let written = self.place.write(filling, *form);
                    text.push_str(&written.map_err(|why| format!("{{{name}}}: {why}"))?);
                }
            }
        }
        Ok(text)
    }
}

/// The hole that `text` begins with, and what is behind it; none where the brace is only a brace.
fn hole(text: &str) -> Result<Option<(Part, &str)>, String> {
    let Some((inside, behind)) = text.strip_prefix('{').and_then(|text| text.split_once('}'))
    else {
        return Ok(None);
    };
    let (name, form) = match inside.split_once(':') {
        Some((name, form)) => (name, Some(form)),
        None => (inside, None),
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !is_name {
        return Ok(None);
    }
    let form = match form {
        None => Form::default(),
        Some("codes") => Form {
            is_codes: true,
            ..Form::default()
        },
        Some(form) => {
            let digits = form.strip_suffix('x').unwrap_or(form);
            let width = digits
                .strip_prefix('0')
                .and_then(|width| width.parse().ok());
            let width = if digits.is_empty() { Some(0) } else { width };
            let width = width.filter(|width| *width <= 16).ok_or_else(|| {
                format!("expected a form such as 02 or 02x behind {{{name}:, got {form:?}")
            })?;
            Form {
                width,
                is_hex: form.ends_with('x'),
                is_codes: false,
            }
        }
    };
    let name = name.to_owned();
    Ok(Some((Part::Hole { name, form }, behind)))
}

impl Place {
    /// A filling as this place needs it.
    fn write(self, filling: &Filling, form: Form) -> Result<String, String> {
        let text = match filling {
            Filling::Number(number) => {
                let width = form.width;
                if form.is_codes {
                    return Err(format!("expected a text, got {number}"));
                }
                if self == Self::Oid && u32::try_from(*number).is_err() {
                    return Err(format!("expected 0 to 4294967295, got {number}"));
                }
                if (form.is_hex || self == Self::Hex) && *number < 0 {
                    return Err(format!("expected 0 or more, got {number}"));
                }
                if self == Self::Hex && !form.is_hex {
                    return Err("expected a form such as {name:02x} among bytes".to_owned());
                }
                return Ok(match form.is_hex {
                    true => format!("{number:0width$x}"),
                    false => format!("{number:0width$}"),
                });
            }
            Filling::Text(text) | Filling::Secret(text) => text,
        };
        if form.is_codes && self == Self::Oid && text.is_ascii() && !text.is_empty() {
            let codes: Vec<String> = text.bytes().map(|code| code.to_string()).collect();
            return Ok(codes.join("."));
        }
        if form != Form::default() {
            return Err(format!("expected a number, got {filling:?}"));
        }
        if text.chars().any(char::is_control) {
            return Err("expected no control characters".to_owned());
        }
        if self == Self::Topic {
            is_topic(text)?;
        }
        Ok(match self {
            Self::Oid | Self::Hex => return Err(format!("expected a number, got {filling:?}")),
            Self::Plain
            | Self::Number
            | Self::Unsigned
            | Self::Line
            | Self::Header
            | Self::Topic => text.clone(),
            Self::Target => utf8_percent_encode(text, PLAIN).to_string(),
            Self::Json => {
                let quoted = serde_json::Value::from(text.as_str()).to_string();
                quoted
                    .get(1..quoted.len() - 1)
                    .unwrap_or_default()
                    .to_owned()
            }
            Self::Pattern => regex_lite::escape(text),
        })
    }
}

/// Is this one topic, and none of the broker's own?
fn is_topic(text: &str) -> Result<(), String> {
    let is_strange = |c: char| "+#".contains(c) || c.is_control();
    match text.is_empty() || text.starts_with('$') || text.contains(is_strange) {
        true => Err(format!("expected a topic without + and #, got {text:?}")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, place: Place) -> Result<String, String> {
        let fillings = Fillings::from([
            ("outlet".to_owned(), Filling::Number(12)),
            ("minus".to_owned(), Filling::Number(-1)),
            ("mac".to_owned(), Filling::Text("0A".to_owned())),
            ("user".to_owned(), Filling::Text("a b&\"{.".to_owned())),
            ("lines".to_owned(), Filling::Text("a\r\nb".to_owned())),
            ("many".to_owned(), Filling::Text("#".to_owned())),
        ]);
        Template::parse(text, place)?.fill(&fillings)
    }

    #[test]
    fn a_value_is_written_as_its_place_needs_it() {
        for (text, place, expected) in [
            ("1.2.{outlet}.0", Place::Oid, "1.2.12.0"),
            ("1.{mac:codes}.2", Place::Oid, "1.48.65.2"),
            (
                "/o?{outlet}=ON&u={user}",
                Place::Target,
                "/o?12=ON&u=a%20b%26%22%7B.",
            ),
            (
                r#"{"a":{"n":{outlet},"u":"{user}"}}"#,
                Place::Json,
                r#"{"a":{"n":12,"u":"a b&\"{."}}"#,
            ),
            (
                "{user}{2} {outlet:03}",
                Place::Pattern,
                r#"a b\&"\{\.{2} 012"#,
            ),
            ("A0 {outlet:02x}", Place::Hex, "A0 0c"),
            ("{minus} {} {A} {", Place::Line, "-1 {} {A} {"),
        ] {
            assert_eq!(filled(text, place).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_numbers_of_an_oid_are_found_for_its_holes() {
        let template = Template::parse("1.9.{unit}.2.{outlet}", Place::Oid).expect("right");
        let number = |name: &str, number| (name.to_owned(), Filling::Number(number));
        let both = Fillings::from([number("unit", 210), number("outlet", 1)]);
        for (oid, expected) in [
            ("1.9.210.2.1", Some(&both)),
            ("1.9.210.2.1.7", Some(&both)),
            ("1.9.210.2", None),
            ("1.9.210.3.1", None),
            ("1.90.210.2.1", None),
            ("1.9.x.2.1", None),
        ] {
            assert_eq!(template.found_in(oid).as_ref(), expected, "{oid}");
        }
        let begin = |fillings| template.filled_up_to(&fillings).expect("filled");
        assert_eq!(begin(Fillings::new()), ("1.9.".to_owned(), Some("unit")));
        let unit = Fillings::from([number("unit", 3)]);
        assert_eq!(begin(unit), ("1.9.3.2.".to_owned(), Some("outlet")));
        assert_eq!(begin(both.clone()), ("1.9.210.2.1".to_owned(), None));
        let short = Template::parse("1.9.4", Place::Oid).expect("right");
        assert!(short.found_in("1.9.42").is_none());
    }

    #[test]
    fn a_value_that_does_not_fit_its_place_is_an_error() {
        for (text, place) in [
            ("{nothing}", Place::Line),
            ("{lines}", Place::Line),
            ("{lines}", Place::Target),
            ("a\r\nb", Place::Line),
            ("a\r\nb", Place::Header),
            ("a\0b", Place::Header),
            ("{lines}", Place::Header),
            ("a/+/b", Place::Topic),
            ("$SYS/a", Place::Topic),
            ("", Place::Topic),
            ("a/{many}", Place::Topic),
            ("a/{lines}", Place::Topic),
            ("1.{minus}", Place::Oid),
            ("1.{user}", Place::Oid),
            ("{minus:02x}", Place::Hex),
            ("{outlet}", Place::Hex),
            ("{outlet:zz}", Place::Line),
            ("{outlet:099}", Place::Line),
            ("{user:02}", Place::Line),
            ("{mac:codes}", Place::Line),
        ] {
            assert!(filled(text, place).is_err(), "{text:?} in {place:?}");
        }
        assert!(Template::parse(&"x".repeat(MOST_BYTES + 1), Place::Line).is_err());
        assert!(Template::parse(&"{a}".repeat(600), Place::Line).is_err());
    }
}
