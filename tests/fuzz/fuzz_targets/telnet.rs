//! The telnet filter and the expect engine: the same bytes, in whatever pieces they come, make
//! the same text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pdudaemon::transport::expect::{Pattern, Screen, find};
use pdudaemon::transport::telnet::Codec;

const PATTERNS: &[Pattern] = &[
    Pattern::Text("User Name :"),
    Pattern::Text("\n"),
    Pattern::Prompt(">"),
    Pattern::Ends("> "),
    Pattern::Ends(":"),
];

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let mut whole = (Codec::default(), Vec::new(), Vec::new());
    whole.0.receive(bytes, &mut whole.1, &mut whole.2);
    let mut parts = (Codec::default(), Vec::new(), Vec::new());
    for part in bytes.chunks(usize::from(piece).max(1)) {
        parts.0.receive(part, &mut parts.1, &mut parts.2);
    }
    assert_eq!((&whole.1, &whole.2), (&parts.1, &parts.2));
    // A device that talks for ever about options must not make us do the same.
    assert!(whole.2.len() <= 3 * bytes.len());

    let (mut one, mut many) = (Screen::default(), Screen::default());
    one.hide("secret");
    many.hide("secret");
    let fed = one.feed(&whole.1);
    let mut fed_in_parts = Ok(());
    for part in whole.1.chunks(usize::from(piece).max(1)) {
        if fed_in_parts.is_ok() {
            fed_in_parts = many.feed(part);
        }
    }
    assert_eq!(fed.is_ok(), fed_in_parts.is_ok());
    if fed.is_ok() {
        assert_eq!(one.text(), many.text());
        assert!(!one.shown(one.text()).contains("secret"));
        if let Some((_, end)) = find(one.text(), PATTERNS) {
            let taken = one.take(end);
            assert_eq!(format!("{taken}{}", one.text()), many.text());
        }
    }
});
