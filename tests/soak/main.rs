//! The soak: the release binary with 500 PDUs of mixed transports, played outside of it, with
//! faults, many clients and reloads, for a given time; then the books are checked.
//!
//! `make soak`, or `make soak SOAK_SECONDS=600 SOAK_SEED=7`.
//!
//! What must balance:
//! - every request is answered once, in time, with an answer that makes sense;
//! - after each success the outlet is at once what was asked for;
//! - in the end each outlet is what its last successful command says. Where a later one failed,
//!   both states are right: the PDU may have acted. A failed reboot must leave on what was on;
//! - the daemon's counters agree with its clients' books;
//! - memory, descriptors and threads are at the end what they were after the warm-up;
//! - the daemon ends well when it is told to.
//!
//! Each outlet belongs to one client, which has one request at a time for it under way (or two
//! whose order it knows), so that the order of commands is known.
//!
//! `SOAK_LIE=1` makes some simulators lie, to see that the books do not balance then.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::exit,
    missing_docs,
    unreachable_pub,
    reason = "a soak stops at the first thing that is wrong, and speaks to the terminal"
)]

mod books;
mod clients;
#[path = "../integration/daemon.rs"]
#[allow(dead_code, reason = "shared with the integration tests")]
mod daemon;
mod dice;
mod lab;
#[path = "../integration/sim"]
#[allow(dead_code, reason = "shared with the integration tests")]
mod sim {
    pub(crate) mod apc;
    pub(crate) mod ber;
    pub(crate) mod fault;
    pub(crate) mod pdus;
    pub(crate) mod port;
    pub(crate) mod rack;
    pub(crate) mod serial_boards;
    pub(crate) mod stream;
}

use books::{Books, Entry};
use clients::{Lane, Outlet, alias_name};
use daemon::{Daemon, Lab as Folder, PDUDAEMON, http, raise_descriptor_limit};
use dice::Dice;
use lab::Lab;
use rustix::process::Signal;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Clients at a time.
const CLIENTS: usize = 64;
/// How long the daemon may take until nothing waits any more and nothing is owed: its longest
/// pause before it tries an owed on again is 60 s.
const SETTLING: Duration = Duration::from_secs(100);
/// Following a new config may take so long.
const FOLLOWING: Duration = Duration::from_secs(30);
/// A stop may take so long.
const STOPPING: Duration = Duration::from_secs(30);
/// How often the daemon's usage is shown meanwhile.
const SHOW_EVERY: Duration = Duration::from_secs(30);
/// The allocator keeps some freed memory for each of the five hundred threads, and the more of it
/// the longer they run; it must not hide what the daemon itself would keep.
const NO_HOARDING: &str = "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1";
/// Memory may be larger at the end than after the warm-up by so much (a tenth, and two MiB for the
/// threads' stacks and the heap's gaps), descriptors by so many.
const MORE_MEMORY: (u64, u64) = (10, 2048);
const MORE_DESCRIPTORS: usize = 2;

fn main() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |value| {
            value
                .parse()
                .unwrap_or_else(|_| panic!("{name}: expected a number"))
        })
    };
    let seconds = number("SOAK_SECONDS", 600);
    let seed = number("SOAK_SEED", 1);
    raise_descriptor_limit();
    let folder = Folder::new();
    let lab = Lab::start(&folder.path(""));
    println!(
        "soak: {} PDUs, {CLIENTS} clients, {seconds} s, seed {seed} (SOAK_SEED)\n{}\n",
        lab.pdus.len(),
        Lab::drivers()
    );
    if std::env::var_os("SOAK_LIE").is_some() {
        lab.lie();
    }
    match Soak::start(&folder, &lab, seed).run(Duration::from_secs(seconds)) {
        Ok(()) => println!("the books balance"),
        Err(wrong) => {
            println!("THE BOOKS DO NOT BALANCE: {wrong}");
            std::process::exit(1);
        }
    }
}

struct Soak<'s> {
    folder: &'s Folder,
    lab: &'s Lab,
    daemon: Daemon,
    lanes: Vec<Lane<'s>>,
    aliases: Value,
    reloads: Reloads,
    faults: BTreeMap<&'static str, u64>,
    seed: u64,
}

/// The config as it is now, and what was done to it.
struct Reloads {
    missing: BTreeSet<usize>,
    changes: BTreeMap<usize, usize>,
    loaded: usize,
    counts: BTreeMap<&'static str, u64>,
    dice: Dice,
}

impl<'s> Soak<'s> {
    fn start(folder: &'s Folder, lab: &'s Lab, seed: u64) -> Self {
        let outlets: Vec<(usize, &'static str)> = (0..lab.pdus.len())
            .flat_map(|pdu| lab.pdus[pdu].outlets.iter().map(move |id| (pdu, *id)))
            .collect();
        // Dealt out like cards: neighbours on a PDU belong to different clients.
        let mut hands: Vec<Vec<Outlet>> = (0..CLIENTS).map(|_| Vec::new()).collect();
        for (at, (pdu, id)) in outlets.into_iter().enumerate() {
            let entry = Entry::OFF;
            hands[at % CLIENTS].push(Outlet { pdu, id, entry });
        }
        let aliases: Map<String, Value> = hands
            .iter()
            .enumerate()
            .map(|(lane, hand)| {
                let outlets: Vec<Value> = hand
                    .iter()
                    .take(clients::ALIASED)
                    .map(|outlet| json!({"hostname": lab.pdus[outlet.pdu].name, "port": outlet.id}))
                    .collect();
                (alias_name(lane), json!({"outlets": outlets}))
            })
            .collect();
        let aliases = Value::Object(aliases);
        let state = folder.path("state");
        let more = json!({"daemon": {"state_directory": state}, "aliases": aliases});
        let mut pdus = lab.settings(|_| false, |_| 0);
        pdus.insert(MARKER.into(), marker(0));
        let mut command = folder.command(PDUDAEMON);
        command
            .arg("--conf")
            .arg(folder.config(pdus.into(), more))
            .env("GLIBC_TUNABLES", NO_HOARDING);
        let daemon = Daemon::spawn(command);
        let lanes = hands
            .into_iter()
            .enumerate()
            .map(|(number, hand)| {
                let dice = Dice::new(seed, number as u64 + 10);
                Lane::new(number, hand, lab, daemon.address, dice)
            })
            .collect();
        Self {
            folder,
            lab,
            daemon,
            lanes,
            aliases,
            reloads: Reloads {
                missing: BTreeSet::new(),
                changes: BTreeMap::new(),
                loaded: 0,
                counts: BTreeMap::new(),
                dice: Dice::new(seed, 1),
            },
            faults: BTreeMap::new(),
            seed,
        }
    }

    fn run(mut self, time: Duration) -> Result<(), String> {
        let began = Instant::now();
        let mut books = Books::default();
        let warm_up = (time / 4)
            .clamp(Duration::from_secs(5), Duration::from_secs(60))
            .min(time);
        self.greet();
        self.play(warm_up, time, 2);
        self.settle("after the warm-up", &mut books);
        self.greet();
        self.settle("after the warm-up", &mut books);
        let warm = Usage::of(self.daemon.id());
        self.play(time.saturating_sub(began.elapsed()), time, 3);
        self.settle("in the end", &mut books);
        // The lock of a PDU is open once it was spoken to, also after a reload.
        self.greet();
        let in_doubt = self.settle("in the end", &mut books);
        let end = Usage::of(self.daemon.id());
        let (_, metrics) = http(self.daemon.address, "GET", "/metrics");
        for lane in &mut self.lanes {
            books.add(std::mem::take(&mut lane.books));
        }
        println!("{}", books.table());
        println!("faults");
        for (fault, count) in &self.faults {
            println!("  {fault:<40} {count:>8}");
        }
        println!(
            "  {:<40} {:>8}",
            "answers spoiled by them",
            self.lab.spoiled()
        );
        println!("\nreloads");
        for (what, count) in &self.reloads.counts {
            println!("  {what:<40} {count:>8}");
        }
        println!("{}", books.compare(&metrics));
        println!("{in_doubt}");
        println!("after the warm-up of {} s: {warm}", warm_up.as_secs());
        println!(
            "in the end, after {} s:    {end}",
            began.elapsed().as_secs()
        );
        end.compare(&warm, &mut books);
        self.stop(&mut books);
        if books.requests() == 0 {
            books.wrong("nothing was asked".into());
        }
        println!();
        books.verdict()
    }

    /// Every outlet is read once, so that what the daemon has per PDU and outlet is there before
    /// anything is measured.
    fn greet(&mut self) {
        std::thread::scope(|scope| {
            for lane in &mut self.lanes {
                scope.spawn(|| lane.greet());
            }
        });
    }

    /// Clients, faults and reloads for so long.
    fn play(&mut self, time: Duration, whole: Duration, phase: u64) {
        let until = Instant::now() + time;
        let stop = AtomicBool::new(false);
        let longest_death = (whole / 10).clamp(Duration::from_secs(3), Duration::from_secs(60));
        let (folder, lab, aliases) = (self.folder, self.lab, &self.aliases);
        let (daemon, reloads) = (&self.daemon, &mut self.reloads);
        let mut dice = Dice::new(self.seed, phase);
        let faults = std::thread::scope(|scope| {
            let faults = scope.spawn(|| lab.misbehave(&mut dice, longest_death, &stop));
            let reloading = scope.spawn(|| {
                let mut shown = Instant::now();
                while !stop.load(Ordering::SeqCst) {
                    let pause = 1000 + reloads.dice.below(3000) as u64;
                    let next = Instant::now() + Duration::from_millis(pause);
                    while Instant::now() < next && !stop.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    reloads.turn(folder, lab, aliases, daemon);
                    if shown.elapsed() > SHOW_EVERY {
                        shown = Instant::now();
                        println!("  {}", Usage::now(daemon.id()));
                    }
                }
                reloads.restore(folder, lab, aliases, daemon);
            });
            let clients: Vec<_> = self
                .lanes
                .iter_mut()
                .map(|lane| scope.spawn(move || lane.run(until)))
                .collect();
            for client in clients {
                client.join().expect("a client that does not panic");
            }
            stop.store(true, Ordering::SeqCst);
            reloading.join().expect("reloads that work");
            faults.join().expect("faults that work")
        });
        for (fault, count) in faults {
            *self.faults.entry(fault).or_default() += count;
        }
    }

    /// Waits until nothing is under way and nothing owed, and audits every outlet.
    fn settle(&self, when: &str, books: &mut Books) -> String {
        let until = Instant::now() + SETTLING;
        let (wrong, certain, doubtful) = loop {
            let (_, metrics) = http(self.daemon.address, "GET", "/metrics");
            // Its own connection is open while it is counted.
            let open = "pdudaemon_connections_open ";
            let waits = |line: &&str| match line.strip_prefix(open) {
                Some(count) => count != "1",
                None => line.starts_with("pdudaemon_queue_depth{") && !line.ends_with(" 0"),
            };
            let waiting: Vec<&str> = metrics.lines().filter(waits).collect();
            let Audit {
                wrong: mut all,
                owed,
                certain,
                doubtful,
            } = self.audit();
            let is_over = (waiting.is_empty() && owed.is_empty()) || Instant::now() > until;
            if is_over {
                all.extend(owed);
                all.extend(waiting.into_iter().map(str::to_owned));
                break (all, certain, doubtful);
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        for what in wrong {
            books.wrong(format!("{when}: {what}"));
        }
        format!(
            "outlets: {certain} as their last command says, {doubtful} either way (a later one failed)"
        )
    }

    /// Every outlet against its client's book.
    fn audit(&self) -> Audit {
        let mut audit = Audit::default();
        for outlet in self.lanes.iter().flat_map(|lane| &lane.outlets) {
            let pdu = &self.lab.pdus[outlet.pdu];
            *(if outlet.entry.is_certain() {
                &mut audit.certain
            } else {
                &mut audit.doubtful
            }) += 1;
            let is_on = pdu
                .truth(outlet.id)
                .or_else(|| self.ask(&pdu.name, outlet.id));
            if is_on.is_some_and(|is_on| outlet.entry.allows(is_on)) {
                continue;
            }
            let what = format!(
                "{} ({}) outlet {} is {}, must be {}",
                pdu.name,
                pdu.driver,
                outlet.id,
                match is_on {
                    Some(true) => "on",
                    Some(false) => "off",
                    None => "unknown",
                },
                outlet.entry.words()
            );
            if outlet.entry.is_owed {
                audit.owed.push(what);
            } else {
                audit.wrong.push(what);
            }
        }
        audit
    }

    /// The last known state of a PDU that lives inside the daemon.
    fn ask(&self, pdu: &str, outlet: &str) -> Option<bool> {
        let target = format!("/api/v1/pdus/{pdu}/outlets/{outlet}/state?last=true");
        let (_, body) = http(self.daemon.address, "GET", &target);
        let body: Value = serde_json::from_str(&body).ok()?;
        match body["state"].as_str() {
            Some("on") => Some(true),
            // Never spoken of: as it was at the start.
            Some("off") | None => Some(false),
            Some(_) => None,
        }
    }

    /// Stops the daemon as systemd does.
    fn stop(self, books: &mut Books) {
        let began = Instant::now();
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak-daemon.log");
        self.daemon.signal(Signal::TERM);
        let (status, printed) = self.daemon.wait();
        let took = began.elapsed();
        println!(
            "the daemon: {status} {:.1} s after SIGTERM",
            took.as_secs_f64()
        );
        if !status.success() || took > STOPPING {
            books.wrong(format!("the daemon ended with {status} after {took:?}"));
        }
        for bug in printed
            .lines()
            .filter(|line| line.contains("this is a bug"))
        {
            books.wrong(format!("the log: {bug}"));
        }
        if !books.wrong.is_empty() {
            let kept = fs::create_dir_all(env!("CARGO_TARGET_TMPDIR"))
                .and_then(|()| fs::write(&log, printed))
                .map(|()| log.display().to_string());
            println!(
                "its log is kept: {}",
                kept.unwrap_or_else(|error| error.to_string())
            );
        }
    }
}

/// A PDU that nobody asks anything: its `about` tells which config is followed.
const MARKER: &str = "marker";

fn marker(loaded: usize) -> Value {
    json!({"driver": "simulated", "about": format!("config {loaded}")})
}

impl Reloads {
    /// One more reload: PDUs change, go, come back; or the file is broken.
    fn turn(&mut self, folder: &Folder, lab: &Lab, aliases: &Value, daemon: &Daemon) {
        match self.dice.below(4) {
            0 => {
                self.count("PDUs changed", 0);
                for _ in 0..=self.dice.below(8) {
                    let pdu = self.dice.below(lab.pdus.len());
                    if lab.may_change(pdu) {
                        *self.changes.entry(pdu).or_default() += 1;
                        self.count("PDUs changed", 1);
                    }
                }
            }
            1 => {
                for _ in 0..=self.dice.below(5) {
                    let pdu = self.dice.below(lab.pdus.len());
                    if lab.may_change(pdu) && self.missing.insert(pdu) {
                        self.count("PDUs removed", 1);
                    }
                }
            }
            2 => {
                let back = self.missing.len() as u64;
                self.count("PDUs added again", back);
                self.missing.clear();
            }
            _ => return self.broken(folder, daemon),
        }
        self.load(folder, lab, aliases, daemon);
    }

    /// All PDUs are there again.
    fn restore(&mut self, folder: &Folder, lab: &Lab, aliases: &Value, daemon: &Daemon) {
        let back = self.missing.len() as u64;
        self.count("PDUs added again", back);
        self.missing.clear();
        self.load(folder, lab, aliases, daemon);
    }

    fn count(&mut self, what: &'static str, by: u64) {
        *self.counts.entry(what).or_default() += by;
    }

    fn load(&mut self, folder: &Folder, lab: &Lab, aliases: &Value, daemon: &Daemon) {
        self.loaded += 1;
        let changes = |pdu| self.changes.get(&pdu).copied().unwrap_or(0);
        let mut pdus = lab.settings(|pdu| self.missing.contains(&pdu), changes);
        pdus.insert(MARKER.into(), marker(self.loaded));
        let state = folder.path("state");
        folder.config(
            pdus.into(),
            json!({"daemon": {"state_directory": state}, "aliases": aliases}),
        );
        daemon.signal(Signal::HUP);
        let wanted = format!("config {}", self.loaded);
        let until = Instant::now() + FOLLOWING;
        loop {
            let (_, body) = http(daemon.address, "GET", &format!("/api/v1/pdus/{MARKER}"));
            if body.contains(&wanted) {
                return self.count("followed", 1);
            }
            assert!(Instant::now() < until, "the config is not followed: {body}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A file that cannot be used: nothing may change, and the daemon says so.
    fn broken(&mut self, folder: &Folder, daemon: &Daemon) {
        let before = daemon.printed().len();
        folder.write(
            "pdudaemon.conf",
            "{\"daemon\": {\"hostname\": 7}, \"pdus\": [",
        );
        daemon.signal(Signal::HUP);
        let until = Instant::now() + FOLLOWING;
        let told = || {
            let printed = daemon.printed();
            let new = printed.get(before..).unwrap_or_default();
            new.contains("the config is not loaded again")
        };
        while !told() {
            assert!(Instant::now() < until, "a broken config is not told");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.count("broken file, refused", 1);
    }
}

/// How the outlets are.
#[derive(Default)]
struct Audit {
    wrong: Vec<String>,
    /// Wrong now, but the daemon owes them an on, and may still send it.
    owed: Vec<String>,
    certain: usize,
    doubtful: usize,
}

/// What the daemon holds of the system.
struct Usage {
    /// Resident, in KiB, and the most so far.
    memory: u64,
    peak: u64,
    descriptors: usize,
    threads: usize,
}

impl Usage {
    /// As it is once sessions and connections of the last requests are over, within seconds.
    fn of(process: u32) -> Self {
        let mut least = Self::now(process);
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(100));
            let now = Self::now(process);
            least = Self {
                descriptors: least.descriptors.min(now.descriptors),
                threads: least.threads.min(now.threads),
                ..now
            };
        }
        least
    }

    fn now(process: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status")).expect("running");
        let number = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|line| line.split_whitespace().next());
            word.and_then(|word| word.parse().ok()).expect("a number")
        };
        Self {
            memory: number("VmRSS:"),
            peak: number("VmHWM:"),
            descriptors: fs::read_dir(format!("/proc/{process}/fd"))
                .expect("running")
                .count(),
            threads: number("Threads:") as usize,
        }
    }

    fn compare(&self, warm: &Self, books: &mut Books) {
        let (part, more) = MORE_MEMORY;
        let most = warm.memory + warm.memory / part + more;
        if self.memory > most {
            books.wrong(format!(
                "memory grew to {} KiB, at most {most} expected",
                self.memory
            ));
        }
        if self.descriptors > warm.descriptors + MORE_DESCRIPTORS {
            books.wrong(format!(
                "descriptors grew from {} to {}",
                warm.descriptors, self.descriptors
            ));
        }
        if self.threads != warm.threads {
            books.wrong(format!(
                "there were {} threads, now {}",
                warm.threads, self.threads
            ));
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} MiB resident (at most {:.1} so far), {} descriptors, {} threads",
            self.memory as f64 / 1024.0,
            self.peak as f64 / 1024.0,
            self.descriptors,
            self.threads
        )
    }
}
