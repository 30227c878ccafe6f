//! Packets of a broker, however odd: each is read or refused, and no message is longer than its packet.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|packets: &[u8]| pdudaemon::transport::mqtt::check(packets));
