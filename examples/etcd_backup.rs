//! Backups of etcd from the command line: taken, looked into, and proven.
//!
//! `cargo run --release --example etcd_backup -- inspect FILE [--json]`
//! `cargo run --release --example etcd_backup -- save FILE --endpoint http://127.0.0.1:2379`
//! `cargo run --release --example etcd_backup -- prove FILE --endpoint http://127.0.0.1:2379`
//!
//! It ends with 0 for a file that is sound, and with 1 and what is wrong otherwise.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use migrate_core::Cancellation;
use migrate_etcd::{Inspection, Member, Proof, SnapshotBackup, Tls, inspect, prove};

/// Backups of etcd: taken, looked into, and proven equal to the live members.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks a file page by page and tells what is in it; needs no etcd.
    Inspect {
        /// Snapshot.
        file: PathBuf,
        /// Tells it as JSON.
        #[arg(long)]
        json: bool,
        /// Accepts a file without a SHA-256 at its end: one of a data folder.
        #[arg(long)]
        without_trailer: bool,
    },
    /// Takes a snapshot of the first endpoint, and proves it equal to all.
    Save {
        /// Where to; nothing is overwritten.
        file: PathBuf,
        #[command(flatten)]
        members: Members,
    },
    /// Compares a file with live members. Right after the save: they forget.
    Prove {
        /// Snapshot.
        file: PathBuf,
        #[command(flatten)]
        members: Members,
    },
}

#[derive(Args)]
struct Members {
    /// Client URL of a member; again for each further one.
    #[arg(long = "endpoint", required = true)]
    endpoints: Vec<String>,
    /// CA of the members.
    #[arg(long, requires_all = ["cert", "key"])]
    cacert: Option<PathBuf>,
    /// Client certificate.
    #[arg(long, requires = "cacert")]
    cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, requires = "cacert")]
    key: Option<PathBuf>,
    /// User that has the root role; the password is read from a file.
    #[arg(long, requires = "password_file")]
    user: Option<String>,
    /// File with the password.
    #[arg(long, requires = "user")]
    password_file: Option<PathBuf>,
    /// Seconds without a byte or an answer after which a member is given up.
    #[arg(long, default_value_t = 30)]
    stall: u64,
}

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Outcome {
    match cli.command {
        Command::Inspect {
            file,
            json,
            without_trailer,
        } => {
            let bar = spinner("checking every page");
            let found = tokio::task::spawn_blocking(move || inspect(&file)).await?;
            bar.finish_and_clear();
            let found = found?;
            if json {
                println!("{}", serde_json::to_string_pretty(&found)?);
            } else {
                show(&found);
            }
            if found.trailer.is_none() && !without_trailer {
                return Err("there is no SHA-256 at its end: a snapshot has lost it; \
                            for a file of a data folder say --without-trailer"
                    .into());
            }
        }
        Command::Save { file, members } => {
            let folder = file.parent().filter(|folder| *folder != Path::new(""));
            let name = file.file_name().and_then(|name| name.to_str());
            let name = name.ok_or("name the file that the snapshot becomes")?;
            let list = members.list()?;
            let first = list.first().ok_or("name a member")?.clone();
            let backup = SnapshotBackup::new(first, folder.unwrap_or_else(|| Path::new(".")))
                .with_stall(members.stall());
            let bar = ProgressBar::no_length().with_style(ProgressStyle::with_template(
                "{msg} {bar:40} {bytes}/{total_bytes} {bytes_per_sec}",
            )?);
            bar.set_message("saving");
            let cancel = Cancellation::new();
            let save = backup.save_proven(name, &list, &cancel, |done, of| {
                bar.set_length(of);
                bar.set_position(done);
                if done == of {
                    bar.set_message("proving");
                }
            });
            let proven = tokio::select! {
                proven = save => proven?,
                // Dropping it takes away what there is of the file.
                _ = tokio::signal::ctrl_c() => return Err("interrupted; nothing is left".into()),
            };
            bar.finish_and_clear();
            println!("{}", proven.artifact.path.display());
            println!("sha256     {}", proven.artifact.sha256);
            show(&proven.proof.inspection);
            show_proof(&proven.proof);
        }
        Command::Prove { file, members } => {
            let bar = spinner("checking every page, and comparing");
            let proof = prove(&file, &members.list()?, members.stall()).await;
            bar.finish_and_clear();
            let proof = proof?;
            show(&proof.inspection);
            show_proof(&proof);
        }
    }
    Ok(())
}

impl Members {
    fn list(&self) -> Outcome<Vec<Member>> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let tls = match (&self.cacert, &self.cert, &self.key) {
            (Some(ca), Some(certificate), Some(key)) => Some(Tls {
                ca: read(ca)?,
                certificate: read(certificate)?,
                key: read(key)?,
            }),
            _ => None,
        };
        let user = match (&self.user, &self.password_file) {
            (Some(user), Some(file)) => Some((user, read(file)?)),
            _ => None,
        };
        let member = |endpoint: &String| {
            let mut member = Member::new(endpoint);
            if let Some(tls) = &tls {
                member = member.with_tls(tls.clone());
            }
            if let Some((user, password)) = &user {
                member = member.with_user(*user, password.trim_end());
            }
            member
        };
        Ok(self.endpoints.iter().map(member).collect())
    }

    fn stall(&self) -> Duration {
        Duration::from_secs(self.stall)
    }
}

fn spinner(message: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn show(found: &Inspection) {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    println!("bytes      {} in pages of {}", found.bytes, found.page_size);
    println!("trailer    {}", or_none(&found.trailer));
    if let Some(page) = found.structure.damaged_meta {
        println!("damaged    meta page {page}: the other one was used");
    }
    println!(
        "revision   {}, compacted at {}",
        found.revision,
        found.compact_revision()
    );
    let keys = found.keys;
    println!(
        "keys       {} ({} bytes), {} revisions",
        keys.alive, keys.alive_bytes, keys.revisions
    );
    println!("storage    {}", or_none(&found.storage_version));
    println!("cluster    {}", or_none(&found.cluster_version));
    for member in &found.members {
        println!(
            "member     {} {} {}",
            member.id,
            member.name,
            member.peer_urls.join(",")
        );
    }
    println!("leases     {}, alarms {}", found.leases, found.alarms);
    println!(
        "auth       {}",
        if found.auth.enabled { "on" } else { "off" }
    );
    for folder in &found.folders {
        println!(
            "folder     {} {} keys, {} bytes",
            folder.folder, folder.keys, folder.bytes
        );
    }
    for used in &found.kubernetes.resources {
        println!("objects    {} {}", used.resource, used.objects);
    }
    for used in &found.kubernetes.encrypted {
        println!(
            "encrypted  {} {}: you need the key {} of {} {} to read them",
            used.resource, used.objects, used.key, used.provider, used.version
        );
    }
}

fn show_proof(proof: &Proof) {
    println!("equal to   {}", proof.members.join(", "));
    for (_, why) in &proof.silent {
        println!("silent     {why}");
    }
    println!("           keys and values; leases, users and members rest on the trailer");
}
