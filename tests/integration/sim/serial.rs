//! A byte-stream PDU on a pty: plays transcripts as the TCP simulator does.

use super::Simulator;
use super::stream::Pty;
use super::tcp::{Progress, play};
use crate::transcript::Case;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

pub(super) struct SerialPdu {
    device: String,
    thread: JoinHandle<()>,
    progress: Arc<Progress>,
}

pub(super) fn start(case: &Case) -> SerialPdu {
    let pty = Pty::open();
    let device = pty.name();
    let progress = Progress::new(case);
    let shared = Arc::clone(&progress);
    let thread = std::thread::spawn(move || {
        let mut pty: Pty = pty;
        if let Err(wrong) = play(&mut pty.master, &shared) {
            shared.wrong.lock().expect("lock").get_or_insert(wrong);
        }
        // Held until the driver has finished: its line must not end before.
        while !shared.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
    });
    SerialPdu {
        device,
        thread,
        progress,
    }
}

impl Simulator for SerialPdu {
    fn overrides(&self) -> serde_json::Value {
        serde_json::json!({ "device": self.device })
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        self.progress.stop.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
        self.thread
            .join()
            .map_err(|_| "the simulator panicked".to_owned())?;
        self.progress.outcome()
    }
}
