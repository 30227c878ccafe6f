//! APC's command line (AOS 5 and later): `olOn N`, `olOff N`, `olStatus N` at an `apc>` prompt,
//! answered by a code, `E000: Success` or another.

use super::apc_menu::{Keys, log_in};
use super::{Account, Console, PROMPT_PATIENCE, state_of, unexpected};
use crate::driver::{Driver, DriverError};
use crate::request::{Proof, State, Switch};
use crate::settings::{Settings, SettingsError};
use crate::transport::expect::Pattern::Ends;
use crate::transport::telnet::Terminal;
use crate::transport::{Attempt, Deadline, Timed};

const PROMPT: &str = "apc>";

struct Cli(Account);

pub(super) fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let (address, account) = keys.console(settings)?;
    Ok(super::driver(address, Cli(account)))
}

impl Console for Cli {
    fn login(&self, terminal: &mut Terminal, deadline: Deadline) -> Result<(), DriverError> {
        log_in(&self.0, terminal, PROMPT, deadline)
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
        let verb = match to {
            Switch::On => "olOn",
            Switch::Off => "olOff",
        };
        ask(terminal, &format!("{verb} {outlet}"), attempt)?;
        Ok(Proof::Reply)
    }

    fn state(
        &self,
        terminal: &mut Terminal,
        outlet: u32,
        deadline: Deadline,
    ) -> Result<State, DriverError> {
        let text = ask(terminal, &format!("olStatus {outlet}"), deadline)?;
        state_in(&text, outlet).ok_or_else(|| unexpected(terminal, "the outlet's line", &text))
    }
}

/// Sends `command`, which the Python program ends with a bare newline on a negotiated session,
/// and takes what is printed up to the next prompt. Any code but E000 is a failure.
fn ask(terminal: &mut Terminal, command: &str, timed: impl Timed) -> Result<String, DriverError> {
    terminal.send(format!("{command}\n").as_bytes(), timed)?;
    let patience = timed.deadline().within(PROMPT_PATIENCE);
    let text = terminal
        .expect("prompt apc>", &[Ends(PROMPT)], patience)?
        .text;
    match code(&text) {
        Some(("E000", _)) => Ok(text),
        Some((code, line)) if is_refusal(code) => {
            Err(DriverError::Refused(terminal.screen.words(line)))
        }
        Some((_, line)) => Err(unexpected(terminal, "E000: Success", line)),
        None => Err(unexpected(terminal, "E000: Success", &text)),
    }
}

/// Is the command turned away before it is run: not found, wrong parameter, command line error,
/// denied to this user? E100, "command failed", and what the manuals have from E105 on (no data, an
/// error while running) may come after the relay has moved.
fn is_refusal(code: &str) -> bool {
    matches!(code, "E101" | "E102" | "E103" | "E104")
}

/// The first line with a code of a letter and three digits: the code, and the line.
fn code(text: &str) -> Option<(&str, &str)> {
    text.lines().map(str::trim).find_map(|line| {
        let (code, _) = line.split_once(':')?;
        let digits = code.strip_prefix('E')?;
        (digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .then_some((code, line))
    })
}

/// The state of `outlet` in olStatus' lines, ` 1: name: On`.
fn state_in(text: &str, outlet: u32) -> Option<State> {
    text.lines().find_map(|line| {
        let (number, rest) = line.trim().split_once(':')?;
        if number.parse() != Ok(outlet) {
            return None;
        }
        let said = rest.rsplit(':').next()?.trim();
        // A star marks a change that is pending.
        Some(state_of(said).unwrap_or_else(|| State::Unknown(said.to_owned())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_states_are_read() {
        assert_eq!(
            code("olOn 1\nE000: Success\n\napc>"),
            Some(("E000", "E000: Success"))
        );
        assert_eq!(
            code("olOn 99\nE102: Parameter Error\n").map(|c| c.0),
            Some("E102")
        );
        assert_eq!(code("Error: no\nE00: x\n"), None);
        let status = "E000: Success\n 1: rack: 4: On\n12: b: Off\n 2: c: Off*\n";
        assert_eq!(state_in(status, 1), Some(State::On));
        assert_eq!(state_in(status, 12), Some(State::Off));
        assert_eq!(state_in(status, 2), Some(State::Unknown("Off*".into())));
        assert_eq!(state_in(status, 3), None);
    }
}
