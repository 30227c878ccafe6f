//! The first bytes of a connection, request heads and response heads. Pure.

use httparse::Status;

/// The longest request head: request line and headers.
pub(super) const MAX_HEAD: usize = 16 * 1024;
/// The longest request body; nothing this program is asked is longer.
pub(super) const MAX_BODY: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;

/// The header that tells tiny_http's side who the client is. From clients it is refused.
pub(super) const CLIENT_HEADER: &str = "X-Pdudaemon-Client";

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// A request line of HTTP.
    Http,
    /// Anything else.
    Line,
    /// Could be either so far.
    Undecided,
}

const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT",
];

/// Tells HTTP from the legacy line by the first bytes: a method, a space, and what begins a
/// request target. A PDU may be called `GET`; its line goes on with an outlet, not with a slash.
pub fn sniff(bytes: &[u8]) -> Sniffed {
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
            [b' ', b'/' | b'*', ..] => return Sniffed::Http,
            [b' ', rest @ ..] => {
                let absolute = b"http://";
                if rest.len() >= absolute.len() {
                    if rest.starts_with(absolute) {
                        return Sniffed::Http;
                    }
                } else {
                    undecided |= absolute.starts_with(rest);
                }
            }
            _ => {}
        }
    }
    if undecided {
        Sniffed::Undecided
    } else {
        Sniffed::Line
    }
}

/// A request head that may be handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head, the empty line included.
    pub length: usize,
    /// Bytes of the body behind it.
    pub body: usize,
    /// Where the first header begins: behind the request line.
    pub headers_at: usize,
    /// The answer to a HEAD request has no body.
    pub is_head: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// What is wrong with a request, as an HTTP status and a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(pub u16, pub &'static str);

/// Reads a request head; `None` while it is not complete. Refuses what could be read in two ways
/// further on: two lengths, a length and chunks, bytes that are not ASCII.
pub fn request(bytes: &[u8]) -> Result<Option<Head>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if bytes.len() >= MAX_HEAD => {
            return Err(Refusal(431, "the request head is longer than 16 KiB"));
        }
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal(431, "more than 100 headers")),
        Err(_) => return Err(Refusal(400, "this is not an HTTP request")),
    };
    if length > MAX_HEAD {
        return Err(Refusal(431, "the request head is longer than 16 KiB"));
    }
    let mut body = None;
    let mut expects_continue = false;
    for header in parsed.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if !header.value.is_ascii() {
            return Err(Refusal(400, "a header value is not ASCII"));
        }
        if is("Transfer-Encoding") {
            return Err(Refusal(
                501,
                "chunked bodies are not accepted; send Content-Length",
            ));
        }
        if is(CLIENT_HEADER) {
            return Err(Refusal(
                400,
                "X-Pdudaemon-Client is not for clients to send",
            ));
        }
        if is("Expect") {
            expects_continue = header.value.eq_ignore_ascii_case(b"100-continue");
        }
        if is("Content-Length") {
            let length = std::str::from_utf8(header.value)
                .ok()
                .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|digits| digits.parse::<usize>().ok());
            match (length, body) {
                (Some(length), None) if length <= MAX_BODY => body = Some(length),
                (Some(length), Some(before)) if length == before => {}
                (Some(_), None) => {
                    return Err(Refusal(413, "the request body is longer than 64 KiB"));
                }
                _ => return Err(Refusal(400, "the Content-Length header is wrong")),
            }
        }
    }
    if !parsed.path.is_some_and(|path| path.is_ascii()) {
        return Err(Refusal(
            400,
            "the request target is not ASCII; percent-encode it",
        ));
    }
    let line_end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1);
    // Empty lines may come before the request line.
    let skipped = bytes
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count();
    let headers_at = if skipped == 0 {
        line_end
    } else {
        let rest = bytes.get(skipped..).unwrap_or_default();
        skipped
            + rest
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(0, |newline| newline + 1)
    };
    Ok(Some(Head {
        length,
        body: body.unwrap_or(0),
        headers_at,
        is_head: parsed.method == Some("HEAD"),
        expects_continue,
    }))
}

/// How long the response is that begins with `bytes`; `None` while its head is not complete.
/// Fails when it is not one of ours.
pub(super) fn response(bytes: &[u8], to_head: bool) -> Result<Option<usize>, ()> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut headers);
    let Status::Complete(head) = parsed.parse(bytes).map_err(|_| ())? else {
        return Ok(None);
    };
    let code = parsed.code.ok_or(())?;
    if to_head || code == 204 || code == 304 {
        return Ok(Some(head));
    }
    let length = parsed
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("Content-Length"))
        .and_then(|header| {
            std::str::from_utf8(header.value)
                .ok()?
                .parse::<usize>()
                .ok()
        })
        .ok_or(())?;
    head.checked_add(length).map(Some).ok_or(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        for http in [
            "GET / HTTP/1.1",
            "POST /api",
            "OPTIONS * HTTP/1.1",
            "GET http://h/",
            "HEAD /x",
        ] {
            assert_eq!(sniff(http.as_bytes()), Sniffed::Http, "{http}");
        }
        for line in [
            "pdu 1 on",
            "GET 1 on",
            "GETTER 1 on",
            "get /",
            "\x16\x03\x01",
            " GET /",
            "GET https://",
        ] {
            assert_eq!(sniff(line.as_bytes()), Sniffed::Line, "{line}");
        }
        for short in ["", "G", "GET", "GET ", "PO", "GET ht", "DELETE"] {
            assert_eq!(sniff(short.as_bytes()), Sniffed::Undecided, "{short}");
        }
    }

    #[test]
    fn heads_are_handed_on_whole_or_refused() {
        let full = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\nrest";
        let head = request(full).expect("fine").expect("complete");
        assert_eq!(
            (head.length, head.body, head.headers_at, head.is_head),
            (28, 0, 17, false)
        );
        assert_eq!(request(b"GET /x HTTP/1.1\r\nHost"), Ok(None));
        let early = b"\r\nHEAD /x HTTP/1.1\r\n\r\n";
        let head = request(early).expect("fine").expect("complete");
        assert_eq!((head.headers_at, head.is_head), (20, true));
        let status = |text: &str| request(text.as_bytes()).expect_err("refused").0;
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
            status(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(MAX_HEAD))),
            431
        );
    }

    #[test]
    fn responses_are_measured() {
        let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(response(ok, false), Ok(Some(ok.len() + 5)));
        assert_eq!(response(ok, true), Ok(Some(ok.len())));
        assert_eq!(response(b"HTTP/1.1 200 OK\r\nCont", false), Ok(None));
        assert_eq!(response(b"HTTP/1.1 200 OK\r\n\r\n", false), Err(()));
    }
}
