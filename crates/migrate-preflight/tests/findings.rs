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

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The codes that have a row in `table`.
fn explained(table: &str) -> BTreeSet<&str> {
    let rows = table.lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| codes(row.split(' ').next()?).first().copied())
        .collect()
}

/// The codes that the code in `source` names, comments left out.
fn given(source: &str) -> BTreeSet<&str> {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    source.lines().filter(is_code).flat_map(codes).collect()
}

/// What is compiled into the program, without tests.
fn all_sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for folder in ["crates", "src", "examples"] {
        sources(&root().join(folder), &mut files);
    }
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        (file, text)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn every_code_of_every_crate_is_explained() {
    let table = fs::read_to_string(root().join("docs/findings.md")).unwrap();
    let explained = explained(&table);
    assert!(explained.len() > 50, "{explained:?}");
    for (file, source) in all_sources() {
        for code in codes(&source) {
            assert!(
                explained.contains(code),
                "{code} of {} is not in docs/findings.md",
                file.display()
            );
        }
    }
}

/// Nobody looks in vain for what is explained.
#[test]
fn every_code_that_is_explained_is_given_somewhere() {
    let table = fs::read_to_string(root().join("docs/findings.md")).unwrap();
    let sources = all_sources();
    let given: BTreeSet<&str> = sources.iter().flat_map(|(_, text)| given(text)).collect();
    let in_vain: Vec<&str> = explained(&table).difference(&given).copied().collect();
    assert_eq!(in_vain, Vec::<&str>::new(), "no code gives these");
}

#[test]
fn a_code_counts_where_it_is_given_not_where_it_is_spoken_of() {
    let table = "| code |\n|---|\n| KM-X-001 | blocker | As KM-X-002. | |\nKM-X-003 too.\n";
    assert_eq!(explained(table), BTreeSet::from(["KM-X-001"]));
    let source = "/// As KM-X-001.\nconst CODE: &str = \"KM-X-002\"; // not KM-X-12 nor KM-x-003\n";
    assert_eq!(given(source), BTreeSet::from(["KM-X-002"]));
}
