//! A reboot switches an outlet off and then on, once each, whichever way in a client takes. This is
//! the Python project's own acceptance scenario: commands append to a file, and the file is read.

use crate::daemon::{Lab, stderr, stdout};
use serde_json::{Value, json};

fn lab() -> (Lab, Value, Value) {
    let lab = Lab::new();
    let pdus = json!({
        "http": lab.recorder("http"),
        "httpalias": lab.recorder("httpalias"),
        "tcp": lab.recorder("tcp"),
        "drive": lab.recorder("drive"),
        "drivealias": lab.recorder("drivealias"),
        // The placeholders of upstream's sample, and what this machine or program has not.
        "energenie": {"driver": "EG-PMS", "device": "aa:bb:cc:xx:yy"},
        "no-mib": {"driver": "snmpv3", "username": "pdudaemon", "authpassphrase": "pdudaemon_auth",
            "privpassphrase": "pdudaemon_priv", "mib": "NO-SUCH-MIB", "controlpoint": "outlet",
            "onsetting": 1, "offsetting": 2},
        "short": {"driver": "snmpv3", "username": "x", "authpassphrase": "x", "oid": "1.3.6.*",
            "onsetting": 1, "offsetting": 2},
        "elsewhere": {"driver": "a-python-package"},
        "percent": {"driver": "localcmdline", "cmd_on": "date +%q %s", "cmd_off": "true"},
    });
    let aliases = json!({"aliases": {
        "aliastesthttp01": {"hostname": "httpalias", "port": 1},
        "aliastestdrive02": {"hostname": "drivealias", "port": 2},
    }});
    (lab, pdus, aliases)
}

const EXPECTED: [&str; 10] = [
    "http 2 off",
    "http 2 on",
    "httpalias 1 off",
    "httpalias 1 on",
    "tcp 3 off",
    "tcp 3 on",
    "drive 4 off",
    "drive 4 on",
    "drivealias 2 off",
    "drivealias 2 on",
];

#[test]
fn a_reboot_by_every_way_in_is_off_then_on() {
    let (lab, pdus, aliases) = lab();
    let daemon = lab.start_with(pdus, aliases, &["--loglevel=DEBUG"]);
    let ok = (200, "OK - accepted request\n".to_owned());
    assert_eq!(daemon.get("reboot?hostname=http&port=2&delay=1"), ok);
    assert_eq!(daemon.get("reboot?alias=aliastesthttp01&delay=1"), ok);

    let address = daemon.address.to_string();
    let client = lab.client(&[
        "--daemon",
        &address,
        "--hostname",
        "tcp",
        "--port",
        "3",
        "--command",
        "reboot",
        "--delay",
        "1",
    ]);
    assert_eq!(
        (client.status.code(), stdout(&client).as_str()),
        (Some(0), "Command sent successfully.\n")
    );
    daemon.stop();

    let config = lab.path("pdudaemon.conf").display().to_string();
    for target in [
        ["--hostname", "drive", "--port", "4"].as_slice(),
        &["--alias", "aliastestdrive02"],
    ] {
        let mut args = vec![
            "--conf",
            &config,
            "--drive",
            "--request",
            "reboot",
            "--delay",
            "0",
        ];
        args.extend(target);
        let driven = lab.run(&args);
        assert_eq!(driven.status.code(), Some(0), "{}", stderr(&driven));
    }
    assert_eq!(lab.record(), EXPECTED);
}

#[test]
fn the_exit_status_of_a_driven_request_is_the_truth() {
    let (lab, mut pdus, aliases) = lab();
    pdus["broken"] =
        json!({"driver": "localcmdline", "cmd_on": "echo no relay >&2; false %s", "retrydelay": 0});
    let config = lab.config(pdus, aliases).display().to_string();
    for (args, code, said) in [
        (
            "--hostname broken --port 1 --request on --retries 2",
            1,
            "no relay",
        ),
        ("--hostname nobody --port 1 --request on", 1, "nobody"),
        ("--alias nobody --request on", 1, "nobody"),
        (
            "--hostname driv --port 1 --request on",
            1,
            "did you mean drive?",
        ),
        ("--hostname drive --port 1;x --request on", 1, "outlet"),
        ("--hostname drive --port 1 --request toggle", 2, "--request"),
        ("--hostname drive --request on", 2, "--port"),
        (
            "--hostname drive --port 1 --request off --delay soon",
            2,
            "--delay",
        ),
    ] {
        let mut all = vec!["--conf", &config, "--drive"];
        all.extend(args.split(' '));
        let driven = lab.run(&all);
        assert_eq!(
            driven.status.code(),
            Some(code),
            "{args}: {}",
            stderr(&driven)
        );
        assert!(
            stderr(&driven).contains(said),
            "{args}: {}",
            stderr(&driven)
        );
    }
    assert_eq!(lab.record(), [""; 0]);
}

#[test]
fn a_driven_request_is_tried_as_often_as_the_pdu_or_the_option_says() {
    let lab = Lab::new();
    let mut failing = lab.scripted("record on $1; exit 1", "record off $1; exit 1");
    failing["retries"] = json!(3);
    let config = lab
        .config(json!({ "failing": failing }), json!({}))
        .display()
        .to_string();
    for (more, attempts) in [(&[][..], 3), (&["--retries", "2", "--retry-delay", "0"], 2)] {
        lab.forget();
        let mut args = vec!["--conf", &config, "--drive", "--hostname", "failing"];
        args.extend(["--port", "1", "--request", "on"]);
        args.extend(more);
        assert_eq!(lab.run(&args).status.code(), Some(1));
        assert_eq!(lab.record(), vec!["on 1"; attempts]);
    }
    // A reboot whose off was sent but not confirmed is not left dark by a process that ends.
    lab.forget();
    let mut args = vec!["--conf", &config, "--drive", "--hostname", "failing"];
    args.extend(["--port", "1", "--request", "reboot", "--retries", "1"]);
    let driven = lab.run(&args);
    assert_eq!(driven.status.code(), Some(1));
    let record = lab.record();
    assert!(
        record.len() >= 2 && record[0] == "off 1" && record[1..].iter().all(|line| line == "on 1"),
        "{record:?}"
    );
    assert!(
        (stdout(&driven) + &stderr(&driven)).contains("LEFT OFF"),
        "{}",
        stderr(&driven)
    );
}
