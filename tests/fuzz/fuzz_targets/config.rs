//! The config file. What is accepted must build, and say the same twice.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pdudaemon::config::Config;

fuzz_target!(|text: &str| {
    match Config::parse(text, "fuzz") {
        Ok(config) => {
            for pdu in config.pdus.values().flatten() {
                assert!(pdu.build().is_ok(), "accepted, and does not build");
            }
            let again = Config::parse(text, "fuzz").expect("accepted before");
            assert_eq!(config.findings, again.findings);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
