//! A store that is a folder: who may read what is in it, and what a kill leaves.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::*;

/// The files of a folder and their permissions, by name.
fn modes(folder: &Path) -> Vec<(String, u32)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mode = |entry: &fs::DirEntry| entry.metadata().unwrap().permissions().mode() & 0o777;
    let mut modes: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), mode(&entry)))
        .collect();
    modes.sort();
    modes
}

/// A folder that others may enter, as one that was mounted or made by hand.
fn open_to_all(world: &World) -> PathBuf {
    let folder = world.folder.path().join("store");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[tokio::test]
async fn what_is_in_a_folder_that_all_may_enter_only_its_owner_reads() {
    let world = World::new();
    let folder = open_to_all(&world);
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    let path = world.first().await;
    // Under its name and unfinished: it takes the place of what is no such backup.
    fs::write(folder.join("a.db"), "short").unwrap();
    let mut seen = Vec::new();
    let trusted = world.trusted();
    let put = store.put(&path, &trusted, &world.cancel, |_, _| {
        seen.push(modes(&folder));
    });
    put.await.unwrap();
    let name = |name: &str| (name.to_owned(), 0o600);
    let part = format!("a.db.{}.kube-migrate.part", std::process::id());
    // Once while it is written, once before the manifest.
    assert!(seen[0].contains(&name(&part)), "{seen:?}");
    assert_eq!(*seen.last().unwrap(), [name("a.db")]);
    let both = [name("a.db"), name("a.db.manifest.json")];
    assert_eq!(modes(&folder), both);
    assert_eq!(world.files(&store).await, ["a.db"]);
}

/// Names the folders that the process of its own puts from and into.
const FOLDER: &str = "KUBE_MIGRATE_TEST_STORE";

#[tokio::test]
async fn what_a_killed_upload_leaves_in_a_folder_is_told_and_goes_with_the_next() {
    let world = World::new();
    let folder = open_to_all(&world);
    world.first().await;
    let mut putter = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::folder::the_upload_that_is_killed"])
        .args(["--ignored", "--nocapture"])
        .env(FOLDER, world.folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(putter.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("half")));
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    let next = world
        .backup("b.db", "2026-11-29T01:00:00Z", BackupProof::Proven)
        .await;
    let part = format!("a.db.{}.kube-migrate.part", putter.id());
    let written = [(part.clone(), 0o600)];
    assert_eq!(modes(&folder), written);
    // While its writer lives nobody takes it away.
    world.put(&store, &next).await.unwrap();
    assert!(modes(&folder).contains(&written[0]));
    putter.kill().unwrap();
    putter.wait().unwrap();
    let catalogue = store.list(&world.trusted()).await.unwrap();
    assert_eq!(catalogue.unfinished, [part]);
    let last = world
        .backup("c.db", "2026-11-29T02:00:00Z", BackupProof::Proven)
        .await;
    world.put(&store, &last).await.unwrap();
    let names: Vec<_> = modes(&folder).into_iter().map(|(name, _)| name).collect();
    let whole = ["b.db", "c.db"].map(|name| [name.to_owned(), Manifest::name_of(name)]);
    assert_eq!(names, whole.concat());
}

#[tokio::test]
#[ignore = "the process that is killed"]
async fn the_upload_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = PathBuf::from(folder);
    let mut store = Store::open(folder.join("store").to_str().unwrap()).unwrap();
    store.part = 999;
    let trusted = [SigningKey::from_seed(&[7; 32]).unwrap().public()];
    let cancel = Cancellation::new();
    let backup = folder.join("a.db");
    let put = store.put(&backup, &trusted, &cancel, |_, _| {
        println!("half");
        loop {
            std::thread::park();
        }
    });
    put.await.unwrap();
}
