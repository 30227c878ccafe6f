//! The integer expressions of `outlets.vars`, as `1 << (outlet - 1)`.
//!
//! They know integers, names, lists (`list[i]`, counted from 0), brackets and `+ - * / % << >> & |`,
//! which bind as in C. Whatever overflows, divides by 0 or reaches past a list is an error.

use std::collections::BTreeMap;

/// An expression is no deeper than this.
const DEEPEST: usize = 16;

/// An expression, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sum {
    Number(i64),
    Name(String),
    Item(String, Box<Sum>),
    Of(&'static str, Box<Sum>, Box<Sum>),
}

/// The lists that expressions may reach into.
pub(super) type Lists = BTreeMap<String, Vec<i64>>;

/// The operators, the loosest first; those of one row bind alike.
const OPERATORS: &[&[&str]] = &[&["|"], &["&"], &["<<", ">>"], &["+", "-"], &["*", "/", "%"]];

impl Sum {
    /// Reads `text`, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text;
        let sum = binary(&mut rest, 0, 0)?;
        match rest.trim_start() {
            "" => Ok(sum),
            more => Err(format!("expected an operator, got {more:?}")),
        }
    }

    /// Its value, where `known` gives the value of a name.
    pub(super) fn value(
        &self,
        known: &dyn Fn(&str) -> Option<i64>,
        lists: &Lists,
    ) -> Result<i64, String> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Name(name) => known(name).ok_or_else(|| format!("nothing defines {name:?}")),
            Self::Item(name, index) => {
                let index = index.value(known, lists)?;
                let list = lists.get(name);
                let list = list.ok_or_else(|| format!("there is no list {name:?}"))?;
                let item = usize::try_from(index).ok().and_then(|at| list.get(at));
                item.copied().ok_or_else(|| {
                    let length = list.len();
                    format!("{name}[{index}]: the list has {length} items, counted from 0")
                })
            }
            Self::Of(operator, left, right) => {
                let (left, right) = (left.value(known, lists)?, right.value(known, lists)?);
                let shift = || u32::try_from(right).ok().filter(|bits| *bits < 63);
                let value = match *operator {
                    "|" => Some(left | right),
                    "&" => Some(left & right),
                    "<<" => shift().and_then(|bits| left.checked_mul(1_i64.checked_shl(bits)?)),
                    ">>" => shift().map(|bits| left >> bits),
                    "+" => left.checked_add(right),
                    "-" => left.checked_sub(right),
                    "*" => left.checked_mul(right),
                    "/" => left.checked_div(right),
                    _ => left.checked_rem(right),
                };
                value.ok_or_else(|| format!("{left} {operator} {right} has no value"))
            }
        }
    }
}

fn binary(rest: &mut &str, level: usize, depth: usize) -> Result<Sum, String> {
    let Some(operators) = OPERATORS.get(level) else {
        return single(rest, depth);
    };
    let mut left = binary(rest, level + 1, depth)?;
    loop {
        let text = rest.trim_start();
        let found = operators.iter().find_map(|operator| {
            let rest = text.strip_prefix(operator)?;
            Some((*operator, rest))
        });
        let Some((operator, behind)) = found else {
            return Ok(left);
        };
        *rest = behind;
        let right = binary(rest, level + 1, depth)?;
        left = Sum::Of(operator, Box::new(left), Box::new(right));
    }
}

fn single(rest: &mut &str, depth: usize) -> Result<Sum, String> {
    if depth > DEEPEST {
        return Err(format!("expected at most {DEEPEST} brackets in each other"));
    }
    let text = rest.trim_start();
    if let Some(inner) = text.strip_prefix('(') {
        *rest = inner;
        let sum = binary(rest, 0, depth + 1)?;
        return closed(rest, ')').map(|()| sum);
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let (word, behind) = text.split_at(end);
    *rest = behind;
    if word.is_empty() {
        return Err(format!(
            "expected a number, a name or a bracket, got {text:?}"
        ));
    }
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        let number = word.parse().ok();
        return number
            .map(Sum::Number)
            .ok_or_else(|| format!("expected a number, got {word:?}"));
    }
    match rest.trim_start().strip_prefix('[') {
        None => Ok(Sum::Name(word.to_owned())),
        Some(inner) => {
            *rest = inner;
            let index = binary(rest, 0, depth + 1)?;
            closed(rest, ']').map(|()| Sum::Item(word.to_owned(), Box::new(index)))
        }
    }
}

fn closed(rest: &mut &str, bracket: char) -> Result<(), String> {
    let text = rest.trim_start();
    *rest = text
        .strip_prefix(bracket)
        .ok_or_else(|| format!("expected {bracket:?}, got {text:?}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<i64, String> {
        let lists = Lists::from([("port".to_owned(), vec![7, 9])]);
        let known = |name: &str| (name == "outlet").then_some(9);
        Sum::parse(text)?.value(&known, &lists)
    }

    #[test]
    fn sums_bind_as_in_c() {
        for (text, expected) in [
            ("1 << (outlet - 1)", 256),
            ("outlet + 1 + outlet / 9", 11),
            ("2+3*4-10%4", 12),
            ("1 | 6 & 3", 3),
            ("port[outlet-8]", 9),
            ("1024 >> 3", 128),
            ("7 - 2 - 1", 4),
        ] {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn whatever_has_no_value_is_an_error() {
        for text in [
            "",
            "1 +",
            "(1",
            "1)",
            "a",
            "port",
            "port[2]",
            "port[0-1]",
            "none[0]",
            "1 / 0",
            "1 % 0",
            "9223372036854775807 + 1",
            "1 << 63",
            "1 << 0-1",
            "3000000000 << 40",
            "1 2",
            "12ab",
            "99999999999999999999",
        ] {
            assert!(value(text).is_err(), "{text}");
        }
        assert!(Sum::parse(&"(".repeat(10_000)).is_err());
    }
}
