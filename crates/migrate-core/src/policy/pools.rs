//! Pools: how nodes map to them, and how many of one may be away.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{IntOrPercent, KubeVersion, Node, Role};

/// Pools: groups of nodes that are alike.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct PoolPolicy {
    /// The node label whose value names the pool of a worker; workers without
    /// it are in the pool `default`. Control-plane nodes are in the pool
    /// `control-plane`, whatever their labels.
    pub label: String,
    /// How many nodes of a pool may be away at once, nodes that are not Ready
    /// included: a count or a percentage (rounded down, at least 1 unless the pool has
    /// surge). The pool `control-plane` is always 1.
    pub max_unavailable: IntOrPercent,
    /// Exceptions to `max-unavailable` by pool name.
    pub max_unavailable_of: BTreeMap<String, IntOrPercent>,
    /// How many machines more than it has nodes a pool of workers may have: a count, or a
    /// percentage of its nodes (rounded up). So many nodes go behind replacements that are
    /// Ready before they are drained, and are not away. Only for drivers that replace
    /// machines; the control plane's nodes have none.
    #[serde(skip_serializing_if = "is_none")]
    pub max_surge: IntOrPercent,
    /// Exceptions to `max-surge` by pool name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub max_surge_of: BTreeMap<String, IntOrPercent>,
    /// Upgrade one worker of each pool alone, and verify it, before the others.
    pub canary: bool,
    /// Stages of a pool of workers after its canary: so many nodes are upgraded and
    /// verified before any other begins, then so many more, then all the rest. Each
    /// is greater than the one before. A stage is never wider than the pool.
    #[serde(deserialize_with = "ramp")]
    pub ramp: Vec<u32>,
    /// Which zones of a pool of workers may be in work at the same time.
    pub zones: ZonePolicy,
    /// How many of the nodes that a pool of workers can spare are kept for failures:
    /// a count, or a percentage of its nodes (rounded up). Nodes that are away for
    /// another reason than the run use it up before they narrow the run.
    pub failure_reserve: IntOrPercent,
    /// Versions of their own, by name, of pools of workers that are held back or taken
    /// to a patch only, in the place of the version that the cluster goes to: releases,
    /// not newer than that.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "releases"
    )]
    pub target_of: BTreeMap<String, KubeVersion>,
}

/// Which zones (node label [`ZONE_LABEL`](crate::ZONE_LABEL)) of a pool may be in
/// work at the same time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case")]
pub enum ZonePolicy {
    /// All of them.
    #[default]
    Any,
    /// One: a node begins only while no node of another zone of its pool is in work.
    /// Nodes without a zone are one zone.
    OneAtATime,
}

impl Default for PoolPolicy {
    fn default() -> Self {
        Self {
            label: "node.kubernetes.io/pool".to_owned(),
            max_unavailable: IntOrPercent::Int(1),
            max_unavailable_of: BTreeMap::new(),
            max_surge: IntOrPercent::Int(0),
            max_surge_of: BTreeMap::new(),
            canary: true,
            ramp: Vec::new(),
            zones: ZonePolicy::Any,
            failure_reserve: IntOrPercent::Int(0),
            target_of: BTreeMap::new(),
        }
    }
}

/// The pool of control-plane nodes.
pub const CONTROL_PLANE_POOL: &str = "control-plane";
/// The pool of workers that carry no pool label.
pub const DEFAULT_POOL: &str = "default";

impl PoolPolicy {
    /// The pool `node` belongs to. A worker whose label has no value, or the name of
    /// the control plane's own pool, is one without a label.
    pub fn pool_of<'a>(&self, node: &'a Node) -> &'a str {
        match node.role {
            Role::ControlPlane => CONTROL_PLANE_POOL,
            Role::Worker => {
                let named = node.labels.get(&self.label).map(String::as_str);
                named
                    .filter(|pool| !pool.is_empty() && *pool != CONTROL_PLANE_POOL)
                    .unwrap_or(DEFAULT_POOL)
            }
        }
    }

    /// Whether `node` is a worker that asks for the control plane's own pool.
    pub fn asks_for_the_control_plane(&self, node: &Node) -> bool {
        let named = node.labels.get(&self.label);
        node.role == Role::Worker && named.is_some_and(|pool| pool == CONTROL_PLANE_POOL)
    }

    /// How many of the `size` nodes of `pool` may be away at once: at least 1, unless
    /// others go behind replacements ([`surge`](Self::surge)).
    pub fn width(&self, pool: &str, size: u32) -> u32 {
        if pool == CONTROL_PLANE_POOL {
            return 1;
        }
        let least = u32::from(self.surge(pool, size) == 0);
        self.max_unavailable_of
            .get(pool)
            .unwrap_or(&self.max_unavailable)
            .resolve_down(size)
            .max(least)
    }

    /// How many of the `size` nodes of `pool` may be behind replacements at once; none of
    /// the control plane's.
    pub fn surge(&self, pool: &str, size: u32) -> u32 {
        if pool == CONTROL_PLANE_POOL {
            return 0;
        }
        let surge = self.max_surge_of.get(pool).unwrap_or(&self.max_surge);
        surge.resolve_up(size)
    }

    /// The version that kubelets of `pool` are brought to where the cluster goes to
    /// `cluster`: its [own](Self::target_of), unless the cluster is not there yet.
    pub fn target<'a>(&'a self, pool: &str, cluster: &'a KubeVersion) -> &'a KubeVersion {
        let own = self.target_of.get(pool);
        own.map_or(cluster, |own| own.or_older(cluster))
    }

    /// [`target`](Self::target) of the pool that `node` belongs to.
    pub fn target_of_node<'a>(&'a self, node: &Node, cluster: &'a KubeVersion) -> &'a KubeVersion {
        // Which pool that is need not be looked for in most clusters.
        match self.target_of.is_empty() {
            true => cluster,
            false => self.target(self.pool_of(node), cluster),
        }
    }

    /// The stages of the ramp of `pool`: none for the control plane's, whose nodes go
    /// one by one.
    pub fn stages(&self, pool: &str) -> &[u32] {
        match pool {
            CONTROL_PLANE_POOL => &[],
            _ => &self.ramp,
        }
    }

    /// How many of the `size` nodes of `pool` are kept for failures, of those that
    /// it can spare; none of the control plane's.
    pub fn reserve(&self, pool: &str, size: u32) -> u32 {
        match pool {
            CONTROL_PLANE_POOL => 0,
            _ => self.failure_reserve.resolve_up(size),
        }
    }
}

/// Whether it is the default of a key that older releases did not have: left out, the
/// policy has the hash it had.
fn is_none(count: &IntOrPercent) -> bool {
    *count == IntOrPercent::Int(0)
}

/// Stages that grow.
fn ramp<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u32>, D::Error> {
    let stages = Vec::<u32>::deserialize(d)?;
    let rises = stages.is_sorted_by(|a, b| a < b);
    if rises && stages.first() != Some(&0) {
        return Ok(stages);
    }
    Err(D::Error::custom(format!(
        "the ramp {stages:?} does not rise: list how many nodes each stage has, from 1 on, each \
         greater than the one before, as [1, 4, 20]"
    )))
}

fn releases<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, KubeVersion>, D::Error> {
    let targets = BTreeMap::<String, KubeVersion>::deserialize(d)?;
    match targets.iter().find(|(_, own)| own.patch().is_none()) {
        None => Ok(targets),
        Some((pool, own)) => Err(D::Error::custom(format!(
            "the target {own} of pool {pool} names no patch, so that nobody knows which one its \
             nodes get: name a release, as {own}.5"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_at_least_one_and_the_control_plane_is_one() {
        let pools = PoolPolicy {
            max_unavailable: "10%".parse().unwrap(),
            ..PoolPolicy::default()
        };
        assert_eq!(pools.width("general", 5), 1);
        assert_eq!(pools.width("general", 50), 5);
        assert_eq!(pools.width(CONTROL_PLANE_POOL, 50), 1);
    }

    #[test]
    fn surge_is_rounded_up_and_leaves_nobody_to_be_away() {
        let read = |json: &str| serde_json::from_str::<PoolPolicy>(json).unwrap();
        let none = read(r#"{"max-unavailable": 0}"#);
        assert_eq!(
            (none.surge("general", 50), none.width("general", 50)),
            (0, 1)
        );
        let json =
            r#"{"max-unavailable": 0, "max-surge": "10%", "max-surge-of": {"gpu": 2, "old": 0}}"#;
        let pools = read(json);
        for (pool, size, surge, width) in [
            ("general", 5, 1, 0),
            ("general", 11, 2, 0),
            ("gpu", 1, 2, 0),
            ("old", 50, 0, 1),
            (CONTROL_PLANE_POOL, 3, 0, 1),
        ] {
            let got = (pools.surge(pool, size), pools.width(pool, size));
            assert_eq!(got, (surge, width), "{pool} of {size}");
        }
        let again = serde_json::to_string(&pools).unwrap();
        assert_eq!(read(&again), pools);
    }

    #[test]
    fn a_policy_without_surge_has_the_hash_it_had() {
        let json = serde_json::to_string(&PoolPolicy::default()).unwrap();
        assert!(!json.contains("surge"), "{json}");
    }

    #[test]
    fn a_ramp_rises() {
        let read =
            |ramp: &str| serde_json::from_str::<PoolPolicy>(&format!(r#"{{"ramp": {ramp}}}"#));
        assert_eq!(read("[1, 4, 20]").unwrap().ramp, [1, 4, 20]);
        assert_eq!(read("[]").unwrap(), PoolPolicy::default());
        for ramp in ["[0, 4]", "[4, 4]", "[4, 1]"] {
            let error = read(ramp).unwrap_err().to_string();
            assert!(error.contains("does not rise"), "{error}");
        }
        assert!(read("[-1]").is_err() && read("[1.5]").is_err());
    }

    #[test]
    fn a_pool_goes_to_its_own_target_once_the_cluster_is_there() {
        let read = |json: &str| serde_json::from_str::<PoolPolicy>(json);
        let pools = read(r#"{"target-of": {"gpu": "1.36.5"}}"#).unwrap();
        let version = |text: &str| text.parse::<KubeVersion>().unwrap();
        for (cluster, gpu) in [
            ("v1.37.2", "v1.36.5"),
            ("v1.36.5", "v1.36.5"),
            ("v1.36.4", "v1.36.4"),
            // Any patch of that minor is meant.
            ("v1.36", "v1.36.5"),
            ("v1.35", "v1.35"),
        ] {
            let cluster = version(cluster);
            assert_eq!(*pools.target("gpu", &cluster), version(gpu), "{cluster}");
            assert_eq!(*pools.target("other", &cluster), cluster);
        }
        let mut node = Node::new("n", version("v1.36.5"));
        let cluster = version("v1.37.2");
        assert_eq!(*pools.target_of_node(&node, &cluster), cluster);
        node.labels.insert(pools.label.clone(), "gpu".to_owned());
        assert_eq!(*pools.target_of_node(&node, &cluster), version("v1.36.5"));
        let vague = read(r#"{"target-of": {"gpu": "1.36"}}"#).unwrap_err();
        assert!(
            vague.to_string().contains("pool gpu names no patch"),
            "{vague}"
        );
        assert!(read(r#"{"target-of": {"gpu": "new"}}"#).is_err());
    }

    #[test]
    fn without_own_targets_the_policy_is_written_as_before() {
        let json = serde_json::to_string(&PoolPolicy::default()).unwrap();
        assert!(!json.contains("target-of"), "{json}");
        let mut pools = PoolPolicy::default();
        let own = "v1.36.5".parse().unwrap();
        pools.target_of.insert("gpu".to_owned(), own);
        let json = serde_json::to_string(&pools).unwrap();
        assert_eq!(serde_json::from_str::<PoolPolicy>(&json).unwrap(), pools);
    }
}
