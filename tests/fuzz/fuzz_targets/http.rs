//! What an HTTP client sends: the first bytes, the request head, the query.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pdudaemon::config::Limits;
use pdudaemon::listener::head::{self, Sniffed};
use pdudaemon::listener::http;
use pdudaemon::request::Action;

fuzz_target!(|bytes: &[u8]| {
    // What has been decided stays so, whatever comes behind it.
    let mut decided = Sniffed::Undecided;
    for end in 0..=bytes.len().min(20) {
        let now = head::sniff(&bytes[..end]);
        if decided != Sniffed::Undecided {
            assert_eq!(decided, now, "{:?}", &bytes[..end]);
        }
        decided = now;
    }
    let limits = Limits::default();
    if let Ok(Some(head)) = head::request(bytes, &limits) {
        assert!(head.length <= bytes.len() && head.length <= limits.head);
        // The same head, with a body behind it or without.
        let whole = head::request(&bytes[..head.length], &limits).expect("read before");
        assert_eq!(whole, Some(head));
    }
    if let Ok(query) = std::str::from_utf8(bytes) {
        if let Ok(request) = http::parse(query, Action::Reboot, "fuzz".into()) {
            let delay = request
                .delay
                .map_or(0.0, |delay| delay.duration().as_secs_f64());
            assert!((0.0..=86_400.0).contains(&delay));
        }
    }
});
