//! The names of SNMPv3's protocols: those of the Python program (of pysnmp, in both its
//! spellings) and the plain ones.

use crate::settings::Value;
use crate::transport::snmp::{AuthProtocol, Cipher, KeyExtension};
use std::borrow::Cow;

/// An authentication protocol, `None` for no authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Auth(pub(super) Option<AuthProtocol>);

/// A privacy protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privacy {
    /// Not encrypted.
    None,
    /// A cipher, and how its key is made longer where the digest is too short.
    Cipher(Cipher, KeyExtension),
    /// 3DES, which is known by name only.
    TripleDes,
}

/// Each protocol with its names; the first two are pysnmp's.
static AUTH: &[(&[&str], Option<AuthProtocol>)] = &[
    (&["USM_AUTH_NONE", "usmNoAuthProtocol", "none"], None),
    (
        &["USM_AUTH_HMAC96_MD5", "usmHMACMD5AuthProtocol", "MD5"],
        Some(AuthProtocol::Md5),
    ),
    (
        &[
            "USM_AUTH_HMAC96_SHA",
            "usmHMACSHAAuthProtocol",
            "SHA",
            "SHA1",
        ],
        Some(AuthProtocol::Sha1),
    ),
    (
        &[
            "USM_AUTH_HMAC128_SHA224",
            "usmHMAC128SHA224AuthProtocol",
            "SHA224",
        ],
        Some(AuthProtocol::Sha224),
    ),
    (
        &[
            "USM_AUTH_HMAC192_SHA256",
            "usmHMAC192SHA256AuthProtocol",
            "SHA256",
        ],
        Some(AuthProtocol::Sha256),
    ),
    (
        &[
            "USM_AUTH_HMAC256_SHA384",
            "usmHMAC256SHA384AuthProtocol",
            "SHA384",
        ],
        Some(AuthProtocol::Sha384),
    ),
    (
        &[
            "USM_AUTH_HMAC384_SHA512",
            "usmHMAC384SHA512AuthProtocol",
            "SHA512",
        ],
        Some(AuthProtocol::Sha512),
    ),
];

use KeyExtension::{Blumenthal, Reeder};

/// As [`AUTH`].
static PRIVACY: &[(&[&str], Privacy)] = &[
    (
        &["USM_PRIV_NONE", "usmNoPrivProtocol", "none"],
        Privacy::None,
    ),
    (
        &["USM_PRIV_CBC56_DES", "usmDESPrivProtocol", "DES"],
        Privacy::Cipher(Cipher::Des, Blumenthal),
    ),
    (
        &["USM_PRIV_CBC168_3DES", "usm3DESEDEPrivProtocol", "3DES"],
        Privacy::TripleDes,
    ),
    (
        &[
            "USM_PRIV_CFB128_AES",
            "usmAesCfb128Protocol",
            "AES",
            "AES128",
        ],
        Privacy::Cipher(Cipher::Aes128, Blumenthal),
    ),
    (
        &[
            "USM_PRIV_CFB192_AES_BLUMENTHAL",
            "usmAesBlumenthalCfb192Protocol",
            "AES192",
        ],
        Privacy::Cipher(Cipher::Aes192, Blumenthal),
    ),
    (
        &[
            "USM_PRIV_CFB256_AES_BLUMENTHAL",
            "usmAesBlumenthalCfb256Protocol",
            "AES256",
        ],
        Privacy::Cipher(Cipher::Aes256, Blumenthal),
    ),
    (
        &["USM_PRIV_CFB192_AES", "usmAesCfb192Protocol", "AES192C"],
        Privacy::Cipher(Cipher::Aes192, Reeder),
    ),
    (
        &["USM_PRIV_CFB256_AES", "usmAesCfb256Protocol", "AES256C"],
        Privacy::Cipher(Cipher::Aes256, Reeder),
    ),
];

impl Value for Auth {
    const KIND: &'static str = "text";

    fn range() -> Cow<'static, str> {
        names(AUTH).into()
    }

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        find(AUTH, json).map(Self)
    }
}

impl Value for Privacy {
    const KIND: &'static str = "text";

    fn range() -> Cow<'static, str> {
        names(PRIVACY).into()
    }

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        find(PRIVACY, json)
    }
}

/// The first name of each.
fn names<T>(table: &[(&[&str], T)]) -> String {
    let names = table.iter().filter_map(|(names, _)| names.first().copied());
    names.collect::<Vec<_>>().join(", ")
}

/// Names are compared without case, hyphens and underscores.
fn find<T: Copy>(table: &[(&[&str], T)], json: &serde_json::Value) -> Result<T, String> {
    let plain = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
    let name = String::read(json)?;
    let wanted = plain(&name);
    table
        .iter()
        .find(|(names, _)| names.iter().any(|name| plain(name) == wanted))
        .map(|(_, protocol)| *protocol)
        .ok_or_else(|| format!("expected one of {}, got {name:?}", names(table)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_have_both_of_pysnmps_names_and_plain_ones() {
        for names in [
            ["USM_AUTH_HMAC96_MD5", "usmHMACMD5AuthProtocol", "md5"],
            ["USM_AUTH_HMAC96_SHA", "usmHMACSHAAuthProtocol", "SHA-1"],
            [
                "USM_AUTH_HMAC192_SHA256",
                "usmHMAC192SHA256AuthProtocol",
                "SHA-256",
            ],
            ["USM_AUTH_NONE", "usmNoAuthProtocol", "None"],
        ] {
            let [new, old, plain] = names.map(|name| Auth::read(&name.into()));
            assert!(new.is_ok() && new == old && new == plain, "{names:?}");
        }
        for names in [
            ["USM_PRIV_CBC56_DES", "usmDESPrivProtocol", "DES"],
            ["USM_PRIV_CFB128_AES", "usmAesCfb128Protocol", "aes"],
            ["USM_PRIV_CFB192_AES", "usmAesCfb192Protocol", "AES-192-C"],
            [
                "USM_PRIV_CFB256_AES_BLUMENTHAL",
                "usmAesBlumenthalCfb256Protocol",
                "AES-256",
            ],
            ["USM_PRIV_CBC168_3DES", "usm3DESEDEPrivProtocol", "3DES"],
        ] {
            let [new, old, plain] = names.map(|name| Privacy::read(&name.into()));
            assert!(new.is_ok() && new == old && new == plain, "{names:?}");
        }
        assert!(Auth::read(&"SHA3".into()).is_err_and(|e| e.contains("USM_AUTH_HMAC96_MD5")));
    }
}
