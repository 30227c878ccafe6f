//! What an SNMP agent sends: one datagram that begins a BER sequence is read in every way (v1, v2c,
//! v3 with and without keys); any other input is the answers to a driver, which its first byte
//! chooses.

#![no_main]

mod peer;

use libfuzzer_sys::fuzz_target;

/// The tag of a sequence.
const SEQUENCE: u8 = 0x30;

fuzz_target!(|input: &[u8]| match input {
    [SEQUENCE, ..] => pdudaemon::transport::snmp::fuzzing::datagram(input),
    _ => peer::replies(&["snmp"], input),
});
