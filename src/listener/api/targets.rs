//! `…/state` and `…/reboot` of an outlet or of an alias.

use super::requests::{ended, switched};
use super::views::{OutletView, RequestView, state_of};
use crate::dispatch::{LastState, Progress, Ticket};
use crate::listener::exchange::Exchange;
use crate::listener::problem::{self, Problem};
use crate::listener::response::Response;
use crate::request::{Action, Delay, State, Switch, Target};
use serde::Deserialize;
use serde_json::json;
use std::time::SystemTime;

/// The body of `PUT …/state`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateBody {
    state: Switch,
}

/// The body of `POST …/reboot`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RebootBody {
    delay: Option<f64>,
}

/// `GET …/state`: read from the PDU.
pub(in crate::listener) fn state(exchange: Exchange) {
    match exchange.submit(exchange.target(), Action::State, None) {
        Err(problem) => exchange.problem(problem),
        Ok(ticket) => exchange.respond_when_ended(&ticket, None, read),
    }
}

/// `PUT …/state`
pub(in crate::listener) fn switch(mut exchange: Exchange) {
    match exchange.body::<StateBody>(false) {
        Err(problem) => exchange.problem(problem),
        Ok(body) => act(exchange, Action::Switch(body.state), None),
    }
}

/// `POST …/reboot`
pub(in crate::listener) fn reboot(mut exchange: Exchange) {
    let body = exchange.body::<RebootBody>(true);
    match body.and_then(|body| delay_of(body.delay)) {
        Err(problem) => exchange.problem(problem),
        Ok(delay) => act(exchange, Action::Reboot, delay),
    }
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

/// Submits, and answers when it has ended, or at once with `wait=false`.
fn act(exchange: Exchange, action: Action, delay: Option<Delay>) {
    let wait = match exchange.query.flag("wait", true) {
        Ok(wait) => wait,
        Err(problem) => return exchange.problem(problem),
    };
    let ticket = match exchange.submit(exchange.target(), action, delay) {
        Ok(ticket) => ticket,
        Err(problem) => return exchange.problem(problem),
    };
    if wait {
        exchange.respond_when_ended(&ticket, None, ended);
    } else {
        exchange.respond(switched(&ticket));
    }
}

/// The response with the state.
fn read(ticket: &Ticket) -> Response {
    let Progress::Ended { outcome, .. } = ticket.progress() else {
        return Response::json(200, &RequestView::new(ticket));
    };
    let state = match outcome {
        Err(failure) => return Problem::of(&failure, Some(ticket.id)).response(),
        Ok(done) => done.state,
    };
    let state = state.unwrap_or_else(|| State::Unknown("nothing".into()));
    match &ticket.request.target {
        Target::Outlet { outlet, .. } => {
            let known = LastState {
                state,
                switched: None,
                at: SystemTime::now(),
            };
            Response::json(200, &OutletView::new(outlet, None, Some(&known)))
        }
        Target::Alias(alias) => {
            let (word, detail) = state_of(&state);
            let mut body = json!({"alias": alias, "state": word});
            if let (Some(detail), Some(body)) = (detail, body.as_object_mut()) {
                body.insert("detail".into(), detail.into());
            }
            Response::json(200, &body)
        }
    }
}
