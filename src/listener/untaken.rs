//! Connections to tiny_http that no thread of its has taken yet.
//!
//! tiny_http 0.12 starts a thread for a connection only when none of its threads is idle, and
//! counts one as idle until it has woken up. Connections that come faster than that wait in a list
//! until another connection ends, which can be for ever. A connection that ends at once makes such
//! a thread free; the front makes one for each that has waited too long.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a thread may take to show up.
pub(super) const PATIENCE: Duration = Duration::from_millis(20);

/// Clients whose first request has not come out of tiny_http: kept by the front, struck off by the
/// HTTP thread.
#[derive(Debug, Default)]
pub(super) struct Untaken(Mutex<HashMap<u64, Instant>>);

impl Untaken {
    /// The client's first request was handed on.
    pub(super) fn add(&self, client: u64, now: Instant) {
        self.lock().insert(client, now);
    }

    /// It came out, or needs to no more.
    pub(super) fn remove(&self, client: u64) {
        self.lock().remove(&client);
    }

    /// How many have waited too long, and are now given as long again; `None` when no one waits.
    pub(super) fn late(&self, now: Instant) -> Option<usize> {
        let mut clients = self.lock();
        if clients.is_empty() {
            return None;
        }
        let late = clients
            .values_mut()
            .filter(|since| now.saturating_duration_since(**since) >= PATIENCE);
        Some(late.map(|since| *since = now).count())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_late_are_told_once_per_patience() {
        let (untaken, now) = (Untaken::default(), Instant::now());
        assert_eq!(untaken.late(now), None);
        untaken.add(2, now);
        untaken.add(4, now + PATIENCE);
        assert_eq!(untaken.late(now), Some(0));
        assert_eq!(untaken.late(now + PATIENCE), Some(1));
        assert_eq!(untaken.late(now + PATIENCE), Some(0));
        untaken.remove(2);
        assert_eq!(untaken.late(now + 2 * PATIENCE), Some(1));
        untaken.remove(4);
        assert_eq!(untaken.late(now + 3 * PATIENCE), None);
    }
}
