//! A session that is kept between two calls: an open connection, a login, a serial handle.

use super::{TransportError, TransportErrorKind};
use std::fmt;
use std::time::{Duration, Instant};

/// Errors that can tell that the other end is gone.
pub trait Lost: Sized {
    /// Did the connection or device end, as it may have done while it was idle?
    fn is_lost(&self) -> bool;

    /// Could the PDU have acted?
    fn may_have_acted(&self) -> bool;

    /// The same loss, with the reason why another try over a new session failed.
    fn and_again(self, again: &Self) -> Self;
}

impl Lost for TransportError {
    fn is_lost(&self) -> bool {
        self.kind == TransportErrorKind::Closed
    }

    fn may_have_acted(&self) -> bool {
        Self::may_have_acted(self)
    }

    fn and_again(self, again: &Self) -> Self {
        self.tried_again(again)
    }
}

/// What comes of another try after the first one was `lost`, with its session or in a redirect. The
/// second may say that nothing can have been carried out (nobody there, login refused); the first
/// may have been carried out all the same, and that is what whoever asked must know.
pub fn tried_again<T, E: Lost>(lost: E, second: Result<T, E>) -> Result<T, E> {
    second.map_err(|again| {
        if again.may_have_acted() {
            again
        } else {
            lost.and_again(&again)
        }
    })
}

/// A place for one session.
pub struct Kept<S> {
    session: Option<(S, Instant)>,
    idle: Duration,
}

impl<S> Kept<S> {
    /// An empty place. A session that was not used for longer than `idle` is not trusted any more.
    pub const fn new(idle: Duration) -> Self {
        Self {
            session: None,
            idle,
        }
    }

    /// Does `work` in the kept session, or in a new one from `open`. A kept session that turns
    /// out to be lost is replaced once, and `work` done again: what is done in it must be fit to
    /// be done twice. After any error the session is dropped, so that the next call starts clean.
    pub fn call<T, E: Lost>(
        &mut self,
        mut open: impl FnMut() -> Result<S, E>,
        mut work: impl FnMut(&mut S) -> Result<T, E>,
    ) -> Result<T, E> {
        let kept = self
            .session
            .take()
            .filter(|(_, used)| used.elapsed() < self.idle);
        let was_kept = kept.is_some();
        let mut session = match kept {
            Some((session, _)) => session,
            None => open()?,
        };
        let result = match work(&mut session) {
            Err(lost) if was_kept && lost.is_lost() => {
                let second = open().and_then(|new| {
                    session = new;
                    work(&mut session)
                });
                tried_again(lost, second)
            }
            result => result,
        };
        if result.is_ok() {
            self.session = Some((session, Instant::now()));
        }
        result
    }

    /// Takes the session out, to leave it.
    pub fn take(&mut self) -> Option<S> {
        self.session.take().map(|(session, _)| session)
    }
}

impl<S> fmt::Debug for Kept<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("open", &self.session.is_some())
            .field("idle", &self.idle)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn error(kind: TransportErrorKind) -> TransportError {
        TransportError::new(kind, "test")
    }

    #[test]
    fn a_lost_session_is_opened_again_once_and_an_error_drops_it() {
        let (mut kept, mut opened) = (Kept::new(LONG), 0);
        let mut call = |outcomes: &mut Vec<Result<(), TransportError>>| {
            let result = kept.call(
                || {
                    opened += 1;
                    Ok(())
                },
                |()| outcomes.remove(0),
            );
            (result, opened)
        };
        let closed = || Err(error(TransportErrorKind::Closed));
        assert_eq!(call(&mut vec![Ok(())]), (Ok(()), 1));
        assert_eq!(call(&mut vec![closed(), Ok(())]), (Ok(()), 2));
        assert_eq!(call(&mut vec![closed(), closed()]), (closed(), 3));
        assert_eq!(call(&mut vec![closed()]), (closed(), 4));
        assert_eq!(call(&mut vec![Ok(())]), (Ok(()), 5));
        let timeout = || Err(error(TransportErrorKind::Timeout));
        assert_eq!(call(&mut vec![timeout()]), (timeout(), 5));
        assert_eq!(call(&mut vec![Ok(())]), (Ok(()), 6));
    }

    #[test]
    fn a_lost_session_that_cannot_be_opened_again_may_have_acted() {
        let mut kept = Kept::new(LONG);
        let mut opens = vec![Ok(()), Err(error(TransportErrorKind::NoConnection))];
        let mut works = vec![Ok(()), Err(error(TransportErrorKind::Closed))];
        let mut call = || kept.call(|| opens.remove(0), |()| works.remove(0));
        assert_eq!(call(), Ok(()));
        let error = call().expect_err("lost");
        assert!(error.may_have_acted());
        assert_eq!(error.detail, "test; then: test");
    }
}
