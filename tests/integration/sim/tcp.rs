//! A byte-stream PDU on a loopback TCP port: each connection goes on in the transcript where the
//! one before stopped.

use super::port::{Ending, Served};
use super::script::{Played, Script};
use crate::transcript::{Case, Line, bytes};
use pdudaemon::transport::printable;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

pub(super) fn start(case: &Case) -> Played {
    let script = Script::of(case);
    let shared = Arc::clone(&script);
    let served = Served::connections(move |mut stream, ending| {
        let patience = Some(Duration::from_secs(10));
        stream
            .set_read_timeout(patience)
            .expect("a timeout can be set");
        shared.note(play(&mut stream, &shared, ending));
    });
    Played { served, script }
}

/// Plays the transcript on one stream until the driver closes it or leaves the script, or, where
/// a close cannot be seen and reads time out, until the simulator is stopped.
pub(super) fn play(
    stream: &mut (impl Read + Write),
    script: &Script,
    ending: &Ending,
) -> Result<(), String> {
    let is_over = |error: &std::io::Error| {
        matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) && ending.is_near()
    };
    loop {
        let line = script.lines().last().cloned();
        match line {
            Some(Line::Answer(text)) => {
                script.lines().pop();
                // A driver that gave up has closed; what it left unsent is told at the end.
                if stream.write_all(&bytes(&text)).is_err() {
                    return Ok(());
                }
            }
            Some(Line::Sent(text)) => {
                let expected = bytes(&text);
                let mut got = vec![0; expected.len()];
                let mut have = 0;
                while have < expected.len() {
                    match stream.read(&mut got[have..]) {
                        Ok(0) if have == 0 => return Ok(()),
                        Ok(more) if more > 0 && expected.starts_with(&got[..have + more]) => {
                            have += more
                        }
                        Ok(more) => {
                            return Err(format!(
                                "expected {}, got {}",
                                printable(&expected),
                                printable(&got[..have + more])
                            ));
                        }
                        Err(error) if is_over(&error) && have == 0 => return Ok(()),
                        Err(error) if error.kind() == ErrorKind::TimedOut && !is_over(&error) => {}
                        Err(error) => {
                            return Err(format!("expected {}: {error}", printable(&expected)));
                        }
                    }
                }
                script.lines().pop();
            }
            None => {
                let mut rest = [0; 64];
                match stream.read(&mut rest) {
                    Ok(more) if more > 0 => {
                        return Err(format!(
                            "expected nothing more, got {}",
                            printable(&rest[..more])
                        ));
                    }
                    Err(error) if error.kind() == ErrorKind::TimedOut && !is_over(&error) => {}
                    _ => return Ok(()),
                }
            }
        }
    }
}
