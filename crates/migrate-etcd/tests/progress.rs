//! How far work on a file is, is told while it goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use migrate_etcd::{
    EtcdVersion, Membership, NewSnapshot, PartFile, Restore, inspect, inspect_with,
};

const MEMBERS: &str = "m=http://127.0.0.1:1";

/// A snapshot of some MiB.
async fn snapshot(folder: &Path) -> PathBuf {
    let mut snapshot = NewSnapshot::new(Membership::parse(MEMBERS, "t").unwrap());
    for i in 0..64 {
        snapshot.put(format!("key-{i}"), vec![b'v'; 100 << 10], 2 + i);
    }
    let file = PartFile::create(folder, "a.db").await.unwrap();
    snapshot.write(file).await.unwrap().path
}

type Heard = Arc<Mutex<Vec<(u64, u64)>>>;

fn hearing() -> (Heard, impl Fn(u64, u64) + Send + Sync + 'static) {
    let heard = Heard::default();
    let hearing = Arc::clone(&heard);
    (heard, move |done, of| {
        hearing.lock().unwrap().push((done, of));
    })
}

/// That it went on, by steps, to the end of `of` bytes.
fn assert_went_on(heard: &Heard, of: u64) {
    let heard = heard.lock().unwrap();
    assert!(heard.len() as u64 >= of >> 20, "{heard:?}");
    assert!(heard.iter().all(|(_, all)| *all == of), "{heard:?} of {of}");
    assert!(heard.is_sorted_by(|one, next| one.0 < next.0), "{heard:?}");
    assert_eq!(heard.last(), Some(&(of, of)));
}

#[tokio::test]
async fn an_inspection_tells_how_much_it_has_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = snapshot(folder.path()).await;
    let bytes = std::fs::metadata(&path).unwrap().len();
    let (heard, told) = hearing();
    assert_eq!(inspect_with(&path, told).unwrap(), inspect(&path).unwrap());
    // Once for its hash, and once page by page.
    assert_went_on(&heard, 2 * bytes - 32);

    // What is not sound has no end.
    let mut damaged = std::fs::read(&path).unwrap();
    damaged.truncate(damaged.len() - 32);
    damaged[3 * 4096 + 8] ^= 0xff;
    std::fs::write(&path, damaged).unwrap();
    let (heard, told) = hearing();
    inspect_with(&path, told).unwrap_err();
    let ended = heard.lock().unwrap().iter().any(|(done, of)| done == of);
    assert!(!ended);
}

#[tokio::test]
async fn a_restore_tells_how_much_it_has_written_and_when_all_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = snapshot(folder.path()).await;
    let bytes = std::fs::metadata(&path).unwrap().len();
    let data = folder.path().join("data");
    let restore = |members| Restore::new(&path, &data, members, "m", EtcdVersion::new(3, 6));
    let (heard, told) = hearing();
    let (at_end, db) = (Arc::clone(&heard), data.join("member/snap/db"));
    let restore =
        restore(Membership::parse(MEMBERS, "t").unwrap()).with_progress(move |done, of| {
            // It has its name by then.
            assert_eq!(done == of, db.exists());
            told(done, of);
        });
    restore.run().unwrap();
    assert_went_on(&at_end, bytes - 32);
}
