//! The tests that a profile brings along.

use super::Checker;
use crate::driver::profile::ids::Ids;
use crate::driver::profile::script::{Act, Script, Walk};
use crate::driver::profile::written::{self, Do, File, Scalar};
use crate::driver::profile::{Does, Test};
use crate::request::{Outlet, Switch};
use std::collections::{BTreeMap, BTreeSet};

impl Checker {
    pub(super) fn tests(&mut self, written: &File, ids: &Ids) -> Vec<Test> {
        let mut tests = Vec::new();
        for (at, test) in written.test.iter().enumerate() {
            let path = format!("test.{at}");
            let does = match (&test.wire, &test.walk) {
                (Some(wire), None) => self.wire(&path, test, wire, ids),
                (None, Some(walk)) => self.walk(&path, test, walk, ids),
                _ => {
                    self.fault(&path, "expected one of wire and walk");
                    None
                }
            };
            let keys = test.keys.iter().map(|(key, value)| {
                let value = match value {
                    Scalar::Integer(number) => serde_json::Value::from(*number),
                    Scalar::Text(text) => serde_json::Value::from(text.as_str()),
                };
                (key.clone(), value)
            });
            let keys: BTreeMap<_, _> = keys.collect();
            tests.extend(does.map(|does| Test { path, keys, does }));
        }
        tests
    }

    fn wire(&mut self, path: &str, test: &written::Test, wire: &str, ids: &Ids) -> Option<Does> {
        let outlet = test.outlet.as_ref().map(|id| Outlet::new(id.to_string()));
        let (Some(outlet), Some(action)) = (outlet, test.action) else {
            self.fault(
                path,
                "expected outlet and do = \"on\", \"off\" or \"state\" beside wire",
            );
            return None;
        };
        let script = self.told(&format!("{path}.wire"), Script::parse(wire))?;
        if ids.fillings(&outlet).is_none() {
            self.fault(
                format!("{path}.outlet"),
                format!("expected {}", ids.about()),
            );
        }
        let action = match action {
            Do::On => Act::Switch(Switch::On),
            Do::Off => Act::Switch(Switch::Off),
            Do::State => Act::State,
        };
        Some(Does::Wire {
            outlet,
            action,
            script,
        })
    }

    fn walk(&mut self, path: &str, test: &written::Test, walk: &str, ids: &Ids) -> Option<Does> {
        let walk = self.told(&format!("{path}.walk"), Walk::parse(walk))?;
        let of_outlets = test.states.keys().chain(test.names.keys());
        let strange = of_outlets.filter(|id| ids.fillings(&Outlet::new(id.as_str())).is_none());
        for id in strange.collect::<BTreeSet<_>>() {
            self.fault(path, format!("outlet {id}: expected {}", ids.about()));
        }
        let outlet = |id: &String| Outlet::new(id.as_str());
        let proves = test.states.len() + test.names.len() + test.meters.len();
        if proves == 0 && test.count.is_none() {
            self.fault(path, "expected states, names, count or meters beside walk");
        }
        Some(Does::Walk {
            walk,
            states: test
                .states
                .iter()
                .map(|(id, state)| (outlet(id), *state))
                .collect(),
            names: test
                .names
                .iter()
                .map(|(id, name)| (outlet(id), name.clone()))
                .collect(),
            count: test.count,
            meters: test
                .meters
                .iter()
                .map(|(what, value)| (what.clone(), *value))
                .collect(),
        })
    }
}
