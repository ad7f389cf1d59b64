//! A gate for a pipeline: is anything worse than before?
//!
//! Takes a baseline, lets something happen (here a pod is evicted on an
//! embedded cluster), and waits until everything is as available as it was.
//! `cargo run --example verify_gate`

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use migrate_core::steps::{Verdict, VerifyScope};
use migrate_core::{Fence, Moment, Policy, StepContext, StepInput, VerifyMigration};
use migrate_kube::{EvictOptions, TokioClock, evict, observe};
use migrate_sim::SimCluster;
use migrate_verify::ClusterHealth;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let cluster = SimCluster::demo(7).await?;
    let client = cluster.client();
    let clock = TokioClock::starting_at(Moment::from_millis(cluster.now_ms()));
    let cx = StepContext::new(Arc::new(clock), Fence::without_lease("gate"));

    let health = ClusterHealth::new(client.clone());
    let before = health.observe(&cx).await?;
    let model = observe(&client, cx.clock.now()).await?;
    let version = model.control_plane[0].version.clone();

    let victim = model.pods.iter().find(|pod| {
        let kind = pod.workload.as_ref().map(|workload| workload.kind.as_str());
        kind == Some("Deployment") && pod.ready
    });
    let victim = victim.ok_or("no pod to evict")?.id.clone();
    let input = StepInput::new(Arc::new(model), Arc::new(Policy::default()), version);
    println!(
        "evicting {victim}: {:?}",
        evict(&client, &victim, &EvictOptions::default()).await
    );

    loop {
        match health
            .run(&cx, &input, &VerifyScope::cluster(), &before)
            .await?
        {
            Verdict::Pass { .. } => break println!("as well as before"),
            Verdict::Pending { missing, .. } => {
                missing.iter().for_each(|finding| println!("{finding}"));
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            other => return Err(format!("worse than before: {other:?}").into()),
        }
    }
    Ok(())
}
