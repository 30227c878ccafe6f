//! How many objects one request may be about: as many as the settings allow, and fewer once the agent
//! has shown that it does not take so many.

use super::AnyAgent;
use crate::transport::snmp::{Oid, SnmpError, Value};
use crate::transport::{Attempt, Deadline, TransportErrorKind};

/// The size of requests to one agent.
#[derive(Debug)]
pub(super) struct Batch {
    most: usize,
    /// The agent has not answered a request about several objects.
    is_doubted: bool,
}

impl Batch {
    pub(super) fn of(most: usize) -> Self {
        Self {
            most: most.max(1),
            is_doubted: false,
        }
    }

    /// So many objects at once.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Reads these objects by one request; nothing where each is to be read by itself.
    pub(super) fn read<A: AnyAgent>(
        &mut self,
        agent: &mut A,
        oids: &[Oid],
        deadline: Deadline,
    ) -> Result<Option<Vec<Option<Value>>>, SnmpError> {
        if oids.len() < 2 || oids.len() > self.most {
            return Ok(None);
        }
        // An agent that drops what is too long for it leaves time for the single request.
        let left = deadline.left("an answer")?;
        match agent.get_all(oids, deadline.within(left / 2)) {
            Ok(values) => Ok(Some(values)),
            Err(SnmpError::Transport(error)) if error.kind == TransportErrorKind::Timeout => {
                self.is_doubted = true;
                Ok(None)
            }
            Err(error) => {
                self.refused(oids.len(), &error);
                match error {
                    SnmpError::Status(_) | SnmpError::Strange(_) => Ok(None),
                    error => Err(error),
                }
            }
        }
    }

    /// Writes these objects by one request.
    pub(super) fn write<A: AnyAgent>(
        &mut self,
        agent: &mut A,
        bindings: &[(Oid, Value)],
        attempt: &Attempt,
    ) -> Result<(), SnmpError> {
        let written = agent.set_all(bindings, attempt);
        if let Err(error) = &written
            && bindings.len() > 1
        {
            self.refused(bindings.len(), error);
        }
        written
    }

    /// The agent has answered a request about one object.
    pub(super) fn single_is_answered(&mut self) {
        if std::mem::take(&mut self.is_doubted) {
            self.shrink(1, "it did not answer");
        }
    }

    /// A request about so many objects has failed.
    fn refused(&mut self, count: usize, error: &SnmpError) {
        match error {
            // tooBig
            SnmpError::Status(1) => self.shrink(count / 2, "tooBig"),
            // An object that is not there, or not for us, is no matter of how many there are.
            SnmpError::Status(2 | 6 | 16..=18) => {}
            SnmpError::Status(_) | SnmpError::Strange(_) => self.shrink(1, "it failed"),
            SnmpError::Transport(_) | SnmpError::Login(_) => {}
        }
    }

    fn shrink(&mut self, most: usize, why: &str) {
        let (before, most) = (self.most, most.max(1));
        if most < before {
            self.most = most;
            log::warn!(
                "the PDU does not take a request about {before} objects ({why}): asking for at most \
                 {most} at once from now on; the key varbinds says how many"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Takes requests about so many objects, and answers others as it is told.
    struct Small {
        takes: usize,
        otherwise: SnmpError,
        asked: Vec<usize>,
    }

    impl AnyAgent for Small {
        fn get(&mut self, oid: &Oid, deadline: Deadline) -> Result<Value, SnmpError> {
            let values = self.get_all(&[*oid], deadline)?;
            Ok(values.into_iter().flatten().next().expect("a value"))
        }

        fn get_all(&mut self, oids: &[Oid], _: Deadline) -> Result<Vec<Option<Value>>, SnmpError> {
            self.asked.push(oids.len());
            match oids.len() <= self.takes {
                true => Ok(oids.iter().map(|_| Some(Value::Integer(1))).collect()),
                false => Err(self.otherwise.clone()),
            }
        }

        fn set_all(&mut self, bindings: &[(Oid, Value)], _: &Attempt) -> Result<(), SnmpError> {
            let deadline = Deadline::after(Duration::from_secs(1));
            let oids: Vec<Oid> = bindings.iter().map(|(oid, _)| *oid).collect();
            self.get_all(&oids, deadline).map(drop)
        }

        fn rest(&mut self) {}
    }

    fn oids(count: u32) -> Vec<Oid> {
        let oids = (0..count).map(|last| format!("1.3.6.1.4.1.99.{last}"));
        oids.map(|oid| oid.parse().expect("an OID")).collect()
    }

    /// The sizes of the requests when 16 objects are read five times, as far as one request does it.
    fn sizes(takes: usize, otherwise: SnmpError) -> Vec<usize> {
        let asked = Vec::new();
        let mut agent = Small {
            takes,
            otherwise,
            asked,
        };
        let mut batch = Batch::of(16);
        let deadline = Deadline::after(Duration::from_secs(30));
        for _ in 0..5 {
            let oids = oids(16);
            let oids = oids.get(..batch.most()).expect("so many");
            let told = batch.read(&mut agent, oids, deadline).expect("answered");
            if told.is_none() {
                let _ = agent.get(&oids[0], deadline);
                batch.single_is_answered();
            }
        }
        agent.asked
    }

    #[test]
    fn requests_shrink_to_what_the_agent_takes() {
        let timeout = || {
            let kind = TransportErrorKind::Timeout;
            crate::transport::TransportError::new(kind, "silent").into()
        };
        assert_eq!(sizes(16, timeout()), [16; 5]);
        assert_eq!(sizes(5, SnmpError::Status(1)), [16, 1, 8, 1, 4, 4, 4]);
        for other in [
            SnmpError::Status(5),
            SnmpError::Strange("?".into()),
            timeout(),
        ] {
            assert_eq!(sizes(8, other), [16, 1, 1, 1, 1, 1]);
        }
        // noSuchName: one object is not there, and the next ones may be.
        assert_eq!(sizes(0, SnmpError::Status(2)).iter().max(), Some(&16));
    }
}
