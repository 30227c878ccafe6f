//! The client's process edge.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is where the process speaks"
)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let ending = pdudaemon::client::run(std::env::args_os().skip(1));
    if ending.is_usage {
        eprintln!("{}", ending.text);
    } else {
        println!("{}", ending.text);
    }
    ExitCode::from(ending.code)
}
