//! A random cluster and what its operator chose.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::{IntOrPercent, JobPolicy, OnDeadline, Policy};
use migrate_sim::rules::RuleSettings;
use migrate_sim::{Budget, Pool, Scenario, Spread, VolumeReach, Workload};

use super::dice::Dice;

const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

/// 5 to 60 nodes with workloads of every kind on them.
pub(super) fn scenario(dice: &mut Dice) -> Scenario {
    let members = *dice.pick(&[1, 3]);
    let workers = dice.between(5 - u64::from(members).min(3), 57);
    let pools = dice.between(1, 3).min(workers);
    let mut scenario = Scenario::new("v1.36.3")
        .with_pool(Pool::control_plane(members).with_zones(ZONES))
        .with_workload(Workload::daemon_set("kube-system", "agent"));
    for pool in 0..pools {
        let count = workers / pools + u64::from(pool < workers % pools);
        let name = format!("pool-{pool}");
        scenario = scenario.with_pool(Pool::new(name, number(count)).with_zones(ZONES));
    }
    for index in 0..dice.between(3, 4 + workers * 2 / 3) {
        scenario = scenario.with_workload(workload(dice, index, workers));
    }
    scenario
}

fn workload(dice: &mut Dice, index: u64, workers: u64) -> Workload {
    let namespace = format!("team-{}", index % 4);
    let name = format!("app-{index}");
    let replicas = number(dice.between(1, 6));
    let mut workload = match dice.below(10) {
        0 => return Workload::job(namespace, name, replicas),
        1 => return Workload::bare_pods(namespace, name, 1),
        2 | 3 => {
            let set = Workload::stateful_set(namespace, name, replicas.min(3));
            match dice.below(4) {
                0 => set.with_volume(VolumeReach::Zone),
                1 => set.with_volume(VolumeReach::Node),
                _ => set,
            }
        }
        _ => Workload::deployment(namespace, name, replicas),
    };
    let replicas = workload.replicas;
    if replicas >= 2 && dice.chance(60) {
        workload = workload.with_budget(match dice.below(3) {
            0 => Budget::min_available(replicas - 1),
            1 => Budget::max_unavailable("30%"),
            _ => Budget::max_unavailable(1),
        });
    }
    if dice.chance(20) {
        workload = workload.with_spread(Spread::Zone);
    }
    if dice.chance(20) && u64::from(replicas) * 2 < workers {
        workload = workload.apart();
    }
    workload
}

/// Consent to whatever the cluster needs, deadlines that end within hours, and
/// widths at random.
pub(super) fn policy(dice: &mut Dice) -> Policy {
    let mut policy = Policy::default();
    let width = number(dice.between(1, 3));
    policy.pools.max_unavailable = IntOrPercent::Int(width);
    policy.pools.canary = dice.chance(80);
    policy.consent.bare_pods = true;
    policy.consent.downtime = true;
    policy.consent.jobs = *dice.pick(&[JobPolicy::Evict, JobPolicy::Wait]);
    policy.deadlines.then = *dice.pick(&[OnDeadline::Stop, OnDeadline::Skip]);
    policy.rollout.canary_soak = Duration::from_secs(*dice.pick(&[0, 0, 60, 900]));
    policy.rollout.max_failed_nodes = number(dice.between(0, 3));
    if dice.chance(25) {
        let nights = r#"[{"from": "20:00", "to": "02:00"}]"#;
        policy.rollout.windows = serde_json::from_str(nights).unwrap();
    }
    policy
}

/// What the checker has to know of `policy`.
pub(super) fn rules(policy: &Policy, scenario: &Scenario) -> RuleSettings {
    let mut settings = RuleSettings::default();
    let workers = scenario.pools.iter().filter(|pool| !pool.control_plane);
    settings.widths = workers
        .map(|pool| {
            let width = policy.pools.width(&pool.name, pool.count);
            (pool.name.clone(), usize::try_from(width).unwrap())
        })
        .collect::<BTreeMap<_, _>>();
    settings
}

fn number(value: u64) -> u32 {
    u32::try_from(value).unwrap()
}
