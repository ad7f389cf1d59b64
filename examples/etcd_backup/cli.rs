//! The command line.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use migrate_etcd::{ApiServer, FolderNode, LiveKeys, Lock, NodeFiles, Seal, SigningKey, Store};

use crate::flags::{Further, Keep, Members, Opener, Pace, Place, Wanted, read};
use crate::save::Save;
use crate::trust::{Known, Signed, signing_key};

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;
/// Nodes whose files go into a set, and the keys that these have to have.
pub(crate) type NodesAndKeys = (Vec<Arc<dyn NodeFiles>>, LiveKeys);

/// Backups of etcd: taken, looked into, proven, kept, found again, and restored.
#[derive(Parser)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Checks a file page by page and tells what is in it; needs no etcd.
    Inspect {
        /// Snapshot.
        file: PathBuf,
        /// Tells it as JSON.
        #[arg(long)]
        json: bool,
        /// Accepts a file without a SHA-256 at its end: one of a data folder.
        #[arg(long)]
        without_trailer: bool,
    },
    /// Takes a snapshot of the endpoint that is best asked, and proves it equal to all.
    Save(Save),
    /// Signs a snapshot that `save --sign` has saved and could not sign: what is in it, and no
    /// member that it is equal to.
    Sign {
        /// Snapshot.
        file: PathBuf,
        /// Seed that it is signed with, see keygen.
        #[arg(long, value_name = "FILE")]
        sign: PathBuf,
        /// When it was taken, as `save` has said: 2026-11-29T02:00:00Z. By that a restore counts
        /// how far the cluster got on since.
        #[arg(long)]
        taken: String,
        /// Version of the member that it is of; the cluster's otherwise, whose patch is always 0.
        #[arg(long)]
        etcd: Option<String>,
        /// It was forced.
        #[arg(long)]
        forced: bool,
    },
    /// Compares a file with live members. Right after the save: they forget.
    Prove {
        /// Snapshot.
        file: PathBuf,
        #[command(flatten)]
        members: Members,
    },
    /// Lists what a restore of a backup would lose, end, or leave behind; needs no etcd.
    Compare {
        /// Snapshot of the backup.
        backup: PathBuf,
        /// A later state of the cluster: a snapshot, or `member/snap/db` of a data folder
        /// that no etcd has open.
        later: PathBuf,
        /// Tells it as JSON, which has every object.
        #[arg(long)]
        json: bool,
    },
    /// Makes keys: one that backups are encrypted for, one that signs manifests.
    Keygen {
        /// Folder for the secret halves; keep it where the backups are not.
        folder: PathBuf,
    },
    /// Takes a whole backup: proven, tried, with the nodes' files, encrypted, signed, stored.
    Backup(Box<Backup>),
    /// Opens an encrypted backup, and unpacks it if it is a set.
    Open {
        /// What a backup or fetch has left.
        file: PathBuf,
        /// Where to; a set becomes this folder.
        folder: PathBuf,
        #[command(flatten)]
        opener: Opener,
        #[command(flatten)]
        signed: Signed,
    },
    /// Makes the data folder of a new cluster from a snapshot; needs no etcd.
    Restore {
        /// Snapshot.
        file: PathBuf,
        /// Data folder; it has to be empty.
        data_dir: PathBuf,
        /// The log's own folder, if etcd is started with --wal-dir; it has to be empty.
        #[arg(long)]
        wal_dir: Option<PathBuf>,
        /// This member.
        #[arg(long, default_value = "default")]
        name: String,
        /// All members, NAME=https://HOST:2380,…
        #[arg(long)]
        initial_cluster: String,
        /// Any text that no cluster before had.
        #[arg(long)]
        token: String,
        /// Version of the etcd that will run on it, e.g. 3.6.
        #[arg(long)]
        etcd: String,
        #[command(flatten)]
        known: Known,
        /// The file is a copy of `member/snap/db` of a data folder, made while no etcd had it
        /// open: it has no SHA-256 at its end, so that only its form is checked. How it is
        /// known has to be said all the same.
        #[arg(long)]
        from_copy: bool,
        /// Takes what is left in a damaged file, whose SHA-256 need not be the one at its end:
        /// the last way out, where there is no other backup. Records that are damaged are left
        /// out; how many is told, and objects, users or leases are lost with them.
        #[arg(long)]
        salvage: bool,
        /// Raises the revision to this one at least. Needed where a backup was restored
        /// before: clients have seen more of that cluster than the backup has.
        #[arg(long)]
        revision_at_least: Option<i64>,
        #[command(flatten)]
        further: Further,
    },
    /// Puts a backup and its manifest into a store.
    Put {
        /// Backup, its manifest beside it.
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Lists the backups of a store.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Fetches the newest backup that is sound.
    Fetch {
        /// Where to.
        folder: PathBuf,
        #[command(flatten)]
        wanted: Wanted,
        #[command(flatten)]
        place: Place,
    },
    /// Removes backups that nobody needs any more.
    Prune {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        keep: Keep,
    },
}

impl Command {
    /// Whether it takes away what it has begun when it is cancelled. The others have nothing
    /// to take away that is not gone with them, and end at once.
    pub(crate) fn listens(&self) -> bool {
        match self {
            Self::Save(_)
            | Self::Backup(_)
            | Self::Open { .. }
            | Self::Restore { .. }
            | Self::Put { .. }
            | Self::Fetch { .. } => true,
            Self::Inspect { .. }
            | Self::Sign { .. }
            | Self::Prove { .. }
            | Self::Compare { .. }
            | Self::Keygen { .. }
            | Self::List { .. }
            | Self::Prune { .. } => false,
        }
    }
}

#[derive(Args)]
pub(crate) struct Backup {
    /// Folder for it.
    pub(crate) folder: PathBuf,
    /// The cluster: `kubectl get ns kube-system -o jsonpath={.metadata.uid}`.
    #[arg(long)]
    pub(crate) cluster: String,
    /// Version of its oldest API server.
    #[arg(long)]
    pub(crate) kubernetes: Option<String>,
    #[command(flatten)]
    pub(crate) members: Members,
    #[command(flatten)]
    pub(crate) pace: Pace,
    #[command(flatten)]
    locks: Locks,
    /// Takes it even if none of the members knows a leader, where quorum is lost, of the one
    /// that has got furthest: it is never proven then.
    #[arg(long)]
    pub(crate) force: bool,
    /// Seed that manifests are signed with, see keygen.
    #[arg(long)]
    sign: PathBuf,
    /// A control-plane node and where its `/` is: NAME=FOLDER; again for each.
    #[arg(long = "node", requires_all = ["live_ca", "live_jwks"])]
    nodes: Vec<String>,
    /// `kubectl -n kube-system get cm kube-root-ca.crt -o jsonpath={.data.ca\.crt}`.
    #[arg(long, requires = "nodes")]
    live_ca: Option<PathBuf>,
    /// `kubectl get --raw /openid/v1/jwks`.
    #[arg(long, requires = "nodes")]
    live_jwks: Option<PathBuf>,
    /// Starts this etcd on what is restored on trial, which else is read again only.
    #[arg(long)]
    pub(crate) trial_etcd: Option<PathBuf>,
    /// Starts this kube-apiserver on that etcd, without any network, and lists all that it
    /// serves.
    #[arg(long, requires_all = ["trial_etcd", "trial_kubectl"])]
    trial_api_server: Option<PathBuf>,
    /// The kubectl that asks it.
    #[arg(long)]
    trial_kubectl: Option<PathBuf>,
    /// The encryption configuration, where objects are encrypted at rest.
    #[arg(long, requires = "trial_api_server")]
    trial_encryption_config: Option<PathBuf>,
    /// What it is put into: a folder, or s3://BUCKET/PREFIX.
    #[arg(long)]
    store: Option<String>,
}

impl Backup {
    pub(crate) fn seal(&self) -> Outcome<Option<Seal>> {
        let lock = match (
            &self.locks.passphrase_file,
            self.locks.recipients.as_slice(),
        ) {
            (Some(file), _) => Lock::with_passphrase(read(file)?.trim_end())?,
            (None, []) => return Ok(None),
            (None, keys) => Lock::for_keys(keys)?,
        };
        let seal = Seal::new(lock);
        Ok(Some(match self.locks.compress {
            true => seal.compressed(),
            false => seal,
        }))
    }

    /// The API server of the trial.
    pub(crate) fn api_server(&self) -> Outcome<Option<ApiServer>> {
        let programs = (&self.trial_api_server, &self.trial_kubectl);
        let (Some(server), Some(kubectl)) = programs else {
            return Ok(None);
        };
        let server = ApiServer::new(std::path::absolute(server)?, std::path::absolute(kubectl)?);
        Ok(Some(match &self.trial_encryption_config {
            Some(file) => server.with_encryption_config(std::path::absolute(file)?),
            None => server,
        }))
    }

    pub(crate) fn signing(&self) -> Outcome<Arc<SigningKey>> {
        Ok(Arc::new(signing_key(&self.sign)?))
    }

    /// The nodes and the keys that they have to have.
    pub(crate) fn nodes(&self) -> Outcome<Option<NodesAndKeys>> {
        let (Some(ca), Some(jwks)) = (&self.live_ca, &self.live_jwks) else {
            return Ok(None);
        };
        let node = |text: &String| -> Outcome<Arc<dyn NodeFiles>> {
            let (name, root) = text
                .split_once('=')
                .ok_or_else(|| format!("{text}: give NAME=FOLDER"))?;
            Ok(Arc::new(FolderNode::new(name, root)))
        };
        let nodes = self.nodes.iter().map(node).collect::<Outcome<_>>()?;
        Ok(Some((nodes, LiveKeys::parse(&read(ca)?, &read(jwks)?)?)))
    }

    pub(crate) fn store(&self) -> Outcome<Option<Store>> {
        let store = self.store.as_deref().map(Store::open_or_create);
        Ok(store.transpose()?)
    }
}

#[derive(Args)]
struct Locks {
    /// Public key of age that it is encrypted for; again for each.
    #[arg(long = "recipient", conflicts_with = "lock_passphrase_file")]
    recipients: Vec<String>,
    /// Encrypts it with the passphrase in this file.
    #[arg(long = "lock-passphrase-file", id = "lock_passphrase_file")]
    passphrase_file: Option<PathBuf>,
    /// Compresses it first.
    #[arg(long)]
    compress: bool,
}
