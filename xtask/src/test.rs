//! Running the tests.

use std::thread;

use crate::process::{cargo, run};
use crate::{builds, testbed};

/// Sets up the real control plane while the tests compile, then runs them all.
pub(crate) fn test() -> Result<(), String> {
    let binaries = thread::spawn(testbed::build_or_skip);
    let mut compile = cargo();
    compile.args(["test", "--workspace", "--no-run"]);
    let compiled = run(&mut compile);
    let built = binaries
        .join()
        .unwrap_or_else(|_| Err("building the real control plane panicked".to_owned()));
    compiled.and(built)?;
    let mut test = cargo();
    test.args(["test", "--workspace", "--no-fail-fast"]);
    run(&mut test)
}

/// What is too slow for every change: the further builds, the ignored tests, with the programs of every release the testbed knows, and
/// the benches at their full size.
pub(crate) fn extended() -> Result<(), String> {
    builds::check()?;
    testbed::build_all(true)?;
    let mut test = cargo();
    test.args([
        "test",
        "--workspace",
        "--release",
        "--",
        "--ignored",
        "--nocapture",
    ]);
    run(&mut test)?;
    let mut bench = cargo();
    bench
        .args(["bench", "--workspace"])
        .env("PLANNER_BENCH_NODES", "40000");
    run(&mut bench)
}
