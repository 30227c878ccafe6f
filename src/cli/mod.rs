//! The command lines of both programs.
//!
//! | file | job |
//! | --- | --- |
//! | `daemon` | `pdudaemon`: its options and its help; no I/O |
//! | `client` | `pduclient`, whole |
//! | `health` | `pdudaemon --health`: asks the daemon whether it serves |
//! | `options` | the table of options, from which both make help and parser |

pub mod client;
pub mod daemon;
pub mod health;
mod options;
