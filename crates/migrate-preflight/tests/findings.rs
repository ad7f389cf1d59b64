//! The table of findings in the documentation.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path
            .file_stem()
            .is_some_and(|stem| stem == "tests" || stem == "benches");
        if path.is_dir() && !is_test {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            found.push(path);
        }
    }
}

/// `KM-AREA-000` in `text`.
fn codes(text: &str) -> BTreeSet<&str> {
    let is_code = |word: &&str| {
        let mut parts = word.split('-');
        let (start, area, number) = (parts.next(), parts.next(), parts.next());
        start == Some("KM")
            && area.is_some_and(|area| area.bytes().all(|b| b.is_ascii_uppercase()))
            && number.is_some_and(|n| n.len() == 3 && n.bytes().all(|b| b.is_ascii_digit()))
    };
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(is_code)
        .collect()
}

#[test]
fn every_code_of_every_crate_is_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    sources(&root.join("crates"), &mut files);
    let table = fs::read_to_string(root.join("docs/findings.md")).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| "));
    let explained: BTreeSet<&str> = rows
        .filter_map(|row| codes(row.split(' ').next()?).first().copied())
        .collect();
    assert!(explained.len() > 50, "{explained:?}");
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        for code in codes(&source) {
            assert!(
                explained.contains(code),
                "{code} of {} is not in docs/findings.md",
                file.display()
            );
        }
    }
}
