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
    /// Labels that selectors ask about in any way: pods that are alike in these
    /// have the same budgets.
    pub(super) asked: Vec<&'m str>,
    /// Labels by which selectors are found.
    demanded: Vec<&'m str>,
    /// By position in `demanded`, and value.
    by_label: FxHashMap<(u32, &'m str), Bucket>,
    /// Those that demand no particular label.
    others: Vec<u32>,
    /// Further selectors of a bucket: the selector, and the next one.
    chain: Vec<(u32, u32)>,
}

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
            position_or_push(&mut self.asked, key);
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
        let key = position_or_push(&mut self.demanded, key);
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
        for (key, &name) in (0..).zip(&self.demanded) {
            let value = labels.get(name);
            let bucket = value.and_then(|value| self.by_label.get(&(key, value.as_str())));
            let Some(bucket) = bucket else {
                continue;
            };
            found.push(bucket.first);
            let mut next = bucket.next;
            while let Some(&(id, after)) = self.chain.get(next as usize) {
                found.push(id);
                next = after;
            }
        }
        found.extend(&self.others);
        found.retain(|&id| {
            let selector = all[id as usize].selector.as_ref();
            selector.is_some_and(|selector| demands_one(selector) || selector.matches(labels))
        });
        found.sort_unstable();
    }

    fn count(&self, key: &str, value: &str) -> u32 {
        let key = (0..).zip(&self.demanded).find(|(_, known)| **known == key);
        let bucket = key.and_then(|(at, _)| self.by_label.get(&(at, value)));
        bucket.map_or(0, |bucket| bucket.count)
    }
}

/// Whether being found by its label says all.
fn demands_one(selector: &LabelSelector) -> bool {
    selector.match_labels.len() == 1 && selector.match_expressions.is_empty()
}

fn position_or_push<'m>(all: &mut Vec<&'m str>, name: &'m str) -> u32 {
    let at = all.iter().position(|known| *known == name);
    let at = at.unwrap_or_else(|| {
        all.push(name);
        all.len() - 1
    });
    u32::try_from(at).unwrap_or(NONE)
}
