//! The daemon's speed, measured beside the Python daemon and beside a bare tiny_http in the same
//! run, on loopback: `cargo bench --bench bench`, or with ` -- burst snmp` for some of the parts
//! `http legacy tls start drive burst snmp outlets pollers hostile floods`.
//!
//! The PDUs have a null command: a `localcmdline` without commands, which both programs carry out by
//! doing nothing and saying so. What is measured is all that lies around it: connection, request,
//! queue, worker, answer, two log lines in a file. Every part is bounded in count and time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::exit,
    missing_docs,
    unreachable_pub,
    reason = "a bench stops at the first thing that is wrong, and speaks to the terminal"
)]

#[path = "../integration/sim/agent.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod agent;
mod agents;
#[path = "../integration/sim/ber.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod ber;
mod floods;
mod hostile;
mod legacy;
mod load;
mod outlets;
mod pollers;
#[path = "../integration/sim/port.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod port;
mod process;
mod tls;

use load::{Found, Until};
use pollers::Pollers;
use process::{Program, Running, config, timed};
use serde_json::{Map, Value, json};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Keep-alive connections of a throughput run.
const CONNECTIONS: usize = 16;
/// One throughput run, after its warm-up.
const RUN: Duration = Duration::from_secs(3);
/// How a switch of an SNMP PDU is confirmed by default.
const READ_BACK: &str = "read back";
const WARM_UP: Duration = Duration::from_millis(500);
/// Runs of each server, taking turns; the median counts.
const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["--crowd", kind, address] => hostile::crowd(kind, address.parse().expect("an address")),
        ["--hello", port] => hello(port.parse().expect("a port")),
        ["--agents", milliseconds] => agents::serve(Duration::from_millis(
            milliseconds.parse().expect("milliseconds"),
        )),
        ["--poll", server, milliseconds] => pollers::poll(
            server.parse().expect("an address"),
            Duration::from_millis(milliseconds.parse().expect("milliseconds")),
        ),
        _ => {}
    }
    let wanted = |part: &str| {
        let mut parts = arguments
            .iter()
            .filter(|argument| !argument.starts_with('-'))
            .peekable();
        parts.peek().is_none() || parts.any(|wanted| wanted == part)
    };
    raise_descriptor_limit();
    let folder = tempfile::tempdir().expect("a folder");
    let python = Program::python();
    if python.is_none() {
        println!(
            "The Python pdudaemon is missing: its figures and ratios are left out. To have them:\n  \
             python3 -m venv target/test-venv && target/test-venv/bin/python -m pip install pdudaemon"
        );
    }
    let bench = Bench {
        folder: folder.path(),
        python,
    };
    type Part = (&'static str, fn(&Bench<'_>));
    let parts: [Part; 11] = [
        ("http", |bench| bench.http()),
        ("legacy", |bench| {
            legacy::run(bench.folder, bench.python.as_ref());
        }),
        ("tls", |bench| tls::run(bench.folder)),
        ("start", |bench| bench.start()),
        ("drive", |bench| bench.drive()),
        ("burst", |bench| bench.burst()),
        ("snmp", |bench| bench.snmp()),
        ("outlets", |bench| outlets::run(bench.folder)),
        ("pollers", |bench| bench.pollers()),
        ("hostile", |bench| hostile::run(bench.folder)),
        ("floods", |bench| floods::run(bench.folder)),
    ];
    for (_, part) in parts.iter().filter(|(name, _)| wanted(name)) {
        part(&bench);
        println!();
    }
}

struct Bench<'a> {
    folder: &'a Path,
    python: Option<Program>,
}

impl Bench<'_> {
    fn programs(&self) -> impl Iterator<Item = Program> {
        std::iter::once(Program::ours()).chain(self.python.clone())
    }

    /// Requests a second over keep-alive.
    fn http(&self) {
        println!(
            "## HTTP, {CONNECTIONS} keep-alive connections, each to a PDU of its own, median of {ROUNDS} runs of {} s",
            RUN.as_secs()
        );
        let (config_path, address) = config(self.folder, "http.conf", &null_pdus(100), &json!({}));
        let servers: [(&str, Option<Starter<'_>>); 3] = [
            (
                "bare tiny_http",
                Some(Box::new(|| start_hello(free_address()))),
            ),
            (
                "pdudaemon (Rust)",
                Some(Box::new(|| {
                    Running::daemon(&Program::ours(), &config_path, address)
                })),
            ),
            (
                "pdudaemon (Python)",
                self.python.as_ref().map(|python| -> Starter<'_> {
                    Box::new(|| Running::daemon(python, &config_path, address))
                }),
            ),
        ];
        let mut runs: Vec<Vec<Rate>> = servers.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for ((_, starter), runs) in servers.iter().zip(&mut runs) {
                let Some(starter) = starter else { continue };
                let server = starter();
                runs.push(rate(&server, CONNECTIONS, RUN, null_path));
            }
        }
        for ((name, _), runs) in servers
            .iter()
            .zip(&runs)
            .filter(|(_, runs)| !runs.is_empty())
        {
            let mut sorted: Vec<&Rate> = runs.iter().collect();
            sorted.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
            println!("{name:<20} {}", sorted[sorted.len() / 2]);
        }
        let ratio = |other: usize| {
            let ratios = runs[1]
                .iter()
                .zip(&runs[other])
                .map(|(ours, other)| ours.per_second / other.per_second);
            median(ratios)
        };
        verdict("throughput / bare tiny_http", ratio(0), 0.5, At::Least);
        if !runs[2].is_empty() {
            verdict("throughput / Python", ratio(2), 5.0, At::Least);
        }
    }

    /// Start-up time and memory.
    fn start(&self) {
        println!(
            "## Start-up (until the first answer over HTTP, median of 4, of the slow just one) and resident memory"
        );
        for count in [1, 100, 1000, 5000] {
            let (path, address) = config(self.folder, "start.conf", &null_pdus(count), &json!({}));
            let mut found = Vec::new();
            for program in self.programs() {
                let few = count > 100 && program.name == Program::PYTHON;
                let runs: Vec<(f64, u64)> = (0..if few { 0 } else { 3 })
                    .map(|_| {
                        let running = Running::daemon(&program, &path, address);
                        (running.ready_after.as_secs_f64(), running.memory())
                    })
                    .collect();
                let running = Running::daemon(&program, &path, address);
                let last = (running.ready_after.as_secs_f64(), running.memory());
                let runs: Vec<(f64, u64)> = runs.into_iter().chain([last]).collect();
                // Python makes a PDU's thread at its first job.
                let paths = |_, number| format!("/power/control/on?hostname=pdu{number}&port=1");
                let done = load::run(
                    address,
                    1,
                    Until::Each(count, Duration::from_secs(60)),
                    paths,
                );
                let name = program.name;
                let start = median(runs.iter().map(|run| run.0));
                let memory = median(runs.iter().map(|run| run.1 as f64)) / 1024.0;
                println!(
                    "{name:<20} {count:>5} PDUs: ready after {:>8.1} ms, {memory:>6.1} MiB; after one job each {:>6.1} MiB{}",
                    start * 1e3,
                    running.memory() as f64 / 1024.0,
                    failures(&done)
                );
                found.push((start, memory));
            }
            if let [ours, python] = found.as_slice() {
                let target = count == 1000;
                let say = |what: &str, ratio: f64, most: f64| {
                    if target {
                        verdict(what, ratio, most, At::Most);
                    } else {
                        println!("  {what}: {ratio:.4}");
                    }
                };
                say("start-up / Python", ours.0 / python.0, 1.0 / 20.0);
                say("memory / Python", ours.1 / python.1, 1.0 / 3.0);
            }
        }
    }

    /// One `--drive`.
    fn drive(&self) {
        println!("## One --drive of a null command, wall time, median");
        let (path, _) = config(self.folder, "drive.conf", &null_pdus(100), &json!({}));
        let runs = |count: usize, time: &dyn Fn() -> Duration| {
            median((0..count).map(|_| time().as_secs_f64()))
        };
        let nothing = runs(50, &|| timed(&mut Command::new("/bin/true")));
        println!("{:<20} {:>8.2} ms", "/bin/true", nothing * 1e3);
        let ours = runs(50, &|| Program::ours().drive(&path, "pdu1", "1"));
        println!("{:<20} {:>8.2} ms", "pdudaemon (Rust)", ours * 1e3);
        if let Some(python) = &self.python {
            let python = runs(5, &|| python.drive(&path, "pdu1", "1"));
            println!("{:<20} {:>8.2} ms", "pdudaemon (Python)", python * 1e3);
            verdict("wall time / Python", ours / python, 1.0 / 150.0, At::Most);
        }
    }

    /// Everything at once: 100 PDUs of 24 outlets, 50 ms a command.
    fn burst(&self) {
        const PDUS: usize = 100;
        const OUTLETS: usize = 24;
        println!(
            "## {PDUS} PDUs x {OUTLETS} outlets x 50 ms, {} connections opened at once",
            PDUS * OUTLETS
        );
        // Nobody says in which order clients come: here each PDU's first does not wait for others'.
        let path = |connection: usize, _| {
            let (pdu, outlet) = (connection % PDUS, connection / PDUS + 1);
            format!("/power/control/on?hostname=pdu{pdu}&port={outlet}")
        };
        let ideal = 0.05 * OUTLETS as f64;
        let run = |program: &Program, name: &str, pdu: Value| {
            let (file, address) = config(self.folder, name, &pdus(PDUS, &pdu), &json!({}));
            let running = Running::daemon(program, &file, address);
            let found = load::run(
                address,
                PDUS * OUTLETS,
                Until::Each(1, Duration::from_secs(90)),
                path,
            );
            let took = found.took.as_secs_f64();
            println!(
                "{:<20} {took:>8.3} s, CPU {:.2} s{}",
                program.name,
                running.cpu().as_secs_f64(),
                failures(&found)
            );
            took
        };
        let simulated = json!({"driver": "simulated", "outlets": OUTLETS, "latency": 0.05});
        let runs: Vec<f64> = (0..ROUNDS)
            .map(|_| run(&Program::ours(), "burst.conf", simulated.clone()))
            .collect();
        verdict(
            "time / ideal 1.2 s",
            median(runs.into_iter()) / ideal,
            1.05,
            At::Most,
        );
        if let Some(python) = &self.python {
            println!("(Python has no simulated PDU: a localcmdline that runs `sleep 0.05`)");
            run(
                python,
                "burst-python.conf",
                json!({"driver": "localcmdline", "cmd_on": "sleep 0.05"}),
            );
        }
    }

    /// Switching beside clients that ask for the list.
    fn pollers(&self) {
        const PDUS: usize = 100;
        const CLIENTS: usize = 8;
        const OUTLETS: usize = 24;
        println!(
            "## {CLIENTS} clients that switch, each a PDU of its own, beside {} pollers of the list of {PDUS} PDUs x {OUTLETS} outlets",
            pollers::POLLERS
        );
        let path = |connection, number| {
            let command = if number % 2 == 0 { "on" } else { "off" };
            let outlet = number % OUTLETS + 1;
            format!("/power/control/{command}?hostname=pdu{connection}&port={outlet}")
        };
        for milliseconds in [20, 0] {
            println!("PDUs that take {milliseconds} ms:");
            let latency = f64::from(milliseconds) / 1e3;
            let pdu = json!({"driver": "simulated", "outlets": OUTLETS, "latency": latency});
            let (file, address) =
                config(self.folder, "pollers.conf", &pdus(PDUS, &pdu), &json!({}));
            let running = Running::daemon(&Program::ours(), &file, address);
            let (mut quiet, mut polled, mut hammered) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                quiet.push(rate(&running, CLIENTS, RUN, path));
                let pollers = Pollers::start(address, Duration::from_secs(1));
                polled.push(rate(&running, CLIENTS, RUN, path));
                drop(pollers);
                let pollers = Pollers::start(address, Duration::ZERO);
                hammered.push(rate(&running, CLIENTS, RUN, path));
                drop(pollers);
            }
            let say = |what: &str, rates: &[Rate]| {
                println!("{what:<28} {}", rates.get(ROUNDS / 2).expect("runs"));
            };
            say("nobody polls", &quiet);
            say("each polls once a second", &polled);
            say("each polls again at once", &hammered);
            let slower = |rates: &[Rate]| {
                // Clients ask one after the other: the mean time of a request is 1 / rate.
                let pairs = quiet.iter().zip(rates);
                median(pairs.map(|(quiet, rate)| quiet.per_second / rate.per_second))
            };
            let what = "mean time of a switch, polled / quiet";
            if milliseconds > 0 {
                verdict(what, slower(&polled), 1.1, At::Most);
            } else {
                println!("  {what}: {:.2}", slower(&polled));
            }
            println!("  the same, polled again at once: {:.2}", slower(&hammered));
        }
    }

    /// SNMP PDUs at addresses of their own.
    fn snmp(&self) {
        println!(
            "## SNMP, {} PDUs at {} addresses, one SET a job",
            agents::AGENTS,
            agents::AGENTS
        );
        let all: Vec<Value> = (0..agents::AGENTS)
            .map(|agent| json!({"hostname": agents::host(agent), "port": 1}))
            .collect();
        // Every switch is read back by default; the Python program trusts the agent's reply.
        let configs = |confirm: &str| {
            let pdus: Map<String, Value> = (0..agents::AGENTS)
                .map(|agent| {
                    let pdu = json!({
                        "driver": "snmpv1", "community": "private", "confirm": confirm,
                        "oid": "1.3.6.1.4.1.318.1.1.4.4.2.1.3.*", "onsetting": 1, "offsetting": 2
                    });
                    (agents::host(agent), pdu)
                })
                .collect();
            let aliases = json!({"all": {"outlets": all}});
            let name = format!("snmp-{confirm}.conf");
            config(self.folder, &name, &pdus.into(), &aliases)
        };
        let (read_back, trusted) = (configs("state"), configs("reply"));
        let path = |connection: usize, number: usize| {
            let command = if number.is_multiple_of(2) {
                "on"
            } else {
                "off"
            };
            format!(
                "/power/control/{command}?hostname={}&port={}",
                agents::host(connection),
                number % 8 + 1
            )
        };
        for latency in [0, 20] {
            let _agents = start_agents(latency);
            println!("agents that take {latency} ms:");
            let bare = agents::bare_client(RUN);
            println!("{:<28} {bare:>9.0} SETs/s", "bare UDP, 50 threads");
            let ours = |config: &(std::path::PathBuf, SocketAddr), how: &str| {
                let running = Running::daemon(&Program::ours(), &config.0, config.1);
                let rate = rate(&running, agents::AGENTS, RUN, path);
                println!("{:<28} {rate}", format!("ours, {how}"));
                let ratio = rate.per_second / bare;
                // A switch that is read back is two questions.
                let target = if latency > 0 { 0.9 } else { 0.3 };
                match how {
                    READ_BACK if latency > 0 => {
                        verdict("jobs/s / bare UDP", ratio, 0.45, At::Least)
                    }
                    READ_BACK => println!("  jobs/s / bare UDP: {ratio:.3}"),
                    _ => verdict("jobs/s / bare UDP", ratio, target, At::Least),
                }
                rate
            };
            let read_back_rate = ours(&read_back, READ_BACK);
            ours(&trusted, "confirmed by the reply");
            if latency > 0 {
                continue;
            }
            let python = self
                .programs()
                .find(|program| program.name == Program::PYTHON);
            let python = python.map(|program| {
                let running = Running::daemon(&program, &trusted.0, trusted.1);
                let rate = slow_rate(&running, agents::AGENTS, path);
                println!("{:<28} {rate}", program.name);
                rate
            });
            let running = Running::daemon(&Program::ours(), &read_back.0, read_back.1);
            let all_on = |_, _| "/power/control/on?alias=all".to_owned();
            let grouped = rate(&running, 2, RUN, all_on).times(agents::AGENTS);
            println!(
                "{:<28} {grouped} (jobs; an alias of all {} outlets)",
                "together, by one alias",
                agents::AGENTS
            );
            if let Some(python) = python {
                let single = "jobs/s / Python, a request each";
                verdict(
                    single,
                    read_back_rate.per_second / python.per_second,
                    1300.0,
                    At::Least,
                );
                verdict(
                    "CPU per job / Python, a request each",
                    read_back_rate.cpu / python.cpu,
                    1.0 / 1500.0,
                    At::Most,
                );
                verdict(
                    "jobs/s / Python, by alias",
                    grouped.per_second / python.per_second,
                    1300.0,
                    At::Least,
                );
                verdict(
                    "CPU per job / Python, by alias",
                    grouped.cpu / python.cpu,
                    1.0 / 1500.0,
                    At::Most,
                );
            }
            self.snmp_drive(&trusted.0);
        }
    }

    fn snmp_drive(&self, config: &Path) {
        let runs = |count: usize, time: &dyn Fn() -> Duration| {
            median((0..count).map(|_| time().as_secs_f64()))
        };
        let ours = runs(30, &|| Program::ours().drive(config, &agents::host(0), "1"));
        println!("{:<28} {:>8.2} ms", "one SET by --drive", ours * 1e3);
        let snmpset = || {
            let mut command = Command::new("snmpset");
            command.args([
                "-v2c",
                "-c",
                "private",
                &agents::host(0),
                ".1.3.6.1.4.1.318.1.1.4.4.2.1.3.1",
                "i",
                "1",
            ]);
            command
        };
        if snmpset().output().is_err() {
            return println!("snmpset is missing (Debian package snmp): its time is left out");
        }
        let theirs = runs(30, &|| timed(&mut snmpset()));
        println!("{:<28} {:>8.2} ms", "one SET by snmpset", theirs * 1e3);
        verdict("--drive / snmpset", ours / theirs, 1.0, At::Most);
    }
}

type Starter<'a> = Box<dyn Fn() -> Running + 'a>;

/// What a server did under load.
struct Rate {
    per_second: f64,
    p50: Duration,
    p99: Duration,
    /// CPU seconds a request.
    cpu: f64,
    failed: usize,
}

impl Rate {
    fn of(found: &Found, cpu: Duration) -> Self {
        Self {
            per_second: found.per_second(),
            p50: found.percentile(50),
            p99: found.percentile(99),
            cpu: cpu.as_secs_f64() / found.latencies.len().max(1) as f64,
            failed: found.failed,
        }
    }

    /// A request was so many jobs.
    fn times(self, jobs: usize) -> Self {
        Self {
            per_second: self.per_second * jobs as f64,
            cpu: self.cpu / jobs as f64,
            ..self
        }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:>9.0}/s  p50 {:>9.1} us  p99 {:>9.1} us  CPU {:>9.1} us each",
            self.per_second,
            self.p50.as_secs_f64() * 1e6,
            self.p99.as_secs_f64() * 1e6,
            self.cpu * 1e6
        )?;
        if self.failed > 0 {
            write!(f, "  {} FAILED", self.failed)?;
        }
        Ok(())
    }
}

fn rate(
    server: &Running,
    connections: usize,
    time: Duration,
    path: impl Fn(usize, usize) -> String,
) -> Rate {
    load::run(server.address, connections, Until::Over(WARM_UP), &path);
    let before = server.cpu();
    let found = load::run(server.address, connections, Until::Over(time), &path);
    Rate::of(&found, server.cpu().saturating_sub(before))
}

/// The same for a server that needs seconds a request: one on each connection.
fn slow_rate(server: &Running, connections: usize, path: impl Fn(usize, usize) -> String) -> Rate {
    let before = server.cpu();
    let until = Until::Each(1, Duration::from_secs(60));
    let found = load::run(server.address, connections, until, &path);
    Rate::of(&found, server.cpu().saturating_sub(before))
}

fn null_path(connection: usize, number: usize) -> String {
    let command = if number.is_multiple_of(2) {
        "on"
    } else {
        "off"
    };
    format!(
        "/power/control/{command}?hostname=pdu{connection}&port={}",
        number % 8 + 1
    )
}

/// PDUs whose commands do nothing.
fn null_pdus(count: usize) -> Value {
    pdus(count, &json!({"driver": "localcmdline"}))
}

fn pdus(count: usize, pdu: &Value) -> Value {
    (0..count)
        .map(|number| (format!("pdu{number}"), pdu.clone()))
        .collect::<Map<_, _>>()
        .into()
}

/// A bare tiny_http that says what the daemon says, for a child process.
fn hello(port: u16) -> ! {
    let server = tiny_http::Server::http(("127.0.0.1", port)).expect("a server");
    loop {
        let request = server.recv().expect("a request");
        let _ = request.respond(tiny_http::Response::from_string("OK - accepted request\n"));
    }
}

fn start_hello(address: SocketAddr) -> Running {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--hello", &address.port().to_string()]);
    Running::start(command, address)
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|free| free.local_addr())
        .expect("a port")
}

/// The agents' process; killed when dropped.
struct Agents(Child);

impl Drop for Agents {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_agents(milliseconds: u64) -> Agents {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--agents", &milliseconds.to_string()])
        .stdout(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let mut line = String::new();
    let said = BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line);
    assert!(
        said.is_ok() && line == "ready\n",
        "the SNMP agents do not start"
    );
    Agents(child)
}

/// A target is a bound on a ratio.
enum At {
    Least,
    Most,
}

fn verdict(what: &str, ratio: f64, bound: f64, at: At) {
    let (held, word) = match at {
        At::Least => (ratio >= bound, "at least"),
        At::Most => (ratio <= bound, "at most"),
    };
    let held = if held { "held" } else { "MISSED" };
    println!("  {what}: {ratio:.4} (target: {word} {bound:.4}) {held}");
}

fn failures(found: &Found) -> String {
    match found.failed {
        0 => String::new(),
        failed => format!(", {failed} FAILED"),
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Thousands of connections need thousands of descriptors, here and in the children.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}
