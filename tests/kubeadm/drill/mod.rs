//! The disaster drill: etcd is lost in the middle of an upgrade or after it, and the cluster
//! goes back to the old minor by its backup and `docs/disaster.md`.

mod runbook;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use migrate_testbed::{Binaries, Node, eventually};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::Instant;

use crate::account::kubectl;
use crate::lane::{has_kubeadm, is_at_the_target};
use crate::load::{CALM_RATE, Load};
use crate::observe::api::ApiReader;
use crate::real::cluster::{condition, list, text};
use crate::real::program::example;
use crate::rig::Rig;
use crate::shop::{app, is_ready, items};
use crate::trials::is_chosen;
use crate::{BEFORE, figure, way_back};
use runbook::Runbook;

/// Static pods end, then the data go: as on a disk that is exchanged.
const LOSS: &str = r#"
    mkdir -p /root/manifests
    mv /etc/kubernetes/manifests/*.yaml /root/manifests/
    for try in $(seq 120); do
        pidof etcd kube-apiserver > /dev/null || break
        sleep 1
    done
    if pidof etcd kube-apiserver; then exit 1; fi
    rm -rf /var/lib/etcd/member
"#;
/// Every task of the runtime: container, process, state.
const TASKS: [&str; 5] = ["ctr", "--namespace", "k8s.io", "tasks", "list"];
/// A restore raises the revision by so much.
const RAISED: u64 = 1_000_000_000;
const PATIENCE: Duration = Duration::from_secs(180);
/// A Deployment that is deleted, and the name of all that is made, after the backup.
const EARLY: &str = "early";
const LATE: &str = "late";
const IMAGE: &str = "testbed.local/traffic:1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "twenty minutes; part of cargo xtask extended"]
async fn lost_after_the_control_plane_it_goes_back_and_pods_run_on() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    let drill = Drill::prepare(&mut rig, "drill").await;
    let load = Load::start(&rig.cluster, &rig.shop, CALM_RATE).await;
    let began = Instant::now();
    let before = Pods::of(&rig).await;
    rig.begin();
    way_back::abort_in_the_control_plane(&mut rig).await;
    drill.comes_after_the_backup(&rig).await;
    let runbook = drill.runbook(&rig).await;
    drill.is_lost_and_restored(&rig, &runbook).await;

    let took = began.elapsed();
    before.run_on(&rig).await;
    let tallies = load.finish(&rig.cluster).await;
    tallies.print("drill", &rig.shop);
    tallies.assert_unfailing(&rig.shop, took);
    drill.is_well(&rig).await;
    if is_chosen("again") {
        rig.begin();
        let (well, said) = rig.ends().await;
        assert!(well, "{said}");
        is_at_the_target(&rig.cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "twenty minutes; part of cargo xtask extended"]
async fn lost_after_everything_its_kubelets_go_back_before_they_are_let_in() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    let configs = way_back::configs(&rig).await;
    let drill = Drill::prepare(&mut rig, "drill-late").await;
    rig.arrives().await;
    is_at_the_target(&rig.cluster).await;
    // From the nodes' own networks: clients in pods would end as all pods do.
    let load = Load::without_pods(&rig.cluster, &rig.shop).await;
    drill.comes_after_the_backup(&rig).await;
    let runbook = drill.runbook(&rig).await;
    drill.is_lost_and_restored(&rig, &runbook).await;

    rig.shop.await_whole(&rig.cluster.client()).await;
    figure(
        "drill-late.whole",
        drill.lost.get().unwrap().elapsed().as_secs_f64(),
        "s",
    );
    let tallies = load.finish(&rig.cluster).await;
    tallies.print("drill-late", &rig.shop);
    assert_eq!(way_back::configs(&rig).await, configs);
    drill.is_well(&rig).await;
}

/// Keys, folders and what is there before the backup.
struct Drill {
    name: &'static str,
    folder: PathBuf,
    trusted: String,
    /// When etcd was lost.
    lost: OnceLock<Instant>,
}

impl Drill {
    /// Runs of the rig take backups from now on.
    async fn prepare(rig: &mut Rig, name: &'static str) -> Self {
        let folder = rig.cluster.dir().join("drill");
        let keys = folder.join("keys");
        std::fs::create_dir(&folder).unwrap();
        let made = Command::new(example("etcd_backup"))
            .arg("keygen")
            .arg(&keys)
            .output();
        let made = String::from_utf8(made.await.unwrap().stdout).unwrap();
        let word = |flag: &str| {
            let line = made.lines().find_map(|line| line.strip_prefix(flag));
            line.unwrap_or_else(|| panic!("{made}")).trim().to_owned()
        };
        let (recipient, trusted) = (word("--recipient"), word("--trusted"));
        let path = |path: PathBuf| path.display().to_string();
        rig.back_up(&[
            "--backup-recipient",
            &recipient,
            "--backup-sign",
            &path(keys.join("sign.seed")),
            "--backup-store",
            &path(folder.join("store")),
            "--backup-dir",
            &path(folder.join("backups")),
        ]);
        rig.cluster.apply(vec![deployment(EARLY)]).await.unwrap();
        await_pod(rig, EARLY).await;
        Self {
            name,
            folder,
            trusted,
            lost: OnceLock::new(),
        }
    }

    /// What the backup does not know.
    async fn comes_after_the_backup(&self, rig: &Rig) {
        let late = vec![
            deployment(LATE),
            json!({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": LATE},
                "spec": {
                    "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                    "csi": {"driver": "csi.example.org", "volumeHandle": "vol-1"},
                },
            }),
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": LATE, "namespace": "default"},
                "spec": {
                    "type": "LoadBalancer", "selector": {"app": LATE}, "ports": [{"port": 80}],
                },
            }),
        ];
        rig.cluster.apply(late).await.unwrap();
        let address = r#"{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.7"}]}}}"#;
        let patch = [
            "patch",
            "service",
            LATE,
            "--subresource=status",
            "--type=merge",
            "-p",
            address,
        ];
        kubectl(&rig.cluster, &patch).await;
        let delete = ["delete", "deployment", EARLY, "--cascade=foreground"];
        kubectl(&rig.cluster, &delete).await;
        await_pod(rig, LATE).await;
    }

    /// Somebody who knows the names of the cluster.
    async fn runbook(&self, rig: &Rig) -> Runbook {
        let minor = |version: &str| version.split('.').nth(1).unwrap().parse::<u32>().unwrap();
        let search = move || Binaries::find_or_build(minor(BEFORE), &|_| {});
        let binaries = tokio::task::spawn_blocking(search).await.unwrap().unwrap();
        let nodes = rig.cluster.nodes();
        let all: Vec<&str> = nodes.iter().map(Node::name).collect();
        let member = &nodes[0];
        let path = |name: &str| self.folder.join(name).display().to_string();
        let names = BTreeMap::from([
            (
                "SSH",
                format!("ssh -F {}", rig.cluster.ssh_config().display()),
            ),
            ("MEMBERS", member.name().to_owned()),
            ("NODES", all.join(" ")),
            (
                "PEERS",
                format!("{}=https://{}:2380", member.name(), member.address()),
            ),
            ("STORE", path("store")),
            ("TRUSTED", self.trusted.clone()),
            ("IDENTITY", path("keys/age.key")),
            ("KUBERNETES", BEFORE.to_owned()),
            ("PACKAGE", format!("{}-1.1", BEFORE.trim_start_matches('v'))),
            ("ETCD", "3.6".to_owned()),
            ("PORT", free_port().to_string()),
        ]);
        let etcd_backup = example("etcd_backup");
        let programs = [
            etcd_backup.parent().unwrap(),
            binaries.kubectl.parent().unwrap(),
        ];
        let kubeconfig = rig.cluster.kubeconfig_path();
        Runbook::new(
            self.folder.join("desk"),
            &names,
            &programs,
            kubeconfig,
            self.name,
        )
    }

    /// What will be lost is known before it is; then the runbook, to its end.
    async fn is_lost_and_restored(&self, rig: &Rig, runbook: &Runbook) {
        let doomed = self.ids_of(rig, LATE).await;
        assert!(!doomed.is_empty());
        let said = runbook.follow(1, 2).await;
        for name in ["kubeadm", "kubelet"] {
            let line = format!("{name} {}-1.1", BEFORE.trim_start_matches('v'));
            assert!(said.contains(&line), "{line}");
        }
        self.tells_what_is_lost(runbook, rig).await;

        let member = &rig.cluster.nodes()[0];
        let reader = ApiReader::start(rig.cluster.client());
        let lost = Instant::now();
        self.lost.set(lost).unwrap();
        member.script(LOSS).await.unwrap();
        runbook.follow(3, 7).await;
        figure(
            &format!("{}.restored", self.name),
            lost.elapsed().as_secs_f64(),
            "s",
        );
        is_back(rig).await;
        figure(
            &format!("{}.nodes-back", self.name),
            lost.elapsed().as_secs_f64(),
            "s",
        );
        reader.finish().print(self.name);
        runbook.follow(8, 8).await;

        // What was said to end has ended, and what was said to start again runs.
        await_pod(rig, EARLY).await;
        for (node, container) in doomed {
            let node = rig.cluster.node(&node).unwrap();
            let what = format!("{container} to end on {}", node.name());
            let is_gone = || async {
                tasks(node)
                    .await
                    .map(|tasks| !tasks.contains_key(&container))
            };
            eventually(&what, PATIENCE, is_gone).await.unwrap();
        }
        figure(
            &format!("{}.ended", self.name),
            lost.elapsed().as_secs_f64(),
            "s",
        );
        for (path, name) in [
            ("persistentvolumes", LATE),
            ("namespaces/default/services", LATE),
        ] {
            let there = items(&rig.cluster.client(), &format!("/api/v1/{path}")).await;
            assert!(
                there
                    .iter()
                    .all(|object| object["metadata"]["name"] != name),
                "{path}"
            );
        }
    }

    /// The list has what came after the backup, outside of kubeadm's own, and no more.
    async fn tells_what_is_lost(&self, runbook: &Runbook, rig: &Rig) {
        let list = runbook
            .say("etcd_backup compare set/snapshot.db later.db --json")
            .await;
        let list: Value = serde_json::from_str(&list).unwrap();
        let objects = list["objects"].as_array().unwrap();
        println!("{} objects came or went after the backup", objects.len());
        let outside = |it: &&Value| it["namespace"] != "kube-system" && it["effect"].is_string();
        let told = objects.iter().filter(outside).map(|it| {
            let word = |field: &str| it[field].as_str().unwrap_or("-").to_owned();
            let name = word("name");
            let known = [EARLY, LATE]
                .into_iter()
                .find(|known| name.starts_with(known));
            let name = known.map_or(name, str::to_owned);
            format!(
                "{} {name} {} {}",
                word("resource"),
                word("effect"),
                word("place")
            )
        });
        let told: BTreeSet<String> = told.collect();
        println!("{told:#?}");
        let client = rig.cluster.client();
        let pods = items(&client, "/api/v1/namespaces/default/pods").await;
        let late = pods.iter().find(|pod| app(pod) == LATE).unwrap();
        let expected = [
            format!("pods {LATE} podEnds {}", text(&late["spec"]["nodeName"])),
            format!("persistentvolumes {LATE} diskOrphaned csi.example.org vol-1"),
            format!("services {LATE} loadBalancerOrphaned 192.0.2.7"),
        ];
        for line in &expected {
            assert!(told.contains(line), "{line}: {told:#?}");
        }
        assert!(
            told.iter()
                .any(|line| line.starts_with("pods early podReturns node")),
            "{told:#?}"
        );
        // Without drains nothing else has moved.
        let shop_has_moved = rig.kubelets().await.iter().any(|version| version != BEFORE);
        if !shop_has_moved {
            assert_eq!(told.len(), expected.len() + 1, "{told:#?}");
        }
    }

    /// Containers of the pods of an app, by their nodes.
    async fn ids_of(&self, rig: &Rig, wanted: &str) -> Vec<(String, String)> {
        let pods = items(&rig.cluster.client(), "/api/v1/namespaces/default/pods").await;
        let pods = pods.iter().filter(|pod| app(pod) == wanted);
        let ids = pods.map(|pod| (text(&pod["spec"]["nodeName"]), container(pod)));
        ids.collect()
    }

    /// The old control plane and kubelets are at work: a pod is scheduled, made and Ready.
    async fn is_well(&self, rig: &Rig) {
        let client = rig.cluster.client();
        let version = client.apiserver_version().await.unwrap();
        assert_eq!(version.git_version, BEFORE);
        assert!(rig.kubelets().await.iter().all(|version| version == BEFORE));
        for node in rig.cluster.nodes() {
            has_kubeadm(node, BEFORE).await;
        }
        kubectl(
            &rig.cluster,
            &["scale", "deployment/single", "--replicas=3"],
        )
        .await;
        eventually("new pods and the system's", PATIENCE, || async {
            let pods = items(&client, "/api/v1/pods").await;
            let single = pods
                .iter()
                .filter(|pod| app(pod) == "single" && is_ready(pod));
            match (single.count(), pods.iter().find(|pod| !is_ready(pod))) {
                (3, None) => Ok(true),
                (ready, None) => Err(format!("{ready} of 3 ready")),
                (_, Some(pod)) => Err(format!("{} is not ready", pod["metadata"]["name"])),
            }
        })
        .await
        .unwrap();
        kubectl(
            &rig.cluster,
            &["scale", "deployment/single", "--replicas=1"],
        )
        .await;
        rig.shop.await_whole(&client).await;
    }
}

/// The pods that were there at the backup, and their processes.
struct Pods(BTreeMap<String, (String, String, String, u64)>);

impl Pods {
    /// All of them but the one that is deleted later: node, uid, container, process.
    async fn of(rig: &Rig) -> Self {
        let mut processes = BTreeMap::new();
        for node in rig.cluster.nodes() {
            processes.extend(tasks(node).await.unwrap());
        }
        let pods = items(&rig.cluster.client(), "/api/v1/namespaces/default/pods").await;
        let pods = pods.iter().filter(|pod| app(pod) != EARLY).map(|pod| {
            let container = container(pod);
            let process = processes[&container];
            let metadata = &pod["metadata"];
            let facts = (
                text(&pod["spec"]["nodeName"]),
                text(&metadata["uid"]),
                container,
                process,
            );
            (text(&metadata["name"]), facts)
        });
        Self(pods.collect())
    }

    /// The same pods in the same containers and processes.
    async fn run_on(&self, rig: &Rig) {
        let mut now = Self::of(rig).await.0;
        now.retain(|name, _| !name.starts_with(LATE));
        assert_eq!(now, self.0);
        figure("drill.pods-that-run-on", self.0.len() as f64, "1");
    }
}

/// Processes of the runtime's tasks by container.
async fn tasks(node: &Node) -> Result<BTreeMap<String, u64>, String> {
    let said = node.run(&TASKS).await.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let task = |line: &str| {
        let mut words = line.split_whitespace();
        let (id, process) = (words.next()?, words.next()?.parse().ok()?);
        (words.next() == Some("RUNNING")).then(|| (id.to_owned(), process))
    };
    Ok(said.lines().filter_map(task).collect())
}

/// The id of the only container of a pod.
fn container(pod: &Value) -> String {
    let id = text(&pod["status"]["containerStatuses"][0]["containerID"]);
    id.trim_start_matches("containerd://").to_owned()
}

/// Every node has been heard of since the restore, and is Ready.
async fn is_back(rig: &Rig) {
    let client = rig.cluster.client();
    eventually("the nodes to be back", PATIENCE, || async {
        let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let leases = list(&client, path).await?;
        let nodes = list(&client, "/api/v1/nodes").await?;
        let is_new = |lease: &Value| {
            let version: u64 = text(&lease["metadata"]["resourceVersion"]).parse().unwrap();
            version > RAISED
        };
        let heard = leases.iter().filter(|lease| is_new(lease)).count();
        let ready = nodes
            .iter()
            .filter(|node| condition(node, "Ready") == "True")
            .count();
        match (heard, ready) == (nodes.len(), nodes.len()) {
            true => Ok(true),
            false => Err(format!(
                "of {} {heard} are heard of, {ready} Ready",
                nodes.len()
            )),
        }
    })
    .await
    .unwrap();
}

async fn await_pod(rig: &Rig, wanted: &str) {
    let client = rig.cluster.client();
    let what = format!("a pod of {wanted}");
    let path = "/api/v1/namespaces/default/pods";
    let is_there = || async {
        let pods = list(&client, path).await?;
        Ok::<_, String>(pods.iter().any(|pod| app(pod) == wanted && is_ready(pod)))
    };
    eventually(&what, PATIENCE, is_there).await.unwrap();
}

/// A port of this machine that nobody has at the moment.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// One pod that serves nobody.
fn deployment(name: &str) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
                "name": "main", "image": IMAGE, "imagePullPolicy": "Never",
                "args": ["serve", "8080", "0"],
            }]},
        }},
    })
}
