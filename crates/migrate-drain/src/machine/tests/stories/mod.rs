//! Single stories, each a rule of its own.

mod asking;
mod counted;
mod elsewhere;
mod ending;
mod held;
mod moving;
mod room;

use std::time::Duration;

use migrate_core::model::{NodeRequirement, NodeSelectorOperator, NodeSelectorTerm, Toleration};
use migrate_core::steps::{DrainEvent, DrainFailure, DrainFailureKind, DrainOutcome};
use migrate_core::{
    ClusterId, ClusterModel, ControllerRef, DisruptionBudget, EventKind, IntOrPercent,
    LabelSelector, Moment, NeedsConsent, Node, Pod, PodId, Workload, WorkloadId,
};
use migrate_kube::EvictionAnswer;

use super::super::{Attachment, Drain, Failure, Input, Options, Output, RequestId, Seen, codes};

/// Two nodes, and whatever a story adds.
struct Story {
    drain: Drain,
    now: Moment,
    version: u64,
    told: Vec<Output>,
}

fn options() -> Options {
    Options {
        pod_deadline: Duration::from_secs(300),
        drain_deadline: Duration::from_secs(900),
        ..Options::default()
    }
}

fn web() -> WorkloadId {
    WorkloadId::new("Deployment", "ns", "web")
}

/// A pod of `web` on `node`.
fn pod(name: &str, node: &str) -> Pod {
    let mut pod = Pod::new(PodId::new("ns", name, format!("uid-{name}")), node);
    pod.labels.insert("app".into(), "web".into());
    pod.workload = Some(web().into());
    pod.controller = Some(
        ControllerRef {
            group: "apps".into(),
            kind: "ReplicaSet".into(),
            name: "web-1".into(),
            uid: "rs".into(),
        }
        .into(),
    );
    pod
}

fn tied(mut pod: Pod) -> Pod {
    let requirement = NodeRequirement {
        key: "metadata.name".into(),
        operator: NodeSelectorOperator::In,
        values: vec![pod.node.clone().unwrap()],
    };
    pod.placement.volume_affinity = vec![vec![NodeSelectorTerm(vec![requirement])]];
    pod
}

fn terminating(mut pod: Pod) -> Pod {
    pod.deletion = Some(Moment::from_millis(1));
    pod
}

fn budget(allowed: i32, desired: i32) -> DisruptionBudget {
    let mut selector = LabelSelector::default();
    selector.match_labels.insert("app".into(), "web".into());
    let mut budget = DisruptionBudget::new("ns", "web", selector);
    budget.max_unavailable = Some(IntOrPercent::Int(1));
    budget.status.observed = true;
    budget.status.disruptions_allowed = allowed;
    budget.status.desired_healthy = desired;
    budget.status.current_healthy = desired + allowed;
    budget
}

impl Story {
    fn new(options: Options) -> Self {
        let mut story = Self {
            drain: Drain::new(options),
            now: Moment::from_millis(1_000),
            version: 0,
            told: Vec::new(),
        };
        story.node("a", false);
        story.node("b", false);
        story
    }

    /// With `replicas` of `web`, and these pods of it.
    fn with_web(mut self, replicas: u32, pods: impl IntoIterator<Item = Pod>) -> Self {
        self.web(replicas);
        for pod in pods {
            self.see(pod);
        }
        self
    }

    fn next(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        self.drain.handle(self.now, input);
        let outputs: Vec<Output> = std::iter::from_fn(|| self.drain.poll()).collect();
        self.told.extend(outputs.clone());
        outputs
    }

    fn node(&mut self, name: &str, unschedulable: bool) -> Vec<Output> {
        let mut node = Node::new(name, "v1.36.3".parse().unwrap());
        node.unschedulable = unschedulable;
        let version = self.next();
        self.tell(Input::NodeSeen(Seen::new(node, version)))
    }

    fn web(&mut self, replicas: u32) -> Vec<Output> {
        let version = self.next();
        self.tell(Input::WorkloadSeen(Seen::new(
            Workload::new(web(), replicas),
            version,
        )))
    }

    fn see(&mut self, pod: Pod) -> Vec<Output> {
        let version = self.next();
        self.tell(Input::PodSeen(Seen::new(pod, version)))
    }

    fn gone(&mut self, pod: &Pod) -> Vec<Output> {
        self.tell(Input::PodGone(pod.id.clone()))
    }

    fn budget(&mut self, budget: DisruptionBudget) -> Vec<Output> {
        let version = self.next();
        self.tell(Input::PdbSeen(Seen::new(budget, version)))
    }

    /// Lets time pass, waking the machine when it wants to be woken.
    fn pass(&mut self, seconds: u64) -> Vec<Output> {
        let end = self.now + Duration::from_secs(seconds);
        let mut outputs = Vec::new();
        while let Some(at) = self.drain.wake_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            outputs.extend(self.tell(Input::Tick));
        }
        self.now = end;
        outputs
    }

    /// Up to the cordon of `node`, which succeeds.
    fn begin(&mut self, node: &str) -> Vec<Output> {
        self.tell(Input::Synced);
        let outputs = self.tell(Input::NodesAdded(vec![node.into()]));
        assert_eq!(outputs.last(), Some(&cordons(node)), "{outputs:?}");
        let outputs = self.tell(Input::Cordoned {
            node: node.into(),
            was_unschedulable: false,
        });
        self.node(node, true);
        outputs
    }

    fn answer(&mut self, request: RequestId, answer: EvictionAnswer) -> Vec<Output> {
        self.tell(Input::Answer { request, answer })
    }

    /// The one pod that was asked, accepted and gone.
    fn moves(&mut self, outputs: &[Output], pod: &Pod) -> Vec<Output> {
        let (request, id) = asked(outputs).remove(0);
        assert_eq!(id, pod.id);
        self.answer(request, EvictionAnswer::Accepted);
        self.see(terminating(pod.clone()));
        self.gone(pod)
    }

    fn looked(&mut self, node: &str, pods: Vec<Pod>) -> Vec<Output> {
        let version = self.version;
        let pods = pods
            .into_iter()
            .map(|pod| Seen::new(pod, version))
            .collect();
        self.tell(Input::Looked {
            node: node.into(),
            pods: Ok(pods),
        })
    }

    fn found(&self, code: &str) -> bool {
        self.told.iter().any(|output| {
            matches!(output, Output::Event(EventKind::Found { finding }) if finding.code == code)
        })
    }
}

/// Whatever its pool looks like.
fn cordons(node: &str) -> Output {
    Output::Cordon {
        node: node.into(),
        room: None,
    }
}

fn asked(outputs: &[Output]) -> Vec<(RequestId, PodId)> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Evict { request, pod, .. } => Some((*request, pod.clone())),
            _ => None,
        })
        .collect()
}

fn outcome(outputs: &[Output]) -> Option<DrainOutcome> {
    outputs.iter().find_map(|output| match output {
        Output::Done(DrainEvent::Drained { outcome, .. }) => Some(outcome.clone()),
        _ => None,
    })
}

fn released(outputs: &[Output]) -> Option<Option<DrainFailure>> {
    outputs.iter().find_map(|output| match output {
        Output::Done(DrainEvent::Released { error, .. }) => Some(error.clone()),
        _ => None,
    })
}

fn looks(outputs: &[Output]) -> bool {
    outputs
        .iter()
        .any(|output| matches!(output, Output::Look { .. }))
}

fn webhook() -> EvictionAnswer {
    EvictionAnswer::WebhookDenied {
        webhook: "drain-cleaner".into(),
        message: "the operator rolls it".into(),
    }
}

fn exhausted() -> EvictionAnswer {
    EvictionAnswer::BudgetExhausted {
        budget: Some("web".into()),
        message: "needs 2 healthy pods and has 2 currently".into(),
    }
}
