//! Webhooks that fail closed and would lose their backend to a drain.
//!
//! Such a webhook keeps pods from starting, leases from being renewed or
//! evictions from being granted exactly while its own pod is on the move, and
//! may keep even its own replacement from starting.

use std::collections::{BTreeMap, BTreeSet};

use kube::Client;
use migrate_core::{ClusterModel, Finding, ObjectName, Severity};
use migrate_kube::{Selection, list, resources::Namespace};

use super::{Answer, codes};
use crate::objects::{
    Endpoint, EndpointSlice, MutatingWebhookConfiguration, Rule, ServiceReference,
    ValidatingWebhookConfiguration, Webhook,
};

/// Label of an EndpointSlice: its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label of every namespace: its name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

type Labels = BTreeMap<String, String>;

/// A call that an upgrade cannot do without.
struct Call {
    group: &'static str,
    resource: &'static str,
    operations: &'static [&'static str],
    /// Which objects it is about.
    about: About,
}

#[derive(Clone, Copy)]
enum About {
    /// Pods as the model has them.
    Pods,
    /// Objects in the namespaces of pods, that carry no labels themselves.
    OnPods,
    Nodes,
    /// Leases of nodes and of the control plane.
    Leases,
}

const CALLS: &[Call] = &[
    Call {
        group: "",
        resource: "pods",
        operations: &["CREATE", "UPDATE", "DELETE"],
        about: About::Pods,
    },
    Call {
        group: "",
        resource: "pods/binding",
        operations: &["CREATE"],
        about: About::OnPods,
    },
    Call {
        group: "",
        resource: "pods/eviction",
        operations: &["CREATE"],
        about: About::OnPods,
    },
    Call {
        group: "",
        resource: "pods/status",
        operations: &["UPDATE"],
        about: About::Pods,
    },
    Call {
        group: "",
        resource: "nodes",
        operations: &["CREATE", "UPDATE"],
        about: About::Nodes,
    },
    Call {
        group: "",
        resource: "nodes/status",
        operations: &["UPDATE"],
        about: About::Nodes,
    },
    Call {
        group: "coordination.k8s.io",
        resource: "leases",
        operations: &["CREATE", "UPDATE"],
        about: About::Leases,
    },
];

/// A webhook that an upgrade cannot do without.
struct Hazard {
    configuration: ObjectName,
    webhook: Webhook,
    /// What it is asked about.
    calls: Vec<&'static str>,
}

/// Findings about every webhook that could stop an upgrade.
pub(crate) async fn check(client: &Client, model: &ClusterModel) -> Answer {
    let all = Selection::all();
    let (validating, mutating, namespaces) = futures::try_join!(
        list::<ValidatingWebhookConfiguration>(client, &all),
        list::<MutatingWebhookConfiguration>(client, &all),
        list::<Namespace>(client, &all),
    )?;
    let world = World::new(model, &namespaces);
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let validating = validating.into_iter().flat_map(|c| {
        let object = ObjectName::cluster("ValidatingWebhookConfiguration", name(&c.metadata.name));
        c.webhooks
            .into_iter()
            .map(move |webhook| (object.clone(), webhook))
    });
    let mutating = mutating.into_iter().flat_map(|c| {
        let object = ObjectName::cluster("MutatingWebhookConfiguration", name(&c.metadata.name));
        c.webhooks
            .into_iter()
            .map(move |webhook| (object.clone(), webhook))
    });
    let hazards: Vec<Hazard> = validating
        .chain(mutating)
        .filter(|(_, webhook)| webhook.failure_policy.as_deref().unwrap_or("Fail") == "Fail")
        .map(|(configuration, webhook)| Hazard {
            calls: world.calls_of(&webhook),
            configuration,
            webhook,
        })
        .filter(|hazard| !hazard.calls.is_empty())
        .collect();

    let services: BTreeSet<&ServiceReference> = hazards
        .iter()
        .filter_map(|hazard| hazard.webhook.client_config.service.as_ref())
        .collect();
    let backends = backends(client, &services).await?;
    Ok(hazards
        .iter()
        .filter_map(|hazard| judge(hazard, &backends))
        .collect())
}

/// What the selectors of webhooks are compared with.
struct World<'a> {
    namespaces: BTreeMap<&'a str, Labels>,
    /// Labels of pods by namespace, each combination once.
    pods: BTreeSet<(&'a str, &'a Labels)>,
    nodes: Vec<&'a Labels>,
}

impl<'a> World<'a> {
    fn new(model: &'a ClusterModel, namespaces: &'a [Namespace]) -> Self {
        let mut labels: BTreeMap<&str, Labels> = BTreeMap::new();
        for namespace in namespaces {
            if let Some(name) = namespace.metadata.name.as_deref() {
                labels.insert(name, namespace.metadata.labels.clone().unwrap_or_default());
            }
        }
        Self {
            namespaces: labels,
            pods: model
                .pods
                .iter()
                .map(|pod| (pod.id.namespace.as_str(), &*pod.labels))
                .collect(),
            nodes: model.nodes.iter().map(|node| &node.labels).collect(),
        }
    }

    fn calls_of(&self, webhook: &Webhook) -> Vec<&'static str> {
        let wanted = |call: &&Call| {
            webhook.rules.iter().any(|rule| covers(rule, call)) && self.selects(webhook, call)
        };
        CALLS
            .iter()
            .filter(wanted)
            .map(|call| call.resource)
            .collect()
    }

    /// Whether the webhook's selectors match any object that `call` is about.
    /// Its conditions in CEL are not evaluated: they count as met.
    fn selects(&self, webhook: &Webhook, call: &Call) -> bool {
        let object = |labels: &Labels| {
            webhook
                .object_selector
                .as_ref()
                .is_none_or(|selector| selector.matches(labels))
        };
        let namespace = |name: &str| {
            let Some(selector) = &webhook.namespace_selector else {
                return true;
            };
            match self.namespaces.get(name) {
                Some(labels) => selector.matches(labels),
                None => selector.matches(&Labels::from([(NAMESPACE_NAME.into(), name.into())])),
            }
        };
        let none = Labels::new();
        match call.about {
            About::Pods => self
                .pods
                .iter()
                .any(|(name, labels)| namespace(name) && object(labels)),
            About::OnPods => object(&none) && self.pods.iter().any(|(name, _)| namespace(name)),
            About::Nodes => self.nodes.iter().any(|labels| object(labels)),
            About::Leases => {
                object(&none) && (namespace("kube-node-lease") || namespace("kube-system"))
            }
        }
    }
}

/// Whether a rule asks for `call`, as the API server reads rules.
fn covers(rule: &Rule, call: &Call) -> bool {
    let lists =
        |list: &[String], item: &str| list.iter().any(|entry| entry == "*" || entry == item);
    let is_namespaced = !matches!(call.about, About::Nodes);
    let scope = match rule.scope.as_deref() {
        Some("Cluster") => !is_namespaced,
        Some("Namespaced") => is_namespaced,
        _ => true,
    };
    let (resource, subresource) = match call.resource.split_once('/') {
        Some((resource, subresource)) => (resource, subresource),
        None => (call.resource, ""),
    };
    let covers_resource = rule
        .resources
        .iter()
        .any(|pattern| match pattern.split_once('/') {
            // Without a slash a pattern never means a subresource, not even `*`.
            None => subresource.is_empty() && (pattern == "*" || pattern == resource),
            Some((first, second)) => {
                (first == "*" || first == resource) && (second == "*" || second == subresource)
            }
        });
    scope
        && covers_resource
        && lists(&rule.api_groups, call.group)
        && lists(&rule.api_versions, "v1")
        && call
            .operations
            .iter()
            .any(|operation| lists(&rule.operations, operation))
}

/// Ready backends of a Service.
#[derive(Default)]
struct Backend {
    /// Each once, however many addresses it has, with its node.
    ready: BTreeMap<String, Option<String>>,
}

async fn backends(
    client: &Client,
    services: &BTreeSet<&ServiceReference>,
) -> Result<BTreeMap<ServiceReference, Backend>, migrate_kube::Error> {
    let mut backends = BTreeMap::new();
    if services.is_empty() {
        return Ok(backends);
    }
    let names: BTreeSet<&str> = services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    let selection = Selection::all().labels(format!("{SERVICE_NAME} in ({})", names.join(",")));
    for slice in list::<EndpointSlice>(client, &selection).await? {
        let labels = slice.metadata.labels.unwrap_or_default();
        let service = ServiceReference {
            namespace: slice.metadata.namespace.unwrap_or_default(),
            name: labels.get(SERVICE_NAME).cloned().unwrap_or_default(),
        };
        backends
            .entry(service)
            .or_insert_with(Backend::default)
            .add(slice.endpoints);
    }
    Ok(backends)
}

impl Backend {
    fn add(&mut self, endpoints: Vec<Endpoint>) {
        for endpoint in endpoints {
            if endpoint.conditions.ready == Some(false) {
                continue;
            }
            // A pod with two address families is in two slices.
            let uid = endpoint
                .target_ref
                .map(|target| target.uid)
                .filter(|uid| !uid.is_empty());
            if let Some(key) = uid.or_else(|| endpoint.addresses.into_iter().next()) {
                self.ready.insert(key, endpoint.node_name);
            }
        }
    }
}

fn judge(hazard: &Hazard, backends: &BTreeMap<ServiceReference, Backend>) -> Option<Finding> {
    let name = &hazard.webhook.name;
    let calls = hazard.calls.join(", ");
    let finding = |code, severity, evidence: String, cure: &str| {
        Some(Finding::new(
            code,
            severity,
            hazard.configuration.clone(),
            format!("webhook {name} fails closed on {calls}, and {evidence}"),
            cure,
        ))
    };
    let Some(service) = &hazard.webhook.client_config.service else {
        let url = hazard.webhook.client_config.url.as_deref()?;
        return finding(
            codes::HOOK_URL,
            Severity::Info,
            format!("is reached at {url}: whether it lives through the upgrade is not known here"),
            "see that it does not run on nodes of this cluster, or that two of it do",
        );
    };
    let none = Backend::default();
    let ready = &backends.get(service).unwrap_or(&none).ready;
    let nodes: BTreeSet<Option<&str>> = ready.values().map(Option::as_deref).collect();
    let service = format!("its service {}/{}", service.namespace, service.name);
    let spread = "run two or more of it on different nodes, set failurePolicy: Ignore, or exempt \
                  these calls with a namespaceSelector";
    match (ready.len(), nodes.first()) {
        (0, _) | (_, None) => finding(
            codes::HOOK_DOWN,
            Severity::Blocker,
            format!("{service} has no ready endpoint: these calls fail even now"),
            "repair its pods, or delete the webhook",
        ),
        // What runs on no node is not drained.
        _ if nodes.contains(&None) => None,
        (1, Some(node)) => finding(
            codes::HOOK_SINGLE,
            Severity::Blocker,
            format!(
                "{service} has 1 ready endpoint, on node {}",
                node.unwrap_or_default()
            ),
            spread,
        ),
        (count, Some(node)) if nodes.len() == 1 => finding(
            codes::HOOK_ONE_NODE,
            Severity::Blocker,
            format!(
                "all {count} ready endpoints of {service} are on node {}",
                node.unwrap_or_default()
            ),
            spread,
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &[&str], resources: &[&str], operations: &[&str]) -> Rule {
        let own = |list: &[&str]| list.iter().map(|&item| item.to_owned()).collect();
        Rule {
            api_groups: own(groups),
            api_versions: own(&["v1"]),
            operations: own(operations),
            resources: own(resources),
            scope: None,
        }
    }

    #[test]
    fn rules_are_read_as_the_api_server_reads_them() {
        let covered = |rule: &Rule| -> Vec<&str> {
            CALLS
                .iter()
                .filter(|call| covers(rule, call))
                .map(|call| call.resource)
                .collect()
        };
        let all: Vec<&str> = CALLS.iter().map(|call| call.resource).collect();
        assert_eq!(covered(&rule(&["*"], &["*/*"], &["*"])), all);
        assert_eq!(
            covered(&rule(&["*"], &["*"], &["*"])),
            ["pods", "nodes", "leases"]
        );
        assert_eq!(covered(&rule(&[""], &["pods"], &["CREATE"])), ["pods"]);
        assert_eq!(
            covered(&rule(&[""], &["pods/eviction"], &["CREATE"])),
            ["pods/eviction"]
        );
        assert_eq!(
            covered(&rule(&[""], &["pods/*"], &["CREATE"])),
            ["pods", "pods/binding", "pods/eviction"],
        );
        assert_eq!(
            covered(&rule(&[""], &["*/eviction"], &["*"])),
            ["pods/eviction"]
        );
        assert_eq!(covered(&rule(&["apps"], &["*"], &["*"])), [""; 0]);
        assert_eq!(
            covered(&rule(&[""], &["pods/eviction"], &["UPDATE"])),
            [""; 0]
        );
        let mut cluster = rule(&["*"], &["*"], &["*"]);
        cluster.scope = Some("Cluster".into());
        assert_eq!(covered(&cluster), ["nodes"]);
    }
}
