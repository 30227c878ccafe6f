//! The API under `/api/v1`, beside it the page, `/healthz` and `/metrics`.
//!
//! ```text
//!   http ──> ROUTES ──> handler(Call) ──> Dispatcher::submit ──> Ticket
//!                          │                                        │ follow
//!                          └── answers at once            worker ───┴──> answers
//! ```
//!
//! A handler runs on the `http` thread and never waits: it answers, or leaves its call to a
//! ticket's follower (the worker's thread) and to `timers`, whichever comes first.
//!
//! Invariant: nothing under `/api` switches by GET.

mod aliases;
mod call;
mod many;
mod pdus;
mod problem;
mod requests;
mod timers;
mod views;

pub(super) use call::Call;
pub(super) use problem::Problem;

use super::exchange::{Answer, Exchange};
use super::guard::Guard;
use super::{health, page};
use crate::access::Caller;
use crate::dispatch::Dispatcher;
use call::{Query, decoded};
use serde_json::json;
use std::io;
use std::sync::Arc;
use timers::Timers;

/// The document that describes all this; a test holds the routes against it.
pub const OPENAPI: &str = include_str!("../../../share/openapi.json");

/// What the handlers share.
pub(super) struct Api {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) guard: Arc<Guard>,
    timers: Timers,
    list: pdus::List,
    refresher: pdus::Refresher,
}

type Handler = fn(Call);

/// A path, and what its methods do; each knows its query parameters. HEAD is allowed beside GET.
struct Route {
    path: &'static str,
    methods: &'static [Method],
}

type Method = (&'static str, &'static [&'static str], Handler);

static ROUTES: &[Route] = &[
    route("/", &[("GET", &[], page::index)]),
    route("/page.js", &[("GET", &[], page::script)]),
    route("/page.css", &[("GET", &[], page::style)]),
    route("/healthz", &[("GET", &[], health::healthz)]),
    route("/metrics", &[("GET", &[], health::metrics)]),
    route("/api/v1", &[("GET", &[], root)]),
    route("/api/v1/openapi.json", &[("GET", &[], openapi)]),
    route("/api/v1/pdus", &[("GET", &["refresh"], pdus::list)]),
    route("/api/v1/pdus/{pdu}", &[("GET", &["refresh"], pdus::one)]),
    route(
        "/api/v1/pdus/{pdu}/outlets/{outlet}/state",
        &[
            ("GET", &["last"], pdus::state),
            ("PUT", &["wait"], pdus::switch),
        ],
    ),
    route(
        "/api/v1/pdus/{pdu}/outlets/{outlet}/reboot",
        &[("POST", &["wait"], pdus::reboot)],
    ),
    route("/api/v1/aliases", &[("GET", &[], aliases::list)]),
    route(
        "/api/v1/aliases/{alias}/state",
        &[
            ("GET", &[], aliases::state),
            ("PUT", &["wait"], aliases::switch),
        ],
    ),
    route(
        "/api/v1/aliases/{alias}/reboot",
        &[("POST", &["wait"], aliases::reboot)],
    ),
    route(
        "/api/v1/requests",
        &[
            ("GET", &["limit"], requests::list),
            ("POST", &[], many::post),
        ],
    ),
    route(
        "/api/v1/requests/{id}",
        &[
            ("GET", &["wait"], requests::one),
            ("DELETE", &[], requests::cancel),
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
    /// Starts the timers.
    pub(super) fn start(dispatcher: Arc<Dispatcher>, guard: Arc<Guard>) -> io::Result<Self> {
        Ok(Self {
            dispatcher,
            guard,
            timers: Timers::start()?,
            list: pdus::List::default(),
            refresher: pdus::Refresher::default(),
        })
    }

    /// The thread that ends long polls.
    pub(super) fn timers(&self) -> &Timers {
        &self.timers
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
        route: &Route,
        parts: &[&str],
        query: &str,
        method: &str,
        exchange: Exchange,
        caller: &Caller,
    ) {
        let wanted = if method == "HEAD" { "GET" } else { method };
        let Some((_, known, handler)) = route.methods.iter().find(|(name, ..)| *name == wanted)
        else {
            let mut allow: Vec<&str> = route.methods.iter().map(|(name, ..)| *name).collect();
            if allow.contains(&"GET") {
                allow.push("HEAD");
            }
            let allow = allow.join(", ");
            let problem = Problem::new(problem::METHOD, format!("expected {allow}"));
            return exchange.send(problem.answer().with("Allow", allow));
        };
        let path: Result<Vec<String>, Problem> = parts.iter().map(|part| decoded(part)).collect();
        match (path, Query::read(query, known)) {
            (Ok(path), Ok(query)) => handler(Call {
                api: Arc::clone(self),
                exchange,
                caller: caller.clone(),
                path,
                query,
            }),
            (Err(problem), _) | (_, Err(problem)) => exchange.send(problem.answer()),
        }
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

fn root(call: Call) {
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
    call.json(200, &body);
}

fn openapi(call: Call) {
    call.answer(Answer::new(200, "application/json", OPENAPI.as_bytes()));
}

/// Every path of the API with its methods, to be held against the document.
pub fn operations() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.iter().flat_map(|route| {
        let methods = route.methods.iter();
        methods.map(move |(method, ..)| (route.path, *method))
    })
}
