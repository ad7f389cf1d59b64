//! What goes wrong: between the runner and the API server, and in the cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use kube::api::{Patch, PatchParams};
use migrate_kube::anchor;
use migrate_kube::resources::Pod;
use migrate_sim::api::{Contended, Fault, RequestInfo};
use migrate_sim::store::{ApiError, Resource};
use migrate_sim::{NodeFault, SimCluster, annotations};
use serde_json::json;
use tokio::time::sleep;

use super::dice::Dice;

/// The faults of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// Requests in a hundred that fail, are cut off or delayed.
    api_errors: u64,
    /// Evictions in a hundred that are answered with an error.
    eviction_errors: u64,
    /// Watches in a hundred that end early.
    watch_drops: u64,
    /// Times in which the API server is away.
    outages: u64,
    /// New pods in a hundred that never become ready.
    never_ready_pods: u64,
    nodes: Vec<(String, NodeFault)>,
    /// Times at which somebody pauses the run, after the last, and for how long.
    pauses: Vec<(Duration, Duration)>,
    /// Records before or after which the runner dies.
    pub(super) crashes: Vec<u64>,
}

impl Faults {
    /// About half of the kinds at once.
    pub(super) fn random(dice: &mut Dice, nodes: &[String]) -> Self {
        let mut faults = Self::default();
        let mut some = |percent: u64, most: u64| {
            if dice.chance(percent) {
                dice.between(1, most)
            } else {
                0
            }
        };
        faults.api_errors = some(50, 15);
        faults.eviction_errors = some(40, 40);
        faults.watch_drops = some(50, 80);
        faults.outages = some(30, 2);
        faults.never_ready_pods = some(12, 5);
        let (slow, broken, crashes) = (some(40, 3), some(25, 2), some(50, 3));
        for _ in 0..slow {
            let factor = u32::try_from(dice.between(2, 10)).unwrap();
            let slow = (dice.pick(nodes).clone(), NodeFault::Slow(factor));
            faults.nodes.push(slow);
        }
        for _ in 0..broken {
            let fault = *dice.pick(&[NodeFault::Dead, NodeFault::NeverReady]);
            faults.nodes.push((dice.pick(nodes).clone(), fault));
        }
        faults.crashes = (0..crashes).map(|_| dice.between(0, 150)).collect();
        faults
    }

    /// With somebody who pauses the run now and then; often it is over by then.
    pub(super) fn with_pauses(mut self, dice: &mut Dice) -> Self {
        let pauses = if dice.chance(40) {
            dice.between(1, 3)
        } else {
            0
        };
        self.pauses = (0..pauses)
            .map(|_| {
                let seconds =
                    |low, high, dice: &mut Dice| Duration::from_secs(dice.between(low, high));
                (seconds(20, 200, dice), seconds(1, 120, dice))
            })
            .collect();
        self
    }

    /// How many pauses there are to be.
    pub(super) fn pauses(&self) -> usize {
        self.pauses.len()
    }

    /// Whether a run must arrive: everything that is wrong passes by itself.
    pub(super) fn are_passing(&self) -> bool {
        self.never_ready_pods == 0 && self.broken_nodes().is_empty()
    }

    /// Nodes whose pods the cluster itself may take away.
    pub(super) fn broken_nodes(&self) -> BTreeSet<String> {
        let broken = self
            .nodes
            .iter()
            .filter(|(_, fault)| matches!(fault, NodeFault::Dead | NodeFault::NeverReady));
        broken.map(|(node, _)| node.clone()).collect()
    }

    /// Lets requests go wrong from now on.
    pub(super) fn between_runner_and_server(&self, cluster: &SimCluster, mut dice: Dice) {
        let faults = self.clone();
        cluster
            .api()
            .set_faults(move |request| faults.of(request, &mut dice));
    }

    fn of(&self, request: &RequestInfo, dice: &mut Dice) -> Fault {
        if request.resource == "pods" && request.verb == "patch" {
            // The test's own hand, see `break_pods`.
            return Fault::Pass;
        }
        if request.subresource == "eviction" && dice.chance(self.eviction_errors) {
            return match dice.below(6) {
                0 => answer(500, "InternalError"),
                1 => answer(429, "TooManyRequests"),
                2 => answer(503, "ServiceUnavailable"),
                3 => Fault::Contend(Contended::Budget),
                4 => Fault::Contend(Contended::Pod),
                _ => Fault::DropAnswer,
            };
        }
        if request.verb == "watch" && dice.chance(self.watch_drops) {
            return Fault::CloseWatch(Duration::from_secs(dice.between(0, 90)));
        }
        if dice.chance(self.api_errors) {
            return match dice.below(6) {
                0 => answer(500, "InternalError"),
                1 => answer(429, "TooManyRequests"),
                2 => answer(503, "ServiceUnavailable"),
                3 => Fault::Refuse,
                4 => Fault::Delay(Duration::from_secs(dice.between(1, 40))),
                _ => Fault::DropAnswer,
            };
        }
        Fault::Pass
    }

    /// Lets the cluster go wrong, at random times; ends when all has happened
    /// but goes on looking for new pods.
    pub(super) async fn in_the_cluster(self, cluster: Arc<SimCluster>, mut dice: Dice) {
        let nodes = async {
            let mut dice = Dice::new(dice.below(u64::MAX), 1);
            for (node, fault) in &self.nodes {
                sleep(Duration::from_secs(dice.between(0, 300))).await;
                cluster.set_node_fault(node, *fault);
            }
        };
        let outages = async {
            let mut dice = Dice::new(7, self.outages + self.api_errors);
            for _ in 0..self.outages {
                sleep(Duration::from_secs(dice.between(10, 900))).await;
                cluster.api().set_available(false);
                sleep(Duration::from_secs(dice.between(1, 120))).await;
                cluster.api().set_available(true);
            }
        };
        let pauses = async {
            for (after, length) in &self.pauses {
                sleep(*after).await;
                set_paused(&cluster, true);
                sleep(*length).await;
                set_paused(&cluster, false);
            }
        };
        let mut dice = Dice::new(3, self.never_ready_pods);
        tokio::join!(nodes, outages, pauses, self.break_pods(&cluster, &mut dice));
    }

    /// Makes some of the pods that are new never ready.
    async fn break_pods(&self, cluster: &SimCluster, dice: &mut Dice) {
        if self.never_ready_pods == 0 {
            return;
        }
        let mut known = pods(cluster);
        loop {
            sleep(Duration::from_secs(1)).await;
            let now = pods(cluster);
            for (namespace, name) in now.difference(&known) {
                if dice.chance(self.never_ready_pods) {
                    let api: Api<Pod> = Api::namespaced(cluster.client(), namespace);
                    let patch =
                        json!({"metadata": {"annotations": {annotations::NEVER_READY: "true"}}});
                    // Gone again or out of reach: then it is another pod's turn.
                    let _ = api
                        .patch_metadata(name, &PatchParams::default(), &Patch::Merge(&patch))
                        .await;
                }
            }
            known = now;
        }
    }
}

/// A person who pauses asks until it is done: past every fault. Before the run
/// has made its mark there is nothing to pause.
fn set_paused(cluster: &SimCluster, paused: bool) {
    let mut store = cluster.store();
    let _ = store.modify(Resource::LEASES, "kube-system", anchor::NAME, |lease| {
        lease["metadata"]["annotations"][anchor::PAUSE] = json!(paused.to_string());
    });
}

fn answer(code: u16, reason: &str) -> Fault {
    Fault::Answer(ApiError::Other {
        code,
        reason: reason.to_owned(),
        message: "a fault of the test".to_owned(),
        retry_after_seconds: None,
    })
}

fn pods(cluster: &SimCluster) -> BTreeSet<(String, String)> {
    let store = cluster.store();
    let pods = store.list(Resource::PODS, None);
    pods.map(|pod| (pod.namespace.clone(), pod.name.clone()))
        .collect()
}
