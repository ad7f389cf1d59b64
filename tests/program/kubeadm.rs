//! A run of `--kubeadm` as far as it goes without machines: the way to the nodes
//! is a stub that notes who is asked for what.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use migrate_sim::api::Loopback;
use migrate_sim::{Pool, SimCluster};
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::cluster::kubeconfig;
use crate::program;

/// Answers as a node that is well and has all images, or with the file `survey`.
const SSH: &str = r#"#!/bin/sh
script=$(cat)
while [ "$1" != -- ]; do shift; done
case $script in
    *'survey "$@"'*) what=survey answer=$(cat survey) ;;
    *'pull_images "$@"'*) what=images answer= ;;
    *'resolve_all "$@"'*) what=packages answer= ;;
    *'outside "$@"'*) what=outside answer=in ;;
    *) what=other answer= ;;
esac
echo "$what $2" >> asked
echo 'kube-migrate: begun'
echo "$answer"
"#;

/// One control-plane node and two workers, an etcd that hangs up, and the
/// program's folder.
struct Rig {
    folder: tempfile::TempDir,
    cluster: SimCluster,
    etcd: String,
    _server: Loopback,
    _etcd: JoinSet<()>,
}

impl Rig {
    async fn start() -> Self {
        let cluster = SimCluster::builder()
            .nodes(Pool::control_plane(1))
            .nodes(Pool::new("general", 2));
        let cluster = cluster.start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let server = cluster.api().listen().await.unwrap();
        kubeconfig(folder.path(), &server.address());
        let etcd = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", etcd.local_addr().unwrap());
        let asked = folder.path().join("asked");
        let mut hangs_up = JoinSet::new();
        hangs_up.spawn(async move {
            while let Ok((stream, _)) = etcd.accept().await {
                drop(stream);
                let mut asked = std::fs::OpenOptions::new()
                    .append(true)
                    .open(&asked)
                    .unwrap();
                asked.write_all(b"etcd\n").unwrap();
            }
        });
        let rig = Self {
            folder,
            cluster,
            etcd: endpoint,
            _server: server,
            _etcd: hangs_up,
        };
        std::fs::create_dir(rig.path("bin")).unwrap();
        for (name, text) in [("bin/ssh", SSH), ("balancer", "#!/bin/sh\n")] {
            std::fs::write(rig.path(name), text).unwrap();
            let executable = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(rig.path(name), executable).unwrap();
        }
        for name in ["asked", "survey"] {
            std::fs::write(rig.path(name), "").unwrap();
        }
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program at work, to be killed when this is dropped.
    fn upgrade(&self) -> Child {
        self.program(&["run"])
    }

    fn program(&self, arguments: &[&str]) -> Child {
        let etcd = ["--etcd", &self.etcd, "--waive", "KM-BACKUP-001"];
        self.begin(&[&etcd, arguments].concat())
    }

    fn begin(&self, arguments: &[&str]) -> Child {
        let path = std::env::var_os("PATH").unwrap();
        let paths = [self.path("bin")]
            .into_iter()
            .chain(std::env::split_paths(&path));
        let mut command = Command::from(program());
        command
            .args([
                "--kubeconfig",
                "kubeconfig",
                "--to",
                "v1.37.2",
                "--kubeadm",
                "--yes",
            ])
            .args(["--api-server-hook", "./balancer", "--backup-dir", "backups"])
            .args(arguments)
            .current_dir(self.folder.path())
            .env("PATH", std::env::join_paths(paths).unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command.spawn().unwrap()
    }

    /// Who was asked for what so far, in order; those asked side by side sorted.
    fn asked(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("asked")).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let kind = |line: &String| line.split(' ').next().map(str::to_owned);
        for group in lines.chunk_by_mut(|a, b| kind(a) == kind(b)) {
            group.sort();
        }
        lines.dedup_by(|a, b| a == b && a == "etcd");
        lines
    }

    /// Waits until as many as `count` were asked.
    async fn asked_until(&self, count: usize) -> Vec<String> {
        let wait = async {
            loop {
                let asked = self.asked();
                if asked.len() >= count {
                    return asked;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let limit = std::time::Duration::from_secs(60);
        let asked = tokio::time::timeout(limit, wait).await;
        asked.unwrap_or_else(|_| panic!("only {:?}", self.asked()))
    }

    async fn call(&self, method: &str, path: &str, body: serde_json::Value) {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(
                "content-type",
                match method {
                    "PATCH" => "application/merge-patch+json",
                    _ => "application/json",
                },
            )
            .body(body.to_string().into_bytes())
            .unwrap();
        self.cluster.client().request_text(request).await.unwrap();
    }
}

/// What is asked of `nodes`, side by side.
fn each<'a>(what: &'a str, nodes: &'a [String]) -> impl Iterator<Item = String> + 'a {
    nodes.iter().map(move |node| format!("{what} {node}"))
}

async fn nodes(rig: &Rig) -> Vec<String> {
    let client = rig.cluster.client();
    let model = migrate_kube::observe(&client, migrate_core::Moment::EPOCH);
    let nodes = model.await.unwrap().nodes.into_iter();
    nodes.map(|node| node.name).collect()
}

#[tokio::test]
async fn members_are_put_back_then_nodes_surveyed_and_prepared_then_etcd_saved() {
    let rig = Rig::start().await;
    let all = nodes(&rig).await;
    let expected: Vec<String> = each("outside", &all[..1])
        .chain(each("survey", &all))
        .chain(each("packages", &all))
        .chain(each("images", &all))
        .chain(["etcd".to_owned()])
        .collect();
    let child = rig.upgrade();
    assert_eq!(rig.asked_until(expected.len()).await, expected);
    drop(child);
    // Killed in the middle it may leave a part, which is none.
    let left = rig.path("backups").read_dir().into_iter().flatten();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    let is_part = |name: &OsString| name.to_string_lossy().ends_with(".kube-migrate.part");
    assert!(left.iter().all(is_part), "{left:?}");
}

#[tokio::test]
async fn a_node_that_is_not_fit_keeps_images_and_backup_back() {
    let rig = Rig::start().await;
    std::fs::write(rig.path("survey"), "cgroup tmpfs\n").unwrap();
    let output = rig.upgrade().wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("KM-KUBEADM-009"), "{said}");
    let all = nodes(&rig).await;
    let expected: Vec<String> = each("outside", &all[..1])
        .chain(each("survey", &all))
        .collect();
    assert_eq!(rig.asked(), expected);
}

/// Without a member that is named they are looked for on the control plane, and a
/// backup that cannot be made ends the run before it has begun.
#[tokio::test]
async fn members_are_looked_for_on_the_control_plane_and_one_without_any_is_named() {
    let rig = Rig::start().await;
    let all = nodes(&rig).await;
    std::fs::write(rig.path("seed"), [7; 32]).unwrap();
    let (secret, recipient) = migrate_etcd::KeyRing::generate();
    let set = ["--backup-recipient", &recipient, "--backup-sign", "seed"];
    for flags in [&[][..], &set] {
        let output = rig.begin(flags).wait_with_output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = said + &String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        assert!(!said.contains(secret.trim()), "{said}");
        let asked = rig.asked();
        assert!(!asked.iter().any(|it| it == "etcd"), "{asked:?}");
        // The embedded cluster has no keys that a set could be compared with.
        if flags.is_empty() {
            assert!(asked.contains(&format!("other {}", all[0])), "{asked:?}");
            for words in ["kube-apiserver.yaml", &all[0]] {
                assert!(said.contains(words), "{words}: {said}");
            }
        }
    }
    let refused = rig.begin(&["--no-backup", "--journal", "other"]);
    let output = refused.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("KM-BACKUP-001"), "{said}");
}

/// It looks at everything that a run looks at first, and changes nothing.
#[tokio::test]
async fn a_check_asks_every_node_and_the_balancer_and_leaves_nothing_behind() {
    let rig = Rig::start().await;
    let all = nodes(&rig).await;
    let output = rig.program(&["check"]).wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("0 of them would keep a run"), "{said}");
    let surveyed: Vec<String> = each("survey", &all).collect();
    assert_eq!(rig.asked(), surveyed);
    for left in ["backups", ".kube-migrate"] {
        assert!(!rig.path(left).exists(), "{left}");
    }

    std::fs::write(rig.path("survey"), "cgroup tmpfs\n").unwrap();
    let output = rig.program(&["check"]).wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("blocker  KM-KUBEADM-009 Node "), "{said}");
    let json = rig.program(&["check", "--json", "--waive", "KM-KUBEADM-009"]);
    let output = json.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let found: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(found["findings"].is_array(), "{said}");
    assert!(said.contains("KM-KUBEADM-009"), "{said}");
}

/// Also for programs, which have no table.
#[tokio::test]
async fn a_plan_says_how_each_target_is_taken_back() {
    let rig = Rig::start().await;
    let output = rig.program(&["plan", "--json"]).wait_with_output().await;
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let documents = said.lines().map(|line| serde_json::from_str(line).unwrap());
    let documents: Vec<serde_json::Value> = documents.collect();
    let of = |name: &str| documents.iter().find_map(|document| document.get(name));
    let (plan, undo) = (of("plan").unwrap(), of("undo").unwrap());
    let undo = undo.as_object().unwrap();
    let ways = |kind: &str| undo.keys().filter(|name| name.contains(kind)).count();
    assert_eq!(ways("node "), plan["slots"].as_array().unwrap().len());
    assert_eq!(ways("control plane"), 1, "{undo:?}");
    let no_return = undo.values().filter_map(|way| way.as_str());
    let mut no_return = no_return.filter(|way| way.starts_with("POINT OF NO RETURN"));
    assert!(no_return.next().is_some(), "{undo:?}");
}

/// The kill switch: nobody but who pulled it touches nodes or load balancer.
#[tokio::test]
async fn while_the_anchor_is_paused_nodes_are_looked_at_only() {
    let rig = Rig::start().await;
    let all = nodes(&rig).await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    let pause = |paused: &str| json!({ "kube-migrate.dev/pause": paused });
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "kube-migrate", "namespace": "kube-system",
                      "annotations": pause("true") },
    });
    rig.call("POST", leases, lease).await;
    let mut child = rig.upgrade();
    let mut said = tokio::io::BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    // It says so when it has come to the images.
    while !text.contains("nothing begins until the anchor is let go") {
        let read = tokio::io::AsyncBufReadExt::read_line(&mut said, &mut text).await;
        assert!(read.unwrap() > 0, "{text}");
    }
    assert!(
        text.contains("stays out while the anchor is paused"),
        "{text}"
    );
    let surveyed: Vec<String> = each("survey", &all).collect();
    assert_eq!(rig.asked(), surveyed);

    let let_go = json!({ "metadata": { "annotations": pause("false") } });
    rig.call("PATCH", &format!("{leases}/kube-migrate"), let_go)
        .await;
    let prepared = each("packages", &all).chain(each("images", &all));
    let expected: Vec<String> = surveyed.into_iter().chain(prepared).collect();
    let asked = rig.asked_until(expected.len()).await;
    assert_eq!(asked[..expected.len()], expected);
}
