//! SSH through the system's OpenSSH client.
