//! An SNMP agent on a loopback UDP port. Each `>` line is a request, each `<` line an answer, both
//! with request id (and msgID) 1: the driver's own ids are put in their place.

use super::ber::{request_id, with_request_id};
use super::port::{Served, datagrams};
use super::script::{Played, Script};
use crate::transcript::{Case, Line, bytes};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

pub(super) fn start(case: &Case) -> Played {
    let script = Script::of(case);
    let shared = Arc::clone(&script);
    let socket = datagrams(Ipv4Addr::LOCALHOST.into());
    let served = Served::on(socket, move |socket, ending| {
        let patience = Some(Duration::from_secs(10));
        socket
            .set_read_timeout(patience)
            .expect("a timeout can be set");
        let (mut agent, mut buffer) = (Agent::default(), [0; 2048]);
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if ending.is_near() {
                return;
            }
            match agent.answers(&buffer[..length], &mut shared.lines()) {
                Ok(answers) => say(socket, &answers, from),
                Err(wrong) => return shared.note(Err(wrong)),
            }
        }
    });
    Played { served, script }
}

fn say(socket: &UdpSocket, answers: &[Vec<u8>], to: std::net::SocketAddr) {
    for answer in answers {
        let _ = socket.send_to(answer, to);
    }
}

/// The last request and its answers: a copy of it, sent because the answer was slow, is answered
/// alike.
#[derive(Default)]
struct Agent {
    last: Vec<u8>,
    answers: Vec<Vec<u8>>,
}

impl Agent {
    /// What is said to a request, by the lines that are still to be played.
    fn answers(&mut self, got: &[u8], lines: &mut Vec<Line>) -> Result<Vec<Vec<u8>>, String> {
        if got == self.last {
            return Ok(self.answers.clone());
        }
        let (id, normal) = (request_id(got), with_request_id(got, 1));
        let with_its_id = |answer: &Vec<u8>| with_request_id(answer, id);
        let is_next = matches!(lines.last(), Some(Line::Sent(text)) if bytes(text) == normal);
        // A copy that was under way to another agent before this one: answered, and no more.
        if !is_next && !self.last.is_empty() && normal == with_request_id(&self.last, 1) {
            return Ok(self.answers.iter().map(with_its_id).collect());
        }
        let Some(Line::Sent(text)) = lines.pop() else {
            return Err(format!("expected nothing more, got {}", hex(got)));
        };
        if !is_next {
            let expected = hex(&bytes(&text));
            return Err(format!("expected {expected}, got {}", hex(&normal)));
        }
        (self.last, self.answers) = (got.to_vec(), Vec::new());
        while let Some(Line::Answer(text)) = lines.pop_if(|line| matches!(line, Line::Answer(_))) {
            self.answers.push(with_its_id(&bytes(&text)));
        }
        Ok(self.answers.clone())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}
