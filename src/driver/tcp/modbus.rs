//! Modbus TCP, and Modbus RTU over TCP: coils written with function 05 and read with function 01.
//!
//! Facts from "MODBUS Application Protocol Specification" 1.1b3, "MODBUS Messaging on TCP/IP
//! Implementation Guide" 1.0b and "MODBUS over Serial Line" 1.02. An outlet is a coil's address as
//! on the wire, from 0. Converters that only pass bytes on to a serial line speak its framing, RTU:
//! the unit's address before, a checksum behind, and no transaction id.
//!
//! The bytes are those of the Python driver with pymodbus before 3.10 (with later ones it cannot
//! send at all), which takes exceptions and silence for success. The connection is kept while the
//! queue has work; transaction ids count from 1 in each.

use super::{IDLE, connect};
use crate::driver::{Driver, DriverError, Host, outlet_number};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Address, Settings, SettingsError, keys, words};
use crate::transport::kept::{Kept, Opener};
use crate::transport::tcp::Connection;
use crate::transport::{Attempt, Deadline, Timed, TransportError, TransportErrorKind, printable};
use std::num::NonZeroU16;
use std::time::Duration;

const READ_COILS: u8 = 1;
const WRITE_COIL: u8 = 5;

/// The flag that a server adds to the function code of an exception.
const EXCEPTION: u8 = 0x80;

/// The longest PDU the specification allows.
const MOST_PDU: usize = 253;

/// The units of a serial line that answer; 0 is for all of them, and nobody answers it.
const UNITS: std::ops::RangeInclusive<u8> = 1..=247;

keys! {
    pub(super) struct Keys {
        ..host: Host;
        port: NonZeroU16 = 502, super::PORT;
        unit: Option<u8> => "1", "Modbus unit identifier";
        slave: Option<u8>, "the older name of `unit`, used when that is absent";
        framing: Framing = "tcp",
            "what is around the messages: tcp, or rtu (RTU over TCP) for a converter that passes \
             the bytes on to a serial line, which wants unit 1 to 247";
    }
}

/// What is around a PDU of Modbus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Tcp,
    Rtu,
}

words! { Framing: "tcp" = Framing::Tcp, "rtu" = Framing::Rtu }

struct Modbus {
    address: Address,
    unit: u8,
    framing: Framing,
}

pub(super) fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let unit = keys.unit.or(keys.slave).unwrap_or(1);
    if keys.framing == Framing::Rtu && !UNITS.contains(&unit) {
        let key = if keys.unit.is_some() { "unit" } else { "slave" };
        return Err(settings.error(key, "expected a unit from 1 to 247, as framing is rtu"));
    }
    Ok(Box::new(Kept::new(Modbus {
        address: keys.host.address(settings, keys.port.get())?,
        unit,
        framing: keys.framing,
    })))
}

/// The coil's address and the coil's value (or count) as a request carries them.
fn request(function: u8, coil: u16, value: u16) -> [u8; 5] {
    let ([c1, c0], [v1, v0]) = (coil.to_be_bytes(), value.to_be_bytes());
    [function, c1, c0, v1, v0]
}

fn write_coil(coil: u16, to: Switch) -> [u8; 5] {
    let value = match to {
        Switch::On => 0xff00,
        Switch::Off => 0,
    };
    request(WRITE_COIL, coil, value)
}

fn tcp_frame(transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
    let length = u16::try_from(pdu.len() + 1).unwrap_or(u16::MAX);
    let mut frame = Vec::with_capacity(pdu.len() + 7);
    frame.extend_from_slice(&transaction.to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.push(unit);
    frame.extend_from_slice(pdu);
    frame
}

fn rtu_frame(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(pdu.len() + 3);
    frame.push(unit);
    frame.extend_from_slice(pdu);
    frame.extend_from_slice(&checksum(&frame).to_le_bytes());
    frame
}

/// CRC-16 as the serial line has it.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte), |sum: u16, _| match sum & 1 {
            0 => sum >> 1,
            _ => (sum >> 1) ^ 0xa001,
        })
    })
}

/// What an exception answer to `function` means: named, and with the class that it deserves.
fn exception(function: u8, answer: &[u8]) -> Option<DriverError> {
    let [first, code] = answer else { return None };
    if *first != function | EXCEPTION {
        return None;
    }
    let name = match code {
        1 => "illegal function",
        2 => "illegal data address: there is no such coil",
        3 => "illegal data value",
        4 => "server device failure",
        5 => "acknowledge: accepted, but not done yet",
        6 => "server device busy",
        8 => "memory parity error",
        10 => "gateway path unavailable",
        11 => "gateway target device failed to respond",
        _ => "unknown exception",
    };
    let words = format!("exception {code} ({name})");
    let transport = |kind| DriverError::Transport(TransportError::new(kind, words.clone()));
    Some(match code {
        // The coil may have been written all the same.
        4 | 5 => DriverError::Unexpected {
            expected: "the answer to the request".into(),
            got: words,
        },
        6 | 10 => transport(TransportErrorKind::Busy),
        11 => transport(TransportErrorKind::Timeout),
        // Relays that can only be written.
        1 if function == READ_COILS => DriverError::CannotRead(words),
        _ => DriverError::Refused(words),
    })
}

/// A unit behind a connection.
struct Unit {
    connection: Connection,
    unit: u8,
    framing: Framing,
    transaction: u16,
}

impl Unit {
    /// Sends a request and returns the answer to it; exceptions are errors.
    fn ask(&mut self, pdu: &[u8; 5], timed: impl Timed) -> Result<Vec<u8>, DriverError> {
        let deadline = timed.deadline();
        self.transaction = self.transaction.wrapping_add(1);
        self.connection.discard_input()?;
        let request = match self.framing {
            Framing::Tcp => tcp_frame(self.transaction, self.unit, pdu),
            Framing::Rtu => rtu_frame(self.unit, pdu),
        };
        self.connection.send(&request, timed)?;
        let [function, ..] = *pdu;
        let (unit, answer) = match self.framing {
            Framing::Tcp => self.answer_by_transaction(deadline)?,
            Framing::Rtu => self.receive_rtu(function, deadline)?,
        };
        if unit != self.unit {
            return Err(DriverError::Unexpected {
                expected: format!("an answer of unit {}", self.unit),
                got: format!("one of unit {unit}"),
            });
        }
        match exception(function, &answer) {
            Some(error) => Err(error),
            None => Ok(answer),
        }
    }

    /// The unit and the PDU of the answer. Answers to other transactions are passed over.
    fn answer_by_transaction(
        &mut self,
        deadline: Deadline,
    ) -> Result<(u8, Vec<u8>), TransportError> {
        let mut other = None;
        loop {
            let (transaction, unit, answer) =
                self.receive_tcp(deadline)
                    .map_err(|error| match other.take() {
                        Some(other) => TransportError {
                            detail: format!(
                                "{} (after an answer to transaction {other}, not {})",
                                error.detail, self.transaction
                            ),
                            ..error
                        },
                        None => error,
                    })?;
            if transaction == self.transaction {
                return Ok((unit, answer));
            }
            other = Some(transaction);
        }
    }

    /// The first bytes of an answer. Silence may come from the wrong framing.
    fn begin<const N: usize>(&mut self, deadline: Deadline) -> Result<[u8; N], TransportError> {
        self.connection.receive_exact(deadline).map_err(|error| {
            let hint = match self.framing {
                Framing::Tcp => "a converter that passes the bytes on to a serial line wants",
                Framing::Rtu => "a server of Modbus TCP is silent to",
            };
            match error.kind {
                TransportErrorKind::Timeout => TransportError {
                    detail: format!("{} ({hint} \"framing\": \"rtu\")", error.detail),
                    ..error
                },
                _ => error,
            }
        })
    }

    /// One frame: its transaction id, its unit, its PDU.
    fn receive_tcp(&mut self, deadline: Deadline) -> Result<(u16, u8, Vec<u8>), TransportError> {
        let header: [u8; 7] = self.begin(deadline)?;
        let [t1, t0, p1, p0, l1, l0, unit] = header;
        let length = usize::from(u16::from_be_bytes([l1, l0]));
        if (p1, p0) != (0, 0) || !(2..=MOST_PDU + 1).contains(&length) {
            return Err(TransportError::new(
                TransportErrorKind::Garbled,
                format!("expected a Modbus TCP header, got {}", printable(&header)),
            ));
        }
        let pdu = self.receive(length - 1, deadline)?;
        Ok((u16::from_be_bytes([t1, t0]), unit, pdu))
    }

    /// One frame: its unit, its PDU. The end is where the function puts it.
    fn receive_rtu(
        &mut self,
        function: u8,
        deadline: Deadline,
    ) -> Result<(u8, Vec<u8>), TransportError> {
        let garbled = |expected: String| TransportError::new(TransportErrorKind::Garbled, expected);
        let head: [u8; 3] = self.begin(deadline)?;
        let [unit, told, third] = head;
        // Behind the third byte, before the checksum.
        let rest = match told {
            _ if told == function | EXCEPTION => 0,
            READ_COILS if told == function => usize::from(third),
            WRITE_COIL if told == function => 3,
            _ => {
                let got = printable(&head);
                return Err(garbled(format!(
                    "expected a Modbus RTU answer to function {function}, got {got}"
                )));
            }
        };
        let mut frame = head.to_vec();
        frame.extend(self.receive(rest, deadline)?);
        let sent = self.connection.receive_exact(deadline)?;
        if checksum(&frame) != u16::from_le_bytes(sent) {
            let got = printable(&[frame.as_slice(), &sent].concat());
            return Err(garbled(format!(
                "expected a Modbus RTU answer with a right checksum, got {got}"
            )));
        }
        frame.remove(0);
        Ok((unit, frame))
    }

    fn receive(&mut self, length: usize, deadline: Deadline) -> Result<Vec<u8>, TransportError> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let [byte] = self.connection.receive_exact(deadline)?;
            bytes.push(byte);
        }
        Ok(bytes)
    }
}

impl Opener for Modbus {
    type Session = Unit;
    type Error = DriverError;
    const IDLE: Duration = IDLE;

    fn open(&mut self, deadline: Deadline) -> Result<Unit, DriverError> {
        Ok(Unit {
            connection: connect(&self.address, deadline)?,
            unit: self.unit,
            framing: self.framing,
            transaction: 0,
        })
    }
}

impl Driver for Kept<Modbus> {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let request = write_coil(outlet_number(outlet)?, to);
        self.call(attempt, |_, unit| {
            let answer = unit.ask(&request, attempt)?;
            if answer == request {
                return Ok(Proof::Reply);
            }
            Err(DriverError::Unexpected {
                expected: format!("the echo {}", printable(&request)),
                got: printable(&answer),
            })
        })
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let request = request(READ_COILS, outlet_number(outlet)?, 1);
        self.call(deadline, |_, unit| {
            match unit.ask(&request, deadline)?.as_slice() {
                [READ_COILS, 1, bits] if bits & 1 == 1 => Ok(State::On),
                [READ_COILS, 1, _] => Ok(State::Off),
                answer => Err(DriverError::Unexpected {
                    expected: "one byte of coils".into(),
                    got: printable(answer),
                }),
            }
        })
    }

    fn rest(&mut self, deadline: Deadline) {
        Kept::rest(self, deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Verdict;

    #[test]
    fn frames_are_those_of_the_specification() {
        assert_eq!(
            tcp_frame(1, 1, &write_coil(1, Switch::On)),
            [0, 1, 0, 0, 0, 6, 1, 5, 0, 1, 0xff, 0]
        );
        assert_eq!(
            tcp_frame(2, 1, &write_coil(1, Switch::Off)),
            [0, 2, 0, 0, 0, 6, 1, 5, 0, 1, 0, 0]
        );
        assert_eq!(
            tcp_frame(0x0102, 0xff, &request(READ_COILS, 0xffff, 1)),
            [1, 2, 0, 0, 0, 6, 0xff, 1, 0xff, 0xff, 0, 1]
        );
    }

    #[test]
    fn rtu_frames_have_the_checksum_of_the_serial_line() {
        // The example of "MODBUS over Serial Line", appendix B: 02 07, sent as 41 12.
        assert_eq!(rtu_frame(2, &[7]), [2, 7, 0x41, 0x12]);
        // From the manual of a relay board (Waveshare): channel 1 on.
        assert_eq!(
            rtu_frame(1, &write_coil(0, Switch::On)),
            [1, 5, 0, 0, 0xff, 0, 0x8c, 0x3a]
        );
    }

    #[test]
    fn exceptions_are_named_and_classed() {
        let error = exception(5, &[0x85, 2]).expect("an exception");
        assert!(!error.is_transient() && error.is_refusal());
        assert!(error.to_string().contains("illegal data address"));
        assert!(exception(5, &[0x85, 4]).is_some_and(|error| !error.is_refusal()));
        let busy = exception(5, &[0x85, 6]).expect("an exception");
        assert!(busy.is_transient() && busy.is_refusal());
        assert_eq!(exception(5, &[5, 0, 1, 0xff, 0]), None);
        assert_eq!(exception(5, &[0x81, 2]), None);
    }
}
