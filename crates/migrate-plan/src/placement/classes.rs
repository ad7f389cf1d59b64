//! Pods that the same nodes admit, whatever else runs there.

use std::collections::BTreeMap;

use migrate_core::Placement;
use migrate_core::model::{NodeSelectorOperator, NodeSelectorTerm, Toleration};

use super::pods::count;

/// What placements ask of nodes, numbered as they come. The order of a list in one has no
/// meaning, so that it makes no class of its own.
#[derive(Debug, Default)]
pub(super) struct Classes<'m> {
    /// The first placement of each.
    all: Vec<&'m Placement>,
    by_text: BTreeMap<AsWritten<'m>, u32>,
    by_meaning: BTreeMap<Meaning<'m>, u32>,
}

/// A placement's lists in their own order, which is the same for all pods of a template.
type AsWritten<'m> = (
    &'m BTreeMap<String, String>,
    &'m [NodeSelectorTerm],
    &'m [Vec<NodeSelectorTerm>],
    &'m [Toleration],
);

/// The same with every list in one order.
type Meaning<'m> = (
    &'m BTreeMap<String, String>,
    Vec<Term<'m>>,
    Vec<Vec<Term<'m>>>,
    Vec<&'m Toleration>,
);

/// Its requirements: key, operator, values.
type Term<'m> = Vec<(&'m str, NodeSelectorOperator, Vec<&'m str>)>;

impl<'m> Classes<'m> {
    pub(super) fn all(&self) -> &[&'m Placement] {
        &self.all
    }

    pub(super) fn number(&mut self, placement: &'m Placement) -> u32 {
        let written = as_written(placement);
        if let Some(known) = self.by_text.get(&written) {
            return *known;
        }
        let next = count(self.all.len());
        let number = *(self.by_meaning.entry(meaning(placement))).or_insert(next);
        if number == next {
            self.all.push(placement);
        }
        self.by_text.insert(written, number);
        number
    }
}

pub(super) fn as_written(placement: &Placement) -> AsWritten<'_> {
    (
        &placement.node_selector,
        &placement.node_affinity,
        &placement.volume_affinity,
        &placement.tolerations,
    )
}

fn meaning(placement: &Placement) -> Meaning<'_> {
    let of_volumes = placement.volume_affinity.iter();
    (
        &placement.node_selector,
        terms(&placement.node_affinity),
        in_order(of_volumes.map(|of_volume| terms(of_volume))),
        in_order(&placement.tolerations),
    )
}

fn terms(terms: &[NodeSelectorTerm]) -> Vec<Term<'_>> {
    in_order(terms.iter().map(|term| {
        in_order(term.0.iter().map(|requirement| {
            let values = requirement.values.iter().map(String::as_str);
            (
                requirement.key.as_str(),
                requirement.operator,
                in_order(values),
            )
        }))
    }))
}

fn in_order<T: Ord>(list: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut list: Vec<T> = list.into_iter().collect();
    list.sort_unstable();
    list
}

#[cfg(test)]
mod tests {
    use migrate_core::model::NodeRequirement;

    use super::*;

    #[test]
    fn the_order_of_a_list_makes_no_class() {
        let term = |key: &str, values: [&str; 2]| {
            let requirement = |key: &str| NodeRequirement {
                key: key.to_owned(),
                operator: NodeSelectorOperator::In,
                values: values.map(str::to_owned).into(),
            };
            NodeSelectorTerm(vec![requirement(key), requirement("zone")])
        };
        let tolerations = ["spot", "batch"].map(|key| {
            let mut toleration = Toleration::everything();
            toleration.key = Some(key.to_owned());
            toleration
        });
        let mut one = Placement::default();
        one.node_affinity = vec![term("disk", ["a", "b"]), term("card", ["c", "d"])];
        one.tolerations = tolerations.into();
        one.volume_affinity = vec![one.node_affinity.clone(), vec![term("host", ["e", "f"])]];
        let mut turned = one.clone();
        turned.tolerations.reverse();
        turned.volume_affinity.reverse();
        let of_volumes = turned.volume_affinity.iter_mut().flatten();
        for term in turned.node_affinity.iter_mut().chain(of_volumes) {
            term.0.reverse();
            for requirement in &mut term.0 {
                requirement.values.reverse();
            }
        }
        turned.node_affinity.reverse();
        let mut other = one.clone();
        other.node_affinity[0].0[0].values.pop();
        assert_ne!(as_written(&one), as_written(&turned));
        let mut classes = Classes::default();
        let numbers = [&one, &turned, &other, &one].map(|placement| classes.number(placement));
        assert_eq!(numbers, [0, 0, 1, 0]);
        assert_eq!(classes.all().len(), 2);
    }
}
