//! Drivers that run a local program: the table of their specs.

mod localcmdline;

use super::{COMMAND_TIMEOUT, DriverSpec, Key};

/// Every driver name of this transport.
pub(super) static SPECS: &[DriverSpec] = &[DriverSpec {
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
    outlets: "any text of letters, digits and . _ : / @ + - (in the list form any text), not beginning with -; a number where the command has %d",
    reads_back: true,
    verified_by: "real shells and programs in the test suite",
    timeout: COMMAND_TIMEOUT,
    build: &localcmdline::build,
}];
