//! What a pod asks of a node, read once per pod.

use std::sync::Arc;

use serde_json::Value;

use crate::object::{at, int_at, items_at, namespace, quantity_milli, str_at};
use crate::selector::{Requirement, Selector};
use crate::store::Object;

/// An amount of what a node has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    /// Thousandths of a core.
    pub(super) cpu: i64,
    /// Thousandths of a byte, as quantities are read.
    pub(super) memory: i64,
    pub(super) pods: i64,
}

/// What one pod asks for.
#[derive(Debug)]
pub(super) struct Requirements {
    pub(super) pod: Arc<Object>,
    pub(super) amount: Amount,
    pub(super) node_selector: Option<Selector>,
    /// Terms of the required node affinity; one of them must match.
    pub(super) node_terms: Option<Vec<NodeTerm>>,
    pub(super) affinity: Vec<PodTerm>,
    pub(super) anti_affinity: Vec<PodTerm>,
    pub(super) spread: Vec<Spread>,
}

/// One term of a node affinity; every requirement must hold.
#[derive(Debug)]
pub(crate) struct NodeTerm {
    labels: Vec<Requirement>,
    names: Option<Vec<String>>,
    is_valid: bool,
}

/// One term of a required pod affinity or anti-affinity.
#[derive(Debug, Clone)]
pub(super) struct PodTerm {
    pub(super) selector: Selector,
    pub(super) topology_key: String,
    namespaces: Vec<String>,
}

/// One topology spread constraint that must hold.
#[derive(Debug)]
pub(super) struct Spread {
    pub(super) selector: Selector,
    pub(super) topology_key: String,
    pub(super) max_skew: i64,
    pub(super) min_domains: usize,
    /// Whether nodes with taints that the pod does not tolerate are no domains.
    pub(super) honours_taints: bool,
}

impl Amount {
    pub(super) fn of_pod(pod: &Value) -> Self {
        let mut amount = Self {
            pods: 1,
            ..Self::default()
        };
        for container in items_at(pod, &["spec", "containers"]) {
            let (cpu, memory) = requests(container);
            amount.cpu += cpu;
            amount.memory += memory;
        }
        for container in items_at(pod, &["spec", "initContainers"]) {
            let (cpu, memory) = requests(container);
            amount.cpu = amount.cpu.max(cpu);
            amount.memory = amount.memory.max(memory);
        }
        amount
    }

    pub(super) fn of_node(node: &Value) -> Self {
        let read = |key| {
            at(node, &["status", "allocatable", key])
                .and_then(quantity_milli)
                .unwrap_or_default()
        };
        Self {
            cpu: read("cpu"),
            memory: read("memory"),
            pods: read("pods") / 1000,
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.memory += other.memory;
        self.pods += other.pods;
    }

    pub(super) fn subtract(&mut self, other: Self) {
        self.cpu -= other.cpu;
        self.memory -= other.memory;
        self.pods -= other.pods;
    }
}

impl Requirements {
    pub(super) fn of(pod: Arc<Object>) -> Self {
        let json = &pod.json;
        let selector = at(json, &["spec", "nodeSelector"])
            .filter(|map| map.as_object().is_some_and(|m| !m.is_empty()));
        let affinity = |kind: &str, field: &str| {
            at(
                json,
                &[
                    "spec",
                    "affinity",
                    kind,
                    "requiredDuringSchedulingIgnoredDuringExecution",
                ],
            )
            .map(|required| {
                if field.is_empty() {
                    required
                } else {
                    &required[field]
                }
            })
        };
        let pod_terms = |kind: &str| {
            let terms = affinity(kind, "")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            terms
                .map(|term| PodTerm::parse(term, namespace(json)))
                .collect()
        };
        Self {
            amount: Amount::of_pod(json),
            node_selector: selector.map(|map| Selector::from_map(Some(map))),
            node_terms: affinity("nodeAffinity", "nodeSelectorTerms").map(NodeTerm::parse_all),
            affinity: pod_terms("podAffinity"),
            anti_affinity: anti_affinity_of(json),
            spread: spread_of(json),
            pod,
        }
    }

    /// The only nodes that can be meant, where the pod names them.
    pub(super) fn named_nodes(&self) -> Option<Vec<&str>> {
        let terms = self.node_terms.as_ref()?;
        let names: Option<Vec<_>> = terms.iter().map(|term| term.names.as_ref()).collect();
        Some(names?.into_iter().flatten().map(String::as_str).collect())
    }

    pub(super) fn tolerations(&self) -> &[Value] {
        items_at(&self.pod.json, &["spec", "tolerations"])
    }
}

/// Terms of the required anti-affinity of a pod.
pub(super) fn anti_affinity_of(pod: &Value) -> Vec<PodTerm> {
    let path = [
        "spec",
        "affinity",
        "podAntiAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
    ];
    items_at(pod, &path)
        .iter()
        .map(|term| PodTerm::parse(term, namespace(pod)))
        .collect()
}

impl NodeTerm {
    /// The terms of a node selector, also that of a volume's node affinity.
    pub(crate) fn parse_all(terms: &Value) -> Vec<Self> {
        terms
            .as_array()
            .into_iter()
            .flatten()
            .map(Self::parse)
            .collect()
    }

    fn parse(term: &Value) -> Self {
        let expressions = items_at(term, &["matchExpressions"]);
        let labels: Option<Vec<Requirement>> = expressions.iter().map(Requirement::parse).collect();
        let names = items_at(term, &["matchFields"])
            .iter()
            .find(|field| str_at(field, &["key"]) == "metadata.name")
            .map(|field| {
                let values = items_at(field, &["values"]).iter();
                values
                    .filter_map(|value| value.as_str().map(str::to_owned))
                    .collect()
            });
        // A term without any requirement matches no node.
        let is_valid = labels.is_some() && (!expressions.is_empty() || names.is_some());
        Self {
            labels: labels.unwrap_or_default(),
            names,
            is_valid,
        }
    }

    /// Whether the node satisfies the term.
    pub(crate) fn matches(&self, node: &Value) -> bool {
        let labels = crate::object::labels(node);
        self.is_valid
            && self
                .names
                .as_ref()
                .is_none_or(|names| names.iter().any(|name| name == crate::object::name(node)))
            && self
                .labels
                .iter()
                .all(|requirement| requirement.matches(labels))
    }
}

impl PodTerm {
    fn parse(term: &Value, own_namespace: &str) -> Self {
        let listed = items_at(term, &["namespaces"])
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned);
        let mut namespaces: Vec<String> = listed.collect();
        if namespaces.is_empty() {
            namespaces.push(own_namespace.to_owned());
        }
        Self {
            selector: Selector::parse(at(term, &["labelSelector"])),
            topology_key: str_at(term, &["topologyKey"]).to_owned(),
            namespaces,
        }
    }

    pub(super) fn matches(&self, pod: &Object) -> bool {
        self.namespaces.contains(&pod.namespace) && self.selector.matches(pod.labels())
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.iter().map(String::as_str)
    }
}

fn spread_of(pod: &Value) -> Vec<Spread> {
    items_at(pod, &["spec", "topologySpreadConstraints"])
        .iter()
        .filter(|constraint| str_at(constraint, &["whenUnsatisfiable"]) != "ScheduleAnyway")
        .map(|constraint| Spread {
            selector: Selector::parse(at(constraint, &["labelSelector"])),
            topology_key: str_at(constraint, &["topologyKey"]).to_owned(),
            max_skew: int_at(constraint, &["maxSkew"]).unwrap_or(1),
            min_domains: int_at(constraint, &["minDomains"])
                .and_then(|count| usize::try_from(count).ok())
                .unwrap_or_default(),
            honours_taints: str_at(constraint, &["nodeTaintsPolicy"]) == "Honor",
        })
        .collect()
}

/// Requests of one container; a limit without a request counts as one.
fn requests(container: &Value) -> (i64, i64) {
    let read = |key| {
        ["requests", "limits"]
            .iter()
            .find_map(|kind| at(container, &["resources", kind, key]))
            .and_then(quantity_milli)
            .unwrap_or_default()
    };
    (read("cpu"), read("memory"))
}
