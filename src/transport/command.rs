//! Local programs, run in their own process group and killed at the deadline.
