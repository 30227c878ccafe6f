//! `pdudaemon --health`: asks the daemon of a config, on each address that it listens on, whether it
//! can serve. Any program that watches over a container can start it; no token is needed.

use crate::config::{DaemonConfig, Listen, Protocols};
use crate::transport::resolve::resolve;
use crate::transport::tls::{Trust, client_config};
use crate::transport::{Deadline, TransportError, printable};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde::Deserialize;
use socket2::Socket;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// All addresses together must answer within this time.
const PATIENCE: Duration = Duration::from_secs(3);
/// No answer is longer: thousands of PDUs that are away fit.
const MOST_BYTES: u64 = 8 * 1024 * 1024;
/// HTTP/1.0: the daemon sends the answer in one piece, and closes the connection behind it.
const QUESTION: &[u8] = b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n";

/// The answer of `/healthz`.
#[derive(Deserialize)]
struct Health {
    status: String,
    red: Vec<String>,
    degraded: Vec<Degraded>,
}

#[derive(Deserialize)]
struct Degraded {
    pdu: Option<String>,
    detail: String,
}

/// The daemon's own word for how it is, with the PDUs that are in trouble: these are no reason to start
/// it again. Fails, with the address and the reason, where it does not serve.
pub fn ask(config: &DaemonConfig) -> Result<String, String> {
    if config.protocols == Protocols::Tcp {
        return Err(
            "daemon.listener is \"tcp\", and only HTTP can be asked for the daemon's health: \
                    expected \"both\" or \"http\""
                .into(),
        );
    }
    if config.port == 0
        && config
            .listen
            .iter()
            .any(|at| !matches!(at, Listen::Unix(_)))
    {
        return Err(
            "daemon.port is 0: the system chose the port, and nobody else knows it; expected a number"
                .into(),
        );
    }
    let deadline = Deadline::after(PATIENCE);
    let mut last = String::new();
    for listen in &config.listen {
        let name = match listen {
            Listen::All => format!("port {}", config.port),
            Listen::Host(host) => format!("{host}, port {}", config.port),
            Listen::Unix(path) => path.display().to_string(),
        };
        last = ask_one(listen, config, deadline)
            .map_err(|why| format!("the daemon at {name} does not serve: {why}"))?;
    }
    Ok(last)
}

fn ask_one(listen: &Listen, config: &DaemonConfig, deadline: Deadline) -> Result<String, String> {
    let words = |error: TransportError| error.detail;
    let line = Line {
        socket: connect(listen, config.port, deadline).map_err(words)?,
        deadline,
    };
    // A daemon whose new certificate cannot be used still speaks TLS with the one before. A Unix
    // socket is no network.
    let is_encrypted = config.tls.is_some() && !matches!(listen, Listen::Unix(_));
    let answer = if is_encrypted {
        exchange(encrypted(line).map_err(words)?)
    } else {
        exchange(line)
    };
    let answer = answer.map_err(|error| words(TransportError::io("asking /healthz", &error)))?;
    understood(&answer)
}

/// What the answer says of the daemon.
fn understood(answer: &[u8]) -> Result<String, String> {
    let head_end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = head_end.and_then(|end| answer.get(end + 4..));
    let health: Option<Health> = body.and_then(|body| serde_json::from_slice(body).ok());
    let Some(health) = health else {
        let first = answer.split(|byte| *byte == b'\r').next();
        return Err(format!(
            "expected the answer of a pdudaemon, got {}",
            printable(first.unwrap_or_default())
        ));
    };
    let troubles = health.degraded.iter().map(|trouble| match &trouble.pdu {
        Some(pdu) => format!("PDU {pdu}: {}", trouble.detail),
        None => trouble.detail.clone(),
    });
    let told: Vec<String> = health.red.iter().cloned().chain(troubles).collect();
    let text = match told.is_empty() {
        true => health.status,
        false => format!("{}: {}", health.status, told.join("; ")),
    };
    match answer.starts_with(b"HTTP/1.1 200 ") || answer.starts_with(b"HTTP/1.0 200 ") {
        true => Ok(text),
        false => Err(text),
    }
}

fn connect(listen: &Listen, port: u16, deadline: Deadline) -> Result<Socket, TransportError> {
    const DOING: &str = "connecting";
    let addresses: Vec<SocketAddr> = match listen {
        Listen::Unix(path) => {
            let stream = UnixStream::connect(path);
            return stream
                .map(Socket::from)
                .map_err(|error| TransportError::io(DOING, &error));
        }
        Listen::All => vec![(Ipv4Addr::LOCALHOST, port).into()],
        Listen::Host(host) => resolve(host.trim_matches(['[', ']']), port, deadline)?,
    };
    let mut last = None;
    // A name may have an address of a family that is switched off here.
    for address in addresses {
        match TcpStream::connect_timeout(&address, deadline.left(DOING)?) {
            Ok(stream) => return Ok(stream.into()),
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| io::Error::other("the name has no address"));
    Err(TransportError::io(DOING, &error))
}

/// Any certificate will do: we tell the daemon no secret, and it may still show the certificate that
/// it had before the file was renewed.
fn encrypted(line: Line) -> Result<StreamOwned<ClientConnection, Line>, TransportError> {
    let failed =
        |error: rustls::Error| TransportError::io("beginning TLS", &io::Error::other(error));
    let config = Arc::new(client_config(&Trust::Insecure, None)?);
    let localhost = ServerName::from(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST));
    let client = ClientConnection::new(config, localhost).map_err(failed)?;
    Ok(StreamOwned::new(client, line))
}

fn exchange(mut stream: impl Read + Write) -> io::Result<Vec<u8>> {
    stream.write_all(QUESTION)?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.take(MOST_BYTES).read_to_end(&mut answer) {
        // The end of the connection without the end of TLS: a whole answer is known by its JSON.
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(answer),
    }
}

/// A connection on which no call outlasts the deadline.
struct Line {
    socket: Socket,
    deadline: Deadline,
}

impl Line {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.left("the answer");
        left.map_err(|error| io::Error::new(ErrorKind::TimedOut, error))
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        self.socket.read(buffer)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
