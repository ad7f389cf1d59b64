//! One call to the API, named so that errors can say what to do about it.

use std::borrow::Cow;
use std::fmt;

use kube::Resource;
use migrate_core::ObjectName;

use crate::{Error, error};

/// What was asked of the API: verb, resource and object.
///
/// Made before a request, it turns that request's [`kube::Error`] into an
/// [`Error`] that names the object and, when permission is missing, the rule to
/// add.
///
/// ```
/// use migrate_kube::{ApiCall, resources};
///
/// let call = ApiCall::new::<resources::Pod>("create").named("web-1").within("shop");
/// let call = call.subresource("eviction");
/// assert_eq!(call.to_string(), "create pods/eviction shop/web-1");
/// assert_eq!(
///     call.rule(),
///     r#"{apiGroups: [""], resources: ["pods/eviction"], verbs: ["create"]}"#
/// );
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiCall {
    /// On the heap: every error carries a call, and errors should stay small.
    parts: Box<Parts>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Parts {
    verb: &'static str,
    group: Cow<'static, str>,
    kind: Cow<'static, str>,
    resource: Cow<'static, str>,
    namespace: Option<String>,
    name: Option<String>,
}

impl ApiCall {
    /// `verb` (get, list, watch, create, patch, …) on all objects of type `K`.
    pub fn new<K: Resource<DynamicType = ()>>(verb: &'static str) -> Self {
        let owned = |text: Cow<'_, str>| text.into_owned();
        Self::dynamic(
            verb,
            owned(K::group(&())),
            owned(K::kind(&())),
            owned(K::plural(&())),
        )
    }

    /// `verb` on objects of a kind that has no type here.
    pub fn dynamic(
        verb: &'static str,
        group: impl Into<Cow<'static, str>>,
        kind: impl Into<Cow<'static, str>>,
        resource: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            parts: Box::new(Parts {
                verb,
                group: group.into(),
                kind: kind.into(),
                resource: resource.into(),
                namespace: None,
                name: None,
            }),
        }
    }

    /// `get` on a path that is no object, such as `/version`.
    pub fn path(path: &'static str) -> Self {
        Self::dynamic("get", "", "Path", path)
    }

    /// In this namespace.
    #[must_use]
    pub fn within(mut self, namespace: impl Into<String>) -> Self {
        self.parts.namespace = Some(namespace.into());
        self
    }

    /// On this object.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.parts.name = Some(name.into());
        self
    }

    /// On a subresource, such as `eviction`.
    #[must_use]
    pub fn subresource(mut self, name: &str) -> Self {
        self.parts.resource = format!("{}/{name}", self.parts.resource).into();
        self
    }

    /// The object, or the resource where the call was for all of them.
    pub fn object(&self) -> ObjectName {
        let Parts {
            kind,
            resource,
            namespace,
            name,
            ..
        } = &*self.parts;
        let name = name.as_deref().unwrap_or(resource);
        match namespace {
            Some(namespace) => ObjectName::namespaced(kind.clone(), namespace, name),
            None => ObjectName::cluster(kind.clone(), name),
        }
    }

    /// The RBAC rule that allows it.
    pub fn rule(&self) -> String {
        let Parts {
            verb,
            group,
            kind,
            resource,
            ..
        } = &*self.parts;
        if kind == "Path" {
            return format!(r#"{{nonResourceURLs: ["{resource}"], verbs: ["{verb}"]}}"#);
        }
        format!(r#"{{apiGroups: ["{group}"], resources: ["{resource}"], verbs: ["{verb}"]}}"#)
    }

    /// What `error`, the answer to this call, means.
    pub fn failed(self, error: kube::Error) -> Error {
        error::classify(self, error)
    }
}

impl fmt::Display for ApiCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts {
            verb,
            resource,
            namespace,
            name,
            ..
        } = &*self.parts;
        write!(f, "{verb} {resource}")?;
        match (namespace, name) {
            (Some(namespace), Some(name)) => write!(f, " {namespace}/{name}"),
            (None, Some(name)) => write!(f, " {name}"),
            (Some(namespace), None) => write!(f, " of {namespace}"),
            (None, None) => Ok(()),
        }
    }
}
