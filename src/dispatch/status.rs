//! A worker's report on its PDU, for lists, the page and metrics: nobody asks the PDU for it. Nobody takes it for
//! the truth: every state has its origin and its age.

use super::plan::{Gained, Trouble};
use crate::driver::{DriverError, Outlets};
use crate::request::{Outlet, PduName, Proof, State};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Instant, SystemTime};

/// An outlet's last known state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastState {
    /// The state.
    pub state: State,
    /// What proves it, where it was switched so; `None` where it was read from the PDU.
    pub switched: Option<Proof>,
    /// Since when.
    pub at: SystemTime,
}

/// The last failure of a PDU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// When.
    pub at: SystemTime,
    /// At which outlet.
    pub outlet: Outlet,
    /// That outlet, and why.
    pub text: String,
}

/// A worker's report on its PDU.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Did it answer the last time? `None` before the first call.
    pub reachable: Option<bool>,
    /// Since when that is so.
    pub since: Option<SystemTime>,
    /// The last failure of a call.
    pub last_error: Option<LastError>,
    /// Last known states by outlet.
    pub outlets: BTreeMap<Outlet, Box<LastState>>,
    /// Outlets that the PDU has (true), or has said that it does not have.
    pub seen: BTreeMap<Outlet, bool>,
    /// The PDU has told all that it has.
    pub has_told_all: bool,
    /// What the PDU calls its outlets, where it calls them anything.
    pub names: BTreeMap<Outlet, String>,
    /// Since when a driver call has been running, and its deadline.
    pub call: Option<(Instant, Instant)>,
    /// Driver calls so far.
    pub calls: u64,
    /// Driver calls that failed, by [`DriverError::word`].
    pub failures: BTreeMap<&'static str, u64>,
    /// Outlets that stay off although a reboot's on was sent.
    pub left_off: BTreeSet<Outlet>,
    /// How many outlets are owed a reboot's on, those included.
    pub owed: usize,
}

/// An outlet that a reboot has switched off and that is not on again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOff {
    /// Its PDU, which may not be in the config any more.
    pub pdu: PduName,
    /// Which.
    pub outlet: Outlet,
    /// Why, and what to do.
    pub why: String,
}

impl fmt::Display for LeftOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "outlet {}: LEFT OFF by an unfinished reboot: {}",
            self.outlet, self.why
        )
    }
}

/// Most outlets remembered: a `localcmdline` takes any id a client thinks of.
const MAX_OUTLETS: usize = 1024;
/// Of a name that the PDU gave, so many characters are kept.
const MAX_NAME: usize = 64;

impl Report {
    pub(super) fn owes<'o>(&mut self, owed: usize, left_off: impl Iterator<Item = &'o Outlet>) {
        self.owed = owed;
        self.left_off = left_off.cloned().collect();
    }

    /// Another driver speaks to the PDU, or to another one: nothing that was read is known of it.
    pub(super) fn forget(&mut self) {
        self.outlets.clear();
        self.seen.clear();
        self.has_told_all = false;
        self.names.clear();
        (self.reachable, self.since) = (None, None);
    }

    pub(super) fn call_begins(&mut self, deadline: Instant) {
        self.call = Some((Instant::now(), deadline));
        self.calls += 1;
    }

    /// A driver call has ended.
    pub(super) fn call_ended(&mut self, outlet: &Outlet, result: &Result<Gained, Trouble>) {
        let now = SystemTime::now();
        self.call = None;
        let error = result.as_ref().err().map(|trouble| &trouble.error);
        let reachable = match error {
            None => Some(true),
            Some(error) if error.is_pdu_away() => Some(false),
            // It answered, if not what was hoped for.
            Some(
                DriverError::Refused(_)
                | DriverError::Unexpected { .. }
                | DriverError::LoginRefused(_),
            ) => Some(true),
            Some(_) => self.reachable,
        };
        if reachable != self.reachable {
            self.reachable = reachable;
            self.since = Some(now);
        }
        let has = match error {
            None => Some(true),
            Some(DriverError::NoSuchOutlet { .. }) => Some(false),
            Some(_) => None,
        };
        // One that was asked for by a name is known by its key once that is found.
        let known = match result {
            Ok(Gained::Found(found)) => found,
            _ => outlet,
        };
        if let Some(has) = has {
            self.has(known, has);
        }
        let (state, switched) = match result {
            Ok(Gained::Read(state)) => (state.clone(), None),
            Ok(Gained::Switched(to, proof)) => ((*to).into(), Some(*proof)),
            Ok(Gained::Found(_)) => return,
            Err(trouble) => return self.failed(outlet, trouble, now),
        };
        self.knows(outlet.clone(), state, switched, now);
    }

    /// The PDU has told the states of these outlets as well.
    pub(super) fn also_read(&mut self, states: &[(Outlet, State)], are_all: bool) {
        let now = SystemTime::now();
        self.has_told_all |= are_all;
        for (outlet, state) in states {
            self.has(outlet, true);
            self.knows(outlet.clone(), state.clone(), None, now);
        }
    }

    /// The PDU has so many of the outlets `sought`, the first ones.
    pub(super) fn counted(&mut self, sought: &[Outlet], count: usize) {
        for (at, outlet) in sought.iter().enumerate().take(count.saturating_add(1)) {
            self.has(outlet, at < count);
        }
    }

    /// The PDU has told what it calls these outlets.
    pub(super) fn named(&mut self, names: Vec<(Outlet, String)>) {
        for (outlet, name) in names.into_iter().take(MAX_OUTLETS) {
            let name = name.trim_matches(|c: char| c.is_whitespace() || c.is_control());
            let shown = name.chars().filter(|c| !c.is_control());
            let name: String = shown.take(MAX_NAME).collect();
            if !name.is_empty() {
                self.names.insert(outlet, name);
            }
        }
    }

    /// The outlets that the PDU has, and those that it may have if somebody `seeks` them; those first
    /// whose state has not been known for longest.
    pub(super) fn by_age(&self, outlets: &Outlets, seeks: bool) -> Vec<Outlet> {
        let mut all = outlets.all().unwrap_or_else(|| {
            let has = |id: &Outlet| self.seen.get(id).copied();
            let seen = self.seen.keys().filter(|id| has(id) == Some(true));
            let seen = seen.filter(|id| outlets.parse(id).is_ok()).cloned();
            let sought = outlets.sought().into_iter().filter(|_| seeks);
            // Behind the first that it does not have come no others.
            let sought = sought.take_while(|id| has(id) != Some(false));
            seen.chain(sought.filter(|id| has(id).is_none())).collect()
        });
        all.sort_by_key(|id| self.outlets.get(id).map(|known| known.at));
        all
    }

    fn has(&mut self, outlet: &Outlet, has: bool) {
        if self.seen.len() < MAX_OUTLETS || self.seen.contains_key(outlet) {
            self.seen.insert(outlet.clone(), has);
        }
    }

    fn knows(&mut self, outlet: Outlet, state: State, switched: Option<Proof>, at: SystemTime) {
        if self.outlets.len() < MAX_OUTLETS || self.outlets.contains_key(&outlet) {
            self.outlets.insert(
                outlet,
                Box::new(LastState {
                    state,
                    switched,
                    at,
                }),
            );
        }
    }

    fn failed(&mut self, outlet: &Outlet, trouble: &Trouble, at: SystemTime) {
        let error = &trouble.error;
        *self.failures.entry(error.word()).or_default() += 1;
        // An outlet that is not there, or that nothing reads, is no trouble of the PDU.
        if !matches!(
            error,
            DriverError::CannotRead(_) | DriverError::NoSuchOutlet { .. }
        ) {
            self.last_error = Some(LastError {
                at,
                outlet: outlet.clone(),
                text: format!("outlet {outlet}: {trouble}"),
            });
        }
        if trouble.may_have_acted {
            // Unknown is not off, nor what it was before.
            self.outlets.remove(outlet);
        }
    }
}
