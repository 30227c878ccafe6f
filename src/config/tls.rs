//! The `daemon.tls` section: the certificate and its key, who vouches for clients, and who may go
//! without TLS.
//!
//! Everything is read and tried here, so that `--check`, the start and a reload find the same.

use super::certificate;
use super::file::TLS;
use super::reader::{Entry, Reader, find, join};
use crate::settings::FileError;
use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

const TLS_KEYS: &[&str] = &["certificate", "key", "client_ca", "plain"];
/// From so many days before the end of a certificate on, people are told.
const SOON: i64 = 14;
const DAY: i64 = 86_400;

/// Who may speak without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plain {
    /// Nobody; Unix sockets are no network.
    Refuse,
    /// Clients on this machine.
    #[default]
    Loopback,
    /// Everybody.
    Allow,
}

impl FromStr for Plain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "loopback" => Ok(Self::Loopback),
            "allow" => Ok(Self::Allow),
            _ => Err(format!(
                "expected \"refuse\", \"loopback\" or \"allow\", got {text:?}"
            )),
        }
    }
}

/// TLS as the listeners speak it: all files are read, and fit together.
#[derive(Clone)]
pub struct Tls {
    /// What each handshake begins with.
    pub server: Arc<ServerConfig>,
    /// Who may speak without TLS.
    pub plain: Plain,
    /// When the certificate ends.
    pub expires: Timestamp,
    /// A hash of what the files hold.
    content: [u8; 32],
}

impl PartialEq for Tls {
    /// Is it the same certificate, key and authority?
    fn eq(&self, other: &Self) -> bool {
        (self.plain, self.content) == (other.plain, other.content)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("plain", &self.plain)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Whole days until `expires`; negative once it is over.
fn days_left(expires: Timestamp) -> i64 {
    (expires.as_second() - Timestamp::now().as_second()).div_euclid(DAY)
}

impl<'a> Reader<'a> {
    /// Reads the section. Its first error is the result; all of them are told.
    pub(super) fn tls(&mut self, value: &'a RawValue, has_tokens: bool) -> Result<Tls, FileError> {
        let first = self.findings.errors.len();
        let read = self
            .known_object(TLS, value, TLS_KEYS)
            .and_then(|entries| self.tls_section(value, &entries, has_tokens));
        let read = self.told(read);
        match (self.findings.errors.get(first), read) {
            (None, Some(tls)) => Ok(tls),
            (Some(error), _) => Err(error.clone()),
            (None, None) => Err(self.error(self.text.position(value), "cannot be read")),
        }
    }

    fn tls_section(
        &mut self,
        value: &'a RawValue,
        entries: &[Entry<'a>],
        has_tokens: bool,
    ) -> Result<Tls, FileError> {
        let mut content = Sha256::new();
        let mut file = |reader: &mut Self, key: &str, value: &'a RawValue| {
            let at = reader.text.position(value);
            let path = join(TLS, key);
            let name = reader.string(&path, value)?;
            let found = reader.vault.read(&name);
            let found = found.map_err(|what| reader.error(at, format!("{path}: {what}")))?;
            if key == "key" {
                reader.warn_of_readers(at, &path, &found);
            }
            content.update(Sha256::digest(&found.text));
            Ok((at, name, found.text))
        };
        let mut needed = |reader: &mut Self, key: &str, expected: &str| match find(entries, key) {
            Some(value) => file(reader, key, value),
            None => {
                let at = reader.text.position(value);
                let what = format!("{TLS}.{key}: missing, expected {expected}");
                Err(reader.error(at, what))
            }
        };
        let (at, shown, pem) = needed(
            self,
            "certificate",
            "a file with the certificate, in PEM form",
        )?;
        let (key_at, key_shown, key_pem) =
            needed(self, "key", "a file with the certificate's key")?;
        let fail = |what: &str| format!("{TLS}.certificate: file {shown}: {what}");
        let chain = certificates(&pem).map_err(|what| self.error(at, fail(&what)))?;
        let (from, until) = chain
            .first()
            .and_then(|own| certificate::validity(own))
            .ok_or_else(|| self.error(at, fail("its certificate cannot be read")))?;
        let now = Timestamp::now();
        if now < from {
            return Err(self.error(
                at,
                fail(&format!("the certificate is not valid before {from}")),
            ));
        }
        if now >= until {
            return Err(self.error(at, fail(&format!("the certificate has expired at {until}"))));
        }
        if days_left(until) < SOON {
            self.warn(at, fail(&format!("the certificate expires at {until}")));
        }
        let provider = Arc::new(default_provider());
        let own = own_key(chain, &key_pem, &provider).map_err(|wrong| {
            let what = match wrong {
                WrongKey::None if key_pem.contains("ENCRYPTED") => {
                    "the key is encrypted; expected one without a passphrase".to_owned()
                }
                WrongKey::None => "has no private key in PEM form".to_owned(),
                WrongKey::Unusable(why) => format!("the key cannot be used: {why}"),
                WrongKey::Another => format!("is not the key of the certificate in {shown}"),
            };
            self.error(key_at, format!("{TLS}.key: file {key_shown}: {what}"))
        })?;
        let authority = match find(entries, "client_ca") {
            None => None,
            Some(value) => {
                let at = self.text.position(value);
                if !has_tokens {
                    let what = "names nobody without daemon.access.tokens: the name in a client's \
                                certificate is that of a token";
                    return Err(self.error(at, format!("{TLS}.client_ca: {what}")));
                }
                let (at, shown, pem) = file(self, "client_ca", value)?;
                let roots = roots(&pem).map_err(|what| {
                    self.error(at, format!("{TLS}.client_ca: file {shown}: {what}"))
                })?;
                Some((at, roots))
            }
        };
        let plain = match find(entries, "plain") {
            None => Plain::default(),
            Some(value) => {
                let path = join(TLS, "plain");
                let text = self.string(&path, value)?;
                text.parse().map_err(|message: String| {
                    self.error(self.text.position(value), format!("{path}: {message}"))
                })?
            }
        };
        let roots = authority.as_ref().map(|(_, roots)| Arc::clone(roots));
        let server = server(own, roots, &provider).map_err(|what| {
            let (key, at) = match &authority {
                Some((at, _)) => ("client_ca", *at),
                None => ("certificate", at),
            };
            self.error(at, format!("{TLS}.{key}: {what}"))
        })?;
        Ok(Tls {
            server: Arc::new(server),
            plain,
            expires: until,
            content: content.finalize().into(),
        })
    }
}

/// All certificates of a PEM text, at least one.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = read.map_err(|error| format!("is not in PEM form: {error}"))?;
    match all.is_empty() {
        true => Err("has no certificate in PEM form".into()),
        false => Ok(all),
    }
}

/// Who vouches for clients.
fn roots(pem: &str) -> Result<Arc<RootCertStore>, String> {
    let mut store = RootCertStore::empty();
    for authority in certificates(pem)? {
        if certificate::validity(&authority).is_some_and(|(_, until)| until <= Timestamp::now()) {
            return Err("the certificate has expired".into());
        }
        let added = store.add(authority);
        added.map_err(|error| format!("a certificate cannot be used: {error}"))?;
    }
    Ok(Arc::new(store))
}

/// What is wrong with the file of a key.
enum WrongKey {
    None,
    Unusable(String),
    /// It belongs to another certificate.
    Another,
}

fn own_key(
    chain: Vec<CertificateDer<'static>>,
    pem: &str,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, WrongKey> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| WrongKey::None)?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => WrongKey::Another,
        other => WrongKey::Unusable(other.to_string()),
    })
}

/// TLS 1.3 and 1.2. A client that comes again shows a ticket and is spared most of a handshake;
/// nothing is kept for it here. The key of the tickets is drawn anew with every reload, so that
/// nobody outlives the authority that vouched for them.
fn server(
    own: CertifiedKey,
    authority: Option<Arc<RootCertStore>>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match authority {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
                .allow_unauthenticated()
                .build()
                .map_err(|error| error.to_string())?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut server = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    server.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 1;
    Ok(server)
}
