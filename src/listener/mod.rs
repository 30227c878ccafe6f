//! Listeners: HTTP and the legacy line protocol, on one port or alone.
//!
//! ```text
//!   client ──> front ──┬── a line ────────────────────────────────> Dispatcher
//!     ^        1 thread└── whole requests ──> tiny_http ──> http ──> Dispatcher
//!     │                    one private socket  parses       1 thread    │
//!     └───────────────── answers: whoever has one writes it ────────────┘
//! ```
//!
//! Requests that only show something (the page, lists, metrics) go from `http` to a thread of
//! their own, `lists`: no switch waits behind them. Once a request is understood only its asker is
//! kept: what waits for an answer is small, and what is shown is dropped when its client is gone.
//!
//! The private socket carries one whole request behind the other, of all clients. Each answer goes
//! to its client's socket at once; what that does not take is left to the front (see `wire`).
//! TLS, where the config has a certificate, is spoken on the same port: a client's first byte asks
//! for it (see `stream` and `front::handshake`).
//! Every request passes the guard (who sends it, and may they?) on its way to the dispatcher.
//!
//! Invariant: knows `request`, `access` and `dispatch` (and `config`'s listener section); no driver.

mod api;
mod bell;
mod exchange;
mod front;
mod guard;
pub mod head;
mod health;
mod http;
mod link;
mod lists;
mod page;
pub mod power;
mod problem;
mod response;
mod routes;
mod socket;
mod stream;
pub mod tcp;
mod wire;

pub use routes::{OPENAPI, operations};

use crate::access::Access;
use crate::config::{DaemonConfig, Limits, Tls};
use crate::dispatch::Dispatcher;
use crate::transport::private::PrivateFolder;
use bell::{Bell, News};
use front::Front;
use guard::Guard;
use http::HttpServer;
use link::{HttpLink, Underway};
use lists::Lists;
use log::{error, info};
use routes::Router;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The running listeners.
pub struct Listeners {
    front: Option<JoinHandle<()>>,
    bell: Arc<Bell>,
    /// Another thread waits for the next sign of life of the front.
    is_awaited: Arc<AtomicBool>,
    http: HttpServer,
    router: Arc<Router>,
    private: PrivateFolder,
    addresses: Vec<String>,
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listeners")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// How long the threads may take to give their first sign of life.
const FIRST_SIGN: Duration = Duration::from_secs(5);

impl Listeners {
    /// Binds every address of the config and starts to serve. Fails with a sentence that names
    /// the address, or says that there are no threads.
    pub fn start(config: &DaemonConfig, dispatcher: &Arc<Dispatcher>) -> io::Result<Self> {
        let bound = socket::bind(config)?;
        let addresses: Vec<String> = bound.iter().map(|(_, name)| name.clone()).collect();
        let private = PrivateFolder::new(config.state_directory.as_deref())?;
        let socket = private.path().join("http");
        let underway = Arc::<Underway>::default();
        let guard = Arc::new(Guard::new(&config.access, config.limits.wrong_tokens));
        let router = Arc::new(Router {
            dispatcher: Arc::clone(dispatcher),
            guard: Arc::clone(&guard),
            lists: Lists::start()?,
        });
        let http = HttpServer::start(
            socket::listen_private(&socket)?,
            Arc::clone(&router),
            Arc::clone(&underway),
        )?;
        let bell = Arc::new(Bell::new()?);
        let is_awaited = Arc::<AtomicBool>::default();
        let sockets = bound.into_iter().map(|(socket, _)| socket).collect();
        let front = Front::new(
            sockets,
            config,
            Arc::clone(dispatcher),
            Arc::clone(&guard),
            HttpLink::new(socket, underway),
            Arc::clone(&bell),
            Arc::clone(&is_awaited),
        )?;
        let front = std::thread::Builder::new()
            .name("front".into())
            .spawn(move || front.run())?;
        let mut listeners = Self {
            front: Some(front),
            bell,
            is_awaited,
            http,
            router,
            private,
            addresses,
        };
        if !listeners.live() {
            listeners.end(Duration::ZERO);
            let text = "the HTTP server gives no sign of life: \
                        is there a thread left for it (TasksMax of the unit, `ulimit -u`)?";
            return Err(io::Error::other(text));
        }
        for address in &listeners.addresses {
            info!(target: "pdud.listener", "listening on {address}");
        }
        Ok(listeners)
    }

    /// Do all threads give their first sign of life?
    fn live(&mut self) -> bool {
        self.ask();
        let until = Instant::now() + FIRST_SIGN;
        while !self.silent().is_empty() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        true
    }

    /// The addresses listened on, with the port the system chose where the config gave none.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Keeps other bounds from now on.
    pub fn set_limits(&self, limits: &Limits) {
        self.bell.ring(News::Limits(*limits));
        self.router.guard.allow_wrong_tokens(limits.wrong_tokens);
    }

    /// Speaks TLS so with those who connect from now on.
    pub fn set_tls(&self, tls: Option<Tls>) {
        self.bell.ring(News::Tls(tls));
    }

    /// Other rules for who may do what, from the next request on.
    pub fn set_access(&self, access: &Access) {
        self.router.guard.follow(access);
    }

    /// What does not move: threads that gave no sign of life since the last look, or a
    /// dispatcher that takes no requests. Asks all of them for the next sign.
    pub fn stuck(&mut self) -> Vec<&'static str> {
        let mut stuck = self.silent();
        if self.router.dispatcher.troubles().is_none() {
            stuck.push("dispatching");
        }
        self.ask();
        stuck
    }

    /// Those that have not given the sign of life that they were asked for.
    fn silent(&self) -> Vec<&'static str> {
        let threads = [
            ("the listeners", &self.is_awaited),
            ("HTTP", &self.http.is_awaited),
            ("lists", &self.router.lists.is_awaited),
        ];
        let silent = threads
            .into_iter()
            .filter(|(_, is_awaited)| is_awaited.load(Ordering::Acquire));
        silent.map(|(name, _)| name).collect()
    }

    /// Asks all threads for a sign of life.
    fn ask(&mut self) {
        // The front passes the question on to HTTP, which must know of it by then.
        self.http.is_awaited.store(true, Ordering::Release);
        self.is_awaited.store(true, Ordering::Release);
        self.bell.ring(News::Live);
        self.router.lists.ask();
    }

    /// Takes no further requests; those under way still get their answers.
    pub fn drain(&self) {
        self.bell.ring(News::Drain);
    }

    /// Waits until every client has its answer, at most until `patience` is over, and ends.
    pub fn end(mut self, patience: Duration) {
        let until = Instant::now() + patience;
        let Some(front) = self.front.take() else {
            return;
        };
        while !front.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.bell.ring(News::End);
        if front.join().is_err() {
            error!("the listener ended in a panic: this is a bug");
        }
        self.http.stop();
        drop(self.private);
    }
}
