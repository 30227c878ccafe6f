//! The `aliases` section: names for outlets.

use super::file::{self, AliasKeys, Member};
use super::pdu::{BrokenPdu, PduConfig};
use super::reader::{Reader, join, last_of_each};
use crate::request::{Outlet, PduName};
use crate::settings::Keys;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The meaning of an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alias {
    /// These outlets, at least one.
    Outlets(Vec<(PduName, Outlet)>),
    /// Nowhere; the text says why. Only requests for it are refused.
    Dead(String),
}

impl<'a> Reader<'a> {
    pub(super) fn aliases(
        &mut self,
        value: &'a RawValue,
        pdus: &BTreeMap<PduName, Result<Arc<PduConfig>, BrokenPdu>>,
    ) -> Option<HashMap<String, Alias>> {
        let mut aliases = HashMap::new();
        let read = self.object("aliases", value);
        for (name, value) in self.told(read)? {
            let path = join("aliases", &name);
            let at = self.text.position(value);
            if let Ok(entries) = serde_json::from_str(value.get()) {
                self.unique(&path, entries);
                self.unknown_keys(value, &path, &AliasKeys::names());
            }
            let alias = last_of_each(&file::section(&self.text, &name, "", value))
                .keys::<AliasKeys>()
                .map_err(|error| error.to_string())
                .and_then(|written| resolve_alias(written, pdus))
                .map_or_else(Alias::Dead, Alias::Outlets);
            if let Alias::Dead(why) = &alias {
                self.warn(at, format!("{path}: this alias leads nowhere: {why}"));
            }
            aliases.insert(name, alias);
        }
        Some(aliases)
    }
}

/// The outlets an alias means, or why it means none.
fn resolve_alias(
    written: AliasKeys,
    pdus: &BTreeMap<PduName, Result<Arc<PduConfig>, BrokenPdu>>,
) -> Result<Vec<(PduName, Outlet)>, String> {
    let port = written.port.or(written.outlet).map(|port| port.0);
    let outlets = match (written.outlets, written.hostname, port) {
        (Some(outlets), None, None) if !outlets.is_empty() => outlets,
        (Some(_), None, None) => return Err("outlets: expected at least one".into()),
        (Some(_), ..) => return Err("expected either outlets, or hostname and port".into()),
        (None, Some(hostname), Some(port)) => vec![Member { hostname, port }],
        (None, ..) => return Err("expected hostname and port, or outlets".into()),
    };
    let mut found: Vec<(PduName, Outlet)> = Vec::new();
    for Member { hostname, port } in outlets {
        let (name, pdu) = pdus
            .get_key_value(hostname.as_str())
            .ok_or_else(|| format!("there is no PDU {hostname:?}"))?;
        let written = Outlet::new(port);
        // Nobody knows which outlets a broken PDU has: a request for it gets the error.
        let outlet = match pdu {
            Ok(pdu) => pdu
                .outlets
                .parse(&written)
                .map_err(|error| format!("PDU {hostname}, outlet {written}: {error}"))?,
            Err(_) => written,
        };
        if found
            .iter()
            .any(|known| known.0 == *name && known.1 == outlet)
        {
            return Err(format!("PDU {hostname}, outlet {outlet} is there twice"));
        }
        found.push((name.clone(), outlet));
    }
    Ok(found)
}
