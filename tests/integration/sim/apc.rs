//! An APC PDU with menus: screens, pagers, one login at a time. It keeps its outlets' states and
//! counts what the tests want to know.

use super::port::Served;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Which firmware's screens it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Device Manager, Outlet Control/Configuration.
    Firmware2,
    /// Device Manager, Outlet Management, Outlet Control/Configuration.
    Firmware3,
    /// Device Manager with the outlets in it.
    Ap9606,
    /// Device Manager, then entry 2, which is called something else: a user who may only switch.
    Restricted,
}

/// How the PDU behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    pub(crate) layout: Layout,
    pub(crate) outlets: u32,
    /// Does Escape act at once, so that the Return behind it shows the screen once more?
    pub(crate) eager: bool,
    /// Does it negotiate ECHO, and echo?
    pub(crate) echoes: bool,
    /// What it says after YES; `None`: nothing but the pager.
    pub(crate) words: Option<&'static str>,
    /// Does YES switch?
    pub(crate) obeys: bool,
    /// Does it show the screens of another outlet than the one chosen?
    pub(crate) mixes: bool,
    /// Is a second login turned away while the first lasts?
    pub(crate) single: bool,
}

impl Behaviour {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            outlets: 8,
            eager: false,
            echoes: true,
            words: Some("Command successfully issued."),
            obeys: true,
            mixes: false,
            single: true,
        }
    }
}

#[derive(Default)]
struct Shared {
    logins: usize,
    logouts: usize,
    logged_in: usize,
    /// How often every session was ended: a console that has not noticed yet counts no more.
    cuts: usize,
    states: BTreeMap<u32, bool>,
    open: Vec<TcpStream>,
    consoles: Vec<JoinHandle<()>>,
}

/// A running PDU; user `apc`, password `secret`.
pub(crate) struct ApcPdu {
    pub(crate) port: u16,
    served: Option<Served>,
    shared: Arc<Mutex<Shared>>,
}

impl ApcPdu {
    pub(crate) fn start(behaviour: Behaviour) -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let seen = Arc::clone(&shared);
        let served = Served::connections(move |stream, ending| {
            if ending.is_near() {
                return;
            }
            stream.set_nodelay(true).expect("no delay");
            let clone = stream.try_clone().expect("a clone");
            seen.lock().expect("lock").open.push(clone);
            let shared = Arc::clone(&seen);
            let console = std::thread::spawn(move || {
                let mut console = Console {
                    stream,
                    behaviour,
                    shared,
                    after_return: false,
                    in_session: None,
                };
                // It ends when the other side does.
                let _ = console.serve();
                let _ = console.stream.shutdown(Shutdown::Both);
                if let Some(cuts) = console.in_session {
                    let mut shared = console.shared.lock().expect("lock");
                    shared.logged_in -= usize::from(shared.cuts == cuts);
                }
            });
            seen.lock().expect("lock").consoles.push(console);
        });
        Self {
            port: served.address.port(),
            served: Some(served),
            shared,
        }
    }

    pub(crate) fn logins(&self) -> usize {
        self.shared.lock().expect("lock").logins
    }

    pub(crate) fn logouts(&self) -> usize {
        self.shared.lock().expect("lock").logouts
    }

    /// The outlets that are on.
    pub(crate) fn on(&self) -> Vec<u32> {
        let shared = self.shared.lock().expect("lock");
        let on = shared.states.iter().filter(|(_, on)| **on);
        on.map(|(number, _)| *number).collect()
    }

    /// Ends every session, as a PDU does with an idle one.
    pub(crate) fn cut(&self) {
        let mut shared = self.shared.lock().expect("lock");
        shared.logged_in = 0;
        shared.cuts += 1;
        for stream in shared.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for ApcPdu {
    fn drop(&mut self) {
        drop(self.served.take());
        self.cut();
        let consoles = std::mem::take(&mut self.shared.lock().expect("lock").consoles);
        for console in consoles {
            let _ = console.join();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Main,
    Device,
    Management,
    List,
    Outlet(u32),
    Control(u32),
}

/// What was typed.
enum Typed {
    Line(String),
    Escape,
}

struct Console {
    stream: TcpStream,
    behaviour: Behaviour,
    shared: Arc<Mutex<Shared>>,
    after_return: bool,
    /// Its login, by the number of cuts before it.
    in_session: Option<usize>,
}

impl Console {
    fn print(&mut self, text: &str) -> std::io::Result<()> {
        self.stream.write_all(text.as_bytes())
    }

    fn byte(&mut self) -> std::io::Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    /// One line, or Escape; telnet commands are passed over.
    fn typed(&mut self) -> std::io::Result<Typed> {
        let mut line = String::new();
        loop {
            let byte = self.byte()?;
            let after_return = std::mem::take(&mut self.after_return);
            match byte {
                0xff => {
                    self.byte()?;
                    self.byte()?;
                }
                b'\n' | 0 if after_return => {}
                b'\r' => {
                    self.after_return = true;
                    return Ok(Typed::Line(line));
                }
                0x1b => return Ok(Typed::Escape),
                _ => line.push(char::from(byte)),
            }
        }
    }

    fn line(&mut self) -> std::io::Result<String> {
        loop {
            if let Typed::Line(line) = self.typed()? {
                return Ok(line);
            }
        }
    }

    fn serve(&mut self) -> std::io::Result<()> {
        if self.behaviour.echoes {
            self.stream.write_all(b"\xff\xfb\x01\xff\xfb\x03")?;
        }
        loop {
            self.print("\r\nUser Name : ")?;
            let user = self.line()?;
            if user.is_empty() {
                continue;
            }
            self.print("\r\nPassword  : ")?;
            let password = self.line()?;
            if (user.as_str(), password.as_str()) == ("apc", "secret") {
                break;
            }
        }
        {
            let mut shared = self.shared.lock().expect("lock");
            if self.behaviour.single && shared.logged_in > 0 {
                drop(shared);
                return self.print("\r\nYou are already logged in by another user\r\n");
            }
            shared.logged_in += 1;
            shared.logins += 1;
            self.in_session = Some(shared.cuts);
        }
        self.print("\r\n\r\nAmerican Power Conversion      Network Management Card AOS\r\n")?;
        self.menus()
    }

    fn menus(&mut self) -> std::io::Result<()> {
        let mut place = Place::Main;
        let mut escaped = false;
        self.show(place)?;
        loop {
            let choice = match self.typed()? {
                Typed::Escape if self.behaviour.eager => {
                    place = self.above(place);
                    self.show(place)?;
                    continue;
                }
                Typed::Escape => {
                    escaped = true;
                    continue;
                }
                Typed::Line(_) if std::mem::take(&mut escaped) => {
                    place = self.above(place);
                    self.show(place)?;
                    continue;
                }
                Typed::Line(line) => line,
            };
            if self.behaviour.echoes {
                self.print(&format!("{choice}\r\n"))?;
            }
            if place == Place::Main && choice == "4" {
                self.shared.lock().expect("lock").logouts += 1;
                return self.print("\r\nConnection Closed - Bye\r\n");
            }
            if let (Place::Control(number), Ok(action @ 1..=2)) = (place, choice.parse::<u32>()) {
                self.act(number, action == 1)?;
            } else {
                place = self.below(place, &choice);
            }
            self.show(place)?;
        }
    }

    fn above(&self, place: Place) -> Place {
        match (place, self.behaviour.layout) {
            (Place::Main | Place::Device, _) => Place::Main,
            (Place::Management, _) | (Place::List, Layout::Firmware2 | Layout::Restricted) => {
                Place::Device
            }
            (Place::List, _) => Place::Management,
            (Place::Outlet(_), Layout::Ap9606) => Place::Device,
            (Place::Outlet(_), _) => Place::List,
            (Place::Control(number), _) => Place::Outlet(number),
        }
    }

    fn below(&self, place: Place, choice: &str) -> Place {
        let outlet = || {
            let number = choice.parse().ok();
            number
                .filter(|number| (1..=self.behaviour.outlets).contains(number))
                .map(|number| Place::Outlet(number + u32::from(self.behaviour.mixes)))
        };
        let below = match (place, self.behaviour.layout, choice) {
            (Place::Main, _, "1") => Some(Place::Device),
            (Place::Device, Layout::Firmware2, "3") => Some(Place::List),
            (Place::Device, Layout::Restricted, "2") => Some(Place::List),
            (Place::Device, Layout::Firmware3, "2") => Some(Place::Management),
            (Place::Device, Layout::Ap9606, _) => outlet(),
            (Place::Management, _, "1") => Some(Place::List),
            (Place::List, _, _) => outlet(),
            (Place::Outlet(number), _, "1") => Some(Place::Control(number)),
            _ => None,
        };
        below.unwrap_or(place)
    }

    fn act(&mut self, number: u32, on: bool) -> std::io::Result<()> {
        let label = if on { "Immediate On" } else { "Immediate Off" };
        self.print(&format!(
            "\r\n        {label}\r\n        Enter 'YES' to continue or <ENTER> to cancel : "
        ))?;
        if self.line()? == "YES" {
            if self.behaviour.obeys {
                self.shared.lock().expect("lock").states.insert(number, on);
            }
            if let Some(words) = self.behaviour.words {
                self.print(&format!("\r\n        {words}\r\n"))?;
            }
        }
        self.pager()
    }

    fn pager(&mut self) -> std::io::Result<()> {
        self.print("\r\n        Press <ENTER> to continue...")?;
        self.line().map(drop)
    }

    fn state(&self, number: u32) -> &'static str {
        let shared = self.shared.lock().expect("lock");
        if shared.states.get(&number) == Some(&true) {
            "ON"
        } else {
            "OFF"
        }
    }

    fn show(&mut self, place: Place) -> std::io::Result<()> {
        let outlets = |with_state: bool| -> Vec<String> {
            let line = |number| {
                let state = if with_state { self.state(number) } else { "" };
                format!("{number:2}- Outlet {number:<20} {state}")
            };
            (1..=self.behaviour.outlets).map(line).collect()
        };
        let texts = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        let about = |number: u32, entries: &[&str]| {
            let mut lines = vec![
                format!("   Name         : Outlet {number}"),
                format!("   Outlet       : {number}"),
                format!("   State        : {}", self.state(number)),
            ];
            lines.extend(entries.iter().map(|entry| (*entry).to_owned()));
            lines
        };
        let (title, lines): (String, Vec<String>) = match (place, self.behaviour.layout) {
            (Place::Main, _) => (
                "Control Console".into(),
                texts(&["1- Device Manager", "2- Network", "3- System", "4- Logout"]),
            ),
            (Place::Device, Layout::Ap9606) => ("Device Manager".into(), outlets(false)),
            (Place::Device, Layout::Firmware2) => (
                "Device Manager".into(),
                texts(&[
                    "1- Phase Monitor/Configuration",
                    "2- Outlet Restriction Configuration",
                    "3- Outlet Control/Configuration",
                    "4- Power Supply Status",
                ]),
            ),
            (Place::Device, Layout::Restricted) => (
                "Device Manager".into(),
                texts(&["1- Phase Monitor", "2- Switching"]),
            ),
            (Place::Device, Layout::Firmware3) => (
                "Device Manager".into(),
                texts(&[
                    "1- Phase Management",
                    "2- Outlet Management",
                    "3- Power Supply Status",
                ]),
            ),
            (Place::Management, _) => (
                "Outlet Management".into(),
                texts(&["1- Outlet Control/Configuration", "2- Outlet Restriction"]),
            ),
            (Place::List, _) => {
                let mut lines = outlets(true);
                lines.push(format!(
                    "{:2}- Master Control/Configuration",
                    lines.len() + 1
                ));
                ("Outlet Control/Configuration".into(), lines)
            }
            (Place::Outlet(number), _) => (
                format!("Outlet {number}"),
                about(number, &["1- Control Outlet", "2- Configure Outlet"]),
            ),
            (Place::Control(number), _) => (
                "Control Outlet".into(),
                about(
                    number,
                    &[
                        "1- Immediate On",
                        "2- Immediate Off",
                        "3- Immediate Reboot",
                        "4- Delayed On",
                    ],
                ),
            ),
        };
        self.print(&format!(
            "\r\n------- {title} -----------------------------\r\n\r\n"
        ))?;
        for (index, line) in lines.iter().enumerate() {
            if index == 22 {
                self.pager()?;
                self.print("\r\n")?;
            }
            self.print(&format!("     {line}\r\n"))?;
        }
        self.print("\r\n     <ESC>- Back, <ENTER>- Refresh, <CTRL-L>- Event Log\r\n> ")
    }
}
