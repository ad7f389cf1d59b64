//! When a version needs no upgrade.

use migrate_core::KubeVersion;
use migrate_core::skew::{PathError, upgrade_path};

/// Whether a component of `version` has nothing to do on the way to `target`:
/// it is there, or ahead of it.
pub(crate) fn is_at_target(version: &KubeVersion, target: &KubeVersion) -> bool {
    match upgrade_path(version, None, target) {
        Ok(path) => path.is_empty(),
        Err(PathError::Downgrade { .. }) => true,
        Err(_) => false,
    }
}
