//! TLS to a peer: whom to trust, and the encrypted connection.
//!
//! PDUs mostly have self-signed certificates, often without the names and flags that path
//! building wants. So a certificate that stands itself in the CA file is trusted as it is (the
//! peer still has to prove that it has the key), and any other is checked the usual way.

use super::{Deadline, TransportError, TransportErrorKind, regular, tcp};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme, StreamOwned,
};
use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes to and from a server, plain or not.
pub(super) trait Stream: fmt::Debug + Send + Sync {
    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), TransportError>;

    /// What has come, at most `room` of it; 0 when the peer closed.
    fn receive(&mut self, room: &mut [u8], deadline: Deadline) -> Result<usize, TransportError>;

    /// Is it still open, and has nothing come that nobody asked for?
    fn is_quiet(&self) -> bool;
}

impl Stream for tcp::Connection {
    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), TransportError> {
        self.send(bytes, deadline)
    }

    fn receive(&mut self, room: &mut [u8], deadline: Deadline) -> Result<usize, TransportError> {
        self.receive(room, deadline)
    }

    fn is_quiet(&self) -> bool {
        self.is_quiet()
    }
}

/// Which certificates are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those of this machine's authorities, or Mozilla's where the machine has none.
    #[default]
    System,
    /// Those of this PEM file: authorities, or the server's own certificate.
    File(PathBuf),
    /// Any: whoever answers is believed.
    Insecure,
}

/// Where Linux distributions keep the machine's authorities: Debian, Fedora, Alpine.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// The most certificates' bytes that are read from one file.
const MOST_PEM: u64 = 4 * 1024 * 1024;

/// The TLS settings, made once when first needed.
#[derive(Clone)]
pub(super) struct Tls {
    trust: Trust,
    config: Option<Arc<ClientConfig>>,
}

impl Tls {
    pub(super) fn new(trust: Trust) -> Self {
        Self {
            trust,
            config: None,
        }
    }

    pub(super) fn config(&mut self) -> Result<Arc<ClientConfig>, TransportError> {
        if let Some(config) = &self.config {
            return Ok(Arc::clone(config));
        }
        let config = client_config(&self.trust, None)?;
        Ok(Arc::clone(self.config.insert(Arc::new(config))))
    }
}

/// The settings of a client that trusts so, and has a certificate and a key of its own or not.
pub fn client_config(
    trust: &Trust,
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<ClientConfig, TransportError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(trust, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match own {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| unusable(&error)),
    }
}

fn unusable(error: &dyn fmt::Display) -> TransportError {
    TransportError::new(TransportErrorKind::Io, format!("TLS: {error}"))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let shown = file.display();
    let mut pem = Vec::new();
    regular::open(file)
        .map_err(|error| match error.kind() {
            // As with one that is missing: nothing was asked of the PDU yet.
            io::ErrorKind::Other => io::Error::new(io::ErrorKind::NotFound, error),
            _ => error,
        })
        .and_then(|open| open.take(MOST_PEM).read_to_end(&mut pem))
        .map_err(|error| TransportError::io(&format!("reading {shown}"), &error))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .filter_map(Result::ok)
        .collect();
    if certificates.is_empty() {
        return Err(TransportError::new(
            TransportErrorKind::NotFound,
            format!("{shown} has no certificate in PEM form"),
        ));
    }
    Ok(certificates)
}

/// Decides about the server's certificate.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None`: any certificate will do.
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    /// Certificates trusted as they are.
    own: Vec<CertificateDer<'static>>,
    /// `None` when no authority is known.
    authorities: Option<Arc<WebPkiServerVerifier>>,
}

impl Verifier {
    fn new(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Self, TransportError> {
        let mut store = RootCertStore::empty();
        let own = match trust {
            Trust::Insecure => {
                return Ok(Self {
                    provider: Arc::clone(provider),
                    known: None,
                });
            }
            Trust::File(file) => {
                let certificates = certificates(file)?;
                store.add_parsable_certificates(certificates.iter().cloned());
                certificates
            }
            Trust::System => {
                let bundle = BUNDLES
                    .iter()
                    .find_map(|file| certificates(Path::new(file)).ok());
                match bundle {
                    Some(bundle) => {
                        store.add_parsable_certificates(bundle);
                    }
                    None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
                }
                Vec::new()
            }
        };
        let authorities = if store.is_empty() {
            None
        } else {
            let builder =
                WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
            Some(builder.build().map_err(|error| unusable(&error))?)
        };
        Ok(Self {
            provider: Arc::clone(provider),
            known: Some(Known { own, authorities }),
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(known) = &self.known else {
            return Ok(ServerCertVerified::assertion());
        };
        if known.own.contains(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        match &known.authorities {
            Some(authorities) => authorities.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self.known {
            None => Ok(HandshakeSignatureValid::assertion()),
            Some(_) => verify_tls12_signature(
                message,
                cert,
                dss,
                &self.provider.signature_verification_algorithms,
            ),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self.known {
            None => Ok(HandshakeSignatureValid::assertion()),
            Some(_) => verify_tls13_signature(
                message,
                cert,
                dss,
                &self.provider.signature_verification_algorithms,
            ),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// An encrypted connection over another one.
pub(super) struct TlsStream(StreamOwned<ClientConnection, Timed>);

/// What `rustls` reads from and writes to, until the deadline of the call.
struct Timed {
    stream: Box<dyn Stream>,
    deadline: Deadline,
}

impl Read for Timed {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.stream
            .receive(room, self.deadline)
            .map_err(io::Error::other)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream
            .send(bytes, self.deadline)
            .map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TlsStream {
    /// Shakes hands with `host`.
    pub(super) fn open(
        stream: Box<dyn Stream>,
        host: &str,
        config: Arc<ClientConfig>,
        deadline: Deadline,
    ) -> Result<Self, TransportError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| unusable(&format!("{host:?} is not a host name")))?;
        let mut conn = ClientConnection::new(config, name).map_err(|error| unusable(&error))?;
        let mut sock = Timed { stream, deadline };
        conn.complete_io(&mut sock).map_err(handshake_failure)?;
        Ok(Self(StreamOwned { conn, sock }))
    }
}

/// Nothing was asked yet, so the peer cannot have acted.
fn handshake_failure(error: io::Error) -> TransportError {
    use TransportErrorKind as K;
    let inner = error.get_ref();
    match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(reason)) => TransportError::new(
            K::Untrusted,
            format!(
                "the certificate is not trusted, {}: name it, or its authority, in `ca_file`, \
                 or set `insecure`",
                why(reason)
            ),
        ),
        Some(other) => {
            let (kind, hint) = way_out(other);
            TransportError::new(kind, format!("no TLS connection: {other}{hint}"))
        }
        None => {
            let error = explain(error, "shaking hands");
            let hint = match error.kind {
                K::Closed => OLD_TLS,
                _ => "",
            };
            TransportError::new(
                K::NoConnection,
                format!("the TLS handshake failed: {}{hint}", error.detail),
            )
        }
    }
}

/// Which TLS is spoken here, and what a person can do about a PDU that has an older one.
const OLD_TLS: &str = "; maybe the PDU's TLS is too old: spoken here are 1.3, and 1.2 with ECDHE \
    and GCM or ChaCha20; set `protocol` to http, or put a local proxy in between (OLD TLS in \
    pdudaemon.conf(5) has a line to paste)";

/// What a person can do about a PDU whose TLS is older than what is spoken here, or is none.
fn way_out(error: &rustls::Error) -> (TransportErrorKind, &'static str) {
    use TransportErrorKind as K;
    use rustls::AlertDescription as A;
    use rustls::{Error as E, InvalidMessage as I};
    match error {
        E::AlertReceived(A::HandshakeFailure | A::ProtocolVersion | A::InsufficientSecurity)
        | E::PeerIncompatible(_)
        | E::InvalidMessage(I::UnknownProtocolVersion) => (K::Incompatible, OLD_TLS),
        E::InvalidMessage(_) => (
            K::NoConnection,
            "; what answers there does not speak TLS: is it the port for http?",
        ),
        _ => (K::NoConnection, ""),
    }
}

/// An error of `rustls`, or of what is below it, in our words.
fn explain(error: io::Error, doing: &str) -> TransportError {
    let kind = error.kind();
    if kind == io::ErrorKind::UnexpectedEof {
        return TransportError::new(
            TransportErrorKind::Closed,
            format!("the connection was closed while {doing}"),
        );
    }
    let inner = error.into_inner();
    match inner.map(|inner| inner.downcast::<TransportError>()) {
        Some(Ok(own)) => *own,
        Some(Err(other)) => {
            TransportError::new(TransportErrorKind::Garbled, format!("TLS: {other}"))
        }
        None => TransportError::broken(doing, &kind.into()),
    }
}

/// Why a certificate was refused, in words.
fn why(reason: &CertificateError) -> String {
    use CertificateError as E;
    match reason {
        E::UnknownIssuer => "nobody known vouches for it".into(),
        E::Expired | E::ExpiredContext { .. } => "it has expired".into(),
        E::NotValidYet | E::NotValidYetContext { .. } => "it is not valid yet".into(),
        E::NotValidForName | E::NotValidForNameContext { .. } => "it is for another name".into(),
        // What path building says to a certificate that is its own authority.
        E::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "it is self-signed".into()
        }
        other => format!("{other:?}"),
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsStream")
    }
}

impl Stream for TlsStream {
    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), TransportError> {
        self.0.sock.deadline = deadline;
        self.0
            .write_all(bytes)
            .and_then(|()| self.0.flush())
            .map_err(|error| explain(error, "sending"))
    }

    fn receive(&mut self, room: &mut [u8], deadline: Deadline) -> Result<usize, TransportError> {
        self.0.sock.deadline = deadline;
        match self.0.read(room) {
            // Few web servers of PDUs say good-bye before they close.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            other => other.map_err(|error| explain(error, "waiting for an answer")),
        }
    }

    fn is_quiet(&self) -> bool {
        self.0.sock.stream.is_quiet()
    }
}
