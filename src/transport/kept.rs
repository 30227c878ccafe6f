//! A session that is kept between two calls: an open connection, a login, a serial handle.

use super::{TransportError, TransportErrorKind};
use std::fmt;
use std::time::{Duration, Instant};

/// Errors that can tell that the other end is gone.
pub trait Lost {
    /// Did the connection or device end, as it may have done while it was idle?
    fn is_lost(&self) -> bool;
}

impl Lost for TransportError {
    fn is_lost(&self) -> bool {
        self.kind == TransportErrorKind::Closed
    }
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
        let mut result = work(&mut session);
        if let Err(error) = &result
            && was_kept
            && error.is_lost()
        {
            drop(session);
            match open() {
                Ok(new) => session = new,
                // Not the new error: it would say that nothing can have been carried out.
                Err(_) => return result,
            }
            result = work(&mut session);
        }
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
        assert!(call().is_err_and(|error| error.may_have_acted()));
    }
}
