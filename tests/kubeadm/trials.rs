//! The program against everything that can come between, stage by stage on three
//! clusters.
//!
//! A stage alone: `KUBE_MIGRATE_STAGES=disk,reboot` leaves out those of
//! [`killed_it_arrives_and_its_nodes_go_back`] and [`aborted_and_troubled_it_arrives`]
//! that it does not name.

use tokio::time::Instant;

use crate::lane::is_at_the_target;
use crate::rig::Rig;
use crate::{TARGET, figure, kills, troubles, way_back};

/// Whether a stage is to be run.
pub(crate) fn is_chosen(stage: &str) -> bool {
    let chosen = std::env::var("KUBE_MIGRATE_STAGES");
    chosen.map_or(true, |names| names.split(',').any(|name| name == stage))
}

/// A whole upgrade is killed wherever it can be, and its nodes go back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten minutes; part of cargo xtask extended"]
async fn killed_it_arrives_and_its_nodes_go_back() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    let configs = way_back::configs(&rig).await;
    if is_chosen("kills") {
        kills::a_killed_program_goes_on(&mut rig).await;
    } else {
        let ended = rig.run(&["--to", TARGET]).await;
        assert!(ended.status.success(), "{}", ended.said());
    }
    if is_chosen("rollback") {
        way_back::nodes_go_back(&mut rig, &configs).await;
    }
}

/// Aborted runs, and troubles of the control plane and of workers, each followed by
/// the next run or by the same command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "seventeen minutes; part of cargo xtask extended"]
async fn aborted_and_troubled_it_arrives() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    let configs = way_back::configs(&rig).await;
    let began = Instant::now();
    if is_chosen("slow") {
        troubles::slow(&rig).await;
    }
    if is_chosen("edit") {
        troubles::edited(&rig).await;
    }
    // Both in the step of the member, of which there is one: the second attempt is cut off.
    if is_chosen("power") {
        troubles::power_cut(&mut rig).await;
    }
    if is_chosen("cut") {
        troubles::cut_off(&mut rig).await;
    }
    if is_chosen("power") {
        troubles::power_cut_took_attempts_alone(&mut rig).await;
    }
    if is_chosen("abort-in-a-drain") {
        way_back::abort_in_a_drain(&mut rig).await;
    }
    if is_chosen("kubelet") {
        troubles::kubelet_killed_and_frozen(&mut rig).await;
    }
    if is_chosen("disk") {
        troubles::disk_full(&mut rig).await;
    }
    if is_chosen("abort-in-a-kubelet") {
        way_back::abort_in_a_kubelet(&mut rig, &configs).await;
    }
    if is_chosen("sudo") {
        troubles::no_sudo_any_more(&mut rig).await;
    }
    if is_chosen("locks") {
        troubles::packages_locked(&mut rig).await;
    }
    if is_chosen("reboot") {
        troubles::rebooted(&mut rig).await;
    }
    if is_chosen("unpack") {
        // A reboot ends that.
        if is_chosen("slow") {
            troubles::was_slow(&rig, is_chosen("reboot")).await;
        }
        troubles::unpack_cut_off(&mut rig).await;
    }
    rig.arrives().await;
    figure("trials.troubled", began.elapsed().as_secs_f64(), "s");
    is_at_the_target(&rig.cluster).await;
    if is_chosen("slow") && !is_chosen("unpack") {
        troubles::was_slow(&rig, is_chosen("reboot")).await;
    }
    if is_chosen("edit") {
        troubles::edits_are_kept(&rig).await;
    }
    rig.is_given_back().await;
    println!("{:#?}", rig.attempts().await);
    assert_eq!(rig.broken_rules().await, Vec::<String>::new());
}

/// What stops a run before it begins, and one that is aborted while the control plane
/// changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "eight minutes; part of cargo xtask extended"]
async fn refused_and_aborted_it_leaves_a_whole_control_plane() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    troubles::before(&rig).await;
    rig.begin();
    way_back::abort_in_the_control_plane(&mut rig).await;
    println!("{:#?}", rig.attempts().await);
    assert_eq!(rig.broken_rules().await, Vec::<String>::new());
}
