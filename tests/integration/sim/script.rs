//! A transcript while it is played, and the simulators that play one on a socket.

use super::Simulator;
use super::port::Served;
use crate::transcript::{Case, Line};
use std::sync::{Arc, Mutex, MutexGuard};

/// What of a transcript is still to be played, and the first thing that went wrong.
pub(super) struct Script {
    /// The next one last.
    lines: Mutex<Vec<Line>>,
    wrong: Mutex<Option<String>>,
}

impl Script {
    pub(super) fn of(case: &Case) -> Arc<Self> {
        let mut lines = case.lines.clone();
        lines.reverse();
        Arc::new(Self {
            lines: Mutex::new(lines),
            wrong: Mutex::new(None),
        })
    }

    pub(super) fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().expect("lock")
    }

    /// Keeps the first complaint.
    pub(super) fn note(&self, played: Result<(), String>) {
        if let Err(wrong) = played {
            self.wrong.lock().expect("lock").get_or_insert(wrong);
        }
    }

    /// Where the driver left the transcript, once its simulator has ended.
    pub(super) fn outcome(&self) -> Result<(), String> {
        if let Some(wrong) = self.wrong.lock().expect("lock").take() {
            return Err(wrong);
        }
        match self.lines().last() {
            Some(Line::Sent(text)) => Err(format!("the driver never sent {text}")),
            _ => Ok(()),
        }
    }
}

/// A PDU of a transcript on a loopback port.
pub(super) struct Played {
    pub(super) served: Served,
    pub(super) script: Arc<Script>,
}

impl Simulator for Played {
    fn overrides(&self) -> serde_json::Value {
        serde_json::json!({ "ip": self.served.address.to_string() })
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        self.served.end();
        self.script.outcome()
    }
}
