//! Upgrades a cluster: the embedded one of the demo, or a real one.
//!
//! ```text
//! cargo run --release --example upgrade                     # the demo
//! cargo run --release --example upgrade -- plan --kubeconfig ~/.kube/config --to v1.37.2
//! cargo run --release --example upgrade -- --kubeconfig ~/.kube/config --to v1.37.2 \
//!     --node-hook ./node.sh --control-plane-hook ./control-plane.sh --etcd https://10.0.0.1:2379 … \
//!     --waive KM-BACKUP-001
//! ```
//!
//! A snapshot alone restores no cluster, which the waiver accepts; with --kubeadm and
//! --backup-recipient the backup is one that does, and needs none.

mod abort;
mod account;
mod backup;
mod check;
mod clean;
mod cli;
mod demo;
#[path = "../shared/failure.rs"]
mod failure;
#[path = "../shared/files.rs"]
mod files;
mod foresight;
mod handed;
mod history;
#[path = "../shared/links.rs"]
mod links;
mod nodes;
mod patience;
mod progress;
#[path = "../shared/reach.rs"]
mod reach;
mod real;
mod rehearsal;
mod run;
mod show;
mod together;
mod what_if;

use std::process::ExitCode;

use crate::cli::Cli;
use crate::failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match dispatch(&cli) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: &Cli) -> Result<ExitCode, Failure> {
    if cli.is_demo() {
        if cli.names_a_cluster() {
            return Err(Failure::plain(
                "these flags are for a real cluster: give --kubeconfig, --context or --in-cluster too",
            ));
        }
        // A paused clock runs ahead whenever everybody waits: an hour of
        // cluster time takes a second, and the same seed gives the same bytes.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(|error| Failure::new("async runtime", error))?;
        runtime.block_on(demo::main(cli))
    } else {
        // A bucket has none by itself; whoever was first is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new("async runtime", error))?;
        runtime.block_on(real::main(cli))
    }
}
