//! What is tried a few times, and then given up.

use migrate_core::{Moment, StepError};

/// How often.
const MOST: u32 = 5;

/// Something that is done once, if it can be.
#[derive(Default)]
pub(super) struct Tries {
    under_way: bool,
    begun: u32,
    retry_at: Option<Moment>,
}

impl Tries {
    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.retry_at
    }

    pub(super) const fn is_under_way(&self) -> bool {
        self.under_way
    }

    pub(super) fn is_due(&self, now: Moment) -> bool {
        !self.under_way && self.retry_at.is_none_or(|at| at <= now)
    }

    pub(super) fn begin(&mut self) {
        self.under_way = true;
        self.begun += 1;
        self.retry_at = None;
    }

    /// That it came to `result`; whether it is tried again `at` that time.
    pub(super) fn ended<T>(&mut self, result: &Result<T, StepError>, at: Moment) -> bool {
        self.under_way = false;
        let may_pass = result.as_ref().is_err_and(StepError::is_retryable);
        let again = may_pass && self.begun < MOST;
        self.retry_at = again.then_some(at);
        again
    }
}
