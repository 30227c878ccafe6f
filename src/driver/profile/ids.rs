//! Which outlets the PDUs of a profile can have: all of them can be counted, so that everything that
//! is computed from an outlet is checked before anything is switched.

use super::holes::{Filling, Fillings};
use super::written;
use crate::driver::{DriverError, Has, Outlets};
use crate::request::Outlet;
use std::ops::RangeInclusive;

/// The most outlets that a profile can speak of.
const MOST: usize = 4096;

/// The rule for the ids.
#[derive(Clone, Debug)]
pub(crate) enum Ids {
    /// These numbers.
    Numbers(Vec<RangeInclusive<u32>>),
    /// These names.
    Names(Vec<String>),
    /// Numbers joined by dots.
    Parts(Vec<Part>),
}

/// One number of an id such as `2.7`.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    name: String,
    range: RangeInclusive<u32>,
    /// What it is when the id leaves it out.
    default: Option<u32>,
}

impl Ids {
    /// Checks what is written, or says which key is wrong and why.
    pub(super) fn new(written: &written::Outlets) -> Result<Self, (&'static str, String)> {
        let ids = match (
            &written.range,
            written.list.as_slice(),
            written.parts.as_slice(),
        ) {
            (Some(range), [], []) => Self::Numbers(ranges(range).map_err(|why| ("range", why))?),
            (None, [_, ..], []) => Self::Names(written.list.clone()),
            (None, [], [_, ..]) => {
                Self::Parts(parts(&written.parts).map_err(|why| ("parts", why))?)
            }
            _ => return Err(("", "expected one of range, list and parts".to_owned())),
        };
        let key = match ids {
            Self::Numbers(_) => "range",
            Self::Names(_) => "list",
            Self::Parts(_) => "parts",
        };
        match ids.count() {
            Some(count) if count <= MOST => {}
            _ => return Err((key, format!("expected at most {MOST} outlets"))),
        }
        let all = ids.all();
        let mut keys: Vec<&str> = all.iter().map(Outlet::key).collect();
        keys.sort_unstable();
        if let Some([one, _]) = keys.array_windows().find(|[one, other]| one == other) {
            return Err((key, format!("outlet {one} is there twice")));
        }
        Ok(ids)
    }

    fn count(&self) -> Option<usize> {
        let length = |range: &RangeInclusive<u32>| {
            usize::try_from(range.end().checked_sub(*range.start())?)
                .ok()?
                .checked_add(1)
        };
        match self {
            Self::Numbers(ranges) => ranges
                .iter()
                .try_fold(0, |sum: usize, range| sum.checked_add(length(range)?)),
            Self::Names(names) => Some(names.len()),
            Self::Parts(parts) => parts.iter().try_fold(1, |product: usize, part| {
                product.checked_mul(length(&part.range)?)
            }),
        }
    }

    /// Every one, by its full id.
    pub(crate) fn all(&self) -> Vec<Outlet> {
        match self {
            Self::Numbers(ranges) => {
                let numbers = ranges.iter().cloned().flatten();
                numbers
                    .map(|number| Outlet::new(number.to_string()))
                    .collect()
            }
            Self::Names(names) => names
                .iter()
                .map(|name| Outlet::new(name.as_str()))
                .collect(),
            Self::Parts(parts) => {
                let mut ids = vec![String::new()];
                for part in parts {
                    let longer = ids.iter().flat_map(|id| {
                        let numbers = part.range.clone();
                        numbers.map(move |number| match id.as_str() {
                            "" => number.to_string(),
                            _ => format!("{id}.{number}"),
                        })
                    });
                    ids = longer.collect();
                }
                ids.into_iter().map(Outlet::new).collect()
            }
        }
    }

    /// The names of the holes that an id fills.
    pub(super) fn holes(&self) -> Vec<String> {
        match self {
            Self::Numbers(_) | Self::Names(_) => {
                vec!["outlet".to_owned(), "zero".to_owned()]
            }
            Self::Parts(parts) => parts.iter().map(|part| part.name.clone()).collect(),
        }
    }

    /// What the id of `outlet` fills its holes with; none where there is no such outlet.
    pub(crate) fn fillings(&self, outlet: &Outlet) -> Option<Fillings> {
        let number = |number: u32| Filling::Number(number.into());
        let of = |outlet: Filling, zero: u32| {
            let pairs = [("outlet", outlet), ("zero", number(zero))];
            Fillings::from(pairs.map(|(name, filling)| (name.to_owned(), filling)))
        };
        match self {
            Self::Numbers(ranges) => {
                let id = outlet.number()?;
                ranges
                    .iter()
                    .any(|range| range.contains(&id))
                    .then_some(())?;
                Some(of(number(id), id.saturating_sub(1)))
            }
            Self::Names(names) => {
                let at = names.iter().position(|name| name == outlet.as_str())?;
                let name = Filling::Text(outlet.as_str().to_owned());
                Some(of(name, u32::try_from(at).ok()?))
            }
            Self::Parts(parts) => {
                let given = outlet
                    .as_str()
                    .split('.')
                    .map(|part| Outlet::new(part).number());
                let given: Vec<u32> = given.collect::<Option<_>>()?;
                let left_out = parts.len().checked_sub(given.len())?;
                let numbers = parts.iter().take(left_out).map(|part| part.default);
                let numbers = numbers.chain(given.into_iter().map(Some));
                let filled = parts.iter().zip(numbers).map(|(part, id)| {
                    let id = id.filter(|id| part.range.contains(id))?;
                    Some((part.name.clone(), number(id)))
                });
                filled.collect()
            }
        }
    }

    /// For the driver table.
    pub(crate) fn has(&self, all: bool, about: &'static str) -> Has {
        match self {
            Self::Numbers(ranges) => match ranges.as_slice() {
                [range] if all => Has::Numbers(*range.start(), *range.end()),
                [range] => Has::Within(*range.start(), *range.end()),
                _ => Has::Told(about),
            },
            Self::Names(_) | Self::Parts(_) => Has::Told(about),
        }
    }

    /// In words.
    pub(crate) fn about(&self) -> String {
        let range = |range: &RangeInclusive<u32>| format!("{} to {}", range.start(), range.end());
        match self {
            Self::Numbers(ranges) => ranges.iter().map(range).collect::<Vec<_>>().join(", "),
            Self::Names(names) => names.join(", "),
            Self::Parts(parts) => {
                let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
                let parts = parts.iter().map(|part| {
                    let default = match part.default {
                        Some(default) => format!(", {default} where it is left out"),
                        None => String::new(),
                    };
                    format!("{} {}{default}", part.name, range(&part.range))
                });
                let parts: Vec<String> = parts.collect();
                format!("{} ({})", names.join("."), parts.join("; "))
            }
        }
    }

    /// The outlets of a PDU, where the driver table cannot say it.
    pub(crate) fn outlets(&self, all: bool) -> Option<Outlets> {
        if let Self::Numbers(ranges) = self
            && let [_] = ranges.as_slice()
        {
            return None;
        }
        let (ids, about) = (self.clone(), self.about());
        let outlets = Outlets::rule(move |outlet| {
            let fillings = ids.fillings(outlet).ok_or_else(|| about.clone())?;
            let Self::Parts(parts) = &ids else {
                return Ok(outlet.clone());
            };
            // `4` is `1.4` where the first part may be left out.
            let numbers = parts
                .iter()
                .filter_map(|part| match fillings.get(&part.name)? {
                    Filling::Number(number) => Some(number.to_string()),
                    Filling::Text(_) | Filling::Secret(_) => None,
                });
            let key: Vec<String> = numbers.collect();
            Ok(outlet.clone().known_as(key.join(".")))
        });
        match all {
            true => outlets.narrowed(self.all()).ok(),
            false => Some(outlets),
        }
    }
}

/// No such outlet, for a driver that is asked for one that nobody can have let through.
pub(crate) fn none(ids: &Ids) -> DriverError {
    DriverError::NoSuchOutlet {
        expected: ids.about(),
    }
}

/// `1-8`, `5`, or several of them joined by commas.
pub(super) fn ranges(text: &str) -> Result<Vec<RangeInclusive<u32>>, String> {
    let wrong = || format!("expected numbers as 1-8 or 1-8,17-24, got {text:?}");
    let number = |text: &str| text.trim().parse::<u32>().map_err(|_| wrong());
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        Ok(first..=last)
    };
    text.split(',').map(range).collect()
}

fn parts(written: &[written::IdPart]) -> Result<Vec<Part>, String> {
    let mut parts: Vec<Part> = Vec::new();
    for part in written {
        let range = match ranges(&part.range)?.as_slice() {
            [range] => range.clone(),
            _ => return Err(format!("{}: expected one range", part.name)),
        };
        let default = match part.default {
            None => None,
            Some(default) => {
                let number = u32::try_from(default)
                    .ok()
                    .filter(|number| range.contains(number));
                let words = || format!("{}: the default {default} is not in the range", part.name);
                Some(number.ok_or_else(words)?)
            }
        };
        if parts.last().is_some_and(|before| before.default.is_none()) && default.is_some() {
            return Err(format!(
                "{}: only the first parts may be left out",
                part.name
            ));
        }
        if parts.iter().any(|before| before.name == part.name) {
            return Err(format!("{} is there twice", part.name));
        }
        parts.push(Part {
            name: part.name.clone(),
            range,
            default,
        });
    }
    if parts.last().is_some_and(|last| last.default.is_some()) {
        return Err("the last part cannot be left out: expected no default".to_owned());
    }
    Ok(parts)
}
