//! The run's clock over tokio's time.

use migrate_core::{Clock, Moment};
use tokio::time::Instant;

/// A clock that starts at a given moment and goes on with tokio's time.
///
/// # Guarantees
/// It never goes back, whatever happens to the machine's wall clock, and over a
/// paused runtime it is virtual.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    start: Moment,
    started: Instant,
}

impl TokioClock {
    /// Starts at `moment` now.
    pub fn starting_at(moment: Moment) -> Self {
        Self {
            start: moment,
            started: Instant::now(),
        }
    }

    /// Starts at the machine's wall clock, which is read this once.
    pub fn system() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place where a run learns what time it is"
        )]
        let now = jiff::Timestamp::now();
        Self::starting_at(now.into())
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Moment {
        self.start + self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn follows_virtual_time() {
        let start = Moment::from_millis(1_795_000_000_000);
        let clock = TokioClock::starting_at(start);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now().since(start), Duration::from_secs(90));
        assert!(TokioClock::system().now() > start);
    }
}
