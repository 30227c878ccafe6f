//! Which outlets a PDU can have, as a value: what a client may name, what a list shows and what
//! the documentation says all come from here.

use super::DriverError;
use crate::request::Outlet;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What a row of the driver table says of its PDUs' outlets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Has {
    /// Every number from the first to the last.
    Numbers(u32, u32),
    /// Numbers from the first to the last; which of them, the PDU knows.
    Within(u32, u32),
    /// One outlet, whatever it is called.
    One,
    /// The settings or the PDU tell, in words as `1 to port_count`. A driver that builds no
    /// [`Outlets`] of its own takes every name that could be one.
    Told(&'static str),
}

impl Has {
    /// The outlets of a PDU whose settings say no more.
    pub fn outlets(self) -> Outlets {
        match self {
            Self::Numbers(first, last) => Outlets::Range(first..=last),
            Self::Within(first, last) => Outlets::Within(first..=last),
            Self::One => Outlets::Any,
            Self::Told(words) => Outlets::rule(move |outlet| named(outlet, words)),
        }
    }
}

impl fmt::Display for Has {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numbers(first, last) if first == last => write!(f, "{first}"),
            Self::Numbers(first, last) => write!(f, "{first} to {last}"),
            Self::Within(first, u32::MAX) => write!(f, "those it has from {first}"),
            Self::Within(first, last) => write!(f, "those it has of {first} to {last}"),
            Self::One => f.write_str("one, under any name"),
            Self::Told(words) => f.write_str(words),
        }
    }
}

/// Finds the outlet that a client means, or says what was expected.
type Parse = dyn Fn(&Outlet) -> Result<Outlet, String> + Send + Sync;

/// The outlets that one PDU can have.
#[derive(Clone)]
pub enum Outlets {
    /// Every one of these numbers.
    Range(RangeInclusive<u32>),
    /// Some of these numbers.
    Within(RangeInclusive<u32>),
    /// These.
    Listed(Vec<Outlet>),
    /// Those that a rule knows.
    Rule(Arc<Parse>),
    /// One outlet, whatever it is called.
    Any,
}

impl Outlets {
    /// The outlets for which `parse` finds an id; its error says what was expected.
    pub fn rule(parse: impl Fn(&Outlet) -> Result<Outlet, String> + Send + Sync + 'static) -> Self {
        Self::Rule(Arc::new(parse))
    }

    /// The outlet that a client means: with the text as given, for the driver, and with the one
    /// key that all names of that outlet share.
    pub fn parse(&self, outlet: &Outlet) -> Result<Outlet, DriverError> {
        let found = match self {
            Self::Range(numbers) | Self::Within(numbers) => outlet
                .number()
                .filter(|number| numbers.contains(number))
                .map(|_| outlet.clone())
                .ok_or_else(|| self.expected()),
            Self::Listed(listed) => match listed.contains(outlet) {
                true => Ok(outlet.clone()),
                false => Err(self.expected()),
            },
            Self::Rule(parse) => parse(outlet),
            Self::Any => Ok(outlet.clone().known_as("1")),
        };
        found.map_err(|expected| DriverError::NoSuchOutlet { expected })
    }

    /// In words, where there are few enough.
    fn expected(&self) -> String {
        match self {
            Self::Range(numbers) | Self::Within(numbers) if numbers.start() == numbers.end() => {
                format!("outlet {}", numbers.start())
            }
            Self::Range(numbers) | Self::Within(numbers) => {
                format!("outlets {} to {}", numbers.start(), numbers.end())
            }
            Self::Listed(listed) => match listed.as_slice() {
                [] => "none: it has no outlets".to_owned(),
                [only] => format!("outlet {only}"),
                several => {
                    let ids: Vec<&str> = several.iter().map(Outlet::as_str).collect();
                    format!("one of the outlets {}", ids.join(", "))
                }
            },
            Self::Rule(_) => "an outlet of the PDU's own".to_owned(),
            Self::Any => "any name".to_owned(),
        }
    }

    /// Every outlet, where that is known without asking the PDU.
    pub fn all(&self) -> Vec<Outlet> {
        let number = |number: u32| Outlet::new(number.to_string());
        match self {
            Self::Range(numbers) | Self::Within(numbers) => {
                let most = numbers.start().saturating_add(COUNTED);
                let last = most.min(*numbers.end());
                (*numbers.start()..=last).map(number).collect()
            }
            Self::Listed(listed) => listed.clone(),
            Self::Rule(_) => Vec::new(),
            Self::Any => vec![number(1)],
        }
    }
}

/// Outlets are counted up to here, for lists.
const COUNTED: u32 = 256;

impl fmt::Debug for Outlets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outlets({})", self.expected())
    }
}

/// The id of an outlet that only the PDU knows: every text that could be one.
pub fn named(outlet: &Outlet, expected: &str) -> Result<Outlet, String> {
    let id = outlet.as_str();
    if id.is_empty() || id == "." || id == ".." || id.chars().any(char::is_control) {
        return Err(expected.to_owned());
    }
    Ok(outlet.clone())
}

/// The number of an outlet that [`Outlets::parse`] has let through.
pub fn outlet_number<N: TryFrom<u32>>(outlet: &Outlet) -> Result<N, DriverError> {
    let number = outlet.number().and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| DriverError::NoSuchOutlet {
        expected: "a number".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(outlets: &Outlets, id: &str) -> Option<String> {
        let outlet = outlets.parse(&Outlet::new(id)).ok()?;
        assert_eq!(outlet.as_str(), id, "the driver sees what was written");
        Some(outlet.key().to_owned())
    }

    #[test]
    fn every_kind_finds_its_own_outlets_alone() {
        let listed = Outlets::Listed(vec![Outlet::new("2"), Outlet::new("AA1")]);
        let folded = Outlets::rule(|outlet| {
            let outlet = named(outlet, "a name")?;
            let key = outlet.as_str().to_ascii_lowercase();
            Ok(outlet.known_as(key))
        });
        for (outlets, good, bad) in [
            (&Outlets::Range(1..=8), "1=1 08=8", "0 9 x -1 +1 1.0"),
            (&Outlets::Within(0..=9), "0=0 9=9", "10 AA1"),
            (&listed, "2=2 02=2 AA1=AA1", "1 aa1"),
            (&folded, "Lamp=lamp lamp=lamp 04=04", ". .. a\nb"),
            (&Outlets::Any, "1=1 7=1 dut=1 ..=1", ""),
        ] {
            for pair in good.split(' ') {
                let (id, wanted) = pair.split_once('=').expect("a pair");
                assert_eq!(
                    key(outlets, id).as_deref(),
                    Some(wanted),
                    "{outlets:?} {id}"
                );
            }
            for id in bad.split(' ').filter(|id| !id.is_empty()) {
                assert_eq!(key(outlets, id), None, "{outlets:?} {id}");
            }
        }
    }

    #[test]
    fn who_asks_for_another_is_told_what_there_is() {
        let ids = |ids: &[&str]| Outlets::Listed(ids.iter().map(|id| Outlet::new(*id)).collect());
        for (outlets, told) in [
            (
                Outlets::Range(1..=8),
                "no such outlet: expected outlets 1 to 8",
            ),
            (Outlets::Range(1..=1), "no such outlet: expected outlet 1"),
            (ids(&["3"]), "no such outlet: expected outlet 3"),
            (
                ids(&["3", "5"]),
                "no such outlet: expected one of the outlets 3, 5",
            ),
            (
                Has::Told("a lamp").outlets(),
                "no such outlet: expected a lamp",
            ),
        ] {
            let error = outlets.parse(&Outlet::new("")).expect_err("none");
            assert_eq!(error.to_string(), told);
        }
    }
}
