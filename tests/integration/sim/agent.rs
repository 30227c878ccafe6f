//! An SNMP agent with a table of objects, as a test or a recorded walk has them.

use super::ber::{self, Binding};
use super::port::{self, Served};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

/// The tags of requests.
pub(crate) const GET: u8 = 0xa0;
pub(crate) const GETNEXT: u8 = 0xa1;
pub(crate) const SET: u8 = 0xa3;

/// What the agent has, and what it was asked.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) objects: BTreeMap<Vec<u32>, (u8, Vec<u8>)>,
    /// What it does with a request before it carries it out; nothing usual.
    pub(crate) mood: Mood,
    /// The tag of each request, and its objects.
    pub(crate) requests: Vec<(u8, Vec<Vec<u32>>)>,
}

/// What is unusual about the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// It answers a request about more objects with tooBig.
    TooBigAbove(usize),
    /// It answers a request about more objects with genErr.
    FailsAbove(usize),
    /// It drops a request about more objects.
    SilentAbove(usize),
    /// It leaves out all objects of an answer but the first ones.
    TellsOnly(usize),
    /// It carries a SET of more objects out, and does not answer it.
    LosesAnswersAbove(usize),
    /// It says that it has carried a SET out, and has only for the first object.
    SetsOnlyFirst,
}

impl Table {
    /// Gives the object an integer.
    pub(crate) fn integer(&mut self, oid: &str, value: u8) {
        self.objects.insert(arcs(oid), (2, vec![value]));
    }

    /// Gives the object a text.
    pub(crate) fn text(&mut self, oid: &str, text: &str) {
        self.objects.insert(arcs(oid), (4, text.into()));
    }

    /// The integer of the object.
    pub(crate) fn read(&self, oid: &str) -> Option<u8> {
        let (_, value) = self.objects.get(&arcs(oid))?;
        value.last().copied()
    }

    /// The number of objects of each request with this tag.
    pub(crate) fn sizes(&self, tag: u8) -> Vec<usize> {
        let requests = self.requests.iter().filter(|(of, _)| *of == tag);
        requests.map(|(_, objects)| objects.len()).collect()
    }

    /// The answer to a request; none from an agent that is silent.
    fn answer(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let mut is_silent = false;
        let answer = ber::carried_out(request, |tag, asked| {
            let oids = asked.iter().map(|(oid, _)| oid.clone());
            self.requests.push((tag, oids.collect()));
            let count = asked.len();
            match self.mood {
                Mood::TooBigAbove(most) if count > most => return (1, Vec::new()),
                Mood::FailsAbove(most) if count > most => return (5, asked),
                Mood::SilentAbove(most) if count > most => {
                    is_silent = true;
                    return (5, asked);
                }
                Mood::LosesAnswersAbove(most) if count > most && tag == SET => is_silent = true,
                _ => {}
            }
            let told = asked.into_iter().enumerate().map(|(at, (oid, value))| {
                let value = match tag {
                    SET if at > 0 && self.mood == Mood::SetsOnlyFirst => value,
                    SET => {
                        self.objects.insert(oid.clone(), value.clone());
                        value
                    }
                    GETNEXT => return self.next(oid),
                    // noSuchInstance
                    _ => self
                        .objects
                        .get(&oid)
                        .cloned()
                        .unwrap_or((0x81, Vec::new())),
                };
                (oid, value)
            });
            let told: Vec<Binding> = told.collect();
            match self.mood {
                Mood::TellsOnly(few) => (0, told.into_iter().take(few).collect()),
                _ => (0, told),
            }
        });
        (!is_silent).then_some(answer)
    }

    fn next(&self, oid: Vec<u32>) -> Binding {
        let behind = self.objects.range(oid.clone()..);
        let next = behind.into_iter().find(|(other, _)| **other != oid);
        // endOfMibView
        next.map_or((oid, (0x82, Vec::new())), |(oid, value)| {
            (oid.clone(), value.clone())
        })
    }
}

/// The numbers of an OID below the enterprises, or of a whole one.
pub(crate) fn arcs(oid: &str) -> Vec<u32> {
    let whole = match oid.starts_with("1.3.6.1.") {
        true => oid.to_owned(),
        false => format!("1.3.6.1.4.1.{oid}"),
    };
    let arcs = whole.split('.').map(|arc| arc.parse().expect("a number"));
    arcs.collect()
}

/// An agent that serves a table.
pub(crate) struct TableAgent {
    pub(crate) address: SocketAddr,
    table: Arc<Mutex<Table>>,
    _served: Served,
}

impl TableAgent {
    pub(crate) fn start(table: Table) -> Self {
        let table = Arc::new(Mutex::new(table));
        let served_table = Arc::clone(&table);
        let socket = port::datagrams(Ipv4Addr::LOCALHOST.into());
        let served = Served::on(socket, move |socket, ending| {
            let mut buffer = [0; 16_384];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if ending.is_near() {
                    return;
                }
                let mut table = served_table.lock().expect("lock");
                if let Some(answer) = table.answer(&buffer[..length]) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self {
            address: served.address,
            table,
            _served: served,
        }
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("lock")
    }
}
