//! Label selectors of objects (`matchLabels` and `matchExpressions`).

use serde_json::{Map, Value};

use crate::object::{items_at, str_at};

/// A parsed `metav1.LabelSelector`.
///
/// An absent selector selects nothing, an empty one everything, an invalid one
/// nothing: the three cases that API server and controllers keep apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selector {
    /// Selects no object.
    Nothing,
    /// Selects objects that satisfy every requirement.
    All(Vec<Requirement>),
}

/// One requirement on a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Greater(i64),
    Less(i64),
}

impl Selector {
    /// Reads a selector as it stands in a spec.
    pub(crate) fn parse(selector: Option<&Value>) -> Self {
        let Some(selector) = selector.filter(|value| value.is_object()) else {
            return Self::Nothing;
        };
        let equal = selector.get("matchLabels").and_then(Value::as_object);
        let expressions = items_at(selector, &["matchExpressions"]);
        equal
            .into_iter()
            .flatten()
            .map(|(key, value)| Requirement::equal(key, value))
            .chain(expressions.iter().map(Requirement::parse))
            .collect::<Option<Vec<_>>>()
            .map_or(Self::Nothing, Self::All)
    }

    /// Reads a plain map of labels, the form of `Service.spec.selector` and
    /// `nodeSelector`; an absent or empty map selects nothing.
    pub(crate) fn from_map(map: Option<&Value>) -> Self {
        match map.and_then(Value::as_object) {
            Some(map) if !map.is_empty() => map
                .iter()
                .map(|(key, value)| Requirement::equal(key, value))
                .collect::<Option<Vec<_>>>()
                .map_or(Self::Nothing, Self::All),
            _ => Self::Nothing,
        }
    }

    /// Whether an object with these labels is selected.
    pub(crate) fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        match self {
            Self::Nothing => false,
            Self::All(requirements) => requirements
                .iter()
                .all(|requirement| requirement.matches(labels)),
        }
    }
}

impl Requirement {
    /// One `matchExpressions` entry, also of a node selector term (`Gt`, `Lt`).
    pub(crate) fn parse(expression: &Value) -> Option<Self> {
        let key = str_at(expression, &["key"]).to_owned();
        let values: Vec<String> = items_at(expression, &["values"])
            .iter()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect();
        let test = match str_at(expression, &["operator"]) {
            "In" if !values.is_empty() => Test::In(values),
            "NotIn" if !values.is_empty() => Test::NotIn(values),
            "Exists" if values.is_empty() => Test::Exists,
            "DoesNotExist" if values.is_empty() => Test::DoesNotExist,
            "Gt" => Test::Greater(values.first()?.parse().ok()?),
            "Lt" => Test::Less(values.first()?.parse().ok()?),
            _ => return None,
        };
        (!key.is_empty()).then_some(Self { key, test })
    }

    fn equal(key: &str, value: &Value) -> Option<Self> {
        Some(Self {
            key: key.to_owned(),
            test: Test::In(vec![value.as_str()?.to_owned()]),
        })
    }

    /// Whether these labels satisfy the requirement.
    pub(crate) fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        let found = labels
            .and_then(|labels| labels.get(&self.key))
            .and_then(Value::as_str);
        match (&self.test, found) {
            (Test::In(values), Some(found)) => values.iter().any(|value| value == found),
            (Test::NotIn(values), Some(found)) => values.iter().all(|value| value != found),
            (Test::Exists, found) => found.is_some(),
            (Test::DoesNotExist, found) => found.is_none(),
            (Test::Greater(bound), Some(found)) => {
                found.parse::<i64>().is_ok_and(|value| value > *bound)
            }
            (Test::Less(bound), Some(found)) => {
                found.parse::<i64>().is_ok_and(|value| value < *bound)
            }
            (Test::NotIn(_), None) => true,
            (Test::In(_) | Test::Greater(_) | Test::Less(_), None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_selects_nothing_and_empty_selects_everything() {
        let labels = json!({"app": "web"});
        assert!(!Selector::parse(None).matches(labels.as_object()));
        assert!(Selector::parse(Some(&json!({}))).matches(labels.as_object()));
        assert!(Selector::parse(Some(&json!({}))).matches(None));
        assert!(!Selector::from_map(Some(&json!({}))).matches(labels.as_object()));
    }

    #[test]
    fn expressions_follow_the_label_rules() {
        let labels = json!({"app": "web", "tier": "front", "size": "3"});
        let cases = [
            (
                json!({"key": "app", "operator": "In", "values": ["web", "api"]}),
                true,
            ),
            (
                json!({"key": "app", "operator": "NotIn", "values": ["web"]}),
                false,
            ),
            (
                json!({"key": "gone", "operator": "NotIn", "values": ["web"]}),
                true,
            ),
            (json!({"key": "tier", "operator": "Exists"}), true),
            (json!({"key": "tier", "operator": "DoesNotExist"}), false),
            (
                json!({"key": "size", "operator": "Gt", "values": ["2"]}),
                true,
            ),
            (json!({"key": "app", "operator": "In", "values": []}), false),
            (json!({"key": "app", "operator": "Near"}), false),
        ];
        for (expression, selected) in cases {
            let selector = json!({"matchExpressions": [expression]});
            assert_eq!(
                Selector::parse(Some(&selector)).matches(labels.as_object()),
                selected,
                "{selector}"
            );
        }
    }
}
