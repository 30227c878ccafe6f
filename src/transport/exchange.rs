//! A question by datagram: its copies, and the answer among all that comes.
//!
//! A question that is not answered is sent again with growing pauses, and not before the peer has
//! had the time that it usually takes ([`Pace`]). What makes a datagram the answer is the protocol's
//! to say.

#[cfg(fuzzing)]
use super::fuzzing::Datagrams;
use super::pace::Pace;
#[cfg(not(fuzzing))]
use super::udp::Datagrams;
use super::{Timed, TransportError, now};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How often a question is put anew with what the peer told about itself.
const MOST_ANEW: u32 = 3;

/// The most bytes an answer may have.
const MOST: usize = 16_384;

/// What a datagram turned out to be; `E` is why the protocol gives a question up.
pub(super) enum Heard<T, E> {
    /// The answer waited for.
    Answer(T),
    /// Of an older question: nothing to us.
    NotOurs,
    /// No message of this protocol; the right one may still come.
    Garbled(String),
    /// The peer told something that the question must be put again with: did it refuse this copy?
    /// If not, it may have carried it out. `endless` is said where it does so each time.
    Again {
        is_refused: bool,
        endless: &'static str,
    },
    /// An answer that ends the question: has the peer refused this copy?
    Failed { error: E, is_refused: bool },
}

/// How a question without an answer ended.
pub(super) enum Unanswered<E> {
    /// Nothing came in time.
    Silent(Silence),
    /// Nobody is there: the system's words.
    Gone(io::Error),
    /// The question cannot be put.
    Unsaid(TransportError),
    /// See [`Heard::Failed`].
    Failed(E),
}

/// A peer's silence.
pub(super) struct Silence {
    /// How many copies were sent.
    pub(super) tried: u32,
    pub(super) waited: Duration,
    /// The last strange thing heard meanwhile.
    pub(super) garbled: Option<String>,
}

/// The way to one peer.
#[derive(Debug)]
pub(super) struct Link {
    datagrams: Datagrams,
    buffer: Box<[u8]>,
}

impl Link {
    /// Sends nothing yet.
    pub(super) fn open(peer: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            datagrams: Datagrams::open(peer)?,
            buffer: vec![0; MOST].into_boxed_slice(),
        })
    }

    /// Sends what nobody waits for an answer to.
    pub(super) fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.datagrams.send(datagram)
    }

    /// The next datagram before `until`, and whether it is from the peer; `None` when there is none.
    fn receive(&mut self, until: Instant) -> io::Result<Option<(&[u8], bool)>> {
        let received = self.datagrams.receive(&mut self.buffer, until)?;
        Ok(received.and_then(|(length, from_peer)| Some((self.buffer.get(..length)?, from_peer))))
    }
}

/// Sends what `encode` makes for each copy until `decode` finds the answer, or the deadline comes.
pub(super) fn exchange<S, T, E>(
    link: &mut Link,
    pace: &mut Pace,
    timed: impl Timed,
    state: &mut S,
    encode: impl Fn(&mut S, u32) -> Result<Vec<u8>, TransportError>,
    decode: impl Fn(&mut S, &[u8]) -> Heard<T, E>,
) -> Result<T, Unanswered<E>> {
    let (start, deadline) = (now(), timed.deadline());
    let (mut tried, mut anew, mut garbled) = (0, 0, None);
    // The first copy of the question as it is now, and how many there are.
    let (mut first_sent, mut copies) = (start, 0);
    let mut pauses = pace.pauses(deadline.moment().saturating_duration_since(start));
    while let Ok(left) = deadline.left("an answer") {
        let question = encode(state, tried).map_err(Unanswered::Unsaid)?;
        let sent = now();
        link.datagrams.send(&question).map_err(Unanswered::Gone)?;
        timed.sent();
        if copies == 0 {
            first_sent = sent;
        }
        (tried, copies) = (tried + 1, copies + 1);
        let pause = pauses.next(left);
        let mut until = sent + pause;
        loop {
            let received = link.receive(until).map_err(|error| {
                // The network says so of the copy.
                timed.turned_away();
                Unanswered::Gone(error)
            })?;
            let Some((datagram, from_peer)) = received else {
                break;
            };
            match decode(state, datagram) {
                Heard::Answer(answer) => {
                    pace.learn(now().saturating_duration_since(first_sent), copies == 1);
                    return Ok(answer);
                }
                // The peer has come so far in what we sent it before: ours has its turn yet.
                Heard::NotOurs => until = deadline.within(pause).moment(),
                // Whoever sends us anything is not the peer for that.
                Heard::Garbled(_) if !from_peer => {}
                Heard::Garbled(what) => garbled = Some(what),
                Heard::Again {
                    is_refused,
                    endless,
                } => {
                    if is_refused {
                        timed.turned_away();
                    }
                    if anew < MOST_ANEW {
                        (anew, copies) = (anew + 1, 0);
                        break;
                    }
                    garbled = Some(endless.to_owned());
                }
                Heard::Failed { error, is_refused } => {
                    if is_refused {
                        timed.turned_away();
                    }
                    return Err(Unanswered::Failed(error));
                }
            }
        }
    }
    Err(Unanswered::Silent(Silence {
        tried,
        waited: now().saturating_duration_since(start),
        garbled,
    }))
}
