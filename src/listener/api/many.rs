//! `POST /api/v1/requests`: one command for many targets. All are checked before any is touched,
//! and all are submitted at once: PDUs work in parallel, each in its order.

use super::targets::delay_of;
use super::views::ResultView;
use crate::config::Alias;
use crate::dispatch::Ticket;
use crate::listener::exchange::Exchange;
use crate::listener::problem::{self, Problem};
use crate::listener::response::Response;
use crate::request::ranges::targets_among;
use crate::request::{Action, Delay, Failure, FailureKind, Target};
use serde::Deserialize;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    targets: Vec<String>,
    command: String,
    delay: Option<f64>,
}

/// `POST /api/v1/requests`
pub(in crate::listener) fn post(mut exchange: Exchange) {
    let body = exchange.body::<Batch>(false);
    let (targets, action, delay) = match body.and_then(|body| checked(&exchange, &body)) {
        Ok(checked) => checked,
        Err(problem) => return exchange.problem(problem),
    };
    let tickets: Arc<[Arc<Ticket>]> = exchange.submit_all(targets, action, delay).into();
    let left = Arc::new(AtomicUsize::new(tickets.len()));
    let asker = Arc::new(Mutex::new(Some(exchange.asker)));
    for ticket in tickets.iter() {
        let (left, asker, tickets) = (left.clone(), asker.clone(), tickets.clone());
        // The last that ends answers for all.
        ticket.follow(move |_| {
            if left.fetch_sub(1, Ordering::AcqRel) > 1 {
                return;
            }
            let asker = asker.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(asker) = asker {
                asker.send(response(&tickets));
            }
        });
    }
}

fn response(tickets: &[Arc<Ticket>]) -> Response {
    let results: Vec<ResultView> = tickets.iter().map(|one| ResultView::new(one)).collect();
    let status = match results.iter().filter(|result| result.ok).count() {
        done if done == results.len() => 200,
        0 => 502,
        _ => 207,
    };
    Response::json(status, &json!({"ok": status == 200, "results": results}))
}

fn checked(
    exchange: &Exchange,
    body: &Batch,
) -> Result<(Vec<Target>, Action, Option<Delay>), Problem> {
    let bad = |why: String| Problem::new(problem::BAD_VALUE, why);
    let action: Action = body.command.parse().map_err(|()| {
        let (got, expected) = (&body.command, Action::COMMANDS);
        bad(format!("command: expected {expected}, got {got:?}"))
    })?;
    let delay = delay_of(body.delay)?;
    if body.targets.is_empty() {
        return Err(bad("targets: expected at least one".into()));
    }
    let dispatcher = &exchange.dispatcher;
    let aliases = dispatcher.aliases();
    // Who may not see a name is answered as if there were none.
    let is_known = |name: &str| match name.strip_prefix('@') {
        Some(alias) => aliases
            .get(alias)
            .is_some_and(|alias| exchange.may_see_alias(alias)),
        None => dispatcher.has(name) && exchange.caller.may_see(name),
    };
    let targets =
        targets_among(&body.targets, is_known).map_err(|why| bad(format!("targets: {why}")))?;
    for target in &targets {
        exchange.permit(target, action)?;
        match target {
            Target::Outlet { pdu, outlet } => {
                dispatcher
                    .outlet(pdu, outlet, |name| exchange.caller.may_see(name))
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
                        named.is_some_and(|named| exchange.may_see_alias(named))
                    }),
                };
                return Err((&failure).into());
            }
        }
    }
    Ok((targets, action, delay))
}
