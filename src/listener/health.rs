//! `/healthz` and `/metrics`.

use super::exchange::Exchange;
use super::problem::Problem;
use super::response::Response;
use serde_json::json;

/// Red only when requests cannot be served at all; one bad PDU is degraded. That this answers
/// shows that the front and `http` move.
pub(super) fn healthz(exchange: Exchange) {
    let troubles = exchange.dispatcher.troubles();
    let mut red = Vec::new();
    if troubles.is_none() {
        red.push("dispatching does not move");
    }
    let troubles = troubles.unwrap_or_default();
    let mut degraded: Vec<_> = troubles
        .iter()
        .filter(|(pdu, _)| exchange.caller.may_see(pdu.as_str()))
        .map(|(pdu, why)| json!({"pdu": pdu.as_str(), "detail": why}))
        .collect();
    let others = exchange.dispatcher.metrics().troubles();
    let is_well = troubles.is_empty() && others.is_empty();
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
    let may_see = |pdu: &str| exchange.caller.may_see(pdu);
    let text = exchange.dispatcher.metrics_text(may_see);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(Response::new(200, content_type, text.into_bytes()))
}
