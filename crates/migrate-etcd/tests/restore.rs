//! Restored data folders, on real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Client, GetOptions, PutOptions, WatchOptions};
use migrate_etcd::{Error, EtcdVersion, Membership, ReadError, Restore, Restored};
use server::{Server, V34, V35, V36, V37, etcd, ports, url};
use tempfile::TempDir;

/// Keys that were never deleted.
const KEYS: usize = 1200;

/// A snapshot with all that a store has: old revisions, deletions, a
/// compaction, a lease, values larger than a page.
struct Source {
    folder: TempDir,
    path: PathBuf,
    revision: i64,
    hash: u32,
}

impl Source {
    async fn of(etcd: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server::alone(etcd, &folder.path().join("old"));
        let mut client = server.client().await;
        for i in 0..KEYS {
            let value = "v".repeat(if i % 100 == 0 { 20_000 } else { 200 });
            client.put(key(i), value, None).await.unwrap();
        }
        for i in 0..50 {
            client.put(format!("gone/{i}"), "x", None).await.unwrap();
            client.delete(format!("gone/{i}"), None).await.unwrap();
        }
        let lease = client.lease_grant(3600, None).await.unwrap().id();
        let options = PutOptions::new().with_lease(lease);
        client.put("leased", "x", Some(options)).await.unwrap();
        client.compact(KEYS as i64, None).await.unwrap();
        let put = client.put(key(0), "last", None).await.unwrap();
        let revision = put.header().unwrap().revision();
        let hash = client.hash_kv(revision).await.unwrap().hash();
        let saved = server.save(folder.path(), "etcd.db").await;
        Self {
            path: saved.path,
            folder,
            revision,
            hash,
        }
    }

    fn to(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn restore(&self, members: &str, member: &str, target: &str) -> Restore {
        let members = Membership::parse(members, "new").unwrap();
        Restore::new(
            &self.path,
            self.to(member),
            members,
            member,
            target.parse().unwrap(),
        )
    }
}

fn key(i: usize) -> String {
    format!("/registry/pods/default/web-{i:05}")
}

async fn run(restore: Restore) -> Result<Restored, Error> {
    tokio::task::spawn_blocking(move || restore.run())
        .await
        .unwrap()
}

async fn assert_complete(client: &mut Client) {
    let all = GetOptions::new().with_prefix().with_count_only();
    let pods = client.get("/registry/", Some(all.clone())).await.unwrap();
    assert_eq!(pods.count(), KEYS as i64);
    assert_eq!(client.get("gone/", Some(all)).await.unwrap().count(), 0);
    let first = client.get(key(0), None).await.unwrap();
    assert_eq!(first.kvs()[0].value(), b"last");
    let large = client.get(key(100), None).await.unwrap();
    assert_eq!(large.kvs()[0].value().len(), 20_000);
    let leased = client.get("leased", None).await.unwrap();
    let lease = client
        .lease_time_to_live(leased.kvs()[0].lease(), None)
        .await
        .unwrap();
    assert!(lease.ttl() > 3000, "{}", lease.ttl());
}

/// A member of its own, restored with the revision raised.
async fn one_member(version: &'static str) {
    let Some(etcd) = etcd(version) else { return };
    let source = Source::of(&etcd).await;
    let before = fs::read(&source.path).unwrap();
    let [client_port, peer] = ports();
    let members = format!("a={}", url(peer));
    let restored = run(source.restore(&members, "a", version)).await.unwrap();
    assert_eq!(restored.snapshot_revision, source.revision);
    assert_eq!(restored.revision, source.revision + 1_000_000_000);
    assert_eq!(
        fs::read(&source.path).unwrap(),
        before,
        "the snapshot is only read"
    );

    let data_dir = source.to("a");
    let mut server = Server::start(&etcd, &data_dir, "a", [client_port, peer], &[]);
    let mut client = server.client().await;
    assert_complete(&mut client).await;
    let list = client.member_list().await.unwrap();
    assert_eq!(list.header().unwrap().cluster_id(), restored.cluster_id);
    let ids: Vec<_> = list
        .members()
        .iter()
        .map(|member| (member.name(), member.id()))
        .collect();
    assert_eq!(ids, [("a", restored.member_id)]);

    // Who watched the old cluster is told to list anew, wherever it was.
    for seen in [source.revision - 5, source.revision + 1_000_000] {
        let options = WatchOptions::new().with_prefix().with_start_revision(seen);
        let mut watch = client.watch("/registry/", Some(options)).await.unwrap();
        let told = async {
            loop {
                let answer = watch.message().await.unwrap().unwrap();
                if answer.canceled() {
                    return answer.compact_revision();
                }
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(20), told).await;
        assert_eq!(told.expect("the watch hangs"), restored.revision, "{seen}");
    }
    let put = client.put(key(1), "new", None).await.unwrap();
    assert_eq!(put.header().unwrap().revision(), restored.revision + 1);

    // The database takes what a server does to it: most keys go, and with a
    // compaction their pages; a defragmentation; a start on what is left.
    client
        .delete(
            key(0),
            Some(etcd_client::DeleteOptions::new().with_range(key(1100))),
        )
        .await
        .unwrap();
    let options = etcd_client::CompactionOptions::new().with_physical();
    client
        .compact(restored.revision + 2, Some(options))
        .await
        .unwrap();
    client.put("after", "compaction", None).await.unwrap();
    drop(server);
    let mut server = Server::start(&etcd, &data_dir, "a", [client_port, peer], &[]);
    let mut client = server.client().await;
    client.defragment().await.unwrap();
    let all = GetOptions::new().with_prefix().with_count_only();
    let pods = client.get("/registry/", Some(all)).await.unwrap();
    assert_eq!(pods.count(), (KEYS - 1100) as i64);
    assert!(!server.log().contains("panic"), "{}", server.log());
}

#[tokio::test]
async fn one_member_on_3_6_has_every_key_and_goes_on_beyond_what_clients_have_seen() {
    one_member(V36).await;
}

#[tokio::test]
async fn one_member_on_3_7_has_every_key_and_goes_on_beyond_what_clients_have_seen() {
    one_member(V37).await;
}

#[tokio::test]
#[ignore = "older etcd"]
async fn one_member_on_3_4_and_3_5_has_every_key_and_goes_on_beyond_what_clients_have_seen() {
    one_member(V34).await;
    one_member(V35).await;
}

#[tokio::test]
async fn a_log_of_its_own_is_where_etcd_looks_for_it_and_an_old_one_is_refused() {
    let Some(etcd) = etcd(V36) else { return };
    let source = Source::of(&etcd).await;
    let [client, peer] = ports();
    let (data_dir, wal_dir) = (source.to("a"), source.to("a-wal"));
    fs::create_dir(&wal_dir).unwrap();
    fs::write(wal_dir.join("0.wal"), "of an older server").unwrap();
    let restore = source.restore(&format!("a={}", url(peer)), "a", V36);
    let restore = restore.with_wal_dir(&wal_dir);
    let error = run(restore.clone()).await.unwrap_err();
    assert!(
        matches!(&error, Error::NotEmpty { path } if *path == wal_dir),
        "{error}"
    );
    assert!(!data_dir.exists());
    fs::remove_file(wal_dir.join("0.wal")).unwrap();
    run(restore).await.unwrap();
    let more = ["--wal-dir", wal_dir.to_str().unwrap()];
    let mut server = Server::start(&etcd, &data_dir, "a", [client, peer], &more);
    assert_complete(&mut server.client().await).await;
    assert!(!data_dir.join("member/wal").exists());
}

/// Three members of their own make one cluster, and a fourth gets everything.
async fn three_members(version: &'static str) {
    let Some(etcd) = etcd(version) else { return };
    let source = Source::of(&etcd).await;
    let [a, b, c, d] = [ports::<2>(), ports(), ports(), ports()];
    let members = format!("a={},b={},c={}", url(a[1]), url(b[1]), url(c[1]));
    let mut servers = Vec::new();
    let mut restored = Vec::new();
    for (name, ports) in [("a", a), ("b", b), ("c", c)] {
        let restore = source.restore(&members, name, version).keeping_revision();
        restored.push(run(restore).await.unwrap());
        servers.push(Server::start(&etcd, &source.to(name), name, ports, &[]));
    }
    Restored::refuse_mixed(&restored).unwrap();
    for server in &mut servers {
        let mut client = server.client().await;
        assert_complete(&mut client).await;
        let hash = client.hash_kv(source.revision).await.unwrap().hash();
        assert_eq!(hash, source.hash, "the data of the old cluster");
        let list = client.member_list().await.unwrap();
        let mut ids: Vec<_> = list.members().iter().map(|member| member.id()).collect();
        ids.sort_unstable();
        let mut expected: Vec<_> = restored.iter().map(|member| member.member_id).collect();
        expected.sort_unstable();
        assert_eq!(ids, expected);
    }

    let mut client = servers[0].client().await;
    // The newcomer's log does not reach back to the restored keys: it has to be
    // sent the database.
    let added = async {
        while let Err(error) = client.member_add([url(d[1])], None).await {
            // Refused until the members have been connected for a while.
            assert!(error.to_string().contains("unhealthy"), "{error}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), added)
        .await
        .unwrap();
    let cluster = format!("{members},d={}", url(d[1]));
    let more = [
        "--initial-cluster",
        &cluster,
        "--initial-cluster-state",
        "existing",
    ];
    let mut joined = Server::start(&etcd, &source.to("d"), "d", d, &more);
    let mut client = joined.client().await;
    assert_complete(&mut client).await;
    let hash = client.hash_kv(source.revision).await.unwrap().hash();
    assert_eq!(hash, source.hash);
}

#[tokio::test]
async fn three_members_on_3_6_are_one_cluster_that_a_fourth_can_join() {
    three_members(V36).await;
}

#[tokio::test]
async fn three_members_on_3_7_are_one_cluster_that_a_fourth_can_join() {
    three_members(V37).await;
}

#[tokio::test]
#[ignore = "older etcd"]
async fn three_members_on_3_4_and_3_5_are_one_cluster_that_a_fourth_can_join() {
    three_members(V34).await;
    three_members(V35).await;
}

/// A cluster that is lost after an upgrade of etcd is not always restored on the
/// version that the backup is of.
#[tokio::test]
#[ignore = "older etcd"]
async fn a_snapshot_of_one_version_goes_on_with_the_next() {
    for (version, next) in [(V34, V35), (V35, V36), (V36, V37)] {
        let (Some(older), Some(newer)) = (etcd(version), etcd(next)) else {
            continue;
        };
        let source = Source::of(&older).await;
        let [client, peer] = ports();
        let members = format!("a={}", url(peer));
        let restored = run(source.restore(&members, "a", next)).await.unwrap();
        let data_dir = source.to("a");
        let mut server = Server::start(&newer, &data_dir, "a", [client, peer], &[]);
        let mut client = server.client().await;
        assert_complete(&mut client).await;
        let put = client.put(key(1), "new", None).await.unwrap();
        assert_eq!(put.header().unwrap().revision(), restored.revision + 1);
    }
}

#[tokio::test]
async fn what_would_surprise_later_is_refused_before_anything_is_written() {
    let Some(etcd) = etcd(V37) else { return };
    let source = Source::of(&etcd).await;
    let restore = |member: &str| source.restore("a=http://127.0.0.1:2380", member, V37);
    let refused = async |restore: Restore| {
        let error = run(restore).await.unwrap_err();
        assert!(!source.to("a").exists(), "{error}");
        error
    };

    // etcdutl 3.6 restores data of 3.7, and the server ends at its start.
    let older = source.restore("a=http://127.0.0.1:2380", "a", V36);
    let error = refused(older).await;
    assert!(
        matches!(&error, Error::TooNew { stored, .. } if stored == "3.7.0"),
        "{error}"
    );
    assert!(matches!(
        refused(restore("b")).await,
        Error::InvalidMembership { .. }
    ));
    let another = restore("a").with_sha256("00");
    assert!(matches!(refused(another).await, Error::Changed { .. }));
    let beyond = restore("a").with_revision_at_least(i64::MAX);
    assert!(matches!(
        refused(beyond).await,
        Error::RevisionTooHigh { .. }
    ));

    let whole = fs::read(&source.path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let cut = &whole[..whole.len() / 2 / 512 * 512 + 32];
    for (bytes, is_hash) in [
        (&flipped[..], true),
        (cut, true),
        (&whole[..whole.len() - 32], false),
        (&[], false),
    ] {
        fs::write(&source.path, bytes).unwrap();
        let error = refused(restore("a")).await;
        assert_eq!(
            matches!(error, Error::Damaged(ReadError::Checksum { .. })),
            is_hash,
            "{error}"
        );
        assert_eq!(
            matches!(error, Error::NoTrailer { .. }),
            !is_hash,
            "{error}"
        );
    }

    // A copy of a data folder's database has no trailer, and may be restored if
    // that is meant; a computed revision only ever adds.
    fs::write(&source.path, &whole[..whole.len() - 32]).unwrap();
    let copy = run(restore("a").from_copy().with_revision_at_least(17))
        .await
        .unwrap();
    assert_eq!(copy.revision, source.revision + 1_000_000_000);
    let error = run(restore("a").from_copy()).await.unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");

    fs::write(&source.path, &whole).unwrap();
    fs::remove_dir_all(source.to("a")).unwrap();
    let more = restore("a").with_revision_at_least(5_000_000_000);
    let other = run(more).await.unwrap();
    assert_eq!(other.revision, 5_000_000_000);
    let error = Restored::refuse_mixed(&[copy, other]).unwrap_err();
    assert!(matches!(error, Error::MixedMembers { .. }), "{error}");
    assert!(EtcdVersion::new(3, 7) > EtcdVersion::new(3, 6));
}
