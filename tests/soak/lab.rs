//! 500 PDUs on real sockets, ptys and scripts, each with a simulator that keeps its outlets'
//! states, and with times at which it misbehaves.

use crate::dice::Dice;
use crate::sim::apc::{ApcPdu, Behaviour, Layout};
use crate::sim::fault::Fault;
use crate::sim::rack::ROWS;
use crate::sim::stream::{Bench, Line, PduBox};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How many of each row of the rack, by driver.
const COUNTS: &[(&str, usize)] = &[
    ("snmpv2c", 80),
    ("cyberpower81001", 40),
    ("snmpv3", 30),
    ("tasmota", 60),
    ("netiojson", 40),
    ("shelly_gen2", 40),
    ("devantech_eth008", 25),
    ("devantech_ds2824", 10),
    ("modbustcp", 30),
    ("egpms", 15),
    ("tplink", 15),
    ("netio4", 30),
    ("NumatoUSB8", 15),
    ("devantech_USB-RLY16", 10),
];
/// And of the other kinds. 500 in all.
const MENUS: (&str, usize) = ("apc7952", 10);
const SCRIPTS: (&str, usize) = ("localcmdline", 30);
const INSIDE: (&str, usize) = ("simulated", 20);

const FOUR: &[&str] = &["1", "2", "3", "4"];

/// Drivers of PDUs that answer with the bare states of their relays: nobody could tell garbage
/// from an answer.
const BARE: &[&str] = &["devantech_eth008", "devantech_USB-RLY16"];

/// Where a PDU is played.
enum Edge {
    Bench(Bench),
    /// A console with menus; it knows no faults but a cut connection.
    Menus(ApcPdu),
    /// A folder of state files that a script writes.
    Scripts(PathBuf),
    /// The driver `simulated`.
    Inside,
}

/// What `localcmdline` runs: `$1` what to do, `$2` the PDU's folder, `$3` the outlet. An outlet's
/// state is the last line of its file. A PDU that misbehaves has a file `fault`.
const SCRIPT: &str = r#"
state="$2/$(echo "$3" | tr / _)"
fault=
[ ! -e "$2/fault" ] || read -r fault < "$2/fault"
case $fault in
refuse) echo "the relay does not answer" >&2; exit 1 ;;
hang) exec sleep 60 ;;
esac
case $1 in
state) [ -e "$state" ] && tail -n 1 "$state" || echo off ;;
*) echo "$1" >> "$state" ;;
esac
case $fault in
late) exec sleep 60 ;;
lose) exit 3 ;;
esac
"#;
const SCRIPT_FAULTS: &[&str] = &["refuse", "hang", "late", "lose"];

/// One PDU.
pub(crate) struct Played {
    pub(crate) name: String,
    pub(crate) outlets: &'static [&'static str],
    pub(crate) driver: &'static str,
    settings: Value,
    /// The simulator's own state, for looking without disturbing its threads.
    pdu: Option<Arc<Mutex<PduBox>>>,
    edge: Mutex<Edge>,
}

impl Played {
    /// The outlet's true state; `None` for a PDU inside the daemon.
    pub(crate) fn truth(&self, outlet: &str) -> Option<bool> {
        if let Some(pdu) = &self.pdu {
            return pdu.lock().expect("lock").is_on(outlet);
        }
        match &*self.edge.lock().expect("lock") {
            Edge::Menus(apc) => Some(apc.on().contains(&outlet.parse().ok()?)),
            Edge::Scripts(folder) => {
                let state = fs::read_to_string(folder.join(outlet.replace('/', "_")));
                Some(state.unwrap_or_default().lines().last() == Some("on"))
            }
            Edge::Bench(_) | Edge::Inside => None,
        }
    }
}

pub(crate) struct Lab {
    pub(crate) pdus: Vec<Played>,
}

/// Patience of the daemon with these PDUs: short, so that a fault is over soon.
const TIMEOUT: u32 = 2;
const RETRIES: u32 = 3;

impl Lab {
    /// Starts all simulators; state files and the script go below `folder`.
    pub(crate) fn start(folder: &Path) -> Self {
        let script = folder.join("relay.sh");
        fs::write(&script, SCRIPT).expect("a script");
        let mut lab = Self { pdus: Vec::new() };
        for (driver, count) in COUNTS {
            let row = ROWS.iter().find(|row| row.driver == *driver);
            let row = row.expect("a row of the rack");
            for index in 0..*count {
                let number = lab.pdus.len();
                let ip = Ipv4Addr::new(127, 77, (number / 200) as u8, (number % 200 + 1) as u8);
                let (bench, mut settings) = row.start(ip);
                if matches!(bench.line, Line::Pty(_)) {
                    // Three of them on one wire.
                    settings["bus"] = json!(format!("{driver}-{}", index / 3));
                }
                lab.add(row.driver, row.outlets, settings, Edge::Bench(bench));
            }
        }
        for _ in 0..MENUS.1 {
            let apc = ApcPdu::start(Behaviour::new(Layout::Firmware3));
            let ip = format!("127.0.0.1:{}", apc.port);
            let settings = json!({"driver": MENUS.0, "ip": ip, "password": "secret"});
            lab.add(MENUS.0, FOUR, settings, Edge::Menus(apc));
        }
        for _ in 0..SCRIPTS.1 {
            let files = folder.join(lab.next_name());
            fs::create_dir(&files).expect("a folder");
            let command = |word: &str| json!(["/bin/sh", script, word, files, "%s"]);
            let settings = json!({
                "driver": SCRIPTS.0,
                "cmd_on": command("on"),
                "cmd_off": command("off"),
                "cmd_status": command("state"),
            });
            let outlets = &["1", "2", "bench-3", "rack/4"];
            lab.add(SCRIPTS.0, outlets, settings, Edge::Scripts(files));
        }
        for _ in 0..INSIDE.1 {
            let settings = json!({"driver": INSIDE.0, "fail_every": 23, "lose_every": 31});
            lab.add(INSIDE.0, FOUR, settings, Edge::Inside);
        }
        lab
    }

    fn next_name(&self) -> String {
        format!("pdu{:03}", self.pdus.len())
    }

    fn add(
        &mut self,
        driver: &'static str,
        outlets: &'static [&'static str],
        mut settings: Value,
        edge: Edge,
    ) {
        let number = self.pdus.len();
        settings["retries"] = json!(RETRIES);
        settings["retrydelay"] = json!(number % 2);
        settings["timeout"] = json!(TIMEOUT);
        if number.is_multiple_of(10) {
            settings["queue_limit"] = json!(2);
        }
        self.pdus.push(Played {
            name: self.next_name(),
            outlets,
            driver,
            settings,
            pdu: match &edge {
                Edge::Bench(bench) => Some(Arc::clone(&bench.pdu)),
                Edge::Menus(_) | Edge::Scripts(_) | Edge::Inside => None,
            },
            edge: Mutex::new(edge),
        });
    }

    /// The PDUs of a config in which some are missing and some have changed.
    pub(crate) fn settings(
        &self,
        is_missing: impl Fn(usize) -> bool,
        change: impl Fn(usize) -> usize,
    ) -> Map<String, Value> {
        let there = (0..self.pdus.len()).filter(|number| !is_missing(*number));
        there
            .map(|number| {
                let pdu = &self.pdus[number];
                let mut settings = pdu.settings.clone();
                if change(number) > 0 {
                    settings["about"] = json!(format!("changed {} times", change(number)));
                    settings["retrydelay"] = json!((number + change(number)) % 2);
                }
                (pdu.name.clone(), settings)
            })
            .collect()
    }

    /// May the config of this PDU change? What is inside the daemon would forget its states.
    pub(crate) fn may_change(&self, number: usize) -> bool {
        self.pdus[number].driver != "simulated"
    }

    /// Makes a simulator that lies: it says that it has switched, and has not.
    pub(crate) fn lie(&self) {
        for pdu in self.pdus.iter().filter(|pdu| pdu.driver == "modbustcp") {
            if let Edge::Bench(bench) = &*pdu.edge.lock().expect("lock") {
                bench.control.set(Fault::Stuck, 0);
            }
        }
    }

    /// Lets PDUs misbehave by turns until `stop`, then mends them all. Gives how often it did what.
    pub(crate) fn misbehave(
        &self,
        dice: &mut Dice,
        longest_death: Duration,
        stop: &AtomicBool,
    ) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        let mut ends: BTreeMap<usize, Instant> = BTreeMap::new();
        while !stop.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(50));
            let over: Vec<usize> = ends
                .iter()
                .filter(|(_, end)| **end <= Instant::now())
                .map(|(number, _)| *number)
                .collect();
            for number in over {
                ends.remove(&number);
                self.mend(number);
            }
            if !dice.chance(60) {
                continue;
            }
            let number = dice.below(self.pdus.len());
            if ends.contains_key(&number) {
                continue;
            }
            let dies = dice.chance(6);
            let Some(fault) = self.spoil(number, dice, dies) else {
                continue;
            };
            *counts.entry(fault).or_default() += 1;
            let most = if dies {
                longest_death
            } else {
                Duration::from_secs(6)
            };
            let most = most.as_millis() as usize;
            let lasts = Duration::from_millis((most / 10 + dice.below(most)) as u64);
            ends.insert(number, Instant::now() + lasts);
        }
        for number in ends.into_keys() {
            self.mend(number);
        }
        counts
    }

    fn spoil(&self, number: usize, dice: &mut Dice, dies: bool) -> Option<&'static str> {
        let mut edge = self.pdus[number].edge.lock().expect("lock");
        let is_bare = BARE.contains(&self.pdus[number].driver);
        match &mut *edge {
            Edge::Inside => None,
            Edge::Menus(apc) => {
                apc.cut();
                Some("sessions cut")
            }
            Edge::Scripts(folder) => {
                let fault = *dice.of(SCRIPT_FAULTS);
                fs::write(folder.join("fault"), format!("{fault}\n")).expect("a file");
                Some("script fails, hangs or loses its answer")
            }
            Edge::Bench(bench) if dies => {
                bench.unplug();
                Some("dead: connections refused, device gone")
            }
            Edge::Bench(bench) => {
                let is_datagram = matches!(bench.line, Line::Udp(_));
                let (fault, words) = *dice.of(&[
                    (Fault::Silence, "silent"),
                    (Fault::Reset, "reset, unplugged"),
                    (Fault::ResetOnce, "reset once"),
                    (Fault::Garbage, "garbage"),
                    (Fault::Half, "half an answer"),
                    (Fault::Drip, "a byte a second"),
                    (Fault::Endless, "endless"),
                ]);
                let (fault, words) = match fault {
                    Fault::Reset | Fault::ResetOnce if is_datagram => {
                        (Fault::Twice, "every datagram twice")
                    }
                    // Any byte is an answer there.
                    Fault::Garbage | Fault::Endless if is_bare => (Fault::Silence, "silent"),
                    _ => (fault, words),
                };
                bench.control.set(fault, dice.below(4));
                Some(words)
            }
        }
    }

    fn mend(&self, number: usize) {
        let mut edge = self.pdus[number].edge.lock().expect("lock");
        match &mut *edge {
            Edge::Scripts(folder) => {
                let _ = fs::remove_file(folder.join("fault"));
            }
            Edge::Bench(bench) => {
                bench.control.set(Fault::None, 0);
                bench.plug();
            }
            Edge::Menus(_) | Edge::Inside => {}
        }
    }

    /// Answers that were not as they should be.
    pub(crate) fn spoiled(&self) -> usize {
        let spoiled = |pdu: &Played| match &*pdu.edge.lock().expect("lock") {
            Edge::Bench(bench) => bench.control.spoiled(),
            Edge::Menus(_) | Edge::Scripts(_) | Edge::Inside => 0,
        };
        self.pdus.iter().map(spoiled).sum()
    }

    /// PDUs by driver.
    pub(crate) fn drivers() -> String {
        let kinds = COUNTS.iter().chain([&MENUS, &SCRIPTS, &INSIDE]);
        let kinds: Vec<String> = kinds
            .map(|(driver, count)| format!("{count} {driver}"))
            .collect();
        kinds.join(", ")
    }
}
