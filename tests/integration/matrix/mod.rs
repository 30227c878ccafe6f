//! The fault matrix: every transcript whose dialogue ends well is played again over a line that is
//! spoilt, and by a device that answers wrongly. A new driver gets its matrix with its transcript.
//!
//! What is held: each call ends within its deadline; a fault is never taken for success where there
//! was no evidence; the error is of the right class, and in doubt when the switching command went
//! out; that command is never sent twice; the next call over a sound line works; and at the end no
//! thread and no descriptor is left behind.

mod families;
mod line;
mod programs;
mod usb;

use crate::daemon::{raise_descriptor_limit, wait_for};
use crate::sim::ber::with_request_id;
use crate::sim::fault::Fault;
use crate::sim::{self, Simulator, ipmi};
use crate::transcript::{self, Case, Failed, Line, bytes, call};
use line::Proxy;
use pdudaemon::driver::{Driver, DriverError, registry};
use pdudaemon::transport::Deadline;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a call may take while the line is bad.
const DEADLINE: Duration = Duration::from_millis(600);
/// What a thread may wait for its turn on a machine that has other things to do.
const TURN: Duration = Duration::from_millis(500);
/// So late is no machine, however busy.
const HANGING: Duration = Duration::from_secs(4);
/// How often a cell is done alone before it counts as late.
const ALONE: usize = 3;
/// What a call over a sound line may take, or over one that loses datagrams.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a call over a line that drips may take.
const DRIP_DEADLINE: Duration = Duration::from_millis(2500);
/// Calls at a time: nearly all of them wait.
const AT_ONCE: usize = 96;

/// What is wrong in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// The line, once so many bytes have come back, or datagrams.
    Line(Fault, usize),
    /// The device answers as in another case.
    Answers(Answers),
}

/// The answers of which case?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    /// The device did the opposite, and says so.
    Opposite(usize),
    /// The answers are to another request.
    Other(usize),
}

impl Answers {
    fn case(self) -> usize {
        match self {
            Self::Opposite(case) | Self::Other(case) => case,
        }
    }
}

/// The transports whose devices are reached through a socket that a proxy can stand in front of.
const SPOILT_HERE: [&str; 7] = ["tcp", "telnet", "http", "serial", "snmp", "ipmi", "ssh"];

/// Does the case's dialogue travel in datagrams?
fn is_of_datagrams(case: &Case) -> bool {
    ["snmp", "ipmi"].contains(&case.transport.as_str())
}

/// A command that is only sent has no answer that could be spoilt.
fn ends_well(case: &Case) -> bool {
    ["ok", "replied", "on", "off"].contains(&case.outcome.as_str())
}

fn is_spoilt_here(case: &Case) -> bool {
    SPOILT_HERE.contains(&case.transport.as_str()) && ends_well(case)
}

/// Do the two dialogues take turns alike, so that one's answers fit the other's requests?
fn take_turns_alike(one: &Case, other: &Case) -> bool {
    let kind = |line: &Line| matches!(line, Line::Sent(_));
    one.lines.len() == other.lines.len()
        && one.lines.iter().map(kind).eq(other.lines.iter().map(kind))
}

fn answers(case: &Case) -> Vec<&str> {
    let answers = case.lines.iter().filter_map(|line| match line {
        Line::Answer(text) => Some(text.as_str()),
        Line::Sent(_) => None,
    });
    answers.collect()
}

fn is_of_the_same_pdu(one: &Case, other: &Case) -> bool {
    one.drivers == other.drivers && one.settings == other.settings
}

/// The case that puts the same outlet into the opposite state.
fn opposite(cases: &[Case], of: &Case) -> Option<usize> {
    cases.iter().position(|case| {
        is_of_the_same_pdu(case, of)
            && case.outlet == of.outlet
            && matches!(
                (case.action.as_str(), of.action.as_str()),
                ("on", "off") | ("off", "on")
            )
            && take_turns_alike(case, of)
    })
}

/// Two cases with other requests and other answers: one of another action, one of another outlet.
fn others(cases: &[Case], of: &Case) -> Vec<usize> {
    let fits = |case: &Case| {
        is_of_the_same_pdu(case, of) && take_turns_alike(case, of) && answers(case) != answers(of)
    };
    let by_action = cases
        .iter()
        .position(|case| fits(case) && (case.action == "state") != (of.action == "state"));
    let by_outlet = cases
        .iter()
        .position(|case| fits(case) && case.outlet != of.outlet && case.action == of.action);
    let mut found: Vec<usize> = by_action.into_iter().chain(by_outlet).collect();
    found.dedup();
    found
}

/// The case, answered as another one.
fn answered_as(case: &Case, other: &Case) -> Case {
    let mut case = case.clone();
    for (line, answer) in case.lines.iter_mut().zip(&other.lines) {
        if let (Line::Answer(text), Line::Answer(wrong)) = (line, answer) {
            text.clone_from(wrong);
        }
    }
    case
}

/// The switching command in the words of the transcript: what is sent to this end and not to the
/// opposite one.
fn switching_line<'c>(cases: &'c [Case], case: &'c Case) -> Option<&'c str> {
    let opposite = &cases[opposite(cases, case)?];
    case.lines
        .iter()
        .zip(&opposite.lines)
        .find_map(|(line, other)| match (line, other) {
            (Line::Sent(text), Line::Sent(wrong)) if text != wrong => Some(text.as_str()),
            _ => None,
        })
}

/// Does another request follow the switching command? The answer to a SET itself is no evidence:
/// it repeats what was asked, or, from some agents, tells the state before.
fn reads_back(cases: &[Case], case: &Case) -> bool {
    let mut sent = case.lines.iter().filter_map(|line| match line {
        Line::Sent(text) => Some(text.as_str()),
        Line::Answer(_) => None,
    });
    sent.next_back() != switching_line(cases, case)
}

/// The switching command as the line carries it; `None` where that cannot be told: its session is
/// encrypted, or on and off differ in a header.
fn switching_bytes(cases: &[Case], case: &Case) -> Option<Vec<u8>> {
    let text = switching_line(cases, case)?;
    match case.transport.as_str() {
        "ssh" | "ipmi" => None,
        "http" if text.starts_with('"') => Some(bytes(text)),
        "http" => text.strip_prefix("body ").map(bytes),
        _ => Some(bytes(text)),
    }
}

/// How often `what` stands in `text`.
fn occurrences(text: &[u8], what: &[u8]) -> usize {
    let (mut count, mut rest) = (0, text);
    while let Some(at) = rest
        .windows(what.len().max(1))
        .position(|part| part == what)
    {
        count += 1;
        rest = &rest[at + what.len()..];
    }
    count
}

/// How often the switching command went out, and how often it does when nothing is wrong. Copies of
/// a datagram count once: an agent tells them by their id.
fn switching_sent(case: &Case, command: &[u8], heard: &[Vec<u8>]) -> (usize, usize) {
    let script = case.lines.iter().filter_map(|line| match line {
        Line::Sent(text) if case.transport != "http" => Some(bytes(text)),
        Line::Sent(text) => match text.strip_prefix("body ") {
            Some(body) => Some(bytes(body)),
            None => text.starts_with('"').then(|| bytes(text)),
        },
        Line::Answer(_) => None,
    });
    let script: Vec<u8> = script.flatten().collect();
    if case.transport == "snmp" {
        let copies: BTreeSet<&Vec<u8>> = heard
            .iter()
            .filter(|datagram| with_request_id(datagram, 1) == command)
            .collect();
        return (copies.len(), 1);
    }
    (
        occurrences(&heard.concat(), command),
        occurrences(&script, command),
    )
}

/// A fresh device of the case, reached over a socket, serial ones included.
fn device(case: &Case) -> (Box<dyn Simulator>, SocketAddr) {
    let mut case = case.clone();
    if case.transport == "serial" {
        case.transport = "tcp".into();
    }
    let device = sim::start(&case);
    let overrides = device.overrides();
    let address = overrides["ip"]
        .as_str()
        .expect("an address")
        .parse()
        .expect("an address");
    (device, address)
}

/// How many bytes come back in each answer of the dialogue.
fn answer_lengths(case: &Case) -> Vec<usize> {
    let answers = case.lines.iter().filter_map(|line| match line {
        Line::Answer(text) => Some(text),
        Line::Sent(_) => None,
    });
    match case.transport.as_str() {
        // Heads are made by the simulator; an estimate is enough, later positions change nothing.
        "http" => answers.map(|text| text.len() + 60).collect(),
        // Greeting, keys, login: about so much comes back before the command's own words.
        "ssh" => vec![3000],
        // Datagrams are counted.
        "snmp" => answers.map(|_| 1).collect(),
        // The first is that to the login.
        "ipmi" => {
            let login = ipmi::answers_to_login(case);
            answers
                .enumerate()
                .map(|(at, _)| if at == 0 { login } else { 1 })
                .collect()
        }
        _ => answers.map(|text| bytes(text).len()).collect(),
    }
}

fn wrongs(cases: &[Case], case: &Case, is_first: bool) -> Vec<Wrong> {
    use Fault as F;
    let mut lines = vec![(F::Silence, 0), (F::Garbage, 0), (F::Refuse, 0)];
    let mut wrongs = Vec::new();
    if let Some(opposite) = opposite(cases, case)
        && answers(&cases[opposite]) != answers(case)
    {
        wrongs.push(Answers::Opposite(opposite));
    }
    // Further names are rows of the same dialect.
    if is_first {
        wrongs.extend(others(cases, case).into_iter().map(Answers::Other));
        lines.push((F::Endless, 0));
        let lengths = answer_lengths(case);
        let length: usize = lengths.iter().sum();
        // At the answer that proves it: whatever was said before it was sound.
        let evidence = evidence(cases, case).filter(|_| case.transport != "ssh");
        let late: usize = evidence.map_or(0, |index| lengths[..index].iter().sum());
        let of_evidence = evidence.map_or(0, |index| lengths[index]);
        if late > 0 {
            lines.extend([F::Silence, F::Garbage, F::Endless].map(|fault| (fault, late)));
        }
        if is_of_datagrams(case) {
            lines.extend([(F::Echo, 0), (F::Stale, 0)]);
            lines.extend((1..=3).map(|seed| (F::Lossy(seed), 0)));
        } else {
            lines.extend([(F::Drip, 0), (F::End, 0), (F::Dies, 0), (F::Dies, late)]);
            if case.transport == "telnet" {
                lines.push((F::Negotiation, 0));
            }
            let middles = [length / 2, late + of_evidence / 2]
                .into_iter()
                .filter(|at| *at > 0);
            lines.extend(middles.flat_map(|at| [(F::Silence, at), (F::End, at)]));
            // Every position of short dialogues; of long ones as many as there is time for.
            // A login over SSH costs too much time for many.
            let positions = match case.transport.as_str() {
                "ssh" => positions().min(5),
                _ => positions(),
            };
            let step = length.div_ceil(positions).max(1);
            lines.extend((0..length).step_by(step).map(|at| (F::Reset, at)));
        }
    }
    // Some positions are the same in short dialogues.
    let lines: BTreeSet<(Fault, usize)> = lines.into_iter().collect();
    let lines = lines.into_iter().map(|(fault, at)| Wrong::Line(fault, at));
    let answers = wrongs.into_iter().map(Wrong::Answers);
    lines.chain(answers).collect()
}

/// Reset positions per dialogue: all of them with `PDUD_MATRIX=all`.
fn positions() -> usize {
    if std::env::var("PDUD_MATRIX").is_ok_and(|much| much == "all") {
        usize::MAX
    } else {
        12
    }
}

/// Which of the answers tells that the outlet is switched, or its state: the one behind the switching
/// command, or the first that is another for another state.
fn evidence(cases: &[Case], case: &Case) -> Option<usize> {
    if let Some(command) = switching_line(cases, case) {
        let is_command = |line: &Line| matches!(line, Line::Sent(text) if text == command);
        let before = case.lines.iter().position(is_command)?;
        let before = case.lines[..before].iter();
        let index = before
            .filter(|line| matches!(line, Line::Answer(_)))
            .count();
        return (index < answers(case).len()).then_some(index);
    }
    let other = cases.iter().find(|other| {
        is_of_the_same_pdu(other, case)
            && (other.action.as_str(), case.action.as_str()) == ("state", "state")
            && other.outcome != case.outcome
            && take_turns_alike(other, case)
    })?;
    let pairs = answers(case).into_iter().zip(answers(other));
    pairs
        .map(|(own, other)| own != other)
        .position(|differs| differs)
}

/// The settings of a host of SSH, whose keys are then known under the proxy's address.
fn behind_proxy(host: &Value, address: &Value, folder: &Path) -> Value {
    let known = host["known_hosts"].as_str().expect("a path");
    let known = std::fs::read_to_string(known).expect("the host's key");
    let (_, key) = known.split_once(' ').expect("an address and a key");
    let (ip, port) = address
        .as_str()
        .and_then(|ip| ip.split_once(':'))
        .expect("an address");
    let file = folder.join("known_hosts");
    std::fs::write(&file, format!("[{ip}]:{port} {key}")).expect("written");
    let mut settings = host.clone();
    settings["ip"] = address.clone();
    settings["known_hosts"] = serde_json::json!(file);
    settings
}

/// The error's class, in one word.
fn class(error: &DriverError) -> String {
    match error {
        DriverError::Transport(error) => format!("{:?}", error.kind),
        // What went wrong is in the words: whatever it was, the switching came before.
        DriverError::Unexpected { expected, .. } if expected.ends_with("state after switching") => {
            "NotReadBack".into()
        }
        other => {
            let text = format!("{other:?}");
            let end = text.find(|c: char| !c.is_alphanumeric());
            text[..end.unwrap_or(text.len())].to_owned()
        }
    }
}

/// One cell: what is wrong, then a sound line. Gives what came of the first call.
fn cell(cases: &[Case], case: &Case, name: &str, wrong: Wrong) -> Result<Told, String> {
    let (fault, sound, played) = match wrong {
        Wrong::Line(fault, sound) => (fault, sound, None),
        Wrong::Answers(answers) => (Fault::None, 0, Some(&cases[answers.case()])),
    };
    let at = match played {
        Some(other) => format!(
            "{} ({name}), {wrong:?}: the answers of {}",
            case.at, other.at
        ),
        None => format!("{} ({name}), {wrong:?}", case.at),
    };
    let (spoilt, address) = match played {
        Some(other) => device(&answered_as(case, other)),
        None => device(case),
    };
    let mut proxy = Proxy::start(case, fault, sound, address);
    let mut overrides = proxy.overrides(case);
    let folder = tempfile::tempdir().expect("a folder");
    if case.transport == "ssh" {
        overrides = behind_proxy(&spoilt.overrides(), &overrides["ip"], folder.path());
    }
    let mut driver = transcript::driver(case, name, overrides.clone());
    let deadline = match fault {
        Fault::Drip => DRIP_DEADLINE,
        Fault::Lossy(_) => PATIENCE,
        _ => DEADLINE,
    };
    let began = Instant::now();
    let result = call(driver.as_mut(), case, deadline);
    let late = began.elapsed().saturating_sub(deadline);
    let heard = proxy.heard();
    proxy.cut();
    drop(spoilt.finish());
    let told =
        judge(cases, case, name, wrong, &result).map_err(|wrong| format!("{at}: {wrong}"))?;
    if let Some(command) = switching_bytes(cases, case) {
        let (sent, usual) = switching_sent(case, &command, &heard);
        // The answers of another request may well be a refusal.
        let is_doubtful = !matches!(wrong, Wrong::Answers(Answers::Other(_)));
        switched_once(sent, usual, is_doubtful, &result)
            .map_err(|wrong| format!("{at}: {wrong}"))?;
    }
    // The line is sound again, and another device is behind it: the next call works.
    driver.rest(Deadline::after(PATIENCE));
    let (sound, address) = device(case);
    proxy.set(Fault::None, 0, address);
    if matches!(wrong, Wrong::Answers(Answers::Other(_))) && result.is_ok() {
        // What the driver has learnt from those answers is not true of this device.
        driver = transcript::driver(case, name, overrides);
    }
    let next = works(driver, case, sound, || proxy.cut());
    drop(proxy);
    next.map_err(|wrong| format!("{at}: {wrong}, after {result:?}"))?;
    Ok(Told {
        class: told,
        late,
        at,
    })
}

/// The switching command went out `sent` times: not more often than usual, and whoever sent it all
/// is not certain of a failure, unless that is not `is_doubtful`.
fn switched_once(
    sent: usize,
    usual: usize,
    is_doubtful: bool,
    result: &Result<String, Failed>,
) -> Result<(), String> {
    match result {
        _ if sent > usual => Err(format!("switched {sent} times, after {result:?}")),
        Err(error) if sent == usual && is_doubtful && !error.may_have_acted() => {
            Err(format!("switched, but certain of {error:?}"))
        }
        _ => Ok(()),
    }
}

/// The next call, with a sound device, does what the transcript says. `part` is done before the
/// device ends.
fn works(
    mut driver: Box<dyn Driver>,
    case: &Case,
    sound: Box<dyn Simulator>,
    part: impl FnOnce(),
) -> Result<(), String> {
    let outcome = call(driver.as_mut(), case, PATIENCE);
    driver.rest(Deadline::after(PATIENCE));
    drop(driver);
    part();
    match (outcome, sound.finish()) {
        (Ok(outcome), Ok(())) if outcome == case.outcome => Ok(()),
        (outcome, dialogue) => Err(format!("the next call gave {outcome:?}; {dialogue:?}")),
    }
}

/// What came of a cell's first call.
struct Told {
    class: String,
    /// How long after its deadline it ended.
    late: Duration,
    /// The cell, in words.
    at: String,
}

/// Is the outcome one that is allowed where this is wrong? Gives its class.
fn judge(
    cases: &[Case],
    case: &Case,
    name: &str,
    wrong: Wrong,
    result: &Result<String, Failed>,
) -> Result<String, String> {
    use Fault as F;
    // A dialect whose answer is one byte takes any byte for a state; the boards on USB are believed
    // by their state alone.
    let is_babble = matches!(wrong, Wrong::Line(F::Garbage | F::Endless, _));
    let any_byte_is_a_state = is_babble
        && (name.starts_with("devantech_USB")
            || (name.starts_with("devantech_eth") && case.action == "state"));
    let no_evidence = match wrong {
        Wrong::Line(F::Garbage | F::Endless, _) => !any_byte_is_a_state,
        Wrong::Line(F::Silence | F::Reset | F::End | F::Dies, sound) => sound == 0,
        Wrong::Line(F::Refuse | F::Negotiation | F::Echo | F::Stale, _) => true,
        Wrong::Answers(Answers::Opposite(_)) => case.transport != "snmp" || reads_back(cases, case),
        _ => false,
    };
    let error = match result {
        // None of them is taken for evidence of a state: it is read next.
        Ok(outcome) if outcome == "unknown" || outcome == "sent" => return Ok(outcome.clone()),
        Ok(outcome)
            if outcome == "replied"
                && (matches!(wrong, Wrong::Answers(Answers::Opposite(_)))
                    || case.outcome == "ok"
                    || name.starts_with("devantech_ds")) =>
        {
            return Ok(outcome.clone());
        }
        Ok(outcome) if no_evidence => return Err(format!("taken for {outcome}")),
        Ok(outcome) => {
            let is_told = match wrong {
                Wrong::Answers(Answers::Other(other)) => {
                    // Bytes that do not say what they answer.
                    let is_bare = ["devantech_eth", "egpms"];
                    is_bare.iter().any(|bare| name.starts_with(bare))
                        || [&cases[other].outcome, &cases[other].action].contains(&outcome)
                }
                _ => any_byte_is_a_state,
            };
            if *outcome != case.outcome && !is_told {
                return Err(format!("{outcome} instead of {}", case.outcome));
            }
            return Ok("success".into());
        }
        Err(error) => error,
    };
    let class = class(error);
    if !classes(wrong).contains(&class.as_str()) {
        return Err(format!("of the wrong class: {error:?}"));
    }
    match wrong {
        Wrong::Line(F::Refuse, _) if error.may_have_acted() => {
            Err(format!("nobody was there, but in doubt: {error:?}"))
        }
        // A line may be better the next time; a password is not.
        Wrong::Line(..) if !error.is_transient() && class != "LoginRefused" => {
            Err(format!("not tried again: {error:?}"))
        }
        _ => Ok(class),
    }
}

/// The classes of error that fit. Some dialects greet, some wait for a greeting, some take silence
/// for a wrong password, and what is cut off in the middle may be a shorter answer.
fn classes(wrong: Wrong) -> &'static [&'static str] {
    use Fault as F;
    match wrong {
        Wrong::Line(F::Refuse, _) => &["NoConnection"],
        Wrong::Line(F::Silence, 0) | Wrong::Line(F::Stale, _) => {
            &["Timeout", "NoConnection", "LoginRefused"]
        }
        Wrong::Line(F::Silence, _) => &["Timeout", "LoginRefused"],
        Wrong::Line(F::Drip, _) => &["Timeout"],
        Wrong::Line(F::Lossy(_), _) => &["Timeout", "Garbled"],
        Wrong::Line(F::Negotiation, _) => &["Timeout", "Closed", "LoginRefused"],
        // Who closes after the password may not have liked it.
        Wrong::Line(F::Reset | F::End | F::Dies, _) => &[
            "Closed",
            "NoConnection",
            "Timeout",
            "LoginRefused",
            "NotReadBack",
        ],
        Wrong::Line(F::Garbage | F::Endless, _) => &[
            "Garbled",
            "Unexpected",
            "NotReadBack",
            "Timeout",
            "Closed",
            "LoginRefused",
        ],
        Wrong::Line(F::Echo, _) => &["Garbled"],
        Wrong::Answers(Answers::Opposite(_)) => &["Unexpected", "NotReadBack", "Closed", "Timeout"],
        Wrong::Answers(Answers::Other(_)) => &[
            "Unexpected",
            "NotReadBack",
            "Refused",
            "NoSuchOutlet",
            "CannotRead",
            // Of another length than is waited for.
            "Garbled",
            "Closed",
            "Timeout",
        ],
        Wrong::Line(F::None | F::ResetOnce | F::Half | F::Twice | F::Stuck, _) => &[],
    }
}

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Every driver that switches something, and the matrix that it is in: a line's, a program's or a
/// USB device's.
#[test]
fn every_driver_is_in_the_matrix() {
    let mut covered: BTreeSet<String> = BTreeSet::new();
    let here = transcript::cases().into_iter().filter(is_spoilt_here);
    for case in here.chain(programs::cases()).chain(usb::cases()) {
        covered.extend(case.drivers);
    }
    let missing: Vec<&str> = registry::specs()
        .filter(|spec| spec.transport != "simulated")
        .flat_map(|spec| spec.names)
        .copied()
        .filter(|name| !covered.contains(*name))
        .collect();
    assert!(
        missing.is_empty(),
        "not in the matrix: {}",
        missing.join(", ")
    );
    eprintln!("fault matrix: all {} driver names", covered.len());
}

/// In a process of its own, so that its threads and descriptors can be counted.
#[test]
fn the_fault_matrix_holds() {
    let status = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "matrix::every_cell_holds"])
        .args(["--ignored", "--nocapture"])
        .status()
        .expect("this program runs");
    assert!(status.success(), "see above");
}

#[test]
#[ignore = "run by the_fault_matrix_holds, alone in its process"]
fn every_cell_holds() {
    raise_descriptor_limit();
    let mut cases: Vec<Case> = transcript::cases()
        .into_iter()
        .filter(is_spoilt_here)
        .collect();
    // A device that took the command and shows the old state is a fault already.
    let whole: Vec<Case> = cases.clone();
    cases.retain(|case| {
        let shows = |other: &Case| {
            other.outcome == "ok" && other.action == case.action && other.drivers == case.drivers
        };
        case.outcome != "replied" || !whole.iter().any(shows)
    });
    let mut cells = Vec::new();
    let mut names = BTreeSet::new();
    for case in &cases {
        for (number, name) in case.drivers.iter().enumerate() {
            names.insert(name.as_str());
            let wrongs = wrongs(&cases, case, number == 0);
            cells.extend(wrongs.into_iter().map(|wrong| (case, name.as_str(), wrong)));
        }
    }
    let left = || (count("/proc/self/task"), count("/proc/self/fd"));
    // The first port of a process claims further ones, and keeps the claim.
    sim::port::free();
    let before = left();
    let table = Table::of(&cells, AT_ONCE, |(case, name, wrong)| {
        let row = match wrong {
            Wrong::Line(fault, 0) => row(fault),
            Wrong::Line(fault, _) => format!("{} later", row(fault)),
            Wrong::Answers(answers) => row(answers),
        };
        (row, cell(&cases, case, name, *wrong))
    });
    table.print("fault matrix", cells.len(), names.len());
    table.assert_right();
    // A thread that has been joined may need a moment to be gone.
    wait_for("no thread and no descriptor left behind", || {
        (left() == before).then_some(())
    });
}

/// What came of the cells.
#[derive(Default)]
struct Table {
    classes: BTreeMap<String, BTreeMap<String, usize>>,
    worst: Option<(Duration, String)>,
    /// How many times one was done again.
    again: usize,
    wrong: Vec<String>,
}

/// Is it late, but not so late that no machine is?
fn is_late(told: &Result<Told, String>) -> bool {
    told.as_ref()
        .is_ok_and(|told| told.late > TURN && told.late < HANGING)
}

/// May a machine that is busy with many be to blame? Where one is late, and where one is wrong: an
/// answer may have come too late for a driver, which then went on to its next step.
fn may_be_the_crowd(told: &Result<Told, String>) -> bool {
    if let Err(wrong) = told {
        eprintln!("to be done again, alone: {wrong}");
    }
    told.is_err() || is_late(told)
}

/// The row of a fault, without its particulars.
fn row(fault: impl std::fmt::Debug) -> String {
    let fault = format!("{fault:?}");
    fault.split('(').next().expect("a name").to_owned()
}

impl Table {
    /// Does every cell, `at_once` at a time; `run` gives its row and what came of it. Those that came
    /// late, or are wrong, are done again, alone, and that is what counts: a machine that is busy
    /// with so many is late itself.
    fn of<C: Sync>(
        cells: &[C],
        at_once: usize,
        run: impl Fn(&C) -> (String, Result<Told, String>) + Sync,
    ) -> Self {
        let (next, table) = (AtomicUsize::new(0), Mutex::new(Self::default()));
        let again = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    while let Some(cell) = cells.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let (row, told) = run(cell);
                        if may_be_the_crowd(&told) {
                            again.lock().expect("lock").push(cell);
                        } else {
                            table.lock().expect("lock").enter(row, told);
                        }
                    }
                });
            }
        });
        let mut table = table.into_inner().expect("lock");
        for cell in again.into_inner().expect("lock") {
            table.again += 1;
            table.run(|| run(cell));
        }
        table
    }

    /// One cell, alone; again if it came late: a driver that is late is late each time. One that is
    /// wrong is wrong.
    fn run(&mut self, cell: impl Fn() -> (String, Result<Told, String>)) {
        let (row, mut told) = cell();
        for _ in 1..ALONE {
            if !is_late(&told) {
                break;
            }
            self.again += 1;
            (_, told) = cell();
        }
        self.enter(row, told);
    }

    fn enter(&mut self, row: String, told: Result<Told, String>) {
        let Told { class, late, at } = match told {
            Ok(told) => told,
            Err(text) => return self.wrong.push(text),
        };
        if late > TURN {
            self.wrong
                .push(format!("{at}: {late:?} after the deadline"));
        }
        *self
            .classes
            .entry(row)
            .or_default()
            .entry(class)
            .or_default() += 1;
        if self.worst.as_ref().is_none_or(|(worst, _)| *worst < late) {
            self.worst = Some((late, at));
        }
    }

    fn print(&self, what: &str, cells: usize, names: usize) {
        let (worst, at) = self.worst.clone().unwrap_or_default();
        eprintln!(
            "{what}: {cells} cells over {names} driver names, {} done again; worst time over the \
             deadline {worst:?} (a thread's turn is {TURN:?}): {at}",
            self.again
        );
        for (fault, classes) in &self.classes {
            let sum: usize = classes.values().sum();
            eprintln!("  {fault} {sum}: {classes:?}");
        }
    }

    fn assert_right(&self) {
        let shown: Vec<&str> = self.wrong.iter().take(40).map(String::as_str).collect();
        assert!(
            shown.is_empty(),
            "{} cells are wrong:\n{}",
            self.wrong.len(),
            shown.join("\n")
        );
    }
}
