//! What is known of one PDU without asking it: for lists, the page and metrics. Never taken for
//! the truth: every state has its source and its age.

use crate::driver::DriverError;
use crate::request::{Outlet, State};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

/// How a last known state came to be known.
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
pub struct Known {
    /// The state.
    pub state: State,
    /// Where it is known from.
    pub source: Source,
    /// Since when.
    pub at: SystemTime,
}

/// What last went wrong with a PDU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// When.
    pub at: SystemTime,
    /// At which outlet.
    pub outlet: Outlet,
    /// That outlet, and why.
    pub text: String,
}

/// What is known of a PDU.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Did it answer the last time? `None` before the first call.
    pub reachable: Option<bool>,
    /// Since when that is so.
    pub since: Option<SystemTime>,
    /// The last failure of a call.
    pub last_error: Option<LastError>,
    /// Last known states by outlet.
    pub outlets: BTreeMap<Outlet, Known>,
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
}

/// Most outlets remembered: a `localcmdline` takes any id a client thinks of.
const MAX_OUTLETS: usize = 1024;

/// The report, shared between the worker that writes it and those who read.
#[derive(Debug, Default)]
pub(super) struct Status(Mutex<Report>);

impl Status {
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

    pub(super) fn leaves_off(&self, outlets: BTreeSet<Outlet>) {
        self.lock().left_off = outlets;
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

    /// A driver call has ended: `known` is what the outlet's state is by it. A call that failed may
    /// have switched the outlet all the same.
    pub(super) fn call_ended(
        &self,
        outlet: &Outlet,
        known: Result<(State, Source), &DriverError>,
        may_have_acted: bool,
    ) {
        let now = SystemTime::now();
        let mut report = self.lock();
        report.call = None;
        let reachable = match &known {
            Ok(_) => Some(true),
            Err(error) if error.is_pdu_away() => Some(false),
            // It answered, if not what was hoped for.
            Err(
                DriverError::Refused(_)
                | DriverError::Unexpected { .. }
                | DriverError::LoginRefused(_),
            ) => Some(true),
            Err(_) => report.reachable,
        };
        if reachable != report.reachable {
            report.reachable = reachable;
            report.since = Some(now);
        }
        let has = match &known {
            Ok(_) => Some(true),
            Err(DriverError::NoSuchOutlet { .. }) => Some(false),
            Err(_) => None,
        };
        if let Some(has) = has
            && (report.seen.len() < MAX_OUTLETS || report.seen.contains_key(outlet))
        {
            report.seen.insert(outlet.clone(), has);
        }
        match known {
            Ok((state, source)) => {
                if report.outlets.len() < MAX_OUTLETS || report.outlets.contains_key(outlet) {
                    report.outlets.insert(
                        outlet.clone(),
                        Known {
                            state,
                            source,
                            at: now,
                        },
                    );
                }
            }
            Err(error) => {
                *report.failures.entry(error.word()).or_default() += 1;
                // What is not there, and that there is nothing to read with, is no trouble of the PDU.
                if !matches!(
                    error,
                    DriverError::CannotRead(_) | DriverError::NoSuchOutlet { .. }
                ) {
                    report.last_error = Some(LastError {
                        at: now,
                        outlet: outlet.clone(),
                        text: format!("outlet {outlet}: {error}"),
                    });
                }
                if may_have_acted {
                    // What it was is not known any more.
                    report.outlets.remove(outlet);
                }
            }
        }
    }
}
