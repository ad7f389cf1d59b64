//! Things found by their labels.

use std::collections::BTreeMap;

use super::super::{NodeSelectorOperator, NodeSelectorTerm, Placement};
use crate::LabelSelector;
use crate::selector::Operator;

/// A label and its value.
type Label<'a> = (&'a str, &'a str);

/// Things and their labels, put in order key by key as keys are asked for.
pub(super) struct Labelled<'a, T> {
    all: &'a [T],
    value: fn(&'a T, &str) -> Option<&'a str>,
    keys: BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a T>>>,
}

impl<'a, T> Labelled<'a, T> {
    /// `value` gives a label's value.
    pub(super) fn new(all: &'a [T], value: fn(&'a T, &str) -> Option<&'a str>) -> Self {
        Self {
            all,
            value,
            keys: BTreeMap::new(),
        }
    }

    /// Those whose label `key` is `value`.
    pub(super) fn with(&mut self, key: &'a str, value: &str) -> &[&'a T] {
        self.index(key);
        self.listed(key, value)
    }

    /// Those that may meet `demand`, found by the labels that fewest have; all
    /// of them where it demands no label. One that has several of the labels
    /// may come more than once.
    pub(super) fn candidates(
        &mut self,
        demand: Demand<'a>,
    ) -> impl Iterator<Item = &'a T> + use<'_, 'a, T> {
        for (key, _) in demand.0.iter().flatten() {
            self.index(key);
        }
        let this = &*self;
        let count = |labels: &Vec<Label<'a>>| {
            let each = labels
                .iter()
                .map(|(key, value)| this.listed(key, value).len());
            each.sum::<usize>()
        };
        let rarest = demand.0.into_iter().min_by_key(count);
        let all: &[T] = if rarest.is_none() { this.all } else { &[] };
        let labels = rarest.into_iter().flatten();
        labels
            .flat_map(|(key, value)| this.listed(key, value).iter().copied())
            .chain(all)
    }

    fn index(&mut self, key: &'a str) {
        let (all, value) = (self.all, self.value);
        self.keys.entry(key).or_insert_with(|| {
            let mut values: BTreeMap<&str, Vec<&T>> = BTreeMap::new();
            for one in all {
                if let Some(value) = value(one, key) {
                    values.entry(value).or_default().push(one);
                }
            }
            values
        });
    }

    fn listed(&self, key: &str, value: &str) -> &[&'a T] {
        let values = self.keys.get(key).and_then(|values| values.get(value));
        values.map_or(&[], Vec::as_slice)
    }
}

/// Labels that a thing must have: one of each list.
pub(super) struct Demand<'a>(Vec<Vec<Label<'a>>>);

impl<'a> Demand<'a> {
    /// Of a node, with `metadata.name` as a label.
    pub(super) fn of_placement(placement: &'a Placement) -> Self {
        let selector = placement.node_selector.iter();
        let mut lists: Vec<Vec<Label<'a>>> = selector
            .map(|(key, value)| vec![(key.as_str(), value.as_str())])
            .collect();
        lists.extend(one_of(&placement.node_affinity));
        lists.extend(
            placement
                .volume_affinity
                .iter()
                .flat_map(|terms| one_of(terms)),
        );
        Self(lists)
    }

    /// Of what `selector` matches.
    pub(super) fn of_selector(selector: &'a LabelSelector) -> Self {
        let labels = selector.match_labels.iter();
        let labels = labels.map(|(key, value)| vec![(key.as_str(), value.as_str())]);
        let expressions = selector.match_expressions.iter();
        let listed = expressions
            .filter(|requirement| requirement.operator == Operator::In)
            .map(|requirement| labels_of(&requirement.key, &requirement.values));
        Self(labels.chain(listed).collect())
    }
}

/// What a node must have to match one of `terms`: of a single term each of its
/// lists of values, of several terms one list of each.
fn one_of(terms: &[NodeSelectorTerm]) -> Vec<Vec<Label<'_>>> {
    if let [term] = terms {
        return lists(term);
    }
    let first_of_each = terms.iter().map(|term| lists(term).into_iter().next());
    match first_of_each.collect::<Option<Vec<_>>>() {
        Some(each) if !each.is_empty() => vec![each.concat()],
        _ => Vec::new(),
    }
}

/// The lists of values that `term` has.
fn lists(term: &NodeSelectorTerm) -> Vec<Vec<Label<'_>>> {
    let requirements = term.0.iter();
    requirements
        .filter(|requirement| requirement.operator == NodeSelectorOperator::In)
        .map(|requirement| labels_of(&requirement.key, &requirement.values))
        .collect()
}

fn labels_of<'a>(key: &'a str, values: &'a [String]) -> Vec<Label<'a>> {
    let mut labels: Vec<Label<'a>> = values.iter().map(|value| (key, value.as_str())).collect();
    labels.sort_unstable();
    labels.dedup();
    labels
}
