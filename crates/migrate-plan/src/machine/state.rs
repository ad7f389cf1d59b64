//! States: of a target, and of the rollout as a whole.

use migrate_core::Phase;

/// Where a target stands. Targets are numbered: members first, then slots.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// Behind the control plane, or behind the canary of its pool.
    Gated,
    /// In the queue of its pool.
    Queued,
    /// Waits for one budget.
    Parked { lane: u32 },
    /// Waits for its own node to be Ready, or for somebody to agree that its pods are moved.
    NotReady,
    /// Hosts the runner, and waits for all others of its group.
    HostsRunner,
    /// Fits into no window of the coming year.
    TooLong,
    /// The next phase may begin at once.
    Due(Phase),
    /// Begun.
    Running(Phase),
    /// Failed, and is tried again later.
    Backoff(Phase),
    /// A verified canary, left alone until it is verified once more.
    Soaking,
    /// Failed for good, which stopped the rollout, unless it was ending anyhow.
    Failed(Phase),
    /// Passed every phase, or found at the target.
    Done,
    /// Given up.
    Skipped,
    /// Its node was gone before anything was done to it.
    Gone,
}

/// What the rollout as a whole is doing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Idle,
    Running,
    Stopped(Halt),
    Finished,
}

/// Why it stopped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Halt {
    Aborted,
    Cancelled,
    Failed {
        target: u32,
        phase: Phase,
        cause: Cause,
        reason: String,
    },
    /// Nothing moved for as long as policy waits.
    Stalled,
}

/// Why the failure of one target stopped the rollout.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cause {
    Policy,
    Canary,
    /// As many as this had failed before.
    TooMany {
        allowed: u32,
    },
}

/// What to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Emit {
    Begin { target: u32, phase: Phase },
    Stop(Halt),
    Finished,
}

impl State {
    /// Not begun, and nothing but a resource keeps it.
    pub(super) fn is_candidate(self) -> bool {
        matches!(self, Self::Queued | Self::Parked { .. })
    }

    /// Nothing has been done to it yet.
    pub(crate) fn is_untouched(self) -> bool {
        self.is_candidate()
            || matches!(
                self,
                Self::Gated | Self::NotReady | Self::HostsRunner | Self::TooLong
            )
    }

    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Skipped | Self::Gone)
    }

    pub(super) fn is_busy(self) -> bool {
        matches!(
            self,
            Self::Due(_) | Self::Running(_) | Self::Backoff(_) | Self::Soaking
        )
    }
}

/// The phase after `phase`.
pub(crate) fn next_phase(phase: Phase) -> Option<Phase> {
    match phase {
        Phase::Provision => Some(Phase::Drain),
        Phase::Drain => Some(Phase::Upgrade),
        Phase::Upgrade => Some(Phase::Verify),
        _ => None,
    }
}
