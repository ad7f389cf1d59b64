//! Verifications under way: compare until it passes, release, compare again.
//!
//! One observation serves every verification that waits for one.

mod trial;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use migrate_core::steps::{Baseline, Verdict, VerifyScope};
use migrate_core::{
    Action, ActionId, Finding, KubeVersion, Migration, Moment, ObjectName, Phase, Severity,
    StepError, Target, WorkloadId,
};

use super::job::{Job, Workshop};
use crate::Pace;

pub(super) use trial::Trial;

/// How many times [`Pace::answer`] an observation may take in the end: enough
/// for the pages of a very large cluster, and no reason to hang.
const LONGEST: u32 = 5;

/// What a verification is for.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum CheckKey {
    /// An action of the rollout.
    Action(ActionId),
    /// A node an earlier run had upgraded and not given back.
    TakeOver(String),
    /// The whole cluster at the end.
    Cluster,
}

/// Verifications under way.
#[derive(Default)]
pub(super) struct Checks {
    running: BTreeMap<CheckKey, Check>,
    /// Counts observations asked for.
    round: u64,
    /// When the observation that is under way was asked for.
    observing: Option<Moment>,
    /// None is asked for before: they are not to be a burden on the API.
    rests_until: Moment,
    /// For how long the next one is waited for, once one took too long.
    patience: Option<Duration>,
    /// Whether nodes are tried out.
    has_trials: bool,
    /// Whether agents have to see a change once the control plane has settled.
    has_change: bool,
}

struct Check {
    /// What is left to be done, the current one first.
    steps: VecDeque<CheckStep>,
    /// Only observations asked for after this one tell about the current step.
    after: u64,
    due: Moment,
    deadline: Moment,
    /// How long it may take without getting on.
    within: Duration,
    /// How far it has got.
    progress: Option<u64>,
    /// Whether a trial is under way.
    trying: bool,
    /// What was last missing.
    missing: Vec<Finding>,
    /// The version to be reached, of an action.
    target: Option<KubeVersion>,
}

enum CheckStep {
    /// Compare until it passes.
    Compare(VerifyScope),
    /// Try it out until it passes.
    Try(Trial),
    /// Give the node back, and wait until it is in use.
    Release(String),
}

/// What to do, or what came of a verification.
pub(super) enum CheckOutput {
    /// What passed, and the report is to tell.
    Noted(Vec<Finding>),
    Release(String),
    Passed(CheckKey),
    Failed(CheckKey, Vec<Finding>),
}

impl Checks {
    /// None yet, with the trials that `migration` has.
    pub(super) fn new(migration: &Migration) -> Self {
        Self {
            has_trials: migration.trial.is_some(),
            has_change: migration.change.is_some(),
            ..Self::default()
        }
    }

    /// Verifies the target of `action`, which was planned for `planned`: the
    /// node that was drained, and whose workloads are looked after, with those
    /// that its drain has `displaced`; `settles` says whether a restart of its
    /// kubelet takes a part of the control plane away.
    pub(super) fn add_action(
        &mut self,
        action: &Action,
        planned: &Target,
        displaced: BTreeSet<WorkloadId>,
        settles: bool,
        now: Moment,
        within: Duration,
    ) {
        let steps = match &action.target {
            Target::ControlPlane { member } => {
                let gate = CheckStep::Compare(VerifyScope::ControlPlane {
                    member: member.clone(),
                });
                [gate].into_iter().chain(self.change(true)).collect()
            }
            target if action.phase == Phase::Confirm => {
                confirmation_steps(target.name(), planned.name(), displaced)
            }
            target => self.node_steps(target.name(), planned.name(), displaced, settles),
        };
        let key = CheckKey::Action(action.id.clone());
        self.add(key, Some(action.to.clone()), steps, now, within);
    }

    /// Verifies `node` and gives it back, for an earlier run.
    pub(super) fn add_take_over(
        &mut self,
        node: &str,
        settles: bool,
        now: Moment,
        within: Duration,
    ) {
        let key = CheckKey::TakeOver(node.to_owned());
        let steps = self.node_steps(node, node, BTreeSet::new(), settles);
        self.add(key, None, steps, now, within);
    }

    /// Verifies the whole cluster, which is `scope`.
    pub(super) fn add_cluster(&mut self, scope: VerifyScope, now: Moment, within: Duration) {
        let steps = VecDeque::from([CheckStep::Compare(scope)]);
        self.add(CheckKey::Cluster, None, steps, now, within);
    }

    fn add(
        &mut self,
        key: CheckKey,
        target: Option<KubeVersion>,
        steps: VecDeque<CheckStep>,
        now: Moment,
        within: Duration,
    ) {
        let check = Check {
            steps,
            after: self.round,
            due: now,
            deadline: now + within,
            within,
            progress: None,
            trying: false,
            missing: Vec::new(),
            target,
        };
        self.running.insert(key, check);
    }

    /// `node` is well and works; `planned`, which it may have replaced, is given
    /// back; and the workloads that had pods there are well.
    fn node_steps(
        &self,
        node: &str,
        planned: &str,
        displaced: BTreeSet<WorkloadId>,
        settles: bool,
    ) -> VecDeque<CheckStep> {
        let gate = CheckStep::Compare(VerifyScope::Node {
            node: node.to_owned(),
        });
        let trial = || CheckStep::Try(Trial::Node(node.to_owned()));
        let trial = self.has_trials.then(trial);
        let rest = [
            CheckStep::Release(planned.to_owned()),
            CheckStep::Compare(VerifyScope::WorkloadsOf {
                node: planned.to_owned(),
                displaced,
            }),
        ];
        let tried = [gate].into_iter().chain(self.change(settles)).chain(trial);
        tried.chain(rest).collect()
    }

    /// The change that agents have to see, where the cluster has to settle.
    fn change(&self, settles: bool) -> Option<CheckStep> {
        let is_asked = self.has_change && settles;
        is_asked.then_some(CheckStep::Try(Trial::Change))
    }

    /// Leaves off verifying the whole cluster.
    pub(super) fn leave_cluster(&mut self) {
        self.running.remove(&CheckKey::Cluster);
    }

    /// Whether a verification for an earlier run is under way.
    pub(super) fn is_taking_over(&self) -> bool {
        self.running
            .keys()
            .any(|key| matches!(key, CheckKey::TakeOver(_)))
    }

    /// Asks for an observation if one is due, of what is being compared with
    /// `before`, and gives up what is late.
    pub(super) fn act(
        &mut self,
        now: Moment,
        before: Option<&Arc<Baseline>>,
        shop: &Workshop,
    ) -> (Option<Job>, Vec<CheckOutput>) {
        let mut outputs = Vec::new();
        self.running.retain(|key, check| {
            // A trial under way has a limit of its own, and takes away what it made.
            let goes_on = check.deadline > now || check.trying;
            if !goes_on {
                outputs.push(CheckOutput::Failed(key.clone(), check.late(key)));
            }
            goes_on
        });
        let comparing = self.running.values().filter(|c| c.compares().is_some());
        let wanted = now >= self.rests_until && comparing.clone().any(|check| check.due <= now);
        let scopes = comparing.filter_map(|check| check.compares().cloned());
        let job = before
            .filter(|_| wanted && self.observing.is_none())
            .map(|before| {
                self.observing = Some(now);
                self.round += 1;
                let patience = self.patience.unwrap_or(shop.answer);
                shop.observe(self.round, Arc::clone(before), scopes.collect(), patience)
            });
        (job, outputs)
    }

    /// The actions that the observation `round` tells about.
    pub(super) fn told_by(&self, round: u64) -> impl Iterator<Item = &ActionId> {
        self.running
            .iter()
            .filter_map(move |(key, check)| match key {
                CheckKey::Action(id) if check.compares().is_some() && check.after < round => {
                    Some(id)
                }
                _ => None,
            })
    }

    /// Compares an observation with the baseline, for everyone it tells about.
    pub(super) fn observed(
        &mut self,
        round: u64,
        result: &Result<Baseline, StepError>,
        before: &Baseline,
        shop: &Workshop,
        now: Moment,
        pace: &Pace,
    ) -> Vec<CheckOutput> {
        self.rest(result, now, pace);
        let mut outputs = Vec::new();
        let mut passed = Vec::new();
        let mut failed = Vec::new();
        for (key, check) in &mut self.running {
            let Some(scope) = check.compares() else {
                continue;
            };
            if check.after >= round {
                continue;
            }
            let verdict = match result {
                Ok(seen) => {
                    let input = shop.input_of(check.target.as_ref());
                    shop.migration.verify.compare(&input, scope, before, seen)
                }
                Err(error) => unseen(error, pace),
            };
            match verdict {
                Verdict::Pass { notes } => {
                    if !notes.is_empty() {
                        outputs.push(CheckOutput::Noted(notes));
                    }
                    passed.push(key.clone());
                }
                Verdict::Fail { findings } => failed.push((key.clone(), findings)),
                Verdict::Pending {
                    missing,
                    retry_after,
                    progress,
                } => {
                    check.missing = missing;
                    check.gets_on(progress, now);
                    check.due = now + retry_after.max(pace.verify);
                }
                _ => check.due = now + pace.verify,
            }
        }
        outputs.extend(self.advance_all(passed, now));
        for (key, findings) in failed {
            self.running.remove(&key);
            outputs.push(CheckOutput::Failed(key, findings));
        }
        outputs
    }

    /// The current steps of these have passed: what comes next.
    fn advance_all(&mut self, passed: Vec<CheckKey>, now: Moment) -> Vec<CheckOutput> {
        let next = |key| self.advance(key, now);
        passed.into_iter().filter_map(next).collect()
    }

    /// The current step of `key` has passed: what there is to do next.
    fn advance(&mut self, key: CheckKey, now: Moment) -> Option<CheckOutput> {
        let check = self.running.get_mut(&key)?;
        check.steps.pop_front();
        check.after = self.round;
        check.due = now;
        check.progress = None;
        check.missing.clear();
        match check.steps.front() {
            Some(CheckStep::Compare(_) | CheckStep::Try(_)) => None,
            Some(CheckStep::Release(node)) => Some(CheckOutput::Release(node.clone())),
            None => {
                self.running.remove(&key);
                Some(CheckOutput::Passed(key))
            }
        }
    }

    /// Leaves the API in peace for twice as long as an observation took. One
    /// that had no answer in time is given more of it; one that was refused was no
    /// burden, and is asked for again at the usual pace.
    fn rest(&mut self, result: &Result<Baseline, StepError>, now: Moment, pace: &Pace) {
        let Some(asked) = self.observing.take() else {
            return;
        };
        let took = now.since(asked);
        let patience = self.patience.unwrap_or(pace.answer);
        let is_late = took >= patience;
        if result.is_err() && !is_late {
            return;
        }
        self.rests_until = now + (took * 2).min(pace.answer);
        if result.is_err() {
            self.patience = Some((patience * 2).min(pace.answer * LONGEST));
        }
    }

    /// Takes note that `node` is in use again, or why not.
    pub(super) fn released(
        &mut self,
        node: &str,
        error: Option<&str>,
        now: Moment,
    ) -> Vec<CheckOutput> {
        let mut passed = Vec::new();
        for (key, check) in &mut self.running {
            if !matches!(check.steps.front(), Some(CheckStep::Release(name)) if name == node) {
                continue;
            }
            if let Some(error) = error {
                check.missing = vec![not_released(node, error)];
                continue;
            }
            passed.push(key.clone());
        }
        self.advance_all(passed, now)
    }

    /// When to look again without being told.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.running
            .values()
            .filter(|check| !check.trying)
            .map(|check| match check.steps.front() {
                Some(CheckStep::Compare(_)) if self.observing.is_none() => {
                    check.due.max(self.rests_until).min(check.deadline)
                }
                Some(CheckStep::Try(_)) => check.due.min(check.deadline),
                _ => check.deadline,
            })
            .min()
    }

    /// What is under way, and what was last missing.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&CheckKey, &[Finding])> {
        self.running
            .iter()
            .map(|(key, check)| (key, check.missing.as_slice()))
    }
}

impl Check {
    /// The scope that is being compared.
    fn compares(&self) -> Option<&VerifyScope> {
        match self.steps.front() {
            Some(CheckStep::Compare(scope)) => Some(scope),
            _ => None,
        }
    }

    /// What gets on, as a rollout on a hundred nodes, one after the other, is
    /// given time as long as it does.
    fn gets_on(&mut self, progress: u64, now: Moment) {
        if self.progress.is_some_and(|best| progress > best) {
            self.deadline = now + self.within;
        }
        self.progress = self.progress.max(Some(progress));
    }

    fn late(&self, key: &CheckKey) -> Vec<Finding> {
        if !self.missing.is_empty() {
            return self.missing.clone();
        }
        let evidence = match self.steps.front() {
            Some(CheckStep::Release(node)) => {
                format!("node {node} was not given back by the deadline")
            }
            Some(CheckStep::Try(trial)) => {
                format!("{trial} had not ended by the deadline")
            }
            _ => "no observation by the deadline".to_owned(),
        };
        let name = match key {
            CheckKey::Action(id) => id.as_str(),
            CheckKey::TakeOver(node) => node,
            CheckKey::Cluster => "cluster",
        };
        vec![Finding::new(
            "KM-RUN-003",
            Severity::Blocker,
            ObjectName::cluster("Verification", name),
            evidence,
            "see what keeps it, then open the run again",
        )]
    }
}

/// `node` and the workloads that had pods on `planned` are still well.
fn confirmation_steps(
    node: &str,
    planned: &str,
    displaced: BTreeSet<WorkloadId>,
) -> VecDeque<CheckStep> {
    VecDeque::from([
        CheckStep::Compare(VerifyScope::Node {
            node: node.to_owned(),
        }),
        CheckStep::Compare(VerifyScope::WorkloadsOf {
            node: planned.to_owned(),
            displaced,
        }),
    ])
}

/// What an observation that failed says: wait, unless waiting will not help.
fn unseen(error: &StepError, pace: &Pace) -> Verdict {
    let finding = Finding::new(
        "KM-RUN-004",
        Severity::Blocker,
        error.object.clone(),
        format!("the cluster could not be observed: {}", error.message),
        "see the message",
    );
    if error.is_retryable() {
        Verdict::Pending {
            missing: vec![finding],
            retry_after: pace.retry,
            progress: 0,
        }
    } else {
        Verdict::Fail {
            findings: vec![finding],
        }
    }
}

fn not_released(node: &str, error: &str) -> Finding {
    Finding::new(
        "KM-RUN-005",
        Severity::Blocker,
        ObjectName::cluster("Node", node),
        format!("it could not be given back: {error}"),
        format!("look at the node, then: kubectl uncordon {node}"),
    )
}
