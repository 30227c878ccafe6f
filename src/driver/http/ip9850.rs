//! Aviosys IP Power 9850: commands in a query, user and password too.
//!
//! The PDU echoes `p6N=1`; where it does not, the states are asked for. Letter case and
//! separators vary by firmware, and an answer's body may begin with stray HTTP headers.

use super::*;
use crate::driver::{Driver, States, outlet_number};
use crate::request::Outlet;
use form_urlencoded::byte_serialize;

pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &["ip9850"],
    models: "Aviosys IP Power 9850",
    outlets: Has::Numbers(1, 4),
    verified_by: "simulator; UNVERIFIED on hardware: the echo's exact form",
    build: &By(build),
    ..super::SPEC
};

struct Ip9850 {
    client: Client,
    /// `user=..&pass=..&`, as far as they are given.
    login: String,
}

keys! {
    struct Keys {
        ..host: Host;
        ..way: Way;
        ..login: Credentials;
    }
}

fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let mut client = client(settings, &keys.host, keys.way, None, Login::Open)?;
    let mut login = String::new();
    if let Some(user) = keys.login.username {
        login.extend(["user=", &form(&user), "&"]);
    }
    if let Some(password) = keys.login.password {
        client.hide(password.reveal());
        login.extend(["pass=", &form(password.reveal()), "&"]);
    }
    Ok(Box::new(Ip9850 { client, login }))
}

fn form(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

/// The value after `p6N=`.
fn parse(page: &str, outlet: u32) -> Option<State> {
    let page = page.to_ascii_lowercase();
    let (_, after) = page.split_once(&format!("p6{outlet}="))?;
    let end = after
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(after.len());
    Some(state_of(after.get(..end)?))
}

impl Ip9850 {
    fn command(&mut self, command: &str, timed: impl Timed) -> Result<Answer, DriverError> {
        let target = format!("/set.cmd?{}cmd={command}", self.login);
        ask_and(
            &mut self.client,
            &Request::get(&target),
            timed,
            |answer| match tells_of_401(&answer.text()) {
                true => Err(DriverError::LoginRefused(answer.quote())),
                false => Ok(answer),
            },
        )
    }
}

fn read(answer: &Answer, outlet: &Outlet) -> Result<State, DriverError> {
    let number = outlet_number(outlet)?;
    parse(&answer.text(), number).ok_or_else(|| unexpected(format!("p6{number}="), answer))
}

impl Driver for Ip9850 {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let number = outlet_number(outlet)?;
        let value = match to {
            Switch::On => 1,
            Switch::Off => 0,
        };
        let answer = self.command(&format!("setpower&p6{number}={value}"), attempt)?;
        match parse(&answer.text(), number) {
            Some(state) if state != State::from(to) => {
                Err(unexpected(format!("p6{number}={value}"), &answer))
            }
            // An echo of the command is no state.
            Some(_) | None => Ok(Proof::Reply),
        }
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        read(&self.command("getpower", deadline)?, outlet)
    }

    fn states(
        &mut self,
        outlet: &Outlet,
        others: &[Outlet],
        deadline: Deadline,
    ) -> Result<States, DriverError> {
        let answer = self.command("getpower", deadline)?;
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
    fn echoes_of_any_firmware_are_read() {
        for page in [
            "<html>p61=1,p62=0,p63=0,p64=1</html>",
            "Content-Type: text/html\r\n\r\n<HTML>P61=1,P62=0, P64=1\r\n",
        ] {
            assert_eq!(parse(page, 1), Some(State::On), "{page}");
            assert_eq!(parse(page, 2), Some(State::Off), "{page}");
            assert_eq!(parse(page, 4), Some(State::On), "{page}");
        }
        assert_eq!(parse("<html>OK</html>", 1), None);
    }
}
