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
//! | room | imports | does not know |
//! | --- | --- | --- |
//! | [`request`] | std, serde | anything of ours |
//! | [`settings`] | [`request`] | the config's file, any driver |
//! | [`transport`] | [`settings`] (an address, a secret), the protocol crates | that PDUs, outlets or a config exist |
//! | [`driver`] | [`request`], [`settings`], [`transport`] | threads, retries; one kind of driver does not know another |
//! | [`access`] | [`request`] | sockets, HTTP, the config's file |
//! | [`config`] | [`request`], [`settings`], [`transport`] (its programs), [`driver`], [`access`] | threads, sockets |
//! | [`dispatch`] | [`request`], [`transport`] (its locks), [`config`], [`driver`] | which drivers exist, HTTP, the wire |
//! | [`listener`] | [`request`], [`transport`] (its private folders), [`access`], [`config`], [`dispatch`] | drivers, the config's file |
//! | [`cli`] | [`request`], [`settings`], [`transport`] (its TLS, its look-up of names), [`config`] | threads; the daemon, but as its client |
//! | [`daemon`] | [`request`], [`transport`] (its orphans), [`config`], [`dispatch`], [`listener`], [`cli`] | any particular driver |
//!
//! Within a room, no two files import each other, however far around; only a room's `mod.rs` names
//! the files of its room. A test reads this table and holds every import against it.
//!
//! # Threads, and what each waits on
//!
//! | thread | waits on |
//! | --- | --- |
//! | main | signals, the next look at workers and threads |
//! | `front` | one epoll: listening sockets, clients, the private socket that feeds tiny_http; the ends of long polls |
//! | tiny_http's | the private socket: one that accepts, one that reads requests |
//! | `http` | whole requests from tiny_http |
//! | `lists` | whole requests that only show something: they give way to switches |
//! | `orphans` | SIGCHLD, where we are process 1 |
//! | one per PDU, named after it | its inbox, until its next job is due; or its PDU, until the deadline |
//! | `log` | lines, and whoever takes them |
//! | `aside` | for one call: a host name, a USB device the kernel is busy with; the worker waits for it until its deadline |

pub mod access;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dispatch;
pub mod driver;
pub mod listener;
pub mod request;
pub mod settings;
pub mod transport;
