//! Places in the config file, and the keys of a JSON object with theirs.

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

/// Where `key` of the outermost object of `text` stands; the last one, if it is there twice.
pub(super) fn find_key(text: &str, key: &str) -> Option<usize> {
    keys_of(text)
        .into_iter()
        .rfind(|(name, _)| name == key)
        .map(|(_, offset)| offset)
}
