//! What step 2 hands back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ClusterId, Finding, KubeVersion, Moment};

/// Code of the finding that a backup is not proven.
pub const BACKUP_UNPROVEN: &str = "KM-BACKUP-001";
/// Code of the finding that the backup after the control plane has failed.
pub const BACKUP_AGAIN_FAILED: &str = "KM-BACKUP-002";

/// Code of the finding that a backup is older than policy allows.
pub const BACKUP_OLD: &str = "KM-BACKUP-007";
/// Code of the finding that a backup is of another cluster.
pub const BACKUP_FOREIGN: &str = "KM-BACKUP-008";
/// Code of the finding that a backup is of another version of Kubernetes.
pub const BACKUP_OTHER_VERSION: &str = "KM-BACKUP-013";

/// How far a backup has been proven.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum BackupProof {
    /// There is none: somebody else is said to have one.
    None,
    /// Complete and its own checksum holds; nobody has compared or restored it.
    Unproven,
    /// Its hash equals the live members'.
    Proven,
    /// Proven, restored and booted.
    Restored,
}

/// A file of a backup.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct BackupArtifact {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes in hex.
    pub sha256: String,
}

impl BackupArtifact {
    /// A file of `bytes` bytes at `path`.
    pub fn new(path: impl Into<PathBuf>, bytes: u64, sha256: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            bytes,
            sha256: sha256.into(),
        }
    }
}

/// What a backup provider has to say.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
#[must_use = "an unread report is not actionable"]
pub struct BackupReport {
    /// Level of proof reached.
    pub proof: BackupProof,
    /// What was written.
    pub artifacts: Vec<BackupArtifact>,
    /// Findings; a backup that is not proven carries a blocker to be waived.
    pub findings: Vec<Finding>,
    /// When it was taken; what a provider does not say counts as taken for this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Moment>,
    /// The cluster it is of, if the provider knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterId>,
    /// The version of the oldest API server when it was taken, if the provider knows: one
    /// of another version need not know all that is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubeVersion>,
}

impl BackupReport {
    /// A report without findings.
    pub fn new(proof: BackupProof, artifacts: Vec<BackupArtifact>) -> Self {
        Self {
            proof,
            artifacts,
            findings: Vec::new(),
            taken: None,
            cluster: None,
            kubernetes: None,
        }
    }

    /// Says when it was taken, and of which cluster.
    pub fn of(mut self, cluster: ClusterId, taken: Moment) -> Self {
        self.cluster = Some(cluster);
        self.taken = Some(taken);
        self
    }

    /// Says of which version of Kubernetes it is, if that is known.
    pub fn with_kubernetes(mut self, version: Option<KubeVersion>) -> Self {
        self.kubernetes = version;
        self
    }

    /// Adds a finding.
    pub fn with_finding(mut self, finding: Finding) -> Self {
        self.findings.push(finding);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_says_no_version_is_read_as_before() {
        let old = r#"{"proof":"proven","artifacts":[],"findings":[],"cluster":"c"}"#;
        let read: BackupReport = serde_json::from_str(old).unwrap();
        assert_eq!(read.kubernetes, None);
        assert_eq!(serde_json::to_string(&read).unwrap(), old);
        let version = KubeVersion::new(1, 36, 2);
        let new = read.with_kubernetes(Some(version));
        let text = serde_json::to_string(&new).unwrap();
        assert!(text.contains(r#""kubernetes":"v1.36.2""#), "{text}");
        assert_eq!(serde_json::from_str::<BackupReport>(&text).unwrap(), new);
    }
}
