//! The command line of a word: finds the word, reads its options, and hands it to the function that
//! carries it out.

use super::api::Api;
use super::words::{Does, Invocation, OPTIONS, SOME, WORDS, Word, no_such};
use super::{Ending, act, legacy, look, tls, token};
use crate::cli::options::{self, UsageError};
use crate::request::Delay;
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::path::Path;

/// The word of a command line, unless the line is one of the old ones: those ignore every word, so
/// a word beside an option that only they have does not count.
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
            Ok(Some(Arg::Long(name))) => {
                options::find(&[legacy::OPTIONS, OPTIONS, &tls::OPTIONS], name).ok()
            }
            Ok(Some(Arg::Short('h'))) => Some("help"),
            Ok(Some(Arg::Short('V'))) => Some("version"),
            Ok(Some(Arg::Short('H'))) => Some("http"),
            Ok(Some(Arg::Short(_)) | None) | Err(_) => None,
        };
        match name {
            // The end, or a mistake that the word's own parser complains about.
            None => return word,
            // It means `list --aliases`, which takes no value.
            Some("alias") if word.is_some_and(|word| word.does == Does::List) => {}
            Some("hostname" | "port" | "alias" | "command" | "http") => return None,
            Some("help" | "version") if word.is_none() => return None,
            Some(name) => {
                let takes_value = OPTIONS
                    .iter()
                    .chain(&tls::OPTIONS)
                    .any(|opt| opt.long == name && opt.value.is_some());
                if takes_value && parser.value().is_err() {
                    return word;
                }
                // The word's parser refuses `--json=x`.
                let _ = parser.optional_value();
            }
        }
    }
}

/// The complaint about a command line whose first word is none of ours, and that has no option of
/// the old ones.
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
            Arg::Long(name) => options::find(&[legacy::OPTIONS, OPTIONS, &tls::OPTIONS], name),
        };
        match name {
            Ok("hostname" | "port" | "alias" | "command" | "http" | "help" | "version") => {
                return None;
            }
            Ok(
                "daemon" | "token-file" | "timeout" | "delay" | "follow" | "cancel" | "limit"
                | "ca" | "cert" | "key",
            ) => {
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

fn parse(word: &Word, args: Vec<OsString>) -> Result<Result<Invocation, Ending>, UsageError> {
    let mut parser = Parser::from_args(args);
    let (mut daemon, mut token_file, mut timeout, mut delay) = (None, None, None, None);
    let (mut json, mut aliases, mut follow, mut cancel, mut limit) = (false, false, None, None, 50);
    let mut words = Vec::new();
    let mut tls = tls::Wish::default();
    while let Some(arg) = parser.next()? {
        let name = match arg {
            Arg::Short(short) => OPTIONS
                .iter()
                .find(|opt| opt.short == Some(short))
                .map(|opt| opt.long),
            Arg::Long(name) => Some(options::find(&[OPTIONS, &tls::OPTIONS], name)?),
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
            _ if tls.take(name, &mut value)? => {}
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
    let tls = tls.grant().map_err(UsageError::new)?;
    let api = Api::new(&daemon, token, tls)
        .map_err(|reason| UsageError::new(format!("the daemon: {reason}")))?;
    Ok(Ok(Invocation {
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
