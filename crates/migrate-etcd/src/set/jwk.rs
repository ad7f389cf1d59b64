//! Public keys of a JSON Web Key Set (RFC 7517), by their fingerprints.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use migrate_core::hex;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::der::{BIT_STRING, INTEGER, P256, P384, SEQUENCE, element};

/// Algorithms with their parameters, as DER: `rsaEncryption`, and what stands before a curve.
const RSA: &[u8] = b"\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x01\x01\x05\x00";
const EC: &[u8] = b"\x06\x07\x2A\x86\x48\xCE\x3D\x02\x01";

/// Curves by their names in a key set, and the length of a coordinate.
const CURVES: [(&str, &[u8], usize); 3] = [
    ("P-256", P256, 32),
    ("P-384", P384, 48),
    ("P-521", b"\x06\x05\x2B\x81\x04\x00\x23", 66),
];

/// Keys that sign tokens, as an API server tells them.
#[derive(Deserialize)]
pub(super) struct Jwks {
    pub(super) keys: Vec<Jwk>,
}

/// One of them.
#[derive(Deserialize)]
pub(super) struct Jwk {
    #[serde(default)]
    kid: String,
    #[serde(default)]
    kty: String,
    /// Curve and coordinates of an elliptic key.
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// Modulus and exponent of one of RSA.
    n: Option<String>,
    e: Option<String>,
}

impl Jwk {
    /// SHA-256 of its `SubjectPublicKeyInfo` in hex: of the numbers that are told, and by its
    /// id where that may be one. None if neither can be.
    pub(super) fn fingerprints(&self) -> impl Iterator<Item = String> {
        let told = self.public().map(|der| hex(Sha256::digest(der)));
        // An API server that signs by itself calls a key by its fingerprint
        // (`keyIDFromPublicKey` in `k8s.io/kubernetes/pkg/serviceaccount/jwt.go`).
        let id = URL_SAFE_NO_PAD.decode(&self.kid).ok();
        let id = id.filter(|id| id.len() == 32).map(hex);
        told.into_iter().chain(id)
    }

    /// Its `SubjectPublicKeyInfo` as DER.
    fn public(&self) -> Option<Vec<u8>> {
        let (algorithm, key) = match self.kty.as_str() {
            "RSA" => {
                let numbers = [integer(&number(&self.n)?), integer(&number(&self.e)?)];
                (RSA.to_vec(), element(SEQUENCE, &numbers.concat()))
            }
            "EC" => {
                let name = self.crv.as_deref()?;
                let (_, curve, len) = CURVES.iter().find(|(it, ..)| *it == name)?;
                let [x, y] = [number(&self.x)?, number(&self.y)?];
                let is_whole = x.len() == *len && y.len() == *len;
                is_whole.then(|| ([EC, curve].concat(), [vec![4], x, y].concat()))?
            }
            _ => return None,
        };
        let algorithm = element(SEQUENCE, &algorithm);
        let key = element(BIT_STRING, &[vec![0], key].concat());
        Some(element(SEQUENCE, &[algorithm, key].concat()))
    }
}

/// A number that is told, which is not empty.
fn number(text: &Option<String>) -> Option<Vec<u8>> {
    let number = URL_SAFE_NO_PAD.decode(text.as_deref()?).ok()?;
    (!number.is_empty()).then_some(number)
}

/// The same as DER: without zeros before it, but for one where it would be negative.
fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|digit| **digit == 0).count();
    let number = number.get(zeros..).unwrap_or_default();
    let is_negative = number.first().is_none_or(|digit| *digit >= 0x80);
    let sign: &[u8] = if is_negative { &[0] } else { &[] };
    element(INTEGER, &[sign, number].concat())
}
