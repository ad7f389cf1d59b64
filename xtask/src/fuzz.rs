//! Fuzzing with the stable compiler: the coverage that libFuzzer needs, without
//! sanitizers, which code without `unsafe` gains nothing from.

use std::path::Path;
use std::process::Command;

use crate::process::{cargo, output, run};

const FOLDER: &str = "fuzz";
const BUILT: &str = "target/fuzz";
const TARGETS: [&str; 6] = ["pages", "records", "objects", "manifest", "plan", "edited"];
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table \
                        -Cllvm-args=-sanitizer-coverage-trace-compares \
                        --cfg fuzzing";

/// Runs each target, or the one that is named, for so long. What was found and what
/// reached new code stays in `target/fuzz`, for the next time.
pub(crate) fn fuzz(only: Option<&str>, seconds: u64) -> Result<(), String> {
    if let Some(name) = only.filter(|name| !TARGETS.contains(name)) {
        return Err(format!("no target {name}: {}", TARGETS.join(", ")));
    }
    let host = host()?;
    let mut build = cargo();
    build
        .args(["build", "--release", "--manifest-path"])
        .arg(Path::new(FOLDER).join("Cargo.toml"))
        // With a target the flags are not those of build scripts too.
        .args(["--target", &host, "--target-dir", BUILT])
        .env("RUSTFLAGS", COVERAGE);
    run(&mut build)?;
    for name in TARGETS {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let corpus = Path::new(BUILT).join("corpus").join(name);
        let found = Path::new(BUILT).join("found").join(name);
        for folder in [&corpus, &found] {
            std::fs::create_dir_all(folder)
                .map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let program = Path::new(BUILT).join(&host).join("release").join(name);
        let mut fuzzer = Command::new(program);
        fuzzer
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", found.display()))
            .args(["-timeout=60", "-rss_limit_mb=4096", "-print_final_stats=1"])
            .args(["-max_len=65536", "-verbosity=1"])
            .arg(&corpus);
        let seeds = Path::new(FOLDER).join("seeds").join(name);
        if seeds.is_dir() {
            fuzzer.arg(seeds);
        }
        println!("fuzzing {name} for {seconds} s");
        run(&mut fuzzer)?;
    }
    Ok(())
}

/// The platform of the compiler.
fn host() -> Result<String, String> {
    let said = output(Command::new("rustc").arg("-vV"))?;
    let mut lines = said.lines();
    let host = lines.find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| "rustc -vV names no host".to_owned())
}
