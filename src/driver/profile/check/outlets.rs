//! What is computed from an outlet, and every text filled for every outlet.

use super::{Checker, Of};
use crate::driver::profile::answer;
use crate::driver::profile::holes::{Filling, Place};
use crate::driver::profile::script;
use crate::driver::profile::sums::Sum;
use crate::driver::profile::{Profile, written};
use crate::request::Outlet;
use std::collections::BTreeMap;

impl Checker {
    /// The computed holes, each of which may use those whose names come before its own.
    pub(super) fn vars(&mut self, written: &written::Outlets) -> Vec<(String, Sum)> {
        let mut vars = Vec::new();
        for (name, text) in &written.vars {
            let path = format!("outlets.vars.{name}");
            if self.of_outlet.contains(name) || self.of_keys.contains(name) {
                self.fault(&path, "this name has a meaning already");
            }
            if let Some(sum) = self.told(&path, Sum::parse(text)) {
                vars.push((name.clone(), sum));
            }
        }
        self.of_outlet.extend(written.vars.keys().cloned());
        vars
    }

    /// Has what is sent to read the state a hole of the outlet?
    pub(super) fn asks_of_outlet(&self) -> bool {
        let texts = self
            .texts
            .iter()
            .filter(|(path, ..)| path.starts_with("state.") && !path.starts_with("state.take"));
        let mut names = texts.flat_map(|(.., text, _)| text.names());
        names.any(|name| self.of_outlet.contains(name))
    }

    /// Fills every text for every outlet.
    pub(super) fn every_outlet(&mut self, profile: &Profile) {
        let mut keys = profile.samples();
        if self.of_keys.contains("token") {
            // What a login gives.
            let sample = || Filling::Secret("token".to_owned());
            keys.entry("token".to_owned()).or_insert_with(sample);
        }
        let mut bank = keys.clone();
        bank.insert("bank".to_owned(), Filling::Number(1));
        let texts = std::mem::take(&mut self.texts);
        for (path, of, text, place) in &texts {
            let fillings = match of {
                Of::Bank => &bank,
                Of::Pdu => &keys,
                Of::Outlet => continue,
            };
            let filled = text
                .fill(fillings)
                .and_then(|text| fits(&text, *place).and_then(|()| awaits(path, &text)));
            self.told(path, filled);
        }
        // What switches each outlet on, so that no two share it.
        let mut known: BTreeMap<String, Outlet> = BTreeMap::new();
        for outlet in profile.ids.all() {
            let Some(of_outlet) = profile.ids.fillings(&outlet) else {
                continue;
            };
            let fillings = match profile.with_vars(of_outlet, &keys) {
                Ok(fillings) => fillings,
                Err(why) => return self.fault("outlets.vars", format!("outlet {outlet}: {why}")),
            };
            let mut switches = String::new();
            for (path, of, text, place) in &texts {
                if *of != Of::Outlet {
                    continue;
                }
                let filled = text
                    .fill(&fillings)
                    .and_then(|text| fits(&text, *place).map(|()| text))
                    .and_then(|text| awaits(path, &text).map(|()| text));
                match filled {
                    Ok(filled) if path.starts_with("on.") => switches.extend([&filled, "\n"]),
                    Ok(_) => {}
                    Err(why) => {
                        return self.fault(path.as_str(), format!("outlet {outlet}: {why}"));
                    }
                }
            }
            if let Some(other) = known.insert(switches, outlet.clone()) {
                let message = format!(
                    "outlets {other} and {outlet} are switched alike: where is {{outlet}}?"
                );
                return self.fault("on", message);
            }
        }
    }
}

/// Is it no pattern of what is waited for, or one that is not satisfied with silence?
fn awaits(path: &str, text: &str) -> Result<(), String> {
    let waits = path == "line.prompt" || path.ends_with(".expect") || path.ends_with(".until");
    match waits && answer::compile(text)?.is_match("") {
        true => Err("expected a pattern that something must be there for".to_owned()),
        false => Ok(()),
    }
}

/// Is the filled text one that its place can take?
fn fits(text: &str, place: Place) -> Result<(), String> {
    match place {
        Place::Oid => {
            let arcs: Option<Vec<u32>> = text.split('.').map(|arc| arc.parse().ok()).collect();
            let is_oid = arcs.is_some_and(|arcs| (2..=128).contains(&arcs.len()));
            is_oid
                .then_some(())
                .ok_or_else(|| format!("expected an OID, got {text:?}"))
        }
        Place::Number => {
            let number = text.parse::<i32>().map(drop);
            number.map_err(|_| format!("expected an INTEGER, got {text:?}"))
        }
        Place::Unsigned => {
            let number = text.parse::<u32>().map(drop);
            number.map_err(|_| format!("expected 0 to 4294967295, got {text:?}"))
        }
        Place::Pattern => answer::compile(text).map(drop),
        Place::Hex => {
            let bytes = script::hex(text).map(drop);
            bytes.ok_or_else(|| format!("expected hexadecimal pairs, got {text:?}"))
        }
        Place::Plain | Place::Target | Place::Line | Place::Header | Place::Json | Place::Topic => {
            Ok(())
        }
    }
}
