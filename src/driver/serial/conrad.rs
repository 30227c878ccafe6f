//! Conrad's relay cards 197720 and 197730: frames of four bytes, cards in a chain.
//!
//! Facts from Conrad's manual: a frame is command, card, data and their XOR; the answer has the
//! inverted command. Initialising (1) gives the first card its address; each card answers and
//! hands the command on with the next address, and what the last one hands on comes back. Option 1
//! is "broadcast on, not blocked". Bit 0 of the data is relay K1.
//!
//! Outlets count from 0, as in the Python driver: 0 to 7 are the first card's. The bytes are that
//! driver's (compared with release 1.1.1 on the transcripts), but the line is opened when it is
//! first needed, every frame is checked, and the line is let go when the queue has run dry. A card
//! that does not obey is read until it does, and told once more by the next attempt; Python tells it
//! again at once.

use super::{DEVICE, IDLE, LinePort};
use crate::driver::{Driver, DriverError, outlet_number};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Settings, SettingsError, keys};
use crate::transport::kept::{Kept, Opener};
use crate::transport::serial::Line;
use crate::transport::{Attempt, Deadline, Timed, TransportError, TransportErrorKind, printable};
use std::time::Duration;

const SETUP: u8 = 1;
const GET_PORT: u8 = 2;
const GET_OPTION: u8 = 4;
const SET_OPTION: u8 = 5;
const SET_SINGLE: u8 = 6;
const DEL_SINGLE: u8 = 7;

/// The inverted command of a card that did not understand.
const ERROR: u8 = 0xff;

const RELAYS: u32 = 8;

/// A card answers within milliseconds; a chain hands its frames on one by one.
const FRAME_PATIENCE: Duration = Duration::from_secs(1);
const RESYNC_PATIENCE: Duration = Duration::from_millis(300);

/// How often a command is tried on a line that garbles it.
const TRIES: u32 = 2;

struct Conrad(LinePort);

/// An open line, and how many cards on it have answered the initialisation.
struct Chain {
    line: Line,
    cards: u32,
}

keys! {
    pub(super) struct Keys {
        device: String = "/dev/ttyUSB0", DEVICE;
    }
}

pub(super) fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let port = LinePort::new(settings, &keys.device, 19_200)?;
    Ok(Box::new(Kept::new(Conrad(port))))
}

/// Card and bit of an outlet.
#[derive(Clone, Copy)]
struct Place {
    card: u8,
    mask: u8,
}

fn place(outlet: &Outlet) -> Result<Place, DriverError> {
    let number: u32 = outlet_number(outlet)?;
    Ok(Place {
        card: u8::try_from(number / RELAYS + 1).unwrap_or(u8::MAX),
        mask: 1 << (number % RELAYS),
    })
}

fn frame(command: u8, card: u8, data: u8) -> [u8; 4] {
    [command, card, data, command ^ card ^ data]
}

/// The data of the answer to `command`, or what is wrong with it.
fn parse(command: u8, card: u8, answer: [u8; 4]) -> Result<u8, DriverError> {
    let [reply, from, data, check] = answer;
    if reply ^ from ^ data != check {
        return Err(garbled("a frame with a right checksum", &answer));
    }
    if (reply, from) == (!command, card) {
        return Ok(data);
    }
    if (reply, from) == (ERROR, card) {
        return Err(DriverError::Refused(
            "the card answered with an error".into(),
        ));
    }
    Err(garbled(
        &format!("an answer to command {command} of card {card}"),
        &answer,
    ))
}

fn garbled(expected: &str, got: &[u8]) -> DriverError {
    let detail = format!("expected {expected}, got {}", printable(got));
    TransportError::new(TransportErrorKind::Garbled, detail).into()
}

fn is_garbled_or_late(error: &DriverError) -> bool {
    matches!(error, DriverError::Transport(error) if
        matches!(error.kind, TransportErrorKind::Garbled | TransportErrorKind::Timeout))
}

/// Sends a command and checks its answer; a garbled line is brought into step and tried again.
fn ask(
    line: &mut Line,
    command: u8,
    card: u8,
    data: u8,
    timed: impl Timed,
) -> Result<u8, DriverError> {
    let deadline = timed.deadline();
    let mut tries = 0;
    loop {
        tries += 1;
        line.discard_input()?;
        line.send(&frame(command, card, data), timed)?;
        let result = line
            .receive_exact(deadline.within(FRAME_PATIENCE))
            .map_err(DriverError::from)
            .and_then(|answer| parse(command, card, answer));
        match result {
            Err(error) if is_garbled_or_late(&error) && tries < TRIES => resync(line, deadline)?,
            result => return result,
        }
    }
}

/// Fills up a frame that a card has got only in part: up to four zeros, until something answers.
fn resync(line: &mut Line, deadline: Deadline) -> Result<(), DriverError> {
    for _ in 0..4 {
        deadline.left("bringing the line into step")?;
        line.discard_input()?;
        line.send(&[0], deadline)?;
        if is_quiet(line, deadline)? {
            continue;
        }
        // The answer to the broken frame, whatever it is, must have passed before the next command.
        while !is_quiet(line, deadline)? {}
        break;
    }
    Ok(())
}

fn is_quiet(line: &mut Line, deadline: Deadline) -> Result<bool, DriverError> {
    deadline.left("bringing the line into step")?;
    match line.receive(&mut [0; 64], deadline.within(RESYNC_PATIENCE)) {
        Ok(_) => Ok(false),
        Err(error) if error.kind == TransportErrorKind::Timeout => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Gives the cards their addresses and options; returns how many there are.
fn initialise(line: &mut Line, deadline: Deadline) -> Result<u32, DriverError> {
    let mut tries = 0;
    let cards = loop {
        tries += 1;
        match count_cards(line, deadline) {
            Err(error) if is_garbled_or_late(&error) && tries < TRIES => resync(line, deadline)?,
            result => break result?,
        }
    };
    for card in 1..=cards {
        if ask(line, GET_OPTION, card, 0, deadline)? != 1 {
            ask(line, SET_OPTION, card, 1, deadline)?;
        }
    }
    Ok(u32::from(cards))
}

/// One answer of each card, then the command as the last card handed it on.
fn count_cards(line: &mut Line, deadline: Deadline) -> Result<u8, DriverError> {
    line.discard_input()?;
    line.send(&frame(SETUP, 1, 0), deadline)?;
    let mut cards: u8 = 0;
    loop {
        let answer = line
            .receive_exact(deadline.within(FRAME_PATIENCE))
            .map_err(|error| TransportError {
                detail: format!("{} (after the answers of {cards} cards)", error.detail),
                ..error
            })?;
        let [command, card, data, check] = answer;
        let is_right = command ^ card ^ data == check && Some(card) == cards.checked_add(1);
        match command {
            SETUP if is_right && cards > 0 => return Ok(cards),
            SETUP if is_right => {
                return Err(garbled("the answer of a card, and not an echo", &answer));
            }
            _ if is_right && command == !SETUP => cards = card,
            // The 255th card has no next address to hand on.
            SETUP if cards == u8::MAX => return Ok(cards),
            _ => {
                return Err(garbled(
                    "the answer of a card to its initialisation",
                    &answer,
                ));
            }
        }
    }
}

/// Switches one relay and looks at the answer.
fn switch(
    line: &mut Line,
    place: Place,
    to: Switch,
    attempt: &Attempt,
) -> Result<Proof, DriverError> {
    let command = match to {
        Switch::On => SET_SINGLE,
        Switch::Off => DEL_SINGLE,
    };
    ask(line, GET_PORT, place.card, 0, attempt.deadline())?;
    let relays = ask(line, command, place.card, place.mask, attempt)?;
    Ok(match state_of(relays, place) == to {
        true => Proof::State,
        false => Proof::Reply,
    })
}

fn state_of(relays: u8, place: Place) -> Switch {
    if relays & place.mask != 0 {
        Switch::On
    } else {
        Switch::Off
    }
}

impl Opener for Conrad {
    type Session = Chain;
    type Error = DriverError;
    const IDLE: Duration = IDLE;

    fn open(&mut self, deadline: Deadline) -> Result<Chain, DriverError> {
        let mut line = self.0.open(deadline)?;
        let cards = initialise(&mut line, deadline)?;
        Ok(Chain { line, cards })
    }

    fn leave(&self, chain: Chain, deadline: Deadline) {
        chain.line.close(deadline);
    }
}

impl Chain {
    /// The line, if the card that `place` names is on it.
    fn to(&mut self, place: Place) -> Result<&mut Line, DriverError> {
        let cards = self.cards;
        if u32::from(place.card) > cards {
            return Err(DriverError::NoSuchOutlet {
                expected: format!("outlets 0 to {} ({cards} cards)", cards * RELAYS - 1),
            });
        }
        Ok(&mut self.line)
    }
}

impl Driver for Kept<Conrad> {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let place = place(outlet)?;
        self.call(attempt, |_, chain| {
            switch(chain.to(place)?, place, to, attempt)
        })
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let place = place(outlet)?;
        self.call(deadline, |_, chain| {
            let relays = ask(chain.to(place)?, GET_PORT, place.card, 0, deadline)?;
            Ok(state_of(relays, place).into())
        })
    }

    fn rest(&mut self, deadline: Deadline) {
        Kept::rest(self, deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_the_python_driver() {
        assert_eq!(frame(SETUP, 1, 0), [1, 1, 0, 0]);
        assert_eq!(frame(GET_OPTION, 1, 0), [4, 1, 0, 5]);
        assert_eq!(frame(GET_PORT, 1, 0), [2, 1, 0, 3]);
        let switch = |command, outlet| {
            let place = place(&Outlet::new(outlet)).expect("an outlet");
            frame(command, place.card, place.mask)
        };
        assert_eq!(switch(SET_SINGLE, "0"), [6, 1, 1, 6]);
        assert_eq!(switch(DEL_SINGLE, "0"), [7, 1, 1, 7]);
        assert_eq!(switch(SET_SINGLE, "1"), [6, 1, 2, 5]);
        assert_eq!(switch(DEL_SINGLE, "1"), [7, 1, 2, 4]);
        assert_eq!(switch(SET_SINGLE, "8"), [6, 2, 1, 5]);
        assert_eq!(switch(SET_SINGLE, "2039"), [6, 255, 0x80, 6 ^ 255 ^ 0x80]);
    }

    #[test]
    fn every_answer_is_checked() {
        assert_eq!(
            parse(GET_PORT, 1, [0xfd, 1, 0x21, 0xfd ^ 1 ^ 0x21]),
            Ok(0x21)
        );
        for wrong in [[0xfd, 1, 0x21, 0], [0xfd, 2, 0, 0xff], [0xf9, 1, 0, 0xf8]] {
            let error = parse(GET_PORT, 1, wrong).expect_err("refused");
            assert!(is_garbled_or_late(&error), "{error}");
        }
        assert!(matches!(
            parse(GET_PORT, 1, [0xff, 1, 0, 0xfe]),
            Err(DriverError::Refused(_))
        ));
    }
}
