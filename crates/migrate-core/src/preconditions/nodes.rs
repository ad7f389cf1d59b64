//! Nodes and control-plane members that are not fit to start from.

use std::collections::{BTreeMap, BTreeSet};

use super::codes;
use crate::impossible::{names, plural};
use crate::policy::{CONTROL_PLANE_POOL, DEFAULT_POOL};
use crate::{ClusterModel, Finding, IntOrPercent, KubeVersion, Node, ObjectName, Policy, Severity};

/// Who has cordoned a node.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CordonOwner {
    /// The run that is about to start: it gives the node back by itself, so
    /// the cordon is no concern.
    ThisRun,
    /// Another run, by its id.
    OtherRun(String),
    /// A person, or another program.
    Somebody,
    /// Nobody has looked: the model alone does not say.
    Unknown,
}

/// What is wrong with nodes and members of `model` that are to go to `target`, or to
/// the target of their pool. `owner` is asked by name about nodes that are cordoned.
///
/// # Nodes cordoned by others
/// Such a node can be upgraded itself: it needs no further slot of its pool, so
/// [`Policy`]'s width does not keep it, and the planner lets it go first. It
/// still blocks a pool of width 1 (`KM-NODE-003`) if *other* nodes are to be
/// upgraded after it. Our drain empties it and the cordon of others, which is
/// never lifted, keeps it empty, so the next node would be the second one out
/// of service, and the width promises that there is one. The run would come to
/// a standstill behind it until a person lifts the cordon; that is said before
/// the start and not in the middle. Who means to lift it in time waives the
/// code.
pub fn check_nodes(
    model: &ClusterModel,
    policy: &Policy,
    target: &KubeVersion,
    owner: impl Fn(&str) -> CordonOwner,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = model
        .control_plane
        .iter()
        .filter(|member| !member.ready)
        .map(|member| member_not_ready(&member.name))
        .collect();
    let mut away: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for node in &model.nodes {
        if !node.ready {
            findings.push(not_ready(node, !is_to_do(policy, node, target)));
        }
        if policy.pools.asks_for_the_control_plane(node) {
            findings.push(of_no_pool(node, &policy.pools.label));
        }
        let owner = node.unschedulable.then(|| owner(&node.name));
        let foreign = owner.filter(|owner| *owner != CordonOwner::ThisRun);
        if let Some(owner) = &foreign {
            findings.push(cordoned(node, owner));
        }
        if !node.ready || foreign.is_some() {
            let of_pool = away.entry(policy.pools.pool_of(node)).or_default();
            of_pool.insert(&node.name);
        }
    }
    if !away.is_empty() {
        findings.extend(pools(model, policy, target, &away));
    }
    findings.extend(reserves(model, policy, target));
    findings
}

fn is_to_do(policy: &Policy, node: &Node, target: &KubeVersion) -> bool {
    let target = policy.pools.target_of_node(node, target);
    !node.kubelet_version.has_reached(target)
}

/// Pools that keep for failures whatever they can spare, so that nothing of them
/// could ever begin.
fn reserves(model: &ClusterModel, policy: &Policy, target: &KubeVersion) -> Vec<Finding> {
    if policy.pools.failure_reserve == IntOrPercent::Int(0) {
        return Vec::new();
    }
    // Nodes of each, and those to be upgraded.
    let mut pools: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for node in &model.nodes {
        let (size, left) = pools.entry(policy.pools.pool_of(node)).or_default();
        *size = size.saturating_add(1);
        *left = left.saturating_add(u32::from(is_to_do(policy, node, target)));
    }
    let pools = pools.into_iter().filter_map(|(pool, (size, left))| {
        let width = policy.pools.width(pool, size);
        let reserve = policy.pools.reserve(pool, size);
        // Behind replacements nothing is taken of it.
        let has_surge = policy.pools.surge(pool, size) > 0;
        (left > 0 && reserve >= width && !has_surge).then(|| {
            Finding::new(
                codes::ALL_RESERVED,
                Severity::Blocker,
                ObjectName::cluster("Pool", pool),
                format!(
                    "{width} of its {size} nodes may be away and {reserve} of these are kept for \
                     failures: {} could never start",
                    plural(left as usize, "node", "nodes"),
                ),
                format!(
                    "let {} be away (pools.max-unavailable-of), or keep fewer: \
                     pools.failure-reserve",
                    reserve.saturating_add(1)
                ),
            )
        })
    });
    pools.collect()
}

fn of_no_pool(node: &Node, label: &str) -> Finding {
    Finding::new(
        codes::POOL_RESERVED,
        Severity::Warning,
        ObjectName::cluster("Node", &node.name),
        format!(
            "its label {label} says {CONTROL_PLANE_POOL}, which is the pool of the control plane's \
             nodes, and it is a worker: it is counted to the pool {DEFAULT_POOL}"
        ),
        "give its label another value, or none",
    )
}

fn member_not_ready(member: &str) -> Finding {
    Finding::new(
        codes::MEMBER_NOT_READY,
        Severity::Blocker,
        ObjectName::cluster("ControlPlaneMember", member),
        "its API server is not ready, and members are upgraded one at a time so that the others \
         serve",
        "bring it back before another member is taken down",
    )
}

fn not_ready(node: &Node, is_done: bool) -> Finding {
    let (severity, evidence) = if is_done {
        (
            Severity::Warning,
            "it is not Ready; nothing is to be done to it, and it counts as away",
        )
    } else {
        (
            Severity::Blocker,
            "it is not Ready: its pods cannot be seen to end, so it cannot be drained, and it \
             counts as away",
        )
    };
    Finding::new(
        codes::NOT_READY,
        severity,
        ObjectName::cluster("Node", &node.name),
        evidence,
        "repair it or remove it from the cluster",
    )
}

fn cordoned(node: &Node, owner: &CordonOwner) -> Finding {
    let evidence = match owner {
        CordonOwner::OtherRun(run) => {
            format!("run {run} has cordoned it: it stays so, and counts as away in its pool")
        }
        CordonOwner::Somebody => {
            "someone else has cordoned it: it stays so, and counts as away in its pool".to_owned()
        }
        CordonOwner::ThisRun | CordonOwner::Unknown => {
            "it is cordoned, and counts as away in its pool until it is not".to_owned()
        }
    };
    Finding::new(
        codes::CORDONED,
        Severity::Warning,
        ObjectName::cluster("Node", &node.name),
        evidence,
        "uncordon it if nobody needs that any more; a run left unfinished is resumed or adopted",
    )
}

/// Pools with nodes that could never be started; `away` names those that are
/// away, by pool.
fn pools(
    model: &ClusterModel,
    policy: &Policy,
    target: &KubeVersion,
    away: &BTreeMap<&str, BTreeSet<&str>>,
) -> Vec<Finding> {
    let mut pools: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    for node in &model.nodes {
        let pool = policy.pools.pool_of(node);
        if away.contains_key(pool) {
            pools.entry(pool).or_default().push(node);
        }
    }
    let mut findings = Vec::new();
    for ((pool, nodes), missing) in pools.into_iter().zip(away.values()) {
        let size = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        // Behind replacements they start whatever is away.
        if policy.pools.surge(pool, size) > 0 {
            continue;
        }
        let width = policy.pools.width(pool, size) as usize;
        // How many may be away if it is to start, itself included. One that is
        // away already takes no further slot, and one that is not Ready has a
        // blocker of its own.
        let needed = nodes
            .iter()
            .filter(|node| node.ready && is_to_do(policy, node, target))
            .map(|node| missing.len() + usize::from(!missing.contains(node.name.as_str())))
            .filter(|needed| *needed > width);
        let never = needed.clone().count();
        if let Some(enough) = needed.max() {
            findings.push(Finding::new(
                codes::POOL_AWAY,
                Severity::Blocker,
                ObjectName::cluster("Pool", pool),
                format!(
                    "{} of its {size} nodes are away already ({}) and {width} may be: {} could \
                     never start",
                    missing.len(),
                    names(missing.iter().copied()),
                    plural(never, "node", "nodes"),
                ),
                format!("bring them back, or let {enough} be away: pools.max-unavailable-of"),
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use crate::{ClusterId, ControlPlaneMember, Moment};

    use super::*;

    const OLD: &str = "v1.36.0";
    const NEW: &str = "v1.37.0";

    fn model(nodes: &[&str]) -> ClusterModel {
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        let member = ControlPlaneMember::new("cp", OLD.parse().unwrap());
        model.control_plane.push(member);
        let nodes = nodes
            .iter()
            .map(|name| Node::new(*name, OLD.parse().unwrap()));
        model.nodes.extend(nodes);
        model
    }

    fn found(model: &ClusterModel, width: u32, owner: CordonOwner) -> Vec<String> {
        let mut policy = Policy::default();
        policy.pools.max_unavailable = IntOrPercent::Int(width);
        let target = NEW.parse().unwrap();
        let findings = check_nodes(model, &policy, &target, |_| owner.clone());
        findings
            .iter()
            .map(|f| format!("{} {} {}", f.code, f.severity, f.object.name))
            .collect()
    }

    #[test]
    fn nodes_that_are_away_stop_their_pool() {
        let mut model = model(&["a", "b", "c", "d"]);
        model.control_plane[0].ready = false;
        model.nodes[0].ready = false;
        model.nodes[1].unschedulable = true;
        let member = "KM-NODE-004 blocker cp";
        let (ready, cordoned) = ("KM-NODE-001 blocker a", "KM-NODE-002 warning b");
        let pool = "KM-NODE-003 blocker default";
        for width in 1..3 {
            assert_eq!(
                found(&model, width, CordonOwner::Somebody),
                [member, ready, cordoned, pool]
            );
        }
        for owner in [CordonOwner::Unknown, CordonOwner::OtherRun("r1".to_owned())] {
            assert_eq!(found(&model, 3, owner), [member, ready, cordoned]);
        }
        assert_eq!(found(&model, 3, CordonOwner::ThisRun), [member, ready]);
        assert_eq!(found(&model, 2, CordonOwner::ThisRun), [member, ready]);
    }

    #[test]
    fn a_worker_of_the_control_planes_pool_or_of_none_is_counted_to_the_default() {
        let mut model = model(&["a", "b", "c"]);
        let policy = Policy::default();
        let pools = [CONTROL_PLANE_POOL, "", "red"];
        for (node, pool) in model.nodes.iter_mut().zip(pools) {
            let label = policy.pools.label.clone();
            node.labels.insert(label, pool.to_owned());
        }
        let nodes = model.nodes.iter();
        let counted: Vec<&str> = nodes.map(|node| policy.pools.pool_of(node)).collect();
        assert_eq!(counted, [DEFAULT_POOL, DEFAULT_POOL, "red"]);
        let told = found(&model, 1, CordonOwner::Unknown);
        assert_eq!(told, ["KM-NODE-005 warning a"]);
    }

    #[test]
    fn a_cordoned_node_keeps_others_from_starting_but_not_itself() {
        let mut model = model(&["a", "b"]);
        model.nodes[0].unschedulable = true;
        let blocked = ["KM-NODE-002 warning a", "KM-NODE-003 blocker default"];
        assert_eq!(found(&model, 1, CordonOwner::Somebody), blocked);
        // It is the only one left, and is out of service as it is.
        model.nodes[1].kubelet_version = NEW.parse().unwrap();
        assert_eq!(found(&model, 1, CordonOwner::Somebody), blocked[..1]);
        // Beside another one that is away it would be one too many.
        model.nodes[1].unschedulable = true;
        let findings = found(&model, 1, CordonOwner::Somebody);
        assert_eq!(findings.last().unwrap(), blocked[1]);
        assert_eq!(found(&model, 2, CordonOwner::Somebody).len(), 2);
    }

    #[test]
    fn what_is_done_waits_for_nothing() {
        let mut model = model(&["a", "b"]);
        for node in &mut model.nodes {
            node.ready = false;
            node.kubelet_version = NEW.parse().unwrap();
        }
        let warnings = ["KM-NODE-001 warning a", "KM-NODE-001 warning b"];
        assert_eq!(found(&model, 1, CordonOwner::Unknown), warnings);
    }

    #[test]
    fn a_pool_that_is_held_back_waits_for_nothing() {
        let mut model = model(&["a", "b"]);
        model.nodes[0].unschedulable = true;
        let blocks = |policy: &Policy| {
            let target = NEW.parse().unwrap();
            let found = check_nodes(&model, policy, &target, |_| CordonOwner::Unknown);
            found.iter().any(|f| f.code == codes::POOL_AWAY)
        };
        let mut policy = Policy::default();
        assert!(blocks(&policy));
        let own = OLD.parse().unwrap();
        policy.pools.target_of.insert(DEFAULT_POOL.to_owned(), own);
        assert!(!blocks(&policy));
    }

    #[test]
    fn a_reserve_of_all_that_a_pool_can_spare_is_a_blocker() {
        let mut policy = Policy::default();
        policy.pools.max_unavailable = IntOrPercent::Int(2);
        let found = |policy: &Policy| {
            let (model, target) = (model(&["a", "b", "c"]), NEW.parse().unwrap());
            let found = check_nodes(&model, policy, &target, |_| CordonOwner::Unknown);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for (reserve, blocks) in [("1", false), ("2", true), ("34%", true), ("33%", false)] {
            policy.pools.failure_reserve = reserve.parse().unwrap();
            let found = found(&policy);
            assert_eq!(found.len(), usize::from(blocks), "{reserve}: {found:?}");
        }
        policy.pools.failure_reserve = IntOrPercent::Int(2);
        let found = found(&policy);
        assert!(
            found[0].starts_with("KM-NODE-006 blocker Pool default"),
            "{found:?}"
        );
        assert!(found[0].contains("3 nodes could never start"), "{found:?}");
    }
}
