//! How long a member is waited for.

use std::time::Duration;

/// Bytes a second that have to come on average, unless said otherwise: while a snapshot is
/// under way, the member cannot use room again that its database gives up.
const LEAST_RATE: u64 = 1 << 20;

/// When a snapshot is given up; see [`SnapshotBackup`](crate::SnapshotBackup), where each of
/// them is said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Limits {
    /// Without a byte, or an answer.
    pub(crate) stall: Duration,
    /// Bytes a second, on average.
    pub(crate) least_rate: u64,
    /// For the end of a defragmentation.
    pub(crate) patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(30),
            least_rate: LEAST_RATE,
            patience: Duration::from_secs(300),
        }
    }
}

impl Limits {
    /// How long so many bytes may take.
    pub(crate) fn of(&self, bytes: u64) -> Duration {
        let at_least = Duration::from_secs(bytes / self.least_rate.max(1));
        self.stall.saturating_add(at_least)
    }
}
