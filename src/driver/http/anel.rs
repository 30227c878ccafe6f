//! ANEL NET-PwrCtrl HOME, ADV, IO and PRO, over their web page's commands.
//!
//! A command is `GET /?Sw_on=N,<user><password>`: user and password run together, encoded only
//! where a URL cannot do without it. The answer says little, so the state is read back from
//! `/strg.cfg` (Basic login). That file's layout is told apart by where its `end` stands:
//! token 58 on HOME and PRO with firmware 4 (states from token 20), token 40 on ADV, IO and HUT
//! (five tokens an outlet, the second its state).

use super::*;
use crate::driver::{Driver, States, outlet_number};
use crate::request::Outlet;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

pub(super) const HOME: DriverSpec = DriverSpec {
    names: &["anel_netpwrctrlhome"],
    models: "ANEL NET-PwrCtrl HOME",
    outlets: Has::Numbers(1, 3),
    ..SPEC
};

pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &[
        "anel_netpwrctrladv",
        "anel_netpwrctrlio",
        "anel_netpwrctrlpro",
    ],
    models: "ANEL NET-PwrCtrl ADV, IO, PRO",
    outlets: Has::Numbers(1, 8),
    verified_by: "simulator; UNVERIFIED on hardware: the ADV and IO layout of /strg.cfg \
                  (known from one other client), and that a switched outlet shows there at once",
    build: &By(build),
    ..super::SPEC
};

struct Anel {
    client: Client,
    credentials: String,
}

keys! {
    struct Keys {
        ..host: Host;
        ..way: Way;
        username: TextOrNumber = "admin", USERNAME;
        password: Secret = "anel", PASSWORD;
    }
}

fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let credentials = encode(&format!("{}{}", &*keys.username, keys.password.reveal()));
    let login = basic(keys.username, &keys.password);
    let mut client = client(settings, &keys.host, keys.way, None, login)?;
    client.hide(&credentials);
    Ok(Box::new(Anel {
        client,
        credentials,
    }))
}

/// Encodes what would end or break the query, and nothing else: the PDU compares the rest.
fn encode(text: &str) -> String {
    const BREAKING: &AsciiSet = &CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'#')
        .add(b'%')
        .add(b'<')
        .add(b'>')
        .add(b'\\')
        .add(b'^')
        .add(b'`')
        .add(b'{')
        .add(b'|')
        .add(b'}');
    utf8_percent_encode(text, BREAKING).to_string()
}

/// The state of an outlet in `/strg.cfg`; `None` when that is not such a file.
fn parse(text: &str, outlet: u32) -> Option<State> {
    let tokens: Vec<&str> = text.trim().split(';').map(str::trim).collect();
    let index = usize::try_from(outlet.checked_sub(1)?).ok()?;
    let at = match tokens.iter().position(|token| *token == "end")? {
        58 => 20 + index,
        40 => 5 * index + 1,
        _ => return None,
    };
    tokens.get(at).map(|word| state_of(word))
}

fn read(answer: &Answer, outlet: &Outlet) -> Result<State, DriverError> {
    parse(&answer.text(), outlet_number(outlet)?)
        .ok_or_else(|| unexpected("the fields of strg.cfg up to \"end\"", answer))
}

impl Driver for Anel {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let number: u32 = outlet_number(outlet)?;
        let target = format!("/?Sw_{to}={number},{}", self.credentials);
        let request = Request::get(&target).anonymous();
        ask_and(&mut self.client, &request, attempt, |answer| {
            match answer.text().contains("User or password error") {
                true => Err(DriverError::LoginRefused(answer.quote())),
                false => Ok(Proof::Reply),
            }
        })
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        read(
            &ask(&mut self.client, &Request::get("/strg.cfg"), deadline)?,
            outlet,
        )
    }

    fn states(
        &mut self,
        outlet: &Outlet,
        others: &[Outlet],
        deadline: Deadline,
    ) -> Result<States, DriverError> {
        let answer = ask(&mut self.client, &Request::get("/strg.cfg"), deadline)?;
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
    fn both_layouts_are_read() {
        let mut tokens = vec!["x"; 58];
        (tokens[20], tokens[27]) = ("1", "0");
        let home = format!("{};end;", tokens.join(";"));
        assert_eq!(parse(&home, 1), Some(State::On));
        assert_eq!(parse(&home, 8), Some(State::Off));
        let adv = format!("{}end", "Nr;1;0;x;y;".repeat(7) + "Nr;0;0;x;y;");
        assert_eq!(parse(&adv, 1), Some(State::On));
        assert_eq!(parse(&adv, 8), Some(State::Off));
        assert_eq!(parse("a;b;end", 1), None);
        assert_eq!(parse("<html>", 1), None);
    }

    #[test]
    fn only_what_would_break_the_query_is_encoded() {
        assert_eq!(encode("admin&an=el+ #%"), "admin&an=el+%20%23%25");
    }
}
