//! APC's menus (AOS 2 and 3): one walker that reads the screens, whatever the model.
//!
//! The way to an outlet differs with firmware and rights: Device Manager, then Outlet Management,
//! then Outlet Control/Configuration (firmware 3); Device Manager, then Outlet Control/Configuration
//! (firmware 2); Device Manager with the outlets in it (AP9606); Outlet Manager (AP9210). So the
//! number to type is always the one that stands before the words on the screen, and it is made
//! sure that the screen is the right outlet's before `YES` is typed.

use super::{Account, Console, PROMPT_PATIENCE, says_busy, state_of, unexpected};
use crate::driver::{Driver, DriverError, Host};
use crate::request::{Proof, State, Switch};
use crate::settings::{Address, Secret, Settings, SettingsError, TextOrNumber, keys};
use crate::transport::expect::Pattern::{Ends, Prompt, Text};
use crate::transport::telnet::Terminal;
use crate::transport::{Attempt, Deadline, TransportError, TransportErrorKind};
use std::cell::Cell;
use std::num::NonZeroU16;
use std::time::Duration;

/// How long a PDU may be silent before it is sent a Return to wake it.
const WAKE_PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait for another screen when the one that came is not the one asked for.
const STALE_PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait for what the Escape key alone does.
const ESCAPE_PATIENCE: Duration = Duration::from_secs(1);

/// Pages of one list, levels of menus, attempts at a prompt: more than any PDU has.
const MOST_STEPS: usize = 20;

const PAGER: &str = "Press <ENTER> to continue...";

struct Menu {
    account: Account,
    /// Does Escape need a Return behind it? Found out in each session.
    escape: Cell<Escape>,
}

/// What takes a PDU up one menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    /// To be found out.
    Unknown,
    /// The Escape key alone.
    Alone,
    /// Escape and Return.
    WithReturn,
}

keys! {
    /// What APC's consoles read.
    pub(super) struct Keys {
        ..host: Host;
        telnetport: NonZeroU16 = 23, super::TELNETPORT;
        username: TextOrNumber = "apc", super::USERNAME;
        password: Secret = "apc", super::PASSWORD;
    }
}

impl Keys {
    /// Where the console is, and who logs in.
    pub(super) fn console(self, settings: &Settings) -> Result<(Address, Account), SettingsError> {
        let address = self.host.address(settings, self.telnetport.get())?;
        Ok((
            address,
            Account::new(self.username, self.password, settings)?,
        ))
    }
}

pub(super) fn build(keys: Keys, settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    let (address, account) = keys.console(settings)?;
    let escape = Cell::new(Escape::Unknown);
    Ok(super::driver(address, Menu { account, escape }))
}

/// What a PDU wants before it lets anybody in.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    User,
    Password,
    Busy,
    /// It is at its prompt: `>` of the menus, `apc>` of the command line.
    In(&'static str),
}

fn asked(text: &str) -> Option<(usize, Asked)> {
    let last = text.rsplit('\n').next().unwrap_or(text).trim();
    let what = match last
        .to_ascii_lowercase()
        .strip_suffix(':')
        .map(str::trim_end)
    {
        Some(line) if line.ends_with("user name") || line.ends_with("username") => Asked::User,
        Some(line) if line.ends_with("password") => Asked::Password,
        _ if last == ">" => Asked::In(">"),
        _ if last.ends_with("apc>") => Asked::In("apc>"),
        _ if text.ends_with('\n') && says_busy(text) => Asked::Busy,
        _ => return None,
    };
    Some((text.len(), what))
}

/// The login that menus and command line share, `User Name :` and `Password  :`, up to `prompt`.
pub(super) fn log_in(
    account: &Account,
    terminal: &mut Terminal,
    prompt: &str,
    deadline: Deadline,
) -> Result<(), DriverError> {
    terminal.screen.hide(account.password.reveal());
    let (mut woken, mut user_sent, mut password_sent) = (false, false, false);
    for _ in 0..MOST_STEPS {
        let patience = deadline.within(if woken || user_sent {
            PROMPT_PATIENCE
        } else {
            WAKE_PATIENCE
        });
        let (text, asked) = match terminal.expect_if("login prompt", patience, asked) {
            Err(error)
                if error.kind == TransportErrorKind::Timeout
                    && !woken
                    && !user_sent
                    && deadline.left("login").is_ok() =>
            {
                woken = true;
                terminal.line("", deadline)?;
                continue;
            }
            result => result?,
        };
        match asked {
            Asked::User if password_sent => {
                return Err(DriverError::LoginRefused(format!(
                    "the PDU asks for the user name again: {}",
                    terminal.screen.words(&text)
                )));
            }
            Asked::User => {
                terminal.line(&account.username, deadline)?;
                user_sent = true;
            }
            Asked::Password if user_sent => {
                terminal.line(account.password.reveal(), deadline)?;
                password_sent = true;
            }
            // The Return that was to wake it was taken for an empty user name.
            Asked::Password => terminal.line("", deadline)?,
            Asked::Busy => return Err(super::busy(terminal, &text)),
            Asked::In(found) if found == prompt => return Ok(()),
            Asked::In(found) => {
                return Err(DriverError::Setup(format!(
                    "the PDU's prompt is {found}: use driver {}",
                    if found == ">" { "apc7900" } else { "apc8959" }
                )));
            }
        }
    }
    Err(unexpected(
        terminal,
        "a login",
        "one prompt after the other",
    ))
}

impl Console for Menu {
    fn login(&self, terminal: &mut Terminal, deadline: Deadline) -> Result<(), DriverError> {
        self.escape.set(Escape::Unknown);
        log_in(&self.account, terminal, ">", deadline)
    }

    fn logout(&self, terminal: &mut Terminal, deadline: Deadline) -> Result<(), DriverError> {
        let main = self.to_main(terminal, deadline)?;
        let logout = main.item(&["Logout"]).map_or(4, |item| item.number);
        Ok(terminal.line(&logout.to_string(), deadline)?)
    }

    fn switch(
        &self,
        terminal: &mut Terminal,
        outlet: u32,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        switch(self, terminal, outlet, to, attempt)
    }

    fn state(
        &self,
        terminal: &mut Terminal,
        outlet: u32,
        deadline: Deadline,
    ) -> Result<State, DriverError> {
        state(self, terminal, outlet, deadline)
    }
}

/// One line `3- Label    ON` of a menu.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    number: u32,
    label: String,
    /// The state at the line's end, which only lines of outlets have.
    state: Option<State>,
}

/// One screen, all its pages.
#[derive(Clone, Debug, Default)]
struct Screen {
    title: String,
    items: Vec<Item>,
    text: String,
    /// It asks for YES.
    confirms: bool,
}

impl Screen {
    fn parse(text: String, confirms: bool) -> Self {
        let mut screen = Self {
            confirms,
            ..Self::default()
        };
        for line in text.lines().map(str::trim) {
            if let Some(title) = line.strip_prefix("-------") {
                screen.title = title.trim_matches(['-', ' ']).to_owned();
            } else if let Some(item) = item(line) {
                screen.items.retain(|other| other.number != item.number);
                screen.items.push(item);
            }
        }
        screen.text = text;
        screen
    }

    /// The entry whose label begins with one of `labels`; outlets, whose names are anybody's, are
    /// not entries.
    fn item(&self, labels: &[&str]) -> Option<&Item> {
        labels.iter().find_map(|label| {
            self.items.iter().find(|item| {
                item.state.is_none()
                    && item
                        .label
                        .get(..label.len())
                        .is_some_and(|start| start.eq_ignore_ascii_case(label))
            })
        })
    }

    fn action(&self, to: Switch) -> Option<&Item> {
        self.item(match to {
            Switch::On => &["Immediate On", "Turn Outlet On"],
            Switch::Off => &["Immediate Off", "Turn Outlet Off"],
        })
    }

    fn is_main(&self) -> bool {
        self.item(&["Logout"]).is_some()
    }

    fn is_same(&self, other: &Self) -> bool {
        self.confirms == other.confirms && self.title == other.title && self.items == other.items
    }

    /// The outlets with their states, where the screen lists them.
    fn outlets(&self) -> impl Iterator<Item = (u32, &State)> {
        let listed = |item: &'_ Item| item.state.is_some();
        self.items
            .iter()
            .filter(move |item| listed(item))
            .filter_map(|item| Some((item.number, item.state.as_ref()?)))
    }

    /// Does it list outlets without their states?
    fn lists_outlets(&self) -> bool {
        self.item(&["Master", "Outlet "]).is_some() || self.title == "Outlet Manager"
    }

    /// The number of the outlet that the screen is about, if it says.
    fn outlet(&self) -> Option<u32> {
        self.text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.trim() == "Outlet")
            .map_or_else(
                || self.title.strip_prefix("Control Outlet "),
                |(_, value)| Some(value),
            )
            .and_then(|number| number.trim().parse().ok())
    }

    /// `State : ON`.
    fn state(&self) -> Option<State> {
        self.text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.trim().ends_with("State"))
            .and_then(|(_, value)| state_of(value.split_whitespace().next()?))
    }
}

fn item(line: &str) -> Option<Item> {
    let (number, label) = line.split_once('-')?;
    let number = number.parse().ok()?;
    let label = label.trim();
    // `ON`, `OFF` and, while a change is pending, `ON*`; an outlet's name is not in capitals only
    // by chance, and never the last word of its line.
    let state =
        label
            .split_whitespace()
            .skip(1)
            .last()
            .and_then(|word| match word.trim_end_matches('*') {
                "ON" => Some(State::On),
                "OFF" => Some(State::Off),
                _ => None,
            });
    Some(Item {
        number,
        label: label.to_owned(),
        state,
    })
}

/// Reads one screen: up to the prompt or the question for YES, through all its pages.
fn read(terminal: &mut Terminal, deadline: Deadline) -> Result<Screen, DriverError> {
    let mut text = String::new();
    for _ in 0..MOST_STEPS {
        let found = terminal.expect(
            "menu",
            &[
                Text(PAGER),
                Text("<ENTER> to cancel"),
                Prompt(">"),
                Ends("User Name :"),
            ],
            deadline.within(PROMPT_PATIENCE),
        )?;
        text.push_str(&found.text);
        match found.which {
            0 => terminal.line("", deadline)?,
            3 => {
                return Err(TransportError::new(
                    TransportErrorKind::Closed,
                    "the PDU has ended the session and asks for the user name again",
                )
                .into());
            }
            which => return Ok(Screen::parse(text, which == 1)),
        }
    }
    Err(unexpected(terminal, "the end of the list", &text))
}

impl Menu {
    /// Goes up to the main menu.
    fn to_main(&self, terminal: &mut Terminal, deadline: Deadline) -> Result<Screen, DriverError> {
        terminal.line("", deadline)?;
        let mut screen = read(terminal, deadline)?;
        for _ in 0..MOST_STEPS {
            if screen.is_main() {
                return Ok(screen);
            }
            screen = self.up(terminal, deadline)?;
        }
        Err(unexpected(terminal, "the main menu", &screen.text))
    }

    /// Goes up one menu. Most firmware acts on the Escape key; some (the Python program sends both)
    /// waits for a Return. Return behind an Escape that was enough would ask for the screen once
    /// more, and could answer a pager that nobody has seen yet.
    fn up(&self, terminal: &mut Terminal, deadline: Deadline) -> Result<Screen, DriverError> {
        terminal.send(b"\x1b", deadline)?;
        if self.escape.get() == Escape::Unknown {
            let patience = deadline.within(ESCAPE_PATIENCE);
            match terminal.expect_if("menu", patience, |text| {
                (!text.trim().is_empty()).then_some((0, ()))
            }) {
                Ok(_) => self.escape.set(Escape::Alone),
                Err(error) if error.kind == TransportErrorKind::Timeout => {
                    self.escape.set(Escape::WithReturn);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if self.escape.get() == Escape::WithReturn {
            terminal.line("", deadline)?;
        }
        read(terminal, deadline)
    }
}

/// Types `number` on `screen` and reads the next one. A screen that comes again, because a key
/// before it was answered twice, is passed over.
fn choose(
    terminal: &mut Terminal,
    screen: &Screen,
    number: u32,
    deadline: Deadline,
) -> Result<Screen, DriverError> {
    terminal.line(&number.to_string(), deadline)?;
    let mut next = read(terminal, deadline)?;
    for _ in 0..MOST_STEPS {
        if !next.is_same(screen) {
            return Ok(next);
        }
        next = match read(terminal, deadline.within(STALE_PATIENCE)) {
            Err(DriverError::Transport(error)) if error.kind == TransportErrorKind::Timeout => {
                break;
            }
            result => result?,
        };
    }
    let entry = format!("the screen behind entry {number} of {:?}", screen.title);
    Err(unexpected(terminal, &entry, &next.text))
}

/// Goes to the screen that lists the outlets, `outlet` among them.
fn to_list(
    menu: &Menu,
    terminal: &mut Terminal,
    outlet: u32,
    deadline: Deadline,
) -> Result<Screen, DriverError> {
    let main = menu.to_main(terminal, deadline)?;
    let Some(manager) = main.item(&["Device Manager", "Outlet Manager"]) else {
        return Err(unexpected(terminal, "Device Manager", &main.text));
    };
    let mut screen = choose(terminal, &main, manager.number, deadline)?;
    for _ in 0..MOST_STEPS {
        if screen.outlets().next().is_some() {
            if screen.outlets().any(|(number, _)| number == outlet) {
                return Ok(screen);
            }
            let numbers = screen.outlets().map(|(number, _)| number);
            let last = numbers.max().unwrap_or_default();
            return Err(DriverError::NoSuchOutlet {
                expected: format!("outlets 1 to {last}"),
            });
        }
        let way = ["Outlet Management", "Outlet Control", "MasterSwitch plus"];
        let number = if let Some(item) = screen.item(&way) {
            item.number
        } else if screen.lists_outlets() {
            let listed = screen.items.iter().find(|item| item.number == outlet);
            return match listed {
                Some(item) if !item.label.starts_with("Master") => Ok(screen),
                _ => Err(DriverError::NoSuchOutlet {
                    expected: "an outlet of the PDU's list".into(),
                }),
            };
        } else if screen.title == "Device Manager" && screen.items.iter().any(|i| i.number == 2) {
            // Firmware 2 for a user who may only switch.
            2
        } else {
            return Err(unexpected(terminal, "the list of outlets", &screen.text));
        };
        screen = choose(terminal, &screen, number, deadline)?;
    }
    Err(unexpected(terminal, "the list of outlets", &screen.text))
}

/// Goes from the list to the outlet's screen.
fn to_outlet(
    terminal: &mut Terminal,
    list: &Screen,
    outlet: u32,
    deadline: Deadline,
) -> Result<Screen, DriverError> {
    let screen = choose(terminal, list, outlet, deadline)?;
    is_about(terminal, screen, outlet)
}

/// Makes sure that a screen that names an outlet names the right one.
fn is_about(terminal: &Terminal, screen: Screen, outlet: u32) -> Result<Screen, DriverError> {
    match screen.outlet() {
        Some(number) if number != outlet => {
            let expected = format!("the screen of outlet {outlet}");
            Err(unexpected(terminal, &expected, &screen.text))
        }
        _ => Ok(screen),
    }
}

/// What a PDU says after YES.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Success,
    Failure,
    /// Neither: some firmware only says that one may go on.
    Nothing,
}

fn said(text: &str) -> Said {
    let lower = text.to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if any(&[
        "unsuccess",
        "fail",
        "error",
        "denied",
        "not ",
        "unable",
        "invalid",
        "refused",
    ]) {
        Said::Failure
    } else if any(&["success"]) {
        Said::Success
    } else {
        Said::Nothing
    }
}

fn switch(
    menu: &Menu,
    terminal: &mut Terminal,
    outlet: u32,
    to: Switch,
    attempt: &Attempt,
) -> Result<Proof, DriverError> {
    let deadline = attempt.deadline();
    let list = to_list(menu, terminal, outlet, deadline)?;
    let mut screen = to_outlet(terminal, &list, outlet, deadline)?;
    let mut steps = 0;
    let action = loop {
        if let Some(action) = screen.action(to) {
            break action.number;
        }
        let way = ["Control Outlet", "Control of Outlet", "Outlet Control"];
        let Some(item) = screen.item(&way).filter(|_| steps < MOST_STEPS) else {
            return Err(unexpected(terminal, "Control Outlet", &screen.text));
        };
        steps += 1;
        let next = choose(terminal, &screen, item.number, deadline)?;
        screen = is_about(terminal, next, outlet)?;
    };
    let question = choose(terminal, &screen, action, deadline)?;
    if !question.confirms {
        // Firmware that acts without asking would look like this.
        return Err(unexpected(terminal, "a question for YES", &question.text));
    }
    terminal.line("YES", attempt)?;
    let answer = terminal.expect(
        "answer to YES",
        &[Text(PAGER), Prompt(">")],
        deadline.within(PROMPT_PATIENCE),
    )?;
    if answer.which == 0 {
        terminal.line("", deadline)?;
        read(terminal, deadline)?;
    }
    let words = answer.text.replace(PAGER, "");
    // Behind the question's colon and the echo.
    let words = words
        .trim_start_matches([' ', ':', '\n'])
        .trim_start_matches("YES");
    // On the screen that follows, outlets' names may say anything.
    let words = words.split("-------").next().unwrap_or(words);
    match said(words) {
        Said::Success => Ok(Proof::Reply),
        Said::Failure => Err(DriverError::Refused(terminal.screen.words(words))),
        Said::Nothing => Ok(Proof::None),
    }
}

/// Reads the outlet's state: from the list, from the outlet's own screen, or (AP9210) from the
/// master's, which tells all outlets as `1:ON`.
fn state(
    menu: &Menu,
    terminal: &mut Terminal,
    outlet: u32,
    deadline: Deadline,
) -> Result<State, DriverError> {
    let list = to_list(menu, terminal, outlet, deadline)?;
    if let Some((_, state)) = list.outlets().find(|(number, _)| *number == outlet) {
        return Ok(state.clone());
    }
    if let Some(master) = list.item(&["Master"]) {
        let mut screen = choose(terminal, &list, master.number, deadline)?;
        if let Some(state) = master_state(&screen.text, outlet) {
            return Ok(state);
        }
        // The control screen only asks; nothing is switched without YES.
        if let Some(item) = screen.item(&["Control", "Master Control", "Outlet Control"]) {
            screen = choose(terminal, &screen, item.number, deadline)?;
            if let Some(state) = master_state(&screen.text, outlet) {
                return Ok(state);
            }
        }
        return Ok(State::Unknown(terminal.screen.words(&screen.text)));
    }
    let screen = to_outlet(terminal, &list, outlet, deadline)?;
    Ok(screen
        .state()
        .unwrap_or_else(|| State::Unknown(terminal.screen.words(&screen.text))))
}

/// The state of `outlet` in a text with `1:ON`.
fn master_state(text: &str, outlet: u32) -> Option<State> {
    text.split_whitespace().find_map(|word| {
        let (number, state) = word.split_once(':')?;
        (number.parse() == Ok(outlet)).then_some(())?;
        match state.trim_end_matches([',', ';', '*']) {
            "ON" => Some(State::On),
            "OFF" => Some(State::Off),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\n------- Outlet Control/Configuration ----------\n\n     1- Outlet 1    \
        ON\n     2- ON call OFF\n    10- Logout OFF*\n     11- Master Control/Configuration\n\n     \
        <ESC>- Back, <ENTER>- Refresh, <CTRL-L>- Event Log\n> ";

    #[test]
    fn menus_are_read() {
        let list = Screen::parse(LIST.into(), false);
        assert_eq!(list.title, "Outlet Control/Configuration");
        let outlets: Vec<_> = list.outlets().collect();
        assert_eq!(
            outlets,
            [(1, &State::On), (2, &State::Off), (10, &State::Off)]
        );
        assert_eq!(list.item(&["Master"]).map(|item| item.number), Some(11));
        // An outlet may have any name.
        assert!(!list.is_main());
        assert!(list.item(&["Outlet Control"]).is_none());
        let main = Screen::parse("1- Device Manager\n4- Logout\n> ".into(), false);
        assert!(main.is_main() && main.outlets().next().is_none());
        // MasterSwitch Plus: off is not the second entry.
        let plus = Screen::parse(
            "1- Immediate On\n 2- Delayed On\n 3- Immediate Off".into(),
            false,
        );
        assert_eq!(plus.action(Switch::Off).map(|item| item.number), Some(3));
        assert_eq!(plus.action(Switch::On).map(|item| item.number), Some(1));
    }

    #[test]
    fn a_screen_tells_its_outlet_and_state() {
        let screen = |text: &str| Screen::parse(text.into(), false);
        let outlet = screen("------- web -----\n  Name   : 9\n Outlet       : 7\n State : OFF\n");
        assert_eq!(
            (outlet.outlet(), outlet.state()),
            (Some(7), Some(State::Off))
        );
        assert_eq!(screen("------- Control Outlet 3 -----\n").outlet(), Some(3));
        assert_eq!(screen("------- Control Outlet -----\n").outlet(), None);
        assert_eq!(master_state("1:ON  2:OFF\n3:ON\n", 2), Some(State::Off));
        assert_eq!(master_state("1:ON  2:OFF\n13:ON\n", 3), None);
    }

    #[test]
    fn the_answer_to_yes_is_judged() {
        assert_eq!(said("YES\n Command successfully issued.\n"), Said::Success);
        assert_eq!(said("Outlet state set successfully!"), Said::Success);
        assert_eq!(said("Command was unsuccessful."), Said::Failure);
        assert_eq!(said("YES\n\n"), Said::Nothing);
    }

    #[test]
    fn the_login_is_understood() {
        let what = |text: &str| asked(text).map(|found| found.1);
        assert_eq!(what("\nUser Name : "), Some(Asked::User));
        assert_eq!(what("apc\nPassword  : "), Some(Asked::Password));
        assert_eq!(what("menu <ESC>\n> "), Some(Asked::In(">")));
        assert_eq!(what("menu <ESC>"), None);
        assert_eq!(what("\napc>"), Some(Asked::In("apc>")));
        assert_eq!(
            what("You are already logged in by another user\n"),
            Some(Asked::Busy)
        );
    }
}
