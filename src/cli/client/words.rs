//! The words: `pduclient list`, `on rack1:3` … One table serves parsing, help and completion.

use super::api::Api;
use super::tls;
use crate::cli::options::{self, Opt, opt};
use crate::request::hint::did_you_mean;
use crate::request::{Action, Delay, Switch};
use std::time::Duration;

/// What a word does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// Shows PDUs, outlets or aliases.
    List,
    /// Reads or switches outlets.
    Act(Action),
    /// Shows, follows or cancels requests.
    Requests,
    /// Prints names for the shell's completion.
    Complete,
    /// Prints the help, of a word or of all.
    Help,
}

/// One word: everything the parser and the help know about it.
pub(super) struct Word {
    pub(super) name: &'static str,
    pub(super) does: Does,
    /// The arguments behind it.
    pub(super) takes: &'static str,
    about: &'static str,
    /// Paragraphs of its own help.
    more: &'static str,
    examples: &'static [(&'static str, &'static str)],
    /// Its options beside those that all words have.
    pub(super) options: &'static [&'static str],
}

const TARGETS: &str = "\
TARGET is PDU:OUTLETS or @ALIAS. Both take ranges: rack1:1-8,12 or rack[1-4]-pdu:3 or
pdu[01-12,20]:01-08 (quote [ ] for the shell). The daemon works on different PDUs side by side,
and switches nothing unless it knows every target. At most 1024 outlets at once.";

pub(super) const WORDS: &[Word] = &[
    Word {
        name: "list",
        does: Does::List,
        takes: "[PDU...]",
        about: "show the PDUs, or the outlets of some, as last known",
        more: "Asks no PDU: shows the last known states, and how old they are.",
        examples: &[
            (
                "pduclient list",
                "every PDU: does it answer, how many requests wait",
            ),
            (
                "pduclient list rack1",
                "rack1's outlets and their last known states",
            ),
            ("pduclient list 'rack[1-4]-pdu'", "those of four PDUs"),
            ("pduclient list --aliases", "the aliases and their outlets"),
        ],
        options: &["aliases"],
    },
    Word {
        name: "state",
        does: Does::Act(Action::State),
        takes: "TARGET...",
        about: "read from the PDU whether outlets are on or off",
        more: "Prints the state alone for one outlet, and a line each for several.",
        examples: &[
            ("pduclient state rack1:3", "on, off or unknown"),
            ("pduclient state rack1:1-8 @board7", "a line for each"),
        ],
        options: &[],
    },
    Word {
        name: "on",
        does: Does::Act(Action::Switch(Switch::On)),
        takes: "TARGET...",
        about: "switch outlets on",
        more: "Returns when the PDUs have confirmed it.",
        examples: &[
            ("pduclient on rack1:3", "one outlet"),
            ("pduclient on 'rack[1-4]:1-8,12'", "36 outlets of four PDUs"),
        ],
        options: &[],
    },
    Word {
        name: "off",
        does: Does::Act(Action::Switch(Switch::Off)),
        takes: "TARGET...",
        about: "switch outlets off",
        more: "Returns when the PDUs have confirmed it.",
        examples: &[
            ("pduclient off @board7", "the outlets of an alias"),
            (
                "pduclient off rack1:1-8 && echo all off",
                "goes on only if all are off",
            ),
        ],
        options: &[],
    },
    Word {
        name: "reboot",
        does: Does::Act(Action::Reboot),
        takes: "TARGET...",
        about: "switch outlets off and, after a pause, on",
        more: "The pause is the daemon's (5 seconds) unless --delay says otherwise.",
        examples: &[
            ("pduclient reboot @board7", "with the usual pause"),
            (
                "pduclient reboot rack1:3 --delay 10",
                "10 seconds without power",
            ),
        ],
        options: &["delay"],
    },
    Word {
        name: "requests",
        does: Does::Requests,
        takes: "",
        about: "show the latest requests; follow or cancel one",
        more: "The daemon remembers the latest requests of every client.",
        examples: &[
            ("pduclient requests", "the latest, newest first"),
            (
                "pduclient requests --follow 17",
                "wait until number 17 has ended",
            ),
            ("pduclient requests --cancel 17", "take it out of its queue"),
        ],
        options: &["follow", "cancel", "limit"],
    },
    // Hidden: for share/completions.
    Word {
        name: "complete",
        does: Does::Complete,
        takes: "pdus|aliases|outlets PDU|targets [BEGINNING]",
        about: "",
        more: "Prints names, one a line, for the completion of shells.",
        examples: &[],
        options: &[],
    },
    Word {
        name: "help",
        does: Does::Help,
        takes: "[WORD]",
        about: "",
        more: "Prints the help, as --help does.",
        examples: &[],
        options: &[],
    },
];

/// The names of other programs for our words.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cycle", "reboot"),
    ("get-status", "state"),
    ("jobs", "requests"),
    ("ls", "list"),
    ("queue", "requests"),
    ("read", "state"),
    ("reset", "reboot"),
    ("restart", "reboot"),
    ("show", "list"),
    ("start", "on"),
    ("status", "state"),
    ("stop", "off"),
];

/// The options of every word, and those of some.
pub(super) const OPTIONS: &[Opt] = &[
    opt(
        None,
        "daemon",
        Some("HOST[:PORT]"),
        "the daemon [$PDUDAEMON, else localhost]",
    ),
    opt(
        None,
        "token-file",
        Some("FILE"),
        "a file with the access token [$PDUDAEMON_TOKEN_FILE]",
    ),
    opt(
        None,
        "timeout",
        Some("SECONDS"),
        "longest wait for the answer [none: it comes when the work is done]",
    ),
    opt(None, "json", None, "print the daemon's answer as JSON"),
    opt(
        None,
        "delay",
        Some("SECONDS"),
        "the pause without power [the daemon's: 5]",
    ),
    opt(None, "aliases", None, "the aliases instead of the PDUs"),
    opt(
        None,
        "follow",
        Some("ID"),
        "wait until this request has ended; its result is the exit status",
    ),
    opt(
        None,
        "cancel",
        Some("ID"),
        "cancel this request, if it is still waiting",
    ),
    opt(None, "limit", Some("N"), "show at most this many [50]"),
    opt(Some('V'), "version", None, "print the version"),
    opt(Some('h'), "help", None, "print this help"),
];

/// Options that only some words have.
pub(super) const SOME: &[&str] = &["delay", "aliases", "follow", "cancel", "limit"];

/// The command line of a word, understood.
pub(super) struct Invocation {
    pub(super) api: Api,
    pub(super) words: Vec<String>,
    pub(super) json: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) delay: Option<Delay>,
    pub(super) aliases: bool,
    pub(super) follow: Option<String>,
    pub(super) cancel: Option<String>,
    pub(super) limit: u32,
}

/// The complaint about a word that is none, with the one that it may mean, or all.
pub(super) fn no_such(word: &str) -> String {
    let shown = || WORDS.iter().filter(|word| !word.about.is_empty());
    let elsewhere = ELSEWHERE.iter().find(|(other, _)| *other == word);
    let hint = match elsewhere {
        Some((_, ours)) => format!(", did you mean {ours}?"),
        None => did_you_mean(word, "", shown().map(|word| word.name)),
    };
    if !hint.is_empty() {
        return format!("there is no word {word:?}{hint}");
    }
    let names: Vec<&str> = shown().map(|word| word.name).collect();
    format!(
        "there is no word {word:?}: expected one of {}",
        names.join(", ")
    )
}

/// The command line with a word for one with too few of the old options.
pub(super) fn meant(word: Option<&str>, target: &str) -> String {
    let ours = |name: &str| ELSEWHERE.iter().find(|(other, _)| *other == name);
    let name = word.map(|name| ours(name).map_or(name, |(_, ours)| ours));
    let word = WORDS
        .iter()
        .filter(|word| matches!(word.does, Does::Act(_)))
        .find(|word| Some(word.name) == name);
    match word {
        Some(word) => format!("{} {target}", word.name),
        None => format!("on {target}"),
    }
}

impl Word {
    pub(super) fn usage(&self) -> String {
        let takes = match self.takes {
            "" => String::new(),
            takes => format!(" {takes}"),
        };
        format!("pduclient {}{takes} [options]", self.name)
    }

    pub(super) fn help(&self) -> String {
        let mut text = format!("Usage: {}\n\n", self.usage());
        if !self.about.is_empty() {
            text.push_str(&format!("{}: {}.\n", self.name, self.about));
        }
        text.push_str(self.more);
        if matches!(self.does, Does::Act(_)) {
            text.push_str(&format!("\n\n{TARGETS}"));
        }
        if !self.examples.is_empty() {
            text.push_str("\n\nExamples:");
            for (command, about) in self.examples {
                text.push_str(&format!("\n  {command:<42} {about}"));
            }
        }
        text.push_str("\n\nOptions:\n");
        for opt in OPTIONS.iter().chain(&tls::OPTIONS) {
            if !SOME.contains(&opt.long) || self.options.contains(&opt.long) {
                text.push_str(&options::table(std::slice::from_ref(opt)));
            }
        }
        text.push_str(
            "\nExit status: 0 all done, 127 refused or failed, all or some, 1 no daemon, 2 wrong usage.",
        );
        text
    }
}

/// The words as the client's own help shows them.
pub(super) fn summary() -> String {
    let mut text = String::new();
    for word in WORDS.iter().filter(|word| !word.about.is_empty()) {
        let shown = format!("{} {}", word.name, word.takes);
        text.push_str(&format!("  pduclient {shown:<20} {}\n", word.about));
    }
    text.push_str(
        "  TARGET is PDU:OUTLETS or @ALIAS, with ranges: rack1:1-8,12 or 'rack[1-4]:3'.\n  \
         pduclient WORD --help says more, with examples.",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        for word in WORDS {
            for name in word.options {
                assert!(OPTIONS.iter().any(|opt| opt.long == *name), "{name}");
                assert!(SOME.contains(name), "{name}");
            }
            let help = word.help();
            assert!(help.contains("Usage: pduclient"), "{help}");
            for line in help.lines().chain(summary().lines()) {
                assert!(line.chars().count() <= 100, "{line}");
            }
        }
    }
}
