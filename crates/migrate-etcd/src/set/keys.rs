//! The keys of a cluster, by their fingerprints.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use migrate_core::hex;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

use super::NodeRecord;
use super::der::Public;
use super::halves::half_of;
use super::jwk::Jwks;
use crate::{Error, KeyInDoubt, PrivateKey};

/// Where kubeadm keeps them.
const PKI: &str = "/etc/kubernetes/pki";

/// The private halves, of the CA and of the key that signs tokens.
const CA_KEY: &str = "ca.key";
const SA_KEY: &str = "sa.key";
/// The public half of the latter.
const SA_PUB: &str = "sa.pub";

/// Keys of a cluster that a node has: fingerprints, no key.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeKeys {
    /// SHA-256 of the public key of each certificate of `ca.crt` (its `SubjectPublicKeyInfo` in
    /// DER) in hex, that of `ca.key` first. While a CA is being changed there are two. In
    /// records of before, of the certificates themselves.
    pub ca: Vec<String>,
    /// The private half of the first of them.
    #[serde(deserialize_with = "recorded")]
    pub ca_key: PrivateKey,
    /// SHA-256 of the key in `sa.pub` (its DER) in hex; of several that of `sa.key`.
    pub service_account: Option<String>,
    /// Those of the further keys in `sa.pub`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub other_service_accounts: Vec<String>,
    /// The private half of the first of them.
    #[serde(deserialize_with = "recorded")]
    pub service_account_key: PrivateKey,
}

impl NodeKeys {
    /// Of a node's files, by their paths.
    pub(super) fn of(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let pem = |name: &str| {
            let file = files.get(&format!("{PKI}/{name}"));
            file.map_or_else(Vec::new, |bytes| decode(bytes))
        };
        let known = |public: &str, private: &str| {
            let public = pem(public);
            let (key, at) = half_of(&pem(private), &public);
            let mut prints: Vec<_> = public.iter().map(Block::fingerprint).collect();
            if let Some(at) = at {
                prints.swap(0, at);
            }
            (prints, key)
        };
        let (ca, ca_key) = known("ca.crt", CA_KEY);
        let (signers, service_account_key) = known(SA_PUB, SA_KEY);
        let mut signers = signers.into_iter();
        Self {
            ca,
            ca_key,
            service_account: signers.next(),
            other_service_accounts: signers.collect(),
            service_account_key,
        }
    }

    /// What makes a restore with these keys another cluster than `live`.
    pub(super) fn other_than(&self, live: &LiveKeys) -> Option<&'static str> {
        let is_live = |key: &String| live.ca.contains(key);
        if !self.ca.iter().any(is_live) {
            return Some("its pki/ca.crt is not the cluster's CA");
        }
        match self.ca_key {
            PrivateKey::Other => {
                return Some(
                    "its pki/ca.key belongs to none of the certificates in its pki/ca.crt",
                );
            }
            PrivateKey::There if !self.ca.first().is_some_and(is_live) => {
                return Some(
                    "its pki/ca.key belongs to a certificate of its pki/ca.crt that is not the \
                     cluster's",
                );
            }
            _ => {}
        }
        if !self.has_signer_of(live) && !live.has_others {
            return Some("its pki/sa.pub is none of the keys that the cluster signs tokens with");
        }
        match self.service_account_key {
            PrivateKey::Other => Some("its pki/sa.key belongs to no key in its pki/sa.pub"),
            _ => None,
        }
    }

    /// Whether it has a key that is known to be one that the live cluster signs tokens with.
    fn has_signer_of(&self, live: &LiveKeys) -> bool {
        let signs = |key: &String| live.service_account.contains(key);
        // Which of several it signs with is known by the private half alone.
        let is_known = self.service_account_key == PrivateKey::There;
        let others = self.other_service_accounts.iter().filter(|_| !is_known);
        self.service_account.iter().chain(others).any(signs)
    }
}

/// What a record says of a private key. Those of before have whether it was there, and was
/// compared.
fn recorded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PrivateKey, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Recorded {
        Was(bool),
        Is(PrivateKey),
    }
    Ok(match Recorded::deserialize(deserializer)? {
        Recorded::Was(true) => PrivateKey::There,
        Recorded::Was(false) => PrivateKey::Absent,
        Recorded::Is(key) => key,
    })
}

/// One of the private keys of a node.
type KeyOf = fn(&NodeKeys) -> PrivateKey;

/// Private keys that `nodes` have not got, or that were not compared.
pub(super) fn in_doubt(nodes: &[NodeRecord]) -> Vec<KeyInDoubt> {
    let files: [(_, KeyOf); 2] = [
        (CA_KEY, |keys| keys.ca_key),
        (SA_KEY, |keys| keys.service_account_key),
    ];
    let mut doubts = Vec::new();
    for (file, key) in files {
        let elsewhere = nodes
            .iter()
            .any(|node| key(&node.keys) == PrivateKey::There);
        for doubt in [PrivateKey::Absent, PrivateKey::NotCompared] {
            let of = nodes.iter().filter(|node| key(&node.keys) == doubt);
            let of: Vec<_> = of.map(|node| node.name.clone()).collect();
            if !of.is_empty() {
                doubts.push(KeyInDoubt {
                    file: file.to_owned(),
                    key: doubt,
                    nodes: of,
                    elsewhere,
                });
            }
        }
    }
    doubts
}

/// Of which of `nodes` nobody can tell whether they have a key that `live` signs tokens with.
pub(super) fn signers_in_doubt(nodes: &[NodeRecord], live: &LiveKeys) -> Option<KeyInDoubt> {
    let (known, doubtful): (Vec<_>, Vec<_>) = nodes
        .iter()
        .partition(|node| !live.has_others || node.keys.has_signer_of(live));
    (!doubtful.is_empty()).then(|| KeyInDoubt {
        file: SA_PUB.to_owned(),
        key: PrivateKey::NotCompared,
        nodes: doubtful.iter().map(|node| node.name.clone()).collect(),
        elsewhere: !known.is_empty(),
    })
}

/// Fingerprints of the keys that a live cluster uses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LiveKeys {
    ca: BTreeSet<String>,
    service_account: BTreeSet<String>,
    /// It signs with further ones, of which nobody can tell which they are.
    has_others: bool,
}

impl LiveKeys {
    /// Of what the API server says: `ca.crt` of the ConfigMap `kube-root-ca.crt`,
    /// and the answer to `GET /openid/v1/jwks`. A key of that is known by its public numbers,
    /// or by its id where that is the SHA-256 of its DER, as API servers that sign by themselves
    /// have it; one of which neither is told is compared with none
    /// ([`SetRecord::signers_in_doubt`](super::SetRecord::signers_in_doubt)).
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if there is no certificate, or no key.
    pub fn parse(ca: &str, jwks: &str) -> Result<Self, Error> {
        let none = |what: &str, cure| Error::InvalidKey {
            what: what.to_owned(),
            kind: "cluster",
            cure,
        };
        let certificates = decode(ca.as_bytes());
        let ca: BTreeSet<_> = certificates.iter().flat_map(Block::names).collect();
        if ca.is_empty() {
            return Err(none("ca.crt", "read it from ConfigMap kube-root-ca.crt"));
        }
        let jwks: Option<Jwks> = serde_json::from_str(jwks).ok();
        let keys = jwks.map_or_else(Vec::new, |jwks| jwks.keys);
        if keys.is_empty() {
            return Err(none(
                "jwks",
                "read it by `kubectl get --raw /openid/v1/jwks`",
            ));
        }
        let (mut service_account, mut has_others) = (BTreeSet::new(), false);
        for key in &keys {
            let mut known = key.fingerprints().peekable();
            has_others |= known.peek().is_none();
            service_account.extend(known);
        }
        Ok(Self {
            ca,
            service_account,
            has_others,
        })
    }
}

/// A block of a PEM text.
pub(super) struct Block {
    pub(super) label: String,
    pub(super) der: Vec<u8>,
}

impl Block {
    /// Of the public key in it: a certificate that was renewed is of the same. What has none
    /// is taken as it is.
    fn fingerprint(&self) -> String {
        let key = Public::of(&self.der).map(|public| public.whole);
        hex(Sha256::digest(key.unwrap_or(&self.der)))
    }

    /// The same, and by what records of before call it: the fingerprint of all of it.
    fn names(&self) -> [String; 2] {
        [self.fingerprint(), hex(Sha256::digest(&self.der))]
    }
}

/// How the label of a private key ends.
pub(super) const PRIVATE: &str = "PRIVATE KEY";

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
            let Some((label, body)) = open.take() else {
                continue;
            };
            match STANDARD.decode(body) {
                Ok(der) => blocks.push(Block { label, der }),
                // One with a passphrase has lines that are none.
                Err(_) if label.ends_with(PRIVATE) => blocks.push(Block {
                    label,
                    der: Vec::new(),
                }),
                Err(_) => {}
            }
        } else if let Some((_, body)) = &mut open {
            body.push_str(line);
        }
    }
    blocks
}
