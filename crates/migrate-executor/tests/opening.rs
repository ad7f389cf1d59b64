//! Opening a run at an API server that is away, or refuses what it allows
//! later, as one does for a moment after its start.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::secs;
use common::steps::{context, migration};
use common::world::World;
use migrate_core::{Policy, StepErrorKind};
use migrate_executor::{Error, Executor, MemoryJournal, Setup};
use migrate_plan::Planner;
use migrate_sim::api::AccessRule;
use migrate_sim::{Pool, SimCluster};
use tokio::time::{Instant, sleep};

async fn cluster() -> (SimCluster, Setup) {
    with_journal(MemoryJournal::new()).await
}

async fn with_journal(journal: MemoryJournal) -> (SimCluster, Setup) {
    let pool = Pool::new("general", 2);
    let cluster = SimCluster::builder().nodes(pool).start().await.unwrap();
    cluster.wait_until_settled(secs(60)).await.unwrap();
    let (client, context) = (cluster.client(), context("run-1"));
    let model = migrate_kube::observe(&client, context.clock.now())
        .await
        .unwrap();
    let (policy, to) = (Policy::default(), "v1.37.2".parse().unwrap());
    let plan = Planner::new(&model, &policy, to).plan().unwrap();
    // Only the opening matters here: no step is ever begun.
    let steps = migration(&World::new());
    let setup = Setup::new(client, steps, Box::new(journal), context);
    (cluster, setup.with_plan(plan, model, policy))
}

fn all() -> AccessRule {
    AccessRule::new(["*"], ["*"], ["*"])
}

/// Everything but the anchor.
fn core_group() -> AccessRule {
    AccessRule::new(["*"], [""], ["*"])
}

/// Nothing here makes machines, and a plan is not run as if it did not ask for any.
#[tokio::test(start_paused = true)]
async fn a_plan_with_surge_is_not_opened() {
    let (cluster, journal) = (cluster().await.0, MemoryJournal::new());
    let (client, context) = (cluster.client(), context("run-1"));
    let model = migrate_kube::observe(&client, context.clock.now())
        .await
        .unwrap();
    let (mut policy, to) = (Policy::default(), "v1.37.2".parse().unwrap());
    policy.pools.max_surge = "50%".parse().unwrap();
    let plan = Planner::new(&model, &policy, to).plan().unwrap();
    let steps = migration(&World::new());
    let setup = Setup::new(client, steps, Box::new(journal.clone()), context);
    let error = Executor::open(setup.with_plan(plan, model, policy)).await;
    let error = error.err().unwrap();
    assert!(matches!(&error, Error::NoSurge { surge: 1, .. }), "{error}");
    assert!(
        error.to_string().contains("set pools.max-surge-of."),
        "{error}"
    );
    assert!(journal.entries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_passes_only_costs_time() {
    for refused in [vec![], vec![core_group()]] {
        let (cluster, setup) = cluster().await;
        cluster.api().set_access(refused);
        let began = Instant::now();
        let (opened, ()) = tokio::join!(Executor::open(setup), async {
            sleep(secs(20)).await;
            cluster.api().set_access([all()]);
        });
        assert_eq!(opened.unwrap().run_id(), "run-1");
        let waited = began.elapsed();
        assert!((secs(20)..secs(30)).contains(&waited), "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_stays_names_the_rule_after_a_minute() {
    let (cluster, setup) = cluster().await;
    cluster.api().set_access([core_group()]);
    let began = Instant::now();
    let Err(Error::Cluster(error)) = Executor::open(setup).await else {
        panic!("it may not read the anchor");
    };
    assert_eq!(error.kind, StepErrorKind::Forbidden);
    let rule = r#"resources: ["leases"], verbs: ["get"]"#;
    assert!(error.to_string().contains(rule), "{error}");
    let waited = began.elapsed();
    assert!((secs(60)..secs(70)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_cancels_does_not_wait_for_it() {
    let (cluster, setup) = cluster().await;
    cluster.api().set_access([]);
    let cancel = setup.context.cancel.clone();
    let began = Instant::now();
    let (opened, ()) = tokio::join!(Executor::open(setup), async {
        sleep(secs(7)).await;
        cancel.cancel();
    });
    assert!(matches!(opened, Err(Error::Cluster(_))));
    assert!(began.elapsed() < secs(10), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_run_waits_for_an_api_server_that_is_away() {
    for patience in [None, Some(secs(15)), Some(secs(60))] {
        let journal = MemoryJournal::new();
        let (cluster, setup) = with_journal(journal.clone()).await;
        drop(Executor::open(setup).await.unwrap());

        let steps = migration(&World::new());
        let context = context("run-2");
        let mut setup = Setup::new(cluster.client(), steps, Box::new(journal), context);
        setup.patience = patience;
        cluster.api().set_available(false);
        let began = Instant::now();
        let (opened, waited) = tokio::join!(
            async {
                let opened = Executor::open(setup).await;
                (opened, began.elapsed())
            },
            async {
                sleep(secs(20)).await;
                cluster.api().set_available(true);
            }
        )
        .0;
        match patience {
            None => {
                assert!(waited < secs(1), "{waited:?}");
                assert_gave_up(opened.unwrap_err(), secs(0));
            }
            Some(short) if short < secs(20) => {
                assert!(waited < secs(21), "{waited:?}");
                assert_gave_up(opened.unwrap_err(), short);
            }
            Some(_) => {
                assert_eq!(opened.unwrap().run_id(), "run-1");
                assert!((secs(20)..secs(30)).contains(&waited), "{waited:?}");
            }
        }
    }
}

/// It names what was asked, for how long, for what run, and what is to be done. That
/// run has changed nothing: nothing of it is to be mended.
fn assert_gave_up(error: Error, least: Duration) {
    let text = error.to_string();
    let Error::ApiAway {
        run,
        waited,
        member,
        ..
    } = error
    else {
        panic!("{text}");
    };
    assert_eq!((run.as_str(), member), ("run-1", None));
    assert!(waited >= least && waited < least + secs(6), "{waited:?}");
    for part in [
        "kube-system",
        "is out of reach",
        "to go on with run run-1 of journal",
        "open it again",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

/// In the swap of its etcd an API server takes calls and does not answer them.
#[tokio::test(start_paused = true)]
async fn an_unfinished_run_waits_for_an_api_server_that_hangs() {
    let journal = MemoryJournal::new();
    let (cluster, setup) = with_journal(journal.clone()).await;
    drop(Executor::open(setup).await.unwrap());

    let steps = migration(&World::new());
    let setup = Setup::new(cluster.client(), steps, Box::new(journal), context("run-2"));
    cluster.api().set_latency(secs(120));
    let began = Instant::now();
    let opening = async {
        let opened = Executor::open(setup.with_patience(secs(60))).await;
        (opened, began.elapsed())
    };
    let answers = async {
        sleep(secs(5)).await;
        cluster.api().set_latency(Duration::ZERO);
    };
    let ((opened, waited), ()) = tokio::join!(opening, answers);
    assert_eq!(opened.unwrap().run_id(), "run-1");
    // The first call is given up after half a minute.
    assert!((secs(30)..secs(40)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_run_does_not_wait_for_an_api_server_that_is_away() {
    let (cluster, setup) = cluster().await;
    cluster.api().set_available(false);
    let began = Instant::now();
    let opened = Executor::open(setup.with_patience(secs(60))).await;
    assert!(matches!(opened, Err(Error::Cluster(_))));
    assert!(began.elapsed() < secs(1), "{:?}", began.elapsed());
}
