//! What a piece of work costs: processor time, and memory.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long `work` kept this thread busy.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = busy_time();
    let result = work();
    (result, busy_time().saturating_sub(before))
}

/// The least of as many runs as `patience` holds, three at least and a thousand at
/// most: whatever runs beside makes a run longer and never shorter. What a run
/// leaves behind is dropped in between, and not measured.
pub(crate) fn least<T>(patience: Duration, mut work: impl FnMut() -> T) -> Duration {
    let (mut total, mut runs) = (Duration::ZERO, 0);
    let mut best = Duration::MAX;
    while runs < 3 || (total < patience && runs < 1000) {
        let (result, took) = timed(&mut work);
        drop(result);
        best = best.min(took);
        total += took;
        runs += 1;
    }
    best
}

/// How much more memory than before was resident at the worst moment of `work`,
/// in bytes, and what it gave; `None` where the system does not tell.
///
/// What had been freed before and was still resident counts as before: call it
/// when little has been.
pub(crate) fn peak<T>(work: impl FnOnce() -> T) -> (T, Option<u64>) {
    // Sets the high-water mark to what is resident now.
    let is_reset = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = resident("VmRSS:");
    let result = work();
    let after = resident("VmHWM:").filter(|_| is_reset);
    let more = before.zip(after);
    (
        result,
        more.map(|(before, after)| after.saturating_sub(before)),
    )
}

/// A line of `/proc/self/status`, in bytes.
pub(crate) fn resident(line: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let found = status.lines().find_map(|text| text.strip_prefix(line))?;
    let kilobytes: u64 = found.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// The slope of a line through the logarithms of these points: `time` grows as
/// `size` to the power of it.
pub(crate) fn exponent(points: &[(usize, Duration)]) -> f64 {
    let logs = points
        .iter()
        .map(|(size, time)| ((*size as f64).ln(), time.as_secs_f64().ln()));
    let count = points.len() as f64;
    let (x, y) = logs
        .clone()
        .fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
    let (x, y) = (x / count, y / count);
    let (over, under) = logs.fold((0.0, 0.0), |(over, under), (at, time)| {
        (over + (at - x) * (time - y), under + (at - x) * (at - x))
    });
    over / under
}

/// What this thread was on a processor.
fn busy_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}
