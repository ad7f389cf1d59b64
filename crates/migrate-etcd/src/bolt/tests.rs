use super::build::{Entries, Free, database, snapshot, stamped};
use super::*;

fn entries(count: usize, value: usize) -> Entries {
    let entry = |i: usize| ((i as u64).to_be_bytes().to_vec(), vec![b'v'; value]);
    (0..count).map(entry).collect()
}

fn sample() -> Vec<(&'static str, Entries)> {
    vec![
        ("a", Entries::new()),
        ("inline", entries(1, 3)),
        ("key", entries(700, 40)),
        ("long", entries(5, 9000)),
    ]
}

fn read(bytes: Vec<u8>) -> Result<(Structure, Vec<(String, Entries)>), ReadError> {
    let database = Database::from_bytes(bytes)?;
    let mut found = Vec::new();
    for bucket in database.buckets()? {
        let mut entries = Entries::new();
        database.each(&bucket, &mut |entry| {
            entries.push((entry.key.to_vec(), entry.value.to_vec()));
            Ok(())
        })?;
        found.push((String::from_utf8_lossy(bucket.name()).into_owned(), entries));
    }
    let mut visited = 0;
    let structure = database.check(&mut |_, _| {
        visited += 1;
        Ok(())
    })?;
    assert_eq!(visited, found.iter().map(|(_, e)| e.len()).sum::<usize>());
    Ok((structure, found))
}

#[test]
fn every_entry_is_read_at_any_page_size_and_with_any_free_list() {
    for page_size in [512, 4096, 65536] {
        for free in [Free::Unlisted, Free::Listed, Free::CountFirst] {
            let (structure, found) = read(snapshot(page_size, free, &sample())).unwrap();
            let expected = sample();
            assert_eq!(found.len(), expected.len());
            for ((name, entries), (found_name, found)) in expected.iter().zip(&found) {
                assert_eq!((name, entries), (&found_name.as_str(), found));
            }
            assert_eq!(structure.free_pages, 2);
            assert_eq!(structure.has_free_list, free != Free::Unlisted);
            assert_eq!(structure.damaged_meta, None);
        }
    }
}

#[test]
fn either_meta_page_is_enough_and_the_newer_one_counts() {
    let whole = snapshot(4096, Free::Unlisted, &sample());
    let (_, expected) = read(whole.clone()).unwrap();
    assert_eq!(
        Database::from_bytes(whole.clone()).unwrap().transaction(),
        8
    );
    for (damaged, transaction) in [(0u64, 7), (1, 8)] {
        let mut bytes = whole.clone();
        bytes[damaged as usize * 4096 + 20] ^= 1;
        let bytes = stamped(bytes);
        let database = Database::from_bytes(bytes.clone()).unwrap();
        assert_eq!(database.transaction(), transaction);
        let (structure, found) = read(bytes.clone()).unwrap();
        assert_eq!(found, expected);
        assert_eq!(structure.damaged_meta, Some(damaged));
        let mut neither = bytes;
        neither[(1 - damaged as usize) * 4096 + 40] ^= 1;
        assert!(matches!(read(neither), Err(ReadError::NoMeta { .. })));
    }
}

fn fault(bytes: Vec<u8>) -> Fault {
    match read(stamped(bytes)) {
        Err(ReadError::Damaged { fault, .. }) => fault,
        other => panic!("{:?}", other.map(|(structure, _)| structure)),
    }
}

#[test]
fn each_kind_of_damage_is_named() {
    let whole = snapshot(512, Free::Listed, &sample());
    let pages = whole.len() / 512;
    let kind = |page: &usize| u16::from_le_bytes([whole[page * 512 + 8], whole[page * 512 + 9]]);
    let leaf = (4..pages).find(|page| kind(page) == page::LEAF).unwrap() * 512;
    let branch = (4..pages).find(|page| kind(page) == page::BRANCH).unwrap() * 512;
    let list = (4..pages)
        .find(|page| kind(page) == page::FREELIST)
        .unwrap()
        * 512;
    let with = |at: usize, bytes: &[u8]| {
        let mut damaged = whole.clone();
        damaged[at..at + bytes.len()].copy_from_slice(bytes);
        fault(damaged)
    };
    assert_eq!(with(leaf, &[0xFF]), Fault::WrongId { found: 0xFF });
    assert_eq!(with(leaf + 8, &[4]), Fault::WrongKind { found: 4 });
    assert_eq!(with(leaf + 10, &[0]), Fault::Empty);
    assert_eq!(with(leaf + 10, &[1]), Fault::Layout(0));
    let overflow = Fault::Overflow {
        found: 1,
        needed: 0,
    };
    assert_eq!(with(leaf + 12, &[1]), overflow);
    assert_eq!(with(leaf + 12, &[0, 0, 0, 1]), Fault::OutOfBounds);
    assert_eq!(with(leaf + 16, &[2]), Fault::EntryFlags(0));
    let nested = Fault::Unexpected("a bucket within a bucket");
    assert_eq!(with(leaf + 16, &[1]), nested);
    assert_eq!(with(leaf + 20, &[0xFF; 4]), Fault::Layout(0));
    assert_eq!(with(branch + 10, &[0, 0]), Fault::Empty);
    let child = whole[branch + 24..branch + 32].to_vec();
    assert_eq!(with(branch + 40, &child), Fault::ReachedTwice);
    assert_eq!(with(branch + 24, &[0xFF; 8]), Fault::OutOfBounds);
    assert_eq!(with(branch + 24, &[0; 8]), Fault::OutOfBounds);
    assert_eq!(with(list + 16, &[3]), Fault::FreeList);
    assert_eq!(with(list + 16, &[9]), Fault::FreeTwice);
    assert_eq!(with(list + 24, &[4]), Fault::FreeTwice);
    assert_eq!(with(list + 10, &[1]), Fault::Lost);
    assert_eq!(with(list + 10, &[0xFE, 0xFF]), Fault::FreeList);

    let cut = whole[..whole.len() - 512].to_vec();
    assert!(matches!(fault(cut), Fault::Length { .. }));
    for bytes in [Vec::new(), vec![0; 8192], vec![0xFF; 8192 + 32]] {
        assert!(matches!(read(bytes), Err(ReadError::NoMeta { .. })));
    }
}

#[test]
fn keys_stay_within_what_the_branch_above_says() {
    let whole = snapshot(512, Free::Unlisted, &sample());
    let pages = whole.len() / 512;
    let is_branch = |page: &usize| whole[page * 512 + 8] == 1;
    let branch = (4..pages).find(is_branch).unwrap() * 512;
    let pos = u32::from_le_bytes(*whole[branch + 32..].first_chunk().unwrap()) as usize;
    let key = branch + 32 + pos + 7;
    // The second child's first key, raised by one.
    let mut bytes = whole.clone();
    bytes[key] += 1;
    assert_eq!(fault(bytes), Fault::KeyOrder(0));
    // And lowered to one of the first child.
    let mut bytes = whole;
    bytes[key] = 4;
    assert_eq!(fault(bytes), Fault::KeyOrder(4));
}

#[test]
fn the_trailer_is_compared_and_a_file_without_one_is_read() {
    let whole = snapshot(4096, Free::Unlisted, &sample());
    let database_only = database(4096, Free::Unlisted, &sample());
    let hash = Database::from_bytes(whole.clone()).unwrap().check_trailer();
    let expected: [u8; 32] = Sha256::digest(&database_only).into();
    assert_eq!(hash.unwrap(), Some(expected));

    let mut longer = database_only;
    longer.resize(longer.len() + 8192, 0);
    let reader = Database::from_bytes(longer.clone()).unwrap();
    assert!(!reader.has_trailer());
    assert_eq!(reader.check_trailer().unwrap(), None);
    assert_eq!(read(longer).unwrap(), read(whole.clone()).unwrap());

    let mut damaged = whole;
    damaged[9000] ^= 1;
    let damaged = Database::from_bytes(damaged).unwrap().check_trailer();
    assert!(matches!(damaged, Err(ReadError::Checksum { .. })));
}

#[test]
fn a_file_is_only_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let bytes = snapshot(4096, Free::Listed, &sample());
    std::fs::write(&path, &bytes).unwrap();
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    let database = Database::open(&path).unwrap();
    database.check_trailer().unwrap();
    database.check(&mut |_, _| Ok(())).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    let missing = Database::open(&folder.path().join("b.db"));
    assert!(matches!(missing, Err(ReadError::File { .. })));
    let folder = Database::open(folder.path());
    assert!(matches!(folder, Err(ReadError::File { .. })));
}

#[test]
fn nothing_more_is_read_once_it_is_cancelled() {
    let cancel = Cancellation::new();
    let whole = snapshot(512, Free::Unlisted, &sample());
    let database = Database::from_bytes(whole).unwrap().until(&cancel);
    let buckets = database.buckets().unwrap();
    let mut keys = buckets.iter().filter(|bucket| bucket.name() == b"key");
    let mut visited = 0;
    let stopped = database.each(keys.next().unwrap(), &mut |_| {
        visited += 1;
        cancel.cancel();
        Ok(())
    });
    // The rest of the page of 700 entries' tree that it is at.
    assert!(visited < 10, "{visited}");
    assert!(matches!(stopped, Err(ReadError::File { .. })));
    assert!(database.check_trailer().is_err() && database.buckets().is_err());
}

/// Branches of one child each, one below the other.
#[test]
fn a_tree_that_is_too_deep_is_told_with_its_page_and_offset() {
    let mut bytes = snapshot(512, Free::Unlisted, &sample());
    let database = Database::from_bytes(bytes.clone()).unwrap();
    let mut buckets = database.buckets().unwrap().into_iter();
    let bucket = buckets.find(|bucket| bucket.name() == b"key").unwrap();
    let Root::Page(mut id) = bucket.root else {
        panic!("700 entries lie in the page above");
    };
    // Those that were its leaves.
    for child in 4..60u64 {
        let mut page = id.to_le_bytes().to_vec();
        for half in [page::BRANCH, 1, 0, 0] {
            page.extend(half.to_le_bytes());
        }
        page.extend(16u32.to_le_bytes());
        page.extend(1u32.to_le_bytes());
        page.extend(child.to_le_bytes());
        page.push(b'k');
        let at = id as usize * 512;
        bytes[at..at + page.len()].copy_from_slice(&page);
        id = child;
    }
    let database = Database::from_bytes(stamped(bytes)).unwrap();
    let walked = database.each(&bucket, &mut |_| Ok(()));
    let last = database.last(&bucket, |_| Ok(()));
    for error in [walked.unwrap_err(), last.unwrap_err()] {
        let ReadError::Damaged {
            page,
            offset,
            fault: Fault::TooDeep,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((page, offset), (43, 43 * 512));
    }
}
