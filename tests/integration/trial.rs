//! `pdudaemon --try`: one action with a profile, whose dialogue is a test of the profile to paste.

use crate::daemon::{Lab, stderr, stdout};
use crate::profiles::{ETH, KSHELL, OWN, SHELLY, faults, lab_with};
use crate::sim::pdus::{Agent, Dialect, Eth, Kshell, Web};
use crate::sim::stream::Bench;
use std::net::Ipv4Addr;
use std::process::Output;

/// The options behind the profile's file, for a PDU at `address`.
fn tried(lab: &Lab, address: &str, more: &[&str]) -> Output {
    let file = lab.path("profiles/own.toml");
    let file = file.to_string_lossy().into_owned();
    let mut args = vec!["--try", &file, "--hostname", address, "--outlet", "3"];
    args.extend(more);
    lab.run(&args)
}

/// Is what was printed a test that passes when it is pasted, and sees what is sent?
fn passes_when_pasted(profile: &str, printed: &str) {
    assert!(printed.starts_with("[[test]]\n"), "{printed}");
    let with = |test: &str| toml::from_str(&format!("{profile}\n{test}")).expect("TOML");
    assert_eq!(faults(&with(printed)), Vec::<String>::new(), "{printed}");
    let mut sent = printed.lines().filter(|line| line.starts_with("> "));
    let last = sent.next_back().expect("something is sent");
    let changed = with(&printed.replace(last, &format!("{last}7")));
    assert_eq!(faults(&changed).len(), 1, "{printed}");
}

#[test]
fn the_dialogue_of_every_engine_is_a_test_that_passes_and_has_no_secret() {
    let local = Ipv4Addr::LOCALHOST;
    let community = "community=private";
    let password = "password=secret";
    let benches = [
        (OWN, Bench::udp(local, Agent::default()), community),
        (KSHELL, Bench::tcp(local, Kshell::default()), password),
        (ETH, Bench::tcp(local, Eth::default()), password),
    ];
    for (profile, bench, key) in benches {
        let lab = lab_with(profile);
        for (act, ends) in [
            ("on", "-- ok"),
            ("state", "-- on"),
            ("off", "-- ok"),
            ("state", "-- off"),
        ] {
            let output = tried(&lab, &bench.address(), &["--set", key, act]);
            let (printed, told) = (stdout(&output), stderr(&output));
            assert!(
                output.status.success() && told.is_empty(),
                "{told}{printed}"
            );
            assert!(printed.contains(&format!("\n{ends}\n")), "{printed}");
            assert!(!printed.contains("secret"), "{printed}");
            passes_when_pasted(profile, &printed);
        }
    }
    let lab = lab_with(SHELLY);
    let bench = Bench::tcp(local, Web::new(Dialect::Shelly));
    for act in ["on", "state"] {
        let output = tried(&lab, &bench.address(), &[act]);
        assert!(output.status.success(), "{}", stderr(&output));
        passes_when_pasted(SHELLY, &stdout(&output));
    }
    assert_eq!(bench.pdu.lock().expect("lock").is_on("3"), Some(true));
}

#[test]
fn a_refused_password_is_a_dialogue_too_and_is_shown_nowhere() {
    let bench = Bench::tcp(Ipv4Addr::LOCALHOST, Kshell::default());
    let lab = lab_with(KSHELL);
    lab.write("password", "hunter2-is-wrong\n");
    let file = lab.path("password");
    let reference = format!("password={{\"file\": {file:?}}}");
    let output = tried(&lab, &bench.address(), &["--set", &reference, "on"]);
    let (printed, told) = (stdout(&output), stderr(&output));
    assert!(
        !output.status.success() && told.contains("login refused"),
        "{told}"
    );
    assert!(printed.contains("-- error login refused"), "{printed}");
    assert!(
        !printed.contains("hunter2") && !told.contains("hunter2"),
        "{printed}{told}"
    );
    passes_when_pasted(KSHELL, &printed);
}

#[test]
fn keys_of_the_profile_stand_in_the_test() {
    let with_unit = OWN.replace("99.1.{outlet}", "99.{unit}.{outlet}");
    let with_unit = with_unit.replace("get 99.1.3", "get 99.2.3");
    let profile = with_unit.replace("[outlets]", "[keys.unit]\ndefault = 2\n[outlets]");
    let bench = Bench::udp(Ipv4Addr::LOCALHOST, Agent::default());
    let lab = lab_with(&profile);
    let more = ["--set", "community=private", "--set", "unit=1", "off"];
    let output = tried(&lab, &bench.address(), &more);
    let printed = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(printed.contains("keys = { unit = 1 }\n"), "{printed}");
    assert!(printed.contains("> set 99.1.3 i 2\n"), "{printed}");
    passes_when_pasted(&profile, &printed);
}

#[test]
fn all_faults_are_told_before_anything_is_sent() {
    let bench = Bench::udp(Ipv4Addr::LOCALHOST, Agent::default());
    let community = ["--set", "community=private"];
    let two = OWN.replace("99.1.{outlet}\", i = 2", "99.1.{outlt}\", i = 2");
    let two = two.replace("\"Nobody\"", "\"\"");
    for (profile, more, expected) in [
        (
            two.as_str(),
            vec!["--set", "community=private"],
            &[
                "own.toml:2:1: vendor: expected",
                "own.toml:13:10: off.set.0.oid: nothing defines {outlt}",
            ][..],
        ),
        (OWN, vec![], &["--set: community: required"]),
        (
            OWN,
            vec!["--set", "community=private", "--set", "comunity=x"],
            &["--set: comunity: unknown key, did you mean community?"],
        ),
        (
            OWN,
            vec!["--set", "community=private", "--outlet", "9"],
            &["outlets 1 to 4"],
        ),
    ] {
        let lab = lab_with(profile);
        let output = tried(&lab, &bench.address(), &[more.as_slice(), &["on"]].concat());
        let told = stderr(&output);
        assert!(
            !output.status.success() && stdout(&output).is_empty(),
            "{told}"
        );
        for expected in expected {
            assert!(told.contains(expected), "{expected}: {told}");
        }
    }
    let lab = lab_with(OWN);
    let output = tried(
        &lab,
        &bench.address(),
        &[&community[..], &["state"]].concat(),
    );
    assert!(stdout(&output).contains("-- off"), "nothing was switched");
    let missing = lab.run(&[
        "--try",
        "./none.toml",
        "--hostname",
        "h",
        "--outlet",
        "1",
        "on",
    ]);
    assert!(
        stderr(&missing).contains("there is no such file"),
        "{}",
        stderr(&missing)
    );
}
