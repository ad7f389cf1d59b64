//! Pods that keep others away: required anti-affinity and hard spread.
//!
//! Only pods of namespaces that have such pods are looked at, and a pod that
//! neither has such a rule nor is meant by one costs nothing later.

use std::collections::BTreeMap;

use migrate_core::model::Toleration;
use migrate_core::selector::SelectorIndex;
use migrate_core::{ClusterModel, LabelSelector, Pod};

use super::NONE;
use super::cells::{Access, Cells};
use super::pods::{Kind, PodTable, count};

/// Rules and where the pods are that they are about.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    terms: Vec<Term>,
    sets: Vec<RuleSet>,
    /// By key, then by node: its domain, or [`NONE`].
    domains: Vec<Vec<u32>>,
    /// Domains that pods with a spread constraint may be in, in ascending order.
    eligible: Vec<Vec<u32>>,
}

/// A selector over pods of a namespace, and the label that names domains.
#[derive(Clone, Debug)]
struct Term {
    key: u32,
    /// By domain, those with any.
    counts: Vec<Count>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    domain: u32,
    /// Pods that the selector matches.
    matching: u32,
    /// Pods that stay away from those.
    owners: u32,
}

/// All that one pod has to do with terms.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
struct RuleSet {
    /// It stays away from these.
    avoids: Vec<u32>,
    spreads: Vec<Spread>,
    /// It is one of these.
    matches: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Spread {
    term: u32,
    max_skew: u32,
    eligible: u32,
    counts_itself: bool,
}

type TermKey<'m> = (&'m str, &'m LabelSelector, &'m str);

/// What is known while rules are read.
struct Reader<'m, 'c> {
    model: &'m ClusterModel,
    cells: &'c Cells,
    rules: Rules,
    keys: BTreeMap<&'m str, u32>,
    terms: BTreeMap<TermKey<'m>, u32>,
    sets: BTreeMap<RuleSet, u32>,
    eligible: BTreeMap<(u32, u32), u32>,
}

impl Rules {
    /// Reads the rules of all pods, counts who is where, and names each
    /// movable pod's rules in its kind.
    pub(super) fn new<'m>(
        model: &'m ClusterModel,
        table: &mut PodTable<'m>,
        cells: &Cells,
    ) -> Self {
        let rules = Self {
            terms: Vec::new(),
            sets: Vec::new(),
            domains: Vec::new(),
            eligible: Vec::new(),
        };
        let mut reader = Reader {
            model,
            cells,
            rules,
            keys: BTreeMap::new(),
            terms: BTreeMap::new(),
            sets: BTreeMap::new(),
            eligible: BTreeMap::new(),
        };
        for namespace in table.ruled.clone() {
            reader.read(namespace, table);
        }
        reader.rules
    }

    /// Whether a pod with `rules` may be on `node` as pods stand.
    pub(super) fn allow(&self, rules: u32, node: u32) -> bool {
        let Some(set) = self.sets.get(rules as usize) else {
            return true;
        };
        let free_of_matching = |term: &u32| self.count(*term, node).matching == 0;
        let free_of_owners = |term: &u32| self.count(*term, node).owners == 0;
        set.avoids.iter().all(free_of_matching)
            && set.matches.iter().all(free_of_owners)
            && set.spreads.iter().all(|spread| self.is_even(spread, node))
    }

    fn count(&self, term: u32, node: u32) -> Count {
        let term = &self.terms[term as usize];
        let domain = self.domains[term.key as usize][node as usize];
        let found = term
            .counts
            .binary_search_by_key(&domain, |count| count.domain);
        match found {
            Ok(at) => term.counts[at],
            Err(_) => Count {
                domain,
                matching: 0,
                owners: 0,
            },
        }
    }

    /// As the scheduler's filter: with the pod, no domain has more than
    /// `max_skew` above the emptiest that its nodes may be in.
    fn is_even(&self, spread: &Spread, node: u32) -> bool {
        let there = self.count(spread.term, node);
        if there.domain == NONE {
            return false;
        }
        let counts = &self.terms[spread.term as usize].counts;
        let eligible = &self.eligible[spread.eligible as usize];
        let with_any = counts
            .iter()
            .filter(|count| count.matching > 0 && eligible.binary_search(&count.domain).is_ok());
        let (mut domains, mut least) = (0, u32::MAX);
        for count in with_any {
            domains += 1;
            least = least.min(count.matching);
        }
        if domains < eligible.len() {
            least = 0;
        }
        let then = there.matching + u32::from(spread.counts_itself);
        then <= spread.max_skew.saturating_add(least)
    }

    /// A pod with `rules` is on `node` now.
    pub(super) fn add(&mut self, rules: u32, node: u32) {
        self.change(rules, node, |sum| *sum += 1);
    }

    /// A pod with `rules` has left `node`.
    pub(super) fn remove(&mut self, rules: u32, node: u32) {
        self.change(rules, node, |sum| *sum = sum.saturating_sub(1));
    }

    fn change(&mut self, rules: u32, node: u32, by: impl Fn(&mut u32)) {
        let Some(set) = self.sets.get(rules as usize) else {
            return;
        };
        let matches = set.matches.iter().map(|term| (*term, true));
        for (term, is_match) in matches.chain(set.avoids.iter().map(|term| (*term, false))) {
            let term = &mut self.terms[term as usize];
            let domain = self.domains[term.key as usize][node as usize];
            if domain == NONE {
                continue;
            }
            let found = term
                .counts
                .binary_search_by_key(&domain, |count| count.domain);
            let at = found.unwrap_or_else(|at| {
                let none = Count {
                    domain,
                    matching: 0,
                    owners: 0,
                };
                term.counts.insert(at, none);
                at
            });
            let count = &mut term.counts[at];
            by(match is_match {
                true => &mut count.matching,
                false => &mut count.owners,
            });
        }
    }
}

impl<'m> Reader<'m, '_> {
    fn read(&mut self, namespace: &'m str, table: &mut PodTable<'m>) {
        let model = self.model;
        let from = model
            .pods
            .partition_point(|pod| pod.id.namespace.as_str() < namespace);
        let pods = model.pods[from..].iter();
        let pods = pods.take_while(|pod| pod.id.namespace == namespace);
        let live = (from..).zip(pods).filter(|(_, pod)| !pod.is_finished());
        let mut index: SelectorIndex<u32> = SelectorIndex::default();
        let mut selectors: BTreeMap<u32, &LabelSelector> = BTreeMap::new();
        for (_, pod) in live.clone() {
            for (selector, key) in terms_of(pod) {
                let next = count(self.rules.terms.len());
                let term = self.term(namespace, selector, key);
                if term == next {
                    index.insert(selector, term);
                }
                selectors.insert(term, selector);
            }
        }
        let first = table
            .pods
            .partition_point(|movable| (movable.source as usize) < from);
        let mut movable = first;
        let mut last: Option<(&Pod, u32)> = None;
        for (source, pod) in live {
            let Some(node) = pod.node.as_deref().and_then(|name| self.node(name)) else {
                continue;
            };
            let while_there = table.pods.get(movable);
            let is_movable = while_there.is_some_and(|m| m.source as usize == source);
            let class = match while_there.filter(|_| is_movable) {
                Some(m) => table.kinds[m.kind as usize].class,
                None => NONE,
            };
            let known = last.filter(|(last, _)| {
                is_movable && last.labels == pod.labels && last.placement == pod.placement
            });
            let rules = match known {
                Some((_, rules)) => rules,
                None => self.rules_of(namespace, pod, class, &index, &selectors),
            };
            if is_movable {
                last = Some((pod, rules));
                let at = &table.pods[movable];
                let kind = Kind {
                    rules,
                    ..table.kinds[at.kind as usize]
                };
                table.pods[movable].kind = table.kind(kind);
                movable += 1;
            }
            self.rules.add(rules, node);
        }
    }

    fn node(&self, name: &str) -> Option<u32> {
        let by_name = |node: &migrate_core::Node| node.name.as_str().cmp(name);
        self.model.nodes.binary_search_by(by_name).ok().map(count)
    }

    fn term(&mut self, namespace: &'m str, selector: &'m LabelSelector, key: &'m str) -> u32 {
        let next = count(self.rules.terms.len());
        let key_id = self.key(key);
        let id = *self.terms.entry((namespace, selector, key)).or_insert(next);
        if id == next {
            self.rules.terms.push(Term {
                key: key_id,
                counts: Vec::new(),
            });
        }
        id
    }

    fn key(&mut self, key: &'m str) -> u32 {
        let next = count(self.rules.domains.len());
        let id = *self.keys.entry(key).or_insert(next);
        if id == next {
            let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
            let domains = self.model.nodes.iter().map(|node| {
                let Some(value) = node.labels.get(key) else {
                    return NONE;
                };
                let next = count(ids.len());
                *ids.entry(value).or_insert(next)
            });
            let domains = domains.collect();
            self.rules.domains.push(domains);
        }
        id
    }

    /// Interns all that `pod` has to do with terms; [`NONE`] for nothing.
    fn rules_of(
        &mut self,
        namespace: &'m str,
        pod: &'m Pod,
        class: u32,
        index: &SelectorIndex<u32>,
        selectors: &BTreeMap<u32, &LabelSelector>,
    ) -> u32 {
        let candidates = index.candidates(&pod.labels).copied();
        let is_match = |id: &u32| {
            let selector = selectors.get(id);
            selector.is_some_and(|selector| selector.matches(&pod.labels))
        };
        let mut matches: Vec<u32> = candidates.filter(is_match).collect();
        matches.sort_unstable();
        let mut set = RuleSet {
            matches,
            ..RuleSet::default()
        };
        for term in &pod.placement.anti_affinity {
            set.avoids
                .push(self.term(namespace, &term.selector, &term.topology_key));
        }
        for constraint in &pod.placement.spread {
            let term = self.term(namespace, &constraint.selector, &constraint.topology_key);
            set.spreads.push(Spread {
                term,
                max_skew: constraint.max_skew,
                eligible: self.eligible(term, class, pod),
                counts_itself: set.matches.binary_search(&term).is_ok(),
            });
        }
        if set == RuleSet::default() {
            return NONE;
        }
        // Their order has no meaning.
        set.avoids.sort_unstable();
        set.spreads.sort_unstable();
        let next = count(self.rules.sets.len());
        let id = *self.sets.entry(set.clone()).or_insert(next);
        if id == next {
            self.rules.sets.push(set);
        }
        id
    }

    /// The domains of nodes that the pod's selector and affinity admit; taints
    /// and cordons do not count, as is the scheduler's default.
    fn eligible(&mut self, term: u32, class: u32, pod: &Pod) -> u32 {
        let key = self.rules.terms[term as usize].key;
        let next = count(self.rules.eligible.len());
        let id = *self.eligible.entry((key, class)).or_insert(next);
        if id == next {
            let mut placement = pod.placement.clone();
            placement.tolerations = vec![Toleration::everything()];
            let nodes: Vec<u32> = match self.cells.access.get(class as usize) {
                Some(Access::Cells(_)) => {
                    let cells = self
                        .cells
                        .where_all(self.model, |node| placement.admits(node));
                    let nodes = cells.iter().flat_map(|at| &self.cells.nodes[*at as usize]);
                    nodes.copied().collect()
                }
                _ => {
                    let nodes = (0..).zip(&self.model.nodes);
                    let admitting = nodes.filter(|(_, node)| placement.admits(node));
                    admitting.map(|(at, _)| at).collect()
                }
            };
            let of_node = &self.rules.domains[key as usize];
            let domains = nodes.iter().map(|node| of_node[*node as usize]);
            let mut domains: Vec<u32> = domains.filter(|domain| *domain != NONE).collect();
            domains.sort_unstable();
            domains.dedup();
            self.rules.eligible.push(domains);
        }
        id
    }
}

/// The selectors and keys of `pod`'s own rules.
fn terms_of(pod: &Pod) -> impl Iterator<Item = (&LabelSelector, &str)> {
    let avoids = pod.placement.anti_affinity.iter();
    let avoids = avoids.map(|term| (&term.selector, term.topology_key.as_str()));
    let spreads = pod.placement.spread.iter();
    avoids.chain(spreads.map(|term| (&term.selector, term.topology_key.as_str())))
}
