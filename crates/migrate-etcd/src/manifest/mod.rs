//! What is known of a backup, signed, beside it.

mod key;
mod private_key;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use migrate_core::steps::BackupProof;
use migrate_core::{StepInput, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use key::{PublicKey, SigningKey};
pub use private_key::{KeyInDoubt, PrivateKey};

use crate::{Error, Inspection, PartFile, read};

/// What is put behind a backup's name.
const SUFFIX: &str = ".manifest.json";

/// The form that this version writes and reads.
const SCHEMA: u32 = 1;

/// A manifest is some hundred bytes; nobody fills the memory with one.
const LARGEST: u64 = 1 << 20;

/// What is known of a backup.
///
/// # Guarantees
/// * [`open`](Self::open) gives only what a trusted key has signed, byte for
///   byte, and [`check`](Self::check) only the file that it was signed for.
/// * It holds no key, value or name of an object, and no secret.
///
/// A signature says that nobody without the key has changed backup or manifest.
/// It does not say that the backup is the newest: who can remove files can
/// still leave an older one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    schema: u32,
    /// Name of the backup's file.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of all of it in hex.
    pub sha256: String,
    /// When it was taken.
    pub taken: jiff::Timestamp,
    /// How far it was proven.
    pub proof: BackupProof,
    /// Members of etcd that it is equal to, each once. Empty where a backup was compared
    /// with none, and in manifests of before this was recorded.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub compared: Vec<ComparedMember>,
    /// Voting members that the cluster had then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub voters: Option<usize>,
    /// The cluster's identity: the uid of its namespace `kube-system`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cluster: Option<String>,
    /// The store's last revision.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revision: Option<i64>,
    /// Version of the etcd that it is of; where that was not asked, as of a snapshot that was
    /// there already, that of its cluster, whose patch level is always 0.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub etcd: Option<String>,
    /// Version of the data, from etcd 3.6 on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub storage: Option<String>,
    /// Version of Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kubernetes: Option<String>,
    /// Names of the keys that values are encrypted with (`kms:foo`): without
    /// them the backup is worthless.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub encryption_keys: Vec<String>,
    /// How far a test-restore went: `reRead` or `bootedWithHash 3.6.16`; `booted 3.6.16` in
    /// manifests of before the hash was compared.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trial: Option<String>,
    /// Who can open the file: public keys of age, or `passphrase`. Empty: everybody,
    /// it is not encrypted.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub locked_for: Vec<String>,
    /// The file is a set with the files of these nodes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nodes: Option<Vec<String>>,
    /// It was FORCED: the member that it is of need not have known a leader. It proves
    /// nothing, whoever agrees with it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub forced: bool,
    /// The keys in the set are those that the live cluster used: the CA, and the one that
    /// signs tokens, whose private half is there.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub keys_match: bool,
    /// Private keys that are not in the set, or that were not compared with their public
    /// halves. One of the CA is kept elsewhere, where that is an external one: who restores on
    /// new machines has to fetch it there.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub keys_in_doubt: Vec<KeyInDoubt>,
    /// Whose signature it was opened with.
    #[serde(skip)]
    pub(crate) signer: Option<PublicKey>,
}

/// A member of etcd that a backup is equal to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComparedMember {
    /// Id in hex, without leading zeros.
    pub id: String,
    /// Name.
    pub name: String,
}

/// The file: the signed text as it was signed, so that nobody has to agree on
/// how JSON is written.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Signed {
    manifest: String,
    signature: String,
}

impl Manifest {
    /// A manifest of the backup at `path`, whose bytes are read.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn of(path: &Path, taken: jiff::Timestamp, proof: BackupProof) -> Result<Self, Error> {
        let file = path.file_name().and_then(|name| name.to_str());
        let file =
            file.ok_or_else(|| Error::file(path, std::io::ErrorKind::InvalidFilename.into()))?;
        let (bytes, sha256) = hash(path)?;
        Ok(Self {
            schema: SCHEMA,
            file: file.to_owned(),
            bytes,
            sha256,
            taken,
            proof,
            compared: Vec::new(),
            voters: None,
            cluster: None,
            revision: None,
            etcd: None,
            storage: None,
            kubernetes: None,
            encryption_keys: Vec::new(),
            trial: None,
            locked_for: Vec::new(),
            nodes: None,
            forced: false,
            keys_match: false,
            keys_in_doubt: Vec::new(),
            signer: None,
        })
    }

    /// The same, of the cluster of `input` and with what `inspection` says of its snapshot.
    #[must_use]
    pub fn describing(self, input: &StepInput, inspection: &Inspection) -> Self {
        let mut described = self.holding(inspection);
        described.cluster = Some(input.model.cluster.as_str().to_owned());
        let oldest = input.model.oldest_api_server();
        described.kubernetes = oldest.map(|version| version.to_string());
        described
    }

    /// The same, with what `inspection` says of its snapshot: revision, versions of etcd and
    /// of the data, the cluster where its uid is not encrypted, and the keys that are needed.
    #[must_use]
    pub fn holding(mut self, inspection: &Inspection) -> Self {
        self.cluster.clone_from(&inspection.kubernetes.cluster);
        self.revision = Some(inspection.revision);
        self.etcd.clone_from(&inspection.cluster_version);
        self.storage.clone_from(&inspection.storage_version);
        self.encryption_keys = inspection.kubernetes.needed_keys();
        self
    }

    /// The same, of a snapshot that was compared as `proof` says.
    #[cfg(feature = "client")]
    #[must_use]
    pub fn compared(mut self, proof: &crate::Proof) -> Self {
        let members = proof.compared.iter();
        let compared = members.map(|member| ComparedMember {
            id: member.id.clone(),
            name: member.name.clone(),
        });
        self.compared = compared.collect();
        self.voters = Some(proof.voters());
        self
    }

    /// The trusted key that has signed it, if it was opened and not made here.
    pub fn signed_by(&self) -> Option<PublicKey> {
        self.signer
    }

    /// Where the manifest of a backup is.
    pub fn path_of(backup: &Path) -> PathBuf {
        let mut name = backup.as_os_str().to_owned();
        name.push(SUFFIX);
        name.into()
    }

    /// The name of the manifest of the file `backup`.
    #[cfg(feature = "store")]
    pub(crate) fn name_of(backup: &str) -> String {
        format!("{backup}{SUFFIX}")
    }

    /// The name of the file that the manifest `name` is about; `None` if that is no
    /// manifest's name.
    #[cfg(feature = "store")]
    pub(crate) fn file_of(name: &str) -> Option<&str> {
        name.strip_suffix(SUFFIX)
    }

    /// Signs it and writes it beside the backup in `folder`; one that is there is
    /// replaced, as when a backup was proven further.
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Exists`] or [`Error::File`]; what was there is there still.
    pub async fn write(&self, folder: &Path, key: &SigningKey) -> Result<PathBuf, Error> {
        let malformed = |error: serde_json::Error| Error::Malformed {
            path: folder.join(&self.file),
            reason: error.to_string(),
        };
        let manifest = serde_json::to_string(self).map_err(malformed)?;
        let signature = key.sign(&manifest);
        let signed = Signed {
            manifest,
            signature,
        };
        let text = serde_json::to_vec_pretty(&signed).map_err(malformed)?;
        let mut file = PartFile::replace(folder, &format!("{}{SUFFIX}", self.file)).await?;
        file.write(&text).await?;
        file.commit().await
    }

    /// Reads the manifest of `backup`, which one of the `trusted` keys must have
    /// signed.
    ///
    /// # Errors
    /// [`Error::Untrusted`], [`Error::Malformed`],
    /// [`Error::Changed`] if it is about another file, or
    /// [`Error::File`].
    pub fn open(backup: &Path, trusted: &[PublicKey]) -> Result<Self, Error> {
        let path = Self::path_of(backup);
        let length = fs::metadata(&path).map_err(|error| Error::file(&path, error))?;
        Self::refuse_too_large(&path, length.len())?;
        let text = fs::read(&path).map_err(|error| Error::file(&path, error))?;
        let manifest = Self::verify(&path, &text, trusted)?;
        if backup.file_name().and_then(|name| name.to_str()) != Some(manifest.file.as_str()) {
            return Err(changed(backup));
        }
        Ok(manifest)
    }

    pub(crate) fn refuse_too_large(path: &Path, length: u64) -> Result<(), Error> {
        if length > LARGEST {
            return Err(Error::Malformed {
                path: path.to_owned(),
                reason: "it is too large".to_owned(),
            });
        }
        Ok(())
    }

    /// The manifest in `text`, which was at `path`.
    pub(crate) fn verify(path: &Path, text: &[u8], trusted: &[PublicKey]) -> Result<Self, Error> {
        let malformed = |reason: String| Error::Malformed {
            path: path.to_owned(),
            reason,
        };
        let signed: Signed =
            serde_json::from_slice(text).map_err(|error| malformed(error.to_string()))?;
        let signature = key::bytes(&signed.signature).unwrap_or_default();
        let signer = trusted
            .iter()
            .find(|key| key.verifies(&signed.manifest, &signature));
        if signer.is_none() {
            return Err(Error::Untrusted {
                path: path.to_owned(),
            });
        }
        // Only now is it worth a look.
        let mut manifest: Self =
            serde_json::from_str(&signed.manifest).map_err(|error| malformed(error.to_string()))?;
        manifest.signer = signer.copied();
        if manifest.schema != SCHEMA {
            return Err(malformed(format!("it is of schema {}", manifest.schema)));
        }
        Ok(manifest)
    }

    /// Checks that the file at `backup` is the one it was signed for.
    ///
    /// To restore, hand [`sha256`](Self::sha256) to
    /// [`Restore::with_sha256`](crate::Restore::with_sha256) instead, which
    /// reads the file once.
    ///
    /// # Errors
    /// [`Error::Changed`] or [`Error::File`].
    pub fn check(&self, backup: &Path) -> Result<(), Error> {
        if hash(backup)? != (self.bytes, self.sha256.clone()) {
            return Err(changed(backup));
        }
        Ok(())
    }
}

/// Length and SHA-256 of a file.
fn hash(path: &Path) -> Result<(u64, String), Error> {
    let mut file = File::open(path).map_err(|error| Error::file(path, error))?;
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let read = read::in_chunks(&mut file, |chunk| {
        bytes += chunk.len() as u64;
        hash.update(chunk);
    });
    read.map_err(|error| Error::file(path, error))?;
    Ok((bytes, hex(hash.finalize())))
}

/// That a backup is not the one that its manifest speaks of.
pub(crate) fn changed(backup: impl Into<PathBuf>) -> Error {
    Error::changed(backup, "the file that its manifest was signed for")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signing_key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap()
    }

    /// Key and signature of RFC 8032, section 7.1, test 1, are of the empty
    /// message, which nothing here signs: only its key is compared.
    #[test]
    fn keys_are_those_of_rfc_8032() {
        let seed =
            key::bytes("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let key = SigningKey::from_seed(seed.first_chunk().unwrap()).unwrap();
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(key.public().to_string(), public);
        assert_eq!(public.parse::<PublicKey>().unwrap(), key.public());
        assert_eq!(
            format!("{key:?}"),
            format!("SigningKey(PublicKey({public}))")
        );
        for text in ["", "d7", "xy", &public[1..]] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn what_was_signed_is_read_again_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let backup = folder.path().join("etcd.db");
        fs::write(&backup, b"a snapshot").unwrap();
        let taken = "2026-11-29T02:00:00Z".parse().unwrap();
        let mut manifest = Manifest::of(&backup, taken, BackupProof::Restored).unwrap();
        manifest.revision = Some(17);
        manifest.encryption_keys = vec!["kms:foo".to_owned()];
        let key = signing_key(1);
        let path = manifest.write(folder.path(), &key).await.unwrap();
        assert_eq!(path, Manifest::path_of(&backup));
        let trusted = [signing_key(2).public(), key.public()];
        assert_eq!(manifest.signed_by(), None);
        manifest.signer = Some(key.public());
        assert_eq!(Manifest::open(&backup, &trusted).unwrap(), manifest);
        manifest.check(&backup).unwrap();

        // Signed by nobody who counts.
        for keys in [&[][..], &trusted[..1]] {
            let error = Manifest::open(&backup, keys).unwrap_err();
            assert!(matches!(error, Error::Untrusted { .. }), "{error}");
        }
        // Any bit of it changed.
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            match Manifest::open(&backup, &trusted) {
                // Blanks between the fields, and case of hex digits.
                Ok(read) => assert_eq!(read, manifest, "{at}"),
                Err(Error::Untrusted { .. } | Error::Malformed { .. }) => {}
                Err(error) => panic!("{at}: {error}"),
            }
        }
        fs::write(&path, &whole).unwrap();

        // Put beside another backup; a backup that was changed; one cut short.
        let other = folder.path().join("other.db");
        fs::copy(&path, Manifest::path_of(&other)).unwrap();
        for (name, bytes) in [
            (&other, &b"a snapshot"[..]),
            (&backup, b"a Snapshot"),
            (&backup, b"a snap"),
        ] {
            fs::write(name, bytes).unwrap();
            let opened = Manifest::open(name, &trusted);
            let error = opened
                .and_then(|manifest| manifest.check(name))
                .unwrap_err();
            assert!(matches!(error, Error::Changed { .. }), "{error}");
        }

        // One of before more was recorded.
        let old = r#"{"schema":1,"file":"etcd.db","bytes":10,"sha256":"00","taken":"2026-09-01T00:00:00Z","proof":"proven"}"#;
        let text = serde_json::json!({ "manifest": old, "signature": key.sign(old) });
        fs::write(&path, text.to_string()).unwrap();
        let read = Manifest::open(&backup, &trusted).unwrap();
        assert_eq!((read.proof, read.voters), (BackupProof::Proven, None));
        assert!(read.compared.is_empty());

        // A form of the future is refused, not guessed at.
        manifest.schema = 2;
        manifest.write(folder.path(), &key).await.unwrap();
        let error = Manifest::open(&backup, &trusted).unwrap_err();
        assert!(error.to_string().contains("schema 2"), "{error}");
    }
}
