//! `/api/v1/requests`: what is under way and what has been.

use super::views::RequestView;
use crate::dispatch::{Progress, Ticket};
use crate::listener::exchange::{Exchange, MAX_WAIT};
use crate::listener::problem::{self, Problem};
use crate::listener::response::Response;
use crate::request::FailureKind;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Requests listed when the client does not say.
const LISTED: u64 = 100;
const MOST_LISTED: u64 = 1000;

/// `GET /api/v1/requests`
pub(in crate::listener) fn list(exchange: &Exchange) -> Result<Response, Problem> {
    let limit = exchange.query.number("limit", 1, MOST_LISTED)?;
    let limit = usize::try_from(limit.unwrap_or(LISTED)).unwrap_or(usize::MAX);
    let all = exchange.dispatcher.requests();
    let newest = all
        .iter()
        .rev()
        .filter(|ticket| exchange.may_see(&ticket.request.target))
        .take(limit);
    let views: Vec<RequestView> = newest.map(|ticket| RequestView::new(ticket)).collect();
    Ok(Response::json(200, &json!({"requests": views})))
}

/// `GET /api/v1/requests/{id}`
pub(in crate::listener) fn one(exchange: Exchange) {
    let wait = match exchange.query.number("wait", 0, MAX_WAIT) {
        Ok(wait) => wait.unwrap_or(0),
        Err(problem) => return exchange.problem(problem),
    };
    match find(&exchange) {
        Err(problem) => exchange.problem(problem),
        Ok(ticket) if wait == 0 => exchange.respond(view(&ticket)),
        Ok(ticket) => exchange.respond_when_ended(&ticket, Some(Duration::from_secs(wait)), view),
    }
}

/// `DELETE /api/v1/requests/{id}`
pub(in crate::listener) fn cancel(exchange: Exchange) {
    match find(&exchange) {
        Err(problem) => exchange.problem(problem),
        Ok(ticket) if is_denied(&exchange, &ticket) => {
            exchange.problem(Problem::new(
                problem::FORBIDDEN,
                "the token's rights do not cover what this request does",
            ));
        }
        Ok(ticket) if exchange.dispatcher.cancel(&ticket) => exchange.respond(view(&ticket)),
        Ok(ticket) => {
            let detail = match ticket.progress() {
                Progress::Ended { .. } => "the request has ended",
                Progress::Running | Progress::Waiting => "the request is being carried out",
            };
            exchange.problem(Problem::new(problem::UNDER_WAY, detail));
        }
    }
}

/// Who may not ask for it may not take it back either.
fn is_denied(exchange: &Exchange, ticket: &Ticket) -> bool {
    let request = &ticket.request;
    exchange.permit(&request.target, request.action).is_err()
}

fn find(exchange: &Exchange) -> Result<Arc<Ticket>, Problem> {
    let id = exchange.part(0);
    let number = id
        .parse()
        .ok()
        .filter(|_| id.bytes().all(|b| b.is_ascii_digit()));
    number
        .and_then(|number| exchange.dispatcher.request(number))
        .filter(|ticket| exchange.may_see(&ticket.request.target))
        .ok_or_else(|| {
            let detail = format!("there is no request {id}: ended ones are forgotten in time");
            Problem::new(problem::UNKNOWN_REQUEST, detail)
        })
}

fn view(ticket: &Ticket) -> Response {
    Response::json(200, &RequestView::new(ticket))
}

/// The answer to a request that was waited for: itself, or its problem.
pub(super) fn ended(ticket: &Ticket) -> Response {
    match ticket.progress() {
        Progress::Ended {
            outcome: Err(failure),
            ..
        } => Problem::of(&failure, Some(ticket.id)).response(),
        Progress::Ended { .. } | Progress::Running | Progress::Waiting => view(ticket),
    }
}

/// The answer to one that is not waited for: where to follow it, or why it was not even queued.
pub(super) fn switched(ticket: &Ticket) -> Response {
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
            return Problem::of(&failure, Some(ticket.id)).response();
        }
    }
    Response::json(202, &RequestView::new(ticket))
        .with("Location", format!("/api/v1/requests/{}", ticket.id))
}
