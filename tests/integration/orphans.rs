//! As process 1, in a container without an init, the daemon buries what commands leave behind, and
//! loses no exit status of its own commands.

use crate::daemon::{Daemon, Lab, PDUDAEMON, wait_for};
use serde_json::json;
use std::fs;
use std::process::Command;

/// Makes its program inherit orphans, as process 1 does, without being it.
const REAPER: &str = "import ctypes, os, sys
if ctypes.CDLL(None).prctl(36, 1, 0, 0, 0): sys.exit('no child subreaper')
os.execv(sys.argv[1], sys.argv[1:])";

/// The state letters and the names of the children of `parent`.
fn children(parent: u32) -> Vec<(String, String)> {
    let entries = fs::read_dir("/proc").expect("/proc");
    let stats = entries
        .filter_map(|entry| fs::read_to_string(entry.expect("an entry").path().join("stat")).ok());
    stats
        .filter_map(|stat| {
            let (before, after) = stat.rsplit_once(") ")?;
            let mut fields = after.split(' ');
            let (state, own) = (fields.next()?, fields.next()?);
            (own == parent.to_string()).then(|| {
                let (_, name) = before.split_once('(').expect("a name");
                (state.to_owned(), name.to_owned())
            })
        })
        .collect()
}

/// Commands that leave something behind, and of which each second one fails.
fn check(lab: &Lab, wrapper: Command, pid: impl Fn(&Daemon) -> u32) {
    let mut wrapper = wrapper;
    let gone = lab.path("gone");
    let script = format!(
        "(sleep 0.05; echo x >> {}) > /dev/null 2>&1 & test %s = 1 || exit 7",
        gone.display()
    );
    let pdu = json!({"driver": "localcmdline", "cmd_on": script, "retries": 1});
    let pdus: serde_json::Map<_, _> = ["a", "b", "c", "d"]
        .map(|name| (name.to_owned(), pdu.clone()))
        .into_iter()
        .collect();
    wrapper
        .arg(PDUDAEMON)
        .arg("--conf")
        .arg(lab.config(pdus.into(), json!({})));
    let daemon = Daemon::spawn(wrapper);
    const ROUNDS: usize = 20;
    for _ in 0..ROUNDS {
        let asked: Vec<_> = ["a", "b", "c", "d"]
            .iter()
            .zip([1, 2, 1, 2])
            .map(|(pdu, outlet)| {
                (
                    outlet,
                    daemon.get_later(&format!("on?hostname={pdu}&port={outlet}")),
                )
            })
            .collect();
        for (outlet, asked) in asked {
            let (status, body) = asked.join().expect("asked");
            match outlet {
                1 => assert_eq!((status, &*body), (200, "OK - accepted request\n")),
                _ => assert!(status == 503 && body.contains("exit status 7"), "{body}"),
            }
        }
    }
    wait_for("everything left behind to end", || {
        let lines = fs::read_to_string(&gone).unwrap_or_default();
        (lines.lines().count() == 4 * ROUNDS).then_some(())
    });
    let pid = pid(&daemon);
    wait_for("everything left behind to be buried", || {
        children(pid).is_empty().then_some(())
    });
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid"),
        rustix::process::Signal::TERM,
    )
    .expect("the daemon is there");
    let (status, printed) = daemon.wait();
    assert!(status.success(), "{status}\n{printed}");
}

#[test]
fn whoever_inherits_orphans_buries_them() {
    let lab = Lab::new();
    let mut wrapper = lab.command("python3");
    wrapper.args(["-c", REAPER]);
    check(&lab, wrapper, Daemon::id);
}

#[test]
fn process_1_buries_orphans() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("left out: being process 1 takes root");
    }
    let lab = Lab::new();
    let mut wrapper = lab.command("unshare");
    wrapper.args(["--fork", "--pid", "--mount-proc"]);
    check(&lab, wrapper, |daemon| {
        wait_for("the process within", || {
            let entries = fs::read_dir("/proc").expect("/proc");
            entries
                .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
                .find(|pid| {
                    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                    stat.rsplit_once(") ")
                        .and_then(|(_, rest)| rest.split(' ').nth(1))
                        == Some(&daemon.id().to_string())
                })
        })
    });
}
