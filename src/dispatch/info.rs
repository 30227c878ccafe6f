//! One PDU for lists, with the outlets that its driver and settings know, those that have a name or an
//! alias, and those that the PDU itself has shown to have.

use super::held::held;
use super::status::Report;
use super::table::Route;
use crate::config::{BrokenPdu, PduConfig};
use crate::driver::Outlets;
use crate::request::{Outlet, PduName};
use std::collections::BTreeMap;
use std::time::Duration;

/// One PDU, for lists.
#[derive(Clone, Debug)]
pub struct PduInfo {
    /// Its name.
    pub name: PduName,
    /// Its driver's name, as the config has it.
    pub driver: String,
    /// A person's words about it.
    pub about: Option<String>,
    /// Can its outlets' states be read?
    pub reads_back: bool,
    /// The pause between two background reads of its states; without one there are none.
    pub refresh: Option<Duration>,
    /// Can its settings be worked with, or those that it had before?
    pub is_served: bool,
    /// The error in its settings in the config.
    pub broken: Option<String>,
    /// Requests that wait or run.
    pub waiting: usize,
    /// The worker's report.
    pub report: Report,
    /// How many outlets it has, where that is known; all of them are in `outlets` then.
    pub outlet_count: Option<usize>,
    /// Where it alone knows how many it has: the outlets to ask it for, one after the other, until
    /// it says that there is none.
    pub sought: Vec<Outlet>,
    /// Its outlets as far as they are known (from the driver, names in the config, aliases, use and
    /// the PDU itself), each with its name.
    pub outlets: BTreeMap<Outlet, Option<String>>,
}

impl PduInfo {
    pub(super) fn of(
        name: &PduName,
        route: &Result<Route, BrokenPdu>,
        aliased: Vec<&Outlet>,
    ) -> Self {
        match route {
            Ok(route) => Self::served(route, &aliased),
            Err(broken) => Self {
                name: name.clone(),
                driver: broken.driver.clone(),
                about: None,
                reads_back: false,
                refresh: None,
                is_served: false,
                broken: Some(broken.error.to_string()),
                waiting: 0,
                outlet_count: None,
                sought: Vec::new(),
                outlets: aliased.into_iter().map(|id| (id.clone(), None)).collect(),
                report: Report::default(),
            },
        }
    }

    fn served(route: &Route, aliased: &[&Outlet]) -> Self {
        let pdu = &route.pdu;
        let broken = route.unfollowed.as_ref();
        let mut info = Self {
            name: pdu.name.clone(),
            driver: pdu.settings.driver().to_owned(),
            about: pdu.about.clone(),
            reads_back: pdu.spec.reads_back,
            refresh: pdu.refresh,
            is_served: true,
            broken: broken.map(|broken| broken.error.to_string()),
            waiting: held(&route.places).taken,
            outlet_count: None,
            sought: Vec::new(),
            outlets: BTreeMap::new(),
            report: held(&route.report).clone(),
        };
        info.find_outlets(pdu, aliased);
        info
    }

    /// Finds the outlets, as far as they are known.
    fn find_outlets(&mut self, pdu: &PduConfig, aliased: &[&Outlet]) {
        let all = pdu.outlets.all();
        let has = |outlet: &Outlet| self.report.seen.get(outlet).copied();
        let sought = pdu.outlets.sought().into_iter();
        let mut sought: Vec<Outlet> = sought.skip_while(|id| has(id) == Some(true)).collect();
        let end = sought.first().cloned();
        let end = end.filter(|first| has(first) == Some(false));
        // A table may begin anywhere and have gaps: only numbers that follow on each other count.
        let is_gapless = matches!(pdu.outlets, Outlets::Within(_));
        let is_counted = is_gapless || self.report.seen.values().any(|seen| *seen);
        // One that is no number says nothing of others.
        let is_counted = is_counted && end.as_ref().is_some_and(|end| end.number().is_some());
        if end.is_some() || self.report.has_told_all {
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
            // The settings may have left out since an outlet that the PDU has shown.
            may_be && pdu.outlets.parse(outlet).is_ok()
        };
        let in_use = pdu.outlet_names.keys().chain(aliased.iter().copied());
        let in_use = in_use.chain(self.report.seen.keys()).filter(is_shown);
        for outlet in all.iter().flatten().chain(in_use) {
            // A person's name for it counts more than the PDU's.
            let told = || self.report.names.get(outlet);
            let name = || pdu.outlet_names.get(outlet).or_else(told).cloned();
            // The id by which it is listed is the first.
            self.outlets.entry(outlet.clone()).or_insert_with(name);
        }
        let is_known = all.is_some() || self.report.has_told_all || is_counted;
        self.outlet_count = is_known.then_some(self.outlets.len());
        self.sought = sought;
    }
}
