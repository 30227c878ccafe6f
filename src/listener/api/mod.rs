//! What the paths under `/api/v1` do.

pub(super) mod many;
pub(super) mod pdus;
pub(super) mod requests;
pub(super) mod targets;
mod views;
