//! Single nodes go back to the older release and come again, with requests on
//! the cluster all the time.

use std::time::Duration;

use migrate_executor::{Report, RunOutcome};
use migrate_testbed::{KubeadmCluster, Node};

use crate::run::{Way, take_back, upgrade};
use crate::shop::{self, WORKLOADS};
use crate::{BEFORE, TARGET, watched};

const PATIENCE: Duration = Duration::from_secs(15 * 60);
const CONFIG: &str = "/var/lib/kubelet/config.yaml";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten minutes; part of cargo xtask extended"]
async fn nodes_go_back_and_come_again_and_nobody_notices() {
    let Some((cluster, shop)) = watched::open(&WORKLOADS).await else {
        return;
    };
    let done = |report: &Report| {
        assert_eq!(report.outcome, RunOutcome::Done, "{report}");
        assert_eq!(report.cordons, Vec::<String>::new(), "{report}");
    };
    let nodes: Vec<&Node> = cluster.nodes().iter().collect();
    let (member, worker) = (nodes[0], nodes[1]);
    let configs = [config(member).await, config(worker).await];
    let way = || Way::protected(&cluster);
    done(&upgrade(&cluster, way()).await);
    shop.await_whole(&cluster.client()).await;

    let work = async {
        // A worker, then the node of the control plane, which stays.
        for (node, config_before) in nodes.iter().zip(&configs).rev() {
            let report = take_back(&cluster, way(), node.name()).await;
            println!("{report}");
            done(&report);
            assert_eq!(kubelet(&cluster, node.name()).await, BEFORE);
            assert_eq!(config(node).await, *config_before);
            let held = node.run(&["apt-mark", "showhold"]).await.unwrap();
            assert_eq!(held.stdout, b"kubeadm\nkubectl\nkubelet\n");
        }
        let version = cluster.client().apiserver_version().await.unwrap();
        assert_eq!(version.git_version, TARGET);
        // Both come again, in one run.
        let report = upgrade(&cluster, way()).await;
        println!("{report}");
        done(&report);
        assert_eq!(report.targets.len(), 2, "{report}");
    };
    let seen = watched::watch("way-back", &cluster, &shop, PATIENCE, work).await;
    for node in &nodes {
        assert_eq!(kubelet(&cluster, node.name()).await, TARGET);
    }
    seen.tallies.assert_unfailing(&shop);
}

async fn kubelet(cluster: &KubeadmCluster, name: &str) -> String {
    let nodes = shop::items(&cluster.client(), "/api/v1/nodes").await;
    let mut of_name = nodes
        .into_iter()
        .filter(|node| node["metadata"]["name"] == name);
    let node = of_name.next().unwrap();
    node["status"]["nodeInfo"]["kubeletVersion"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn config(node: &Node) -> String {
    let output = node.run(&["cat", CONFIG]).await.unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
