//! Whether a file is what somebody who is trusted has signed: asked before anything is
//! made of it; and who signs.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use clap::Args;
use migrate_core::Moment;
use migrate_core::steps::{BackupArtifact, BackupProof};
use migrate_etcd::{Error, Inspection, Manifest, Proof, PublicKey, SetRecord, SigningKey, inspect};

use crate::cli::Outcome;
use crate::flags::named;
use crate::lines::say;
use crate::show;

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
    /// The SHA-256 that `file` has to have, none if none was asked for; and when it was
    /// taken, where that is signed.
    pub(crate) fn check(self, file: &Path) -> Outcome<(Option<String>, Option<Moment>)> {
        if self.unsigned || self.sha256.is_some() {
            return Ok((self.sha256, None));
        }
        if !self.trusted.is_empty() {
            let manifest = Manifest::open(file, &public_keys(&self.trusted)?)?;
            print!("{}", show::manifest(&manifest));
            print!("{}", show::unproven(&manifest));
            return Ok((Some(manifest.sha256), Some(manifest.taken.into())));
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

/// What is known of a bare snapshot besides what is in it.
pub(crate) enum Standing<'p> {
    /// It is equal to members.
    Proven(&'p Proof),
    Forced,
    /// Nobody has compared it, or says so.
    Found,
}

/// Signs what is known of a bare snapshot, beside it. It stays as it is where that fails.
pub(crate) async fn sign_snapshot(
    snapshot: &BackupArtifact,
    taken: Moment,
    inspection: &Inspection,
    standing: Standing<'_>,
    key: &SigningKey,
) -> Outcome<()> {
    let signed = sign(snapshot, taken, inspection, standing, key).await;
    let file = snapshot.path.display();
    let written = signed.map_err(|error| {
        format!(
            "{error}; the snapshot is there, and unsigned: `sign {file} --sign KEY` makes up for it"
        )
    })?;
    say(format!("signed     {}", written.display()));
    Ok(())
}

async fn sign(
    snapshot: &BackupArtifact,
    taken: Moment,
    inspection: &Inspection,
    standing: Standing<'_>,
    key: &SigningKey,
) -> Outcome<PathBuf> {
    let path = snapshot.path.clone();
    let made = move || Manifest::of(&path, taken.into(), BackupProof::Unproven);
    let mut manifest = tokio::task::spawn_blocking(made)
        .await??
        .holding(inspection);
    if manifest.sha256 != snapshot.sha256 {
        let shown = snapshot.path.display();
        return Err(format!("{shown}: is not what was saved any more, and is not signed").into());
    }
    match standing {
        Standing::Proven(proof) => manifest = manifest.compared(proof),
        Standing::Forced => manifest.forced = true,
        Standing::Found => {}
    }
    let folder = snapshot.path.parent().unwrap_or_else(|| Path::new("."));
    Ok(manifest.write(folder, key).await?)
}

/// Signs a snapshot that is there, as of when it was last written.
pub(crate) async fn sign_file(file: PathBuf, key: &SigningKey) -> Outcome<()> {
    let path = file.clone();
    let found = tokio::task::spawn_blocking(move || inspect(&path)).await??;
    print!("{}", show::inspection(&found));
    if found.trailer.is_none() {
        return Err(format!(
            "{}: has no SHA-256 at its end: it is no snapshot of a member",
            file.display()
        )
        .into());
    }
    let written = std::fs::metadata(&file).and_then(|there| there.modified());
    let written = written.map_err(|error| named(&file, error))?;
    let since = written.duration_since(UNIX_EPOCH).unwrap_or_default();
    let taken = Moment::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let path = file.clone();
    let whole = tokio::task::spawn_blocking(move || {
        Manifest::of(&path, taken.into(), BackupProof::Unproven)
    });
    let whole = whole.await??;
    let snapshot = BackupArtifact::new(file, whole.bytes, whole.sha256);
    say("UNPROVEN   nobody was compared with it");
    print!("{}", show::plain());
    sign_snapshot(&snapshot, taken, &found, Standing::Found, key).await
}

pub(crate) fn public_keys(keys: &[String]) -> Result<Vec<PublicKey>, Error> {
    keys.iter().map(|key| key.parse()).collect()
}
