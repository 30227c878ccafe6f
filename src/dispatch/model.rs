//! A model of the queue, played against the real plans under random schedules.
//!
//! A schedule is a few PDUs with a few outlets each, requests and groups of them, cancellations,
//! PDUs in every mood, stops, and a crash with a restart. Time is simulated. The model
//! knows of each outlet only who was accepted when, and holds every driver call and every answer
//! against that:
//!
//! * a call is for the oldest request of its outlet that is not over, or it is an on that the
//!   outlet is owed; a request with a delay is as old as the end of its delay;
//! * nothing waits behind a request whose delay is not over;
//! * between a reboot's off and its on there is nothing else for that outlet;
//! * one command is about several outlets only if one request asks to switch them, for the first
//!   time, and nothing older waits; what it is not sure to have done, it has not done for any of them;
//! * every request is answered once, and not before it is over; success is what the PDU confirmed;
//! * ons that are owed, and fail, do not keep others waiting;
//! * an outlet that a reboot switched off is in the ledger until it is on again, or as soon as the
//!   ledger has room for it, and when all is over it is on.
//!
//! `PDUD_SCHEDULES` says how many schedules, `PDUD_SEED` plays one alone.

use super::group::Group;
use super::held::held;
use super::job::{Claim, Job, Step};
use super::message::{Message, Stop};
use super::place::{Place, Places};
use super::plan::{Call, Gained, Ledger, Next, Plan, RECORD_AGAIN, Trouble};
use super::ticket::{Book, Ticket};
use crate::driver::DriverError;
use crate::request::{
    Action, Failure, FailureKind, Outcome, Outlet, PduName, Proof, Request, State, Switch, Target,
};
use crate::transport::{TransportError, TransportErrorKind};
use crossbeam_channel::{Receiver, Sender, unbounded};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

const OUTLETS: usize = 3;
/// Longest time without a try for an outlet that is owed its on.
const OWED_PATIENCE: Duration = Duration::from_secs(60);
/// Everything must be over so long after the last event, PDUs being well.
const SETTLED_AFTER: Duration = Duration::from_secs(4000);
/// More steps than any schedule takes.
const MOST_STEPS: u32 = 20_000;

/// Survives crashes, and sometimes has no room for more.
#[derive(Clone)]
struct Memory {
    owed: Arc<Mutex<BTreeSet<Outlet>>>,
    has_room: Arc<AtomicBool>,
    bug: Option<Bug>,
}

impl Memory {
    fn owed(&self) -> MutexGuard<'_, BTreeSet<Outlet>> {
        self.owed.lock().expect("lock")
    }
}

impl Ledger for Memory {
    fn owe(&mut self, outlet: &Outlet) -> bool {
        let has_room = self.has_room.load(Ordering::Acquire);
        let mut owed = self.owed();
        if has_room {
            owed.insert(outlet.clone());
        }
        owed.contains(outlet) || self.bug == Some(Bug::ForgetsRecord)
    }

    fn adopt(&mut self, outlet: &Outlet) -> bool {
        self.owed().contains(outlet)
    }

    fn withdraw(&mut self, outlet: &Outlet) {
        self.settle(outlet);
    }

    fn settle(&mut self, outlet: &Outlet) {
        self.owed().remove(outlet);
    }
}

/// A bug put in on purpose, to see that the model finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// A request overtakes another of its outlet.
    Overtakes,
    /// The on of an off in doubt is not sent.
    LosesOn,
    /// A request is answered at a failed attempt already, and again at its end.
    AnswersTwice,
    /// Ons that are owed, and fail, keep the queue waiting.
    Starves,
    /// A request whose delay is not over stands in the way of others.
    DelaysHold,
    /// A record that could not be made is not tried again.
    ForgetsRecord,
    /// What is true of the first outlet of a command is told of the others.
    OneForAll,
}

/// A plan, with a bug between it and its worker.
struct Buggy {
    plan: Plan,
    bug: Option<Bug>,
    /// Jobs that the bug keeps from the plan until they are due.
    kept: Vec<(Instant, Box<Job>)>,
    /// Who asked for which outlet.
    asked: Vec<(Outlet, Arc<Ticket>)>,
    /// The call under way, and how often the bug has repeated it.
    call: Option<(Vec<Outlet>, Call)>,
    repeats: u32,
}

impl Buggy {
    fn new(plan: Plan, bug: Option<Bug>) -> Self {
        Self {
            plan,
            bug,
            kept: Vec::new(),
            asked: Vec::new(),
            call: None,
            repeats: 0,
        }
    }

    fn accept(&mut self, job: Box<Job>, due: Instant, now: Instant) {
        let tickets = job.askers.iter().map(|asker| Arc::clone(&asker.ticket));
        self.asked
            .extend(tickets.map(|ticket| (job.outlet.clone(), ticket)));
        let kept = self.kept.iter().filter(|(_, k)| k.outlet == job.outlet);
        let before = kept.map(|(due, _)| *due).max();
        match (self.bug, before) {
            (Some(Bug::DelaysHold), Some(before)) => self.kept.push((due.max(before), job)),
            (Some(Bug::DelaysHold), None) if due > now => self.kept.push((due, job)),
            (Some(Bug::Overtakes), None) if due <= now => self.kept.push((due, job)),
            _ => self.plan.accept(job, due, now),
        }
    }

    fn next(&mut self, now: Instant, at_once: usize) -> Next {
        for (due, job) in self.kept.extract_if(.., |(due, _)| *due <= now) {
            self.plan.accept(job, due, now);
        }
        if let Some((outlets, call)) = self.call.clone() {
            return Next::Call(outlets, call);
        }
        match self.plan.next(now, at_once) {
            Next::Call(outlets, call) => {
                self.call = Some((outlets.clone(), call));
                Next::Call(outlets, call)
            }
            Next::Wait(until) => {
                let kept = self.kept.iter().map(|(due, _)| *due);
                Next::Wait(until.into_iter().chain(kept).min())
            }
            Next::Finished => Next::Finished,
        }
    }

    fn results(&mut self, mut results: Vec<Ended>, is_owed: bool, now: Instant) {
        if let (Some(Bug::OneForAll), [first, others @ ..]) = (self.bug, results.as_mut_slice()) {
            others.fill(first.clone());
        }
        for result in &mut results {
            let (Some(bug), Err(trouble)) = (self.bug, result) else {
                continue;
            };
            match bug {
                Bug::Starves if is_owed && self.repeats < 3 => {
                    self.repeats += 1;
                    return;
                }
                Bug::LosesOn => trouble.may_have_acted = false,
                Bug::AnswersTwice => {
                    let of_it = |of: &Outlet| {
                        let call = self.call.as_ref();
                        call.is_some_and(|(outlets, _)| outlets.contains(of))
                    };
                    for (_, ticket) in self.asked.iter().filter(|(of, _)| of_it(of)) {
                        ticket.refuse(Failure::new(FailureKind::Refused, "too early"));
                    }
                }
                _ => {}
            }
        }
        (self.call, self.repeats) = (None, 0);
        self.plan.results(results, now);
    }
}

/// What a request is to the model.
struct Asked {
    ticket: Arc<Ticket>,
    answers: Vec<Outcome>,
    members: Vec<usize>,
    is_cancelled: bool,
    is_void: bool,
}

/// One request at one outlet.
struct Member {
    request: usize,
    pdu: usize,
    outlet: usize,
    step: Step,
    accepted: u64,
    due: Instant,
    /// One is taken until the job is over.
    places: Arc<Mutex<Places>>,
    /// A reboot's off is over: the outlet is, or may be, dark.
    is_dark: bool,
    /// Calls of its step so far.
    attempts: u32,
    /// When its off ended.
    dark_at: Option<Instant>,
    /// How the last call for it ended; `None` while one is under way.
    last: Option<Result<Gained, Trouble>>,
    off_failed: bool,
    /// It was owed its on before this reboot.
    was_owed: bool,
    /// An off of this reboot may have reached it.
    maybe_dark: bool,
    /// A command for it and others has failed.
    is_alone: bool,
}

impl Member {
    fn is_fresh(&self) -> bool {
        self.attempts == 0 && !self.is_dark
    }

    /// A reboot's off has been tried, and is not over.
    fn is_at_its_off(&self) -> bool {
        matches!(self.step, Step::RebootOff(_)) && self.attempts > 0 && !self.is_dark
    }

    fn is_over(&self) -> bool {
        held(&self.places).taken == 0
    }
}

/// The real outlet.
#[derive(Clone, Copy, Default)]
struct Socket {
    is_off: bool,
    by_reboot: bool,
    /// The model's own record of what is owed.
    owed: bool,
    /// There was no room to record it.
    unrecorded: bool,
}

/// How a call ends for one of its outlets.
type Ended = Result<Gained, Trouble>;

/// What a call is for one of its outlets: for which member, and what it will say.
type Part = (Option<usize>, usize, Ended);

/// How a PDU does.
#[derive(Clone, Copy)]
enum Mood {
    Well,
    /// One call in so many fails, in any way.
    Flaky(usize),
    /// Does not answer until then; in doubt or not.
    Away(Instant, bool),
    /// Refuses everything for one outlet.
    Locked(usize),
}

#[expect(clippy::type_complexity, reason = "nobody else names these types")]
struct Pdu {
    plan: Buggy,
    inbox: Receiver<Message>,
    sender: Sender<Message>,
    wake: Option<Instant>,
    has_news: bool,
    /// A call under way: until when, for which member, what it will say.
    call: Option<(Instant, Call, Vec<Part>)>,
    /// So many outlets one command may be about.
    at_once: usize,
    finished: bool,
    ledger: Memory,
    mood: Mood,
    sockets: [Socket; OUTLETS],
    /// The last call at each outlet: when it began (in steps), and how it ended.
    last: [Option<(u64, Call, Option<Result<Gained, Trouble>>)>; OUTLETS],
    retries: u32,
    retrydelay: Duration,
    /// The last call was an on that was owed, and failed.
    owed_failed: bool,
    /// Members on their way to the worker.
    sent: VecDeque<usize>,
    /// Those whose delay is not over.
    delayed: Vec<usize>,
    /// When the PDU was found away for the last time: its worker may give it time.
    away_at: Option<Instant>,
    lanes: [Vec<usize>; OUTLETS],
}

struct World {
    dice: Rng,
    now: Instant,
    step: u64,
    pdus: Vec<Pdu>,
    book: Book,
    requests: Vec<Asked>,
    members: Vec<Member>,
    answers: Arc<Mutex<Vec<(usize, Outcome)>>>,
    alive: Arc<AtomicBool>,
    stopping: Option<Stop>,
    /// Of the ledgers, and since when that is so.
    has_room: Arc<AtomicBool>,
    room_since: Instant,
    /// The step behind which the process is killed.
    crash_at: Option<u64>,
    bug: Option<Bug>,
    /// How many requests, driver calls and crashes there were, and calls for several outlets.
    figures: [u64; 4],
}

fn one_in(dice: &mut Rng, chances: usize) -> bool {
    dice.usize(..chances) == 0
}

fn millis(dice: &mut Rng, below: u64) -> Duration {
    Duration::from_millis(dice.u64(..below))
}

fn outlet(index: usize) -> Outlet {
    Outlet::new(["1", "2", "3"][index])
}

/// Another name of the same outlet.
fn nickname(index: usize) -> Outlet {
    Outlet::new(["a", "b", "c"][index]).known_as(outlet(index).key())
}

fn index(outlet: &Outlet) -> usize {
    outlet.key().parse::<usize>().expect("a number") - 1
}

fn transport(kind: TransportErrorKind) -> DriverError {
    DriverError::Transport(TransportError::new(kind, "made up"))
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut dice = Rng::with_seed(seed);
        let mut world = Self {
            now: Instant::now(),
            step: 0,
            pdus: Vec::new(),
            book: Book::new(&Arc::default()),
            requests: Vec::new(),
            members: Vec::new(),
            answers: Arc::default(),
            alive: Arc::new(AtomicBool::new(true)),
            stopping: None,
            has_room: Arc::new(AtomicBool::new(true)),
            room_since: Instant::now(),
            crash_at: None,
            bug,
            figures: [0; 4],
            dice: Rng::with_seed(!seed),
        };
        for _ in 0..2 + dice.usize(..2) {
            let retries = [1, 2, 3, 5][dice.usize(..4)];
            let retrydelay = Duration::from_millis([0, 100, 1000, 5000][dice.usize(..4)]);
            let sockets = [Socket::default(); OUTLETS];
            let mut pdu = world.start(Arc::default(), retries, retrydelay, sockets);
            pdu.at_once = 1 + dice.usize(..OUTLETS);
            world.pdus.push(pdu);
        }
        world
    }

    fn start(
        &self,
        owed: Arc<Mutex<BTreeSet<Outlet>>>,
        retries: u32,
        retrydelay: Duration,
        sockets: [Socket; OUTLETS],
    ) -> Pdu {
        let (sender, inbox) = unbounded();
        let ledger = Memory {
            owed,
            has_room: Arc::clone(&self.has_room),
            bug: self.bug,
        };
        let kept = Box::new(ledger.clone());
        let plan = Plan::new(
            PduName::new("pdu"),
            retries,
            retrydelay,
            kept,
            sender.clone(),
        );
        Pdu {
            plan: Buggy::new(plan, self.bug),
            inbox,
            sender,
            wake: None,
            has_news: true,
            call: None,
            at_once: 1,
            finished: false,
            ledger,
            mood: Mood::Well,
            sockets,
            last: Default::default(),
            retries,
            retrydelay,
            owed_failed: false,
            sent: VecDeque::new(),
            delayed: Vec::new(),
            away_at: None,
            lanes: Default::default(),
        }
    }

    /// The process is gone, and started again: what is left is the ledger.
    fn crash(&mut self) {
        self.figures[2] += 1;
        self.alive.store(false, Ordering::Release);
        for pdu in &mut self.pdus {
            // What was on its way may still arrive.
            let Some((_, Call::Switch(to), parts)) = pdu.call.take() else {
                continue;
            };
            for (_, index, _) in parts {
                if one_in(&mut self.dice, 2) {
                    let socket = &mut pdu.sockets[index];
                    let ours = pdu.ledger.owed().contains(&outlet(index));
                    socket.is_off = to == Switch::Off;
                    socket.by_reboot = socket.is_off && ours;
                }
            }
        }
        self.check_ledgers();
        // Of what there was no room to record nobody can know.
        for socket in self.pdus.iter_mut().flat_map(|pdu| &mut pdu.sockets) {
            socket.by_reboot &= !std::mem::take(&mut socket.unrecorded);
        }
        let old = std::mem::take(&mut self.pdus);
        for pdu in old {
            let Pdu {
                ledger,
                retries,
                retrydelay,
                sockets,
                mood,
                at_once,
                plan,
                inbox,
                ..
            } = pdu;
            drop((plan, inbox));
            let mut fresh = self.start(Arc::clone(&ledger.owed), retries, retrydelay, sockets);
            (fresh.mood, fresh.at_once) = (mood, at_once);
            for socket in &mut fresh.sockets {
                socket.owed = false;
            }
            for outlet in ledger.owed().iter() {
                fresh.sockets[index(outlet)].owed = true;
                let _ = fresh.sender.send(Message::Owed(Box::new(outlet.clone())));
            }
            self.pdus.push(fresh);
        }
        for request in &mut self.requests {
            request.is_void = true;
        }
        self.answers.lock().expect("lock").clear();
        self.alive = Arc::new(AtomicBool::new(true));
        self.stopping = None;
    }

    fn ask(&mut self) {
        self.figures[0] += 1;
        let pause = self.pause();
        let (step, wait) = match self.dice.usize(..10) {
            0 | 1 => (Step::Switch(Switch::On), self.wait()),
            2 | 3 => (Step::Switch(Switch::Off), self.wait()),
            4 | 5 => (Step::State, Duration::ZERO),
            _ => (Step::RebootOff(pause), Duration::ZERO),
        };
        let places = if one_in(&mut self.dice, 4) {
            let mut places = BTreeSet::new();
            for _ in 0..2 + self.dice.usize(..3) {
                places.insert((
                    self.dice.usize(..self.pdus.len()),
                    self.dice.usize(..OUTLETS),
                ));
            }
            places.into_iter().collect()
        } else {
            vec![(
                self.dice.usize(..self.pdus.len()),
                self.dice.usize(..OUTLETS),
            )]
        };
        let number = self.requests.len();
        let (answers, alive) = (Arc::clone(&self.answers), Arc::clone(&self.alive));
        let is_background = step == Step::State && one_in(&mut self.dice, 2);
        let request = Request {
            client: "model".into(),
            target: Target::Alias(String::new()),
            action: Action::State,
            delay: None,
            is_background,
            may_know_names: false,
        };
        let reply = Box::new(move |outcome| {
            if alive.load(Ordering::Acquire) {
                answers.lock().expect("lock").push((number, outcome));
            }
        });
        let ticket = self.book.open(request, reply);
        let is_reboot = matches!(step, Step::RebootOff(_));
        let group = (places.len() > 1 && is_reboot).then(|| Group::new(places.len(), pause));
        let mut members = Vec::new();
        let mut sendings: BTreeMap<usize, VecDeque<Box<Job>>> = BTreeMap::new();
        for (pdu, index) in places {
            let places = Arc::default();
            let taken = Place::beyond_limits(&places, &"model".into(), !wait.is_zero());
            let asker = Claim::new(&ticket, &PduName::new("pdu"), taken);
            // Whatever clients call it, it is one outlet.
            let named = match self.members.len() % 2 {
                0 => outlet(index),
                _ => nickname(index),
            };
            let mut job = Job::new(named, step, vec![asker]);
            job.group.clone_from(&group);
            job.is_background = is_background;
            job.errand = ticket.id;
            members.push(self.members.len());
            self.pdus[pdu].sent.push_back(self.members.len());
            self.members.push(Member {
                request: number,
                pdu,
                outlet: index,
                step,
                accepted: self.step,
                due: self.now + wait,
                places,
                is_dark: false,
                attempts: 0,
                dark_at: None,
                last: None,
                off_failed: false,
                was_owed: false,
                maybe_dark: false,
                is_alone: false,
            });
            sendings.entry(pdu).or_default().push_back(job);
        }
        for (pdu, jobs) in sendings {
            let _ = self.pdus[pdu].sender.send(Message::Jobs(jobs, wait));
        }
        self.requests.push(Asked {
            ticket,
            answers: Vec::new(),
            members,
            is_cancelled: false,
            is_void: false,
        });
    }

    fn pause(&mut self) -> Duration {
        [0, 50, 1000, 5000, 30_000].map(Duration::from_millis)[self.dice.usize(..5)]
    }

    fn wait(&mut self) -> Duration {
        if one_in(&mut self.dice, 4) {
            [500, 5000, 900_000].map(Duration::from_millis)[self.dice.usize(..3)]
        } else {
            Duration::ZERO
        }
    }

    fn cancel(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let number = self.dice.usize(..self.requests.len());
        let request = &mut self.requests[number];
        if request.ticket.cancel() {
            request.is_cancelled = true;
            let begun = request
                .members
                .iter()
                .any(|member| !self.members[*member].is_fresh());
            assert!(!begun || request.is_void, "cancelled after it began");
            for member in request.members.iter().filter(|_| !request.is_void) {
                let pdu = self.members[*member].pdu;
                let cancelled = Message::Cancelled(request.ticket.id);
                let _ = self.pdus[pdu].sender.send(cancelled);
            }
        }
    }

    fn change_mood(&mut self) {
        if one_in(&mut self.dice, 4) {
            let has_room = self.dice.bool();
            return self.make_room(has_room);
        }
        let which = self.dice.usize(..self.pdus.len());
        self.pdus[which].mood = match self.dice.usize(..5) {
            0 => Mood::Well,
            1 | 2 => Mood::Flaky(1 + self.dice.usize(..4)),
            3 => Mood::Away(
                self.now + millis(&mut self.dice, 120_000),
                one_in(&mut self.dice, 2),
            ),
            _ => Mood::Locked(self.dice.usize(..OUTLETS)),
        };
    }

    fn make_room(&mut self, has_room: bool) {
        if !self.has_room.swap(has_room, Ordering::AcqRel) {
            self.room_since = self.now;
        }
    }

    fn stop(&mut self, how: Stop) {
        self.stopping = Some(how);
        for pdu in &self.pdus {
            let _ = pdu.sender.send(Message::Stop(how));
        }
    }

    /// Lets time pass until `end`, or until nothing can happen any more.
    fn run_until(&mut self, end: Instant) {
        loop {
            self.pump();
            let next = self
                .pdus
                .iter()
                .filter_map(|pdu| pdu.call.as_ref().map(|call| call.0).or(pdu.wake))
                .min();
            match next {
                Some(next) if next <= end => self.now = self.now.max(next),
                Some(_) | None => break,
            }
        }
        self.now = end;
    }

    /// Everything that happens at this moment.
    fn pump(&mut self) {
        let mut spins = 0;
        loop {
            let mut moved = false;
            for which in 0..self.pdus.len() {
                moved |= self.turn(which);
                if self.crash_at.is_some_and(|step| step <= self.step) {
                    self.crash_at = None;
                    self.crash();
                    moved = true;
                    break;
                }
            }
            if !moved {
                return;
            }
            spins += 1;
            assert!(spins < 1000, "a loop without end");
        }
    }

    /// One turn of a worker; false when it has nothing to do now.
    fn turn(&mut self, which: usize) -> bool {
        let now = self.now;
        self.ripen(which);
        let pdu = &mut self.pdus[which];
        if let Some((_, call, parts)) = pdu.call.take_if(|call| call.0 <= now) {
            self.call_ends(which, call, parts);
            return true;
        }
        if pdu.call.is_some() {
            return false;
        }
        while let Ok(message) = pdu.inbox.try_recv() {
            pdu.has_news = true;
            match message {
                Message::Jobs(jobs, wait) => {
                    for job in jobs {
                        let member = pdu.sent.pop_front().expect("sent before");
                        self.members[member].due = now + wait;
                        match wait.is_zero() {
                            true => pdu.lanes[self.members[member].outlet].push(member),
                            false => pdu.delayed.push(member),
                        }
                        pdu.plan.accept(job, now + wait, now);
                    }
                }
                Message::Cancelled(request) => pdu.plan.plan.cancel(request),
                Message::Resume(job) => {
                    let (outlet, number, due) = *job;
                    pdu.plan.plan.resume(&outlet, number, due, now);
                }
                Message::Owed(outlet) => pdu.plan.plan.owe_from_before(&outlet, now),
                Message::Stop(how) => pdu.plan.plan.stop(how, now),
                Message::Change(_) => {}
            }
        }
        let is_due = pdu.wake.is_some_and(|wake| wake <= now);
        if pdu.finished || !(std::mem::take(&mut pdu.has_news) || is_due) {
            self.hear();
            return false;
        }
        self.step += 1;
        assert!(self.step < u64::from(MOST_STEPS), "no end");
        let next = pdu.plan.next(now, pdu.at_once);
        pdu.wake = None;
        self.check_records(which, &next);
        let pdu = &mut self.pdus[which];
        match next {
            Next::Call(outlets, call) => {
                let indexes: Vec<usize> = outlets.iter().map(index).collect();
                self.call_begins(which, &indexes, call);
            }
            Next::Wait(until) => {
                pdu.wake = until;
                self.check_owed_are_seen_to(which);
                self.check_nobody_waits_for_a_delay(which);
                self.check_cancelled_are_gone(which);
            }
            Next::Finished => pdu.finished = true,
        }
        self.hear();
        self.check_ledgers();
        true
    }

    /// Requests whose delay is over enter their lanes, in the order in which the delays ended.
    fn ripen(&mut self, which: usize) {
        let (now, members) = (self.now, &self.members);
        let Pdu { delayed, lanes, .. } = &mut self.pdus[which];
        let mut ripe: Vec<usize> = delayed
            .extract_if(.., |member| members[*member].due <= now)
            .collect();
        ripe.sort_by_key(|member| (members[*member].due, *member));
        for member in ripe {
            lanes[members[member].outlet].push(member);
        }
    }

    /// The oldest request of the lane that is not over.
    fn head(&mut self, which: usize, index: usize) -> Option<usize> {
        let members = &self.members;
        let Pdu { lanes, sockets, .. } = &mut self.pdus[which];
        let (lane, socket) = (&mut lanes[index], &mut sockets[index]);
        lane.retain(|member| {
            let member = &members[*member];
            if member.is_over() && member.is_at_its_off() && !member.maybe_dark {
                // Certainly not switched off: nothing is owed for it.
                socket.owed = member.was_owed;
            }
            !member.is_over()
        });
        lane.first().copied()
    }

    fn call_begins(&mut self, which: usize, indexes: &[usize], call: Call) {
        self.figures[1] += 1;
        if indexes.len() > 1 {
            self.figures[3] += 1;
            self.check_shared(which, indexes, call);
        }
        let mut begun = Vec::new();
        for index in indexes {
            begun.push((self.part_begins(which, *index, call), *index));
        }
        let ends = self.play_all(which, indexes, call);
        let is_err = ends.iter().any(|(result, _)| result.is_err());
        let mut parts = Vec::new();
        for ((member, index), (result, acts)) in begun.into_iter().zip(ends) {
            let by_reboot = member
                .is_some_and(|member| matches!(self.members[member].step, Step::RebootOff(_)));
            let pdu = &mut self.pdus[which];
            if acts && let Call::Switch(to) = call {
                pdu.sockets[index].is_off = to == Switch::Off;
                pdu.sockets[index].by_reboot = to == Switch::Off && by_reboot;
            }
            pdu.last[index] = Some((self.step, call, None));
            parts.push((member, index, result));
        }
        let most = match self.dice.usize(..4) {
            0 | 1 => 1,
            2 if is_err && self.stopping.is_none() => 90_000,
            _ => 3000,
        };
        let until = self.now + millis(&mut self.dice, most);
        self.pdus[which].call = Some((until, call, parts));
    }

    /// One command is about outlets that one request asks to switch, for the first time.
    fn check_shared(&mut self, which: usize, indexes: &[usize], call: Call) {
        let at = format!("PDU {which}, outlets {indexes:?}, {call:?}");
        assert!(indexes.len() <= self.pdus[which].at_once, "{at}: too many");
        let mut requests: Option<BTreeSet<usize>> = None;
        for index in indexes {
            let head = self.head(which, *index).expect("a request");
            let head = &self.members[head];
            assert_eq!(
                Call::Switch(Switch::On) == call,
                head.step == Step::Switch(Switch::On)
            );
            assert!(
                matches!(head.step, Step::Switch(_)),
                "{at}: no plain switch"
            );
            assert!(head.attempts == 0 && !head.is_alone, "{at}: not the first");
            // Others may have asked for the same, and share the job.
            let lane = self.pdus[which].lanes[*index].iter();
            let lane = lane.map(|member| &self.members[*member]);
            let same = lane.filter(|member| member.step == head.step);
            let same: BTreeSet<usize> = same.map(|member| member.request).collect();
            requests = Some(match requests {
                None => same,
                Some(before) => before.intersection(&same).copied().collect(),
            });
        }
        assert!(
            requests.is_some_and(|requests| !requests.is_empty()),
            "{at}: asked for by several requests"
        );
    }

    /// A call begins for one of its outlets; gives the member that it serves.
    fn part_begins(&mut self, which: usize, index: usize, call: Call) -> Option<usize> {
        let now = self.now;
        let head = self.head(which, index);
        let socket = self.pdus[which].sockets[index];
        let at = format!("PDU {which}, outlet {index}, {call:?}");
        let wanted = head.map(|head| {
            let member = &self.members[head];
            match (member.step, member.is_dark) {
                (Step::Switch(to), _) => Call::Switch(to),
                (Step::State, _) => Call::State,
                (Step::RebootOff(_), false) => Call::Switch(Switch::Off),
                (Step::RebootOff(_) | Step::RebootOn | Step::OwedOn, _) => Call::Switch(Switch::On),
            }
        });
        let is_due = head.is_some_and(|head| self.members[head].due <= now);
        let serves = head.filter(|_| wanted == Some(call) && is_due);
        // An off in doubt that is given up (a stop, a group that failed, a PDU that is away) is
        // followed by the on.
        let gives_up = head.filter(|head| {
            let member = &self.members[*head];
            call == Call::Switch(Switch::On)
                && member.is_at_its_off()
                && matches!(&member.last, Some(Err(_)))
        });
        if serves.is_none() && gives_up.is_none() {
            let is_between = head.is_some_and(|head| self.members[head].is_dark);
            assert!(
                socket.owed && call == Call::Switch(Switch::On) && !is_between,
                "{at}: out of order: expected {wanted:?} (due: {is_due})"
            );
        }
        let member = serves.or(gives_up);
        if member.is_none() && self.pdus[which].owed_failed && self.stopping.is_none() {
            self.check_nobody_is_kept_waiting(which, &at);
        }
        if let Some(number) = member {
            let member = &self.members[number];
            let request = &self.requests[member.request];
            if member.is_fresh() {
                // Several who asked for the same share one job.
                let shared = self.pdus[which].lanes[index].iter().any(|other| {
                    let other = &self.members[*other];
                    other.step == member.step && !self.requests[other.request].is_cancelled
                });
                assert!(shared, "{at}: begun although cancelled");
                let failed_elsewhere = matches!(member.step, Step::RebootOff(_))
                    && request
                        .members
                        .iter()
                        .any(|other| self.members[*other].off_failed);
                assert!(!failed_elsewhere, "{at}: begun although its group failed");
                assert!(self.stopping.is_none(), "{at}: begun while stopping");
            }
            if member.is_fresh() {
                self.check_gathered(number, &at);
            }
            let member = &self.members[number];
            if member.is_dark && member.attempts == 0 {
                self.check_pause(number, &at);
            }
            let retries = self.pdus[which].retries;
            let (member, socket) = (
                &mut self.members[number],
                &mut self.pdus[which].sockets[index],
            );
            if gives_up.is_some() {
                member.is_dark = true;
                member.attempts = 0;
                member.off_failed = true;
            }
            if member.is_fresh() && matches!(member.step, Step::RebootOff(_)) {
                member.was_owed = std::mem::replace(&mut socket.owed, true);
            }
            if member.step == Step::Switch(Switch::Off) {
                socket.owed = false;
                socket.by_reboot = false;
            }
            member.attempts += 1;
            assert!(member.attempts <= retries, "{at}: too many attempts");
            member.last = None;
        }
        member
    }

    /// What the PDU makes of one command for these outlets, and on which of them it acts.
    fn play_all(&mut self, which: usize, indexes: &[usize], call: Call) -> Vec<(Ended, bool)> {
        let each: Vec<(Ended, bool)> = indexes
            .iter()
            .map(|index| self.play(which, *index, call))
            .collect();
        let (Call::Switch(to), [_, _, ..]) = (call, indexes) else {
            return each;
        };
        // Whatever keeps the PDU from one keeps it from all.
        if let Some(trouble) = each.iter().find_map(|(result, _)| result.as_ref().err()) {
            let end = |_: &usize| {
                let acts = trouble.may_have_acted && one_in(&mut self.dice, 2);
                (Err(trouble.clone()), acts)
            };
            return indexes.iter().map(end).collect();
        }
        // It takes the command, and one of the outlets may not show the new state.
        let is_flaky = matches!(self.pdus[which].mood, Mood::Flaky(_));
        let stuck = is_flaky.then(|| self.dice.usize(..4));
        let shows = State::Unknown("something else".into());
        let still = DriverError::StillShows { to, shows };
        let end = |(at, end)| match Some(at) == stuck {
            true => {
                let acts = one_in(&mut self.dice, 2);
                (Err(Trouble::new(still.clone(), true)), acts)
            }
            false => end,
        };
        each.into_iter().enumerate().map(end).collect()
    }

    /// Nothing of the queue is due while ons that are owed fail one after the other.
    fn check_nobody_is_kept_waiting(&mut self, which: usize, at: &str) {
        for index in 0..OUTLETS {
            let Some(head) = self.head(which, index) else {
                continue;
            };
            let member = &self.members[head];
            let request = &self.requests[member.request];
            let due = match (member.is_dark, member.step) {
                _ if member.is_fresh() => member.due,
                (true, Step::RebootOff(pause)) if member.attempts == 0 => {
                    member.dark_at.map_or(self.now, |dark| dark + pause)
                }
                _ => continue,
            };
            assert!(
                request.members.len() > 1 || request.is_cancelled || due > self.now,
                "{at}: outlet {index} is kept waiting"
            );
        }
    }

    /// An idle worker has nothing that it could begin.
    fn check_nobody_waits_for_a_delay(&mut self, which: usize) {
        let pdu = &self.pdus[which];
        let is_held = pdu.away_at.is_some_and(|at| self.now < at + pdu.retrydelay);
        if is_held || self.stopping.is_some() {
            return;
        }
        for index in 0..OUTLETS {
            let Some(head) = self.head(which, index) else {
                continue;
            };
            let member = &self.members[head];
            let request = &self.requests[member.request];
            assert!(
                !member.is_fresh()
                    || member.due > self.now
                    || request.members.len() > 1
                    || request.is_cancelled,
                "PDU {which}, outlet {index}: it waits, and nothing is in its way"
            );
        }
    }

    /// What is cancelled stands in nobody's way.
    fn check_cancelled_are_gone(&self, which: usize) {
        let Pdu { lanes, delayed, .. } = &self.pdus[which];
        for number in lanes.iter().flatten().chain(delayed) {
            let member = &self.members[*number];
            let is_cancelled = self.requests[member.request].is_cancelled;
            assert!(
                !is_cancelled || member.is_over(),
                "PDU {which}: cancelled, and still in its lane"
            );
        }
    }

    /// No member of a group's reboot begins while another has not come to its turn.
    fn check_gathered(&mut self, number: usize, at: &str) {
        if !matches!(self.members[number].step, Step::RebootOff(_)) {
            return;
        }
        for other in self.requests[self.members[number].request].members.clone() {
            let Member { pdu, outlet, .. } = self.members[other];
            let is_first = self.head(pdu, outlet) == Some(other);
            assert!(
                is_first,
                "{at}: dark while outlet {outlet} of PDU {pdu} is not ready"
            );
        }
    }

    /// A reboot is dark for as long as was asked, and a group goes on together.
    fn check_pause(&self, number: usize, at: &str) {
        let member = &self.members[number];
        let request = &self.requests[member.request];
        let Step::RebootOff(pause) = member.step else {
            return;
        };
        let members = || request.members.iter().map(|other| &self.members[*other]);
        let may_have_failed = |other: &Member| {
            other.off_failed || (other.is_at_its_off() && matches!(other.last, Some(Err(_))))
        };
        if self.stopping.is_some() || members().any(may_have_failed) {
            return;
        }
        for other in members() {
            let dark_at = other
                .dark_at
                .unwrap_or_else(|| panic!("{at}: on before all were off"));
            assert!(self.now >= dark_at + pause, "{at}: the pause was cut short");
        }
    }

    /// What the PDU makes of a call, and whether it acts on it.
    fn play(&mut self, which: usize, index: usize, call: Call) -> (Result<Gained, Trouble>, bool) {
        let now = self.now;
        let is_off = self.pdus[which].sockets[index].is_off;
        let well = match call {
            Call::Switch(to) => Ok(Gained::Switched(to, Proof::State)),
            Call::State => Ok(Gained::Read(if is_off { State::Off } else { State::On })),
            Call::Find => Ok(Gained::Found(outlet(index))),
        };
        let refused = || DriverError::Refused("locked".into());
        let error = match self.pdus[which].mood {
            Mood::Well => return (well, true),
            Mood::Away(until, _) if until <= now => {
                self.pdus[which].mood = Mood::Well;
                return (well, true);
            }
            Mood::Away(_, true) => transport(TransportErrorKind::Timeout),
            Mood::Away(_, false) => transport(TransportErrorKind::NoConnection),
            Mood::Locked(locked) if locked == index => refused(),
            Mood::Locked(_) => return (well, true),
            Mood::Flaky(chances) => {
                if !one_in(&mut self.dice, chances) {
                    return (well, true);
                }
                match self.dice.usize(..9) {
                    0 => transport(TransportErrorKind::NoConnection),
                    1 => transport(TransportErrorKind::Timeout),
                    2 => transport(TransportErrorKind::Closed),
                    3 => transport(TransportErrorKind::Garbled),
                    4 => transport(TransportErrorKind::Busy),
                    5 => refused(),
                    6 => {
                        let acts = one_in(&mut self.dice, 2);
                        return (Err(Trouble::panic("oh".into())), acts);
                    }
                    7 => DriverError::LoginRefused("who?".into()),
                    _ => DriverError::Unexpected {
                        expected: "OK".into(),
                        got: "?".into(),
                    },
                }
            }
        };
        let may_have_acted = match self.pdus[which].mood {
            Mood::Away(_, in_doubt) => in_doubt,
            Mood::Locked(_) => false,
            Mood::Well | Mood::Flaky(_) => one_in(&mut self.dice, 2),
        };
        let acts = may_have_acted && one_in(&mut self.dice, 2);
        (Err(Trouble::new(error, may_have_acted)), acts)
    }

    fn call_ends(&mut self, which: usize, call: Call, parts: Vec<Part>) {
        let now = self.now;
        let pdu = &mut self.pdus[which];
        pdu.has_news = true;
        pdu.owed_failed = false;
        let is_owed = parts.iter().any(|(member, ..)| member.is_none());
        let is_shared = parts.len() > 1;
        for (_, index, result) in &parts {
            if let Some(last) = &mut pdu.last[*index] {
                last.2 = Some(result.clone());
            }
            pdu.owed_failed |= is_owed && result.is_err();
            if matches!(result, Err(trouble) if trouble.error.is_pdu_away()) {
                pdu.away_at = Some(now);
            }
        }
        let results = parts.iter().map(|(.., result)| result.clone());
        pdu.plan.results(results.collect(), is_owed, now);
        for (member, index, result) in parts {
            self.part_ends(which, member, index, call, result, is_shared);
        }
        self.hear();
        self.check_ledgers();
    }

    fn part_ends(
        &mut self,
        which: usize,
        member: Option<usize>,
        index: usize,
        call: Call,
        result: Ended,
        is_shared: bool,
    ) {
        let now = self.now;
        if call == Call::Switch(Switch::On) && result.is_ok() {
            self.pdus[which].sockets[index].owed = false;
        }
        if let Some(number) = member {
            let failed_for_sure =
                |trouble: &Trouble| !trouble.may_have_acted && !trouble.error.is_pdu_away();
            if is_shared && result.as_ref().is_err_and(failed_for_sure) {
                // Each by itself may do better: it begins anew.
                let member = &mut self.members[number];
                assert!(!member.is_over(), "given up with the others");
                member.attempts -= 1;
                member.is_alone = true;
            }
            // Several who asked for the same share one job, and its end.
            let step = self.members[number].step;
            for sharer in &self.pdus[which].lanes[index] {
                let sharer = &mut self.members[*sharer];
                if sharer.is_over() && sharer.step == step {
                    sharer.last = Some(result.clone());
                }
            }
            let is_over = self.members[number].is_over();
            let member = &mut self.members[number];
            member.last = Some(result.clone());
            let in_doubt = |trouble: &Trouble| trouble.may_have_acted;
            member.maybe_dark |= result.as_ref().map_or_else(in_doubt, |_| true);
            if call == Call::Switch(Switch::Off) && matches!(member.step, Step::RebootOff(_)) {
                if result.is_ok() {
                    member.is_dark = true;
                    member.attempts = 0;
                    member.dark_at = Some(now);
                } else if is_over {
                    member.off_failed = true;
                } else if self.is_given_up(number, which, &result) {
                    let member = &mut self.members[number];
                    member.is_dark = true;
                    member.attempts = 0;
                    member.dark_at = Some(now);
                    member.off_failed = true;
                }
            }
        }
        if call == Call::State && result.is_ok() {
            for other in (0..OUTLETS).filter(|other| *other != index) {
                if one_in(&mut self.dice, 2) {
                    self.also_read(which, index, other);
                }
            }
        }
    }

    /// A read of one outlet has told the state of another: whoever has asked for that before it
    /// began, and has his turn, has it.
    fn also_read(&mut self, which: usize, read: usize, other: usize) {
        let now = self.now;
        let head = self.head(which, other);
        let is_awaited = head.is_some_and(|head| {
            let member = &self.members[head];
            member.step == Step::State && member.due <= now
        });
        let pdu = &mut self.pdus[which];
        let state = match pdu.sockets[other].is_off {
            true => State::Off,
            false => State::On,
        };
        let began = pdu.last[read].as_ref().expect("a call").0;
        let told = Ok(Gained::Read(state.clone()));
        if is_awaited {
            pdu.last[other] = Some((began, Call::State, Some(told.clone())));
        }
        let plan = &mut pdu.plan.plan;
        plan.also_read(vec![(outlet(other), state)], now);
        for number in self.pdus[which].lanes[other].clone() {
            let member = &mut self.members[number];
            if member.is_over() {
                assert!(is_awaited, "PDU {which}, outlet {other}: out of turn");
                member.last = Some(told.clone());
            }
        }
    }

    /// Was this the last attempt of an off?
    fn is_given_up(&self, number: usize, which: usize, result: &Result<Gained, Trouble>) -> bool {
        let member = &self.members[number];
        let is_transient = matches!(result, Err(trouble) if trouble.is_transient());
        !is_transient || member.attempts >= self.pdus[which].retries
    }

    /// Takes the answers that have come, and holds them against what was done.
    fn hear(&mut self) {
        let answers = std::mem::take(&mut *self.answers.lock().expect("lock"));
        for (number, outcome) in answers {
            let request = &mut self.requests[number];
            request.answers.push(outcome.clone());
            assert_eq!(request.answers.len(), 1, "answered twice");
            if request.is_cancelled {
                assert!(
                    matches!(&outcome, Err(failure) if failure.kind == FailureKind::Cancelled),
                    "cancelled, and answered otherwise"
                );
                continue;
            }
            if let Err(failure) = &outcome {
                assert!(!failure.reason.contains("lost"), "{failure}");
            }
            let is_group = request.members.len() > 1;
            for member in &request.members {
                let member = &self.members[*member];
                assert!(member.is_over(), "answered before it was over");
                let Ok(done) = &outcome else { continue };
                if is_group {
                    assert!(
                        matches!(member.last, Some(Ok(_))),
                        "success without evidence"
                    );
                    let is_reboot = matches!(member.step, Step::RebootOff(_));
                    assert_eq!(is_reboot, member.is_dark, "half a reboot");
                    continue;
                }
                let wanted = match member.step {
                    Step::Switch(to) => Call::Switch(to),
                    Step::State => Call::State,
                    Step::RebootOff(_) | Step::RebootOn | Step::OwedOn => Call::Switch(Switch::On),
                };
                match &self.pdus[member.pdu].last[member.outlet] {
                    Some((began, call, Some(Ok(gained)))) => {
                        assert_eq!(*call, wanted, "success by another call");
                        assert!(*began > member.accepted, "success from before the request");
                        let state = match gained {
                            Gained::Read(state) => Some(state),
                            Gained::Switched(..) | Gained::Found(_) => None,
                        };
                        assert_eq!(state, done.state.as_ref(), "another state");
                    }
                    other => panic!("success without evidence: {other:?}"),
                }
            }
        }
    }

    /// What could not be recorded is, soon after there is room for it.
    fn check_records(&mut self, which: usize, next: &Next) {
        let has_room = self.has_room.load(Ordering::Acquire);
        let is_late = has_room && self.now >= self.room_since + RECORD_AGAIN;
        let pdu = &mut self.pdus[which];
        let owed = pdu.ledger.owed();
        for (index, socket) in pdu.sockets.iter_mut().enumerate() {
            let is_recorded = owed.contains(&outlet(index));
            // By a reboot, or on purpose: then nothing is owed any more.
            let goes_off = matches!(next, Next::Call(of, Call::Switch(Switch::Off)) if of.contains(&outlet(index)));
            socket.unrecorded |= goes_off && !has_room;
            socket.unrecorded &= !is_recorded;
            let is_dark = socket.is_off && socket.by_reboot && !goes_off;
            assert!(
                !(is_dark && socket.unrecorded && is_late),
                "PDU {which}, outlet {index}: there is room for its record, and there is none"
            );
        }
    }

    /// What a reboot has switched off is recorded, at every moment.
    fn check_ledgers(&self) {
        for (which, pdu) in self.pdus.iter().enumerate() {
            let owed = pdu.ledger.owed();
            for (index, socket) in pdu.sockets.iter().enumerate() {
                let is_dark = socket.is_off && socket.by_reboot;
                assert!(
                    !is_dark || socket.unrecorded || owed.contains(&outlet(index)),
                    "PDU {which}, outlet {index}: off by a reboot, and no record of it"
                );
            }
        }
    }

    /// An outlet that is owed its on is not forgotten while nothing else is done about it.
    fn check_owed_are_seen_to(&mut self, which: usize) {
        if self.stopping.is_some() {
            return;
        }
        for index in 0..OUTLETS {
            let head = self.head(which, index);
            let is_begun = head.is_some_and(|head| !self.members[head].is_fresh());
            let pdu = &self.pdus[which];
            if pdu.sockets[index].owed && !is_begun {
                assert!(
                    pdu.wake
                        .is_some_and(|wake| wake <= self.now + OWED_PATIENCE),
                    "PDU {which}, outlet {index}: owed its on, and nobody sees to it"
                );
            }
        }
    }

    /// The end: PDUs well again, everything done.
    fn settle(&mut self) {
        for pdu in &mut self.pdus {
            pdu.mood = Mood::Well;
        }
        self.make_room(true);
        let end = self.now + SETTLED_AFTER;
        self.run_until(end);
        for (which, pdu) in self.pdus.iter().enumerate() {
            assert!(
                pdu.call.is_none() && pdu.wake.is_none() && pdu.inbox.is_empty(),
                "PDU {which}: not settled"
            );
        }
        for (number, request) in self.requests.iter().enumerate() {
            if request.is_void {
                continue;
            }
            assert_eq!(request.answers.len(), 1, "request {number}: not answered");
            for member in &request.members {
                assert!(
                    self.members[*member].is_over(),
                    "request {number}: not over"
                );
            }
        }
    }

    fn all_on(&self) {
        for (which, pdu) in self.pdus.iter().enumerate() {
            for (index, socket) in pdu.sockets.iter().enumerate() {
                assert!(
                    !(socket.is_off && socket.by_reboot),
                    "PDU {which}, outlet {index}: left off"
                );
            }
            assert!(
                pdu.ledger.owed().is_empty(),
                "PDU {which}: settled, and still owed"
            );
        }
    }
}

/// One schedule from beginning to end.
fn play(seed: u64, bug: Option<Bug>, crash_at: Option<u64>) -> ([u64; 4], u64) {
    let mut world = World::new(seed, bug);
    world.crash_at = crash_at;
    let events = 5 + world.dice.usize(..30);
    let crash = world.dice.usize(..2 * events);
    let may_crash = crash_at.is_none();
    for event in 0..events {
        if event == crash && may_crash {
            world.crash();
        }
        match world.dice.usize(..12) {
            0..=5 => world.ask(),
            6 | 7 => (0..3).for_each(|_| world.ask()),
            8 => world.cancel(),
            _ => world.change_mood(),
        }
        let pass = [0, 0, 10, 500, 3000, 20_000][world.dice.usize(..6)];
        let end = world.now + Duration::from_millis(pass);
        world.run_until(end);
    }
    if one_in(&mut world.dice, 4) {
        world.stop(Stop::Soon);
        if one_in(&mut world.dice, 2) {
            let pass = millis(&mut world.dice, 12_000);
            let end = world.now + pass;
            world.run_until(end);
            world.ask();
            world.stop(Stop::Now);
        }
        let end = world.now + Duration::from_secs(600);
        world.run_until(end);
        let is_over = world.pdus.iter().all(|pdu| pdu.finished);
        assert!(
            is_over || crash_at.is_some(),
            "not stopped after ten minutes"
        );
        world.settle();
        world.crash();
    }
    world.settle();
    world.all_on();
    (world.figures, world.step)
}

/// Plays a schedule; the text of what it found.
fn try_play(seed: u64, bug: Option<Bug>, crash_at: Option<u64>) -> Result<([u64; 4], u64), String> {
    catch_unwind(AssertUnwindSafe(|| play(seed, bug, crash_at)))
        .map_err(|panic| super::worker::panic_text(panic.as_ref()))
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}: expected a number")),
    )
}

/// Plays `first..first + count`, on all processors; the findings.
fn play_all(count: u64, one: impl Fn(u64) -> Result<(), String> + Sync) -> Vec<String> {
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count || found.lock().expect("lock").len() >= 10 {
                        return;
                    }
                    if let Err(what) = one(seed) {
                        found
                            .lock()
                            .expect("lock")
                            .push(format!("seed {seed}: {what}"));
                    }
                }
            });
        }
    });
    found.into_inner().expect("lock")
}

fn say(text: &str) {
    use std::io::Write;
    // Past the harness, which would swallow it.
    let _ = writeln!(std::io::stderr(), "model: {text}");
}

#[test]
fn no_schedule_breaks_the_rules() {
    if let Some(seed) = number("PDUD_SEED") {
        play(seed, None, None);
        return;
    }
    let count = number("PDUD_SCHEDULES").unwrap_or(10_000);
    let sums = Mutex::new([0; 4]);
    let found = play_all(count, |seed| {
        let (figures, _) = try_play(seed, None, None)?;
        let mut sums = sums.lock().expect("lock");
        sums.iter_mut()
            .zip(figures)
            .for_each(|(sum, figure)| *sum += figure);
        Ok(())
    });
    let [requests, calls, crashes, shared] = sums.into_inner().expect("lock");
    say(&format!(
        "{count} schedules, {requests} requests, {calls} driver calls ({shared} for several outlets), {crashes} crashes; {} findings",
        found.len()
    ));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_crash_at_any_step_breaks_the_rules() {
    let count = number("PDUD_SCHEDULES").unwrap_or(10_000) / 500;
    let replays = AtomicU64::new(0);
    let found = play_all(count, |seed| {
        let (_, steps) = try_play(seed, None, Some(u64::MAX))?;
        for step in 1..=steps {
            replays.fetch_add(1, Ordering::Relaxed);
            try_play(seed, None, Some(step)).map_err(|what| format!("step {step}: {what}"))?;
        }
        Ok(())
    });
    say(&format!(
        "{count} schedules crashed at every step, {} replays; {} findings",
        replays.into_inner(),
        found.len()
    ));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn seeded_bugs_are_found() {
    for bug in [
        Bug::Overtakes,
        Bug::LosesOn,
        Bug::AnswersTwice,
        Bug::Starves,
        Bug::DelaysHold,
        Bug::ForgetsRecord,
        Bug::OneForAll,
    ] {
        let found = (0..2000).find_map(|seed| {
            let what = try_play(seed, Some(bug), None).err()?;
            Some((seed, what))
        });
        let (seed, what) = found.unwrap_or_else(|| panic!("{bug:?} was not found"));
        say(&format!(
            "{bug:?} found after {} schedules: {what}",
            seed + 1
        ));
    }
}
