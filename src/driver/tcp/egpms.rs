//! EnerGenie's (Gembird's) LAN power strips: a challenge, and four masked bytes.
//!
//! Facts from egctl and from the Python driver. A connection serves one job: 11h, a challenge of 4
//! bytes, the answer to it, the 4 states (outlet 4 first), maybe 4 controls and 4 new states, and
//! 11h again. A device in a session takes no other for 4 s.
//!
//! The bytes are those of the Python driver (compared with release 1.1.1 on the transcripts, where
//! it takes an outlet that stays off for switched on). Beyond it: the states are looked at, and an
//! unanswered greeting is repeated each second (egctl: after 125 ms, but a second 11h that crosses
//! a slow network would be taken for a part of the answer).

use super::{RequiredHost, connect};
use crate::driver::{Driver, DriverError, States, outlet_number};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Address, Secret, Settings, SettingsError, keys};
use crate::transport::tcp::Connection;
use crate::transport::{Attempt, Deadline, TransportErrorKind};
use std::time::Duration;

const HELLO: &[u8] = &[0x11];
const HELLO_PATIENCE: Duration = Duration::from_secs(1);
const MOST_HELLOS: u32 = 5;

/// A device answers a right password at once and drops the session after 4 s.
const LOGIN_PATIENCE: Duration = Duration::from_secs(4);

keys! {
    pub(super) struct Keys {
        ..host: RequiredHost;
        password: Secret, "the PDU's password; its first 8 bytes count";
    }
}

struct Egpms {
    address: Address,
    key: Key,
}

pub(super) fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    Ok(Box::new(Egpms {
        address: keys.host.address(settings, 5000)?,
        key: Key::new(&keys.password),
    }))
}

/// The password as the device counts it: 8 bytes, filled with spaces.
#[derive(Clone, Copy)]
struct Key([u8; 8]);

impl Key {
    fn new(password: &Secret) -> Self {
        let mut key = [b' '; 8];
        for (to, from) in key.iter_mut().zip(password.reveal().bytes()) {
            *to = from;
        }
        Self(key)
    }

    /// The answer to a challenge; arithmetic of 16 bits, low byte first.
    fn response(self, [t0, t1, t2, t3]: [u8; 4]) -> [u8; 4] {
        let [k0, k1, k2, k3, k4, k5, k6, k7] = self.0.map(u16::from);
        let half = |challenge: u8, mix: u16, factor: u16, mask: u16, last: u8| {
            (((u16::from(challenge) ^ mix).wrapping_mul(factor)) ^ mask ^ u16::from(last))
                .to_le_bytes()
        };
        let [a, b] = half(t0, k2, k0, k4 << 8 | k6, t2);
        let [c, d] = half(t1, k3, k1, k5 << 8 | k7, t3);
        [a, b, c, d]
    }

    fn encode(self, [_, _, t2, t3]: [u8; 4], byte: u8) -> u8 {
        let [k0, k1, ..] = self.0;
        ((byte ^ t2).wrapping_add(t3) ^ k0).wrapping_add(k1)
    }

    fn decode(self, [_, _, t2, t3]: [u8; 4], byte: u8) -> u8 {
        let [k0, k1, ..] = self.0;
        (byte.wrapping_sub(k1) ^ k0).wrapping_sub(t3) ^ t2
    }

    /// The four control bytes that switch one outlet and leave the others.
    fn control(self, challenge: [u8; 4], number: u32, to: Switch) -> [u8; 4] {
        let control = match to {
            Switch::On => 1,
            Switch::Off => 2,
        };
        let mut place = 4;
        [0x04; 4].map(|leave| {
            let byte = if place == number { control } else { leave };
            place -= 1;
            self.encode(challenge, byte)
        })
    }

    /// The state of outlet `number` in a status answer.
    fn state(self, challenge: [u8; 4], status: [u8; 4], number: u32) -> State {
        let byte = (1..=4)
            .rev()
            .zip(status)
            .find(|(place, _)| *place == number)
            .map(|(_, byte)| self.decode(challenge, byte));
        match byte {
            // Protocol 2.0, 2.1 and WLAN; in 2.0 the low digit tells whether voltage is there.
            Some(0x11 | 0x12 | 0x41 | 0x51) => State::On,
            Some(0x22 | 0x21 | 0x82 | 0x92) => State::Off,
            Some(other) => State::Unknown(format!("status {other:#04x}")),
            None => State::Unknown(String::new()),
        }
    }
}

/// A login, which is good for one command.
struct Visit {
    connection: Connection,
    challenge: [u8; 4],
    status: [u8; 4],
}

impl Egpms {
    fn open(&self, deadline: Deadline) -> Result<Visit, DriverError> {
        let mut connection = connect(&self.address, deadline)?;
        let challenge = challenge(&mut connection, deadline)?;
        connection.discard_input()?;
        connection.send(&self.key.response(challenge), deadline)?;
        let status = first_status(&mut connection, deadline)?;
        Ok(Visit {
            connection,
            challenge,
            status,
        })
    }
}

/// Greets until the device is free and answers.
fn challenge(connection: &mut Connection, deadline: Deadline) -> Result<[u8; 4], DriverError> {
    let mut hellos = 0;
    loop {
        hellos += 1;
        connection.send(HELLO, deadline)?;
        let patience = if hellos < MOST_HELLOS {
            deadline.within(HELLO_PATIENCE)
        } else {
            deadline
        };
        let mut first = [0];
        match connection.receive(&mut first, patience) {
            Err(error) if error.kind == TransportErrorKind::Timeout && patience < deadline => {}
            Err(error) => return Err(error.into()),
            Ok(0) => return Err(closed("connection closed instead of a challenge")),
            Ok(_) => {
                let [t0] = first;
                let [t1, t2, t3] = connection.receive_exact(deadline)?;
                return Ok([t0, t1, t2, t3]);
            }
        }
    }
}

/// The states that a right password is answered with; a wrong one is not answered at all.
fn first_status(connection: &mut Connection, deadline: Deadline) -> Result<[u8; 4], DriverError> {
    let patience = deadline.within(LOGIN_PATIENCE);
    let mut first = [0];
    match connection.receive(&mut first, patience) {
        Err(error) if error.kind == TransportErrorKind::Timeout && patience < deadline => {
            Err(DriverError::LoginRefused(format!(
                "no answer to the password for {} s, as to a wrong one",
                LOGIN_PATIENCE.as_secs()
            )))
        }
        Err(error) => Err(error.into()),
        Ok(0) => Err(DriverError::LoginRefused(
            "connection closed after the password, as after a wrong one".into(),
        )),
        Ok(_) => {
            let [s4] = first;
            let [s3, s2, s1] = connection.receive_exact(deadline)?;
            Ok([s4, s3, s2, s1])
        }
    }
}

fn closed(detail: &str) -> DriverError {
    crate::transport::TransportError::new(TransportErrorKind::Closed, detail).into()
}

impl Driver for Egpms {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let deadline = attempt.deadline();
        let number = outlet_number(outlet)?;
        let mut visit = self.open(deadline)?;
        let challenge = visit.challenge;
        let control = self.key.control(challenge, number, to);
        visit.connection.discard_input()?;
        visit.connection.send(&control, attempt)?;
        let status = visit.connection.receive_exact(deadline)?;
        // Ends the session, so that the next need not wait for 4 s.
        let _ = visit.connection.send(HELLO, deadline);
        Ok(match self.key.state(challenge, status, number) {
            state if state == State::from(to) => Proof::State,
            _ => Proof::Reply,
        })
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let number = outlet_number(outlet)?;
        let mut visit = self.open(deadline)?;
        let _ = visit.connection.send(HELLO, deadline);
        Ok(self.key.state(visit.challenge, visit.status, number))
    }

    fn states(
        &mut self,
        outlet: &Outlet,
        others: &[Outlet],
        deadline: Deadline,
    ) -> Result<States, DriverError> {
        let mut session = self.open(deadline)?;
        let _ = session.connection.send(HELLO, deadline);
        let (challenge, status) = (session.challenge, session.status);
        States::each(outlet, others, |outlet| {
            Ok(self.key.state(challenge, status, outlet_number(outlet)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

    fn key(password: &str) -> Key {
        Key::new(&Secret::new(password))
    }

    #[test]
    fn frames_are_those_of_the_python_driver() {
        let one = key("1");
        assert_eq!(one.response(CHALLENGE), [0xe4, 0x29, 0xd8, 0x22]);
        assert_eq!(
            one.control(CHALLENGE, 1, Switch::On),
            [0x1b, 0x1b, 0x1b, 0x1e]
        );
        assert_eq!(
            one.control(CHALLENGE, 1, Switch::Off),
            [0x1b, 0x1b, 0x1b, 0x1d]
        );
        assert_eq!(
            one.control(CHALLENGE, 4, Switch::On),
            [0x1e, 0x1b, 0x1b, 0x1b]
        );
        let long = key("secret12345");
        assert_eq!(&long.0, b"secret12");
        assert_eq!(long.response(CHALLENGE), [0xa4, 0x57, 0xd4, 0x6f]);
        assert_eq!(
            long.control(CHALLENGE, 1, Switch::On),
            [0x1e, 0x1e, 0x1e, 0x21]
        );
    }

    #[test]
    fn every_protocol_version_is_read() {
        let key = key("secret12345");
        let state = |byte| {
            let masked = key.encode(CHALLENGE, byte);
            key.state(CHALLENGE, [0, 0, masked, 0], 2)
        };
        for on in [0x11, 0x12, 0x41, 0x51] {
            assert_eq!(state(on), State::On);
        }
        for off in [0x22, 0x21, 0x82, 0x92] {
            assert_eq!(state(off), State::Off);
        }
        assert!(matches!(state(0x33), State::Unknown(_)));
    }

    #[test]
    fn decoding_undoes_encoding() {
        for byte in 0..=255 {
            let key = key("pass");
            assert_eq!(key.decode(CHALLENGE, key.encode(CHALLENGE, byte)), byte);
        }
    }
}
