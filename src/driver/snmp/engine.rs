//! The engine of SNMP profiles: GETs and SETs as the profile says.

use super::named;
use crate::driver::profile::engine::filled;
use crate::driver::profile::holes::{Filling, Fillings, Template};
use crate::driver::profile::script::{Recorded, Stage, Walk, bytes};
use crate::driver::profile::{
    Bound, Does, Meter, Profile, Scope, Snmp, Test, Write, proof, whole_oid,
};
use crate::driver::{Built, Driver, DriverError};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Key, Keys, Settings, SettingsError};
use crate::transport::snmp::{Agent, Oid, SnmpError, Value};
use crate::transport::{Attempt, Deadline, Timed, TransportError, TransportErrorKind, printable};
use std::sync::Arc;

/// The keys that every SNMP profile has.
pub(crate) fn keys() -> Vec<Key> {
    named::Reach::rows()
}

/// Whoever answers GET and SET: an agent, or a test in its place.
trait AnyAgent: Send {
    fn get(&mut self, oid: &Oid, deadline: Deadline) -> Result<Value, SnmpError>;
    fn set(&mut self, oid: &Oid, value: &Value, attempt: &Attempt) -> Result<(), SnmpError>;
    fn rest(&mut self);
}

impl AnyAgent for Agent {
    fn get(&mut self, oid: &Oid, deadline: Deadline) -> Result<Value, SnmpError> {
        Agent::get(self, oid, deadline)
    }

    fn set(&mut self, oid: &Oid, value: &Value, attempt: &Attempt) -> Result<(), SnmpError> {
        Agent::set(self, oid, value, attempt)
    }

    fn rest(&mut self) {
        Agent::rest(self);
    }
}

/// A PDU as its profile says.
struct Profiled<A> {
    agent: A,
    snmp: Arc<Snmp>,
    bound: Bound,
    /// The PDU has shown the state of an outlet: one that it does not show is not there.
    has_shown: bool,
}

/// The driver of a PDU with this profile.
pub(crate) fn build(
    profile: &Arc<Profile>,
    snmp: &Arc<Snmp>,
    settings: &Settings,
) -> Result<Built, SettingsError> {
    let reach: named::Reach = settings.keys()?;
    let session = reach.session(settings)?;
    Ok(built(session, snmp, Bound::read(profile, settings)?))
}

fn built<A: AnyAgent + 'static>(agent: A, snmp: &Arc<Snmp>, bound: Bound) -> Built {
    let outlets = bound.profile.ids.outlets(bound.profile.has_all);
    Built {
        driver: Box::new(Profiled::new(agent, snmp, bound)),
        outlets,
    }
}

impl<A: AnyAgent> Profiled<A> {
    fn new(agent: A, snmp: &Arc<Snmp>, bound: Bound) -> Self {
        Self {
            agent,
            snmp: Arc::clone(snmp),
            bound,
            has_shown: false,
        }
    }

    /// Reads one object; nothing where the PDU has none.
    fn read(
        &mut self,
        oid: &Oid,
        deadline: Deadline,
    ) -> Result<Result<String, &'static str>, DriverError> {
        match self.agent.get(oid, deadline) {
            Ok(Value::Missing(what)) => Ok(Err(what)),
            // SNMPv1's way of saying the same.
            Err(SnmpError::Status(2)) => Ok(Err("noSuchName")),
            Ok(Value::Text(text)) => Ok(Ok(String::from_utf8_lossy(&text).into_owned())),
            Ok(value) => Ok(Ok(value.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the first of `oids` that the PDU has.
    fn first(&mut self, oids: &[Oid], deadline: Deadline) -> Result<(String, Oid), DriverError> {
        let mut missing = "the profile names none";
        for oid in oids {
            match self.read(oid, deadline)? {
                Ok(value) => return Ok((value, *oid)),
                Err(what) => missing = what,
            }
        }
        Err(DriverError::CannotRead(format!(
            "the PDU has no object that tells it ({missing})"
        )))
    }

    /// The value that tells the state of the outlet, and where it was read.
    fn shown(
        &mut self,
        fillings: &Fillings,
        deadline: Deadline,
    ) -> Result<(String, Oid), DriverError> {
        let state = self.snmp.state.iter();
        let oids: Result<Vec<Oid>, _> = state.map(|oid| object(oid, fillings)).collect();
        self.first(&oids?, deadline)
    }

    fn write(
        &mut self,
        write: &Write,
        fillings: &Fillings,
        attempt: &Attempt,
    ) -> Result<(), DriverError> {
        let (oid, value) = match write {
            Write::Integer { oid, value } => {
                let value = filled(value, fillings)?;
                let number = value
                    .parse()
                    .map_err(|_| DriverError::Setup(format!("no INTEGER: {value:?}")))?;
                (oid, Value::Integer(number))
            }
            Write::Unsigned { oid, value } => {
                let value = filled(value, fillings)?;
                let number = value.parse();
                let wrong = |_| DriverError::Setup(format!("no Gauge32: {value:?}"));
                (oid, Value::Unsigned(number.map_err(wrong)?))
            }
            Write::Text { oid, value } => (oid, Value::Text(filled(value, fillings)?.into_bytes())),
            Write::Edit {
                oid,
                split,
                field,
                value,
            } => {
                let list = self.read(&object(oid, fillings)?, attempt.deadline())?;
                let list = list.map_err(|what| {
                    DriverError::CannotRead(format!("the list of outlets: {what}"))
                })?;
                let (field, value) = (filled(field, fillings)?, filled(value, fillings)?);
                (
                    oid,
                    Value::Text(edited(&list, split, &field, &value)?.into_bytes()),
                )
            }
        };
        self.agent.set(&object(oid, fillings)?, &value, attempt)?;
        Ok(())
    }
}

/// The list with another value in one of its fields.
fn edited(list: &str, split: &str, field: &str, value: &str) -> Result<String, DriverError> {
    let mut fields: Vec<&str> = list.split(split).collect();
    let length = fields.len();
    let at = field.trim().parse::<usize>().ok();
    let place = at.and_then(|at| fields.get_mut(at));
    let place = place.ok_or_else(|| DriverError::Unexpected {
        expected: format!("a list with a field {field}, counted from 0"),
        got: format!("{length} in {}", printable(list.as_bytes())),
    })?;
    *place = value;
    Ok(fields.join(split))
}

fn object(oid: &Template, fillings: &Fillings) -> Result<Oid, DriverError> {
    let text = filled(oid, fillings)?;
    text.parse()
        .map_err(|_| DriverError::Setup(format!("no OID: {text:?}")))
}

impl<A: AnyAgent> Driver for Profiled<A> {
    fn proofs(&self) -> &'static [Proof] {
        self.bound.profile.proofs
    }

    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let fillings = self.bound.fillings(outlet)?;
        let snmp = Arc::clone(&self.snmp);
        let writes = match to {
            Switch::On => &snmp.on,
            Switch::Off => &snmp.off,
        };
        for write in writes {
            self.write(write, &fillings, attempt)?;
        }
        Ok(Proof::Reply)
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let fillings = self.bound.fillings(outlet)?;
        let (value, oid) = match self.shown(&fillings, deadline) {
            Err(DriverError::CannotRead(why)) if self.has_shown => {
                let expected = format!("an outlet that the PDU shows; of this one {why}");
                return Err(DriverError::NoSuchOutlet { expected });
            }
            shown => shown?,
        };
        self.has_shown = true;
        Ok(match self.bound.profile.judge.state(&value, &fillings)? {
            State::Unknown(value) => State::Unknown(format!("{value} at {oid}")),
            known => known,
        })
    }

    fn rest(&mut self, _deadline: Deadline) {
        self.agent.rest();
    }
}

/// An agent that plays a dialogue: `> get OID`, `> set OID i 2`, `< i 2`, `< s "text"`, `< ok`,
/// `< missing`, `< error 17`, `< silence`.
struct Scripted(Stage);

impl Scripted {
    /// A line as it is compared: with whole OIDs.
    fn plain(line: &str) -> String {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if let Some(oid) = words.get_mut(1) {
            *oid = whole_oid(oid);
        }
        words.join(" ")
    }

    fn ask(&self, asked: &str) -> Result<Value, SnmpError> {
        let answers = self.0.answers(asked).map_err(SnmpError::Strange)?;
        let answer = answers.first().map_or("silence", String::as_str);
        let (word, rest) = answer.split_once(' ').unwrap_or((answer, ""));
        let value = match word {
            "ok" => Some(Ok(Value::Integer(0))),
            "i" => rest.parse().ok().map(|number| Ok(Value::Integer(number))),
            "s" => bytes(rest).map(|text| Ok(Value::Text(text))),
            "missing" => Some(Ok(Value::Missing("noSuchInstance"))),
            "error" => rest
                .parse()
                .ok()
                .map(|status| Err(SnmpError::Status(status))),
            "silence" => {
                let kind = TransportErrorKind::Timeout;
                Some(Err(
                    TransportError::new(kind, "the test's agent is silent").into()
                ))
            }
            _ => None,
        };
        let expected = "expected ok, i, s, missing, error or silence";
        value.unwrap_or_else(|| Err(SnmpError::Strange(format!("{expected}, got < {answer}"))))
    }
}

impl AnyAgent for Scripted {
    fn get(&mut self, oid: &Oid, _: Deadline) -> Result<Value, SnmpError> {
        self.ask(&format!("get {oid}"))
    }

    fn set(&mut self, oid: &Oid, value: &Value, attempt: &Attempt) -> Result<(), SnmpError> {
        let value = match value {
            Value::Text(text) => format!("s \"{}\"", String::from_utf8_lossy(text)),
            Value::Unsigned(number) => format!("u {number}"),
            value => format!("i {value}"),
        };
        attempt.sent();
        self.ask(&format!("set {oid} {value}")).map(drop)
    }

    fn rest(&mut self) {}
}

/// An agent that has the objects of a walk, and takes no SET.
struct Walked(Walk);

impl AnyAgent for Walked {
    fn get(&mut self, oid: &Oid, _: Deadline) -> Result<Value, SnmpError> {
        Ok(match self.0.0.get(&oid.to_string()) {
            Some(Recorded::Integer(number)) => Value::Integer(*number),
            Some(Recorded::Text(text)) => Value::Text(text.clone()),
            None => Value::Missing("noSuchInstance"),
        })
    }

    fn set(&mut self, _: &Oid, _: &Value, _: &Attempt) -> Result<(), SnmpError> {
        Err(SnmpError::Status(17))
    }

    fn rest(&mut self) {}
}

/// What a test reads of a walk beside states.
impl Profiled<Walked> {
    fn meaning(&mut self, outlet: &Outlet) -> Result<String, DriverError> {
        let fillings = self.bound.fillings(outlet)?;
        let (value, _) = self.shown(&fillings, proof::deadline())?;
        let judge = &self.bound.profile.judge;
        let value = judge.value(&value, &fillings)?;
        let meaning = judge.meaning(&value);
        Ok(meaning.map_or_else(
            || format!("no meaning for {value}"),
            |meaning| meaning.to_string(),
        ))
    }

    fn name(&mut self, outlet: &Outlet) -> Result<String, DriverError> {
        let fillings = self.bound.fillings(outlet)?;
        let snmp = Arc::clone(&self.snmp);
        self.text(snmp.names.as_ref(), &fillings)
    }

    fn count(&mut self) -> Result<String, DriverError> {
        let fillings = self.bound.keys().clone();
        let snmp = Arc::clone(&self.snmp);
        self.text(snmp.count.as_ref(), &fillings)
    }

    fn text(&mut self, oid: Option<&Template>, fillings: &Fillings) -> Result<String, DriverError> {
        let oid = oid.map(|oid| object(oid, fillings)).transpose()?;
        let oids: Vec<Oid> = oid.into_iter().collect();
        self.first(&oids, proof::deadline()).map(|(text, _)| text)
    }

    /// The value of `outlet 2 watts`, `bank 1 amps` or `pdu watts`.
    fn meter(&mut self, what: &str) -> Result<f64, DriverError> {
        let no = || DriverError::Setup(format!("the profile measures no {what}"));
        let words: Vec<&str> = what.split_whitespace().collect();
        let (scope, id, quantity) = match words.as_slice() {
            ["outlet", id, quantity] => (Scope::Outlet, *id, *quantity),
            ["bank", id, quantity] => (Scope::Bank, *id, *quantity),
            ["pdu", quantity] => (Scope::Pdu, "", *quantity),
            _ => return Err(no()),
        };
        let fillings = match scope {
            Scope::Outlet => self.bound.fillings(&Outlet::new(id))?,
            Scope::Bank => {
                let bank = id.parse().map_err(|_| no())?;
                let mut fillings = self.bound.keys().clone();
                fillings.insert("bank".to_owned(), Filling::Number(bank));
                fillings
            }
            Scope::Pdu => self.bound.keys().clone(),
        };
        let profile = Arc::clone(&self.bound.profile);
        let mut meters = profile.meters.iter();
        let meter = meters.find(|meter| meter.scope == scope && meter.quantity == quantity);
        let meter: &Meter = meter.ok_or_else(no)?;
        let raw = self.text(Some(&meter.source), &fillings)?;
        let raw = meter.judge.value(&raw, &fillings)?;
        let value: f64 = raw.trim().parse().map_err(|_| DriverError::Unexpected {
            expected: "a number".to_owned(),
            got: printable(raw.as_bytes()),
        })?;
        let decimals = match &meter.decimals {
            None => 0,
            Some(decimals) => {
                let decimals = self.text(Some(decimals), &fillings)?;
                decimals.trim().parse::<i32>().unwrap_or(0).clamp(-12, 12)
            }
        };
        Ok(value * meter.scale / 10_f64.powi(decimals))
    }
}

/// Runs one of the profile's tests; says what went another way.
pub(crate) fn prove(profile: &Arc<Profile>, snmp: &Arc<Snmp>, test: &Test) -> Result<(), String> {
    match &test.does {
        Does::Wire { .. } => proof::play(profile, test, Scripted::plain, |bound, stage| {
            built(Scripted(stage), snmp, bound)
        }),
        Does::Walk {
            walk,
            states,
            names,
            count,
            meters,
        } => {
            let bound = proof::bound(profile, test)?;
            let mut pdu = Profiled::new(Walked(walk.clone()), snmp, bound);
            let mut wrong = Vec::new();
            let mut hold = |what: String, expected: String, got: Result<String, DriverError>| {
                let got = got.unwrap_or_else(|error| format!("error: {error}"));
                if got != expected {
                    wrong.push(format!("{what}: expected {expected}, got {got}"));
                }
            };
            for (outlet, meaning) in states {
                hold(
                    format!("outlet {outlet}"),
                    meaning.to_string(),
                    pdu.meaning(outlet),
                );
            }
            for (outlet, name) in names {
                hold(
                    format!("the name of outlet {outlet}"),
                    name.clone(),
                    pdu.name(outlet),
                );
            }
            if let Some(count) = count {
                hold("the count".to_owned(), count.to_string(), pdu.count());
            }
            for (what, expected) in meters {
                let got = pdu.meter(what).map(|value| format!("{value:.3}"));
                hold(what.clone(), format!("{expected:.3}"), got);
            }
            match wrong.is_empty() {
                true => Ok(()),
                false => Err(wrong.join("; ")),
            }
        }
    }
}
