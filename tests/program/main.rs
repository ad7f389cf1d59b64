//! The program as a person runs it, where no real cluster is needed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod cluster;
mod durations;
mod kubeadm;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use cluster::kubeconfig;
use migrate_core::{ClusterId, ClusterModel, ControlPlaneMember, Moment, Node, Policy};
use migrate_executor::{Entry, FileJournal, Journal, Origin, Record, RunOpened};
use migrate_plan::Planner;
use migrate_sim::{Pool, SimCluster};
use serde_json::{Value, json};

/// The example that cargo has built beside this test.
fn program() -> Command {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().unwrap().parent().unwrap();
    let program: PathBuf = folder.join("examples/upgrade");
    assert!(
        program.is_file(),
        "run `cargo build --example upgrade` first"
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
    let files = std::fs::read_dir(folder.path()).unwrap().flatten();
    let is_dump = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("objects-");
    assert_eq!(
        files.filter(|file| is_dump(&file.file_name())).count(),
        2,
        "{said}"
    );
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
fn a_file_that_is_not_there_is_named_with_its_flag() {
    let away = Away::new();
    let refused = |command: &mut Command, says: &[&str]| {
        let output = command.output().unwrap();
        let error = text(&output.stderr);
        assert!(!output.status.success(), "{error}");
        for say in says {
            assert!(error.contains(say), "{say}: {error}");
        }
    };
    let mut command = program();
    command.args(["status", "--context", "c"]);
    command.env("KUBECONFIG", "/nowhere/kubeconfig");
    let cure = "--kubeconfig or $KUBECONFIG";
    refused(&mut command, &["/nowhere/kubeconfig", cure, "--context"]);

    let journal = away.path("none.journal");
    let mut command = away.command(&journal);
    refused(command.arg("status"), &["none.journal", "with --journal"]);
    let mut command = away.upgrade(&journal, &["--policy", "none.toml"]);
    refused(&mut command, &["none.toml", "name a text file"]);
}

/// A journal tells its run also where the cluster does not answer.
#[test]
fn status_tells_what_the_journal_knows() {
    let away = Away::new();
    let folder = away.folder.path();
    let journal = away.path("demo.journal");
    let ran = demo(folder, &["--journal", journal.to_str().unwrap()]);
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let status = |arguments: &[&str]| {
        let mut command = away.command(&journal);
        command.arg("status").args(arguments).output().unwrap()
    };
    let output = status(&[]);
    let (said, error) = (text(&output.stdout), text(&output.stderr));
    let server = format!("the API server http://{} is out of reach", away.address);
    let names_it = error.contains(&server) && error.contains("correct the address");
    assert!(!output.status.success() && names_it, "{error}");
    for says in [
        "run        demo-3",
        "steps      prepare, baseline, back up, claim",
        "targets    19 of 19 done",
        "waited     ",
        "end        done",
    ] {
        assert!(said.contains(says), "{says}: {said}");
    }
    let document: Value = serde_json::from_slice(&status(&["--json"]).stdout).unwrap();
    let account = &document["status"]["account"];
    assert_eq!(account["end"], "done", "{account}");
    assert_eq!(account["targetsDone"], account["targets"]);

    let journal = away.unfinished_journal();
    let output = away.command(&journal).arg("status").output().unwrap();
    let said = text(&output.stdout);
    for says in [
        "run        run-7",
        "targets    0 of 3 done",
        "end        not ended",
    ] {
        assert!(said.contains(says), "{says}: {said}");
    }
}

/// The API server is away, as while it is upgraded: a run that goes on waits
/// for it, also while it refuses everybody at first, and goes on as soon as it
/// knows us.
#[test]
fn a_run_that_goes_on_waits_for_the_api_server() {
    let away = Away::new();
    let journal = away.unfinished_journal();
    let (mut child, mut lines) = away.waiting(&journal, &["--wait", "10m"]);
    let server = TcpListener::bind(away.address).unwrap();
    std::thread::spawn(move || {
        let mut looks = 0;
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            // Asked once in each look, beside others.
            looks += usize::from(path(&mut stream) == "/api/v1/namespaces/kube-system");
            answer(stream, if looks < 2 { COLD } else { STRANGER });
        }
    });
    assert!(!child.wait().unwrap().success());
    let mut said = String::new();
    lines.read_to_string(&mut said).unwrap();
    let is_final = said.contains("not you") && !said.contains("waited");
    assert!(is_final && !said.contains("forbidden"), "{said}");
}

#[test]
fn waiting_for_the_api_server_ends_by_itself_or_when_asked() {
    let away = Away::new();
    let journal = away.unfinished_journal();
    let said = |mut lines: BufReader<_>| {
        let mut said = String::new();
        Read::read_to_string(&mut lines, &mut said).unwrap();
        said
    };
    let (mut child, lines) = away.waiting(&journal, &["--wait", "1s"]);
    assert!(!child.wait().unwrap().success());
    let end = said(lines);
    assert!(end.contains("waited") && end.contains("--wait"), "{end}");

    let (mut child, lines) = away.waiting(&journal, &["--wait", "10m"]);
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert!(!child.wait().unwrap().success());
    assert!(said(lines).contains("the same command goes on"));

    // To end a run takes its driver and no version, and waits like the run.
    let mut command = away.command(&journal);
    command.args(["abort", "--wait", "1s"]);
    let error = text(&command.output().unwrap().stderr);
    assert!(error.contains("--node-hook"), "{error}");
    for hook in ["--node-hook", "--control-plane-hook"] {
        command.args([hook, "/bin/false"]);
    }
    let error = text(&command.output().unwrap().stderr);
    assert!(error.contains("an unfinished run"), "{error}");

    // Without an unfinished run nothing is worth waiting for.
    let output = away
        .upgrade(&away.path("new.journal"), &[])
        .output()
        .unwrap();
    let error = text(&output.stderr);
    assert!(!output.status.success());
    assert!(
        error.contains("out of reach") && !error.contains("wait"),
        "{error}"
    );
}

/// A kubeconfig of an API server that is not there.
struct Away {
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Away {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        kubeconfig(folder.path(), &address);
        Self { folder, address }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, journal: &Path) -> Command {
        let mut command = program();
        command.current_dir(self.folder.path());
        command.arg("--kubeconfig").arg(self.path("kubeconfig"));
        command.arg("--journal").arg(journal);
        command
    }

    fn upgrade(&self, journal: &Path, arguments: &[&str]) -> Command {
        let mut command = self.command(journal);
        command.args(["--to", "v1.37.2", "--yes"]).args(arguments);
        for hook in ["--node-hook", "--control-plane-hook"] {
            command.args([hook, "/bin/false"]);
        }
        command
    }

    /// The program, once it has said that it waits, and what it says then.
    fn waiting(&self, journal: &Path, arguments: &[&str]) -> (Child, BufReader<impl Read>) {
        let mut command = self.upgrade(journal, arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        assert!(
            first.contains("an unfinished run is to go on: waiting"),
            "{first}"
        );
        (child, lines)
    }

    /// A journal in which a run has begun.
    fn unfinished_journal(&self) -> PathBuf {
        let path = self.path("unfinished.journal");
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        let version = "v1.36.3".parse().unwrap();
        model.control_plane = vec![ControlPlaneMember::new("cp-1", version)];
        model.nodes = vec![Node::new("worker-1", "v1.36.3".parse().unwrap())];
        let policy = Policy::default();
        let target = "v1.37.2".parse().unwrap();
        let plan = Planner::new(&model, &policy, target).plan().unwrap();
        let opened = RunOpened::new("run-7", Origin::Fresh, plan, policy, model);
        let record = Record::RunOpened(Box::new(opened));
        let mut journal = FileJournal::open(&path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            journal.load().await.unwrap();
            let entry = Entry::new(0, Moment::EPOCH, record);
            journal.append(&entry).await.unwrap();
        });
        path
    }
}

/// What an API server answers that has just started, and what it answers to one
/// whom it does not know.
const COLD: (u16, &str) = (403, "Forbidden");
const STRANGER: (u16, &str) = (401, "Unauthorized");

/// The path of a connection's request.
fn path(stream: &mut TcpStream) -> String {
    let mut request = [0; 4096];
    // A client that is gone asks nothing.
    let length = stream.read(&mut request).unwrap_or(0);
    let request = text(&request[..length]);
    let path = request.split([' ', '?']).nth(1);
    path.unwrap_or_default().to_owned()
}

fn answer(mut stream: TcpStream, (code, reason): (u16, &str)) {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": "not you",
    })
    .to_string();
    let answer = format!(
        "HTTP/1.1 {code} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    // A client that is gone has had its answer.
    let _ = stream.write_all(answer.as_bytes());
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
