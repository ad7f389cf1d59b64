//! What the keys and values mean to Kubernetes.

use serde::Deserialize;

use super::tally::{Tally, Use};
use crate::protobuf::{Field, fields};

/// Where API servers keep their objects: the default, and OpenShift's.
const ROOTS: [&str; 2] = ["/registry/", "/kubernetes.io/"];

/// The object whose uid is what a cluster is known by.
const IDENTITY: &str = "namespaces/kube-system";

/// Largest value that is decoded. etcd takes none of more than 1.5 MiB unless it is told
/// otherwise (`--max-request-bytes`), and each byte may become a part of something that takes
/// a hundred times as much: `{"":0}` in a list does.
pub(crate) const LARGEST: usize = 4 << 20;

/// Values that are no JSON begin with this, and a message follows.
pub(crate) const BINARY: &[u8] = b"k8s\0";

/// Values that are encrypted at rest begin with this.
pub(crate) const ENCRYPTED: &[u8] = b"k8s:enc:";

/// The folder of keys that are in none.
const OTHERS: &str = "(others)";

/// Longer keys are none of an API server, whose names end at 253 bytes each; they are not
/// taken to pieces.
const LONGEST_KEY: usize = 2048;

/// Groups of the API server itself. Keys of their objects do not name them, whatever is in
/// other groups was defined in the cluster.
const BUILT_IN: [&str; 18] = [
    "",
    "admissionregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// Whether objects of `group` are those of the API server itself.
#[cfg(feature = "client")]
pub(crate) fn is_built_in(group: &str) -> bool {
    BUILT_IN.contains(&group)
}

/// Resources that have another name in keys.
const RENAMED: [(&str, &str); 3] = [
    ("nodes", "minions"),
    ("replicationcontrollers", "controllers"),
    ("ingresses", "ingress"),
];

/// The key under which API servers keep an object, by default; `namespace` is empty for
/// what is in none.
///
/// ```
/// let key = migrate_etcd::object_key("apps", "deployments", "shop", "cart");
/// assert_eq!(key, "/registry/deployments/shop/cart");
/// ```
pub fn object_key(group: &str, resource: &str, namespace: &str, name: &str) -> String {
    let renamed = RENAMED.iter().find(|(api, _)| *api == resource);
    let folder = match (BUILT_IN.contains(&group), group, resource) {
        (false, ..) => format!("{group}/{resource}"),
        (_, "", "services") => "services/specs".to_owned(),
        (_, "", "endpoints") => "services/endpoints".to_owned(),
        _ => renamed.map_or(resource, |(_, key)| *key).to_owned(),
    };
    let root = ROOTS[0];
    match namespace {
        "" => format!("{root}{folder}/{name}"),
        _ => format!("{root}{folder}/{namespace}/{name}"),
    }
}

/// What the key of an object names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ObjectKey<'a> {
    group: Option<&'a str>,
    resource: &'a str,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: &'a str,
}

impl<'a> ObjectKey<'a> {
    /// `None` for what is no object.
    pub(crate) fn parse(key: &'a [u8]) -> Option<Self> {
        let key = Some(key).filter(|key| key.len() <= LONGEST_KEY)?;
        let key = std::str::from_utf8(key).ok()?;
        let key = ROOTS.iter().find_map(|root| key.strip_prefix(root))?;
        let parts: Vec<_> = key.split('/').collect();
        let (group, resource, place) = match parts.as_slice() {
            // Bookkeeping of API servers.
            ["ranges" | "masterleases" | "peerserverleases", ..] => return None,
            ["services", "specs", place @ ..] if place.len() == 2 => (None, "services", place),
            ["services", "endpoints", place @ ..] if place.len() == 2 => (None, "endpoints", place),
            [group, resource, place @ ..]
                if group.contains('.') && (1..=2).contains(&place.len()) =>
            {
                (Some(*group), *resource, place)
            }
            [resource, place @ ..] if !resource.is_empty() => {
                let renamed = RENAMED.iter().find(|(_, key)| key == resource);
                (None, renamed.map_or(*resource, |(api, _)| *api), place)
            }
            _ => return None,
        };
        let (namespace, name) = match place {
            [name] => (None, *name),
            [namespace, name] => (Some(*namespace), *name),
            _ => return None,
        };
        Some(Self {
            group,
            resource,
            namespace,
            name,
        })
    }

    /// The resource as the API has it: `pods`, `widgets.example.com`.
    pub(crate) fn resource(&self) -> String {
        match self.group {
            Some(group) => format!("{}.{group}", self.resource),
            None => self.resource.to_owned(),
        }
    }
}

/// The folder that a key is in, no deeper than resources are: names of objects
/// and namespaces are not shown.
pub(super) fn folder(key: &[u8]) -> String {
    if key.len() > LONGEST_KEY {
        return OTHERS.to_owned();
    }
    let text = String::from_utf8_lossy(key);
    let rest = text.strip_prefix('/').unwrap_or(&text);
    let folders: Vec<_> = rest.split('/').collect();
    let depth = match folders.as_slice() {
        [_, group, _, _, ..] if group.contains('.') => 3,
        ["registry", "services", _, _, ..] => 3,
        [_, _, _, ..] => 2,
        [_, _] => 1,
        _ => return OTHERS.to_owned(),
    };
    let root = if rest.len() < text.len() { "/" } else { "" };
    let folders = folders.get(..depth).unwrap_or_default().join("/");
    format!("{root}{folders}/")
}

/// Whether a key is that of the object that a cluster is known by.
pub(crate) fn is_identity(key: &[u8]) -> bool {
    let under = |root: &str| key.strip_prefix(root.as_bytes()) == Some(IDENTITY.as_bytes());
    ROOTS.into_iter().any(under)
}

/// The part of an object that its uid is in.
#[derive(Deserialize)]
struct Identified {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    uid: String,
}

/// The uid of an object as API servers store it; `None` for what is encrypted, or none.
pub(crate) fn uid(value: &[u8]) -> Option<String> {
    let uid = match value.strip_prefix(BINARY) {
        // `Unknown.raw`, in it `metadata`, in that `uid`.
        Some(unknown) => part(part(part(unknown, 2)?, 1)?, 5)?.to_vec(),
        // Only what is asked for is kept: a value of some bytes is one of many.
        None => {
            let object: Identified = serde_json::from_slice(value).ok()?;
            object.metadata.uid.into_bytes()
        }
    };
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    let is_uid = (1..=64).contains(&uid.len()) && uid.iter().all(is_plain);
    String::from_utf8(uid).ok().filter(|_| is_uid)
}

/// The field of this number of a message, the first if there are several.
pub(crate) fn part(message: &[u8], number: u64) -> Option<&[u8]> {
    parts(message, number).next()
}

/// The fields of this number of a message.
pub(crate) fn parts(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    fields(message)
        .flatten()
        .filter_map(move |field| match field {
            (at, Field::Bytes(bytes)) if at == number => Some(bytes),
            _ => None,
        })
}

/// How a value is encrypted.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Encryption {
    pub(super) provider: String,
    pub(super) version: String,
    pub(super) key: String,
}

impl Encryption {
    /// `k8s:enc:PROVIDER:VERSION:KEY:` before the ciphertext.
    pub(super) fn of(value: &[u8]) -> Option<Self> {
        let rest = value.strip_prefix(ENCRYPTED)?;
        // A name is short; the ciphertext behind it is not searched.
        let mut parts = rest
            .get(..rest.len().min(512))?
            .splitn(4, |byte| *byte == b':');
        let mut part = || Some(String::from_utf8_lossy(parts.next()?).into_owned());
        let found = Self {
            provider: part()?,
            version: part()?,
            key: part()?,
        };
        // Without the colon behind the key the value is not what it looks like.
        parts.next().map(|_| found)
    }
}

/// Objects per resource, and per key that they are encrypted with.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) resources: Tally<String>,
    pub(super) encrypted: Tally<(Encryption, String)>,
    /// What the cluster is known by.
    pub(super) cluster: Option<String>,
    keys: Vec<Encryption>,
}

impl View {
    /// Takes note of a value, empty for none, if it says whose all of them are.
    pub(super) fn identify(&mut self, key: &[u8], value: &[u8]) {
        if is_identity(key) {
            self.cluster = uid(value);
        }
    }

    /// A small number for how a value is encrypted; 0 if it is not.
    pub(super) fn encryption(&mut self, value: &[u8]) -> u16 {
        let Some(found) = Encryption::of(value) else {
            return 0;
        };
        let index = self.keys.iter().position(|known| *known == found);
        let index = index.unwrap_or_else(|| {
            // A file of nothing but key names must not fill the memory.
            if self.keys.len() < 1000 {
                self.keys.push(found);
            }
            self.keys.len() - 1
        });
        u16::try_from(index + 1).unwrap_or(u16::MAX)
    }

    pub(super) fn add(&mut self, key: &[u8], encryption: u16, bytes: u64) {
        self.change(key, encryption, |used| used.add(bytes));
    }

    pub(super) fn remove(&mut self, key: &[u8], encryption: u16, bytes: u64) {
        self.change(key, encryption, |used| used.remove(bytes));
    }

    fn change(&mut self, key: &[u8], encryption: u16, change: impl Fn(&mut Use)) {
        let Some(object) = ObjectKey::parse(key) else {
            return;
        };
        let resource = object.resource();
        let by = usize::from(encryption).checked_sub(1);
        if let Some(by) = by.and_then(|by| self.keys.get(by)) {
            let name = (by.clone(), resource.clone());
            change(self.encrypted.of(name));
        }
        change(self.resources.of(resource));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_objects_of_resources() {
        for (key, expected) in [
            ("/registry/pods/default/web-0", Some("pods")),
            ("/registry/namespaces/default", Some("namespaces")),
            ("/registry/minions/n1", Some("nodes")),
            ("/registry/services/specs/default/web", Some("services")),
            (
                "/registry/services/endpoints/default/web",
                Some("endpoints"),
            ),
            (
                "/registry/example.com/widgets/a/b",
                Some("widgets.example.com"),
            ),
            (
                "/registry/example.com/gadgets/a",
                Some("gadgets.example.com"),
            ),
            ("/kubernetes.io/secrets/a/b", Some("secrets")),
            ("/registry/ranges/serviceips", None),
            ("/registry/masterleases/10.0.0.1", None),
            ("compact_rev_key", None),
            ("/registry/", None),
        ] {
            let found = ObjectKey::parse(key.as_bytes()).map(|key| key.resource());
            assert_eq!(found.as_deref(), expected, "{key}");
        }
        for (key, expected) in [
            ("/registry/minions/n1", (None, "n1")),
            ("/registry/services/specs/a/web", (Some("a"), "web")),
            ("/registry/example.com/widgets/a/b", (Some("a"), "b")),
            ("/registry/example.com/gadgets/b", (None, "b")),
            ("/registry/pods/a/b", (Some("a"), "b")),
        ] {
            let found = ObjectKey::parse(key.as_bytes()).unwrap();
            assert_eq!((found.namespace, found.name), expected, "{key}");
        }
    }

    #[test]
    fn keys_are_made_as_they_are_read() {
        for (group, resource, namespace, key) in [
            ("", "pods", "a", "/registry/pods/a/b"),
            ("", "nodes", "", "/registry/minions/b"),
            ("", "services", "a", "/registry/services/specs/a/b"),
            ("", "endpoints", "a", "/registry/services/endpoints/a/b"),
            (
                "",
                "replicationcontrollers",
                "a",
                "/registry/controllers/a/b",
            ),
            (
                "networking.k8s.io",
                "ingresses",
                "a",
                "/registry/ingress/a/b",
            ),
            ("apps", "deployments", "a", "/registry/deployments/a/b"),
            ("coordination.k8s.io", "leases", "a", "/registry/leases/a/b"),
            (
                "apiextensions.k8s.io",
                "customresourcedefinitions",
                "",
                "/registry/apiextensions.k8s.io/customresourcedefinitions/b",
            ),
            (
                "snapshot.storage.k8s.io",
                "volumesnapshots",
                "a",
                "/registry/snapshot.storage.k8s.io/volumesnapshots/a/b",
            ),
        ] {
            let made = object_key(group, resource, namespace, "b");
            assert_eq!(made, key);
            let read = ObjectKey::parse(made.as_bytes()).unwrap();
            assert_eq!(read.resource, resource);
            assert_eq!(read.namespace.unwrap_or_default(), namespace);
            assert_eq!(read.name, "b");
        }
    }

    #[test]
    fn a_cluster_is_known_by_its_namespace_whatever_the_form() {
        use crate::protobuf::Message;

        let meta = Message::default()
            .bytes(1, b"kube-system")
            .bytes(5, b"0b5c-uid");
        let object = Message::default().bytes(1, &meta.finish()).finish();
        let kind = Message::default().bytes(1, b"v1").bytes(2, b"Namespace");
        let unknown = Message::default()
            .bytes(1, &kind.finish())
            .bytes(2, &object);
        let binary = [BINARY, &unknown.finish()].concat();
        assert_eq!(uid(&binary).as_deref(), Some("0b5c-uid"));
        let json = br#"{"kind":"Namespace","metadata":{"uid":"0b5c-uid"}}"#;
        assert_eq!(uid(json).as_deref(), Some("0b5c-uid"));
        for none in [
            &b""[..],
            b"k8s\0",
            b"k8s:enc:kms:v2:vault:\x00",
            b"{}",
            br#"{"metadata":{"uid":"a secret with spaces"}}"#,
            binary.get(..20).unwrap(),
        ] {
            assert_eq!(uid(none), None, "{none:?}");
        }
        let mut view = View::default();
        view.identify(b"/registry/namespaces/kube-system", &binary);
        view.identify(b"/registry/namespaces/default", json);
        view.identify(b"/registry/pods/namespaces/kube-system", json);
        assert_eq!(view.cluster.as_deref(), Some("0b5c-uid"));
        view.identify(b"/registry/namespaces/kube-system", b"");
        assert_eq!(view.cluster, None, "deleted");
    }

    #[test]
    fn folders_show_no_names() {
        for (key, expected) in [
            ("/registry/secrets/team-a/password", "/registry/secrets/"),
            ("/registry/namespaces/team-a", "/registry/namespaces/"),
            (
                "/registry/example.com/widgets/a/b",
                "/registry/example.com/widgets/",
            ),
            ("/registry/services/specs/a/b", "/registry/services/specs/"),
            ("app/secret", "app/"),
            ("secret", "(others)"),
        ] {
            assert_eq!(folder(key.as_bytes()), expected, "{key}");
        }
        let long = format!("/registry/{}/a", "s".repeat(LONGEST_KEY));
        assert_eq!(folder(long.as_bytes()), OTHERS);
        assert_eq!(ObjectKey::parse(long.as_bytes()), None);
    }

    #[test]
    fn the_key_of_an_encrypted_value_is_named() {
        let found = Encryption::of(b"k8s:enc:kms:v2:vault:\x00\xff:").unwrap();
        assert_eq!(found.provider, "kms");
        assert_eq!(
            (found.version.as_str(), found.key.as_str()),
            ("v2", "vault")
        );
        assert_eq!(Encryption::of(b"k8s:enc:aescbc:v1"), None);
        assert_eq!(Encryption::of(b"k8s\0"), None);
    }
}
