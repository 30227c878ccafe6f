//! Blots out secrets that a device repeats, before anybody reads them.
//!
//! A device may repeat our words in a coding of its own: as part of a URL, in JSON, in a web page, in
//! Base64, as hex digits, letter by letter on a terminal. So we look for a secret in all of these at
//! once, also where the device mixes them.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

/// Stands in the place of a secret.
const BLOT: &[u8] = b"***";

/// This much of a secret at the very end of a text gives it away, when the rest is cut off.
const FEW: usize = 3;

/// Codings of a secret that are shorter than this say too little, and stand anywhere by chance.
const LEAST_CODED: usize = 4;

/// A device's words with `***` in place of every one of `secrets`, in whatever coding; also of one
/// that is cut off at the end, from its third character on.
pub(crate) fn blotted<S: AsRef<[u8]>>(bytes: &[u8], secrets: &[S]) -> Vec<u8> {
    let patterns: Vec<Pattern> = secrets
        .iter()
        .map(AsRef::as_ref)
        .filter(|secret| !secret.is_empty())
        .flat_map(Pattern::all)
        .collect();
    let mut left = Vec::new();
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        match patterns
            .iter()
            .filter_map(|pattern| Some((pattern.found(rest)?, pattern.widens)))
            .max_by_key(|(length, _)| *length)
        {
            Some((length, widens)) => {
                rest = rest.get(length..).unwrap_or_default();
                // Its neighbours share some of its bits.
                if widens {
                    if left.last().is_some_and(|byte| is_base64(*byte)) {
                        left.pop();
                    }
                    rest = match rest.split_first() {
                        Some((next, after)) if is_base64(*next) => after,
                        _ => rest,
                    };
                }
                left.extend(BLOT);
            }
            None => {
                left.push(*first);
                rest = after;
            }
        }
    }
    left
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte)
}

/// A secret in one coding, character by character.
struct Pattern {
    characters: Vec<Character>,
    /// Do the characters beside it belong to it in part?
    widens: bool,
}

/// One character: its bytes as UTF-8, and its number.
struct Character {
    bytes: Vec<u8>,
    number: u32,
}

impl Pattern {
    /// The secret as it is, as hex digits, and in Base64 wherever it may stand in a longer text.
    fn all(secret: &[u8]) -> Vec<Self> {
        let mut all = vec![Self::new(secret, false)];
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut coded = vec![(hex.to_ascii_uppercase(), false), (hex, false)];
        for before in 0..3 {
            let longer = [vec![0; before], secret.to_vec()].concat();
            let (first, end) = ((before * 4).div_ceil(3), longer.len() * 4 / 3);
            for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
                let text = engine.encode(&longer);
                coded.push((text.get(first..end).unwrap_or_default().to_owned(), true));
            }
        }
        coded.retain(|(text, _)| text.len() >= LEAST_CODED);
        let coded = coded.iter();
        all.extend(coded.map(|(text, widens)| Self::new(text.as_bytes(), *widens)));
        all
    }

    fn new(text: &[u8], widens: bool) -> Self {
        let characters = match std::str::from_utf8(text) {
            Ok(text) => text
                .chars()
                .map(|c| Character {
                    bytes: c.to_string().into_bytes(),
                    number: c.into(),
                })
                .collect(),
            Err(_) => text
                .iter()
                .map(|byte| Character {
                    bytes: vec![*byte],
                    number: u32::from(*byte),
                })
                .collect(),
        };
        Self { characters, widens }
    }

    /// How many bytes of `text` it takes, if `text` begins with it (or is the beginning of it).
    fn found(&self, text: &[u8]) -> Option<usize> {
        let mut rest = text;
        for (index, character) in self.characters.iter().enumerate() {
            if index > 0 {
                rest = behind_controls(text, rest);
            }
            match character.taken(rest) {
                Some(length) => rest = rest.get(length..).unwrap_or_default(),
                None if index >= FEW && rest.is_empty() => return Some(text.len()),
                None => return None,
            }
        }
        Some(text.len() - rest.len())
    }
}

/// `rest` of `text` without the characters that terminals put between typed letters: line breaks, and
/// each letter once more after a backspace.
fn behind_controls<'a>(text: &[u8], mut rest: &'a [u8]) -> &'a [u8] {
    let last = (text.len() - rest.len()).checked_sub(1);
    let last = last.and_then(|index| text.get(index));
    loop {
        rest = match rest {
            [8, again, after @ ..] if Some(again) == last => after,
            [control, after @ ..] if control.is_ascii_control() => after,
            _ => return rest,
        };
    }
}

impl Character {
    /// How many bytes of `text` stand for it at the beginning.
    fn taken(&self, text: &[u8]) -> Option<usize> {
        if let Some((number, length)) = escaped(text)
            && number == self.number
        {
            return Some(length);
        }
        let mut length = 0;
        for byte in &self.bytes {
            match byte_taken(*byte, text.get(length..).unwrap_or_default()) {
                Some(more) => length += more,
                None => {
                    // ISO 8859-1
                    let byte = u8::try_from(self.number).ok()?;
                    return byte_taken(byte, text);
                }
            }
        }
        Some(length)
    }
}

/// How many bytes of `text` stand for `byte`: itself, or as URLs have it, also coded twice.
fn byte_taken(byte: u8, text: &[u8]) -> Option<usize> {
    let hex = |digits: &[u8]| number(digits, 16) == Some(u32::from(byte));
    match text {
        [first, ..] if *first == byte => Some(1),
        [b'+', ..] if byte == b' ' => Some(1),
        [b'%', a, b, ..] if hex(&[*a, *b]) => Some(3),
        [b'%', b'2', b'5', a, b, ..] if hex(&[*a, *b]) => Some(5),
        _ => None,
    }
}

/// The character that a JSON, C or HTML escape at the beginning of `text` means, and its length.
fn escaped(text: &[u8]) -> Option<(u32, usize)> {
    const NAMED: &[(&[u8], char)] = &[
        (b"&amp;", '&'),
        (b"&lt;", '<'),
        (b"&gt;", '>'),
        (b"&quot;", '"'),
        (b"&apos;", '\''),
    ];
    match text {
        [b'\\', b'u', a, b, c, d, ..] => Some((number(&[*a, *b, *c, *d], 16)?, 6)),
        [b'\\', b'x', a, b, ..] => Some((number(&[*a, *b], 16)?, 4)),
        [b'\\', c, ..] if c.is_ascii_punctuation() => Some((u32::from(*c), 2)),
        [b'&', b'#', rest @ ..] => {
            let (radix, rest) = match rest {
                [b'x' | b'X', rest @ ..] => (16, rest),
                rest => (10, rest),
            };
            let end = rest.iter().take(8).position(|byte| *byte == b';')?;
            let number = number(rest.get(..end)?, radix)?;
            Some((number, text.len() - rest.len() + end + 1))
        }
        [b'&', ..] => NAMED
            .iter()
            .find(|(name, _)| text.starts_with(name))
            .map(|(name, c)| (u32::from(*c), name.len())),
        _ => None,
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits
        .chars()
        .all(|c| c.is_digit(radix))
        .then(|| u32::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blot(text: &str, secrets: &[&str]) -> String {
        String::from_utf8_lossy(&blotted(text.as_bytes(), secrets)).into_owned()
    }

    #[test]
    fn secrets_are_blotted_out_whole_and_cut_off() {
        assert_eq!(blot("a secret, a secret", &["secret"]), "a ***, a ***");
        assert_eq!(blot("secrets, secret", &["secret", "secrets"]), "***, ***");
        assert_eq!(blot("login secr", &["other", "secret"]), "login ***");
        assert_eq!(blot("login se", &["", "secret"]), "login se");
        assert_eq!(blot("secretsecre", &["secret"]), "******");
        assert_eq!(blot("", &["secret"]), "");
    }

    #[test]
    fn a_secret_is_found_in_every_coding() {
        let secret = "p\"w /1&x\\\u{e9}";
        for coded in [
            "p%22w%20%2F1%26x%5C%C3%A9",
            "p%22w+%2f1%26x%5c%c3%a9",
            "p%2522w%2520%252F1%2526x%255C%25C3%25A9",
            "p\\\"w /1&x\\\\\\u00e9",
            "p\\u0022w \\/1\\u0026x\\\\\\u00E9",
            "p&quot;w /1&amp;x\\&#233;",
            "p&#34;w /1&#x26;x\\&#xE9;",
            "p\\x22w /1&x\\x5c\u{e9}",
            "p\"w \r\n/1&x\\\u{e9}",
            "p\u{8}p\"\u{8}\"w\u{8}w \u{8} /\u{8}/1\u{8}1&x\\\u{e9}",
        ] {
            assert_eq!(blot(&format!("<{coded}>"), &[secret]), "<***>", "{coded}");
        }
        let latin = [b"p\"w /1&x\\".as_slice(), &[0xe9]].concat();
        assert_eq!(blotted(&latin, &[secret]), b"***");
        assert_eq!(blot("p%22w%20%2F1%26x%5C%E9", &[secret]), "***");
        assert_eq!(blot("68756e746572", &["hunter"]), "***");
        assert_eq!(blot("0x68756E746572;", &["hunter"]), "0x***;");
    }

    #[test]
    fn a_secret_is_found_in_base64_wherever_it_stands() {
        for before in ["", "a", "ab", "admin:", "administrator:"] {
            for after in ["", "x", "xy", "\r\n"] {
                for secret in ["hunter2secret", "???>>>~~~", "geheim"] {
                    let text = format!("{before}{secret}{after}");
                    let longest = before.len() * 4 / 3 + after.len() * 4 / 3 + 6;
                    for engine in [
                        base64::prelude::BASE64_STANDARD,
                        base64::prelude::BASE64_URL_SAFE,
                    ] {
                        let shown = blot(&engine.encode(&text), &[secret]);
                        assert!(shown.contains("***"), "{text}: {shown}");
                        assert!(shown.len() <= longest, "{text}: {shown}");
                    }
                }
            }
        }
        // A text that is about as long as a coding, but is none, stays.
        assert_eq!(blot("Zm9v YmFy", &["pw"]), "Zm9v YmFy");
    }

    #[test]
    fn every_end_of_input_ends() {
        for text in [
            "%", "%2", "\\", "\\u00", "\\x", "&", "&#", "&#x", "&#x41", "&am",
        ] {
            assert_eq!(blot(text, &["A&"]), text);
        }
    }
}
