//! Which zone each target is in.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::{ClusterModel, Node, Target};

/// Providers have three to six. Where the label has more values, they are no zones.
const MOST: usize = 16;

/// By target.
#[derive(Clone, Debug)]
pub(super) struct Zones {
    of: Vec<Option<usize>>,
    count: usize,
}

/// The zones that nodes of `model` are labelled with, by name; none where that are too few
/// or too many to tell anything.
pub(crate) fn zones(model: &ClusterModel) -> BTreeSet<&str> {
    let names: BTreeSet<&str> = model.nodes.iter().filter_map(Node::zone).collect();
    match names.len() {
        2..=MOST => names,
        _ => BTreeSet::new(),
    }
}

impl Zones {
    /// Of nodes that the model labels, in order of the zones' names; what is done
    /// elsewhere is in none, and nothing is if there is only one.
    pub(super) fn of(model: &ClusterModel, targets: &[Target]) -> Self {
        let names = zones(model);
        if names.is_empty() {
            let of = vec![None; targets.len()];
            return Self { of, count: 0 };
        }
        let nodes = model.nodes.iter();
        let labelled = nodes.filter_map(|node| Some((&*node.name, node.zone()?)));
        let by_node: BTreeMap<&str, &str> = labelled.collect();
        let ids: BTreeMap<&str, usize> = names.into_iter().zip(0..).collect();
        let zone = |target: &Target| match target {
            Target::Node { .. } => ids.get(by_node.get(target.name())?).copied(),
            _ => None,
        };
        Self {
            of: targets.iter().map(zone).collect(),
            count: ids.len(),
        }
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) fn of_target(&self, target: u32) -> Option<usize> {
        self.of.get(target as usize).copied().flatten()
    }
}
