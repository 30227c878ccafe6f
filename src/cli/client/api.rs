//! One exchange with the daemon's `/api/v1`, and the shapes of its answers.

use super::tls::{self, Tls};
use super::{PORT, is_timeout, show};
use crate::settings::{Address, Secret};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;
use ureq::http::{Method, Request};

/// No answer is longer: thousands of PDUs with dozens of outlets each fit.
const MAX_ANSWER: u64 = 32 * 1024 * 1024;
/// The characters that a path has unescaped: RFC 3986's unreserved ones.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The daemon, as the words talk to it.
pub(super) struct Api {
    agent: ureq::Agent,
    /// As the user wrote it.
    pub(super) daemon: String,
    base: String,
    pub(super) token: Option<Secret>,
    pub(super) tls: Option<Tls>,
}

/// Why there is no useful answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nobody answered there.
    NoDaemon(String),
    /// The answer did not come in time; nobody knows what became of the request.
    Timeout,
    /// Something answered that has no `/api/v1`: a Python daemon.
    NoApi,
    /// The daemon's own words.
    Problem(Problem, Value),
    /// Something else than a daemon answered.
    Odd(String),
}

/// A problem document (RFC 9457), as far as a person wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    pub(super) title: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) detail: Option<String>,
}

impl Problem {
    /// The sentence to print.
    pub(super) fn text(&self) -> String {
        let text = self.detail.as_deref().or(self.title.as_deref());
        show::printable(text.unwrap_or("refused without a reason"))
    }
}

/// One PDU of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pdu {
    pub(super) name: String,
    pub(super) about: Option<String>,
    pub(super) driver: String,
    /// An older daemon does not say; it serves all that it lists.
    pub(super) served: Option<bool>,
    pub(super) broken: Option<String>,
    pub(super) reads_back: bool,
    pub(super) reachable: Option<bool>,
    pub(super) since: Option<String>,
    pub(super) waiting: u64,
    pub(super) last_error: Option<LastError>,
    /// Not known yet; an older daemon does not say.
    pub(super) outlet_count: Option<u64>,
    pub(super) outlets: Vec<Outlet>,
}

/// A PDU's last error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LastError {
    pub(super) at: Option<String>,
    /// An older daemon does not say.
    pub(super) outlet: Option<String>,
    pub(super) text: String,
}

/// One outlet as last known.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Outlet {
    pub(super) outlet: String,
    pub(super) name: Option<String>,
    pub(super) state: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) source: Option<String>,
    pub(super) age: Option<f64>,
}

/// One alias.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Alias {
    pub(super) alias: String,
    pub(super) outlets: Vec<AliasOutlet>,
    pub(super) broken: Option<String>,
}

/// An outlet that an alias stands for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AliasOutlet {
    pub(super) pdu: String,
    pub(super) outlet: String,
}

/// The result of one target of many.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ForTarget {
    pub(super) target: String,
    pub(super) pdu: Option<String>,
    pub(super) outlet: Option<String>,
    pub(super) ok: bool,
    pub(super) state: Option<String>,
    pub(super) detail: Option<String>,
    /// Switched, and no state of the PDU confirms it.
    #[serde(default)]
    pub(super) unconfirmed: bool,
    pub(super) problem: Option<Problem>,
}

/// One request of the daemon's list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Known {
    /// A number or a text.
    pub(super) id: Value,
    pub(super) client: String,
    pub(super) target: KnownTarget,
    pub(super) command: String,
    pub(super) progress: String,
    pub(super) submitted: Option<String>,
    pub(super) took: Option<f64>,
    pub(super) ok: Option<bool>,
    pub(super) state: Option<String>,
    pub(super) problem: Option<Problem>,
}

/// Its target.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KnownTarget {
    pub(super) pdu: Option<String>,
    pub(super) outlet: Option<String>,
    pub(super) alias: Option<String>,
}

impl Api {
    /// The daemon at `HOST[:PORT]`; asks nothing yet.
    pub(super) fn new(
        daemon: &str,
        token: Option<Secret>,
        tls: Option<Tls>,
    ) -> Result<Self, String> {
        let address = Address::parse(daemon, PORT)?;
        Ok(Self {
            agent: tls::agent(tls.as_ref(), None),
            daemon: daemon.to_owned(),
            base: format!("{}://{address}/api/v1", tls::scheme(tls.as_ref())),
            token,
            tls,
        })
    }

    /// Asks and waits: for ever without `patience`, since the answer comes when the work is done.
    pub(super) fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        patience: Option<Duration>,
    ) -> Result<Value, Trouble> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Accept", "application/json, application/problem+json");
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {}", token.reveal()));
        }
        let odd = |error: &dyn std::fmt::Display| Trouble::Odd(error.to_string());
        let answer = match body {
            None => request
                .body(())
                .map_err(ureq::Error::from)
                .and_then(|request| {
                    let request = self.agent.configure_request(request);
                    self.agent.run(request.timeout_global(patience).build())
                }),
            Some(body) => request
                .header("Content-Type", "application/json")
                .body(body.to_string())
                .map_err(ureq::Error::from)
                .and_then(|request| {
                    let request = self.agent.configure_request(request);
                    self.agent.run(request.timeout_global(patience).build())
                }),
        };
        let mut answer = answer.map_err(Trouble::from)?;
        let status = answer.status().as_u16();
        let text = answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_string()
            .map_err(Trouble::from)?;
        let value: Option<Value> = serde_json::from_str(&text).ok();
        match (status, value) {
            (200..=299, Some(value)) => Ok(value),
            // All failed, each for its own reason.
            (_, Some(value)) if value.get("results").is_some_and(Value::is_array) => Ok(value),
            (_, Some(value)) if value.get("type").is_some() => {
                let problem = Problem::deserialize(&value).map_err(|error| odd(&error))?;
                Err(Trouble::Problem(problem, value))
            }
            (404 | 405 | 501, _) => Err(Trouble::NoApi),
            _ => Err(Trouble::Odd(format!(
                "answered {status} {}",
                show::printable(text.lines().next().unwrap_or_default())
            ))),
        }
    }

    /// [`Api::ask`] with GET, and the answer in its shape.
    pub(super) fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        patience: Option<Duration>,
    ) -> Result<(T, Value), Trouble> {
        let value = self.ask(Method::GET, path, None, patience)?;
        Ok((shaped(&value)?, value))
    }

    /// The trouble in words for standard error, and its exit status.
    pub(super) fn explain(&self, trouble: &Trouble) -> (u8, String) {
        let daemon = &self.daemon;
        match trouble {
            Trouble::NoDaemon(reason) => (1, format!("no daemon at {daemon}: {reason}")),
            Trouble::Timeout => (127, format!("{daemon} did not answer in time")),
            Trouble::NoApi => (
                127,
                format!(
                    "{daemon} has no /api/v1: is it the Python program's daemon? It can only switch one outlet at a time"
                ),
            ),
            Trouble::Problem(problem, _) if problem.status == Some(401) && self.token.is_none() => {
                (
                    127,
                    format!(
                        "{daemon}: {} (give a token with --token-file)",
                        problem.text()
                    ),
                )
            }
            Trouble::Problem(problem, _) => (127, format!("{daemon}: {}", problem.text())),
            Trouble::Odd(what) => (127, format!("{daemon} is no pdudaemon, it seems: {what}")),
        }
    }
}

impl From<ureq::Error> for Trouble {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Self::NoDaemon("no connection in time".into())
            }
            ureq::Error::Timeout(_) => Self::Timeout,
            ureq::Error::Io(error) if is_timeout(&error) => Self::Timeout,
            ureq::Error::Io(error) => Self::NoDaemon(error.to_string()),
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
                Self::NoDaemon(error.to_string())
            }
            other => Self::Odd(other.to_string()),
        }
    }
}

/// A value in its shape.
pub(super) fn shaped<T: DeserializeOwned>(value: &Value) -> Result<T, Trouble> {
    T::deserialize(value).map_err(|error| Trouble::Odd(error.to_string()))
}

/// A name as one segment of a path.
pub(super) fn segment(name: &str) -> String {
    match name {
        // A URL would take these as ways up and nowhere.
        "." => "%2E".into(),
        ".." => "%2E%2E".into(),
        name => utf8_percent_encode(name, PATH).to_string(),
    }
}
