//! A worker's report on its PDU, for lists, the page and metrics: nobody asks the PDU for it. Nobody takes it for
//! the truth: every state has its source and its age.

use super::plan::{Gained, Trouble};
use crate::driver::DriverError;
use crate::request::{Outlet, PduName, Proof, State};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

/// The origin of a last known state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It was read from the PDU.
    Read,
    /// It was switched so, and the PDU confirmed it.
    Switched,
    /// It was switched so, and the PDU's state does not confirm it.
    Unconfirmed,
}

/// An outlet's last known state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastState {
    /// The state.
    pub state: State,
    /// Where it is known from.
    pub source: Source,
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
    pub outlets: BTreeMap<Outlet, LastState>,
    /// Outlets that the PDU has (true), or has said that it does not have.
    pub seen: BTreeMap<Outlet, bool>,
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

/// The report, shared between the worker that writes it and those who read.
#[derive(Debug, Default)]
pub(super) struct SharedReport(Mutex<Report>);

impl SharedReport {
    fn lock(&self) -> MutexGuard<'_, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report(&self) -> Report {
        self.lock().clone()
    }

    /// Since when a driver call has been running, and its deadline.
    pub(super) fn call(&self) -> Option<(Instant, Instant)> {
        self.lock().call
    }

    pub(super) fn left_off(&self) -> BTreeSet<Outlet> {
        self.lock().left_off.clone()
    }

    pub(super) fn owed(&self) -> usize {
        self.lock().owed
    }

    pub(super) fn owes<'o>(&self, owed: usize, left_off: impl Iterator<Item = &'o Outlet>) {
        let mut report = self.lock();
        report.owed = owed;
        report.left_off = left_off.cloned().collect();
    }

    /// Another driver speaks to the PDU, or to another one: nothing that was read is known of it.
    pub(super) fn forget(&self) {
        let mut report = self.lock();
        report.outlets.clear();
        report.seen.clear();
        (report.reachable, report.since) = (None, None);
    }

    pub(super) fn call_begins(&self, deadline: Instant) {
        let mut report = self.lock();
        report.call = Some((Instant::now(), deadline));
        report.calls += 1;
    }

    /// A driver call has ended.
    pub(super) fn call_ended(&self, outlet: &Outlet, result: &Result<Gained, Trouble>) {
        let now = SystemTime::now();
        let mut report = self.lock();
        report.call = None;
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
            Some(_) => report.reachable,
        };
        if reachable != report.reachable {
            report.reachable = reachable;
            report.since = Some(now);
        }
        let has = match error {
            None => Some(true),
            Some(DriverError::NoSuchOutlet { .. }) => Some(false),
            Some(_) => None,
        };
        if let Some(has) = has {
            report.has(outlet, has);
        }
        let (state, source) = match result {
            Ok(Gained::Read(state)) => (state.clone(), Source::Read),
            Ok(Gained::Switched(to, Proof::State)) => ((*to).into(), Source::Switched),
            Ok(Gained::Switched(to, Proof::Reply | Proof::None)) => {
                ((*to).into(), Source::Unconfirmed)
            }
            Ok(Gained::Found(_)) => return,
            Err(trouble) => return report.failed(outlet, trouble, now),
        };
        report.knows(outlet.clone(), state, source, now);
    }

    /// The PDU has told the states of these outlets as well.
    pub(super) fn also_read(&self, states: Vec<(Outlet, State)>) {
        let now = SystemTime::now();
        let mut report = self.lock();
        for (outlet, state) in states {
            report.has(&outlet, true);
            report.knows(outlet, state, Source::Read, now);
        }
    }
}

impl Report {
    fn has(&mut self, outlet: &Outlet, has: bool) {
        if self.seen.len() < MAX_OUTLETS || self.seen.contains_key(outlet) {
            self.seen.insert(outlet.clone(), has);
        }
    }

    fn knows(&mut self, outlet: Outlet, state: State, source: Source, at: SystemTime) {
        if self.outlets.len() < MAX_OUTLETS || self.outlets.contains_key(&outlet) {
            self.outlets.insert(outlet, LastState { state, source, at });
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
