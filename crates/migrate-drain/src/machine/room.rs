//! The last look before a cordon: does the node's pool still have room?
//!
//! Whoever sent the node has asked that already, but time has passed since: the
//! intent had to be written, the node waited for the first lists, a request
//! failed and was made again. Meanwhile another node of the pool may have died.
//! So the question goes out with the cordon, as a condition that the API cannot
//! check itself: whoever sets the cordon reads the pool right before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use migrate_core::policy::{CONTROL_PLANE_POOL, DEFAULT_POOL};
use migrate_core::{ClusterModel, Policy};
use migrate_kube::resources::CONTROL_PLANE_LABEL;

use super::Drain;

/// The pools of a run: which node is in which, and how many of each may be
/// away.
#[derive(Clone, Debug)]
pub struct Pools {
    of_node: BTreeMap<String, Arc<Pool>>,
}

#[derive(Debug, PartialEq)]
struct Pool {
    name: String,
    /// How many of its nodes may be away at once.
    width: u32,
    /// The label selector of its nodes; absent where it would not help.
    selector: Option<String>,
    nodes: BTreeSet<String>,
}

/// What is asked about a pool right before one of its nodes is cordoned.
#[derive(Clone, Debug, PartialEq)]
pub struct Room {
    pool: Arc<Pool>,
    /// Nodes of it that this drain has asked to cordon, whether or not it shows
    /// yet: those before, and the one in question.
    asked: BTreeSet<String>,
}

impl Pools {
    /// The pools of `model` under `policy`, as a plan of them counts.
    pub fn of(model: &ClusterModel, policy: &Policy) -> Self {
        let policy = &policy.pools;
        let mut by_pool: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for node in &model.nodes {
            let nodes = by_pool.entry(policy.pool_of(node)).or_default();
            nodes.insert(node.name.clone());
        }
        let mut of_node = BTreeMap::new();
        for (name, nodes) in by_pool {
            let size = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
            let pool = Arc::new(Pool {
                name: name.to_owned(),
                // Where none may be away, all others go behind replacements, which no
                // drainer sees; a run without these, as a way back, takes one at a time.
                width: policy.width(name, size).max(1),
                selector: selector(&policy.label, name),
                nodes,
            });
            let nodes = pool.nodes.iter().cloned();
            of_node.extend(nodes.map(|node| (node, Arc::clone(&pool))));
        }
        Self { of_node }
    }

    /// The name of the pool of `node`.
    pub(super) fn name_of(&self, node: &str) -> Option<&str> {
        self.of_node.get(node).map(|pool| pool.name.as_str())
    }
}

/// The nodes of `pool`, which `label` names on workers. Workers without the
/// label are rarely a small part of a cluster.
fn selector(label: &str, pool: &str) -> Option<String> {
    match pool {
        CONTROL_PLANE_POOL => Some(CONTROL_PLANE_LABEL.to_owned()),
        DEFAULT_POOL => None,
        pool => Some(format!("{label}={pool}")),
    }
}

impl Room {
    /// The label selector with which to read the pool; all nodes if absent.
    pub fn selector(&self) -> Option<&str> {
        self.pool.selector.as_deref()
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
            .filter(|(name, is_away)| *is_away && self.pool.nodes.contains(*name))
            .map(|(name, _)| name)
            .collect();
        let mut taken = away.clone();
        taken.extend(self.asked.iter().map(String::as_str));
        let full = u32::try_from(taken.len()).unwrap_or(u32::MAX) > self.pool.width;
        full.then(|| away.into_iter().map(str::to_owned).collect())
    }
}

impl Drain {
    /// What to ask about the pool of `node`, which is about to be cordoned.
    /// Nothing if it was cordoned before: then it has its room.
    pub(super) fn room(&self, node: &str) -> Option<Room> {
        let pool = self.options.pools.as_ref()?.of_node.get(node)?;
        if self.nodes.get(node)?.cordon.at.is_some() {
            return None;
        }
        let asked = self
            .nodes
            .iter()
            .filter(|(name, drain)| drain.is_taken() && pool.nodes.contains(*name))
            .map(|(name, _)| name.clone());
        Some(Room {
            pool: Arc::clone(pool),
            asked: asked.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a pool of `a`, `b` and `c`.
    fn room(width: u32, asked: &[&str]) -> Room {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let pool = Pool {
            name: "p".to_owned(),
            width,
            selector: None,
            nodes: names(&["a", "b", "c"]),
        };
        Room {
            pool: Arc::new(pool),
            asked: names(asked),
        }
    }

    #[test]
    fn a_pool_is_full_with_the_node_and_all_that_are_away_or_asked() {
        let missing = |width, asked: &[&str], away: &[&str]| {
            let seen = ["a", "b", "c", "other"].map(|name| (name, away.contains(&name)));
            room(width, asked).missing(seen)
        };
        assert_eq!(missing(1, &["a"], &[]), None);
        assert_eq!(missing(1, &["a"], &["a"]), None, "away already");
        assert_eq!(missing(1, &["a"], &["other"]), None);
        assert_eq!(missing(1, &["a"], &["b"]), Some(vec!["b".to_owned()]));
        assert_eq!(missing(1, &["a", "b"], &[]), Some(Vec::new()));
        assert_eq!(missing(2, &["a", "b"], &["b"]), None, "counted once");
        assert_eq!(missing(2, &["a", "b"], &["c"]), Some(vec!["c".to_owned()]));
    }
}
