//! Which nodes a pod fits on, and which of them is best.

use std::collections::BTreeMap;

use serde_json::Value;

use super::nodes::{Node, Nodes, owner_of};
use super::requirements::{NodeTerm, PodTerm, Requirements};
use crate::object::label;
use crate::world::node::tolerates;

/// What makes a pod's fit depend on other pods, computed once per pod.
pub(super) struct Neighbours {
    /// Per spread constraint: matching pods by domain, and the smallest count.
    spread: Vec<(BTreeMap<String, i64>, i64)>,
    /// Domains that an anti-affinity forbids: topology key and value.
    forbidden: Vec<(String, String)>,
    /// Per affinity term: domains that have a match; none when no pod matches anywhere.
    wanted: Vec<Option<Vec<String>>>,
}

impl Neighbours {
    pub(super) fn of(pod: &Requirements, nodes: &Nodes) -> Self {
        Self {
            spread: spread_counts(pod, nodes),
            forbidden: forbidden(pod, nodes),
            wanted: wanted(pod, nodes),
        }
    }
}

/// Why a pod does not fit on a node, in the scheduler's words; `None` when it does.
pub(super) fn misfit(
    pod: &Requirements,
    volumes: &[Vec<NodeTerm>],
    neighbours: &Neighbours,
    node: &Node,
) -> Option<&'static str> {
    let object = &node.object.as_ref()?.json;
    if node.is_cordoned() && !tolerates_cordon(pod) {
        return Some("node(s) were unschedulable");
    }
    if !tolerates_all(pod, node) {
        return Some("node(s) had untolerated taint(s)");
    }
    let selects =
        |selector: &crate::selector::Selector| selector.matches(crate::object::labels(object));
    let is_selected = pod.node_selector.as_ref().is_none_or(selects)
        && pod
            .node_terms
            .as_ref()
            .is_none_or(|terms| terms.iter().any(|term| term.matches(object)));
    if !is_selected {
        return Some("node(s) didn't match Pod's node affinity/selector");
    }
    if let Some(reason) = lacks(pod, node) {
        return Some(reason);
    }
    if !volumes
        .iter()
        .all(|terms| terms.iter().any(|term| term.matches(object)))
    {
        return Some("node(s) didn't match PersistentVolume's node affinity");
    }
    if !pod
        .spread
        .iter()
        .zip(&neighbours.spread)
        .all(|(spread, (counts, least))| {
            let domain = label(object, &spread.topology_key);
            let own = i64::from(spread.selector.matches(pod.pod.labels()));
            domain
                .and_then(|domain| counts.get(domain))
                .is_some_and(|count| count + own - least <= spread.max_skew)
        })
    {
        return Some("node(s) didn't match pod topology spread constraints");
    }
    if neighbours
        .forbidden
        .iter()
        .any(|(key, value)| label(object, key) == Some(value))
    {
        return Some("node(s) didn't match pod anti-affinity rules");
    }
    let has_company = pod
        .affinity
        .iter()
        .zip(&neighbours.wanted)
        .all(|(term, domains)| match domains {
            Some(domains) => label(object, &term.topology_key)
                .is_some_and(|own| domains.iter().any(|one| one == own)),
            // The first of its kind goes where it likes, if it would be its own company.
            None => label(object, &term.topology_key).is_some() && term.matches(&pod.pod),
        });
    (!has_company).then_some("node(s) didn't match pod affinity rules")
}

/// How good a node is for a pod; more is better.
///
/// Free share of cpu and memory after placement, minus a malus for pods of the
/// same owner on the node and in its zone.
pub(super) fn score(pod: &Requirements, node: &Node, nodes: &Nodes) -> i64 {
    let free = |used: i64, asked: i64, all: i64| {
        if all <= 0 {
            0
        } else {
            (all - used - asked).max(0) * 100 / all
        }
    };
    let cpu = free(node.used.cpu, pod.amount.cpu, node.allocatable.cpu);
    let memory = free(node.used.memory, pod.amount.memory, node.allocatable.memory);
    let soft = node
        .soft_taints()
        .filter(|taint| {
            !pod.tolerations()
                .iter()
                .any(|toleration| tolerates(toleration, taint))
        })
        .count();
    let (on_node, in_zone) = match owner_of(&pod.pod) {
        "" => (0, 0),
        owner => nodes.siblings(owner, node),
    };
    let soft = i64::try_from(soft).unwrap_or(i64::MAX / 1000);
    (cpu + memory) / 2 - 100 * on_node - 50 * in_zone - 300 * soft
}

fn tolerates_all(pod: &Requirements, node: &Node) -> bool {
    node.taints().all(|taint| {
        pod.tolerations()
            .iter()
            .any(|toleration| tolerates(toleration, taint))
    })
}

fn tolerates_cordon(pod: &Requirements) -> bool {
    let taint =
        serde_json::json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
    pod.tolerations()
        .iter()
        .any(|toleration| tolerates(toleration, &taint))
}

fn lacks(pod: &Requirements, node: &Node) -> Option<&'static str> {
    let (used, all, asked) = (&node.used, &node.allocatable, &pod.amount);
    if used.pods + asked.pods > all.pods {
        Some("Too many pods")
    } else if asked.cpu > 0 && used.cpu + asked.cpu > all.cpu {
        Some("Insufficient cpu")
    } else if asked.memory > 0 && used.memory + asked.memory > all.memory {
        Some("Insufficient memory")
    } else {
        None
    }
}

fn spread_counts(pod: &Requirements, nodes: &Nodes) -> Vec<(BTreeMap<String, i64>, i64)> {
    pod.spread
        .iter()
        .map(|spread| {
            // Domains are those of the nodes that the pod may go to at all.
            let mut counts: BTreeMap<String, i64> = nodes
                .from("")
                .filter(|(_, node)| !spread.honours_taints || tolerates_all(pod, node))
                .filter_map(|(_, node)| node.object.as_ref())
                .filter(|node| is_eligible(pod, &node.json))
                .filter_map(|node| label(&node.json, &spread.topology_key))
                .map(|domain| (domain.to_owned(), 0))
                .collect();
            for placed in nodes.placed_in(&pod.pod.namespace) {
                if placed.counts_for_spread()
                    && spread.selector.matches(placed.pod.labels())
                    && let Some(domain) = nodes.label_of(&placed.node, &spread.topology_key)
                    && let Some(count) = counts.get_mut(domain)
                {
                    *count += 1;
                }
            }
            let least = if counts.len() < spread.min_domains {
                0
            } else {
                counts.values().copied().min().unwrap_or(0)
            };
            (counts, least)
        })
        .collect()
}

fn is_eligible(pod: &Requirements, node: &Value) -> bool {
    pod.node_selector
        .as_ref()
        .is_none_or(|selector| selector.matches(crate::object::labels(node)))
        && pod
            .node_terms
            .as_ref()
            .is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
}

fn forbidden(pod: &Requirements, nodes: &Nodes) -> Vec<(String, String)> {
    let mut domains = Vec::new();
    let mut forbid = |term: &PodTerm, node: &str| {
        if let Some(domain) = nodes.label_of(node, &term.topology_key) {
            domains.push((term.topology_key.clone(), domain.to_owned()));
        }
    };
    for term in &pod.anti_affinity {
        for namespace in term.namespaces() {
            for placed in nodes
                .placed_in(namespace)
                .filter(|placed| term.matches(&placed.pod))
            {
                forbid(term, &placed.node);
            }
        }
    }
    // The rule holds both ways: what is there may not want this pod beside it.
    for placed in nodes.placed_in(&pod.pod.namespace) {
        for term in placed
            .anti_affinity
            .iter()
            .filter(|term| term.matches(&pod.pod))
        {
            forbid(term, &placed.node);
        }
    }
    domains.sort();
    domains.dedup();
    domains
}

fn wanted(pod: &Requirements, nodes: &Nodes) -> Vec<Option<Vec<String>>> {
    pod.affinity
        .iter()
        .map(|term| {
            let mut matches = term
                .namespaces()
                .flat_map(|namespace| nodes.placed_in(namespace))
                .filter(|placed| term.matches(&placed.pod))
                .peekable();
            matches.peek()?;
            let mut domains: Vec<String> = matches
                .filter_map(|placed| {
                    nodes
                        .label_of(&placed.node, &term.topology_key)
                        .map(str::to_owned)
                })
                .collect();
            domains.sort();
            domains.dedup();
            Some(domains)
        })
        .collect()
}
