//! What went wrong, as a problem document (RFC 9457) with a stable type.

use super::response::Response;
use crate::access::{Denied, DeniedKind};
use crate::request::{Failure, FailureKind};
use serde::{Serialize, Serializer};

/// A problem document.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Problem {
    #[serde(rename = "type", serialize_with = "as_urn")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    /// The request that failed, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<u64>,
}

/// A kind of problem: the end of its type, its status, its title.
const fn kind(kind: &'static str, status: u16, title: &'static str) -> Problem {
    Problem {
        kind,
        title,
        status,
        detail: String::new(),
        request: None,
    }
}

fn as_urn<S: Serializer>(kind: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("urn:pdudaemon:problem:{kind}"))
}

pub(super) const BAD_VALUE: Problem = kind("bad-value", 400, "A value is wrong");
pub(super) const NOT_FOUND: Problem = kind("not-found", 404, "There is nothing here");
pub(super) const UNKNOWN_REQUEST: Problem = kind("unknown-request", 404, "No such request");
pub(super) const METHOD: Problem = kind("method-not-allowed", 405, "Another method is expected");
pub(super) const UNDER_WAY: Problem = kind("under-way", 409, "It is too late to cancel this");
pub(super) const MEDIA_TYPE: Problem = kind(
    "unsupported-media-type",
    415,
    "Another content type is expected",
);

const UNAUTHORIZED: Problem = kind("unauthorized", 401, "A token is needed");
pub(super) const FORBIDDEN: Problem = kind("forbidden", 403, "You may not do this");
const TOO_MANY: Problem = kind("too-many-failures", 429, "Too many wrong tokens");

pub(super) const BUSY: Problem = kind("busy", 503, "The daemon is busy");

/// The kind of problem that a failure is.
const fn kind_of(failure: FailureKind) -> Problem {
    match failure {
        FailureKind::BadRequest => BAD_VALUE,
        FailureKind::UnknownPdu => kind("unknown-pdu", 404, "No such PDU"),
        FailureKind::UnknownAlias => kind("unknown-alias", 404, "No such alias"),
        FailureKind::BrokenSettings => {
            kind("broken-settings", 503, "The PDU's settings cannot work")
        }
        FailureKind::NoSuchOutlet => kind("no-such-outlet", 404, "No such outlet"),
        FailureKind::QueueFull => kind("queue-full", 429, "The PDU's queue is full"),
        FailureKind::Unreachable => kind("pdu-unreachable", 504, "The PDU does not answer"),
        FailureKind::Refused => kind("pdu-refused", 502, "The PDU refused"),
        FailureKind::CannotRead => kind("cannot-read", 501, "This PDU's states cannot be read"),
        FailureKind::Stopping => kind("stopping", 503, "The daemon is stopping"),
        FailureKind::Cancelled => kind("cancelled", 409, "The request was cancelled"),
        FailureKind::Internal => kind("internal", 500, "A bug in the daemon"),
    }
}

impl Problem {
    /// A problem of this kind, and what is wrong.
    pub(super) fn new(kind: Self, detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
            ..kind
        }
    }

    /// The problem of this request.
    pub(super) fn of(failure: &Failure, request: Option<u64>) -> Self {
        Self {
            request,
            ..Self::new(kind_of(failure.kind), failure.reason.clone())
        }
    }

    pub(super) fn response(&self) -> Response {
        Response::serialized(self.status, "application/problem+json", self)
    }
}

impl From<&Denied> for Problem {
    fn from(denied: &Denied) -> Self {
        let kind = match denied.kind {
            DeniedKind::Unauthorized => UNAUTHORIZED,
            DeniedKind::Forbidden => FORBIDDEN,
            DeniedKind::TooMany => TOO_MANY,
        };
        Self::new(kind, denied.reason.clone())
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        Self::from(&denied)
    }
}

impl From<&Failure> for Problem {
    fn from(failure: &Failure) -> Self {
        Self::of(failure, None)
    }
}
