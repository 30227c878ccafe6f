//! The API under `/api/v1`, beside it the page, `/healthz` and `/metrics`.
//!
//! ```text
//!   http ──> ROUTES ─┬─> handler(Call) ──> Dispatcher::submit ──> Ticket
//!                    │      │                                        │ follow
//!                    │      └── answers at once            worker ───┴──> answers
//!                    └─> lists ── shows, and answers
//! ```
//!
//! A handler runs on the `http` thread and never waits: it answers, or leaves its asker to a
//! ticket's follower (the worker's thread) and to the front's clock, whichever comes first. What
//! only shows something is left to the thread `lists`.
//!
//! Invariant: nothing under `/api` switches by GET.

mod aliases;
mod call;
mod lists;
mod many;
mod pdus;
mod problem;
mod requests;
mod views;

pub(super) use call::Call;
pub(super) use problem::Problem;

use super::exchange::{Answer, Exchange};
use super::guard::Guard;
use super::{health, page};
use crate::access::Caller;
use crate::dispatch::Dispatcher;
use call::{Body, Query, decoded};
use lists::{Lists, Show};
use serde_json::json;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The document that describes all this; a test holds the routes against it.
pub const OPENAPI: &str = include_str!("../../../share/openapi.json");

/// What the handlers share.
pub(super) struct Api {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) guard: Arc<Guard>,
    lists: Lists,
    refresher: pdus::Refresher,
}

/// A path, and what its methods do; each knows its query parameters. HEAD is allowed beside GET.
struct Route {
    path: &'static str,
    methods: &'static [Method],
}

type Method = (&'static str, &'static [&'static str], Does);

/// What a method does: it is carried out at once, or shown by the thread for that.
#[derive(Clone, Copy)]
enum Does {
    Now(fn(Call)),
    Shows(Show),
}

use Does::Now;

/// Shows what is when it is asked for.
const fn shows(make: fn(&Call) -> Result<Answer, Problem>) -> Does {
    shows_of(Duration::ZERO, make)
}

/// Shows what was at most so long before it is asked for.
const fn shows_of(age: Duration, make: fn(&Call) -> Result<Answer, Problem>) -> Does {
    Does::Shows(Show { make, age })
}

static ROUTES: &[Route] = &[
    route("/", &[("GET", &[], shows(page::index))]),
    route("/page.js", &[("GET", &[], shows(page::script))]),
    route("/page.css", &[("GET", &[], shows(page::style))]),
    route("/healthz", &[("GET", &[], Now(health::healthz))]),
    route("/metrics", &[("GET", &[], shows(health::metrics))]),
    route("/api/v1", &[("GET", &[], shows(root))]),
    route("/api/v1/openapi.json", &[("GET", &[], shows(openapi))]),
    route(
        "/api/v1/pdus",
        &[("GET", &["refresh"], shows_of(pdus::FRESH, pdus::list))],
    ),
    route(
        "/api/v1/pdus/{pdu}",
        &[("GET", &["refresh"], shows(pdus::one))],
    ),
    route(
        "/api/v1/pdus/{pdu}/outlets/{outlet}",
        &[("GET", &[], Now(pdus::outlet))],
    ),
    route(
        "/api/v1/pdus/{pdu}/outlets/{outlet}/state",
        &[
            ("GET", &["last"], Now(pdus::state)),
            ("PUT", &["wait"], Now(pdus::switch)),
        ],
    ),
    route(
        "/api/v1/pdus/{pdu}/outlets/{outlet}/reboot",
        &[("POST", &["wait"], Now(pdus::reboot))],
    ),
    route("/api/v1/aliases", &[("GET", &[], shows(aliases::list))]),
    route(
        "/api/v1/aliases/{alias}/state",
        &[
            ("GET", &[], Now(aliases::state)),
            ("PUT", &["wait"], Now(aliases::switch)),
        ],
    ),
    route(
        "/api/v1/aliases/{alias}/reboot",
        &[("POST", &["wait"], Now(aliases::reboot))],
    ),
    route(
        "/api/v1/requests",
        &[
            ("GET", &["limit"], shows(requests::list)),
            ("POST", &[], Now(many::post)),
        ],
    ),
    route(
        "/api/v1/requests/{id}",
        &[
            ("GET", &["wait"], Now(requests::one)),
            ("DELETE", &[], Now(requests::cancel)),
        ],
    ),
];

const fn route(path: &'static str, methods: &'static [Method]) -> Route {
    Route { path, methods }
}

impl Route {
    /// The parts of `path` that stand for the route's `{…}`, undecoded, if it is this route's.
    fn parts<'p>(&self, path: &'p str) -> Option<Vec<&'p str>> {
        let (mut mine, mut theirs) = (self.path.split('/'), path.split('/'));
        let mut parts = Vec::new();
        loop {
            match (mine.next(), theirs.next()) {
                (None, None) => return Some(parts),
                (Some(mine), Some(theirs)) if mine.starts_with('{') && !theirs.is_empty() => {
                    parts.push(theirs);
                }
                (Some(mine), Some(theirs)) if mine == theirs => {}
                _ => return None,
            }
        }
    }
}

impl Api {
    /// Starts the thread that shows things.
    pub(super) fn start(dispatcher: Arc<Dispatcher>, guard: Arc<Guard>) -> io::Result<Self> {
        Ok(Self {
            dispatcher,
            guard,
            lists: Lists::start()?,
            refresher: pdus::Refresher::default(),
        })
    }

    /// The thread that shows things.
    pub(super) fn lists(&self) -> &Lists {
        &self.lists
    }

    /// Serves the request, or gives it back when its path is none of these.
    pub(super) fn serve(self: &Arc<Self>, request: Exchange, caller: &Caller) -> Option<Exchange> {
        let url = request.url().to_owned();
        let (path, query) = url.split_once('?').unwrap_or((&url, ""));
        let found = ROUTES
            .iter()
            .find_map(|route| Some((route, route.parts(path)?)));
        if found.is_none() && path != "/api" && !path.starts_with("/api/") {
            return Some(request);
        }
        let method = request.method().to_string();
        match found {
            None => {
                let detail = format!("{path}: expected a path of /api/v1/openapi.json");
                request.send(Problem::new(problem::NOT_FOUND, detail).answer());
            }
            Some((route, parts)) => self.call(route, &parts, query, &method, request, caller),
        }
        None
    }

    fn call(
        self: &Arc<Self>,
        route: &'static Route,
        parts: &[&str],
        query: &str,
        method: &str,
        mut exchange: Exchange,
        caller: &Caller,
    ) {
        let wanted = if method == "HEAD" { "GET" } else { method };
        let Some((_, known, does)) = route.methods.iter().find(|(name, ..)| *name == wanted) else {
            let mut allow: Vec<&str> = route.methods.iter().map(|(name, ..)| *name).collect();
            if allow.contains(&"GET") {
                allow.push("HEAD");
            }
            let allow = allow.join(", ");
            let problem = Problem::new(problem::METHOD, format!("expected {allow}"));
            return exchange.send(problem.answer().with("Allow", allow));
        };
        let path: Result<Vec<String>, Problem> = parts.iter().map(|part| decoded(part)).collect();
        let (path, query) = match (path, Query::read(query, known)) {
            (Ok(path), Ok(query)) => (path, query),
            (Err(problem), _) | (_, Err(problem)) => return exchange.send(problem.answer()),
        };
        let content_type = || exchange.header("Content-Type").map(str::to_owned);
        let content_type = (wanted != "GET").then(content_type).flatten();
        let body = Body {
            content_type,
            bytes: exchange.body(),
        };
        // From here on only what is needed is kept.
        let call = Call {
            api: Arc::clone(self),
            asker: exchange.into_asker(),
            body,
            caller: caller.clone(),
            route: route.path,
            path,
            query,
        };
        match does {
            Now(handler) => handler(call),
            Does::Shows(show) => self.lists.show(call, *show),
        }
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

fn root(_: &Call) -> Result<Answer, Problem> {
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "links": {
            "description": "/api/v1/openapi.json",
            "pdus": "/api/v1/pdus",
            "aliases": "/api/v1/aliases",
            "requests": "/api/v1/requests",
            "health": "/healthz",
            "metrics": "/metrics",
        },
    });
    Ok(Answer::json(200, &body))
}

fn openapi(_: &Call) -> Result<Answer, Problem> {
    Ok(Answer::new(200, "application/json", OPENAPI.as_bytes()))
}

/// Every path of the API with its methods, to be held against the document.
pub fn operations() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.iter().flat_map(|route| {
        let methods = route.methods.iter();
        methods.map(move |(method, ..)| (route.path, *method))
    })
}
