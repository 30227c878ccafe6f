//! The daemon starts as its options say, ends with a status that says why, obeys its signals, and
//! shows no secret in its log.

use crate::daemon::{Daemon, Lab, PDUDAEMON, http, run, stderr, stdout, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn code_and_words(lab: &Lab, args: &[&str]) -> (Option<i32>, String, String) {
    let output = lab.run(args);
    (output.status.code(), stdout(&output), stderr(&output))
}

#[test]
fn a_broken_config_is_one_line_and_exit_status_1() {
    let lab = Lab::new();
    for (text, said) in [
        (
            "{\"daemon\": {\"hostname\": \"127.0.0.1\",}, \"pdus\": {}}",
            "pdudaemon.conf:1:",
        ),
        ("{\"daemon\": {\"hostname\": \"127.0.0.1\"}}", "pdus"),
        ("{\"pdus\": {}}", "daemon"),
        ("{\"daemon\": {}, \"pdus\": {}}", "hostname"),
        (
            "{\"daemon\": {\"hostname\": \"127.0.0.1\", \"listener\": \"udp\"}, \"pdus\": {}}",
            "daemon.listener",
        ),
        (
            "{\"daemon\": {\"hostname\": \"127.0.0.1\", \"port\": 70000}, \"pdus\": {}}",
            "daemon.port",
        ),
        ("", "broken JSON"),
        ("[]", "pdudaemon.conf:1:"),
    ] {
        let config = lab.write("pdudaemon.conf", text).display().to_string();
        for args in [&["--conf", &config][..], &["--conf", &config, "--check"]] {
            let (code, out, err) = code_and_words(&lab, args);
            assert_eq!((code, out.as_str()), (Some(1), ""), "{text}: {err}");
            assert_eq!(err.lines().count(), 1, "{text}: {err}");
            assert!(
                err.starts_with("ERROR: ") && err.contains(said),
                "{text}: {err}"
            );
        }
    }
    let not_text = lab.path("pdudaemon.conf");
    fs::write(&not_text, b"{\"daemon\": \xff}").expect("written");
    let (code, _, err) = code_and_words(&lab, &["--conf", &not_text.display().to_string()]);
    assert!(
        code == Some(1) && err.contains("UTF-8") && err.lines().count() == 1,
        "{err}"
    );
    let (code, _, err) = code_and_words(&lab, &["--conf", "/nonexistent/pdudaemon.conf"]);
    assert!(
        code == Some(1) && err.contains("/nonexistent/pdudaemon.conf"),
        "{err}"
    );
}

#[test]
fn check_tells_errors_from_warnings() {
    let lab = Lab::new();
    let check = |pdus: Value, strict: bool| {
        let config = lab.config(pdus, json!({})).display().to_string();
        let mut args = vec!["--conf", &config, "--check"];
        if strict {
            args.push("--strict");
        }
        code_and_words(&lab, &args)
    };
    let (code, out, err) = check(json!({"p": {"driver": "simulated"}}), true);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains(": 1 PDU, 0 aliases, 0 warnings"), "{out}");
    let foolish = json!({"p": {"driver": "simulated", "retrys": 3}});
    let (code, _, err) = check(foolish.clone(), false);
    assert_eq!(code, Some(0));
    assert!(
        err.starts_with("WARNING: ") && err.contains("did you mean retries?"),
        "{err}"
    );
    let (code, out, err) = check(foolish, true);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("did you mean retries?"), "{err}");
    let (code, _, err) = check(
        json!({"p": {"driver": "simulated", "outlets": "many"}}),
        false,
    );
    assert!(code == Some(1) && err.contains("pdus.p.outlets"), "{err}");
    // The config from standard input, and nothing is started.
    let mut command = lab.command("/bin/sh");
    command.args([
        "-c",
        &format!("{PDUDAEMON} --check --conf - < pdudaemon.conf"),
    ]);
    lab.config(json!({"p": {"driver": "simulated"}}), json!({}));
    assert_eq!(run(&mut command).status.code(), Some(0));
}

#[test]
fn a_password_may_be_one_of_the_services_credentials() {
    let lab = Lab::new();
    let pdu = json!({"driver": "apc7952", "password": {"file": "apc-password"}});
    let config = lab.config(json!({"pdu05": pdu}), json!({}));
    fs::create_dir(lab.path("credentials")).expect("made");
    fs::write(lab.path("credentials").join("apc-password"), "secret\n").expect("written");
    let check = |credentials: &str| {
        let mut command = lab.command(PDUDAEMON);
        command.args(["--check", "--conf"]).arg(&config);
        run(command.env("CREDENTIALS_DIRECTORY", lab.path(credentials)))
    };
    assert_eq!(check("credentials").status.code(), Some(0));
    let missing = check("none");
    let words = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.status.code(), Some(1), "{words}");
    assert!(
        words.contains("pdus.pdu05.password") && words.contains("apc-password: cannot be read"),
        "{words}"
    );
}

#[test]
fn an_unknown_driver_is_told_with_what_may_be_meant() {
    let lab = Lab::new();
    let config = lab
        .config(json!({"p": {"driver": "localcmdlin"}}), json!({}))
        .display()
        .to_string();
    let (code, _, err) = code_and_words(&lab, &["--conf", &config, "--check"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("unknown driver \"localcmdlin\", did you mean localcmdline?")
            && err.contains("--list-drivers"),
        "{err}"
    );
}

#[test]
fn what_only_prints_prints() {
    let lab = Lab::new();
    for (args, said) in [
        (
            &["--version"][..],
            concat!("pdudaemon ", env!("CARGO_PKG_VERSION"), "\n"),
        ),
        (&["-V"], "pdudaemon 2."),
        (&["--list-drivers"], "localcmdline"),
        (&["--list-drivers"], "simulated"),
        (&["--help"], "--drive"),
        (&["-h", "--conf", "/nonexistent"], "--retry-delay"),
    ] {
        let (code, out, err) = code_and_words(&lab, args);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{args:?}");
        assert!(out.contains(said), "{args:?}: {out}");
    }
    for args in [
        &["--nonsense"][..],
        &["--loglevel", "LOUD"],
        &["--listener", "udp"],
        &["--conf"],
        &["extra"],
    ] {
        let (code, out, err) = code_and_words(&lab, args);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}");
        assert!(err.starts_with("pdudaemon: "), "{args:?}: {err}");
    }
}

#[test]
fn the_log_follows_its_file() {
    let lab = Lab::new();
    let (log, moved) = (lab.path("log"), lab.path("log.1"));
    let config = lab.config(json!({"p": {"driver": "simulated"}}), json!({}));
    let mut command = lab.command(PDUDAEMON);
    command.arg("--conf").arg(config).args(["--logfile", "log"]);
    let mut daemon = Daemon::spawn_anywhere(command);
    let read = || fs::read_to_string(&log).unwrap_or_default();
    daemon.address = wait_for("the port in the log", || {
        read()
            .lines()
            .filter_map(|line| line.split_once("listening on "))
            .find_map(|(_, address)| address.parse().ok())
    });
    assert_eq!(daemon.get("on?hostname=p&port=1").0, 200);
    wait_for("the request's line", || {
        read().contains("127.0.0.1: p 1 on: ok").then_some(())
    });

    // logrotate without a signal: found out by the daemon within a second or so.
    fs::rename(&log, &moved).expect("moved");
    wait_for("a new file", || {
        daemon.get("on?hostname=p&port=2");
        read().contains("p 2 on: ok").then_some(())
    });
    // With the signal: at once, so the very next request is in the new file. That the signal was
    // taken shows by the config, which is loaded again as well.
    fs::rename(&log, &moved).expect("moved");
    lab.config(
        json!({"p": {"driver": "simulated"}, "q": {"driver": "simulated"}}),
        json!({}),
    );
    daemon.signal(Signal::HUP);
    wait_for("the new PDU", || {
        (daemon.get("on?hostname=q&port=1").0 == 200).then_some(())
    });
    daemon.get("on?hostname=p&port=3");
    wait_for("the request's line", || {
        read().contains("p 3 on: ok").then_some(())
    });
    assert!(
        !fs::read_to_string(&moved)
            .expect("there")
            .contains("p 3 on")
    );

    // In place of the file, something that cannot be opened: the daemon goes on.
    fs::remove_file(&log).expect("removed");
    fs::create_dir(&log).expect("a folder");
    daemon.signal(Signal::HUP);
    for _ in 0..3 {
        assert_eq!(daemon.get("on?hostname=p&port=4").0, 200);
    }
    assert!(daemon.is_running());
    let printed = daemon.stop();
    assert_eq!(printed, "", "with --logfile nothing else is printed");

    let (code, _, err) = code_and_words(
        &lab,
        &["--conf", "pdudaemon.conf", "--logfile", "/nonexistent/log"],
    );
    assert!(code == Some(1) && err.contains("/nonexistent/log"), "{err}");
}

#[test]
fn log_lines_look_as_they_always_did_and_levels_mean_what_they_say() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": {"driver": "simulated"}}));
    assert_eq!(daemon.get("on?hostname=p&port=1").0, 200);
    daemon.get("on?hostname=p&port=9");
    let printed = daemon.stop();
    let line = printed
        .lines()
        .find(|line| line.contains("p 1 on: ok"))
        .expect("the request's one line");
    let (time, rest) = line.split_at(23);
    assert!(
        time.bytes()
            .zip(b"dddd-dd-dd dd:dd:dd,ddd")
            .all(|(got, want)| if *want == b'd' {
                got.is_ascii_digit()
            } else {
                got == *want
            }),
        "{line}"
    );
    assert!(
        rest.starts_with(&format!(
            " - {:<30} - INFO 127.0.0.1: p 1 on: ok (1 driver call, ",
            "pdud"
        )),
        "{line}"
    );
    assert_eq!(
        printed
            .lines()
            .filter(|line| line.contains("p 9 on"))
            .count(),
        1,
        "{printed}"
    );
    for text in ["PDUDaemon starting up", "Signal received, shutting down..."] {
        assert!(printed.contains(text), "{printed}");
    }

    // WARN means WARN, in the option and in the file; the option wins.
    let config = lab.config(
        json!({"p": {"driver": "simulated", "refuse_outlets": [1]}}),
        json!({"daemon": {"logging_level": "debug", "hostname": lab.path("sock")}}),
    );
    let mut command = lab.command(PDUDAEMON);
    command
        .arg("--conf")
        .arg(&config)
        .args(["--loglevel", "WARN"]);
    let daemon = Daemon::spawn_anywhere(command);
    let mut client = wait_for("the socket", || {
        std::os::unix::net::UnixStream::connect(lab.path("sock")).ok()
    });
    client.write_all(b"p 1 on 0\n").expect("sent");
    assert_eq!(crate::daemon::read_all(&mut client), b"nack\n");
    let printed = daemon.stop();
    assert!(
        printed.contains("WARNING delay parameter is deprecated")
            && !printed.contains("INFO")
            && !printed.contains("DEBUG"),
        "{printed}"
    );
}

#[test]
fn sigterm_ends_an_idle_daemon_at_once_and_cleans_up() {
    let lab = Lab::new();
    let daemon = lab.start(json!({"p": {"driver": "simulated"}}));
    // A client that keeps its connection open does not hold it up.
    let client = daemon.connect();
    daemon.stop();
    drop(client);
    let left: Vec<_> = fs::read_dir(lab.path(""))
        .expect("the folder")
        .filter_map(Result::ok)
        .map(|entry| entry.file_name())
        .filter(|name| name != "pdudaemon.conf")
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn systemd_is_told() {
    let lab = Lab::new();
    let socket = std::os::unix::net::UnixDatagram::bind(lab.path("notify")).expect("bound");
    socket
        .set_read_timeout(Some(crate::daemon::PATIENCE))
        .expect("set");
    let config = lab.config(json!({"p": {"driver": "simulated"}}), json!({}));
    let mut command = lab.command(PDUDAEMON);
    command
        .arg("--conf")
        .arg(config)
        .env("NOTIFY_SOCKET", lab.path("notify"))
        .env("WATCHDOG_USEC", "600000");
    let daemon = Daemon::spawn(command);
    let told = |wanted: &str| {
        let mut buffer = [0; 512];
        wait_for(wanted, || {
            let length = socket.recv(&mut buffer).expect("a message in time");
            String::from_utf8_lossy(&buffer[..length])
                .contains(wanted)
                .then_some(())
        });
    };
    told("READY=1");
    told("WATCHDOG=1");
    told("WATCHDOG=1");

    // However often the config is to be loaded, the watchdog is fed.
    let storm = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while storm.load(Ordering::Acquire) {
                daemon.signal(Signal::HUP);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        told("RELOADING=1");
        told("WATCHDOG=1");
        told("WATCHDOG=1");
        storm.store(false, Ordering::Release);
    });
    daemon.signal(Signal::TERM);
    told("STOPPING=1");
    assert!(daemon.wait().0.success());
}

/// What is left of a killed daemon's private socket goes with the next start.
#[test]
fn a_killed_daemons_private_folder_is_removed_by_the_next_start() {
    let lab = Lab::new();
    let folders = || {
        let entries = fs::read_dir(lab.path(".")).expect("the lab's folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut own: Vec<String> = names
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| name.starts_with("pdudaemon-"))
            .collect();
        own.sort();
        own
    };
    let killed = lab.start(json!({}));
    let of_killed = folders();
    assert_eq!(of_killed.len(), 1, "{of_killed:?}");
    // One that runs beside it is not disturbed.
    let beside = lab.start(json!({}));
    assert_eq!(folders().len(), 2);
    killed.signal(Signal::KILL);
    killed.wait();
    let next = lab.start(json!({}));
    assert!(
        folders().len() == 2 && !folders().contains(&of_killed[0]),
        "{:?}",
        folders()
    );
    for daemon in [beside, next] {
        assert_eq!(http(daemon.address, "GET", "/healthz").0, 200);
        daemon.stop();
    }
    assert_eq!(folders(), [""; 0]);
}

/// A program that is started has no business with the secrets of PDUs.
#[test]
fn a_secret_of_the_environment_does_not_reach_programs() {
    let lab = Lab::new();
    let environment = lab.path("environment");
    let write = format!("env > {}; true %s", environment.display());
    let pdus = json!({
        "l": {"driver": "localcmdline", "cmd_on": write},
        "s": {"driver": "snmpv1", "community": {"env": "RACK_COMMUNITY"}, "oid": "1.2.3.*",
              "onsetting": 1, "offsetting": 0},
    });
    let config = lab.config(pdus, json!({}));
    let mut command = lab.command(PDUDAEMON);
    command
        .arg("--conf")
        .arg(config)
        .env("RACK_COMMUNITY", "open sesame")
        .env("RACK_NAME", "blue");
    let daemon = Daemon::spawn(command);
    assert_eq!(daemon.get("on?hostname=l&port=1").0, 200);
    let text = fs::read_to_string(environment).expect("written");
    assert!(text.contains("RACK_NAME=blue"), "{text}");
    assert!(
        !text.contains("open sesame") && !text.contains("RACK_COMMUNITY"),
        "{text}"
    );
    daemon.stop();
}

/// However few threads the system gives: the daemon serves whole, or it does not start.
#[test]
fn a_start_without_enough_threads_fails() {
    if !rustix::process::getuid().is_root() {
        return println!("not done: a user with a bound on threads of its own takes root");
    }
    let lab = Lab::new();
    let everybody = fs::Permissions::from_mode(0o777);
    fs::set_permissions(lab.path(""), everybody).expect("a mode");
    let config = lab.config(json!({"p": {"driver": "simulated"}}), json!({}));
    let (mut served, mut failed) = (0, 0);
    for threads in 2..=24 {
        let mut command = lab.command("setpriv");
        command
            .args([
                "--reuid=61234",
                "--regid=61234",
                "--clear-groups",
                "prlimit",
            ])
            .arg(format!("--nproc={threads}:{threads}"))
            .arg(PDUDAEMON)
            .arg("--conf")
            .arg(&config);
        let mut daemon = Daemon::spawn_anywhere(command);
        let starts = wait_for("the start, or its failure", || {
            let ended = !daemon.is_running();
            let port = daemon.printed();
            let port = port
                .lines()
                .find_map(|line| line.split_once("listening on "));
            match port.map(|(_, address)| address.parse()) {
                Some(Ok(address)) if daemon.printed().contains("ready") => {
                    daemon.address = address;
                    Some(true)
                }
                _ => ended.then_some(false),
            }
        });
        if starts {
            served += 1;
            for _ in 0..3 {
                assert_eq!(http(daemon.address, "GET", "/healthz").0, 200, "{threads}");
                assert_eq!(daemon.get("on?hostname=p&port=1").0, 200, "{threads}");
            }
            daemon.stop();
        } else {
            failed += 1;
            let (status, printed) = daemon.wait();
            assert_eq!(status.code(), Some(1), "{threads}: {printed}");
            assert!(printed.contains("ERROR"), "{threads}: {printed}");
        }
    }
    assert!(served > 2 && failed > 2, "{served} served, {failed} failed");
}

/// Keys whose values are nobody's business.
fn is_secret(key: &str) -> bool {
    ["pass", "secret", "token", "community", "api_key"]
        .iter()
        .any(|part| key.contains(part))
}

/// A device that asks for a login and for nothing else, so that passwords are sent to it.
fn asking_device() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    // Ends with the test run.
    std::thread::spawn(move || {
        for mut client in listener.incoming().filter_map(Result::ok) {
            std::thread::spawn(move || {
                let mut prompts = ["login: ", "Password: ", "> "]
                    .iter()
                    .chain(std::iter::repeat(&"> "));
                let mut chunk = [0; 1024];
                while client
                    .write_all(prompts.next().expect("endless").as_bytes())
                    .is_ok()
                {
                    if !client.read(&mut chunk).is_ok_and(|more| more > 0) {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn no_secret_is_logged_or_told() {
    // Eight characters: some PDUs take no more, and SNMPv3 no fewer.
    const SECRET: &str = "hunter2x";
    let lab = Lab::new();
    // A command with a password in it, failing or not.
    let mut pdus = json!({
        "good": {"driver": "localcmdline", "cmd_on": format!("relayctl() {{ true; }}; relayctl --password {SECRET} %s"), "retries": 1},
        "bad": {"driver": "localcmdline", "cmd_on": format!("relayctl() {{ false; }}; relayctl --password {SECRET} %s"), "retries": 1},
        "list": {"driver": "localcmdline", "cmd_on": ["/nonexistent/relayctl", SECRET, "%s"], "retries": 1},
    });
    // Every example of the tree whose driver knows a secret, with ours in its place.
    let device = asking_device().to_string();
    let mut known = 0;
    let examples = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/share/examples"));
    for example in examples.into_iter().flatten().filter_map(Result::ok) {
        let text = fs::read_to_string(example.path()).unwrap_or_default();
        let Ok(config) = serde_json::from_str::<Value>(&text) else {
            continue;
        };
        for (name, pdu) in config["pdus"].as_object().into_iter().flatten() {
            let driver = pdu["driver"].as_str().expect("a driver");
            let registry = pdudaemon::driver::registry::Registry::default();
            let spec = registry.find(driver).expect("right");
            let spec = spec.expect("a driver of ours");
            let mut pdu = pdu.clone();
            let keys = pdu.as_object_mut().expect("a PDU");
            let mut secrets: Vec<String> =
                keys.keys().filter(|key| is_secret(key)).cloned().collect();
            if spec.transport != "snmp" {
                // An SNMP PDU has either a community or passphrases.
                let own = spec.build.keys().into_iter().filter(|key| key.is_secret);
                secrets.extend(own.map(|key| key.name.into_owned()));
            }
            if secrets.is_empty() {
                continue;
            }
            known += 1;
            for key in secrets {
                keys.insert(key, json!(SECRET));
            }
            for (key, value) in [
                ("ip", json!(device)),
                ("timeout", json!(1)),
                ("retries", json!(1)),
                ("retrydelay", json!(0)),
            ] {
                keys.insert(key.into(), value);
            }
            let stem = example
                .path()
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            pdus[format!("{stem}-{name}")] = pdu;
        }
    }
    assert!(known > 10, "the examples are not found");
    let names: Vec<String> = pdus.as_object().expect("PDUs").keys().cloned().collect();
    let daemon = lab.start_with(pdus, json!({}), &["--loglevel", "DEBUG"]);
    let clients: Vec<_> = names
        .iter()
        .flat_map(|name| {
            let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
            ["on", "get-status"]
                .map(|command| daemon.get_later(&format!("{command}?hostname={name}&port=1")))
        })
        .collect();
    for client in clients {
        let (_, body) = client.join().expect("answered");
        assert!(!body.contains(SECRET), "{body}");
    }
    let config = lab.path("pdudaemon.conf").display().to_string();
    let driven = lab.run(&[
        "--conf",
        &config,
        "--loglevel",
        "DEBUG",
        "--drive",
        "--hostname",
        "bad",
        "--port",
        "1",
        "--request",
        "on",
    ]);
    assert!(!(stdout(&driven) + &stderr(&driven)).contains(SECRET));
    let printed = daemon.stop();
    let told = printed.lines().find(|line| line.contains(SECRET));
    assert!(told.is_none(), "{told:?}");
    assert!(printed.contains("bad 1 on"), "{printed}");
}

#[test]
fn a_start_without_stdout_is_a_start() {
    let lab = Lab::new();
    // A service whose reader went away must not die of its own log lines.
    let config = lab.config(
        json!({"p": {"driver": "simulated"}}),
        json!({"daemon": {"hostname": lab.path("sock")}}),
    );
    let mut child = lab
        .command(PDUDAEMON)
        .arg("--conf")
        .arg(config)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    drop((child.stdout.take(), child.stderr.take()));
    let ask = || {
        let mut client = wait_for("the socket", || {
            std::os::unix::net::UnixStream::connect(lab.path("sock")).ok()
        });
        client.write_all(b"p 1 on\n").expect("sent");
        crate::daemon::read_all(&mut client)
    };
    for _ in 0..3 {
        assert_eq!(ask(), b"ack\n");
    }
    child.kill().expect("there");
    child.wait().expect("ended");
}
