//! Host names to addresses, with a deadline that `getaddrinfo` itself cannot be given.

use super::{Deadline, TransportError, TransportErrorKind};
use crossbeam_channel::RecvTimeoutError;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// The addresses of `host`. A literal costs nothing; a name is looked up on a helper thread, so
/// that a dead name server costs its caller the deadline and no more (the helper ends when the
/// resolver gives up).
pub fn resolve(
    host: &str,
    port: u16,
    deadline: Deadline,
) -> Result<Vec<SocketAddr>, TransportError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let no_name = |why: String| TransportError::new(TransportErrorKind::NoName, why);
    let (sender, receiver) = crossbeam_channel::bounded(1);
    let name = host.to_owned();
    std::thread::Builder::new()
        .name("resolve".into())
        .spawn(move || {
            let answer = (name.as_str(), port).to_socket_addrs().map(Vec::from_iter);
            // The caller may have stopped waiting.
            let _ = sender.send(answer);
        })
        .map_err(|error| TransportError::io("starting the resolver thread", &error))?;
    match receiver.recv_timeout(deadline.left("looking up the host name")?) {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) => Err(no_name(format!("the name {host} has no address"))),
        Ok(Err(error)) => Err(no_name(format!("cannot look up {host}: {error}"))),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(no_name(format!(
            "the name server did not answer for {host} in time"
        ))),
    }
}
