//! Questions to one BMC and its answers, before a session and in it.

use super::IpmiError;
use super::cipher::{Keys, is_same};
use super::wire::{self, Authentication, Packet, Request, Response, Said};
use crate::transport::exchange::{Heard, Link, Silence, Unanswered, exchange};
use crate::transport::pace::Pace;
use crate::transport::{Deadline, Timed, TransportError, TransportErrorKind};
use md5::{Digest, Md5};
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;

/// How the datagrams of a session are made and known.
pub(super) enum Seal {
    /// IPMI 1.5, with an authentication of this kind by the password.
    Old { kind: u8, password: [u8; 16] },
    /// IPMI 2.0; the console is our own number of the session, under which the BMC answers.
    New { keys: Keys, console: u32 },
}

/// IPMI 1.5's kinds of authentication.
pub(super) const NONE: u8 = 0;
pub(super) const MD5: u8 = 2;
pub(super) const PASSWORD: u8 = 4;

/// What goes through a session, or through none.
pub(super) struct Talk {
    pub(super) seal: Seal,
    /// The BMC's number of the session; 0 before there is one.
    pub(super) session: u32,
    /// That of the next datagram; 0 before the session is open.
    pub(super) sequence: u32,
}

impl fmt::Debug for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Talk")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl Talk {
    /// Before any session.
    pub(super) fn plain() -> Self {
        Self {
            seal: Seal::Old {
                kind: NONE,
                password: [0; 16],
            },
            session: 0,
            sequence: 0,
        }
    }

    fn next_sequence(&mut self) -> u32 {
        let sequence = self.sequence;
        if sequence != 0 {
            // 0 stands for no session.
            self.sequence = sequence.checked_add(1).unwrap_or(1);
        }
        sequence
    }

    /// A copy of the request: each has a sequence number of its own.
    pub(super) fn encode(
        &mut self,
        request: &Request,
        number: u8,
    ) -> Result<Vec<u8>, TransportError> {
        let message = wire::message(request, number);
        let sequence = self.next_sequence();
        Ok(match &self.seal {
            Seal::Old { kind, password } => {
                let code = code(*kind, password, self.session, sequence, &message);
                let authentication = Authentication { kind: *kind, code };
                wire::old_datagram(authentication, sequence, self.session, &message)
            }
            Seal::New { keys, .. } => {
                let payload = keys.encrypt(super::random()?, &message);
                let kind = wire::SEALED;
                let mut datagram = wire::new_datagram(kind, self.session, sequence, &payload);
                wire::sign(&mut datagram, |signed| keys.signature(signed));
                datagram
            }
        })
    }

    /// Is the datagram the answer to the request? Only one of this session is.
    pub(super) fn decode(
        &self,
        datagram: &[u8],
        request: &Request,
        number: u8,
    ) -> Heard<Response, Infallible> {
        let garbled = |what| Heard::Garbled(strange(datagram, what));
        let packet = match wire::packet(datagram) {
            Ok(packet) => packet,
            Err(what) => return garbled(what),
        };
        let message = match (packet, &self.seal) {
            (
                Packet::Old {
                    authentication,
                    sequence,
                    session,
                    message,
                },
                Seal::Old { kind, password },
            ) => {
                // The answer to the opening has the number that the session had till then, or the
                // one that it has from then on.
                if session != self.session && self.sequence != 0 {
                    return Heard::NotOurs;
                }
                let expected = Authentication {
                    kind: *kind,
                    code: code(*kind, password, session, sequence, message),
                };
                let is_signed = authentication.kind == expected.kind
                    && is_same(&authentication.code, &expected.code);
                // A BMC may refuse without a signature; what it grants must have one.
                let is_refusal = matches!(
                    wire::answer(message, request, number),
                    Said::Answer(Response {
                        completion: 1..,
                        ..
                    })
                );
                let may_be_bare = is_refusal && authentication.kind == NONE;
                if !is_signed && !may_be_bare {
                    return garbled("its authentication is wrong");
                }
                message.to_vec()
            }
            (
                Packet::New {
                    kind: wire::SEALED,
                    session,
                    payload,
                    behind_rmcp,
                },
                Seal::New { keys, console },
            ) => {
                if session != *console {
                    return Heard::NotOurs;
                }
                if !keys.is_signed(behind_rmcp) {
                    return garbled("its signature is wrong");
                }
                match keys.decrypt(payload) {
                    Some(message) => message,
                    None => return garbled("it cannot be decrypted"),
                }
            }
            // A late answer from the login.
            (Packet::New { kind, .. }, _) if wire::is_of_a_login(kind) => return Heard::NotOurs,
            (Packet::Old { session: 0, .. }, Seal::New { .. }) => return Heard::NotOurs,
            _ => return garbled("it is of no session of ours"),
        };
        match wire::answer(&message, request, number) {
            // That to an earlier copy is under way.
            Said::Answer(Response {
                completion: 0xcf, ..
            })
            | Said::Other => Heard::NotOurs,
            Said::Answer(response) => Heard::Answer(response),
            Said::Garbled(what) => garbled(what),
        }
    }
}

/// A datagram that is none of the peer's answers. Its bytes are not told: in IPMI 1.5 the password may
/// be among them.
fn strange(datagram: &[u8], what: &str) -> String {
    format!("{} bytes came: {what}", datagram.len())
}

/// IPMI 1.5's authentication code (IPMI 2.0 specification, section 22.17.1).
fn code(kind: u8, password: &[u8; 16], session: u32, sequence: u32, message: &[u8]) -> [u8; 16] {
    match kind {
        MD5 => Md5::new()
            .chain_update(password)
            .chain_update(session.to_le_bytes())
            .chain_update(message)
            .chain_update(sequence.to_le_bytes())
            .chain_update(password)
            .finalize()
            .into(),
        PASSWORD => *password,
        _ => [0; 16],
    }
}

/// The way to one BMC. Each question is given the usual time anew: what takes a BMC long, its login,
/// tells nothing of the rest, and a copy that comes too soon costs it nothing.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) peer: SocketAddr,
    link: Link,
    /// How many requests it has carried. Their numbers go to 63.
    requests: u8,
}

/// The numbers of requests are 6 bits long.
const NUMBERS: u8 = 64;

impl Line {
    pub(super) fn new(peer: SocketAddr, link: Link) -> Self {
        Self {
            peer,
            link,
            requests: 0,
        }
    }

    /// Has it numbers left? An answer must not be taken for that to an older request of the same
    /// number.
    pub(super) fn has_numbers(&self) -> bool {
        // Two for what may follow: the reading of the state, and the farewell.
        self.requests + 2 < NUMBERS
    }

    /// Sends the request until the answer comes.
    pub(super) fn ask(
        &mut self,
        talk: &mut Talk,
        request: &Request,
        timed: impl Timed,
    ) -> Result<Response, Unanswered<Infallible>> {
        let number = self.requests % NUMBERS;
        self.requests = self.requests.saturating_add(1);
        exchange(
            &mut self.link,
            &mut Pace::default(),
            timed,
            talk,
            |talk, _| talk.encode(request, number),
            |talk, datagram| talk.decode(datagram, request, number),
        )
    }

    /// Sends the request once, and waits for nothing.
    pub(super) fn tell(&mut self, talk: &mut Talk, request: &Request) {
        let number = self.requests % NUMBERS;
        if let Ok(datagram) = talk.encode(request, number) {
            let _ = self.link.send(&datagram);
        }
    }

    /// Sends a payload of IPMI 2.0's login until its answer comes: the payload of the next type,
    /// with the same tag before it.
    pub(super) fn step(
        &mut self,
        kind: u8,
        payload: &[u8],
        deadline: Deadline,
    ) -> Result<Vec<u8>, Unanswered<Infallible>> {
        exchange(
            &mut self.link,
            &mut Pace::default(),
            deadline,
            &mut (),
            |(), _| Ok(wire::new_datagram(kind, 0, 0, payload)),
            |(), datagram| {
                let what = match wire::packet(datagram) {
                    Ok(Packet::New {
                        kind: came,
                        payload: answer,
                        ..
                    }) if came == kind + 1 && answer.first() == payload.first() => {
                        return Heard::Answer(answer.to_vec());
                    }
                    Ok(Packet::New { kind: came, .. }) if wire::is_of_a_login(came) => {
                        return Heard::NotOurs;
                    }
                    // A late answer to what was asked before the login.
                    Ok(Packet::Old { session: 0, .. }) => return Heard::NotOurs,
                    Ok(_) => "it is no answer to a login",
                    Err(what) => what,
                };
                Heard::Garbled(strange(datagram, what))
            },
        )
    }

    /// Sends a payload of the login once, and waits for nothing.
    pub(super) fn tell_step(&self, kind: u8, payload: &[u8]) {
        let _ = self.link.send(&wire::new_datagram(kind, 0, 0, payload));
    }

    /// What it means that the question had no answer; `asked` names it, and `kind` tells what its
    /// silence is.
    pub(super) fn error(
        &self,
        unanswered: Unanswered<Infallible>,
        kind: TransportErrorKind,
        asked: &str,
    ) -> IpmiError {
        use TransportErrorKind::{Closed, Garbled, NoConnection};
        let peer = self.peer;
        let error = |kind, detail| IpmiError::Transport(TransportError::new(kind, detail));
        match unanswered {
            Unanswered::Failed(never) => match never {},
            Unanswered::Unsaid(why) => IpmiError::Transport(why),
            Unanswered::Gone(why) if kind == NoConnection => {
                error(NoConnection, format!("no BMC at {peer} (UDP): {why}"))
            }
            Unanswered::Gone(why) => error(
                Closed,
                format!("{peer} went away while {asked} was awaited: {why}"),
            ),
            Unanswered::Silent(Silence {
                tried,
                waited,
                garbled,
            }) => {
                let waited = waited.as_secs_f64();
                let detail = format!(
                    "no answer from {peer} to {asked} in {waited:.1} s (copies sent: {tried})"
                );
                match garbled {
                    Some(what) => error(Garbled, format!("{detail}, but {what}")),
                    None => error(kind, detail),
                }
            }
        }
    }
}
