//! What went wrong, as a problem document (RFC 9457) with a stable type.

use super::response::Response;
use crate::access::{Denied, DeniedKind};
use crate::request::{Failure, FailureKind};
use serde::Serialize;

/// One kind of problem: the end of its type, its status, its title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(
    pub(super) &'static str,
    pub(super) u16,
    pub(super) &'static str,
);

pub(super) const BAD_VALUE: Kind = Kind("bad-value", 400, "A value is wrong");
pub(super) const NOT_FOUND: Kind = Kind("not-found", 404, "There is nothing here");
pub(super) const UNKNOWN_REQUEST: Kind = Kind("unknown-request", 404, "No such request");
pub(super) const METHOD: Kind = Kind("method-not-allowed", 405, "Another method is expected");
pub(super) const UNDER_WAY: Kind = Kind("under-way", 409, "It is too late to cancel this");
pub(super) const MEDIA_TYPE: Kind = Kind(
    "unsupported-media-type",
    415,
    "Another content type is expected",
);

pub(super) const UNAUTHORIZED: Kind = Kind("unauthorized", 401, "A token is needed");
pub(super) const FORBIDDEN: Kind = Kind("forbidden", 403, "You may not do this");
pub(super) const TOO_MANY: Kind = Kind("too-many-failures", 429, "Too many wrong tokens");

pub(super) const BUSY: Kind = Kind("busy", 503, "The daemon is busy");

/// The kind of problem a failure is.
pub(super) fn kind_of(failure: FailureKind) -> Kind {
    match failure {
        FailureKind::BadRequest => BAD_VALUE,
        FailureKind::UnknownPdu => Kind("unknown-pdu", 404, "No such PDU"),
        FailureKind::UnknownAlias => Kind("unknown-alias", 404, "No such alias"),
        FailureKind::BrokenSettings => {
            Kind("broken-settings", 503, "The PDU's settings cannot work")
        }
        FailureKind::NoSuchOutlet => Kind("no-such-outlet", 404, "No such outlet"),
        FailureKind::QueueFull => Kind("queue-full", 429, "The PDU's queue is full"),
        FailureKind::Unreachable => Kind("pdu-unreachable", 504, "The PDU does not answer"),
        FailureKind::Refused => Kind("pdu-refused", 502, "The PDU refused"),
        FailureKind::CannotRead => Kind("cannot-read", 501, "This PDU's states cannot be read"),
        FailureKind::Stopping => Kind("stopping", 503, "The daemon is stopping"),
        FailureKind::Cancelled => Kind("cancelled", 409, "The request was cancelled"),
        FailureKind::Internal => Kind("internal", 500, "A bug in the daemon"),
    }
}

/// A problem document.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    /// The request that failed, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<u64>,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let Kind(end, status, title) = kind;
        Self {
            kind: format!("urn:pdudaemon:problem:{end}"),
            title,
            status,
            detail: detail.into(),
            request: None,
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
