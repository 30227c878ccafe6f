//! The worker's rules, played with time passed in and the PDU's answers made up.

use super::super::group::Group;
use super::super::held::held;
use super::super::job::Claim;
use super::super::owed::OWED_PAUSE;
use super::super::place::{Place, Places};
use super::super::ticket::{Ticket, asked};
use super::*;
use crate::request::Outcome;
use crate::transport::{TransportError, TransportErrorKind};
use crossbeam_channel::Receiver;
use std::sync::Mutex;

const ON: Call = Call::Switch(Switch::On);
const OFF: Call = Call::Switch(Switch::Off);
const PAUSE: Duration = Duration::from_secs(5);

struct Bench {
    plan: Plan,
    inbox: Receiver<Message>,
    now: Instant,
}

fn outlet(id: &str) -> Outlet {
    Outlet::new(id)
}

fn job(id: &str, step: Step, ticket: &Arc<Ticket>, place: Place) -> Box<Job> {
    let asker = Claim::new(ticket, &PduName::new("pdu"), place);
    Job::new(outlet(id), step, vec![asker])
}

/// A member of a group's reboot.
fn member(id: &str, ticket: &Arc<Ticket>, group: &Arc<Mutex<Group>>) -> Box<Job> {
    let mut job = job(id, Step::RebootOff(PAUSE), ticket, Place::uncounted());
    job.group = Some(Arc::clone(group));
    job
}

fn timeout() -> Trouble {
    Trouble::new(
        TransportError::new(TransportErrorKind::Timeout, "no answer").into(),
        true,
    )
}

fn no_connection() -> Trouble {
    Trouble::new(
        TransportError::new(TransportErrorKind::NoConnection, "refused").into(),
        false,
    )
}

fn refused() -> Trouble {
    Trouble::new(DriverError::Refused("locked".into()), false)
}

fn garbled() -> Trouble {
    let error = DriverError::Unexpected {
        expected: "OK".into(),
        got: "?".into(),
    };
    Trouble::new(error, true)
}

/// What a PDU's answer to a call is to the plan: a switch has no state.
fn given(call: Call, answer: Result<Option<State>, Trouble>) -> Result<Gained, Trouble> {
    answer.map(|state| match (call, state) {
        (_, Some(state)) => Gained::Read(state),
        (Call::Switch(to), None) => Gained::Switched(to, Proof::State),
        (Call::State | Call::Find, None) => panic!("a reading gives a state"),
    })
}

impl Bench {
    fn new(retries: u32) -> Self {
        let (sender, inbox) = crossbeam_channel::unbounded();
        let (pdu, retrydelay) = (PduName::new("pdu"), Duration::from_secs(1));
        let plan = Plan::new(pdu, retries, retrydelay, Box::new(()), sender);
        Self {
            plan,
            inbox,
            now: Instant::now(),
        }
    }

    fn ask(&mut self, id: &str, step: Step) -> Receiver<Outcome> {
        self.ask_with_ticket(id, step).1
    }

    fn ask_with_ticket(&mut self, id: &str, step: Step) -> (Arc<Ticket>, Receiver<Outcome>) {
        let (ticket, receiver) = asked();
        let job = job(id, step, &ticket, Place::uncounted());
        self.plan.accept(job, self.now, self.now);
        (ticket, receiver)
    }

    /// The next thing to do must be this call; the PDU answers it so.
    fn plays(&mut self, id: &str, call: Call, answer: Result<Option<State>, Trouble>) {
        assert_eq!(self.next(), Next::Call(vec![outlet(id)], call));
        self.plan.results(vec![given(call, answer)], self.now);
        self.hear();
    }

    /// What to do when all messages have been heard.
    fn next(&mut self) -> Next {
        loop {
            let next = self.plan.next(self.now, 1);
            if !self.hear() {
                return next;
            }
            assert!(matches!(next, Next::Wait(_)), "more to do than {next:?}");
        }
    }

    /// Was there any message?
    fn hear(&mut self) -> bool {
        let mut was_any = false;
        while let Ok(message) = self.inbox.try_recv() {
            was_any = true;
            match message {
                Message::Resume(job) => {
                    let (outlet, number, due) = *job;
                    self.plan.resume(&outlet, number, due, self.now);
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        was_any
    }

    /// Nothing is to be done before `wait` has passed; then it has.
    fn waits(&mut self, wait: Duration) {
        assert_eq!(self.next(), Next::Wait(Some(self.now + wait)));
        self.now += wait;
    }
}

#[test]
fn a_reboot_is_off_pause_on_and_others_are_served_meanwhile() {
    let mut bench = Bench::new(5);
    let reboot = bench.ask("1", Step::RebootOff(PAUSE));
    let behind = bench.ask("01", Step::Switch(Switch::Off));
    bench.plays("1", OFF, Ok(None));
    let other = bench.ask("2", Step::State);
    bench.plays("2", Call::State, Ok(Some(State::On)));
    assert_eq!(
        other.try_recv().expect("answered").expect("read").state,
        Some(State::On)
    );
    bench.waits(PAUSE);
    assert!(reboot.try_recv().is_err());
    bench.plays("1", ON, Ok(None));
    assert_eq!(
        reboot.try_recv().expect("answered").expect("done").attempts,
        2
    );
    bench.plays("1", OFF, Ok(None));
    assert!(behind.try_recv().expect("answered").is_ok());
}

#[test]
fn a_driver_gets_the_outlet_as_its_own_client_wrote_it() {
    let mut bench = Bench::new(5);
    let (first, second) = (
        bench.ask("4", Step::Switch(Switch::Off)),
        bench.ask("04", Step::Switch(Switch::On)),
    );
    for (written, call) in [("4", OFF), ("04", ON)] {
        let Next::Call(outlet, called) = bench.plan.next(bench.now, 1) else {
            panic!("nothing to do")
        };
        assert_eq!((outlet[0].as_str(), called), (written, call));
        bench.plan.results(vec![given(called, Ok(None))], bench.now);
    }
    assert!(first.try_recv().expect("answered").is_ok());
    assert!(second.try_recv().expect("answered").is_ok());
}

#[test]
fn an_off_that_certainly_failed_has_no_on() {
    let mut bench = Bench::new(5);
    let reboot = bench.ask("1", Step::RebootOff(PAUSE));
    bench.plays("1", OFF, Err(refused()));
    let failure = reboot.try_recv().expect("answered").expect_err("failed");
    assert!(
        failure
            .reason
            .contains("PDU pdu, outlet 1: reboot, off: the PDU refused: locked"),
        "{failure}"
    );
    assert_eq!(bench.plan.next(bench.now, 1), Next::Wait(None));
}

#[test]
fn an_off_that_was_perhaps_carried_out_is_followed_by_the_on_and_still_fails() {
    let mut bench = Bench::new(2);
    let reboot = bench.ask("1", Step::RebootOff(PAUSE));
    bench.plays("1", OFF, Err(timeout()));
    bench.waits(Duration::from_secs(1));
    // The second attempt certainly did nothing, but the first may have.
    bench.plays("1", OFF, Err(no_connection()));
    bench.plays("1", ON, Ok(None));
    assert!(reboot.try_recv().expect("answered").is_err());
    assert_eq!(bench.plan.next(bench.now, 1), Next::Wait(None));
}

#[test]
fn an_on_that_fails_is_tried_until_it_is_confirmed() {
    let mut bench = Bench::new(1);
    let reboot = bench.ask("1", Step::RebootOff(PAUSE));
    bench.plays("1", OFF, Ok(None));
    bench.waits(PAUSE);
    bench.plays("1", ON, Err(timeout()));
    assert_eq!(
        reboot
            .try_recv()
            .expect("answered")
            .expect_err("failed")
            .kind,
        FailureKind::Unreachable
    );
    bench.waits(OWED_PAUSE);
    bench.plays("1", ON, Err(timeout()));
    bench.waits(OWED_PAUSE);
    bench.plays("1", ON, Err(garbled()));
    bench.waits(2 * OWED_PAUSE);
    bench.plays("1", ON, Ok(None));
    assert_eq!(bench.plan.next(bench.now, 1), Next::Wait(None));
}

#[test]
fn a_later_request_takes_the_place_of_an_owed_on_but_a_failed_on_does_not_end_it() {
    let mut bench = Bench::new(1);
    let _reboot = bench.ask("1", Step::RebootOff(PAUSE));
    bench.plays("1", OFF, Ok(None));
    bench.waits(PAUSE);
    bench.plays("1", ON, Err(timeout()));
    let on = bench.ask("1", Step::Switch(Switch::On));
    bench.plays("1", ON, Err(refused()));
    assert!(on.try_recv().expect("answered").is_err());
    let off = bench.ask("1", Step::Switch(Switch::Off));
    bench.plays("1", OFF, Ok(None));
    assert!(off.try_recv().expect("answered").is_ok());
    assert_eq!(
        bench.plan.next(bench.now, 1),
        Next::Wait(None),
        "the off was asked for"
    );
}

#[test]
fn transient_errors_are_retried_others_are_not() {
    let mut bench = Bench::new(3);
    let on = bench.ask("1", Step::Switch(Switch::On));
    bench.plays("1", ON, Err(garbled()));
    // Only this outlet is in trouble: the others go on.
    let _other = bench.ask("2", Step::Switch(Switch::On));
    bench.plays("2", ON, Ok(None));
    bench.waits(Duration::from_secs(1));
    bench.plays("1", ON, Err(garbled()));
    bench.waits(Duration::from_secs(1));
    bench.plays("1", ON, Ok(None));
    assert_eq!(on.try_recv().expect("answered").expect("done").attempts, 3);
    let refused_on = bench.ask("1", Step::Switch(Switch::On));
    bench.plays("1", ON, Err(refused()));
    assert!(refused_on.try_recv().expect("answered").is_err());
    let bug = bench.ask("1", Step::Switch(Switch::On));
    bench.plays("1", ON, Err(Trouble::panic("oh".into())));
    assert_eq!(
        bug.try_recv().expect("answered").expect_err("failed").kind,
        FailureKind::Internal
    );
}

#[test]
fn the_queue_of_a_pdu_that_is_away_drains_fast() {
    let mut bench = Bench::new(3);
    let answers: Vec<_> = ["1", "2", "3"]
        .into_iter()
        .map(|id| bench.ask(id, Step::Switch(Switch::On)))
        .collect();
    bench.plays("1", ON, Err(no_connection()));
    bench.waits(Duration::from_secs(1));
    bench.plays("1", ON, Err(no_connection()));
    bench.waits(Duration::from_secs(1));
    bench.plays("1", ON, Err(no_connection()));
    bench.plays("2", ON, Err(no_connection()));
    bench.plays("3", ON, Ok(None));
    let outcomes: Vec<_> = answers
        .iter()
        .map(|answer| answer.try_recv().expect("answered").is_ok())
        .collect();
    assert_eq!(outcomes, [false, false, true]);
    let _again = bench.ask("1", Step::Switch(Switch::On));
    bench.plays("1", ON, Err(no_connection()));
    bench.waits(Duration::from_secs(1));
}

#[test]
fn a_stop_answers_what_waits_and_finishes_what_was_begun() {
    let mut bench = Bench::new(5);
    let reboot = bench.ask("1", Step::RebootOff(Duration::from_secs(3600)));
    bench.plays("1", OFF, Ok(None));
    let waiting = bench.ask("2", Step::RebootOff(PAUSE));
    bench.plan.stop(Stop::Soon, bench.now);
    assert_eq!(
        waiting
            .try_recv()
            .expect("answered")
            .expect_err("refused")
            .kind,
        FailureKind::Stopping
    );
    let late = bench.ask("3", Step::Switch(Switch::On));
    assert_eq!(
        late.try_recv()
            .expect("answered")
            .expect_err("refused")
            .kind,
        FailureKind::Stopping
    );
    bench.waits(STOP_PAUSE);
    bench.plan.stop(Stop::Now, bench.now);
    bench.plays("1", ON, Ok(None));
    assert!(reboot.try_recv().expect("answered").is_ok());
    assert_eq!(bench.plan.next(bench.now, 1), Next::Finished);
}

#[test]
fn a_stop_sends_the_on_of_an_off_that_is_in_doubt() {
    let mut bench = Bench::new(5);
    let reboot = bench.ask("1", Step::RebootOff(PAUSE));
    bench.plays("1", OFF, Err(timeout()));
    bench.plan.stop(Stop::Soon, bench.now);
    bench.plays("1", ON, Err(timeout()));
    bench.waits(STOP_RETRY_DELAY);
    bench.plays("1", ON, Ok(None));
    assert!(reboot.try_recv().expect("answered").is_err());
    assert_eq!(bench.plan.next(bench.now, 1), Next::Finished);
}

fn group_of_two(bench: &mut Bench) -> Receiver<Outcome> {
    let (ticket, receiver) = asked();
    let group = Group::new(2, PAUSE);
    for job in ["1", "2"].map(|id| member(id, &ticket, &group)) {
        bench.plan.accept(job, bench.now, bench.now);
    }
    receiver
}

#[test]
fn a_group_goes_all_off_pause_all_on() {
    let mut bench = Bench::new(1);
    let answer = group_of_two(&mut bench);
    bench.plays("1", OFF, Ok(None));
    bench.plays("2", OFF, Ok(None));
    bench.waits(PAUSE);
    bench.plays("1", ON, Ok(None));
    bench.plays("2", ON, Ok(None));
    assert_eq!(
        answer.try_recv().expect("answered").expect("done").attempts,
        4
    );
}

#[test]
fn a_group_waits_lit_until_every_member_has_come_to_its_turn() {
    let mut bench = Bench::new(1);
    let before = bench.ask("2", Step::RebootOff(PAUSE));
    let answer = group_of_two(&mut bench);
    let behind = bench.ask("1", Step::State);
    bench.plays("2", OFF, Ok(None));
    bench.waits(PAUSE);
    bench.plays("2", ON, Ok(None));
    assert!(before.try_recv().expect("answered").is_ok());
    assert!(answer.try_recv().is_err() && behind.try_recv().is_err());
    bench.plays("1", OFF, Ok(None));
    bench.plays("2", OFF, Ok(None));
}

#[test]
fn a_group_that_is_cancelled_while_it_waits_holds_nobody_up() {
    let mut bench = Bench::new(1);
    let (ticket, answer) = asked();
    let job = member("1", &ticket, &Group::new(2, PAUSE));
    bench.plan.accept(job, bench.now, bench.now);
    let behind = bench.ask("1", Step::State);
    assert_eq!(bench.next(), Next::Wait(None));
    assert!(ticket.cancel());
    bench.plan.cancel(ticket.id);
    assert!(answer.try_recv().expect("answered").is_err());
    bench.plays("1", Call::State, Ok(Some(State::On)));
    assert!(behind.try_recv().expect("answered").is_ok());
}

#[test]
fn an_outlet_that_is_owed_its_on_does_not_stay_dark_while_its_group_gathers() {
    let mut bench = Bench::new(1);
    let reboot = bench.ask("1", Step::RebootOff(PAUSE));
    bench.plays("1", OFF, Ok(None));
    let (ticket, _answer) = asked();
    let job = member("1", &ticket, &Group::new(2, PAUSE));
    bench.plan.accept(job, bench.now, bench.now);
    bench.waits(PAUSE);
    bench.plays("1", ON, Err(timeout()));
    assert!(reboot.try_recv().expect("answered").is_err());
    bench.waits(OWED_PAUSE);
    bench.plays("1", ON, Ok(None));
}

#[test]
fn a_group_whose_off_fails_is_switched_on_again() {
    let mut bench = Bench::new(1);
    let answer = group_of_two(&mut bench);
    bench.plays("1", OFF, Ok(None));
    bench.plays("2", OFF, Err(refused()));
    bench.plays("1", ON, Ok(None));
    let failure = answer.try_recv().expect("answered").expect_err("failed");
    assert!(failure.reason.contains("outlet 2"), "{failure}");

    let answer = group_of_two(&mut bench);
    bench.plays("1", OFF, Err(refused()));
    assert_eq!(
        bench.plan.next(bench.now, 1),
        Next::Wait(None),
        "outlet 2 is not switched off any more"
    );
    assert!(answer.try_recv().expect("answered").is_err());
}

#[test]
fn a_group_that_is_stopped_leaves_nothing_off() {
    let mut bench = Bench::new(1);
    let answer = group_of_two(&mut bench);
    bench.plays("1", OFF, Ok(None));
    bench.plan.stop(Stop::Soon, bench.now);
    bench.hear();
    bench.plays("1", ON, Ok(None));
    assert_eq!(
        answer
            .try_recv()
            .expect("answered")
            .expect_err("failed")
            .kind,
        FailureKind::Stopping
    );
    assert_eq!(bench.plan.next(bench.now, 1), Next::Finished);
}

#[test]
fn equal_requests_side_by_side_are_carried_out_once() {
    let mut bench = Bench::new(1);
    let _running = bench.ask("1", Step::Switch(Switch::Off));
    let ons = [
        bench.ask("1", Step::Switch(Switch::On)),
        bench.ask("1", Step::Switch(Switch::On)),
    ];
    let read = bench.ask("1", Step::State);
    let late = bench.ask("1", Step::Switch(Switch::On));
    let reboots = [
        bench.ask("1", Step::RebootOff(Duration::ZERO)),
        bench.ask("1", Step::RebootOff(Duration::ZERO)),
    ];
    bench.plays("1", OFF, Ok(None));
    bench.plays("1", ON, Ok(None));
    for on in ons {
        assert!(on.try_recv().expect("answered").is_ok());
    }
    bench.plays("1", Call::State, Ok(Some(State::On)));
    assert!(read.try_recv().expect("answered").is_ok());
    bench.plays("1", ON, Ok(None));
    assert!(late.try_recv().expect("answered").is_ok());
    for reboot in reboots {
        bench.plays("1", OFF, Ok(None));
        bench.plays("1", ON, Ok(None));
        assert!(reboot.try_recv().expect("answered").is_ok());
    }
}

#[test]
fn what_has_not_begun_can_be_cancelled() {
    let mut bench = Bench::new(1);
    let (begun, first) = bench.ask_with_ticket("1", Step::RebootOff(PAUSE));
    let (waiting, second) = bench.ask_with_ticket("1", Step::RebootOff(PAUSE));
    let (one_of_two, third) = bench.ask_with_ticket("2", Step::Switch(Switch::On));
    let other = bench.ask("2", Step::Switch(Switch::On));
    bench.plays("1", OFF, Ok(None));
    assert!(!begun.cancel(), "its outlet is off");
    assert!(waiting.cancel() && !waiting.cancel() && one_of_two.cancel());
    for cancelled in [second, third] {
        assert_eq!(
            cancelled
                .try_recv()
                .expect("answered")
                .expect_err("cancelled")
                .kind,
            FailureKind::Cancelled
        );
    }
    bench.plays("2", ON, Ok(None));
    assert!(other.try_recv().expect("answered").is_ok());
    bench.waits(PAUSE);
    bench.plays("1", ON, Ok(None));
    assert!(first.try_recv().expect("answered").is_ok());
    assert_eq!(bench.plan.next(bench.now, 1), Next::Wait(None));
}

#[test]
fn a_delayed_request_does_not_hold_up_an_owed_on() {
    let mut bench = Bench::new(1);
    let _reboot = bench.ask("1", Step::RebootOff(PAUSE));
    bench.plays("1", OFF, Ok(None));
    bench.waits(PAUSE);
    let (ticket, _later) = asked();
    let job = job("1", Step::Switch(Switch::On), &ticket, Place::uncounted());
    let hour = Duration::from_secs(3600);
    bench.plan.accept(job, bench.now + hour, bench.now);
    bench.plays("1", ON, Err(timeout()));
    bench.waits(OWED_PAUSE);
    bench.plays("1", ON, Ok(None));
    bench.waits(hour - OWED_PAUSE);
    bench.plays("1", ON, Ok(None));
}

#[test]
fn a_member_in_doubt_is_switched_on_at_once_when_its_group_fails() {
    let mut bench = Bench::new(2);
    let answer = group_of_two(&mut bench);
    bench.plays("1", OFF, Err(garbled()));
    bench.plays("2", OFF, Err(refused()));
    bench.waits(Duration::from_secs(1));
    // It goes dark, and the group says at once that it goes on.
    assert_eq!(bench.plan.next(bench.now, 1), Next::Wait(None));
    assert!(bench.hear(), "not resumed");
    assert!(answer.try_recv().is_err(), "not before it is on");
    bench.plays("1", ON, Ok(None));
    assert!(answer.try_recv().expect("answered").is_err());
    assert_eq!(bench.plan.next(bench.now, 1), Next::Wait(None));
}

#[test]
fn a_member_that_was_not_reached_is_left_alone_when_its_group_fails() {
    let (mut one, mut two) = (Bench::new(2), Bench::new(2));
    two.now = one.now;
    let (ticket, answer) = asked();
    let group = Group::new(2, PAUSE);
    let jobs = [(); 2].map(|()| member("1", &ticket, &group));
    for (bench, job) in [&mut one, &mut two].into_iter().zip(jobs) {
        bench.plan.accept(job, bench.now, bench.now);
    }
    assert_eq!(one.next(), Next::Wait(None), "not before the other's turn");
    assert_eq!(two.plan.next(two.now, 1), Next::Wait(None));
    one.plays("1", OFF, Err(no_connection()));
    two.plays("1", OFF, Err(refused()));
    one.waits(Duration::from_secs(1));
    assert_eq!(
        one.plan.next(one.now, 1),
        Next::Wait(None),
        "it was not touched: nothing is owed"
    );
    assert!(answer.try_recv().expect("answered").is_err());
}

#[test]
fn ons_that_are_owed_and_fail_slowly_keep_nobody_waiting() {
    let mut bench = Bench::new(1);
    let slow = |bench: &mut Bench, id: &str| {
        assert_eq!(bench.next(), Next::Call(vec![outlet(id)], ON));
        bench.now += Duration::from_secs(300);
        bench.plan.results(vec![Err(timeout())], bench.now);
    };
    for id in ["1", "2"] {
        bench.ask(id, Step::RebootOff(Duration::ZERO));
        bench.plays(id, OFF, Ok(None));
        slow(&mut bench, id);
    }
    // Both are owed their on by now, and due at any time.
    let healthy = bench.ask("3", Step::RebootOff(PAUSE));
    slow(&mut bench, "1");
    bench.plays("3", OFF, Ok(None));
    slow(&mut bench, "2");
    bench.plays("3", ON, Ok(None));
    assert!(healthy.recv().expect("an answer").is_ok());
    // One that succeeds gives way to the next one that is owed.
    let read = bench.ask("3", Step::State);
    bench.now += Duration::from_secs(60);
    bench.plays("1", ON, Ok(None));
    bench.plays("2", ON, Ok(None));
    bench.plays("3", Call::State, Ok(Some(State::On)));
    assert!(read.recv().expect("an answer").is_ok());
}

#[test]
fn a_delayed_request_is_in_nobodys_way_and_enters_its_lane_when_its_delay_is_over() {
    let mut bench = Bench::new(1);
    let hour = Duration::from_secs(3600);
    let (ticket, cancelled) = asked();
    let (second, kept) = asked();
    for (id, ticket) in [("1", &ticket), ("2", &second)] {
        let job = job(id, Step::Switch(Switch::Off), ticket, Place::uncounted());
        bench.plan.accept(job, bench.now + hour, bench.now);
    }
    let behind = bench.ask("1", Step::Switch(Switch::On));
    bench.plays("1", ON, Ok(None));
    assert!(behind.recv().expect("an answer").is_ok());
    let reboot = bench.ask("2", Step::RebootOff(2 * hour));
    bench.plays("2", OFF, Ok(None));
    assert!(ticket.cancel());
    bench.plan.cancel(ticket.id);
    assert!(cancelled.recv().expect("an answer").is_err());
    bench.waits(hour);
    // Its delay is over in the middle of a reboot: it stands behind that, and before what comes now.
    let last = bench.ask("2", Step::Switch(Switch::On));
    bench.waits(hour);
    bench.plays("2", ON, Ok(None));
    assert!(reboot.recv().expect("an answer").is_ok());
    bench.plays("2", OFF, Ok(None));
    assert!(kept.recv().expect("an answer").is_ok());
    bench.plays("2", ON, Ok(None));
    assert!(last.recv().expect("an answer").is_ok());
}

#[test]
fn of_several_who_share_a_job_each_gives_its_own_place_back() {
    let mut bench = Bench::new(1);
    let (places, hour) = (Arc::<Mutex<Places>>::default(), Duration::from_secs(3600));
    let mut ask = |step, wait| {
        let (ticket, answered) = asked();
        let place = Place::beyond_limits(&places, &"test".into(), false);
        let job = job("1", step, &ticket, place);
        bench.plan.accept(job, bench.now + wait, bench.now);
        (ticket, answered)
    };
    let (off, _off) = ask(Step::Switch(Switch::Off), hour);
    let readers = [(); 3].map(|()| ask(Step::State, Duration::ZERO));
    let taken = || held(&places).taken;
    assert_eq!(taken(), 4);
    for reader in [&readers[0].0, &readers[2].0] {
        assert!(reader.cancel());
        bench.plan.cancel(reader.id);
    }
    assert_eq!(taken(), 2);
    assert!(off.cancel());
    bench.plan.cancel(off.id);
    assert_eq!(taken(), 1);
    bench.plays("1", Call::State, Ok(Some(State::On)));
    assert!(readers[1].1.recv().expect("an answer").is_ok());
    assert_eq!(taken(), 0);
}

#[test]
fn jobs_whose_outlet_only_the_pdu_knows_wait_for_it_in_order_and_share_its_lane() {
    let mut bench = Bench::new(2);
    let mut ask = |id: &str, step| {
        let (ticket, answered) = asked();
        let mut job = job(id, step, &ticket, Place::uncounted());
        job.enter_lobby();
        bench.plan.accept(job, bench.now, bench.now);
        (ticket, answered)
    };
    let (_, reboot) = ask("lamp", Step::RebootOff(PAUSE));
    let (cancelled, _) = ask("1", Step::State);
    let (_, off) = ask("1", Step::Switch(Switch::Off));
    let (_, nothing) = ask("kettle", Step::RebootOff(PAUSE));
    let asks = |bench: &mut Bench, id: &str, answer: Result<Gained, Trouble>| {
        let Next::Call(outlet, Call::Find) = bench.next() else {
            panic!("nothing is asked")
        };
        assert_eq!(outlet[0].as_str(), id);
        bench.plan.results(vec![answer], bench.now);
    };
    let first = |id: &str| Ok(Gained::Found(outlet(id).known_as("1")));
    asks(&mut bench, "lamp", Err(garbled()));
    bench.waits(Duration::from_secs(1));
    asks(&mut bench, "lamp", first("lamp"));
    assert!(cancelled.cancel());
    bench.plan.cancel(cancelled.id);
    asks(&mut bench, "1", first("1"));
    asks(&mut bench, "kettle", Err(refused()));
    assert!(nothing.try_recv().expect("answered").is_err());
    assert!(!bench.plan.has_lobby());
    for (id, call, wait) in [
        ("lamp", OFF, Duration::ZERO),
        ("lamp", ON, PAUSE),
        ("1", OFF, Duration::ZERO),
    ] {
        if !wait.is_zero() {
            bench.waits(wait);
        }
        let Next::Call(outlet, called) = bench.next() else {
            panic!("nothing to do")
        };
        assert_eq!((outlet[0].as_str(), called), (id, call));
        bench.plan.results(vec![given(call, Ok(None))], bench.now);
    }
    for answered in [reboot, off] {
        assert_eq!(
            answered.try_recv().expect("answered").expect("done").proof,
            Proof::State
        );
    }
}

/// Jobs of one request on this errand; gives where each is answered.
fn ask_together(
    bench: &mut Bench,
    ids: &[&str],
    step: Step,
    errand: u64,
) -> Vec<Receiver<Outcome>> {
    let ask = |id: &&str| {
        let (ticket, receiver) = asked();
        let mut job = job(id, step, &ticket, Place::uncounted());
        job.errand = errand;
        bench.plan.accept(job, bench.now, bench.now);
        receiver
    };
    ids.iter().map(ask).collect()
}

fn call(ids: &[&str], call: Call) -> Next {
    Next::Call(ids.iter().map(|id| outlet(id)).collect(), call)
}

#[test]
fn one_command_does_what_one_request_asks_for_and_no_more() {
    let mut bench = Bench::new(3);
    let (on, off) = (Step::Switch(Switch::On), Step::Switch(Switch::Off));
    ask_together(&mut bench, &["3", "1", "2"], on, 1);
    ask_together(&mut bench, &["4"], on, 2);
    ask_together(&mut bench, &["5", "6", "7"], off, 3);
    ask_together(&mut bench, &["8"], Step::RebootOff(PAUSE), 4);
    ask_together(&mut bench, &["9"], off, 4);
    let done = |count: usize, to| vec![Ok(Gained::Switched(to, Proof::State)); count];
    let mut next = |ids: &[&str], to: Switch| {
        let expected = call(ids, Call::Switch(to));
        assert_eq!(bench.plan.next(bench.now, 2), expected);
        bench.plan.results(done(ids.len(), to), bench.now);
    };
    next(&["3", "1"], Switch::On);
    next(&["2"], Switch::On);
    next(&["4"], Switch::On);
    next(&["5", "6"], Switch::Off);
    next(&["7"], Switch::Off);
    next(&["8"], Switch::Off);
    next(&["9"], Switch::Off);
}

#[test]
fn what_a_command_for_many_has_certainly_not_done_is_done_one_by_one_at_once() {
    let mut bench = Bench::new(2);
    let answers = ask_together(&mut bench, &["1", "2"], Step::Switch(Switch::Off), 1);
    assert_eq!(bench.plan.next(bench.now, 8), call(&["1", "2"], OFF));
    bench
        .plan
        .results(vec![Err(refused()), Err(refused())], bench.now);
    assert!(answers.iter().all(Receiver::is_empty));
    assert_eq!(bench.plan.next(bench.now, 8), call(&["1"], OFF));
    bench.plan.results(vec![Err(refused())], bench.now);
    assert_eq!(bench.plan.next(bench.now, 8), call(&["2"], OFF));
    let done = Ok(Gained::Switched(Switch::Off, Proof::State));
    bench.plan.results(vec![done], bench.now);
    let outcomes = answers
        .iter()
        .map(|answer| answer.try_recv().expect("over"));
    let is_ok: Vec<bool> = outcomes.map(|outcome| outcome.is_ok()).collect();
    assert_eq!(is_ok, [false, true]);
}

#[test]
fn each_outlet_of_a_command_has_its_own_result_and_its_own_doubt() {
    let mut bench = Bench::new(2);
    let answers = ask_together(&mut bench, &["1", "2", "3"], Step::Switch(Switch::On), 1);
    assert_eq!(bench.plan.next(bench.now, 8), call(&["1", "2", "3"], ON));
    let done = || Ok(Gained::Switched(Switch::On, Proof::State));
    bench
        .plan
        .results(vec![done(), Err(garbled()), done()], bench.now);
    assert!(answers[0].try_recv().expect("over").is_ok());
    assert!(answers[2].try_recv().expect("over").is_ok());
    assert!(answers[1].is_empty());
    bench.waits(Duration::from_secs(1));
    assert_eq!(bench.plan.next(bench.now, 8), call(&["2"], ON));
    bench.plan.results(vec![done()], bench.now);
    let outcome = answers[1].try_recv().expect("over").expect("done");
    assert_eq!(outcome.attempts, 2);
}
