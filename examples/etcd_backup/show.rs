//! What is shown of files, proofs, manifests and stores.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use migrate_etcd::{Catalogue, Comparison, Effect, Inspection, Manifest, Proof, Pruned, SetRecord};

/// Something goes on, nobody knows for how long.
pub(crate) fn spinner(message: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Bytes of some.
pub(crate) fn bytes(message: &'static str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg} {bar:40} {bytes}/{total_bytes} {bytes_per_sec}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::no_length().with_style(style);
    bar.set_message(message);
    bar
}

/// Moves `bar` on.
pub(crate) fn moves(bar: &ProgressBar) -> impl FnMut(u64, u64) + Send + use<> {
    let bar = bar.clone();
    move |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    }
}

pub(crate) fn inspection(found: &Inspection) {
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
    if let Some(cluster) = &found.kubernetes.cluster {
        println!("cluster    {cluster}");
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

/// What has an effect outside of etcd one by one, all else by numbers.
pub(crate) fn comparison(found: &Comparison) {
    println!(
        "revision   {} of the backup, {} later",
        found.backup_revision, found.later_revision
    );
    for object in &found.objects {
        let Some(effect) = object.effect else {
            continue;
        };
        let what = match effect {
            Effect::PodEnds => "POD ENDS",
            Effect::PodReturns => "pod starts again",
            Effect::DiskOrphaned => "DISK IS ORPHANED",
            Effect::DiskMissing => "volume is back, perhaps without its disk",
            Effect::LoadBalancerOrphaned => "LOAD BALANCER IS ORPHANED",
            Effect::LoadBalancerMissing => "load balancer is asked for again",
            Effect::NodeUnknown => "NODE IS UNKNOWN until its kubelet is restarted",
            Effect::NodeReturns => "node is in the cluster again",
            _ => "changes",
        };
        let namespace = object.namespace.as_deref().map(|it| format!("{it}/"));
        let place = object.place.as_ref().map(|it| format!(" ({it})"));
        println!(
            "{what}: {}{}{}",
            namespace.unwrap_or_default(),
            object.name,
            place.unwrap_or_default()
        );
    }
    for row in &found.resources {
        println!(
            "lost       {}: {} created, {} deleted, {} changed since",
            row.resource, row.created, row.deleted, row.changed
        );
    }
}

/// What `save` leaves is a plain snapshot, always.
pub(crate) fn plain() {
    println!(
        "PLAIN      it is NOT ENCRYPTED: who reads it has every Secret of the cluster; `backup` \
         encrypts"
    );
}

pub(crate) fn proof(proof: &Proof) {
    println!("equal to   {}", proof.members.join(", "));
    for (_, why) in &proof.silent {
        println!("silent     {why}");
    }
    println!("           keys and values; leases, users and members rest on the trailer");
}

/// One line for each backup, then what does not count.
pub(crate) fn catalogue(catalogue: &Catalogue) {
    for backup in &catalogue.backups {
        manifest(backup);
    }
    for refused in &catalogue.refused {
        println!("REFUSED    {}: {}", refused.name, refused.reason);
    }
    for name in &catalogue.unfinished {
        println!("UNFINISHED {name}: no manifest says that it is a backup");
    }
    if catalogue.backups.is_empty() {
        println!("no backup");
    }
}

pub(crate) fn manifest(backup: &Manifest) {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let keys = match backup.keys_match {
        true => ", with the cluster's keys",
        false => "",
    };
    let open = match backup.locked_for.is_empty() {
        true => ", NOT ENCRYPTED",
        false => "",
    };
    let forced = match backup.forced {
        true => ", FORCED without quorum",
        false => "",
    };
    println!(
        "{}  {:?}  {}  kubernetes {} etcd {} revision {}  {} bytes{keys}{open}{forced}",
        backup.taken,
        backup.proof,
        backup.file,
        or_none(&backup.kubernetes),
        or_none(&backup.etcd),
        backup
            .revision
            .map_or_else(|| "-".to_owned(), |revision| revision.to_string()),
        backup.bytes,
    );
    for key in &backup.encryption_keys {
        println!("           needs the encryption key {key}");
    }
}

pub(crate) fn pruned(pruned: &Pruned) {
    for backup in &pruned.removed {
        println!("removed    {}", backup.file);
    }
    for file in &pruned.still_stored {
        println!(
            "STILL KEPT {file}: the store keeps versions, and the bytes of this one until a rule of \
             its own ends them"
        );
    }
    for (backup, error) in &pruned.failed {
        println!("NOT GONE   {}: {error}", backup.file);
    }
    for backup in &pruned.kept {
        println!(
            "kept       {} {} {:?}",
            backup.file, backup.taken, backup.proof
        );
    }
}

pub(crate) fn set(record: &SetRecord) {
    println!("snapshot   {} bytes", record.snapshot.bytes);
    for node in &record.nodes {
        println!("node       {}: {} files", node.name, node.files.len());
        for (name, version) in &node.packages {
            println!("           {name} {version}");
        }
        for path in node.missing.iter().chain(&node.too_large) {
            println!("           without {path}");
        }
    }
}
