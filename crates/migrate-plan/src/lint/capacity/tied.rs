//! Which parts of pools pods are tied to.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use migrate_core::model::{Admitting, NodeSelectorTerm, Placement, Toleration};
use migrate_core::{ClusterModel, Disposition, Policy, disposition};

use super::{Amounts, Offer, Part, add, amounts, take};

/// At most so many sets of parts are looked at: those that most pods are tied to.
const SETS: usize = 256;

/// The sets of parts of pools that pods may not leave, and what those ask for.
pub(super) struct Tied<'m> {
    sets: BTreeMap<Set, Own<'m>>,
}

/// Some parts, and what the pods ask for that may not leave them.
pub(super) struct Within<'m> {
    /// By number.
    pub(super) parts: Vec<usize>,
    pub(super) asked: Amounts<'m>,
}

/// Parts of pools, a bit for each.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
struct Set(Vec<u64>);

/// What the pods ask for that are tied to just these parts.
#[derive(Debug, Default)]
struct Own<'m> {
    pods: u64,
    asked: Amounts<'m>,
    /// Some of them may be on each node of these parts.
    is_whole: bool,
}

/// All of a placement that says on which nodes a pod may be, whatever runs there: of
/// workloads that keep away from their own pods, each has another placement, and most
/// have this alike.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
struct Where<'m> {
    node_selector: &'m BTreeMap<String, String>,
    node_affinity: &'m [NodeSelectorTerm],
    volume_affinity: &'m [Vec<NodeSelectorTerm>],
    tolerations: &'m [Toleration],
}

impl<'m> Where<'m> {
    fn of(placement: &'m Placement) -> Self {
        Self {
            node_selector: &placement.node_selector,
            node_affinity: &placement.node_affinity,
            volume_affinity: &placement.volume_affinity,
            tolerations: &placement.tolerations,
        }
    }
}

impl<'m> Tied<'m> {
    /// Of the pods on nodes that offer something, and of those that have no node and that one
    /// of these could hold. What pods ask for that do not leave their nodes is taken off what
    /// these offer. `numbers` are those of the parts.
    pub(super) fn new(
        model: &'m ClusterModel,
        policy: &'m Policy,
        numbers: &BTreeMap<Part<'m>, usize>,
        offers: &mut BTreeMap<&'m str, Offer<'m>>,
    ) -> Self {
        let mut sets: BTreeMap<Set, Own<'m>> = BTreeMap::new();
        let names: BTreeSet<&str> = offers.keys().copied().collect();
        let mut admitting = Admitting::among(&model.nodes);
        let mut sizes = vec![0usize; numbers.len()];
        for offer in offers.values() {
            sizes[offer.part] += 1;
        }
        let mut known: BTreeMap<Where<'_>, (Set, Vec<&str>, bool)> = BTreeMap::new();
        let known_nodes = model.nodes.iter().map(|node| node.name.as_str());
        let known_nodes: BTreeSet<&str> = known_nodes.collect();
        for pod in model.pods.iter().filter(|pod| !pod.is_finished()) {
            let node = pod.node.as_deref();
            let node = node.filter(|node| known_nodes.contains(node));
            if node.is_some_and(|node| !offers.contains_key(node)) {
                continue;
            }
            let asked = amounts(&pod.requests, pod.requests.pods.max(1));
            let place = known.entry(Where::of(&pod.placement));
            let (parts, hosts, is_whole) = place.or_insert_with(|| {
                let nodes = admitting.nodes(&pod.placement);
                let mut parts = Set::default();
                for node in &nodes {
                    parts.insert(numbers[&Part::of(node, policy)]);
                }
                let all: usize = parts.numbers().map(|part| sizes[part]).sum();
                let offering = nodes
                    .iter()
                    .filter(|node| names.contains(node.name.as_str()));
                let is_whole = offering.count() == all;
                let first_two = nodes.iter().take(2).map(|node| node.name.as_str());
                (parts, first_two.collect(), is_whole)
            });
            let fate = disposition(pod, &policy.consent, None);
            let needs_a_node = match (node, &fate) {
                (_, Disposition::Wait(_) | Disposition::Leave(_)) => false,
                (Some(node), _) => hosts.iter().any(|host| *host != node),
                (None, _) => {
                    let nodes = admitting.nodes(&pod.placement);
                    let mut offering = nodes.iter();
                    offering.any(|node| {
                        let offered = amounts(&node.allocatable, node.allocatable.pods);
                        names.contains(node.name.as_str()) && holds(&offered, &asked)
                    })
                }
            };
            if pod.controller.is_some() && needs_a_node {
                let own = match sets.get_mut(parts) {
                    Some(own) => own,
                    None => sets.entry(parts.clone()).or_default(),
                };
                own.pods += 1;
                own.is_whole |= *is_whole;
                add(&mut own.asked, &asked);
            } else if let Some(offer) = node.and_then(|node| offers.get_mut(node)) {
                // What ends needs no room once its node is drained.
                if !(offer.is_drained && matches!(fate, Disposition::Wait(_))) {
                    take(&mut offer.amounts, &asked);
                }
            }
        }
        Self { sets }
    }

    /// Sets, each with what is asked for there: what is tied to fewer parts is tied to more of
    /// them, too. Those that some pods may use all of, and whole pools: of others it is not known
    /// which of their nodes pods wait for. `all` are the parts.
    pub(super) fn within(&self, all: &[Part<'_>]) -> impl Iterator<Item = Within<'m>> {
        let mut looked_at: BTreeMap<Set, (bool, u64)> = BTreeMap::new();
        for (set, own) in &self.sets {
            if own.is_whole {
                looked_at.entry(set.clone()).or_default().1 = own.pods;
            }
            looked_at.entry(set.of_pools(all)).or_default().0 = true;
        }
        let mut looked_at: Vec<_> = looked_at.into_iter().collect();
        if looked_at.len() > SETS {
            looked_at.sort_by_key(|(_, (is_of_pools, pods))| (!is_of_pools, Reverse(*pods)));
            looked_at.truncate(SETS);
        }
        looked_at.into_iter().map(|(set, _)| {
            let mut asked = Amounts::new();
            let within = self.sets.iter().filter(|(other, _)| other.is_within(&set));
            for (_, own) in within {
                add(&mut asked, &own.asked);
            }
            Within {
                parts: set.numbers().collect(),
                asked,
            }
        })
    }
}

/// Whether an empty node that offers so much could hold what is asked for.
fn holds(offered: &Amounts<'_>, asked: &Amounts<'_>) -> bool {
    let lacks =
        |(resource, asked): (&&str, &u64)| *asked > offered.get(resource).copied().unwrap_or(0);
    !asked.iter().any(lacks)
}

impl Set {
    fn insert(&mut self, part: usize) {
        let word = part / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (part % 64);
    }

    /// All parts of the pools that it has parts of. Those of a pool follow each other in `all`.
    fn of_pools(&self, all: &[Part<'_>]) -> Self {
        let mut whole = Self::default();
        for part in self.numbers() {
            let is_of_pool = |other: &usize| all[*other].pool == all[part].pool;
            let first = (0..part).rev().take_while(is_of_pool).last();
            let of_pool = first.unwrap_or(part)..all.len();
            of_pool
                .take_while(is_of_pool)
                .for_each(|part| whole.insert(part));
        }
        whole
    }

    /// In order.
    fn numbers(&self) -> impl Iterator<Item = usize> {
        let words = self.0.iter().zip((0..).step_by(64));
        words.flat_map(|(word, from)| {
            let bits = (0..64).filter(move |bit| word >> bit & 1 == 1);
            bits.map(move |bit| from + bit)
        })
    }

    fn is_within(&self, others: &Self) -> bool {
        let others = others.0.iter().copied().chain(std::iter::repeat(0));
        self.0
            .iter()
            .zip(others)
            .all(|(own, other)| own & !other == 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sets_are_those_of_their_numbers(
            a in prop::collection::btree_set(0..200usize, 0..9),
            b in prop::collection::btree_set(0..200usize, 0..9),
        ) {
            let [of_a, of_b] = [&a, &b].map(|numbers| {
                let mut set = Set::default();
                numbers.iter().for_each(|number| set.insert(*number));
                set
            });
            prop_assert!(of_a.numbers().eq(a.iter().copied()));
            prop_assert_eq!(of_a.is_within(&of_b), a.is_subset(&b));
        }
    }
}
