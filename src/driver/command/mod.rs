//! Drivers that run a local program: the table of their specs.

mod bcu;
mod exec;
mod fence;
mod localcmdline;
pub(super) mod python;
mod uhubctl;

use super::{By, COMMAND_TIMEOUT, DEVICE_TIMEOUT, DriverError, DriverSpec, Has, SHOWS_WITHIN};
use crate::transport::command::{Output, Program};
use crate::transport::{Timed, TransportError, TransportErrorKind};

/// Runs a program to its end.
fn run(program: Program, timed: impl Timed) -> Result<Output, DriverError> {
    found(program.run(timed))
}

/// A program that is not there is a matter of this machine, which no retry mends.
fn found<T>(started: Result<T, TransportError>) -> Result<T, DriverError> {
    started.map_err(|error| match error.kind {
        TransportErrorKind::NotFound => DriverError::Setup(error.detail),
        _ => error.into(),
    })
}

/// Every driver name of this transport.
pub(super) static SPECS: &[DriverSpec] = &[
    DriverSpec {
        names: &["localcmdline"],
        any_case: false,
        models: "any program or script of this machine",
        transport: "command",
        outlets: Has::Told(
            "any text of letters, digits and . _ : / @ + - (in the list form any text), not beginning with -; a number where the command has %d",
        ),
        reads_back: true,
        verified_by: "real shells and programs in the test suite",
        timeout: COMMAND_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(localcmdline::build),
    },
    DriverSpec {
        names: &["exec"],
        any_case: false,
        models: "any program that speaks the protocol of exec-drivers.md",
        transport: "command",
        outlets: Has::Told(exec::OUTLETS),
        reads_back: true,
        verified_by: "programs in Python and in shell in the test suite",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &exec::Exec,
    },
    python::SPEC,
    DriverSpec {
        names: &["fence"],
        any_case: false,
        models: "whatever a fence agent of clusters switches (Debian's packages fence-agents)",
        transport: "command",
        outlets: Has::Told(fence::OUTLETS),
        reads_back: true,
        verified_by: "Debian's fence_dummy, fence_apc_snmp on a simulated PDU, and a program that answers in the agents' words; no hardware",
        timeout: COMMAND_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &fence::Fence,
    },
    DriverSpec {
        names: &["bcu"],
        any_case: false,
        models: "NXP evaluation boards, by NXP's board control utility",
        transport: "command",
        outlets: Has::One,
        reads_back: true,
        verified_by: "a program that answers with bcu's own words; no hardware. UNVERIFIED: that every board wants `bcu init` without a boot mode (the Python program ran bcu without a command there)",
        timeout: COMMAND_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(bcu::build),
    },
    DriverSpec {
        names: &["uhubctl"],
        any_case: false,
        models: "USB hubs with per-port power switching, by the program uhubctl (the driver usbhub does without it)",
        transport: "command",
        outlets: Has::Within(1, 127),
        reads_back: true,
        verified_by: "a program that answers with uhubctl's own words, and Debian's uhubctl on an emulated hub; no hardware",
        timeout: COMMAND_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(uhubctl::build),
    },
];
