//! What the tests of the executor share: a small cluster in memory, steps that
//! work on it, and journals that fail on purpose.
//!
//! The crash loops are written against [`Subject`], so that they also run over
//! a cluster with a real API: implement it there.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod case;
pub(crate) mod journal;
pub(crate) mod law;
pub(crate) mod steps;
pub(crate) mod subject;
pub(crate) mod world;

use std::time::Duration;

use migrate_core::{Clock, Moment};
use tokio::time::Instant;

/// A clock over the runtime's virtual time.
pub(crate) fn clock() -> impl Clock + 'static {
    let started = Instant::now();
    move || Moment::from_millis(1_795_000_000_000) + started.elapsed()
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
