//! Messages to a worker: jobs, changes of the config, the end.

use super::bus::Bus;
use super::job::Job;
use super::lock::PduLock;
use crate::config::PduConfig;
use crate::driver::Driver;
use crate::request::Outlet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A message to a worker. Small: every inbox keeps places for 31 of them.
#[derive(Debug)]
pub(super) enum Message {
    /// Do these, which one client asks for at once, and not before the wait is over.
    Jobs(VecDeque<Box<Job>>, Duration),
    /// The request with this number is cancelled: drop its job.
    Cancelled(u64),
    /// The job of this outlet with this number, a group's member, goes on then.
    Resume(Box<(Outlet, u64, Instant)>),
    /// An outlet that an earlier run, or one beside this, may have left off.
    Owed(Box<Outlet>),
    /// The config has changed: go on with this.
    Change(Box<Kit>),
    /// Begin nothing more.
    Stop(Stop),
}

/// A worker's kit: one PDU's settings, the driver made from them, and the locks around it.
pub(super) struct Kit {
    pub(super) pdu: Arc<PduConfig>,
    pub(super) driver: Box<dyn Driver>,
    pub(super) bus: Option<Arc<Bus>>,
    pub(super) lock: Option<PduLock>,
}

impl std::fmt::Debug for Kit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kit")
            .field("pdu", &self.pdu.name)
            .finish_non_exhaustive()
    }
}

/// The way in which a worker stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The worker finishes the call that runs, and every reboot that has begun.
    Soon,
    /// The same without pauses and retries.
    Now,
}
