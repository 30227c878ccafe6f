//! The daemon's process edge: arguments, config, logging, exit code. The only file of the daemon
//! that prints or exits.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is where the process speaks"
)]

use log::LevelFilter;
use pdudaemon::cli::daemon::{self as cli, Cli, Detect, Job, Try};
use pdudaemon::cli::health;
use pdudaemon::config::{self, Config, Findings};
use pdudaemon::daemon;
use pdudaemon::daemon::logging::{self, Logging, Output};
use pdudaemon::driver::detect::{self, Ask};
use pdudaemon::driver::registry;
use pdudaemon::driver::trial::Trial;
use pdudaemon::driver::{discover, docs, ways};
use pdudaemon::request::{Outlet, count};
use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    // When ssh starts it, it answers ssh's question for a password and does nothing else.
    if let Some(code) = pdudaemon::transport::ssh::askpass_main() {
        return code;
    }
    let cli = match Cli::parse(std::env::args_os().skip(1)) {
        Ok(cli) => cli,
        Err(error) => {
            eprintln!("pdudaemon: {error}\nTry pdudaemon --help");
            return ExitCode::from(2);
        }
    };
    match &cli.job {
        Job::Help => print!("{}", cli::help()),
        Job::Version => println!("pdudaemon {}", env!("CARGO_PKG_VERSION")),
        Job::ListDrivers { word } => {
            let word = word.as_deref().unwrap_or_default();
            let listed = docs::list_drivers(registry::all().filter(|spec| spec.speaks_of(word)));
            if listed.is_empty() {
                eprintln!(
                    "ERROR: no driver speaks of {word:?}{}. snmpv1, snmpv2c and snmpv3 switch any device \
                     that speaks SNMP, localcmdline switches with a program of yours, and a profile of \
                     your own is a text file: pdudaemon-profile(5)",
                    ways::for_maker(word)
                );
                return ExitCode::FAILURE;
            }
            print!("{listed}");
        }
        Job::Discover => match discover::discover() {
            Ok(found) => print!("{found}"),
            Err(error) => return failed(&error),
        },
        Job::Detect(wanted) => return detect(wanted),
        Job::Try(wanted) => return try_out(wanted),
        Job::Check { .. } | Job::Health | Job::Serve | Job::Drive(_) => return with_config(cli),
    }
    ExitCode::SUCCESS
}

/// The errors and warnings about the config file.
fn print(findings: &Findings) {
    for warning in &findings.warnings {
        eprintln!("WARNING: {warning}");
    }
    for error in &findings.errors {
        eprintln!("ERROR: {error}");
    }
}

/// Says why nothing came of it.
fn failed(error: &dyn Display) -> ExitCode {
    eprintln!("ERROR: {error}");
    ExitCode::FAILURE
}

/// Looks for the profile of a PDU, and prints what was seen.
fn detect(wanted: &Detect) -> ExitCode {
    let ask = if wanted.http { Ask::Http } else { Ask::Snmp };
    let mut set = wanted.set.clone();
    // What is asked only reads.
    if !wanted.http
        && !set
            .iter()
            .any(|(key, _)| ["community", "username"].contains(&&**key))
    {
        set.push(("community".to_owned(), "public".to_owned()));
    }
    let settings = match config::settings_of_one(&wanted.host, &set, &ask.keys()) {
        Ok(settings) => settings,
        Err(error) => return failed(&error),
    };
    let folders = [config::DEFAULT_PROFILES.into()];
    match detect::detect(&wanted.host, ask, &settings, &folders) {
        Ok(seen) => {
            print!("{seen}");
            if seen.is_known() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => failed(&error),
    }
}

/// Carries out one action with a profile, and prints what was said.
fn try_out(wanted: &Try) -> ExitCode {
    let config = match Config::of_one(&wanted.profile, wanted.hostname.as_deref(), &wanted.set) {
        Ok(config) => config,
        Err(findings) => {
            print(&findings);
            return ExitCode::FAILURE;
        }
    };
    print(&config.findings);
    for unproved in config.prove() {
        eprintln!("WARNING: {unproved}");
    }
    let Some(Ok(pdu)) = config.pdus.values().next() else {
        return ExitCode::FAILURE;
    };
    let Some(scribe) = pdu.spec.build.scribe() else {
        let what = format!(
            "{} is no profile: --drive carries out requests",
            wanted.profile
        );
        return failed(&what);
    };
    let outlet = match pdu.outlets.parse(&Outlet::new(wanted.outlet.as_str())) {
        Ok(outlet) => outlet,
        Err(error) => return failed(&error),
    };
    let trial = Trial {
        scribe,
        settings: &pdu.settings,
        outlet: &outlet,
        to: wanted.to,
        confirm: pdu.confirm,
        timeout: pdu.timeout,
    };
    let tried = match trial.run() {
        Ok(tried) => tried,
        Err(error) => return failed(&error),
    };
    if let Some((test, fails)) = &tried.test {
        print!("{test}");
        if let Some(why) = fails {
            eprintln!("WARNING: this dialogue does not pass as a test: {why}");
        }
    }
    match tried.outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn with_config(cli: Cli) -> ExitCode {
    let mut config = match Config::load(&cli.conf) {
        Ok(config) => config,
        Err(findings) => {
            print(&findings);
            return ExitCode::FAILURE;
        }
    };
    // Whoever asks every half minute wants no list of warnings.
    if cli.job != Job::Health {
        print(&config.findings);
    }
    if let Job::Check { strict } = cli.job {
        let Findings { errors, warnings } = &config.findings;
        let unproved = config.prove();
        for error in &unproved {
            eprintln!("ERROR: {error}");
        }
        let is_right = errors.is_empty() && unproved.is_empty();
        let passes = is_right && (warnings.is_empty() || !strict);
        if passes {
            println!(
                "{}: {}, {}, {}",
                cli.conf.display(),
                count(config.pdus.len(), "PDU", "PDUs"),
                count(
                    config.aliases.as_ref().map_or(0, HashMap::len),
                    "alias",
                    "aliases"
                ),
                count(warnings.len(), "warning", "warnings"),
            );
        }
        return if passes {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    if let Some(listener) = cli.listener {
        config.daemon.protocols = listener;
    }
    if cli.job == Job::Health {
        return match health::ask(&config.daemon) {
            Ok(status) => {
                println!("{status}");
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        };
    }
    let output = match (cli.journal, cli.logfile) {
        (true, _) => Output::Journal,
        (false, Some(file)) => Output::File(file),
        (false, None) => Output::Stdout,
    };
    // A driven request answers by its exit status and, for a state, by one word on standard output.
    let usual = if matches!(cli.job, Job::Drive(_)) {
        LevelFilter::Warn
    } else {
        LevelFilter::Info
    };
    let level = cli
        .loglevel
        .or(config.daemon.logging_level)
        .unwrap_or(usual);
    let logging = match logging::start(&output, level) {
        Ok(logging) => logging,
        Err(error) => return failed(&error),
    };
    let code = carry_out(cli.job, config, &cli.conf, &logging);
    log::logger().flush();
    code
}

fn carry_out(job: Job, config: Config, path: &Path, logging: &Logging) -> ExitCode {
    match job {
        Job::Drive(drive) => match daemon::drive(config, drive) {
            Ok(Ok(done)) => {
                if let Some(state) = done.state {
                    println!("{state}");
                    if matches!(state, pdudaemon::request::State::Unknown(_)) {
                        return ExitCode::FAILURE;
                    }
                }
                ExitCode::SUCCESS
            }
            Ok(Err(failure)) => failed(&failure),
            Err(error) => failed(&error),
        },
        Job::Serve
        | Job::Check { .. }
        | Job::Discover
        | Job::Health
        | Job::Detect(_)
        | Job::Try(_)
        | Job::ListDrivers { .. }
        | Job::Help
        | Job::Version => match daemon::run(config, path, logging) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                log::error!("{error}");
                failed(&error)
            }
        },
    }
}
