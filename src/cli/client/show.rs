//! How answers look: aligned tables, colours where the user wants them, times as people say them,
//! and texts of others made fit for a terminal.

use jiff::Timestamp;
use std::fmt::Write;
use std::io::IsTerminal;

/// A colour with a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    /// On, done.
    Good,
    /// Failed, not reachable.
    Bad,
    /// Unknown, waiting.
    Doubt,
    /// Off, not known, headings.
    Quiet,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Bad => "31",
            Self::Doubt => "33",
            Self::Quiet => "2",
        }
    }
}

/// One field of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    colour: Option<Colour>,
}

/// A field of somebody else's text.
pub(super) fn cell(text: &str) -> Cell {
    Cell {
        text: if text.is_empty() {
            "-".into()
        } else {
            printable(text)
        },
        colour: None,
    }
}

/// A field in a colour.
pub(super) fn tinted(text: &str, colour: Colour) -> Cell {
    Cell {
        colour: Some(colour),
        ..cell(text)
    }
}

/// A state, or a word for none.
pub(super) fn state(state: Option<&str>, detail: Option<&str>) -> Cell {
    match (state, detail) {
        (Some("on"), None) => tinted("on", Colour::Good),
        (Some("off"), None) => tinted("off", Colour::Quiet),
        (Some(other), Some(detail)) => tinted(&format!("{other} ({detail})"), Colour::Doubt),
        (Some(other), None) => tinted(other, Colour::Doubt),
        (None, _) => tinted("-", Colour::Quiet),
    }
}

/// Does the user want colours? On a terminal, unless `NO_COLOR` (no-color.org) or a dumb one says no.
pub(super) fn wants_colour() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    std::io::stdout().is_terminal()
        && set("NO_COLOR").is_none()
        && set("TERM").is_some_and(|term| term != "dumb")
}

/// The rows with their columns aligned, without the last newline.
pub(super) fn table(heading: &[&str], rows: &[Vec<Cell>], colour: bool) -> String {
    let heading: Vec<Cell> = heading
        .iter()
        .map(|name| tinted(name, Colour::Quiet))
        .collect();
    let rows = || {
        std::iter::once(&heading)
            .chain(rows)
            .filter(|row| !row.is_empty())
    };
    let mut widths: Vec<usize> = Vec::new();
    for row in rows() {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows() {
        if !text.is_empty() {
            text.push('\n');
        }
        for (index, (width, cell)) in widths.iter().zip(row).enumerate() {
            if index > 0 {
                text.push_str("  ");
            }
            let _ = match cell.colour.filter(|_| colour) {
                Some(colour) => write!(text, "\x1b[{}m{}\x1b[0m", colour.code(), cell.text),
                None => write!(text, "{}", cell.text),
            };
            if index + 1 < row.len() {
                let padding = width.saturating_sub(cell.text.chars().count());
                let _ = write!(text, "{:padding$}", "");
            }
        }
    }
    text
}

/// Seconds as people say them: `3s`, `5m`, `2h`, `4d`.
pub(super) fn span(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 120.0 => (s, "s"),
        s if s < 7_200.0 => (s / 60.0, "m"),
        s if s < 172_800.0 => (s / 3_600.0, "h"),
        s => (s / 86_400.0, "d"),
    };
    format!("{:.0}{unit}", value.max(0.0).floor())
}

/// How long ago a moment of the daemon's clock was; the daemon's own text when it is no time.
pub(super) fn ago(moment: &str, now: Timestamp) -> String {
    moment.parse::<Timestamp>().map_or_else(
        |_| printable(moment),
        |then| format!("{} ago", span(now.duration_since(then).as_secs_f64())),
    )
}

/// Somebody else's text without the characters that steer a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if c.is_control() || is_direction(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Characters that turn the direction of the text behind them, so that it reads as another.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_with_and_without_colours() {
        let rows = [
            vec![cell("rack1"), state(Some("on"), None), cell("x")],
            vec![cell("é"), state(Some("off"), None), cell("")],
        ];
        assert_eq!(
            table(&["PDU", "STATE", "Z"], &rows, false),
            "PDU    STATE  Z\nrack1  on     x\né      off    -"
        );
        let coloured = table(&["PDU", "STATE", "Z"], &rows, true);
        assert!(coloured.contains("\x1b[32mon\x1b[0m     x"), "{coloured:?}");
        assert_eq!(table(&[], &[vec![cell("a"), cell("b")]], false), "a  b");
    }

    #[test]
    fn times_are_said_shortly() {
        for (seconds, said) in [
            (-1.0, "0s"),
            (0.4, "0s"),
            (119.9, "119s"),
            (120.0, "2m"),
            (7_199.0, "119m"),
            (7_200.0, "2h"),
            (200_000.0, "2d"),
        ] {
            assert_eq!(span(seconds), said, "{seconds}");
        }
        let now: Timestamp = "2026-11-23T08:00:00Z".parse().unwrap();
        assert_eq!(ago("2026-11-23T07:55:00Z", now), "5m ago");
        assert_eq!(ago("2026-11-23T09:00:00+02:00", now), "60m ago");
        assert_eq!(ago("yesterday\x1b[2J", now), "yesterday\u{fffd}[2J");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(
            printable("a\x1b]0;x\x07\nb\u{202e}c"),
            "a\u{fffd}]0;x\u{fffd} b\u{fffd}c"
        );
    }
}
