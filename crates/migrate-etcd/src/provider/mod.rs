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

/// Code of the finding that a backup was taken although there was no quorum.
pub const BACKUP_FORCED: &str = "KM-BACKUP-010";

/// Code of the finding that nobody has signed a backup.
pub const BACKUP_UNSIGNED: &str = "KM-BACKUP-011";

/// That the backup `file` was forced.
#[cfg(feature = "client")]
pub(crate) fn forced(file: &str) -> Finding {
    finding(
        BACKUP_FORCED,
        Severity::Blocker,
        file,
        "it was FORCED: taken of a member of etcd that need not have known a leader, so that it \
         may be old and lack changes that the cluster had agreed on; it proves nothing",
        "take another one when there is quorum; or waive KM-BACKUP-010 and KM-BACKUP-001 where \
         this is all that there is",
    )
}

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
