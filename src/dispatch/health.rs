//! The troubles of PDUs, for the health of the daemon.

use super::table::{Route, Table};
use crate::config::BrokenPdu;
use crate::request::PduName;

/// The PDUs in trouble, each with the reason.
pub(super) fn troubles(table: &Table) -> Vec<(PduName, String)> {
    let mut troubles: Vec<(PduName, String)> = table
        .routes
        .iter()
        .filter_map(|(name, route)| Some((name.clone(), trouble(route)?)))
        .collect();
    let left_off = table.left_off().into_iter();
    troubles.extend(left_off.map(|left| (left.pdu.clone(), left.to_string())));
    troubles.sort();
    troubles
}

/// The trouble of one PDU's worker or settings.
fn trouble(route: &Result<Route, BrokenPdu>) -> Option<String> {
    let route = match route {
        Ok(route) => route,
        Err(broken) => return Some(format!("it is not served: {broken}")),
    };
    if route.is_finished() {
        return Some("its worker has ended: this is a bug".to_owned());
    }
    if let Some(time) = route.stuck_for() {
        let time = time.as_secs();
        return Some(format!(
            "a driver call has been running for {time} s, past its deadline: this is a bug"
        ));
    }
    let broken = route.unfollowed.as_ref()?;
    Some(format!(
        "it goes on with the settings that it had: {broken}"
    ))
}
