//! What the API says: its JSON, made from what the dispatcher knows.

use super::problem::Problem;
use crate::dispatch::{Known, PduInfo, Progress, Source, Ticket};
use crate::request::{Outcome, Outlet, Proof, State, Target};
use serde::Serialize;
use std::cmp::Ordering;
use std::time::SystemTime;

/// A PDU.
#[derive(Debug, Serialize)]
pub(super) struct PduView<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<&'a str>,
    driver: &'a str,
    reads_back: bool,
    /// False: every request for it is refused.
    served: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<&'a str>,
    reachable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    waiting: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<LastError<'a>>,
    /// Null while it is not known how many it has.
    outlet_count: Option<usize>,
    outlets: Vec<OutletView<'a>>,
}

#[derive(Debug, Serialize)]
struct LastError<'a> {
    at: String,
    outlet: &'a str,
    text: &'a str,
}

/// An outlet and its last known state.
#[derive(Debug, Serialize)]
pub(super) struct OutletView<'a> {
    outlet: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    source: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age: Option<f64>,
}

impl<'a> OutletView<'a> {
    pub(super) fn new(outlet: &'a Outlet, name: Option<&'a str>, known: Option<&'a Known>) -> Self {
        let (state, detail) = known.map_or((None, None), |known| state_of(&known.state));
        Self {
            outlet: outlet.as_str(),
            name,
            state,
            detail,
            source: known.map(|known| match known.source {
                Source::Read => "read",
                Source::Switched => "switched",
                Source::Unconfirmed => "unconfirmed",
            }),
            at: known.map(|known| when(known.at)),
            age: known.map(|known| seconds(known.at.elapsed().unwrap_or_default())),
        }
    }
}

/// The word for a state, and what was read when it is neither.
pub(super) fn state_of(state: &State) -> (Option<&'static str>, Option<&str>) {
    match state {
        State::On => (Some("on"), None),
        State::Off => (Some("off"), None),
        State::Unknown(read) => (Some("unknown"), Some(read)),
    }
}

impl<'a> PduView<'a> {
    pub(super) fn new(info: &'a PduInfo) -> Self {
        let report = &info.report;
        let mut outlets: Vec<_> = info.outlets.iter().collect();
        outlets.sort_by(|(a, _), (b, _)| as_people_count(a, b));
        Self {
            name: info.name.as_str(),
            about: info.about.as_deref(),
            driver: &info.driver,
            reads_back: info.reads_back,
            served: info.is_served,
            broken: info.broken.as_deref(),
            reachable: report.reachable,
            since: report.since.map(when),
            waiting: info.waiting,
            last_error: report.last_error.as_ref().map(|error| LastError {
                at: when(error.at),
                outlet: error.outlet.as_str(),
                text: &error.text,
            }),
            outlet_count: info.outlet_count,
            outlets: outlets
                .into_iter()
                .map(|(outlet, name)| {
                    OutletView::new(outlet, name.as_deref(), report.outlets.get(outlet))
                })
                .collect(),
        }
    }
}

/// Numbers by size, before names.
fn as_people_count(a: &Outlet, b: &Outlet) -> Ordering {
    match (a.number(), b.number()) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// What a request is aimed at.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum TargetView {
    Outlet { pdu: String, outlet: String },
    Alias { alias: String },
}

impl From<&Target> for TargetView {
    fn from(target: &Target) -> Self {
        match target {
            Target::Outlet { pdu, outlet } => Self::Outlet {
                pdu: pdu.clone(),
                outlet: outlet.as_str().to_owned(),
            },
            Target::Alias(alias) => Self::Alias {
                alias: alias.clone(),
            },
        }
    }
}

/// A request and how far it is.
#[derive(Debug, Serialize)]
pub(super) struct RequestView {
    id: u64,
    client: String,
    target: TargetView,
    command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<f64>,
    progress: &'static str,
    submitted: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    took: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ok: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    /// Switched, and the PDU's state does not confirm it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unconfirmed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

impl RequestView {
    pub(super) fn new(ticket: &Ticket) -> Self {
        let request = &ticket.request;
        let mut view = Self {
            id: ticket.id,
            client: request.client.to_string(),
            target: (&request.target).into(),
            command: request.action.to_string(),
            delay: request.delay.map(|delay| delay.duration().as_secs_f64()),
            progress: "waiting",
            submitted: when(ticket.submitted),
            took: None,
            ok: None,
            state: None,
            detail: None,
            attempts: None,
            unconfirmed: false,
            problem: None,
        };
        match ticket.progress() {
            Progress::Waiting => {}
            Progress::Running => view.progress = "running",
            Progress::Ended { outcome, took } => {
                view.progress = "ended";
                view.took = Some(seconds(took));
                view.ok = Some(is_ok(&outcome));
                match outcome {
                    Ok(done) => {
                        view.attempts = Some(done.attempts);
                        view.unconfirmed = done.proof < Proof::State;
                        if let Some(state) = &done.state {
                            let (word, detail) = state_of(state);
                            (view.state, view.detail) = (word, detail.map(str::to_owned));
                        }
                    }
                    Err(failure) => view.problem = Some(Problem::of(&failure, Some(ticket.id))),
                }
            }
        }
        view
    }
}

/// Was it done, and is a state that was asked for known?
pub(super) fn is_ok(outcome: &Outcome) -> bool {
    matches!(outcome, Ok(done) if !matches!(done.state, Some(State::Unknown(_))))
}

/// RFC 3339, in UTC, to the millisecond.
pub(super) fn when(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at)
        .and_then(|at| at.round(jiff::Unit::Millisecond))
        .map_or_else(|_| "1970-01-01T00:00:00Z".to_owned(), |at| at.to_string())
}

/// Seconds, to the millisecond.
pub(super) fn seconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
