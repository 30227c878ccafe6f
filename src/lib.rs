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
//!
//! # Who may import whom
//!
//! | module | imports | does not know |
//! | --- | --- | --- |
//! | [`request`], [`settings`] | std, serde | anything of ours (`settings` knows the PDU's name) |
//! | [`transport`] | std, the protocol crates | that PDUs, outlets or a config exist |
//! | `driver::<kind>` | [`request`], [`settings`], the contract in [`driver`], [`transport`] | other drivers, threads, retries |
//! | [`driver::registry`] | the tables | what is in them |
//! | [`access`] | [`request`] | sockets, HTTP, the config's file form |
//! | [`config`] | [`request`], [`settings`], [`driver`], [`access`] | threads, sockets |
//! | [`metrics`] | [`request`] | who counts |
//! | [`dispatch`] | [`request`], [`config`], [`metrics`], the contract in [`driver`] | which drivers exist, HTTP, the wire |
//! | [`listener`] | [`request`], [`access`], [`dispatch`], [`metrics`], the listener's part of [`config`] | drivers, the config's file form |
//! | [`daemon`] | [`config`], [`dispatch`], [`listener`] | any particular driver or transport |
//!
//! Beside the stations: [`cli`] and [`client`] are the two command lines, [`ranges`] how many
//! targets are written as one, [`logging`] the log (it knows [`metrics`], which watch it), [`docs`] the documents made from the driver
//! table, `vault` reads secrets that the config only refers to,
//! `children` starts every process and buries the orphans that process 1 inherits. A test holds every import
//! against this.
//!
//! # Threads, and what each waits on
//!
//! | thread | waits on |
//! | --- | --- |
//! | main | signals, the next look at workers and threads |
//! | `front` | one epoll: listening sockets, clients, the private socket to tiny_http; the ends of long polls |
//! | tiny_http's | the private socket: one that accepts, one that reads requests |
//! | `http` | whole requests from tiny_http |
//! | `lists` | those of them that only show something: they give way to switches |
//! | `orphans` | SIGCHLD, where we are process 1 |
//! | one per PDU, named after it | its inbox, until its next job is due; or its PDU, until the deadline |
//! | `log` | lines, and whoever takes them |
//! | `aside` | for one call: a host name, a USB device the kernel is busy with; the worker waits for it until its deadline |

pub mod access;
mod children;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod discover;
pub mod dispatch;
pub mod docs;
pub mod driver;
mod hint;
pub mod listener;
pub mod logging;
pub mod metrics;
mod options;
pub mod ranges;
pub mod request;
pub mod settings;
pub mod transport;
mod vault;
