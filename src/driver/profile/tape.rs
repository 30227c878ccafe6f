//! What an engine and a PDU have really said, in the notation of a profile's tests.

use super::script::Line;
use std::sync::{Arc, Mutex, PoisonError};

/// Writes down a dialogue while it is going on.
#[derive(Clone, Debug, Default)]
pub struct Tape(Arc<Mutex<Written>>);

#[derive(Debug, Default)]
struct Written {
    lines: Vec<Line>,
    /// Where each reading of a state begins.
    readings: Vec<usize>,
    /// What the PDU has given us to keep to ourselves, and what stands in its place.
    secrets: Vec<(String, String)>,
}

impl Tape {
    fn written<T>(&self, with: impl FnOnce(&mut Written) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// We have sent this.
    pub(crate) fn sent(&self, line: impl Into<String>) {
        self.written(|written| written.lines.push(Line::Sent(line.into())));
    }

    /// The PDU has answered this.
    pub(crate) fn answered(&self, line: impl Into<String>) {
        self.written(|written| written.lines.push(Line::Answer(line.into())));
    }

    /// A state is read next.
    pub(crate) fn reads(&self) {
        self.written(|written| written.readings.push(written.lines.len()));
    }

    /// `stand_in` stands where the PDU says `secret`.
    pub(crate) fn hide(&self, secret: &str, stand_in: &str) {
        // So short a text stands anywhere by chance, and gives nothing away.
        if secret.chars().count() >= 3 {
            let pair = (secret.to_owned(), stand_in.to_owned());
            self.written(|written| written.secrets.push(pair));
        }
    }

    /// Is there anything on it?
    pub(crate) fn is_empty(&self) -> bool {
        self.written(|written| written.lines.is_empty())
    }

    /// The dialogue without secrets of the PDU's, and with one of several readings in a row that
    /// told the same.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.written(|written| {
            let mut lines = written.lines.clone();
            let ends = written.readings.iter().skip(1).copied();
            let readings: Vec<(usize, usize)> =
                written.readings.iter().copied().zip(ends).collect();
            // From the last to the first, so that the places before stay.
            for (start, end) in readings.into_iter().rev() {
                let next = end + (end - start);
                let of = |from, to| lines.get(from..to);
                if start < end && of(start, end).is_some() && of(start, end) == of(end, next) {
                    lines.drain(start..end);
                }
            }
            for (secret, stand_in) in &written.secrets {
                for line in &mut lines {
                    if let Line::Answer(text) = line {
                        *text = text.replace(secret, stand_in);
                    }
                }
            }
            lines
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_that_tell_the_same_stand_once_and_secrets_never() {
        let tape = Tape::default();
        tape.hide("hunter2", "text");
        tape.sent("on 1");
        tape.answered("hello hunter2");
        for state in ["off", "off", "off", "on"] {
            tape.reads();
            tape.sent("state 1");
            tape.answered(state);
        }
        let sent = |text: &str| Line::Sent(text.to_owned());
        let answer = |text: &str| Line::Answer(text.to_owned());
        assert_eq!(
            tape.lines(),
            [
                sent("on 1"),
                answer("hello text"),
                sent("state 1"),
                answer("off"),
                sent("state 1"),
                answer("on"),
            ]
        );
    }
}
