//! `/healthz` and `/metrics`.

use super::exchange::Exchange;
use super::problem::Problem;
use super::response::Response;
use crate::dispatch::metrics::PduFacts;
use crate::request::State;
use serde_json::json;
use std::time::Instant;

/// Red only when requests cannot be served at all; one bad PDU is degraded. That this answers
/// shows that the front and `http` move.
pub(super) fn healthz(exchange: Exchange) {
    let health = exchange.dispatcher.health();
    let mut red = Vec::new();
    if !health.moves {
        red.push("dispatching does not move");
    }
    let mut degraded: Vec<_> = health
        .troubles
        .iter()
        .filter(|(pdu, _)| exchange.caller.may_see(pdu.as_str()))
        .map(|(pdu, why)| json!({"pdu": pdu.as_str(), "detail": why}))
        .collect();
    let log = exchange.dispatcher.metrics().log().trouble;
    let tls = exchange.dispatcher.metrics().tls();
    let is_over = tls.days_left().is_some_and(|days| days < 0.0);
    let tls = tls
        .trouble
        .or_else(|| is_over.then(|| "the TLS certificate has expired".to_owned()));
    let others: Vec<String> = log.into_iter().chain(tls).collect();
    let is_well = health.troubles.is_empty() && others.is_empty();
    degraded.extend(others.iter().map(|why| json!({"detail": why})));
    let (code, status) = match (red.is_empty(), is_well) {
        (false, _) => (503, "red"),
        (true, false) => (200, "degraded"),
        (true, true) => (200, "ok"),
    };
    let body = json!({"status": status, "red": red, "degraded": degraded});
    exchange.respond(Response::json(code, &body));
}

/// Everything counted, and what is known of each PDU.
pub(super) fn metrics(exchange: &Exchange) -> Result<Response, Problem> {
    let now = Instant::now();
    let pdus = exchange.dispatcher.pdus();
    let facts: Vec<PduFacts<'_>> = pdus
        .iter()
        .filter(|info| exchange.caller.may_see(info.name.as_str()))
        .map(|info| PduFacts {
            name: info.name.as_str(),
            is_served: info.is_served,
            is_broken: info.broken.is_some(),
            waiting: info.waiting,
            reachable: info.report.reachable,
            calls: info.report.calls,
            failures: info.report.failures.iter().map(|(k, n)| (*k, *n)).collect(),
            is_stuck: info.report.call.is_some_and(|(_, deadline)| now > deadline),
            outlets: info
                .report
                .outlets
                .iter()
                .filter_map(|(outlet, known)| match known.state {
                    State::On => Some((outlet.as_str(), true)),
                    State::Off => Some((outlet.as_str(), false)),
                    State::Unknown(_) => None,
                })
                .collect(),
        })
        .collect();
    let left_off = exchange.dispatcher.left_off();
    let left_off: Vec<(&str, &str)> = left_off
        .iter()
        .map(|left| (left.pdu.as_str(), left.outlet.as_str()))
        .filter(|(pdu, _)| exchange.caller.may_see(pdu))
        .collect();
    let text = exchange.dispatcher.metrics().text(&facts, &left_off);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(Response::new(200, content_type, text.into_bytes()))
}
