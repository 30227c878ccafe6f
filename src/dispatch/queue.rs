//! Jobs by due time, in one lane per outlet. Pure: time is passed in.
//!
//! Within a lane nothing overtakes: while its first job runs, pauses or is parked, the lane stands
//! still. A lane also has a slot for the on that its outlet is owed. That on gives way to any job of
//! the lane that switches the outlet as soon as it is its turn.
//!
//! A job with a delay enters its lane when the delay is over, behind what is there by then: before
//! that it is in nobody's way. Between lanes the job that was accepted first goes first, among those
//! that are due; jobs that nobody waits for come last.

use super::job::{Job, LOBBY, Step};
use super::owed::Owed;
use crate::request::Outlet;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

/// The jobs of one PDU.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: HashMap<Outlet, Box<Lane>>,
    /// First jobs of lanes that may run as soon as they are due, by due time and number.
    waiting: BTreeMap<(Instant, u64), Outlet>,
    /// First jobs of lanes that were found due: is everything in the lane in the background, and the
    /// job's number.
    due: BTreeMap<(bool, u64), Outlet>,
    /// Jobs whose delay is not over; they stand in no lane.
    delayed: BTreeMap<(Instant, u64), Box<Job>>,
    /// Lanes whose outlet is owed its on.
    owed: BTreeSet<Outlet>,
    next: u64,
}

#[derive(Debug, Default)]
struct Lane {
    jobs: VecDeque<Box<Job>>,
    /// Its first job is taken out; the lane stands still until that is back or finished.
    is_running: bool,
    owed: Option<Owed>,
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && !self.is_running
    }

    /// When the on that is owed is due, unless a job gives the outlet a state of its own as soon as it
    /// is its turn. A member that waits for the others of its group, and all behind it, are no
    /// reason to leave an outlet dark.
    fn owed_due(&self, now: Instant) -> Option<Instant> {
        let due = self.owed?.due?;
        let jobs = self.jobs.iter();
        let mut jobs = jobs.take_while(|job| job.is_begun() || job.is_due(now));
        let will_switch = jobs.any(|job| job.step.switches());
        (!will_switch).then_some(due)
    }
}

impl Queue {
    /// Adds a job at the end of its outlet's lane, not to be run before it is due.
    pub(super) fn push(&mut self, mut job: Box<Job>) {
        job.number = self.next;
        self.next += 1;
        let outlet = job.outlet.clone();
        let lane = self.lanes.entry(outlet.clone()).or_default();
        if lane.is_empty() {
            lane.jobs.push_back(job);
            return self.schedule(&outlet);
        }
        // Somebody waits behind the lane's first job now.
        if let Some(first) = lane.jobs.front().filter(|_| !job.is_background)
            && let Some(outlet) = self.due.remove(&(true, first.number))
        {
            self.due.insert((false, first.number), outlet);
        }
        lane.jobs.push_back(job);
    }

    /// Keeps a job until it is due; then [`Queue::ripe`] gives it back.
    pub(super) fn delay(&mut self, mut job: Box<Job>, due: Instant) {
        job.number = self.next;
        self.next += 1;
        self.delayed.insert((due, job.number), job);
    }

    /// The job whose delay was over first, if any is.
    pub(super) fn ripe(&mut self, now: Instant) -> Option<Box<Job>> {
        let first = self.delayed.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// The last job of the outlet's lane, if it waits for nothing but its turn.
    pub(super) fn last(&mut self, outlet: &Outlet, now: Instant) -> Option<&mut Job> {
        let job = self.lanes.get_mut(outlet)?.jobs.back_mut()?;
        job.is_due(now).then_some(job)
    }

    /// Does any job stand in the lobby?
    pub(super) fn has_lobby(&self) -> bool {
        self.lanes.contains_key(&Outlet::new(LOBBY))
    }

    /// Takes what has its turn: the on that has been owed longest, or the oldest job that is due.
    /// A job's lane waits for `finish`, `put_back` or `park`; an on that is owed takes nothing out of
    /// its lane.
    pub(super) fn take(&mut self, now: Instant, owed_first: bool) -> Option<Box<Job>> {
        let owed = self.owed_due(now).filter(|(due, _)| *due <= now);
        let owed = owed.map(|(_, outlet)| Job::new(outlet.clone(), Step::OwedOn, Vec::new()));
        match owed {
            Some(job) if owed_first => Some(job),
            owed => self.take_job(now).or(owed),
        }
    }

    /// The on that is owed and due first.
    fn owed_due(&self, now: Instant) -> Option<(Instant, &Outlet)> {
        let due = |outlet| Some((self.lanes.get(outlet)?.owed_due(now)?, outlet));
        self.owed.iter().filter_map(due).min()
    }

    /// Takes the job whose turn is next, if it is as wanted and no on is owed before it.
    pub(super) fn take_if(
        &mut self,
        now: Instant,
        is_wanted: impl Fn(&Job) -> bool,
    ) -> Option<Box<Job>> {
        if self.owed_due(now).is_some_and(|(due, _)| due <= now) {
            return None;
        }
        self.find_due(now);
        let (_, outlet) = self.due.first_key_value()?;
        let first = self.lanes.get(outlet)?.jobs.front()?;
        is_wanted(first).then(|| self.take_job(now))?
    }

    fn take_job(&mut self, now: Instant) -> Option<Box<Job>> {
        self.find_due(now);
        let (_, outlet) = self.due.pop_first()?;
        let lane = self.lanes.get_mut(&outlet)?;
        let job = lane.jobs.pop_front()?;
        lane.is_running = true;
        Some(job)
    }

    /// Finds the lanes whose first job is due by now.
    fn find_due(&mut self, now: Instant) {
        while let Some(first) = self
            .waiting
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            let number = first.key().1;
            let outlet = first.remove();
            let mut jobs = self.lanes.get(&outlet).into_iter().flat_map(|l| &l.jobs);
            let is_background = jobs.all(|job| job.is_background);
            self.due.insert((is_background, number), outlet);
        }
    }

    /// The outlets whose lane begins with a read that is due, oldest first.
    pub(super) fn reads(&self, now: Instant) -> Vec<Outlet> {
        let waiting = self.waiting.range(..=(now, u64::MAX));
        let waiting = waiting.map(|((_, number), outlet)| (*number, outlet));
        let due = self
            .due
            .iter()
            .map(|((_, number), outlet)| (*number, outlet));
        let is_read = |outlet: &Outlet| {
            let lane = self.lanes.get(outlet);
            let first = lane.and_then(|lane| lane.jobs.front());
            first.is_some_and(|job| job.is_read())
        };
        let mut reads: Vec<(u64, &Outlet)> = waiting.chain(due).collect();
        reads.sort_unstable_by_key(|(number, _)| *number);
        let reads = reads.into_iter().map(|(_, outlet)| outlet);
        reads.filter(|outlet| is_read(outlet)).cloned().collect()
    }

    /// Takes the first job of the outlet's lane out of its turn, if it is a read that is due: as
    /// [`Queue::take`] does.
    pub(super) fn take_read(&mut self, outlet: &Outlet, now: Instant) -> Option<Box<Job>> {
        let lane = self.lanes.get_mut(outlet)?;
        let first = lane.jobs.front()?;
        if lane.is_running || !first.is_due(now) || !first.is_read() {
            return None;
        }
        let (due, number) = (first.due, first.number);
        lane.is_running = true;
        let job = lane.jobs.pop_front();
        self.waiting.remove(&(due?, number));
        self.due.remove(&(false, number));
        self.due.remove(&(true, number));
        job
    }

    /// The moment when something is to be done, if anything can move by itself. A moment in the past
    /// means now.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let due_now = self
            .due
            .values()
            .next()
            .and_then(|outlet| self.lanes.get(outlet)?.jobs.front());
        let in_lanes = due_now
            .and_then(|job| job.due)
            .or_else(|| self.waiting.keys().next().map(|(due, _)| *due));
        let delayed = self.delayed.keys().next().map(|(due, _)| *due);
        let owed = self.owed_due(now).map(|(due, _)| due);
        in_lanes.into_iter().chain(delayed).chain(owed).min()
    }

    /// The outlet is owed its on, from now on or already; is it already?
    pub(super) fn owe(&mut self, outlet: &Outlet, now: Instant) -> bool {
        let lane = self.lanes.entry(outlet.clone()).or_default();
        lane.owed.get_or_insert_with(|| Owed::new(now));
        !self.owed.insert(outlet.clone())
    }

    /// The outlet is not owed its on any more; was it before?
    pub(super) fn settle(&mut self, outlet: &Outlet) -> bool {
        if let Some(lane) = self.lanes.get_mut(outlet) {
            lane.owed = None;
            if lane.is_empty() {
                self.lanes.remove(outlet);
            }
        }
        self.owed.remove(outlet)
    }

    pub(super) fn owed(&self) -> impl Iterator<Item = (&Outlet, &Owed)> {
        let slot = |outlet| Some((outlet, self.lanes.get(outlet)?.owed.as_ref()?));
        self.owed.iter().filter_map(slot)
    }

    pub(super) fn owed_mut(&mut self, outlet: &Outlet) -> Option<&mut Owed> {
        self.lanes.get_mut(outlet)?.owed.as_mut()
    }

    /// The job is over: its lane moves on.
    pub(super) fn finish(&mut self, outlet: &Outlet) {
        self.schedule(outlet);
    }

    /// The job goes on at `due`, before anything else of its lane.
    pub(super) fn put_back(&mut self, mut job: Box<Job>, due: Instant) {
        job.due = Some(due);
        self.put_first(job);
    }

    fn put_first(&mut self, job: Box<Job>) {
        let outlet = job.outlet.clone();
        if let Some(lane) = self.lanes.get_mut(&outlet) {
            lane.jobs.push_front(job);
        }
        self.schedule(&outlet);
    }

    /// The job goes on when [`Queue::unpark`] says so.
    pub(super) fn park(&mut self, mut job: Box<Job>) {
        job.due = None;
        self.put_first(job);
    }

    /// If this job is parked, it is due at `due`.
    pub(super) fn unpark(&mut self, outlet: &Outlet, number: u64, due: Instant) {
        let lane = self.lanes.get_mut(outlet);
        if let Some(job) = lane.and_then(|lane| lane.jobs.front_mut())
            && job.due.is_none()
            && job.number == number
        {
            job.due = Some(due);
            self.schedule(outlet);
        }
    }

    /// The daemon stops: no scheduled job waits longer than until `limit`, and every on that is owed
    /// is tried `now`.
    pub(super) fn hasten(&mut self, limit: Instant, now: Instant) {
        let late = self.waiting.split_off(&(limit, 0));
        for ((_, number), outlet) in late {
            let lane = self.lanes.get_mut(&outlet);
            if let Some(job) = lane.and_then(|lane| lane.jobs.front_mut()) {
                job.due = Some(limit);
            }
            self.waiting.insert((limit, number), outlet);
        }
        for outlet in &self.owed {
            let lane = self.lanes.get_mut(outlet);
            if let Some(owed) = lane.and_then(|lane| lane.owed.as_mut()) {
                owed.hasten(now);
            }
        }
    }

    /// Takes every job that is neither running nor wanted by `keep`, oldest first.
    pub(super) fn remove_unless(
        &mut self,
        mut keep: impl FnMut(&mut Job) -> bool,
    ) -> std::vec::IntoIter<Box<Job>> {
        let delayed = self.delayed.extract_if(.., |_, job| !keep(job));
        let mut removed: Vec<_> = delayed.map(|(_, job)| job).collect();
        let outlets: Vec<Outlet> = self.lanes.keys().cloned().collect();
        for outlet in outlets {
            let Some(lane) = self.lanes.get_mut(&outlet) else {
                continue;
            };
            let first = lane.jobs.front().map(|job| (job.due, job.number));
            for mut job in std::mem::take(&mut lane.jobs) {
                match keep(&mut job) {
                    true => lane.jobs.push_back(job),
                    false => removed.push(job),
                }
            }
            let Some((due, number)) = first.filter(|_| !lane.is_running) else {
                continue;
            };
            if lane.jobs.front().is_none_or(|job| job.number != number) {
                if let Some(due) = due {
                    self.waiting.remove(&(due, number));
                }
                self.due.remove(&(false, number));
                self.due.remove(&(true, number));
                self.schedule(&outlet);
            }
        }
        removed.sort_by_key(|job| job.number);
        removed.into_iter()
    }

    /// No job waits, runs, is parked or delayed.
    pub(super) fn is_empty(&self) -> bool {
        self.delayed.is_empty() && self.lanes.values().all(|lane| lane.is_empty())
    }

    /// Schedules the lane's first job unless it is parked, or drops a lane with nothing in it.
    fn schedule(&mut self, outlet: &Outlet) {
        let Some(lane) = self.lanes.get_mut(outlet) else {
            return;
        };
        lane.is_running = false;
        match lane.jobs.front() {
            Some(job) => {
                let due = job.due.map(|due| ((due, job.number), outlet.clone()));
                self.waiting.extend(due);
            }
            None if lane.owed.is_none() => drop(self.lanes.remove(outlet)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn outlet(id: &str) -> Outlet {
        Outlet::new(id)
    }

    /// A job of this lane, told apart by what its client wrote.
    fn job(lane: &str, written: &str, due: Instant) -> Box<Job> {
        let outlet = Outlet::new(written).known_as(outlet(lane).key());
        let mut job = Job::new(outlet, Step::State, Vec::new());
        job.due = Some(due);
        job
    }

    fn take(queue: &mut Queue, now: Instant) -> Option<String> {
        let job = queue.take(now, true)?;
        if job.step != Step::OwedOn {
            queue.finish(&job.outlet);
        }
        Some(job.outlet.to_string())
    }

    fn background(lane: &str, written: &str, due: Instant) -> Box<Job> {
        let mut job = job(lane, written, due);
        job.is_background = true;
        job
    }

    fn written(job: &Job) -> &str {
        job.outlet.as_str()
    }

    #[test]
    fn the_oldest_due_job_goes_first_and_a_lane_never_overtakes() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let later = now + Duration::from_secs(5);
        queue.push(job("1", "1 waits", now));
        let first = queue.take(now, true).expect("due");
        queue.put_back(first, later);
        queue.push(job("2", "2 first", now));
        queue.push(job("01", "1 behind", now));
        queue.push(job("3", "3", now));
        assert_eq!(take(&mut queue, now).as_deref(), Some("2 first"));
        assert_eq!(take(&mut queue, now).as_deref(), Some("3"));
        assert_eq!(take(&mut queue, now), None);
        assert_eq!(queue.next_due(now), Some(later));
        assert_eq!(take(&mut queue, later).as_deref(), Some("1 waits"));
        assert_eq!(take(&mut queue, later).as_deref(), Some("1 behind"));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_delayed_job_is_in_nobodys_way() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let later = now + Duration::from_secs(5);
        queue.delay(job("1", "second", now), later);
        queue.delay(job("1", "first", now), now + Duration::from_secs(1));
        queue.delay(job("2", "cancelled", now), later);
        queue.push(job("1", "at once", now));
        assert_eq!(take(&mut queue, now).as_deref(), Some("at once"));
        assert!(queue.ripe(now).is_none());
        assert_eq!(queue.next_due(now), Some(now + Duration::from_secs(1)));
        assert!(!queue.is_empty());
        let removed = queue.remove_unless(|job| written(job) != "cancelled");
        assert_eq!(
            removed
                .as_slice()
                .iter()
                .map(|job| written(job))
                .collect::<Vec<_>>(),
            ["cancelled"]
        );
        assert_eq!(queue.ripe(later).as_deref().map(written), Some("first"));
        assert_eq!(queue.ripe(later).as_deref().map(written), Some("second"));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_pause_holds_its_own_lane_only() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(job("1", "reboot", now));
        queue.push(job("1", "off", now));
        let taken = queue.take(now, true).expect("due");
        assert!(
            queue.take(now, true).is_none(),
            "the lane stands still while its job runs"
        );
        queue.put_back(taken, now + Duration::from_secs(1));
        queue.push(job("2", "other", now));
        assert_eq!(take(&mut queue, now).as_deref(), Some("other"));
        assert_eq!(take(&mut queue, now), None);
        let back = now + Duration::from_secs(1);
        queue.push(job("2", "newer", now));
        assert_eq!(
            take(&mut queue, back).as_deref(),
            Some("reboot"),
            "the older job goes first once it is due"
        );
    }

    #[test]
    fn parked_jobs_wait_to_be_called() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(job("1", "member", now));
        let taken = queue.take(now, true).expect("due");
        let number = taken.number;
        queue.unpark(&outlet("1"), number, now);
        queue.park(taken);
        queue.unpark(&outlet("1"), number + 1, now);
        assert!(queue.take(now + Duration::from_secs(99), true).is_none());
        assert_eq!(queue.next_due(now), None);
        queue.unpark(&outlet("1"), number, now);
        assert_eq!(take(&mut queue, now).as_deref(), Some("member"));
    }

    #[test]
    fn stopping_removes_what_has_not_begun_and_hastens_the_rest() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let late = now + Duration::from_secs(100);
        queue.push(job("1", "begun", late));
        queue.push(job("1", "x", now));
        queue.push(job("2", "y", now));
        let removed = queue.remove_unless(|job| written(job) == "begun");
        assert_eq!(
            removed
                .as_slice()
                .iter()
                .map(|job| written(job))
                .collect::<Vec<_>>(),
            ["x", "y"]
        );
        queue.hasten(now, now);
        assert_eq!(take(&mut queue, now).as_deref(), Some("begun"));
        assert!(queue.is_empty());
    }

    #[test]
    fn what_nobody_waits_for_gives_way_unless_somebody_waits_behind_it() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(background("1", "list 1", now));
        queue.push(background("2", "list 2", now));
        queue.push(background("3", "list 3", now));
        queue.push(job("4", "switch 4", now));
        queue.push(job("2", "switch 2", now));
        assert_eq!(
            take(&mut queue, now).as_deref(),
            Some("list 2"),
            "it stands before a switch of its lane"
        );
        queue.push(job("3", "switch 3", now));
        let order: Vec<String> = std::iter::from_fn(|| take(&mut queue, now)).collect();
        assert_eq!(
            order,
            ["list 3", "switch 4", "switch 2", "switch 3", "list 1"]
        );
    }

    #[test]
    fn an_on_that_is_owed_gives_way_to_a_job_of_its_lane_that_switches() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        assert!(!queue.owe(&outlet("1"), now));
        assert!(queue.owe(&outlet("1"), now));
        queue.push(job("1", "a read", now));
        queue.push(job("2", "another lane", now));
        let is_owed = |queue: &mut Queue| {
            let job = queue.take(now, true).expect("due");
            let is_owed = job.step == Step::OwedOn;
            if !is_owed {
                queue.put_back(job, now);
            }
            is_owed
        };
        assert!(is_owed(&mut queue), "no read puts it off");
        let mut switch = job("1", "a switch", now);
        switch.step = Step::RebootOff(Duration::ZERO);
        queue.push(switch);
        assert!(!is_owed(&mut queue), "it gives way");
        queue.remove_unless(|job| job.step == Step::State);
        assert!(is_owed(&mut queue));
        let later = now + Duration::from_secs(1);
        if let Some(owed) = queue.owed_mut(&outlet("1")) {
            owed.due = Some(later);
        }
        assert!(!is_owed(&mut queue), "not before it is due");
        assert!(queue.settle(&outlet("1")) && !queue.settle(&outlet("1")));
        queue.remove_unless(|_| false);
        assert!(queue.is_empty() && queue.next_due(now).is_none());
    }
}
