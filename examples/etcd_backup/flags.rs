//! Flags that several commands share, and what their files hold.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use migrate_core::Moment;
use migrate_etcd::{
    FindMembers, FoundMembers, KeyRing, Manifest, Member, NamedMembers, PublicKey, Restore,
    Restored, Retention, Store,
};

use crate::cli::Outcome;
use crate::reach::Reach;
use crate::trust::public_keys;

#[derive(Args)]
pub(crate) struct Opener {
    /// Secret key, see keygen.
    #[arg(
        long,
        conflicts_with = "open_passphrase_file",
        required_unless_present = "open_passphrase_file"
    )]
    identity: Option<PathBuf>,
    /// File with the passphrase.
    #[arg(long = "passphrase-file", id = "open_passphrase_file")]
    passphrase_file: Option<PathBuf>,
}

impl Opener {
    pub(crate) fn keys(&self) -> Outcome<Arc<KeyRing>> {
        Ok(Arc::new(match (&self.identity, &self.passphrase_file) {
            (Some(file), _) => KeyRing::parse(&read(file)?)?,
            (None, Some(file)) => KeyRing::with_passphrase(read(file)?.trim_end()),
            (None, None) => return Err("give --identity or --passphrase-file".into()),
        }))
    }
}

#[derive(Args)]
pub(crate) struct Place {
    /// Folder, or s3://BUCKET/PREFIX (a build with --features s3; address and credentials by
    /// AWS_…).
    #[arg(long)]
    store: String,
    /// Public key that manifests have to be signed with; again for each.
    #[arg(long = "trusted", required = true)]
    trusted: Vec<String>,
}

impl Place {
    /// The store that is there.
    pub(crate) fn open(&self) -> Outcome<(Store, Vec<PublicKey>)> {
        Ok((Store::open(&self.store)?, self.trusted()?))
    }

    /// The store, which is made if it is a folder that is missing.
    pub(crate) fn open_or_create(&self) -> Outcome<(Store, Vec<PublicKey>)> {
        Ok((Store::open_or_create(&self.store)?, self.trusted()?))
    }

    fn trusted(&self) -> Outcome<Vec<PublicKey>> {
        Ok(public_keys(&self.trusted)?)
    }
}

/// Which backup.
#[derive(Args)]
pub(crate) struct Wanted {
    /// Of this cluster only.
    #[arg(long)]
    cluster: Option<String>,
    /// Of this version of Kubernetes only, e.g. v1.36.3: the newest before an upgrade is
    /// not the newest there is.
    #[arg(long)]
    kubernetes: Option<String>,
    /// This one only, by its name in `list`: where the newest is sound and not the right one.
    #[arg(long)]
    name: Option<String>,
}

impl Wanted {
    pub(crate) fn is(&self, backup: &Manifest) -> bool {
        let plain = |version: &Option<String>| {
            let version = version.as_deref();
            version.map(|it| it.trim_start_matches('v').to_owned())
        };
        (self.cluster.is_none() || self.cluster == backup.cluster)
            && (self.kubernetes.is_none() || plain(&self.kubernetes) == plain(&backup.kubernetes))
            && self.name.as_ref().is_none_or(|name| *name == backup.file)
    }
}

/// What else decides how a member is restored.
#[derive(Args)]
pub(crate) struct Further {
    /// Writes a second that the old cluster took: the revision is raised by ten times what
    /// that is since the backup, where that is more than the default.
    #[arg(long)]
    writes_per_second: Option<u64>,
    /// Hours since the backup; by itself what the manifest of --trusted says.
    #[arg(long, requires = "writes_per_second")]
    backup_age_hours: Option<u64>,
    /// Writes what was restored into this file, for --beside.
    #[arg(long)]
    pub(crate) record: Option<PathBuf>,
    /// What --record of another member of this cluster has written: refuses to restore one
    /// of other data, of another cluster, or at another revision; again for each.
    #[arg(long)]
    beside: Vec<PathBuf>,
}

impl Further {
    /// `restore` with these, of a backup that was `taken` then, as far as that is known.
    pub(crate) fn apply(
        &self,
        mut restore: Restore,
        taken: Option<Moment>,
        now: Moment,
    ) -> Outcome<Restore> {
        if let Some(writes) = self.writes_per_second {
            let said = self.backup_age_hours.map(|it| it.saturating_mul(3600));
            let said = said.map(Duration::from_secs);
            let age = said.or_else(|| taken.map(|taken| now.since(taken)));
            let age = age.ok_or(
                "--writes-per-second: say how old the backup is, by --backup-age-hours, or by \
                 --trusted, whose manifest says it",
            )?;
            restore = restore.with_age(age, writes);
        }
        for path in &self.beside {
            let other: Restored =
                serde_json::from_str(&read(path)?).map_err(|error| named(path, error.into()))?;
            restore = restore.beside(other);
        }
        Ok(restore)
    }
}

#[derive(Args)]
pub(crate) struct Keep {
    /// Newest ones, of those that are proven. Of the others as many again, here and below.
    #[arg(long)]
    last: Option<usize>,
    /// The newest of each of so many hours.
    #[arg(long)]
    hourly: Option<usize>,
    /// Of so many days.
    #[arg(long)]
    daily: Option<usize>,
    /// Of so many weeks.
    #[arg(long)]
    weekly: Option<usize>,
    /// Of so many months.
    #[arg(long)]
    monthly: Option<usize>,
}

impl Keep {
    /// The default, with what was said otherwise.
    pub(crate) fn retention(&self) -> Retention {
        let mut retention = Retention::default();
        for (field, said) in [
            (&mut retention.last, self.last),
            (&mut retention.hourly, self.hourly),
            (&mut retention.daily, self.daily),
            (&mut retention.weekly, self.weekly),
            (&mut retention.monthly, self.monthly),
        ] {
            *field = said.unwrap_or(*field);
        }
        retention
    }
}

#[derive(Args)]
pub(crate) struct Members {
    /// Client URL of a member; again for each further one. The other voters of its cluster are
    /// asked where it says that they are. The snapshot is of one that has caught up, and of
    /// none that leads where another one serves.
    #[arg(long = "endpoint", required = true)]
    endpoints: Vec<String>,
    /// Asks no member that is not named.
    #[arg(long)]
    only_named: bool,
    /// CA of the members.
    #[arg(long)]
    cacert: Option<PathBuf>,
    /// Client certificate, where they ask for one.
    #[arg(long, requires_all = ["cacert", "key"])]
    cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, requires_all = ["cacert", "cert"])]
    key: Option<PathBuf>,
    /// User that has the root role; the password is read from a file.
    #[arg(long, requires = "password_file")]
    user: Option<String>,
    /// File with the password.
    #[arg(long, requires = "user")]
    password_file: Option<PathBuf>,
    /// Seconds without a byte or an answer after which a member is given up.
    #[arg(long, default_value_t = 30)]
    stall: u64,
}

impl Members {
    pub(crate) fn list(&self) -> Outcome<Vec<Member>> {
        let reach = Reach {
            ca: self.cacert.as_deref(),
            identity: self.cert.as_deref().zip(self.key.as_deref()),
            user: self.user.as_deref().zip(self.password_file.as_deref()),
        };
        let reach = reach.read(read)?;
        let endpoints = self.endpoints.iter();
        Ok(endpoints.map(|endpoint| reach.member(endpoint)).collect())
    }

    fn named(&self) -> Outcome<NamedMembers> {
        let named = NamedMembers::new(self.list()?);
        Ok(match self.only_named {
            true => named.only_named(),
            false => named,
        })
    }

    /// All of them, whoever of them answers.
    pub(crate) async fn all(&self) -> Outcome<Vec<Member>> {
        Ok(self.named()?.all().await)
    }

    /// All of them, and which the snapshot is taken of.
    pub(crate) async fn found(&self, is_forced: bool) -> Outcome<FoundMembers> {
        let named = self.named()?;
        let named = match is_forced {
            true => named.forced(),
            false => named,
        };
        Ok(named.find().await?)
    }

    pub(crate) fn stall(&self) -> Duration {
        Duration::from_secs(self.stall)
    }
}

/// How slow a snapshot may come.
#[derive(Args)]
pub(crate) struct Pace {
    /// KiB a second that have to come on average, or else the snapshot is given up: the
    /// member's database cannot use room again meanwhile. Less for a slow link.
    #[arg(long, value_name = "KIB", default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    least_rate: u64,
}

impl Pace {
    /// Bytes a second.
    pub(crate) fn least_rate(&self) -> u64 {
        self.least_rate << 10
    }
}

pub(crate) fn read(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(|error| named(path, error))
}

pub(crate) fn named(path: &Path, error: std::io::Error) -> Box<dyn Error> {
    format!("{}: {error}", path.display()).into()
}
