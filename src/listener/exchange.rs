//! One HTTP request on its way through its operation: what was asked, by whom, and the ways to
//! answer it.

use super::guard::Guard;
use super::problem::{self, Problem};
use super::response::{HttpAsker, Response};
use crate::access::{Caller, Denied};
use crate::config::Alias;
use crate::dispatch::{Dispatcher, Ticket};
use crate::request::{Action, Delay, LONGEST_NAME, Outlet, Request, Target};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest part of a path, and value of a parameter, as they were sent.
const LONGEST: usize = 3 * LONGEST_NAME;
/// The longest a client may wait for a request's end.
pub(super) const MAX_WAIT: u64 = 60;

/// A method of a path. Whoever has GET has HEAD.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// `{…}` stands for a part that the client chooses.
    pub(super) path: &'static str,
    /// The names that its query may have.
    pub(super) parameters: &'static [&'static str],
    pub(super) does: Effect,
}

/// What an operation does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    /// It is carried out at once.
    Now(fn(Exchange)),
    /// The thread `lists` shows something.
    Shows(Shared, fn(&Exchange) -> Result<Response, Problem>),
}

/// How long before a client asked a response may have been made for others that is good enough.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shared {
    /// Not at all.
    Never,
    /// So long.
    For(Duration),
    /// So long, but only while others wait as well.
    InACrowd(Duration),
}

/// A request that is admitted, and whom to answer.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) operation: &'static Operation,
    /// The parts of the path that stand for `{…}`, in their order.
    pub(super) path: Vec<String>,
    pub(super) query: Query,
    pub(super) content_type: Option<String>,
    pub(super) body: io::Result<Vec<u8>>,
    /// Who asks, and what they may do.
    pub(super) caller: Caller,
    pub(super) asker: HttpAsker,
    /// When the client asked.
    pub(super) at: Instant,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) guard: Arc<Guard>,
}

impl Exchange {
    pub(super) fn respond(self, response: Response) {
        self.asker.send(response);
    }

    pub(super) fn problem(self, problem: impl Into<Problem>) {
        self.respond(problem.into().response());
    }

    /// Part `index` of the path; the operation says how many there are.
    pub(super) fn part(&self, index: usize) -> String {
        self.path.get(index).cloned().unwrap_or_default()
    }

    /// The outlet or the alias that the path names.
    pub(super) fn target(&self) -> Target {
        match self.path.as_slice() {
            [pdu, outlet] => Target::Outlet {
                pdu: pdu.clone(),
                outlet: Outlet::new(outlet.as_str()),
            },
            _ => Target::Alias(self.part(0)),
        }
    }

    /// The body as `T`; an empty one is `{}` where `may_be_empty`.
    pub(super) fn body<T: DeserializeOwned>(&mut self, may_be_empty: bool) -> Result<T, Problem> {
        let bad = |why: String| Problem::new(problem::BAD_VALUE, format!("body: {why}"));
        let body = std::mem::replace(&mut self.body, Ok(Vec::new()));
        let body = body.map_err(|error| bad(error.to_string()))?;
        if body.is_empty() && may_be_empty {
            return serde_json::from_str("{}").map_err(|error| bad(error.to_string()));
        }
        let content_type = self.content_type.as_deref().map(|value| {
            let value = value.split(';').next().unwrap_or_default();
            value.trim().to_ascii_lowercase()
        });
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

    /// May the caller do this? The guard has logged one who may not.
    pub(super) fn permit(&self, target: &Target, action: Action) -> Result<(), Denied> {
        self.guard
            .permit(&self.caller, &self.dispatcher, target, action)
    }

    /// May the caller know of this?
    pub(super) fn may_see(&self, target: &Target) -> bool {
        match target {
            _ if self.caller.may_everything() => true,
            Target::Outlet { pdu, .. } => self.caller.may_see(pdu),
            Target::Alias(alias) => self
                .dispatcher
                .alias(alias)
                .is_some_and(|alias| self.may_see_alias(&alias)),
        }
    }

    /// The problem of a PDU that the caller knows nothing of.
    pub(super) fn unknown_pdu(&self, pdu: &str) -> Problem {
        let may_see = |name: &str| self.caller.may_see(name);
        (&self.dispatcher.unknown_pdu(pdu, may_see)).into()
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

    /// Hands a request to the dispatcher, if the caller may do it.
    pub(super) fn submit(
        &self,
        target: Target,
        action: Action,
        delay: Option<Delay>,
    ) -> Result<Arc<Ticket>, Problem> {
        self.permit(&target, action)?;
        Ok(self.submit_permitted(target, action, delay))
    }

    /// The same after [`Exchange::permit`] was asked.
    pub(super) fn submit_permitted(
        &self,
        target: Target,
        action: Action,
        delay: Option<Delay>,
    ) -> Arc<Ticket> {
        let request = self.request(target, action, delay);
        self.dispatcher.submit(request, Box::new(drop))
    }

    /// The same for many targets at once.
    pub(super) fn submit_all(
        &self,
        targets: Vec<Target>,
        action: Action,
        delay: Option<Delay>,
    ) -> Vec<Arc<Ticket>> {
        let targets = targets.into_iter();
        let requests = targets.map(|target| self.request(target, action, delay));
        self.dispatcher.submit_all(requests)
    }

    fn request(&self, target: Target, action: Action, delay: Option<Delay>) -> Request {
        Request {
            client: Arc::clone(self.caller.client()),
            target,
            action,
            delay,
            is_background: false,
            may_know_names: self.caller.may_everything(),
        }
    }

    /// Sends the response that `make` makes of the ticket, once that has ended or the patience is
    /// over.
    pub(super) fn respond_when_ended(
        self,
        ticket: &Arc<Ticket>,
        patience: Option<Duration>,
        make: fn(&Ticket) -> Response,
    ) {
        let presence = self.asker.presence();
        let waiting = Arc::new(Mutex::new(Some(self.asker)));
        // Whoever comes first takes the asker.
        let respond = move |waiting: &Mutex<Option<HttpAsker>>, ticket: &Ticket| {
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
                asker.answer_by(until, move || respond(&late, &ticket));
            }
        }
        ticket.follow_for(presence, move |ticket| respond(&waiting, ticket));
    }
}

/// The query's parameters, each at most once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of an operation that knows these parameters and no others.
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

    /// Reads the parameters that are known: the first value of each counts, blank ones are absent.
    pub(super) fn read_leniently(query: &str, known: &[&str]) -> Self {
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let is_known = known.contains(&name.as_ref()) && !value.is_empty();
            if is_known && !all.iter().any(|(other, _)| *other == name) {
                all.push((name.into_owned(), value.into_owned()));
            }
        }
        Self(all)
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
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
