//! `bcu`: NXP's board control utility, which presses the reset line of an evaluation board.
//!
//! The utility ends with exit status 0 whatever happens, so its words are looked at:
//! `set gpio successfully`, and `get <gpio> level=HIGH` or `LOW` (bcu.c).

use crate::driver::{Driver, DriverError};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Settings, SettingsError, TextOrNumber, keys};
use crate::transport::command::{Output, Program};
use crate::transport::{Attempt, Deadline, Timed};

keys! {
    pub(super) struct Bcu {
        id: Option<TextOrNumber>, "which board, by the USB path of its debug port as 3-7.1";
        board: Option<TextOrNumber>, "the board's model as imx8mpevk";
        bcu_exe: TextOrNumber = "bcu", "the program, by name or path";
        reset_gpio: TextOrNumber = "reset", "the board's line that is switched";
        reset_gpio_active_low: bool = true, "the board runs while the line is high";
        bootmode: Option<TextOrNumber>, "the boot mode to set before";
    }
}

pub(super) fn build(bcu: Bcu, _: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    Ok(Box::new(bcu))
}

impl Bcu {
    /// The level of the reset line at which the board runs, or does not.
    fn is_high(&self, to: Switch) -> bool {
        (to == Switch::On) == self.reset_gpio_active_low
    }

    /// Runs `bcu` with `words` and the options that choose the board.
    fn run(&self, words: &[&str], timed: impl Timed) -> Result<Output, DriverError> {
        let options = [("id", &self.id), ("board", &self.board)]
            .into_iter()
            .filter_map(|(name, value)| {
                let value = value.as_deref().filter(|value| !value.is_empty())?;
                Some(format!("-{name}={value}"))
            });
        let mut program = Program::new(&self.bcu_exe).args(words.iter().copied());
        for option in options {
            program = program.arg(&option);
        }
        let output = super::run(program, timed)?;
        if output.is_success() {
            return Ok(output);
        }
        Err(DriverError::Unexpected {
            expected: "exit status 0 of bcu".into(),
            got: output.complaint(),
        })
    }
}

impl Driver for Bcu {
    fn switch(&mut self, _: &Outlet, to: Switch, attempt: &Attempt) -> Result<Proof, DriverError> {
        let mut init = vec!["init"];
        init.extend(self.bootmode.as_deref().filter(|mode| !mode.is_empty()));
        // It sets every line of the board, the reset line too.
        self.run(&init, attempt)?;
        let level = if self.is_high(to) { "1" } else { "0" };
        let output = self.run(&["set_gpio", &self.reset_gpio, level], attempt)?;
        if output.text().contains("set gpio successfully") {
            return Ok(Proof::Reply);
        }
        Err(DriverError::Unexpected {
            expected: "\"set gpio successfully\" from bcu".into(),
            got: output.complaint(),
        })
    }

    fn state(&mut self, _: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let output = self.run(&["get_level", &self.reset_gpio], deadline)?;
        let on = self.is_high(Switch::On);
        Ok(match level_of(&output.text()) {
            Some(level) if level == on => State::On,
            Some(_) => State::Off,
            None => State::Unknown(output.complaint()),
        })
    }
}

/// Is the line high? `None` when the output does not say.
fn level_of(output: &str) -> Option<bool> {
    output.lines().find_map(|line| {
        match line.trim().strip_prefix("get ")?.rsplit_once(" level=")?.1 {
            "HIGH" => Some(true),
            "LOW" => Some(false),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_from_bcus_words() {
        assert_eq!(
            level_of("board model is imx8mpevk\nget reset level=HIGH\n"),
            Some(true)
        );
        assert_eq!(level_of("get reset level=LOW\n"), Some(false));
        assert_eq!(level_of("get gpio failed, error = 0x1\n"), None);
    }
}
