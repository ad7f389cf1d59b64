//! Whether a plan is of this cluster and names what is there.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::{ClusterModel, KubeVersion, Node, ObjectName, Plan, Policy, Severity, listed};

use super::targets::Targets;
use super::widths::width;
use super::{Report, codes};

/// How many names a list shows.
const NAMES_SHOWN: usize = 5;

pub(super) fn check(plan: &Plan, model: &ClusterModel, policy: &Policy, report: &mut Report) {
    let targets = Targets::of(plan, policy);
    targets.check(plan, model, policy, report);
    let itself = || ObjectName::cluster("Plan", &plan.id);
    if plan.cluster != model.cluster {
        let evidence = format!(
            "it is for cluster {}, this is {}",
            plan.cluster, model.cluster
        );
        report.broken(codes::OTHER, itself(), evidence);
    }
    if !policy.has_identity(&plan.policy_hash) {
        let (made, hash) = (&plan.policy_hash, policy.identity());
        let evidence = format!("it was made under policy {made}, this is {hash}");
        report.broken(codes::OTHER, itself(), evidence);
    }
    let identity = plan.identity();
    if plan.id != identity {
        let evidence = format!("what it fixes has the id {identity}: it was edited by hand");
        report.add(codes::EDITED, Severity::Info, itself(), evidence);
    }
    pools(plan, model, policy, report);
    slots(plan, model, policy, &targets, report);
    members(plan, model, report);
}

fn pools(plan: &Plan, model: &ClusterModel, policy: &Policy, report: &mut Report) {
    let mut sizes: BTreeMap<&str, u32> = BTreeMap::new();
    for node in &model.nodes {
        *sizes.entry(policy.pools.pool_of(node)).or_default() += 1;
    }
    for pool in &plan.pools {
        let size = sizes.remove(pool.name.as_str()).unwrap_or(0);
        let width = width(pool, size, policy);
        let surge = policy.pools.surge(&pool.name, size);
        if pool.surge > surge {
            let object = ObjectName::cluster("Pool", &pool.name);
            let evidence = format!(
                "{} of its nodes may be behind replacements, and policy allows {surge}",
                pool.surge
            );
            report.broken(codes::STRUCTURE, object, evidence);
        }
        if pool.nodes != size || pool.width > width {
            let object = ObjectName::cluster("Pool", &pool.name);
            let evidence = format!(
                "{} nodes of which {} may be away: there are {size}, and policy allows {width}",
                pool.nodes, pool.width
            );
            report.broken(codes::STRUCTURE, object, evidence);
        }
    }
    for (pool, size) in sizes {
        let object = ObjectName::cluster("Pool", pool);
        report.broken(
            codes::STRUCTURE,
            object,
            format!("its {size} nodes are in no pool"),
        );
    }
}

fn slots(
    plan: &Plan,
    model: &ClusterModel,
    policy: &Policy,
    targets: &Targets<'_>,
    report: &mut Report,
) {
    let way_back = plan.way_back();
    let is_to_change = |node: &Node| node.is_to_change(targets.of_node(node, policy), way_back);
    let nodes: BTreeMap<&str, _> = model.nodes.iter().map(|n| (n.name.as_str(), n)).collect();
    let mut planned = BTreeSet::new();
    for slot in &plan.slots {
        let mut wrong = |evidence: String| {
            let object = ObjectName::cluster("Node", &slot.node);
            report.broken(codes::STRUCTURE, object, evidence);
        };
        if !planned.insert(slot.node.as_str()) {
            wrong("it is in two slots".to_owned());
        }
        let Some(node) = nodes.get(slot.node.as_str()) else {
            wrong("the cluster has no such node".to_owned());
            continue;
        };
        let pool = policy.pools.pool_of(node);
        if pool != slot.pool {
            wrong(format!(
                "it is planned in pool {}, and is in {pool}",
                slot.pool
            ));
        }
        if !is_to_change(node) {
            wrong(format!("it is at {} already", node.kubelet_version));
        }
        // A node that goes back begins where it was to go, wherever it got to.
        if way_back.is_none() && slot.from != node.kubelet_version {
            wrong(otherwise(&slot.from, &node.kubelet_version));
        }
    }
    let is_missing = |name: &&str| !planned.contains(name);
    let to_change = model.nodes.iter();
    let to_change = to_change.filter(|node| is_to_change(node));
    let missing = to_change.map(|node| node.name.as_str()).filter(is_missing);
    left_out(plan, "nodes", missing.collect(), report);
}

fn members(plan: &Plan, model: &ClusterModel, report: &mut Report) {
    let mut planned = BTreeSet::new();
    for member in &plan.control_plane {
        let mut wrong = |evidence: String| {
            let object = ObjectName::cluster("ControlPlaneMember", &member.name);
            report.broken(codes::STRUCTURE, object, evidence);
        };
        if !planned.insert(member.name.as_str()) {
            wrong("it is there twice".to_owned());
        }
        let mut there = model.control_plane.iter();
        match there.find(|there| there.name == member.name) {
            None => wrong("the control plane has no such member".to_owned()),
            Some(now) if now.version != member.from => {
                wrong(otherwise(&member.from, &now.version));
            }
            Some(_) => {}
        }
    }
    if plan.way_back().is_some() {
        return;
    }
    let to_change = model.control_plane.iter();
    let to_change = to_change.filter(|member| !member.version.has_reached(&plan.to));
    let missing = to_change.map(|member| member.name.as_str());
    let missing: Vec<&str> = missing.filter(|name| !planned.contains(name)).collect();
    // A kubelet must not be newer than any of them.
    if !missing.is_empty() && !plan.slots.is_empty() {
        let object = ObjectName::cluster("ControlPlaneMember", missing[0]);
        let evidence = "nodes are upgraded and it is left behind".to_owned();
        report.broken(codes::CONTROL_PLANE, object, evidence);
    }
    left_out(plan, "members", missing, report);
}

fn otherwise(planned: &KubeVersion, now: &KubeVersion) -> String {
    format!("it is planned to begin at {planned}, and is at {now}")
}

fn left_out(plan: &Plan, what: &str, names: Vec<&str>, report: &mut Report) {
    if names.is_empty() {
        return;
    }
    let own = match plan.own_targets().next() {
        Some(_) => ", nor at their pool's own target,",
        None => "",
    };
    let evidence = format!(
        "{what} that are not at {}{own} and are not in it: {} ({})",
        plan.to,
        names.len(),
        listed(names, NAMES_SHOWN)
    );
    let object = ObjectName::cluster("Plan", &plan.id);
    report.add(codes::LEFT_OUT, Severity::Warning, object, evidence);
}
