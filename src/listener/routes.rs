//! From a request to its operation: one table of all paths.
//!
//! ```text
//!   http ──> OPERATIONS ─┬─> handler(Exchange) ──> Dispatcher::submit ──> Ticket
//!                        │      │                                            │ follow
//!                        │      └── answers at once                worker ───┴──> answers
//!                        └─> lists ── shows, and answers
//! ```
//!
//! A handler runs on the `http` thread and never waits: it answers, or leaves its asker to a
//! ticket's follower (the worker's thread) and to the front's clock, whichever comes first. The
//! thread `lists` shows what is only to be shown.
//!
//! Invariant: nothing under `/api` switches by GET.

use super::api::{many, pdus, requests, targets};
use super::exchange::{Effect, Exchange, Operation, Query, Shared, decoded};
use super::guard::{self, Guard};
use super::lists::Lists;
use super::problem::{self, Problem};
use super::response::{HttpAsker, Response};
use super::{health, page, power};
use crate::access::{Caller, Denied, DeniedKind, Peer};
use crate::dispatch::Dispatcher;
use crate::request::{Action, Switch};
use Effect::{Now, Shows};
use log::debug;
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

/// The document that describes the API; a test holds the operations against it.
pub const OPENAPI: &str = include_str!("../../share/openapi.json");

static OPERATIONS: &[Operation] = &[
    old("/power/control/on", |on| {
        power::control(on, Action::Switch(Switch::On));
    }),
    old("/power/control/off", |off| {
        power::control(off, Action::Switch(Switch::Off));
    }),
    old("/power/control/reboot", |reboot| {
        power::control(reboot, Action::Reboot);
    }),
    old("/power/control/get-status", |read| {
        power::control(read, Action::State);
    }),
    get("/", &[], Shows(NOW, page::index)),
    get("/page.js", &[], Shows(NOW, page::script)),
    get("/page.css", &[], Shows(NOW, page::style)),
    get("/healthz", &[], Now(health::healthz)),
    get(
        "/metrics",
        &[],
        Shows(Shared::InACrowd(pdus::FRESH), health::metrics),
    ),
    get("/api/v1", &[], Shows(NOW, root)),
    get("/api/v1/openapi.json", &[], Shows(NOW, openapi)),
    get(
        PDUS,
        &["refresh"],
        Shows(Shared::For(pdus::FRESH), pdus::list),
    ),
    get("/api/v1/pdus/{pdu}", &["refresh"], Shows(NOW, pdus::one)),
    get(OUTLET, &[], Now(pdus::outlet)),
    get(OUTLET_STATE, &["last"], Now(pdus::state)),
    operation("PUT", OUTLET_STATE, &["wait"], targets::switch),
    operation("POST", OUTLET_REBOOT, &["wait"], targets::reboot),
    get("/api/v1/aliases", &[], Shows(NOW, pdus::aliases)),
    get(ALIAS_STATE, &[], Now(targets::state)),
    operation("PUT", ALIAS_STATE, &["wait"], targets::switch),
    operation("POST", ALIAS_REBOOT, &["wait"], targets::reboot),
    get(REQUESTS, &["limit"], Shows(NOW, requests::list)),
    operation("POST", REQUESTS, &[], many::post),
    get(REQUEST, &["wait"], Now(requests::one)),
    operation("DELETE", REQUEST, &[], requests::cancel),
];

const PDUS: &str = "/api/v1/pdus";
const OUTLET: &str = "/api/v1/pdus/{pdu}/outlets/{outlet}";
const OUTLET_STATE: &str = "/api/v1/pdus/{pdu}/outlets/{outlet}/state";
const OUTLET_REBOOT: &str = "/api/v1/pdus/{pdu}/outlets/{outlet}/reboot";
const ALIAS_STATE: &str = "/api/v1/aliases/{alias}/state";
const ALIAS_REBOOT: &str = "/api/v1/aliases/{alias}/reboot";
const REQUESTS: &str = "/api/v1/requests";
const REQUEST: &str = "/api/v1/requests/{id}";

/// Shows what is when the client asks.
const NOW: Shared = Shared::Never;

const fn old(path: &'static str, handler: fn(Exchange)) -> Operation {
    operation("GET", path, power::PARAMETERS, handler)
}

const fn get(path: &'static str, parameters: &'static [&'static str], does: Effect) -> Operation {
    Operation {
        method: "GET",
        path,
        parameters,
        does,
    }
}

const fn operation(
    method: &'static str,
    path: &'static str,
    parameters: &'static [&'static str],
    handler: fn(Exchange),
) -> Operation {
    Operation {
        method,
        path,
        parameters,
        does: Now(handler),
    }
}

/// Every path of the API with its methods, to be held against the document.
pub fn operations() -> impl Iterator<Item = (&'static str, &'static str)> {
    let documented = OPERATIONS.iter().filter(|one| !power::is_old(one.path));
    documented.map(|one| (one.path, one.method))
}

/// Admits requests and starts their operations.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) guard: Arc<Guard>,
    pub(super) lists: Lists,
}

impl Router {
    /// Starts the operation that the client asks for, or refuses at once. Never blocks.
    pub(super) fn serve(&self, mut request: tiny_http::Request, asker: HttpAsker) {
        let mut body = Vec::new();
        // The front has seen it whole and within bounds: it ends where its length says.
        let body = request.as_reader().read_to_end(&mut body).map(|_| body);
        let admitted = self.admit(&request, &asker.peer);
        let content_type = header(&request, "Content-Type").map(str::to_owned);
        // tiny_http itself answers nothing, and can read the next request at once.
        drop(request.into_writer());
        let (caller, operation, path, query) = match admitted {
            Ok(admitted) => admitted,
            Err(response) => return asker.send(response),
        };
        let exchange = Exchange {
            operation,
            path,
            query,
            content_type,
            body,
            caller,
            asker,
            at: Instant::now(),
            dispatcher: Arc::clone(&self.dispatcher),
            guard: Arc::clone(&self.guard),
        };
        match operation.does {
            Now(handler) => handler(exchange),
            Shows(..) => self.lists.show(exchange),
        }
    }

    /// Who asks for which operation, with which parts of the path and which query; or the response
    /// to a request that goes no further.
    fn admit(
        &self,
        request: &tiny_http::Request,
        peer: &Peer,
    ) -> Result<(Caller, &'static Operation, Vec<String>, Query), Response> {
        let target = origin_form(request.url());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let caller = self.guard.admit(request, peer, path).map_err(|denied| {
            self.dispatcher.metrics().refused(match denied.kind {
                DeniedKind::TooMany => "wrong-tokens",
                DeniedKind::Unauthorized | DeniedKind::Forbidden => "denied",
            });
            turned_away(path, &denied)
        })?;
        let (operation, parts) = find(request.method().as_str(), path)?;
        let parts: Result<Vec<String>, Problem> = parts.into_iter().map(decoded).collect();
        let parts = parts.map_err(|problem| problem.response())?;
        let query = match power::is_old(path) {
            true => Query::read_leniently(query, operation.parameters),
            false => Query::read(query, operation.parameters).map_err(|p| p.response())?,
        };
        debug!(target: "pdud.http", "Handling HTTP request from {}: {target}", caller.client());
        Ok((caller, operation, parts, query))
    }
}

/// The value of the first header of this name.
fn header<'r>(request: &'r tiny_http::Request, name: &'static str) -> Option<&'r str> {
    let mut headers = request.headers().iter();
    let header = headers.find(|header| header.field.equiv(name))?;
    Some(header.value.as_str())
}

/// The path and query of a request target: proxies send the whole URL, which every server must
/// take (RFC 9112, 3.2.2).
fn origin_form(target: &str) -> &str {
    let mut schemes = ["http://", "https://"].iter();
    match schemes.find_map(|scheme| target.strip_prefix(scheme)) {
        Some(rest) => rest
            .find('/')
            .and_then(|slash| rest.get(slash..))
            .unwrap_or("/"),
        None => target,
    }
}

/// The answer to a client that is turned away.
fn turned_away(path: &str, denied: &Denied) -> Response {
    let response = match power::is_old(path) {
        true => power::turned_away(denied),
        false => Problem::from(denied).response(),
    };
    match guard::headers(denied) {
        Some((name, value)) => response.with(name, value),
        None => response,
    }
}

/// The operation of this method and path, and the parts of the path that stand for its `{…}`,
/// undecoded; or the response to a request that has none.
fn find<'p>(method: &str, path: &'p str) -> Result<(&'static Operation, Vec<&'p str>), Response> {
    let found = OPERATIONS.iter();
    let mut found = found.filter_map(|one| Some((one, parts(one.path, path)?)));
    let Some((first, parts)) = found.next() else {
        let is_of_api = path == "/api" || path.starts_with("/api/");
        let detail = || format!("{path}: expected a path of /api/v1/openapi.json");
        return Err(match is_of_api {
            true => Problem::new(problem::NOT_FOUND, detail()).response(),
            false => power::not_found(path),
        });
    };
    let is_old = power::is_old(path);
    let of_path = || OPERATIONS.iter().filter(|one| one.path == first.path);
    let wanted = match method {
        "HEAD" if !is_old => "GET",
        method => method,
    };
    if let Some(operation) = of_path().find(|one| one.method == wanted) {
        return Ok((operation, parts));
    }
    if is_old {
        return Err(power::wrong_method());
    }
    let mut allow: Vec<&str> = of_path().map(|one| one.method).collect();
    if allow.contains(&"GET") {
        allow.push("HEAD");
    }
    let allow = allow.join(", ");
    let problem = Problem::new(problem::METHOD, format!("expected {allow}"));
    Err(problem.response().with("Allow", allow))
}

/// The parts of `path` that stand for the `{…}` of this pattern, if it is one of its paths.
fn parts<'p>(pattern: &str, path: &'p str) -> Option<Vec<&'p str>> {
    let (mut ours, mut theirs) = (pattern.split('/'), path.split('/'));
    let mut parts = Vec::new();
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return Some(parts),
            (Some(ours), Some(theirs)) if ours.starts_with('{') && !theirs.is_empty() => {
                parts.push(theirs);
            }
            (Some(ours), Some(theirs)) if ours == theirs => {}
            _ => return None,
        }
    }
}

fn root(_: &Exchange) -> Result<Response, Problem> {
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "links": {
            "description": "/api/v1/openapi.json",
            "pdus": PDUS,
            "aliases": "/api/v1/aliases",
            "requests": REQUESTS,
            "health": "/healthz",
            "metrics": "/metrics",
        },
    });
    Ok(Response::json(200, &body))
}

fn openapi(_: &Exchange) -> Result<Response, Problem> {
    Ok(Response::new(200, "application/json", OPENAPI.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_url_is_a_target_too() {
        for (target, path) in [
            ("/power?x=http://y/", "/power?x=http://y/"),
            ("http://h:16421/power?x=1", "/power?x=1"),
            ("https://[::1]/", "/"),
            ("http://h", "/"),
            ("*", "*"),
        ] {
            assert_eq!(origin_form(target), path, "{target}");
        }
    }
}
