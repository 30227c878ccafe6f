//! `state`, `on`, `off`, `reboot`: one request for all targets, and the result of each.

use super::api::{ForTarget, Known, Trouble, shaped};
use super::legacy::{self, Question};
use super::show::{self, Colour, cell, tinted};
use super::words::Invocation;
use super::{Ending, is_timeout, progress};
use crate::request::ranges;
use crate::request::{Action, Target};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;
use ureq::http::Method;

/// How long the progress line waits for news.
const NEWS: Duration = Duration::from_secs(1);

/// Carries the word out.
pub(super) fn act(call: &Invocation, action: Action) -> Ending {
    let targets = match ranges::targets(&call.words) {
        Ok(targets) => targets,
        Err(error) => {
            let hint = meant(&call.words);
            return Ending::complain(2, format!("pduclient: error: {error}{hint}, see --help"));
        }
    };
    let command = action.to_string();
    let mut body = json!({ "targets": call.words, "command": command });
    if let (Some(delay), Some(body)) = (call.delay, body.as_object_mut()) {
        body.insert("delay".into(), json!(delay.duration().as_secs_f64()));
    }
    let answer = progress::during(
        || waiting_for(call, &command, &targets),
        || {
            call.api
                .ask(Method::POST, "/requests", Some(&body), call.timeout)
        },
    );
    match answer {
        Ok(answer) => tell(call, action, &answer, None),
        Err(Trouble::NoApi) if action != Action::State && targets.len() == 1 => {
            ask_as_ever(call, action, targets)
        }
        Err(trouble) => fail(call, &trouble),
    }
}

/// The probable meaning of the first text that is no target, when it has neither colon nor `@`.
fn meant(words: &[String]) -> String {
    let is_bare = |word: &String| !word.contains(':') && !word.starts_with('@');
    let Some(at) = words
        .iter()
        .position(|word| ranges::targets([word]).is_err())
    else {
        return String::new();
    };
    match (words.get(at), words.get(at + 1)) {
        (Some(pdu), Some(outlet)) if is_bare(pdu) && is_bare(outlet) => {
            format!(", did you mean {pdu}:{outlet}?")
        }
        (Some(name), _) if is_bare(name) && !name.is_empty() => {
            format!(", did you mean @{name}, or {name}:1?")
        }
        _ => String::new(),
    }
}

/// An ending for an answer that never was one.
pub(super) fn fail(call: &Invocation, trouble: &Trouble) -> Ending {
    let (code, text) = call.api.explain(trouble);
    Ending {
        out: match trouble {
            Trouble::Problem(_, document) if call.json => Some(pretty(document)),
            _ => None,
        },
        err: Some(format!("pduclient: {text}")),
        code,
    }
}

/// JSON for people and programs.
pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// One line for each target, and an exit status: 0 when every one is done.
fn tell(call: &Invocation, action: Action, answer: &Value, note: Option<String>) -> Ending {
    let results: Vec<ForTarget> = match shaped(answer.get("results").unwrap_or(&Value::Null)) {
        Ok(results) => results,
        Err(trouble) => return fail(call, &trouble),
    };
    let failed = results.iter().filter(|result| !result.ok).count();
    let unknown = results.iter().filter(|result| result.is_unknown()).count();
    let is_all = answer.get("ok").and_then(Value::as_bool) != Some(false) && !results.is_empty();
    let code = if failed == 0 && is_all { 0 } else { 127 };
    let mut err: Vec<String> = note.into_iter().collect();
    let out = match results.as_slice() {
        _ if call.json => Some(pretty(answer)),
        [one] if !one.ok => {
            err.push(format!("pduclient: {}: {}", one.shown(), one.reason()));
            one.is_unknown().then(|| "unknown".to_owned())
        }
        [one] if action == Action::State => {
            Some(show::printable(one.state.as_deref().unwrap_or("unknown")))
        }
        all => {
            if failed > unknown {
                let failed = failed - unknown;
                err.push(format!("pduclient: {failed} of {} failed", all.len()));
            }
            if unknown > 0 {
                let all = all.len();
                err.push(format!(
                    "pduclient: {unknown} of {all} are neither on nor off"
                ));
            }
            let rows: Vec<_> = all.iter().map(|result| result.row(action)).collect();
            Some(show::table(&[], &rows, show::wants_colour()))
        }
    };
    Ending {
        out: out.filter(|text| !text.is_empty()),
        err: (!err.is_empty()).then(|| err.join("\n")),
        code,
    }
}

impl ForTarget {
    fn shown(&self) -> String {
        match (&self.pdu, &self.outlet) {
            (Some(pdu), Some(outlet)) if !self.target.starts_with('@') => {
                show::printable(&format!("{pdu}:{outlet}"))
            }
            _ => show::printable(&self.target),
        }
    }

    /// The state is neither on nor off: a group whose outlets differ, a PDU between two states.
    fn is_unknown(&self) -> bool {
        !self.ok && self.problem.is_none() && self.state.is_some()
    }

    fn reason(&self) -> String {
        match (&self.problem, &self.detail) {
            (Some(problem), _) => problem.text(),
            (None, Some(detail)) => show::printable(detail),
            (None, None) => "failed without a reason".into(),
        }
    }

    fn row(&self, action: Action) -> Vec<show::Cell> {
        let detail = self.unconfirmed.then_some("unconfirmed");
        let result = match action {
            _ if !self.ok && !self.is_unknown() => {
                tinted(&format!("failed: {}", self.reason()), Colour::Bad)
            }
            Action::State => show::state(
                self.state.as_deref().or(Some("unknown")),
                self.detail.as_deref(),
            ),
            Action::Switch(to) => show::state(Some(&to.to_string()), detail),
            Action::Reboot if self.unconfirmed => tinted("rebooted (unconfirmed)", Colour::Good),
            Action::Reboot => tinted("rebooted", Colour::Good),
        };
        vec![cell(&self.shown()), result]
    }
}

/// The progress line: how many are done, as far as the daemon's list of requests shows it.
fn waiting_for(call: &Invocation, command: &str, targets: &[Target]) -> String {
    let all = targets.len();
    let what = match targets {
        [Target::Outlet { pdu, outlet }] => format!("{pdu}:{outlet}"),
        [Target::Alias(alias)] => format!("@{alias}"),
        _ => {
            // Requests for these outlets that have not ended: ours, when nobody else asks.
            let ours: HashSet<(&str, &str)> = targets
                .iter()
                .filter_map(|target| match target {
                    Target::Outlet { pdu, outlet } => Some((pdu.as_str(), outlet.key())),
                    Target::Alias(_) => None,
                })
                .collect();
            let known = call.api.get::<Value>("/requests?limit=1000", Some(NEWS));
            let known: Vec<Known> = known
                .ok()
                .and_then(|(list, _)| shaped(list.get("requests")?).ok())
                .unwrap_or_default();
            let open = known
                .iter()
                .filter(|known| known.progress != "ended" && known.command == command)
                .filter(|known| match (&known.target.pdu, &known.target.outlet) {
                    (Some(pdu), Some(outlet)) => ours.contains(&(
                        pdu.as_str(),
                        crate::request::Outlet::new(outlet.as_str()).key(),
                    )),
                    _ => false,
                })
                .count();
            match all.checked_sub(open) {
                Some(done) if open > 0 => format!("{done} of {all} outlets"),
                _ => format!("{all} outlets"),
            }
        }
    };
    let command = if command == "get-status" {
        "state"
    } else {
        command
    };
    show::printable(&format!("{command}: {what}"))
}

/// Asks a daemon without `/api/v1` for one outlet on the path that every release has.
fn ask_as_ever(call: &Invocation, action: Action, targets: Vec<Target>) -> Ending {
    let Some(target) = targets.into_iter().next() else {
        return fail(call, &Trouble::NoApi);
    };
    let command = match action {
        Action::Switch(crate::request::Switch::On) => "on",
        Action::Switch(crate::request::Switch::Off) => "off",
        Action::Reboot => "reboot",
        Action::State => "get-status",
    };
    let mut result = json!({ "target": call.words.first() });
    let target = match target {
        Target::Outlet { pdu, outlet } => {
            result = json!({ "target": format!("{pdu}:{outlet}"), "pdu": pdu, "outlet": outlet.as_str() });
            legacy::Target::Outlet {
                pdu,
                outlet: outlet.as_str().to_owned(),
            }
        }
        Target::Alias(alias) => legacy::Target::Alias(alias),
    };
    let question = Question {
        daemon: call.api.daemon.clone(),
        target,
        command,
        delay: call.delay,
        timeout: call.timeout,
        http: true,
        token: None,
        tls: call.api.tls.clone(),
    };
    let line = || format!("{command}: {}", call.words.join(" "));
    let (status, words) = match progress::during(line, || question.get()) {
        Ok(answer) => answer,
        Err(error) if is_timeout(&error) => return fail(call, &Trouble::Timeout),
        Err(error) => return fail(call, &Trouble::NoDaemon(error.to_string())),
    };
    let ok = status < 400;
    if let Some(result) = result.as_object_mut() {
        result.insert("ok".into(), json!(ok));
        if !ok {
            let detail = match words.trim() {
                "" => format!("the daemon answered {status}"),
                words => words.to_owned(),
            };
            result.insert(
                "problem".into(),
                json!({ "status": status, "detail": detail }),
            );
        }
    }
    let note = format!(
        "pduclient: {} has no /api/v1, asked on /power/control instead",
        call.api.daemon
    );
    tell(
        call,
        action,
        &json!({ "ok": ok, "results": [result] }),
        Some(note),
    )
}
