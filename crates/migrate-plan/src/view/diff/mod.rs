//! What is another in one plan than in the other.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use migrate_core::{Finding, KubeVersion, Phase, Plan, Target};
use serde::Serialize;

pub use table::DiffTable;

use super::millis;
use super::rows::rows;

/// Version of the JSON form of [`PlanDiff`].
pub const DIFF_SCHEMA: u32 = 1;

/// Two plans compared: two revisions, a plan and its edited copy, before and
/// after a change of policy.
///
/// # What it guarantees
/// - Equal plans differ in nothing ([`is_empty`](Self::is_empty)), whatever their ids.
/// - Every target of either plan that differs is there once, under an id that is the
///   same in all plans and diffs (`node.worker-1`, `member.cp-1`, `addon.cni`, `backup`).
/// - Deterministic; near linear in targets.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct PlanDiff {
    /// [`DIFF_SCHEMA`].
    pub schema: u32,
    /// The one plan.
    pub before: PlanFacts,
    /// The other.
    pub after: PlanFacts,
    /// Pools that differ, by name.
    pub pools: Vec<PoolChange>,
    /// Targets that differ, by their begin in the other plan, then in the one.
    pub targets: Vec<TargetChange>,
    /// Findings that only the other has.
    pub found: Vec<Finding>,
    /// Findings that only the one has.
    pub gone: Vec<Finding>,
}

/// What a plan is of.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct PlanFacts {
    /// Its id.
    pub id: String,
    /// Its revision.
    pub revision: u32,
    /// Its cluster.
    pub cluster: String,
    /// Lowest version before.
    pub from: KubeVersion,
    /// Version after.
    pub to: KubeVersion,
    /// Hash of its policy.
    pub policy_hash: String,
    /// Hash of its model.
    pub model_hash: String,
    /// Its predicted time (milliseconds in JSON).
    #[serde(serialize_with = "millis::one")]
    pub makespan: Duration,
    /// Its best bound (milliseconds in JSON).
    #[serde(serialize_with = "millis::some")]
    pub lower_bound: Option<Duration>,
    /// What that comes from, in words.
    pub bottleneck: Option<String>,
}

/// A pool that differs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct PoolChange {
    /// Its name.
    pub pool: String,
    /// Nodes and width, its surge included, in the one, if it has it.
    pub before: Option<(u32, u32)>,
    /// Nodes and width, its surge included, in the other, if it has it.
    pub after: Option<(u32, u32)>,
    /// Its own version after in the one, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_before: Option<KubeVersion>,
    /// Its own version after in the other, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_after: Option<KubeVersion>,
}

/// A target that differs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct TargetChange {
    /// The same in all plans.
    pub id: String,
    /// How it differs, above all.
    pub kind: ChangeKind,
    /// Its place among what both plans have is another.
    pub reordered: bool,
    /// As it is in the one.
    pub before: Option<TargetSeen>,
    /// As it is in the other.
    pub after: Option<TargetSeen>,
}

/// How a target differs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum ChangeKind {
    /// Only the other has it.
    Added,
    /// Only the one has it; the other says that it is at the target.
    Done,
    /// Only the one has it.
    LeftOut,
    /// It begins earlier.
    Earlier,
    /// It begins later.
    Later,
    /// It could not begin, and now may.
    NowBegins,
    /// It cannot begin any more.
    CannotBegin,
    /// It begins when it did, and is another otherwise: its place in the order, its pool,
    /// its version before, its length, its role.
    Other,
}

/// A target in a plan.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct TargetSeen {
    /// Which.
    pub target: Target,
    /// Its place in the order of the plan, from 0: members, nodes, then tasks.
    pub place: u32,
    /// Its predicted begin (milliseconds in JSON); absent if it never begins.
    #[serde(serialize_with = "millis::some")]
    pub start: Option<Duration>,
    /// And its end.
    #[serde(serialize_with = "millis::some")]
    pub end: Option<Duration>,
    /// Its version before, unless it is a task.
    pub from: Option<KubeVersion>,
    /// Its version after, where that is one of its pool's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<KubeVersion>,
    /// First of its pool, alone.
    pub canary: bool,
    /// Left alone after that, and verified once more.
    pub soaks: bool,
    /// The runner's own pod is on it.
    pub hosts_runner: bool,
    /// It keeps its place.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

impl PlanDiff {
    /// What is another in `after` than in `before`.
    #[must_use]
    pub fn between(before: &Plan, after: &Plan) -> Self {
        let only = |of: &Plan, other: &Plan| {
            let mut only = of.findings.clone();
            only.retain(|finding| !other.findings.contains(finding));
            only
        };
        Self {
            schema: DIFF_SCHEMA,
            before: facts(before),
            after: facts(after),
            pools: pools(before, after),
            targets: targets(before, after),
            found: only(after, before),
            gone: only(before, after),
        }
    }

    /// Whether the plans are alike in all that is compared, but for id, revision and
    /// the hash of the model.
    pub fn is_empty(&self) -> bool {
        let (a, b) = (&self.before, &self.after);
        let alike = (&a.cluster, &a.from, &a.to, &a.policy_hash, a.makespan)
            == (&b.cluster, &b.from, &b.to, &b.policy_hash, b.makespan);
        let bounds = (a.lower_bound, &a.bottleneck) == (b.lower_bound, &b.bottleneck);
        let lists = self.pools.is_empty() && self.targets.is_empty();
        alike && bounds && lists && self.found.is_empty() && self.gone.is_empty()
    }
}

fn facts(plan: &Plan) -> PlanFacts {
    let best = plan.bounds.as_ref().and_then(|bounds| bounds.best());
    PlanFacts {
        id: plan.id.clone(),
        revision: plan.revision,
        cluster: plan.cluster.to_string(),
        from: plan.from.clone(),
        to: plan.to.clone(),
        policy_hash: plan.policy_hash.clone(),
        model_hash: plan.model_hash.clone(),
        makespan: plan.makespan(),
        lower_bound: best.map(|best| best.time),
        bottleneck: best.map(|best| best.kind.to_string()),
    }
}

fn pools(before: &Plan, after: &Plan) -> Vec<PoolChange> {
    let of = |plan: &Plan| {
        let pools = plan.pools.iter();
        let pools = pools.map(|pool| {
            let shape = (pool.nodes, pool.slots());
            (pool.name.clone(), (shape, pool.to.clone()))
        });
        pools.collect::<BTreeMap<_, _>>()
    };
    let (mut before, mut after) = (of(before), of(after));
    let names: BTreeSet<String> = before.keys().chain(after.keys()).cloned().collect();
    let changes = names.into_iter().filter_map(|pool| {
        let (was, is) = (before.remove(&pool), after.remove(&pool));
        let differs = was != is;
        let (before, to_before) = was.unzip();
        let (after, to_after) = is.unzip();
        differs.then(|| PoolChange {
            pool,
            before,
            after,
            to_before: to_before.flatten(),
            to_after: to_after.flatten(),
        })
    });
    changes.collect()
}

/// The same in all plans: the node of another pool is the same node.
fn stable_id(target: &Target) -> String {
    match target {
        Target::Addon { name } => format!("addon.{name}"),
        Target::Backup => "backup".to_owned(),
        Target::ControlPlane { member } => format!("member.{member}"),
        Target::Node { node, .. } => format!("node.{node}"),
        other => other.to_string(),
    }
}

/// What a plan has to do, by its stable ids.
fn seen(plan: &Plan) -> BTreeMap<String, TargetSeen> {
    let places: BTreeMap<Target, u32> = plan.targets().map(|(target, _)| target).zip(0..).collect();
    let all = rows(plan).into_iter().map(|row| {
        let slot = row.slot;
        let seen = TargetSeen {
            place: places.get(&row.target).copied().unwrap_or(u32::MAX),
            start: row.start(),
            end: row.end(),
            from: row.from.cloned(),
            to: row.to.filter(|to| **to != plan.to).cloned(),
            canary: slot.is_some_and(|slot| slot.canary),
            soaks: row.action(Phase::Confirm).is_some(),
            hosts_runner: slot.is_some_and(|slot| slot.hosts_runner),
            pinned: slot.is_some_and(|slot| slot.pinned),
            target: row.target,
        };
        (stable_id(&seen.target), seen)
    });
    all.collect()
}

fn targets(before: &Plan, after: &Plan) -> Vec<TargetChange> {
    let (old, mut new) = (seen(before), seen(after));
    let both = old
        .iter()
        .filter_map(|(id, was)| Some((was.place, new.get(id)?.place)));
    let moved = out_of_order(both.collect());
    let mut changes: Vec<TargetChange> = Vec::new();
    for (id, was) in old {
        let reordered = moved.contains(&was.place);
        let is = new.remove(&id);
        let kind = match &is {
            None if after.at_target.contains(&at_target(&was.target)) => ChangeKind::Done,
            None => ChangeKind::LeftOut,
            Some(is) => match (was.start, is.start) {
                (None, Some(_)) => ChangeKind::NowBegins,
                (Some(_), None) => ChangeKind::CannotBegin,
                (Some(was), Some(is)) if is < was => ChangeKind::Earlier,
                (Some(was), Some(is)) if is > was => ChangeKind::Later,
                _ => {
                    // Places shift whenever another is added or left out.
                    let place = is.place;
                    let alike = TargetSeen {
                        place,
                        ..was.clone()
                    } == *is;
                    if alike && !reordered {
                        continue;
                    }
                    ChangeKind::Other
                }
            },
        };
        let (before, after) = (Some(was), is);
        changes.push(TargetChange {
            id,
            kind,
            reordered,
            before,
            after,
        });
    }
    changes.extend(new.into_iter().map(|(id, is)| TargetChange {
        id,
        kind: ChangeKind::Added,
        reordered: false,
        before: None,
        after: Some(is),
    }));
    let key = |change: &TargetChange| {
        let start = |seen: &Option<TargetSeen>| {
            let start = seen.as_ref().and_then(|seen| seen.start);
            start.unwrap_or(Duration::MAX)
        };
        (start(&change.after), start(&change.before))
    };
    changes.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id)));
    changes
}

/// As a plan lists it among what is done.
fn at_target(target: &Target) -> String {
    match target {
        Target::Node { node, .. } => node.clone(),
        other => other.to_string(),
    }
}

/// The places before of those that have to move for the order before to become
/// the order after, as few as may be: all but a longest increasing subsequence.
fn out_of_order(mut places: Vec<(u32, u32)>) -> BTreeSet<u32> {
    places.sort_unstable();
    // By length of a subsequence: the entry that ends it lowest; and of each entry the one
    // before it.
    let mut ends: Vec<usize> = Vec::new();
    let mut previous: Vec<Option<usize>> = Vec::with_capacity(places.len());
    for (at, (_, after)) in places.iter().enumerate() {
        let length = ends.partition_point(|end| places[*end].1 < *after);
        previous.push(length.checked_sub(1).map(|before| ends[before]));
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut moved: BTreeSet<u32> = places.iter().map(|(before, _)| *before).collect();
    let mut kept = ends.last().copied();
    while let Some(at) = kept {
        moved.remove(&places[at].0);
        kept = previous[at];
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::out_of_order;

    const NONE: [u32; 0] = [];

    #[test]
    fn as_few_as_may_be_are_out_of_order() {
        let moved = |after: &[u32]| {
            let places = (0..).zip(after.iter().copied()).collect();
            out_of_order(places).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(moved(&[0, 1, 2, 3]), NONE);
        // The first went to the end: it alone moved.
        assert_eq!(moved(&[3, 0, 1, 2]), [0]);
        // With gaps, where others were added.
        assert_eq!(moved(&[0, 5, 9]), NONE);
        assert_eq!(moved(&[1, 0, 3, 2]).len(), 2);
        assert_eq!(moved(&[]), NONE);
    }
}
