//! `/api/v1/aliases`: the config's aliases, as things one can read and switch.

use super::call::Call;
use super::pdus::{alias_read, reboot_target, switch_target};
use super::problem::Problem;
use crate::config::Alias;
use crate::listener::exchange::Answer;
use crate::request::{Action, Target};
use serde_json::json;

/// `GET /api/v1/aliases`
pub(super) fn list(call: &Call) -> Result<Answer, Problem> {
    let aliases = call.api.dispatcher.aliases();
    let aliases: Vec<_> = aliases
        .iter()
        .filter(|(_, alias)| call.may_see_alias(alias))
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
    Ok(Answer::json(200, &json!({"aliases": aliases})))
}

/// `GET …/state`
pub(super) fn state(call: Call) {
    match call.submit(Target::Alias(call.part(0)), Action::State, None) {
        Err(problem) => call.problem(problem),
        Ok(ticket) => call.answer_when_ended(&ticket, None, alias_read),
    }
}

/// `PUT …/state`
pub(super) fn switch(call: Call) {
    let target = Target::Alias(call.part(0));
    switch_target(call, target);
}

/// `POST …/reboot`
pub(super) fn reboot(call: Call) {
    let target = Target::Alias(call.part(0));
    reboot_target(call, target);
}
