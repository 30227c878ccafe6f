//! What each outlet must be, and how many requests of which kind ended how.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Command {
    On,
    Off,
    Reboot,
    State,
}

impl Command {
    /// As the paths and the metrics have it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Reboot => "reboot",
            Self::State => "get-status",
        }
    }
}

/// How a request ended, as its client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    Done,
    /// It may have been carried out, or in part.
    Failed,
    /// It was never begun: cancelled, no room, no such PDU.
    Untouched,
}

/// What an outlet may be, after all that its clients were told. One client at a time speaks of an
/// outlet, so that there is an order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) may_be_on: bool,
    pub(crate) may_be_off: bool,
    /// A reboot failed since the last success: the outlet may be off until the daemon has switched
    /// it on, which it owes.
    pub(crate) is_owed: bool,
    /// A request was lost from sight: it may be carried out at any time.
    pub(crate) is_loose: bool,
}

impl Entry {
    pub(crate) const OFF: Self = Self {
        may_be_on: false,
        may_be_off: true,
        is_owed: false,
        is_loose: false,
    };

    /// A request has ended.
    pub(crate) fn note(&mut self, command: Command, ending: Ending) {
        match (command, ending) {
            (Command::State, _) | (_, Ending::Untouched) => {}
            (Command::On | Command::Reboot, Ending::Done) => self.is(true),
            (Command::Off, Ending::Done) => self.is(false),
            // In doubt: the PDU may have acted.
            (Command::On, Ending::Failed) => self.may_be_on = true,
            // A later off takes the place of an on that was owed.
            (Command::Off, Ending::Failed) => {
                (self.may_be_off, self.is_owed) = (true, false);
            }
            // Never begun, or off and on again: what was on must be on in the end.
            (Command::Reboot, Ending::Failed) => {
                (self.may_be_on, self.is_owed) = (true, true);
            }
        }
    }

    fn is(&mut self, on: bool) {
        (self.may_be_on, self.may_be_off, self.is_owed) = (on, !on, false);
    }

    /// May the outlet be so, once the daemon owes nothing?
    pub(crate) fn allows(&self, on: bool) -> bool {
        self.is_loose || if on { self.may_be_on } else { self.may_be_off }
    }

    /// May it be seen so now?
    pub(crate) fn allows_now(&self, on: bool) -> bool {
        self.is_owed || self.allows(on)
    }

    /// Is there only one right state?
    pub(crate) fn is_certain(&self) -> bool {
        !self.is_loose && self.may_be_on != self.may_be_off
    }

    pub(crate) fn words(&self) -> &'static str {
        match (self.is_loose, self.may_be_on, self.may_be_off) {
            (false, true, false) => "on",
            (false, false, true) => "off",
            _ => "on or off",
        }
    }
}

/// What was counted, by one client or by all.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Requests by how they were made and how they ended.
    kinds: BTreeMap<(&'static str, &'static str), u64>,
    /// Requests that reached a queue, or were refused there, as the daemon's metrics count them.
    tickets: BTreeMap<(Command, bool), u64>,
    /// Those whose end nobody saw.
    unseen: BTreeMap<Command, u64>,
    /// The longest wait for an answer, in seconds.
    longest: f64,
    pub(crate) wrong: Vec<String>,
}

/// More imbalances than these are only counted.
const SHOWN: usize = 30;

impl Books {
    pub(crate) fn asked(&mut self, kind: &'static str, result: &'static str) {
        *self.kinds.entry((kind, result)).or_default() += 1;
    }

    pub(crate) fn ticket(&mut self, command: Command, is_ok: bool) {
        *self.tickets.entry((command, is_ok)).or_default() += 1;
    }

    pub(crate) fn unseen(&mut self, command: Command) {
        *self.unseen.entry(command).or_default() += 1;
    }

    pub(crate) fn waited(&mut self, seconds: f64) {
        self.longest = self.longest.max(seconds);
    }

    pub(crate) fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// Takes another client's books into these.
    pub(crate) fn add(&mut self, other: Self) {
        for (key, count) in other.kinds {
            *self.kinds.entry(key).or_default() += count;
        }
        for (key, count) in other.tickets {
            *self.tickets.entry(key).or_default() += count;
        }
        for (key, count) in other.unseen {
            *self.unseen.entry(key).or_default() += count;
        }
        self.longest = self.longest.max(other.longest);
        self.wrong.extend(other.wrong);
    }

    /// Holds the daemon's metrics against what the clients saw.
    pub(crate) fn compare(&mut self, metrics: &str) -> String {
        let mut text =
            String::from("\nrequests as the daemon counts them, and as its clients do\n");
        for command in [Command::On, Command::Off, Command::Reboot, Command::State] {
            let (mut ok, mut failed) = (0, 0);
            let start = format!(
                "pdudaemon_requests_total{{action=\"{}\",result=\"",
                command.word()
            );
            for line in metrics.lines() {
                let Some((result, count)) = line
                    .strip_prefix(&start)
                    .and_then(|rest| rest.split_once("\"} "))
                else {
                    continue;
                };
                let count: u64 = count.parse().expect("a count");
                *(if result == "ok" { &mut ok } else { &mut failed }) += count;
            }
            let seen = |is_ok| self.tickets.get(&(command, is_ok)).copied().unwrap_or(0);
            let (mine_ok, mine_failed) = (seen(true), seen(false));
            let unseen = self.unseen.get(&command).copied().unwrap_or(0);
            let _ = writeln!(
                text,
                "  {:<11} ok {ok} = {mine_ok}, failed {failed} = {mine_failed}, unseen {unseen}",
                command.word()
            );
            let fits = (mine_ok..=mine_ok + unseen).contains(&ok)
                && (mine_failed..=mine_failed + unseen).contains(&failed)
                && ok + failed <= mine_ok + mine_failed + unseen;
            if !fits {
                self.wrong(format!(
                    "{}: the daemon counts {ok} ok and {failed} failed, its clients {mine_ok} and {mine_failed}",
                    command.word()
                ));
            }
        }
        text
    }

    /// Requests of all kinds, as a table.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from("requests by kind and result\n");
        let mut total = 0;
        for ((kind, result), count) in &self.kinds {
            total += count;
            let _ = writeln!(text, "  {kind:<28} {result:<12} {count:>8}");
        }
        let _ = writeln!(
            text,
            "  {total} in all, each answered once; the longest wait was {:.1} s",
            self.longest
        );
        text
    }

    pub(crate) fn requests(&self) -> u64 {
        self.kinds.values().sum()
    }

    /// The verdict: what is wrong, if anything is.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        if self.wrong.is_empty() {
            return Ok(());
        }
        let mut text = format!("{} things are wrong\n", self.wrong.len());
        for what in self.wrong.iter().take(SHOWN) {
            let _ = writeln!(text, "  {what}");
        }
        Err(text)
    }
}
