//! What serial relay boards do, as far as the drivers ask it and their vendors' documents say.

use super::stream::Pdu;

/// A Numato module: echoes, answers, prompts.
pub(crate) struct Numato {
    channels: u32,
    relays: u64,
    /// Does it say `>` after an answer?
    pub(crate) has_prompt: bool,
}

pub(crate) fn numato(channels: u32) -> Numato {
    Numato {
        channels,
        relays: 0,
        has_prompt: true,
    }
}

impl Pdu for Numato {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        let end = input.iter().position(|byte| *byte == b'\r')?;
        let line = String::from_utf8_lossy(&input[..end]).into_owned();
        input.drain(..=end);
        let words: Vec<&str> = line.split(' ').collect();
        let index = |id: &str| match self.channels {
            64 => id.parse::<u32>().ok(),
            _ if id.len() == 1 && *id == id.to_uppercase() => {
                id.chars().next().and_then(|digit| digit.to_digit(32))
            }
            _ => None,
        };
        let mut answer = format!("{line}\n\r");
        match words[..] {
            ["ver"] => answer += "00000009\n\r",
            ["id", "get"] => answer += "00000000\n\r",
            ["relay", "read", id] => {
                let is_on = self.relays >> index(id)? & 1 == 1;
                answer += if is_on { "on\n\r" } else { "off\n\r" };
            }
            ["relay", to, id] if !is_stuck => {
                let bit = 1 << index(id)?;
                self.relays = match to {
                    "on" => self.relays | bit,
                    _ => self.relays & !bit,
                };
            }
            _ => {}
        }
        answer += if self.has_prompt { ">" } else { "" };
        Some(answer.into_bytes())
    }

    fn is_on(&self, outlet: &str) -> Option<bool> {
        let number: u32 = outlet.parse().ok()?;
        Some(self.relays >> number.checked_sub(1)? & 1 == 1)
    }
}

/// A Devantech relay module.
#[derive(Default)]
pub(crate) struct Rly(u8);

impl Pdu for Rly {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        let byte = *input.first()?;
        input.remove(0);
        let bit = |base: u8| 1u8 << (byte - base - 1);
        match byte {
            0x5b => return Some(vec![self.0]),
            0x65..=0x6c if !is_stuck => self.0 |= bit(0x64),
            0x6f..=0x76 if !is_stuck => self.0 &= !bit(0x6e),
            _ => {}
        }
        Some(vec![])
    }

    fn is_on(&self, outlet: &str) -> Option<bool> {
        let number: u32 = outlet.parse().ok()?;
        Some(self.0 >> number.checked_sub(1)? & 1 == 1)
    }
}

/// A chain of Conrad cards. They have no addresses before they are initialised.
pub(crate) struct Conrad {
    cards: Vec<Card>,
    is_initialised: bool,
    /// Answers with a wrong checksum, so many times.
    pub(crate) wrong_checksums: u32,
}

#[derive(Default)]
struct Card {
    relays: u8,
    option: u8,
}

pub(crate) fn conrad(cards: usize) -> Conrad {
    Conrad {
        cards: (0..cards).map(|_| Card::default()).collect(),
        is_initialised: false,
        wrong_checksums: 0,
    }
}

fn frame(command: u8, card: u8, data: u8) -> Vec<u8> {
    vec![command, card, data, command ^ card ^ data]
}

impl Pdu for Conrad {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        let request: [u8; 4] = input.get(..4)?.try_into().ok()?;
        input.drain(..4);
        let [command, address, data, check] = request;
        if command ^ address ^ data != check || command == 0 {
            return Some(frame(0xff, address, 0));
        }
        if command == 1 {
            self.is_initialised = true;
            let count = self.cards.len() as u8;
            let mut answer: Vec<u8> = (1..=count).flat_map(|card| frame(0xfe, card, 11)).collect();
            answer.extend(frame(1, count + 1, 0));
            return Some(answer);
        }
        let index = usize::from(address).checked_sub(1);
        let card = index.and_then(|index| self.cards.get_mut(index));
        let Some(card) = card.filter(|_| self.is_initialised) else {
            return Some(vec![]);
        };
        match command {
            5 => card.option = data,
            6 if !is_stuck => card.relays |= data,
            7 if !is_stuck => card.relays &= !data,
            _ => {}
        }
        let data = match command {
            4 => card.option,
            5 => 0,
            _ => card.relays,
        };
        let mut answer = frame(!command, address, data);
        if self.wrong_checksums > 0 && command != 4 {
            self.wrong_checksums -= 1;
            answer[3] ^= 0x10;
        }
        Some(answer)
    }
    fn is_on(&self, outlet: &str) -> Option<bool> {
        let number: usize = outlet.parse().ok()?;
        let card = self.cards.get(number / 8)?;
        Some(card.relays >> (number % 8) & 1 == 1)
    }
}
