//! What an executor is made of.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use migrate_core::{ClusterModel, Migration, Plan, Policy, StepContext};
use migrate_plan::Quantiles;

use crate::{ClusterAccess, Journal, KubeAccess};

/// Everything [`Executor::open`](crate::Executor::open) needs.
///
/// The id of a new run is the run in `context.fence`.
#[non_exhaustive]
pub struct Setup {
    /// The cluster.
    pub access: Arc<dyn ClusterAccess>,
    /// The five steps.
    pub migration: Migration,
    /// Where the run's entries are kept.
    pub journal: Box<dyn Journal>,
    /// Clock, events, cancellation, and the id of a new run. A run that goes
    /// on, or is adopted, keeps the id it has.
    pub context: StepContext,
    /// What a new run does. Not needed to go on with an unfinished one, whose
    /// journal holds its own; given all the same, it must agree with that in
    /// target and policy.
    pub planned: Option<Planned>,
    /// What was forecast of [`planned`](Self::planned): kept in the journal of a new
    /// run, for its report.
    pub forecast: Option<Quantiles>,
    /// Go on with a new plan and journal in place of the unfinished run that the
    /// cluster or the journal names: done is what is at the target, and our
    /// cordons are taken over, whatever run set them. For when a journal is
    /// lost, or the API was restored from a backup. A holder that still renews
    /// its Lease is not displaced: `open` watches for as long as the Lease lasts.
    /// Plan from [`adoptable_model`](crate::adoptable_model). Changes nothing where
    /// journal, cluster and plan agree.
    pub adopt: bool,
    /// End the unfinished run in the journal for good, as
    /// [`Executor::abort`](crate::Executor::abort) does: no plan is needed, none
    /// is begun, and nothing is adopted.
    pub abort: bool,
    /// Namespace and name of the pod that this runner runs in, if it is inside the
    /// cluster. Before the start it is checked that the run can go on once that
    /// pod is moved (`KM-RUN-008`), and at each opening the rollout is told which
    /// node it is on: that one goes last. Let the planner know its node, too
    /// (`Planner::with_runner_on`).
    pub own_pod: Option<(String, String)>,
    /// How long `open` waits, at each call, for an API server that is out of
    /// reach, as it is while the run upgrades it, if the journal holds an unfinished
    /// run. `None` is not at all; without an unfinished run it never waits. Once
    /// open, a run waits by itself.
    pub patience: Option<Duration>,
    /// How often to look.
    pub pace: Pace,
}

/// What a new run does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// The model it was made from.
    pub model: ClusterModel,
    /// The policy it was made under.
    pub policy: Policy,
}

/// How often an executor looks. The defaults suit a real cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pace {
    /// The longest time that one [`step`](crate::Executor::step) takes, 1 s.
    pub step: Duration,
    /// Between two probes of an upgrade, 2 s.
    pub probe: Duration,
    /// The longest wait for one answer of a driver, the verifier or the
    /// cluster, 60 s. What was done without an answer is found out by the next
    /// look. An observation that took longer is given twice as long the next
    /// time, up to five times this.
    pub answer: Duration,
    /// Between two observations for a verification, 2 s, unless the verifier
    /// asks for more, or the last one took more than half of it: the API is
    /// left in peace for twice as long as that took, up to `answer`.
    pub verify: Duration,
    /// Between two looks at the anchor while paused or while the cluster does
    /// not answer, 5 s; also before trying again what could not be reached.
    pub retry: Duration,
    /// How long others wait without a renewal before they take this runner for
    /// gone, in whole seconds, 30 s; it is renewed three times in that time.
    pub lease: Duration,
    /// How long what is seen of nodes and budgets is gathered before the
    /// rollout is told, 1 s: only the latest of each counts.
    pub gather: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            step: Duration::from_secs(1),
            probe: Duration::from_secs(2),
            answer: Duration::from_secs(60),
            verify: Duration::from_secs(2),
            retry: Duration::from_secs(5),
            lease: Duration::from_secs(30),
            gather: Duration::from_secs(1),
        }
    }
}

impl Setup {
    /// Runs `migration` on the cluster behind `client`. The client should not
    /// retry by itself, see `migrate_kube::connect`.
    pub fn new(
        client: kube::Client,
        migration: Migration,
        journal: Box<dyn Journal>,
        context: StepContext,
    ) -> Self {
        Self::with_access(
            Arc::new(KubeAccess::new(client)),
            migration,
            journal,
            context,
        )
    }

    /// Runs `migration` on the cluster behind `access`.
    pub fn with_access(
        access: Arc<dyn ClusterAccess>,
        migration: Migration,
        journal: Box<dyn Journal>,
        context: StepContext,
    ) -> Self {
        Self {
            access,
            migration,
            journal,
            context,
            planned: None,
            forecast: None,
            adopt: false,
            abort: false,
            own_pod: None,
            patience: None,
            pace: Pace::default(),
        }
    }

    /// What to do if a new run begins.
    #[must_use]
    pub fn with_plan(mut self, plan: Plan, model: ClusterModel, policy: Policy) -> Self {
        self.planned = Some(Planned {
            plan,
            model,
            policy,
        });
        self
    }

    /// What was forecast of the plan, see [`Setup::forecast`].
    #[must_use]
    pub const fn with_forecast(mut self, forecast: Quantiles) -> Self {
        self.forecast = Some(forecast);
        self
    }

    /// Whether to adopt an unfinished run, see [`Setup::adopt`].
    #[must_use]
    pub fn with_adopt(mut self, adopt: bool) -> Self {
        self.adopt = adopt;
        self
    }

    /// Whether to end the unfinished run for good, see [`Setup::abort`].
    #[must_use]
    pub fn with_abort(mut self, abort: bool) -> Self {
        self.abort = abort;
        self
    }

    /// The pod that this runner runs in, see [`Setup::own_pod`].
    #[must_use]
    pub fn with_own_pod(mut self, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        self.own_pod = Some((namespace.into(), name.into()));
        self
    }

    /// How long to wait for an API server that is away, see [`Setup::patience`].
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// How often to look.
    #[must_use]
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("journal", &self.journal.place())
            .field("context", &self.context)
            .field("adopt", &self.adopt)
            .field("abort", &self.abort)
            .field("patience", &self.patience)
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}
