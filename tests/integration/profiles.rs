//! The shipped profiles: each is right, proves itself by its own tests, and these tests see every
//! change of what is sent and of what an answer means.
//!
//! `PDUD_PROFILES=FOLDER` looks at the profiles of another folder in their place.

use crate::daemon::{Lab, stderr, wait_for};
use crate::sim::pdus::Agent;
use crate::sim::stream::Bench;
use pdudaemon::driver::registry;
use serde_json::json;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Changes that change nothing: profile, place, and why.
const CHANGE_NOTHING: &[(&str, &str, &str)] = &[];

fn folder() -> PathBuf {
    let shipped = || Path::new(env!("CARGO_MANIFEST_DIR")).join("share/profiles");
    std::env::var_os("PDUD_PROFILES").map_or_else(shipped, PathBuf::from)
}

/// Every profile by its id.
fn profiles() -> Vec<(String, toml::Table)> {
    let files = std::fs::read_dir(folder()).expect("the folder is there");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("readable").path()).collect();
    files.sort();
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).expect("readable");
        let id = file
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let table = toml::from_str(&text).unwrap_or_else(|error| panic!("{id}: {error}"));
        (id, table)
    };
    files.iter().map(read).collect()
}

/// What is wrong with a profile: its faults, or its tests that fail.
pub(crate) fn faults(profile: &toml::Table) -> Vec<String> {
    let json = serde_json::to_string(profile).expect("JSON");
    match registry::inline(&json) {
        Ok(spec) => spec.build.prove(),
        Err(faults) => faults
            .each()
            .iter()
            .map(|fault| fault.message.clone())
            .collect(),
    }
}

#[test]
fn every_profile_is_right_and_proves_itself() {
    let mut wrong = Vec::new();
    for (id, profile) in profiles() {
        let told = faults(&profile)
            .into_iter()
            .map(|what| format!("{id}: {what}"));
        wrong.extend(told);
        if profile.get("id").and_then(|id| id.as_str()) != Some(&id) {
            wrong.push(format!("{id}: the file has another name than its id"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_profile_has_names_of_its_own() {
    let mut names: Vec<String> = registry::names().map(str::to_owned).collect();
    for (id, profile) in profiles() {
        let aliases = profile
            .get("aliases")
            .and_then(|aliases| aliases.as_array());
        let aliases: Vec<&str> = aliases
            .into_iter()
            .flatten()
            .filter_map(|alias| alias.as_str())
            .collect();
        if std::env::var_os("PDUD_PROFILES").is_none() {
            let spec = registry::Registry::default()
                .find(&id)
                .expect("right")
                .expect("shipped");
            let known: Vec<&str> = std::iter::once(id.as_str()).chain(aliases).collect();
            assert_eq!(
                spec.names, known,
                "the table of {id}: its aliases stand on one line"
            );
        } else {
            names.push(id);
        }
    }
    names.sort();
    for pair in names.windows(2) {
        assert_ne!(pair[0], pair[1], "there are two drivers of this name");
    }
}

/// The changes of one profile that its tests do not see, and how many changes there are.
fn unseen_changes(id: &str, profile: &toml::Table) -> (Vec<String>, usize) {
    let (mut unseen, mut all) = (Vec::new(), 0);
    for table in ["on", "off", "state"] {
        let Some(value) = profile.get(table) else {
            continue;
        };
        let mut changes = Vec::new();
        change(value, table, &mut changes);
        all += changes.len();
        for (path, changed) in changes {
            let is_known = CHANGE_NOTHING
                .iter()
                .any(|(of, at, _)| *of == id && *at == path);
            let mut other = profile.clone();
            other.insert(table.to_owned(), changed.clone());
            if !is_known && faults(&other).is_empty() {
                unseen.push(format!("{id}: {path}: {changed:?}"));
            }
        }
    }
    (unseen, all)
}

#[test]
fn the_tests_of_every_profile_see_every_change() {
    let profiles = profiles();
    let next = AtomicUsize::new(0);
    let look = || {
        let (mut unseen, mut all) = (Vec::new(), 0);
        while let Some((id, profile)) = profiles.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (missed, made) = unseen_changes(id, profile);
            unseen.extend(missed);
            all += made;
        }
        (unseen, all)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut unseen, mut all) = (Vec::new(), 0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(look)).collect();
        for thread in threads {
            let (missed, made) = thread.join().expect("looked");
            unseen.extend(missed);
            all += made;
        }
    });
    assert!(all > 50, "changes are made");
    assert!(
        unseen.is_empty(),
        "{} of {all} are not seen:\n{}",
        unseen.len(),
        unseen.join("\n")
    );
}

/// Every change of one byte, number or meaning within `value`, with its place.
fn change(value: &toml::Value, path: &str, changes: &mut Vec<(String, toml::Value)>) {
    use toml::Value as V;
    let mut within = Vec::new();
    match value {
        V::String(text) => {
            let meanings = ["on", "off", "switching", "absent", "locked", "fault"];
            if path.contains(".map.") {
                let others = meanings.iter().filter(|other| *other != text);
                within.extend(
                    others
                        .take(2)
                        .map(|other| (path.to_owned(), V::from(*other))),
                );
            } else {
                for (at, _) in text.bytes().enumerate() {
                    let changed = with_other_byte(text, at);
                    within.extend(changed.map(|text| (path.to_owned(), V::from(text))));
                }
            }
        }
        V::Integer(number) => within.push((path.to_owned(), V::from(number + 1))),
        V::Array(list) => {
            for (at, item) in list.iter().enumerate() {
                let mut changed = Vec::new();
                change(item, &format!("{path}.{at}"), &mut changed);
                within.extend(changed.into_iter().map(|(path, item)| {
                    let mut list = list.clone();
                    list[at] = item;
                    (path, V::from(list))
                }));
            }
        }
        V::Table(table) => {
            for (key, item) in table {
                let path_of = format!("{path}.{key}");
                let mut changed = Vec::new();
                change(item, &path_of, &mut changed);
                within.extend(changed.into_iter().map(|(path, item)| {
                    let mut table = table.clone();
                    table.insert(key.clone(), item);
                    (path, V::from(table))
                }));
                // Another value has the meaning.
                if path.ends_with(".map") {
                    let mut table = table.clone();
                    let meaning = table.remove(key).expect("there");
                    table.insert(format!("{key}7"), meaning);
                    within.push((path_of, V::from(table)));
                }
            }
        }
        _ => {}
    }
    changes.extend(within);
}

/// The text with the letter or digit at `at` replaced; holes keep their names.
fn with_other_byte(text: &str, at: usize) -> Option<String> {
    let before = text.get(..at)?;
    let is_in_hole = before.rfind('{') > before.rfind('}') && text.get(at..)?.contains('}');
    let byte = *text.as_bytes().get(at)?;
    let other = match byte {
        _ if is_in_hole => return None,
        b'9' => b'8',
        b'z' => b'y',
        b'Z' => b'Y',
        _ if byte.is_ascii_alphanumeric() => byte + 1,
        _ => return None,
    };
    Some(format!(
        "{before}{}{}",
        char::from(other),
        text.get(at + 1..)?
    ))
}

/// A console over ssh: it asks before it does something, and pages what it shows.
const CONSOLE: &str = r#"id = "own"
vendor = "Nobody"
models = "a console"
transport = "line"
[evidence]
maturity = "unverified"
sources = ["this test"]
[keys.username]
help = "the user"
[keys.password]
default = ""
secret = true
help = "the password"
[line]
over = ["telnet", "ssh"]
prompt = '(?m)^pdu> $'
[limits]
gap = 0.05
[outlets]
range = "1-4"
[login]
steps = [
  { expect = 'User: ', over = ["telnet"] },
  { send = "{username}", expect = "prompt", over = ["telnet"] },
  { expect = "Press Return", over = ["ssh"] },
  { send = "", expect = "prompt", over = ["ssh"] },
]
[logout]
steps = [{ send = "quit" }]
[on]
steps = [{ send = "on {outlet}", expect = "prompt", answer = { 'Sure' = "yes" } }]
[off]
steps = [{ send = "off {outlet}", expect = "prompt", answer = { 'Sure' = "yes" } }]
[state]
steps = [{ send = "show", expect = "prompt", answer = { 'More' = { key = "y" } } }]
take = { all = '(?m)^(?<outlet>\d) (?<state>on|off)$' }
map = { on = "on", off = "off" }
[[test]]
keys = { over = "ssh", username = "lab" }
outlet = 2
do = "on"
wire = """
< "Press Return"
>
< "pdu> "
> on 2
< "Sure? "
> yes
< "\\r\\npdu> "
> show
< "1 off\\r\\nMore? "
> y
< "\\r\\n2 on\\r\\npdu> "
> quit
-- ok
"""
"#;

/// That console, for one login; the file `on` has the outlets that are on.
const CONSOLE_SCRIPT: &str = r#"
touch on
printf 'Press Return'
read -r line
printf 'pdu> '
while read -r word outlet; do
  case $word in
  on | off)
    printf 'Sure? '
    read -r sure
    sed -i "/^$outlet\$/d" on
    [ "$sure $word" = "yes on" ] && echo "$outlet" >>on ;;
  show)
    for outlet in 1 2; do grep -q "^$outlet\$" on && echo "$outlet on" || echo "$outlet off"; done
    printf 'More? '
    stty -icanon
    key=$(dd bs=1 count=1 2>/dev/null)
    stty icanon
    echo
    for outlet in 3 4; do grep -q "^$outlet\$" on && echo "$outlet on" || echo "$outlet off"; done ;;
  quit) echo quit >>left; exit ;;
  esac
  printf 'pdu> '
done
"#;

#[test]
fn a_dialogue_goes_over_ssh() {
    use crate::sim::sshd::Sshd;
    let profile = toml::from_str(CONSOLE).expect("TOML");
    assert_eq!(faults(&profile), Vec::<String>::new());
    let sshd = Sshd::start(&[CONSOLE_SCRIPT; 40]);
    let lab = lab_with(CONSOLE);
    let with = |more: serde_json::Value| {
        let mut pdu = sshd.settings();
        let keys = pdu.as_object_mut().expect("keys");
        keys.extend(
            json!({"driver": "own", "over": "ssh", "retries": 1})
                .as_object()
                .expect("keys")
                .clone(),
        );
        keys.extend(more.as_object().expect("keys").clone());
        pdu
    };
    let pdus = json!({
        "p": with(json!({})),
        "stranger": with(json!({"key_file": Sshd::strangers_key(), "password": "mistaken"})),
        "other": with(json!({"known_hosts": sshd.known_stranger()})),
    });
    let daemon = lab.start_with(pdus, more(&lab), &[]);
    for to in ["on", "off", "on"] {
        let (status, body) = daemon.get(&format!("{to}?hostname=p&port=3"));
        assert_eq!(status, 200, "{body}");
        let (status, body) = daemon.get("get-status?hostname=p&port=3");
        assert!(status == 200 && body.contains(to), "{body}");
        let on = std::fs::read_to_string(sshd.file("on")).expect("readable");
        assert_eq!(on.trim(), if to == "on" { "3" } else { "" });
    }
    for (pdu, expected) in [
        ("stranger", "Permission denied"),
        ("other", "HOST IDENTIFICATION"),
    ] {
        let (status, body) = daemon.get(&format!("off?hostname={pdu}&port=3"));
        assert!(status == 503 && body.contains(expected), "{pdu}: {body}");
    }
    assert!(!daemon.printed().contains("mistaken"));
    wait_for("the logout", || {
        std::fs::read_to_string(sshd.file("left")).ok()
    });
    daemon.stop();
}

#[test]
fn a_header_that_could_spoil_a_request_is_refused() {
    let with = |headers: &str| {
        let text = REST.replace("X-CSRF = \"x\"", headers);
        faults(&toml::from_str(&text).expect("TOML")).join("; ")
    };
    assert_eq!(with("X-CSRF = \"x\""), "");
    for (headers, expected) in [
        (
            "Host = \"h\"",
            "http.headers.Host: Host is set by pdudaemon itself",
        ),
        (
            "content-length = \"1\"",
            "content-length is set by pdudaemon itself",
        ),
        (
            "\"A B\" = \"x\"",
            "expected the name of a header, got \"A B\"",
        ),
        ("accept = \"x\"", "this header is there twice"),
        (
            "X = \"a\\r\\nb\"",
            "http.headers.X: expected a header without control characters",
        ),
        (
            "X = \"a\\u0000b\"",
            "http.headers.X: expected a header without control characters",
        ),
        (
            "X = \"{outlet}\"",
            "http.headers.X: nothing defines {outlet} here",
        ),
    ] {
        assert!(
            with(headers).contains(expected),
            "{headers}: {}",
            with(headers)
        );
    }
    let text = REST.replace("[http]", "[http]\nauth = \"bearer\"\n[http.headers]");
    let text = text.replace(
        "headers = { Accept = \"application/json\", X-CSRF = \"x\", Cookie = \"SID={token}\" }",
        "Authorization = \"x\"",
    );
    let text = text.replace(
        "[outlets]",
        "[keys.api_key]\nsecret = true\nhelp = \"it\"\n[outlets]",
    );
    let told = faults(&toml::from_str(&text).expect("TOML")).join("; ");
    assert!(told.contains("it sets the header Authorization"), "{told}");
}

#[test]
fn the_profile_in_the_guide_is_right() {
    let guide = include_str!("../../share/doc/profiles.md");
    let blocks = guide.split("```toml\n").skip(1);
    let blocks = blocks.filter_map(|block| Some(block.split_once("```")?.0));
    let whole: Vec<&str> = blocks.filter(|block| block.starts_with("id = ")).collect();
    assert_eq!(whole.len(), 1, "the guide has one whole profile");
    let profile = toml::from_str(whole[0]).expect("TOML");
    assert_eq!(faults(&profile), Vec::<String>::new());
}

#[test]
fn a_gauge_is_written_and_a_text_becomes_numbers_of_an_oid() {
    let text = OWN
        .replace("[outlets]", "[keys.mac]\nhelp = \"it\"\n[outlets]")
        .replace(
            "99.1.{outlet}\", i = 1",
            "99.1.{outlet}.2.{mac:codes}\", u = 1",
        )
        .replace("do = \"state\"", "keys = { mac = \"0A\" }\ndo = \"on\"")
        .replace(
            "> get 99.1.3\n< i 1\n-- on",
            "> set 99.1.3.2.48.65 u 1\n< ok\n> get 99.1.3\n< i 1\n-- ok",
        );
    let profile = toml::from_str(&text).expect("TOML");
    assert_eq!(faults(&profile), Vec::<String>::new(), "{text}");
}

/// A profile of an agent whose objects are told apart by their last arc: 1 is on, 2 is off.
pub(crate) const OWN: &str = r#"id = "own"
vendor = "Nobody"
models = "any"
transport = "snmp"
[evidence]
maturity = "unverified"
sources = ["this test"]
[outlets]
range = "1-4"
[on]
set = [{ oid = "99.1.{outlet}", i = 1 }]
[off]
set = [{ oid = "99.1.{outlet}", i = 2 }]
[state]
get = "99.1.{outlet}"
map = { 1 = "on", 2 = "off" }
[[test]]
outlet = 3
do = "state"
wire = """
> get 99.1.3
< i 1
-- on
"""
"#;

/// A lab whose folder `profiles` has one of the admin's own, which is `text`.
pub(crate) fn lab_with(text: &str) -> Lab {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("profiles")).expect("a folder");
    lab.write("profiles/own.toml", text);
    lab
}

fn more(lab: &Lab) -> serde_json::Value {
    json!({"daemon": {"profiles": [lab.path("profiles")]}})
}

#[test]
fn an_own_profile_switches_and_a_changed_one_counts_from_the_next_reload() {
    let lab = lab_with(OWN);
    let agent = Bench::udp(Ipv4Addr::LOCALHOST, Agent::default());
    let inline: toml::Table = toml::from_str(&OWN.replace("\"own\"", "\"mine\"")).expect("TOML");
    let pdus = json!({
        "p": {"driver": "own", "ip": agent.address(), "community": "private"},
        "q": {"driver": "profile", "profile": inline, "ip": agent.address(), "community": "private"},
        "r": {"driver": "own", "ip": agent.address(), "username": "operator"},
    });
    let daemon = lab.start_with(pdus.clone(), more(&lab), &[]);
    for pdu in ["p", "q", "r"] {
        for (to, state) in [("on", "on"), ("off", "off")] {
            let (status, body) = daemon.get(&format!("{to}?hostname={pdu}&port=3"));
            assert_eq!(status, 200, "{pdu}: {body}");
            let (status, body) = daemon.get(&format!("get-status?hostname={pdu}&port=3"));
            assert!(status == 200 && body.contains(state), "{pdu}: {body}");
        }
        let (status, body) = daemon.get(&format!("on?hostname={pdu}&port=5"));
        assert!(status == 503 && body.contains("outlets 1 to 4"), "{body}");
    }
    lab.write("profiles/own.toml", &OWN.replace("1-4", "1-5"));
    daemon.signal(rustix::process::Signal::HUP);
    wait_for("the new profile", || {
        (daemon.get("on?hostname=p&port=5").0 == 200).then_some(())
    });
    daemon.stop();
}

#[test]
fn a_profile_that_cannot_be_used_costs_the_pdus_that_name_it_alone() {
    let healthy = json!({"driver": "simulated"});
    let named = json!({"driver": "own", "community": "private"});
    for (text, mode, expected) in [
        (
            OWN.replace("[state]", "[stat]"),
            0o644,
            "own.toml:14:2: stat: unknown key, did you mean state?",
        ),
        (
            OWN.replace("\"own\"", "\"owm\""),
            0o644,
            "own.toml:1:1: id: the file's name says \"own\"",
        ),
        (OWN.to_owned(), 0o664, "own.toml: others may write it"),
    ] {
        let lab = lab_with(&text);
        let file = lab.path("profiles/own.toml");
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(file, permissions).expect("changed");
        let pdus = json!({"a": named, "b": named, "c": healthy});
        let config = lab.config(pdus.clone(), more(&lab));
        let checked = lab.run(&["--conf", &config.to_string_lossy(), "--check"]);
        let told = stderr(&checked);
        assert!(
            !checked.status.success() && told.contains(expected),
            "{told}"
        );
        assert_eq!(
            told.matches("ERROR: ").count(),
            3,
            "one for each PDU, and one: {told}"
        );
        let daemon = lab.start_with(pdus, more(&lab), &[]);
        assert_eq!(daemon.get("on?hostname=c&port=1").0, 200);
        assert_eq!(daemon.get("on?hostname=a&port=1").0, 503);
        daemon.stop();
    }
}

#[test]
fn check_runs_the_tests_of_the_profiles_that_are_named() {
    let pdus = json!({"a": {"driver": "own", "community": "private"}});
    for (text, expected) in [
        (OWN.to_owned(), ""),
        (
            OWN.replace("< i 1", "< i 2"),
            "test.0: expected -- on, got -- off",
        ),
        (
            OWN.replace("get 99.1.3", "get 99.2.3"),
            "test.0: expected > get 1.3.6.1.4.1.99.2.3, got > get",
        ),
        (
            OWN.replace("< i 1", "< i 1\n> get 99.1.3"),
            "test.0: never sent: > get",
        ),
    ] {
        let lab = lab_with(&text);
        let config = lab.config(pdus.clone(), more(&lab));
        let checked = lab.run(&["--conf", &config.to_string_lossy(), "--check"]);
        let told = stderr(&checked);
        assert_eq!(checked.status.success(), expected.is_empty(), "{told}");
        assert!(told.contains(expected), "{told}");
    }
}

/// A NETIO with KSHELL as a dialogue.
pub(crate) const KSHELL: &str = r#"id = "own"
vendor = "Netio"
models = "KSHELL"
transport = "line"
[evidence]
maturity = "unverified"
sources = ["this test"]
[keys.password]
secret = true
help = "the password"
[line]
over = ["telnet", "tcp"]
prompt = '(?m)^[0-9]{3} .*$\n'
[outlets]
range = "1-4"
[errors]
'(?m)^50[02].*\n' = "refused"
[login]
steps = [
  { expect = '100 .*\n' },
  { send = "login admin {password}", expect = '250 .*\n', else = { '501 .*\n' = "login" } },
]
[logout]
steps = [{ send = "quit", expect = "prompt" }]
[on]
steps = [{ send = "port {outlet} 1", expect = '250 .*\n' }]
[off]
steps = [{ send = "port {outlet} 0", expect = '250 .*\n' }]
[state]
steps = [{ send = "port {outlet}", expect = '250 .*\n' }]
take = { regex = '250 ([01])' }
map = { 0 = "off", 1 = "on" }
"#;

/// A Shelly of the second generation.
pub(crate) const SHELLY: &str = r#"id = "own"
vendor = "Shelly"
models = "second generation"
transport = "http"
[evidence]
maturity = "unverified"
sources = ["this test"]
[outlets]
range = "0-3"
[on]
request = { post = "/rpc", json = '{"id":1,"method":"Switch.Set","params":{"id":{outlet},"on":true}}' }
[off]
request = { post = "/rpc", json = '{"id":1,"method":"Switch.Set","params":{"id":{outlet},"on":false}}' }
[state]
request = { post = "/rpc", json = '{"id":1,"method":"Switch.GetStatus","params":{"id":{outlet}}}' }
take = { json = "/result/output" }
map = { true = "on", false = "off" }
"#;

/// A PDU with a REST interface, headers of its own and a login by cookie.
const REST: &str = r#"id = "own"
vendor = "Nobody"
models = "REST"
transport = "http"
[evidence]
maturity = "unverified"
sources = ["this test"]
[keys.password]
secret = true
help = "the password"
[http]
headers = { Accept = "application/json", X-CSRF = "x", Cookie = "SID={token}" }
[outlets]
range = "1-4"
[login]
request = { post = "/login", json = '{"data":["lab","{password}"]}' }
take = { cookie = "SID" }
[on]
request = { put = "/outlets/{outlet}", form = "value=true" }
[off]
request = { put = "/outlets/{outlet}", form = "value=false" }
[state]
request = { get = "/outlets/{outlet}" }
take = { json = "/0" }
map = { true = "on", false = "off" }
"#;

/// A Devantech ETH008 in bytes.
pub(crate) const ETH: &str = r#"id = "own"
vendor = "Devantech"
models = "ETH008"
transport = "bytes"
[evidence]
maturity = "unverified"
sources = ["this test"]
[keys.password]
secret = true
help = "the password"
[bytes]
over = ["tcp"]
port = 17494
[outlets]
range = "1-8"
vars = { bit = "1 << (outlet - 1)" }
[login]
write = '79 "{password}"'
read = { bytes = 1, is = "01" }
[on]
write = "20 {outlet:02x} 00"
read = { bytes = 1, is = "00" }
[off]
write = "21 {outlet:02x} 00"
read = { bytes = 1, is = "00" }
[state]
write = "24"
read = { bytes = 1 }
take = { byte = "0" }
test = "bit"
map = { 0 = "off", 1 = "on" }
"#;

#[test]
fn every_engine_switches_a_pdu_on_a_real_connection() {
    use crate::sim::pdus::{Dialect, Eth, Kshell, Rest, Web};
    let local = Ipv4Addr::LOCALHOST;
    let benches = [
        (KSHELL, Bench::tcp(local, Kshell::default())),
        (SHELLY, Bench::tcp(local, Web::new(Dialect::Shelly))),
        (REST, Bench::tcp(local, Rest::default())),
        (ETH, Bench::tcp(local, Eth::default())),
    ];
    for (text, bench) in benches {
        let lab = lab_with(text);
        let pdu = |password: &str| json!({"driver": "own", "ip": bench.address(), "password": password, "retries": 1});
        let daemon = lab.start_with(
            json!({"p": pdu("secret"), "q": pdu("wrong")}),
            more(&lab),
            &[],
        );
        let is_on = || bench.pdu.lock().expect("lock").is_on("3");
        for (to, expected) in [("on", Some(true)), ("off", Some(false)), ("on", Some(true))] {
            let (status, body) = daemon.get(&format!("{to}?hostname=p&port=3"));
            assert_eq!((status, is_on()), (200, expected), "{text}: {body}");
            let (status, body) = daemon.get("get-status?hostname=p&port=3");
            assert!(status == 200 && body.contains(to), "{text}: {body}");
        }
        if text.contains("[login]") {
            let (status, body) = daemon.get("off?hostname=q&port=3");
            assert_eq!((status, is_on()), (503, Some(true)), "{body}");
            assert!(
                !daemon.printed().contains("wrong"),
                "the password is not told"
            );
        }
        daemon.stop();
    }
}
