//! Definitions of custom resources, which API servers keep in a form that they serve no more.

use serde_json::{Map, Value, json};

use crate::inspect::kube::LARGEST;

const KEPT: &str = "apiextensions.k8s.io/v1beta1";
const SERVED: &str = "apiextensions.k8s.io/v1";

/// What stands once in the old form where it is the same in all versions, and its name in each
/// version.
const SHARED: [(&str, &str); 4] = [
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
    ("subresources", "subresources"),
    ("validation", "schema"),
];

/// The object as it is served; what is no definition in the old form stays as it is. `None`
/// where it would be larger than any that somebody can have sent: so many versions, each with
/// all that they share.
pub(super) fn renewed(mut object: Value) -> Option<Value> {
    if object["apiVersion"] == KEPT
        && let Some(spec) = object["spec"].as_object_mut()
    {
        renew(spec)?;
        object["apiVersion"] = json!(SERVED);
    }
    Some(object)
}

fn renew(spec: &mut Map<String, Value>) -> Option<()> {
    let first = spec.remove("version");
    let shared = SHARED.map(|(once, each)| (each, spec.remove(once)));
    let versions = spec.entry("versions").or_insert_with(|| json!([]));
    if let (Some(versions), Some(name)) = (versions.as_array_mut(), first)
        && versions.is_empty()
    {
        versions.push(json!({"name": name, "served": true, "storage": true}));
    }
    let mut bytes = 0;
    for (name, value) in &shared {
        if let Some(value) = value {
            let versions = versions.as_array().into_iter().flatten();
            let versions = versions.filter_map(Value::as_object);
            let takers = versions.filter(|version| !version.contains_key(*name));
            bytes += value.to_string().len().saturating_mul(takers.count());
            if bytes > LARGEST {
                return None;
            }
        }
    }
    for version in versions.as_array_mut().into_iter().flatten() {
        let Some(version) = version.as_object_mut() else {
            continue;
        };
        for (name, value) in &shared {
            if let Some(value) = value {
                version.entry(*name).or_insert_with(|| value.clone());
            }
        }
        let columns = version.get_mut("additionalPrinterColumns");
        for column in columns.and_then(Value::as_array_mut).into_iter().flatten() {
            rename(column, "JSONPath", "jsonPath");
        }
    }
    if spec.get("preserveUnknownFields") == Some(&json!(false)) {
        spec.remove("preserveUnknownFields");
    }
    let conversion = spec.get_mut("conversion").and_then(Value::as_object_mut);
    if let Some(conversion) = conversion {
        let client = conversion.remove("webhookClientConfig");
        let versions = conversion.remove("conversionReviewVersions");
        if let Some(client) = client {
            let webhook = json!({"clientConfig": client, "conversionReviewVersions": versions});
            conversion.insert("webhook".to_owned(), webhook);
        }
    }
    Some(())
}

fn rename(object: &mut Value, old: &str, new: &str) {
    if let Some(object) = object.as_object_mut()
        && let Some(value) = object.remove(old)
    {
        object.insert(new.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_versions_share_is_in_each() {
        let old = json!({
            "apiVersion": KEPT, "kind": "CustomResourceDefinition", "metadata": {"name": "a"},
            "spec": {
                "group": "example.com", "version": "v1", "preserveUnknownFields": false,
                "validation": {"openAPIV3Schema": {"type": "object"}},
                "subresources": {"status": {}},
                "additionalPrinterColumns": [{"name": "Size", "JSONPath": ".spec.size"}],
                "versions": [
                    {"name": "v1", "served": true, "storage": true},
                    {"name": "v2", "served": true, "storage": false, "subresources": {}},
                ],
                "conversion": {
                    "strategy": "Webhook", "conversionReviewVersions": ["v1"],
                    "webhookClientConfig": {"url": "https://a"},
                },
            },
        });
        let schema = json!({"openAPIV3Schema": {"type": "object"}});
        let columns = json!([{"name": "Size", "jsonPath": ".spec.size"}]);
        let new = json!({
            "apiVersion": SERVED, "kind": "CustomResourceDefinition", "metadata": {"name": "a"},
            "spec": {
                "group": "example.com",
                "versions": [
                    {
                        "name": "v1", "served": true, "storage": true, "schema": schema,
                        "subresources": {"status": {}}, "additionalPrinterColumns": columns,
                    },
                    {
                        "name": "v2", "served": true, "storage": false, "schema": schema,
                        "subresources": {}, "additionalPrinterColumns": columns,
                    },
                ],
                "conversion": {
                    "strategy": "Webhook",
                    "webhook": {"clientConfig": {"url": "https://a"}, "conversionReviewVersions": ["v1"]},
                },
            },
        });
        assert_eq!(renewed(old).as_ref(), Some(&new));
        assert_eq!(renewed(new.clone()), Some(new));
        let oldest = json!({"apiVersion": KEPT, "spec": {"version": "v1"}});
        let version = json!([{"name": "v1", "served": true, "storage": true}]);
        assert_eq!(renewed(oldest).unwrap()["spec"]["versions"], version);
        let none = json!({"apiVersion": KEPT, "spec": 7});
        assert_eq!(renewed(none.clone()), Some(none));
    }

    #[test]
    fn what_versions_share_is_not_multiplied_without_end() {
        let sharing = |versions: usize, own: Value| {
            json!({"apiVersion": KEPT, "spec": {
                "validation": "v".repeat(LARGEST / 10), "versions": vec![own; versions],
            }})
        };
        assert!(renewed(sharing(9, json!({}))).is_some());
        assert!(renewed(sharing(10, json!({}))).is_none());
        // They have their own.
        assert!(renewed(sharing(1000, json!({"schema": {}}))).is_some());
    }
}
