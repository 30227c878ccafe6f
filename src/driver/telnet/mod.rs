//! Drivers over telnet: the table of their specs, and what their dialects share.

mod apc_cli;
mod apc_menu;
mod gude;
mod netio;
mod synaccess;

use super::{
    By, DEVICE_TIMEOUT, Driver, DriverError, DriverSpec, Has, SHOWS_WITHIN, outlet_number,
};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Address, Secret, Settings, SettingsError, TextOrNumber};
use crate::transport::kept::{Kept, Opener};
use crate::transport::telnet::Terminal;
use crate::transport::{Attempt, Deadline, TransportError, TransportErrorKind, Verdict};
use std::time::Duration;

/// How long a PDU may take for one prompt, as in the Python program.
const PROMPT_PATIENCE: Duration = Duration::from_secs(30);

/// How long a logout may take, whatever the deadline.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// How long a PDU may take to close the connection after a logout.
const HANG_UP_PATIENCE: Duration = Duration::from_millis(500);

/// Every driver name of this transport.
pub(super) static SPECS: &[DriverSpec] = &[
    DriverSpec {
        names: &[
            "apc7900", "apc7920", "apc7921", "apc7932", "apc7952", "apc9210", "apc9218", "ap9218",
            "apc9606", "ap9606",
        ],
        any_case: true,
        models: "APC rack PDUs and MasterSwitches with menus: AP7900, AP7920, AP7921, AP7932, \
                 AP7952, AP9210, AP9218, AP9606 and others with AOS 2 or 3",
        transport: "telnet",
        outlets: Has::Within(1, 99),
        reads_back: true,
        verified_by: "a simulator with firmware 2, firmware 3, AP9210 and AP9606 screens, pagers, \
                      24 outlets and a single login. UNVERIFIED on hardware: the wording after YES \
                      of every firmware, the words of a PDU that has another user logged in, the master screen of the \
                      AP9210 as the place of its states",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(apc_menu::build),
    },
    DriverSpec {
        names: &["apc8959"],
        any_case: true,
        models: "APC rack PDUs with the command line of AOS 5 and later: AP8959 and others",
        transport: "telnet",
        outlets: Has::Within(1, 99),
        reads_back: true,
        verified_by: "transcripts on a simulated console. UNVERIFIED on hardware: the meaning of \
                      the codes (E101 to E104 are taken for refusals, any other but E000 leaves \
                      the command in doubt)",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(apc_cli::build),
    },
    DriverSpec {
        names: &["gude1202"],
        any_case: false,
        models: "Gude Expert Power Control 1202 and others with the same console, set to no login",
        transport: "telnet",
        outlets: Has::Within(1, 99),
        reads_back: true,
        verified_by: "transcripts on a simulated console. UNVERIFIED on hardware: the text of the \
                      answer to `state show` (ON, OFF, 1 and 0 are understood), the prompts of a \
                      console with login",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(gude::build),
    },
    DriverSpec {
        names: &["netio4"],
        any_case: false,
        models: "NETIO 4, NETIO 230B and others with the KSHELL protocol",
        transport: "telnet",
        outlets: Has::Numbers(1, 4),
        reads_back: true,
        verified_by: "transcripts on a simulated console. UNVERIFIED on hardware: whether every \
                      firmware greets with 100 (one that is silent for two seconds is sent an \
                      empty line, as the Python program does)",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(netio::build),
    },
    DriverSpec {
        names: &["synnetbooter"],
        any_case: false,
        models: "Synaccess netBooter, B series",
        transport: "telnet",
        outlets: Has::Within(1, 99),
        reads_back: true,
        verified_by: "transcripts on a simulated console. UNVERIFIED on hardware: the table that \
                      pshow prints (where it cannot be read, the prompt is believed), the words of a refused login",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(synaccess::build),
    },
];

/// What the keys of these drivers are for.
const TELNETPORT: &str = "TCP port of the console";
const USERNAME: &str = "user to log in as";
const PASSWORD: &str = "that user's password";

/// Who logs in.
struct Account {
    username: String,
    password: Secret,
}

impl Account {
    /// What is typed is a line: a second one must not hide in it.
    fn new(
        username: TextOrNumber,
        password: Secret,
        settings: &Settings,
    ) -> Result<Self, SettingsError> {
        for (key, text) in [("username", &*username), ("password", password.reveal())] {
            if text.chars().any(char::is_control) {
                return Err(settings.error(key, "expected no control characters"));
            }
        }
        Ok(Self {
            username: username.0,
            password,
        })
    }
}

/// One dialect: how it logs in and out, and what it does between the two.
trait Console {
    fn login(&self, terminal: &mut Terminal, deadline: Deadline) -> Result<(), DriverError>;
    fn logout(&self, terminal: &mut Terminal, deadline: Deadline) -> Result<(), DriverError>;
    fn switch(
        &self,
        terminal: &mut Terminal,
        outlet: u32,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError>;
    fn state(
        &self,
        terminal: &mut Terminal,
        outlet: u32,
        deadline: Deadline,
    ) -> Result<State, DriverError>;
}

/// Where a console is, and its dialect.
struct Site<C> {
    address: Address,
    console: C,
}

/// The driver of a PDU with such a console.
fn driver(address: Address, console: impl Console + Send + 'static) -> Box<dyn Driver> {
    Box::new(Kept::new(Site { address, console }))
}

impl<C: Console> Opener for Site<C> {
    type Session = Terminal;
    type Error = DriverError;

    fn open(&mut self, deadline: Deadline) -> Result<Terminal, DriverError> {
        let mut terminal = Terminal::open(&self.address.host, self.address.port, deadline)?;
        match self.console.login(&mut terminal, deadline) {
            Ok(()) => Ok(terminal),
            Err(error) => {
                if error.may_stand() {
                    self.leave(terminal, deadline);
                }
                Err(error)
            }
        }
    }

    fn is_alive(&self, terminal: &mut Terminal, deadline: Deadline) -> bool {
        terminal.is_alive(deadline)
    }

    /// Logs out and waits a moment for the PDU to end the session. A PDU that does not say goodbye
    /// is left all the same.
    fn leave(&self, mut terminal: Terminal, deadline: Deadline) {
        let patience = deadline.within(LEAVE_PATIENCE);
        if self.console.logout(&mut terminal, patience).is_ok() {
            terminal.hang_up(deadline.within(HANG_UP_PATIENCE));
        }
    }
}

impl<C: Console + Send> Driver for Kept<Site<C>> {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let number = outlet_number(outlet)?;
        self.call(attempt, |site, terminal| {
            site.console.switch(terminal, number, to, attempt)
        })
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let number = outlet_number(outlet)?;
        self.call(deadline, |site, terminal| {
            site.console.state(terminal, number, deadline)
        })
    }

    fn rest(&mut self, deadline: Deadline) {
        Kept::rest(self, deadline);
    }
}

/// Does the PDU say that somebody else is logged in?
fn says_busy(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    [
        "already logged",
        "another user",
        "someone is currently logged",
        "sessions are in use",
        "too many users",
        "too many sessions",
    ]
    .iter()
    .any(|words| lower.contains(words))
}

/// Somebody else is logged in: what the PDU said.
fn busy(terminal: &Terminal, text: &str) -> DriverError {
    let words = terminal.screen.words(text);
    TransportError::new(
        TransportErrorKind::Busy,
        format!("another user is logged in: {words}"),
    )
    .into()
}

/// The state that a word stands for.
fn state_of(word: &str) -> Option<State> {
    match word.to_ascii_uppercase().as_str() {
        "ON" | "1" => Some(State::On),
        "OFF" | "0" => Some(State::Off),
        _ => None,
    }
}

/// An answer other than the expected.
fn unexpected(terminal: &Terminal, expected: &str, got: &str) -> DriverError {
    DriverError::Unexpected {
        expected: expected.to_owned(),
        got: terminal.screen.shown(got),
    }
}
