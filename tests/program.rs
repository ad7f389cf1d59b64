//! The README's first command, as a person runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::PathBuf;
use std::process::{Command, Output};

/// The example that cargo has built beside this test.
fn program() -> Command {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().unwrap().parent().unwrap();
    let program: PathBuf = folder.join("examples/upgrade");
    assert!(
        program.is_file(),
        "run `cargo build --example upgrade` first"
    );
    let mut command = Command::new(program);
    command.env_remove("KUBECONFIG");
    command
}

fn demo(folder: &std::path::Path) -> Output {
    let mut command = program();
    command.args(["--seed", "3", "--backup-dir"]).arg(folder);
    command.output().unwrap()
}

#[test]
fn the_demo_arrives_without_a_broken_rule_and_the_same_seed_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let first = demo(folder.path());
    let said = String::from_utf8_lossy(&first.stdout).into_owned();
    assert!(first.status.success(), "{said}");
    assert!(said.contains("outcome    done"), "{said}");
    assert!(
        said.lines()
            .any(|line| line.starts_with("broken rules") && line.ends_with(": 0"))
    );
    let second = demo(folder.path());
    assert!(first.stdout == second.stdout && first.stderr == second.stderr);
}

#[test]
fn flags_for_a_real_cluster_do_not_start_the_demo() {
    let output = program().args(["--cluster-id", "x"]).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--kubeconfig"), "{said}");
}
