//! The backup of a run: a snapshot of the demo's cluster, or what the flags say of a
//! real one.

mod embedded;
mod flags;
mod from_nodes;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use migrate_core::steps::{BACKUP_UNPROVEN, BackupProof, BackupReport};
use migrate_core::{BackUpData, Finding, ObjectName, Severity, StepContext, StepError, StepInput};
use migrate_etcd::{
    Lock, Member, NamedMembers, ProvenBackup, PublicKey, Seal, SigningKey, Store, StoredBackup,
};

pub(crate) use self::embedded::EmbeddedSnapshot;
pub(crate) use self::flags::BackupFlags;
use self::from_nodes::{FromNodes, Keeping};
use crate::cli::Cli;
use crate::failure::Failure;
use crate::files::text;
use crate::nodes;
use crate::reach::Reach;

/// What the flags say of the backup, with the keys that they name read.
pub(crate) struct Chosen {
    keeping: Keeping,
    /// The member of `--etcd`, and those that it tells of.
    named: Option<NamedMembers>,
    /// Somebody else backs up: whose signatures count.
    trusted: Vec<PublicKey>,
}

impl Chosen {
    /// Reads the files that the flags name.
    pub(crate) fn read(cli: &Cli) -> Result<Self, Failure> {
        let flags = &cli.backup;
        let named = cli.etcd.as_ref().map(|endpoint| members(cli, endpoint));
        let trusted = flags.trusted.iter().map(|key| key.parse());
        let keeping = Keeping {
            seal: lock(flags)?.map(|lock| Seal::new(lock).compressed()),
            signing: flags.sign.as_deref().map(signing).transpose()?,
            store: store(flags)?,
            trial_etcd: flags.trial_etcd.clone(),
            least_rate: flags.least_rate.map(|kib| kib << 10),
        };
        if keeping.store.is_some() && keeping.signing.is_none() && flags.trusted.is_empty() {
            return Err(Failure::plain(
                "--backup-store: say who signs what is put there, with --backup-sign, or whose \
                 backups are taken from there, with --backup-trusted",
            ));
        }
        Ok(Self {
            keeping,
            named: named.transpose()?,
            trusted: trusted
                .collect::<Result<_, _>>()
                .map_err(|error| Failure::new("--backup-trusted", error))?,
        })
    }

    /// Whether a run needs no waiver for its backup, as far as flags tell: one that is
    /// proven, and that somebody signs.
    pub(crate) fn proves(&self, cli: &Cli) -> bool {
        let keeping = &self.keeping;
        let is_signed_set = keeping.seal.is_some() && keeping.signing.is_some();
        !self.trusted.is_empty() || (self.asks_nodes(cli) && is_signed_set)
    }

    /// Whether control-plane nodes are asked, for members, certificates or files.
    pub(crate) fn asks_nodes(&self, cli: &Cli) -> bool {
        cli.kubeadm && !cli.backup.no_backup && self.trusted.is_empty()
    }

    /// The step where no node is asked.
    pub(crate) fn without_nodes(&self, cli: &Cli) -> Arc<dyn BackUpData> {
        let folder = &cli.backup_dir;
        match (&self.keeping.store, &self.named) {
            (Some(store), _) if !self.trusted.is_empty() => {
                // How old it may be is for the run to say, by a finding that a person
                // can waive.
                let within = Duration::MAX;
                Arc::new(StoredBackup::new(
                    store.clone(),
                    self.trusted.clone(),
                    within,
                ))
            }
            (_, Some(members)) => {
                let mut step = ProvenBackup::finding(Arc::new(members.clone()), folder);
                if let Some(seal) = &self.keeping.seal {
                    step = step.sealed(seal.clone());
                }
                Arc::new(self.keeping.finish(step, folder))
            }
            (_, None) => Arc::new(NoBackup),
        }
    }

    /// The step where control-plane nodes are asked, over ssh.
    pub(crate) fn with_nodes(&self, cli: &Cli, client: kube::Client) -> Arc<dyn BackUpData> {
        Arc::new(FromNodes {
            client,
            ssh: nodes::own_ssh(cli),
            folder: cli.backup_dir.clone(),
            named: self.named.clone(),
            keeping: self.keeping.clone(),
        })
    }
}

/// The store; who makes no backup makes no empty store of a typing error either.
fn store(flags: &BackupFlags) -> Result<Option<Store>, Failure> {
    let open = match flags.trusted.as_slice() {
        [] => Store::open_or_create,
        _ => Store::open,
    };
    Ok(flags.store.as_deref().map(open).transpose()?)
}

fn members(cli: &Cli, endpoint: &str) -> Result<NamedMembers, Failure> {
    let named = NamedMembers::new(vec![member(cli, endpoint)?]);
    Ok(match cli.etcd_only_named {
        true => named.only_named(),
        false => named,
    })
}

fn member(cli: &Cli, endpoint: &str) -> Result<Member, Failure> {
    let password = cli.etcd_password_file.as_deref();
    let reach = Reach {
        ca: cli.etcd_ca.as_deref(),
        identity: cli.etcd_cert.as_deref().zip(cli.etcd_key.as_deref()),
        user: cli.etcd_user.as_deref().zip(password),
    };
    Ok(reach.read(text)?.member(endpoint))
}

/// Who can open it, if anybody was named.
fn lock(flags: &BackupFlags) -> Result<Option<Lock>, Failure> {
    Ok(
        match (&flags.passphrase_file, flags.recipients.as_slice()) {
            (Some(file), _) => Some(Lock::with_passphrase(text(file)?.trim_end())?),
            (None, []) => None,
            (None, keys) => Some(Lock::for_keys(keys)?),
        },
    )
}

/// The key that signs, by the file of its seed.
pub(crate) fn signing(path: &Path) -> Result<Arc<SigningKey>, Failure> {
    let named = |error: String| Failure::new(path.display(), error);
    let seed = std::fs::read(path).map_err(|error| named(error.to_string()))?;
    let seed = seed.as_slice().try_into();
    let seed = seed.map_err(|_| {
        named("is no seed, which has 32 bytes; `etcd_backup keygen` makes one".to_owned())
    })?;
    Ok(Arc::new(SigningKey::from_seed(seed)?))
}

/// Nothing is backed up, which a person has to accept.
struct NoBackup;

#[async_trait::async_trait]
impl BackUpData for NoBackup {
    async fn run(&self, _: &StepContext, input: &StepInput) -> Result<BackupReport, StepError> {
        let finding = Finding::new(
            BACKUP_UNPROVEN,
            Severity::Blocker,
            ObjectName::cluster("Cluster", input.model.cluster.as_str()),
            "no backup was made: no etcd member was named, or none was asked for",
            "give --backup-recipient with --kubeadm, or --etcd, or waive KM-BACKUP-001 if you have \
             a proven backup",
        );
        Ok(BackupReport::new(BackupProof::None, Vec::new()).with_finding(finding))
    }
}
