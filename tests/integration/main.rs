//! The integration tests: one binary. PDUs are simulated on real sockets, ptys and processes
//! (`sim`), and whole exchanges compared.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test stops at the first thing that is wrong, and says where"
)]

mod acceptance;
mod access;
mod api;
mod broken;
mod client;
mod compat;
mod crash;
mod crowd;
mod daemon;
mod detect;
mod dies;
mod documents;
mod exec_drivers;
mod faults_command;
mod faults_http;
mod faults_ipmi;
mod faults_serial;
mod faults_snmp;
mod faults_ssh;
mod faults_tcp;
mod faults_telnet;
mod groups;
mod health;
mod hostile;
mod listeners;
mod logs;
mod matrix;
mod mqtt;
mod names;
mod orphans;
mod outlets;
mod pages;
mod peer_ipmi;
mod peer_modbus;
mod pki;
mod power;
mod process;
mod profiles;
mod proxies;
mod python_drivers;
mod reload;
mod service;
mod share;
mod sim;
mod snmpd;
mod tidy;
mod tls;
mod transcript;
mod trial;
mod usb;
mod walks;
