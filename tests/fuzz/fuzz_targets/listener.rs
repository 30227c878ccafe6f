//! What a client sends, told apart by its first bytes as the front does: a request head with its
//! query, or the legacy line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pdudaemon::config::{Limits, Protocols};
use pdudaemon::listener::head;
use pdudaemon::listener::{power, tcp};
use pdudaemon::request::Target;
use std::sync::Arc;

fuzz_target!(|bytes: &[u8]| {
    // HTTP stays so, whatever comes behind it; a line at least as long as it has no end.
    let mut decided = Protocols::Both;
    for end in 0..=bytes.len().min(40) {
        let now = head::sniff(&bytes[..end]);
        let may_change = match decided {
            Protocols::Both => true,
            Protocols::Tcp => bytes[..end].contains(&b'\n') && now == Protocols::Http,
            Protocols::Http => false,
        };
        assert!(decided == now || may_change, "{:?}", &bytes[..end]);
        decided = now;
    }
    match head::sniff(bytes) {
        Protocols::Http => request(bytes),
        Protocols::Tcp | Protocols::Both => line(bytes),
    }
});

fn request(bytes: &[u8]) {
    let limits = Limits::default();
    let Ok(Some(head)) = head::request(bytes, &limits) else {
        return;
    };
    assert!(head.length <= bytes.len() && head.length <= limits.head);
    // The same head, with a body behind it or without.
    let whole = head::request(&bytes[..head.length], &limits).expect("read before");
    assert_eq!(whole, Some(head));
    let target = bytes.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let Ok(target) = std::str::from_utf8(target) else {
        return;
    };
    let query = target.split_once('?').map_or("", |(_, query)| query);
    if let Ok((_, delay)) = power::parse(query) {
        let delay = delay.map_or(0.0, |delay| delay.duration().as_secs_f64());
        assert!((0.0..=86_400.0).contains(&delay));
    }
}

fn line(line: &[u8]) {
    let client = Arc::from("fuzz");
    let Ok(request) = tcp::parse(line, &client) else {
        return;
    };
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
