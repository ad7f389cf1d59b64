use super::object::samples::{binary, nested};
use super::*;
use crate::bolt::build::{Entries, Free, database, snapshot};
use crate::inspect::kv::Revision;
use crate::inspect::kv::samples::{put_bytes, tombstone};
use crate::protobuf::Message;

/// Keys of a store, in the order in which they are changed.
#[derive(Clone, Default)]
struct History {
    entries: Entries,
    revision: i64,
    /// When each key was created, and its version.
    alive: BTreeMap<String, (i64, i64)>,
}

impl History {
    fn begin() -> Self {
        let mut history = Self {
            revision: 1,
            ..Self::default()
        };
        history.put("namespaces/kube-system", &identity("one"));
        history
    }

    fn put(&mut self, key: &str, value: &[u8]) {
        self.revision += 1;
        let alive = self.alive.entry(key.to_owned());
        let (created, version) = alive.or_insert((self.revision, 0));
        *version += 1;
        let path = format!("/registry/{key}");
        self.entries.push(put_bytes(
            self.revision,
            0,
            &path,
            value,
            *created,
            *version,
        ));
    }

    fn delete(&mut self, key: &str) {
        self.revision += 1;
        self.alive.remove(key).unwrap();
        self.entries
            .push(tombstone(self.revision, 0, &format!("/registry/{key}")));
    }

    fn snapshot(&self) -> Vec<u8> {
        snapshot(4096, Free::Unlisted, &self.buckets())
    }

    fn buckets(&self) -> [(&'static str, Entries); 2] {
        [("key", self.entries.clone()), ("meta", Vec::new())]
    }
}

fn identity(uid: &str) -> Vec<u8> {
    format!(r#"{{"metadata":{{"uid":"{uid}"}}}}"#).into_bytes()
}

fn pod(node: &str) -> Vec<u8> {
    let none = Message::default;
    binary(none(), nested(&[10], node), none())
}

fn service(kind: &str) -> Vec<u8> {
    let none = Message::default;
    binary(none(), nested(&[4], kind), none())
}

fn compared(backup: &[u8], later: &[u8]) -> Result<Comparison, Error> {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["backup", "later"].map(|name| folder.path().join(name));
    std::fs::write(&paths[0], backup).unwrap();
    std::fs::write(&paths[1], later).unwrap();
    compare(&paths[0], &paths[1])
}

fn lines(comparison: &Comparison) -> Vec<String> {
    let line = |it: &ObjectChange| {
        let namespace = it.namespace.as_deref().unwrap_or("-");
        let effect = it.effect.map(|effect| format!(" {effect:?}"));
        let place = it.place.as_ref().map(|place| format!(" {place}"));
        format!(
            "{} {namespace} {} {:?}{}{}",
            it.resource,
            it.name,
            it.change,
            effect.unwrap_or_default(),
            place.unwrap_or_default()
        )
    };
    comparison.objects.iter().map(line).collect()
}

#[test]
fn what_came_and_went_since_the_backup_is_told_with_its_effect() {
    let mut history = History::begin();
    history.put("pods/a/stays", &pod("n1"));
    history.put("pods/a/goes", &pod("n1"));
    history.put("pods/a/again", &pod("n1"));
    history.put("pods/a/waits", &pod(""));
    history.put("pods/a/idle", &pod(""));
    history.put("services/specs/a/opened", &service("ClusterIP"));
    history.put("services/specs/a/closed", &service("LoadBalancer"));
    history.put("minions/n2", b"{}");
    history.put("configmaps/a/c", b"{}");
    history.put("leases/kube-node-lease/n1", b"{}");
    let backup = history.snapshot();

    history.put("pods/a/new", &pod("n2"));
    history.put("pods/a/stays", &pod("n1"));
    history.delete("pods/a/goes");
    history.delete("pods/a/again");
    history.put("pods/a/again", &pod("n2"));
    history.put("pods/a/waits", &pod("n2"));
    history.put("pods/a/idle", &pod(""));
    // Neither there before nor after.
    history.put("pods/a/between", &pod("n1"));
    history.delete("pods/a/between");
    history.put(
        "persistentvolumes/v",
        br#"{"spec":{"local":{"path":"/d"}}}"#,
    );
    history.put("services/specs/a/opened", &service("LoadBalancer"));
    history.put("services/specs/a/closed", &service("ClusterIP"));
    history.put("minions/n3", b"{}");
    history.delete("minions/n2");
    history.put("configmaps/a/c", b"{\"data\":{}}");
    history.put("example.com/widgets/a/w", b"{}");
    history.put("leases/kube-node-lease/n1", b"{}");
    history.put("events/a/e", b"{}");
    let found = compared(&backup, &history.snapshot()).unwrap();

    assert_eq!(
        lines(&found),
        [
            "nodes - n2 Deleted NodeReturns",
            "nodes - n3 Created NodeUnknown",
            "persistentvolumes - v Created DiskOrphaned /d",
            "pods a again Created PodEnds n2",
            "pods a again Deleted PodReturns n1",
            "pods a goes Deleted PodReturns n1",
            "pods a new Created PodEnds n2",
            "pods a waits Changed PodEnds n2",
            "services a closed Changed LoadBalancerMissing",
            "services a opened Changed LoadBalancerOrphaned",
            "widgets.example.com a w Created",
        ]
    );
    let counted = |resource: &str| {
        let found = found.resources.iter().find(|it| it.resource == resource);
        found.map(|it| (it.created, it.deleted, it.changed))
    };
    assert_eq!(counted("pods"), Some((2, 2, 3)));
    assert_eq!(counted("configmaps"), Some((0, 0, 1)));
    assert_eq!(counted("leases"), Some((0, 0, 1)));
    assert_eq!(counted("events"), Some((1, 0, 0)));
    assert_eq!(counted("namespaces"), None);
    assert_eq!(found.cluster.as_deref(), Some("one"));
    assert_eq!((found.backup_revision, found.later_revision), (12, 30));
    let json = serde_json::to_string(&found).unwrap();
    let line = r#"{"resource":"pods","namespace":"a","name":"new","change":"created","effect":"podEnds","place":"n2"}"#;
    assert!(json.contains(line), "{json}");
}

#[test]
fn the_same_state_has_no_difference_and_a_data_folder_counts() {
    let mut history = History::begin();
    history.put("pods/a/p", &pod("n1"));
    let backup = history.snapshot();
    // As a restore raises a revision: an entry without anything.
    history
        .entries
        .push((Revision::key(1_000_000_002, 0), Vec::new()));
    let raised = database(4096, Free::Unlisted, &history.buckets());
    let found = compared(&backup, &raised).unwrap();
    assert_eq!(found.later_revision, 1_000_000_002);
    assert!(found.objects.is_empty() && found.resources.is_empty());
}

#[test]
fn files_that_are_no_earlier_and_later_state_are_refused() {
    let mut history = History::begin();
    let backup = history.snapshot();
    history.put("pods/a/p", &pod("n1"));
    let later = history.snapshot();
    let refused = |backup: &[u8], later: &[u8]| compared(backup, later).unwrap_err().to_string();
    let turned = refused(&later, &backup);
    assert!(
        turned.contains("is at revision 2, and the backup at 3"),
        "{turned}"
    );
    assert!(turned.contains("name a backup first"), "{turned}");
    history.put("namespaces/kube-system", &identity("two"));
    let other = refused(&backup, &history.snapshot());
    assert!(
        other.contains("is of cluster two, and the backup of one"),
        "{other}"
    );
    let mut damaged = later;
    damaged[5000] ^= 1;
    let damaged = refused(&backup, &damaged);
    assert!(damaged.contains("SHA-256"), "{damaged}");
    // What only an inspection looks at counts as well: a lease that is none.
    let mut buckets = history.buckets().to_vec();
    buckets.push(("lease", vec![(b"x".to_vec(), Vec::new())]));
    let lease = snapshot(4096, Free::Unlisted, &buckets);
    let lease = refused(&backup, &lease);
    assert!(lease.contains("lease"), "{lease}");
}
