//! Places in the queue of one PDU: how many there are in all, for one client, and for requests whose
//! delay has not passed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most places that are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueLimits {
    /// In all.
    pub(super) all: usize,
    /// To one owner.
    pub(super) owner: usize,
    /// To requests whose delay has not passed.
    pub(super) delayed: usize,
}

/// Who has how many places.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<PlacesTaken>);

#[derive(Debug, Default)]
struct PlacesTaken {
    all: usize,
    delayed: usize,
    by_owner: HashMap<Arc<str>, usize>,
}

impl Places {
    pub(super) fn taken(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, PlacesTaken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    owner: Arc<str>,
    is_delayed: bool,
}

impl Place {
    /// A place that takes nobody else's.
    pub(super) fn uncounted() -> Self {
        let places = Arc::<Places>::default();
        let owner = Arc::from("");
        let mut taken = places.lock();
        taken.all = 1;
        taken.by_owner.insert(Arc::clone(&owner), 1);
        drop(taken);
        Self {
            places,
            owner,
            is_delayed: false,
        }
    }

    /// A place for a request of `owner`, or why there is none.
    pub(super) fn take(
        places: &Arc<Places>,
        owner: &Arc<str>,
        is_delayed: bool,
        limits: QueueLimits,
    ) -> Result<Self, String> {
        let mut taken = places.lock();
        let of_owner = taken.by_owner.get(owner).copied().unwrap_or_default();
        if taken.all >= limits.all {
            let all = limits.all;
            return Err(format!("the queue is full ({all} requests are waiting)"));
        }
        if of_owner >= limits.owner {
            return Err(format!(
                "the queue has {of_owner} requests of one client, as many as its client_limit lets it have"
            ));
        }
        if is_delayed && taken.delayed >= limits.delayed {
            return Err(format!(
                "the queue has {} requests that wait for their delay, as many as its delayed_limit lets it have",
                taken.delayed
            ));
        }
        taken.all += 1;
        taken.delayed += usize::from(is_delayed);
        taken.by_owner.insert(Arc::clone(owner), of_owner + 1);
        drop(taken);
        Ok(Self {
            places: Arc::clone(places),
            owner: Arc::clone(owner),
            is_delayed,
        })
    }

    /// Its delay has passed.
    pub(super) fn enter(&mut self) {
        if std::mem::take(&mut self.is_delayed) {
            let mut taken = self.places.lock();
            taken.delayed = taken.delayed.saturating_sub(1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.enter();
        let mut taken = self.places.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(of_owner) = taken.by_owner.get_mut(&self.owner) {
            *of_owner = of_owner.saturating_sub(1);
            if *of_owner == 0 {
                taken.by_owner.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_holds_and_what_is_given_back_can_be_had_again() {
        let places = Arc::<Places>::default();
        let limits = QueueLimits {
            all: 4,
            owner: 3,
            delayed: 1,
        };
        let take =
            |owner: &str, is_delayed| Place::take(&places, &owner.into(), is_delayed, limits);
        let is_full = |owner: &str, is_delayed, why: &str| {
            take(owner, is_delayed).is_err_and(|text| text.contains(why))
        };
        let mut delayed = take("a", true).expect("room");
        assert!(is_full("b", true, "delayed_limit"));
        let _second = take("a", false).expect("room");
        let third = take("a", false).expect("room");
        assert!(is_full("a", false, "client_limit"));
        let _fourth = take("b", false).expect("room");
        assert!(is_full("c", false, "the queue is full"));
        drop(third);
        delayed.enter();
        let again = take("a", true).expect("the delay of the first has passed");
        drop((delayed, again));
        assert_eq!(places.taken(), 2);
        assert!(take("b", true).is_ok());
        assert_eq!(places.lock().delayed, 0);
        assert_eq!(places.lock().by_owner.len(), 2);
    }
}
