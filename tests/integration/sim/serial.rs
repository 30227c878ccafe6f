//! A byte-stream PDU on a pty: plays transcripts as the TCP simulator does.

use super::Simulator;
use super::port::Ending;
use super::script::Script;
use super::stream::Pty;
use super::tcp::play;
use crate::transcript::Case;
use std::sync::Arc;
use std::thread::JoinHandle;

pub(super) struct SerialPdu {
    device: String,
    ending: Ending,
    thread: JoinHandle<()>,
    script: Arc<Script>,
}

pub(super) fn start(case: &Case) -> SerialPdu {
    let mut pty = Pty::open();
    let (device, script, ending) = (pty.name(), Script::of(case), Ending::default());
    let (shared, told) = (Arc::clone(&script), ending.clone());
    let thread = std::thread::spawn(move || {
        // All of it: a closure would take the one end that it uses.
        let pty: &mut Pty = &mut pty;
        shared.note(play(&mut pty.master, &shared, &told));
        // Held until the driver has finished: its line must not end before.
        while !told.is_near() {
            std::thread::park();
        }
    });
    SerialPdu {
        device,
        ending,
        thread,
        script,
    }
}

impl Simulator for SerialPdu {
    fn overrides(&self) -> serde_json::Value {
        serde_json::json!({ "device": self.device })
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        self.ending.begin();
        self.thread.thread().unpark();
        self.thread
            .join()
            .map_err(|_| "the simulator panicked".to_owned())?;
        self.script.outcome()
    }
}
