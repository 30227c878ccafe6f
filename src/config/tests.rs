//! What loads, what warns, what is refused, and with which words.

use super::*;
use crate::driver::registry;
use crate::request::Outlet;
use crate::settings::{PduKeys, Secret, keys};
use std::time::Duration;

fn parse(pdus_and_more: &str) -> Result<Config, String> {
    let text = format!("{{\"daemon\": {{\"hostname\": \"localhost\"}},\n{pdus_and_more}}}");
    Config::parse(&text, "x.conf").map_err(|error| error.to_string())
}

fn warnings(text: &str) -> Vec<String> {
    parse(text)
        .expect("loads")
        .findings
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// The errors, whether anything can be served or not.
fn errors(pdus_and_more: &str) -> String {
    parse(pdus_and_more).map_or_else(|error| error, |config| config.findings.to_string())
}

fn good<'c>(config: &'c Config, name: &str) -> &'c PduConfig {
    config.pdus[name].as_ref().expect("a good PDU")
}

#[test]
fn an_old_file_loads_with_numbers_as_strings() {
    let config = Config::parse(
        r#"{"daemon": {"hostname": "0.0.0.0", "port": "16421", "listener": "http", "logging_level": "DEBUG"},
            "pdus": {"sim": {"driver": "simulated", "outlets": "4", "retries": "3", "retrydelay": 1.5}},
            "aliases": {"board": {"hostname": "sim", "port": 4}, "other": {"hostname": "sim", "port": "04"}}}"#,
        "x.conf",
    )
    .expect("loads");
    assert!(
        matches!(config.findings.warnings.as_slice(), [open] if open.to_string().contains("0.0.0.0")),
        "{:?}",
        config.findings.warnings
    );
    assert_eq!(
        (config.daemon.port, config.daemon.protocols),
        (16421, Protocols::Http)
    );
    let pdu = good(&config, "sim");
    assert_eq!(
        (pdu.retries, pdu.retrydelay, pdu.timeout.as_secs()),
        (3, Duration::from_millis(1500), 30)
    );
    let aliases = config.aliases.expect("readable");
    assert_eq!(aliases["board"], aliases["other"]);
}

#[test]
fn the_listener_takes_addresses_lists_and_sockets() {
    let listen = |daemon: &str| {
        let text = format!(r#"{{"daemon": {daemon}, "pdus": {{}}}}"#);
        Config::parse(&text, "x.conf").map(|config| {
            (
                config.daemon.listen,
                config.daemon.port,
                config.daemon.protocols,
            )
        })
    };
    assert_eq!(
        listen(r#"{"hostname": null}"#).expect("loads"),
        (vec![Listen::All], 16421, Protocols::Both)
    );
    let several = listen(r#"{"hostname": ["127.0.0.1", "::1", "/run/p.sock"], "port": null}"#)
        .expect("loads");
    assert_eq!(several.0.len(), 3);
    assert_eq!(several.1, 0);
    assert_eq!(several.0[2], Listen::Unix("/run/p.sock".into()));
    assert!(listen(r#"{"hostname": []}"#).is_err());
    assert!(
        listen(r#"{"port": 1}"#)
            .expect_err("refused")
            .to_string()
            .contains("hostname")
    );
    let wrong = listen(r#"{"hostname": "h", "listener": "udp"}"#)
        .expect_err("refused")
        .to_string();
    assert!(
        wrong.starts_with("x.conf:1:30: daemon.listener: expected"),
        "{wrong}"
    );
}

#[test]
fn unknown_keys_duplicates_and_dead_aliases_are_warnings() {
    let warned = warnings(
        r#""pdus": {"a": {"driver": "simulated", "retrys": 3, "outlets": 2, "outlets": 3},
                    "a": {"driver": "simulated"}},
           "aliases": {"x": {"hostname": "b", "port": 1}, "y": {"hostname": "a", "port": 99}, "z": {"port": 1}},
           "pdu": {}"#,
    );
    let all = warned.join("\n");
    for part in [
        "pdus.a: is there more than once",
        "pdu: unknown key, did you mean pdus?",
        "aliases.x: this alias leads nowhere: there is no PDU \"b\"",
        "aliases.y: this alias leads nowhere: PDU a, outlet 99: no such outlet: expected outlets 1 to 8",
        "aliases.z: this alias leads nowhere",
    ] {
        assert!(all.contains(part), "{part} is not in\n{all}");
    }
    let warned = warnings(
        r#""pdus": {"a": {"driver": "simulated", "retrys": 3, "outlets": 2, "outlets": 3}}"#,
    )
    .join("\n");
    assert!(
        warned.contains("x.conf:2:39: pdus.a.retrys: unknown key, did you mean retries?"),
        "{warned}"
    );
    assert!(
        warned.contains("pdus.a.outlets: is there more than once"),
        "{warned}"
    );
    let fixed = r#"{"driver": "snmpv1", "community": "x", "onsetting": 1, "offsetting": 2, "oid": "1.3.6.4"}"#;
    let warned = warnings(&format!(
        r#""pdus": {{"a": {fixed}, "b": {}}}"#,
        fixed.replace(".4", ".*")
    ));
    assert!(
        warned
            .iter()
            .any(|text| text.contains("x.conf:2:87: pdus.a.oid: has no * for the outlet"))
            && warned.iter().all(|text| !text.contains("pdus.b.oid")),
        "{warned:?}"
    );
    assert!(
        warnings(r#""pdus": {"a": {"driver": "simulated", "retries": 0}}"#)
            .join("")
            .contains("counts as 1")
    );
}

#[test]
fn what_cannot_work_is_an_error_with_its_place() {
    for (text, expected) in [
        (
            r#""pdus": {"a": {"driver": "nonsense"}}"#,
            "x.conf:2:16: pdus.a.driver: unknown driver \"nonsense\"",
        ),
        (
            r#""pdus": {"a": {"driver": "simulatd"}}"#,
            "did you mean simulated?",
        ),
        (r#""pdus": {"a": {}}"#, "pdus.a.driver: missing"),
        (
            r#""pdus": {"a": 5}"#,
            "x.conf:2:15: pdus.a: expected an object, got a number",
        ),
        (
            r#""pdus": {"a": {"driver": "simulated", "outlets": "x"}}"#,
            "x.conf:2:39: pdus.a.outlets: outlet x: no such outlet: expected outlets 1 to 1024",
        ),
        (
            r#""pdus": {"a": {"driver": "simulated", "outlets": {}}}"#,
            "pdus.a.outlets: expected a number, a range such as \"1-8,12\", or a list of outlets, got an object",
        ),
        (
            r#""pdus": {"a": {"driver": "simulated", "outlets": 2000}}"#,
            "pdus.a.outlets: expected 1 to 1024 outlets, got 2000",
        ),
        (
            r#""pdus": {"a": {"driver": "simulated", "outlets": []}}"#,
            "pdus.a.outlets: expected at least one outlet",
        ),
        (
            r#""pdus": {"a": {"driver": "devantech_eth002", "ip": "x", "outlets": "1-3"}}"#,
            "pdus.a.outlets: outlet 3: no such outlet: expected outlets 1 to 2",
        ),
        (
            r#""pdus": {"a": {"driver": "bcu", "outlets": ["left", "right"]}}"#,
            "pdus.a.outlets: outlet right is outlet left under another name",
        ),
        (
            r#""pdus": {"a": {"driver": "simulated", "timeout": 0}}"#,
            "pdus.a.timeout: expected",
        ),
        (
            r#""pdus": {"a": {"driver": "simulated", "retrydelay": -1}}"#,
            "pdus.a.retrydelay: expected",
        ),
        (
            r#""pdus": {"a": {"driver": "simulated", "queue_limit": 0}}"#,
            "pdus.a.queue_limit: expected",
        ),
        (
            r#""pdus": {"a": {"driver": "simulated", "client_limit": 0}}"#,
            "pdus.a.client_limit: expected",
        ),
        (
            r#""pdus": {"a": {"driver": "simulated", "delayed_limit": "no"}}"#,
            "pdus.a.delayed_limit: ",
        ),
        (
            r#""pdus": {"a": {"driver": "simulated", "refresh": 0.5}}"#,
            "pdus.a.refresh: expected 1 to 86400 seconds or \"never\", got 0.5",
        ),
        (
            r#""pdus": {"a": {"driver": "simulated", "refresh": "often"}}"#,
            "pdus.a.refresh: expected",
        ),
        (
            r#""pdus": {"a": "#,
            "x.conf:2:15: broken JSON: expected value",
        ),
        (r#""aliases": {}"#, "pdus: missing section"),
    ] {
        let error = errors(text);
        assert!(error.contains(expected), "expected {expected} in {error}");
    }
}

#[test]
fn the_key_outlets_says_which_of_them_a_pdu_has() {
    for (settings, listed, left_out) in [
        (r#""driver": "simulated", "outlets": 2"#, "1 2", "3"),
        (r#""driver": "simulated", "outlets": " 3 ""#, "1 2 3", "4"),
        (
            r#""driver": "simulated", "outlets": "12,1-3""#,
            "1 2 3 12",
            "4",
        ),
        (r#""driver": "simulated", "outlets": [7, "2"]"#, "2 7", "1"),
        (
            r#""driver": "simulated", "outlets": null"#,
            "1 2 3 4 5 6 7 8",
            "9",
        ),
        (r#""driver": "apc7921", "outlets": 2"#, "1 2", "3"),
        (
            r#""driver": "snmpv1", "community": "c", "oid": "1.3.*", "onsetting": 1, "offsetting": 2, "outlets": 2"#,
            "1 2",
            "3",
        ),
    ] {
        let config = parse(&format!(r#""pdus": {{"a": {{{settings}}}}}"#)).expect("loads");
        let outlets = &good(&config, "a").outlets;
        let all: Vec<String> = outlets
            .all()
            .expect("known")
            .iter()
            .map(Outlet::to_string)
            .collect();
        assert_eq!(all.join(" "), listed, "{settings}");
        assert!(outlets.parse(&Outlet::new(left_out)).is_err(), "{settings}");
        let own = outlets.own().parse(&Outlet::new(left_out));
        assert!(own.is_ok(), "the driver can have it: {settings}");
    }
    let counts_from_0 = r#""pdus": {"a": {"driver": "shelly_gen2", "ip": "x", "outlets": 2}}"#;
    let config = parse(counts_from_0).expect("loads");
    let all = good(&config, "a").outlets.all();
    assert_eq!(all.expect("known"), [Outlet::new("0"), Outlet::new("1")]);
    let named = r#""pdus": {"a": {"driver": "simulated", "outlets": 2, "outlet_names": {"3": "x"}}},
        "aliases": {"b": {"hostname": "a", "port": 3}}"#;
    let warned = warnings(named).join("\n");
    assert!(
        warned.contains("pdus.a.outlet_names.3: no such outlet: expected outlets 1, 2"),
        "{warned}"
    );
    assert!(
        warned.contains("PDU a, outlet 3: no such outlet"),
        "{warned}"
    );
}

#[test]
fn a_group_alias_names_several_outlets() {
    let pdus = r#""pdus": {"p": {"driver": "simulated"}, "q": {"driver": "simulated"}}"#;
    let config = parse(&format!(
        r#"{pdus}, "aliases": {{"board7": {{"outlets": [{{"hostname": "p", "port": 3}}, {{"hostname": "q", "port": "5"}}]}}}}"#
    ))
    .expect("loads");
    let Alias::Outlets(outlets) = &config.aliases.as_ref().expect("readable")["board7"] else {
        panic!("a dead alias")
    };
    assert_eq!(outlets.len(), 2);
    let twice = format!(
        r#"{pdus}, "aliases": {{"b": {{"outlets": [{{"hostname": "p", "port": 3}}, {{"hostname": "p", "port": "03"}}]}}}}"#
    );
    assert!(warnings(&twice).join("").contains("is there twice"));
}

#[test]
fn places_far_into_the_file_are_found() {
    for separator in ["", "\n"] {
        let pdu = |number: usize| {
            format!("{separator}\"p\u{e4}{number}\": {{\"driver\": \"simulated\"}},")
        };
        let pdus: String = (0..500).map(pdu).collect();
        let before = format!("{{\"daemon\": {{\"hostname\": \"h\"}}, \"pdus\": {{{pdus}\"last\": ");
        let text = format!("{before}{{\"driver\": \"nonesuch\"}}}}}}");
        let place = Position::of(&text, before.len());
        let config = Config::parse(&text, "f").expect("the others are good");
        let error = config.findings.to_string();
        let line = format!("f:{}:", place.line);
        assert!(error.starts_with(&line), "{error}: expected {line}");
        let column = error
            .split(':')
            .nth(2)
            .and_then(|c| c.trim().parse::<usize>().ok());
        // The driver key's place is within the PDU's object.
        assert_eq!(column, Some(place.column + 1), "{error}");
    }
}

fn with_access(access: &str) -> Result<Config, String> {
    let text = format!(
        "{{\"daemon\": {{\"hostname\": [\"localhost\", \"pdud\"],\n\"access\": {access}}}, \"pdus\": {{}}}}"
    );
    Config::parse(&text, "x.conf").map_err(|error| error.to_string())
}

#[test]
fn proxies_and_sites_need_no_tokens() {
    let text = r#"{"proxies": ["127.0.0.1", "fd00::/64", "unix"], "sites": ["Wiki.lab"]}"#;
    let config = with_access(text).expect("loads");
    let access = &config.daemon.access;
    assert_eq!(access.sites, ["wiki.lab"]);
    assert_eq!(access.proxies.len(), 3);
    assert!(access.is_proxy(crate::access::Origin::Unix) && !access.is_on());
}

#[test]
fn access_is_read_and_checked() {
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let config = with_access(&format!(
        r#"{{"tokens": [{{"name": "lava", "sha256": "{hash}", "allow": [
             {{"pdus": ["rack*"], "outlets": ["1-8", 12], "commands": ["on", "get-status"]}}]}}],
            "trusted_networks": ["127.0.0.0/8", "::1"], "hosts": ["PDUd.lab"]}}"#
    ))
    .expect("loads");
    let access = &config.daemon.access;
    assert!(
        config.findings.warnings.is_empty(),
        "{:?}",
        config.findings.warnings
    );
    assert_eq!(access.hosts, ["pdud.lab", "localhost", "pdud"]);
    assert_eq!(access.tokens[0].hash, crate::access::Token::hash_of("test"));
    assert_eq!(access.trusted.len(), 2);
    for (section, expected) in [
        ("5", "x.conf:2:11: daemon.access: expected an object"),
        (
            r#"{"tokens": {}}"#,
            "x.conf:2:22: daemon.access.tokens: expected a list",
        ),
        (
            r#"{"tokens": [{"sha256": "x"}]}"#,
            "x.conf:2:23: daemon.access.tokens[0].name: missing",
        ),
        (
            r#"{"tokens": [{"name": "a b", "sha256": "x"}]}"#,
            "tokens[0].name: expected letters",
        ),
        (
            r#"{"tokens": [{"name": "a", "sha256": "x"}]}"#,
            "tokens[0].sha256: expected 64 hexadecimal",
        ),
        (
            r#"{"tokens": [{"name": "a"}]}"#,
            "tokens[0]: expected sha256 or file",
        ),
        (
            r#"{"tokens": [{"name": "a", "file": "/no/such"}]}"#,
            "tokens[0].file /no/such: cannot be read",
        ),
        (
            r#"{"trusted_networks": ["10.0.0.1/8"]}"#,
            "x.conf:2:33: daemon.access.trusted_networks: 10.0.0.1/8 has bits",
        ),
        (
            r#"{"hosts": ["a:1"]}"#,
            "daemon.access.hosts: expected a host name without a port",
        ),
        (
            r#"{"sites": ["http://a"]}"#,
            "daemon.access.sites: expected a host name without a port",
        ),
        (
            r#"{"proxies": ["localhost"]}"#,
            "daemon.access.proxies: expected a network as",
        ),
    ] {
        let error = with_access(section).expect_err(section);
        assert!(error.contains(expected), "expected {expected} in {error}");
    }
    for (rule, expected) in [
        (
            r#"{"commands": ["boot"]}"#,
            "allow[0].commands: expected on, off",
        ),
        (
            r#"{"outlets": ["8-1"]}"#,
            "allow[0].outlets: expected a range",
        ),
        (r#"{"pdus": []}"#, "allow[0].pdus: expected at least one"),
    ] {
        let section =
            format!(r#"{{"tokens": [{{"name": "a", "sha256": "{hash}", "allow": [{rule}]}}]}}"#);
        let error = with_access(&section).expect_err(rule);
        assert!(error.contains(expected), "expected {expected} in {error}");
    }
    let twice = format!(
        r#"{{"tokens": [{{"name": "a", "sha256": "{hash}"}}, {{"name": "b", "sha256": "{hash}"}}]}}"#
    );
    assert!(with_access(&twice).expect_err("refused").contains("twice"));
    let wrong = with_access(&format!(
        r#"{{"token": 1, "tokens": [{{"name": "a", "sha256": "{hash}", "allw": []}}]}}"#
    ))
    .expect_err("refused");
    for expected in [
        "x.conf:2:21: daemon.access.token: unknown key, did you mean tokens?",
        "x.conf:2:135: daemon.access.tokens[0].allw: unknown key, did you mean allow?",
    ] {
        assert!(wrong.contains(expected), "expected {expected} in {wrong}");
    }
}

/// What a slip leaves open is an error, all in one run.
#[test]
fn what_tells_who_may_do_what_fails_closed() {
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let token = format!(r#"{{"name": "a", "sha256": "{hash}"}}"#);
    let tokens = format!(r#""tokens": [{token}]"#);
    let allow = r#""allow": [{"pdus": ["a"]}]"#;
    for (daemon, expected) in [
        (
            r#""access": {"trusted_networks": ["10.0.0.0/8"]}"#.to_owned(),
            "daemon.access.trusted_networks: trusts nobody in particular without tokens",
        ),
        (
            r#""access": {"trusted_networks": ["10.0.0.0/8"]}"#.to_owned(),
            "daemon.max_connections_per_client",
        ),
        (
            r#""access": {"tokens": []}"#.to_owned(),
            "daemon.access.tokens: expected at least one",
        ),
        (
            r#""access": {"tokens": null}"#.to_owned(),
            "daemon.access.tokens: expected a list, got null",
        ),
        (
            r#""access": null"#.to_owned(),
            "daemon.access: expected an object, got null",
        ),
        (
            format!(r#""access": {{"token": [{token}]}}"#),
            "daemon.access.token: unknown key, did you mean tokens?",
        ),
        (
            format!(r#""acess": {{{tokens}}}"#),
            "daemon.acess: unknown key, did you mean access?",
        ),
        (tokens.clone(), "daemon.tokens: unknown key"),
        (
            r#""trusted_networks": ["10.0.0.0/8"]"#.to_owned(),
            "daemon.trusted_networks: unknown key",
        ),
        (
            format!(r#""access": {{{tokens}}}, "access": {{}}"#),
            "daemon.access: is there more than once",
        ),
        (
            format!(r#""access": {{{tokens}, {tokens}}}"#),
            "daemon.access.tokens: is there more than once",
        ),
        (
            format!(
                r#""access": {{"tokens": [{{"name": "a", "sha256": "{hash}", {allow}, "allow": null}}]}}"#
            ),
            "daemon.access.tokens[0].allow: is there more than once",
        ),
        (
            format!(
                r#""access": {{"tokens": [{{"name": "a", "sha256": "{hash}", "allow": [{{"pdu": ["a"]}}]}}]}}"#
            ),
            "daemon.access.tokens[0].allow[0].pdu: unknown key, did you mean pdus?",
        ),
    ] {
        let text = format!(r#"{{"daemon": {{"hostname": "h", {daemon}}}, "pdus": {{}}}}"#);
        let error = Config::parse(&text, "x.conf")
            .expect_err(&daemon)
            .to_string();
        assert!(error.contains(expected), "expected {expected} in {error}");
    }
    for (text, expected) in [
        (
            format!(
                r#"{{"daemon": {{"hostname": "h", "access": {{{tokens}}}}}, "daemon": {{"hostname": "h"}}, "pdus": {{}}}}"#
            ),
            "daemon: is there more than once",
        ),
        (
            format!(r#"{{"daemon": {{"hostname": "h"}}, "pdus": {{}}, "access": {{{tokens}}}}}"#),
            "access: unknown key",
        ),
    ] {
        let error = Config::parse(&text, "x.conf").expect_err(&text).to_string();
        assert!(error.contains(expected), "expected {expected} in {error}");
    }
    // Without a word about rights, there are none.
    for access in ["{}", r#"{"hosts": ["a"]}"#, r#"{"trusted_networks": null}"#] {
        assert!(!with_access(access).expect(access).daemon.access.is_on());
    }
}

#[test]
fn every_error_of_the_file_is_told_in_its_order() {
    let text = r#"{"daemon": {"hostname": "h", "idle_timeout": 0, "listener": "udp", "port": "x",
        "access": {"tokens": [{"name": "a b"}, {"name": "c"}], "hosts": ["a:1", "b/"]}},
        "pdus": {
          "a": {"driver": "nonsense", "retries": "many", "timeout": -1},
          "b": 5,
          "c": {"driver": "snmpv3", "username": "u", "retrydelay": "x", "authpassphrase": "short",
                "privpassphrase": "also2short", "onsetting": "x", "offsetting": 1, "oid": "1.*"},
          "d": {"driver": "apc7952", "password": {"file": "none"}, "queue_limit": 0},
          "e": {"drivr": "simulated"}},
        "aliases": []}"#;
    let findings = Config::parse(text, "x").expect_err("refused");
    let told: Vec<String> = findings.errors.iter().map(ToString::to_string).collect();
    let expected = [
        "1:30: daemon.idle_timeout:",
        "1:",
        "1:",
        "2:40: daemon.access.tokens[0].name:",
        "2:48: daemon.access.tokens[1]: expected sha256",
        "2:74: daemon.access.hosts:",
        "2:81: daemon.access.hosts:",
        "4:17: pdus.a.driver: unknown",
        "4:",
        "4:",
        "5:16: pdus.b: expected an object",
        "6:",
        "6:",
        "7:",
        "8:",
        "8:",
        "9:16: pdus.e.driver: missing",
        "10:20: aliases: expected an object, got a list",
    ];
    let all = told.join("\n");
    assert_eq!(told.len(), expected.len(), "{all}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(
            told.starts_with(&format!("x:{expected}")),
            "expected {expected} in {told}"
        );
    }
    for key in [
        "daemon.listener",
        "daemon.port",
        "pdus.a.retries",
        "pdus.a.timeout",
        "pdus.c.retrydelay",
        "pdus.c.authpassphrase",
        "pdus.c.onsetting",
        "pdus.d.password",
        "pdus.d.queue_limit",
    ] {
        assert!(
            all.contains(&format!(": {key}: ")),
            "{key} is not in\n{all}"
        );
    }
    assert!(
        !all.contains("short") && !all.contains("also2short"),
        "{all}"
    );
}

#[test]
fn a_pdu_that_cannot_work_costs_the_others_nothing() {
    let config = parse(
        r#""pdus": {"good": {"driver": "simulated"}, "bad": {"driver": "EG-PMS", "device": "aa:bb:cc:xx:yy"}},
           "aliases": {"x": {"hostname": "bad", "outlet": 1}, "y": {"outlets": [{"hostname": "good", "outlet": 2}]}}"#,
    )
    .expect("loads");
    assert!(config.pdus["good"].is_ok());
    let broken = config.pdus["bad"].as_ref().expect_err("broken");
    assert_eq!(broken.driver, "EG-PMS");
    assert!(
        broken
            .to_string()
            .contains("x.conf:2:71: pdus.bad.device: expected five"),
        "{broken}"
    );
    assert_eq!(config.findings.errors.first(), Some(&broken.error));
    assert!(
        config.findings.warnings.is_empty(),
        "{:?}",
        config.findings.warnings
    );
    for (alias, pdu) in [("x", "bad"), ("y", "good")] {
        assert!(
            matches!(&config.aliases.as_ref().expect("readable")[alias], Alias::Outlets(all) if all[0].0.as_str() == pdu),
            "{alias}"
        );
    }
}

#[test]
fn files_of_other_forms_are_told_what_is_expected() {
    for (text, expected) in [
        (
            "[pdu01]\ndriver = snmpv1\n",
            "x:1:1: this looks like an INI file: expected a JSON object",
        ),
        (
            "# a comment\n\nhostname = localhost\n",
            "x:1:1: this looks like an INI file",
        ),
        (
            r#"{"hostname": "0.0.0.0", "dbname": "x"}"#,
            "\"hostname\" stands outside of any section",
        ),
        (r#"{"driver": "snmpv1"}"#, "\"driver\" stands outside"),
        ("[1]", "x:1:1: expected a JSON object"),
        ("null", "expected a JSON object"),
        ("", "broken JSON: EOF"),
        ("{// a\n}", "x:1:2: broken JSON: JSON has no comments"),
        (
            "{\n  \"daemon\": {} # a\n}",
            "x:2:16: broken JSON: JSON has no comments",
        ),
        (
            "{\"pdus\": {\"a\": /* b */ {}}}",
            "x:1:16: broken JSON: JSON has no comments",
        ),
        (
            "{\"pdus\": {\"\u{e4}\": {},\n}}",
            "x:2:1: broken JSON: JSON has no comma behind the last",
        ),
        ("{\"pdus\": [1,]}", "broken JSON: JSON has no comma behind"),
        (
            "{'pdus': {}}",
            "x:1:2: broken JSON: JSON has texts in double quotes",
        ),
    ] {
        let error = Config::parse(text, "x").expect_err(text).to_string();
        assert!(error.contains(expected), "expected {expected} in {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn an_unknown_driver_may_be_a_maker() {
    for (driver, expected) in [
        ("simulatd", ", did you mean simulated?"),
        ("raritan", ", perhaps one of raritan-px1"),
        ("eaton", ", perhaps one of eaton-"),
        ("shelly", ", perhaps one of shelly_gen2, shelly-gen1"),
        ("yepkit", ", perhaps one of YKUSH, YKUSHXS "),
        ("tapo", ", perhaps home-assistant-http for"),
        (
            "ipmitool",
            ", perhaps ipmi, which speaks IPMI over LAN itself",
        ),
        ("idrac", ", perhaps "),
        ("Raritan PX3", ", did you mean raritan-px2?"),
        ("wombat", "\"wombat\" (`pdudaemon --list-drivers`"),
    ] {
        let error = errors(&format!(r#""pdus": {{"a": {{"driver": "{driver}"}}}}"#));
        assert!(error.contains(expected), "expected {expected} in {error}");
    }
}

#[test]
fn listening_to_the_world_without_tokens_is_a_warning() {
    for (hostname, warns) in [
        ("\"localhost\"", false),
        ("\"127.0.0.1\"", false),
        ("[\"::1\", \"/run/p.sock\"]", false),
        ("\"0.0.0.0\"", true),
        ("[\"127.0.0.1\", \"192.0.2.1\"]", true),
        ("null", true),
        ("\"pdud.lab\"", true),
    ] {
        let text = format!(r#"{{"daemon": {{"hostname": {hostname}}}, "pdus": {{}}}}"#);
        let config = Config::parse(&text, "x.conf").expect("loads");
        assert_eq!(!config.findings.warnings.is_empty(), warns, "{hostname}");
        if let Some(warning) = config.findings.warnings.first() {
            let text = warning.to_string();
            assert!(
                text.starts_with("x.conf:1:13: daemon.hostname: whoever"),
                "{text}"
            );
        }
    }
}

#[test]
fn secrets_may_be_references() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.conf");
    let secret = folder.path().join("apc");
    std::fs::write(&secret, "@\"quoted\"\n").expect("written");
    let write = |password: &str| {
        let text = format!(
            "{{\"daemon\": {{\"hostname\": \"localhost\"}}, \"pdus\": {{\"a\": {{\"driver\": \"apc7952\",\n\
             \"password\": {password},\n\"retrys\": 1}}}}}}"
        );
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("set");
    };
    let load = || Config::load(&path).map_err(|error| error.to_string());
    keys! {
        struct Login {
            password: Secret, "password";
        }
    }
    let password = |config: &Config| -> String {
        let keys: Login = good(config, "a").settings.keys().expect("reads");
        keys.password.reveal().to_owned()
    };
    write("{\"file\":\n \"apc\"}");
    let config = load().expect("loads");
    assert_eq!(password(&config), "@\"quoted\"");
    assert!(!format!("{config:?}").contains("quoted"));
    // A reference is no secret, but what it refers to is; the line of what comes behind it stays
    // right.
    let warned = |config: &Config| -> Vec<String> {
        let warnings = &config.findings.warnings;
        warnings.iter().map(ToString::to_string).collect()
    };
    for (told, expected) in warned(&config).iter().zip([
        format!(
            "x.conf:2:13: pdus.a.password: every user of this machine can read {}",
            secret.display()
        ),
        "x.conf:4:1: pdus.a.retrys".to_owned(),
    ]) {
        assert!(told.contains(&expected), "expected {expected} in {told}");
    }
    let take = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(&secret, take).expect("set");
    assert_eq!(warned(&load().expect("loads")).len(), 1);
    let before = good(&config, "a").clone();
    std::fs::write(folder.path().join("apc"), "changed\n").expect("written");
    assert!(!before.works_like(good(&load().expect("loads"), "a")));
    write("{\"env\": \"CARGO_PKG_NAME\"}");
    assert_eq!(password(&load().expect("loads")), "pdudaemon");
    write("{\"file\": \"none\"}");
    let error = load().expect("loads").findings.to_string();
    assert!(
        error.contains("x.conf:2:13: pdus.a.password: file ")
            && error.contains("none: cannot be read"),
        "{error}"
    );
    // A password that stands there itself, whatever it begins with, is one; others should not read it.
    write("\"@file\"");
    let config = load().expect("loads");
    assert_eq!(password(&config), "@file");
    let warned: Vec<String> = config
        .findings
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        warned
            .iter()
            .any(|text| text.contains("x.conf:2:13: pdus.a.password: every user")),
        "{warned:?}"
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("set");
    assert_eq!(load().expect("loads").findings.warnings.len(), 1);
}

#[test]
fn every_key_that_sounds_secret_is_known_as_one() {
    for spec in registry::specs() {
        for key in spec.build.keys() {
            let sounds = ["pass", "community", "secret", "token", "api_key"]
                .iter()
                .any(|word| key.name.contains(word));
            assert!(!sounds || key.is_secret, "{} {}", spec.names[0], key.name);
        }
    }
}

#[test]
fn the_bounds_on_clients_are_read_and_checked() {
    let with = |keys: &str| {
        let text = format!(r#"{{"daemon": {{"hostname": "localhost"{keys}}}, "pdus": {{}}}}"#);
        Config::parse(&text, "test")
    };
    let keys = r#", "max_connections": "9", "max_connections_per_client": 8,
        "max_head_bytes": 300, "max_headers": 30, "max_body_bytes": "3000", "max_line_bytes": 70,
        "max_buffered_bytes": 70000, "max_wrong_tokens": 3, "idle_timeout": 0.5,
        "request_timeout": 1.5"#;
    let config = with(keys).expect("fine");
    assert!(
        config.findings.warnings.is_empty(),
        "{:?}",
        config.findings.warnings
    );
    let expected = Limits {
        connections: Some(9),
        connections_per_client: Some(8),
        head: 300,
        headers: 30,
        body: 3000,
        line: 70,
        buffered: 70_000,
        wrong_tokens: 3,
        idle: Duration::from_millis(500),
        request: Duration::from_millis(1500),
    };
    assert_eq!(config.daemon.limits, expected);
    let config = with(r#", "max_buffered_bytes": 65536, "max_body_bytes": 100000"#).expect("fine");
    assert_eq!(
        config.daemon.limits.buffered,
        2 * (100_000 + Limits::default().head),
        "the longest request finds room"
    );
    for (key, value, why) in [
        ("max_connections", "0", "expected 1 or more, got 0"),
        (
            "max_connections_per_client",
            "0",
            "expected 1 or more, got 0",
        ),
        ("max_head_bytes", "255", "expected 256 to 1048576, got 255"),
        ("max_headers", "10001", "expected 8 to 10000, got 10001"),
        (
            "max_body_bytes",
            "99999999",
            "expected 256 to 16777216, got 99999999",
        ),
        ("max_line_bytes", "63", "expected 64 to 65536, got 63"),
        (
            "max_buffered_bytes",
            "65535",
            "expected 65536 or more, got 65535",
        ),
        ("max_wrong_tokens", "0", "expected 1 to 1000000, got 0"),
        ("idle_timeout", "0", "expected 0.1 to 86400 seconds"),
        ("request_timeout", "1e9", "expected 0.1 to 86400 seconds"),
    ] {
        let error = with(&format!(r#", "{key}": {value}"#))
            .expect_err("refused")
            .to_string();
        let expected = format!("daemon.{key}: {why}");
        assert!(error.contains(&expected), "{error}");
    }
}

/// The keys and defaults of a table in `share/doc/config.md`.
fn documented(heading: &str) -> Vec<(&'static str, &'static str)> {
    let page = include_str!("../../share/doc/config.md");
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with(heading));
    let rows = section.expect("the heading").lines();
    rows.filter_map(|row| {
        let mut cells = row.strip_prefix("| `")?.split(" | ");
        Some((cells.next()?.trim_end_matches('`'), cells.next()?))
    })
    .collect()
}

#[test]
fn the_manual_names_every_key() {
    let manual = include_str!("../../share/man/pdudaemon.conf.5");
    for keys in [file::DaemonKeys::names(), PduKeys::names()] {
        for key in keys {
            let is_item = |line: &str| line == format!(".It Ic {key}");
            assert!(
                manual.lines().any(is_item),
                "pdudaemon.conf(5) has no {key}"
            );
        }
    }
}

#[test]
fn the_defaults_are_those_of_the_documents() {
    let number = |default: &'static str| default.split(',').next()?.parse::<u64>().ok();
    let with = |of_daemon: &str, of_pdu: &str| {
        let text = format!(
            r#"{{"daemon": {{"hostname": "localhost"{of_daemon}}}, "pdus": {{"a": {{"driver": "simulated"{of_pdu}}}}}}}"#
        );
        let config = Config::parse(&text, "x.conf").expect("loads");
        let pdu = good(&config, "a");
        let seconds = (pdu.retrydelay, pdu.timeout);
        let limits = (pdu.queue_limit, pdu.client_limit, pdu.delayed_limit);
        format!(
            "{:?} {:?} {seconds:?} {limits:?}",
            config.daemon, pdu.retries
        )
    };
    let mut seen = 0;
    for (key, default) in documented("Keys of `daemon`") {
        if let Some(default) = number(default) {
            let written = format!(r#", "{key}": {default}"#);
            assert_eq!(with(&written, ""), with("", ""), "{key}");
            seen += 1;
        }
    }
    for (key, default) in documented("Keys of every PDU") {
        if let Some(default) = number(default) {
            let written = format!(r#", "{key}": {default}"#);
            assert_eq!(with("", &written), with("", ""), "{key}");
            seen += 1;
        }
    }
    assert!(seen > 12, "the defaults are found");
}
