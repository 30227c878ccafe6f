//! `/api/v1/requests`: what is under way and what has been.

use super::call::{Call, MAX_WAIT};
use super::problem::{self, Problem};
use super::views::RequestView;
use crate::dispatch::{Progress, Ticket};
use crate::listener::exchange::Answer;
use crate::request::FailureKind;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Requests listed when the client does not say.
const LISTED: u64 = 100;
const MOST_LISTED: u64 = 1000;

/// `GET /api/v1/requests`
pub(super) fn list(call: &Call) -> Result<Answer, Problem> {
    let limit = call.query.number("limit", 1, MOST_LISTED)?;
    let limit = usize::try_from(limit.unwrap_or(LISTED)).unwrap_or(usize::MAX);
    let all = call.api.dispatcher.requests();
    let newest = all
        .iter()
        .rev()
        .filter(|ticket| call.may_see(&ticket.request.target))
        .take(limit);
    let views: Vec<RequestView> = newest.map(|ticket| RequestView::new(ticket)).collect();
    Ok(Answer::json(200, &json!({"requests": views})))
}

/// `GET /api/v1/requests/{id}`
pub(super) fn one(call: Call) {
    let wait = match call.query.number("wait", 0, MAX_WAIT) {
        Ok(wait) => wait.unwrap_or(0),
        Err(problem) => return call.problem(problem),
    };
    match find(&call) {
        Err(problem) => call.problem(problem),
        Ok(ticket) if wait == 0 => call.answer(view(&ticket)),
        Ok(ticket) => call.answer_when_ended(&ticket, Some(Duration::from_secs(wait)), view),
    }
}

/// `DELETE /api/v1/requests/{id}`
pub(super) fn cancel(call: Call) {
    match find(&call) {
        Err(problem) => call.problem(problem),
        Ok(ticket) if is_denied(&call, &ticket) => {
            call.problem(Problem::new(
                problem::FORBIDDEN,
                "the token's rights do not cover what this request does",
            ));
        }
        Ok(ticket) if ticket.cancel() => call.answer(view(&ticket)),
        Ok(ticket) => {
            let detail = match ticket.progress() {
                Progress::Ended { .. } => "the request has ended",
                Progress::Running | Progress::Waiting => "the request is being carried out",
            };
            call.problem(Problem::new(problem::UNDER_WAY, detail));
        }
    }
}

/// Who may not ask for it may not take it back either.
fn is_denied(call: &Call, ticket: &Ticket) -> bool {
    let request = &ticket.request;
    call.permit(&request.target, request.action).is_err()
}

fn find(call: &Call) -> Result<Arc<Ticket>, Problem> {
    let id = call.part(0);
    let number = id
        .parse()
        .ok()
        .filter(|_| id.bytes().all(|b| b.is_ascii_digit()));
    number
        .and_then(|number| call.api.dispatcher.request(number))
        .filter(|ticket| call.may_see(&ticket.request.target))
        .ok_or_else(|| {
            let detail = format!("there is no request {id}: ended ones are forgotten in time");
            Problem::new(problem::UNKNOWN_REQUEST, detail)
        })
}

fn view(ticket: &Ticket) -> Answer {
    Answer::json(200, &RequestView::new(ticket))
}

/// The answer to a request that was waited for: itself, or its problem.
pub(super) fn ended(ticket: &Ticket) -> Answer {
    match ticket.progress() {
        Progress::Ended {
            outcome: Err(failure),
            ..
        } => Problem::of(&failure, Some(ticket.id)).answer(),
        Progress::Ended { .. } | Progress::Running | Progress::Waiting => view(ticket),
    }
}

/// The answer to one that is not waited for: where to follow it, or why it was not even queued.
pub(super) fn switched(ticket: &Ticket) -> Answer {
    if let Progress::Ended {
        outcome: Err(failure),
        ..
    } = ticket.progress()
    {
        use FailureKind as F;
        let refused = matches!(
            failure.kind,
            F::BadRequest
                | F::UnknownPdu
                | F::UnknownAlias
                | F::NoSuchOutlet
                | F::QueueFull
                | F::Stopping
        );
        if refused {
            return Problem::of(&failure, Some(ticket.id)).answer();
        }
    }
    Answer::json(202, &RequestView::new(ticket))
        .with("Location", format!("/api/v1/requests/{}", ticket.id))
}
