//! A connection for each request: the legacy line as every `pduclient` of the Python program sends
//! it (no newline, the socket kept open), and HTTP as curl does.

use crate::load::{self, Found};
use crate::process::{Program, Running, config_with};
use crate::{At, ROUNDS, RUN, Rate, WARM_UP, median, null_path, null_pdus, verdict};
use serde_json::json;
use std::path::Path;

/// Clients that ask, each again as soon as it has its answer.
const CLIENTS: usize = 64;

pub fn run(folder: &Path, python: Option<&Program>) {
    println!(
        "## A connection for each request, median of {ROUNDS} runs of {} s",
        RUN.as_secs()
    );
    for pdus in [1, 100] {
        let line = move |number: usize, _| format!("pdu{} {} on", number % pdus, number % 8 + 1);
        let what = format!("lines without a newline, {CLIENTS} clients, PDUs: {pdus}");
        let both = compare(folder, "tcp", python, pdus, &what, line, b"ack\n");
        if let Some((ours, python)) = both {
            let ratio = ours.per_second / python.per_second;
            verdict("lines a second / Python", ratio, 5.0, At::Least);
            verdict(
                "CPU per line / Python",
                ours.cpu / python.cpu,
                0.25,
                At::Most,
            );
        }
    }
    alone(folder);
    let request = |number, asked| {
        let path = null_path(number, asked);
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    };
    let what = format!("HTTP, {CLIENTS} clients");
    let end = b"OK - accepted request\n";
    if let Some((ours, python)) = compare(folder, "http", python, 100, &what, request, end) {
        let ratio = ours.per_second / python.per_second;
        println!("  requests a second / Python: {ratio:.4}");
        verdict(
            "CPU per request / Python",
            ours.cpu / python.cpu,
            0.2,
            At::Most,
        );
    }
}

/// Runs of both programs, taking turns; the median of each, where there are both.
fn compare(
    folder: &Path,
    listener: &str,
    python: Option<&Program>,
    pdus: usize,
    what: &str,
    request: impl Fn(usize, usize) -> String,
    end: &[u8],
) -> Option<(Rate, Rate)> {
    println!("{what}:");
    let daemon = json!({"listener": listener});
    let (path, address) = config_with(folder, "legacy.conf", &null_pdus(pdus), daemon);
    let ours = Program::ours();
    let programs: Vec<&Program> = std::iter::once(&ours).chain(python).collect();
    let mut runs: Vec<Vec<Rate>> = programs.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (program, runs) in programs.iter().zip(&mut runs) {
            let running = Running::daemon(program, &path, address);
            runs.push(rate(&running, CLIENTS, &request, end));
        }
    }
    let mut medians = programs.iter().zip(runs).map(|(program, mut runs)| {
        runs.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        let rate = runs.swap_remove(ROUNDS / 2);
        println!("{:<20} {rate}", program.name);
        rate
    });
    let (ours, python) = (medians.next(), medians.next());
    ours.zip(python)
}

/// One client: does a newline make the answer come sooner?
fn alone(folder: &Path) {
    println!("one client:");
    let daemon = json!({"listener": "both"});
    let (path, address) = config_with(folder, "legacy.conf", &null_pdus(1), daemon);
    let running = Running::daemon(&Program::ours(), &path, address);
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let [with, without] = ["\n", ""].map(|end| {
            let found = rate(&running, 1, |_, _| format!("pdu0 1 on{end}"), b"ack\n");
            let name = if end.is_empty() {
                "without a newline"
            } else {
                "with a newline"
            };
            println!("{name:<20} {found}");
            found
        });
        ratios.push(without.p50.as_secs_f64() / with.p50.as_secs_f64());
    }
    let what = "p50 without a newline / with one";
    verdict(what, median(ratios.into_iter()), 2.0, At::Most);
}

fn rate(
    server: &Running,
    clients: usize,
    request: impl Fn(usize, usize) -> String,
    end: &[u8],
) -> Rate {
    load::run_anew(server.address, clients, WARM_UP, &request, end);
    let before = server.cpu();
    let found: Found = load::run_anew(server.address, clients, RUN, &request, end);
    Rate::of(&found, server.cpu().saturating_sub(before))
}
