//! The drivers' documentation, made from their table rows: for `--list-drivers`, the README and
//! the man page.

use crate::driver::DriverSpec;
use std::fmt::Write;

/// Every driver in full, for a terminal.
pub fn list_drivers<'a>(specs: impl Iterator<Item = &'a DriverSpec>) -> String {
    let mut text = String::new();
    for spec in specs {
        let case = if spec.any_case {
            " (in any letter case)"
        } else {
            ""
        };
        let reads = if spec.reads_back { "yes" } else { "no" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}{case}", spec.names.join(", "));
        let _ = writeln!(text, "    {}", spec.models);
        let _ = writeln!(
            text,
            "    over {}; outlets: {}; reads states: {reads}",
            spec.transport, spec.outlets
        );
        for key in spec.keys {
            let _ = writeln!(
                text,
                "    {}: {} [{}], {}",
                key.name, key.kind, key.default, key.about
            );
        }
        let _ = writeln!(text, "    verified: {}\n", spec.verified_by);
    }
    text
}
