//! 64 SNMP PDUs with 16 outlets each, all switched by one request: many outlets in one SET, beside one
//! SET for each outlet. Debian's powerman has no `snmppower`, so it cannot be measured beside them.

use crate::agent::{Table, TableAgent};
use crate::load::{self, Until};
use crate::process::{Program, Running, config};
use crate::{At, verdict};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Duration;

const PDUS: usize = 64;
const OUTLETS: u8 = 16;
/// The column of the control objects.
const COLUMN: &str = "318.1.1.4.4.2.1.3";
/// Requests of a run: on and off by turns.
const REQUESTS: usize = 20;

pub fn run(folder: &Path) {
    println!("## SNMP, {PDUS} PDUs with {OUTLETS} outlets each, all by one request, read back");
    let agents: Vec<TableAgent> = (0..PDUS)
        .map(|_| {
            let mut table = Table::default();
            for outlet in 1..=OUTLETS {
                table.integer(&format!("{COLUMN}.{outlet}"), 2);
            }
            TableAgent::start(table)
        })
        .collect();
    let each = measured(folder, &agents, 1);
    let many = measured(folder, &agents, usize::from(OUTLETS));
    println!("one outlet a SET             {each}");
    println!("16 outlets a SET             {many}");
    verdict(
        "time, 16 outlets a SET / one outlet a SET",
        many.seconds / each.seconds,
        0.5,
        At::Most,
    );
    assert!(many.requests <= 2 * PDUS, "a SET and a GET for each PDU");
}

/// What one request for all outlets costs.
struct Cost {
    seconds: f64,
    /// CPU seconds.
    cpu: f64,
    /// Of SNMP.
    requests: usize,
    /// Resident, in KiB.
    memory: u64,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:>8.1} ms  CPU {:>7.1} ms  {:>5} SNMP requests  {:>6.1} MiB",
            self.seconds * 1e3,
            self.cpu * 1e3,
            self.requests,
            self.memory as f64 / 1024.0
        )
    }
}

fn measured(folder: &Path, agents: &[TableAgent], varbinds: usize) -> Cost {
    let name = |pdu: usize| format!("pdu{pdu}");
    let pdus: Map<String, Value> = agents
        .iter()
        .enumerate()
        .map(|(pdu, agent)| {
            let keys = json!({
                "driver": "snmpv1", "ip": agent.address.to_string(), "community": "private",
                "oid": format!("1.3.6.1.4.1.{COLUMN}.*"), "onsetting": 1, "offsetting": 2,
                "varbinds": varbinds,
            });
            (name(pdu), keys)
        })
        .collect();
    let outlets = (0..PDUS).flat_map(|pdu| {
        (1..=OUTLETS).map(move |outlet| json!({"hostname": name(pdu), "port": outlet}))
    });
    let aliases = json!({"all": {"outlets": outlets.collect::<Vec<Value>>()}});
    let file = format!("outlets-{varbinds}.conf");
    let (path, address) = config(folder, &file, &pdus.into(), &aliases);
    let running = Running::daemon(&Program::ours(), &path, address);
    let asked = |count: usize| {
        let to = |_: usize, number: usize| {
            let to = ["on", "off"][number % 2];
            format!("/power/control/{to}?alias=all")
        };
        let until = Until::Each(count, Duration::from_secs(120));
        load::run(running.address, 1, until, to)
    };
    asked(2);
    for agent in agents {
        agent.table().requests.clear();
    }
    let before = running.cpu();
    let found = asked(REQUESTS);
    let cpu = running.cpu().saturating_sub(before);
    assert_eq!(found.failed, 0, "every request is carried out");
    let is_off = |agent: &TableAgent| {
        let table = agent.table();
        (1..=OUTLETS).all(|outlet| table.read(&format!("{COLUMN}.{outlet}")) == Some(2))
    };
    assert!(agents.iter().all(is_off), "the last request was off");
    let requests: usize = agents
        .iter()
        .map(|agent| agent.table().requests.len())
        .sum();
    Cost {
        seconds: found.percentile(50).as_secs_f64(),
        cpu: cpu.as_secs_f64() / REQUESTS as f64,
        requests: requests / REQUESTS,
        memory: running.memory(),
    }
}
