//! Loopback ports of simulators, and the one way in which a simulator's thread is begun, woken and
//! ended.

use rustix::net::{self, AddressFamily, SocketType, sockopt};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;

/// A socket that a simulator's thread waits on.
pub(crate) trait Waits: Send + Sync {
    fn address(&self) -> SocketAddr;

    /// Lets a wait end.
    fn wake(&self);
}

impl Waits for TcpListener {
    fn address(&self) -> SocketAddr {
        self.local_addr().expect("an address")
    }

    fn wake(&self) {
        let _ = TcpStream::connect(self.address());
    }
}

impl Waits for UdpSocket {
    fn address(&self) -> SocketAddr {
        self.local_addr().expect("an address")
    }

    fn wake(&self) {
        let _ = self.send_to(&[], self.address());
    }
}

/// Is a simulator to end? Its thread looks after each wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending(Arc<AtomicBool>);

impl Ending {
    pub(crate) fn is_near(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// The thread has still to be woken.
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A simulator: a socket, and the thread that serves it until this is ended or dropped.
pub(crate) struct Served<T: Send + 'static = ()> {
    pub(crate) address: SocketAddr,
    ending: Ending,
    /// The thread has the socket. When it has ended it has let go of it, and its port may be another
    /// simulator's: that one is not woken.
    socket: Weak<dyn Waits>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Served<T> {
    /// Begins to serve the socket.
    pub(crate) fn on<S: Waits + 'static>(
        socket: S,
        serve: impl FnOnce(&S, &Ending) -> T + Send + 'static,
    ) -> Self {
        let (address, ending, socket) = (socket.address(), Ending::default(), Arc::new(socket));
        let (waits, told): (Weak<S>, Ending) = (Arc::downgrade(&socket), ending.clone());
        Self {
            address,
            ending,
            socket: waits,
            thread: Some(std::thread::spawn(move || serve(&socket, &told))),
        }
    }

    /// Ends it, and gives what its thread has left; the thread's panic is the caller's.
    pub(crate) fn end(mut self) -> T {
        self.join()
            .expect("ended once")
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn join(&mut self) -> Option<std::thread::Result<T>> {
        let thread = self.thread.take()?;
        self.ending.begin();
        if let Some(socket) = self.socket.upgrade() {
            socket.wake();
        }
        Some(thread.join())
    }
}

impl Served {
    /// Serves connections, one after the other, on any port of the loopback address. The last one
    /// may be that which wakes the thread: nobody speaks there.
    pub(crate) fn connections(serve: impl FnMut(TcpStream, &Ending) + Send + 'static) -> Self {
        Self::connections_on(listener(Ipv4Addr::LOCALHOST.into()), serve)
    }

    /// The same on this port. Whoever has connected before the end is served.
    pub(crate) fn connections_on(
        listener: TcpListener,
        mut serve: impl FnMut(TcpStream, &Ending) + Send + 'static,
    ) -> Self {
        Self::on(listener, move |listener, ending| {
            for stream in listener.incoming() {
                if let Ok(stream) = stream {
                    serve(stream, ending);
                }
                if ending.is_near() {
                    return;
                }
            }
        })
    }
}

impl<T: Send + 'static> Drop for Served<T> {
    fn drop(&mut self) {
        // A test that has failed already is told of first.
        let ended = self.join();
        assert!(
            !matches!(ended, Some(Err(_))) || std::thread::panicking(),
            "the simulator has a bug"
        );
    }
}

/// A loopback port where nobody listens, for what may come later, or be gone for a while. No other
/// test is given it meanwhile, neither by the system nor by us.
pub(crate) fn free() -> u16 {
    // Not tried by a socket of ours: a program that is just being started would have it, too, for a
    // moment longer. Who has one of ours all the same is a program that outlived its test.
    // A connection that has ended and is only remembered (state 06) keeps nobody from its port.
    let taken: String = ["tcp", "tcp6", "udp", "udp6"]
        .iter()
        .filter_map(|kind| std::fs::read_to_string(format!("/proc/net/{kind}")).ok())
        .flat_map(|table| {
            let lines = table.lines().map(str::to_owned);
            let lines = lines.filter(|line| line.split_whitespace().nth(3) != Some("06"));
            lines.collect::<Vec<String>>()
        })
        .collect();
    next(Ipv4Addr::LOCALHOST.into(), |address| {
        let port = address.port();
        (!taken.contains(&format!(":{port:04X} "))).then_some(port)
    })
}

/// A port that is taken, though nobody listens there: whoever connects is refused. None, when
/// somebody else has it.
pub(crate) fn kept(address: SocketAddr) -> Option<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = net::socket(family, SocketType::STREAM, None).expect("a socket");
    sockopt::set_socket_reuseaddr(&socket, true).expect("set");
    net::bind(&socket, &address).ok()?;
    Some(socket)
}

/// A listener on such a port.
pub(crate) fn listener(ip: IpAddr) -> TcpListener {
    next(ip, |address| TcpListener::bind(address).ok())
}

/// A socket for datagrams on such a port.
pub(crate) fn datagrams(ip: IpAddr) -> UdpSocket {
    next(ip, |address| UdpSocket::bind(address).ok())
}

/// What the first port in turn gives that can be had.
fn next<T>(ip: IpAddr, take: impl Fn(SocketAddr) -> Option<T>) -> T {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let (first, _) = OWN.get_or_init(claim);
    let ports = (0..BLOCK).map(|_| first + NEXT.fetch_add(1, Ordering::SeqCst) % BLOCK);
    ports
        .map(|port| SocketAddr::new(ip, port))
        .find_map(take)
        .expect("a loopback port")
}

/// As many ports are one process's own.
const BLOCK: u16 = 4_000;

/// The first of this process's own ports, and the name that keeps others away from them.
static OWN: OnceLock<(u16, Option<UnixDatagram>)> = OnceLock::new();

/// Takes a block of ports below the system's own range that no other process of these tests has.
/// The name of its owner goes with the process, however that ends.
fn claim() -> (u16, Option<UnixDatagram>) {
    let mut blocks = (20_000..32_000).step_by(usize::from(BLOCK));
    let claimed = blocks.find_map(|first| {
        let name = format!("ports of a test of pdudaemon from {first}");
        let name = std::os::unix::net::SocketAddr::from_abstract_name(name).expect("a name");
        Some((first, Some(UnixDatagram::bind_addr(&name).ok()?)))
    });
    // So many processes at once have to share.
    claimed.unwrap_or((20_000 + (std::process::id() % 3) as u16 * BLOCK, None))
}
