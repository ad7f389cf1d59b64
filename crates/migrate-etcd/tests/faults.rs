//! What happens to a real member, or on the way to it, while it is backed up: nothing
//! half-written has the name of a backup, the member writes again, and the next
//! backup is whole.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod folder;
mod server;

use std::path::Path;
use std::time::Duration;

use folder::names;
use migrate_core::Cancellation;
use migrate_core::steps::BackupArtifact;
use migrate_etcd::{
    Error, Member, Membership, Restore, RestoreLevel, SnapshotBackup, TestRestore, prove,
};
use server::{Server, V36, V37, etcd, ports, told_of_a_held_defragmentation, url, usual};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

const STALL: Duration = Duration::from_secs(30);
/// More than what sockets and windows of HTTP/2 hold.
const MEGABYTES: usize = 24;

/// What happens on the way, once a mebibyte of the snapshot has gone it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// The connection ends.
    Cut,
    /// Nothing more comes, and nobody says so.
    Frozen,
}

/// Passes on to `to` what comes to the address that is given back.
async fn proxy(to: u16, way: Way) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((here, _)) = listener.accept().await {
            let there = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            let (from_here, to_here) = here.into_split();
            let (from_there, to_there) = there.into_split();
            let up = tokio::spawn(pass(from_here, to_there, None));
            tokio::spawn(async move {
                pass(from_there, to_here, Some(way)).await;
                up.abort();
            });
        }
    });
    endpoint
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Option<Way>) {
    let (mut passed, mut piece) = (0, vec![0u8; 1 << 20]);
    while let Ok(count) = from.read(&mut piece).await {
        if count == 0 || to.write_all(&piece[..count]).await.is_err() {
            return;
        }
        passed += count;
        match way.filter(|_| passed > 1 << 20) {
            None => {}
            Some(Way::Cut) => return,
            Some(Way::Frozen) => std::future::pending().await,
        }
    }
}

struct World {
    folder: TempDir,
    server: Server,
}

impl World {
    async fn new(etcd: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server::alone(etcd, &folder.path().join("data"));
        let mut client = server.client().await;
        for i in 0..MEGABYTES {
            let value = vec![b'v'; 1 << 20];
            client.put(format!("key-{i}"), value, None).await.unwrap();
        }
        Self { folder, server }
    }

    /// Saves through `endpoint`; `at_first` is called when the first bytes have come.
    async fn save(
        &self,
        endpoint: String,
        at_first: impl FnOnce() + Send,
    ) -> Result<BackupArtifact, Error> {
        let mut at_first = Some(at_first);
        let told = |_, _| {
            if let Some(at_first) = at_first.take() {
                at_first();
            }
        };
        let folder = self.folder.path().join("backups");
        let backup = SnapshotBackup::new(Member::new(endpoint), folder).with_stall(STALL);
        backup.save("a.db", &Cancellation::new(), told).await
    }

    /// As [`save`](Self::save), where nothing comes any more after `at_first`: from then
    /// on time jumps to whatever is waited for. How long that was.
    async fn save_in_vain(
        &self,
        endpoint: String,
        at_first: impl FnOnce() + Send,
    ) -> (Error, Duration) {
        let mut since = None;
        let saved = self.save(endpoint, || {
            at_first();
            tokio::time::pause();
            since = Some(Instant::now());
        });
        let error = saved.await.unwrap_err();
        let waited = since.expect("no byte came").elapsed();
        tokio::time::resume();
        (error, waited)
    }

    fn backups(&self) -> Vec<String> {
        names(&self.folder.path().join("backups"))
    }

    /// The member writes, and what is saved of it is whole.
    async fn assert_well(&mut self) {
        let mut client = self.server.client().await;
        let put = tokio::time::timeout(STALL, client.put("after", "it", None));
        put.await.expect("the member does not write").unwrap();
        let member = [Member::new(self.server.endpoint())];
        let saved = self.save(self.server.endpoint(), || {}).await;
        let path = saved.unwrap().path;
        prove(&path, &member, STALL).await.unwrap();
        assert_eq!(self.backups(), ["a.db"]);
        std::fs::remove_file(path).unwrap();
    }
}

#[tokio::test]
async fn a_way_that_is_cut_or_hangs_leaves_nothing() {
    let Some(etcd) = etcd(usual()) else { return };
    let mut world = World::new(&etcd).await;
    let port = world.server.port();
    let saved = world.save(proxy(port, Way::Cut).await, || {}).await;
    let error = saved.unwrap_err();
    assert!(
        matches!(error, Error::Interrupted { bytes, .. } if bytes > 0),
        "{error:?}"
    );
    assert_eq!(world.backups(), [""; 0]);
    world.assert_well().await;

    let frozen = proxy(port, Way::Frozen).await;
    let (error, waited) = world.save_in_vain(frozen, || {}).await;
    assert!(
        matches!(error, Error::Stalled { bytes, .. } if bytes > 0),
        "{error:?}"
    );
    assert!(waited >= STALL, "{waited:?}");
    assert_eq!(world.backups(), [""; 0]);
    world.assert_well().await;
}

#[tokio::test]
async fn a_member_that_is_killed_or_stands_still_leaves_nothing() {
    let Some(etcd) = etcd(V37) else { return };
    let mut world = World::new(&etcd).await;
    let endpoint = world.server.endpoint();
    let stop = || world.server.signal("STOP");
    let (error, waited) = world.save_in_vain(endpoint.clone(), stop).await;
    world.server.signal("CONT");
    assert!(matches!(error, Error::Stalled { .. }), "{error:?}");
    assert!(waited >= STALL, "{waited:?}");
    assert_eq!(world.backups(), [""; 0]);
    world.assert_well().await;

    let kill = || world.server.signal("KILL");
    let error = world.save(endpoint, kill).await.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
    assert_eq!(world.backups(), [""; 0]);
}

/// Held by a reader of its database, as `etcdctl snapshot save` whose disk is full is.
#[tokio::test]
async fn real_etcd_3_6_is_not_saved_while_it_is_defragmented() {
    not_saved_while_defragmented(V36).await;
}

#[tokio::test]
async fn real_etcd_3_7_is_not_saved_while_it_is_defragmented() {
    not_saved_while_defragmented(V37).await;
}

async fn not_saved_while_defragmented(version: &'static str) {
    let Some(etcd) = etcd(version) else { return };
    let mut world = World::new(&etcd).await;
    let endpoint = world.server.endpoint();
    let client = world.server.client().await;
    let folder = world.folder.path().join("backups");
    let backup = SnapshotBackup::new(Member::new(&endpoint), &folder).with_stall(STALL);
    let told = told_of_a_held_defragmentation(&client, &backup, "b.db").await;
    assert_eq!(told, endpoint);
    assert_eq!(world.backups(), [""; 0]);
    world.assert_well().await;

    // One that begins meanwhile is not kept waiting: the way of the snapshot hangs, which
    // would be waited for.
    let frozen = proxy(world.server.port(), Way::Frozen).await;
    let patient = SnapshotBackup::new(Member::new(frozen), &folder).with_stall(STALL);
    let (told, mut done) = tokio::sync::mpsc::unbounded_channel();
    let cancel = Cancellation::new();
    let mut begun = false;
    let saving = patient.save("b.db", &cancel, |_, _| {
        if !std::mem::replace(&mut begun, true) {
            let (told, mut client) = (told.clone(), client.clone());
            tokio::spawn(async move { told.send(client.defragment().await.is_ok()) });
        }
    });
    tokio::select! {
        // Before the way is given up, which takes as long again.
        is_done = done.recv() => assert_eq!(is_done, Some(true)),
        saved = saving => panic!("{saved:?}"),
    }
    assert_eq!(world.backups(), [""; 0]);
    world.assert_well().await;
}

/// Users of etcd: who may not is told so, and a backup has them all.
#[tokio::test]
async fn only_root_saves_where_there_are_users_and_a_restore_has_them() {
    let Some(etcd) = etcd(usual()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut server = Server::alone(&etcd, &at("data"));
    let mut client = server.client().await;
    client.put("a", "b", None).await.unwrap();
    for (user, role) in [("root", "root"), ("reader", "readers")] {
        // There may be one of root already.
        let _ = client.role_add(role).await;
        client.user_add(user, "s3cret", None).await.unwrap();
        client.user_grant_role(user, role).await.unwrap();
    }
    client.auth_enable().await.unwrap();
    let save = async |member: Member| {
        let backup = SnapshotBackup::new(member.clone(), at("backups"));
        let cancel = Cancellation::new();
        let members = [member];
        let saved = backup.save_proven("a.db", &members, &cancel, |_, _| {});
        saved.await
    };
    let member = Member::new(server.endpoint());
    for refused in [
        member.clone(),
        member.clone().with_user("root", "wrong"),
        member.clone().with_user("reader", "s3cret"),
    ] {
        let error = save(refused).await.unwrap_err();
        assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
        assert_eq!(names(&at("backups")), [""; 0]);
    }
    let root = member.with_user("root", "s3cret");
    let proven = save(root).await.unwrap();
    let auth = &proven.proof.inspection.auth;
    assert!(
        auth.enabled && (auth.users, auth.roles) == (2, 2),
        "{auth:?}"
    );

    // Nobody has to give the trial a password: nobody but it reaches its server.
    let trial = TestRestore::new(&proven.artifact.path, folder.path()).with_etcd(&etcd);
    let tried = trial.run(&Cancellation::new()).await.unwrap();
    assert!(
        matches!(tried.level, RestoreLevel::BootedWithHash { .. }) && tried.keys == 1,
        "{tried:?}"
    );

    let [client, peer] = ports();
    let members = Membership::parse(&format!("new={}", url(peer)), "after").unwrap();
    let target = usual().parse().unwrap();
    let restore = Restore::new(&proven.artifact.path, at("new"), members, "new", target);
    restore.run().unwrap();
    let restored = Server::start(&etcd, &at("new"), "new", [client, peer], &[]);
    let member = Member::new(restored.endpoint());
    let trusted = member.clone().with_user("root", "s3cret");
    let again = async {
        loop {
            match prove(&proven.artifact.path, std::slice::from_ref(&trusted), STALL).await {
                // It has a raised revision, at which everything older is compacted: to
                // be told that, one has to be root.
                Err(Error::Compacted { .. }) => return,
                Err(Error::TooFewMembers { .. }) => {}
                other => panic!("{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(60), again).await;
    again.unwrap_or_else(|_| panic!("etcd does not get ready: {}", restored.log()));
    let refused = prove(&proven.artifact.path, &[member], STALL).await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("user name is empty"), "{error}");
}
