//! Which public key a private one belongs to.

use ring::rand::SystemRandom;
use ring::rsa::KeyPair as RsaKeyPair;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair,
};

use super::keys::Block;

/// A kind of keys of elliptic curves: how its halves are found in what is in DER.
struct Kind {
    /// What is right before a private half, and its length.
    private: (&'static [u8], usize),
    /// What is right before a public one: the name of the curve, and the head of a bit string.
    public: (&'static [u8], usize),
    is_pair: fn(&[u8], &[u8]) -> bool,
}

const KINDS: [Kind; 3] = [
    // `ECPrivateKey` (RFC 5915), alone or within PKCS #8.
    Kind {
        private: (b"\x02\x01\x01\x04\x20", 32),
        public: (b"\x06\x08\x2A\x86\x48\xCE\x3D\x03\x01\x07\x03\x42\x00", 65),
        is_pair: |private, public| is_ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, private, public),
    },
    Kind {
        private: (b"\x02\x01\x01\x04\x30", 48),
        public: (b"\x06\x05\x2B\x81\x04\x00\x22\x03\x62\x00", 97),
        is_pair: |private, public| is_ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING, private, public),
    },
    // RFC 8410.
    Kind {
        private: (b"\x06\x03\x2B\x65\x70\x04\x22\x04\x20", 32),
        public: (b"\x06\x03\x2B\x65\x70\x03\x21\x00", 32),
        is_pair: |private, public| {
            Ed25519KeyPair::from_seed_and_public_key(private, public).is_ok()
        },
    },
];

/// The name of P-521, whose halves nothing here can compare.
const P521: &[u8] = b"\x06\x05\x2B\x81\x04\x00\x23";

fn is_ecdsa(algorithm: &'static EcdsaSigningAlgorithm, private: &[u8], public: &[u8]) -> bool {
    let random = SystemRandom::new();
    EcdsaKeyPair::from_private_key_and_public_key(algorithm, private, public, &random).is_ok()
}

/// Which of `public`, certificates or public keys, has the other half of `private`: RSA,
/// P-256, P-384, Ed25519. Of P-521 the first that names that curve is taken for it.
pub(super) fn half_of(private: &Block, public: &[Block]) -> Option<usize> {
    let pair = match private.label.as_str() {
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(&private.der).ok(),
        "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&private.der).ok(),
        "EC PRIVATE KEY" => None,
        _ => return None,
    };
    if let Some(pair) = pair {
        // Both hold it as PKCS #1 writes it.
        let half = pair.public().as_ref();
        return public.iter().position(|block| has(&block.der, half));
    }
    if has(&private.der, P521) {
        return public.iter().position(|block| has(&block.der, P521));
    }
    public.iter().position(|block| {
        let mut kinds = KINDS.iter();
        kinds.any(|kind| {
            let mut privates = behind(&private.der, kind.private);
            privates.any(|half| {
                let mut publics = behind(&block.der, kind.public);
                publics.any(|other| (kind.is_pair)(half, other))
            })
        })
    })
}

fn has(der: &[u8], part: &[u8]) -> bool {
    der.windows(part.len()).any(|window| window == part)
}

/// What stands behind each `mark` of a text, so many bytes of it.
fn behind<'a>(
    der: &'a [u8],
    (mark, len): (&'static [u8], usize),
) -> impl Iterator<Item = &'a [u8]> {
    let marks = der.windows(mark.len()).enumerate();
    let marks = marks.filter(move |(_, window)| *window == mark);
    marks.filter_map(move |(at, _)| der.get(at + mark.len()..)?.get(..len))
}
