//! Intellinet 163682: web page commands, states from `/status.xml`.
//!
//! Outlets count from 0, and `op=0` means on. A refused login may come as a page with HTTP 200
//! that tells of 401.

use super::*;
use crate::driver::{Driver, Outlets, States, outlet_number};
use crate::request::Outlet;

pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &["intellinet"],
    models: "Intellinet 163682",
    outlets: Has::Numbers(0, 7),
    verified_by: "simulator, with a captured status.xml; UNVERIFIED on hardware",
    build: &By(build),
    ..super::SPEC
};

struct Intellinet {
    client: Client,
}

keys! {
    struct Keys {
        ..host: Host;
        ..port: WebPort;
        ..way: Way;
        ..login: Admin;
    }
}

fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let login = basic(keys.login.username, &keys.login.password);
    Ok(Box::new(Intellinet {
        client: client(settings, &keys.host, keys.way, keys.port.port, login)?,
    }))
}

/// The state in `<outletStatN>on</outletStatN>`; the page's XML is not always well formed.
fn parse(page: &str, outlet: u32) -> Option<State> {
    let (_, after) = page.split_once(&format!("<outletStat{outlet}>"))?;
    Some(state_of(after.split('<').next()?))
}

fn read(answer: &Answer, outlet: &Outlet) -> Result<State, DriverError> {
    let number: u32 = outlet_number(outlet)?;
    parse(&answer.text(), number).ok_or_else(|| unexpected(format!("<outletStat{number}>"), answer))
}

impl Driver for Intellinet {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let number: u32 = outlet_number(outlet)?;
        let op = match to {
            Switch::On => 0,
            Switch::Off => 1,
        };
        let target = format!("/control_outlet.htm?outlet{number}=1&op={op}&submit=Anwenden");
        ask_and(
            &mut self.client,
            &Request::get(&target),
            attempt,
            |answer| match tells_of_401(&answer.text()) {
                true => Err(DriverError::LoginRefused(answer.quote())),
                false => Ok(Proof::Reply),
            },
        )
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
        others: &Outlets,
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
    fn states_are_found_in_the_page() {
        let page = "<response><outletStat0>on</outletStat0>\n<outletStat7>off</outletStat7>";
        assert_eq!(parse(page, 0), Some(State::On));
        assert_eq!(parse(page, 7), Some(State::Off));
        assert_eq!(parse(page, 1), None);
    }
}
