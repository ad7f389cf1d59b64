//! Versions that meet while the plan is carried out.

use std::collections::BTreeMap;

use migrate_core::{ClusterModel, KubeVersion, ObjectName, Plan, Policy};

use super::targets::may_meet;
use super::{Report, codes};

/// No member goes further than one minor, nor back, and no kubelet meets an API server that
/// it may not meet: those that stay behind the plan's, and those that change the ones there are.
///
/// What breaks the rules as it stands already is told of the cluster, not of the plan.
pub(super) fn check(plan: &Plan, model: &ClusterModel, policy: &Policy, report: &mut Report) {
    stands_as_planned(plan, model, report);
    // While members go to the plan's version, both are there, and a kubelet may reach either.
    let renewed = (!plan.control_plane.is_empty()).then_some(&plan.to);
    for member in &model.control_plane {
        let Some(to) = renewed else { break };
        let ahead = member.version.minor_distance(to);
        if !ahead.is_some_and(|ahead| (0..=1).contains(&ahead)) {
            let object = ObjectName::cluster("ControlPlaneMember", &member.name);
            let evidence = format!(
                "it is at {}, and the plan brings API servers of {to}, which is not the same \
                 minor nor the next one",
                member.version
            );
            report.broken(codes::SKEW, object, evidence);
        }
    }
    let slots = plan.slots.iter();
    let slots: BTreeMap<&str, &str> = slots.map(|s| (&*s.node, &*s.pool)).collect();
    for node in &model.nodes {
        let now = &node.kubelet_version;
        if let Some(to) = renewed.filter(|to| !may_meet(now, to)) {
            let object = ObjectName::cluster("Node", &node.name);
            let evidence = format!("its kubelet is at {now} when the first API server is at {to}");
            report.broken(codes::SKEW, object, evidence);
        }
        let is_planned = slots.get(node.name.as_str()) == Some(&policy.pools.pool_of(node));
        if renewed.is_some() || !is_planned {
            continue;
        }
        let to = plan.to_of_pool(policy.pools.pool_of(node));
        let servers = model.control_plane.iter().map(|member| &member.version);
        if let Some(server) = servers.into_iter().find(|server| !may_meet(to, server)) {
            let object = ObjectName::cluster("Node", &node.name);
            let evidence = format!("its kubelet goes to {to} next to an API server of {server}");
            report.broken(codes::SKEW, object, evidence);
        }
    }
}

/// What the plan takes to be there is there.
fn stands_as_planned(plan: &Plan, model: &ClusterModel, report: &mut Report) {
    let nodes = model.nodes.iter();
    let nodes: BTreeMap<&str, &KubeVersion> = nodes
        .map(|node| (&*node.name, &node.kubelet_version))
        .collect();
    let members = model.control_plane.iter();
    let members: BTreeMap<&str, &KubeVersion> = members
        .map(|member| (&*member.name, &member.version))
        .collect();
    // A node that goes back begins where it was to go, wherever it got to.
    let planned_nodes = plan.slots.iter().filter(|_| plan.way_back().is_none());
    let planned_nodes = planned_nodes.map(|slot| ("Node", &slot.node, &slot.from, &nodes));
    let planned = plan.control_plane.iter();
    let planned = planned.map(|m| ("ControlPlaneMember", &m.name, &m.from, &members));
    for (kind, name, from, there) in planned.chain(planned_nodes) {
        if let Some(now) = there.get(name.as_str()).filter(|now| **now != from) {
            let evidence = format!("it is planned to begin at {from}, and is at {now}");
            report.broken(codes::STRUCTURE, ObjectName::cluster(kind, name), evidence);
        }
    }
}
