//! An SNMP agent that shows the objects of a walk, and takes nothing.

use super::ber::{self, Binding};
use super::stream::Pdu;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

/// A value as it is sent: its tag and its content.
type Value = (u8, Vec<u8>);

/// The agent.
#[derive(Default)]
pub(crate) struct Walk {
    objects: BTreeMap<Vec<u32>, Value>,
    is_written: bool,
}

impl Walk {
    /// The objects of `text`: `OID|type|value` a line.
    pub(crate) fn of(text: &str) -> Self {
        let lines = text.lines().map(str::trim_start);
        let read = lines.filter_map(|line| {
            let mut fields = line.splitn(3, '|');
            let (oid, kind, value) = (fields.next()?, fields.next()?, fields.next()?);
            // A value that snmpsim varies: where it begins.
            let (kind, varied) = kind.split_once(':').unwrap_or((kind, ""));
            let begins = |part: &&str| part.starts_with("initial=") || part.starts_with("value=");
            let value = match varied {
                "" => value,
                _ => value.split(',').find(begins)?.split_once('=')?.1,
            };
            Some((arcs(oid)?, value_of(kind, value)?))
        });
        Self {
            objects: read.collect(),
            is_written: false,
        }
    }

    fn asked(&self, tag: u8, (oid, _): Binding) -> Binding {
        let found = match tag {
            // GETNEXT
            0xa1 => {
                let mut behind = self.objects.range((Excluded(oid.clone()), Unbounded));
                return match behind.next() {
                    Some((oid, value)) => (oid.clone(), value.clone()),
                    None => (oid, (0x82, Vec::new())),
                };
            }
            _ => self.objects.get(&oid).cloned(),
        };
        // noSuchInstance
        (oid, found.unwrap_or((0x81, Vec::new())))
    }
}

impl Pdu for Walk {
    fn answer(&mut self, input: &mut Vec<u8>, _: bool) -> Option<Vec<u8>> {
        let request = std::mem::take(input);
        Some(ber::carried_out(&request, |tag, asked| {
            self.is_written |= tag == 0xa3;
            let answers = asked.into_iter().map(|binding| self.asked(tag, binding));
            (0, answers.collect())
        }))
    }

    /// Of `written`: has anybody written anything?
    fn is_on(&self, what: &str) -> Option<bool> {
        (what == "written").then_some(self.is_written)
    }
}

fn arcs(oid: &str) -> Option<Vec<u32>> {
    let arcs = oid.trim_start_matches('.').split('.');
    arcs.map(|arc| arc.parse().ok()).collect()
}

fn value_of(kind: &str, value: &str) -> Option<Value> {
    let number = |tag| {
        let number: i64 = value.trim().parse().ok()?;
        let bytes = number.to_be_bytes();
        let first = (0..7).find(|at| {
            let [byte, next] = [bytes[*at], bytes[at + 1]];
            !(byte == 0 && next < 0x80 || byte == 0xff && next >= 0x80)
        });
        Some((tag, bytes[first.unwrap_or(7)..].to_vec()))
    };
    match kind {
        "2" => number(2),
        "65" => number(0x41),
        "66" => number(0x42),
        "67" => number(0x43),
        "70" => number(0x46),
        "6" => Some((6, ber::content(&arcs(value.trim())?))),
        "4x" => {
            let pairs = value.trim().as_bytes().chunks(2);
            let bytes = pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
            Some((4, bytes.collect::<Option<_>>()?))
        }
        "4" => Some((4, value.as_bytes().to_vec())),
        _ => None,
    }
}
