//! Places in the queue of one PDU: how many there are in all, for one client, and for requests whose
//! delay has not passed.

use super::held::held;
use crate::config::PduConfig;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Who has how many places.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// How many are taken.
    pub(super) taken: usize,
    delayed: usize,
    by_owner: HashMap<Arc<str>, usize>,
}

impl Places {
    /// Why the settings leave no place for a request of `owner`, if that is so.
    fn full(&self, owner: &Arc<str>, is_delayed: bool, pdu: &PduConfig) -> Option<String> {
        let of_owner = self.by_owner.get(owner).copied().unwrap_or_default();
        if self.taken >= pdu.queue_limit {
            let all = pdu.queue_limit;
            return Some(format!("the queue is full ({all} requests are waiting)"));
        }
        if of_owner >= pdu.client_limit {
            return Some(format!(
                "the queue has {of_owner} requests of one client, as many as its client_limit lets it have"
            ));
        }
        (is_delayed && self.delayed >= pdu.delayed_limit).then(|| {
            format!(
                "the queue has {} requests that wait for their delay, as many as its delayed_limit lets it have",
                self.delayed
            )
        })
    }

    fn add(&mut self, owner: &Arc<str>, is_delayed: bool) {
        self.taken += 1;
        self.delayed += usize::from(is_delayed);
        *self.by_owner.entry(Arc::clone(owner)).or_default() += 1;
    }
}

/// A place, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Mutex<Places>>,
    owner: Arc<str>,
    is_delayed: bool,
}

impl Place {
    /// A place that takes nobody else's.
    pub(super) fn uncounted() -> Self {
        Self::beyond_limits(&Arc::default(), &"".into(), false)
    }

    /// A place for a request of `owner`, however many there are.
    pub(super) fn beyond_limits(
        places: &Arc<Mutex<Places>>,
        owner: &Arc<str>,
        is_delayed: bool,
    ) -> Self {
        held(places).add(owner, is_delayed);
        Self {
            places: Arc::clone(places),
            owner: Arc::clone(owner),
            is_delayed,
        }
    }

    /// A place for a request of `owner`, or why there is none.
    pub(super) fn take(
        places: &Arc<Mutex<Places>>,
        owner: &Arc<str>,
        is_delayed: bool,
        pdu: &PduConfig,
    ) -> Result<Self, String> {
        let mut taken = held(places);
        if let Some(why) = taken.full(owner, is_delayed, pdu) {
            return Err(why);
        }
        taken.add(owner, is_delayed);
        Ok(Self {
            places: Arc::clone(places),
            owner: Arc::clone(owner),
            is_delayed,
        })
    }

    /// Its delay has passed.
    pub(super) fn enter(&mut self) {
        if std::mem::take(&mut self.is_delayed) {
            let mut taken = held(&self.places);
            taken.delayed = taken.delayed.saturating_sub(1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.enter();
        let mut taken = held(&self.places);
        taken.taken = taken.taken.saturating_sub(1);
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
    use crate::config::Config;

    #[test]
    fn each_limit_holds_and_what_is_given_back_can_be_had_again() {
        let text = r#"{"daemon": {"hostname": "::1"}, "pdus": {"pdu": {"driver": "simulated",
            "queue_limit": 4, "client_limit": 3, "delayed_limit": 1}}}"#;
        let config = Config::parse(text, "test").expect("a good config");
        let pdu = config.pdus["pdu"].as_ref().expect("a good PDU");
        let places = Arc::<Mutex<Places>>::default();
        let take = |owner: &str, is_delayed| Place::take(&places, &owner.into(), is_delayed, pdu);
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
        assert_eq!(held(&places).taken, 2);
        assert!(take("b", true).is_ok());
        assert_eq!(held(&places).delayed, 0);
        assert_eq!(held(&places).by_owner.len(), 2);
    }
}
