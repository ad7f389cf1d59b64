//! The real budgets of one namespace, found by a label they demand.
//!
//! What [`SelectorIndex`](migrate_core::selector::SelectorIndex) is for objects
//! that come and go, over names that are borrowed: one is made for each namespace
//! of a plan, and asked once for each workload in it.

use migrate_core::model::Labels;
use migrate_core::{DisruptionBudget, LabelSelector};
use rustc_hash::{FxBuildHasher, FxHashMap};

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Guards<'m> {
    /// Labels that selectors ask about in any way.
    asked: Keys<'m>,
    /// Labels by which selectors are found.
    demanded: Keys<'m>,
    /// By place in `demanded`, and value.
    by_label: FxHashMap<(u32, &'m str), Bucket>,
    /// Those that demand no particular label.
    others: Vec<u32>,
    /// Further selectors of a bucket: the selector, and the next one.
    chain: Vec<(u32, u32)>,
}

/// Keys of labels, each once and in a place of its own.
#[derive(Debug, Default)]
struct Keys<'m> {
    names: Vec<&'m str>,
    /// Places of those after the first few, which are found faster by a look at each.
    others: FxHashMap<&'m str, u32>,
}

/// Keys that are looked at one by one: hardly a namespace has more.
const FEW: usize = 8;

/// Budgets that demand one label.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    first: u32,
    /// Position in `chain`, or [`NONE`].
    next: u32,
    count: u32,
}

const NONE: u32 = u32::MAX;

impl<'m> Guards<'m> {
    /// For so many selectors.
    pub(super) fn with_capacity(selectors: usize) -> Self {
        Self {
            by_label: FxHashMap::with_capacity_and_hasher(selectors, FxBuildHasher),
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, id: u32, selector: &'m LabelSelector) {
        let expressions = selector.match_expressions.iter();
        let keys = selector.match_labels.keys();
        for key in keys.chain(expressions.map(|requirement| &requirement.key)) {
            self.asked.place_or_push(key);
        }
        // Labels such as `managed-by` stand in all selectors of a namespace: the
        // one that fewest share tells most.
        let labels = &selector.match_labels;
        let rarest = match labels.len() {
            0 | 1 => labels.first_key_value(),
            _ => labels
                .iter()
                .min_by_key(|(key, value)| self.count(key, value)),
        };
        let Some((key, value)) = rarest else {
            self.others.push(id);
            return;
        };
        let key = self.demanded.place_or_push(key);
        let bucket = self.by_label.entry((key, value)).or_insert(Bucket {
            first: id,
            next: NONE,
            count: 0,
        });
        if bucket.count > 0 {
            let at = u32::try_from(self.chain.len()).unwrap_or(NONE);
            self.chain.push((id, bucket.next));
            bucket.next = at;
        }
        bucket.count += 1;
    }

    /// Puts the budgets that match `labels` into `found`, lowest id first.
    pub(super) fn find(&self, all: &[DisruptionBudget], labels: &Labels, found: &mut Vec<u32>) {
        // Of keys and labels whichever are fewer.
        if self.demanded.names.len() <= labels.len() {
            for (key, &name) in (0..).zip(&self.demanded.names) {
                if let Some(value) = labels.get(name) {
                    self.find_by(key, value, found);
                }
            }
        } else {
            for (name, value) in labels.iter() {
                if let Some(key) = self.demanded.place(name) {
                    self.find_by(key, value, found);
                }
            }
        }
        found.extend(&self.others);
        found.retain(|&id| {
            let selector = all[id as usize].selector.as_ref();
            selector.is_some_and(|selector| demands_one(selector) || selector.matches(labels))
        });
        found.sort_unstable();
    }

    fn find_by(&self, key: u32, value: &str, found: &mut Vec<u32>) {
        let Some(bucket) = self.by_label.get(&(key, value)) else {
            return;
        };
        found.push(bucket.first);
        let mut next = bucket.next;
        while let Some(&(id, after)) = self.chain.get(next as usize) {
            found.push(id);
            next = after;
        }
    }

    /// Whether pods with labels `a` and `b` have the same budgets, since they are alike
    /// in all that selectors ask about.
    pub(super) fn tells_alike(&self, a: &Labels, b: &Labels) -> bool {
        if self.asked.names.len() <= a.len() + b.len() {
            let mut asked = self.asked.names.iter();
            return asked.all(|key| a.get(*key) == b.get(*key));
        }
        let has_alike = |labels: &Labels, others: &Labels| {
            let mut labels = labels.iter();
            labels.all(|(key, value)| {
                others.get(key) == Some(value) || self.asked.place(key).is_none()
            })
        };
        has_alike(a, b) && has_alike(b, a)
    }

    fn count(&self, key: &str, value: &str) -> u32 {
        let key = self.demanded.place(key);
        let bucket = key.and_then(|at| self.by_label.get(&(at, value)));
        bucket.map_or(0, |bucket| bucket.count)
    }
}

impl<'m> Keys<'m> {
    fn place(&self, name: &str) -> Option<u32> {
        let mut few = (0..).zip(self.names.iter().take(FEW));
        let near = few.find(|(_, known)| **known == name).map(|(at, _)| at);
        // Without others nothing is hashed.
        near.or_else(|| match self.others.is_empty() {
            true => None,
            false => self.others.get(name).copied(),
        })
    }

    fn place_or_push(&mut self, name: &'m str) -> u32 {
        self.place(name).unwrap_or_else(|| {
            let at = u32::try_from(self.names.len()).unwrap_or(NONE);
            if self.names.len() >= FEW {
                self.others.insert(name, at);
            }
            self.names.push(name);
            at
        })
    }
}

/// Whether being found by its label says all.
fn demands_one(selector: &LabelSelector) -> bool {
    selector.match_labels.len() == 1 && selector.match_expressions.is_empty()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use migrate_core::selector::{Operator, Requirement};
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(u8, u8)]) -> Labels {
        let pair = |(key, value): &(u8, u8)| (format!("k{key}"), format!("v{value}"));
        let pairs: BTreeMap<String, String> = pairs.iter().map(pair).collect();
        pairs.into()
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Of few keys and of many: those are found that match, and pods that are told
        /// alike have the same.
        #[test]
        fn what_matches_is_found_and_alike_is_alike(
            selectors in prop::collection::vec(
                (prop::collection::vec((0u8..30, 0u8..2), 0..3), prop::option::of(0u8..30)), 0..40),
            a in prop::collection::vec((0u8..30, 0u8..2), 0..20),
            b in prop::collection::vec((0u8..30, 0u8..2), 0..20),
        ) {
            let budgets: Vec<DisruptionBudget> = selectors
                .iter()
                .map(|(pairs, absent)| {
                    let mut selector = LabelSelector::new();
                    for (key, value) in labels(pairs).iter() {
                        selector = selector.with_label(key, value);
                    }
                    if let Some(key) = absent {
                        let absent = Requirement::new(format!("k{key}"), Operator::DoesNotExist, [""; 0]);
                        selector = selector.with_requirement(absent);
                    }
                    DisruptionBudget::new("ns", "b", selector)
                })
                .collect();
            let mut guards = Guards::with_capacity(budgets.len());
            for (id, budget) in (0..).zip(&budgets) {
                guards.add(id, budget.selector.as_ref().unwrap());
            }
            let (a, b) = (labels(&a), labels(&b));
            let find = |labels: &Labels| {
                let mut found = Vec::new();
                guards.find(&budgets, labels, &mut found);
                found
            };
            let matching = (0u32..).zip(&budgets).filter(|(_, budget)| {
                budget.selector.as_ref().unwrap().matches(&a)
            });
            let matching: Vec<u32> = matching.map(|(id, _)| id).collect();
            prop_assert_eq!(find(&a), matching);
            let mut asked = guards.asked.names.iter();
            let is_alike = asked.all(|key| a.get(*key) == b.get(*key));
            prop_assert_eq!(guards.tells_alike(&a, &b), is_alike);
            prop_assert!(!is_alike || find(&a) == find(&b));
        }
    }
}
