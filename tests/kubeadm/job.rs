//! Scripts on a node through Jobs: what a kubelet, a container runtime and
//! admission make of them.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::core::Request;
use migrate_testbed::{KubeadmCluster, skip_or_fail};
use migrate_upgrade::{Error, JobShell, NodeShell, Script};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::figure;
use crate::shop::items;

/// What the rig has of [`PROGRAM`].
pub(crate) const IMAGE: &str = "testbed.local/nsenter:1";
/// Goes into [`IMAGE`].
pub(crate) const PROGRAM: (&str, &str) = ("nsenter", "/usr/bin/nsenter");

const LIMIT: Duration = Duration::from_secs(45);
/// Everything that a shell, or a kubelet, could stumble over.
const ODD: [&str; 6] = [
    "o'brien's \"node\" $(touch pwned) `id` $$ $(PATH) $(HOSTNAME)",
    "",
    "-e",
    "two\nlines\t*",
    "$HOME ${x} \\ !! ; & | > <",
    "ünïcode",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two minutes; part of cargo xtask extended"]
async fn scripts_run_on_a_node_through_jobs() {
    let builder = KubeadmCluster::builder().workers(1).minor(36);
    let (name, program) = PROGRAM;
    let Some(cluster) = skip_or_fail(builder.image(name, program).start().await) else {
        return;
    };
    let client = cluster.client();
    namespace(&client, JobShell::NAMESPACE, "privileged").await;
    let shell = JobShell::new(client.clone(), IMAGE);
    let node = cluster.nodes().last().unwrap();
    let worker = Worker {
        shell: Arc::new(shell.clone()),
        node: node.name().to_owned(),
    };

    let nothing = Script::new("true");
    worker.is_the_node_itself().await;
    worker.gives_back_what_is_printed().await;
    worker.ends_what_takes_too_long().await;
    worker.outlives_its_kubelet(&cluster).await;

    let shell_without = JobShell::new(client.clone(), "testbed.local/nowhere:1");
    let began = Instant::now();
    let error = shell_without.run(&worker.node, &nothing, LIMIT);
    let error = error.await.unwrap_err();
    println!("{error}");
    assert!(matches!(&error, Error::JobNotStarted { said, .. } if said.contains("nowhere")));
    figure("job.no-image", began.elapsed().as_secs_f64(), "s");

    namespace(&client, "guarded", "baseline").await;
    let guarded = shell.with_namespace("guarded");
    let error = guarded.run(&worker.node, &nothing, LIMIT);
    let error = error.await.unwrap_err();
    println!("{error}");
    assert!(matches!(error, Error::JobRefused { .. }), "{error}");
    assert!(error.to_string().contains("enforce: privileged"), "{error}");

    for space in [JobShell::NAMESPACE, "guarded"] {
        let left = items(&client, &format!("/apis/batch/v1/namespaces/{space}/jobs")).await;
        assert_eq!(left, Vec::<Value>::new(), "{space}");
    }
}

pub(crate) async fn namespace(client: &Client, name: &str, level: &str) {
    let labels = json!({ "pod-security.kubernetes.io/enforce": level });
    let object = json!({ "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": name, "labels": labels } });
    let request = Request::new("/api/v1/namespaces");
    let request = request.create(&Default::default(), object.to_string().into_bytes());
    client.request::<Value>(request.unwrap()).await.unwrap();
    await_namespace(client, name).await;
}

/// What controllers put into a namespace is there before anybody looks.
pub(crate) async fn await_namespace(client: &Client, name: &str) {
    for resource in ["configmaps", "serviceaccounts"] {
        let path = format!("/api/v1/namespaces/{name}/{resource}");
        while items(client, &path).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

struct Worker {
    shell: Arc<dyn NodeShell>,
    node: String,
}

impl Worker {
    async fn run(&self, script: Script) -> (i32, String, String) {
        let output = self.shell.run(&self.node, &script, LIMIT).await.unwrap();
        (output.code, output.stdout, output.stderr)
    }

    async fn is_the_node_itself(&self) {
        let script = Script::new("hostname; id -u; readlink /proc/1/ns/mnt /proc/self/ns/mnt; env");
        let began = Instant::now();
        let (code, said, _) = self.run(script).await;
        figure("job.script", began.elapsed().as_secs_f64(), "s");
        assert_eq!(code, 0, "{said}");
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[..2], [self.node.as_str(), "0"], "{said}");
        assert_eq!(lines[2], lines[3], "{said}");
        assert!(!said.contains("KUBERNETES_"), "{said}");
    }

    async fn gives_back_what_is_printed(&self) {
        let (code, said, complained) = self.run(Script::new("echo no >&2; exit 3")).await;
        assert_eq!((code, said.as_str(), complained.as_str()), (3, "", "no\n"));

        let (_, said, _) = self
            .run(Script::new(r#"printf '%s\0' "$@""#).args(ODD))
            .await;
        let words: Vec<&str> = said.trim_end_matches('\0').split('\0').collect();
        assert_eq!(words, ODD);

        let text = "for n in $(seq 200000); do echo \"line $n\"; done; printf 'no newline' >&2";
        let (code, said, complained) = self.run(Script::new(text)).await;
        let mut whole = String::new();
        for n in 1..=200_000 {
            whole += &format!("line {n}\n");
        }
        // The first line of all says that the script has begun.
        let most = (1 << 20) - "kube-migrate: begun\n".len();
        assert_eq!(said.len(), most);
        assert!(whole.starts_with(&said));
        assert_eq!((code, complained.as_str()), (0, "no newline"));
    }

    async fn ends_what_takes_too_long(&self) {
        let mark = "sleep 4321";
        let script = Script::new("sleep 4321 & wait");
        let limit = Duration::from_secs(8);
        let error = self.shell.run(&self.node, &script, limit).await;
        let error = error.unwrap_err();
        assert!(matches!(error, Error::NodeTimeout { .. }), "{error}");
        // A pod has a second to end, and its runtime some more.
        let gone = Script::new("for n in $(seq 100); do pgrep -f \"$1\" > /dev/null || exit 0; sleep 0.2; done; exit 9")
            .arg(format!("^{mark}"));
        assert_eq!(self.run(gone).await.0, 0, "it runs on");
    }

    /// The kubelet restarts while a script runs, as it does when it is upgraded.
    async fn outlives_its_kubelet(&self, cluster: &KubeadmCluster) {
        let script = Script::new("echo before; sleep 12; echo after; exit 5");
        let node = cluster.nodes().last().unwrap();
        let stop = async {
            tokio::time::sleep(Duration::from_secs(6)).await;
            node.run(&["systemctl", "stop", "kubelet"]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(10)).await;
            node.run(&["systemctl", "start", "kubelet"]).await.unwrap();
        };
        let began = Instant::now();
        let ((code, said, _), ()) = tokio::join!(self.run(script), stop);
        figure("job.kubelet-away", began.elapsed().as_secs_f64(), "s");
        assert_eq!((code, said.as_str()), (5, "before\nafter\n"));
    }
}
