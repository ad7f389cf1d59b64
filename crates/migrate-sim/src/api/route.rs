//! What a request is about: verb, kind, object.

use http::Method;

use super::query::decode;
use crate::store::{ApiError, Resource, Store};

/// A request as authorisation, audit and fault hooks see it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or
    /// `deletecollection`; the method in small letters for other paths.
    pub verb: &'static str,
    /// API group, empty for the core group.
    pub group: String,
    /// Plural name of the kind, empty for paths that are no resource.
    pub resource: String,
    /// Namespace, empty for none or all.
    pub namespace: String,
    /// Name of the object, empty for collections.
    pub name: String,
    /// `status`, `eviction`, `scale`, `binding`, ... or empty.
    pub subresource: String,
    /// Path without query.
    pub path: String,
    /// Query as sent.
    pub query: String,
    /// Whether the query says `dryRun=All`; an eviction may say so in its body instead.
    pub dry_run: bool,
    /// Header `User-Agent`.
    pub user_agent: String,
}

/// The parts of a resource path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    /// None for all namespaces and for cluster-scoped kinds.
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) subresource: String,
}

impl Route {
    /// Reads a path; none if it is not below a group version.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(decode)
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        // The path of a namespace itself looks like that of its contents.
        let (namespace, rest) = match rest {
            ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => (None, rest),
            ["namespaces", namespace, rest @ ..] => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let part = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
        (1..=3).contains(&rest.len()).then(|| Self {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: part(0),
            namespace,
            name: part(1),
            subresource: part(2),
        })
    }

    /// The kind that the path names.
    ///
    /// # Errors
    /// 404 for an unknown one, and for one whose scope does not fit the path.
    pub(super) fn resource(&self, store: &Store) -> Result<&'static Resource, ApiError> {
        store
            .resources()
            .find(|r| r.group == self.group && r.version == self.version && r.plural == self.plural)
            .filter(|r| r.namespaced || self.namespace.is_none())
            .filter(|r| !r.namespaced || self.namespace.is_some() || self.name.is_empty())
            .ok_or(ApiError::UnknownPath)
    }

    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }
}

/// The verb of authorisation and audit.
pub(super) fn verb(method: &Method, route: Option<&Route>, watch: bool) -> &'static str {
    let collection = route.is_some_and(|route| route.name.is_empty());
    match (method.as_str(), route.is_some()) {
        ("GET", true) if watch => "watch",
        ("GET", true) if collection => "list",
        ("DELETE", true) if collection => "deletecollection",
        ("GET", _) => "get",
        ("POST", true) => "create",
        ("PUT", true) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        ("POST", false) => "post",
        ("PUT", false) => "put",
        _ => "options",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_their_object() {
        let read = |path: &str| {
            let route = Route::parse(path).unwrap();
            [
                route.group,
                route.plural,
                route.namespace.unwrap_or_default(),
                route.name,
                route.subresource,
            ]
            .join(",")
        };
        assert_eq!(read("/api/v1/pods"), ",pods,,,");
        assert_eq!(read("/api/v1/namespaces"), ",namespaces,,,");
        assert_eq!(read("/api/v1/namespaces/a"), ",namespaces,,a,");
        assert_eq!(
            read("/api/v1/namespaces/a/finalize"),
            ",namespaces,,a,finalize"
        );
        assert_eq!(read("/api/v1/namespaces/a/pods"), ",pods,a,,");
        assert_eq!(
            read("/api/v1/namespaces/a/pods/p/eviction"),
            ",pods,a,p,eviction"
        );
        assert_eq!(read("/apis/apps/v1/deployments"), "apps,deployments,,,");
        assert_eq!(
            read("/apis/apps/v1/namespaces/a/deployments/d/scale"),
            "apps,deployments,a,d,scale"
        );
        assert_eq!(Route::parse("/version"), None);
        assert_eq!(Route::parse("/api/v1"), None);
        assert_eq!(Route::parse("/apis/apps/v1"), None);
    }
}
