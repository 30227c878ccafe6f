//! `GET /power/control/{on,off,reboot,get-status}?hostname=&port=[&delay=]`, or `?alias=`: the
//! paths, words and statuses of the Python program. The answer comes after the work is done.

use super::exchange::{Exchange, Query};
use super::response::Response;
use crate::access::Denied;
use crate::dispatch::{Progress, Ticket};
use crate::request::{Action, Delay, Failure, FailureKind, Outlet, State, Target};

/// The beginning of the old paths.
const OLD: &str = "/power/";
/// The one folder below it that has anything in it.
const CONTROL: &str = "/power/control/";

/// The parameters of the old paths.
pub(super) const PARAMETERS: &[&str] = &["hostname", "port", "alias", "delay"];

/// Answers on old paths are plain text, and HEAD does nothing there.
pub(super) fn is_old(path: &str) -> bool {
    path.starts_with(OLD)
}

/// Carries the command out, and answers then.
pub(super) fn control(exchange: Exchange, action: Action) {
    let (target, delay) = match asked(&exchange.query) {
        Ok(asked) => asked,
        Err(failure) => return exchange.respond(refused(&failure.to_string())),
    };
    if let Err(denied) = exchange.permit(&target, action) {
        return exchange.respond(turned_away(&denied));
    }
    let ticket = exchange.submit_permitted(target, action, delay);
    exchange.respond_when_ended(&ticket, None, ended);
}

/// Reads a query as Python's `parse_qs` does: the first value of a name counts, blank values are
/// absent, unknown names are ignored.
pub fn parse(query: &str) -> Result<(Target, Option<Delay>), Failure> {
    asked(&Query::read_leniently(query, PARAMETERS))
}

fn asked(query: &Query) -> Result<(Target, Option<Delay>), Failure> {
    let bad = |reason: &str| Failure::new(FailureKind::BadRequest, reason);
    let target = match (query.get("hostname"), query.get("port"), query.get("alias")) {
        (Some(pdu), Some(port), None) => Target::Outlet {
            pdu: pdu.to_owned(),
            outlet: Outlet::new(port),
        },
        (None, None, Some(alias)) => Target::Alias(alias.to_owned()),
        (_, _, Some(_)) => return Err(bad("alias: must not be combined with hostname or port")),
        (None, _, None) => {
            return Err(bad(
                "hostname: missing parameter, expected the PDU's name (or alias=)",
            ));
        }
        (Some(_), None, None) => return Err(bad("port: missing parameter, expected the outlet")),
    };
    let delay = query.get("delay").map(str::parse).transpose();
    let delay = delay.map_err(|message: String| bad(&message))?;
    Ok((target, delay))
}

/// 200 for a success, 503 for anything else, with the reason.
fn ended(ticket: &Ticket) -> Response {
    let Progress::Ended { outcome, .. } = ticket.progress() else {
        return refused("the request has not ended");
    };
    match outcome {
        Ok(done) => match done.state {
            None => Response::text(200, "OK - accepted request\n"),
            Some(State::On) => Response::text(200, "on\n"),
            Some(State::Off) => Response::text(200, "off\n"),
            Some(unknown @ State::Unknown(_)) => refused(&format!("the state is {unknown}")),
        },
        Err(failure) => refused(&failure.to_string()),
    }
}

fn refused(why: &str) -> Response {
    Response::text(503, &format!("Invalid request: {why}\n"))
}

/// The answer to a client without the rights.
pub(super) fn turned_away(denied: &Denied) -> Response {
    let body = format!("{}: {}\n", denied.title(), denied.reason);
    Response::text(denied.status(), &body)
}

/// The answer to a method that an old path does not have.
pub(super) fn wrong_method() -> Response {
    Response::text(405, "Method Not Allowed: expected GET\n").with("Allow", "GET")
}

/// The answer to a path that leads nowhere and belongs to nothing newer.
pub(super) fn not_found(path: &str) -> Response {
    match path.starts_with(CONTROL) {
        false => Response::text(404, "Not Found\n"),
        true => {
            let commands = Action::COMMANDS;
            let text = format!("Not Found: expected {CONTROL} and {commands}\n");
            Response::text(404, &text)
        }
    }
}
