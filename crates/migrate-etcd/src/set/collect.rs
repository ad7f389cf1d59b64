//! Takes the files of a node.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::hex;
use sha2::{Digest, Sha256};

use super::keys::NodeKeys;
use super::named::{
    KUBELET, KUBERNETES, MANIFESTS, OF_NEWER_KUBELETS, by_admission, by_flags, is_wanted, tidy,
};
use super::{FileRecord, NodeFiles, NodeRecord};
use crate::Error;

/// Largest file that is taken: configuration and keys are some KiB.
pub(super) const LARGEST: u64 = 1 << 20;

/// Most files of a node: kubeadm makes about fifty.
pub(super) const MOST: usize = 4096;

/// What was taken of a node.
pub(super) struct Collected {
    pub(super) record: NodeRecord,
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

pub(super) async fn collect(node: &dyn NodeFiles) -> Result<Collected, Error> {
    let failed = |source| Error::Node {
        node: node.node().to_owned(),
        source: Box::new(source),
    };
    let listed = node.list(KUBERNETES).await.map_err(failed)?;
    let listed = listed.iter().filter_map(|path| tidy(path));
    let mut wanted: BTreeSet<String> = listed.filter(|path| is_wanted(path)).collect();
    wanted.extend(KUBELET.map(str::to_owned));
    wanted.insert(OF_NEWER_KUBELETS.to_owned());
    let mut admission = BTreeSet::new();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut missing = Vec::new();
    let mut too_large = Vec::new();
    // What is read names more: each is taken once, so this ends.
    while let Some(path) = wanted.pop_first() {
        let taken = node.read(&path, LARGEST + 1).await.map_err(failed)?;
        let Some(bytes) = taken else {
            if path != OF_NEWER_KUBELETS {
                missing.push(path);
            }
            continue;
        };
        if bytes.len() as u64 > LARGEST || files.len() >= MOST {
            too_large.push(path);
            continue;
        }
        let text = String::from_utf8_lossy(&bytes);
        let mut named = BTreeSet::new();
        if path.starts_with(MANIFESTS) {
            let (by_flags, configurations) = by_flags(&text);
            named.extend(by_flags);
            // It may have been taken before it was named as such.
            for at in &configurations {
                if let Some(bytes) = files.get(at) {
                    named.extend(by_admission(at, &String::from_utf8_lossy(bytes)));
                }
            }
            admission.extend(configurations);
        }
        if admission.contains(&path) {
            named.extend(by_admission(&path, &text));
        }
        files.insert(path, bytes);
        let is_new = |path: &String| {
            !files.contains_key(path) && !missing.contains(path) && !too_large.contains(path)
        };
        wanted.extend(named.into_iter().filter(is_new));
    }
    missing.sort();
    too_large.sort();
    let recorded = files.iter().map(|(path, bytes)| FileRecord {
        path: path.clone(),
        bytes: bytes.len() as u64,
        sha256: hex(Sha256::digest(bytes)),
    });
    let record = NodeRecord {
        name: node.node().to_owned(),
        files: recorded.collect(),
        missing,
        too_large,
        packages: node.packages().await.map_err(failed)?,
        keys: NodeKeys::of(&files),
    };
    Ok(Collected { record, files })
}
