//! What a BMC sends: one datagram that begins as RMCP does is read in every way (as the answer to
//! each step of a login and to a request in a session of either kind); any other input is the answers
//! to the driver.

#![no_main]

mod peer;

use libfuzzer_sys::fuzz_target;

/// The version of RMCP.
const RMCP: u8 = 6;

fuzz_target!(|input: &[u8]| match input {
    [RMCP, ..] => pdudaemon::transport::ipmi::fuzzing::datagram(input),
    _ => peer::replies(&["ipmi"], input),
});
