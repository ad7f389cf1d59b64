//! Whether a file is what somebody who is trusted has signed: asked before anything is
//! made of it; and whose key signs.

use std::path::{Path, PathBuf};

use clap::Args;
use migrate_etcd::{Error, Manifest, PublicKey, SetRecord, SigningKey};

use crate::cli::Outcome;
use crate::flags::named;

/// Who has to have signed a backup.
#[derive(Args)]
#[group(id = "signed", required = true, multiple = false)]
pub(crate) struct Signed {
    /// Public key that the manifest beside the file has to be signed with; again for each.
    #[arg(long = "trusted", value_name = "KEY")]
    trusted: Vec<String>,
    /// Takes the file as it is: whoever can write where it lies may have exchanged it.
    #[arg(long)]
    unsigned: bool,
}

impl Signed {
    /// The manifest beside `file`, which is the file that it was signed for, byte for byte;
    /// none if none was asked for.
    pub(crate) async fn check(&self, file: &Path) -> Outcome<Option<Manifest>> {
        if self.unsigned {
            return Ok(None);
        }
        let (file, trusted) = (file.to_owned(), public_keys(&self.trusted)?);
        let check = move || {
            let manifest = Manifest::open(&file, &trusted)?;
            manifest.check(&file)?;
            Ok::<_, Error>(manifest)
        };
        Ok(Some(tokio::task::spawn_blocking(check).await??))
    }
}

/// By what a snapshot is known to be the right one. That of a set that was opened is so by
/// the record beside it.
#[derive(Args)]
#[group(id = "known", multiple = false)]
pub(crate) struct Known {
    /// Public key that the manifest beside the file has to be signed with; again for each.
    #[arg(long = "trusted", value_name = "KEY")]
    trusted: Vec<String>,
    /// Refuses any other file than that of this SHA-256.
    #[arg(long)]
    sha256: Option<String>,
    /// Takes the file as it is: whoever can write where it lies may have exchanged it.
    #[arg(long)]
    unsigned: bool,
}

impl Known {
    /// The SHA-256 that `file` has to have, none if none was asked for; and what is signed of
    /// it, where that was asked for.
    pub(crate) fn check(self, file: &Path) -> Outcome<(Option<String>, Option<Manifest>)> {
        if self.unsigned || self.sha256.is_some() {
            return Ok((self.sha256, None));
        }
        if !self.trusted.is_empty() {
            let manifest = Manifest::open(file, &public_keys(&self.trusted)?)?;
            return Ok((Some(manifest.sha256.clone()), Some(manifest)));
        }
        match record_beside(file)? {
            Some(record) => Ok((Some(record.snapshot.sha256), None)),
            None => Err(format!(
                "{}: nothing says that it is the right one; give --trusted KEY if its manifest \
                 lies beside it, or --sha256, or say --unsigned",
                file.display()
            )
            .into()),
        }
    }
}

/// The record of the set that `file` is the snapshot of.
fn record_beside(file: &Path) -> Outcome<Option<SetRecord>> {
    let path: PathBuf = file.with_file_name("set.json");
    if file.file_name().is_none_or(|name| name != "snapshot.db") || !path.exists() {
        return Ok(None);
    }
    let named = |error: String| format!("{}: {error}", path.display());
    let text = std::fs::read(&path).map_err(|error| named(error.to_string()))?;
    let record = serde_json::from_slice(&text).map_err(|error| named(error.to_string()))?;
    Ok(Some(record))
}

/// The key that signs, by the file of its seed.
pub(crate) fn signing_key(path: &Path) -> Outcome<SigningKey> {
    let seed = std::fs::read(path).map_err(|error| named(path, error))?;
    let seed = seed.as_slice().try_into();
    let seed = seed.map_err(|_| format!("{}: a seed has 32 bytes", path.display()))?;
    Ok(SigningKey::from_seed(seed)?)
}

pub(crate) fn public_keys(keys: &[String]) -> Result<Vec<PublicKey>, Error> {
    keys.iter().map(|key| key.parse()).collect()
}
