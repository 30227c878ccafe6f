//! The dialogues of a profile's own tests, in the notation of the transcripts: `>` is what must be
//! sent, `<` what the PDU answers, `--` what comes of it.

use crate::request::Switch;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What a test asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Switch(Switch),
    State,
}

/// A dialogue, read.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Requests, each with its answers.
    pub(crate) lines: Vec<Line>,
    /// `ok`, `on`, `off`, `unknown` or `error WORDS`.
    pub(crate) outcome: String,
}

/// One line of a dialogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Sent(String),
    Answer(String),
}

impl Script {
    /// Reads a dialogue, or says which line of it is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = Vec::new();
        let mut outcome = None;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if outcome.is_some() {
                return Err(format!(
                    "expected nothing behind the line with --, got {line:?}"
                ));
            }
            match line.split_at_checked(2) {
                // An empty line.
                None if line == ">" => lines.push(Line::Sent(String::new())),
                Some(("> ", sent)) => lines.push(Line::Sent(sent.trim().to_owned())),
                Some(("< ", answer)) => lines.push(Line::Answer(answer.trim().to_owned())),
                Some(("--", what)) => outcome = Some(what.trim().to_owned()),
                _ => return Err(format!("expected `> `, `< ` or `-- `, got {line:?}")),
            }
        }
        let outcome = outcome.ok_or("the last line must be the outcome, as `-- ok`")?;
        let first = outcome.split(' ').next().unwrap_or_default();
        if !["ok", "on", "off", "unknown", "error"].contains(&first) {
            let expected = "ok, on, off, unknown or error WORDS";
            return Err(format!("expected {expected} behind --, got {outcome:?}"));
        }
        Ok(Self { lines, outcome })
    }
}

impl fmt::Display for Script {
    /// As [`Script::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            match line {
                Line::Sent(sent) => writeln!(f, "> {sent}")?,
                Line::Answer(answer) => writeln!(f, "< {answer}")?,
            }
        }
        writeln!(f, "-- {}", self.outcome)
    }
}

/// The PDU's part of a dialogue: the peer asks it, the test looks at how it ended.
#[derive(Clone, Debug)]
pub(crate) struct Stage(Arc<Mutex<Played>>);

#[derive(Debug)]
struct Played {
    lines: std::vec::IntoIter<Line>,
    wrong: Option<String>,
    /// The dialogue with what was really sent, where that is not held against the lines.
    rewritten: Option<Vec<Line>>,
}

impl Played {
    /// The answers up to the next line that must be sent.
    fn said(&mut self) -> Vec<String> {
        let mut answers = Vec::new();
        while let [line @ Line::Answer(answer), ..] = self.lines.as_slice() {
            answers.push(answer.clone());
            self.rewritten
                .iter_mut()
                .for_each(|lines| lines.push(line.clone()));
            self.lines.next();
        }
        answers
    }
}

impl Stage {
    /// The PDU of `script`; `plain` writes what is sent in the one form that it is compared in.
    pub(crate) fn new(script: &Script, plain: impl Fn(&str) -> String) -> Self {
        let lines = script.lines.iter().map(|line| match line {
            Line::Sent(sent) => Line::Sent(plain(sent)),
            Line::Answer(answer) => Line::Answer(answer.clone()),
        });
        let lines: Vec<Line> = lines.collect();
        Self::with(lines, None)
    }

    /// A PDU that gives the answers of `lines` whatever it is sent.
    pub(crate) fn rewriting(lines: Vec<Line>) -> Self {
        Self::with(lines, Some(Vec::new()))
    }

    fn with(lines: Vec<Line>, rewritten: Option<Vec<Line>>) -> Self {
        Self(Arc::new(Mutex::new(Played {
            lines: lines.into_iter(),
            wrong: None,
            rewritten,
        })))
    }

    /// The dialogue with what was really sent.
    pub(crate) fn rewritten(&self) -> Vec<Line> {
        let played = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        played.rewritten.clone().unwrap_or_default()
    }

    /// What the PDU says before it is asked.
    pub(crate) fn greeting(&self) -> Vec<String> {
        let mut played = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        played.said()
    }

    /// Has all of the dialogue been played?
    pub(crate) fn is_over(&self) -> bool {
        let played = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        played.lines.as_slice().is_empty()
    }

    /// The answers to what was `sent`; an error where the dialogue has something else.
    pub(crate) fn answers(&self, sent: &str) -> Result<Vec<String>, String> {
        let mut played = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = match played.lines.as_slice() {
            [] => Some("nothing more".to_owned()),
            [Line::Sent(_), ..] if played.rewritten.is_some() => None,
            [Line::Sent(line), ..] if line == sent => None,
            [Line::Sent(line), ..] => Some(format!("> {line}")),
            [Line::Answer(line), ..] => Some(format!("a `>` line before < {line}")),
        };
        if let Some(expected) = expected {
            let wrong = format!("expected {expected}, got > {sent}");
            return Err(played.wrong.get_or_insert(wrong).clone());
        }
        played.lines.next();
        let sent = Line::Sent(sent.to_owned());
        played
            .rewritten
            .iter_mut()
            .for_each(|lines| lines.push(sent.clone()));
        Ok(played.said())
    }

    /// What went wrong: something else was sent, or less than the dialogue has.
    pub(crate) fn finish(&self) -> Result<(), String> {
        let played = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (&played.wrong, played.lines.as_slice()) {
            (Some(wrong), _) => Err(wrong.clone()),
            (None, [Line::Sent(line), ..]) => Err(format!("never sent: > {line}")),
            (None, _) => Ok(()),
        }
    }
}

/// Objects as a walk recorded them: `OID|type|value` a line (snmprec).
#[derive(Clone, Debug)]
pub(crate) struct Walk(pub(crate) BTreeMap<String, Recorded>);

/// A recorded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    Integer(i64),
    Text(Vec<u8>),
}

impl Walk {
    /// Reads a walk, or says which line of it is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut objects = BTreeMap::new();
        for line in text
            .lines()
            .map(str::trim_start)
            .filter(|line| !line.is_empty())
        {
            let mut fields = line.splitn(3, '|');
            let (Some(oid), Some(tag), Some(value)) = (fields.next(), fields.next(), fields.next())
            else {
                return Err(format!("expected OID|type|value, got {line:?}"));
            };
            let value = match tag {
                "2" | "65" | "66" | "67" | "70" => {
                    let number = value.trim().parse();
                    Recorded::Integer(number.map_err(|_| format!("no number in {line:?}"))?)
                }
                "4x" => Recorded::Text(hex(value).ok_or_else(|| format!("no bytes in {line:?}"))?),
                _ => Recorded::Text(value.as_bytes().to_vec()),
            };
            objects.insert(oid.trim_start_matches('.').to_owned(), value);
        }
        Ok(Self(objects))
    }
}

/// Pairs of hexadecimal digits.
pub(crate) fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text
        .trim()
        .chars()
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    });
    pairs.collect()
}

/// Bytes as [`bytes`] reads them, as much of them as can be as text.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                '\r' => text.push_str("\\r"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                c if c.is_ascii_control() => text.push_str(&format!("\\x{:02x}", u32::from(c))),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text.push('"');
    text
}

/// Bytes as a dialogue writes them: hexadecimal pairs and quoted texts, in any mixture.
pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (mut chars, mut is_closed) = (quoted.chars(), false);
            while let Some(c) = chars.next() {
                match c {
                    '"' => {
                        is_closed = true;
                        break;
                    }
                    '\\' => match chars.next()? {
                        'r' => bytes.push(b'\r'),
                        'n' => bytes.push(b'\n'),
                        't' => bytes.push(b'\t'),
                        'x' => {
                            let digits: String = chars.by_ref().take(2).collect();
                            bytes.extend(hex(&digits)?);
                        }
                        other => bytes.extend(other.to_string().as_bytes()),
                    },
                    c => bytes.extend(c.to_string().as_bytes()),
                }
            }
            if !is_closed {
                return None;
            }
            rest = chars.as_str().trim_start();
        } else {
            let (word, behind) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            bytes.extend(hex(word)?);
            rest = behind.trim_start();
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_they_are_read() {
        for text in [
            &b""[..],
            b"a \"b\" \\x41",
            b"\r\n\t\x00\x1b[2J",
            "\u{e9}".as_bytes(),
            b"\xff\xc3(",
        ] {
            assert_eq!(
                bytes(&quoted(text)).as_deref(),
                Some(text),
                "{}",
                quoted(text)
            );
        }
    }
}
