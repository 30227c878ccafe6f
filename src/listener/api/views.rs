//! The JSON of the API, made from the dispatcher's data.

use crate::dispatch::{LastState, PduInfo, Progress, Ticket};
use crate::listener::problem::Problem;
use crate::request::{Outcome, Outlet, Proof, State, Target};
use serde::Serialize;
use serde_json::{Value, json};
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
    /// False: the daemon refuses every request for it.
    served: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<&'a str>,
    reachable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    waiting: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<Value>,
    /// Null while nobody knows how many it has.
    outlet_count: Option<usize>,
    outlets: Vec<OutletView<'a>>,
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
    pub(super) fn new(
        outlet: &'a Outlet,
        name: Option<&'a str>,
        known: Option<&'a LastState>,
    ) -> Self {
        let (state, detail) = known.map_or((None, None), |known| state_of(&known.state));
        Self {
            outlet: outlet.as_str(),
            name,
            state,
            detail,
            source: known.map(|known| match known.switched {
                None => "read",
                Some(Proof::State) => "switched",
                Some(Proof::Reply | Proof::None) => "unconfirmed",
            }),
            at: known.map(|known| when(known.at)),
            age: known.map(|known| seconds(known.at.elapsed().unwrap_or_default())),
        }
    }
}

/// The word for a state, and the PDU's words when it is neither on nor off.
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
            last_error: report.last_error.as_ref().map(|error| {
                let (outlet, text) = (error.outlet.as_str(), &error.text);
                json!({"at": when(error.at), "outlet": outlet, "text": text})
            }),
            outlet_count: info.outlet_count,
            outlets: outlets
                .into_iter()
                .map(|(outlet, name)| {
                    OutletView::new(
                        outlet,
                        name.as_deref(),
                        report.outlets.get(outlet).map(Box::as_ref),
                    )
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

/// A request and how far it is.
#[derive(Debug, Serialize)]
pub(super) struct RequestView {
    id: u64,
    client: String,
    target: Value,
    command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<f64>,
    progress: &'static str,
    submitted: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    took: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(flatten)]
    end: Option<ResultView>,
}

impl RequestView {
    pub(super) fn new(ticket: &Ticket) -> Self {
        let request = &ticket.request;
        let progress = ticket.progress();
        let (word, ended) = match &progress {
            Progress::Waiting => ("waiting", None),
            Progress::Running => ("running", None),
            Progress::Ended { outcome, took } => ("ended", Some((outcome, took))),
        };
        Self {
            id: ticket.id,
            client: request.client.to_string(),
            target: match &request.target {
                Target::Outlet { pdu, outlet } => json!({"pdu": pdu, "outlet": outlet.as_str()}),
                Target::Alias(alias) => json!({"alias": alias}),
            },
            command: request.action.to_string(),
            delay: request.delay.map(|delay| delay.duration().as_secs_f64()),
            progress: word,
            submitted: when(ticket.submitted),
            took: ended.map(|(_, took)| seconds(*took)),
            attempts: ended.and_then(|(outcome, _)| Some(outcome.as_ref().ok()?.attempts)),
            end: ended.map(|(outcome, _)| ResultView::of(outcome, ticket.id)),
        }
    }
}

/// How a request ended; of one of many, with its target and number.
#[derive(Debug, Default, Serialize)]
pub(super) struct ResultView {
    /// The target, as a request for it alone would name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pdu: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outlet: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<u64>,
    /// It is done; a request for a state has one that is on or off.
    pub(super) ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Switched, and the PDU's state does not confirm it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unconfirmed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

impl ResultView {
    pub(super) fn new(ticket: &Ticket) -> Self {
        let (target, pdu, outlet, alias) = match &ticket.request.target {
            Target::Outlet { pdu, outlet } => {
                let target = format!("{pdu}:{outlet}");
                (target, Some(pdu.clone()), Some(outlet.to_string()), None)
            }
            Target::Alias(alias) => (format!("@{alias}"), None, None, Some(alias.clone())),
        };
        Self {
            target: Some(target),
            pdu,
            outlet,
            alias,
            request: Some(ticket.id),
            ..match ticket.progress() {
                Progress::Ended { outcome, .. } => Self::of(&outcome, ticket.id),
                Progress::Running | Progress::Waiting => Self::default(),
            }
        }
    }

    fn of(outcome: &Outcome, request: u64) -> Self {
        let done = match outcome {
            Ok(done) => done,
            Err(failure) => {
                return Self {
                    problem: Some(Problem::of(failure, Some(request))),
                    ..Self::default()
                };
            }
        };
        let (state, detail) = done.state.as_ref().map_or((None, None), state_of);
        Self {
            ok: !matches!(done.state, Some(State::Unknown(_))),
            state,
            detail: detail.map(str::to_owned),
            unconfirmed: done.proof < Proof::State,
            ..Self::default()
        }
    }
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
