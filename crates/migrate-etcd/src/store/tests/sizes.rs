//! Parts of backups of any size.

use proptest::prelude::*;

use super::*;

/// As S3 has it.
const MIB: u64 = 1 << 20;
const LARGEST: u64 = 5 << 40;

fn is_allowed(store: &Store, bytes: u64) -> bool {
    let part = store.part_of(bytes) as u64;
    bytes.div_ceil(part) <= 10_000 && (5 * MIB..=5 << 30).contains(&part)
}

fn plain() -> Store {
    let (parts, _) = in_parts();
    let objects = Arc::new(object_store::memory::InMemory::new());
    Store::new(objects, "clusters/c").unwrap().with_parts(parts)
}

#[test]
fn a_large_backup_has_larger_parts_and_none_has_too_many() {
    let store = plain();
    let least = 8 * MIB;
    for (bytes, part) in [
        (0, least),
        (1, least),
        (10_000 * least, least),
        (10_000 * least + 1, 2 * least),
        (20_000 * least + 1, 3 * least),
        (LARGEST, 528 * MIB),
    ] {
        assert_eq!(store.part_of(bytes) as u64, part, "{bytes}");
        assert!(is_allowed(&store, bytes), "{bytes}");
    }
    // A size that nobody has divides by nothing.
    assert!(store.part_of(u64::MAX) > 0);
}

#[test]
fn what_no_object_can_hold_is_refused_before_it_is_begun() {
    let store = plain();
    let at = Location::parse("clusters/c/a.db").unwrap();
    store.refuse_too_large(LARGEST, &at).unwrap();
    let error = store.refuse_too_large(LARGEST + 1, &at).unwrap_err();
    assert!(
        matches!(error, Error::TooLargeForStore { most: LARGEST, .. }),
        "{error}"
    );
    // A folder holds what its disk does.
    memory().1.refuse_too_large(LARGEST + 1, &at).unwrap();
}

proptest! {
    #[test]
    fn whatever_the_size(bytes in 0..=LARGEST) {
        prop_assert!(is_allowed(&plain(), bytes));
    }
}

/// In four parts it would have too many.
#[tokio::test]
async fn a_backup_of_too_many_least_parts_is_put_in_larger_ones() {
    let world = World::new();
    let path = world.first().await;
    let (parts, mut store) = in_parts();
    store.most_parts = 2;
    parts.fail_at.store(1, Ordering::Relaxed);
    world.put(&store, &path).await.unwrap_err();
    parts.fail_at.store(usize::MAX, Ordering::Relaxed);
    let mut told = Vec::new();
    let trusted = world.trusted();
    let put = store.put(&path, &trusted, &world.cancel, |done, _| told.push(done));
    put.await.unwrap();
    assert_eq!(told.first(), Some(&(3 * 999)), "it goes on where it was");
    assert_eq!(parts.put.load(Ordering::Relaxed), 2);
    let (fetched, ..) = world.fetch(&store).await.unwrap();
    assert_eq!(fs::read(&fetched).unwrap(), fs::read(&path).unwrap());
}
