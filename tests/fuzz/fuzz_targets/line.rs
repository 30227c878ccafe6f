//! The legacy line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pdudaemon::listener::tcp;
use pdudaemon::request::Target;
use std::sync::Arc;

fuzz_target!(|line: &[u8]| {
    let client = Arc::from("fuzz");
    if let Ok(request) = tcp::parse(line, &client) {
        let Target::Outlet { pdu, outlet } = &request.target else {
            panic!("a line names no alias");
        };
        // The same line, written anew.
        let delay = request
            .delay
            .map(|delay| format!(" {}", delay.duration().as_secs_f64()));
        let again = format!(
            "{pdu} {outlet} {}{}",
            request.action,
            delay.unwrap_or_default()
        );
        let again = tcp::parse(again.as_bytes(), &client).expect("read before");
        assert_eq!(again.target, request.target);
        assert_eq!(again.action, request.action);
    }
});
