//! A machine without the programs and without Go.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::process::Command;

use migrate_testbed::{ControlPlane, Release, skip_or_fail};

/// Which release the helper process asks for.
const MINOR: &str = "KUBE_MIGRATE_TEST_MINOR";

#[test]
fn a_test_is_skipped_with_one_line_but_fails_in_ci() {
    for release in [Release::EXTENDED, Release::TESTED].concat() {
        let (success, said) = run_without_programs(&release, None);
        assert!(success, "{said}");
        let lines: Vec<_> = said
            .lines()
            .filter(|line| line.contains("skipped: "))
            .collect();
        assert_eq!(lines.len(), 1, "{said}");
        for part in [release.kubernetes, "install Go 1.26 or newer"] {
            assert!(lines[0].contains(part), "{said}");
        }

        let (success, said) = run_without_programs(&release, Some("true"));
        assert!(!success, "a skipped test in CI is a silent gap: {said}");
        assert!(said.contains("install Go 1.26 or newer"), "{said}");
    }
}

/// Not a test: what the test above runs in another environment.
#[tokio::test]
#[ignore = "the helper process of another test"]
async fn helper_process() {
    // Nobody else's, as when all ignored tests are run.
    let Ok(minor) = std::env::var(MINOR) else {
        return;
    };
    let minor = minor.parse().unwrap();
    skip_or_fail(ControlPlane::builder().minor(minor).start().await);
}

fn run_without_programs(release: &Release, ci: Option<&str>) -> (bool, String) {
    let empty = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "helper_process", "--ignored", "--nocapture"])
        .env("KUBE_MIGRATE_CACHE", empty.path())
        .env("PATH", empty.path())
        .env(MINOR, release.minor.to_string())
        .env_remove("KUBEBUILDER_ASSETS")
        .env_remove("CI");
    if let Some(value) = ci {
        command.env("CI", value);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said)
}
