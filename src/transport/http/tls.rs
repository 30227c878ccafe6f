//! TLS for HTTP: whom to trust, and the encrypted connection.
//!
//! PDUs mostly have self-signed certificates, often without the names and flags that path
//! building wants. So a certificate that stands itself in the CA file is trusted as it is (the
//! peer still has to prove that it has the key), and any other is checked the usual way.

use super::super::{Deadline, TransportError, TransportErrorKind};
use super::MOST_HEAD;
use super::wire::explain;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme, StreamOwned,
};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{
    Buffers, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

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
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new(&self.trust, &provider)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Arc::clone(self.config.insert(Arc::new(config))))
    }
}

fn unusable(error: &dyn fmt::Display) -> TransportError {
    TransportError::new(TransportErrorKind::Io, format!("TLS: {error}"))
}

/// Opens a regular file; a pipe that nobody writes to would be waited for, past every deadline.
fn open(file: &Path) -> io::Result<File> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut options = File::options();
    let file = options.read(true).custom_flags(nonblocking).open(file)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        // As with one that is missing: nothing was asked of the PDU yet.
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            "it is not a regular file",
        ))
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let shown = file.display();
    let mut pem = Vec::new();
    open(file)
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
pub(super) struct TlsStream {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl TlsStream {
    /// Shakes hands with `host`.
    pub(super) fn open(
        transport: Box<dyn Transport>,
        host: &str,
        config: Arc<ClientConfig>,
        deadline: Deadline,
        clock: Arc<dyn Fn() -> Instant + Send + Sync>,
    ) -> Result<Self, TransportError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| unusable(&format!("{host:?} is not a host name")))?;
        let mut conn = ClientConnection::new(config, name).map_err(|error| unusable(&error))?;
        let mut sock = TransportAdapter::new(transport, clock);
        sock.set_timeout(NextTimeout {
            after: Duration::Exact(deadline.left("the TLS handshake")?),
            ..NextTimeout::default()
        });
        conn.complete_io(&mut sock).map_err(handshake_failure)?;
        Ok(Self {
            buffers: LazyBuffers::new(2 * MOST_HEAD, MOST_HEAD),
            stream: StreamOwned { conn, sock },
        })
    }
}

/// Nothing was asked yet, so the peer cannot have acted.
fn handshake_failure(error: std::io::Error) -> TransportError {
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
        Some(other) => TransportError::new(
            K::NoConnection,
            format!("no TLS 1.2 or 1.3 connection: {other}"),
        ),
        None => {
            let error = explain(ureq::Error::from(error));
            TransportError::new(
                K::NoConnection,
                format!("the TLS handshake failed: {}", error.detail),
            )
        }
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

impl Transport for TlsStream {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let bytes = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(bytes)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let more = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(more);
        Ok(more > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
