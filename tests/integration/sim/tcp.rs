//! A byte-stream PDU on a loopback TCP port: each connection goes on in the transcript where the
//! one before stopped.

use super::Simulator;
use crate::transcript::{Case, Line, bytes};
use pdudaemon::transport::printable;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub(super) struct TcpPdu {
    port: u16,
    thread: JoinHandle<()>,
    progress: Arc<Progress>,
}

/// What the driver still has to send, and the first thing that went wrong.
struct Progress {
    lines: Mutex<Vec<Line>>,
    wrong: Mutex<Option<String>>,
    stop: AtomicBool,
}

pub(super) fn start(case: &Case) -> TcpPdu {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
    let port = listener.local_addr().expect("an address").port();
    let mut lines = case.lines.clone();
    lines.reverse();
    let progress = Arc::new(Progress {
        lines: Mutex::new(lines),
        wrong: Mutex::new(None),
        stop: AtomicBool::new(false),
    });
    let shared = Arc::clone(&progress);
    let thread = std::thread::spawn(move || {
        for stream in listener.incoming() {
            if shared.stop.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { return };
            if let Err(wrong) = play(stream, &shared) {
                shared.wrong.lock().expect("lock").get_or_insert(wrong);
            }
        }
    });
    TcpPdu {
        port,
        thread,
        progress,
    }
}

/// Plays the transcript on one connection until the driver closes it or leaves the script.
fn play(mut stream: TcpStream, progress: &Progress) -> Result<(), String> {
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout can be set");
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
                        Err(error) => {
                            return Err(format!("expected {}: {error}", printable(&expected)));
                        }
                    }
                }
                progress.lines.lock().expect("lock").pop();
            }
            None => {
                let mut rest = [0; 64];
                return match stream.read(&mut rest) {
                    Ok(more) if more > 0 => Err(format!(
                        "expected nothing more, got {}",
                        printable(&rest[..more])
                    )),
                    _ => Ok(()),
                };
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
        // Wakes the listener, should it wait for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        self.thread
            .join()
            .map_err(|_| "the simulator panicked".to_owned())?;
        if let Some(wrong) = self.progress.wrong.lock().expect("lock").take() {
            return Err(wrong);
        }
        match self.progress.lines.lock().expect("lock").last() {
            Some(Line::Sent(text)) => Err(format!("the driver never sent {text}")),
            _ => Ok(()),
        }
    }
}
