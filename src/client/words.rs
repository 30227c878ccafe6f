//! The words: `pduclient list`, `on rack1:3` … One table has all that parsing, help and
//! completion know about each.

use super::api::Api;
use super::{Ending, act, legacy, look, token};
use crate::hint::did_you_mean;
use crate::options::{self, Opt, UsageError, opt};
use crate::request::{Action, Delay, Switch};
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::path::Path;
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
    name: &'static str,
    does: Does,
    /// What follows it.
    takes: &'static str,
    about: &'static str,
    /// Paragraphs of its own help.
    more: &'static str,
    examples: &'static [(&'static str, &'static str)],
    /// Its options beside those that all words have.
    options: &'static [&'static str],
}

const TARGETS: &str = "\
TARGET is PDU:OUTLETS or @ALIAS. Both take ranges: rack1:1-8,12 or rack[1-4]-pdu:3 or
pdu[01-12,20]:01-08 (quote [ ] for the shell). Different PDUs are worked on side by side; nothing
is switched unless every target makes sense. At most 1024 outlets at once.";

const WORDS: &[Word] = &[
    Word {
        name: "list",
        does: Does::List,
        takes: "[PDU...]",
        about: "the PDUs, or the outlets of some, as last known",
        more: "Asks no PDU: what is shown is what was last read or switched, and when.",
        examples: &[
            (
                "pduclient list",
                "every PDU, whether it answers, what waits",
            ),
            (
                "pduclient list rack1",
                "rack1's outlets and their last known states",
            ),
            ("pduclient list 'rack[1-4]-pdu'", "those of four PDUs"),
            (
                "pduclient list --aliases",
                "aliases and what they stand for",
            ),
        ],
        options: &["aliases"],
    },
    Word {
        name: "state",
        does: Does::Act(Action::State),
        takes: "TARGET...",
        about: "read from the PDU whether outlets are on or off",
        more: "For one outlet only the state is printed, for several a line each.",
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
            ("pduclient off @board7", "what hangs on an alias"),
            (
                "pduclient off rack1:1-8 && echo all off",
                "the exit status tells",
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
        about: "what the daemon is doing and has done; follow or cancel one",
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

/// What other programs call our words.
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
const OPTIONS: &[Opt] = &[
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
    opt(None, "limit", Some("N"), "show at most so many [50]"),
    opt(Some('V'), "version", None, "print the version"),
    opt(Some('h'), "help", None, "print this help"),
];

/// Options that only some words have.
const SOME: &[&str] = &["delay", "aliases", "follow", "cancel", "limit"];

/// One word's request, as meant.
pub(super) struct Call {
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

/// The word of a command line, when it is not one of the old ones: those ignore every word, so
/// with an option that only they have the word counts for nothing.
pub(super) fn find(args: &[OsString]) -> Option<&'static Word> {
    let mut parser = Parser::from_args(args);
    let mut word = None;
    loop {
        let name = match parser.next() {
            Ok(Some(Arg::Value(value))) => {
                if word.is_none() {
                    word = Some(WORDS.iter().find(|word| value == word.name)?);
                }
                continue;
            }
            Ok(Some(Arg::Long(name))) => options::find(&[legacy::OPTIONS, OPTIONS], name).ok(),
            Ok(Some(Arg::Short('h'))) => Some("help"),
            Ok(Some(Arg::Short('V'))) => Some("version"),
            Ok(Some(Arg::Short('H'))) => Some("http"),
            Ok(Some(Arg::Short(_)) | None) | Err(_) => None,
        };
        match name {
            // The end, or something that the word's own parser shall complain about.
            None => return word,
            // What `list --aliases` means; it takes no value there.
            Some("alias") if word.is_some_and(|word| word.does == Does::List) => {}
            Some("hostname" | "port" | "alias" | "command" | "http") => return None,
            Some("help" | "version") if word.is_none() => return None,
            Some(name) => {
                let takes_value = OPTIONS
                    .iter()
                    .any(|opt| opt.long == name && opt.value.is_some());
                if takes_value && parser.value().is_err() {
                    return word;
                }
                // `--json=x` is the word's parser's to refuse.
                let _ = parser.optional_value();
            }
        }
    }
}

/// The complaint about a command line whose first word is none of ours, and which has no option
/// that would make it one of the old ones.
pub(super) fn mistyped(args: &[OsString]) -> Option<Ending> {
    let mut parser = Parser::from_args(args);
    let mut word = None;
    while let Ok(Some(arg)) = parser.next() {
        let name = match arg {
            Arg::Value(value) => {
                word = word.or(Some(value));
                continue;
            }
            Arg::Short('H' | 'h' | 'V') => return None,
            Arg::Short(_) => continue,
            Arg::Long(name) => options::find(&[legacy::OPTIONS, OPTIONS], name),
        };
        match name {
            Ok("hostname" | "port" | "alias" | "command" | "http" | "help" | "version") => {
                return None;
            }
            Ok("daemon" | "token-file" | "timeout" | "delay" | "follow" | "cancel" | "limit") => {
                let _ = parser.value();
            }
            Ok(_) | Err(_) => {
                let _ = parser.optional_value();
            }
        }
    }
    let word = word?;
    Some(Ending::complain(
        2,
        format!(
            "Usage: pduclient WORD [options]\n\npduclient: error: {}",
            no_such(&word.to_string_lossy())
        ),
    ))
}

/// There is no such word; which one was meant, or which there are.
fn no_such(word: &str) -> String {
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

/// The command line with a word that does what old options without all of them may have meant.
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

/// `help`, and `help on`.
fn help(words: &[String]) -> Ending {
    let Some(asked) = words.first() else {
        return Ending::say(0, legacy::help().trim_end());
    };
    match WORDS.iter().find(|word| word.name == asked) {
        Some(word) => Ending::say(0, word.help()),
        None => Ending::complain(2, format!("pduclient: error: {}", no_such(asked))),
    }
}

/// Carries out a command line that has this word.
pub(super) fn run(word: &'static Word, args: Vec<OsString>) -> Ending {
    let call = match parse(word, args) {
        Ok(Ok(call)) => call,
        Ok(Err(ending)) => return ending,
        Err(error) => {
            return Ending::complain(
                2,
                format!("Usage: {}\n\npduclient: error: {error}", word.usage()),
            );
        }
    };
    match word.does {
        Does::List => look::list(&call),
        Does::Act(action) => act::act(&call, action),
        Does::Requests => look::requests(&call),
        Does::Complete => look::complete(&call),
        Does::Help => help(&call.words),
    }
}

fn parse(word: &Word, args: Vec<OsString>) -> Result<Result<Call, Ending>, UsageError> {
    let mut parser = Parser::from_args(args);
    let (mut daemon, mut token_file, mut timeout, mut delay) = (None, None, None, None);
    let (mut json, mut aliases, mut follow, mut cancel, mut limit) = (false, false, None, None, 50);
    let mut words = Vec::new();
    while let Some(arg) = parser.next()? {
        let name = match arg {
            Arg::Short(short) => OPTIONS
                .iter()
                .find(|opt| opt.short == Some(short))
                .map(|opt| opt.long),
            Arg::Long(name) => Some(options::find(&[OPTIONS], name)?),
            Arg::Value(value) => {
                words.push(value.string().map_err(|_| not_text("a target"))?);
                continue;
            }
        };
        let Some(name) = name else {
            return Err(arg.unexpected().into());
        };
        if SOME.contains(&name) && !word.options.contains(&name) {
            return Err(UsageError::new(format!(
                "--{name} does not go with {}",
                word.name
            )));
        }
        let mut value = || -> Result<String, UsageError> {
            parser
                .value()
                .map_err(|_| UsageError::new(format!("--{name}: expected a value")))?
                .string()
                .map_err(|_| not_text(&format!("--{name}")))
        };
        let seconds = |text: String| -> Result<Delay, UsageError> {
            text.parse()
                .map_err(|_| UsageError::new(format!("--{name}: expected seconds, got {text:?}")))
        };
        match name {
            "help" => return Ok(Err(Ending::say(0, word.help()))),
            "version" => {
                return Ok(Err(Ending::say(
                    0,
                    concat!("pduclient ", env!("CARGO_PKG_VERSION")),
                )));
            }
            "json" => json = true,
            "aliases" => aliases = true,
            "daemon" => daemon = Some(value()?),
            "token-file" => token_file = Some(value()?),
            "follow" => follow = Some(value()?),
            "cancel" => cancel = Some(value()?),
            "delay" => delay = Some(seconds(value()?)?),
            "timeout" => timeout = Some(seconds(value()?)?.duration()),
            "limit" => {
                let text = value()?;
                limit = text.parse().map_err(|_| {
                    UsageError::new(format!("--limit: expected a number, got {text:?}"))
                })?;
            }
            _ => return Err(UsageError::new(format!("no such option: --{name}"))),
        }
    }
    // The word itself.
    words.remove(0);
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Err(UsageError::new("--timeout: expected more than 0 seconds"));
    }
    if word.takes.is_empty() && !words.is_empty() {
        return Err(UsageError::new(format!(
            "{} takes no {:?}",
            word.name,
            words.join(" ")
        )));
    }
    if follow.is_some() && cancel.is_some() {
        return Err(UsageError::new("--follow or --cancel, not both"));
    }
    let daemon = daemon
        .or_else(|| std::env::var("PDUDAEMON").ok())
        .filter(|daemon| !daemon.is_empty())
        .unwrap_or_else(|| "localhost".into());
    let token = token(token_file.as_deref().map(Path::new)).map_err(UsageError::new)?;
    let api = Api::new(&daemon, token)
        .map_err(|reason| UsageError::new(format!("the daemon: {reason}")))?;
    Ok(Ok(Call {
        api,
        words,
        json,
        timeout,
        delay,
        aliases,
        follow,
        cancel,
        limit,
    }))
}

fn not_text(what: &str) -> UsageError {
    UsageError::new(format!("{what}: expected UTF-8 text"))
}

impl Word {
    fn usage(&self) -> String {
        let takes = match self.takes {
            "" => String::new(),
            takes => format!(" {takes}"),
        };
        format!("pduclient {}{takes} [options]", self.name)
    }

    fn help(&self) -> String {
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
        for opt in OPTIONS {
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
         pduclient WORD --help tells more, with examples.",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(args: &str) -> Option<&'static str> {
        let args: Vec<OsString> = args.split_whitespace().map(OsString::from).collect();
        find(&args).map(|word| word.name)
    }

    #[test]
    fn old_command_lines_stay_old() {
        for old in [
            "",
            "-h",
            "--version on",
            "nonsense on a:1",
            "--daemon on",
            "--daemon h --hostname p --port 1 --command on",
            "on --daemon h --hostname p --port 1 --command on",
            "--daemon h --host p --port 1 --comm on off",
            "-H on a:1",
            "--nonsense on a:1",
            "list --alias a --command on --http",
            "on --alias board7",
        ] {
            assert_eq!(word(old), None, "{old}");
        }
        for (new, expected) in [
            ("list", "list"),
            ("on a:1", "on"),
            ("--daemon h --json off a:1 b:2", "off"),
            ("--daemon=h state a:1", "state"),
            ("list -h", "list"),
            ("requests --nonsense", "requests"),
            ("reboot --delay", "reboot"),
            ("list --alias", "list"),
            ("help on", "help"),
            ("on -- --hostname", "on"),
        ] {
            assert_eq!(word(new), Some(expected), "{new}");
        }
    }

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

    #[test]
    fn wrong_words_are_told_with_the_usage() {
        for (args, told) in [
            ("on", "expected"),
            ("on rack1", r#""rack1": expected PDU:OUTLETS or @ALIAS"#),
            ("on board7", "did you mean @board7, or board7:1?"),
            ("off a:1 rack1 3", "did you mean rack1:3?"),
            ("onn a:1", r#"there is no word "onn", did you mean on?"#),
            ("--daemon h status a:1", "did you mean state?"),
            ("statte a:1 --json", "did you mean state?"),
            ("restart a:1", "did you mean reboot?"),
            (
                "frobnicate --nonsense",
                "expected one of list, state, on, off, reboot, requests",
            ),
            ("help offf", "did you mean off?"),
            ("off p:3-1", "the smaller number first"),
            ("on a:1 --delay 3", "--delay does not go with on"),
            ("reboot a:1 --delay soon", "--delay: expected seconds"),
            ("list --follow 1", "--follow does not go with list"),
            ("requests 17", "takes no"),
            ("requests --follow 1 --cancel 2", "not both"),
            ("requests --limit x", "--limit: expected a number"),
            ("state a:1 --timeout 0", "more than 0"),
            ("state a:1 --jsno", "did you mean --json"),
            ("state a:1 --daemon a/b", "the daemon: expected a host"),
            ("list --token-file /nonexistent/token", "token file"),
        ] {
            let ending = super::super::run(args.split_whitespace().map(OsString::from));
            let text = ending.err.unwrap_or_default();
            assert!(text.contains(told), "{args}: {text}");
            assert_eq!((ending.code, ending.out), (2, None), "{args}");
        }
    }

    #[test]
    fn help_is_a_word_too() {
        for (args, told) in [
            ("help", "pduclient --daemon HOST --hostname PDU"),
            ("help reboot", "Usage: pduclient reboot"),
        ] {
            let ending = super::super::run(args.split_whitespace().map(OsString::from));
            assert_eq!((ending.code, ending.err), (0, None), "{args}");
            assert!(ending.out.is_some_and(|text| text.contains(told)), "{args}");
        }
    }
}
