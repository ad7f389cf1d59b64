//! The keys of a cluster, by their fingerprints.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use migrate_core::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::halves::half_of;
use crate::Error;

/// Where kubeadm keeps them.
const PKI: &str = "/etc/kubernetes/pki";

/// Keys of a cluster that a node has: fingerprints, no key.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeKeys {
    /// SHA-256 of each certificate of `ca.crt` (its DER) in hex, that of `ca.key` first. While
    /// a CA is being changed there are two.
    pub ca: Vec<String>,
    /// The private half of the first of them is there.
    pub ca_key: bool,
    /// SHA-256 of the key in `sa.pub` (its DER) in hex; of several that of `sa.key`.
    pub service_account: Option<String>,
    /// Its private half is there.
    pub service_account_key: bool,
}

impl NodeKeys {
    /// Of a node's files, by their paths.
    pub(super) fn of(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let pem = |name: &str| {
            let file = files.get(&format!("{PKI}/{name}"));
            file.map_or_else(Vec::new, |bytes| decode(bytes))
        };
        let (certificates, public) = (pem("ca.crt"), pem("sa.pub"));
        let private = |name: &str, of: &[Block]| {
            let keys = pem(name);
            keys.iter().find_map(|key| half_of(key, of))
        };
        let (signs, issues) = (private("ca.key", &certificates), private("sa.key", &public));
        let mut ca: Vec<_> = certificates.iter().map(Block::fingerprint).collect();
        if let Some(at) = signs {
            ca.swap(0, at);
        }
        Self {
            ca_key: signs.is_some(),
            service_account_key: issues.is_some(),
            ca,
            service_account: public.get(issues.unwrap_or(0)).map(Block::fingerprint),
        }
    }

    /// What keeps a restore with these keys from being the cluster `live`.
    pub(super) fn missing(&self, live: &LiveKeys) -> Option<&'static str> {
        if !self.ca.iter().any(|key| live.ca.contains(key)) {
            return Some("its pki/ca.crt is not the cluster's CA");
        }
        if !self.ca_key {
            return Some("it has no pki/ca.key that belongs to its pki/ca.crt");
        }
        if !self.ca.first().is_some_and(|key| live.ca.contains(key)) {
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
            true => None,
            false => Some("it has no pki/sa.key that belongs to its pki/sa.pub"),
        }
    }
}

/// Fingerprints of the keys that a live cluster uses.
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
    fn fingerprint(&self) -> String {
        hex(Sha256::digest(&self.der))
    }
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
