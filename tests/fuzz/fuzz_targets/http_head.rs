//! Heads of answers, however odd: the one made anew is in order, and has one length at most.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|head: &[u8]| pdudaemon::transport::http::check_head(head));
