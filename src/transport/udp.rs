//! Datagrams to one peer, and its answers from any address: a device with several addresses may
//! answer from another one than the one that we asked, and some answer from another port.
//!
//! Two sockets share one local port. The connected one sends, gets the datagrams of the peer itself,
//! and learns from the system when the peer has nobody on that port. The other one gets everything
//! else.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Instant;

/// Both sockets.
#[derive(Debug)]
pub(super) struct Datagrams {
    to_peer: UdpSocket,
    from_elsewhere: UdpSocket,
}

impl Datagrams {
    /// Sends nothing yet.
    pub(super) fn open(peer: SocketAddr) -> io::Result<Self> {
        let from_elsewhere = match peer {
            SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
        }?;
        // Only now: the system may give a socket that shares from the start a port that is in use.
        rustix::net::sockopt::set_socket_reuseport(&from_elsewhere, true)?;
        let to_peer = Socket::new(Domain::for_address(peer), Type::DGRAM, Some(Protocol::UDP))?;
        rustix::net::sockopt::set_socket_reuseport(&to_peer, true)?;
        to_peer.bind(&SockAddr::from(from_elsewhere.local_addr()?))?;
        to_peer.connect(&SockAddr::from(peer))?;
        // The system may announce a datagram that turns out to be broken.
        from_elsewhere.set_nonblocking(true)?;
        to_peer.set_nonblocking(true)?;
        Ok(Self {
            to_peer: to_peer.into(),
            from_elsewhere,
        })
    }

    /// Sends one datagram to the peer.
    pub(super) fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.to_peer.send(datagram).map(drop)
    }

    /// The length of the next datagram that comes before `until`, and whether it is from the peer's
    /// own address; `None` when none comes.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        until: Instant,
    ) -> io::Result<Option<(usize, bool)>> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut sockets = [
                PollFd::new(&self.to_peer, PollFlags::IN),
                PollFd::new(&self.from_elsewhere, PollFlags::IN),
            ];
            match poll(&mut sockets, Timespec::try_from(left).ok().as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [is_from_peer, is_from_elsewhere] =
                sockets.map(|socket| !socket.revents().is_empty());
            if is_from_peer && let Some(length) = received(self.to_peer.recv(buffer))? {
                return Ok(Some((length, true)));
            }
            if is_from_elsewhere && let Some(length) = received(self.from_elsewhere.recv(buffer))? {
                return Ok(Some((length, false)));
            }
        }
    }
}

/// The datagram; nothing when there is none after all.
fn received(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(length) => Ok(Some(length)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
