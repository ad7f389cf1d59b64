//! The table of docs/planner.md that says which tests hold which formula, and the
//! functions that it is about: neither has what the other has not.

use std::collections::BTreeSet;
use std::path::Path;

/// A row: functions, and tests that hold them.
type Row<'d> = (Vec<&'d str>, Vec<&'d str>);

fn section() -> &'static str {
    let docs = include_str!("../../../../docs/planner.md");
    let (_, section) = docs
        .split_once("### Which tests hold which formula")
        .unwrap();
    section.split_once("\n## ").unwrap().0
}

fn rows() -> Vec<Row<'static>> {
    let lines = section().lines().filter(|line| line.starts_with('|'));
    let rows = lines.skip(2).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let [_, functions, tests] = cells.as_slice() else {
            panic!("{line}");
        };
        let names = |cell: &'static str| cell.split('`').skip(1).step_by(2).collect();
        (names(functions), names(tests))
    });
    rows.collect()
}

/// The text of each source file of bounds, without its tests.
fn sources() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bounds");
    let files = std::fs::read_dir(folder).unwrap();
    let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    texts
        .map(|text| {
            text.split("#[cfg(test)]")
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

/// Functions with the types that they are of.
fn functions(source: &str) -> Vec<String> {
    let mut of = String::new();
    let mut found = Vec::new();
    for line in source.lines() {
        if let Some(head) = line.strip_prefix("impl") {
            let parameters = head.split_once('>').filter(|_| head.starts_with('<'));
            let name = parameters.map_or(head, |(_, name)| name).trim();
            let end = name.find(['<', ' ']).unwrap_or(name.len());
            of = format!("{}::", &name[..end]);
        } else if line == "}" {
            of.clear();
        } else if let Some((_, name)) = line.split_once("fn ")
            && !line.trim_start().starts_with("//")
        {
            let end = name.find(['(', '<']).unwrap_or(name.len());
            found.push(format!("{of}{}", &name[..end]));
        }
    }
    found
}

#[test]
fn every_bound_has_a_row_with_tests_and_no_row_is_of_anything_else() {
    let known = sources();
    let known: BTreeSet<String> = known.iter().flat_map(|text| functions(text)).collect();
    let is_bound = |name: &&String| name.contains("bound") || *name == "stretched";
    let bounds: BTreeSet<&str> = known.iter().filter(is_bound).map(String::as_str).collect();
    assert!(bounds.len() >= 9, "{bounds:?}");
    let rows = rows();
    let named = rows.iter().flat_map(|(functions, _)| functions);
    let named: Vec<&str> = named.copied().collect();
    for bound in bounds {
        let count = named.iter().filter(|name| **name == bound).count();
        assert_eq!(count, 1, "{bound} in the table of docs/planner.md");
    }
    for name in named {
        assert!(known.contains(name), "docs/planner.md names {name}");
    }
    for (functions, tests) in &rows {
        assert!(!tests.is_empty(), "{functions:?} without a test");
    }
}

#[test]
fn every_test_that_the_docs_name_for_a_formula_is_there() {
    let sources = [
        include_str!("../../src/bounds/budgets.rs"),
        include_str!("../../src/bounds/capacity.rs"),
        include_str!("../../src/bounds/links.rs"),
        include_str!("../../src/bounds/pace.rs"),
        include_str!("../../src/bounds/pool.rs"),
        include_str!("../../src/bounds/scheduler.rs"),
        include_str!("../../src/bounds/slots.rs"),
        include_str!("../../src/bounds/windows.rs"),
        include_str!("../../src/placement/tests.rs"),
        include_str!("../../src/planner/scheduler.rs"),
        include_str!("../../src/planner/transfers.rs"),
        include_str!("../invariance.rs"),
        include_str!("../properties.rs"),
        include_str!("bounds.rs"),
        include_str!("links.rs"),
        include_str!("room.rs"),
        include_str!("pulls.rs"),
        include_str!("scheduler.rs"),
        include_str!("views/mod.rs"),
    ];
    let names: Vec<&str> = rows().into_iter().flat_map(|(_, tests)| tests).collect();
    assert!(names.len() >= 20, "{names:?}");
    for name in names {
        let head = format!("fn {name}(");
        let is_there = sources.iter().any(|source| source.contains(&head));
        assert!(is_there, "docs/planner.md names {name}");
    }
}
