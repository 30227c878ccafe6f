//! Drivers over SNMP: the table of their specs, and what they share: an outlet is an object that is
//! written, and its state an object that is read.

mod batch;
mod control;
pub(super) mod engine;
mod fixed;
pub(super) mod look;
mod mibs;
mod named;
mod objects;
mod protocols;

use super::{
    By, DEVICE_TIMEOUT, Driver, DriverError, DriverSpec, Has, Outlets, SHOWS_WITHIN, States,
};
use crate::request::{Outlet, Proof, State, Switch};
use crate::transport::snmp::{Agent, Oid, SnmpError, Value, is_refusal, status_text};
use crate::transport::{Attempt, Deadline};
use batch::Batch;
use control::{Control, Reading};
use std::sync::Arc;

/// What the key `community` is for.
const COMMUNITY: &str = "the community that may write";

/// Every driver name of this transport.
pub(super) static SPECS: &[DriverSpec] = &[
    DriverSpec {
        names: &["cyberpower81001", "cyberpower41001"],
        any_case: false,
        models: "CyberPower PDU81001, PDU41001 and others with ePDUOutletControlTable (CPS-MIB)",
        transport: "snmp",
        outlets: Has::Within(1, u32::MAX),
        reads_back: true,
        verified_by: "frames of the Python program; simulator; snmpd as agent. UNVERIFIED on \
                      hardware: that every model has ePDUOutletStatusTable (the control object is \
                      read where it is missing)",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(fixed::build_cyberpower),
    },
    DriverSpec {
        names: &["ip9258"],
        any_case: false,
        models: "Aviosys IP Power 9258",
        transport: "snmp",
        outlets: Has::Numbers(1, 4),
        reads_back: true,
        verified_by: "frames of the Python program; simulator. UNVERIFIED on hardware: reading the \
                      control object back (known from another program)",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(fixed::build_ip9258),
    },
    DriverSpec {
        names: &["snmpv1"],
        any_case: false,
        models: "any PDU or switch with SNMPv2c or v1: v2c is tried first, as the Python program \
                 sent nothing else under this name, then v1",
        transport: "snmp",
        outlets: Has::Told(OUTLETS),
        reads_back: true,
        verified_by: VERIFIED,
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(named::build_v1),
    },
    DriverSpec {
        names: &["snmpv2c"],
        any_case: false,
        models: "any PDU or switch with SNMPv2c",
        transport: "snmp",
        outlets: Has::Told(OUTLETS),
        reads_back: true,
        verified_by: VERIFIED,
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(named::build_v2c),
    },
    DriverSpec {
        names: &["snmpv3"],
        any_case: false,
        models: "any PDU or switch with SNMPv3 (User-based Security Model)",
        transport: "snmp",
        outlets: Has::Told(OUTLETS),
        reads_back: true,
        verified_by: "net-snmp's snmpd with every pair of authentication and privacy protocols; \
                      simulator. Not offered: 3DES. UNVERIFIED: Cisco's key extension, agents that \
                      announce messages larger than 65507 bytes, agents that keep their boot \
                      counter at 0",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(named::build_v3),
    },
];

const OUTLETS: &str = "a number, or numbers joined by dots where the table has several indices";
const VERIFIED: &str = "frames of the Python program; net-snmp's snmpd; simulator. The OIDs of \
                        named objects are from the makers' MIB files; UNVERIFIED on hardware, \
                        mostly the index depth of MasterSwitch Plus, and Tripp Lite, Emerson, IBM, \
                        ATEN and Teltronix values";

/// Whoever answers GET and SET: an agent, or a test in its place.
trait AnyAgent: Send {
    fn get(&mut self, oid: &Oid, deadline: Deadline) -> Result<Value, SnmpError>;
    fn get_all(
        &mut self,
        oids: &[Oid],
        deadline: Deadline,
    ) -> Result<Vec<Option<Value>>, SnmpError>;
    fn set_all(&mut self, bindings: &[(Oid, Value)], attempt: &Attempt) -> Result<(), SnmpError>;
    fn rest(&mut self);
}

impl AnyAgent for Agent {
    fn get(&mut self, oid: &Oid, deadline: Deadline) -> Result<Value, SnmpError> {
        Agent::get(self, oid, deadline)
    }

    fn get_all(
        &mut self,
        oids: &[Oid],
        deadline: Deadline,
    ) -> Result<Vec<Option<Value>>, SnmpError> {
        Agent::get_all(self, oids, deadline)
    }

    fn set_all(&mut self, bindings: &[(Oid, Value)], attempt: &Attempt) -> Result<(), SnmpError> {
        Agent::set_all(self, bindings, attempt)
    }

    fn rest(&mut self) {
        Agent::rest(self);
    }
}

/// A PDU whose outlets are SNMP objects.
struct SnmpPdu {
    agent: Agent,
    batch: Batch,
    control: Arc<Control>,
    /// The PDU has shown the control object of an outlet: one that it does not show is not there.
    shows_controls: bool,
}

impl SnmpPdu {
    fn build(agent: Agent, control: Control, most: usize) -> (Box<dyn Driver>, Outlets) {
        let control = Arc::new(control);
        let driver = Self {
            agent,
            batch: Batch::of(most),
            control: Arc::clone(&control),
            shows_controls: false,
        };
        let counted = control.is_counted();
        let outlets = Outlets::rule(move |outlet| control.find(outlet));
        let outlets = match counted {
            true => outlets.counted_from(1),
            false => outlets,
        };
        (Box::new(driver), outlets)
    }
}

impl SnmpPdu {
    /// The states of the outlet, and of as many `others` as one request may ask for; nothing where
    /// each is to be read by itself.
    fn read_at_once(
        &mut self,
        outlet: &Outlet,
        others: &[Outlet],
        deadline: Deadline,
    ) -> Result<Option<States>, DriverError> {
        let outlets = [outlet].into_iter().chain(others).take(self.batch.most());
        let readings = outlets.filter_map(|outlet| {
            let plan = self.control.plan(outlet).ok()?;
            let reading = plan.readings.into_iter().next();
            Some((outlet, reading.filter(|_| plan.item.is_none())?))
        });
        let readings: Vec<(&Outlet, Reading)> = readings.collect();
        let oids: Vec<Oid> = readings.iter().map(|(_, reading)| reading.oid).collect();
        let Some(values) = self.batch.read(&mut self.agent, &oids, deadline)? else {
            return Ok(None);
        };
        let told = readings
            .iter()
            .zip(values)
            .filter_map(|((of, reading), value)| {
                let value = value.filter(|value| !matches!(value, Value::Missing(_)))?;
                Some(((*of).clone(), reading.state(&value)))
            });
        Ok(States::among(outlet, told))
    }
}

impl Driver for SnmpPdu {
    fn switch(
        &mut self,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let plan = self.control.plan(outlet)?;
        let (oid, value) = plan.write(to);
        let value = match plan.item {
            None => Value::Integer(value),
            Some(item) => {
                let mut list = read_list(&self.agent.get(&oid, attempt.deadline())?)?;
                *item_of(&mut list, item)? = value;
                let list: Vec<String> = list.iter().map(i64::to_string).collect();
                Value::Text(list.join(",").into_bytes())
            }
        };
        self.agent.set(&oid, &value, attempt)?;
        Ok(Proof::Reply)
    }

    fn at_once(&self) -> usize {
        match &*self.control {
            Control::List { .. } => 1,
            Control::Pattern(_) | Control::Column(_) | Control::Scalars(_) => self.batch.most(),
        }
    }

    fn switch_all(
        &mut self,
        outlets: &[Outlet],
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let binding = |outlet| {
            let (oid, value) = self.control.plan(outlet)?.write(to);
            Ok((oid, Value::Integer(value)))
        };
        let bindings: Result<Vec<_>, DriverError> = outlets.iter().map(binding).collect();
        self.batch.write(&mut self.agent, &bindings?, attempt)?;
        Ok(Proof::Reply)
    }

    fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
        let plan = self.control.plan(outlet)?;
        let mut missing = None;
        for reading in &plan.readings {
            let is_control = reading.oid == plan.on.0;
            let what = match self.agent.get(&reading.oid, deadline) {
                Ok(Value::Missing(what)) => what,
                // SNMPv1's way of saying the same.
                Err(SnmpError::Status(2)) => "noSuchName",
                read => {
                    let value = match plan.item {
                        None => read?,
                        Some(item) => Value::Integer(*item_of(&mut read_list(&read?)?, item)?),
                    };
                    self.shows_controls |= is_control;
                    return Ok(reading.state(&value));
                }
            };
            if is_control && self.shows_controls {
                return Err(DriverError::NoSuchOutlet {
                    expected: format!("one that the PDU has (it answers {what})"),
                });
            }
            missing = Some(what);
        }
        Err(DriverError::CannotRead(format!(
            "the PDU has no object that tells it ({})",
            missing.unwrap_or("none is known")
        )))
    }

    fn states(
        &mut self,
        outlet: &Outlet,
        others: &[Outlet],
        deadline: Deadline,
    ) -> Result<States, DriverError> {
        if let Some(states) = self.read_at_once(outlet, others, deadline)? {
            return Ok(states);
        }
        let state = self.state(outlet, deadline)?;
        self.batch.single_is_answered();
        Ok(States::only(state))
    }

    fn rest(&mut self, _deadline: Deadline) {
        self.agent.rest();
    }

    fn warning(&self) -> Option<(&'static str, String)> {
        let Control::Pattern(pattern) = &*self.control else {
            return None;
        };
        (!pattern.text.contains('*')).then(|| {
            let what = "has no * for the outlet: whichever outlet is asked for, this one object is \
                        switched";
            ("oid", what.to_owned())
        })
    }
}

/// The outlets of a text such as `1,0,-1`.
fn read_list(value: &Value) -> Result<Vec<i64>, DriverError> {
    let list = match value {
        Value::Text(text) => std::str::from_utf8(text).ok(),
        Value::Integer(_) | Value::Unsigned(_) | Value::Missing(_) | Value::Other(_) => None,
    };
    list.and_then(|list| {
        list.trim_end_matches([' ', ',', '\0'])
            .split(',')
            .map(|item| item.trim().parse().ok())
            .collect()
    })
    .ok_or_else(|| DriverError::Unexpected {
        expected: "numbers separated by commas".into(),
        got: value.to_string(),
    })
}

/// One outlet of a list; -1 stands for one that the PDU has not.
fn item_of(list: &mut [i64], item: usize) -> Result<&mut i64, DriverError> {
    let present = list.iter().filter(|state| **state != -1).count();
    list.get_mut(item)
        .filter(|state| **state != -1)
        .ok_or_else(|| DriverError::NoSuchOutlet {
            expected: format!("one of the {present} outlets that the PDU lists"),
        })
}

impl Reading {
    /// What the value read means.
    fn state(&self, value: &Value) -> State {
        let Value::Integer(number) = *value else {
            return State::Unknown(format!("{value} at {}", self.oid));
        };
        if self.on.contains(&number) {
            State::On
        } else if self.off.contains(&number) {
            State::Off
        } else {
            let name = self.others.iter().find(|(other, _)| *other == number);
            State::Unknown(match name {
                Some((_, name)) => format!("{name}, {number}"),
                None => format!("{number} at {}", self.oid),
            })
        }
    }
}

impl From<SnmpError> for DriverError {
    fn from(error: SnmpError) -> Self {
        match error {
            SnmpError::Transport(error) => Self::Transport(error),
            SnmpError::Login(words) => Self::LoginRefused(words),
            SnmpError::Strange(what) => Self::Unexpected {
                expected: "an answer about the object asked for".into(),
                got: what,
            },
            SnmpError::Status(16) => Self::LoginRefused(status_text(16)),
            SnmpError::Status(status) if is_refusal(status) => Self::Refused(status_text(status)),
            SnmpError::Status(status) => Self::Unexpected {
                expected: "noError (0)".into(),
                got: status_text(status),
            },
        }
    }
}
