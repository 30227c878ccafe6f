//! The objects of an SNMP agent: what switches, what tells the state, what measures.

use super::{Checker, Of};
use crate::driver::profile::answer::Judge;
use crate::driver::profile::holes::Place;
use crate::driver::profile::ids;
use crate::driver::profile::written::{self, File, Scalar};
use crate::driver::profile::{Meter, Scope, Snmp, Write};

impl Checker {
    pub(super) fn snmp(&mut self, written: &File) -> Option<Snmp> {
        let on = self.writes("on", &written.on);
        let off = self.writes("off", &written.off);
        let gets = written.state.as_ref().and_then(|state| state.get.as_ref());
        let is_one = matches!(gets, Some(written::OneOrMore::One(_)));
        let gets = written::each(gets);
        if written.state.is_some() && gets.is_empty() {
            self.fault("state", "expected get: the object that tells the state");
        }
        let mut state = Vec::new();
        for (at, oid) in gets.iter().enumerate() {
            let path = match is_one {
                true => "state.get".to_owned(),
                false => format!("state.get.{at}"),
            };
            state.extend(self.oid(&path, oid, Of::Outlet));
        }
        let mut read = |key: &str, oid: &Option<String>, of| {
            let oid = oid.as_ref()?;
            self.oid(&format!("outlets.{key}"), oid, of)
        };
        let count = read("count", &written.outlets.count, Of::Pdu);
        let names = read("names", &written.outlets.names, Of::Outlet);
        Some(Snmp {
            on,
            off,
            state,
            count,
            names,
            varbinds: written
                .limits
                .varbinds
                .and_then(|most| most.try_into().ok()),
        })
    }

    fn writes(&mut self, path: &str, action: &written::Action) -> Vec<Write> {
        let mut writes = Vec::new();
        for (at, set) in action.set.iter().flatten().enumerate() {
            let path = format!("{path}.set.{at}");
            let oid = self.oid(&format!("{path}.oid"), &set.oid, Of::Outlet);
            let integer = |value: &Scalar| (value.to_string(), Place::Number, "i");
            let unsigned = |value: &Scalar| (value.to_string(), Place::Unsigned, "u");
            let text = |value: &String| (value.clone(), Place::Plain, "s");
            let values = [
                set.i.as_ref().map(integer),
                set.u.as_ref().map(unsigned),
                set.s.as_ref().map(text),
            ];
            let mut values = values.into_iter().flatten();
            let (Some((value, place, key)), None) = (values.next(), values.next()) else {
                let expected = "expected one value: i = INTEGER, u = Gauge32 or s = OCTET STRING";
                self.fault(&path, expected);
                continue;
            };
            let value = self.text(&format!("{path}.{key}"), &value, place, Of::Outlet);
            let write = oid.zip(value).map(|(oid, value)| match place {
                Place::Number => Write::Integer { oid, value },
                Place::Unsigned => Write::Unsigned { oid, value },
                _ => Write::Text { oid, value },
            });
            writes.extend(write);
        }
        if let Some(edit) = &action.edit {
            let path = format!("{path}.edit");
            let oid = self.oid(&format!("{path}.oid"), &edit.oid, Of::Outlet);
            let field = self.text(
                &format!("{path}.field"),
                &edit.field,
                Place::Plain,
                Of::Outlet,
            );
            let value = self.text(
                &format!("{path}.value"),
                &edit.value,
                Place::Plain,
                Of::Outlet,
            );
            if edit.split.is_empty() {
                self.fault(format!("{path}.split"), "expected a separator");
            }
            if let (Some(oid), Some(field), Some(value)) = (oid, field, value) {
                writes.push(Write::Edit {
                    oid,
                    split: edit.split.clone(),
                    field,
                    value,
                });
            }
        }
        if writes.len() > 32 {
            self.fault(path, "expected at most 32 steps");
        }
        if action.set.as_ref().is_some_and(Vec::is_empty) {
            self.fault(format!("{path}.set"), "expected at least one");
        }
        writes
    }

    pub(super) fn meters(&mut self, written: &File) -> Vec<Meter> {
        let mut meters = Vec::new();
        let scopes = [
            (Scope::Outlet, "outlet", &written.meter.outlet, Of::Outlet),
            (Scope::Bank, "bank", &written.meter.bank, Of::Bank),
            (Scope::Pdu, "pdu", &written.meter.pdu, Of::Pdu),
        ];
        for (scope, name, quantities, of) in scopes {
            let all = [
                ("watts", &quantities.watts),
                ("amps", &quantities.amps),
                ("volts", &quantities.volts),
                ("va", &quantities.va),
                ("wh", &quantities.wh),
                ("hertz", &quantities.hertz),
                ("factor", &quantities.factor),
            ];
            for (quantity, written) in all {
                let Some(written) = written else { continue };
                let path = format!("meter.{name}.{quantity}");
                meters.extend(self.meter(&path, scope, quantity, written, of));
            }
            if let Some(range) = &quantities.range {
                let path = format!("meter.{name}.range");
                self.told(&path, ids::ranges(range));
                if scope != Scope::Bank {
                    self.fault(path, "only banks have numbers of their own");
                }
            }
        }
        meters
    }

    fn meter(
        &mut self,
        path: &str,
        scope: Scope,
        quantity: &'static str,
        written: &written::Quantity,
        of: Of,
    ) -> Option<Meter> {
        let Some(get) = &written.get else {
            self.fault(path, "expected get: the object that holds the value");
            return None;
        };
        let scale = written.scale.unwrap_or(1.0);
        if !(scale.is_finite() && scale > 0.0) {
            self.fault(format!("{path}.scale"), "expected a number above 0");
        }
        let source = self.oid(&format!("{path}.get"), get, of);
        let decimals = match &written.decimals {
            None => None,
            Some(decimals) => Some(self.oid(&format!("{path}.decimals"), decimals, of)?),
        };
        let takes = self.takes(path, written::each(written.take.as_ref()), of);
        Some(Meter {
            scope,
            quantity,
            source: source?,
            judge: Judge {
                takes,
                ..Judge::default()
            },
            scale,
            decimals,
        })
    }
}
