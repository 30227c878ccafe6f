//! Streams whose dialogue is written down.

use super::Desk;
use crate::driver::DriverError;
use crate::driver::profile::script::quoted;
use crate::driver::profile::{Over, Tape};
use crate::transport::expect::ByteStream;
use crate::transport::{Deadline, TransportError};

/// Opens such streams.
pub(super) struct Taped<D> {
    pub(super) desk: D,
    pub(super) tape: Tape,
    /// What is sent, as the dialogue writes it.
    pub(super) plain: fn(&[u8]) -> String,
}

/// An open stream.
pub(super) struct Stream<S> {
    stream: S,
    tape: Tape,
    plain: fn(&[u8]) -> String,
}

impl<D: Desk> Desk for Taped<D> {
    type Stream = Stream<D::Stream>;

    fn over(&self) -> Over {
        self.desk.over()
    }

    fn open(&mut self, deadline: Deadline) -> Result<Self::Stream, DriverError> {
        Ok(Stream {
            stream: self.desk.open(deadline)?,
            tape: self.tape.clone(),
            plain: self.plain,
        })
    }

    fn is_alive(&self, stream: &mut Self::Stream, deadline: Deadline) -> bool {
        self.desk.is_alive(&mut stream.stream, deadline)
    }
}

impl<S: ByteStream> ByteStream for Stream<S> {
    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), TransportError> {
        self.tape.sent((self.plain)(bytes));
        self.stream.send(bytes, deadline)
    }

    fn receive(&mut self, into: &mut Vec<u8>, deadline: Deadline) -> Result<bool, TransportError> {
        let before = into.len();
        let is_open = self.stream.receive(into, deadline)?;
        match into.get(before..) {
            Some([]) | None => {}
            Some(new) => self.tape.answered(quoted(new)),
        }
        if !is_open {
            self.tape.answered("closed");
        }
        Ok(is_open)
    }
}
