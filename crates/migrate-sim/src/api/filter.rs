//! Label and field selectors of lists and watches.

use serde_json::{Value, json};

use crate::object::str_at;
use crate::selector::{Requirement, Selector};
use crate::store::{ApiError, Object, Resource};

/// Which objects of a kind a request is about.
#[derive(Debug)]
pub(super) struct Filter {
    labels: Selector,
    fields: Vec<FieldTest>,
    selects_all: bool,
}

#[derive(Debug)]
struct FieldTest {
    path: String,
    value: String,
    equal: bool,
}

impl Filter {
    /// Reads both selectors of a query.
    ///
    /// # Errors
    /// 400 for a selector that is none and for a field that the kind does not select by.
    pub(super) fn parse(
        resource: &'static Resource,
        labels: &str,
        fields: &str,
    ) -> Result<Self, ApiError> {
        let labels: Vec<Requirement> = split(labels)
            .map(label_requirement)
            .collect::<Result<_, _>>()?;
        let fields: Vec<FieldTest> = split(fields)
            .map(|text| FieldTest::parse(resource, text))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            selects_all: labels.is_empty() && fields.is_empty(),
            labels: Selector::All(labels),
            fields,
        })
    }

    pub(super) fn matches(&self, object: &Object) -> bool {
        self.selects_all
            || (self.labels.matches(object.labels())
                && self.fields.iter().all(|f| f.matches(object)))
    }

    /// The node that all selected pods must be bound to, if the selector says so.
    pub(super) fn node(&self) -> Option<&str> {
        self.fields
            .iter()
            .find(|f| f.equal && f.path == "spec.nodeName" && !f.value.is_empty())
            .map(|f| f.value.as_str())
    }
}

impl FieldTest {
    fn parse(resource: &'static Resource, text: &str) -> Result<Self, ApiError> {
        let (path, value, equal) = if let Some((path, value)) = text.split_once("!=") {
            (path, value, false)
        } else if let Some((path, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            (path, value, true)
        } else {
            let message = format!("invalid field selector: {text}; can't understand requirement");
            return Err(ApiError::bad_request(message));
        };
        if !is_selectable(resource, path) {
            return Err(ApiError::bad_request(format!(
                "field label not supported: {path}"
            )));
        }
        Ok(Self {
            path: path.trim().to_owned(),
            value: value.trim().to_owned(),
            equal,
        })
    }

    fn matches(&self, object: &Object) -> bool {
        let mut place = &object.json;
        for key in self.path.split('.') {
            place = &place[key];
        }
        let equal = match place {
            Value::String(text) => self.value == *text,
            Value::Null if self.path == "spec.unschedulable" => self.value == "false",
            Value::Null => self.value.is_empty(),
            Value::Bool(flag) => self.value == if *flag { "true" } else { "false" },
            Value::Number(number) => self
                .value
                .parse()
                .is_ok_and(|value: i64| number.as_i64() == Some(value)),
            Value::Array(_) | Value::Object(_) => false,
        };
        equal == self.equal
    }
}

fn is_selectable(resource: &'static Resource, path: &str) -> bool {
    let own: &[&str] = match resource.plural {
        "pods" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "nodes" => &["spec.unschedulable"],
        "namespaces" => &["status.phase"],
        "secrets" => &["type"],
        "jobs" => &["status.successful"],
        "events" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "regarding.kind",
            "regarding.name",
            "regarding.namespace",
            "reason",
            "source",
            "type",
        ],
        _ => &[],
    };
    ["metadata.name", "metadata.namespace"].contains(&path) || own.contains(&path)
}

/// Splits at the commas outside of parentheses.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

/// Reads `key`, `!key`, `key=v`, `key==v`, `key!=v`, `key in (a,b)`, `key notin (a,b)`, `key>1`, `key<1`.
fn label_requirement(text: &str) -> Result<Requirement, ApiError> {
    let expression = |key: &str, operator: &str, values: &str| {
        let values: Vec<&str> = match operator {
            "Exists" | "DoesNotExist" => Vec::new(),
            _ => values.split(',').map(str::trim).collect(),
        };
        json!({ "key": key.trim(), "operator": operator, "values": values })
    };
    let set = |operator: &str, key: &str, rest: &str| {
        let values = rest
            .trim()
            .strip_prefix('(')
            .and_then(|rest| rest.strip_suffix(')'));
        expression(
            key,
            if values.is_some() { operator } else { "" },
            values.unwrap_or_default(),
        )
    };
    let read = if let Some(key) = text.strip_prefix('!') {
        expression(key, "DoesNotExist", "")
    } else if let Some((key, rest)) = text.split_once(" notin ") {
        set("NotIn", key, rest)
    } else if let Some((key, rest)) = text.split_once(" in ") {
        set("In", key, rest)
    } else if let Some((key, value)) = text.split_once("!=") {
        expression(key, "NotIn", value)
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        expression(key, "In", value)
    } else if let Some((key, value)) = text.split_once('>') {
        expression(key, "Gt", value)
    } else if let Some((key, value)) = text.split_once('<') {
        expression(key, "Lt", value)
    } else {
        expression(text, "Exists", "")
    };
    let key_is_plain = str_at(&read, &["key"])
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
    Requirement::parse(&read)
        .filter(|_| key_is_plain)
        .ok_or_else(|| ApiError::bad_request(format!("unable to parse requirement: {text}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn label_selectors_of_both_forms_select() {
        let labels = json!({ "app": "web", "tier": "front" });
        for (text, selected) in [
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app!=web", false),
            ("app in (web, api),tier notin (back)", true),
            ("tier", true),
            ("!tier", false),
            ("gone!=x", true),
            ("app in (api,db)", false),
        ] {
            let requirements = split(text)
                .map(label_requirement)
                .collect::<Result<Vec<_>, _>>()
                .unwrap();
            assert_eq!(
                Selector::All(requirements).matches(labels.as_object()),
                selected,
                "{text}"
            );
        }
    }

    #[test]
    fn malformed_selectors_are_refused() {
        for text in ["app in web", "a b", "=x", "app>many"] {
            assert!(Filter::parse(Resource::PODS, text, "").is_err(), "{text}");
        }
        assert!(Filter::parse(Resource::PODS, "", "spec.nodeName").is_err());
        assert!(Filter::parse(Resource::NODES, "", "spec.nodeName=a").is_err());
    }
}
