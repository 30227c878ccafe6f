//! A TCP connection whose every step has a deadline.

#[cfg(fuzzing)]
use super::fuzzing::TcpStream;
use super::resolve::resolve;
use super::{Deadline, Timed, TransportError, TransportErrorKind, printable};
use std::io::{ErrorKind, Read, Write};
#[cfg(not(fuzzing))]
use std::net::TcpStream;
use std::time::Duration;

/// How long one address may take to accept a connection, when the deadline is longer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Connects to the first address of `host` that accepts.
    pub fn open(host: &str, port: u16, deadline: Deadline) -> Result<Self, TransportError> {
        Self::open_or_hint(host, port, deadline, "")
    }

    /// The same; `hint` follows the error when the host is there but nobody listens on the port.
    pub fn open_or_hint(
        host: &str,
        port: u16,
        deadline: Deadline,
        hint: &str,
    ) -> Result<Self, TransportError> {
        let mut last = None;
        for address in resolve(host, port, deadline)? {
            let patience = deadline.within(CONNECT_PATIENCE).left("connecting")?;
            match TcpStream::connect_timeout(&address, patience) {
                Ok(stream) => {
                    stream
                        .set_nodelay(true)
                        .map_err(|error| TransportError::io("connecting", &error))?;
                    return Ok(Self { stream });
                }
                Err(error) => {
                    let hint = match error.kind() {
                        ErrorKind::ConnectionRefused => hint,
                        _ => "",
                    };
                    last = Some(format!("cannot connect to {address}: {error}{hint}"));
                }
            }
        }
        Err(TransportError::new(
            TransportErrorKind::NoConnection,
            last.unwrap_or_else(|| format!("{host} has no address to connect to")),
        ))
    }

    /// Sends all of `bytes`.
    pub fn send(&mut self, bytes: &[u8], timed: impl Timed) -> Result<(), TransportError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let left = timed.deadline().left("sending")?;
            let sent = self
                .stream
                .set_write_timeout(Some(left))
                .and_then(|()| self.stream.write(rest))
                .map_err(|error| TransportError::broken("sending", &error))?;
            if sent == 0 {
                return Err(TransportError::new(
                    TransportErrorKind::Closed,
                    "connection closed while sending",
                ));
            }
            rest = rest.get(sent..).unwrap_or_default();
        }
        timed.sent();
        Ok(())
    }

    /// What has come, at most `buffer` of it; 0 when the peer closed.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        deadline: Deadline,
    ) -> Result<usize, TransportError> {
        loop {
            let left = deadline.left("an answer")?;
            match self
                .stream
                .set_read_timeout(Some(left))
                .and_then(|()| self.stream.read(buffer))
            {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => {
                    return result
                        .map_err(|error| TransportError::broken("waiting for an answer", &error));
                }
            }
        }
    }

    /// Is the connection still open, and has nothing come that nobody asked for? Does not wait.
    pub fn is_quiet(&self) -> bool {
        let nothing = self.stream.set_nonblocking(true).and_then(|()| {
            let peeked = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            peeked
        });
        matches!(nothing, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// What has come already, without waiting: `None` when nothing has, 0 when the peer closed.
    pub fn receive_now(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, TransportError> {
        let result = self
            .stream
            .set_nonblocking(true)
            .and_then(|()| self.stream.read(buffer));
        self.stream
            .set_nonblocking(false)
            .map_err(|error| TransportError::io("receiving", &error))?;
        match result {
            Ok(more) => Ok(Some(more)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(TransportError::broken("receiving", &error)),
        }
    }

    /// Tells the peer that nothing more will be sent.
    pub fn finish(&mut self) {
        // A connection that is gone already needs no end.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Exactly `N` bytes; the error says how many of them came.
    pub fn receive_exact<const N: usize>(
        &mut self,
        deadline: Deadline,
    ) -> Result<[u8; N], TransportError> {
        let mut answer = [0; N];
        let mut have = 0;
        while have < N {
            let room = answer.get_mut(have..).unwrap_or_default();
            let more = self
                .receive(room, deadline)
                .map_err(|error| TransportError {
                    detail: format!("{} (got {have} of {N} bytes)", error.detail),
                    ..error
                })?;
            if more == 0 {
                let got = printable(answer.get(..have).unwrap_or_default());
                return Err(TransportError::new(
                    TransportErrorKind::Closed,
                    format!("connection closed after {have} of {N} bytes: {got}"),
                ));
            }
            have += more;
        }
        Ok(answer)
    }

    /// Throws away what came unasked, so that it is not taken for the next answer. Fails when the
    /// peer closed while the connection was idle, or does not stop sending.
    pub fn discard_input(&mut self) -> Result<(), TransportError> {
        const MOST_READS: usize = 64;
        let doing = "looking for stray input";
        let failed = |error| TransportError::io(doing, &error);
        self.stream.set_nonblocking(true).map_err(failed)?;
        let mut stray = [0; 1024];
        let mut outcome = Err(TransportError::new(
            TransportErrorKind::Garbled,
            "the PDU sends without being asked and does not stop",
        ));
        for _ in 0..MOST_READS {
            match self.stream.read(&mut stray) {
                Ok(0) => {
                    outcome = Err(TransportError::new(
                        TransportErrorKind::Closed,
                        "connection closed while idle",
                    ));
                    break;
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    outcome = Ok(());
                    break;
                }
                Err(error) => {
                    outcome = Err(failed(error));
                    break;
                }
            }
        }
        self.stream.set_nonblocking(false).map_err(failed)?;
        outcome
    }
}
