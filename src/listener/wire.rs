//! A client's connection, as the front and whoever answers on it share it.
//!
//! Whoever answers writes to the client's socket itself, as much as that takes at once; the rest is
//! the front's. The front is woken only when there is something for it to do: a rest to send, a
//! further request that has come already, a connection to close.

use super::bell::{Bell, News};
use super::stream::ClientStream;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Bytes on their way to a client: what is written first, then a body that others may share.
#[derive(Clone, Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    body: Arc<[u8]>,
    sent: usize,
}

impl Outgoing {
    pub(super) fn new(bytes: Vec<u8>, body: Arc<[u8]>) -> Self {
        Self {
            bytes,
            body,
            sent: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent >= self.bytes.len() + self.body.len()
    }

    /// How much memory it takes. A body that others share counts in full: it may outlive them.
    pub(super) fn size(&self) -> usize {
        self.bytes.capacity() + self.body.len()
    }

    /// Adds bytes behind all others.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.is_empty() {
            *self = Self::default();
        } else if !self.body.is_empty() {
            self.bytes.extend_from_slice(&self.body);
            self.body = Arc::default();
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes until all is out, the client takes no more for now, or `most` is reached; how much
    /// went out.
    pub(super) fn write_to(&mut self, mut stream: &ClientStream, most: usize) -> io::Result<usize> {
        let before = self.sent;
        loop {
            let rest = match self.sent.checked_sub(self.bytes.len()) {
                None => self.bytes.get(self.sent..),
                Some(sent) => self.body.get(sent..),
            };
            let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
                break;
            };
            let Some(room) = most
                .checked_sub(self.sent - before)
                .filter(|room| *room > 0)
            else {
                break;
            };
            let rest = rest.get(..room).unwrap_or(rest);
            match stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => self.sent += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let sent = self.sent - before;
        if self.is_empty() {
            *self = Self::default();
        }
        Ok(sent)
    }
}

/// Whose turn it is on a connection.
enum WhoseTurn {
    /// The client's: nothing is asked.
    Client,
    /// The server's. The front wants to hear of the answer at once, or not before it has another
    /// reason to look; at the latest at the given time it has one given.
    Server {
        wakes: bool,
        late: Option<(Instant, Box<dyn FnOnce() + Send>)>,
    },
    /// The front's: this was answered, with what the client has not taken yet.
    Front { at: Instant, rest: Outgoing },
}

/// One client's connection.
pub(super) struct ClientWire {
    id: u64,
    pub(super) stream: ClientStream,
    turn: Mutex<WhoseTurn>,
    bell: Arc<Bell>,
}

impl ClientWire {
    pub(super) fn new(id: u64, stream: ClientStream, bell: &Arc<Bell>) -> Self {
        Self {
            id,
            stream,
            turn: Mutex::new(WhoseTurn::Client),
            bell: Arc::clone(bell),
        }
    }

    fn turn(&self) -> MutexGuard<'_, WhoseTurn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request goes to the server.
    pub(super) fn ask(&self, wakes: bool) {
        *self.turn() = WhoseTurn::Server { wakes, late: None };
    }

    /// From now on no answer is taken.
    pub(super) fn give_up(&self) {
        let before = std::mem::replace(&mut *self.turn(), WhoseTurn::Client);
        // Not under the lock: what is dropped may hold the last of an asker.
        drop(before);
    }

    /// The client's patience: `late` gives the answer at `until`. It goes with the answer, or with
    /// the client.
    pub(super) fn answer_by(&self, until: Instant, answer: Box<dyn FnOnce() + Send>) {
        if let WhoseTurn::Server { late, .. } = &mut *self.turn() {
            *late = Some((until, answer));
        }
        self.bell.ring(News::Look(self.id));
    }

    /// What is to give the answer now.
    pub(super) fn late(&self, now: Instant) -> Option<Box<dyn FnOnce() + Send>> {
        match &mut *self.turn() {
            WhoseTurn::Server { late, .. } => late
                .take_if(|(until, _)| *until <= now)
                .map(|(_, late)| late),
            WhoseTurn::Client | WhoseTurn::Front { .. } => None,
        }
    }

    /// When the answer came, where something was asked, and what of it is still to be sent. If it has
    /// not come, it shall wake the front: the error is when one is to be given at the latest, see
    /// [`ClientWire::late`].
    pub(super) fn look(
        &self,
        shall_wake: bool,
    ) -> Result<Option<(Instant, Outgoing)>, Option<Instant>> {
        let mut turn = self.turn();
        match &mut *turn {
            WhoseTurn::Client => Ok(None),
            WhoseTurn::Server { wakes, late } => {
                *wakes |= shall_wake;
                Err(late.as_ref().map(|(until, _)| *until))
            }
            WhoseTurn::Front { at, rest } => {
                let found = Some((*at, std::mem::take(rest)));
                *turn = WhoseTurn::Client;
                Ok(found)
            }
        }
    }

    /// Gives the answer that is waited for; false when nobody does.
    pub(super) fn answer(&self, mut output: Outgoing) -> bool {
        let mut turn = self.turn();
        let WhoseTurn::Server { wakes, .. } = *turn else {
            return false;
        };
        // Under the lock: a client may ask again as soon as it has the last byte, and the front
        // must find this answered by then.
        let taken = output.write_to(&self.stream, usize::MAX);
        let wakes = wakes || !output.is_empty();
        let fine = taken.is_ok();
        let answered = WhoseTurn::Front {
            at: Instant::now(),
            rest: output,
        };
        let before = std::mem::replace(&mut *turn, answered);
        drop(turn);
        drop(before);
        if wakes {
            self.bell.ring(News::Look(self.id));
        }
        fine
    }
}

impl std::fmt::Debug for ClientWire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    fn wire() -> (ClientWire, UnixStream, Arc<Bell>) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("non-blocking");
        let bell = Arc::new(Bell::new().expect("an eventfd"));
        (
            ClientWire::new(7, ClientStream::new(ours.into()), &bell),
            theirs,
            bell,
        )
    }

    #[test]
    fn an_answer_is_taken_once_and_only_when_one_is_waited_for() {
        let (wire, mut theirs, bell) = wire();
        let output = || Outgoing::new(b"head ".to_vec(), b"body".as_slice().into());
        assert!(!wire.answer(output()), "nothing was asked");
        wire.ask(false);
        assert!(matches!(wire.look(false), Err(None)));
        assert!(wire.answer(output()));
        assert!(!wire.answer(output()), "answered twice");
        assert!(bell.news().is_empty(), "nothing is left to do");
        assert!(matches!(wire.look(false), Ok(Some((_, rest))) if rest.is_empty()));
        assert!(matches!(wire.look(false), Ok(None)));
        wire.ask(false);
        wire.look(true).expect_err("it is waited for");
        assert!(wire.answer(output()));
        assert_eq!(bell.news(), [News::Look(7)]);
        wire.ask(false);
        wire.give_up();
        assert!(!wire.answer(output()), "given up");
        drop(wire);
        let mut read = String::new();
        theirs.read_to_string(&mut read).expect("read");
        assert_eq!(read, "head bodyhead body");
    }

    #[test]
    fn an_answer_that_takes_too_long_is_given_when_patience_is_over() {
        let (wire, _theirs, bell) = wire();
        let now = Instant::now();
        let until = now + std::time::Duration::from_secs(9);
        let is_held = Arc::new(());
        let answer_by = |wire: &ClientWire| {
            let held = Arc::clone(&is_held);
            wire.answer_by(until, Box::new(move || drop(held)));
        };
        wire.ask(false);
        answer_by(&wire);
        assert_eq!(bell.news(), [News::Look(7)], "the front has to know");
        assert!(matches!(wire.look(false), Err(Some(at)) if at == until));
        assert!(wire.late(now).is_none());
        wire.late(until).expect("it is time")();
        assert!(wire.late(until).is_none(), "once");
        // It goes with an answer, with a refusal, and with the client.
        for end in [
            |wire: &ClientWire| assert!(wire.answer(Outgoing::default())),
            ClientWire::give_up,
        ] {
            wire.ask(false);
            answer_by(&wire);
            assert_eq!(Arc::strong_count(&is_held), 2);
            end(&wire);
            assert_eq!(Arc::strong_count(&is_held), 1);
        }
        wire.ask(false);
        answer_by(&wire);
        drop(wire);
        assert_eq!(Arc::strong_count(&is_held), 1);
    }

    #[test]
    fn what_a_slow_reader_leaves_is_the_fronts() {
        let (wire, mut theirs, bell) = wire();
        let body: Arc<[u8]> = (0..=255u8).cycle().take(4 << 20).collect();
        wire.ask(false);
        assert!(wire.answer(Outgoing::new(b"head".to_vec(), Arc::clone(&body))));
        assert_eq!(bell.news(), [News::Look(7)]);
        let Ok(Some((_, mut rest))) = wire.look(false) else {
            panic!("not answered");
        };
        assert!(!rest.is_empty());
        rest.push(b"tail");
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).expect("read");
            read
        });
        while !rest.is_empty() {
            rest.write_to(&wire.stream, 1000).expect("written");
            std::thread::yield_now();
        }
        drop(wire);
        let read = reader.join().expect("read");
        assert_eq!(read, [b"head".as_slice(), &body, b"tail"].concat());
    }
}
