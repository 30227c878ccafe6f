//! Host names to addresses, with a deadline, which `getaddrinfo` itself does not take.

use super::aside::aside;
use super::{Deadline, TransportError, TransportErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// The addresses of `host`. A literal costs nothing; another thread looks up a name, so that a dead
/// name server costs the caller the deadline and no more.
pub fn resolve(
    host: &str,
    port: u16,
    deadline: Deadline,
) -> Result<Vec<SocketAddr>, TransportError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let no_name = |why: String| TransportError::new(TransportErrorKind::NoName, why);
    let name = host.to_owned();
    let looking_up = format!("looking up {host}");
    let addresses = aside(
        &looking_up,
        TransportErrorKind::NoName,
        deadline,
        move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter),
    )?
    .map_err(|error| no_name(format!("cannot look up {host}: {error}")))?;
    if addresses.is_empty() {
        return Err(no_name(format!("the name {host} has no address")));
    }
    Ok(addresses)
}
