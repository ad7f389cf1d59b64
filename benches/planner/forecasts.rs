//! What a forecast costs, with as many samples as its size allows.

use std::time::Duration;

use migrate_core::cost::Draws;
use migrate_core::{ClusterModel, Plan, Policy};
use migrate_plan::{Beliefs, Forecaster, Input, Rollout};
use tokio::time::Instant;

use crate::common::{least, millis};

const PATIENCE: Duration = Duration::from_millis(500);

/// Prints what it costs one thread to have a forecaster, and to ask it before the start and
/// from where a rollout stands, and how long a hundred samples take on all processors.
pub(crate) fn of_size(name: &str, model: &ClusterModel, policy: &Policy, plan: &Plan) {
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    alone.unwrap().install(|| on_one(name, model, policy, plan));
    let forecaster = Forecaster::new(model, policy, plan, &Beliefs::default()).unwrap();
    let begin = Instant::now();
    let forecast = forecaster.before_start(&Draws::new(1), 100);
    let (took, threads) = (millis(begin.elapsed()), rayon::current_num_threads());
    assert_eq!(forecast.unended, 0);
    println!("figure forecast_{name}_of_100_samples_on_{threads}_threads {took:.1} ms");
}

fn on_one(name: &str, model: &ClusterModel, policy: &Policy, plan: &Plan) {
    let make = || Forecaster::new(model, policy, plan, &Beliefs::default()).unwrap();
    let figure = |of: &str, took| println!("figure forecast_{name}_{of} {:.1} ms", millis(took));
    figure("make", least(PATIENCE, make));
    let (forecaster, draws) = (make(), Draws::new(1));
    let samples = forecaster.samples();
    println!("figure forecast_{name}_samples {samples} samples");
    let before = || forecaster.before_start(&draws, samples);
    assert_eq!(before().unended, 0);
    figure("before_start", least(PATIENCE, before));
    let hundred = least(PATIENCE, || forecaster.before_start(&draws, 100));
    figure("of_100_samples", hundred);
    let mut rollout = Rollout::new(plan, model, policy).unwrap();
    rollout.handle(model.taken_at, &Input::Started);
    let on_the_way = || forecaster.at(model.taken_at, &rollout, &draws, samples);
    assert_eq!(on_the_way().unended, 0);
    figure("on_the_way", least(PATIENCE, on_the_way));
}
