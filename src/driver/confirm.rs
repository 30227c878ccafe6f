//! When a switch counts as done: the one rule for every driver.
//!
//! A driver sends the command, and says what the PDU's own answer proves. What is missing to the
//! proof that is wanted is read here: at once, and then again with growing pauses, until the state
//! shows or the wait is over. The command is not sent again meanwhile.

use super::{Driver, DriverError, States};
use crate::request::{Outlet, Proof, State, Switch};
use crate::transport::{self, Attempt, Deadline};
use std::time::Duration;

/// The pauses between two readings: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What the success of a switch needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    wanted: Proof,
    /// Nobody has asked for this proof: a PDU that turns out to have nothing to be read is believed.
    is_default: bool,
    wait: Duration,
}

impl Confirm {
    /// The rule for a driver that has these `proofs`, the strongest first: the one that is `asked`
    /// for, or the strongest. A state may take as long as `wait` to show. Fails with a sentence when
    /// the driver does not have what is asked for.
    pub fn new(asked: Option<Proof>, proofs: &[Proof], wait: Duration) -> Result<Self, String> {
        if let Some(asked) = asked
            && asked != Proof::None
            && !proofs.contains(&asked)
        {
            let has: Vec<String> = proofs
                .iter()
                .chain([&Proof::None])
                .map(|proof| format!("\"{proof}\""))
                .collect();
            let why = match asked {
                Proof::State => "this PDU's states cannot be read",
                Proof::Reply | Proof::None => "this PDU does not answer commands",
            };
            return Err(format!(
                "expected {}, got \"{asked}\": {why}",
                has.join(" or ")
            ));
        }
        let strongest = proofs.first().copied().unwrap_or(Proof::None);
        Ok(Self {
            wanted: asked.unwrap_or(strongest),
            is_default: asked.is_none(),
            wait,
        })
    }

    /// Switches, and returns the proof once there is enough of it.
    pub fn switch(
        &self,
        driver: &mut dyn Driver,
        outlet: &Outlet,
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Proof, DriverError> {
        let mut proofs = self.switch_all(driver, std::slice::from_ref(outlet), to, attempt)?;
        proofs.pop().unwrap_or(Ok(Proof::None))
    }

    /// Switches outlets by one command, and returns the proof of each once there is enough of it.
    /// Fails as a whole when the command does.
    pub fn switch_all(
        &self,
        driver: &mut dyn Driver,
        outlets: &[Outlet],
        to: Switch,
        attempt: &Attempt,
    ) -> Result<Vec<Result<Proof, DriverError>>, DriverError> {
        let replied = match outlets {
            [outlet] => driver.switch(outlet, to, attempt)?,
            many => driver.switch_all(many, to, attempt)?,
        };
        if replied >= self.wanted {
            return Ok(vec![Ok(replied); outlets.len()]);
        }
        if self.wanted == Proof::Reply {
            return Err(DriverError::Unexpected {
                expected: "an answer to the command".into(),
                got: "none".into(),
            });
        }
        let shown = self.wait_for(driver, outlets, to, attempt.deadline());
        let proved = |(outlet, shown): (&Outlet, Result<(), DriverError>)| match shown {
            Ok(()) => Ok(Proof::State),
            Err(DriverError::CannotRead(why)) if self.is_default => {
                log::debug!("outlet {outlet}: {to} is not confirmed by a state: {why}");
                Ok(replied)
            }
            Err(error) if error.is_transient() => Err(error),
            // What cannot be read has been switched all the same.
            Err(error) => Err(DriverError::Unexpected {
                expected: "the outlet's state after switching".into(),
                got: error.to_string(),
            }),
        };
        Ok(outlets.iter().zip(shown).map(proved).collect())
    }

    /// Reads until the PDU shows the state that was asked for, of each outlet.
    fn wait_for(
        &self,
        driver: &mut dyn Driver,
        outlets: &[Outlet],
        to: Switch,
        deadline: Deadline,
    ) -> Vec<Result<(), DriverError>> {
        let over = deadline.within(self.wait);
        let mut pause = FIRST_PAUSE;
        let mut awaited: Vec<Awaited<'_>> = outlets.iter().map(Awaited::new).collect();
        loop {
            read_all(driver, &mut awaited, to, deadline);
            if awaited.iter().all(|one| one.end.is_some()) {
                break;
            }
            let Ok(left) = over.left("the state to show") else {
                break;
            };
            transport::pause(pause.min(left));
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
        awaited.into_iter().map(|one| one.ended(to)).collect()
    }
}

/// An outlet whose new state is awaited.
struct Awaited<'o> {
    outlet: &'o Outlet,
    /// What it has shown last.
    shows: Option<State>,
    /// It shows the new state, or cannot be read.
    end: Option<Result<(), DriverError>>,
}

impl<'o> Awaited<'o> {
    fn new(outlet: &'o Outlet) -> Self {
        Self {
            outlet,
            shows: None,
            end: None,
        }
    }

    fn read(&mut self, read: Result<State, DriverError>, to: Switch, deadline: Deadline) {
        match read {
            Ok(state) if state == State::from(to) => self.end = Some(Ok(())),
            Ok(state) => self.shows = Some(state),
            // The attempt's time has ended in the middle of a question.
            Err(_) if self.shows.is_some() && deadline.left("reading the state").is_err() => {}
            Err(error) => self.end = Some(Err(error)),
        }
    }

    fn ended(self, to: Switch) -> Result<(), DriverError> {
        let shows = self
            .shows
            .unwrap_or_else(|| State::Unknown("nothing".into()));
        self.end
            .unwrap_or(Err(DriverError::StillShows { to, shows }))
    }
}

/// Reads once what is still awaited, many outlets at once where the PDU tells many.
fn read_all(driver: &mut dyn Driver, awaited: &mut [Awaited<'_>], to: Switch, deadline: Deadline) {
    let left = awaited.iter_mut().filter(|one| one.end.is_none());
    let mut left: Vec<&mut Awaited<'_>> = left.collect();
    while let Some(one) = left.pop() {
        let others: Vec<Outlet> = left.iter().map(|other| other.outlet.clone()).collect();
        let states = match others.as_slice() {
            [] => driver.state(one.outlet, deadline).map(States::only),
            others => driver.states(one.outlet, others, deadline),
        };
        let told = match states {
            Ok(States { own, others, .. }) => {
                one.read(Ok(own), to, deadline);
                others
            }
            Err(error) => {
                // The others of a PDU that is away would fail as well.
                if error.is_pdu_away() {
                    left.drain(..)
                        .for_each(|other| other.read(Err(error.clone()), to, deadline));
                }
                one.read(Err(error), to, deadline);
                continue;
            }
        };
        for (outlet, state) in told {
            if let Some(at) = left.iter().position(|other| *other.outlet == outlet) {
                left.swap_remove(at).read(Ok(state), to, deadline);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Timed, TransportError, TransportErrorKind};
    use std::collections::VecDeque;

    /// Answers as it is told, and counts.
    struct Scripted {
        reply: Result<Proof, DriverError>,
        states: VecDeque<Result<State, DriverError>>,
        commands: u32,
        reads: u32,
    }

    impl Scripted {
        fn new(
            reply: Result<Proof, DriverError>,
            states: impl IntoIterator<Item = Result<State, DriverError>>,
        ) -> Self {
            Self {
                reply,
                states: states.into_iter().collect(),
                commands: 0,
                reads: 0,
            }
        }
    }

    impl Driver for Scripted {
        fn switch(
            &mut self,
            _: &Outlet,
            _: Switch,
            attempt: &Attempt,
        ) -> Result<Proof, DriverError> {
            self.commands += 1;
            attempt.judge(|| {
                attempt.sent();
                self.reply.clone()
            })
        }

        fn state(&mut self, _: &Outlet, _: Deadline) -> Result<State, DriverError> {
            self.reads += 1;
            // The last one stays.
            match self.states.len() {
                1 => self.states[0].clone(),
                _ => self.states.pop_front().expect("a state"),
            }
        }
    }

    const ALL: &[Proof] = &[Proof::State, Proof::Reply];

    /// An off, and whether it may have been carried out.
    fn off(
        driver: &mut Scripted,
        asked: Option<Proof>,
        wait: Duration,
    ) -> (Result<Proof, DriverError>, bool) {
        let confirm = Confirm::new(asked, ALL, wait).expect("a rule");
        let attempt = Attempt::new(Deadline::after(Duration::from_secs(30)));
        let told = confirm.switch(driver, &Outlet::new("1"), Switch::Off, &attempt);
        (told, attempt.may_have_acted())
    }

    fn timeout() -> DriverError {
        TransportError::new(TransportErrorKind::Timeout, "no answer").into()
    }

    #[test]
    fn a_driver_is_asked_for_what_it_has_and_no_more() {
        let wanted = |asked, proofs| {
            Confirm::new(asked, proofs, Duration::ZERO).map(|confirm| confirm.wanted)
        };
        assert_eq!(wanted(None, ALL), Ok(Proof::State));
        assert_eq!(wanted(None, &[Proof::Reply]), Ok(Proof::Reply));
        assert_eq!(wanted(None, &[]), Ok(Proof::None));
        assert_eq!(wanted(Some(Proof::Reply), ALL), Ok(Proof::Reply));
        assert_eq!(wanted(Some(Proof::None), &[Proof::State]), Ok(Proof::None));
        assert_eq!(
            wanted(Some(Proof::State), &[Proof::Reply]),
            Err(
                "expected \"reply\" or \"none\", got \"state\": this PDU's states cannot be read"
                    .into()
            )
        );
        assert_eq!(
            wanted(Some(Proof::Reply), &[Proof::State]),
            Err(
                "expected \"state\" or \"none\", got \"reply\": this PDU does not answer commands"
                    .into()
            )
        );
    }

    #[test]
    fn a_state_that_shows_late_is_waited_for_and_the_command_sent_once() {
        let pending = State::Unknown("pending off".into());
        let states = [Ok(State::On), Ok(pending), Ok(State::On), Ok(State::Off)];
        let mut driver = Scripted::new(Ok(Proof::Reply), states);
        let wait = Duration::from_secs(10);
        assert_eq!(off(&mut driver, None, wait), (Ok(Proof::State), true));
        assert_eq!((driver.commands, driver.reads), (1, 4));
    }

    #[test]
    fn a_state_that_does_not_show_is_told_once_the_wait_is_over() {
        let mut driver = Scripted::new(Ok(Proof::Reply), [Ok(State::On)]);
        let (told, may_have_acted) = off(&mut driver, None, Duration::from_millis(120));
        let error = told.expect_err("not shown");
        assert_eq!(error.to_string(), "asked for off, still shows on");
        assert!(may_have_acted && error.is_transient());
        assert!(driver.commands == 1 && driver.reads >= 2);
    }

    #[test]
    fn nothing_is_read_where_the_proof_is_there_or_not_wanted() {
        for (replied, asked) in [
            (Proof::State, None),
            (Proof::Reply, Some(Proof::Reply)),
            (Proof::None, Some(Proof::None)),
            (Proof::State, Some(Proof::None)),
        ] {
            let mut driver = Scripted::new(Ok(replied), [Ok(State::On)]);
            let (proof, _) = off(&mut driver, asked, Duration::ZERO);
            assert_eq!((proof, driver.reads), (Ok(replied), 0));
        }
        let mut silent = Scripted::new(Ok(Proof::None), [Ok(State::Off)]);
        let (told, may_have_acted) = off(&mut silent, Some(Proof::Reply), Duration::ZERO);
        assert!(told.is_err() && may_have_acted);
    }

    #[test]
    fn a_reading_that_fails_leaves_the_command_in_doubt() {
        for error in [
            timeout(),
            DriverError::Refused("no".into()),
            DriverError::LoginRefused("who?".into()),
            TransportError::new(TransportErrorKind::NoConnection, "refused").into(),
        ] {
            let mut driver = Scripted::new(Ok(Proof::Reply), [Ok(State::On), Err(error)]);
            let (told, may_have_acted) = off(&mut driver, None, Duration::from_secs(5));
            let error = told.expect_err("failed");
            assert!(may_have_acted && error.is_transient(), "{error:?}");
        }
        // Before it, what the driver says holds.
        let refused = Err(DriverError::Refused("locked".into()));
        let mut driver = Scripted::new(refused, [Ok(State::On)]);
        let (told, may_have_acted) = off(&mut driver, None, Duration::ZERO);
        assert!(told.is_err() && !may_have_acted && driver.reads == 0);
    }

    #[test]
    fn a_pdu_with_nothing_to_read_is_believed_unless_its_state_was_asked_for() {
        let unreadable = || Err(DriverError::CannotRead("there is no such object".into()));
        let mut driver = Scripted::new(Ok(Proof::Reply), [unreadable()]);
        let (told, _) = off(&mut driver, None, Duration::ZERO);
        assert_eq!(told, Ok(Proof::Reply));
        let (told, may_have_acted) = off(&mut driver, Some(Proof::State), Duration::ZERO);
        let error = told.expect_err("unreadable");
        assert!(may_have_acted && error.to_string().contains("no such object"));
    }

    /// Tells two outlets at once, and one of them late.
    struct Pairs {
        /// What each reading tells.
        told: VecDeque<Vec<(&'static str, State)>>,
        reads: u32,
    }

    impl Driver for Pairs {
        fn switch(&mut self, _: &Outlet, _: Switch, _: &Attempt) -> Result<Proof, DriverError> {
            Ok(Proof::Reply)
        }

        fn state(&mut self, outlet: &Outlet, deadline: Deadline) -> Result<State, DriverError> {
            self.states(outlet, &[], deadline).map(|states| states.own)
        }

        fn states(
            &mut self,
            outlet: &Outlet,
            _: &[Outlet],
            _: Deadline,
        ) -> Result<States, DriverError> {
            self.reads += 1;
            let told = self.told.pop_front().expect("a reading");
            let told = told.into_iter().map(|(id, state)| (Outlet::new(id), state));
            States::among(outlet, told).ok_or_else(|| DriverError::Refused("no".into()))
        }
    }

    #[test]
    fn many_outlets_are_read_together_until_each_shows_its_state() {
        let (on, off) = (State::On, State::Off);
        let told = [
            // The last is read first, and tells another.
            vec![("3", off.clone()), ("1", on.clone())],
            vec![("2", on.clone())],
            vec![("2", off.clone()), ("1", on.clone())],
            vec![("1", off)],
        ];
        let mut driver = Pairs {
            told: told.into(),
            reads: 0,
        };
        let confirm = Confirm::new(None, ALL, Duration::from_secs(10)).expect("a rule");
        let attempt = Attempt::new(Deadline::after(Duration::from_secs(30)));
        let outlets = ["1", "2", "3"].map(Outlet::new);
        let proofs = confirm.switch_all(&mut driver, &outlets, Switch::Off, &attempt);
        assert_eq!(proofs, Ok(vec![Ok(Proof::State); 3]));
        assert_eq!(driver.reads, 4);
    }

    #[test]
    fn an_attempt_that_ends_while_reading_tells_what_was_seen() {
        let mut driver = Scripted::new(Ok(Proof::Reply), [Ok(State::On), Err(timeout())]);
        let confirm = Confirm::new(None, ALL, Duration::from_secs(10)).expect("a rule");
        let deadline = Deadline::after(Duration::from_millis(20));
        let told = confirm.switch(
            &mut driver,
            &Outlet::new("1"),
            Switch::Off,
            &Attempt::new(deadline),
        );
        let shows = State::On;
        let to = Switch::Off;
        assert_eq!(told, Err(DriverError::StillShows { to, shows }));
    }
}
