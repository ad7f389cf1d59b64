//! The rollout: which action begins now.

mod input;
mod last_look;
mod names;
mod replay;
mod waiting;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use migrate_core::{
    Action, ActionId, BudgetKey, ClusterModel, KubeVersion, Moment, Outcome, Phase, Plan, Policy,
    Target,
};

use crate::Error;
use crate::intern::Interned;
use crate::machine::{Cause, Emit, Ended, Halt, Machine, Mode, Obstacle, State};
pub use input::{ActionResult, Command, Input, Recorded, StopReason};
use names::Names;
pub(crate) use names::{checked_spec, spec};
pub use replay::replay;
pub use waiting::{Progress, Standing, TargetState, Waiting, WaitingOn};

/// The state machine that decides, in a plan and for real.
///
/// Tell it what happens with [`handle`](Self::handle), and after each do what
/// [`poll`](Self::poll) says until it says nothing more. When nothing happens,
/// poll again at [`wake_at`](Self::wake_at).
///
/// # Guarantees
/// - Control-plane members one at a time, each to the end of its verification,
///   before any node.
/// - Control-plane nodes one at a time, each to the end of its verification,
///   before any worker begins, unless policy leaves that out.
/// - No drain begins if its pool would then have more nodes away than its
///   width: in work, left behind, cordoned by anybody, or not Ready.
/// - No drain begins unless each budget has free what it takes, at most what
///   the budget allows at once. The hold ends with the drain.
/// - A drain that was begun and then put off ([`ActionResult::Deferred`]) waits
///   as if it had never begun.
/// - The node that the runner's own pod is on begins after all other workers, or
///   all other control-plane nodes where these come first, are done or given up,
///   and none of them begins while it is in work. It is the one the plan names,
///   until [`Input::RunnerSeen`] names another.
/// - No drain begins if its node and others that are away together offer more of a
///   resource than a [room](migrate_core::PlannedRoom) of the plan has to spare, unless no
///   other node of the room is in work.
/// - The canary of a pool goes alone, to the end of its verification. Where
///   policy names a soak time, it is then left alone for so long and verified
///   once more ([`Phase::Confirm`]), and no other worker begins meanwhile.
/// - No member and no node begins outside the windows of the policy, nor unless
///   what is predicted for it ends in time: for a member, what is predicted for
///   all members that are left. What has begun is brought to its end. What was
///   decided and could not begin in time ([`ActionResult::TooLate`]) waits for
///   the next one.
/// - It stops when one node more fails than policy allows.
/// - Aborted ([`Input::Aborted`]), it begins nothing but what is left of a target
///   whose upgrade was begun, whatever the windows say; neither a canary nor a
///   failure holds anything up, and it ends in [`StopReason::Aborted`].
/// - The tasks of the plan are done in their order, each alone, at their points:
///   an addon to the end of its verification. One that fails stops the rollout,
///   whatever policy says. Those after all nodes are left out if a node was; a
///   node that was gone and comes back after them is upgraded all the same.
/// - A node passes drain, upgrade and verify in this order; of one target no
///   two actions run at once; a completed action is never begun again, unless
///   the node was deleted, or made anew under its name, before it was done: what
///   has the name now goes the whole way itself, at most five times once its
///   upgrade was begun.
/// - It ends. Every target is done or given up, or there is a
///   [`Command::Stop`], provided that every begun action is told to have ended
///   and a pause ends. If nothing runs and nothing may begin, it waits as
///   long as `deadlines.drain` of the policy and then does what the policy
///   says.
/// - **Replay law**: the sequence of commands is a function of the plan, the
///   model, the policy and the inputs with their times. Fetching commands
///   later or earlier does not change it.
///
/// # Caveats
/// - It has no deadline for an action that runs: whoever runs it ends it.
/// - It counts pods as they were in the model. Pods that moved to a node since
///   are protected by the ledger of the drain and by the API server; here they
///   cost waiting at the most.
#[derive(Clone, Debug)]
pub struct Rollout {
    names: Arc<Names>,
    machine: Machine,
    /// Names of nodes that came in place of others, in the machine's order.
    replacements: Vec<String>,
    /// The newest node of each of those names.
    replacements_by_name: BTreeMap<String, u32>,
    /// Uids seen since, where the model has others or none.
    uids: BTreeMap<u32, String>,
    begun: BTreeMap<ActionId, (u32, Phase)>,
    out: VecDeque<Command>,
}

impl Rollout {
    /// A rollout of `plan` that has not started.
    ///
    /// `model` must be the one the plan was made from, or the replay law does
    /// not hold: keep it with the plan. Linear in its pods.
    ///
    /// # Errors
    /// [`Error::Document`], [`Error::OtherCluster`], [`Error::OtherPolicy`],
    /// or [`Error::Inconsistent`] when the plan names what the model does not
    /// have.
    pub fn new(plan: &Plan, model: &ClusterModel, policy: &Policy) -> Result<Self, Error> {
        let names = Names::new(plan, model, policy)?;
        let interned = Interned::new(model, policy);
        let spec = spec(plan, model, policy, &interned, |_, name| names.node(name))?;
        let names = Arc::new(names.with_budgets(&interned));
        Ok(Self {
            names,
            machine: Machine::new(&spec, &interned),
            replacements: Vec::new(),
            replacements_by_name: BTreeMap::new(),
            uids: BTreeMap::new(),
            begun: BTreeMap::new(),
            out: VecDeque::new(),
        })
    }

    /// Takes note of what happened at `now`. Times must not go back; one that
    /// does counts as the latest before it.
    pub fn handle(&mut self, now: Moment, input: &Input) {
        self.machine.advance(now);
        self.fetch();
        match input {
            Input::Aborted => self.machine.abort(),
            Input::ActionEnded { id, result } => self.action_ended(id, result),
            Input::BudgetSeen { key, allowed } => {
                if let Some(budget) = self.names.budget(key) {
                    self.machine.budget_seen(budget, *allowed);
                }
            }
            Input::Cancelled => self.machine.cancel(),
            Input::ConsentMissing { node, missing } => {
                if let Some(node) = self.node(node) {
                    self.machine.consent_missing(node, *missing);
                }
            }
            Input::NodeGone { node } => {
                if let Some(node) = self.node(node) {
                    self.machine.node_gone(node);
                }
            }
            Input::NodeSeen {
                node,
                ready,
                unschedulable,
                kubelet_version,
                uid,
            } => {
                if let Some(node) = self.node(node) {
                    self.identify(node, uid.as_deref());
                    let slot = self.machine.slot_of_node(node);
                    let to = self.version_after(slot);
                    let at_target = !self.names.is_way_back && kubelet_version.has_reached(to);
                    self.machine
                        .node_seen(node, *ready, *unschedulable, at_target);
                }
            }
            Input::Paused { paused } => self.machine.pause(*paused),
            Input::RunnerSeen { node } => {
                let node = node.as_deref().and_then(|node| self.node(node));
                let slot = node.and_then(|node| self.machine.slot_of_node(node));
                self.machine.runner_seen(slot);
            }
            Input::Started => self.machine.start(),
        }
        self.fetch();
    }

    /// The next thing to do at `now`; call it until there is none.
    pub fn poll(&mut self, now: Moment) -> Option<Command> {
        self.machine.advance(now);
        self.fetch();
        self.out.pop_front()
    }

    /// When to poll although nothing has happened: a retry is due, or policy's
    /// patience with a standstill ends.
    pub fn wake_at(&self) -> Option<Moment> {
        self.machine.wake_at()
    }

    /// For every target with a phase that has not begun: the next such phase,
    /// and the one thing it waits on. Members first, then nodes in plan order,
    /// then tasks.
    pub fn waiting(&self) -> Vec<Waiting> {
        let retries = self.machine.retries();
        let entry = |target| {
            let (phase, obstacle) = self.machine.obstacle(target, &retries)?;
            Some(Waiting {
                target: self.target(target),
                phase,
                on: self.waiting_on(obstacle),
            })
        };
        (0..self.machine.targets()).filter_map(entry).collect()
    }

    /// Where every target stands, members first, then nodes in plan order, then
    /// tasks.
    pub fn standings(&self) -> Vec<Standing> {
        let entry = |target| Standing {
            target: self.target(target),
            state: match self.machine.state(target) {
                // It has waited with what was made for it.
                state if state.is_untouched() && self.machine.has_begun(target) => {
                    TargetState::InWork {
                        phase: Phase::Drain,
                    }
                }
                State::Done => TargetState::Done,
                State::Failed(phase) => TargetState::Failed { phase },
                State::Due(phase) | State::Running(phase) | State::Backoff(phase) => {
                    TargetState::InWork { phase }
                }
                State::Soaking => TargetState::InWork {
                    phase: Phase::Confirm,
                },
                State::Skipped | State::Gone => TargetState::Skipped {
                    reason: self.machine.reason(target).unwrap_or_default().to_owned(),
                },
                State::Gated
                | State::Queued
                | State::Parked { .. }
                | State::NotReady
                | State::HostsRunner
                | State::TooLong => TargetState::Waiting,
            },
        };
        (0..self.machine.targets()).map(entry).collect()
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let counts = self.machine.counts();
        Progress {
            done: counts.done,
            running: counts.running,
            waiting: counts.waiting,
            skipped: counts.skipped,
        }
    }

    /// Why it has stopped, if it has.
    pub fn stopped(&self) -> Option<StopReason> {
        match self.machine.mode() {
            Mode::Stopped(halt) => Some(self.stop_reason(halt)),
            Mode::Idle | Mode::Running | Mode::Finished => None,
        }
    }

    /// Every real budget of the model and every assumed one that a pod of it
    /// has, and the disruptions each allows at once, as far as the rollout has
    /// been told.
    pub fn budgets(&self) -> impl Iterator<Item = (&BudgetKey, u32)> {
        let keys = self.names.budgets();
        (0..)
            .zip(keys)
            .map(|(id, key)| (key, self.machine.allowed(id)))
    }

    /// Whether every target is done or given up.
    pub fn is_finished(&self) -> bool {
        *self.machine.mode() == Mode::Finished
    }

    /// The machine that decides, to be cloned and let run ahead.
    pub(crate) const fn machine(&self) -> &Machine {
        &self.machine
    }

    fn action_ended(&mut self, id: &ActionId, result: &ActionResult) {
        let Some((target, phase)) = self.begun.remove(id) else {
            return;
        };
        let ended = match result {
            ActionResult::Succeeded(outcome) => {
                self.replace(target, phase, outcome);
                Ended::Succeeded
            }
            ActionResult::Deferred { away } => Ended::Deferred {
                away: away.iter().filter_map(|name| self.node(name)).collect(),
            },
            ActionResult::Failed { retryable, reason } => Ended::Failed {
                retryable: *retryable,
                reason: reason.clone(),
            },
            ActionResult::NotDrained => Ended::NotDrained,
            ActionResult::Skipped { reason } => Ended::Skipped {
                reason: reason.clone(),
            },
            ActionResult::TooLate => Ended::TooLate,
        };
        self.machine.ended(target, phase, ended);
    }

    /// Only a machine change puts other nodes into a slot.
    fn replace(&mut self, target: u32, phase: Phase, outcome: &Outcome) {
        if let (Phase::Upgrade, Outcome::ReplacedBy { nodes }) = (phase, outcome)
            && let Ok(count @ 1..) = u32::try_from(nodes.len())
            && let Some(first) = self.machine.node_replaced(target, count)
        {
            self.replacements.extend(nodes.iter().cloned());
            self.replacements_by_name
                .extend(nodes.iter().cloned().zip(first..));
        }
    }

    /// Gives what the machine has decided its names.
    fn fetch(&mut self) {
        while let Some(emit) = self.machine.pop() {
            let command = match emit {
                Emit::Begin { target, phase } => {
                    let action = self.action(target, phase);
                    self.begun.insert(action.id.clone(), (target, phase));
                    Command::Begin { action }
                }
                Emit::Stop(halt) => Command::Stop {
                    reason: self.stop_reason(&halt),
                },
                Emit::Finished => Command::Finished,
            };
            self.out.push_back(command);
        }
    }

    fn action(&self, target: u32, phase: Phase) -> Action {
        let names = &self.names;
        let from: &KubeVersion = names.from(target);
        let to = self.version_after(self.machine.slot_of(target));
        Action::new(
            &names.plan,
            self.target(target),
            phase,
            from.clone(),
            to.clone(),
        )
    }

    /// The version after, of the node in `slot` or of what is in none.
    fn version_after(&self, slot: Option<u32>) -> &KubeVersion {
        self.names.to(slot.map(|slot| self.machine.pool_of(slot)))
    }

    fn target(&self, target: u32) -> Target {
        if let Some(task) = self.machine.task_of(target) {
            return self.names.task(task).clone();
        }
        match self.machine.slot_of(target) {
            None => Target::ControlPlane {
                member: self.names.member(target).to_owned(),
            },
            Some(slot) => Target::Node {
                pool: self.names.pool(self.machine.pool_of(slot)).to_owned(),
                node: self.node_name(self.machine.node_in(slot)).to_owned(),
            },
        }
    }

    /// A name may come back as another machine: the newest is meant.
    fn node(&self, name: &str) -> Option<u32> {
        self.replacements_by_name
            .get(name)
            .copied()
            .or_else(|| self.names.node(name))
    }

    fn node_name(&self, node: u32) -> &str {
        match node.checked_sub(self.names.nodes()) {
            Some(at) => &self.replacements[at as usize],
            None => self.names.node_name(node),
        }
    }

    fn stop_reason(&self, halt: &Halt) -> StopReason {
        match halt {
            Halt::Aborted => StopReason::Aborted,
            Halt::Cancelled => StopReason::Cancelled,
            Halt::Failed {
                target,
                phase,
                cause,
                reason,
            } => {
                let (target, phase, reason) = (self.target(*target), *phase, reason.clone());
                match *cause {
                    Cause::Canary => StopReason::CanaryFailed {
                        target,
                        phase,
                        reason,
                    },
                    Cause::Policy => StopReason::Failed {
                        target,
                        phase,
                        reason,
                    },
                    Cause::TooMany { allowed } => StopReason::TooManyFailed {
                        target,
                        phase,
                        reason,
                        allowed,
                    },
                }
            }
            Halt::Stalled => StopReason::Stalled {
                waiting: self.machine.counts().waiting,
            },
        }
    }

    fn waiting_on(&self, obstacle: Obstacle) -> WaitingOn {
        let pool_name = |pool| self.names.pool(pool).to_owned();
        match obstacle {
            Obstacle::Before { target } => WaitingOn::Before {
                target: self.target(target),
            },
            Obstacle::Budget {
                budget,
                needed,
                free,
            } => WaitingOn::Budget {
                key: self.names.budget_key(budget).clone(),
                needed,
                free,
            },
            Obstacle::Canary { slot } => WaitingOn::Canary {
                pool: pool_name(self.machine.pool_of(slot)),
                node: self.node_name(self.machine.node_in(slot)).to_owned(),
            },
            Obstacle::Consent => WaitingOn::Consent,
            Obstacle::ControlPlane { member } => WaitingOn::ControlPlane {
                member: self.names.member(member).to_owned(),
            },
            Obstacle::ControlPlaneNode { slot } => WaitingOn::ControlPlaneNode {
                node: self.node_name(self.machine.node_in(slot)).to_owned(),
            },
            Obstacle::HostsRunner { left } => WaitingOn::HostsRunner { left },
            Obstacle::NodeAway { pool } => WaitingOn::NodeAway {
                pool: pool_name(pool),
                nodes: self
                    .machine
                    .away(pool)
                    .map(|n| self.node_name(n).to_owned())
                    .collect(),
            },
            Obstacle::NotReady => WaitingOn::NotReady,
            Obstacle::Pace { until } => WaitingOn::Pace { until },
            Obstacle::Paused => WaitingOn::Paused,
            Obstacle::PoolSlot { pool } => WaitingOn::PoolSlot {
                pool: pool_name(pool),
                width: self.machine.slots_at_most(pool),
            },
            Obstacle::PreviousPhase { running } => WaitingOn::PreviousPhase { running },
            Obstacle::Ramp { pool, left } => WaitingOn::Ramp {
                pool: pool_name(pool),
                left,
            },
            Obstacle::Room { room } => WaitingOn::Room {
                resource: self.names.room(room).to_owned(),
            },
            Obstacle::Reserve { pool } => WaitingOn::Reserve {
                pool: pool_name(pool),
                reserve: self.machine.reserve(pool),
            },
            Obstacle::Retry { at, attempt } => WaitingOn::Retry { at, attempt },
            Obstacle::Soak { slot, until } => WaitingOn::Soak {
                pool: pool_name(self.machine.pool_of(slot)),
                node: self.node_name(self.machine.node_in(slot)).to_owned(),
                until,
            },
            Obstacle::Start => WaitingOn::Start,
            Obstacle::Stopped => WaitingOn::Stopped,
            Obstacle::Window { opens } => WaitingOn::Window { opens },
            Obstacle::Zone { pool, zone } => WaitingOn::Zone {
                pool: pool_name(pool),
                zone: self.names.zone(zone).to_owned(),
            },
        }
    }
}
