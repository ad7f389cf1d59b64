//! Drains nodes of the cluster your kubeconfig names, as a library user would.
//!
//! `cargo run --example drain_node -- NODE…`; give them back with `--release NODE…`.

use std::error::Error;

use migrate_drain::Drainer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (flags, nodes): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|word| word.starts_with("--"));
    if nodes.is_empty() {
        return Err("name at least one node".into());
    }
    let client = migrate_kube::connect(kube::Config::infer().await?)?;
    let drainer = Drainer::new(client);
    if flags.iter().any(|flag| flag == "--release") {
        drainer.release(nodes).await?;
        return Ok(());
    }
    let report = drainer.drain(nodes).await?;
    for finding in &report.findings {
        println!("{finding}");
    }
    for (node, outcome) in &report.nodes {
        println!("{node}: {outcome:?}");
    }
    // The error names what keeps which pod.
    let _all_empty = report.ensure_empty()?;
    Ok(())
}
