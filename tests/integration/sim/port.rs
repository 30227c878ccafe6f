//! Loopback ports of simulators, and how the threads that wait on them are ended.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Weak};

/// A socket that a simulator's thread waits on.
pub(crate) trait Waits: Send + Sync {
    /// Lets a wait end.
    fn wake(&self);
}

impl Waits for TcpListener {
    fn wake(&self) {
        if let Ok(address) = self.local_addr() {
            let _ = TcpStream::connect(address);
        }
    }
}

impl Waits for UdpSocket {
    fn wake(&self) {
        if let Ok(address) = self.local_addr() {
            let _ = self.send_to(&[], address);
        }
    }
}

/// Wakes the thread that has the socket. One that has ended has let go of it, and its port may be
/// another simulator's: that one is left alone.
pub(crate) struct Waker(Weak<dyn Waits>);

impl Waker {
    /// The socket for the thread, and what wakes it.
    pub(crate) fn of<S: Waits + 'static>(socket: S) -> (Arc<S>, Self) {
        let socket = Arc::new(socket);
        let weak: Weak<S> = Arc::downgrade(&socket);
        (socket, Self(weak))
    }

    /// Lets the thread see that it is to end.
    pub(crate) fn wake(&self) {
        if let Some(socket) = self.0.upgrade() {
            socket.wake();
        }
    }
}

/// A loopback port where nobody listens, for what may come later, or be gone for a while. From below
/// the system's own range, so that no other test is given it meanwhile.
pub(crate) fn free() -> u16 {
    // Not tried by a socket of ours: a program that is just being started would have it, too, for a
    // moment longer.
    let taken: String = ["tcp", "tcp6", "udp", "udp6"]
        .iter()
        .filter_map(|kind| std::fs::read_to_string(format!("/proc/net/{kind}")).ok())
        .collect();
    next(Ipv4Addr::LOCALHOST.into(), |address| {
        let port = address.port();
        (!taken.contains(&format!(":{port:04X} "))).then_some(port)
    })
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
    let start = (std::process::id() % 1000) as u16 * 10;
    let ports = (0..10_000).map(|_| {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::SeqCst));
        20_000 + offset % 10_000
    });
    ports
        .map(|port| SocketAddr::new(ip, port))
        .find_map(take)
        .expect("a loopback port")
}
