//! Numato Lab's USB relay modules: commands and a `>` prompt.
//!
//! Facts from Numato's documents: a command ends with CR and is answered with its echo, LF CR, an
//! answer if it has one, LF CR and `>`. Ids count from 0: one hex digit (1 to 16 channels), `0` to
//! `9` and `A` to `V` (32), two decimal digits (64). Numato writes hex digits in upper case, and
//! so do we; the Python driver writes lower case on 16 channels.
//!
//! As the Python driver does, a fresh line gets a CR, `ver` and `id get` first. Unlike there the
//! prompt must come, and the relay is read back (`relay read`). Compared with release
//! 1.1.1 on the transcripts, these two are all the differences in bytes.

use super::{IDLE, LinePort, Modem};
use crate::driver::{Build, Built, Driver, DriverError, outlet_number};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Key, Keys, Settings, SettingsError};
use crate::transport::kept::{Kept, Opener};
use crate::transport::serial::Line;
use crate::transport::{Attempt, Deadline, Timed, printable};
use std::time::Duration;

/// How many channels a model has.
pub(super) struct Model(pub(super) u32);

/// More than any answer has.
const MOST: usize = 1024;

impl Build for Model {
    fn keys(&self) -> Vec<Key> {
        Modem::rows()
    }

    fn build(&self, settings: &Settings) -> Result<Built, SettingsError> {
        let driver: Box<dyn Driver> = Box::new(Kept::new(Numato {
            port: LinePort::new(settings, &settings.keys::<Modem>()?.device, 9600)?,
            channels: self.0,
        }));
        Ok(driver.into())
    }
}

struct Numato {
    port: LinePort,
    channels: u32,
}

/// The id of outlet `number` on a module with so many channels.
fn relay_id(channels: u32, number: u32) -> String {
    let index = number.saturating_sub(1);
    if channels > 32 {
        return format!("{index:02}");
    }
    char::from_digit(index, 36)
        .unwrap_or('0')
        .to_ascii_uppercase()
        .to_string()
}

/// The answer between a command's echo and the prompt; empty when there is none.
fn parse<'a>(command: &str, reply: &'a [u8]) -> Result<&'a [u8], DriverError> {
    let body = reply.strip_suffix(b">").unwrap_or(reply);
    let mut lines = body
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty());
    match (lines.next(), lines.next(), lines.next()) {
        (Some(echo), answer, None) if echo == command.as_bytes() => Ok(answer.unwrap_or_default()),
        _ => Err(DriverError::Unexpected {
            expected: format!("the echo of {command:?} and at most one line"),
            got: printable(reply),
        }),
    }
}

/// Sends a command and takes what comes up to the prompt.
fn send(line: &mut Line, command: &str, timed: impl Timed) -> Result<Vec<u8>, DriverError> {
    line.discard_input()?;
    line.send(format!("{command}\r").as_bytes(), timed)?;
    Ok(line.receive_until(b'>', MOST, timed.deadline())?)
}

impl Opener for Numato {
    type Session = Line;
    type Error = DriverError;
    const IDLE: Duration = IDLE;

    fn open(&mut self, deadline: Deadline) -> Result<Line, DriverError> {
        let mut line = self.port.open(deadline)?;
        // Ends what somebody may have typed; answered with a prompt.
        send(&mut line, "", deadline)?;
        for command in ["ver", "id get"] {
            let reply = send(&mut line, command, deadline)?;
            log::debug!("{command}: {}", printable(&reply));
        }
        Ok(line)
    }

    fn leave(&self, line: Line, deadline: Deadline) {
        line.close(deadline);
    }
}

fn read(line: &mut Line, id: &str, deadline: Deadline) -> Result<State, DriverError> {
    let command = format!("relay read {id}");
    let reply = send(line, &command, deadline)?;
    Ok(match parse(&command, &reply)? {
        b"on" => State::On,
        b"off" => State::Off,
        other => State::Unknown(printable(other)),
    })
}

impl Numato {
    fn id(&self, outlet: &Outlet) -> Result<String, DriverError> {
        let number = outlet_number(outlet)?;
        Ok(relay_id(self.channels, number))
    }
}

impl Driver for Kept<Numato> {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let command = format!("relay {to} {}", self.opener.id(outlet)?);
        self.call(attempt, |_, line| {
            let reply = send(line, &command, attempt)?;
            // Numato's documents know no error text: whatever stands there may be noise, or
            // somebody else's input, beside a relay that has moved.
            match parse(&command, &reply)? {
                b"" => Ok(Proof::Reply),
                words => Err(DriverError::Unexpected {
                    expected: format!("no words after {command:?}"),
                    got: printable(words),
                }),
            }
        })
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let id = self.opener.id(outlet)?;
        self.call(deadline, |_, line| read(line, &id, deadline))
    }

    fn rest(&mut self, deadline: Deadline) {
        Kept::rest(self, deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_documents() {
        for (channels, number, id) in [
            (1, 1, "0"),
            (8, 8, "7"),
            (16, 10, "9"),
            (16, 11, "A"),
            (16, 16, "F"),
            (32, 32, "V"),
            (64, 1, "00"),
            (64, 64, "63"),
        ] {
            assert_eq!(relay_id(channels, number), id);
        }
    }

    #[test]
    fn an_answer_stands_between_echo_and_prompt() {
        assert_eq!(
            parse("relay read 0", b"relay read 0\n\ron\n\r>"),
            Ok(&b"on"[..])
        );
        assert_eq!(parse("relay on 0", b"relay on 0\n\r>"), Ok(&b""[..]));
        assert!(parse("relay read 0", b"relay read 1\n\ron\n\r>").is_err());
        assert!(parse("relay read 0", b"relay read 0\n\ron\n\roff\n\r>").is_err());
        assert!(parse("relay on 0", b"\xff\x00>").is_err());
        assert!(parse("relay on 0", b"\n\r>").is_err());
    }
}
