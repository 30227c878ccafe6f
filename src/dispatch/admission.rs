//! Which outlets a request means, and whether there is room for it: checked whole, before anything is
//! switched.

use super::place::Place;
use super::plan;
use super::table::{Route, Table};
use crate::config::Alias;
use crate::request::hint::did_you_mean;
use crate::request::{Failure, FailureKind, LONGEST_NAME, Outlet, PduName, Request, Target};
use std::sync::Arc;
use std::time::Duration;

/// Checks the request whole: every outlet, and room in every queue.
pub(super) fn admit<'t>(
    table: &'t Table,
    request: &Request,
) -> Result<Vec<(&'t Route, Outlet, Place)>, Failure> {
    if table.is_stopping {
        return Err(plan::stopping());
    }
    let may_see = |_: &str| request.may_know_names;
    if let Target::Outlet { pdu, outlet } = &request.target {
        let route = route_of(table, pdu, may_see)?;
        let outlet = route.outlet(outlet)?;
        let place = if request.is_background {
            // Not counted: whoever submits such has few of them, and clients need the room.
            Place::uncounted()
        } else {
            room(route, request, &request.owner())?
        };
        return Ok(vec![(route, outlet, place)]);
    }
    let outlets = outlets_of(table, &request.target, may_see)?;
    let owner = request.owner();
    let mut routes = Vec::with_capacity(outlets.len());
    for (pdu, outlet) in outlets {
        let route = route_of(table, pdu.as_str(), may_see)?;
        routes.push((route, route.outlet(outlet)?));
    }
    routes
        .into_iter()
        .map(|(route, outlet)| Ok((route, outlet, room(route, request, &owner)?)))
        .collect()
}

fn outlets_of<'t>(
    table: &'t Table,
    target: &Target,
    may_see: impl Fn(&str) -> bool,
) -> Result<&'t [(PduName, Outlet)], Failure> {
    let name = match target {
        Target::Alias(name) => name,
        Target::Outlet { .. } => return Ok(&[]),
    };
    match table.aliases.get(name) {
        Some(Alias::Outlets(outlets)) => Ok(outlets),
        Some(Alias::Dead(why)) => {
            let reason = format!("the alias {name:?} leads nowhere: {why}");
            Err(Failure::new(FailureKind::UnknownAlias, reason))
        }
        None => Err(unknown_alias(table, name, may_see)),
    }
}

pub(super) fn route_of<'t>(
    table: &'t Table,
    pdu: &str,
    may_see: impl Fn(&str) -> bool,
) -> Result<&'t Route, Failure> {
    match table.routes.get(pdu) {
        Some(Ok(route)) => Ok(route),
        Some(Err(broken)) => {
            let reason = format!("PDU {pdu}: {broken}");
            Err(Failure::new(FailureKind::BrokenSettings, reason))
        }
        None => {
            let known = table.routes.keys();
            Err(unknown_pdu(
                pdu,
                known.filter(|name| may_see(name.as_str())),
            ))
        }
    }
}

/// The failure of a request for a PDU that is not among those `known`.
pub fn unknown_pdu<'n>(pdu: &str, known: impl Iterator<Item = &'n PduName>) -> Failure {
    let hint = did_you_mean(pdu, "", known.map(PduName::as_str));
    let reason = format!("there is no PDU {pdu:?} in the config{hint}");
    Failure::new(FailureKind::UnknownPdu, reason)
}

pub(super) fn unknown_alias(table: &Table, alias: &str, may_see: impl Fn(&str) -> bool) -> Failure {
    let known = table.aliases.keys().map(String::as_str);
    let hint = did_you_mean(alias, "", known.filter(|name| may_see(name)));
    let reason = format!("there is no alias {alias:?} in the config{hint}");
    Failure::new(FailureKind::UnknownAlias, reason)
}

/// Nothing can have such a name, and nobody shall make the daemon remember it.
pub(super) fn too_long() -> Failure {
    let reason = format!("a name is longer than {LONGEST_NAME} bytes");
    Failure::new(FailureKind::BadRequest, reason)
}

fn room(route: &Route, request: &Request, owner: &Arc<str>) -> Result<Place, Failure> {
    let pdu = &route.pdu;
    let is_delayed = request.waits() > Duration::ZERO;
    let place = Place::take(&route.places, owner, is_delayed, pdu);
    place.map_err(|why| Failure::new(FailureKind::QueueFull, format!("PDU {}: {why}", pdu.name)))
}
