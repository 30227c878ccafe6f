//! Calls to the system that cannot be given a deadline.

use super::{Deadline, TransportError, TransportErrorKind};

/// Does `work` on a thread of its own, so that it costs its caller the deadline and no more. Where
/// it is late, its thread ends when the system lets it go, and what it brings is dropped.
///
/// # Errors
///
/// An error of the kind `late`, naming `doing`, when `work` has not ended by then.
pub fn aside<T: Send + 'static>(
    doing: &str,
    late: TransportErrorKind,
    deadline: Deadline,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TransportError> {
    let wait = deadline.left(doing)?;
    if cfg!(fuzzing) {
        // Its answers have an order, and its clock moves only when the caller waits.
        return Ok(work());
    }
    let (sender, receiver) = crossbeam_channel::bounded(1);
    std::thread::Builder::new()
        .name("aside".into())
        .spawn(move || {
            // The caller may have stopped waiting.
            let _ = sender.send(work());
        })
        .map_err(|error| TransportError::io("starting a helper thread", &error))?;
    receiver
        .recv_timeout(wait)
        .map_err(|_| TransportError::new(late, format!("{doing} did not end in time")))
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
    }
}
