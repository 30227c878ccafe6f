//! Connections for `ureq`: `transport::tcp` below, TLS or a proxy's tunnel where wanted; and
//! `ureq`'s errors in our words.

use super::super::{Deadline, TransportError, TransportErrorKind, tcp};
use super::tls::{Tls, TlsStream};
use super::{MOST_HEAD, Origin};
use rustls::ClientConfig;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use ureq::Proxy;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout,
    Transport,
};

/// `ureq` has a moment only as time left; a day stands for none at all.
pub(super) fn deadline(timeout: &NextTimeout) -> Deadline {
    const DAY: Duration = Duration::from_secs(86_400);
    Deadline::after((*timeout.after).min(DAY))
}

/// Wraps our error, so that it comes out of `ureq` as it went in.
pub(super) fn wrap(error: TransportError) -> ureq::Error {
    ureq::Error::Other(Box::new(error))
}

/// What went wrong, in our words.
pub(super) fn explain(error: ureq::Error) -> TransportError {
    use TransportErrorKind as K;
    use ureq::Error as E;
    match error {
        E::Other(inner) => match inner.downcast::<TransportError>() {
            Ok(own) => *own,
            Err(other) => TransportError::new(K::Io, other.to_string()),
        },
        E::Timeout(_) => TransportError::new(K::Timeout, "no complete answer in time"),
        E::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => TransportError::new(
            K::Closed,
            "the connection was closed before the answer was complete",
        ),
        E::Io(error) => match error
            .get_ref()
            .and_then(|e| e.downcast_ref::<rustls::Error>())
        {
            Some(error) => TransportError::new(K::Garbled, format!("TLS: {error}")),
            None => TransportError::broken("waiting for an answer", &error),
        },
        E::LargeResponseHeader(..) => TransportError::new(
            K::Garbled,
            format!("the answer's headers are longer than {MOST_HEAD} bytes"),
        ),
        E::Protocol(error) => TransportError::new(K::Garbled, format!("not HTTP: {error}")),
        E::ConnectProxyFailed(words) => {
            TransportError::new(K::NoConnection, format!("the proxy refused: {words}"))
        }
        // The URL may hold a secret: these variants would print it.
        E::BadUri(_) | E::RequireHttpsOnly(_) => TransportError::new(K::Io, "not a URL"),
        other => TransportError::new(K::Garbled, other.to_string()),
    }
}

/// Looks up nothing: `transport::tcp` does when it connects.
#[derive(Debug)]
pub(super) struct NoLookUp;

impl Resolver for NoLookUp {
    fn resolve(
        &self,
        _: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

/// Makes connections.
pub(super) struct Wires {
    proxy: ConnectProxyConnector,
    /// Made before connecting where it is needed, so that its errors are told apart.
    config: Option<Arc<ClientConfig>>,
    tls: Tls,
}

impl Wires {
    pub(super) fn new(config: Option<Arc<ClientConfig>>, tls: Tls) -> Self {
        Self {
            proxy: ConnectProxyConnector::default(),
            config,
            tls,
        }
    }
}

impl fmt::Debug for Wires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wires")
    }
}

impl Connector for Wires {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let deadline = deadline(&details.timeout);
        let host = details.uri.host().unwrap_or_default();
        let host = host.trim_matches(['[', ']']);
        let transport: Box<dyn Transport> = match self.proxy.connect(details, None::<()>)? {
            Some(Either::B(tunnel)) => tunnel,
            Some(Either::A(())) | None => {
                let usual = if details.needs_tls() { 443 } else { 80 };
                let port = details.uri.port_u16().unwrap_or(usual);
                let connection = tcp::Connection::open(host, port, deadline).map_err(wrap)?;
                Box::new(Wire {
                    connection,
                    buffers: LazyBuffers::new(2 * MOST_HEAD, MOST_HEAD),
                })
            }
        };
        if !details.needs_tls() {
            return Ok(Some(transport));
        }
        let config = match &self.config {
            Some(config) => Arc::clone(config),
            None => self.tls.clone().config().map_err(wrap)?,
        };
        let stream = TlsStream::open(
            transport,
            host,
            config,
            deadline,
            details.current_time.clone(),
        )
        .map_err(wrap)?;
        Ok(Some(Box::new(stream)))
    }
}

/// A plain connection.
#[derive(Debug)]
struct Wire {
    connection: tcp::Connection,
    buffers: LazyBuffers,
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let bytes = self.buffers.output().get(..amount).unwrap_or_default();
        self.connection
            .send(bytes, deadline(&timeout))
            .map_err(wrap)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let room = self.buffers.input_append_buf();
        let more = self
            .connection
            .receive(room, deadline(&timeout))
            .map_err(wrap)?;
        self.buffers.input_appended(more);
        Ok(more > 0)
    }

    fn is_open(&mut self) -> bool {
        self.connection.is_quiet()
    }
}

/// The environment's proxy for `origin`.
pub(super) fn proxy(origin: &Origin) -> Result<Option<Proxy>, TransportError> {
    let scheme = if origin.tls {
        "https_proxy"
    } else {
        "http_proxy"
    };
    let variable = |name: &str| {
        [name.to_owned(), name.to_ascii_uppercase()]
            .iter()
            .find_map(|name| std::env::var(name).ok())
            .filter(|value| !value.is_empty())
    };
    let Some(url) = variable(scheme).or_else(|| variable("all_proxy")) else {
        return Ok(None);
    };
    if is_exempt(&origin.host, &variable("no_proxy").unwrap_or_default()) {
        return Ok(None);
    }
    match Proxy::new(&url) {
        Ok(proxy)
            if matches!(
                proxy.protocol(),
                ureq::ProxyProtocol::Http | ureq::ProxyProtocol::Https
            ) =>
        {
            Ok(Some(proxy))
        }
        // The URL may hold the proxy's password.
        _ => Err(TransportError::new(
            TransportErrorKind::NoConnection,
            format!("{scheme} of the environment is not an HTTP proxy"),
        )),
    }
}

/// Is `host` to be reached directly? `list` is `no_proxy`: names that stand for themselves and
/// everything below them, or `*`.
fn is_exempt(host: &str, list: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let own = host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    own || list.split(',').map(str::trim).any(|entry| {
        let entry = entry.trim_start_matches("*.").trim_start_matches('.');
        let entry = entry.to_ascii_lowercase();
        entry == "*" || !entry.is_empty() && (host == entry || host.ends_with(&format!(".{entry}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_listed_hosts_need_no_proxy() {
        for (host, list, exempt) in [
            ("127.0.0.1", "", true),
            ("localhost", "", true),
            ("::1", "", true),
            ("pdu", "", false),
            ("pdu", "a, PDU", true),
            ("pdu.lab", "lab", true),
            ("pdu.lab", ".lab", true),
            ("pdu.collab", "lab", false),
            ("pdu", "*", true),
        ] {
            assert_eq!(is_exempt(host, list), exempt, "{host} in {list:?}");
        }
    }

    #[test]
    fn errors_never_show_a_url() {
        let error = explain(ureq::Error::BadUri("http://pdu/?pass=secret".into()));
        assert!(!error.detail.contains("secret"));
    }
}
