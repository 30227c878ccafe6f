//! pdudaemon switches the outlets of many PDUs, one command at a time each, strictly in order.
//!
//! ```text
//!              config ──────────────┐  what to run, fully checked before any thread starts
//!                                   v
//!   client ──> listener ──> dispatch ──> driver ──> transport ──> PDU
//!              http, tcp    Dispatcher    one of      telnet, snmp,
//!                           queue         a table     http, serial ...
//!                           worker ×N ── one thread per PDU, owns its driver
//!                   request  (the nouns that all of these share)
//! ```
//!
//! A request travels left to right; so do imports. `daemon` alone knows all the stations: it
//! starts them right to left and stops them left to right.

pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod dispatch;
pub mod docs;
pub mod driver;
mod hint;
pub mod listener;
pub mod logging;
mod options;
pub mod request;
pub mod settings;
pub mod transport;
