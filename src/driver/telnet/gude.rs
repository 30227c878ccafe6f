//! Gude Expert Power Control: a console of commands, answered by `OK.`, `ERR.` and a reason, or
//! the value asked for on one line (manual of the EPC 1202, "Console").

use super::{Console, PROMPT_PATIENCE, state_of, unexpected};
use crate::driver::{Driver, DriverError, Host};
use crate::request::{Proof, State, Switch};
use crate::settings::{Settings, SettingsError, keys};
use crate::transport::telnet::Terminal;
use crate::transport::{Attempt, Deadline, Timed};
use std::num::NonZeroU16;

/// A console without login.
struct Open;

keys! {
    pub(super) struct Keys {
        ..host: Host;
        telnetport: NonZeroU16 = 23, super::TELNETPORT;
    }
}

pub(super) fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let address = keys.host.address(settings, keys.telnetport.get())?;
    Ok(super::driver(address, Open))
}

impl Console for Open {
    fn login(&self, _: &mut Terminal, _: Deadline) -> Result<(), DriverError> {
        Ok(())
    }

    fn logout(&self, terminal: &mut Terminal, deadline: Deadline) -> Result<(), DriverError> {
        Ok(terminal.line("quit", deadline)?)
    }

    fn switch(
        &self,
        terminal: &mut Terminal,
        outlet: u32,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let value = u8::from(to == Switch::On);
        match ask(
            terminal,
            &format!("port {outlet} state set {value}"),
            attempt,
        )? {
            Answer::Ok => Ok(Proof::Reply),
            other => Err(unexpected(terminal, "OK.", &format!("{other:?}"))),
        }
    }

    fn state(
        &self,
        terminal: &mut Terminal,
        outlet: u32,
        deadline: Deadline,
    ) -> Result<State, DriverError> {
        match ask(terminal, &format!("port {outlet} state show"), deadline)? {
            Answer::Value(line) => Ok(state_of(last_word(&line))
                .unwrap_or_else(|| State::Unknown(terminal.screen.words(&line)))),
            other => Err(unexpected(terminal, "ON or OFF", &format!("{other:?}"))),
        }
    }
}

/// What the console answers to a command.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Ok,
    Refused(String),
    Value(String),
    /// It wants a login first.
    Login,
}

/// The answer to `command`, once it is whole. Banner, prompt and echo are passed over.
fn answer(text: &str, command: &str) -> Option<(usize, Answer)> {
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        end += line.len();
        let whole = line.ends_with('\n');
        let said = line.trim().trim_start_matches('>').trim();
        let lower = said.to_ascii_lowercase();
        if said.starts_with("OK.") {
            return Some((end, Answer::Ok));
        }
        if said.starts_with("ERR.") && whole {
            return Some((end, Answer::Refused(said.to_owned())));
        }
        if ["login:", "username:", "password:", "user:"]
            .iter()
            .any(|prompt| lower.ends_with(prompt))
        {
            return Some((end, Answer::Login));
        }
        // One word, or a sentence about the port; a banner's version number is neither.
        let about_port = said == last_word(said) || lower.starts_with("port ");
        if whole && command.ends_with("show") && about_port && state_of(last_word(said)).is_some() {
            return Some((end, Answer::Value(said.to_owned())));
        }
    }
    None
}

fn last_word(line: &str) -> &str {
    line.split(|c: char| !c.is_ascii_alphanumeric())
        .rfind(|word| !word.is_empty())
        .unwrap_or_default()
}

fn ask(terminal: &mut Terminal, command: &str, timed: impl Timed) -> Result<Answer, DriverError> {
    terminal.line(command, timed)?;
    let (_, answer) = terminal.expect_if(
        "answer of the console",
        timed.deadline().within(PROMPT_PATIENCE),
        |text| answer(text, command),
    )?;
    match answer {
        Answer::Refused(words) => Err(DriverError::Refused(terminal.screen.words(&words))),
        Answer::Login => Err(DriverError::LoginRefused(
            "the console asks for a login; switch that off in the PDU".into(),
        )),
        answer @ (Answer::Ok | Answer::Value(_)) => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_banner_prompt_and_echo() {
        let value = |text: &str| answer(text, "port 1 state show").map(|found| found.1);
        let set = |text: &str| answer(text, "port 1 state set 1").map(|found| found.1);
        assert_eq!(set("EPC 1202\n>port 1 state set 1\n"), None);
        assert_eq!(set(">port 1 state set 1\nOK"), None);
        assert_eq!(set(">port 1 state set 1\nOK."), Some(Answer::Ok));
        assert_eq!(set("ERR. no su"), None);
        assert_eq!(
            set("ERR. no such port\n"),
            Some(Answer::Refused("ERR. no such port".into()))
        );
        assert_eq!(set("\nUsername: "), Some(Answer::Login));
        assert_eq!(value(">port 1 state show\n"), None);
        assert_eq!(value(">port 1 state show\nON"), None);
        assert_eq!(
            value(">port 1 state show\nON\n>"),
            Some(Answer::Value("ON".into()))
        );
        assert_eq!(value("EPC 1202 v1.0\n"), None);
        assert_eq!(value("0\n"), Some(Answer::Value("0".into())));
        assert_eq!(
            value("Port 1 is OFF.\n"),
            Some(Answer::Value("Port 1 is OFF.".into()))
        );
    }
}
