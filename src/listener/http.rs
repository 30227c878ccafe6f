//! HTTP: tiny_http behind the front, and what each path means.
//!
//! `GET /power/control/{on,off,reboot,get-status}?hostname=&port=[&delay=]`, or `?alias=`. The
//! answer comes after the work is done.

use super::api::{Api, Problem};
use super::exchange::{Answer, Exchange};
use super::guard;
use super::link::Underway;
use crate::access::{Denied, DeniedKind};
use crate::request::{
    Action, Delay, Failure, FailureKind, Outcome, Outlet, Request, State, Target,
};
use log::{debug, error};
use std::io;
use std::os::unix::net::UnixListener;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use tiny_http::{Method, Server};

/// The HTTP server on the private socket.
pub(super) struct HttpServer {
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
    wanted: Arc<AtomicU64>,
    beat: Arc<AtomicU64>,
}

/// The beat that asks the thread to end.
const END: u64 = u64::MAX;

impl HttpServer {
    /// Serves the requests that the front sends to `listener`.
    pub(super) fn start(
        listener: UnixListener,
        api: Arc<Api>,
        underway: Arc<Underway>,
    ) -> io::Result<Self> {
        // Where there is no thread for it, tiny_http panics.
        let server = catch_unwind(|| Server::from_listener(listener, None))
            .map_err(|_| io::Error::other("cannot start the threads of the HTTP server"))?
            .map_err(|error| io::Error::other(error.to_string()))?;
        let server = Arc::new(server);
        let requests = Arc::clone(&server);
        let (beat, wanted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (beaten, asked) = (Arc::clone(&beat), Arc::clone(&wanted));
        let thread = std::thread::Builder::new()
            .name("http".into())
            .spawn(move || {
                loop {
                    match requests.recv() {
                        Ok(request) => {
                            // Whatever came over the private connection is a sign of life.
                            beaten.store(asked.load(Ordering::Acquire), Ordering::Release);
                            if let Some(request) = Exchange::take(request, &underway) {
                                serve(request, &api);
                            }
                        }
                        // `unblock`: to end.
                        Err(_) if asked.load(Ordering::Acquire) == END => break,
                        Err(_) => {}
                    }
                }
            })?;
        Ok(Self {
            server,
            thread: Some(thread),
            wanted,
            beat,
        })
    }

    /// Asks for a sign of life: the next request that the front sends.
    pub(super) fn ask(&self, beat: u64) {
        self.wanted.store(beat, Ordering::Release);
    }

    /// The last sign of life asked for that came.
    pub(super) fn beat(&self) -> u64 {
        self.beat.load(Ordering::Acquire)
    }

    /// Takes no further requests; what was taken is answered by its worker.
    pub(super) fn stop(&mut self) {
        self.wanted.store(END, Ordering::Release);
        self.server.unblock();
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            error!("the HTTP listener ended in a panic: this is a bug");
        }
    }
}

/// One request: routed, or refused at once. Never blocks.
fn serve(request: Exchange, api: &Arc<Api>) {
    let target = request.url();
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let caller = match api.guard.admit(&request, path) {
        Ok(caller) => caller,
        Err(denied) => {
            api.dispatcher.metrics().refused(match denied.kind {
                DeniedKind::TooMany => "wrong-tokens",
                DeniedKind::Unauthorized | DeniedKind::Forbidden => "denied",
            });
            let path = path.to_owned();
            return refuse(request, &path, &denied);
        }
    };
    let Some(request) = api.serve(request, &caller) else {
        return;
    };
    let target = request.url();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Some(command) = path.strip_prefix("/power/control/").map(str::to_owned) else {
        return respond(request, 404, "Not Found\n");
    };
    let Ok(action) = command.parse::<Action>() else {
        return respond(
            request,
            404,
            &format!(
                "Not Found: expected /power/control/ and {}\n",
                Action::COMMANDS
            ),
        );
    };
    if *request.method() != Method::Get {
        // HEAD included: it must never switch anything.
        let answer = Answer::text(405, "Method Not Allowed: expected GET\n");
        return request.send(answer.with("Allow", "GET"));
    }
    let client = Arc::clone(caller.client());
    debug!(target: "pdud.http", "Handling HTTP request from {client}: {}", request.url());
    match parse(query, action, client) {
        Err(failure) => request.send(answer(&Err(failure))),
        Ok(mut parsed) => {
            parsed.may_know_names = caller.may_everything();
            let permitted = api
                .guard
                .permit(&caller, &api.dispatcher, &parsed.target, action);
            match permitted {
                Err(denied) => refuse(request, "/power/", &denied),
                Ok(()) => {
                    // All that is left of the request is who asks.
                    let asker = request.into_asker();
                    let reply = Box::new(move |outcome| asker.send(answer(&outcome)));
                    drop(api.dispatcher.submit(parsed, reply));
                }
            }
        }
    }
}

/// The query as Python's `parse_qs` reads it: the first value of a name counts, blank values are
/// absent, unknown names are ignored.
pub fn parse(query: &str, action: Action, client: Arc<str>) -> Result<Request, Failure> {
    let (mut hostname, mut port, mut alias, mut delay) = (None, None, None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let place = match name.as_ref() {
            "hostname" => &mut hostname,
            "port" => &mut port,
            "alias" => &mut alias,
            "delay" => &mut delay,
            _ => continue,
        };
        if place.is_none() && !value.is_empty() {
            *place = Some(value.into_owned());
        }
    }
    let bad = |reason: &str| Failure::new(FailureKind::BadRequest, reason);
    let target = match (hostname, port, alias) {
        (Some(pdu), Some(port), None) => Target::Outlet {
            pdu,
            outlet: Outlet::new(port),
        },
        (None, None, Some(alias)) => Target::Alias(alias),
        (_, _, Some(_)) => return Err(bad("alias: must not be combined with hostname or port")),
        (None, _, None) => {
            return Err(bad(
                "hostname: missing parameter, expected the PDU's name (or alias=)",
            ));
        }
        (Some(_), None, None) => return Err(bad("port: missing parameter, expected the outlet")),
    };
    let delay = delay
        .map(|delay| delay.parse::<Delay>())
        .transpose()
        .map_err(|message| Failure::new(FailureKind::BadRequest, message))?;
    Ok(Request {
        client,
        target,
        action,
        delay,
        is_background: false,
        may_know_names: false,
    })
}

/// 200 for what was carried out, 503 for anything else, with the reason.
fn answer(outcome: &Outcome) -> Answer {
    let refused = |why: String| Answer::text(503, &format!("Invalid request: {why}\n"));
    match outcome {
        Ok(done) => match &done.state {
            None => Answer::text(200, "OK - accepted request\n"),
            Some(State::On) => Answer::text(200, "on\n"),
            Some(State::Off) => Answer::text(200, "off\n"),
            Some(unknown @ State::Unknown(_)) => refused(format!("the state is {unknown}")),
        },
        Err(failure) => refused(failure.to_string()),
    }
}

/// The answer to a request that was turned away: the legacy paths speak plain text.
fn refuse(request: Exchange, path: &str, denied: &Denied) {
    let mut answer = if path.starts_with("/power/") {
        let body = format!("{}: {}\n", denied.title(), denied.reason);
        Answer::text(denied.status(), &body)
    } else {
        Problem::from(denied).answer()
    };
    if let Some((name, value)) = guard::headers(denied) {
        answer = answer.with(name, value);
    }
    request.send(answer);
}

fn respond(request: Exchange, status: u16, body: &str) {
    request.send(Answer::text(status, body));
}
