//! An HTTP PDU on a loopback TCP port. Connections are kept alive; a new one goes on in the
//! transcript where the one before stopped.
//!
//! The lines of a transcript:
//!
//! ```text
//! > "GET /x?y=1 HTTP/1.1"                     the request line, to the byte
//! > "Authorization: Basic YWRtaW46YW5lbA=="   a header that must be there, name and value so
//! > "Authorization: Digest *"                 ... or only begin so
//! > no "Authorization"                        a header that must not be there
//! > body "{\"a\": 1}"                         the body, to the byte; without this line: none
//! < 200 "body"                                the status and the body
//! < 401 header "WWW-Authenticate: Basic realm=\"x\"" "body"
//! ```
//!
//! `Content-Length` and `Host` are the simulator's business. Texts are written as everywhere in
//! transcripts (hex, and quoted texts with escapes).

use super::port::Served;
use super::script::{Played, Script};
use crate::transcript::{Case, Line, bytes};
use pdudaemon::transport::printable;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// A request as it came.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    pub(crate) line: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Incoming {
    /// Reads the next request; `None` when the peer has closed.
    pub(crate) fn read(from: &mut impl BufRead) -> Option<Self> {
        let mut request = Self {
            line: read_line(from)?,
            ..Self::default()
        };
        loop {
            let header = read_line(from)?;
            if header.is_empty() {
                break;
            }
            request.headers.push(header);
        }
        let length = request
            .header("Content-Length")
            .map_or(0, |value| value.parse().expect("a decimal Content-Length"));
        request.body = vec![0; length];
        from.read_exact(&mut request.body).ok()?;
        Some(request)
    }

    /// The value of the header with exactly this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .filter_map(|header| header.split_once(": "))
            .find_map(|(own, value)| (own == name).then_some(value))
    }
}

fn read_line(from: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    Some(line.strip_suffix("\r\n")?.to_owned())
}

/// An answer's bytes.
pub(crate) fn answer(status: u16, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Words\r\n");
    for header in headers {
        head.push_str(&format!("{header}\r\n"));
    }
    if status != 204 {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

pub(super) fn start(case: &Case) -> Played {
    let script = Script::of(case);
    let shared = Arc::clone(&script);
    let served = Served::connections(move |stream, _| shared.note(play(stream, &shared)));
    Played { served, script }
}

fn play(mut stream: TcpStream, script: &Script) -> Result<(), String> {
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout can be set");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    while let Some(request) = Incoming::read(&mut reader) {
        let outcome = next(&request, &mut script.lines());
        let reply = match &outcome {
            Ok(reply) => reply.clone(),
            Err(wrong) => answer(400, &["Connection: close"], wrong.as_bytes()),
        };
        // A driver that gave up has closed; what it left unsent is told at the end.
        let sent = stream.write_all(&reply);
        outcome?;
        if sent.is_err() {
            break;
        }
    }
    Ok(())
}

/// Compares a request with the transcript and makes the answer that follows there.
fn next(request: &Incoming, lines: &mut Vec<Line>) -> Result<Vec<u8>, String> {
    let mut expected = Vec::new();
    while let Some(Line::Sent(text)) = lines.last().cloned() {
        expected.push(text);
        lines.pop();
    }
    let Some((line, rest)) = expected.split_first() else {
        return Err(format!("expected nothing more, got {}", request.line));
    };
    let line = text_of(line);
    if request.line != line {
        return Err(format!("expected {line}, got {}", request.line));
    }
    // Any port: a proxy may stand in between.
    let host = request
        .header("Host")
        .and_then(|host| host.strip_prefix("127.0.0.1:"));
    if host.is_none_or(|port| port.parse::<u16>().is_err()) {
        return Err(format!("wrong Host in {:?}", request.headers));
    }
    let mut body = Vec::new();
    for line in rest {
        if let Some(text) = line.strip_prefix("body ") {
            body = bytes(text);
        } else if let Some(name) = line.strip_prefix("no ") {
            let name = text_of(name).to_ascii_lowercase();
            let start = format!("{name}:");
            let mut headers = request.headers.iter();
            if headers.any(|header| header.to_ascii_lowercase().starts_with(&start)) {
                return Err(format!("expected no {name} in {:?}", request.headers));
            }
        } else {
            let header = text_of(line);
            let fits = |own: &String| match header.strip_suffix('*') {
                Some(start) => own.starts_with(start),
                None => *own == header,
            };
            if !request.headers.iter().any(fits) {
                return Err(format!("expected {header} in {:?}", request.headers));
            }
        }
    }
    if request.body != body {
        return Err(format!(
            "expected the body {}, got {}",
            printable(&body),
            printable(&request.body)
        ));
    }
    match lines.pop() {
        Some(Line::Answer(text)) => Ok(parse_answer(&text)),
        _ => Err(format!("the transcript has no answer to {line}")),
    }
}

fn text_of(quoted: &str) -> String {
    String::from_utf8(bytes(quoted)).expect("text")
}

fn parse_answer(text: &str) -> Vec<u8> {
    let (status, mut rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut headers = Vec::new();
    while let Some(after) = rest.trim_start().strip_prefix("header ") {
        let after = after.trim_start();
        let mut escaped = false;
        let end = after
            .char_indices()
            .skip(1)
            .find(|(_, c)| {
                let ends = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                ends
            })
            .unwrap_or_else(|| panic!("unterminated header in {text:?}"))
            .0;
        headers.push(text_of(&after[..=end]));
        rest = &after[end + 1..];
    }
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    answer(status.parse().expect("a status"), &headers, &bytes(rest))
}
