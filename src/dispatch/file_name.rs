//! Names of files that are made from names of PDUs and outlets.

use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// How the hash of a name begins; no other name of a file of ours has a hyphen.
pub(super) const HASHED: &str = "sha256-";

/// A name that may be too long for a file: then its hash.
pub(super) fn short(name: &str) -> Cow<'_, str> {
    // 255 bytes is the limit, and something comes before and behind it.
    const MOST: usize = 200;
    if name.len() <= MOST {
        return name.into();
    }
    let hash = Sha256::digest(name.as_bytes());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{HASHED}{hash}").into()
}
