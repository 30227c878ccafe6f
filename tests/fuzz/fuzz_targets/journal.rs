//! Names in the journal's folder: what we write we read, and nothing else is taken for ours.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pdudaemon::dispatch::fuzzing::{journal_name, read_journal_name};
use pdudaemon::request::{Outlet, PduName};

fuzz_target!(|text: &str| {
    if let Some((pdu, outlet)) = read_journal_name(text) {
        let again = journal_name(&pdu, &outlet);
        assert_eq!(read_journal_name(&again), Some((pdu, outlet)));
    }
    let (pdu, outlet) = text.split_once('\n').unwrap_or((text, ""));
    let (pdu, outlet) = (PduName::new(pdu), Outlet::new(outlet));
    let name = journal_name(&pdu, &outlet);
    assert!(!name.contains('/') && !name.starts_with('.') || pdu.as_str().is_empty());
    assert_eq!(read_journal_name(&name), Some((pdu, outlet)));
});
