//! A real kubeadm cluster upgraded for real, 1.36 to 1.37, with requests on it
//! all the time: packages, static pods, etcd, kubelets, and not one failed
//! request to a replicated Service.
//!
//! * `lane.rs` is the claim; `controls.rs` takes single protections away, and
//!   `by_hand.rs` does the same by the documented procedure; `ha/` is the claim
//!   for three control planes behind a load balancer; `job.rs` is the way to a node
//!   through a Job alone; `survey.rs` looks at nodes, `canary.rs` tries them out,
//!   `change.rs` shows their agents a change, `backup.rs` is the backup of the lane.
//! * `trials.rs` is the program (`rig.rs`) killed, aborted and in trouble, and
//!   nodes that go back; its stages are in `kills.rs`, `way_back.rs`, `troubles.rs`;
//!   in `fenced.rs` it is stopped, and wakes when another one is at work; in `plain.rs`
//!   nodes have no packages, and in `rolled_back.rs` kubeadm itself goes back.
//! * `shop/` is what runs on the cluster, `load.rs` the requests to it,
//!   `observe/` what else is seen; `watched.rs` puts them together.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod backup;
mod by_hand;
mod canary;
mod change;
mod controls;
mod fenced;
mod ha;
mod job;
mod kills;
mod lane;
mod load;
mod observe;
mod plain;
#[path = "../real/mod.rs"]
mod real;
mod rig;
mod rolled_back;
mod run;
mod shop;
mod survey;
mod trials;
mod troubles;
mod watched;
mod way_back;

const BEFORE: &str = "v1.36.3";
const TARGET: &str = "v1.37.2";

fn figure(name: &str, value: f64, unit: &str) {
    real::figure(name, format!("{value:.1}"), unit);
}
