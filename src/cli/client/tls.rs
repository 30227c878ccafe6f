//! TLS to the daemon: its options, whom to trust, and the client's own certificate.

use super::CONNECT_PATIENCE;
use crate::cli::options::{Opt, UsageError, opt};
use crate::transport::tls::{Trust, client_config};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, TcpConnector, Transport,
    TransportAdapter,
};

/// The options, which both kinds of command lines have.
pub(super) const OPTIONS: [Opt; 4] = [
    opt(
        None,
        "tls",
        None,
        "speak TLS, as --ca and --cert do [$PDUDAEMON_TLS]",
    ),
    opt(
        None,
        "ca",
        Some("FILE"),
        "the authorities to trust [$PDUDAEMON_CA, else the system's]",
    ),
    opt(
        None,
        "cert",
        Some("FILE"),
        "your certificate, with the rights of its token [$PDUDAEMON_CERT]",
    ),
    opt(
        None,
        "key",
        Some("FILE"),
        "its key [$PDUDAEMON_KEY, else in the certificate's file]",
    ),
];

/// Bytes that are read and written at a time.
const BUFFER: usize = 64 * 1024;

/// What the command line says of TLS.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish {
    tls: bool,
    ca: Option<String>,
    cert: Option<String>,
    key: Option<String>,
}

impl Wish {
    /// Takes an option, if it is one of TLS; false for others.
    pub(super) fn take(
        &mut self,
        name: &str,
        value: impl FnOnce() -> Result<String, UsageError>,
    ) -> Result<bool, UsageError> {
        match name {
            "tls" => self.tls = true,
            "ca" => self.ca = Some(value()?),
            "cert" => self.cert = Some(value()?),
            "key" => self.key = Some(value()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// TLS as it is wished for; nothing where it is not.
    pub(super) fn grant(self) -> Result<Option<Tls>, String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let is_wanted = variable("PDUDAEMON_TLS").is_some_and(|text| text != "0");
        if !self.tls && self.ca.is_none() && self.cert.is_none() && !is_wanted {
            return match self.key {
                Some(_) => Err("--key: expected --cert with it".into()),
                None => Ok(None),
            };
        }
        let ca = self.ca.or_else(|| variable("PDUDAEMON_CA"));
        let trust = ca.map_or(Trust::System, |file| Trust::File(file.into()));
        let own = match self.cert.or_else(|| variable("PDUDAEMON_CERT")) {
            None => None,
            Some(cert) => {
                let key = self.key.or_else(|| variable("PDUDAEMON_KEY"));
                Some(own(&cert, key.as_deref().unwrap_or(&cert))?)
            }
        };
        let config = client_config(&trust, own).map_err(|error| error.detail)?;
        Ok(Some(Tls(Arc::new(config))))
    }
}

/// The client's own certificate and key.
type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn own(cert: &str, key: &str) -> Result<Own, String> {
    let read = |file: &str| std::fs::read(file).map_err(|error| format!("file {file}: {error}"));
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(cert)?)
        .filter_map(Result::ok)
        .collect();
    if chain.is_empty() {
        return Err(format!("file {cert}: has no certificate in PEM form"));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|_| format!("file {key}: has no private key in PEM form"))?;
    Ok((chain, key))
}

/// TLS as the user wants it.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Shakes hands with `host` over an open connection.
    pub(super) fn open<S: Read + Write>(
        &self,
        host: &str,
        mut stream: S,
    ) -> io::Result<StreamOwned<ClientConnection, S>> {
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| io::Error::other(format!("{host:?} is not a host name")))?;
        let mut tls = ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)?;
        tls.complete_io(&mut stream).map_err(explain)?;
        Ok(StreamOwned::new(tls, stream))
    }
}

/// What a person can do about it.
fn explain(error: io::Error) -> io::Error {
    use rustls::Error as E;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<E>());
    let hint = match inner {
        Some(E::InvalidCertificate(_)) => "name the certificate, or its authority, with --ca",
        Some(E::InvalidMessage(_)) => "what answers there does not speak TLS: leave --tls out",
        Some(E::AlertReceived(_)) => "the daemon does not want it so: is the certificate right?",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("no TLS connection: {error}; {hint}"))
}

/// An HTTP client of the daemon, with TLS or without. The scheme of the URL has to fit.
pub(super) fn agent(tls: Option<&Tls>, patience: Option<Duration>) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .timeout_connect(Some(CONNECT_PATIENCE))
        .timeout_global(patience)
        .build();
    match tls {
        None => ureq::Agent::new_with_config(config),
        Some(tls) => {
            let connector = TcpConnector::default().chain(tls.clone());
            ureq::Agent::with_parts(config, connector, DefaultResolver::default())
        }
    }
}

/// The scheme of the daemon's URLs.
pub(super) fn scheme(tls: Option<&Tls>) -> &'static str {
    if tls.is_some() { "https" } else { "http" }
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Secured;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Secured>, ureq::Error> {
        let Some(transport) = chained else {
            return Ok(None);
        };
        let transport: Box<dyn Transport> = Box::new(transport);
        let mut adapter = TransportAdapter::new(transport, details.current_time.clone());
        adapter.set_timeout(details.timeout);
        let stream = self.open(details.uri.host().unwrap_or_default(), adapter)?;
        Ok(Some(Secured {
            stream,
            buffers: LazyBuffers::new(BUFFER, BUFFER),
        }))
    }
}

/// An encrypted connection, as `ureq` wants it.
pub(super) struct Secured {
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    buffers: LazyBuffers,
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secured")
    }
}

impl Transport for Secured {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let input = self.buffers.input_append_buf();
        let amount = self.stream.read(input)?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
