//! One thread that does things when they are due: the ends of long polls.

use crossbeam_channel::{RecvTimeoutError, Sender};
use log::error;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

type Then = Box<dyn FnOnce() + Send>;

enum Message {
    At(Instant, Then),
    /// Are you there?
    Beat(u64),
    End,
}

/// The thread's other end.
pub(in crate::listener) struct Timers {
    inbox: Sender<Message>,
    thread: Option<JoinHandle<()>>,
    beat: Arc<AtomicU64>,
}

impl Timers {
    pub(super) fn start() -> io::Result<Self> {
        let (inbox, messages) = crossbeam_channel::unbounded();
        let beat = Arc::new(AtomicU64::new(0));
        let beaten = Arc::clone(&beat);
        let thread = std::thread::Builder::new()
            .name("timers".into())
            .spawn(move || {
                let mut waiting: BTreeMap<(Instant, u64), Then> = BTreeMap::new();
                let mut number = 0;
                loop {
                    let next = waiting.keys().next().map(|(due, _)| *due);
                    let message = match next {
                        Some(due) => messages.recv_deadline(due),
                        None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    };
                    match message {
                        Ok(Message::At(due, then)) => {
                            number += 1;
                            waiting.insert((due, number), then);
                        }
                        Ok(Message::Beat(beat)) => beaten.store(beat, Ordering::Release),
                        Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
                        Err(RecvTimeoutError::Timeout) => {}
                    }
                    let now = Instant::now();
                    while let Some(entry) = waiting.first_entry().filter(|e| e.key().0 <= now) {
                        entry.remove()();
                    }
                }
            })?;
        Ok(Self {
            inbox,
            thread: Some(thread),
            beat,
        })
    }

    /// Calls `then` at `due`, from the timers' thread: it must not block.
    pub(super) fn at(&self, due: Instant, then: impl FnOnce() + Send + 'static) {
        let _ = self.inbox.send(Message::At(due, Box::new(then)));
    }

    /// Asks the thread for a sign of life.
    pub(in crate::listener) fn ask(&self, beat: u64) {
        let _ = self.inbox.send(Message::Beat(beat));
    }

    /// The last sign of life asked for that came.
    pub(in crate::listener) fn beat(&self) -> u64 {
        self.beat.load(Ordering::Acquire)
    }

    /// Does the thread still run?
    pub(super) fn is_alive(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        let _ = self.inbox.send(Message::End);
        let Some(thread) = self.thread.take() else {
            return;
        };
        // The last owner may be a job of this very thread.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            error!("the timers ended in a panic: this is a bug");
        }
    }
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").finish_non_exhaustive()
    }
}
