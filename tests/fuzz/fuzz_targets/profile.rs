//! Any text as a profile, and any answers of its PDU: the bytes before the first NUL are the profile,
//! the byte behind it says what is asked, the rest are the answers (see `peer`).
//!
//! Nothing panics, nothing is late, and nothing counts as success that the PDU has not said.

#![no_main]

#[allow(dead_code)]
mod peer;

use libfuzzer_sys::fuzz_target;
use pdudaemon::driver::confirm::Confirm;
use pdudaemon::driver::registry;
use pdudaemon::request::{State, Switch};
use pdudaemon::transport::fuzzing::{self, Answer, Manner};
use pdudaemon::transport::{Attempt, Deadline};
use std::time::Duration;

/// How long a new state may take to show.
const SHOWS_WITHIN: Duration = Duration::from_secs(10);

fuzz_target!(|input: &[u8]| {
    let Some(end) = input.iter().position(|byte| *byte == 0) else {
        return;
    };
    let (Ok(profile), [what, rest @ ..]) = (std::str::from_utf8(&input[..end]), &input[end + 1..])
    else {
        return;
    };
    let Some((mut driver, outlets, transport)) = registry::fuzzing::driver(profile) else {
        return;
    };
    let answers = peer::answers(rest);
    let says_something = answers.iter().any(|answer| match answer {
        Answer::Bytes(bytes) => !bytes.is_empty(),
        Answer::Silence | Answer::End | Answer::Reset => false,
    });
    let manner = match transport {
        "http" => Manner::Http,
        _ => Manner::Plain,
    };
    fuzzing::play(manner, answers);
    let Some(outlet) = outlets.get(usize::from(what >> 2) % outlets.len().max(1)) else {
        return;
    };
    for call in peer::calls(*what) {
        let deadline = Deadline::after(peer::PATIENCE);
        let attempt = Attempt::new(deadline);
        let has_proof = !driver.proofs().is_empty();
        let to = match call {
            0 => Switch::On,
            _ => Switch::Off,
        };
        let error = match call {
            0 | 1 => {
                let confirm = Confirm::new(None, driver.proofs(), SHOWS_WITHIN).expect("a rule");
                let told = confirm.switch(driver.as_mut(), outlet, to, &attempt);
                if told.is_ok() {
                    assert!(attempt.may_have_acted(), "success, but nothing was sent");
                    assert!(says_something || !has_proof, "success without a word");
                }
                told.err()
            }
            _ => {
                let told = driver.state(outlet, deadline);
                let is_known = matches!(told, Ok(State::On | State::Off));
                assert!(!is_known || says_something, "a state without a word");
                told.err()
            }
        };
        if let Some(error) = error {
            let text = error.to_string();
            assert!(text.len() < 8192, "an endless error: {} bytes", text.len());
        }
        peer::in_time(transport, deadline);
    }
    let deadline = Deadline::after(peer::PATIENCE);
    driver.rest(deadline);
    peer::in_time(transport, deadline);
});
