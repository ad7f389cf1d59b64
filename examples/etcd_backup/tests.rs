//! What the flags mean, and which files are taken.

mod copies;
mod interrupted;
mod members;
#[path = "../../crates/migrate-etcd/tests/server/mod.rs"]
mod server;
mod shown;
mod told;

use std::path::{Path, PathBuf};

use clap::Parser;
use migrate_core::Cancellation;
use migrate_etcd::{
    BackupProof, KeyRing, Lock, Manifest, Membership, NewSnapshot, PartFile, Restored, Seal,
    SigningKey,
};

use crate::cli::{Cli, Command, Outcome};
use crate::flags::Wanted;
use crate::interrupt::unless_interrupted;

/// What `fetch` with these flags looks for.
fn wanted(flags: &[&str]) -> Wanted {
    let fixed = [
        "etcd_backup",
        "fetch",
        "to",
        "--store",
        "s",
        "--trusted",
        "k",
    ];
    let cli = Cli::try_parse_from(fixed.iter().chain(flags)).unwrap();
    match cli.command {
        Command::Fetch { wanted, .. } => wanted,
        _ => unreachable!("it is a fetch"),
    }
}

#[test]
fn a_backup_is_chosen_by_cluster_version_and_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    std::fs::write(&path, "a").unwrap();
    let taken = "2026-11-29T00:00:00Z".parse().unwrap();
    let mut backup = Manifest::of(&path, taken, BackupProof::Proven).unwrap();
    backup.cluster = Some("c".to_owned());
    backup.kubernetes = Some("v1.36.3".to_owned());
    for (flags, is_wanted) in [
        (&[][..], true),
        (&["--kubernetes", "v1.36.3"], true),
        (&["--kubernetes", "1.36.3"], true),
        (&["--kubernetes", "1.36"], false),
        (&["--name", "a.db", "--cluster", "c"], true),
        (&["--name", "b.db"], false),
        (&["--cluster", "d"], false),
    ] {
        assert_eq!(wanted(flags).is(&backup), is_wanted, "{flags:?}");
    }
    // What the manifest does not say nobody may take for granted.
    backup.kubernetes = None;
    assert!(!wanted(&["--kubernetes", "1.36.3"]).is(&backup));
}

/// What the program does with a line, whose words are set apart by blanks.
async fn run(line: &str) -> Outcome {
    let cli = Cli::try_parse_from(["etcd_backup"].into_iter().chain(line.split(' ')))?;
    crate::run(cli, &Cancellation::new()).await
}

/// A folder with a key that signs.
struct Desk {
    folder: tempfile::TempDir,
    signing: SigningKey,
}

impl Desk {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            signing: SigningKey::from_seed(&[7; 32]).unwrap(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn sign(&self, path: &Path) {
        let taken = "2026-11-29T00:00:00Z".parse().unwrap();
        let manifest = Manifest::of(path, taken, BackupProof::Proven).unwrap();
        let signed = manifest.write(path.parent().unwrap(), &self.signing);
        signed.await.unwrap();
    }

    /// Restores the file `name` into `data`, with these flags, each behind a blank.
    async fn restore(&self, name: &str, how: &str) -> Outcome {
        let (file, folder) = (self.at(name), self.at("data"));
        let (file, folder) = (file.display(), folder.display());
        run(&format!(
            "restore {file} {folder} --initial-cluster default=http://127.0.0.1:1 --token t \
             --etcd 3.6{how}"
        ))
        .await
    }

    /// A snapshot of one key.
    async fn snapshot(&self, name: &str, value: &str) -> PathBuf {
        let members = Membership::parse("m=http://127.0.0.1:1", "t").unwrap();
        let mut snapshot = NewSnapshot::new(members);
        snapshot.put("key", value, 2);
        let file = PartFile::replace(self.folder.path(), name).await.unwrap();
        snapshot.write(file).await.unwrap().path
    }
}

/// Anybody can encrypt for a public key: that a file can be opened says nothing.
#[tokio::test]
async fn a_backup_that_was_exchanged_is_not_opened() {
    let desk = Desk::new();
    let (secret, public) = KeyRing::generate();
    std::fs::write(desk.at("age.key"), &secret).unwrap();
    let seal = Seal::new(Lock::for_keys([&public]).unwrap());
    let sealed = desk.at("a.db.age");
    let write = async |what: &str| {
        let plain = desk.at("a.db");
        std::fs::write(&plain, what).unwrap();
        let _ = std::fs::remove_file(&sealed);
        seal.file(&plain, &Cancellation::new()).await.unwrap();
    };
    let open = async |how: &str| {
        let (file, folder, key) = (sealed.display(), desk.at("opened"), desk.at("age.key"));
        let (folder, key) = (folder.display(), key.display());
        run(&format!("open {file} {folder} --identity {key} {how}")).await
    };
    let trusted = format!("--trusted {}", desk.signing.public());
    write("of ours").await;
    // Whom to trust has to be said.
    let error = Cli::try_parse_from(["etcd_backup", "open", "a", "b", "--identity", "k"]);
    assert!(error.err().unwrap().to_string().contains("--unsigned"));
    let error = open(&trusted).await.unwrap_err().to_string();
    assert!(error.contains("manifest.json"), "{error}");
    desk.sign(&sealed).await;
    write("of somebody else").await;
    let error = open(&trusted).await.unwrap_err().to_string();
    assert!(error.contains("exchanged"), "{error}");
    assert!(!desk.at("opened").exists());

    open("--unsigned").await.unwrap();
    std::fs::remove_dir_all(desk.at("opened")).unwrap();
    desk.sign(&sealed).await;
    open(&trusted).await.unwrap();
    let opened = std::fs::read(desk.at("opened/a.db")).unwrap();
    assert_eq!(opened, b"of somebody else");
}

#[tokio::test]
async fn a_snapshot_that_was_exchanged_is_not_restored() {
    let desk = Desk::new();
    let trusted = format!(" --trusted {}", desk.signing.public());
    let ours = desk.snapshot("a.db", "ours").await;
    desk.sign(&ours).await;
    let error = desk.restore("a.db", "").await.unwrap_err().to_string();
    assert!(
        error.contains("--trusted") && error.contains("--unsigned"),
        "{error}"
    );
    desk.snapshot("a.db", "theirs").await;
    let error = desk
        .restore("a.db", &trusted)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("exchanged"), "{error}");
    let snapshot = desk.snapshot("snapshot.db", "ours").await;
    // As a set is unpacked.
    let whole = Manifest::of(
        &snapshot,
        "2026-11-29T00:00:00Z".parse().unwrap(),
        BackupProof::Proven,
    )
    .unwrap();
    let record = serde_json::json!({"schema": 1, "nodes": [], "snapshot": {
        "path": "snapshot.db", "bytes": whole.bytes, "sha256": whole.sha256,
    }});
    std::fs::write(desk.at("set.json"), record.to_string()).unwrap();
    desk.snapshot("snapshot.db", "theirs").await;
    let error = desk
        .restore("snapshot.db", "")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("exchanged"), "{error}");
    assert!(!desk.at("data/member").exists());

    // The controls.
    let again = async |name: &str, how: &str| {
        desk.restore(name, how).await.unwrap();
        std::fs::remove_dir_all(desk.at("data")).unwrap();
    };
    again("a.db", " --unsigned").await;
    desk.snapshot("a.db", "ours").await;
    again("a.db", &trusted).await;
    desk.snapshot("snapshot.db", "ours").await;
    again("snapshot.db", "").await;
    again("a.db", &format!(" --sha256 {}", whole.sha256)).await;
}

/// Each member on a machine of its own: nothing but what is carried from one to the next says
/// that they belong together.
#[tokio::test]
async fn members_that_do_not_belong_together_are_not_restored_beside_each_other() {
    let desk = Desk::new();
    desk.snapshot("a.db", "ours").await;
    desk.snapshot("b.db", "another").await;
    let restore = async |file: &str, member: &str, how: &str| {
        let (file, folder) = (desk.at(file), desk.at(member));
        let (file, folder) = (file.display(), folder.display());
        run(&format!(
            "restore {file} {folder} --name {member} --etcd 3.6 --unsigned \
             --initial-cluster m1=http://127.0.0.1:1,m2=http://127.0.0.1:2{how}"
        ))
        .await
    };
    let first = desk.at("first.json");
    let record = format!(" --token t --record {}", first.display());
    restore("a.db", "m1", &record).await.unwrap();
    // Nothing is restored where its record has no place.
    let error = restore("a.db", "m2", &record).await.unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    assert!(!desk.at("m2").exists());

    let beside = format!(" --beside {}", first.display());
    for (file, how) in [
        ("b.db", " --token t"),
        ("a.db", " --token u"),
        ("a.db", " --token t --revision-at-least 5000000000"),
        (
            "a.db",
            " --token t --writes-per-second 100000 --backup-age-hours 1",
        ),
    ] {
        let error = restore(file, "m2", &format!("{how}{beside}"))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("m2") && error.contains("from the same file"),
            "{error}"
        );
        assert!(!desk.at("m2").exists());
    }
    let second = format!(" --token t{beside}");
    restore("a.db", "m2", &second).await.unwrap();
}

#[tokio::test]
async fn a_revision_is_computed_from_the_age_of_the_backup() {
    let desk = Desk::new();
    let path = desk.snapshot("a.db", "ours").await;
    desk.sign(&path).await;
    let trusted = format!("--trusted {}", desk.signing.public());
    let mut made = 0;
    let mut restored = async |how: &str| -> Outcome<i64> {
        made += 1;
        let (folder, record) = (
            desk.at(&format!("data-{made}")),
            desk.at(&format!("{made}.json")),
        );
        run(&format!(
            "restore {} {} --initial-cluster default=http://127.0.0.1:1 --token t --etcd 3.6 \
             --record {} {how}",
            path.display(),
            folder.display(),
            record.display()
        ))
        .await?;
        let restored: Restored = serde_json::from_slice(&std::fs::read(record)?)?;
        Ok(restored.revision - restored.snapshot_revision)
    };
    assert_eq!(restored("--unsigned").await.unwrap(), 1_000_000_000);
    let hour = "--unsigned --backup-age-hours 1 --writes-per-second";
    let few = restored(&format!("{hour} 1")).await.unwrap();
    assert_eq!(few, 1_000_000_000);
    let many = restored(&format!("{hour} 100000")).await.unwrap();
    assert_eq!(many, 3_601_000_000);
    let unknown = restored("--unsigned --writes-per-second 1").await;
    let error = unknown.unwrap_err().to_string();
    assert!(error.contains("--backup-age-hours"), "{error}");
    // By what was signed: it was taken in the past.
    let signed = format!("{trusted} --writes-per-second 1000000000");
    assert!(restored(&signed).await.unwrap() > 1_000_000_000);
}

#[tokio::test]
async fn an_interrupt_ends_what_does_not_listen_and_lets_others_tidy_up() {
    let never = || std::future::pending::<&str>();
    let cancel = Cancellation::new();
    let ended = unless_interrupted(never(), false, &cancel, async || {}).await;
    assert_eq!((ended, cancel.is_cancelled()), (None, true));
    // One that takes away what it has begun, and then says so.
    let tidies = async |cancel: &Cancellation| {
        cancel.cancelled().await;
        tokio::task::yield_now().await;
        "tidied up"
    };
    let cancel = Cancellation::new();
    let mut signals = 0;
    let once = async || {
        signals += 1;
        if signals > 1 {
            std::future::pending::<()>().await;
        }
    };
    let ended = unless_interrupted(tidies(&cancel), true, &cancel, once).await;
    assert_eq!(ended, Some("tidied up"));
    // Who waits for it no longer says so once more.
    let cancel = Cancellation::new();
    let ended = unless_interrupted(never(), true, &cancel, async || {}).await;
    assert_eq!((ended, cancel.is_cancelled()), (None, true));
    let cancel = Cancellation::new();
    let quiet = async || std::future::pending::<()>().await;
    let ended = unless_interrupted(async { "done" }, false, &cancel, quiet).await;
    assert_eq!((ended, cancel.is_cancelled()), (Some("done"), false));
}

/// Half a minute and more on a large file, and none of them looks at a flag meanwhile.
#[test]
fn what_only_reads_ends_at_once() {
    let listens = |line: &str| {
        let words = ["etcd_backup"].into_iter().chain(line.split(' '));
        Cli::try_parse_from(words).unwrap().command.listens()
    };
    for line in [
        "inspect f",
        "prove f --endpoint e",
        "compare f g",
        "list --store s --trusted k",
        "prune --store s --trusted k",
    ] {
        assert!(!listens(line), "{line}");
    }
    for line in [
        "fetch f --store s --trusted k",
        "restore f d --initial-cluster c --token t --etcd 3.6 --unsigned",
        "save f --endpoint e",
    ] {
        assert!(listens(line), "{line}");
    }
}
