//! The outlets of a PDU that lists show: those that its driver and settings give, those that have a
//! name or are in use, and those that the PDU has shown.

use super::status::Report;
use crate::config::PduConfig;
use crate::driver::Outlets;
use crate::request::Outlet;
use std::collections::BTreeMap;

/// The outlets of one PDU, as far as we know them.
pub(super) struct Shown {
    /// Each with its name.
    pub(super) outlets: BTreeMap<Outlet, Option<String>>,
    /// How many it has; all of them are in `outlets` then.
    pub(super) count: Option<usize>,
    /// Where the PDU alone knows how many it has: those to ask it for, one after the other, until
    /// it says that there is none.
    pub(super) sought: Vec<Outlet>,
}

impl Shown {
    pub(super) fn of(pdu: &PduConfig, aliased: &[&Outlet], report: &Report) -> Self {
        let all = pdu.outlets.all();
        let has = |outlet: &Outlet| report.seen.get(outlet).copied();
        let sought = pdu.outlets.sought().into_iter();
        let mut sought: Vec<Outlet> = sought.skip_while(|id| has(id) == Some(true)).collect();
        let end = sought.first().cloned();
        let end = end.filter(|first| has(first) == Some(false));
        // A table may begin anywhere and have gaps: only numbers that follow on each other count.
        let is_gapless = matches!(pdu.outlets, Outlets::Within(_));
        let is_counted = is_gapless || report.seen.values().any(|seen| *seen);
        if end.is_some() {
            sought.clear();
        }
        let is_shown = |outlet: &&Outlet| {
            let may_be = match has(outlet) {
                Some(seen) => seen || all.is_some(),
                // Behind the first number that it does not have come no others.
                None => !end.as_ref().filter(|_| is_gapless).is_some_and(|end| {
                    let numbers = outlet.number().zip(end.number());
                    numbers.is_some_and(|(number, end)| number > end)
                }),
            };
            // The settings may have left out outlets that it has shown.
            may_be && pdu.outlets.parse(outlet).is_ok()
        };
        let in_use = pdu.outlet_names.keys().chain(aliased.iter().copied());
        let in_use = in_use.chain(report.seen.keys()).filter(is_shown);
        let mut outlets = BTreeMap::new();
        for outlet in all.iter().flatten().chain(in_use) {
            // The name by which it is listed is the first.
            let name = || pdu.outlet_names.get(outlet).cloned();
            outlets.entry(outlet.clone()).or_insert_with(name);
        }
        let is_known = all.is_some() || (end.is_some() && is_counted);
        Self {
            count: is_known.then_some(outlets.len()),
            outlets,
            sought,
        }
    }
}
