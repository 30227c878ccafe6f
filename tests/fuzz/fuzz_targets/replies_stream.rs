//! What a PDU answers over tcp and serial lines; the first byte chooses the driver.

#![no_main]

mod peer;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| peer::replies(&["tcp", "serial"], input));
