//! The simulated nodes: what kwok is told to do.

use std::time::Duration;

const STAGES: &str = include_str!("stages.yaml");

/// kwok's configuration: nodes report `version` unless they say otherwise, and
/// pods become ready `ready_after` they run.
pub(crate) fn stages(version: &str, ready_after: Duration) -> String {
    STAGES
        .replace("@VERSION@", &format!("v{version}"))
        .replace("@READY_MS@", &ready_after.as_millis().to_string())
}

/// Command line of kwok.
pub(crate) fn flags(kubeconfig: &std::path::Path, config: &std::path::Path) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--config={}", config.display()),
        "--manage-all-nodes=true".to_owned(),
        // Without it kwok keeps no Lease and its nodes go NotReady.
        "--node-lease-duration-seconds=40".to_owned(),
    ]
}
