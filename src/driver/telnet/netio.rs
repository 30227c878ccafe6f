//! NETIO's KSHELL: each command is answered by one line of a three-digit code and text (NETIO 4
//! telnet manual; as labgrid and fence_netio use it).

use super::{Account, Console, PROMPT_PATIENCE, busy, says_busy, unexpected};
use crate::driver::{Driver, DriverError, Host};
use crate::request::{Proof, State, Switch};
use crate::settings::{Secret, Settings, SettingsError, TextOrNumber, keys};
use crate::transport::telnet::Terminal;
use crate::transport::{Attempt, Deadline, Timed, TransportErrorKind};
use std::num::NonZeroU16;
use std::time::Duration;

/// How long to wait for the greeting of a firmware that may have none.
const GREETING_PATIENCE: Duration = Duration::from_secs(2);

struct Kshell(Account);

keys! {
    pub(super) struct Keys {
        ..host: Host;
        telnetport: NonZeroU16 = 1234, super::TELNETPORT;
        username: TextOrNumber = "admin", super::USERNAME;
        password: Secret = "admin", super::PASSWORD;
    }
}

pub(super) fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let address = keys.host.address(settings, keys.telnetport.get())?;
    let account = Account::new(keys.username, keys.password, settings)?;
    // `login <user> <password>`: a blank would end either.
    for (key, text) in [
        ("username", &*account.username),
        ("password", account.password.reveal()),
    ] {
        if text.is_empty() || text.contains(' ') {
            return Err(settings.error(key, "expected a text without blanks"));
        }
    }
    Ok(super::driver(address, Kshell(account)))
}

/// The first whole line that begins with a three-digit code: its end, the code, its text.
fn coded_line(text: &str) -> Option<(usize, (u16, String))> {
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        end += line.len();
        let Some((code, rest)) = line
            .strip_suffix('\n')
            .and_then(|l| l.trim().split_at_checked(3))
        else {
            continue;
        };
        if code.bytes().all(|byte| byte.is_ascii_digit())
            && (rest.is_empty() || rest.starts_with([' ', '-']))
            && let Ok(code) = code.parse()
        {
            return Some((end, (code, line.trim().to_owned())));
        }
    }
    None
}

/// The next answer. `250` is success, `5xx` a refusal in the PDU's words.
fn answer(terminal: &mut Terminal, deadline: Deadline) -> Result<(u16, String), DriverError> {
    let (_, answer) = terminal.expect_if(
        "answer with a code",
        deadline.within(PROMPT_PATIENCE),
        coded_line,
    )?;
    Ok(answer)
}

/// Sends `command` and takes its `250` line.
fn ask(terminal: &mut Terminal, command: &str, timed: impl Timed) -> Result<String, DriverError> {
    terminal.line(command, timed)?;
    match answer(terminal, timed.deadline())? {
        (250, line) => Ok(line),
        (500..=599, line) => Err(DriverError::Refused(terminal.screen.words(&line))),
        (_, line) => Err(unexpected(terminal, "250", &line)),
    }
}

impl Console for Kshell {
    fn login(&self, terminal: &mut Terminal, deadline: Deadline) -> Result<(), DriverError> {
        terminal.screen.hide(self.0.password.reveal());
        let greeting = deadline.within(GREETING_PATIENCE);
        match terminal.expect_if("greeting", greeting, coded_line) {
            Ok((_, (100, _))) => {}
            Ok((_, (_, line))) => {
                return Err(if says_busy(&line) {
                    busy(terminal, &line)
                } else {
                    unexpected(terminal, "greeting 100 HELLO", &line)
                });
            }
            Err(error) if error.kind == TransportErrorKind::Timeout => {
                // The Python program's way: an empty line is answered by 502.
                terminal.line("", deadline)?;
                if let (100, _) = answer(terminal, deadline)? {
                    // The greeting, late; the empty line's own answer follows.
                    answer(terminal, deadline)?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        let (username, password) = (&self.0.username, self.0.password.reveal());
        match ask(terminal, &format!("login {username} {password}"), deadline) {
            Err(DriverError::Refused(words)) if says_busy(&words) => Err(busy(terminal, &words)),
            Err(DriverError::Refused(words)) => Err(DriverError::LoginRefused(words)),
            result => result.map(drop),
        }
    }

    fn logout(&self, terminal: &mut Terminal, deadline: Deadline) -> Result<(), DriverError> {
        terminal.line("quit", deadline)?;
        answer(terminal, deadline).map(drop)
    }

    fn switch(
        &self,
        terminal: &mut Terminal,
        outlet: u32,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let value = u8::from(to == Switch::On);
        ask(terminal, &format!("port {outlet} {value}"), attempt)?;
        Ok(Proof::Reply)
    }

    fn state(
        &self,
        terminal: &mut Terminal,
        outlet: u32,
        deadline: Deadline,
    ) -> Result<State, DriverError> {
        let line = ask(terminal, &format!("port {outlet}"), deadline)?;
        Ok(state_from(&terminal.screen.words(&line)))
    }
}

/// What `port N` answers: `250 1`, `250 0`, or an older firmware's letter.
fn state_from(line: &str) -> State {
    match line.split_whitespace().nth(1) {
        Some("1") => State::On,
        Some("0") => State::Off,
        _ => State::Unknown(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_whole_lines_with_a_code() {
        assert_eq!(coded_line("250 O"), None);
        assert_eq!(
            coded_line("port 1 1\n250 OK\n"),
            Some((16, (250, "250 OK".into())))
        );
        assert_eq!(
            coded_line("\n100 HELLO 00000000 - KSHELL V1.5\n").map(|l| l.1.0),
            Some(100)
        );
        assert_eq!(coded_line("2500 \n12 a\nabc d\n"), None);
        assert_eq!(state_from("250 1"), State::On);
        assert_eq!(state_from("250 0"), State::Off);
        assert_eq!(state_from("250 i"), State::Unknown("250 i".into()));
    }
}
