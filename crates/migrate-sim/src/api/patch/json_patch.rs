//! JSON patch (RFC 6902).

use serde::Deserialize;
use serde_json::Value;

/// One operation of a JSON patch.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Operation {
    Add { path: String, value: Value },
    Remove { path: String },
    Replace { path: String, value: Value },
    Move { from: String, path: String },
    Copy { from: String, path: String },
    Test { path: String, value: Value },
}

/// Applies the operations in order.
///
/// # Errors
/// The text of the first operation that cannot be done.
pub(super) fn apply(target: &mut Value, operations: &[Operation]) -> Result<(), String> {
    for operation in operations {
        match operation {
            Operation::Add { path, value } => add(target, path, value.clone())?,
            Operation::Remove { path } => {
                remove(target, path)?;
            }
            Operation::Replace { path, value } => *find(target, path)? = value.clone(),
            Operation::Move { from, path } => {
                let value = remove(target, from)?;
                add(target, path, value)?;
            }
            Operation::Copy { from, path } => {
                let value = find(target, from)?.clone();
                add(target, path, value)?;
            }
            Operation::Test { path, value } => {
                let found = target.pointer(path).unwrap_or(&Value::Null);
                if found != value {
                    return Err(format!("testing value {path} failed"));
                }
            }
        }
    }
    Ok(())
}

fn find<'a>(target: &'a mut Value, path: &str) -> Result<&'a mut Value, String> {
    target.pointer_mut(path).ok_or_else(|| missing(path))
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let Some((parent, last)) = split(path)? else {
        *target = value;
        return Ok(());
    };
    match find(target, parent)? {
        Value::Object(map) => {
            map.insert(last, value);
        }
        Value::Array(list) if last == "-" => list.push(value),
        Value::Array(list) => match last.parse() {
            Ok(index) if index <= list.len() => list.insert(index, value),
            _ => return Err(missing(path)),
        },
        _ => return Err(missing(path)),
    }
    Ok(())
}

fn remove(target: &mut Value, path: &str) -> Result<Value, String> {
    let Some((parent, last)) = split(path)? else {
        return Ok(target.take());
    };
    let gone = match find(target, parent)? {
        Value::Object(map) => map.remove(&last),
        Value::Array(list) => last
            .parse::<usize>()
            .ok()
            .filter(|index| *index < list.len())
            .map(|index| list.remove(index)),
        _ => None,
    };
    gone.ok_or_else(|| missing(path))
}

/// Parent and last step; none for the whole document.
fn split(path: &str) -> Result<Option<(&str, String)>, String> {
    if path.is_empty() {
        return Ok(None);
    }
    let (parent, last) = path.rsplit_once('/').ok_or_else(|| missing(path))?;
    Ok(Some((parent, last.replace("~1", "/").replace("~0", "~"))))
}

fn missing(path: &str) -> String {
    format!("doc is missing path: {path:?}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_apply_in_order_and_a_failed_test_stops() {
        let mut object = json!({ "a": { "b/c": 1 }, "l": [1, 3] });
        let operations: Vec<Operation> = serde_json::from_value(json!([
            { "op": "test", "path": "/a/b~1c", "value": 1 },
            { "op": "add", "path": "/l/1", "value": 2 },
            { "op": "add", "path": "/l/-", "value": 4 },
            { "op": "move", "from": "/a/b~1c", "path": "/d" },
            { "op": "remove", "path": "/l/0" },
            { "op": "replace", "path": "/a", "value": {} },
        ]))
        .unwrap();
        apply(&mut object, &operations).unwrap();
        assert_eq!(object, json!({ "a": {}, "d": 1, "l": [2, 3, 4] }));
        let refused: Vec<Operation> =
            serde_json::from_value(json!([{ "op": "test", "path": "/d", "value": 2 }])).unwrap();
        assert!(apply(&mut object, &refused).is_err());
        let missing: Vec<Operation> =
            serde_json::from_value(json!([{ "op": "remove", "path": "/x/y" }])).unwrap();
        assert!(apply(&mut object, &missing).is_err());
    }
}
