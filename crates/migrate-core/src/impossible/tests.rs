mod tied;

use proptest::prelude::*;

use super::*;
use crate::model::NodeSelectorTerm;
use crate::{
    ClusterId, ControllerRef, DisruptionBudget, IntOrPercent, LabelSelector, Moment, ObjectName,
    Pod, PodId, PodPhase, Severity, UnhealthyPodPolicy, Workload, WorkloadId,
};

/// A cluster of as many nodes as it is given pods.
struct Cluster(ClusterModel);

impl Cluster {
    fn new(nodes: usize) -> Self {
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        let version = "v1.36.0".parse::<crate::KubeVersion>().unwrap();
        model.nodes = (0..nodes.max(2))
            .map(|index| Node::new(format!("n{index}"), version.clone()))
            .collect();
        Self(model)
    }

    /// Adds a Deployment `name` with one pod for each of `health`.
    fn deployment(mut self, name: &str, health: &[bool]) -> Self {
        let id = WorkloadId::new("Deployment", "shop", name);
        let replicas = u32::try_from(health.len()).unwrap();
        self.0.workloads.push(Workload::new(id.clone(), replicas));
        for (index, &ready) in health.iter().enumerate() {
            let pod_name = format!("{name}-{index}");
            let id_of_pod = PodId::new("shop", &pod_name, &pod_name);
            let mut pod = Pod::new(id_of_pod, format!("n{}", index % self.0.nodes.len()));
            pod.labels.insert("app".into(), name.into());
            pod.controller = Some(ControllerRef {
                group: "apps".into(),
                kind: "ReplicaSet".into(),
                name: name.into(),
                uid: name.into(),
            });
            pod.workload = Some(id.clone());
            pod.ready = ready;
            self.0.pods.push(pod);
        }
        self
    }

    /// Adds a budget for the pods of `app`, its status as the disruption
    /// controller would write it.
    fn budget(mut self, name: &str, app: &str, change: impl FnOnce(&mut DisruptionBudget)) -> Self {
        let selector = LabelSelector::new().with_label("app", app);
        let mut budget = DisruptionBudget::new("shop", name, selector);
        change(&mut budget);
        let status = controller(&budget, &self.0);
        budget.status.observed = true;
        budget.status.desired_healthy = status.desired;
        budget.status.current_healthy = status.healthy;
        budget.status.disruptions_allowed = status.allowed;
        self.0.budgets.push(budget);
        self
    }

    fn findings(&mut self) -> Vec<Finding> {
        self.findings_with(&Policy::default())
    }

    fn findings_with(&mut self, policy: &Policy) -> Vec<Finding> {
        self.0.sort();
        check(&self.0, policy)
    }

    /// `code severity` of each finding.
    fn codes(&mut self) -> Vec<String> {
        let findings = self.findings();
        findings
            .iter()
            .map(|f| format!("{} {}", f.code, f.severity))
            .collect()
    }

    fn pod(&mut self, name: &str) -> &mut Pod {
        self.0
            .pods
            .iter_mut()
            .find(|pod| pod.id.name == name)
            .unwrap()
    }
}

struct Status {
    desired: i32,
    healthy: i32,
    allowed: i32,
}

/// What the disruption controller writes into a budget's status: an oracle of
/// its own, in the controller's floating point.
fn controller(budget: &DisruptionBudget, model: &ClusterModel) -> Status {
    let matching: Vec<&Pod> = model
        .pods
        .iter()
        .filter(|pod| budget.matches(pod))
        .collect();
    let scale = |id: &WorkloadId| {
        model
            .workloads
            .iter()
            .find(|w| w.id == *id)
            .map(|w| w.replicas)
    };
    let owners: std::collections::BTreeSet<_> = matching
        .iter()
        .filter_map(|pod| pod.workload.as_ref())
        .collect();
    let replicas: u32 = owners.into_iter().filter_map(scale).sum();
    let of = |value: IntOrPercent, total: u32| match value {
        IntOrPercent::Int(count) => i64::from(count),
        IntOrPercent::Percent(percent) => {
            (f64::from(percent) * f64::from(total) / 100.0).ceil() as i64
        }
    };
    let (expected, desired) = match (budget.max_unavailable, budget.min_available) {
        (Some(max), _) => (replicas, (i64::from(replicas) - of(max, replicas)).max(0)),
        (None, Some(IntOrPercent::Int(min))) => (matching.len() as u32, i64::from(min)),
        (None, Some(min)) => (replicas, of(min, replicas)),
        (None, None) => (0, 0),
    };
    let healthy = matching
        .iter()
        .filter(|pod| pod.ready && pod.deletion.is_none())
        .count() as i32;
    let desired = desired as i32;
    let allowed = if expected == 0 {
        0
    } else {
        (healthy - desired).max(0)
    };
    Status {
        desired,
        healthy,
        allowed,
    }
}

/// Whether the eviction handler lets the pod go.
fn api_lets_go(pod: &Pod, budget: &DisruptionBudget, status: &Status) -> bool {
    let ignored = match budget.unhealthy_pods {
        UnhealthyPodPolicy::AlwaysAllow => true,
        _ => status.healthy >= status.desired && status.desired > 0,
    };
    (!pod.ready && ignored) || status.allowed > 0
}

/// Whether every pod can be evicted, one after the other, each replaced by one
/// of the same health: then the status never changes.
fn drains(model: &ClusterModel) -> bool {
    model.pods.iter().all(|pod| {
        model
            .budgets
            .iter()
            .filter(|budget| budget.matches(pod))
            .all(|budget| api_lets_go(pod, budget, &controller(budget, model)))
    })
}

/// Every small application with every kind of budget: a blocker if and only
/// if the drain of some node can never end.
#[test]
fn a_budget_is_reported_exactly_when_it_blocks_a_drain() {
    use IntOrPercent::{Int, Percent};
    let values: Vec<IntOrPercent> = (0..6)
        .map(Int)
        .chain([0, 1, 25, 33, 34, 50, 51, 67, 75, 90, 99, 100, 120].map(Percent))
        .collect();
    let limits = values
        .iter()
        .flat_map(|&v| [(Some(v), None), (None, Some(v))]);
    let limits: Vec<_> = limits.chain([(None, None)]).collect();
    let mut seen = std::collections::BTreeSet::new();
    for bits in 0u32..31 {
        // 1 to 4 pods, each healthy or not.
        let replicas = 31 - (bits + 1).leading_zeros();
        let health: Vec<bool> = (0..replicas).map(|i| (bits + 1) & (1 << i) != 0).collect();
        for &(max, min) in &limits {
            for policy in [
                UnhealthyPodPolicy::IfHealthyBudget,
                UnhealthyPodPolicy::AlwaysAllow,
            ] {
                let mut cluster =
                    Cluster::new(4)
                        .deployment("web", &health)
                        .budget("b", "web", |b| {
                            (b.max_unavailable, b.min_available) = (max, min);
                            b.unhealthy_pods = policy;
                        });
                let findings = cluster.findings();
                let blocker = findings.iter().find(|f| f.blocks());
                let what = format!("{health:?} max {max:?} min {min:?} {policy:?}: {findings:?}");
                assert_eq!(blocker.is_none(), drains(&cluster.0), "{what}");

                let Some(blocker) = blocker else { continue };
                seen.insert(blocker.code.clone());
                for pod in &mut cluster.0.pods {
                    pod.ready = true;
                }
                let is_permanent = blocker.code == codes::BUDGET_NEVER;
                assert_eq!(is_permanent, !drains(&cluster.0), "all healthy: {what}");
            }
        }
    }
    let both = [codes::BUDGET_NEVER, codes::BUDGET_NOT_NOW].map(str::to_owned);
    assert_eq!(seen, both.into());
}

#[test]
fn cures_name_numbers() {
    let cure = |health: &[bool], change: fn(&mut DisruptionBudget)| {
        let findings = Cluster::new(4)
            .deployment("web", health)
            .budget("b", "web", change)
            .findings();
        let found = findings
            .iter()
            .find(|f| f.code.starts_with("KM-PDB"))
            .unwrap();
        format!("{} -> {}", found.evidence, found.cure)
    };
    assert_eq!(
        cure(&[true; 3], |b| b.min_available = Some(IntOrPercent::Int(3))),
        "minAvailable is 3, that is 3, and there are 3 pods: none may ever go -> \
         lower minAvailable to 2, or run 4 pods instead of 3"
    );
    assert_eq!(
        cure(&[true; 3], |b| b.min_available =
            Some(IntOrPercent::Percent(90))),
        "minAvailable is 90%, that is 3, and there are 3 pods: none may ever go -> \
         lower minAvailable to 66%, or use maxUnavailable: 1, or run 10 pods instead of 3"
    );
    assert_eq!(
        cure(&[true, false, false], |b| b.max_unavailable =
            Some(IntOrPercent::Int(1))),
        "to let a pod such as web-0 go it must have 3 healthy pods, and it has 1; \
         not Ready: web-1, web-2 -> bring 2 more of its pods to Ready, or let pods that are not \
         Ready go with unhealthyPodEvictionPolicy: AlwaysAllow"
    );
}

#[test]
fn a_budget_without_pods_that_would_leave_is_left_alone() {
    let stuck = |b: &mut DisruptionBudget| b.max_unavailable = Some(IntOrPercent::Int(0));
    let cluster = || {
        Cluster::new(2)
            .deployment("web", &[true, true])
            .budget("b", "web", stuck)
    };
    assert_eq!(cluster().codes(), ["KM-PDB-001 blocker"]);
    let mut elsewhere = cluster();
    elsewhere.0.sort();
    assert_eq!(
        check_nodes(&elsewhere.0, &Policy::default(), |node| node.name == "n7"),
        []
    );
    let mut daemons = cluster();
    for pod in &mut daemons.0.pods {
        let controller = pod.controller.as_mut().unwrap();
        controller.kind = "DaemonSet".into();
    }
    assert_eq!(daemons.codes(), [""; 0]);
    let mut starting = cluster();
    for pod in &mut starting.0.pods {
        (pod.phase, pod.ready) = (PodPhase::Pending, false);
    }
    assert_eq!(
        starting.codes(),
        [""; 0],
        "the API asks no budget about pending pods"
    );
}

#[test]
fn budgets_that_nobody_can_work_out() {
    let one = |b: &mut DisruptionBudget| b.max_unavailable = Some(IntOrPercent::Int(1));
    let cluster = || {
        Cluster::new(3)
            .deployment("web", &[true; 3])
            .budget("b", "web", one)
    };
    let mut failed = cluster();
    failed.0.budgets[0].status.sync_failed = Some("found no controllers for pod \"web-0\"".into());
    assert_eq!(failed.codes(), ["KM-PDB-001 blocker"]);
    let mut stale = cluster();
    stale.0.budgets[0].status.observed = false;
    assert_eq!(stale.codes(), ["KM-PDB-004 warning"]);
    assert_eq!(
        cluster().budget("c", "web", one).codes(),
        ["KM-PDB-002 blocker"]
    );
    let mut partial = cluster();
    partial.pod("web-0").labels.clear();
    partial.pod("web-1").labels.clear();
    partial.0.budgets.clear();
    let mut partial = partial.budget("b", "web", one);
    let codes = partial.codes();
    assert!(codes.contains(&"KM-PDB-001 blocker".into()), "{codes:?}");
}

#[test]
fn what_is_being_replaced_is_only_a_warning() {
    let one = |b: &mut DisruptionBudget| b.max_unavailable = Some(IntOrPercent::Int(1));
    let mut cluster = Cluster::new(3).deployment("web", &[true; 3]);
    cluster.pod("web-0").deletion = Some(Moment::EPOCH);
    assert_eq!(cluster.codes(), ["KM-BUDGET-003 warning"]);
    let mut cluster = cluster.budget("b", "web", one);
    assert_eq!(cluster.codes(), ["KM-PDB-003 warning"]);
}

#[test]
fn assumed_budgets_are_judged_like_real_ones() {
    let mut degraded = Cluster::new(3).deployment("web", &[true, false, true]);
    let findings = degraded.findings();
    assert_eq!(
        findings[0].to_string(),
        "KM-BUDGET-003 blocker Deployment shop/web: to let a pod such as web-0 go it must have 3 \
         healthy pods, and it has 2; not Ready: web-1; bring 1 more of its pods to Ready, or take \
         \"shop\" into assumed-budgets.exclude-namespaces"
    );
    let mut policy = Policy::default();
    policy.assumed_budgets.max_unavailable = IntOrPercent::Percent(0);
    let mut two = Cluster::new(3)
        .deployment("web", &[true; 2])
        .deployment("api", &[true; 3]);
    let findings = two.findings_with(&policy);
    assert_eq!(
        findings.len(),
        1,
        "one for the policy, not one for each workload"
    );
    assert_eq!(findings[0].code, codes::ASSUMED_NEVER);
    policy.assumed_budgets.enabled = false;
    assert_eq!(two.findings_with(&policy), []);
}

#[test]
fn pods_that_do_not_simply_move() {
    let mut cluster = Cluster::new(2)
        .deployment("web", &[true; 2])
        .deployment("one", &[true]);
    assert_eq!(
        cluster.codes(),
        ["KM-POD-005 warning"],
        "the only replica of `one`"
    );

    let mut bare = Pod::new(PodId::new("shop", "bare", "bare"), "n0");
    bare.empty_dir = true;
    cluster.0.pods.push(bare);
    let mut job = Pod::new(PodId::new("shop", "sum-1", "sum-1"), "n0");
    job.controller = Some(ControllerRef {
        group: "batch".into(),
        kind: "Job".into(),
        name: "sum".into(),
        uid: "sum".into(),
    });
    job.workload = Some(WorkloadId::new("Job", "shop", "sum"));
    cluster.0.pods.push(job);
    let tied = vec![NodeSelectorTerm(vec![])];
    cluster.pod("one-0").placement.volume_affinity = vec![tied];
    assert_eq!(
        cluster.codes(),
        [
            "KM-POD-001 blocker",
            "KM-POD-003 blocker",
            "KM-POD-004 info"
        ]
    );

    let mut policy = Policy::default();
    policy.consent.bare_pods = true;
    policy.consent.empty_dir = false;
    policy.consent.pods.insert("shop/one".into());
    let findings = cluster.findings_with(&policy);
    let found: Vec<_> = findings
        .iter()
        .map(|f| (f.code.as_str(), f.severity))
        .collect();
    assert_eq!(
        found,
        [
            (codes::EMPTY_DIR, Severity::Blocker),
            (codes::ONLY_HOST, Severity::Warning),
            (codes::JOB, Severity::Info),
        ]
    );
    assert!(findings[1].cure.contains("accepts"), "{}", findings[1]);
}

#[test]
fn pods_that_ask_not_to_be_disrupted_need_consent() {
    let mut cluster = Cluster::new(2).deployment("web", &[true, true]);
    let before = cluster.codes();
    cluster.pod("web-0").do_not_disrupt = Some("karpenter.sh/do-not-disrupt".into());
    let findings = cluster.findings_with(&Policy::default());
    let marked = findings.iter().find(|f| f.code == codes::DO_NOT_DISRUPT);
    let marked = marked.unwrap().to_string();
    assert!(marked.contains("1 pod (web-0) ask not"), "{marked}");
    assert!(marked.contains("shop/web"), "{marked}");
    let mut policy = Policy::default();
    policy.consent.do_not_disrupt = true;
    let findings = cluster.findings_with(&policy);
    let found: Vec<String> = findings
        .iter()
        .map(|f| format!("{} {}", f.code, f.severity))
        .collect();
    assert_eq!(found, before);
}

#[test]
fn pods_that_a_verification_may_not_live_to_see_available() {
    let mut policy = Policy::default();
    policy.deadlines.verify = std::time::Duration::from_secs(300);
    let mut cluster = Cluster::new(2).deployment("web", &[true, true]);
    let mut found = |seconds, on: &[&str]| {
        cluster.0.workloads[0].min_ready_seconds = seconds;
        let findings = check_nodes(&cluster.0, &policy, |node| on.contains(&&*node.name));
        let mut findings = findings.into_iter();
        findings.find(|finding| finding.code == codes::LATE)
    };
    assert_eq!(found(299, &["n0"]), None);
    assert_eq!(found(300, &[]), None);
    let late = found(300, &["n1"]).unwrap();
    assert_eq!(late.severity, Severity::Warning);
    assert_eq!(
        late.object,
        ObjectName::namespaced("Deployment", "shop", "web")
    );
    assert!(
        late.cure.contains("raise deadlines.verify above 300 s"),
        "{late}"
    );
    // A policy that does not wait at all says nothing of pods that do not either.
    policy.deadlines.verify = std::time::Duration::ZERO;
    cluster.0.workloads[0].min_ready_seconds = 0;
    assert!(
        !check(&cluster.0, &policy)
            .iter()
            .any(|finding| finding.code == codes::LATE)
    );
}

proptest! {
    /// The same for applications under random budgets over several workloads,
    /// pods on their way out included: what is not reported can be drained.
    #[test]
    fn without_a_blocker_every_pod_can_go(
        apps in proptest::collection::vec(proptest::collection::vec(any::<bool>(), 1..5), 1..4),
        budgets in proptest::collection::vec((0usize..4, any::<bool>(), 0u32..4, any::<bool>()), 0..4),
    ) {
        let mut cluster = Cluster::new(3);
        for (index, health) in apps.iter().enumerate() {
            cluster = cluster.deployment(&format!("app{index}"), health);
        }
        for (index, (app, is_max, limit, always)) in budgets.into_iter().enumerate() {
            cluster = cluster.budget(&format!("b{index}"), &format!("app{app}"), |budget| {
                let limit = Some(IntOrPercent::Int(limit));
                (budget.max_unavailable, budget.min_available) =
                    if is_max { (limit, None) } else { (None, limit) };
                if always {
                    budget.unhealthy_pods = UnhealthyPodPolicy::AlwaysAllow;
                }
            });
        }
        let mut policy = Policy::default();
        policy.assumed_budgets.enabled = false;
        let findings = cluster.findings_with(&policy);
        let two = cluster.0.pods.iter().any(|pod| {
            cluster.0.budgets.iter().filter(|budget| budget.matches(pod)).count() > 1
        });
        let blocks = findings.iter().any(Finding::blocks);
        prop_assert_eq!(!blocks, drains(&cluster.0) && !two, "{:?}", findings);
    }
}
