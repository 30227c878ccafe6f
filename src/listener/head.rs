//! The first bytes of a connection, and request heads. Pure.

use crate::config::{Limits, Protocols};
use httparse::Status;
use std::borrow::Cow;
use std::fmt;

/// Up to so many headers are read without asking for memory.
const FEW_HEADERS: usize = 100;

/// What a header takes up beside its bytes once it is read.
const HEADER: usize = 128;

/// The header that tells tiny_http's side whose request it is. From clients it is refused.
pub(super) const CLIENT_HEADER: &str = "X-Pdudaemon-Client";

const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT",
];

/// Tells HTTP from the legacy line by the first bytes: a method, a space, and what begins a
/// request target. A PDU may be called `GET`; its line goes on with an outlet, not with a slash.
/// Other methods are known by the end of their line, which is no command.
pub fn sniff(bytes: &[u8]) -> Protocols {
    if is_request_line(bytes) {
        return Protocols::Http;
    }
    let mut undecided = bytes.is_empty();
    for method in METHODS {
        let method = method.as_bytes();
        let (head, tail) = bytes.split_at_checked(method.len()).unwrap_or((bytes, &[]));
        if head.len() < method.len() {
            undecided |= method.starts_with(head);
            continue;
        }
        if head != method {
            continue;
        }
        match tail {
            [] | [b' '] => undecided = true,
            [b' ', b'/' | b'*', ..] => return Protocols::Http,
            [b' ', rest @ ..] => {
                let absolute = b"http://";
                if rest.len() >= absolute.len() {
                    if rest.starts_with(absolute) {
                        return Protocols::Http;
                    }
                } else {
                    undecided |= absolute.starts_with(rest);
                }
            }
            _ => {}
        }
    }
    if undecided {
        Protocols::Both
    } else {
        Protocols::Tcp
    }
}

/// Is there a whole first line of three words, the last of which is a version of HTTP?
fn is_request_line(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (Some(line), Some(_)) = (parts.next(), parts.next()) else {
        return false;
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|byte| *byte == b' ');
    let is_method = |word: &[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_graphic);
    words.next().is_some_and(is_method)
        && words.next().is_some()
        && words.next().is_some_and(|word| word.starts_with(b"HTTP/"))
        && words.next().is_none()
}

/// A request head that may be handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Bytes of the head, the empty line included.
    pub length: usize,
    /// Bytes of the body behind it.
    pub body: usize,
    /// The body is handed on; that of a GET or HEAD has no meaning and is not.
    pub is_body_used: bool,
    /// The client wants the head of the answer only.
    pub wants_head: bool,
    /// The memory it takes until it is understood.
    pub size: usize,
    /// The client speaks HTTP/1.0.
    pub is_old: bool,
    /// The client may send further requests on this connection.
    pub keeps_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The head for tiny_http, written anew in one form only, without the empty line and without
    /// what concerns the connection: requests of many clients follow each other on one.
    pub lines: Vec<u8>,
}

/// What is wrong with a request, as an HTTP status and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub u16, pub Cow<'static, str>);

impl Refusal {
    /// For the metrics, and the status in words.
    fn words(&self) -> (&'static str, &'static str) {
        match self.0 {
            400 => ("bad-request", "Bad Request"),
            403 => ("plain", "Forbidden"),
            408 => ("timeout", "Request Timeout"),
            413 => ("body-too-large", "Content Too Large"),
            417 => ("expectation", "Expectation Failed"),
            431 => ("head-too-large", "Request Header Fields Too Large"),
            501 => ("chunked", "Not Implemented"),
            503 => ("buffer", "Service Unavailable"),
            _ => ("no-server", "Bad Gateway"),
        }
    }

    /// The reason, as the metrics have it.
    pub(super) fn word(&self) -> &'static str {
        self.words().0
    }

    /// The response, which ends the connection.
    pub(super) fn response(&self) -> String {
        let (Self(status, why), (_, reason)) = (self, self.words());
        let body = format!("Invalid request: {why}\n");
        format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(status, why) = self;
        write!(f, "{status}: {why}")
    }
}

/// A refusal whose sentence has no figures in it.
pub(super) const fn refusal(status: u16, why: &'static str) -> Refusal {
    Refusal(status, Cow::Borrowed(why))
}

/// Reads a request head; `None` while it is not complete. Refuses what could be read in two ways
/// further on: two lengths, a length and chunks, bytes that are not ASCII.
pub fn request(bytes: &[u8], limits: &Limits) -> Result<Option<RequestHead>, Refusal> {
    let mut few = [httparse::EMPTY_HEADER; FEW_HEADERS];
    let mut many = Vec::new();
    let headers = match few.get_mut(..limits.headers) {
        Some(headers) => headers,
        None => {
            many.resize(limits.headers, httparse::EMPTY_HEADER);
            many.as_mut_slice()
        }
    };
    let mut parsed = httparse::Request::new(headers);
    let too_long = || {
        let text = format!("the request head is longer than {} bytes", limits.head);
        Err(Refusal(431, text.into()))
    };
    let length = match parsed.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if bytes.len() >= limits.head => return too_long(),
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            let text = format!("more than {} headers", limits.headers);
            return Err(Refusal(431, text.into()));
        }
        Err(_) => return Err(refusal(400, "this is not an HTTP request")),
    };
    if length > limits.head {
        return too_long();
    }
    let (Some(method), Some(path), Some(version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(refusal(400, "this is not an HTTP request"));
    };
    if !path.is_ascii() {
        return Err(refusal(
            400,
            "the request target is not ASCII; percent-encode it",
        ));
    }
    let mut lines = Vec::with_capacity(length + 32);
    let mut add = |parts: &[&[u8]]| parts.iter().for_each(|part| lines.extend_from_slice(part));
    add(&[method.as_bytes(), b" ", path.as_bytes(), b" HTTP/1.1\r\n"]);
    let is_old = version == 0;
    let mut keeps_alive = !is_old;
    let mut closes = false;
    let mut body = None;
    let mut expects_continue = false;
    for header in parsed.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if !header.value.is_ascii() {
            return Err(refusal(400, "a header value is not ASCII"));
        }
        if is("Transfer-Encoding") {
            return Err(refusal(
                501,
                "chunked bodies are not accepted; send Content-Length",
            ));
        }
        if is(CLIENT_HEADER) {
            return Err(refusal(
                400,
                "X-Pdudaemon-Client is not for clients to send",
            ));
        }
        if is("Expect") {
            if !header.value.eq_ignore_ascii_case(b"100-continue") {
                return Err(refusal(417, "expected nothing but 100-continue in Expect"));
            }
            expects_continue = true;
        } else if is("Connection") {
            let value = header.value.to_ascii_lowercase();
            for word in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                closes |= word == b"close";
                keeps_alive |= word == b"keep-alive";
            }
        } else if is("Content-Length") {
            let length = std::str::from_utf8(header.value)
                .ok()
                .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|digits| digits.parse::<usize>().ok());
            match (length, body) {
                (Some(length), None) if length <= limits.body => body = Some(length),
                (Some(length), Some(before)) if length == before => {}
                (Some(_), None) => {
                    let text = format!("the request body is longer than {} bytes", limits.body);
                    return Err(Refusal(413, text.into()));
                }
                _ => return Err(refusal(400, "the Content-Length header is wrong")),
            }
        } else {
            add(&[header.name.as_bytes(), b": ", header.value, b"\r\n"]);
        }
    }
    let body = body.unwrap_or(0);
    let wants_head = method == "HEAD";
    let is_body_used = body > 0 && !wants_head && method != "GET";
    if is_body_used {
        add(&[b"Content-Length: ", body.to_string().as_bytes(), b"\r\n"]);
    }
    let used = if is_body_used { body } else { 0 };
    Ok(Some(RequestHead {
        length,
        body,
        is_body_used,
        wants_head,
        size: lines.len() + used + parsed.headers.len() * HEADER,
        is_old,
        keeps_alive: keeps_alive && !closes,
        expects_continue,
        lines,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<RequestHead>, Refusal> {
        request(bytes, &Limits::default())
    }

    #[test]
    fn a_refusal_is_a_whole_response() {
        let refusal = refusal(503, "too many");
        assert_eq!(refusal.to_string(), "503: too many");
        assert_eq!(refusal.word(), "buffer");
        let response = "HTTP/1.1 503 Service Unavailable\r\n\
                        Content-Type: text/plain; charset=utf-8\r\nContent-Length: 26\r\n\
                        Connection: close\r\n\r\nInvalid request: too many\n";
        assert_eq!(refusal.response(), response);
    }

    #[test]
    fn each_bound_is_the_configs() {
        let limits = Limits {
            head: 300,
            headers: 120,
            body: 5,
            ..Limits::default()
        };
        let read = |text: String| request(text.as_bytes(), &limits).map(|head| head.is_some());
        let head = |bytes: usize| {
            let (begin, end) = ("GET / HTTP/1.1\r\nA: ", "\r\n\r\n");
            let fill = "x".repeat(bytes - begin.len() - end.len());
            format!("{begin}{fill}{end}")
        };
        assert_eq!(read(head(300)), Ok(true));
        let too_long = Refusal(431, "the request head is longer than 300 bytes".into());
        assert_eq!(read(head(301)), Err(too_long.clone()));
        // Without its end it is not waited for.
        assert_eq!(read(head(310)[..300].to_owned()), Err(too_long));
        assert_eq!(read(head(310)[..299].to_owned()), Ok(false));
        let body = |length: usize| format!("GET / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(read(body(5)), Ok(true));
        let too_long = Refusal(413, "the request body is longer than 5 bytes".into());
        assert_eq!(read(body(6)), Err(too_long));
        // More headers than there is room for without asking for memory, and fewer.
        for most in [8, 120] {
            let limits = Limits {
                headers: most,
                ..Limits::default()
            };
            let read = |count: usize| {
                let text = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
                request(text.as_bytes(), &limits).map(|head| head.is_some())
            };
            assert_eq!(read(most), Ok(true));
            let too_many = Refusal(431, format!("more than {most} headers").into());
            assert_eq!(read(most + 1), Err(too_many));
        }
    }

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        for http in [
            "GET / HTTP/1.1",
            "POST /api",
            "OPTIONS * HTTP/1.1",
            "GET http://h/",
            "HEAD /x",
            "QUERY /x HTTP/1.1\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
        ] {
            assert_eq!(sniff(http.as_bytes()), Protocols::Http, "{http}");
        }
        for line in [
            "pdu 1 on",
            "GET 1 on",
            "GETTER 1 on",
            "get /",
            "\x16\x03\x01",
            " GET /",
            "GET https://",
            "QUERY /x HTTP/1.1",
            "pdu HTTP/1 on\r\n",
            "pdu 1 on\nQUERY /x HTTP/1.1\r\n",
        ] {
            assert_eq!(sniff(line.as_bytes()), Protocols::Tcp, "{line}");
        }
        for short in ["", "G", "GET", "GET ", "PO", "GET ht", "DELETE"] {
            assert_eq!(sniff(short.as_bytes()), Protocols::Both, "{short}");
        }
    }

    #[test]
    fn heads_are_handed_on_whole_or_refused() {
        let full = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\nrest";
        let head = read(full).expect("fine").expect("complete");
        assert_eq!((head.length, head.body, head.keeps_alive), (28, 0, true));
        assert_eq!(head.lines, b"GET /x HTTP/1.1\r\nHost: h\r\n");
        assert_eq!(head.size, head.lines.len() + HEADER);
        // A body that means nothing goes no further.
        for (method, is_body_used) in [("GET", false), ("HEAD", false), ("DELETE", true)] {
            let text = format!("{method} /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nstuff");
            let head = read(text.as_bytes()).expect("fine").expect("complete");
            assert_eq!(
                (head.body, head.is_body_used),
                (5, is_body_used),
                "{method}"
            );
            assert_eq!(head.wants_head, method == "HEAD");
            let lines = String::from_utf8(head.lines).expect("text");
            assert_eq!(lines.contains("Content-Length: 5"), is_body_used, "{lines}");
        }
        assert_eq!(read(b"GET /x HTTP/1.1\r\nHost"), Ok(None));
        let status = |text: &str| read(text.as_bytes()).expect_err("refused").0;
        assert_eq!(status("GET /\r\n\r\n"), 400);
        assert_eq!(
            status("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            501
        );
        assert_eq!(
            status("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            400
        );
        assert_eq!(status("GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n"), 400);
        assert_eq!(
            status("GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"),
            413
        );
        assert_eq!(
            status("GET / HTTP/1.1\r\nx-pdudaemon-client: 127.0.0.1\r\n\r\n"),
            400
        );
        assert_eq!(
            status(&format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(101))),
            431
        );
        assert_eq!(
            status(&format!(
                "GET /{} HTTP/1.1\r\n",
                "x".repeat(Limits::default().head)
            )),
            431
        );
    }

    #[test]
    fn heads_are_written_anew_in_one_form() {
        let lines = |text: &str| {
            let head = read(text.as_bytes()).expect("fine").expect("complete");
            assert_eq!(head.length, text.len());
            String::from_utf8(head.lines).expect("text")
        };
        assert_eq!(
            lines("\r\nHEAD /x HTTP/1.0\r\nA:  b \r\n\r\n"),
            "HEAD /x HTTP/1.1\r\nA: b\r\n"
        );
        assert_eq!(
            lines("PUT /x HTTP/1.1\nA:b\nExpect: 100-Continue\nContent-Length: 05\n\n"),
            "PUT /x HTTP/1.1\r\nA: b\r\nContent-Length: 5\r\n"
        );
        assert_eq!(
            lines("GET / HTTP/1.1\r\nConnection: upgrade\r\ncontent-length: 0\r\nC:\r\n\r\n"),
            "GET / HTTP/1.1\r\nC: \r\n"
        );
    }

    #[test]
    fn the_version_and_the_connection_header_say_whether_more_may_come() {
        for (version, header, keeps_alive) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "connection: x, Close\r\n", false),
            (
                "1.1",
                "Connection: keep-alive\r\nConnection: close\r\n",
                false,
            ),
            ("1.1", "Connection: upgrade\r\n", true),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let text = format!("GET / HTTP/{version}\r\n{header}\r\n");
            let head = read(text.as_bytes()).expect("fine").expect("complete");
            assert_eq!(head.keeps_alive, keeps_alive, "{text}");
            assert_eq!(head.is_old, version == "1.0");
        }
    }
}
