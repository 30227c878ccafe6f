//! This program does what the Python one (PyPI `pdudaemon` 1.1.1) does, and every difference is one
//! of `share/doc/differences.md`. The tests ask both the same.
//!
//! The Python program is looked for in `target/test-venv/bin`, where
//! `make test-deps` installs it. Where it is not, only this program is
//! run; with `PDUD_UNDER_TEST=python` in the environment that is a failure.

use crate::daemon::{
    Daemon, Lab, PATIENCE, PDUCLIENT, PDUDAEMON, get, http, run, show, stderr, stdout, talk,
    wait_for,
};
use crate::sim::port;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const DIFFERENCES: &str = include_str!("../../share/doc/differences.md");

/// What is asked.
#[derive(Clone, Copy)]
enum Ask {
    /// Method and target.
    Http(&'static str, &'static str),
    /// A line for the TCP listener.
    Line(&'static [u8]),
    /// The same, with the sending half closed behind it.
    Closed(&'static [u8]),
    /// `pdudaemon --conf <the config>` and these words.
    Run(&'static str),
}

/// One case: what each program answers, and what its commands left in the record.
struct Case {
    ask: Ask,
    python: (&'static str, &'static [&'static str]),
    here: (&'static str, &'static [&'static str]),
    /// The row of the differences' table; empty when there is none.
    why: &'static str,
}

const fn same(ask: Ask, answer: &'static str, record: &'static [&'static str]) -> Case {
    Case {
        ask,
        python: (answer, record),
        here: (answer, record),
        why: "",
    }
}

const fn differs(
    why: &'static str,
    ask: Ask,
    python: (&'static str, &'static [&'static str]),
    here: (&'static str, &'static [&'static str]),
) -> Case {
    Case {
        ask,
        python,
        here,
        why,
    }
}

const GET: &str = "GET";
const OK: &str = "200 OK - accepted request\\n";
const REFUSED: &str = "500 Invalid request\\n";
/// aiohttp's page for an exception.
const TROUBLE: &str = "500 500 Internal Server Error\\n\\nServer got itself in trouble";
const ACK: &str = "ack\\n";
const NACK: &str = "nack\\n";

const STATUS: &str = "a request that is not carried out";
const BAD_DELAY: &str = "reboot with a delay that cannot be used";
const DECIMAL: &str = "decimal delays";
const EXIT_STATUS: &str = "a `localcmdline` command that fails";
const OUTLET_TEXT: &str = "outlets for a shell";
const TYPES: &str = "the outlet's type";
const ZERO: &str = "outlet 0";
const TEXTS: &str = "TCP lines that make no sense";
const BOTH: &str = "both protocols on one port";
const HEAD: &str = "`HEAD`";
const NEW_PATHS: &str = "new paths";
const BODIES: &str = "texts of 404 and 405";
const GET_STATUS: &str = "`get-status`";
const CONVERSIONS: &str = "`%` conversions of `localcmdline`";
const NUMBERS: &str = "numbers written as text";
const RETRIES: &str = "`retries` of 0 or less";
const DRIVE_STATUS: &str = "exit status of `--drive`";
const DRIVE_MISSING: &str = "`--drive` with an option missing";
const OPTIONS: &str = "new options";
const BROKEN: &str = "a broken or missing config file";
const NOT_WORKING: &str = "a PDU whose settings cannot work";

const CASES: &[Case] = &[
    // HTTP: what everybody relies on.
    same(
        Ask::Http(GET, "/power/control/on?hostname=a&port=1"),
        OK,
        &["a 1 on"],
    ),
    same(
        Ask::Http(GET, "/power/control/off?hostname=a&port=1"),
        OK,
        &["a 1 off"],
    ),
    same(
        Ask::Http(GET, "/power/control/reboot?hostname=a&port=1&delay=0"),
        OK,
        &["a 1 off", "a 1 on"],
    ),
    same(
        Ask::Http(GET, "/power/control/on?alias=number"),
        OK,
        &["a 3 on"],
    ),
    same(
        Ask::Http(GET, "/power/control/reboot?alias=text&delay=0"),
        OK,
        &["a 04 off", "a 04 on"],
    ),
    same(
        Ask::Http(GET, "/power/control/on?hostname=a&port=04"),
        OK,
        &["a 04 on"],
    ),
    same(
        Ask::Http(GET, "/power/control/on?hostname=a&port=left"),
        OK,
        &["a left on"],
    ),
    same(
        Ask::Http(GET, "/power/control/on?hostname=a&port=0"),
        OK,
        &["a 0 on"],
    ),
    same(
        Ask::Http(GET, "/power/control/on?hostname=with+space&port=%31"),
        OK,
        &["spaced 1 on"],
    ),
    same(
        Ask::Http(
            GET,
            "/power/control/on?hostname=&hostname=a&port=1&port=2&PORT=3&x=y&&",
        ),
        OK,
        &["a 1 on"],
    ),
    same(
        Ask::Http(GET, "/power/control/off?hostname=a&port=1&delay=0"),
        OK,
        &["a 1 off"],
    ),
    same(
        Ask::Http(GET, "/power/control/off?hostname=a&port=1&delay=-5"),
        OK,
        &["a 1 off"],
    ),
    same(
        Ask::Http(GET, "/power/control/reboot?hostname=a&port=1&delay="),
        OK,
        &["a 1 off", "a 1 on"],
    ),
    same(
        Ask::Http(GET, "/power/control/off?hostname=half&port=1"),
        OK,
        &[],
    ),
    same(
        Ask::Http(GET, "/power/control/on?hostname=percent&port=1"),
        OK,
        &["100% 1 on"],
    ),
    // HTTP: failures.
    differs(
        STATUS,
        Ask::Http(GET, "/power/control/on?hostname=nobody&port=1"),
        (REFUSED, &[]),
        (
            "503 Invalid request: there is no PDU \"nobody\" in the config\\n",
            &[],
        ),
    ),
    differs(
        STATUS,
        Ask::Http(GET, "/power/control/on?hostname=a"),
        (REFUSED, &[]),
        (
            "503 Invalid request: port: missing parameter, expected the outlet\\n",
            &[],
        ),
    ),
    differs(
        STATUS,
        Ask::Http(GET, "/power/control/on?port=1"),
        (REFUSED, &[]),
        (
            "503 Invalid request: hostname: missing parameter, expected the PDU's name (or alias=)\\n",
            &[],
        ),
    ),
    differs(
        STATUS,
        Ask::Http(GET, "/power/control/on?alias=number&port=1"),
        (REFUSED, &[]),
        (
            "503 Invalid request: alias: must not be combined with hostname or port\\n",
            &[],
        ),
    ),
    differs(
        STATUS,
        Ask::Http(GET, "/power/control/on?alias=nobody"),
        (REFUSED, &[]),
        (
            "503 Invalid request: there is no alias \"nobody\" in the config\\n",
            &[],
        ),
    ),
    differs(
        STATUS,
        Ask::Http(GET, "/power/control/on?alias=dead"),
        (REFUSED, &[]),
        (
            "503 Invalid request: the alias \"dead\" leads nowhere: there is no PDU \"gone\"\\n",
            &[],
        ),
    ),
    differs(
        STATUS,
        Ask::Http(GET, "/power/control/on?hostname=a&port=1&delay=abc"),
        (TROUBLE, &[]),
        (
            "503 Invalid request: delay: expected a number of seconds, got \"abc\"\\n",
            &[],
        ),
    ),
    differs(
        BAD_DELAY,
        Ask::Http(GET, "/power/control/reboot?hostname=a&port=1&delay=abc"),
        (TROUBLE, &["a 1 off"]),
        (
            "503 Invalid request: delay: expected a number of seconds, got \"abc\"\\n",
            &[],
        ),
    ),
    differs(
        BAD_DELAY,
        Ask::Http(GET, "/power/control/reboot?hostname=a&port=1&delay=1e9"),
        (TROUBLE, &["a 1 off"]),
        (
            "503 Invalid request: delay: expected 0 to 86400 seconds, got 1000000000\\n",
            &[],
        ),
    ),
    differs(
        DECIMAL,
        Ask::Http(GET, "/power/control/reboot?hostname=a&port=1&delay=0.1"),
        (TROUBLE, &["a 1 off"]),
        (OK, &["a 1 off", "a 1 on"]),
    ),
    differs(
        EXIT_STATUS,
        Ask::Http(GET, "/power/control/on?hostname=fails&port=1"),
        (OK, &[]),
        (
            "503 Invalid request: PDU fails, outlet 1: on: expected exit status 0 of the command, got exit status 1\\n",
            &[],
        ),
    ),
    differs(
        OUTLET_TEXT,
        Ask::Http(GET, "/power/control/on?hostname=a&port=1+on;echo+smuggled"),
        (OK, &["smuggled on"]),
        (
            "503 Invalid request: PDU a, outlet 1 on;echo smuggled: no such outlet: expected an outlet of letters, digits and . _ : / @ + - (a command written as a list takes other characters too)\\n",
            &[],
        ),
    ),
    differs(
        TYPES,
        Ask::Http(GET, "/power/control/on?hostname=number&port=7"),
        (REFUSED, &[]),
        (OK, &["number 7 on"]),
    ),
    differs(
        CONVERSIONS,
        Ask::Http(GET, "/power/control/on?hostname=bare&port=1"),
        (REFUSED, &[]),
        (OK, &["bare on"]),
    ),
    differs(
        CONVERSIONS,
        Ask::Http(GET, "/power/control/on?hostname=twice&port=1"),
        (REFUSED, &[]),
        (OK, &["twice 1 1 on"]),
    ),
    differs(
        NUMBERS,
        Ask::Http(GET, "/power/control/on?hostname=written&port=1"),
        (TROUBLE, &[]),
        (OK, &["written 1 on"]),
    ),
    differs(
        RETRIES,
        Ask::Http(GET, "/power/control/on?hostname=never&port=1"),
        (REFUSED, &[]),
        (OK, &["never 1 on"]),
    ),
    differs(
        ZERO,
        Ask::Http(GET, "/power/control/on?alias=zero"),
        (REFUSED, &[]),
        (OK, &["a 0 on"]),
    ),
    differs(
        HEAD,
        Ask::Http("HEAD", "/power/control/on?hostname=a&port=1"),
        ("200 ", &["a 1 on"]),
        ("405 ", &[]),
    ),
    differs(
        BODIES,
        Ask::Http("POST", "/power/control/on?hostname=a&port=1"),
        ("405 405: Method Not Allowed", &[]),
        ("405 Method Not Allowed: expected GET\\n", &[]),
    ),
    differs(
        BODIES,
        Ask::Http(GET, "/nonsense"),
        ("404 404: Not Found", &[]),
        ("404 Not Found\\n", &[]),
    ),
    differs(
        NEW_PATHS,
        Ask::Http(GET, "/healthz"),
        ("404 404: Not Found", &[]),
        ("200 {\"degraded\":[],\"red\":[],\"status\":\"ok\"}", &[]),
    ),
    differs(
        BODIES,
        Ask::Http(GET, "/power/control/on/?hostname=a&port=1"),
        ("404 404: Not Found", &[]),
        (
            "404 Not Found: expected /power/control/ and on, off, reboot or get-status\\n",
            &[],
        ),
    ),
    differs(
        BODIES,
        Ask::Http(GET, "/power/control/ON?hostname=a&port=1"),
        ("404 404: Not Found", &[]),
        (
            "404 Not Found: expected /power/control/ and on, off, reboot or get-status\\n",
            &[],
        ),
    ),
    differs(
        GET_STATUS,
        Ask::Http(GET, "/power/control/get-status?hostname=a&port=1"),
        ("404 404: Not Found", &[]),
        ("200 on\\n", &[]),
    ),
    // Lines.
    same(Ask::Line(b"a 1 on\n"), ACK, &["a 1 on"]),
    same(Ask::Line(b"a 1 off"), ACK, &["a 1 off"]),
    same(Ask::Closed(b"a 1 on"), ACK, &["a 1 on"]),
    same(Ask::Closed(b"a 1 on\r\n"), ACK, &["a 1 on"]),
    same(Ask::Line(b"  a 1 on  "), ACK, &["a 1 on"]),
    same(Ask::Line(b"a 04 off"), ACK, &["a 4 off"]),
    same(Ask::Line(b"a +5 off"), ACK, &["a 5 off"]),
    same(Ask::Line(b"a 1_0 off"), ACK, &["a 10 off"]),
    same(Ask::Line(b"a 1 reboot 0"), ACK, &["a 1 off", "a 1 on"]),
    same(Ask::Line(b"a 1 on 0"), ACK, &["a 1 on"]),
    same(Ask::Line(b"number 7 on"), ACK, &["number 7 on"]),
    same(Ask::Line(b"nobody 1 on"), NACK, &[]),
    same(Ask::Line(b"a 1 ON"), NACK, &[]),
    same(Ask::Line(b"a 1 toggle"), NACK, &[]),
    differs(
        GET_STATUS,
        Ask::Line(b"a 1 get-status"),
        (NACK, &[]),
        ("on\\n", &[]),
    ),
    differs(
        EXIT_STATUS,
        Ask::Line(b"fails 1 on"),
        (ACK, &[]),
        (NACK, &[]),
    ),
    differs(ZERO, Ask::Line(b"a 0 on"), (NACK, &[]), (ACK, &["a 0 on"])),
    differs(
        TYPES,
        Ask::Line(b"a left on"),
        ("invalid literal for int() with base 10: \\'left\\'", &[]),
        (ACK, &["a left on"]),
    ),
    differs(
        OUTLET_TEXT,
        Ask::Line(b"a -1 on"),
        (ACK, &["a -1 on"]),
        (NACK, &[]),
    ),
    differs(
        DECIMAL,
        Ask::Line(b"a 1 reboot 0.1"),
        ("invalid literal for int() with base 10: \\'0.1\\'", &[]),
        (ACK, &["a 1 off", "a 1 on"]),
    ),
    differs(
        TEXTS,
        Ask::Line(b"a 1 reboot abc"),
        ("invalid literal for int() with base 10: \\'abc\\'", &[]),
        (NACK, &[]),
    ),
    differs(
        TEXTS,
        Ask::Line(b"a 1"),
        ("Unexpected data", &[]),
        (NACK, &[]),
    ),
    differs(
        TEXTS,
        Ask::Line(b"a 1 on 2 3"),
        ("Unexpected data", &[]),
        (NACK, &[]),
    ),
    differs(
        TEXTS,
        Ask::Line(b"a  1 on"),
        ("invalid literal for int() with base 10: \\'on\\'", &[]),
        (NACK, &[]),
    ),
    differs(
        TEXTS,
        Ask::Line(b"a\t1\ton"),
        ("Unexpected data", &[]),
        (NACK, &[]),
    ),
    differs(
        TEXTS,
        Ask::Line(b"\xff 1 on"),
        (
            "\\'utf-8\\' codec can\\'t decode byte 0xff in position 0: invalid start byte",
            &[],
        ),
        (NACK, &[]),
    ),
    differs(
        TEXTS,
        Ask::Line(b"\n"),
        ("Unexpected data", &[]),
        (NACK, &[]),
    ),
    differs(
        BOTH,
        Ask::Line(b"GET /power/control/nothing HTTP/1.0\r\n\r\n"),
        (
            "invalid literal for int() with base 10: \\'/power/control/nothing\\'",
            &[],
        ),
        ("404", &[]),
    ),
    // The command line.
    same(
        Ask::Run("--drive --hostname a --port 1 --request on"),
        "exit 0",
        &["a 1 on"],
    ),
    same(
        Ask::Run("--drive --hostname=a --port=04 --request=reboot --delay=0"),
        "exit 0",
        &["a 04 off", "a 04 on"],
    ),
    same(
        Ask::Run("--drive --alias number --request off --loglevel DEBUG"),
        "exit 0",
        &["a 3 off"],
    ),
    same(
        Ask::Run("--drive --hostn a --po 1 --req on --retries 1 --retry-d 0"),
        "exit 0",
        &["a 1 on"],
    ),
    same(
        Ask::Run("--drive --hostname nobody --port 1 --request on"),
        "exit 1",
        &[],
    ),
    same(
        Ask::Run("--drive --alias nobody --request on"),
        "exit 1",
        &[],
    ),
    same(
        Ask::Run("--drive --alias number --hostname a --port 1 --request on"),
        "exit 2",
        &[],
    ),
    same(Ask::Run("--nonsense"), "exit 2", &[]),
    same(Ask::Run("--loglevel LOUD"), "exit 2", &[]),
    same(Ask::Run("--help"), "exit 0", &[]),
    same(Ask::Run("--log DEBUG"), "exit 2", &[]),
    differs(
        DRIVE_STATUS,
        Ask::Run("--drive --hostname bare --port 1 --request off --retries 1 --retry-delay 0"),
        ("exit 0", &[]),
        ("exit 1", &[]),
    ),
    differs(
        DRIVE_MISSING,
        Ask::Run("--drive --hostname a --request on"),
        ("exit 0", &["a None on"]),
        ("exit 2", &[]),
    ),
    differs(
        DRIVE_MISSING,
        Ask::Run("--drive --hostname a --port 1 --retries 1 --retry-delay 0"),
        ("exit 0", &[]),
        ("exit 2", &[]),
    ),
    differs(
        DRIVE_MISSING,
        Ask::Run("--drive --request on"),
        ("exit 1", &[]),
        ("exit 2", &[]),
    ),
    differs(
        OPTIONS,
        Ask::Run("--version"),
        ("exit 2", &[]),
        ("exit 0", &[]),
    ),
    differs(
        OPTIONS,
        Ask::Run("--check"),
        ("exit 2", &[]),
        ("exit 0", &[]),
    ),
    differs(
        BROKEN,
        Ask::Run("--conf /nonexistent/pdudaemon.conf"),
        ("exit 2", &[]),
        ("exit 1", &[]),
    ),
];

fn pdus(lab: &Lab) -> Value {
    let record = lab.path("record").display().to_string();
    let cmd = |on: &str| json!({"driver": "localcmdline", "cmd_on": format!("{on} >> {record}"), "retries": 1, "retrydelay": 0});
    let mut a = lab.recorder("a");
    a["cmd_status"] = json!("echo on %s | cut -c 1-2");
    // It says on, whatever it is.
    a["confirm"] = json!("reply");
    let mut bare = cmd("echo bare on");
    // For --drive: fails in either program.
    bare["cmd_off"] = json!("false; exit 1");
    let mut written = cmd("echo written %s on");
    written["retries"] = json!("1");
    let mut never = cmd("echo never %s on");
    never["retries"] = json!(0);
    json!({
        "a": a,
        "with space": lab.recorder("spaced"),
        "half": cmd("echo half %s on"),
        "percent": cmd("echo 100%% %s on"),
        "fails": {"driver": "localcmdline", "cmd_on": "false %s", "retries": 1, "retrydelay": 0},
        "number": cmd("echo number %d on"),
        "twice": cmd("echo twice %s %s on"),
        "bare": bare,
        "written": written,
        "never": never,
    })
}

fn aliases() -> Value {
    json!({
        "number": {"hostname": "a", "port": 3},
        "text": {"hostname": "a", "port": "04"},
        "zero": {"hostname": "a", "port": 0},
        "dead": {"hostname": "gone", "port": 1},
    })
}

/// The Python program, where it is installed.
pub(crate) fn python() -> Option<&'static PathBuf> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    PYTHON
        .get_or_init(|| {
            let program = PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/target/test-venv/bin/pdudaemon"
            ));
            let found = program.exists();
            let wanted = std::env::var("PDUD_UNDER_TEST").is_ok_and(|name| name == "python");
            assert!(
                found || !wanted,
                "the Python program is not there: run `make test-deps`"
            );
            if !found {
                eprintln!("no Python program in target/test-venv: only this one is tested");
            }
            found.then_some(program)
        })
        .as_ref()
}

/// Python's client, a script of the source package.
fn python_client() -> Option<PathBuf> {
    python()
        .map(|program| program.with_file_name("pduclient"))
        .filter(|client| client.exists())
}

/// Starts the Python program with one listener.
fn start_python(lab: &Lab, listener: &str, address: Option<SocketAddr>) -> Daemon {
    for _ in 0..5 {
        let address =
            address.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port::free())));
        let config = lab.config(
            pdus(lab),
            json!({"daemon": {"hostname": address.ip().to_string(), "port": address.port(), "listener": listener}, "aliases": aliases()}),
        );
        let mut command = lab.command(python().expect("installed"));
        command.arg("--conf").arg(config);
        let mut daemon = Daemon::spawn_anywhere(command);
        daemon.address = address;
        let listens = wait_for("the Python program to listen", || {
            if TcpStream::connect(address).is_ok() {
                return Some(true);
            }
            (!daemon.is_running()).then_some(false)
        });
        if listens {
            return daemon;
        }
    }
    panic!("the Python program does not start");
}

/// Asks one case of a program: its answer, and what its commands left in the record.
fn ask(
    ask: Ask,
    lab: &Lab,
    program: &std::path::Path,
    http_at: SocketAddr,
    line_at: SocketAddr,
) -> (String, Vec<String>) {
    lab.forget();
    let answer = match ask {
        Ask::Http(method, target) => {
            let (status, body) = http(http_at, method, target);
            format!(
                "{status} {}",
                show(body.as_bytes())
                    .replace("\\\"", "\"")
                    .replace("\\'", "'")
            )
        }
        Ask::Line(line) | Ask::Closed(line) => {
            let answer = talk(line_at, line, matches!(ask, Ask::Closed(_)));
            // Of an HTTP answer to a line only the status counts.
            match answer
                .strip_prefix(b"HTTP/1.0 ")
                .or(answer.strip_prefix(b"HTTP/1.1 "))
            {
                Some(rest) => show(&rest[..3]),
                None => show(&answer),
            }
        }
        Ask::Run(words) => {
            let mut command = lab.command(program);
            command
                .arg("--conf")
                .arg(lab.path("pdudaemon.conf"))
                .args(words.split(' '));
            let output = run(&mut command);
            match output.status.code() {
                Some(code) => format!("exit {code}"),
                None => format!("{}", output.status),
            }
        }
    };
    (answer, lab.record())
}

fn describe(ask: Ask) -> String {
    match ask {
        Ask::Http(method, target) => format!("{method} {target}"),
        Ask::Line(line) => format!("line \"{}\"", show(line)),
        Ask::Closed(line) => format!("closed line \"{}\"", show(line)),
        Ask::Run(words) => format!("pdudaemon {words}"),
    }
}

fn check(
    ask_of: impl Fn(
        &Case,
    ) -> (
        (String, Vec<String>),
        (&'static str, &'static [&'static str]),
    ),
) {
    let wrong: Vec<String> = CASES
        .iter()
        .filter_map(|case| {
            let ((answer, record), expected) = ask_of(case);
            let fits = answer == expected.0 && record == expected.1;
            (!fits).then(|| {
                format!(
                    "{}\n  expected {:?} {:?}\n  got      {answer:?} {record:?}",
                    describe(case.ask),
                    expected.0,
                    expected.1
                )
            })
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_case_holds_here() {
    let lab = Lab::new();
    let daemon = lab.start_with(pdus(&lab), json!({"aliases": aliases()}), &[]);
    check(|case| {
        let got = ask(
            case.ask,
            &lab,
            PDUDAEMON.as_ref(),
            daemon.address,
            daemon.address,
        );
        (got, case.here)
    });
}

#[test]
fn every_case_holds_for_the_python_program() {
    let Some(program) = python() else { return };
    let (web, line) = (Lab::new(), Lab::new());
    let (web_daemon, line_daemon) = std::thread::scope(|scope| {
        let web = scope.spawn(|| start_python(&web, "http", None));
        (
            web.join().expect("started"),
            start_python(&line, "tcp", None),
        )
    });
    check(|case| {
        let lab = if matches!(case.ask, Ask::Http(..)) {
            &web
        } else {
            &line
        };
        let got = ask(
            case.ask,
            lab,
            program,
            web_daemon.address,
            line_daemon.address,
        );
        (got, case.python)
    });
}

/// The rows of the table, by their first column.
fn rows() -> Vec<&'static str> {
    DIFFERENCES
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---"))
        .skip(1)
        .map(|line| {
            line.trim_start_matches("| ")
                .split(" | ")
                .next()
                .unwrap_or_default()
        })
        .collect()
}

/// Rows that no case of this file can show, and the test that does.
const SHOWN_ELSEWHERE: &[&str] = &[
    // power.rs
    "a reboot and other requests for its outlet",
    "a reboot whose off is not confirmed",
    "a reboot whose on fails",
    "a stop during a reboot's pause",
    "requests that wait when the daemon stops",
    "a device or command that never answers",
    "errors that trying again cannot mend",
    // process.rs
    "`--loglevel` and `logging_level`",
    "secrets in the log",
    "output of `localcmdline` commands",
    "`SIGHUP`",
    "a driver that cannot start",
    // acceptance.rs, groups.rs
    "the PDU's own `retries` with `--drive`",
    "aliases of several outlets",
    // This file, with the clients
    "`pduclient --delay 0`",
    "`pduclient` failure texts",
    // faults_snmp.rs, access.rs
    "the success of a switch",
    "an SNMP agent that is slow or silent",
    "requests of browsers",
    // tls.rs
    "TLS",
    // What is not there cannot be shown
    "who may reach the daemon when the config does not say",
    "Python entry points as drivers",
    "TCP requests and reverse DNS",
];

#[test]
fn every_difference_is_one_of_the_table() {
    let rows: BTreeSet<&str> = rows().into_iter().collect();
    let mut used: BTreeSet<&str> = SHOWN_ELSEWHERE.iter().copied().collect();
    let starts = STARTS
        .iter()
        .map(|start| (start.about, start.python != start.here, start.why));
    let cases = CASES
        .iter()
        .map(|case| ("", case.python != case.here, case.why));
    for (about, differs, why) in starts.chain(cases) {
        assert_eq!(
            differs,
            !why.is_empty(),
            "{about} {why}: a reason is given where something differs, and only there"
        );
        if differs {
            assert!(
                rows.contains(why),
                "{why:?} is not in share/doc/differences.md"
            );
            used.insert(why);
        }
    }
    let unused: Vec<&&str> = rows.difference(&used).collect();
    assert!(unused.is_empty(), "rows that nothing shows: {unused:?}");
    let gone: Vec<&&str> = used.difference(&rows).collect();
    assert!(gone.is_empty(), "rows that are not there: {gone:?}");
}

/// A config and what becomes of a start with it.
struct Start {
    about: &'static str,
    /// `PORT` is replaced by a free one.
    config: &'static str,
    python: &'static str,
    here: &'static str,
    why: &'static str,
}

const fn start(about: &'static str, config: &'static str, both: &'static str) -> Start {
    Start {
        about,
        config,
        python: both,
        here: both,
        why: "",
    }
}

const STARTS: &[Start] = &[
    start(
        "plain",
        r#"{"daemon": {"hostname": "127.0.0.1", "port": PORT}, "pdus": {}}"#,
        "serves",
    ),
    start(
        "port as text",
        r#"{"daemon": {"hostname": "127.0.0.1", "port": "PORT"}, "pdus": {}}"#,
        "serves",
    ),
    start(
        "port with a zero fraction",
        r#"{"daemon": {"hostname": "127.0.0.1", "port": PORT.0}, "pdus": {}}"#,
        "serves",
    ),
    start(
        "a list of addresses",
        r#"{"daemon": {"hostname": ["127.0.0.1", "127.0.0.2"], "port": PORT}, "pdus": {}}"#,
        "serves",
    ),
    start(
        "all interfaces",
        r#"{"daemon": {"hostname": "", "port": PORT}, "pdus": {}}"#,
        "serves",
    ),
    start(
        "all interfaces by null",
        r#"{"daemon": {"hostname": null, "port": PORT}, "pdus": {}}"#,
        "serves",
    ),
    start(
        "a name",
        r#"{"daemon": {"hostname": "localhost", "port": PORT}, "pdus": {}}"#,
        "serves",
    ),
    start(
        "unknown keys",
        r#"{"daemon": {"hostname": "127.0.0.1", "port": PORT, "dbname": "x"}, "pdus": {"p": {"driver": "localcmdline", "x": {}}}, "more": []}"#,
        "serves",
    ),
    start(
        "names twice",
        r#"{"daemon": {"hostname": "127.0.0.1", "port": PORT, "port": PORT}, "pdus": {"p": {"driver": "nonsense"}, "p": {"driver": "localcmdline"}}}"#,
        "serves",
    ),
    start(
        "dead aliases",
        r#"{"daemon": {"hostname": "127.0.0.1", "port": PORT}, "pdus": {}, "aliases": {"x": {"hostname": "gone", "port": 1}, "y": {}}}"#,
        "serves",
    ),
    start(
        "an unknown log level",
        r#"{"daemon": {"hostname": "127.0.0.1", "port": PORT, "logging_level": "LOUD"}, "pdus": {}}"#,
        "serves",
    ),
    start(
        "a log level that is no text",
        r#"{"daemon": {"hostname": "127.0.0.1", "port": PORT, "logging_level": 7}, "pdus": {}}"#,
        "exit 1",
    ),
    start("no daemon section", r#"{"pdus": {}}"#, "exit 1"),
    start(
        "no pdus section",
        r#"{"daemon": {"hostname": "127.0.0.1", "port": PORT}}"#,
        "exit 1",
    ),
    start(
        "no hostname",
        r#"{"daemon": {"port": PORT}, "pdus": {}}"#,
        "exit 1",
    ),
    start(
        "an unknown listener",
        r#"{"daemon": {"hostname": "127.0.0.1", "port": PORT, "listener": "udp"}, "pdus": {}}"#,
        "exit 1",
    ),
    Start {
        about: "an unknown driver",
        config: r#"{"daemon": {"hostname": "127.0.0.1", "port": PORT}, "pdus": {"p": {"driver": "nonsense"}}}"#,
        python: "exit 1",
        here: "serves",
        why: NOT_WORKING,
    },
    Start {
        about: "no driver",
        config: r#"{"daemon": {"hostname": "127.0.0.1", "port": PORT}, "pdus": {"p": {}}}"#,
        python: "exit 1",
        here: "serves",
        why: NOT_WORKING,
    },
    start(
        "a placeholder",
        r#"{"daemon": {"hostname": "127.0.0.1", "port": PORT}, "pdus": {"p": {"driver": "EG-PMS", "device": "aa:bb:cc:xx:yy"}}}"#,
        "serves",
    ),
    start(
        "a port out of range",
        r#"{"daemon": {"hostname": "127.0.0.1", "port": 70000}, "pdus": {}}"#,
        "exit 1",
    ),
    start(
        "an address of somebody else",
        r#"{"daemon": {"hostname": "192.0.2.1", "port": PORT}, "pdus": {}}"#,
        "exit 1",
    ),
    Start {
        about: "broken JSON",
        config: r#"{"daemon": {"hostname": "127.0.0.1", "port": PORT,}, "pdus": {}}"#,
        python: "hangs",
        here: "exit 1",
        why: BROKEN,
    },
];

/// What becomes of `program` with this config: it serves, ends, or does neither.
fn start_outcome(program: &std::path::Path, config: &str) -> String {
    let lab = Lab::new();
    let port = port::free();
    lab.write("pdudaemon.conf", &config.replace("PORT", &port.to_string()));
    let mut command = lab.command(program);
    command.args(["--conf", "pdudaemon.conf"]);
    let mut daemon = Daemon::spawn_anywhere(command);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut complained = None;
    let outcome = wait_for("a start or an end", || {
        if !daemon.is_running() {
            return Some("ends");
        }
        if TcpStream::connect(address).is_ok() {
            return Some("serves");
        }
        // It told why it cannot go on, and does not end.
        if daemon.printed().contains("Unable to read configuration") {
            let since = *complained.get_or_insert_with(Instant::now);
            if since.elapsed() > Duration::from_secs(2) {
                return Some("hangs");
            }
        }
        None
    });
    if outcome != "ends" {
        return outcome.to_owned();
    }
    let (status, _) = daemon.wait();
    format!("exit {}", status.code().expect("not killed"))
}

fn check_starts(program: &std::path::Path, expected: impl Fn(&Start) -> &'static str + Sync) {
    // Two at a time: the Python program thinks for most of a second before it listens.
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let halves: Vec<_> = STARTS
            .chunks(STARTS.len().div_ceil(2))
            .map(|half| {
                let expected = &expected;
                scope.spawn(move || {
                    half.iter()
                        .filter_map(|start| {
                            let outcome = start_outcome(program, start.config);
                            (outcome != expected(start)).then(|| {
                                format!(
                                    "{}: expected {}, got {outcome}",
                                    start.about,
                                    expected(start)
                                )
                            })
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        halves
            .into_iter()
            .flat_map(|half| half.join().expect("checked"))
            .collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_start_holds_here() {
    check_starts(PDUDAEMON.as_ref(), |start| start.here);
}

#[test]
fn every_start_holds_for_the_python_program() {
    if let Some(program) = python() {
        check_starts(program, |start| start.python);
    }
}

/// A loopback address of our own whose port 16421 is free: Python's client knows no other port.
fn own_address() -> SocketAddr {
    let id = std::process::id();
    (0..200u32)
        .map(|number| {
            let [_, _, a, b] = (id.wrapping_mul(7).wrapping_add(number)).to_be_bytes();
            SocketAddr::from(([127, 99, a, b], 16421))
        })
        .find(|address| {
            !address.ip().to_string().ends_with(".0") && TcpListener::bind(address).is_ok()
        })
        .expect("a free loopback address")
}

struct ClientCase {
    words: &'static str,
    /// First line and exit code of Python's client, and of ours; `{}` is the daemon's name.
    python: (&'static str, i32),
    here: (&'static str, i32),
    record: &'static [&'static str],
}

const SENT: &str = "Command sent successfully.";

/// Of a daemon that speaks lines (both of ours, and Python's with `listener: tcp`).
const LINE_CLIENTS: &[ClientCase] = &[
    ClientCase {
        words: "--hostname a --port 1 --command on",
        python: (SENT, 0),
        here: (SENT, 0),
        record: &["a 1 on"],
    },
    ClientCase {
        words: "--hostname a --port 08 --command off",
        python: (SENT, 0),
        here: (SENT, 0),
        record: &["a 8 off"],
    },
    ClientCase {
        words: "--hostname a --port 1 --command reboot --delay 1",
        python: (SENT, 0),
        here: (SENT, 0),
        record: &["a 1 off", "a 1 on"],
    },
    ClientCase {
        words: "--hostname nobody --port 1 --command on",
        python: ("Error sending command! {} replied: nack", 127),
        here: ("Error sending command! {} replied: nack", 127),
        record: &[],
    },
    ClientCase {
        words: "--hostname a --port 1 --command toggle",
        python: ("Unknown pdu command: toggle", 1),
        here: ("Unknown pdu command: toggle", 1),
        record: &[],
    },
    ClientCase {
        words: "--hostname a --port 1",
        python: ("Missing option, try -h for help", 1),
        here: ("Missing option, try -h for help", 1),
        record: &[],
    },
    ClientCase {
        words: "--port 1 --command on",
        python: ("Missing option, try -h for help", 1),
        here: ("Missing option, try -h for help", 1),
        record: &[],
    },
    ClientCase {
        words: "--nonsense",
        python: ("", 2),
        here: ("", 2),
        record: &[],
    },
    ClientCase {
        words: "--hostname a --port 1 --command on --delay abc",
        python: ("", 2),
        here: ("", 2),
        record: &[],
    },
];

/// Of a daemon that speaks HTTP. A refusal's text tells the status of the daemon asked.
const HTTP_CLIENTS: &[ClientCase] = &[
    ClientCase {
        words: "-H --hostname a --port 1 --command on",
        python: (SENT, 0),
        here: (SENT, 0),
        record: &["a 1 on"],
    },
    ClientCase {
        words: "--http --hostname a --port 1 --command reboot --delay 1",
        python: (SENT, 0),
        here: (SENT, 0),
        record: &["a 1 off", "a 1 on"],
    },
    ClientCase {
        words: "--http --hostname nobody --port 1 --command on",
        python: (
            "Error sending command! {} replied: <Response [STATUS]>",
            127,
        ),
        here: ("Error sending command! {} replied: ", 127),
        record: &[],
    },
];

fn check_clients(cases: &[ClientCase], lab: &Lab, daemon: &Daemon, status: &str) {
    let host = daemon.address.ip().to_string();
    let clients = [
        (Some(PathBuf::from(PDUCLIENT)), true),
        (python_client(), false),
    ];
    for (client, is_ours) in clients {
        let Some(client) = client else { continue };
        for case in cases {
            lab.forget();
            let mut command = if is_ours {
                lab.command(&client)
            } else {
                // The script's own interpreter has no `requests`.
                let mut command = lab.command(client.with_file_name("python"));
                command.arg(&client);
                command
            };
            let output = run(command
                .args(["--daemon", &host])
                .args(case.words.split(' ')));
            let (text, code) = if is_ours { case.here } else { case.python };
            let text = text.replace("{}", &host).replace("STATUS", status);
            let said = stdout(&output);
            let first = said.lines().next().unwrap_or_default();
            let about = format!(
                "{} {}: {said:?} {}",
                client.display(),
                case.words,
                stderr(&output)
            );
            assert_eq!(output.status.code(), Some(code), "{about}");
            if is_ours && text.ends_with(": ") {
                assert!(first.starts_with(&text), "{about}");
            } else {
                assert_eq!(first, text, "{about}");
            }
            assert_eq!(lab.record(), case.record, "{about}");
        }
    }
}

#[test]
fn either_client_works_with_either_daemon() {
    let address = own_address();
    let lab = Lab::new();
    let daemon = lab.start_with(
        pdus(&lab),
        json!({"daemon": {"hostname": address.ip().to_string(), "port": 16421}, "aliases": aliases()}),
        &[],
    );
    check_clients(LINE_CLIENTS, &lab, &daemon, "503");
    check_clients(HTTP_CLIENTS, &lab, &daemon, "503");
    let alias = lab.client(&[
        "--daemon",
        &address.to_string(),
        "--http",
        "--alias",
        "number",
        "--command",
        "on",
    ]);
    assert_eq!(alias.status.code(), Some(0), "{}", stdout(&alias));
    // Nobody listens any more.
    daemon.stop();
    let clients = [Some(PathBuf::from(PDUCLIENT)), python_client()];
    for client in clients.into_iter().flatten() {
        for more in [&[][..], &["-H"]] {
            let mut command = Command::new(&client);
            if client.with_file_name("python").exists() {
                command = Command::new(client.with_file_name("python"));
                command.arg(&client);
            }
            let output = run(command
                .args([
                    "--daemon",
                    &address.ip().to_string(),
                    "--hostname",
                    "a",
                    "--port",
                    "1",
                    "--command",
                    "on",
                ])
                .args(more));
            assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
            assert_eq!(
                stdout(&output).lines().next(),
                Some("Error sending command, wrong daemon hostname?")
            );
        }
    }
    if python().is_some() {
        for (listener, cases) in [("tcp", LINE_CLIENTS), ("http", HTTP_CLIENTS)] {
            let daemon = start_python(&lab, listener, Some(address));
            check_clients(cases, &lab, &daemon, "500");
            daemon.signal(rustix::process::Signal::TERM);
            daemon.wait();
        }
    }
}

#[test]
fn our_client_asks_for_no_delay_when_told_so() {
    let lab = Lab::new();
    let daemon = lab.start(pdus(&lab));
    let begin = Instant::now();
    let client = lab.client(&[
        "--daemon",
        &daemon.address.to_string(),
        "--hostname",
        "a",
        "--port",
        "1",
        "--command",
        "reboot",
        "--delay",
        "0",
    ]);
    assert_eq!(client.status.code(), Some(0));
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "the default pause of 5 s was taken"
    );
    let state = lab.client(&[
        "--daemon",
        &daemon.address.to_string(),
        "--hostname",
        "a",
        "--port",
        "1",
        "--command",
        "status",
    ]);
    assert_eq!(
        (state.status.code(), stdout(&state).as_str()),
        (Some(0), "on\n")
    );
    let begin = Instant::now();
    let late = lab.client(&[
        "--daemon",
        &daemon.address.to_string(),
        "--hostname",
        "a",
        "--port",
        "1",
        "--command",
        "reboot",
        "--delay",
        "60",
        "--timeout",
        "0.5",
    ]);
    assert_eq!(late.status.code(), Some(127), "{}", stdout(&late));
    assert!(begin.elapsed() < PATIENCE / 2);
    assert_eq!(get(daemon.address, "on?hostname=a&port=2").0, 200);
}
