//! How often a client may do something.

use super::counted_as;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Token buckets by client address, in a table of bounded size: each address may do something
/// `burst` times at once and then `per_second`.
#[derive(Debug)]
pub struct Buckets {
    burst: f64,
    per_second: f64,
    size: usize,
    /// How many are left, and since when.
    left: HashMap<IpAddr, (f64, Instant)>,
}

impl Buckets {
    /// Buckets that hold `burst` and fill up at `per_second`, for at most `size` addresses.
    pub fn new(burst: u32, per_second: f64, size: usize) -> Self {
        Self {
            burst: f64::from(burst),
            per_second,
            size: size.max(1),
            left: HashMap::new(),
        }
    }

    fn level(&self, key: IpAddr, now: Instant) -> f64 {
        self.left.get(&key).map_or(self.burst, |(left, at)| {
            let filled = now.saturating_duration_since(*at).as_secs_f64() * self.per_second;
            (left + filled).min(self.burst)
        })
    }

    /// Takes one; false when there is none.
    pub fn take(&mut self, ip: IpAddr, now: Instant) -> bool {
        let key = counted_as(ip);
        let level = self.level(key, now);
        if level < 1.0 {
            return false;
        }
        if self.left.len() >= self.size && !self.left.contains_key(&key) {
            self.make_room(now);
        }
        self.left.insert(key, (level - 1.0, now));
        true
    }

    /// Forgets those that are full again, else the one that has been quiet for longest.
    fn make_room(&mut self, now: Instant) {
        let full = Duration::try_from_secs_f64(self.burst / self.per_second).unwrap_or_default();
        self.left
            .retain(|_, (_, at)| now.saturating_duration_since(*at) < full);
        if self.left.len() >= self.size
            && let Some(oldest) = self
                .left
                .iter()
                .min_by_key(|(_, (_, at))| *at)
                .map(|(key, _)| *key)
        {
            self.left.remove(&oldest);
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.left.len()
    }
}
