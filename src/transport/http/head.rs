//! Heads of answers as the web servers of PDUs write them, made into heads that `ureq` takes.
//!
//! `ureq` refuses a head with a single odd line, and then we would report a command as failed that the
//! PDU has carried out. So we make a new head for it: the status, the few fields that matter, and one
//! length at most. We pass over everything that curl and browsers pass over. After a head that was
//! not in order we do not use the connection again, so that nobody can hide a second answer behind
//! the first.

use super::MOST_HEAD;
use std::borrow::Cow;

/// The fields that we hand on as they are; `Content-Length`, `Transfer-Encoding` and `Connection` we
/// make anew.
const HANDED_ON: [&str; 5] = [
    "WWW-Authenticate",
    "Location",
    "Set-Cookie",
    "X-Auth-Token",
    "X-CSRF-Token",
];

/// The names of the headers of an answer that can be asked for.
pub fn kept() -> &'static [&'static str] {
    &HANDED_ON
}

/// The most of each that we hand on, more than any server has.
const MOST_REPEATED: usize = 16;

/// A head made anew.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) text: Vec<u8>,
    /// The length of the original head.
    pub(super) length: usize,
    pub(super) status: u16,
}

impl Head {
    /// Does another one follow, which is the answer?
    pub(super) fn is_provisional(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// Why the bytes are no answer of a web server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit<'a> {
    /// This stands where a status line should be.
    NoStatus(&'a [u8]),
    /// The head gives two lengths.
    TwoLengths(u64, u64),
    /// It does not end.
    TooLong,
}

/// The head that `raw` begins with; `None` when it is not complete yet.
pub(super) fn read(raw: &[u8]) -> Result<Option<Head>, Unfit<'_>> {
    let mut lines = Lines { rest: raw };
    // Line breaks behind the answer before belong to nothing.
    let first = loop {
        match lines.next() {
            Some([]) => {}
            Some(line) => break line,
            None => return incomplete(raw, lines.rest),
        }
    };
    let mut head = Parts::new(status(first).ok_or(Unfit::NoStatus(first))?);
    loop {
        match lines.next() {
            Some([]) => break,
            Some(line) => head.take(line),
            None if raw.len() > MOST_HEAD => return Err(Unfit::TooLong),
            None => return Ok(None),
        }
    }
    let length = raw.len() - lines.rest.len();
    if length > MOST_HEAD {
        return Err(Unfit::TooLong);
    }
    Ok(Some(Head {
        text: head.write()?,
        length,
        status: head.status.code,
    }))
}

/// Before the status line is whole, its beginning must fit.
fn incomplete<'a>(raw: &[u8], line: &'a [u8]) -> Result<Option<Head>, Unfit<'a>> {
    const BEGIN: &[u8] = b"HTTP/";
    let both = line.iter().zip(BEGIN);
    if !both.into_iter().all(|(a, b)| a.eq_ignore_ascii_case(b)) {
        return Err(Unfit::NoStatus(line));
    }
    match raw.len() > MOST_HEAD {
        true => Err(Unfit::TooLong),
        false => Ok(None),
    }
}

/// Whole lines, without their ends.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let (mut line, rest) = self.rest.split_at_checked(end)?;
        while let [before @ .., b'\r'] = line {
            line = before;
        }
        self.rest = rest.get(1..)?;
        Some(line)
    }
}

#[derive(Clone, Copy)]
struct Status {
    /// HTTP/1.0, whose connections end with the answer.
    is_old: bool,
    code: u16,
    is_odd: bool,
}

/// `HTTP/1.1 200 OK`: in any letter case, of any version 1 (and 0.9, which had no status line,
/// but some name it), with any number of blanks and any words.
fn status(line: &[u8]) -> Option<Status> {
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_ascii_whitespace();
    let (version, code) = (words.next()?, words.next()?);
    let (protocol, number) = version.split_once('/')?;
    let (major, minor) = number.split_once('.')?;
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !protocol.eq_ignore_ascii_case("HTTP") || !are_digits(minor) || code.len() != 3 {
        return None;
    }
    let is_old = match major {
        "1" => minor.bytes().all(|digit| digit == b'0'),
        "0" => true,
        _ => return None,
    };
    let plain = if is_old { "HTTP/1.0 " } else { "HTTP/1.1 " };
    Some(Status {
        is_old,
        code: code.parse().ok().filter(|code| *code >= 100)?,
        is_odd: !line.starts_with(&format!("{plain}{code}")),
    })
}

/// The parts of a head that count.
struct Parts {
    status: Status,
    fields: Vec<(String, Vec<u8>)>,
    /// Does a folded line belong to the last of the fields?
    may_fold: bool,
    is_odd: bool,
}

impl Parts {
    fn new(status: Status) -> Self {
        Self {
            status,
            fields: Vec::new(),
            may_fold: false,
            is_odd: status.is_odd,
        }
    }

    fn take(&mut self, line: &[u8]) {
        let mut value = Vec::new();
        if let [b' ' | b'\t', ..] = line {
            self.is_odd = true;
            if self.may_fold
                && let Some((_, last)) = self.fields.last_mut()
            {
                last.push(b' ');
                last.extend(line.trim_ascii());
                value = std::mem::take(last);
            }
        } else {
            let colon = line.iter().position(|byte| *byte == b':');
            let (name, rest) = line.split_at(colon.unwrap_or(line.len()));
            let plain = name.trim_ascii_end();
            self.may_fold = colon.is_some() && is_token(plain);
            self.is_odd |= !self.may_fold || plain.len() < name.len();
            if self.may_fold {
                let name = String::from_utf8_lossy(plain).into_owned();
                self.fields.push((name, Vec::new()));
                value.extend(rest.get(1..).unwrap_or_default().trim_ascii());
            }
        }
        if !self.may_fold {
            return;
        }
        for byte in &mut value {
            if byte.is_ascii_control() && *byte != b'\t' {
                *byte = b' ';
                self.is_odd = true;
            }
        }
        if let Some((_, last)) = self.fields.last_mut() {
            *last = value.trim_ascii().to_vec();
        }
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let own = move |field: &&(String, Vec<u8>)| field.0.eq_ignore_ascii_case(name);
        self.fields
            .iter()
            .filter(own)
            .map(|(_, value)| value.as_slice())
    }

    /// All that the lists under this name have, in lower case.
    fn words(&self, name: &str) -> Vec<String> {
        self.values(name)
            .map(String::from_utf8_lossy)
            .flat_map(|value: Cow<'_, str>| {
                let words = value.split(',').map(str::trim).map(str::to_ascii_lowercase);
                words.collect::<Vec<_>>()
            })
            .collect()
    }

    /// The length that every field with a number gives.
    fn length(&mut self) -> Result<Option<u64>, Unfit<'static>> {
        let mut length = None;
        for word in self.words("Content-Length") {
            let digits = word.bytes().all(|byte| byte.is_ascii_digit());
            match (word.parse::<u64>(), length) {
                (Ok(one), Some(other)) if digits && one != other => {
                    return Err(Unfit::TwoLengths(other, one));
                }
                (Ok(one), _) if digits => length = Some(one),
                _ => self.is_odd = true,
            }
        }
        Ok(length)
    }

    fn write(&mut self) -> Result<Vec<u8>, Unfit<'static>> {
        let length = self.length()?;
        let codings = self.words("Transfer-Encoding");
        let is_chunked = codings.iter().any(|coding| coding == "chunked");
        // With a coding that we do not know, the end of the connection is the end of the body.
        let has_length = codings.iter().all(|coding| coding == "identity");
        self.is_odd |= !codings.is_empty() && (length.is_some() || self.status.is_old);
        let connection = self.words("Connection");
        let says = |word: &str| connection.iter().any(|own| own == word);
        let version = if self.status.is_old && !is_chunked {
            "1.0"
        } else {
            "1.1"
        };
        let mut text = format!("HTTP/{version} {}\r\n", self.status.code);
        if is_chunked {
            text.push_str("Transfer-Encoding: chunked\r\n");
        } else if let Some(length) = length.filter(|_| has_length) {
            text.push_str(&format!("Content-Length: {length}\r\n"));
        }
        if self.is_odd || says("close") {
            text.push_str("Connection: close\r\n");
        } else if says("keep-alive") {
            text.push_str("Connection: keep-alive\r\n");
        }
        let mut text = text.into_bytes();
        for name in HANDED_ON {
            for value in self.values(name).take(MOST_REPEATED) {
                text.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
            }
        }
        text.extend(b"\r\n");
        Ok(text)
    }
}

fn is_token(name: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(fits)
}

/// Heads of any kind: the one made anew must be one that `ureq` takes, with one length at most.
#[cfg(fuzzing)]
pub fn check(raw: &[u8]) {
    let Ok(Some(head)) = read(raw) else {
        return;
    };
    assert!(head.length <= raw.len() && head.text.len() <= head.length + 128);
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(&head.text);
    assert_eq!(parsed, Ok(httparse::Status::Complete(head.text.len())));
    assert_eq!(response.code, Some(head.status));
    let lengths = response
        .headers
        .iter()
        .filter(|field| ["Content-Length", "Transfer-Encoding"].contains(&field.name));
    assert!(lengths.count() <= 1);
    // Made anew once more, it stays as it is.
    if head.text.len() > MOST_HEAD {
        return;
    }
    let again = read(&head.text).map(|again| again.map(|again| again.text));
    assert_eq!(again.as_ref(), Ok(&Some(head.text.clone())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(raw: &str) -> String {
        let head = read(raw.as_bytes()).expect("fits").expect("is whole");
        assert_eq!(head.length, raw.len(), "{raw:?}");
        String::from_utf8(head.text).expect("text")
    }

    #[test]
    fn what_matters_of_a_head_in_order_stays_and_the_connection_with_it() {
        assert_eq!(
            made(
                "HTTP/1.1 401 No\r\nServer: x\r\nSet-Cookie: a=1\r\ncontent-length: 15\r\nConnection: Keep-Alive\r\n\
                 WWW-Authenticate: Basic realm=\"\u{e9}\"\r\nwww-authenticate: Digest\r\n\r\n"
            ),
            "HTTP/1.1 401\r\nContent-Length: 15\r\nConnection: keep-alive\r\n\
             WWW-Authenticate: Basic realm=\"\u{e9}\"\r\nWWW-Authenticate: Digest\r\n\
             Set-Cookie: a=1\r\n\r\n"
        );
        assert_eq!(
            made("HTTP/1.0 302\nLocation: /x\n\n"),
            "HTTP/1.0 302\r\nLocation: /x\r\n\r\n"
        );
        assert_eq!(
            made("\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"),
            "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        assert_eq!(
            made("HTTP/1.1 200 OK\r\nContent-Length: 4, 4\r\nContent-Length: 4\r\n\r\n"),
            "HTTP/1.1 200\r\nContent-Length: 4\r\n\r\n"
        );
    }

    #[test]
    fn odd_lines_are_passed_over_and_cost_the_connection() {
        const WITH_LENGTH: &str = "HTTP/1.1 200\r\nContent-Length: 15\r\nConnection: close\r\n\r\n";
        for odd in [
            "HTTP/1.1 200 OK\r\nContent-Length : 15\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Type : a/b\r\nContent-Length: 15\r\n\r\n",
            "HTTP/1.1 200 OK\r\nRelay board\r\nContent-Length: 15\r\n\r\n",
            "HTTP/1.1 200 OK\r\nRelay board\r\n Content-Length: 9\r\nContent-Length: 15\r\n\r\n",
            "HTTP/1.1 200 OK\r\n folded: at once\r\nContent-Length: 15\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: no name\r\nContent-Length: 15\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent Type: a/b\r\nContent-Length: 15\r\n\r\n",
            "HTTP/1.1 200 OK\r\nServer: a\r\n b\r\nContent-Length: 15\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length:\r\n\t15\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX-A: a\x0cb\r\nContent-Length: 15\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX-A: a\0\r\nContent-Length: 15\x7f\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX-A: a\rb\r\nContent-Length: 15\r\n\r\n",
            "HTTP/1.2 200 OK\r\nContent-Length: 15\r\n\r\n",
            "http/1.1 200 OK\r\nContent-Length: 15\r\n\r\n",
            "HTTP/1.1  200 OK\r\nContent-Length: 15\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: none\r\nContent-Length: 15\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 15, +15, -1\r\n\r\n",
        ] {
            assert_eq!(made(odd), WITH_LENGTH, "{odd:?}");
        }
        const TO_THE_END: &str = "HTTP/1.1 200\r\nConnection: close\r\n\r\n";
        for odd in [
            "HTTP/1.1 200 OK\r\nContent-Length:\r\nConnection: keep-alive\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\x005\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 15\r\nTransfer-Encoding: gzip\r\n\r\n",
        ] {
            assert_eq!(made(odd), TO_THE_END, "{odd:?}");
        }
    }

    #[test]
    fn of_two_lengths_chunks_win_and_two_numbers_are_refused() {
        const CHUNKED: &str =
            "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        for both in [
            "HTTP/1.1 200 OK\r\nContent-Length: 15\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\nContent-Length: 15\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert_eq!(made(both), CHUNKED, "{both:?}");
        }
        for two in [
            "HTTP/1.1 200 OK\r\nContent-Length: 15\r\nContent-Length: 16\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 15,16\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length : 15\r\ncontent-length: 16\r\n\r\n",
        ] {
            assert_eq!(
                read(two.as_bytes()),
                Err(Unfit::TwoLengths(15, 16)),
                "{two:?}"
            );
        }
    }

    #[test]
    fn what_is_no_answer_is_told_at_once() {
        for line in ["SSH-2.0-x", "220 ftp", "\0", "<html>", "HTTPS", "{}"] {
            for raw in [line.to_owned(), format!("{line}\r\n\r\n")] {
                let read = read(raw.as_bytes());
                assert_eq!(read, Err(Unfit::NoStatus(line.as_bytes())), "{raw:?}");
            }
        }
        for line in [
            "HTTP/2 200",
            "HTTP/2.0 200",
            "HTTP/1. 200",
            "HTTP/1.1 20",
            "HTTP/1.1 2000",
            "HTTP/1.1 099",
            "HTTP/1.1 +20",
            "HTTP/1.1",
            "HTTP/1.1 /x?password=p",
        ] {
            let raw = format!("{line}\r\n\r\n");
            assert_eq!(read(raw.as_bytes()), Err(Unfit::NoStatus(line.as_bytes())));
        }
    }

    #[test]
    fn a_head_that_does_not_end_is_too_long() {
        for (begin, more) in [
            ("HTTP/1.1 200", "x"),
            ("HTTP/1.1 200 OK\r\n", "a: b\r\n"),
            ("", "\n"),
        ] {
            let mut raw = begin.to_owned();
            while raw.len() <= MOST_HEAD {
                if raw.len() + more.len() < MOST_HEAD {
                    assert_eq!(read(raw.as_bytes()), Ok(None));
                    raw = begin.to_owned() + &more.repeat((MOST_HEAD - raw.len()) / more.len());
                }
                raw.push_str(more);
            }
            assert_eq!(read(raw.as_bytes()), Err(Unfit::TooLong), "{begin:?}");
        }
    }
}
