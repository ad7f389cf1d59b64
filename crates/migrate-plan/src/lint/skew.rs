//! Versions that meet while the plan is carried out.

use migrate_core::{ClusterModel, ObjectName, Plan};

use super::targets::may_meet;
use super::{Report, codes};

/// No member goes further than one minor, nor back, and no kubelet meets an API server that
/// it may not meet: those that stay behind the plan's, and those that change the ones there are.
///
/// What breaks the rules as it stands already is told of the cluster, not of the plan.
pub(super) fn check(plan: &Plan, model: &ClusterModel, report: &mut Report) {
    if plan.control_plane.is_empty() {
        return slots(plan, model, report);
    }
    // While members go to the plan's version, both are there, and a kubelet may reach either.
    let to = &plan.to;
    for member in &model.control_plane {
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
    for node in &model.nodes {
        let now = &node.kubelet_version;
        if !may_meet(now, to) {
            let object = ObjectName::cluster("Node", &node.name);
            let evidence = format!("its kubelet is at {now} when the first API server is at {to}");
            report.broken(codes::SKEW, object, evidence);
        }
    }
}

/// Kubelets that change next to API servers which do not.
fn slots(plan: &Plan, model: &ClusterModel, report: &mut Report) {
    for slot in &plan.slots {
        let to = plan.to_of_pool(&slot.pool);
        let mut servers = model.control_plane.iter().map(|member| &member.version);
        if let Some(server) = servers.find(|server| !may_meet(to, server)) {
            let object = ObjectName::cluster("Node", &slot.node);
            let evidence = format!("its kubelet goes to {to} next to an API server of {server}");
            report.broken(codes::SKEW, object, evidence);
        }
    }
}
