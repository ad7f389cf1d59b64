//! What the flags mean.

use clap::Parser;
use migrate_etcd::{BackupProof, Manifest};

use crate::cli::{Cli, Command, Wanted};

/// What `fetch` with these flags looks for.
fn wanted(flags: &[&str]) -> Wanted {
    let fixed = [
        "etcd_backup",
        "fetch",
        "to",
        "--store",
        "s",
        "--trusted",
        "k",
    ];
    let cli = Cli::try_parse_from(fixed.iter().chain(flags)).unwrap();
    match cli.command {
        Command::Fetch { wanted, .. } => wanted,
        _ => unreachable!("it is a fetch"),
    }
}

#[test]
fn a_backup_is_chosen_by_cluster_version_and_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    std::fs::write(&path, "a").unwrap();
    let taken = "2026-11-29T00:00:00Z".parse().unwrap();
    let mut backup = Manifest::of(&path, taken, BackupProof::Proven).unwrap();
    backup.cluster = Some("c".to_owned());
    backup.kubernetes = Some("v1.36.3".to_owned());
    for (flags, is_wanted) in [
        (&[][..], true),
        (&["--kubernetes", "v1.36.3"], true),
        (&["--kubernetes", "1.36.3"], true),
        (&["--kubernetes", "1.36"], false),
        (&["--name", "a.db", "--cluster", "c"], true),
        (&["--name", "b.db"], false),
        (&["--cluster", "d"], false),
    ] {
        assert_eq!(wanted(flags).is(&backup), is_wanted, "{flags:?}");
    }
    // What the manifest does not say nobody may take for granted.
    backup.kubernetes = None;
    assert!(!wanted(&["--kubernetes", "1.36.3"]).is(&backup));
}
