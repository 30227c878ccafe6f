//! Telnet: option negotiation and line ends.
