//! The cells of drivers that start programs: the program goes wrong instead of the line.

use super::{DEADLINE, Table, Told, class, ends_well, works};
use crate::sim::{self, Simulator};
use crate::transcript::{self, Case, call};
use pdudaemon::driver::DriverError;
use pdudaemon::transport::TransportErrorKind;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What a program may do instead of its work: a name, shell words, and the kinds of error that fit
/// (none: the driver must find out in its own way, or the outcome says that nothing is known).
const PROGRAM_FAULTS: [(&str, &str, &[TransportErrorKind]); 8] = [
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
    // Its work has left the group, and would come late.
    (
        "detached",
        "setsid sleep 60 </dev/null & exec sleep 60",
        &[TransportErrorKind::Timeout],
    ),
    // It is asked to end first, and then has [`LAST_WORDS`].
    (
        "deaf",
        "trap '' TERM; while :; do sleep 1; done",
        &[TransportErrorKind::Timeout],
    ),
    // A child that has the pipes does not help the one that is waited for.
    ("held", "sleep 60 & wait", &[TransportErrorKind::Timeout]),
    ("killed", "kill -9 $$", &[]),
    ("garbage", r"printf '\376\377{]nonsense\n'; exit 1", &[]),
];

/// How long a program is waited for that was asked to end.
const LAST_WORDS: Duration = Duration::from_secs(1);

fn program_cell(
    case: &Case,
    name: &str,
    (fault, words, kinds): (&str, &str, &[TransportErrorKind]),
) -> Result<Told, String> {
    let at = format!("{} ({name}), {fault}", case.at);
    let programs = sim::command::start(case);
    transcript::prepare(case, name, programs.overrides());
    programs.spoil(Some(words));
    let mut driver = transcript::driver(case, name, programs.overrides());
    let began = Instant::now();
    let result = call(driver.as_mut(), case, DEADLINE);
    let patience = match fault {
        "deaf" => DEADLINE + LAST_WORDS,
        _ => DEADLINE,
    };
    let late = began.elapsed().saturating_sub(patience);
    let ignores_status = case.settings.contains_key("ignore_exit_status");
    let class = match &result {
        Ok(outcome) if outcome == "unknown" => outcome.clone(),
        Ok(_) if ignores_status && kinds.is_empty() => "success".into(),
        Ok(outcome) => return Err(format!("{at}: taken for {outcome}")),
        Err(failed) => match &failed.error {
            DriverError::Transport(error) if kinds.contains(&error.kind) => {
                format!("{:?}", error.kind)
            }
            error if kinds.is_empty() => class(error),
            error => return Err(format!("{at}: {error:?}")),
        },
    };
    if let Err(error) = &result
        && (error.to_string().len() > 1000
            || !error.is_transient()
            || error.may_have_acted() == (case.action == "state"))
    {
        return Err(format!("{at}: long, certain or not tried again: {error:?}"));
    }
    programs.spoil(None);
    works(driver, case, Box::new(programs), || ())
        .map_err(|wrong| format!("{at}: {wrong}, after {result:?}"))?;
    Ok(Told { class, late, at })
}

/// The cases with a program that can go wrong.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = transcript::cases();
    cases.retain(|case| {
        let runs_programs = ["command", "exec"].contains(&case.transport.as_str());
        runs_programs && ends_well(case) && !case.lines.is_empty()
    });
    cases
}

#[test]
fn the_fault_matrix_of_commands_holds() {
    let cases = cases();
    let covered: BTreeSet<&str> = cases
        .iter()
        .flat_map(|case| case.drivers.iter().map(String::as_str))
        .collect();
    let mut cells = Vec::new();
    for fault in PROGRAM_FAULTS {
        for case in &cases {
            let names = case.drivers.iter();
            cells.extend(names.map(|name| (case, name.as_str(), fault)));
        }
    }
    let table = Table::of(&cells, PROGRAM_FAULTS.len(), |(case, name, fault)| {
        (fault.0.to_owned(), program_cell(case, name, *fault))
    });
    table.print("fault matrix of commands", cells.len(), covered.len());
    table.assert_right();
}
