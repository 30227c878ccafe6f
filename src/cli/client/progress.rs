//! The line on a terminal that says what the client waits for; gone when the wait is over.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, Instant};

/// Quick answers need no line.
const FIRST: Duration = Duration::from_millis(700);
const EVERY: Duration = Duration::from_millis(1000);
/// The narrowest terminal for the line.
const COLUMNS: usize = 79;

/// Does `work`, showing `line` and the seconds it has taken where somebody sits at a terminal.
pub(super) fn during<T>(line: impl FnMut() -> String + Send, work: impl FnOnce() -> T) -> T {
    if !std::io::stderr().is_terminal() {
        return work();
    }
    shown(&mut std::io::stderr(), line, work)
}

fn shown<T>(
    terminal: &mut (impl Write + Send),
    mut line: impl FnMut() -> String + Send,
    work: impl FnOnce() -> T,
) -> T {
    let started = Instant::now();
    let (done, until_done) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut pause = FIRST;
            while until_done.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let text = format!("{}, {} s", line(), started.elapsed().as_secs());
                if until_done.try_recv() == Err(TryRecvError::Disconnected) {
                    break;
                }
                pause = EVERY;
                let text: String = text.chars().take(COLUMNS).collect();
                let _ = write!(terminal, "\r\x1b[K{text}").and_then(|()| terminal.flush());
            }
            if pause == EVERY {
                let _ = write!(terminal, "\r\x1b[K").and_then(|()| terminal.flush());
            }
        });
        let outcome = work();
        drop(done);
        outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_answer_leaves_no_trace_and_a_slow_one_cleans_up() {
        let mut terminal = Vec::new();
        assert_eq!(shown(&mut terminal, || "off".into(), || 1), 1);
        assert!(terminal.is_empty());
        // Work that ends when the second line is due, so after the first.
        let (told, tell) = channel();
        shown(
            &mut terminal,
            move || {
                let _ = told.send(());
                "off: 3 outlets".into()
            },
            || (0..2).for_each(|_| tell.recv_timeout(Duration::from_secs(30)).unwrap()),
        );
        let text = String::from_utf8(terminal).unwrap();
        assert!(text.starts_with("\r\x1b[Koff: 3 outlets, "), "{text:?}");
        assert!(text.ends_with(" s\r\x1b[K"), "{text:?}");
    }
}
