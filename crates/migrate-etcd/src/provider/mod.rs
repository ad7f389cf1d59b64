//! Step 2 of a run: a backup that is proven, tried, a set, encrypted, signed and
//! stored, or one that is there already and is all of that.

mod findings;
#[cfg(feature = "client")]
mod plain;
#[cfg(feature = "client")]
mod proven;
#[cfg(feature = "client")]
mod source;
#[cfg(feature = "store")]
mod stored;

pub use findings::{
    BACKUP_COMPARED, BACKUP_FORCED, BACKUP_FULL, BACKUP_KEY_IN_DOUBT, BACKUP_LACKS_FILE,
    BACKUP_NEEDS_KEY, BACKUP_NOT_COMPARED, BACKUP_PLAIN, BACKUP_UNSIGNED,
};
#[cfg(feature = "client")]
pub use proven::ProvenBackup;
#[cfg(feature = "store")]
pub use stored::StoredBackup;
