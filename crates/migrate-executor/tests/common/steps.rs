//! The five steps, and the executor's own access, over the cluster in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use migrate_core::steps::{
    BackupArtifact, BackupProof, BackupReport, Baseline, BaselineNode, DrainCommand, DrainCommands,
    DrainEvent, DrainEvents, DrainOutcome, Verdict, VerifyScope,
};
use migrate_core::{
    Action, ActionStatus, BackUpData, BudgetKey, Clock, ClusterId, Fence, Finding, MigratePods,
    Migration, Moment, ObjectName, Outcome, PrepareEnvironment, Severity, StepContext, StepError,
    StepErrorKind, StepInput, StepReport, Target, UpgradeComponents, VerifyMigration,
};
use migrate_executor::{AnchorState, ClusterAccess, MarkedNode};
use migrate_kube::{Claim, Holder, RunMark};
use migrate_plan::Input;
use tokio::time::{Instant, sleep};

use super::world::{Cordon, Machine, UPGRADE, Upgrade, World};
use super::{clock, secs};

/// The steps over `world`: nothing found, a proven backup.
pub(crate) fn migration(world: &World) -> Migration {
    migration_with(world, Vec::new(), BackupProof::Proven)
}

/// The steps over `world`: these codes found as blockers, a backup so proven.
pub(crate) fn migration_with(
    world: &World,
    codes: Vec<&'static str>,
    proof: BackupProof,
) -> Migration {
    Migration::new(
        Arc::new(Check(codes, world.clone())),
        Arc::new(Backup(proof)),
        Arc::new(Driver(world.clone())),
        Arc::new(Drainer(world.clone())),
        Arc::new(Verifier(world.clone())),
    )
}

/// A check that finds what it is told to.
struct Check(Vec<&'static str>, World);

#[async_trait]
impl PrepareEnvironment for Check {
    async fn run(&self, _: &StepContext, _: &StepInput) -> Result<StepReport, StepError> {
        sleep(secs(1)).await;
        let away = &mut self.1.lock().faults.preflight_away;
        if *away > 0 {
            *away -= 1;
            return Err(trouble(StepErrorKind::Unavailable, "the API is away"));
        }
        let object = ObjectName::cluster("Node", "red-1");
        let finding = |code: &&str| {
            Finding::new(
                *code,
                Severity::Blocker,
                object.clone(),
                "it is so",
                "change it",
            )
        };
        Ok(StepReport::new(self.0.iter().map(finding).collect()))
    }
}

struct Backup(BackupProof);

#[async_trait]
impl BackUpData for Backup {
    async fn run(&self, _: &StepContext, _: &StepInput) -> Result<BackupReport, StepError> {
        sleep(secs(2)).await;
        let artifact = BackupArtifact::new("/backup/etcd.db", 1024, "00ff");
        Ok(BackupReport::new(self.0, vec![artifact]))
    }
}

pub(crate) fn context(run: &str) -> StepContext {
    let clock: Arc<dyn Clock> = Arc::new(clock());
    StepContext::new(clock, Fence::without_lease(run))
}

fn trouble(kind: StepErrorKind, what: &str) -> StepError {
    StepError::new(kind, ObjectName::cluster("Cluster", "test"), what)
}

/// Upgrades that go on by themselves once begun.
struct Driver(World);

impl Driver {
    fn with<T>(&self, target: &Target, f: impl FnOnce(&mut Machine) -> T) -> T {
        let mut world = self.0.lock();
        let machines = match target {
            Target::ControlPlane { .. } => &mut world.members,
            _ => &mut world.nodes,
        };
        f(machines.get_mut(target.name()).unwrap())
    }
}

#[async_trait]
impl UpgradeComponents for Driver {
    async fn begin(&self, cx: &StepContext, action: &Action) -> Result<(), StepError> {
        sleep(secs(1)).await;
        let name = action.target.name().to_owned();
        let unfenced = self.0.lock().faults.unfenced;
        let held = self.with(&action.target, |machine| {
            machine.fence = machine.fence.max(cx.fence.epoch);
            machine.fence
        });
        if held > cx.fence.epoch && !unfenced {
            return Err(trouble(StepErrorKind::Conflict, "our epoch is old"));
        }
        let (fault, lies, hangs, length) = {
            let mut world = self.0.lock();
            let fault = world
                .faults
                .fails
                .get_mut(&name)
                .filter(|(left, _)| *left > 0);
            let fault = fault.map(|(left, retryable)| {
                *left -= 1;
                *retryable
            });
            let faults = &world.faults;
            let length = if faults.stuck.contains(&name) {
                UPGRADE * 1000
            } else {
                UPGRADE
            };
            (
                fault,
                faults.lies.contains(&name),
                faults.hangs.contains(&name),
                length,
            )
        };
        let is_node = matches!(action.target, Target::Node { .. });
        let effect = self.with(&action.target, |machine| {
            let again = match &machine.upgrade {
                Some(upgrade) if upgrade.action == action.id.as_str() => {
                    // Only what failed is begun anew.
                    upgrade.fails?;
                    "again "
                }
                _ => "",
            };
            machine.upgrade = Some(Upgrade {
                action: action.id.to_string(),
                done_at: Instant::now() + length,
                fails: fault,
                lies,
            });
            let unfit = is_node && (machine.pods > 0 || !machine.unschedulable);
            Some((format!("begin {again}{}", action.id), unfit))
        });
        if let Some((effect, unfit)) = effect {
            if unfit {
                self.0
                    .lock()
                    .broken
                    .push(format!("{name} is changed while in use"));
            }
            self.0.effect(effect).await;
        } else {
            // Harmless, for it is idempotent; but nobody looked.
            self.0
                .lock()
                .broken
                .push(format!("{name} was begun without a look"));
        }
        if hangs {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn probe(&self, _: &StepContext, action: &Action) -> Result<ActionStatus, StepError> {
        sleep(secs(1)).await;
        let name = action.target.name();
        {
            let mut world = self.0.lock();
            world.settle();
            let is_there = world
                .nodes
                .get(name)
                .is_some_and(|node| node.version != world.to);
            if matches!(action.target, Target::Node { .. })
                && !is_there
                && let Some(new) = world.replacement(name)
            {
                let nodes = vec![new];
                return Ok(ActionStatus::Succeeded(Outcome::ReplacedBy { nodes }));
            }
        }
        Ok(self.with(&action.target, |machine| match &machine.upgrade {
            Some(upgrade) if upgrade.action == action.id.as_str() => {
                match (upgrade.done_at > Instant::now(), upgrade.fails) {
                    (true, _) => ActionStatus::Running,
                    (false, Some(retryable)) => ActionStatus::Failed {
                        retryable,
                        reason: "the disk broke".to_owned(),
                    },
                    (false, None) => ActionStatus::Succeeded(Outcome::SameNode),
                }
            }
            _ => ActionStatus::Absent,
        }))
    }
}

/// Drains all nodes it is asked to, side by side, while it is polled.
struct Drainer(World);

#[async_trait]
impl MigratePods for Drainer {
    async fn migrate(
        &self,
        cx: &StepContext,
        _: &StepInput,
        commands: DrainCommands,
    ) -> Result<DrainEvents, StepError> {
        sleep(secs(1)).await;
        if self.0.lock().faults.drainer_forbidden {
            let what = "it may not list pods; add the rule";
            return Err(trouble(StepErrorKind::Forbidden, what));
        }
        if self.0.lock().faults.drainer_silent {
            return Ok(stream::pending().boxed());
        }
        let (world, fence) = (self.0.clone(), cx.fence.clone());
        let events = commands.flat_map_unordered(None, move |command| {
            let (world, fence) = (world.clone(), fence.clone());
            stream::once(async move {
                match command {
                    DrainCommand::Drain { node } => drain(&world, &fence, node).await,
                    DrainCommand::Release { node } => release(&world, &fence, node).await,
                    _ => unreachable!(),
                }
            })
            .boxed()
        });
        let left = self.0.lock().faults.drainer_ends_after.take();
        let left = AtomicU32::new(left.unwrap_or(u32::MAX));
        let events = events.take_while(move |_| {
            let goes_on = left.fetch_sub(1, Ordering::SeqCst) > 0;
            std::future::ready(goes_on)
        });
        Ok(events.boxed())
    }
}

/// Whether `fence` may write to `node`: the node was read before, with this
/// stamp, and the anchor after it.
fn admits(world: &World, fence: &Fence, node: &str) -> bool {
    let world = world.lock();
    let is_ours =
        world.anchor.epoch == fence.epoch && world.anchor.run.as_ref() == Some(&fence.run);
    // A node that is gone has no stamp.
    let stamp = world.nodes.get(node).map_or(0, |machine| machine.stamp);
    world.faults.unfenced || (stamp <= fence.epoch && is_ours)
}

async fn drain(world: &World, fence: &Fence, node: String) -> DrainEvent {
    let run = fence.run.as_str();
    if world.lock().faults.refused.contains(&node) {
        let outcome = DrainOutcome::Failed {
            reason: "it is not to be touched".to_owned(),
            retryable: false,
        };
        return DrainEvent::Drained { node, outcome };
    }
    if !admits(world, fence, &node) {
        let outcome = DrainOutcome::Failed {
            reason: "another runner holds the run".to_owned(),
            retryable: false,
        };
        return DrainEvent::Drained { node, outcome };
    }
    let cordoned = {
        let mut world = world.lock();
        let machine = world.nodes.get_mut(&node).unwrap();
        let foreign = machine.cordon.as_ref().filter(|cordon| cordon.run != run);
        if let Some(foreign) = foreign {
            let reason = format!("run {} has cordoned it", foreign.run);
            let outcome = DrainOutcome::Failed {
                reason,
                retryable: false,
            };
            return DrainEvent::Drained { node, outcome };
        }
        machine.stamp = fence.epoch;
        let cordoned = machine.cordon.is_none();
        if cordoned {
            machine.cordon = Some(Cordon {
                run: run.to_owned(),
                before: machine.unschedulable,
            });
            machine.unschedulable = true;
        }
        cordoned
    };
    if cordoned {
        world.effect(format!("cordon {node}")).await;
    }
    sleep(secs(3)).await;
    if world.lock().faults.undrainable.contains(&node) {
        let outcome = DrainOutcome::Failed {
            reason: "a budget that never gives way".to_owned(),
            retryable: false,
        };
        return DrainEvent::Drained { node, outcome };
    }
    let mut evictions = 0;
    loop {
        let left = {
            let mut world = world.lock();
            let machine = world.nodes.get_mut(&node).unwrap();
            let left = machine.pods;
            machine.pods = left.saturating_sub(1);
            world.displaced += u32::from(left > 0);
            left
        };
        if left == 0 {
            let outcome = DrainOutcome::Empty { evictions };
            return DrainEvent::Drained { node, outcome };
        }
        world.effect(format!("evict {node}-{}", left - 1)).await;
        evictions += 1;
        sleep(secs(2)).await;
    }
}

async fn release(world: &World, fence: &Fence, node: String) -> DrainEvent {
    let run = fence.run.as_str();
    if !admits(world, fence, &node) {
        let error = Some("another runner holds the run".to_owned());
        return DrainEvent::Released { node, error };
    }
    let lifted = {
        let mut world = world.lock();
        // One that is gone has no cordon either.
        world.nodes.get_mut(&node).is_some_and(|machine| {
            machine.stamp = 0;
            let ours = machine.cordon.take_if(|cordon| cordon.run == run);
            if let Some(cordon) = &ours {
                machine.unschedulable = cordon.before;
            }
            ours.is_some()
        })
    };
    if lifted {
        world.effect(format!("uncordon {node}")).await;
    }
    sleep(secs(1)).await;
    DrainEvent::Released { node, error: None }
}

/// At the target and in the state asked for, or not yet.
struct Verifier(World);

#[async_trait]
impl VerifyMigration for Verifier {
    async fn observe(&self, _: &StepContext) -> Result<Baseline, StepError> {
        sleep(secs(1)).await;
        let mut world = self.0.lock();
        if world.faults.unobservable {
            return Err(trouble(StepErrorKind::Unavailable, "no answer"));
        }
        world.settle();
        let mut baseline = Baseline::default();
        for (name, member) in &world.members {
            baseline
                .control_plane
                .insert(name.clone(), member.version.clone());
        }
        for (name, machine) in &world.nodes {
            let mut node = BaselineNode::new(true, machine.version.clone());
            node.unschedulable = machine.unschedulable;
            baseline.nodes.insert(name.clone(), node);
        }
        Ok(baseline)
    }

    fn compare(
        &self,
        input: &StepInput,
        scope: &VerifyScope,
        before: &Baseline,
        now: &Baseline,
    ) -> Verdict {
        let is_there = |name: &String| now.nodes.contains_key(name);
        let node_is_well = |name: &str| {
            now.nodes
                .get(name)
                .is_some_and(|n| n.kubelet_version == input.target)
        };
        let is_well = match scope {
            VerifyScope::ControlPlane { member } => {
                now.control_plane.get(member) == Some(&input.target)
            }
            VerifyScope::Node { node } => node_is_well(node),
            VerifyScope::WorkloadsOf { node } => {
                now.nodes.get(node).is_none_or(|node| !node.unschedulable)
            }
            VerifyScope::Cluster { replaced } => {
                let has_successors = |name: &String| {
                    let others = replaced.get(name);
                    others.is_some_and(|others| others.iter().all(is_there))
                };
                let mut all = before.nodes.keys();
                all.all(|name| is_there(name) || has_successors(name))
                    && now.nodes.keys().all(|name| node_is_well(name))
                    && now
                        .control_plane
                        .values()
                        .all(|version| *version == input.target)
            }
            _ => unreachable!(),
        };
        if is_well {
            return Verdict::Pass;
        }
        let object = ObjectName::cluster("Scope", format!("{scope:?}"));
        let finding = Finding::new(
            "KM-VERIFY-001",
            Severity::Blocker,
            object,
            "not there",
            "wait",
        );
        Verdict::Pending {
            missing: vec![finding],
            retry_after: secs(0),
        }
    }
}

fn holder_of(journal: &str, now: Moment, lasts: Duration) -> Holder {
    let lease = serde_json::json!({ "spec": {
        "holderIdentity": journal,
        "renewTime": now.to_string(),
        "leaseDurationSeconds": lasts.as_secs(),
    }});
    let lease = serde_json::from_value(lease).unwrap();
    migrate_kube::Anchor::of(&lease).holder.unwrap()
}

/// The executor's own access.
pub(crate) struct Access(pub(crate) World);

#[async_trait]
impl ClusterAccess for Access {
    async fn identity(&self) -> Result<ClusterId, StepError> {
        Ok(self.0.lock().id.clone())
    }

    async fn anchor(&self) -> Result<AnchorState, StepError> {
        sleep(secs(1)).await;
        let mut world = self.0.lock();
        if world.faults.anchor_unreadable > 0 {
            world.faults.anchor_unreadable -= 1;
            return Err(trouble(StepErrorKind::Unavailable, "the API is away"));
        }
        if world.faults.anchor_forbidden > 0 {
            world.faults.anchor_forbidden -= 1;
            return Err(trouble(StepErrorKind::Forbidden, "forbidden"));
        }
        Ok(world.anchor.state())
    }

    async fn claim(&self, claim: &Claim, now: Moment) -> Result<u64, StepError> {
        let epoch = {
            let mut world = self.0.lock();
            let anchor = &mut world.anchor;
            let mark = &claim.mark;
            if anchor.run.as_ref().is_some_and(|run| *run != mark.run) {
                return Err(trouble(StepErrorKind::Conflict, "another run is under way"));
            }
            let other = |holder: &&Holder| holder.identity != mark.journal;
            let holder = anchor.holder.as_ref().filter(other);
            if holder.is_some_and(|holder| claim.lapsed.as_ref() != Some(holder)) {
                return Err(trouble(
                    StepErrorKind::Conflict,
                    "another holder is at work",
                ));
            }
            anchor.run = Some(mark.run.clone());
            anchor.journal = Some(mark.journal.clone());
            anchor.epoch = anchor.epoch.max(claim.floor) + 1;
            anchor.holder = Some(holder_of(&mark.journal, now, claim.lasts));
            anchor.epoch
        };
        self.0.effect("claim".to_owned()).await;
        Ok(epoch)
    }

    async fn renew(
        &self,
        mark: &RunMark,
        epoch: u64,
        now: Moment,
    ) -> Result<AnchorState, StepError> {
        sleep(secs(1)).await;
        let mut world = self.0.lock();
        if world.faults.unrenewable {
            return Err(trouble(StepErrorKind::Unavailable, "the API is away"));
        }
        let anchor = &mut world.anchor;
        let is_ours = anchor.run.as_ref() == Some(&mark.run)
            && anchor.journal.as_ref() == Some(&mark.journal)
            && anchor.epoch == epoch;
        if is_ours && let Some(holder) = &mut anchor.holder {
            holder.renewed = now.to_string();
        }
        Ok(anchor.state())
    }

    async fn clear(&self, fence: &Fence) -> Result<(), StepError> {
        {
            let mut world = self.0.lock();
            let anchor = &mut world.anchor;
            if anchor.run.as_ref() != Some(&fence.run) || anchor.epoch != fence.epoch {
                return Ok(());
            }
            anchor.run = None;
            anchor.journal = None;
            anchor.holder = None;
            for node in world.nodes.values_mut() {
                node.stamp = 0;
            }
        }
        self.0.effect("clear".to_owned()).await;
        Ok(())
    }

    async fn marked_nodes(&self) -> Result<Vec<MarkedNode>, StepError> {
        let world = self.0.lock();
        let marked = world.nodes.iter().filter_map(|(name, machine)| {
            let cordon = machine.cordon.as_ref()?;
            Some(MarkedNode::new(name, &cordon.run, cordon.before))
        });
        Ok(marked.collect())
    }

    async fn take_over(&self, fence: &Fence) -> Result<Vec<String>, StepError> {
        let names: Vec<String> = self.0.lock().nodes.keys().cloned().collect();
        for name in &names {
            let taken = {
                let mut world = self.0.lock();
                let machine = world.nodes.get_mut(name).unwrap();
                machine.stamp = fence.epoch;
                match machine.cordon.as_mut().filter(|it| it.run != fence.run) {
                    Some(cordon) => {
                        cordon.run = fence.run.clone();
                        true
                    }
                    None => false,
                }
            };
            if taken {
                self.0.effect(format!("take over {name}")).await;
            }
        }
        let marked = self.marked_nodes().await?;
        Ok(marked.into_iter().map(|marked| marked.node).collect())
    }

    /// Everything, again and again.
    fn changes(&self, _: &StepInput) -> BoxStream<'static, Result<Vec<Input>, StepError>> {
        let world = self.0.clone();
        let look = move |first: bool| {
            let world = world.clone();
            async move {
                if !first {
                    sleep(secs(1)).await;
                }
                let model = world.model();
                let nodes = model.nodes.into_iter().map(|node| Input::NodeSeen {
                    node: node.name,
                    ready: node.ready,
                    unschedulable: node.unschedulable,
                    kubelet_version: node.kubelet_version,
                });
                let budgets = model.budgets.into_iter().map(|budget| Input::BudgetSeen {
                    key: BudgetKey::real(budget.namespace, budget.name),
                    allowed: 2,
                });
                Some((Ok(nodes.chain(budgets).collect()), false))
            }
        };
        stream::unfold(true, look).boxed()
    }
}
