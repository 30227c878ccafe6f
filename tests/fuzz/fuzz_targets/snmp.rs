//! Datagrams of an SNMP agent: v1, v2c, v3.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| pdudaemon::transport::snmp::fuzzing::datagram(datagram));
