//! Which selectors may match an object, without asking all of them.

use std::collections::BTreeMap;

use super::LabelSelector;

/// Selectors by a label that each of them demands.
///
/// An object is compared only with the selectors that demand one of its labels
/// and with those that demand no particular one. Adding, removing and asking
/// cost a logarithm for each label. Asking costs the candidates besides, and
/// removing costs what is kept under each of the labels, or everything that
/// demands none for a selector that demands none.
#[derive(Clone, Debug)]
pub struct SelectorIndex<T> {
    by_label: BTreeMap<String, BTreeMap<String, Vec<T>>>,
    others: Vec<T>,
}

impl<T> Default for SelectorIndex<T> {
    fn default() -> Self {
        Self {
            by_label: BTreeMap::new(),
            others: Vec::new(),
        }
    }
}

impl<T: PartialEq> SelectorIndex<T> {
    /// Adds `selector` under `id`.
    pub fn insert(&mut self, selector: &LabelSelector, id: T) {
        // Labels such as `managed-by` stand in all selectors of a namespace:
        // the one that fewest share tells most.
        let rarest = selector
            .match_labels
            .iter()
            .min_by_key(|(key, value)| self.bucket(key, value).len());
        match rarest {
            Some((key, value)) => self
                .by_label
                .entry(key.clone())
                .or_default()
                .entry(value.clone())
                .or_default()
                .push(id),
            None => self.others.push(id),
        }
    }

    /// Removes what was added as `selector` under `id`.
    pub fn remove(&mut self, selector: &LabelSelector, id: &T) {
        if selector.match_labels.is_empty() {
            self.others.retain(|other| other != id);
        }
        for (key, value) in &selector.match_labels {
            let Some(values) = self.by_label.get_mut(key) else {
                continue;
            };
            if let Some(bucket) = values.get_mut(value) {
                bucket.retain(|other| other != id);
                if bucket.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.by_label.remove(key);
            }
        }
    }

    /// Everything that may match `labels`, each once, in no particular order.
    /// Whether it does, its selector says.
    pub fn candidates(&self, labels: &BTreeMap<String, String>) -> impl Iterator<Item = &T> {
        labels
            .iter()
            .flat_map(|(key, value)| self.bucket(key, value))
            .chain(&self.others)
    }

    fn bucket(&self, key: &str, value: &str) -> &[T] {
        let values = self.by_label.get(key);
        values
            .and_then(|values| values.get(value))
            .map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Operator, Requirement};
    use super::*;

    fn labels(pairs: Vec<(u8, u8)>) -> BTreeMap<String, String> {
        let pair = |(key, value)| (format!("k{key}"), format!("v{value}"));
        pairs.into_iter().map(pair).collect()
    }

    proptest! {
        /// Those added and not removed are found by all that they match, once.
        #[test]
        fn no_selector_that_matches_is_left_out(
            selectors in prop::collection::vec(
                (prop::collection::vec((0u8..3, 0u8..2), 0..3), any::<bool>(), any::<bool>()), 0..8),
            object in prop::collection::vec((0u8..3, 0u8..2), 0..4),
        ) {
            let mut index = SelectorIndex::default();
            let object = labels(object);
            let mut expected = Vec::new();
            let mut gone = Vec::new();
            for (id, (pairs, with_expression, stays)) in selectors.into_iter().enumerate() {
                let mut selector = LabelSelector::new();
                selector.match_labels = labels(pairs);
                if with_expression {
                    let requirement = Requirement::new("k1", Operator::Exists, [""; 0]);
                    selector = selector.with_requirement(requirement);
                }
                index.insert(&selector, id);
                match stays {
                    true if selector.matches(&object) => expected.push(id),
                    true => {}
                    false => gone.push((selector, id)),
                }
            }
            for (selector, id) in &gone {
                index.remove(selector, id);
            }
            let mut found: Vec<usize> = index.candidates(&object).copied().collect();
            found.sort_unstable();
            prop_assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "{found:?}");
            prop_assert!(found.iter().all(|id| gone.iter().all(|(_, g)| g != id)), "{found:?}");
            prop_assert!(expected.iter().all(|id| found.contains(id)), "{found:?} {expected:?}");
        }
    }
}
