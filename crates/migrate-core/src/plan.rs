//! Plan: the immutable result of planning.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cost::{Bounds, Estimate};
use crate::{ClusterId, Finding, KubeVersion, Phase, Point, Relocation, Target, content_hash};

/// Version of the JSON form of [`Plan`]. A reader refuses a newer one.
pub const PLAN_SCHEMA: u32 = 1;

/// A plan of one hop.
///
/// It fixes the versions, the order and the hashes of the policy and the model
/// it was made from. The times in [`schedule`](Self::schedule) are predictions,
/// never commands: being late is no deviation from a plan.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
#[must_use = "a plan does nothing until it is run"]
pub struct Plan {
    /// [`PLAN_SCHEMA`] of the writer.
    pub schema: u32,
    /// Identity: hash of what the plan fixes, twelve hex digits.
    pub id: String,
    /// The plan this one replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Counts the plans of a run, from 1.
    pub revision: u32,
    /// The cluster it is for.
    pub cluster: ClusterId,
    /// Lowest version of any control-plane member before.
    pub from: KubeVersion,
    /// Version of everything after, but for [pools](PlannedPool::to) with another.
    pub to: KubeVersion,
    /// Hash of the policy it was made under ([`Policy::identity`](crate::Policy::identity)).
    pub policy_hash: String,
    /// Hash of the model it was made from. Plans of this project's planner have that
    /// of all that a rollout decides from: members, nodes, budgets, and how many pods
    /// of which budgets are on which nodes.
    pub model_hash: String,
    /// Pools and their widths.
    pub pools: Vec<PlannedPool>,
    /// Where capacity lets less be away at once than the widths of pools would.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rooms: Vec<PlannedRoom>,
    /// Control-plane members in the order of their upgrade.
    pub control_plane: Vec<PlannedMember>,
    /// Nodes in priority order; those at the target already are left out.
    pub slots: Vec<PlannedSlot>,
    /// What is done between them, each alone, in this order: addons, and the
    /// second backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<PlannedTask>,
    /// Names of nodes and members that are at the target already.
    pub at_target: Vec<String>,
    /// Predicted actions by start.
    pub schedule: Vec<PlannedAction>,
    /// Predicted duration and what it is made of.
    pub estimate: Estimate,
    /// What no order could beat; absent where nothing begins, and in plans of
    /// older releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
    /// Where pods are predicted to go; absent where no node says what it offers,
    /// and in plans of older releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relocation: Option<Relocation>,
    /// What planning found.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

/// What the identity of a plan is made of.
#[derive(Serialize)]
struct Fixed<'a> {
    schema: u32,
    parent: Option<&'a str>,
    revision: u32,
    cluster: &'a ClusterId,
    from: &'a KubeVersion,
    to: &'a KubeVersion,
    policy_hash: &'a str,
    model_hash: &'a str,
    pools: &'a [PlannedPool],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rooms: &'a [PlannedRoom],
    control_plane: &'a [PlannedMember],
    slots: &'a [PlannedSlot],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tasks: &'a [PlannedTask],
    at_target: &'a [String],
}

impl Plan {
    /// For a planner of your own: the first plan that takes `cluster` from
    /// `from` to `to`, with nothing to do so far. Fill in the hashes of policy
    /// ([`Policy::identity`](crate::Policy::identity)) and model ([`content_hash`]), what is to be done and, last of all,
    /// [`id`](Self::id) from [`identity`](Self::identity).
    pub fn new(cluster: ClusterId, from: KubeVersion, to: KubeVersion, estimate: Estimate) -> Self {
        Self {
            schema: PLAN_SCHEMA,
            id: String::new(),
            parent: None,
            revision: 1,
            cluster,
            from,
            to,
            policy_hash: String::new(),
            model_hash: String::new(),
            pools: Vec::new(),
            rooms: Vec::new(),
            control_plane: Vec::new(),
            slots: Vec::new(),
            tasks: Vec::new(),
            at_target: Vec::new(),
            schedule: Vec::new(),
            estimate,
            bounds: None,
            relocation: None,
            findings: Vec::new(),
        }
    }

    /// Hash of everything the plan fixes, twelve hex digits: what its
    /// [`id`](Self::id) has to be. Predictions and findings are no part of it.
    pub fn identity(&self) -> String {
        content_hash(&Fixed {
            schema: self.schema,
            parent: self.parent.as_deref(),
            revision: self.revision,
            cluster: &self.cluster,
            from: &self.from,
            to: &self.to,
            policy_hash: &self.policy_hash,
            model_hash: &self.model_hash,
            pools: &self.pools,
            rooms: &self.rooms,
            control_plane: &self.control_plane,
            slots: &self.slots,
            tasks: &self.tasks,
            at_target: &self.at_target,
        })
    }

    /// A plan whose order, canaries or pins somebody has changed, as the next
    /// revision of the plan it was: with its id as parent, and an id of its own. Where
    /// nothing that a plan fixes was changed, it stays as it is.
    pub fn edited(mut self) -> Self {
        if self.id != self.identity() {
            self.parent = Some(std::mem::take(&mut self.id));
            self.revision = self.revision.saturating_add(1);
            self.id = self.identity();
        }
        self
    }

    /// Whether nothing is left to be done.
    pub fn is_empty(&self) -> bool {
        self.control_plane.is_empty() && self.slots.is_empty()
    }

    /// Everything to be done with its version before: members, then nodes, then
    /// tasks (with the version of the plan), each in the order of the plan.
    pub fn targets(&self) -> impl Iterator<Item = (Target, &KubeVersion)> {
        let members = self.control_plane.iter().map(|member| {
            let target = Target::ControlPlane {
                member: member.name.clone(),
            };
            (target, &member.from)
        });
        let nodes = self.slots.iter().map(|slot| {
            let target = Target::Node {
                pool: slot.pool.clone(),
                node: slot.node.clone(),
            };
            (target, &slot.from)
        });
        let tasks = self.tasks.iter();
        let tasks = tasks.map(|task| (task.target.clone(), &self.from));
        members.chain(nodes).chain(tasks)
    }

    /// The version of `target` after: that of its pool, if it is a node.
    pub fn to_of(&self, target: &Target) -> &KubeVersion {
        match target {
            Target::Node { pool, .. } => self.to_of_pool(pool),
            _ => &self.to,
        }
    }

    /// The version of the kubelets of `pool` after.
    pub fn to_of_pool(&self, pool: &str) -> &KubeVersion {
        let mut own = self.own_targets();
        let own = own.find(|(name, _)| *name == pool);
        own.map_or(&self.to, |(_, own)| own)
    }

    /// The pools that go to another version than the cluster, and that version.
    pub fn own_targets(&self) -> impl Iterator<Item = (&str, &KubeVersion)> {
        let pools = self.pools.iter();
        pools.filter_map(|pool| Some((pool.name.as_str(), pool.to.as_ref()?)))
    }

    /// The node that the plan takes back to an older version, if that is what
    /// it is for: the control plane is newer before and after.
    pub fn way_back(&self) -> Option<&str> {
        let slot = self.slots.first();
        let slot = slot.filter(|_| self.to.is_older_than(&self.from));
        slot.map(|slot| slot.node.as_str())
    }

    /// The predicted time from start to end.
    pub fn makespan(&self) -> Duration {
        self.schedule
            .iter()
            .map(|action| action.end)
            .max()
            .unwrap_or_default()
    }
}

/// A pool in a plan.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct PlannedPool {
    /// Name.
    pub name: String,
    /// Nodes in it, those at the target included.
    pub nodes: u32,
    /// How many may be away at once.
    pub width: u32,
    /// How many may be behind replacements at once, which are not away; 0 where the
    /// policy has no [surge](crate::PoolPolicy::max_surge).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub surge: u32,
    /// How long a replacement is predicted to take until it is Ready, where the policy has
    /// windows or blackouts: a drain behind one needs so much less of a
    /// [slot's length](PlannedSlot::length) (milliseconds in JSON).
    #[serde(default, skip_serializing_if = "Duration::is_zero", with = "millis")]
    pub provision: Duration,
    /// The version of its kubelets after, where policy gives it
    /// [one of its own](crate::PoolPolicy::target_of) that is not the plan's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<KubeVersion>,
}

/// Nodes that some pods cannot leave, and what these have to spare of a resource: nodes that are
/// away together never offer more of it, but for one that goes alone.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct PlannedRoom {
    /// The resource that is scarce: `cpu` (thousandths), `memory` (bytes), `pods`, or an extended
    /// one.
    pub resource: String,
    /// How much of it may be missing: what the nodes offer, less what those pods ask for, and less
    /// what policy keeps for failures.
    pub spare: u64,
    /// What each node offers to pods that may leave it, by its name.
    pub offers: BTreeMap<String, u64>,
}

impl PlannedRoom {
    /// Nodes with these `offers` have `spare` of `resource` to spare.
    pub fn new(resource: impl Into<String>, spare: u64, offers: BTreeMap<String, u64>) -> Self {
        Self {
            resource: resource.into(),
            spare,
            offers,
        }
    }
}

impl PlannedPool {
    /// A pool of `nodes` nodes of which `width` may be away.
    pub fn new(name: impl Into<String>, nodes: u32, width: u32) -> Self {
        Self {
            name: name.into(),
            nodes,
            width,
            surge: 0,
            provision: Duration::ZERO,
            to: None,
        }
    }

    /// How many of its nodes may be in work at once, behind replacements or away.
    pub fn slots(&self) -> u32 {
        self.width.saturating_add(self.surge)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A control-plane member to be upgraded.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct PlannedMember {
    /// Name.
    pub name: String,
    /// Version before.
    pub from: KubeVersion,
    /// By how much it lengthens what is predicted for the members after it, where the policy
    /// has windows or blackouts: it does not begin unless that of all members that are left is
    /// left. By P95 of what they take, if more and the planner was told what is believed of
    /// that (milliseconds in JSON).
    #[serde(default, skip_serializing_if = "Duration::is_zero", with = "millis")]
    pub length: Duration,
}

impl PlannedMember {
    /// The member `name`, now at `from`.
    pub fn new(name: impl Into<String>, from: KubeVersion) -> Self {
        Self {
            name: name.into(),
            from,
            length: Duration::ZERO,
        }
    }
}

/// A slot of a pool whose node is to be upgraded.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct PlannedSlot {
    /// Stable name of the slot: pool and number.
    pub slot: String,
    /// The pool.
    pub pool: String,
    /// The node in it when the plan was made.
    pub node: String,
    /// The kubelet's version before.
    pub from: KubeVersion,
    /// First of its pool, alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub canary: bool,
    /// The runner's own pod was on it: last of all workers, or of all
    /// control-plane nodes, and alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hosts_runner: bool,
    /// It keeps its place: in plans that replace this one as many nodes of its pool go
    /// before it as in this one, less those that are done or gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// How long it is predicted to take, or P95 of what it takes if that is more and the
    /// planner was told what is believed of it, where the policy has windows or blackouts: it
    /// does not begin unless so much is left (milliseconds in JSON).
    #[serde(default, skip_serializing_if = "Duration::is_zero", with = "millis")]
    pub length: Duration,
}

impl PlannedSlot {
    /// Slot `slot` of `pool` with `node` in it, now at `from`.
    pub fn new(
        slot: impl Into<String>,
        pool: impl Into<String>,
        node: impl Into<String>,
        from: KubeVersion,
    ) -> Self {
        Self {
            slot: slot.into(),
            pool: pool.into(),
            node: node.into(),
            from,
            canary: false,
            hosts_runner: false,
            pinned: false,
            length: Duration::ZERO,
        }
    }
}

/// An addon to be upgraded, or the second backup.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct PlannedTask {
    /// Which.
    pub target: Target,
    /// When.
    pub at: Point,
    /// As [`PlannedSlot::length`]; before the control plane as [`PlannedMember::length`],
    /// with all members after it.
    #[serde(default, skip_serializing_if = "Duration::is_zero", with = "millis")]
    pub length: Duration,
}

impl PlannedTask {
    /// `target`, at `at`.
    pub fn new(target: Target, at: Point) -> Self {
        Self {
            target,
            at,
            length: Duration::ZERO,
        }
    }
}

/// A predicted action.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct PlannedAction {
    /// What it is done to.
    pub target: Target,
    /// What is done.
    pub phase: Phase,
    /// Predicted start, from the start of the rollout (milliseconds in JSON).
    #[serde(with = "millis")]
    pub start: Duration,
    /// Predicted end, from the start of the rollout (milliseconds in JSON).
    #[serde(with = "millis")]
    pub end: Duration,
}

impl PlannedAction {
    /// `phase` on `target` from `start` to `end`.
    pub fn new(target: Target, phase: Phase, start: Duration, end: Duration) -> Self {
        Self {
            target,
            phase,
            start,
            end,
        }
    }
}

impl fmt::Display for PlannedAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>6}s {:>6}s {} {}",
            self.start.as_secs(),
            self.end.as_secs(),
            self.phase,
            self.target
        )
    }
}

pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_millis)
    }
}
