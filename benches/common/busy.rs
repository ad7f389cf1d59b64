//! Processor time of one thread, which a busy machine tells the same.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The least of as many runs as `patience` holds, three at least and a thousand at
/// most: whatever runs beside makes a run longer and never shorter. What a run
/// leaves behind is dropped in between, and not measured.
pub(crate) fn least<T>(patience: Duration, mut work: impl FnMut() -> T) -> Duration {
    let (mut total, mut runs) = (Duration::ZERO, 0);
    let mut best = Duration::MAX;
    while runs < 3 || (total < patience && runs < 1000) {
        let before = busy_time();
        let result = work();
        let took = busy_time().saturating_sub(before);
        drop(result);
        best = best.min(took);
        total += took;
        runs += 1;
    }
    best
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// What this thread was on a processor.
fn busy_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}
