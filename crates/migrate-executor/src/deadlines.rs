//! How long what is under way may last.

use std::time::Duration;

use migrate_core::{Phase, Policy, Target};

/// After so long an attempt at `phase` of `target` is given up; `None` for a backup,
/// which ends by itself. A drain first waits for its turn, as long again at most; a
/// verification that gets on may last longer.
pub(crate) fn of(policy: &Policy, target: &Target, phase: Phase) -> Option<Duration> {
    let deadlines = &policy.deadlines;
    Some(match (target, phase) {
        (_, Phase::BackUp) => return None,
        (Target::Addon { name }, _) => {
            let mut addons = policy.addons.iter();
            let addon = addons.find(|addon| addon.name == *name);
            addon.map_or(deadlines.upgrade, |addon| addon.timeout)
        }
        (_, Phase::Drain) => deadlines.drain,
        (_, Phase::Upgrade) => deadlines.upgrade,
        _ => deadlines.verify,
    })
}

/// For how long the journal of a run under `policy` is silent at most while somebody runs it
/// and no window keeps it waiting: each action ends, or is given up and tried again, after so
/// long without a word of it.
#[must_use]
pub fn longest_silence(policy: &Policy) -> Duration {
    let deadlines = &policy.deadlines;
    let longest = deadlines.drain.max(deadlines.upgrade);
    longest
        .max(deadlines.verify)
        .max(policy.rollout.canary_soak)
}
