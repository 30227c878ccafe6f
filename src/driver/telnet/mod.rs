//! Drivers over telnet: the table of their specs.

use super::DriverSpec;

/// Every driver name of this transport.
pub(super) static SPECS: &[DriverSpec] = &[];
