//! An authority made for a test, and the certificates it gives away.

use crate::daemon::Lab;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Vouches for whom it likes.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) file: PathBuf,
    folder: PathBuf,
}

/// The files of a certificate and its key.
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// `YYYY, MM, DD` so many days from now.
fn date(days: i64) -> (i32, u8, u8) {
    let now = jiff::Timestamp::try_from(SystemTime::now()).expect("now");
    let date = now + jiff::SignedDuration::from_hours(24 * days);
    let date = date.to_zoned(jiff::tz::TimeZone::UTC).date();
    (
        date.year().into(),
        date.month().cast_unsigned(),
        date.day().cast_unsigned(),
    )
}

fn write(path: PathBuf, text: &str) -> PathBuf {
    // As renewing programs do: nobody ever reads half of it.
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&new, mode).expect("set");
    std::fs::rename(&new, &path).expect("in its place");
    path
}

impl Authority {
    /// One whose files lie in the lab's folder, under this name.
    pub(crate) fn new(lab: &Lab, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("signed");
        let file = lab.write(&format!("{name}.pem"), &own.pem());
        Self {
            issuer: Issuer::new(params, key),
            folder: file.parent().map(Path::to_owned).expect("a folder"),
            file,
        }
    }

    /// The files that `share/examples/tls.conf` names, in the lab's folder.
    pub(crate) fn for_the_example(lab: &Lab) -> Self {
        std::fs::create_dir(lab.path("tls")).expect("a folder");
        let authority = Self::new(lab, "tls/lab-ca");
        authority.server("pdud");
        std::fs::rename(&authority.file, lab.path("tls/lab-ca.crt")).expect("renamed");
        authority
    }

    /// A certificate for `name`, or one for these days (from and until, counted from today).
    pub(crate) fn vouch(&self, file: &str, name: &str, days: (i64, i64)) -> Pair {
        let names = ["localhost", "127.0.0.1", "::1", "192.0.2.1", "pdud.lab"];
        let names = names.map(str::to_owned).to_vec();
        let mut params = CertificateParams::new(names).expect("params");
        let ((y, m, d), (until_y, until_m, until_d)) = (date(days.0), date(days.1));
        params.not_before = date_time_ymd(y, m, d);
        params.not_after = date_time_ymd(until_y, until_m, until_d);
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("signed");
        Pair {
            certificate: write(self.folder.join(format!("{file}.crt")), &signed.pem()),
            key: write(
                self.folder.join(format!("{file}.key")),
                &key.serialize_pem(),
            ),
        }
    }

    /// The daemon's own certificate, good for a year.
    pub(crate) fn server(&self, file: &str) -> Pair {
        self.vouch(file, "pdud.lab", (-1, 365))
    }
}

impl Pair {
    /// `daemon.tls` with this pair, and more.
    pub(crate) fn config(&self, more: Value) -> Value {
        let mut tls = json!({"certificate": self.certificate, "key": self.key});
        if let (Some(tls), Value::Object(more)) = (tls.as_object_mut(), more) {
            tls.extend(more);
        }
        json!({"daemon": {"tls": tls}})
    }
}

/// A client that trusts this authority, and shows the pair's certificate when there is one.
pub(crate) fn client_config(authority: &Authority, own: Option<&Pair>) -> rustls::ClientConfig {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = |file: &Path| CertificateDer::from_pem_file(file).expect("a certificate");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate(&authority.file)).expect("a root");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    match own {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
            let chain = vec![certificate(&pair.certificate)];
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    }
}

/// What such a client says first.
pub(crate) fn hello(config: &rustls::ClientConfig) -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let config = std::sync::Arc::new(config.clone());
    let mut client = rustls::ClientConnection::new(config, name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("written");
    hello
}
