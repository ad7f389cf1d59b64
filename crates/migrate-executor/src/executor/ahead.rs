//! The clock of a run that is gone on with by a clock that is behind it.

use std::sync::Arc;
use std::time::Duration;

use migrate_core::{Clock, Moment};

/// `clock`, or where it is behind `last`, the last entry of the journal, one that goes on from
/// there. A time that stood still until the clock has come so far would end no wait, and renew
/// no Lease, so that others would take this runner for gone.
pub(super) fn not_before(last: Moment, clock: Arc<dyn Clock>) -> Arc<dyn Clock> {
    match last.since(clock.now()) {
        Duration::ZERO => clock,
        behind => Arc::new(move || clock.now() + behind),
    }
}
