//! The daemon: starts the stations right to left, waits, stops them left to right. And `drive`:
//! the same dispatcher and worker for one request.

pub mod logging;
mod signals;
mod systemd;

use crate::cli::daemon::Drive;
use crate::config::{Alias, Config, DaemonConfig, Findings};
use crate::daemon::logging::Logging;
use crate::dispatch::{self, Dispatcher, Stop};
use crate::listener::Listeners;
use crate::request::{Failure, FailureKind, Outcome, Outlet, Request, Target, count};
use crate::transport::children;
use crossbeam_channel::RecvTimeoutError;
use log::{error, info, warn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signals::Signal;
use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often we look at workers, threads and the journal, at least.
const ROUND: Duration = Duration::from_secs(10);
/// How often we look at the workers while the daemon stops.
const LOOK: Duration = Duration::from_millis(10);
/// When we look for the first time: idle workers end at once.
const FIRST_LOOK: Duration = Duration::from_micros(50);
/// How long answers may take to reach their clients once the last job is done.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Runs until a signal ends it. SIGHUP loads the file at `path` again. Fails when it cannot start:
/// an address in use, no threads.
pub fn run(mut config: Config, path: &Path, logging: &Logging) -> io::Result<()> {
    info!(target: "pdud", "PDUDaemon starting up");
    if let Some(Err(error)) = &config.daemon.tls {
        return Err(io::Error::other(format!("nothing is served: {error}")));
    }
    let signals = signals::receive()?;
    raise_descriptor_limit();
    children::adopt()?;
    // As the file has it, to know later what has changed.
    let mut written = config.daemon.clone();
    if config.daemon.state_directory.is_none() {
        // systemd's StateDirectory=; of a list, the first.
        let given = std::env::var_os("STATE_DIRECTORY").filter(|path| !path.is_empty());
        config.daemon.state_directory =
            given.and_then(|paths| std::env::split_paths(&paths).next());
    }
    let dispatcher = Arc::new(Dispatcher::start(&config)?);
    dispatcher.recover();
    let log = logging.clone();
    dispatcher.metrics().watch_log(move || log.health());
    dispatcher.metrics().tell_tls(expires(&config.daemon), None);
    let mut listeners = match Listeners::start(&config.daemon, &dispatcher) {
        Ok(listeners) => listeners,
        Err(error) => {
            dispatcher.stop(Stop::Now);
            dispatcher.join();
            return Err(error);
        }
    };
    info!(target: "pdud", "{}, ready", readiness(&config));
    drop(config);
    systemd::ready();

    let beat = systemd::alive_interval().map_or(ROUND, |beat| beat.min(ROUND));
    let mut look_due = Instant::now() + beat;
    loop {
        // The looks have times of their own, however many signals come.
        if Instant::now() >= look_due {
            look_due = Instant::now() + beat;
            dispatcher.take_over();
            match listeners.stuck().as_slice() {
                [] => systemd::alive(),
                stuck => {
                    let stuck = stuck.join(", ");
                    warn!("no sign of life from {stuck}: systemd's watchdog gets none either");
                }
            }
        }
        match signals.recv_deadline(look_due) {
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(Signal::Reload) => {
                // One reload serves all that have asked by now.
                if signals.try_iter().any(|signal| signal == Signal::Stop) {
                    break;
                }
                logging.reopen();
                systemd::reloading();
                reload(path, &mut written, &dispatcher, &listeners);
                systemd::ready();
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }

    info!(target: "pdud", "Signal received, shutting down...");
    systemd::stopping();
    listeners.drain();
    stop(&dispatcher, &signals);
    listeners.end(LAST_ANSWERS);
    info!(target: "pdud", "stopped");
    Ok(())
}

/// How many PDUs there are, and how many of them are served.
fn readiness(config: &Config) -> String {
    let all = count(config.pdus.len(), "PDU", "PDUs");
    match config.pdus.values().filter(|pdu| pdu.is_err()).count() {
        0 => all,
        broken => format!("{all}, {broken} of them with settings that cannot work"),
    }
}

/// Logs the errors and warnings about the config file.
fn tell(findings: &Findings) {
    for warning in &findings.warnings {
        warn!("{warning}");
    }
    for error in &findings.errors {
        error!("{error}");
    }
}

/// Loads the config file again. A file that cannot work changes nothing.
fn reload(path: &Path, written: &mut DaemonConfig, dispatcher: &Dispatcher, listeners: &Listeners) {
    if path == Path::new("-") {
        return warn!("the config came from standard input: the daemon cannot load it again");
    }
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(findings) => {
            tell(&findings);
            return error!("the config is not loaded again, nothing has changed");
        }
    };
    tell(&config.findings);
    if let Err(error) = dispatcher.reload(&config) {
        return error!("the config is not loaded again, nothing has changed: {error}");
    }
    let mut new = config.daemon;
    follow_tls(&mut new, written, dispatcher, listeners);
    if new.limits != written.limits {
        listeners.set_limits(&new.limits);
    }
    if new.access != written.access {
        listeners.set_access(&new.access);
    }
    let before = std::mem::replace(written, new);
    let restart = [
        ("hostname", before.listen != written.listen),
        ("port", before.port != written.port),
        ("listener", before.protocols != written.protocols),
        (
            "logging_level",
            before.logging_level != written.logging_level,
        ),
        (
            "state_directory",
            before.state_directory != written.state_directory,
        ),
    ];
    for (key, _) in restart.iter().filter(|(_, changed)| *changed) {
        warn!("daemon.{key} has changed: it takes a restart to follow that");
    }
}

/// When the certificate ends, in seconds since 1970, where there is one.
fn expires(served: &DaemonConfig) -> Option<i64> {
    served.served_tls().map(|tls| tls.expires.as_second())
}

/// Speaks TLS as the new config says. What was spoken before stays when that cannot be done.
fn follow_tls(
    new: &mut DaemonConfig,
    served: &DaemonConfig,
    dispatcher: &Dispatcher,
    listeners: &Listeners,
) {
    let (mut ends, mut trouble) = (expires(new), None);
    if let Some(Err(error)) = &new.tls {
        let text = format!("{error}; what was served before the reload is served on");
        error!("{text}");
        (ends, trouble) = (expires(served), Some(text));
        new.tls.clone_from(&served.tls);
    } else if new.tls != served.tls {
        listeners.set_tls(new.served_tls());
        info!(target: "pdud.listener", "TLS has changed");
    }
    dispatcher.metrics().tell_tls(ends, trouble);
}

/// Stops the workers. They finish what runs and every reboot that has begun; a second signal
/// shortens pauses and retries.
fn stop(dispatcher: &Dispatcher, signals: &crossbeam_channel::Receiver<Signal>) {
    dispatcher.stop(Stop::Soon);
    let mut look = FIRST_LOOK;
    while !dispatcher.is_finished() {
        let signal = signals.recv_timeout(look);
        look = (look * 2).min(LOOK);
        if let Ok(Signal::Stop) = signal {
            warn!("a second signal: the daemon cuts pauses short");
            dispatcher.stop(Stop::Now);
        }
        systemd::alive();
    }
    dispatcher.join();
}

/// As many descriptors as the system lets us have: connections take several each.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!("the limit of open files stays {:?}: {error}", limit.current);
    }
}

/// Carries out one request without a daemon, through the same dispatcher and worker.
pub fn drive(mut config: Config, drive: Drive) -> io::Result<Outcome> {
    let target = match (drive.alias, drive.hostname, drive.port) {
        (Some(alias), ..) => Target::Alias(alias),
        (None, Some(pdu), Some(port)) => Target::Outlet {
            pdu,
            outlet: Outlet::new(port),
        },
        (None, ..) => {
            let failure = Failure::new(
                FailureKind::BadRequest,
                "expected a PDU and an outlet, or an alias",
            );
            return Ok(Err(failure));
        }
    };
    let wanted: HashSet<String> = match &target {
        Target::Outlet { pdu, .. } => HashSet::from([pdu.clone()]),
        Target::Alias(alias) => match config.aliases.as_ref().and_then(|all| all.get(alias)) {
            Some(Alias::Outlets(outlets)) => {
                outlets.iter().map(|(pdu, _)| pdu.to_string()).collect()
            }
            Some(Alias::Dead(_)) | None => HashSet::new(),
        },
    };
    if let Target::Outlet { pdu, .. } = &target
        && !config.pdus.contains_key(pdu.as_str())
    {
        return Ok(Err(dispatch::unknown_pdu(pdu, config.pdus.keys())));
    }
    // Only the PDUs of the request get a worker.
    config.pdus.retain(|name, _| wanted.contains(name.as_str()));
    for pdu in config.pdus.values_mut().flatten() {
        let pdu = Arc::make_mut(pdu);
        pdu.retries = drive.retries.unwrap_or(pdu.retries);
        pdu.retrydelay = drive.retrydelay.unwrap_or(pdu.retrydelay);
    }
    let signals = signals::receive()?;
    let dispatcher = Dispatcher::start(&config)?;
    let (sender, outcome) = crossbeam_channel::bounded(1);
    let request = Request {
        client: "drive".into(),
        target,
        action: drive.action,
        delay: drive.delay,
        is_background: false,
        may_know_names: true,
    };
    dispatcher.submit(request, Box::new(move |outcome| drop(sender.send(outcome))));
    let mut is_stopping = false;
    let outcome = loop {
        crossbeam_channel::select! {
            recv(outcome) -> outcome => break outcome.unwrap_or_else(|_| {
                Err(Failure::new(FailureKind::Internal, "the request was lost: this is a bug"))
            }),
            recv(signals) -> signal => if let Ok(Signal::Stop) = signal {
                let again = std::mem::replace(&mut is_stopping, true);
                dispatcher.stop(if again { Stop::Now } else { Stop::Soon });
            },
        }
    };
    // The on that a reboot still owes gets further attempts before the process ends.
    stop(&dispatcher, &signals);
    Ok(outcome)
}
