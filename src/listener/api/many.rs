//! `POST /api/v1/requests`: one command for many targets. All are checked before any is touched,
//! and all are submitted at once: PDUs work in parallel, each in its order.

use super::call::Call;
use super::pdus::delay_of;
use super::problem::{self, Problem};
use super::views::{is_ok, state_of};
use crate::config::Alias;
use crate::dispatch::{Progress, Ticket};
use crate::listener::exchange::{Answer, Asker};
use crate::request::ranges::targets_among;
use crate::request::{Action, Delay, Failure, FailureKind, Proof, Target};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    targets: Vec<String>,
    command: String,
    delay: Option<f64>,
}

/// One target's end.
#[derive(Clone, Debug, Default, Serialize)]
struct Ending {
    /// As it could be written alone.
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pdu: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outlet: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    request: u64,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unconfirmed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

#[derive(Debug, Serialize)]
struct Results {
    ok: bool,
    results: Vec<Ending>,
}

/// The ends gathered so far, and who waits for all of them.
struct Gather {
    results: Vec<Option<Ending>>,
    left: usize,
    asker: Option<Asker>,
}

/// `POST /api/v1/requests`
pub(super) fn post(mut call: Call) {
    let (targets, action, delay) = match call
        .body::<Body>(false)
        .and_then(|body| checked(&call, &body))
    {
        Ok(checked) => checked,
        Err(problem) => return call.problem(problem),
    };
    let tickets: Vec<Arc<Ticket>> = targets
        .into_iter()
        .map(|target| call.submit_permitted(target, action, delay))
        .collect();
    let gather = Arc::new(Mutex::new(Gather {
        results: vec![None; tickets.len()],
        left: tickets.len(),
        asker: Some(call.asker),
    }));
    for (index, ticket) in tickets.iter().enumerate() {
        let gather = Arc::clone(&gather);
        ticket.follow(Box::new(move |ticket| {
            let mut gather = gather.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = gather.results.get_mut(index) {
                *place = Some(result(ticket));
            }
            gather.left = gather.left.saturating_sub(1);
            if gather.left == 0
                && let Some(asker) = gather.asker.take()
            {
                let results = std::mem::take(&mut gather.results);
                asker.send(answer(results.into_iter().flatten().collect()));
            }
        }));
    }
}

fn answer(results: Vec<Ending>) -> Answer {
    let done = results.iter().filter(|result| result.ok).count();
    let status = match done {
        done if done == results.len() => 200,
        0 => 502,
        _ => 207,
    };
    let ok = status == 200;
    Answer::json(status, &Results { ok, results })
}

fn checked(call: &Call, body: &Body) -> Result<(Vec<Target>, Action, Option<Delay>), Problem> {
    let bad = |why: String| Problem::new(problem::BAD_VALUE, why);
    let action: Action = body.command.parse().map_err(|()| {
        let (got, expected) = (&body.command, Action::COMMANDS);
        bad(format!("command: expected {expected}, got {got:?}"))
    })?;
    let delay = delay_of(body.delay)?;
    if body.targets.is_empty() {
        return Err(bad("targets: expected at least one".into()));
    }
    let dispatcher = &call.api.dispatcher;
    let aliases = dispatcher.aliases();
    // Who may not see a name is answered as if there were none.
    let is_known = |name: &str| match name.strip_prefix('@') {
        Some(alias) => aliases
            .get(alias)
            .is_some_and(|alias| call.may_see_alias(alias)),
        None => dispatcher.has(name) && call.caller.may_see(name),
    };
    let targets =
        targets_among(&body.targets, is_known).map_err(|why| bad(format!("targets: {why}")))?;
    for target in &targets {
        call.permit(target, action)?;
        match target {
            Target::Outlet { pdu, outlet } => {
                dispatcher
                    .outlet(pdu, outlet, |name| call.caller.may_see(name))
                    .map_err(|f| Problem::from(&f))?;
            }
            Target::Alias(alias) => {
                let failure = match aliases.get(alias) {
                    Some(Alias::Outlets(_)) => continue,
                    Some(Alias::Dead(why)) => Failure::new(
                        FailureKind::UnknownAlias,
                        format!("the alias {alias:?} leads nowhere: {why}"),
                    ),
                    None => dispatcher.unknown_alias(alias, |name| {
                        let named = aliases.get(name);
                        named.is_some_and(|named| call.may_see_alias(named))
                    }),
                };
                return Err((&failure).into());
            }
        }
    }
    Ok((targets, action, delay))
}

fn result(ticket: &Ticket) -> Ending {
    let mut result = Ending {
        request: ticket.id,
        ..Ending::default()
    };
    match &ticket.request.target {
        Target::Outlet { pdu, outlet } => {
            result.target = format!("{pdu}:{outlet}");
            result.pdu = Some(pdu.clone());
            result.outlet = Some(outlet.as_str().to_owned());
        }
        Target::Alias(alias) => {
            result.target = format!("@{alias}");
            result.alias = Some(alias.clone());
        }
    }
    if let Progress::Ended { outcome, .. } = ticket.progress() {
        result.ok = is_ok(&outcome);
        match outcome {
            Ok(done) => {
                result.unconfirmed = done.proof < Proof::State;
                if let Some(state) = &done.state {
                    let (word, detail) = state_of(state);
                    (result.state, result.detail) = (word, detail.map(str::to_owned));
                }
            }
            Err(failure) => result.problem = Some(Problem::of(&failure, Some(ticket.id))),
        }
    }
    result
}
