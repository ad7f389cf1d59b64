//! Which public key a private one belongs to.

use ring::rand::SystemRandom;
use ring::rsa::KeyPair as RsaKeyPair;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair,
};

use super::der::{
    Algorithm, FIRST, INTEGER, NAME, OCTET_STRING, P256, P384, Public, SEQUENCE, take,
};
use super::keys::{Block, PRIVATE};
use crate::PrivateKey;

/// Names of algorithms; of RSA all that PKCS #1 has, which are for the same keys.
const RSA: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x01";
const EC: &[u8] = b"\x2A\x86\x48\xCE\x3D\x02\x01";
const ED25519: &[u8] = b"\x2B\x65\x70";

/// Curves, as parameters have them, the length of a private half, and who tells whether two
/// are a pair.
const CURVES: [(&[u8], usize, &EcdsaSigningAlgorithm); 2] = [
    (P256, 32, &ECDSA_P256_SHA256_ASN1_SIGNING),
    (P384, 48, &ECDSA_P384_SHA384_ASN1_SIGNING),
];

/// What a file of a private key has, and which of `public`, certificates or public keys, has
/// the other half of it.
///
/// [`PrivateKey::Other`] only where none of them can be it: what cannot be read, or not be
/// compared, may be.
pub(super) fn half_of(file: &[Block], public: &[Block]) -> (PrivateKey, Option<usize>) {
    let is_private = |block: &&Block| block.label.ends_with(PRIVATE);
    let mut is_there = PrivateKey::Absent;
    for private in file.iter().filter(is_private) {
        let private = Private::of(private);
        if is_there == PrivateKey::Absent {
            is_there = PrivateKey::Other;
        }
        for (at, block) in public.iter().enumerate() {
            let is_pair = match (&private, Public::of(&block.der)) {
                (Some(private), Some(public)) => private.is_half_of(&public),
                _ => None,
            };
            match is_pair {
                Some(true) => return (PrivateKey::There, Some(at)),
                Some(false) => {}
                None => is_there = PrivateKey::NotCompared,
            }
        }
    }
    (is_there, None)
}

/// A private key: what it is for, and what its algorithm says it is.
struct Private<'a> {
    algorithm: Algorithm<'a>,
    key: &'a [u8],
}

impl<'a> Private<'a> {
    fn of(block: &'a Block) -> Option<Self> {
        let der = block.der.as_slice();
        let alone = |name, parameters, key| Self {
            algorithm: Algorithm { name, parameters },
            key,
        };
        match block.label.as_str() {
            // PKCS #1.
            "RSA PRIVATE KEY" => Some(alone(RSA, &[], der)),
            // `ECPrivateKey` (RFC 5915), which names its curve.
            "EC PRIVATE KEY" => {
                let mut rest = take(&mut &*der, SEQUENCE)?;
                take(&mut rest, INTEGER)?;
                take(&mut rest, OCTET_STRING)?;
                let curve = take(&mut rest, FIRST)?;
                take(&mut &*curve, NAME)?;
                Some(alone(EC, curve, der))
            }
            // PKCS #8.
            "PRIVATE KEY" => {
                let mut rest = take(&mut &*der, SEQUENCE)?;
                take(&mut rest, INTEGER)?;
                let algorithm = Algorithm::take(&mut rest)?;
                let key = take(&mut rest, OCTET_STRING)?;
                Some(Self { algorithm, key })
            }
            _ => None,
        }
    }

    /// Whether `public` is the other half; `None` if nobody here can tell.
    fn is_half_of(&self, public: &Public<'_>) -> Option<bool> {
        let is_rsa = |it: Algorithm<'_>| it.name.starts_with(RSA);
        if is_rsa(self.algorithm) && is_rsa(public.algorithm) {
            return self.is_half_of_rsa(public);
        }
        // A curve is a part of what an elliptic key is for.
        if self.algorithm != public.algorithm {
            return Some(false);
        }
        let Algorithm { name, parameters } = self.algorithm;
        if name == ED25519 {
            let seed = take(&mut &*self.key, OCTET_STRING)?;
            return Some(Ed25519KeyPair::from_seed_and_public_key(seed, public.key).is_ok());
        }
        let mut curves = CURVES.iter().filter(|_| name == EC);
        let (_, len, algorithm) = curves.find(|(curve, ..)| *curve == parameters)?;
        let mut rest = take(&mut &*self.key, SEQUENCE)?;
        take(&mut rest, INTEGER)?;
        let private = take(&mut rest, OCTET_STRING)?;
        // Both coordinates: one that is compressed has one of them.
        let is_whole = public.key.len() == 2 * len + 1 && public.key.starts_with(&[4]);
        if private.len() != *len || !is_whole {
            return None;
        }
        let random = SystemRandom::new();
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(algorithm, private, public.key, &random);
        Some(pair.is_ok())
    }

    /// Both halves name modulus and exponent, whatever their size is: keys that do not agree
    /// on them are two. That the rest of a private one fits is known up to 4,096 bits.
    fn is_half_of_rsa(&self, public: &Public<'_>) -> Option<bool> {
        let mut private = take(&mut &*self.key, SEQUENCE)?;
        take(&mut private, INTEGER)?;
        let mut public = take(&mut &*public.key, SEQUENCE)?;
        for _ in ["modulus", "exponent"] {
            if take(&mut private, INTEGER)? != take(&mut public, INTEGER)? {
                return Some(false);
            }
        }
        RsaKeyPair::from_der(self.key).is_ok().then_some(true)
    }
}
