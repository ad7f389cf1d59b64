//! Drains nodes of the cluster your kubeconfig names, as a library user would.
//!
//! `cargo run --example drain_node -- NODE…`; give them back with `--release NODE…`.

use std::error::Error;
use std::process::ExitCode;

use migrate_drain::Drainer;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
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
        return Ok(ExitCode::SUCCESS);
    }
    let report = drainer.drain(nodes).await?;
    // Each node, who keeps it, and the cure.
    println!("{report}");
    Ok(match report.all_nodes_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
