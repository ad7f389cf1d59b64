//! Shell text of all crates.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

/// Lines of `text` that pipe into a reader which leaves before the end: under
/// `pipefail` the writer's broken pipe makes the whole line fail, now and then.
fn leaves_early(text: &str) -> Vec<&str> {
    let is_code = |line: &&str| !line.trim_start().starts_with('#');
    let pipes = |line: &&str| {
        let alternatives = line.replace("||", "&&");
        let mut readers = alternatives.split('|').skip(1);
        readers.any(|reader| {
            let mut words = reader.split_whitespace();
            match words.next() {
                Some("grep") => words
                    .take_while(|word| word.starts_with('-'))
                    .any(|word| !word.starts_with("--") && word.contains('q')),
                Some("head") => !line.contains("|| true"),
                _ => false,
            }
        })
    };
    text.lines().filter(is_code).filter(pipes).collect()
}

fn scripts(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            scripts(&path, found);
        } else if path
            .extension()
            .is_some_and(|is| is == "sh" || is == "bash")
        {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.display().to_string(), text));
        }
    }
}

#[test]
fn no_script_pipes_into_a_reader_that_leaves_early() {
    for bad in [
        "if list | grep -q x; then",
        "list \\\n    | grep -F -xq -- x",
        "list | sort | head -n 1",
    ] {
        assert_eq!(leaves_early(bad).len(), 1, "{bad}");
    }
    for good in [
        "grep -q x <<< \"$list\"",
        "# list | grep -q x",
        "list | grep -F -- quick",
        "a || grep -q x file",
    ] {
        assert_eq!(leaves_early(good), Vec::<&str>::new());
    }
    let mut found = Vec::new();
    scripts(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
        &mut found,
    );
    assert!(found.len() > 20, "{}", found.len());
    for (path, text) in found {
        assert_eq!(leaves_early(&text), Vec::<&str>::new(), "{path}");
    }
}
