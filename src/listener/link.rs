//! The private connection to tiny_http: it carries the requests of all clients, one behind the
//! other, and nothing comes back on it. Answers go to the clients' sockets.

use super::response::HttpAsker;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use std::collections::HashMap;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What it is called in the front's epoll.
pub(super) const TOKEN: u64 = 1023;
/// How long tiny_http may take to accept the connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests of one round of the front go out together, but not more than this at a time.
const FULL: usize = 8 * 1024;

/// The requests on their way through tiny_http: who asked, by the numbers of their connections.
#[derive(Debug, Default)]
pub(super) struct Underway {
    askers: Mutex<HashMap<u64, (HttpAsker, usize)>>,
    /// The memory that the requests of all askers take up; it changes under the lock.
    size: AtomicUsize,
}

impl Underway {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, (HttpAsker, usize)>> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that takes up this much is on its way.
    fn add(&self, number: u64, asker: HttpAsker, size: usize) {
        let mut askers = self.lock();
        self.size.fetch_add(size, Ordering::Relaxed);
        askers.insert(number, (asker, size));
    }

    /// The asker of the request that has arrived.
    pub(super) fn take(&self, number: u64) -> Option<HttpAsker> {
        let mut askers = self.lock();
        let (asker, size) = askers.remove(&number)?;
        self.size.fetch_sub(size, Ordering::Relaxed);
        Some(asker)
    }

    /// All askers, whose requests will not arrive.
    fn take_all(&self) -> HashMap<u64, (HttpAsker, usize)> {
        let mut askers = self.lock();
        self.size.store(0, Ordering::Relaxed);
        std::mem::take(&mut askers)
    }
}

/// The front's end of the connection.
#[derive(Debug)]
pub(super) struct HttpLink {
    socket: PathBuf,
    underway: Arc<Underway>,
    stream: Option<UnixStream>,
    output: Vec<u8>,
    waits_for_room: bool,
}

impl HttpLink {
    /// A connection to the server on `socket`, which finds the askers in `underway`.
    pub(super) fn new(socket: PathBuf, underway: Arc<Underway>) -> Self {
        Self {
            socket,
            underway,
            stream: None,
            output: Vec::new(),
            waits_for_room: false,
        }
    }

    /// The memory of the requests that tiny_http or the server has not taken yet, whether their
    /// clients are here or gone.
    pub(super) fn size(&self) -> usize {
        self.underway.size.load(Ordering::Relaxed)
    }

    /// Takes a request of this size in memory; it is on its way at the latest after the next `flush`. Even when that fails
    /// it is one of those that `cut` returns.
    pub(super) fn send(
        &mut self,
        epoll: &OwnedFd,
        number: u64,
        asker: HttpAsker,
        size: usize,
        request: [&[u8]; 3],
    ) -> io::Result<()> {
        self.underway.add(number, asker, size);
        self.put(epoll, request)
    }

    /// Sends a request that nobody asks and nobody answers: that it arrives is the sign of life.
    pub(super) fn probe(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        self.put(epoll, [b"GET / HTTP/1.1\r\n\r\n", b"", b""])?;
        self.flush(epoll)
    }

    fn put(&mut self, epoll: &OwnedFd, request: [&[u8]; 3]) -> io::Result<()> {
        if self.stream.is_none() {
            let stream = connect(&self.socket)?;
            let data = epoll::EventData::new_u64(TOKEN);
            epoll::add(epoll, &stream, data, epoll::EventFlags::IN)?;
            self.stream = Some(stream);
        }
        for part in request {
            self.output.extend_from_slice(part);
        }
        if self.output.len() >= FULL && !self.waits_for_room {
            self.flush(epoll)?;
        }
        Ok(())
    }

    /// Sends the requests that `Link` has taken; a byte that finds no room waits for the epoll.
    pub(super) fn flush(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        let Some(stream) = &self.stream else {
            return Ok(());
        };
        let mut sent = 0;
        while let Some(rest) = self.output.get(sent..).filter(|rest| !rest.is_empty()) {
            match (&*stream).write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => sent += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output.drain(..sent);
        let waits_for_room = !self.output.is_empty();
        if waits_for_room != self.waits_for_room {
            self.waits_for_room = waits_for_room;
            let mut interest = epoll::EventFlags::IN;
            interest.set(epoll::EventFlags::OUT, waits_for_room);
            let data = epoll::EventData::new_u64(TOKEN);
            epoll::modify(epoll, stream, data, interest)?;
        }
        Ok(())
    }

    /// Gives the connection up; the next request makes another. The numbers and the askers whose
    /// requests were lost with it: the server does not find them any more.
    pub(super) fn cut(&mut self) -> Vec<(u64, HttpAsker)> {
        self.stream = None;
        self.output.clear();
        self.waits_for_room = false;
        let lost = self.underway.take_all().into_iter();
        lost.map(|(number, (asker, _))| (number, asker)).collect()
    }
}

/// The accept loop of tiny_http hands each connection to a thread, so it is seldom full.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let until = Instant::now() + PATIENCE;
    let address = socket2::SockAddr::unix(path)?;
    loop {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address) {
            Ok(()) => return Ok(UnixStream::from(OwnedFd::from(socket))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
}
