//! What loads, what warns, what is refused, and with which words.

use super::*;

fn parse(pdus_and_more: &str) -> Result<Config, String> {
    let text = format!("{{\"daemon\": {{\"hostname\": \"localhost\"}},\n{pdus_and_more}}}");
    Config::parse(&text, "x.conf").map_err(|error| error.to_string())
}

fn warnings(text: &str) -> Vec<String> {
    parse(text)
        .expect("loads")
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect()
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
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(
        (config.daemon.port, config.daemon.protocols),
        (16421, Protocols::Http)
    );
    let pdu = &config.pdus["sim"];
    assert_eq!(
        (pdu.retries, pdu.retrydelay, pdu.timeout.as_secs()),
        (3, Duration::from_millis(1500), 30)
    );
    assert_eq!(config.aliases["board"], config.aliases["other"]);
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
        (r#""pdus": {"a": {}}"#, "pdus.a: missing field `driver`"),
        (
            r#""pdus": {"a": 5}"#,
            "x.conf:2:15: pdus.a: expected an object, got a number",
        ),
        (
            r#""pdus": {"a": {"driver": "simulated", "outlets": "x"}}"#,
            "pdus.a.outlets: expected a number",
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
            r#""pdus": {"a": "#,
            "x.conf:2:15: broken JSON: expected value",
        ),
        (r#""aliases": {}"#, "pdus: missing section"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(expected), "expected {expected} in {error}");
    }
}

#[test]
fn a_group_alias_names_several_outlets() {
    let pdus = r#""pdus": {"p": {"driver": "simulated"}, "q": {"driver": "simulated"}}"#;
    let config = parse(&format!(
        r#"{pdus}, "aliases": {{"board7": {{"outlets": [{{"hostname": "p", "port": 3}}, {{"hostname": "q", "port": "5"}}]}}}}"#
    ))
    .expect("loads");
    let Alias::Outlets(outlets) = &config.aliases["board7"] else {
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
        let error = Config::parse(&text, "f")
            .expect_err("an unknown driver")
            .to_string();
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
