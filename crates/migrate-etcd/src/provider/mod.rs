//! Step 2 of a run: a backup that is proven, tried, a set, encrypted, signed and
//! stored, or one that is there already and is all of that.

#[cfg(feature = "client")]
mod proven;
#[cfg(feature = "store")]
mod stored;

#[cfg(feature = "client")]
pub use proven::ProvenBackup;
#[cfg(feature = "store")]
pub use stored::StoredBackup;

use migrate_core::{Finding, ObjectName, Severity};

/// Code of the finding that a backup is not encrypted.
pub const BACKUP_PLAIN: &str = "KM-BACKUP-003";
/// Code of the finding that a backup cannot be used without further keys.
pub const BACKUP_NEEDS_KEY: &str = "KM-BACKUP-004";
/// Code of the finding that a set lacks files.
pub const BACKUP_LACKS_FILE: &str = "KM-BACKUP-005";
/// Code of the finding that a member was not compared with a backup.
pub const BACKUP_NOT_COMPARED: &str = "KM-BACKUP-006";
/// Code of the finding that tells which members a backup is equal to.
pub const BACKUP_COMPARED: &str = "KM-BACKUP-009";

fn finding(
    code: &str,
    severity: Severity,
    file: &str,
    evidence: impl Into<String>,
    cure: &str,
) -> Finding {
    let object = ObjectName::cluster("File", file);
    Finding::new(code, severity, object, evidence, cure)
}

/// That `key` is needed to use the backup `file`.
fn needs_key(file: &str, key: &str) -> Finding {
    finding(
        BACKUP_NEEDS_KEY,
        Severity::Warning,
        file,
        format!("it holds objects that are encrypted with {key}"),
        "see that a copy of that key, or the KMS, is where the cluster is not",
    )
}
