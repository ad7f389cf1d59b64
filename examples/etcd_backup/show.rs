//! What is shown of files, proofs, manifests and stores. Much of it is what a file or a store
//! says of itself, whoever has written that.

use std::path::Path;

use migrate_etcd::{
    BackupProof, Catalogue, Comparison, Effect, Inspection, KeyInDoubt, Manifest, PrivateKey,
    Proof, Pruned, ReadError, SetRecord,
};

use crate::lines::Lines;

pub(crate) fn inspection(found: &Inspection) -> Lines {
    let mut out = Lines::default();
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    out.add(format!(
        "bytes      {} in pages of {}",
        found.bytes, found.page_size
    ));
    out.add(format!("trailer    {}", or_none(&found.trailer)));
    if let Some(page) = found.structure.damaged_meta {
        out.add(format!(
            "damaged    meta page {page}: the other one was used"
        ));
    }
    out.add(format!(
        "revision   {}, compacted at {}",
        found.revision,
        found.compact_revision()
    ));
    let keys = found.keys;
    out.add(format!(
        "keys       {} ({} bytes), {} revisions",
        keys.alive, keys.alive_bytes, keys.revisions
    ));
    out.add(format!("storage    {}", or_none(&found.storage_version)));
    out.add(format!("cluster    {}", or_none(&found.cluster_version)));
    for member in &found.members {
        out.add(format!(
            "member     {} {} {}",
            member.id,
            member.name,
            member.peer_urls.join(",")
        ));
    }
    if let Some(cluster) = &found.kubernetes.cluster {
        out.add(format!("cluster    {cluster}"));
    }
    for bucket in &found.unknown_buckets {
        out.add(format!(
            "bucket     {bucket}: no etcd that is known here has it"
        ));
    }
    if found.unknown_fields > 0 {
        out.add(format!(
            "fields     {} that no etcd has which is known here",
            found.unknown_fields
        ));
    }
    out.add(format!(
        "leases     {}, alarms {}",
        found.leases, found.alarms
    ));
    out.add(format!(
        "auth       {}",
        if found.auth.enabled { "on" } else { "off" }
    ));
    for folder in &found.folders {
        out.add(format!(
            "folder     {} {} keys, {} bytes",
            folder.folder, folder.keys, folder.bytes
        ));
    }
    for used in &found.kubernetes.resources {
        out.add(format!("objects    {} {}", used.resource, used.objects));
    }
    for used in &found.kubernetes.encrypted {
        out.add(format!(
            "encrypted  {} {}: you need the key {} of {} {} to read them",
            used.resource, used.objects, used.key, used.provider, used.version
        ));
    }
    out
}

/// What has an effect outside of etcd one by one, all else by numbers.
pub(crate) fn comparison(found: &Comparison) -> Lines {
    let mut out = Lines::default();
    out.add(format!(
        "revision   {} of the backup, {} later",
        found.backup_revision, found.later_revision
    ));
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
        out.add(format!(
            "{what}: {}{}{}",
            namespace.unwrap_or_default(),
            object.name,
            place.unwrap_or_default()
        ));
    }
    for row in &found.resources {
        out.add(format!(
            "lost       {}: {} created, {} deleted, {} changed since",
            row.resource, row.created, row.deleted, row.changed
        ));
    }
    out
}

/// What `save` leaves is a plain snapshot, always.
pub(crate) fn plain() -> Lines {
    let mut out = Lines::default();
    out.add(
        "PLAIN      it is NOT ENCRYPTED: who reads it has every Secret of the cluster; `backup` \
         encrypts",
    );
    out
}

pub(crate) fn proof(proof: &Proof) -> Lines {
    let mut out = Lines::default();
    out.add(format!("equal to   {}", proof.members.join(", ")));
    for (_, why) in &proof.silent {
        out.add(format!("silent     {why}"));
    }
    out.add("           keys and values; leases, users and members rest on the trailer");
    out
}

/// One line for each backup, then what does not count.
pub(crate) fn catalogue(catalogue: &Catalogue) -> Lines {
    let mut out = Lines::default();
    for backup in &catalogue.backups {
        out.append(manifest(backup));
    }
    for refused in &catalogue.refused {
        out.add(format!("REFUSED    {}: {}", refused.name, refused.reason));
    }
    for name in &catalogue.unfinished {
        out.add(format!(
            "UNFINISHED {name}: no manifest says that it is a backup"
        ));
    }
    if catalogue.backups.is_empty() {
        out.add("no backup");
    }
    out
}

pub(crate) fn manifest(backup: &Manifest) -> Lines {
    let mut out = Lines::default();
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
    out.add(format!(
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
    ));
    for key in &backup.encryption_keys {
        out.add(format!("           needs the encryption key {key}"));
    }
    for doubt in &backup.keys_in_doubt {
        out.add(in_doubt(doubt));
    }
    out
}

/// A manifest that was opened to use its backup, with what keeps one from relying on that.
pub(crate) fn opened(backup: &Manifest) -> Lines {
    let mut out = manifest(backup);
    if backup.forced {
        out.add(
            "FORCED     it is of a member that need not have known a leader: it may be old, and lack \
             what the cluster had agreed on",
        );
    }
    if backup.proof < BackupProof::Proven {
        let with = match (backup.compared.len(), backup.voters) {
            (some @ 1.., Some(all)) => format!("it was compared with {some} of {all} members"),
            _ => "it was compared with no member".to_owned(),
        };
        let keys = match backup.keys_match {
            true => "the cluster's keys are in it",
            false => "keep the cluster's keys ready, which are not in it",
        };
        out.add(format!("UNPROVEN   {with}; {keys}"));
    }
    out
}

fn in_doubt(doubt: &KeyInDoubt) -> String {
    let what = match (doubt.key, doubt.elsewhere) {
        (PrivateKey::NotCompared, _) => "is not known to be the other half",
        (_, true) => "is not in it, but of another node",
        (_, false) => "IS NOT IN IT: a restore on new machines needs it",
    };
    let nodes = doubt.nodes.join(", ");
    format!("           pki/{} of {nodes} {what}", doubt.file)
}

pub(crate) fn pruned(pruned: &Pruned) -> Lines {
    let mut out = Lines::default();
    for backup in &pruned.removed {
        out.add(format!("removed    {}", backup.file));
    }
    for file in &pruned.still_stored {
        out.add(format!(
            "STILL KEPT {file}: the store keeps versions, and the bytes of this one until a rule of \
             its own ends them"
        ));
    }
    for (backup, error) in &pruned.failed {
        out.add(format!("NOT GONE   {}: {error}", backup.file));
    }
    for backup in &pruned.kept {
        out.add(format!(
            "kept       {} {} {:?}",
            backup.file, backup.taken, backup.proof
        ));
    }
    out
}

pub(crate) fn set(record: &SetRecord) -> Lines {
    let mut out = Lines::default();
    out.add(format!("snapshot   {} bytes", record.snapshot.bytes));
    for node in &record.nodes {
        out.add(format!(
            "node       {}: {} files",
            node.name,
            node.files.len()
        ));
        for (name, version) in &node.packages {
            out.add(format!("           {name} {version}"));
        }
        for path in node.missing.iter().chain(&node.too_large) {
            out.add(format!("           without {path}"));
        }
    }
    for doubt in record.keys_in_doubt() {
        out.add(in_doubt(&doubt));
    }
    out
}

/// What an inspection has found, or as JSON what is wrong; where that is not JSON it is the
/// error that the program ends with. A file that has `lost` its hash is sound but for that.
pub(crate) fn inspected(
    found: &Result<Inspection, ReadError>,
    lost: Option<(&Path, &str)>,
    json: bool,
) -> Result<Lines, serde_json::Error> {
    if let (Some((file, message)), true) = (lost, json) {
        let file = file.display().to_string();
        let error = serde_json::json!({ "kind": "noTrailer", "file": file, "message": message });
        return Lines::json(&serde_json::json!({ "error": error }));
    }
    match (found, json) {
        (Ok(found), true) => Lines::json(found),
        (Ok(found), false) => Ok(inspection(found)),
        (Err(error), true) => Lines::json(&serde_json::json!({ "error": error })),
        (Err(_), false) => Ok(Lines::default()),
    }
}
