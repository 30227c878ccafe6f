//! The client's process edge.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let ending = pdudaemon::cli::client::run(std::env::args_os().skip(1));
    // A reader that has left (`pduclient list | head -1`) is no failure of the request.
    if let Some(text) = ending.out {
        let _ = writeln!(std::io::stdout(), "{text}");
    }
    if let Some(text) = ending.err {
        let _ = writeln!(std::io::stderr(), "{text}");
    }
    ExitCode::from(ending.code)
}
