//! Processes that this one started, and those that it inherits.
//!
//! In a container without an init the daemon is process 1: a process that its commands leave behind
//! becomes its child, and stays in the process table when it ends until somebody takes its exit
//! status. We leave the exit status of a process that [`start`] has started to the caller.
//!
//! Invariant: nothing else starts a process.

use log::warn;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, child_subreaper, waitid, waitpid};
use signal_hook::consts::SIGCHLD;
use signal_hook::iterator::Signals;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, PoisonError, RwLock};

/// The processes whose exit status somebody here waits for. [`start`] and [`wait`] hold it for
/// reading, and the thread that takes the exit status of orphans for writing: so nobody takes a
/// process that has just begun for an orphan.
static OWN: RwLock<Mutex<BTreeSet<i32>>> = RwLock::new(Mutex::new(BTreeSet::new()));

/// Environment variables that are secrets of ours, see [`withhold`].
static WITHHELD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// From now on [`start`] takes this variable out of the environment of every process.
pub(crate) fn withhold(variable: &str) {
    let mut withheld = WITHHELD.lock().unwrap_or_else(PoisonError::into_inner);
    withheld.insert(variable.to_owned());
}

/// Does something with the processes of our own.
fn with_own<T>(act: impl FnOnce(&Mutex<BTreeSet<i32>>) -> T) -> T {
    act(&OWN.read().unwrap_or_else(PoisonError::into_inner))
}

fn locked(own: &Mutex<BTreeSet<i32>>) -> std::sync::MutexGuard<'_, BTreeSet<i32>> {
    own.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a process. Of the withheld variables it gets only those that `command` itself sets.
pub(crate) fn start(command: &mut Command) -> io::Result<Child> {
    let set: Vec<OsString> = command
        .get_envs()
        .filter_map(|(name, value)| value.map(|_| name.to_owned()))
        .collect();
    for name in WITHHELD
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
    {
        if !set.iter().any(|own| own == name.as_str()) {
            command.env_remove(name);
        }
    }
    with_own(|own| {
        let child = command.spawn()?;
        locked(own).insert(Pid::from_child(&child).as_raw_pid());
        Ok(child)
    })
}

/// Waits for the end of a process that [`start`] has started.
pub(crate) fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let pid = Pid::from_child(child);
    // Leaves the exit status where it is, so that we hold nothing while the process still runs.
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(error) = waitid(WaitId::Pid(pid), ended) {
        if error != rustix::io::Errno::INTR {
            break;
        }
    }
    with_own(|own| {
        locked(own).remove(&pid.as_raw_pid());
        child.wait()
    })
}

/// From now on, where this process inherits orphans, takes the exit status of each that has ended.
pub(crate) fn adopt() -> io::Result<()> {
    let inherits =
        std::process::id() == 1 || child_subreaper().is_ok_and(|reaper| reaper.is_some());
    if !inherits {
        return Ok(());
    }
    let mut signals = Signals::new([SIGCHLD])?;
    std::thread::Builder::new()
        .name("orphans".into())
        .spawn(move || {
            bury();
            for _ in signals.forever() {
                bury();
            }
        })?;
    Ok(())
}

/// Takes the exit status of every orphan that has ended.
fn bury() {
    let own = OWN.write().unwrap_or_else(PoisonError::into_inner);
    let own = locked(&own);
    match orphans(&own) {
        Ok(orphans) => {
            for pid in orphans {
                if let Some(pid) = Pid::from_raw(pid) {
                    // A process that is no child of ours any more needs nobody.
                    let _ = waitpid(Some(pid), WaitOptions::NOHANG);
                }
            }
        }
        Err(error) => warn!("/proc cannot be read to find orphans that have ended: {error}"),
    }
}

/// Our children that have ended, and that nobody here waits for.
fn orphans(own: &BTreeSet<i32>) -> io::Result<Vec<i32>> {
    let mut orphans = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process may be gone before we look at it.
        let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        if is_ours_and_dead(&stat) && !own.contains(&pid) {
            orphans.push(pid);
        }
    }
    Ok(orphans)
}

/// `42 (any name) Z 1 ...`: the state and the parent, behind the last parenthesis.
fn is_ours_and_dead(stat: &[u8]) -> bool {
    let stat = String::from_utf8_lossy(stat);
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return false;
    };
    let mut fields = rest.split(' ');
    let parent = std::process::id().to_string();
    fields.next() == Some("Z") && fields.next() == Some(&parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_told_from_the_living() {
        let own = std::process::id();
        for (stat, expected) in [
            (format!("42 (a) Z) R 7) Z {own} 42"), true),
            (format!("42 (sh) S {own} 42"), false),
            ("42 (sh) Z 0 42".to_owned(), false),
            (format!("42 (x) Z {own} 42) S 1 42"), false),
            ("42 (sh".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(is_ours_and_dead(stat.as_bytes()), expected, "{stat}");
        }
    }

    #[test]
    fn what_is_withheld_is_not_in_the_environment_unless_set() {
        // Cargo sets these for every test.
        withhold("CARGO_PKG_NAME");
        let check = |command: &mut Command, expected: bool| {
            let mut child = start(command.args(["-c", "test -n \"$CARGO_PKG_NAME\""]));
            let child = child.as_mut().expect("starts");
            assert_eq!(wait(child).expect("waited").success(), expected);
        };
        check(&mut Command::new("sh"), false);
        check(Command::new("sh").env("CARGO_PKG_NAME", "x"), true);
    }

    #[test]
    fn an_exit_status_that_somebody_waits_for_stays() {
        let mut child = start(Command::new("sh").args(["-c", "exit 7"])).expect("starts");
        let pid = Pid::from_child(&child);
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), ended).expect("ends");
        let raw = pid.as_raw_pid();
        let orphans = |own| orphans(&own).expect("/proc is there").contains(&raw);
        assert!(orphans(BTreeSet::new()));
        assert!(with_own(|own| !orphans(locked(own).clone())));
        assert_eq!(wait(&mut child).expect("waited").code(), Some(7));
    }
}
