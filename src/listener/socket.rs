//! Listening sockets: every address a config can name, with a backlog for thousands.

use crate::config::{DaemonConfig, Listen};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Clients that may wait to be accepted; std asks for 128 only.
const BACKLOG: i32 = 4096;

/// The sockets of the config, none of which blocks, each with its name for the log.
pub(super) fn bind(config: &DaemonConfig) -> io::Result<Vec<(Socket, String)>> {
    let mut bound = Vec::new();
    // With port 0, the port the system chose for the first address serves all of them.
    let mut port = config.port;
    for listen in &config.listen {
        let named = |name: &str, error: &io::Error| {
            io::Error::new(error.kind(), format!("cannot listen on {name}: {error}"))
        };
        match listen {
            Listen::Unix(path) => {
                let name = path.display().to_string();
                let socket = bind_unix(path).map_err(|error| named(&name, &error))?;
                bound.push((socket.into(), name));
            }
            Listen::Host(host) => {
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                let addresses: Vec<SocketAddr> = (bare, port)
                    .to_socket_addrs()
                    .map_err(|error| named(host, &error))?
                    .collect();
                let mut last = None;
                let before = bound.len();
                for mut address in addresses {
                    address.set_port(port);
                    match bind_tcp(address) {
                        Ok(socket) => push(&mut bound, socket, &mut port)?,
                        // A name may have an address of a family that is switched off here.
                        Err(error) => last = Some(named(&address.to_string(), &error)),
                    }
                }
                if bound.len() == before
                    || last
                        .as_ref()
                        .is_some_and(|e| e.kind() == io::ErrorKind::AddrInUse)
                {
                    return Err(
                        last.unwrap_or_else(|| io::Error::other(format!("{host} has no address")))
                    );
                }
            }
            Listen::All => {
                let v4 = bind_tcp((Ipv4Addr::UNSPECIFIED, port).into())
                    .map_err(|error| named("0.0.0.0", &error))?;
                push(&mut bound, v4, &mut port)?;
                match bind_tcp((Ipv6Addr::UNSPECIFIED, port).into()) {
                    Ok(v6) => push(&mut bound, v6, &mut port)?,
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        return Err(named("[::]", &error));
                    }
                    // A machine without IPv6.
                    Err(error) => log::debug!("not listening on IPv6: {error}"),
                }
            }
        }
    }
    Ok(bound)
}

fn push(bound: &mut Vec<(Socket, String)>, socket: TcpListener, port: &mut u16) -> io::Result<()> {
    let address = socket.local_addr()?;
    *port = address.port();
    bound.push((socket.into(), address.to_string()));
    Ok(())
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    // What it accepts inherits this.
    socket.set_tcp_nodelay(true)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A Unix socket for clients; whoever may write to the file may switch. A socket that nobody
/// serves any more is replaced.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket {
        if UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let listener = listen_unix(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The private socket between the front and tiny_http.
pub(super) fn listen_private(path: &Path) -> io::Result<UnixListener> {
    let listener = listen_unix(path)?;
    // Nobody else may open it.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(std::os::fd::OwnedFd::from(socket).into())
}
