//! An embedded cluster in which canaries may be made.

use std::sync::Arc;
use std::time::Duration;

use migrate_core::steps::StepInput;
use migrate_core::{Fence, Moment, Policy, StepContext};
use migrate_kube::{TokioClock, observe};
use migrate_sim::{Pool, SimCluster};
use serde_json::{Value, json};

pub(crate) const NAMESPACE: &str = "kube-migrate-canary";

/// Of so many nodes, with the namespace of canaries and these objects beside it.
pub(crate) async fn cluster(nodes: u32, objects: impl IntoIterator<Item = Value>) -> SimCluster {
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    let mut builder = SimCluster::builder().object(namespace);
    for object in objects {
        builder = builder.object(object);
    }
    let cluster = builder.nodes(Pool::new("general", nodes)).start();
    let cluster = cluster.await.unwrap();
    let ready = cluster.wait_until_settled(Duration::from_secs(600));
    ready.await.unwrap();
    cluster
}

/// The name of a node, from 0.
pub(crate) fn node(at: u32) -> String {
    Pool::new("general", at + 1).node_names().last().unwrap()
}

pub(crate) fn context(cluster: &SimCluster) -> StepContext {
    let now = Moment::from_millis(cluster.now_ms());
    let clock = Arc::new(TokioClock::starting_at(now));
    StepContext::new(clock, Fence::without_lease("test"))
}

/// What a step is told of the cluster as it is now.
pub(crate) async fn input(cluster: &SimCluster, policy: Policy) -> StepInput {
    let now = context(cluster).clock.now();
    let model = observe(&cluster.client(), now).await.unwrap();
    let target = "v1.37.2".parse().unwrap();
    StepInput::new(Arc::new(model), Arc::new(policy), target)
}
