//! Drivers that are programs of somebody else: `exec`, `python` and `fence`, through the daemon.

use crate::compat::python;
use crate::daemon::{Daemon, Lab, stderr, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("share/examples")
        .join(name)
}

/// A PDU whose program is this one in Python; `record(...)` appends a line to the record.
fn program(lab: &Lab, name: &str, body: &str) -> Value {
    let record = lab.path("record");
    let text = format!(
        "import json, os, signal, subprocess, sys, time\n\
         def record(*words):\n    with open({record:?}, 'a') as file: file.write(' '.join(words) + '\\n')\n\
         def answer(**what): print(json.dumps(what), flush=True)\n\
         for line in sys.stdin:\n    question = json.loads(line)\n    do, outlet, to = \
         (question.get(key, '') for key in ('do', 'outlet', 'to'))\n{body}\n"
    );
    let path = lab.write(&format!("{name}.py"), &text);
    json!({"driver": "exec", "command": ["python3", path], "retries": 1, "retrydelay": 0})
}

fn ok(answer: (u16, String)) {
    assert_eq!(answer, (200, "OK - accepted request\n".to_owned()));
}

#[test]
fn the_example_drivers_switch_and_read() {
    let lab = Lab::new();
    let folder = |name: &str| lab.path(name).display().to_string();
    let pdus = json!({
        "py": {"driver": "exec", "command": ["python3", example("exec-driver.py")], "folder": folder("py"),
               "names": ["1", "left"], "retries": 1},
        "sh": {"driver": "exec", "command": ["sh", example("exec-driver.sh"), folder("sh")], "retries": 1},
    });
    let daemon = lab.start(pdus);
    for pdu in ["py", "sh"] {
        let state = || {
            let (status, body) =
                daemon.api("GET", &format!("/api/v1/pdus/{pdu}/outlets/1"), json!(null));
            assert_eq!(status, 200, "{body}");
            body["state"].as_str().map(str::to_owned)
        };
        for to in ["on", "off"] {
            ok(daemon.get(&format!("{to}?hostname={pdu}&port=01")));
            let file = fs::read_to_string(lab.path(pdu).join("1")).expect("switched");
            assert_eq!(file.trim(), to);
            assert_eq!(state().as_deref(), Some(to));
        }
        let (status, body) = daemon.get(&format!("on?hostname={pdu}&port=9"));
        assert!(
            status >= 400 && body.contains("one of 1, "),
            "{status} {body}"
        );
    }
    lab.write("py/left.locked", "");
    let (status, body) = daemon.get("on?hostname=py&port=left");
    assert!(
        status == 503 && body.contains("the relay is locked"),
        "{body}"
    );
    daemon.stop();
}

#[test]
fn a_crash_costs_one_request_and_a_late_program_ends_with_all_that_it_started() {
    let lab = Lab::new();
    let body = "    \
    if do == 'switch':
        if outlet == 'crash': sys.exit(7)
        if outlet == 'late':
            child = subprocess.Popen(['sleep', '300'], start_new_session=True)
            record('sleeps', str(child.pid))
            print('has a long way to go', file=sys.stderr, flush=True)
            time.sleep(300)
        record(outlet, to)
    answer(done=True)";
    let mut pdu = program(&lab, "relays", body);
    pdu["timeout"] = json!(5);
    let daemon = lab.start(json!({"pdu": pdu}));
    let all: Vec<_> = (0..100)
        .map(|number| {
            let outlet = match number {
                50 => "crash".to_owned(),
                number => number.to_string(),
            };
            (
                number,
                daemon.get_later(&format!("on?hostname=pdu&port={outlet}")),
            )
        })
        .collect();
    for (number, asked) in all {
        let (status, body) = asked.join().expect("asked");
        match number {
            50 => assert!(status == 503 && body.contains("exit status 7"), "{body}"),
            number => assert_eq!(status, 200, "{number}: {body}"),
        }
    }
    assert_eq!(lab.record().len(), 99);
    lab.forget();
    let (status, text) = daemon.get("on?hostname=pdu&port=late");
    assert!(
        status == 503 && text.contains("did not answer in time"),
        "{text}"
    );
    let record = lab.record();
    let child = record[0].strip_prefix("sleeps ").expect("its number");
    wait_for("the end of what has left the group", || {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
    ok(daemon.get("off?hostname=pdu&port=3"));
    assert!(daemon.stop().contains("has a long way to go"));
}

#[test]
fn a_program_that_fails_again_and_again_is_held_back() {
    let lab = Lab::new();
    let command = ["sh", "-c", "echo no relays >&2; exit 1"];
    let pdu =
        json!({"driver": "exec", "command": command, "retries": 8, "retrydelay": 0, "timeout": 3});
    let daemon = lab.start(json!({"pdu": pdu}));
    let (status, body) = daemon.get("on?hostname=pdu&port=1");
    assert!(
        status == 503 && body.contains("times in a row, and is started again in"),
        "{body}"
    );
    assert!(daemon.stop().contains("no relays"));
}

#[test]
fn no_secret_of_the_settings_is_in_the_log() {
    let lab = Lab::new();
    let body = "    \
    if do == 'hello': password = question['settings']['password']
    print('logging in with', password, file=sys.stderr, flush=True)
    if do == 'switch': answer(error='wrong password ' + password, kind='login')
    else: answer(done=True)";
    let mut pdu = program(&lab, "talker", body);
    pdu["password"] = json!("vErysEcret");
    let daemon = lab.start_with(json!({"pdu": pdu}), json!({}), &["--loglevel", "DEBUG"]);
    let (status, body) = daemon.get("on?hostname=pdu&port=1");
    assert!(
        status == 503 && body.contains("wrong password ***"),
        "{body}"
    );
    let log = daemon.stop();
    assert!(log.contains("logging in with ***"), "{log}");
    assert!(!log.contains("vErysEcret"));
}

/// A daemon with a state directory, so that the next one learns of it.
fn start(lab: &Lab, pdus: Value) -> Daemon {
    let state = lab.path("state");
    fs::create_dir_all(&state).expect("a folder");
    lab.start_with(pdus, json!({"daemon": {"state_directory": state}}), &[])
}

fn kill(daemon: Daemon) {
    daemon.signal(Signal::KILL);
    daemon.wait();
}

#[test]
fn a_program_of_a_killed_daemon_does_not_act_late_and_its_reboot_is_finished() {
    let lab = Lab::new();
    let go = lab.path("go");
    let body = format!(
        "    \
    if do == 'switch' and outlet == 'slow' and to == 'off':
        record('begun')
        while not os.path.exists({go:?}): time.sleep(0.02)
    if do == 'switch': record(outlet, to)
    answer(done=True)"
    );
    let mut pdu = program(&lab, "relays", &body);
    pdu["timeout"] = json!(60);
    let pdus = json!({"pdu": pdu});
    let daemon = start(&lab, pdus.clone());
    let _asked = daemon.get_later("reboot?hostname=pdu&port=slow&delay=0");
    lab.wait_for_record(&["begun"]);
    kill(daemon);
    let next = start(&lab, pdus.clone());
    next.wait_for_print("a command of a killed pdudaemon still runs");
    assert_eq!(lab.record(), ["begun"]);
    lab.write("go", "");
    lab.wait_for_record(&["begun", "slow off", "slow on"]);

    // In the pause of a reboot, with an idle program.
    lab.forget();
    let _asked = next.get_later("reboot?hostname=pdu&port=2&delay=2");
    lab.wait_for_record(&["2 off"]);
    kill(next);
    let last = start(&lab, pdus);
    lab.wait_for_record(&["2 off", "2 on"]);
    last.stop();
}

/// A package of drivers for the Python program, with an entry point, as pip would install it.
fn package(lab: &Lab) -> PathBuf {
    let record = lab.path("record");
    let folder = lab.path("packages");
    let info = folder.join("labdrivers-1.0.dist-info");
    fs::create_dir_all(&info).expect("a folder");
    fs::write(
        info.join("METADATA"),
        "Metadata-Version: 2.1\nName: labdrivers\nVersion: 1.0\n",
    )
    .expect("written");
    let points = "[pdudaemon.driver]\nmypdu = labdrivers:MyPdu\n";
    fs::write(info.join("entry_points.txt"), points).expect("written");
    let text = format!(
        "import os
from pdudaemon.drivers.driver import FailedRequestException, PDUDriver

class MyPdu(PDUDriver):
    def __init__(self, hostname, settings):
        self.hostname = hostname
        self.address = settings['address']
        super().__init__()

    @classmethod
    def accepts(cls, drivername):
        return drivername == 'mypdu'

    def port_interaction(self, command, port_number):
        print('a word on standard output')
        os.system('cat; echo and one of a program')
        if port_number == 7: os._exit(9)
        if port_number == 8: raise FailedRequestException('no answer')
        with open({record:?}, 'a') as file:
            file.write(f'{{self.hostname}} {{self.address}} {{port_number!r}} {{command}}\\n')

    def _bombout(self):
        with open({record:?}, 'a') as file: file.write('bombout\\n')
"
    );
    fs::write(folder.join("labdrivers.py"), text).expect("written");
    folder
}

/// The daemon's program, with packages in the path of Python.
fn with_packages(lab: &Lab, packages: &Path) -> std::process::Command {
    let mut command = lab.command(crate::daemon::PDUDAEMON);
    command.env("PYTHONPATH", packages);
    command
}

#[test]
fn a_driver_of_another_python_package_switches_unchanged() {
    let Some(program) = python() else { return };
    let lab = Lab::new();
    let packages = package(&lab);
    let interpreter = program.with_file_name("python");
    let record = lab.path("record");
    let pdus = json!({
        "rack": {"driver": "mypdu", "python": interpreter, "address": "a", "retries": 1},
        "texts": {"driver": "python", "class": "labdrivers:MyPdu", "python": interpreter, "address": "b",
                  "outlets_are": "texts", "retries": 1},
        "old": {"driver": "python", "class": "localcmdline", "python": interpreter, "retries": 1,
                "cmd_on": format!("echo old %s on >> {}", record.display()), "cmd_off": "false"},
        "none": {"driver": "python", "class": "labdrivers:Nothing", "python": interpreter, "retries": 1},
    });
    let mut command = with_packages(&lab, &packages);
    command.arg("--conf").arg(lab.config(pdus, json!({})));
    let daemon = Daemon::spawn(command);
    ok(daemon.get("on?hostname=rack&port=3"));
    ok(daemon.get("off?hostname=rack&port=left"));
    ok(daemon.get("on?hostname=texts&port=3"));
    ok(daemon.get("on?hostname=old&port=3"));
    lab.wait_for_record(&[
        "rack a 3 on",
        "rack a 'left' off",
        "texts b '3' on",
        "old 3 on",
    ]);
    let (status, body) = daemon.get("on?hostname=none&port=3");
    assert!(
        status == 503 && body.contains("labdrivers:Nothing"),
        "{body}"
    );
    lab.forget();
    let (status, body) = daemon.get("on?hostname=rack&port=8");
    let words = "FailedRequestException: no answer";
    assert!(status == 503 && body.contains(words), "{body}");
    lab.wait_for_record(&["bombout"]);

    lab.forget();
    let all: Vec<_> = (0..100)
        .map(|number| {
            let outlet = if number == 50 { 7 } else { number + 1000 };
            (
                number,
                daemon.get_later(&format!("on?hostname=rack&port={outlet}")),
            )
        })
        .collect();
    for (number, asked) in all {
        let (status, body) = asked.join().expect("asked");
        match number {
            50 => assert!(status == 503 && body.contains("exit status 9"), "{body}"),
            number => assert_eq!(status, 200, "{number}: {body}"),
        }
    }
    let mut record = lab.record();
    record.sort();
    record.dedup();
    assert_eq!(record.len(), 99);
    daemon.stop();
}

#[test]
fn python_is_asked_only_for_names_that_nothing_else_knows() {
    let lab = Lab::new();
    let asked = lab.path("asked");
    // An interpreter that knows the driver called `known`.
    let script = format!(
        "#!/bin/sh\necho started >> {}\nread -r text\nwhile read -r question; do\n\
         case $question in *'\"known\"'*) echo '{{\"done\": true}}' ;; *) echo '{{\"done\": false}}' ;; esac\ndone\n",
        asked.display()
    );
    // Written by a program of its own: no other test's child may hold it open for writing.
    let interpreter = lab.path("python");
    let written = std::process::Command::new("sh")
        .args(["-c", "printf %s \"$1\" >\"$0\" && chmod +x \"$0\""])
        .args([interpreter.as_os_str(), script.as_ref()])
        .status();
    assert!(written.is_ok_and(|status| status.success()));
    let check = |pdus: Value| {
        let config = lab.config(pdus, json!({}));
        lab.run(&["--check", "--conf", &config.display().to_string()])
    };
    let of = |driver: &str| json!({"driver": driver, "python": interpreter, "address": "a"});
    let output =
        check(json!({"a": {"driver": "simulated"}, "b": {"driver": "shelly-gen1", "ip": "h"}}));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!asked.exists());
    let output = check(json!({"a": of("known"), "b": of("known")}));
    assert!(output.status.success(), "{}", stderr(&output));
    let output =
        check(json!({"a": of("known"), "b": of("known"), "c": of("nobodys"), "d": of("nobodys")}));
    assert!(
        stderr(&output).contains("unknown driver \"nobodys\""),
        "{}",
        stderr(&output)
    );
    let started = fs::read_to_string(&asked).expect("asked");
    assert_eq!(
        started, "started\nstarted\n",
        "once each time, for all names"
    );
    let output = check(json!({"a": {"driver": "nobodys", "python": "/nonexistent/python"}}));
    let told = stderr(&output);
    assert!(
        told.contains("unknown driver")
            && told.contains("cannot run /nonexistent/python: not found"),
        "{told}"
    );
}

/// Debian's fence agents, where they are.
pub(crate) fn agents() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fence-agents/usr");
    let found = folder.join("sbin/fence_dummy").exists();
    if !found {
        eprintln!("no fence agents in target/fence-agents: run `make test-deps`");
    }
    found.then_some(folder)
}

/// The daemon's program, with the library of the agents in the path of Python.
pub(crate) fn with_agents(lab: &Lab, agents: &Path) -> std::process::Command {
    with_packages(lab, &agents.join("share/fence"))
}

#[test]
fn a_fence_agent_switches_and_tells_the_state() {
    let Some(agents) = agents() else { return };
    let lab = Lab::new();
    let file = lab.path("status");
    let agent = agents.join("sbin/fence_dummy");
    let of = |more: Value| {
        let mut pdu = json!({"driver": "fence", "agent": agent, "retries": 1, "status_file": file});
        pdu.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        pdu
    };
    let pdus = json!({"dummy": of(json!({})), "fails": of(json!({"type": "fail"}))});
    let config = lab.config(pdus, json!({}));
    let mut command = with_agents(&lab, &agents);
    command.arg("--conf").arg(&config);
    let daemon = Daemon::spawn(command);
    for to in ["on", "off", "on"] {
        ok(daemon.get(&format!("{to}?hostname=dummy&port=1")));
        assert_eq!(fs::read_to_string(&file).expect("switched"), to);
        let state = daemon.get("get-status?hostname=dummy&port=1");
        assert_eq!(state, (200, format!("{to}\n")));
    }
    let (status, body) = daemon.get("on?hostname=dummy&port=2");
    assert!(
        status == 503 && body.contains("outlet 1, all that"),
        "{status} {body}"
    );
    let (status, body) = daemon.get("on?hostname=fails&port=1");
    assert!(
        status == 503 && body.contains("exit status 1"),
        "{status} {body}"
    );
    daemon.stop();

    let check = |pdu: Value| {
        let config = lab.config(json!({"pdu": pdu}), json!({}));
        let output = crate::daemon::run(
            with_agents(&lab, &agents)
                .arg("--check")
                .arg("--conf")
                .arg(config),
        );
        (output.status.success(), stderr(&output))
    };
    assert_eq!(check(of(json!({}))), (true, String::new()));
    for (more, told) in [
        (
            json!({"statusfile": "x"}),
            "statusfile: the agent has no such option, did you mean status_file?",
        ),
        (
            json!({"login_timeout": "soon"}),
            "login_timeout: expected seconds",
        ),
        (json!({"action": "off"}), "action is the daemon's to say"),
        (
            json!({"agent": "fence_nobodys"}),
            "fence_nobodys is not installed",
        ),
    ] {
        let (passes, text) = check(of(more));
        assert!(!passes && text.contains(told), "{told}: {text}");
    }
}
