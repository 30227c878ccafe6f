//! HTTP: tiny_http behind the front. It reads requests from the private socket, one behind the
//! other, and the thread `http` hands each to the router.

use super::head::CLIENT_HEADER;
use super::link::Underway;
use super::routes::Router;
use log::error;
use std::io;
use std::os::unix::net::UnixListener;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tiny_http::{Request, Server};

/// The HTTP server on the private socket.
pub(super) struct HttpServer {
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
    ends: Arc<AtomicBool>,
    /// Another thread waits for the next sign of life: any request that comes over the private socket.
    pub(super) is_awaited: Arc<AtomicBool>,
}

impl HttpServer {
    /// Serves the requests that the front sends to `listener`.
    pub(super) fn start(
        listener: UnixListener,
        router: Arc<Router>,
        underway: Arc<Underway>,
    ) -> io::Result<Self> {
        // Where there is no thread for it, tiny_http panics.
        let server = catch_unwind(|| Server::from_listener(listener, None))
            .map_err(|_| io::Error::other("cannot start the threads of the HTTP server"))?
            .map_err(|error| io::Error::other(error.to_string()))?;
        let (server, ends) = (Arc::new(server), Arc::<AtomicBool>::default());
        let is_awaited = Arc::<AtomicBool>::default();
        let (requests, shall_end) = (Arc::clone(&server), Arc::clone(&ends));
        let given = Arc::clone(&is_awaited);
        let thread = std::thread::Builder::new()
            .name("http".into())
            .spawn(move || {
                loop {
                    let request = match requests.recv() {
                        Ok(request) => request,
                        Err(_) if shall_end.load(Ordering::Acquire) => break,
                        // The error of a single connection.
                        Err(_) => continue,
                    };
                    given.store(false, Ordering::Release);
                    match asker_number(&request).and_then(|number| underway.take(number)) {
                        Some(asker) => router.serve(request, asker),
                        None => drop(request.into_writer()),
                    }
                }
            })?;
        Ok(Self {
            server,
            thread: Some(thread),
            ends,
            is_awaited,
        })
    }

    /// Takes no further requests; workers answer those that were taken.
    pub(super) fn stop(&mut self) {
        self.ends.store(true, Ordering::Release);
        self.server.unblock();
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            error!("the HTTP listener ended in a panic: this is a bug");
        }
    }
}

/// The number of the connection over which the request came. The front writes it into the last
/// header, and refuses that header from clients.
fn asker_number(request: &Request) -> Option<u64> {
    let last = request.headers().last()?;
    let number = last.value.as_str().parse().ok();
    number.filter(|_| last.field.equiv(CLIENT_HEADER))
}
