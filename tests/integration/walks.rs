//! Recorded walks of real PDUs: each is loaded into an agent, and every shipped profile of its family
//! reads every outlet. What it must read was worked out by hand from the makers' MIBs.
//!
//! The walks are not part of the repository: `PDUD_WALKS=FOLDER cargo test --test integration walks`
//! reads them from a folder, as snmpsim records them (`NAME.snmprec`).

use crate::daemon::wait_for;
use crate::sim::agent::{Table, TableAgent, arcs};
use crate::sim::port;
use pdudaemon::driver::registry::Registry;
use pdudaemon::driver::{Driver, DriverError};
use pdudaemon::request::{Outlet, PduName, State};
use pdudaemon::settings::{Position, Settings};
use pdudaemon::transport::Deadline;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a profile must read of a walk.
struct Row {
    walk: &'static str,
    profile: &'static str,
    /// Settings as JSON.
    keys: &'static str,
    /// `1-8 on, 9 off, 10 absent`; `1.2.1-3` is 1.2.1 to 1.2.3.
    states: &'static str,
    count: Option<usize>,
    /// `3 Outlet 3; 4 lamp`.
    names: &'static str,
}

const fn row(
    walk: &'static str,
    profile: &'static str,
    keys: &'static str,
    states: &'static str,
    count: Option<usize>,
    names: &'static str,
) -> Row {
    Row {
        walk,
        profile,
        keys,
        states,
        count,
        names,
    }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // PowerNet-MIB, rPDU2OutletSwitchedStatusState: 1 is off, 2 is on.
    row("apc-7902b", "apc-rpdu2", "{}", "1-8 on, 9-16 off", Some(16), "3 Outlet 3; 15 Outlet 15"),
    row("apc-8641", "apc-rpdu2", "{}", "1-7 on, 8 off, 9 on, 10-16 off, 17-23 on, 24 off", Some(24), "3 CPDXDCVHOST02; 8 Outlet 8"),
    // rPDUOutletStatusOutletState: 1 is on, 2 is off.
    row("apc-7902b", "apc-rpdu", "{}", "1-2 on, 3-15 off, 16 on", Some(16), "3 Outlet 3"),
    row("apc-8641", "apc-rpdu", "{}", "1-7 on, 8 off, 9 on, 10-16 off, 17-23 on, 24 off", Some(24), "4 SERVER01"),
    // sPDUOutletCtl: 1 is on, 2 is off.
    row("apc-7902b", "apc-spdu", "{}", "1-2 on, 3-15 off, 16 on", Some(16), "10 Server 10 PS 1"),
    row("apc-8641", "apc-spdu", "{}", "1-7 on, 8 off, 9 on, 10-16 off, 17-23 on, 24 off", Some(24), "24 ESX Server 24 PS 2"),
    row("apc_masterswitch2", "apc-spdu", "{}", "1 on, 2-3 off, 4 on, 5 off, 6-8 on", None, "8 Outlet 8"),
    // cPDUOutletStatusState: 0 is off, 1 is on.
    row("apc-cpdu", "apc-cpdu", "{}", "1-40 on, 41-64 off", None, "1 Test Name; 9 OUTLET 9"),
    // ATEN-PE-CFG, outlet1Status and so on: 2 is on, 7 stands for one that is not there.
    row("atenpdu", "aten-pe", "{}", "1-16 on, 17-42 absent", None, "1 01; 16 16"),
    // DGPUNION-MIB: of the list of outlets, 1 is on.
    row("digipower", "digipower", "{}", "1-24 on", None, ""),
    // outletState: 0 is off, 1 is on, 2 is cycling.
    row("eatonpdu_dbq", "eaton-revelation", "{}", "1-20 on", None, "11 sw2-g11-il1par"),
    // CPQPOWER-MIB, pdu2OutletControlStatus: 1 is off, 2 is on.
    row("hpe-mapdu_pdu2", "hpe-pdu2", "{}", "1-5 off, 6-7 on, 8 off", None, "1 Outlet L1-1; 8 Outlet L1-8"),
    // ICT-MIB, outputEnable: 1 is enabled, 2 is disabled.
    row("ict-pdu", "ict-distribution", "{}", "1-2 on, 3-8 off, 9 on, 10-12 off", None, "1 test; 9 Camera"),
    // LIEBERT-GP-PDU-MIB, lgpPduRcpEntryPwrState: 1 is off, 2 is on.
    row("liebert_mph2rg", "liebert-mpx", "{}", "1.2.1-2 off, 1.2.3 on, 1.2.4-5 off, 1.2.6-8 on, 1.2.9-12 off, 1.2.13-15 on, 1.2.16 off", None, "1.2.2 P02; 2.16 P16"),
    // RFC 3621, pethPsePortAdminEnable: a TruthValue. The first port is 49 in the table.
    row("linksys-ss_lgs318p", "poe-mib", r#"{"offset": 48}"#, "1-13 off, 14-18 on", None, ""),
    row("microsemipdsine", "microsemi-midspan", "{}", "1 on", None, ""),
    // DIGIPDU-MIB: 0 is off, 1 is on.
    row("planet-pdu", "planet-ipm", "{}", "1-6 on, 7-8 off", None, ""),
    // TRIPPLITE-12X: 1 is off, 2 is on.
    row("poweralert_2", "tripplite-old12x", "{}", "1-3 on", Some(3), ""),
    // WTI-MPC-VMR-MIB, plugStatus: 0 is off, 1 is on.
    row("wti-power", "wti-snmp", "{}", "1-8 on", None, "1 Outlet-A1; 8 Outlet-B4"),
    // Without a column of states: these tell the index, and names.
    row("conteg-pdu", "conteg-pdu", r#"{"unit": 2}"#, "", None, "1 BBONE2-L; 2 EDGE2-L; 3 PDU-UK"),
    row("raritan-pdu", "raritan-px1", "{}", "", None, "1 OUTLET1; 12 OUTLET12"),
    row("raritan-pdu_px2", "raritan-px2", "{}", "", None, "2 OUTLET2; 12 OUTLET12"),
    row("schleifenbauer", "schleifenbauer", r#"{"address": 210}"#, "", None, "1 blaat; 6 mooh"),
    row("sentry3_switched", "sentry3", "{}", "", None, "1 Outlet AA1; 2.10 Outlet AB10; 3.1 Outlet AC1"),
    row("panduit_g5-p32g13m", "panduit-g5", "{}", "", None, "1 OUTLET 1"),
];

/// Walks of PDUs that switch nothing, as far as the walk shows: no profile may take them for its own.
const METERED: &[&str] = &[
    "apc_ap8853",
    "cyberpower",
    "enlogic-pdu_v2",
    "fs-net-pdu",
    "geist-pdu",
    "panduit",
    "raritan-pdu_px2-temp",
    "sentry3",
    "vertiv-pdu_imd5",
    "vertiv-pdu_mg02e4w1",
    "vertiv-pdu_mn03edr1",
];

fn folder() -> PathBuf {
    let folder = std::env::var_os("PDUD_WALKS");
    folder
        .expect("PDUD_WALKS: expected the folder of the walks")
        .into()
}

/// The objects of a walk.
fn walk(name: &str) -> Table {
    let path = folder().join(format!("{name}.snmprec"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = String::from_utf8_lossy(&bytes);
    let mut table = Table::default();
    for line in text.lines() {
        let mut parts = line.splitn(3, '|');
        let (Some(oid), Some(kind), Some(value)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if let Some(value) = value_of(kind, value) {
            let oid = oid.trim_start_matches('.');
            table.objects.insert(arcs(oid), value);
        }
    }
    table
}

/// A value's tag and content, as far as profiles read it.
fn value_of(kind: &str, value: &str) -> Option<(u8, Vec<u8>)> {
    let (kind, is_varied) = match kind.split_once(':') {
        Some((kind, _)) => (kind, true),
        None => (kind, false),
    };
    // A value that snmpsim changes with time: the one that was recorded.
    let value = match is_varied {
        true => value.split(',').find_map(|part| {
            let of = |key: &str| part.strip_prefix(key);
            of("initial=").or_else(|| of("value="))
        })?,
        false => value,
    };
    match kind {
        "2" => Some((2, signed(value.trim().parse().ok()?))),
        "65" => Some((0x41, signed(value.trim().parse().ok()?))),
        "66" => Some((0x42, signed(value.trim().parse().ok()?))),
        "67" => Some((0x43, signed(value.trim().parse().ok()?))),
        "4" => Some((4, value.as_bytes().to_vec())),
        // As text: only the test reads it.
        "6" => Some((4, value.trim_start_matches('.').as_bytes().to_vec())),
        "4x" => {
            let digits = value.as_bytes().chunks(2);
            let bytes =
                digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
            Some((4, bytes.collect::<Option<_>>()?))
        }
        _ => None,
    }
}

/// The shortest two's complement.
fn signed(number: i64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let is_spare = |at: &usize| {
        let next = bytes[at + 1] & 0x80;
        (bytes[*at] == 0 && next == 0) || (bytes[*at] == 0xff && next != 0)
    };
    let spare = (0..7).take_while(is_spare).count();
    bytes[spare..].to_vec()
}

/// The driver of a PDU that has the walk, at this address.
fn driver(address: &str, community: &str, row: &Row, varbinds: usize) -> Box<dyn Driver> {
    let mut settings = json!({"ip": address, "community": community, "varbinds": varbinds});
    let keys: Value = serde_json::from_str(row.keys).expect("JSON");
    let all = settings.as_object_mut().expect("keys");
    all.extend(keys.as_object().expect("keys").clone());
    let at = Position { line: 1, column: 1 };
    let settings = Settings::new(PduName::new("pdu"), row.profile, settings.to_string(), at);
    let spec = Registry::default().find(row.profile).expect("a right one");
    let spec = spec.unwrap_or_else(|| panic!("no driver {}", row.profile));
    spec.make(&settings).expect("builds").0
}

/// The outlets and states of a text as in [`Row::states`].
fn expected(states: &str) -> BTreeMap<Outlet, &str> {
    let mut expected = BTreeMap::new();
    for part in states.split(", ").filter(|part| !part.is_empty()) {
        let (ids, state) = part.split_once(' ').expect("outlets and a state");
        let (prefix, numbers) = match ids.rsplit_once('.') {
            Some((prefix, numbers)) => (format!("{prefix}."), numbers),
            None => (String::new(), ids),
        };
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let number = |text: &str| text.parse::<u32>().expect("a number");
        for id in number(first)..=number(last) {
            expected.insert(Outlet::new(format!("{prefix}{id}")), state);
        }
    }
    expected
}

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn word(state: Result<State, DriverError>) -> String {
    match state {
        Ok(State::On) => "on".to_owned(),
        Ok(State::Off) => "off".to_owned(),
        Ok(other @ State::Unknown(_)) => other.to_string(),
        Err(DriverError::NoSuchOutlet { .. }) => "absent".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// What the profile reads otherwise than it must of an agent that has the walk.
fn misread(row: &Row, address: &str, community: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let at = format!("{} by {}", row.walk, row.profile);
    let expected = expected(row.states);
    let mut one_by_one = driver(address, community, row, 1);
    for (outlet, state) in &expected {
        let read = word(one_by_one.state(outlet, deadline()));
        if read != *state {
            wrong.push(format!(
                "{at}: outlet {outlet}: expected {state}, got {read}"
            ));
        }
    }
    let mut many = driver(address, community, row, 16);
    let outlets: Vec<Outlet> = expected.keys().cloned().collect();
    for (at_first, outlet) in outlets.iter().enumerate() {
        let states = many.states(outlet, &outlets[at_first + 1..], deadline());
        for (of, state) in states.map(|states| states.others).unwrap_or_default() {
            let read = word(Ok(state));
            if Some(&read.as_str()) != expected.get(&of) {
                wrong.push(format!("{at}: outlet {of} with {outlet}: got {read}"));
            }
        }
    }
    let count = one_by_one.count(deadline()).expect("answered");
    if row.count.is_some() && count != row.count {
        wrong.push(format!(
            "{at}: expected {:?} outlets, got {count:?}",
            row.count
        ));
    }
    for named in row.names.split("; ").filter(|named| !named.is_empty()) {
        let (outlet, name) = named.split_once(' ').expect("an outlet and a name");
        let outlet = [Outlet::new(outlet)];
        let told = one_by_one.names(&outlet, deadline()).expect("answered");
        let told: Vec<&str> = told.iter().map(|(_, name)| name.as_str()).collect();
        if told != [name] {
            wrong.push(format!("{at}: expected the name {named}, got {told:?}"));
        }
    }
    wrong
}

#[test]
#[ignore = "needs recorded walks: PDUD_WALKS=FOLDER"]
fn walks_are_read_as_the_makers_mibs_say() {
    let wrong = ROWS.iter().flat_map(|row| {
        let agent = TableAgent::start(walk(row.walk));
        misread(row, &agent.address.to_string(), "public")
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Rows whose walks have no values that snmpsim changes with time, a family each.
const SERVED: &[&str] = &[
    "apc_masterswitch2",
    "hpe-mapdu_pdu2",
    "ict-pdu",
    "wti-power",
    "poweralert_2",
];

#[test]
#[ignore = "needs recorded walks: PDUD_WALKS=FOLDER"]
fn snmpsim_serves_walks_to_the_profiles() {
    let program = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/target/test-venv/bin/snmpsim-command-responder"
    );
    assert!(
        std::path::Path::new(program).exists(),
        "snmpsim is missing: python3 -m venv target/test-venv && \
         target/test-venv/bin/python -m pip install snmpsim==1.2.2 pysmi"
    );
    let data = tempfile::tempdir().expect("a folder");
    for name in SERVED {
        let file = format!("{name}.snmprec");
        std::fs::copy(folder().join(&file), data.path().join(&file)).expect("copied");
    }
    let cache = tempfile::tempdir().expect("a folder");
    let address = format!("127.0.0.1:{}", port::free());
    let user = rustix::process::geteuid();
    let user = if user.is_root() { "root" } else { "nobody" };
    let mut served = Command::new(program)
        .arg(format!("--data-dir={}", data.path().display()))
        .arg(format!("--cache-dir={}", cache.path().display()))
        .arg(format!("--agent-udpv4-endpoint={address}"))
        .args([
            &format!("--process-user={user}"),
            &format!("--process-group={user}"),
        ])
        .arg("--logging-method=null")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let rows = || ROWS.iter().filter(|row| SERVED.contains(&row.walk));
    let first = rows().next().expect("a row");
    wait_for("snmpsim", || {
        let outlet = expected(first.states)
            .into_keys()
            .next()
            .expect("an outlet");
        let deadline = Deadline::after(Duration::from_secs(1));
        let read = driver(&address, first.walk, first, 1).state(&outlet, deadline);
        read.is_ok().then_some(())
    });
    let wrong: Vec<String> = rows()
        .flat_map(|row| misread(row, &address, row.walk))
        .collect();
    let _ = served.kill();
    let _ = served.wait();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Would detection take a PDU with this walk for one of the profile's?
fn claims(profile: &toml::Table, walk: &Table) -> bool {
    let Some(detect) = profile.get("detect").and_then(toml::Value::as_table) else {
        return false;
    };
    let list = |key: &str| {
        let list = detect.get(key).and_then(toml::Value::as_array);
        let list: Vec<&str> = list
            .into_iter()
            .flatten()
            .filter_map(toml::Value::as_str)
            .collect();
        list
    };
    let id = walk.objects.get(&arcs("1.3.6.1.2.1.1.2.0"));
    let id = id.map_or_else(String::new, |(_, id)| {
        String::from_utf8_lossy(id).into_owned()
    });
    let begins = |prefix: &&str| {
        let whole: Vec<String> = arcs(prefix).iter().map(u32::to_string).collect();
        let whole = whole.join(".");
        id == whole || id.starts_with(&format!("{whole}."))
    };
    if list("except").iter().any(begins) {
        return false;
    }
    let has = detect.get("has").and_then(toml::Value::as_str);
    let has = has.map(|oid| filled(profile, oid));
    let ids = list("sysobjectid");
    (ids.is_empty() || ids.iter().any(begins))
        && has.is_none_or(|oid| walk.objects.contains_key(&arcs(&oid)))
}

/// The OID with the defaults of the profile's keys in its holes.
fn filled(profile: &toml::Table, oid: &str) -> String {
    let keys = profile.get("keys").and_then(toml::Value::as_table);
    let mut oid = oid.to_owned();
    for (name, key) in keys.into_iter().flatten() {
        let default = key.get("default").and_then(toml::Value::as_integer);
        if let Some(default) = default {
            oid = oid.replace(&format!("{{{name}}}"), &default.to_string());
        }
    }
    oid
}

#[test]
#[ignore = "needs recorded walks: PDUD_WALKS=FOLDER"]
fn a_walk_without_outlets_is_claimed_by_no_profile() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/share/profiles");
    let profiles: Vec<(String, toml::Table)> = std::fs::read_dir(folder)
        .expect("the profiles")
        .map(|entry| {
            let path = entry.expect("a file").path();
            let text = std::fs::read_to_string(&path).expect("a text");
            (
                path.display().to_string(),
                toml::from_str(&text).expect("TOML"),
            )
        })
        .collect();
    let claimed = |name: &&str| {
        let walk = walk(name);
        let claims = profiles
            .iter()
            .filter(|(_, profile)| claims(profile, &walk));
        claims.map(|(path, _)| path.clone()).collect::<Vec<_>>()
    };
    let found = METERED.iter().map(|name| (*name, claimed(name)));
    let found: Vec<_> = found.filter(|(_, claims)| !claims.is_empty()).collect();
    assert!(found.is_empty(), "{found:#?}");
    // And the rule does find those that have outlets.
    for name in ["apc-7902b", "apc-cpdu", "ict-pdu", "planet-pdu"] {
        assert!(!claimed(&name).is_empty(), "{name}");
    }
}
