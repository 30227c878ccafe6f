//! The legacy line protocol: `<pdu> <outlet> <command>[ <delay>]`, answered by `ack` or `nack`.
//! Pure: bytes in, request out, outcome in, bytes out.

use crate::request::{Action, Delay, Outcome, Outlet, Request, State, Target};
use std::sync::Arc;

/// Reads one line. Words are separated by single spaces; around them white space is ignored.
/// A numeric outlet is read as Python's `int()` does, so `04` and `+4` are `4`; anything else is
/// an outlet's name. Fails with a sentence for the log.
pub fn parse(line: &[u8], client: &Arc<str>) -> Result<Request, String> {
    let text = std::str::from_utf8(line)
        .map_err(|_| "expected UTF-8 text".to_owned())?
        .trim();
    let words: Vec<&str> = text.split(' ').collect();
    let (pdu, outlet, command, delay) = match words.as_slice() {
        [pdu, outlet, command] => (pdu, outlet, command, None),
        [pdu, outlet, command, delay] => (pdu, outlet, command, Some(delay)),
        _ => {
            return Err(format!(
                "expected <pdu> <outlet> <command> [<delay>], got {} words",
                words.len()
            ));
        }
    };
    if pdu.is_empty() || outlet.is_empty() {
        return Err("expected single spaces between the words".into());
    }
    let action: Action = command
        .parse()
        .map_err(|()| format!("unknown command {command:?}: expected {}", Action::COMMANDS))?;
    let delay = delay.map(|delay| delay.parse::<Delay>()).transpose()?;
    Ok(Request {
        client: Arc::clone(client),
        target: Target::Outlet {
            pdu: (*pdu).to_owned(),
            outlet: Outlet::new(python_int(outlet)),
        },
        action,
        delay,
        is_background: false,
        // A network that is trusted may; another caller's rights are looked at.
        may_know_names: true,
    })
}

/// A number as Python's `int()` reads it, written plainly; other text as it is.
fn python_int(text: &str) -> String {
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => ("-", text.get(1..).unwrap_or_default()),
        Some(b'+') => ("", text.get(1..).unwrap_or_default()),
        _ => ("", text),
    };
    let grouped = digits
        .split('_')
        .all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()));
    if !grouped {
        return text.to_owned();
    }
    let digits = digits.replace('_', "");
    let digits = digits.trim_start_matches('0');
    match digits {
        "" => "0".to_owned(),
        digits => format!("{sign}{digits}"),
    }
}

/// What the client gets, and nothing else before the connection closes.
pub fn answer(outcome: &Outcome) -> &'static [u8] {
    match outcome {
        Ok(done) => match &done.state {
            None => b"ack\n",
            Some(State::On) => b"on\n",
            Some(State::Off) => b"off\n",
            Some(State::Unknown(_)) => NACK,
        },
        Err(_) => NACK,
    }
}

/// Refused, or not carried out.
pub(super) const NACK: &[u8] = b"nack\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<(String, String, String, Option<f64>), String> {
        parse(line.as_bytes(), &Arc::from("test")).map(|request| {
            let Target::Outlet { pdu, outlet } = request.target else {
                panic!("an alias")
            };
            let delay = request.delay.map(|delay| delay.duration().as_secs_f64());
            (
                pdu,
                outlet.as_str().to_owned(),
                request.action.to_string(),
                delay,
            )
        })
    }

    #[test]
    fn lines_are_read_as_the_python_program_does() {
        let ok = |pdu: &str, outlet: &str, command: &str, delay| {
            Ok((pdu.into(), outlet.into(), command.into(), delay))
        };
        assert_eq!(read("pdu 1 on\n"), ok("pdu", "1", "on", None));
        assert_eq!(
            read("  pdu 04 reboot 10\r\n"),
            ok("pdu", "4", "reboot", Some(10.0))
        );
        assert_eq!(read("pdu +5 off 0.5"), ok("pdu", "5", "off", Some(0.5)));
        assert_eq!(
            read("pdu 1_0 get-status"),
            ok("pdu", "10", "get-status", None)
        );
        assert_eq!(read("pdu 00 on"), ok("pdu", "0", "on", None));
        assert_eq!(read("pdu -1 on"), ok("pdu", "-1", "on", None));
        assert_eq!(read("pdu left on"), ok("pdu", "left", "on", None));
        for bad in [
            "",
            "pdu",
            "pdu 1",
            "pdu 1 on 5 6",
            "pdu  1 on",
            "pdu 1 ON",
            "pdu 1 on abc",
            "pdu 1 toggle",
            " 1 on",
        ] {
            assert!(read(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(parse(b"pdu \xff on", &Arc::from("test")).is_err());
    }
}
