//! Files that are no config of ours, and the probable intent of their writers.

use super::file::DaemonKeys;
use crate::settings::Keys;
use crate::settings::{FileError, Position};

/// The form that we expect of a config file.
const EXPECTED: &str = "expected a JSON object with the sections \"daemon\", \"pdus\" and maybe \
                        \"aliases\", as {\"daemon\": {\"hostname\": \"localhost\"}, \"pdus\": \
                        {\"pdu1\": {\"driver\": \"snmpv1\", ...}}}";

/// The complaint about a text that is no JSON.
pub(super) fn not_json(name: &str, text: &str, error: &serde_json::Error) -> FileError {
    let offset = offset_of(text, error.line(), error.column());
    let at = Position::of(text, offset);
    if is_ini(text) {
        let what = format!("this looks like an INI file: {EXPECTED}");
        return FileError::new(name, Some(Position { line: 1, column: 1 }), what);
    }
    let said = error.to_string();
    let said = said
        .rfind(" at line ")
        .and_then(|end| said.get(..end))
        .unwrap_or(&said);
    let here = text.get(offset..).unwrap_or_default();
    let what = if ["//", "/*", "#"].iter().any(|mark| here.starts_with(mark)) {
        "JSON has no comments; `about` takes a PDU's or a token's"
    } else if here.starts_with(['}', ']']) && text.get(..offset).is_some_and(ends_in_comma) {
        "JSON has no comma behind the last entry"
    } else if here.starts_with('\'') {
        "JSON has texts in double quotes only"
    } else if said.starts_with("invalid type") {
        return FileError::new(name, Some(at), EXPECTED);
    } else {
        said
    };
    FileError::new(name, Some(at), format!("broken JSON: {what}"))
}

fn ends_in_comma(text: &str) -> bool {
    text.trim_end().ends_with(',')
}

/// serde_json counts bytes, and points at or behind the offending one.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let lines = text.split_inclusive('\n').take(line.saturating_sub(1));
    let start: usize = lines.map(str::len).sum();
    let offset = start + column.saturating_sub(1);
    (0..=offset.min(text.len()))
        .rev()
        .find(|offset| text.is_char_boundary(*offset))
        .unwrap_or(0)
}

/// Does it begin as an INI file does: with `[section]` or `key = value`, after comments?
fn is_ini(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    first.is_some_and(|line| {
        let is_word = |word: &str| {
            let is_of_name = |c: char| c.is_alphanumeric() || " _-.:".contains(c);
            word.starts_with(char::is_alphabetic) && word.chars().all(is_of_name)
        };
        let section = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        section.is_some_and(is_word)
            || line
                .split_once('=')
                .is_some_and(|(key, _)| is_word(key.trim()))
    })
}

/// The hint for an object without our sections whose `keys` belong into them: the form that the
/// file had before it had sections, or one PDU alone.
pub(super) fn flat<'k>(mut keys: impl Iterator<Item = &'k str>) -> Option<String> {
    let found = keys.find(|key| DaemonKeys::has(key) || *key == "driver" || *key == "dbhost")?;
    Some(format!(
        "{found:?} stands outside of any section, as in the old flat form: {EXPECTED}"
    ))
}
