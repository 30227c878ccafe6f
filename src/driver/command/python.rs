//! `python`: drivers that were written for the Python program.
//!
//! `share/python/driver.py` finds the driver's class and plays it: a program as `exec` has them. It is
//! part of this program, and goes to the interpreter through its input, so nothing need be installed
//! beside the interpreter and the driver's package. A driver name that nothing else knows is looked
//! for there too, see [`Names`].

use super::exec::{self, Spoken};
use super::found;
use crate::driver::{Build, Built, DEVICE_TIMEOUT, Driver, DriverSpec, Has, SHOWS_WITHIN};
use crate::settings::{Key, Keys as _, Settings, SettingsError, TextOrNumber, keys, words};
use crate::transport::command::Program;
use crate::transport::{Companion, Deadline, TransportError, TransportErrorKind, printable};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

/// The row.
pub(super) const SPEC: DriverSpec = DriverSpec {
    names: &["python"],
    any_case: false,
    models: "any driver class written for the Python pdudaemon",
    transport: "command",
    outlets: Has::Told(exec::OUTLETS),
    reads_back: false,
    verified_by: "classes of pdudaemon 1.1.1, and a package of the test's own with an entry point",
    timeout: DEVICE_TIMEOUT,
    shows_within: SHOWS_WITHIN,
    build: &Python { is_named: false },
};

/// How long the interpreter may take to say which drivers it knows.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes the program's text, and keeps what drivers print, and what the programs that they start
/// read, away from the protocol. No module comes from the current folder.
const BOOT: &str = "\
import sys
sys.path[:] = filter(None, sys.path)
import json, os
QUESTIONS = os.fdopen(os.dup(0), encoding='utf-8')
ANSWERS = os.fdopen(os.dup(1), 'w', encoding='utf-8')
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)
exec(compile(json.loads(QUESTIONS.readline()), 'driver.py', 'exec'))";

/// What [`BOOT`] takes.
const TEXT: &str = include_str!("../../../share/python/driver.py");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutletsAre {
    Numbers,
    Texts,
}

words! { OutletsAre: "numbers" = OutletsAre::Numbers, "texts" = OutletsAre::Texts }

keys! {
    struct Keys {
        class: Option<String>,
            "the driver: a name that the Python program knew, or module:Class";
        python: TextOrNumber = "python3", "the interpreter: that of a virtual environment, for one";
        #[expect(dead_code, reason = "it is checked here, and read by the program in Python")]
        outlets_are: OutletsAre = "numbers",
            "what the class gets where a client writes digits: drivers that only HTTP clients used \
             may want texts";
    }
}

/// Builds drivers of the keys above; all other keys are the class's.
#[derive(Debug)]
struct Python {
    /// The driver's name is the class's.
    is_named: bool,
}

impl Build for Python {
    fn keys(&self) -> Vec<Key> {
        let mut keys = Keys::rows();
        keys.retain(|key| !self.is_named || key.name != "class");
        keys
    }

    fn takes_any_key(&self) -> bool {
        true
    }

    fn build(&self, settings: &Settings) -> Result<Built, SettingsError> {
        let keys: Keys = settings.keys()?;
        if !self.is_named && keys.class.is_none_or(|class| class.is_empty()) {
            return Err(settings.error("class", "required: the driver's name, or module:Class"));
        }
        let spoken = Spoken::new(interpreter(&keys.python), &first_line(), settings);
        let driver: Box<dyn Driver> = Box::new(spoken);
        Ok(driver.into())
    }
}

fn interpreter(python: &str) -> Vec<String> {
    [python, "-c", BOOT].map(str::to_owned).to_vec()
}

fn first_line() -> String {
    format!("{}\n", serde_json::Value::from(TEXT))
}

/// The drivers that an interpreter of this machine knows. While a config is read it is started at
/// the first name that nothing else knows, and asked for all such names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    by: HashMap<String, Interpreter>,
    /// All of them together have until then.
    deadline: Option<Deadline>,
}

/// One interpreter, and what it has said.
#[derive(Debug)]
struct Interpreter {
    /// Why it says no more.
    running: Result<Companion, String>,
    said: HashMap<String, Result<bool, String>>,
}

impl Names {
    /// The row of the driver called `name`, or what to add to the news that there is none.
    pub(crate) fn find(
        &mut self,
        settings: &Settings,
        name: &str,
    ) -> Result<&'static DriverSpec, String> {
        if name.is_empty() {
            return Err(String::new());
        }
        let keys: Result<Keys, _> = settings.keys();
        let python = keys.map_or_else(|_| "python3".to_owned(), |keys| keys.python.0);
        let deadline = *self
            .deadline
            .get_or_insert_with(|| Deadline::after(PATIENCE));
        let interpreter = self
            .by
            .entry(python.clone())
            .or_insert_with(|| Interpreter {
                running: started(&python, deadline),
                said: HashMap::new(),
            });
        let knows = match interpreter.said.get(name) {
            Some(said) => said.clone(),
            None => {
                let knows = interpreter.ask(name, deadline);
                interpreter.said.insert(name.to_owned(), knows.clone());
                knows
            }
        };
        match knows {
            Ok(true) => Ok(row(name)),
            Ok(false) => Err(String::new()),
            Err(why) => Err(format!(
                "; whether it is a driver of a Python package nobody can say: {python}: {why}"
            )),
        }
    }
}

fn started(python: &str, deadline: Deadline) -> Result<Companion, String> {
    let words = interpreter(python);
    let (program, args) = words.split_first().ok_or("no interpreter")?;
    let program = Program::new(program).args(args.iter().map(String::as_str));
    found(Companion::start(program, python, Vec::new(), deadline))
        .map_err(|error| error.to_string())
}

impl Interpreter {
    fn ask(&mut self, name: &str, deadline: Deadline) -> Result<bool, String> {
        let companion = self.running.as_mut().map_err(|why| why.clone())?;
        let mut question = match self.said.is_empty() {
            true => first_line(),
            false => String::new(),
        };
        question.push_str(&json!({"do": "knows", "name": name}).to_string());
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Said {
            Done(bool),
            Error(String),
        }
        let read = |line: &str| {
            let garbled =
                |_| TransportError::new(TransportErrorKind::Garbled, printable(line.as_bytes()));
            serde_json::from_str(line).map_err(garbled)
        };
        let said = companion.ask(&question, deadline, read);
        let said = said.map_err(|error| error.to_string());
        match said.inspect_err(|why| self.running = Err(why.clone()))? {
            Said::Done(knows) => Ok(knows),
            Said::Error(why) => Err(why),
        }
    }
}

/// The one row of each name: the workers compare rows by their places.
fn row(name: &str) -> &'static DriverSpec {
    static ROWS: LazyLock<Mutex<HashMap<String, &'static DriverSpec>>> =
        LazyLock::new(Mutex::default);
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.entry(name.to_owned()).or_insert_with(|| {
        let own: &'static str = Box::leak(name.to_owned().into_boxed_str());
        Box::leak(Box::new(DriverSpec {
            names: Box::leak(Box::new([own])),
            build: &Python { is_named: true },
            ..SPEC
        }))
    })
}
