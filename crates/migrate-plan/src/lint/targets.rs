//! Versions that pools have of their own.

use std::collections::BTreeMap;

use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{ClusterModel, KubeVersion, Node, ObjectName, Plan, Policy};

use super::{Report, codes};

/// The version that each pool has to go to: the plan's, or its own by policy.
pub(super) struct Targets<'p> {
    cluster: &'p KubeVersion,
    own: BTreeMap<&'p str, &'p KubeVersion>,
}

impl<'p> Targets<'p> {
    /// None of its own has a pool where one node goes back, nor where the plan does not
    /// get there yet.
    pub(super) fn of(plan: &'p Plan, policy: &'p Policy) -> Self {
        let own = policy.pools.target_of.iter();
        let own = own.map(|(pool, own)| (pool.as_str(), own));
        let is_kept = |(pool, own): &(&str, &KubeVersion)| {
            *pool != CONTROL_PLANE_POOL && **own != plan.to && !plan.to.is_older_than(own)
        };
        let own = match plan.way_back() {
            Some(_) => BTreeMap::new(),
            None => own.filter(is_kept).collect(),
        };
        Self {
            cluster: &plan.to,
            own,
        }
    }

    pub(super) fn of_node(&self, node: &Node, policy: &Policy) -> &'p KubeVersion {
        match self.own.is_empty() {
            true => self.cluster,
            false => self.of_pool(policy.pools.pool_of(node)),
        }
    }

    fn of_pool(&self, pool: &str) -> &'p KubeVersion {
        self.own.get(pool).copied().unwrap_or(self.cluster)
    }

    /// What the plan says is what policy says, keeps the skew of kubelets, and takes
    /// none of them back.
    pub(super) fn check(
        &self,
        plan: &Plan,
        model: &ClusterModel,
        policy: &Policy,
        report: &mut Report,
    ) {
        for pool in &plan.pools {
            let (planned, wanted) = (plan.to_of_pool(&pool.name), self.of_pool(&pool.name));
            if planned != wanted {
                let object = ObjectName::cluster("Pool", &pool.name);
                let evidence = format!("it is planned to go to {planned}, and policy has {wanted}");
                report.broken(codes::STRUCTURE, object, evidence);
            }
        }
        let planned: BTreeMap<&str, &KubeVersion> = plan.own_targets().collect();
        for (pool, own) in &planned {
            if !may_meet(own, &plan.to) {
                let object = ObjectName::cluster("Pool", *pool);
                let evidence = format!(
                    "its kubelets are to be at {own} next to API servers of {}, which are too far \
                     away",
                    plan.to
                );
                report.broken(codes::OWN_TARGET, object, evidence);
            }
        }
        let nodes = model.nodes.iter().filter(|_| !planned.is_empty());
        for node in nodes {
            let own = planned.get(policy.pools.pool_of(node));
            if let Some(own) = own.filter(|own| own.is_older_than(&node.kubelet_version)) {
                let object = ObjectName::cluster("Node", &node.name);
                let now = &node.kubelet_version;
                let evidence = format!("it is at {now}, and its pool is planned to go to {own}");
                report.broken(codes::OWN_TARGET, object, evidence);
            }
        }
    }
}

/// A kubelet is not newer than an API server, and at most three minors older, two
/// before 1.25.
pub(super) fn may_meet(kubelet: &KubeVersion, api_server: &KubeVersion) -> bool {
    let behind = kubelet.minor_distance(api_server);
    behind.is_some_and(|behind| (0..=most_behind(kubelet)).contains(&behind))
}

/// How many minors a kubelet may be behind an API server.
pub(super) fn most_behind(kubelet: &KubeVersion) -> i64 {
    if kubelet.minor() < 25 { 2 } else { 3 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_are_no_newer_and_three_minors_older_at_most_or_two_before_1_25() {
        for (kubelet, api_server, may) in [
            ("1.38.1", "1.37.2", false),
            ("1.37.1", "1.37.2", true),
            ("1.34.9", "1.37.2", true),
            ("1.33.9", "1.37.2", false),
            ("1.24.9", "1.26.1", true),
            ("1.24.9", "1.27.1", false),
            ("1.25.0", "1.28.1", true),
            ("2.37.1", "1.37.2", false),
        ] {
            let [kubelet, api_server] = [kubelet, api_server].map(|it| it.parse().unwrap());
            let is = may_meet(&kubelet, &api_server);
            assert_eq!(is, may, "{kubelet} next to {api_server}");
        }
    }
}
