//! What a worker is told: jobs, changes of the config, the end.

use super::bus::Bus;
use super::job::Job;
use super::lock::PduLock;
use crate::config::PduConfig;
use crate::driver::Driver;
use crate::request::Outlet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Do this, not before the wait is over.
    Job(Job, Duration),
    /// A request that it may have is cancelled.
    Cancelled,
    /// A group's member goes on.
    Resume { outlet: Outlet, due: Instant },
    /// An outlet that an earlier run, or one beside this, may have left off.
    Owed(Outlet),
    /// The config has changed: go on with this.
    Change(Box<Change>),
    /// The PDU has left the config: finish what there is, then end.
    Retire,
    /// Begin nothing more.
    Stop(Stop),
}

/// A changed PDU, as its worker needs it.
pub(super) struct Change {
    pub(super) pdu: PduConfig,
    pub(super) driver: Box<dyn Driver>,
    pub(super) bus: Option<Arc<Bus>>,
    pub(super) lock: Option<PduLock>,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change")
            .field("pdu", &self.pdu.name)
            .finish_non_exhaustive()
    }
}

/// How a worker stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// What runs is finished, and every reboot already begun.
    Soon,
    /// The same without pauses and retries.
    Now,
}
