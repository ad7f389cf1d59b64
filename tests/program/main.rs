//! The program as a person runs it, where no real cluster is needed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod away;
mod cluster;
mod durations;
mod handed;
mod kubeadm;
mod planner;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use cluster::kubeconfig;
use migrate_etcd::{BackupProof, Manifest, SigningKey};
use migrate_sim::store::Resource;
use migrate_sim::{Pool, SimCluster};
use serde_json::Value;

/// The one that most tests are of.
fn program() -> Command {
    example("upgrade")
}

/// The example that cargo has built beside this test.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().unwrap().parent().unwrap();
    let program: PathBuf = folder.join("examples").join(name);
    assert!(
        program.is_file(),
        "run `cargo build --example {name}` first"
    );
    let mut command = Command::new(program);
    command.env_remove("KUBECONFIG");
    command
}

fn demo(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = program();
    command.args(["--seed", "3", "--backup-dir"]).arg(folder);
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_demo_arrives_without_a_broken_rule_and_the_same_seed_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let first = demo(folder.path(), &[]);
    let said = text(&first.stdout);
    assert!(first.status.success(), "{said}");
    assert!(said.contains("outcome    done"), "{said}");
    let forecasts: Vec<&str> = said.lines().filter(|line| line.contains("(P50")).collect();
    let [of_the_plan, of_the_report] = forecasts[..] else {
        panic!("{said}");
    };
    assert!(of_the_plan.starts_with("forecast 0:"), "{of_the_plan}");
    assert!(of_the_report.contains("at the start ") && of_the_report.contains("; it took "));
    let on_the_way = text(&first.stderr);
    let mut lines = on_the_way.lines();
    let ends = lines.any(|line| line.contains("  ends ") && line.contains(" (P95) UTC, "));
    assert!(ends, "{on_the_way}");
    assert!(
        said.lines()
            .any(|line| line.starts_with("broken rules") && line.ends_with(": 0"))
    );
    let second = demo(folder.path(), &[]);
    assert!(first.stdout == second.stdout && first.stderr == second.stderr);
}

/// The checker judges by the policy of the run, not by the default one.
#[test]
fn the_demo_keeps_the_rules_of_another_policy() {
    let folder = tempfile::tempdir().unwrap();
    let wider = "[pools]\nmax-unavailable = 2\n";
    let other = "[pools]\nlabel = 'unknown'\nmax-unavailable = '20%'\n\
                 [assumed-budgets]\nmax-unavailable = '50%'\n\
                 [rollout]\ncontrol-plane-nodes-first = false\n";
    for policy in [wider, other] {
        let file = folder.path().join("policy.toml");
        std::fs::write(&file, policy).unwrap();
        let output = demo(folder.path(), &["--policy", file.to_str().unwrap()]);
        let said = text(&output.stdout);
        assert!(output.status.success(), "{policy}{said}");
        assert!(said.contains("after every write): 0"), "{policy}{said}");
    }
}

#[test]
fn a_page_shows_the_plan_and_after_the_run_its_course() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let page = path("page.html");
    let read = || std::fs::read_to_string(&page).unwrap();
    let output = demo(folder.path(), &["plan", "--json", "--html", &page]);
    assert!(output.status.success());
    let plan = read();
    assert!(plan.contains("<h2>Schedule</h2>") && !plan.contains("Outcome:"));

    let words = ["--journal", &path("journal"), "--html", &page];
    assert!(demo(folder.path(), &words).status.success());
    let report = read();
    assert!(report.contains("Outcome:") && report.contains("<h2>Course</h2>"));

    // Before anything begins, not at its end.
    let nowhere = path("no/page.html");
    let output = demo(folder.path(), &["--html", &nowhere]);
    let said = text(&output.stderr);
    assert!(
        !output.status.success() && said.contains(&nowhere),
        "{said}"
    );
    assert!(!text(&output.stdout).contains("outcome "));
}

/// The embedded cluster has none to upgrade, so the programs are not run.
#[test]
fn the_demo_shows_addons_with_their_way_back_and_both_backups() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    let policy = "[[addon]]\nname = 'cni'\nat = 'after-control-plane'\nundo = '/undo/cni'\n\
                  [[addon]]\nname = 'csi'\nat = 'after-control-plane'\n";
    std::fs::write(&file, policy).unwrap();
    let output = demo(folder.path(), &["--policy", file.to_str().unwrap()]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}");
    let at = |what: &str| {
        let mut lines = said.lines();
        let place = lines.position(|line| line.trim_start().starts_with(what));
        place.unwrap_or_else(|| panic!("no {what} in {said}"))
    };
    assert!(at("second backup") < at("addon cni") && at("addon cni") < at("addon csi"));
    assert_eq!(at("undo: /undo/cni"), at("addon cni") + 1);
    assert_eq!(at("POINT OF NO RETURN"), at("addon csi") + 1);
    assert_eq!(snapshots(folder.path()).len(), 2, "{said}");
}

/// The snapshots in a folder, oldest first: their names end with the time.
fn snapshots(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().flatten();
    let paths = files.map(|file| file.path());
    let mut found: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|it| it == "db"))
        .collect();
    found.sort();
    found
}

/// As sound as one of a real etcd, signed, and a cluster goes on from it.
#[tokio::test(start_paused = true)]
async fn the_demo_s_backups_are_snapshots_that_a_cluster_can_be_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("sign.seed");
    std::fs::write(&seed, [7; 32]).unwrap();
    let output = demo(folder.path(), &["--backup-sign", seed.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let [before, after] = &snapshots(folder.path())[..] else {
        panic!("two backups");
    };
    let trusted = [SigningKey::from_seed(&[7; 32]).unwrap().public()];
    for (backup, version) in [(before, "v1.36.3"), (after, "v1.37.2")] {
        let found = migrate_etcd::inspect(backup).unwrap();
        assert!(found.trailer.is_some());
        let manifest = Manifest::open(backup, &trusted).unwrap();
        manifest.check(backup).unwrap();
        assert_eq!(manifest.proof, BackupProof::Unproven);
        assert_eq!(manifest.revision, Some(found.revision));
        assert_eq!(manifest.cluster, found.kubernetes.cluster);
        assert_eq!(manifest.kubernetes.as_deref(), Some(version));
        let (copy, left_out) = SimCluster::load(backup).await.unwrap();
        assert_eq!(left_out, []);
        assert_eq!(copy.api().version(), version);
        assert_eq!(copy.store().count(Resource::NODES), 15);
        copy.wait_until_settled(Duration::from_secs(600))
            .await
            .unwrap();
    }
}

/// Only a set of the nodes' files and a proven snapshot needs none, which a run would
/// find after its checks.
#[tokio::test]
async fn a_plan_and_a_dry_run_foretell_the_waiver_that_a_run_needs() {
    let cluster = SimCluster::builder()
        .nodes(Pool::control_plane(1))
        .nodes(Pool::new("general", 2));
    let cluster = cluster.start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = cluster.api().listen().await.unwrap();
    kubeconfig(folder.path(), &server.address());
    let said = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::from(program());
        command.args(["--kubeconfig", "kubeconfig", "--to", "v1.37.2"]);
        command.args(arguments).current_dir(folder.path());
        let output = command.output().await.unwrap();
        let said = text(&output.stdout);
        assert!(output.status.success(), "{said}{}", text(&output.stderr));
        said
    };
    std::fs::write(folder.path().join("seed"), [7; 32]).unwrap();
    let (_, recipient) = migrate_etcd::KeyRing::generate();
    for what in ["plan", "--dry-run"] {
        let need = said(&[what]).await;
        let line = "a run will also need --waive KM-BACKUP-001";
        assert_eq!(need.matches(line).count(), 1, "{need}");
        let need = said(&[what, "--json"]).await;
        assert!(
            need.contains(r#"{"willNeedWaiver":"KM-BACKUP-001"}"#),
            "{need}"
        );
        let waived = said(&[what, "--waive", "KM-BACKUP-001"]).await;
        assert!(!waived.contains(line), "{waived}");
        let set = ["--kubeadm", "--backup-recipient", &recipient];
        let set = said(&[&[what][..], &set, &["--backup-sign", "seed"]].concat()).await;
        assert!(!set.contains(line), "{set}");
        let bare = said(&[what, "--kubeadm"]).await;
        assert!(bare.contains(line), "{bare}");
    }
}

#[test]
fn a_dry_run_of_the_demo_says_which_pods_would_go() {
    let folder = tempfile::tempdir().unwrap();
    let output = demo(folder.path(), &["--dry-run"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    for says in ["Evictions rehearsed", "would be let go now"] {
        assert!(said.contains(says), "{says}: {said}");
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "no backup");

    let output = demo(folder.path(), &["--dry-run", "--json"]);
    let said = text(&output.stdout);
    let documents: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let rehearsal = documents
        .iter()
        .find_map(|document| document.get("rehearsal"));
    let pods = rehearsal.unwrap().as_array().unwrap();
    assert!(pods.len() > 100, "{} pods", pods.len());
    assert!(pods.iter().any(|pod| pod["result"]["result"] == "allowed"));
}

/// Only runs that the journal says are over, and have been for long enough.
#[tokio::test]
async fn cleaning_up_goes_by_the_journal() {
    let cluster = SimCluster::builder().nodes(Pool::control_plane(1));
    let cluster = cluster.start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = cluster.api().listen().await.unwrap();
    kubeconfig(folder.path(), &server.address());
    let journal = folder.path().join("demo.journal");
    let ran = demo(folder.path(), &["--journal", journal.to_str().unwrap()]);
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    // Nobody is reached this way.
    std::fs::write(folder.path().join("ssh"), "Host *\n  ProxyCommand false\n").unwrap();
    let said = async |journal: &str, arguments: &[&str]| {
        let mut command = tokio::process::Command::from(program());
        command.args(["clean", "--kubeconfig", "kubeconfig", "--journal", journal]);
        command.args(arguments).current_dir(folder.path());
        let output = command.output().await.unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        (output.status.success(), said)
    };
    let kubeadm = ["--kubeadm", "--ssh-config", "ssh"];
    let (is_well, no_driver) = said("demo.journal", &[]).await;
    assert!(!is_well && no_driver.contains("--kubeadm"), "{no_driver}");
    let (is_well, none) = said("none.journal", &kubeadm).await;
    assert!(!is_well && none.contains("no such journal"), "{none}");
    let keep = |time| [&kubeadm[..], &["--keep", time]].concat();
    let (is_well, young) = said("demo.journal", &keep("900000h")).await;
    assert!(is_well && young.contains("no run in"), "{young}");
    for says in ["kept     all of demo-3: ", ": it ended at ", "on\n"] {
        assert!(young.contains(says), "{says:?}: {young}");
    }
    let (is_well, asked) = said("demo.journal", &keep("0s")).await;
    assert!(!is_well && asked.contains("KM-KUBEADM-027"), "{asked}");
}

#[test]
fn flags_for_a_real_cluster_do_not_start_the_demo() {
    for arguments in [&["--cluster-id", "x"][..], &["abort"]] {
        let output = program().args(arguments).output().unwrap();
        assert!(!output.status.success());
        let said = text(&output.stderr);
        assert!(said.contains("--kubeconfig"), "{said}");
    }
}

#[test]
fn jobs_are_asked_for_with_their_image_and_with_kubeadm() {
    let said = |arguments: &[&str]| {
        let output = program().args(arguments).output().unwrap();
        assert!(!output.status.success());
        text(&output.stderr)
    };
    assert!(said(&["--job-image", "busybox"]).contains("--kubeadm"));
    let named = ["--kubeadm", "--job-nodes", "w-1"];
    assert!(said(&named).contains("--job-image"));
}
