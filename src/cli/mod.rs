//! The command lines of both programs.
//!
//! | file | job |
//! | --- | --- |
//! | `daemon` | `pdudaemon`: its options and its help; no I/O |
//! | `client` | `pduclient`, whole |
//! | `options` | what both have in common: a table of options, from which help and parser come |

pub mod client;
pub mod daemon;
mod options;
