//! The keys of a cluster, by their fingerprints.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use migrate_core::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::halves::{Half, half_of};
use crate::Error;

/// Where kubeadm keeps them.
const PKI: &str = "/etc/kubernetes/pki";

/// Keys of a cluster that a node has: fingerprints, no key.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeKeys {
    /// SHA-256 of the public key (`SubjectPublicKeyInfo`) of each certificate of `ca.crt` in
    /// hex, that of `ca.key` first. While a CA is being changed there are two.
    pub ca: Vec<String>,
    /// Whether the private half of the first of them is there.
    pub ca_key: PrivateHalf,
    /// SHA-256 of the key in `sa.pub` (its DER) in hex; of several that of `sa.key`.
    pub service_account: Option<String>,
    /// Whether its private half is there.
    pub service_account_key: PrivateHalf,
}

/// What a node has of a private key.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum PrivateHalf {
    /// It is there, and belongs to the public half.
    There,
    /// There is no file of it.
    #[default]
    Absent,
    /// The file has no key that can be compared with the public half.
    Unread,
    /// The key in the file belongs to another public half.
    OfOther,
}

impl NodeKeys {
    /// Of a node's files, by their paths.
    pub(super) fn of(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let pem = |name: &str| {
            let file = files.get(&format!("{PKI}/{name}"));
            file.map(|bytes| decode(bytes))
        };
        let public = |name: &str| pem(name).unwrap_or_default();
        let private = |name: &str, of: &[Block]| match pem(name).map(|file| half_of(&file, of)) {
            None => (PrivateHalf::Absent, 0),
            Some(Half::Of(at)) => (PrivateHalf::There, at),
            Some(Half::OfNone) => (PrivateHalf::OfOther, 0),
            Some(Half::Unread) => (PrivateHalf::Unread, 0),
        };
        let (certificates, publics) = (public("ca.crt"), public("sa.pub"));
        let (ca_key, signs) = private("ca.key", &certificates);
        let (service_account_key, issues) = private("sa.key", &publics);
        let mut ca: Vec<_> = certificates.iter().map(Block::fingerprint).collect();
        if signs < ca.len() {
            ca.swap(0, signs);
        }
        Self {
            ca_key,
            service_account_key,
            ca,
            service_account: publics.get(issues).map(Block::fingerprint),
        }
    }

    /// Why a restore with these keys is not the cluster `live`.
    pub(super) fn contradiction(&self, live: &LiveKeys) -> Option<&'static str> {
        if !self.ca.iter().any(|key| live.ca.contains(key)) {
            return Some("its pki/ca.crt is not the cluster's CA");
        }
        if self.ca_key == PrivateHalf::OfOther {
            return Some("its pki/ca.key does not belong to its pki/ca.crt");
        }
        let is_of_first = self.ca_key == PrivateHalf::There;
        if is_of_first && !self.ca.first().is_some_and(|key| live.ca.contains(key)) {
            return Some(
                "its pki/ca.key belongs to a certificate of its pki/ca.crt that is not the cluster's",
            );
        }
        match &self.service_account {
            Some(key) if live.service_account.contains(key) => {}
            _ => {
                return Some(
                    "its pki/sa.pub is none of the keys that the cluster signs tokens with",
                );
            }
        }
        match self.service_account_key {
            PrivateHalf::OfOther => Some("its pki/sa.key does not belong to its pki/sa.pub"),
            _ => None,
        }
    }
}

/// Fingerprints of the public keys that a live cluster uses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LiveKeys {
    ca: BTreeSet<String>,
    service_account: BTreeSet<String>,
}

impl LiveKeys {
    /// Of what the API server says: `ca.crt` of the ConfigMap `kube-root-ca.crt`,
    /// and the answer to `GET /openid/v1/jwks`, where the id of a key is the
    /// SHA-256 of its DER (`keyIDFromPublicKey` in
    /// `k8s.io/kubernetes/pkg/serviceaccount/jwt.go`).
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if there is no certificate, or no key with such an
    /// id.
    pub fn parse(ca: &str, jwks: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Jwks {
            keys: Vec<Jwk>,
        }
        #[derive(Deserialize)]
        struct Jwk {
            #[serde(default)]
            kid: String,
        }
        let none = |what: &str, cure| Error::InvalidKey {
            what: what.to_owned(),
            kind: "cluster",
            cure,
        };
        let ca: BTreeSet<_> = decode(ca.as_bytes())
            .iter()
            .map(Block::fingerprint)
            .collect();
        if ca.is_empty() {
            return Err(none("ca.crt", "read it from ConfigMap kube-root-ca.crt"));
        }
        let jwks: Option<Jwks> = serde_json::from_str(jwks).ok();
        let keys = jwks.map_or_else(Vec::new, |jwks| jwks.keys);
        let ids = keys.iter().filter_map(|key| {
            let id = URL_SAFE_NO_PAD.decode(&key.kid).ok()?;
            (id.len() == 32).then(|| hex(id))
        });
        let service_account: BTreeSet<_> = ids.collect();
        if service_account.is_empty() {
            return Err(none(
                "jwks",
                "read it by `kubectl get --raw /openid/v1/jwks`",
            ));
        }
        Ok(Self {
            ca,
            service_account,
        })
    }
}

/// A block of a PEM text.
pub(super) struct Block {
    pub(super) label: String,
    pub(super) der: Vec<u8>,
}

impl Block {
    /// Of the key in it: a certificate that was renewed for the same key is as good.
    fn fingerprint(&self) -> String {
        let key = match self.label.as_str() {
            "CERTIFICATE" => public_key(&self.der).unwrap_or(&self.der),
            _ => &self.der,
        };
        hex(Sha256::digest(key))
    }
}

/// The `SubjectPublicKeyInfo` of a certificate (RFC 5280, 4.1), whole.
fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    /// `[0] EXPLICIT Version`, which the first version has not got.
    const VERSION: u8 = 0xA0;
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&VERSION) {
        (.., rest) = element(rest)?;
    }
    // Number, algorithm, issuer, validity, subject.
    for _ in 0..5 {
        (.., rest) = element(rest)?;
    }
    element(rest).map(|(whole, ..)| whole)
}

/// The first element of what is in DER: all of it, what is in it, and what comes after.
fn element(der: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let &[_, first, ..] = der else {
        return None;
    };
    let (head, len) = match first {
        0..=0x7F => (2, usize::from(first)),
        0x81..=0x84 => {
            let more = usize::from(first - 0x80);
            let bytes = der.get(2..2 + more)?.iter();
            (
                2 + more,
                bytes.fold(0, |len, byte| len << 8 | usize::from(*byte)),
            )
        }
        _ => return None,
    };
    let whole = der.get(..head.checked_add(len)?)?;
    Some((whole, &whole[head..], &der[whole.len()..]))
}

/// The blocks of a PEM text; what is none is passed over.
fn decode(bytes: &[u8]) -> Vec<Block> {
    let text = String::from_utf8_lossy(bytes);
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines().map(str::trim) {
        let mark = |kind: &str| {
            let label = line.strip_prefix("-----")?.strip_prefix(kind)?;
            label.strip_suffix("-----").map(str::to_owned)
        };
        if let Some(label) = mark("BEGIN ") {
            open = Some((label, String::new()));
        } else if mark("END ").is_some() {
            if let Some((label, body)) = open.take()
                && let Ok(der) = STANDARD.decode(body)
            {
                blocks.push(Block { label, der });
            }
        } else if let Some((_, body)) = &mut open {
            body.push_str(line);
        }
    }
    blocks
}
