//! From an outlet to the objects that switch it and have its state: pure, no I/O.

use super::objects::{self, Object, Place, Status};
use crate::driver::{DriverError, Outlets, outlet_number};
use crate::request::{Outlet, Switch};
use crate::transport::snmp::Oid;
use std::collections::BTreeMap;

/// How a config names a PDU's control objects.
#[derive(Debug)]
pub(super) enum Control {
    /// By an OID with `*` for the outlet.
    Pattern(Pattern),
    /// By a column of a table, the outlet being the index.
    Column(Column),
    /// By an object per outlet.
    Scalars(Scalars),
    /// By the outlet's place in the text of the scalar `oid`.
    List { oid: Vec<u32>, values: (i64, i64) },
}

/// An OID as text, with `*` for the outlet.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) text: String,
    /// The values that switch on and off.
    pub(super) values: (i64, i64),
}

/// A column of a table.
#[derive(Debug)]
pub(super) struct Column {
    /// The objects that switch on and off, mostly the same.
    pub(super) oids: (Vec<u32>, Vec<u32>),
    pub(super) values: (i64, i64),
    /// Defaults of the indices before the outlet; `None` when we do not know the number of indices.
    pub(super) index: Option<Vec<u32>>,
}

/// An object per outlet, each with the same index.
#[derive(Debug)]
pub(super) struct Scalars {
    pub(super) objects: PerOutlet,
    pub(super) ending: u32,
    pub(super) values: (i64, i64),
}

/// The objects of the outlets.
#[derive(Debug)]
pub(super) enum PerOutlet {
    /// From the table of well-known objects.
    Known(&'static Object),
    /// From a MIB file.
    Listed(BTreeMap<u32, Vec<u32>>),
    /// One for every outlet id: a controlpoint without `*`.
    One(Vec<u32>),
}

/// The objects to write and to read.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) on: (Oid, i64),
    pub(super) off: (Oid, i64),
    /// Objects with the state, the best first; a further one is for PDUs without the first.
    pub(super) readings: Vec<Reading>,
    /// The outlet's place in the objects' values, where these are lists.
    pub(super) item: Option<usize>,
}

impl Plan {
    /// The object that switches so, and the value that is written.
    pub(super) fn write(&self, to: Switch) -> (Oid, i64) {
        match to {
            Switch::On => self.on,
            Switch::Off => self.off,
        }
    }
}

/// An object with the state, and the meaning of its values.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) oid: Oid,
    pub(super) on: Vec<i64>,
    pub(super) off: Vec<i64>,
    pub(super) others: &'static [(i64, &'static str)],
}

impl Control {
    /// The outlet that a client means; its key is that of the objects, by whatever name.
    pub(super) fn find(&self, outlet: &Outlet) -> Result<Outlet, String> {
        let plan = self.plan(outlet).map_err(|error| match error {
            DriverError::NoSuchOutlet { expected } => expected,
            other => other.to_string(),
        })?;
        let outlet = outlet.clone();
        Ok(match self {
            // A list's outlets share one object; a number has one form.
            Self::List { .. } => outlet,
            _ => outlet.known_as(plan.on.0.to_string()),
        })
    }

    /// Does each number stand for an object of its own, so that the PDU can tell which it has?
    pub(super) fn is_counted(&self) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.text.contains('*'),
            Self::Scalars(scalars) => !matches!(scalars.objects, PerOutlet::One(_)),
            Self::Column(_) | Self::List { .. } => true,
        }
    }

    /// The objects of `outlet`.
    pub(super) fn plan(&self, outlet: &Outlet) -> Result<Plan, DriverError> {
        match self {
            Self::Pattern(pattern) => {
                let oid = pattern.fill(outlet)?;
                plan((oid.clone(), oid), pattern.values)
            }
            Self::Column(column) => {
                let arcs = arcs(outlet).ok_or_else(numbers)?;
                let index = match &column.index {
                    None => arcs,
                    Some(defaults) => {
                        let given = arcs.len();
                        let defaulted = (defaults.len() + 1)
                            .checked_sub(given)
                            .and_then(|missing| defaults.get(..missing))
                            .ok_or_else(|| DriverError::NoSuchOutlet {
                                expected: match defaults.len() {
                                    0 => "an outlet number".into(),
                                    more => format!(
                                        "an outlet number, or at most {} numbers joined by dots",
                                        more + 1
                                    ),
                                },
                            })?;
                        [defaulted, &arcs].concat()
                    }
                };
                let under = |column: &Vec<u32>| [column.as_slice(), &index].concat();
                plan(
                    (under(&column.oids.0), under(&column.oids.1)),
                    column.values,
                )
            }
            Self::Scalars(scalars) => {
                let mut oid = scalars.objects.of(outlet)?;
                oid.push(scalars.ending);
                plan((oid.clone(), oid), scalars.values)
            }
            Self::List { oid, values } => {
                let outlet = Outlets::Range(1..=LONGEST_LIST).parse(outlet)?;
                let number: u32 = outlet_number(&outlet)?;
                let scalar = [oid.as_slice(), &[0]].concat();
                Ok(Plan {
                    item: usize::try_from(number.saturating_sub(1)).ok(),
                    ..plan((scalar.clone(), scalar), *values)?
                })
            }
        }
    }
}

/// The most outlets that a list of them may have.
const LONGEST_LIST: u32 = 128;

impl Pattern {
    fn fill(&self, outlet: &Outlet) -> Result<Vec<u32>, DriverError> {
        if !self.text.contains('*') {
            return parse(&self.text).ok_or_else(numbers);
        }
        let arcs: Vec<String> = arcs(outlet)
            .ok_or_else(numbers)?
            .iter()
            .map(u32::to_string)
            .collect();
        parse(&self.text.replace('*', &arcs.join("."))).ok_or_else(numbers)
    }
}

impl PerOutlet {
    fn of(&self, outlet: &Outlet) -> Result<Vec<u32>, DriverError> {
        let number = || outlet.number().ok_or_else(numbers);
        let none = |expected: String| DriverError::NoSuchOutlet { expected };
        match self {
            Self::One(oid) => Ok(oid.clone()),
            Self::Listed(oids) => oids.get(&number()?).cloned().ok_or_else(|| {
                none(match (oids.keys().next(), oids.keys().next_back()) {
                    (Some(first), Some(last)) => format!("outlets {first} to {last}"),
                    _ => "none: the MIB has no such objects".into(),
                })
            }),
            Self::Known(object) => {
                let Place::Scalar { number: arc, .. } = object.place else {
                    return Err(none("none: the table has no such objects".into()));
                };
                let arc =
                    arc(number()?).ok_or_else(|| none(format!("an outlet of {}", object.mib)))?;
                Ok([object.oid, &[arc]].concat())
            }
        }
    }
}

fn numbers() -> DriverError {
    DriverError::NoSuchOutlet {
        expected: "a number, or numbers joined by dots".into(),
    }
}

/// An outlet id as the numbers of an OID: `4`, `04` and `1.1.4` are ones.
fn arcs(outlet: &Outlet) -> Option<Vec<u32>> {
    parse_arcs(outlet.as_str()).filter(|arcs| arcs.len() <= 16)
}

fn parse_arcs(text: &str) -> Option<Vec<u32>> {
    text.split('.')
        .map(|arc| {
            let digits = !arc.is_empty() && arc.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| arc.parse().ok()).flatten()
        })
        .collect()
}

/// An OID from its text; a dot in front is usual. `None` when it is no OID of SNMP.
pub(super) fn parse(text: &str) -> Option<Vec<u32>> {
    let arcs = parse_arcs(text.strip_prefix('.').unwrap_or(text))?;
    let fits = matches!(arcs.as_slice(), [0 | 1, 0..=39, ..] | [2, ..]) && arcs.len() >= 2;
    // RFC 3416 allows 128 numbers; two are for the index behind it.
    (fits && arcs.len() <= 126).then_some(arcs)
}

fn oid(arcs: &[u32]) -> Result<Oid, DriverError> {
    Oid::try_from(arcs).map_err(|_| numbers())
}

/// The plan of the control objects `oids`: the same for on and off, or not.
fn plan((on, off): (Vec<u32>, Vec<u32>), values: (i64, i64)) -> Result<Plan, DriverError> {
    let known = objects::around(&on);
    // Some labs have on and off the other way round: a relay that is wired so.
    let is_swapped =
        known.is_some_and(|(object, _)| (values.1, values.0) == object.values && on == off);
    let mut readings = Vec::new();
    if let Some((object, tail)) = known
        && let Status::At {
            oid: column,
            on,
            off,
            others,
        } = object.status
        && let Some(tail) = state_tail(object, tail)
    {
        let (on, off) = if is_swapped { (off, on) } else { (on, off) };
        readings.push(Reading {
            oid: oid(&[column, &tail].concat())?,
            on: on.to_vec(),
            off: off.to_vec(),
            others,
        });
    }
    if on == off {
        let mut reading = Reading {
            oid: oid(&on)?,
            on: vec![values.0],
            off: vec![values.1],
            others: known.map_or(&[], |(object, _)| object.others),
        };
        // Settings may be delayed or reserved commands; the state has the plain values.
        if let Some((object, _)) = known
            && !is_swapped
        {
            let both = [values.0, values.1];
            reading
                .on
                .extend(Some(object.values.0).filter(|v| !both.contains(v)));
            reading
                .off
                .extend(Some(object.values.1).filter(|v| !both.contains(v)));
        }
        readings.push(reading);
    }
    Ok(Plan {
        on: (oid(&on)?, values.0),
        off: (oid(&off)?, values.1),
        readings,
        item: None,
    })
}

/// The state object's index, from the numbers behind the control object's OID.
fn state_tail(object: &Object, tail: &[u32]) -> Option<Vec<u32>> {
    match (object.place, tail) {
        (Place::Scalar { outlet, .. }, [number, rest @ ..]) => {
            Some([&[outlet(*number)?], rest].concat())
        }
        (Place::Scalar { .. }, []) | (Place::List, _) => None,
        (Place::Index(_) | Place::OnOff { .. }, tail) => Some(tail.to_vec()),
    }
}
