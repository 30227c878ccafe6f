//! Jobs by due time, in one lane per outlet. Pure: time is passed in.
//!
//! Within a lane nothing overtakes: while its first job runs, pauses or is parked, the lane stands
//! still. A job with a delay enters its lane when the delay is over, behind what is there by then:
//! until that it is in nobody's way. Between lanes the job that was accepted first goes first, among those that are due; jobs
//! that nobody waits for come last.

use crate::request::Outlet;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

/// The order in which jobs were accepted.
pub(super) type Number = u64;

/// Who waits for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Somebody does.
    Foreground,
    /// Nobody does: it gives way.
    Background,
}

/// The jobs of one PDU.
#[derive(Debug)]
pub(super) struct Queue<J> {
    lanes: HashMap<Outlet, Lane<J>>,
    /// First jobs of lanes that may run as soon as they are due.
    waiting: BTreeMap<(Instant, Number), Outlet>,
    /// First jobs of lanes that were found due, by age.
    due: BTreeMap<(Class, Number), Outlet>,
    /// Jobs whose delay is not over; they stand in no lane.
    delayed: BTreeMap<(Instant, Number), (Outlet, J)>,
    next: Number,
}

#[derive(Debug)]
struct Lane<J> {
    jobs: VecDeque<Entry<J>>,
    head: Head,
}

#[derive(Debug)]
struct Entry<J> {
    number: Number,
    class: Class,
    due: Instant,
    job: J,
}

/// What the first job of a lane is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// In `waiting` or `due`.
    Scheduled,
    /// Taken out; the lane stands still until it is back or finished.
    Running,
    /// In the lane, until somebody says when it is due.
    Parked,
}

/// A job on its way through the driver; its lane waits for `finish`, `put_back` or `park`.
#[derive(Debug)]
pub(super) struct Taken<J> {
    pub(super) outlet: Outlet,
    number: Number,
    class: Class,
    pub(super) job: J,
}

impl<J> Default for Queue<J> {
    fn default() -> Self {
        Self {
            lanes: HashMap::new(),
            waiting: BTreeMap::new(),
            due: BTreeMap::new(),
            delayed: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<J> Queue<J> {
    /// Adds a job at the end of its outlet's lane, not to be run before `due`.
    pub(super) fn push(&mut self, outlet: Outlet, class: Class, due: Instant, job: J) {
        let number = self.next;
        self.next += 1;
        let entry = Entry {
            number,
            class,
            due,
            job,
        };
        match self.lanes.get_mut(&outlet) {
            Some(lane) => {
                // Somebody waits behind the lane's first job now.
                if let Some(first) = lane.jobs.front().filter(|_| class == Class::Foreground)
                    && let Some(outlet) = self.due.remove(&(Class::Background, first.number))
                {
                    self.due.insert((Class::Foreground, first.number), outlet);
                }
                lane.jobs.push_back(entry);
            }
            None => {
                self.waiting.insert((due, number), outlet.clone());
                let lane = Lane {
                    jobs: VecDeque::from([entry]),
                    head: Head::Scheduled,
                };
                self.lanes.insert(outlet, lane);
            }
        }
    }

    /// Keeps a job until its delay is over; then [`Queue::ripe`] gives it back.
    pub(super) fn delay(&mut self, outlet: Outlet, until: Instant, job: J) {
        self.delayed.insert((until, self.next), (outlet, job));
        self.next += 1;
    }

    /// The job whose delay was over first, if any is.
    pub(super) fn ripe(&mut self, now: Instant) -> Option<J> {
        let first = self.delayed.first_entry()?;
        (first.key().0 <= now).then(|| first.remove().1)
    }

    /// The last job of the outlet's lane, if it waits for nothing but its turn.
    pub(super) fn last(&mut self, outlet: &Outlet, now: Instant) -> Option<&mut J> {
        let entry = self.lanes.get_mut(outlet)?.jobs.back_mut()?;
        (entry.due <= now).then_some(&mut entry.job)
    }

    /// Takes the oldest job that is due.
    pub(super) fn take(&mut self, now: Instant) -> Option<Taken<J>> {
        while let Some(first) = self
            .waiting
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            let number = first.key().1;
            let outlet = first.remove();
            let entries = self
                .lanes
                .get(&outlet)
                .into_iter()
                .flat_map(|lane| &lane.jobs);
            let class = entries
                .map(|entry| entry.class)
                .min()
                .unwrap_or(Class::Foreground);
            self.due.insert((class, number), outlet);
        }
        let ((_, number), outlet) = self.due.pop_first()?;
        let lane = self.lanes.get_mut(&outlet)?;
        let Entry { class, job, .. } = lane.jobs.pop_front()?;
        lane.head = Head::Running;
        Some(Taken {
            outlet,
            number,
            class,
            job,
        })
    }

    /// The moment the next job is due, if any lane can move by itself. A moment in the past means
    /// now.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due_now = self
            .due
            .values()
            .next()
            .and_then(|outlet| self.lanes.get(outlet)?.jobs.front());
        let in_lanes = due_now
            .map(|entry| entry.due)
            .or_else(|| self.waiting.keys().next().map(|(due, _)| *due));
        let delayed = self.delayed.keys().next().map(|(due, _)| *due);
        in_lanes.into_iter().chain(delayed).min()
    }

    /// The job is over: its lane moves on.
    pub(super) fn finish(&mut self, outlet: &Outlet) {
        self.schedule(outlet);
    }

    /// The job goes on at `due`, before anything else of its lane.
    pub(super) fn put_back(&mut self, taken: Taken<J>, due: Instant) {
        let outlet = self.at_front(taken, due);
        self.schedule(&outlet);
    }

    /// The job goes on when [`Queue::unpark`] says so.
    pub(super) fn park(&mut self, taken: Taken<J>) {
        let outlet = self.at_front(taken, far());
        if let Some(lane) = self.lanes.get_mut(&outlet) {
            lane.head = Head::Parked;
        }
    }

    /// A parked job is due at `due`; anything else is left as it is.
    pub(super) fn unpark(&mut self, outlet: &Outlet, due: Instant) {
        let Some(lane) = self
            .lanes
            .get_mut(outlet)
            .filter(|lane| lane.head == Head::Parked)
        else {
            return;
        };
        if let Some(entry) = lane.jobs.front_mut() {
            entry.due = due;
        }
        self.schedule(outlet);
    }

    /// No scheduled job waits longer than until `limit`.
    pub(super) fn hasten(&mut self, limit: Instant) {
        let late: Vec<_> = self
            .waiting
            .range((limit, 0)..)
            .map(|(key, outlet)| (*key, outlet.clone()))
            .collect();
        for (key, outlet) in late {
            self.waiting.remove(&key);
            self.waiting
                .insert((limit.min(key.0), key.1), outlet.clone());
            if let Some(entry) = self
                .lanes
                .get_mut(&outlet)
                .and_then(|lane| lane.jobs.front_mut())
            {
                entry.due = entry.due.min(limit);
            }
        }
    }

    /// Takes every job that is neither running nor wanted by `keep`, oldest first.
    pub(super) fn remove_unless(
        &mut self,
        mut keep: impl FnMut(&mut J) -> bool,
    ) -> Vec<(Outlet, J)> {
        let mut removed = Vec::new();
        for (key, (outlet, mut job)) in std::mem::take(&mut self.delayed) {
            match keep(&mut job) {
                true => drop(self.delayed.insert(key, (outlet, job))),
                false => removed.push((key.1, outlet, job)),
            }
        }
        let outlets: Vec<Outlet> = self.lanes.keys().cloned().collect();
        for outlet in outlets {
            let Some(lane) = self.lanes.get_mut(&outlet) else {
                continue;
            };
            let first = lane.jobs.front().map(|entry| entry.number);
            let mut gone = VecDeque::new();
            for mut entry in std::mem::take(&mut lane.jobs) {
                match keep(&mut entry.job) {
                    true => lane.jobs.push_back(entry),
                    false => gone.push_back(entry),
                }
            }
            let head_gone =
                first.is_some_and(|first| gone.iter().any(|entry| entry.number == first));
            if head_gone && lane.head != Head::Running {
                if let Some(gone_head) = gone.front() {
                    self.waiting.remove(&(gone_head.due, gone_head.number));
                    self.due.remove(&(Class::Foreground, gone_head.number));
                    self.due.remove(&(Class::Background, gone_head.number));
                }
                self.schedule(&outlet);
            }
            removed.extend(
                gone.into_iter()
                    .map(|entry| (entry.number, outlet.clone(), entry.job)),
            );
        }
        removed.sort_by_key(|(number, ..)| *number);
        removed
            .into_iter()
            .map(|(_, outlet, job)| (outlet, job))
            .collect()
    }

    /// The jobs that stand in the outlet's lane, first to last, each with its due time.
    pub(super) fn lane(&self, outlet: &Outlet) -> impl Iterator<Item = (&J, Instant)> {
        let lane = self.lanes.get(outlet).into_iter();
        lane.flat_map(|lane| lane.jobs.iter().map(|entry| (&entry.job, entry.due)))
    }

    /// No job waits, runs, is parked or delayed.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.delayed.is_empty()
    }

    /// Puts a job back before all others of its lane; which lane that is.
    fn at_front(&mut self, taken: Taken<J>, due: Instant) -> Outlet {
        let Taken {
            outlet,
            number,
            class,
            job,
        } = taken;
        if let Some(lane) = self.lanes.get_mut(&outlet) {
            lane.jobs.push_front(Entry {
                number,
                class,
                due,
                job,
            });
        }
        outlet
    }

    /// Schedules the lane's first job, or drops the empty lane.
    fn schedule(&mut self, outlet: &Outlet) {
        let Some(lane) = self.lanes.get_mut(outlet) else {
            return;
        };
        match lane.jobs.front() {
            Some(entry) => {
                lane.head = Head::Scheduled;
                self.waiting
                    .insert((entry.due, entry.number), outlet.clone());
            }
            None => {
                self.lanes.remove(outlet);
            }
        }
    }
}

/// A due time for jobs that have none of their own: later than any other, so that nothing counts on
/// a parked job.
fn far() -> Instant {
    Instant::now() + std::time::Duration::from_secs(10 * 365 * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn outlet(id: &str) -> Outlet {
        Outlet::new(id)
    }

    fn take(queue: &mut Queue<&'static str>, now: Instant) -> Option<&'static str> {
        let taken = queue.take(now)?;
        queue.finish(&taken.outlet);
        Some(taken.job)
    }

    #[test]
    fn the_oldest_due_job_goes_first_and_a_lane_never_overtakes() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let later = now + Duration::from_secs(5);
        queue.push(outlet("1"), Class::Foreground, now, "1 waits");
        let first = queue.take(now).expect("due");
        queue.put_back(first, later);
        queue.push(outlet("2"), Class::Foreground, now, "2 first");
        queue.push(outlet("01"), Class::Foreground, now, "1 behind");
        queue.push(outlet("3"), Class::Foreground, now, "3");
        assert_eq!(take(&mut queue, now), Some("2 first"));
        assert_eq!(take(&mut queue, now), Some("3"));
        assert_eq!(take(&mut queue, now), None);
        assert_eq!(queue.next_due(), Some(later));
        assert_eq!(take(&mut queue, later), Some("1 waits"));
        assert_eq!(take(&mut queue, later), Some("1 behind"));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_delayed_job_is_in_nobodys_way() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let later = now + Duration::from_secs(5);
        queue.delay(outlet("1"), later, "second");
        queue.delay(outlet("1"), now + Duration::from_secs(1), "first");
        queue.delay(outlet("2"), later, "cancelled");
        queue.push(outlet("1"), Class::Foreground, now, "at once");
        assert_eq!(take(&mut queue, now), Some("at once"));
        assert_eq!(queue.ripe(now), None);
        assert_eq!(queue.next_due(), Some(now + Duration::from_secs(1)));
        assert!(!queue.is_empty());
        let removed = queue.remove_unless(|job| *job != "cancelled");
        assert_eq!(removed, [(outlet("2"), "cancelled")]);
        assert_eq!(queue.ripe(later), Some("first"));
        assert_eq!(queue.ripe(later), Some("second"));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_pause_holds_its_own_lane_only() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(outlet("1"), Class::Foreground, now, "reboot");
        queue.push(outlet("1"), Class::Foreground, now, "off");
        let taken = queue.take(now).expect("due");
        assert!(
            queue.take(now).is_none(),
            "the lane stands still while its job runs"
        );
        queue.put_back(taken, now + Duration::from_secs(1));
        queue.push(outlet("2"), Class::Foreground, now, "other");
        assert_eq!(take(&mut queue, now), Some("other"));
        assert_eq!(take(&mut queue, now), None);
        let back = now + Duration::from_secs(1);
        queue.push(outlet("2"), Class::Foreground, now, "newer");
        assert_eq!(
            take(&mut queue, back),
            Some("reboot"),
            "the older job goes first once it is due"
        );
    }

    #[test]
    fn parked_jobs_wait_to_be_called() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(outlet("1"), Class::Foreground, now, "member");
        let taken = queue.take(now).expect("due");
        queue.unpark(&outlet("1"), now);
        queue.park(taken);
        assert!(queue.take(now + Duration::from_secs(99)).is_none());
        assert_eq!(queue.next_due(), None);
        queue.unpark(&outlet("1"), now);
        assert_eq!(take(&mut queue, now), Some("member"));
    }

    #[test]
    fn stopping_removes_what_has_not_begun_and_hastens_the_rest() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let late = now + Duration::from_secs(100);
        queue.push(outlet("1"), Class::Foreground, late, "begun");
        queue.push(outlet("1"), Class::Foreground, now, "x");
        queue.push(outlet("2"), Class::Foreground, now, "y");
        let removed = queue.remove_unless(|job| *job == "begun");
        assert_eq!(
            removed.into_iter().map(|(_, job)| job).collect::<Vec<_>>(),
            ["x", "y"]
        );
        queue.hasten(now);
        assert_eq!(take(&mut queue, now), Some("begun"));
        assert!(queue.is_empty());
    }

    #[test]
    fn what_nobody_waits_for_gives_way_unless_somebody_waits_behind_it() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(outlet("1"), Class::Background, now, "list 1");
        queue.push(outlet("2"), Class::Background, now, "list 2");
        queue.push(outlet("3"), Class::Background, now, "list 3");
        queue.push(outlet("4"), Class::Foreground, now, "switch 4");
        queue.push(outlet("2"), Class::Foreground, now, "switch 2");
        assert_eq!(
            take(&mut queue, now),
            Some("list 2"),
            "it stands before a switch of its lane"
        );
        queue.push(outlet("3"), Class::Foreground, now, "switch 3");
        let order: Vec<_> = std::iter::from_fn(|| take(&mut queue, now)).collect();
        assert_eq!(
            order,
            ["list 3", "switch 4", "switch 2", "switch 3", "list 1"]
        );
    }
}
