//! Nodes by name, looked up for many pods at once.
//!
//! At the size of large clusters neither the names nor a map of them are near the
//! processor, and it waits for each in turn: the name of a pod's node, the place in
//! the map, the name found there. Taken step by step for a block of pods, it waits
//! for those of a whole block at the same time.

use std::hash::Hasher;

use migrate_core::{Node, Pod};
use rustc_hash::FxHasher;

/// Pods that are looked up together.
pub(super) const BLOCK: usize = 64;
/// On none of the nodes.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Positions of nodes by name.
#[derive(Debug)]
pub(super) struct NodeNames<'m> {
    names: Vec<&'m str>,
    /// The upper half of a hash and a position, or [`FREE`]; searched from where the
    /// lower half of the hash points to, up to the first free one.
    places: Vec<u64>,
    /// One less than there are places, which are a power of two.
    mask: usize,
}

const FREE: u64 = u64::MAX;

impl<'m> NodeNames<'m> {
    /// Of two nodes of one name the last is found.
    pub(super) fn new(nodes: &'m [Node]) -> Self {
        let size = (nodes.len().saturating_mul(2) + 1).next_power_of_two();
        let mut names = Self {
            names: nodes.iter().map(|node| node.name.as_str()).collect(),
            places: vec![FREE; size],
            mask: size - 1,
        };
        for (id, node) in (0u32..).zip(nodes) {
            let hash = hash_of(&node.name);
            let mut at = hash as usize & names.mask;
            while names.places[at] != FREE && !names.is(names.places[at], hash, &node.name) {
                at = (at + 1) & names.mask;
            }
            names.places[at] = tag_of(hash) | u64::from(id);
        }
        names
    }

    /// Puts the position of the node of each of `pods`, [`BLOCK`] at most, into
    /// `found`.
    pub(super) fn find(&self, pods: &[Pod], found: &mut [u32; BLOCK]) {
        let mut hashes = [0; BLOCK];
        for (hash, pod) in hashes.iter_mut().zip(pods) {
            *hash = pod.node.as_deref().map_or(0, hash_of);
        }
        let mut firsts = [FREE; BLOCK];
        for (first, hash) in firsts.iter_mut().zip(hashes) {
            *first = self.places[hash as usize & self.mask];
        }
        for (at, pod) in pods.iter().enumerate() {
            let name = pod.node.as_deref();
            found[at] = name.map_or(NOWHERE, |name| self.seek(firsts[at], hashes[at], name));
        }
    }

    /// The position of `name`, whose `first` place has been read.
    fn seek(&self, first: u64, hash: u64, name: &str) -> u32 {
        let (mut place, mut at) = (first, hash as usize & self.mask);
        while place != FREE {
            if self.is(place, hash, name) {
                return id_of(place);
            }
            at = (at + 1) & self.mask;
            place = self.places[at];
        }
        NOWHERE
    }

    fn is(&self, place: u64, hash: u64, name: &str) -> bool {
        place & !ID == tag_of(hash) && self.names[id_of(place) as usize] == name
    }
}

/// The half of a place that is a position.
const ID: u64 = u32::MAX as u64;

fn id_of(place: u64) -> u32 {
    (place & ID) as u32
}

fn tag_of(hash: u64) -> u64 {
    hash & !ID
}

fn hash_of(name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(name.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use migrate_core::{KubeVersion, PodId};

    const VERSION: KubeVersion = KubeVersion::new(1, 36, 0);

    fn nodes(names: &[String]) -> Vec<Node> {
        let nodes = names.iter().map(|name| Node::new(name, VERSION));
        nodes.collect()
    }

    fn pod(node: &str) -> Pod {
        Pod::new(PodId::new("shop", "web", "u"), node)
    }

    #[test]
    fn every_node_is_found_and_no_other() {
        let names: Vec<String> = (0..500).map(|n| format!("node-{n}")).collect();
        let nodes = nodes(&names);
        let known = NodeNames::new(&nodes);
        let asked: Vec<Pod> = (0..1000).map(|n| pod(&format!("node-{n}"))).collect();
        let mut found = [NOWHERE; BLOCK];
        for (block, pods) in asked.chunks(BLOCK).enumerate() {
            known.find(pods, &mut found);
            for (at, id) in (block * BLOCK..).zip(&found[..pods.len()]) {
                let expected = if at < 500 { at as u32 } else { NOWHERE };
                assert_eq!(*id, expected, "{at}");
            }
        }
    }

    #[test]
    fn pods_without_a_node_are_nowhere_and_of_equal_names_the_last_counts() {
        let nodes = nodes(&["a".to_owned(), "b".to_owned(), "a".to_owned()]);
        let known = NodeNames::new(&nodes);
        let mut unbound = pod("a");
        unbound.node = None;
        let mut found = [7; BLOCK];
        known.find(&[pod("a"), unbound, pod(""), pod("b")], &mut found);
        assert_eq!(found[..4], [2, NOWHERE, NOWHERE, 1]);
        let none = NodeNames::new(&[]);
        none.find(&[pod("a")], &mut found);
        assert_eq!(found[0], NOWHERE);
    }
}
