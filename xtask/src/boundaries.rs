//! The guard of the pure crates.

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

/// What the sources of a pure crate must not name: no dependency shows it.
const FORBIDDEN_IN_STD: &[&str] = &["std::fs", "std::net", "std::os", "std::process"];

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
            let found = FORBIDDEN_IN_STD.iter().filter(|name| text.contains(**name));
            broken.extend(found.map(|name| format!("{} uses {name}", path.display())));
        }
    }
    Ok(())
}
