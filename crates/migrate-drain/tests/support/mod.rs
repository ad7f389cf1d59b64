//! What the tests of the driver share.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{Stream, StreamExt};
use kube::Client;
use migrate_core::steps::{DrainCommand, DrainEvent, DrainFailure, DrainOutcome};
use migrate_core::{Fence, JobPolicy, MigratePods, Policy, StepContext, StepInput};
use migrate_drain::Drainer;
use migrate_kube::{TokioClock, observe};
use migrate_sim::rules::{RuleProbe, RuleSettings};
use migrate_sim::store::Resource;
use migrate_sim::{Pool, Scenario, SimCluster, Times, Workload};
use serde_json::Value;

/// An embedded cluster with an independent checker of rules.
pub(crate) struct Demo {
    pub(crate) cluster: SimCluster,
    probe: RuleProbe,
}

impl Demo {
    /// The demo cluster: 15 nodes, some 300 pods.
    pub(crate) async fn start(seed: u64) -> Self {
        Self::of(Scenario::demo().unwrap(), seed, Times::default()).await
    }

    /// Nodes `general-1` to `general-N` that run `workloads`.
    pub(crate) async fn small(nodes: u32, workloads: impl IntoIterator<Item = Workload>) -> Self {
        Self::of(scenario(nodes, workloads), 1, Times::default()).await
    }

    pub(crate) async fn of(scenario: Scenario, seed: u64, times: Times) -> Self {
        let mut settings = RuleSettings::default();
        // Which nodes go together is not what these tests are about.
        settings.widths.insert("general".into(), 99);
        settings.widths.insert("batch".into(), 99);
        let cluster = SimCluster::builder()
            .seed(seed)
            .scenario(scenario)
            .times(times);
        let (cluster, probe) = RuleProbe::start(settings, cluster).await.unwrap();
        Self { cluster, probe }
    }

    pub(crate) fn client(&self) -> Client {
        self.cluster.client()
    }

    pub(crate) fn drainer(&self) -> Drainer {
        Drainer::new(self.client()).with_policy(policy())
    }

    /// What an independent observer has to object.
    pub(crate) fn violations(&self) -> Vec<String> {
        let all = self.probe.finish(&self.cluster.audit());
        all.iter().map(ToString::to_string).collect()
    }

    /// Names of the evictions asked for, dry runs left out, with the time in
    /// milliseconds and the answer's code.
    pub(crate) fn evictions(&self) -> Vec<(String, u64, u16)> {
        let audit = self.cluster.audit();
        let asked = audit
            .into_iter()
            .filter(|e| e.request.subresource == "eviction" && !e.request.dry_run);
        asked.map(|e| (e.request.name, e.at_ms, e.code)).collect()
    }

    /// Requests that could change something.
    pub(crate) fn writes(&self) -> usize {
        self.cluster
            .audit()
            .iter()
            .filter(|entry| entry.is_mutating())
            .count()
    }

    pub(crate) fn unschedulable(&self, node: &str) -> bool {
        let store = self.cluster.store();
        let node = store.get(Resource::NODES, "", node).unwrap();
        node.json["spec"]["unschedulable"] == true
    }

    pub(crate) fn set_unschedulable(&self, node: &str, to: bool) {
        let mut store = self.cluster.store();
        store
            .modify(Resource::NODES, "", node, |json| {
                json["spec"]["unschedulable"] = to.into()
            })
            .unwrap();
    }

    /// Names of the pods on a node that carry the label `app` with this value.
    pub(crate) fn pods_on(&self, node: &str, app: &str) -> Vec<String> {
        let store = self.cluster.store();
        let pods = store
            .pods_on(node)
            .filter(|pod| pod.json["metadata"]["labels"]["app"] == app);
        pods.map(|pod| text(&pod.json["metadata"]["name"]))
            .collect()
    }

    /// The nodes that run pods of `app`, with how many.
    pub(crate) fn hosts(&self, app: &str) -> BTreeMap<String, usize> {
        let store = self.cluster.store();
        let mut hosts = BTreeMap::new();
        for pod in store.list(Resource::PODS, None) {
            if pod.json["metadata"]["labels"]["app"] == app {
                *hosts
                    .entry(text(&pod.json["spec"]["nodeName"]))
                    .or_default() += 1;
            }
        }
        hosts
    }

    /// Starts a run of drains; commands go in, events come out.
    pub(crate) async fn run(
        &self,
        cx: &StepContext,
        policy: Policy,
        dry_run: bool,
    ) -> (
        UnboundedSender<DrainCommand>,
        impl Stream<Item = DrainEvent> + Unpin + use<>,
    ) {
        let drainer = Drainer::new(self.client());
        self.run_with(&drainer, cx, policy, dry_run).await
    }

    /// The same by a drainer of the caller.
    pub(crate) async fn run_with(
        &self,
        drainer: &Drainer,
        cx: &StepContext,
        policy: Policy,
        dry_run: bool,
    ) -> (
        UnboundedSender<DrainCommand>,
        impl Stream<Item = DrainEvent> + Unpin + use<>,
    ) {
        let model = observe(&self.client(), cx.clock.now()).await.unwrap();
        let target = "v1.37.2".parse().unwrap();
        let input = StepInput::new(Arc::new(model), Arc::new(policy), target).with_dry_run(dry_run);
        let (commands, receiver) = unbounded();
        let events = drainer.migrate(cx, &input, receiver.boxed()).await.unwrap();
        (commands, events)
    }
}

pub(crate) fn web(replicas: u32) -> Workload {
    Workload::deployment("shop", "web", replicas)
}

pub(crate) fn scenario(nodes: u32, workloads: impl IntoIterator<Item = Workload>) -> Scenario {
    let mut scenario = Scenario::new("v1.36.3");
    scenario.pools.push(Pool::new("general", nodes));
    scenario.workloads.extend(workloads);
    scenario
}

pub(crate) fn context() -> StepContext {
    StepContext::new(
        Arc::new(TokioClock::system()),
        Fence::without_lease("run-1"),
    )
}

/// Evicts pods of jobs, so that no test waits for them.
pub(crate) fn policy() -> Policy {
    let mut policy = Policy::default();
    policy.consent.jobs = JobPolicy::Evict;
    policy
}

pub(crate) fn drain(node: &str) -> DrainCommand {
    DrainCommand::Drain { node: node.into() }
}

pub(crate) fn release(node: &str) -> DrainCommand {
    DrainCommand::Release { node: node.into() }
}

/// The next end of a drain.
pub(crate) async fn drained(
    events: &mut (impl Stream<Item = DrainEvent> + Unpin),
) -> Option<(String, DrainOutcome)> {
    while let Some(event) = events.next().await {
        if let DrainEvent::Drained { node, outcome, .. } = event {
            return Some((node, outcome));
        }
    }
    None
}

/// The next end of a release.
pub(crate) async fn released(
    events: &mut (impl Stream<Item = DrainEvent> + Unpin),
) -> Option<(String, Option<DrainFailure>)> {
    while let Some(event) = events.next().await {
        if let DrainEvent::Released { node, error } = event {
            return Some((node, error));
        }
    }
    None
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
