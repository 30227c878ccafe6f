//! The expect engine: waits for one of several texts in what a PDU prints.
