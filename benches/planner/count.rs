//! Instructions instead of time: the same on every run of one program, so that a
//! small change shows on a busy machine too.
//!
//! The bench starts itself once more under valgrind, where that is installed, and
//! counts what one plan takes.

use std::process::Command;

use migrate_core::Plan;
use migrate_plan::Planner;

/// Names the size in the environment of the program that is counted.
const ONCE: &str = "PLANNER_BENCH_ONCE";

/// The size of the cluster that this program is to make one plan for.
pub(crate) fn is_counted() -> Option<usize> {
    std::env::var(ONCE).ok()?.parse().ok()
}

/// What is counted. Found by its name.
#[inline(never)]
pub(crate) fn plan_once(planner: &Planner<'_>) -> Plan {
    planner.plan().unwrap()
}

/// Instructions of one plan for `nodes` nodes; `Err` says why they were not counted.
pub(crate) fn instructions(nodes: usize) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let counted = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*plan_once*")
        .arg(program)
        .arg("--bench")
        .env(ONCE, nodes.to_string())
        .output()
        .map_err(|error| format!("valgrind does not start: {error}"))?;
    let said = String::from_utf8_lossy(&counted.stderr);
    // Criterion starts programs of its own, in which nothing is counted.
    let collected = said
        .lines()
        .filter_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
        .find(|count: &u64| *count > 0);
    collected.ok_or_else(|| format!("valgrind has counted nothing: {said}"))
}
