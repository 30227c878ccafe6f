//! `list`, `requests`, and the names that a shell completes: the daemon answers from memory.

use super::act::{fail, pretty};
use super::api::{Alias, Api, Known, Outlet, Pdu, Trouble, segment, shaped};
use super::show::{self, Cell, Colour, ago, cell, span, tinted};
use super::words::Invocation;
use super::{Ending, progress};
use crate::request::ranges;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::{Duration, Instant};
use ureq::http::Method;

/// The daemon answers these from memory.
const PATIENCE: Duration = Duration::from_secs(30);
/// One turn of following a request, in seconds.
const TURN: u64 = 30;
/// Nobody waits longer for a completion.
const KEYSTROKE: Duration = Duration::from_secs(2);

/// `list`: PDUs, the outlets of some, or aliases.
pub(super) fn list(call: &Invocation) -> Ending {
    let patience = Some(call.timeout.unwrap_or(PATIENCE));
    let shown = if call.aliases {
        if !call.words.is_empty() {
            return Ending::complain(2, "pduclient: error: --aliases takes no PDU");
        }
        call.api
            .get::<Value>("/aliases", patience)
            .and_then(|(answer, raw)| Ok((aliases(&part::<Vec<_>>(&answer, "aliases")?), raw)))
    } else if call.words.is_empty() {
        call.api
            .get::<Value>("/pdus", patience)
            .and_then(|(answer, raw)| Ok((pdus(&part::<Vec<_>>(&answer, "pdus")?), raw)))
    } else {
        return some_pdus(call, patience);
    };
    match shown {
        Ok((_, raw)) if call.json => Ending::say(0, pretty(&raw)),
        Ok((text, _)) => Ending::say(0, text),
        Err(trouble) => fail(call, &trouble),
    }
}

/// Each PDU by itself: a missing one does not hide the others.
fn some_pdus(call: &Invocation, patience: Option<Duration>) -> Ending {
    let mut names = Vec::new();
    for word in &call.words {
        // A text that looks like a range is a name when there is such a PDU.
        let literally = format!("/pdus/{}", segment(word));
        if word.contains('[') && call.api.get::<Pdu>(&literally, patience).is_ok() {
            names.push(word.clone());
            continue;
        }
        match ranges::names(word) {
            Ok(more) => names.extend(more),
            Err(error) => return Ending::complain(2, format!("pduclient: error: {error}")),
        }
    }
    let mut known = HashSet::new();
    names.retain(|name| known.insert(name.clone()));
    let (mut texts, mut values, mut wrong, mut code) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for name in &names {
        match call
            .api
            .get::<Pdu>(&format!("/pdus/{}", segment(name)), patience)
        {
            Ok((pdu, raw)) => {
                texts.push(one_pdu(&pdu));
                values.push(raw);
            }
            Err(trouble) => {
                let (its, text) = call.api.explain(&trouble);
                wrong.push(format!("pduclient: {text}"));
                code = its;
                if !matches!(trouble, Trouble::Problem(..)) {
                    break;
                }
            }
        }
    }
    let out = match (call.json, values.as_slice(), names.as_slice()) {
        (true, [one], [_]) => Some(pretty(one)),
        (true, [], _) => None,
        (true, several, _) => Some(pretty(&json!({ "pdus": several }))),
        (false, ..) => (!texts.is_empty()).then(|| texts.join("\n\n")),
    };
    Ending {
        out,
        err: (!wrong.is_empty()).then(|| wrong.join("\n")),
        code,
    }
}

fn part<T: serde::de::DeserializeOwned>(answer: &Value, name: &str) -> Result<T, Trouble> {
    shaped(answer.get(name).unwrap_or(&Value::Null))
}

fn pdus(pdus: &[Pdu]) -> String {
    let rows: Vec<Vec<Cell>> = pdus
        .iter()
        .map(|pdu| {
            vec![
                cell(&pdu.name),
                cell(&pdu.driver),
                reachable(pdu),
                cell(&pdu.waiting.to_string()),
                outlet_count(pdu),
                cell(pdu.about.as_deref().unwrap_or_default()),
            ]
        })
        .collect();
    show::table(
        &["PDU", "DRIVER", "REACHABLE", "WAITING", "OUTLETS", "ABOUT"],
        &rows,
        show::wants_colour(),
    )
}

fn outlet_count(pdu: &Pdu) -> Cell {
    match (pdu.outlet_count, pdu.outlets.len()) {
        (Some(count), _) => cell(&count.to_string()),
        (None, 0) => tinted("not known yet", Colour::Quiet),
        (None, known) => cell(&format!("{known} known")),
    }
}

fn reachable(pdu: &Pdu) -> Cell {
    if pdu.served == Some(false) {
        return tinted("no: broken settings", Colour::Bad);
    }
    // It may be that outlet alone.
    let asked = pdu
        .last_error
        .as_ref()
        .and_then(|error| error.outlet.as_ref());
    let asked = asked.map_or(String::new(), |outlet| format!(" (outlet {outlet})"));
    match (pdu.reachable, &pdu.since) {
        (Some(true), _) => tinted("yes", Colour::Good),
        (Some(false), Some(since)) => tinted(
            &format!("not since {}{asked}", ago(since, Timestamp::now())),
            Colour::Bad,
        ),
        (Some(false), None) => tinted(&format!("no{asked}"), Colour::Bad),
        (None, _) => tinted("not asked yet", Colour::Quiet),
    }
}

fn one_pdu(pdu: &Pdu) -> String {
    let colour = show::wants_colour();
    let mut fields = vec![
        vec![cell("PDU"), cell(&pdu.name)],
        vec![cell("driver"), cell(&pdu.driver)],
        vec![cell("reachable"), reachable(pdu)],
        vec![cell("waiting"), cell(&pdu.waiting.to_string())],
    ];
    if let Some(about) = &pdu.about {
        fields.insert(1, vec![cell("about"), cell(about)]);
    }
    if let Some(broken) = &pdu.broken {
        let goes_on = match pdu.served {
            Some(false) => "",
            Some(true) | None => " (it goes on with the settings that it had)",
        };
        fields.push(vec![
            cell("settings"),
            tinted(&format!("cannot work: {broken}{goes_on}"), Colour::Bad),
        ]);
    }
    if !pdu.reads_back && pdu.served != Some(false) {
        fields.push(vec![cell("states"), cell("cannot be read from this PDU")]);
    }
    if let Some(error) = &pdu.last_error {
        let when = error
            .at
            .as_ref()
            .map(|at| format!("{}: ", ago(at, Timestamp::now())))
            .unwrap_or_default();
        fields.push(vec![
            cell("last error"),
            tinted(&format!("{when}{}", error.text), Colour::Bad),
        ]);
    }
    if pdu.outlet_count.is_none() {
        fields.push(vec![cell("outlets"), outlet_count(pdu)]);
    }
    let mut text = show::table(&[], &fields, colour);
    if !pdu.outlets.is_empty() {
        let rows: Vec<Vec<Cell>> = pdu.outlets.iter().map(outlet).collect();
        text.push_str("\n\n");
        text.push_str(&show::table(
            &["OUTLET", "NAME", "STATE", "KNOWN"],
            &rows,
            colour,
        ));
    }
    text
}

fn outlet(outlet: &Outlet) -> Vec<Cell> {
    let known = match (&outlet.source, outlet.age) {
        (Some(source), Some(age)) => format!("{source} {} ago", span(age)),
        (Some(source), None) => source.clone(),
        (None, _) => String::new(),
    };
    vec![
        cell(&outlet.outlet),
        cell(outlet.name.as_deref().unwrap_or_default()),
        show::state(outlet.state.as_deref(), outlet.detail.as_deref()),
        cell(&known),
    ]
}

fn aliases(aliases: &[Alias]) -> String {
    let rows: Vec<Vec<Cell>> = aliases
        .iter()
        .map(|alias| {
            let outlets: Vec<String> = alias
                .outlets
                .iter()
                .map(|outlet| format!("{}:{}", outlet.pdu, outlet.outlet))
                .collect();
            let outlets = match &alias.broken {
                Some(reason) => tinted(reason, Colour::Bad),
                None => cell(&outlets.join(" ")),
            };
            vec![cell(&format!("@{}", alias.alias)), outlets]
        })
        .collect();
    show::table(&["ALIAS", "OUTLETS"], &rows, show::wants_colour())
}

/// `requests`: shows the latest ones, or follows or cancels one.
pub(super) fn requests(call: &Invocation) -> Ending {
    let patience = Some(call.timeout.unwrap_or(PATIENCE));
    let outcome = if let Some(id) = &call.follow {
        follow(call, id)
    } else if let Some(id) = &call.cancel {
        call.api
            .ask(
                Method::DELETE,
                &format!("/requests/{}", segment(id)),
                None,
                patience,
            )
            .and_then(|raw| Ok((0, format!("cancelled {}", shaped::<Known>(&raw)?.id()), raw)))
    } else {
        call.api
            .get::<Value>(&format!("/requests?limit={}", call.limit), patience)
            .and_then(|(answer, raw)| {
                let known: Vec<Known> = part(&answer, "requests")?;
                let rows: Vec<Vec<Cell>> = known.iter().map(Known::row).collect();
                let heading = ["ID", "ASKED", "BY", "COMMAND", "TARGET", "RESULT"];
                Ok((0, show::table(&heading, &rows, show::wants_colour()), raw))
            })
    };
    match outcome {
        Ok((code, _, raw)) if call.json => Ending::say(code, pretty(&raw)),
        Ok((code, text, _)) => Ending::say(code, text),
        Err(trouble) => fail(call, &trouble),
    }
}

/// Waits until the request has ended, a turn after the other.
fn follow(call: &Invocation, id: &str) -> Result<(u8, String, Value), Trouble> {
    let until = call.timeout.map(|timeout| Instant::now() + timeout);
    let path = format!("/requests/{}", segment(id));
    let state = std::sync::Mutex::new(String::from("asking"));
    let line = || {
        state.lock().map_or_else(
            |_| String::new(),
            |state| show::printable(&format!("request {id}: {state}")),
        )
    };
    progress::during(line, || {
        let mut turn = 0;
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Trouble::Timeout);
            }
            let patience = left.unwrap_or(PATIENCE + Duration::from_secs(turn));
            let patience = patience.min(PATIENCE + Duration::from_secs(turn));
            let (known, raw) = call
                .api
                .get::<Known>(&format!("{path}?wait={turn}"), Some(patience))?;
            if known.progress == "ended" {
                let code = if known.ok == Some(true) { 0 } else { 127 };
                let text = show::table(&[], &[known.row()], show::wants_colour());
                return Ok((code, text, raw));
            }
            if let Ok(mut state) = state.lock() {
                *state = known.progress;
            }
            turn = TURN;
        }
    })
}

impl Known {
    fn id(&self) -> String {
        match &self.id {
            Value::String(id) => show::printable(id),
            other => other.to_string(),
        }
    }

    fn row(&self) -> Vec<Cell> {
        let target = match &self.target {
            target if target.alias.is_some() => {
                format!("@{}", target.alias.as_deref().unwrap_or_default())
            }
            target => format!(
                "{}:{}",
                target.pdu.as_deref().unwrap_or_default(),
                target.outlet.as_deref().unwrap_or_default()
            ),
        };
        let took = self
            .took
            .map(|took| format!(" in {took:.1}s"))
            .unwrap_or_default();
        let result = match (self.progress.as_str(), self.ok, &self.problem) {
            ("ended", Some(true), _) => {
                let done = self.state.as_deref().unwrap_or("done");
                tinted(&format!("{done}{took}"), Colour::Good)
            }
            ("ended", _, Some(problem)) => {
                tinted(&format!("failed: {}", problem.text()), Colour::Bad)
            }
            ("ended", ..) => tinted("failed", Colour::Bad),
            (progress, ..) => tinted(progress, Colour::Doubt),
        };
        let asked = self
            .submitted
            .as_ref()
            .map(|at| ago(at, Timestamp::now()))
            .unwrap_or_default();
        let command = match self.command.as_str() {
            "get-status" => "state",
            other => other,
        };
        vec![
            cell(&self.id()),
            cell(&asked),
            cell(&self.client),
            cell(command),
            cell(&target),
            result,
        ]
    }
}

/// `complete`: names, one a line. Silent when there is no daemon: a key press is no place for
/// messages.
pub(super) fn complete(call: &Invocation) -> Ending {
    let words: Vec<&str> = call.words.iter().map(String::as_str).collect();
    let api = &call.api;
    let names = match words.as_slice() {
        ["pdus"] => pdu_names(api),
        ["aliases"] => alias_names(api),
        ["outlets", pdu] => outlet_names(api, pdu),
        ["targets"] => targets(api, ""),
        ["targets", beginning] => targets(api, beginning),
        _ => {
            return Ending::complain(
                2,
                "pduclient: error: complete what? pdus, aliases, outlets PDU or targets",
            );
        }
    };
    let Ok(mut names) = names else {
        return Ending {
            out: None,
            err: None,
            code: 1,
        };
    };
    names.retain(|name| !name.chars().any(char::is_control));
    Ending {
        out: (!names.is_empty()).then(|| names.join("\n")),
        err: None,
        code: 0,
    }
}

fn pdu_names(api: &Api) -> Result<Vec<String>, Trouble> {
    let (answer, _) = api.get::<Value>("/pdus", Some(KEYSTROKE))?;
    let pdus: Vec<Pdu> = part(&answer, "pdus")?;
    Ok(pdus.into_iter().map(|pdu| pdu.name).collect())
}

fn alias_names(api: &Api) -> Result<Vec<String>, Trouble> {
    let (answer, _) = api.get::<Value>("/aliases", Some(KEYSTROKE))?;
    let aliases: Vec<Alias> = part(&answer, "aliases")?;
    Ok(aliases.into_iter().map(|alias| alias.alias).collect())
}

fn outlet_names(api: &Api, pdu: &str) -> Result<Vec<String>, Trouble> {
    let (pdu, _) = api.get::<Pdu>(&format!("/pdus/{}", segment(pdu)), Some(KEYSTROKE))?;
    Ok(pdu
        .outlets
        .into_iter()
        .map(|outlet| outlet.outlet)
        .collect())
}

/// How a target may go on: with a PDU and its colon, or behind the colon with its outlets.
fn targets(api: &Api, beginning: &str) -> Result<Vec<String>, Trouble> {
    if beginning.starts_with('@') {
        let names = alias_names(api)?;
        return Ok(names.into_iter().map(|name| format!("@{name}")).collect());
    }
    if let Some((pdu, _)) = beginning.rsplit_once(':') {
        let ids = outlet_names(api, pdu)?;
        return Ok(ids.into_iter().map(|id| format!("{pdu}:{id}")).collect());
    }
    let mut names: Vec<String> = pdu_names(api)?
        .into_iter()
        .map(|name| format!("{name}:"))
        .collect();
    if beginning.is_empty() {
        names.extend(alias_names(api)?.into_iter().map(|name| format!("@{name}")));
    }
    Ok(names)
}
