//! What is removed, what stays, and what is said of it.

use futures::StreamExt;
use proptest::prelude::*;

use super::stores::{Refusal, away, denied, denied_in_words, locked, locked_in_words};
use super::*;
use crate::Retention;

#[tokio::test]
async fn pruning_keeps_what_is_to_be_kept_and_what_is_not_ours() {
    let world = World::new();
    let (memory, store) = memory();
    for (name, taken, proof) in [
        ("1.db", "2026-11-27T00:00:00Z", BackupProof::Unproven),
        ("2.db", "2026-11-28T00:00:00Z", BackupProof::Proven),
        ("3.db", "2026-11-29T00:00:00Z", BackupProof::Unproven),
        ("4.db", "2026-11-29T01:00:00Z", BackupProof::Unproven),
    ] {
        let path = world.backup(name, taken, proof).await;
        world.put(&store, &path).await.unwrap();
    }
    // Of others: beside ours, below, and outside; and what is left of one of ours.
    let text = fs::read(world.folder.path().join("1.db.manifest.json")).unwrap();
    for name in [
        "clusters/c/notes.txt",
        "clusters/c/deep/1.db",
        "clusters/x/1.db",
    ] {
        let at = Location::parse(name).unwrap();
        memory.put(&at, "theirs".into()).await.unwrap();
    }
    let gone = Location::parse("clusters/c/2.db").unwrap();
    let second = memory.get(&gone).await.unwrap().bytes().await.unwrap();
    let mut told = Vec::new();
    let progress = |done, of| told.push((done, of));
    let (trusted, least) = (world.trusted(), Retention::least());
    let pruned = store.prune_with(&trusted, &least, progress);
    let pruned = pruned.await.unwrap();
    // Each is read, and then each is kept or removed.
    assert_eq!(told, [(1, 4), (2, 4), (3, 4), (4, 4)].repeat(2));
    let files = |list: &[Manifest]| {
        let names = list.iter().map(|backup| backup.file.clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(files(&pruned.kept), ["2.db", "4.db"]);
    assert_eq!(files(&pruned.removed), ["1.db", "3.db"]);
    assert!(pruned.failed.is_empty());
    assert_eq!(world.files(&store).await, ["2.db", "4.db"]);
    let names = async || {
        let listed: Vec<_> = memory.list(None).collect().await;
        let names = listed
            .into_iter()
            .map(|object| object.unwrap().location.to_string());
        names.collect::<Vec<_>>()
    };
    assert_eq!(
        names().await,
        [
            "clusters/c/2.db",
            "clusters/c/2.db.manifest.json",
            "clusters/c/4.db",
            "clusters/c/4.db.manifest.json",
            "clusters/c/deep/1.db",
            "clusters/c/notes.txt",
            "clusters/x/1.db",
        ]
    );
    // What a pruning that was killed has left.
    memory.delete(&gone).await.unwrap();
    let left = Location::parse("clusters/c/1.db.manifest.json").unwrap();
    memory.put(&left, text.into()).await.unwrap();
    let pruned = store.prune(&world.trusted(), &Retention::default()).await;
    assert_eq!(files(&pruned.unwrap().kept), ["4.db"]);
    assert!(
        !names()
            .await
            .iter()
            .any(|name| name.ends_with("1.db.manifest.json"))
    );
    memory.put(&gone, second.into()).await.unwrap();
}

/// As where objects are immutable for a time: some go and some do not, whoever asks.
#[tokio::test]
async fn what_is_locked_is_told_and_in_nobodys_way() {
    for refusal in [locked as Refusal, locked_in_words] {
        let world = World::new();
        let (immutable, store) = nine(&world).await;
        *immutable.locked_until.lock().unwrap() = "7.db";
        *immutable.refusal.lock().unwrap() = refusal;
        let pruned = store.prune(&world.trusted(), &Retention::least()).await;
        let pruned = pruned.unwrap();
        let failed = pruned.failed.iter().map(|(backup, _)| &*backup.file);
        assert!(failed.eq(["0.db", "1.db", "2.db", "3.db", "4.db", "5.db", "6.db"]));
        let removed = pruned.removed.iter().map(|backup| &*backup.file);
        assert!(removed.eq(["7.db"]), "{:?}", pruned.removed);
        assert_eq!(pruned.kept.len(), 1);
        assert!(pruned.still_stored.is_empty());
    }
}

/// A store with nine backups, an hour each.
async fn nine(world: &World) -> (Arc<Faulty>, Store) {
    let faulty = Faulty::new();
    let store = faulty.store();
    for at in 0..9 {
        let taken = format!("2026-11-29T0{at}:00:00Z");
        let name = format!("{at}.db");
        let path = world.backup(&name, &taken, BackupProof::Proven);
        world.put(&store, &path.await).await.unwrap();
    }
    (faulty, store)
}

/// Credentials that may put and not remove: the answer is the same for each.
#[tokio::test]
async fn who_may_remove_nothing_is_told_after_a_few_tries() {
    for refusal in [denied as Refusal, denied_in_words] {
        let world = World::new();
        let (faulty, store) = nine(&world).await;
        *faulty.locked_until.lock().unwrap() = "9";
        *faulty.refusal.lock().unwrap() = refusal;
        let mut told = Vec::new();
        let (trusted, least) = (world.trusted(), Retention::least());
        let pruned = store.prune_with(&trusted, &least, |done, _| told.push(done));
        let error = pruned.await.unwrap_err();
        assert!(
            matches!(error, Error::PruneDenied { tried: 5, .. }),
            "{error}"
        );
        // All were read, and four were done with.
        assert_eq!(told.last(), Some(&4));
        assert_eq!(world.files(&store).await.len(), 9);
        // Fewer than that are told one by one.
        let few = Retention { last: 5, ..least };
        let pruned = store.prune(&trusted, &few).await.unwrap();
        assert_eq!((pruned.failed.len(), pruned.removed.len()), (4, 0));
    }
}

/// Denied for some: that is no word about the others.
#[tokio::test]
async fn where_one_was_removed_what_is_denied_is_in_nobodys_way() {
    let world = World::new();
    let (faulty, store) = nine(&world).await;
    *faulty.locked_until.lock().unwrap() = "9";
    faulty.removable.lock().unwrap().extend(["0.db", "7.db"]);
    let pruned = store.prune(&world.trusted(), &Retention::least()).await;
    let pruned = pruned.unwrap();
    let removed = pruned.removed.iter().map(|backup| &*backup.file);
    assert!(removed.eq(["0.db", "7.db"]), "{:?}", pruned.removed);
    assert_eq!(pruned.failed.len(), 6);
}

/// As where the store is away in the middle.
#[tokio::test]
async fn what_cannot_be_removed_stays_whole_and_listed() {
    let world = World::new();
    let (immutable, store) = nine(&world).await;
    *immutable.refusal.lock().unwrap() = away;
    *immutable.locked_until.lock().unwrap() = "7.db";
    let whole = world.files(&store).await;
    let prune = async || {
        let pruned = store.prune(&world.trusted(), &Retention::least()).await;
        pruned.unwrap()
    };
    // After five that cannot be removed the one that could is not asked for any more.
    let pruned = prune().await;
    let failed = pruned.failed.iter();
    let failed: Vec<_> = failed.map(|(backup, _)| backup.file.as_str()).collect();
    assert_eq!(failed, ["0.db", "1.db", "2.db", "3.db", "4.db"]);
    for (backup, error) in &pruned.failed {
        assert!(matches!(error, Error::Store { .. }), "{error}");
        assert!(error.to_string().contains(&backup.file), "{error}");
    }
    assert!(pruned.removed.is_empty());
    assert_eq!(world.files(&store).await, whole);
    // Its manifest would be one of nothing, and its bytes those of nobody.
    let objects = immutable.inner.list(None).count().await;
    assert_eq!(objects, 2 * whole.len());

    // Some of them later.
    *immutable.locked_until.lock().unwrap() = "4.db";
    let pruned = prune().await;
    assert_eq!((pruned.failed.len(), pruned.removed.len()), (4, 4));
    assert_eq!(
        world.files(&store).await,
        ["0.db", "1.db", "2.db", "3.db", "8.db"]
    );
}

/// Nobody shall wait for room, or for a secret to be gone, that a bucket keeps.
#[tokio::test]
async fn what_a_store_with_versions_keeps_is_told() {
    for (version, is_kept) in [(None, false), (Some("null"), false), (Some("3sL4k"), true)] {
        for is_named in [true, false] {
            let world = World::new();
            let faulty = Faulty::new();
            *faulty.version.lock().unwrap() = version;
            let store = match is_named {
                true => faulty.store().naming_versions(),
                false => faulty.store(),
            };
            let old = world.first().await;
            let new = world
                .backup("b.db", "2026-11-29T01:00:00Z", BackupProof::Proven)
                .await;
            for path in [&old, &new] {
                world.put(&store, path).await.unwrap();
            }
            let pruned = store.prune(&world.trusted(), &Retention::least()).await;
            let pruned = pruned.unwrap();
            assert_eq!(pruned.removed.len(), 1);
            let kept = match is_kept && is_named {
                true => vec!["a.db"],
                false => vec![],
            };
            assert_eq!(pruned.still_stored, kept, "{version:?}");
        }
    }
}

/// A listing takes as long as a store has pages, and backups are put meanwhile.
#[tokio::test]
async fn a_backup_that_comes_while_the_store_is_listed_keeps_its_manifest() {
    let world = World::new();
    let faulty = Faulty::new();
    let store = faulty.store();
    let path = world.first().await;
    world.put(&store, &path).await.unwrap();
    faulty.unlisted.lock().unwrap().insert("a.db");
    let prune = async || {
        let pruned = store.prune(&world.trusted(), &Retention::least()).await;
        pruned.unwrap()
    };
    assert!(prune().await.kept.is_empty());
    faulty.unlisted.lock().unwrap().clear();
    assert_eq!(world.files(&store).await, ["a.db"]);
    // The control: it is really gone.
    let gone = Location::parse("clusters/c/a.db").unwrap();
    faulty.inner.delete(&gone).await.unwrap();
    prune().await;
    assert_eq!(faulty.inner.list(None).count().await, 0);
}

/// Backups of this catalogue, an hour each, and whether they are proven.
type Hours = Vec<(u32, bool)>;

/// Puts `taken` into a store that others use too, prunes it, and says which of the proven ones
/// are still there.
async fn proven_that_stay(world: &World, taken: &Hours, retention: &Retention) -> Vec<String> {
    let (memory, store) = memory();
    let others = [
        "clusters/c/notes.txt",
        "clusters/c/deep/0.db",
        "clusters/x/0.db",
        "0.db",
    ];
    for name in others {
        let at = Location::parse(name).unwrap();
        memory.put(&at, "theirs".into()).await.unwrap();
    }
    for (at, (hour, is_proven)) in taken.iter().enumerate() {
        let proof = match is_proven {
            true => BackupProof::Proven,
            false => BackupProof::Unproven,
        };
        let second = 1_795_000_000 + 3600 * i64::from(*hour);
        let taken = jiff::Timestamp::from_second(second).unwrap().to_string();
        let path = world.backup(&format!("{at}.db"), &taken, proof).await;
        world.put(&store, &path).await.unwrap();
    }
    let pruned = store.prune(&world.trusted(), retention).await.unwrap();
    assert_eq!(pruned.kept.len() + pruned.removed.len(), taken.len());
    for name in others {
        let at = Location::parse(name).unwrap();
        let there = memory.get(&at).await.unwrap().bytes().await.unwrap();
        assert_eq!(there, "theirs", "{name}");
    }
    let catalogue = store.list(&world.trusted()).await.unwrap();
    let proven = catalogue.backups.into_iter();
    let proven = proven.filter(|backup| backup.proof == BackupProof::Proven);
    proven.map(|backup| backup.file).collect()
}

fn hours(most: usize) -> impl Strategy<Value = Hours> {
    proptest::collection::vec((0_u32..2000, any::<bool>()), 0..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Bare and forced snapshots come oftener than sets.
    #[test]
    fn unproven_backups_push_no_proven_one_out(
        all in hours(10),
        added in hours(10),
        numbers in proptest::array::uniform5(0_usize..3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let [last, hourly, daily, weekly, monthly] = numbers;
        let retention = Retention { last, hourly, daily, weekly, monthly };
        let mut more = all.clone();
        more.extend(added.into_iter().map(|(hour, _)| (hour, false)));
        let [before, after] = [all.clone(), more].map(|taken| {
            let world = World::new();
            runtime.block_on(proven_that_stay(&world, &taken, &retention))
        });
        prop_assert_eq!(&before, &after);
        // The last of the newest.
        let proven = all.iter().enumerate().filter(|(_, (_, is_proven))| *is_proven);
        let newest = proven.map(|(at, (hour, _))| (*hour, format!("{at}.db"))).max();
        if let Some((_, newest)) = newest {
            prop_assert!(after.contains(&newest), "{} of {:?}", newest, after);
        }
    }
}
