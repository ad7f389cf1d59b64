//! Which fields of an object are not what they were.

use serde_json::{Map, Value};

/// Where nobody adds defaults: what is new there somebody has written.
const WRITTEN: [&str; 5] = ["/metadata", "/data", "/binaryData", "/rules", "/subjects"];

/// Fields that are not what they were: as JSON pointers, with what was there
/// and what is. Not the status; nor fields that a newer API server adds with
/// their defaults; nor a generation that counts one of the others.
pub(super) fn differing(before: &Value, after: &Value) -> Vec<(String, Value, Value)> {
    let mut found = Vec::new();
    compare("", before, after, &mut found);
    let generation = "/metadata/generation";
    if spec(before) != spec(after) {
        found.retain(|(field, ..)| field != generation);
    }
    found
}

/// What a generation counts the changes of.
fn spec(object: &Value) -> Option<Map<String, Value>> {
    let mut fields = object.as_object()?.clone();
    fields.remove("metadata");
    fields.remove("status");
    Some(fields)
}

fn compare(at: &str, before: &Value, after: &Value, found: &mut Vec<(String, Value, Value)>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, before) in before {
                let at = below(at, key);
                if at != "/status" {
                    compare(&at, before, after.get(key).unwrap_or(&Value::Null), found);
                }
            }
            let is_written = WRITTEN.iter().any(|place| is_within(at, place));
            let added = after.iter().filter(|(key, _)| !before.contains_key(*key));
            for (key, after) in added.filter(|(key, _)| is_written || is_map_of_data(at, key)) {
                found.push((below(at, key), Value::Null, after.clone()));
            }
        }
        (Value::Array(olds), Value::Array(news)) if olds.len() == news.len() => {
            for (index, (old, new)) in olds.iter().zip(news).enumerate() {
                compare(&format!("{at}/{index}"), old, new, found);
            }
        }
        _ if before != after => found.push((at.to_owned(), before.clone(), after.clone())),
        _ => {}
    }
}

/// Whether data are added to an object that had none.
fn is_map_of_data(at: &str, key: &str) -> bool {
    at.is_empty() && WRITTEN.contains(&below(at, key).as_str())
}

/// RFC 6901: names of labels have slashes.
fn below(at: &str, key: &str) -> String {
    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Whether a field is a place or lies below it.
pub(super) fn is_within(field: &str, place: &str) -> bool {
    let rest = field.strip_prefix(place);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(before: &Value, after: &Value) -> Vec<String> {
        let differing = differing(before, after);
        differing.into_iter().map(|(field, ..)| field).collect()
    }

    #[test]
    fn only_what_is_new_in_an_object_is_let_pass() {
        let before = json!({"spec": {"ports": [{"port": 80}], "strategy": {}}, "status": 1});
        let defaulted = json!({
            "spec": {"ports": [{"port": 80, "to": 80}], "strategy": {"most": 1}}, "new": 1,
        });
        assert!(names(&before, &defaulted).is_empty());
        for (field, other) in [
            (
                "/spec/ports/0/port",
                json!({"spec": {"ports": [{"port": 81}], "strategy": {}}}),
            ),
            (
                "/spec/ports",
                json!({"spec": {"ports": [{"port": 80}, {"port": 81}], "strategy": {}}}),
            ),
            (
                "/spec/ports",
                json!({"spec": {"ports": [], "strategy": {}}}),
            ),
            ("/spec/strategy", json!({"spec": {"ports": [{"port": 80}]}})),
        ] {
            assert_eq!(names(&before, &other), [field], "{other}");
        }
    }

    #[test]
    fn data_and_metadata_that_are_new_are_told() {
        let before = json!({"metadata": {"labels": {"a": "b"}}, "data": {"a": "b"}});
        let mut after = before.clone();
        after["metadata"]["labels"]["of/x"] = json!("c");
        after["metadata"]["finalizers"] = json!(["d"]);
        after["data"]["more"] = json!("e");
        after["binaryData"] = json!({"f": "g"});
        let told = names(&before, &after);
        let new = [
            "/data/more",
            "/metadata/labels/of~1x",
            "/metadata/finalizers",
            "/binaryData",
        ];
        assert_eq!(told, new);
    }

    #[test]
    fn a_generation_follows_what_it_counts_or_is_told() {
        let object = |generation: u64, replicas: u64| {
            json!({
                "metadata": {"generation": generation}, "spec": {"replicas": replicas},
            })
        };
        assert_eq!(names(&object(1, 1), &object(2, 2)), ["/spec/replicas"]);
        let there_and_back = names(&object(1, 1), &object(3, 1));
        assert_eq!(there_and_back, ["/metadata/generation"]);
    }

    #[test]
    fn a_place_is_no_part_of_a_name() {
        assert!(is_within("/spec", "/spec"));
        assert!(is_within("/spec/a", "/spec"));
        assert!(!is_within("/specific", "/spec"));
    }
}
