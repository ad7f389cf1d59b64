//! The guard of the pure crates, and of pure modules in others.

mod modules;
mod source;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::process::{cargo, output};
use source::is_of_name;

/// Crates whose decisions must run anywhere, also where there is no cluster.
const PURE: &[&str] = &["migrate-core", "migrate-plan"];

/// What a pure crate must not pull in, whatever the path.
const FORBIDDEN: &[&str] = &[
    "async-std",
    "etcd-client",
    "hyper",
    "k8s-openapi",
    "kube",
    "kube-client",
    "kube-core",
    "mio",
    "rand",
    "reqwest",
    "rustls",
    "smol",
    "socket2",
    "tokio",
    "tonic",
];

/// What the sources of a pure crate must not name of `std`: no dependency shows
/// it. All of it, and another name for it, would hide the rest.
const FORBIDDEN_IN_STD: &[&str] = &["*", "as", "fs", "net", "os", "process"];

/// Fails, naming the crates and modules, if a pure crate depends on something
/// forbidden or reaches for files, sockets or processes, or a pure module names
/// what asks, waits or knows the time.
pub(crate) fn check() -> Result<(), String> {
    let mut broken = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for pure in PURE {
        for (path, text) in sources(&root.join("crates").join(pure).join("src"))? {
            let found = named_in_std(&source::code(&text), FORBIDDEN_IN_STD).into_iter();
            broken.extend(found.map(|name| format!("{} uses {name} of std", path.display())));
        }
        let mut tree = cargo();
        tree.args(["tree", "--edges", "normal,build", "--prefix", "none"])
            .args(["--format", "{lib}", "--all-features", "--package", pure]);
        let tree = output(&mut tree)?;
        let found = FORBIDDEN.iter().filter(|name| {
            let lib = name.replace('-', "_");
            tree.lines().any(|line| line.trim() == lib)
        });
        broken.extend(found.map(|name| format!("{pure} depends on {name}")));
    }
    modules::check(&root, &mut broken)?;
    if broken.is_empty() {
        println!("pure crates and modules are pure: {}", PURE.join(", "));
        Ok(())
    } else {
        Err(format!("{} (see docs/architecture.md)", broken.join("; ")))
    }
}

/// The Rust sources at `path`, a file or a folder, with their text, by path.
fn sources(path: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if !path.is_dir() {
        let text = std::fs::read_to_string(path).map_err(failed)?;
        return Ok(vec![(path.to_owned(), text)]);
    }
    let entries = std::fs::read_dir(path).map_err(failed)?;
    let entries: Result<Vec<_>, _> = entries.map(|entry| entry.map(|it| it.path())).collect();
    let mut entries = entries.map_err(failed)?;
    entries.sort();
    let is_source = |path: &PathBuf| path.is_dir() || path.extension().is_some_and(|it| it == "rs");
    let mut found = Vec::new();
    for entry in entries.into_iter().filter(is_source) {
        found.extend(sources(&entry)?);
    }
    Ok(found)
}

/// What of `forbidden` a source names of `std`, by path or in a group of imports;
/// `code` is without its comments.
fn named_in_std(code: &str, forbidden: &[&'static str]) -> BTreeSet<&'static str> {
    let paths = code.match_indices("std").filter_map(|(at, std)| {
        let begins = !code[..at].ends_with(is_of_name);
        let rest = &code[at + std.len()..];
        (begins && !rest.starts_with(is_of_name)).then(|| rest.trim_start())
    });
    let named: BTreeSet<&str> = paths
        .flat_map(|rest| match rest.strip_prefix("::") {
            Some(path) => first_names(path.trim_start()),
            None => vec![first_name(rest)],
        })
        .collect();
    let forbidden = forbidden.iter().copied();
    forbidden.filter(|name| named.contains(name)).collect()
}

/// The names at which `path` goes on: several if it is a group.
fn first_names(path: &str) -> Vec<&str> {
    let Some(group) = path.strip_prefix('{') else {
        return vec![first_name(path)];
    };
    let (mut depth, mut from) = (0_u32, 0);
    let mut names = Vec::new();
    for (at, sign) in group.char_indices() {
        match sign {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(first_name(group[from..at].trim_start()));
                from = at + 1;
                if sign == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

fn first_name(path: &str) -> &str {
    if path.starts_with('*') {
        return &path[..1];
    }
    let end = path.find(|sign| !is_of_name(sign)).unwrap_or(path.len());
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_sockets_are_noticed_however_they_are_imported() {
        let found = |text| {
            let named = named_in_std(&source::code(text), FORBIDDEN_IN_STD);
            named.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(found("let text = std::fs::read(path)?;"), ["fs"]);
        assert_eq!(found("use std::{fs, net};"), ["fs", "net"]);
        assert_eq!(found("use std::{fmt, fs as files};"), ["fs"]);
        let nested = "use ::std::{\n    collections::{BTreeMap, BTreeSet}, // ours\n    os::fd::OwnedFd,\n};";
        assert_eq!(found(nested), ["os"]);
        assert_eq!(found("use {core::fmt, std::process};"), ["process"]);
        assert_eq!(found("use std::*;"), ["*"]);
        assert_eq!(found("use std as s;"), ["as"]);
    }

    #[test]
    fn what_only_looks_alike_is_not() {
        let harmless = "use std::{collections::{fs, net}, fmt};\n\
                        use other_std::fs; // std::fs\n\
                        std::iter::once(fs); std::osmosis();";
        let named = named_in_std(&source::code(harmless), FORBIDDEN_IN_STD);
        assert_eq!(named, BTreeSet::new());
    }
}
