//! How bytes travel. Each transport is written once, takes a [`Deadline`] in every call that
//! asks and an [`Attempt`] in every call that may switch, and bounds every buffer that a PDU fills.
//!
//! Invariant: nothing here knows that PDUs, outlets or a config exist.

pub mod aside;
mod attempt;
mod blot;
pub(crate) mod children;
pub mod command;
#[cfg(not(fuzzing))]
mod companion;
mod exchange;
pub mod expect;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod http;
pub mod ipmi;
pub mod kept;
pub mod leftover;
pub mod lock;
pub mod mqtt;
mod pace;
pub mod private;
pub(crate) mod regular;
pub mod resolve;
pub mod serial;
pub mod snmp;
pub mod ssh;
pub mod tcp;
pub mod telnet;
pub mod tls;
#[cfg(not(fuzzing))]
mod udp;
pub mod usb;

pub use attempt::{Attempt, Deadline, Timed, Verdict};
pub(crate) use blot::blotted;
#[cfg(not(fuzzing))]
pub use companion::Companion;
#[cfg(fuzzing)]
pub use fuzzing::Companion;

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// The moment it is; the fuzzer has a clock of its own.
fn now() -> Instant {
    #[cfg(fuzzing)]
    return fuzzing::now();
    #[cfg(not(fuzzing))]
    Instant::now()
}

/// Waits, between two questions to a PDU that needs a while.
pub(crate) fn pause(wait: Duration) {
    #[cfg(fuzzing)]
    fuzzing::pass(wait);
    #[cfg(not(fuzzing))]
    std::thread::sleep(wait);
}

/// What went wrong on the way to a PDU, told apart by what a person can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportErrorKind {
    /// The host name has no address (or the resolver did not answer).
    NoName,
    /// No connection: refused, unreachable, or no answer to the connection attempt.
    NoConnection,
    /// The local device, file or program is not there.
    NotFound,
    /// The local device or file is there, but we may not open it.
    NoPermission,
    /// Somebody else holds it: a serial port in use, a PDU with another user logged in.
    Busy,
    /// The peer is not who it should be: host key, certificate.
    Untrusted,
    /// The peer speaks only what is too old to be spoken here.
    Incompatible,
    /// No answer, or not all of it, in time.
    Timeout,
    /// The connection ended in the middle.
    Closed,
    /// What came is not the protocol spoken here, or more than any answer may be.
    Garbled,
    /// Another error of the operating system.
    Io,
}

/// A transport's failure: its kind, and a sentence with what was expected and what came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportError {
    /// The kind.
    pub kind: TransportErrorKind,
    /// Lower case, no full stop.
    pub detail: String,
}

impl TransportError {
    /// An error of `kind`.
    pub fn new(kind: TransportErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }

    /// An error of the operating system while `doing` something over an open connection or device.
    pub fn io(doing: &str, error: &io::Error) -> Self {
        use io::ErrorKind as E;
        let kind = match error.kind() {
            E::TimedOut | E::WouldBlock => {
                return Self::new(
                    TransportErrorKind::Timeout,
                    format!("no answer in time while {doing}"),
                );
            }
            E::ConnectionReset | E::ConnectionAborted | E::BrokenPipe | E::UnexpectedEof => {
                TransportErrorKind::Closed
            }
            E::ConnectionRefused
            | E::HostUnreachable
            | E::NetworkUnreachable
            | E::AddrNotAvailable => TransportErrorKind::NoConnection,
            E::NotFound => TransportErrorKind::NotFound,
            E::PermissionDenied => TransportErrorKind::NoPermission,
            E::ResourceBusy => TransportErrorKind::Busy,
            _ => TransportErrorKind::Io,
        };
        Self::new(kind, format!("{doing}: {error}"))
    }

    /// The same of a read or write over a connection that stood: whatever the system's words, that
    /// connection has ended.
    pub fn broken(doing: &str, error: &io::Error) -> Self {
        use TransportErrorKind as K;
        let told = Self::io(doing, error);
        match told.kind {
            K::Timeout | K::Io => told,
            _ => Self::new(K::Closed, told.detail),
        }
    }

    /// Could a further attempt do better?
    pub fn is_transient(&self) -> bool {
        use TransportErrorKind as K;
        match self.kind {
            K::NoPermission | K::Untrusted | K::Incompatible => false,
            K::NoName
            | K::NoConnection
            | K::NotFound
            | K::Busy
            | K::Timeout
            | K::Closed
            | K::Garbled
            | K::Io => true,
        }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for TransportError {}

/// What a device said, for an error or a log line: printable, on one line, at most 200 bytes.
pub fn printable(bytes: &[u8]) -> String {
    const MOST: usize = 200;
    let shown = bytes.get(..MOST).unwrap_or(bytes);
    let mut text = String::from("\"");
    text.extend(
        shown
            .iter()
            .flat_map(|byte| std::ascii::escape_default(*byte))
            .map(char::from),
    );
    text.push('"');
    if bytes.len() > MOST {
        text.push_str(&format!(" and {} bytes more", bytes.len() - MOST));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_broke_is_lost_whatever_the_system_says() {
        use rustix::io::Errno;
        for errno in [
            Errno::HOSTUNREACH,
            Errno::NETUNREACH,
            Errno::CONNREFUSED,
            Errno::PERM,
            Errno::BUSY,
            Errno::CONNRESET,
            Errno::TIMEDOUT,
        ] {
            let error = TransportError::broken("waiting for an answer", &errno.into());
            let is_late = error.kind == TransportErrorKind::Timeout;
            assert!(error.is_lost() || is_late, "{error:?}");
        }
    }
}
