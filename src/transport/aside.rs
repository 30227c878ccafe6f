//! Calls to the system that cannot be given a deadline.

use super::{Deadline, TransportError, TransportErrorKind};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use std::io;

/// Does `work` on a thread of its own, so that it costs its caller the deadline and no more. Where
/// it is late, its thread ends when the system lets it go, and its result is lost.
///
/// # Errors
///
/// An error of the kind `late`, naming `doing`, when `work` has not ended by then; a device that is
/// busy when it was not begun for want of a thread.
pub fn aside<T: Send + 'static>(
    doing: &str,
    late: TransportErrorKind,
    deadline: Deadline,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TransportError> {
    let wait = deadline.left(doing)?;
    let ended = start(work).map_err(|(error, _)| {
        let why = format!("{doing} was not begun: there is no thread to be had ({error})");
        TransportError::new(TransportErrorKind::Busy, why)
    })?;
    ended.recv_timeout(wait).map_err(|error| match error {
        RecvTimeoutError::Timeout => {
            TransportError::new(late, format!("{doing} did not end in time"))
        }
        RecvTimeoutError::Disconnected => {
            TransportError::new(TransportErrorKind::Io, format!("{doing} broke off"))
        }
    })
}

/// The same for what must be done in any case, and brings nothing: closing something. Where there is
/// no thread to be had, it is done here.
pub fn finish_aside(deadline: Deadline, work: impl FnOnce() + Send + 'static) {
    match start(work) {
        // Where it is late, it will be done all the same.
        Ok(ended) => drop(ended.recv_deadline(deadline.moment())),
        Err((_, work)) => work(),
    }
}

/// Starts `work`; gives where its result will be, or the work itself when it could not be started.
fn start<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
    work: W,
) -> Result<Receiver<T>, (io::Error, W)> {
    let (result, ended) = bounded(1);
    if cfg!(fuzzing) {
        // Its answers have an order, and its clock moves only when the caller waits.
        let _ = result.send(work());
        return Ok(ended);
    }
    // A thread that cannot start drops its closure, so the work reaches it by a channel.
    let (give, take) = bounded(1);
    let take_back = take.clone();
    let _ = give.send(work);
    let started = std::thread::Builder::new()
        .name("aside".into())
        .spawn(move || {
            if let Ok(work) = take.recv() {
                // The caller may have stopped waiting.
                let _ = result.send(work());
            }
        });
    let Err(error) = started else {
        return Ok(ended);
    };
    match take_back.try_recv() {
        Ok(work) => Err((error, work)),
        Err(_) => Ok(ended),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn what_hangs_costs_the_deadline_and_no_more() {
        let patience = Duration::from_secs(30);
        let (release, held) = crossbeam_channel::bounded::<()>(0);
        let (left, ended) = crossbeam_channel::bounded(1);
        let began = Instant::now();
        let late = aside(
            "the work",
            TransportErrorKind::Busy,
            Deadline::after(Duration::from_millis(50)),
            move || {
                let _ = held.recv_timeout(patience);
                left.send(())
            },
        );
        assert!(began.elapsed() < patience);
        let error = late.expect_err("late");
        assert_eq!(error.kind, TransportErrorKind::Busy);
        assert_eq!(error.detail, "the work did not end in time");
        // It ends by itself.
        drop(release);
        assert_eq!(ended.recv_timeout(patience), Ok(()));
        let done = aside(
            "the work",
            TransportErrorKind::Busy,
            Deadline::after(patience),
            || 7,
        );
        assert_eq!(done, Ok(7));
        let broken: Result<(), _> = aside(
            "it",
            TransportErrorKind::Busy,
            Deadline::after(patience),
            || panic!("on purpose"),
        );
        assert_eq!(
            broken.map_err(|error| error.kind),
            Err(TransportErrorKind::Io)
        );
    }

    #[test]
    fn what_must_be_done_is_done_after_the_deadline_too() {
        let (left, ended) = crossbeam_channel::bounded(1);
        finish_aside(Deadline::after(Duration::ZERO), move || {
            let _ = left.send(());
        });
        assert_eq!(ended.recv_timeout(Duration::from_secs(30)), Ok(()));
    }
}
