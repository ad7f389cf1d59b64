//! Holding the run: its Lease is renewed, and who was superseded leaves off.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use migrate_core::{ActionId, Clock, Moment, StepError};
use migrate_kube::Holder;
use migrate_plan::{ActionResult, Input};

use super::Executor;
use super::open::mark_of;
use crate::Record;
use crate::access::AnchorState;
use crate::report::StopCause;

/// The Lease, as far as this runner knows.
pub(super) struct Holding {
    /// How long others wait without a renewal.
    lasts: Duration,
    /// A holder that this runner may displace.
    pub(super) lapsed: Option<Holder>,
    /// When to renew; `None` before this runner holds the run.
    renew_at: Option<Moment>,
    /// A claim or renewal is under way, since then.
    asked_at: Option<Moment>,
    /// From then on others may take this runner for gone.
    lapses_at: Moment,
    /// Failures that may only say that this runner was superseded, and whether
    /// the renewal under way was asked for after them.
    doubtful: Vec<(ActionId, ActionResult, bool)>,
    /// Why it could not be renewed in time.
    pub(super) trouble: Option<String>,
}

impl Holding {
    pub(super) fn new(lasts: Duration, lapsed: Option<Holder>) -> Self {
        Self {
            lasts,
            lapsed,
            renew_at: None,
            asked_at: None,
            lapses_at: Moment::EPOCH,
            doubtful: Vec::new(),
            trouble: None,
        }
    }

    /// The run is held, by a renewal that was asked for at that moment: the
    /// answer may have lain unread for long in a process that was stopped.
    pub(super) fn renewed(&mut self, asked_at: Moment) {
        self.lapses_at = asked_at + self.lasts;
        self.renew_at = Some(asked_at + self.lasts / 3);
        self.trouble = None;
    }

    /// The run is being asked for.
    pub(super) fn asks(&mut self, now: Moment) {
        self.asked_at = Some(now);
    }

    /// When what has been answered was asked for.
    fn answered(&mut self, now: Moment) -> Moment {
        self.asked_at.take().unwrap_or(now)
    }

    /// The run is held since it was asked for.
    pub(super) fn claimed(&mut self, now: Moment) {
        let asked_at = self.answered(now);
        self.renewed(asked_at);
    }

    /// Renews at once, if this runner holds the run.
    pub(super) fn ask_now(&mut self, now: Moment) {
        self.renew_at = self.renew_at.map(|at| at.min(now));
    }

    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.renew_at.filter(|_| self.asked_at.is_none())
    }

    /// When drains are to rest and nothing is to begin, since others may take
    /// this runner for gone.
    pub(super) fn rests_at(&self) -> Option<Moment> {
        self.renew_at.map(|_| self.lapses_at)
    }
}

impl Executor {
    /// Renews the Lease if it is time to, or if a failure is to be believed.
    pub(super) fn act_on_holding(&mut self, now: Moment) {
        let holding = &mut self.holding;
        let is_due = holding.renew_at.is_some_and(|at| at <= now) || !holding.doubtful.is_empty();
        let is_asking = holding.asked_at.is_some();
        if holding.renew_at.is_none() || !is_due || is_asking || self.state.end.is_some() {
            return;
        }
        holding.asks(now);
        for (_, _, covered) in &mut holding.doubtful {
            *covered = true;
        }
        let mark = mark_of(&self.state, &self.place);
        self.jobs.push(self.shop.renew(mark));
    }

    /// Takes the answer to a renewal.
    pub(super) fn lease_renewed(&mut self, result: Result<AnchorState, StepError>, now: Moment) {
        let asked_at = self.holding.answered(now);
        self.hear(&result, asked_at, now);
        match result {
            Ok(anchor) => {
                if let Some(cause) = self.not_ours(anchor) {
                    self.barred = Some(cause);
                    return;
                }
                self.holding.renewed(asked_at);
            }
            Err(error) => {
                self.holding.renew_at = Some(now + self.pace.retry);
                if self.holding.lapses_at <= now {
                    // What an outage says differs from call to call, and is its own reason.
                    self.holding.trouble = Some(match self.outage.is_open() {
                        true => "drains rest until the Lease is renewed".to_owned(),
                        false => format!("drains rest: {error}"),
                    });
                }
            }
        }
        // Where the API is away nobody can have superseded this runner since it
        // was last seen, or nobody can tell: the failure stands.
        let doubtful = std::mem::take(&mut self.holding.doubtful);
        for (id, result, covered) in doubtful {
            match covered {
                true => self.inbox.push_back(Record::Input {
                    input: Input::ActionEnded { id, result },
                }),
                false => self.holding.doubtful.push((id, result, covered)),
            }
        }
    }

    /// Keeps a failure until the anchor has been looked at: it is none if this
    /// runner was superseded.
    pub(super) fn doubt(&mut self, id: ActionId, result: ActionResult) {
        self.holding.doubtful.push((id, result, false));
    }

    /// Why this runner may not go on, if `anchor` is not held by it.
    pub(super) fn not_ours(&self, anchor: AnchorState) -> Option<StopCause> {
        let (taken, found) = (self.state.epoch, anchor.epoch);
        if found < taken {
            return Some(StopCause::ApiOlder { taken, found });
        }
        let is_ours = anchor.run.as_ref() == Some(&self.state.run)
            && anchor.journal.as_ref() == Some(&self.place);
        // One that has ended since leaves its epoch, and no name.
        if found > taken && (is_ours || anchor.run.is_none()) {
            return Some(StopCause::Superseded { taken, found });
        }
        (!is_ours).then_some(StopCause::AnchorLost {
            run: anchor.run,
            journal: anchor.journal,
        })
    }
}

/// `next`, which is not polled at or after the moment `until`. Looked at on each
/// poll, and not only before the first: a process that was stopped for a while
/// goes on in the middle of this.
pub(super) async fn unless_lapsed<T>(
    clock: &dyn Clock,
    until: Option<Moment>,
    next: impl Future<Output = T>,
) -> T {
    let mut next = pin!(next);
    poll_fn(|cx| match until {
        Some(until) if clock.now() >= until => Poll::Pending,
        _ => next.as_mut().poll(cx),
    })
    .await
}
