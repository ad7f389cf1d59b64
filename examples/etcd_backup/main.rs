//! Backups of etcd from the command line, from the first key to the last restore.
//!
//! `cargo run --release --example etcd_backup -- inspect FILE [--json]`
//! `cargo run --release --example etcd_backup -- save FILE --endpoint http://127.0.0.1:2379`
//! `cargo run --release --example etcd_backup -- keygen KEYS`
//! `cargo run --release --example etcd_backup -- backup FOLDER --endpoint … --recipient age1… --sign KEYS/sign.seed …`
//! `cargo run --release --example etcd_backup -- list --store STORE --trusted KEY`
//! (a bucket, `--store s3://…`, needs `--features s3`)
//!
//! It ends with 0 if all is well, and with 1 and what is wrong otherwise. Ctrl-C ends
//! it with nothing half-written under the name of a whole; a second one ends it at once.

mod bars;
mod cli;
mod flags;
mod interrupt;
mod lines;
#[path = "../shared/reach.rs"]
mod reach;
mod save;
mod show;
#[cfg(test)]
mod tests;
mod trust;

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use cli::{Backup, Cli, Command, Outcome};
use lines::{Lines, say, shown};
use migrate_core::{
    BackUpData, Cancellation, Clock, ClusterId, ClusterModel, ControlPlaneMember, Event, EventKind,
    Fence, Policy, StepContext, StepInput,
};
use migrate_etcd::{
    BackupSet, KeyRing, Manifest, Membership, PartFile, ProvenBackup, Restore, SigningKey,
    SnapshotBackup, compare, inspect_with, prove_with,
};
use migrate_kube::TokioClock;
use save::Saved;
use trust::signing_key;

fn main() -> ExitCode {
    // A bucket has none by itself; whoever was first is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match program(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", shown(&error));
            ExitCode::FAILURE
        }
    }
}

/// What was asked for, to its end or to that which Ctrl-C puts to it.
fn program(cli: Cli) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new();
    let runtime = runtime.map_err(|error| format!("async runtime: {error}"))?;
    let listens = cli.command.listens();
    let cancel = Cancellation::new();
    let work = run(cli, &cancel);
    let work = interrupt::unless_interrupted(work, listens, &cancel, interrupt::ctrl_c);
    let done = runtime.block_on(work);
    // A thread that reads a file for somebody who is gone is not waited for.
    runtime.shutdown_background();
    match done {
        Some(done) => done.map_err(|error| error.to_string()),
        None => Err("interrupted".to_owned()),
    }
}

/// Of a file that ends like one of a data folder.
fn lost_trailer(file: &Path) -> String {
    let file = file.display();
    format!(
        "{file}: there is no SHA-256 at its end: a snapshot has lost it; for a file of a data \
         folder say --without-trailer"
    )
}

async fn run(cli: Cli, cancel: &Cancellation) -> Outcome {
    match cli.command {
        Command::Inspect {
            file,
            json,
            without_trailer,
        } => {
            let bar = bars::bytes("checking every page");
            let moving = bars::moves(&bar);
            let path = file.clone();
            let found = tokio::task::spawn_blocking(move || inspect_with(&path, moving)).await?;
            bar.finish_and_clear();
            let has_none = matches!(&found, Ok(found) if found.trailer.is_none());
            let lost = (has_none && !without_trailer).then(|| lost_trailer(&file));
            let of_file = lost.as_deref().map(|lost| (file.as_path(), lost));
            print!("{}", show::inspected(&found, of_file, json)?);
            found?;
            if let Some(message) = lost {
                return Err(message.into());
            }
        }
        Command::Save(save) => save.run(cancel).await?,
        Command::Sign {
            file,
            sign,
            taken,
            etcd,
            forced,
        } => {
            let taken = serde_json::from_value(taken.into());
            let saved = Saved {
                path: file,
                sha256: None,
                taken: taken.map_err(|error| format!("--taken: {error}"))?,
                etcd,
                is_forced: forced,
            };
            saved.sign_later(&signing_key(&sign)?).await?;
        }
        Command::Prove { file, members } => {
            let members_of_it = members.all().await?;
            let bar = bars::bytes("checking every page, and comparing");
            let moving = bars::moves(&bar);
            let proof = prove_with(&file, &members_of_it, members.stall(), moving).await;
            bar.finish_and_clear();
            let proof = proof?;
            print!("{}", show::inspection(&proof.inspection));
            print!("{}", show::proof(&proof));
        }
        Command::Compare {
            backup,
            later,
            json,
        } => {
            let bar = bars::spinner("comparing");
            let found = tokio::task::spawn_blocking(move || compare(&backup, &later)).await?;
            bar.finish_and_clear();
            let found = found?;
            if json {
                print!("{}", Lines::json(&found)?);
            } else {
                print!("{}", show::comparison(&found));
            }
        }
        Command::Keygen { folder } => keygen(&folder).await?,
        Command::Backup(options) => backup(*options, cancel).await?,
        Command::Open {
            file,
            folder,
            opener,
            signed,
        } => {
            let bar = bars::spinner("opening");
            if let Some(manifest) = signed.check(&file).await? {
                bar.suspend(|| print!("{}", show::opened(&manifest)));
            }
            let name = file.file_name().map(|name| name.to_string_lossy());
            let is_set = name.is_some_and(|name| name.contains(".tar"));
            if is_set {
                let record = BackupSet::unpack(&file, opener.keys()?, &folder, cancel).await?;
                bar.finish_and_clear();
                print!("{}", show::set(&record));
                say(format!("{}", folder.join("snapshot.db").display()));
            } else {
                let path = opener.keys()?.unseal(&file, &folder, cancel).await?;
                bar.finish_and_clear();
                say(format!("{}", path.display()));
            }
        }
        Command::Restore {
            file,
            data_dir,
            wal_dir,
            name,
            initial_cluster,
            token,
            etcd,
            known,
            from_copy,
            salvage,
            revision_at_least,
            further,
        } => {
            let members = Membership::parse(&initial_cluster, &token)?;
            let (sha256, manifest) = known.check(&file)?;
            if let Some(manifest) = &manifest {
                print!("{}", show::opened(manifest));
            }
            let taken = manifest.map(|manifest| manifest.taken.into());
            let restore = Restore::new(file, data_dir, members, name, etcd.parse()?);
            let mut restore = restore.with_cancel(cancel);
            if let Some(wal_dir) = wal_dir {
                restore = restore.with_wal_dir(wal_dir);
            }
            if let Some(sha256) = sha256 {
                restore = restore.with_sha256(sha256);
            }
            if from_copy {
                restore = restore.from_copy();
            }
            if salvage {
                restore = restore.salvaging();
            }
            if let Some(revision) = revision_at_least {
                restore = restore.with_revision_at_least(revision);
            }
            let restore = further.apply(restore, taken, TokioClock::system().now())?;
            // Before anything is restored: its place may be taken.
            let record = match &further.record {
                Some(path) => Some(new_file(path).await?),
                None => None,
            };
            let bar = bars::bytes("restoring");
            let restore = restore.with_progress(bars::moves(&bar));
            let restored = tokio::task::spawn_blocking(move || restore.run()).await?;
            bar.finish_and_clear();
            let restored = restored?;
            say(format!(
                "member {} {:x} of cluster {:x}",
                restored.member, restored.member_id, restored.cluster_id
            ));
            say(format!(
                "revision {} became {}",
                restored.snapshot_revision, restored.revision
            ));
            if restored.wrong_hash {
                say(
                    "WRONG HASH the SHA-256 is not the one at the end of the file: it was damaged since",
                );
            }
            if restored.left_out > 0 {
                say(format!(
                    "LEFT OUT   {} records that are damaged: what was in them is lost",
                    restored.left_out
                ));
            }
            say(format!(
                "other members: restore them with --sha256 {}",
                restored.sha256
            ));
            if let Some(mut file) = record {
                file.write(&serde_json::to_vec_pretty(&restored)?).await?;
                say(format!(
                    "and with --beside {}",
                    file.commit().await?.display()
                ));
            }
        }
        Command::Put { file, place } => {
            let (store, trusted) = place.open_or_create()?;
            let bar = bars::bytes("putting");
            let put = store.put(&file, &trusted, cancel, bars::moves(&bar)).await;
            bar.finish_and_clear();
            let manifest = put?;
            print!("{}", show::opened(&manifest));
            if manifest.locked_for.is_empty() {
                print!("{}", show::plain());
            }
        }
        Command::List { place } => {
            let (store, trusted) = place.open()?;
            let bar = bars::counted("reading manifests");
            let listed = store.list_with(&trusted, bars::moves(&bar)).await;
            bar.finish_and_clear();
            print!("{}", show::catalogue(&listed?));
        }
        Command::Fetch {
            folder,
            wanted,
            place,
        } => {
            let (store, trusted) = place.open()?;
            let bar = bars::bytes("fetching");
            let is_wanted = |backup: &Manifest| wanted.is(backup);
            let moving = bars::moves(&bar);
            let fetched = store
                .fetch_newest(&trusted, is_wanted, &folder, cancel, moving)
                .await;
            bar.finish_and_clear();
            let (path, manifest, passed_over) = fetched?;
            for error in passed_over {
                say(format!("PASSED OVER {error}"));
            }
            print!("{}", show::opened(&manifest));
            say(format!("{}", path.display()));
        }
        Command::Prune { place, keep } => {
            let (store, trusted) = place.open()?;
            let bar = bars::counted("pruning");
            let (kept, moving) = (keep.retention(), bars::moves(&bar));
            let pruned = store.prune_with(&trusted, &kept, moving).await;
            bar.finish_and_clear();
            print!("{}", show::pruned(&pruned?));
        }
    }
    Ok(())
}

/// The folder that a file is in.
fn folder_of(file: &Path) -> &Path {
    let folder = file.parent().filter(|folder| *folder != Path::new(""));
    folder.unwrap_or_else(|| Path::new("."))
}

/// A file that is not there yet.
async fn new_file(path: &Path) -> Outcome<PartFile> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or("--record: name a file")?;
    Ok(PartFile::create(folder_of(path), name).await?)
}

/// Secret halves into files of their owner, public ones to be shown.
async fn keygen(folder: &Path) -> Outcome {
    let (secret, public) = KeyRing::generate();
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let signing = SigningKey::from_seed(&seed)?;
    for (name, bytes) in [
        ("age.key", secret.as_bytes()),
        ("sign.seed", seed.as_slice()),
    ] {
        let mut file = PartFile::create(folder, name).await?;
        file.write(bytes).await?;
        say(format!("{}", file.commit().await?.display()));
    }
    say(format!("--recipient {public}"));
    say(format!("--trusted {}", signing.public()));
    Ok(())
}

async fn backup(options: Backup, cancel: &Cancellation) -> Outcome {
    let found = options.members.found(options.force).await?;
    say(format!("member     {}", found.source.endpoint));
    let snapshots = SnapshotBackup::new(found.source, &options.folder);
    let snapshots = snapshots
        .with_stall(options.members.stall())
        .with_least_rate(options.pace.least_rate());
    let snapshots = match found.is_forced {
        true => snapshots.forced(),
        false => snapshots,
    };
    let signing = options.signing()?;
    let mut step = ProvenBackup::new(snapshots, found.members).signed(Arc::clone(&signing));
    // The folder is there by then: the snapshot is in it. Without an etcd what was restored is
    // read again.
    step = step.with_trial(&options.folder, options.trial_etcd.clone());
    if let Some(server) = options.api_server()? {
        step = step.with_trial_api_server(server);
    }
    step = match (options.seal()?, options.nodes()?) {
        (Some(seal), Some((nodes, live))) => step.as_set(seal, nodes, live),
        (Some(seal), None) => step.sealed(seal),
        (None, Some(_)) => {
            return Err("the files of nodes hold the cluster's keys: give --recipient".into());
        }
        (None, None) => step,
    };
    if let Some(store) = options.store()? {
        step = step.stored(store, signing);
    }
    let clock = TokioClock::system();
    let mut model = ClusterModel::new(ClusterId::new(&options.cluster), clock.now());
    if let Some(version) = &options.kubernetes {
        let member = ControlPlaneMember::new("control-plane", version.parse()?);
        model.control_plane.push(member);
    }
    let target = options.kubernetes.as_deref().unwrap_or("v1.0.0").parse()?;
    let input = StepInput::new(Arc::new(model), Arc::new(Policy::default()), target);
    let bar = bars::bytes("backing up");
    let moving = bar.clone();
    let mut cx = StepContext::new(Arc::new(clock), Fence::without_lease("byhand"));
    cx.cancel = cancel.clone();
    let cx = cx.with_events(Arc::new(move |event: &Event| {
        if let EventKind::Progress { done, of, unit, .. } = &event.kind {
            moving.set_message(format!("backing up: {unit}"));
            bars::moves(&moving)(*done, of.unwrap_or(*done));
        }
    }));
    let report = step.run(&cx, &input).await;
    bar.finish_and_clear();
    let report = report?;
    for artifact in &report.artifacts {
        say(format!("{}", artifact.path.display()));
        say(format!("sha256     {}", artifact.sha256));
    }
    say(format!("proof      {:?}", report.proof));
    for finding in &report.findings {
        say(format!(
            "{}  {}; {}",
            finding.code, finding.evidence, finding.cure
        ));
    }
    Ok(())
}
