//! A session that is kept between two calls: an open connection, a login, a serial line.
//!
//! The rules for it stand here, once. A call works in the kept session, or in a new one. A kept
//! session that turns out to be lost is replaced once, and the work is done again. A session is kept
//! after success, and left after a failure or when there is nothing to do.

use super::{Deadline, Timed, Verdict};
use std::fmt;
use std::time::{Duration, Instant};

/// Opens sessions with one peer, and leaves them.
pub trait Opener {
    /// An open session.
    type Session;

    /// Why one cannot be opened, or work in it failed.
    type Error: Verdict + fmt::Display;

    /// A session that was not used for longer is not trusted any more.
    const IDLE: Duration = Duration::MAX;

    /// Opens a session, with the login if there is one.
    fn open(&mut self, deadline: Deadline) -> Result<Self::Session, Self::Error>;

    /// Looks whether a session that was idle is still there.
    fn is_alive(&self, session: &mut Self::Session, deadline: Deadline) -> bool {
        let _ = (session, deadline);
        true
    }

    /// Leaves a session as the peer wants it left, with the logout if there is one.
    fn leave(&self, session: Self::Session, deadline: Deadline) {
        let _ = (session, deadline);
    }
}

/// An opener with the session that it keeps.
pub struct Kept<O: Opener> {
    /// Opens the sessions.
    pub opener: O,
    session: Option<(O::Session, Instant)>,
}

impl<O: Opener> Kept<O> {
    /// Nothing is opened yet.
    pub fn new(opener: O) -> Self {
        Self {
            opener,
            session: None,
        }
    }

    /// Does `work` in a session, and once more in a new one if the kept one is lost: so `work` must
    /// be fit to be done twice.
    pub fn call<T>(
        &mut self,
        timed: impl Timed,
        mut work: impl FnMut(&O, &mut O::Session) -> Result<T, O::Error>,
    ) -> Result<T, O::Error> {
        let kept = self.trusted(timed.deadline());
        let was_kept = kept.is_some();
        let mut session = match kept {
            Some(session) => session,
            None => self.opener.open(timed.deadline())?,
        };
        let mut result = timed.judge(|| work(&self.opener, &mut session));
        if let Err(lost) = &result
            && was_kept
            && lost.is_lost()
        {
            log::debug!("the session was lost, once more in a new one: {lost}");
            if lost.may_stand() {
                self.opener.leave(session, timed.deadline());
            }
            session = self.opener.open(timed.deadline())?;
            result = timed.judge(|| work(&self.opener, &mut session));
        }
        match &result {
            Ok(_) => self.session = Some((session, Instant::now())),
            Err(error) if error.may_stand() => self.opener.leave(session, timed.deadline()),
            Err(_) => {}
        }
        result
    }

    /// Leaves the kept session, so that others can have one.
    pub fn rest(&mut self, deadline: Deadline) {
        if let Some(session) = self.trusted(deadline) {
            self.opener.leave(session, deadline);
        }
    }

    /// The kept session, taken out, if it can be worked in.
    fn trusted(&mut self, deadline: Deadline) -> Option<O::Session> {
        let (mut session, used) = self.session.take()?;
        let is_fresh = used.elapsed() < O::IDLE;
        (is_fresh && self.opener.is_alive(&mut session, deadline)).then_some(session)
    }
}

impl<O: Opener> fmt::Debug for Kept<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("open", &self.session.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Attempt, TransportError, TransportErrorKind};

    /// Opens as often as it is told.
    struct Door(Vec<Result<(), TransportError>>);

    impl Opener for Door {
        type Session = ();
        type Error = TransportError;

        fn open(&mut self, _: Deadline) -> Result<(), TransportError> {
            self.0.remove(0)
        }
    }

    fn error(kind: TransportErrorKind) -> TransportError {
        TransportError::new(kind, "test")
    }

    fn attempt() -> Attempt {
        Attempt::new(Deadline::after(Duration::from_secs(60)))
    }

    #[test]
    fn a_lost_session_is_opened_again_once_and_an_error_drops_it() {
        let mut kept = Kept::new(Door(vec![Ok(()); 6]));
        let mut call = |mut outcomes: Vec<Result<(), TransportError>>| {
            let result = kept.call(&attempt(), |_, ()| outcomes.remove(0));
            (result, 6 - kept.opener.0.len())
        };
        let closed = || Err(error(TransportErrorKind::Closed));
        assert_eq!(call(vec![Ok(())]), (Ok(()), 1));
        assert_eq!(call(vec![closed(), Ok(())]), (Ok(()), 2));
        assert_eq!(call(vec![closed(), closed()]), (closed(), 3));
        assert_eq!(call(vec![closed()]), (closed(), 4));
        assert_eq!(call(vec![Ok(())]), (Ok(()), 5));
        let timeout = || Err(error(TransportErrorKind::Timeout));
        assert_eq!(call(vec![timeout()]), (timeout(), 5));
        assert_eq!(call(vec![Ok(())]), (Ok(()), 6));
    }

    #[test]
    fn a_copy_lost_with_its_session_stays_in_doubt_whatever_comes_of_the_next() {
        let busy = || Err(error(TransportErrorKind::Busy));
        for opened in [Ok(()), busy()] {
            let mut kept = Kept::new(Door(vec![Ok(()), opened]));
            kept.call(&attempt(), |_, ()| Ok(())).expect("works");
            let (attempt, mut answers) = (attempt(), vec![error(TransportErrorKind::Closed)]);
            let told = kept.call(&attempt, |_, ()| {
                (&attempt).sent();
                Err::<(), _>(answers.pop().unwrap_or(error(TransportErrorKind::Busy)))
            });
            assert_eq!(told, busy());
            assert!(attempt.may_have_acted());
        }
    }
}
