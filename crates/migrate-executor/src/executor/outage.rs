//! Times in which the API server does not answer: caused by this run, which
//! upgrades it, or not.

use migrate_core::{ActionId, EventKind, Moment, Phase, StepError, Target};

use super::Executor;
use super::warm_up::Away;
use crate::report::StopCause;
use crate::state::Lost;
use crate::{Record, WaitReason};

/// The outage that is going on, if any.
#[derive(Default)]
pub(super) struct OutageWatch {
    open: Option<Open>,
    /// When the last answer came.
    answered_at: Option<Moment>,
    /// A call of before has not been answered, although that one was: the next call
    /// tells whose fault that is.
    is_doubtful: bool,
    /// Since when nothing of the run has been under way.
    idle_since: Option<Moment>,
}

struct Open {
    since: Moment,
    /// The member, or its node, that this run was changing then.
    changing: Option<String>,
    /// What is waited for in it.
    on: String,
    /// What the first call that failed said.
    error: String,
}

impl Open {
    fn lost(&self) -> Record {
        Record::ApiLost {
            since: self.since,
            during: self.changing.clone(),
        }
    }
}

impl OutageWatch {
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// What is waited for.
    pub(super) fn reason(&self) -> Option<WaitReason> {
        let open = self.open.as_ref()?;
        Some(WaitReason::new("run", &open.on))
    }
}

impl Executor {
    /// Takes note of whether the API server answered a call that was asked at a
    /// moment. An answer that refuses is one, too; none in time is not.
    pub(super) fn hear<T>(&mut self, result: &Result<T, StepError>, asked_at: Moment, now: Moment) {
        let silent = match result {
            Err(error) if error.is_retryable() => Some(error),
            _ => None,
        };
        if silent.is_none() {
            self.outage.answered_at = Some(now);
            self.outage.is_doubtful = false;
        }
        match (silent, &self.outage.open) {
            (Some(_), None) if self.outage.answered_at.is_some_and(|at| at > asked_at) => {
                // A connection may have died alone.
                self.outage.is_doubtful = true;
            }
            (Some(error), None) => {
                let doubted = self.outage.answered_at.filter(|_| self.outage.is_doubtful);
                let since = doubted.unwrap_or(asked_at);
                self.lose_the_api(since, self.state.changing(), error.to_string());
                if let Some(open) = &self.outage.open {
                    self.shop.cx.emit(EventKind::Waiting {
                        target: "run".to_owned(),
                        on: open.on.clone(),
                    });
                }
            }
            (None, Some(_)) => self.api_is_back(),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// A watch broke: as soon as that is known another call tells why.
    pub(super) fn doubt_the_api(&mut self, error: &StepError, now: Moment) {
        if error.is_retryable() && !self.outage.is_open() {
            self.holding.ask_now(now);
        }
    }

    /// The API server was away while the run was opened: since `earlier`, if the runner
    /// before knew of that and this one's first call had no answer either. Another call
    /// tells at once that it is back.
    pub(super) fn was_away(&mut self, away: Away, earlier: Option<Lost>) {
        let (since, changing) = match earlier.filter(|_| away.is_from_the_first) {
            Some(lost) => (lost.since, lost.changing),
            None => (away.since, self.state.changing()),
        };
        self.lose_the_api(since, changing, away.error);
        let now = self.now();
        self.holding.ask_now(now);
    }

    fn lose_the_api(&mut self, since: Moment, changing: Option<String>, error: String) {
        let outage = self.state.outage(since, since, changing.clone());
        let open = Open {
            since,
            changing,
            on: match outage.during {
                Some(_) => outage.on(),
                None => format!("{}: {error}", outage.on()),
            },
            error,
        };
        if self.state.end.is_none() {
            self.inbox.push_back(open.lost());
        }
        self.outage.open = Some(open);
    }

    fn api_is_back(&mut self) {
        let open = self.outage.open.take();
        if let Some(open) = open.filter(|_| self.state.end.is_none()) {
            self.inbox.push_back(Record::ApiAway {
                since: open.since,
                during: open.changing,
            });
        }
    }

    /// The upgrade that may begin, or begin again, although neither the kill switch
    /// nor the Lease can be read: that of the only control-plane member, once this
    /// runner has begun it, for what it left half done is why nothing answers, and
    /// only going on with it cures that.
    ///
    /// Not before the API server has been away for as long as the Lease lasts: one
    /// call that fails is no leave to pass by a pause. Of several members the others
    /// would have to answer, and another runner may be at work on them.
    pub(super) fn cure(&self, now: Moment) -> Option<ActionId> {
        let open = self.outage.open.as_ref()?;
        if !self.state.model.has_one_member() || now < open.since + self.pace.lease {
            return None;
        }
        let mut wanted = self.state.open.values().chain(self.state.due.front());
        let cure = wanted.find(|action| {
            action.phase == Phase::Upgrade
                && matches!(action.target, Target::ControlPlane { .. })
                && self.upgrades.has_begun(&action.id)
        })?;
        Some(cure.id.clone())
    }

    /// Leaves the run when nothing has been under way that would end by itself, and
    /// the API server has not answered, for `deadlines.api`: what was under way may be
    /// what took it away, and have brought it back a moment ago.
    pub(super) fn act_on_outage(&mut self, now: Moment) {
        if !self.state.open.is_empty() || self.state.end.is_some() {
            self.outage.idle_since = None;
            return;
        }
        self.outage.idle_since.get_or_insert(now);
        let is_late = self.outage_wake_at().is_some_and(|at| at <= now);
        let Some(open) = &self.outage.open else {
            return;
        };
        if is_late && self.barred.is_none() {
            self.barred = Some(StopCause::ApiAway {
                for_seconds: now.since(open.since).as_secs(),
                message: open.error.clone(),
            });
            // How long it was known to last.
            self.inbox.push_back(open.lost());
        }
    }

    /// When that is due.
    pub(super) fn outage_wake_at(&self) -> Option<Moment> {
        let since = self.outage.open.as_ref()?.since;
        let from = self.outage.idle_since?.max(since);
        Some(from + self.state.policy.deadlines.api)
    }
}
