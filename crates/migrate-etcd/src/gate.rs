//! Whether a cluster may be changed: is there a backup of it? Pure.

use std::time::Duration;

use jiff::Timestamp;
use migrate_core::steps::BackupProof;

use crate::{Error, Manifest};

/// Clocks that far apart are taken for the same.
const SKEW: Duration = Duration::from_secs(60);

/// What a backup has to be before a cluster is changed: of this cluster, of this
/// version, young enough, signed, and proven.
///
/// ```
/// use std::time::Duration;
///
/// use migrate_etcd::Gate;
///
/// let gate = Gate::new("0b5c…", Duration::from_secs(15 * 60)).with_kubernetes("v1.36.2");
/// let now = "2026-11-29T02:00:00Z".parse()?;
/// assert!(gate.check(&[], now).is_err());
/// # Ok::<(), jiff::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gate {
    cluster: String,
    within: Duration,
    kubernetes: Option<String>,
    etcd: Option<String>,
    proof: BackupProof,
    needs_keys: bool,
    needs_signature: bool,
}

impl Gate {
    /// A proven backup of the cluster with this identity (the uid of its namespace
    /// `kube-system`), taken `within` this time.
    pub fn new(cluster: impl Into<String>, within: Duration) -> Self {
        Self {
            cluster: cluster.into(),
            within,
            kubernetes: None,
            etcd: None,
            proof: BackupProof::Proven,
            needs_keys: true,
            needs_signature: true,
        }
    }

    /// Taken at this version of Kubernetes, as its manifest has it: a snapshot of
    /// an older one restores objects that the API server may not know any more.
    #[must_use]
    pub fn with_kubernetes(mut self, version: impl Into<String>) -> Self {
        self.kubernetes = Some(version.into());
        self
    }

    /// Of an etcd of the same minor version as this, such as the one that is to be started on
    /// it, as its manifest has it: data of a newer one are refused by an older program.
    #[must_use]
    pub fn with_etcd(mut self, version: impl Into<String>) -> Self {
        self.etcd = Some(version.into());
        self
    }

    /// At least as far proven as this.
    #[must_use]
    pub fn with_proof(mut self, proof: BackupProof) -> Self {
        self.proof = proof;
        self
    }

    /// Also a backup without the keys of the cluster, for who has them elsewhere.
    #[must_use]
    pub fn without_keys(mut self) -> Self {
        self.needs_keys = false;
        self
    }

    /// Also a backup whose manifest was not opened with a trusted key
    /// ([`Manifest::signed_by`]), as one that was made here and not signed: whoever can
    /// write where it lies can put another one there.
    #[must_use]
    pub fn without_signature(mut self) -> Self {
        self.needs_signature = false;
        self
    }

    /// The newest of `backups` that is good enough at `now`.
    ///
    /// # Errors
    /// [`Error::NoBackup`], which says what is wrong with the newest of them.
    pub fn check<'m>(
        &self,
        backups: &'m [Manifest],
        now: Timestamp,
    ) -> Result<&'m Manifest, Error> {
        let mut newest: Vec<&Manifest> = backups.iter().collect();
        newest.sort_by(|a, b| (b.taken, &b.file).cmp(&(a.taken, &a.file)));
        let mut reasons = Vec::new();
        for backup in newest {
            match self.refuses(backup, now) {
                None => return Ok(backup),
                Some(reason) if reasons.len() < 3 => {
                    reasons.push(format!("{} {reason}", backup.file));
                }
                Some(_) => {}
            }
        }
        Err(Error::NoBackup {
            place: format!("cluster {}", self.cluster),
            reasons,
        })
    }

    fn refuses(&self, backup: &Manifest, now: Timestamp) -> Option<String> {
        let age = now.duration_since(backup.taken);
        // As durations that cannot be negative, one of which is zero.
        let old = age.try_into().unwrap_or(Duration::ZERO);
        let ahead: Duration = (-age).try_into().unwrap_or(Duration::ZERO);
        let kubernetes = backup.kubernetes.as_deref().unwrap_or("none");
        let wanted = self.kubernetes.as_deref().unwrap_or(kubernetes);
        let etcd = backup.etcd.as_deref().unwrap_or("none");
        let wanted_etcd = self.etcd.as_deref().unwrap_or(etcd);
        if backup.cluster.as_deref() != Some(self.cluster.as_str()) {
            let whose = backup.cluster.as_deref().unwrap_or("none");
            Some(format!("is of cluster {whose}"))
        } else if plain(kubernetes) != plain(wanted) {
            Some(format!("is of Kubernetes {kubernetes}, not {wanted}"))
        } else if minor(etcd) != minor(wanted_etcd) {
            Some(format!("is of etcd {etcd}, not {wanted_etcd}"))
        } else if ahead > SKEW {
            Some("is from the future: see to the clocks".to_owned())
        } else if old > self.within {
            let (old, within) = (old.as_secs() / 60, self.within.as_secs() / 60);
            Some(format!("is {old} minutes old, {within} are allowed"))
        } else if self.needs_signature && backup.signed_by().is_none() {
            Some("is signed by nobody who is trusted".to_owned())
        } else if backup.proof < self.proof {
            Some("is not proven far enough".to_owned())
        } else if self.needs_keys && !backup.keys_match {
            Some("has not got the keys of the cluster".to_owned())
        } else {
            None
        }
    }
}

/// `v1.36.2` and `1.36.2` are the same.
fn plain(version: &str) -> &str {
    version.strip_prefix('v').unwrap_or(version)
}

/// `3.6` of `v3.6.16`: a data folder is of a minor version.
fn minor(version: &str) -> (&str, Option<&str>) {
    let mut parts = plain(version).split('.');
    (parts.next().unwrap_or_default(), parts.next())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::SigningKey;

    type Change = fn(&mut Manifest);

    fn manifest(folder: &Path) -> Manifest {
        let path = folder.join("a.tar.age");
        std::fs::write(&path, "a").unwrap();
        let taken = "2026-11-29T02:00:00Z".parse().unwrap();
        let mut manifest = Manifest::of(&path, taken, BackupProof::Proven).unwrap();
        manifest.cluster = Some("c".to_owned());
        manifest.kubernetes = Some("1.36.2".to_owned());
        manifest.etcd = Some("3.6.16".to_owned());
        manifest.keys_match = true;
        let key = SigningKey::from_seed(&[1; 32]).unwrap();
        manifest.signer = Some(key.public());
        manifest
    }

    #[test]
    fn each_condition_by_itself_keeps_the_gate_shut() {
        let folder = tempfile::tempdir().unwrap();
        let good = manifest(folder.path());
        let gate = Gate::new("c", Duration::from_secs(15 * 60));
        let gate = gate.with_kubernetes("v1.36.2").with_etcd("v3.6.8");
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-29T02:15:00Z");
        assert_eq!(gate.check(std::slice::from_ref(&good), now).unwrap(), &good);

        let changes: [(&str, Change); 9] = [
            ("signed by nobody", |m| m.signer = None),
            ("of cluster d", |m| m.cluster = Some("d".to_owned())),
            ("of cluster none", |m| m.cluster = None),
            ("1.35.0", |m| m.kubernetes = Some("1.35.0".to_owned())),
            ("none", |m| m.kubernetes = None),
            ("of etcd 3.7.0", |m| m.etcd = Some("3.7.0".to_owned())),
            ("of etcd none", |m| m.etcd = None),
            ("not proven", |m| m.proof = BackupProof::Unproven),
            ("keys", |m| m.keys_match = false),
        ];
        for (words, change) in changes {
            let mut bad = good.clone();
            change(&mut bad);
            let error = gate.check(&[bad], now).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        for (time, words) in [
            ("2026-11-29T02:15:01Z", "15 minutes old"),
            ("2026-11-29T01:58:59Z", "future"),
        ] {
            let error = gate
                .check(std::slice::from_ref(&good), at(time))
                .unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        let mut unsigned = good.clone();
        unsigned.signer = None;
        let trusting = gate.clone().without_signature();
        assert_eq!(trusting.check(&[unsigned.clone()], now).unwrap(), &unsigned);
        let further = gate.clone().with_proof(BackupProof::Restored);
        assert!(further.check(std::slice::from_ref(&good), now).is_err());

        // A good one beside worse ones that are newer.
        let mut worse = good.clone();
        worse.proof = BackupProof::Unproven;
        worse.taken = at("2026-11-29T02:10:00Z");
        assert_eq!(gate.check(&[worse, good.clone()], now).unwrap(), &good);
    }
}
