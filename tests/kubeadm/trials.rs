//! The program against everything that can come between, stage by stage on three
//! clusters.

use tokio::time::Instant;

use crate::lane::is_at_the_target;
use crate::rig::Rig;
use crate::{figure, kills, troubles, way_back};

/// A whole upgrade is killed wherever it can be, and its nodes go back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten minutes; part of cargo xtask extended"]
async fn killed_it_arrives_and_its_nodes_go_back() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    let configs = way_back::configs(&rig).await;
    kills::a_killed_program_goes_on(&mut rig).await;
    way_back::nodes_go_back(&mut rig, &configs).await;
}

/// Aborted runs, and troubles of workers, each followed by the next run or by
/// the same command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "fifteen minutes; part of cargo xtask extended"]
async fn aborted_and_troubled_it_arrives() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    let began = Instant::now();
    way_back::abort_in_a_drain(&mut rig).await;
    rig.spread().await;
    rig.begin();
    troubles::kubelet_killed_and_frozen(&mut rig).await;
    troubles::disk_full(&mut rig).await;
    way_back::abort_in_a_kubelet(&mut rig).await;
    rig.spread().await;
    troubles::no_sudo_any_more(&mut rig).await;
    troubles::rebooted(&mut rig).await;
    figure("trials.troubled", began.elapsed().as_secs_f64(), "s");
    is_at_the_target(&rig.cluster).await;
    rig.is_given_back().await;
    println!("{:#?}", rig.attempts().await);
    assert_eq!(rig.broken_rules().await, Vec::<String>::new());
}

/// What stops a run before it begins, and what may come between while the
/// control plane changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "eight minutes; part of cargo xtask extended"]
async fn refused_cut_off_and_aborted_it_leaves_a_whole_control_plane() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    troubles::before(&rig).await;
    rig.begin();
    troubles::cut_off(&mut rig).await;
    way_back::abort_in_the_control_plane(&mut rig).await;
    assert_eq!(rig.met_no_api, 0, "it has gone through the cut itself");
    println!("{:#?}", rig.attempts().await);
    assert_eq!(rig.broken_rules().await, Vec::<String>::new());
}
