//! The expect engine: waits for one of several texts in what a PDU prints.
//!
//! [`Screen`] and [`find`] are the pure half: bytes in, clean text and matches out. [`Dialogue`]
//! adds the waiting, over any [`ByteStream`].

use super::{Deadline, Timed, TransportError, TransportErrorKind, blotted, printable};
use std::fmt;

/// The most text kept while waiting: more than any menu screen, little enough for any machine.
const MOST_TEXT: usize = 64 * 1024;

/// How much of the last text seen an error shows.
const SHOWN: usize = 160;

/// One alternative to wait for. Text is compared exactly, ends of lines are `\n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Anywhere in what was printed since the last match.
    Text(&'static str),
    /// The last, unfinished line is this prompt and nothing else (blanks around it aside).
    Prompt(&'static str),
    /// The last, unfinished line ends so (blanks behind it aside).
    Ends(&'static str),
}

/// What was found: which alternative, and the text up to and with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The alternative's place in the list.
    pub which: usize,
    /// Everything printed since the match before.
    pub text: String,
}

/// The first match in `text` (of several that end at one place, the first of the list): which
/// alternative, and the offset behind it.
pub fn find(text: &str, patterns: &[Pattern]) -> Option<(usize, usize)> {
    let last_line = text.rsplit('\n').next().unwrap_or(text);
    patterns
        .iter()
        .enumerate()
        .filter_map(|(which, pattern)| {
            let end = match pattern {
                Pattern::Text(wanted) => text.find(wanted)? + wanted.len(),
                Pattern::Prompt(wanted) => (last_line.trim() == *wanted).then_some(text.len())?,
                Pattern::Ends(wanted) => last_line
                    .trim_end()
                    .ends_with(wanted)
                    .then_some(text.len())?,
            };
            Some((which, end))
        })
        .min_by_key(|(_, end)| *end)
}

/// Where in an escape sequence the input is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// After ESC.
    Begun,
    /// Within `ESC [ ...`, which a letter (or `@` to `~`) ends.
    Control,
    /// Within `ESC ] ...`, which BEL or `ESC \` ends.
    Title,
    /// After ESC and an intermediate byte (character sets): one byte more.
    OneMore,
}

/// What a PDU printed since the last match, as plain text: ANSI escape sequences and control
/// characters dropped, every kind of line end a `\n`.
#[derive(Default)]
pub struct Screen {
    text: String,
    escape: Escape,
    after_return: bool,
    hidden: Vec<String>,
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen")
            .field("text", &self.shown(&self.text))
            .finish_non_exhaustive()
    }
}

impl Screen {
    /// Adds what came; fails when a PDU prints more than any screen holds.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), TransportError> {
        for &byte in bytes {
            self.byte(byte);
            if self.text.len() > MOST_TEXT {
                let shown = self.shown(&self.text);
                self.text.clear();
                return Err(TransportError::new(
                    TransportErrorKind::Garbled,
                    format!("more than {MOST_TEXT} bytes without the expected text, last {shown}"),
                ));
            }
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) {
        let after_return = std::mem::take(&mut self.after_return);
        match (self.escape, byte) {
            (Escape::None, 0x1b) => self.escape = Escape::Begun,
            (Escape::None, b'\r') => {
                self.text.push('\n');
                self.after_return = true;
            }
            (Escape::None, b'\n') if after_return => {}
            (Escape::None, b'\n' | b'\t') => self.text.push(char::from(byte)),
            // NUL behind CR is part of the line end.
            (Escape::None, 0) => self.after_return = after_return,
            (Escape::None, 0x01..=0x1f | 0x7f) => {}
            (Escape::None, _) => self.text.push(char::from(byte)),
            (Escape::Begun, b'[') => self.escape = Escape::Control,
            (Escape::Begun, b']') => self.escape = Escape::Title,
            (Escape::Begun, b'(' | b')' | b'#' | b'%') => self.escape = Escape::OneMore,
            (Escape::Begun, 0x1b) | (Escape::Title, 0x1b) => self.escape = Escape::Begun,
            (Escape::Begun | Escape::OneMore, _) => self.escape = Escape::None,
            (Escape::Control, 0x40..=0x7e) | (Escape::Title, 0x07) => self.escape = Escape::None,
            (Escape::Control | Escape::Title, _) => {}
        }
    }

    /// What was printed since the last match.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Takes the text up to `end`, which a match gave.
    pub fn take(&mut self, end: usize) -> String {
        let rest = self.text.get(end..).unwrap_or_default().to_owned();
        let mut taken = std::mem::replace(&mut self.text, rest);
        taken.truncate(taken.len() - self.text.len());
        taken
    }

    /// Forgets what was printed so far.
    pub fn clear(&mut self) {
        self.text.clear();
    }

    /// From now on `secret` is shown as `***`: a PDU may echo what it is sent.
    pub fn hide(&mut self, secret: &str) {
        // As it is sent, and as its bytes are taken one by one when they come back.
        let echoed: String = secret.bytes().map(char::from).collect();
        self.hidden.extend([secret.to_owned(), echoed]);
    }

    /// The end of `text` for an error or a log line: without secrets, on one line.
    pub fn shown(&self, text: &str) -> String {
        let text = blotted(text.as_bytes(), &self.hidden);
        let text = String::from_utf8_lossy(&text);
        let text = text.trim();
        let start = (0..text.len())
            .rev()
            .take(SHOWN)
            .rfind(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        printable(text.get(start..).unwrap_or_default().as_bytes())
    }

    /// A PDU's own words for a refusal: blanks and line ends folded, without secrets.
    pub fn words(&self, text: &str) -> String {
        let folded: Vec<&str> = text.split_whitespace().collect();
        self.shown(&folded.join(" ")).trim_matches('"').to_owned()
    }
}

/// A byte stream to talk over.
pub trait ByteStream {
    /// Sends all of `bytes`.
    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), TransportError>;

    /// Waits for bytes and appends them to `into`; `false` when the peer has closed.
    fn receive(&mut self, into: &mut Vec<u8>, deadline: Deadline) -> Result<bool, TransportError>;
}

/// A dialogue: sends lines, waits for texts.
#[derive(Debug)]
pub struct Dialogue<S> {
    /// What the bytes travel over.
    pub stream: S,
    /// What was printed.
    pub screen: Screen,
}

impl<S: ByteStream> Dialogue<S> {
    /// A dialogue over `stream`.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            screen: Screen::default(),
        }
    }

    /// Sends `bytes` as they are.
    pub fn send(&mut self, bytes: &[u8], timed: impl Timed) -> Result<(), TransportError> {
        self.stream
            .send(bytes, timed.deadline())
            .map_err(|error| self.with_last(error))?;
        timed.sent();
        Ok(())
    }

    /// Waits for one of `patterns`; `what` names it in errors.
    pub fn expect(
        &mut self,
        what: &str,
        patterns: &[Pattern],
        deadline: Deadline,
    ) -> Result<Found, TransportError> {
        let (text, which) = self.expect_if(what, deadline, |text| {
            find(text, patterns).map(|(which, end)| (end, which))
        })?;
        Ok(Found { which, text })
    }

    /// Waits until `judge` finds in the text since the last match what it looks for: the offset
    /// behind it, and whatever it makes of it.
    pub fn expect_if<T>(
        &mut self,
        what: &str,
        deadline: Deadline,
        mut judge: impl FnMut(&str) -> Option<(usize, T)>,
    ) -> Result<(String, T), TransportError> {
        let mut bytes = Vec::new();
        let mut open = true;
        loop {
            if let Some((end, found)) = judge(self.screen.text()) {
                return Ok((self.screen.take(end), found));
            }
            if !open {
                return Err(self.with_last(TransportError::new(
                    TransportErrorKind::Closed,
                    format!("connection closed while waiting for {what}"),
                )));
            }
            bytes.clear();
            let received = self.stream.receive(&mut bytes, deadline);
            // What came before an error may be the reason for it.
            self.screen.feed(&bytes)?;
            match received {
                Ok(more) => open = more,
                Err(error) => {
                    let detail = match error.kind {
                        TransportErrorKind::Timeout => format!("no {what} in time"),
                        _ => format!("{} (waiting for {what})", error.detail),
                    };
                    return Err(self.with_last(TransportError { detail, ..error }));
                }
            }
        }
    }

    /// The error, with the last text seen.
    fn with_last(&self, error: TransportError) -> TransportError {
        let last = self.screen.shown(self.screen.text());
        let detail = if last == "\"\"" {
            format!("{}, nothing seen", error.detail)
        } else {
            format!("{}, last seen {last}", error.detail)
        };
        TransportError { detail, ..error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::time::Duration;

    fn clean(bytes: &[u8]) -> String {
        let mut screen = Screen::default();
        screen.feed(bytes).expect("little text");
        screen.text().to_owned()
    }

    #[test]
    fn escapes_and_line_ends_are_cleaned() {
        assert_eq!(
            clean(b"\x1b[2J\x1b[1;1Ha\r\nb\rc\n\rd\r\0\ne"),
            "a\nb\nc\n\nd\ne"
        );
        assert_eq!(
            clean(b"\x1b]0;title\x07x\x1b(By\x1b]t\x1b\\z\x1b=!"),
            "xyz!"
        );
        assert_eq!(clean(b"a\x07\x08b\xe9"), "ab\u{e9}");
        // Cut anywhere, the text is the same.
        let whole = b"\x1b[31mred\x1b[0m\r\nnext\r\0";
        for cut in 0..whole.len() {
            let mut screen = Screen::default();
            screen.feed(&whole[..cut]).expect("fed");
            screen.feed(&whole[cut..]).expect("fed");
            assert_eq!(screen.text(), "red\nnext\n", "cut at {cut}");
        }
    }

    #[test]
    fn the_first_match_wins_and_prompts_are_last_lines() {
        use Pattern::{Ends, Prompt, Text};
        assert_eq!(
            find("ERR. no\nOK.", &[Text("OK."), Text("ERR.")]),
            Some((1, 4))
        );
        assert_eq!(find("<ESC>- Back\n> ", &[Prompt(">")]), Some((0, 14)));
        assert_eq!(find("  <ESC>", &[Prompt(">")]), None);
        assert_eq!(find(">\nmore", &[Prompt(">")]), None);
        assert_eq!(find("Login User ID: ", &[Ends("User ID:")]), Some((0, 15)));
        assert_eq!(find("", &[Prompt(">"), Text("a")]), None);
    }

    #[test]
    fn what_is_shown_hides_secrets_and_is_short() {
        let mut screen = Screen::default();
        screen.hide("s3cret");
        assert_eq!(screen.shown("login admin s3cret\n"), "\"login admin ***\"");
        assert_eq!(
            screen.words("E101:  Not\n found s3cret"),
            "E101: Not found ***"
        );
        // The letters of a password come back as bytes.
        screen.hide("p\u{e4}sswort");
        screen
            .feed("login p\u{e4}sswort\n".as_bytes())
            .expect("fed");
        assert_eq!(screen.shown(screen.text()), "\"login ***\"");
        let shown = screen.shown(&"\u{e9}".repeat(1000));
        assert!(shown.len() < 800, "{}", shown.len());
        assert!(!format!("{screen:?}").contains("s3cret"));
    }

    #[test]
    fn an_endless_text_is_an_error() {
        let error = Screen::default()
            .feed(&vec![b'x'; MOST_TEXT + 1])
            .expect_err("too much");
        assert_eq!(error.kind, TransportErrorKind::Garbled);
    }

    /// Pieces that come one by one, then the end.
    struct Pieces(VecDeque<&'static [u8]>);

    impl ByteStream for Pieces {
        fn send(&mut self, _: &[u8], _: Deadline) -> Result<(), TransportError> {
            Ok(())
        }

        fn receive(&mut self, into: &mut Vec<u8>, _: Deadline) -> Result<bool, TransportError> {
            let piece = self.0.pop_front();
            into.extend_from_slice(piece.unwrap_or_default());
            Ok(piece.is_some())
        }
    }

    #[test]
    fn a_dialogue_waits_and_tells_the_last_text() {
        let pieces: [&'static [u8]; 3] = [b"User Na", b"me : ", b"half of it"];
        let mut dialogue = Dialogue::new(Pieces(pieces.into()));
        let deadline = Deadline::after(Duration::from_secs(1));
        let found = dialogue
            .expect("a prompt", &[Pattern::Prompt("User Name :")], deadline)
            .expect("found");
        assert_eq!((found.which, found.text.as_str()), (0, "User Name : "));
        let error = dialogue
            .expect("a menu", &[Pattern::Prompt(">")], deadline)
            .expect_err("closed");
        assert_eq!(error.kind, TransportErrorKind::Closed);
        assert!(error.detail.contains("half of it"), "{error}");
    }
}
