//! The engine of SNMP profiles: GETs and SETs as the profile says.

use super::batch::Batch;
use super::{AnyAgent, named};
use crate::driver::profile::engine::filled;
use crate::driver::profile::holes::{Filling, Fillings, Template};
use crate::driver::profile::script::{Recorded, Stage, Walk, bytes, quoted};
use crate::driver::profile::{
    Bound, Does, Meter, Profile, Scope, Snmp, Tape, Test, Write, proof, whole_oid,
};
use crate::driver::{Built, Driver, DriverError, States};
use crate::request::{Outlet, Proof, State, Switch};
use crate::settings::{Key, Keys, Settings, SettingsError};
use crate::transport::snmp::{Oid, SnmpError, Value};
use crate::transport::{Attempt, Deadline, Timed, TransportError, TransportErrorKind, printable};
use std::sync::Arc;

/// The keys that every SNMP profile has.
pub(crate) fn keys() -> Vec<Key> {
    named::Reach::rows()
}

/// A PDU as its profile says.
struct Profiled<A> {
    agent: A,
    batch: Batch,
    snmp: Arc<Snmp>,
    bound: Bound,
    /// The PDU has shown the state of an outlet: one that it does not show is not there.
    has_shown: bool,
}

/// The driver of a PDU with this profile; what it says to the PDU is written on the `tape`.
pub(crate) fn build(
    profile: &Arc<Profile>,
    snmp: &Arc<Snmp>,
    settings: &Settings,
    tape: Option<&Tape>,
) -> Result<Built, SettingsError> {
    let reach: named::Reach = settings.keys()?;
    let agent = reach.session(settings)?;
    let batch = Batch::of(reach.varbinds().or(snmp.varbinds).unwrap_or(1));
    let bound = Bound::read(profile, settings)?;
    Ok(match tape.cloned() {
        None => built(agent, batch, snmp, bound),
        // One object a request, as tests have it.
        Some(tape) => built(Taped { agent, tape }, Batch::of(1), snmp, bound),
    })
}

/// The same with an agent that plays a dialogue.
pub(crate) fn played(snmp: &Arc<Snmp>, bound: Bound, stage: Stage) -> Built {
    built(Scripted(stage), Batch::of(1), snmp, bound)
}

fn built<A: AnyAgent + 'static>(agent: A, batch: Batch, snmp: &Arc<Snmp>, bound: Bound) -> Built {
    let outlets = bound.profile.ids.outlets(bound.profile.has_all);
    Built {
        driver: Box::new(Profiled::new(agent, batch, snmp, bound)),
        outlets,
    }
}

impl<A: AnyAgent> Profiled<A> {
    fn new(agent: A, batch: Batch, snmp: &Arc<Snmp>, bound: Bound) -> Self {
        Self {
            agent,
            batch,
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
            Ok(value) => Ok(text_of(value)),
            // SNMPv1's way of saying that there is none.
            Err(SnmpError::Status(2)) => Ok(Err("noSuchName")),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads an object of each of these outlets by one request, as far as the PDU has it; nothing
    /// where each is to be read by itself.
    fn read_all<'o>(
        &mut self,
        template: &Template,
        outlets: impl Iterator<Item = &'o Outlet>,
        deadline: Deadline,
    ) -> Result<Option<Vec<(Outlet, String)>>, DriverError> {
        let objects = outlets.filter_map(|outlet| {
            let fillings = self.bound.fillings(outlet).ok()?;
            Some((outlet, object(template, &fillings).ok()?))
        });
        let (outlets, oids): (Vec<&Outlet>, Vec<Oid>) = objects.unzip();
        let values = self.batch.read(&mut self.agent, &oids, deadline)?;
        let told = |values: Vec<Option<Value>>| {
            let told = outlets.into_iter().zip(values);
            told.filter_map(|(outlet, value)| Some((outlet.clone(), text_of(value?).ok()?)))
                .collect()
        };
        Ok(values.map(told))
    }

    /// What the value that tells its state says of the outlet.
    fn judged(&self, outlet: &Outlet, value: &str) -> Result<State, DriverError> {
        let fillings = self.bound.fillings(outlet)?;
        self.bound.profile.judge.state(value, &fillings)
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

    /// The object that is written, and its value.
    fn binding(
        &mut self,
        write: &Write,
        fillings: &Fillings,
        deadline: Deadline,
    ) -> Result<(Oid, Value), DriverError> {
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
                let list = self.read(&object(oid, fillings)?, deadline)?;
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
        Ok((object(oid, fillings)?, value))
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

/// A value as text; the word for an object that is not there.
fn text_of(value: Value) -> Result<String, &'static str> {
    match value {
        Value::Missing(what) => Err(what),
        Value::Text(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        value => Ok(value.to_string()),
    }
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
        for write in snmp.writes(to) {
            let binding = self.binding(write, &fillings, attempt.deadline())?;
            self.agent.set_all(&[binding], attempt)?;
        }
        Ok(Proof::Reply)
    }

    fn at_once(&self) -> usize {
        let is_one = |writes: &[Write]| match writes {
            [write] => !matches!(write, Write::Edit { .. }),
            _ => false,
        };
        match is_one(&self.snmp.on) && is_one(&self.snmp.off) {
            true => self.batch.most(),
            false => 1,
        }
    }

    fn switch_all(
        &mut self,
        outlets: &[Outlet],
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let snmp = Arc::clone(&self.snmp);
        let mut bindings = Vec::new();
        for outlet in outlets {
            let fillings = self.bound.fillings(outlet)?;
            for write in snmp.writes(to) {
                bindings.push(self.binding(write, &fillings, attempt.deadline())?);
            }
        }
        self.batch.write(&mut self.agent, &bindings, attempt)?;
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

    fn states(
        &mut self,
        outlet: &Outlet,
        others: &[Outlet],
        deadline: Deadline,
    ) -> Result<States, DriverError> {
        let snmp = Arc::clone(&self.snmp);
        if self.bound.profile.tells_all {
            let fillings = self.bound.fillings(outlet)?;
            let (answer, _) = self.shown(&fillings, deadline)?;
            return self.bound.states(&answer, outlet, others);
        }
        let outlets = [outlet].into_iter().chain(others).take(self.batch.most());
        if let Some(first) = snmp.state.first()
            && let Some(told) = self.read_all(first, outlets, deadline)?
        {
            let states = told.into_iter().filter_map(|(of, value)| {
                let state = self.judged(&of, &value).ok()?;
                Some((of, state))
            });
            if let Some(states) = States::among(outlet, states) {
                self.has_shown = true;
                return Ok(states);
            }
        }
        let state = self.state(outlet, deadline)?;
        self.batch.single_is_answered();
        Ok(States::only(state))
    }

    fn count(&mut self, deadline: Deadline) -> Result<Option<usize>, DriverError> {
        let snmp = Arc::clone(&self.snmp);
        let Some(count) = &snmp.count else {
            return Ok(None);
        };
        let count = self.read(&object(count, self.bound.keys())?, deadline)?;
        Ok(count.ok().and_then(|count| count.trim().parse().ok()))
    }

    fn names(
        &mut self,
        outlets: &[Outlet],
        deadline: Deadline,
    ) -> Result<Vec<(Outlet, String)>, DriverError> {
        let snmp = Arc::clone(&self.snmp);
        let Some(names) = &snmp.names else {
            return Ok(Vec::new());
        };
        let mut named = Vec::new();
        let mut left = outlets;
        while let Some(outlet) = left.first() {
            let (now, then) = left.split_at(self.batch.most().min(left.len()));
            if let Some(told) = self.read_all(names, now.iter(), deadline)? {
                let is_end = told.len() < now.len();
                named.extend(told);
                if is_end {
                    break;
                }
                left = then;
                continue;
            }
            let oid = object(names, &self.bound.fillings(outlet)?)?;
            let Ok(name) = self.read(&oid, deadline)? else {
                break;
            };
            self.batch.single_is_answered();
            named.push((outlet.clone(), name));
            left = left.get(1..).unwrap_or_default();
        }
        Ok(named)
    }

    fn rest(&mut self, _deadline: Deadline) {
        self.agent.rest();
    }
}

/// A question or command as a dialogue has it.
fn asked(oid: &Oid, set: Option<&Value>) -> String {
    match set {
        None => format!("get {oid}"),
        Some(Value::Text(text)) => format!("set {oid} s \"{}\"", String::from_utf8_lossy(text)),
        Some(Value::Unsigned(number)) => format!("set {oid} u {number}"),
        Some(value) => format!("set {oid} i {value}"),
    }
}

/// A dialogue with OIDs as short as profiles write them.
pub(crate) fn short(wire: &str) -> String {
    let of_line = |line: &str| line.replacen(" 1.3.6.1.4.1.", " ", 1) + "\n";
    wire.lines().map(of_line).collect()
}

/// An agent whose dialogue is written down.
struct Taped<A> {
    agent: A,
    tape: Tape,
}

impl<A: AnyAgent> AnyAgent for Taped<A> {
    fn get(&mut self, oid: &Oid, deadline: Deadline) -> Result<Value, SnmpError> {
        self.tape.sent(asked(oid, None));
        let answer = self.agent.get(oid, deadline);
        self.tape.answered(match &answer {
            Ok(value) => told(value),
            Err(error) => failed(error),
        });
        answer
    }

    fn get_all(
        &mut self,
        oids: &[Oid],
        deadline: Deadline,
    ) -> Result<Vec<Option<Value>>, SnmpError> {
        let answer = self.agent.get_all(oids, deadline);
        for (at, oid) in oids.iter().enumerate() {
            self.tape.sent(asked(oid, None));
            self.tape.answered(match &answer {
                Ok(values) => values
                    .get(at)
                    .and_then(Option::as_ref)
                    .map_or_else(|| "silence".to_owned(), told),
                Err(error) => failed(error),
            });
        }
        answer
    }

    fn set_all(&mut self, bindings: &[(Oid, Value)], attempt: &Attempt) -> Result<(), SnmpError> {
        let answer = self.agent.set_all(bindings, attempt);
        for (oid, value) in bindings {
            self.tape.sent(asked(oid, Some(value)));
            let written = answer.as_ref().map_or_else(failed, |()| "ok".to_owned());
            self.tape.answered(written);
        }
        answer
    }

    fn rest(&mut self) {
        self.agent.rest();
    }
}

/// A value as a dialogue has it.
fn told(value: &Value) -> String {
    match value {
        Value::Integer(number) => format!("i {number}"),
        Value::Unsigned(number) => format!("i {number}"),
        Value::Text(text) => format!("s {}", quoted(text)),
        Value::Other(text) => format!("s {}", quoted(text.as_bytes())),
        Value::Missing(_) => "missing".to_owned(),
    }
}

fn failed(error: &SnmpError) -> String {
    match error {
        SnmpError::Status(status) => format!("error {status}"),
        SnmpError::Transport(_) | SnmpError::Login(_) | SnmpError::Strange(_) => {
            "silence".to_owned()
        }
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

    fn ask(&self, line: &str) -> Result<Value, SnmpError> {
        let answers = self.0.answers(line).map_err(SnmpError::Strange)?;
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
        self.ask(&asked(oid, None))
    }

    fn get_all(&mut self, oids: &[Oid], _: Deadline) -> Result<Vec<Option<Value>>, SnmpError> {
        let values = oids.iter().map(|oid| self.ask(&asked(oid, None)));
        values.map(|value| value.map(Some)).collect()
    }

    fn set_all(&mut self, bindings: &[(Oid, Value)], attempt: &Attempt) -> Result<(), SnmpError> {
        attempt.sent();
        let mut bindings = bindings.iter();
        bindings.try_for_each(|(oid, value)| self.ask(&asked(oid, Some(value))).map(drop))
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

    fn get_all(
        &mut self,
        oids: &[Oid],
        deadline: Deadline,
    ) -> Result<Vec<Option<Value>>, SnmpError> {
        let values = oids.iter().map(|oid| self.get(oid, deadline).map(Some));
        values.collect()
    }

    fn set_all(&mut self, _: &[(Oid, Value)], _: &Attempt) -> Result<(), SnmpError> {
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
        let named = self.names(std::slice::from_ref(outlet), proof::deadline())?;
        let name = named.into_iter().next().map(|(_, name)| name);
        Ok(name.unwrap_or_else(|| "none".to_owned()))
    }

    fn count_told(&mut self) -> Result<String, DriverError> {
        let count = self.count(proof::deadline())?;
        Ok(count.map_or_else(|| "none".to_owned(), |count| count.to_string()))
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
            played(snmp, bound, stage)
        }),
        Does::Walk {
            walk,
            states,
            names,
            count,
            meters,
        } => {
            let bound = proof::bound(profile, test)?;
            let mut pdu = Profiled::new(Walked(walk.clone()), Batch::of(1), snmp, bound);
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
                hold("the count".to_owned(), count.to_string(), pdu.count_told());
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
