//! How fast a transfer comes, by the progress that it tells of.

use std::fmt;

use migrate_core::cost::{Bytes, TransferSample};
use migrate_core::{Clock, Moment};

/// Measures what comes from the first piece to the last: hand [`hear`](Self::hear) to what tells
/// of progress, as `SnapshotBackup::save` does.
///
/// # Guarantees
/// A transfer that is begun anew is measured anew: fewer bytes than before begin another
/// one. What came before the first piece, and the wait for that, are left out: members think
/// before they send. No clock but the one that is handed in.
///
/// ```
/// use migrate_core::Moment;
/// use migrate_etcd::Meter;
///
/// let clock = || Moment::EPOCH;
/// let mut meter = Meter::new(&clock);
/// meter.hear(32_768, 1_048_608);
/// // All of it in one piece, or in no time, tells nothing.
/// assert_eq!(meter.sample(), None);
/// ```
pub struct Meter<'c> {
    clock: &'c dyn Clock,
    /// The first piece and the last: how much had come by then.
    first: Option<(Moment, u64)>,
    last: Option<(Moment, u64)>,
}

impl<'c> Meter<'c> {
    /// Has heard nothing yet.
    pub fn new(clock: &'c dyn Clock) -> Self {
        Self {
            clock,
            first: None,
            last: None,
        }
    }

    /// So many bytes have come, of so many in all.
    pub fn hear(&mut self, done: u64, _of: u64) {
        let now = (self.clock.now(), done);
        let is_anew = self.last.is_none_or(|(_, before)| done < before);
        if is_anew {
            self.first = Some(now);
        }
        self.last = Some(now);
    }

    /// What came after the first piece, and how long that took; `None` where that is
    /// nothing, or took less than a millisecond.
    pub fn sample(&self) -> Option<TransferSample> {
        let ((since, first), (until, last)) = (self.first?, self.last?);
        let bytes = last.checked_sub(first).filter(|bytes| *bytes > 0)?;
        let took = until.since(since);
        (!took.is_zero()).then(|| TransferSample::new(Bytes(bytes), took))
    }
}

impl fmt::Debug for Meter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter")
            .field("first", &self.first)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_meter_measures_from_the_first_piece_and_begins_anew() {
        let now = AtomicU64::new(0);
        let clock = || Moment::from_millis(now.load(Ordering::Relaxed));
        let mut meter = Meter::new(&clock);
        let mut hear = |at: u64, done: u64| {
            now.store(at, Ordering::Relaxed);
            meter.hear(done, 9_000);
            meter.sample()
        };
        let sample = |bytes, millis| {
            Some(TransferSample::new(
                Bytes(bytes),
                Duration::from_millis(millis),
            ))
        };
        // The member thought for five seconds.
        assert_eq!(hear(5_000, 1_000), None);
        // In no time.
        assert_eq!(hear(5_000, 2_000), None);
        assert_eq!(hear(5_400, 5_000), sample(4_000, 400));
        assert_eq!(hear(6_000, 9_000), sample(8_000, 1_000));
        // Nothing more came, but time went by.
        assert_eq!(hear(7_000, 9_000), sample(8_000, 2_000));
        // A defragmentation came between.
        assert_eq!(hear(9_000, 1_000), None);
        assert_eq!(hear(9_100, 1_500), sample(500, 100));
    }
}
