//! An SNMP agent on a loopback UDP port. Each `>` line is a request, each `<` line an answer, both
//! with request id (and msgID) 1: the driver's own ids are put in their place.

use super::Simulator;
use super::ber::{request_id, with_request_id};
use super::port::Waker;
use crate::transcript::{Case, Line, bytes};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub(super) struct Agent {
    port: u16,
    waker: Waker,
    stop: Arc<AtomicBool>,
    wrong: Arc<Mutex<Option<String>>>,
    thread: JoinHandle<Vec<Line>>,
}

pub(super) fn start(case: &Case) -> Agent {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a loopback port");
    let port = socket.local_addr().expect("an address").port();
    let (socket, waker) = Waker::of(socket);
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout can be set");
    let stop = Arc::new(AtomicBool::new(false));
    let wrong = Arc::new(Mutex::new(None));
    let (stopped, complaint) = (Arc::clone(&stop), Arc::clone(&wrong));
    let lines = case.lines.clone();
    let thread = std::thread::spawn(move || {
        let mut lines = lines.into_iter().peekable();
        let mut buffer = [0; 2048];
        // The last request and its answers: a copy of it, sent because the answer was slow, is
        // answered alike.
        let (mut last, mut answers): (Vec<u8>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if stopped.load(Ordering::SeqCst) {
                break;
            }
            let got = &buffer[..length];
            if got == last {
                for answer in &answers {
                    let _ = socket.send_to(answer, from);
                }
                continue;
            }
            // A copy that was under way to another agent before this one: answered, and no more.
            let is_next = matches!(lines.peek(), Some(Line::Sent(text)) if bytes(text) == with_request_id(got, 1));
            if !is_next && !last.is_empty() && with_request_id(got, 1) == with_request_id(&last, 1)
            {
                for answer in &answers {
                    let answer = with_request_id(answer, request_id(got));
                    let _ = socket.send_to(&answer, from);
                }
                continue;
            }
            let Some(Line::Sent(text)) = lines.next() else {
                complaint
                    .lock()
                    .expect("lock")
                    .get_or_insert(format!("expected nothing more, got {}", hex(got)));
                break;
            };
            let id = request_id(got);
            let normal = with_request_id(got, 1);
            if normal != bytes(&text) {
                let expected = hex(&bytes(&text));
                complaint
                    .lock()
                    .expect("lock")
                    .get_or_insert(format!("expected {expected}, got {}", hex(&normal)));
                break;
            }
            (last, answers) = (got.to_vec(), Vec::new());
            while let Some(Line::Answer(text)) =
                lines.next_if(|line| matches!(line, Line::Answer(_)))
            {
                let answer = with_request_id(&bytes(&text), id);
                let _ = socket.send_to(&answer, from);
                answers.push(answer);
            }
        }
        lines.collect()
    });
    Agent {
        port,
        waker,
        stop,
        wrong,
        thread,
    }
}

impl Simulator for Agent {
    fn overrides(&self) -> serde_json::Value {
        serde_json::json!({ "ip": format!("127.0.0.1:{}", self.port) })
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        self.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
        let rest = self
            .thread
            .join()
            .map_err(|_| "the simulator panicked".to_owned())?;
        if let Some(wrong) = self.wrong.lock().expect("lock").take() {
            return Err(wrong);
        }
        match rest.first() {
            Some(Line::Sent(text)) => Err(format!("the driver never sent {text}")),
            _ => Ok(()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}
