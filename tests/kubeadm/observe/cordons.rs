//! How many nodes are out of use at a time, by watches alone.

use std::collections::BTreeSet;

use crate::real::observer::Change;

/// Every moment at which a second node was cordoned beside another: two were half done.
pub(crate) fn at_once(changes: &[Change]) -> Vec<String> {
    let mut cordoned = BTreeSet::new();
    let mut found = Vec::new();
    for change in changes.iter().filter(|change| change.kind == "Node") {
        let name = change.object["metadata"]["name"]
            .as_str()
            .unwrap_or_default();
        let is_cordoned = !change.deleted && change.object["spec"]["unschedulable"] == true;
        if !is_cordoned {
            cordoned.remove(name);
        } else if cordoned.insert(name) && cordoned.len() > 1 {
            found.push(format!("cordoned at once, at {}: {cordoned:?}", change.at));
        }
    }
    found
}

#[test]
fn a_second_cordon_is_told_once() {
    let node = |at, name: &str, unschedulable: bool| Change {
        at,
        kind: "Node",
        object: serde_json::json!({
            "metadata": {"name": name}, "spec": {"unschedulable": unschedulable},
        }),
        deleted: false,
    };
    let in_turn = [
        node(1, "a", true),
        node(2, "a", true),
        node(3, "a", false),
        node(4, "b", true),
    ];
    assert_eq!(at_once(&in_turn), Vec::<String>::new());
    let beside = [node(1, "a", true), node(2, "b", true), node(3, "b", true)];
    assert_eq!(at_once(&beside), [r#"cordoned at once, at 2: {"a", "b"}"#]);
}
