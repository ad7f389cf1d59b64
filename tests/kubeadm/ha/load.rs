//! Requests from outside and from every node itself: two cores that run three
//! API servers have no room for a pod that asks on every node.

use migrate_testbed::{KubeadmCluster, Target, Traffic, TrafficReport};

use crate::load::{CONTROL_NAME, cluster_ips, node_ports, serve_control};
use crate::shop::Shop;

/// Requests to every entry point.
pub(crate) struct Load {
    loads: Vec<Traffic>,
    _control: tokio::process::Child,
}

impl Load {
    /// Begins `rate` requests a second to each entry point once all answer.
    pub(crate) async fn start(cluster: &KubeadmCluster, shop: &Shop, rate: f64) -> Self {
        let outside = cluster.outside();
        let control = serve_control(&outside);
        let mut places = vec![(outside, node_ports(cluster, shop))];
        let inside = cluster_ips(&cluster.client(), shop).await;
        for node in cluster.nodes() {
            let services = inside.iter().filter(|target| target.name != CONTROL_NAME);
            let from_here = services.map(|target| {
                let mut target = target.clone();
                target.name = format!("{}.{}", target.name, node.name());
                target
            });
            places.push((node.network().await.unwrap(), from_here.collect()));
        }
        for (prefix, targets) in &places {
            tokio::task::block_in_place(|| Traffic::await_answers(prefix, targets)).unwrap();
        }
        let start = |(prefix, targets): &(Vec<String>, Vec<Target>)| {
            Traffic::start(prefix, rate, targets).unwrap()
        };
        Self {
            loads: places.iter().map(start).collect(),
            _control: control,
        }
    }

    /// What became of them.
    pub(crate) fn finish(self) -> TrafficReport {
        let reports = self.loads.into_iter().map(|load| load.finish().unwrap());
        reports.flatten().collect()
    }
}
