//! The outlets that a PDU can have, as a value: it serves the check of a client's outlet, the lists,
//! and the documentation.

use super::DriverError;
use crate::request::Outlet;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The outlets of a driver's PDUs, as the row of the driver table has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Has {
    /// Every number from the first to the last.
    Numbers(u32, u32),
    /// Numbers from the first to the last; which of them, the PDU knows.
    Within(u32, u32),
    /// One outlet, whatever it is called.
    One,
    /// The settings or the PDU say which; in words, as `1 to port_count`. A driver that builds no
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

/// Finds the outlet that a client means, or says what it expected.
type Parse = dyn Fn(&Outlet) -> Result<Outlet, String> + Send + Sync;

/// The outlets that one PDU can have.
#[derive(Clone)]
pub enum Outlets {
    /// Every one of these numbers.
    Range(RangeInclusive<u32>),
    /// Some of these numbers.
    Within(RangeInclusive<u32>),
    /// These alone.
    Listed {
        /// As [`Outlets::parse`] of the others has found them.
        these: BTreeSet<Outlet>,
        /// All that the driver can have.
        of: Box<Outlets>,
    },
    /// Those that a rule knows.
    Rule {
        /// The rule.
        parse: Arc<Parse>,
        /// What the PDU may be asked for, to learn which it has.
        sought: Option<Sought>,
    },
    /// One outlet, whatever it is called.
    Any,
}

/// Outlets of which the PDU alone knows whether it has them.
#[derive(Clone, Debug)]
pub enum Sought {
    /// These numbers, one after the other.
    Numbers(RangeInclusive<u32>),
    /// This one, with which the PDU tells all others.
    One(&'static str),
}

impl Outlets {
    /// The outlets for which `parse` finds an id; its error says what it expected.
    pub fn rule(parse: impl Fn(&Outlet) -> Result<Outlet, String> + Send + Sync + 'static) -> Self {
        Self::Rule {
            parse: Arc::new(parse),
            sought: None,
        }
    }

    /// The same of a PDU that has numbered its outlets, most likely from the first of these.
    pub fn counted_from(self, first: u32) -> Self {
        self.seeking(Sought::Numbers(first..=u32::MAX))
    }

    /// The same of a PDU that may be asked for these.
    pub fn seeking(self, sought: Sought) -> Self {
        match self {
            Self::Rule { parse, .. } => Self::Rule {
                parse,
                sought: Some(sought),
            },
            other => other,
        }
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
            Self::Listed { these, of } => {
                // By whatever name: the others know which outlet that is.
                let found = of.parse(outlet).ok();
                found
                    .filter(|found| these.contains(found))
                    .ok_or_else(|| self.expected())
            }
            Self::Rule { parse, .. } => parse(outlet),
            Self::Any => Ok(outlet.clone().known_as("1")),
        };
        found.map_err(|expected| DriverError::NoSuchOutlet { expected })
    }

    /// Those of which the PDU alone knows whether it has them, in the order in which to ask it.
    pub fn sought(&self) -> Vec<Outlet> {
        let (numbers, one) = match self {
            Self::Within(numbers)
            | Self::Rule {
                sought: Some(Sought::Numbers(numbers)),
                ..
            } => (Some(numbers.clone()), None),
            Self::Rule {
                sought: Some(Sought::One(id)),
                ..
            } => (None, Some(Outlet::new(*id))),
            _ => (None, None),
        };
        let numbers = numbers.into_iter().flatten().take(SOUGHT);
        let ids = numbers.map(|number| Outlet::new(number.to_string()));
        // By the key that all names of the outlet share.
        ids.chain(one)
            .filter_map(|id| self.parse(&id).ok())
            .collect()
    }

    /// All that the driver can have, whatever narrows them.
    pub fn own(&self) -> &Self {
        match self {
            Self::Listed { of, .. } => of.own(),
            own => own,
        }
    }

    /// The number from which they are counted.
    pub fn first(&self) -> u32 {
        match self {
            Self::Range(numbers) | Self::Within(numbers) => *numbers.start(),
            Self::Listed { of, .. } => of.first(),
            Self::Rule { .. } | Self::Any => 1,
        }
    }

    /// These alone, of all that the driver can have; fails at one that it cannot have, at one that
    /// is there twice, and when there is none.
    pub fn narrowed(&self, ids: impl IntoIterator<Item = Outlet>) -> Result<Self, String> {
        let of = self.own();
        let mut these: BTreeSet<Outlet> = BTreeSet::new();
        for id in ids {
            let found = of.parse(&id);
            let found = found.map_err(|error| format!("outlet {id}: {error}"))?;
            if let Some(known) = these.get(&found) {
                return Err(match known.as_str() == id.as_str() {
                    true => format!("outlet {id} is there twice"),
                    false => format!("outlet {id} is outlet {known} under another name"),
                });
            }
            these.insert(found);
        }
        if these.is_empty() {
            return Err("expected at least one outlet".to_owned());
        }
        let of = Box::new(of.clone());
        Ok(Self::Listed { these, of })
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
            Self::Listed { these, .. } => match these.len() {
                1 => format!("outlet {}", in_words(these)),
                _ => format!("outlets {}", in_words(these)),
            },
            Self::Rule { .. } => "an outlet of the PDU's own".to_owned(),
            Self::Any => "any name".to_owned(),
        }
    }

    /// Every outlet, where we know them without asking the PDU.
    pub fn all(&self) -> Option<Vec<Outlet>> {
        let number = |number: u32| Outlet::new(number.to_string());
        match self {
            Self::Range(numbers) => Some(numbers.clone().map(number).collect()),
            Self::Listed { these, .. } => Some(these.iter().cloned().collect()),
            Self::Within(_) | Self::Rule { .. } => None,
            Self::Any => Some(vec![number(1)]),
        }
    }
}

impl fmt::Debug for Outlets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outlets({})", self.expected())
    }
}

/// The most outlets that we ask a PDU for one by one: none that must be asked so has more.
const SOUGHT: usize = 64;

/// Numbers that follow on each other as one: `1 to 8, 12, left`.
fn in_words(outlets: &BTreeSet<Outlet>) -> String {
    let outlets: Vec<&Outlet> = outlets.iter().collect();
    let follows = |one: &&Outlet, other: &&Outlet| {
        let numbers = one.number().zip(other.number());
        numbers.is_some_and(|(one, other)| one.checked_add(1) == Some(other))
    };
    let runs = outlets.chunk_by(follows).map(|run| match run {
        [first, .., last] if run.len() > 2 => format!("{first} to {last}"),
        few => {
            let ids: Vec<&str> = few.iter().map(|outlet| outlet.as_str()).collect();
            ids.join(", ")
        }
    });
    runs.collect::<Vec<_>>().join(", ")
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
        let folded = Outlets::rule(|outlet| {
            let outlet = named(outlet, "a name")?;
            let key = outlet.as_str().to_ascii_lowercase();
            Ok(outlet.known_as(key))
        });
        let two = ["2", "AA1"].map(Outlet::new);
        let listed = folded.narrowed(two).expect("it can have them");
        for (outlets, good, bad) in [
            (&Outlets::Range(1..=8), "1=1 08=8", "0 9 x -1 +1 1.0"),
            (&Outlets::Within(0..=9), "0=0 9=9", "10 AA1"),
            (&listed, "2=2 aa1=aa1 AA1=aa1", "1 02 AA2"),
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
        let ids = |ids: &[&str]| {
            let ids = ids.iter().map(|id| Outlet::new(*id));
            Has::Told("a lamp")
                .outlets()
                .narrowed(ids)
                .expect("it can have them")
        };
        for (outlets, told) in [
            (
                Outlets::Range(1..=8),
                "no such outlet: expected outlets 1 to 8",
            ),
            (Outlets::Range(1..=1), "no such outlet: expected outlet 1"),
            (ids(&["3"]), "no such outlet: expected outlet 3"),
            (
                ids(&["1", "2", "3", "5", "6", "left"]),
                "no such outlet: expected outlets 1 to 3, 5, 6, left",
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

    #[test]
    fn only_what_the_driver_can_have_is_left_of_it() {
        let narrow = |outlets: &Outlets, ids: &[&str]| {
            let narrowed = outlets.narrowed(ids.iter().map(|id| Outlet::new(*id)));
            narrowed.map(|outlets| {
                let all = outlets.all().expect("known");
                let ids: Vec<String> = all.iter().map(Outlet::to_string).collect();
                ids.join(" ")
            })
        };
        let eight = Outlets::Range(1..=8);
        assert_eq!(narrow(&eight, &["7", "1"]).as_deref(), Ok("1 7"));
        assert_eq!(narrow(&Outlets::Any, &["dut"]).as_deref(), Ok("dut"));
        // Narrowed again, it is the driver's own that counts.
        let two = eight.narrowed([Outlet::new("2")]).expect("it has it");
        assert_eq!(narrow(&two, &["3"]).as_deref(), Ok("3"));
        assert!(two.own().parse(&Outlet::new("8")).is_ok());
        for (outlets, ids, told) in [
            (
                &eight,
                &["1", "9"][..],
                "outlet 9: no such outlet: expected outlets 1 to 8",
            ),
            (
                &eight,
                &["1", "01"],
                "outlet 01 is outlet 1 under another name",
            ),
            (&eight, &["1", "1"], "outlet 1 is there twice"),
            (
                &Outlets::Any,
                &["1", "2"],
                "outlet 2 is outlet 1 under another name",
            ),
            (&eight, &[], "expected at least one outlet"),
        ] {
            assert_eq!(narrow(outlets, ids), Err(told.to_owned()), "{outlets:?}");
        }
    }
}
