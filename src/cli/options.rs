//! The options of both programs: one table per program serves the parser, which takes abbreviations
//! as the Python programs do, and the help.

use crate::request::hint::did_you_mean;
use std::fmt;

/// A command line that makes no sense: a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl UsageError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

/// One option: everything the parser and the help know about it.
pub(crate) struct Opt {
    pub(crate) short: Option<char>,
    pub(crate) long: &'static str,
    /// The value's name in the help; none for a flag.
    pub(crate) value: Option<&'static str>,
    pub(crate) about: &'static str,
}

/// A row of an option table.
pub(crate) const fn opt(
    short: Option<char>,
    long: &'static str,
    value: Option<&'static str>,
    about: &'static str,
) -> Opt {
    Opt {
        short,
        long,
        value,
        about,
    }
}

/// The options as the help shows them.
pub(crate) fn table(opts: &[Opt]) -> String {
    let mut text = String::new();
    for opt in opts {
        let short = opt
            .short
            .map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let value = opt
            .value
            .map(|value| format!(" {value}"))
            .unwrap_or_default();
        text.push_str(&format!(
            "  {short}{:<26} {}\n",
            format!("--{}{value}", opt.long),
            opt.about
        ));
    }
    text
}

/// The option that `name` means: itself, or the only one that begins so.
pub(crate) fn find(tables: &[&'static [Opt]], name: &str) -> Result<&'static str, UsageError> {
    let all = || tables.iter().copied().flatten().map(|opt| opt.long);
    if let Some(exact) = all().find(|long| *long == name) {
        return Ok(exact);
    }
    let matching: Vec<&str> = all().filter(|long| long.starts_with(name)).collect();
    match matching.as_slice() {
        [one] => Ok(one),
        [] => {
            let hint = did_you_mean(name, "--", all());
            Err(UsageError(format!("unknown option --{name}{hint}")))
        }
        several => {
            let several: Vec<String> = several.iter().map(|long| format!("--{long}")).collect();
            Err(UsageError(format!(
                "ambiguous option --{name}: could be {}",
                several.join(", ")
            )))
        }
    }
}
