//! The same upgrade on every pair of neighbouring minor versions that the
//! testbed knows, a test each. Slow, for each version's programs are built
//! first: part of `cargo xtask extended`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod real;

use std::sync::Arc;

use migrate_drain::Drainer;
use migrate_executor::{MemoryJournal, RunOutcome};
use migrate_sim::rules::RuleSettings;
use migrate_sim::{Budget, Pool, Scenario, Workload};
use migrate_testbed::{ControlPlane, Release, skip_or_fail};
use tokio::time::Instant;

use real::observer::Observer;
use real::run::{self, NoBackup, Parts};
use real::{audit, cluster, figure};

/// Upgrades from the older of the two releases with this minor and the next.
async fn upgrade_from(minor: u32) {
    let releases: Vec<Release> = Release::EXTENDED
        .iter()
        .chain(Release::TESTED)
        .copied()
        .collect();
    let pair = releases.windows(2).find(|pair| pair[0].minor == minor);
    let pair = pair.expect("a release that the testbed knows, and its successor");
    upgrade(pair[0], pair[1]).await;
}

macro_rules! pairs {
    ($($name:ident: $minor:literal),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "builds the programs of further versions"]
            async fn $name() {
                upgrade_from($minor).await;
            }
        )+

        #[test]
        fn every_release_but_the_last_is_upgraded() {
            let known = Release::EXTENDED.iter().chain(Release::TESTED);
            let mut minors: Vec<_> = known.map(|release| release.minor).collect();
            minors.pop();
            assert_eq!(minors, [$($minor),+]);
        }
    };
}

pairs! {
    from_1_33: 33,
    from_1_34: 34,
    from_1_35: 35,
    from_1_36: 36,
}

async fn upgrade(from: Release, to: Release) {
    let builder = ControlPlane::builder().minor(from.minor).also(to.minor);
    let Some(plane) = skip_or_fail(builder.audit(true).start().await) else {
        return;
    };
    let version = format!("v{}", from.kubernetes);
    let zones = ["zone-a", "zone-b", "zone-c"];
    let workers = Pool::new("workers", 5).with_zones(zones);
    let guarded = Workload::deployment("shop", "guarded", 4);
    let scenario = Scenario::new(version)
        .with_pool(Pool::control_plane(1))
        .with_pool(workers)
        .with_workload(guarded.with_budget(Budget::max_unavailable(1)))
        .with_workload(Workload::deployment("shop", "unguarded", 4))
        .with_workload(Workload::stateful_set("shop", "data", 3));
    cluster::load(&plane, &scenario).await;

    let observer = Observer::start(plane.client()).await;
    let began = Instant::now();
    let client = plane.client();
    let parts = Parts {
        run: format!("matrix-{}", to.minor),
        policy: run::policy("waive = ['KM-BACKUP-001']"),
        journal: Box::new(MemoryJournal::new()),
        back_up: Arc::new(NoBackup),
        migrate: Arc::new(Drainer::new(client.clone())),
        client,
    };
    let report = run::upgrade_to(&plane, &format!("v{}", to.kubernetes), parts).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let verdict = observer
        .finish(RuleSettings::default(), &audit::all(&plane))
        .await;
    assert!(verdict.violations.is_empty(), "{:#?}", verdict.violations);
    assert!(verdict.evictions >= 8, "{} evictions", verdict.evictions);
    let hop = format!("matrix.1.{}-1.{}", from.minor, to.minor);
    figure(&hop, format!("{:.1}", began.elapsed().as_secs_f64()), "s");
    figure(&format!("{hop}.violations"), verdict.violations.len(), "1");
}
