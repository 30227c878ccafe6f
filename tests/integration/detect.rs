//! `pdudaemon --detect`: which profile a PDU on the network has. It only reads, and comes to an end
//! whatever is there.

use crate::daemon::{Lab, stderr, stdout};
use crate::sim::port;
use crate::sim::stream::{Bench, Pdu};
use crate::sim::walk::Walk;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::Path;

/// The system group of an agent of this kind.
fn system(id: &str, about: &str) -> String {
    format!("1.3.6.1.2.1.1.1.0|4|{about}\n1.3.6.1.2.1.1.2.0|6|1.3.6.1.4.1.{id}\n")
}

/// What `--detect` says of the PDU of this walk, and whether a profile fits.
fn seen(walk: &str, more: &[&str]) -> (bool, String) {
    let lab = Lab::new();
    let bench = Bench::udp(Ipv4Addr::LOCALHOST, Walk::of(walk));
    let output = lab.run(&[&["--detect", &bench.address()], more].concat());
    assert!(stderr(&output).is_empty(), "{}", stderr(&output));
    let is_written = bench.pdu.lock().expect("lock").is_on("written");
    assert_eq!(is_written, Some(false), "it only reads");
    (output.status.success(), stdout(&output))
}

/// The config entries that it prints, each under the PDU's name.
fn entries(printed: &str) -> Vec<Value> {
    let lines = printed
        .lines()
        .filter_map(|line| line.strip_prefix("    \""));
    let read = lines.map(|line| serde_json::from_str(&format!("{{\"{line}}}")).expect("an entry"));
    read.collect()
}

const RPDU2: &str = "\
1.3.6.1.4.1.318.1.1.26.9.1.0|2|3
1.3.6.1.4.1.318.1.1.26.9.2.3.1.3.1|4|Router
1.3.6.1.4.1.318.1.1.26.9.2.3.1.3.2|4|Outlet 2
1.3.6.1.4.1.318.1.1.26.9.2.3.1.3.3|4|
1.3.6.1.4.1.318.1.1.26.9.2.3.1.5.1|2|2
1.3.6.1.4.1.318.1.1.26.9.2.3.1.5.2|2|1
1.3.6.1.4.1.318.1.1.26.9.2.3.1.5.3|2|2
";

#[test]
fn the_profile_the_outlets_and_an_entry_that_loads_are_printed() {
    let walk = system("318.1.3.4.6", "APC Web/SNMP Management Card") + RPDU2;
    for more in [
        &[][..],
        &["--set", "community=public"],
        &["--set", "version=2c"],
        &["--set", "username=operator"],
    ] {
        let (is_known, printed) = seen(&walk, more);
        assert!(is_known, "{printed}");
        let expected = "outlets: 3: 1 \"Router\", 2 \"Outlet 2\", 3\n";
        assert!(printed.contains(expected), "{printed}");
        assert!(printed.contains("\napc-rpdu2: APC"), "{printed}");
        let [entry] = entries(&printed).try_into().expect("one entry");
        let lab = Lab::new();
        let config = lab.config(entry, json!({}));
        let checked = lab.run(&["--conf", &config.to_string_lossy(), "--check"]);
        assert!(checked.status.success(), "{}", stderr(&checked));
    }
}

#[test]
fn a_pdu_of_the_kind_without_outlets_is_not_claimed() {
    let walk = system("318.1.3.4.6", "metered alone");
    let (is_known, printed) = seen(&walk, &[]);
    assert!(!is_known && entries(&printed).is_empty(), "{printed}");
    for expected in [
        "sysObjectID \"1.3.6.1.4.1.318.1.3.4.6\"",
        "sysDescr \"metered alone\"",
        "apc-rpdu2: for PDUs of this kind, but this one shows no object 1.3.6.1.4.1.318.1.1.26.9.2.3.1.5",
        "No profile is for this PDU",
        "--list-drivers WORD",
    ] {
        assert!(printed.contains(expected), "{expected}: {printed}");
    }
    let (is_known, printed) = seen(&system("99999.1", "a kettle"), &[]);
    assert!(
        !is_known && printed.contains("a kettle") && !printed.contains("for PDUs of"),
        "{printed}"
    );
}

#[test]
fn several_profiles_that_fit_are_told_the_best_first() {
    let ports = "1.3.6.1.2.1.105.1.1.1.3.1.1|2|1\n1.3.6.1.2.1.105.1.1.1.3.1.2|2|2\n";
    let (is_known, printed) = seen(&(system("7428.1.1.1.23", "Midspan") + ports), &[]);
    assert!(is_known, "{printed}");
    let place = |name: &str| printed.find(&format!("\n{name}: ")).expect(name);
    assert!(place("microsemi-midspan") < place("poe-mib"), "{printed}");
}

#[test]
fn what_the_pdu_shows_of_the_keys_stands_in_the_entry() {
    let gude = "1.3.6.1.4.1.28507.67.1.3.1.1.0|2|2\n\
        1.3.6.1.4.1.28507.67.1.3.1.2.1.3.1|2|0\n1.3.6.1.4.1.28507.67.1.3.1.2.1.3.2|2|1\n";
    let (_, printed) = seen(&(system("28507.67", "ESB7214") + gude), &[]);
    let [entry] = entries(&printed).try_into().expect("one entry");
    let pdu = entry
        .as_object()
        .and_then(|pdus| pdus.values().next())
        .expect("a PDU");
    assert_eq!(
        (&pdu["driver"], &pdu["product"]),
        (&json!("gude-snmp"), &json!(67))
    );
    assert!(printed.contains("outlets: 2: 1, 2\n"), "{printed}");
    // The number of the databus is not the default one.
    let bus = "1.3.6.1.4.1.31034.12.1.1.2.7.3.1.2.210.1|2|1\n";
    let (_, printed) = seen(&(system("31034.11.1", "Schleifenbauer") + bus), &[]);
    assert!(printed.contains("\"address\": 210"), "{printed}");
}

#[test]
fn nobody_there_and_wrong_options_are_errors() {
    let lab = Lab::new();
    let address = format!("127.0.0.1:{}", port::free());
    for (args, expected) in [
        (vec!["--detect", &address], "no SNMP agent at"),
        (vec!["--detect", &address, "--http"], "refused"),
        (
            vec!["--detect", &address, "--set", "comunity=x"],
            "--set: comunity: unknown key, did you mean community?",
        ),
    ] {
        let output = lab.run(&args);
        let told = stderr(&output);
        assert!(
            !output.status.success() && told.contains(expected),
            "{told}"
        );
    }
}

/// A web server with these pages.
struct Pages(&'static [(&'static str, &'static str)]);

impl Pdu for Pages {
    fn answer(&mut self, input: &mut Vec<u8>, _: bool) -> Option<Vec<u8>> {
        let text = String::from_utf8_lossy(input).into_owned();
        let (head, _) = text.split_once("\r\n\r\n")?;
        input.clear();
        let path = head.split(' ').nth(1)?;
        let found = self.0.iter().find(|(own, _)| *own == path);
        let (status, body) = found.map_or((404, "no such page"), |(_, body)| (200, *body));
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}");
        Some(answer.into_bytes())
    }
}

#[test]
fn a_page_that_needs_no_login_tells_the_profile() {
    let shelly = r#"{"type":"SHSW-25","mac":"B929CC","auth":true,"fw":"20200827","num_outputs":2}"#;
    let lab = Lab::new();
    let bench = Bench::tcp(
        Ipv4Addr::LOCALHOST,
        Pages(Box::leak(Box::new([("/", "<html>"), ("/shelly", shelly)]))),
    );
    let output = lab.run(&["--detect", &bench.address(), "--http"]);
    let printed = stdout(&output);
    assert!(output.status.success(), "{printed}{}", stderr(&output));
    assert!(printed.contains("\nshelly-gen1: "), "{printed}");
    let bench = Bench::tcp(Ipv4Addr::LOCALHOST, Pages(&[("/", "a kettle")]));
    let output = lab.run(&["--detect", &bench.address(), "--http"]);
    let printed = stdout(&output);
    assert!(
        !output.status.success() && printed.contains("a kettle"),
        "{printed}"
    );
}

/// Recorded walks of real PDUs, which are not part of the project: `PDUD_WALKS=FOLDER` names their
/// folder, and what each is taken for is printed.
#[test]
#[ignore = "needs a folder of recorded walks, PDUD_WALKS"]
fn recorded_walks_are_claimed_by_their_profiles() {
    let folder = std::env::var_os("PDUD_WALKS").expect("PDUD_WALKS=FOLDER");
    let files = std::fs::read_dir(Path::new(&folder)).expect("a folder");
    let mut files: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    files.sort();
    for file in files {
        let walk = std::fs::read(&file).expect("readable");
        let (_, printed) = seen(&String::from_utf8_lossy(&walk), &[]);
        let name = file.file_stem().expect("a name").to_string_lossy();
        println!("== {name}\n{printed}");
    }
}
