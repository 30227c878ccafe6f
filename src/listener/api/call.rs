//! One call of the API: what was asked, and the ways to answer it.

use super::Api;
use super::problem::{self, Problem};
use crate::access::Caller;
use crate::config::Alias;
use crate::dispatch::{Dispatcher, Ticket};
use crate::listener::exchange::{Answer, Asker};
use crate::request::{Action, Delay, LONGEST_NAME, Outlet, Request, Target};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest part of a path, and value of a parameter, as they were sent.
const LONGEST: usize = 3 * LONGEST_NAME;
/// The longest a client may wait for a request's end.
pub(super) const MAX_WAIT: u64 = 60;

/// A call on its way through a handler.
#[derive(Debug)]
pub(in crate::listener) struct Call {
    pub(super) api: Arc<Api>,
    pub(super) asker: Asker,
    /// What the client sent with it, until it is read.
    pub(super) body: Body,
    /// Who asks, and what they may do.
    pub(in crate::listener) caller: Caller,
    /// The path as the routing table has it.
    pub(super) route: &'static str,
    /// The parts of the path that stand for `{…}`, in their order.
    pub(super) path: Vec<String>,
    pub(super) query: Query,
}

/// What a client sends with a call.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) content_type: Option<String>,
    pub(super) bytes: io::Result<Vec<u8>>,
}

impl Call {
    pub(in crate::listener) fn answer(self, answer: Answer) {
        self.asker.send(answer);
    }

    pub(in crate::listener) fn dispatcher(&self) -> &Dispatcher {
        &self.api.dispatcher
    }

    pub(super) fn json(self, status: u16, body: &impl Serialize) {
        self.answer(Answer::json(status, body));
    }

    pub(super) fn problem(self, problem: impl Into<Problem>) {
        self.answer(problem.into().answer());
    }

    /// Part `index` of the path; the routing table says how many there are.
    pub(super) fn part(&self, index: usize) -> String {
        self.path.get(index).cloned().unwrap_or_default()
    }

    /// The outlet that the path names.
    pub(super) fn outlet(&self) -> Target {
        Target::Outlet {
            pdu: self.part(0),
            outlet: Outlet::new(self.part(1)),
        }
    }

    /// The body as `T`; an empty one is `{}` where `may_be_empty`.
    pub(super) fn body<T: DeserializeOwned>(&mut self, may_be_empty: bool) -> Result<T, Problem> {
        let bad = |why: String| Problem::new(problem::BAD_VALUE, format!("body: {why}"));
        let nothing = Body {
            content_type: None,
            bytes: Ok(Vec::new()),
        };
        let body = std::mem::replace(&mut self.body, nothing);
        let content_type = body.content_type.map(|value| {
            let value = value.split(';').next().unwrap_or_default();
            value.trim().to_ascii_lowercase()
        });
        let body = body.bytes.map_err(|error| bad(error.to_string()))?;
        if body.is_empty() && may_be_empty {
            return serde_json::from_str("{}").map_err(|error| bad(error.to_string()));
        }
        match content_type.as_deref() {
            Some("application/json") => {}
            other => {
                let got = other.unwrap_or("none");
                let detail = format!("expected Content-Type: application/json, got {got}");
                return Err(Problem::new(problem::MEDIA_TYPE, detail));
            }
        }
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(bad("expected a JSON object".into()));
        }
        serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))
    }

    /// May the caller do this? One that may not has been logged.
    pub(super) fn permit(&self, target: &Target, action: Action) -> Result<(), Problem> {
        self.api
            .guard
            .permit(&self.caller, &self.api.dispatcher, target, action)
            .map_err(|denied| Problem::from(&denied))
    }

    /// May the caller know of this?
    pub(super) fn may_see(&self, target: &Target) -> bool {
        match target {
            _ if self.caller.may_everything() => true,
            Target::Outlet { pdu, .. } => self.caller.may_see(pdu),
            Target::Alias(alias) => self
                .api
                .dispatcher
                .alias(alias)
                .is_some_and(|alias| self.may_see_alias(&alias)),
        }
    }

    /// The problem of a PDU that the caller knows nothing of.
    pub(super) fn unknown_pdu(&self, pdu: &str) -> Problem {
        let dispatcher = &self.api.dispatcher;
        let failure = dispatcher.unknown_pdu(pdu, |name| self.caller.may_see(name));
        (&failure).into()
    }

    /// May the caller know of this alias: of all its PDUs?
    pub(super) fn may_see_alias(&self, alias: &Alias) -> bool {
        match alias {
            _ if self.caller.may_everything() => true,
            Alias::Outlets(outlets) => outlets
                .iter()
                .all(|(pdu, _)| self.caller.may_see(pdu.as_str())),
            Alias::Dead(_) => false,
        }
    }

    /// The one way from the API to the dispatcher.
    pub(super) fn submit(
        &self,
        target: Target,
        action: Action,
        delay: Option<Delay>,
    ) -> Result<Arc<Ticket>, Problem> {
        self.permit(&target, action)?;
        Ok(self.submit_permitted(target, action, delay))
    }

    /// The same after [`Call::permit`] was asked.
    pub(super) fn submit_permitted(
        &self,
        target: Target,
        action: Action,
        delay: Option<Delay>,
    ) -> Arc<Ticket> {
        let request = Request {
            client: Arc::clone(self.caller.client()),
            target,
            action,
            delay,
            is_background: false,
            may_know_names: self.caller.may_everything(),
        };
        self.api.dispatcher.submit(request, Box::new(drop))
    }

    /// Answers with what `make` says, once the ticket has ended or the patience is over.
    pub(super) fn answer_when_ended(
        self,
        ticket: &Arc<Ticket>,
        patience: Option<Duration>,
        make: fn(&Ticket) -> Answer,
    ) {
        let presence = self.asker.presence();
        let waiting = Arc::new(Mutex::new(Some(self.asker)));
        // Whoever comes first takes the asker.
        let answer = move |waiting: &Mutex<Option<Asker>>, ticket: &Ticket| {
            let asker = waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(asker) = asker {
                asker.send(make(ticket));
            }
        };
        if let Some(patience) = patience {
            let (late, ticket) = (Arc::clone(&waiting), Arc::clone(ticket));
            let until = Instant::now() + patience;
            let asker = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(asker) = asker.as_ref() {
                asker.answer_by(until, move || answer(&late, &ticket));
            }
        }
        ticket.follow_for(presence, Box::new(move |ticket| answer(&waiting, ticket)));
    }
}

/// The query's parameters, each at most once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of a route that knows these parameters.
    pub(super) fn read(query: &str, known: &[&str]) -> Result<Self, Problem> {
        let bad = |why: String| Problem::new(problem::BAD_VALUE, why);
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let expected = match known {
                    [] => "none here".to_owned(),
                    known => known.join(", "),
                };
                return Err(bad(format!(
                    "{name}: unknown parameter, expected {expected}"
                )));
            }
            if value.len() > LONGEST {
                return Err(bad(format!("{name}: is longer than {LONGEST} bytes")));
            }
            if all.iter().any(|(other, _)| *other == name) {
                return Err(bad(format!("{name}: is there more than once")));
            }
            all.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(all))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, Problem> {
        match self.get(name) {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(Problem::new(
                problem::BAD_VALUE,
                format!("{name}: expected true or false, got {other:?}"),
            )),
        }
    }

    /// A whole number within bounds.
    pub(super) fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let number = text
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse().ok())
            .flatten()
            .filter(|number| (least..=most).contains(number));
        number.map(Some).ok_or_else(|| {
            let expected = format!("{name}: expected {least} to {most}, got {text:?}");
            Problem::new(problem::BAD_VALUE, expected)
        })
    }
}

/// A part of a path, decoded.
pub(super) fn decoded(part: &str) -> Result<String, Problem> {
    if part.len() > LONGEST {
        let why = format!("the path: a part is longer than {LONGEST} bytes");
        return Err(Problem::new(problem::BAD_VALUE, why));
    }
    percent_decode_str(part)
        .decode_utf8()
        .map(Cow::into_owned)
        .map_err(|_| {
            Problem::new(
                problem::BAD_VALUE,
                "the path: expected percent-encoded UTF-8",
            )
        })
}
