//! HTTP requests to PDUs.
