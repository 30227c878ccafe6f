//! Synaccess netBooter: `login`, then `pset N 1` or `pset N 0` at a `>` prompt, which says the
//! same whether the command worked; so `pshow` is asked.

use super::{Account, Console, PROMPT_PATIENCE, busy, says_busy, state_of, unexpected};
use crate::driver::{Driver, DriverError, Host};
use crate::request::{Proof, State, Switch};
use crate::settings::{Secret, Settings, SettingsError, TextOrNumber, keys};
use crate::transport::expect::Pattern::{Ends, Prompt};
use crate::transport::telnet::Terminal;
use crate::transport::{Attempt, Deadline, Timed};
use std::num::NonZeroU16;

struct NetBooter(Account);

keys! {
    pub(super) struct Keys {
        ..host: Host;
        telnetport: NonZeroU16 = 23, super::TELNETPORT;
        username: TextOrNumber = "admin", super::USERNAME;
        password: Secret = "admin", super::PASSWORD;
    }
}

pub(super) fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let address = keys.host.address(settings, keys.telnetport.get())?;
    let account = Account::new(keys.username, keys.password, settings)?;
    Ok(super::driver(address, NetBooter(account)))
}

/// Does the console's answer tell of a failure?
fn complains(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    [
        "fail",
        "invalid",
        "incorrect",
        "denied",
        "error",
        "wrong",
        "unknown",
        "not ",
        "login",
    ]
    .iter()
    .any(|word| lower.contains(word))
}

/// Sends `command` and takes what is printed up to the next prompt, without the echo.
fn ask(terminal: &mut Terminal, command: &str, timed: impl Timed) -> Result<String, DriverError> {
    terminal.line(command, timed)?;
    let found = terminal.expect(
        "prompt >",
        &[Prompt(">"), Ends("User ID:")],
        timed.deadline().within(PROMPT_PATIENCE),
    )?;
    if found.which == 1 {
        return Err(DriverError::LoginRefused(
            "the console asks for a login again".into(),
        ));
    }
    let text = found.text.trim();
    Ok(text.strip_prefix(command).unwrap_or(text).to_owned())
}

impl Console for NetBooter {
    fn login(&self, terminal: &mut Terminal, deadline: Deadline) -> Result<(), DriverError> {
        terminal.screen.hide(self.0.password.reveal());
        let patience = || deadline.within(PROMPT_PATIENCE);
        terminal.expect("prompt >", &[Prompt(">")], patience())?;
        terminal.line("login", deadline)?;
        let asked = terminal.expect("User ID:", &[Ends("User ID:"), Prompt(">")], patience())?;
        if asked.which == 1 {
            return Err(if says_busy(&asked.text) {
                busy(terminal, &asked.text)
            } else {
                unexpected(terminal, "User ID:", &asked.text)
            });
        }
        terminal.line(&self.0.username, deadline)?;
        terminal.expect("Password:", &[Ends("Password:")], patience())?;
        terminal.line(self.0.password.reveal(), deadline)?;
        let answer = terminal.expect("prompt >", &[Prompt(">"), Ends("User ID:")], patience())?;
        if says_busy(&answer.text) {
            return Err(busy(terminal, &answer.text));
        }
        if answer.which == 1 || complains(&answer.text) {
            return Err(DriverError::LoginRefused(
                terminal.screen.words(&answer.text),
            ));
        }
        Ok(())
    }

    fn logout(&self, terminal: &mut Terminal, deadline: Deadline) -> Result<(), DriverError> {
        Ok(terminal.line("exit", deadline)?)
    }

    fn switch(
        &self,
        terminal: &mut Terminal,
        outlet: u32,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let value = u8::from(to == Switch::On);
        let answer = ask(terminal, &format!("pset {outlet} {value}"), attempt)?;
        if complains(&answer) {
            return Err(DriverError::Refused(terminal.screen.words(&answer)));
        }
        Ok(Proof::Reply)
    }

    fn state(
        &self,
        terminal: &mut Terminal,
        outlet: u32,
        deadline: Deadline,
    ) -> Result<State, DriverError> {
        let table = ask(terminal, "pshow", deadline)?;
        // A table of a form unknown to us says nothing against the prompt.
        state_in(&table, outlet).ok_or_else(|| {
            DriverError::CannotRead(format!(
                "pshow has no line of outlet {outlet}: {}",
                terminal.screen.words(&table)
            ))
        })
    }
}

/// The state of `outlet` in pshow's table: the row whose first number it is, its last ON or OFF.
fn state_in(table: &str, outlet: u32) -> Option<State> {
    table.lines().find_map(|line| {
        let mut words = line
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty());
        if words.next()?.parse() != Ok(outlet) {
            return None;
        }
        words
            .rfind(|word| word.eq_ignore_ascii_case("on") || word.eq_ignore_ascii_case("off"))
            .and_then(state_of)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_in_the_row_of_the_outlet() {
        let table = "Port | Name     | Status\n   1 | Outlet 2 | ON\n   2 | on call  | OFF |\n";
        assert_eq!(state_in(table, 1), Some(State::On));
        assert_eq!(state_in(table, 2), Some(State::Off));
        assert_eq!(state_in(table, 3), None);
        assert!(complains("Invalid command") && !complains("\n"));
    }
}
