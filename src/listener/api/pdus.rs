//! `/api/v1/pdus` and `/api/v1/aliases`: the lists, one PDU, one outlet as last known.

use super::targets;
use super::views::{OutletView, PduView};
use crate::config::Alias;
use crate::dispatch::PduInfo;
use crate::listener::exchange::{Exchange, Query};
use crate::listener::problem::Problem;
use crate::listener::response::Response;
use crate::request::{Action, Outlet};
use serde_json::json;
use std::collections::HashMap;
use std::time::Duration;

/// A list this young is good enough for everybody: pollers share one.
pub(in crate::listener) const FRESH: Duration = Duration::from_millis(100);

/// `GET /api/v1/pdus`: a client that may see a part gets a list of its own, of that part.
pub(in crate::listener) fn list(exchange: &Exchange) -> Result<Response, Problem> {
    let refresh = refresh_of(&exchange.query)?;
    let mut pdus = exchange.dispatcher.pdus();
    pdus.retain(|info| exchange.caller.may_see(info.name.as_str()));
    for info in &pdus {
        refresh_if_allowed(exchange, info, refresh);
    }
    let views: Vec<PduView<'_>> = pdus.iter().map(PduView::new).collect();
    Ok(Response::json(200, &HashMap::from([("pdus", views)])))
}

/// `GET /api/v1/pdus/{pdu}`
pub(in crate::listener) fn one(exchange: &Exchange) -> Result<Response, Problem> {
    let refresh = refresh_of(&exchange.query)?;
    let info = exchange.dispatcher.pdu(&exchange.part(0));
    let info = info
        .filter(|info| exchange.caller.may_see(info.name.as_str()))
        .ok_or_else(|| exchange.unknown_pdu(&exchange.part(0)))?;
    refresh_if_allowed(exchange, &info, refresh);
    Ok(Response::json(200, &PduView::new(&info)))
}

fn refresh_of(query: &Query) -> Result<Option<Duration>, Problem> {
    let seconds = query.number("refresh", 1, 86_400)?;
    Ok(seconds.map(Duration::from_secs))
}

/// Asks for a new reading of old states, if the caller may read all states of the PDU.
fn refresh_if_allowed(exchange: &Exchange, info: &PduInfo, age: Option<Duration>) {
    let Some(age) = age else { return };
    let outlets = info.outlets.keys().chain(&info.sought);
    let outlets = outlets.map(|outlet| (info.name.as_str(), outlet));
    let caller = &exchange.caller;
    if caller.may_everything() || caller.may_all(outlets, Action::State) {
        exchange.dispatcher.refresh(info, age);
    }
}

/// `GET /api/v1/pdus/{pdu}/outlets/{outlet}`: as last known.
pub(in crate::listener) fn outlet(exchange: Exchange) {
    let response = last_known(&exchange).unwrap_or_else(|problem| problem.response());
    exchange.respond(response);
}

fn last_known(exchange: &Exchange) -> Result<Response, Problem> {
    let (pdu, outlet) = (exchange.part(0), Outlet::new(exchange.part(1)));
    let may_see = |name: &str| exchange.caller.may_see(name);
    if !may_see(&pdu) {
        return Err(exchange.unknown_pdu(&pdu));
    }
    let outlet = exchange.dispatcher.outlet(&pdu, &outlet, may_see);
    let outlet = outlet.map_err(|failure| Problem::from(&failure))?;
    let info = exchange.dispatcher.pdu(&pdu);
    let info = info.ok_or_else(|| exchange.unknown_pdu(&pdu))?;
    let name = info.outlets.get(&outlet).and_then(Option::as_deref);
    let known = info.report.outlets.get(&outlet).map(Box::as_ref);
    Ok(Response::json(200, &OutletView::new(&outlet, name, known)))
}

/// `GET …/state`: as last known with `last=true`, else read from the PDU.
pub(in crate::listener) fn state(exchange: Exchange) {
    match exchange.query.flag("last", false) {
        Err(problem) => exchange.problem(problem),
        Ok(true) => outlet(exchange),
        Ok(false) => targets::state(exchange),
    }
}

/// `GET /api/v1/aliases`
pub(in crate::listener) fn aliases(exchange: &Exchange) -> Result<Response, Problem> {
    let aliases = exchange.dispatcher.aliases();
    let aliases: Vec<_> = aliases
        .iter()
        .filter(|(_, alias)| exchange.may_see_alias(alias))
        .map(|(name, alias)| match alias {
            Alias::Outlets(outlets) => {
                let outlets: Vec<_> = outlets
                    .iter()
                    .map(|(pdu, outlet)| json!({"pdu": pdu.as_str(), "outlet": outlet.as_str()}))
                    .collect();
                json!({"alias": name, "outlets": outlets})
            }
            Alias::Dead(why) => json!({"alias": name, "outlets": [], "broken": why}),
        })
        .collect();
    Ok(Response::json(200, &json!({"aliases": aliases})))
}
