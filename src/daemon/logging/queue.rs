//! The lines between the threads that log and the one that writes the log. A log that nobody reads
//! fills the queue, and then lines are lost and counted: no worker waits for a reader.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of lines that wait to be in the log, for each kind.
const MOST_BYTES: usize = 1024 * 1024;
/// About as many bytes go into one write.
const BATCH: usize = 64 * 1024;
/// A write that takes longer than this is trouble.
const SLOW: Duration = Duration::from_secs(2);

/// The kinds have room of their own, so that a flood of one costs no line of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A line with the result of a client's request.
    Request,
    /// All others.
    Other,
}

/// One line with its place in the order of all.
pub(super) struct Numbered<L> {
    number: u64,
    kind: Kind,
    bytes: usize,
    pub(super) line: L,
}

/// See the module's documentation.
pub(super) struct Queue<L> {
    inner: Mutex<Inner<L>>,
    arrived: Condvar,
    written: Condvar,
}

struct Inner<L> {
    requests: Lane<L>,
    others: Lane<L>,
    next: u64,
    writing_since: Option<Instant>,
    /// Why the last write failed.
    failure: Option<String>,
    /// How many of the lost lines the log has reported.
    told: u64,
}

struct Lane<L> {
    lines: VecDeque<Numbered<L>>,
    bytes: usize,
    lost: u64,
}

impl<L> Default for Queue<L> {
    fn default() -> Self {
        let lane = || Lane {
            lines: VecDeque::new(),
            bytes: 0,
            lost: 0,
        };
        Self {
            inner: Mutex::new(Inner {
                requests: lane(),
                others: lane(),
                next: 0,
                writing_since: None,
                failure: None,
                told: 0,
            }),
            arrived: Condvar::new(),
            written: Condvar::new(),
        }
    }
}

impl<L> Queue<L> {
    /// Adds a line of this many bytes, or counts it as lost where there is no room. Never waits.
    pub(super) fn push(&self, kind: Kind, line: L, bytes: usize) {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        let lane = inner.lane(kind);
        if lane.bytes + bytes > MOST_BYTES {
            lane.lost += 1;
            return;
        }
        lane.bytes += bytes;
        lane.lines.push_back(Numbered {
            number,
            kind,
            bytes,
            line,
        });
        let is_idle = inner.writing_since.is_none();
        drop(inner);
        if is_idle {
            self.arrived.notify_one();
        }
    }

    /// Waits for lines and takes the oldest; [`Queue::done`] must follow.
    pub(super) fn take(&self) -> Vec<Numbered<L>> {
        let mut inner = self.lock();
        loop {
            let batch = inner.oldest();
            if !batch.is_empty() {
                inner.writing_since = Some(Instant::now());
                return batch;
            }
            inner = self
                .arrived
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Of the lines taken, the first `written` are in the log; `failure` says why the others are not.
    /// Returns the number of lines lost since the log last reported some, when it can report again.
    pub(super) fn done(
        &self,
        batch: &[Numbered<L>],
        written: usize,
        failure: Option<String>,
    ) -> Option<u64> {
        let mut inner = self.lock();
        inner.writing_since = None;
        for (index, line) in batch.iter().enumerate() {
            let lane = inner.lane(line.kind);
            lane.bytes = lane.bytes.saturating_sub(line.bytes);
            if index >= written {
                lane.lost += 1;
            }
        }
        inner.failure = failure;
        let lost = inner.requests.lost + inner.others.lost;
        let untold = lost - inner.told;
        if inner.failure.is_none() {
            inner.told = lost;
        }
        let tells = inner.failure.is_none() && untold > 0;
        drop(inner);
        self.written.notify_all();
        tells.then_some(untold)
    }

    /// Waits until every line is in the log, but not longer than `patience`.
    pub(super) fn drain(&self, patience: Duration) {
        let is_busy = |inner: &mut Inner<L>| {
            inner.writing_since.is_some()
                || !inner.requests.lines.is_empty()
                || !inner.others.lines.is_empty()
        };
        let waited = self
            .written
            .wait_timeout_while(self.lock(), patience, is_busy);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// How many lines about requests are lost and how many others, and what is wrong.
    pub(super) fn health(&self) -> ([u64; 2], Option<String>) {
        let inner = self.lock();
        let stalled = inner
            .writing_since
            .map(|since| since.elapsed())
            .filter(|took| *took > SLOW);
        let trouble = match (stalled, &inner.failure) {
            (Some(took), _) => Some(format!("nobody has taken the log for {} s", took.as_secs())),
            (None, Some(why)) => Some(format!("the log cannot be written: {why}")),
            (None, None) => None,
        };
        ([inner.requests.lost, inner.others.lost], trouble)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<L>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L> Inner<L> {
    fn lane(&mut self, kind: Kind) -> &mut Lane<L> {
        match kind {
            Kind::Request => &mut self.requests,
            Kind::Other => &mut self.others,
        }
    }

    /// The oldest lines of both lanes, in the order of their logging.
    fn oldest(&mut self) -> Vec<Numbered<L>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH {
            let number = |lane: &Lane<L>| lane.lines.front().map(|line| line.number);
            let lane = match (number(&self.requests), number(&self.others)) {
                (None, None) => break,
                (Some(request), Some(other)) if request > other => &mut self.others,
                (None, Some(_)) => &mut self.others,
                (Some(_), _) => &mut self.requests,
            };
            let Some(line) = lane.lines.pop_front() else {
                break;
            };
            bytes += line.bytes;
            batch.push(line);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(batch: &[Numbered<&'static str>]) -> Vec<&'static str> {
        batch.iter().map(|numbered| numbered.line).collect()
    }

    #[test]
    fn a_flood_of_other_lines_costs_no_line_about_a_request() {
        let queue = Queue::default();
        for _ in 0..3 {
            queue.push(Kind::Other, "noise", MOST_BYTES / 2);
        }
        queue.push(Kind::Request, "on", 10);
        assert_eq!(queue.health().0, [0, 1]);
        let mut written = Vec::new();
        while !written.contains(&"on") {
            let batch = queue.take();
            written.extend(texts(&batch));
            queue.done(&batch, batch.len(), None);
        }
        assert_eq!(written, ["noise", "noise", "on"]);
    }

    #[test]
    fn lines_come_in_their_order_whatever_their_kind() {
        let queue = Queue::default();
        queue.push(Kind::Other, "1", 1);
        queue.push(Kind::Request, "2", 1);
        queue.push(Kind::Other, "3", 1);
        assert_eq!(texts(&queue.take()), ["1", "2", "3"]);
    }

    #[test]
    fn losses_are_told_once_when_the_log_goes_on() {
        let queue = Queue::default();
        queue.push(Kind::Other, "1", 1);
        queue.push(Kind::Other, "2", 1);
        let batch = queue.take();
        assert_eq!(queue.done(&batch, 1, Some("disk full".into())), None);
        assert!(queue.health().1.is_some());
        queue.push(Kind::Other, "3", 1);
        let batch = queue.take();
        assert_eq!(queue.done(&batch, 1, None), Some(1));
        assert_eq!(queue.health().1, None);
        queue.push(Kind::Other, "4", 1);
        let batch = queue.take();
        assert_eq!(queue.done(&batch, 1, None), None);
    }
}
