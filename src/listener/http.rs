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
use crossbeam_channel::Sender;
use log::{debug, error};
use std::io;
use std::os::unix::net::UnixListener;
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
    lists: Lists,
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
        let server = Server::from_listener(listener, None)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let server = Arc::new(server);
        let requests = Arc::clone(&server);
        let (beat, wanted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (beaten, asked) = (Arc::clone(&beat), Arc::clone(&wanted));
        let lists = Lists::start(Arc::clone(&api))?;
        let aside = lists.inbox.clone();
        let thread = std::thread::Builder::new()
            .name("http".into())
            .spawn(move || {
                loop {
                    let served = requests.recv();
                    // Whatever waits in line before a question for a sign of life: this is one.
                    beaten.store(asked.load(Ordering::Acquire), Ordering::Release);
                    match served {
                        Ok(request) => match Exchange::take(request, &underway) {
                            Some(request) if gives_way(&request) => {
                                // Nobody to receive it: it answers itself when it is dropped.
                                let _ = aside.send(Aside::Serve(request));
                            }
                            Some(request) => serve(request, &api),
                            None => {}
                        },
                        // `unblock`: to end, or for a sign of life.
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
            lists,
        })
    }

    /// Asks both threads for a sign of life.
    pub(super) fn ask(&self, beat: u64) {
        self.wanted.store(beat, Ordering::Release);
        self.server.unblock();
        self.lists.wanted.store(beat, Ordering::Release);
        let _ = self.lists.inbox.send(Aside::Look);
    }

    /// The last sign of life asked for that both gave.
    pub(super) fn beat(&self) -> u64 {
        let beats = [&self.beat, &self.lists.beat].map(|beat| beat.load(Ordering::Acquire));
        beats.into_iter().min().unwrap_or_default()
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

/// What is shown and switches nothing: the page, lists, metrics. However many ask for it, and
/// however long it takes to write down, no switch waits for it.
fn gives_way(request: &Exchange) -> bool {
    let target = request.url();
    matches!(request.method(), Method::Get | Method::Head)
        && !target.starts_with("/power/")
        && !target.starts_with("/healthz")
}

/// The thread that serves what gives way.
struct Lists {
    inbox: Sender<Aside>,
    wanted: Arc<AtomicU64>,
    beat: Arc<AtomicU64>,
}

enum Aside {
    Serve(Exchange),
    /// Are you there?
    Look,
}

impl Lists {
    /// Starts the thread, which ends with its last sender.
    fn start(api: Arc<Api>) -> io::Result<Self> {
        // At most one request of each connection waits here.
        let (inbox, messages) = crossbeam_channel::unbounded();
        let (beat, wanted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (beaten, asked) = (Arc::clone(&beat), Arc::clone(&wanted));
        std::thread::Builder::new()
            .name("lists".into())
            .spawn(move || {
                for message in messages {
                    // As in `http`: there may be many lists before the question.
                    beaten.store(asked.load(Ordering::Acquire), Ordering::Release);
                    match message {
                        Aside::Serve(request) => serve(request, &api),
                        Aside::Look => {}
                    }
                }
            })?;
        Ok(Self {
            inbox,
            wanted,
            beat,
        })
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
        Err(failure) => answer(request, &Err(failure)),
        Ok(mut parsed) => {
            parsed.may_know_names = caller.may_everything();
            let permitted = api
                .guard
                .permit(&caller, &api.dispatcher, &parsed.target, action);
            match permitted {
                Err(denied) => refuse(request, "/power/", &denied),
                Ok(()) => drop(
                    api.dispatcher
                        .submit(parsed, Box::new(move |outcome| answer(request, &outcome))),
                ),
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
fn answer(request: Exchange, outcome: &Outcome) {
    match outcome {
        Ok(done) => match &done.state {
            None => respond(request, 200, "OK - accepted request\n"),
            Some(State::On) => respond(request, 200, "on\n"),
            Some(State::Off) => respond(request, 200, "off\n"),
            Some(unknown @ State::Unknown(_)) => respond(
                request,
                503,
                &format!("Invalid request: the state is {unknown}\n"),
            ),
        },
        Err(failure) => respond(request, 503, &format!("Invalid request: {failure}\n")),
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
