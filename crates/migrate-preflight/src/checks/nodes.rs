//! Nodes and control-plane members that are not fit to start from.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use migrate_core::{ClusterModel, Finding, KubeVersion, Node, ObjectName, Policy, Severity};
use migrate_kube::{CordonMark, get, resources};

use super::{Answer, codes, names};

/// Requests in flight.
const CONCURRENCY: usize = 8;

/// Findings about nodes; `run` is the run that is about to start, whose own
/// cordons are no concern.
pub(crate) async fn check(
    client: &Client,
    model: &ClusterModel,
    policy: &Policy,
    target: &KubeVersion,
    run: &str,
) -> Answer {
    let cordoned = model.nodes.iter().filter(|node| node.unschedulable);
    let reads: Vec<_> = cordoned.map(|node| mark_of(client, &node.name)).collect();
    let marks = stream::iter(reads)
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(judge(model, policy, target, run, &marks))
}

/// Who has cordoned the node; no longer known if the node is gone.
async fn mark_of<'a>(
    client: &Client,
    node: &'a str,
) -> Result<(&'a str, Option<CordonMark>), migrate_kube::Error> {
    let read = get::<resources::Node>(client, node).await?;
    Ok((node, read.as_ref().and_then(CordonMark::of)))
}

fn judge(
    model: &ClusterModel,
    policy: &Policy,
    target: &KubeVersion,
    run: &str,
    marks: &BTreeMap<&str, Option<CordonMark>>,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = model
        .control_plane
        .iter()
        .filter(|member| !member.ready)
        .map(|member| {
            Finding::new(
                codes::MEMBER_NOT_READY,
                Severity::Blocker,
                ObjectName::cluster("ControlPlaneMember", &member.name),
                "its API server is not ready, and members are upgraded one at a time so that the \
                 others serve",
                "bring it back before another member is taken down",
            )
        })
        .collect();
    let mut away = BTreeSet::new();
    for node in &model.nodes {
        if !node.ready {
            away.insert(node.name.as_str());
            findings.push(not_ready(node, node.kubelet_version.has_reached(target)));
        }
        let mark = marks.get(node.name.as_str()).and_then(Option::as_ref);
        let is_ours = mark.is_some_and(|mark| mark.run == run && !mark.was_unschedulable);
        if node.unschedulable && !is_ours {
            away.insert(node.name.as_str());
            findings.push(cordoned(node, mark));
        }
    }
    findings.extend(pools(model, policy, target, &away));
    findings
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

fn cordoned(node: &Node, mark: Option<&CordonMark>) -> Finding {
    let by = match mark {
        Some(mark) if !mark.was_unschedulable => format!("run {}", mark.run),
        _ => "someone else".to_owned(),
    };
    Finding::new(
        codes::CORDONED,
        Severity::Warning,
        ObjectName::cluster("Node", &node.name),
        format!("{by} has cordoned it: it stays so, and counts as away in its pool"),
        "uncordon it if nobody needs that any more; a run left unfinished is resumed or adopted",
    )
}

/// Pools in which no node could ever be started.
fn pools(
    model: &ClusterModel,
    policy: &Policy,
    target: &KubeVersion,
    away: &BTreeSet<&str>,
) -> Vec<Finding> {
    let mut pools: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    for node in &model.nodes {
        pools
            .entry(policy.pools.pool_of(node))
            .or_default()
            .push(node);
    }
    let mut findings = Vec::new();
    for (pool, nodes) in pools {
        let size = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        let width = policy.pools.width(pool, size);
        let is_away = |node: &&&Node| away.contains(node.name.as_str());
        let missing: Vec<&str> = nodes
            .iter()
            .filter(is_away)
            .map(|n| n.name.as_str())
            .collect();
        let waits = nodes
            .iter()
            .any(|node| !is_away(&node) && !node.kubelet_version.has_reached(target));
        if waits && missing.len() >= width as usize {
            findings.push(Finding::new(
                codes::POOL_AWAY,
                Severity::Blocker,
                ObjectName::cluster("Pool", pool),
                format!(
                    "{} of its {size} nodes are away already ({}) and {width} may be: the others \
                     could never start",
                    missing.len(),
                    names(missing.iter().copied())
                ),
                format!(
                    "bring them back, or let {} be away: pools.max-unavailable-of",
                    missing.len() + 1
                ),
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use migrate_core::model::ControlPlaneMember;
    use migrate_core::{ClusterId, IntOrPercent, Moment};

    use super::*;

    #[test]
    fn nodes_that_are_away_stop_their_pool() {
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        let mut member = ControlPlaneMember::new("cp", "v1.36.0".parse().unwrap());
        member.ready = false;
        model.control_plane.push(member);
        for name in ["a", "b", "c", "d"] {
            model
                .nodes
                .push(Node::new(name, "v1.36.0".parse().unwrap()));
        }
        model.nodes[0].ready = false;
        model.nodes[1].unschedulable = true;
        let target = "v1.37.0".parse().unwrap();
        let found = |policy: &Policy, mark: Option<CordonMark>| -> Vec<String> {
            let marks = BTreeMap::from([("b", mark)]);
            let findings = judge(&model, policy, &target, "r2", &marks);
            findings
                .iter()
                .map(|f| format!("{} {} {}", f.code, f.severity, f.object.name))
                .collect()
        };
        let member = "KM-NODE-004 blocker cp";
        let (ready, cordoned) = ("KM-NODE-001 blocker a", "KM-NODE-002 warning b");
        let mut policy = Policy::default();
        assert_eq!(
            found(&policy, None),
            [member, ready, cordoned, "KM-NODE-003 blocker default"]
        );
        policy.pools.max_unavailable = IntOrPercent::Int(2);
        assert_eq!(
            found(&policy, None),
            [member, ready, cordoned, "KM-NODE-003 blocker default"]
        );
        policy.pools.max_unavailable = IntOrPercent::Int(3);
        assert_eq!(found(&policy, None), [member, ready, cordoned]);

        let read = |run: &str, before: bool| {
            let json = serde_json::json!({ "run": run, "wasUnschedulable": before });
            Some(serde_json::from_value(json).unwrap())
        };
        assert_eq!(
            found(&policy, read("r2", false)),
            [member, ready],
            "our own"
        );
        assert_eq!(
            found(&policy, read("r2", true)),
            [member, ready, cordoned],
            "theirs before"
        );
        assert_eq!(
            found(&policy, read("r1", false)),
            [member, ready, cordoned],
            "another run's"
        );
    }
}
