//! The cipher suites that are spoken here, and the keys of a session (IPMI 2.0 specification,
//! sections 13.20 to 13.33).

use aes::Aes128;
use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq;

/// The block of AES.
const BLOCK: usize = 16;

/// The block of SHA-1 and of SHA-256, to which HMAC fills up a key. No key here is longer.
const HASHED: usize = 64;

/// The cipher suites with encryption that BMCs offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128.
    Three,
    /// HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    Seventeen,
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

impl Suite {
    /// The better one first.
    pub(super) const ALL: [Self; 2] = [Self::Seventeen, Self::Three];

    pub(super) fn number(self) -> u8 {
        match self {
            Self::Three => 3,
            Self::Seventeen => 17,
        }
    }

    /// The numbers of its algorithms: authentication, integrity, confidentiality.
    pub(super) fn algorithms(self) -> [u8; 3] {
        match self {
            Self::Three => [1, 1, 1],
            Self::Seventeen => [3, 4, 1],
        }
    }

    /// The length of a signature.
    pub(super) fn signature(self) -> usize {
        match self {
            Self::Three => 12,
            Self::Seventeen => 16,
        }
    }

    /// The HMAC of the `parts`, one behind the other.
    pub(super) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        fn of<M: Mac>(mut mac: M, parts: &[&[u8]]) -> Vec<u8> {
            parts.iter().for_each(|part| mac.update(part));
            mac.finalize().into_bytes().to_vec()
        }
        let mut filled = [0; HASHED];
        for (to, from) in filled.iter_mut().zip(key) {
            *to = *from;
        }
        match self {
            Self::Three => of(<Hmac<Sha1> as KeyInit>::new(&filled.into()), parts),
            Self::Seventeen => of(<Hmac<Sha256> as KeyInit>::new(&filled.into()), parts),
        }
    }
}

/// Are they the same? Takes the same time whichever byte differs.
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// What a session is signed and encrypted with.
pub(super) struct Keys {
    suite: Suite,
    signing: Vec<u8>,
    encrypting: [u8; BLOCK],
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("suite", &self.suite)
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Of the key that both ends made at the login.
    pub(super) fn new(suite: Suite, session_key: &[u8]) -> Self {
        let key = |constant: u8| suite.hmac(session_key, &[&[constant; 20]]);
        let mut encrypting = [0; BLOCK];
        for (to, from) in encrypting.iter_mut().zip(key(2)) {
            *to = from;
        }
        Self {
            suite,
            signing: key(1),
            encrypting,
        }
    }

    pub(super) fn signature(&self, signed: &[u8]) -> Vec<u8> {
        let mut code = self.suite.hmac(&self.signing, &[signed]);
        code.truncate(self.suite.signature());
        code
    }

    /// Is the end of these bytes the signature of the others?
    pub(super) fn is_signed(&self, bytes: &[u8]) -> bool {
        let signed = bytes.len().saturating_sub(self.suite.signature());
        bytes
            .split_at_checked(signed)
            .is_some_and(|(signed, code)| is_same(&self.signature(signed), code))
    }

    /// The message encrypted, behind `start`, which never comes twice.
    pub(super) fn encrypt(&self, start: [u8; BLOCK], message: &[u8]) -> Vec<u8> {
        let mut payload = message.to_vec();
        // The padding counts itself: 1, 2, 3 ..., and then how many.
        let padding = u8::try_from((message.len() + 1).wrapping_neg() % BLOCK).unwrap_or(0);
        payload.extend(1..=padding);
        payload.push(padding);
        let mut cipher = cbc::Encryptor::<Aes128>::new(&self.encrypting.into(), &start.into());
        for block in payload.chunks_exact_mut(BLOCK) {
            cipher.encrypt_block_mut(GenericArray::from_mut_slice(block));
        }
        [start.as_slice(), &payload].concat()
    }

    /// The message of an encrypted payload.
    pub(super) fn decrypt(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let (start, rest) = payload.split_first_chunk::<BLOCK>()?;
        let mut message = rest.to_vec();
        let mut cipher = cbc::Decryptor::<Aes128>::new(&self.encrypting.into(), start.into());
        for block in message.chunks_exact_mut(BLOCK) {
            cipher.decrypt_block_mut(GenericArray::from_mut_slice(block));
        }
        let is_whole = message.len().is_multiple_of(BLOCK);
        let padding = usize::from(message.pop()?);
        let length = message.len().checked_sub(padding)?;
        message.truncate(length);
        is_whole.then_some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_hashes_are_those_of_the_rfcs() {
        // RFC 2202 and RFC 4231, test case 2.
        let of = |suite: Suite| hex(&suite.hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]));
        assert_eq!(of(Suite::Three), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        assert_eq!(
            of(Suite::Seventeen),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn what_is_encrypted_comes_back_and_what_is_cut_does_not() {
        let keys = Keys::new(Suite::Three, b"key");
        for length in 0..40 {
            let message = vec![0xa5; length];
            let payload = keys.encrypt([9; BLOCK], &message);
            assert_eq!(payload.len() % BLOCK, 0);
            assert_eq!(keys.decrypt(&payload), Some(message));
        }
        let payload = keys.encrypt([9; BLOCK], b"message");
        for length in 0..payload.len() {
            assert_eq!(keys.decrypt(&payload[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn a_signature_covers_every_byte() {
        for suite in Suite::ALL {
            let keys = Keys::new(suite, b"key");
            let mut bytes = b"signed".to_vec();
            bytes.extend(keys.signature(b"signed"));
            assert!(keys.is_signed(&bytes));
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 0x80;
                assert!(!keys.is_signed(&other), "suite {suite}, byte {at}");
                assert!(!keys.is_signed(&bytes[..at]));
            }
        }
    }
}
