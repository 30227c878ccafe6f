//! Lindy IPower Classic 8 (DigiPower): outlets as bits of a query.
//!
//! `led=` has 24 binary digits, the first for outlet 1 (A). `/status.xml` has comma-separated
//! values, those of the outlets from the eleventh on.

use super::*;
use crate::driver::{Driver, States, outlet_number};
use crate::request::Outlet;
use crate::settings::Ignored;

pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &["LindyIPowerClassic8"],
    models: "Lindy IPower Classic 8 (32657), DigiPower; outlet 1 is A",
    outlets: Has::Numbers(1, 8),
    verified_by: "simulator; UNVERIFIED on hardware",
    build: &By(build),
    ..super::SPEC
};

struct Lindy {
    client: Client,
}

keys! {
    struct Keys {
        ..host: Host;
        ..way: Way;
        ..login: Credentials;
        #[expect(dead_code, reason = "old files have it")]
        port: Ignored => "80", "not used: the port is always 80";
    }
}

fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let login = match keys.login.both() {
        Some((user, password)) => Login::Basic { user, password },
        None => Login::Open,
    };
    Ok(Box::new(Lindy {
        client: client(settings, &keys.host, keys.way, None, login)?,
    }))
}

/// `/ons.cgi?led=..` or `/offs.cgi?led=..` with the outlet's bit.
fn target(outlet: u32, to: Switch) -> String {
    let bits: String = (1..=24)
        .map(|bit| if bit == outlet { '1' } else { '0' })
        .collect();
    format!("/{to}s.cgi?led={bits}")
}

fn parse(page: &str, outlet: u32) -> Option<State> {
    let index = usize::try_from(outlet).ok()? + 9;
    match state_of(page.split(',').nth(index)?) {
        State::Unknown(_) if !page.contains('<') => None,
        state => Some(state),
    }
}

fn read(answer: &Answer, outlet: &Outlet) -> Result<State, DriverError> {
    parse(&answer.text(), outlet_number(outlet)?)
        .ok_or_else(|| unexpected("the outlets in status.xml", answer))
}

impl Driver for Lindy {
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
        read(
            &ask(&mut self.client, &Request::get("/status.xml"), deadline)?,
            outlet,
        )
    }

    fn states(
        &mut self,
        outlet: &Outlet,
        others: &[Outlet],
        deadline: Deadline,
    ) -> Result<States, DriverError> {
        let answer = ask(&mut self.client, &Request::get("/status.xml"), deadline)?;
        States::each(outlet, others, |outlet| read(&answer, outlet))
    }

    fn rest(&mut self, deadline: Deadline) {
        self.client.rest(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlet_is_one_bit_of_24() {
        assert_eq!(
            target(1, Switch::On),
            "/ons.cgi?led=100000000000000000000000"
        );
        assert_eq!(
            target(8, Switch::Off),
            "/offs.cgi?led=000000010000000000000000"
        );
    }

    #[test]
    fn the_outlets_begin_at_the_eleventh_value() {
        let page = "<response><pot0>a,b,c,d,e,f,g,h,i,j,1,0,1,0,1,0,1,0,k</pot0></response>";
        assert_eq!(parse(page, 1), Some(State::On));
        assert_eq!(parse(page, 8), Some(State::Off));
        assert_eq!(parse("<html>", 1), None);
    }
}
