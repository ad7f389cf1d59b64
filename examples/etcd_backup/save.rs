//! `save`, and `sign` for what it could not sign.

use std::path::{Path, PathBuf};

use clap::Args;
use migrate_core::steps::BackupProof;
use migrate_core::{Cancellation, Clock, Moment};
use migrate_etcd::{Inspection, Manifest, Proof, SigningKey, SnapshotBackup, inspect};
use migrate_kube::TokioClock;

use crate::cli::Outcome;
use crate::flags::{Members, Pace};
use crate::lines::say;
use crate::trust::signing_key;
use crate::{bars, folder_of, show};

#[derive(Args)]
pub(crate) struct Save {
    /// Where to; nothing is overwritten.
    file: PathBuf,
    #[command(flatten)]
    pub(crate) members: Members,
    #[command(flatten)]
    pace: Pace,
    /// Takes it even if none of the members knows a leader, where quorum is lost, of the one
    /// that has got furthest: it is never proven then.
    #[arg(long)]
    force: bool,
    /// Writes a manifest beside it, signed with this seed, see keygen: what it is, and which
    /// members it is equal to. A snapshot alone is never `proven`, which asks for the keys of
    /// the cluster too; see backup.
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
}

impl Save {
    pub(crate) async fn run(self, cancel: &Cancellation) -> Outcome {
        let Self {
            file,
            members,
            pace,
            force,
            sign,
        } = self;
        // Before anything is asked of a member.
        let key = sign.as_deref().map(signing_key).transpose()?;
        let taken = TokioClock::system().now();
        let name = file.file_name().and_then(|name| name.to_str());
        let name = name.ok_or("name the file that the snapshot becomes")?;
        let found = members.found(force).await?;
        say(format!("member     {}", found.source.endpoint));
        let backup = SnapshotBackup::new(found.source, folder_of(&file))
            .with_stall(members.stall())
            .with_least_rate(pace.least_rate());
        let bar = bars::bytes("saving");
        let (artifact, proof) = if found.is_forced {
            let saved = backup.forced().save(name, cancel, bars::moves(&bar)).await;
            bar.finish_and_clear();
            (saved?, None)
        } else {
            let moving = bar.clone();
            let save = backup.save_proven(name, &found.members, cancel, |done, of| {
                bars::moves(&moving)(done, of);
                if done == of {
                    moving.set_message("proving");
                }
            });
            let proven = save.await?;
            bar.finish_and_clear();
            (proven.artifact, Some(proven.proof))
        };
        say(format!("{}", artifact.path.display()));
        say(format!("sha256     {}", artifact.sha256));
        let forced;
        let inspection = match &proof {
            Some(proof) => &proof.inspection,
            None => {
                let path = artifact.path.clone();
                forced = tokio::task::spawn_blocking(move || inspect(&path)).await??;
                &forced
            }
        };
        print!("{}", show::inspection(inspection));
        match &proof {
            Some(proof) => print!("{}", show::proof(proof)),
            None => say("UNPROVEN   it was FORCED: it may be old, and nobody was compared with it"),
        }
        // What there is to warn of is said whatever becomes of the signature.
        print!("{}", show::plain());
        let Some(key) = key else {
            return Ok(());
        };
        let saved = Saved {
            path: artifact.path,
            sha256: Some(artifact.sha256),
            taken,
            etcd: found.version,
            is_forced: found.is_forced,
        };
        let signed = saved.sign(inspection, proof.as_ref(), &key).await;
        signed.map_err(|error| saved.not_signed(&*error, sign.as_deref()).into())
    }
}

/// A bare snapshot that is signed.
pub(crate) struct Saved {
    pub(crate) path: PathBuf,
    /// What it was when it was saved, if that is known.
    pub(crate) sha256: Option<String>,
    pub(crate) taken: Moment,
    /// Version of the member that it is of, if that is known.
    pub(crate) etcd: Option<String>,
    pub(crate) is_forced: bool,
}

impl Saved {
    /// Signs what is known of it, beside it: what is in it, and which members it is equal to,
    /// if there is a `proof` of that.
    async fn sign(
        &self,
        inspection: &Inspection,
        proof: Option<&Proof>,
        key: &SigningKey,
    ) -> Outcome {
        let (path, taken) = (self.path.clone(), self.taken.into());
        let made = move || Manifest::of(&path, taken, BackupProof::Unproven);
        let mut manifest = tokio::task::spawn_blocking(made)
            .await??
            .holding(inspection);
        if self
            .sha256
            .as_ref()
            .is_some_and(|it| *it != manifest.sha256)
        {
            let shown = self.path.display();
            return Err(format!("{shown}: is not what was saved any more").into());
        }
        if let Some(etcd) = &self.etcd {
            manifest.etcd = Some(etcd.clone());
        }
        if let Some(proof) = proof {
            manifest = manifest.compared(proof);
        }
        manifest.forced = self.is_forced;
        let written = manifest.write(folder_of(&self.path), key);
        say(format!("signed     {}", written.await?.display()));
        Ok(())
    }

    /// Signs one that is there already, and has no manifest yet.
    pub(crate) async fn sign_later(&self, key: &SigningKey) -> Outcome {
        let manifest = Manifest::path_of(&self.path);
        if manifest.exists() {
            let shown = manifest.display();
            return Err(format!("{shown}: it is signed already; remove that first").into());
        }
        let path = self.path.clone();
        let inspection = tokio::task::spawn_blocking(move || inspect(&path)).await??;
        if inspection.trailer.is_none() {
            return Err(crate::lost_trailer(&self.path).into());
        }
        self.sign(&inspection, None, key).await
    }

    /// That it is there all the same, and how it is signed.
    fn not_signed(&self, error: &dyn std::error::Error, seed: Option<&Path>) -> String {
        let seed = seed.map_or_else(|| "SEED".into(), Path::to_string_lossy);
        let etcd = self.etcd.iter().map(|etcd| format!(" --etcd {etcd}"));
        let etcd: String = etcd.collect();
        let forced = if self.is_forced { " --forced" } else { "" };
        let (file, taken) = (self.path.display(), self.taken);
        format!(
            "{error}; {file} is saved all the same, and NOT SIGNED: `etcd_backup sign {file} \
             --sign {seed} --taken {taken}{etcd}{forced}` signs it"
        )
    }
}
