//! The last look before a cordon: does the node's pool still have room?
//!
//! Whoever sent the node has asked that already, but time has passed since: the
//! intent had to be written, the node waited for the first lists, a request
//! failed and was made again. Meanwhile another node of the pool may have died.
//! So the question goes out with the cordon, as a condition that the API cannot
//! check itself: whoever sets the cordon reads the pool right before.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::policy::{CONTROL_PLANE_POOL, DEFAULT_POOL};
use migrate_core::{ClusterModel, Policy};
use migrate_kube::resources::CONTROL_PLANE_LABEL;

use super::Drain;

/// The pools of a run: which node is in which, and how many of each may be
/// away.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pools {
    /// The label that names the pool of a worker.
    label: String,
    widths: BTreeMap<String, u32>,
    nodes: BTreeMap<String, String>,
}

/// What is asked about a pool right before one of its nodes is cordoned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Room {
    /// The pool.
    pub pool: String,
    /// How many of its nodes may be away at once.
    pub width: u32,
    /// The label selector of its nodes; absent where it would not help.
    selector: Option<String>,
    /// The node that is to be cordoned.
    node: String,
    /// Every node of the pool.
    nodes: BTreeSet<String>,
    /// Those that this drain has asked to cordon, whether or not it shows yet.
    asked: BTreeSet<String>,
}

impl Pools {
    /// The pools of `model` under `policy`, as a plan of them counts.
    pub fn of(model: &ClusterModel, policy: &Policy) -> Self {
        let mut nodes = BTreeMap::new();
        let mut sizes: BTreeMap<&str, u32> = BTreeMap::new();
        for node in &model.nodes {
            let pool = policy.pools.pool_of(node);
            nodes.insert(node.name.clone(), pool.to_owned());
            *sizes.entry(pool).or_default() += 1;
        }
        let width = |(pool, size): (&str, u32)| (pool.to_owned(), policy.pools.width(pool, size));
        Self {
            label: policy.pools.label.clone(),
            widths: sizes.into_iter().map(width).collect(),
            nodes,
        }
    }

    /// Workers without the label are rarely a small part of a cluster.
    fn selector(&self, pool: &str) -> Option<String> {
        match pool {
            CONTROL_PLANE_POOL => Some(CONTROL_PLANE_LABEL.to_owned()),
            DEFAULT_POOL => None,
            pool => Some(format!("{}={pool}", self.label)),
        }
    }

    /// The pool of `node`.
    pub(super) fn pool_of(&self, node: &str) -> Option<&str> {
        self.nodes.get(node).map(String::as_str)
    }
}

impl Room {
    /// The label selector with which to read the pool; all nodes if absent.
    pub fn selector(&self) -> Option<&str> {
        self.selector.as_deref()
    }

    /// The nodes that leave no room, if there is none. `seen` is the pool as it
    /// is now: each node's name and whether it is cordoned or not Ready.
    ///
    /// Nodes that are not of the pool are left out, nodes that are missing are
    /// gone. Of two that are asked at once one has to count the other, so those
    /// that were asked before count as away.
    pub fn missing<'a>(
        &self,
        seen: impl IntoIterator<Item = (&'a str, bool)>,
    ) -> Option<Vec<String>> {
        let away: BTreeSet<&str> = seen
            .into_iter()
            .filter(|(name, is_away)| *is_away && self.nodes.contains(*name))
            .map(|(name, _)| name)
            .collect();
        let mut taken = away.clone();
        taken.extend(self.asked.iter().map(String::as_str));
        taken.insert(&self.node);
        let full = u32::try_from(taken.len()).unwrap_or(u32::MAX) > self.width;
        full.then(|| away.into_iter().map(str::to_owned).collect())
    }
}

impl Drain {
    /// What to ask about the pool of `node` before its cordon. Nothing if it
    /// was cordoned before: then it has its room.
    pub(super) fn room(&self, node: &str) -> Option<Room> {
        let pools = self.options.pools.as_ref()?;
        let pool = pools.nodes.get(node)?;
        if self.nodes.get(node)?.cordon.at.is_some() {
            return None;
        }
        let in_pool = |name: &String| pools.nodes.get(name) == Some(pool);
        let asked = self
            .nodes
            .iter()
            .filter(|(name, drain)| drain.cordon.asked && *name != node && in_pool(name))
            .map(|(name, _)| name.clone());
        Some(Room {
            pool: pool.clone(),
            width: pools.widths.get(pool).copied().unwrap_or(1),
            selector: pools.selector(pool),
            node: node.to_owned(),
            nodes: pools
                .nodes
                .keys()
                .filter(|name| in_pool(name))
                .cloned()
                .collect(),
            asked: asked.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(width: u32, asked: &[&str]) -> Room {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Room {
            pool: "p".to_owned(),
            width,
            selector: None,
            node: "a".to_owned(),
            nodes: names(&["a", "b", "c"]),
            asked: names(asked),
        }
    }

    #[test]
    fn a_pool_is_full_with_the_node_and_all_that_are_away_or_asked() {
        let missing = |width, asked: &[&str], away: &[&str]| {
            let seen = ["a", "b", "c", "other"].map(|name| (name, away.contains(&name)));
            room(width, asked).missing(seen)
        };
        assert_eq!(missing(1, &[], &[]), None);
        assert_eq!(missing(1, &[], &["a"]), None, "away already");
        assert_eq!(missing(1, &[], &["other"]), None);
        assert_eq!(missing(1, &[], &["b"]), Some(vec!["b".to_owned()]));
        assert_eq!(missing(1, &["b"], &[]), Some(Vec::new()));
        assert_eq!(missing(2, &["b"], &["b"]), None, "counted once");
        assert_eq!(missing(2, &["b"], &["c"]), Some(vec!["c".to_owned()]));
    }
}
