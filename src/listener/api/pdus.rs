//! `/api/v1/pdus`: the list, one PDU, its outlets.

use super::call::{Call, Query};
use super::problem::{self, Problem};
use super::requests::{ended, switched};
use super::views::{OutletView, PduView, state_of};
use super::{Api, views};
use crate::dispatch::{Known, PduInfo, Progress, Source, Ticket};
use crate::listener::exchange::Answer;
use crate::request::{
    Action, Delay, FailureKind, Outcome, Outlet, PduName, Request, State, Switch, Target,
};
use serde::Deserialize;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A list this young is good enough for everybody: pollers share one.
pub(super) const FRESH: Duration = Duration::from_millis(100);
/// How often lists look for states that are to be read again.
const LOOK: Duration = Duration::from_millis(500);
/// How long an outlet whose reading failed is left in peace by lists, and its PDU if that did not
/// answer.
const SORE: Duration = Duration::from_secs(15);

/// `GET /api/v1/pdus`
pub(super) fn list(call: &Call) -> Result<Answer, Problem> {
    let refresh = refresh_of(&call.query)?;
    let mut pdus = call.api.dispatcher.pdus();
    if call.caller.may_everything() {
        if let Some(age) = refresh {
            call.api.refresh_all(&pdus, age);
        }
    } else {
        // One that may see a part gets a list of its own, made of what it may see.
        pdus.retain(|info| call.caller.may_see(info.name.as_str()));
        for info in &pdus {
            if let Some(age) = refresh
                && may_read(call, info)
            {
                call.api.refresh(info, age);
            }
        }
    }
    let views: Vec<PduView<'_>> = pdus.iter().map(PduView::new).collect();
    Ok(Answer::json(200, &HashMap::from([("pdus", views)])))
}

/// `GET /api/v1/pdus/{pdu}`
pub(super) fn one(call: &Call) -> Result<Answer, Problem> {
    let refresh = refresh_of(&call.query)?;
    let info = call.api.dispatcher.pdu(&call.part(0));
    let info = info
        .filter(|info| call.caller.may_see(info.name.as_str()))
        .ok_or_else(|| call.unknown_pdu(&call.part(0)))?;
    if let Some(age) = refresh
        && may_read(call, &info)
    {
        call.api.refresh(&info, age);
    }
    Ok(Answer::json(200, &PduView::new(&info)))
}

/// May the caller have all of its states read?
fn may_read(call: &Call, info: &PduInfo) -> bool {
    let outlets = info.outlets.keys().chain(&info.sought);
    let outlets = outlets.map(|outlet| (info.name.as_str(), outlet));
    call.caller.may_all(outlets, Action::State)
}

fn refresh_of(query: &Query) -> Result<Option<Duration>, Problem> {
    let seconds = query.number("refresh", 1, 86_400)?;
    Ok(seconds.map(Duration::from_secs))
}

/// `GET …/state`
pub(super) fn state(call: Call) {
    match call.query.flag("last", false) {
        Err(problem) => call.problem(problem),
        Ok(true) => outlet(call),
        Ok(false) => match call.submit(call.outlet(), Action::State, None) {
            Err(problem) => call.problem(problem),
            Ok(ticket) => call.answer_when_ended(&ticket, None, read),
        },
    }
}

/// `GET /api/v1/pdus/{pdu}/outlets/{outlet}`: as last known.
pub(super) fn outlet(call: Call) {
    let (pdu, outlet) = (call.part(0), Outlet::new(call.part(1)));
    if !call.caller.may_see(&pdu) {
        let problem = call.unknown_pdu(&pdu);
        return call.problem(problem);
    }
    let may_see = |name: &str| call.caller.may_see(name);
    let outlet = match call.api.dispatcher.outlet(&pdu, &outlet, may_see) {
        Ok(outlet) => outlet,
        Err(failure) => return call.problem(&failure),
    };
    let Some(info) = call.api.dispatcher.pdu(&pdu) else {
        let problem = call.unknown_pdu(&pdu);
        return call.problem(problem);
    };
    let name = info.outlets.get(&outlet).and_then(Option::as_deref);
    let known = info.report.outlets.get(&outlet);
    call.json(200, &OutletView::new(&outlet, name, known));
}

/// The answer to a state that was read.
fn read(ticket: &Ticket) -> Answer {
    let (Progress::Ended { outcome, .. }, Target::Outlet { outlet, .. }) =
        (ticket.progress(), &ticket.request.target)
    else {
        return Answer::json(200, &views::RequestView::new(ticket));
    };
    match outcome {
        Err(failure) => Problem::of(&failure, Some(ticket.id)).answer(),
        Ok(done) => {
            let known = Known {
                state: done
                    .state
                    .unwrap_or_else(|| State::Unknown("nothing".into())),
                source: Source::Read,
                at: SystemTime::now(),
            };
            Answer::json(200, &OutletView::new(outlet, None, Some(&known)))
        }
    }
}

/// The body of `PUT …/state`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateBody {
    state: Wanted,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    On,
    Off,
}

/// The body of `POST …/reboot`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RebootBody {
    delay: Option<f64>,
}

/// A delay from a body.
pub(super) fn delay_of(seconds: Option<f64>) -> Result<Option<Delay>, Problem> {
    let wrong = |why: String| Problem::new(problem::BAD_VALUE, why);
    match seconds {
        None => Ok(None),
        Some(seconds) if seconds < 0.0 => Err(wrong(format!(
            "delay: expected 0 to 86400 seconds, got {seconds}"
        ))),
        Some(seconds) => Delay::from_secs(seconds).map(Some).map_err(wrong),
    }
}

/// `PUT …/state`
pub(super) fn switch(call: Call) {
    let target = call.outlet();
    switch_target(call, target);
}

/// Switches what the target names, as the body says.
pub(super) fn switch_target(mut call: Call, target: Target) {
    match call.body::<StateBody>(false) {
        Err(problem) => call.problem(problem),
        Ok(body) => {
            let to = match body.state {
                Wanted::On => Switch::On,
                Wanted::Off => Switch::Off,
            };
            act(call, target, Action::Switch(to), None);
        }
    }
}

/// `POST …/reboot`
pub(super) fn reboot(call: Call) {
    let target = call.outlet();
    reboot_target(call, target);
}

/// Reboots what the target names.
pub(super) fn reboot_target(mut call: Call, target: Target) {
    let delay = call
        .body::<RebootBody>(true)
        .and_then(|body| delay_of(body.delay));
    match delay {
        Err(problem) => call.problem(problem),
        Ok(delay) => act(call, target, Action::Reboot, delay),
    }
}

/// Submits, and answers when it has ended, or at once with `wait=false`.
fn act(call: Call, target: Target, action: Action, delay: Option<Delay>) {
    let wait = match call.query.flag("wait", true) {
        Ok(wait) => wait,
        Err(problem) => return call.problem(problem),
    };
    let ticket = match call.submit(target, action, delay) {
        Ok(ticket) => ticket,
        Err(problem) => return call.problem(problem),
    };
    if wait {
        call.answer_when_ended(&ticket, None, ended);
    } else {
        call.answer(switched(&ticket));
    }
}

/// `GET /api/v1/aliases/{alias}/state`, once read.
pub(super) fn alias_read(ticket: &Ticket) -> Answer {
    let (Progress::Ended { outcome, .. }, Target::Alias(alias)) =
        (ticket.progress(), &ticket.request.target)
    else {
        return Answer::json(200, &views::RequestView::new(ticket));
    };
    match outcome {
        Err(failure) => Problem::of(&failure, Some(ticket.id)).answer(),
        Ok(done) => {
            let state = done
                .state
                .unwrap_or_else(|| State::Unknown("nothing".into()));
            let (word, detail) = state_of(&state);
            let mut body = serde_json::json!({"alias": alias, "state": word});
            if let (Some(detail), Some(body)) = (detail, body.as_object_mut()) {
                body.insert("detail".into(), detail.into());
            }
            Answer::json(200, &body)
        }
    }
}

/// Reads that lists ask for: one at a time per PDU, and only while nobody waits for that PDU.
#[derive(Debug, Default)]
pub(super) struct Refresher {
    pdus: Mutex<HashMap<PduName, Refresh>>,
    looked: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Refresh {
    /// Outlets still to read.
    left: VecDeque<Outlet>,
    /// A read is under way.
    is_busy: bool,
    not_before: Option<Instant>,
    /// Outlets whose reading failed, and when.
    sore: HashMap<Outlet, Instant>,
    /// When all outlets were last gone through.
    looked: Option<Instant>,
}

impl Refresher {
    fn lock(&self) -> MutexGuard<'_, HashMap<PduName, Refresh>> {
        self.pdus.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Api {
    fn refresh_all(self: &Arc<Self>, pdus: &[PduInfo], age: Duration) {
        {
            let looked = &self.refresher.looked;
            let mut looked = looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.is_some_and(|looked| looked.elapsed() < LOOK) {
                return;
            }
            *looked = Some(Instant::now());
        }
        for info in pdus {
            self.refresh(info, age);
        }
    }

    fn refresh(self: &Arc<Self>, info: &PduInfo, age: Duration) {
        if !info.reads_back || info.waiting > 0 {
            return;
        }
        let now = Instant::now();
        let mut all = self.refresher.lock();
        let refresh = all.entry(info.name.clone()).or_default();
        let too_soon = refresh.not_before.is_some_and(|until| now < until)
            || refresh.looked.is_some_and(|looked| now < looked + FRESH);
        if refresh.is_busy || too_soon {
            return;
        }
        refresh.looked = Some(now);
        let is_old = |known: &Known| known.at.elapsed().is_ok_and(|known| known > age);
        let sore = &mut refresh.sore;
        sore.retain(|outlet, _| info.outlets.contains_key(outlet) || info.sought.contains(outlet));
        let is_due = |outlet: &&Outlet| {
            info.report.outlets.get(*outlet).is_none_or(is_old)
                && sore.get(*outlet).is_none_or(|failed| now >= *failed + SORE)
        };
        let mut left: Vec<Outlet> = info.outlets.keys().filter(is_due).cloned().collect();
        left.extend(info.sought.first().filter(is_due).cloned());
        // One that failed keeps no other waiting, nor does it wait for ever.
        left.sort_by_key(|outlet| sore.get(outlet).copied());
        refresh.left = left.into();
        refresh.is_busy = true;
        drop(all);
        self.read_next(&info.name);
    }

    /// A read has ended. The outlet after one that was sought and found is sought in turn.
    fn has_read(self: &Arc<Self>, pdu: &PduName, outlet: &Outlet, outcome: &Outcome) {
        let next = self.dispatcher.pdu(pdu.as_str());
        let next = next.and_then(|info| info.sought.first().cloned());
        let mut all = self.refresher.lock();
        let Some(refresh) = all.get_mut(pdu) else {
            return;
        };
        match outcome {
            Ok(_) => {
                refresh.sore.remove(outlet);
                let is_new = |next: &Outlet| {
                    next != outlet
                        && !refresh.left.contains(next)
                        && !refresh.sore.contains_key(next)
                };
                refresh.left.extend(next.filter(is_new));
            }
            Err(failure) => {
                let now = Instant::now();
                refresh.sore.insert(outlet.clone(), now);
                // All else may be the PDU's: a wrong password is not tried with each outlet.
                let is_of_outlet = matches!(
                    failure.kind,
                    FailureKind::NoSuchOutlet | FailureKind::CannotRead
                );
                if !is_of_outlet {
                    refresh.left.clear();
                    refresh.not_before = Some(now + SORE);
                }
            }
        }
    }

    /// Submits the next background read of this PDU, which submits the one after it.
    fn read_next(self: &Arc<Self>, pdu: &PduName) {
        let next = {
            let mut all = self.refresher.lock();
            let Some(refresh) = all.get_mut(pdu) else {
                return;
            };
            let next = refresh.left.pop_front();
            refresh.is_busy = next.is_some();
            next
        };
        let Some(outlet) = next else { return };
        let request = Request {
            client: "refresh".into(),
            target: Target::Outlet {
                pdu: pdu.to_string(),
                outlet: outlet.clone(),
            },
            action: Action::State,
            delay: None,
            is_background: true,
            may_know_names: false,
        };
        let (api, pdu) = (Arc::clone(self), pdu.clone());
        let then = Box::new(move |outcome: Outcome| {
            api.has_read(&pdu, &outlet, &outcome);
            api.read_next(&pdu);
        });
        drop(self.dispatcher.submit(request, then));
    }
}
