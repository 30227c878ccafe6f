//! Drivers that run a local program: the table of their specs.

mod bcu;
mod localcmdline;
mod uhubctl;

use super::{COMMAND_TIMEOUT, DriverError, DriverSpec, Has, Key, SHOWS_WITHIN};
use crate::transport::command::{Output, Program};
use crate::transport::{Deadline, TransportErrorKind};

/// Runs a program; one that is not there is a matter of this machine, which no retry mends.
fn run(program: Program, deadline: Deadline) -> Result<Output, DriverError> {
    program.run(deadline).map_err(|error| match error.kind {
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
        keys: &[
            Key {
                name: "cmd_on",
                kind: "text or list",
                default: "none",
                about: "switches an outlet on: a shell command, or a list of program and arguments run without a shell; %s becomes the outlet, %d (%x, %o) the outlet as a number, %% a percent sign",
            },
            Key {
                name: "cmd_off",
                kind: "text or list",
                default: "none",
                about: "switches an outlet off",
            },
            Key {
                name: "cmd_status",
                kind: "text or list",
                default: "none",
                about: "reads an outlet: must print on, off, 1 or 0",
            },
            Key {
                name: "ignore_exit_status",
                kind: "flag",
                default: "false",
                about: "a command that ends with a failing status has switched all the same",
            },
        ],
        outlets: Has::Told(
            "any text of letters, digits and . _ : / @ + - (in the list form any text), not beginning with -; a number where the command has %d",
        ),
        reads_back: true,
        verified_by: "real shells and programs in the test suite",
        timeout: COMMAND_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &localcmdline::build,
    },
    DriverSpec {
        names: &["bcu"],
        any_case: false,
        models: "NXP evaluation boards, by NXP's board control utility",
        transport: "command",
        keys: &[
            Key {
                name: "id",
                kind: "text",
                default: "none",
                about: "which board, by the USB path of its debug port as 3-7.1",
            },
            Key {
                name: "board",
                kind: "text",
                default: "none",
                about: "the board's model as imx8mpevk",
            },
            Key {
                name: "bcu_exe",
                kind: "text",
                default: "\"bcu\"",
                about: "the program, by name or path",
            },
            Key {
                name: "reset_gpio",
                kind: "text",
                default: "\"reset\"",
                about: "the board's line that is switched",
            },
            Key {
                name: "reset_gpio_active_low",
                kind: "flag",
                default: "true",
                about: "the board runs while the line is high",
            },
            Key {
                name: "bootmode",
                kind: "text",
                default: "none",
                about: "the boot mode to set before",
            },
        ],
        outlets: Has::One,
        reads_back: true,
        verified_by: "a program that answers with bcu's own words; no hardware. UNVERIFIED: that every board wants `bcu init` without a boot mode (the Python program ran bcu without a command there)",
        timeout: COMMAND_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &bcu::build,
    },
    DriverSpec {
        names: &["uhubctl"],
        any_case: false,
        models: "USB hubs with per-port power switching, by the program uhubctl (the driver usbhub does without it)",
        transport: "command",
        keys: &[
            Key {
                name: "location",
                kind: "text",
                default: "required",
                about: "where the hub is plugged in, as uhubctl lists it: 1-2.4.4",
            },
            Key {
                name: "uhubctl_exe",
                kind: "text",
                default: "\"uhubctl\"",
                about: "the program, by name (also looked for in the sbin folders) or path",
            },
        ],
        outlets: Has::Within(1, 127),
        reads_back: true,
        verified_by: "a program that answers with uhubctl's own words, and Debian's uhubctl on an emulated hub; no hardware",
        timeout: COMMAND_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &uhubctl::build,
    },
];
