//! Keys that manifests are signed with.

use std::fmt;
use std::str::FromStr;

use migrate_core::hex;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::Error;

/// What a signature is about, so that one made for anything else is none.
const DOMAIN: &[u8] = b"kube-migrate backup manifest 1\n";

/// Bytes of a seed and of a public key.
pub(super) const LENGTH: usize = 32;

/// An Ed25519 key that signs manifests. Its `Debug` shows the public half alone.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// The key of a seed, which has to be random and secret: 32 bytes of
    /// `/dev/urandom`, kept where the backups are not.
    ///
    /// # Errors
    /// [`Error::InvalidKey`].
    pub fn from_seed(seed: &[u8; LENGTH]) -> Result<Self, Error> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed);
        pair.map(Self).map_err(|_| none("the seed".to_owned()))
    }

    /// The half that verifies, for those who restore.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; LENGTH];
        // As long as that by definition.
        bytes
            .iter_mut()
            .zip(self.0.public_key().as_ref())
            .for_each(|(to, from)| *to = *from);
        PublicKey(bytes)
    }

    pub(super) fn sign(&self, text: &str) -> String {
        hex(self.0.sign(&message(text)))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public()).finish()
    }
}

/// A key that verifies manifests, as 64 hex digits.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub struct PublicKey([u8; LENGTH]);

impl PublicKey {
    pub(super) fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.0);
        key.verify(&message(text), signature).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = bytes(text.trim());
        let key = bytes.and_then(|bytes| bytes.try_into().ok());
        // It may be the secret half, given by mistake.
        key.map(Self).ok_or_else(|| none("the text".to_owned()))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// The bytes of hex digits.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

fn none(what: String) -> Error {
    Error::InvalidKey {
        what,
        kind: "Ed25519",
        cure: "give 32 bytes, in hex if it is the public one",
    }
}

fn message(text: &str) -> Vec<u8> {
    [DOMAIN, text.as_bytes()].concat()
}
