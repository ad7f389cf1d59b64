//! The cluster as a snapshot of etcd, and a cluster made of one.

mod load;

use std::path::Path;

use migrate_etcd::{Membership, NewSnapshot, object_key};

pub use self::load::{LeftOut, Snapshot, Why};

use crate::cluster::SimCluster;
use crate::error::SimError;
use crate::object::remove_at;
use crate::store::encode;

/// The etcd that the cluster would have.
const MEMBERS: &str = "embedded=http://127.0.0.1:2380";
const TOKEN: &str = "embedded";

impl SimCluster {
    /// The state of the cluster at this moment, as a snapshot of the etcd that it has
    /// not got.
    ///
    /// Each object is there as JSON, which API servers read as well as protobuf, under
    /// the key and at the revision where they look for it; history is not. Restored by
    /// [`migrate_etcd::Restore`] it is what an etcd and an API server start on.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// use migrate_etcd::{PartFile, inspect};
    /// use migrate_sim::{Pool, SimCluster};
    ///
    /// let cluster = SimCluster::builder().nodes(Pool::new("general", 3)).start().await?;
    /// let file = PartFile::create(folder.path(), "sim.db").await?;
    /// let saved = cluster.snapshot()?.write(file).await?;
    /// assert!(inspect(&saved.path)?.trailer.is_some());
    ///
    /// let (copy, left_out) = SimCluster::load(&saved.path).await?;
    /// assert!(left_out.is_empty());
    /// # use migrate_sim::store::Resource;
    /// assert_eq!(copy.store().count(Resource::NODES), 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SimError::Snapshot`], which a test rules out.
    pub fn snapshot(&self) -> Result<NewSnapshot, SimError> {
        let members = Membership::parse(MEMBERS, TOKEN)?;
        let store = self.store();
        let revision = |rv: u64| i64::try_from(rv).unwrap_or(i64::MAX);
        let at = revision(store.resource_version());
        let mut snapshot = NewSnapshot::new(members).with_revision(at);
        for resource in store.resources() {
            for object in store.list(resource, None) {
                let (group, plural) = (resource.group, resource.plural);
                let key = object_key(group, plural, &object.namespace, &object.name);
                let mut json = object.json.clone();
                // The revision of its key says it.
                remove_at(&mut json, &["metadata", "resourceVersion"]);
                snapshot.put(key, encode(&json), revision(object.rv));
            }
        }
        Ok(snapshot)
    }

    /// A cluster with the objects of a snapshot, up and running from the moment on at
    /// which that was taken, and what of the snapshot is not in it; see [`Snapshot`]. This
    /// blocks while the file is read.
    ///
    /// # Errors
    /// Those of [`Snapshot::read`] and [`SimClusterBuilder::start`](crate::SimClusterBuilder::start).
    pub async fn load(path: impl AsRef<Path>) -> Result<(Self, Vec<LeftOut>), SimError> {
        let snapshot = Snapshot::read(path.as_ref())?;
        let left_out = snapshot.left_out().to_vec();
        let cluster = Self::builder().snapshot(snapshot).start().await?;
        Ok((cluster, left_out))
    }
}
