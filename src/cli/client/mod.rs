//! `pduclient`: asks a daemon, ours or the Python one, on behalf of a person or a script.
//!
//! | file | job |
//! | --- | --- |
//! | `legacy` | the options of every release: one outlet, the line protocol or `-H` |
//! | `words` | the table of `list`, `on`, `off` …, and the help from it |
//! | `parse` | the command line of a word, and who carries it out |
//! | `api` | one exchange with the daemon's `/api/v1`, and its answers |
//! | `act` | `state`, `on`, `off`, `reboot` |
//! | `look` | `list`, `requests`, and the names that completion asks for |
//! | `show` | tables, colours, times, and texts made fit for a terminal |
//! | `tls` | TLS to the daemon |
//! | `progress` | the line on a terminal that says what the client waits for |

mod act;
mod api;
mod legacy;
mod look;
mod parse;
mod progress;
mod show;
mod tls;
mod words;

use crate::settings::Secret;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The port of every release.
const PORT: u16 = 16421;
/// How long one address of the daemon may take to accept.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// The longest token.
const MAX_TOKEN: usize = 4096;

/// The last words of the process, and its exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// For standard output, without the last newline.
    pub out: Option<String>,
    /// For standard error, without the last newline.
    pub err: Option<String>,
    /// 0 done, 127 refused or failed (all or some), 1 no daemon or an option missing, 2 wrong
    /// usage.
    pub code: u8,
}

impl Ending {
    fn say(code: u8, text: impl Into<String>) -> Self {
        Self {
            out: Some(text.into()),
            err: None,
            code,
        }
    }

    fn complain(code: u8, text: impl Into<String>) -> Self {
        Self {
            out: None,
            err: Some(text.into()),
            code,
        }
    }
}

/// Reads the arguments behind the program's name and asks.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Ending {
    let args: Vec<OsString> = args.into_iter().collect();
    match parse::find(&args) {
        Some(word) => parse::run(word, args),
        None => parse::mistyped(&args).unwrap_or_else(|| legacy::run(args)),
    }
}

/// The access token in the file, or in the one that `PDUDAEMON_TOKEN_FILE` names. No option takes
/// it, because every user of the machine can read command lines.
fn token(file: Option<&Path>) -> Result<Option<Secret>, String> {
    let named = || std::env::var_os("PDUDAEMON_TOKEN_FILE").filter(|name| !name.is_empty());
    let Some(file) = file.map(PathBuf::from).or_else(|| named().map(Into::into)) else {
        return Ok(None);
    };
    let shown = file.display();
    let mut text = String::new();
    File::open(&file)
        .and_then(|open| open.take(MAX_TOKEN as u64 + 1).read_to_string(&mut text))
        .map_err(|error| format!("token file {shown}: {error}"))?;
    let token = text.trim();
    if token.is_empty() || text.len() > MAX_TOKEN || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!(
            "token file {shown}: expected one token of at most {MAX_TOKEN} visible ASCII characters"
        ));
    }
    Ok(Some(Secret::new(token)))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}
