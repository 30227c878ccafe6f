//! The daemon's process edge.

fn main() {}
