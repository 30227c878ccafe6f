//! SainSmart Ethernet relay boards with the "30000" firmware: `GET /30000/XX`, XX counting off
//! and on of each relay.
//!
//! States: HW-584 boards answer `/30000/99` with a digit for each relay; older ones have pages
//! (`/30000/42`) that show some of the relays at a time as `Relay-NN: .. ON`.

use super::*;
use crate::driver::{Driver, outlet_number};
use crate::request::Outlet;

pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &["sainsmart"],
    models: "SainSmart Ethernet relay boards, 30000 firmware",
    outlets: Has::Numbers(1, 16),
    verified_by: "simulator; UNVERIFIED on hardware: both ways of reading states (each known from \
                  one other client); a board that has neither is believed its HTTP 200",
    build: &By(build),
    ..super::SPEC
};

/// How many pages an older board needs to show all its relays.
const PAGES: usize = 4;

struct Sainsmart {
    client: Client,
}

keys! {
    struct Keys {
        ..host: Host;
        ..way: Way;
    }
}

fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    Ok(Box::new(Sainsmart {
        client: client(settings, &keys.host, keys.way, None, Login::Open)?,
    }))
}

/// `/30000/00` is relay 1 off, `/30000/31` relay 16 on.
fn target(outlet: u32, to: Switch) -> String {
    let on = match to {
        Switch::On => 1,
        Switch::Off => 0,
    };
    format!("/30000/{:02}", 2 * outlet.saturating_sub(1) + on)
}

/// The relay's digit among the 16 that HW-584 answers.
fn parse_digits(page: &str, outlet: u32) -> Option<State> {
    let index = usize::try_from(outlet.checked_sub(1)?).ok()?;
    // Inside a page or alone: the one word of sixteen zeros and ones.
    let digits = page
        .split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| word.len() == 16 && word.bytes().all(|byte| matches!(byte, b'0' | b'1')))?;
    digits.get(index..=index).map(state_of)
}

/// The relay's word on an older board's page, if it shows this relay.
fn parse_page(page: &str, outlet: u32) -> Option<State> {
    let (_, after) = page.split_once(&format!("Relay-{outlet:02}:"))?;
    let own = after.split("Relay-").next()?;
    // Tags stand between the name and the state.
    let mut words = own
        .split('<')
        .enumerate()
        .filter_map(|(index, part)| match index {
            0 => Some(part),
            _ => part.split_once('>').map(|(_, text)| text),
        })
        .flat_map(|text| text.split(|c: char| !c.is_ascii_alphabetic()));
    words.find_map(|word| match state_of(word) {
        State::Unknown(_) => None,
        state => Some(state),
    })
}

impl Driver for Sainsmart {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let target = target(outlet_number(outlet)?, to);
        ask(&mut self.client, &Request::get(&target), attempt)?;
        Ok(Proof::Reply)
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let number = outlet_number(outlet)?;
        match ask(&mut self.client, &Request::get("/30000/99"), deadline) {
            Ok(answer) => {
                if let Some(state) = parse_digits(&answer.text(), number) {
                    return Ok(state);
                }
            }
            // Older firmware does not know that page, and says so in a way of its own.
            Err(error) if !error.is_pdu_away() => {}
            Err(error) => return Err(error),
        }
        let mut answer = ask(&mut self.client, &Request::get("/30000/42"), deadline)?;
        for _ in 1..PAGES {
            if let Some(state) = parse_page(&answer.text(), number) {
                return Ok(state);
            }
            answer = ask(&mut self.client, &Request::get("/30000/42"), deadline)?;
        }
        parse_page(&answer.text(), number).ok_or_else(|| {
            DriverError::CannotRead(format!(
                "no page of this board shows Relay-{number:02}, the last is {}",
                answer.quote()
            ))
        })
    }

    fn rest(&mut self, deadline: Deadline) {
        self.client.rest(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_a_relay() {
        assert_eq!(target(1, Switch::On), "/30000/01");
        assert_eq!(target(1, Switch::Off), "/30000/00");
        assert_eq!(target(16, Switch::On), "/30000/31");
    }

    #[test]
    fn both_kinds_of_pages_are_read() {
        assert_eq!(parse_digits("1000000000000001", 1), Some(State::On));
        assert_eq!(parse_digits("<p>1000000000000001</p>", 2), Some(State::Off));
        assert_eq!(parse_digits("10", 1), None);
        let page = "<p>Relay-01:&nbsp<font color=\"#00FF00\">ON</font> <a href=\"/30000/00\">\
                    <input type=\"button\"></a></p><p>Relay-02:&nbsp<font>OFF</font>";
        assert_eq!(parse_page(page, 1), Some(State::On));
        assert_eq!(parse_page(page, 2), Some(State::Off));
        assert_eq!(parse_page(page, 3), None);
    }
}
