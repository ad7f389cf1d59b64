//! A real kubeadm cluster upgraded for real, 1.36 to 1.37, with requests on it
//! all the time: packages, static pods, etcd, kubelets, and not one failed
//! request to a replicated Service.
//!
//! * `lane.rs` is the claim; `controls.rs` takes single protections away, and
//!   `by_hand.rs` does the same by the documented procedure; `ha/` is the claim
//!   for three control planes behind a load balancer, also for a program that is killed
//!   (`ha/killed.rs`); `job.rs` is the way to a node
//!   through a Job alone; `survey.rs` looks at nodes, `canary.rs` tries them out,
//!   `change.rs` shows their agents a change, `account.rs` and `backup.rs` are who runs
//!   the lane, and its backup.
//! * `trials.rs` is the program (`rig.rs`) killed, aborted and in trouble, and
//!   nodes that go back; its stages are in `kills.rs`, `way_back.rs`, `troubles.rs`;
//!   in `drill/` etcd is lost after it, and the cluster goes back to its backup by the runbook;
//!   in `fenced.rs` it is stopped, and wakes when another one is at work; in `plain.rs`
//!   nodes have no packages and the policy has windows, a soak, addons and a respread
//!   (`gates.rs`), and in the end what kubeadm put aside is removed (`cleaned.rs`); in
//!   `rolled_back.rs` kubeadm itself goes back; in `external.rs` etcd and CoreDNS are not
//!   kubeadm's.
//! * In `links.rs` kubelets pull from a registry whose rate is known.
//! * `inside.rs` is the program in a pod of the cluster that it upgrades.
//! * `shop/` is what runs on the cluster, `load.rs` the requests to it,
//!   `observe/` what else is seen; `watched.rs` puts them together.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod account;
mod backup;
mod by_hand;
mod canary;
mod change;
mod cleaned;
mod controls;
mod drill;
mod external;
mod fenced;
mod gates;
mod ha;
mod inside;
mod job;
mod kills;
mod lane;
mod links;
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
