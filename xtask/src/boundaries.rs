//! The guard of the pure crates.

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

/// Fails, naming the crates, if a pure crate depends on something forbidden.
pub(crate) fn check() -> Result<(), String> {
    let mut broken = Vec::new();
    for pure in PURE {
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
