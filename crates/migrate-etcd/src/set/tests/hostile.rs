//! Sets that somebody made who knows the public key, to fill a disk or the memory.

use super::*;

/// A record of nothing but a snapshot of so many bytes.
fn record(bytes: u64) -> SetRecord {
    SetRecord {
        schema: 1,
        snapshot: FileRecord {
            path: "snapshot.db".to_owned(),
            bytes,
            sha256: hex(Sha256::digest("x")),
        },
        nodes: Vec::new(),
    }
}

/// The same with files of a node, each of so many bytes.
fn with_files(paths: impl IntoIterator<Item = String>, bytes: u64) -> SetRecord {
    let file = |path| FileRecord {
        path,
        bytes,
        sha256: hex(Sha256::digest("")),
    };
    let mut record = record(1);
    record.nodes.push(NodeRecord {
        name: "cp-1".to_owned(),
        files: paths.into_iter().map(file).collect(),
        missing: Vec::new(),
        too_large: Vec::new(),
        packages: BTreeMap::new(),
        keys: NodeKeys::default(),
    });
    record
}

impl World {
    /// What becomes of a set of these entries: names, the lengths that they say, and bytes.
    async fn made(&self, entries: &[(&str, u64, &[u8])], end: usize) -> Result<SetRecord, Error> {
        let mut bytes = Vec::new();
        for (name, length, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_path(name).unwrap();
            header.set_size(*length);
            header.set_mode(0o600);
            header.set_cksum();
            bytes.extend(header.as_bytes());
            bytes.extend(*text);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + end, 0);
        let path = self.folder.path().join("made.tar");
        fs::write(&path, bytes).unwrap();
        let sealed = self.seal.file(&path, &Cancellation::new()).await.unwrap();
        let got = self.unpack(&sealed.path).await;
        fs::remove_file(&sealed.path).unwrap();
        if let Ok((folder, _)) = &got {
            fs::remove_dir_all(folder).unwrap();
        }
        let left = ["unpacked", "unpacked.kube-migrate.part"];
        assert!(
            left.iter()
                .all(|name| !self.folder.path().join(name).exists())
        );
        got.map(|(_, record)| record)
    }
}

#[tokio::test]
async fn no_set_fills_the_disk_or_the_memory() {
    let world = world();
    let text = |record: &SetRecord| serde_json::to_vec(record).unwrap();
    let made = async |record: &[u8], (length, snapshot): (u64, &[u8]), end: usize| {
        let first = ("set.json", record.len() as u64, record);
        let entries = [first, ("snapshot.db", length, snapshot)];
        world.made(&entries, end).await
    };
    let sound = text(&record(1));
    // The control.
    made(&sound, (1, b"x"), 1024).await.unwrap();

    // A file that is longer than its record says is not begun: this one could not be.
    let below = text(&with_files(["/etc/a", "/etc/a/b"].map(str::to_owned), 0));
    let entries = |length| {
        let record = ("set.json", below.len() as u64, &*below);
        let inner = ("nodes/cp-1/etc/a/b", length, &b"x"[..length as usize]);
        [record, ("nodes/cp-1/etc/a", 0, b""), inner]
    };
    let error = world.made(&entries(1), 1024).await.unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    let error = world.made(&entries(0), 1024).await.unwrap_err();
    assert!(
        matches!(error, Error::File { .. } | Error::Exists { .. }),
        "{error}"
    );
    // All of it is more than any set has.
    for bytes in [LARGEST + 1, u64::MAX] {
        let error = made(&text(&record(bytes)), (1, b"x"), 0).await.unwrap_err();
        assert!(
            matches!(error, Error::TooLarge { most: LARGEST, .. }),
            "{error}"
        );
    }
    // More than the disk has.
    #[cfg(feature = "client")]
    {
        let disk = rustix::fs::statvfs(world.folder.path()).unwrap();
        let more = disk.f_bfree * disk.f_frsize + (1 << 30);
        if more <= LARGEST {
            let error = made(&text(&record(more)), (1, b"x"), 0).await.unwrap_err();
            assert!(matches!(error, Error::NoRoom { .. }), "{error}");
        }
    }
    // A record that is longer than any.
    let error = world.made(&[("set.json", 9 << 20, b"{")], 0).await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { bytes, .. } if bytes == 9 << 20),
        "{error}"
    );
    // An archive that goes on and on behind its end.
    made(&sound, (1, b"x"), 10 << 10).await.unwrap();
    let error = made(&sound, (1, b"x"), 2 << 20).await.unwrap_err();
    assert!(error.to_string().contains("behind its end"), "{error}");

    // Files that are larger, or more, than are taken of a node.
    for (count, bytes) in [(1, (1 << 20) + 1), (4097, 0)] {
        let record = with_files((0..count).map(|at| format!("/etc/{at}")), bytes);
        let error = made(&text(&record), (1, b"x"), 1024).await.unwrap_err();
        assert!(error.to_string().contains("no file of a node"), "{error}");
    }
}

#[tokio::test]
async fn a_set_that_could_not_be_opened_again_is_not_made() {
    let world = world();
    let mut snapshot = world.snapshot.clone();
    snapshot.bytes = LARGEST;
    let set = BackupSet::new(snapshot).with_node(world.node("cp-1"));
    let error = world.write(set).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert!(!world.folder.path().join("out").exists());
}
