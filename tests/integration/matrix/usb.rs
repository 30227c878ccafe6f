//! The cells of USB drivers: the device goes wrong at each of its exchanges, behind a real Linux USB
//! stack; only in the virtual machine of `make test-usb`.

use super::{
    Answers, Table, Told, answered_as, answers, class, ends_well, opposite, others, row,
    switched_once, switching_line, works,
};
use crate::daemon::wait_for;
use crate::sim;
use crate::sim::usb::{
    Fault, Gadget, heard, left_behind, normal, replug, spoil, unplug, unplug_all,
};
use crate::sim::usb_devices::Hub;
use crate::transcript::{self, Case, Failed, Line, call};
use pdudaemon::transport::Deadline;
use std::time::{Duration, Instant};

/// What a call may take while the device is bad: a device is found and asked for its number first,
/// in an emulated machine.
const DEADLINE: Duration = Duration::from_millis(1500);
/// What a call to a sound device may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The cases whose device can go wrong.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = transcript::cases();
    cases.retain(|case| case.transport == "usb" && ends_well(case));
    cases
}

/// What is wrong in a cell.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    /// It is not there.
    Absent,
    /// The device, from that exchange on.
    Device(Fault, usize),
    /// It answers as in another case: the opposite, or the answer to another request.
    Answers(Answers),
}

fn exchanges(case: &Case) -> usize {
    case.lines
        .iter()
        .filter(|line| matches!(line, Line::Sent(_)))
        .count()
}

/// Is anything answered after the exchange `from` has begun?
fn is_answered_after(case: &Case, from: usize) -> bool {
    let mut sent = 0;
    case.lines.iter().any(|line| {
        sent += usize::from(matches!(line, Line::Sent(_)));
        sent > from && matches!(line, Line::Answer(_))
    })
}

fn is_control(case: &Case, exchange: usize) -> bool {
    let sent = case.lines.iter().filter_map(|line| match line {
        Line::Sent(text) => Some(text.as_str()),
        Line::Answer(_) => None,
    });
    sent.skip(exchange).any(|text| !text.starts_with("out"))
}

fn wrongs(cases: &[Case], case: &Case) -> Vec<Wrong> {
    let mut wrongs = vec![Wrong::Absent];
    for from in 0..exchanges(case) {
        wrongs.push(Wrong::Device(Fault::Unplug, from));
        if is_control(case, from) {
            wrongs.push(Wrong::Device(Fault::Stall, from));
        }
        if is_answered_after(case, from) {
            let faults = [Fault::Mute, Fault::Garbage, Fault::Half, Fault::Empty];
            wrongs.extend(faults.map(|fault| Wrong::Device(fault, from)));
        }
    }
    if case
        .lines
        .iter()
        .any(|line| matches!(line, Line::Answer(text) if text.starts_with("in")))
    {
        wrongs.push(Wrong::Device(Fault::Flood, 0));
    }
    if let Some(opposite) = opposite(cases, case)
        && answers(&cases[opposite]) != answers(case)
    {
        wrongs.push(Wrong::Answers(Answers::Opposite(opposite)));
    }
    let others = others(cases, case).into_iter().map(Answers::Other);
    wrongs.extend(others.map(Wrong::Answers));
    wrongs
}

/// The classes of error that fit. One that does not tell its number is not found.
fn classes(wrong: Wrong) -> &'static [&'static str] {
    match wrong {
        Wrong::Absent => &["NotFound"],
        // A Cleware that never tells its state is one that cannot.
        Wrong::Device(Fault::Mute, _) => &["Timeout", "CannotRead"],
        Wrong::Device(Fault::Stall, _) => &["Garbled", "Unexpected", "NotReadBack"],
        // A host controller may see the broken transfer before the empty port.
        Wrong::Device(Fault::Unplug, _) => {
            &["Closed", "Io", "NotFound", "Unexpected", "NotReadBack"]
        }
        Wrong::Device(Fault::Garbage | Fault::Half | Fault::Empty | Fault::Flood, _) => &[
            "CannotRead",
            "Garbled",
            "Unexpected",
            "NotReadBack",
            "NotFound",
            "Timeout",
        ],
        Wrong::Answers(_) => &[
            "Garbled",
            "Unexpected",
            "NotReadBack",
            "NotFound",
            "Timeout",
        ],
    }
}

fn cell(cases: &[Case], case: &Case, name: &str, wrong: Wrong) -> Result<Told, String> {
    let at = format!("{} ({name}), {wrong:?}", case.at);
    let played = match wrong {
        Wrong::Answers(answers) => answered_as(case, &cases[answers.case()]),
        _ => case.clone(),
    };
    let spoilt = sim::start(&played);
    let mut driver = transcript::driver(case, name, spoilt.overrides());
    match wrong {
        Wrong::Absent => unplug(),
        Wrong::Device(fault, from) => spoil(fault, from),
        Wrong::Answers(_) => {}
    }
    let began = Instant::now();
    let result = call(driver.as_mut(), case, DEADLINE);
    let late = began.elapsed().saturating_sub(DEADLINE);
    let sent = heard();
    drop(spoilt);
    if matches!(wrong, Wrong::Absent | Wrong::Device(Fault::Unplug, _)) {
        unplug();
        replug();
    }
    let told = judge(cases, case, wrong, &result).map_err(|why| format!("{at}: {why}"))?;
    if let Some(command) = switching_line(cases, case) {
        let command = normal(command);
        let sent = sent.iter().filter(|line| **line == command).count();
        switched_once(sent, 1, true, &result).map_err(|wrong| format!("{at}: {wrong}"))?;
    }
    driver.rest(Deadline::after(PATIENCE));
    let sound = sim::start(case);
    if name.starts_with("Cleware") && case.action == "state" {
        // It counts its requests, and the transcript has the first.
        driver = transcript::driver(case, name, sound.overrides());
    }
    works(driver, case, sound, || ())
        .map_err(|wrong| format!("{at}: {wrong}, after {result:?}"))?;
    Ok(Told {
        class: told,
        late,
        at,
    })
}

fn judge(
    cases: &[Case],
    case: &Case,
    wrong: Wrong,
    result: &Result<String, Failed>,
) -> Result<String, String> {
    let outcome = match result {
        Ok(outcome) if outcome == "unknown" => return Ok(outcome.clone()),
        Ok(outcome) => outcome,
        Err(error) => {
            let class = class(error);
            return if classes(wrong).contains(&class.as_str()) {
                Ok(class)
            } else {
                Err(format!("of the wrong class: {error:?}"))
            };
        }
    };
    let fits = match wrong {
        // The report had gone out when the device was pulled, and none is answered.
        Wrong::Device(Fault::Unplug, from) => !is_answered_after(case, from),
        // The half that came may hold all that is asked for.
        Wrong::Device(Fault::Half, _) => *outcome == case.outcome,
        // A feature report is a bit anywhere: what a device says of a relay is believed.
        Wrong::Device(Fault::Garbage, _) => case.action == "state" || is_control(case, 0),
        Wrong::Answers(Answers::Other(other)) => {
            [&case.outcome, &cases[other].outcome, &cases[other].action].contains(&outcome)
        }
        // It is evidence of no state: that is read next.
        _ => outcome == "replied",
    };
    if fits {
        Ok("success".into())
    } else {
        Err(format!("taken for {outcome}"))
    }
}

/// The cells of a hub, which the kernel asks as well: what is wrong begins at each of the requests
/// after the call has begun.
fn hub_cells(cases: &[&Case], table: &mut Table) -> usize {
    const REQUESTS: usize = 4;
    let hub = Hub::default();
    let gadget = Gadget::plug_hub(&Hub::identity(), hub.clone());
    let faults = [
        Fault::Mute,
        Fault::Stall,
        Fault::Unplug,
        Fault::Garbage,
        Fault::Half,
        Fault::Empty,
    ];
    let mut wrongs = vec![None];
    wrongs.extend(
        faults
            .iter()
            .flat_map(|fault| (0..REQUESTS).map(move |sound| Some((*fault, sound)))),
    );
    for case in cases {
        for wrong in &wrongs {
            let row: String = wrong.map_or("Stuck".into(), |(fault, _)| row(fault));
            table.run(|| (row.clone(), hub_cell(case, &hub, &gadget, *wrong)));
        }
        gadget.unplug();
        let location = serde_json::json!({ "location": "9-9" });
        let mut driver = transcript::driver(case, "usbhub", location);
        let result = call(driver.as_mut(), case, DEADLINE);
        let told = match &result {
            Err(error) if class(error) == "NotFound" => Ok(Told {
                class: class(error),
                late: Duration::ZERO,
                at: String::new(),
            }),
            other => Err(format!("{} of a hub that is not there: {other:?}", case.at)),
        };
        table.enter(row(Wrong::Absent), told);
        gadget.replug();
    }
    cases.len() * (wrongs.len() + 1)
}

/// One of them: a hub that is stuck, or that goes wrong.
fn hub_cell(
    case: &Case,
    hub: &Hub,
    gadget: &Gadget,
    wrong: Option<(Fault, usize)>,
) -> Result<Told, String> {
    let at = format!("{} (usbhub), {wrong:?}", case.at);
    let is_on_before = match case.action.as_str() {
        "state" => case.outcome == "on",
        action => action == "off",
    };
    hub.set(is_on_before);
    let location = serde_json::json!({ "location": gadget.path() });
    let mut driver = transcript::driver(case, "usbhub", location);
    match wrong {
        Some((fault, sound)) => hub.spoil(fault, sound, gadget.cord()),
        None => hub.stick(),
    }
    // One that is stuck is asked several times before it is given up.
    let deadline = if wrong.is_none() { PATIENCE } else { DEADLINE };
    let began = Instant::now();
    let result = call(driver.as_mut(), case, deadline);
    let late = began.elapsed().saturating_sub(deadline);
    let (spoilt, has_switched) = (hub.spoilt(), hub.is_powered() != is_on_before);
    hub.set(is_on_before);
    if matches!(wrong, Some((Fault::Unplug, _))) {
        gadget.unplug();
        gadget.replug();
        hub.set(is_on_before);
    }
    let told = match (&result, wrong) {
        (Ok(outcome), _) if outcome == "unknown" => outcome.clone(),
        // It did not come to it.
        (Ok(outcome), Some(_)) if spoilt == 0 && *outcome == case.outcome => "success".into(),
        (Ok(outcome), None) if case.action == "state" && *outcome == case.outcome => {
            "success".into()
        }
        // Bits without sense are bits.
        (Ok(_), Some((Fault::Garbage, _))) => "success".into(),
        // It is evidence of no state: that is read next.
        (Ok(outcome), _) if outcome == "replied" => outcome.clone(),
        (Ok(outcome), _) => return Err(format!("{at}: taken for {outcome}")),
        (Err(error), _) => {
            let class = class(error);
            let fits: &[&str] = match wrong {
                None => &["Unexpected"],
                Some((fault, sound)) => classes(Wrong::Device(fault, sound)),
            };
            if !fits.contains(&class.as_str()) {
                return Err(format!("{at}: of the wrong class: {error:?}"));
            }
            if has_switched && !error.may_have_acted() {
                return Err(format!("{at}: switched, but certain of {error:?}"));
            }
            class
        }
    };
    driver.rest(Deadline::after(PATIENCE));
    let again = call(driver.as_mut(), case, PATIENCE);
    match again {
        Ok(outcome) if outcome == case.outcome => Ok(Told {
            class: told,
            late,
            at,
        }),
        other => Err(format!(
            "{at}: the next call gave {other:?}, after {result:?}"
        )),
    }
}

#[test]
#[ignore = "needs the virtual machine of make test-usb"]
fn the_fault_matrix_of_usb_holds() {
    let cases = cases();
    let (mut table, mut cells, mut names) = (Table::default(), 0, Vec::new());
    let mut before = None;
    for case in cases
        .iter()
        .filter(|case| !case.drivers.contains(&"usbhub".to_owned()))
    {
        for (number, name) in case.drivers.iter().enumerate() {
            if !names.contains(&name) {
                names.push(name);
            }
            let mut wrongs = wrongs(&cases, case);
            // Further names are rows of the same dialect.
            wrongs.retain(|_| number == 0);
            if number > 0 {
                wrongs.push(Wrong::Absent);
            }
            for wrong in wrongs {
                let row = match wrong {
                    Wrong::Device(fault, _) => row(fault),
                    Wrong::Answers(answers) => row(answers),
                    Wrong::Absent => row(wrong),
                };
                table.run(|| (row.clone(), cell(&cases, case, name, wrong)));
                cells += 1;
                // By now the USB library has its own thread.
                before.get_or_insert_with(left_behind);
            }
        }
    }
    unplug_all();
    let hubs = cases
        .iter()
        .filter(|case| case.drivers.contains(&"usbhub".to_owned()));
    cells += hub_cells(&hubs.collect::<Vec<_>>(), &mut table);
    table.print("fault matrix of USB", cells, names.len() + 1);
    table.assert_right();
    wait_for("no thread and no handle left behind", || {
        (Some(left_behind()) == before).then_some(())
    });
}
