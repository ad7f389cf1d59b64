//! What this crate does, in a process of its own, so that its start and its
//! memory count.

use std::fs;
use std::path::{Path, PathBuf};

use migrate_core::Cancellation;
use migrate_etcd::{EtcdVersion, Member, Membership, Restore, SnapshotBackup, Tls, inspect};

/// First argument of such a process.
pub(crate) const MARK: &str = "--run-ours";

/// Does `what` and prints the most memory that it had, in bytes.
pub(crate) fn run(what: &str, paths: &[PathBuf]) {
    match (what, paths) {
        ("save", [file, endpoint, tls]) => save(file, &endpoint.to_string_lossy(), tls),
        ("inspect", [file]) => assert!(inspect(file).unwrap().trailer.is_some()),
        ("restore", [file, data_dir]) => restore(file, data_dir),
        _ => panic!("{what} {paths:?}"),
    }
    println!("{}", most_memory());
}

fn save(file: &Path, endpoint: &str, tls: &Path) {
    let read = |name| fs::read_to_string(tls.join(name)).unwrap();
    let tls = Tls::new(read("ca.crt")).with_identity(read("client.crt"), read("client.key"));
    let member = Member::new(endpoint).with_tls(tls);
    let backup = SnapshotBackup::new(member, file.parent().unwrap());
    let name = file.file_name().unwrap().to_str().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let saved = runtime.block_on(backup.save(name, &Cancellation::new(), |_, _| {}));
    saved.unwrap();
}

fn restore(file: &Path, data_dir: &Path) {
    let membership = Membership::parse("default=http://localhost:2380", "etcd-cluster").unwrap();
    let target = EtcdVersion::new(3, 6);
    let restored = Restore::new(file, data_dir, membership, "default", target).run();
    assert!(restored.unwrap().revision > 1_000_000_000);
}

/// The kernel's high-water mark of this process.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line
        .and_then(|line| line.split_whitespace().nth(1))
        .unwrap();
    kib.parse::<u64>().unwrap() * 1024
}
