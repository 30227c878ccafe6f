//! A client's socket, plain or with TLS: whoever reads or writes need not know which.
//!
//! A write says that bytes are out when the kernel has them. With TLS the bytes of one write may
//! be encrypted and only partly out: then it says "would block" like any other, and whoever writes
//! comes again with the same bytes. So nobody has to look after a second buffer.

use rustix::fd::{AsFd, BorrowedFd};
use rustls::{HandshakeKind, ServerConfig, ServerConnection};
use socket2::Socket;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The most that one write encrypts: one record.
const RECORD: usize = 16 * 1024;

/// A client's socket; it never blocks.
pub(super) struct ClientStream {
    socket: Socket,
    /// There from the moment the client asks for TLS.
    tls: OnceLock<Box<Mutex<TlsSession>>>,
}

/// One client's TLS.
struct TlsSession {
    tls: ServerConnection,
    /// So many bytes of the last write are encrypted and not all out.
    owed: usize,
    /// The client has our answer, and the rest is up to it: what costs time is over.
    has_answered: bool,
}

impl ClientStream {
    /// A socket that may turn out to carry TLS.
    pub(super) fn new(socket: Socket) -> Self {
        Self {
            socket,
            tls: OnceLock::new(),
        }
    }

    fn session(&self) -> Option<MutexGuard<'_, TlsSession>> {
        let session = self.tls.get()?;
        Some(session.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does it carry TLS?
    pub(super) fn is_secure(&self) -> bool {
        self.tls.get().is_some()
    }

    /// Bytes that are encrypted and wait for the client to take them.
    pub(super) fn owed(&self) -> usize {
        self.session().map_or(0, |session| session.owed)
    }

    /// Has the handshake come as far as our answer?
    pub(super) fn has_answered(&self) -> bool {
        self.session().is_some_and(|session| session.has_answered)
    }

    /// Is there something of the handshake that the client has not taken?
    pub(super) fn owes_handshake(&self) -> bool {
        self.session()
            .is_some_and(|session| session.tls.is_handshaking() && session.tls.wants_write())
    }

    /// Goes on with the handshake, with the bytes that were read already or, without any, with
    /// those that the socket has. When it is done: had the client a ticket, and which name stands in
    /// its certificate, which the authority of the config vouches for? An error ends the connection;
    /// the client has been told why.
    pub(super) fn shake(
        &self,
        config: &Arc<ServerConfig>,
        read: &[u8],
    ) -> io::Result<Option<(bool, Option<Arc<str>>)>> {
        if self.tls.get().is_none() {
            let tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
            let session = TlsSession {
                tls,
                owed: 0,
                has_answered: false,
            };
            let _ = self.tls.set(Box::new(Mutex::new(session)));
        }
        let Some(mut session) = self.session() else {
            return Ok(None);
        };
        session.shake(&self.socket, read)
    }

    /// Reads what has come onto the end of `input`; `chunk` is room for it. True when the client
    /// sends nothing more.
    pub(super) fn receive(&self, chunk: &mut [u8], input: &mut Vec<u8>) -> io::Result<bool> {
        if let Some(mut session) = self.session() {
            return session.receive(&self.socket, chunk, input);
        }
        let count = (&self.socket).read(chunk)?;
        input.extend_from_slice(chunk.get(..count).unwrap_or_default());
        Ok(count == 0)
    }

    /// Says that nothing more is sent, or read either.
    pub(super) fn shutdown(&self, how: Shutdown) {
        if let Some(mut session) = self.session() {
            session.tls.send_close_notify();
            // A client that does not take this is gone.
            let _ = session.push(&self.socket);
        }
        // Likewise.
        let _ = self.socket.shutdown(how);
    }
}

impl TlsSession {
    fn shake(
        &mut self,
        socket: &Socket,
        mut read: &[u8],
    ) -> io::Result<Option<(bool, Option<Arc<str>>)>> {
        if read.is_empty() {
            match self.tls.read_tls(&mut &*socket) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => self.process(socket)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        while !read.is_empty() && self.tls.read_tls(&mut read)? > 0 {
            self.process(socket)?;
        }
        self.has_answered |= self.tls.wants_write();
        match self.push(socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            pushed => pushed?,
        }
        if self.tls.is_handshaking() {
            return Ok(None);
        }
        let is_resumed = self.tls.handshake_kind() == Some(HandshakeKind::Resumed);
        let certificate = self.tls.peer_certificates().and_then(<[_]>::first);
        let name = certificate
            .and_then(|own| crate::config::certificate_name(own))
            .map(Arc::from);
        Ok(Some((is_resumed, name)))
    }

    fn receive(
        &mut self,
        socket: &Socket,
        chunk: &mut [u8],
        input: &mut Vec<u8>,
    ) -> io::Result<bool> {
        // What came with the end of the handshake is here already.
        let before = input.len();
        let mut has_ended = self.take(chunk, input)?;
        if input.len() > before || has_ended {
            return Ok(has_ended);
        }
        // When the socket has ended, the records tell whether the client said so, or was cut off.
        self.tls.read_tls(&mut &*socket)?;
        self.process(socket)?;
        has_ended = self.take(chunk, input)?;
        match input.len() > before || has_ended {
            true => Ok(has_ended),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Takes all that is decrypted. True when the client has said that it sends nothing more.
    fn take(&mut self, chunk: &mut [u8], input: &mut Vec<u8>) -> io::Result<bool> {
        let before = input.len();
        loop {
            match self.tls.reader().read(chunk) {
                Ok(0) => return Ok(true),
                Ok(count) => input.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                // It was cut off. What it had sent before that counts first.
                Err(_) if input.len() > before => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Decrypts what has come. The client is told what is wrong with it.
    fn process(&mut self, socket: &Socket) -> io::Result<()> {
        self.tls.process_new_packets().map_err(|error| {
            let _ = self.push(socket);
            io::Error::other(error)
        })?;
        Ok(())
    }

    /// Sends what is encrypted; "would block" when the client does not take all of it.
    fn push(&mut self, socket: &Socket) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut &*socket)?;
        }
        Ok(())
    }

    fn write(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        self.push(socket)?;
        let owed = std::mem::take(&mut self.owed);
        if owed > 0 {
            return Ok(owed.min(bytes.len()));
        }
        let record = bytes.get(..RECORD).unwrap_or(bytes);
        let taken = self.tls.writer().write(record)?;
        match self.push(socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.owed = taken;
                Err(error)
            }
            pushed => pushed.map(|()| taken),
        }
    }
}

impl AsFd for ClientStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Write for &ClientStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.session() {
            Some(mut session) => session.write(&self.socket, bytes),
            None => (&self.socket).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustix::event::{PollFd, PollFlags, poll};
    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
    use std::os::unix::net::UnixStream;

    /// Both ends' settings.
    fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["rack.lab".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a pair");
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).expect("a root");
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Arc::new(server), Arc::new(client))
    }

    #[test]
    fn a_slow_reader_gets_every_byte_once() {
        let (server, client) = configs();
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("set");
        let stream = ClientStream::new(ours.into());
        assert!(!stream.is_secure());
        let bytes: Vec<u8> = (0..=255u8).cycle().take(3 << 20).collect();
        let reader = std::thread::spawn(move || {
            let name = ServerName::try_from("rack.lab").expect("a name");
            let connection = ClientConnection::new(client, name).expect("a client");
            let mut theirs = StreamOwned::new(connection, theirs);
            theirs.write_all(b"all of it").expect("sent");
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).expect("read to a proper end");
            read
        });
        let (mut chunk, mut input) = (vec![0; RECORD], Vec::new());
        while !matches!(stream.shake(&server, &[]), Ok(Some(_))) {
            std::thread::yield_now();
        }
        assert!(stream.is_secure());
        while input != b"all of it" {
            match stream.receive(&mut chunk, &mut input) {
                Ok(has_ended) => assert!(!has_ended),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        let (mut sent, mut blocked) = (0, 0);
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match (&stream).write(rest) {
                Ok(count) => sent += count,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    assert!(stream.owed() <= RECORD);
                    blocked += 1;
                    std::thread::yield_now();
                }
            }
        }
        assert!(blocked > 0, "the reader was never slow");
        // The front says the end only to a client with room for it.
        let room = PollFd::new(&stream, PollFlags::OUT);
        poll(&mut [room], None).expect("room");
        stream.shutdown(Shutdown::Both);
        assert_eq!(reader.join().expect("read"), bytes);
    }
}
