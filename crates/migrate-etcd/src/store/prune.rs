//! Removes backups that nobody needs any more.

use std::collections::BTreeMap;

use object_store::ObjectStoreExt;
use object_store::path::Path as Location;

use super::Store;
use super::refusal::Refusal;
use crate::{Error, Manifest, PublicKey, Retention};

/// Removals that may fail, or be denied without any that succeeds, before the rest is left for
/// another time. What the store does not let go, as it is immutable, is none of these: it says
/// nothing of the others.
const FAILURES: usize = 5;

/// What pruning has done.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Pruned {
    /// Backups that are kept, oldest first.
    pub kept: Vec<Manifest>,
    /// Backups that are gone: neither listed nor fetched any more.
    pub removed: Vec<Manifest>,
    /// Those of the removed whose bytes the store keeps all the same, as older versions
    /// behind a marker that hides them: it has versions on, as with an Object Lock. They
    /// take room, and can be read, until a rule of the store's own ends them
    /// (`NoncurrentVersionExpiration` of S3).
    pub still_stored: Vec<String>,
    /// Backups that should go and could not, as where objects are immutable for a
    /// time: they are whole and listed as before.
    pub failed: Vec<(Manifest, Error)>,
}

impl Store {
    /// Removes the backups that `retention` does not keep, of each cluster by itself.
    ///
    /// Only backups that one of the `trusted` keys has signed are touched, and
    /// manifests of theirs whose backup is gone, which is looked at once more. A backup goes
    /// before its manifest, so that one that cannot be removed stays as it is
    /// ([`Pruned::failed`]). What a store with versions keeps of it is told
    /// ([`Pruned::still_stored`]). One that the store refuses to
    /// remove, as it is locked, is in nobody's way; after five that fail otherwise the rest
    /// waits for another time.
    ///
    /// # Errors
    /// [`Error::Store`] if the store cannot be listed; [`Error::PruneDenied`] once five
    /// removals were denied, for another reason than a lock, and none was done: then who asks
    /// may not remove anything, and nothing is changed.
    pub async fn prune(
        &self,
        trusted: &[PublicKey],
        retention: &Retention,
    ) -> Result<Pruned, Error> {
        self.prune_with(trusted, retention, |_, _| {}).await
    }

    /// As [`prune`](Self::prune); `progress` hears how many of the manifests were read, and
    /// then how many of the backups were kept or removed; and how many there are.
    ///
    /// # Errors
    /// As [`prune`](Self::prune).
    pub async fn prune_with(
        &self,
        trusted: &[PublicKey],
        retention: &Retention,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Pruned, Error> {
        let catalogue = self.list_with(trusted, &mut progress).await?;
        let (mut done, of) = (0, catalogue.backups.len() as u64);
        let mut clusters: BTreeMap<Option<String>, Vec<Manifest>> = BTreeMap::new();
        for backup in catalogue.backups {
            let cluster = backup.cluster.clone();
            clusters.entry(cluster).or_default().push(backup);
        }
        let mut pruned = Pruned::default();
        let (mut failures, mut denied) = (0, 0);
        for backups in clusters.into_values() {
            let known: Vec<_> = backups
                .iter()
                .map(|backup| (backup.taken, backup.proof))
                .collect();
            for (backup, keep) in backups.into_iter().zip(retention.keep(&known)) {
                if keep {
                    pruned.kept.push(backup);
                } else if failures < FAILURES {
                    match self.remove(&backup).await {
                        Ok(keeps_version) => {
                            let kept = keeps_version.then(|| backup.file.clone());
                            pruned.still_stored.extend(kept);
                            pruned.removed.push(backup);
                        }
                        Err((location, cause)) => {
                            match Refusal::of(&cause, &location) {
                                Refusal::Locked => {}
                                Refusal::Denied => denied += 1,
                                Refusal::Failed => failures += 1,
                            }
                            if denied >= FAILURES && pruned.removed.is_empty() {
                                return Err(Error::PruneDenied {
                                    location: self.name(&self.prefix),
                                    tried: denied,
                                    source: Box::new(cause),
                                });
                            }
                            let error = self.failed(&location)(cause);
                            pruned.failed.push((backup, error));
                        }
                    }
                }
                done += 1;
                progress(done, of);
            }
        }
        for left in catalogue.refused.iter().filter(|left| left.is_left) {
            self.remove_left(&left.name).await;
        }
        pruned
            .kept
            .sort_by_key(|backup| (backup.taken, backup.file.clone()));
        Ok(pruned)
    }

    /// Removes a manifest whose backup was not in the listing, if it is really gone: a
    /// listing is made page by page, and a backup that was put meanwhile may be in it by
    /// its manifest alone.
    async fn remove_left(&self, name: &str) {
        let Some(file) = Manifest::file_of(name) else {
            return;
        };
        let is_gone = matches!(
            self.objects.head(&self.at(file)).await,
            Err(object_store::Error::NotFound { .. })
        );
        if is_gone {
            // As little as nothing: it is tried again the next time.
            let _ = self.objects.delete(&self.at(name)).await;
        }
    }

    /// Whether the store keeps what it says is gone. Where versions are on, also an object
    /// that is locked goes by a marker: the bytes stay, and the name is free.
    async fn remove(&self, backup: &Manifest) -> Result<bool, (Location, object_store::Error)> {
        let keeps_version = self.keeps_versions_of(&backup.file).await;
        for name in [backup.file.clone(), Manifest::name_of(&backup.file)] {
            let location = self.at(&name);
            match self.objects.delete(&location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(cause) => return Err((location, cause)),
            }
        }
        Ok(keeps_version)
    }

    /// Whether the object of that name is a version of several that there may be.
    async fn keeps_versions_of(&self, file: &str) -> bool {
        if !self.names_versions {
            return false;
        }
        // Who cannot say, says nothing: it is not what the removal depends on.
        let there = self.objects.head(&self.at(file)).await;
        let version = there.ok().and_then(|there| there.version);
        // Of before versions were on, or while they are suspended: that one goes.
        version.is_some_and(|version| version != "null")
    }
}
