//! The fault matrix of the profiles: the dialogues of every profile's own tests, by the engine, over a
//! line that is spoilt. A new profile is in it with its tests.

use super::{
    Case, DEADLINE, Failed, PATIENCE, Proxy, Table, Told, Wrong, class, classes, device, row,
};
use crate::sim::ber::{self, Part};
use crate::sim::fault::Fault;
use crate::transcript::{Line, bytes};
use pdudaemon::driver::confirm::Confirm;
use pdudaemon::driver::registry::Registry;
use pdudaemon::driver::{Driver, DriverSpec};
use pdudaemon::request::{Outlet, PduName, State, Switch};
use pdudaemon::settings::{Position, Settings};
use pdudaemon::transport::{Attempt, Deadline};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// What is wrong on the line before anything is said; then nothing may count as success.
const FAULTS: [Fault; 4] = [Fault::Silence, Fault::Reset, Fault::End, Fault::Garbage];

/// The tests of these transports spoil the line themselves: to a broker, within a session of ssh.
const SPOILT_ELSEWHERE: [&str; 2] = ["mqtt", "ssh"];

/// So many dialogues of a transport also get the faults that take long, or a port for themselves.
const FEW: usize = 3;

/// What the last search through all the text that is kept may take, without optimization.
const SEARCH: Duration = Duration::from_millis(600);

/// Cells at a time: each takes a few ports, of which the other tests of this process want some.
const AT_ONCE: usize = 32;

/// One profile's dialogue, as the simulator of its transport plays it.
struct Family {
    spec: &'static DriverSpec,
    case: Case,
    /// Does the dialogue go on to the logout, or is there none?
    leaves: bool,
}

/// Every dialogue of a test that ends well, of each action the first.
fn families() -> Vec<Family> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("share/profiles");
    let files = std::fs::read_dir(folder).expect("the folder is there");
    let mut files: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    files.sort();
    let of_file = |file: &std::path::PathBuf| {
        let text = std::fs::read_to_string(file).expect("readable");
        let profile: toml::Table = toml::from_str(&text).expect("TOML");
        let id = profile["id"].as_str().expect("an id").to_owned();
        let spec = Registry::default()
            .find(&id)
            .expect("right")
            .expect("shipped");
        let mut first = BTreeMap::new();
        let tests = profile.get("test").and_then(|tests| tests.as_array());
        for (number, test) in tests.into_iter().flatten().enumerate() {
            if let Some(case) = case(&id, number, &profile, test, spec) {
                first.entry(case.action.clone()).or_insert(case);
            }
        }
        let of_case = |case: Case| {
            let leaves = leaves(&profile, &case);
            Family { spec, case, leaves }
        };
        first.into_values().map(of_case).collect::<Vec<_>>()
    };
    files.iter().flat_map(of_file).collect()
}

/// A profile's test as a case of a transcript; none for a walk, or where it ends in an error or in a
/// silence.
fn case(
    id: &str,
    number: usize,
    profile: &toml::Table,
    test: &toml::Value,
    spec: &'static DriverSpec,
) -> Option<Case> {
    let wire = test.get("wire")?.as_str()?;
    let transport = spec.transport;
    let eol = match (
        profile.get("line").and_then(|line| line.get("eol")),
        transport,
    ) {
        // The Return key, to a peer that does not echo.
        (_, "telnet") | (None, _) => "\r\n",
        (Some(eol), _) => eol.as_str()?,
    };
    let engine = profile["transport"].as_str()?;
    if SPOILT_ELSEWHERE.contains(&transport) {
        return None;
    }
    let (mut lines, mut outcome, mut asked) = (Vec::new(), String::new(), String::new());
    let mut headers = String::new();
    for line in wire.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let said = line.get(1..).unwrap_or_default().trim();
        match line.as_bytes().first()? {
            b'>' => {
                asked = said.to_owned();
                lines.push(Line::Sent(sent(engine, said, eol)));
            }
            b'<' if ["closed", "silence"].contains(&said) => return None,
            b'<' if engine == "http" && said.starts_with("header ") => {
                let header = said.trim_start_matches("header ");
                headers.push_str(&format!(" header {}", text_of(header)));
            }
            b'<' if engine == "http" && matches!(lines.last(), Some(Line::Answer(_))) => {
                // A further line of the text.
                let Some(Line::Answer(text)) = lines.last_mut() else {
                    return None;
                };
                text.push_str(&format!(" 0a {}", hex(said.as_bytes())));
            }
            b'<' => {
                let answer = answer(engine, &asked, said)?;
                let (status, text) = answer.split_once(' ').unwrap_or((&answer, ""));
                lines.push(Line::Answer(match std::mem::take(&mut headers) {
                    none if none.is_empty() => answer,
                    headers => format!("{status}{headers} {text}"),
                }));
            }
            _ => outcome = line.trim_start_matches('-').trim().to_owned(),
        }
    }
    // Without an answer there is nothing to spoil.
    let is_answered = lines.iter().any(|line| matches!(line, Line::Answer(_)));
    if !["ok", "on", "off"].contains(&outcome.as_str()) || !is_answered {
        return None;
    }
    // What the PDU prints before it is spoken to comes too late, or not, on a real line.
    let greets = matches!(lines.first(), Some(Line::Answer(_)));
    let first = profile
        .get("login")
        .and_then(|login| login.get("steps")?.get(0));
    if greets && first.is_some_and(|step| step.get("send").is_some()) {
        return None;
    }
    let mut settings = match engine {
        "snmp" => json!({"community": "private", "version": "2c"}),
        "http" => json!({"protocol": "http"}),
        _ => json!({}),
    };
    let given = test.get("keys").and_then(toml::Value::as_table);
    for key in spec.build.keys() {
        let is_needed = key.absent == pdudaemon::settings::Absent::Refused;
        let said = given.and_then(|keys| keys.get(&*key.name));
        let said = said.map(|value| serde_json::to_value(value).expect("JSON"));
        let sample = || {
            profile["keys"]
                .get(&*key.name)
                .map(|rule| sample(rule, &key.kind))
        };
        if let Some(value) = said.or_else(|| is_needed.then(sample).flatten()) {
            settings[&*key.name] = value;
        }
    }
    let Value::Object(settings) = settings else {
        return None;
    };
    Some(Case {
        at: format!("{id}, test {number}"),
        transport: transport.to_owned(),
        drivers: vec![id.to_owned()],
        settings,
        outlet: match test.get("outlet")? {
            toml::Value::String(id) => id.clone(),
            id => id.as_integer()?.to_string(),
        },
        action: test.get("do")?.as_str()?.to_owned(),
        lines,
        outcome,
    })
}

/// Has the profile no logout, or the dialogue its first words?
fn leaves(profile: &toml::Table, case: &Case) -> bool {
    let Some(logout) = profile.get("logout").and_then(toml::Value::as_table) else {
        return true;
    };
    let steps = logout.get("steps").and_then(|steps| steps.get(0));
    let said = steps.or_else(|| logout.get("request"));
    let texts = said.and_then(toml::Value::as_table).into_iter();
    let mut texts = texts
        .flat_map(|said| said.values())
        .filter_map(|text| text.as_str());
    texts.any(|text| {
        let (plain, coded) = (format!(" {text} "), hex(text.as_bytes()));
        case.lines.iter().any(|line| match line {
            Line::Sent(sent) => sent.contains(&plain) || sent.starts_with(&coded),
            Line::Answer(_) => false,
        })
    })
}

/// What a test has in the place of a key that it does not say.
fn sample(rule: &toml::Value, kind: &str) -> Value {
    let choice = rule
        .get("choices")
        .and_then(|choices| choices.get(0)?.as_str());
    let first = rule
        .get("range")
        .and_then(|range| range.as_str()?.split('-').next());
    match kind {
        "number" => first
            .and_then(|first| first.parse::<i64>().ok())
            .unwrap_or(1)
            .into(),
        _ => choice.unwrap_or("text").into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A text as transcripts have it.
fn text_of(said: &str) -> String {
    format!("\"{}\"", said.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A `>` line in the words of the simulator.
fn sent(engine: &str, said: &str, eol: &str) -> String {
    match engine {
        "snmp" => hex(&message(0, said)),
        "bytes" => said.to_owned(),
        "line" => hex(format!("{said}{eol}").as_bytes()),
        _ => {
            let is_request = ["GET ", "POST ", "PUT ", "PATCH ", "DELETE "];
            let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            if is_request.iter().any(|verb| said.starts_with(verb)) {
                text_of(&format!("{said} HTTP/1.1"))
            } else if said.split_once(": ").is_some_and(|(name, _)| is_name(name)) {
                text_of(said)
            } else {
                format!("body {}", hex(said.replace("\\n", "\n").as_bytes()))
            }
        }
    }
}

/// A `<` line in the words of the simulator; `asked` is the line that it answers.
fn answer(engine: &str, asked: &str, said: &str) -> Option<String> {
    match engine {
        "snmp" if said.starts_with("error") => None,
        "snmp" => {
            let oid = asked.split_whitespace().nth(1)?;
            let said = match said {
                // The agent tells what was set.
                "ok" => asked
                    .split_whitespace()
                    .skip(2)
                    .collect::<Vec<_>>()
                    .join(" "),
                said => said.to_owned(),
            };
            Some(hex(&message(0xa2, &format!("set {oid} {said}"))))
        }
        "http" => {
            let (status, text) = said.split_once(' ').unwrap_or((said, ""));
            Some(format!("{status} {}", hex(text.as_bytes())))
        }
        _ => Some(said.to_owned()),
    }
}

/// The driver of a family's PDU behind the proxy.
fn driver(family: &Family, proxy: &Proxy) -> Box<dyn Driver> {
    let Family { spec, case, .. } = family;
    let mut settings: Map<String, Value> = case.settings.clone();
    if let Value::Object(overrides) = proxy.overrides(case) {
        settings.extend(overrides);
    }
    let at = Position { line: 1, column: 1 };
    let text = Value::Object(settings).to_string();
    let settings = Settings::new(PduName::new("pdu"), spec.names[0], text, at);
    let made = spec.make(&settings);
    made.unwrap_or_else(|error| panic!("{}: {error}", case.at))
        .0
}

/// Does what the test is about as a worker does it, with the reading that confirms a switch.
fn call(driver: &mut dyn Driver, case: &Case, wait: Duration) -> Result<String, Failed> {
    let (outlet, deadline) = (Outlet::new(case.outlet.as_str()), Deadline::after(wait));
    let to = match case.action.as_str() {
        "on" => Switch::On,
        "off" => Switch::Off,
        _ => {
            let word = |state| match state {
                State::On => "on",
                State::Off => "off",
                State::Unknown(_) => "unknown",
            };
            let state = driver.state(&outlet, deadline);
            return Ok(state.map(|state| word(state).to_owned())?);
        }
    };
    let confirm = Confirm::new(None, driver.proofs(), PATIENCE).expect("a rule");
    let attempt = Attempt::new(deadline);
    let told = confirm.switch(driver, &outlet, to, &attempt);
    told.map(|_| "ok".to_owned())
        .map_err(|error| Failed::new(error, &attempt))
}

/// Is the outcome one that is allowed where this is wrong from the beginning? Gives its class.
fn judge(family: &Family, fault: Fault, result: &Result<String, Failed>) -> Result<String, String> {
    let Family { spec, case, .. } = family;
    let has_proof = spec.reads_back || case.outcome != "ok";
    let error = match result {
        Ok(outcome) if outcome == "unknown" => return Ok(outcome.clone()),
        // Bytes of a fixed number may be any.
        Ok(outcome) if fault == Fault::Garbage && matches!(spec.transport, "tcp" | "serial") => {
            return Ok(format!("taken for {outcome}"));
        }
        Ok(outcome) if !has_proof && fault != Fault::Refuse => return Ok(outcome.clone()),
        Ok(outcome) => return Err(format!("taken for {outcome}")),
        Err(error) => error,
    };
    let class = class(error);
    let is_of_meaning = ["Refused", "NoSuchOutlet", "CannotRead"].contains(&class.as_str());
    if fault != Fault::Garbage && !classes(Wrong::Line(fault, 0)).contains(&class.as_str()) {
        return Err(format!("of the wrong class: {error:?}"));
    }
    if fault == Fault::Refuse && error.may_have_acted() {
        return Err(format!("nobody was there, but in doubt: {error:?}"));
    }
    // What a stranger's words are taken for must not end the tries of an on.
    match error.is_transient()
        || class == "LoginRefused"
        || (is_of_meaning && fault == Fault::Garbage)
    {
        true => Ok(class),
        false => Err(format!("not tried again: {error:?}")),
    }
}

/// One cell: a fault, then a sound line to another device.
fn cell(family: &Family, fault: Fault) -> Result<Told, String> {
    let case = &family.case;
    let at = format!("{}, {fault:?}", case.at);
    let (spoilt, address) = device(case);
    let mut proxy = Proxy::start(case, fault, 0, address);
    let mut driver = driver(family, &proxy);
    let began = Instant::now();
    let result = call(driver.as_mut(), case, DEADLINE);
    let late = began.elapsed().saturating_sub(match fault {
        Fault::Endless => DEADLINE + SEARCH,
        _ => DEADLINE,
    });
    proxy.cut();
    drop(spoilt.finish());
    let class = judge(family, fault, &result).map_err(|wrong| format!("{at}: {wrong}"))?;
    driver.rest(Deadline::after(PATIENCE));
    let (sound, address) = device(case);
    proxy.set(Fault::None, 0, address);
    let next = call(driver.as_mut(), case, PATIENCE);
    if family.leaves {
        driver.rest(Deadline::after(PATIENCE));
    }
    drop(driver);
    proxy.cut();
    match (&next, sound.finish()) {
        (Ok(outcome), Ok(())) if *outcome == case.outcome => Ok(Told { class, late, at }),
        (_, dialogue) => Err(format!(
            "{at}: the next call gave {next:?}; {dialogue:?}, after {result:?}"
        )),
    }
}

#[test]
fn every_profile_holds_on_a_line_that_is_spoilt() {
    crate::daemon::raise_descriptor_limit();
    let families = families();
    let names: std::collections::BTreeSet<&str> =
        families.iter().map(|family| family.spec.names[0]).collect();
    let missing: Vec<&str> = pdudaemon::driver::registry::shipped()
        .map(|spec| spec.expect("right"))
        .filter(|spec| !SPOILT_ELSEWHERE.contains(&spec.transport) && spec.reads_back)
        .map(|spec| spec.names[0])
        .filter(|id| !names.contains(id))
        .collect();
    assert!(missing.is_empty(), "no dialogue of {missing:?}");
    let mut cells = Vec::new();
    let mut of_transport: BTreeMap<&str, usize> = BTreeMap::new();
    for family in &families {
        let few = of_transport.entry(family.spec.transport).or_default();
        *few += 1;
        if *few <= FEW {
            cells.extend([Fault::Refuse, Fault::Endless].map(|fault| (family, fault)));
            if family.spec.transport == "snmp" {
                cells.extend([Fault::Echo, Fault::Stale].map(|fault| (family, fault)));
            }
        }
    }
    for family in &families {
        cells.extend(FAULTS.map(|fault| (family, fault)));
    }
    let began = Instant::now();
    let table = Table::of(&cells, AT_ONCE, |(family, fault)| {
        (row(fault), cell(family, *fault))
    });
    table.print("fault matrix of profiles", cells.len(), names.len());
    eprintln!("  in {:?}", began.elapsed());
    table.assert_right();
    // The words of the simulator are those of the profile's tests.
    assert_eq!(bytes(&sent("line", "on 2", "\r\n")), b"on 2\r\n");
}

/// A message of v2c with the community `private` and the request id 1, from a line of a profile's
/// test: `get OID`, `set OID i 2`, `set OID s "text"`, `set OID missing`. A `pdu` of 0 is the line's own.
fn message(pdu: u8, line: &str) -> Vec<u8> {
    let mut words = line.splitn(4, ' ');
    let verb = words.next().unwrap_or_default();
    let oid = words.next().expect("an OID");
    let whole = match oid.strip_prefix('.') {
        Some(whole) => whole.to_owned(),
        None if oid.starts_with("1.3.6.1.") => oid.to_owned(),
        None => format!("1.3.6.1.4.1.{oid}"),
    };
    let arcs: Vec<u32> = whole
        .split('.')
        .map(|arc| arc.parse().expect("a number"))
        .collect();
    let number = |tag| {
        let number: i64 = words
            .clone()
            .nth(1)
            .and_then(|number| number.parse().ok())
            .expect("a number");
        // The shortest that keeps its sign.
        let all = number.to_be_bytes();
        let first = (0..7).find(|at| {
            let [byte, next] = [all[*at], all[at + 1]];
            !(byte == 0 && next < 0x80 || byte == 0xff && next >= 0x80)
        });
        Part::Plain(tag, all[first.unwrap_or(7)..].to_vec())
    };
    let value = match words.clone().next() {
        None => Part::Plain(5, Vec::new()),
        Some("i") => number(2),
        Some("u") => number(0x42),
        Some("s") => Part::Plain(4, bytes(words.clone().nth(1).expect("a text"))),
        Some(_) => Part::Plain(0x81, Vec::new()),
    };
    let tag = match (pdu, verb) {
        (0, "get") => 0xa0,
        (0, _) => 0xa3,
        (pdu, _) => pdu,
    };
    let int = |number| Part::Plain(2, vec![number]);
    let binding = Part::Built(0x30, vec![Part::Plain(6, ber::content(&arcs)), value]);
    let pdu = vec![int(1), int(0), int(0), Part::Built(0x30, vec![binding])];
    let community = Part::Plain(4, b"private".to_vec());
    ber::build(&[Part::Built(
        0x30,
        vec![int(1), community, Part::Built(tag, pdu)],
    )])
}
