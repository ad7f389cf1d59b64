//! What surge asks for that may not be there: somebody who makes machines, and a place
//! for each pod that a replaced machine had.

use std::collections::BTreeMap;

use migrate_core::model::{Admitting, Placement};
use migrate_core::{
    Disposition, Finding, Node, ObjectName, PlannedPool, Severity, disposition, listed,
};

use super::Planner;

/// Nothing makes machines.
const NO_MACHINES: &str = "KM-SURGE-001";
/// Pods that only machines admit which are taken away.
const LEFT_BEHIND: &str = "KM-SURGE-002";
/// How many names a list shows.
const NAMES_SHOWN: usize = 5;
/// The label with a node's own name.
const HOST: &str = "kubernetes.io/hostname";

impl Planner<'_> {
    /// Tells that whoever carries the plan out makes machines that come in place of others,
    /// does the [provision](migrate_core::Phase::Provision) of a node before its drain, and takes
    /// the old machine away. Without that a pool with surge has a blocker, `KM-SURGE-001`,
    /// and its plan is a what-if; the executor of this workspace opens no run of it.
    #[must_use]
    pub fn with_replacements(mut self) -> Self {
        self.replaces = true;
        self
    }

    /// What keeps `pools` from having the surge that policy gives them.
    pub(super) fn of_surge(&self, pools: &[PlannedPool]) -> Vec<Finding> {
        let surging = pools.iter().filter(|pool| pool.surge > 0);
        let sizes: BTreeMap<&str, u32> = surging.map(|it| (it.name.as_str(), it.surge)).collect();
        if sizes.is_empty() {
            return Vec::new();
        }
        let is_replaced = |node: &Node| {
            self.is_to_change(node) && sizes.contains_key(self.policy.pools.pool_of(node))
        };
        let mut found = Vec::new();
        if !self.replaces {
            let pools = sizes.iter();
            found.extend(pools.map(|(pool, surge)| nobody_makes_machines(pool, *surge)));
        }
        found.extend(self.left_behind(is_replaced));
        found
    }

    /// Pods of nodes that `is_replaced`, which no machine admits that is there afterwards.
    fn left_behind(&self, is_replaced: impl Fn(&Node) -> bool) -> Option<Finding> {
        let nodes: BTreeMap<&str, &Node> = self.model.nodes.iter().map(|n| (&*n.name, n)).collect();
        let (replaced, stay): (Vec<&Node>, Vec<&Node>) =
            self.model.nodes.iter().partition(|node| is_replaced(node));
        let stay: Vec<Node> = stay.into_iter().cloned().collect();
        let mut staying = Admitting::among(&stay);
        let new: Vec<Node> = replaced.into_iter().map(replacement).collect();
        let mut coming = Admitting::among(&new);
        let mut has_place: BTreeMap<&Placement, bool> = BTreeMap::new();
        let mut left: Vec<String> = Vec::new();
        for pod in &self.model.pods {
            let node = pod.node.as_deref().and_then(|node| nodes.get(node));
            let leaves = matches!(
                disposition(pod, &self.policy.consent, None),
                Disposition::Evict | Disposition::NeedsConsent(_)
            );
            if !leaves || pod.controller.is_none() || !node.is_some_and(|node| is_replaced(node)) {
                continue;
            }
            let placement: &Placement = &pod.placement;
            let has_place = has_place.entry(placement).or_insert_with(|| {
                !staying.nodes(placement).is_empty() || !coming.nodes(placement).is_empty()
            });
            if !*has_place {
                left.push(format!("{}/{}", pod.id.namespace, pod.id.name));
            }
        }
        (!left.is_empty()).then(|| {
            Finding::new(
                LEFT_BEHIND,
                Severity::Blocker,
                ObjectName::cluster("Policy", "pools.max-surge"),
                format!(
                    "pods whose volume, or host name, ties them to machines that are replaced, and \
                     which nothing starts again once these are gone: {} ({})",
                    left.len(),
                    listed(left, NAMES_SHOWN),
                ),
                "move their data first, or give their pool no surge (pools.max-surge-of) and a \
                 driver that changes its nodes in place",
            )
        })
    }
}

/// What comes in place of `node`: alike in everything but its name.
fn replacement(node: &Node) -> Node {
    let mut new = node.clone();
    new.name = String::new();
    new.labels.remove(HOST);
    new
}

fn nobody_makes_machines(pool: &str, surge: u32) -> Finding {
    Finding::new(
        NO_MACHINES,
        Severity::Blocker,
        ObjectName::cluster("Pool", pool),
        format!(
            "policy lets it have {surge} machines more while it is upgraded, and what upgrades its \
             nodes makes none: they are changed in place"
        ),
        format!(
            "take pools.max-surge away, or set pools.max-surge-of.{pool} = 0; for the room, add \
             nodes to the pool by hand before the run, and as many to its max-unavailable"
        ),
    )
}
