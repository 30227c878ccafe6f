//! Where in a profile something stands.

use crate::settings::Position;
use toml::de::{DeTable, DeValue};

/// The place of `path` (`on.set.0.oid`) in the TOML `text`, or of as much of it as is there.
pub(super) fn place(text: &str, path: &str) -> Position {
    let start = Position { line: 1, column: 1 };
    let Ok(table) = DeTable::parse(text) else {
        return start;
    };
    let mut offset = None;
    let (mut table, mut list) = (Some(table.get_ref()), None);
    for word in path.split('.').filter(|word| !word.is_empty()) {
        let value = if let Some(here) = table {
            let entry = here.iter().find(|(key, _)| key.get_ref() == word);
            let Some((key, value)) = entry else { break };
            offset = Some(key.span().start);
            value
        } else {
            let at = word.parse::<usize>().ok();
            let item = at
                .zip(list)
                .and_then(|(at, list): (usize, &toml::de::DeArray<'_>)| list.get(at));
            let Some(value) = item else { break };
            offset = Some(value.span().start);
            value
        };
        (table, list) = match value.get_ref() {
            DeValue::Table(inner) => (Some(inner), None),
            DeValue::Array(inner) => (None, Some(inner)),
            _ => break,
        };
    }
    Position::of(text, offset.unwrap_or(0))
}
