//! What the client may do, and the reviews that tell it.

use serde_json::{Value, json};

use super::route::RequestInfo;
use crate::object::str_at;
use crate::store::{ApiError, Resource};

/// Name under which every client is known.
pub(super) const USER: &str = "kubernetes-admin";

/// One rule of what is allowed; `*` stands for everything.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessRule {
    /// Verbs, such as `get` or `create`.
    pub verbs: Vec<String>,
    /// API groups, empty text for the core group.
    pub groups: Vec<String>,
    /// Plural names, a subresource as `pods/eviction`.
    pub resources: Vec<String>,
    /// Namespaces in which the rule holds; an empty list means all, and cluster-scoped objects too.
    pub namespaces: Vec<String>,
}

impl AccessRule {
    /// Allows `verbs` on `resources` of `groups` in every namespace.
    pub fn new<const V: usize, const G: usize, const R: usize>(
        verbs: [&str; V],
        groups: [&str; G],
        resources: [&str; R],
    ) -> Self {
        Self {
            verbs: verbs.map(str::to_owned).to_vec(),
            groups: groups.map(str::to_owned).to_vec(),
            resources: resources.map(str::to_owned).to_vec(),
            namespaces: Vec::new(),
        }
    }

    /// Allows everything.
    pub fn all() -> Self {
        Self::new(["*"], ["*"], ["*"])
    }

    /// The same rule in some namespaces only.
    #[must_use]
    pub fn in_namespaces<const N: usize>(mut self, namespaces: [&str; N]) -> Self {
        self.namespaces = namespaces.map(str::to_owned).to_vec();
        self
    }

    fn allows(&self, asked: &Asked<'_>) -> bool {
        let has =
            |list: &[String], item: &str| list.iter().any(|entry| entry == "*" || entry == item);
        has(&self.verbs, asked.verb)
            && has(&self.groups, asked.group)
            && has(&self.resources, &asked.resource)
            && (self.namespaces.is_empty() || has(&self.namespaces, asked.namespace))
    }
}

struct Asked<'a> {
    verb: &'a str,
    group: &'a str,
    resource: String,
    namespace: &'a str,
}

/// Refuses a request that no rule allows.
///
/// # Errors
/// 403 with the text of the real authoriser.
pub(super) fn check(
    rules: &[AccessRule],
    info: &RequestInfo,
    resource: &'static Resource,
) -> Result<(), ApiError> {
    let asked = Asked {
        verb: info.verb,
        group: &info.group,
        resource: with_subresource(&info.resource, &info.subresource),
        namespace: &info.namespace,
    };
    if rules.iter().any(|rule| rule.allows(&asked)) {
        return Ok(());
    }
    let place = if info.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", info.namespace)
    };
    Err(ApiError::Forbidden {
        resource,
        name: info.name.clone(),
        message: format!(
            "User {USER:?} cannot {} resource {:?} in API group {:?} {place}",
            asked.verb, asked.resource, asked.group,
        ),
        cause: None,
    })
}

/// The answer to a review that was posted to `path`; none for another path.
pub(super) fn review(rules: &[AccessRule], path: &str, mut body: Value) -> Option<Value> {
    let (version, kind, status) = match path {
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
            let asked = &body["spec"]["resourceAttributes"];
            let asked = Asked {
                verb: str_at(asked, &["verb"]),
                group: str_at(asked, &["group"]),
                resource: with_subresource(
                    str_at(asked, &["resource"]),
                    str_at(asked, &["subresource"]),
                ),
                namespace: str_at(asked, &["namespace"]),
            };
            let other_path = body["spec"]["nonResourceAttributes"].is_object();
            let allowed = other_path || rules.iter().any(|rule| rule.allows(&asked));
            (
                "authorization.k8s.io/v1",
                "SelfSubjectAccessReview",
                json!({ "allowed": allowed }),
            )
        }
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews" => {
            let namespace = str_at(&body, &["spec", "namespace"]);
            let rules: Vec<Value> = rules
                .iter()
                .filter(|rule| rule.namespaces.is_empty() || rule.namespaces.iter().any(|n| n == namespace))
                .map(|rule| json!({ "verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources }))
                .collect();
            let status = json!({
                "incomplete": false,
                "resourceRules": rules,
                "nonResourceRules": [{ "verbs": ["get"], "nonResourceURLs": ["*"] }],
            });
            ("authorization.k8s.io/v1", "SelfSubjectRulesReview", status)
        }
        "/apis/authentication.k8s.io/v1/selfsubjectreviews" => {
            let user = json!({ "username": USER, "groups": ["kubeadm:cluster-admins", "system:authenticated"] });
            (
                "authentication.k8s.io/v1",
                "SelfSubjectReview",
                json!({ "userInfo": user }),
            )
        }
        _ => return None,
    };
    body["apiVersion"] = version.into();
    body["kind"] = kind.into();
    body["status"] = status;
    Some(body)
}

fn with_subresource(resource: &str, subresource: &str) -> String {
    if subresource.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}/{subresource}")
    }
}
