//! What a PDU answers through programs: what they print, and how they end; the first byte chooses the driver.

#![no_main]

mod peer;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| peer::replies(&["command", "ssh"], input));
