//! What takes a process of its own: this program once more, told by its environment what to do.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::Parser;
use migrate_etcd::{Membership, NewSnapshot, PartFile};
use rustix::process::{Pid, Signal, kill_process};

use super::Desk;
use crate::cli::Cli;

/// The command line of the process of its own.
const LINE: &str = "KUBE_MIGRATE_TEST_LINE";

/// The program with `line`, whose words are set apart by blanks.
pub(super) fn alone(line: &str) -> Command {
    let child = "tests::interrupted::a_process_of_its_own";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", child, "--ignored", "--nocapture"])
        .env(LINE, line)
        .stdin(Stdio::null());
    command
}

/// What is in a folder, however deep.
fn below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        found.extend(below(&entry.path()));
    }
    found
}

/// Half a database is plain data of the cluster, wherever it is left.
#[tokio::test]
async fn a_restore_that_is_interrupted_leaves_nothing() {
    let desk = Desk::new();
    let mut snapshot = NewSnapshot::new(Membership::parse("m=http://127.0.0.1:1", "t").unwrap());
    for i in 0..96 {
        snapshot.put(format!("key-{i}"), vec![b'v'; 1 << 20], 2 + i);
    }
    let file = PartFile::create(desk.folder.path(), "a.db").await.unwrap();
    let path = snapshot.write(file).await.unwrap().path;
    let before = below(desk.folder.path());
    let line = |more: &str| {
        format!(
            "restore {} {} --initial-cluster default=http://127.0.0.1:1 --token t --etcd 3.6 \
             --unsigned --record {}{more}",
            path.display(),
            desk.at("data").display(),
            desk.at("record.json").display(),
        )
    };
    for (more, part) in [
        (String::new(), "data/member.kube-migrate.part/snap/db"),
        (
            format!(" --wal-dir {}", desk.at("log").display()),
            "log/wal.kube-migrate.part",
        ),
    ] {
        let mut child = alone(&line(&more))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while !desk.at(part).exists() {
            assert_eq!(child.try_wait().unwrap(), None, "it has ended: {part}");
            std::thread::yield_now();
        }
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let mut said = String::new();
        let mut stderr = child.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        assert!(!child.wait().unwrap().success(), "{said}");
        assert!(said.contains("was cancelled"), "{said}");
        assert_eq!(below(desk.folder.path()), before, "{said}");
    }
    // The control: it is the interrupt that was in the way.
    super::run(&line("")).await.unwrap();
    assert!(desk.at("data/member/snap/db").exists() && desk.at("record.json").exists());
}

#[test]
#[ignore = "the process of its own"]
fn a_process_of_its_own() {
    let Ok(line) = std::env::var(LINE) else {
        return;
    };
    let words = ["etcd_backup"].into_iter().chain(line.split(' '));
    crate::program(Cli::try_parse_from(words).unwrap()).unwrap();
}
