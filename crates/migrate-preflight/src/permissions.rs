//! Everything the program may ask the API for, in one table.
//!
//! The table is what the permission check asks about and what the RBAC
//! manifest in `docs/rbac.yaml` is made of.

use std::fmt::Write;

use migrate_kube::ApiCall;

/// What a permission is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Usage {
    /// A run cannot do without it.
    Run,
    /// Only a check reads it: without it less is asked.
    Check,
}

/// What a permission is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// A path that is no object, such as `/metrics`.
    Path(&'static str),
    /// A kind of object.
    Resource {
        /// API group, empty for the core group.
        group: &'static str,
        /// Plural name, a subresource as `pods/eviction`.
        resource: &'static str,
    },
}

/// Something the program asks the API for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Permission {
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// On what.
    pub target: Target,
    /// The only namespace it is needed in; absent: everywhere.
    pub namespace: Option<&'static str>,
    /// The only object it is needed on; absent: all.
    pub name: Option<&'static str>,
    /// What it is for.
    pub usage: Usage,
    /// What it is for, to go on after "needed".
    pub why: &'static str,
}

const SYSTEM: &str = "kube-system";
const ANCHOR: &str = "kube-migrate";
const WATCH: &[&str] = &["list", "watch"];

/// Everything a run and its checks ask for, and nothing else.
pub const REQUIRED: &[Permission] = &[
    run(
        "",
        "nodes",
        &["get", "list", "watch", "patch"],
        "to see, cordon and mark nodes",
    ),
    run("", "pods", WATCH, "to see what runs where"),
    run(
        "",
        "pods/eviction",
        &["create"],
        "to move pods within their budgets",
    ),
    run(
        "",
        "persistentvolumeclaims",
        WATCH,
        "to know which pods are tied to a node",
    ),
    run(
        "",
        "persistentvolumes",
        WATCH,
        "to know which pods are tied to a node",
    ),
    run(
        "apps",
        "daemonsets",
        &["list"],
        "to tell which pods belong to a node",
    ),
    run("apps", "deployments", WATCH, "to wait for replacements"),
    run(
        "apps",
        "replicasets",
        WATCH,
        "to find the Deployment of a pod",
    ),
    run("apps", "statefulsets", WATCH, "to wait for replacements"),
    run(
        "batch",
        "jobs",
        &["list"],
        "to know which pods end by themselves",
    ),
    run(
        "policy",
        "poddisruptionbudgets",
        WATCH,
        "to keep to disruption budgets",
    ),
    run(
        "storage.k8s.io",
        "volumeattachments",
        WATCH,
        "to wait until volumes are detached",
    ),
    run("", "namespaces", &["get"], "to know which cluster this is").only(None, SYSTEM),
    run(
        "coordination.k8s.io",
        "leases",
        &["create"],
        "to say that a run is under way",
    )
    .within(SYSTEM),
    run(
        "coordination.k8s.io",
        "leases",
        &["get", "patch"],
        "to say that a run is under way",
    )
    .only(Some(SYSTEM), ANCHOR),
    path(
        "/readyz",
        Usage::Run,
        "to see that the control plane is ready",
    ),
    path(
        "/version",
        Usage::Run,
        "to see the version of the control plane",
    ),
    look("", "namespaces", "to judge selectors of webhooks"),
    look(
        "",
        "services",
        "to see whose pods lose requests when they move",
    ),
    look(
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        "to judge webhooks",
    ),
    look(
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        "to judge webhooks",
    ),
    look(
        "apiregistration.k8s.io",
        "apiservices",
        "to find APIs that do not answer",
    ),
    look("batch", "cronjobs", "to find other actors"),
    Permission {
        usage: Usage::Check,
        ..run(
            "",
            "configmaps",
            &["get"],
            "to see that a backup has the keys of the cluster",
        )
    }
    .only(Some(SYSTEM), "kube-root-ca.crt"),
    look(
        "coordination.k8s.io",
        "leases",
        "to see that leaders and kubelets are back after a change",
    ),
    look(
        "cluster.x-k8s.io",
        "machinehealthchecks",
        "to find other actors",
    ),
    look(
        "discovery.k8s.io",
        "endpointslices",
        "to find the backends of webhooks",
    ),
    look("karpenter.sh", "nodepools", "to find other actors"),
    look(
        "machine.openshift.io",
        "machinehealthchecks",
        "to find other actors",
    ),
    look(
        "storage.k8s.io",
        "csinodes",
        "to see that a node has its storage drivers again",
    ),
    path("/apis", Usage::Check, "to find other actors"),
    path(
        "/openid/v1/jwks",
        Usage::Check,
        "to see that a backup has the keys of the cluster",
    ),
    path("/metrics", Usage::Check, "to find deprecated APIs in use"),
];

const fn run(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    why: &'static str,
) -> Permission {
    Permission {
        verbs,
        target: Target::Resource { group, resource },
        namespace: None,
        name: None,
        usage: Usage::Run,
        why,
    }
}

const fn look(group: &'static str, resource: &'static str, why: &'static str) -> Permission {
    Permission {
        usage: Usage::Check,
        ..run(group, resource, &["list"], why)
    }
}

const fn path(path: &'static str, usage: Usage, why: &'static str) -> Permission {
    Permission {
        target: Target::Path(path),
        usage,
        ..run("", "", &["get"], why)
    }
}

impl Permission {
    const fn within(mut self, namespace: &'static str) -> Self {
        self.namespace = Some(namespace);
        self
    }

    const fn only(mut self, namespace: Option<&'static str>, name: &'static str) -> Self {
        self.namespace = namespace;
        self.name = Some(name);
        self
    }

    /// The call that it allows, for one of its verbs.
    pub(crate) fn call(&self, verb: &'static str) -> ApiCall {
        let mut call = match self.target {
            Target::Path(path) => ApiCall::path(path),
            Target::Resource { group, resource } => {
                ApiCall::dynamic(verb, group, "Permission", resource)
            }
        };
        if let Some(namespace) = self.namespace {
            call = call.within(namespace);
        }
        match self.name {
            Some(name) => call.named(name),
            None => call,
        }
    }

    fn rule(&self) -> String {
        let quote = |item: &str| format!("{item:?}");
        let verbs: Vec<String> = self.verbs.iter().map(|verb| quote(verb)).collect();
        let verbs = verbs.join(", ");
        match self.target {
            Target::Path(path) => {
                format!("  - nonResourceURLs: [{path:?}]\n    verbs: [{verbs}]\n")
            }
            Target::Resource { group, resource } => {
                let mut rule =
                    format!("  - apiGroups: [{group:?}]\n    resources: [{resource:?}]\n");
                if let Some(name) = self.name {
                    rule.push_str(&format!("    resourceNames: [{name:?}]\n"));
                }
                rule.push_str(&format!("    verbs: [{verbs}]\n"));
                rule
            }
        }
    }
}

/// The RBAC manifest that grants exactly [`REQUIRED`] to the ServiceAccount
/// `kube-migrate` of `kube-system`.
pub fn rbac_manifest() -> String {
    let mut text = String::from(
        "# Everything kube-migrate asks the API for, and nothing else. Made from the table\n\
         # migrate_preflight::REQUIRED by its tests: change it there.\n\
         apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: kube-migrate\n  \
         namespace: kube-system\n",
    );
    role(&mut text, "ClusterRole", None);
    role(&mut text, "Role", Some(SYSTEM));
    text
}

/// Adds the role for one namespace, or for the cluster, and its binding.
fn role(text: &mut String, kind: &str, namespace: Option<&str>) {
    let place = namespace.map_or(String::new(), |n| format!("\n  namespace: {n}"));
    let head = "apiVersion: rbac.authorization.k8s.io/v1";
    let mut rules = String::new();
    for permission in REQUIRED.iter().filter(|p| p.namespace == namespace) {
        // A table of constants; writing to a String cannot fail.
        let _ = write!(rules, "  # {}\n{}", permission.why, permission.rule());
    }
    let _ = write!(
        text,
        "---\n{head}\nkind: {kind}\nmetadata:\n  name: kube-migrate{place}\nrules:\n{rules}\
         ---\n{head}\nkind: {kind}Binding\nmetadata:\n  name: kube-migrate{place}\n\
         roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: {kind}\n  name: kube-migrate\n\
         subjects:\n  - kind: ServiceAccount\n    name: kube-migrate\n    namespace: kube-system\n"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Run with `UPDATE_DOCS=1` after a change of the table.
    #[test]
    fn the_manifest_in_the_documentation_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rbac.yaml");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, rbac_manifest()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert_eq!(written, rbac_manifest(), "run this test with UPDATE_DOCS=1");
    }

    #[test]
    fn nothing_is_asked_for_twice_and_nothing_grants_everything() {
        let mut seen = Vec::new();
        for permission in REQUIRED {
            for verb in permission.verbs {
                assert_ne!(*verb, "*");
                let key = (
                    verb,
                    permission.target,
                    permission.namespace,
                    permission.name,
                );
                assert!(!seen.contains(&key), "{key:?}");
                seen.push(key);
            }
        }
        assert!(!rbac_manifest().contains('*'));
    }
}
