use proptest::prelude::*;

use super::*;
use crate::{IntOrPercent, LabelSelector, PodId, PodPhase, UnhealthyPodPolicy};

fn web(index: u32) -> Pod {
    let mut pod = Pod::new(
        PodId::new("shop", format!("web-{index}"), format!("uid-{index}")),
        "node",
    );
    pod.labels.insert("app".into(), "web".into());
    pod.workload = Some(WorkloadId::new("Deployment", "shop", "web").into());
    pod
}

fn deployment(replicas: u32) -> Workload {
    Workload::new(WorkloadId::new("Deployment", "shop", "web"), replicas)
}

fn budget(allowed: i32, desired: i32, healthy: i32) -> DisruptionBudget {
    let mut budget = DisruptionBudget::new("shop", "web", LabelSelector::default());
    budget.max_unavailable = Some(IntOrPercent::Int(1));
    budget.status.observed = true;
    budget.status.disruptions_allowed = allowed;
    budget.status.desired_healthy = desired;
    budget.status.current_healthy = healthy;
    budget
}

fn ledger(replicas: u32) -> BudgetLedger {
    let mut ledger = BudgetLedger::new(AssumedBudgetPolicy::default());
    ledger.observe_workload(&deployment(replicas));
    for index in 0..replicas {
        ledger.observe_pod(&web(index));
    }
    ledger
}

#[test]
fn an_assumed_budget_is_held_until_the_replacement_is_ready() {
    let mut ledger = ledger(3);
    ledger.hold("uid-0").unwrap();
    let blocked = ledger.hold("uid-1").unwrap_err();
    assert_eq!((blocked.desired, blocked.healthy), (2, 2));
    ledger.forget_pod("uid-0");
    assert!(ledger.hold("uid-1").is_err(), "gone is not replaced");
    let mut fresh = web(7);
    fresh.ready = false;
    ledger.observe_pod(&fresh);
    assert!(ledger.hold("uid-1").is_err(), "started is not Ready");
    fresh.ready = true;
    ledger.observe_pod(&fresh);
    ledger.hold("uid-1").unwrap();
}

#[test]
fn one_replica_has_no_assumed_budget_and_policy_can_switch_them_off() {
    let mut one = ledger(1);
    one.hold("uid-0").unwrap();
    let policy = AssumedBudgetPolicy {
        enabled: false,
        ..AssumedBudgetPolicy::default()
    };
    let mut off = BudgetLedger::new(policy);
    off.observe_workload(&deployment(2));
    off.observe_pod(&web(0));
    off.observe_pod(&web(1));
    off.hold("uid-0").unwrap();
    off.hold("uid-1").unwrap();
}

#[test]
fn a_real_budget_takes_the_place_of_the_assumed_one() {
    let mut ledger = ledger(3);
    ledger.observe_budget(&budget(2, 1, 3));
    assert_eq!(ledger.accounts().count(), 1);
    ledger.hold("uid-0").unwrap();
    ledger.hold("uid-1").unwrap();
    assert!(ledger.hold("uid-2").is_err());
    ledger.forget_budget("shop", "web");
    assert_eq!(ledger.budgets_of("uid-2")[0].kind, BudgetKind::Assumed);
}

#[test]
fn what_the_status_shows_is_not_counted_twice() {
    let mut ledger = ledger(4);
    ledger.observe_budget(&budget(2, 2, 4));
    ledger.hold("uid-0").unwrap();
    let mut seen = budget(1, 2, 4);
    seen.status.disrupted_pods.insert("web-0".into());
    ledger.observe_budget(&seen);
    ledger.hold("uid-1").unwrap();
}

#[test]
fn budgets_that_cannot_say_yes_say_why() {
    let mut ledger = ledger(2);
    let mut stale = budget(1, 1, 2);
    stale.status.observed = false;
    ledger.observe_budget(&stale);
    assert_eq!(
        ledger.blocked("uid-0").unwrap().reason,
        BlockedReason::NotObserved
    );
    ledger.observe_budget(&budget(1, 1, 2));
    let mut second = budget(1, 1, 2);
    second.name = "also".into();
    ledger.observe_budget(&second);
    assert!(matches!(
        ledger.blocked("uid-0").unwrap().reason,
        BlockedReason::TwoBudgets(_)
    ));
    assert_eq!(
        ledger.blocked("nobody").unwrap().reason,
        BlockedReason::Unseen
    );
}

#[test]
fn unready_pods_follow_the_unhealthy_pod_policy() {
    let mut ledger = ledger(3);
    let mut sick = web(0);
    sick.ready = false;
    ledger.observe_pod(&sick);
    assert_eq!(ledger.blocked("uid-0"), None, "assumed: nothing gets worse");
    let mut real = budget(0, 3, 2);
    ledger.observe_budget(&real);
    assert_eq!(
        ledger.blocked("uid-0").unwrap().reason,
        BlockedReason::UnhealthyPod
    );
    real.unhealthy_pods = UnhealthyPodPolicy::AlwaysAllow;
    ledger.observe_budget(&real);
    assert_eq!(ledger.blocked("uid-0"), None);
}

/// `web-{index}`, matched by [`half`] or by no real budget.
fn pod(index: u32, covered: bool) -> Pod {
    let mut pod = web(index);
    if covered {
        pod.labels.insert("half".into(), "yes".into());
    }
    pod
}

/// A real budget that allows whatever it is asked, about some pods only.
fn half() -> DisruptionBudget {
    let mut half = budget(99, 0, 99);
    half.unhealthy_pods = UnhealthyPodPolicy::AlwaysAllow;
    half.selector = Some(LabelSelector::new().with_label("half", "yes"));
    half
}

#[test]
fn a_workload_that_is_covered_in_part_is_counted_as_a_whole() {
    let mut ledger = ledger(4);
    ledger.observe_budget(&half());
    for index in 0..2 {
        ledger.observe_pod(&pod(index, true));
    }
    let whole = BudgetKey::assumed(&deployment(4).id);
    let view = ledger.account(&whole).unwrap();
    assert_eq!((view.desired, view.healthy, view.allowed), (3, 4, 1));
    assert_eq!(ledger.budgets_of("uid-0"), [BudgetKey::real("shop", "web")]);
    assert_eq!(ledger.budgets_of("uid-3"), std::slice::from_ref(&whole));

    ledger.hold("uid-3").unwrap();
    let blocked = ledger.hold("uid-0").unwrap_err();
    assert_eq!(blocked.budget.as_ref(), Some(&whole), "one of four is away");
    ledger.release("uid-3");
    ledger.hold("uid-0").unwrap();
    assert!(ledger.hold("uid-3").is_err());
}

#[test]
fn an_evicted_pod_does_not_end_the_budget_that_let_it_go() {
    let mut ledger = ledger(3);
    ledger.observe_budget(&half());
    for index in 0..2 {
        ledger.observe_pod(&pod(index, true));
    }
    ledger.hold("uid-2").unwrap();
    ledger.forget_pod("uid-2");
    assert!(ledger.hold("uid-0").is_err(), "it is not replaced yet");
    ledger.observe_pod(&pod(7, true));
    ledger.hold("uid-0").unwrap();
    ledger.hold("uid-1").unwrap(); // The real budget speaks for all of them now.
}

#[test]
fn a_selector_that_comes_to_match_every_pod_speaks_at_once() {
    let mut ledger = ledger(3);
    let mut sick = web(0);
    sick.ready = false;
    ledger.observe_pod(&sick);
    assert!(ledger.hold("uid-1").is_err());
    ledger.observe_budget(&budget(1, 1, 2));
    ledger.hold("uid-1").unwrap();
}

#[test]
fn a_pod_that_never_ran_is_asked_of_no_budget_and_spends_none() {
    let mut ledger = ledger(3);
    let mut stuck = web(0);
    (stuck.phase, stuck.ready) = (PodPhase::Pending, false);
    ledger.observe_pod(&stuck);
    ledger.observe_budget(&budget(1, 1, 2));
    ledger.hold("uid-0").unwrap();
    ledger.hold("uid-1").unwrap();
    ledger.release("uid-0");
    let mut closed = budget(0, 2, 1);
    closed.unhealthy_pods = UnhealthyPodPolicy::Unknown;
    ledger.observe_budget(&closed);
    ledger.hold("uid-0").unwrap();
}

/// A workload as the test sees it: what the ledger is told, and who is away.
struct World {
    ledger: BudgetLedger,
    replicas: u32,
    floor: usize,
    pods: BTreeMap<u32, Pod>,
    next: u32,
    /// Some pod had no real budget, and the workload was not whole since.
    partly: bool,
}

impl World {
    fn new(replicas: u32, max: u32) -> Self {
        let policy = AssumedBudgetPolicy {
            max_unavailable: IntOrPercent::Int(max),
            ..AssumedBudgetPolicy::default()
        };
        let mut ledger = BudgetLedger::new(policy);
        ledger.observe_budget(&half());
        ledger.observe_workload(&deployment(replicas));
        Self {
            ledger,
            replicas,
            floor: replicas.saturating_sub(max) as usize,
            pods: BTreeMap::new(),
            next: 0,
            partly: false,
        }
    }

    fn start(&mut self, covered: bool, ready: bool) {
        let mut pod = pod(self.next, covered);
        if !ready {
            (pod.phase, pod.ready) = (PodPhase::Pending, false);
        }
        self.pods.insert(self.next, pod);
        self.show(self.next);
        self.next += 1;
    }

    /// Tells the ledger what pod `index` is like.
    fn show(&mut self, index: u32) {
        self.ledger.observe_pod(&self.pods[&index]);
        self.look();
    }

    fn healthy(&self) -> usize {
        let stays = |pod: &&Pod| pod.ready && !self.ledger.is_held(&pod.id.uid);
        self.pods.values().filter(stays).count()
    }

    fn look(&mut self) {
        let mut pods = self.pods.values();
        if pods.any(|pod| !pod.labels.contains_key("half")) {
            self.partly = true;
        } else if self.healthy() >= self.replicas as usize {
            self.partly = false;
        }
    }
}

proptest! {
    /// Real budgets cover some pods, pods come and go, sicken and recover: no
    /// healthy pod is let go below the floor of its whole workload unless real
    /// budgets speak for all of it; and when all is well some pod may go.
    #[test]
    fn a_workload_keeps_its_floor_and_always_moves(
        replicas in 2u32..7,
        max in 1u32..4,
        cover in proptest::collection::vec(any::<bool>(), 7),
        steps in proptest::collection::vec((0u8..7, 0u32..20, any::<bool>()), 0..80),
    ) {
        let mut world = World::new(replicas, max);
        for index in 0..replicas {
            world.start(cover[index as usize], true);
        }
        for (step, index, flag) in steps {
            let known: Vec<u32> = world.pods.keys().copied().collect();
            let pick = known.get(index as usize % known.len().max(1)).copied();
            let uid = pick.map(|index| format!("uid-{index}")).unwrap_or_default();
            match (step, pick) {
                (0..=2, Some(pick)) if !world.ledger.is_held(&uid) => {
                    let ready = world.pods[&pick].ready;
                    match world.ledger.hold(&uid) {
                        Ok(()) if ready && world.partly => {
                            prop_assert!(world.healthy() >= world.floor);
                        }
                        Ok(()) => {}
                        Err(blocked) => prop_assert!(ready && world.partly, "{blocked:?}"),
                    }
                }
                (3, Some(_)) => world.ledger.release(&uid),
                (4, Some(pick)) if world.ledger.is_held(&uid) => {
                    world.pods.remove(&pick);
                    world.ledger.forget_pod(&uid);
                }
                (5, _) if known.len() < replicas as usize => world.start(flag, false),
                (6, Some(pick)) => {
                    if let Some(pod) = world.pods.get_mut(&pick) {
                        (pod.phase, pod.ready) = (PodPhase::Running, flag);
                    }
                    world.show(pick);
                }
                _ => {}
            }
            world.look();
            if world.healthy() >= replicas as usize {
                let mut uids = world.pods.values().map(|pod| &pod.id.uid);
                prop_assert!(uids.any(|uid| world.ledger.blocked(uid).is_none()));
            }
        }
    }

    /// Whatever is asked in whatever order, an assumed budget never has fewer
    /// pods left than it needs, and holds and releases balance.
    #[test]
    fn assumed_budgets_hold_under_any_order(
        replicas in 2u32..8,
        max in 1u32..4,
        steps in proptest::collection::vec((0u8..5, 0u32..8), 0..60),
    ) {
        let policy = AssumedBudgetPolicy {
            max_unavailable: IntOrPercent::Int(max),
            ..AssumedBudgetPolicy::default()
        };
        let mut ledger = BudgetLedger::new(policy);
        ledger.observe_workload(&deployment(replicas));
        for index in 0..replicas { ledger.observe_pod(&web(index)); }
        let mut replacement = replicas;
        for (step, index) in steps {
            let uid = format!("uid-{index}");
            match step {
                0 | 1 => { let _ = ledger.hold(&uid); }
                2 => ledger.release(&uid),
                3 if ledger.is_held(&uid) => {
                    ledger.forget_pod(&uid);
                    ledger.observe_pod(&web(replacement));
                    replacement += 1;
                }
                _ => if index < replicas && !ledger.budgets_of(&uid).is_empty() {
                    ledger.observe_pod(&web(index));
                },
            }
            for view in ledger.accounts() {
                prop_assert!(view.healthy >= view.desired, "{view:?}");
                prop_assert!(view.held <= max, "{view:?}");
            }
        }
    }
}

proptest! {
    /// Whatever comes and goes in whatever order, pods have the real budgets
    /// that match them, in order, and no account outlives its pods.
    #[test]
    fn a_pod_has_the_budgets_that_match_it(
        changes in prop::collection::vec((0usize..4, 0usize..6), 0..12),
        late in any::<bool>(),
    ) {
        let mut ledger = BudgetLedger::new(AssumedBudgetPolicy::default());
        ledger.observe_workload(&deployment(3));
        let pods: Vec<Pod> = (0..3)
            .map(|index| {
                let mut pod = web(index);
                pod.labels.insert("index".into(), index.to_string());
                pod
            })
            .collect();
        if !late {
            pods.iter().for_each(|pod| ledger.observe_pod(pod));
        }
        let mut there = BTreeMap::new();
        for (name, form) in changes {
            let name = format!("b{name}");
            let selector = match form {
                0..=2 => Some(LabelSelector::new().with_label("app", "web").with_label("index", form.to_string())),
                3 => Some(LabelSelector::new()),
                4 => None,
                _ => {
                    ledger.forget_budget("shop", &name);
                    there.remove(&name);
                    continue;
                }
            };
            let mut budget = budget(1, 2, 3);
            (budget.name, budget.selector) = (name.clone(), selector);
            ledger.observe_budget(&budget);
            there.insert(name, budget);
        }
        pods.iter().for_each(|pod| ledger.observe_pod(pod));
        for pod in &pods {
            let matching = there.values().filter(|budget| budget.matches(pod));
            let mut expected: Vec<BudgetKey> = matching.map(|b| BudgetKey::real("shop", &b.name)).collect();
            if expected.is_empty() {
                expected.push(BudgetKey::assumed(&deployment(3).id));
            }
            prop_assert_eq!(ledger.budgets_of(&pod.id.uid), &expected[..]);
        }
        for pod in &pods {
            ledger.forget_pod(&pod.id.uid);
        }
        // A single pod has no assumed budget.
        ledger.observe_workload(&deployment(1));
        prop_assert_eq!(ledger.accounts.len(), there.len());
    }
}

#[test]
fn a_key_is_read_back_as_it_is_shown() {
    let workload = WorkloadId::new("CloneSet.apps.example.com", "shop", "web");
    for key in [
        BudgetKey::real("shop", "web"),
        BudgetKey::assumed(&workload),
    ] {
        assert_eq!(BudgetKey::from_shown(&key.to_string()), Some(key));
    }
    for other in [
        "",
        "shop/web",
        "PodDisruptionBudget web",
        "node shop/web alone",
    ] {
        assert_eq!(BudgetKey::from_shown(other), None, "{other}");
    }
}
