//! The cells of drivers that start programs: the program goes wrong instead of the line.

use super::{DEADLINE, SLACK, ends_well, works};
use crate::sim::{self, Simulator};
use crate::transcript::{self, Case, call};
use pdudaemon::driver::DriverError;
use pdudaemon::transport::TransportErrorKind;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Instant;

/// What a program may do instead of its work: a name, shell words, and the kinds of error that fit
/// (none: the driver must find out in its own way, or the outcome says that nothing is known).
const PROGRAM_FAULTS: [(&str, &str, &[TransportErrorKind]); 5] = [
    ("silence", "exec sleep 60", &[TransportErrorKind::Timeout]),
    (
        "endless",
        "while :; do echo 0123456789; done",
        &[TransportErrorKind::Timeout, TransportErrorKind::Garbled],
    ),
    (
        "drip",
        "while :; do printf .; sleep 0.2; done",
        &[TransportErrorKind::Timeout],
    ),
    ("killed", "kill -9 $$", &[]),
    ("garbage", r"printf '\376\377{]nonsense\n'; exit 1", &[]),
];

fn program_cell(
    case: &Case,
    name: &str,
    (fault, words, kinds): (&str, &str, &[TransportErrorKind]),
) -> Result<(), String> {
    let at = format!("{} ({name}), {fault}", case.at);
    let programs = sim::command::start(case);
    programs.spoil(Some(words));
    let mut driver = transcript::driver(case, name, programs.overrides());
    let began = Instant::now();
    let result = call(driver.as_mut(), case, DEADLINE);
    let took = began.elapsed();
    if took > DEADLINE + SLACK {
        return Err(format!("{at}: took {took:?}"));
    }
    let ignores_status = case.settings.contains_key("ignore_exit_status");
    match &result {
        Ok(outcome) if outcome == "unknown" => {}
        Ok(_) if ignores_status && kinds.is_empty() => {}
        Ok(outcome) => return Err(format!("{at}: taken for {outcome}")),
        Err(DriverError::Transport(error)) if kinds.is_empty() || kinds.contains(&error.kind) => {}
        Err(_) if kinds.is_empty() => {}
        Err(error) => return Err(format!("{at}: {error:?}")),
    }
    programs.spoil(None);
    works(driver, case, Box::new(programs), || ())
        .map_err(|wrong| format!("{at}: {wrong}, after {result:?}"))
}

/// The cases with a program that can go wrong.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = transcript::cases();
    cases.retain(|case| case.transport == "command" && ends_well(case) && !case.lines.is_empty());
    cases
}

#[test]
fn the_fault_matrix_of_commands_holds() {
    let cases = cases();
    let covered: BTreeSet<&str> = cases
        .iter()
        .flat_map(|case| case.drivers.iter().map(String::as_str))
        .collect();
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for fault in PROGRAM_FAULTS {
            let (cases, wrong) = (&cases, &wrong);
            scope.spawn(move || {
                for case in cases {
                    for name in &case.drivers {
                        if let Err(text) = program_cell(case, name, fault) {
                            wrong.lock().expect("lock").push(text);
                        }
                    }
                }
            });
        }
    });
    eprintln!(
        "fault matrix of commands: {} cells over {} driver names",
        cases.len() * PROGRAM_FAULTS.len(),
        covered.len()
    );
    let wrong = wrong.into_inner().expect("lock");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
