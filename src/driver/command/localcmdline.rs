//! `localcmdline`: any command of this machine, with the outlet put into it.
//!
//! The commands are Python `%` templates. Two guards keep what a client sends out of the shell's
//! hands. In the text form (`/bin/sh -c`) only outlets of [`is_plain`] characters are accepted:
//! none of these means anything to a shell in any state of quoting, so the outlet is one word, or
//! part of one, wherever the template puts it. In the list form there is no shell, and each
//! element of the list is one argument.

use crate::driver::{Driver, DriverError, Outlets};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Settings, SettingsError, TextOrList, keys};
use crate::transport::command::{Output, Program};
use crate::transport::{Attempt, Deadline, Timed};
use std::iter::Peekable;
use std::str::Chars;
use std::sync::Arc;

keys! {
    pub(super) struct Keys {
        cmd_on: Option<TextOrList>,
            "switches an outlet on: a shell command, or a list of program and arguments run \
             without a shell; %s becomes the outlet, %d (%x, %o) the outlet as a number, %% a \
             percent sign";
        cmd_off: Option<TextOrList>, "switches an outlet off";
        cmd_status: Option<TextOrList>, "reads an outlet: must print on, off, 1 or 0";
        ignore_exit_status: bool = false,
            "a command that ends with a failing status has switched all the same";
    }
}

/// A command as meant.
enum Cmd {
    /// For `/bin/sh -c`.
    Shell(Template),
    /// Program and arguments.
    Plain(String, Vec<Template>),
}

/// The commands that the config has.
struct Commands {
    on: Option<Cmd>,
    off: Option<Cmd>,
    status: Option<Cmd>,
}

impl Commands {
    /// Can every command be given this outlet? The error says what was expected.
    fn check(&self, outlet: &Outlet) -> Result<(), String> {
        let text = outlet.as_str();
        if text.is_empty() {
            return Err("an outlet that is not empty".into());
        }
        // It would be read as an option of the program.
        if text.starts_with('-') {
            return Err("an outlet that does not begin with -".into());
        }
        // It would lead a command's file name out of its folder.
        if text.split('/').any(|part| part == "..") {
            return Err("an outlet without .. between slashes".into());
        }
        [&self.on, &self.off, &self.status]
            .into_iter()
            .flatten()
            .try_for_each(|cmd| cmd.check(outlet))
    }

    /// Nobody asks for another outlet; but this is what stands between a client and the shell.
    fn guard(&self, outlet: &Outlet) -> Result<(), DriverError> {
        self.check(outlet)
            .map_err(|expected| DriverError::NoSuchOutlet { expected })
    }
}

struct LocalCmdline {
    commands: Arc<Commands>,
    ignore_exit_status: bool,
    /// It was logged that there is no `cmd_on`, no `cmd_off`.
    told_on: bool,
    told_off: bool,
}

pub(super) fn build(
    keys: Keys,
    settings: &Settings,
) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    let cmd = |key: &str, written: Option<TextOrList>| {
        Cmd::new(written).map_err(|message| settings.error(key, message))
    };
    let commands = Arc::new(Commands {
        on: cmd("cmd_on", keys.cmd_on)?,
        off: cmd("cmd_off", keys.cmd_off)?,
        status: cmd("cmd_status", keys.cmd_status)?,
    });
    let driver = LocalCmdline {
        commands: Arc::clone(&commands),
        ignore_exit_status: keys.ignore_exit_status,
        told_on: false,
        told_off: false,
    };
    let outlets = Outlets::rule(move |outlet| {
        commands.check(outlet)?;
        Ok(outlet.clone())
    });
    Ok((Box::new(driver), outlets))
}

impl Cmd {
    /// Reads a command; an absent or empty one is none.
    fn new(written: Option<TextOrList>) -> Result<Option<Self>, String> {
        match written {
            None => Ok(None),
            Some(TextOrList::Text(line)) if line.is_empty() => Ok(None),
            Some(TextOrList::Text(line)) => {
                refuse_nul(&line)?;
                Template::parse(&line).map(Self::Shell).map(Some)
            }
            Some(TextOrList::List(words)) => {
                let Some((program, args)) = words.split_first() else {
                    return Ok(None);
                };
                words.iter().try_for_each(|word| refuse_nul(word))?;
                let program =
                    match Template::parse(program)?.0.as_slice() {
                        [Part::Text(text)] => text.clone(),
                        _ => return Err(
                            "the list must begin with the program's name, without % conversions"
                                .into(),
                        ),
                    };
                let args = args
                    .iter()
                    .map(|arg| Template::parse(arg))
                    .collect::<Result<_, _>>()?;
                Ok(Some(Self::Plain(program, args)))
            }
        }
    }

    /// Can this command be given this outlet?
    fn check(&self, outlet: &Outlet) -> Result<(), String> {
        let (needs_number, is_fit, expected) = match self {
            Self::Shell(line) => (
                line.needs_number(),
                outlet.as_str().chars().all(is_plain),
                "an outlet of letters, digits and . _ : / @ + - (a command written as a list takes other characters too)",
            ),
            Self::Plain(_, args) => (
                args.iter().any(Template::needs_number),
                !outlet.as_str().chars().any(char::is_control),
                "an outlet without control characters",
            ),
        };
        if needs_number && outlet.number().is_none() {
            return Err("a number as outlet, for the command's % conversion".into());
        }
        if !is_fit {
            return Err(expected.into());
        }
        Ok(())
    }

    fn run(&self, outlet: &Outlet, timed: impl Timed) -> Result<Output, DriverError> {
        let program = match self {
            Self::Shell(line) => Program::shell(&line.fill(outlet)),
            Self::Plain(program, args) => {
                let args: Vec<String> = args.iter().map(|arg| arg.fill(outlet)).collect();
                Program::new(program).args(args.iter().map(String::as_str))
            }
        };
        super::run(program, timed)
    }
}

/// Characters that are nothing but themselves to a shell: bare, within either kind of quotes,
/// in a comment, a here-document or a substitution.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._:/@+-".contains(c)
}

fn cannot_read() -> DriverError {
    DriverError::CannotRead("the config has no cmd_status".into())
}

fn refuse_nul(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("a command cannot contain a NUL character".into());
    }
    Ok(())
}

impl Driver for LocalCmdline {
    fn proofs(&self) -> &'static [Proof] {
        let replies =
            self.commands.on.is_some() && self.commands.off.is_some() && !self.ignore_exit_status;
        match (self.commands.status.is_some(), replies) {
            (true, true) => &[Proof::State, Proof::Reply],
            (true, false) => &[Proof::State],
            (false, true) => &[Proof::Reply],
            (false, false) => &[],
        }
    }

    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        self.commands.guard(outlet)?;
        let cmd = match to {
            Switch::On => &self.commands.on,
            Switch::Off => &self.commands.off,
        };
        let Some(cmd) = cmd else {
            // As the Python program does it: configs with one of the two commands rely on it.
            let was_told = match to {
                Switch::On => &mut self.told_on,
                Switch::Off => &mut self.told_off,
            };
            if !std::mem::replace(was_told, true) {
                log::warn!(
                    "the config has no cmd_{to}: outlet {outlet} was not switched {to}, nor will \
                     others be; this is said once"
                );
            }
            return Ok(Proof::None);
        };
        let output = cmd.run(outlet, attempt)?;
        if output.is_success() {
            return Ok(Proof::Reply);
        }
        if self.ignore_exit_status {
            return Ok(Proof::None);
        }
        // Transient, and it may have switched before it failed: a command's exit status tells no more.
        Err(DriverError::Unexpected {
            expected: "exit status 0 of the command".into(),
            got: output.complaint(),
        })
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        self.commands.guard(outlet)?;
        let cmd = self.commands.status.as_ref().ok_or_else(cannot_read)?;
        let output = cmd.run(outlet, deadline)?;
        let answer = output.text().trim().to_ascii_lowercase();
        Ok(match answer.as_str() {
            _ if !(output.is_success() || self.ignore_exit_status) => {
                State::Unknown(output.complaint())
            }
            "on" | "1" => State::On,
            "off" | "0" => State::Off,
            _ => State::Unknown(output.complaint()),
        })
    }
}

/// A Python `%` template with the outlet as its only argument.
struct Template(Vec<Part>);

enum Part {
    Text(String),
    Outlet(Conversion),
}

/// `%[flags][width][.precision]kind`.
#[derive(Default)]
struct Conversion {
    alternate: bool,
    zero: bool,
    left: bool,
    space: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
    kind: char,
}

impl Template {
    /// The widest padding: more is a slip of the pen.
    const MOST_WIDE: usize = 255;

    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            if c != '%' {
                plain.push(c);
                continue;
            }
            let mut conversion = Conversion::default();
            while let Some(flag) = rest.next_if(|c| "#0- +".contains(*c)) {
                match flag {
                    '#' => conversion.alternate = true,
                    '0' => conversion.zero = true,
                    '-' => conversion.left = true,
                    ' ' => conversion.space = true,
                    _ => conversion.plus = true,
                }
            }
            conversion.width = Self::number(&mut rest)?.unwrap_or(0);
            if rest.next_if_eq(&'.').is_some() {
                conversion.precision = Some(Self::number(&mut rest)?.unwrap_or(0));
            }
            // C's length letters mean nothing to Python.
            rest.next_if(|c| "hlL".contains(*c));
            match rest.next() {
                Some('%') => plain.push('%'),
                Some(kind) if "sdiuxXo".contains(kind) => {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    parts.push(Part::Outlet(Conversion { kind, ..conversion }));
                }
                other => {
                    let got = other.map_or("nothing".to_owned(), |c| format!("{c:?}"));
                    return Err(format!(
                        "expected one of s d i u x X o after %, or %% for a percent sign, got {got}"
                    ));
                }
            }
        }
        parts.push(Part::Text(plain));
        Ok(Self(parts))
    }

    /// The digits that come next.
    fn number(rest: &mut Peekable<Chars<'_>>) -> Result<Option<usize>, String> {
        let mut digits = String::new();
        while let Some(digit) = rest.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        if digits.is_empty() {
            return Ok(None);
        }
        match digits.parse() {
            Ok(number) if number <= Self::MOST_WIDE => Ok(Some(number)),
            _ => Err(format!(
                "the width {digits} is more than {}",
                Self::MOST_WIDE
            )),
        }
    }

    fn conversions(&self) -> impl Iterator<Item = &Conversion> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Outlet(conversion) => Some(conversion),
        })
    }

    fn needs_number(&self) -> bool {
        self.conversions().any(|conversion| conversion.kind != 's')
    }

    /// The text with the outlet in it. The outlet has been checked.
    fn fill(&self, outlet: &Outlet) -> String {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Outlet(conversion) => conversion.fill(outlet),
            })
            .collect()
    }
}

impl Conversion {
    fn fill(&self, outlet: &Outlet) -> String {
        let number = outlet.number().unwrap_or(0);
        let (digits, prefix) = match self.kind {
            's' => {
                let text = outlet.as_str();
                let cut: String = text
                    .chars()
                    .take(self.precision.unwrap_or(usize::MAX))
                    .collect();
                return self.pad(&cut);
            }
            'x' => (format!("{number:x}"), "0x"),
            'X' => (format!("{number:X}"), "0X"),
            'o' => (format!("{number:o}"), "0o"),
            _ => (number.to_string(), ""),
        };
        let sign = if self.plus {
            "+"
        } else if self.space {
            " "
        } else {
            ""
        };
        let prefix = if self.alternate { prefix } else { "" };
        let head = sign.len() + prefix.len();
        let mut least = self.precision.unwrap_or(0);
        if self.zero && !self.left {
            least = least.max(self.width.saturating_sub(head));
        }
        self.pad(&format!("{sign}{prefix}{digits:0>least$}"))
    }

    fn pad(&self, text: &str) -> String {
        let width = self.width;
        if self.left {
            format!("{text:<width$}")
        } else {
            format!("{text:>width$}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::By;
    use crate::request::PduName;
    use crate::settings::Position;
    use std::time::Duration;

    fn driver(json: &str) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
        By(build).of(&Settings::new(
            PduName::new("pdu"),
            "localcmdline",
            json,
            Position { line: 1, column: 1 },
        ))
    }

    fn ample() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    #[test]
    fn templates_are_filled_as_python_fills_them() {
        for (template, outlet, filled) in [
            ("relay", "4", "relay"),
            ("%s", "04", "04"),
            ("a %s b %s", "x/1", "a x/1 b x/1"),
            ("100%% %d", "4", "100% 4"),
            ("%d", "04", "4"),
            ("%i %u %ld", "4", "4 4 4"),
            ("%03d", "4", "004"),
            ("%-3d|", "4", "4  |"),
            ("%-05d|", "4", "4    |"),
            ("%+d% d", "4", "+4 4"),
            ("%+05d", "4", "+0004"),
            ("%x %X", "255", "ff FF"),
            ("%#x %#X %#o", "255", "0xff 0XFF 0o377"),
            ("%#06x", "255", "0x00ff"),
            ("%.3d", "4", "004"),
            ("%5.3d", "4", "  004"),
            ("%05.3d", "4", "00004"),
            ("%5s|%-5s|%05s", "ab", "   ab|ab   |   ab"),
            ("%.1s", "ab", "a"),
        ] {
            let parsed = Template::parse(template).expect("a template");
            assert_eq!(parsed.fill(&Outlet::new(outlet)), filled, "{template}");
        }
        for wrong in ["%", "%f", "date +%Y", "%(port)s", "%*d", "%9999s", "%c"] {
            assert!(Template::parse(wrong).is_err(), "{wrong} was accepted");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_their_key() {
        for (json, key) in [
            (r#"{"cmd_on": "relay %y"}"#, "cmd_on"),
            (r#"{"cmd_off": 4}"#, "cmd_off"),
            (r#"{"cmd_status": ["%s"]}"#, "cmd_status"),
            (r#"{"cmd_on": ["a", 4]}"#, "cmd_on"),
            (r#"{"cmd_on": "a\u0000b"}"#, "cmd_on"),
            (r#"{"ignore_exit_status": "maybe"}"#, "ignore_exit_status"),
        ] {
            let error = driver(json).err().expect("refused");
            assert_eq!(error.key.as_deref(), Some(key), "{json}: {error}");
        }
    }

    /// Every injection of the protocol notes and some more, in every state of quoting, through a
    /// real shell: none may run anything, be split, or expand.
    #[test]
    fn what_a_client_sends_never_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mark, log) = (folder.path().join("mark"), folder.path().join("log"));
        let (touch, log) = (format!("touch {}", mark.display()), log.display());
        let attacks: Vec<String> = [
            "1;@", "1';@;'", "1\";@;\"", "$(@)", "`@`", "1\n@", "1\n@\n", "1\0", "1&@", "1|@",
            "1||@", "'$(@)'", "\"$(@)\"", "1)@", "1}@", "\\", "\\\n@", "$HOME", "${HOME}", "~",
            "*", "?", "[a]", "{a,b}", "!x", "#", "1 2", "1\t2", "<x", ">x", "1\r", "-rf", "--help",
            "..", "a/../b", "", "ü", "a=b",
        ]
        .iter()
        .map(|attack| attack.replace('@', &touch))
        .collect();
        for template in [
            "echo %s",
            "echo '%s'",
            "echo \"%s\"",
            "echo \"$(echo %s)\"",
            "echo `echo %s`",
            "cat <<end\n%s\nend\n",
            "echo 'a'%s'b'",
            "# %s",
            "echo %s # %s",
            "sh -c 'echo %s'",
        ] {
            let line = format!("{{ {template}\n}} > {log}");
            let json = serde_json::json!({ "cmd_on": line, "cmd_off": line, "cmd_status": line });
            let (mut driver, outlets) = driver(&json.to_string()).expect("builds");
            for attack in &attacks {
                let outlet = Outlet::new(attack.as_str());
                assert!(
                    outlets.parse(&outlet).is_err(),
                    "{attack:?} passed the check"
                );
                assert!(
                    driver
                        .switch(&outlet, Switch::On, &Attempt::new(ample()))
                        .is_err()
                );
                assert!(driver.state(&outlet, ample()).is_err());
                assert!(!mark.exists(), "{attack:?} ran in {template:?}");
            }
        }
    }

    #[test]
    fn what_is_accepted_is_one_word_in_any_quoting() {
        for template in [
            "printf %%s. %s",
            "printf %%s. '%s'",
            "printf %%s. \"%s\"",
            "sh -c 'printf %%s. %s'",
            "printf %%s. `echo %s`",
        ] {
            let json = serde_json::json!({ "cmd_status": template });
            let (mut driver, _) = driver(&json.to_string()).expect("builds");
            for outlet in ["04", "a_B.c:d/e@f+g-h", "1-1.4.2:3", "/dev/x", "...", ".a"] {
                let State::Unknown(read) =
                    driver.state(&Outlet::new(outlet), ample()).expect("runs")
                else {
                    panic!("neither on nor off was printed");
                };
                assert!(
                    read.contains(&format!("\"{outlet}.\"")),
                    "{template}: {read}"
                );
            }
        }
    }

    #[test]
    fn a_list_runs_without_a_shell() {
        let (mut driver, outlets) =
            driver(r#"{"cmd_status": ["printf", "[%%s]", "a %s"]}"#).expect("builds");
        for outlet in [
            "1;touch x",
            "$(touch x)",
            "`x`",
            "front left",
            "'",
            "\"",
            "ü",
            "*",
        ] {
            let State::Unknown(read) = driver.state(&Outlet::new(outlet), ample()).expect("runs")
            else {
                panic!("neither on nor off was printed");
            };
            let expected = crate::transport::printable(format!("[a {outlet}]").as_bytes());
            assert!(read.contains(&expected), "{read}");
        }
        for outlet in ["-x", "1\n2", "1\0", ""] {
            assert!(outlets.parse(&Outlet::new(outlet)).is_err(), "{outlet:?}");
        }
    }

    #[test]
    fn conversions_of_numbers_need_a_number() {
        let (_, outlets) = driver(r#"{"cmd_on": "relay %02d"}"#).expect("builds");
        assert!(outlets.parse(&Outlet::new("04")).is_ok());
        let error = outlets.parse(&Outlet::new("left")).expect_err("no number");
        assert!(error.to_string().contains("a number"), "{error}");
        assert!(outlets.parse(&Outlet::new("99999999999")).is_err());
    }

    #[test]
    fn the_exit_status_is_obeyed_unless_told_otherwise() {
        let (mut strict, _) =
            driver(r#"{"cmd_on": "echo no relay; exit 3", "cmd_off": ["false"]}"#).expect("builds");
        let outlet = Outlet::new("1");
        let error = strict
            .switch(&outlet, Switch::On, &Attempt::new(ample()))
            .expect_err("failed");
        assert_eq!(
            error.to_string(),
            "expected exit status 0 of the command, got exit status 3: \"no relay\""
        );
        assert!(error.is_transient() && !error.is_pdu_away());
        assert!(
            strict
                .switch(&outlet, Switch::Off, &Attempt::new(ample()))
                .is_err()
        );
        let (mut lax, _) =
            driver(r#"{"cmd_on": "exit 3", "ignore_exit_status": "1"}"#).expect("builds");
        assert_eq!(
            lax.switch(&outlet, Switch::On, &Attempt::new(ample())),
            Ok(Proof::None)
        );
        // No such command: a success, as the Python program has it.
        assert_eq!(
            lax.switch(&outlet, Switch::Off, &Attempt::new(ample())),
            Ok(Proof::None)
        );
        assert_eq!(lax.state(&outlet, ample()), Err(cannot_read()));
    }
}
