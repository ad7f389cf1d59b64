//! What the keys and values mean to Kubernetes.

use super::tally::{Tally, Use};

/// Where API servers keep their objects: the default, and OpenShift's.
const ROOTS: [&str; 2] = ["/registry/", "/kubernetes.io/"];

/// Values that are encrypted at rest begin with this.
const ENCRYPTED: &[u8] = b"k8s:enc:";

/// The resource that a key is an object of, as the API has it: `pods`,
/// `widgets.example.com`. `None` for what is no object.
pub(super) fn resource(key: &[u8]) -> Option<String> {
    let key = std::str::from_utf8(key).ok()?;
    let key = ROOTS.iter().find_map(|root| key.strip_prefix(root))?;
    let parts: Vec<_> = key.split('/').collect();
    match parts.as_slice() {
        // Bookkeeping of API servers.
        ["ranges" | "masterleases" | "peerserverleases", ..] => None,
        ["minions", _] => Some("nodes".to_owned()),
        ["services", "specs", _, _] => Some("services".to_owned()),
        ["services", "endpoints", _, _] => Some("endpoints".to_owned()),
        [group, resource, _] | [group, resource, _, _] if group.contains('.') => {
            Some(format!("{resource}.{group}"))
        }
        [resource, _] | [resource, _, _] if !resource.is_empty() => Some((*resource).to_owned()),
        _ => None,
    }
}

/// The folder that a key is in, no deeper than resources are: names of objects
/// and namespaces are not shown.
pub(super) fn folder(key: &[u8]) -> String {
    let text = String::from_utf8_lossy(key);
    let rest = text.strip_prefix('/').unwrap_or(&text);
    let folders: Vec<_> = rest.split('/').collect();
    let depth = match folders.as_slice() {
        [_, group, _, _, ..] if group.contains('.') => 3,
        ["registry", "services", _, _, ..] => 3,
        [_, _, _, ..] => 2,
        [_, _] => 1,
        _ => return "(others)".to_owned(),
    };
    let root = if rest.len() < text.len() { "/" } else { "" };
    let folders = folders.get(..depth).unwrap_or_default().join("/");
    format!("{root}{folders}/")
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
    keys: Vec<Encryption>,
}

impl View {
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
        let Some(resource) = resource(key) else {
            return;
        };
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
            assert_eq!(resource(key.as_bytes()).as_deref(), expected, "{key}");
        }
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
