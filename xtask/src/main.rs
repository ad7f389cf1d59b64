//! Tasks of the workspace, run as `cargo xtask TASK`.

mod boundaries;
mod builds;
mod deny;
mod fuzz;
mod process;
mod s3;
mod schema;
mod test;
mod testbed;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the kube-migrate workspace.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fail if a pure crate or module reaches for a Kubernetes client, a runtime,
    /// sockets, files or a clock.
    Boundaries,
    /// Check licences and sources of dependencies (installs cargo-deny if needed).
    Deny,
    /// The slow rest, run by hand: long simulations, large benches, other versions, a
    /// server that speaks S3, each fuzz target for a moment.
    Extended,
    /// Fuzz what reads files of others; needs a C++ compiler.
    Fuzz {
        /// One target instead of all.
        target: Option<String>,
        /// How long each.
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
    /// Start a server that speaks S3, a Python package, and run the tests that want one.
    S3,
    /// Write the table anew by which objects in snapshots are read, from the sources of
    /// the newest Kubernetes that the tests use.
    Schema,
    /// Set up the real control plane and run every test.
    Test,
    /// Build, or find, the binaries of the real control plane and its nodes.
    Testbed {
        /// Those of the older releases of the extended tests too.
        #[arg(long)]
        extended: bool,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Boundaries => boundaries::check(),
        Task::Deny => deny::check(),
        Task::Extended => test::extended(),
        Task::Fuzz { target, seconds } => fuzz::fuzz(target.as_deref(), seconds),
        Task::S3 => s3::test(),
        Task::Schema => schema::write(),
        Task::Test => test::test(),
        Task::Testbed { extended } => testbed::build_all(extended),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
