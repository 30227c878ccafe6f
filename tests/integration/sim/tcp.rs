//! A byte-stream PDU on a loopback TCP port: each connection goes on in the transcript where the
//! one before stopped.

use super::Simulator;
use super::port::Waker;
use crate::transcript::{Case, Line, bytes};
use pdudaemon::transport::printable;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub(super) struct TcpPdu {
    port: u16,
    waker: Waker,
    thread: JoinHandle<()>,
    progress: Arc<Progress>,
}

/// What the driver still has to send, and the first thing that went wrong.
pub(super) struct Progress {
    lines: Mutex<Vec<Line>>,
    pub(super) wrong: Mutex<Option<String>>,
    pub(super) stop: AtomicBool,
}

impl Progress {
    pub(super) fn new(case: &Case) -> Arc<Self> {
        let mut lines = case.lines.clone();
        lines.reverse();
        Arc::new(Self {
            lines: Mutex::new(lines),
            wrong: Mutex::new(None),
            stop: AtomicBool::new(false),
        })
    }

    /// Where the driver left the transcript, once its simulator has ended.
    pub(super) fn outcome(&self) -> Result<(), String> {
        if let Some(wrong) = self.wrong.lock().expect("lock").take() {
            return Err(wrong);
        }
        match self.lines.lock().expect("lock").last() {
            Some(Line::Sent(text)) => Err(format!("the driver never sent {text}")),
            _ => Ok(()),
        }
    }
}

pub(super) fn start(case: &Case) -> TcpPdu {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
    let port = listener.local_addr().expect("an address").port();
    let (listener, waker) = Waker::of(listener);
    let progress = Progress::new(case);
    let shared = Arc::clone(&progress);
    let thread = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .expect("a timeout can be set");
            if let Err(wrong) = play(&mut stream, &shared) {
                shared.wrong.lock().expect("lock").get_or_insert(wrong);
            }
            // After playing: a client that sends and closes may be gone before it was accepted.
            if shared.stop.load(Ordering::SeqCst) {
                return;
            }
        }
    });
    TcpPdu {
        port,
        waker,
        thread,
        progress,
    }
}

/// Plays the transcript on one stream until the driver closes it or leaves the script, or, where
/// a close cannot be seen and reads time out, until the simulator is stopped.
pub(super) fn play(stream: &mut (impl Read + Write), progress: &Progress) -> Result<(), String> {
    let is_over = |error: &std::io::Error| {
        matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
            && progress.stop.load(Ordering::SeqCst)
    };
    loop {
        let line = progress.lines.lock().expect("lock").last().cloned();
        match line {
            Some(Line::Answer(text)) => {
                progress.lines.lock().expect("lock").pop();
                // A driver that gave up has closed; what it left unsent is told at the end.
                if stream.write_all(&bytes(&text)).is_err() {
                    return Ok(());
                }
            }
            Some(Line::Sent(text)) => {
                let expected = bytes(&text);
                let mut got = vec![0; expected.len()];
                let mut have = 0;
                while have < expected.len() {
                    match stream.read(&mut got[have..]) {
                        Ok(0) if have == 0 => return Ok(()),
                        Ok(more) if more > 0 && expected.starts_with(&got[..have + more]) => {
                            have += more
                        }
                        Ok(more) => {
                            return Err(format!(
                                "expected {}, got {}",
                                printable(&expected),
                                printable(&got[..have + more])
                            ));
                        }
                        Err(error) if is_over(&error) && have == 0 => return Ok(()),
                        Err(error) if error.kind() == ErrorKind::TimedOut && !is_over(&error) => {}
                        Err(error) => {
                            return Err(format!("expected {}: {error}", printable(&expected)));
                        }
                    }
                }
                progress.lines.lock().expect("lock").pop();
            }
            None => {
                let mut rest = [0; 64];
                match stream.read(&mut rest) {
                    Ok(more) if more > 0 => {
                        return Err(format!(
                            "expected nothing more, got {}",
                            printable(&rest[..more])
                        ));
                    }
                    Err(error) if error.kind() == ErrorKind::TimedOut && !is_over(&error) => {}
                    _ => return Ok(()),
                }
            }
        }
    }
}

impl Simulator for TcpPdu {
    fn overrides(&self) -> serde_json::Value {
        serde_json::json!({ "ip": format!("127.0.0.1:{}", self.port) })
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        self.progress.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
        self.thread
            .join()
            .map_err(|_| "the simulator panicked".to_owned())?;
        self.progress.outcome()
    }
}
