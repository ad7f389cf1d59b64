//! Typed reads and writes on Kubernetes objects kept as JSON.
//!
//! Objects stay `serde_json::Value` from the request body to the watch event;
//! these helpers are the one place that knows where a field lives. Reads never
//! fail: a missing or mistyped field reads as absent.

use serde_json::{Map, Value, json};

/// The string at `path`, or `""`.
pub(crate) fn str_at<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// The integer at `path`.
pub(crate) fn int_at(object: &Value, path: &[&str]) -> Option<i64> {
    at(object, path).and_then(Value::as_i64)
}

/// The boolean at `path`, `false` when absent.
pub(crate) fn bool_at(object: &Value, path: &[&str]) -> bool {
    at(object, path)
        .and_then(Value::as_bool)
        .unwrap_or_default()
}

/// The value at `path`; `null` counts as absent.
pub(crate) fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter()
        .try_fold(object, |value, key| value.get(key))
        .filter(|value| !value.is_null())
}

/// The elements of the array at `path`, nothing when absent.
pub(crate) fn items_at<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    at(object, path)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The versions that the `spec` of a CustomResourceDefinition serves.
pub(crate) fn served_versions(spec: &Value) -> impl Iterator<Item = &Value> {
    let versions = items_at(spec, &["versions"]).iter();
    versions.filter(|version| bool_at(version, &["served"]))
}

/// Writes `value` at `path`, making the maps on the way.
pub(crate) fn set_at(object: &mut Value, path: &[&str], value: impl Into<Value>) {
    let mut place = object;
    for key in path {
        place = map_of(place).entry(*key).or_insert(Value::Null);
    }
    *place = value.into();
}

/// Removes the field at `path`; nothing happens when it is absent.
pub(crate) fn remove_at(object: &mut Value, path: &[&str]) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let mut place = object;
    for key in parents {
        match place.get_mut(key) {
            Some(next) => place = next,
            None => return,
        }
    }
    if let Some(map) = place.as_object_mut() {
        map.remove(*last);
    }
}

/// The array at `path`, made when absent.
pub(crate) fn array_at<'a>(object: &'a mut Value, path: &[&str]) -> &'a mut Vec<Value> {
    let mut place = object;
    for key in path {
        place = map_of(place).entry(*key).or_insert(Value::Null);
    }
    if !place.is_array() {
        *place = Value::Array(Vec::new());
    }
    match place {
        Value::Array(items) => items,
        _ => unreachable!("made an array above"),
    }
}

/// The map that `value` is; anything else becomes an empty map first.
fn map_of(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made a map above"),
    }
}

/// `metadata.name`.
pub(crate) fn name(object: &Value) -> &str {
    str_at(object, &["metadata", "name"])
}

/// `metadata.namespace`, `""` for cluster-scoped objects.
pub(crate) fn namespace(object: &Value) -> &str {
    str_at(object, &["metadata", "namespace"])
}

/// `metadata.uid`.
pub(crate) fn uid(object: &Value) -> &str {
    str_at(object, &["metadata", "uid"])
}

/// `metadata.labels`.
pub(crate) fn labels(object: &Value) -> Option<&Map<String, Value>> {
    at(object, &["metadata", "labels"]).and_then(Value::as_object)
}

/// The value of one label.
pub(crate) fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
}

/// The value of one annotation.
pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    at(object, &["metadata", "annotations", key])?.as_str()
}

/// Whether deletion has been asked for.
pub(crate) fn is_terminating(object: &Value) -> bool {
    at(object, &["metadata", "deletionTimestamp"]).is_some()
}

/// The owner reference with `controller: true`.
pub(crate) fn controller_of(object: &Value) -> Option<&Value> {
    items_at(object, &["metadata", "ownerReferences"])
        .iter()
        .find(|owner| bool_at(owner, &["controller"]))
}

/// A controlling owner reference to `owner`, as controllers put it on what they create.
pub(crate) fn owner_reference(api_version: &str, kind: &str, owner: &Value) -> Value {
    json!({
        "apiVersion": api_version, "kind": kind, "name": name(owner), "uid": uid(owner),
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// `spec.nodeName` of a pod, `""` while unscheduled.
pub(crate) fn node_name(pod: &Value) -> &str {
    str_at(pod, &["spec", "nodeName"])
}

/// `status.phase` of a pod; a pod without one is Pending.
pub(crate) fn phase(pod: &Value) -> &str {
    match str_at(pod, &["status", "phase"]) {
        "" => "Pending",
        phase => phase,
    }
}

/// Whether the pod has run to its end (phase Succeeded or Failed).
pub(crate) fn is_finished(pod: &Value) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// One entry of `status.conditions`.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items_at(object, &["status", "conditions"])
        .iter()
        .find(|condition| str_at(condition, &["type"]) == kind)
}

/// Whether a condition is there with status `"True"`.
pub(crate) fn condition_is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|found| str_at(found, &["status"]) == "True")
}

/// Whether the pod or node has the condition Ready=True.
pub(crate) fn is_ready(object: &Value) -> bool {
    condition_is_true(object, "Ready")
}

/// What a condition is set to; the transition time is kept while `status` stays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Condition<'a> {
    pub(crate) kind: &'a str,
    pub(crate) status: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) message: &'a str,
}

impl<'a> Condition<'a> {
    /// A condition without reason and message.
    pub(crate) const fn new(kind: &'a str, status: &'a str) -> Self {
        Self {
            kind,
            status,
            reason: "",
            message: "",
        }
    }

    /// The same with a reason and a message.
    pub(crate) const fn because(mut self, reason: &'a str, message: &'a str) -> Self {
        self.reason = reason;
        self.message = message;
        self
    }
}

/// Adds or replaces a condition; `lastTransitionTime` moves only with `status`.
pub(crate) fn set_condition(object: &mut Value, condition: Condition<'_>, now_ms: u64) {
    let conditions = array_at(object, &["status", "conditions"]);
    let position = conditions
        .iter()
        .position(|old| str_at(old, &["type"]) == condition.kind);
    let since = position
        .and_then(|index| conditions.get(index))
        .filter(|old| str_at(old, &["status"]) == condition.status)
        .and_then(|old| at(old, &["lastTransitionTime"]).cloned())
        .unwrap_or_else(|| Value::from(timestamp(now_ms)));
    let mut entry = json!({
        "type": condition.kind, "status": condition.status, "lastTransitionTime": since,
    });
    if !condition.reason.is_empty() {
        set_at(&mut entry, &["reason"], condition.reason);
    }
    if !condition.message.is_empty() {
        set_at(&mut entry, &["message"], condition.message);
    }
    match position.and_then(|index| conditions.get_mut(index)) {
        Some(old) => *old = entry,
        None => conditions.push(entry),
    }
}

/// RFC 3339 with whole seconds, as `metav1.Time` is written.
pub(crate) fn timestamp(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |time| time.to_string())
}

/// RFC 3339 with microseconds, as `metav1.MicroTime` (leases, events) is written.
pub(crate) fn micro_timestamp(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| String::new(), |time| format!("{time:.6}"))
}

/// Reads an RFC 3339 time as milliseconds since 1970.
pub(crate) fn parse_timestamp(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

/// A Kubernetes quantity (`100m`, `1.5`, `2Gi`, `1e3`) in thousandths of its
/// unit, rounded up; `None` when it is malformed.
pub(crate) fn quantity_milli(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64()?.checked_mul(1000),
        Value::String(text) => parse_quantity(text),
        _ => None,
    }
}

fn parse_quantity(text: &str) -> Option<i64> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    // Thousandths per unit as a fraction, so that binary and decimal suffixes stay exact.
    let (numerator, denominator): (i128, i128) = match suffix {
        "" => (1_000, 1),
        "n" => (1, 1_000_000),
        "u" => (1, 1_000),
        "m" => (1, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1_000 << 10, 1),
        "Mi" => (1_000 << 20, 1),
        "Gi" => (1_000 << 30, 1),
        "Ti" => (1_000 << 40, 1),
        "Pi" => (1_000 << 50, 1),
        _ => {
            let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            (10_i128.checked_pow(exponent.checked_add(3)?)?, 1)
        }
    };
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let divisor = denominator.checked_mul(scale)?;
    let product = mantissa.checked_mul(numerator)?;
    let rounded = product.checked_add(divisor - 1)? / divisor;
    i64::try_from(if negative { -rounded } else { rounded }).ok()
}

/// Reads a count that may be a percentage of `total`: `3`, `"3"` is malformed,
/// `"25%"` is rounded up or down.
pub(crate) fn int_or_percent(value: &Value, total: i64, round_up: bool) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let product = percent.checked_mul(total)?;
            Some(if round_up {
                product.checked_add(99)?.div_euclid(100)
            } else {
                product.div_euclid(100)
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact_and_round_up() {
        let read = |text: &str| quantity_milli(&Value::from(text));
        assert_eq!(read("100m"), Some(100));
        assert_eq!(read("1.5"), Some(1_500));
        assert_eq!(read("2Ki"), Some(2_048_000));
        assert_eq!(read("1e3"), Some(1_000_000));
        assert_eq!(read("1n"), Some(1));
        assert_eq!(read("0"), Some(0));
        assert_eq!(quantity_milli(&json!(4)), Some(4_000));
        for malformed in ["", "Gi", "1Xi", "1e", "1.2.3"] {
            assert_eq!(read(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let mut pod = json!({});
        set_condition(&mut pod, Condition::new("Ready", "False"), 1_000);
        set_condition(
            &mut pod,
            Condition::new("Ready", "False").because("Later", ""),
            5_000,
        );
        let since = |pod: &Value| {
            str_at(&pod["status"]["conditions"][0], &["lastTransitionTime"]).to_owned()
        };
        assert_eq!(since(&pod), "1970-01-01T00:00:01Z");
        set_condition(&mut pod, Condition::new("Ready", "True"), 9_000);
        assert_eq!(since(&pod), "1970-01-01T00:00:09Z");
    }

    #[test]
    fn percentages_round_as_asked() {
        assert_eq!(int_or_percent(&json!("30%"), 7, true), Some(3));
        assert_eq!(int_or_percent(&json!("30%"), 7, false), Some(2));
        assert_eq!(int_or_percent(&json!(2), 7, true), Some(2));
        assert_eq!(int_or_percent(&json!("2"), 7, true), None);
    }
}
