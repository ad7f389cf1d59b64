//! The guard of the pure crates.

use std::collections::BTreeSet;
use std::path::Path;

use crate::process::{cargo, output};

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

/// Fails, naming the crates, if a pure crate depends on something forbidden, or
/// reaches for files, sockets or processes.
pub(crate) fn check() -> Result<(), String> {
    let mut broken = Vec::new();
    for pure in PURE {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
        let sources = crates.join(pure).join("src");
        in_std(&sources, &mut broken).map_err(|error| format!("{}: {error}", sources.display()))?;
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
    if broken.is_empty() {
        println!("pure crates are pure: {}", PURE.join(", "));
        Ok(())
    } else {
        Err(format!("{} (see docs/architecture.md)", broken.join("; ")))
    }
}

fn in_std(folder: &Path, broken: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            in_std(&path, broken)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            let found = named_in_std(&text).into_iter();
            broken.extend(found.map(|name| format!("{} uses {name} of std", path.display())));
        }
    }
    Ok(())
}

/// What of [`FORBIDDEN_IN_STD`] the source `text` names, by path or in a group
/// of imports. Line comments do not count.
fn named_in_std(text: &str) -> BTreeSet<&'static str> {
    let code: Vec<&str> = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    let code = code.join("\n");
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
    let forbidden = FORBIDDEN_IN_STD.iter().copied();
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

fn is_of_name(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_sockets_are_noticed_however_they_are_imported() {
        let found = |text| named_in_std(text).into_iter().collect::<Vec<_>>();
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
        assert_eq!(named_in_std(harmless), BTreeSet::new());
    }
}
