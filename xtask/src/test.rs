//! Running the tests.

use std::thread;

use crate::process::{cargo, run};
use crate::{builds, fuzz, s3, testbed};

/// Seconds that each fuzz target runs: that it builds, and has no fault that any input finds.
const FUZZ: u64 = 20;

/// The upgrade of a kubeadm cluster under requests. Alone, after all others: what runs
/// beside it is what it measures.
const LANE: &str = "lane::a_kubeadm_cluster_is_upgraded_and_nobody_notices";

/// Releases of etcd beside the usual one, which tests that are of none in particular run with
/// in the extended run, and those tests.
const ETCD: [&str; 3] = ["3.4.23", "3.5.35", "3.7.0"];
const ETCD_TESTS: [&str; 5] = ["proof", "find", "provider", "faults", "tls"];

/// Sets up the real control plane while the tests compile, then runs them all.
pub(crate) fn test() -> Result<(), String> {
    let binaries = thread::spawn(|| testbed::build_or_skip(false));
    let mut compile = cargo();
    compile.args(["test", "--workspace", "--no-run"]);
    let compiled = run(&mut compile);
    let built = binaries
        .join()
        .unwrap_or_else(|_| Err("building the real control plane panicked".to_owned()));
    compiled.and(built)?;
    let mut rest = cargo();
    rest.args(["test", "--workspace", "--no-fail-fast", "--"]);
    let rest = run(rest.args(["--skip", LANE]));
    // Cargo builds the programs with the tests, and runs theirs only where it is asked to.
    let mut programs = cargo();
    programs.args(["test", "--workspace", "--no-fail-fast", "--examples"]);
    let programs = run(&mut programs);
    println!("\nthe kubeadm cluster that is upgraded:");
    let mut lane = cargo();
    lane.args(["test", "--workspace", "--test", "kubeadm", LANE]);
    let lane = run(lane.args(["--", "--nocapture"]));
    rest.and(programs).and(lane)
}

/// What is too slow for every change: the further builds, the ignored tests, with the programs
/// of every release the testbed knows, those of backups with each release of etcd, those that
/// want a server that speaks S3, each fuzz target for a moment, and the benches at their full
/// size, that of backups with a large database too. A test that fails keeps nothing else from running.
pub(crate) fn extended() -> Result<(), String> {
    builds::check()?;
    testbed::build_or_skip(true)?;
    let mut test = cargo();
    test.args([
        "test",
        "--workspace",
        "--release",
        "--no-fail-fast",
        "--",
        "--ignored",
        "--nocapture",
        // Trials measure: what runs beside them is what they measure.
        "--test-threads=1",
    ]);
    let tested = run(&mut test);
    let others = ETCD.into_iter().map(with_etcd).fold(Ok(()), Result::and);
    let stored = s3::test();
    let fuzzed = fuzz::fuzz(None, FUZZ);
    let mut bench = cargo();
    bench.args(["bench", "--workspace"]);
    let measured = run(&mut bench);
    let large = large_backup();
    let all = tested.and(others).and(stored).and(fuzzed);
    all.and(measured).and(large)
}

/// The bench of backups, which fails where memory is beyond its bound, with a database that
/// does not stay in memory; the disk has to hold three times that.
fn large_backup() -> Result<(), String> {
    println!("\na backup of 8 GB:");
    let mut bench = cargo();
    bench.args(["bench", "-p", "migrate-etcd", "--features", "tls"]);
    bench.args(["--bench", "etcd_vs_etcdctl"]);
    run(bench
        .env("ETCD_BENCH_MB", "8000")
        .env("ETCD_BENCH_RUNS", "1"))
}

/// The tests of backups with a release of etcd.
fn with_etcd(version: &str) -> Result<(), String> {
    println!("\nbackups of etcd {version}:");
    let mut test = cargo();
    test.args(["test", "-p", "migrate-etcd", "--all-features", "--release"]);
    test.arg("--no-fail-fast");
    for name in ETCD_TESTS {
        test.args(["--test", name]);
    }
    run(test.env("KUBE_MIGRATE_TEST_ETCD", version))
}
