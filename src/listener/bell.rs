//! The bell of the front: whoever has news for it rings.

use crate::config::{Limits, Tls};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the front hears from other threads.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    /// Look at this connection: its answer has left something to do, or may come too late.
    Look(u64),
    /// Accept nothing more; finish what is under way, then end.
    Drain,
    /// Give a sign of life, and have HTTP give one.
    Live,
    /// Keep these limits from now on.
    Limits(Limits),
    /// Speak TLS so from now on; connections that are open go on as they are.
    Tls(Option<Tls>),
    /// End.
    End,
}

/// Wakes the front.
#[derive(Debug)]
pub(super) struct Bell {
    event: OwnedFd,
    news: Mutex<Vec<News>>,
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            news: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<News>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the front; never waits.
    pub(super) fn ring(&self, news: News) {
        let mut all = self.lock();
        all.push(news);
        let is_first = all.len() == 1;
        drop(all);
        if is_first {
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// All news since the last look, in order.
    pub(super) fn news(&self) -> Vec<News> {
        std::mem::take(&mut *self.lock())
    }

    /// The epoll tells no more of it until it rings again.
    pub(super) fn hush(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.event, &mut count);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
