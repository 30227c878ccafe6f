//! Ranges of outlets and PDUs as people write them: `rack[1-4]-pdu:1-8,12`, `@board7`.
//!
//! | written | means |
//! | --- | --- |
//! | `1-8,12` | outlets 1 to 8 and 12 |
//! | `01-08` | 01, 02 … 08, as wide as the first number |
//! | `left,right` | outlets with names; a hyphen makes a range only between two numbers |
//! | `A[1-4]` | A1, A2, A3, A4, in outlets and in names of PDUs and aliases |
//! | `[1]-4` | the one outlet called `1-4` |
//! | `PDU:OUTLETS` | each of the outlets of each of the PDUs; the last colon divides |
//! | `@ALIAS` | an alias of the daemon's configuration |
//!
//! Pure: knows no PDU and asks nobody. The targets keep their order, one that stands there twice
//! counts once, and no text expands to more than [`MAX_TARGETS`].

use crate::request::{Outlet, Target};
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;

/// The most outlets, names or targets that one expansion gives.
pub const MAX_TARGETS: usize = 1024;

/// The longest text: the longest sensible list of [`MAX_TARGETS`] is shorter.
const MAX_TEXT: usize = 64 * 1024;

/// The most digits of a number with leading zeros.
const MAX_DIGITS: usize = 32;

/// The longest text around or between brackets, and the longest choice within them.
const MAX_NAME: usize = 1024;

/// The most names in a text, the same name twice counting twice.
const MAX_NAMED: usize = 8 * MAX_TARGETS;

/// A range that makes no sense: a sentence with the part and with what we expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeError(String);

impl RangeError {
    fn new(part: &str, expected: impl fmt::Display) -> Self {
        let mut shown: String = part.chars().take(80).collect();
        if shown.len() < part.len() {
            shown.push('…');
        }
        Self(format!("{shown:?}: expected {expected}"))
    }

    fn too_many(part: &str) -> Self {
        Self::new(part, format_args!("at most {MAX_TARGETS} in all"))
    }
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RangeError {}

/// The targets that the texts name: `PDU:OUTLETS` or `@ALIAS`, ranges allowed in each part.
///
/// # Errors
/// On the first text that is neither, on a range that makes no sense, on none and on too many.
pub fn targets<S: AsRef<str>>(
    texts: impl IntoIterator<Item = S>,
) -> Result<Vec<Target>, RangeError> {
    targets_among(texts, |_| false)
}

/// [`targets`] for a caller that knows the names: a PDU (`name`) or alias (`@name`) that `is_known`
/// stands for itself, brackets and all.
///
/// # Errors
/// As [`targets`].
pub fn targets_among<S: AsRef<str>>(
    texts: impl IntoIterator<Item = S>,
    is_known: impl Fn(&str) -> bool,
) -> Result<Vec<Target>, RangeError> {
    let mut found = Found::default();
    for text in texts {
        let text = text.as_ref().trim();
        if let Some(alias) = text.strip_prefix('@') {
            let aliases = if is_known(text) {
                vec![alias.to_owned()]
            } else {
                one_name(alias, text, "an alias behind the @")?
            };
            for alias in aliases {
                found.add(text, Key::Alias(alias.clone()), || Target::Alias(alias))?;
            }
            continue;
        }
        let (pdu, ids) = text
            .rsplit_once(':')
            .ok_or_else(|| RangeError::new(text, "PDU:OUTLETS or @ALIAS"))?;
        if ids.trim().is_empty() {
            return Err(RangeError::new(text, "outlets behind the colon"));
        }
        let ids = outlets(ids)?;
        let pdus = if is_known(pdu) {
            vec![pdu.to_owned()]
        } else {
            one_name(pdu, text, "a PDU before the colon")?
        };
        for pdu in pdus {
            for id in &ids {
                let outlet = Outlet::new(id.as_str());
                found.add(text, Key::Outlet(pdu.clone(), outlet.clone()), || {
                    Target::Outlet {
                        pdu: pdu.clone(),
                        outlet,
                    }
                })?;
            }
        }
    }
    if found.list.is_empty() {
        let expected = "expected at least one PDU:OUTLETS or @ALIAS";
        return Err(RangeError(expected.into()));
    }
    Ok(found.list)
}

/// The outlets of `1-8,12`, `01-08`, `A[1-4]` or a list of names.
///
/// # Errors
/// On an empty part, a range that makes no sense, and too many.
pub fn outlets(text: &str) -> Result<Vec<String>, RangeError> {
    let mut found = Found::default();
    for part in parts(text)? {
        let ids = if part.contains(['[', ']']) {
            brackets(part)?
        } else {
            numbers(part)?
        };
        for id in ids {
            found.add(text, Outlet::new(id.as_str()), || id.clone())?;
        }
    }
    Ok(found.list)
}

/// The names of `rack[1-4]-pdu`, `pdu[01-12,20]` or a list of such, divided by commas.
///
/// # Errors
/// On an empty part, a range that makes no sense, and too many.
pub fn names(text: &str) -> Result<Vec<String>, RangeError> {
    let mut found = Found::default();
    for part in parts(text)? {
        for name in brackets(part)? {
            found.add(text, name.clone(), || name)?;
        }
    }
    Ok(found.list)
}

/// The key for comparisons of targets: outlets as everywhere, `4` and `04` being one.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Outlet(String, Outlet),
    Alias(String),
}

/// The names in the order of the text, each once.
struct Found<K, T> {
    known: HashSet<K>,
    list: Vec<T>,
    named: usize,
}

impl<K, T> Default for Found<K, T> {
    fn default() -> Self {
        Self {
            known: HashSet::new(),
            list: Vec::new(),
            named: 0,
        }
    }
}

impl<K: Eq + Hash, T> Found<K, T> {
    fn add(&mut self, text: &str, key: K, item: impl FnOnce() -> T) -> Result<(), RangeError> {
        self.named += 1;
        if self.named > MAX_NAMED {
            return Err(RangeError::too_many(text));
        }
        if self.known.insert(key) {
            if self.list.len() == MAX_TARGETS {
                return Err(RangeError::too_many(text));
            }
            self.list.push(item());
        }
        Ok(())
    }
}

/// The names that a bracketed name stands for; a comma outside brackets is somebody's attempt at
/// two targets in one.
fn one_name(name: &str, text: &str, expected: &str) -> Result<Vec<String>, RangeError> {
    let name = name.trim();
    if name.is_empty() {
        return Err(RangeError::new(text, expected));
    }
    match parts(name)?.as_slice() {
        [_] => brackets(name),
        _ => Err(RangeError::new(
            text,
            format_args!("{expected}, as rack[1,2] for several, or separate targets"),
        )),
    }
}

/// The parts between the commas that stand outside brackets.
fn parts(text: &str) -> Result<Vec<&str>, RangeError> {
    if text.len() > MAX_TEXT {
        return Err(RangeError::new(
            text,
            format_args!("at most {MAX_TEXT} bytes"),
        ));
    }
    let mut depth = 0_usize;
    let parts: Vec<&str> = text
        .split(|c| {
            match c {
                '[' => depth += 1,
                ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        })
        .map(str::trim)
        .collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(RangeError::new(
            text,
            "something before and behind each comma",
        ));
    }
    Ok(parts)
}

/// `1-8` as its numbers; any text but two numbers around a hyphen as it stands.
fn numbers(part: &str) -> Result<Vec<String>, RangeError> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let Some((from, to)) = part
        .split_once('-')
        .filter(|(from, to)| is_number(from) && is_number(to))
    else {
        return Ok(vec![part.to_owned()]);
    };
    let number = |text: &str| {
        text.parse::<u32>()
            .map_err(|_| RangeError::new(part, "smaller numbers"))
    };
    let (first, last) = (number(from)?, number(to)?);
    if first > last {
        return Err(RangeError::new(part, "the smaller number first"));
    }
    let width = if from.starts_with('0') { from.len() } else { 1 };
    if to.len() > 1 && to.starts_with('0') && to.len() != width {
        return Err(RangeError::new(
            part,
            "both ends with as many digits, as in 01-08",
        ));
    }
    if usize::try_from(last - first).map_or(true, |more| more >= MAX_TARGETS) || width > MAX_DIGITS
    {
        return Err(RangeError::too_many(part));
    }
    Ok((first..=last)
        .map(|number| format!("{number:0width$}"))
        .collect())
}

/// Every name that a text with `[…]` stands for, the last bracket counting fastest.
fn brackets(part: &str) -> Result<Vec<String>, RangeError> {
    let mut names = vec![String::new()];
    let mut rest = part;
    let mut literal = 0_usize;
    while let Some((before, behind)) = rest.split_once('[') {
        let (inside, after) = behind
            .split_once(']')
            .ok_or_else(|| RangeError::new(part, "a ] for every ["))?;
        if before.contains(']') {
            return Err(RangeError::new(part, "a [ before every ]"));
        }
        if inside.contains('[') {
            return Err(RangeError::new(part, "no [ within [ ]"));
        }
        let mut choices = Vec::new();
        for choice in parts(inside)
            .map_err(|_| RangeError::new(part, "numbers or ranges within [ ], as in [1-4,7]"))?
        {
            choices.extend(numbers(choice)?);
            literal = literal.max(choice.len());
            if choices.len() > MAX_TARGETS {
                return Err(RangeError::too_many(part));
            }
        }
        if names.len() * choices.len() > MAX_TARGETS {
            return Err(RangeError::too_many(part));
        }
        literal += before.len();
        if literal > MAX_NAME {
            return Err(RangeError::new(part, "shorter names"));
        }
        names = names
            .iter()
            .flat_map(|name| {
                choices
                    .iter()
                    .map(move |choice| format!("{name}{before}{choice}"))
            })
            .collect();
        rest = after;
    }
    if rest.contains(']') {
        return Err(RangeError::new(part, "a [ before every ]"));
    }
    if names.len() > 1 && rest.len() > MAX_NAME {
        return Err(RangeError::new(part, "shorter names"));
    }
    for name in &mut names {
        name.push_str(rest);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(texts: &[&str]) -> Result<String, String> {
        targets(texts)
            .map(|targets| {
                targets
                    .iter()
                    .map(|target| match target {
                        Target::Outlet { pdu, outlet } => format!("{pdu}:{outlet}"),
                        Target::Alias(alias) => format!("@{alias}"),
                    })
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn outlets_expand() {
        for (text, expected) in [
            ("3", "3"),
            ("1-4", "1 2 3 4"),
            ("1-3,7,9-10", "1 2 3 7 9 10"),
            ("01-03", "01 02 03"),
            ("08-11", "08 09 10 11"),
            ("098-101", "098 099 100 101"),
            ("01-8", "01 02 03 04 05 06 07 08"),
            ("0-2", "0 1 2"),
            ("5-5", "5"),
            ("3,1,2", "3 1 2"),
            ("1,01,1-2", "1 2"),
            ("left,right", "left right"),
            ("usb-a,1.2.3", "usb-a 1.2.3"),
            ("A[1-3],B1", "A1 A2 A3 B1"),
            ("[1]-4", "1-4"),
            ("1.[1-2].[7,9]", "1.1.7 1.1.9 1.2.7 1.2.9"),
            (" 1 , 2 ", "1 2"),
        ] {
            assert_eq!(outlets(text).unwrap().join(" "), expected, "{text}");
        }
    }

    #[test]
    fn names_expand() {
        for (text, expected) in [
            ("pdu", "pdu"),
            ("rack[1-3]-pdu", "rack1-pdu rack2-pdu rack3-pdu"),
            ("pdu[01-03,20]", "pdu01 pdu02 pdu03 pdu20"),
            ("r[1-2]p[a,b]", "r1pa r1pb r2pa r2pb"),
            ("pdu1-4", "pdu1-4"),
            ("1-4", "1-4"),
            ("a,b[1-2],a", "a b1 b2"),
        ] {
            assert_eq!(names(text).unwrap().join(" "), expected, "{text}");
        }
    }

    #[test]
    fn targets_expand_in_order_and_once() {
        assert_eq!(
            shown(&["rack[1-2]:1-2,5", "@board7", "rack1:02", "x:y", "@board7"]).unwrap(),
            "rack1:1 rack1:2 rack1:5 rack2:1 rack2:2 rack2:5 @board7 x:y"
        );
        assert_eq!(shown(&["@b[1-3]"]).unwrap(), "@b1 @b2 @b3");
        assert_eq!(shown(&["host:8080:3"]).unwrap(), "host:8080:3");
        // An alias and a PDU of one name are two things, and so are the aliases 7 and 07.
        assert_eq!(shown(&["@a", "a:a"]).unwrap(), "@a a:a");
        assert_eq!(shown(&["@7", "@07"]).unwrap(), "@7 @07");
    }

    #[test]
    fn a_known_name_is_meant_as_written() {
        let known = |name: &str| name == "odd[1-2]" || name == "@odd]";
        let found = targets_among(["odd[1-2]:1", "@odd]", "even[1-2]:1"], known).unwrap();
        assert_eq!(found.len(), 4);
        assert_eq!(found[0].to_string(), "odd[1-2] 1");
        assert_eq!(found[1].to_string(), "alias odd]");
    }

    #[test]
    fn errors_name_the_part_and_what_was_expected() {
        for (text, expected) in [
            ("", r#""": expected PDU:OUTLETS or @ALIAS"#),
            ("rack1", r#""rack1": expected PDU:OUTLETS or @ALIAS"#),
            ("rack1:", r#""rack1:": expected outlets behind the colon"#),
            (":1", r#"":1": expected a PDU before the colon"#),
            ("@", r#""@": expected an alias behind the @"#),
            ("p:8-1", r#""8-1": expected the smaller number first"#),
            (
                "p:1-08",
                r#""1-08": expected both ends with as many digits, as in 01-08"#,
            ),
            (
                "p:1,,2",
                r#""1,,2": expected something before and behind each comma"#,
            ),
            (
                "p:1,",
                r#""1,": expected something before and behind each comma"#,
            ),
            ("r[1-4:1", r#""r[1-4": expected a ] for every ["#),
            ("r1]:1", r#""r1]": expected a [ before every ]"#),
            ("r[1]]:1", r#""r[1]]": expected a [ before every ]"#),
            ("r[[1]]:1", r#""r[[1]]": expected no [ within [ ]"#),
            (
                "r[]:1",
                r#""r[]": expected numbers or ranges within [ ], as in [1-4,7]"#,
            ),
            ("r[4-1]:1", r#""4-1": expected the smaller number first"#),
            ("p:1-1025", r#""1-1025": expected at most 1024 in all"#),
            (
                "p:1-4294967296",
                r#""1-4294967296": expected smaller numbers"#,
            ),
            (
                "r[1-33]:1-32",
                r#""r[1-33]:1-32": expected at most 1024 in all"#,
            ),
            (
                "r[1-99]x[1-99]:1",
                r#""r[1-99]x[1-99]": expected at most 1024 in all"#,
            ),
            (
                "a:1,b:2",
                r#""a:1,b:2": expected a PDU before the colon, as rack[1,2] for several, or separate targets"#,
            ),
        ] {
            assert_eq!(shown(&[text]), Err(expected.to_owned()), "{text}");
        }
        assert!(shown(&[]).is_err());
        assert_eq!(targets(["p:1-1024"]).unwrap().len(), 1024);
        assert!(targets(["p:1-1024", "p:5"]).is_ok(), "twice is once");
        assert!(targets(["p:1-1024", "q:1"]).is_err());
    }

    /// A small generator, so that a failure comes again.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, below: u32) -> u32 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(self.0 >> 33).unwrap() % below
        }
    }

    #[test]
    fn any_list_of_ranges_is_what_counting_gives() {
        let mut dice = Dice(1);
        for _ in 0..500 {
            let (mut text, mut counted) = (Vec::new(), Vec::new());
            for _ in 0..=dice.roll(4) {
                let first = dice.roll(200);
                let last = first + dice.roll(40);
                let width = if dice.roll(2) == 0 { 1 } else { 4 };
                text.push(format!("{first:0width$}-{last:0width$}"));
                counted.extend((first..=last).map(|n| format!("{n:0width$}")));
            }
            let mut known = HashSet::new();
            counted.retain(|id| known.insert(Outlet::new(id.as_str())));
            assert_eq!(outlets(&text.join(",")).unwrap(), counted, "{text:?}");
            let names_of_them = names(&format!("p[{}]q", text.join(","))).unwrap();
            assert!(
                names_of_them
                    .iter()
                    .all(|n| n.starts_with('p') && n.ends_with('q'))
            );
        }
    }

    #[test]
    fn any_text_ends_bounded_and_without_a_panic() {
        const LETTERS: &[char] = &['[', ']', '-', ',', ':', '@', '0', '1', '9', 'a', ' ', 'é'];
        let mut dice = Dice(7);
        for _ in 0..20_000 {
            let text: String = (0..dice.roll(14))
                .map(|_| LETTERS[dice.roll(12) as usize])
                .collect();
            if let Ok(found) = targets([&text]) {
                assert!((1..=MAX_TARGETS).contains(&found.len()), "{text:?}");
                assert_eq!(Ok(&found), targets([&text]).as_ref(), "{text:?}");
            }
            let _ = (outlets(&text), names(&text));
        }
        let long = "9,".repeat(MAX_TEXT);
        assert!(outlets(&long).is_err());
        assert!(outlets(&format!("{}1-2", "0".repeat(60_000))).is_err());
        assert!(names(&format!("{}[1-9]", "a".repeat(60_000))).is_err());
        assert!(names(&format!("[1-9]{}", "a".repeat(60_000))).is_err());
        assert!(outlets(&"1-1000,".repeat(1000)[..6999]).is_err());
    }
}
