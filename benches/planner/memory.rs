//! What a piece of work takes of memory, as Linux tells.

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
