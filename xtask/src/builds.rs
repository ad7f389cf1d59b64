//! Builds that a build of the workspace does not stand for: every feature, each
//! crate alone, another toolchain, the types of another Kubernetes version.

use std::path::Path;
use std::process::Command;

use crate::process::{cargo, output, run};
use crate::testbed::in_ci;

/// What k8s-openapi has types for: the libraries must build whichever of them
/// a binary chooses.
const KUBERNETES_VERSIONS: [&str; 5] = ["1.33", "1.34", "1.35", "1.36", "1.37"];
/// The oldest Rust that the workspace promises to build with.
const OLDEST_RUST: &str = env!("CARGO_PKG_RUST_VERSION");

/// Checks all of them.
pub(crate) fn check() -> Result<(), String> {
    oldest_rust()?;
    checked(&["-p", "kube-migrate", "--all-features"])?;
    checked(&["-p", "migrate-etcd", "--no-default-features"])?;
    // Beside each other, crates have each other's features of what they share.
    for name in crates()? {
        checked(&["-p", &name])?;
    }
    for version in KUBERNETES_VERSIONS {
        println!("libraries against the types of Kubernetes {version}");
        let mut check = cargo();
        check
            .args(["check", "--quiet", "--workspace", "--lib"])
            .env("K8S_OPENAPI_ENABLED_VERSION", version);
        run(&mut check)?;
    }
    Ok(())
}

fn oldest_rust() -> Result<(), String> {
    // A machine without rustup has no second toolchain either: in CI that is a
    // failure, as everything is that cannot run.
    let installed = output(Command::new("rustup").args(["toolchain", "list"])).unwrap_or_default();
    let Some(toolchain) = toolchain(&installed, OLDEST_RUST) else {
        let missing = format!("toolchain {OLDEST_RUST} is not installed");
        if in_ci() {
            return Err(format!(
                "{missing}; rustup toolchain install {OLDEST_RUST} --profile minimal"
            ));
        }
        println!("skipped: {missing}");
        return Ok(());
    };
    println!("cargo +{OLDEST_RUST} check --workspace");
    // `cargo +…` would need rustup's own cargo to be the first in the PATH.
    let mut check = Command::new("rustup");
    check.args(["run", toolchain, "cargo", "check", "--quiet", "--workspace"]);
    run(&mut check)
}

/// The toolchain of `version` among those that rustup lists.
fn toolchain<'a>(listed: &'a str, version: &str) -> Option<&'a str> {
    let names = listed.lines().filter_map(|line| line.split(' ').next());
    let is_it = |name: &&str| {
        let rest = name.strip_prefix(version);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
    };
    names.into_iter().find(is_it)
}

/// The names of the crates, by their folders.
fn crates() -> Result<Vec<String>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let failed = |error| format!("{}: {error}", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn checked(what: &[&str]) -> Result<(), String> {
    println!("cargo check {}", what.join(" "));
    run(cargo().args(["check", "--quiet"]).args(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolchain_is_told_from_one_of_a_like_name() {
        let listed = "stable-x86_64-unknown-linux-gnu (active, default)\n\
                      1.89.0-x86_64-unknown-linux-gnu\n1.95.0-x86_64-unknown-linux-gnu\n";
        let found = toolchain(listed, "1.89");
        assert_eq!(found, Some("1.89.0-x86_64-unknown-linux-gnu"));
        let short = toolchain("1.89-x86_64-unknown-linux-gnu (default)\n", "1.89");
        assert_eq!(short, Some("1.89-x86_64-unknown-linux-gnu"));
        for listed in [
            "1.8-x86_64-unknown-linux-gnu",
            "1.890.0",
            "",
            "no installed toolchains",
        ] {
            assert_eq!(toolchain(listed, "1.89"), None, "{listed}");
        }
    }
}
