//! What a journal file survives, and what it refuses.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::law::assert_replay_law;
use common::steps::{Access, context, migration};
use common::world::World;
use migrate_core::{Cancellation, Moment};
use migrate_executor::{
    Entry, Error, Executor, FileJournal, Journal, Record, RunEnd, RunOutcome, RunStep, Setup,
};
use migrate_plan::Planner;
use std::sync::Arc;
use tempfile::TempDir;

fn entry(seq: u64) -> Entry {
    let record = match seq % 3 {
        0 => Record::StepBegan {
            step: RunStep::Prepare,
        },
        1 => Record::Released {
            node: format!("node-{seq} — \"ü\""),
        },
        _ => Record::RunEnded { end: RunEnd::Done },
    };
    Entry::new(seq, Moment::from_millis(1_795_000_000_000 + seq), record)
}

/// A journal of `count` entries, and where each of its lines begins.
async fn written(folder: &TempDir, count: u64) -> (PathBuf, Vec<u8>, Vec<usize>) {
    let path = folder.path().join("run.journal");
    let mut journal = FileJournal::open(&path).unwrap();
    for seq in 0..count {
        journal.append(&entry(seq)).await.unwrap();
    }
    drop(journal);
    let bytes = fs::read(&path).unwrap();
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1));
    let mut starts: Vec<usize> = starts.collect();
    starts.pop();
    assert_eq!(starts.len() as u64, count + 1, "a header and one line each");
    (path, bytes, starts)
}

async fn load(path: &Path) -> Result<Vec<Entry>, Error> {
    FileJournal::open(path)?.load().await
}

fn entries(count: u64) -> Vec<Entry> {
    (0..count).map(entry).collect()
}

#[tokio::test]
async fn entries_come_back_and_more_can_follow() {
    let folder = TempDir::new().unwrap();
    let (path, _, _) = written(&folder, 4).await;
    let mut journal = FileJournal::open(&path).unwrap();
    assert_eq!(journal.load().await.unwrap(), entries(4));
    assert!(
        journal.append(&entry(5)).await.is_err(),
        "one is missing in between"
    );
    journal.append(&entry(4)).await.unwrap();
    drop(journal);
    assert_eq!(load(&path).await.unwrap(), entries(5));
    assert_eq!(FileJournal::read(&path).unwrap(), entries(5));
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_wherever_it_was_torn() {
    let folder = TempDir::new().unwrap();
    let (path, bytes, starts) = written(&folder, 4).await;
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        let whole = starts
            .iter()
            .skip(1)
            .filter(|start| **start <= length)
            .count();
        let whole = whole.saturating_sub(usize::from(whole > 0)) as u64;
        assert_eq!(
            FileJournal::read(&path).unwrap(),
            entries(whole),
            "{length} bytes, a look"
        );
        assert_eq!(
            fs::read(&path).unwrap().len(),
            length,
            "a look changes nothing"
        );
        let mut journal = FileJournal::open(&path).unwrap();
        assert_eq!(
            journal.load().await.unwrap(),
            entries(whole),
            "{length} bytes"
        );
        journal.append(&entry(whole)).await.unwrap();
        drop(journal);
        assert_eq!(
            load(&path).await.unwrap(),
            entries(whole + 1),
            "{length} bytes, and one"
        );
    }
}

#[tokio::test]
async fn a_last_line_whose_bytes_never_arrived_is_cut_off() {
    let folder = TempDir::new().unwrap();
    let (path, bytes, starts) = written(&folder, 4).await;
    let last = starts[4];
    for at in last..bytes.len() - 1 {
        let mut torn = bytes.clone();
        torn[at] = 0;
        fs::write(&path, &torn).unwrap();
        assert_eq!(load(&path).await.unwrap(), entries(3), "byte {at}");
        assert_eq!(fs::read(&path).unwrap().len(), last, "byte {at}");
    }
}

#[tokio::test]
async fn damage_before_the_last_line_is_refused_by_line_and_offset() {
    let folder = TempDir::new().unwrap();
    let (path, bytes, starts) = written(&folder, 4).await;
    for at in 0..starts[4] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x01;
        fs::write(&path, &damaged).unwrap();
        let line = starts.iter().filter(|start| **start <= at).count();
        match load(&path).await {
            Err(Error::JournalForeign { .. }) if line == 1 => {}
            Err(Error::JournalDamaged {
                line: found,
                offset,
                ..
            }) => {
                assert_eq!(found, line as u64, "byte {at}");
                assert_eq!(offset, starts[line - 1] as u64, "byte {at}");
            }
            other => panic!("byte {at} in line {line}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn lines_that_are_lost_repeated_or_swapped_are_refused() {
    let folder = TempDir::new().unwrap();
    let (path, bytes, _) = written(&folder, 5).await;
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for (order, line) in [
        (&[0, 1, 2, 4, 5][..], 4),
        (&[0, 1, 2, 2, 3, 4, 5], 4),
        (&[0, 1, 3, 2, 4, 5], 3),
        (&[0, 2, 3, 4, 5], 2),
    ] {
        let mixed: Vec<u8> = order.iter().flat_map(|at| lines[*at].to_vec()).collect();
        fs::write(&path, mixed).unwrap();
        let error = load(&path).await.unwrap_err();
        assert!(
            matches!(error, Error::JournalDamaged { line: found, .. } if found == line),
            "{order:?}: {error}"
        );
    }
}

#[tokio::test]
async fn a_newer_journal_and_a_foreign_file_are_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("newer.journal");
    // The header of schema 2, with its checksum.
    let json = r#"{"journal":"kube-migrate","schema":2}"#;
    let newer = format!("{} {json}\n", sha256_half(json));
    let foreign = [
        "hello\n",
        "hello",
        "\0",
        "0123456789abcdef0123456789abcdef {}\n",
    ];
    for text in foreign.iter().copied().chain([newer.as_str()]) {
        fs::write(&path, text).unwrap();
        let error = load(&path).await.unwrap_err();
        if text == newer {
            let known = matches!(
                error,
                Error::JournalNewer {
                    found: 2,
                    known: 1,
                    ..
                }
            );
            assert!(known, "{error}");
        } else {
            assert!(
                matches!(error, Error::JournalForeign { .. }),
                "{text:?}: {error}"
            );
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    #[cfg(unix)]
    {
        let error = load(Path::new("/dev/null")).await.unwrap_err();
        assert!(matches!(error, Error::JournalForeign { .. }), "{error}");
    }
}

fn sha256_half(json: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(json)
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[tokio::test]
async fn a_second_runner_is_refused_while_the_first_lives() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run.journal");
    let first = FileJournal::open(&path).unwrap();
    let error = FileJournal::open(&path).unwrap_err();
    assert!(matches!(error, Error::JournalLocked { .. }), "{error}");
    assert_eq!(FileJournal::read(&path).unwrap(), [], "looking is allowed");
    drop(first);
    FileJournal::open(&path).unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let (path, _, _) = written(&folder, 1).await;
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    load(&path).await.unwrap();
    assert_eq!(mode(), 0o600);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let error = FileJournal::open("/no/such/folder/run.journal").unwrap_err();
    assert!(
        error.to_string().contains("/no/such/folder/run.journal"),
        "{error}"
    );
}

/// The file as a run leaves it after a crash anywhere in its last line.
#[tokio::test(start_paused = true)]
async fn a_run_goes_on_from_a_file_torn_in_any_of_its_lines() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("whole.journal");
    let run = |world: &World, path: &Path, plan: bool| {
        let journal = FileJournal::open(path).unwrap();
        let access = Arc::new(Access(world.clone()));
        let setup = Setup::with_access(
            access,
            migration(world),
            Box::new(journal),
            context("run-1"),
        );
        if !plan {
            return setup;
        }
        let (model, policy) = (world.model(), world.policy());
        let plan = Planner::new(&model, &policy, world.lock().to.clone())
            .plan()
            .unwrap();
        setup.with_plan(plan, model, policy)
    };
    let world = World::new();
    let setup = run(&world, &path, true);
    let mut executor = Executor::open(setup).await.unwrap();
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done);
    assert!(report.journal.ends_with("whole.journal") && report.journal.contains(':'));
    drop(executor);

    let lines = FileJournal::read(&path).unwrap().len();
    for cut in (2..lines).step_by(7) {
        let world = World::new();
        let torn = folder.path().join(format!("torn-{cut}.journal"));
        let setup = run(&world, &torn, true);
        let mut executor = Executor::open(setup).await.unwrap();
        while FileJournal::read(&torn).unwrap().len() < cut {
            let _ = executor.step().await.unwrap();
        }
        drop(executor);
        let ended = |entry: &Entry| matches!(entry.record, Record::RunEnded { .. });
        if FileJournal::read(&torn).unwrap().iter().any(ended) {
            break;
        }
        // The machine lost power while a further line was written.
        let mut bytes = fs::read(&torn).unwrap();
        bytes.extend_from_slice(b"0123456789abcdef0123456789abcdef {\"seq\":");
        fs::write(&torn, bytes).unwrap();
        let setup = run(&world, &torn, false);
        let mut executor = Executor::open(setup).await.unwrap();
        let report = executor.run(&Cancellation::new()).await.unwrap();
        assert_eq!(report.outcome, RunOutcome::Done, "{report}");
        assert_eq!(world.lock().broken, [""; 0]);
        assert_replay_law(&FileJournal::read(&torn).unwrap());
    }
}
