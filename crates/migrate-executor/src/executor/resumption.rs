//! What a runner still owes to the one before it, until it is told to leave off.

/// What is left of taking a run up.
///
/// An owed lift waits for the end of a pause; a restart does not, but the
/// rollout must have been told to go on before the pause is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Resumption {
    /// Nothing is left: the rollout decides.
    Settled,
    /// Somebody holds the run: the nodes whose drain was given up are given
    /// back when it is let go.
    LiftWhenLetGo,
    /// The run had stopped, and its rollout is still to be told to go on.
    Restart,
    /// Both, the restart first.
    RestartThenLift,
    /// This runner was told to end the run. What is owed is left to the next.
    Cancelled,
}

impl Resumption {
    /// A run that `had_stopped` or not, taken up while it `is_held` or not.
    pub(super) fn new(had_stopped: bool, is_held: bool) -> Self {
        match (had_stopped, is_held) {
            (false, false) => Self::Settled,
            (false, true) => Self::LiftWhenLetGo,
            (true, false) => Self::Restart,
            (true, true) => Self::RestartThenLift,
        }
    }

    pub(super) fn owes_restart(self) -> bool {
        matches!(self, Self::Restart | Self::RestartThenLift)
    }

    pub(super) fn owes_lift(self) -> bool {
        matches!(self, Self::LiftWhenLetGo | Self::RestartThenLift)
    }

    /// The run is ended for good, `is_held` or not: nothing goes on but what was
    /// begun.
    pub(super) fn aborted(&mut self, is_held: bool) {
        *self = match is_held {
            true => Self::LiftWhenLetGo,
            false => Self::Settled,
        };
    }

    /// The rollout is being told to go on.
    pub(super) fn restarted(&mut self) {
        *self = match *self {
            Self::Restart => Self::Settled,
            Self::RestartThenLift => Self::LiftWhenLetGo,
            other => other,
        };
    }

    /// Nobody holds the run. Tells whether the lift is owed, once.
    pub(super) fn let_go(&mut self) -> bool {
        let owed = self.owes_lift();
        *self = match *self {
            Self::LiftWhenLetGo => Self::Settled,
            Self::RestartThenLift => Self::Restart,
            other => other,
        };
        owed
    }
}
