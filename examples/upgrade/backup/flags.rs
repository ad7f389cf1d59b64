//! Flags of the backup; where etcd is, is said by those of `cli.rs`.

use std::path::PathBuf;

use clap::Args;

/// What becomes of a backup, or whose backup counts.
#[derive(Args, Debug, Default)]
pub(crate) struct BackupFlags {
    /// Public key of age (age1…) that backups are encrypted for; again for each. With
    /// --kubeadm the backup is then a set: the snapshot, proven equal to the live
    /// members, and keys and configuration of each control-plane node.
    #[arg(long = "backup-recipient", id = "backup_recipient", global = true)]
    #[arg(value_name = "KEY")]
    pub(crate) recipients: Vec<String>,
    /// Encrypts them with the passphrase in this file.
    #[arg(long = "backup-passphrase-file", id = "backup_passphrase_file")]
    #[arg(global = true, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Seed that manifests are signed with, the demo's too; `etcd_backup keygen` makes one.
    #[arg(
        long = "backup-sign",
        id = "backup_sign",
        global = true,
        value_name = "FILE"
    )]
    pub(crate) sign: Option<PathBuf>,
    /// Folder that backups are put into, best on another machine's disk, or
    /// s3://BUCKET/PREFIX (a build with --features s3; address and credentials by
    /// AWS_…); beside --backup-dir, where they stay.
    #[arg(
        long = "backup-store",
        id = "backup_store",
        global = true,
        value_name = "PLACE"
    )]
    pub(crate) store: Option<String>,
    /// etcd that is started on each backup on trial, where nobody reaches it.
    #[arg(long = "backup-trial-etcd", id = "backup_trial_etcd", global = true)]
    #[arg(value_name = "PROGRAM")]
    pub(crate) trial_etcd: Option<PathBuf>,
    /// KiB a second that a snapshot has to come with on average, or else it is given up: the
    /// member's database cannot use room again meanwhile. 1024 if not said; less for a slow link.
    #[arg(long = "backup-least-rate", id = "backup_least_rate", global = true)]
    #[arg(value_name = "KIB", value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    pub(crate) least_rate: Option<u64>,
    /// Makes no backup: one that this public key has signed has to be in the store,
    /// proven and younger than the policy's backup.max-age; again for each key.
    #[arg(long = "backup-trusted", id = "backup_trusted", global = true)]
    #[arg(value_name = "KEY")]
    pub(crate) trusted: Vec<String>,
    /// Makes no backup and looks for none, which needs a waiver of KM-BACKUP-001.
    #[arg(long = "no-backup", id = "no_backup", global = true)]
    pub(crate) no_backup: bool,
}

impl BackupFlags {
    /// Whether anything was said that only the backup of a real cluster has.
    pub(crate) fn names_a_cluster(&self) -> bool {
        let files = [&self.passphrase_file, &self.trial_etcd];
        let keys = [&self.recipients, &self.trusted];
        self.no_backup
            || self.store.is_some()
            || self.least_rate.is_some()
            || files.into_iter().any(Option::is_some)
            || keys.into_iter().any(|keys| !keys.is_empty())
    }
}
